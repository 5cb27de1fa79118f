//! One broker: the engines of its workers, the mail between them, and what survives a restart.
//!
//! In: the shape of the broker. Out: its engines, and mail when it is due. Never decides when anything happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use viaduct_codec::Time;
use viaduct_engine::{AllowAll, Engine, Mail, Settings, Shared, WorkerId};
use viaduct_session::server::Terms;

use crate::disk::Disk;

pub(crate) struct Broker {
    pub(crate) workers: u16,
    pub(crate) terms: Arc<Terms>,
    settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    /// Empty while the broker is down.
    pub(crate) engines: Vec<Engine>,
    disks: Vec<Disk>,
    /// Counts the starts, so that events for an earlier one are known.
    pub(crate) epoch: u32,
    /// On its way from one worker to another, in order.
    mail: BTreeMap<(u16, u16), VecDeque<(Time, Mail)>>,
    /// For when each worker's next deadline is in the list of events.
    pub(crate) armed: Vec<Option<Time>>,
}

impl Broker {
    pub(crate) fn new(workers: u16, terms: Terms, settings: Settings, now: Time) -> Self {
        let disks = (0..workers).map(|_| Disk::new(workers)).collect();
        let mut broker = Self {
            workers,
            terms: Arc::new(terms),
            settings: Arc::new(settings),
            shared: Shared::new(workers, Box::new(AllowAll)),
            engines: Vec::new(),
            disks,
            epoch: 0,
            mail: BTreeMap::new(),
            armed: Vec::new(),
        };
        broker.start(now);
        broker
    }

    pub(crate) fn is_up(&self) -> bool {
        !self.engines.is_empty()
    }

    /// Begins with what the disks kept.
    pub(crate) fn start(&mut self, now: Time) {
        self.epoch += 1;
        self.shared = Shared::new(self.workers, Box::new(AllowAll));
        let engine = |(worker, disk): (u16, &Disk)| {
            let store = Box::new(disk.clone());
            Engine::new(WorkerId(worker), Arc::clone(&self.shared), Arc::clone(&self.settings), store, now)
        };
        self.engines = (0..self.workers).zip(&self.disks).map(engine).collect();
        self.armed = vec![None; self.engines.len()];
    }

    /// Everything that is not on a disk is gone.
    pub(crate) fn crash(&mut self) {
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
