//! QoS 1 in both directions.

use viaduct_codec::{PacketId, QoS, ReasonCode};

use crate::broker::{Broker, outline, v3, v4, v5, v5_kept};

#[test]
fn a_message_is_sent_once_and_settled_by_puback() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.delivers(1, "x"), "32 07 00 01 74 00 01 00 78");
    assert_eq!(broker.session.inflight(), 1);
    assert_eq!(broker.take("40 02 00 01"), "");
    assert_eq!(broker.events, ["settled 00"]);
    assert_eq!(broker.session.inflight(), 0);
}

#[test]
fn several_are_answered_together_as_far_as_they_are_the_oldest() {
    let publish = |id: u8| format!("32 06 00 01 74 00 {id:02x} 00");
    let answered = |broker: &mut Broker, ids: &[u16]| {
        let ids = ids.iter().map(|id| PacketId::new(*id).unwrap());
        let count = broker.session.acknowledge_in_turn(ids, &mut broker.output);
        (count, broker.sent())
    };
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5(true, ""));
    for id in [7, 3, 9, 4] {
        broker.take(&publish(id));
    }
    assert_eq!(answered(&mut broker, &[3, 9]), (0, String::new()), "MQTT-4.6.0-2: 7 came before");
    assert_eq!(answered(&mut broker, &[]), (0, String::new()));
    assert_eq!(answered(&mut broker, &[7, 3, 4, 9]), (2, "40 02 00 07 40 02 00 03".into()));
    assert_eq!(answered(&mut broker, &[9, 4, 4, 7]), (2, "40 02 00 09 40 02 00 04".into()));
    assert_eq!(answered(&mut broker, &[7]), (0, String::new()), "it is answered");
    broker.take(&publish(5));
    broker.cut();
    assert_eq!(answered(&mut broker, &[5]), (0, String::new()), "nobody is there");
}

#[test]
fn every_form_of_puback_is_understood() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    for _ in 0..3 {
        broker.delivers(1, "x");
    }
    broker.take("40 02 00 01  40 03 00 02 10  40 04 00 03 80 00"); // U5-3.4.2.1-a
    assert_eq!(broker.events, ["settled 00", "settled 10", "settled 80"]);
}

#[test]
fn nothing_is_sent_again_while_the_connection_holds() {
    // MQTT-4.4.0-1, trap 11
    for connect in [v5_kept(""), v4(false), v3(false)] {
        let mut broker = Broker::new();
        broker.connect(&connect);
        broker.delivers(1, "x");
        for _ in 0..100 {
            broker.pass(30);
            assert_eq!(outline(&broker.take("c0 00")), ["d0"]);
        }
    }
}

#[test]
fn a_message_of_the_client_is_handed_on_and_acknowledged_when_the_broker_says_so() {
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5(true, ""));
    assert_eq!(broker.take("32 07 00 01 74 00 0a 00 78"), "");
    assert_eq!(broker.heard, ["t x"]);
    assert_eq!(broker.answer(10, QoS::AtLeastOnce, ReasonCode::SUCCESS, None), "40 02 00 0a");
}

#[test]
fn an_acknowledged_identifier_is_a_new_message_whatever_dup_says() {
    // MQTT-4.3.2-5, trap 7
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.take("32 07 00 01 74 00 0a 00 78  3a 07 00 01 74 00 0a 00 78"), "40 02 00 0a 40 02 00 0a");
    assert_eq!(broker.heard.len(), 2);
}

#[test]
fn an_unknown_puback_changes_nothing() {
    // U5-4.3.2-a
    for connect in [v5(true, ""), v4(true)] {
        let mut broker = Broker::new();
        broker.connect(&connect);
        broker.delivers(1, "x");
        assert_eq!(broker.take("40 02 77 77  70 02 77 77"), "");
        assert_eq!(broker.session.inflight(), 1);
    }
}

#[test]
fn identifiers_of_both_directions_are_independent() {
    // trap 10
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(outline(&broker.delivers(1, "x")), ["32 1"]);
    assert_eq!(broker.take("32 07 00 01 74 00 01 00 78"), "40 02 00 01");
    assert_eq!(broker.session.inflight(), 1);
    broker.take("40 02 00 01");
    assert_eq!(broker.session.inflight(), 0);
}

#[test]
fn an_identifier_in_flight_is_never_given_to_another_message() {
    // MQTT-2.2.1-4, trap 9: 1 stays open while the counter goes round, and 0 never comes
    let mut broker = Broker::new();
    broker.connect(&v4(true));
    assert_eq!(outline(&broker.delivers(1, "held")), ["32 1"]);
    for _ in 0..70_000 {
        let bytes = broker.delivers(1, "x");
        let id = u16::from_str_radix(&bytes[15..20].replace(' ', ""), 16).unwrap();
        assert!(id > 1, "{bytes}");
        broker.take(&format!("40 02 {id:04x}"));
    }
    assert_eq!(broker.session.inflight(), 1);
}

#[test]
fn a_failure_is_told_in_5_0_and_acknowledged_as_a_success_in_3() {
    // MQTT-3.3.5-2 of 3.1.1, trap 84
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5(true, ""));
    broker.take("32 07 00 01 74 00 0a 00 78");
    assert_eq!(broker.answer(10, QoS::AtLeastOnce, ReasonCode::NOT_AUTHORIZED, None), "40 03 00 0a 87");
    for connect in [v4(true), v3(true)] {
        let mut broker = Broker::new();
        broker.answers = false;
        broker.connect(&connect);
        broker.take("32 06 00 01 74 00 0a 78");
        assert_eq!(broker.answer(10, QoS::AtLeastOnce, ReasonCode::NOT_AUTHORIZED, None), "40 02 00 0a");
    }
}

#[test]
fn the_publishers_dup_does_not_travel() {
    // MQTT-3.3.1-3, trap 8: a Message has no DUP, and a first delivery never has it either
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    assert!(broker.delivers(1, "x").starts_with("32"));
    broker.cut();
    assert!(broker.connect(&v5_kept("")).contains("3a 07 00 01 74 00 01"));
}
