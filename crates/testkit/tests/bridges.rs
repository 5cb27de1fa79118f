//! Bridges over minutes, hours and a day of virtual time: who notices what, what waits, what is given up, how it drains.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use viaduct_bridge::{Address, Direction, Drop, Duty, Protocol, RemoteLimits, Settings, Topic};
use viaduct_codec::{Packet, PacketId, Publish, PublishProperties, QoS, Slice, Time, TopicRef, Version};
use viaduct_engine::Dropped;
use viaduct_session::{OnFull, QueueLimits, server::Terms};
use viaduct_testkit::{Client, Got, Link, Spans, World, connect, subscribe};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const RECONNECT_MAX: Duration = MINUTE;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WINDOW: u16 = 20;

/// Bridge `number` of a hub: `out/<number>/#` out, `in/<number>/#` in.
fn settings(number: usize) -> Settings {
    let topic = |way: &str, direction| Topic {
        filter: format!("{way}/{number}/#"),
        direction,
        qos: QoS::AtLeastOnce,
        retain: true,
        local_prefix: String::new(),
        remote_prefix: String::new(),
        allow_loop: false,
    };
    Settings {
        name: format!("b{number}"),
        node: "hub".into(),
        addresses: vec![Address { host: format!("edge-{number}"), port: 1883, tls: false, websocket: None }],
        protocol: Protocol::Auto,
        try_private: true,
        client_id: format!("hub-{number}"),
        username: None,
        password: None,
        keep_alive: 60,
        clean_session: false,
        session_expiry: u32::MAX,
        connect_timeout: CONNECT_TIMEOUT,
        reconnect_min: SECOND,
        reconnect_max: RECONNECT_MAX,
        failback: None,
        max_age: None,
        drain_rate: None,
        max_inflight: WINDOW,
        max_packet_size: 1 << 20,
        topic_alias_maximum: 10,
        remote: RemoteLimits::default(),
        slice: Slice::ALL,
        duty: Duty::Serve,
        topics: vec![topic("out", Direction::Out), topic("in", Direction::In)],
        previous: Vec::new(),
        notifications: None,
        notify_remote: true,
    }
}

/// A broker whose sessions have these queues.
fn broker(max_messages: usize, max_age: Option<Duration>) -> World {
    let mut world = World::new(2);
    let queue = QueueLimits { max_messages, max_bytes: 1 << 30, max_age, on_full: OnFull::DropOldest };
    world.terms = Arc::new(Terms { queue: Arc::new(queue), ..Terms::default() });
    world
}

/// A client that is connected.
fn client(world: &mut World, id: &str) -> Client {
    world.connect(&Packet::Connect(Box::new(connect(Version::V5, id))))
}

/// A client that hears `filter` at QoS 0, so that it hears what comes and acknowledges nothing.
fn listener(world: &mut World, filter: &str) -> Client {
    let mut client = client(world, "listener");
    world.send(&mut client, &[subscribe(filter, QoS::AtMostOnce)]);
    client.got();
    client
}

/// Publishes a number at QoS 1, and sees it acknowledged.
fn publish(world: &mut World, client: &mut Client, topic: &str, number: u64) {
    let payload = number.to_string().into_bytes();
    let packet_id = PacketId::new(1);
    let topic = TopicRef::new(topic).ok();
    let (qos, properties) = (QoS::AtLeastOnce, PublishProperties::default());
    let message = Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: &payload };
    world.send(client, &[Packet::Publish(message)]);
    let acknowledged = |got: &Got| matches!(got, Got::Ack(4, 1, reason) if !reason.is_error());
    assert!(client.got().iter().any(acknowledged), "message {number} is not acknowledged");
}

/// The numbers that a listener heard since it was last asked.
fn heard(world: &mut World, listener: &mut Client) -> Vec<u64> {
    world.take(listener);
    listener.messages().into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap().parse().unwrap()).collect()
}

/// The numbers, each once, in the order of their first arrival; and how many came again.
fn first(numbers: &[u64]) -> (Vec<u64>, usize) {
    let mut seen = std::collections::HashSet::new();
    let first: Vec<u64> = numbers.iter().copied().filter(|number| seen.insert(*number)).collect();
    let again = numbers.len() - first.len();
    (first, again)
}

// ---- the hub ----

const EDGES: usize = 37;
const AWAY: usize = 7;

#[test]
fn an_edge_of_37_that_is_away_for_twenty_minutes_is_noticed_by_its_own_bridge_alone() {
    let mut spans = Spans::new(broker(1_000_000, None), (0..EDGES).map(settings).collect());
    let mut at_hub = client(&mut spans.hub, "publisher");
    let mut inward = listener(&mut spans.hub, "in/#");
    let mut edges: Vec<(Client, Client)> = Vec::new();
    for number in 0..EDGES {
        let remote = spans.remote(number);
        edges.push((client(remote, "publisher"), listener(remote, "out/#")));
    }
    let mut out: Vec<Vec<u64>> = vec![Vec::new(); EDGES];
    let mut back: Option<Time> = None;
    let mut healed = None;
    let mut from_edges = 0;
    // Five minutes of peace, twenty without the edge, and what it takes until all is carried.
    // A message every five seconds.
    for round in 0..30 * 12_u64 {
        if round == 5 * 12 {
            spans.set(AWAY, Link::Silent);
        }
        if round == 25 * 12 {
            healed = Some(spans.hub.now());
            spans.set(AWAY, Link::Up);
        }
        for (number, (publisher, _)) in edges.iter_mut().enumerate() {
            publish(&mut spans.hub, &mut at_hub, &format!("out/{number}/x"), round);
            publish(spans.remote(number), publisher, &format!("in/{number}/x"), round);
        }
        spans.settle();
        for (number, (_, listener)) in edges.iter_mut().enumerate() {
            let came = heard(spans.remote(number), listener);
            if number != AWAY {
                assert_eq!(came, [round], "bridge b{number} carries at once, whatever another one does");
            } else if healed.is_some() && !came.is_empty() {
                back.get_or_insert(spans.hub.now());
            }
            out[number].extend(came);
        }
        from_edges += heard(&mut spans.hub, &mut inward).len();
        if (5 * 12..25 * 12).contains(&round) {
            let owed = usize::try_from(round + 1).unwrap() * (EDGES - 1) + 5 * 12;
            assert_eq!(from_edges, owed, "what comes in from the others comes at once as well");
        }
        spans.pass(5 * SECOND);
    }
    let took = back.expect("it comes back").since(healed.unwrap());
    assert!(took <= RECONNECT_MAX + CONNECT_TIMEOUT + 5 * SECOND, "back after {took:?}");
    let (carried, again) = first(&out[AWAY]);
    assert_eq!(carried, (0..30 * 12).collect::<Vec<u64>>(), "all of it, in order");
    assert!(again <= usize::from(WINDOW), "{again} came again");
    assert_eq!(from_edges, EDGES * 30 * 12);
    for number in 0..EDGES {
        let connects = spans.stats(number).connects;
        let ends: u64 = connects.values().sum();
        if number == AWAY {
            assert_eq!((connects["connected"], connects["keep_alive"]), (2, 1), "{connects:?}");
            // Twenty minutes of attempts that wait up to a minute: not a storm, and not given up.
            assert!((12..60).contains(&ends), "{connects:?}");
        } else {
            assert_eq!(ends, 1, "b{number} connected once, and nothing else happened to it: {connects:?}");
        }
    }
}

// ---- store and forward ----

/// A bridge whose link is down, with a message every ten seconds for a day. What came of it: the numbers that arrived once
/// the link was back, and what was dropped on the way by the queue and by the bridge.
fn day(max_messages: usize, max_age: Option<Duration>) -> (Vec<u64>, [u64; 13], Spans) {
    let settings = Settings { max_age, ..settings(0) };
    let mut spans = Spans::new(broker(max_messages, max_age), vec![settings]);
    let mut listener = listener(spans.remote(0), "out/#");
    let mut publisher = client(&mut spans.hub, "publisher");
    spans.set(0, Link::Refused);
    for number in 0..8_640 {
        publish(&mut spans.hub, &mut publisher, "out/0/x", number);
        spans.pass(10 * SECOND);
    }
    spans.set(0, Link::Up);
    spans.pass(RECONNECT_MAX + SECOND);
    let numbers = heard(spans.remote(0), &mut listener);
    let view = spans.hub.engine(0).client("$bridge/b0").or_else(|| spans.hub.engine(1).client("$bridge/b0")).unwrap();
    assert_eq!((view.queued_messages, view.inflight), (0, 0), "nothing is left");
    (numbers, view.dropped_for, spans)
}

#[test]
fn a_day_without_a_link_within_the_limits_loses_nothing() {
    let (numbers, dropped, mut spans) = day(10_000, None);
    assert_eq!(numbers, (0..8_640).collect::<Vec<u64>>());
    assert_eq!(dropped.iter().sum::<u64>() + spans.stats(0).dropped.iter().sum::<u64>(), 0);
    // Attempts never end and do not storm: about one a minute.
    let refused = spans.stats(0).connects["refused"];
    assert!((1_400..3_000).contains(&refused), "{refused} attempts in a day");
}

#[test]
fn a_day_without_a_link_beyond_the_limits_keeps_the_youngest_and_counts_the_others() {
    let (numbers, dropped, mut spans) = day(1_000, None);
    // A window is with the bridge already; of the others the queue gives up the oldest.
    let window = u64::from(WINDOW);
    let kept: Vec<u64> = (0..window).chain(8_640 - 1_000..8_640).collect();
    assert_eq!(numbers, kept);
    assert_eq!(dropped[Dropped::QueueFull as usize], 8_640 - 1_000 - window);
    assert_eq!(dropped.iter().sum::<u64>(), 8_640 - 1_000 - window, "and nothing for another reason");
    assert_eq!(spans.stats(0).dropped.iter().sum::<u64>(), 0);
}

#[test]
fn what_waits_longer_than_max_age_is_given_up_and_counted_as_that() {
    let (numbers, dropped, mut spans) = day(10_000, Some(2 * HOUR));
    let first = *numbers.first().unwrap();
    assert!((8_640 - 721..8_640 - 713).contains(&first), "two hours are 720 messages: {first}");
    assert_eq!(numbers, (first..8_640).collect::<Vec<u64>>());
    let by_bridge = spans.stats(0).dropped_for(Drop::TooOld);
    assert_eq!(by_bridge, u64::from(WINDOW), "those that the bridge held already");
    assert_eq!(dropped[Dropped::TooOld as usize] + by_bridge, first);
}

#[test]
fn a_backlog_drains_at_its_rate_in_order_and_what_is_new_waits_behind_it() {
    const RATE: u32 = 50;
    let settings = Settings { drain_rate: NonZeroU32::new(RATE), ..settings(0) };
    let mut spans = Spans::new(broker(10_000, None), vec![settings]);
    let mut listener = listener(spans.remote(0), "out/#");
    let mut publisher = client(&mut spans.hub, "publisher");
    spans.set(0, Link::Refused);
    for number in 0..2_000 {
        publish(&mut spans.hub, &mut publisher, "out/0/x", number);
    }
    spans.set(0, Link::Up);
    let mut numbers = heard(spans.remote(0), &mut listener);
    let mut seconds = 0;
    while numbers.len() < 2_100 {
        // Something new comes in the middle of it, twice a second.
        if seconds < 50 {
            for part in 0..2 {
                publish(&mut spans.hub, &mut publisher, "out/0/x", 2_000 + seconds * 2 + part);
            }
        }
        spans.pass(SECOND);
        let came = heard(spans.remote(0), &mut listener);
        // A tenth of a second's worth may go at once.
        assert!(came.len() <= (RATE + RATE / 10) as usize, "{} in one second", came.len());
        numbers.extend(came);
        seconds += 1;
        assert!(seconds < 120, "only {} came", numbers.len());
    }
    assert_eq!(numbers, (0..2_100).collect::<Vec<u64>>());
    assert!(seconds >= 2_100 / u64::from(RATE) - 1, "it took {seconds} s");
}
