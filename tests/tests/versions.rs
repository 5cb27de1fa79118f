//! The matrix: every level that publishes, every level that subscribes, every QoS on either side, with properties, retain
//! and expiry, by every way that a message may come: live, from the queue of a session, as a retained message.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{Level, QoS, Version};
use viaduct_tests::{Broker, Client, Entry, Hello, Message, Outgoing, eventually};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// Seconds that a 5.0 publisher gives a message that is to live through the test.
const LIFE: u32 = 1000;

/// A subscriber and how it subscribed.
struct Listener {
    level: Level,
    client: Client,
    granted: QoS,
    retain_as_published: bool,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Live,
    Queued,
    Retained,
}

/// The message that the publisher with `level` and `qos` sends as its number `number`: payloads of many sizes, binary
/// ones, retained ones, and for 5.0 every property there is.
fn message(level: Level, qos: QoS, number: usize) -> Outgoing {
    let mut payload: Vec<u8> = (0..[0, 1, 127, 128, 5000][number % 5]).map(|byte| (byte * 7 + number) as u8).collect();
    payload.extend_from_slice(format!("{level} {} {number}", qos.bits()).as_bytes());
    let mut message = Outgoing::new(&format!("v/{level}/{}", qos.bits()), payload).qos(qos);
    message.retain = number % 2 == 1;
    if level == Level::V5 && number % 3 != 2 {
        message.payload_format = Some(false);
        message.message_expiry = Some(LIFE);
        message.response_topic = Some("answers/here".to_owned());
        message.correlation_data = Some(vec![0, 255, u8::try_from(number).unwrap()]);
        message.content_type = Some("application/x-test".to_owned());
        message.topic_alias = (number > 5).then_some(1);
        for (name, value) in [("b", "1"), ("a", ""), ("b", "2")] {
            message = message.user_property(name, value);
        }
    }
    message
}

/// Checks that `came` is `sent` as `listener` must see it.
fn check(sent: &Outgoing, came: &Message, listener: &Listener, way: Way) {
    let context = format!("{:?} to {} granted {:?}, {way:?}", sent.topic, listener.level, listener.granted);
    assert_eq!(came.topic, sent.topic, "{context}");
    assert_eq!(came.payload, sent.payload, "{context}");
    assert_eq!(came.qos, sent.qos.min(listener.granted), "{context}");
    let retain = way == Way::Retained || (sent.retain && listener.retain_as_published);
    assert_eq!(came.retain, retain, "{context}");
    assert!(!came.dup, "{context}");
    if listener.level != Level::V5 {
        return;
    }
    assert_eq!(came.payload_format, sent.payload_format, "{context}");
    assert_eq!(came.response_topic, sent.response_topic, "{context}");
    assert_eq!(came.correlation_data, sent.correlation_data, "{context}");
    assert_eq!(came.content_type, sent.content_type, "{context}");
    assert_eq!(came.user_properties, sent.user_properties, "{context}");
    assert_eq!(came.subscription_ids, [7], "{context}");
    assert_eq!(came.message_expiry.is_some(), sent.message_expiry.is_some(), "{context}");
    if let Some(left) = came.message_expiry {
        // What waited at least a second has a second less to live.
        let most = if way == Way::Live { LIFE } else { LIFE - 1 };
        assert!((LIFE - 60..=most).contains(&left), "{context}: {left} seconds left");
    }
}

fn each() -> impl Iterator<Item = (Level, QoS)> {
    Level::ALL.into_iter().flat_map(|level| QOS.map(|qos| (level, qos)))
}

/// A bridge has it always, a 5.0 client of this test when it asks for QoS 1 or 2.
fn retain_as_published(level: Level, granted: QoS) -> bool {
    level.is_bridge() || (level == Level::V5 && granted != QoS::AtMostOnce)
}

fn subscribe(mut client: Client, level: Level, granted: QoS) -> Listener {
    let retain_as_published = retain_as_published(level, granted);
    let asked = retain_as_published && level == Level::V5;
    let entry = Entry { retain_as_published: asked, ..Entry::new("v/#", granted) };
    client.subscribe_all(&[entry], (level == Level::V5).then_some(7));
    Listener { level, client, granted, retain_as_published }
}

fn nothing_is_left(listeners: &mut [Listener]) {
    for listener in listeners {
        listener.client.ping();
        assert_eq!(listener.client.waiting(), 0, "nothing comes twice");
    }
}

/// Proves: cross:1, cross:3, cross:4
#[test]
fn every_pairing_of_levels_and_qos_agrees_live() {
    let broker = Broker::start("");
    let mut listeners: Vec<Listener> = each()
        .map(|(level, granted)| {
            let client = Hello::new(level, &format!("s {level} {}", granted.bits())).connect(broker.address());
            subscribe(client, level, granted)
        })
        .collect();
    for (level, qos) in each() {
        let mut client = Hello::new(level, &format!("p {level} {}", qos.bits())).connect(broker.address());
        for number in 0..10 {
            let sent = message(level, qos, number);
            let reason = client.publish_message(&sent);
            assert!(!reason.is_error(), "{reason}");
            for listener in &mut listeners {
                let came = listener.client.message();
                check(&sent, &came, listener, Way::Live);
            }
        }
        client.disconnect();
    }
    nothing_is_left(&mut listeners);
}

/// Waits until what was to last a second is gone: what is published behind it, to last as long, is not given out any more.
fn let_expire(broker: &Broker) {
    let mut clock = Hello::v5("clock").connect(broker.address());
    clock.publish_message(&Outgoing::new("clock", "a second").qos(QoS::AtLeastOnce).retained().expires_in(1));
    clock.subscribe("clock", QoS::AtMostOnce);
    assert_eq!(clock.message().topic, "clock");
    eventually("the end of what lasts a second", || {
        clock.subscribe("clock", QoS::AtMostOnce);
        clock.ping();
        let is_there = clock.waiting() > 0;
        (0..clock.waiting()).for_each(|_| _ = clock.message());
        !is_there
    });
    clock.disconnect();
}

/// Proves: cross:1, cross:2, cross:3, cross:4
#[test]
fn every_pairing_of_levels_and_qos_agrees_from_the_queue() {
    let broker = Broker::start("");
    let hello = |level: Level, granted: QoS| Hello::new(level, &format!("s {level} {}", granted.bits())).persistent();
    for (level, granted) in each() {
        subscribe(hello(level, granted).connect(broker.address()), level, granted).client.disconnect();
    }
    let mut all = Vec::new();
    for (level, qos) in each() {
        let mut client = Hello::new(level, &format!("p {level} {}", qos.bits())).connect(broker.address());
        for number in 0..5 {
            let sent = message(level, qos, number);
            client.publish_message(&sent);
            all.push(sent);
        }
        if level == Level::V5 {
            client.publish_message(&Outgoing::new("v/short", "gone by then").qos(qos).expires_in(1));
        }
        client.disconnect();
    }
    let_expire(&broker);
    let mut listeners = Vec::new();
    for (level, granted) in each() {
        let client = hello(level, granted).connect(broker.address());
        let retain_as_published = retain_as_published(level, granted);
        let mut listener = Listener { level, client, granted, retain_as_published };
        // What is owed at QoS 0 is not kept for somebody who is away.
        for sent in all.iter().filter(|sent| sent.qos.min(granted) != QoS::AtMostOnce) {
            let came = listener.client.message();
            check(sent, &came, &listener, Way::Queued);
        }
        listeners.push(listener);
    }
    nothing_is_left(&mut listeners);
}

/// Proves: cross:1, cross:3, cross:4
#[test]
fn every_pairing_of_levels_and_qos_agrees_on_retained_messages() {
    let broker = Broker::start("");
    let mut all = Vec::new();
    for (level, qos) in each() {
        let mut client = Hello::new(level, &format!("p {level} {}", qos.bits())).connect(broker.address());
        let mut sent = message(level, qos, 7);
        // An alias needs a message that introduces it.
        sent.topic_alias = sent.topic_alias.map(|_| 2);
        assert!(sent.retain);
        client.publish_message(&sent);
        all.push(sent);
        if level == Level::V5 {
            client.publish_message(&Outgoing::new("v/short", "gone by then").qos(qos).retained().expires_in(1));
        }
        client.disconnect();
    }
    let_expire(&broker);
    let mut listeners = Vec::new();
    for (level, granted) in each() {
        let client = Hello::new(level, &format!("s {level} {}", granted.bits())).connect(broker.address());
        let mut listener = subscribe(client, level, granted);
        let mut came = listener.client.messages(all.len());
        for sent in &all {
            let index = came.iter().position(|came| came.topic == sent.topic).expect("each topic has its message");
            let came = came.swap_remove(index);
            check(sent, &came, &listener, Way::Retained);
        }
        listeners.push(listener);
    }
    nothing_is_left(&mut listeners);
}

#[test]
fn nine_publishers_at_once_reach_nine_subscribers_in_each_ones_order() {
    let broker = Broker::start("");
    let address = broker.address();
    const COUNT: usize = 60;
    let mut listeners: Vec<Client> = Vec::new();
    for version in VERSIONS {
        for (index, granted) in QOS.into_iter().enumerate() {
            let mut client = Hello::of(version, &format!("s {version} {index}")).connect(address);
            client.subscribe("v/#", granted);
            listeners.push(client);
        }
    }
    let publishers: Vec<_> = VERSIONS
        .into_iter()
        .flat_map(|version| QOS.map(|qos| (version, qos)))
        .map(|(version, qos)| {
            std::thread::spawn(move || {
                let mut client = Hello::of(version, &format!("p {version} {}", qos.bits())).connect(address);
                for number in 0..COUNT {
                    client.publish(&format!("v/{version}/{}", qos.bits()), number.to_string(), qos);
                }
            })
        })
        .collect();
    for listener in &mut listeners {
        let mut next = std::collections::HashMap::<String, usize>::new();
        for _ in 0..9 * COUNT {
            let message = listener.message();
            let expected = next.entry(message.topic.clone()).or_default();
            assert_eq!(message.text(), expected.to_string(), "{}", message.topic);
            *expected += 1;
        }
    }
    for publisher in publishers {
        publisher.join().unwrap();
    }
}
