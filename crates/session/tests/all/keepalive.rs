//! How long silence may last.

use std::time::Duration;

use viaduct_codec::Time;
use viaduct_session::server::Terms;

use crate::broker::{Broker, framed, v5};

fn after(start: Time, milliseconds: u64) -> Time {
    start.after(Duration::from_millis(milliseconds))
}

/// CONNECT of a client `a` at `level` with this keep alive.
fn connect(level: u8, seconds: u16) -> String {
    let properties = if level == 5 { "00" } else { "" };
    framed("10", &format!("00 04 4d 51 54 54 {level:02x} 02 {seconds:04x} {properties} 00 01 61"))
}

#[test]
fn one_and_a_half_intervals_of_silence_are_too_long() {
    // MQTT-3.1.2-22
    for level in [4, 5] {
        let mut broker = Broker::new();
        let start = broker.now;
        broker.connect(&connect(level, 3));
        assert_eq!(broker.session.next_timeout(), Some(after(start, 4500)));
        assert!(!broker.session.is_overdue(after(start, 4499)));
        assert!(broker.session.is_overdue(after(start, 4500)));
    }
}

#[test]
fn every_packet_of_the_client_counts_and_nothing_that_is_sent_to_it() {
    // trap 78
    let mut broker = Broker::new();
    broker.connect(&connect(5, 2));
    broker.pass(2);
    broker.delivers(0, "x");
    let deadline = broker.session.next_timeout();
    for packet in ["c0 00", "30 05 00 01 74 00 78", "40 02 00 63"] {
        broker.pass(1);
        broker.take(packet);
        assert_eq!(broker.session.next_timeout(), Some(after(broker.now, 3000)));
    }
    assert!(deadline < broker.session.next_timeout());
}

#[test]
fn zero_turns_it_off() {
    let mut broker = Broker::new();
    broker.connect(&connect(5, 0));
    assert_eq!(broker.session.next_timeout(), None);
    assert!(!broker.session.is_overdue(after(broker.now, u64::MAX)));
}

#[test]
fn the_servers_maximum_replaces_what_is_longer_or_off() {
    // MQTT-3.2.2-21, -22
    for (asked, told, interval) in [(60, true, 30), (0, true, 30), (30, false, 30), (10, false, 10)] {
        let mut broker = Broker::with(Terms { max_keep_alive: Some(30), ..Terms::default() });
        let connack = broker.connect(&connect(5, asked));
        assert_eq!(connack.contains("13 00 1e"), told, "{connack}");
        assert_eq!(broker.session.next_timeout(), Some(after(broker.now, interval * 1500)));
    }
}

#[test]
fn without_a_connection_there_is_no_deadline() {
    let mut broker = Broker::new();
    broker.connect(&v5(true, ""));
    broker.cut();
    assert_eq!(broker.session.next_timeout(), None);
}
