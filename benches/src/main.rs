//! `cargo xtask bench`: Viaduct, null relays and other brokers in the same scenarios, in turn, in one run.
//!
//! One program, three parts: `run` is load generator and judge, `relay` the null relay, `launch` what each server
//! process begins as. What is reported is the operating system's count of processor time per delivery, as a ratio to
//! the others of the same minutes, and every message that was lost.

mod arguments;
mod backlog;
mod bare;
mod crowd;
mod flow;
mod frame;
mod histogram;
mod link;
mod machine;
mod matching;
mod offline;
mod poll;
mod promises;
mod relay;
mod report;
mod run;
mod scenario;
mod server;
mod tally;
mod tls;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let result = match (command, rest) {
        ("run", rest) if rest.iter().any(|word| word == "--help") => {
            print!("{}", arguments::HELP);
            Ok(())
        }
        ("run", rest) => arguments::Arguments::read(rest).and_then(|arguments| run::run(&arguments)),
        ("relay", [mode, port]) => relay(mode, port),
        ("launch", [cores, program, rest @ ..]) => launch(cores, program, rest),
        _ => Err(arguments::HELP.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn relay(mode: &str, port: &str) -> Result<(), String> {
    let mode = match mode {
        "copy" => relay::Mode::Copy,
        "parse" => relay::Mode::Parse,
        _ => return Err(format!("{mode}: copy or parse is wanted")),
    };
    let port = port.parse().map_err(|_| format!("{port} is no port"))?;
    relay::run(port, mode).map_err(|error| format!("relay: {error}"))
}

fn launch(cores: &str, program: &str, rest: &[String]) -> Result<(), String> {
    let cores: Vec<usize> = cores.split(',').filter_map(|core| core.parse().ok()).collect();
    Err(format!("{program}: {}", machine::become_program(&cores, program, rest)))
}
