//! The short ways across the bridge: a run of plain messages on one topic is judged once, and a stretch of plain
//! acknowledgements is answered once, behind the last.
//!
//! In: bytes of one half. Out: the same messages as bytes for the other half, under their topic there and with this
//! broker's hop. The rule, the name and the hop are the same for the whole run (`viaduct_codec::Run`), so they are
//! found once and each message costs two copies; this made a small message across a bridge an order of magnitude cheaper.
//! What the long way would not simply pass on never goes this way: it decides and counts.

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{AckedRun, Message, MessageProperties, PlainAck, QoS, Run, Time, Version};
use viaduct_session::client::{Client, Event as Heard};

use crate::bridge::Bridge;
use crate::convoy;
use crate::flow::Flow;
use crate::limits;
use crate::local::LocalState;
use crate::loop_guard::{Hop, Hops};
use crate::names::Train;

impl Bridge {
    /// Carries the run at the beginning of `rest`, which this broker sent, to the remote. The bytes of it; `None` when
    /// the first packet has to go the long way.
    pub(crate) fn express_out(&mut self, now: Time, rest: &[u8]) -> Option<usize> {
        let room = limits::OUTPUT_HIGH_WATER.checked_sub(self.remote_output.pending()).filter(|room| *room > 0)?;
        if !self.link.is_up() || self.echoes_come_back() {
            return None;
        }
        let run = Run::first(rest, Version::V5, u32::MAX)?.extend(rest, room, u32::MAX);
        let train = self.names.outward(&self.rules, &self.settings.remote, run.topic).ok()?;
        let sample = sample(run.user_properties, QoS::AtMostOnce, train, now, &self.hops, Hop::Out)?;
        let (topic, properties) = (sample.topic.by_ref(), user_properties(&sample));
        // A message that comes alone is made short with an alias; where many come together time is what is scarce.
        let wants_alias = run.count == 1 && self.remote.uses_aliases();
        if wants_alias || !self.remote.takes_bytes(run.largest_as(topic, properties)) {
            return None;
        }
        run.write_as(topic, self.link.level().version(), properties, self.remote_output.buffer());
        self.stats.messages_out += u64::from(run.count);
        self.local.heard_bytes(now);
        Some(run.bytes.len())
    }

    /// The same from the remote to this broker.
    pub(crate) fn express_in(&mut self, now: Time, rest: &[u8]) -> Option<usize> {
        let room = limits::OUTPUT_HIGH_WATER.checked_sub(self.local_output.pending()).filter(|room| *room > 0)?;
        if !self.link.is_up() || self.local_state != LocalState::Up || self.echoes_come_back() {
            return None;
        }
        let most = self.settings.max_packet_size;
        let run = Run::first(rest, self.link.level().version(), most)?.extend(rest, room, most);
        let train = self.names.inward(&self.rules, run.topic).ok()?;
        let sample = sample(run.user_properties, QoS::AtMostOnce, train, now, &self.hops, Hop::In)?;
        let (topic, properties) = (sample.topic.by_ref(), user_properties(&sample));
        if !self.local.takes_bytes(run.largest_as(topic, properties)) {
            return None;
        }
        run.write_as(topic, Version::V5, properties, self.local_output.buffer());
        self.stats.messages_in += u64::from(run.count);
        self.remote.heard_bytes(now);
        Some(run.bytes.len())
    }
}

impl Bridge {
    /// Takes the run of QoS 1 at the beginning of `rest`, which this broker sent, and hands it to the remote together. The bytes
    /// of it; `None` when the first packet has to go the long way.
    pub(crate) fn acked_out(&mut self, now: Time, rest: &[u8]) -> Option<usize> {
        if self.local_state != LocalState::Up || self.outward.was_cut() || self.local.room() == 0 {
            return None;
        }
        let mut run = AckedRun::first(rest, Version::V5, u32::MAX, usize::MAX)?;
        let train = self.names.outward(&self.rules, &self.settings.remote, run.topic).ok()?;
        let sample = sample(run.user_properties, QoS::AtLeastOnce, train, now, &self.hops, Hop::Out)?;
        let most = usize::from(self.window()).saturating_sub(self.outward.len()).min(self.local.room());
        self.local.heard_bytes(now);
        if self.may_send_convoys() {
            let target = (&mut self.remote, &mut self.remote_output);
            let count = convoy::send(now, &mut run, most, &sample, &mut self.outward, target);
            if count > 0 {
                self.stats.messages_out += count as u64;
                return Some(run.used());
            }
        }
        take(&mut run, most, &sample, &mut self.local, &mut self.outward);
        self.pump_outward(now);
        Some(run.used())
    }

    /// Whether nothing but the window has a say in what goes out, and when.
    fn may_send_convoys(&self) -> bool {
        self.link.is_up()
            && !self.outward.is_waiting()
            && !self.echoes_come_back()
            && self.offer.wishes.qos >= QoS::AtLeastOnce
            && self.settings.max_age.is_none()
            && self.settings.drain_rate.is_none()
    }

    /// The same from the remote to this broker.
    pub(crate) fn acked_in(&mut self, now: Time, rest: &[u8]) -> Option<usize> {
        if !self.link.is_up() || self.inward.was_cut() || self.echoes_come_back() || self.remote.room() == 0 {
            return None;
        }
        let mut run = AckedRun::first(rest, self.link.level().version(), self.settings.max_packet_size, usize::MAX)?;
        let train = self.names.inward(&self.rules, run.topic).ok()?;
        let sample = sample(run.user_properties, QoS::AtLeastOnce, train, now, &self.hops, Hop::In)?;
        let most = usize::from(self.window()).saturating_sub(self.inward.len()).min(self.remote.room());
        self.remote.heard_bytes(now);
        if self.local_state == LocalState::Up && !self.inward.is_waiting() {
            let target = (&mut self.local, &mut self.local_output);
            let count = convoy::send(now, &mut run, most, &sample, &mut self.inward, target);
            if count > 0 {
                self.stats.messages_in += count as u64;
                return Some(run.used());
            }
        }
        take(&mut run, most, &sample, &mut self.remote, &mut self.inward);
        self.pump_inward(now);
        Some(run.used())
    }

    /// The plain acknowledgements at the beginning of `rest`, which the remote sent. The bytes of them; `None` when there is
    /// none.
    pub(crate) fn acks_of_remote(&mut self, now: Time, rest: &[u8]) -> Option<usize> {
        let ack = PlainAck::first(rest).filter(|_| self.link.is_up())?;
        let settled = convoy::settle(now, rest, &mut self.outward, &mut self.remote);
        if settled > 0 {
            self.pump_outward(now);
            return Some(settled);
        }
        if self.outward.convoy_awaits(ack.packet_id) {
            self.unpack();
        }
        // The next one may be for a convoy again.
        let rest = if self.outward.has_convoys() { rest.get(..PlainAck::SIZE)? } else { rest };
        let Self { outward, inward, remote, remote_output, .. } = self;
        let (count, result) = remote.handle_acks(now, rest, remote_output, |heard| match heard {
            Heard::Settled { token, .. } => _ = outward.settle(token),
            Heard::Received { token, .. } => outward.received(token),
            Heard::Released(id) => inward.released(id),
            Heard::Freed(id) => outward.freed(id),
            _ => {}
        });
        if count == 0 {
            return None;
        }
        match result {
            Ok(()) => {
                self.pump_outward(now);
                self.pump_inward(now);
            }
            Err(violation) => self.accuse(now, &violation),
        }
        Some(count * PlainAck::SIZE)
    }

    /// The same from this broker.
    pub(crate) fn acks_of_local(&mut self, now: Time, rest: &[u8]) -> Option<usize> {
        let ack = PlainAck::first(rest).filter(|_| self.local_state == LocalState::Up)?;
        let settled = convoy::settle(now, rest, &mut self.inward, &mut self.local);
        if settled > 0 {
            self.pump_inward(now);
            return Some(settled);
        }
        if self.inward.convoy_awaits(ack.packet_id) {
            self.unpack();
        }
        // The next one may be for a convoy again.
        let rest = if self.inward.has_convoys() { rest.get(..PlainAck::SIZE)? } else { rest };
        let Self { outward, inward, local, local_output, .. } = self;
        let (count, result) = local.handle_acks(now, rest, local_output, |heard| match heard {
            Heard::Settled { token, .. } => _ = inward.settle(token),
            Heard::Received { token, .. } => inward.received(token),
            Heard::Released(id) => outward.released(id),
            Heard::Freed(id) => inward.freed(id),
            _ => {}
        });
        if count == 0 {
            return None;
        }
        match result {
            Ok(()) => {
                self.pump_inward(now);
                self.pump_outward(now);
            }
            Err(violation) => self.drop_local(now, &violation.to_string()),
        }
        Some(count * PlainAck::SIZE)
    }
}

impl Bridge {
    /// Makes exchanges of all that goes in convoys, either way.
    pub(crate) fn unpack(&mut self) {
        convoy::unpack(&mut self.outward, &mut self.local, &mut self.remote);
        convoy::unpack(&mut self.inward, &mut self.remote, &mut self.local);
    }
}

/// Takes messages of a run from their source, all like `sample` but for their payloads: the first, and up to `most` as long as
/// the window has room, because a source may send more than it was asked for.
fn take(run: &mut AckedRun<'_>, most: usize, sample: &Message, source: &mut Client, flow: &mut Flow) {
    let Message { topic, payload: _, qos, retain, received, expires, properties } = sample;
    source.take_plain(run.take(most.max(1)).map(|one| {
        let message = Message {
            topic: topic.clone(),
            payload: Bytes::copy_from_slice(one.payload),
            qos: *qos,
            retain: *retain,
            received: *received,
            expires: *expires,
            properties: properties.clone(),
        };
        flow.take(one.packet_id, QoS::AtLeastOnce, false, Arc::new(message));
        one.packet_id
    }));
}

/// What all messages of a run have in common on the other side; `None` when they go in a circle.
fn sample(user_properties: &[u8], qos: QoS, train: &Train, now: Time, hops: &Hops, hop: Hop) -> Option<Message> {
    let properties = (!user_properties.is_empty()).then(|| {
        let user_properties = Bytes::copy_from_slice(user_properties);
        Arc::new(MessageProperties { user_properties, ..MessageProperties::default() })
    });
    let mut message = Message {
        topic: train.to.clone(),
        payload: Bytes::new(),
        qos: qos.min(train.qos),
        retain: false,
        received: now,
        expires: None,
        properties,
    };
    hops.stamp(&mut message, hop).ok()?;
    Some(message)
}

pub(crate) fn user_properties(message: &Message) -> &[u8] {
    message.properties.as_ref().map_or(&[], |own| &own.user_properties)
}
