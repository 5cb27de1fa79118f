//! Runs of QoS 1: PUBLISH packets behind each other that say nothing but one topic, the same User Properties, an identifier each,
//! and their payloads.
//!
//! In: bytes that came. Out: the messages one by one, as far as the run goes. As with [`crate::Run`], whatever needs a second
//! look ends it; what is the same for all is looked at once.

use crate::few_bytes;
use crate::run::{Front, front};
use crate::writer::Out;
use crate::{PacketId, TopicRef, VarInt, Version};

/// PUBLISH with QoS 1 and neither DUP nor RETAIN.
const PLAIN: u8 = 0x32;

/// Consecutive plain packets of one topic, to be taken one after the other.
#[derive(Clone, Debug)]
pub struct AckedRun<'a> {
    /// The topic of each, checked.
    pub topic: TopicRef<'a>,
    /// Encoded, as [`crate::UserProperties::from_encoded`] takes them: the same in each.
    pub user_properties: &'a [u8],
    buffer: &'a [u8],
    used: usize,
    limit: usize,
    max_packet_size: u32,
    /// The topic with its length.
    head: &'a [u8],
    /// In 5.0 the property section; empty in 3.x.
    section: &'a [u8],
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckedMessage<'a> {
    /// What it is acknowledged by.
    pub packet_id: PacketId,
    /// As it came.
    pub payload: &'a [u8],
}

impl<'a> AckedRun<'a> {
    /// Whether a run could begin here: the quick way to know that none does.
    #[must_use]
    #[inline]
    pub fn may_begin(buffer: &[u8]) -> bool {
        buffer.first() == Some(&PLAIN)
    }

    /// The run at the beginning of `buffer`, as far as its packets begin before `limit` bytes; `None` when the first packet is
    /// not whole, larger than `max_packet_size`, not plain, or malformed. The first is always there to be taken.
    #[must_use]
    pub fn first(buffer: &'a [u8], version: Version, max_packet_size: u32, limit: usize) -> Option<Self> {
        let (body, size) = crate::run::body(buffer, PLAIN)?;
        if size > max_packet_size as usize {
            return None;
        }
        let Front { topic, head, section, user_properties } = front(body, version, true)?;
        let run = Self { topic, user_properties, buffer, used: 0, limit, max_packet_size, head, section };
        run.clone().next()?;
        Some(run)
    }

    /// Bytes of the packets that were taken.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Bytes that a packet with a payload of `payload` bytes has when [`AckedRun::write_as`] writes it, at most.
    #[must_use]
    pub fn size_as(topic: TopicRef<'_>, user_properties: &[u8], payload: usize) -> usize {
        // The first byte, both lengths, that of the topic, the identifier.
        topic.as_str().len() + user_properties.len() + payload + 13
    }

    /// Takes the next messages, `most` at most, and appends their packets under another topic, in the layout of `version` and
    /// there with these User Properties, encoded. Their identifiers stay. Each has to have a size ([`AckedRun::size_as`]) that
    /// the wire can say ([`VarInt::MAX`]); the first that has not ends it.
    pub fn write_as(
        &mut self,
        most: usize,
        topic: TopicRef<'_>,
        version: Version,
        user_properties: &[u8],
        out: &mut Vec<u8>,
    ) {
        let is_v5 = !self.section.is_empty();
        let are_same = self.user_properties == user_properties || !is_v5;
        if self.topic == topic && is_v5 == version.is_v5() && are_same {
            let begin = self.used;
            self.by_ref().take(most).for_each(drop);
            out.extend_from_slice(self.buffer.get(begin..self.used).unwrap_or_default());
            return;
        }
        let mut head = Vec::with_capacity(2 + topic.as_str().len());
        head.extend_from_slice(&(topic.as_str().len() as u16).to_be_bytes());
        head.extend_from_slice(topic.as_str().as_bytes());
        let mut section = Vec::new();
        if version.is_v5() {
            let Some(length) = u32::try_from(user_properties.len()).ok().and_then(VarInt::new) else { return };
            section.reserve(4 + user_properties.len());
            section.var_int(length);
            section.extend_from_slice(user_properties);
        }
        // Everything before the identifier, which is the same for payloads of one size.
        let mut front = Vec::with_capacity(5 + head.len());
        let mut payload = None;
        for message in self.take(most) {
            let length = message.payload.len();
            if payload != Some(length) {
                let remaining = u32::try_from(head.len() + 2 + section.len() + length).ok().and_then(VarInt::new);
                let Some(remaining) = remaining else { return };
                front.clear();
                front.push(PLAIN);
                front.var_int(remaining);
                front.extend_from_slice(&head);
                payload = Some(length);
            }
            let begin = out.len();
            out.resize(begin + front.len() + 2 + section.len() + length, 0);
            let (before, rest) = out.get_mut(begin..).unwrap_or_default().split_at_mut(front.len());
            let (id, rest) = rest.split_at_mut(2);
            let (middle, behind) = rest.split_at_mut(section.len());
            few_bytes::copy(&front, before);
            few_bytes::copy(&message.packet_id.get().to_be_bytes(), id);
            few_bytes::copy(&section, middle);
            few_bytes::copy(message.payload, behind);
        }
    }
}

impl<'a> Iterator for AckedRun<'a> {
    type Item = AckedMessage<'a>;

    #[inline]
    fn next(&mut self) -> Option<AckedMessage<'a>> {
        if self.used >= self.limit.max(1) {
            return None;
        }
        let (body, size) = crate::run::body(self.buffer.get(self.used..)?, PLAIN)?;
        if size > self.max_packet_size as usize || !few_bytes::begin_with(body, self.head) {
            return None;
        }
        let (id, rest) = body.get(self.head.len()..)?.split_first_chunk::<2>()?;
        if !few_bytes::begin_with(rest, self.section) {
            return None;
        }
        let message = AckedMessage {
            packet_id: PacketId::new(u16::from_be_bytes(*id))?,
            payload: rest.get(self.section.len()..)?,
        };
        self.used += size;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Packet, Publish, PublishProperties, QoS, UserProperties};

    fn publish(version: Version, topic: &str, id: u16, pairs: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: Some(TopicRef::new(topic).unwrap()),
            packet_id: PacketId::new(id),
            properties: PublishProperties {
                user_properties: UserProperties::from_encoded(pairs),
                ..PublishProperties::default()
            },
            payload,
        };
        Packet::Publish(publish).encode(version, &mut bytes).unwrap();
        bytes
    }

    /// Identifiers and payloads, and the bytes of all.
    type Taken = (Vec<(u16, Vec<u8>)>, usize);

    fn taken(bytes: &[u8], version: Version, limit: usize) -> Option<Taken> {
        let mut run = AckedRun::first(bytes, version, u32::MAX, limit)?;
        let messages = run.by_ref().map(|message| (message.packet_id.get(), message.payload.to_vec())).collect();
        Some((messages, run.used()))
    }

    #[test]
    fn a_run_ends_where_something_else_begins() {
        for version in [Version::V31, Version::V311, Version::V5] {
            let pairs: &[u8] = if version.is_v5() { b"\x26\0\x01k\0\x01v" } else { b"" };
            let one = |topic: &str, id, payload: &[u8]| publish(version, topic, id, pairs, payload);
            let bytes = [one("t", 1, b"1"), one("t", 9, b""), one("t", 3, &[7; 200])].concat();
            let expected = vec![(1, b"1".to_vec()), (9, Vec::new()), (3, vec![7; 200])];
            let mut tails = vec![
                one("u", 1, b"1"),
                one("tt", 1, b"1"),
                vec![0xC0, 0],
                vec![0x32, 9, 0],
                b"\x32\x05\0\x01t\0\0".to_vec(),
            ];
            for first in [0x30, 0x33, 0x34, 0x3A] {
                let mut other = one("t", 4, b"1");
                other[0] = first;
                tails.push(other);
            }
            if version.is_v5() {
                tails.push(publish(version, "t", 4, b"", b"1"));
                tails.push(publish(version, "t", 4, b"\x26\0\x01k\0\x01w", b"1"));
            }
            for tail in tails {
                let all = [&bytes[..], &tail].concat();
                assert_eq!(taken(&all, version, usize::MAX), Some((expected.clone(), bytes.len())), "{tail:02x?}");
                assert!(taken(&tail, version, usize::MAX).is_none_or(|(other, _)| other.len() == 1));
            }
            assert_eq!(taken(&bytes, version, 1), Some((expected[..1].to_vec(), one("t", 1, b"1").len())));
            assert_eq!(taken(&bytes, version, 0).unwrap().0.len(), 1, "the first is always there");
            let run = AckedRun::first(&bytes, version, u32::MAX, usize::MAX).unwrap();
            assert_eq!((run.topic.as_str(), run.user_properties), ("t", pairs));
            let small = AckedRun::first(&bytes, version, 20, usize::MAX).unwrap();
            assert_eq!(small.count(), 2, "the third is too large");
        }
    }

    #[test]
    fn a_run_is_written_under_its_identifiers_as_the_long_way_writes_it() {
        let pair: &[u8] = b"\x26\0\x01k\0\x01v";
        let payloads: [&[u8]; 5] = [b"", b"1", b"2", &[7; 130], &[8; 20]];
        let all = |version: Version, topic: &str, pairs: &[u8]| {
            let one = |(id, payload): (u16, &&[u8])| publish(version, topic, id, pairs, payload);
            (7..).zip(&payloads).map(one).collect::<Vec<_>>()
        };
        for (from, came) in [(Version::V311, &b""[..]), (Version::V5, b""), (Version::V5, pair)] {
            let bytes = all(from, "a/b", came).concat();
            for (to, said) in [(Version::V31, &b""[..]), (Version::V5, b""), (Version::V5, pair)] {
                for topic in ["a/b", "x/a/b"] {
                    let expected = all(to, topic, said);
                    let mut run = AckedRun::first(&bytes, from, u32::MAX, usize::MAX).unwrap();
                    let (mut out, topic) = (b"before".to_vec(), TopicRef::new(topic).unwrap());
                    run.write_as(3, topic, to, said, &mut out);
                    assert_eq!(out[6..], expected[..3].concat(), "{from:?} {to:?}");
                    assert_eq!(run.used(), all(from, "a/b", came)[..3].concat().len());
                    run.write_as(9, topic, to, said, &mut out);
                    assert_eq!(out[6..], expected.concat());
                    for (packet, payload) in expected.iter().zip(payloads) {
                        assert!(packet.len() <= AckedRun::size_as(topic, said, payload.len()));
                    }
                }
            }
        }
    }

    #[test]
    fn what_needs_a_second_look_is_no_run() {
        let plain = publish(Version::V311, "t", 7, b"", b"1");
        for (at, byte) in [(0, 0x30), (0, 0x33), (0, 0x34), (0, 0x3A), (4, b'#'), (4, 0), (6, 0)] {
            let mut other = plain.clone();
            other[at] = byte;
            assert_eq!(taken(&other, Version::V311, usize::MAX), None, "{other:02x?}");
        }
        assert!(taken(&plain[..7], Version::V311, usize::MAX).is_none());
        assert!(AckedRun::first(&plain, Version::V311, 7, usize::MAX).is_none());
        // A property that is no User Property, one cut short, an empty topic with an alias, no room for an identifier.
        assert!(taken(b"\x32\x08\0\x01t\0\x07\x02\x01\0", Version::V5, usize::MAX).is_none());
        assert!(taken(b"\x32\x0c\0\x01t\0\x07\x06\x26\0\x01k\0\x01", Version::V5, usize::MAX).is_none());
        assert!(taken(b"\x32\x08\0\0\0\x07\x03\x23\0\x01", Version::V5, usize::MAX).is_none());
        assert!(taken(b"\x32\x04\0\x01t\0", Version::V311, usize::MAX).is_none());
    }
}
