//! The bounds of the queue and what happens at them.

use std::sync::Arc;

use viaduct_session::server::Terms;
use viaduct_session::{Delivered, Delivery, DropReason, OnFull, QueueLimits};

use crate::broker::{Broker, delivery, message, outline, v4, v5_kept};

fn broker(max_messages: usize, max_bytes: usize, on_full: OnFull) -> Broker {
    let queue = QueueLimits { max_messages, max_bytes, max_age: None, on_full }.into();
    let mut broker = Broker::with(Terms { queue, ..Terms::default() });
    broker.connect(&v4(false));
    broker.cut();
    broker
}

/// The last byte of every message that the client gets when it comes back.
fn comes_back(broker: &mut Broker) -> String {
    let bytes = broker.connect(&v4(false));
    let payload = |line: &str| char::from(u8::from_str_radix(&line[line.len() - 2..], 16).unwrap());
    bytes.trim_start_matches("20 02 01 00 ").split(" 32 06 ").filter(|part| !part.is_empty()).map(payload).collect()
}

#[test]
fn the_newest_goes() {
    let mut broker = broker(2, usize::MAX, OnFull::DropNewest);
    assert_eq!(broker.deliver(1, "a"), Delivered::Queued);
    assert_eq!(broker.deliver(1, "b"), Delivered::Queued);
    assert_eq!(broker.deliver(1, "c"), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!(comes_back(&mut broker), "ab");
}

#[test]
fn the_oldest_goes() {
    let mut broker = broker(2, usize::MAX, OnFull::DropOldest);
    for payload in ["a", "b"] {
        assert_eq!(broker.deliver(1, payload), Delivered::Queued);
    }
    assert_eq!(broker.deliver(1, "c"), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!(comes_back(&mut broker), "bc");
}

#[test]
fn the_connection_goes() {
    let mut broker = broker(1, usize::MAX, OnFull::Disconnect);
    broker.terms.max_inflight_v3 = 1;
    broker.connect(&v4(false));
    broker.delivers(1, "a");
    assert_eq!(broker.deliver(1, "b"), Delivered::Queued);
    assert_eq!(broker.deliver(1, "c"), Delivered::Overflow);
    broker.cut();
    assert_eq!(broker.deliver(1, "d"), Delivered::Dropped(DropReason::QueueFull), "there is no connection to end");
}

#[test]
fn bytes_count_too() {
    let size = message("t", 1, "a").size();
    let mut broker = broker(usize::MAX, 2 * size, OnFull::DropNewest);
    assert_eq!(broker.deliver(1, "a"), Delivered::Queued);
    assert_eq!(broker.deliver(1, "b"), Delivered::Queued);
    assert_eq!(broker.session.queued(), (2, 2 * size));
    assert_eq!(broker.deliver(1, "c"), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!(comes_back(&mut broker), "ab");
    assert_eq!(broker.session.queued(), (0, 0));
}

#[test]
fn a_message_over_the_limit_on_its_own_drops_nothing_else() {
    let mut broker = broker(10, 1000, OnFull::DropOldest);
    assert_eq!(broker.deliver(1, "a"), Delivered::Queued);
    assert_eq!(broker.deliver(1, &"x".repeat(2000)), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!(comes_back(&mut broker), "a");
}

#[test]
fn every_message_that_goes_is_counted() {
    let size = message("t", 1, "a").size();
    let mut broker = broker(usize::MAX, 4 * size, OnFull::DropOldest);
    for payload in ["a", "b", "c", "d"] {
        assert_eq!(broker.deliver(1, payload), Delivered::Queued);
    }
    let large = "x".repeat(2 * size);
    assert_eq!(broker.deliver(1, &large), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!(broker.session.queued().0, 2);
    assert_eq!(broker.session.take_counts().displaced, 2, "three went, and one of them was told");
}

#[test]
fn qos_0_never_pushes_out_qos_1() {
    let size = delivery("t", 1, "b").message.size();
    let mut broker = broker(2, 2 * size, OnFull::DropOldest);
    broker.terms.max_inflight_v3 = 1;
    broker.connect(&v4(false));
    broker.delivers(1, "a");
    for payload in ["b", "c"] {
        assert_eq!(broker.deliver(1, payload), Delivered::Queued);
    }
    let filler = delivery("t", 0, &"x".repeat(300_000));
    assert_eq!(broker.deliver_this(filler), Delivered::Sent);
    assert_eq!(broker.deliver(0, "d"), Delivered::Dropped(DropReason::QueueFull));
    assert_eq!(broker.session.queued().0, 2);
    broker.cut();
    broker.terms.max_inflight_v3 = 20;
    assert_eq!(outline(&broker.connect(&v4(false))), ["20", "3a 1", "32 2", "32 3"]);
}

#[test]
fn qos_0_is_bounded_by_its_bytes_and_not_by_the_number_of_messages() {
    let size = delivery("t", 0, "b").message.size();
    let mut broker = broker(2, 5 * size, OnFull::DropNewest);
    broker.connect(&v4(false));
    assert_eq!(broker.deliver_this(delivery("t", 0, &"x".repeat(300_000))), Delivered::Sent);
    for payload in ["a", "b", "c", "d", "e"] {
        assert_eq!(broker.deliver(0, payload), Delivered::Queued);
    }
    assert_eq!(broker.deliver(0, "f"), Delivered::Dropped(DropReason::QueueFull));
}

#[test]
fn qos_0_is_not_kept_for_a_client_that_is_away() {
    let mut broker = broker(10, usize::MAX, OnFull::DropNewest);
    assert_eq!(broker.deliver(0, "a"), Delivered::Dropped(DropReason::Offline));
    broker.connect(&v4(false));
    let filler = delivery("t", 0, &"x".repeat(300_000));
    assert_eq!(broker.deliver_this(filler), Delivered::Sent);
    assert_eq!(broker.deliver(0, "b"), Delivered::Queued);
    broker.cut();
    assert_eq!(broker.session.queued(), (0, 0));
}

#[test]
fn answers_are_never_dropped_for_a_full_queue() {
    // trap 18
    let mut broker = broker(1, usize::MAX, OnFull::DropNewest);
    broker.connect(&v4(false));
    let filler = delivery("t", 0, &"x".repeat(300_000));
    let _ = broker.deliver_this(filler);
    for _ in 0..5 {
        let _ = broker.deliver(0, "x");
    }
    assert!(broker.take("c0 00  32 06 00 01 74 00 0a 78").contains("d0 00 40 02 00 0a"));
}

fn shared(qos: u8, payload: &str) -> Delivery {
    Delivery { group: Some(Arc::from("$share/g/t")), ..delivery("t", qos, payload) }
}

#[test]
fn what_a_share_group_may_give_to_another_is_taken_in_order() {
    // MQTT-4.8.2-5, -6, trap 64
    let mut broker = Broker::new();
    broker.connect(&v5_kept(""));
    for (qos, payload) in [(1, "a"), (2, "b"), (1, "c")] {
        let _ = broker.deliver_this(shared(qos, payload));
    }
    let _ = broker.deliver(1, "mine");
    broker.sent();
    broker.cut();
    let _ = broker.deliver_this(shared(2, "d"));
    let _ = broker.deliver_this(shared(1, "e"));
    let _ = broker.deliver(1, "mine too");
    let taken = broker.session.take_shared(None);
    let payloads: Vec<_> = taken.iter().map(|delivery| String::from_utf8_lossy(&delivery.message.payload)).collect();
    assert_eq!(payloads, ["a", "c", "d", "e"], "QoS 2 that has begun stays with its member");
    assert_eq!(outline(&broker.connect(&v5_kept(""))), ["20", "3c 2", "3a 4", "32 5"]);
}

#[test]
fn leaving_a_group_gives_up_what_waits_and_not_what_is_in_flight() {
    let mut broker = Broker::with(Terms { max_inflight_v5: 1, ..Terms::default() });
    broker.connect(&v5_kept(""));
    for payload in ["a", "b"] {
        let _ = broker.deliver_this(shared(1, payload));
    }
    let other = Delivery { group: Some(Arc::from("$share/h/t")), ..delivery("t", 1, "c") };
    let _ = broker.deliver_this(other);
    broker.sent();
    let taken = broker.session.take_shared(Some("$share/g/t"));
    assert_eq!(taken.len(), 1);
    assert_eq!(broker.session.inflight(), 1);
    assert_eq!(broker.session.queued().0, 1);
}
