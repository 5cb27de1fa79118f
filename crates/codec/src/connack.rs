//! CONNACK: the answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use crate::property::{Place, Properties, Property, Section, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{EncodeError, Fault, PacketType, QoS, ReasonCode, UserProperties, Version};

/// The server's answer to CONNECT. In 3.x the reason is one of the return codes 0 to 5, which are read and written
/// as the 5.0 reason that means the same (1 = `UNSUPPORTED_PROTOCOL_VERSION`, 2 = `CLIENT_IDENTIFIER_NOT_VALID`,
/// 3 = `SERVER_UNAVAILABLE`, 4 = `BAD_USER_NAME_OR_PASSWORD`, 5 = `NOT_AUTHORIZED`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// The server holds a session for this ClientID. Never on the wire in 3.1.
    pub session_present: bool,
    /// `SUCCESS`, or why not.
    pub reason: ReasonCode,
    /// 5.0; default otherwise.
    pub properties: ConnackProperties<'a>,
}

/// What the server tells a 5.0 client. `None` means absent from the wire; the standard's default then holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnackProperties<'a> {
    /// Seconds; the server's value when it differs from what the client asked for.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 PUBLISH packets the server takes at a time; 65,535 when absent.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS the server takes; 2 when absent. Only 0 and 1 are on the wire.
    pub maximum_qos: Option<QoS>,
    /// `true` when absent.
    pub retain_available: Option<bool>,
    /// Bytes, fixed header included; no limit when absent.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The ClientID that the server made up.
    pub assigned_client_id: Option<&'a str>,
    /// Aliases the server takes; 0 when absent.
    pub topic_alias_maximum: Option<u16>,
    /// Words for a person.
    pub reason_string: Option<&'a str>,
    /// `true` when absent.
    pub wildcard_subscription_available: Option<bool>,
    /// `true` when absent.
    pub subscription_identifiers_available: Option<bool>,
    /// `true` when absent.
    pub shared_subscription_available: Option<bool>,
    /// Seconds; replaces the client's keep alive.
    pub server_keep_alive: Option<u16>,
    /// Where replies may go.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Enhanced authentication.
    pub auth_method: Option<&'a str>,
    /// Enhanced authentication.
    pub auth_data: Option<&'a [u8]>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

/// Authentication data has a method that it belongs to (section 3.1.2.11.10); CONNECT says the same.
pub(crate) const DATA_WITHOUT_METHOD: &str = "Authentication Data needs an Authentication Method";

impl<'a> Connack<'a> {
    /// Reads it. Session Present beside a refusal is the server's mistake (MQTT-3.2.2-6) and is let pass, because the
    /// refusal is what the reader needs to know.
    pub(crate) fn read(version: Version, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let flags = reader.u8("CONNACK flags")?;
        // The byte is reserved as a whole in 3.1, so nothing in it means anything; MQTT-3.2.2-1 for the others.
        if flags > 1 && version != Version::V31 {
            return Err(Problem::Malformed(Fault::Value { field: "CONNACK flags", value: flags.into() }));
        }
        let session_present = flags == 1 && version != Version::V31;
        let mut properties = ConnackProperties::default();
        let reason = if version.is_v5() {
            let reason = ReasonCode::read(PacketType::Connack, &mut reader)?;
            properties = ConnackProperties::read(&mut reader)?;
            reason
        } else {
            let code = reader.u8("return code")?;
            ReasonCode::from_return_code(code)
                .ok_or(Problem::Malformed(Fault::Value { field: "return code", value: code.into() }))?
        };
        reader.finish()?;
        Ok(Self { session_present, reason, properties })
    }

    /// Appends it. A refusal never says Session Present (MQTT-3.2.2-6), and 3.1 never does.
    pub(crate) fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        let present = self.session_present && self.reason == ReasonCode::SUCCESS && version != Version::V31;
        out.u8(present.into());
        if version.is_v5() {
            self.reason.write(PacketType::Connack, out)?;
            return write_section(&self.properties, out);
        }
        let code = self.reason.to_return_code().ok_or(EncodeError::NotInVersion("3.x has no return code for this"))?;
        out.u8(code);
        Ok(())
    }
}

impl<'a> ConnackProperties<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let mut own = Self::default();
        let mut section = Section::open(Place::CONNACK, reader)?;
        while let Some(property) = section.next()? {
            match property {
                Property::SessionExpiry(seconds) => own.session_expiry = Some(seconds),
                Property::ReceiveMaximum(count) => own.receive_maximum = Some(count),
                Property::MaximumQos(qos) => own.maximum_qos = Some(qos),
                Property::RetainAvailable(flag) => own.retain_available = Some(flag),
                Property::MaximumPacketSize(size) => own.maximum_packet_size = Some(size),
                Property::AssignedClientId(text) => own.assigned_client_id = Some(text),
                Property::TopicAliasMaximum(count) => own.topic_alias_maximum = Some(count),
                Property::ReasonString(text) => own.reason_string = Some(text),
                Property::WildcardSubscriptionAvailable(flag) => own.wildcard_subscription_available = Some(flag),
                Property::SubscriptionIdentifiersAvailable(flag) => {
                    own.subscription_identifiers_available = Some(flag);
                }
                Property::SharedSubscriptionAvailable(flag) => own.shared_subscription_available = Some(flag),
                Property::ServerKeepAlive(seconds) => own.server_keep_alive = Some(seconds),
                Property::ResponseInformation(text) => own.response_information = Some(text),
                Property::ServerReference(text) => own.server_reference = Some(text),
                Property::AuthMethod(text) => own.auth_method = Some(text),
                Property::AuthData(bytes) => own.auth_data = Some(bytes),
                _ => {}
            }
        }
        own.user_properties = section.user_properties();
        if own.auth_data.is_some() && own.auth_method.is_none() {
            return Err(Problem::rule(DATA_WITHOUT_METHOD));
        }
        Ok(own)
    }
}

impl Properties for ConnackProperties<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        if self.auth_data.is_some() && self.auth_method.is_none() {
            return Err(EncodeError::NotInVersion(DATA_WITHOUT_METHOD));
        }
        write_option(self.session_expiry, Property::SessionExpiry, out)?;
        write_option(self.receive_maximum, Property::ReceiveMaximum, out)?;
        write_option(self.maximum_qos, Property::MaximumQos, out)?;
        write_option(self.retain_available, Property::RetainAvailable, out)?;
        write_option(self.maximum_packet_size, Property::MaximumPacketSize, out)?;
        write_option(self.assigned_client_id, Property::AssignedClientId, out)?;
        write_option(self.topic_alias_maximum, Property::TopicAliasMaximum, out)?;
        write_option(self.reason_string, Property::ReasonString, out)?;
        write_option(self.wildcard_subscription_available, Property::WildcardSubscriptionAvailable, out)?;
        write_option(self.subscription_identifiers_available, Property::SubscriptionIdentifiersAvailable, out)?;
        write_option(self.shared_subscription_available, Property::SharedSubscriptionAvailable, out)?;
        write_option(self.server_keep_alive, Property::ServerKeepAlive, out)?;
        write_option(self.response_information, Property::ResponseInformation, out)?;
        write_option(self.server_reference, Property::ServerReference, out)?;
        write_option(self.auth_method, Property::AuthMethod, out)?;
        write_option(self.auth_data, Property::AuthData, out)?;
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

    fn connack(session_present: bool, reason: ReasonCode) -> Packet<'static> {
        Packet::Connack(Box::new(Connack { session_present, reason, properties: ConnackProperties::default() }))
    }

    #[test]
    fn session_present_goes_with_success_and_never_to_3_1() {
        assert_eq!(encode(&connack(true, ReasonCode::SUCCESS), Version::V31), Ok(vec![0x20, 2, 0, 0]));
        assert_eq!(encode(&connack(true, ReasonCode::SUCCESS), Version::V311), Ok(vec![0x20, 2, 1, 0]));
        assert_eq!(encode(&connack(true, ReasonCode::NOT_AUTHORIZED), Version::V5), Ok(vec![0x20, 3, 0, 0x87, 0]));
    }

    #[test]
    fn the_refusals_of_a_level_are_the_bytes_that_bridges_know() {
        let refusal = connack(false, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
        assert_eq!(encode(&refusal, Version::V31), Ok(vec![0x20, 2, 0, 1]));
        assert_eq!(encode(&refusal, Version::V311), Ok(vec![0x20, 2, 0, 1]));
        assert_eq!(encode(&refusal, Version::V5), Ok(vec![0x20, 3, 0, 0x84, 0]));
    }

    #[test]
    fn a_reason_without_a_return_code_is_not_written_to_3_x() {
        let malformed = connack(false, ReasonCode::MALFORMED_PACKET);
        assert!(matches!(encode(&malformed, Version::V311), Err(EncodeError::NotInVersion(_))));
        assert_eq!(encode(&malformed, Version::V5), Ok(vec![0x20, 3, 0, 0x81, 0]));
    }

    #[test]
    fn maximum_qos_2_and_data_without_a_method_are_not_written() {
        let write = |properties| {
            let connack = Connack { session_present: false, reason: ReasonCode::SUCCESS, properties };
            encode(&Packet::Connack(Box::new(connack)), Version::V5)
        };
        let properties = ConnackProperties { maximum_qos: Some(QoS::ExactlyOnce), ..ConnackProperties::default() };
        assert_eq!(write(properties), Err(EncodeError::Value { field: "Maximum QoS", value: 2 }));
        let properties = ConnackProperties { auth_data: Some(b"x"), ..ConnackProperties::default() };
        assert_eq!(write(properties), Err(EncodeError::NotInVersion(DATA_WITHOUT_METHOD)));
    }
}
