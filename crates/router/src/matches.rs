//! What a match found: everybody once, with their overlapping subscriptions merged.

use std::hash::Hash;
use std::sync::Arc;

use smallvec::SmallVec;
use viaduct_codec::{QoS, VarInt};

use crate::Subscription;

/// Gathers one match, and is used again for the next.
#[derive(Debug)]
pub struct Matches<K> {
    found: Vec<(K, Subscription)>,
    groups: Vec<SharedRoute<K>>,
}

/// Everybody who hears one topic.
#[derive(Debug)]
pub struct RouteSet<K> {
    routes: Box<[Route<K>]>,
    shared: Box<[SharedRoute<K>]>,
}

/// One subscriber, however many of its filters matched.
#[derive(Debug, PartialEq, Eq)]
pub struct Route<K> {
    /// Who.
    pub key: K,
    /// All of its matching subscriptions, for what others publish.
    all: Merged,
    /// Those without No Local, for what it publishes itself; the same as `all` when none has it.
    own: Own,
}

#[derive(Debug, PartialEq, Eq)]
enum Own {
    Same,
    Nothing,
    Other(Box<Merged>),
}

/// Subscriptions of one subscriber as one: the highest QoS, every identifier (MQTT-3.3.4-2 to -4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The highest QoS of them.
    pub qos: QoS,
    /// Any of them asked to keep RETAIN.
    pub retain_as_published: bool,
    /// None of them was granted without a check.
    pub checked: bool,
    /// All of theirs, in ascending order.
    pub ids: SmallVec<[VarInt; 2]>,
}

/// One share group that hears the topic.
#[derive(Clone, Debug)]
pub struct SharedRoute<K> {
    filter: Arc<str>,
    members: Box<[Member<K>]>,
}

/// One member of a share group.
#[derive(Clone, Debug)]
pub struct Member<K> {
    /// Who.
    pub key: K,
    /// How it holds the filter. No Local means nothing for a share group (MQTT-3.8.3-4).
    pub merged: Merged,
    /// Whether it has a connection.
    pub online: bool,
}

impl<K> Default for Matches<K> {
    fn default() -> Self {
        Self { found: Vec::new(), groups: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Matches<K> {
    pub(crate) fn add(&mut self, key: K, subscription: Subscription) {
        self.found.push((key, subscription));
    }

    pub(crate) fn add_group(&mut self, filter: &Arc<str>, members: &[Member<K>]) {
        self.groups.push(SharedRoute { filter: Arc::clone(filter), members: members.into() });
    }

    /// What was gathered, sorted by key; empty again afterwards.
    pub fn freeze(&mut self) -> RouteSet<K> {
        self.found.sort_by_key(|(key, _)| *key);
        let routes = self.found.chunk_by(|(a, _), (b, _)| a == b).filter_map(Route::new).collect();
        self.found.clear();
        RouteSet { routes, shared: std::mem::take(&mut self.groups).into() }
    }
}

impl<K> RouteSet<K> {
    /// The subscribers, sorted by key.
    #[must_use]
    pub fn routes(&self) -> &[Route<K>] {
        &self.routes
    }

    /// The share groups, each of which gets the message once.
    #[must_use]
    pub fn shared(&self) -> &[SharedRoute<K>] {
        &self.shared
    }
}

impl<K: Copy> Route<K> {
    fn new(found: &[(K, Subscription)]) -> Option<Self> {
        let (key, _) = found.first()?;
        let all = Merged::of(found.iter().map(|(_, subscription)| subscription))?;
        let own = if found.iter().any(|(_, subscription)| subscription.options.no_local) {
            let local = found.iter().map(|(_, subscription)| subscription).filter(|s| !s.options.no_local);
            Merged::of(local).map_or(Own::Nothing, |merged| Own::Other(Box::new(merged)))
        } else {
            Own::Same
        };
        Some(Self { key: *key, all, own })
    }

    /// How the subscriber hears a message; `None` when it does not, because it published it itself and every matching
    /// subscription has No Local (MQTT-3.8.3-3).
    #[must_use]
    pub fn for_publisher(&self, is_self: bool) -> Option<&Merged> {
        match &self.own {
            Own::Nothing if is_self => None,
            Own::Other(own) if is_self => Some(own),
            Own::Same | Own::Nothing | Own::Other(_) => Some(&self.all),
        }
    }
}

impl Merged {
    fn of<'a>(mut subscriptions: impl Iterator<Item = &'a Subscription>) -> Option<Self> {
        let mut merged = Self::from(*subscriptions.next()?);
        for other in subscriptions {
            merged.qos = merged.qos.max(other.options.qos);
            merged.retain_as_published |= other.options.retain_as_published;
            // What one subscription brings without a check, the others need not be asked for.
            merged.checked &= other.checked;
            merged.ids.extend(other.id);
        }
        merged.ids.sort_unstable();
        merged.ids.dedup();
        Some(merged)
    }
}

impl From<Subscription> for Merged {
    fn from(subscription: Subscription) -> Self {
        Self {
            qos: subscription.options.qos,
            retain_as_published: subscription.options.retain_as_published,
            checked: subscription.checked,
            ids: subscription.id.into_iter().collect(),
        }
    }
}

impl<K: Copy> SharedRoute<K> {
    /// The whole `$share/<name>/<filter>`.
    #[must_use]
    pub fn filter(&self) -> &Arc<str> {
        &self.filter
    }

    /// The members, in the order of their joining.
    #[must_use]
    pub fn members(&self) -> &[Member<K>] {
        &self.members
    }

    /// The member whose turn it is by `cursor`, which the caller moves on: those with a connection take turns, and the
    /// others only when there is none. `skip` says who is not to be chosen.
    pub fn pick_excluding(&self, cursor: usize, skip: impl Fn(&K) -> bool) -> Option<&Member<K>> {
        let choose = |online: bool| {
            let fit = || self.members.iter().filter(|member| (member.online || !online) && !skip(&member.key));
            let count = fit().count();
            fit().nth(cursor.checked_rem(count)?)
        };
        choose(true).or_else(|| choose(false))
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::SubscribeOptions;

    use super::*;

    fn subscription(qos: QoS, no_local: bool, id: u32, checked: bool) -> Subscription {
        let options = SubscribeOptions { qos, no_local, ..SubscribeOptions::default() };
        Subscription { options, id: VarInt::new(id), checked }
    }

    #[test]
    fn overlapping_subscriptions_become_one_route() {
        let mut matches = Matches::default();
        matches.add(2_u8, subscription(QoS::AtMostOnce, false, 9, true));
        matches.add(1, subscription(QoS::ExactlyOnce, false, 1, false));
        matches.add(2, subscription(QoS::AtLeastOnce, true, 3, false));
        let set = matches.freeze();
        assert_eq!(set.routes().iter().map(|route| route.key).collect::<Vec<_>>(), [1, 2]);
        let all = set.routes()[1].for_publisher(false).unwrap();
        assert_eq!((all.qos, all.checked, all.ids.len()), (QoS::AtLeastOnce, false, 2));
        let own = set.routes()[1].for_publisher(true).unwrap();
        assert_eq!((own.qos, own.checked, own.ids.as_slice()), (QoS::AtMostOnce, true, &[VarInt::new(9).unwrap()][..]));
        assert!(matches.freeze().routes().is_empty());
    }

    #[test]
    fn no_local_alone_means_that_own_messages_are_not_heard() {
        let mut matches = Matches::default();
        matches.add(1_u8, subscription(QoS::AtMostOnce, true, 1, false));
        let set = matches.freeze();
        assert!(set.routes()[0].for_publisher(true).is_none());
        assert!(set.routes()[0].for_publisher(false).is_some());
    }

    #[test]
    fn connected_members_take_turns_and_others_only_when_there_is_none() {
        let member = |key, online| Member { key, merged: Merged::default(), online };
        let group = |members: Vec<Member<u8>>| SharedRoute { filter: "$share/g/t".into(), members: members.into() };
        let mixed = group(vec![member(1, true), member(2, false), member(3, true)]);
        let turns: Vec<_> = (0..4).filter_map(|n| mixed.pick_excluding(n, |_| false)).map(|m| m.key).collect();
        assert_eq!(turns, [1, 3, 1, 3]);
        assert_eq!(mixed.pick_excluding(0, |key| *key != 2).map(|m| m.key), Some(2));
        assert!(mixed.pick_excluding(0, |_| true).is_none());
        assert_eq!(group(vec![member(4, false)]).pick_excluding(7, |_| false).map(|m| m.key), Some(4));
    }
}
