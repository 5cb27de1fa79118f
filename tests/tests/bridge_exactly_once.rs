//! A QoS 2 message that crosses a bridge arrives once, whichever of the two brokers ends in between, and however often: numbered
//! streams of QoS 1 and 2 with a full window, and troubles in the middle of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use viaduct_tests::codec::{
    Packet, PacketId, PacketType, Publish, PublishProperties, QoS, ReasonCode, TopicRef, Version,
};
use viaduct_tests::{
    Broker, Client, DEADLINE, Event, Hello, Mosquitto, Outgoing, Proxy, Signal, Tally, api, eventually,
};

/// Messages of each QoS in a stream.
const COUNT: u32 = 1_000;
/// The same where the remote is a mosquitto, which is given less at a time.
const MOSQUITTO_COUNT: u32 = 400;
/// Unacknowledged messages of a publisher: more than the bridge has open at a time, so that its window is full.
const WINDOW: usize = 60;
/// The same of one whose broker is a mosquitto.
const MOSQUITTO_WINDOW: usize = 10;
/// Messages that a publisher may be ahead of what has arrived of every stream: something waits for the bridge, and something new comes still.
const LEAD: u32 = 150;
/// A run of messages of one QoS is no longer.
const RUN: u64 = 12;
/// How long what may be there is waited for before somebody else has their turn.
const TURN: Duration = Duration::from_millis(1);

/// What happens in the middle of the streams, to the broker with the bridge (here), to its remote (there), or between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    KillHere,
    KillThere,
    /// At the same moment.
    KillBoth,
    /// SIGTERM.
    StopHere,
    /// SIGTERM.
    StopThere,
    /// Other settings of the bridge, at run time.
    Change,
    /// The connections break, and nothing else.
    Cut,
}

/// The remote of the bridge.
enum Remote {
    Viaduct(Broker),
    Mosquitto(Mosquitto),
}

impl Remote {
    fn address(&self) -> SocketAddr {
        match self {
            Self::Viaduct(broker) => broker.address(),
            Self::Mosquitto(broker) => broker.address(),
        }
    }

    /// Unacknowledged messages of a publisher there, and messages of each QoS.
    const fn measure(&self) -> (usize, u32) {
        match self {
            Self::Viaduct(_) => (WINDOW, COUNT),
            Self::Mosquitto(_) => (MOSQUITTO_WINDOW, MOSQUITTO_COUNT),
        }
    }

    fn start_again(&mut self) {
        match self {
            Self::Viaduct(broker) => broker.start_again(),
            Self::Mosquitto(broker) => broker.start_again(),
        }
    }
}

/// Chance from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A message between PUBLISH and its last acknowledgement.
struct Flight {
    id: u16,
    qos: QoS,
    number: u32,
    /// PUBREC came: PUBREL is what is sent again.
    is_released: bool,
    /// PUBREL was sent again: a broker that has had it says that it knows of no such message (section 3.7.2.1).
    may_be_unknown: bool,
}

/// A publisher that goes on after each reconnect where the standard wants it: same packet identifiers, DUP, PUBREL where PUBREC
/// came. What it publishes is at its broker exactly once at QoS 2.
struct Publisher {
    client: Client,
    prefix: &'static str,
    window: usize,
    flights: VecDeque<Flight>,
    /// Messages of QoS 1 and of QoS 2 that were sent.
    sent: [u32; 2],
    /// As many of each may be sent.
    limit: u32,
    run: (QoS, u64),
}

impl Publisher {
    fn new(hello: &Hello, address: SocketAddr, prefix: &'static str, window: usize, limit: u32) -> Self {
        let client = hello.connect(address);
        Self { client, prefix, window, flights: VecDeque::new(), sent: [0; 2], limit, run: (QoS::AtLeastOnce, 0) }
    }

    fn sent(&mut self, qos: QoS) -> &mut u32 {
        &mut self.sent[usize::from(qos == QoS::ExactlyOnce)]
    }

    /// Sends what may be sent, each QoS in runs, and takes the answers.
    fn turn(&mut self, arrived: usize, chance: &mut Chance) {
        let ahead = |sent: [u32; 2]| (sent[0] + sent[1]) as usize >= arrived + LEAD as usize;
        while self.flights.len() < self.window && !ahead(self.sent) && self.sent != [self.limit; 2] {
            let limit = self.limit;
            if self.run.1 == 0 || *self.sent(self.run.0) == limit {
                let other = if self.run.0 == QoS::ExactlyOnce { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                self.run = (other, 1 + chance.below(RUN));
                continue;
            }
            let qos = self.run.0;
            self.run.1 -= 1;
            let number = *self.sent(qos);
            *self.sent(qos) += 1;
            // The lowest that is free, so that one which somebody has not forgotten is found out.
            let id = (1..).find(|id| self.flights.iter().all(|flight| flight.id != *id)).unwrap();
            self.flights.push_back(Flight { id, qos, number, is_released: false, may_be_unknown: false });
            send(&mut self.client, self.prefix, self.flights.back().unwrap(), false);
        }
        while let Some(event) = self.client.event_within(TURN) {
            if event == Event::Closed {
                return;
            }
            self.answer(&event);
        }
    }

    fn answer(&mut self, event: &Event) {
        let Event::Ack { kind, id, reason, .. } = event else { return };
        let at = self.flights.iter().position(|flight| flight.id == *id);
        let at = at.unwrap_or_else(|| panic!("{kind} of {id}, which nobody sent"));
        let is_done = *reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND && self.flights[at].may_be_unknown;
        assert!(!reason.is_error() || (is_done && *kind == PacketType::Pubcomp), "{kind} of {id}: {reason}");
        if *kind == PacketType::Pubrec {
            self.flights[at].is_released = true;
            self.client.send_ack(PacketType::Pubrel, *id, ReasonCode::SUCCESS);
        } else {
            self.flights.remove(at);
        }
    }

    /// Its broker is gone: what it had still said counts.
    fn hear_the_last(&mut self) {
        while let Some(event) = self.client.event_within(DEADLINE) {
            if event == Event::Closed {
                return;
            }
            self.answer(&event);
        }
        panic!("the connection of a publisher does not end");
    }

    fn come_back(mut self, address: SocketAddr) -> Self {
        let mut client = self.client.reconnect(address);
        assert!(client.welcome.session_present, "the session of a publisher is gone");
        for flight in &mut self.flights {
            if flight.is_released {
                flight.may_be_unknown = true;
                client.send_ack(PacketType::Pubrel, flight.id, ReasonCode::SUCCESS);
            } else {
                send(&mut client, self.prefix, flight, true);
            }
        }
        Self { client, ..self }
    }
}

fn send(client: &mut Client, prefix: &str, flight: &Flight, dup: bool) {
    let topic = format!("{prefix}/{}", flight.qos.bits());
    client.send(&Packet::Publish(Publish {
        dup,
        qos: flight.qos,
        retain: false,
        topic: Some(TopicRef::new(&topic).unwrap()),
        packet_id: PacketId::new(flight.id),
        properties: PublishProperties::default(),
        payload: flight.number.to_string().as_bytes(),
    }));
}

/// What is published at one broker and heard at the other.
struct Stream {
    prefix: &'static str,
    /// The publisher is at the broker with the bridge, the subscriber at its remote; or the other way round.
    is_outward: bool,
    /// Messages of each QoS.
    count: u32,
    /// `None` while they are between two connections.
    publisher: Option<Publisher>,
    subscriber: Option<Client>,
    /// QoS 1 and QoS 2.
    heard: [Tally; 2],
}

impl Stream {
    fn new(is_outward: bool, version: Version, here: &Broker, there: &Remote) -> Self {
        let (window, count) = there.measure();
        let (here, there) = (here.address(), there.address());
        let (prefix, from, to, window) =
            if is_outward { ("out", here, there, WINDOW) } else { ("in", there, here, window) };
        let hello = |name: &str| Hello::of(version, &format!("{name} {prefix}")).persistent();
        let mut subscriber = hello("subscriber").connect(to);
        subscriber.subscribe(&format!("{prefix}/#"), QoS::ExactlyOnce);
        let mut first = Hello::of(version, "first").connect(from);
        eventually("the bridge carries", || {
            first.publish_message(&Outgoing::new(&format!("{prefix}/first"), "").qos(QoS::AtLeastOnce));
            subscriber.message_within(Duration::from_millis(20)).is_some()
        });
        let publisher = Some(Publisher::new(&hello("publisher"), from, prefix, window, count - 1));
        Self { prefix, is_outward, count, publisher, subscriber: Some(subscriber), heard: Default::default() }
    }

    fn arrived(&self) -> usize {
        self.heard.iter().map(Tally::distinct).sum()
    }

    fn is_whole(&self) -> bool {
        let is_idle = |publisher: &Publisher| publisher.flights.is_empty();
        self.arrived() == 2 * self.count as usize && self.publisher.as_ref().is_some_and(is_idle)
    }

    /// `arrived` have come of every stream.
    fn turn(&mut self, arrived: usize, chance: &mut Chance) {
        if let Some(publisher) = &mut self.publisher {
            publisher.turn(arrived, chance);
        }
        self.hear(TURN);
    }

    /// Everything that comes, until nothing has for `patience` or the connection has ended.
    fn hear(&mut self, patience: Duration) {
        let Some(subscriber) = &mut self.subscriber else { return };
        while let Some(message) = subscriber.message_within(patience) {
            match message.topic.strip_prefix(self.prefix) {
                Some("/1") => self.heard[0].take(&message),
                Some("/2") => self.heard[1].take(&message),
                Some("/first") => {}
                _ => panic!("nobody asked for {message:?}"),
            }
        }
    }

    /// The broker here is gone, or the one there: whoever was connected to it hears the last of it.
    fn lose(&mut self, is_here: bool) {
        if self.is_outward == is_here {
            self.publisher.as_mut().unwrap().hear_the_last();
        } else {
            self.hear(DEADLINE);
        }
    }

    /// It is back.
    fn find(&mut self, is_here: bool, address: SocketAddr) {
        if self.is_outward == is_here {
            self.publisher = self.publisher.take().map(|publisher| publisher.come_back(address));
        } else {
            let subscriber = self.subscriber.take().unwrap().reconnect(address);
            assert!(subscriber.welcome.session_present, "the session of a subscriber is gone");
            self.subscriber = Some(subscriber);
        }
    }
}

/// A broker with a bridge, its remote, and streams each way.
struct Trial {
    here: Broker,
    there: Remote,
    link: Proxy,
    streams: Vec<Stream>,
    chance: Chance,
    changes: u32,
}

impl Trial {
    fn new(there: Remote, version: Version, links: u8, outward: &[bool], seed: u64) -> Self {
        let link = Proxy::to(there.address());
        let level = if version == Version::V5 { 5 } else { 4 };
        // One that takes more at a time would rarely be found with a full window.
        let more = if matches!(there, Remote::Mosquitto(_)) { "max_inflight = 20\n" } else { "" };
        let here = Broker::start(&format!(
            "[session]\nmax_queued_messages = 100000\n\
             [[bridge]]\nname = \"b\"\nurl = \"mqtt://{}\"\nprotocol_version = {level}\nlinks = {links}\n\
             reconnect_min = \"20ms\"\nreconnect_max = \"100ms\"\n{more}\
             [[bridge.topic]]\nfilter = \"out/#\"\nqos = 2\n\
             [[bridge.topic]]\nfilter = \"in/#\"\ndirection = \"in\"\nqos = 2\n",
            link.address()
        ));
        let streams = outward.iter().map(|way| Stream::new(*way, version, &here, &there)).collect();
        Self { here, there, link, streams, chance: Chance(seed), changes: 0 }
    }

    fn arrived(&self) -> usize {
        self.streams.iter().map(Stream::arrived).sum()
    }

    fn turn(&mut self) {
        let arrived = self.streams.iter().map(Stream::arrived).min().unwrap();
        self.streams.iter_mut().for_each(|stream| stream.turn(arrived, &mut self.chance));
    }

    /// Turns until `enough`; `false` when nothing has arrived for so long that nothing more will.
    fn turn_until(&mut self, enough: impl Fn(&Self) -> bool) -> bool {
        let (mut last, mut arrived) = (Instant::now(), self.arrived());
        while !enough(self) {
            if last.elapsed() > DEADLINE {
                return false;
            }
            self.turn();
            if self.arrived() > arrived {
                (last, arrived) = (Instant::now(), self.arrived());
            }
        }
        true
    }

    /// `times` troubles, and everything that is published is heard once.
    fn run(mut self, trouble: Trouble, times: usize) {
        let count = self.streams[0].count;
        // What comes once more comes before what is published when the last trouble is over.
        let is_over = self.trouble(trouble, times) && {
            self.streams.iter_mut().for_each(|stream| stream.publisher.as_mut().unwrap().limit = count);
            self.turn_until(|trial| trial.streams.iter().all(Stream::is_whole))
        };
        for stream in &mut self.streams {
            stream.subscriber.as_mut().unwrap().ping();
            stream.hear(TURN);
        }
        let figures: Vec<String> = self
            .streams
            .iter()
            .flat_map(|stream| {
                stream.heard.iter().enumerate().map(|(qos, heard)| {
                    let lost = count as usize - heard.distinct();
                    format!("{} QoS {}: {lost} lost, {} twice", stream.prefix, qos + 1, heard.repeated())
                })
            })
            .collect();
        println!("{trouble:?}: {}", figures.join("; "));
        // Behind the bridge mosquitto delivers from what it has saved at its end, and now and then publishes once more what it has sent
        // PUBREL for.
        let is_mosquitto_stopped = trouble == Trouble::StopThere && matches!(self.there, Remote::Mosquitto(_));
        for stream in &self.streams {
            stream.heard[0].assert_whole(&format!("{} at QoS 1, {trouble:?}", stream.prefix), count);
            let exact = format!("{} at QoS 2, {trouble:?}", stream.prefix);
            if is_mosquitto_stopped && stream.prefix == "out" {
                stream.heard[1].assert_whole(&exact, count);
            } else {
                stream.heard[1].assert_exact(&exact, count);
            }
        }
        assert!(is_over, "a publisher is not told that everything has been taken");
    }

    /// `times` troubles, each after some more messages than the one before; `false` when nothing arrives any more.
    fn trouble(&mut self, trouble: Trouble, times: usize) -> bool {
        let total = self.streams.len() * 2 * self.streams[0].count as usize;
        let step = total / (times + 1);
        for time in 0..times {
            let enough = time * step + step / 2 + usize::try_from(self.chance.below(step as u64 / 2)).unwrap();
            if !self.turn_until(|trial| trial.arrived() >= enough) {
                return false;
            }
            self.befall(trouble);
            // Now and then the next one comes before anything has been mended.
            if self.chance.below(3) == 0 {
                self.befall(trouble);
            }
        }
        true
    }

    fn befall(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::KillHere => {
                self.here.kill();
                self.restart(true, false);
            }
            Trouble::StopHere => {
                assert_eq!(self.here.stop(), Some(0));
                self.restart(true, false);
            }
            Trouble::KillThere => {
                let Remote::Viaduct(there) = &mut self.there else { panic!("nothing of it would be left") };
                there.kill();
                self.restart(false, true);
            }
            Trouble::StopThere => {
                match &mut self.there {
                    Remote::Viaduct(there) => assert_eq!(there.stop(), Some(0)),
                    Remote::Mosquitto(there) => there.stop(),
                }
                self.restart(false, true);
            }
            Trouble::KillBoth => {
                let Remote::Viaduct(there) = &mut self.there else { panic!("nothing of it would be left") };
                self.here.signal(Signal::Kill);
                there.signal(Signal::Kill);
                self.here.exit_code();
                there.exit_code();
                self.restart(true, true);
            }
            Trouble::Change => self.change(),
            Trouble::Cut => self.link.cut(),
        }
    }

    /// Those that have ended are started again, while the others go on; in either order.
    fn restart(&mut self, is_here: bool, is_there: bool) {
        let mut gone: Vec<bool> =
            [true, false].into_iter().filter(|here| if *here { is_here } else { is_there }).collect();
        for side in &gone {
            self.streams.iter_mut().for_each(|stream| stream.lose(*side));
        }
        if self.chance.below(2) == 0 {
            gone.reverse();
        }
        for _ in 0..self.chance.below(4) {
            self.turn();
        }
        for side in gone {
            let address = if side { self.here.address() } else { self.there.address() };
            if side {
                self.here.start_again()
            } else {
                self.there.start_again()
            }
            self.streams.iter_mut().for_each(|stream| stream.find(side, address));
        }
    }

    /// The bridge gets another keep alive or another window, or is stopped and started.
    fn change(&mut self) {
        self.changes += 1;
        let say = |path: &str, body| api::ok(&self.here, "POST", &format!("/bridges/b{path}"), body);
        match self.changes % 3 {
            0 => {
                say("/stop", None);
                say("/start", None);
            }
            1 => drop(say("", Some(&json!({"keepalive": format!("{}s", 30 + self.changes)})))),
            _ => drop(say("", Some(&json!({"max_inflight": 5 + 10 * (self.changes % 4)})))),
        }
    }
}

const OUT: [bool; 1] = [true];
const IN: [bool; 1] = [false];
const BOTH: [bool; 2] = [true, false];
const LEVELS: [Version; 2] = [Version::V311, Version::V5];

fn viaduct() -> Remote {
    Remote::Viaduct(Broker::start("[session]\nmax_queued_messages = 100000\n"))
}

/// At each level.
fn once(trouble: Trouble, outward: &[bool], times: usize) {
    for (version, seed) in LEVELS.into_iter().zip(1..) {
        Trial::new(viaduct(), version, 1, outward, seed).run(trouble, times);
    }
}

/// At each level, with a mosquitto that keeps what it has when it is stopped.
fn once_with_mosquitto(trouble: Trouble, outward: &[bool], times: usize) {
    for (version, seed) in LEVELS.into_iter().zip(1..) {
        // What mosquitto queues because a window is full is overtaken by what comes when it has room again, so there is always room. With 0,
        // which is no limit, it publishes again after a restart whatever it has sent PUBREL for.
        let config = "max_inflight_messages 1000\nmax_queued_messages 0\nset_tcp_nodelay true\n\
                      persistence true\npersistence_location @dir@/\n";
        let Some(mosquitto) = Mosquitto::start(config) else { return };
        Trial::new(Remote::Mosquitto(mosquitto), version, 1, outward, seed).run(trouble, times);
    }
}

#[test]
fn what_goes_out_arrives_once_when_the_broker_with_the_bridge_is_killed() {
    once(Trouble::KillHere, &OUT, 8);
}

#[test]
fn what_comes_in_arrives_once_when_the_broker_with_the_bridge_is_killed() {
    once(Trouble::KillHere, &IN, 10);
}

#[test]
fn what_goes_both_ways_arrives_once_when_the_broker_with_the_bridge_is_stopped() {
    once(Trouble::StopHere, &BOTH, 6);
}

#[test]
fn what_goes_both_ways_arrives_once_when_the_remote_is_killed() {
    once(Trouble::KillThere, &BOTH, 6);
}

#[test]
fn what_goes_both_ways_arrives_once_when_both_brokers_are_killed_at_the_same_moment() {
    once(Trouble::KillBoth, &BOTH, 6);
}

#[test]
fn what_goes_both_ways_arrives_once_when_the_bridge_is_changed_at_run_time() {
    once(Trouble::Change, &BOTH, 9);
}

#[test]
fn what_goes_both_ways_arrives_once_when_the_link_is_cut() {
    once(Trouble::Cut, &BOTH, 12);
}

#[test]
fn what_goes_over_several_links_arrives_once_when_the_broker_with_the_bridge_is_killed() {
    Trial::new(viaduct(), Version::V5, 2, &BOTH, 3).run(Trouble::KillHere, 6);
}

#[test]
fn what_goes_out_to_mosquitto_arrives_once_when_the_broker_with_the_bridge_is_killed() {
    once_with_mosquitto(Trouble::KillHere, &OUT, 20);
}

#[test]
fn what_comes_in_from_mosquitto_arrives_once_when_the_broker_with_the_bridge_is_killed() {
    once_with_mosquitto(Trouble::KillHere, &IN, 20);
}

#[test]
fn what_goes_both_ways_with_mosquitto_arrives_when_mosquitto_is_stopped() {
    once_with_mosquitto(Trouble::StopThere, &BOTH, 6);
}
