//! Retained messages: kept, replaced, cleared, and handed to who subscribes later.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use viaduct_tests::codec::{QoS, ReasonCode, RetainHandling, Version};
use viaduct_tests::{Broker, Client, Entry, Event, Hello, Message, Outgoing, eventually};

fn publisher(broker: &Broker) -> Client {
    Hello::v5("publisher").connect(broker.address())
}

fn keep(publisher: &mut Client, topic: &str, payload: &str, qos: QoS) {
    assert!(!publisher.publish_message(&Outgoing::new(topic, payload).qos(qos).retained()).is_error());
}

/// What a new client gets when it subscribes to `filter`.
fn kept(broker: &Broker, version: Version, filter: &str, qos: QoS) -> Vec<Message> {
    let mut client = Hello::of(version, "").connect_or_named(broker);
    client.subscribe(filter, qos);
    client.publish("marker/of/the/end", "", QoS::AtMostOnce);
    client.subscribe("marker/of/the/end", QoS::AtMostOnce);
    client.publish("marker/of/the/end", "", QoS::AtMostOnce);
    let messages = client.messages_before("marker/of/the/end");
    client.disconnect();
    messages
}

trait ConnectNamed {
    fn connect_or_named(self, broker: &Broker) -> Client;
}

impl ConnectNamed for Hello {
    /// 3.1 takes no empty ClientID.
    fn connect_or_named(mut self, broker: &Broker) -> Client {
        if self.version() == Version::V31 {
            "named".clone_into(&mut self.client_id);
        }
        self.connect(broker.address())
    }
}

#[test]
fn the_last_one_is_kept_for_every_version_with_the_lower_qos() {
    let broker = Broker::start("");
    let mut publisher = publisher(&broker);
    keep(&mut publisher, "t", "first", QoS::AtMostOnce);
    keep(&mut publisher, "t", "second", QoS::ExactlyOnce);
    for version in [Version::V31, Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let messages = kept(&broker, version, "t", qos);
            assert_eq!(messages.len(), 1);
            let message = &messages[0];
            assert_eq!((message.text(), message.qos, message.retain), ("second", qos, true));
        }
    }
    keep(&mut publisher, "t", "third", QoS::AtMostOnce);
    assert_eq!(kept(&broker, Version::V5, "t", QoS::ExactlyOnce)[0].qos, QoS::AtMostOnce);
    assert_eq!(broker.metric("viaduct_retained_messages", &[]) as u64, own_retained(&broker) + 1);
}

/// Retained messages of the broker's own `$SYS` tree.
fn own_retained(broker: &Broker) -> u64 {
    kept(broker, Version::V5, "$SYS/#", QoS::AtMostOnce).len() as u64
}

#[test]
fn an_empty_payload_clears_and_is_delivered_as_any_other() {
    let broker = Broker::start("");
    let mut publisher = publisher(&broker);
    let mut live = Hello::v5("live").connect(broker.address());
    live.subscribe("t", QoS::AtLeastOnce);
    keep(&mut publisher, "t", "x", QoS::AtLeastOnce);
    publisher.publish("t", "", QoS::AtLeastOnce);
    assert_eq!(kept(&broker, Version::V5, "t", QoS::AtMostOnce).len(), 1, "only a retained one clears");
    keep(&mut publisher, "t", "", QoS::AtLeastOnce);
    assert_eq!(kept(&broker, Version::V5, "t", QoS::AtMostOnce), []);
    let payloads: Vec<String> = live.messages(3).iter().map(|message| message.text().to_owned()).collect();
    assert_eq!(payloads, ["x", "", ""]);
}

#[test]
fn wildcards_find_them_all_and_dollar_topics_only_by_name() {
    let broker = Broker::start("[sys]\ninterval = \"0s\"\n");
    let mut publisher = publisher(&broker);
    let topics = ["a", "a/b", "a/b/c", "a/", "/", "/b", "$own/x", "b/b"];
    for topic in topics {
        keep(&mut publisher, topic, topic, QoS::AtLeastOnce);
    }
    for (filter, wanted) in [
        ("#", vec!["/", "/b", "a", "a/", "a/b", "a/b/c", "b/b"]),
        ("a/#", vec!["a", "a/", "a/b", "a/b/c"]),
        ("+/b", vec!["/b", "a/b", "b/b"]),
        ("+", vec!["a"]),
        ("$own/#", vec!["$own/x"]),
        ("a/b/c", vec!["a/b/c"]),
        ("c/#", vec![]),
    ] {
        let mut came: Vec<String> =
            kept(&broker, Version::V311, filter, QoS::AtLeastOnce).into_iter().map(|message| message.topic).collect();
        came.sort();
        assert_eq!(came, wanted, "{filter}");
    }
}

#[test]
fn the_flag_is_for_what_was_kept_unless_as_published() {
    let broker = Broker::start("");
    let mut plain = Hello::v5("plain").connect(broker.address());
    plain.subscribe("t", QoS::AtLeastOnce);
    let mut as_published = Hello::v5("as published").connect(broker.address());
    as_published.subscribe_all(&[Entry { retain_as_published: true, ..Entry::new("t", QoS::AtLeastOnce) }], None);
    let mut publisher = publisher(&broker);
    keep(&mut publisher, "t", "kept", QoS::AtLeastOnce);
    publisher.publish("t", "live", QoS::AtLeastOnce);
    assert_eq!(plain.messages(2).iter().map(|message| message.retain).collect::<Vec<_>>(), [false, false]);
    assert_eq!(as_published.messages(2).iter().map(|message| message.retain).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn retain_handling_decides_whether_they_come_on_subscribing() {
    let broker = Broker::start("");
    keep(&mut publisher(&broker), "t", "x", QoS::AtLeastOnce);
    let hello = Hello::v5("client").persistent();
    let mut client = hello.connect(broker.address());
    let comes = |client: &mut Client, retain_handling| {
        client.subscribe_all(&[Entry { retain_handling, ..Entry::new("t", QoS::AtLeastOnce) }], None);
        client.subscribe("end", QoS::AtLeastOnce);
        client.publish("end", "", QoS::AtLeastOnce);
        !client.messages_before("end").is_empty()
    };
    assert!(!comes(&mut client, RetainHandling::DoNotSend));
    assert!(!comes(&mut client, RetainHandling::SendIfNew), "the subscription is there");
    assert!(comes(&mut client, RetainHandling::Send));
    assert!(comes(&mut client, RetainHandling::Send), "every time");
    client.unsubscribe(&["t"]);
    assert!(comes(&mut client, RetainHandling::SendIfNew));
    client.disconnect();
    let mut client = hello.connect(broker.address());
    assert!(!comes(&mut client, RetainHandling::SendIfNew), "the session has it");
}

#[test]
fn they_do_not_come_by_themselves_when_a_session_is_resumed() {
    let broker = Broker::start("");
    keep(&mut publisher(&broker), "t", "x", QoS::AtLeastOnce);
    let hello = Hello::v311("client").persistent();
    let mut client = hello.connect(broker.address());
    client.subscribe("#", QoS::AtLeastOnce);
    assert_eq!(client.message().text(), "x");
    client.disconnect();
    let mut client = hello.connect(broker.address());
    client.publish("end", "", QoS::AtLeastOnce);
    assert_eq!(client.messages_before("end"), []);
}

#[test]
fn expiry_counts_down_while_it_is_kept() {
    let broker = Broker::start("[sys]\ninterval = \"0s\"\n");
    let mut publisher = publisher(&broker);
    publisher.publish_message(&Outgoing::new("long", "x").qos(QoS::AtLeastOnce).retained().expires_in(100));
    publisher.publish_message(&Outgoing::new("short", "x").qos(QoS::AtLeastOnce).retained().expires_in(1));
    let began = std::time::Instant::now();
    eventually("two seconds", || began.elapsed() > Duration::from_secs(2));
    let messages = kept(&broker, Version::V5, "#", QoS::AtLeastOnce);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!((90..=98).contains(&messages[0].message_expiry.unwrap()), "{messages:?}");
}

#[test]
fn a_broker_that_keeps_none_says_so() {
    let broker = Broker::start("[retained]\nenabled = false\n");
    let mut client = Hello::v5("client").connect(broker.address());
    assert_eq!(client.welcome.retain_available, Some(false));
    client.send_publish(&Outgoing::new("t", "x").retained());
    assert_eq!(client.expect_disconnect(), ReasonCode::RETAIN_NOT_SUPPORTED);
    let mut with_will = Hello::v5("client");
    with_will.will = Some(viaduct_tests::WillMessage { retain: true, ..viaduct_tests::WillMessage::new("t", "x") });
    assert_eq!(with_will.try_connect(broker.address()).unwrap_err(), ReasonCode::RETAIN_NOT_SUPPORTED);
}

#[test]
fn the_limits_of_what_is_kept_do_not_stop_delivery_and_are_counted() {
    let broker = Broker::start("[retained]\nmax_messages = 2\nmax_payload = \"100B\"\n[sys]\ninterval = \"0s\"\n");
    let mut live = Hello::v5("live").connect(broker.address());
    live.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = publisher(&broker);
    let large = "x".repeat(101);
    keep(&mut publisher, "large", &large, QoS::AtLeastOnce);
    for topic in ["a", "b", "c"] {
        keep(&mut publisher, topic, "x", QoS::AtLeastOnce);
    }
    assert_eq!(live.messages(4).len(), 4);
    let mut topics: Vec<String> =
        kept(&broker, Version::V5, "#", QoS::AtLeastOnce).into_iter().map(|message| message.topic).collect();
    topics.sort();
    assert_eq!(topics, ["a", "b"]);
    assert_eq!(broker.metric("viaduct_messages_dropped_total", &[("reason", "retained_limit")]), 2.0);
    assert_eq!(broker.metric("viaduct_retained_messages", &[]), 2.0);
}

#[test]
fn a_thousand_of_them_arrive_through_a_small_window() {
    let broker = Broker::start("[sys]\ninterval = \"0s\"\n");
    let mut publisher = publisher(&broker);
    for number in 0..1000 {
        publisher.send_publish(&Outgoing::new(&format!("many/{number}"), number.to_string()).retained());
    }
    publisher.ping();
    broker.wait_for_metric("viaduct_retained_messages", &[], |count| count == 1000.0);
    let mut client = Hello::v311("client").connect(broker.address());
    client.subscribe("many/+", QoS::AtLeastOnce);
    let mut numbers: Vec<u32> = client.messages(1000).iter().map(|message| message.text().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert_ne!(client.event_within(Duration::from_millis(1)), Some(Event::Closed));
}
