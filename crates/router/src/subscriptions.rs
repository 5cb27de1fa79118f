//! The filters of the broker and who holds them, ordinary and shared.

use smallvec::SmallVec;
use viaduct_codec::{FilterRef, Slice, SubscribeOptions, TopicRef, VarInt};

use crate::holders::Ending;
use crate::tree::{ROOT, Tree};
use crate::{Matches, SharedRoute};

/// How one subscriber holds one filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// As granted.
    pub options: SubscribeOptions,
    /// Goes with every message that it brings.
    pub id: Option<VarInt>,
    /// Each message that it brings needs a permission check of its own.
    pub checked: bool,
    /// Its holder outlives its connection, so what it is owed must be kept.
    pub durable: bool,
    /// Of the topics that the filter matches, those that it is for. Not looked at in share groups.
    pub slice: Slice,
}

/// Filters and who holds them. `K` names a subscriber.
#[derive(Debug)]
pub struct Subscriptions<K> {
    tree: Tree<Ending<K>>,
    len: usize,
    /// Bytes that the endings hold beyond their nodes.
    endings: usize,
}

impl<K: Copy + Ord> Default for Subscriptions<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Ord> Subscriptions<K> {
    /// Nobody holds anything.
    #[must_use]
    pub fn new() -> Self {
        Self { tree: Tree::new(), len: 0, endings: 0 }
    }

    /// Subscriptions, memberships of share groups included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Levels of filters that are kept, one at least: what should be small again when subscriptions have gone.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.tree.len()
    }

    /// Bytes in memory, near enough for a gauge.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.tree.memory() + self.endings
    }

    /// Gives `key` the filter, or replaces how it holds it (MQTT-3.8.4-3); `true` when it did not hold it. A new member
    /// of a share group counts as connected.
    pub fn subscribe(&mut self, filter: FilterRef<'_>, key: K, subscription: Subscription) -> bool {
        let share = filter.share();
        let Some(at) = self.tree.make(share.map_or(filter, |share| share.filter).as_str()) else { return false };
        let is_new = self.change(at, |ending| match share {
            None => ending.put(key, subscription),
            Some(_) => ending.join(filter.as_str(), key, subscription),
        });
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes the filter from `key`; `false` when it did not hold it. `t` and `$share/g/t` are different filters.
    pub fn unsubscribe(&mut self, filter: FilterRef<'_>, key: K) -> bool {
        let share = filter.share();
        let Some(at) = self.tree.find(share.map_or(filter, |share| share.filter).as_str()) else { return false };
        let removed = self.change(at, |ending| match share {
            None => ending.take(key),
            Some(_) => ending.leave(filter.as_str(), key),
        });
        if removed {
            self.len -= 1;
            self.tree.prune(at, Ending::is_empty);
        }
        removed
    }

    /// Says whether a member of the share group `filter` has a connection; `false` when it is no member.
    pub fn set_online(&mut self, filter: FilterRef<'_>, key: K, online: bool) -> bool {
        let Some(share) = filter.share() else { return false };
        let Some(at) = self.tree.find(share.filter.as_str()) else { return false };
        let group = self.tree.get_mut(at).and_then(|node| node.value.group_mut(filter.as_str()));
        group.is_some_and(|group| group.set_online(key, online))
    }

    /// The share group `filter`, the whole `$share/<name>/<filter>`, as it is now: to find another member for a message
    /// that one can't take any more. `None` when nobody is in it, or the filter is not a shared one.
    #[must_use]
    pub fn shared_group(&self, filter: FilterRef<'_>) -> Option<SharedRoute<K>> {
        let at = self.tree.find(filter.share()?.filter.as_str())?;
        Some(self.tree.get(at)?.value.group(filter.as_str())?.route())
    }

    /// Adds everybody who hears `topic` to `into`.
    ///
    /// Only what matches is found (MQTT-3.3.2-3, MQTT-3.3.2-3 of 3.1.1). A filter that begins with a wildcard does not match a
    /// topic that begins with `$` (MQTT-4.7.2-1).
    pub fn matches(&self, topic: TopicRef<'_>, into: &mut Matches<K>) {
        // Paths that a `+` opened: a node, and the part of the topic that is still to be matched below it. Each level
        // opens one at most, and the latest is followed first, so there are never more than the topic has levels.
        let mut paths: SmallVec<[(u32, Option<&str>); 16]> = SmallVec::new();
        paths.push((ROOT, Some(topic.as_str())));
        let is_dollar = topic.is_dollar();
        while let Some((at, rest)) = paths.pop() {
            let (mut at, mut rest) = (at, rest);
            while let Some(node) = self.tree.get(at) {
                let wildcards = at != ROOT || !is_dollar;
                // `a/#` also matches `a`, so it is asked before what is left is looked at.
                if wildcards && let Some(multi) = node.multi().and_then(|child| self.tree.get(child)) {
                    multi.value.gather(into);
                }
                let Some(left) = rest else {
                    node.value.gather(into);
                    break;
                };
                let (level, below) = match left.split_once('/') {
                    Some((level, below)) => (level, Some(below)),
                    None => (left, None),
                };
                if wildcards && let Some(single) = node.single() {
                    paths.push((single, below));
                }
                let Some(child) = self.tree.literal(at, level) else { break };
                (at, rest) = (child, below);
            }
        }
    }

    fn change(&mut self, at: u32, change: impl FnOnce(&mut Ending<K>) -> bool) -> bool {
        let Some(node) = self.tree.get_mut(at) else { return false };
        let before = node.value.memory();
        let changed = change(&mut node.value);
        self.endings = self.endings - before + node.value.memory();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> FilterRef<'_> {
        FilterRef::new(text).unwrap()
    }

    #[test]
    fn churn_leaves_nothing_behind() {
        let mut all = Subscriptions::new();
        let empty = all.memory();
        let filters: Vec<String> = (0..200).map(|n| format!("a/{}/+/{n}", n % 7)).collect();
        for round in 0..3 {
            for key in 0..10_u32 {
                for plain in &filters {
                    let shared = format!("$share/g/{plain}");
                    assert!(all.subscribe(filter(plain), key, Subscription::default()));
                    assert!(all.subscribe(filter(&shared), key, Subscription::default()));
                    assert!(!all.subscribe(filter(&shared), key, Subscription::default()));
                }
            }
            assert_eq!((all.len(), all.nodes()), (4_000, 1 + 1 + 7 + 7 + 200), "round {round}");
            assert!(all.memory() > empty);
            for key in 0..10_u32 {
                for plain in &filters {
                    let shared = format!("$share/g/{plain}");
                    assert!(all.unsubscribe(filter(plain), key));
                    assert!(!all.unsubscribe(filter(plain), key));
                    assert!(all.unsubscribe(filter(&shared), key));
                }
            }
            assert!(all.is_empty());
            assert_eq!((all.nodes(), all.memory()), (1, empty), "round {round}");
        }
    }

    #[test]
    fn a_share_group_is_its_whole_filter_and_no_ordinary_one() {
        let mut all = Subscriptions::new();
        all.subscribe(filter("$share/g/a/b"), 1_u8, Subscription::default());
        all.subscribe(filter("$share/h/a/b"), 2, Subscription::default());
        let members = |all: &Subscriptions<u8>, text| all.shared_group(filter(text)).map(|group| group.members().len());
        assert_eq!(members(&all, "$share/g/a/b"), Some(1));
        assert_eq!(members(&all, "$share/g/a"), None);
        assert_eq!(members(&all, "a/b"), None);
        assert!(!all.unsubscribe(filter("a/b"), 1));
        assert!(!all.unsubscribe(filter("$share/g/a/b"), 2));
        assert!(all.set_online(filter("$share/g/a/b"), 1, false));
        assert!(!all.set_online(filter("$share/g/a/b"), 2, false));
        assert!(!all.set_online(filter("a/b"), 1, false));
        assert!(all.unsubscribe(filter("$share/g/a/b"), 1));
        assert_eq!(members(&all, "$share/g/a/b"), None);
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn the_deepest_topic_is_matched_by_the_deepest_filters() {
        let topic = "/".repeat(65_534);
        let mut all = Subscriptions::new();
        for (key, text) in
            [&topic, &vec!["+"; 65_535 / 2].join("/"), "#", &format!("{}#", "/".repeat(65_534))].into_iter().enumerate()
        {
            all.subscribe(filter(text), key, Subscription::default());
        }
        let mut matches = Matches::default();
        all.matches(TopicRef::new(&topic).unwrap(), &mut matches);
        let keys: Vec<usize> = matches.freeze().routes().iter().map(|route| route.key).collect();
        assert_eq!(keys, [0, 2, 3]);
    }
}
