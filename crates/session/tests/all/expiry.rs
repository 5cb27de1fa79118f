//! Message expiry while messages wait, and session expiry as it is settled.

use std::sync::Arc;

use viaduct_session::{Delivered, Delivery, DropReason};

use crate::broker::{Broker, delivery, message, outline, v4, v5, v5_kept};

/// A message that lives for `seconds` from the start of the test.
fn living(broker: &Broker, qos: u8, seconds: u32) -> Delivery {
    let mut message = message("t", qos, "x");
    message.received = broker.now;
    message.expires = Some(broker.now.after_secs(seconds));
    Delivery { message: Arc::new(message), ..delivery("t", qos, "x") }
}

#[test]
fn the_time_that_is_left_goes_with_the_message() {
    // MQTT-3.3.2-6
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    broker.cut();
    let _ = broker.deliver_this(living(&broker, 1, 10));
    broker.pass(4);
    assert!(broker.connect(&v5_kept("")).ends_with("32 0c 00 01 74 00 01 05 02 00 00 00 06 78"));
}

#[test]
fn a_message_whose_time_passed_in_the_queue_is_dropped_and_counted() {
    // MQTT-3.3.2-5, trap 53; 3.x hears nothing of expiry and profits from it all the same
    for connect in [v5_kept(""), v4(false)] {
        let mut broker = Broker::new();
        broker.connect(&connect);
        broker.cut();
        let _ = broker.deliver_this(living(&broker, 1, 1));
        let _ = broker.deliver(1, "y");
        broker.pass(3);
        assert_eq!(outline(&broker.connect(&connect)), ["20", "32 1"]);
        assert_eq!(broker.session.take_counts().expired, 1);
        assert_eq!(broker.session.queued(), (0, 0));
    }
}

#[test]
fn a_message_whose_time_has_passed_already_is_not_sent() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    let late = living(&broker, 0, 1);
    broker.pass(1);
    assert_eq!(broker.deliver_this(late), Delivered::Dropped(DropReason::Expired));
    assert_eq!(broker.sent(), "");
}

#[test]
fn a_qos_2_exchange_that_has_begun_goes_on() {
    // MQTT-4.3.3-7, trap 54
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    let _ = broker.deliver_this(living(&broker, 2, 2));
    let _ = broker.deliver_this(living(&broker, 2, 2));
    broker.sent();
    broker.take("50 02 00 01");
    broker.cut();
    broker.pass(10);
    assert_eq!(outline(&broker.connect(&v5_kept(""))), ["20", "62 1", "3c 2"]);
}

#[test]
fn nothing_is_said_about_a_message_that_lives_for_ever() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    assert_eq!(broker.delivers(0, "x"), "30 05 00 01 74 00 78");
}
