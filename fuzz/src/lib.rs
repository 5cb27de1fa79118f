//! The bodies of the fuzz targets.
//!
//! In: any bytes at all. Out: nothing; a promise that does not hold is a panic. `fuzz/libfuzzer` feeds them with bytes that
//! a coverage-guided fuzzer makes up (`cargo xtask fuzz`), and `tests/corpus.rs` with the bytes in `corpus/` and
//! `findings/`, so that whatever was found once is tried in every test run.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a promise that does not hold is to stop the fuzzer")]

mod configuration;
mod decode;
mod dialer;
mod engine;
mod input;
mod pair;
mod round_trip;
mod router;
mod session;

/// A target: its name, which is that of its file in `corpus/`, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 6] = [
    ("decode", decode::run),
    ("round_trip", round_trip::run),
    ("session_operations", session::run),
    ("router_model", router::run),
    ("configuration", configuration::run),
    ("engine", engine::run),
];

/// Runs the target called `name` on `data`.
///
/// # Panics
/// There is no such target, or a promise does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(own, _)| *own == name).expect("a target of this list");
    body(data);
}
