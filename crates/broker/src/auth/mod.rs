//! Who may log in and what they may do: the user file, the permissions file, and the checks against them.
//!
//! In: the text of two files in mosquitto's formats, and what CONNECT and certificates say. Out: an identity or a
//! refusal, and the engine's `Authorizer`. Must never: let anybody in because a file was empty, unreadable or wrong.

mod acl;
mod acl_file;
mod exchange;
mod hash;
mod login;
mod password_file;
mod reauthentication;
mod scram;
mod secret;
mod write;

use std::path::{Path, PathBuf};

use thiserror::Error;
use viaduct_engine::{AllowAll, Authorizer};

pub(crate) use acl_file::AclFile;
pub(crate) use exchange::{Exchange, Step};
pub(crate) use login::{Credentials, LoginResult, Users};
pub(crate) use password_file::PasswordFile;
pub(crate) use reauthentication::Reauthentication;
pub(crate) use scram::{METHOD as SCRAM, Proven, ScramError};
pub use write::{HashKind, WriteError, set_password};

/// Why a file of `[auth]` can't be used.
#[derive(Debug, Error)]
pub enum AuthFileError {
    /// It can't be read.
    #[error("{}: {source} ({key})", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line in it is wrong. Files with a wrong line are refused whole: a rule that is skipped silently is a hole.
    #[error("{}:{line}: {what} ({key})", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// The setting that names it.
        key: &'static str,
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// What is wrong with a line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// From 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) what: String,
}

/// Reads the users; `None` when no password file is configured.
pub(crate) fn load_users(path: Option<&Path>) -> Result<Option<PasswordFile>, AuthFileError> {
    const KEY: &str = "auth.password_file";
    let Some(path) = path else { return Ok(None) };
    let text =
        crate::files::read_text(path).map_err(|source| AuthFileError::Read { path: path.into(), key: KEY, source })?;
    PasswordFile::parse(&text).map(Some).map_err(|bad| bad.at(path, KEY))
}

/// Reads the permissions. Without a file everybody may do everything that the engine itself does not forbid.
pub(crate) fn load_authorizer(path: Option<&Path>) -> Result<Box<dyn Authorizer>, AuthFileError> {
    const KEY: &str = "auth.acl_file";
    let Some(path) = path else { return Ok(Box::new(AllowAll)) };
    let text =
        crate::files::read_text(path).map_err(|source| AuthFileError::Read { path: path.into(), key: KEY, source })?;
    let file = AclFile::parse(&text).map_err(|bad| bad.at(path, KEY))?;
    Ok(Box::new(file))
}

impl BadLine {
    fn at(self, path: &Path, key: &'static str) -> AuthFileError {
        AuthFileError::Line { path: path.into(), key, line: self.line, what: self.what }
    }
}
