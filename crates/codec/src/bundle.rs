//! Messages of a run that stay together, as the bytes they came in, until somebody asks for one of them.
//!
//! In: what was taken of a run, and a message like each of them. Out: their payloads, or messages of them, in their order. Many
//! small messages are two pieces of memory instead of two for each.

use std::sync::Arc;

use bytes::Bytes;

use crate::{AckedMessage, AckedRun, Message, Version};

/// Consecutive messages of QoS 1 that differ in nothing but their payloads.
#[derive(Debug)]
pub struct Bundle {
    like: Message,
    packets: Box<[u8]>,
    version: Version,
    len: usize,
}

impl Bundle {
    /// What was taken of `run` since it began, which is `taken`. `like` is each of them but for its payload, and has none.
    #[must_use]
    pub fn new(like: Message, run: &AckedRun<'_>, taken: &[AckedMessage<'_>]) -> Self {
        let (packets, version) = run.taken();
        Self { like, packets: packets.into(), version, len: taken.len() }
    }

    /// A message like each of them, without a payload.
    #[must_use]
    pub const fn like(&self) -> &Message {
        &self.like
    }

    /// How many they are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The payload of each.
    pub fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let run = AckedRun::first(&self.packets, self.version, u32::MAX, usize::MAX);
        run.into_iter().flatten().map(|message| message.payload)
    }

    /// Each behind the first `from` as a message of its own.
    pub fn messages(&self, from: usize) -> impl Iterator<Item = Arc<Message>> {
        let one = |payload| Message { payload: Bytes::copy_from_slice(payload), ..self.like.clone() };
        self.payloads().skip(from).map(move |payload| Arc::new(one(payload)))
    }

    /// Bytes that all of them would hold in memory as messages, near enough for a byte-counted limit.
    #[must_use]
    pub fn size(&self) -> usize {
        // Topics and identifiers are counted twice: that is as near.
        self.len * self.like.size() + self.packets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packet, PacketId, Publish, PublishProperties, QoS, Time, TopicRef};

    #[test]
    fn what_was_taken_comes_out_again_and_nothing_behind_it() {
        let payloads: [&[u8]; 4] = [b"", b"1", &[7; 200], b"behind"];
        for version in [Version::V31, Version::V311, Version::V5] {
            let mut bytes = Vec::new();
            for (id, payload) in (1..).zip(payloads) {
                let publish = Publish {
                    dup: false,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    topic: Some(TopicRef::new("t").unwrap()),
                    packet_id: PacketId::new(id),
                    properties: PublishProperties::default(),
                    payload,
                };
                Packet::Publish(publish).encode(version, &mut bytes).unwrap();
            }
            for count in 1..=payloads.len() {
                let mut run = AckedRun::first(&bytes, version, u32::MAX, usize::MAX).unwrap();
                let taken: Vec<_> = run.by_ref().take(count).collect();
                let like = Message {
                    topic: run.topic.to_owned(),
                    payload: Bytes::new(),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    received: Time::from_millis(7),
                    expires: None,
                    properties: None,
                };
                let bundle = Bundle::new(like.clone(), &run, &taken);
                assert_eq!((bundle.len(), bundle.is_empty()), (count, false));
                assert!(bundle.payloads().eq(payloads[..count].iter().copied()));
                let one = |payload: &&[u8]| Message { payload: Bytes::copy_from_slice(payload), ..like.clone() };
                for from in 0..=count {
                    let messages = bundle.messages(from).map(|message| Message::clone(&message));
                    assert!(messages.eq(payloads[from..count].iter().map(one)));
                }
                assert!(bundle.size() >= bundle.messages(0).map(|message| message.size()).sum());
            }
        }
    }
}
