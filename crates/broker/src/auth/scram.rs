//! The server's side of SCRAM-SHA-256 (RFC 5802 section 3, RFC 7677): two messages of the client, two answers.
//!
//! ```text
//! client-first  ->  open    ->  Opening       n,,n=user,r=nonce
//!                   answer  ->  Challenge     r=nonce+ours,s=salt,i=iterations
//! client-final  ->  finish  ->  signature     c=biws,r=...,p=proof      v=signature
//! ```
//!
//! In: the client's messages, a nonce of our own, the user's secret or a fake. Out: ours, or why not. It reads no file, knows
//! no socket and keeps no clock; one login costs it a handful of hashes, so it may run on a worker. Must never: let
//! a message pass that it did not read to the end, or tell a known user from an unknown one before the end.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::secret::{Key, Secret};

/// The method's name on the wire.
pub(crate) const METHOD: &str = "SCRAM-SHA-256";
/// Bytes that a message of the client may have: a name of a thousand bytes with every one of them escaped, twice, and
/// nonce and proof.
const MAX_MESSAGE: usize = 8192;
/// Bytes of the client's nonce at most; common clients send 24 to 44.
const MAX_NONCE: usize = 256;
/// Random bytes in our part of the nonce.
pub(crate) const NONCE: usize = 18;

/// Why an exchange failed. For the log; the client learns only that it did.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ScramError {
    /// A message of the client is none, or not the one that was due.
    #[error("{message}: {what}")]
    Message {
        /// Which.
        message: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It asks to act as somebody else.
    #[error("user {user:?} asks to act as somebody else, which nobody may")]
    OtherIdentity {
        /// Who asks.
        user: String,
    },
    /// No such user, or not its password: nobody shall tell them apart.
    #[error("wrong proof for user {user:?}")]
    WrongProof {
        /// Who it would be.
        user: String,
    },
    /// A message without data where one with data is due, or one more after the end.
    #[error("no message of its kind is due")]
    NotDue,
    /// The system gives no nonce.
    #[error("the system has no randomness")]
    NoRandomness,
}

/// The client's first message, read.
#[derive(Debug)]
pub(crate) struct Opening {
    user: String,
    nonce: String,
    /// Repeated by the client in its final message.
    gs2_header: String,
    /// The message without that.
    bare: String,
}

/// A challenge that was made and waits for its answer.
#[derive(Debug)]
pub(crate) struct Challenge {
    opening: Opening,
    /// Both nonces.
    nonce: String,
    /// Our message.
    pub(crate) text: String,
    secret: Secret,
    /// Whether the secret is a user's and not a fake.
    known: bool,
}

/// A client that has shown who it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proven {
    /// Who.
    pub(crate) user: String,
    /// With what.
    pub(crate) secret: Secret,
    /// Our last message, which shows the client that we know its secret.
    pub(crate) text: String,
}

impl Opening {
    /// Reads the client's first message.
    pub(crate) fn read(message: &[u8]) -> Result<Self, ScramError> {
        let bad = |what| ScramError::Message { message: "client-first", what };
        let text = text(message).map_err(bad)?;
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("it is not flag,authzid,n=user,r=nonce"));
        };
        match binding {
            // `y` is a client that could bind channels and believes that we can't, in which it is right.
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(bad("channel binding is not supported")),
            _ => return Err(bad("its channel binding flag is none of n, y and p")),
        }
        let gs2_header = text.get(..text.len() - bare.len()).unwrap_or_default();
        let mut attributes = bare.split(',');
        let first = attributes.next().unwrap_or_default();
        if first.starts_with("m=") {
            return Err(bad("it needs an extension that is not supported"));
        }
        let user = first.strip_prefix("n=").and_then(name).ok_or_else(|| bad("it does not name its user"))?;
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).unwrap_or_default();
        if nonce.is_empty() || nonce.len() > MAX_NONCE || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("its nonce is missing, too long or not printable"));
        }
        if !attributes.all(is_extension) {
            return Err(bad("what follows its nonce is no extension"));
        }
        if !authzid.is_empty() && authzid.strip_prefix("a=").and_then(name).as_deref() != Some(user.as_ref()) {
            return Err(ScramError::OtherIdentity { user: user.into_owned() });
        }
        Ok(Self {
            user: user.into_owned(),
            nonce: nonce.to_owned(),
            gs2_header: gs2_header.to_owned(),
            bare: bare.to_owned(),
        })
    }

    /// Who the client says that it is.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Answers with our part of the nonce and what `secret` is made with. `known` says that it is not a fake.
    pub(crate) fn answer(self, nonce: [u8; NONCE], secret: Secret, known: bool) -> Challenge {
        let nonce = format!("{}{}", self.nonce, STANDARD.encode(nonce));
        let text = format!("r={nonce},s={},i={}", STANDARD.encode(&secret.salt), secret.iterations);
        Challenge { opening: self, nonce, text, secret, known }
    }
}

impl Challenge {
    /// Reads the client's final message and judges its proof.
    pub(crate) fn finish(self, message: &[u8]) -> Result<Proven, ScramError> {
        let Self { opening, nonce, text: ours, secret, known } = self;
        let bad = |what| ScramError::Message { message: "client-final", what };
        let message = text(message).map_err(bad)?;
        // The proof is last, and everything before it is what it proves.
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or_else(|| bad("it has no proof at its end"))?;
        let proof: Option<Key> = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let proof = proof.ok_or_else(|| bad("its proof is no SHA-256"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|binding| binding.strip_prefix("c="));
        let binding = binding.and_then(|binding| STANDARD.decode(binding).ok());
        if binding.as_deref() != Some(opening.gs2_header.as_bytes()) {
            return Err(bad("its channel binding is not that of client-first"));
        }
        if attributes.next().and_then(|nonce| nonce.strip_prefix("r=")) != Some(nonce.as_str()) {
            return Err(bad("its nonce is not that of the challenge"));
        }
        if !attributes.all(is_extension) {
            return Err(bad("what follows its nonce is no extension"));
        }
        let auth_message = format!("{},{ours},{without_proof}", opening.bare);
        // The proof is judged for an unknown user too, so that it takes as long.
        let proves = secret.proves(&auth_message, &proof);
        if !proves || !known {
            return Err(ScramError::WrongProof { user: opening.user });
        }
        let signature = secret.server_signature(&auth_message);
        Ok(Proven { user: opening.user, secret, text: format!("v={}", STANDARD.encode(signature)) })
    }
}

/// A message as text: UTF-8 without NUL, and not too long.
fn text(message: &[u8]) -> Result<&str, &'static str> {
    if message.len() > MAX_MESSAGE {
        return Err("it is too long");
    }
    let text = std::str::from_utf8(message).map_err(|_| "it is not UTF-8")?;
    if text.contains('\0') { Err("it has a NUL in it") } else { Ok(text) }
}

/// A name with `=2C` for a comma and `=3D` for an equals sign, as it is meant; `None` for an empty one or another escape.
fn name(escaped: &str) -> Option<Cow<'_, str>> {
    if escaped.is_empty() {
        return None;
    }
    let mut pieces = escaped.split('=');
    let first = pieces.next().unwrap_or_default();
    if first.len() == escaped.len() {
        return Some(Cow::Borrowed(escaped));
    }
    let mut name = first.to_owned();
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        name.push(sign);
        name.push_str(rest);
    }
    Some(Cow::Owned(name))
}

/// Letters that mean something else in a message of a client (RFC 5802, section 5.1); `m` marks what may not be passed over.
const NO_EXTENSION: &[u8] = b"acimnprsv";

/// An attribute that may be passed over: a letter, an equals sign, a value.
fn is_extension(attribute: &str) -> bool {
    matches!(attribute.as_bytes(), [letter, b'=', _, ..]
        if letter.is_ascii_alphabetic() && !NO_EXTENSION.contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE_RFC: &str = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const CLIENT: &str = "rOprNGfwEbeRWgbNEkqO";

    fn secret() -> Secret {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        Secret::derive(b"pencil", salt, 4096)
    }

    /// The challenge of RFC 7677, whose nonce is not base64 as ours are.
    fn challenge(first: &str, known: bool) -> Challenge {
        let mut challenge = Opening::read(first.as_bytes()).unwrap().answer([0; NONCE], secret(), known);
        challenge.nonce = NONCE_RFC.to_owned();
        challenge.text = format!("r={NONCE_RFC},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        challenge
    }

    fn finals(binding: &str, more: &str) -> String {
        format!("c={binding},r={NONCE_RFC}{more},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    }

    #[test]
    fn the_example_of_rfc_7677_goes_through() {
        let proven = challenge("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", true).finish(finals("biws", "").as_bytes()).unwrap();
        assert_eq!(proven.user, "user");
        assert_eq!(proven.text, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn our_part_of_the_nonce_and_the_secret_are_in_the_challenge() {
        let challenge = Opening::read(b"n,,n=user,r=abc").unwrap().answer([0; NONCE], secret(), true);
        assert_eq!(challenge.text, "r=abcAAAAAAAAAAAAAAAAAAAAAAAA,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    }

    #[test]
    fn an_unknown_user_fails_as_a_wrong_proof_does() {
        let first = format!("n,,n=user,r={CLIENT}");
        let unknown = challenge(&first, false).finish(finals("biws", "").as_bytes()).unwrap_err();
        let wrong = format!("c=biws,r={NONCE_RFC},p={}", STANDARD.encode([7; 32]));
        assert_eq!(challenge(&first, true).finish(wrong.as_bytes()).unwrap_err(), unknown);
        assert_eq!(unknown, ScramError::WrongProof { user: "user".to_owned() });
    }

    #[test]
    fn first_messages_are_read_as_the_grammar_has_them() {
        for (message, user) in [
            ("n,,n=user,r=x", "user"),
            ("y,,n=user,r=x", "user"),
            ("n,a=user,n=user,r=x", "user"),
            ("n,,n=a=2Cb=3Dc,r=x", "a,b=c"),
            ("n,a==2C,n==2C,r=x", ","),
            ("n,,n=käse,r=x+/=", "käse"),
            ("n,,n=user,r=x,e=1,f=a=b", "user"),
        ] {
            assert_eq!(Opening::read(message.as_bytes()).unwrap().user(), user, "{message}");
        }
        let long = format!("n,,n=user,r={}", "x".repeat(MAX_NONCE + 1));
        for (message, why) in [
            ("", "flag,authzid"),
            ("n,", "flag,authzid"),
            ("p=tls-exporter,,n=user,r=x", "channel binding is not supported"),
            ("x,,n=user,r=x", "none of n, y and p"),
            ("n,,m=must,n=user,r=x", "extension"),
            ("n,,n=,r=x", "name its user"),
            ("n,,n=a=2cb,r=x", "name its user"),
            ("n,,n=a=,r=x", "name its user"),
            ("n,,u=user,r=x", "name its user"),
            ("n,,n=user", "nonce"),
            ("n,,n=user,r=", "nonce"),
            ("n,,n=user,r=a b", "nonce"),
            (&long, "nonce"),
            ("n,,n=user,r=x,", "no extension"),
            ("n,,n=user,r=x,1=2", "no extension"),
            ("n,,n=user,r=x,m=2", "no extension"),
            ("n,,n=us\0er,r=x", "NUL"),
            ("n,a=other,n=user,r=x", "somebody else"),
            ("n,user,n=user,r=x", "somebody else"),
        ] {
            let error = Opening::read(message.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{message}: {error}");
        }
        assert!(Opening::read(b"n,,n=\xff,r=x").unwrap_err().to_string().contains("UTF-8"));
        assert!(Opening::read(&[b'n'; MAX_MESSAGE + 1]).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn final_messages_belong_to_their_challenge() {
        let first = format!("n,,n=user,r={CLIENT}");
        let proof = "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        for (message, why) in [
            (String::new(), "no proof"),
            (format!("c=biws,r={NONCE_RFC}"), "no proof"),
            (format!("c=biws,r={NONCE_RFC},{proof},x=y"), "no SHA-256"),
            (format!("c=biws,r={NONCE_RFC},p=AAAA"), "no SHA-256"),
            (finals("eSws", ""), "channel binding"),
            (finals("!", ""), "channel binding"),
            (format!("c=biws,r={CLIENT},{proof}"), "nonce"),
            (format!("r={NONCE_RFC},c=biws,{proof}"), "channel binding"),
            (finals("biws", ",m=1"), "no extension"),
            (finals("biws", ",x=1"), "wrong proof"),
        ] {
            let error = challenge(&first, true).finish(message.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{message}: {error}");
        }
    }
}
