//! How the links of one bridge take over from those of another number: what waited under the old split goes out before anything
//! does under the new one, so that no topic's messages overtake each other.
//!
//! In: what each link and each worker has done. Out: how far all of them are, to wait for. Must never: decide for a link.
//!
//! ```text
//! new links   subscribe here ........ wait ............... dial, subscribe there ... serve
//! old links   (wait)  end subscriptions here, dial, carry what waits .............. end there, if nobody goes on
//! ```
//!
//! When the number changes again before that has come to its end, there are older links still: those whose subscriptions have
//! ended already. They go before the old ones; one that is wanted again carries what it has before it subscribes.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use viaduct_codec::Slice;

/// See the module.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Links that are wanted.
    links: u8,
    /// Which start of the bridge this is; see `BridgeStatus::begin`.
    run: AtomicU64,
    progress: watch::Sender<Progress>,
}

/// Which old link a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// It was old before the number changed last, and goes first.
    Oldest,
    /// It has become old with this change.
    Old,
    /// It was old, and is wanted again once it has carried what it had.
    WantedAgain,
}

/// How far they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Workers that have not looked for old links.
    unseen: usize,
    /// Links without subscriptions, which have been old for longer.
    oldest: usize,
    /// Other old links with messages that have to go first.
    draining: usize,
    /// New links that hear this broker.
    listening: usize,
    /// New links that hear the remote.
    serving: usize,
}

impl Handover {
    pub(crate) fn new(links: u8) -> Self {
        Self { links, run: AtomicU64::new(0), progress: watch::Sender::new(Progress::default()) }
    }

    /// Links that are wanted.
    pub(crate) const fn links(&self) -> u8 {
        self.links
    }

    /// Before the first link starts.
    pub(crate) fn begin(&self, run: u64, workers: usize) {
        self.run.store(run, Ordering::Relaxed);
        self.progress.send_modify(|progress| *progress = Progress { unseen: workers, ..Progress::default() });
    }

    pub(crate) fn run(&self) -> u64 {
        self.run.load(Ordering::Relaxed)
    }

    /// A worker has found these old links.
    pub(crate) fn seen(&self, found: &[Age]) {
        let count = |age| found.iter().filter(|other| **other == age).count();
        self.progress.send_modify(|progress| {
            progress.unseen = progress.unseen.saturating_sub(1);
            progress.oldest += count(Age::Oldest);
            progress.draining += count(Age::Old);
        });
    }

    /// An old link has nothing left.
    pub(crate) fn drained(&self, age: Age) {
        self.progress.send_modify(|progress| match age {
            Age::Oldest => progress.oldest = progress.oldest.saturating_sub(1),
            Age::Old => progress.draining = progress.draining.saturating_sub(1),
            Age::WantedAgain => {}
        });
    }

    /// A new link has subscribed here.
    pub(crate) fn listens(&self) {
        self.progress.send_modify(|progress| progress.listening += 1);
    }

    /// A new link has subscribed at the remote.
    pub(crate) fn serves(&self) {
        self.progress.send_modify(|progress| progress.serving += 1);
    }

    /// Whether everything that waited under an old split is out.
    pub(crate) fn is_drained(&self) -> bool {
        let progress = *self.progress.borrow();
        progress.unseen == 0 && progress.oldest == 0 && progress.draining == 0
    }

    /// Whether it is the turn of old links of this age: the oldest have nothing left, and the new ones hear this broker.
    pub(crate) fn may_drain(&self, age: Age) -> bool {
        let Progress { unseen, oldest, listening, .. } = *self.progress.borrow();
        age != Age::Old || (unseen == 0 && oldest == 0 && listening >= usize::from(self.links))
    }

    /// Whether the new links hear the remote.
    pub(crate) fn is_serving(&self) -> bool {
        self.progress.borrow().serving >= usize::from(self.links)
    }

    /// Tells of each change from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

/// Every link that a bridge may have or have had, whatever the number of links.
pub(crate) fn every_link() -> impl Iterator<Item = Slice> {
    (1..=Slice::MOST).flat_map(Slice::parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_links_wait_for_every_worker_and_every_old_link() {
        let handover = Handover::new(2);
        handover.begin(7, 2);
        assert_eq!((handover.run(), handover.is_drained()), (7, false));
        handover.seen(&[]);
        handover.listens();
        handover.listens();
        assert!(!handover.is_drained() && !handover.may_drain(Age::Old), "the other worker may have one");
        handover.seen(&[Age::Old, Age::Oldest]);
        assert!(!handover.is_drained() && !handover.may_drain(Age::Old) && handover.may_drain(Age::Oldest));
        handover.drained(Age::Oldest);
        assert!(!handover.is_drained() && handover.may_drain(Age::Old));
        handover.drained(Age::Old);
        assert!(handover.is_drained() && !handover.is_serving());
        handover.serves();
        handover.serves();
        assert!(handover.is_serving());
    }

    #[test]
    fn every_link_has_another_session() {
        let ids: std::collections::BTreeSet<String> = every_link().map(|link| link.local_client_id("b")).collect();
        assert_eq!(ids.len(), every_link().count());
    }
}
