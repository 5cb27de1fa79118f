//! Runs: PUBLISH packets behind each other that say nothing but one topic, the same User Properties, and their payloads.
//!
//! In: bytes that came. Out: how far such a run goes, so that it can be passed on as one stretch of bytes, as it is or
//! with another head for the other layout or another topic. A message that needs a second look (QoS 1 or 2, RETAIN, DUP,
//! any other property, another topic) ends the run and is read as any other packet. User Properties are in because a
//! bridge puts one on every message that crosses it.

use crate::few_bytes::{self, Tails};
use crate::writer::Out;
use crate::{TopicRef, UserProperties, VarInt, Version};

/// PUBLISH with QoS 0 and neither DUP nor RETAIN.
const PLAIN: u8 = 0x30;

/// Consecutive plain packets of one topic. In 5.0 they have the same User Properties, mostly none.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// All of them, as they came.
    pub bytes: &'a [u8],
    /// How many, at least one.
    pub count: u32,
    /// The topic of each, checked.
    pub topic: TopicRef<'a>,
    /// Bytes of the largest packet.
    pub largest: usize,
    /// Bytes of all payloads together.
    pub payload: usize,
    /// Encoded, as [`UserProperties::from_encoded`] takes them: the same in each.
    pub user_properties: &'a [u8],
    is_v5: bool,
    /// Topic with its length, and in 5.0 the property section: the same in each.
    head: &'a [u8],
}

impl<'a> Run<'a> {
    /// Whether a run could begin here: the quick way to know that none does.
    #[must_use]
    #[inline]
    pub fn may_begin(buffer: &[u8]) -> bool {
        buffer.first() == Some(&PLAIN)
    }

    /// The run that is the first packet of `buffer` alone; `None` when that is not whole, larger than `max_packet_size`,
    /// not plain, or malformed.
    #[must_use]
    pub fn first(buffer: &'a [u8], version: Version, max_packet_size: u32) -> Option<Self> {
        let (body, size) = plain(buffer)?;
        if size > max_packet_size as usize {
            return None;
        }
        let Front { topic, head, section, user_properties } = front(body, version, false)?;
        let (is_v5, head) = (version.is_v5(), body.get(..head.len() + section.len())?);
        let payload = body.len() - head.len();
        Some(Self { bytes: buffer.get(..size)?, count: 1, topic, largest: size, payload, user_properties, is_v5, head })
    }

    /// The same run with as many of the packets behind it in `buffer`, of which it is the beginning, as belong to it and
    /// begin before `limit` bytes.
    #[must_use]
    pub fn extend(mut self, buffer: &'a [u8], limit: usize, max_packet_size: u32) -> Self {
        if self.bytes.len() == buffer.len() {
            return self; // A message that comes alone.
        }
        let Some((body, mut size)) = plain(self.bytes) else { return self };
        let mut end = self.bytes.len();
        // The last packet as far as its payload, which the next one mostly has too.
        let mut front = self.front(self.bytes, body, size);
        loop {
            let begin = end;
            while end < limit && buffer.get(end..end + size).is_some_and(|next| few_bytes::begin_with(next, front)) {
                end += size;
            }
            let count = (end - begin) / size;
            self.count += count as u32;
            self.payload += count * (size - front.len());
            let Some((rest, (body, next))) = buffer.get(end..).and_then(|rest| Some((rest, plain(rest)?))) else {
                break;
            };
            if end >= limit || next > max_packet_size as usize || !few_bytes::begin_with(body, self.head) {
                break;
            }
            // One of another size, and perhaps more like it.
            (size, front) = (next, self.front(rest, body, next));
            self.largest = self.largest.max(size);
        }
        self.bytes = buffer.get(..end).unwrap_or(self.bytes);
        self
    }

    /// What the packet of `size` bytes and this body has before its payload.
    fn front(&self, bytes: &'a [u8], body: &[u8], size: usize) -> &'a [u8] {
        bytes.get(..size - body.len() + self.head.len()).unwrap_or_default()
    }

    /// The payloads, in order.
    pub fn payloads(self) -> impl Iterator<Item = &'a [u8]> {
        self.stretches().flat_map(|stretch| {
            stretch.packets.chunks_exact(stretch.size).filter_map(move |one| one.get(stretch.front..))
        })
    }

    /// The packets, in order, all that follow each other with one size at a time. Packets that are all as large as the largest, as
    /// they mostly are, need not be looked at again.
    fn stretches(self) -> impl Iterator<Item = Stretch<'a>> {
        let is_even = self.largest * self.count as usize == self.bytes.len();
        let mut rest = self.bytes;
        let mut next = plain(rest);
        std::iter::from_fn(move || {
            let (body, size) = next?;
            let mut end = if is_even { rest.len() } else { size };
            next = rest.get(end..).and_then(plain);
            while next.is_some_and(|(_, next)| next == size) {
                end += size;
                next = rest.get(end..).and_then(plain);
            }
            let (packets, behind) = rest.split_at_checked(end)?;
            rest = behind;
            Some(Stretch { packets, size, front: size - body.len() + self.head.len() })
        })
    }

    /// Whether `version` has these packets in the same layout.
    #[must_use]
    pub const fn is_as_in(&self, version: Version) -> bool {
        self.is_v5 == version.is_v5()
    }

    /// Bytes that the largest packet has when [`Run::write_as`] writes it, at most.
    #[must_use]
    pub fn largest_as(&self, topic: TopicRef<'_>, user_properties: &[u8]) -> usize {
        // Of the old packet its head counts and not the lengths before it; then the first byte and both new lengths.
        self.largest - self.head.len() + 2 + topic.as_str().len() + user_properties.len() + 8
    }

    /// Appends the packets under another topic, in the layout of `version` and there with these User Properties, encoded.
    pub fn write_as(&self, topic: TopicRef<'_>, version: Version, user_properties: &[u8], out: &mut Vec<u8>) {
        let are_same = self.user_properties == user_properties || !self.is_v5;
        if self.topic == topic && self.is_as_in(version) && are_same {
            return out.extend_from_slice(self.bytes);
        }
        let mut head = Vec::with_capacity(6 + topic.as_str().len() + user_properties.len());
        head.extend_from_slice(&(topic.as_str().len() as u16).to_be_bytes());
        head.extend_from_slice(topic.as_str().as_bytes());
        if version.is_v5() {
            // More than the wire can say was never read from it.
            let Some(length) = u32::try_from(user_properties.len()).ok().and_then(VarInt::new) else { return };
            head.var_int(length);
            head.extend_from_slice(user_properties);
        }
        out.reserve(self.payload + (5 + head.len()) * self.count as usize);
        // Everything before the payload, which is the same for payloads of one size.
        let mut front = Vec::with_capacity(5 + head.len());
        for stretch in self.stretches() {
            let payload = stretch.size - stretch.front;
            // It came in a packet of nearly that length, so it has one that the wire can say; if it were not so, the packets
            // would be left out.
            let remaining = u32::try_from(head.len() + payload).ok().and_then(VarInt::new);
            let Some(remaining) = remaining else { continue };
            front.clear();
            front.push(PLAIN);
            front.var_int(remaining);
            front.extend_from_slice(&head);
            let (begin, packets) = (out.len(), stretch.packets.chunks_exact(stretch.size));
            out.resize(begin + packets.len() * (front.len() + payload), 0);
            let payloads = Tails { pieces: packets, size: stretch.size, skip: stretch.front };
            few_bytes::join(&front, payloads, out.get_mut(begin..).unwrap_or_default());
        }
    }
}

/// Packets of one size behind each other.
struct Stretch<'a> {
    packets: &'a [u8],
    /// Bytes of each.
    size: usize,
    /// Bytes of each before its payload.
    front: usize,
}

/// What plain packets of one topic have in common.
pub(crate) struct Front<'a> {
    /// Checked.
    pub(crate) topic: TopicRef<'a>,
    /// The topic with its length.
    pub(crate) head: &'a [u8],
    /// In 5.0 the property section; empty in 3.x.
    pub(crate) section: &'a [u8],
    /// All that is in it.
    pub(crate) user_properties: &'a [u8],
}

/// Of the PUBLISH with this body; `None` when it has other properties or is malformed.
#[inline]
pub(crate) fn front(body: &[u8], version: Version, has_id: bool) -> Option<Front<'_>> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    let topic = std::str::from_utf8(rest.get(..length)?).ok().and_then(|text| TopicRef::new(text).ok())?;
    let (mut section, mut user_properties) = (&[][..], &[][..]);
    if version.is_v5() {
        let behind = rest.get(length + 2 * usize::from(has_id)..)?;
        let (properties, own) = VarInt::split(behind).ok()??;
        section = behind.get(..own + properties.get() as usize)?;
        user_properties = section.get(own..)?;
        if !UserProperties::from_encoded(user_properties).is_all_of_it() {
            return None;
        }
    }
    Some(Front { topic, head: body.get(..2 + length)?, section, user_properties })
}

/// The body of the plain packet at the beginning of `buffer`, and the bytes of the whole packet.
#[inline]
fn plain(buffer: &[u8]) -> Option<(&[u8], usize)> {
    body(buffer, PLAIN)
}

/// The body of the packet at the beginning of `buffer`, if that begins with `plain`, and the bytes of the whole packet.
#[inline]
pub(crate) fn body(buffer: &[u8], plain: u8) -> Option<(&[u8], usize)> {
    let (&first, rest) = buffer.split_first()?;
    if first != plain {
        return None;
    }
    let (remaining, length) = VarInt::split(rest).ok()??;
    let size = 1 + length + remaining.get() as usize;
    Some((buffer.get(1 + length..size)?, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frame, Packet};

    fn publish(version: Version, topic: &str, payload: &[u8]) -> Vec<u8> {
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend_from_slice(topic.as_bytes());
        if version.is_v5() {
            body.push(0);
        }
        body.extend_from_slice(payload);
        let mut bytes = vec![PLAIN];
        bytes.var_int(VarInt::new(body.len() as u32).unwrap());
        bytes.extend_from_slice(&body);
        bytes
    }

    fn whole<'a>(bytes: &'a [u8], version: Version) -> Option<Run<'a>> {
        Run::first(bytes, version, u32::MAX).map(|run| run.extend(bytes, usize::MAX, u32::MAX))
    }

    #[test]
    fn a_run_ends_where_something_else_begins() {
        for version in [Version::V31, Version::V311, Version::V5] {
            let mut bytes = publish(version, "t", b"1");
            bytes.extend(publish(version, "t", b""));
            bytes.extend(publish(version, "t", &[7; 200]));
            let length = bytes.len();
            for tail in [publish(version, "u", b"1"), publish(version, "tt", b"1"), vec![0xC0, 0], vec![0x30, 9, 0]] {
                let mut bytes = bytes.clone();
                bytes.extend(tail);
                let run = whole(&bytes, version).unwrap();
                assert_eq!((run.count, run.bytes.len(), run.payload), (3, length, 201));
                assert_eq!(run.payloads().map(<[u8]>::len).collect::<Vec<_>>(), [1, 0, 200]);
                assert_eq!(run.topic.as_str(), "t");
            }
        }
    }

    #[test]
    fn what_needs_a_second_look_is_no_run() {
        let v311 = publish(Version::V311, "t", b"1");
        for (at, byte) in [(0, 0x31), (0, 0x32), (0, 0x38), (4, b'#'), (4, 0)] {
            let mut other = v311.clone();
            other[at] = byte;
            assert!(whole(&other, Version::V311).is_none(), "{other:02x?}");
        }
        assert!(whole(&v311[..5], Version::V311).is_none());
        assert!(Run::first(&v311, Version::V311, 5).is_none());
        // A property that is no User Property, alone and behind one, one cut short, and an empty topic with an alias.
        assert!(whole(b"\x30\x06\0\x01t\x02\x01\0", Version::V5).is_none());
        assert!(whole(b"\x30\x0d\0\x01t\x09\x26\0\x01k\0\x01v\x01\0", Version::V5).is_none());
        assert!(whole(b"\x30\x0a\0\x01t\x06\x26\0\x01k\0\x01", Version::V5).is_none());
        assert!(whole(b"\x30\x06\0\0\x03\x23\0\x01", Version::V5).is_none());
        assert!(whole(b"\x30\x02\0\0", Version::V311).is_none());
    }

    #[test]
    fn user_properties_belong_to_a_run_and_can_be_exchanged() {
        let bytes = b"\x30\x0c\0\x01t\x07\x26\0\x01k\0\x01v1".repeat(2);
        let all = [&bytes[..], b"\x30\x0c\0\x01t\x07\x26\0\x01k\0\x01w1"].concat();
        let run = whole(&all, Version::V5).unwrap();
        assert_eq!((run.count, run.payload, run.user_properties), (2, 2, &b"\x26\0\x01k\0\x01v"[..]));
        let mut out = Vec::new();
        run.write_as(run.topic, Version::V311, &[], &mut out);
        assert_eq!(out, b"\x30\x04\0\x01t1".repeat(2));
        out.clear();
        run.write_as(TopicRef::new("a/t").unwrap(), Version::V5, b"\x26\0\0\0\x01x", &mut out);
        assert_eq!(out, b"\x30\x0d\0\x03a/t\x06\x26\0\0\0\x01x1".repeat(2));
        assert!(run.largest_as(TopicRef::new("a/t").unwrap(), b"\x26\0\0\0\x01x") >= out.len() / 2);
    }

    #[test]
    fn the_other_layout_says_the_same() {
        for (from, to) in [(Version::V311, Version::V5), (Version::V5, Version::V31)] {
            let mut bytes = Vec::new();
            // 123 and 124 bytes are where the remaining length takes another byte.
            for size in [0, 1, 122, 123, 124, 125, 16_378, 16_379, 16_380, 16_381] {
                bytes.extend(publish(from, "t", &vec![7; size]));
            }
            let run = whole(&bytes, from).unwrap();
            let mut other = Vec::new();
            run.write_as(run.topic, to, &[], &mut other);
            let mut payloads = run.payloads();
            let mut rest = other.as_slice();
            while let Some(frame) = Frame::split(rest, run.largest_as(run.topic, &[]) as u32).unwrap() {
                let Ok(Packet::Publish(publish)) = Packet::decode(frame, to) else { panic!("no PUBLISH") };
                assert_eq!(Some(publish.payload), payloads.next());
                assert_eq!(publish.topic.map(TopicRef::as_str), Some("t"));
                rest = &rest[frame.bytes.len()..];
            }
            assert!(rest.is_empty() && payloads.next().is_none());
        }
    }
}
