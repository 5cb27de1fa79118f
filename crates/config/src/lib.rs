//! The configuration: as written to as meant.
