//! The variable byte integer: one to four bytes, 0 to 268,435,455 (MQTT 5.0 section 1.5.5).

use crate::Fault;

/// A number that a variable byte integer can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarInt(u32);

impl VarInt {
    /// 268,435,455.
    pub const MAX: Self = Self(0x0fff_ffff);

    /// The most bytes that it takes on the wire.
    const MAX_SIZE: usize = 4;

    /// The number, or `None` when it is over [`VarInt::MAX`].
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX.0 { Some(Self(value)) } else { None }
    }

    /// The value.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Bytes on the wire, 1 to 4.
    #[must_use]
    pub const fn size(self) -> usize {
        match self.0 {
            0..=0x7f => 1,
            0x80..=0x3fff => 2,
            0x4000..=0x1f_ffff => 3,
            _ => 4,
        }
    }

    /// The number at the front of `bytes` and how many bytes it takes; `Ok(None)` when `bytes` ends inside it.
    ///
    /// # Errors
    /// Over four bytes (told at the fourth), or not the shortest form (MQTT-1.5.5-1).
    pub(crate) fn split(bytes: &[u8]) -> Result<Option<(Self, usize)>, Fault> {
        // The usual case, and nearly every property length.
        if let Some(&first @ ..0x80) = bytes.first() {
            return Ok(Some((Self(first.into()), 1)));
        }
        let mut value = 0_u32;
        for (index, &byte) in bytes.iter().take(Self::MAX_SIZE).enumerate() {
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                // A last byte of zero adds nothing, so a shorter form exists.
                return if byte == 0 && index > 0 { Err(Fault::VarInt) } else { Ok(Some((Self(value), index + 1))) };
            }
        }
        if bytes.len() >= Self::MAX_SIZE { Err(Fault::VarInt) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borders_of_the_standards_table_are_read_as_they_are_sized() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0x80, 0x01], 128),
            (&[0xff, 0x7f], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xff, 0xff, 0x7f], 2_097_151),
            (&[0x80, 0x80, 0x80, 0x01], 2_097_152),
            (&[0xff, 0xff, 0xff, 0x7f], 268_435_455),
        ] {
            let expected = VarInt::new(value).unwrap();
            assert_eq!(VarInt::split(bytes), Ok(Some((expected, bytes.len()))));
            assert_eq!(expected.size(), bytes.len());
            for end in 0..bytes.len() {
                assert_eq!(VarInt::split(&bytes[..end]), Ok(None));
            }
        }
    }

    #[test]
    fn a_longer_form_than_needed_is_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x00]] {
            assert_eq!(VarInt::split(bytes), Err(Fault::VarInt), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_fifth_byte_is_refused_before_it_comes() {
        assert_eq!(VarInt::split(&[0x80, 0x80, 0x80]), Ok(None));
        assert_eq!(VarInt::split(&[0x80, 0x80, 0x80, 0x80]), Err(Fault::VarInt));
    }

    #[test]
    fn what_does_not_fit_is_not_a_var_int() {
        assert_eq!(VarInt::new(268_435_456), None);
        assert_eq!(VarInt::new(268_435_455), Some(VarInt::MAX));
    }
}
