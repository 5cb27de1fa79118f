//! Ours against mqttbytes where it is right: legal 3.1.1 packets that its types can say. The conversions of the feature
//! `mqttbytes-compat` carry the meaning over, so they are tested here too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use bytes::BytesMut;
use mqttbytes::v4;
use proptest::prelude::*;
use viaduct_codec::compat::CompatError;
use viaduct_codec::{Frame, Packet, QoS, TopicError, Version};

/// What mqttbytes writes.
fn written(packet: &v4::Packet) -> Vec<u8> {
    let mut out = BytesMut::new();
    match packet {
        v4::Packet::Connect(packet) => packet.write(&mut out),
        v4::Packet::ConnAck(packet) => packet.write(&mut out),
        v4::Packet::Publish(packet) => packet.write(&mut out),
        v4::Packet::PubAck(packet) => packet.write(&mut out),
        v4::Packet::PubRec(packet) => packet.write(&mut out),
        v4::Packet::PubRel(packet) => packet.write(&mut out),
        v4::Packet::PubComp(packet) => packet.write(&mut out),
        v4::Packet::Subscribe(packet) => packet.write(&mut out),
        v4::Packet::SubAck(packet) => packet.write(&mut out),
        v4::Packet::Unsubscribe(packet) => packet.write(&mut out),
        v4::Packet::UnsubAck(packet) => packet.write(&mut out),
        v4::Packet::PingReq => v4::PingReq.write(&mut out),
        v4::Packet::PingResp => v4::PingResp.write(&mut out),
        v4::Packet::Disconnect => v4::Disconnect.write(&mut out),
    }
    .unwrap();
    out.to_vec()
}

/// What the types of mqttbytes have no room for.
fn has_no_equal(packet: &Packet<'_>) -> bool {
    let Packet::Connect(connect) = packet else { return false };
    connect.level.is_bridge()
        || connect.username == Some("")
        || connect.password.is_some_and(|password| password.is_empty() || std::str::from_utf8(password).is_err())
}

proptest! {
    #![proptest_config(common::cases(2000))]

    #[test]
    fn a_legal_packet_means_the_same_and_is_written_the_same(packet in common::packet(Version::V311)) {
        let theirs = match v4::Packet::try_from(&packet) {
            Ok(theirs) => theirs,
            Err(error) => {
                prop_assert!(has_no_equal(&packet), "{}: {:?}", error, packet);
                return Ok(());
            }
        };
        prop_assert!(!has_no_equal(&packet));
        prop_assert_eq!(&Packet::try_from(&theirs).unwrap(), &packet);
        let mut bytes = Vec::new();
        packet.encode(Version::V311, &mut bytes).unwrap();
        prop_assert_eq!(&v4::read(&mut BytesMut::from(&bytes[..]), usize::MAX).unwrap(), &theirs);
        let written = written(&theirs);
        prop_assert_eq!(&written, &bytes);
        let frame = Frame::split(&written, u32::MAX).unwrap().unwrap();
        prop_assert_eq!(Packet::decode(frame, Version::V311).unwrap(), packet);
    }

    #[test]
    fn what_both_accept_of_changed_bytes_both_read_the_same(
        packet in common::packet(Version::V311),
        changes in common::changes(),
    ) {
        let Some(bytes) = common::changed(&packet, Version::V311, &changes) else { return Ok(()) };
        let Ok(Some(frame)) = Frame::split(&bytes, u32::MAX) else { return Ok(()) };
        let Ok(ours) = Packet::decode(frame, Version::V311) else { return Ok(()) };
        // A CONNECT says its own version, and mqttbytes knows one of five.
        if let (Ok(wanted), Ok(theirs)) =
            (v4::Packet::try_from(&ours), v4::read(&mut BytesMut::from(frame.bytes), usize::MAX))
        {
            prop_assert_eq!(wanted, theirs);
        }
    }
}

#[test]
fn what_the_wire_may_not_carry_is_not_converted() {
    let wild = v4::Publish::new("a/#", mqttbytes::QoS::AtMostOnce, "x");
    assert_eq!(viaduct_codec::Publish::try_from(&wild), Err(CompatError::Topic(TopicError::Wildcard('#'))));
    let no_id = v4::Publish::new("a", mqttbytes::QoS::AtLeastOnce, "x");
    assert_eq!(viaduct_codec::Publish::try_from(&no_id), Err(CompatError::PacketId));
    assert_eq!(viaduct_codec::Ack::try_from(&v4::PubAck::new(0)), Err(CompatError::PacketId));
    let bad = v4::Unsubscribe::new("a+");
    assert!(viaduct_codec::Unsubscribe::try_from(&bad).is_err());
    let mut connect = v4::Connect::new("a");
    connect.set_login("", "p");
    assert!(matches!(viaduct_codec::Connect::try_from(&connect), Err(CompatError::NoEqual(_))));
}

#[test]
fn every_qos_goes_there_and_back() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(QoS::from(mqttbytes::QoS::from(qos)), qos);
        assert_eq!(mqttbytes::QoS::from(qos) as u8, qos.bits());
    }
}
