//! `cargo xtask drill`: builds the binary that is to be broken and the drill, and runs the drill.

use std::path::PathBuf;
use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let root = crate::house::root();
    let (dev, rest): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|word| *word == "--dev");
    let (profile, folder): (&[&str], &str) = if dev.is_empty() { (&["--release"], "release") } else { (&[], "debug") };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let cargo = |words: &[&str], rest: &[&String]| {
        Command::new("cargo")
            .args(words)
            .args(rest)
            .current_dir(&root)
            .env("VIADUCT_BIN", target.join(folder).join("viaduct"))
            .status()
            .map_err(|error| format!("cargo {}: {error}", words.join(" ")))
    };
    let build = [&["build", "--quiet", "--package", "viaduct", "--package", "viaduct-drills"], profile].concat();
    let built = cargo(&build, &[])?;
    if !built.success() {
        return Err(format!("cargo build ended with {built}"));
    }
    let run = [&["run", "--quiet", "--package", "viaduct-drills"], profile, &["--"]].concat();
    let status = cargo(&run, &rest)?;
    match status.code() {
        Some(0) => Ok(()),
        // The caller has to be able to tell "could not run here" from "failed".
        Some(code) => std::process::exit(code),
        None => Err(format!("the drill ended with {status}")),
    }
}
