//! The clients of hub and edges, and their messages: one thread, one poll over all sockets.
//!
//! In: who may be connected. Out: the account of every stream, and broken promises. Each bridge carries a stream out and a
//! stream in; each has a publisher that sends at a steady pace and a subscriber, both with sessions that last. Must never:
//! wait longer than it was told to, or make up for a pause by a burst.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use viaduct_codec::QoS;

use crate::client::{Client, Event, Link, Outgoing, Profile, ready};
use crate::judge::{Breach, Promise};
use crate::stream::Stream;

/// From one message of a stream to the next.
pub(crate) const PACE: Duration = Duration::from_millis(100);
/// Messages of one publisher that wait for their acknowledgement; beyond, it waits too. Fewer than any broker here takes.
const WINDOW: usize = 60;
/// How often a client that can't connect tries again.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes behind the number: a message of ordinary size.
const FILLER: &str = "................................................";

/// The hub's publisher and subscriber; those of the edges follow in pairs.
const HUB: usize = 2;

/// Which way a stream flows, seen from the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) client: Client,
    address: SocketAddr,
    filter: Option<String>,
    /// Whether it shall be connected.
    pub(crate) is_wanted: bool,
    /// It is connected, and subscribed if it is a subscriber.
    pub(crate) is_ready: bool,
    /// Its broker keeps its session whatever happens.
    is_safe: bool,
    next_try: Instant,
}

/// The latest arrival of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) number: usize,
    pub(crate) at: Instant,
    /// How long it was on its way.
    pub(crate) way: Duration,
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) people: Vec<Person>,
    streams: Vec<Stream>,
    latest: Vec<Option<Arrival>>,
    next_send: Vec<Instant>,
    pub(crate) is_sending: bool,
    pub(crate) breaches: Vec<Breach>,
    last_turn: Instant,
    /// The longest time from one turn to the next: no gap can be told from it.
    pub(crate) longest_turn: Duration,
}

impl Crowd {
    /// Clients of the hub and of `edges`, each with whether it is a Viaduct, whose sessions survive its death.
    pub(crate) fn new(hub: SocketAddr, edges: &[(SocketAddr, bool)]) -> Self {
        let now = Instant::now();
        let person = |id: String, number: usize, address, filter: Option<&str>, is_safe| {
            let is_v5 = number.is_multiple_of(2);
            let profile = Profile { id, is_v5, is_persistent: true, receive_maximum: None, is_lazy: false };
            let filter = filter.map(str::to_owned);
            let client = Client::new(profile);
            Person { client, address, filter, is_wanted: true, is_ready: false, is_safe, next_try: now }
        };
        let mut people = vec![
            person("hub-publisher".to_owned(), 0, hub, None, true),
            person("hub-subscriber".to_owned(), 0, hub, Some("in/#"), true),
        ];
        for (number, &(address, is_safe)) in edges.iter().enumerate() {
            people.push(person(format!("publisher-{number}"), number / 2, address, None, is_safe));
            people.push(person(format!("subscriber-{number}"), number / 2, address, Some("out/#"), is_safe));
        }
        let streams = (0..edges.len()).flat_map(|edge| ["out", "in"].map(|way| Stream::new(format!("{way}/{edge}/x"))));
        let streams: Vec<Stream> = streams.collect();
        // Spread over the pace, so that the load is even.
        let count = u32::try_from(streams.len()).unwrap_or(1);
        let next_send = (0..count).map(|number| now + PACE * number / count).collect();
        let latest = vec![None; streams.len()];
        let (breaches, longest_turn) = (Vec::new(), Duration::ZERO);
        Self { people, streams, latest, next_send, is_sending: false, breaches, last_turn: now, longest_turn }
    }

    pub(crate) fn stream(&mut self, edge: usize, way: Way) -> Option<&mut Stream> {
        self.streams.get_mut(place(edge, way))
    }

    pub(crate) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    pub(crate) fn latest(&self, edge: usize, way: Way) -> Option<Arrival> {
        self.latest.get(place(edge, way)).copied().flatten()
    }

    /// From now on a gap of this edge's streams counts, or does not.
    pub(crate) fn excuse(&mut self, edge: usize, is_excused: bool) {
        for way in [Way::Out, Way::In] {
            if let Some(stream) = self.stream(edge, way) {
                stream.excuse(Instant::now(), is_excused);
            }
        }
    }

    /// Publisher and subscriber of an edge.
    pub(crate) fn of_edge(&mut self, edge: usize) -> impl Iterator<Item = &mut Person> {
        self.people.iter_mut().skip(HUB + 2 * edge).take(2)
    }

    /// Cuts the clients of an edge; they connect again at once or when they are wanted.
    pub(crate) fn cut(&mut self, edge: usize, is_wanted: bool) {
        for person in self.of_edge(edge) {
            person.client.cut();
            (person.is_ready, person.is_wanted) = (false, is_wanted);
        }
    }

    /// Everybody is connected and subscribed.
    pub(crate) fn is_ready(&self) -> bool {
        self.people.iter().all(|person| person.is_ready)
    }

    /// Messages that are not acknowledged, or that are acknowledged, owed, and have not arrived.
    pub(crate) fn owed(&self) -> usize {
        let open: usize = self.people.iter().map(|person| person.client.in_flight()).sum();
        open + self.streams.iter().map(|stream| stream.lost().count()).sum::<usize>()
    }

    /// Sends what is due, and waits up to `timeout` for something to happen.
    pub(crate) fn turn(&mut self, timeout: Duration) {
        let now = Instant::now();
        self.longest_turn = self.longest_turn.max(now.saturating_duration_since(self.last_turn));
        self.last_turn = now;
        self.connect(now);
        if self.is_sending {
            self.send(now);
        }
        for index in ready(self.people.iter().map(|person| &person.client), timeout) {
            let Some(person) = self.people.get_mut(index) else { continue };
            for event in person.client.turn() {
                self.take(index, event);
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        for person in self.people.iter_mut().filter(|person| person.is_wanted && person.client.link == Link::Off) {
            if now >= person.next_try {
                person.next_try = now + RETRY;
                // Nobody listens yet: the next try will tell.
                let _ = person.client.connect(person.address, false, None);
            }
        }
    }

    fn send(&mut self, now: Instant) {
        for (index, (stream, next)) in self.streams.iter_mut().zip(&mut self.next_send).enumerate() {
            if now < *next {
                continue;
            }
            *next = (*next + PACE).max(now);
            let publisher = if index.is_multiple_of(2) { 0 } else { HUB + index - 1 };
            let Some(person) = self.people.get_mut(publisher).filter(|person| person.is_ready) else { continue };
            if person.client.in_flight() < WINDOW {
                let number = stream.send(now);
                let payload = format!("{number} {FILLER}").into_bytes();
                let (topic, qos) = (stream.topic.clone(), QoS::AtLeastOnce);
                person.client.publish(Outgoing { number: tag(index, number), topic, payload, qos, retain: false });
            }
        }
    }

    fn take(&mut self, index: usize, event: Event) {
        let Some(person) = self.people.get_mut(index) else { return };
        let breach =
            |promise, what: String| Some(Breach::new(promise, format!("{}: {what}", person.client.profile.id)));
        let breach = match event {
            Event::Connected { present, expected } => {
                let was_lost = person.is_safe && expected == Some(true) && !present;
                let breach = if was_lost { breach(Promise::Session, "its session is gone".to_owned()) } else { None };
                match &person.filter {
                    Some(filter) => person.client.subscribe(&[(filter, QoS::AtLeastOnce)]),
                    None => person.is_ready = true,
                }
                breach
            }
            Event::Subscribed { reasons } if reasons == [1] => {
                person.is_ready = true;
                None
            }
            Event::Delivered { topic, payload, .. } => self.arrived(&topic, &payload),
            Event::Acknowledged { number } => {
                let (stream, number) = untag(number);
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.acknowledge(number);
                }
                None
            }
            Event::Closed => {
                person.is_ready = false;
                None
            }
            Event::Resent { .. } => None,
            other => breach(Promise::Protocol, format!("{other:?}")),
        };
        self.breaches.extend(breach);
    }

    fn arrived(&mut self, topic: &str, payload: &[u8]) -> Option<Breach> {
        let number = std::str::from_utf8(payload).ok().and_then(|text| text.split(' ').next()?.parse().ok());
        let stream = self.streams.iter().position(|stream| stream.topic == topic);
        let (Some(stream), Some(number)) = (stream, number) else {
            return Some(Breach::new(Promise::Unasked, format!("a message to {topic} that nobody sent")));
        };
        let at = Instant::now();
        let way = self.streams.get_mut(stream)?.arrive(at, number);
        *self.latest.get_mut(stream)? = Some(Arrival { number, at, way });
        None
    }
}

const fn place(edge: usize, way: Way) -> usize {
    2 * edge + if matches!(way, Way::In) { 1 } else { 0 }
}

const fn tag(stream: usize, number: usize) -> u64 {
    (stream as u64) << 40 | number as u64
}

const fn untag(tag: u64) -> (usize, usize) {
    ((tag >> 40) as usize, (tag & ((1 << 40) - 1)) as usize)
}
