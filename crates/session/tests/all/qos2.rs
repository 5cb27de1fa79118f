//! QoS 2 in both directions, packet by packet.

use viaduct_codec::{QoS, ReasonCode};

use crate::broker::{Broker, outline, v4, v5, v5_kept};

#[test]
fn the_four_steps_towards_the_client() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.delivers(2, "x"), "34 07 00 01 74 00 01 00 78");
    assert_eq!(broker.take("50 02 00 01"), "62 02 00 01");
    assert_eq!(broker.session.inflight(), 1);
    assert_eq!(broker.take("70 02 00 01"), "");
    assert_eq!(broker.events, ["settled 00"]);
    assert_eq!(broker.session.inflight(), 0);
}

#[test]
fn the_four_steps_from_the_client() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.take("34 07 00 01 74 00 0a 00 78"), "50 02 00 0a");
    assert_eq!(broker.take("62 02 00 0a"), "70 02 00 0a");
    assert_eq!(broker.heard, ["t x"]);
}

#[test]
fn repeats_before_pubrel_are_answered_and_not_handed_on() {
    // MQTT-4.3.3-10, trap 2; DUP or not
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    for first in ["34", "3c", "34", "3c", "34"] {
        assert_eq!(broker.take(&format!("{first} 07 00 01 74 00 0a 00 78")), "50 02 00 0a");
    }
    assert_eq!(broker.heard.len(), 1);
}

#[test]
fn repeats_after_a_resume_are_answered_and_not_handed_on() {
    // trap 1
    for (connect, publish) in [(v5_kept(""), "07 00 01 74 00 0a 00 78"), (v4(false), "06 00 01 74 00 0a 78")] {
        let mut broker = Broker::new();
        broker.connect(&connect);
        assert_eq!(broker.take(&format!("34 {publish}")), "50 02 00 0a");
        broker.cut();
        broker.connect(&connect);
        assert_eq!(broker.take(&format!("3c {publish}")), "50 02 00 0a");
        assert_eq!(broker.heard.len(), 1);
        assert_eq!(broker.take("62 02 00 0a"), "70 02 00 0a");
        assert_eq!(broker.take(&format!("34 {publish}")), "50 02 00 0a");
        assert_eq!(broker.heard.len(), 2, "after PUBCOMP the identifier is new (MQTT-4.3.3-12)");
    }
}

#[test]
fn pubrel_after_a_resume_is_known() {
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    broker.take("34 07 00 01 74 00 0a 00 78");
    broker.cut();
    broker.connect(&v5_kept(""));
    assert_eq!(broker.take("62 02 00 0a"), "70 02 00 0a");
}

#[test]
fn an_unknown_pubrel_is_answered_in_the_words_of_the_version() {
    // MQTT-4.3.3-11, trap 5
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.take("62 02 00 63"), "70 03 00 63 92");
    let mut broker = Broker::new();
    broker.connect(&v4(true));
    assert_eq!(broker.take("62 02 00 63"), "70 02 00 63");
}

#[test]
fn an_unknown_pubrec_is_answered_in_the_words_of_the_version() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.take("50 02 00 63"), "62 03 00 63 92");
    assert_eq!(broker.take("70 03 00 63 92"), "");
    let mut broker = Broker::new();
    broker.connect(&v4(true));
    assert_eq!(broker.take("50 02 00 63"), "62 02 00 63");
}

#[test]
fn a_repeated_pubrec_is_answered_with_pubrel_again() {
    // MQTT-3.6.2-1, trap 6
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    broker.delivers(2, "x");
    assert_eq!(broker.take("50 02 00 01  50 02 00 01"), "62 02 00 01 62 02 00 01");
}

#[test]
fn a_failing_pubrec_ends_the_exchange() {
    // MQTT-4.3.3-4, 4.4.0-2, trap 4
    let mut broker = Broker::new();
    broker.connect(&v5_kept("21 00 01"));
    assert_eq!(outline(&broker.delivers(2, "x")), ["34 1"]);
    assert_eq!(broker.delivers(2, "y"), "");
    assert_eq!(outline(&broker.take("50 04 00 01 80 00")), ["34 2"], "no PUBREL, and the window is free");
    assert_eq!(broker.events, ["settled 80"]);
    broker.take("50 02 00 02  70 02 00 02");
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept(""))), ["20"], "nothing comes again");
}

#[test]
fn no_subscribers_is_a_success() {
    // U5-3.5.2.1-a
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    broker.delivers(2, "x");
    assert_eq!(broker.take("50 03 00 01 10"), "62 02 00 01");
}

#[test]
fn pubcomp_not_found_completes_the_exchange() {
    // U5-3.7.2.1-a
    let mut broker = Broker::new();
    broker.connect(&v5(true, "21 00 01"));
    broker.delivers(2, "x");
    broker.delivers(2, "y");
    broker.take("50 02 00 01");
    assert_eq!(outline(&broker.take("70 03 00 01 92")), ["34 2"]);
}

#[test]
fn a_refused_message_frees_its_identifier_in_5_0_only() {
    // MQTT-4.3.3-9; 3.x cannot be told, so there the exchange goes on
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5(true, ""));
    broker.take("34 07 00 01 74 00 0a 00 78");
    assert_eq!(broker.answer(10, QoS::ExactlyOnce, ReasonCode::NOT_AUTHORIZED, None), "50 03 00 0a 87");
    broker.take("34 07 00 01 74 00 0a 00 79");
    assert_eq!(broker.heard, ["t x", "t y"]);
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v4(true));
    broker.take("34 06 00 01 74 00 0a 78");
    assert_eq!(broker.answer(10, QoS::ExactlyOnce, ReasonCode::NOT_AUTHORIZED, None), "50 02 00 0a");
    assert_eq!(broker.take("62 02 00 0a"), "70 02 00 0a");
}

#[test]
fn a_repeat_waits_for_the_answer_that_is_due() {
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5(true, ""));
    assert_eq!(broker.take("34 07 00 01 74 00 0a 00 78  3c 07 00 01 74 00 0a 00 78"), "");
    assert_eq!(broker.answer(10, QoS::ExactlyOnce, ReasonCode::SUCCESS, None), "50 02 00 0a");
    assert_eq!(broker.heard.len(), 1);
}

#[test]
fn a_message_that_became_safe_without_a_connection_is_acknowledged_on_the_next() {
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5_kept(""));
    broker.take("34 07 00 01 74 00 0a 00 78");
    broker.cut();
    assert_eq!(broker.answer(10, QoS::ExactlyOnce, ReasonCode::SUCCESS, None), "");
    broker.connect(&v5_kept(""));
    assert_eq!(broker.take("3c 07 00 01 74 00 0a 00 78"), "50 02 00 0a");
    assert_eq!(broker.heard.len(), 1);
}

#[test]
fn a_message_that_was_refused_without_a_connection_is_taken_anew_on_the_next() {
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5_kept(""));
    broker.take("34 07 00 01 74 00 0a 00 78");
    broker.cut();
    assert_eq!(broker.answer(10, QoS::ExactlyOnce, ReasonCode::QUOTA_EXCEEDED, None), "");
    broker.connect(&v5_kept(""));
    broker.take("3c 07 00 01 74 00 0a 00 78");
    assert_eq!(broker.heard.len(), 2);
}

#[test]
fn an_answer_that_comes_after_a_resume_goes_out_once() {
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5_kept(""));
    broker.take("34 07 00 01 74 00 0a 00 78");
    broker.cut();
    broker.connect(&v5_kept(""));
    assert_eq!(broker.take("3c 07 00 01 74 00 0a 00 78"), "");
    assert_eq!(broker.answer(10, QoS::ExactlyOnce, ReasonCode::SUCCESS, None), "50 02 00 0a");
    assert_eq!(broker.answer(10, QoS::ExactlyOnce, ReasonCode::SUCCESS, None), "", "nobody asked again");
}

#[test]
fn pubrels_follow_the_order_of_pubrecs() {
    // MQTT-4.6.0-4
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    for _ in 0..3 {
        broker.delivers(2, "x");
    }
    assert_eq!(outline(&broker.take("50 02 00 02  50 02 00 03  50 02 00 01")), ["62 2", "62 3", "62 1"]);
}
