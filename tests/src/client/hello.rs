//! CONNECT, as a test wants it.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use rustls::ClientConfig;
use viaduct_codec::{
    Connect, ConnectProperties, Level, Packet, QoS, ReasonCode, TopicRef, UserProperties, Version, Will, WillProperties,
};

use super::Client;
use crate::stream::Stream;

/// Seconds that a session of [`Hello::persistent`] outlives its connection on 5.0: longer than any test.
const LONG: u32 = 3600;

/// A CONNECT to be sent. Made by [`Hello::v5`] and its like; every field can be set afterwards.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Hello {
    pub level: Level,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<WillMessage>,
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_packet_size: Option<u32>,
    pub topic_alias_maximum: Option<u16>,
    pub request_problem_information: Option<bool>,
    pub auth_method: Option<String>,
}

/// A will.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct WillMessage {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub delay: Option<u32>,
    pub message_expiry: Option<u32>,
    pub content_type: Option<String>,
    pub user_properties: Vec<(String, String)>,
}

impl WillMessage {
    /// A will of QoS 1, not retained.
    #[must_use]
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos: QoS::AtLeastOnce,
            retain: false,
            delay: None,
            message_expiry: None,
            content_type: None,
            user_properties: Vec::new(),
        }
    }
}

impl Hello {
    /// Clean, keep alive off, nothing else.
    #[must_use]
    pub fn new(level: Level, client_id: &str) -> Self {
        Self {
            level,
            client_id: client_id.to_owned(),
            clean_start: true,
            keep_alive: 0,
            username: None,
            password: None,
            will: None,
            session_expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: None,
            request_problem_information: None,
            auth_method: None,
        }
    }

    /// 3.1.
    #[must_use]
    pub fn v31(client_id: &str) -> Self {
        Self::new(Level::V31, client_id)
    }

    /// 3.1.1.
    #[must_use]
    pub fn v311(client_id: &str) -> Self {
        Self::new(Level::V311, client_id)
    }

    /// 5.0.
    #[must_use]
    pub fn v5(client_id: &str) -> Self {
        Self::new(Level::V5, client_id)
    }

    /// Any version.
    #[must_use]
    pub fn of(version: Version, client_id: &str) -> Self {
        match version {
            Version::V31 => Self::v31(client_id),
            Version::V311 => Self::v311(client_id),
            Version::V5 => Self::v5(client_id),
        }
    }

    /// With a session that outlives the connection, and taking up one that is there.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.clean_start = false;
        self.session_expiry = (self.version() == Version::V5).then_some(LONG);
        self
    }

    /// With user name and password.
    #[must_use]
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.to_owned());
        self.password = Some(password.as_bytes().to_vec());
        self
    }

    /// With a will.
    #[must_use]
    pub fn will(mut self, will: WillMessage) -> Self {
        self.will = Some(will);
        self
    }

    /// With keep alive, in seconds.
    #[must_use]
    pub const fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// What is spoken.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.level.version()
    }

    /// Connects over TCP.
    ///
    /// # Panics
    /// When the broker refuses.
    #[must_use]
    #[track_caller]
    pub fn connect(&self, address: SocketAddr) -> Client {
        self.try_connect(address).unwrap_or_else(|reason| panic!("{} was refused: {reason}", self.client_id))
    }

    /// Connects over TCP.
    ///
    /// # Errors
    /// As [`Client::over`].
    #[track_caller]
    pub fn try_connect(&self, address: SocketAddr) -> Result<Client, ReasonCode> {
        Client::over(Stream::plain(address), self)
    }

    /// Connects over TLS.
    ///
    /// # Panics
    /// When the handshake fails or the broker refuses.
    #[must_use]
    #[track_caller]
    pub fn connect_tls(&self, address: SocketAddr, config: &Arc<ClientConfig>) -> Client {
        let stream = Stream::tls(address, config).unwrap_or_else(|error| panic!("no TLS: {error}"));
        Client::over(stream, self).unwrap_or_else(|reason| panic!("{} was refused: {reason}", self.client_id))
    }

    /// The packet.
    ///
    /// # Panics
    /// When this version can't say it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut pairs = Vec::new();
        for (name, value) in self.will.iter().flat_map(|will| &will.user_properties) {
            UserProperties::push(&mut pairs, name, value);
        }
        let v5 = self.version() == Version::V5;
        let connect = Connect {
            level: self.level,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            client_id: &self.client_id,
            will: self.will.as_ref().map(|will| Will {
                topic: TopicRef::new(&will.topic).unwrap(),
                payload: &will.payload,
                qos: will.qos,
                retain: will.retain,
                properties: WillProperties {
                    delay: will.delay,
                    message_expiry: will.message_expiry,
                    content_type: will.content_type.as_deref(),
                    user_properties: UserProperties::from_encoded(&pairs),
                    ..WillProperties::default()
                },
            }),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            properties: ConnectProperties {
                session_expiry: self.session_expiry.filter(|_| v5),
                receive_maximum: self.receive_maximum.and_then(NonZeroU16::new),
                maximum_packet_size: self.maximum_packet_size.and_then(NonZeroU32::new),
                topic_alias_maximum: self.topic_alias_maximum,
                request_problem_information: self.request_problem_information,
                auth_method: self.auth_method.as_deref(),
                ..ConnectProperties::default()
            },
        };
        let mut bytes = Vec::new();
        Packet::Connect(Box::new(connect)).encode(self.version(), &mut bytes).unwrap();
        bytes
    }
}
