//! The filters of the broker and who holds them, ordinary and shared.

use std::hash::Hash;
use std::sync::Arc;

use smallvec::SmallVec;
use viaduct_codec::{FilterRef, SubscribeOptions, TopicRef, VarInt};

use crate::matches::{Matches, Member, Merged};
use crate::tree::{ROOT, Tree};

/// How one subscriber holds one filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// As granted.
    pub options: SubscribeOptions,
    /// Goes with every message that it brings.
    pub id: Option<VarInt>,
    /// Each message that it brings needs a permission check of its own.
    pub checked: bool,
}

/// Filters and who holds them. `K` names a subscriber.
#[derive(Debug)]
pub struct Subscriptions<K> {
    tree: Tree<Ending<K>>,
    len: usize,
}

/// What ends at one node.
#[derive(Debug)]
struct Ending<K> {
    holders: Vec<(K, Subscription)>,
    /// Boxed, because few filters have any.
    groups: Option<Box<Groups<K>>>,
}

/// The share groups of one filter, by name.
#[derive(Debug)]
struct Groups<K>(Vec<Group<K>>);

/// The members of one share name at one filter.
#[derive(Debug)]
pub(crate) struct Group<K> {
    /// The whole `$share/<name>/<filter>`.
    filter: Arc<str>,
    members: Vec<Member<K>>,
}

impl<K> Default for Ending<K> {
    fn default() -> Self {
        Self { holders: Vec::new(), groups: None }
    }
}

impl<K> Ending<K> {
    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.groups.as_ref().is_none_or(|groups| groups.0.is_empty())
    }
}

impl<K: Copy + Eq + Hash + Ord> Default for Subscriptions<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Copy + Eq + Hash + Ord> Subscriptions<K> {
    /// Nobody holds anything.
    #[must_use]
    pub fn new() -> Self {
        Self { tree: Tree::new(), len: 0 }
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

    /// Gives `key` the filter, or replaces how it holds it (MQTT-3.8.4-3); `true` when it did not hold it. A new member
    /// of a share group counts as connected.
    pub fn subscribe(&mut self, filter: FilterRef<'_>, key: K, subscription: Subscription) -> bool {
        let plain = filter.share().map_or(filter, |share| share.filter);
        let at = self.tree.make(plain.as_str());
        let Some(node) = self.tree.get_mut(at) else { return false };
        let is_new = match filter.share() {
            None => put(&mut node.value.holders, key, subscription),
            Some(_) => {
                let groups = &mut node.value.groups.get_or_insert_with(|| Box::new(Groups(Vec::new()))).0;
                let group = match groups.iter().position(|group| &*group.filter == filter.as_str()) {
                    Some(position) => groups.get_mut(position),
                    None => {
                        groups.push(Group { filter: filter.as_str().into(), members: Vec::new() });
                        groups.last_mut()
                    }
                };
                group.is_some_and(|group| group.put(key, subscription))
            }
        };
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes the filter from `key`; `false` when it did not hold it.
    pub fn unsubscribe(&mut self, filter: FilterRef<'_>, key: K) -> bool {
        let plain = filter.share().map_or(filter, |share| share.filter);
        let Some(at) = self.tree.find(plain.as_str()) else { return false };
        let Some(node) = self.tree.get_mut(at) else { return false };
        let removed = match filter.share() {
            None => {
                let holders = &mut node.value.holders;
                let found = holders.iter().position(|(holder, _)| *holder == key);
                found.map(|position| holders.swap_remove(position)).is_some()
            }
            Some(_) => node.value.leave(filter.as_str(), key),
        };
        if removed {
            self.len -= 1;
            self.tree.prune(at, Ending::is_empty);
        }
        removed
    }

    /// Says whether a member of the share group `filter` has a connection; `false` when it is no member.
    pub fn set_online(&mut self, filter: FilterRef<'_>, key: K, online: bool) -> bool {
        let Some(share) = filter.share() else { return false };
        let Some(node) = self.tree.find(share.filter.as_str()).and_then(|at| self.tree.get_mut(at)) else {
            return false;
        };
        let groups = node.value.groups.iter_mut().flat_map(|groups| groups.0.iter_mut());
        let mut members = groups.filter(|group| &*group.filter == filter.as_str()).flat_map(|group| &mut group.members);
        members.find(|member| member.key == key).map(|member| member.online = online).is_some()
    }

    /// Adds everybody who hears `topic` to `into`.
    ///
    /// A filter that begins with a wildcard does not match a topic that begins with `$` (MQTT-4.7.2-1).
    pub fn matches(&self, topic: TopicRef<'_>, into: &mut Matches<K>) {
        // A path of the walk: a node, and the part of the topic that is still to be matched below it.
        let mut paths: SmallVec<[(u32, Option<&str>); 16]> = SmallVec::new();
        paths.push((ROOT, Some(topic.as_str())));
        while let Some((at, rest)) = paths.pop() {
            let wildcards = at != ROOT || !topic.is_dollar();
            if wildcards && let Some(child) = self.tree.child(at, "#") {
                self.gather(child, into); // `a/#` also matches `a`: it is asked before what is left is looked at.
            }
            let Some(rest) = rest else {
                self.gather(at, into);
                continue;
            };
            let (level, below) = match rest.split_once('/') {
                Some((level, below)) => (level, Some(below)),
                None => (rest, None),
            };
            if wildcards && let Some(child) = self.tree.child(at, "+") {
                paths.push((child, below));
            }
            if let Some(child) = self.tree.child(at, level) {
                paths.push((child, below));
            }
        }
    }

    fn gather(&self, at: u32, into: &mut Matches<K>) {
        let Some(node) = self.tree.get(at) else { return };
        for (key, subscription) in &node.value.holders {
            into.add(*key, *subscription);
        }
        for group in node.value.groups.iter().flat_map(|groups| groups.0.iter()) {
            into.add_group(&group.filter, &group.members);
        }
    }
}

impl<K: Copy + Eq> Ending<K> {
    fn leave(&mut self, filter: &str, key: K) -> bool {
        let Some(Groups(groups)) = self.groups.as_deref_mut() else { return false };
        let Some(place) = groups.iter().position(|group| &*group.filter == filter) else { return false };
        let Some(group) = groups.get_mut(place) else { return false };
        let Some(member) = group.members.iter().position(|member| member.key == key) else { return false };
        group.members.remove(member);
        if group.members.is_empty() {
            groups.swap_remove(place);
        }
        true
    }
}

impl<K: Copy + Eq> Group<K> {
    fn put(&mut self, key: K, subscription: Subscription) -> bool {
        let merged = Merged::from(subscription);
        match self.members.iter_mut().find(|member| member.key == key) {
            Some(member) => {
                member.merged = merged;
                false
            }
            None => {
                self.members.push(Member { key, merged, online: true });
                true
            }
        }
    }
}

fn put<K: Copy + Eq>(holders: &mut Vec<(K, Subscription)>, key: K, subscription: Subscription) -> bool {
    match holders.iter_mut().find(|(holder, _)| *holder == key) {
        Some((_, held)) => {
            *held = subscription;
            false
        }
        None => {
            holders.push((key, subscription));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn churn_leaves_nothing_behind() {
        let mut all = Subscriptions::new();
        let filters: Vec<String> = (0..200).map(|n| format!("a/{}/+/{n}", n % 7)).collect();
        for key in 0..10_u32 {
            for filter in &filters {
                let shared = format!("$share/g/{filter}");
                assert!(all.subscribe(FilterRef::new(filter).unwrap(), key, Subscription::default()));
                assert!(all.subscribe(FilterRef::new(&shared).unwrap(), key, Subscription::default()));
                assert!(!all.subscribe(FilterRef::new(&shared).unwrap(), key, Subscription::default()));
            }
        }
        assert_eq!(all.len(), 4_000);
        for key in 0..10_u32 {
            for filter in &filters {
                let shared = format!("$share/g/{filter}");
                assert!(all.unsubscribe(FilterRef::new(filter).unwrap(), key));
                assert!(!all.unsubscribe(FilterRef::new(filter).unwrap(), key));
                assert!(all.unsubscribe(FilterRef::new(&shared).unwrap(), key));
            }
        }
        assert!(all.is_empty());
        assert_eq!(all.tree.len(), 1);
    }
}
