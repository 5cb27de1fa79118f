//! One broker: the engines of its workers, the mail between them, and what survives a restart.
//!
//! In: the shape of the broker. Out: its engines, and mail when it is due. Never decides when anything happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use viaduct_codec::Time;
use viaduct_engine::{AllowAll, Engine, Mail, Settings, Shared, WorkerId};
use viaduct_session::server::Terms;

use crate::disk::Disk;
use crate::rng::Rng;

pub(crate) struct Broker {
    pub(crate) workers: u16,
    pub(crate) terms: Arc<Terms>,
    settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    /// Empty while the broker is down.
    pub(crate) engines: Vec<Engine>,
    pub(crate) disk: Disk,
    /// Counts the starts, so that events for an earlier one are known.
    pub(crate) epoch: u32,
    /// On its way from one worker to another, in order.
    mail: BTreeMap<(u16, u16), VecDeque<(Time, Mail)>>,
    /// For when each worker's next deadline is in the list of events.
    pub(crate) armed: Vec<Option<Time>>,
    /// Messages by client that it gave up before its last start.
    given_up: BTreeMap<String, u64>,
}

impl Broker {
    pub(crate) fn new(workers: u16, terms: Terms, settings: Settings, disk: Disk, now: Time) -> Self {
        let mut broker = Self {
            workers,
            terms: Arc::new(terms),
            settings: Arc::new(settings),
            shared: Shared::new(workers, Box::new(AllowAll)),
            engines: Vec::new(),
            disk,
            epoch: 0,
            mail: BTreeMap::new(),
            armed: Vec::new(),
            given_up: BTreeMap::new(),
        };
        broker.start(now);
        broker
    }

    /// Remembers what it says that it gave up, before it stops.
    pub(crate) fn note_given_up(&mut self) {
        for view in self.engines.iter().flat_map(Engine::clients) {
            *self.given_up.entry(view.client_id.as_str().to_owned()).or_default() += view.dropped;
        }
    }

    /// Messages for a client that it says it gave up, since it first started.
    pub(crate) fn given_up(&self, client: &str) -> u64 {
        let now = self.engines.iter().find_map(|engine| engine.client(client)).map_or(0, |view| view.dropped);
        now + self.given_up.get(client).copied().unwrap_or_default()
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.engines.is_empty()
    }

    /// Begins with what the disk kept.
    pub(crate) fn start(&mut self, now: Time) {
        self.epoch += 1;
        self.shared = Shared::new(self.workers, Box::new(AllowAll));
        let engine = |(worker, door)| {
            Engine::new(WorkerId(worker), Arc::clone(&self.shared), Arc::clone(&self.settings), Box::new(door), now)
        };
        self.engines = (0..self.workers).zip(self.disk.open()).map(engine).collect();
        self.armed = vec![None; self.engines.len()];
    }

    /// Everything that is not on the disk is gone.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        self.disk.crash(rng);
        self.engines.clear();
        self.mail.clear();
        self.epoch += 1;
    }

    /// Puts mail on its way, never before what is on the same way already; when it is due.
    pub(crate) fn post(&mut self, from: u16, to: u16, mail: Mail, due: Time) -> Time {
        let queue = self.mail.entry((from, to)).or_default();
        let due = queue.back().map_or(due, |(last, _)| due.max(*last));
        queue.push_back((due, mail));
        due
    }

    /// The next mail on this way, if it is due.
    pub(crate) fn collect(&mut self, from: u16, to: u16, now: Time) -> Option<Mail> {
        let queue = self.mail.get_mut(&(from, to))?;
        if queue.front().is_none_or(|(due, _)| *due > now) {
            return None;
        }
        queue.pop_front().map(|(_, mail)| mail)
    }

    pub(crate) fn has_mail(&self) -> bool {
        self.mail.values().any(|queue| !queue.is_empty())
    }
}
