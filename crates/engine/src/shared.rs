//! What all workers share: subscriptions, retained messages, permissions, and the bytes that all queues hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::authorize::Authorizer;
use crate::retained::RetainedMessages;
use crate::routes::Routes;

/// Made once and handed to every engine.
pub struct Shared {
    pub(crate) workers: u16,
    pub(crate) routes: Routes,
    pub(crate) retained: RetainedMessages,
    authorizer: ArcSwap<Box<dyn Authorizer>>,
    /// Counts the changes of `authorizer`, so that each worker notices that what it granted must be judged anew.
    rules: AtomicU64,
    /// Bytes in the queues of all sessions. Signed, because workers add and take away without waiting for each other.
    queued_bytes: AtomicI64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Shared {
    /// For `workers` engines (at least one), deciding by `authorizer`.
    #[must_use]
    pub fn new(workers: u16, authorizer: Box<dyn Authorizer>) -> Arc<Self> {
        Arc::new(Self {
            workers: workers.max(1),
            routes: Routes::new(),
            retained: RetainedMessages::new(),
            authorizer: ArcSwap::from_pointee(authorizer),
            rules: AtomicU64::new(0),
            queued_bytes: AtomicI64::new(0),
        })
    }

    /// Replaces the rules. What was granted under the old ones is judged anew by each engine in its next turn.
    pub fn set_authorizer(&self, authorizer: Box<dyn Authorizer>) {
        self.authorizer.store(Arc::new(authorizer));
        self.rules.fetch_add(1, Ordering::Release);
    }

    /// Subscriptions of the whole broker.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.routes.len()
    }

    /// Retained messages, and the bytes that they hold.
    #[must_use]
    pub fn retained(&self) -> (usize, u64) {
        self.retained.size()
    }

    /// The rules as they are now; each engine keeps them for as long as [`Shared::rules`] stays the same.
    pub(crate) fn authorizer(&self) -> Arc<Box<dyn Authorizer>> {
        self.authorizer.load_full()
    }

    pub(crate) fn rules(&self) -> u64 {
        self.rules.load(Ordering::Acquire)
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        u64::try_from(self.queued_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn change_queued_bytes(&self, by: i64) {
        self.queued_bytes.fetch_add(by, Ordering::Relaxed);
    }
}
