//! Receive maximum in both directions, and what it never holds up.

use viaduct_codec::{QoS, ReasonCode};
use viaduct_session::server::Terms;
use viaduct_session::{Delivered, Violation};

use crate::broker::{Broker, outline, v4, v5, v5_kept};

#[test]
fn the_window_is_what_the_client_says_and_never_more_than_the_broker_allows() {
    for (property, window) in [("21 00 03", 3), ("", 5), ("21 ff ff", 5)] {
        let mut broker = Broker::with(Terms { max_inflight_v5: 5, ..Terms::default() });
        broker.connect(&v5(true, property));
        for _ in 0..10 {
            broker.delivers(1, "x");
        }
        assert_eq!(broker.session.inflight(), window);
        assert_eq!(broker.session.queued().0, 10 - window);
    }
}

#[test]
fn puback_pubcomp_and_a_failing_pubrec_free_the_window_and_pubrec_does_not() {
    // MQTT-3.3.4-9, trap 21
    let mut broker = Broker::new();
    broker.connect(&v5(true, "21 00 01"));
    assert_eq!(outline(&broker.delivers(2, "a")), ["34 1"]);
    for payload in ["b", "c", "d"] {
        assert_eq!(broker.delivers(if payload == "b" { 1 } else { 2 }, payload), "");
    }
    assert_eq!(outline(&broker.take("50 02 00 01")), ["62 1"]);
    assert_eq!(outline(&broker.take("70 02 00 01")), ["32 2"]);
    assert_eq!(outline(&broker.take("40 02 00 02")), ["34 3"]);
    assert_eq!(outline(&broker.take("50 03 00 03 97")), ["34 4"]);
}

#[test]
fn qos_0_passes_a_full_window() {
    // MQTT-4.9.0-2, trap 20
    for connect in [v5(true, "21 00 01"), v4(true)] {
        let mut broker = Broker::with(Terms { max_inflight_v3: 1, ..Terms::default() });
        broker.connect(&connect);
        broker.delivers(1, "a");
        assert_eq!(broker.deliver(1, "b"), Delivered::Queued);
        assert_eq!(broker.deliver(0, "c"), Delivered::Sent);
        assert_eq!(outline(&broker.sent()), ["30"]);
        assert_eq!(outline(&broker.take("40 02 00 01")), ["32 2"]);
    }
}

#[test]
fn a_full_window_stops_nothing_but_qos_1_and_2() {
    // MQTT-3.3.4-10, traps 23 and 24
    let mut broker = Broker::new();
    broker.connect(&v5(true, "21 00 01"));
    broker.delivers(2, "a");
    broker.delivers(2, "b");
    assert_eq!(broker.take("c0 00"), "d0 00");
    assert_eq!(broker.take("34 07 00 01 74 00 0a 00 78"), "50 02 00 0a");
    assert_eq!(broker.take("62 02 00 0a"), "70 02 00 0a");
}

#[test]
fn more_than_was_granted_is_a_violation_in_5_0() {
    // MQTT-3.3.4-7, U5-3.3.4-a, trap 22
    let mut broker = Broker::with(Terms { receive_maximum: 3, ..Terms::default() });
    assert!(broker.connect(&v5(true, "")).contains("21 00 03"));
    for id in 1..=3 {
        broker.take(&format!("34 07 00 01 74 00 {id:02x} 00 78"));
    }
    // A repeat does not count twice, and QoS 0 does not count at all.
    broker.take("3c 07 00 01 74 00 02 00 78  30 05 00 01 74 00 78");
    let error = broker.try_take("34 07 00 01 74 00 04 00 78").unwrap_err();
    assert_eq!(error, Violation::ReceiveMaximumExceeded { granted: 3 });
    assert_eq!(error.reason(), ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
}

#[test]
fn what_was_granted_comes_back_with_puback_pubcomp_and_a_failing_pubrec() {
    let mut broker = Broker::with(Terms { receive_maximum: 1, ..Terms::default() });
    broker.connect(&v5(true, ""));
    broker.take("32 07 00 01 74 00 01 00 78");
    broker.take("34 07 00 01 74 00 02 00 78");
    broker.take("62 02 00 02");
    broker.answers = false;
    broker.take("34 07 00 01 74 00 03 00 78");
    broker.answer(3, QoS::ExactlyOnce, ReasonCode::QUOTA_EXCEEDED, None);
    broker.take("32 07 00 01 74 00 04 00 78");
    assert!(broker.try_take("32 07 00 01 74 00 05 00 78").is_err(), "PUBACK has not gone out yet");
}

#[test]
fn what_was_granted_counts_anew_on_each_connection() {
    let mut broker = Broker::with(Terms { receive_maximum: 2, ..Terms::default() });
    broker.connect(&v5_kept(""));
    broker.take("34 07 00 01 74 00 01 00 78  34 07 00 01 74 00 02 00 78");
    broker.cut();
    broker.connect(&v5_kept(""));
    // The client got both PUBRECs, so it sends PUBREL, which takes no quota, and has two free for new messages.
    broker.take("34 07 00 01 74 00 03 00 78  34 07 00 01 74 00 04 00 78");
    assert_eq!(outline(&broker.take("62 02 00 01  62 02 00 02")), ["70 1", "70 2"]);
    assert!(broker.try_take("34 07 00 01 74 00 05 00 78").is_err());
}

#[test]
fn a_3_1_1_client_is_never_closed_for_it() {
    let mut broker = Broker::with(Terms { receive_maximum: 1, ..Terms::default() });
    broker.connect(&v4(true));
    for id in 1..=5000 {
        broker.take(&format!("34 06 00 01 74 {id:04x} 78"));
    }
    assert_eq!(broker.heard.len(), 5000);
}

#[test]
fn a_window_of_zero_counts_as_one() {
    let mut broker = Broker::with(Terms { max_inflight_v3: 0, max_inflight_v5: 0, ..Terms::default() });
    for connect in [v4(true), v5(true, "")] {
        broker.connect(&connect);
        broker.delivers(1, "x");
        broker.delivers(1, "y");
        assert_eq!(broker.session.inflight(), 1);
    }
}

#[test]
fn a_client_that_does_not_read_fills_its_queue_and_no_more() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    let big = "x".repeat(100_000);
    for _ in 0..50 {
        let _ = broker.deliver(0, &big);
        let _ = broker.deliver(1, &big);
    }
    assert!(broker.output.pending() < viaduct_session::OUTPUT_HIGH_WATER + 110_000);
    assert!(broker.session.queued().0 > 90);
    assert_eq!(outline(&broker.sent()).len(), 100, "all of it comes once the client reads");
}
