//! A remote that takes less than it is given.

use std::time::Duration;

use viaduct_bridge::{Drop, Event, Lowered, Protocol};
use viaduct_codec::{Message, PacketType, QoS, ReasonCode, Version};

use crate::rig::{Rig, message, two_way};

fn retained(topic: &str, payload: &str, qos: QoS) -> Message {
    Message { retain: true, ..message(topic, payload, qos) }
}

/// A bridge on 5.0 after CONNECT, with its remote in the test's hands.
fn by_hand() -> Rig {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(Version::V5);
    settings.notifications = Some("state".into());
    let mut rig = Rig::unstarted(settings);
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.settle();
    rig
}

fn publishes(rig: &mut Rig) -> Vec<(u8, Vec<u8>)> {
    let heard = rig.heard().into_iter();
    heard.filter(|(kind, ..)| *kind == PacketType::Publish).map(|(_, flags, body)| (flags, body)).collect()
}

#[test]
fn the_limits_of_connack_are_obeyed_and_counted() {
    let mut rig = by_hand();
    rig.heard();
    // Maximum QoS 0, Retain Available 0, Maximum Packet Size 64, no wildcards
    rig.say(&[0x20, 14, 0, 0, 11, 0x24, 0, 0x25, 0, 0x27, 0, 0, 0, 64, 0x28, 0]);
    assert!(rig.bridge.is_up());
    let heard = rig.heard();
    assert!(heard.iter().all(|(kind, ..)| *kind != PacketType::Subscribe), "the only filter has a wildcard");
    assert_eq!(heard.iter().filter(|(kind, flags, _)| *kind == PacketType::Publish && *flags == 0).count(), 1, "state");
    rig.local.publish(rig.now, &retained("up/1", "x", QoS::ExactlyOnce));
    rig.local.publish(rig.now, &message("up/1", &"x".repeat(64), QoS::AtLeastOnce));
    rig.settle();
    let sent = publishes(&mut rig);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, 0, "QoS 0, not retained");
    let stats = rig.bridge.stats();
    assert_eq!(
        (stats.lowered_in(Lowered::Qos), stats.lowered_in(Lowered::Retain), stats.dropped_for(Drop::TooLarge)),
        (1, 1, 1)
    );
    assert_eq!(stats.lowered_in(Lowered::Subscription), 1);
    assert_eq!(rig.local.session.inflight(), 0, "QoS 0 on a live link is done when it is written");
    let limited = |event: &Event| matches!(event, Event::Limited { limits } if limits == "QoS 0 at most, nothing retained, no wildcards, packets of 64 bytes at most");
    assert!(rig.events.iter().any(limited));
    assert!(rig.events.iter().any(|event| matches!(event, Event::MessageTooLarge { outgoing: true, count: 1, .. })));
}

#[test]
fn a_connect_that_asks_for_too_much_is_repeated_with_less() {
    let mut rig = by_hand();
    let connect = |rig: &mut Rig| rig.heard().remove(0).2;
    let flags = |body: &[u8]| body[7];
    assert_eq!(flags(&connect(&mut rig)) & 0b11_1100, 0b10_1100, "a retained will at QoS 1");
    rig.say(&[0x20, 3, 0, 0x9a, 0]);
    assert_eq!(flags(&connect(&mut rig)) & 0b11_1100, 0b00_1100);
    rig.say(&[0x20, 3, 0, 0x9b, 0]);
    assert_eq!(flags(&connect(&mut rig)) & 0b11_1100, 0b00_1100, "QoS 1 is no more than the will asked for");
    rig.say(&[0x20, 3, 0, 0x9b, 0]);
    assert_eq!(flags(&connect(&mut rig)) & 0b11_1100, 0b00_0100);
    rig.say(&[0x20, 3, 0, 0x9b, 0]);
    assert_eq!(rig.last_error(), "unsupported", "there is nothing left to give up");
    rig.pass(Duration::from_secs(2));
    connect(&mut rig);
    rig.say(&[0x20, 3, 0, 0, 0]);
    assert!(rig.bridge.is_up());
}

#[test]
fn a_remote_that_ends_the_link_over_a_qos_or_a_retain_flag_gets_less() {
    for (reason, flags) in [(0x9b, 0b0011), (0x9a, 0b0100)] {
        let mut rig = by_hand();
        rig.heard();
        rig.say(&[0x20, 3, 0, 0, 0]);
        rig.heard();
        rig.local.publish(rig.now, &retained("up/1", "x", QoS::ExactlyOnce));
        rig.settle();
        assert_eq!(publishes(&mut rig)[0].0, 0b0101);
        rig.say(&[0xe0, 1, reason]);
        assert_eq!(rig.dials.len(), 2, "at once");
        rig.heard();
        rig.say(&[0x20, 3, 1, 0, 0]);
        let sent = publishes(&mut rig);
        assert_eq!(sent.iter().find(|(_, body)| body.ends_with(b"x")).unwrap().0, flags);
        assert_eq!(rig.bridge.stats().messages_out, 1);
    }
}

#[test]
fn a_message_refused_for_another_reason_is_dropped_counted_and_said_once_a_minute() {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(Version::V5);
    let mut rig = Rig::new(settings);
    rig.remote.refuse = Some(ReasonCode::NOT_AUTHORIZED);
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce].repeat(5) {
        rig.local.publish(rig.now, &message("up/1", "x", qos));
        rig.settle();
    }
    assert_eq!(rig.bridge.stats().dropped_for(Drop::Refused), 10);
    assert_eq!(rig.local.session.inflight(), 0);
    let lines = |rig: &Rig| rig.events.iter().filter(|event| matches!(event, Event::MessageRefused { .. })).count();
    assert_eq!(lines(&rig), 1);
    rig.pass(Duration::from_secs(61));
    rig.local.publish(rig.now, &message("up/1", "x", QoS::AtLeastOnce));
    rig.settle();
    assert_eq!(lines(&rig), 2);
    assert!(rig.lines().pop().unwrap().contains("(10 so far)"), "{:?}", rig.lines());
}

#[test]
fn what_was_sent_and_became_too_large_does_not_block_what_follows() {
    let mut rig = by_hand();
    rig.heard();
    rig.say(&[0x20, 3, 0, 0, 0]);
    for payload in ["a", &"b".repeat(100), "c"] {
        rig.local.publish(rig.now, &message("up/1", payload, QoS::AtLeastOnce));
    }
    rig.settle();
    rig.heard();
    rig.connected = false;
    rig.bridge.handle_remote_closed(rig.now, "closed");
    rig.pass(Duration::from_secs(2));
    rig.heard();
    rig.say(&[0x20, 8, 1, 0, 5, 0x27, 0, 0, 0, 64]); // the session, and a smaller Maximum Packet Size
    let sent = publishes(&mut rig);
    let acks: Vec<u8> = sent
        .iter()
        .flat_map(|(_, body)| {
            let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            [0x40, 2, body[topic], body[topic + 1]]
        })
        .collect();
    rig.say(&acks);
    assert_eq!(rig.bridge.stats().dropped_for(Drop::TooLarge), 1);
    assert_eq!(rig.bridge.stats().unacknowledged_out, 0);
    assert_eq!(rig.local.session.inflight(), 0);
}

#[test]
fn a_message_larger_than_this_broker_takes_is_dropped_and_the_remote_answered() {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(Version::V311);
    let mut rig = Rig::unstarted(settings);
    rig.local.terms.maximum_packet_size = 200;
    rig.bridge.start(rig.now);
    rig.settle();
    rig.remote.publish(rig.now, &message("down/1", &"x".repeat(300), QoS::ExactlyOnce));
    rig.remote.publish(rig.now, &message("down/1", "small", QoS::ExactlyOnce));
    rig.settle();
    assert_eq!(rig.local.payloads(), ["small"]);
    assert_eq!(rig.bridge.stats().dropped_for(Drop::TooLarge), 1);
    assert_eq!(rig.remote.session.inflight(), 0);
}
