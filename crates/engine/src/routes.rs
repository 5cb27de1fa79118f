//! Who hears what, shared by all workers: the filter trie in segments, each with its lock and its stamp.
//!
//! A lock is held for one change or one match, never while a message is handed on. A match runs only when a worker
//! has nothing cached for the topic, or when the stamps of its two segments (that of the topic's first level, and
//! the one of filters that begin with a wildcard) have moved since. So a subscribe makes stale what lies in its own
//! segment and nothing else. Without the cache a message that comes alone takes 1.8 times the instructions (docs/hot-path.md).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;
use viaduct_codec::{FilterRef, TopicName, TopicRef};
use viaduct_router::{Matches, RouteSet, Subscription, Subscriptions};

use crate::key::{SessionKey, hash};
use crate::limits::{CACHED_ROUTES, SEGMENTS};

/// The subscriptions of the whole broker.
#[derive(Debug)]
pub struct Routes {
    /// Filters with a literal first level, by that level.
    literal: Box<[Segment]>,
    /// Filters that begin with `+` or `#`.
    wildcard: Segment,
    total: AtomicUsize,
}

#[derive(Debug, Default)]
struct Segment {
    trie: RwLock<Subscriptions<SessionKey>>,
    stamp: AtomicU64,
}

/// What the segments of a topic looked like when it was matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    literal: u64,
    wildcard: u64,
}

/// The segment that a topic's or filter's first level belongs to.
pub(crate) fn segment_of(text: &str) -> usize {
    let first = text.split('/').next().unwrap_or_default();
    usize::try_from(hash(first)).unwrap_or(usize::MAX) & (SEGMENTS - 1)
}

/// The filter behind `$share/<name>/`, or the filter itself.
pub(crate) fn behind_share(filter: FilterRef<'_>) -> FilterRef<'_> {
    filter.share().map_or(filter, |share| share.filter)
}

/// Whether the filter, behind its share name, begins with a wildcard.
pub(crate) fn begins_with_wildcard(filter: FilterRef<'_>) -> bool {
    behind_share(filter).as_str().starts_with(['+', '#'])
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for RouteCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Routes {
    /// Nobody hears anything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            literal: (0..SEGMENTS).map(|_| Segment::default()).collect(),
            wildcard: Segment::default(),
            total: AtomicUsize::new(0),
        }
    }

    /// Adds or replaces a subscription; `true` when the session did not have it.
    pub fn subscribe(&self, filter: FilterRef<'_>, key: SessionKey, subscription: Subscription) -> bool {
        let new = self.change(filter, |trie| trie.subscribe(filter, key, subscription));
        if new {
            self.total.fetch_add(1, Ordering::Relaxed);
        }
        new
    }

    /// Removes a subscription; `false` when there was none.
    pub(crate) fn unsubscribe(&self, filter: FilterRef<'_>, key: SessionKey) -> bool {
        let removed = self.change(filter, |trie| trie.unsubscribe(filter, key));
        if removed {
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
        removed
    }

    /// Says whether a member of a share group has a connection: members that have one are preferred.
    pub(crate) fn set_online(&self, filter: FilterRef<'_>, key: SessionKey, online: bool) {
        self.change(filter, |trie| trie.set_online(filter, key, online));
    }

    /// Subscriptions of the whole broker.
    pub(crate) fn len(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn segment(&self, text: &str, wildcard: bool) -> &Segment {
        if wildcard { &self.wildcard } else { self.literal.get(segment_of(text)).unwrap_or(&self.wildcard) }
    }

    fn change<R>(&self, filter: FilterRef<'_>, f: impl FnOnce(&mut Subscriptions<SessionKey>) -> R) -> R {
        let segment = self.segment(behind_share(filter).as_str(), begins_with_wildcard(filter));
        let mut trie = segment.trie.write();
        let result = f(&mut trie);
        // Inside the lock, so that whoever matches after it sees the new stamp with the new trie.
        segment.stamp.fetch_add(1, Ordering::Release);
        result
    }

    fn stamp(&self, segment: usize) -> Stamp {
        Stamp {
            literal: self.literal.get(segment).map_or(0, |segment| segment.stamp.load(Ordering::Acquire)),
            wildcard: self.wildcard.stamp.load(Ordering::Acquire),
        }
    }

    fn resolve(&self, topic: TopicRef<'_>, segment: usize, scratch: &mut Matches<SessionKey>) -> RouteSet<SessionKey> {
        if let Some(segment) = self.literal.get(segment) {
            segment.trie.read().matches(topic, scratch);
        }
        self.wildcard.trie.read().matches(topic, scratch);
        scratch.keep_slices(topic);
        scratch.freeze()
    }
}

/// What one worker remembers of who hears a topic.
#[derive(Debug)]
pub struct RouteCache {
    entries: HashMap<TopicName, Cached, foldhash::fast::RandomState>,
    /// The topics of `entries` in the order of their coming; the next to go is at `oldest`.
    ring: Vec<TopicName>,
    oldest: usize,
    scratch: Matches<SessionKey>,
}

#[derive(Debug)]
struct Cached {
    segment: usize,
    stamp: Stamp,
    routes: Arc<RouteSet<SessionKey>>,
}

impl Cached {
    /// The routes, matched again if a segment of the topic has changed.
    fn fresh(
        &mut self,
        routes: &Routes,
        topic: TopicRef<'_>,
        scratch: &mut Matches<SessionKey>,
    ) -> Arc<RouteSet<SessionKey>> {
        let stamp = routes.stamp(self.segment);
        if stamp != self.stamp {
            self.routes = Arc::new(routes.resolve(topic, self.segment, scratch));
            self.stamp = stamp;
        }
        Arc::clone(&self.routes)
    }
}

impl RouteCache {
    /// Nothing is remembered.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: HashMap::default(), ring: Vec::new(), oldest: 0, scratch: Matches::default() }
    }

    /// Who hears `topic` now.
    pub(crate) fn look_up(&mut self, routes: &Routes, topic: &TopicName) -> Arc<RouteSet<SessionKey>> {
        match self.entries.get_mut(topic.as_str()) {
            Some(cached) => cached.fresh(routes, topic.by_ref(), &mut self.scratch),
            None => self.resolve(routes, topic.clone()),
        }
    }

    /// The same for a topic that is not owned yet, with its own text. One look into the table: what is remembered lends
    /// its name, too.
    pub fn find(&mut self, routes: &Routes, topic: TopicRef<'_>) -> (TopicName, Arc<RouteSet<SessionKey>>) {
        if let Some((name, cached)) = self.entries.get_key_value_mut(topic.as_str()) {
            return (name.clone(), cached.fresh(routes, topic, &mut self.scratch));
        }
        let name = topic.to_owned();
        let found = self.resolve(routes, name.clone());
        (name, found)
    }

    fn resolve(&mut self, routes: &Routes, topic: TopicName) -> Arc<RouteSet<SessionKey>> {
        let segment = segment_of(topic.as_str());
        // Read before the match: a change in between makes the entry stale at once instead of wrong for ever.
        let stamp = routes.stamp(segment);
        let found = Arc::new(routes.resolve(topic.by_ref(), segment, &mut self.scratch));
        self.remember(topic.clone());
        self.entries.insert(topic, Cached { segment, stamp, routes: Arc::clone(&found) });
        found
    }

    /// The topic's own text when it is remembered, so that a publish need not copy it.
    pub(crate) fn name(&self, topic: TopicRef<'_>) -> Option<TopicName> {
        self.entries.get_key_value(topic.as_str()).map(|(name, _)| name.clone())
    }

    fn remember(&mut self, topic: TopicName) {
        if self.ring.len() < CACHED_ROUTES {
            self.ring.push(topic);
        } else if let Some(place) = self.ring.get_mut(self.oldest) {
            let gone = std::mem::replace(place, topic);
            self.entries.remove(gone.as_str());
            self.oldest = (self.oldest + 1) % CACHED_ROUTES;
        }
    }
}
