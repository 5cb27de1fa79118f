//! Drills: the real binary under load, something that breaks, and what is still there afterwards.
//!
//! In: a binary, a seed, how many rounds. Out: totals, and every promise that was broken, with the seed and the round. The
//! clients and the account are written from the standard and share nothing with the broker but the codec. Must never:
//! look into the broker, or wait for a time where it could wait for a condition.

mod actor;
mod arguments;
mod book;
mod cast;
mod client;
mod disk;
mod drain;
mod full;
mod hub;
mod judge;
mod report;
mod retained;
mod rng;
mod round;
mod server;
mod solo;
mod stage;
mod stream;

pub use arguments::{Arguments, DISK_MIB, Drill, EDGES, HELP, LENGTH, MESSAGES};
pub use report::Outcome;

/// Runs what was asked for, and says what comes of it on standard output.
#[must_use]
pub fn run(arguments: &Arguments) -> Outcome {
    match arguments.drill {
        Drill::Kill | Drill::Power | Drill::Cut => round::run(arguments),
        Drill::Full => full::run(arguments),
        Drill::Hub => hub::run(arguments),
        Drill::Drain => drain::run(arguments),
    }
}
