//! PUBACK, PUBREC, PUBREL and PUBCOMP: one shape for all four.

use crate::property::{Place, Properties, Property, Section, section_size, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, PacketId, PacketType, ReasonCode, UserProperties, Version};

/// The body that the four acknowledgements share. In 3.x only the identifier is on the wire; in 5.0 reason and
/// properties are left out when they say nothing (MQTT 5.0 section 3.4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The exchange that is answered.
    pub packet_id: PacketId,
    /// 5.0; [`ReasonCode::SUCCESS`] in 3.x.
    pub reason: ReasonCode,
    /// 5.0: words for a person.
    pub reason_string: Option<&'a str>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement that says only `reason`.
    #[must_use]
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }

    /// Reads the acknowledgement `kind`. A missing reason is success, missing properties are none.
    #[inline]
    pub(crate) fn read(kind: PacketType, version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::SUCCESS);
        if version.is_v5() && !reader.is_empty() {
            ack.reason = ReasonCode::read(kind, &mut reader)?;
            if !reader.is_empty() {
                let mut section = Section::open(Place::ACK, &mut reader)?;
                while let Some(property) = section.next()? {
                    if let Property::ReasonString(text) = property {
                        ack.reason_string = Some(text);
                    }
                }
                ack.user_properties = section.user_properties();
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Appends it in the shortest form that says it.
    pub(crate) fn write<O: Out>(&self, kind: PacketType, version: Version, out: &mut O) -> Result<(), EncodeError> {
        out.packet_id(self.packet_id);
        if !version.is_v5() {
            return Ok(());
        }
        let has_properties = section_size(self)? > 0;
        if has_properties || self.reason != ReasonCode::SUCCESS {
            self.reason.write(kind, out)?;
        }
        if has_properties {
            write_section(self, out)?;
        }
        Ok(())
    }
}

impl Properties for Ack<'_> {
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

    fn id() -> PacketId {
        PacketId::new(10).unwrap()
    }

    #[test]
    fn the_shortest_form_that_says_it_is_written() {
        let mut ack = Ack::new(id(), ReasonCode::SUCCESS);
        assert_eq!(encode(&Packet::Puback(ack), Version::V5), Ok(vec![0x40, 2, 0, 10]));
        ack.reason = ReasonCode::NO_MATCHING_SUBSCRIBERS;
        assert_eq!(encode(&Packet::Puback(ack), Version::V5), Ok(vec![0x40, 3, 0, 10, 0x10]));
        ack.reason_string = Some("r");
        assert_eq!(encode(&Packet::Puback(ack), Version::V5), Ok(b"\x40\x08\0\x0a\x10\x04\x1f\0\x01r".to_vec()));
        ack.reason = ReasonCode::SUCCESS;
        assert_eq!(encode(&Packet::Puback(ack), Version::V5), Ok(b"\x40\x08\0\x0a\0\x04\x1f\0\x01r".to_vec()));
    }

    #[test]
    fn only_the_identifier_goes_to_3_x() {
        let ack = Ack { reason_string: Some("r"), ..Ack::new(id(), ReasonCode::NOT_AUTHORIZED) };
        assert_eq!(encode(&Packet::Pubrec(ack), Version::V311), Ok(vec![0x50, 2, 0, 10]));
        assert_eq!(encode(&Packet::Pubrel(ack), Version::V31), Ok(vec![0x62, 2, 0, 10]));
    }

    #[test]
    fn a_reason_that_the_packet_does_not_have_is_not_written() {
        let ack = Ack::new(id(), ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
        let refused = Err(EncodeError::Value { field: "reason code", value: 0x92 });
        assert_eq!(encode(&Packet::Puback(ack), Version::V5), refused);
        assert_eq!(encode(&Packet::Pubcomp(ack), Version::V5), Ok(vec![0x70, 3, 0, 10, 0x92]));
    }
}
