//! DISCONNECT: the last packet of a connection.

use crate::property::{Place, Properties, Property, Section, section_size, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, PacketType, ReasonCode, UserProperties, Version};

/// Why the connection ends. In 3.x only clients send it, and it carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// 5.0; `SUCCESS` (0x00) otherwise, which is also what an empty 5.0 DISCONNECT means.
    pub reason: ReasonCode,
    /// Seconds; overrides what CONNECT asked for. Only a client may send it.
    pub session_expiry: Option<u32>,
    /// Words for a person.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT that says only `reason`.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::default(),
        }
    }

    /// Reads it. Nothing at all means reason 0, a reason alone means no properties (section 3.14.2.1).
    pub(crate) fn read(version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let mut disconnect = Self::new(ReasonCode::NORMAL_DISCONNECTION);
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason = ReasonCode::read(PacketType::Disconnect, &mut reader)?;
            if !reader.is_empty() {
                disconnect.read_properties(&mut reader)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    fn read_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), Problem> {
        let mut section = Section::open(Place::DISCONNECT, reader)?;
        while let Some(property) = section.next()? {
            match property {
                Property::SessionExpiry(seconds) => self.session_expiry = Some(seconds),
                Property::ReasonString(text) => self.reason_string = Some(text),
                Property::ServerReference(text) => self.server_reference = Some(text),
                _ => {}
            }
        }
        self.user_properties = section.user_properties();
        Ok(())
    }

    /// Appends it in the shortest form that says it.
    pub(crate) fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        if !version.is_v5() {
            return Ok(());
        }
        let has_properties = section_size(self)? > 0;
        if has_properties || self.reason != ReasonCode::NORMAL_DISCONNECTION {
            self.reason.write(PacketType::Disconnect, out)?;
        }
        if has_properties {
            write_section(self, out)?;
        }
        Ok(())
    }
}

impl Properties for Disconnect<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        write_option(self.session_expiry, Property::SessionExpiry, out)?;
        write_option(self.reason_string, Property::ReasonString, out)?;
        write_option(self.server_reference, Property::ServerReference, out)?;
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
    fn the_shortest_form_that_says_it_is_written() {
        let normal = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(encode(&Packet::Disconnect(normal), Version::V5), Ok(vec![0xe0, 0]));
        let taken = Disconnect::new(ReasonCode::SESSION_TAKEN_OVER);
        assert_eq!(encode(&Packet::Disconnect(taken), Version::V5), Ok(vec![0xe0, 1, 0x8e]));
        assert_eq!(encode(&Packet::Disconnect(taken), Version::V311), Ok(vec![0xe0, 0]));
        let with_expiry = Disconnect { session_expiry: Some(10), ..normal };
        assert_eq!(encode(&Packet::Disconnect(with_expiry), Version::V5), Ok(vec![0xe0, 7, 0, 5, 0x11, 0, 0, 0, 10]));
    }

    #[test]
    fn a_reason_of_other_packets_is_not_written() {
        let disconnect = Disconnect::new(ReasonCode::PACKET_IDENTIFIER_IN_USE);
        let refused = Err(EncodeError::Value { field: "reason code", value: 0x91 });
        assert_eq!(encode(&Packet::Disconnect(disconnect), Version::V5), refused);
    }
}
