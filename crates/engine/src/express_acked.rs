//! The short way of plain QoS 1 messages: what a run of them has in common is looked at once, and each session that hears them
//! gets all of them at once.
//!
//! The topic is checked, authorized and looked up once (`viaduct_codec::AckedRun`); then each message goes the way of every
//! message of QoS 1: to the store when somebody is owed it, to those who hear it, and its answer behind it. Share groups choose
//! anew for each message and go the long way.

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{AckedRun, Message, MessageProperties, QoS, ReasonCode, Time};
use viaduct_router::RouteSet;
use viaduct_store::Appended;

use crate::Engine;
use crate::acks::Ack;
use crate::dispatch::{Batch, is_heard, levels};
use crate::express::Sender;
use crate::key::SessionKey;
use crate::leave::Left;

/// Memory for the messages of a run, and for the answers to them.
#[derive(Debug, Default)]
pub(crate) struct Run {
    messages: Vec<Arc<Message>>,
    pub(crate) acks: Vec<Ack>,
}

impl Engine {
    /// Passes on the run at the beginning of `rest`, which is from the session at `index`, as far as it begins before `limit`
    /// bytes. The bytes and packets of it; `None` when the first packet has to go the long way.
    pub(crate) fn express_acked(
        &mut self,
        now: Time,
        connection: usize,
        index: usize,
        rest: &[u8],
        limit: usize,
    ) -> Option<(usize, u32)> {
        if !AckedRun::may_begin(rest) {
            return None;
        }
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
        let plain = |payload| Message {
            topic: topic.clone(),
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            received: now,
            expires: None,
            properties: properties.clone(),
        };
        let left = if routes.has_durable() {
            self.leave_run(now, index, (&plain(Bytes::new()), &routes), (&run, room), reason)
        } else {
            None
        };
        let Left { bytes, count, payload } = match left {
            Some(left) => left,
            None => {
                let Run { mut messages, mut acks } = std::mem::take(&mut self.run);
                let mut payload = 0;
                for one in run.by_ref().take(room) {
                    payload += one.payload.len();
                    acks.push(Ack { session: key, packet_id: one.packet_id, qos: QoS::AtLeastOnce, reason });
                    messages.push(Arc::new(plain(Bytes::copy_from_slice(one.payload))));
                }
                let is_done = self.hand_on_run(now, index, &messages, &routes, &acks);
                let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
                messages.clear();
                acks.clear();
                self.run = Run { messages, acks };
                is_done?;
                Left { bytes: run.used(), count, payload }
            }
        };
        self.stats.received(QoS::AtLeastOnce, u64::from(count), payload);
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.rate_count = connection.rate_count.saturating_add(count);
        }
        Some((bytes, count))
    }

    /// Keeps, hands on and answers the messages of a run. `None`, and nothing was done, when the store has no room for all of them:
    /// one by one some may find it.
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
            self.store.append_all(now, messages, owed.into(), None, key.mark())
        };
        if messages.len() > 1 && matches!(&appended, Err(error) if error.is_full()) {
            return None;
        }
        self.sessions.get_mut(index)?.session.take_plain(now, acks.iter().map(|ack| ack.packet_id));
        match appended {
            Ok(Appended { kept, accepted }) => {
                self.deliver(now, Batch { messages, kept: kept.as_ref(), first: 0 }, routes, Some(key));
                self.acknowledge(now, acks, (accepted, kept), None);
            }
            Err(error) => {
                for ack in acks {
                    if self.sessions.get(index).is_none_or(|slot| slot.connection().is_none()) {
                        break; // The first of them ended it.
                    }
                    let taken = self.not_taken(index, &error);
                    self.answer_publish(now, index, Some(ack.packet_id), QoS::AtLeastOnce, taken);
                }
            }
        }
        Some(())
    }
}
