//! Sessions and their ends, as they must be: a second account, kept from the packets that a broker took.
//!
//! In: CONNECT as it was let in, packets as they were taken, ends of connections, deadlines. Out: what is routed
//! (`routing`), and breaches of what a session was promised. Knows nothing of how a broker does it.

use std::collections::BTreeMap;
use std::time::Duration;

use viaduct_codec::{Connect, Packet, Publish, QoS, ReasonCode, RetainHandling, Time, Version};
use viaduct_session::server::Terms;

use super::book::Book;
use super::routing::{Retained, Routed, Source};
use super::{Named, Oracle, Promise};
use crate::payload::{self, MessageId};

/// One broker.
pub(crate) struct BrokerModel {
    pub(super) workers: u16,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) retained: BTreeMap<String, Vec<Retained>>,
    pub(super) routed: BTreeMap<Named, Routed>,
    /// The step of the last restart.
    pub(super) crashed: u64,
    /// When the last session of a ClientID ended.
    pub(super) ended: BTreeMap<String, Time>,
}

pub(super) struct Session {
    /// The name of its book: one for each session that there ever was.
    pub(super) incarnation: u64,
    version: Version,
    is_bridge: bool,
    pub(super) expiry: u32,
    expiry_asked: u32,
    /// The most that its listener gives.
    max_expiry: u32,
    pub(super) connection: Option<u64>,
    pub(super) expires: Option<Time>,
    pub(super) subscriptions: BTreeMap<String, Subscription>,
    /// What was unsubscribed last and when, and whether its client was told.
    pub(super) unsubscribed: BTreeMap<String, Change>,
    /// QoS 2 identifiers between PUBLISH and PUBREL.
    pub(super) inbound: BTreeMap<u16, Option<Named>>,
    pub(super) will: Option<Will>,
    pub(super) delayed: Option<(Time, Will)>,
    /// The one of these that was published last, and when.
    pub(super) published: Option<(Time, Will, Time)>,
    keep_alive: u16,
    heard: Time,
    /// Its client was told of it, at least once.
    pub(super) is_known: bool,
    /// The last change of all but its subscriptions, which its client was told of when it was CONNECT.
    pub(super) changed: Change,
    /// Its broker stopped and has not started again.
    pub(super) is_interrupted: bool,
}

/// A change that a broker made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) at: Time,
    /// In which packet it was asked for, on which connection.
    pub(super) asked: (u64, u16),
    /// The client was told that it is made.
    pub(super) is_told: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    pub(super) qos: QoS,
    pub(super) no_local: bool,
    pub(super) as_published: bool,
    pub(super) id: Option<u32>,
    pub(super) change: Change,
}

#[derive(Clone)]
pub(super) struct Will {
    pub(super) id: MessageId,
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expiry: Option<u32>,
    pub(super) delay: u32,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// DISCONNECT with reason 0, or any of 3.x.
    Goodbye,
    /// The socket closed, or DISCONNECT asked for the will.
    Lost,
    /// The broker closed it because nothing came for too long.
    Silence,
    /// Another connection took the session.
    TakenOver,
}

impl BrokerModel {
    pub(super) fn new(workers: u16) -> Self {
        let (sessions, retained) = (BTreeMap::new(), BTreeMap::new());
        Self { workers, sessions, retained, routed: BTreeMap::new(), crashed: 0, ended: BTreeMap::new() }
    }
}

impl Oracle {
    /// `broker` gave `connection` a session.
    pub(crate) fn accepted(&mut self, broker: usize, connection: u64, connect: &Connect<'_>, terms: &Terms) {
        self.punctual(broker);
        let client = connect.client_id;
        let holder = self.brokers[broker].sessions.get(client).and_then(|session| session.connection);
        if let Some(holder) = holder {
            self.end(broker, holder, End::TakenOver, connect.clean_start);
        }
        let now = self.now;
        let is_over = self.brokers[broker].sessions.get_mut(client).is_some_and(|session| {
            session.connection.is_none() && session.expires.is_some_and(|expires| expires <= now)
        });
        if connect.clean_start || is_over {
            self.end_session(broker, client);
        }
        let session = self.brokers[broker].sessions.get_mut(client);
        let due = session.and_then(|session| session.delayed.take_if(|(time, _)| *time <= now));
        if let Some((_, will)) = due {
            self.publish_will(broker, client, &will);
        }
        let present = self.brokers[broker].sessions.contains_key(client);
        let version = connect.level.version();
        if !present {
            self.step += 1;
            let session = Session::new(self.step, version);
            self.books.insert(self.step, Book::new(broker, client, connection));
            self.brokers[broker].sessions.insert(client.to_owned(), session);
        }
        let Some(session) = self.brokers[broker].sessions.get_mut(client) else { return };
        session.changed = Change { at: now, asked: (connection, 0), is_told: false };
        session.version = version;
        session.is_bridge = connect.level.is_bridge();
        session.expiry_asked = connect.properties.session_expiry.unwrap_or(0);
        let asked = match version {
            Version::V5 => session.expiry_asked,
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        session.max_expiry = terms.max_session_expiry.unwrap_or(u32::MAX);
        session.expiry = asked.min(session.max_expiry);
        let expects_expiry = Some(session.expiry).filter(|given| version.is_v5() && *given != asked);
        session.connection = Some(connection);
        session.expires = None;
        session.delayed = None; // MQTT-3.1.3-9
        session.keep_alive = match terms.max_keep_alive {
            Some(max) if connect.keep_alive == 0 => max,
            Some(max) => connect.keep_alive.min(max),
            None => connect.keep_alive,
        };
        session.heard = now;
        session.will = connect.will.as_ref().and_then(|will| {
            Some(Will {
                id: payload::read(will.payload)?,
                topic: will.topic.as_str().to_owned(),
                qos: will.qos,
                retain: will.retain,
                expiry: will.properties.message_expiry,
                delay: will.properties.delay.unwrap_or(0),
            })
        });
        let incarnation = session.incarnation;
        if let Some(book) = self.books.get_mut(&incarnation) {
            book.connection = Some(connection);
            book.is_v5 = version.is_v5();
            book.is_bounded = terms.queue.max_messages < 1_000;
            let takes = connect.properties.maximum_packet_size.map_or(usize::MAX, |max| max.get() as usize);
            book.takes = book.takes.min(takes);
        }
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        wire.incarnation = Some(incarnation);
        wire.expects_session = present && version != Version::V31;
        wire.expects_expiry = expects_expiry;
        if !version.is_v5() {
            wire.receive_maximum = usize::from(terms.max_inflight_v3);
        }
    }

    /// `broker` reads nothing more of `connection` before `until`, so its silence does not begin before that.
    pub(crate) fn not_read(&mut self, broker: usize, connection: u64, until: Time) {
        let Some(client) = self.holder(broker, connection) else { return };
        let Some(session) = self.brokers[broker].sessions.get_mut(&client) else { return };
        session.heard = until;
    }

    /// `broker` took a packet of `connection`, whatever it made of it.
    pub(crate) fn heard(&mut self, broker: usize, connection: u64, packet: &Packet<'_>) {
        self.punctual(broker);
        let Some(client) = self.holder(broker, connection) else { return };
        let now = self.now;
        let Some(session) = self.brokers[broker].sessions.get_mut(&client) else { return };
        session.heard = now;
        match packet {
            Packet::Publish(publish) => self.published(broker, connection, &client, publish),
            Packet::Pubrel(ack) => {
                session.inbound.remove(&ack.packet_id.get());
            }
            Packet::Pubrec(ack) if !ack.reason.is_error() => {}
            Packet::Puback(ack) | Packet::Pubcomp(ack) | Packet::Pubrec(ack) => {
                let incarnation = session.incarnation;
                if let Some(book) = self.books.get_mut(&incarnation) {
                    book.done(now, ack.packet_id.get());
                }
            }
            Packet::Subscribe(subscribe) => {
                // 3.x has no options; the level of a bridge stands for two of them.
                let (is_v5, is_bridge) = (session.version.is_v5(), session.is_bridge);
                for entry in &subscribe.entries {
                    let options = entry.options;
                    let subscription = Subscription {
                        qos: options.qos,
                        no_local: if is_v5 { options.no_local } else { is_bridge },
                        as_published: if is_v5 { options.retain_as_published } else { is_bridge },
                        id: subscribe.subscription_id.map(viaduct_codec::VarInt::get),
                        change: Change { at: now, asked: (connection, subscribe.packet_id.get()), is_told: false },
                    };
                    let handling = if is_v5 { options.retain_handling } else { RetainHandling::Send };
                    self.subscribed(broker, &client, entry.filter.as_str(), subscription, handling);
                }
            }
            Packet::Unsubscribe(unsubscribe) => {
                let change = Change { at: now, asked: (connection, unsubscribe.packet_id.get()), is_told: false };
                for filter in &unsubscribe.filters {
                    self.unsubscribed(broker, &client, filter.as_str(), change);
                }
            }
            Packet::Disconnect(disconnect) => {
                if let Some(seconds) = disconnect.session_expiry.filter(|_| session.expiry_asked > 0) {
                    session.expiry = seconds.min(session.max_expiry);
                }
                let is_normal = disconnect.reason == ReasonCode::NORMAL_DISCONNECTION;
                self.end(broker, connection, if is_normal { End::Goodbye } else { End::Lost }, false);
            }
            _ => {}
        }
    }

    fn published(&mut self, broker: usize, connection: u64, client: &str, publish: &Publish<'_>) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let Some(topic) = wire.topic_heard(publish) else {
            return self.breach(Promise::Conversation, "the simulation used an alias that it had not set".to_owned());
        };
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.packet_id) {
            let session = self.brokers[broker].sessions.get_mut(client);
            let known = session.is_some_and(|session| {
                let is_known = session.inbound.contains_key(&id.get());
                let named = payload::read(publish.payload).map(|message| (message, topic.clone()));
                session.inbound.entry(id.get()).or_insert(named);
                is_known
            });
            if known {
                return; // It has that message already.
            }
        }
        let message = payload::read(publish.payload);
        if let Some(fact) = message.and_then(|message| self.fact_mut(message)) {
            fact.size = publish.payload.len();
        }
        let source = Source {
            topic: &topic,
            qos: publish.qos,
            retain: publish.retain,
            expiry: publish.properties.message_expiry,
            client,
        };
        self.carried_in(broker, message, &source);
        self.route(broker, message, &source);
    }

    /// The connection ended as `how` says, and the broker knows.
    pub(crate) fn ended(&mut self, broker: usize, connection: u64, how: End) {
        if how == End::Silence
            && let Some(client) = self.holder(broker, connection)
            && let Some(session) = self.brokers[broker].sessions.get(&client)
            && session.silence_ends().is_none_or(|end| self.now < end)
        {
            self.breach(Promise::Conversation, format!("{client} was closed for its silence before its time"));
        }
        self.end(broker, connection, how, false);
    }

    /// A worker of `broker` was told the time: what is due for its sessions happens now.
    pub(crate) fn timed(&mut self, broker: usize, worker: u16) {
        self.punctual(broker);
        let (now, workers) = (self.now, self.brokers[broker].workers);
        let is_here = |client: &String| viaduct_engine::worker_of(client, workers).0 == worker;
        let sessions = &mut self.brokers[broker].sessions;
        let due = |session: &Session| session.next_deadline().is_some_and(|due| due <= now);
        let clients: Vec<String> = sessions
            .iter()
            .filter(|(client, session)| is_here(client) && due(session))
            .map(|(c, _)| c.clone())
            .collect();
        for client in clients {
            let Some(session) = self.brokers[broker].sessions.get_mut(&client) else { continue };
            let is_over = session.expires.is_some_and(|expires| expires <= now);
            if let Some((due, will)) = session.delayed.take_if(|(time, _)| *time <= now) {
                session.published = Some((due, will.clone(), now));
                self.publish_will(broker, &client, &will);
            }
            if is_over {
                self.end_session(broker, &client);
            }
        }
    }

    /// Whether `client` has a session that outlives its connection.
    pub(crate) fn has_session(&self, broker: usize, client: &str) -> bool {
        self.brokers[broker].sessions.contains_key(client)
    }

    fn holder(&self, broker: usize, connection: u64) -> Option<String> {
        let client = &self.wires.get(&connection)?.client;
        let session = self.brokers[broker].sessions.get(client)?;
        (session.connection == Some(connection)).then(|| client.clone())
    }

    /// The client of `connection` was told that what it asked for under `packet_id` is done; 0 is CONNECT.
    pub(super) fn told(&mut self, connection: u64, packet_id: u16) {
        let Some(client) = self.wires.get(&connection).map(|wire| wire.client.clone()) else { return };
        if client.starts_with("$bridge/") {
            return; // A broker's own half of a bridge is no promise to anybody: it is told before the change is safe.
        }
        for session in self.brokers.iter_mut().filter_map(|broker| broker.sessions.get_mut(&client)) {
            let subscriptions = session.subscriptions.values_mut().map(|subscription| &mut subscription.change);
            let changes = subscriptions.chain(session.unsubscribed.values_mut()).chain([&mut session.changed]);
            let asked = (connection, packet_id);
            changes.filter(|change| change.asked == asked).for_each(|change| change.is_told = true);
            session.is_known |= session.changed.asked == asked && packet_id == 0;
        }
    }

    fn end(&mut self, broker: usize, connection: u64, how: End, by_clean_start: bool) {
        let Some(client) = self.holder(broker, connection) else { return };
        let now = self.now;
        let Some(session) = self.brokers[broker].sessions.get_mut(&client) else { return };
        session.connection = None;
        session.changed = Change { at: now, asked: (connection, u16::MAX), is_told: false };
        let incarnation = session.incarnation;
        let expiry = session.expiry;
        session.expires = (expiry != u32::MAX).then(|| now.after_secs(expiry));
        let will = session.will.take();
        let delay = |will: &Will| if session.version.is_v5() { will.delay.min(expiry) } else { 0 };
        let is_quiet = how == End::Goodbye || (how == End::TakenOver && self.quiet_takeovers);
        if let Some(will) = will.filter(|_| !is_quiet) {
            match delay(&will) {
                0 => self.publish_will(broker, &client, &will),
                // The session goes on before the delay has passed.
                _ if how == End::TakenOver && !by_clean_start => {}
                _ if how == End::TakenOver => self.publish_will(broker, &client, &will),
                seconds => session.delayed = Some((now.after_secs(seconds), will)),
            }
        }
        if let Some(book) = self.books.get_mut(&incarnation) {
            book.connection = None;
        }
        if expiry == 0 {
            self.end_session(broker, &client);
        }
    }

    pub(super) fn end_session(&mut self, broker: usize, client: &str) {
        let Some(session) = self.brokers[broker].sessions.get_mut(client) else { return };
        if let Some((_, will)) = session.delayed.take() {
            self.publish_will(broker, client, &will); // MQTT-3.1.2-8: at the latest when the session ends.
        }
        let Some(session) = self.brokers[broker].sessions.remove(client) else { return };
        self.brokers[broker].ended.insert(client.to_owned(), self.now);
        self.step += 1;
        if let Some(book) = self.books.get_mut(&session.incarnation) {
            // Whatever group it ever was in: what it has not acknowledged goes back there.
            for filter in book.shares.keys() {
                self.groups.left(broker, filter, session.incarnation, self.step, true);
            }
            book.close();
        }
    }

    fn publish_will(&mut self, broker: usize, client: &str, will: &Will) {
        let Will { id, topic, qos, retain, expiry, .. } = will;
        let source = Source { topic, qos: *qos, retain: *retain, expiry: *expiry, client };
        self.route(broker, Some(*id), &source);
    }

    /// Whatever was due before now has happened.
    fn punctual(&mut self, broker: usize) {
        let now = self.now;
        let late = self.brokers[broker].sessions.iter().find_map(|(client, session)| {
            let silence = session.connection.and_then(|_| session.silence_ends());
            let due = session.next_deadline().into_iter().chain(silence).min()?;
            (due < now).then(|| format!("something of {client} was due at {} ms", crate::ms(due)))
        });
        if let Some(what) = late {
            self.breach(Promise::Sessions, what);
        }
    }
}

impl Session {
    pub(super) fn new(incarnation: u64, version: Version) -> Self {
        Self {
            incarnation,
            version,
            is_bridge: false,
            expiry: 0,
            expiry_asked: 0,
            max_expiry: u32::MAX,
            connection: None,
            expires: None,
            subscriptions: BTreeMap::new(),
            unsubscribed: BTreeMap::new(),
            inbound: BTreeMap::new(),
            will: None,
            delayed: None,
            published: None,
            keep_alive: 0,
            heard: Time::default(),
            is_known: false,
            changed: Change::default(),
            is_interrupted: false,
        }
    }

    /// The first of its will and its end.
    fn next_deadline(&self) -> Option<Time> {
        self.delayed.as_ref().map(|(time, _)| *time).into_iter().chain(self.expires).min()
    }

    /// When silence has lasted one and a half keep alive intervals.
    fn silence_ends(&self) -> Option<Time> {
        let interval = u64::from(self.keep_alive);
        (interval > 0).then(|| self.heard.after(Duration::from_millis(interval * 1500)))
    }
}
