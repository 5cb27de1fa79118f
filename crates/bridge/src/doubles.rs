//! Tells the second copy of a message from the first where brokers are linked by more than one way.
//!
//! In: copies of messages, and the way by which each came. Out: whether it was taken before by another way. Each way brings a
//! message once, so of messages that are all alike as many are taken as the way with most of them brought, whatever the
//! order. Never grows beyond its bounds, and never takes for a double what no other way has brought: what is forgotten
//! comes twice.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use viaduct_codec::{Message, QoS, Time, UserProperties};
use viaduct_session::HOPS_PROPERTY;

use crate::limits;

/// A way by which messages come: a link to another broker. The links of one bridge are one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The same each time that the link is up.
    pub id: u64,
    /// When it came up: it brings nothing of QoS 0 that others brought before.
    pub since: Time,
}

/// What a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Another way brought it, and it was taken. It has been counted.
    Double,
    /// The first. It counts from [`Doubles::took`] on, so that one that is refused makes no double of the next.
    First(Mark),
    /// To be taken, and leaves no trace.
    Unknown,
}

/// The place of a message in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    key: u64,
    is_kept: bool,
    /// Of one that was taken with QoS 0 and comes now with more.
    better: Option<u64>,
}

/// The memory.
#[derive(Debug)]
pub struct Doubles {
    /// Hashed before everything else, so that nobody can choose payloads that collide.
    seed: u64,
    alike: BTreeMap<u64, Alike>,
    /// What was taken, the oldest first: when, and which of `alike`.
    order: VecDeque<(Time, u64)>,
}

/// Messages that cannot be told from each other.
#[derive(Debug, Default)]
struct Alike {
    /// How many were forgotten of those that were taken.
    forgotten: u64,
    taken: VecDeque<Taken>,
    /// How many of them, the forgotten ones counted, each way has brought.
    brought: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    at: Time,
    /// It came with more than QoS 0, so that it is owed to those who are away as well.
    is_kept: bool,
}

impl Doubles {
    /// Remembers nothing yet.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, alike: BTreeMap::new(), order: VecDeque::new() }
    }

    /// What the copy of `message` is that came by `way`. The message is as this broker has it, with its list of hops; `again`:
    /// its sender says that it may have sent it before.
    pub fn judge(&mut self, now: Time, way: Way, message: &Message, again: bool) -> Judged {
        self.age(now);
        let Some(key) = self.key(message) else { return Judged::Unknown };
        let is_kept = message.qos > QoS::AtMostOnce;
        let first = Judged::First(Mark { key, is_kept, better: None });
        let Some(alike) = self.alike.get_mut(&key) else { return first };
        let known = alike.brought.iter().position(|(id, _)| *id == way.id);
        // What is sent with QoS 0 does not wait anywhere until a link is back, but what is retained is asked for anew.
        let is_live = !is_kept && !message.retain;
        let (age, since) = if is_live { (limits::LAG, way.since) } else { (limits::DOUBLE_AGE, Time::default()) };
        let too_old = alike.taken.partition_point(|one| is_over(one.at, age, now) || one.at < since);
        let before = known.and_then(|place| alike.brought.get(place)).map_or(0, |(_, count)| *count);
        let next = before.max(alike.forgotten + too_old as u64);
        match alike.at(next).map(|one| one.is_kept) {
            Some(false) if is_kept => Judged::First(Mark { key, is_kept, better: Some(next) }),
            Some(_) if alike.note(way.id, next + 1) => Judged::Double,
            Some(_) => Judged::Unknown,
            // It may be what the same way brought before its link was cut; then nobody else is to bring it.
            None if again && known.is_some() => Judged::Unknown,
            None => first,
        }
    }

    /// The message of `mark`, which came by `way`, was taken.
    pub fn took(&mut self, now: Time, way: Way, mark: Mark) {
        let Mark { key, is_kept, better } = mark;
        let alike = self.alike.entry(key).or_default();
        if let Some(place) = better
            && let Some(one) = alike.at(place)
        {
            one.is_kept = true;
            alike.note(way.id, place + 1);
            return;
        }
        let end = alike.forgotten + alike.taken.len() as u64;
        if !alike.note(way.id, end + 1) {
            return;
        }
        alike.taken.push_back(Taken { at: now, is_kept });
        self.order.push_back((now, key));
        if self.order.len() > limits::COPIES {
            self.forget_oldest();
        }
    }

    fn age(&mut self, now: Time) {
        while self.order.front().is_some_and(|(at, _)| is_over(*at, limits::DOUBLE_AGE, now)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_front() else { return };
        let Some(alike) = self.alike.get_mut(&key) else { return };
        alike.taken.pop_front();
        alike.forgotten += 1;
        if alike.taken.is_empty() {
            self.alike.remove(&key);
        }
    }

    /// What all copies of a message have in common; `None` when it does not say where it comes from. The QoS and the names of
    /// topics for replies may differ with the rules of the links, and the time that is left does.
    fn key(&self, message: &Message) -> Option<u64> {
        let own = message.properties.as_deref()?;
        let pairs = UserProperties::from_encoded(&own.user_properties);
        let (_, hops) = pairs.iter().find(|(name, _)| *name == HOPS_PROPERTY)?;
        let origin = hops.split('/').next()?.trim_end_matches(['<', '>']);
        let mut hasher = DefaultHasher::new();
        (self.seed, origin, message.topic.as_str(), &message.payload[..], message.retain).hash(&mut hasher);
        (own.payload_format, own.correlation_data.as_deref(), own.content_type.as_deref()).hash(&mut hasher);
        for pair in pairs.iter().filter(|(name, _)| *name != HOPS_PROPERTY) {
            pair.hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

impl Alike {
    fn at(&mut self, place: u64) -> Option<&mut Taken> {
        let place = usize::try_from(place.checked_sub(self.forgotten)?).ok()?;
        self.taken.get_mut(place)
    }

    /// `way` has brought so many; `false` when no more ways are remembered.
    fn note(&mut self, way: u64, count: u64) -> bool {
        if let Some((_, brought)) = self.brought.iter_mut().find(|(id, _)| *id == way) {
            *brought = count;
            return true;
        }
        let has_room = self.brought.len() < limits::WAYS;
        if has_room {
            self.brought.push((way, count));
        }
        has_room
    }
}

fn is_over(at: Time, age: Duration, now: Time) -> bool {
    at.after(age) <= now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loop_guard::tests::message;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::sync::Arc;
    use viaduct_codec::{MessageProperties, TopicName};

    const fn way(id: u64) -> Way {
        Way { id, since: Time::from_millis(0) }
    }

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    /// Brings a copy; whether it is taken.
    fn bring(doubles: &mut Doubles, now: Time, by: Way, message: &Message) -> bool {
        match doubles.judge(now, by, message, false) {
            Judged::Double => return false,
            Judged::First(mark) => doubles.took(now, by, mark),
            Judged::Unknown => {}
        }
        true
    }

    #[test]
    fn what_two_ways_bring_is_taken_once_and_what_one_brings_twice_is_taken_twice() {
        let mut doubles = Doubles::new(1);
        let (direct, round) =
            (message(Some("a>"), "x", QoS::AtLeastOnce), message(Some("a>/c>"), "x", QoS::AtLeastOnce));
        assert!(bring(&mut doubles, at(0), way(1), &direct));
        assert!(!bring(&mut doubles, at(0), way(2), &round));
        assert!(!bring(&mut doubles, at(0), way(3), &direct));
        assert!(bring(&mut doubles, at(1), way(2), &round), "the second that is like it");
        assert!(!bring(&mut doubles, at(1), way(1), &direct));
        assert!(bring(&mut doubles, at(1), way(1), &direct));
    }

    #[test]
    fn what_differs_in_anything_that_travels_unchanged_is_another_message() {
        let like = message(Some("a>"), "x", QoS::AtLeastOnce);
        let change = |what: &dyn Fn(&mut Message, &mut MessageProperties)| {
            let mut other = like.clone();
            let mut own = MessageProperties::clone(other.properties.as_ref().unwrap());
            what(&mut other, &mut own);
            other.properties = Some(Arc::new(own));
            other
        };
        let mut pairs = Vec::new();
        UserProperties::push(&mut pairs, "colour", "blue");
        UserProperties::push(&mut pairs, HOPS_PROPERTY, "a>");
        let others = [
            change(&|other, _| other.topic = TopicName::new("a/c").unwrap()),
            change(&|other, _| other.payload = Bytes::from_static(b"y")),
            change(&|other, _| other.retain = true),
            change(&|_, own| own.payload_format = Some(true)),
            change(&|_, own| own.correlation_data = Some(Bytes::from_static(b"1"))),
            change(&|_, own| own.content_type = Some("text".into())),
            change(&|_, own| own.user_properties = pairs.clone().into()),
            message(Some("b>"), "x", QoS::AtLeastOnce),
            message(None, "x", QoS::AtLeastOnce),
        ];
        for other in &others {
            let mut doubles = Doubles::new(1);
            assert!(bring(&mut doubles, at(0), way(1), &like));
            assert!(bring(&mut doubles, at(0), way(2), other), "{other:?}");
        }
        let alike = [
            change(&|other, _| other.expires = Some(at(9))),
            change(&|other, _| other.qos = QoS::ExactlyOnce),
            change(&|_, own| own.response_topic = Some(TopicName::new("elsewhere").unwrap())),
        ];
        for other in &alike {
            let mut doubles = Doubles::new(1);
            assert!(bring(&mut doubles, at(0), way(1), &like));
            assert!(!bring(&mut doubles, at(0), way(2), other), "{other:?}");
        }
    }

    #[test]
    fn what_was_refused_makes_no_double_of_the_other_copy() {
        let mut doubles = Doubles::new(1);
        let one = message(Some("a>"), "x", QoS::AtLeastOnce);
        assert!(matches!(doubles.judge(at(0), way(1), &one, false), Judged::First(_)), "and it is refused");
        assert!(bring(&mut doubles, at(0), way(2), &one));
        assert!(!bring(&mut doubles, at(0), way(1), &one), "sent again");
    }

    #[test]
    fn what_came_with_qos_0_is_taken_again_with_more_because_those_who_are_away_are_owed_it() {
        let mut doubles = Doubles::new(1);
        let (low, high) = (message(Some("a>"), "x", QoS::AtMostOnce), message(Some("a>"), "x", QoS::AtLeastOnce));
        assert!(bring(&mut doubles, at(0), way(1), &low));
        assert!(bring(&mut doubles, at(0), way(2), &high));
        assert!(!bring(&mut doubles, at(0), way(3), &high));
        assert!(!bring(&mut doubles, at(0), way(4), &low));
        assert!(bring(&mut doubles, at(0), way(1), &low), "the next that is like it");
    }

    #[test]
    fn a_sign_of_life_that_one_way_lost_is_not_taken_for_its_double_when_the_other_is_lost() {
        let mut doubles = Doubles::new(1);
        let mut beat = message(Some("a>"), "alive", QoS::AtMostOnce);
        for second in 0..5 {
            assert!(bring(&mut doubles, at(second), way(1), &beat));
        }
        let up_again = Way { id: 2, since: at(5) };
        assert!(bring(&mut doubles, at(5), up_again, &beat), "nothing of what came before comes by it");
        assert!(!bring(&mut doubles, at(5), way(1), &beat));
        // Where the cut was further away it is not known, and does not last.
        for second in 6..20 {
            assert!(bring(&mut doubles, at(second), way(1), &beat));
        }
        assert!(!bring(&mut doubles, at(20), way(3), &beat));
        assert!(bring(&mut doubles, at(29), way(3), &beat), "the last one by the other way is ten seconds old");
        // What is retained is told again whenever a link comes up.
        beat.retain = true;
        assert!(bring(&mut doubles, at(30), way(1), &beat));
        assert!(!bring(&mut doubles, at(31), Way { id: 2, since: at(31) }, &beat));
    }

    #[test]
    fn what_is_sent_again_may_come_twice_and_makes_no_double_of_the_next() {
        let mut doubles = Doubles::new(1);
        let one = message(Some("a>"), "x", QoS::AtLeastOnce);
        assert!(bring(&mut doubles, at(0), way(1), &one));
        assert_eq!(doubles.judge(at(1), way(1), &one, true), Judged::Unknown);
        assert_eq!(doubles.judge(at(1), way(2), &one, true), Judged::Double);
        assert!(bring(&mut doubles, at(2), way(2), &one), "the next that is like it");
        assert!(!bring(&mut doubles, at(2), way(1), &one));
    }

    #[test]
    fn the_memory_is_bounded_forgets_the_oldest_first_and_ends_after_a_minute() {
        let mut doubles = Doubles::new(1);
        for number in 0..=limits::COPIES {
            assert!(bring(&mut doubles, at(0), way(1), &message(Some("a>"), &number.to_string(), QoS::AtLeastOnce)));
        }
        assert_eq!((doubles.order.len(), doubles.alike.len()), (limits::COPIES, limits::COPIES));
        assert!(!bring(&mut doubles, at(0), way(2), &message(Some("a>"), "1", QoS::AtLeastOnce)));
        assert!(bring(&mut doubles, at(0), way(2), &message(Some("a>"), "0", QoS::AtLeastOnce)), "comes twice");
        let last = message(Some("a>"), &limits::COPIES.to_string(), QoS::AtLeastOnce);
        assert!(bring(&mut doubles, at(60), way(2), &last));
        assert_eq!((doubles.order.len(), doubles.alike.len()), (1, 1));
        let mut many = Doubles::new(1);
        let one = message(Some("a>"), "x", QoS::AtLeastOnce);
        let taken = (0..200).filter(|id| bring(&mut many, at(0), way(*id), &one)).count();
        assert_eq!(taken, 1 + 200 - limits::WAYS, "of more ways nothing is known");
        assert_eq!(many.alike.values().next().unwrap().brought.len(), limits::WAYS);
    }

    proptest! {
        /// Each way brings its part of `published` messages that are all alike; whatever the order, as many are taken as
        /// the way with most of them brought, and at no time fewer than any has brought.
        #[test]
        fn of_messages_that_are_alike_as_many_are_taken_as_one_way_brings(
            brought in prop::collection::vec(0_u8..12, 1..5),
            order in prop::collection::vec(any::<prop::sample::Index>(), 60),
            kept in any::<bool>(),
        ) {
            let mut left: Vec<u8> = brought.clone();
            let mut doubles = Doubles::new(7);
            let one = message(Some("a>"), "x", if kept { QoS::AtLeastOnce } else { QoS::AtMostOnce });
            let (mut taken, mut step) = (0, 0);
            while left.iter().any(|left| *left > 0) {
                let open: Vec<usize> = (0..left.len()).filter(|by| left[*by] > 0).collect();
                let by = open[order[step % order.len()].index(open.len())];
                left[by] -= 1;
                let now = Time::from_millis(step as u64);
                taken += u32::from(bring(&mut doubles, now, way(by as u64), &one));
                let most = brought.iter().zip(&left).map(|(all, left)| u32::from(all - left)).max().unwrap();
                prop_assert_eq!(taken, most);
                step += 1;
            }
        }

        /// Whatever is forgotten meanwhile, and whatever differs: nothing is dropped that no other way has brought.
        #[test]
        fn nothing_is_a_double_that_no_other_way_has_brought(
            copies in prop::collection::vec((0_u64..3, 0_u8..4, 0_u64..30, 0_u8..2, any::<bool>()), 0..200),
        ) {
            let mut doubles = Doubles::new(7);
            let mut now = 0;
            let mut brought: BTreeMap<(u8, u64), u32> = BTreeMap::new();
            let mut taken: BTreeMap<u8, u32> = BTreeMap::new();
            for (by, what, later, qos, again) in copies {
                now += later;
                let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
                let one = message(Some("a>"), &what.to_string(), qos);
                *brought.entry((what, by)).or_default() += 1;
                match doubles.judge(at(now), way(by), &one, again) {
                    Judged::Double => {}
                    Judged::First(mark) => {
                        doubles.took(at(now), way(by), mark);
                        *taken.entry(what).or_default() += 1;
                    }
                    Judged::Unknown => *taken.entry(what).or_default() += 1,
                }
                prop_assert!(taken[&what] >= brought[&(what, by)].min(1));
                let others: u32 = (0..3).filter(|o| *o != by).filter_map(|o| brought.get(&(what, o))).sum();
                let dropped = (0..3).filter_map(|o| brought.get(&(what, o))).sum::<u32>() - taken[&what];
                prop_assert!(dropped == 0 || others > 0 || brought.len() > 1);
                prop_assert!(doubles.order.len() <= limits::COPIES);
                prop_assert_eq!(doubles.order.len(), doubles.alike.values().map(|alike| alike.taken.len()).sum::<usize>());
            }
            for ((what, by), count) in &brought {
                // Within a minute and without QoS 0 the way with most decides; here at least what it alone brought.
                let others: u32 = (0..3).filter(|o| o != by).filter_map(|o| brought.get(&(*what, o))).sum();
                prop_assert!(taken[what] >= count.saturating_sub(others));
            }
        }
    }
}
