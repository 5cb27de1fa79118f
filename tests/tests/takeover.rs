//! Two connections with one ClientID: who gets the session, what the other hears, and that a fight costs nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use viaduct_tests::codec::{QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Event, Hello, Message, WillMessage};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

#[test]
fn the_newcomer_has_the_session_and_the_old_one_is_told_why() {
    for old in VERSIONS {
        for new in VERSIONS {
            let broker = Broker::start("[node]\nworkers = 1\n");
            let mut first = Hello::of(old, "one").connect(broker.address());
            let mut second = Hello::of(new, "one").connect(broker.address());
            if old == Version::V5 {
                assert_eq!(first.expect_disconnect(), ReasonCode::SESSION_TAKEN_OVER);
            } else {
                first.expect_closed();
            }
            second.ping();
            assert_eq!(broker.metric("viaduct_takeovers_total", &[("result", "taken_over")]), 1.0);
            assert_eq!(broker.metric("viaduct_sessions", &[("state", "connected")]), 1.0);
        }
    }
}

#[test]
fn what_was_in_flight_goes_to_the_newcomer_in_order() {
    let broker = Broker::start("");
    let mut first = Hello::v5("one").persistent().connect(broker.address());
    first.subscribe("#", QoS::AtLeastOnce);
    first.by_hand();
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for number in 0..10 {
        publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
    }
    let sent = first.messages(10);
    first.acknowledge(&sent[0]);
    first.ping();
    let mut second = Hello::v5("one").persistent().connect(broker.address());
    assert!(second.welcome.session_present);
    publisher.publish("t", "10", QoS::AtLeastOnce);
    let came = second.messages(10);
    let texts: Vec<&str> = came.iter().map(Message::text).collect();
    assert_eq!(texts, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]);
    let dup: Vec<bool> = came.iter().map(|message| message.dup).collect();
    assert_eq!(dup, [true, true, true, true, true, true, true, true, true, false]);
}

#[test]
fn a_session_that_ends_with_its_connection_is_not_inherited() {
    let broker = Broker::start("");
    let mut first = Hello::v5("one").connect(broker.address());
    first.subscribe("t", QoS::AtLeastOnce);
    let mut hello = Hello::v5("one");
    hello.clean_start = false;
    let mut second = hello.connect(broker.address());
    assert!(!second.welcome.session_present);
    second.subscribe("end", QoS::AtLeastOnce);
    second.publish("t", "x", QoS::AtLeastOnce);
    second.publish("end", "x", QoS::AtLeastOnce);
    assert_eq!(second.messages_before("end"), []);
}

/// Whether the will of the old connection is published when the session is taken over.
fn will_on_takeover(config: &str, old: &Hello, new: &Hello) -> bool {
    let broker = Broker::start(config);
    let mut watcher = Hello::v5("watcher").connect(broker.address());
    watcher.subscribe("#", QoS::AtLeastOnce);
    let mut first = old.connect(broker.address());
    let mut second = new.connect(broker.address());
    first.wait_for("the close", |event| *event == Event::Closed);
    second.publish("end", "x", QoS::AtLeastOnce);
    // The will may be on its way from another worker: a will that comes, comes within moments.
    let mut came: Vec<String> = watcher.messages_before("end").into_iter().map(|message| message.topic).collect();
    while came.is_empty()
        && let Some(message) = watcher.message_within(Duration::from_millis(300))
    {
        came.push(message.topic);
    }
    came.iter().any(|topic| topic == "will")
}

#[test]
fn the_will_of_the_old_connection_goes_by_the_rules() {
    let will = |delay| WillMessage { delay, ..WillMessage::new("will", "gone") };
    let old = |delay| Hello::v5("one").persistent().will(will(delay));
    let resume = Hello::v5("one").persistent();
    let clean = Hello::v5("one");
    let three = Hello::v311("one").will(will(None));
    assert!(will_on_takeover("", &three, &Hello::v311("one")), "3.1.1 publishes it");
    assert!(will_on_takeover("", &old(None), &resume), "no delay: at once");
    assert!(will_on_takeover("", &old(Some(60)), &clean), "Clean Start ends the session, and the delay with it");
    assert!(!will_on_takeover("", &old(Some(60)), &resume), "the session goes on within the delay");
    let ends_at_once = Hello { session_expiry: None, ..old(Some(60)) };
    assert!(will_on_takeover("", &ends_at_once, &resume), "the session ends with the connection");
    let suppress = "[session]\nsuppress_will_on_takeover = true\n";
    assert!(!will_on_takeover(suppress, &three, &Hello::v311("one")), "unless the operator says otherwise");
}

#[test]
fn reject_keeps_the_old_connection_and_refuses_the_new_one() {
    let broker = Broker::start("[session]\non_duplicate = \"reject\"\n");
    let mut first = Hello::v5("one").connect(broker.address());
    assert_eq!(Hello::v5("one").try_connect(broker.address()).unwrap_err(), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    assert_eq!(Hello::v311("one").try_connect(broker.address()).unwrap_err(), ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    first.ping();
    assert_eq!(broker.metric("viaduct_takeovers_total", &[("result", "rejected")]), 2.0);
    let line = broker.wait_for_log(&["on_duplicate"]);
    assert!(line.contains("one") && line.contains("127.0.0.1:"), "{line:?}");
    first.disconnect();
    // The name is free once the old connection is gone.
    viaduct_tests::eventually("the name to be free", || Hello::v5("one").try_connect(broker.address()).is_ok());
}

#[test]
fn four_clients_on_one_client_id_fight_without_harm() {
    let broker = Broker::start("");
    let address = broker.address();
    let stop = Arc::new(AtomicBool::new(false));
    let admitted = Arc::new(AtomicU64::new(0));
    let mut bystander = Hello::v5("bystander").connect(address);
    bystander.subscribe("b", QoS::AtLeastOnce);
    let before = broker.cpu_time();
    let fighters: Vec<_> = (0..4_u8)
        .map(|number| {
            let (stop, admitted) = (Arc::clone(&stop), Arc::clone(&admitted));
            std::thread::spawn(move || {
                let hello = if number % 2 == 0 { Hello::v5("shared") } else { Hello::v311("shared") };
                while !stop.load(Ordering::Relaxed) {
                    // As a client that comes back at once, for ever.
                    if let Ok(mut client) = hello.try_connect(address) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                        while !stop.load(Ordering::Relaxed)
                            && client.event_within(Duration::from_millis(100)) != Some(Event::Closed)
                        {
                        }
                    }
                }
            })
        })
        .collect();
    let began = Instant::now();
    let mut rounds = 0;
    // Ten seconds, as the promise says; each look is a condition that must hold all the while.
    while began.elapsed() < Duration::from_secs(10) {
        let connected = broker.metric("viaduct_sessions", &[("state", "connected")]);
        assert!(connected <= 2.0, "{connected} sessions are connected: the bystander's, and more than one other");
        bystander.publish("b", "x", QoS::AtLeastOnce);
        assert_eq!(bystander.message().topic, "b");
        rounds += 1;
        assert_eq!(bystander.event_within(Duration::from_millis(50)), None, "the bystander hears of nothing");
    }
    let cpu = broker.cpu_time() - before;
    stop.store(true, Ordering::Relaxed);
    for fighter in fighters {
        fighter.join().unwrap();
    }
    let admitted = admitted.load(Ordering::Relaxed);
    assert!((6..60).contains(&admitted), "in 10 s the session was given away {admitted} times");
    assert!(cpu < Duration::from_millis(2500), "{cpu:?} of processor time in 10 s ({rounds} looks at the metrics)");
    assert!(broker.metric("viaduct_takeover_storms_total", &[]) >= 1.0);
    assert!(broker.metric("viaduct_takeovers_total", &[("result", "taken_over")]) >= 5.0);
    assert!(broker.metric("viaduct_takeovers_total", &[("result", "held")]) >= 1.0);
    let line = broker.wait_for_log(&["storm", "shared"]);
    assert!(line.matches("127.0.0.1:").count() >= 2, "the line names both peers: {line:?}");
    assert!(broker.log().matches("takeover storm").count() < 10, "a storm does not fill the log");
    let mut last = Hello::v5("shared").connect(address);
    last.ping();
}
