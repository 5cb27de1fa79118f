//! PUBLISH: an application message on the wire.

use std::num::NonZeroU16;

use crate::{PacketId, QoS, SubscriptionIds, TopicRef, UserProperties};

/// An application message between two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// This is a redelivery.
    pub dup: bool,
    /// How hard to try.
    pub qos: QoS,
    /// On the way in: keep it for later subscribers. On the way out: it was kept, or retain as published.
    pub retain: bool,
    /// `None` only in 5.0 with a topic alias: the alias stands for it.
    pub topic: Option<TopicRef<'a>>,
    /// Present exactly when `qos` is 1 or 2.
    pub packet_id: Option<PacketId>,
    /// 5.0; default otherwise.
    pub properties: PublishProperties<'a>,
    /// May be empty.
    pub payload: &'a [u8],
}

/// Properties of a 5.0 PUBLISH. `None` means absent from the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// The payload is UTF-8 text.
    pub payload_format: Option<bool>,
    /// Seconds left to live.
    pub message_expiry: Option<u32>,
    /// A number that stands for the topic on this connection.
    pub topic_alias: Option<NonZeroU16>,
    /// Where replies go.
    pub response_topic: Option<TopicRef<'a>>,
    /// What ties a reply to its request.
    pub correlation_data: Option<&'a [u8]>,
    /// Which subscriptions it answers; only a server sends them.
    pub subscription_ids: SubscriptionIds,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}
