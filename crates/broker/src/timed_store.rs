//! A store that notes how long each change of a record takes, for `store_commit_seconds`.
//!
//! In: the calls of one worker's engine. Out: the same calls to the store behind it. The engine knows no clock, so whoever
//! owns the threads measures.

use std::sync::Arc;
use std::time::Instant;

use viaduct_codec::Message;
use viaduct_engine::Counter;
use viaduct_store::{Accepted, Key, Record, Store, StoreError, Ticket};

/// Upper bounds of the histogram in seconds, from memory to a disk that is broken.
pub(crate) const COMMIT_SECONDS: [f64; 12] =
    [0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];

/// How long the commits of one worker took.
#[derive(Debug, Default)]
pub(crate) struct CommitTimes {
    /// By the first bound that was not exceeded; the last are those over all bounds.
    pub(crate) counts: [Counter; COMMIT_SECONDS.len() + 1],
    pub(crate) nanoseconds: Counter,
}

/// The store of one worker with a watch.
pub(crate) struct TimedStore<S> {
    store: S,
    times: Arc<CommitTimes>,
}

impl<S: Store> TimedStore<S> {
    pub(crate) fn new(store: S, times: Arc<CommitTimes>) -> Self {
        Self { store, times }
    }

    fn timed<R>(&mut self, act: impl FnOnce(&mut S) -> R) -> R {
        let begin = Instant::now();
        let result = act(&mut self.store);
        let took = begin.elapsed();
        let place = COMMIT_SECONDS.iter().position(|bound| took.as_secs_f64() <= *bound);
        if let Some(counter) = self.times.counts.get(place.unwrap_or(COMMIT_SECONDS.len())) {
            counter.add(1);
        }
        self.times.nanoseconds.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        result
    }
}

impl<S: Store> Store for TimedStore<S> {
    fn append(&mut self, message: &Arc<Message>) -> Result<Accepted, StoreError> {
        // It hands over and does not wait; the clock would cost more than the call.
        self.store.append(message)
    }

    fn put(&mut self, record: Record) -> Result<Accepted, StoreError> {
        self.timed(|store| store.put(record))
    }

    fn delete(&mut self, key: &Key) -> Result<Accepted, StoreError> {
        self.timed(|store| store.delete(key))
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        self.store.load()
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        self.store.poll_committed()
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::ClientId;
    use viaduct_store::MemoryStore;

    use super::*;

    #[test]
    fn every_commit_is_counted_once() {
        let times: Arc<CommitTimes> = Arc::default();
        let mut store = TimedStore::new(MemoryStore::default(), Arc::clone(&times));
        for _ in 0..3 {
            store.delete(&Key::Session(ClientId::from("a"))).unwrap();
        }
        assert_eq!(times.counts.iter().map(Counter::get).sum::<u64>(), 3);
        assert!(times.nanoseconds.get() > 0);
    }
}
