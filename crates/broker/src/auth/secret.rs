//! What SCRAM-SHA-256 keeps of a password: enough to check one, not enough to log in with (RFC 5802, RFC 7677).
//!
//! In: the text behind the colon of a user's line, or a password. Out: the salt and two keys. Must never: compare in a time
//! that depends on a secret, or print a key anywhere but into the file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What such a line begins with.
pub(crate) const PREFIX: &str = "SCRAM-SHA-256$";
/// PBKDF2 rounds that a line has at least (RFC 7677 section 4).
const MIN_ITERATIONS: u32 = 4096;
/// And at most: every client has to go through them at each login, and beyond this even a fast one does not.
const MAX_ITERATIONS: u32 = 10_000_000;
/// Bytes of salt at most, so that a challenge stays small.
const MAX_SALT: usize = 64;

/// A SHA-256 of something.
pub(crate) type Key = [u8; 32];

/// One user's secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret {
    /// PBKDF2 rounds that make the salted password.
    pub(crate) iterations: u32,
    /// Told to everybody who asks for the user.
    pub(crate) salt: Vec<u8>,
    /// The hash of the key that a client proves to have.
    stored_key: Key,
    /// What the server proves to have.
    server_key: Key,
}

impl Secret {
    /// Reads `iterations:salt$StoredKey:ServerKey`, which is what stands behind [`PREFIX`]; the error says what is wrong
    /// with it and never repeats it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('$').and_then(|(how, keys)| Some((how.split_once(':')?, keys.split_once(':')?)));
        let Some(((iterations, salt), (stored_key, server_key))) = parts else {
            return Err(format!("a SCRAM line is {PREFIX}iterations:salt$StoredKey:ServerKey"));
        };
        let iterations =
            iterations.parse().ok().filter(|n| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(n)).ok_or_else(|| {
                format!("the iterations of a SCRAM line are from {MIN_ITERATIONS} to {MAX_ITERATIONS}")
            })?;
        let salt = decode(salt, "salt")?;
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(format!("the salt of a SCRAM line has from 1 to {MAX_SALT} bytes, this one {}", salt.len()));
        }
        let stored_key = decode_key(stored_key, "StoredKey")?;
        let server_key = decode_key(server_key, "ServerKey")?;
        Ok(Self { iterations, salt, stored_key, server_key })
    }

    /// Makes the secret of `password`. Slow on purpose: not for a worker's thread.
    pub(crate) fn derive(password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let mut salted = Key::default();
        pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, iterations, &mut salted);
        let stored_key = Sha256::digest(hmac(&salted, &[b"Client Key"])).into();
        Self { iterations, salt, stored_key, server_key: hmac(&salted, &[b"Server Key"]) }
    }

    /// A secret that no password fits, for users that there are not: the same for the same `key` and `user`, with the
    /// shape of a real one.
    pub(crate) fn fake(key: &Key, user: &str, iterations: u32, salt_length: usize) -> Self {
        let part = |label: &[u8]| hmac(key, &[label, user.as_bytes()]);
        let mut salt = [part(b"salt 1 "), part(b"salt 2 ")].concat();
        salt.truncate(salt_length);
        Self { iterations, salt, stored_key: part(b"stored key "), server_key: part(b"server key ") }
    }

    /// Whether `password` is the one. Slow on purpose: not for a worker's thread.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        let found = Self::derive(password, self.salt.clone(), self.iterations);
        found.stored_key.ct_eq(&self.stored_key).into()
    }

    /// Whether `proof`, made for the exchange that `auth_message` sums up, was made with the password.
    pub(crate) fn proves(&self, auth_message: &str, proof: &Key) -> bool {
        let signature = hmac(&self.stored_key, &[auth_message.as_bytes()]);
        let mut client_key = *proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let found: Key = Sha256::digest(client_key).into();
        found.ct_eq(&self.stored_key).into()
    }

    /// What shows the client that the server knows its secret.
    pub(crate) fn server_signature(&self, auth_message: &str) -> Key {
        hmac(&self.server_key, &[auth_message.as_bytes()])
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored_key, server_key] =
            [self.salt.as_slice(), &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{PREFIX}{}:{salt}${stored_key}:{server_key}", self.iterations)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    // HMAC fills a key up to its block with zeros, so doing that here makes no difference, and nothing that can fail.
    let mut block = [0; 64];
    for (place, byte) in block.iter_mut().zip(key) {
        *place = *byte;
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn decode(text: &str, field: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| format!("the {field} is not base64"))
}

fn decode_key(text: &str, field: &str) -> Result<Key, String> {
    let bytes = decode(text, field)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| format!("the {field} has {} bytes instead of 32", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User and password of the example in RFC 7677 section 3, "user" and "pencil".
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                          WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn a_line_is_read_checks_its_password_and_is_written_the_same() {
        let secret = Secret::parse(PENCIL.strip_prefix(PREFIX).unwrap()).unwrap();
        assert!(secret.verify(b"pencil"));
        assert!(!secret.verify(b"Pencil") && !secret.verify(b""));
        assert_eq!(secret.to_string(), PENCIL);
        assert!(!format!("{secret:?}").contains("WG5d"), "no key in debug output");
    }

    #[test]
    fn what_is_no_line_says_why() {
        let keys = PENCIL.rsplit_once('$').unwrap().1;
        for (text, why) in [
            (String::new(), "iterations:salt$"),
            ("4096:YQ==".to_owned(), "iterations:salt$"),
            (format!("4095:YQ==${keys}"), "from 4096 to"),
            (format!("10000001:YQ==${keys}"), "from 4096 to"),
            (format!("4096:!${keys}"), "not base64"),
            (format!("4096:${keys}"), "from 1 to 64"),
            (format!("4096:{}${keys}", STANDARD.encode([7; 65])), "this one 65"),
            (format!("4096:YQ==${keys}:"), "not base64"),
            ("4096:YQ==$YQ==:YQ==".to_owned(), "1 bytes instead of 32"),
        ] {
            let error = Secret::parse(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_fake_is_the_same_each_time_and_other_for_another_user_or_key() {
        let fake = |key: u8, user: &str| Secret::fake(&[key; 32], user, 4096, 40);
        assert_eq!(fake(1, "u"), fake(1, "u"));
        assert_eq!(fake(1, "u").salt.len(), 40);
        assert_ne!(fake(1, "u").salt, fake(1, "v").salt);
        assert_ne!(fake(1, "u").salt, fake(2, "u").salt);
    }
}
