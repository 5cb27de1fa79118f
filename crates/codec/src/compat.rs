//! Conversions to and from the 3.1.1 types of the `mqttbytes` crate, for code that already uses them.
//!
//! In: a packet of one of the two. Out: the same packet of the other, or why there is none. Their types can say less
//! than the wire (no binary passwords, no empty credentials, no bridge levels), and can hold what the wire may not
//! carry; both are errors here and never a silent change. Properties of 5.0 are left out, as towards any 3.x peer.

use bytes::Bytes;
use mqttbytes::v4;
use thiserror::Error;

use crate::{
    Ack, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, FilterRef, Level, Packet, PacketId,
    Publish, PublishProperties, QoS, ReasonCode, Suback, Subscribe, SubscribeEntry, SubscribeOptions, TopicError,
    TopicRef, Unsuback, Unsubscribe, UserProperties, Will, WillProperties,
};

/// Why a packet has no equal on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CompatError {
    /// The types of the other side can't say it.
    #[error("no equal in the other types: {0}")]
    NoEqual(&'static str),
    /// A topic name or filter that the wire may not carry.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// Packet Identifier 0, or one where none belongs.
    #[error("a Packet Identifier is there exactly when the packet needs one, and is never 0")]
    PacketId,
}

impl From<QoS> for mqttbytes::QoS {
    fn from(qos: QoS) -> Self {
        match qos {
            QoS::AtMostOnce => Self::AtMostOnce,
            QoS::AtLeastOnce => Self::AtLeastOnce,
            QoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

impl From<mqttbytes::QoS> for QoS {
    fn from(qos: mqttbytes::QoS) -> Self {
        match qos {
            mqttbytes::QoS::AtMostOnce => Self::AtMostOnce,
            mqttbytes::QoS::AtLeastOnce => Self::AtLeastOnce,
            mqttbytes::QoS::ExactlyOnce => Self::ExactlyOnce,
        }
    }
}

fn packet_id(pkid: u16) -> Result<PacketId, CompatError> {
    PacketId::new(pkid).ok_or(CompatError::PacketId)
}

impl TryFrom<&Connect<'_>> for v4::Connect {
    type Error = CompatError;

    fn try_from(connect: &Connect<'_>) -> Result<Self, CompatError> {
        if connect.level != Level::V311 {
            return Err(CompatError::NoEqual("a level other than 4"));
        }
        Ok(Self {
            protocol: mqttbytes::Protocol::V4,
            keep_alive: connect.keep_alive,
            client_id: connect.client_id.to_owned(),
            clean_session: connect.clean_start,
            last_will: connect.will.as_ref().map(v4::LastWill::from),
            login: login(connect.username, connect.password)?,
        })
    }
}

/// Their `Login` takes an empty string for an absent one.
fn login(username: Option<&str>, password: Option<&[u8]>) -> Result<Option<v4::Login>, CompatError> {
    let password = password.map(std::str::from_utf8).transpose();
    let password = password.map_err(|_| CompatError::NoEqual("a password that is not text"))?;
    match (username, password) {
        (None, None) => Ok(None),
        (Some(""), _) | (_, Some("")) => Err(CompatError::NoEqual("an empty user name or password")),
        (username, password) => Ok(Some(v4::Login {
            username: username.unwrap_or_default().to_owned(),
            password: password.unwrap_or_default().to_owned(),
        })),
    }
}

impl<'a> TryFrom<&'a v4::Connect> for Connect<'a> {
    type Error = CompatError;

    fn try_from(connect: &'a v4::Connect) -> Result<Self, CompatError> {
        if connect.protocol != mqttbytes::Protocol::V4 {
            return Err(CompatError::NoEqual("a 3.1.1 CONNECT that says level 5"));
        }
        let username = connect.login.as_ref().map(|login| login.username.as_str()).filter(|text| !text.is_empty());
        let password = connect.login.as_ref().map(|login| login.password.as_bytes()).filter(|bytes| !bytes.is_empty());
        if password.is_some() && username.is_none() {
            return Err(CompatError::NoEqual("a password without a user name"));
        }
        Ok(Self {
            level: Level::V311,
            clean_start: connect.clean_session,
            keep_alive: connect.keep_alive,
            client_id: &connect.client_id,
            will: connect.last_will.as_ref().map(Will::try_from).transpose()?,
            username,
            password,
            properties: ConnectProperties::default(),
        })
    }
}

impl From<&Will<'_>> for v4::LastWill {
    fn from(will: &Will<'_>) -> Self {
        Self::new(will.topic.as_str(), will.payload, will.qos.into(), will.retain)
    }
}

impl<'a> TryFrom<&'a v4::LastWill> for Will<'a> {
    type Error = CompatError;

    fn try_from(will: &'a v4::LastWill) -> Result<Self, CompatError> {
        Ok(Self {
            topic: TopicRef::new(&will.topic)?,
            payload: &will.message,
            qos: will.qos.into(),
            retain: will.retain,
            properties: WillProperties::default(),
        })
    }
}

impl TryFrom<&Connack<'_>> for v4::ConnAck {
    type Error = CompatError;

    fn try_from(connack: &Connack<'_>) -> Result<Self, CompatError> {
        let code = match connack.reason.to_return_code() {
            Some(0) => v4::ConnectReturnCode::Success,
            Some(1) => v4::ConnectReturnCode::RefusedProtocolVersion,
            Some(2) => v4::ConnectReturnCode::BadClientId,
            Some(3) => v4::ConnectReturnCode::ServiceUnavailable,
            Some(4) => v4::ConnectReturnCode::BadUserNamePassword,
            Some(5) => v4::ConnectReturnCode::NotAuthorized,
            _ => return Err(CompatError::NoEqual("a reason that 3.1.1 has no return code for")),
        };
        Ok(Self::new(code, connack.session_present))
    }
}

impl From<&v4::ConnAck> for Connack<'_> {
    fn from(connack: &v4::ConnAck) -> Self {
        let reason = match connack.code {
            v4::ConnectReturnCode::Success => ReasonCode::SUCCESS,
            v4::ConnectReturnCode::RefusedProtocolVersion => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            v4::ConnectReturnCode::BadClientId => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            v4::ConnectReturnCode::ServiceUnavailable => ReasonCode::SERVER_UNAVAILABLE,
            v4::ConnectReturnCode::BadUserNamePassword => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
            v4::ConnectReturnCode::NotAuthorized => ReasonCode::NOT_AUTHORIZED,
        };
        Self { session_present: connack.session_present, reason, properties: ConnackProperties::default() }
    }
}

impl TryFrom<&Publish<'_>> for v4::Publish {
    type Error = CompatError;

    fn try_from(publish: &Publish<'_>) -> Result<Self, CompatError> {
        let topic = publish.topic.ok_or(CompatError::NoEqual("a PUBLISH with an alias for its topic"))?;
        if publish.packet_id.is_some() == (publish.qos == QoS::AtMostOnce) {
            return Err(CompatError::PacketId);
        }
        Ok(Self {
            dup: publish.dup,
            qos: publish.qos.into(),
            retain: publish.retain,
            topic: topic.as_str().to_owned(),
            pkid: publish.packet_id.map_or(0, PacketId::get),
            payload: Bytes::copy_from_slice(publish.payload),
        })
    }
}

impl<'a> TryFrom<&'a v4::Publish> for Publish<'a> {
    type Error = CompatError;

    fn try_from(publish: &'a v4::Publish) -> Result<Self, CompatError> {
        let qos = QoS::from(publish.qos);
        let packet_id = match (qos, publish.pkid) {
            (QoS::AtMostOnce, 0) => None,
            (QoS::AtMostOnce, _) => return Err(CompatError::PacketId),
            (_, pkid) => Some(packet_id(pkid)?),
        };
        Ok(Self {
            dup: publish.dup,
            qos,
            retain: publish.retain,
            topic: Some(TopicRef::new(&publish.topic)?),
            packet_id,
            properties: PublishProperties::default(),
            payload: &publish.payload,
        })
    }
}

/// The four acknowledgements carry an identifier and nothing else.
macro_rules! acks {
    ($($theirs:ident),*) => {
        $(impl From<&Ack<'_>> for v4::$theirs {
            fn from(ack: &Ack<'_>) -> Self {
                Self::new(ack.packet_id.get())
            }
        }

        impl TryFrom<&v4::$theirs> for Ack<'_> {
            type Error = CompatError;

            fn try_from(ack: &v4::$theirs) -> Result<Self, CompatError> {
                Ok(Self::new(packet_id(ack.pkid)?, ReasonCode::SUCCESS))
            }
        })*
    };
}

acks!(PubAck, PubRec, PubRel, PubComp);

impl From<&Subscribe<'_>> for v4::Subscribe {
    fn from(subscribe: &Subscribe<'_>) -> Self {
        let filters = subscribe
            .entries
            .iter()
            .map(|entry| v4::SubscribeFilter::new(entry.filter.as_str().to_owned(), entry.options.qos.into()));
        Self { pkid: subscribe.packet_id.get(), filters: filters.collect() }
    }
}

impl<'a> TryFrom<&'a v4::Subscribe> for Subscribe<'a> {
    type Error = CompatError;

    fn try_from(subscribe: &'a v4::Subscribe) -> Result<Self, CompatError> {
        let entries = subscribe.filters.iter().map(|filter| {
            let options = SubscribeOptions { qos: filter.qos.into(), ..SubscribeOptions::default() };
            Ok(SubscribeEntry { filter: FilterRef::new(&filter.path)?, options })
        });
        Ok(Self {
            packet_id: packet_id(subscribe.pkid)?,
            subscription_id: None,
            user_properties: UserProperties::default(),
            entries: entries.collect::<Result<_, CompatError>>()?,
        })
    }
}

impl From<&Suback<'_>> for v4::SubAck {
    fn from(suback: &Suback<'_>) -> Self {
        let codes = suback.reasons.iter().map(|reason| match QoS::from_bits(reason.0) {
            Some(qos) => v4::SubscribeReasonCode::Success(qos.into()),
            None => v4::SubscribeReasonCode::Failure,
        });
        Self::new(suback.packet_id.get(), codes.collect())
    }
}

impl TryFrom<&v4::SubAck> for Suback<'_> {
    type Error = CompatError;

    fn try_from(suback: &v4::SubAck) -> Result<Self, CompatError> {
        let reasons = suback.return_codes.iter().map(|code| match code {
            v4::SubscribeReasonCode::Success(qos) => ReasonCode(QoS::from(*qos).bits()),
            v4::SubscribeReasonCode::Failure => ReasonCode::UNSPECIFIED_ERROR,
        });
        Ok(Self {
            packet_id: packet_id(suback.pkid)?,
            reasons: reasons.collect(),
            reason_string: None,
            user_properties: UserProperties::default(),
        })
    }
}

impl From<&Unsubscribe<'_>> for v4::Unsubscribe {
    fn from(unsubscribe: &Unsubscribe<'_>) -> Self {
        let topics = unsubscribe.filters.iter().map(|filter| filter.as_str().to_owned()).collect();
        Self { pkid: unsubscribe.packet_id.get(), topics }
    }
}

impl<'a> TryFrom<&'a v4::Unsubscribe> for Unsubscribe<'a> {
    type Error = CompatError;

    fn try_from(unsubscribe: &'a v4::Unsubscribe) -> Result<Self, CompatError> {
        let filters = unsubscribe.topics.iter().map(|filter| FilterRef::new(filter));
        Ok(Self {
            packet_id: packet_id(unsubscribe.pkid)?,
            user_properties: UserProperties::default(),
            filters: filters.collect::<Result<_, TopicError>>()?,
        })
    }
}

impl From<&Unsuback<'_>> for v4::UnsubAck {
    fn from(unsuback: &Unsuback<'_>) -> Self {
        Self::new(unsuback.packet_id.get())
    }
}

impl TryFrom<&v4::UnsubAck> for Unsuback<'_> {
    type Error = CompatError;

    fn try_from(unsuback: &v4::UnsubAck) -> Result<Self, CompatError> {
        Ok(Self {
            packet_id: packet_id(unsuback.pkid)?,
            reasons: Vec::new(),
            reason_string: None,
            user_properties: UserProperties::default(),
        })
    }
}

impl TryFrom<&Packet<'_>> for v4::Packet {
    type Error = CompatError;

    fn try_from(packet: &Packet<'_>) -> Result<Self, CompatError> {
        Ok(match packet {
            Packet::Connect(connect) => Self::Connect(connect.as_ref().try_into()?),
            Packet::Connack(connack) => Self::ConnAck(connack.as_ref().try_into()?),
            Packet::Publish(publish) => Self::Publish(publish.try_into()?),
            Packet::Puback(ack) => Self::PubAck(ack.into()),
            Packet::Pubrec(ack) => Self::PubRec(ack.into()),
            Packet::Pubrel(ack) => Self::PubRel(ack.into()),
            Packet::Pubcomp(ack) => Self::PubComp(ack.into()),
            Packet::Subscribe(subscribe) => Self::Subscribe(subscribe.into()),
            Packet::Suback(suback) => Self::SubAck(suback.into()),
            Packet::Unsubscribe(unsubscribe) => Self::Unsubscribe(unsubscribe.into()),
            Packet::Unsuback(unsuback) => Self::UnsubAck(unsuback.into()),
            Packet::Pingreq => Self::PingReq,
            Packet::Pingresp => Self::PingResp,
            Packet::Disconnect(_) => Self::Disconnect,
            Packet::Auth(_) => return Err(CompatError::NoEqual("AUTH")),
        })
    }
}

impl<'a> TryFrom<&'a v4::Packet> for Packet<'a> {
    type Error = CompatError;

    fn try_from(packet: &'a v4::Packet) -> Result<Self, CompatError> {
        Ok(match packet {
            v4::Packet::Connect(connect) => Self::Connect(Box::new(connect.try_into()?)),
            v4::Packet::ConnAck(connack) => Self::Connack(Box::new(connack.into())),
            v4::Packet::Publish(publish) => Self::Publish(publish.try_into()?),
            v4::Packet::PubAck(ack) => Self::Puback(ack.try_into()?),
            v4::Packet::PubRec(ack) => Self::Pubrec(ack.try_into()?),
            v4::Packet::PubRel(ack) => Self::Pubrel(ack.try_into()?),
            v4::Packet::PubComp(ack) => Self::Pubcomp(ack.try_into()?),
            v4::Packet::Subscribe(subscribe) => Self::Subscribe(subscribe.try_into()?),
            v4::Packet::SubAck(suback) => Self::Suback(suback.try_into()?),
            v4::Packet::Unsubscribe(unsubscribe) => Self::Unsubscribe(unsubscribe.try_into()?),
            v4::Packet::UnsubAck(unsuback) => Self::Unsuback(unsuback.try_into()?),
            v4::Packet::PingReq => Self::Pingreq,
            v4::Packet::PingResp => Self::Pingresp,
            v4::Packet::Disconnect => Self::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)),
        })
    }
}
