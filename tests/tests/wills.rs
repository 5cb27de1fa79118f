//! When a will is published, and what it looks like.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use viaduct_tests::codec::{QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Client, Hello, WillMessage};

fn watcher(broker: &Broker) -> Client {
    let mut watcher = Hello::v5("watcher").connect(broker.address());
    watcher.subscribe("#", QoS::ExactlyOnce);
    watcher
}

fn will() -> WillMessage {
    WillMessage::new("will", "gone")
}

#[test]
fn a_connection_that_breaks_publishes_the_will_in_every_version() {
    let broker = Broker::start("");
    let mut watcher = watcher(&broker);
    for version in [Version::V31, Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let will = WillMessage { qos, ..will() };
            Hello::of(version, "client").will(will).connect(broker.address()).break_off();
            let message = watcher.message();
            assert_eq!(
                (message.topic.as_str(), message.text(), message.qos, message.retain),
                ("will", "gone", qos, false)
            );
        }
    }
}

#[test]
fn a_goodbye_keeps_the_will_back_unless_it_asks_for_it() {
    let broker = Broker::start("");
    let mut watcher = watcher(&broker);
    for version in [Version::V31, Version::V311, Version::V5] {
        Hello::of(version, "client").will(will()).connect(broker.address()).disconnect();
    }
    let client = Hello::v5("client").will(WillMessage::new("asked", "")).connect(broker.address());
    client.disconnect_with(ReasonCode::DISCONNECT_WITH_WILL, None);
    assert_eq!(watcher.messages_before("asked"), []);
}

#[test]
fn what_the_broker_ends_is_no_goodbye() {
    let broker = Broker::start("");
    let mut watcher = watcher(&broker);
    // A malformed packet.
    let mut client = Hello::v311("client").will(WillMessage::new("malformed", "")).connect(broker.address());
    client.send_bytes(&[0xc1, 0x00]);
    assert_eq!(watcher.message().topic, "malformed");
    // Silence.
    let _silent = Hello::v5("client").keep_alive(1).will(WillMessage::new("silence", "")).connect(broker.address());
    assert_eq!(watcher.message().topic, "silence");
}

#[test]
fn a_will_can_be_retained_and_carries_its_properties() {
    let broker = Broker::start("");
    let mut watcher = watcher(&broker);
    let will = WillMessage {
        retain: true,
        message_expiry: Some(50),
        content_type: Some("text/plain".to_owned()),
        user_properties: [("a", "1"), ("b", "2"), ("a", "3")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
        ..will()
    };
    Hello::v5("client").will(will.clone()).connect(broker.address()).break_off();
    let live = watcher.message();
    let mut late = Hello::v5("late").connect(broker.address());
    late.subscribe("will", QoS::AtLeastOnce);
    let kept = late.message();
    assert!(!live.retain && kept.retain);
    for message in [live, kept] {
        assert_eq!(message.content_type, will.content_type);
        assert_eq!(message.user_properties, will.user_properties);
        assert!((48..=50).contains(&message.message_expiry.unwrap()));
    }
}

#[test]
fn a_delayed_will_waits_and_a_client_that_comes_back_cancels_it() {
    let broker = Broker::start("");
    let mut watcher = watcher(&broker);
    let delayed = |topic: &str, delay| WillMessage { delay: Some(delay), ..WillMessage::new(topic, "") };
    let began = Instant::now();
    // Comes back in time: never.
    let hello = Hello::v5("back").persistent();
    hello.clone().will(delayed("cancelled", 1)).connect(broker.address()).break_off();
    broker.wait_for_metric("viaduct_sessions", &[("state", "disconnected")], |count| count == 1.0);
    let _back = hello.connect(broker.address());
    // Stays away: after the delay.
    Hello::v5("away").persistent().will(delayed("delayed", 2)).connect(broker.address()).break_off();
    assert_eq!(watcher.message().topic, "delayed");
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_delayed_will_comes_at_the_end_of_the_session_at_the_latest() {
    let broker = Broker::start("");
    let mut watcher = watcher(&broker);
    let delayed = |topic: &str| WillMessage { delay: Some(3600), ..WillMessage::new(topic, "") };
    let hello = |expiry| Hello { session_expiry: expiry, ..Hello::v5("client") };
    hello(Some(1)).will(delayed("after a second")).connect(broker.address()).break_off();
    assert_eq!(watcher.message().topic, "after a second");
    hello(None).will(delayed("at once")).connect(broker.address()).break_off();
    assert_eq!(watcher.message().topic, "at once");
    // Clean Start by the same ClientID ends it too.
    hello(Some(3600)).will(delayed("clean start")).connect(broker.address()).break_off();
    broker.wait_for_metric("viaduct_sessions", &[("state", "disconnected")], |count| count == 1.0);
    let _new = hello(None).connect(broker.address());
    assert_eq!(watcher.message().topic, "clean start");
}

#[test]
fn a_will_is_published_once() {
    let broker = Broker::start("");
    let mut watcher = watcher(&broker);
    Hello::v311("client").persistent().will(will()).connect(broker.address()).break_off();
    assert_eq!(watcher.message().topic, "will");
    Hello::v311("client").persistent().connect(broker.address()).break_off();
    watcher.publish("end", "", QoS::ExactlyOnce);
    assert_eq!(watcher.messages_before("end"), []);
}
