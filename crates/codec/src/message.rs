//! An application message apart from any packet: what is routed, queued, retained and stored once.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;

use crate::property::{ALIAS_SIZE, write_alias};
use crate::writer::Out;
use crate::{
    PacketId, PacketType, Publish, PublishProperties, QoS, Time, TopicName, TopicRef, UserProperties, VarInt, Version,
    WillProperties,
};

/// An application message. Shared as `Arc<Message>` by all who are owed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: TopicName,
    /// May be empty; a retained message with an empty payload clears what was retained.
    pub payload: Bytes,
    /// The QoS it was published with.
    pub qos: QoS,
    /// The RETAIN flag it was published with.
    pub retain: bool,
    /// When the broker took it, for the expiry that is sent on.
    pub received: Time,
    /// When it stops being worth delivering (Message Expiry Interval).
    pub expires: Option<Time>,
    /// `None` when every property is absent, so that a 3.x message costs nothing more.
    pub properties: Option<Arc<MessageProperties>>,
}

/// The properties of a message that travel with it unchanged. Topic alias and Subscription Identifiers belong to one
/// delivery, and expiry to [`Message::expires`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// The payload is UTF-8 text.
    pub payload_format: Option<bool>,
    /// Where replies go.
    pub response_topic: Option<TopicName>,
    /// What ties a reply to its request.
    pub correlation_data: Option<Bytes>,
    /// What the payload is.
    pub content_type: Option<Arc<str>>,
    /// As [`UserProperties::to_encoded`] and [`UserProperties::push`] make them, and never of another origin: they are written
    /// as they stand. Read with [`UserProperties::from_encoded`].
    pub user_properties: Bytes,
}

/// How a message goes to one peer for the first time, when there is nothing special about it.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// What the peer speaks.
    pub version: Version,
    /// Of this delivery.
    pub qos: QoS,
    /// Of this delivery.
    pub retain: bool,
    /// With QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// What stands for the topic, if the peer knows it; 5.0 only.
    pub alias: Option<NonZeroU16>,
    /// Bytes of the largest packet that the peer takes.
    pub largest: u32,
}

impl Message {
    /// The message that a PUBLISH carries, with `topic` because an alias may stand for it. The payload is copied.
    #[must_use]
    pub fn from_publish(publish: &Publish<'_>, topic: TopicName, now: Time) -> Self {
        Self::from_publish_like(publish, topic, now, None)
    }

    /// As [`Message::from_publish`]; `like` are the properties of an earlier message, which are shared when these are the
    /// same User Properties: a bridge puts the same hop on all that it carries.
    #[must_use]
    pub fn from_publish_like(
        publish: &Publish<'_>,
        topic: TopicName,
        now: Time,
        like: Option<&Arc<MessageProperties>>,
    ) -> Self {
        let properties = &publish.properties;
        Self {
            topic,
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            received: now,
            expires: properties.message_expiry.map(|seconds| now.after_secs(seconds)),
            properties: if properties.is_bare() {
                None
            } else if let Some(like) = like.filter(|like| like.is_said_by(properties)) {
                Some(Arc::clone(like))
            } else {
                MessageProperties::shared(
                    properties.payload_format,
                    properties.response_topic,
                    properties.correlation_data,
                    properties.content_type,
                    properties.user_properties,
                )
            },
        }
    }

    /// Gives a message that has no User Properties those of `default`, shared where it has no property at all.
    pub fn or_user_properties(&mut self, default: &Arc<MessageProperties>) {
        match &mut self.properties {
            Some(own) if own.user_properties.is_empty() => {
                Arc::make_mut(own).user_properties = default.user_properties.clone();
            }
            Some(_) => {}
            None => self.properties = Some(Arc::clone(default)),
        }
    }

    /// The message that a will becomes when it is published at `now`; its expiry counts from then.
    #[must_use]
    pub fn from_will(will: &crate::Will<'_>, now: Time) -> Self {
        let WillProperties { payload_format, message_expiry, content_type, response_topic, correlation_data, .. } =
            will.properties;
        Self {
            topic: will.topic.to_owned(),
            payload: Bytes::copy_from_slice(will.payload),
            qos: will.qos,
            retain: will.retain,
            received: now,
            expires: message_expiry.map(|seconds| now.after_secs(seconds)),
            properties: MessageProperties::shared(
                payload_format,
                response_topic,
                correlation_data,
                content_type,
                will.properties.user_properties,
            ),
        }
    }

    /// Has a message that says it was received after `now`, as one from before the clock went back does, begin at `now`: it has no
    /// more time left than its publisher gave it.
    pub fn begin_by(message: &mut Arc<Self>, now: Time) {
        if message.received > now {
            let own = Arc::make_mut(message);
            own.expires = own.expires.map(|expires| now.after(expires.since(own.received)));
            own.received = now;
        }
    }

    /// Whether its time has passed at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// The PUBLISH that carries it as it stands: its own QoS and RETAIN, the expiry left at `now` in whole seconds
    /// (at least 1 while it is not expired; MQTT-3.3.2-6), no packet identifier, no alias, not a duplicate. Everything else as it
    /// came (MQTT-3.3.2-4, MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-17, MQTT-3.3.2-20; of a will MQTT-3.1.3-10).
    #[must_use]
    pub fn to_publish(&self, now: Time) -> Publish<'_> {
        let mut properties = PublishProperties {
            message_expiry: self
                .expires
                .map(|expires| u32::try_from(expires.since(now).as_millis().div_ceil(1000)).unwrap_or(u32::MAX)),
            ..PublishProperties::default()
        };
        if let Some(own) = &self.properties {
            properties.payload_format = own.payload_format;
            properties.response_topic = own.response_topic.as_ref().map(TopicName::by_ref);
            properties.correlation_data = own.correlation_data.as_deref();
            properties.content_type = own.content_type.as_deref();
            properties.user_properties = UserProperties::from_own(&own.user_properties);
        }
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: Some(self.topic.by_ref()),
            packet_id: None,
            properties,
            payload: &self.payload,
        }
    }

    /// Appends the PUBLISH that [`Message::to_publish`] makes of a message that says nothing but topic, payload and User
    /// Properties. `None`, and nothing is appended, when there is more that the peer has to hear, or the packet is too large;
    /// otherwise the bytes that were appended.
    #[inline]
    pub fn encode_plain(&self, to: &Outgoing, out: &mut Vec<u8>) -> Option<usize> {
        let &Outgoing { version, qos, retain, packet_id, alias, largest } = to;
        // Towards 3.x all properties stay behind.
        let properties = if version.is_v5() { Some(self.only_user_properties()?) } else { None };
        let length = properties.map_or(0, <[u8]>::len) + alias.map_or(0, |_| ALIAS_SIZE);
        let length = VarInt::new(u32::try_from(length).ok()?)?;
        let section = properties.map_or(0, |_| length.size() + length.get() as usize);
        let topic = if alias.is_some() { &[] } else { self.topic.as_str().as_bytes() };
        let topic_length = u16::try_from(topic.len()).ok()?.to_be_bytes();
        let id = if qos == QoS::AtMostOnce { None } else { Some(packet_id?.get().to_be_bytes()) };
        let remaining = 2 + topic.len() + 2 * usize::from(id.is_some()) + section + self.payload.len();
        let remaining = VarInt::new(u32::try_from(remaining).ok()?)?;
        let size = 1 + remaining.size() + remaining.get() as usize;
        if size > largest as usize {
            return None;
        }
        out.reserve(size);
        out.u8((PacketType::Publish as u8) << 4 | qos.bits() << 1 | u8::from(retain));
        out.var_int(remaining);
        out.extend_from_slice(&topic_length);
        out.extend_from_slice(topic);
        if let Some(id) = id {
            out.extend_from_slice(&id);
        }
        if let Some(properties) = properties {
            out.var_int(length);
            if let Some(alias) = alias {
                write_alias(alias, out);
            }
            out.extend_from_slice(properties);
        }
        out.extend_from_slice(&self.payload);
        Some(size)
    }

    /// The User Properties, encoded; `None` when it has any other property, or expires.
    fn only_user_properties(&self) -> Option<&[u8]> {
        let Some(own) = &self.properties else { return self.expires.is_none().then_some(&[]) };
        (self.expires.is_none() && own.has_only_pairs()).then_some(&*own.user_properties)
    }

    /// Bytes that it holds in memory, near enough for a byte-counted limit.
    #[must_use]
    pub fn size(&self) -> usize {
        let properties = self.properties.as_ref().map_or(0, |own| own.size());
        size_of::<Self>() + self.topic.as_str().len() + self.payload.len() + properties
    }
}

impl MessageProperties {
    /// Bytes that it holds in memory, near enough for a byte-counted limit; when it is shared, each message counts it.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.response_topic.as_ref().map_or(0, |topic| topic.as_str().len())
            + self.correlation_data.as_ref().map_or(0, Bytes::len)
            + self.content_type.as_ref().map_or(0, |text| text.len())
            + self.user_properties.len()
    }

    /// Whether there is nothing but User Properties.
    fn has_only_pairs(&self) -> bool {
        self.payload_format.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.content_type.is_none()
    }

    /// Whether `properties` are these, as far as that is seen at once.
    fn is_said_by(&self, properties: &PublishProperties<'_>) -> bool {
        let are_only_pairs = properties.payload_format.is_none()
            && properties.response_topic.is_none()
            && properties.correlation_data.is_none()
            && properties.content_type.is_none();
        are_only_pairs && self.has_only_pairs() && properties.user_properties.is_encoded_as(&self.user_properties)
    }

    fn shared(
        payload_format: Option<bool>,
        response_topic: Option<TopicRef<'_>>,
        correlation_data: Option<&[u8]>,
        content_type: Option<&str>,
        user_properties: UserProperties<'_>,
    ) -> Option<Arc<Self>> {
        let own = Self {
            payload_format,
            response_topic: response_topic.map(TopicRef::to_owned),
            correlation_data: correlation_data.map(Bytes::copy_from_slice),
            content_type: content_type.map(Arc::from),
            user_properties: user_properties.to_encoded().into(),
        };
        (own != Self::default()).then(|| Arc::new(own))
    }
}
