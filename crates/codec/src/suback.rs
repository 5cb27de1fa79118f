//! SUBACK: one answer per filter of a SUBSCRIBE.

use crate::property::{Place, Properties, Property, Section, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, Fault, PacketId, PacketType, ReasonCode, UserProperties, Version};

/// Answers to a SUBSCRIBE, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    /// The SUBSCRIBE that is answered.
    pub packet_id: PacketId,
    /// `GRANTED_QOS_0` to `GRANTED_QOS_2`, or a failure; towards 3.1.1 every failure is written as 0x80.
    pub reasons: Vec<ReasonCode>,
    /// 5.0: words for a person.
    pub reason_string: Option<&'a str>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
}

const NO_REASONS: &str = "a SUBACK answers at least one filter";

impl<'a> Suback<'a> {
    /// Reads it. 3.1 knows no failure, but some of its servers send 0x80 all the same, and then it is meant.
    pub(crate) fn read(version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let packet_id = reader.packet_id()?;
        let mut suback =
            Self { packet_id, reasons: Vec::new(), reason_string: None, user_properties: UserProperties::default() };
        if version.is_v5() {
            let mut section = Section::open(Place::SUBACK, &mut reader)?;
            while let Some(property) = section.next()? {
                if let Property::ReasonString(text) = property {
                    suback.reason_string = Some(text);
                }
            }
            suback.user_properties = section.user_properties();
        }
        if reader.is_empty() && version != Version::V31 {
            return Err(Problem::rule(NO_REASONS));
        }
        suback.reasons.reserve_exact(reader.left());
        while !reader.is_empty() {
            let reason = if version.is_v5() {
                ReasonCode::read(PacketType::Suback, &mut reader)?
            } else {
                match reader.u8("return code")? {
                    code @ (0..=2 | 0x80) => ReasonCode(code),
                    // MQTT-3.9.3-2 of 3.1.1
                    code => {
                        return Err(Problem::Malformed(Fault::Value { field: "return code", value: code.into() }));
                    }
                }
            };
            suback.reasons.push(reason);
        }
        Ok(suback)
    }

    /// Appends it.
    pub(crate) fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        out.packet_id(self.packet_id);
        if self.reasons.is_empty() && version != Version::V31 {
            return Err(EncodeError::NotInVersion(NO_REASONS));
        }
        if version.is_v5() {
            write_section(self, out)?;
        }
        for &reason in &self.reasons {
            match version {
                Version::V31 if reason.is_error() => {
                    return Err(EncodeError::NotInVersion("a SUBACK of 3.1 cannot say that a filter was refused"));
                }
                Version::V311 if reason.is_error() => ReasonCode::UNSPECIFIED_ERROR.write(PacketType::Suback, out)?,
                Version::V31 | Version::V311 | Version::V5 => reason.write(PacketType::Suback, out)?,
            }
        }
        Ok(())
    }
}

impl Properties for Suback<'_> {
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

    fn suback(reasons: &[u8]) -> Packet<'static> {
        Packet::Suback(Suback {
            packet_id: PacketId::new(1).unwrap(),
            reasons: reasons.iter().copied().map(ReasonCode).collect(),
            reason_string: None,
            user_properties: UserProperties::default(),
        })
    }

    #[test]
    fn a_failure_is_said_as_the_version_can() {
        let packet = suback(&[0x01, 0x87]);
        assert_eq!(encode(&packet, Version::V5), Ok(vec![0x90, 5, 0, 1, 0, 0x01, 0x87]));
        assert_eq!(encode(&packet, Version::V311), Ok(vec![0x90, 4, 0, 1, 0x01, 0x80]));
        assert!(matches!(encode(&packet, Version::V31), Err(EncodeError::NotInVersion(_))));
        assert_eq!(encode(&suback(&[0x01, 0x02]), Version::V31), Ok(vec![0x90, 4, 0, 1, 0x01, 0x02]));
    }

    #[test]
    fn an_answer_to_nothing_exists_in_3_1_only() {
        assert_eq!(encode(&suback(&[]), Version::V31), Ok(vec![0x90, 2, 0, 1]));
        assert_eq!(encode(&suback(&[]), Version::V311), Err(EncodeError::NotInVersion(NO_REASONS)));
    }
}
