//! The load generator: publishers and subscribers in one thread, three ways of sending, and a count of every delivery.
//!
//! *Dense*: each publisher writes up to 64 KiB of messages at once. *Unbatched*: each writes one message and the next
//! when that has arrived. *Sparse*: messages are written at times that were fixed before, whatever happens, and
//! latency counts from those times. It never sleeps while it sends, so that no server pays for waking it.
//! Dense flows keep fewer bytes under way than any known broker's limit, so that a loss is the broker's.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::frame::{self, Publish};
use crate::histogram::Histogram;
use crate::link::{self, Link, Scratch};
use crate::machine::Usage;
use crate::poll::{Poll, Ready};
use crate::server::Running;
use crate::tally::{self, Tally};

/// Bytes that a publisher writes at once, at most.
const CHUNK: usize = 64 * 1024;
/// Chunks that may be under way to one subscriber.
const CHUNKS_UNDER_WAY: usize = 3;
/// Unacknowledged messages of one publisher at QoS 1 and 2: what rumqttd and Viaduct announce to 5.0.
const IN_FLIGHT: usize = 100;
/// After so long without any delivery, what is under way is taken as lost.
const STALL: Duration = Duration::from_secs(1);
/// After so long without any delivery or acknowledgement, nothing more is expected of this server.
const DEAD: Duration = Duration::from_secs(10);
/// How often a subscriber stops and resumes, so that what else happens on the machine meets both times alike.
const STOPS: u32 = 5;
/// Connections that hear nothing of a flow with churn, and how many of them are made anew each second.
const BYSTANDERS: usize = 1_000;
const CHURN: f64 = 10.0;
/// How often churn begins and ends: seldom, so that each time has some of it.
const CHURNS: u32 = 2;
/// Receive buffer of a subscriber that will stop reading.
const SMALL_BUFFER: usize = 8 * 1024;

/// When messages are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Regime {
    /// As many at once as fit.
    Dense,
    /// One per publisher, the next when it has arrived.
    Unbatched,
    /// All publishers together write so many a second.
    Sparse(f64),
}

/// Who sends what to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    /// Publishers and subscribers are dealt to topics in turn.
    pub(crate) topics: usize,
    /// Bytes, at least a stamp.
    pub(crate) payload: usize,
    pub(crate) qos: u8,
    pub(crate) regime: Regime,
    /// The first subscriber stops reading and resumes, by turns; nobody waits for it or counts what it loses.
    pub(crate) one_stops: bool,
    /// By turns bystanders, who hear nothing, connect and subscribe anew: [`CHURN`] of [`BYSTANDERS`] a second.
    pub(crate) has_churn: bool,
    /// Subscribers have sessions that outlive their connections.
    pub(crate) is_kept: bool,
}

/// What a measured time brought.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) deliveries: u64,
    /// From the first write to the last delivery.
    pub(crate) elapsed: Duration,
    /// Of the server.
    pub(crate) usage: Usage,
    /// Time that server or generator were ready but had no core, as a share of `elapsed`; the larger one.
    pub(crate) disturbed: f64,
    /// Over the whole flow, warm-up included.
    pub(crate) lost: u64,
    pub(crate) behind: u64,
    /// Nanoseconds from the scheduled time; sparse only.
    pub(crate) latency: Option<Histogram>,
    /// How often the server asked the disk, for each delivery; of who says so.
    pub(crate) syncs: Option<f64>,
}

/// What a flow brought: one outcome, or with `one_stops` or `has_churn` those from before and after by turns.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes {
    /// With all reading.
    pub(crate) all: Vec<Outcome>,
    /// While the first subscriber did not read, or bystanders came and went; empty without either.
    pub(crate) others: Vec<Outcome>,
}

impl Flow {
    /// Runs against a server, for `time` with all reading, and with `one_stops` for as long again without the first.
    pub(crate) fn run(&self, server: &Running, warm_up: Duration, time: Duration) -> io::Result<Outcomes> {
        let mut field = Field::new(*self, server)?;
        field.drive(warm_up)?;
        field.drain()?;
        let mut outcomes = Outcomes { all: Vec::new(), others: Vec::new() };
        if self.has_churn {
            for _ in 0..CHURNS {
                outcomes.all.push(field.measure(server, time)?);
                field.is_churning = true;
                outcomes.others.push(field.measure(server, time)?);
                field.is_churning = false;
            }
            return Ok(outcomes);
        }
        if !self.one_stops {
            outcomes.all.push(field.measure(server, time)?);
            return Ok(outcomes);
        }
        for _ in 0..STOPS {
            outcomes.all.push(field.measure(server, time / STOPS)?);
            field.stop_first()?;
            field.drive(warm_up)?;
            field.drain()?;
            outcomes.others.push(field.measure(server, time / STOPS)?);
            field.resume_first()?;
            field.drain()?;
        }
        Ok(outcomes)
    }
}

struct Publisher {
    link: Link,
    topic: usize,
    /// `batch` messages, one after another.
    frames: Vec<u8>,
    sent: u64,
    /// Sent and not acknowledged.
    open: usize,
}

struct Subscriber {
    link: Link,
    topic: usize,
    tally: Tally,
    /// Waited for, and its losses counted.
    is_counted: bool,
}

/// Messages to one topic.
#[derive(Clone, Default)]
struct Topic {
    sent: u64,
    /// What its slowest subscriber has seen.
    seen: u64,
    /// Taken as lost, so that the window does not close for ever.
    forgiven: u64,
}

struct Field {
    flow: Flow,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    topics: Vec<Topic>,
    /// With churn only.
    bystanders: Vec<Link>,
    is_churning: bool,
    address: SocketAddr,
    frame_length: usize,
    payload_at: usize,
    /// Messages of one write and messages under way per topic, at most.
    batch: usize,
    window: usize,
    /// Who is asked first for the next write.
    turn: usize,
    poll: Poll,
    ready: Vec<Ready>,
    scratch: Scratch,
    begin: Instant,
    /// Sequence that each publisher had at `begin`.
    first: Vec<u64>,
    latency: Histogram,
    last_arrival: Instant,
    last_sign: Instant,
}

impl Field {
    fn new(flow: Flow, server: &Running) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut subscribers = Vec::new();
        for number in 0..flow.subscribers {
            let topic = number % flow.topics;
            let buffer = (flow.one_stops && number == 0).then_some(SMALL_BUFFER);
            let socket = link::dial(server.subscriber_address(), buffer)?;
            let link = Link::on(socket, &format!("sub-{number}"), Some((&topic_name(topic), flow.qos)), flow.is_kept)?;
            poll.add(&link, number)?;
            subscribers.push(Subscriber {
                link,
                topic,
                tally: Tally::new(flow.publishers),
                is_counted: !(flow.one_stops && number == 0),
            });
        }
        let sample = frame::publish(&topic_name(0), flow.qos, flow.payload);
        let (batch, window) = match flow.regime {
            Regime::Dense => {
                let batch = (CHUNK / sample.len()).max(1);
                (batch, batch * CHUNKS_UNDER_WAY)
            }
            Regime::Unbatched | Regime::Sparse(_) => (1, 1),
        };
        let mut publishers = Vec::new();
        for number in 0..flow.publishers {
            let topic = number % flow.topics;
            let link = Link::connect(server.address, &format!("pub-{number}"), None)?;
            poll.add(&link, flow.subscribers + number)?;
            let frames = frame::publish(&topic_name(topic), flow.qos, flow.payload).repeat(batch);
            publishers.push(Publisher { link, topic, frames, sent: 0, open: 0 });
        }
        let count = if flow.has_churn { BYSTANDERS } else { 0 };
        let bystanders = (0..count).map(|number| bystander(server.address, number)).collect::<io::Result<_>>()?;
        let now = Instant::now();
        Ok(Self {
            bystanders,
            is_churning: false,
            address: server.address,
            publishers,
            subscribers,
            topics: vec![Topic::default(); flow.topics],
            payload_at: sample.len() - flow.payload,
            frame_length: sample.len(),
            batch,
            window,
            turn: 0,
            poll,
            ready: Vec::new(),
            scratch: Scratch::new(),
            begin: now,
            first: vec![0; flow.publishers],
            latency: Histogram::new(),
            last_arrival: now,
            last_sign: now,
            flow,
        })
    }

    fn measure(&mut self, server: &Running, time: Duration) -> io::Result<Outcome> {
        let own = std::process::id();
        let arrived = self.arrived();
        let stored = server.store()?;
        let (server_before, own_before) = (server.usage()?, Usage::of(own)?);
        self.latency = Histogram::new();
        let begin = Instant::now();
        self.drive(time)?;
        let own_usage = Usage::of(own)?.since(own_before);
        self.drain()?;
        let elapsed = self.last_arrival.saturating_duration_since(begin);
        let usage = server.usage()?.since(server_before);
        let deliveries = self.arrived() - arrived;
        let stored = stored.zip(server.store()?);
        let disturbed = own_usage.waiting.max(usage.waiting) as f64 / elapsed.as_nanos().max(1) as f64;
        let counted = || self.subscribers.iter().filter(|subscriber| subscriber.is_counted);
        Ok(Outcome {
            deliveries,
            elapsed,
            usage,
            disturbed,
            lost: counted().map(|each| each.tally.lost(self.topic(each.topic).sent)).sum(),
            behind: counted().map(|each| each.tally.behind).sum(),
            latency: matches!(self.flow.regime, Regime::Sparse(_)).then(|| self.latency.clone()),
            syncs: stored.map(|(first, last)| (last.syncs - first.syncs) / deliveries.max(1) as f64),
        })
    }

    /// Sends for so long.
    fn drive(&mut self, time: Duration) -> io::Result<()> {
        self.begin = Instant::now();
        self.last_arrival = self.begin;
        self.last_sign = self.begin;
        self.first = self.publishers.iter().map(|publisher| publisher.sent).collect();
        let end = self.begin + time;
        let (mut scheduled, mut renewed) = (0_u64, 0_u64);
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if self.is_churning && self.begin + due(renewed, CHURN) <= now {
                let number = renewed as usize % BYSTANDERS;
                if let Some(link) = self.bystanders.get_mut(number) {
                    *link = bystander(self.address, number)?;
                }
                renewed += 1;
            }
            match self.flow.regime {
                Regime::Sparse(rate) => {
                    while self.begin + due(scheduled, rate) <= now {
                        let number = scheduled as usize % self.publishers.len();
                        self.publish(number, 1)?;
                        scheduled += 1;
                    }
                }
                Regime::Dense | Regime::Unbatched => self.fill(now)?,
            }
            self.turn(Duration::ZERO)?;
        }
    }

    /// Waits until all that was sent has arrived and been acknowledged, or nothing comes any more.
    fn drain(&mut self) -> io::Result<()> {
        self.last_sign = Instant::now();
        while !self.is_drained() {
            if self.last_sign.elapsed() > STALL {
                self.forgive()?;
                return Ok(());
            }
            self.turn(Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        let is_seen = |each: &&Topic| each.sent == each.seen + each.forgiven;
        self.publishers.iter().all(|each| each.open == 0 && each.link.is_flushed())
            && self.topics.iter().filter(is_seen).count() == self.topics.len()
    }

    /// What is under way will not come.
    fn forgive(&mut self) -> io::Result<()> {
        if self.publishers.iter().any(|each| each.open > 0 || !each.link.is_flushed())
            && self.last_sign.elapsed() > DEAD
        {
            return Err(io::Error::other("the server no longer takes or acknowledges messages"));
        }
        for topic in &mut self.topics {
            topic.forgiven = topic.sent - topic.seen;
        }
        Ok(())
    }

    /// Lets every publisher write that may.
    fn fill(&mut self, now: Instant) -> io::Result<()> {
        if now.saturating_duration_since(self.last_sign) > STALL {
            self.forgive()?;
        }
        for step in 0..self.publishers.len() {
            let number = (self.turn + step) % self.publishers.len();
            let Some(publisher) = self.publishers.get(number) else { continue };
            let topic = self.topic(publisher.topic);
            let under_way = (topic.sent - topic.seen - topic.forgiven) as usize;
            let mut count = self.batch.min(self.window.saturating_sub(under_way));
            if self.flow.qos > 0 {
                // Half a window at once: dense must stay dense, however finely a server acknowledges.
                let is_worth_it = publisher.open <= IN_FLIGHT / 2;
                count = if is_worth_it { count.min(IN_FLIGHT - publisher.open) } else { 0 };
            } else if count < self.batch {
                count = 0;
            }
            if count > 0 && publisher.link.is_flushed() {
                self.publish(number, count)?;
            }
        }
        self.turn += 1;
        Ok(())
    }

    /// Stamps the next `count` messages of a publisher and writes them.
    fn publish(&mut self, number: usize, count: usize) -> io::Result<()> {
        let (length, payload_at, qos) = (self.frame_length, self.payload_at, self.flow.qos);
        let Some(publisher) = self.publishers.get_mut(number) else { return Ok(()) };
        for frame in publisher.frames.chunks_exact_mut(length).take(count) {
            let (head, payload) = frame.split_at_mut(payload_at);
            tally::stamp(payload, number as u32, publisher.sent);
            if let Some(id) = head.last_chunk_mut::<2>().filter(|_| qos > 0) {
                *id = identifier(publisher.sent).to_be_bytes();
            }
            publisher.sent += 1;
        }
        if qos > 0 {
            publisher.open += count;
        }
        publisher.link.queue().extend_from_slice(publisher.frames.get(..count * length).unwrap_or_default());
        publisher.link.flush()?;
        if let Some(topic) = self.topics.get_mut(publisher.topic) {
            topic.sent += count as u64;
        }
        Ok(())
    }

    /// Reads whatever has come, answers it, and writes what had not fitted.
    fn turn(&mut self, patience: Duration) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(Some(patience), &mut ready)?;
        for each in &ready {
            match each.token.checked_sub(self.subscribers.len()) {
                None => self.hear(each.token)?,
                Some(number) => self.acknowledged(number)?,
            }
        }
        if !ready.is_empty() {
            self.last_sign = Instant::now();
            self.look();
        }
        self.ready = ready;
        for publisher in &mut self.publishers {
            publisher.link.flush()?;
        }
        for subscriber in &mut self.subscribers {
            subscriber.link.flush()?;
        }
        Ok(())
    }

    /// Reads one subscriber.
    fn hear(&mut self, number: usize) -> io::Result<()> {
        let Some(Subscriber { link, tally, .. }) = self.subscribers.get_mut(number) else { return Ok(()) };
        let now = Instant::now();
        let rate = if let Regime::Sparse(rate) = self.flow.regime { Some(rate) } else { None };
        let (begin, first, latency) = (self.begin, &self.first, &mut self.latency);
        let publishers = self.flow.publishers as u64;
        link.read(&mut self.scratch, |frame, answers| {
            if frame.kind() == frame::PUBREL {
                answers.extend(frame::acknowledgement(frame::PUBCOMP, frame.id()));
                return Ok(());
            }
            if frame.kind() != frame::PUBLISH {
                return Ok(());
            }
            let publish = Publish::read(frame).ok_or(frame::Malformed)?;
            let (from, sequence) = tally::read(publish.payload).ok_or(frame::Malformed)?;
            tally.take(from, sequence);
            if let (Some(rate), Some(first)) = (rate, first.get(from as usize)) {
                let place = (sequence - first) * publishers + u64::from(from);
                latency.add(now.saturating_duration_since(begin + due(place, rate)).as_nanos() as u64);
            }
            match frame.qos() {
                0 => {}
                1 => answers.extend(frame::acknowledgement(frame::PUBACK, publish.id)),
                _ => answers.extend(frame::acknowledgement(frame::PUBREC, publish.id)),
            }
            Ok(())
        })?;
        self.last_arrival = now;
        Ok(())
    }

    /// Reads one publisher, who hears nothing but acknowledgements.
    fn acknowledged(&mut self, number: usize) -> io::Result<()> {
        let Some(Publisher { link, open, .. }) = self.publishers.get_mut(number) else { return Ok(()) };
        link.read(&mut self.scratch, |frame, answers| {
            match frame.kind() {
                frame::PUBACK | frame::PUBCOMP => *open = open.saturating_sub(1),
                frame::PUBREC => answers.extend(frame::acknowledgement(frame::PUBREL, frame.id())),
                _ => {}
            }
            Ok(())
        })
    }

    /// How far the slowest subscriber of each topic is.
    fn look(&mut self) {
        self.topics.iter_mut().for_each(|topic| topic.seen = u64::MAX);
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.is_counted) {
            if let Some(topic) = self.topics.get_mut(subscriber.topic) {
                topic.seen = topic.seen.min(subscriber.tally.progress);
            }
        }
        for topic in &mut self.topics {
            topic.seen = topic.seen.min(topic.sent);
            topic.forgiven = topic.forgiven.min(topic.sent - topic.seen);
        }
    }

    fn stop_first(&self) -> io::Result<()> {
        self.subscribers.first().map_or(Ok(()), |first| self.poll.remove(&first.link))
    }

    fn resume_first(&self) -> io::Result<()> {
        self.subscribers.first().map_or(Ok(()), |first| self.poll.add(&first.link, 0))
    }

    fn arrived(&self) -> u64 {
        self.subscribers.iter().map(|subscriber| subscriber.tally.arrived).sum()
    }

    fn topic(&self, number: usize) -> Topic {
        self.topics.get(number).cloned().unwrap_or_default()
    }
}

/// Its filter lies beside the topics of the flow, so that what a server remembers of them is in doubt each time. It comes
/// before the connection that it replaces goes: a takeover, as when a client has lost its link.
fn bystander(address: SocketAddr, number: usize) -> io::Result<Link> {
    Link::connect(address, &format!("by-{number}"), Some((&format!("b/by/{number}"), 0)))
}

/// Four digits for up to ten thousand topics, so that all frames of a flow are of one length.
fn topic_name(topic: usize) -> String {
    format!("b/{topic:04}")
}

/// Packet identifiers go round; so few are open that none is used twice.
fn identifier(sequence: u64) -> u16 {
    (sequence % u64::from(u16::MAX)) as u16 + 1
}

/// When the message at a place of the schedule is due.
fn due(place: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(place as f64 / rate)
}
