//! Counts instructions: `record` writes the baseline anew, `show` prints the counts beside it, and `perform` does one
//! operation so that Callgrind can look on.

use std::process::ExitCode;

use viaduct_gates::{Baseline, Operation, compiler, count_all};

const HELP: &str = "cargo run --release --package viaduct-gates -- <command>

  show                  counts the instructions of every operation and prints them beside the recorded ones
  record                the same, and records them in gates/instructions.txt
  perform NAME          performs one operation, for Callgrind to look on
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["show"] => {
            let _ = show();
        }
        ["record"] => show().write(),
        ["perform", name] => match Operation::named(name) {
            Some(operation) => operation.run(),
            None => return help(),
        },
        _ => return help(),
    }
    ExitCode::SUCCESS
}

fn help() -> ExitCode {
    eprint!("{HELP}");
    ExitCode::FAILURE
}

/// Counts, prints, and gives back what was counted.
fn show() -> Baseline {
    let recorded = Baseline::read();
    let own = std::env::current_exe().expect("a program knows where it is");
    let now = Baseline { compiler: compiler(), counts: count_all(&own) };
    println!(
        "recorded with {}
now           {}
",
        recorded.compiler, now.compiler
    );
    println!("{:>10}  {:>10}  {:>7}", "recorded", "now", "change");
    for (name, count) in &now.counts {
        let before = recorded.counts.get(name).copied().unwrap_or(f64::NAN);
        println!("{before:>10.1}  {count:>10.1}  {:>6.1}%  {name}", (count / before - 1.0) * 100.0);
    }
    now
}
