//! The one property table: identifier, type, where it is allowed, where it may repeat. One reader, one writer.
//!
//! In: the property section of a 5.0 packet. Out: typed properties in wire order, checked against the table; or such
//! properties as bytes. User Properties stay encoded, and nobody but this file knows an identifier.

use std::num::{NonZeroU16, NonZeroU32};

use memchr::memchr;
use smallvec::SmallVec;

use crate::reader::{Problem, Reader};
use crate::writer::{Count, Out};
use crate::{EncodeError, Fault, QoS, TopicRef, VarInt};

/// Subscription Identifiers of a PUBLISH, in wire order.
pub type SubscriptionIds = SmallVec<[VarInt; 2]>;

/// Where a property section stands. The four acknowledgements are one place: they carry the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u16);

impl Place {
    pub(crate) const CONNECT: Self = Self(1);
    pub(crate) const WILL: Self = Self(1 << 1);
    pub(crate) const CONNACK: Self = Self(1 << 2);
    pub(crate) const PUBLISH: Self = Self(1 << 3);
    pub(crate) const ACK: Self = Self(1 << 4);
    pub(crate) const SUBSCRIBE: Self = Self(1 << 5);
    pub(crate) const SUBACK: Self = Self(1 << 6);
    pub(crate) const UNSUBSCRIBE: Self = Self(1 << 7);
    pub(crate) const UNSUBACK: Self = Self(1 << 8);
    pub(crate) const DISCONNECT: Self = Self(1 << 9);
    pub(crate) const AUTH: Self = Self(1 << 10);
    const NOWHERE: Self = Self(0);
    const EVERYWHERE: Self = Self(0x07ff);

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// The rows that do not depend on the type.
struct Entry {
    name: &'static str,
    allowed: Place,
    repeats: Place,
}

/// From one row per property: the enum, the table, the reader and the writer.
macro_rules! property_table {
    ($($id:literal $variant:ident($type:ty) $wire:ident, $name:literal, in $($place:ident)|+, repeats $($repeat:ident)|+;)*) => {
        /// A property with its value, as section 2.2.2.2 types it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Property<'a> {
            $($variant($type),)*
        }

        const fn entry(id: u32) -> Option<Entry> {
            match id {
                $($id => Some(Entry {
                    name: $name,
                    allowed: Place::NOWHERE$(.or(Place::$place))+,
                    repeats: Place::NOWHERE$(.or(Place::$repeat))+,
                }),)*
                _ => None,
            }
        }

        /// Reads the value of property `id`.
        fn read_value<'a>(id: u32, reader: &mut Reader<'a>) -> Result<Property<'a>, Problem> {
            match id {
                $($id => wire::$wire($name, reader).map(Property::$variant),)*
                _ => Err(Problem::Malformed(Fault::UnknownProperty(id))),
            }
        }

        /// Appends one property.
        pub(crate) fn write_property(property: Property<'_>, out: &mut impl Out) -> Result<(), EncodeError> {
            match property {
                $(Property::$variant(value) => {
                    out.u8($id);
                    Value::write(value, $name, out)
                })*
            }
        }
    };
}

property_table! {
    0x01 PayloadFormat(bool) flag, "Payload Format Indicator", in PUBLISH | WILL, repeats NOWHERE;
    0x02 MessageExpiry(u32) long, "Message Expiry Interval", in PUBLISH | WILL, repeats NOWHERE;
    0x03 ContentType(&'a str) text, "Content Type", in PUBLISH | WILL, repeats NOWHERE;
    0x08 ResponseTopic(TopicRef<'a>) topic, "Response Topic", in PUBLISH | WILL, repeats NOWHERE;
    0x09 CorrelationData(&'a [u8]) binary, "Correlation Data", in PUBLISH | WILL, repeats NOWHERE;
    0x0b SubscriptionId(VarInt) identifier, "Subscription Identifier", in PUBLISH | SUBSCRIBE, repeats PUBLISH;
    0x11 SessionExpiry(u32) long, "Session Expiry Interval", in CONNECT | CONNACK | DISCONNECT, repeats NOWHERE;
    0x12 AssignedClientId(&'a str) text, "Assigned Client Identifier", in CONNACK, repeats NOWHERE;
    0x13 ServerKeepAlive(u16) short, "Server Keep Alive", in CONNACK, repeats NOWHERE;
    0x15 AuthMethod(&'a str) text, "Authentication Method", in CONNECT | CONNACK | AUTH, repeats NOWHERE;
    0x16 AuthData(&'a [u8]) binary, "Authentication Data", in CONNECT | CONNACK | AUTH, repeats NOWHERE;
    0x17 RequestProblemInformation(bool) flag, "Request Problem Information", in CONNECT, repeats NOWHERE;
    0x18 WillDelay(u32) long, "Will Delay Interval", in WILL, repeats NOWHERE;
    0x19 RequestResponseInformation(bool) flag, "Request Response Information", in CONNECT, repeats NOWHERE;
    0x1a ResponseInformation(&'a str) text, "Response Information", in CONNACK, repeats NOWHERE;
    0x1c ServerReference(&'a str) text, "Server Reference", in CONNACK | DISCONNECT, repeats NOWHERE;
    0x1f ReasonString(&'a str) text, "Reason String",
        in CONNACK | ACK | SUBACK | UNSUBACK | DISCONNECT | AUTH, repeats NOWHERE;
    0x21 ReceiveMaximum(NonZeroU16) count, "Receive Maximum", in CONNECT | CONNACK, repeats NOWHERE;
    0x22 TopicAliasMaximum(u16) short, "Topic Alias Maximum", in CONNECT | CONNACK, repeats NOWHERE;
    0x23 TopicAlias(NonZeroU16) alias, "Topic Alias", in PUBLISH, repeats NOWHERE;
    0x24 MaximumQos(QoS) low_qos, "Maximum QoS", in CONNACK, repeats NOWHERE;
    0x25 RetainAvailable(bool) flag, "Retain Available", in CONNACK, repeats NOWHERE;
    0x26 User((&'a str, &'a str)) pair, "User Property", in EVERYWHERE, repeats EVERYWHERE;
    0x27 MaximumPacketSize(NonZeroU32) size, "Maximum Packet Size", in CONNECT | CONNACK, repeats NOWHERE;
    0x28 WildcardSubscriptionAvailable(bool) flag, "Wildcard Subscription Available", in CONNACK, repeats NOWHERE;
    0x29 SubscriptionIdentifiersAvailable(bool) flag, "Subscription Identifiers Available",
        in CONNACK, repeats NOWHERE;
    0x2a SharedSubscriptionAvailable(bool) flag, "Shared Subscription Available", in CONNACK, repeats NOWHERE;
}

/// How each type of the table is read, and which values it has.
mod wire {
    use super::{Fault, NonZeroU16, NonZeroU32, Problem, QoS, Reader, TopicRef, VarInt};

    type Field = &'static str;

    /// A value that the type can carry and the property can not is a protocol error.
    fn forbidden(field: Field, value: u32) -> Problem {
        Problem::Protocol(Fault::Value { field, value })
    }

    /// One byte, 0 or 1.
    pub(super) fn flag(field: Field, reader: &mut Reader<'_>) -> Result<bool, Problem> {
        match reader.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(forbidden(field, other.into())),
        }
    }

    /// One byte, 0 or 1: QoS 2 is said by absence (section 3.2.2.3.4).
    pub(super) fn low_qos(field: Field, reader: &mut Reader<'_>) -> Result<QoS, Problem> {
        Ok(if flag(field, reader)? { QoS::AtLeastOnce } else { QoS::AtMostOnce })
    }

    pub(super) fn short(field: Field, reader: &mut Reader<'_>) -> Result<u16, Problem> {
        reader.u16(field)
    }

    pub(super) fn long(field: Field, reader: &mut Reader<'_>) -> Result<u32, Problem> {
        reader.u32(field)
    }

    /// Two bytes, not zero.
    pub(super) fn count(field: Field, reader: &mut Reader<'_>) -> Result<NonZeroU16, Problem> {
        NonZeroU16::new(reader.u16(field)?).ok_or(forbidden(field, 0))
    }

    /// Four bytes, not zero.
    pub(super) fn size(field: Field, reader: &mut Reader<'_>) -> Result<NonZeroU32, Problem> {
        NonZeroU32::new(reader.u32(field)?).ok_or(forbidden(field, 0))
    }

    /// Two bytes, not zero, with a reason code of its own (MQTT-3.3.2-8).
    pub(super) fn alias(field: Field, reader: &mut Reader<'_>) -> Result<NonZeroU16, Problem> {
        NonZeroU16::new(reader.u16(field)?).ok_or(Problem::Protocol(Fault::TopicAlias))
    }

    /// A variable byte integer, not zero (section 3.8.2.1.2).
    pub(super) fn identifier(field: Field, reader: &mut Reader<'_>) -> Result<VarInt, Problem> {
        let value = reader.var_int(field)?;
        if value.get() == 0 { Err(forbidden(field, 0)) } else { Ok(value) }
    }

    pub(super) fn text<'a>(field: Field, reader: &mut Reader<'a>) -> Result<&'a str, Problem> {
        reader.text(field)
    }

    pub(super) fn binary<'a>(field: Field, reader: &mut Reader<'a>) -> Result<&'a [u8], Problem> {
        reader.binary(field)
    }

    /// A topic name (MQTT-3.3.2-14). That it is none is a plain protocol error: reason 0x90 would be taken for the
    /// topic that was published to.
    pub(super) fn topic<'a>(field: Field, reader: &mut Reader<'a>) -> Result<TopicRef<'a>, Problem> {
        reader.topic(field).map_err(|problem| match problem {
            Problem::Protocol(_) => Problem::rule("a Response Topic has at least one character and no wildcard"),
            Problem::Malformed(_) => problem,
        })
    }

    /// Two strings (MQTT-1.5.7-1).
    pub(super) fn pair<'a>(field: Field, reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), Problem> {
        Ok((reader.text(field)?, reader.text(field)?))
    }
}

/// A type of the table, as it is written.
trait Value {
    fn write(self, field: &'static str, out: &mut impl Out) -> Result<(), EncodeError>;
}

/// Values that need no check, each with the call that appends it.
macro_rules! plain_values {
    ($($type:ty: |$value:ident, $out:ident| $write:expr;)*) => {
        $(impl Value for $type {
            fn write(self, _field: &'static str, $out: &mut impl Out) -> Result<(), EncodeError> {
                let $value = self;
                $write;
                Ok(())
            }
        })*
    };
}

plain_values! {
    bool: |value, out| out.u8(value.into());
    u16: |value, out| out.u16(value);
    u32: |value, out| out.u32(value);
    NonZeroU16: |value, out| out.u16(value.get());
    NonZeroU32: |value, out| out.u32(value.get());
}

/// Maximum QoS is the only one, and 2 is said by absence (section 3.2.2.3.4).
impl Value for QoS {
    fn write(self, field: &'static str, out: &mut impl Out) -> Result<(), EncodeError> {
        if self == Self::ExactlyOnce {
            return Err(EncodeError::Value { field, value: self.bits().into() });
        }
        out.u8(self.bits());
        Ok(())
    }
}

/// Subscription Identifier is the only one, and 0 is none (section 3.8.2.1.2).
impl Value for VarInt {
    fn write(self, field: &'static str, out: &mut impl Out) -> Result<(), EncodeError> {
        if self.get() == 0 {
            return Err(EncodeError::Value { field, value: 0 });
        }
        out.var_int(self);
        Ok(())
    }
}

impl Value for &str {
    fn write(self, field: &'static str, out: &mut impl Out) -> Result<(), EncodeError> {
        out.text(field, self)
    }
}

impl Value for &[u8] {
    fn write(self, field: &'static str, out: &mut impl Out) -> Result<(), EncodeError> {
        out.binary(field, self)
    }
}

impl Value for TopicRef<'_> {
    fn write(self, field: &'static str, out: &mut impl Out) -> Result<(), EncodeError> {
        out.binary(field, self.as_str().as_bytes())
    }
}

impl Value for (&str, &str) {
    fn write(self, field: &'static str, out: &mut impl Out) -> Result<(), EncodeError> {
        out.text(field, self.0)?;
        out.text(field, self.1)
    }
}

/// Reads a property section: its length, then what the table allows in its place.
pub(crate) struct Section<'a> {
    place: Place,
    /// The whole section, to cut the User Properties out of.
    bytes: &'a [u8],
    reader: Reader<'a>,
    /// One bit per identifier: every identifier of the table is below 64.
    seen: u64,
    /// Where in `bytes` the first User Property begins and the last one ends.
    users: Option<(usize, usize)>,
    /// Bytes of all of them.
    user_bytes: usize,
}

impl<'a> Section<'a> {
    /// Takes the length and the section off `reader`.
    pub(crate) fn open(place: Place, reader: &mut Reader<'a>) -> Result<Self, Problem> {
        let size = reader.var_int("Property Length")?;
        let bytes = reader.bytes("the properties", size.get() as usize)?;
        Ok(Self { place, bytes, reader: Reader::new(bytes), seen: 0, users: None, user_bytes: 0 })
    }

    /// Whether nothing is left of it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// The next property that is not a User Property. Whatever [`Place`] does not allow never comes out.
    pub(crate) fn next(&mut self) -> Result<Option<Property<'a>>, Problem> {
        while !self.reader.is_empty() {
            let start = self.position();
            let id = self.reader.var_int("a property identifier")?.get();
            // Section 2.2.2.2: an identifier that does not belong here makes the packet malformed, one that comes
            // again is a protocol error.
            let Some(Entry { name, allowed, repeats }) = entry(id) else {
                return Err(Problem::Malformed(Fault::UnknownProperty(id)));
            };
            if !allowed.overlaps(self.place) {
                return Err(Problem::Malformed(Fault::MisplacedProperty(name)));
            }
            if !repeats.overlaps(self.place) && self.seen & (1_u64 << id) != 0 {
                return Err(Problem::Protocol(Fault::RepeatedProperty(name)));
            }
            self.seen |= 1_u64 << id;
            match read_value(id, &mut self.reader)? {
                Property::User(_) => {
                    let first = self.users.map_or(start, |(first, _)| first);
                    self.users = Some((first, self.position()));
                    self.user_bytes += self.position() - start;
                }
                other => return Ok(Some(other)),
            }
        }
        Ok(None)
    }

    /// The User Properties that [`Section::next`] passed.
    pub(crate) fn user_properties(&self) -> UserProperties<'a> {
        let section = self.users.and_then(|(first, end)| self.bytes.get(first..end)).unwrap_or_default();
        UserProperties { section, is_pure: self.user_bytes == section.len() }
    }

    fn position(&self) -> usize {
        self.bytes.len() - self.reader.left()
    }
}

/// What a packet has to say in its property section.
pub(crate) trait Properties {
    /// Appends every property that is present.
    fn write<O: Out>(&self, out: &mut O) -> Result<(), EncodeError>;
}

/// Appends a property section: its length, 0 when there is none (MQTT-2.2.2-1), then the properties.
pub(crate) fn write_section<O: Out>(properties: &impl Properties, out: &mut O) -> Result<(), EncodeError> {
    let size = section_size(properties)?;
    let length = u32::try_from(size).ok().and_then(VarInt::new).ok_or(EncodeError::PacketTooLong(size))?;
    out.var_int(length);
    if size == 0 || out.skip(size) { Ok(()) } else { properties.write(out) }
}

/// Appends a Topic Alias, which takes [`ALIAS_SIZE`] bytes.
pub(crate) fn write_alias(alias: NonZeroU16, out: &mut Vec<u8>) {
    out.u8(0x23);
    out.u16(alias.get());
}

/// Bytes of a Topic Alias.
pub(crate) const ALIAS_SIZE: usize = 3;

/// Bytes of the properties, their length not included; 0 when there is nothing to say.
pub(crate) fn section_size(properties: &impl Properties) -> Result<usize, EncodeError> {
    let mut count = Count::default();
    properties.write(&mut count)?;
    Ok(count.0)
}

/// Appends `value` as the property that `property` makes of it, when there is one.
pub(crate) fn write_option<'a, T>(
    value: Option<T>,
    property: impl FnOnce(T) -> Property<'a>,
    out: &mut impl Out,
) -> Result<(), EncodeError> {
    value.map_or(Ok(()), |value| write_property(property(value), out))
}

/// The User Properties of a packet, in wire order (MQTT-3.3.2-18), still encoded: a checked stretch of property bytes in which
/// everything that is not a User Property is skipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserProperties<'a> {
    section: &'a [u8],
    /// Known to be User Properties and nothing else, so that they are written as they stand.
    is_pure: bool,
}

impl<'a> UserProperties<'a> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.section.is_empty() || !self.is_pure && self.iter().next().is_none()
    }

    /// Name and value of each.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.entries().map(|(pair, _)| pair)
    }

    /// Each, and the bytes that encode it, identifier included. Everything is checked again, because the bytes may come
    /// from a disk; the first that does not pass is the end.
    fn entries(self) -> impl Iterator<Item = ((&'a str, &'a str), &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.section);
        std::iter::from_fn(move || {
            while !reader.is_empty() {
                let start = reader.remainder();
                let id = reader.var_int("").ok()?.get();
                if let Property::User(pair) = read_value(id, &mut reader).ok()? {
                    return Some((pair, start.get(..start.len() - reader.left())?));
                }
            }
            None
        })
    }

    /// Bytes that they take on the wire, at most.
    pub(crate) const fn len_bound(self) -> usize {
        self.section.len()
    }

    /// Whether there is nothing else in the bytes that it was made of.
    pub(crate) fn is_all_of_it(self) -> bool {
        self.is_pure
            || self.section.is_empty()
            || self.entries().map(|(_, encoded)| encoded.len()).sum::<usize>() == self.section.len()
    }

    /// Whether [`UserProperties::to_encoded`] would make `bytes` of it; may be `false` where it would.
    pub(crate) fn is_encoded_as(self, bytes: &[u8]) -> bool {
        self.is_pure && self.section == bytes
    }

    /// Only the User Properties, encoded, as [`UserProperties::from_encoded`] takes them.
    #[must_use]
    pub fn to_encoded(self) -> Vec<u8> {
        let mut encoded = Vec::with_capacity(self.section.len());
        self.write(&mut encoded);
        encoded
    }

    /// Properties that [`UserProperties::to_encoded`] or [`UserProperties::push`] made. Bytes of any other origin
    /// show as no properties from the first that is not one.
    #[must_use]
    pub const fn from_encoded(bytes: &'a [u8]) -> Self {
        Self { section: bytes, is_pure: false }
    }

    /// As [`UserProperties::from_encoded`], for bytes that can be of no other origin.
    pub(crate) const fn from_own(bytes: &'a [u8]) -> Self {
        Self { section: bytes, is_pure: true }
    }

    /// Appends one encoded User Property to `encoded`; `false`, and nothing appended, when name or value is over
    /// 65,535 bytes or holds U+0000.
    pub fn push(encoded: &mut Vec<u8>, name: &str, value: &str) -> bool {
        let carries = |text: &str| text.len() <= usize::from(u16::MAX) && memchr(0, text.as_bytes()).is_none();
        carries(name) && carries(value) && write_property(Property::User((name, value)), encoded).is_ok()
    }

    /// Appends them to a property section.
    pub(crate) fn write(self, out: &mut impl Out) {
        if self.is_pure {
            return out.put(self.section);
        }
        self.entries().for_each(|(_, encoded)| out.put(encoded));
    }
}

/// Equal when the pairs are equal and in the same order.
impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(place: Place, bytes: &[u8]) -> Result<Vec<Property<'_>>, Problem> {
        let mut reader = Reader::new(bytes);
        let mut section = Section::open(place, &mut reader)?;
        let mut all = Vec::new();
        while let Some(property) = section.next()? {
            all.push(property);
        }
        reader.finish()?;
        Ok(all)
    }

    /// Table 2-4 of the standard, by identifier: how many places carry it.
    #[test]
    fn the_table_has_the_27_properties_in_their_places() {
        let places = [
            Place::CONNECT,
            Place::WILL,
            Place::CONNACK,
            Place::PUBLISH,
            Place::ACK,
            Place::SUBSCRIBE,
            Place::SUBACK,
            Place::UNSUBSCRIBE,
            Place::UNSUBACK,
            Place::DISCONNECT,
            Place::AUTH,
        ];
        let carried =
            |place: Place| (0..256).filter(|id| entry(*id).is_some_and(|entry| entry.allowed.overlaps(place))).count();
        assert_eq!((0..256).filter(|id| entry(*id).is_some()).count(), 27);
        assert!((64..256).all(|id| entry(id).is_none()), "one bit each in a u64");
        assert_eq!(places.map(carried), [9, 7, 17, 8, 2, 2, 2, 1, 2, 4, 4]);
    }

    #[test]
    fn order_is_kept_and_user_properties_are_set_aside() {
        let bytes = b"\x10\x26\x00\x01k\x00\x01v\x01\x01\x26\x00\x00\x00\x00\x0b\x05";
        let mut reader = Reader::new(bytes);
        let mut section = Section::open(Place::PUBLISH, &mut reader).unwrap();
        assert_eq!(section.next(), Ok(Some(Property::PayloadFormat(true))));
        assert_eq!(section.next().unwrap(), VarInt::new(5).map(Property::SubscriptionId));
        assert_eq!(section.next(), Ok(None));
        let users = section.user_properties();
        assert_eq!(users.iter().collect::<Vec<_>>(), [("k", "v"), ("", "")]);
        assert_eq!(users.to_encoded(), b"\x26\x00\x01k\x00\x01v\x26\x00\x00\x00\x00");
        let again = users.to_encoded();
        assert_eq!(UserProperties::from_encoded(&again), users);
        assert!(!users.is_empty());
        assert!(UserProperties::default().is_empty());
    }

    #[test]
    fn a_subscription_identifier_may_repeat_in_publish_only() {
        let bytes = [0x04, 0x0b, 0x01, 0x0b, 0x01];
        assert_eq!(read(Place::PUBLISH, &bytes).unwrap().len(), 2);
        assert_eq!(
            read(Place::SUBSCRIBE, &bytes),
            Err(Problem::Protocol(Fault::RepeatedProperty("Subscription Identifier")))
        );
    }

    #[test]
    fn what_does_not_belong_here_is_malformed_and_a_forbidden_value_is_not() {
        assert_eq!(
            read(Place::CONNECT, &[0x02, 0x24, 0x00]),
            Err(Problem::Malformed(Fault::MisplacedProperty("Maximum QoS")))
        );
        assert_eq!(
            read(Place::CONNACK, &[0x02, 0x24, 0x02]),
            Err(Problem::Protocol(Fault::Value { field: "Maximum QoS", value: 2 }))
        );
        assert_eq!(read(Place::PUBLISH, &[0x03, 0x23, 0x00, 0x00]), Err(Problem::Protocol(Fault::TopicAlias)));
    }

    #[test]
    fn a_user_property_that_the_wire_can_not_carry_is_not_pushed() {
        let mut encoded = Vec::new();
        assert!(!UserProperties::push(&mut encoded, "k\0", "v"));
        assert!(!UserProperties::push(&mut encoded, "k", &"v".repeat(65_536)));
        assert!(encoded.is_empty());
        assert!(UserProperties::push(&mut encoded, "k", "v"));
    }

    #[test]
    fn foreign_bytes_end_the_user_properties() {
        let mut encoded = Vec::new();
        UserProperties::push(&mut encoded, "k", "v");
        let end = encoded.len();
        encoded.extend_from_slice(&[0x7f, 0x26, 0x00, 0x01, b'k', 0x00, 0x01, b'v']);
        assert_eq!(UserProperties::from_encoded(&encoded), UserProperties::from_encoded(&encoded[..end]));
        assert_eq!(UserProperties::from_encoded(&encoded[..end - 1]).iter().count(), 0);
    }
}
