//! Acknowledgements that say nothing but their identifier: four bytes, which is what nearly all of them are.
//!
//! In: bytes that came. Out: the first of them as what it is, without the machinery that reason codes and properties need.
//! Anything else, malformed ones included, is left to [`Packet::decode`](crate::Packet::decode). Without it QoS 1 takes 37 % more
//! instructions and QoS 2 41 % more (docs/hot-path.md).

use crate::{PacketId, PacketType};

/// PUBACK, PUBREC, PUBREL or PUBCOMP with reason code 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainAck {
    /// Which of the four.
    pub kind: PacketType,
    /// What it answers.
    pub packet_id: PacketId,
}

impl PlainAck {
    /// Bytes of each on the wire.
    pub const SIZE: usize = 4;

    /// The one at the beginning of `bytes`, with the fixed-header flags that the standard gives it (MQTT-2.1.3-1,
    /// MQTT-3.6.1-1, MQTT-2.2.2-1 of 3.1.1).
    #[inline]
    #[must_use]
    pub fn first(bytes: &[u8]) -> Option<Self> {
        let (&[head, 2, high, low], _) = bytes.split_first_chunk::<{ Self::SIZE }>()? else { return None };
        let kind = match head {
            0x40 => PacketType::Puback,
            0x50 => PacketType::Pubrec,
            0x62 => PacketType::Pubrel,
            0x70 => PacketType::Pubcomp,
            _ => return None,
        };
        Some(Self { kind, packet_id: PacketId::new(u16::from_be_bytes([high, low]))? })
    }

    /// How many PUBACKs at the beginning of `bytes` answer for `ids`, one after the other.
    #[inline]
    #[must_use]
    pub fn pubacks_in_turn(bytes: &[u8], ids: impl Iterator<Item = u16>) -> usize {
        let is_next = |(packet, id): &(&[u8; Self::SIZE], u16)| {
            let [high, low] = id.to_be_bytes();
            **packet == [0x40, 2, high, low]
        };
        bytes.as_chunks::<{ Self::SIZE }>().0.iter().zip(ids).take_while(is_next).count()
    }

    /// Appends PUBACK for the first `count` of `ids`.
    #[inline]
    pub fn encode_pubacks(count: usize, ids: impl Iterator<Item = PacketId>, out: &mut Vec<u8>) {
        out.reserve(count * Self::SIZE);
        for packet_id in ids.take(count) {
            Self { kind: PacketType::Puback, packet_id }.encode(out);
        }
    }

    /// As it is on the wire: every version writes it the same way.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> [u8; Self::SIZE] {
        let flags = if self.kind == PacketType::Pubrel { 2 } else { 0 };
        let [high, low] = self.packet_id.get().to_be_bytes();
        [(self.kind as u8) << 4 | flags, 2, high, low]
    }

    /// Appends it.
    #[inline]
    pub fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ack, Frame, Packet, ReasonCode, Version};

    const KINDS: [PacketType; 4] = [PacketType::Puback, PacketType::Pubrec, PacketType::Pubrel, PacketType::Pubcomp];

    fn packet(ack: PlainAck) -> Packet<'static> {
        let full = Ack::new(ack.packet_id, ReasonCode::SUCCESS);
        match ack.kind {
            PacketType::Pubrec => Packet::Pubrec(full),
            PacketType::Pubrel => Packet::Pubrel(full),
            PacketType::Pubcomp => Packet::Pubcomp(full),
            _ => Packet::Puback(full),
        }
    }

    #[test]
    fn it_is_written_and_read_as_the_long_way_does() {
        for kind in KINDS {
            for id in [1, 256, 65_535] {
                let ack = PlainAck { kind, packet_id: PacketId::new(id).unwrap() };
                for version in [Version::V31, Version::V311, Version::V5] {
                    let (mut short, mut long) = (Vec::new(), Vec::new());
                    ack.encode(&mut short);
                    packet(ack).encode(version, &mut long).unwrap();
                    assert_eq!(short, long);
                    let frame = Frame::split(&short, u32::MAX).unwrap().unwrap();
                    assert_eq!(Packet::decode(frame, version).unwrap(), packet(ack));
                }
                let mut bytes = Vec::new();
                ack.encode(&mut bytes);
                assert_eq!(PlainAck::first(&bytes), Some(ack));
            }
        }
    }

    #[test]
    fn a_row_ends_where_another_packet_or_identifier_comes() {
        let acks = |kind, ids: &[u16]| {
            let mut bytes = Vec::new();
            ids.iter().for_each(|id| PlainAck { kind, packet_id: PacketId::new(*id).unwrap() }.encode(&mut bytes));
            bytes
        };
        let row = |bytes: &[u8], first, most| PlainAck::pubacks_in_turn(bytes, (first..=u16::MAX).take(most));
        let three = acks(PacketType::Puback, &[255, 256, 257]);
        assert_eq!(
            (row(&three, 255, 9), row(&three, 255, 2), row(&three, 256, 9), row(&three[..11], 255, 9)),
            (3, 2, 0, 2)
        );
        assert_eq!(row(&acks(PacketType::Puback, &[7, 9, 10]), 7, 9), 1);
        assert_eq!(row(&acks(PacketType::Pubrec, &[7]), 7, 9), 0);
        let last = [acks(PacketType::Puback, &[65_534, 65_535]), vec![0x40, 2, 0, 0]].concat();
        assert_eq!(row(&last, 65_534, 9), 2);
    }

    #[test]
    fn whatever_else_comes_is_left_to_the_long_way() {
        for bytes in [
            &[0x40, 2, 0, 0][..], // identifier 0
            &[0x40, 3, 0, 1, 0],  // a reason code
            &[0x41, 2, 0, 1],     // flags
            &[0x60, 2, 0, 1],     // PUBREL without its flag
            &[0x40, 2, 0],        // not whole
            &[0x30, 2, 0, 1],     // PUBLISH
            &[0x90, 2, 0, 1],     // SUBACK
        ] {
            assert_eq!(PlainAck::first(bytes), None, "{bytes:x?}");
        }
    }
}
