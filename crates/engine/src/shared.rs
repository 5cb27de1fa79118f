//! What all workers share: subscriptions, retained messages, permissions, and the bytes that all queues hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::RwLock;
use viaduct_codec::SessionId;

use crate::authorize::Authorizer;
use crate::key::SessionKey;
use crate::retained::RetainedMessages;
use crate::routes::Routes;

/// A session that outlives its connection, as everybody who publishes to it sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Durable {
    /// Its number in the store.
    pub(crate) id: SessionId,
    /// It has no connection.
    pub(crate) away: bool,
}

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
    /// The numbers in the store of sessions that outlive their connections.
    durable: RwLock<HashMap<SessionKey, Durable>>,
    next_session_id: AtomicU64,
    /// Engines that have restored what the store kept.
    restored: AtomicUsize,
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
            durable: RwLock::default(),
            next_session_id: AtomicU64::new(1),
            restored: AtomicUsize::new(0),
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

    /// One more engine has restored its sessions.
    pub(crate) fn note_restored(&self) {
        self.restored.fetch_add(1, Ordering::Release);
    }

    /// Whether the sessions of all workers are there, so that what is published reaches whoever is owed it.
    pub(crate) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire) >= usize::from(self.workers)
    }

    /// Numbers below `next` were given to sessions before.
    pub(crate) fn reserve_session_ids(&self, next: SessionId) {
        self.next_session_id.fetch_max(next.0, Ordering::Relaxed);
    }

    /// A number that no session ever had.
    pub(crate) fn new_session_id(&self) -> SessionId {
        SessionId(self.next_session_id.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn set_durable(&self, key: SessionKey, durable: Durable) {
        self.durable.write().insert(key, durable);
    }

    pub(crate) fn forget_durable(&self, key: SessionKey) {
        self.durable.write().remove(&key);
    }

    /// What the store knows of a session; no number when it has ended meanwhile.
    pub(crate) fn durable(&self, key: SessionKey) -> Durable {
        self.durable.read().get(&key).copied().unwrap_or_default()
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        u64::try_from(self.queued_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn change_queued_bytes(&self, by: i64) {
        self.queued_bytes.fetch_add(by, Ordering::Relaxed);
    }
}
