//! Peers that break the rules: each ends one attempt, with a name, and nothing else.

use std::time::Duration;

use proptest::prelude::*;
use viaduct_bridge::Protocol;
use viaduct_codec::{PacketType, QoS, Version};

use crate::rig::{Rig, message, two_way};

const CONNACK_V5: &[u8] = &[0x20, 3, 0, 0, 0];
const CONNACK_V311: &[u8] = &[0x20, 2, 0, 0];

/// A bridge whose remote is the test, after CONNECT.
fn by_hand(version: Version) -> Rig {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(version);
    settings.try_private = false;
    let mut rig = Rig::unstarted(settings);
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.settle();
    assert_eq!(rig.heard()[0].0, PacketType::Connect);
    rig
}

/// The same, accepted and subscribed.
fn accepted(version: Version) -> Rig {
    let mut rig = by_hand(version);
    rig.say(if version.is_v5() { CONNACK_V5 } else { CONNACK_V311 });
    let (kind, _, body) = rig.heard().remove(0);
    assert_eq!(kind, PacketType::Subscribe);
    let granted =
        if version.is_v5() { vec![0x90, 4, body[0], body[1], 0, 2] } else { vec![0x90, 3, body[0], body[1], 2] };
    rig.say(&granted);
    assert!(rig.bridge.is_up());
    rig
}

/// The attempt is over and another one follows; the local half has not noticed.
fn recovers(rig: &mut Rig) {
    assert!(!rig.bridge.is_up());
    let dials = rig.dials.len();
    rig.pass(Duration::from_secs(2));
    assert!(rig.dials.len() > dials);
    assert!(rig.local.level.is_some());
}

#[test]
fn a_packet_before_connack_ends_the_attempt() {
    let publish: &[u8] = &[0x30, 5, 0, 1, b'a', 0, b'x'];
    let suback: &[u8] = &[0x90, 4, 0, 1, 0, 0];
    for (packet, name) in [(publish, "PUBLISH"), (suback, "SUBACK")] {
        let mut rig = by_hand(Version::V5);
        rig.say(packet);
        assert_eq!(rig.last_error(), "violation");
        assert!(rig.lines().pop().unwrap().contains(name), "{:?}", rig.lines());
        recovers(&mut rig);
    }
}

#[test]
fn what_only_a_bad_server_sends_ends_the_link() {
    let table: [(Version, &[u8], &str); 13] = [
        (Version::V5, CONNACK_V5, "violation"),
        (Version::V311, CONNACK_V311, "violation"),
        (Version::V5, &[0x90, 5, 0, 1, 0, 0, 0], "violation"), // SUBACK again, and too long
        (Version::V311, &[0x90, 3, 0x77, 0x77, 0], "violation"), // for nothing
        (Version::V5, &[0xb0, 4, 0, 99, 0, 0], "violation"),
        (Version::V5, &[0xf0, 0], "violation"), // AUTH without a method
        (Version::V5, &[0x10, 0], "violation"),
        (Version::V5, &[0x00, 0], "violation"),
        (Version::V311, &[0xe0, 0], "violation"),
        (Version::V5, &[0x30, 0x80, 0x80, 0x80, 0x80, 1], "violation"),
        (Version::V5, &[0x30, 0xff, 0xff, 0xff, 0x7f], "packet_too_large"),
        (Version::V311, &[0x30, 0xff, 0xff, 0xff, 0x7f], "packet_too_large"),
        (Version::V311, &[0x36, 4, 0, 1, b'a', b'x'], "violation"), // QoS 3
    ];
    for (version, packet, label) in table {
        let mut rig = accepted(version);
        assert_eq!(rig.say(packet), packet.len(), "{packet:x?}");
        assert_eq!(rig.last_error(), label, "{version} {packet:x?}");
        if version.is_v5() {
            assert_eq!(rig.heard().pop().unwrap().0, PacketType::Disconnect, "5.0 is told why");
        }
        recovers(&mut rig);
    }
}

#[test]
fn a_suback_with_too_few_answers_ends_the_link() {
    let mut rig = by_hand(Version::V5);
    rig.say(CONNACK_V5);
    let (_, _, body) = rig.heard().remove(0);
    rig.say(&[0x90, 3, body[0], body[1], 0]);
    assert_eq!(rig.last_error(), "violation");
    recovers(&mut rig);
}

#[test]
fn what_a_server_says_at_the_end_has_a_name() {
    let table = [
        (0x8e, "taken_over"),
        (0x8d, "keep_alive"),
        (0x97, "quota"),
        (0x96, "quota"),
        (0x95, "packet_too_large"),
        (0x87, "not_authorised"),
        (0x8b, "server_gone"),
        (0x9d, "moved"),
        (0x83, "disconnected"),
    ];
    for (reason, label) in table {
        let mut rig = accepted(Version::V5);
        rig.say(&[0xe0, 1, reason]);
        assert_eq!(rig.last_error(), label);
        recovers(&mut rig);
    }
}

#[test]
fn a_peer_that_does_not_answer_pings_is_given_up() {
    for version in [Version::V5, Version::V311] {
        let mut rig = accepted(version);
        rig.pass(Duration::from_secs(60));
        assert_eq!(rig.heard().pop().unwrap().0, PacketType::Pingreq);
        rig.say(&[0xd0, 0]);
        rig.pass(Duration::from_secs(60));
        assert_eq!(rig.heard().pop().unwrap().0, PacketType::Pingreq);
        rig.pass(Duration::from_secs(10));
        assert_eq!(rig.last_error(), "keep_alive");
    }
}

#[test]
fn acknowledgements_for_nothing_are_ignored() {
    for packet in [&[0x40, 2, 0, 9][..], &[0x70, 2, 0, 9], &[0xd0, 0]] {
        let mut rig = accepted(Version::V311);
        rig.say(packet);
        assert!(rig.bridge.is_up(), "{packet:x?}");
    }
}

#[test]
fn a_message_for_the_wrong_place_is_dropped_and_the_link_stays() {
    let mut rig = accepted(Version::V311);
    rig.say(&[0x32, 6, 0, 1, b'a', 0, 7, b'x']);
    assert!(rig.bridge.is_up());
    assert_eq!(rig.heard(), [(PacketType::Puback, 0, vec![0, 7])]);
    assert!(rig.local.received.is_empty());
}

#[test]
fn a_flood_is_read_only_as_fast_as_this_broker_takes_it() {
    let mut rig = accepted(Version::V311);
    let mut flood = Vec::new();
    for id in 1..=500_u16 {
        flood.extend_from_slice(&[0x32, 11, 0, 6]);
        flood.extend_from_slice(b"down/1");
        flood.extend_from_slice(&id.to_be_bytes());
        flood.push(b'x');
    }
    // The engine is not asked in between: the window towards it fills, and the rest is left to the socket.
    let used = rig.bridge.handle_remote(rig.now, &flood);
    assert!(used < flood.len());
    assert!(rig.bridge.stats().unacknowledged_in <= 101, "{}", rig.bridge.stats().unacknowledged_in);
    let mut rest = &flood[used..];
    while !rest.is_empty() {
        rig.settle();
        let used = rig.bridge.handle_remote(rig.now, rest);
        assert!(used > 0);
        rest = &rest[used..];
    }
    rig.settle();
    assert_eq!(rig.local.received.len(), 500);
    assert_eq!(rig.heard().len(), 500);
}

#[test]
fn a_remote_that_does_not_read_costs_bounded_memory() {
    let mut rig = accepted(Version::V5);
    let payload = "x".repeat(10_000);
    for _ in 0..1_000 {
        rig.local.publish(rig.now, &message("up/1", &payload, QoS::AtMostOnce));
        rig.settle();
    }
    assert!(rig.bridge.remote_output().pending() < 300_000, "{}", rig.bridge.remote_output().pending());
    assert!(rig.bridge.is_up());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_stop_the_bridge(
        version in prop_oneof![Just(Version::V5), Just(Version::V311)],
        up in any::<bool>(),
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(0x20), Just(0x30), Just(0x40), Just(2)], 0..60),
    ) {
        let mut rig = if up { accepted(version) } else { by_hand(version) };
        rig.local.publish(rig.now, &message("up/1", "x", QoS::ExactlyOnce));
        rig.settle();
        rig.say(&bytes);
        rig.connected = false;
        rig.bridge.handle_remote_closed(rig.now, "closed");
        rig.by_hand = false;
        rig.pass(Duration::from_secs(300));
        prop_assert!(rig.bridge.is_up());
    }

    #[test]
    fn no_bytes_of_the_engine_stop_the_bridge(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut rig = Rig::new(two_way());
        rig.bridge.handle_local(rig.now, &bytes);
        rig.kick();
        rig.pass(Duration::from_secs(5));
        rig.local.publish(rig.now, &message("up/1", "after", QoS::AtLeastOnce));
        rig.settle();
        prop_assert_eq!(rig.remote.payloads().pop().unwrap(), "after");
    }
}
