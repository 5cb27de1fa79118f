//! What survives: message log and records behind one trait.
