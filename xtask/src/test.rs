//! `cargo xtask test`: set-up, the binary, every test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::set_up;

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let root = crate::house::root();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let interop = target.join("interop");
    let (options, filters): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|word| word.starts_with("--"));
    let missing = match options.as_slice() {
        [] => set_up::run(&interop),
        [option] if *option == "--no-set-up" => Vec::new(),
        _ => return Err(format!("unknown option among {options:?}")),
    };
    for missing in &missing {
        println!("SKIPPED: the tests with {}: {}", missing.what, missing.why);
    }
    if !missing.is_empty() && std::env::var_os("CI").is_some() {
        return Err("in CI nothing may be skipped".to_owned());
    }
    cargo(&root, &["build", "--package", "viaduct"], &[], &interop, &target)?;
    // Documentation has no runnable examples outside the core crates; those are the ones whose examples could rot.
    cargo(&root, &["test", "--quiet", "--doc", "--package", "viaduct-codec"], &[], &interop, &target)?;
    let runner: &[&str] = if has_nextest() { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    cargo(&root, runner, &filters, &interop, &target)?;
    for missing in &missing {
        println!("SKIPPED: the tests with {}: {}", missing.what, missing.why);
    }
    Ok(())
}

fn has_nextest() -> bool {
    Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn cargo(root: &Path, arguments: &[&str], filters: &[&String], interop: &Path, target: &Path) -> Result<(), String> {
    let status = Command::new("cargo")
        .args(arguments)
        .args(filters)
        .current_dir(root)
        .env("VIADUCT_INTEROP", interop)
        .env("VIADUCT_BIN", target.join("debug/viaduct"))
        .status()
        .map_err(|error| format!("cargo {}: {error}", arguments.join(" ")))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} ended with {status}", arguments.join(" "))) }
}
