//! Enhanced authentication between CONNECT and CONNACK (MQTT 5.0 section 4.12).
//!
//! In: a CONNECT that named a method which is offered, and what comes behind it. Out: the user that was proven and what CONNACK
//! tells it, or a refusal. Whatever follows the last AUTH stays for the session. Must never: send DISCONNECT, which does not
//! exist before CONNACK (MQTT-3.14.0-1), or wait for more of a packet than its first byte allows.

use std::sync::Arc;

use viaduct_codec::{Auth, Connect, Frame, Packet, PacketType, ReasonCode, UserProperties, Version};
use viaduct_engine::Identity;
use viaduct_session::server::{Admission, Refusal};

use super::{Entry, Greeting, Held, Turned};
use crate::auth::{Exchange, LoginResult, Proven, Reauthentication, SCRAM, Step};
use crate::counters::ConnectResult;
use crate::tls;
use crate::transport::Transport;

/// First bytes of AUTH, whatever its flags.
const AUTH: u8 = PacketType::Auth as u8;
/// First bytes of DISCONNECT, whatever its flags.
const DISCONNECT: u8 = PacketType::Disconnect as u8;

/// A connection while its method is carried out.
pub(super) struct Conversation<'a> {
    pub(super) greeting: &'a Greeting,
    pub(super) transport: Transport,
    /// What came behind CONNECT and was not looked at yet.
    pub(super) rest: Vec<u8>,
    pub(super) held: Held<'a>,
}

/// Why nobody was proven.
enum Failure {
    /// A rule of the protocol was broken.
    Rule(ReasonCode, String),
    /// The client is not who it says.
    Login(String),
    /// There is nobody to answer.
    Gone(Turned),
}

impl Conversation<'_> {
    /// Carries out the exchange. At its end the method's last words are in `admission`.
    pub(super) async fn authenticate(
        mut self,
        connect: &Connect<'_>,
        admission: &mut Admission,
    ) -> Result<Entry, Turned> {
        let proven = match self.prove(connect, admission.maximum_packet_size).await {
            Ok(proven) => proven,
            Err(failure) => return Err(self.fail(admission, failure)),
        };
        if let Err(why) = self.is_who_it_says(connect, &proven.user) {
            return Err(self.fail(admission, Failure::Login(why)));
        }
        if let Some(authentication) = &mut admission.authentication {
            authentication.data = Some(proven.text.into_bytes()); // MQTT-4.12.0-5
        }
        let Self { greeting, transport, rest, .. } = self;
        if let Err(refusal) = admission.check_connack(&greeting.policy.terms) {
            return Err(greeting.refused(Some(admission.level), &refusal, transport));
        }
        let broker = &greeting.worker.broker;
        broker.logins.count(LoginResult::Scram);
        let user: Arc<str> = proven.user.into();
        Ok(Entry {
            transport,
            rest,
            credential: broker.users.credential(&user),
            reauthentication: Some(Box::new(Reauthentication::new(Arc::clone(broker), Arc::clone(&user)))),
            identity: Identity { username: Some(user), local: false },
        })
    }

    async fn prove(&mut self, connect: &Connect<'_>, max_packet_size: u32) -> Result<Proven, Failure> {
        let mut exchange = Exchange::default();
        let mut data = connect.properties.auth_data.map(<[u8]>::to_vec);
        loop {
            // It ends by itself: a client has two things to say, and may leave the first out once.
            let step = exchange.step(&self.greeting.worker.broker.users, data.as_deref());
            match step.map_err(|error| Failure::Login(error.to_string()))? {
                Step::Ask => self.ask(None, max_packet_size)?,
                Step::Challenge(text) => self.ask(Some(text.as_bytes()), max_packet_size)?,
                Step::Proven(proven) => return Ok(proven),
            }
            data = self.answer().await?;
        }
    }

    /// Sends AUTH: the client is to say more.
    fn ask(&mut self, data: Option<&[u8]>, max_packet_size: u32) -> Result<(), Failure> {
        let auth = Packet::Auth(Auth {
            reason: ReasonCode::CONTINUE_AUTHENTICATION, // MQTT-4.12.0-2
            method: Some(SCRAM),                         // MQTT-4.12.0-5
            data,
            // MQTT-3.15.2-2, MQTT-3.15.2-3: without them it is never too large for their sake.
            reason_string: None,
            user_properties: UserProperties::default(),
        });
        let mut bytes = Vec::new();
        let encoded = auth.encode(Version::V5, &mut bytes);
        if encoded.is_err() || bytes.len() > max_packet_size as usize {
            let why = format!("it takes packets of at most {max_packet_size} bytes, the challenge has {}", bytes.len());
            return Err(Failure::Rule(ReasonCode::PACKET_TOO_LARGE, why)); // MQTT-3.1.2-24
        }
        // A few bytes into an empty socket: if they don't fit, nobody reads there.
        if self.transport.try_write(&bytes).ok() != Some(bytes.len()) {
            return Err(Failure::Gone(Turned::gone()));
        }
        self.greeting.worker.traffic.bytes_sent.add(bytes.len() as u64);
        Ok(())
    }

    /// Waits for AUTH; its data.
    async fn answer(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let broken = |reason, why: &str| Failure::Rule(reason, why.to_owned());
        let decoded = |error: viaduct_codec::DecodeError| Failure::Rule(error.reason(), error.to_string());
        let rule = ReasonCode::PROTOCOL_ERROR;
        loop {
            if self.rest.first().is_some_and(|first| !matches!(first >> 4, AUTH | DISCONNECT)) {
                // MQTT-3.1.2-30
                return Err(broken(rule, "something else than AUTH came before its authentication was over"));
            }
            let max = self.greeting.policy.terms.maximum_packet_size;
            let Some(frame) = Frame::split(&self.rest, max).map_err(decoded)? else {
                let Self { greeting, transport, rest, held } = self;
                greeting.fill(transport, rest, held).await.map_err(Failure::Gone)?;
                continue;
            };
            let length = frame.bytes.len();
            let data = match Packet::decode(frame, Version::V5).map_err(decoded)? {
                Packet::Auth(auth) if auth.reason != ReasonCode::CONTINUE_AUTHENTICATION => {
                    // MQTT-4.12.0-3; with another reason it is a client that re-authenticates too early, or a server.
                    return Err(broken(rule, "AUTH before CONNACK has another reason than to continue"));
                }
                Packet::Auth(auth) if auth.method != Some(SCRAM) => {
                    // MQTT-4.12.0-5
                    return Err(broken(rule, "AUTH names another authentication method than CONNECT"));
                }
                Packet::Auth(auth) => auth.data.map(<[u8]>::to_vec),
                // It said goodbye, as it may.
                _ => return Err(Failure::Gone(Turned::gone())),
            };
            self.rest.drain(..length);
            return Ok(data);
        }
    }

    /// A certificate and a user name in CONNECT decide nothing here, but they may not say otherwise.
    fn is_who_it_says(&self, connect: &Connect<'_>, user: &str) -> Result<(), String> {
        let certificates = self.transport.peer_certificates();
        let named = tls::certificate_name(certificates, self.greeting.policy.username_from)?;
        if let Some(name) = named.filter(|name| name != user) {
            return Err(format!("user {user:?} came with the certificate of {name:?}"));
        }
        match connect.username {
            Some(name) if name != user => Err(format!("user {user:?} called itself {name:?} in CONNECT")),
            _ => Ok(()),
        }
    }

    fn fail(self, admission: &Admission, failure: Failure) -> Turned {
        let broker = &self.greeting.worker.broker;
        let (reason, result, why) = match failure {
            Failure::Gone(turned) => return Turned { level: Some(admission.level), ..turned },
            Failure::Rule(reason, why) => {
                broker.protocol_errors.count(reason);
                (reason, ConnectResult::RefusedConnect, why)
            }
            Failure::Login(why) => {
                broker.logins.count(LoginResult::BadScram);
                (ReasonCode::NOT_AUTHORIZED, ConnectResult::RefusedLogin, why)
            }
        };
        let why = format!("ClientID {:?}: {SCRAM}: {why}", admission.client_id.as_str());
        let refusal = Refusal::after_admission(admission, reason); // MQTT-3.1.4-2, MQTT-4.12.0-4
        Turned { level: Some(admission.level), result, why: Some(why), answer: Some((refusal.answer, self.transport)) }
    }
}
