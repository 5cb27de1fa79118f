//! The account of one drill: what was sent, what the broker acknowledged, who was subscribed, and what arrived.
//!
//! In: what happened, in the order in which the drill saw it. Out: what [`crate::judge`] needs to say whether a promise
//! was broken. Must never: know a socket, so that made-up histories can be judged as well.
//!
//! A message is a number, which is in its payload; numbers rise in the order of the first sending. A topic has one
//! publisher and one QoS, so that a topic is what the standard keeps in order.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::retained::Shelf;

/// What a bridge between two brokers carries, both ways.
pub(crate) const CARRIED: &str = "d/#";

/// A moment: how many things had been written down before.
pub(crate) type Moment = u64;

/// What becomes of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its owner is connected, or took it back: it must not be published.
    Never,
    /// Nobody can know: it may be published, at most once.
    May,
    /// Its owner died at this moment: it is published once.
    Owed(Moment),
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The place of the broker that it was published at.
    pub(crate) broker: usize,
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) round: u32,
    pub(crate) first_sent: Moment,
    pub(crate) acknowledged: Option<Moment>,
    /// An empty payload: it carries no number, so nobody can be asked for it.
    pub(crate) is_clearing: bool,
    pub(crate) will: Option<Fate>,
}

#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    pub(crate) asked: Moment,
    pub(crate) granted: Option<Moment>,
    pub(crate) leaving: Option<Moment>,
    pub(crate) left: Option<Moment>,
}

/// One message at the application of a receiver.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) number: u64,
    pub(crate) qos: u8,
    /// Which connection of the receiver.
    pub(crate) connection: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// The place of its broker.
    pub(crate) broker: usize,
    pub(crate) name: String,
    pub(crate) is_persistent: bool,
    /// Of its present session.
    pub(crate) subscriptions: Vec<Subscription>,
    /// Of this round.
    pub(crate) deliveries: Vec<Delivery>,
    /// Of this session, this round and the one before: what it had when the round began.
    pub(crate) had: HashSet<u64>,
    /// The same with what came in this round.
    pub(crate) has: HashSet<u64>,
    /// The highest number of each topic when the round began.
    pub(crate) highest: HashMap<String, u64>,
}

/// The whole account.
#[derive(Debug, Default)]
pub(crate) struct Book {
    moment: Moment,
    last_number: u64,
    pub(crate) round: u32,
    pub(crate) messages: BTreeMap<u64, Message>,
    /// Every sending of each topic, resends too, of this round and the one before.
    pub(crate) sendings: HashMap<String, Vec<u64>>,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) shelf: Shelf,
    /// PUBACK and PUBREC, over all rounds.
    pub(crate) acknowledgements: u64,
    /// Messages that reached an application, over all rounds.
    pub(crate) arrivals: u64,
    /// Those of them that came over a bridge.
    pub(crate) crossings: u64,
}

impl Book {
    /// The next moment.
    fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// A receiver of messages; the answer names it from then on.
    pub(crate) fn receiver(&mut self, broker: usize, name: &str, is_persistent: bool) -> usize {
        self.receivers.push(Receiver { broker, name: name.to_owned(), is_persistent, ..Receiver::default() });
        self.receivers.len() - 1
    }

    /// A new message is sent; the answer is its number.
    pub(crate) fn sent(&mut self, broker: usize, topic: &str, qos: u8, retain: bool, is_clearing: bool) -> u64 {
        let number = self.note(broker, topic, qos, is_clearing, None);
        if retain {
            self.shelf.changed(topic, number, is_clearing);
        }
        number
    }

    /// A will goes with a CONNECT; the answer is its number. Until its fate is known it must not be published.
    pub(crate) fn will(&mut self, broker: usize, topic: &str, qos: u8) -> u64 {
        self.note(broker, topic, qos, false, Some(Fate::May))
    }

    fn note(&mut self, broker: usize, topic: &str, qos: u8, is_clearing: bool, will: Option<Fate>) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        let (first_sent, round) = (self.tick(), self.round);
        let topic = topic.to_owned();
        self.sendings.entry(topic.clone()).or_default().push(number);
        let acknowledged = None;
        let message = Message { broker, topic, qos, round, first_sent, acknowledged, is_clearing, will };
        self.messages.insert(number, message);
        number
    }

    /// A message was sent once more, because its acknowledgement had not come when the connection ended.
    pub(crate) fn resent(&mut self, number: u64) {
        if let Some(message) = self.messages.get(&number) {
            self.sendings.entry(message.topic.clone()).or_default().push(number);
        }
    }

    pub(crate) fn acknowledged(&mut self, number: u64) {
        let moment = self.tick();
        self.acknowledgements += 1;
        if let Some(message) = self.messages.get_mut(&number) {
            message.acknowledged.get_or_insert(moment);
            self.shelf.acknowledged(&message.topic, number);
        }
    }

    /// The owner of a will has died, at this moment.
    pub(crate) fn will_is_owed(&mut self, number: u64) {
        let moment = self.tick();
        self.will_is(number, Fate::Owed(moment));
    }

    pub(crate) fn will_is(&mut self, number: u64, fate: Fate) {
        if let Some(message) = self.messages.get_mut(&number) {
            message.will = Some(fate);
        }
    }

    pub(crate) fn subscribing(&mut self, receiver: usize, filter: &str, qos: u8) {
        let asked = self.tick();
        let Some(receiver) = self.receivers.get_mut(receiver) else { return };
        let (filter, granted, leaving, left) = (filter.to_owned(), None, None, None);
        receiver.subscriptions.push(Subscription { filter, qos, asked, granted, leaving, left });
    }

    /// SUBACK for everything that was asked for.
    pub(crate) fn subscribed(&mut self, receiver: usize) {
        let moment = self.tick();
        for subscription in self.subscriptions(receiver) {
            subscription.granted.get_or_insert(moment);
        }
    }

    pub(crate) fn unsubscribing(&mut self, receiver: usize, filter: &str) {
        let moment = self.tick();
        for subscription in self.subscriptions(receiver).filter(|subscription| subscription.filter == filter) {
            subscription.leaving.get_or_insert(moment);
        }
    }

    /// UNSUBACK.
    pub(crate) fn unsubscribed(&mut self, receiver: usize, filter: &str) {
        let moment = self.tick();
        for subscription in self.subscriptions(receiver).filter(|subscription| subscription.filter == filter) {
            if subscription.leaving.is_some() {
                subscription.left.get_or_insert(moment);
            }
        }
    }

    fn subscriptions(&mut self, receiver: usize) -> impl Iterator<Item = &mut Subscription> {
        self.receivers.get_mut(receiver).into_iter().flat_map(|receiver| &mut receiver.subscriptions)
    }

    /// The session of a receiver is over and another begins.
    pub(crate) fn began_anew(&mut self, receiver: usize) {
        if let Some(receiver) = self.receivers.get_mut(receiver) {
            receiver.had.clear();
            receiver.has.clear();
            receiver.highest.clear();
            receiver.subscriptions.clear();
            // Nothing is owed to the session before, and the order of its topics ends with it.
            receiver.deliveries.clear();
        }
    }

    /// A message at the application of a receiver.
    pub(crate) fn delivered(&mut self, receiver: usize, connection: u32, number: u64, qos: u8) {
        self.arrivals += 1;
        if let Some(receiver) = self.receivers.get_mut(receiver) {
            let message = self.messages.get(&number);
            self.crossings += u64::from(message.is_some_and(|message| message.broker != receiver.broker));
            receiver.has.insert(number);
            receiver.deliveries.push(Delivery { number, qos, connection });
        }
    }

    /// After a round was judged: what is older than the round before is forgotten.
    pub(crate) fn next_round(&mut self) {
        let oldest = self.round;
        self.round += 1;
        self.messages.retain(|_, message| message.round >= oldest);
        let messages = &self.messages;
        self.sendings.retain(|_, sendings| {
            sendings.retain(|number| messages.contains_key(number));
            !sendings.is_empty()
        });
        for receiver in &mut self.receivers {
            for delivery in receiver.deliveries.drain(..) {
                if let Some(message) = messages.get(&delivery.number) {
                    let highest = receiver.highest.entry(message.topic.clone()).or_default();
                    *highest = delivery.number.max(*highest);
                }
            }
            receiver.has.retain(|number| messages.contains_key(number));
            receiver.had.clone_from(&receiver.has);
            receiver.subscriptions.retain(|subscription| subscription.left.is_none());
        }
    }
}
