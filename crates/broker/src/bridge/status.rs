//! The numbers of one bridge, of all its links together, for metrics and the API.
//!
//! In: what each link counts, from whichever worker it is on. Out: sums. Must never: let a link of an earlier start of the
//! bridge, which says its last words late, be counted in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use viaduct_bridge::{Phase, Rates, Stats, Totals};
use viaduct_codec::{Slice, Time};
use viaduct_engine::{ClientView, Dropped};

use crate::stream::TlsLink;

/// One bridge, as metrics and the API see it.
#[derive(Debug)]
pub(crate) struct BridgeStatus {
    pub(crate) name: String,
    pub(crate) stats: Mutex<Stats>,
    /// What crossed in the last minute.
    pub(crate) rates: Mutex<Rates>,
    /// How the last link was encrypted, when it was.
    pub(crate) tls: Mutex<Option<TlsLink>>,
    /// Messages that wait here for the remote, or for its word.
    pub(crate) queued: AtomicU64,
    /// Bytes of those that were not sent yet.
    pub(crate) queued_bytes: AtomicU64,
    /// Messages that its queue gave up, by reason, in the order of [`Dropped::ALL`].
    pub(crate) queue_dropped: [AtomicU64; Dropped::ALL.len()],
    /// What its files held when they were last read, as [`super::fingerprint`] says.
    pub(crate) files: AtomicU64,
    /// When our own certificate ends, seconds since 1970; 0 for none.
    pub(crate) certificate_expires: AtomicI64,
    /// How often its task panicked.
    pub(crate) panics: AtomicU64,
    /// Held for each connection that this end has closed and the remote may not have.
    leaving: Arc<()>,
    links: Mutex<Links>,
}

#[derive(Debug, Default)]
struct Links {
    /// Which start of the bridge they belong to.
    run: u64,
    each: BTreeMap<Slice, Link>,
}

#[derive(Debug, Default)]
struct Link {
    is_wanted: bool,
    stats: Stats,
    bytes: [u64; 2],
    queued: u64,
    queued_bytes: u64,
    queue_dropped: [u64; Dropped::ALL.len()],
}

/// Which link says something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Which start of the bridge it belongs to.
    pub(crate) run: u64,
    pub(crate) slice: Slice,
    /// It is one of those that the bridge is to have.
    pub(crate) is_wanted: bool,
}

impl BridgeStatus {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            stats: Mutex::default(),
            rates: Mutex::default(),
            tls: Mutex::default(),
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            queue_dropped: Default::default(),
            files: AtomicU64::new(0),
            certificate_expires: AtomicI64::new(0),
            panics: AtomicU64::new(0),
            leaving: Arc::default(),
            links: Mutex::default(),
        })
    }

    /// A connection to the remote is being closed, until what comes back is dropped.
    pub(super) fn leave(&self) -> Arc<()> {
        Arc::clone(&self.leaving)
    }

    /// Whether it has no connection to its remote, and the remote has had the time to see that.
    pub(crate) fn has_left(&self) -> bool {
        !self.stats.lock().up && Arc::strong_count(&self.leaving) == 1
    }

    /// It is about to run, or to rest: who asks now is not told of what was before. The number that its links give when they
    /// say something.
    pub(super) fn begin(&self, now: Time, phase: Phase) -> u64 {
        {
            let mut stats = self.stats.lock();
            if phase != Phase::Stopped {
                *stats = Stats::default();
                *self.tls.lock() = None;
            }
            (stats.phase, stats.up, stats.level, stats.since) = (phase, false, None, now);
        }
        let mut links = self.links.lock();
        links.each.clear();
        links.run += 1;
        links.run
    }

    /// What waits in the local session, if there is one.
    pub(crate) fn note_queue(&self, part: Part, view: Option<&ClientView>) {
        self.change(part, |link| {
            let (messages, bytes) =
                view.map_or((0, 0), |view| (view.queued_messages + view.inflight, view.queued_bytes));
            (link.queued, link.queued_bytes) = (messages as u64, bytes as u64);
            if let Some(view) = view {
                link.queue_dropped = view.dropped_for;
            }
        });
        let sum = |one: fn(&Link) -> u64| self.links.lock().each.values().map(one).sum();
        self.queued.store(sum(|link| link.queued), Ordering::Relaxed);
        self.queued_bytes.store(sum(|link| link.queued_bytes), Ordering::Relaxed);
        let links = self.links.lock();
        for (place, counter) in self.queue_dropped.iter().enumerate() {
            let of = |link: &Link| link.queue_dropped.get(place).copied().unwrap_or_default();
            counter.store(links.each.values().map(of).sum(), Ordering::Relaxed);
        }
    }

    /// Messages that were not carried on, by reason: what the bridge itself dropped, and what its queue gave up. What has
    /// the same name on both sides is the same to an operator.
    pub(crate) fn dropped(&self, stats: &Stats) -> BTreeMap<&'static str, u64> {
        let own = viaduct_bridge::Drop::ALL.iter().map(|reason| (reason.label(), stats.dropped_for(*reason)));
        let queue = Dropped::ALL.iter().zip(&self.queue_dropped);
        // Of those that a queue never has for a reason there would only be zeros.
        let queue = queue.map(|(reason, count)| (reason.name(), count.load(Ordering::Relaxed)));
        let queue = queue.filter(|(name, count)| *count > 0 || *name == Dropped::QueueFull.name());
        let mut dropped = BTreeMap::new();
        for (reason, count) in own.chain(queue) {
            *dropped.entry(reason).or_default() += count;
        }
        dropped
    }

    /// What the machine counts, and the bytes that went over the link `[in, out]`.
    pub(crate) fn note_stats(&self, part: Part, now: Time, stats: Stats, bytes: [u64; 2]) {
        if self.change(part, |link| (link.stats, link.bytes) = (stats, bytes)) {
            self.sum_up(now);
        }
    }

    /// The link is not up, whatever it was.
    pub(crate) fn note_down(&self, part: Part, now: Time) {
        let changed = self.change(part, |link| {
            if std::mem::take(&mut link.stats.up) {
                link.stats.since = now;
            }
        });
        if changed {
            self.sum_up(now);
        }
    }

    /// `false` when the link belongs to an earlier start.
    fn change(&self, part: Part, change: impl FnOnce(&mut Link)) -> bool {
        let mut links = self.links.lock();
        if part.run != links.run {
            return false;
        }
        let link = links.each.entry(part.slice).or_default();
        link.is_wanted = part.is_wanted;
        change(link);
        true
    }

    fn sum_up(&self, now: Time) {
        let links = self.links.lock();
        let stats = Stats::sum(links.each.values().map(|link| (link.is_wanted, &link.stats)));
        let bytes = |way: usize| links.each.values().map(|link| link.bytes.get(way).copied().unwrap_or_default()).sum();
        let (bytes_in, bytes_out) = (bytes(0), bytes(1));
        let totals = Totals { messages_out: stats.messages_out, messages_in: stats.messages_in, bytes_out, bytes_in };
        self.rates.lock().sample(now, totals);
        *self.stats.lock() = stats;
    }
}
