//! What can be wrong with bytes, whose fault it is, and the one map from there to a reason code.

use std::fmt;

use thiserror::Error;

use crate::{PacketType, ReasonCode, TopicError};

/// Why a packet could not be read. "Not enough bytes yet" is not among them: that is `Ok(None)` of
/// [`crate::Frame::split`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes break the wire format (reason 0x81).
    #[error("malformed {packet}: {fault}")]
    Malformed {
        /// In which packet.
        packet: PacketName,
        /// How.
        fault: Fault,
    },
    /// The bytes are well formed and say what may not be said (reason 0x82 unless the fault has its own).
    #[error("protocol error in {packet}: {fault}")]
    Protocol {
        /// In which packet.
        packet: PacketName,
        /// How.
        fault: Fault,
    },
    /// The fixed header announces more than the limit (reason 0x95).
    #[error("{packet} of {size} bytes, {max} are allowed")]
    TooLarge {
        /// Which packet.
        packet: PacketName,
        /// Bytes announced, fixed header included.
        size: u32,
        /// Bytes allowed.
        max: u32,
    },
    /// CONNECT names MQTT and a level that this codec does not know.
    #[error("CONNECT with protocol name {name:?} and unknown level {level}")]
    UnknownLevel {
        /// `MQTT` or `MQIsdp`.
        name: &'static str,
        /// The level byte.
        level: u8,
    },
    /// What came is not MQTT at all.
    #[error("not MQTT: it looks like {0}")]
    NotMqtt(Looks),
}

/// A packet type for messages; `None` is type 0, which is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketName(pub Option<PacketType>);

/// What is wrong, and what was expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Fixed-header flags other than the ones that the standard fixes (MQTT-2.1.3-1).
    #[error("fixed-header flags {0:#06b} are reserved")]
    Flags(u8),
    /// A variable byte integer of more than four bytes, or longer than it needs to be.
    #[error("a variable byte integer is longer than it may be")]
    VarInt,
    /// A field runs past the end of the packet.
    #[error("the packet ends inside {0}")]
    Short(&'static str),
    /// Bytes are left after the last field.
    #[error("{0} bytes are left after the last field")]
    Trailing(usize),
    /// A string is not UTF-8, or holds U+0000 (MQTT-1.5.4-1 and -2).
    #[error("{0} is not valid UTF-8 without U+0000")]
    Text(&'static str),
    /// A topic name or filter breaks a rule.
    #[error("{field}: {error}")]
    Topic {
        /// Which field.
        field: &'static str,
        /// Which rule.
        error: TopicError,
    },
    /// Reserved bits are set, or a value is out of range.
    #[error("{field} is {value:#04x}, which is not allowed")]
    Value {
        /// Which field.
        field: &'static str,
        /// What came.
        value: u32,
    },
    /// A property identifier that does not exist.
    #[error("property {0:#04x} does not exist")]
    UnknownProperty(u32),
    /// A property that this packet may not carry.
    #[error("property {0} is not allowed here")]
    MisplacedProperty(&'static str),
    /// A property that may come once came twice.
    #[error("property {0} came twice")]
    RepeatedProperty(&'static str),
    /// A field that must be there is missing, or one that must not be is there.
    #[error("{0}")]
    Rule(&'static str),
}

/// What a stream that is not MQTT looks like, for the operator who dialled the wrong port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Looks {
    /// A TLS ClientHello.
    TlsClientHello,
    /// A TLS alert or other TLS record.
    TlsRecord,
    /// An HTTP request.
    HttpRequest,
    /// An HTTP response.
    HttpResponse,
    /// A PROXY protocol header.
    ProxyHeader,
    /// An SSH banner.
    Ssh,
    /// An MQTT packet, but not the one that must come first.
    OtherPacket(PacketType),
    /// A CONNECT with a protocol name that is neither `MQTT` nor `MQIsdp`.
    OtherProtocolName,
    /// Noise.
    Noise,
}

/// What the wire can't carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// A string or binary field over 65,535 bytes.
    #[error("{field} is {size} bytes, 65,535 is the most the wire carries")]
    FieldTooLong {
        /// Which field.
        field: &'static str,
        /// Its bytes.
        size: usize,
    },
    /// A packet whose remaining length is over 268,435,455.
    #[error("the packet is {0} bytes, 268,435,455 is the most the wire carries")]
    PacketTooLong(usize),
    /// A packet or a field that the version does not have, or a field whose absence the version does not allow.
    #[error("{0}")]
    NotInVersion(&'static str),
}

impl DecodeError {
    /// The reason code that goes with the error: the only place that chooses one.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Malformed { .. } | Self::NotMqtt(_) => ReasonCode::MALFORMED_PACKET,
            Self::Protocol { .. } => ReasonCode::PROTOCOL_ERROR,
            Self::TooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
            Self::UnknownLevel { .. } => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
        }
    }
}

impl Looks {
    /// What the first bytes of a stream look like when they are not the start of an acceptable CONNECT (as a server
    /// sees it) or CONNACK (as a client sees it).
    #[must_use]
    pub fn like(_first_bytes: &[u8]) -> Self {
        todo!()
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TlsClientHello => "a TLS ClientHello",
            Self::TlsRecord => "a TLS record",
            Self::HttpRequest => "an HTTP request",
            Self::HttpResponse => "an HTTP response",
            Self::ProxyHeader => "a PROXY protocol header",
            Self::Ssh => "an SSH banner",
            Self::OtherPacket(kind) => return write!(f, "an MQTT {kind}"),
            Self::OtherProtocolName => "a CONNECT with an unknown protocol name",
            Self::Noise => "noise",
        };
        f.write_str(text)
    }
}

impl fmt::Display for PacketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(kind) => kind.fmt(f),
            None => f.write_str("packet type 0"),
        }
    }
}
