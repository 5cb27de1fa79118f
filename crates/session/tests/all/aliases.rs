//! Topic aliases in both directions, and their end with the connection.

use viaduct_codec::ReasonCode;
use viaduct_session::Violation;
use viaduct_session::server::Terms;

use crate::broker::{Broker, delivery, v4, v5, v5_kept};

fn sends(broker: &mut Broker, topic: &str, qos: u8) -> String {
    let _ = broker.deliver_this(delivery(topic, qos, "x"));
    broker.sent()
}

#[test]
fn an_alias_of_the_client_stands_for_its_topic_until_it_is_given_another() {
    // MQTT-3.3.2-12
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    broker.take("30 08 00 01 74 03 23 00 01 78  30 07 00 00 03 23 00 01 79");
    broker.take("30 08 00 01 75 03 23 00 01 78  30 07 00 00 03 23 00 01 79");
    broker.take("30 08 00 01 76 03 23 00 0a 78");
    assert_eq!(broker.heard, ["t x", "t y", "u x", "u y", "v x"]);
}

#[test]
fn an_alias_works_at_every_qos() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.take("34 0a 00 01 74 00 01 03 23 00 01 78"), "50 02 00 01");
    assert_eq!(broker.take("32 09 00 00 00 02 03 23 00 01 79"), "40 02 00 02");
    assert_eq!(broker.heard, ["t x", "t y"]);
}

#[test]
fn an_alias_above_the_maximum_is_a_violation() {
    // U5-3.3.2.3.4-a; 0 is the codec's
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    for publish in ["30 08 00 01 74 03 23 00 0b 78", "30 08 00 01 74 03 23 ff ff 78", "30 08 00 01 74 03 23 00 00 78"] {
        assert_eq!(broker.try_take(publish).unwrap_err().reason(), ReasonCode::TOPIC_ALIAS_INVALID);
    }
}

#[test]
fn without_an_announced_maximum_every_alias_is_a_violation() {
    // MQTT-3.2.2-18
    let mut broker = Broker::with(Terms { topic_alias_maximum: 0, ..Terms::default() });
    assert!(!broker.connect(&v5(true, "")).contains(" 22 "));
    assert!(broker.try_take("30 08 00 01 74 03 23 00 01 78").is_err());
}

#[test]
fn an_unknown_alias_without_a_topic_is_a_protocol_error() {
    // U5-3.3.2.3.4-b
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    let error = broker.try_take("30 07 00 00 03 23 00 01 78").unwrap_err();
    assert!(matches!(error, Violation::TopicAliasUnknown { alias: 1 }));
    assert_eq!(error.reason(), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn aliases_of_both_directions_end_with_the_connection() {
    // MQTT-3.3.2-7, trap 66
    let mut broker = Broker::new();
    broker.connect(&v5_kept("22 00 02"));
    broker.take("30 08 00 01 74 03 23 00 01 78");
    assert!(sends(&mut broker, "some/topic", 0).contains("23 00 01"));
    broker.cut();
    broker.connect(&v5_kept("22 00 02"));
    assert!(sends(&mut broker, "some/topic", 0).starts_with("30 11 00 0a"), "the topic is said again");
    assert!(broker.try_take("30 07 00 00 03 23 00 01 78").is_err());
}

#[test]
fn aliases_towards_the_client_stay_within_its_maximum() {
    // MQTT-3.1.2-26
    let mut broker = Broker::new();
    broker.connect(&v5(true, "22 00 02"));
    assert_eq!(sends(&mut broker, "a/1", 0), "30 0a 00 03 61 2f 31 03 23 00 01 78");
    assert_eq!(sends(&mut broker, "a/1", 0), "30 07 00 00 03 23 00 01 78");
    assert_eq!(sends(&mut broker, "a/2", 0), "30 0a 00 03 61 2f 32 03 23 00 02 78");
    assert_eq!(sends(&mut broker, "a/3", 0), "30 07 00 03 61 2f 33 00 78");
    assert_eq!(sends(&mut broker, "a/2", 0), "30 07 00 00 03 23 00 02 78");
}

#[test]
fn no_alias_goes_to_a_client_that_announced_none() {
    // MQTT-3.1.2-27
    for connect in [v5(true, ""), v5(true, "22 00 00"), v4(true)] {
        let mut broker = Broker::new();
        broker.connect(&connect);
        for _ in 0..2 {
            assert!(sends(&mut broker, "a/1", 0).contains("61 2f 31"));
        }
    }
}

#[test]
fn what_comes_again_says_its_topic() {
    // trap 67
    let mut broker = Broker::new();
    broker.connect(&v5_kept("22 00 02"));
    sends(&mut broker, "a/1", 0);
    assert_eq!(sends(&mut broker, "a/1", 1), "32 09 00 00 00 01 03 23 00 01 78");
    broker.cut();
    assert!(broker.connect(&v5_kept("22 00 02")).ends_with("3a 09 00 03 61 2f 31 00 01 00 78"));
    assert_eq!(sends(&mut broker, "a/1", 1), "32 0c 00 03 61 2f 31 00 02 03 23 00 01 78");
}

#[test]
fn a_message_that_is_too_large_takes_no_alias() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, "22 00 01 27 00 00 00 10"));
    let _ = broker.deliver_this(delivery("a/1", 0, "far too long for the client"));
    assert_eq!(broker.sent(), "");
    assert_eq!(sends(&mut broker, "b/1", 0), "30 0a 00 03 62 2f 31 03 23 00 01 78");
}

#[test]
fn a_message_that_fits_only_without_its_alias_goes_without() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, "22 00 01 27 00 00 00 10"));
    assert_eq!(sends(&mut broker, "b/12345678", 0), "30 0e 00 0a 62 2f 31 32 33 34 35 36 37 38 00 78");
    assert_eq!(sends(&mut broker, "c", 0), "30 08 00 01 63 03 23 00 01 78");
    assert_eq!(sends(&mut broker, "c", 1), "32 09 00 00 00 01 03 23 00 01 78");
}
