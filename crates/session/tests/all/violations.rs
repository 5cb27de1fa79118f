//! Each rule that a client can break, and the reason code for it.

use viaduct_codec::ReasonCode;
use viaduct_session::server::Terms;

use crate::broker::{Broker, v4, v5, v5_kept};

fn reason(connect: &str, packet: &str) -> ReasonCode {
    let mut broker = Broker::new();
    broker.connect(connect);
    let error = broker.try_take(packet).unwrap_err();
    assert!(!error.to_string().is_empty());
    error.reason()
}

#[test]
fn what_only_a_server_sends_is_a_protocol_error() {
    for packet in ["20 03 00 00 00", "90 04 00 01 00 00", "b0 04 00 01 00 00", "d0 00"] {
        assert_eq!(reason(&v5(true, ""), packet), ReasonCode::PROTOCOL_ERROR, "{packet}");
    }
    for packet in ["20 02 00 00", "90 03 00 01 00", "b0 02 00 01", "d0 00"] {
        assert_eq!(reason(&v4(true), packet), ReasonCode::PROTOCOL_ERROR, "{packet}");
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    // MQTT-3.1.0-2, trap 76
    assert_eq!(reason(&v5(true, ""), &v5(true, "")), ReasonCode::PROTOCOL_ERROR);
    assert_eq!(reason(&v4(true), &v4(true)), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn auth_is_the_callers_to_judge() {
    // MQTT-4.12.0-6: whoever authenticates knows whether CONNECT named a method
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    broker.take("f0 06 19 04 15 00 01 58");
    assert_eq!(broker.events, ["auth"]);
    assert!(broker.try_take("f0 01 19").is_err(), "AUTH names its method (U5-3.15.2-a)");
}

#[test]
fn a_subscription_identifier_from_a_client_is_a_protocol_error() {
    // MQTT-3.3.4-6, trap 59
    assert_eq!(reason(&v5(true, ""), "30 07 00 01 74 02 0b 01 78"), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn malformed_packets_keep_the_reason_that_the_codec_gave_them() {
    for (packet, expected) in [
        ("36 07 00 01 74 00 0a 00 78", ReasonCode::MALFORMED_PACKET),
        ("38 05 00 01 74 00 78", ReasonCode::MALFORMED_PACKET),
        ("c1 00", ReasonCode::MALFORMED_PACKET),
        ("60 02 00 0a", ReasonCode::MALFORMED_PACKET),
        ("30 07 00 01 74 02 24 01 78", ReasonCode::MALFORMED_PACKET),
        ("30 04 00 00 00 78", ReasonCode::PROTOCOL_ERROR),
    ] {
        assert_eq!(reason(&v5(true, ""), packet), expected, "{packet}");
    }
}

#[test]
fn the_wrong_acknowledgement_settles_nothing() {
    // trap 14
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    broker.delivers(2, "x");
    broker.delivers(1, "y");
    for packet in ["40 02 00 01", "70 02 00 01", "50 02 00 02", "70 02 00 02"] {
        assert_eq!(broker.try_take(packet).unwrap_err().reason(), ReasonCode::PROTOCOL_ERROR, "{packet}");
    }
    assert_eq!(broker.session.inflight(), 2);
}

#[test]
fn a_session_expiry_is_not_raised_from_nothing() {
    // U5-3.14.2.2.2-a, trap 35
    assert_eq!(reason(&v5(true, ""), "e0 07 00 05 11 00 00 00 0a"), ReasonCode::PROTOCOL_ERROR);
    assert_eq!(reason(&v5(true, "11 00 00 00 00"), "e0 07 00 05 11 00 00 00 0a"), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn a_session_expiry_is_changed_by_disconnect() {
    for (seconds, expected) in [("00 00 00 0a", 10), ("00 00 00 00", 0), ("ff ff ff ff", u32::MAX)] {
        let mut broker = Broker::new();
        broker.connect(&v5_kept(""));
        broker.take(&format!("e0 07 00 05 11 {seconds}"));
        assert_eq!(broker.events, ["disconnect 00"]);
        assert_eq!(broker.session.session_expiry(), expected);
    }
}

#[test]
fn a_session_expiry_is_judged_by_what_the_client_asked_for() {
    // U5-3.14.2.2.2-b: the cap decides what is in force, not what may be said
    let mut broker = Broker::with(Terms { max_session_expiry: Some(0), ..Terms::default() });
    broker.connect(&v5_kept(""));
    broker.take("e0 07 00 05 11 00 00 00 0a");
    assert_eq!(broker.session.session_expiry(), 0);
    let mut broker = Broker::with(Terms { max_session_expiry: Some(60), ..Terms::default() });
    broker.connect(&v5_kept(""));
    broker.take("e0 07 00 05 11 00 00 0e 10");
    assert_eq!(broker.session.session_expiry(), 60);
}

#[test]
fn every_short_form_of_disconnect_is_understood() {
    // U5-3.14.1-a, trap 44
    for (packet, event) in [
        ("e0 00", "disconnect 00"),
        ("e0 01 00", "disconnect 00"),
        ("e0 02 04 00", "disconnect 04"),
        ("e0 01 80", "disconnect 80"),
    ] {
        let mut broker = Broker::new();
        broker.connect(&v5(true, ""));
        broker.take(packet);
        assert_eq!(broker.events, [event]);
    }
}
