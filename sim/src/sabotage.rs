//! Faults on purpose, between a broker and its clients: the proof that the oracle notices.
//!
//! In: what a broker wrote for a connection, or what a client wrote for a broker. Out: the same with one kind of wrong.
//! Used by tests alone.

use std::collections::BTreeMap;

use crate::disk::Lie;
use viaduct_codec::{Ack, Frame, Packet, PacketId, PacketType, Publish, QoS, ReasonCode, Time, TopicRef, Version};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A PUBLISH of this QoS never arrives.
    Drop(QoS),
    /// A PUBLISH of this QoS arrives twice, the second time under another identifier.
    Double(QoS),
    /// A PUBLISH to a topic of which this is the first level never arrives.
    DropBelow(&'static str),
    /// A PUBLISH to such a topic arrives twice.
    DoubleBelow(&'static str),
    /// Two PUBLISH packets of QoS 1 or 2 change places.
    Swap,
    /// A PUBLISH arrives at a topic that nobody subscribed to.
    Stray,
    /// A PUBLISH of QoS 1 arrives with QoS 2.
    Promote,
    /// A retained message is replaced by the one that was retained before it.
    Stale,
    /// A PUBLISH arrives under an identifier that is in use.
    ReuseId,
    /// The expiry that a PUBLISH names is longer than what is left.
    LongExpiry,
    /// A PUBLISH with an expiry arrives after it.
    Overdue,
    /// Session Present is turned round.
    SessionPresent,
    /// PUBACK and PUBREC never arrive.
    NoAnswer,
    /// PUBACK and PUBREC name another message.
    WrongAnswer,
    /// A DISCONNECT never reaches the broker.
    NoGoodbye,
    /// PUBACKs of clients never reach the broker.
    NoPuback,
    /// A broker that stops loses its disk.
    LoseDisk,
    /// A broker that stops finds its disk as it was a while ago.
    OldDisk,
}

/// Does one [`Fault`] now and then.
pub(crate) struct Saboteur {
    fault: Fault,
    /// Chances left until the next one.
    countdown: u32,
    /// A packet that comes after the next one.
    held: BTreeMap<u64, Vec<u8>>,
    /// A packet that comes at its time or later.
    overdue: BTreeMap<u64, (Time, Vec<u8>)>,
    now: Time,
    /// The last identifier that went to a connection.
    last: BTreeMap<u64, PacketId>,
    /// The last two retained payloads of a topic.
    retained: BTreeMap<String, [Vec<u8>; 2]>,
}

impl Saboteur {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            countdown: 10,
            held: BTreeMap::new(),
            overdue: BTreeMap::new(),
            now: Time::default(),
            last: BTreeMap::new(),
            retained: BTreeMap::new(),
        }
    }

    /// What becomes of the disks of brokers that stop.
    pub(crate) fn disk(&self) -> Option<Lie> {
        match self.fault {
            Fault::LoseDisk => Some(Lie::Empty),
            Fault::OldDisk => Some(Lie::Old),
            _ => None,
        }
    }

    /// What arrives of `bytes`, which are whole packets of a broker.
    pub(crate) fn pass(&mut self, now: Time, link: u64, version: Version, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some((due, _)) = self.overdue.get(&link)
            && *due <= now
            && let Some((_, packet)) = self.overdue.remove(&link)
        {
            out.extend_from_slice(&packet);
        }
        self.now = now;
        let mut rest = bytes;
        while let Ok(Some(frame)) = Frame::split(rest, u32::MAX) {
            rest = &rest[frame.bytes.len()..];
            match Packet::decode(frame, version) {
                Ok(Packet::Publish(publish)) => self.pass_publish(link, version, publish, frame.bytes, &mut out),
                Ok(packet) => {
                    let changed = self.change(packet);
                    // It was a packet before, and what is changed in it makes it no longer.
                    _ = changed.map(|packet| packet.encode(version, &mut out));
                }
                Err(_) => out.extend_from_slice(frame.bytes),
            }
        }
        out
    }

    /// Whether a packet of a client reaches the broker.
    pub(crate) fn reaches(&mut self, kind: PacketType) -> bool {
        match self.fault {
            Fault::NoGoodbye => kind != PacketType::Disconnect,
            Fault::NoPuback => kind != PacketType::Puback || !self.is_time(),
            _ => true,
        }
    }

    fn change<'a>(&mut self, packet: Packet<'a>) -> Option<Packet<'a>> {
        let is_answer = matches!(packet, Packet::Puback(_) | Packet::Pubrec(_));
        match (self.fault, packet) {
            (Fault::NoAnswer, _) if is_answer && self.is_time() => None,
            (Fault::WrongAnswer, Packet::Puback(ack)) if self.is_time() => {
                let other = PacketId::new(ack.packet_id.get() ^ 0x4000)?;
                Some(Packet::Puback(Ack::new(other, ReasonCode::SUCCESS)))
            }
            (Fault::SessionPresent, Packet::Connack(mut connack)) if self.is_time() => {
                connack.session_present = !connack.session_present;
                Some(Packet::Connack(connack))
            }
            (_, packet) => Some(packet),
        }
    }

    fn pass_publish(&mut self, link: u64, version: Version, own: Publish<'_>, bytes: &[u8], out: &mut Vec<u8>) {
        let mut publish = own.clone();
        let before = self.remember(&own);
        let is_below = |name: &str| own.topic.is_some_and(|topic| topic.as_str().split('/').next() == Some(name));
        let fresh = own.packet_id.and_then(|id| PacketId::new(id.get() ^ 0x4000));
        let has_window = own.qos > QoS::AtMostOnce;
        let fits = match self.fault {
            Fault::Drop(qos) | Fault::Double(qos) => own.qos == qos,
            Fault::DropBelow(name) | Fault::DoubleBelow(name) => is_below(name),
            Fault::Stray => own.topic.is_some() && own.properties.topic_alias.is_none(),
            Fault::Promote => own.qos == QoS::AtLeastOnce,
            Fault::Stale => own.retain && before.as_ref().is_some_and(|old| !old.is_empty() && old != own.payload),
            Fault::ReuseId => has_window && self.last.get(&link).is_some_and(|last| Some(*last) != own.packet_id),
            Fault::Overdue => own.properties.message_expiry.is_some_and(|seconds| seconds < 10),
            Fault::LongExpiry => own.properties.message_expiry.is_some(),
            Fault::Swap => has_window,
            _ => false,
        };
        if let Some(held) = self.held.remove(&link) {
            out.extend_from_slice(bytes);
            return out.extend_from_slice(&held);
        }
        if !fits || !self.is_time() {
            if let Some(id) = own.packet_id {
                self.last.insert(link, id);
            }
            return out.extend_from_slice(bytes);
        }
        match self.fault {
            Fault::Drop(_) | Fault::DropBelow(_) => return,
            Fault::Double(_) | Fault::DoubleBelow(_) => {
                out.extend_from_slice(bytes);
                publish.packet_id = fresh;
            }
            Fault::Swap => {
                self.held.insert(link, bytes.to_vec());
                return;
            }
            Fault::Overdue => {
                let due = self.now.after_secs(own.properties.message_expiry.unwrap_or(0) + 1);
                self.overdue.insert(link, (due, bytes.to_vec()));
                return;
            }
            Fault::Stray => publish.topic = TopicRef::new("nobody/asked").ok(),
            Fault::Promote => publish.qos = QoS::ExactlyOnce,
            Fault::Stale => publish.payload = before.as_deref().unwrap_or_default(),
            Fault::ReuseId => publish.packet_id = self.last.get(&link).copied(),
            Fault::LongExpiry => {
                publish.properties.message_expiry = own.properties.message_expiry.map(|seconds| seconds + 5);
            }
            _ => {}
        }
        // What was a PUBLISH is still one.
        _ = Packet::Publish(publish).encode(version, out);
    }

    /// Remembers what is retained; what was before.
    fn remember(&mut self, publish: &Publish<'_>) -> Option<Vec<u8>> {
        let topic = publish.topic.filter(|_| publish.retain)?.as_str();
        let [before, last] = self.retained.entry(topic.to_owned()).or_default();
        if last != publish.payload {
            *before = std::mem::replace(last, publish.payload.to_vec());
        }
        Some(before.clone())
    }

    fn is_time(&mut self) -> bool {
        if self.countdown == 0 {
            self.countdown = 15;
            return true;
        }
        self.countdown -= 1;
        false
    }
}
