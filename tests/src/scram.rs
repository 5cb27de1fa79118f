//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), written for the tests alone.
//!
//! In: user, password and the server's messages. Out: the client's messages, and what the server has to say at the end.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// One exchange. Every field may be changed to say something wrong.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Scram {
    pub gs2_header: String,
    pub user: String,
    pub password: String,
    pub nonce: String,
}

/// What the client says last, and what it wants to hear then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finale {
    /// client-final.
    pub message: Vec<u8>,
    /// server-final.
    pub answer: Vec<u8>,
}

impl Scram {
    /// The method's name.
    pub const METHOD: &'static str = "SCRAM-SHA-256";

    /// Without channel binding and authorization identity; `user` is as it goes over the wire.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            gs2_header: "n,,".to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            nonce: "fyko+d2lbbFgONRv9qkxdawL".to_owned(),
        }
    }

    /// client-first.
    #[must_use]
    pub fn first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2_header, self.bare()).into_bytes()
    }

    /// Salt and iterations of a challenge.
    ///
    /// # Panics
    /// When it is none that answers [`Scram::first`].
    #[must_use]
    #[track_caller]
    pub fn read(&self, challenge: &[u8]) -> (Vec<u8>, u32) {
        let text = std::str::from_utf8(challenge).unwrap();
        let parts: Vec<&str> = text.split(',').collect();
        assert_eq!(parts.len(), 3, "{text}");
        let nonce = parts[0].strip_prefix("r=").unwrap();
        assert!(nonce.starts_with(&self.nonce) && nonce.len() >= self.nonce.len() + 18, "{text}");
        let salt = STANDARD.decode(parts[1].strip_prefix("s=").unwrap()).unwrap();
        (salt, parts[2].strip_prefix("i=").unwrap().parse().unwrap())
    }

    /// client-final for a challenge.
    ///
    /// # Panics
    /// When the challenge is none.
    #[must_use]
    #[track_caller]
    pub fn last(&self, challenge: &[u8]) -> Finale {
        let challenge_text = std::str::from_utf8(challenge).unwrap();
        let nonce = challenge_text.split(',').next().unwrap();
        self.last_saying(challenge, &format!("c={},{nonce}", STANDARD.encode(&self.gs2_header)))
    }

    /// The same with other words in front of the proof, which is right for them.
    ///
    /// # Panics
    /// When the challenge is none.
    #[must_use]
    #[track_caller]
    pub fn last_saying(&self, challenge: &[u8], without_proof: &str) -> Finale {
        let (salt, iterations) = self.read(challenge);
        let challenge = std::str::from_utf8(challenge).unwrap();
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(self.password.as_bytes(), &salt, iterations, &mut salted);
        let client_key = hmac(&salted, b"Client Key");
        let stored_key: [u8; 32] = Sha256::digest(client_key).into();
        let auth_message = format!("{},{challenge},{without_proof}", self.bare());
        let signature = hmac(&stored_key, auth_message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
        let server = hmac(&hmac(&salted, b"Server Key"), auth_message.as_bytes());
        Finale {
            message: format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes(),
            answer: format!("v={}", STANDARD.encode(server)).into_bytes(),
        }
    }

    fn bare(&self) -> String {
        format!("n={},r={}", self.user, self.nonce)
    }
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}
