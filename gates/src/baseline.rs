//! Instructions per operation, as they are and as they were recorded.
//!
//! In: the program that performs an operation, compiled as it ships. Out: how many instructions each took. Callgrind counts
//! them, inside the one function that does what was prepared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{OPERATIONS, Operation};

/// By how much a count may differ from the one that was recorded: any change to the program may have another function
/// inlined.
pub const TOLERANCE: f64 = 0.02;
/// As [`TOLERANCE`], when another compiler made the program than the one that is recorded.
pub const TOLERANCE_ELSEWHERE: f64 = 0.15;

/// Bytes that the environment of the counted program holds, one run for each; the least count is taken. Hash tables take their
/// seeds from where things lie in memory, which the size of the environment moves, and an unlucky seed makes the same
/// program up to 4 % longer in a run.
const ENVIRONMENTS: [usize; 3] = [0, 200, 1000];

/// The function whose instructions are counted, with all that it calls.
const COUNTED: &str = "--toggle-collect=*operations*counted*";

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    /// The compiler, in its own words.
    pub compiler: String,
    /// Instructions, by the name of the operation.
    pub counts: BTreeMap<String, f64>,
}

impl Baseline {
    /// Where it is in the repository.
    #[must_use]
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
    }

    /// Reads it; nothing is recorded when there is no file.
    ///
    /// # Panics
    /// A line makes no sense.
    #[must_use]
    pub fn read() -> Self {
        let text = std::fs::read_to_string(Self::path()).unwrap_or_default();
        let mut read = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            match line.strip_prefix("compiler ") {
                Some(compiler) => compiler.clone_into(&mut read.compiler),
                None => {
                    let (count, name) = line.trim_start().split_once("  ").expect("a count and a name");
                    read.counts.insert(name.to_owned(), count.parse().expect("a count"));
                }
            }
        }
        read
    }

    /// Writes it.
    ///
    /// # Panics
    /// The file can't be written.
    pub fn write(&self) {
        let mut text = format!(
            "# Instructions per operation, as gates/tests/instructions.rs holds them to.\n\
             # Written by: cargo run --release --package viaduct-gates -- record\ncompiler {}\n",
            self.compiler
        );
        for operation in &OPERATIONS {
            if let Some(count) = self.counts.get(operation.name) {
                text.push_str(&format!("{count:>10.1}  {}\n", operation.name));
            }
        }
        std::fs::write(Self::path(), text).expect("the baseline can be written");
    }
}

/// The compiler that builds here.
///
/// # Panics
/// There is none.
#[must_use]
pub fn compiler() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Counts all operations of `program`, which is this package's own, two at a time.
///
/// # Panics
/// Callgrind does not run, or the program fails.
#[must_use]
pub fn count_all(program: &Path) -> BTreeMap<String, f64> {
    let (first, second) = OPERATIONS.split_at(OPERATIONS.len() / 2);
    let count = |operations: &'static [Operation]| -> Vec<(String, f64)> {
        operations.iter().map(|operation| (operation.name.to_owned(), count(program, operation))).collect()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| count(second));
        let mut all: BTreeMap<String, f64> = count(first).into_iter().collect();
        all.extend(other.join().expect("the other half was counted"));
        all
    })
}

fn count(program: &Path, operation: &Operation) -> f64 {
    let runs = ENVIRONMENTS.map(|bytes| count_once(program, operation, bytes));
    runs.into_iter().fold(f64::INFINITY, f64::min)
}

fn count_once(program: &Path, operation: &Operation, environment: usize) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", COUNTED])
        .arg(program)
        .args(["perform", operation.name])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("FILLING", "x".repeat(environment))
        .stdin(Stdio::null())
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<u64>().ok());
    match count.filter(|count| *count > 0 && output.status.success()) {
        Some(count) => count as f64 / f64::from(operation.times * operation.units),
        None => panic!("{}: {}\n{said}", operation.name, output.status),
    }
}
