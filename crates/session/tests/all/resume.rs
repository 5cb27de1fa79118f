//! What a new connection gets of what an old one left open.

use crate::broker::{Broker, outline, v3, v4, v5, v5_kept};

#[test]
fn what_was_open_comes_again_in_the_order_of_sending_and_then_the_queue() {
    // MQTT-4.4.0-1, 4.6.0-1, traps 3 and 15
    for connect in [v5_kept(""), v4(false), v3(false)] {
        let mut broker = Broker::new();
        broker.connect(&connect);
        for qos in [1, 2, 2, 1] {
            broker.delivers(qos, "x");
        }
        assert_eq!(broker.take("50 02 00 02"), "62 02 00 02");
        broker.cut();
        let _ = broker.deliver(1, "offline");
        let back = outline(&broker.connect(&connect));
        assert_eq!(back, ["20", "3a 1", "62 2", "3c 3", "3a 4", "32 5"]);
    }
}

#[test]
fn pubrel_and_never_publish_comes_again_after_pubrec() {
    // MQTT-4.3.3-5, -6
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    broker.delivers(2, "x");
    broker.take("50 02 00 01");
    for _ in 0..3 {
        broker.cut();
        assert_eq!(outline(&broker.connect(&v5_kept(""))), ["20", "62 1"]);
    }
    broker.take("70 02 00 01");
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept(""))), ["20"]);
}

#[test]
fn the_order_holds_when_identifiers_have_gone_round() {
    let mut broker = Broker::new();
    broker.connect(&v4(false));
    for id in 1..=65_530_u32 {
        broker.delivers(1, "x");
        broker.take(&format!("40 02 {id:04x}"));
    }
    for _ in 0..10 {
        broker.delivers(1, "x");
    }
    broker.cut();
    let ids: Vec<String> = (65_531..=65_535).chain(1..=5).map(|id| format!("3a {id}")).collect();
    assert_eq!(outline(&broker.connect(&v4(false)))[1..], ids);
}

#[test]
fn a_smaller_window_holds_back_what_comes_again() {
    // U5-4.9.0-a: what mosquitto gets wrong towards itself
    let mut broker = Broker::new();
    broker.connect(&v5_kept("21 00 0a"));
    for _ in 0..6 {
        broker.delivers(1, "x");
    }
    let _ = broker.deliver(1, "seven");
    broker.sent();
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept("21 00 02"))), ["20", "3a 1", "3a 2"]);
    assert_eq!(broker.delivers(1, "eight"), "", "it waits behind what comes again");
    assert_eq!(outline(&broker.take("40 02 00 01")), ["3a 3"]);
    assert_eq!(outline(&broker.take("40 02 00 02  40 02 00 03")), ["3a 4", "3a 5"]);
    assert_eq!(outline(&broker.take("40 02 00 04  40 02 00 05  40 02 00 06")), ["3a 6", "3a 7", "32 8"]);
}

#[test]
fn the_window_towards_3_1_1_holds_for_what_comes_again_too() {
    let mut broker = Broker::new();
    broker.connect(&v4(false));
    for _ in 0..30 {
        broker.delivers(1, "x");
    }
    assert_eq!(broker.session.inflight(), 20);
    broker.cut();
    for _ in 0..30 {
        let _ = broker.deliver(1, "y");
    }
    assert_eq!(outline(&broker.connect(&v4(false))).len(), 1 + 20);
    assert_eq!(outline(&broker.take("40 02 00 01")), ["32 21"]);
}

#[test]
fn messages_that_come_during_the_resume_wait_behind_it() {
    // trap 32
    let mut broker = Broker::new();
    broker.connect(&v5_kept("21 00 01"));
    broker.delivers(1, "a");
    broker.delivers(1, "b");
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept("21 00 01"))), ["20", "3a 1"]);
    assert_eq!(broker.delivers(1, "c"), "");
    assert!(broker.take("40 02 00 01").ends_with("62"));
    assert!(broker.take("40 02 00 02").ends_with("63"));
}

#[test]
fn a_takeover_begins_the_window_anew() {
    // trap 21: the old connection's quota is not carried over
    let mut broker = Broker::new();
    broker.connect(&v5_kept("21 00 01"));
    broker.delivers(1, "a");
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept("21 00 02"))), ["20", "3a 1"]);
    assert_eq!(outline(&broker.delivers(1, "b")), ["32 2"]);
    assert_eq!(broker.delivers(1, "c"), "");
}

#[test]
fn a_clean_start_brings_nothing_back() {
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    broker.delivers(1, "x");
    broker.cut();
    let _ = broker.deliver(1, "y");
    assert_eq!(broker.connect(&v5(true, "")), "20 0e 00 00 0b 21 00 64 27 00 10 00 00 22 00 0a");
}

#[test]
fn session_present_is_said_to_3_1_1_and_5_0_and_never_to_3_1() {
    // mqtt31.md 4
    let mut broker = Broker::new();
    assert_eq!(broker.connect(&v4(false)), "20 02 00 00");
    broker.cut();
    assert_eq!(broker.connect(&v4(false)), "20 02 01 00");
    let mut broker = Broker::new();
    broker.connect(&v3(false));
    broker.cut();
    assert_eq!(broker.connect(&v3(false)), "20 02 00 00");
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    broker.cut();
    assert!(broker.connect(&v5_kept("")).starts_with("20 0e 01 00"));
}

#[test]
fn an_acknowledgement_that_runs_ahead_of_what_comes_again_is_taken() {
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    for _ in 0..3 {
        broker.delivers(1, "x");
    }
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept("21 00 01"))), ["20", "3a 1"]);
    assert_eq!(broker.take("40 02 00 03"), "");
    assert_eq!(outline(&broker.take("40 02 00 01")), ["3a 2"]);
    assert_eq!(broker.take("40 02 00 02"), "");
    assert_eq!(broker.session.inflight(), 0);
}

#[test]
fn unsubscribe_and_its_answer_do_not_touch_what_is_in_flight() {
    // MQTT-3.10.4-3, trap 69
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    broker.delivers(2, "x");
    assert_eq!(broker.take("a2 06 00 07 00 00 01 74"), "");
    assert_eq!(broker.take("50 02 00 01"), "62 02 00 01");
}

#[test]
fn a_session_changes_its_version_with_its_client() {
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    broker.delivers(1, "x");
    broker.cut();
    assert_eq!(broker.connect(&v4(false)), "20 02 01 00 3a 06 00 01 74 00 01 78");
}
