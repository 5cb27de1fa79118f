//! SUBSCRIBE: filters, and how their messages shall come.

use crate::property::{Place, Properties, Property, Section, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, Fault, FilterRef, PacketId, QoS, UserProperties, VarInt, Version};

/// Ask for messages. At least one entry (MQTT-3.8.3-2); 3.1 clients may send none and get an empty SUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Echoed in SUBACK.
    pub packet_id: PacketId,
    /// 5.0: goes with every message that these filters bring; never 0.
    pub subscription_id: Option<VarInt>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
    /// The filters, in wire order.
    pub entries: Vec<SubscribeEntry<'a>>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeEntry<'a> {
    /// Checked, shared or not.
    pub filter: FilterRef<'a>,
    /// How its messages shall come.
    pub options: SubscribeOptions,
}

/// The options byte of a subscription (MQTT 5.0 section 3.8.3.1). In 3.x only the QoS is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// The highest QoS to deliver with.
    pub qos: QoS,
    /// Not what this ClientID published itself.
    pub no_local: bool,
    /// Keep the RETAIN flag of the publisher on live messages.
    pub retain_as_published: bool,
    /// Whether retained messages come on subscribing.
    pub retain_handling: RetainHandling,
}

/// Whether retained messages come on subscribing (MQTT 5.0 section 3.3.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: always.
    #[default]
    Send = 0,
    /// 1: only when the session did not have the subscription yet.
    SendIfNew = 1,
    /// 2: never.
    DoNotSend = 2,
}

/// The bits of the options byte (section 3.8.3.1).
mod bit {
    pub(super) const QOS: u8 = 0x03;
    pub(super) const NO_LOCAL: u8 = 0x04;
    pub(super) const RETAIN_AS_PUBLISHED: u8 = 0x08;
    pub(super) const RETAIN_HANDLING_SHIFT: u8 = 4;
    pub(super) const RESERVED: u8 = 0xc0;
    pub(super) const RESERVED_IN_3: u8 = !QOS;
}

const NO_FILTERS: &str = "a SUBSCRIBE has at least one filter";
const NO_LOCAL_SHARED: &str = "No Local is not allowed on a shared subscription";

impl<'a> Subscribe<'a> {
    /// Reads it.
    pub(crate) fn read(version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let packet_id = reader.packet_id()?;
        let mut subscribe =
            Self { packet_id, subscription_id: None, user_properties: UserProperties::default(), entries: Vec::new() };
        if version.is_v5() {
            let mut section = Section::open(Place::SUBSCRIBE, &mut reader)?;
            while let Some(property) = section.next()? {
                if let Property::SubscriptionId(id) = property {
                    subscribe.subscription_id = Some(id);
                }
            }
            subscribe.user_properties = section.user_properties();
        }
        while !reader.is_empty() {
            let filter = reader.filter()?; // MQTT-3.8.3-1
            let options = SubscribeOptions::read(version, &mut reader)?;
            if options.no_local && filter.share().is_some() {
                return Err(Problem::rule(NO_LOCAL_SHARED)); // MQTT-3.8.3-4
            }
            subscribe.entries.push(SubscribeEntry { filter, options });
        }
        if subscribe.entries.is_empty() && version != Version::V31 {
            return Err(Problem::rule(NO_FILTERS)); // MQTT-3.8.3-2, MQTT-3.8.3-3 of 3.1.1
        }
        Ok(subscribe)
    }

    /// Appends it.
    pub(crate) fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        if self.entries.is_empty() && version != Version::V31 {
            return Err(EncodeError::NotInVersion(NO_FILTERS));
        }
        out.packet_id(self.packet_id);
        if version.is_v5() {
            write_section(self, out)?;
        }
        for SubscribeEntry { filter, options } in &self.entries {
            out.binary("topic filter", filter.as_str().as_bytes())?;
            if version.is_v5() {
                if options.no_local && filter.share().is_some() {
                    return Err(EncodeError::NotInVersion(NO_LOCAL_SHARED));
                }
                out.u8(options.byte());
            } else {
                out.u8(options.qos.bits());
            }
        }
        Ok(())
    }
}

impl Properties for Subscribe<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        write_option(self.subscription_id, Property::SubscriptionId, out)?;
        self.user_properties.write(out);
        Ok(())
    }
}

impl SubscribeOptions {
    fn read(version: Version, reader: &mut Reader<'_>) -> Result<Self, Problem> {
        let byte = reader.u8("subscription options")?;
        let reserved = if version.is_v5() { bit::RESERVED } else { bit::RESERVED_IN_3 };
        if byte & reserved != 0 {
            // MQTT-3.8.3-5, MQTT-3.8.3-4 of 3.1.1
            return Err(Problem::Malformed(Fault::Value { field: "subscription options", value: byte.into() }));
        }
        let qos = QoS::from_bits(byte & bit::QOS)
            .ok_or(Problem::Malformed(Fault::Value { field: "subscription QoS", value: 3 }))?;
        let retain_handling = match byte >> bit::RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            other => return Err(Problem::Protocol(Fault::Value { field: "Retain Handling", value: other.into() })),
        };
        Ok(Self {
            qos,
            no_local: byte & bit::NO_LOCAL != 0,
            retain_as_published: byte & bit::RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    const fn byte(self) -> u8 {
        self.qos.bits()
            | (self.no_local as u8 * bit::NO_LOCAL)
            | (self.retain_as_published as u8 * bit::RETAIN_AS_PUBLISHED)
            | (self.retain_handling as u8) << bit::RETAIN_HANDLING_SHIFT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Packet;

    fn encode(packet: &Packet<'_>, version: Version) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        packet.encode(version, &mut out).map(|()| out)
    }

    fn subscribe(filter: &'static str, options: SubscribeOptions) -> Packet<'static> {
        Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            subscription_id: VarInt::new(5),
            user_properties: UserProperties::default(),
            entries: vec![SubscribeEntry { filter: FilterRef::new(filter).unwrap(), options }],
        })
    }

    const ALL_SET: SubscribeOptions = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };

    #[test]
    fn options_are_written_as_far_as_the_version_has_them() {
        let packet = subscribe("t", ALL_SET);
        assert_eq!(encode(&packet, Version::V5), Ok(b"\x82\x09\0\x01\x02\x0b\x05\0\x01t\x2e".to_vec()));
        assert_eq!(encode(&packet, Version::V311), Ok(b"\x82\x06\0\x01\0\x01t\x02".to_vec()));
    }

    #[test]
    fn no_local_is_not_written_on_a_shared_subscription() {
        let packet = subscribe("$share/g/t", ALL_SET);
        assert_eq!(encode(&packet, Version::V5), Err(EncodeError::NotInVersion(NO_LOCAL_SHARED)));
        assert!(encode(&packet, Version::V311).is_ok(), "3.1.1 has no such option to forbid");
    }

    #[test]
    fn every_legal_options_byte_comes_back() {
        let legal = (0..=0xff_u8).filter(|byte| {
            let mut reader = Reader::new(std::slice::from_ref(byte));
            SubscribeOptions::read(Version::V5, &mut reader).is_ok_and(|options| options.byte() == *byte)
        });
        assert_eq!(legal.count(), 3 * 2 * 2 * 3);
    }
}
