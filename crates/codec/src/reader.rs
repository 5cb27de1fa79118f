//! Bounds-checked reading of the wire types.
//!
//! In: the bytes of one packet. Out: values that borrow from them, or what is wrong. Never reads past the packet,
//! never allocates, and does not know which packet it is in: [`Problem::in_packet`] adds that.

use memchr::memchr;

use crate::{DecodeError, Fault, FilterRef, PacketId, PacketName, PacketType, TopicError, TopicRef, VarInt};

/// A fault, and how grave, before it is said in which packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The bytes break the wire format.
    Malformed(Fault),
    /// The bytes are well formed and say what may not be said.
    Protocol(Fault),
}

impl Problem {
    pub(crate) fn in_packet(self, kind: PacketType) -> DecodeError {
        let packet = PacketName(Some(kind));
        match self {
            Self::Malformed(fault) => DecodeError::Malformed { packet, fault },
            Self::Protocol(fault) => DecodeError::Protocol { packet, fault },
        }
    }

    /// A well-formed packet that breaks a rule for which no finer fault exists.
    pub(crate) const fn rule(text: &'static str) -> Self {
        Self::Protocol(Fault::Rule(text))
    }
}

/// What is left of a packet, or of a stretch of it. Field names are for the error only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes not read yet.
    pub(crate) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left: a payload.
    pub(crate) const fn remainder(self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left after the last field.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.rest.is_empty() { Ok(()) } else { Err(Problem::Malformed(Fault::Trailing(self.rest.len()))) }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Problem> {
        let (&first, rest) = self.rest.split_first().ok_or(Problem::Malformed(Fault::Short(field)))?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Problem> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Problem> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A variable byte integer in its shortest form (MQTT-1.5.5-1).
    pub(crate) fn var_int(&mut self, field: &'static str) -> Result<VarInt, Problem> {
        match VarInt::split(self.rest) {
            Ok(Some((value, size))) => {
                self.rest = self.rest.get(size..).unwrap_or_default();
                Ok(value)
            }
            Ok(None) => Err(Problem::Malformed(Fault::Short(field))),
            Err(fault) => Err(Problem::Malformed(fault)),
        }
    }

    /// The next `size` bytes.
    pub(crate) fn bytes(&mut self, field: &'static str, size: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or(Problem::Malformed(Fault::Short(field)))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Binary data with a two-byte length.
    pub(crate) fn binary(&mut self, field: &'static str) -> Result<&'a [u8], Problem> {
        let size = self.u16(field)?;
        self.bytes(field, usize::from(size))
    }

    /// A string: UTF-8 without surrogates (MQTT-1.5.4-1, MQTT-1.5.3-1 of 3.1.1), no U+0000 (MQTT-1.5.4-2,
    /// MQTT-1.5.3-2 of 3.1.1); U+FEFF stays (MQTT-1.5.4-3, MQTT-1.5.3-3 of 3.1.1).
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, Problem> {
        let bytes = self.binary(field)?;
        if memchr(0, bytes).is_some() {
            return Err(Problem::Malformed(Fault::Text(field)));
        }
        utf8(field, bytes)
    }

    /// A Packet Identifier; zero is a protocol error (MQTT-2.2.1-3, MQTT-2.3.1-1 of 3.1.1).
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, Problem> {
        let value = self.u16("Packet Identifier")?;
        PacketId::new(value).ok_or(Problem::Protocol(Fault::Value { field: "Packet Identifier", value: 0 }))
    }

    /// A topic name; the wildcards are searched together with U+0000.
    pub(crate) fn topic(&mut self, field: &'static str) -> Result<TopicRef<'a>, Problem> {
        let text = utf8(field, self.binary(field)?)?;
        TopicRef::new(text).map_err(|error| topic_problem(field, error))
    }

    /// A topic filter, shared or not.
    pub(crate) fn filter(&mut self) -> Result<FilterRef<'a>, Problem> {
        let text = utf8("topic filter", self.binary("topic filter")?)?;
        FilterRef::new(text).map_err(|error| topic_problem("topic filter", error))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Problem> {
        let (&taken, rest) = self.rest.split_first_chunk().ok_or(Problem::Malformed(Fault::Short(field)))?;
        self.rest = rest;
        Ok(taken)
    }
}

fn utf8<'a>(field: &'static str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    std::str::from_utf8(bytes).map_err(|_| Problem::Malformed(Fault::Text(field)))
}

/// U+0000 breaks the wire format of every string; the other rules of section 4.7 are about what is said.
const fn topic_problem(field: &'static str, error: TopicError) -> Problem {
    match error {
        TopicError::Null => Problem::Malformed(Fault::Text(field)),
        _ => Problem::Protocol(Fault::Topic { field, error }),
    }
}
