//! The fixed header: where a packet ends, and whether it may be that long, before any of its body is looked at.

use crate::reader::Problem;
use crate::{DecodeError, Fault, PacketName, VarInt, Version};

/// The high nibble of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's, and Packet documents them")]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// One whole packet in a buffer, not yet read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which packet.
    pub kind: PacketType,
    /// The low nibble of the first byte.
    pub flags: u8,
    /// Everything after the fixed header.
    pub body: &'a [u8],
    /// The whole packet, fixed header included.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits the first packet off `buffer`. `Ok(None)` means that more bytes are needed; whether the packet may be
    /// as long as it says is decided as soon as its length is known, so no more than `max_packet_size` bytes
    /// (fixed header included) ever need to be gathered.
    ///
    /// # Errors
    /// Packet type 0 or a bad length (malformed), or a packet over `max_packet_size` (too large).
    pub fn split(buffer: &'a [u8], max_packet_size: u32) -> Result<Option<Self>, DecodeError> {
        let Some((&first, rest)) = buffer.split_first() else { return Ok(None) };
        let kind = PacketType::from_nibble(first >> 4).ok_or(RESERVED_TYPE)?;
        let packet = PacketName(Some(kind));
        let split = VarInt::split(rest).map_err(|fault| DecodeError::Malformed { packet, fault })?;
        let Some((remaining, length_size)) = split else { return Ok(None) };
        let header = 1 + length_size;
        // At most 5 + 268,435,455: no overflow on either side.
        let size = remaining.get() + header as u32;
        if size > max_packet_size {
            return Err(DecodeError::TooLarge { packet, size, max: max_packet_size });
        }
        let Some(bytes) = buffer.get(..size as usize) else { return Ok(None) };
        let body = bytes.get(header..).unwrap_or_default();
        Ok(Some(Self { kind, flags: first & 0x0f, body, bytes }))
    }
}

/// Packet type 0, which is reserved (section 2.1.2).
const RESERVED_TYPE: DecodeError =
    DecodeError::Malformed { packet: PacketName(None), fault: Fault::Value { field: "packet type", value: 0 } };

impl PacketType {
    /// The type with this number, or `None` for 0 and for what is no nibble.
    pub(crate) const fn from_nibble(nibble: u8) -> Option<Self> {
        Some(match nibble {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The flags that go with every type but PUBLISH (section 2.1.3).
    pub(crate) const fn fixed_flags(self) -> u8 {
        match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// Refuses other flags than the fixed ones (MQTT-2.1.3-1; MQTT-2.2.2-1 of 3.1.1, MQTT-2.2.2-2 of 3.1.1; for each
    /// packet MQTT-3.6.1-1, MQTT-3.6.1-1 of 3.1.1, MQTT-3.8.1-1, MQTT-3.8.1-1 of 3.1.1, MQTT-3.10.1-1,
    /// MQTT-3.10.1-1 of 3.1.1, MQTT-3.14.1-1, MQTT-3.14.1-1 of 3.1.1, MQTT-3.15.1-1). In 3.1 DUP, QoS and RETAIN exist
    /// on every type, clients set DUP when they repeat themselves, and nothing else in them means anything.
    pub(crate) const fn check_flags(self, flags: u8, version: Version) -> Result<(), Problem> {
        if flags == self.fixed_flags() || matches!(version, Version::V31) {
            Ok(())
        } else {
            Err(Problem::Malformed(Fault::Flags(flags)))
        }
    }
}

impl std::fmt::Display for PacketType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_off_and_what_follows_is_left() {
        let bytes = [0x62, 0x02, 0x00, 0x0a, 0xc0];
        let frame = Frame::split(&bytes, 4).unwrap().unwrap();
        assert_eq!(
            frame,
            Frame { kind: PacketType::Pubrel, flags: 2, body: &[0x00, 0x0a], bytes: &[0x62, 0x02, 0x00, 0x0a] }
        );
    }

    #[test]
    fn the_limit_counts_the_fixed_header_and_is_told_before_the_body_comes() {
        assert_eq!(Frame::split(&[0x30, 0x05], 7), Ok(None));
        let packet = PacketName(Some(PacketType::Publish));
        assert_eq!(Frame::split(&[0x30, 0x05], 6), Err(DecodeError::TooLarge { packet, size: 7, max: 6 }));
        assert_eq!(
            Frame::split(&[0x30, 0xff, 0xff, 0xff, 0x7f], u32::MAX - 1),
            Ok(None),
            "the longest packet of all is still under a limit beyond it"
        );
    }

    #[test]
    fn a_reserved_type_and_a_bad_length_are_told_at_once() {
        let reason =
            |bytes: &[u8]| Frame::split(bytes, 100).map(|frame| frame.is_some()).map_err(|error| error.reason().0);
        assert_eq!(reason(&[0x05]), Err(0x81));
        assert_eq!(reason(&[0x30, 0x80, 0x80, 0x80]), Ok(false));
        assert_eq!(reason(&[0x30, 0x80, 0x80, 0x80, 0x80]), Err(0x81));
        assert_eq!(reason(&[0x30, 0x80, 0x00]), Err(0x81));
    }

    #[test]
    fn the_reserved_flags_are_free_in_3_1_only() {
        assert!(PacketType::Subscribe.check_flags(0b1010, Version::V31).is_ok());
        assert!(PacketType::Subscribe.check_flags(0b0010, Version::V5).is_ok());
        for version in [Version::V311, Version::V5] {
            assert!(PacketType::Subscribe.check_flags(0b1010, version).is_err());
            assert!(PacketType::Pingreq.check_flags(0b0001, version).is_err());
        }
    }
}
