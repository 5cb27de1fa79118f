//! How long groups took from the thread of the log to being safe, for `store_commit_seconds`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram in seconds, from memory to a disk that is broken.
pub const COMMIT_SECONDS: [f64; 12] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Groups that became safe, by how long that took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commits {
    /// By the first of [`COMMIT_SECONDS`] that was not exceeded; the last are those over all bounds.
    pub counts: [u64; COMMIT_SECONDS.len() + 1],
    /// Seconds that all of them took together.
    pub seconds: f64,
    /// How often the disk was asked to make something safe.
    pub syncs: u64,
}

#[derive(Debug, Default)]
pub(super) struct CommitTimes {
    counts: [AtomicU64; COMMIT_SECONDS.len() + 1],
    nanoseconds: AtomicU64,
    syncs: AtomicU64,
}

impl CommitTimes {
    pub(super) fn add(&self, took: Duration) {
        let place = COMMIT_SECONDS.iter().position(|bound| took.as_secs_f64() <= *bound);
        if let Some(count) = self.counts.get(place.unwrap_or(COMMIT_SECONDS.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn add_sync(&self) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Commits {
        let mut counts = [0; COMMIT_SECONDS.len() + 1];
        for (count, now) in counts.iter_mut().zip(&self.counts) {
            *count = now.load(Ordering::Relaxed);
        }
        let seconds = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        Commits { counts, seconds, syncs: self.syncs.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_counted_once() {
        let times = CommitTimes::default();
        for millis in [0, 3, 7_000] {
            times.add(Duration::from_millis(millis));
        }
        let commits = times.snapshot();
        assert_eq!((commits.counts.iter().sum::<u64>(), commits.counts.last()), (3, Some(&1)));
        assert!((commits.seconds - 7.003).abs() < 1e-9);
    }
}
