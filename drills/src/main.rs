//! `viaduct-drill`: the words of the command line, and the exit code: 0 passed, 1 failed, 77 could not run here.

use std::process::ExitCode;

use viaduct_drills::{Arguments, HELP, Outcome, run};

/// What test runners take for "skipped".
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let arguments = match Arguments::read(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match run(&arguments) {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::FAILURE,
        Outcome::Skipped(why) => {
            println!("SKIPPED: {why}");
            ExitCode::from(SKIPPED)
        }
    }
}
