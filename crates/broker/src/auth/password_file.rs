//! The user file: `user:hash` a line, `#` comments and blank lines.
//!
//! In: its text. Out: users and their hashes. Must never: accept a line without a hash, which would be a login without
//! a password (CVE-2018-12551).

use std::collections::HashMap;
use std::sync::Arc;

use super::BadLine;
use super::hash::Hash;
use super::secret::Secret;

/// The users that may log in.
#[derive(Clone, Debug, Default)]
pub(crate) struct PasswordFile {
    users: HashMap<String, Arc<Hash>>,
    /// What unknown users are checked against, so that they take as long as known ones.
    decoy: Option<Arc<Hash>>,
    /// Iterations and bytes of salt of the first SCRAM line, if there is one: what those of unknown users look like.
    scram_shape: Option<(u32, usize)>,
}

impl PasswordFile {
    /// Reads the whole file or refuses it.
    pub(crate) fn parse(text: &str) -> Result<Self, BadLine> {
        let mut file = Self::default();
        for (index, line) in text.lines().enumerate() {
            let bad = |what: String| BadLine { line: index + 1, what };
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) =
                line.split_once(':').ok_or_else(|| bad("expected user:hash, found no colon".to_owned()))?;
            if user.is_empty() {
                return Err(bad("the user name is empty".to_owned()));
            }
            if user.chars().any(char::is_control) {
                return Err(bad("the user name has a control character in it".to_owned()));
            }
            let hash = Arc::new(Hash::parse(hash).map_err(|what| bad(format!("user {user:?}: {what}")))?);
            file.decoy.get_or_insert_with(|| Arc::clone(&hash));
            if let Hash::Scram(secret) = hash.as_ref() {
                file.scram_shape.get_or_insert((secret.iterations, secret.salt.len()));
            }
            if file.users.insert(user.to_owned(), hash).is_some() {
                return Err(bad(format!("user {user:?} is there twice")));
            }
        }
        Ok(file)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Iterations and bytes of salt that a SCRAM user of this file has; `None` when it has none, so that SCRAM is no use.
    pub(crate) fn scram_shape(&self) -> Option<(u32, usize)> {
        self.scram_shape
    }

    /// The SCRAM secret of `user`, if there is such a user and its line is one.
    pub(crate) fn scram_secret(&self, user: &str) -> Option<&Secret> {
        match self.users.get(user).map(Arc::as_ref) {
            Some(Hash::Scram(secret)) => Some(secret),
            _ => None,
        }
    }

    /// The hash of `user`, and whether there is such a user; for an unknown one the hash is somebody else's and only
    /// there to take the same time.
    pub(crate) fn find(&self, user: &str) -> (Option<Arc<Hash>>, bool) {
        match self.users.get(user) {
            Some(hash) => (Some(Arc::clone(hash)), true),
            None => (self.decoy.clone(), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = include_str!("testdata/pbkdf2.txt");

    #[test]
    fn users_comments_and_blank_lines_are_read() {
        let text = format!("# users\n\n{HASH}\r\nname with: colon");
        assert_eq!(PasswordFile::parse(&text).unwrap_err().line, text.lines().count());
        let file = PasswordFile::parse(&format!("# users\n\n{HASH}")).unwrap();
        assert_eq!(file.len(), 1);
        assert!(file.find("u").1);
        let (decoy, known) = file.find("nobody");
        assert!(!known);
        assert!(decoy.is_some(), "an unknown user is checked against something");
    }

    #[test]
    fn a_bad_line_refuses_the_file_with_its_number() {
        for (text, line, why) in [
            ("justauser\n", 1, "no colon"),
            ("# x\nuser:\n", 2, "not hashed"),
            ("user:plain\n", 1, "not hashed"),
            (":$7$1$YQ==$YQ==\n", 1, "empty"),
        ] {
            let error = PasswordFile::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.what.contains(why), "{text:?}: {}", error.what);
        }
        let twice = format!("{}\n{}\n", HASH.trim(), HASH.trim());
        assert!(PasswordFile::parse(&twice).unwrap_err().what.contains("twice"));
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        let file = PasswordFile::parse("# nobody yet\n").unwrap();
        let (hash, known) = file.find("anybody");
        assert!(hash.is_none() && !known);
    }
}
