//! Reason codes (MQTT 5.0 section 2.4), and the 3.x return codes as the reasons that mean the same.

use std::fmt;

use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, Fault, PacketType};

/// The name of the byte in errors.
const FIELD: &str = "reason code";

/// A reason code: a byte on the wire, so a value that the standard does not name survives and prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReasonCode(pub u8);

impl ReasonCode {
    /// 0x00: success.
    pub const SUCCESS: Self = Self(0x00);
    /// 0x01: granted QoS 1.
    pub const GRANTED_QOS_1: Self = Self(0x01);
    /// 0x02: granted QoS 2.
    pub const GRANTED_QOS_2: Self = Self(0x02);
    /// 0x04: disconnect with will message.
    pub const DISCONNECT_WITH_WILL: Self = Self(0x04);
    /// 0x10: no matching subscribers.
    pub const NO_MATCHING_SUBSCRIBERS: Self = Self(0x10);
    /// 0x11: no subscription existed.
    pub const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    /// 0x18: continue authentication.
    pub const CONTINUE_AUTHENTICATION: Self = Self(0x18);
    /// 0x19: re-authenticate.
    pub const RE_AUTHENTICATE: Self = Self(0x19);
    /// 0x80: unspecified error.
    pub const UNSPECIFIED_ERROR: Self = Self(0x80);
    /// 0x81: malformed packet.
    pub const MALFORMED_PACKET: Self = Self(0x81);
    /// 0x82: protocol error.
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    /// 0x83: implementation specific error.
    pub const IMPLEMENTATION_SPECIFIC_ERROR: Self = Self(0x83);
    /// 0x84: unsupported protocol version.
    pub const UNSUPPORTED_PROTOCOL_VERSION: Self = Self(0x84);
    /// 0x85: client identifier not valid.
    pub const CLIENT_IDENTIFIER_NOT_VALID: Self = Self(0x85);
    /// 0x86: bad user name or password.
    pub const BAD_USER_NAME_OR_PASSWORD: Self = Self(0x86);
    /// 0x87: not authorized.
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    /// 0x88: server unavailable.
    pub const SERVER_UNAVAILABLE: Self = Self(0x88);
    /// 0x89: server busy.
    pub const SERVER_BUSY: Self = Self(0x89);
    /// 0x8A: banned.
    pub const BANNED: Self = Self(0x8a);
    /// 0x8B: server shutting down.
    pub const SERVER_SHUTTING_DOWN: Self = Self(0x8b);
    /// 0x8C: bad authentication method.
    pub const BAD_AUTHENTICATION_METHOD: Self = Self(0x8c);
    /// 0x8D: keep alive timeout.
    pub const KEEP_ALIVE_TIMEOUT: Self = Self(0x8d);
    /// 0x8E: session taken over.
    pub const SESSION_TAKEN_OVER: Self = Self(0x8e);
    /// 0x8F: topic filter invalid.
    pub const TOPIC_FILTER_INVALID: Self = Self(0x8f);
    /// 0x90: topic name invalid.
    pub const TOPIC_NAME_INVALID: Self = Self(0x90);
    /// 0x91: packet identifier in use.
    pub const PACKET_IDENTIFIER_IN_USE: Self = Self(0x91);
    /// 0x92: packet identifier not found.
    pub const PACKET_IDENTIFIER_NOT_FOUND: Self = Self(0x92);
    /// 0x93: receive maximum exceeded.
    pub const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    /// 0x94: topic alias invalid.
    pub const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    /// 0x95: packet too large.
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    /// 0x96: message rate too high.
    pub const MESSAGE_RATE_TOO_HIGH: Self = Self(0x96);
    /// 0x97: quota exceeded.
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    /// 0x98: administrative action.
    pub const ADMINISTRATIVE_ACTION: Self = Self(0x98);
    /// 0x99: payload format invalid.
    pub const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);
    /// 0x9A: retain not supported.
    pub const RETAIN_NOT_SUPPORTED: Self = Self(0x9a);
    /// 0x9B: QoS not supported.
    pub const QOS_NOT_SUPPORTED: Self = Self(0x9b);
    /// 0x9C: use another server.
    pub const USE_ANOTHER_SERVER: Self = Self(0x9c);
    /// 0x9D: server moved.
    pub const SERVER_MOVED: Self = Self(0x9d);
    /// 0x9E: shared subscriptions not supported.
    pub const SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: Self = Self(0x9e);
    /// 0x9F: connection rate exceeded.
    pub const CONNECTION_RATE_EXCEEDED: Self = Self(0x9f);
    /// 0xA0: maximum connect time.
    pub const MAXIMUM_CONNECT_TIME: Self = Self(0xa0);
    /// 0xA1: subscription identifiers not supported.
    pub const SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED: Self = Self(0xa1);
    /// 0xA2: wildcard subscriptions not supported.
    pub const WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: Self = Self(0xa2);
    /// 0x00 in a DISCONNECT: the will is discarded.
    pub const NORMAL_DISCONNECTION: Self = Self::SUCCESS;
    /// 0x00 in a SUBACK.
    pub const GRANTED_QOS_0: Self = Self::SUCCESS;

    /// Whether it says that something failed: 0x80 and above.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The 3.x CONNACK return code that says the same, 0 to 5; `None` when 3.x has no word for it and the connection
    /// is closed without a CONNACK.
    #[must_use]
    pub const fn to_return_code(self) -> Option<u8> {
        match self {
            Self::SUCCESS => Some(0),
            Self::UNSUPPORTED_PROTOCOL_VERSION => Some(1),
            Self::CLIENT_IDENTIFIER_NOT_VALID => Some(2),
            Self::SERVER_UNAVAILABLE
            | Self::SERVER_BUSY
            | Self::SERVER_SHUTTING_DOWN
            | Self::QUOTA_EXCEEDED
            | Self::USE_ANOTHER_SERVER
            | Self::SERVER_MOVED
            | Self::CONNECTION_RATE_EXCEEDED => Some(3),
            Self::BAD_USER_NAME_OR_PASSWORD => Some(4),
            Self::NOT_AUTHORIZED | Self::BANNED | Self::BAD_AUTHENTICATION_METHOD => Some(5),
            _ => None,
        }
    }

    /// The reason that a 3.x CONNACK return code stands for; `None` above 5, which 3.x reserves.
    #[must_use]
    pub const fn from_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::SUCCESS,
            1 => Self::UNSUPPORTED_PROTOCOL_VERSION,
            2 => Self::CLIENT_IDENTIFIER_NOT_VALID,
            3 => Self::SERVER_UNAVAILABLE,
            4 => Self::BAD_USER_NAME_OR_PASSWORD,
            5 => Self::NOT_AUTHORIZED,
            _ => return None,
        })
    }

    /// Whether the table of that packet names it (MQTT-3.2.2-8, MQTT-3.4.2-1, MQTT-3.5.2-1, MQTT-3.6.2-1, MQTT-3.7.2-1,
    /// MQTT-3.9.3-2, MQTT-3.11.3-2, MQTT-3.14.2-1, MQTT-3.15.2-1). Who sends it is not looked at. DISCONNECT takes 0x8C too: section 4.12 sends it there, though table 3.14.2.1 forgets it.
    pub(crate) const fn belongs_in(self, kind: PacketType) -> bool {
        match kind {
            PacketType::Connack => matches!(
                self.0,
                0x00 | 0x80..=0x8a | 0x8c | 0x90 | 0x95 | 0x97 | 0x99 | 0x9a | 0x9b | 0x9c | 0x9d | 0x9f
            ),
            PacketType::Puback | PacketType::Pubrec => {
                matches!(self.0, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            PacketType::Pubrel | PacketType::Pubcomp => matches!(self.0, 0x00 | 0x92),
            PacketType::Suback => {
                matches!(self.0, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91 | 0x97 | 0x9e | 0xa1 | 0xa2)
            }
            PacketType::Unsuback => matches!(self.0, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8f | 0x91),
            PacketType::Disconnect => matches!(
                self.0,
                0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b..=0x90 | 0x93..=0xa2
            ),
            PacketType::Auth => matches!(self.0, 0x00 | 0x18 | 0x19),
            PacketType::Connect
            | PacketType::Publish
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::Pingreq
            | PacketType::Pingresp => false,
        }
    }

    /// Reads one that `kind` may carry.
    pub(crate) fn read(kind: PacketType, reader: &mut Reader<'_>) -> Result<Self, Problem> {
        let reason = Self(reader.u8(FIELD)?);
        if reason.belongs_in(kind) {
            Ok(reason)
        } else {
            Err(Problem::Protocol(Fault::Value { field: FIELD, value: reason.0.into() }))
        }
    }

    /// Appends it, if `kind` may carry it.
    pub(crate) fn write(self, kind: PacketType, out: &mut impl Out) -> Result<(), EncodeError> {
        if !self.belongs_in(kind) {
            return Err(EncodeError::Value { field: FIELD, value: self.0.into() });
        }
        out.u8(self.0);
        Ok(())
    }

    /// What the standard calls it; `None` when it does not name it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "success",
            Self::GRANTED_QOS_1 => "granted QoS 1",
            Self::GRANTED_QOS_2 => "granted QoS 2",
            Self::DISCONNECT_WITH_WILL => "disconnect with will message",
            Self::NO_MATCHING_SUBSCRIBERS => "no matching subscribers",
            Self::NO_SUBSCRIPTION_EXISTED => "no subscription existed",
            Self::CONTINUE_AUTHENTICATION => "continue authentication",
            Self::RE_AUTHENTICATE => "re-authenticate",
            Self::UNSPECIFIED_ERROR => "unspecified error",
            Self::MALFORMED_PACKET => "malformed packet",
            Self::PROTOCOL_ERROR => "protocol error",
            Self::IMPLEMENTATION_SPECIFIC_ERROR => "implementation specific error",
            Self::UNSUPPORTED_PROTOCOL_VERSION => "unsupported protocol version",
            Self::CLIENT_IDENTIFIER_NOT_VALID => "client identifier not valid",
            Self::BAD_USER_NAME_OR_PASSWORD => "bad user name or password",
            Self::NOT_AUTHORIZED => "not authorized",
            Self::SERVER_UNAVAILABLE => "server unavailable",
            Self::SERVER_BUSY => "server busy",
            Self::BANNED => "banned",
            Self::SERVER_SHUTTING_DOWN => "server shutting down",
            Self::BAD_AUTHENTICATION_METHOD => "bad authentication method",
            Self::KEEP_ALIVE_TIMEOUT => "keep alive timeout",
            Self::SESSION_TAKEN_OVER => "session taken over",
            Self::TOPIC_FILTER_INVALID => "topic filter invalid",
            Self::TOPIC_NAME_INVALID => "topic name invalid",
            Self::PACKET_IDENTIFIER_IN_USE => "packet identifier in use",
            Self::PACKET_IDENTIFIER_NOT_FOUND => "packet identifier not found",
            Self::RECEIVE_MAXIMUM_EXCEEDED => "receive maximum exceeded",
            Self::TOPIC_ALIAS_INVALID => "topic alias invalid",
            Self::PACKET_TOO_LARGE => "packet too large",
            Self::MESSAGE_RATE_TOO_HIGH => "message rate too high",
            Self::QUOTA_EXCEEDED => "quota exceeded",
            Self::ADMINISTRATIVE_ACTION => "administrative action",
            Self::PAYLOAD_FORMAT_INVALID => "payload format invalid",
            Self::RETAIN_NOT_SUPPORTED => "retain not supported",
            Self::QOS_NOT_SUPPORTED => "QoS not supported",
            Self::USE_ANOTHER_SERVER => "use another server",
            Self::SERVER_MOVED => "server moved",
            Self::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED => "shared subscriptions not supported",
            Self::CONNECTION_RATE_EXCEEDED => "connection rate exceeded",
            Self::MAXIMUM_CONNECT_TIME => "maximum connect time",
            Self::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED => "subscription identifiers not supported",
            Self::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED => "wildcard subscriptions not supported",
            _ => return None,
        })
    }
}

/// A CONNACK return code of 3.x that refuses, as it came; for people, who look it up under its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnCode(pub u8);

impl ReturnCode {
    /// What 3.1.1 calls it (table 3.1); `None` when it reserves it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "connection accepted",
            1 => "unacceptable protocol version",
            2 => "identifier rejected",
            3 => "server unavailable",
            4 => "bad user name or password",
            5 => "not authorized",
            _ => return None,
        })
    }
}

/// The standard's name and the number: `not authorized (return code 5)`.
impl fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} (return code {})", self.0),
            None => write!(f, "return code {}", self.0),
        }
    }
}

/// The standard's name and the byte: `not authorized (0x87)`.
impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({:#04x})", self.0),
            None => write!(f, "reason {:#04x}", self.0),
        }
    }
}
