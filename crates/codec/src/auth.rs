//! AUTH: enhanced authentication, 5.0 only.

use crate::property::{Place, Properties, Property, Section, section_size, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, PacketType, ReasonCode, UserProperties};

/// One step of an authentication exchange (MQTT 5.0 section 3.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// `SUCCESS`, `CONTINUE_AUTHENTICATION` or `RE_AUTHENTICATE`.
    pub reason: ReasonCode,
    /// The method's name, the same through the whole exchange.
    pub method: Option<&'a str>,
    /// What the method says.
    pub data: Option<&'a [u8]>,
    /// Words for a person.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    /// Reads it. An empty AUTH is success without properties (section 3.15.2.1); every other one names its method.
    pub(crate) fn read(mut reader: Reader<'a>) -> Result<Self, Problem> {
        let mut auth = Self {
            reason: ReasonCode::SUCCESS,
            method: None,
            data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        };
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = ReasonCode::read(PacketType::Auth, &mut reader)?; // MQTT-3.15.2-1
        if !reader.is_empty() {
            let mut section = Section::open(Place::AUTH, &mut reader)?;
            while let Some(property) = section.next()? {
                match property {
                    Property::AuthMethod(text) => auth.method = Some(text),
                    Property::AuthData(bytes) => auth.data = Some(bytes),
                    Property::ReasonString(text) => auth.reason_string = Some(text),
                    _ => {}
                }
            }
            auth.user_properties = section.user_properties();
        }
        if auth.method.is_none() {
            return Err(Problem::rule("AUTH names its Authentication Method"));
        }
        reader.finish()?;
        Ok(auth)
    }

    /// Appends it.
    pub(crate) fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        if self.method.is_none() {
            if self.reason == ReasonCode::SUCCESS && section_size(self)? == 0 {
                return Ok(());
            }
            return Err(EncodeError::NotInVersion("AUTH names its Authentication Method"));
        }
        self.reason.write(PacketType::Auth, out)?;
        write_section(self, out)
    }
}

impl Properties for Auth<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        write_option(self.method, Property::AuthMethod, out)?;
        write_option(self.data, Property::AuthData, out)?;
        write_option(self.reason_string, Property::ReasonString, out)?;
        self.user_properties.write(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packet, Version};

    fn encode(packet: &Packet<'_>, version: Version) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        packet.encode(version, &mut out).map(|()| out)
    }

    fn auth(method: Option<&str>) -> Packet<'_> {
        Packet::Auth(Auth {
            reason: ReasonCode::CONTINUE_AUTHENTICATION,
            method,
            data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        })
    }

    #[test]
    fn every_auth_but_the_empty_one_names_its_method() {
        assert_eq!(encode(&auth(Some("X")), Version::V5), Ok(b"\xf0\x06\x18\x04\x15\0\x01X".to_vec()));
        assert!(matches!(encode(&auth(None), Version::V5), Err(EncodeError::NotInVersion(_))));
        let Packet::Auth(empty) = auth(None) else { return };
        let empty = Auth { reason: ReasonCode::SUCCESS, ..empty };
        assert_eq!(encode(&Packet::Auth(empty), Version::V5), Ok(vec![0xf0, 0]));
        assert!(Auth::read(Reader::new(&[0x18])).is_err());
    }

    #[test]
    fn there_is_none_in_3_x() {
        assert_eq!(encode(&auth(Some("X")), Version::V311), Err(EncodeError::NotInVersion("AUTH exists in 5.0 only")));
    }
}
