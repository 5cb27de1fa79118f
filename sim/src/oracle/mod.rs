//! What every subscriber is owed, known from what went into the brokers and what their clients got.
//!
//! In: every packet that a broker took, in the order in which it took them; every packet that a client got or sent; every
//! end of a connection; the deadlines that passed. Out: [`Violation`]s. Keeps its own account of sessions, subscriptions,
//! retained messages, wills and share groups (`model`), from which each message that a broker takes becomes entries in
//! the books of those who are to get it (`book`). Never asks a broker what it thinks.
//!
//! # What the oracle lets pass, and why
//!
//! - QoS 0 is owed only to whoever keeps the connection that it was routed to, until it arrived (section 4.3.1).
//! - A retained message that a subscription asked for is owed with QoS 0 only while the connection of the SUBSCRIBE lasts. When
//!   much waits for the session the broker may look for it later, and find a newer one, or none.
//! - A QoS 1 message that its publisher sent more than once may come once for each time, in any place after the first.
//! - The first that a client sees of a delivery may have DUP 1: the first sending was lost with its connection. So a PUBLISH with
//!   DUP 1 under an identifier whose QoS 2 exchange the broker has seen end is no repetition but another delivery, and counted as
//!   one, also when the message is the same (a retained one comes for each SUBSCRIBE). What has no payload names no message: two
//!   of them are the same if their topics are.
//! - What is sent again after a reconnect (DUP 1) may have expired meanwhile: its delivery had begun (section 3.3.2.3.3).
//! - A message with an expiry is owed only if it still lives when the world has come to rest.
//! - A message that may not fit the client's Maximum Packet Size is not owed.
//! - A message of a share group is owed to the group. When a member's session ends, a QoS 1 message that it may have had
//!   may come to another member once more, and a QoS 2 message that was begun with it is lost (MQTT-4.8.2-5).
//! - A message that is on its way between two workers when its receiver unsubscribes is still delivered.
//! - Of the last moment before a restart, what nobody was told of may be there or not (`recovery`): a copy of QoS 1 comes once
//!   more, under any identifier; what a bridge brought was not told of to this broker's own clients. Where nobody can tell
//!   which of two sessions of one ClientID came back, it is not judged.
//! - A delayed will that was published in the last moment before a restart may be published after it: nobody is told that it was.
//!   One of QoS 2 still comes once.
//! - Retained messages that a new subscription asked for and that were not handed to its queue when the broker stopped.
//! - A message that was on its way to a connection may have waited there for the disk, with the expiry that it had before.
//! - Across a restart of the broker that it brings messages to, a bridge is not held to bring one of QoS 2 once here: what that broker had
//!   heard and not written is brought again, and what it had written is not known here. Across a restart of either end the order is
//!   not judged, and echoes that were known before may come. Whenever a bridge connects it asks for what is retained, so that it
//!   may bring a retained message once more, and one of this broker's own back.

mod book;
mod bridges;
mod filter;
mod groups;
mod model;
mod recovery;
mod routing;
mod wire;

use std::collections::BTreeMap;

use viaduct_codec::{QoS, Time};

use crate::payload::MessageId;
use book::Book;
use bridges::Carried;
pub(crate) use bridges::Carrier;
use filter::matches;
use groups::Groups;
use model::BrokerModel;
pub(crate) use model::End;
use wire::Wire;

/// What was promised and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// An acknowledged message, or one of QoS 0 on a connection that lasted, arrives.
    NothingLost,
    /// No message arrives more often than its QoS allows.
    NothingDoubled,
    /// Nothing arrives that no subscription asked for, nor in another form than it asked for.
    NothingUnasked,
    /// Messages of one publisher, topic and QoS arrive in their order.
    Order,
    /// A new subscription gets the last retained messages, marked as such.
    Retained,
    /// A will is published once when it is owed, and never after a goodbye.
    Wills,
    /// Every share group hears each message once.
    ShareGroups,
    /// A packet identifier is not used for something else while it is in use.
    PacketIds,
    /// No more is in flight than the client takes.
    ReceiveMaximum,
    /// Expired messages are not delivered, and the expiry counts down.
    Expiry,
    /// A session lives as long as it was asked to, no longer and no shorter.
    Sessions,
    /// Every packet is answered, in order, and nobody who keeps the rules is accused.
    Conversation,
    /// What a bridge carries arrives at the other broker as often and in the order that its QoS says.
    Bridges,
    /// When everything has come to rest nothing is left behind.
    NoLeaks,
}

/// One breach, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Virtual milliseconds since the start of the run.
    pub at: u64,
    /// What was promised.
    pub promise: Promise,
    /// What happened instead.
    pub what: String,
}

/// What is known of a message from its making.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    /// The client that made it.
    pub(crate) publisher: String,
    pub(crate) size: usize,
    pub(crate) is_will: bool,
    /// The publisher was told that the broker has it. A will needs nobody to be told.
    pub(crate) acknowledged: bool,
}

/// A message at the topic that it has at one broker: a bridge may bring it under another.
type Named = (MessageId, String);

/// Violations kept of one run: the first tells the most.
const KEPT: usize = 20;

pub(crate) struct Oracle {
    messages: Vec<Fact>,
    brokers: Vec<BrokerModel>,
    wires: BTreeMap<u64, Wire>,
    books: BTreeMap<u64, Book>,
    groups: Groups,
    quiet_takeovers: bool,
    carried: Vec<Carried>,
    /// Counts what brokers did, so that any two things have an order.
    step: u64,
    now: Time,
    pub(crate) violations: Vec<Violation>,
    /// First copies that arrived.
    pub(crate) arrived: u64,
    /// Debts that were looked at when the world had come to rest.
    pub(crate) debts: u64,
}

impl Oracle {
    /// For as many brokers as `workers` has numbers, each with that many workers. `quiet_takeovers`: they are told not to
    /// publish the wills of connections that are taken over.
    pub(crate) fn new(workers: &[u16], quiet_takeovers: bool) -> Self {
        Self {
            messages: Vec::new(),
            brokers: workers.iter().map(|workers| BrokerModel::new(*workers)).collect(),
            wires: BTreeMap::new(),
            books: BTreeMap::new(),
            groups: Groups::default(),
            quiet_takeovers,
            carried: Vec::new(),
            step: 0,
            now: Time::default(),
            violations: Vec::new(),
            arrived: 0,
            debts: 0,
        }
    }

    /// A message is made; its payload is to name it.
    pub(crate) fn made(&mut self, publisher: &str, is_will: bool) -> MessageId {
        self.messages.push(Fact { publisher: publisher.to_owned(), size: 0, is_will, acknowledged: is_will });
        MessageId(u32::try_from(self.messages.len() - 1).unwrap_or(u32::MAX))
    }

    /// The publisher was told that the broker has it.
    pub(crate) fn acknowledged(&mut self, id: MessageId) {
        if let Some(fact) = self.fact_mut(id) {
            fact.acknowledged = true;
        }
    }

    /// The time of what is told next.
    pub(crate) fn at(&mut self, now: Time) {
        self.now = now;
    }

    pub(crate) fn breach(&mut self, promise: Promise, what: String) {
        if self.violations.len() < KEPT {
            let at = u64::try_from(self.now.since(crate::START).as_millis()).unwrap_or(u64::MAX);
            self.violations.push(Violation { at, promise, what });
        }
    }

    fn fact(&self, id: MessageId) -> Option<&Fact> {
        self.messages.get(id.0 as usize)
    }

    fn fact_mut(&mut self, id: MessageId) -> Option<&mut Fact> {
        self.messages.get_mut(id.0 as usize)
    }

    /// Wills have a promise of their own; everything else about a message is `promise`.
    fn promise_of(&self, id: MessageId, promise: Promise) -> Promise {
        if self.fact(id).is_some_and(|fact| fact.is_will) { Promise::Wills } else { promise }
    }

    /// A copy of `id` that may be had at `now`, if its expiry is not among those that passed.
    fn lives(deadline: Option<Time>, now: Time) -> bool {
        deadline.is_none_or(|deadline| now < deadline)
    }
}

/// Whether a delivery of this QoS waits for an acknowledgement.
fn is_owed(qos: QoS) -> bool {
    qos > QoS::AtMostOnce
}
