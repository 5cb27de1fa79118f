//! Appending the wire types.
