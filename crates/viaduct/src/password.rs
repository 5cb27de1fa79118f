//! A password from a person at a terminal, or from standard input.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use thiserror::Error;

/// Bytes that a password may have: what CONNECT can carry.
const LONGEST: u64 = 65_535;

/// Why there is no password.
#[derive(Debug, Error)]
pub(crate) enum PasswordError {
    /// The terminal or standard input failed.
    #[error("the password can't be read: {0}")]
    Read(#[from] io::Error),
    /// The two did not agree.
    #[error("the two passwords are not the same")]
    Different,
    /// Nothing was typed.
    #[error("the password is empty")]
    Empty,
    /// Too much was.
    #[error("the password is longer than {LONGEST} bytes")]
    TooLong,
}

/// Asks twice at a terminal; otherwise takes the first line of standard input.
pub(crate) fn read(user: &str) -> Result<Vec<u8>, PasswordError> {
    let password = if io::stdin().is_terminal() {
        let _quiet = Quiet::new()?;
        let first = ask(&format!("Password for {user}: "))?;
        let second = ask("Again: ")?;
        if first != second {
            return Err(PasswordError::Different);
        }
        first
    } else {
        line()?
    };
    if password.is_empty() {
        return Err(PasswordError::Empty);
    }
    Ok(password)
}

fn ask(prompt: &str) -> Result<Vec<u8>, PasswordError> {
    let mut error = io::stderr();
    write!(error, "{prompt}")?;
    error.flush()?;
    let line = line()?;
    writeln!(error)?;
    Ok(line)
}

fn line() -> Result<Vec<u8>, PasswordError> {
    let mut line = Vec::new();
    io::stdin().lock().take(LONGEST + 2).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() as u64 > LONGEST { Err(PasswordError::TooLong) } else { Ok(line) }
}

/// The terminal without its echo, for as long as this lives.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
