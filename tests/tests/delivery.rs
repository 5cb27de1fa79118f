//! Long runs and tight races on the way of a message: identifiers that wrap, order across everything, workers that must
//! agree at once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use viaduct_tests::codec::{PacketType, QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Client, Event, Hello, Outgoing, WillMessage, eventually};

/// Publishes `count` numbered messages at QoS 1 with many on their way at a time, in a thread of its own.
fn publish_many(broker: &Broker, topic: &'static str, count: u32) -> std::thread::JoinHandle<()> {
    let address = broker.address();
    std::thread::spawn(move || {
        let mut publisher = Hello::v311("publisher of many").connect(address);
        let mut open = std::collections::VecDeque::new();
        for number in 0..count {
            let message = Outgoing::new(topic, number.to_string()).qos(QoS::AtLeastOnce);
            open.push_back(publisher.send_publish(&message).unwrap());
            if open.len() >= 200 {
                publisher.wait_for_ack(PacketType::Puback, open.pop_front().unwrap());
            }
        }
        for id in open {
            publisher.wait_for_ack(PacketType::Puback, id);
        }
    })
}

#[test]
fn an_identifier_in_flight_is_never_used_again_however_many_pass_it() {
    const COUNT: u32 = 66_500;
    let broker = Broker::start("[session]\nmax_queued_messages = 100000\n");
    let mut hello = Hello::v5("subscriber");
    hello.receive_maximum = Some(50);
    let mut subscriber = hello.connect(broker.address());
    subscriber.subscribe("t", QoS::AtLeastOnce);
    subscriber.by_hand();
    let publishing = publish_many(&broker, "t", COUNT);
    let held = subscriber.message();
    let held_id = held.id.unwrap();
    assert_eq!(held.text(), "0");
    for number in 1..COUNT {
        let message = subscriber.message();
        assert_eq!(message.text(), number.to_string());
        assert_ne!(message.id.unwrap(), held_id, "message {number}");
        subscriber.acknowledge(&message);
    }
    publishing.join().unwrap();
    subscriber.acknowledge(&held);
    subscriber.ping();
}

#[test]
fn order_holds_through_online_offline_and_resumed_phases() {
    const COUNT: u32 = 6_000;
    let broker = Broker::start("");
    let hello = Hello::v311("subscriber").persistent();
    let mut subscriber = hello.connect(broker.address());
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let publishing = publish_many(&broker, "t", COUNT);
    let mut next = 0;
    let mut resumed = 0;
    while next < COUNT {
        let message = subscriber.message();
        let number: u32 = message.text().parse().unwrap();
        // What was on its way when the line broke comes again, marked; anything else is the next one.
        assert!(number == next || (message.dup && number < next), "{number} came instead of {next}");
        next = next.max(number + 1);
        if number % 500 == 250 && !message.dup {
            subscriber.break_off();
            subscriber = hello.connect(broker.address());
            assert!(subscriber.welcome.session_present);
            resumed += 1;
        }
    }
    publishing.join().unwrap();
    assert_eq!(resumed, 12);
    assert_eq!(broker.metric("viaduct_messages_dropped_total", &[]), 0.0);
}

#[test]
fn a_subscription_holds_everywhere_once_it_is_acknowledged_and_nowhere_once_it_is_gone() {
    let broker = Broker::start("[node]\nworkers = 4\n");
    let mut publishers: Vec<Client> =
        (0..4).map(|number| Hello::v5(&format!("publisher {number}")).connect(broker.address())).collect();
    for round in 0..100 {
        let mut subscriber = Hello::v5(&format!("subscriber {}", round % 7)).connect(broker.address());
        let topic = format!("round/{round}");
        subscriber.subscribe(&topic, QoS::AtLeastOnce);
        for publisher in &mut publishers {
            assert_eq!(publisher.publish(&topic, "x", QoS::AtLeastOnce), ReasonCode::SUCCESS, "somebody hears it");
        }
        assert_eq!(subscriber.messages(4).len(), 4);
        subscriber.unsubscribe(&[&topic]);
        for publisher in &mut publishers {
            publisher.publish(&topic, "y", QoS::AtLeastOnce);
        }
        subscriber.ping();
        assert_eq!(subscriber.waiting(), 0);
        subscriber.disconnect();
    }
}

#[test]
fn keep_alive_counts_what_the_client_sends_not_what_it_is_sent() {
    let broker = Broker::start("");
    let mut hearer = Hello::v5("hearer").keep_alive(1).connect(broker.address());
    hearer.subscribe("t", QoS::AtMostOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    let closed = viaduct_tests::until(viaduct_tests::DEADLINE, "the end of the one who only hears", || {
        publisher.publish("t", "x", QoS::AtMostOnce);
        hearer.event_within(Duration::from_millis(100))
    });
    assert!(matches!(closed, Event::Disconnect { reason: ReasonCode::KEEP_ALIVE_TIMEOUT, .. }), "{closed:?}");
    // And who sends anything now and then outlives those who are silent, one after the other.
    let mut speaker = Hello::v311("speaker").keep_alive(1).connect(broker.address());
    for name in ["silent", "silent as well"] {
        let mut silent = Hello::v5(name).keep_alive(1).connect(broker.address());
        let closed = viaduct_tests::until(viaduct_tests::DEADLINE, "the end of the one who says nothing", || {
            speaker.publish("t", "x", QoS::AtLeastOnce);
            silent.event_within(Duration::from_millis(400))
        });
        assert!(matches!(closed, Event::Disconnect { reason: ReasonCode::KEEP_ALIVE_TIMEOUT, .. }), "{closed:?}");
    }
    speaker.ping();
}

#[test]
fn a_client_that_wants_no_explanations_gets_none() {
    let broker = Broker::start("");
    let mut hello = Hello::v5("client");
    hello.request_problem_information = Some(false);
    let mut client = hello.connect(broker.address());
    let id = client.send_publish(&Outgoing::new("$SYS/mine", "x").qos(QoS::AtLeastOnce)).unwrap();
    let answer = client.wait_for("PUBACK", |event| matches!(event, Event::Ack { id: i, .. } if *i == id));
    assert!(matches!(answer, Event::Ack { reason: ReasonCode::NOT_AUTHORIZED, reason_string: None, .. }), "{answer:?}");
}

#[test]
fn no_packet_is_larger_than_the_client_takes_not_even_a_goodbye() {
    let broker = Broker::start("");
    let mut hello = Hello::v5("client");
    hello.maximum_packet_size = Some(30);
    // CONNACK may leave out what does not fit, or the client is refused; it is never sent more.
    let mut raw = viaduct_tests::Raw::connect(broker.address());
    raw.send_bytes(&hello.bytes());
    let connack = raw.read_packet();
    assert!(connack.len() <= 30, "{}", viaduct_tests::hex(&connack));
    raw.send("82 06 00 01 00 01 ff 00");
    let rest = raw.read_to_end(viaduct_tests::DEADLINE);
    assert!(rest.len() <= 30, "{}", viaduct_tests::hex(&rest));
}

#[test]
fn a_mountpoint_is_a_world_of_its_own() {
    let broker = Broker::start(
        "[[listener]]\nname = \"inside\"\nbind = \"127.0.0.1:@port.inside@\"\nmountpoint = \"site-a/\"\n\
         [[listener]]\nname = \"outside\"\nbind = \"127.0.0.1:@port.outside@\"\n",
    );
    let mut outside = Hello::v5("outside").connect(broker.port("outside"));
    outside.subscribe("#", QoS::AtLeastOnce);
    for version in [Version::V311, Version::V5] {
        let mut inside = Hello::of(version, "inside").connect(broker.port("inside"));
        inside.subscribe("t/#", QoS::AtLeastOnce);
        inside.publish("t/1", "from inside", QoS::AtLeastOnce);
        assert_eq!(inside.message().topic, "t/1");
        assert_eq!(outside.message().topic, "site-a/t/1");
        outside.publish("t/2", "not for them", QoS::AtLeastOnce);
        outside.message();
        outside.publish("site-a/t/3", "for them", QoS::AtLeastOnce);
        outside.message();
        assert_eq!(inside.message().topic, "t/3");
        inside.disconnect();
    }
    let will = WillMessage::new("will", "gone");
    Hello::v311("dying").will(will).connect(broker.port("inside")).break_off();
    assert_eq!(outside.message().topic, "site-a/will");
    let mut inside = Hello::v5("inside").connect(broker.port("inside"));
    inside.publish_message(&Outgoing::new("kept", "x").qos(QoS::AtLeastOnce).retained());
    inside.subscribe("kept", QoS::AtLeastOnce);
    assert_eq!(inside.message().topic, "kept");
    let mut member = Hello::v5("member").connect(broker.port("inside"));
    member.subscribe("$share/g/shared", QoS::AtLeastOnce);
    inside.publish("shared", "x", QoS::AtLeastOnce);
    assert_eq!(member.message().topic, "shared");
}

#[test]
fn one_client_id_is_one_session_across_listeners() {
    let broker = Broker::start(
        "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:@port.a@\"\n[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:@port.b@\"\n",
    );
    let mut first = Hello::v5("one").connect(broker.port("a"));
    let mut second = Hello::v5("one").connect(broker.port("b"));
    assert_eq!(first.expect_disconnect(), ReasonCode::SESSION_TAKEN_OVER);
    second.ping();
}

#[test]
fn a_thousand_clients_come_and_go_and_leave_nothing() {
    let broker = Broker::start("[sys]\ninterval = \"0s\"\n");
    for round in 0..5 {
        let mut clients: Vec<Client> = (0..200)
            .map(|number| {
                let mut client = Hello::v5(&format!("{round} {number}")).connect(broker.address());
                client.subscribe(&format!("own/{number}"), QoS::AtLeastOnce);
                client
            })
            .collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let topic = format!("own/{}", (number + 1) % 200);
            client.publish(&topic, "x", QoS::AtLeastOnce);
        }
        for client in &mut clients {
            client.message();
        }
        for (number, client) in clients.into_iter().enumerate() {
            if number % 2 == 0 { client.break_off() } else { client.disconnect() }
        }
    }
    for (name, labels) in [
        ("viaduct_connections", &[][..]),
        ("viaduct_sessions", &[]),
        ("viaduct_subscriptions", &[]),
        ("viaduct_queued_messages", &[]),
        ("viaduct_inflight_messages", &[]),
        ("viaduct_retained_messages", &[]),
    ] {
        broker.wait_for_metric(name, labels, |left| left == 0.0);
    }
}

#[test]
fn a_client_without_tcp_nodelay_still_saves_the_store_its_writes() {
    const COUNT: usize = 50;
    // Less than a kernel keeps an acknowledgement back for, and more than a loaded machine needs for two.
    let broker = Broker::start("[store]\ncommit_delay = \"25ms\"\n");
    let mut subscriber = Hello::v311("subscriber").persistent().connect(broker.address());
    subscriber.subscribe("t", QoS::AtLeastOnce);
    subscriber.by_hand();
    subscriber.stream().socket().set_nodelay(false).unwrap();
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    // Of two acknowledgements that nothing is sent for, the second waits in such a client until the first is acknowledged
    // by the kernel here.
    let mut pair = || {
        let sent = [(); 2].map(|()| publisher.send_publish(&Outgoing::new("t", "1").qos(QoS::AtLeastOnce)).unwrap());
        let taken = subscriber.messages(2);
        taken.iter().for_each(|message| subscriber.acknowledge(message));
        for id in sent {
            publisher.wait_for_ack(PacketType::Puback, id);
        }
    };
    let written = || broker.metric("viaduct_store_syncs_total", &[]);
    let before = written();
    // At first the kernel acknowledges at once by itself.
    eventually("one that came late", || {
        pair();
        written() > before
    });
    let before = written();
    (0..COUNT).for_each(|_| pair());
    let late = written() - before;
    assert!(late < COUNT as f64 / 2.0, "{late} of {COUNT} were written although they were acknowledged");
}
