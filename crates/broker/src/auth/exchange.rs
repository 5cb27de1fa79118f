//! One SCRAM exchange with the users of this broker, whatever packets carry it.
//!
//! In: the Authentication Data of CONNECT and AUTH, one after the other. Out: what to send next, who was proven, or why
//! nobody was. Must never: go on after its end, or hold a client to a password that no longer holds.

use super::Users;
use super::scram::{Challenge, NONCE, Opening, Proven, ScramError};

/// An exchange and how far it came.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    due: Due,
}

/// Which message is due.
#[derive(Debug, Default)]
enum Due {
    /// The first, and the client may leave it out as long as it was not asked for it.
    #[default]
    Beginning,
    /// The first.
    First,
    /// The last.
    Final(Box<Challenge>),
    /// None: it is over.
    Nothing,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// The client is asked for its first message, with no data.
    Ask,
    /// The challenge is sent.
    Challenge(String),
    /// The client has shown who it is; the text goes with success.
    Proven(Proven),
}

impl Exchange {
    /// Takes what the client sent; `None` when it sent no data at all.
    pub(crate) fn step(&mut self, users: &Users, data: Option<&[u8]>) -> Result<Step, ScramError> {
        match (std::mem::replace(&mut self.due, Due::Nothing), data) {
            (Due::Beginning, None) => {
                self.due = Due::First;
                Ok(Step::Ask)
            }
            (Due::Beginning | Due::First, Some(data)) => {
                let opening = Opening::read(data)?;
                let mut nonce = [0; NONCE];
                crate::tls::random(&mut nonce).map_err(|_| ScramError::NoRandomness)?;
                let (secret, known) = users.secret(opening.user());
                let challenge = opening.answer(nonce, secret, known);
                let text = challenge.text.clone();
                self.due = Due::Final(Box::new(challenge));
                Ok(Step::Challenge(text))
            }
            (Due::Final(challenge), Some(data)) => {
                let proven = challenge.finish(data)?;
                // The users may have been read again since the challenge was made.
                let (now, known) = users.secret(&proven.user);
                if !known || now != proven.secret {
                    return Err(ScramError::WrongProof { user: proven.user });
                }
                Ok(Step::Proven(proven))
            }
            (Due::First | Due::Final(_), None) | (Due::Nothing, _) => Err(ScramError::NotDue),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::PasswordFile;

    /// The user "user" with the password "pencil".
    const USERS: &str = "user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                         WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn users() -> Users {
        Users::new(Some(PasswordFile::parse(&format!("{USERS}\nother:$7$1$YQ==${}\n", "A".repeat(86) + "==")).unwrap()))
    }

    fn challenge(users: &Users, user: &str) -> String {
        let first = format!("n,,n={user},r=nonce");
        match Exchange::default().step(users, Some(first.as_bytes())).unwrap() {
            Step::Challenge(text) => text.split_once(',').unwrap().1.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_user_and_one_without_a_secret_get_a_salt_that_stays_the_same() {
        let users = users();
        assert_eq!(challenge(&users, "user"), "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        for user in ["nobody", "other"] {
            let fake = challenge(&users, user);
            assert_eq!(fake, challenge(&users, user));
            assert_eq!(fake.len(), "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".len(), "{fake}");
            assert!(fake.ends_with("==,i=4096"), "{fake}");
        }
        assert_ne!(challenge(&users, "nobody"), challenge(&users, "other"));
    }

    #[test]
    fn it_asks_for_the_first_message_once_and_is_over_after_a_mistake() {
        let users = users();
        let mut exchange = Exchange::default();
        assert!(matches!(exchange.step(&users, None), Ok(Step::Ask)));
        assert!(matches!(exchange.step(&users, None), Err(ScramError::NotDue)));
        assert!(matches!(exchange.step(&users, Some(b"n,,n=user,r=x")), Err(ScramError::NotDue)));
    }
}
