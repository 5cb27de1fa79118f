//! Who is to get a message: entries in the books of sessions and share groups, and the retained message of its topic.

use std::collections::BTreeMap;

use viaduct_codec::{QoS, RetainHandling, Time};

use super::Oracle;
use super::book::{Asked, Live, Replay, Share};
use super::filter::{matches, shared};
use super::model::{Change, Subscription};
use crate::payload::MessageId;

/// Unsettled deliveries of a session beyond which a broker may hand out retained messages later than at once; with a short
/// queue it may at any time.
const BACKLOG: usize = 50;

/// A message as a broker took it.
pub(super) struct Source<'a> {
    pub(super) topic: &'a str,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Seconds.
    pub(super) expiry: Option<u32>,
    /// The client that it came from.
    pub(super) client: &'a str,
}

/// What a broker did with a message.
#[derive(Default)]
pub(super) struct Routed {
    /// The step of its first routing.
    pub(super) first: u64,
    /// The time of its last routing.
    pub(super) last: Time,
    /// How often it was taken from each client as something new.
    pub(super) taken: BTreeMap<String, u32>,
    /// When each taken copy expires.
    pub(super) deadlines: Vec<Option<Time>>,
}

/// What a topic retained from a step on; `None` after it was cleared.
#[derive(Clone)]
pub(super) struct Retained {
    pub(super) from: u64,
    pub(super) at: Time,
    /// The client that it came from.
    pub(super) client: String,
    pub(super) message: Option<MessageId>,
    pub(super) qos: QoS,
    pub(super) deadline: Option<Time>,
}

impl Oracle {
    /// `broker` took something new; `None` for what carries no name, which is an empty payload.
    pub(super) fn route(&mut self, broker: usize, message: Option<MessageId>, source: &Source<'_>) {
        self.step += 1;
        let (step, now) = (self.step, self.now);
        let deadline = source.expiry.map(|seconds| now.after_secs(seconds));
        let model = &mut self.brokers[broker];
        if source.retain {
            let kept =
                Retained { from: step, at: now, client: source.client.to_owned(), message, qos: source.qos, deadline };
            model.retained.entry(source.topic.to_owned()).or_default().push(kept);
        }
        let Some(message) = message else { return };
        let is_own = self.fact(message).is_some_and(|fact| fact.publisher == source.client);
        let model = &mut self.brokers[broker];
        let named = (message, source.topic.to_owned());
        let routed = model.routed.entry(named.clone()).or_insert_with(|| Routed { first: step, ..Routed::default() });
        *routed.taken.entry(source.client.to_owned()).or_default() += 1;
        routed.deadlines.push(deadline);
        routed.last = now;
        let mut groups: BTreeMap<&str, Vec<(u64, QoS)>> = BTreeMap::new();
        for (client, session) in &model.sessions {
            let mut own: Vec<&Subscription> = Vec::new();
            for (filter, subscription) in &session.subscriptions {
                match shared(filter) {
                    Some(plain) if matches(plain, source.topic) => {
                        groups.entry(filter).or_default().push((session.incarnation, subscription.qos));
                    }
                    // MQTT-3.8.3-3: not to the ClientID that it came from.
                    None if matches(filter, source.topic) && !(subscription.no_local && client == source.client) => {
                        own.push(subscription);
                    }
                    _ => {}
                }
            }
            let Some(granted) = own.iter().map(|subscription| subscription.qos).max() else { continue };
            let Some(book) = self.books.get_mut(&session.incarnation) else { continue };
            let mut ids: Vec<u32> = own.iter().filter_map(|subscription| subscription.id).collect();
            ids.sort_unstable();
            let kept = |subscription: &&Subscription| source.retain && subscription.as_published;
            let live = Live {
                step,
                qos: granted.min(source.qos),
                ids,
                may_keep_retain: own.iter().any(kept),
                may_clear_retain: !own.iter().all(kept),
                connection: session.connection,
                deadline,
                at: now,
                is_own,
                is_loose: false,
            };
            book.entry(&named).live.push(live);
        }
        for (filter, members) in groups {
            self.groups.routed(broker, filter, &named, step, &members, source.qos, deadline);
            let is_vague =
                |(incarnation, _): &(u64, QoS)| self.books.get(incarnation).is_some_and(|book| book.is_vague);
            if members.iter().any(is_vague) {
                self.groups.loosen(broker, filter, message);
            }
        }
    }

    pub(super) fn subscribed(
        &mut self,
        broker: usize,
        client: &str,
        filter: &str,
        subscription: Subscription,
        handling: RetainHandling,
    ) {
        self.step += 1;
        let (step, now) = (self.step, self.now);
        let model = &mut self.brokers[broker];
        let Some(session) = model.sessions.get_mut(client) else { return };
        session.unsubscribed.remove(filter);
        let is_new = session.subscriptions.insert(filter.to_owned(), subscription).is_none();
        let connection = session.connection;
        let Some(book) = self.books.get_mut(&session.incarnation) else { return };
        if let Some(plain) = shared(filter) {
            let share = Share { filter: plain.to_owned(), subscriptions: Vec::new() };
            book.shares.entry(filter.to_owned()).or_insert(share).subscriptions.push(subscription);
            self.groups.joined(broker, filter, subscription.qos);
            return; // No retained messages for a share group.
        }
        let wanted = match handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if !wanted {
            return;
        }
        let shared = book.shares.keys().map(|name| self.groups.waiting(broker, name)).sum::<usize>();
        let current = model.retained.iter().filter_map(|(topic, history)| {
            let last = history.last().filter(|last| Self::lives(last.deadline, now) && matches(filter, topic))?;
            Some((last.message?, topic, last))
        });
        let current: Vec<_> = current.collect();
        let may_be_late = book.is_bounded || book.backlog() + shared + current.len() > BACKLOG;
        let asked = book.asked.len();
        book.asked.push(Asked { step, filter: filter.to_owned(), may_be_late, is_over: false });
        for (message, topic, last) in current {
            let replay = Replay {
                qos: subscription.qos.min(last.qos),
                ids: subscription.id.into_iter().collect(),
                connection,
                deadline: last.deadline,
                asked,
                is_loose: false,
            };
            book.entry(&(message, topic.clone())).replays.push(replay);
        }
    }

    pub(super) fn unsubscribed(&mut self, broker: usize, client: &str, filter: &str, change: Change) {
        self.step += 1;
        let Some(session) = self.brokers[broker].sessions.get_mut(client) else { return };
        session.unsubscribed.insert(filter.to_owned(), change);
        if session.subscriptions.remove(filter).is_some() {
            if let Some(book) = self.books.get_mut(&session.incarnation) {
                book.asked.iter_mut().filter(|asked| asked.filter == filter).for_each(|asked| asked.is_over = true);
            }
            self.groups.left(broker, filter, session.incarnation, self.step, false);
        }
    }

    /// Whether `message` was what its topic retained at `step` or later.
    pub(super) fn was_retained_since(&self, broker: usize, topic: &str, message: MessageId, step: u64) -> bool {
        let Some(history) = self.brokers[broker].retained.get(topic) else { return false };
        history.iter().enumerate().any(|(place, kept)| {
            let until = history.get(place + 1).map_or(u64::MAX, |next| next.from);
            kept.message == Some(message) && until > step
        })
    }

    /// Whether `message` is what its topic retains, and has been since `step`.
    pub(super) fn is_retained_since(&self, broker: usize, topic: &str, message: MessageId, step: u64) -> bool {
        let last = self.brokers[broker].retained.get(topic).and_then(|history| history.last());
        last.is_some_and(|kept| kept.message == Some(message) && kept.from <= step)
    }
}
