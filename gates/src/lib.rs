//! What a message may cost at most, counted and never timed, so that the answer is the same on every machine and a busy
//! one fails nothing.
//!
//! In: the engine, the codec and the router as they are. Out: a broker without sockets in the shapes that are measured
//! ([`Rig`]), and the operations whose instructions are counted ([`OPERATIONS`]). The gates themselves are in `tests/`.
//! Must never: allocate between the calls into the broker while something is counted, or read a clock.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a gate fails by panicking")]

mod baseline;
mod bridged;
mod operations;
mod peer;
mod rig;

pub use baseline::{Baseline, TOLERANCE, TOLERANCE_ELSEWHERE, compiler, count_all};
pub use operations::{OPERATIONS, Operation};
pub use rig::{Rig, Shape};

/// Where a program that counts is, if it is installed.
#[must_use]
pub fn tool(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}
