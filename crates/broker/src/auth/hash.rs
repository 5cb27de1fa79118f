//! One password hash: `$6$`, `$7$` and argon2id as mosquitto writes them, and SCRAM-SHA-256 as PostgreSQL does.
//!
//! In: the text behind the colon of a user's line. Out: whether a password fits. Must never: compare in a time that
//! depends on the password, or accept parameters that would let one login take the machine.

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::secret::{self, Secret};

/// PBKDF2 rounds that a line may ask for: ten seconds of a core or so, beyond which logging in does not work anyway.
const MAX_ITERATIONS: u32 = 10_000_000;
/// KiB of memory that an argon2 line may ask for.
const MAX_ARGON2_MEMORY: u32 = 1024 * 1024;
/// Passes over that memory that an argon2 line may ask for.
const MAX_ARGON2_PASSES: u32 = 1000;
/// Bytes that mosquitto's hashes have: a whole SHA-512.
const DIGEST: usize = 64;

/// A hash that a password is checked against.
#[derive(Clone, Debug, PartialEq, Eq, std::hash::Hash)]
pub(crate) enum Hash {
    /// `$6$salt$digest`: SHA-512 of password and salt, once. From mosquitto 1.x.
    Sha512 { salt: Vec<u8>, digest: Vec<u8> },
    /// `$7$iterations$salt$digest`: PBKDF2 with HMAC-SHA-512. mosquitto 2.x.
    Pbkdf2 { iterations: u32, salt: Vec<u8>, digest: Vec<u8> },
    /// `$argon2id$...`: a PHC string, checked when it was read.
    Argon2(String),
    /// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`: what enhanced authentication needs, and enough to check a password.
    Scram(Secret),
}

impl Hash {
    /// Reads a hash; the error says what is wrong with it and never repeats it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(scram) = text.strip_prefix(secret::PREFIX) {
            return Secret::parse(scram).map(Self::Scram);
        }
        let Some(inner) = text.strip_prefix('$') else {
            return Err("the password is not hashed: write the line with `viaduct passwd`".to_owned());
        };
        let mut parts = inner.split('$');
        match parts.next() {
            Some("6") => match (parts.next(), parts.next(), parts.next()) {
                (Some(salt), Some(digest), None) => {
                    Ok(Self::Sha512 { salt: decode(salt, "salt")?, digest: decode_digest(digest)? })
                }
                _ => Err("a $6$ hash is $6$salt$hash".to_owned()),
            },
            Some("7") => match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(iterations), Some(salt), Some(digest), None) => {
                    let iterations =
                        iterations.parse().ok().filter(|n| (1..=MAX_ITERATIONS).contains(n)).ok_or_else(|| {
                            format!("the iterations of a $7$ hash are a number from 1 to {MAX_ITERATIONS}")
                        })?;
                    Ok(Self::Pbkdf2 { iterations, salt: decode(salt, "salt")?, digest: decode_digest(digest)? })
                }
                _ => Err("a $7$ hash is $7$iterations$salt$hash".to_owned()),
            },
            Some("argon2id") => parse_argon2(text),
            _ => Err("the hash is none of $6$, $7$, $argon2id$ and SCRAM-SHA-256$".to_owned()),
        }
    }

    /// Makes a `$7$` hash of `password`.
    pub(crate) fn pbkdf2(password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let mut digest = vec![0; DIGEST];
        pbkdf2::pbkdf2_hmac::<Sha512>(password, &salt, iterations, &mut digest);
        Self::Pbkdf2 { iterations, salt, digest }
    }

    /// Whether `password` is the one. Slow on purpose: not for a worker's thread.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha512 { salt, digest } => {
                let mut hasher = Sha512::new();
                hasher.update(password);
                hasher.update(salt);
                hasher.finalize().ct_eq(digest).into()
            }
            Self::Pbkdf2 { iterations, salt, digest } => {
                let mut found = vec![0; digest.len()];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *iterations, &mut found);
                found.ct_eq(digest).into()
            }
            Self::Argon2(text) => {
                PasswordHash::new(text).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
            }
            Self::Scram(secret) => secret.verify(password),
        }
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha512 { salt, digest } => write!(f, "$6${}${}", STANDARD.encode(salt), STANDARD.encode(digest)),
            Self::Pbkdf2 { iterations, salt, digest } => {
                write!(f, "$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(digest))
            }
            Self::Argon2(text) => f.write_str(text),
            Self::Scram(secret) => secret.fmt(f),
        }
    }
}

fn parse_argon2(text: &str) -> Result<Hash, String> {
    let hash = PasswordHash::new(text).map_err(|error| format!("the argon2id hash can't be read: {error}"))?;
    let params = argon2::Params::try_from(&hash).map_err(|error| format!("the argon2id parameters: {error}"))?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("the argon2id hash has no salt or no hash in it".to_owned());
    }
    if params.m_cost() > MAX_ARGON2_MEMORY || params.t_cost() > MAX_ARGON2_PASSES {
        return Err(format!(
            "the argon2id hash asks for m={} t={}; at most m={MAX_ARGON2_MEMORY} and t={MAX_ARGON2_PASSES} are taken",
            params.m_cost(),
            params.t_cost()
        ));
    }
    Ok(Hash::Argon2(text.to_owned()))
}

fn decode(text: &str, field: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| format!("the {field} is not base64"))
}

fn decode_digest(text: &str) -> Result<Vec<u8>, String> {
    let digest = decode(text, "hash")?;
    if digest.len() != DIGEST {
        return Err(format!("the hash has {} bytes instead of {DIGEST}", digest.len()));
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with mosquitto_passwd 2.0.11 (-H sha512 and the default) for the password "secret".
    const MOSQUITTO_6: &str = include_str!("testdata/sha512.txt");
    const MOSQUITTO_7: &str = include_str!("testdata/pbkdf2.txt");

    fn hash_of(line: &str) -> Hash {
        let (_, hash) = line.trim().split_once(':').unwrap();
        let parsed = Hash::parse(hash).unwrap();
        assert_eq!(parsed.to_string(), hash, "what was read is written the same");
        parsed
    }

    #[test]
    fn hashes_that_mosquitto_wrote_fit_their_password_and_no_other() {
        for line in [MOSQUITTO_6, MOSQUITTO_7] {
            let hash = hash_of(line);
            assert!(hash.verify(b"secret"));
            assert!(!hash.verify(b"Secret"));
            assert!(!hash.verify(b""));
        }
    }

    #[test]
    fn an_argon2id_hash_fits_its_password() {
        use argon2::password_hash::PasswordHasher;
        let params = argon2::Params::new(1024, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let text = argon2.hash_password(b"secret").unwrap().to_string();
        let hash = Hash::parse(&text).unwrap();
        assert!(hash.verify(b"secret"));
        assert!(!hash.verify(b"other"));
    }

    #[test]
    fn what_is_not_a_hash_says_why() {
        for (text, why) in [
            ("secret", "not hashed"),
            ("", "not hashed"),
            ("$6$c2FsdA==", "$6$salt$hash"),
            ("$6$c2FsdA==$!!", "not base64"),
            ("$6$c2FsdA==$YQ==", "1 bytes instead of 64"),
            ("$7$0$c2FsdA==$YQ==", "from 1 to"),
            ("$7$99999999999$c2FsdA==$YQ==", "from 1 to"),
            ("$1$abc$def", "none of"),
            ("$argon2id$v=19$m=9999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "at most m="),
            ("$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHQ", "no salt or no hash"),
        ] {
            let error = Hash::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
