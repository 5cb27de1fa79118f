//! Runs of QoS 1 that cross under the identifiers that they came with, and what ends that.

use std::time::Duration;

use viaduct_bridge::{Direction, Drop, Protocol, Settings};
use viaduct_codec::{PacketType, QoS, Version};

use crate::rig::{Rig, message, settings, topic, two_way};

/// A bridge over `version`, up, whose remote is the test's own and grants `window`.
fn joined(version: Version, window: u8) -> Rig {
    joined_with(version, window, |_| {})
}

fn joined_with(version: Version, window: u8, change: impl FnOnce(&mut Settings)) -> Rig {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(version);
    settings.max_inflight = window.into();
    change(&mut settings);
    let mut rig = Rig::unstarted(settings);
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.settle();
    greet(&mut rig, version, false);
    let subscribe = rig.heard().into_iter().find(|(kind, ..)| *kind == PacketType::Subscribe).unwrap();
    let id = [subscribe.2[0], subscribe.2[1]];
    let suback: &[u8] = if version.is_v5() { &[0x90, 4, id[0], id[1], 0, 1] } else { &[0x90, 3, id[0], id[1], 1] };
    rig.say(suback);
    rig
}

fn greet(rig: &mut Rig, version: Version, session_present: bool) {
    let session_present = u8::from(session_present);
    let connack: &[u8] =
        if version.is_v5() { &[0x20, 3, session_present, 0, 0] } else { &[0x20, 2, session_present, 0] };
    rig.say(connack);
}

fn publish(rig: &mut Rig, payloads: &[&str]) {
    for payload in payloads {
        rig.local.publish(rig.now, &message("up/1", payload, QoS::AtLeastOnce));
    }
    rig.settle();
}

/// What went to the remote since it was last asked: flags, identifier and payload of each PUBLISH.
fn sent(rig: &mut Rig) -> Vec<(u8, u16, String)> {
    let publishes = rig.heard().into_iter().filter(|(kind, ..)| *kind == PacketType::Publish);
    let read = |(_, flags, body): (_, u8, Vec<u8>)| {
        let behind = 2 + usize::from(body[1]);
        let id = u16::from_be_bytes([body[behind], body[behind + 1]]);
        (flags, id, String::from_utf8(body[body.len() - 1..].to_vec()).unwrap())
    };
    publishes.map(read).collect()
}

fn ids(sent: &[(u8, u16, String)]) -> Vec<u16> {
    sent.iter().map(|(_, id, _)| *id).collect()
}

fn puback(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

#[test]
fn identifiers_cross_and_come_back() {
    for version in [Version::V311, Version::V5] {
        let mut rig = joined(version, 20);
        for round in 0..3_u16 {
            publish(&mut rig, &["a", "b", "c"]);
            let went = sent(&mut rig);
            // The bridge's own would go on behind that of its SUBSCRIBE, which was 1.
            let first = 3 * round + 1;
            assert_eq!(ids(&went), [first, first + 1, first + 2]);
            assert_eq!(went.iter().map(|(_, _, payload)| payload.as_str()).collect::<String>(), "abc");
            assert_eq!((rig.local.session.inflight(), rig.bridge.stats().unacknowledged_out), (3, 3));
            rig.say(&ids(&went)[..2].iter().flat_map(|id| puback(*id)).collect::<Vec<_>>());
            assert_eq!(rig.local.session.inflight(), 1, "the first two are told before the third is answered");
            rig.say(&puback(first + 2));
            assert_eq!((rig.local.session.inflight(), rig.bridge.stats().unacknowledged_out), (0, 0));
        }
        assert_eq!(rig.bridge.stats().messages_out, 9);
        assert!(rig.bridge.stats().round_trip.is_some());
    }
}

#[test]
fn an_identifier_that_is_in_use_crosses_as_another() {
    let mut rig = joined(Version::V311, 20);
    let twice = message("up/1", "A", QoS::ExactlyOnce);
    rig.local.publish(rig.now, &twice);
    rig.settle();
    // The bridge's own identifier 2 is in use for the first, which was 1 here.
    publish(&mut rig, &["b", "c"]);
    let went = sent(&mut rig);
    let mut apart = ids(&went);
    apart.sort_unstable();
    apart.dedup();
    assert_eq!(apart.len(), 3, "{went:?}");
    let [high, low] = went[0].1.to_be_bytes();
    rig.say(&[0x50, 2, high, low]);
    rig.say(&[0x70, 2, high, low]);
    rig.say(&went[1..].iter().flat_map(|(_, id, _)| puback(*id)).collect::<Vec<_>>());
    assert_eq!((rig.local.session.inflight(), rig.bridge.stats().unacknowledged_out), (0, 0));
}

#[test]
fn answers_out_of_turn_are_told_in_turn() {
    let mut rig = joined(Version::V311, 20);
    publish(&mut rig, &["a", "b", "c", "d"]);
    let went = ids(&sent(&mut rig));
    rig.say(&puback(went[0]));
    rig.say(&puback(went[2]));
    assert_eq!(rig.local.session.inflight(), 3, "the third waits for the second");
    rig.say(&puback(went[3]));
    assert_eq!(rig.local.session.inflight(), 3);
    rig.say(&puback(went[1]));
    assert_eq!((rig.local.session.inflight(), rig.bridge.stats().unacknowledged_out), (0, 0));
    publish(&mut rig, &["e"]);
    let went = ids(&sent(&mut rig));
    rig.say(&puback(went[0]));
    assert_eq!(rig.local.session.inflight(), 0);
}

#[test]
fn an_answer_with_a_reason_is_heard() {
    let mut rig = joined(Version::V5, 20);
    publish(&mut rig, &["a", "b", "c"]);
    let went = ids(&sent(&mut rig));
    let with_reason = |id: u16, reason| [0x40, 3, id.to_be_bytes()[0], id.to_be_bytes()[1], reason];
    rig.say(&with_reason(went[0], 0x10));
    assert_eq!(rig.local.session.inflight(), 2, "nobody heard it, and it is taken");
    rig.say(&with_reason(went[1], 0x97));
    rig.say(&puback(went[2]));
    assert_eq!((rig.local.session.inflight(), rig.bridge.stats().unacknowledged_out), (0, 0));
    assert_eq!(rig.bridge.stats().dropped_for(Drop::Refused), 1);
    assert!(rig.lines().iter().any(|line| line.contains("up/1")), "{:?}", rig.lines());
}

#[test]
fn a_wrong_answer_ends_the_link_and_they_are_sent_again_as_they_were() {
    for session_present in [true, false] {
        let mut rig = joined(Version::V311, 20);
        publish(&mut rig, &["a", "b", "c"]);
        let went = sent(&mut rig);
        rig.say(&puback(went[0].1));
        let [high, low] = went[1].1.to_be_bytes();
        rig.say(&[0x50, 2, high, low]);
        assert!(!rig.bridge.is_up());
        assert_eq!((rig.last_error(), rig.local.session.inflight()), ("violation", 2));
        rig.heard();
        rig.now = rig.bridge.next_timeout().unwrap();
        rig.bridge.handle_timeout(rig.now);
        rig.settle();
        greet(&mut rig, Version::V311, session_present);
        let again = sent(&mut rig);
        let payloads: String = again.iter().map(|(_, _, payload)| payload.as_str()).collect();
        assert_eq!(payloads, "bc");
        if session_present {
            assert_eq!(ids(&again), ids(&went)[1..], "MQTT-4.4.0-1");
        }
        assert!(again.iter().all(|(flags, ..)| (flags & 8 != 0) == session_present));
        rig.say(&again.iter().flat_map(|(_, id, _)| puback(*id)).collect::<Vec<_>>());
        assert_eq!((rig.local.session.inflight(), rig.bridge.stats().unacknowledged_out), (0, 0));
    }
}

#[test]
fn the_window_is_one_for_all_and_the_order_is_kept() {
    let mut rig = joined(Version::V311, 4);
    publish(&mut rig, &["a", "b"]);
    let mut retained = message("up/1", "R", QoS::AtLeastOnce);
    retained.retain = true;
    rig.local.publish(rig.now, &retained);
    publish(&mut rig, &["c", "d", "e"]);
    let mut open = sent(&mut rig);
    let mut payloads = String::new();
    while !open.is_empty() {
        assert!(open.len() <= 4);
        let (_, id, payload) = open.remove(0);
        payloads.push_str(&payload);
        rig.say(&puback(id));
        open.extend(sent(&mut rig));
    }
    assert_eq!(payloads, "abRcde");
    assert_eq!((rig.local.session.inflight(), rig.bridge.stats().unacknowledged_out), (0, 0));
}

#[test]
fn what_is_kept_back_goes_the_long_way() {
    // Each would be ignored by a message that nobody looks at.
    let mut rig = joined_with(Version::V311, 20, |settings| settings.max_age = Some(Duration::from_secs(60)));
    publish(&mut rig, &["a", "b"]);
    assert_eq!(sent(&mut rig).len(), 2);
    let mut rig = joined_with(Version::V311, 20, |settings| settings.drain_rate = std::num::NonZeroU32::new(10));
    publish(&mut rig, &["a", "b", "c", "d"]);
    assert_eq!(sent(&mut rig).len(), 1, "a tenth of a second's worth");
    rig.pass(Duration::from_secs(1));
    assert_eq!(sent(&mut rig).len(), 3);
}

#[test]
fn a_remote_that_uses_an_identifier_twice_is_answered_twice() {
    let mut rig = joined(Version::V311, 20);
    rig.remote.has_session = true;
    let one = |payload: u8| [0x32, 11, 0, 6, b'd', b'o', b'w', b'n', b'/', b'1', 0, 7, payload];
    let used = rig.say(&[one(b'a'), one(b'b')].concat());
    assert_eq!(used, 26);
    assert_eq!(rig.local.payloads(), ["a", "b"]);
    let acks: Vec<_> = rig.heard().into_iter().map(|(kind, _, body)| (kind, body)).collect();
    assert_eq!(acks, [(PacketType::Puback, vec![0, 7]), (PacketType::Puback, vec![0, 7])]);
}

#[test]
fn a_remote_that_has_answered_all_and_sends_nothing_else_waits_for_nothing() {
    for version in [Version::V311, Version::V5] {
        let mut settings = settings(vec![topic(Direction::Out, "up/#", "", "")]);
        settings.protocol = Protocol::Fixed(version);
        let mut rig = Rig::unstarted(settings);
        rig.by_hand = true;
        rig.bridge.start(rig.now);
        rig.settle();
        assert!(rig.bridge.may_remote_wait(), "CONNACK is to come");
        greet(&mut rig, version, false);
        assert!(!rig.bridge.may_remote_wait());
        publish(&mut rig, &["a", "b"]);
        let ids = ids(&sent(&mut rig));
        rig.say(&puback(ids[0]));
        assert!(rig.bridge.may_remote_wait(), "an answer is to come");
        rig.say(&puback(ids[1]));
        assert!(!rig.bridge.may_remote_wait());
        rig.local.publish(rig.now, &message("up/1", "c", QoS::ExactlyOnce));
        rig.settle();
        let [high, low] = sent(&mut rig)[0].1.to_be_bytes();
        rig.say(&[0x50, 2, high, low]);
        assert!(rig.bridge.may_remote_wait(), "another one");
        rig.say(&[0x70, 2, high, low]);
        assert!(!rig.bridge.may_remote_wait());
    }
    assert!(joined(Version::V311, 20).bridge.may_remote_wait(), "messages may come");
}
