//! CONNECT: who the client is, and what it wants from the session.

use std::num::{NonZeroU16, NonZeroU32};

use crate::connack::DATA_WITHOUT_METHOD;
use crate::property::{Place, Properties, Property, Section, write_option, write_section};
use crate::reader::{Problem, Reader};
use crate::writer::Out;
use crate::{DecodeError, EncodeError, Fault, Frame, Level, Looks, PacketType, QoS, TopicRef, UserProperties, Version};

/// A client opens the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The protocol level, which says version and bridge bit.
    pub level: Level,
    /// Clean Start (5.0), Clean Session (3.x).
    pub clean_start: bool,
    /// Seconds; 0 turns keep alive off.
    pub keep_alive: u16,
    /// May be empty; what that means depends on the version.
    pub client_id: &'a str,
    /// What to publish when this connection ends badly.
    pub will: Option<Will<'a>>,
    /// Absent and empty are different things.
    pub username: Option<&'a str>,
    /// Binary. Absent and empty are different things.
    pub password: Option<&'a [u8]>,
    /// 5.0; default otherwise.
    pub properties: ConnectProperties<'a>,
}

/// What a 5.0 client asks for. `None` means absent from the wire; the standard's default then holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds that the session outlives the connection; 0 when absent; `u32::MAX` never ends.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 PUBLISH packets the client takes at a time; 65,535 when absent.
    pub receive_maximum: Option<NonZeroU16>,
    /// Bytes, fixed header included; no limit when absent.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Aliases the client takes; 0 when absent.
    pub topic_alias_maximum: Option<u16>,
    /// `false` when absent.
    pub request_response_information: Option<bool>,
    /// `true` when absent; `false` forbids reason strings and user properties outside PUBLISH, CONNACK, DISCONNECT.
    pub request_problem_information: Option<bool>,
    /// Enhanced authentication.
    pub auth_method: Option<&'a str>,
    /// Enhanced authentication.
    pub auth_data: Option<&'a [u8]>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

/// What to publish when the connection ends without a DISCONNECT of reason 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// A topic name, without wildcards.
    pub topic: TopicRef<'a>,
    /// Binary.
    pub payload: &'a [u8],
    /// The QoS to publish with.
    pub qos: QoS,
    /// Whether it becomes the retained message.
    pub retain: bool,
    /// 5.0; default otherwise.
    pub properties: WillProperties<'a>,
}

/// Properties of a 5.0 will. `None` means absent from the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WillProperties<'a> {
    /// Seconds to wait before it is published; 0 when absent.
    pub delay: Option<u32>,
    /// The payload is UTF-8 text.
    pub payload_format: Option<bool>,
    /// Seconds that the message lives once it is published.
    pub message_expiry: Option<u32>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Where replies go.
    pub response_topic: Option<TopicRef<'a>>,
    /// What ties a reply to its request.
    pub correlation_data: Option<&'a [u8]>,
    /// Pairs of the application, forwarded with the message.
    pub user_properties: UserProperties<'a>,
}

/// The connect flags (section 3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 0x01;
    pub(super) const CLEAN_START: u8 = 0x02;
    pub(super) const WILL: u8 = 0x04;
    /// Two bits of QoS, to be shifted by [`WILL_QOS_SHIFT`], and the retain bit.
    pub(super) const WILL_DETAILS: u8 = 0x38;
    pub(super) const WILL_QOS_SHIFT: u8 = 3;
    pub(super) const WILL_RETAIN: u8 = 0x20;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USERNAME: u8 = 0x80;
}

const PASSWORD_WITHOUT_USERNAME: &str = "a password needs a user name in 3.x";

impl<'a> Connect<'a> {
    /// Reads it. Name and level decide before anything else is looked at, so that a client of another version is
    /// refused for its version (MQTT-3.1.2-1, MQTT-3.1.2-1 of 3.1.1, MQTT-3.1.2-2, MQTT-3.1.2-2 of 3.1.1).
    pub(crate) fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let level = level(&frame, &mut reader)?;
        PacketType::Connect
            .check_flags(frame.flags, level.version())
            .and_then(|()| Self::read(level, reader))
            .map_err(|problem| problem.in_packet(PacketType::Connect))
    }

    /// Everything of section 3.1 that can be seen in the packet (MQTT-3.1.4-1, MQTT-3.1.4-1 of 3.1.1).
    fn read(level: Level, mut reader: Reader<'a>) -> Result<Self, Problem> {
        let version = level.version();
        let flags = reader.u8("connect flags")?;
        check_flags(flags, version)?;
        let keep_alive = reader.u16("Keep Alive")?;
        let properties = if version.is_v5() { ConnectProperties::read(&mut reader)? } else { Default::default() };
        let client_id = reader.text("ClientID")?; // MQTT-3.1.3-3, MQTT-3.1.3-4
        let will = if flags & flag::WILL == 0 { None } else { Some(Will::read(flags, version, &mut reader)?) };
        // In 3.1 the Remaining Length wins over the flags: a field that is not there any more was not sent.
        let gone = |reader: &Reader<'_>| version == Version::V31 && reader.is_empty();
        let username = match flags & flag::USERNAME {
            0 => None,
            _ if gone(&reader) => None,
            _ => Some(reader.text("user name")?), // MQTT-3.1.3-12
        };
        let password = match flags & flag::PASSWORD {
            0 => None,
            _ if gone(&reader) => None,
            _ => Some(reader.binary("password")?),
        };
        reader.finish()?;
        let clean_start = flags & flag::CLEAN_START != 0;
        Ok(Self { level, clean_start, keep_alive, client_id, will, username, password, properties })
    }

    /// Appends it, in the version of its own level.
    pub(crate) fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        let version = self.level.version();
        if self.password.is_some() && self.username.is_none() && !version.is_v5() {
            return Err(EncodeError::NotInVersion(PASSWORD_WITHOUT_USERNAME)); // MQTT-3.1.2-22 of 3.1.1
        }
        out.binary("protocol name", self.level.protocol_name().as_bytes())?;
        out.u8(self.level.byte());
        out.u8(self.flags());
        out.u16(self.keep_alive);
        if version.is_v5() {
            write_section(&self.properties, out)?;
        }
        out.text("ClientID", self.client_id)?;
        if let Some(will) = &self.will {
            will.write(version, out)?;
        }
        if let Some(username) = self.username {
            out.text("user name", username)?;
        }
        if let Some(password) = self.password {
            out.binary("password", password)?;
        }
        Ok(())
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        let mut set = |condition: bool, bits: u8| flags |= if condition { bits } else { 0 };
        set(self.clean_start, flag::CLEAN_START);
        set(self.username.is_some(), flag::USERNAME);
        set(self.password.is_some(), flag::PASSWORD);
        if let Some(will) = &self.will {
            set(true, flag::WILL | will.qos.bits() << flag::WILL_QOS_SHIFT);
            set(will.retain, flag::WILL_RETAIN);
        }
        flags
    }
}

/// Protocol name and level. Only the pairs of [`Level::ALL`] are known; a client that dialled with TLS is told apart
/// from one that speaks another protocol, since its ClientHello happens to begin like a CONNECT.
fn level<'a>(frame: &Frame<'a>, reader: &mut Reader<'a>) -> Result<Level, DecodeError> {
    let not_mqtt = || match Looks::like(frame.bytes) {
        looks @ (Looks::TlsClientHello | Looks::TlsRecord) => Some(looks),
        _ => None,
    };
    let malformed =
        |problem: Problem| not_mqtt().map_or_else(|| problem.in_packet(PacketType::Connect), DecodeError::NotMqtt);
    let name = match reader.binary("protocol name").map_err(malformed)? {
        b"MQTT" => "MQTT",
        b"MQIsdp" => "MQIsdp",
        _ => return Err(DecodeError::NotMqtt(not_mqtt().unwrap_or(Looks::OtherProtocolName))),
    };
    let byte = reader.u8("protocol level").map_err(malformed)?;
    Level::new(byte)
        .filter(|level| level.protocol_name() == name)
        .ok_or(DecodeError::UnknownLevel { name, level: byte })
}

fn check_flags(flags: u8, version: Version) -> Result<(), Problem> {
    let reserved = Problem::Malformed(Fault::Value { field: "connect flags", value: flags.into() });
    if version != Version::V31 {
        if flags & flag::RESERVED != 0 {
            return Err(reserved); // MQTT-3.1.2-3, MQTT-3.1.2-3 of 3.1.1
        }
        // MQTT-3.1.2-11, MQTT-3.1.2-13, MQTT-3.1.2-15 of 3.1.1. 3.1 disregards these bits when there is no will.
        if flags & flag::WILL == 0 && flags & flag::WILL_DETAILS != 0 {
            return Err(reserved);
        }
    }
    // MQTT-3.1.2-22 of 3.1.1, and the same in 3.1.
    if !version.is_v5() && flags & flag::PASSWORD != 0 && flags & flag::USERNAME == 0 {
        return Err(Problem::rule(PASSWORD_WITHOUT_USERNAME));
    }
    Ok(())
}

impl<'a> ConnectProperties<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let mut own = Self::default();
        let mut section = Section::open(Place::CONNECT, reader)?;
        while let Some(property) = section.next()? {
            match property {
                Property::SessionExpiry(seconds) => own.session_expiry = Some(seconds),
                Property::ReceiveMaximum(count) => own.receive_maximum = Some(count),
                Property::MaximumPacketSize(size) => own.maximum_packet_size = Some(size),
                Property::TopicAliasMaximum(count) => own.topic_alias_maximum = Some(count),
                Property::RequestResponseInformation(flag) => own.request_response_information = Some(flag),
                Property::RequestProblemInformation(flag) => own.request_problem_information = Some(flag),
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

impl Properties for ConnectProperties<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        if self.auth_data.is_some() && self.auth_method.is_none() {
            return Err(EncodeError::NotInVersion(DATA_WITHOUT_METHOD));
        }
        write_option(self.session_expiry, Property::SessionExpiry, out)?;
        write_option(self.receive_maximum, Property::ReceiveMaximum, out)?;
        write_option(self.maximum_packet_size, Property::MaximumPacketSize, out)?;
        write_option(self.topic_alias_maximum, Property::TopicAliasMaximum, out)?;
        write_option(self.request_response_information, Property::RequestResponseInformation, out)?;
        write_option(self.request_problem_information, Property::RequestProblemInformation, out)?;
        write_option(self.auth_method, Property::AuthMethod, out)?;
        write_option(self.auth_data, Property::AuthData, out)?;
        self.user_properties.write(out);
        Ok(())
    }
}

impl<'a> Will<'a> {
    fn read(flags: u8, version: Version, reader: &mut Reader<'a>) -> Result<Self, Problem> {
        // MQTT-3.1.2-12, MQTT-3.1.2-14 of 3.1.1
        let qos = QoS::from_bits(flags >> flag::WILL_QOS_SHIFT & 3)
            .ok_or(Problem::Malformed(Fault::Value { field: "will QoS", value: 3 }))?;
        let properties = if version.is_v5() { WillProperties::read(reader)? } else { WillProperties::default() };
        // MQTT-3.1.2-9, MQTT-3.1.2-9 of 3.1.1: both are there. MQTT-3.1.3-11.
        let topic = reader.topic("will topic")?;
        let payload = reader.binary("will payload")?;
        Ok(Self { topic, payload, qos, retain: flags & flag::WILL_RETAIN != 0, properties })
    }

    fn write<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        if version.is_v5() {
            write_section(&self.properties, out)?;
        }
        out.binary("will topic", self.topic.as_str().as_bytes())?;
        out.binary("will payload", self.payload)
    }
}

impl<'a> WillProperties<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let mut own = Self::default();
        let mut section = Section::open(Place::WILL, reader)?;
        while let Some(property) = section.next()? {
            match property {
                Property::WillDelay(seconds) => own.delay = Some(seconds),
                Property::PayloadFormat(flag) => own.payload_format = Some(flag),
                Property::MessageExpiry(seconds) => own.message_expiry = Some(seconds),
                Property::ContentType(text) => own.content_type = Some(text),
                Property::ResponseTopic(topic) => own.response_topic = Some(topic),
                Property::CorrelationData(bytes) => own.correlation_data = Some(bytes),
                _ => {}
            }
        }
        own.user_properties = section.user_properties();
        Ok(own)
    }
}

impl Properties for WillProperties<'_> {
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError> {
        write_option(self.delay, Property::WillDelay, out)?;
        write_option(self.payload_format, Property::PayloadFormat, out)?;
        write_option(self.message_expiry, Property::MessageExpiry, out)?;
        write_option(self.content_type, Property::ContentType, out)?;
        write_option(self.response_topic, Property::ResponseTopic, out)?;
        write_option(self.correlation_data, Property::CorrelationData, out)?;
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

    fn connect(level: Level) -> Connect<'static> {
        Connect {
            level,
            clean_start: true,
            keep_alive: 60,
            client_id: "a",
            will: None,
            username: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    fn written(connect: &Connect<'_>) -> Result<Vec<u8>, EncodeError> {
        // The version that is told does not matter.
        encode(&Packet::Connect(Box::new(connect.clone())), Version::V31)
    }

    #[test]
    fn each_level_is_written_with_its_name() {
        for level in Level::ALL {
            let bytes = written(&connect(level)).unwrap();
            let frame = Frame::split(&bytes, 100).unwrap().unwrap();
            assert_eq!(Connect::decode(frame), Ok(connect(level)));
            assert!(bytes[4..].starts_with(level.protocol_name().as_bytes()));
        }
        assert_eq!(written(&connect(Level::V311)), Ok(b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a".to_vec()));
    }

    #[test]
    fn a_password_alone_is_written_in_5_0_only() {
        let alone = |level| Connect { password: Some(&[0xff]), ..connect(level) };
        assert!(written(&alone(Level::V5)).is_ok());
        assert_eq!(written(&alone(Level::V311)), Err(EncodeError::NotInVersion(PASSWORD_WITHOUT_USERNAME)));
        assert_eq!(written(&alone(Level::V31_BRIDGE)), Err(EncodeError::NotInVersion(PASSWORD_WITHOUT_USERNAME)));
    }

    #[test]
    fn a_client_id_with_a_null_is_not_written() {
        let connect = Connect { client_id: "a\0", ..connect(Level::V311) };
        assert_eq!(written(&connect), Err(EncodeError::Text("ClientID")));
    }

    #[test]
    fn the_level_decides_before_the_rest_is_looked_at() {
        let bytes = b"\x1f\x08\0\x04MQTT\x09\xff";
        let frame = Frame::split(bytes, 100).unwrap().unwrap();
        assert_eq!(Connect::decode(frame), Err(DecodeError::UnknownLevel { name: "MQTT", level: 9 }));
    }

    #[test]
    fn a_client_hello_is_called_by_its_name() {
        let bytes = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        let frame = Frame::split(bytes, 100).unwrap().unwrap();
        assert_eq!(Connect::decode(frame), Err(DecodeError::NotMqtt(Looks::TlsClientHello)));
    }
}
