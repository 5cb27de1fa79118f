//! Re-authentication: AUTH after CONNACK (MQTT 5.0 section 4.12.1).
//!
//! In: AUTH packets of clients. Out: the answers of whoever carries out the method, or the end of the connection. What keeps the
//! order of the exchange is here; what its data means is not. Must never: let AUTH pass where CONNECT named no method, or
//! stop anything else that the connection does meanwhile.

use std::fmt;

use viaduct_codec::{Auth, ReasonCode, Time};
use viaduct_session::server::Ending;

use crate::Engine;
use crate::connections::CloseReason;

/// One connection's side of its authentication method, for exchanges after CONNACK.
pub trait Reauthenticate: fmt::Debug + Send {
    /// The method that CONNECT named.
    fn method(&self) -> &str;

    /// The client begins a new exchange; whatever was left of one before is forgotten.
    fn begin(&mut self, data: Option<&[u8]>) -> AuthStep;

    /// The client goes on with the exchange, which asked for more.
    fn go_on(&mut self, data: Option<&[u8]>) -> AuthStep;
}

/// What comes next in an exchange. The data is for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthStep {
    /// The client is to say more.
    Continue(Option<Vec<u8>>),
    /// The client is who it was.
    Done {
        /// The method's last words.
        data: Option<Vec<u8>>,
        /// As [`Arrival::credential`](crate::Arrival::credential), from now on.
        credential: Option<u64>,
    },
    /// It is not, and the connection ends; the text is for the log alone.
    Refused(String),
}

/// What a connection keeps for it.
#[derive(Debug)]
pub(crate) struct Reauthentication {
    method: Box<dyn Reauthenticate>,
    /// An exchange is under way, and the client's turn.
    under_way: bool,
}

impl Reauthentication {
    pub(crate) fn new(method: Box<dyn Reauthenticate>) -> Self {
        Self { method, under_way: false }
    }

    /// The next step, or the rule that the client broke.
    fn step(&mut self, auth: &Auth<'_>) -> Result<AuthStep, &'static str> {
        if auth.method != Some(self.method.method()) {
            return Err("AUTH does not name the authentication method of CONNECT"); // MQTT-4.12.0-5, MQTT-4.12.1-1
        }
        match (auth.reason, self.under_way) {
            (ReasonCode::RE_AUTHENTICATE, false) => Ok(self.method.begin(auth.data)),
            (ReasonCode::CONTINUE_AUTHENTICATION, true) => Ok(self.method.go_on(auth.data)),
            (ReasonCode::RE_AUTHENTICATE, true) => Err("a re-authentication is under way already"),
            (ReasonCode::CONTINUE_AUTHENTICATION, false) => {
                Err("AUTH goes on with a re-authentication that none began")
            }
            // Success is the server's to say (section 3.15.2.1).
            _ => Err("a client sends AUTH to continue or to re-authenticate only"),
        }
    }
}

impl Engine {
    /// AUTH from the client of the session at `index`.
    pub(crate) fn handle_auth(&mut self, now: Time, connection: usize, index: usize, auth: &Auth<'_>) {
        let open = self.connections.get_mut(connection).and_then(|connection| connection.reauthentication.as_mut());
        let Some(open) = open else {
            // MQTT-4.12.0-7; and the server sends none either: MQTT-4.12.0-6
            let what = "AUTH came although CONNECT named no authentication method".to_owned();
            return self.close_for(now, index, ReasonCode::PROTOCOL_ERROR, what);
        };
        let step = match open.step(auth) {
            Ok(step) => step,
            Err(what) => return self.close_for(now, index, ReasonCode::PROTOCOL_ERROR, what.to_owned()),
        };
        open.under_way = matches!(step, AuthStep::Continue(_));
        match step {
            AuthStep::Continue(data) => {
                self.answer_auth(now, index, ReasonCode::CONTINUE_AUTHENTICATION, auth.method, data); // MQTT-4.12.0-2
            }
            AuthStep::Done { data, credential } => {
                if let Some(slot) = self.sessions.get_mut(index) {
                    slot.set_credential(credential);
                }
                self.answer_auth(now, index, ReasonCode::SUCCESS, auth.method, data);
            }
            AuthStep::Refused(why) => self.refuse_auth(now, index, &why),
        }
    }

    fn answer_auth(
        &mut self,
        now: Time,
        index: usize,
        reason: ReasonCode,
        method: Option<&str>,
        data: Option<Vec<u8>>,
    ) {
        let Some(method) = method else { return };
        let written =
            self.with_session(index, |session, output| session.authenticate(reason, method, data.as_deref(), output));
        if written == Some(false) {
            let what = "the client takes no packet as large as the answer to its AUTH".to_owned(); // MQTT-3.1.2-24
            self.close_for(now, index, ReasonCode::PACKET_TOO_LARGE, what);
        }
    }

    /// MQTT-4.12.1-2: DISCONNECT, which does not tell what was wrong, and the end of the connection. Never a second CONNACK
    /// (MQTT-3.2.0-2).
    fn refuse_auth(&mut self, now: Time, index: usize, why: &str) {
        if let Some(slot) = self.sessions.get(index) {
            let peer = self.peer(index).unwrap_or_default();
            let client_id = &slot.client_id;
            self.log.line(now, |more| {
                tracing::warn!(%client_id, %peer, more, "closed because its re-authentication failed: {why}");
            });
        }
        let reason = ReasonCode::NOT_AUTHORIZED;
        self.stats.protocol_error(reason);
        let close = CloseReason::Violation(reason, "re-authentication failed".to_owned());
        self.end_connection(now, index, Some(reason), close, Ending::Lost);
    }
}
