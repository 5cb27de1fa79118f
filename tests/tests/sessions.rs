//! What a session keeps between connections, for how long, and in which order it comes back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use viaduct_tests::codec::{PacketType, QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Client, Hello, Message, Outgoing, Raw, eventually};

fn publisher(broker: &Broker) -> Client {
    Hello::v5("publisher").connect(broker.address())
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}

/// Waits until the broker has noticed that `count` sessions are without a connection.
fn wait_until_disconnected(broker: &Broker, count: f64) {
    broker.wait_for_metric("viaduct_sessions", &[("state", "disconnected")], |now| now == count);
}

#[test]
fn a_persistent_session_keeps_subscriptions_and_messages() {
    let broker = Broker::start("");
    for version in [Version::V31, Version::V311, Version::V5] {
        let hello = Hello::of(version, &format!("client {version}")).persistent();
        let mut client = hello.connect(broker.address());
        assert!(!client.welcome.session_present);
        client.subscribe("t", QoS::ExactlyOnce);
        client.disconnect();
        let mut publisher = publisher(&broker);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish("t", format!("{}", qos.bits()), qos);
        }
        let mut client = hello.connect(broker.address());
        // 3.1 has no Session Present bit.
        assert_eq!(client.welcome.session_present, version != Version::V31);
        let came = client.messages(2);
        assert_eq!(texts(&came), ["1", "2"]);
        assert!(came.iter().all(|message| !message.dup), "they were never sent before");
        publisher.publish("t", "live", QoS::AtLeastOnce);
        assert_eq!(client.message().text(), "live");
        client.disconnect();
    }
}

#[test]
fn session_present_is_never_on_the_wire_in_3_1() {
    let broker = Broker::start("");
    for _ in 0..2 {
        let mut raw = Raw::connect(broker.address());
        raw.send(r#"10 0f 00 06 "MQIsdp" 03 00 00 3c 00 01 "a""#).expect("20 02 00 00").send("e0 00").expect_close();
    }
}

#[test]
fn clean_start_throws_the_old_session_away() {
    let broker = Broker::start("");
    for version in [Version::V311, Version::V5] {
        let mut client = Hello::of(version, "client").persistent().connect(broker.address());
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        publisher(&broker).publish("t", "old", QoS::AtLeastOnce);
        let mut client = Hello::of(version, "client").connect(broker.address());
        assert!(!client.welcome.session_present);
        client.subscribe("end", QoS::AtLeastOnce);
        let mut publisher = publisher(&broker);
        publisher.publish("t", "new", QoS::AtLeastOnce);
        publisher.publish("end", "", QoS::AtLeastOnce);
        assert_eq!(client.messages_before("end"), []);
        client.disconnect();
    }
}

#[test]
fn a_5_0_session_lives_as_long_as_it_was_asked_to() {
    let broker = Broker::start("");
    let resume = |name: &str| {
        let mut hello = Hello::v5(name);
        hello.clean_start = false;
        hello
    };
    // No expiry: gone with the connection.
    Hello::v5("a").connect(broker.address()).disconnect();
    assert!(!resume("a").connect(broker.address()).welcome.session_present);
    // Clean Start says nothing about the end.
    Hello { session_expiry: Some(300), ..Hello::v5("b") }.connect(broker.address()).disconnect();
    assert!(resume("b").connect(broker.address()).welcome.session_present);
    // One second.
    Hello { session_expiry: Some(1), ..Hello::v5("c") }.connect(broker.address()).disconnect();
    broker.wait_for_metric("viaduct_sessions_expired_total", &[], |count| count >= 1.0);
    assert!(!resume("c").connect(broker.address()).welcome.session_present);
    // DISCONNECT has the last word.
    let client = Hello { session_expiry: Some(300), ..Hello::v5("d") }.connect(broker.address());
    client.disconnect_with(ReasonCode::NORMAL_DISCONNECTION, Some(0));
    assert!(!resume("d").connect(broker.address()).welcome.session_present);
    // For ever is for ever.
    Hello { session_expiry: Some(u32::MAX), ..Hello::v5("e") }.connect(broker.address()).disconnect();
    assert!(resume("e").connect(broker.address()).welcome.session_present);
}

#[test]
fn a_session_that_was_to_end_can_not_be_prolonged_by_disconnect() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    client.send_bytes(&viaduct_tests::bytes("e0 07 00 05 11 00 00 00 0a"));
    assert_eq!(client.expect_disconnect(), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn what_was_sent_and_not_acknowledged_comes_again_first_and_in_order() {
    let broker = Broker::start("");
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let name = format!("client {}", qos.bits());
        let mut hello = Hello::v5(&name).persistent();
        hello.receive_maximum = Some(10);
        let mut client = hello.connect(broker.address());
        client.subscribe("t", qos);
        client.by_hand();
        let mut publisher = publisher(&broker);
        for number in 0..30 {
            publisher.publish("t", number.to_string(), qos);
        }
        let first = client.messages(10);
        client.break_off();
        wait_until_disconnected(&broker, if qos == QoS::AtLeastOnce { 1.0 } else { 2.0 });
        publisher.publish("t", "30", qos);
        let mut client = hello.connect(broker.address());
        publisher.publish("t", "31", qos);
        let came = client.messages(32);
        let wanted: Vec<String> = (0..32).map(|number| number.to_string()).collect();
        assert_eq!(texts(&came), wanted);
        for (again, before) in came.iter().zip(&first) {
            assert!(again.dup && again.id == before.id, "{again:?} was {before:?}");
        }
        assert!(came[10..].iter().all(|message| !message.dup));
        client.ping();
        client.disconnect();
    }
}

#[test]
fn an_exchange_that_got_as_far_as_pubrec_goes_on_with_pubrel() {
    let broker = Broker::start("");
    for version in [Version::V311, Version::V5] {
        let hello = Hello::of(version, "client").persistent();
        let mut client = hello.connect(broker.address());
        client.subscribe("t", QoS::ExactlyOnce);
        client.by_hand();
        publisher(&broker).publish("t", "x", QoS::ExactlyOnce);
        let message = client.message();
        let id = message.id.unwrap();
        client.acknowledge(&message);
        client.wait_for_ack(PacketType::Pubrel, id);
        client.break_off();
        wait_until_disconnected(&broker, 1.0);
        let mut client = hello.connect(broker.address());
        client.by_hand();
        assert_eq!(client.wait_for_ack(PacketType::Pubrel, id), ReasonCode::SUCCESS);
        client.send_ack(PacketType::Pubcomp, id, ReasonCode::SUCCESS);
        client.ping();
        assert_eq!(client.waiting(), 0, "the message itself does not come again");
        client.disconnect_with(ReasonCode::NORMAL_DISCONNECTION, (version == Version::V5).then_some(0));
        Hello::of(version, "client").connect(broker.address()).disconnect();
    }
}

#[test]
fn the_identifier_of_an_open_qos_2_message_is_remembered_across_connections() {
    let broker = Broker::start("");
    let mut subscriber = Hello::v5("subscriber").connect(broker.address());
    subscriber.subscribe("#", QoS::ExactlyOnce);
    let persistent = r#"10 0d 00 04 "MQTT" 04 00 00 3c 00 01 "a""#;
    let mut raw = Raw::connect(broker.address());
    raw.send(persistent).expect("20 02 00 00").send(r#"34 06 00 01 "t" 00 0a "x""#).expect("50 02 00 0a");
    raw.into_stream().reset();
    wait_until_disconnected(&broker, 1.0);
    let mut raw = Raw::connect(broker.address());
    raw.send(persistent).expect("20 02 01 00");
    raw.send(r#"3c 06 00 01 "t" 00 0a "x""#).expect("50 02 00 0a").send("62 02 00 0a").expect("70 02 00 0a");
    publisher(&broker).publish("end", "", QoS::ExactlyOnce);
    assert_eq!(texts(&subscriber.messages_before("end")), ["x"]);
}

#[test]
fn qos_0_is_not_kept_for_who_is_away() {
    let broker = Broker::start("");
    let hello = Hello::v311("client").persistent();
    let mut client = hello.connect(broker.address());
    client.subscribe("#", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = publisher(&broker);
    publisher.publish("t", "lost", QoS::AtMostOnce);
    publisher.publish("end", "", QoS::AtLeastOnce);
    assert_eq!(hello.connect(broker.address()).messages_before("end"), []);
    assert_eq!(broker.metric("viaduct_messages_dropped_total", &[("reason", "offline")]), 1.0);
}

#[test]
fn expiry_counts_down_while_a_message_waits() {
    let broker = Broker::start("");
    let hello = Hello::v5("client").persistent();
    let mut client = hello.connect(broker.address());
    client.subscribe("#", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = publisher(&broker);
    publisher.publish_message(&Outgoing::new("long", "x").qos(QoS::AtLeastOnce).expires_in(100));
    publisher.publish_message(&Outgoing::new("short", "x").qos(QoS::AtLeastOnce).expires_in(1));
    let began = std::time::Instant::now();
    eventually("two seconds", || began.elapsed() > Duration::from_secs(2));
    let mut client = hello.connect(broker.address());
    let message = client.message();
    assert_eq!(message.topic, "long");
    assert!((90..=98).contains(&message.message_expiry.unwrap()), "{:?}", message.message_expiry);
    publisher.publish("end", "", QoS::AtLeastOnce);
    assert_eq!(client.message().topic, "end");
    assert_eq!(broker.metric("viaduct_messages_dropped_total", &[("reason", "expired")]), 1.0);
}

#[test]
fn a_full_queue_drops_by_its_policy_counts_it_and_says_so_once() {
    for (policy, kept) in [("drop_newest", ["0", "1", "2", "3", "4"]), ("drop_oldest", ["5", "6", "7", "8", "9"])] {
        let broker = Broker::start(&format!("[session]\nmax_queued_messages = 5\non_full = \"{policy}\"\n"));
        let hello = Hello::v311("client").persistent();
        let mut client = hello.connect(broker.address());
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        let mut publisher = publisher(&broker);
        for number in 0..10 {
            publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
        }
        broker.wait_for_metric("viaduct_messages_dropped_total", &[("reason", "queue_full")], |count| count == 5.0);
        assert_eq!(broker.metric("viaduct_queued_messages", &[]), 5.0);
        let came = hello.connect(broker.address()).messages(5);
        assert_eq!(texts(&came), kept, "{policy}");
        let lines = broker.log().lines().filter(|line| line.contains("queue") && line.contains("client")).count();
        assert_eq!(lines, 1, "once a minute:\n{}", broker.log());
        eventually("an empty queue", || broker.metric("viaduct_queued_messages", &[]) == 0.0);
    }
}

#[test]
fn unsubscribing_does_not_take_back_what_was_sent() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    client.subscribe("t", QoS::ExactlyOnce);
    client.by_hand();
    publisher(&broker).publish("t", "x", QoS::ExactlyOnce);
    let message = client.message();
    client.unsubscribe(&["t"]);
    client.acknowledge(&message);
    assert_eq!(client.wait_for_ack(PacketType::Pubrel, message.id.unwrap()), ReasonCode::SUCCESS);
}

#[test]
fn the_gauges_of_sessions_follow() {
    let broker = Broker::start("");
    let sessions = |state| broker.metric("viaduct_sessions", &[("state", state)]);
    let a = Hello::v5("a").persistent().connect(broker.address());
    let b = Hello::v5("b").connect(broker.address());
    assert_eq!((sessions("connected"), sessions("disconnected")), (2.0, 0.0));
    a.disconnect();
    b.break_off();
    eventually("one that waits", || (sessions("connected"), sessions("disconnected")) == (0.0, 1.0));
}
