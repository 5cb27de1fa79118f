//! The account of one session: what it is to get, what it got, and which of that was in which form.
//!
//! In: what was routed to it (`routing`), the PUBLISH packets that its client got, the acknowledgements that the client
//! sent. Out: breaches, at once for what came and should not have, and at rest for what should have come and did not.

use std::collections::BTreeMap;

use viaduct_codec::{Publish, QoS, Time};

use super::model::Subscription;
use super::{Named, Oracle, Promise, is_owed};
use crate::payload::{self, MessageId};

/// Bytes that a PUBLISH may have beyond payload and topic: header, lengths, identifier, properties.
const OVERHEAD: usize = 64;
/// Milliseconds that a disk of this world may keep back what was written for a connection.
const HELD: u64 = 1_000;

#[derive(Default)]
pub(super) struct Book {
    pub(super) broker: usize,
    pub(super) client: String,
    /// The connection that the session began with: on it nothing is sent again.
    first: u64,
    pub(super) connection: Option<u64>,
    pub(super) is_v5: bool,
    /// Its queue is short, so that a copy may have been given up for a later one.
    pub(super) is_bounded: bool,
    /// The session lives.
    pub(super) is_open: bool,
    /// It ended with its broker, which stopped without a word.
    pub(super) is_lost: bool,
    /// Nobody can say which of two sessions of one ClientID a restart brought back: nothing is judged.
    pub(super) is_vague: bool,
    /// The smallest Maximum Packet Size that its client ever had.
    pub(super) takes: usize,
    pub(super) entries: BTreeMap<Named, Entry>,
    exchanges: BTreeMap<u16, Exchange>,
    /// Messages of QoS 1 that the broker was told not long ago that the client has, and when.
    recent: Vec<(MessageId, Time)>,
    begun: u64,
    /// The connection on which something was last sent again, and its place.
    repeated: (u64, u64),
    /// The last message of each publisher, topic and QoS that came, by the step at which the broker took it.
    order: BTreeMap<(String, String, QoS), (u64, MessageId)>,
    pub(super) asked: Vec<Asked>,
    /// Every shared filter that it ever had.
    pub(super) shares: BTreeMap<String, Share>,
}

/// A share group that the session was ever in.
pub(super) struct Share {
    /// Without the share name.
    pub(super) filter: String,
    /// How it was subscribed to, each time.
    pub(super) subscriptions: Vec<Subscription>,
}

/// One message in a book.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) live: Vec<Live>,
    pub(super) replays: Vec<Replay>,
    /// Copies that came with RETAIN 0.
    pub(super) plain: usize,
    /// Copies that came with RETAIN 1.
    pub(super) retained: usize,
    /// Copies of QoS 1 that restarts may have brought once more.
    pub(super) again: usize,
}

/// It was routed to the session as it was published.
pub(super) struct Live {
    pub(super) step: u64,
    pub(super) qos: QoS,
    pub(super) ids: Vec<u32>,
    pub(super) may_keep_retain: bool,
    pub(super) may_clear_retain: bool,
    /// The connection that the session had.
    pub(super) connection: Option<u64>,
    pub(super) deadline: Option<Time>,
    pub(super) at: Time,
    /// Its publisher gave it to this broker, and no bridge did, which was told of it for itself.
    pub(super) is_own: bool,
    /// Its broker stopped before whoever gave it was told of it: it may come, and need not.
    pub(super) is_loose: bool,
}

/// It was retained when the session subscribed.
pub(super) struct Replay {
    pub(super) qos: QoS,
    pub(super) ids: Vec<u32>,
    pub(super) connection: Option<u64>,
    pub(super) deadline: Option<Time>,
    /// The place in `asked` of the SUBSCRIBE.
    pub(super) asked: usize,
    /// Its broker stopped before it was handed on: it may come, and need not.
    pub(super) is_loose: bool,
}

/// A SUBSCRIBE that asked for retained messages.
pub(super) struct Asked {
    pub(super) step: u64,
    pub(super) filter: String,
    /// So much waited that the broker may look later, and find something newer.
    pub(super) may_be_late: bool,
    /// The subscription was given up.
    pub(super) is_over: bool,
}

/// The last use of a packet identifier towards the client.
struct Exchange {
    message: Option<MessageId>,
    topic: String,
    qos: QoS,
    /// The connection that it was last seen on.
    connection: u64,
    /// PUBREL came.
    released: bool,
    /// The client sent what ends it.
    finished: bool,
    /// Its place among all exchanges of the session.
    place: u64,
    /// The broker took what ends it.
    done: bool,
    /// Its broker stopped, and need not know any more that it was begun.
    forgotten: bool,
}

impl Book {
    pub(super) fn new(broker: usize, client: &str, connection: u64) -> Self {
        Self {
            broker,
            client: client.to_owned(),
            first: connection,
            connection: Some(connection),
            is_open: true,
            takes: usize::MAX,
            ..Self::default()
        }
    }

    pub(super) fn entry(&mut self, named: &Named) -> &mut Entry {
        if !self.entries.contains_key(named) {
            self.entries.insert(named.clone(), Entry::default());
        }
        self.entries.entry(named.clone()).or_default()
    }

    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.connection = None;
    }

    /// Copies that were routed to it and did not come yet. What a share group may have for it is not counted.
    pub(super) fn backlog(&self) -> usize {
        let missing = |entry: &Entry| (entry.live.len() + entry.replays.len()).saturating_sub(entry.copies());
        self.entries.values().map(missing).sum()
    }

    /// The broker took what ends the exchange under `id`.
    pub(super) fn done(&mut self, now: Time, id: u16) {
        self.recent.retain(|(_, done)| done.after(super::recovery::SOON) >= now);
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        if !std::mem::replace(&mut exchange.done, true) && exchange.qos == QoS::AtLeastOnce {
            self.recent.extend(exchange.message.map(|message| (message, now)));
        }
    }

    /// Its broker stopped, and the session goes on: what was under way begins again.
    pub(super) fn interrupt(&mut self, now: Time, is_acknowledged: impl Fn(MessageId) -> bool) {
        self.connection = None;
        self.recent.retain(|(_, done)| done.after(super::recovery::SOON) >= now);
        let mut open: Vec<MessageId> = self.recent.drain(..).map(|(message, _)| message).collect();
        for exchange in self.exchanges.values_mut().filter(|exchange| exchange.qos == QoS::AtLeastOnce) {
            exchange.finished = true; // Its identifier may be another's now.
            exchange.forgotten = true;
            if !std::mem::replace(&mut exchange.done, true) {
                open.extend(exchange.message);
            }
        }
        for ((message, _), entry) in &mut self.entries {
            let is_acknowledged = is_acknowledged(*message);
            for live in &mut entry.live {
                let is_told = live.is_own || live.at.after(super::recovery::SOON) < now;
                live.is_loose |= !(is_acknowledged && is_told);
            }
            entry.replays.iter_mut().for_each(|replay| replay.is_loose = true);
            // One may be on its way to the client still, and come after that.
            let missing = entry.copies() < entry.live.len() + entry.replays.len();
            entry.again += open.iter().filter(|open| *open == message).count() + usize::from(missing);
        }
    }

    /// The client acknowledged for good.
    pub(super) fn finished(&mut self, id: u16) {
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.finished = true;
        }
    }

    /// PUBREL came; `false` when nothing had come under that identifier.
    pub(super) fn released(&mut self, id: u16) -> bool {
        self.exchanges.get_mut(&id).map(|exchange| exchange.released = true).is_some()
    }

    /// Whether a PUBLISH with an identifier is a new copy; a breach when it is neither that nor a proper repetition.
    fn exchange(
        &mut self,
        connection: u64,
        publish: &Publish<'_>,
        topic: &str,
        message: Option<MessageId>,
    ) -> Result<bool, String> {
        let Some(id) = publish.packet_id.map(viaduct_codec::PacketId::get) else { return Ok(true) };
        self.begun += 1;
        let begun = Exchange {
            message,
            topic: topic.to_owned(),
            qos: publish.qos,
            connection,
            released: false,
            finished: false,
            place: self.begun,
            done: false,
            forgotten: false,
        };
        // Once the broker took PUBCOMP, the identifier may be another delivery's, of the same message as well.
        let is_same = |last: &Exchange| last.message == message && last.topic == topic && !(last.released && last.done);
        let same = self.exchanges.get_mut(&id).filter(|last| publish.dup && is_same(last));
        if let Some(last) = same {
            let is_over = last.released && publish.qos == QoS::ExactlyOnce;
            if last.connection == connection && !last.finished {
                return Err(format!("identifier {id} was sent again on the same connection"));
            }
            if !is_over && last.connection != connection {
                last.connection = connection;
                last.finished = false;
                if last.forgotten {
                    return Ok(false);
                }
                let before = std::mem::replace(&mut self.repeated, (connection, last.place));
                if before.0 == connection && before.1 > last.place {
                    return Err(format!("identifier {id} was sent again out of its order")); // MQTT-4.6.0-1
                }
                return Ok(false);
            }
            return Err(format!("identifier {id} was sent again after its exchange was over"));
        }
        if let Some(last) = self.exchanges.get(&id).filter(|last| !last.finished) {
            return Err(format!("identifier {id} is in use for {:?}", last.message));
        }
        if publish.dup && connection == self.first {
            return Err(format!("identifier {id} came with DUP 1 the first time"));
        }
        self.exchanges.insert(id, begun);
        Ok(true)
    }
}

impl Entry {
    pub(super) fn copies(&self) -> usize {
        self.plain + self.retained
    }
}

impl Oracle {
    /// The client of the session got a PUBLISH to `topic`, which its broker wrote at `encoded`.
    pub(super) fn got(&mut self, incarnation: u64, connection: u64, publish: &Publish<'_>, topic: &str, encoded: Time) {
        let message = payload::read(publish.payload);
        let Some(book) = self.books.get_mut(&incarnation).filter(|book| !book.is_vague) else { return };
        let client = book.client.clone();
        let named = message.map_or_else(|| "an empty message".to_owned(), |message| message.to_string());
        match book.exchange(connection, publish, topic, message) {
            Ok(true) => {}
            Ok(false) => return,
            Err(why) => return self.breach(Promise::PacketIds, format!("{client} got {named} at {topic}: {why}")),
        }
        let Some(message) = message else { return }; // What clears a retained message says nothing.
        self.arrived += 1;
        let named = (message, topic.to_owned());
        self.judge_count(incarnation, &named, publish);
        self.judge_form(incarnation, &named, publish);
        self.judge_expiry(incarnation, &named, publish, encoded);
        self.judge_order(incarnation, &named, publish);
    }

    /// Whether it may come at all, and once more.
    fn judge_count(&mut self, incarnation: u64, named: &Named, publish: &Publish<'_>) {
        let (message, topic) = (named.0, named.1.as_str());
        let Some(book) = self.books.get(&incarnation) else { return };
        let client = book.client.clone();
        if !self.brokers[book.broker].routed.contains_key(named) {
            let promise = self.promise_of(message, Promise::NothingUnasked);
            return self.breach(promise, format!("{client} got {message} at {topic}, where it was not published"));
        }
        let late = book.asked.iter().filter(|asked| {
            asked.may_be_late
                && super::matches(&asked.filter, topic)
                && self.was_retained_since(book.broker, topic, message, asked.step)
        });
        let late = late.count();
        let groups: Vec<String> = book
            .shares
            .iter()
            .filter(|(_, share)| super::matches(&share.filter, topic))
            .map(|(name, _)| name.clone())
            .collect();
        let broker = book.broker;
        let shared: usize = groups.iter().map(|filter| self.groups.allowance(broker, filter, message)).sum();
        for filter in &groups {
            self.groups.heard(broker, filter);
        }
        let Some(entry) = self.books.get_mut(&incarnation).map(|book| book.entry(named)) else { return };
        let (count, allowed) = if publish.retain {
            entry.retained += 1;
            let live = entry.live.iter().filter(|live| live.may_keep_retain).count();
            (entry.retained, live + entry.replays.len() + late + shared)
        } else {
            entry.plain += 1;
            (entry.plain, entry.live.iter().filter(|live| live.may_clear_retain).count() + shared)
        };
        let allowed = allowed + entry.again;
        if count <= allowed {
            return;
        }
        let what =
            format!("{client} got {message} at {topic} (RETAIN {}) {count} times, {allowed} are right", publish.retain);
        let promise = match (publish.retain, allowed) {
            (true, _) => Promise::Retained,
            (false, 0) => Promise::NothingUnasked,
            (false, _) => Promise::NothingDoubled,
        };
        let promise = self.promise_of(message, promise);
        self.breach(promise, what);
    }

    /// Whether QoS and Subscription Identifiers are those of a subscription that asked for it.
    fn judge_form(&mut self, incarnation: u64, named: &Named, publish: &Publish<'_>) {
        let Some(book) = self.books.get(&incarnation) else { return };
        let Some(entry) = book.entries.get(named) else { return };
        let has_ids = book.is_v5;
        let mut ids: Vec<u32> = publish.properties.subscription_ids.iter().map(|id| id.get()).collect();
        ids.sort_unstable();
        let fits = |qos: QoS, own: &[u32]| qos == publish.qos && (!has_ids || own == ids);
        let mut held = book.shares.values().flat_map(|share| &share.subscriptions);
        let by_share =
            held.any(|subscription| subscription.qos >= publish.qos && (!has_ids || subscription.id.as_slice() == ids));
        let live = entry.live.iter().any(|live| fits(live.qos, &live.ids));
        let replayed = publish.retain && entry.replays.iter().any(|replay| fits(replay.qos, &replay.ids));
        let late = publish.retain && book.asked.iter().any(|asked| asked.may_be_late);
        if !(live || replayed || by_share || late) {
            let what = format!(
                "{} got {} with QoS {} and Subscription Identifiers {ids:?}, which no subscription asked for",
                book.client,
                named.0,
                publish.qos.bits()
            );
            self.breach(Promise::NothingUnasked, what);
        }
    }

    /// Whether it still lived when the broker wrote it, and says how long it has left.
    fn judge_expiry(&mut self, incarnation: u64, named: &Named, publish: &Publish<'_>, encoded: Time) {
        let message = named.0;
        let Some(book) = self.books.get(&incarnation) else { return };
        let Some(routed) = self.brokers[book.broker].routed.get(named) else { return };
        let client = &book.client;
        // Since then it may have waited for the disk, with all that was on its way to the connection.
        let began = Time::from_millis(encoded.as_millis().saturating_sub(HELD));
        let lived = publish.dup || routed.deadlines.iter().any(|deadline| Self::lives(*deadline, began));
        let told = publish.properties.message_expiry;
        let is_right = |deadline: &Option<Time>| match (deadline, told) {
            (None, None) => true,
            (Some(deadline), Some(told)) => {
                let left = u64::try_from(deadline.since(encoded).as_millis()).unwrap_or(u64::MAX);
                (left / 1000..=(left + HELD).div_ceil(1000)).contains(&u64::from(told))
            }
            _ => false,
        };
        let what = if !lived {
            format!("{client} got {message} after its expiry")
        } else if book.is_v5 && !routed.deadlines.iter().any(is_right) {
            format!("{client} got {message} with an expiry of {told:?} s, which is not what is left")
        } else {
            return;
        };
        self.breach(Promise::Expiry, what);
    }

    /// Whether nothing that came before it should have come after it.
    fn judge_order(&mut self, incarnation: u64, named: &Named, publish: &Publish<'_>) {
        let (message, topic) = (named.0, named.1.as_str());
        let Some((publisher, size)) = self.fact(message).map(|fact| (fact.publisher.clone(), fact.size)) else {
            return;
        };
        let Some(book) = self.books.get_mut(&incarnation) else { return };
        let Some(entry) = book.entries.get(named) else { return };
        // Which of its reasons a copy came for can't be told: a retained one, or one of a share group, has its own order.
        let is_late = book.asked.iter().any(|asked| asked.may_be_late && super::matches(&asked.filter, topic));
        let is_replay = publish.retain && (!entry.replays.is_empty() || is_late);
        let is_shared = book.shares.values().any(|share| super::matches(&share.filter, topic));
        // It may be the one that a restart left, or the one that its publisher sent again.
        let is_shared = is_shared || entry.live.iter().any(|live| live.is_loose);
        let first = entry.live.iter().find(|live| live.qos == publish.qos);
        let Some(first) = first.filter(|_| entry.copies() == 1 && !is_replay && !is_shared) else { return };
        let may_be_lost = publish.qos == QoS::AtMostOnce
            || first.deadline.is_some()
            || book.is_bounded
            || size + topic.len() + OVERHEAD > book.takes;
        let may_be_late = entry.live.len() > 1 && may_be_lost;
        let step = first.step;
        let last = book.order.entry((publisher, topic.to_owned(), publish.qos)).or_insert((step, message));
        if last.0 <= step {
            *last = (step, message);
        } else if !may_be_late {
            let what = format!("{} got {message} at {topic} after {}, which came later", book.client, last.1);
            self.breach(Promise::Order, what);
        }
    }

    /// The world has come to rest: whatever is owed has come. `given_up` is how many messages the broker says that it gave
    /// up for a client, whose queue was full.
    pub(super) fn settle_books(&mut self, given_up: &dyn Fn(usize, &str) -> u64) {
        let now = self.now;
        let (mut debts, mut lost) = (0, Vec::new());
        for book in self.books.values().filter(|book| book.is_open && !book.is_vague) {
            let mut spare = given_up(book.broker, &book.client);
            for ((message, topic), entry) in &book.entries {
                let Some(fact) = self.fact(*message) else { continue };
                if fact.size + topic.len() + OVERHEAD > book.takes {
                    continue;
                }
                debts += 1;
                let has_lasted = |connection: Option<u64>| connection.is_some() && connection == book.connection;
                let owed = entry.live.iter().any(|live| {
                    let is_due = if is_owed(live.qos) { fact.acknowledged } else { has_lasted(live.connection) };
                    is_due && !live.is_loose && Self::lives(live.deadline, now)
                });
                let asked = entry.replays.iter().any(|replay| {
                    // With QoS 0 it may have been on its way when a connection ended.
                    let is_kept = is_owed(replay.qos) || has_lasted(replay.connection);
                    let asked = &book.asked[replay.asked];
                    let is_last = || self.is_retained_since(book.broker, topic, *message, asked.step);
                    is_kept
                        && !replay.is_loose
                        && Self::lives(replay.deadline, now)
                        && (!asked.may_be_late || (!asked.is_over && is_last()))
                });
                let name = |promise| self.promise_of(*message, promise);
                let is_missing = (owed && entry.copies() == 0) || (asked && entry.retained == 0);
                if is_missing && spare > 0 {
                    spare -= 1;
                    continue;
                }
                if owed && entry.copies() == 0 {
                    let what = format!("{} never got {message} at {topic}", book.client);
                    lost.push((name(Promise::NothingLost), what));
                } else if asked && entry.retained == 0 {
                    let what = format!("{} never got the retained {message} at {topic}", book.client);
                    lost.push((Promise::Retained, what));
                }
            }
        }
        self.debts += debts;
        for (promise, what) in lost {
            self.breach(promise, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::{PacketId, PublishProperties};

    use super::*;

    /// What comes of a QoS 2 message under identifier 7.
    fn comes(
        book: &mut Book,
        connection: u64,
        dup: bool,
        topic: &str,
        message: Option<MessageId>,
    ) -> Result<bool, String> {
        let publish = Publish {
            dup,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: None,
            packet_id: PacketId::new(7),
            properties: PublishProperties::default(),
            payload: b"",
        };
        book.exchange(connection, &publish, topic, message)
    }

    /// The client has said all there is to say of what came under identifier 7.
    fn finishes(book: &mut Book) {
        assert!(book.released(7));
        book.finished(7);
    }

    #[test]
    fn a_message_that_the_client_has_finished_may_come_again_once_the_broker_knows() {
        let message = Some(MessageId(24));
        for is_known in [true, false] {
            let mut book = Book::new(0, "c", 1);
            assert_eq!(comes(&mut book, 1, false, "x", message), Ok(true));
            assert_eq!(comes(&mut book, 2, true, "x", message), Ok(false), "a repetition");
            finishes(&mut book);
            if is_known {
                book.done(Time::default(), 7);
            }
            let again = comes(&mut book, 3, true, "x", message);
            assert_eq!(again.ok(), is_known.then_some(true), "counted as another copy");
        }
    }

    #[test]
    fn what_has_no_payload_is_told_apart_by_its_topic() {
        let mut book = Book::new(0, "c", 1);
        assert_eq!(comes(&mut book, 1, false, "x", None), Ok(true));
        assert!(comes(&mut book, 2, true, "y", None).is_err(), "the identifier is in use");
        assert_eq!(comes(&mut book, 2, true, "x", None), Ok(false));
        finishes(&mut book);
        assert!(comes(&mut book, 3, true, "x", None).is_err(), "the broker does not know yet that it is over");
        assert_eq!(comes(&mut book, 3, true, "y", None), Ok(true));
    }
}
