//! Instructions of decode, match and deliver against those that were recorded in `gates/instructions.txt`.
//!
//! More is a loss that somebody has to want; fewer is a gain that is to be kept. Either way
//! `cargo run --release --package viaduct-gates -- record` writes the file anew, and its history tells the story.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use viaduct_gates::{Baseline, OPERATIONS, TOLERANCE, TOLERANCE_ELSEWHERE, compiler, count_all, tool};
use viaduct_tests::check_tool;

#[test]
fn every_operation_takes_the_instructions_that_are_recorded() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED: instructions were recorded on x86_64, and this is another machine");
        return;
    }
    if check_tool("valgrind", tool("valgrind")).is_none() {
        return;
    }
    let recorded = Baseline::read();
    let same_compiler = recorded.compiler == compiler();
    let tolerance = if same_compiler { TOLERANCE } else { TOLERANCE_ELSEWHERE };
    let now = count_all(&build());
    let mut wrong = Vec::new();
    for operation in &OPERATIONS {
        let (now, before) = (now[operation.name], recorded.counts.get(operation.name).copied().unwrap_or_default());
        if (now - before).abs() > before * tolerance {
            wrong.push(format!("{before:>10.1} recorded, {now:>10.1} now: {}", operation.name));
        }
    }
    let wrong = wrong.join("\n");
    assert!(
        wrong.is_empty(),
        "beyond {} %, with {} compiler; to record anew: cargo run --release --package viaduct-gates -- record\n{wrong}",
        tolerance * 100.0,
        if same_compiler { "the same" } else { "another" },
    );
}

/// The program of this package, compiled as the broker ships.
fn build() -> PathBuf {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--package", "viaduct-gates", "--bins", "--target-dir"]).arg(target);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "the program does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    target.join("release/viaduct-gates")
}
