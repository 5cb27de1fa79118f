//! What a broker's log stands on: a folder in memory that the power can leave at any write.
//!
//! In: the doors of the workers and their turns to write. Out: at the next start, what was safe when the broker stopped,
//! and some of what was not. The log is the real one, stepped by hand, so that a seed decides everything.

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{ClientId, Time};
use viaduct_engine::worker_of;
use viaduct_store::log::{Door, Faults, FaultyFiles, Log, Options, Pending};
use viaduct_store::{Loaded, Store};

use crate::rng::Rng;

/// Small, so that files come and go.
const SEGMENT_BYTES: u64 = 8 << 10;
/// How long marks may wait, milliseconds: nobody waits for them.
const MARKS: u64 = 500;

/// How a disk breaks its word: for showing that the oracle notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing is there after a stop.
    Empty,
    /// What was there some turns before is.
    Old,
}

pub(crate) struct Disk {
    workers: u16,
    seed: u64,
    lie: Option<Lie>,
    /// With [`Lie::Old`]: as it was, and how many turns ago.
    old: (FaultyFiles, u32),
    files: FaultyFiles,
    log: Option<Log>,
    /// For when its next turn is in the list of events.
    pub(crate) armed: Option<Time>,
}

impl Disk {
    pub(crate) fn new(workers: u16, seed: u64, lie: Option<Lie>) -> Self {
        let old = (FaultyFiles::default(), 0);
        Self { workers, seed, lie, old, files: FaultyFiles::default(), log: None, armed: None }
    }

    fn options(&self, workers: u16) -> Options {
        let door_of = Arc::new(move |client: &ClientId| usize::from(worker_of(client.as_str(), workers).0));
        let mut options = Options::new(usize::from(workers), door_of, self.seed);
        options.commit_delay = Duration::from_millis(2);
        options.segment_bytes = SEGMENT_BYTES;
        options
    }

    /// Opens the log; a door for each worker.
    pub(crate) fn open(&mut self) -> Vec<Door> {
        let opened = Log::open_stepped(&self.options(self.workers), Arc::new(self.files.clone()));
        let opened = opened.expect("a folder in memory can be opened");
        self.armed = None;
        self.log = Some(opened.log);
        opened.doors
    }

    /// The process or the power is gone, perhaps in the middle of a write; the doors are to be dropped after it.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let Some(log) = self.log.take() else { return };
        log.close();
        if let Some(lie) = self.lie {
            self.files = if lie == Lie::Empty { FaultyFiles::default() } else { self.old.0.after_kill() };
        } else if rng.percent(50) {
            if rng.percent(50) {
                let changes = rng.below(6);
                self.files.change(|faults| faults.power_for = Some(changes));
                log.step();
            }
            let part = rng.below(101);
            let torn = |_: &str, bytes: usize| bytes * usize::try_from(part).unwrap_or(0) / 100;
            self.files = self.files.after_power_cut(torn);
        } else {
            self.files = self.files.after_kill();
        }
        self.files.set(Faults::default());
        self.armed = None;
    }

    /// Writes what waits.
    pub(crate) fn step(&mut self) {
        if self.lie == Some(Lie::Old) {
            self.old.1 += 1;
            if self.old.1 >= 20 {
                self.old = (self.files.after_kill(), 0);
            }
        }
        if let Some(log) = &self.log {
            log.step();
        }
    }

    /// In how many milliseconds the log should have a turn.
    pub(crate) fn due(&self, latency: u64, rng: &mut Rng) -> Option<u64> {
        match self.log.as_ref()?.pending() {
            Pending::Nothing => None,
            Pending::Marks => Some(MARKS),
            Pending::Groups => Some(rng.around(latency)),
        }
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_busy(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.pending() == Pending::Groups)
    }

    /// Messages that somebody is owed.
    pub(crate) fn messages(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.numbers().messages)
    }

    /// What whoever opens the folder next will find, for one who looks at a copy of it.
    pub(crate) fn found(&self) -> Loaded {
        let copy = self.files.after_kill();
        let opened = Log::open_stepped(&self.options(1), Arc::new(copy)).expect("a copy can be opened");
        opened.log.close();
        let mut doors = opened.doors;
        doors.first_mut().and_then(|door| door.load().ok()).unwrap_or_default()
    }
}
