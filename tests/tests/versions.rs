//! Three publishers and three subscribers per version: every pairing of versions and QoS agrees on what was said.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{QoS, Version};
use viaduct_tests::{Broker, Client, Entry, Hello, Message, Outgoing};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// A subscriber and how it subscribed.
struct Listener {
    client: Client,
    granted: QoS,
    retain_as_published: bool,
}

/// The message that the publisher with `version` sends as its number `number`: payloads of many sizes, binary ones,
/// retained ones, and for 5.0 every property there is.
fn message(version: Version, publisher: usize, qos: QoS, number: usize) -> Outgoing {
    let mut payload: Vec<u8> = (0..[0, 1, 127, 128, 5000][number % 5]).map(|byte| (byte * 7 + number) as u8).collect();
    payload.extend_from_slice(format!("{version} {publisher} {} {number}", qos.bits()).as_bytes());
    let mut message = Outgoing::new(&format!("v/{version}/{publisher}"), payload).qos(qos);
    message.retain = number % 2 == 1;
    if version == Version::V5 && number % 3 != 2 {
        message.payload_format = Some(false);
        message.message_expiry = Some(1000);
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
fn check(sent: &Outgoing, came: &Message, listener: &Listener) {
    let version = listener.client.version();
    let context = format!("{:?} to {version} granted {:?}", sent.topic, listener.granted);
    assert_eq!(came.topic, sent.topic, "{context}");
    assert_eq!(came.payload, sent.payload, "{context}");
    assert_eq!(came.qos, sent.qos.min(listener.granted), "{context}");
    assert_eq!(came.retain, sent.retain && listener.retain_as_published, "{context}");
    assert!(!came.dup, "{context}");
    if version == Version::V5 {
        assert_eq!(came.payload_format, sent.payload_format, "{context}");
        assert_eq!(came.response_topic, sent.response_topic, "{context}");
        assert_eq!(came.correlation_data, sent.correlation_data, "{context}");
        assert_eq!(came.content_type, sent.content_type, "{context}");
        assert_eq!(came.user_properties, sent.user_properties, "{context}");
        let left = came.message_expiry.map(|left| (990..=1000).contains(&left));
        assert_eq!(left, sent.message_expiry.map(|_| true), "{context}: {:?}", came.message_expiry);
        assert_eq!(came.subscription_ids, [7], "{context}");
    }
}

#[test]
fn every_pairing_of_versions_and_qos_agrees() {
    let broker = Broker::start("");
    let mut listeners: Vec<Listener> = Vec::new();
    for version in VERSIONS {
        for (index, granted) in QOS.into_iter().enumerate() {
            let mut client = Hello::of(version, &format!("s {version} {index}")).connect(broker.address());
            let retain_as_published = version == Version::V5 && index > 0;
            let entry = Entry { retain_as_published, ..Entry::new("v/#", granted) };
            client.subscribe_all(&[entry], (version == Version::V5).then_some(7));
            listeners.push(Listener { client, granted, retain_as_published });
        }
    }
    for version in VERSIONS {
        for (publisher, qos) in QOS.into_iter().enumerate() {
            let mut client = Hello::of(version, &format!("p {version} {publisher}")).connect(broker.address());
            for number in 0..10 {
                let sent = message(version, publisher, qos, number);
                let reason = client.publish_message(&sent);
                assert!(!reason.is_error(), "{reason}");
                for listener in &mut listeners {
                    let came = listener.client.message();
                    check(&sent, &came, listener);
                }
            }
            client.disconnect();
        }
    }
    for listener in &mut listeners {
        listener.client.ping();
        assert_eq!(listener.client.waiting(), 0, "nothing comes twice");
    }
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
