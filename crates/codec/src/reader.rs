//! Bounds-checked reading of the wire types.
