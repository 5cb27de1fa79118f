//! UNSUBSCRIBE: no more of these.

use crate::property::{Place, Properties, Section, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, FilterRef, PacketId, UserProperties, Version};

/// Ask for no more. At least one filter (MQTT-3.10.3-2); 3.1 clients may send none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Echoed in UNSUBACK.
    pub packet_id: PacketId,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
    /// The filters, in wire order, to be compared byte by byte.
    pub filters: Vec<FilterRef<'a>>,
}

const NO_FILTERS: &str = "an UNSUBSCRIBE has at least one filter";

impl<'a> Unsubscribe<'a> {
    /// Reads it.
    pub(crate) fn read(version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let packet_id = reader.packet_id()?;
        let mut user_properties = UserProperties::default();
        if version.is_v5() {
            let mut section = Section::open(Place::UNSUBSCRIBE, &mut reader)?;
            while section.next()?.is_some() {}
            user_properties = section.user_properties();
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(reader.filter()?); // MQTT-3.10.3-1
        }
        if filters.is_empty() && version != Version::V31 {
            return Err(Problem::rule(NO_FILTERS)); // MQTT-3.10.3-2, MQTT-3.10.3-2 of 3.1.1
        }
        Ok(Self { packet_id, user_properties, filters })
    }

    /// Appends it.
    pub(crate) fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        if self.filters.is_empty() && version != Version::V31 {
            return Err(EncodeError::NotInVersion(NO_FILTERS));
        }
        out.packet_id(self.packet_id);
        if version.is_v5() {
            write_section(self, out)?;
        }
        self.filters.iter().try_for_each(|filter| out.binary("topic filter", filter.as_str().as_bytes()))
    }
}

impl Properties for Unsubscribe<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
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
    fn an_empty_one_exists_in_3_1_only() {
        let mut unsubscribe = Unsubscribe {
            packet_id: PacketId::new(1).unwrap(),
            user_properties: UserProperties::default(),
            filters: Vec::new(),
        };
        let packet = Packet::Unsubscribe(unsubscribe.clone());
        assert_eq!(encode(&packet, Version::V31), Ok(vec![0xa2, 2, 0, 1]));
        assert_eq!(encode(&packet, Version::V311), Err(EncodeError::NotInVersion(NO_FILTERS)));
        assert_eq!(encode(&packet, Version::V5), Err(EncodeError::NotInVersion(NO_FILTERS)));
        unsubscribe.filters.push(FilterRef::new("t").unwrap());
        let packet = Packet::Unsubscribe(unsubscribe);
        assert_eq!(encode(&packet, Version::V5), Ok(b"\xa2\x06\0\x01\0\0\x01t".to_vec()));
    }
}
