//! Holds what arrived against what was acknowledged.
//!
//! In: the account of a round that has come to rest. Out: every broken promise.
//!
//! - **Lost**: a message of QoS 1 or 2 that was acknowledged is at every persistent receiver whose subscription was granted
//!   before the message was first sent, and was not given up before the acknowledgement came.
//! - **Doubled**: what is delivered at QoS 2 is delivered once; what is delivered at QoS 1 comes on one connection no more
//!   often than it was sent, and more often over several connections only.
//! - **Order**: within a topic, which has one publisher and one QoS, messages arrive for the first time in the order in which
//!   they were sent for the first time, as far as the receiver was subscribed then; and what one connection brings is a subsequence of what was sent, resends
//!   included. So a QoS 1 repetition repeats what was sent again (or, on a new connection, what was delivered and not yet
//!   acknowledged) in its order, and never jumps back otherwise.
//! - What a bridge carries from one broker to the other is lost, doubled at QoS 2 and in order at the receivers there as at those
//!   here. At QoS 1 it may come more often than it was sent, because the brokers send it to each other once more as well. When
//!   it is handed on there nobody knows, so it is owed to those whose subscription was not given up.
//! - **Unasked**: nothing comes without a subscription that could have been there, nor at another QoS than the lower of
//!   both, nor from another broker what no bridge carries.
//! - **Wills**: of owners who died once, of others never.

use std::collections::{BTreeMap, HashSet};

use viaduct_codec::{FilterRef, TopicRef};

use crate::book::{Book, CARRIED, Delivery, Fate, Message, Moment, Receiver};

/// When nobody can know.
const OPEN: Moment = Moment::MAX - 1;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    Lost,
    Doubled,
    Order,
    Unasked,
    Retained,
    Will,
    /// A session was gone, or there although it could not be.
    Session,
    /// The broker broke the protocol, refused what it must take, or went silent.
    Protocol,
    /// `viaduct store check` did not say that all is well.
    Check,
    /// A bridge stood still, or its link broke, and nothing was wrong with its edge.
    Gap,
    /// A bridge came back later than its back-off allows.
    Back,
    /// Processor time or memory grew.
    Flat,
}

/// One broken promise.
#[derive(Clone, Debug)]
pub(crate) struct Breach {
    pub(crate) promise: Promise,
    pub(crate) what: String,
}

impl Breach {
    pub(crate) fn new(promise: Promise, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

/// Everything that is wrong with the round that has just come to rest.
pub(crate) fn judge(book: &Book) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for receiver in &book.receivers {
        missing(book, receiver, |breach| breaches.push(breach));
        arrived(book, receiver, &mut breaches);
    }
    breaches
}

/// How many deliveries are still owed.
pub(crate) fn outstanding(book: &Book) -> usize {
    let mut count = 0;
    for receiver in &book.receivers {
        missing(book, receiver, |_| count += 1);
    }
    count
}

/// What is owed to `receiver` and has not come.
fn missing(book: &Book, receiver: &Receiver, mut say: impl FnMut(Breach)) {
    if !receiver.is_persistent {
        return;
    }
    for (number, message) in book.messages.iter().filter(|(_, message)| message.round == book.round) {
        let Some((from, until, promise)) = owed_between(message, receiver) else { continue };
        if is_subscribed(receiver, message, from, until) && !receiver.has.contains(number) {
            let what = if promise == Promise::Will { "the will" } else { "message" };
            let Message { topic, qos, .. } = message;
            say(Breach::new(promise, format!("{what} {number} on {topic} (QoS {qos}) is not at {}", receiver.name)));
        }
    }
}

/// Whether `receiver` was certainly subscribed from one moment to the other.
fn is_subscribed(receiver: &Receiver, message: &Message, from: Moment, until: Moment) -> bool {
    receiver.subscriptions.iter().any(|subscription| {
        subscription.granted.is_some_and(|granted| granted <= from)
            && subscription.leaving.is_none_or(|leaving| leaving > until)
            && matches(&subscription.filter, &message.topic)
    })
}

/// Whether what is published at the broker of `message` gets to that of `receiver`.
fn can_arrive(message: &Message, receiver: &Receiver) -> bool {
    message.broker == receiver.broker || (message.will.is_none() && matches(CARRIED, &message.topic))
}

/// Until when a message may be handed on to `receiver`: nobody knows that of one that was not acknowledged, of a will, and of what
/// a bridge carries.
fn handed_on_until(message: &Message, receiver: &Receiver) -> Moment {
    message.acknowledged.filter(|_| message.broker == receiver.broker).unwrap_or(OPEN)
}

/// Between which moments a subscription must have been there for a message to be owed to `receiver`.
fn owed_between(message: &Message, receiver: &Receiver) -> Option<(Moment, Moment, Promise)> {
    if !can_arrive(message, receiver) {
        return None;
    }
    match message.will {
        // When it is published after the death nobody can know.
        Some(Fate::Owed(death)) => Some((death, OPEN, Promise::Will)),
        Some(Fate::May | Fate::Never) => None,
        None if message.qos == 0 || message.is_clearing => None,
        None => {
            let until = handed_on_until(message, receiver);
            message.acknowledged.map(|_| (message.first_sent, until, Promise::Lost))
        }
    }
}

/// What came to `receiver`: not too often, in order, and asked for.
fn arrived(book: &Book, receiver: &Receiver, breaches: &mut Vec<Breach>) {
    let mut by_topic: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in &receiver.deliveries {
        match book.messages.get(&delivery.number) {
            Some(message) => {
                by_topic.entry(&message.topic).or_default().push(delivery);
                unasked(receiver, delivery, message, breaches);
            }
            None => breaches.push(Breach::new(
                Promise::Doubled,
                format!("message {} of a round long ago is at {} once more", delivery.number, receiver.name),
            )),
        }
    }
    for (topic, deliveries) in by_topic {
        let mut stream = Stream {
            book,
            receiver,
            topic,
            highest: receiver.highest.get(topic).copied().unwrap_or(0),
            seen: HashSet::new(),
            breaches: &mut *breaches,
        };
        stream.once_and_in_order(&deliveries);
        let sendings = book.sendings.get(topic).map(Vec::as_slice).unwrap_or_default();
        let is_from = |delivery: &&Delivery| book.messages.get(&delivery.number).map(|message| message.broker);
        if deliveries.first().and_then(is_from) == Some(receiver.broker) {
            stream.as_it_was_sent(&deliveries, sendings);
        }
    }
}

fn unasked(receiver: &Receiver, delivery: &Delivery, message: &Message, breaches: &mut Vec<Breach>) {
    let Delivery { number, qos, .. } = delivery;
    if message.will == Some(Fate::Never) {
        let what = format!(
            "the will {number} on {} is at {}, but its owner lives or took it back",
            message.topic, receiver.name
        );
        breaches.push(Breach::new(Promise::Will, what));
    }
    if !can_arrive(message, receiver) {
        let what =
            format!("message {number} on {} is at {}, and no bridge carries it there", message.topic, receiver.name);
        breaches.push(Breach::new(Promise::Unasked, what));
    }
    let until = handed_on_until(message, receiver);
    let mut possible = receiver.subscriptions.iter().filter(|subscription| {
        subscription.asked <= until
            && subscription.left.is_none_or(|left| left >= message.first_sent)
            && matches(&subscription.filter, &message.topic)
    });
    match possible.next() {
        None => breaches.push(Breach::new(
            Promise::Unasked,
            format!("message {number} on {} is at {} without a subscription", message.topic, receiver.name),
        )),
        Some(subscription) if *qos != subscription.qos.min(message.qos) => breaches.push(Breach::new(
            Promise::Unasked,
            format!("message {number} on {} came at QoS {qos} to {}", message.topic, receiver.name),
        )),
        Some(_) => {}
    }
}

/// What one receiver got of one topic.
struct Stream<'a> {
    book: &'a Book,
    receiver: &'a Receiver,
    topic: &'a str,
    highest: u64,
    seen: HashSet<u64>,
    breaches: &'a mut Vec<Breach>,
}

impl Stream<'_> {
    fn breach(&mut self, promise: Promise, what: &str) {
        self.breaches.push(Breach::new(promise, format!("{what} on {} at {}", self.topic, self.receiver.name)));
    }

    fn once_and_in_order(&mut self, deliveries: &[&Delivery]) {
        for delivery in deliveries.iter().filter(|delivery| delivery.qos > 0) {
            let number = delivery.number;
            if self.receiver.had.contains(&number) || !self.seen.insert(number) {
                if delivery.qos == 2 {
                    self.breach(Promise::Doubled, &format!("message {number} (QoS 2) once more"));
                }
            } else if number < self.highest && self.was_owed(number) {
                let highest = self.highest;
                self.breach(Promise::Order, &format!("message {number} for the first time after {highest}"));
            } else {
                self.highest = self.highest.max(number);
            }
        }
    }

    /// Whether it was owed when it was first sent. If not, it may have come by being sent again after a later one that was.
    fn was_owed(&self, number: u64) -> bool {
        self.book.messages.get(&number).is_some_and(|message| {
            is_subscribed(self.receiver, message, message.first_sent, handed_on_until(message, self.receiver))
        })
    }

    fn as_it_was_sent(&mut self, deliveries: &[&Delivery], sendings: &[u64]) {
        let mut connections: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for delivery in deliveries.iter().filter(|delivery| delivery.qos == 1) {
            connections.entry(delivery.connection).or_default().push(delivery.number);
        }
        for (connection, numbers) in connections {
            let mut left = sendings;
            for number in &numbers {
                if let Some(place) = left.iter().position(|sending| sending == number) {
                    left = left.get(place + 1..).unwrap_or_default();
                    continue;
                }
                let promise = if too_often(&numbers, sendings, *number) { Promise::Doubled } else { Promise::Order };
                self.breach(
                    promise,
                    &format!("message {number} (QoS 1) on connection {connection} without a resend that explains it"),
                );
                break;
            }
        }
    }
}

fn too_often(numbers: &[u64], sendings: &[u64], number: u64) -> bool {
    let count = |list: &[u64]| list.iter().filter(|other| **other == number).count();
    count(numbers) > count(sendings)
}

fn matches(filter: &str, topic: &str) -> bool {
    match (FilterRef::new(filter), TopicRef::new(topic)) {
        (Ok(filter), Ok(topic)) => filter.matches(topic),
        _ => false,
    }
}

/// How often each promise was broken.
pub(crate) fn counted(breaches: &[Breach]) -> BTreeMap<Promise, usize> {
    let mut counts = BTreeMap::new();
    for breach in breaches {
        *counts.entry(breach.promise).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
