//! Commands that run to their end: the command line of viaduct, and tools of others.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::binary::viaduct;
use crate::wait::within;

/// How long a command may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// A command that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs `viaduct` with `arguments` in an empty folder, with `input` on its standard input.
///
/// # Panics
/// When it does not end.
#[track_caller]
pub fn run_viaduct(arguments: &[&str], input: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    run(Command::new(viaduct()).args(arguments).current_dir(folder.path()), input)
}

/// As [`run_viaduct`], with the path of a file that holds `config` behind the other arguments.
///
/// # Panics
/// When it does not end.
#[track_caller]
pub fn run_viaduct_on(config: &str, arguments: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.toml");
    std::fs::write(&file, config).unwrap();
    run(Command::new(viaduct()).args(arguments).arg(file).current_dir(folder.path()), "")
}

/// Runs `command` to its end with `input` on its standard input.
///
/// # Panics
/// When it can't be started or does not end within a minute.
#[track_caller]
pub fn run(command: &mut Command, input: &str) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that does not read its input closes the pipe, which is no failure.
    let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let out = drain(child.stdout.take().unwrap());
    let err = drain(child.stderr.take().unwrap());
    let Ok(status) = within(COMMAND_DEADLINE, || child.try_wait().unwrap().ok_or(())) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end; it wrote:\n{}{}", out.join().unwrap(), err.join().unwrap());
    };
    writing.join().unwrap();
    Finished { code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether a tool of others is there. `None` is said aloud, and in CI (`CI` is set) it is a failure: a test that runs
/// nowhere tests nothing.
///
/// # Panics
/// In CI, when it is missing.
#[must_use]
#[track_caller]
pub fn check_tool(what: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let message = format!("SKIPPED: {what} is not installed (`cargo xtask test` installs it)");
        assert!(std::env::var_os("CI").is_none(), "{message}");
        eprintln!("{message}");
    }
    found
}
