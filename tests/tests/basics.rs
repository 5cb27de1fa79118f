//! What every broker does, in exact bytes where bytes are promised.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{PacketType, QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Entry, Event, Hello, Outgoing, Raw};

const K3: &str = r#"10 0f 00 06 "MQIsdp" 03 02 00 3c 00 01 "a""#;
const K4: &str = r#"10 0d 00 04 "MQTT" 04 02 00 3c 00 01 "a""#;
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn a_3_1_1_conversation_byte_by_byte() {
    let broker = Broker::start("");
    let mut raw = Raw::connect(broker.address());
    raw.send(K4).expect("20 02 00 00");
    raw.send("c0 00").expect("d0 00");
    raw.send(r#"82 06 00 01 00 01 "t" 02"#).expect("90 03 00 01 02");
    raw.send(r#"30 04 00 01 "t" "x""#).expect(r#"30 04 00 01 "t" "x""#);
    raw.send(r#"32 06 00 01 "t" 00 0a "x""#);
    let mut both = [raw.read_packet(), raw.read_packet()];
    both.sort();
    assert_eq!(both[0][..2], [0x32, 0x06], "the delivery at QoS 1");
    assert_eq!(both[1], [0x40, 0x02, 0x00, 0x0a], "PUBACK with the identifier of the publisher");
    let id = &both[0][5..7];
    raw.send_bytes(&[0x40, 0x02, id[0], id[1]]);
    raw.send(r#"a2 05 00 02 00 01 "t""#).expect("b0 02 00 02");
    raw.send(r#"30 04 00 01 "t" "x""#).send("c0 00").expect("d0 00");
    raw.send("e0 00").expect_close();
}

#[test]
fn a_3_1_conversation_byte_by_byte() {
    let broker = Broker::start("");
    let mut raw = Raw::connect(broker.address());
    raw.send(K3).expect("20 02 00 00");
    // DUP on SUBSCRIBE and a repeat of it are what a 3.1 client does when it is impatient.
    raw.send(r#"82 06 00 01 00 01 "t" 00"#).expect("90 03 00 01 00");
    raw.send(r#"8a 06 00 01 00 01 "t" 00"#).expect("90 03 00 01 00");
    raw.send(r#"34 06 00 01 "q" 00 0a "x""#).expect("50 02 00 0a").send("62 02 00 0a").expect("70 02 00 0a");
    raw.send("c0 00").expect("d0 00");
}

#[test]
fn each_version_carries_each_qos() {
    let broker = Broker::start("");
    for version in VERSIONS {
        let mut subscriber = Hello::of(version, "subscriber").connect(broker.address());
        let mut publisher = Hello::of(version, "publisher").connect(broker.address());
        for granted in QOS {
            assert_eq!(subscriber.subscribe("room/+", granted), ReasonCode(granted.bits()));
            for qos in QOS {
                let text = format!("{version} {} {}", granted.bits(), qos.bits());
                assert!(!publisher.publish("room/1", &text, qos).is_error());
                let message = subscriber.message();
                assert_eq!((message.text(), message.qos), (text.as_str(), qos.min(granted)));
                assert!(!message.retain && !message.dup);
            }
        }
        subscriber.disconnect();
        publisher.disconnect();
    }
}

#[test]
fn filters_match_what_they_should_and_nothing_more() {
    let broker = Broker::start("");
    let cases: [(&str, &[&str], &[&str]); 9] = [
        ("a/b", &["a/b"], &["a", "a/b/c", "A/b", "a//b"]),
        ("a/+", &["a/b", "a/"], &["a", "a/b/c"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/"], &["b", "ab"]),
        ("+/b", &["a/b", "/b"], &["b", "a/b/c"]),
        ("#", &["a", "/", "a/b/c"], &["$x", "$x/y"]),
        ("+/y", &["x/y"], &["$x/y"]),
        ("$x/#", &["$x", "$x/y"], &["x/y"]),
        ("/", &["/"], &["//", "a/"]),
        ("+/+", &["/", "a/b", "/b"], &["a", "a/b/c"]),
    ];
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for (index, (filter, hits, misses)) in cases.into_iter().enumerate() {
        let mut subscriber = Hello::v5(&format!("s{index}")).connect(broker.address());
        subscriber.subscribe(filter, QoS::AtLeastOnce);
        subscriber.subscribe("end/of/test", QoS::AtLeastOnce);
        for topic in misses.iter().chain(hits) {
            publisher.publish(topic, "x", QoS::AtLeastOnce);
        }
        publisher.publish("end/of/test", "", QoS::AtLeastOnce);
        let mut came: Vec<String> =
            subscriber.messages_before("end/of/test").into_iter().map(|message| message.topic).collect();
        came.sort();
        let mut wanted = hits.to_vec();
        wanted.sort_unstable();
        assert_eq!(came, wanted, "filter {filter:?}");
    }
}

#[test]
fn an_empty_client_id_is_named_by_the_broker_where_the_version_allows() {
    let broker = Broker::start("");
    Raw::connect(broker.address())
        .send(r#"10 0e 00 06 "MQIsdp" 03 02 00 3c 00 00"#)
        .expect("20 02 00 02")
        .expect_close();
    Raw::connect(broker.address()).send(r#"10 0c 00 04 "MQTT" 04 00 00 3c 00 00"#).expect("20 02 00 02").expect_close();
    Raw::connect(broker.address()).send(r#"10 0c 00 04 "MQTT" 04 02 00 3c 00 00"#).expect("20 02 00 00");
    let first = Hello::v5("").connect(broker.address());
    let second = Hello::v5("").connect(broker.address());
    let (first, second) = (first.welcome.assigned_client_id.clone(), second.welcome.assigned_client_id.clone());
    assert!(first.is_some() && second.is_some() && first != second, "{first:?} {second:?}");
}

#[test]
fn what_comes_behind_connect_in_one_segment_is_served_in_order() {
    let broker = Broker::start("");
    let mut raw = Raw::connect(broker.address());
    raw.send(&format!(r#"{K4} 82 06 00 01 00 01 "t" 00 30 04 00 01 "t" "x" c0 00"#));
    raw.expect("20 02 00 00").expect("90 03 00 01 00");
    let mut rest = [raw.read_packet(), raw.read_packet()];
    rest.sort();
    assert_eq!(rest[0], viaduct_tests::bytes(r#"30 04 00 01 "t" "x""#));
    assert_eq!(rest[1], [0xd0, 0x00]);
}

#[test]
fn what_comes_behind_disconnect_is_ignored() {
    let broker = Broker::start("");
    let mut watcher = Hello::v5("watcher").connect(broker.address());
    watcher.subscribe("#", QoS::AtLeastOnce);
    Raw::connect(broker.address())
        .send(&format!(r#"{K4} e0 00 30 04 00 01 "t" "x""#))
        .expect("20 02 00 00")
        .expect_close();
    watcher.publish("end", "", QoS::AtLeastOnce);
    assert_eq!(watcher.messages_before("end"), []);
}

#[test]
fn two_filters_of_one_client_that_match_bring_the_highest_qos_and_every_identifier() {
    let broker = Broker::start("");
    let mut subscriber = Hello::v5("subscriber").connect(broker.address());
    subscriber.subscribe_all(&[Entry::new("a/#", QoS::AtMostOnce)], Some(1));
    subscriber.subscribe_all(&[Entry::new("a/+", QoS::ExactlyOnce)], Some(268_435_455));
    subscriber.subscribe_all(&[Entry::new("end", QoS::ExactlyOnce)], None);
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    publisher.publish("a/b", "x", QoS::ExactlyOnce);
    publisher.publish("end", "", QoS::ExactlyOnce);
    let copies = subscriber.messages_before("end");
    let mut ids: Vec<u32> = copies.iter().flat_map(|copy| copy.subscription_ids.clone()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 268_435_455]);
    assert!(copies.iter().any(|copy| copy.qos == QoS::ExactlyOnce));
}

#[test]
fn no_local_holds_back_what_the_client_published_itself() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    client.subscribe_all(&[Entry { no_local: true, ..Entry::new("t", QoS::AtLeastOnce) }], None);
    client.subscribe("end", QoS::AtLeastOnce);
    client.publish("t", "mine", QoS::AtLeastOnce);
    Hello::v5("other").connect(broker.address()).publish("t", "theirs", QoS::AtLeastOnce);
    client.publish("end", "", QoS::AtLeastOnce);
    let came: Vec<String> = client.messages_before("end").iter().map(|message| message.text().to_owned()).collect();
    assert_eq!(came, ["theirs"]);
}

#[test]
fn a_bridge_level_makes_every_subscription_no_local_and_retain_as_published() {
    let broker = Broker::start("");
    for level in [viaduct_tests::codec::Level::V31_BRIDGE, viaduct_tests::codec::Level::V311_BRIDGE] {
        let mut bridge = Hello::new(level, "a bridge").connect(broker.address());
        bridge.subscribe("t", QoS::AtLeastOnce);
        bridge.publish("t", "mine", QoS::AtLeastOnce);
        let mut other = Hello::v5("other").connect(broker.address());
        other.publish_message(&Outgoing::new("t", "theirs").qos(QoS::AtLeastOnce).retained());
        let message = bridge.message();
        assert_eq!((message.text(), message.retain), ("theirs", true));
        other.publish_message(&Outgoing::new("t", "").qos(QoS::AtLeastOnce).retained());
        assert_eq!(bridge.message().text(), "");
        bridge.disconnect();
    }
}

#[test]
fn answers_come_one_per_filter_and_in_order() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    let entries: Vec<Entry> = ["a", "b/#", "c/+/d"].into_iter().zip(QOS).map(|(f, q)| Entry::new(f, q)).collect();
    let reasons = client.subscribe_all(&entries, None);
    assert_eq!(reasons, [ReasonCode(0), ReasonCode(1), ReasonCode(2)]);
    let reasons = client.unsubscribe(&["nothing", "b/#", "b/x"]);
    assert_eq!(reasons, [ReasonCode(0x11), ReasonCode(0), ReasonCode(0x11)]);
}

#[test]
fn nobody_to_hear_it_is_said_only_to_5_0() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let reason = client.publish("nobody/listens", "x", qos);
        assert!(matches!(reason, ReasonCode(0 | 0x10)), "{reason}");
    }
}

#[test]
fn topic_aliases_work_in_both_directions() {
    let broker = Broker::start("");
    let mut hello = Hello::v5("subscriber");
    hello.topic_alias_maximum = Some(2);
    let mut subscriber = hello.connect(broker.address());
    subscriber.subscribe("#", QoS::AtLeastOnce);
    let mut plain = Hello::v5("plain").connect(broker.address());
    plain.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    assert_eq!(publisher.welcome.topic_alias_maximum, Some(10));
    let with =
        |topic: &str, alias| Outgoing { topic_alias: Some(alias), ..Outgoing::new(topic, "x").qos(QoS::AtLeastOnce) };
    for (topic, alias, meant) in [
        ("one", 1, "one"),
        ("", 1, "one"),
        ("ten", 10, "ten"),
        ("", 10, "ten"),
        ("other", 1, "other"),
        ("", 1, "other"),
    ] {
        assert!(!publisher.publish_message(&with(topic, alias)).is_error());
        let message = subscriber.message();
        assert_eq!(message.topic, meant);
        assert!(message.alias.is_none_or(|alias| alias <= 2), "{message:?}");
        let message = plain.message();
        assert_eq!((message.topic.as_str(), message.alias), (meant, None));
    }
}

#[test]
fn the_receive_maximum_of_the_client_is_obeyed_and_qos_0_passes_it() {
    let broker = Broker::start("");
    let mut hello = Hello::v5("subscriber");
    hello.receive_maximum = Some(3);
    let mut subscriber = hello.connect(broker.address());
    subscriber.subscribe("#", QoS::ExactlyOnce);
    subscriber.by_hand();
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for number in 0..10 {
        publisher.publish(&format!("n/{number}"), "x", QoS::AtLeastOnce);
    }
    publisher.publish("zero", "x", QoS::AtMostOnce);
    let mut came = Vec::new();
    while came.len() < 4 {
        came.push(subscriber.message());
    }
    let window: Vec<_> = came.iter().filter(|message| message.qos == QoS::AtLeastOnce).cloned().collect();
    assert_eq!(window.len(), 3, "three may be open, and QoS 0 needs no place: {came:?}");
    // Everything but deliveries goes on while the window is full.
    subscriber.ping();
    assert_eq!(subscriber.waiting(), 0, "a fourth came");
    let mut open = std::collections::VecDeque::from(window);
    for number in 0..10 {
        let first = open.pop_front().unwrap_or_else(|| subscriber.message());
        assert_eq!(first.topic, format!("n/{number}"));
        subscriber.acknowledge(&first);
    }
}

#[test]
fn a_rejected_pubrec_ends_the_exchange() {
    let broker = Broker::start("");
    let mut hello = Hello::v5("subscriber");
    hello.receive_maximum = Some(1);
    let mut subscriber = hello.connect(broker.address());
    subscriber.subscribe("#", QoS::ExactlyOnce);
    subscriber.by_hand();
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish("a", "x", QoS::ExactlyOnce);
    publisher.publish("b", "x", QoS::ExactlyOnce);
    let first = subscriber.message();
    subscriber.send_ack(PacketType::Pubrec, first.id.unwrap(), ReasonCode::UNSPECIFIED_ERROR);
    assert_eq!(subscriber.message().topic, "b", "the place is free again");
    subscriber.ping();
    let more = subscriber.event_within(std::time::Duration::from_millis(50));
    assert_eq!(more, None, "no PUBREL follows a refusal");
}

#[test]
fn a_qos_2_message_that_is_repeated_is_delivered_once() {
    let broker = Broker::start("");
    let mut subscriber = Hello::v311("subscriber").connect(broker.address());
    subscriber.subscribe("#", QoS::ExactlyOnce);
    let mut raw = Raw::connect(broker.address());
    raw.send(K4).expect("20 02 00 00");
    for _ in 0..3 {
        raw.send(r#"34 06 00 01 "t" 00 0a "x""#).expect("50 02 00 0a");
        raw.send(r#"3c 06 00 01 "t" 00 0a "x""#).expect("50 02 00 0a");
    }
    raw.send("62 02 00 0a").expect("70 02 00 0a").send("62 02 00 0a").expect("70 02 00 0a");
    // The same identifier after the end is a new message.
    raw.send(r#"34 06 00 01 "t" 00 0a "y""#).expect("50 02 00 0a").send("62 02 00 0a").expect("70 02 00 0a");
    assert_eq!(subscriber.message().text(), "x");
    assert_eq!(subscriber.message().text(), "y");
}

#[test]
fn an_unknown_pubrel_is_answered_and_the_connection_stays() {
    let broker = Broker::start("");
    let mut raw = Raw::connect(broker.address());
    raw.send(K4).expect("20 02 00 00").send("62 02 00 63").expect("70 02 00 63").send("c0 00").expect("d0 00");
    let mut client = Hello::v5("client").connect(broker.address());
    client.send_ack(PacketType::Pubrel, 0x63, ReasonCode::SUCCESS);
    assert_eq!(client.wait_for_ack(PacketType::Pubcomp, 0x63), ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
    client.ping();
}

#[test]
fn a_message_too_large_for_one_client_is_dropped_for_it_alone() {
    let broker = Broker::start("");
    let mut hello = Hello::v5("small");
    hello.maximum_packet_size = Some(100);
    hello.receive_maximum = Some(1);
    let mut small = hello.connect(broker.address());
    let mut large = Hello::v5("large").connect(broker.address());
    small.subscribe("#", QoS::AtLeastOnce);
    large.subscribe("#", QoS::AtLeastOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish("t", vec![b'x'; 200], QoS::AtLeastOnce);
    // Topic, identifier, property length and header take 8 bytes: exactly the limit, then one more.
    publisher.publish("t", vec![b'y'; 92], QoS::AtLeastOnce);
    publisher.publish("t", vec![b'z'; 93], QoS::AtLeastOnce);
    publisher.publish("t", "end", QoS::AtLeastOnce);
    let sizes: Vec<usize> = small.messages(2).iter().map(|message| message.payload.len()).collect();
    assert_eq!(sizes, [92, 3]);
    assert_eq!(large.messages(4)[0].payload.len(), 200);
    assert_eq!(broker.metric("viaduct_messages_dropped_total", &[("reason", "too_large")]), 2.0);
}

#[test]
fn keep_alive_is_one_and_a_half_times_what_the_client_says() {
    let broker = Broker::start("");
    let began = std::time::Instant::now();
    let mut five = Hello::v5("five").keep_alive(1).connect(broker.address());
    let mut three = Hello::v311("three").keep_alive(1).connect(broker.address());
    let mut none = Hello::v311("none").connect(broker.address());
    assert_eq!(five.expect_disconnect(), ReasonCode::KEEP_ALIVE_TIMEOUT);
    assert!(began.elapsed() >= std::time::Duration::from_millis(1500), "{:?}", began.elapsed());
    three.expect_closed();
    none.ping();
    assert!(broker.metric("viaduct_protocol_errors_total", &[]) >= 2.0);
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    client.send_bytes(&Hello::v5("client").bytes());
    assert_eq!(client.expect_disconnect(), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn connack_announces_what_the_broker_takes() {
    let broker = Broker::start(
        "[limits]\nmax_packet_size = \"64KiB\"\nreceive_maximum = 7\ntopic_alias_maximum = 3\nmax_keepalive = \"30s\"\n\
         [session]\nmax_expiry = \"1m\"\n",
    );
    let mut hello = Hello::v5("client").keep_alive(60).persistent();
    hello.session_expiry = Some(3600);
    let client = hello.connect(broker.address());
    assert_eq!(client.welcome.maximum_packet_size, Some(65_536));
    assert_eq!(client.welcome.receive_maximum, Some(7));
    assert_eq!(client.welcome.topic_alias_maximum, Some(3));
    assert_eq!(client.welcome.server_keep_alive, Some(30));
    assert_eq!(client.welcome.session_expiry, Some(60));
}

#[test]
fn messages_of_one_publisher_arrive_in_order_at_every_qos() {
    let broker = Broker::start("");
    for qos in QOS {
        let mut subscriber = Hello::v311(&format!("subscriber {}", qos.bits())).connect(broker.address());
        subscriber.subscribe("count", qos);
        let mut publisher = Hello::v311("publisher").connect(broker.address());
        let ids: Vec<Option<u16>> = (0..100)
            .map(|number| publisher.send_publish(&Outgoing::new("count", number.to_string()).qos(qos)))
            .collect();
        for number in 0..100 {
            assert_eq!(subscriber.message().text(), number.to_string());
        }
        for id in ids.into_iter().flatten() {
            publisher.finish_publish(id, qos);
        }
        subscriber.disconnect();
    }
}

#[test]
fn a_client_hears_nothing_that_it_has_not_asked_for() {
    let broker = Broker::start("");
    let mut quiet = Hello::v5("quiet").connect(broker.address());
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish("t", "x", QoS::AtLeastOnce);
    quiet.subscribe("u", QoS::AtLeastOnce);
    quiet.unsubscribe(&["u"]);
    publisher.publish("u", "x", QoS::AtLeastOnce);
    quiet.subscribe("end", QoS::AtLeastOnce);
    publisher.publish("end", "", QoS::AtLeastOnce);
    assert_eq!(quiet.messages_before("end"), []);
    assert!(!matches!(quiet.event_within(std::time::Duration::from_millis(20)), Some(Event::Disconnect { .. })));
}
