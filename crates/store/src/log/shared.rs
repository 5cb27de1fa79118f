//! What the doors and the thread of the log share.
//!
//! In: groups from the doors, progress from the thread. Out: each to the other. Locks are held for moments, never while a file is
//! written or synced.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use viaduct_codec::Settler;

use super::commits::CommitTimes;
use super::index::Index;
use super::unwritten::Unwritten;
use crate::Health;

/// Called with the number of a door when something became safe for it, or when the health of the log changed.
pub type Wake = Arc<dyn Fn(usize) + Send + Sync>;

/// What one worker wants to survive, all of it or nothing.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) door: usize,
    pub(super) ticket: u64,
    /// The highest number of a message in it, 0 for none.
    pub(super) last_id: u64,
    pub(super) body: Arc<Vec<u8>>,
}

/// One worker's side.
#[derive(Default)]
pub(super) struct DoorState {
    pub(super) committed: AtomicU64,
    pub(super) settler: Arc<Settler>,
    /// Every message that came through this door up to this number is in the index.
    pub(super) readable: AtomicU64,
    unwritten: Mutex<Unwritten>,
}

impl DoorState {
    pub(super) fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    index: Mutex<Index>,
    health: Mutex<Health>,
    pub(super) is_failing: AtomicBool,
    pub(super) doors: Vec<DoorState>,
    pub(super) next_id: AtomicU64,
    /// Bytes of groups that are handed over and not safe.
    pub(super) unwritten: AtomicU64,
    /// Bytes of all segments.
    pub(super) used: AtomicU64,
    /// Bytes that the disk has left, as last seen.
    pub(super) free: AtomicU64,
    pub(super) commits: CommitTimes,
    pub(super) wake: Wake,
}

#[derive(Default)]
struct Queue {
    groups: VecDeque<Group>,
    is_over: bool,
}

/// What the thread is to do next.
pub(super) struct Work {
    pub(super) groups: VecDeque<Group>,
    /// Nothing will come any more.
    pub(super) is_over: bool,
}

impl Shared {
    pub(super) fn new(doors: usize, index: Index, used: u64, wake: Wake) -> Self {
        Self {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            health: Mutex::new(Health::Healthy),
            is_failing: AtomicBool::new(false),
            doors: (0..doors).map(|_| DoorState::default()).collect(),
            next_id: AtomicU64::new(index.next_id),
            unwritten: AtomicU64::new(0),
            used: AtomicU64::new(used),
            free: AtomicU64::new(u64::MAX),
            commits: CommitTimes::default(),
            wake,
            index: Mutex::new(index),
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hand_over(&self, group: Group) {
        self.unwritten.fetch_add(group.body.len() as u64, Ordering::AcqRel);
        self.queue().groups.push_back(group);
        self.arrived.notify_one();
    }

    pub(super) fn has_groups(&self) -> bool {
        !self.queue().groups.is_empty()
    }

    pub(super) fn end(&self) {
        self.queue().is_over = true;
        self.arrived.notify_one();
    }

    /// Whatever was handed over, as soon as something is, or after `patience`.
    pub(super) fn next_work(&self, patience: Duration) -> Work {
        let queue = self.queue();
        let waited = self
            .arrived
            .wait_timeout_while(queue, patience, |queue| queue.groups.is_empty() && !queue.is_over)
            .unwrap_or_else(PoisonError::into_inner);
        let mut queue = waited.0;
        Work { groups: std::mem::take(&mut queue.groups), is_over: queue.is_over }
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how it is, and wakes all doors when that changed.
    pub(super) fn set_health(&self, health: Health) {
        let is_failing = health != Health::Healthy;
        let mut now = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if *now == health {
            return;
        }
        match &health {
            Health::Healthy => tracing::info!("the store writes again"),
            Health::Failing(reason) => tracing::error!(%reason, "the store can't write"),
        }
        *now = health;
        drop(now);
        self.is_failing.store(is_failing, Ordering::Release);
        (0..self.doors.len()).for_each(|door| (self.wake)(door));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
