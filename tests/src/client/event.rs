//! What came from the broker, owned.

use std::collections::HashMap;

use viaduct_codec::{Ack, Connack, Packet, PacketType, Publish, QoS, ReasonCode, UserProperties};

/// What CONNACK said. Fields as [`viaduct_codec::ConnackProperties`] has them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Welcome {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub session_expiry: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_id: Option<String>,
    pub topic_alias_maximum: Option<u16>,
    pub reason_string: Option<String>,
    pub server_keep_alive: Option<u16>,
}

impl Welcome {
    /// Nothing was said yet.
    pub(super) const NONE: Self = Self {
        session_present: false,
        reason: ReasonCode::UNSPECIFIED_ERROR,
        session_expiry: None,
        receive_maximum: None,
        maximum_qos: None,
        retain_available: None,
        maximum_packet_size: None,
        assigned_client_id: None,
        topic_alias_maximum: None,
        reason_string: None,
        server_keep_alive: None,
    };
}

/// An application message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Message {
    /// As it was meant: an alias is resolved.
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    /// Packet identifier, for QoS 1 and 2.
    pub id: Option<u16>,
    /// The alias, if it came with one.
    pub alias: Option<u16>,
    pub payload_format: Option<bool>,
    pub message_expiry: Option<u32>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
    pub content_type: Option<String>,
    pub user_properties: Vec<(String, String)>,
    pub subscription_ids: Vec<u32>,
}

impl Message {
    /// The payload as text.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// A packet from the broker, or the end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Event {
    Connack(Box<Welcome>),
    Message(Box<Message>),
    /// A message went to the inbox.
    Arrived,
    /// One of the four acknowledgements.
    Ack {
        kind: PacketType,
        id: u16,
        reason: ReasonCode,
        reason_string: Option<String>,
    },
    Suback {
        id: u16,
        reasons: Vec<ReasonCode>,
        reason_string: Option<String>,
    },
    Unsuback {
        id: u16,
        reasons: Vec<ReasonCode>,
    },
    Pong,
    Disconnect {
        reason: ReasonCode,
        reason_string: Option<String>,
        server_reference: Option<String>,
    },
    Auth {
        reason: ReasonCode,
    },
    Closed,
}

impl Event {
    /// The event that `packet` is. `aliases` are those that the broker has set on this connection.
    ///
    /// # Panics
    /// On a packet that only clients send.
    pub(super) fn of(packet: &Packet<'_>, aliases: &mut HashMap<u16, String>) -> Self {
        match packet {
            Packet::Connack(connack) => Self::Connack(Box::new(welcome(connack))),
            Packet::Publish(publish) => Self::Message(Box::new(message(publish, aliases))),
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
                acknowledgement(packet.kind(), ack)
            }
            Packet::Suback(suback) => Self::Suback {
                id: suback.packet_id.get(),
                reasons: suback.reasons.clone(),
                reason_string: suback.reason_string.map(str::to_owned),
            },
            Packet::Unsuback(unsuback) => {
                Self::Unsuback { id: unsuback.packet_id.get(), reasons: unsuback.reasons.clone() }
            }
            Packet::Pingresp => Self::Pong,
            Packet::Disconnect(disconnect) => Self::Disconnect {
                reason: disconnect.reason,
                reason_string: disconnect.reason_string.map(str::to_owned),
                server_reference: disconnect.server_reference.map(str::to_owned),
            },
            Packet::Auth(auth) => Self::Auth { reason: auth.reason },
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => {
                panic!("the broker sent a packet that only clients send: {packet:?}")
            }
        }
    }
}

fn acknowledgement(kind: PacketType, ack: &Ack<'_>) -> Event {
    Event::Ack {
        kind,
        id: ack.packet_id.get(),
        reason: ack.reason,
        reason_string: ack.reason_string.map(str::to_owned),
    }
}

fn welcome(connack: &Connack<'_>) -> Welcome {
    let properties = &connack.properties;
    Welcome {
        session_present: connack.session_present,
        reason: connack.reason,
        session_expiry: properties.session_expiry,
        receive_maximum: properties.receive_maximum.map(Into::into),
        maximum_qos: properties.maximum_qos,
        retain_available: properties.retain_available,
        maximum_packet_size: properties.maximum_packet_size.map(Into::into),
        assigned_client_id: properties.assigned_client_id.map(str::to_owned),
        topic_alias_maximum: properties.topic_alias_maximum,
        reason_string: properties.reason_string.map(str::to_owned),
        server_keep_alive: properties.server_keep_alive,
    }
}

fn message(publish: &Publish<'_>, aliases: &mut HashMap<u16, String>) -> Message {
    let properties = &publish.properties;
    let alias = properties.topic_alias.map(u16::from);
    let topic = match (publish.topic, alias) {
        (Some(topic), alias) => {
            if let Some(alias) = alias {
                aliases.insert(alias, topic.to_string());
            }
            topic.to_string()
        }
        (None, Some(alias)) => aliases.get(&alias).unwrap_or_else(|| panic!("alias {alias} was never set")).clone(),
        (None, None) => panic!("neither topic nor alias: {publish:?}"),
    };
    Message {
        topic,
        payload: publish.payload.to_vec(),
        qos: publish.qos,
        retain: publish.retain,
        dup: publish.dup,
        id: publish.packet_id.map(viaduct_codec::PacketId::get),
        alias,
        payload_format: properties.payload_format,
        message_expiry: properties.message_expiry,
        response_topic: properties.response_topic.map(|topic| topic.to_string()),
        correlation_data: properties.correlation_data.map(<[u8]>::to_vec),
        content_type: properties.content_type.map(str::to_owned),
        user_properties: pairs(properties.user_properties),
        subscription_ids: properties.subscription_ids.iter().map(|id| id.get()).collect(),
    }
}

fn pairs(properties: UserProperties<'_>) -> Vec<(String, String)> {
    properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
