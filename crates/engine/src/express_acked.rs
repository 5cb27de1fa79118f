//! The short way of plain QoS 1 messages: what a run of them has in common is looked at once, and each session that hears them
//! gets all of them at once.
//!
//! The topic is checked, authorized and looked up once (`viaduct_codec::AckedRun`); then each message goes the way of every
//! message of QoS 1: to the store when somebody is owed it, to those who hear it, and its answer behind it. Share groups choose
//! anew for each message and go the long way.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{AckedMessage, AckedMessages, AckedRun, Message, MessageProperties, QoS, ReasonCode, Time};
use viaduct_router::RouteSet;
use viaduct_store::{Appended, StoreError, Together};

use crate::Engine;
use crate::acks::Ack;
use crate::dispatch::{Batch, is_heard, levels};
use crate::express::Sender;
use crate::key::SessionKey;

/// What is taken of a run at once.
pub(crate) struct Taken<'a> {
    pub(crate) run: &'a AckedRun<'a>,
    pub(crate) messages: &'a [AckedMessage<'a>],
    /// Each of them but for its payload.
    pub(crate) like: &'a Message,
    /// Who hears them.
    pub(crate) routes: &'a Arc<RouteSet<SessionKey>>,
    /// Bytes of payload of all of them.
    pub(crate) payload: usize,
    /// What they are answered with.
    pub(crate) reason: ReasonCode,
}

impl Taken<'_> {
    /// The answers to those who sent them.
    pub(crate) fn acks(&self, session: SessionKey) -> impl Iterator<Item = Ack> {
        let qos = QoS::AtLeastOnce;
        self.messages.iter().map(move |one| Ack { session, packet_id: one.packet_id, qos, reason: self.reason })
    }
}

/// Memory for the messages of a run, and for the answers to them.
#[derive(Debug, Default)]
pub(crate) struct Run {
    messages: Vec<Arc<Message>>,
    pub(crate) acks: Vec<Ack>,
}

impl Engine {
    /// Passes on the run at the beginning of `rest`, which is from the session at `index`, as far as it begins before `limit`
    /// bytes. The bytes and packets of it; `None` when the first packet has to go the long way.
    #[inline(never)] // What it needs of the stack is not to be there for every other packet.
    pub(crate) fn express_acked(
        &mut self,
        now: Time,
        connection: usize,
        index: usize,
        rest: &[u8],
        limit: usize,
    ) -> Option<(usize, u32)> {
        let Sender { key, version, max_packet_size, hop } = self.sender(connection, index)?;
        let room = self.sessions.get(index)?.session.room();
        let mut run = AckedRun::first(rest, version, max_packet_size, limit)?;
        if levels(run.topic.as_str()) > self.settings.max_topic_levels
            || room == 0 // One more breaks a rule.
            || !self.may_publish(index, run.topic)
        {
            return None;
        }
        let (topic, routes) = self.hearers.who_named(run.topic);
        if !routes.shared().is_empty() {
            return None;
        }
        let properties = if run.user_properties.is_empty() {
            hop
        } else {
            let user_properties = Bytes::copy_from_slice(run.user_properties);
            Some(Arc::new(MessageProperties { user_properties, ..MessageProperties::default() }))
        };
        let reason =
            if is_heard(&routes, Some(key)) { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS };
        let like = Message {
            topic,
            payload: Bytes::new(),
            qos: QoS::AtLeastOnce,
            retain: false,
            received: now,
            expires: None,
            properties,
        };
        let mut many = AckedMessages::new();
        run.take_many(room, &mut many);
        let payload = many.iter().map(|one| one.payload.len()).sum();
        let taken = Taken { run: &run, messages: &many, like: &like, routes: &routes, payload, reason };
        let is_bundle = taken.messages.len() > 1 || self.is_behind_bundle(&routes);
        let is_done =
            self.leave_run(now, index, &taken).is_some() || is_bundle && self.send_bundle(now, index, &taken).is_some();
        if !is_done {
            let Run { mut messages, mut acks } = std::mem::take(&mut self.run);
            for (one, ack) in taken.messages.iter().zip(taken.acks(key)) {
                messages.push(Arc::new(Message { payload: Bytes::copy_from_slice(one.payload), ..like.clone() }));
                acks.push(ack);
            }
            let is_done = self.hand_on_run(now, index, &messages, &routes, &acks);
            messages.clear();
            acks.clear();
            self.run = Run { messages, acks };
            is_done?;
        }
        let (bytes, count) = (run.used(), u32::try_from(taken.messages.len()).unwrap_or(u32::MAX));
        self.stats.received(QoS::AtLeastOnce, u64::from(count), payload);
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.rate_count = connection.rate_count.saturating_add(count);
        }
        Some((bytes, count))
    }

    /// Keeps, hands on and answers the messages of a run.
    fn hand_on_run(
        &mut self,
        now: Time,
        index: usize,
        messages: &[Arc<Message>],
        routes: &Arc<RouteSet<SessionKey>>,
        acks: &[Ack],
    ) -> Option<()> {
        let key = self.sessions.get(index)?.key;
        let owed = match messages.first() {
            Some(like) if routes.has_durable() => self.owed_list(like, routes, &[], Some(key)),
            _ => Vec::new(),
        };
        let appended = if owed.is_empty() {
            Ok(Appended::NOTHING)
        } else {
            self.store.append_all(now, Together::Each(messages), owed.into(), None, key.mark())
        };
        if messages.len() > 1 && matches!(&appended, Err(error) if error.is_full()) {
            // One by one some may find room.
            for (message, ack) in messages.iter().zip(acks) {
                if self.sessions.get(index).is_none_or(|slot| slot.connection().is_none()) {
                    break; // One of them ended it.
                }
                self.hand_on_run(now, index, slice::from_ref(message), routes, slice::from_ref(ack));
            }
            return Some(());
        }
        self.sessions.get_mut(index)?.session.take_plain(now, acks.iter().map(|ack| ack.packet_id));
        match appended {
            Ok(Appended { kept, accepted }) => {
                self.deliver(now, Batch { messages, kept: kept.as_ref(), first: 0 }, routes, Some(key));
                self.acknowledge(now, acks, (accepted, kept), None);
            }
            Err(error) => self.refuse_run(now, index, acks, &error),
        }
        Some(())
    }

    /// Answers the messages of a run that the store has not taken.
    pub(crate) fn refuse_run(&mut self, now: Time, index: usize, acks: &[Ack], error: &StoreError) {
        for ack in acks {
            if self.sessions.get(index).is_none_or(|slot| slot.connection().is_none()) {
                break; // The first of them ended it.
            }
            let taken = self.not_taken(index, error);
            self.answer_publish(now, index, Some(ack.packet_id), QoS::AtLeastOnce, taken);
        }
    }
}
