//! The subscriptions of one session: a short list while they are few, which most sessions' are, and a table beyond.
//!
//! A table has room for three from its first entry on; millions of sessions hold one. It never becomes a list again: a
//! session that held many is likely to do so once more.

use hashbrown::HashMap;
use viaduct_codec::{SubscribeOptions, TopicFilter, VarInt};

use crate::limits::LISTED_SUBSCRIPTIONS;

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) options: SubscribeOptions,
    pub(crate) id: Option<VarInt>,
    /// Each delivery asks the rules.
    pub(crate) checked: bool,
}

/// All of one session, by filter.
#[derive(Debug)]
pub(crate) enum Holdings {
    Few(Vec<(TopicFilter, Held)>),
    Many(Box<HashMap<TopicFilter, Held>>),
}

impl Holdings {
    pub(crate) const fn new() -> Self {
        Self::Few(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(table) => table.len(),
        }
    }

    pub(crate) fn get(&self, filter: &TopicFilter) -> Option<&Held> {
        match self {
            Self::Few(list) => list.iter().find(|(own, _)| own == filter).map(|(_, held)| held),
            Self::Many(table) => table.get(filter),
        }
    }

    /// Adds it, or replaces the one of the same filter.
    pub(crate) fn insert(&mut self, filter: TopicFilter, held: Held) {
        match self {
            Self::Few(list) => {
                if let Some((_, own)) = list.iter_mut().find(|(own, _)| *own == filter) {
                    *own = held;
                } else if list.len() < LISTED_SUBSCRIPTIONS {
                    // One more and not twice as many: the first is nearly always the last.
                    list.reserve_exact(1);
                    list.push((filter, held));
                } else {
                    let mut table: HashMap<_, _> = std::mem::take(list).into_iter().collect();
                    table.insert(filter, held);
                    *self = Self::Many(Box::new(table));
                }
            }
            Self::Many(table) => {
                table.insert(filter, held);
            }
        }
    }

    /// `false` when there was none.
    pub(crate) fn remove(&mut self, filter: &TopicFilter) -> bool {
        match self {
            Self::Few(list) => {
                let place = list.iter().position(|(own, _)| own == filter);
                // The order is nobody's concern, but it is one that can be repeated.
                place.map(|place| list.remove(place)).is_some()
            }
            Self::Many(table) => table.remove(filter).is_some(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicFilter, &Held)> {
        let (list, table) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(table) => (None, Some(table)),
        };
        list.into_iter()
            .flatten()
            .map(|(filter, held)| (filter, held))
            .chain(table.into_iter().flat_map(|table| table.iter()))
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.iter().map(|(filter, _)| filter)
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::QoS;

    use super::*;

    #[test]
    fn few_and_many_are_held_alike() {
        let filter = |number: usize| TopicFilter::new(&format!("site/{number}")).unwrap();
        let held = |checked| Held {
            options: SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() },
            id: None,
            checked,
        };
        for count in [1, LISTED_SUBSCRIPTIONS, LISTED_SUBSCRIPTIONS + 1, 10 * LISTED_SUBSCRIPTIONS] {
            let mut holdings = Holdings::new();
            (0..count).for_each(|number| holdings.insert(filter(number), held(false)));
            holdings.insert(filter(0), held(true));
            assert_eq!(holdings.len(), count);
            assert_eq!(holdings.get(&filter(0)), Some(&held(true)));
            assert_eq!(holdings.get(&filter(count)), None);
            let all: std::collections::BTreeSet<_> = holdings.filters().cloned().collect();
            assert_eq!(all, (0..count).map(filter).collect());
            assert!(!holdings.remove(&filter(count)));
            assert!((0..count).all(|number| holdings.remove(&filter(number))));
            assert_eq!((holdings.len(), holdings.iter().count()), (0, 0));
        }
    }
}
