//! Everything together on one clock: the list of events, and what each of them leads to.
//!
//! In: a plan and a seed. Out: a run, always the same for the same seed. Time stands still while something happens and
//! jumps to the next event then. Never reads a clock, a file or the environment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::time::Duration;

use viaduct_codec::Time;

use crate::START;
use crate::bridging::BridgeEnd;
use crate::broker::Broker;
use crate::client::Client;
use crate::link::Link;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::sabotage::Saboteur;
use crate::trace::Trace;

/// Something that is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// Bytes for the broker's end may have arrived.
    Up(u64),
    /// Bytes for the client's end may have arrived.
    Down(u64),
    /// The broker's end goes on with what it has.
    Serve(u64),
    /// The broker's end learns that the connection is gone.
    ServerSees(u64),
    /// The client's end learns it.
    ClientSees(u64),
    /// A client does something.
    Act(usize),
    /// A client sends answers that are due.
    Answer(usize),
    /// A client looks at its keep alive and its CONNACK.
    Look(usize),
    /// A worker's deadline may have come: broker, worker, epoch.
    Timeout(usize, u16, u32),
    /// Mail may have arrived: broker, from, to, epoch.
    Mail(usize, u16, u16, u32),
    /// The log of a broker has its turn: broker, epoch.
    Disk(usize, u32),
    /// Something of a bridge is due.
    Bridge(usize),
    /// A dial of a bridge ends.
    Dialled(usize, u64),
    /// Some connection breaks.
    Cut,
    /// A broker stops without a word.
    Crash,
    /// A broker starts again.
    Start(usize),
    /// A bridge is stopped by its operator.
    Stop(usize),
    /// It is started again.
    Resume(usize),
}

pub(crate) struct World {
    pub(crate) now: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    scheduled: u64,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) plan: Plan,
    /// Nothing goes wrong any more, and nobody begins anything.
    pub(crate) is_calm: bool,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) last_link: u64,
    pub(crate) clients: Vec<Client>,
    pub(crate) bridges: Vec<BridgeEnd>,
    /// Bridges that have something to move.
    pub(crate) woken: BTreeSet<usize>,
    pub(crate) oracle: Oracle,
    pub(crate) saboteur: Option<Saboteur>,
    pub(crate) figures: Figures,
}

/// How much happened, so that a run that tests nothing is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages that clients made, wills included.
    pub messages: u64,
    /// First copies that clients and bridges got.
    pub arrived: u64,
    /// Debts that were looked at when the world had come to rest.
    pub debts: u64,
    /// Connections that were made.
    pub connections: u64,
    /// Connections that were cut, bytes in flight lost.
    pub cuts: u64,
    /// Sessions that were taken over.
    pub takeovers: u64,
    /// Brokers that were stopped.
    pub restarts: u64,
    /// Events that were handled.
    pub events: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
}

impl World {
    /// Lets things happen until `end`, or until `is_done` says so after one of them; whether it did.
    pub(crate) fn run(&mut self, end: Time, is_done: impl Fn(&Self) -> bool) -> bool {
        while let Some(Reverse((time, ..))) = self.events.peek()
            && *time <= end
        {
            let Some(Reverse((time, _, event))) = self.events.pop() else { break };
            self.now = self.now.max(time);
            self.oracle.at(self.now);
            self.figures.events += 1;
            self.happen(event);
            self.move_bridges();
            if is_done(self) {
                return true;
            }
        }
        self.now = self.now.max(end);
        self.oracle.at(self.now);
        false
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Up(link) => self.arrive_up(link),
            Event::Down(link) => self.arrive_down(link),
            Event::Serve(link) => self.serve(link),
            Event::ServerSees(link) => self.server_sees(link, "the connection was reset"),
            Event::ClientSees(link) => self.client_sees(link),
            Event::Act(client) => self.act(client),
            Event::Answer(client) => self.answer(client),
            Event::Look(client) => self.look(client),
            Event::Timeout(broker, worker, epoch) => self.timeout(broker, worker, epoch),
            Event::Mail(broker, from, to, epoch) => self.mail(broker, from, to, epoch),
            Event::Disk(broker, epoch) => self.disk_turn(broker, epoch),
            Event::Bridge(bridge) => self.bridge_due(bridge),
            Event::Dialled(bridge, attempt) => self.dialled(bridge, attempt),
            Event::Cut => self.cut_some(),
            Event::Crash => self.crash_some(),
            Event::Start(broker) => self.start(broker),
            Event::Stop(bridge) => self.stop_bridge(bridge),
            Event::Resume(bridge) if self.plan.stops > 0 => self.resume_bridge(bridge),
            Event::Resume(_) => {}
        }
    }

    /// `event` happens after `ms` milliseconds.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now.after(Duration::from_millis(ms)), event);
    }

    pub(crate) fn at(&mut self, time: Time, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((time, self.scheduled, event)));
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    /// As `around` of the random numbers, and nothing at all when the plan says 0.
    pub(crate) fn sometimes(&mut self, usual: u64, event: Event) {
        if usual > 0 && !self.is_calm {
            let ms = self.rng.around(usual);
            self.after(ms, event);
        }
    }

    /// The world of a plan, in which nothing has happened yet.
    pub(crate) fn new(plan: Plan, rng: Rng, with_trace: bool, saboteur: Option<Saboteur>) -> Self {
        Self {
            now: START,
            events: BinaryHeap::new(),
            scheduled: 0,
            rng,
            trace: Trace::new(with_trace),
            is_calm: false,
            brokers: Vec::new(),
            links: BTreeMap::new(),
            last_link: 0,
            clients: Vec::new(),
            bridges: Vec::new(),
            woken: BTreeSet::new(),
            oracle: Oracle::new(&plan.workers, plan.quiet_takeovers),
            saboteur,
            figures: Figures::default(),
            plan,
        }
    }
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.arrived += other.arrived;
        self.debts += other.debts;
        self.connections += other.connections;
        self.cuts += other.cuts;
        self.takeovers += other.takeovers;
        self.restarts += other.restarts;
        self.events += other.events;
        self.virtual_ms += other.virtual_ms;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} messages, {} deliveries, {} debts checked, {} connections, {} cuts, {} takeovers, {} restarts, \
             {} events, {} virtual hours",
            self.messages,
            self.arrived,
            self.debts,
            self.connections,
            self.cuts,
            self.takeovers,
            self.restarts,
            self.events,
            self.virtual_ms / 3_600_000
        )
    }
}
