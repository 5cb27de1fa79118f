//! Share groups: each hears a message once, whoever of its members gets it.
//!
//! In: what was routed to a group with the members that it had, and who left. Out: how many copies of a message the
//! members may get together, and breaches at rest.

use std::collections::{BTreeMap, BTreeSet};

use viaduct_codec::{QoS, Time};

use super::book::Asked;
use super::{Named, Oracle, Promise};
use crate::payload::MessageId;

type Name = (usize, String);

#[derive(Default)]
pub(super) struct Groups {
    debts: BTreeMap<(usize, String, MessageId), Debt>,
    /// Who left which group, when, and whether because the session ended.
    left: BTreeMap<Name, Vec<(u64, u64, bool)>>,
    /// Groups that ever had a member who takes QoS 0, or 2.
    weak: BTreeSet<Name>,
    strict: BTreeSet<Name>,
    /// Messages that were routed to each group and have not come to anybody.
    waiting: BTreeMap<Name, usize>,
}

/// A message that a group is to hear.
struct Debt {
    topic: String,
    first: u64,
    routings: usize,
    members: Vec<u64>,
    /// The lowest QoS that any member would get it with.
    lowest: QoS,
    /// As it was published.
    qos: QoS,
    deadline: Option<Time>,
    /// It may have been lost with a session, or with its broker before anybody was told that it has it.
    is_loose: bool,
    /// Restarts that may have brought it once more.
    restarts: usize,
}

impl Groups {
    #[allow(clippy::too_many_arguments, reason = "one call, and each is a different kind of thing")]
    pub(super) fn routed(
        &mut self,
        broker: usize,
        filter: &str,
        named: &Named,
        step: u64,
        members: &[(u64, QoS)],
        qos: QoS,
        deadline: Option<Time>,
    ) {
        let lowest = members.iter().map(|(_, granted)| *granted).min().unwrap_or_default().min(qos);
        let members: Vec<u64> = members.iter().map(|(incarnation, _)| *incarnation).collect();
        let debt = self.debts.entry((broker, filter.to_owned(), named.0)).or_insert_with(|| Debt {
            topic: named.1.clone(),
            first: step,
            routings: 0,
            members,
            lowest,
            qos,
            deadline,
            is_loose: false,
            restarts: 0,
        });
        debt.routings += 1;
        *self.waiting.entry((broker, filter.to_owned())).or_default() += 1;
    }

    pub(super) fn joined(&mut self, broker: usize, filter: &str, qos: QoS) {
        match qos {
            QoS::AtMostOnce => _ = self.weak.insert((broker, filter.to_owned())),
            QoS::AtLeastOnce => {}
            QoS::ExactlyOnce => _ = self.strict.insert((broker, filter.to_owned())),
        }
    }

    pub(super) fn left(&mut self, broker: usize, filter: &str, who: u64, step: u64, ended: bool) {
        let left = self.left.entry((broker, filter.to_owned())).or_default();
        if !left.contains(&(step, who, ended)) {
            left.push((step, who, ended));
        }
    }

    /// A copy came to one of its members.
    pub(super) fn heard(&mut self, broker: usize, filter: &str) {
        if let Some(waiting) = self.waiting.get_mut(&(broker, filter.to_owned())) {
            *waiting = waiting.saturating_sub(1);
        }
    }

    /// How many messages its members may have waiting, all together.
    pub(super) fn waiting(&self, broker: usize, filter: &str) -> usize {
        self.waiting.get(&(broker, filter.to_owned())).copied().unwrap_or_default()
    }

    /// How many copies of `message` the members of a group may get together.
    pub(super) fn allowance(&self, broker: usize, filter: &str, message: MessageId) -> usize {
        let Some(debt) = self.debts.get(&(broker, filter.to_owned(), message)) else { return 0 };
        // Each copy may be with a member whose session ends, and then goes to another.
        debt.restarts
            + debt.routings * (1 + self.departures(broker, filter, debt.first).filter(|(.., ended)| *ended).count())
    }

    /// Whether it was heard can't be told.
    pub(super) fn loosen(&mut self, broker: usize, filter: &str, message: MessageId) {
        if let Some(debt) = self.debts.get_mut(&(broker, filter.to_owned(), message)) {
            debt.is_loose = true;
        }
    }

    /// `broker` stopped: members for whom `stays` says no are gone, and what is not acknowledged may be.
    pub(super) fn interrupt(
        &mut self,
        broker: usize,
        stays: impl Fn(u64) -> bool,
        is_acknowledged: impl Fn(MessageId) -> bool,
    ) {
        for ((owner, _, message), debt) in &mut self.debts {
            if *owner == broker {
                debt.restarts += 1;
                debt.is_loose |= !is_acknowledged(*message) || !debt.members.iter().all(|member| stays(*member));
            }
        }
    }

    fn departures(&self, broker: usize, filter: &str, since: u64) -> impl Iterator<Item = &(u64, u64, bool)> {
        let left = self.left.get(&(broker, filter.to_owned()));
        left.into_iter().flatten().filter(move |(step, ..)| *step > since)
    }
}

impl Oracle {
    /// The world has come to rest: each group has heard each message, and no more often than it may.
    pub(super) fn settle_groups(&mut self, is_bounded: bool) {
        let (mut debts, mut found) = (0, Vec::new());
        for ((broker, filter, message), debt) in &self.groups.debts {
            let Some(fact) = self.fact(*message).filter(|fact| fact.acknowledged) else { continue };
            let holders = || {
                let here = self.books.values().filter(|book| book.broker == *broker && !book.is_lost);
                here.filter(|book| book.shares.contains_key(filter))
            };
            // Whoever hears it for another reason as well can't be told apart.
            let (named, topic) = ((*message, debt.topic.clone()), debt.topic.as_str());
            let is_mixed = holders().any(|book| {
                if book.is_vague {
                    return true;
                }
                let asked = |asked: &Asked| asked.may_be_late && super::matches(&asked.filter, topic);
                if book.asked.iter().any(asked) {
                    return true;
                }
                let shares =
                    book.shares.iter().filter(|(own, share)| *own != filter && super::matches(&share.filter, topic));
                shares.count() > 0
                    || book.entries.get(&named).is_some_and(|entry| entry.live.len() + entry.replays.len() > 0)
            });
            if is_mixed || holders().any(|book| fact.size + topic.len() + 64 > book.takes) {
                continue;
            }
            debts += 1;
            let copies: usize =
                holders().filter_map(|book| book.entries.get(&named)).map(super::book::Entry::copies).sum();
            let departures: Vec<_> = self.groups.departures(*broker, filter, debt.first).collect();
            let stayed = debt.members.iter().any(|member| !departures.iter().any(|(_, who, _)| who == member));
            // What goes to another member goes as that one takes it.
            let name = (*broker, filter.clone());
            let is_weak = !departures.is_empty() && self.groups.weak.contains(&name);
            let is_strict = debt.qos == QoS::ExactlyOnce && self.groups.strict.contains(&name);
            let may_be_lost = is_bounded
                || debt.is_loose
                || debt.lowest == QoS::AtMostOnce
                || is_weak
                || (is_strict && departures.iter().any(|(.., ended)| *ended))
                || !Self::lives(debt.deadline, self.now);
            let most = self.groups.allowance(*broker, filter, *message);
            if copies > most {
                found.push(format!("{filter} heard {message} at {topic} {copies} times, {most} are right"));
            } else if copies == 0 && stayed && !may_be_lost {
                found.push(format!("{filter} never heard {message} at {topic}"));
            }
        }
        self.debts += debts;
        for what in found {
            self.breach(Promise::ShareGroups, what);
        }
    }
}
