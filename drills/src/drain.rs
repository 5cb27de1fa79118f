//! The drill of the long queue: what becomes of many QoS 1 messages that wait for a remote that is away.
//!
//! In: how many. Out: how long each part took, what the broker with the bridge needed for it, and every promise that was
//! broken. The remote is away; publishers fill the queue of the bridge; the broker is killed and started again; the remote
//! comes, and in the middle of the drain the broker is killed once more. Everything that was acknowledged has to arrive, of
//! each topic in order, and the memory that it takes must not be that of the messages.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use viaduct_codec::QoS;

use crate::arguments::Arguments;
use crate::client::{Client, Event, Link, MOMENT, Outgoing, Profile, ready};
use crate::judge::{Breach, Promise};
use crate::report::{Outcome, tell};
use crate::server::{Cost, Places, Server, free_ports};
use crate::solo::Solo;
use crate::stream::Stream;

/// Each has a topic of its own, so that order can be told.
const PUBLISHERS: usize = 8;
/// Unacknowledged messages of one publisher, and of the bridge.
const WINDOW: usize = 64;
const BRIDGE_WINDOW: usize = 500;
/// Bytes of a payload: were they kept in memory, it would show.
const PAYLOAD: usize = 256;
/// Memory that may be needed above that of the idle broker: for buffers, and for each message that waits.
const ROOM: u64 = 64 << 20;
const EACH: u64 = 64;
/// Nothing happens for so long: nothing more will.
const PATIENCE: Duration = Duration::from_secs(60);

/// Fills, kills, drains, compares.
///
/// # Errors
/// The drill can't go on.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> Result<Outcome, String> {
    println!(
        "{} messages of {PAYLOAD} bytes, sync = {:?}, in {}",
        arguments.messages,
        arguments.sync,
        folder.display()
    );
    let mut drain = Drain::new(arguments, folder)?;
    let result = drain.run();
    let breaches = drain.judge();
    tell(&breaches);
    println!("{}", drain.figures);
    result.map_err(|error| format!("{error}\n{}", drain.edge.last_words()))?;
    Ok(Outcome::of(breaches.is_empty()))
}

struct Drain {
    /// Has the bridge.
    edge: Server,
    hub: Server,
    streams: Vec<Stream>,
    /// Of each.
    count: usize,
    breaches: Vec<Breach>,
    figures: Figures,
}

impl Drain {
    fn new(arguments: &Arguments, folder: &Path) -> Result<Self, String> {
        let mut ports = free_ports();
        let places = |name: &str, more: String| Places::below(arguments, &folder.join(name), more);
        let hub = Server::on(places("hub", String::new()), &mut ports)?;
        let count = arguments.messages / PUBLISHERS;
        let bridge = format!(
            "\n[[bridge]]\nname = \"up\"\nurl = \"mqtt://{}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
             max_inflight = {BRIDGE_WINDOW}\n[bridge.queue]\nmax_messages = {}\nmax_bytes = \"16GiB\"\n\
             [[bridge.topic]]\nfilter = \"up/#\"\ndirection = \"out\"\nqos = 1\n",
            hub.address,
            arguments.messages + 1,
        );
        let edge = Server::on(places("edge", bridge), &mut ports)?;
        let streams = (0..PUBLISHERS).map(|number| Stream::new(format!("up/{number}"))).collect();
        Ok(Self { edge, hub, streams, count, breaches: Vec::new(), figures: Figures::default() })
    }

    /// # Errors
    /// The drill can't go on.
    fn run(&mut self) -> Result<(), String> {
        let mut subscriber = self.subscribe()?;
        self.edge.start()?;
        self.figures.idle = self.edge.cost()?;
        let began = Instant::now();
        self.fill()?;
        (self.figures.filling, self.figures.filled) = (began.elapsed(), self.edge.cost()?);
        let began = Instant::now();
        self.restart()?;
        (self.figures.starting, self.figures.started) = (began.elapsed(), self.edge.cost()?);
        let began = Instant::now();
        self.drain(&mut subscriber)?;
        self.figures.draining = began.elapsed();
        let end = self.edge.cost()?;
        self.figures.drained = Cost { peak: end.peak.max(self.figures.drained.peak), ..end };
        self.edge.stop()?;
        self.edge.check_store()?;
        self.hub.stop()
    }

    /// The remote gets a subscriber whose session is there when the bridge comes, and goes away.
    fn subscribe(&mut self) -> Result<Solo, String> {
        self.hub.start()?;
        let mut subscriber = Solo::connect(self.hub.address, "subscriber", true, true)?;
        subscriber.client.subscribe(&[("up/#", QoS::AtLeastOnce)]);
        let suback = |event: &Event| matches!(event, Event::Subscribed { reasons } if reasons == &[1]);
        subscriber.wait(PATIENCE, suback).ok_or("no SUBACK of the remote")?;
        subscriber.client.cut();
        self.hub.stop()?;
        Ok(subscriber)
    }

    /// SIGKILL, and whatever the start takes.
    fn restart(&mut self) -> Result<(), String> {
        if let Some(status) = self.edge.ended() {
            return Err(format!("the broker ended by itself with {status}"));
        }
        self.edge.kill();
        self.edge.start()
    }

    /// Every publisher sends its messages and gets its acknowledgements.
    fn fill(&mut self) -> Result<(), String> {
        let mut publishers = Vec::new();
        for number in 0..self.streams.len() {
            let id = format!("publisher-{number}");
            let profile = Profile { id, is_v5: true, is_persistent: true, receive_maximum: None, is_lazy: false };
            let mut client = Client::new(profile);
            client.connect(self.edge.address, false, None).map_err(|error| error.to_string())?;
            publishers.push(client);
        }
        let mut last = Instant::now();
        while self
            .streams
            .iter()
            .zip(&publishers)
            .any(|(stream, client)| stream.count() < self.count || client.in_flight() > 0)
        {
            for (client, stream) in publishers.iter_mut().zip(&mut self.streams) {
                for event in client.turn() {
                    last = Instant::now();
                    match event {
                        Event::Acknowledged { number } => {
                            stream.acknowledge(usize::try_from(number).unwrap_or_default())
                        }
                        Event::Connected { .. } => {}
                        other => return Err(format!("{}: {other:?}", client.profile.id)),
                    }
                }
                while client.link == Link::On && client.in_flight() < WINDOW && stream.count() < self.count {
                    let number = stream.send(Instant::now());
                    let payload = format!("{number:<PAYLOAD$}").into_bytes();
                    let (topic, qos) = (stream.topic.clone(), QoS::AtLeastOnce);
                    client.publish(Outgoing { number: number as u64, topic, payload, qos, retain: false });
                }
            }
            ready(&publishers, MOMENT);
            if last.elapsed() > PATIENCE {
                return Err("in vain: acknowledgements for everything".to_owned());
            }
        }
        Ok(())
    }

    /// The remote is back, and a subscriber of it hears everything; in the middle the broker is killed.
    fn drain(&mut self, subscriber: &mut Solo) -> Result<(), String> {
        self.hub.start()?;
        subscriber.reconnect(self.hub.address)?;
        let total = self.count * self.streams.len();
        let (mut last, mut arrived, mut is_whole) = (Instant::now(), 0, true);
        while arrived < total {
            for event in subscriber.events() {
                last = Instant::now();
                match event {
                    Event::Delivered { topic, payload, .. } => arrived += usize::from(self.arrive(&topic, &payload)),
                    other => return Err(format!("the subscriber: {other:?}")),
                }
            }
            if is_whole && arrived >= total / 2 {
                is_whole = false;
                self.figures.drained = self.edge.cost()?;
                self.restart()?;
            }
            subscriber.pause(MOMENT);
            if last.elapsed() > PATIENCE {
                return Ok(()); // the judge says what is missing
            }
        }
        // Repetitions would come behind the last one.
        subscriber.client.ping();
        let is_over = subscriber.wait(PATIENCE, |event| *event == Event::Pong).is_some();
        for event in subscriber.events() {
            if let Event::Delivered { topic, payload, .. } = event {
                self.arrive(&topic, &payload);
            }
        }
        if is_over { Ok(()) } else { Err("in vain: PINGRESP of the remote".to_owned()) }
    }

    /// Whether a message came for the first time.
    fn arrive(&mut self, topic: &str, payload: &[u8]) -> bool {
        let number = std::str::from_utf8(payload).ok().and_then(|text| text.trim_end().parse().ok());
        let stream = self.streams.iter_mut().find(|stream| stream.topic == topic);
        if let (Some(stream), Some(number)) = (stream, number) {
            let before = stream.doubled + stream.strange;
            stream.arrive(Instant::now(), number);
            return stream.doubled + stream.strange == before;
        }
        self.breaches.push(Breach::new(Promise::Unasked, format!("a message to {topic} that nobody sent")));
        false
    }

    fn judge(&mut self) -> Vec<Breach> {
        let mut breaches = std::mem::take(&mut self.breaches);
        for stream in &self.streams {
            let mut lost = stream.lost();
            if let Some(first) = lost.next() {
                let what = format!("{}: {} messages, {first} is the first", stream.topic, lost.count() + 1);
                breaches.push(Breach::new(Promise::Lost, what));
            }
            breaches.extend(stream.disorder());
            self.figures.acknowledged += stream.acknowledged();
            self.figures.doubled += stream.doubled;
        }
        // A broker that is killed has not been told of the last acknowledgements: one window of them, at most.
        if self.figures.doubled > BRIDGE_WINDOW as u64 {
            breaches.push(Breach::new(Promise::Doubled, format!("{} messages", self.figures.doubled)));
        }
        let (peak, allowed) = (self.figures.above_idle(), ROOM + EACH * self.figures.acknowledged as u64);
        if peak > allowed {
            breaches.push(Breach::new(Promise::Flat, format!("{peak} bytes above the idle broker, of {allowed}")));
        }
        breaches
    }
}

/// What was measured. The broker was killed twice, so each of three processes has a peak.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    idle: Cost,
    filled: Cost,
    started: Cost,
    drained: Cost,
    filling: Duration,
    starting: Duration,
    draining: Duration,
    acknowledged: usize,
    doubled: u64,
}

impl Figures {
    fn above_idle(&self) -> u64 {
        let peaks = [self.filled.peak, self.started.peak, self.drained.peak];
        peaks.into_iter().max().unwrap_or_default().saturating_sub(self.idle.memory)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        let rate = |time: Duration| self.acknowledged as f64 / time.as_secs_f64().max(0.001);
        writeln!(f, "| | took | messages a second | resident | at most |\n|---|---|---|---|---|")?;
        writeln!(f, "| idle | | | {} MiB | {} MiB |", mib(self.idle.memory), mib(self.idle.peak))?;
        for (what, took, cost, is_rate) in [
            ("filled, the remote away", self.filling, self.filled, true),
            ("killed and ready again", self.starting, self.started, false),
            ("drained, killed once half-way", self.draining, self.drained, true),
        ] {
            let rate = if is_rate { format!("{:.0}", rate(took)) } else { String::new() };
            let (memory, peak) = (mib(cost.memory), mib(cost.peak));
            writeln!(f, "| {what} | {:.1} s | {rate} | {memory} MiB | {peak} MiB |", took.as_secs_f64())?;
        }
        write!(
            f,
            "\n{} messages acknowledged, {} twice; {} MiB above the idle broker at most",
            self.acknowledged,
            self.doubled,
            mib(self.above_idle())
        )
    }
}
