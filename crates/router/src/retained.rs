//! Retained messages by topic, found by filter without looking at those that it can't match.
//!
//! A walk visits the branches that the filter leads into and no other, in the order of the levels, one by one. So it can
//! stop anywhere and be taken up later, while messages come and go: nobody has to hold a million of them, or a lock for
//! as long as that takes.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use viaduct_codec::{FilterRef, Message, Time, TopicName, TopicRef};

use crate::topics::{Children, ROOT, Topics};

/// The retained messages of some topics.
#[derive(Debug)]
pub struct Retained {
    topics: Topics<Arc<Message>>,
    /// The nodes of messages that expire, by when.
    expiring: BTreeSet<(Time, u32)>,
    len: usize,
    bytes: usize,
}

/// Where a walk is to be taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position(String);

impl Position {
    /// After the topic `text`, whether it has a message or not.
    #[must_use]
    pub fn after(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The topic that it is after.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Retained {
    fn default() -> Self {
        Self { topics: Topics::new(), expiring: BTreeSet::new(), len: 0, bytes: 0 }
    }
}

impl Retained {
    /// Topics that have a retained message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the messages hold, by [`Message::size`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Levels of topics that are kept, one at least.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.topics.len()
    }

    /// Bytes of the tree without its messages, near enough for a gauge.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.topics.memory() + self.expiring.len() * size_of::<(Time, u32)>() * 3 / 2
    }

    /// Makes `message` the retained one of its topic and gives back the one that it replaced.
    pub fn set(&mut self, message: Arc<Message>) -> Option<Arc<Message>> {
        let (size, expires) = (message.size(), message.expires);
        let (at, replaced) = self.topics.put(Arc::clone(&message).topic.as_str(), message)?;
        self.note_gone(at, replaced.as_deref());
        self.len += 1;
        self.bytes += size;
        self.expiring.extend(expires.map(|expires| (expires, at)));
        replaced
    }

    /// Removes the retained message of `topic`.
    pub fn clear(&mut self, topic: TopicRef<'_>) -> Option<Arc<Message>> {
        let (at, gone) = self.topics.take(topic.as_str())?;
        self.note_gone(at, Some(&gone));
        Some(gone)
    }

    /// The retained message of `topic`.
    #[must_use]
    pub fn get(&self, topic: TopicRef<'_>) -> Option<&Arc<Message>> {
        self.topics.value(self.topics.find(topic.as_str())?)
    }

    /// Hands every message that `filter` matches to `take`.
    ///
    /// A filter that begins with a wildcard does not match a topic that begins with `$` (MQTT-4.7.2-1).
    pub fn matches(&self, filter: FilterRef<'_>, take: &mut impl FnMut(&Arc<Message>)) {
        let mut walk = Walk::begin(&self.topics, filter.as_str(), None);
        while let Some(at) = walk.next() {
            self.topics.value(at).filter(|_| walk.fits).into_iter().for_each(&mut *take);
        }
    }

    /// Appends at most `limit` messages that `filter` matches to `found`, beginning after the topic `after`, which may
    /// have lost its message meanwhile. The filter has no more than these when fewer are appended.
    pub fn matches_from(
        &self,
        filter: FilterRef<'_>,
        after: Option<&TopicName>,
        limit: usize,
        found: &mut Vec<Arc<Message>>,
    ) {
        self.append(Walk::begin(&self.topics, filter.as_str(), after.map(TopicName::as_str)), limit, usize::MAX, found);
    }

    /// [`Retained::matches_from`] with a bound on the work as well: `+/alarm` may look at a million branches and find
    /// nothing, and whoever holds a lock meanwhile wants to let go of it. From `position` on, `None` being the
    /// beginning, visits at most `visits` branches and appends at most `limit` messages, one at least of either, and says
    /// where to go on; `None` when the walk is over.
    pub fn matches_within(
        &self,
        filter: FilterRef<'_>,
        position: Option<&Position>,
        limit: usize,
        visits: usize,
        found: &mut Vec<Arc<Message>>,
    ) -> Option<Position> {
        let after = position.map(|position| position.0.as_str());
        self.append(Walk::begin(&self.topics, filter.as_str(), after), limit.max(1), visits.max(1), found)
    }

    /// Removes messages that are expired at `now`, at most `limit`, and gives them back, the longest expired first. Looks
    /// at no others.
    pub fn remove_expired(&mut self, now: Time, limit: usize) -> Vec<Arc<Message>> {
        let mut expired = Vec::new();
        while expired.len() < limit
            && let Some(&(expires, at)) = self.expiring.first()
            && expires <= now
        {
            let topic = self.topics.value(at).map(|message| message.topic.clone());
            expired.extend(topic.and_then(|topic| self.clear(topic.by_ref())));
            self.expiring.remove(&(expires, at));
        }
        expired
    }

    fn append(
        &self,
        mut walk: Walk<'_>,
        limit: usize,
        visits: usize,
        found: &mut Vec<Arc<Message>>,
    ) -> Option<Position> {
        let (mut left, mut visits) = (limit, visits);
        while left > 0 && visits > 0 {
            let at = walk.next()?;
            visits -= 1;
            if let Some(message) = self.topics.value(at).filter(|_| walk.fits) {
                found.push(Arc::clone(message));
                left -= 1;
            }
        }
        Some(walk.position())
    }

    fn note_gone(&mut self, at: u32, message: Option<&Message>) {
        if let Some(message) = message {
            self.len -= 1;
            self.bytes -= message.size();
            if let Some(expires) = message.expires {
                self.expiring.remove(&(expires, at));
            }
        }
    }
}

/// A walk over the nodes that a filter leads to, each before those below it.
struct Walk<'a> {
    topics: &'a Topics<Arc<Message>>,
    /// One for each level on the way down.
    steps: Vec<Step<'a>>,
    /// Whether the filter matches the topic of the node that [`Walk::next`] gave last.
    fits: bool,
}

/// What is still to be visited at one level.
struct Step<'a> {
    at: u32,
    nodes: Nodes<'a>,
    /// The level of the node visited last; `None` before the first.
    here: Option<&'a [u8]>,
    /// What is to be matched below each of `nodes`.
    below: Below<'a>,
}

enum Nodes<'a> {
    /// Those for `+` and `#`.
    Children(Children<'a>),
    /// The one for a literal level.
    One(Option<(&'a [u8], u32)>),
}

#[derive(Clone, Copy)]
enum Below<'a> {
    /// All that there is: a `#` was met.
    Everything,
    /// The rest of the filter; `None` at its end.
    Rest(Option<&'a str>),
}

impl<'a> Walk<'a> {
    /// From the beginning, or from what comes after the topic `after`, all that lies below it included.
    fn begin(topics: &'a Topics<Arc<Message>>, filter: &'a str, after: Option<&'a str>) -> Self {
        let mut walk = Self { topics, steps: Vec::new(), fits: false };
        let (mut at, mut below) = (ROOT, Below::Rest(Some(filter)));
        for level in after.into_iter().flat_map(|after| after.split('/')) {
            let Some(mut step) = walk.step(at, below, Some(level)) else { return walk };
            step.here = Some(level.as_bytes());
            let is_on_the_way = step.leads_to(level, below);
            below = step.below;
            walk.steps.push(step);
            let Some(child) = topics.child(at, level).filter(|_| is_on_the_way) else { return walk };
            at = child;
        }
        walk.steps.extend(walk.step(at, below, None));
        walk
    }

    /// The next node.
    fn next(&mut self) -> Option<u32> {
        loop {
            let step = self.steps.last_mut()?;
            let Some((level, child)) = step.next(self.topics) else {
                self.steps.pop();
                continue;
            };
            step.here = Some(level);
            let below = step.below;
            // `a/#` also matches `a`.
            self.fits = matches!(below, Below::Everything | Below::Rest(None | Some("#")));
            self.steps.extend(self.step(child, below, None));
            return Some(child);
        }
    }

    /// Where the walk stands: after the node that came last.
    fn position(&self) -> Position {
        // The lowest step has not begun when there is something below the node that came last.
        let levels: Vec<_> = self.steps.iter().map_while(|step| step.here).map(String::from_utf8_lossy).collect();
        Position(levels.join("/"))
    }

    /// What is to be visited right below `at`, after the level `after` if there is one.
    fn step(&self, at: u32, below: Below<'a>, after: Option<&str>) -> Option<Step<'a>> {
        if !self.topics.leads_on(at) {
            return None;
        }
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (nodes, below) = match below {
            Below::Rest(None) => return None,
            Below::Everything | Below::Rest(Some("#")) => {
                (Nodes::Children(self.topics.children(at, start)), Below::Everything)
            }
            Below::Rest(Some(rest)) => {
                let (level, rest) = match rest.split_once('/') {
                    Some((level, rest)) => (level, Some(rest)),
                    None => (rest, None),
                };
                let nodes = if level == "+" {
                    Nodes::Children(self.topics.children(at, start))
                } else {
                    let is_left = after.is_none_or(|after| level > after);
                    let child = if is_left { self.topics.child(at, level) } else { None };
                    Nodes::One(child.map(|child| (level.as_bytes(), child)))
                };
                (nodes, Below::Rest(rest))
            }
        };
        Some(Step { at, nodes, here: None, below })
    }
}

impl<'a> Step<'a> {
    fn next(&mut self, topics: &'a Topics<Arc<Message>>) -> Option<(&'a [u8], u32)> {
        let children = match &mut self.nodes {
            Nodes::One(one) => return one.take(),
            Nodes::Children(children) => children,
        };
        let (level, child) = children.next()?;
        if self.at != ROOT || level.first() != Some(&b'$') {
            return Some((level, child));
        }
        // MQTT-4.7.2-1. However many such levels there are, they lie together, and `%` is what comes after them.
        *children = topics.children(ROOT, Bound::Included("%"));
        children.next()
    }

    /// Whether the node of `level` is one of these; `before` is what was to be matched above them.
    fn leads_to(&self, level: &str, before: Below<'a>) -> bool {
        match (&self.nodes, before) {
            (Nodes::Children(_), _) => self.at != ROOT || !level.starts_with('$'),
            (Nodes::One(_), Below::Rest(Some(rest))) => rest.split('/').next() == Some(level),
            (Nodes::One(_), Below::Rest(None) | Below::Everything) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, expires: Option<u64>) -> Arc<Message> {
        Arc::new(Message {
            topic: TopicName::new(topic).unwrap(),
            payload: bytes::Bytes::from_static(b"x"),
            qos: viaduct_codec::QoS::AtMostOnce,
            retain: true,
            received: Time::default(),
            expires: expires.map(Time::from_millis),
            properties: None,
        })
    }

    fn names(found: &[Arc<Message>]) -> Vec<&str> {
        found.iter().map(|message| message.topic.as_str()).collect()
    }

    #[test]
    fn a_walk_goes_on_where_its_last_topic_has_gone() {
        let mut retained = Retained::default();
        for topic in ["a/1", "a/1/x", "a/2", "a/3", "$a", "b"] {
            retained.set(message(topic, None));
        }
        let filter = FilterRef::new("#").unwrap();
        let mut found = Vec::new();
        retained.matches_from(filter, None, 1, &mut found);
        assert_eq!(names(&found), ["a/1"]);
        retained.clear(TopicRef::new("a/1").unwrap());
        retained.clear(TopicRef::new("a/1/x").unwrap());
        retained.set(message("a/1/y", None));
        let after = found[0].topic.clone();
        retained.matches_from(filter, Some(&after), 10, &mut found);
        assert_eq!(names(&found), ["a/1", "a/1/y", "a/2", "a/3", "b"]);
    }

    #[test]
    fn a_walk_that_finds_nothing_still_ends_its_turn() {
        let mut retained = Retained::default();
        for n in 0..100 {
            retained.set(message(&format!("{n}/quiet"), None));
        }
        retained.set(message("50/alarm", None));
        let filter = FilterRef::new("+/alarm").unwrap();
        let (mut found, mut turns) = (Vec::new(), 1);
        let mut position = retained.matches_within(filter, None, 10, 8, &mut found);
        while position.is_some() {
            position = retained.matches_within(filter, position.as_ref(), 10, 8, &mut found);
            turns += 1;
        }
        assert_eq!((names(&found), turns), (vec!["50/alarm"], 13));
    }

    #[test]
    fn what_expires_is_found_without_looking_at_the_rest() {
        let mut retained = Retained::default();
        for (topic, expires) in [("a", Some(3)), ("b", None), ("c", Some(1)), ("d", Some(2)), ("e", Some(9))] {
            retained.set(message(topic, expires));
        }
        retained.set(message("d", None));
        retained.clear(TopicRef::new("e").unwrap());
        assert_eq!(retained.expiring.len(), 2);
        assert_eq!(names(&retained.remove_expired(Time::from_millis(0), 9)), [""; 0]);
        assert_eq!(names(&retained.remove_expired(Time::from_millis(3), 1)), ["c"]);
        assert_eq!(names(&retained.remove_expired(Time::from_millis(3), 9)), ["a"]);
        assert_eq!((retained.len(), retained.bytes()), (2, 2 * message("b", None).size()));
        retained.clear(TopicRef::new("b").unwrap());
        retained.clear(TopicRef::new("d").unwrap());
        assert_eq!((retained.len(), retained.bytes(), retained.nodes()), (0, 0, 1));
    }

    #[test]
    fn the_deepest_topic_is_walked_to() {
        let mut retained = Retained::default();
        let deep = "/".repeat(65_534);
        retained.set(message(&deep, None));
        let mut count = 0;
        retained.matches(FilterRef::new("#").unwrap(), &mut |_| count += 1);
        retained.matches(FilterRef::new(&deep).unwrap(), &mut |_| count += 1);
        assert_eq!(count, 2);
        let mut found = Vec::new();
        let after = TopicName::new(&deep).unwrap();
        retained.matches_from(FilterRef::new("#").unwrap(), Some(&after), 1, &mut found);
        assert!(found.is_empty());
    }
}
