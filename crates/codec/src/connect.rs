//! CONNECT: who the client is, and what it wants from the session.

use std::num::{NonZeroU16, NonZeroU32};

use crate::{Level, QoS, TopicRef, UserProperties};

/// A client opens the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The protocol level, which says version and bridge bit.
    pub level: Level,
    /// Clean Start (5.0), Clean Session (3.x).
    pub clean_start: bool,
    /// Seconds; 0 turns keep alive off.
    pub keep_alive: u16,
    /// May be empty; what that means depends on the version.
    pub client_id: &'a str,
    /// What to publish when this connection ends badly.
    pub will: Option<Will<'a>>,
    /// Absent and empty are different things.
    pub username: Option<&'a str>,
    /// Binary. Absent and empty are different things.
    pub password: Option<&'a [u8]>,
    /// 5.0; default otherwise.
    pub properties: ConnectProperties<'a>,
}

/// What a 5.0 client asks for. `None` means absent from the wire; the standard's default then holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds that the session outlives the connection; 0 when absent; `u32::MAX` never ends.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 PUBLISH packets the client takes at a time; 65,535 when absent.
    pub receive_maximum: Option<NonZeroU16>,
    /// Bytes, fixed header included; no limit when absent.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Aliases the client takes; 0 when absent.
    pub topic_alias_maximum: Option<u16>,
    /// `false` when absent.
    pub request_response_information: Option<bool>,
    /// `true` when absent; `false` forbids reason strings and user properties outside PUBLISH, CONNACK, DISCONNECT.
    pub request_problem_information: Option<bool>,
    /// Enhanced authentication.
    pub auth_method: Option<&'a str>,
    /// Enhanced authentication.
    pub auth_data: Option<&'a [u8]>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

/// What to publish when the connection ends without a DISCONNECT of reason 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// A topic name, without wildcards.
    pub topic: TopicRef<'a>,
    /// Binary.
    pub payload: &'a [u8],
    /// The QoS to publish with.
    pub qos: QoS,
    /// Whether it becomes the retained message.
    pub retain: bool,
    /// 5.0; default otherwise.
    pub properties: WillProperties<'a>,
}

/// Properties of a 5.0 will. `None` means absent from the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WillProperties<'a> {
    /// Seconds to wait before it is published; 0 when absent.
    pub delay: Option<u32>,
    /// The payload is UTF-8 text.
    pub payload_format: Option<bool>,
    /// Seconds that the message lives once it is published.
    pub message_expiry: Option<u32>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Where replies go.
    pub response_topic: Option<TopicRef<'a>>,
    /// What ties a reply to its request.
    pub correlation_data: Option<&'a [u8]>,
    /// Pairs of the application, forwarded with the message.
    pub user_properties: UserProperties<'a>,
}
