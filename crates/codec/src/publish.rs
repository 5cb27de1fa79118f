//! PUBLISH: an application message on the wire.

use std::num::NonZeroU16;

use crate::property::{Place, Properties, Property, Section, write_option, write_property, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, Fault, PacketId, QoS, SubscriptionIds, TopicError, TopicRef, UserProperties, Version};

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

/// The fixed-header flags of PUBLISH (section 3.3.1).
mod flag {
    pub(super) const RETAIN: u8 = 0x01;
    pub(super) const QOS_SHIFT: u8 = 1;
    pub(super) const DUP: u8 = 0x08;
}

impl<'a> Publish<'a> {
    /// Reads it.
    #[inline]
    pub(crate) fn read(flags: u8, version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let qos = QoS::from_bits(flags >> flag::QOS_SHIFT & 3)
            .ok_or(Problem::Malformed(Fault::Value { field: "QoS", value: 3 }))?; // MQTT-3.3.1-4, MQTT-3.3.1-4 of 3.1.1
        let mut dup = flags & flag::DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            if version != Version::V31 {
                return Err(Problem::Malformed(Fault::Flags(flags))); // MQTT-3.3.1-2, MQTT-3.3.1-2 of 3.1.1
            }
            dup = false; // 3.1 has no rule for it, and it can mean nothing
        }
        // MQTT-3.3.2-1, MQTT-3.3.2-1 of 3.1.1: it comes first, and is text.
        let topic = match reader.topic("topic name") {
            Ok(topic) => Some(topic),
            Err(Problem::Protocol(Fault::Topic { error: TopicError::Empty, .. })) if version.is_v5() => None,
            Err(problem) => return Err(problem),
        };
        // MQTT-2.2.1-2, MQTT-2.3.1-5 of 3.1.1: no Packet Identifier at QoS 0.
        let packet_id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
        let properties =
            if version.is_v5() { PublishProperties::read(&mut reader)? } else { PublishProperties::default() };
        if topic.is_none() && properties.topic_alias.is_none() {
            return Err(Problem::rule("a PUBLISH needs a topic name or a Topic Alias")); // section 3.3.2.1
        }
        Ok(Self {
            dup,
            qos,
            retain: flags & flag::RETAIN != 0,
            topic,
            packet_id,
            properties,
            payload: reader.remainder(),
        })
    }

    /// As [`crate::Packet::len_bound`].
    pub(crate) fn len_bound(&self) -> usize {
        let properties = &self.properties;
        let text = |text: Option<&str>| text.map_or(0, |text| 3 + text.len());
        // First byte, lengths of packet, topic and properties, identifier; format, expiry and alias.
        (1 + 4 + 2 + 4 + 2)
            + (2 + 5 + 3)
            + self.topic.map_or(0, |topic| topic.as_str().len())
            + text(properties.response_topic.map(TopicRef::as_str))
            + text(properties.content_type)
            + properties.correlation_data.map_or(0, |data| 3 + data.len())
            + properties.user_properties.len_bound()
            + 5 * properties.subscription_ids.len()
            + self.payload.len()
    }

    /// The fixed-header flags. DUP at QoS 0 says nothing and is not written (MQTT-3.3.1-2, MQTT-4.3.1-1,
    /// MQTT-4.3.1-1 of 3.1.1).
    pub(crate) const fn flags(&self) -> u8 {
        let dup = self.dup && !matches!(self.qos, QoS::AtMostOnce);
        (dup as u8 * flag::DUP) | self.qos.bits() << flag::QOS_SHIFT | (self.retain as u8 * flag::RETAIN)
    }

    /// Appends it.
    pub(crate) fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        let topic = match self.topic {
            Some(topic) => topic.as_str(),
            None if version.is_v5() && self.properties.topic_alias.is_some() => "",
            None => return Err(EncodeError::NotInVersion("a PUBLISH needs a topic name, in 5.0 or a Topic Alias")),
        };
        out.binary("topic name", topic.as_bytes())?;
        match (self.qos, self.packet_id) {
            (QoS::AtMostOnce, None) => {}
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Some(id)) => out.packet_id(id),
            _ => {
                return Err(EncodeError::NotInVersion(
                    "a PUBLISH has a Packet Identifier exactly when its QoS is 1 or 2",
                ));
            }
        }
        if version.is_v5() {
            write_section(&self.properties, out)?;
        }
        out.put(self.payload);
        Ok(())
    }
}

impl<'a> PublishProperties<'a> {
    /// Whether there is none that a message carries along; topic alias and Subscription Identifiers belong to one
    /// delivery.
    pub(crate) fn is_bare(&self) -> bool {
        self.payload_format.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.content_type.is_none()
            && self.user_properties.is_empty()
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let mut own = Self::default();
        let mut section = Section::open(Place::PUBLISH, reader)?;
        if section.is_empty() {
            return Ok(own); // the usual case, without a turn of the machinery
        }
        while let Some(property) = section.next()? {
            match property {
                Property::PayloadFormat(flag) => own.payload_format = Some(flag),
                Property::MessageExpiry(seconds) => own.message_expiry = Some(seconds),
                Property::TopicAlias(alias) => own.topic_alias = Some(alias),
                Property::ResponseTopic(topic) => own.response_topic = Some(topic),
                Property::CorrelationData(bytes) => own.correlation_data = Some(bytes),
                Property::SubscriptionId(id) => own.subscription_ids.push(id),
                Property::ContentType(text) => own.content_type = Some(text),
                _ => {}
            }
        }
        own.user_properties = section.user_properties();
        Ok(own)
    }
}

impl Properties for PublishProperties<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        write_option(self.payload_format, Property::PayloadFormat, out)?;
        write_option(self.message_expiry, Property::MessageExpiry, out)?;
        write_option(self.topic_alias, Property::TopicAlias, out)?;
        write_option(self.response_topic, Property::ResponseTopic, out)?;
        write_option(self.correlation_data, Property::CorrelationData, out)?;
        for &id in &self.subscription_ids {
            write_property(Property::SubscriptionId(id), out)?;
        }
        write_option(self.content_type, Property::ContentType, out)?;
        self.user_properties.write(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packet, VarInt};

    fn encode(packet: &Packet<'_>, version: Version) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        packet.encode(version, &mut out).map(|()| out)
    }

    fn publish(qos: QoS) -> Publish<'static> {
        Publish {
            dup: true,
            qos,
            retain: false,
            topic: TopicRef::new("t").ok(),
            packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(10) },
            properties: PublishProperties::default(),
            payload: b"x",
        }
    }

    #[test]
    fn dup_is_not_written_at_qos_0() {
        assert_eq!(encode(&Packet::Publish(publish(QoS::AtMostOnce)), Version::V311), Ok(b"\x30\x04\0\x01tx".to_vec()));
        assert_eq!(
            encode(&Packet::Publish(publish(QoS::AtLeastOnce)), Version::V5),
            Ok(b"\x3a\x07\0\x01t\0\x0a\0x".to_vec())
        );
    }

    #[test]
    fn the_identifier_goes_with_the_qos() {
        let refused =
            |publish| matches!(encode(&Packet::Publish(publish), Version::V5), Err(EncodeError::NotInVersion(_)));
        assert!(refused(Publish { packet_id: None, ..publish(QoS::ExactlyOnce) }));
        assert!(refused(Publish { packet_id: PacketId::new(1), ..publish(QoS::AtMostOnce) }));
    }

    #[test]
    fn an_alias_stands_for_the_topic_in_5_0_only() {
        let mut by_alias = publish(QoS::AtMostOnce);
        by_alias.topic = None;
        by_alias.properties.topic_alias = NonZeroU16::new(7);
        let packet = Packet::Publish(by_alias.clone());
        assert_eq!(encode(&packet, Version::V5), Ok(b"\x30\x07\0\0\x03\x23\0\x07x".to_vec()));
        assert!(encode(&packet, Version::V311).is_err());
        by_alias.properties.topic_alias = None;
        assert!(encode(&Packet::Publish(by_alias), Version::V5).is_err());
    }

    #[test]
    fn properties_stay_behind_towards_3_x() {
        let mut full = publish(QoS::AtMostOnce);
        full.properties.content_type = Some("c");
        full.properties.subscription_ids.extend(VarInt::new(1));
        assert_eq!(encode(&Packet::Publish(full), Version::V31), Ok(b"\x30\x04\0\x01tx".to_vec()));
    }

    #[test]
    fn what_the_wire_can_not_carry_is_not_written() {
        let mut zero = publish(QoS::AtMostOnce);
        zero.properties.subscription_ids.extend(VarInt::new(0));
        let refused = Err(EncodeError::Value { field: "Subscription Identifier", value: 0 });
        assert_eq!(encode(&Packet::Publish(zero), Version::V5), refused);
        let mut null = publish(QoS::AtMostOnce);
        null.properties.content_type = Some("\0");
        assert_eq!(encode(&Packet::Publish(null), Version::V5), Err(EncodeError::Text("Content Type")));
    }
}
