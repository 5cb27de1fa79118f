//! Re-authentication of a connection that SCRAM let in: the engine asks, this answers (MQTT 5.0 section 4.12.1).
//!
//! In: the data of AUTH packets. Out: what the engine answers. The users are those of now, also after a reload. Must never: let
//! a connection change its user.

use std::sync::Arc;

use viaduct_engine::{AuthStep, Reauthenticate};

use super::{Exchange, LoginResult, SCRAM, ScramError, Step};
use crate::state::Broker;

/// What a connection authenticates with again.
pub(crate) struct Reauthentication {
    broker: Arc<Broker>,
    user: Arc<str>,
    exchange: Exchange,
}

impl Reauthentication {
    /// For a connection of `user`.
    pub(crate) fn new(broker: Arc<Broker>, user: Arc<str>) -> Self {
        Self { broker, user, exchange: Exchange::default() }
    }

    fn answer(&mut self, data: Option<&[u8]>) -> Result<AuthStep, ScramError> {
        Ok(match self.exchange.step(&self.broker.users, data)? {
            Step::Ask => AuthStep::Continue(None),
            Step::Challenge(text) => AuthStep::Continue(Some(text.into_bytes())),
            Step::Proven(proven) if *proven.user != *self.user => {
                return Err(ScramError::OtherIdentity { user: proven.user });
            }
            Step::Proven(proven) => {
                let credential = self.broker.users.credential(&proven.user);
                AuthStep::Done { data: Some(proven.text.into_bytes()), credential }
            }
        })
    }
}

impl Reauthenticate for Reauthentication {
    fn method(&self) -> &str {
        SCRAM
    }

    fn begin(&mut self, data: Option<&[u8]>) -> AuthStep {
        self.exchange = Exchange::default();
        self.go_on(data)
    }

    fn go_on(&mut self, data: Option<&[u8]>) -> AuthStep {
        let step = self.answer(data).unwrap_or_else(|error| AuthStep::Refused(error.to_string()));
        match &step {
            AuthStep::Continue(_) => {}
            AuthStep::Done { .. } => self.broker.logins.count(LoginResult::Scram),
            AuthStep::Refused(_) => self.broker.logins.count(LoginResult::BadScram),
        }
        step
    }
}

impl std::fmt::Debug for Reauthentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reauthentication").field("user", &self.user).field("exchange", &self.exchange).finish()
    }
}
