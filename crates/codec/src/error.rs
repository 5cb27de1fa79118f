//! What can be wrong with bytes, whose fault it is, and the one map from there to a reason code.

use std::fmt;

use thiserror::Error;

use crate::{Looks, PacketType, ReasonCode, TopicError};

/// Why a packet could not be read. "Not enough bytes yet" is not among them: that is `Ok(None)` of
/// [`crate::Frame::split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
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
    /// A string is not UTF-8, or holds U+0000 (MQTT-1.5.4-1 and MQTT-1.5.4-2).
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
    /// Topic Alias 0, which has a reason code of its own (MQTT-3.3.2-8).
    #[error("Topic Alias is 0, which stands for nothing")]
    TopicAlias,
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
    /// A string that holds U+0000 (MQTT-1.5.4-2).
    #[error("{0} holds U+0000")]
    Text(&'static str),
    /// A value that the packet may not carry, such as a reason code that belongs to others.
    #[error("{field} may not be {value:#04x}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it was to be.
        value: u32,
    },
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
            Self::Protocol { fault: Fault::TopicAlias, .. } => ReasonCode::TOPIC_ALIAS_INVALID,
            // A filter or name that breaks section 4.7 has codes that say so; they are more use to the peer than 0x82.
            // The standard leaves the choice open: docs/decisions/0002.
            Self::Protocol { packet: PacketName(kind), fault: Fault::Topic { .. } } => match kind {
                Some(PacketType::Subscribe | PacketType::Unsubscribe) => ReasonCode::TOPIC_FILTER_INVALID,
                _ => ReasonCode::TOPIC_NAME_INVALID,
            },
            Self::Protocol { .. } => ReasonCode::PROTOCOL_ERROR,
            Self::TooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
            Self::UnknownLevel { .. } => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_has_its_reason() {
        let named = |kind| PacketName(Some(kind));
        let topic = Fault::Topic { field: "it", error: TopicError::Empty };
        let of = |error: DecodeError| error.reason();
        let protocol = |kind, fault| of(DecodeError::Protocol { packet: named(kind), fault });
        assert_eq!(
            of(DecodeError::Malformed { packet: PacketName(None), fault: Fault::VarInt }),
            ReasonCode::MALFORMED_PACKET
        );
        assert_eq!(protocol(PacketType::Publish, Fault::Rule("x")), ReasonCode::PROTOCOL_ERROR);
        assert_eq!(protocol(PacketType::Publish, Fault::TopicAlias), ReasonCode::TOPIC_ALIAS_INVALID);
        assert_eq!(protocol(PacketType::Publish, topic), ReasonCode::TOPIC_NAME_INVALID);
        assert_eq!(protocol(PacketType::Connect, topic), ReasonCode::TOPIC_NAME_INVALID);
        assert_eq!(protocol(PacketType::Subscribe, topic), ReasonCode::TOPIC_FILTER_INVALID);
        assert_eq!(protocol(PacketType::Unsubscribe, topic), ReasonCode::TOPIC_FILTER_INVALID);
        let packet = named(PacketType::Publish);
        assert_eq!(of(DecodeError::TooLarge { packet, size: 2, max: 1 }), ReasonCode::PACKET_TOO_LARGE);
        assert_eq!(of(DecodeError::UnknownLevel { name: "MQTT", level: 9 }), ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
        assert_eq!(of(DecodeError::NotMqtt(Looks::Noise)), ReasonCode::MALFORMED_PACKET);
    }
}
