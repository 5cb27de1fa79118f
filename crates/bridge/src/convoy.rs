//! Runs of QoS 1 that cross the bridge under the identifiers that they came with.
//!
//! In: a run of plain messages of one half, the acknowledgements of the other. Out: the same packets for the other half, and
//! its acknowledgements handed back as they are. Neither client has an exchange for such a message, and nobody makes a message
//! of its bytes: a copy of what was written is kept for the whole run. Whatever disturbs this (a cut, an answer out of turn
//! or one that is no plain yes) ends it: the messages become exchanges like any other ([`unpack`]), and all rules for these hold.
//! What it saves is in docs/hot-path.md.

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{
    AckedMessages, AckedRun, Message, MessageProperties, Packet, PacketId, PacketType, PlainAck, QoS, SubscriptionIds,
    Time, VarInt, Version,
};
use viaduct_session::client::Client;
use viaduct_session::{Delivery, Output};

use crate::express::user_properties;
use crate::flow::Flow;

/// Messages of one run that are on their way.
#[derive(Debug)]
pub(crate) struct Convoy {
    /// Their packets, as they went to the target.
    packets: Vec<u8>,
    version: Version,
    received: Time,
    ids: Vec<PacketId>,
    /// How many of them, from the first, the target has acknowledged.
    settled: usize,
    /// How many of these the source knows of.
    told: usize,
}

/// What an answer of the target means for convoys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The next message is done.
    Settled,
    /// It is for one of them, and not the next one's yes: it is to be heard when they are unpacked.
    OutOfTurn,
    /// It is for none.
    Nothing,
}

/// One of them that somebody still waits for.
#[derive(Debug)]
pub(crate) struct Left {
    /// Its place in the run.
    pub(crate) place: u64,
    pub(crate) id: PacketId,
    /// `None` when the target has acknowledged it.
    pub(crate) message: Option<Arc<Message>>,
}

/// Sends the next messages of `run`, `most` at most, to `target` as `sample` has it. How many; none when the first has to go the
/// long way.
pub(crate) fn send(
    now: Time,
    run: &mut AckedRun<'_>,
    most: usize,
    sample: &Message,
    flow: &mut Flow,
    (target, output): (&mut Client, &mut Output),
) -> usize {
    let Some(version) = target.version().filter(|_| sample.qos == QoS::AtLeastOnce) else { return 0 };
    let (topic, properties) = (sample.topic.by_ref(), user_properties(sample));
    let mut ahead = run.clone();
    let mut taken = AckedMessages::new();
    ahead.take_many(most, &mut taken);
    let mut ids: Vec<_> = taken.iter().map(|message| message.packet_id).collect();
    let payload = taken.iter().map(|message| message.payload.len()).max().unwrap_or(0);
    // A message that comes alone is made short with an alias; where many come together time is what is scarce.
    let wants_alias = ids.len() == 1 && target.uses_aliases();
    let largest = AckedRun::size_as(topic, properties, payload);
    if wants_alias || largest > VarInt::MAX.get() as usize || !target.takes_bytes(largest) {
        return 0;
    }
    let count = target.lend(now, &ids, flow.next_token());
    if count == 0 {
        return 0;
    }
    ids.truncate(count);
    let begin = output.buffer().len();
    run.write_as((&ahead, &taken, count), topic, version, properties, output.buffer());
    let packets = output.buffer().get(begin..).unwrap_or_default().to_vec();
    flow.depart(Convoy { packets, version, received: sample.received, ids, settled: 0, told: 0 });
    count
}

/// Takes the plain acknowledgements at the beginning of `bytes` that answer the next messages of convoys in their turn. The bytes of
/// them.
pub(crate) fn settle(now: Time, bytes: &[u8], flow: &mut Flow, target: &mut Client) -> usize {
    let mut used = 0;
    while let Some((token, ids)) = flow.settle_in_turn(bytes.get(used..).unwrap_or_default()) {
        target.give_back(now, ids, token);
        used += ids.len() * PlainAck::SIZE;
    }
    used
}

/// What a packet of the target means for the messages in convoys.
pub(crate) fn answered(now: Time, packet: &Packet<'_>, flow: &mut Flow, target: &mut Client) -> Answered {
    let (Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack)) = packet else { return Answered::Nothing };
    let is_yes = matches!(packet, Packet::Puback(_)) && !ack.reason.is_error();
    let plain = PlainAck { kind: PacketType::Puback, packet_id: ack.packet_id };
    if is_yes && settle(now, &plain.bytes(), flow, target) > 0 {
        Answered::Settled
    } else if flow.convoy_awaits(ack.packet_id) {
        Answered::OutOfTurn
    } else {
        Answered::Nothing
    }
}

/// Makes exchanges of all that is in convoys, here and in both clients.
pub(crate) fn unpack(flow: &mut Flow, source: &mut Client, target: &mut Client) {
    flow.unpack(|token, left| {
        source.take_plain(std::iter::once(left.id));
        if let Some(message) = &left.message {
            let delivery = Delivery {
                message: Arc::clone(message),
                qos: QoS::AtLeastOnce,
                retain: false,
                ids: SubscriptionIds::default(),
                group: None,
                kept: None,
            };
            target.adopt(left.id, delivery, token);
        }
    });
}

impl Convoy {
    /// The identifier of its first message.
    pub(crate) fn first(&self) -> Option<PacketId> {
        self.ids.first().copied()
    }

    /// How many messages it began with.
    pub(crate) const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Settles the messages that PUBACKs at the beginning of `bytes` answer in their turn: the place of the first, and all of them;
    /// `None` when there is none.
    pub(crate) fn settle(&mut self, bytes: &[u8]) -> Option<(u64, &[PacketId])> {
        let place = self.settled;
        let next = self.ids.get(place..).unwrap_or_default();
        self.settled += PlainAck::pubacks_in_turn(bytes, next.iter().map(|id| id.get()));
        (self.settled > place).then(|| (place as u64, self.ids.get(place..self.settled).unwrap_or_default()))
    }

    /// Whether an answer under this identifier is still to come.
    pub(crate) fn awaits(&self, id: PacketId) -> bool {
        self.ids.get(self.settled..).is_some_and(|open| open.contains(&id))
    }

    /// Whether the target has answered for all.
    pub(crate) const fn is_settled(&self) -> bool {
        self.settled == self.ids.len()
    }

    /// What the source is to be told, and now is.
    pub(crate) fn tell(&mut self) -> &[PacketId] {
        let news = self.ids.get(self.told..self.settled).unwrap_or_default();
        self.told = self.settled;
        news
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Vec<Left> {
        let Some(run) = AckedRun::first(&self.packets, self.version, u32::MAX, usize::MAX) else { return Vec::new() };
        let topic = run.topic.to_owned();
        let properties = (!run.user_properties.is_empty()).then(|| {
            let user_properties = Bytes::copy_from_slice(run.user_properties);
            Arc::new(MessageProperties { user_properties, ..MessageProperties::default() })
        });
        let one = |(place, payload): (usize, &[u8])| {
            let message = Message {
                topic: topic.clone(),
                payload: Bytes::copy_from_slice(payload),
                qos: QoS::AtLeastOnce,
                retain: false,
                received: self.received,
                expires: None,
                properties: properties.clone(),
            };
            let message = (place >= self.settled).then(|| Arc::new(message));
            self.ids.get(place).map(|id| Left { place: place as u64, id: *id, message })
        };
        run.map(|message| message.payload).enumerate().skip(self.told).filter_map(one).collect()
    }
}
