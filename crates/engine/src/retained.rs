//! The retained messages of the whole broker, in segments by first topic level, and the walk that hands them to a new
//! subscription piece by piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use viaduct_codec::{FilterRef, Message, Time, TopicFilter, TopicRef};
use viaduct_router::{Position, Retained};

use crate::limits::{REPLAY_VISITS, SEGMENTS};
use crate::routes::{begins_with_wildcard, segment_of};
use crate::settings::RetainedSettings;

/// What became of a message that asked to be retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is the retained message of its topic now, or, with an empty payload, the topic has none any more. A later change has a
    /// higher number. What was retained before comes with it.
    Made(u64, Option<Arc<Message>>),
    /// A limit forbids it; what was retained before stays.
    Refused,
}

/// The retained messages.
#[derive(Debug)]
pub(crate) struct RetainedMessages {
    segments: Box<[RwLock<Retained>]>,
    messages: AtomicUsize,
    /// Of `messages`, the broker's own below `$SYS/`, which no limit counts.
    own: AtomicUsize,
    bytes: AtomicU64,
    /// Counts the changes, each under the lock of its segment.
    version: AtomicU64,
}

/// Where a walk over the retained messages of one filter stands.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    filter: TopicFilter,
    segment: usize,
    after: Option<Position>,
}

impl Walk {
    /// Goes on where another walk over the same filter stood.
    pub(crate) fn goes_on(mut self, segment: usize, after: Option<Position>) -> Self {
        // Where all segments are looked through, it says which; otherwise the filter does.
        if begins_with_wildcard(self.filter.by_ref()) {
            self.segment = segment;
        }
        Self { after, ..self }
    }

    /// Where it stands: the segment, and the place in it.
    pub(crate) fn place(self) -> (usize, Option<Position>) {
        (self.segment, self.after)
    }

    /// Whether it is over what `filter` matches.
    pub(crate) fn is_for(&self, filter: FilterRef<'_>) -> bool {
        self.filter.by_ref() == filter
    }
}

impl RetainedMessages {
    pub(crate) fn new() -> Self {
        Self {
            segments: (0..SEGMENTS).map(|_| RwLock::default()).collect(),
            messages: AtomicUsize::new(0),
            own: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            version: AtomicU64::new(1),
        }
    }

    /// Changes below `next` have been numbered before.
    pub(crate) fn reserve_versions(&self, next: u64) {
        self.version.fetch_max(next, Ordering::Relaxed);
    }

    /// Messages and the bytes that they hold.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Makes `message` the retained one of its topic in place of another, whatever its QoS (MQTT-3.3.1-5, MQTT-3.3.1-5 of
    /// 3.1.1, MQTT-3.3.1-7 of 3.1.1); an empty payload clears and is not kept itself (MQTT-3.3.1-6, MQTT-3.3.1-10 of 3.1.1,
    /// MQTT-3.3.1-7, MQTT-3.3.1-11 of 3.1.1). No session owns them (MQTT-3.1.2-7 of 3.1.1).
    pub(crate) fn keep(&self, message: &Arc<Message>, limits: &RetainedSettings) -> Change {
        let topic = message.topic.by_ref();
        let Some(segment) = self.segments.get(segment_of(topic.as_str())) else { return Change::Refused };
        if message.payload.is_empty() {
            let mut tree = segment.write();
            let version = self.version.fetch_add(1, Ordering::Relaxed);
            let before = tree.clear(topic);
            self.gone(before.clone());
            return Change::Made(version, before);
        }
        if limits.max_payload.is_some_and(|max| message.payload.len() > max) {
            return Change::Refused;
        }
        let mut tree = segment.write();
        let counted = self.messages.load(Ordering::Relaxed).saturating_sub(self.own.load(Ordering::Relaxed));
        let full = limits.max_messages.is_some_and(|max| counted >= max);
        if full && !is_own(message) && tree.get(topic).is_none() {
            return Change::Refused;
        }
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let replaced = tree.set(Arc::clone(message));
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.own.fetch_add(usize::from(is_own(message)), Ordering::Relaxed);
        self.bytes.fetch_add(message.size() as u64, Ordering::Relaxed);
        self.gone(replaced.clone());
        Change::Made(version, replaced)
    }

    /// The change that `message` made is no more, and `before` holds again, unless somebody has changed it since.
    pub(crate) fn undo(&self, message: &Arc<Message>, before: Option<&Arc<Message>>) {
        let topic = message.topic.by_ref();
        let Some(segment) = self.segments.get(segment_of(topic.as_str())) else { return };
        let mut tree = segment.write();
        let is_ours = match tree.get(topic) {
            Some(now) => Arc::ptr_eq(now, message),
            None => message.payload.is_empty(),
        };
        if !is_ours {
            return;
        }
        self.gone(tree.clear(topic));
        if let Some(before) = before {
            self.messages.fetch_add(1, Ordering::Relaxed);
            self.own.fetch_add(usize::from(is_own(before)), Ordering::Relaxed);
            self.bytes.fetch_add(before.size() as u64, Ordering::Relaxed);
            self.gone(tree.set(Arc::clone(before)));
        }
    }

    /// Removes expired messages, at most `limit` of them, each with the number of that change.
    pub(crate) fn remove_expired(&self, now: Time, limit: usize) -> Vec<(Arc<Message>, u64)> {
        let mut removed = Vec::new();
        for segment in &self.segments {
            let mut tree = segment.write();
            for message in tree.remove_expired(now, limit - removed.len()) {
                self.gone(Some(Arc::clone(&message)));
                removed.push((message, self.version.fetch_add(1, Ordering::Relaxed)));
            }
        }
        removed
    }

    /// The retained message of `topic`.
    pub(crate) fn get(&self, topic: TopicRef<'_>) -> Option<Arc<Message>> {
        self.segments.get(segment_of(topic.as_str()))?.read().get(topic).cloned()
    }

    /// A walk over everything that `filter`, which is not a shared one, matches.
    pub(crate) fn walk(filter: FilterRef<'_>) -> Walk {
        let segment = if begins_with_wildcard(filter) { 0 } else { segment_of(filter.as_str()) };
        Walk { filter: filter.to_owned(), segment, after: None }
    }

    /// The next at most `limit` messages of `walk` into `found`; `false` when the walk is over.
    pub(crate) fn step(&self, walk: &mut Walk, limit: usize, found: &mut Vec<Arc<Message>>) -> bool {
        let everywhere = begins_with_wildcard(walk.filter.by_ref());
        while let Some(segment) = self.segments.get(walk.segment) {
            let wanted = limit.saturating_sub(found.len());
            if wanted == 0 {
                return true;
            }
            let filter = walk.filter.by_ref();
            walk.after = segment.read().matches_within(filter, walk.after.as_ref(), wanted, REPLAY_VISITS, found);
            if walk.after.is_some() {
                return true;
            }
            if !everywhere {
                return false;
            }
            walk.segment += 1;
        }
        false
    }

    fn gone(&self, message: Option<Arc<Message>>) {
        if let Some(message) = message {
            self.messages.fetch_sub(1, Ordering::Relaxed);
            self.own.fetch_sub(usize::from(is_own(&message)), Ordering::Relaxed);
            self.bytes.fetch_sub(message.size() as u64, Ordering::Relaxed);
        }
    }
}

fn is_own(message: &Message) -> bool {
    message.topic.as_str().starts_with("$SYS/")
}
