//! The short way of plain QoS 1 messages: what a run of them has in common is looked at once, and each session that hears them
//! gets all of them at once.
//!
//! The topic is checked, authorized and looked up once (`viaduct_codec::AckedRun`); then each message goes the way of every
//! message of QoS 1: to the store when somebody is owed it, to those who hear it, and its answer behind it. Share groups choose
//! anew for each message and go the long way.

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{AckedRun, Message, MessageProperties, PacketId, QoS, ReasonCode, Time};
use viaduct_session::Violation;
use viaduct_store::{Appended, Owed};

use crate::Engine;
use crate::acks::Ack;
use crate::dispatch::{Routed, is_heard, levels};
use crate::inbound::Taken;

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
        if self.settings.message_rate.is_some() {
            return None; // A run would be far over the rate before anybody counts.
        }
        let open = self.connections.get(connection)?;
        let (max_packet_size, hop) = (open.max_packet_size, open.hop.clone());
        let slot = self.sessions.get(index).filter(|slot| slot.mountpoint.is_none())?;
        let (key, version) = (slot.key, slot.session.version()?);
        let mut run = AckedRun::first(rest, version, max_packet_size, limit)?;
        if levels(run.topic.as_str()) > self.settings.max_topic_levels
            || self.waiting.holds_back(key) // It would overtake what came before it.
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
        let mut batch = std::mem::take(&mut self.batch);
        let (mut count, mut payload, mut end) = (0, 0, None);
        let mut owed: Option<Arc<[Owed]>> = None;
        self.sessions.get_mut(index)?.session.touch(now);
        for one in &mut run {
            (count, payload) = (count + 1, payload + one.payload.len());
            if let Err(violation) = self.sessions.get_mut(index)?.session.take_plain(one.packet_id) {
                end = Some(End::Broken(violation));
                break;
            }
            let message = Arc::new(Message {
                topic: topic.clone(),
                payload: Bytes::copy_from_slice(one.payload),
                qos: QoS::AtLeastOnce,
                retain: false,
                received: now,
                expires: None,
                properties: properties.clone(),
            });
            let appended = if routes.has_durable() {
                // The same for all, because nobody comes or goes meanwhile.
                let list = || self.owed_list(&message, &routes, &[], Some(key)).into();
                let owed = owed.get_or_insert_with(list);
                if owed.is_empty() {
                    Ok(Appended::NOTHING)
                } else {
                    self.store.append(now, &message, Arc::clone(owed), None, key.mark())
                }
            } else {
                Ok(Appended::NOTHING)
            };
            match appended {
                Ok(Appended { kept, accepted }) => {
                    batch.push(Routed { message, kept: kept.clone() });
                    let ack = Ack { session: key, packet_id: one.packet_id, qos: QoS::AtLeastOnce, reason };
                    self.acknowledge(now, ack, (accepted, kept), None);
                }
                Err(error) => {
                    end = Some(End::NotTaken(self.not_taken(index, &error), one.packet_id));
                    break;
                }
            }
        }
        self.stats.received(QoS::AtLeastOnce, u64::from(count), payload);
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.rate_count = connection.rate_count.saturating_add(count);
        }
        self.deliver(now, &batch, &routes, Some(key));
        batch.clear();
        self.batch = batch;
        match end {
            None => {}
            Some(End::Broken(violation)) => self.violate(now, index, &violation),
            Some(End::NotTaken(taken, id)) => self.answer_publish(now, index, Some(id), QoS::AtLeastOnce, taken),
        }
        Some((run.used(), count))
    }
}

/// Why a run ended before its last packet.
enum End {
    /// The client broke a rule.
    Broken(Violation),
    /// The store could not take a message.
    NotTaken(Taken, PacketId),
}
