//! Share groups: who their members are, whose turn it is.
//!
//! A group lives in the trie; a match hands out a [`SharedRoute`], which shares the list of members with the group until
//! one of them changes it. So a cached match of a group with ten thousand members costs two pointers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Merged, Subscription};

/// The members of one share name at one filter, in the trie.
#[derive(Debug)]
pub(crate) struct Group<K>(SharedRoute<K>);

/// One share group that hears the topic: the message goes to one of its members.
#[derive(Clone, Debug)]
pub struct SharedRoute<K> {
    name: Arc<Name>,
    members: Arc<Members<K>>,
}

/// What all handed-out states of a group have in common.
#[derive(Debug)]
struct Name {
    /// The whole `$share/<name>/<filter>`.
    filter: Arc<str>,
    turn: AtomicUsize,
}

/// Sorted: members with a connection first, and by key among those with and those without.
#[derive(Clone, Debug)]
struct Members<K> {
    list: Vec<Member<K>>,
    /// How many have a connection.
    online: usize,
}

/// One member of a share group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<K> {
    /// Who.
    pub key: K,
    /// How it holds the filter. No Local means nothing for a share group (MQTT-3.8.3-4): 5.0 refuses it, and where a
    /// bridge's level implies it, it is as if it were not there.
    pub merged: Merged,
    /// Whether it has a connection.
    pub online: bool,
}

impl<K: Copy + Ord> Group<K> {
    pub(crate) fn new(filter: Arc<str>) -> Self {
        let name = Arc::new(Name { filter, turn: AtomicUsize::new(0) });
        Self(SharedRoute { name, members: Arc::new(Members { list: Vec::new(), online: 0 }) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.members.list.is_empty()
    }

    /// The group as it is now.
    pub(crate) fn route(&self) -> SharedRoute<K> {
        self.0.clone()
    }

    /// Adds a member, which counts as connected, or replaces how it holds the filter; `true` when it was none.
    pub(crate) fn join(&mut self, key: K, subscription: Subscription) -> bool {
        let merged = Merged::from(subscription);
        let members = Arc::make_mut(&mut self.0.members);
        match members.place(key) {
            Some(place) => {
                if let Some(member) = members.list.get_mut(place) {
                    member.merged = merged;
                }
                false
            }
            None => {
                members.insert(Member { key, merged, online: true });
                true
            }
        }
    }

    /// Removes a member; `false` when it was none.
    pub(crate) fn leave(&mut self, key: K) -> bool {
        let Some(place) = self.0.members.place(key) else { return false };
        Arc::make_mut(&mut self.0.members).remove(place);
        true
    }

    /// Says whether a member has a connection; `false` when it is no member.
    pub(crate) fn set_online(&mut self, key: K, online: bool) -> bool {
        let Some(place) = self.0.members.place(key) else { return false };
        // Looked at first: a list that nothing changes in must not be copied.
        if self.0.members.list.get(place).is_some_and(|member| member.online != online) {
            let members = Arc::make_mut(&mut self.0.members);
            let member = members.remove(place);
            members.insert(Member { online, ..member });
        }
        true
    }
}

impl<K: Copy + Ord> Members<K> {
    fn place(&self, key: K) -> Option<usize> {
        let (online, offline) = self.list.split_at_checked(self.online)?;
        let found = online.binary_search_by_key(&key, |member| member.key);
        found.ok().or_else(|| Some(self.online + offline.binary_search_by_key(&key, |member| member.key).ok()?))
    }

    fn insert(&mut self, member: Member<K>) {
        let rank = |other: &Member<K>| (!other.online, other.key);
        let place = self.list.partition_point(|other| rank(other) < rank(&member));
        self.online += usize::from(member.online);
        self.list.insert(place, member);
    }

    /// `place` is one that [`Members::place`] found.
    fn remove(&mut self, place: usize) -> Member<K> {
        let member = self.list.remove(place);
        self.online -= usize::from(member.online);
        member
    }
}

impl<K: Copy> SharedRoute<K> {
    /// The whole `$share/<name>/<filter>`: what a message remembers, so that another member can be found for it.
    #[must_use]
    pub fn filter(&self) -> &Arc<str> {
        &self.name.filter
    }

    /// The members: those with a connection first, by key.
    #[must_use]
    pub fn members(&self) -> &[Member<K>] {
        &self.members.list
    }

    /// A cursor for [`SharedRoute::pick`] that moves on with each call: every group has its own, the same for all that
    /// match it. One cursor for several groups would not do: two groups whose messages alternate would each see only
    /// every second number, and half of the members would never have a turn.
    #[must_use]
    pub fn turn(&self) -> usize {
        self.name.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The member whose turn it is by `cursor`: those with a connection take turns, and the others only when there is
    /// none. `None` when there is no member.
    #[must_use]
    pub fn pick(&self, cursor: usize) -> Option<&Member<K>> {
        self.pick_excluding(cursor, |_| false)
    }

    /// [`SharedRoute::pick`] among those that `skip` does not name: another member for a message that one can't take
    /// any more. Asks `skip` until it says no, so it costs nothing in the usual case.
    pub fn pick_excluding(&self, cursor: usize, skip: impl Fn(&K) -> bool) -> Option<&Member<K>> {
        let (online, offline) = self.members.list.split_at_checked(self.members.online)?;
        let choose = |members: &'_ [Member<K>]| -> Option<usize> {
            let first = cursor.checked_rem(members.len())?;
            let (before, after) = members.split_at_checked(first)?;
            let fits = |member: &Member<K>| !skip(&member.key);
            after.iter().position(fits).map(|n| first + n).or_else(|| before.iter().position(fits))
        };
        choose(online).and_then(|n| online.get(n)).or_else(|| choose(offline).and_then(|n| offline.get(n)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(members: &[(u8, bool)]) -> Group<u8> {
        let mut group = Group::new("$share/g/t".into());
        for &(key, online) in members {
            assert!(group.join(key, Subscription::default()));
            assert!(group.set_online(key, online));
        }
        group
    }

    fn turns(group: &Group<u8>, count: usize) -> Vec<u8> {
        let route = group.route();
        (0..count).filter_map(|n| route.pick(n)).map(|member| member.key).collect()
    }

    #[test]
    fn connected_members_take_turns_and_others_only_when_there_is_none() {
        let mixed = group(&[(3, true), (2, false), (1, true)]);
        assert_eq!(turns(&mixed, 4), [1, 3, 1, 3]);
        let route = mixed.route();
        let but = |names: &'static [u8]| route.pick_excluding(0, |key| names.contains(key)).map(|member| member.key);
        assert_eq!(but(&[1]), Some(3));
        assert_eq!(but(&[1, 3]), Some(2));
        assert_eq!(but(&[1, 2, 3]), None);
        assert_eq!(turns(&group(&[(4, false), (5, false)]), 3), [4, 5, 4]);
        assert_eq!(turns(&group(&[]), 1), []);
    }

    #[test]
    fn a_member_that_comes_back_takes_its_turn_again_and_keeps_its_options() {
        let mut group = group(&[(1, true), (2, true)]);
        let options = viaduct_codec::SubscribeOptions { no_local: true, ..Default::default() };
        assert!(group.set_online(1, false));
        assert!(!group.join(1, Subscription { options, checked: true, ..Subscription::default() }));
        assert_eq!(turns(&group, 2), [2, 2]);
        assert!(group.set_online(1, true));
        assert_eq!(turns(&group, 2), [1, 2]);
        assert!(group.route().pick(0).unwrap().merged.checked);
        assert!(!group.set_online(9, true));
        assert!(!group.leave(9));
        assert!(group.leave(1));
        assert_eq!(turns(&group, 2), [2, 2]);
    }

    #[test]
    fn what_was_handed_out_stays_as_it_was() {
        let mut group = group(&[(1, true), (2, true)]);
        let before = group.route();
        group.leave(1);
        assert_eq!((before.members().len(), group.route().members().len()), (2, 1));
        assert_eq!((before.turn(), group.route().turn(), before.turn()), (0, 1, 2));
    }
}
