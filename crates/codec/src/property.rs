//! The one property table: identifier, type, where it is allowed, whether it may repeat. One reader, one writer.

use smallvec::SmallVec;

use crate::VarInt;

/// Subscription Identifiers of a PUBLISH, in wire order.
pub type SubscriptionIds = SmallVec<[VarInt; 2]>;

/// The User Properties of a packet, in wire order, still encoded: a checked stretch of property bytes in which
/// everything that is not a User Property is skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserProperties<'a> {
    section: &'a [u8],
}

impl<'a> UserProperties<'a> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Name and value of each.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let _ = self.section;
        std::iter::empty()
    }

    /// Only the User Properties, encoded, as [`UserProperties::from_encoded`] takes them.
    #[must_use]
    pub fn to_encoded(self) -> Vec<u8> {
        todo!()
    }

    /// Properties that [`UserProperties::to_encoded`] or [`UserProperties::push`] made. Bytes of any other origin
    /// show as no properties from the first that is not a User Property.
    #[must_use]
    pub const fn from_encoded(bytes: &'a [u8]) -> Self {
        Self { section: bytes }
    }

    /// Appends one encoded User Property to `encoded`; `false`, and nothing appended, when name or value is over
    /// 65,535 bytes or holds U+0000.
    pub fn push(_encoded: &mut Vec<u8>, _name: &str, _value: &str) -> bool {
        todo!()
    }
}

/// Equal when the pairs are equal and in the same order.
impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}
