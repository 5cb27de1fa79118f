//! A client of a test: where its connection is, and what it got.

use std::collections::VecDeque;

use viaduct_codec::{Ack, Frame, Packet, PacketId, QoS, ReasonCode, Version};
use viaduct_engine::ConnectionId;

/// One connection of a test.
#[derive(Debug)]
pub struct Client {
    pub(crate) worker: usize,
    pub(crate) id: ConnectionId,
    pub(crate) version: Version,
    /// Sent and not used up by the broker yet.
    pub(crate) pending: Vec<u8>,
    received: Vec<u8>,
    mailbox: VecDeque<Got>,
    /// Everything that came since it was asked for.
    bytes: Vec<u8>,
    /// Whether the broker has decided to close.
    pub closed: bool,
}

/// A packet that a client got, in the words that tests compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// CONNACK: session present, reason.
    Connack(bool, ReasonCode),
    /// PUBLISH.
    Publish {
        /// Resolved through topic aliases is up to the test: empty when an alias stands for it.
        topic: String,
        /// As it came.
        payload: Vec<u8>,
        /// As it came.
        qos: QoS,
        /// As it came.
        retain: bool,
        /// As it came.
        dup: bool,
        /// Present for QoS 1 and 2.
        id: Option<u16>,
        /// Subscription Identifiers.
        subscription_ids: Vec<u32>,
        /// Seconds left.
        expiry: Option<u32>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP by its packet type, identifier, reason.
    Ack(u8, u16, ReasonCode),
    /// SUBACK: reasons.
    Suback(Vec<ReasonCode>),
    /// UNSUBACK: reasons.
    Unsuback(Vec<ReasonCode>),
    /// PINGRESP.
    Pingresp,
    /// DISCONNECT.
    Disconnect(ReasonCode),
    /// AUTH: reason, method, data.
    Auth(ReasonCode, String, Vec<u8>),
    /// Anything else, by its debug form.
    Other(String),
}

impl Client {
    pub(crate) fn new(worker: usize, id: ConnectionId, version: Version) -> Self {
        Self {
            worker,
            id,
            version,
            pending: Vec::new(),
            received: Vec::new(),
            mailbox: VecDeque::new(),
            bytes: Vec::new(),
            closed: false,
        }
    }

    /// Everything that came and was not taken yet, oldest first.
    pub fn got(&mut self) -> Vec<Got> {
        self.mailbox.drain(..).collect()
    }

    /// Everything that came and was not asked for here yet, as it came. It is in [`Client::got`] too.
    pub fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// As [`Client::got`], only the PUBLISH packets, as topic and payload.
    pub fn messages(&mut self) -> Vec<(String, Vec<u8>)> {
        self.got()
            .into_iter()
            .filter_map(|got| match got {
                Got::Publish { topic, payload, .. } => Some((topic, payload)),
                _ => None,
            })
            .collect()
    }

    /// The PUBACK for an identifier.
    ///
    /// # Panics
    /// The identifier is zero.
    #[must_use]
    pub fn puback(id: u16) -> Packet<'static> {
        Packet::Puback(Ack::new(PacketId::new(id).expect("not zero"), ReasonCode::SUCCESS))
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        self.bytes.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(frame) = Frame::split(self.received.get(used..).unwrap_or_default(), u32::MAX)
            .expect("the broker sends whole packets")
        {
            used += frame.bytes.len();
            let packet = Packet::decode(frame, self.version).expect("the broker sends good packets");
            self.mailbox.push_back(Got::from(&packet));
        }
        self.received.drain(..used);
    }
}

impl From<&Packet<'_>> for Got {
    fn from(packet: &Packet<'_>) -> Self {
        match packet {
            Packet::Connack(connack) => Self::Connack(connack.session_present, connack.reason),
            Packet::Publish(publish) => Self::Publish {
                topic: publish.topic.map(|topic| topic.as_str().to_owned()).unwrap_or_default(),
                payload: publish.payload.to_vec(),
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup,
                id: publish.packet_id.map(PacketId::get),
                subscription_ids: publish.properties.subscription_ids.iter().map(|id| id.get()).collect(),
                expiry: publish.properties.message_expiry,
            },
            Packet::Puback(ack) => Self::Ack(4, ack.packet_id.get(), ack.reason),
            Packet::Pubrec(ack) => Self::Ack(5, ack.packet_id.get(), ack.reason),
            Packet::Pubrel(ack) => Self::Ack(6, ack.packet_id.get(), ack.reason),
            Packet::Pubcomp(ack) => Self::Ack(7, ack.packet_id.get(), ack.reason),
            Packet::Suback(suback) => Self::Suback(suback.reasons.clone()),
            Packet::Unsuback(unsuback) => Self::Unsuback(unsuback.reasons.clone()),
            Packet::Pingresp => Self::Pingresp,
            Packet::Disconnect(disconnect) => Self::Disconnect(disconnect.reason),
            Packet::Auth(auth) => Self::Auth(
                auth.reason,
                auth.method.unwrap_or_default().to_owned(),
                auth.data.unwrap_or_default().to_vec(),
            ),
            other => Self::Other(format!("{other:?}")),
        }
    }
}
