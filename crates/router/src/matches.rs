//! What a match found: everybody once, with their overlapping subscriptions merged.

use smallvec::SmallVec;
use viaduct_codec::{QoS, TopicRef, VarInt};

use crate::{SharedRoute, Subscription};

/// Subscriptions that the scratch keeps room for (two MiB of them): one topic with a million subscribers must not hold
/// the memory of its match for ever.
const ROOM: usize = 64 * 1024;

/// Gathers one match, and is used again for the next.
#[derive(Debug)]
pub struct Matches<K> {
    found: Vec<(K, Subscription)>,
    groups: Vec<SharedRoute<K>>,
    /// Some of `found` are not for every topic.
    sliced: bool,
}

/// Everybody who hears one topic.
#[derive(Debug)]
pub struct RouteSet<K> {
    routes: Box<[Route<K>]>,
    shared: Box<[SharedRoute<K>]>,
    durable: bool,
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

/// Subscriptions of one subscriber as one: the highest QoS, every identifier (MQTT-3.3.4-2,
/// MQTT-3.3.5-1 of 3.1.1, MQTT-3.3.4-4).
///
/// Permission is asked of a subscriber and a topic, never of a QoS. A subscription that needs no check was granted
/// because its holder may read every topic that it matches, so this topic too; the others, asked for the same topic,
/// would be told the same. Hence one unchecked subscription clears all of them, at the highest QoS of any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The highest QoS of them.
    pub qos: QoS,
    /// Any of them asked to keep RETAIN.
    pub retain_as_published: bool,
    /// None of them was granted without a check.
    pub checked: bool,
    /// The subscriber outlives its connection.
    pub durable: bool,
    /// All of theirs, in ascending order. Two subscriptions with the same identifier give it twice, as section 3.3.4
    /// says of a single copy.
    pub ids: SmallVec<[VarInt; 2]>,
}

impl<K> Default for Matches<K> {
    fn default() -> Self {
        Self { found: Vec::new(), groups: Vec::new(), sliced: false }
    }
}

impl<K> Matches<K> {
    pub(crate) fn add(&mut self, key: K, subscription: Subscription) {
        self.sliced |= !subscription.slice.is_all();
        self.found.push((key, subscription));
    }

    pub(crate) fn add_group(&mut self, group: SharedRoute<K>) {
        self.groups.push(group);
    }
}

impl<K: Copy + Ord> Matches<K> {
    /// Leaves out the subscriptions to whose part of the topics `topic`, for which was gathered, does not belong. So a
    /// message that goes by one of several links of a bridge costs the others nothing.
    pub fn keep_slices(&mut self, topic: TopicRef<'_>) {
        if std::mem::take(&mut self.sliced) {
            self.found.retain(|(_, subscription)| subscription.slice.has(topic.as_str()));
        }
    }

    /// What was gathered, sorted by key; empty again afterwards.
    pub fn freeze(&mut self) -> RouteSet<K> {
        // Stable, because what is found comes in sorted runs, which it merges.
        self.found.sort_by_key(|(key, _)| *key);
        let subscribers = || self.found.chunk_by(|(a, _), (b, _)| a == b);
        // Counted first: a list that grows would be copied into one of the right size in the end.
        let mut routes = Vec::with_capacity(subscribers().count());
        routes.extend(subscribers().filter_map(Route::new));
        let routes = routes.into_boxed_slice();
        self.found.clear();
        if self.found.capacity() > ROOM {
            self.found.shrink_to(ROOM);
        }
        let durable = routes.iter().any(|route| route.all.durable);
        RouteSet { routes, shared: std::mem::take(&mut self.groups).into(), durable }
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

    /// Whether any of the subscribers outlives its connection; members of share groups are not looked at.
    #[must_use]
    pub const fn has_durable(&self) -> bool {
        self.durable
    }

    /// Whether nobody hears the topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.shared.is_empty()
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
            merged.checked &= other.checked;
            merged.durable |= other.durable;
            merged.ids.extend(other.id);
        }
        merged.ids.sort_unstable();
        Some(merged)
    }
}

impl From<Subscription> for Merged {
    fn from(subscription: Subscription) -> Self {
        Self {
            qos: subscription.options.qos,
            retain_as_published: subscription.options.retain_as_published,
            checked: subscription.checked,
            durable: subscription.durable,
            ids: subscription.id.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::{Slice, SubscribeOptions};

    use super::*;

    #[test]
    fn of_all_links_one_hears_a_topic() {
        let (mut matches, topic) = (Matches::default(), TopicRef::new("a/b").unwrap());
        for part in Slice::parts(4) {
            matches.add(part.index(), Subscription { slice: part, ..Subscription::default() });
        }
        matches.add(9, Subscription::default());
        matches.keep_slices(topic);
        let keys: Vec<u8> = matches.freeze().routes().iter().map(|route| route.key).collect();
        let owner = Slice::parts(4).find(|part| part.has("a/b")).unwrap().index();
        assert_eq!(keys, [owner, 9]);
    }

    fn subscription(qos: QoS, no_local: bool, id: u32, checked: bool) -> Subscription {
        let options = SubscribeOptions { qos, no_local, ..SubscribeOptions::default() };
        Subscription { options, id: VarInt::new(id), checked, ..Subscription::default() }
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
        assert!(matches.freeze().is_empty());
    }

    #[test]
    fn the_same_identifier_comes_once_for_each_subscription() {
        let mut matches = Matches::default();
        for id in [2, 1, 2] {
            matches.add(1_u8, subscription(QoS::AtMostOnce, false, id, true));
        }
        let set = matches.freeze();
        let merged = set.routes()[0].for_publisher(false).unwrap();
        assert_eq!(merged.ids.iter().map(|id| id.get()).collect::<Vec<_>>(), [1, 2, 2]);
        assert!(merged.checked);
    }

    #[test]
    fn no_local_alone_means_that_own_messages_are_not_heard() {
        let mut matches = Matches::default();
        matches.add(1_u8, subscription(QoS::AtMostOnce, true, 1, false));
        let set = matches.freeze();
        assert!(set.routes()[0].for_publisher(true).is_none());
        assert!(set.routes()[0].for_publisher(false).is_some());
    }
}
