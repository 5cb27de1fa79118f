//! An edge whose link is down: what waits survives its death, drains in order and no faster than it may, and what does not
//! fit is counted by its reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, Client, Hello, Mosquitto, Proxy, Tally, eventually, publish_numbers};

/// An edge with a bridge that carries `up/#` out; `queue` is the text of its queue.
fn edge(link: &Proxy, queue: &str) -> Broker {
    Broker::start(&format!(
        "[[bridge]]\nname = \"up\"\nurl = \"mqtt://{}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         [bridge.queue]\n{queue}\n\
         [[bridge.topic]]\nfilter = \"up/#\"\ndirection = \"out\"\nqos = 1\n",
        link.address()
    ))
}

fn subscriber(hub: &Broker) -> Client {
    let mut subscriber = Hello::v5("subscriber").connect(hub.address());
    subscriber.subscribe("up/#", QoS::AtLeastOnce);
    subscriber
}

#[track_caller]
fn publish(edge: &Broker, topic: &str, count: u32) {
    publish_numbers(edge.address(), topic, QoS::AtLeastOnce, count).join().unwrap();
}

fn queued(edge: &Broker) -> f64 {
    edge.metric("viaduct_bridge_queued_messages", &[("bridge", "up")])
}

fn dropped(edge: &Broker, reason: &str) -> f64 {
    edge.metric("viaduct_bridge_messages_dropped_total", &[("bridge", "up"), ("reason", reason)])
}

#[test]
fn an_edge_that_is_killed_while_its_link_is_down_drains_in_order_afterwards() {
    const BEFORE: u32 = 3_000;
    const AFTER: u32 = 500;
    let hub = Broker::start("");
    let mut subscriber = subscriber(&hub);
    let link = Proxy::to(hub.address());
    link.refuse();
    let mut edge = edge(&link, "max_messages = 10000");
    publish(&edge, "up/1", BEFORE);
    edge.kill();
    edge.start_again();
    publish(&edge, "up/2", AFTER);
    edge.wait_for_metric("viaduct_bridge_queued_messages", &[("bridge", "up")], |left| {
        left == f64::from(BEFORE + AFTER)
    });
    link.restore();
    let (mut before, mut after) = (Tally::default(), Tally::default());
    while after.distinct() < AFTER as usize {
        let message = subscriber.message();
        if message.topic == "up/1" { &mut before } else { &mut after }.take(&message);
        assert!(after.distinct() == 0 || before.distinct() == BEFORE as usize, "what came later overtakes");
    }
    before.assert_exact("before the edge was killed", BEFORE);
    after.assert_exact("after it was killed", AFTER);
    eventually("an empty queue", || queued(&edge) == 0.0);
    assert_eq!(edge.metric("viaduct_bridge_messages_dropped_total", &[("bridge", "up")]), 0.0);
}

#[test]
fn a_backlog_for_mosquitto_drains_no_faster_than_it_may() {
    const COUNT: u32 = 1_000;
    const RATE: u32 = 400;
    let Some(hub) = Mosquitto::start("max_queued_messages 0\nset_tcp_nodelay true\n") else { return };
    let mut subscriber = Hello::v5("subscriber").connect(hub.address());
    subscriber.subscribe("up/#", QoS::AtMostOnce);
    let link = Proxy::to(hub.address());
    link.refuse();
    let edge = edge(&link, &format!("drain_rate = {RATE}"));
    publish(&edge, "up/1", COUNT);
    link.restore();
    let mut tally = Tally::default();
    tally.take(&subscriber.message());
    let began = Instant::now();
    while tally.distinct() < COUNT as usize {
        tally.take(&subscriber.message());
    }
    tally.assert_exact("the backlog", COUNT);
    // A tenth of a second's worth may go at once, and the first had gone when the clock was started.
    let least = Duration::from_secs_f64(f64::from(COUNT) / f64::from(RATE) - 0.1 - 0.1);
    assert!(began.elapsed() >= least, "{COUNT} messages in {:?} at {RATE} a second", began.elapsed());
}

#[test]
fn what_does_not_fit_is_counted_for_its_bridge_and_the_youngest_are_kept() {
    const COUNT: u32 = 200;
    const FITS: u32 = 50;
    /// With the bridge already, which takes as much as may be unacknowledged.
    const WINDOW: u32 = 20;
    let hub = Broker::start("");
    let mut subscriber = subscriber(&hub);
    let link = Proxy::to(hub.address());
    link.refuse();
    let edge = edge(&link, &format!("max_messages = {FITS}\non_full = \"drop_oldest\""));
    publish(&edge, "up/1", COUNT);
    let lost = f64::from(COUNT - FITS - WINDOW);
    eventually("the drops are counted", || dropped(&edge, "queue_full") == lost);
    assert_eq!(edge.metric("viaduct_bridge_messages_dropped_total", &[("bridge", "up")]), lost, "for no other reason");
    link.restore();
    let numbers: Vec<u32> =
        subscriber.messages((FITS + WINDOW) as usize).iter().map(|message| message.text().parse().unwrap()).collect();
    let kept: Vec<u32> = (0..WINDOW).chain(COUNT - FITS..COUNT).collect();
    assert_eq!(numbers, kept);
}

#[test]
fn what_waits_too_long_is_counted_for_its_bridge_as_that() {
    let hub = Broker::start("");
    let mut subscriber = subscriber(&hub);
    let link = Proxy::to(hub.address());
    link.refuse();
    let edge = edge(&link, "max_age = \"1s\"");
    publish(&edge, "up/old", 100);
    let since = Instant::now();
    eventually("they are too old", || since.elapsed() > Duration::from_millis(1_100));
    publish(&edge, "up/new", 1);
    link.restore();
    assert_eq!(subscriber.message().topic, "up/new");
    eventually("the drops are counted", || dropped(&edge, "max_age") == 100.0);
    assert_eq!(edge.metric("viaduct_bridge_messages_dropped_total", &[("bridge", "up")]), 100.0, "for no other reason");
}
