//! What is larger than the peer takes.

use viaduct_codec::{PacketId, QoS, ReasonCode, VarInt};
use viaduct_session::server::RefusalKind;
use viaduct_session::{Delivered, DropReason};

use crate::broker::{Broker, outline, v4, v5, v5_kept};

#[test]
fn the_limit_counts_the_whole_packet_and_may_be_reached() {
    // MQTT-3.1.2-24, trap 26
    for qos in 0..3 {
        let mut broker = Broker::new();
        broker.connect(&v5(true, "27 00 00 00 1e"));
        let overhead = if qos == 0 { 6 } else { 8 };
        assert_eq!(broker.deliver(qos, &"x".repeat(30 - overhead)), Delivered::Sent);
        assert_eq!(broker.deliver(qos, &"x".repeat(31 - overhead)), Delivered::Dropped(DropReason::TooLarge));
    }
}

#[test]
fn what_the_wire_has_no_length_for_never_goes_out_with_others() {
    // Such a packet would not be written, and its identifier would never be answered.
    let most = VarInt::MAX.get() as usize;
    for (hello, takes_most) in [(v4(true), true), (v5(true, ""), true), (v5(true, "27 00 00 00 1e"), false)] {
        let mut broker = Broker::new();
        broker.connect(&hello);
        assert!(broker.session.takes_bundle(2, 30, &broker.output));
        assert_eq!(broker.session.takes_bundle(2, most, &broker.output), takes_most);
        assert!(!broker.session.takes_bundle(2, most + 1, &broker.output));
    }
}

#[test]
fn a_message_that_is_too_large_takes_no_identifier_and_no_window() {
    // MQTT-3.1.2-25, trap 25
    let mut broker = Broker::new();
    broker.connect(&v5_kept("21 00 01 27 00 00 00 1e"));
    assert_eq!(broker.deliver(1, &"x".repeat(50)), Delivered::Dropped(DropReason::TooLarge));
    assert_eq!(broker.session.inflight(), 0);
    assert_eq!(outline(&broker.delivers(1, "small")).len(), 1);
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept(""))).len(), 2, "nothing comes back that was too large");
}

#[test]
fn a_message_that_is_too_large_for_the_next_connection_does_not_stop_the_queue() {
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    broker.delivers(1, &"in flight ".repeat(10));
    broker.delivers(2, &"in flight ".repeat(10));
    broker.delivers(2, &"in flight ".repeat(10));
    broker.take("50 02 00 02");
    broker.cut();
    let _ = broker.deliver(1, &"queued ".repeat(10));
    let _ = broker.deliver(1, "small");
    assert_eq!(outline(&broker.connect(&v5_kept("27 00 00 00 1e")))[1..2], ["62 2"]);
    assert_eq!(broker.session.inflight(), 2);
    assert_eq!(broker.session.take_counts().too_large, 3);
    assert_eq!(broker.session.queued(), (0, 0));
}

#[test]
fn words_are_left_out_of_an_acknowledgement_that_would_be_too_large() {
    // MQTT-3.4.2-2, 3.5.2-2, trap 27
    for (qos, first) in [(QoS::AtLeastOnce, "40"), (QoS::ExactlyOnce, "50")] {
        // Fixed header 2, identifier 2, reason 1, property length 1, property 3 and the words.
        for (words, fits) in [(11, true), (12, false)] {
            let mut broker = Broker::new();
            broker.answers = false;
            broker.connect(&v5(true, "27 00 00 00 14"));
            broker.take(&format!("3{} 07 00 01 74 00 0a 00 78", qos.bits() * 2));
            let answer = broker.answer(10, qos, ReasonCode::NOT_AUTHORIZED, Some(&"w".repeat(words)));
            if fits {
                assert!(answer.starts_with(&format!("{first} 12 00 0a 87 0e 1f 00 0b")), "{answer}");
            } else {
                assert_eq!(answer, format!("{first} 03 00 0a 87"));
            }
        }
    }
}

#[test]
fn words_are_left_out_for_a_client_that_wants_none() {
    // MQTT-3.1.2-29, trap 79
    let mut broker = Broker::new();
    broker.answers = false;
    broker.connect(&v5(true, "17 00"));
    broker.take("32 07 00 01 74 00 0a 00 78");
    assert_eq!(broker.answer(10, QoS::AtLeastOnce, ReasonCode::NOT_AUTHORIZED, Some("no")), "40 03 00 0a 87");
}

#[test]
fn words_are_left_out_of_a_disconnect_that_would_be_too_large() {
    // MQTT-3.14.2-3
    let mut broker = Broker::new();
    broker.connect(&v5(true, "27 00 00 00 14"));
    let words = Some("another connection took the session");
    broker.session.disconnect(ReasonCode::SESSION_TAKEN_OVER, words, &mut broker.output);
    assert_eq!(broker.sent(), "e0 01 8e");
}

#[test]
fn disconnect_is_said_to_5_0_only() {
    let mut broker = Broker::new();
    broker.connect(&v4(true));
    broker.session.disconnect(ReasonCode::SESSION_TAKEN_OVER, Some("why"), &mut broker.output);
    assert_eq!(broker.sent(), "");
}

#[test]
fn suback_and_unsuback_in_the_words_of_the_version() {
    let id = PacketId::new(7).unwrap();
    let reasons = vec![ReasonCode::GRANTED_QOS_1, ReasonCode::NOT_AUTHORIZED];
    for (connect, suback, unsuback) in
        [(v5(true, ""), "90 05 00 07 00 01 87", "b0 05 00 07 00 00 11"), (v4(true), "90 04 00 07 01 80", "b0 02 00 07")]
    {
        let mut broker = Broker::new();
        broker.connect(&connect);
        broker.session.suback(id, reasons.clone(), &mut broker.output);
        assert_eq!(broker.sent(), suback);
        let gone = vec![ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED];
        broker.session.unsuback(id, gone, &mut broker.output);
        assert_eq!(broker.sent(), unsuback);
    }
}

#[test]
fn a_client_that_cannot_even_read_the_connack_is_refused() {
    let mut broker = Broker::new();
    let refusal = broker.try_connect(&v5(true, "27 00 00 00 0f")).unwrap_err();
    assert!(matches!(refusal.why, RefusalKind::ConnackTooLarge { size: 16, max: 15 }));
    assert_eq!(crate::broker::hex(&refusal.answer), "20 03 00 95 00");
    let refusal = broker.try_connect(&v5(true, "27 00 00 00 04")).unwrap_err();
    assert!(refusal.answer.is_empty());
    assert!(broker.try_connect(&v5(true, "27 00 00 00 10")).is_ok());
}
