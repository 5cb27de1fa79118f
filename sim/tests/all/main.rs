//! The simulator by its door: seeds are clean, runs repeat themselves, and the oracle bites.

mod bites;
mod seeds;
