//! What a test publishes, and what it subscribes to.

use std::num::NonZeroU16;

use viaduct_codec::{Packet, PacketId, Publish, PublishProperties, QoS, RetainHandling, TopicRef, UserProperties};

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Entry {
    pub filter: String,
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

impl Entry {
    /// With the standard's defaults.
    #[must_use]
    pub fn new(filter: &str, qos: QoS) -> Self {
        Self {
            filter: filter.to_owned(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }
}

/// A message to be published.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub struct Outgoing {
    /// Empty where only the alias is sent.
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub payload_format: Option<bool>,
    pub message_expiry: Option<u32>,
    pub topic_alias: Option<u16>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
    pub content_type: Option<String>,
    pub user_properties: Vec<(String, String)>,
}

impl Outgoing {
    /// QoS 0, not retained, no properties.
    #[must_use]
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            payload_format: None,
            message_expiry: None,
            topic_alias: None,
            response_topic: None,
            correlation_data: None,
            content_type: None,
            user_properties: Vec::new(),
        }
    }

    /// With this QoS.
    #[must_use]
    pub const fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// To be retained.
    #[must_use]
    pub const fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With a User Property.
    #[must_use]
    pub fn user_property(mut self, name: &str, value: &str) -> Self {
        self.user_properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a life of so many seconds.
    #[must_use]
    pub const fn expires_in(mut self, seconds: u32) -> Self {
        self.message_expiry = Some(seconds);
        self
    }

    /// Hands the packet to `with`.
    ///
    /// # Panics
    /// When the topic is none.
    pub(super) fn with_packet(&self, packet_id: Option<PacketId>, with: impl FnOnce(&Packet<'_>)) {
        let mut pairs = Vec::new();
        for (name, value) in &self.user_properties {
            UserProperties::push(&mut pairs, name, value);
        }
        with(&Packet::Publish(Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: (!self.topic.is_empty()).then(|| TopicRef::new(&self.topic).unwrap()),
            packet_id,
            properties: PublishProperties {
                payload_format: self.payload_format,
                message_expiry: self.message_expiry,
                topic_alias: self.topic_alias.and_then(NonZeroU16::new),
                response_topic: self.response_topic.as_deref().map(|topic| TopicRef::new(topic).unwrap()),
                correlation_data: self.correlation_data.as_deref(),
                content_type: self.content_type.as_deref(),
                user_properties: UserProperties::from_encoded(&pairs),
                ..PublishProperties::default()
            },
            payload: &self.payload,
        }));
    }
}
