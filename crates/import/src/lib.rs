//! Moving in: the configuration of mosquitto or VerneMQ as ours.
//!
//! In: which broker wrote it, the name of its main file, and [`Files`] to read that one and those it names. Out: the text of a
//! configuration, the files that it needs beside it, and a [`Note`] for every directive that has no equal ([`Imported`]);
//! or every line that the other broker would have refused ([`Mistake`]). From the same tables, the matrix in
//! `docs/moving-in.md`. Must never: touch the disk itself, let somebody in whom the other broker kept out without saying so,
//! or repeat a password in a note.

mod acl;
mod address;
mod auth;
mod desk;
mod directive;
mod finish;
mod lines;
mod matrix;
mod mosquitto;
mod option;
mod output;
mod pem;
mod report;
mod request;
mod topic;
mod users;
mod value;
mod vernemq;

#[cfg(test)]
mod every_option;

pub use matrix::matrix;
pub use report::{Mistake, Note, Place};
pub use request::{FILE_BYTES, Files, Origin, Request};

use desk::Desk;

/// Our configuration, made of another broker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The text of `broker.toml`, the notes at its end included.
    pub config: String,
    /// Files that the text names and that are not there yet.
    pub files: Vec<SideFile>,
    /// What has no equal, in the order of the files; first what asks for a hand.
    pub notes: Vec<Note>,
}

/// A file that goes beside the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideFile {
    /// Where, as the configuration names it: [`Request::beside`] and an ending.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// What it is, in a few words.
    pub what: &'static str,
}

/// Reads `request.file` and makes a configuration of it.
///
/// # Errors
/// The main file or one that it includes can't be read, or has lines that mean nothing: all of them, each with its place.
pub fn import(request: &Request<'_>, files: &mut dyn Files) -> Result<Imported, Vec<Mistake>> {
    let mut desk = Desk::new(request, files);
    match request.origin {
        Origin::Mosquitto => mosquitto::import(&mut desk),
        Origin::Vernemq => vernemq::import(&mut desk),
    }
    let Desk { report, output, files, .. } = desk;
    if !report.mistakes.is_empty() {
        return Err(report.mistakes);
    }
    let notes = report.into_notes();
    Ok(Imported { config: output.render(request, &notes), files, notes })
}
