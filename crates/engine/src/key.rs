//! Names of workers, sessions and connections, and which worker a ClientID belongs to.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

/// One worker: one thread with the sessions that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u16);

/// A connection on its worker. Whoever drives the engine chooses it and never uses it again on that worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A session anywhere in the broker. Ordered by worker first, so that what goes to one worker lies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub(crate) worker: u16,
    pub(crate) index: u32,
    /// Differs for every session that ever had the index, so that a late message can't reach a stranger.
    pub(crate) generation: u32,
}

impl SessionKey {
    /// The session at a place of a worker. The engine makes its own; this is for whoever keeps routes without one.
    #[must_use]
    pub const fn new(worker: WorkerId, index: u32, generation: u32) -> Self {
        Self { worker: worker.0, index, generation }
    }

    /// A number that the worker of the session makes the key of again; never 0.
    pub(crate) fn mark(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_mark(worker: WorkerId, mark: u64) -> Option<Self> {
        let index = u32::try_from(mark & u64::from(u32::MAX)).ok()?;
        let generation = u32::try_from(mark >> 32).ok().filter(|_| mark != 0)?;
        Some(Self { worker: worker.0, index, generation })
    }
}

/// The worker that the session of `client_id` lives on, of `workers`.
#[must_use]
pub fn worker_of(client_id: &str, workers: u16) -> WorkerId {
    let hash = hash(client_id);
    WorkerId(u16::try_from(hash % u64::from(workers.max(1))).unwrap_or(0))
}

/// A hash that every worker computes alike. Choosing a worker or a segment by it needs no secret: a client that aims
/// at one gains nothing over using one ClientID or topic.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_always_lives_on_the_same_worker_and_many_spread() {
        let mut counts = [0; 4];
        for n in 0..4_000 {
            let worker = worker_of(&format!("client-{n}"), 4);
            assert_eq!(worker, worker_of(&format!("client-{n}"), 4));
            counts[usize::from(worker.0)] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1_200).contains(&count)), "{counts:?}");
    }
}
