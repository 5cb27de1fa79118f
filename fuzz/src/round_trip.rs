//! What is written is read again as it was, whether it came from the wire or was made up.

use std::num::{NonZeroU16, NonZeroU32};

use viaduct_codec::{
    Ack, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, EncodeError, FilterRef, Frame,
    Level, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, RetainHandling, Suback, Subscribe,
    SubscribeEntry, SubscribeOptions, TopicRef, Unsuback, Unsubscribe, UserProperties, VarInt, Version, Will,
    WillProperties,
};

use crate::decode::is_a_refusal_of_3_1;
use crate::input::Input;

/// What the buffer holds before.
const BEFORE: &[u8] = b"before";
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

pub(crate) fn run(data: &[u8]) {
    for version in VERSIONS {
        if let Ok(Some(frame)) = Frame::split(data, u32::MAX)
            && let Ok(packet) = Packet::decode(frame, version)
        {
            came_from_the_wire(&packet, version);
        }
    }
    let mut input = Input::new(data);
    let version = VERSIONS[input.below(3)];
    let mut pairs = Vec::new();
    for _ in 0..input.below(4) {
        UserProperties::push(&mut pairs, input.text(), input.text());
    }
    let packet = packet(&mut input, UserProperties::from_encoded(&pairs));
    survives(&packet, version);
}

/// What was read can be written, and is the same when it is read again, in every version.
fn came_from_the_wire(packet: &Packet<'_>, version: Version) {
    let version = spoken(packet, version);
    let mut bytes = Vec::new();
    match packet.encode(version, &mut bytes) {
        Ok(()) => {}
        Err(EncodeError::NotInVersion(_)) if is_a_refusal_of_3_1(packet, version) => return,
        Err(error) => panic!("what was read can't be written: {error}"),
    }
    let frame = Frame::split(&bytes, u32::MAX).unwrap().expect("it is whole");
    let again = Packet::decode(frame, version).expect("what was written can be read");
    assert_eq!(as_written(packet), again);
}

/// Session Present beside a refusal is let pass and never written (MQTT-3.2.2-6); all else stays.
fn as_written<'a>(packet: &Packet<'a>) -> Packet<'a> {
    let mut packet = packet.clone();
    if let Packet::Connack(connack) = &mut packet {
        connack.session_present &= connack.reason == ReasonCode::SUCCESS;
    }
    packet
}

/// CONNECT says itself what is spoken.
fn spoken(packet: &Packet<'_>, version: Version) -> Version {
    match packet {
        Packet::Connect(connect) => connect.level.version(),
        _ => version,
    }
}

/// Written, read, written: the second time nothing is left to change.
fn survives(packet: &Packet<'_>, version: Version) {
    let version = spoken(packet, version);
    let mut bytes = BEFORE.to_vec();
    let written = packet.encode(version, &mut bytes);
    assert!(bytes.starts_with(BEFORE), "what is written is appended");
    let bytes = bytes.split_off(BEFORE.len());
    assert_eq!(packet.encoded_len(version), written.map(|()| bytes.len()));
    if written.is_err() {
        assert!(bytes.is_empty(), "nothing is left behind by what can't be written");
        return;
    }
    let frame = Frame::split(&bytes, u32::MAX).unwrap().expect("it is whole");
    assert_eq!(frame.bytes.len(), bytes.len());
    let again = Packet::decode(frame, version).expect("what was written can be read");
    if version == Version::V5 {
        assert_eq!(*packet, again);
    }
    let mut second = Vec::new();
    again.encode(version, &mut second).expect("what was read can be written");
    assert_eq!(bytes, second);
}

fn packet<'a>(input: &mut Input<'a>, user_properties: UserProperties<'a>) -> Packet<'a> {
    let id = PacketId::new(input.u16()).unwrap_or(PacketId::new(1).unwrap());
    let reason = ReasonCode(input.byte());
    let reason_string = input.option(Input::text);
    let ack = Ack { packet_id: id, reason, reason_string, user_properties };
    match input.below(12) {
        0 => Packet::Connect(Box::new(connect(input, user_properties))),
        1 => Packet::Connack(Box::new(connack(input, reason, user_properties))),
        2 => Packet::Publish(publish(input, id, user_properties)),
        3 => Packet::Puback(ack),
        4 => Packet::Pubrec(ack),
        5 => Packet::Pubrel(ack),
        6 => Packet::Pubcomp(ack),
        7 => {
            let subscription_id = input.option(|input| VarInt::new(input.u32())).flatten();
            let entries = (0..input.below(4)).filter_map(|_| entry(input)).collect();
            Packet::Subscribe(Subscribe { packet_id: id, subscription_id, user_properties, entries })
        }
        8 => {
            let reasons = (0..input.below(4)).map(|_| ReasonCode(input.byte())).collect();
            Packet::Suback(Suback { packet_id: id, reasons, reason_string, user_properties })
        }
        9 => {
            let filters = (0..input.below(4)).filter_map(|_| FilterRef::new(input.text()).ok()).collect();
            Packet::Unsubscribe(Unsubscribe { packet_id: id, user_properties, filters })
        }
        10 if input.flag() => {
            let reasons = (0..input.below(4)).map(|_| ReasonCode(input.byte())).collect();
            Packet::Unsuback(Unsuback { packet_id: id, reasons, reason_string, user_properties })
        }
        10 => {
            let mut auth =
                Auth { reason, method: input.option(Input::text), data: None, reason_string, user_properties };
            auth.data = input.option(|input| input.bytes(20));
            Packet::Auth(auth)
        }
        _ => Packet::Disconnect(Disconnect {
            session_expiry: input.option(Input::u32),
            reason_string,
            server_reference: input.option(Input::text),
            user_properties,
            ..Disconnect::new(reason)
        }),
    }
}

fn qos(input: &mut Input<'_>) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][input.below(3)]
}

fn entry<'a>(input: &mut Input<'a>) -> Option<SubscribeEntry<'a>> {
    let options = SubscribeOptions {
        qos: qos(input),
        no_local: input.flag(),
        retain_as_published: input.flag(),
        retain_handling: [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend][input.below(3)],
    };
    FilterRef::new(input.text()).ok().map(|filter| SubscribeEntry { filter, options })
}

fn publish<'a>(input: &mut Input<'a>, id: PacketId, user_properties: UserProperties<'a>) -> Publish<'a> {
    let qos = qos(input);
    Publish {
        dup: qos != QoS::AtMostOnce && input.flag(),
        qos,
        retain: input.flag(),
        topic: TopicRef::new(input.text()).ok(),
        packet_id: (qos != QoS::AtMostOnce).then_some(id),
        properties: PublishProperties {
            payload_format: input.option(Input::flag),
            message_expiry: input.option(Input::u32),
            topic_alias: NonZeroU16::new(input.u16()),
            response_topic: TopicRef::new(input.text()).ok(),
            correlation_data: input.option(|input| input.bytes(20)),
            subscription_ids: (0..input.below(3)).filter_map(|_| VarInt::new(input.u32())).collect(),
            content_type: input.option(Input::text),
            user_properties,
        },
        payload: input.bytes(200),
    }
}

fn connect<'a>(input: &mut Input<'a>, user_properties: UserProperties<'a>) -> Connect<'a> {
    let level = Level::ALL[input.below(Level::ALL.len())];
    let topic = TopicRef::new(input.text()).ok();
    let v5 = level.version() == Version::V5;
    let will = topic.map(|topic| Will {
        topic,
        payload: input.bytes(20),
        qos: qos(input),
        retain: input.flag(),
        properties: if v5 {
            WillProperties {
                delay: input.option(Input::u32),
                payload_format: input.option(Input::flag),
                message_expiry: input.option(Input::u32),
                content_type: input.option(Input::text),
                response_topic: TopicRef::new(input.text()).ok(),
                correlation_data: input.option(|input| input.bytes(20)),
                user_properties,
            }
        } else {
            WillProperties::default()
        },
    });
    let auth_method = input.option(Input::text);
    Connect {
        level,
        clean_start: input.flag(),
        keep_alive: input.u16(),
        client_id: input.text(),
        will,
        username: input.option(Input::text),
        password: input.option(|input| input.bytes(20)),
        properties: if v5 {
            ConnectProperties {
                session_expiry: input.option(Input::u32),
                receive_maximum: NonZeroU16::new(input.u16()),
                maximum_packet_size: NonZeroU32::new(input.u32()),
                topic_alias_maximum: input.option(Input::u16),
                request_response_information: input.option(Input::flag),
                request_problem_information: input.option(Input::flag),
                auth_method,
                auth_data: input.option(|input| input.bytes(20)),
                user_properties,
            }
        } else {
            ConnectProperties::default()
        },
    }
}

fn connack<'a>(input: &mut Input<'a>, reason: ReasonCode, user_properties: UserProperties<'a>) -> Connack<'a> {
    let properties = ConnackProperties {
        session_expiry: input.option(Input::u32),
        receive_maximum: NonZeroU16::new(input.u16()),
        maximum_qos: input.option(qos),
        retain_available: input.option(Input::flag),
        maximum_packet_size: NonZeroU32::new(input.u32()),
        assigned_client_id: input.option(Input::text),
        topic_alias_maximum: input.option(Input::u16),
        reason_string: input.option(Input::text),
        wildcard_subscription_available: input.option(Input::flag),
        subscription_identifiers_available: input.option(Input::flag),
        shared_subscription_available: input.option(Input::flag),
        server_keep_alive: input.option(Input::u16),
        response_information: input.option(Input::text),
        server_reference: input.option(Input::text),
        auth_method: input.option(Input::text),
        auth_data: input.option(|input| input.bytes(20)),
        user_properties,
    };
    Connack { session_present: input.flag() && !reason.is_error(), reason, properties }
}
