//! Writing the user file for `viaduct passwd`.
//!
//! In: the path, a user and a password. Out: the same file with that user's line replaced or added, readable by its
//! owner only. Must never: leave half a file, or lose a line that it does not understand.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use thiserror::Error;

use super::hash::Hash;
use super::secret::Secret;

/// PBKDF2 rounds of new `$7$` hashes: about a tenth of a second, and mosquitto reads any number.
const ITERATIONS: u32 = 210_000;
/// Bytes of salt, as mosquitto 2.1 uses.
const SALT: usize = 64;

/// PBKDF2 rounds of new SCRAM lines. Here it is the client that goes through them at each login, and the client may be a
/// microcontroller: more than three times the least that RFC 7677 allows.
pub(crate) const SCRAM_ITERATIONS: u32 = 15_000;
/// Bytes of salt of new SCRAM lines, as PostgreSQL uses.
pub(crate) const SCRAM_SALT: usize = 16;

/// How a new password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// argon2id: the strongest; mosquitto reads it from 2.1 on.
    Argon2id,
    /// `$7$`, PBKDF2 with HMAC-SHA-512: what mosquitto 2.0 reads.
    Pbkdf2,
    /// SCRAM-SHA-256: for clients that prove the password instead of sending it. mosquitto does not read it.
    ScramSha256,
}

/// Why a password could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The user name can't stand in the file.
    #[error("a user name has no colon and no control character in it, does not begin with '#' and is not empty")]
    User,
    /// A password must be there.
    #[error("the password is empty")]
    EmptyPassword,
    /// Clients may prepare other characters (SASLprep) before they hash them, and would make another secret of them.
    #[error(
        "for SCRAM a password has printable ASCII characters only: clients may change others before they hash them"
    )]
    ScramPassword,
    /// The system has no randomness, or hashing failed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Sets the password of `user` in the file at `path`, which is made when it is not there. The file is replaced as a
/// whole, with mode 0600.
///
/// # Errors
/// The user or password can't be used, or the file can't be read or written; then it is unchanged.
pub fn set_password(path: &Path, user: &str, password: &[u8], kind: HashKind) -> Result<(), WriteError> {
    if user.is_empty() || user.starts_with('#') || user.contains(':') || user.chars().any(char::is_control) {
        return Err(WriteError::User);
    }
    if password.is_empty() {
        return Err(WriteError::EmptyPassword);
    }
    if kind == HashKind::ScramSha256 && !password.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(WriteError::ScramPassword);
    }
    let failed = |source| WriteError::File { path: path.to_owned(), source };
    let old = match crate::files::read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let line = format!("{user}:{}", hash(password, kind)?);
    replace(path, &with_line(&old, user, &line)).map_err(failed)
}

fn hash(password: &[u8], kind: HashKind) -> Result<Hash, WriteError> {
    match kind {
        HashKind::Argon2id => {
            let hash =
                Argon2::default().hash_password(password).map_err(|error| WriteError::Hash(error.to_string()))?;
            Ok(Hash::Argon2(hash.to_string()))
        }
        HashKind::Pbkdf2 => Ok(Hash::pbkdf2(password, salt(SALT)?, ITERATIONS)),
        HashKind::ScramSha256 => Ok(Hash::Scram(Secret::derive(password, salt(SCRAM_SALT)?, SCRAM_ITERATIONS))),
    }
}

fn salt(length: usize) -> Result<Vec<u8>, WriteError> {
    let mut salt = vec![0; length];
    crate::tls::random(&mut salt).map_err(WriteError::Hash)?;
    Ok(salt)
}

/// `old` with the line of `user` replaced, or `line` added at the end.
fn with_line(old: &str, user: &str, line: &str) -> String {
    let mut new = String::with_capacity(old.len() + line.len() + 1);
    let mut done = false;
    for existing in old.lines() {
        let is_users = !existing.starts_with('#') && existing.split_once(':').is_some_and(|(name, _)| name == user);
        if !is_users {
            new.push_str(existing);
        } else if done {
            continue;
        } else {
            new.push_str(line);
            done = true;
        }
        new.push('\n');
    }
    if !done {
        new.push_str(line);
        new.push('\n');
    }
    new
}

/// Writes beside the file and renames over it, so that there is always a whole one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let mut beside = name.to_owned();
    beside.push(format!(".new-{}", std::process::id()));
    let beside = path.with_file_name(beside);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&beside, path));
    if renamed.is_err() {
        // The file in question is untouched; this one is of no use any more.
        let _ = std::fs::remove_file(&beside);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::PasswordFile;

    fn fits(path: &Path, user: &str, password: &[u8]) -> bool {
        let file = PasswordFile::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (hash, known) = file.find(user);
        known && hash.unwrap().verify(password)
    }

    #[test]
    fn a_password_is_added_then_replaced_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        set_password(&path, "anna", b"one", HashKind::Argon2id).unwrap();
        set_password(&path, "ben", b"two", HashKind::Pbkdf2).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("# our users\n{before}")).unwrap();
        set_password(&path, "anna", b"three", HashKind::Pbkdf2).unwrap();
        assert!(fits(&path, "anna", b"three") && !fits(&path, "anna", b"one") && fits(&path, "ben", b"two"));
        let after = std::fs::read_to_string(&path).unwrap();
        assert_eq!(after.lines().count(), 3);
        assert!(after.starts_with("# our users\nanna:$7$"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_scram_line_checks_a_plain_password_and_takes_ascii_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        set_password(&path, "anna", b"one two~", HashKind::ScramSha256).unwrap();
        assert!(fits(&path, "anna", b"one two~") && !fits(&path, "anna", b"one"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("anna:SCRAM-SHA-256$15000:"), "{text}");
        for password in ["käse", "tab\t"] {
            let error = set_password(&path, "anna", password.as_bytes(), HashKind::ScramSha256).unwrap_err();
            assert!(matches!(error, WriteError::ScramPassword), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        set_password(&path, "anna", b"one", HashKind::Pbkdf2).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn names_that_would_break_the_file_are_refused() {
        let path = Path::new("/nonexistent/users");
        for user in ["", "a:b", "a\nb", "#a"] {
            assert!(matches!(set_password(path, user, b"x", HashKind::Pbkdf2), Err(WriteError::User)), "{user:?}");
        }
        assert!(matches!(set_password(path, "a", b"", HashKind::Pbkdf2), Err(WriteError::EmptyPassword)));
        assert!(matches!(set_password(path, "a", b"x", HashKind::Pbkdf2), Err(WriteError::File { .. })));
    }
}
