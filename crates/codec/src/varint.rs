//! The variable byte integer: one to four bytes, 0 to 268,435,455 (MQTT 5.0 section 1.5.5).

/// A number that a variable byte integer can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarInt(u32);

impl VarInt {
    /// 268,435,455.
    pub const MAX: Self = Self(0x0fff_ffff);

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
}
