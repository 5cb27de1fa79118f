//! Black-box suites on the real binary.
