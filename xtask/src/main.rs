//! Developer commands: `cargo xtask test`, `tidy`, `conformance`, `fuzz`, `sim`, `drill`, `bench`.
//!
//! Nothing of ours is depended on and nothing beyond the standard library is needed, so that this runs first on a fresh
//! machine.

mod bench;
mod conformance;
mod drill;
mod fuzz;
mod house;
mod set_up;
mod sim;
mod source;
mod statements;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "cargo xtask <command>

  test [--no-set-up] [FILTER...]   sets up what the tests need, then runs all of them (or those that match)
  conformance                      runs all tests and writes docs/conformance.md from those that prove statements
  fuzz [TARGET...] [--seconds N]   runs the fuzz targets; --replay FILE TARGET runs one input
  sim [--seeds N] [--first S]      runs seeds of the simulator; --seed S runs one and prints what happens
  drill kill|power|cut|full|hub|drain [OPTION...] breaks what is under the binary, and compares; --help tells the options
  bench [--set-up] [OPTION...]     compares Viaduct with null relays and other brokers; --help tells the options
  tidy                             checks the rules of the house that a program can see
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((command, rest)) if command == "test" => test::run(rest),
        Some((command, [])) if command == "conformance" => conformance::run(),
        Some((command, rest)) if command == "fuzz" => fuzz::run(rest),
        Some((command, rest)) if command == "sim" => sim::run(rest),
        Some((command, rest)) if command == "drill" => drill::run(rest),
        Some((command, rest)) if command == "bench" => bench::run(rest),
        Some((command, [])) if command == "tidy" => tidy::run(),
        _ => Err(HELP.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
