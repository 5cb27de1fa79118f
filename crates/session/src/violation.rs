//! What the peer did wrong, and the one map from there to a reason code.

use thiserror::Error;
use viaduct_codec::{DecodeError, PacketId, PacketType, ReasonCode};

/// A rule that the other end broke. The text says what was expected and what came.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// The bytes are no good packet.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A packet that this end never receives, or not at this point.
    #[error("{packet} is not expected: {why}")]
    UnexpectedPacket {
        /// Which.
        packet: PacketType,
        /// Why not.
        why: &'static str,
    },
    /// More unacknowledged QoS 1 and 2 messages than were granted (MQTT-3.3.4-7, MQTT-3.3.4-9).
    #[error("more than {granted} QoS 1 and 2 messages are unacknowledged, the receive maximum that was announced")]
    ReceiveMaximumExceeded {
        /// The receive maximum.
        granted: u16,
    },
    /// An alias above the maximum that was announced (MQTT-3.3.2-9).
    #[error("topic alias {alias} is above the announced maximum of {maximum}")]
    TopicAliasTooHigh {
        /// What came.
        alias: u16,
        /// What was announced.
        maximum: u16,
    },
    /// An alias without a topic that was never given one on this connection.
    #[error("topic alias {alias} stands for no topic on this connection")]
    TopicAliasUnknown {
        /// What came.
        alias: u16,
    },
    /// A client sent a Subscription Identifier in a PUBLISH (MQTT-3.3.4-6).
    #[error("a client may not send a Subscription Identifier in a PUBLISH")]
    SubscriptionIdFromClient,
    /// A DISCONNECT that gives a session an expiry which CONNECT did not (MQTT 5.0 section 3.14.2.2.2).
    #[error("DISCONNECT asks for a session expiry of {seconds} s although CONNECT asked for none")]
    SessionExpiryRaised {
        /// What came.
        seconds: u32,
    },
    /// A server may not change the session expiry in DISCONNECT (MQTT-3.14.2-2).
    #[error("a server may not send a session expiry in DISCONNECT")]
    SessionExpiryFromServer,
    /// The server holds a session for a client that asked for a new one (MQTT-3.2.2-2, MQTT-3.2.2-4).
    #[error("the server says that it has a session, although a clean start was asked for")]
    SessionPresent,
    /// An acknowledgement of another kind than the message needs.
    #[error("{packet} for packet identifier {id}, whose message has another QoS")]
    WrongAck {
        /// What came.
        packet: PacketType,
        /// For which message.
        id: PacketId,
    },
    /// An answer to a SUBSCRIBE or UNSUBSCRIBE that nobody sent, or with the wrong number of reasons.
    #[error("{packet} for packet identifier {id} answers nothing that was asked")]
    UnknownAnswer {
        /// What came.
        packet: PacketType,
        /// Its identifier.
        id: PacketId,
    },
    /// No PINGRESP came in time.
    #[error("no PINGRESP within {seconds} s")]
    NoPingresp {
        /// How long was waited.
        seconds: u32,
    },
}

impl Violation {
    /// The reason code for it: the only place that chooses one.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Decode(error) => error.reason(),
            Self::UnexpectedPacket { .. }
            | Self::TopicAliasUnknown { .. }
            | Self::SubscriptionIdFromClient
            | Self::SessionExpiryRaised { .. }
            | Self::SessionExpiryFromServer
            | Self::SessionPresent
            | Self::WrongAck { .. }
            | Self::UnknownAnswer { .. } => ReasonCode::PROTOCOL_ERROR,
            Self::ReceiveMaximumExceeded { .. } => ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
            Self::TopicAliasTooHigh { .. } => ReasonCode::TOPIC_ALIAS_INVALID,
            Self::NoPingresp { .. } => ReasonCode::KEEP_ALIVE_TIMEOUT,
        }
    }
}
