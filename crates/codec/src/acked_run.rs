//! Runs of QoS 1: PUBLISH packets behind each other that say nothing but one topic, the same User Properties, an identifier each,
//! and their payloads.
//!
//! In: bytes that came. Out: the messages one by one, as far as the run goes. As with [`crate::Run`], whatever needs a second
//! look ends it; what is the same for all is looked at once.

use crate::few_bytes;
use crate::run::{Front, front};
use crate::{PacketId, TopicRef, Version};

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
