//! Another broker as a peer, sans-IO.
