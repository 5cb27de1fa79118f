//! `cargo xtask bench`: builds Viaduct and the benchmark tool with optimisation and runs the tool.
//!
//! rumqttd is one of the peers if it is in `target/bench-peers`; `--set-up` puts it there.

use std::process::Command;

/// The peer from crates.io. The version stands in the report; a new one is a deliberate step. Not with its own lock
/// file: that names a `metrics` 0.22 that today's compiler refuses.
const RUMQTTD: [&str; 3] = ["rumqttd", "--version", "0.20.0"];

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let [word] = arguments
        && word == "--set-up"
    {
        let target = ["--root", "target/bench-peers", "--target-dir", "target/bench-peers/build"];
        // A folder that has the program but has lost cargo's record of it is no obstacle.
        return cargo(&[&["install", "--force"], &RUMQTTD[..], &target[..]].concat(), &[]);
    }
    cargo(&["build", "--quiet", "--release", "--package", "viaduct"], &[])?;
    cargo(&["run", "--quiet", "--release", "--package", "viaduct-benches", "--", "run"], arguments)
}

fn cargo(words: &[&str], more: &[String]) -> Result<(), String> {
    let status = Command::new("cargo")
        .args(words)
        .args(more)
        .current_dir(crate::house::root())
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} ended with {status}", words.join(" "))) }
}
