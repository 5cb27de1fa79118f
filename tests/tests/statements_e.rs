//! What conversations can't show of subscriptions and topic aliases: several workers at once, and our own bridge as the
//! client.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use viaduct_tests::codec::{Frame, Packet, QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Client, DEADLINE, Hello, Message, Outgoing, Raw, Stream, bytes, hex, until};

/// Proves: v4:3.8.4-3, v5:3.8.4-3
#[test]
fn subscribing_again_while_messages_come_loses_and_doubles_none() {
    const TIMES: usize = 200;
    for version in [Version::V311, Version::V5] {
        // Two workers, as every broker here has.
        let broker = Broker::start("");
        let mut subscriber = Hello::of(version, "subscriber").connect(broker.address());
        let mut keeper = Hello::v311("keeper").connect(broker.address());
        keeper.publish_message(&Outgoing::new("t", "kept").qos(QoS::AtLeastOnce).retained());
        assert_eq!(subscriber.subscribe("t", QoS::AtLeastOnce), ReasonCode(1));
        let mut came: Vec<Message> = Vec::new();
        let done = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                let mut publisher = Hello::v311("publisher").connect(broker.address());
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
                    number += 1;
                }
                number
            });
            for time in 0..TIMES {
                let qos = if time % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                assert!(!subscriber.subscribe("t", qos).is_error());
                // One of the two is no retained message, at least every second time: the publisher goes on all the while.
                came.extend(subscriber.messages(2));
            }
            done.store(true, Ordering::Relaxed);
            publisher.join().unwrap()
        });
        came.extend(subscriber.messages(sent + TIMES + 1 - came.len()));
        subscriber.ping();
        assert_eq!(subscriber.waiting(), 0, "each once");
        let came: Vec<&Message> = came.iter().filter(|message| message.text() != "kept").collect();
        let numbers = |wanted: &dyn Fn(QoS) -> bool| -> Vec<usize> {
            let came = came.iter().filter(|message| wanted(message.qos));
            came.map(|message| message.text().parse().unwrap()).collect()
        };
        // Those of QoS 0 don't wait for the window that those of QoS 1 need room in.
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            assert!(numbers(&|own| own == qos).is_sorted(), "{version}: {qos:?} in order");
        }
        let mut all = numbers(&|_| true);
        all.sort_unstable();
        assert_eq!(all, (0..sent).collect::<Vec<_>>(), "{version}: all, and a retained message for each SUBACK");
    }
}

/// Proves: trap:68
#[test]
fn what_is_published_after_suback_comes_from_whatever_worker() {
    let broker = Broker::start("[node]\nworkers = 3\n");
    let connect = |kind: &str| -> Vec<Client> {
        (0..4).map(|n| Hello::v5(&format!("{kind}{n}")).connect(broker.address())).collect()
    };
    let (mut subscribers, mut publishers) = (connect("s"), connect("p"));
    for round in 0..60 {
        for (s, subscriber) in subscribers.iter_mut().enumerate() {
            for (p, publisher) in publishers.iter_mut().enumerate() {
                let topic = format!("t/{round}/{s}/{p}");
                assert!(!subscriber.subscribe(&topic, QoS::AtLeastOnce).is_error());
                assert_eq!(
                    publisher.publish(&topic, "x", QoS::AtLeastOnce),
                    ReasonCode::SUCCESS,
                    "it has a subscriber"
                );
                assert_eq!(subscriber.message().topic, topic);
            }
        }
    }
}

/// A broker with a bridge on 5.0 to a remote that is the test: CONNECT has come and is answered with `connack`, and so
/// has SUBSCRIBE. What the bridge announced as Topic Alias Maximum.
fn bridged(connack: &str) -> (Broker, Raw, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let broker = Broker::start(&format!(
        "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{}\"\nprotocol_version = 5\nnotifications = false\n\
         [[bridge.topic]]\nfilter = \"up/#\"\ndirection = \"out\"\nqos = 0\n\
         [[bridge.topic]]\nfilter = \"down/#\"\ndirection = \"in\"\nqos = 0\n",
        listener.local_addr().unwrap()
    ));
    let socket = until(DEADLINE, "the bridge comes", || listener.accept().ok()).0;
    socket.set_nonblocking(false).unwrap();
    let mut raw = Raw::over(Stream::Plain(socket));
    let came = raw.read_packet();
    let Packet::Connect(connect) =
        Packet::decode(Frame::split(&came, u32::MAX).unwrap().unwrap(), Version::V5).unwrap()
    else {
        panic!("no CONNECT: {}", hex(&came))
    };
    let maximum = connect.properties.topic_alias_maximum.unwrap_or(0);
    raw.send(connack);
    let subscribe = raw.read_packet();
    assert_eq!(subscribe[0], 0x82, "{}", hex(&subscribe));
    raw.send_bytes(&[0x90, 4, subscribe[2], subscribe[3], 0, 0]);
    (broker, raw, maximum)
}

/// Topic, if any, and alias, if any, of the PUBLISH that comes next.
fn next_publish(raw: &mut Raw) -> (Option<String>, Option<u16>) {
    let came = raw.read_packet();
    match Packet::decode(Frame::split(&came, u32::MAX).unwrap().unwrap(), Version::V5).unwrap() {
        Packet::Publish(publish) => (
            publish.topic.map(|topic| topic.as_str().to_owned()),
            publish.properties.topic_alias.map(std::num::NonZeroU16::get),
        ),
        other => panic!("no PUBLISH: {other:?}"),
    }
}

/// Proves: v5:3.3.2-10
#[test]
fn a_bridge_takes_every_alias_up_to_the_maximum_that_it_announced() {
    let (broker, mut raw, maximum) = bridged("20 03 00 00 00");
    assert_eq!(maximum, 10, "limits.topic_alias_maximum");
    let mut client = Hello::v5("client").connect(broker.address());
    client.subscribe("down/#", QoS::AtMostOnce);
    for alias in 1..=maximum {
        let topic = format!("down/{alias}");
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(&[3, 0x23]);
        body.extend_from_slice(&alias.to_be_bytes());
        let mut packet = vec![0x30, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        raw.send_bytes(&packet);
        assert_eq!(client.message().topic, topic);
    }
    // By the alias alone, the last one first; then another topic for it.
    for alias in (1..=maximum).rev() {
        raw.send_bytes(&bytes("30 06 00 00 03 23")).send_bytes(&alias.to_be_bytes());
        assert_eq!(client.message().topic, format!("down/{alias}"));
    }
    raw.send(r#"30 0c 00 06 "down/x" 03 23 00 0a"#).send("30 06 00 00 03 23 00 0a");
    assert_eq!(client.message().topic, "down/x");
    assert_eq!(client.message().topic, "down/x");
}

/// Proves: v5:3.2.2-17, v5:3.2.2-18, v5:3.3.2-9, v5:3.3.2-8
#[test]
fn a_bridge_keeps_to_the_aliases_that_its_remote_takes() {
    let topics = ["up/1", "up/2", "up/3", "up/1", "up/2"];
    let full = |topic: &str, alias| (Some(topic.to_owned()), alias);
    let cases = [
        // None announced, 0 announced, 2 announced.
        ("20 03 00 00 00", topics.map(|topic| full(topic, None))),
        ("20 06 00 00 03 22 00 00", topics.map(|topic| full(topic, None))),
        (
            "20 06 00 00 03 22 00 02",
            [full("up/1", Some(1)), full("up/2", Some(2)), full("up/3", None), (None, Some(1)), (None, Some(2))],
        ),
    ];
    for (connack, wanted) in cases {
        let (broker, mut raw, _) = bridged(connack);
        let mut client = Hello::v5("client").connect(broker.address());
        for topic in topics {
            client.publish(topic, "x", QoS::AtMostOnce);
        }
        let came = topics.map(|_| next_publish(&mut raw));
        assert_eq!(came, wanted, "CONNACK {connack}");
    }
}
