//! Refusals of CONNECT: why, and the bytes that say so in the words of the version that was spoken.

use thiserror::Error;
use viaduct_codec::{Connack, ConnackProperties, DecodeError, Level, Packet, ReasonCode, Version};

use super::admit::Admission;

/// A CONNECT is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct Refusal {
    /// The reason, as 5.0 names it.
    pub reason: ReasonCode,
    /// The CONNACK, encoded; empty when the connection is closed without a word.
    pub answer: Vec<u8>,
    /// For the log.
    pub why: RefusalKind,
}

/// Why a CONNECT is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefusalKind {
    /// The level is known and the listener does not take it.
    #[error("protocol level {offered} is not allowed on this listener, which takes {}", levels(allowed))]
    Level {
        /// What came.
        offered: u8,
        /// What is taken.
        allowed: Vec<Level>,
    },
    /// The name is known and the level is not.
    #[error("protocol level {offered} is unknown")]
    UnknownLevel {
        /// What came.
        offered: u8,
    },
    /// No ClientID where one is needed.
    #[error("the ClientID is empty, which 3.1 never and 3.1.1 only with Clean Session allows")]
    ClientIdEmpty,
    /// The ClientID is longer than the limit.
    #[error("the ClientID has {length} bytes, {max} are allowed (limits.max_client_id_length)")]
    ClientIdTooLong {
        /// Bytes that came.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not even the CONNACK fits.
    #[error("the client takes packets of at most {max} bytes, the CONNACK has {size}")]
    ConnackTooLarge {
        /// Bytes of the CONNACK.
        size: usize,
        /// The client's Maximum Packet Size.
        max: u32,
    },
    /// The ClientID is one that clients from outside may not use.
    #[error("ClientIDs that begin with $bridge/ belong to the broker's own bridges")]
    ClientIdReserved,
    /// A 3.x client asks for a longer keep alive than the limit.
    #[error("keep alive {asked} s is over the limit of {max} s (limits.max_keepalive) and 3.x can't be told another")]
    KeepAlive {
        /// What came, in seconds; 0 is off.
        asked: u16,
        /// The limit, in seconds.
        max: u16,
    },
    /// The will is to be retained and nothing is.
    #[error("the will asks to be retained and retained messages are disabled (retained.enabled)")]
    WillRetain,
    /// An authentication method that the broker does not have.
    #[error("the authentication method is not supported")]
    AuthenticationMethod,
    /// User name and password are wrong.
    #[error("user name or password is wrong")]
    BadLogin,
    /// No user name, and anonymous clients are not allowed.
    #[error("anonymous clients are not allowed on this listener (allow_anonymous)")]
    Anonymous,
    /// The bytes are no good CONNECT.
    #[error(transparent)]
    Decode(DecodeError),
    /// The broker has no place for the client now.
    #[error("{0}")]
    Unavailable(String),
    /// Refused by whoever owns the session.
    #[error("{0}")]
    Session(ReasonCode),
}

impl Refusal {
    /// Refuses with `reason` in the words of `version`, never with Session Present (MQTT-3.2.2-4 of 3.1.1). 3.x has five
    /// words; where none fits, the connection is closed without an answer (MQTT-3.2.2-6 of 3.1.1).
    #[must_use]
    pub fn new(version: Version, reason: ReasonCode, why: RefusalKind) -> Self {
        let connack = Connack { session_present: false, reason, properties: ConnackProperties::default() };
        let mut answer = Vec::new();
        if version.is_v5() || reason.to_return_code().is_some() {
            // It has no field that could be too long; were it otherwise, closing without an answer is right as well.
            let _ = Packet::Connack(Box::new(connack)).encode(version, &mut answer);
        }
        Self { reason, answer, why }
    }

    /// Refuses a connection that was admitted and can't have its session. Silent when the client takes no packet that large.
    #[must_use]
    pub fn after_admission(admission: &Admission, reason: ReasonCode) -> Self {
        Self::new(admission.level.version(), reason, RefusalKind::Session(reason)).within(admission.maximum_packet_size)
    }

    /// The same, silent when the client takes no packet that large (MQTT-3.1.2-24).
    #[must_use]
    pub fn within(mut self, maximum_packet_size: u32) -> Self {
        if self.answer.len() > maximum_packet_size as usize {
            self.answer.clear();
        }
        self
    }

    /// Refuses bytes that are no good CONNECT. `first` is what came, as far as it came: when it shows that the client speaks
    /// 5.0 it is told what is wrong, otherwise the connection is closed without an answer. An unknown level is
    /// answered in the words of the version that it comes closest to.
    #[must_use]
    pub fn from_decode(error: &DecodeError, first: &[u8]) -> Self {
        let reason = error.reason();
        match error {
            DecodeError::UnknownLevel { level, .. } => {
                let version = if level & 0x7f < 5 { Version::V311 } else { Version::V5 };
                Self::new(version, reason, RefusalKind::UnknownLevel { offered: *level })
            }
            DecodeError::NotMqtt(_) => Self { reason, answer: Vec::new(), why: RefusalKind::Decode(*error) },
            DecodeError::Malformed { .. } | DecodeError::Protocol { .. } | DecodeError::TooLarge { .. } => {
                let why = RefusalKind::Decode(*error);
                if speaks_v5(first) {
                    Self::new(Version::V5, reason, why)
                } else {
                    Self { reason, answer: Vec::new(), why }
                }
            }
        }
    }
}

/// Whether these are the first bytes of a 5.0 CONNECT.
fn speaks_v5(first: &[u8]) -> bool {
    if first.first() != Some(&0x10) {
        return false;
    }
    // One to four bytes of remaining length, the last of which has bit 7 clear.
    let length = first.iter().skip(1).take(4).position(|byte| byte & 0x80 == 0).map(|position| position + 2);
    let body = length.and_then(|length| first.get(length..)).unwrap_or_default();
    body.starts_with(b"\x00\x04MQTT\x05")
}

fn levels(levels: &[Level]) -> String {
    levels.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
