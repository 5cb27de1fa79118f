//! What bridges carry from one broker to another: as often and in the order that its QoS promises, end to end.
//!
//! In: which session of which broker is whose source and target. Out: breaches, when something arrives at the target and
//! at rest. What happens within each of the two brokers is judged like everything else.

use std::collections::BTreeMap;

use viaduct_bridge::limits::ECHO_AGE;
use viaduct_codec::QoS;

use super::book::Entry;
use super::routing::Source;
use super::{Oracle, Promise, is_owed};
use crate::payload::MessageId;

/// One direction of a bridge.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    /// The broker and the session there that messages are taken from.
    pub(crate) from: (usize, String),
    /// The broker and the session there that they are given to.
    pub(crate) to: (usize, String),
    /// What a topic begins with there, and with what it begins here instead.
    pub(crate) rules: Vec<(String, String)>,
    /// Both ends know which messages are their own, so that nothing comes back.
    pub(crate) is_exact: bool,
    pub(crate) is_v5: bool,
}

impl Carrier {
    /// Where a message comes to that was at `topic`.
    fn onward(&self, topic: &str) -> Option<String> {
        let renamed =
            |(old, new): &(String, String)| topic.strip_prefix(old.as_str()).map(|rest| format!("{new}{rest}"));
        self.rules.iter().find_map(renamed)
    }

    /// Where a message was that came to `topic`.
    fn back(&self, topic: &str) -> Option<String> {
        let renamed =
            |(old, new): &(String, String)| topic.strip_prefix(new.as_str()).map(|rest| format!("{old}{rest}"));
        self.rules.iter().find_map(renamed)
    }
}

/// What a carrier has done.
pub(super) struct Carried {
    carrier: Carrier,
    /// The last message of each publisher, topic and QoS, by the step at which the source took it.
    order: BTreeMap<(String, String, QoS), (u64, MessageId)>,
}

impl Oracle {
    pub(crate) fn carries(&mut self, carrier: Carrier) {
        self.carried.push(Carried { carrier, order: BTreeMap::new() });
    }

    /// `broker` is about to route what it took from one of its clients, which may be a bridge.
    pub(super) fn carried_in(&mut self, broker: usize, message: Option<MessageId>, source: &Source<'_>) {
        let Some(message) = message else { return };
        let is_target = |carried: &Carried| carried.carrier.to.0 == broker && carried.carrier.to.1 == source.client;
        let Some(place) = self.carried.iter().position(is_target) else { return };
        let carrier = self.carried[place].carrier.clone();
        let from = carrier.from.clone();
        let origin = (message, carrier.back(source.topic).unwrap_or_default());
        let before = self.brokers[from.0].routed.get(&origin).map(|routed| routed.first);
        let Some(first) = before else {
            let what = format!("{} brought {message} to {:?}, where it does not belong", source.client, source.topic);
            return self.breach(Promise::Bridges, what);
        };
        let has_restarted = self.brokers[from.0].crashed > first || self.brokers[broker].crashed > first;
        if self.brokers[broker].crashed > first || (has_restarted && source.qos != QoS::ExactlyOnce) {
            return;
        }
        let taken = self.brokers[broker].routed.get(&(message, source.topic.to_owned()));
        let is_own = taken.is_some_and(|routed| routed.taken.keys().any(|client| client != source.client));
        // A retained one comes back whenever the bridge asks for what is retained. On 3.x, where the bridge may have had to
        // do without the private bit for a while, one of QoS 1 may be an echo that was sent again.
        // And what comes late enough is not remembered.
        let is_late = taken.is_some_and(|routed| routed.last.after(ECHO_AGE) <= self.now);
        let may_come_back = source.retain || (!carrier.is_v5 && (source.qos == QoS::AtLeastOnce || is_late));
        if is_own && carrier.is_exact && !may_come_back && !has_restarted {
            let what = format!("{} brought {message} back to {}", source.client, source.topic);
            return self.breach(Promise::Bridges, what);
        }
        let count = taken.and_then(|routed| routed.taken.get(source.client)).copied().unwrap_or_default();
        let sources = self.books.values().filter(|book| (book.broker, &book.client) == (from.0, &from.1));
        let entries: Vec<&Entry> = sources.filter_map(|book| book.entries.get(&origin)).collect();
        // The source may have brought it more than once, and rightly: whenever the bridge asked for what is retained.
        let allowed: usize = entries.iter().map(|entry| entry.copies()).sum();
        if source.qos == QoS::ExactlyOnce && count as usize >= allowed {
            let what = format!("{} brought {message} with QoS 2 more than {allowed} times", source.client);
            return self.breach(Promise::Bridges, what);
        }
        // What came for another reason than its publishing has an order of its own.
        if has_restarted {
            return;
        }
        let [Entry { live, replays, .. }] = entries.as_slice() else { return };
        let [live] = live.as_slice() else { return };
        if !replays.is_empty() {
            return;
        }
        let step = live.step;
        let publisher = self.fact(message).map(|fact| fact.publisher.clone()).unwrap_or_default();
        let Some(carried) = self.carried.get_mut(place).filter(|_| count == 0 && is_owed(source.qos)) else { return };
        let key = (publisher, source.topic.to_owned(), source.qos);
        let last = carried.order.entry(key).or_insert((step, message));
        if last.0 <= step {
            *last = (step, message);
        } else {
            let what = format!("{} brought {message} to {} after {}", source.client, source.topic, last.1);
            self.breach(Promise::Bridges, what);
        }
    }

    /// The world has come to rest: what a source was owed, its target has.
    pub(super) fn settle_bridges(&mut self) {
        let (mut debts, mut lost) = (0, Vec::new());
        for Carried { carrier, .. } in &self.carried {
            let (from, to) = (&carrier.from, &carrier.to);
            let books =
                self.books.values().filter(|book| book.is_open && (book.broker, &book.client) == (from.0, &from.1));
            for ((message, topic), entry) in books.flat_map(|book| &book.entries) {
                let owed = entry.live.iter().any(|live| is_owed(live.qos) && Self::lives(live.deadline, self.now));
                if !(owed && self.fact(*message).is_some_and(|fact| fact.acknowledged)) {
                    continue;
                }
                debts += 1;
                let there = carrier.onward(topic).unwrap_or_default();
                // What it brought itself goes nowhere.
                let here = self.brokers[from.0].routed.get(&(*message, topic.clone()));
                let is_echo = here.is_some_and(|routed| routed.taken.contains_key(&from.1));
                let routed = self.brokers[to.0].routed.get(&(*message, there));
                let arrived = routed.and_then(|routed| routed.taken.get(&to.1));
                if arrived.is_none() && !is_echo {
                    lost.push(format!("{} never brought {message} to broker {}", to.1, to.0));
                }
            }
        }
        self.debts += debts;
        for what in lost {
            self.breach(Promise::Bridges, what);
        }
    }
}
