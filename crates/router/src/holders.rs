//! Who holds one filter: nobody, one subscriber in place, or a crowd in a map, with the filter's share groups.
//!
//! Most filters have one holder, so that case takes no memory of its own. A crowd is ordered by key: a million
//! subscribers of one filter come and go in logarithmic time, and are found in the order that a route set needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use viaduct_codec::{QoS, RetainHandling, Slice, SubscribeOptions, VarInt};

use crate::group::{Group, Member};
use crate::{Matches, Subscription};

/// What ends at one node of the trie.
#[derive(Debug, Default)]
pub(crate) enum Ending<K> {
    #[default]
    Nothing,
    One(K, Held),
    Many(Box<Crowd<K>>),
}

/// Several holders, or share groups.
#[derive(Debug)]
pub(crate) struct Crowd<K> {
    holders: BTreeMap<K, Held>,
    /// By the whole `$share/<name>/<filter>`.
    groups: BTreeMap<Arc<str>, Group<K>>,
    /// Of all groups.
    members: usize,
}

/// A [`Subscription`] as it is kept: eight bytes instead of sixteen, millions of times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    id: u32,
    flags: u8,
    slice: Slice,
}

/// Where the options lie in [`Held::flags`]: as on the wire, with `CHECKED` and `DURABLE` in bits that are reserved there.
mod flag {
    pub(super) const QOS: u8 = 0x03;
    pub(super) const NO_LOCAL: u8 = 0x04;
    pub(super) const RETAIN_AS_PUBLISHED: u8 = 0x08;
    pub(super) const SEND_IF_NEW: u8 = 0x10;
    pub(super) const DO_NOT_SEND: u8 = 0x20;
    pub(super) const CHECKED: u8 = 0x40;
    pub(super) const DURABLE: u8 = 0x80;
}

/// No subscription identifier: above every [`VarInt`].
const NO_ID: u32 = u32::MAX;

impl<K> Ending<K> {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Bytes beyond the node itself, near enough: maps and lists are taken to be two thirds full.
    pub(crate) fn memory(&self) -> usize {
        let Self::Many(crowd) = self else { return 0 };
        let used = crowd.holders.len() * size_of::<(K, Held)>() + crowd.members * size_of::<Member<K>>();
        size_of::<Crowd<K>>() + used * 3 / 2
    }
}

impl<K: Copy + Ord> Ending<K> {
    /// `true` when `key` did not hold the filter.
    pub(crate) fn put(&mut self, key: K, subscription: Subscription) -> bool {
        let held = Held::from(subscription);
        match self {
            Self::Nothing => {
                *self = Self::One(key, held);
                true
            }
            Self::One(holder, own) if *holder == key => {
                *own = held;
                false
            }
            Self::One(..) | Self::Many(_) => self.change_crowd(|crowd| crowd.holders.insert(key, held).is_none()),
        }
    }

    /// `false` when `key` did not hold the filter.
    pub(crate) fn take(&mut self, key: K) -> bool {
        let taken = match self {
            Self::Nothing => false,
            Self::One(holder, _) if *holder == key => {
                *self = Self::Nothing;
                true
            }
            Self::One(..) => false,
            Self::Many(crowd) => crowd.holders.remove(&key).is_some(),
        };
        self.settle();
        taken
    }

    /// `true` when `key` was no member of the share group `filter`.
    pub(crate) fn join(&mut self, filter: &str, key: K, subscription: Subscription) -> bool {
        self.change_crowd(|crowd| {
            let joined = match crowd.groups.get_mut(filter) {
                Some(group) => group.join(key, subscription),
                None => {
                    let name: Arc<str> = filter.into();
                    crowd.groups.entry(Arc::clone(&name)).or_insert_with(|| Group::new(name)).join(key, subscription)
                }
            };
            crowd.members += usize::from(joined);
            joined
        })
    }

    /// `false` when `key` was no member of the share group `filter`.
    pub(crate) fn leave(&mut self, filter: &str, key: K) -> bool {
        let Self::Many(crowd) = self else { return false };
        let Some(group) = crowd.groups.get_mut(filter) else { return false };
        let left = group.leave(key);
        if group.is_empty() {
            crowd.groups.remove(filter);
        }
        crowd.members -= usize::from(left);
        self.settle();
        left
    }

    pub(crate) fn group(&self, filter: &str) -> Option<&Group<K>> {
        let Self::Many(crowd) = self else { return None };
        crowd.groups.get(filter)
    }

    pub(crate) fn group_mut(&mut self, filter: &str) -> Option<&mut Group<K>> {
        let Self::Many(crowd) = self else { return None };
        crowd.groups.get_mut(filter)
    }

    pub(crate) fn gather(&self, into: &mut Matches<K>) {
        match self {
            Self::Nothing => {}
            Self::One(key, held) => into.add(*key, Subscription::from(*held)),
            Self::Many(crowd) => {
                for (key, held) in &crowd.holders {
                    into.add(*key, Subscription::from(*held));
                }
                for group in crowd.groups.values() {
                    into.add_group(group.route());
                }
            }
        }
    }

    /// Makes a crowd of what is there, and lets `change` work on it.
    fn change_crowd<R>(&mut self, change: impl FnOnce(&mut Crowd<K>) -> R) -> R {
        let mut crowd = match std::mem::take(self) {
            Self::Many(crowd) => crowd,
            Self::Nothing => Box::new(Crowd::new()),
            Self::One(key, held) => {
                let mut crowd = Box::new(Crowd::new());
                crowd.holders.insert(key, held);
                crowd
            }
        };
        let result = change(&mut crowd);
        *self = Self::Many(crowd);
        result
    }

    /// Gives up the crowd when one or none is left of it.
    fn settle(&mut self) {
        let Self::Many(crowd) = self else { return };
        if !crowd.groups.is_empty() || crowd.holders.len() > 1 {
            return;
        }
        *self = crowd.holders.pop_first().map_or(Self::Nothing, |(key, held)| Self::One(key, held));
    }
}

impl<K> Crowd<K> {
    fn new() -> Self {
        Self { holders: BTreeMap::new(), groups: BTreeMap::new(), members: 0 }
    }
}

impl From<Subscription> for Held {
    fn from(Subscription { options, id, checked, durable, slice }: Subscription) -> Self {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let handling = match options.retain_handling {
            RetainHandling::Send => 0,
            RetainHandling::SendIfNew => flag::SEND_IF_NEW,
            RetainHandling::DoNotSend => flag::DO_NOT_SEND,
        };
        let flags = options.qos.bits()
            | flag(options.no_local, flag::NO_LOCAL)
            | flag(options.retain_as_published, flag::RETAIN_AS_PUBLISHED)
            | handling
            | flag(checked, flag::CHECKED)
            | flag(durable, flag::DURABLE);
        Self { id: id.map_or(NO_ID, VarInt::get), flags, slice }
    }
}

impl From<Held> for Subscription {
    fn from(Held { id, flags, slice }: Held) -> Self {
        let is = |bit: u8| flags & bit != 0;
        let options = SubscribeOptions {
            qos: QoS::from_bits(flags & flag::QOS).unwrap_or_default(),
            no_local: is(flag::NO_LOCAL),
            retain_as_published: is(flag::RETAIN_AS_PUBLISHED),
            retain_handling: match (is(flag::SEND_IF_NEW), is(flag::DO_NOT_SEND)) {
                (false, false) => RetainHandling::Send,
                (true, _) => RetainHandling::SendIfNew,
                (false, true) => RetainHandling::DoNotSend,
            },
        };
        let (checked, durable) = (is(flag::CHECKED), is(flag::DURABLE));
        Self { options, id: VarInt::new(id), checked, durable, slice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const _: () = assert!(size_of::<Ending<(u16, u32, u32)>>() <= 24, "a node shall fit one cache line");

    #[test]
    fn a_subscription_is_kept_as_it_is() {
        for bits in 0..48_u8 {
            let options = SubscribeOptions {
                qos: QoS::from_bits(bits % 3).unwrap(),
                no_local: bits & 4 != 0,
                retain_as_published: bits & 8 != 0,
                retain_handling: [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
                    [usize::from(bits / 16)],
            };
            for id in [None, VarInt::new(1), Some(VarInt::MAX)] {
                for (checked, durable) in [(false, false), (true, false), (false, true), (true, true)] {
                    for slice in Slice::parts(bits % 16 + 1) {
                        let subscription = Subscription { options, id, checked, durable, slice };
                        assert_eq!(Subscription::from(Held::from(subscription)), subscription);
                    }
                }
            }
        }
    }

    #[test]
    fn a_crowd_becomes_one_and_then_nothing_again() {
        let mut ending = Ending::default();
        for key in 0..100_u8 {
            assert!(ending.put(key, Subscription::default()));
            assert!(!ending.put(key, Subscription::default()));
        }
        assert!(ending.join("$share/g/t", 7, Subscription::default()));
        assert!(ending.group("$share/g/t").is_some());
        for key in 1..100_u8 {
            assert!(ending.take(key));
            assert!(!ending.take(key));
        }
        assert!(ending.leave("$share/g/t", 7));
        assert!(!ending.leave("$share/g/t", 7));
        assert!(matches!(ending, Ending::One(0, _)));
        assert!(ending.take(0));
        assert!(ending.is_empty());
    }
}
