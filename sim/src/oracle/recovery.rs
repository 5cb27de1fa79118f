//! A restart: what a broker has to bring back, and what it may.
//!
//! In: what its disk held when it stopped. Out: breaches, where something is missing of which a client had been told or
//! which has long been done; and an account that goes on from what is there. The disk is asked only for what nobody was
//! told of: whether a change of the last moment was made or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use viaduct_codec::{Message, QoS, Time, Version};
use viaduct_store::{Loaded, SessionRecord, SubscriptionRecord};

use super::book::Book;
use super::model::{Change, Session, Subscription, Will};
use super::routing::Retained;
use super::{Named, Oracle, Promise};
use crate::payload::{self, MessageId};

/// What was done so long ago is safe, whoever was told of it: longer than a disk of this world needs.
pub(super) const SOON: Duration = Duration::from_secs(2);

impl Oracle {
    /// `broker` stopped without a word, and `found` is what it left behind.
    pub(crate) fn crashed(&mut self, broker: usize, found: Loaded) {
        self.step += 1;
        self.brokers[broker].crashed = self.step;
        let subscriptions = by_client(found.subscriptions);
        let mut inbound: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
        for (session, packet_id) in found.inbound {
            inbound.entry(session).or_default().insert(packet_id.get());
        }
        let lone: BTreeMap<String, Will> = found
            .wills
            .iter()
            .filter_map(|record| {
                Some((record.client_id.as_str().to_owned(), will(&record.will.message, record.will.delay)?))
            })
            .collect();
        let mut records: BTreeMap<String, SessionRecord> =
            found.sessions.into_iter().map(|record| (record.client_id.as_str().to_owned(), record)).collect();
        self.retained_found(broker, &found.retained);
        for (client, session) in std::mem::take(&mut self.brokers[broker].sessions) {
            match records.remove(&client) {
                Some(record) => {
                    let ids = inbound.remove(&record.id).unwrap_or_default();
                    let own = subscriptions.get(&client).cloned().unwrap_or_default();
                    self.session_found(broker, &client, session, &record, &own, &ids);
                }
                None => self.session_gone(broker, &client, session, lone.get(&client).cloned()),
            }
        }
        for (client, record) in records {
            let own = subscriptions.get(&client).cloned().unwrap_or_default();
            self.session_returned(broker, &client, &record, &own);
        }
        let stays: BTreeSet<u64> = self.brokers[broker].sessions.values().map(|session| session.incarnation).collect();
        let messages = &self.messages;
        let is_acknowledged = |id: MessageId| messages.get(id.0 as usize).is_some_and(|fact| fact.acknowledged);
        let now = self.now;
        for (incarnation, book) in self.books.iter_mut().filter(|(_, book)| book.broker == broker && book.is_open) {
            if stays.contains(incarnation) {
                book.interrupt(now, is_acknowledged);
            } else {
                book.close();
                book.is_lost = true;
            }
        }
        self.groups.interrupt(broker, |member| stays.contains(&member), is_acknowledged);
    }

    /// `broker` is there again: deadlines have run on, and connections ended with it.
    pub(crate) fn started(&mut self, broker: usize) {
        let now = self.now;
        for session in self.brokers[broker].sessions.values_mut() {
            if std::mem::take(&mut session.is_interrupted) {
                session.changed = Change { at: now, ..Change::default() };
                session.expires = (session.expiry != u32::MAX).then(|| now.after_secs(session.expiry));
                session.delayed = session.will.take().map(|will| {
                    let delay = will.delay.min(session.expiry);
                    (now.after_secs(delay), will)
                });
            }
            session.expires = session.expires.map(|expires| expires.max(now));
            if let Some((due, _)) = &mut session.delayed {
                *due = now.max(*due);
            }
        }
    }

    /// Nobody was told of a change, and it is so recent that it need not have been safe.
    fn is_open(&self, change: Change) -> bool {
        !change.is_told && !self.is_old(change.at)
    }

    fn is_old(&self, at: Time) -> bool {
        at.after(SOON) < self.now
    }

    fn session_found(
        &mut self,
        broker: usize,
        client: &str,
        mut session: Session,
        record: &SessionRecord,
        subscriptions: &[SubscriptionRecord],
        inbound: &BTreeSet<u16>,
    ) {
        let ended = self.brokers[broker].ended.get(client).copied();
        if !session.is_known && ended.is_some_and(|ended| !self.is_old(ended)) {
            // Whether it is the one before that or this one can't be told.
            self.close_book(session.incarnation);
            return self.session_returned(broker, client, record, subscriptions);
        }
        let changed = session.changed;
        let mut wrong = Vec::new();
        let had_connection = session.connection.take().is_some();
        let will_of = |stored: &viaduct_store::StoredWill| will(&stored.message, stored.delay);
        let stored = record.will.as_ref().and_then(will_of);
        let delayed = record.delayed_will.as_ref().and_then(|(due, message)| Some((*due, will(message, 0)?)));
        let id = |will: &Option<Will>| will.as_ref().map(|will| will.id);
        // Nobody is told that it was published: if that is not safe, it will be, again.
        let back = session.published.take().filter(|(due, will, at)| {
            let is_kept = delayed.as_ref().is_some_and(|(kept, stored)| (*kept, stored.id) == (*due, will.id));
            is_kept && session.delayed.is_none() && !self.is_old(*at)
        });
        if let Some((due, will, _)) = back {
            if will.qos == QoS::ExactlyOnce {
                self.retract(broker, &(will.id, will.topic.clone())); // Nor is it with those who hear it.
            }
            session.delayed = Some((due, will));
        }
        // Where no time runs, it does not matter since when.
        let has_deadline = session.expiry != u32::MAX || session.will.is_some() || session.delayed.is_some();
        if (had_connection == record.disconnected.is_some() && (has_deadline || had_connection))
            || id(&session.will) != id(&stored)
            || session.delayed.as_ref().map(|(due, will)| (*due, will.id))
                != delayed.as_ref().map(|(due, will)| (*due, will.id))
            || session.expiry != record.expiry
        {
            wrong.push(format!(
                "connected {had_connection}, expiry {}, will {:?}, delayed {:?}; kept is disconnected {:?}, expiry {}, will {:?}, delayed {:?}",
                session.expiry,
                id(&session.will),
                session.delayed.as_ref().map(|(due, will)| (crate::ms(*due), will.id)),
                record.disconnected.map(crate::ms),
                record.expiry,
                id(&stored),
                delayed.as_ref().map(|(due, will)| (crate::ms(*due), will.id)),
            ));
        }
        if !self.is_open(changed) {
            for what in wrong {
                self.breach(Promise::Sessions, format!("{client} came back as another: {what}"));
            }
        }
        session.will = stored;
        session.delayed = delayed;
        session.expiry = record.expiry;
        session.is_interrupted = record.disconnected.is_none();
        session.expires =
            record.disconnected.filter(|_| record.expiry != u32::MAX).map(|at| at.after_secs(record.expiry));
        self.subscriptions_found(broker, client, &mut session, subscriptions);
        // What was not safe will come again, and be routed again.
        let unsafe_ids = session.inbound.iter().filter(|(id, _)| !inbound.contains(id));
        let unsafe_ids: Vec<Named> = unsafe_ids.filter_map(|(_, named)| named.clone()).collect();
        unsafe_ids.iter().for_each(|named| self.retract(broker, named));
        session.inbound = inbound.iter().map(|id| (*id, session.inbound.get(id).cloned().flatten())).collect();
        self.brokers[broker].sessions.insert(client.to_owned(), session);
    }

    fn subscriptions_found(
        &mut self,
        broker: usize,
        client: &str,
        session: &mut Session,
        records: &[SubscriptionRecord],
    ) {
        let kept: BTreeMap<&str, &SubscriptionRecord> =
            records.iter().map(|record| (record.filter.as_str(), record)).collect();
        let missing: Vec<(String, Change)> = session
            .subscriptions
            .iter()
            .filter(|(filter, _)| !kept.contains_key(filter.as_str()))
            .map(|(filter, subscription)| (filter.clone(), subscription.change))
            .collect();
        for (filter, change) in missing {
            if !self.is_open(change) {
                self.breach(Promise::Sessions, format!("{client} lost its subscription to {filter}"));
            }
            session.subscriptions.remove(&filter);
            if let Some(book) = self.books.get_mut(&session.incarnation) {
                book.asked.iter_mut().filter(|asked| asked.filter == filter).for_each(|asked| asked.is_over = true);
            }
            self.groups.left(broker, &filter, session.incarnation, self.step, false);
        }
        for (filter, record) in kept {
            let own = session.subscriptions.get(filter);
            let change = own.map(|own| own.change).or_else(|| session.unsubscribed.get(filter).copied());
            let change = change.unwrap_or_default();
            let found = subscription(record, change);
            let is_same = own.is_some_and(|own| {
                (own.qos, own.no_local, own.as_published, own.id)
                    == (found.qos, found.no_local, found.as_published, found.id)
            });
            if !is_same && !self.is_open(change) {
                self.breach(Promise::Sessions, format!("{client} came back with another subscription to {filter}"));
            }
            session.subscriptions.insert(filter.to_owned(), found);
        }
    }

    /// The disk knows nothing of a session.
    fn session_gone(&mut self, broker: usize, client: &str, mut session: Session, lone: Option<Will>) {
        let has_connection = session.connection.is_some();
        let is_open = self.is_open(session.changed);
        if session.expiry > 0 && (session.is_known || self.is_old(session.changed.at)) {
            self.breach(Promise::Sessions, format!("the session of {client} is lost"));
        }
        if has_connection && session.expiry == 0 {
            let id = |will: &Option<Will>| will.as_ref().map(|will| will.id);
            if id(&session.will) != id(&lone) && !is_open {
                let what = format!("the will of {client} was {:?}, kept is {:?}", id(&session.will), id(&lone));
                self.breach(Promise::Wills, what);
            }
        }
        self.close_book(session.incarnation);
        if let Some(will) = lone {
            self.step += 1;
            session = Session::new(self.step, Version::V311);
            session.will = Some(will);
            session.is_interrupted = true;
            self.brokers[broker].sessions.insert(client.to_owned(), session);
        }
    }

    /// A session comes back that had ended, or may be one that had.
    fn session_returned(
        &mut self,
        broker: usize,
        client: &str,
        record: &SessionRecord,
        subscriptions: &[SubscriptionRecord],
    ) {
        let ended = self.brokers[broker].ended.get(client).copied();
        if ended.is_none_or(|ended| self.is_old(ended)) {
            self.breach(Promise::Sessions, format!("the session of {client} came back after its end"));
        }
        self.step += 1;
        let mut book = Book::new(broker, client, 0);
        book.connection = None;
        book.is_vague = true;
        self.books.insert(self.step, book);
        let mut session = Session::new(self.step, Version::V311);
        session.expiry = record.expiry;
        session.will = record.will.as_ref().and_then(|stored| will(&stored.message, stored.delay));
        session.delayed = record.delayed_will.as_ref().and_then(|(due, message)| Some((*due, will(message, 0)?)));
        session.is_interrupted = record.disconnected.is_none();
        session.expires =
            record.disconnected.filter(|_| record.expiry != u32::MAX).map(|at| at.after_secs(record.expiry));
        for record in subscriptions {
            let subscription = subscription(record, Change::default());
            session.subscriptions.insert(record.filter.as_str().to_owned(), subscription);
        }
        self.brokers[broker].sessions.insert(client.to_owned(), session);
    }

    fn close_book(&mut self, incarnation: u64) {
        if let Some(book) = self.books.get_mut(&incarnation) {
            book.close();
            book.is_lost = true;
        }
    }

    /// The broker does not know any more that it took a message.
    fn retract(&mut self, broker: usize, named: &Named) {
        for book in self.books.values_mut().filter(|book| book.broker == broker && book.is_open) {
            if let Some(entry) = book.entries.get_mut(named) {
                entry.live.clear();
            }
        }
    }

    /// What each topic retains has to be the last change that is safe, or a later one.
    fn retained_found(&mut self, broker: usize, found: &[std::sync::Arc<Message>]) {
        let kept: BTreeMap<&str, Option<MessageId>> =
            found.iter().map(|message| (message.topic.as_str(), payload::read(&message.payload))).collect();
        let (now, step) = (self.now, self.step);
        let mut lost = Vec::new();
        let mut chosen: Vec<(String, Retained)> = Vec::new();
        for (topic, history) in &self.brokers[broker].retained {
            let is_safe = |kept: &Retained| {
                let fact = kept.message.and_then(|id| self.fact(id));
                // What a bridge brought was acknowledged by the other broker.
                let is_told =
                    fact.is_some_and(|fact| fact.acknowledged && !fact.is_will && fact.publisher == kept.client);
                is_told || self.is_old(kept.at)
            };
            let least = history.iter().rposition(is_safe);
            let found = kept.get(topic.as_str()).copied().flatten();
            let place = history.iter().rposition(|kept| kept.message == found);
            let is_right = match (place, least) {
                (Some(place), Some(least)) => place >= least,
                (Some(_), None) => true,
                (None, least) => found.is_none() && least.is_none(),
            };
            let has_expired = history.last().is_some_and(|last| !Self::lives(last.deadline, now));
            if !is_right && !has_expired {
                lost.push(format!("{topic} retains {found:?} after a restart"));
            }
            if place.is_none_or(|place| place + 1 < history.len()) {
                let none = Retained {
                    client: String::new(),
                    from: step,
                    at: now,
                    message: None,
                    qos: QoS::AtMostOnce,
                    deadline: None,
                };
                let back = place.and_then(|place| history.get(place).cloned()).unwrap_or(none);
                chosen.push((topic.clone(), Retained { from: step, ..back }));
            }
        }
        for what in lost {
            self.breach(Promise::Retained, what);
        }
        for (topic, back) in chosen {
            self.brokers[broker].retained.entry(topic).or_default().push(back);
        }
    }
}

fn by_client(subscriptions: Vec<SubscriptionRecord>) -> BTreeMap<String, Vec<SubscriptionRecord>> {
    let mut by_client: BTreeMap<String, Vec<SubscriptionRecord>> = BTreeMap::new();
    for record in subscriptions {
        by_client.entry(record.client_id.as_str().to_owned()).or_default().push(record);
    }
    by_client
}

fn subscription(record: &SubscriptionRecord, change: Change) -> Subscription {
    Subscription {
        qos: record.options.qos,
        no_local: record.options.no_local,
        as_published: record.options.retain_as_published,
        id: record.id.map(viaduct_codec::VarInt::get),
        change,
    }
}

/// A will as the account has it.
fn will(message: &Message, delay: u32) -> Option<Will> {
    let expiry =
        message.expires.map(|expires| u32::try_from(expires.since(message.received).as_secs()).unwrap_or(u32::MAX));
    Some(Will {
        id: payload::read(&message.payload)?,
        topic: message.topic.as_str().to_owned(),
        qos: message.qos,
        retain: message.retain,
        expiry,
        delay,
    })
}
