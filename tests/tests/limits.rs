//! Every limit of the configuration, met and passed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use viaduct_tests::codec::{PacketType, QoS, ReasonCode};
use viaduct_tests::{Broker, Entry, Hello, Outgoing, Raw, eventually};

const MIB: u64 = 1024 * 1024;

/// Proves: trap:29
#[test]
fn an_oversized_packet_is_refused_from_its_header() {
    let broker = Broker::start("");
    let before = broker.memory();
    let mut held = Vec::new();
    for host in 0..50 {
        let mut raw = Raw::connect_from(100 + host, broker.address());
        raw.send("10 ff ff ff 7f");
        held.push(raw);
    }
    for raw in &mut held {
        raw.read_to_end(viaduct_tests::DEADLINE);
    }
    assert!(broker.memory() < before + 20 * MIB, "{} bytes more", broker.memory() - before);
    let mut client = Hello::v5("client").connect(broker.address());
    client.send_bytes(&viaduct_tests::bytes("30 ff ff ff 7f"));
    assert_eq!(client.expect_disconnect(), ReasonCode::PACKET_TOO_LARGE);
    let mut client = Hello::v311("client").connect(broker.address());
    client.send_bytes(&viaduct_tests::bytes("30 ff ff ff 7f"));
    client.expect_closed();
}

#[test]
fn the_packet_size_counts_the_whole_packet() {
    let broker = Broker::start("[limits]\nmax_packet_size = \"1000B\"\n");
    let mut client = Hello::v5("client").connect(broker.address());
    assert_eq!(client.welcome.maximum_packet_size, Some(1000));
    client.subscribe("t", QoS::AtMostOnce);
    // Fixed header 3, topic 3, identifier 2, property length 1.
    assert!(!client.publish("t", vec![b'x'; 991], QoS::AtLeastOnce).is_error());
    assert_eq!(client.message().payload.len(), 991);
    client.send_publish(&Outgoing::new("t", vec![b'x'; 992]).qos(QoS::AtLeastOnce));
    assert_eq!(client.expect_disconnect(), ReasonCode::PACKET_TOO_LARGE);
}

#[test]
fn more_connections_than_a_listener_takes_are_turned_away() {
    let broker = Broker::start("[[listener]]\nbind = \"127.0.0.1:@port@\"\nmax_connections = 2\n");
    let first = Hello::v311("a").connect(broker.address());
    let mut second = Hello::v311("b").connect(broker.address());
    assert!(Hello::v311("c").try_connect(broker.address()).is_err());
    second.ping();
    assert_eq!(broker.metric("viaduct_connects_total", &[("result", "too_many")]), 1.0);
    assert_eq!(broker.metric("viaduct_connections", &[("listener", "default")]), 2.0);
    first.disconnect();
    eventually("a free place", || Hello::v311("c").try_connect(broker.address()).is_ok());
}

#[test]
fn the_receive_maximum_of_the_broker_holds_for_5_0_and_only_for_it() {
    let broker = Broker::start("[limits]\nreceive_maximum = 5\n");
    let mut five = Hello::v5("five").connect(broker.address());
    let mut three = Hello::v311("three").connect(broker.address());
    let message = Outgoing::new("t", "x").qos(QoS::ExactlyOnce);
    let ids: Vec<u16> = (0..50).map(|_| three.send_publish(&message).unwrap()).collect();
    for id in &ids {
        three.wait_for_ack(PacketType::Pubrec, *id);
    }
    three.ping();
    for id in ids {
        three.send_ack(PacketType::Pubrel, id, ReasonCode::SUCCESS);
        three.wait_for_ack(PacketType::Pubcomp, id);
    }
    for _ in 0..5 {
        let id = five.send_publish(&message).unwrap();
        five.wait_for_ack(PacketType::Pubrec, id);
    }
    five.send_publish(&message);
    assert_eq!(five.expect_disconnect(), ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
}

#[test]
fn more_of_qos_1_than_may_be_unacknowledged_is_taken_as_fast_as_it_is_acknowledged() {
    let broker = Broker::start("[limits]\nreceive_maximum = 5\n");
    let hello = Hello::v5("away").persistent();
    let mut away = hello.connect(broker.address());
    away.subscribe("t", QoS::AtLeastOnce);
    away.disconnect();
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    // The store has to have each before it is acknowledged, so that they come faster than that.
    let ids: Vec<u16> = (0..200)
        .map(|number| publisher.send_publish(&Outgoing::new("t", number.to_string()).qos(QoS::AtLeastOnce)).unwrap())
        .collect();
    for id in ids {
        publisher.wait_for_ack(PacketType::Puback, id);
    }
    publisher.ping();
    let mut back = hello.connect(broker.address());
    for number in 0..200 {
        assert_eq!(back.message().text(), number.to_string());
    }
}

#[test]
fn topics_and_filters_have_a_most_of_levels() {
    let broker = Broker::start("[limits]\nmax_topic_levels = 4\n");
    let mut client = Hello::v5("client").connect(broker.address());
    assert!(!client.subscribe("a/b/c/d", QoS::AtLeastOnce).is_error());
    assert!(client.subscribe("a/b/c/d/e", QoS::AtLeastOnce).is_error());
    assert!(!client.publish("a/b/c/d", "x", QoS::AtLeastOnce).is_error());
    client.message();
    let deep = Outgoing::new("a/b/c/d/e", "x").qos(QoS::AtLeastOnce);
    let id = client.send_publish(&deep).unwrap();
    // An error in the answer, or the end of the connection, with the reason either way.
    let event = client.wait_for("a refusal", |event| {
        matches!(event, viaduct_tests::Event::Ack { id: i, .. } if *i == id)
            || matches!(event, viaduct_tests::Event::Disconnect { .. })
    });
    let (viaduct_tests::Event::Ack { reason, .. } | viaduct_tests::Event::Disconnect { reason, .. }) = event else {
        unreachable!("it was looked for")
    };
    assert_eq!(reason, ReasonCode::TOPIC_NAME_INVALID);
}

#[test]
fn sixty_five_thousand_slashes_are_refused_and_harm_nobody() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    let slashes = "/".repeat(65_535);
    assert!(client.subscribe(&slashes, QoS::AtMostOnce).is_error());
    client.ping();
}

#[test]
fn a_client_id_has_a_most_of_bytes() {
    let broker = Broker::start("[limits]\nmax_client_id_length = 30\n");
    let good = "x".repeat(30);
    let long = "x".repeat(31);
    Hello::v5(&good).connect(broker.address()).disconnect();
    Hello::v31(&good).connect(broker.address()).disconnect();
    for hello in [Hello::v5(&long), Hello::v311(&long), Hello::v31(&long)] {
        assert_eq!(hello.try_connect(broker.address()).unwrap_err(), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    }
}

#[test]
fn a_session_has_a_most_of_subscriptions() {
    let broker = Broker::start("[limits]\nmax_subscriptions_per_session = 3\n");
    let mut client = Hello::v5("client").connect(broker.address());
    let entries: Vec<Entry> = ["a", "b", "c", "d"].iter().map(|filter| Entry::new(filter, QoS::AtMostOnce)).collect();
    let reasons = client.subscribe_all(&entries, None);
    assert_eq!(reasons, [ReasonCode(0), ReasonCode(0), ReasonCode(0), ReasonCode::QUOTA_EXCEEDED]);
    assert_eq!(client.subscribe("a", QoS::AtLeastOnce), ReasonCode(1), "one that is there can be changed");
    client.unsubscribe(&["b"]);
    assert_eq!(client.subscribe("d", QoS::AtMostOnce), ReasonCode(0));
}

#[test]
fn a_client_over_its_message_rate_is_read_no_faster_and_others_are() {
    let broker = Broker::start("[limits]\nmessage_rate = 200\n");
    let mut watcher = Hello::v5("watcher").connect(broker.address());
    watcher.subscribe("#", QoS::AtMostOnce);
    let mut fast = Hello::v311("fast").connect(broker.address());
    let began = Instant::now();
    for number in 0..600 {
        fast.send_publish(&Outgoing::new("fast", number.to_string()));
    }
    Hello::v311("other").connect(broker.address()).publish("other", "x", QoS::AtLeastOnce);
    let before = watcher.messages_before("other").len();
    assert!(before < 600, "the other one did not wait for the fast one");
    let rest = watcher.messages(600 - before);
    // What is read in one turn, 256 messages, is taken before anybody counts.
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?} for 600 messages at 200 a second", began.elapsed());
    assert_eq!(rest.last().unwrap().text(), "599", "nothing is lost");
}

#[test]
fn a_client_that_is_not_read_for_a_while_is_written_to_all_the_same() {
    const SIZE: usize = 16 * 1024 * 1024; // More than the system's own buffers hold.
    let broker = Broker::start(
        "[limits]\nmessage_rate = 1\nmax_packet_size = \"32MiB\"\n[session]\nmax_queued_bytes = \"64MiB\"\n",
    );
    let mut watcher = Hello::v5("watcher").connect(broker.address());
    watcher.subscribe("t", QoS::AtMostOnce);
    let mut eager = Raw::connect(broker.address());
    eager.send("10 11 00 04 4d 51 54 54 04 02 00 00 00 05 65 61 67 65 72").expect("20 02 00 00");
    eager.send("82 08 00 01 00 03 62 69 67 00").expect("90 03 00 01 00");
    // A minute and a half of what it may send.
    eager.send(&"30 03 00 01 74 ".repeat(90));
    watcher.messages(90);
    Hello::v5("publisher").connect(broker.address()).publish("big", vec![b'x'; SIZE], QoS::AtLeastOnce);
    let began = Instant::now();
    assert_eq!(eager.read(SIZE + 5 + 5).len(), SIZE + 10);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_reads_slowly_and_is_not_read_meanwhile_keeps_alive() {
    const SIZE: usize = 24 * 1024 * 1024; // So much more than the system's own buffers hold that it is not read any more.
    let broker = Broker::start("[limits]\nmax_packet_size = \"32MiB\"\n[session]\nmax_queued_bytes = \"64MiB\"\n");
    let mut slow = Raw::connect(broker.address());
    // Its keep alive is two seconds.
    slow.send("10 10 00 04 4d 51 54 54 04 02 00 02 00 04 73 6c 6f 77").expect("20 02 00 00");
    slow.send("82 08 00 01 00 03 62 69 67 00").expect("90 03 00 01 00");
    Hello::v5("publisher").connect(broker.address()).publish("big", vec![b'x'; SIZE], QoS::AtLeastOnce);
    for _ in 0..4 {
        slow.send("c0 00");
        // One with half of its keep alive, and without a word, is closed meanwhile.
        Raw::connect(broker.address())
            .send("10 12 00 04 4d 51 54 54 04 02 00 01 00 06 73 69 6c 65 6e 74")
            .expect("20 02 00 00")
            .expect_close();
    }
    assert_eq!(slow.read(SIZE + 5 + 5).len(), SIZE + 10);
    slow.expect(&"d0 00 ".repeat(4));
}

#[test]
fn a_client_that_stops_reading_costs_bounded_memory_and_nobody_else() {
    let broker = Broker::start("[session]\nmax_queued_bytes = \"1MiB\"\n[sys]\ninterval = \"0s\"\n");
    let mut sleeper = Hello::v311("sleeper").connect(broker.address());
    sleeper.subscribe("flood", QoS::AtMostOnce);
    let mut sleeper_1 = Hello::v5("sleeper at QoS 1").connect(broker.address());
    sleeper_1.subscribe("flood", QoS::AtLeastOnce);
    let mut reader = Hello::v5("reader").connect(broker.address());
    reader.subscribe("flood", QoS::AtLeastOnce);
    let before = broker.memory();
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    // 64 MiB to each of them; the system's own buffers hold a few.
    let payload = vec![b'x'; 64 * 1024];
    for number in 0..1024_u32 {
        let mut payload = payload.clone();
        payload.extend_from_slice(&number.to_be_bytes());
        publisher.publish("flood", payload, QoS::AtLeastOnce);
        let message = reader.message();
        assert!(message.payload.ends_with(&number.to_be_bytes()));
    }
    let grown = broker.memory().saturating_sub(before);
    assert!(grown < 32 * MIB, "{} MiB more than before", grown / MIB);
    let dropped = broker.metric("viaduct_messages_dropped_total", &[("reason", "queue_full")]);
    assert!(dropped > 500.0, "{dropped} were dropped");
    assert_eq!(broker.metric("viaduct_messages_sent_total", &[("qos", "1")]) as u64 / 1024, 1);
    // Both are still there and get what was kept for them once they read.
    assert!(sleeper.message().payload.len() > 1000);
    assert!(sleeper_1.message().payload.len() > 1000);
    sleeper.ping();
    sleeper_1.ping();
}

#[test]
fn what_waits_for_all_sessions_together_has_a_most() {
    let broker = Broker::start("[limits]\nmemory = \"1MiB\"\n[sys]\ninterval = \"0s\"\n");
    for number in 0..4 {
        let mut client = Hello::v311(&format!("away {number}")).persistent().connect(broker.address());
        client.subscribe(&format!("t/{number}"), QoS::AtLeastOnce);
        client.disconnect();
    }
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for round in 0..40 {
        publisher.publish(&format!("t/{}", round % 4), vec![b'x'; 64 * 1024], QoS::AtLeastOnce);
    }
    assert!(broker.metric("viaduct_messages_dropped_total", &[("reason", "memory")]) >= 20.0);
    assert!(broker.metric("viaduct_queued_bytes", &[]) <= 1.1 * MIB as f64);
}
