//! CONNECT against what a listener offers: accepted parameters, or a refusal.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use viaduct_codec::{ClientId, Connect, Level, Message, ReasonCode, Time, Version};

use super::accept;
use super::refusal::{Refusal, RefusalKind};
use super::will::Will;
use crate::delivery::QueueLimits;

/// What a broker offers the clients of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The protocol levels that the listener takes.
    pub allowed_levels: Vec<Level>,
    /// QoS 1 and 2 messages that it takes from one client at a time; announced to 5.0 and not enforced on 3.x.
    pub receive_maximum: u16,
    /// The largest packet that it takes, bytes, fixed header included; announced to 5.0.
    pub maximum_packet_size: u32,
    /// Topic aliases that it takes from a 5.0 client.
    pub topic_alias_maximum: u16,
    /// Seconds; a 5.0 client that asks for more, or for none, is given this, a 3.x client is refused.
    pub max_keep_alive: Option<u16>,
    /// Seconds; longer sessions are cut to it.
    pub max_session_expiry: Option<u32>,
    /// Bytes.
    pub max_client_id_length: usize,
    /// Whether RETAIN is taken.
    pub retain_available: bool,
    /// QoS 1 and 2 messages sent to a 3.x client at a time.
    pub max_inflight_v3: u16,
    /// QoS 1 and 2 messages sent to a 5.0 client at a time, if it takes as many.
    pub max_inflight_v5: u16,
    /// What may wait for one session.
    pub queue: Arc<QueueLimits>,
    /// Methods of enhanced authentication that a 5.0 client may name.
    pub authentication_methods: Vec<Arc<str>>,
    /// User Properties, encoded, for a client that asks by [`crate::NODE_PROPERTY`]; empty: it gets no answer.
    pub introduction: Vec<u8>,
    /// Whether a client that answers PUBREL with Packet Identifier not found asks for the message once more, because the one that it had
    /// passed it on to has lost it: a bridge of this broker. For any other it means that the message is done.
    pub client_asks_again: bool,
}

impl Default for Terms {
    /// Every level, and the defaults of the configuration.
    fn default() -> Self {
        Self {
            allowed_levels: Level::ALL.to_vec(),
            receive_maximum: 100,
            maximum_packet_size: 1 << 20,
            topic_alias_maximum: 10,
            max_keep_alive: None,
            max_session_expiry: None,
            max_client_id_length: 256,
            retain_available: true,
            max_inflight_v3: 20,
            max_inflight_v5: 1_000,
            queue: Arc::default(),
            authentication_methods: Vec::new(),
            introduction: Vec::new(),
            client_asks_again: false,
        }
    }
}

/// Everything that CONNECT settled, owned: it travels to wherever the session lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The session's name.
    pub client_id: ClientId,
    /// The broker made the name up, because the client sent none.
    pub assigned: bool,
    /// The protocol level.
    pub level: Level,
    /// Discard what there is of the session.
    pub clean_start: bool,
    /// Seconds that the session outlives the connection; `u32::MAX` never ends.
    pub session_expiry: u32,
    /// Seconds that the client asked for, by which its DISCONNECT is judged (MQTT 5.0 section 3.14.2.2.2).
    pub session_expiry_asked: u32,
    /// It is not what the client asked for, and 5.0 is told so.
    pub session_expiry_changed: bool,
    /// Seconds, as it is enforced; 0 is off.
    pub keep_alive: u16,
    /// It is not what the client asked for, and 5.0 is told so.
    pub server_keep_alive: Option<u16>,
    /// QoS 1 and 2 messages that may be sent to the client at a time.
    pub receive_maximum: u16,
    /// The largest packet that the client takes, bytes; `u32::MAX` for no limit.
    pub maximum_packet_size: u32,
    /// Topic aliases that the client takes.
    pub topic_alias_maximum: u16,
    /// Whether answers may carry words for a person.
    pub problem_information: bool,
    /// What to publish when the connection ends badly.
    pub will: Option<Will>,
    /// Enhanced authentication, if the client named a method that is offered.
    pub authentication: Option<Authentication>,
    /// It asks for our name, and this is its own.
    pub node: Option<Neighbour>,
}

/// Another broker, which is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// What it calls itself.
    pub name: Box<str>,
    /// Which of its bridges this is, if it says ([`crate::BRIDGE_PROPERTY`]).
    pub bridge: Option<Box<str>>,
    /// It has no other link ([`crate::LEAF_PROPERTY`]).
    pub is_leaf: bool,
}

/// What CONNACK says about enhanced authentication (MQTT-4.12.0-5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The method that CONNECT named.
    pub method: Arc<str>,
    /// The method's last words; set by whoever carries out the exchange, between [`admit`] and [`Session::attach`].
    ///
    /// [`Session::attach`]: super::Session::attach
    pub data: Option<Vec<u8>>,
}

/// Judges a CONNECT by `terms`. `assign` makes a ClientID for a client that sent none and may.
///
/// # Errors
/// Why it is refused, with the bytes that say so.
pub fn admit(
    connect: &Connect<'_>,
    terms: &Terms,
    now: Time,
    assign: impl FnOnce() -> ClientId,
) -> Result<Admission, Refusal> {
    let version = connect.level.version();
    let maximum_packet_size = connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
    let refuse = |reason, kind| Refusal::new(version, reason, kind).within(maximum_packet_size);
    if !terms.allowed_levels.contains(&connect.level) {
        let kind = RefusalKind::Level { offered: connect.level.byte(), allowed: terms.allowed_levels.clone() };
        return Err(refuse(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, kind));
    }
    let authentication = match connect.properties.auth_method {
        None => None,
        Some(named) => match terms.authentication_methods.iter().find(|offered| ***offered == *named) {
            Some(method) => Some(Authentication { method: Arc::clone(method), data: None }),
            // MQTT-4.12.0-1
            None => return Err(refuse(ReasonCode::BAD_AUTHENTICATION_METHOD, RefusalKind::AuthenticationMethod)),
        },
    };
    let keep_alive =
        keep_alive(connect, terms).map_err(|kind| refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, kind))?;
    let (session_expiry, session_expiry_changed) = session_expiry(connect, terms);
    let will = will(connect, terms, now).map_err(|kind| refuse(ReasonCode::RETAIN_NOT_SUPPORTED, kind))?;
    let assigned = connect.client_id.is_empty();
    let client_id =
        // MQTT-3.1.3-8, MQTT-3.1.3-9 of 3.1.1
        client_id(connect, terms, assign).map_err(|kind| refuse(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, kind))?;
    let window = match version {
        Version::V31 | Version::V311 => terms.max_inflight_v3,
        Version::V5 => {
            let client = connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
            terms.max_inflight_v5.min(client)
        }
    };
    let admission = Admission {
        client_id,
        assigned,
        level: connect.level,
        clean_start: connect.clean_start,
        session_expiry,
        session_expiry_asked: connect.properties.session_expiry.unwrap_or(0),
        session_expiry_changed,
        keep_alive,
        server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
        receive_maximum: window.max(1),
        maximum_packet_size,
        topic_alias_maximum: connect.properties.topic_alias_maximum.unwrap_or(0),
        problem_information: connect.properties.request_problem_information.unwrap_or(true),
        will,
        authentication,
        node: neighbour(connect),
    };
    admission.check_connack(terms)?;
    Ok(admission)
}

impl Admission {
    /// Whether the client takes the CONNACK that lets it in. To be asked again when [`Authentication::data`] is set.
    ///
    /// # Errors
    /// It does not: a client that could never read the answer is better refused than left waiting for it (MQTT-3.1.2-24).
    pub fn check_connack(&self, terms: &Terms) -> Result<(), Refusal> {
        let version = self.level.version();
        let (size, max) =
            (accept(self, terms, false).encoded_len(version).unwrap_or(usize::MAX), self.maximum_packet_size);
        if size <= max as usize {
            return Ok(());
        }
        let kind = RefusalKind::ConnackTooLarge { size, max };
        Err(Refusal::new(version, ReasonCode::PACKET_TOO_LARGE, kind).within(max))
    }
}

fn neighbour(connect: &Connect<'_>) -> Option<Neighbour> {
    let said = |what: &str| connect.properties.user_properties.iter().find(|(name, _)| *name == what).map(|it| it.1);
    let name = said(crate::NODE_PROPERTY)?.into();
    let bridge = said(crate::BRIDGE_PROPERTY).map(Into::into);
    Some(Neighbour { name, bridge, is_leaf: said(crate::LEAF_PROPERTY) == Some("1") })
}

/// Any that is not too long is taken (MQTT-3.1.3-5 of 3.1.1).
fn client_id(connect: &Connect<'_>, terms: &Terms, assign: impl FnOnce() -> ClientId) -> Result<ClientId, RefusalKind> {
    let given = connect.client_id;
    if !given.is_empty() {
        let (length, max) = (given.len(), terms.max_client_id_length);
        return if length <= max { Ok(given.into()) } else { Err(RefusalKind::ClientIdTooLong { length, max }) };
    }
    match connect.level.version() {
        // 3.1 knows no empty ClientID; 3.1.1 only for a session that does not stay (MQTT-3.1.3-7 of 3.1.1,
        // MQTT-3.1.3-8 of 3.1.1).
        Version::V31 => Err(RefusalKind::ClientIdEmpty),
        Version::V311 if !connect.clean_start => Err(RefusalKind::ClientIdEmpty),
        Version::V311 | Version::V5 => Ok(assign()), // MQTT-3.1.3-6, MQTT-3.1.3-6 of 3.1.1, MQTT-3.2.2-16
    }
}

fn keep_alive(connect: &Connect<'_>, terms: &Terms) -> Result<u16, RefusalKind> {
    let asked = connect.keep_alive;
    match terms.max_keep_alive {
        Some(max) if asked == 0 || asked > max => {
            // 5.0 is told (MQTT-3.1.2-21); 3.x has no word for it and would be cut off without knowing why.
            if connect.level.version().is_v5() { Ok(max) } else { Err(RefusalKind::KeepAlive { asked, max }) }
        }
        _ => Ok(asked),
    }
}

fn session_expiry(connect: &Connect<'_>, terms: &Terms) -> (u32, bool) {
    let asked = match connect.level.version() {
        Version::V5 => connect.properties.session_expiry.unwrap_or(0),
        Version::V31 | Version::V311 => {
            if connect.clean_start {
                0
            } else {
                u32::MAX
            }
        }
    };
    let given = terms.max_session_expiry.map_or(asked, |max| asked.min(max));
    (given, given != asked)
}

fn will(connect: &Connect<'_>, terms: &Terms, now: Time) -> Result<Option<Will>, RefusalKind> {
    let Some(will) = &connect.will else { return Ok(None) };
    let mut message = Message::from_will(will, now);
    if will.retain && !terms.retain_available {
        if connect.level.version().is_v5() {
            return Err(RefusalKind::WillRetain); // MQTT-3.2.2-13
        }
        message.retain = false;
    }
    Ok(Some(Will { message, delay: will.properties.delay.unwrap_or(0) }))
}
