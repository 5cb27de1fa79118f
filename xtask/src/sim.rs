//! `cargo xtask sim`: the simulator, built with optimisation, on every core.

use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--release", "--package", "viaduct-sim", "--"])
        .args(arguments)
        .current_dir(crate::house::root())
        .status()
        .map_err(|error| format!("cargo run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the simulator ended with {status}")) }
}
