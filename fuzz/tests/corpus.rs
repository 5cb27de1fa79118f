//! Everything that was ever found, and the corpus that the fuzzer starts from, through the bodies of the targets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

/// The inputs of a file, one a line, as digits.
fn inputs(folder: &str, target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(format!("{target}.hex"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let digits =
        |line: &str| (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
    text.lines().filter(|line| !line.starts_with('#')).map(digits).collect()
}

fn replay(target: &str) {
    let corpus = inputs("corpus", target);
    assert!(!corpus.is_empty(), "{target} has no corpus");
    for (number, input) in corpus.iter().chain(&inputs("findings", target)).enumerate() {
        // The one that fails is the last in the captured output.
        println!("input {number} of {target}: {input:02x?}");
        viaduct_fuzz::run(target, input);
    }
}

#[test]
fn decode() {
    replay("decode");
}

#[test]
fn round_trip() {
    replay("round_trip");
}

#[test]
fn session_operations() {
    replay("session_operations");
}

#[test]
fn router_model() {
    replay("router_model");
}

#[test]
fn configuration() {
    replay("configuration");
}

#[test]
fn engine() {
    replay("engine");
}

#[test]
fn every_target_is_replayed() {
    let names: Vec<&str> = viaduct_fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["decode", "round_trip", "session_operations", "router_model", "configuration", "engine"]);
}
