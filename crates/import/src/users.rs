//! Password files of mosquitto and VerneMQ: lines that ours can hold are kept as they are, the others named.
//!
//! In: the text of a file. Out: a text that our broker takes, because it refuses a file with a single bad line. Must never:
//! keep a line that would be a login without a password, or say what stands behind a colon.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::directive::Directive;
use crate::report::{Place, Report};

/// Bytes of a SHA-512.
const DIGEST: usize = 64;
/// PBKDF2 rounds that our broker takes.
const MAX_ITERATIONS: u32 = 10_000_000;

/// The users of one file or several.
#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) text: String,
    /// Whether a line had to be left out, so that the file can't be used as it is.
    pub(crate) changed: bool,
    names: HashSet<String>,
}

impl Users {
    /// Adds the lines of a file that `directive` names.
    pub(crate) fn add(&mut self, directive: &Directive, file: &str, text: &str, report: &mut Report) {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                self.keep(line);
                continue;
            }
            let place = Place { file: file.into(), line: index + 1 };
            let (user, hash) = line.split_once(':').unwrap_or((line, ""));
            let name = format!("user {user:?}");
            let refusal = if user.is_empty() || user.chars().any(char::is_control) {
                Some("this is no user name".to_owned())
            } else if self.names.contains(user) {
                Some("there is a line for it already, which is the one that counts here".to_owned())
            } else {
                unfit(hash)
            };
            match refusal {
                None => {
                    self.names.insert(user.to_owned());
                    self.keep(line);
                }
                Some(why) => {
                    self.changed = true;
                    let advice =
                        format!("set a password with `viaduct passwd FILE {user}`, FILE being auth.password_file");
                    report.note(&place, format!("{}: {name}", directive.name), why, Some(advice));
                }
            }
        }
    }

    fn keep(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// Why a hash can't be checked by our broker.
fn unfit(hash: &str) -> Option<String> {
    let digest_fits = |digest: &str| STANDARD.decode(digest).is_ok_and(|bytes| bytes.len() == DIGEST);
    let salt_fits = |salt: &str| STANDARD.decode(salt).is_ok();
    let fits = match hash.split('$').collect::<Vec<_>>().as_slice() {
        ["", "6", salt, digest] => salt_fits(salt) && digest_fits(digest),
        ["", "7", rounds, salt, digest] => {
            let rounds_fit = rounds.parse().is_ok_and(|rounds: u32| (1..=MAX_ITERATIONS).contains(&rounds));
            rounds_fit && salt_fits(salt) && digest_fits(digest)
        }
        ["", "argon2id", _version, _parameters, _salt, _digest] => true,
        ["SCRAM-SHA-256", _salt, _keys] => true,
        [""] => return Some("it has no password".to_owned()),
        [_] => return Some("its password is not hashed".to_owned()),
        _ => false,
    };
    (!fits).then(|| "its hash is none of $6$, $7$ and $argon2id$".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_stay_and_bad_ones_are_named() {
        let digest = STANDARD.encode([7; 64]);
        let good = format!("# users\n\nold:$6$c2FsdA==${digest}\nnew:$7$101$c2FsdA==${digest}\n");
        let bad = format!("plain:secret\nnone:\nnocolon\nold:$6$c2FsdA==${digest}\nshort:$6$c2FsdA==$YQ==\n:x\n");
        let mut users = Users::default();
        let mut report = Report::default();
        let directive = Directive::implied("m.conf", "password_file", "p");
        users.add(&directive, "p", &format!("{good}{bad}"), &mut report);
        assert_eq!(users.text, good);
        assert!(users.changed);
        let notes = report.into_notes();
        assert_eq!(notes.iter().map(|note| note.place.line).collect::<Vec<_>>(), [5, 6, 7, 8, 9, 10]);
        assert!(notes.iter().all(|note| !note.to_string().contains("secret")), "{notes:?}");
    }

    #[test]
    fn a_file_without_bad_lines_is_used_as_it_is() {
        let mut users = Users::default();
        users.add(&Directive::implied("m", "password_file", "p"), "p", "# nobody\n", &mut Report::default());
        assert!(!users.changed);
    }
}
