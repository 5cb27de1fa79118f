//! Runs of QoS 1: PUBLISH packets behind each other that say nothing but one topic, the same User Properties, an identifier each,
//! and their payloads.
//!
//! In: bytes that came. Out: the messages one by one, as far as the run goes. As with [`crate::Run`], whatever needs a second
//! look ends it; what is the same for all is looked at once.

use smallvec::SmallVec;

use crate::few_bytes::{self, Tails};
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
    /// What the last packet has before its identifier, which the next one mostly has too, and bytes of it.
    front: &'a [u8],
    size: usize,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckedMessage<'a> {
    /// What it is acknowledged by.
    pub packet_id: PacketId,
    /// As it came.
    pub payload: &'a [u8],
}

/// Messages of a run that are looked at together. As many as mostly come in one read need no memory but the stack's.
pub type AckedMessages<'a> = SmallVec<[AckedMessage<'a>; 128]>;

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
        let front = buffer.get(..size - body.len() + head.len())?;
        let run = Self { topic, user_properties, buffer, used: 0, limit, max_packet_size, head, section, front, size };
        run.clone().next()?;
        Some(run)
    }

    /// Puts the next messages behind those in `many`, `most` at most.
    pub fn take_many(&mut self, most: usize, many: &mut AckedMessages<'a>) {
        let end = many.len() + most;
        while many.len() < end {
            let begin = many.len();
            self.take_alike(end - begin, many);
            self.used += (many.len() - begin) * self.size;
            if many.len() < end {
                let Some(message) = self.next() else { return };
                many.push(message);
            }
        }
    }

    /// Those of [`AckedRun::take_many`] that are as large as the last.
    fn take_alike(&self, most: usize, many: &mut AckedMessages<'a>) {
        let before_limit = self.limit.max(1).saturating_sub(self.used).div_ceil(self.size.max(1));
        let packets = self.buffer.get(self.used..).unwrap_or_default().chunks_exact(self.size.max(1));
        for packet in packets.take(most.min(before_limit)) {
            let Some((front, rest)) = packet.split_at_checked(self.front.len()) else { return };
            let Some((id, behind)) = rest.split_first_chunk::<2>() else { return };
            let Some((section, payload)) = behind.split_at_checked(self.section.len()) else { return };
            let is_alike = few_bytes::begin_with(front, self.front) && few_bytes::begin_with(section, self.section);
            let Some(packet_id) = PacketId::new(u16::from_be_bytes(*id)).filter(|_| is_alike) else { return };
            // `extend` asks for room before each.
            many.push(AckedMessage { packet_id, payload });
        }
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

    /// Takes the first `count` of `taken`, which `ahead` took from a copy of this, and appends their packets under another topic, in the
    /// layout of `version` and there with these User Properties, encoded. Their identifiers stay. Each has to have a size
    /// ([`AckedRun::size_as`]) that the wire can say ([`VarInt::MAX`]); the first that has not ends it.
    pub fn write_as(
        &mut self,
        (ahead, taken, count): (&Self, &[AckedMessage<'_>], usize),
        topic: TopicRef<'_>,
        version: Version,
        user_properties: &[u8],
        out: &mut Vec<u8>,
    ) {
        let begin = self.used;
        if count < taken.len() {
            self.by_ref().take(count).for_each(drop);
        } else {
            self.used = ahead.used;
        }
        if self.is_as(topic, version, user_properties) {
            out.extend_from_slice(self.buffer.get(begin..self.used).unwrap_or_default());
        } else {
            let messages = taken.get(..count).unwrap_or(taken);
            let ids = messages.iter().map(|message| message.packet_id.get());
            write_each(topic, version, user_properties, messages, ids, out);
        }
    }

    /// Whether its packets are those that say this.
    fn is_as(&self, topic: TopicRef<'_>, version: Version, user_properties: &[u8]) -> bool {
        let is_v5 = !self.section.is_empty();
        let are_same = self.user_properties == user_properties || !is_v5;
        self.topic == topic && is_v5 == version.is_v5() && are_same
    }

    /// Appends packets with the payloads of these messages of a run as [`AckedRun::write_as`] does, under identifiers that follow each
    /// other from `first` on; none of them comes before it.
    pub fn write_anew(
        messages: &[AckedMessage<'_>],
        topic: TopicRef<'_>,
        version: Version,
        user_properties: &[u8],
        first: PacketId,
        out: &mut Vec<u8>,
    ) {
        let ids = first.get()..=u16::MAX;
        let messages = messages.get(..ids.len()).unwrap_or(messages);
        write_each(topic, version, user_properties, messages, ids, out);
    }

    /// The bytes of the packets that were taken, and a version that they are read back in.
    pub(crate) fn taken(&self) -> (&'a [u8], Version) {
        let version = if self.section.is_empty() { Version::V311 } else { Version::V5 };
        (self.buffer.get(..self.used).unwrap_or_default(), version)
    }
}

/// Appends a plain packet for each payload and its identifier of `ids`, as far as the wire can say their size.
fn write_each(
    topic: TopicRef<'_>,
    version: Version,
    user_properties: &[u8],
    messages: &[AckedMessage<'_>],
    mut ids: impl Iterator<Item = u16>,
    out: &mut Vec<u8>,
) {
    // What is the same in each: the topic with its length, room for the identifier, and in 5.0 the properties.
    let mut head = SmallVec::<[u8; 128]>::new();
    head.extend_from_slice(&(topic.as_str().len() as u16).to_be_bytes());
    head.extend_from_slice(topic.as_str().as_bytes());
    head.extend_from_slice(&[0; 2]);
    if version.is_v5() {
        let Some(length) = u32::try_from(user_properties.len()).ok().and_then(VarInt::new) else { return };
        head.var_int(length);
        head.extend_from_slice(user_properties);
    }
    let section = head.len() - 4 - topic.as_str().len();
    // Memory for all at once, and more than they need: each by itself costs as much as to fill it.
    let mut end = out.len();
    out.resize(end + messages.iter().map(|message| 5 + head.len() + message.payload.len()).sum::<usize>(), 0);
    // Everything before the payload.
    let mut front = SmallVec::<[u8; 128]>::new();
    for alike in messages.chunk_by(|one, next| one.payload.len() == next.payload.len()) {
        let payload = alike.first().map_or(0, |message| message.payload.len());
        let Some(remaining) = u32::try_from(head.len() + payload).ok().and_then(VarInt::new) else { break };
        front.clear();
        front.push(PLAIN);
        front.var_int(remaining);
        front.extend_from_slice(&head);
        let begin = end;
        end += alike.len() * (front.len() + payload);
        let payloads = Tails { pieces: alike.iter().map(|message| message.payload), size: payload, skip: 0 };
        few_bytes::join(&front, payloads, out.get_mut(begin..end).unwrap_or_default());
        let mut place = begin + front.len() - section - 2;
        for id in ids.by_ref().take(alike.len()) {
            if let Some(to) = out.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
                *to = id.to_be_bytes();
            }
            place += front.len() + payload;
        }
    }
    out.truncate(end);
}

impl<'a> Iterator for AckedRun<'a> {
    type Item = AckedMessage<'a>;

    #[inline]
    fn next(&mut self) -> Option<AckedMessage<'a>> {
        if self.used >= self.limit.max(1) {
            return None;
        }
        let rest = self.buffer.get(self.used..)?;
        if !few_bytes::begin_with(rest, self.front) {
            // One of another size, and perhaps more like it.
            let (body, size) = crate::run::body(rest, PLAIN)?;
            if size > self.max_packet_size as usize || !few_bytes::begin_with(body, self.head) {
                return None;
            }
            (self.front, self.size) = (rest.get(..size - body.len() + self.head.len())?, size);
        }
        let (id, rest) = rest.get(self.front.len()..self.size)?.split_first_chunk::<2>()?;
        if !few_bytes::begin_with(rest, self.section) {
            return None;
        }
        let message = AckedMessage {
            packet_id: PacketId::new(u16::from_be_bytes(*id))?,
            payload: rest.get(self.section.len()..)?,
        };
        self.used += self.size;
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
                    let topic = TopicRef::new(topic).unwrap();
                    let mut out = b"before".to_vec();
                    for (most, count) in [(3, 3), (2, 1), (9, 9)] {
                        let begin = run.used();
                        let mut ahead = run.clone();
                        let taken: Vec<_> = ahead.by_ref().take(most).collect();
                        run.write_as((&ahead, &taken, count.min(taken.len())), topic, to, said, &mut out);
                        let before = all(from, "a/b", came);
                        let so_far =
                            [3, 4, 5].into_iter().find(|so_far| before[..*so_far].concat().len() == run.used());
                        assert!(
                            run.used() > begin && so_far.is_some_and(|so_far| out[6..] == expected[..so_far].concat())
                        );
                    }
                    assert_eq!(out[6..], expected.concat(), "{from:?} {to:?}");
                    assert_eq!(run.used(), bytes.len());
                    let taken: Vec<_> = AckedRun::first(&bytes, from, u32::MAX, usize::MAX).unwrap().collect();
                    out.clear();
                    AckedRun::write_anew(&taken[1..], topic, to, said, PacketId::new(8).unwrap(), &mut out);
                    assert_eq!(out, expected[1..].concat(), "anew, {from:?} {to:?}");
                    for (packet, payload) in expected.iter().zip(payloads) {
                        assert!(packet.len() <= AckedRun::size_as(topic, said, payload.len()));
                    }
                }
            }
        }
    }

    #[test]
    fn many_are_taken_as_one_after_the_other_is() {
        let lengths = [3, 3, 3, 200, 200, 1, 3, 3, 0, 0, 0, 3];
        for (version, pairs) in [(Version::V311, &b""[..]), (Version::V5, b""), (Version::V5, b"\x26\0\x01k\0\x01v")] {
            let packets = lengths.map(|length| publish(version, "t", 1 + length as u16, pairs, &vec![7; length]));
            let mut bytes = packets.concat();
            let whole = bytes.len();
            bytes.extend(publish(version, "u", 1, pairs, &[7; 3]));
            for limit in [0, 1, packets[0].len(), packets[0].len() + 1, whole - 1, whole, usize::MAX] {
                let run = AckedRun::first(&bytes, version, 150 + packets[3].len() as u32, limit).unwrap();
                for most in 0..lengths.len() + 2 {
                    let (mut one_by_one, mut together) = (run.clone(), run.clone());
                    let expected: Vec<_> = one_by_one.by_ref().take(most).collect();
                    let mut many = AckedMessages::new();
                    together.take_many(most / 3, &mut many);
                    together.take_many(most - most / 3, &mut many);
                    assert_eq!(many[..], expected, "{most} of {limit} bytes");
                    assert_eq!(together.used(), one_by_one.used());
                    assert_eq!(together.next(), one_by_one.next());
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
