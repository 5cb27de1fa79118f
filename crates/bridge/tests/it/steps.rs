//! The four steps of QoS 2 with a remote that is the test: what it may do out of turn, forget, or do elsewhere, and nothing stops.

use std::time::Duration;

use viaduct_bridge::Protocol;
use viaduct_codec::{PacketType, QoS, Version};

use crate::rig::{Rig, address, message, two_way};

fn publish(first: u8, topic: &str, id: u16, payload: u8) -> Vec<u8> {
    let mut packet = vec![first, u8::try_from(topic.len() + 5).unwrap(), 0, u8::try_from(topic.len()).unwrap()];
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(&id.to_be_bytes());
    packet.push(payload);
    packet
}

fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

fn id_of(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

/// A bridge to a 3.x remote that the test is, after SUBACK.
fn joined(version: Version, addresses: &[&str]) -> Rig {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(version);
    settings.try_private = false;
    settings.addresses = addresses.iter().map(|host| address(host)).collect();
    let mut rig = Rig::unstarted(settings);
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.settle();
    rig.heard();
    greet(&mut rig, false);
    rig
}

fn greet(rig: &mut Rig, session_present: bool) {
    rig.say(&[0x20, 2, u8::from(session_present), 0]);
    let asked: Vec<_> = rig.heard().into_iter().filter(|(kind, ..)| *kind == PacketType::Subscribe).collect();
    for (_, _, body) in asked {
        rig.say(&[0x90, 3, body[0], body[1], 2]);
    }
}

/// The link is lost, and the next dial succeeds.
fn again(rig: &mut Rig) {
    rig.connected = false;
    rig.bridge.handle_remote_closed(rig.now, "closed");
    rig.pass(Duration::from_secs(2));
    rig.heard();
}

/// Says all of it, as far as it is read at once; the identifiers under which packets of this kind came back.
fn answers(rig: &mut Rig, bytes: &[u8], kind: PacketType) -> Vec<u16> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let used = rig.say(rest);
        assert!(used > 0, "it reads nothing more");
        rest = &rest[used..];
    }
    let heard = rig.heard().into_iter().filter(|(heard, ..)| *heard == kind);
    heard.map(|(_, _, body)| id_of(&body)).collect()
}

#[test]
fn what_waits_for_the_remote_alone_does_not_keep_it_from_being_read() {
    // Under a topic that no rule has, and one that this broker takes.
    for topic in ["none/1", "down/1"] {
        let mut rig = joined(Version::V311, &["hub"]);
        let ids = || 1..=500_u16;
        let all: Vec<u8> = ids().flat_map(|id| publish(0x34, topic, id, b'x')).collect();
        assert!(answers(&mut rig, &all, PacketType::Pubrec).into_iter().eq(ids()), "{topic}");
        let all: Vec<u8> = ids().flat_map(|id| ack(0x62, id)).collect();
        assert!(answers(&mut rig, &all, PacketType::Pubcomp).into_iter().eq(ids()), "{topic}");
        assert_eq!(rig.bridge.stats().unacknowledged_in, 0);
    }
}

#[test]
fn a_3_1_remote_that_has_forgotten_what_it_sent_begins_anew_under_the_same_identifier() {
    let mut rig = joined(Version::V31, &["hub"]);
    assert_eq!(answers(&mut rig, &publish(0x34, "down/1", 1, b'a'), PacketType::Pubrec), [1]);
    again(&mut rig);
    greet(&mut rig, false);
    assert_eq!(answers(&mut rig, &publish(0x34, "down/1", 1, b'b'), PacketType::Pubrec), [1]);
    assert_eq!(answers(&mut rig, &ack(0x62, 1), PacketType::Pubcomp), [1]);
    assert_eq!(rig.local.payloads(), ["a", "b"]);
    assert_eq!(rig.bridge.stats().unacknowledged_in, 0);
}

#[test]
fn an_identifier_that_the_remote_uses_twice_holds_up_nothing() {
    for second in [0x32, 0x34] {
        let mut rig = joined(Version::V311, &["hub"]);
        assert_eq!(answers(&mut rig, &publish(0x34, "down/1", 1, b'a'), PacketType::Pubrec), [1]);
        rig.say(&publish(second, "down/1", 1, b'b'));
        rig.heard();
        assert_eq!(answers(&mut rig, &publish(0x34, "down/1", 2, b'c'), PacketType::Pubrec), [2], "{second:x}");
        again(&mut rig);
        greet(&mut rig, true);
        assert_eq!(answers(&mut rig, &publish(0x34, "down/1", 3, b'd'), PacketType::Pubrec), [3], "{second:x}");
    }
}

#[test]
fn a_pubrel_for_a_message_of_qos_1_takes_its_puback_from_nobody() {
    let mut rig = joined(Version::V311, &["hub"]);
    // Both before this broker has answered.
    let used = rig.bridge.handle_remote(rig.now, &publish(0x3a, "down/1", 1, b'a'));
    assert!(used > 0);
    assert_eq!(answers(&mut rig, &ack(0x62, 1), PacketType::Puback), [1]);
    assert_eq!(rig.local.payloads(), ["a"]);
    assert_eq!(rig.bridge.stats().unacknowledged_in, 0);
}

#[test]
fn what_is_open_at_one_address_is_published_anew_at_another_under_a_free_identifier() {
    let mut rig = joined(Version::V311, &["hub", "spare"]);
    for payload in ["a", "b"] {
        rig.local.publish(rig.now, &message("up/1", payload, QoS::ExactlyOnce));
    }
    rig.settle();
    let sent: Vec<u16> = rig.heard().into_iter().map(|(_, _, body)| id_of(&body[6..])).collect();
    assert_eq!(sent.len(), 2);
    // The first is received there and let go of here, the second is not.
    assert_eq!(answers(&mut rig, &ack(0x50, sent[0]), PacketType::Pubrel), [sent[0]]);
    again(&mut rig);
    assert_eq!(rig.dials.last().unwrap().0, "spare");
    // A session of ours from long ago, with messages of its own under these identifiers.
    rig.say(&[0x20, 2, 1, 0]);
    let mut came = Vec::new();
    for _ in 0..4 {
        for (kind, flags, body) in rig.heard() {
            match kind {
                PacketType::Pubrel => _ = rig.say(&ack(0x70, id_of(&body))),
                PacketType::Publish => {
                    assert_eq!(flags & 8, 0, "it is new there");
                    came.push((id_of(&body[6..]), body[8]));
                }
                _ => {}
            }
        }
    }
    assert_eq!(came, [(sent[0], b'a'), (sent[1], b'b')]);
}

#[test]
fn a_link_that_ends_over_a_limit_forgets_nothing_of_what_came_in() {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(Version::V5);
    let mut rig = Rig::unstarted(settings);
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.settle();
    rig.heard();
    rig.say(&[0x20, 3, 0, 0, 0]);
    rig.heard();
    let inward = |first| [first, 12, 0, 6, b'd', b'o', b'w', b'n', b'/', b'1', 0, 1, 0, b'x'];
    assert_eq!(answers(&mut rig, &inward(0x34), PacketType::Pubrec), [1]);
    rig.say(&[0xe0, 1, 0x9a]); // Retain not supported
    rig.heard();
    rig.say(&[0x20, 3, 1, 0, 0]);
    rig.heard();
    assert_eq!(answers(&mut rig, &inward(0x3c), PacketType::Pubrec), [1]);
    assert_eq!(rig.local.payloads(), ["x"]);
}
