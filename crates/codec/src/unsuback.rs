//! UNSUBACK: the answer to an UNSUBSCRIBE.

use crate::property::{Place, Properties, Property, Section, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, PacketId, PacketType, ReasonCode, UserProperties, Version};

/// Answers to an UNSUBSCRIBE, in its order; in 3.x only the identifier is on the wire and `reasons` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// The UNSUBSCRIBE that is answered.
    pub packet_id: PacketId,
    /// 5.0: one per filter.
    pub reasons: Vec<ReasonCode>,
    /// 5.0: words for a person.
    pub reason_string: Option<&'a str>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
}

const NO_REASONS: &str = "an UNSUBACK of 5.0 answers at least one filter";

impl<'a> Unsuback<'a> {
    /// Reads it.
    pub(crate) fn read(version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let packet_id = reader.packet_id()?;
        let mut unsuback =
            Self { packet_id, reasons: Vec::new(), reason_string: None, user_properties: UserProperties::default() };
        if !version.is_v5() {
            reader.finish()?;
            return Ok(unsuback);
        }
        let mut section = Section::open(Place::UNSUBACK, &mut reader)?;
        while let Some(property) = section.next()? {
            if let Property::ReasonString(text) = property {
                unsuback.reason_string = Some(text);
            }
        }
        unsuback.user_properties = section.user_properties();
        if reader.is_empty() {
            return Err(Problem::rule(NO_REASONS));
        }
        unsuback.reasons.reserve_exact(reader.left());
        while !reader.is_empty() {
            unsuback.reasons.push(ReasonCode::read(PacketType::Unsuback, &mut reader)?);
        }
        Ok(unsuback)
    }

    /// Appends it. In 3.x it says only that the UNSUBSCRIBE was done.
    pub(crate) fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        out.packet_id(self.packet_id);
        if !version.is_v5() {
            return Ok(());
        }
        if self.reasons.is_empty() {
            return Err(EncodeError::NotInVersion(NO_REASONS));
        }
        write_section(self, out)?;
        self.reasons.iter().try_for_each(|reason| reason.write(PacketType::Unsuback, out))
    }
}

impl Properties for Unsuback<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        write_option(self.reason_string, Property::ReasonString, out)?;
        self.user_properties.write(out);
        Ok(())
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

    #[test]
    fn reasons_exist_in_5_0_only() {
        let unsuback = Unsuback {
            packet_id: PacketId::new(7).unwrap(),
            reasons: vec![ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED],
            reason_string: None,
            user_properties: UserProperties::default(),
        };
        let none = Unsuback { reasons: Vec::new(), ..unsuback.clone() };
        assert_eq!(encode(&Packet::Unsuback(unsuback.clone()), Version::V5), Ok(vec![0xb0, 5, 0, 7, 0, 0, 0x11]));
        assert_eq!(encode(&Packet::Unsuback(unsuback), Version::V311), Ok(vec![0xb0, 2, 0, 7]));
        assert_eq!(encode(&Packet::Unsuback(none), Version::V5), Err(EncodeError::NotInVersion(NO_REASONS)));
    }
}
