//! One MQTT Control Packet of any version: which file reads it, which file writes it.
//!
//! In: a whole frame, or a packet. Out: the packet, or its bytes. What the bytes mean is the business of the file that
//! has the packet's name.

use crate::reader::{Problem, Reader};
use crate::writer::{Count, Out};
use crate::{
    Ack, Auth, Connack, Connect, DecodeError, Disconnect, EncodeError, Fault, Frame, PacketType, Publish, Suback,
    Subscribe, Unsuback, Unsubscribe, VarInt, Version, ping,
};

/// A control packet, borrowing its strings and bytes from the buffer that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client opens the conversation.
    Connect(Box<Connect<'a>>),
    /// The server's answer.
    Connack(Box<Connack<'a>>),
    /// An application message.
    Publish(Publish<'a>),
    /// QoS 1: received and owned.
    Puback(Ack<'a>),
    /// QoS 2: received and owned.
    Pubrec(Ack<'a>),
    /// QoS 2: the sender forgets the message.
    Pubrel(Ack<'a>),
    /// QoS 2: the receiver forgets the identifier.
    Pubcomp(Ack<'a>),
    /// Ask for messages.
    Subscribe(Subscribe<'a>),
    /// One answer per filter.
    Suback(Suback<'a>),
    /// Ask for no more.
    Unsubscribe(Unsubscribe<'a>),
    /// Done; on 5.0 one answer per filter.
    Unsuback(Unsuback<'a>),
    /// Are you there?
    Pingreq,
    /// Yes.
    Pingresp,
    /// The last packet; on 5.0 both ends may send it.
    Disconnect(Disconnect<'a>),
    /// Enhanced authentication, 5.0 only.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Reads the packet in `frame`. `version` is what CONNECT settled; CONNECT itself ignores it.
    ///
    /// # Errors
    /// Malformed bytes or a protocol error, with whose fault it is and the reason code that goes with it.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Self, DecodeError> {
        if frame.kind == PacketType::Connect {
            return Connect::decode(frame).map(|connect| Self::Connect(Box::new(connect)));
        }
        Self::read(frame, version).map_err(|problem| problem.in_packet(frame.kind))
    }

    #[inline]
    fn read(frame: Frame<'a>, version: Version) -> Result<Self, Problem> {
        let kind = frame.kind;
        let reader = Reader::new(frame.body);
        if kind == PacketType::Publish {
            return Publish::read(frame.flags, version, reader).map(Self::Publish);
        }
        kind.check_flags(frame.flags, version)?;
        match kind {
            PacketType::Connack => Connack::read(version, reader).map(|connack| Self::Connack(Box::new(connack))),
            PacketType::Puback => Ack::read(kind, version, reader).map(Self::Puback),
            PacketType::Pubrec => Ack::read(kind, version, reader).map(Self::Pubrec),
            PacketType::Pubrel => Ack::read(kind, version, reader).map(Self::Pubrel),
            PacketType::Pubcomp => Ack::read(kind, version, reader).map(Self::Pubcomp),
            PacketType::Subscribe => Subscribe::read(version, reader).map(Self::Subscribe),
            PacketType::Suback => Suback::read(version, reader).map(Self::Suback),
            PacketType::Unsubscribe => Unsubscribe::read(version, reader).map(Self::Unsubscribe),
            PacketType::Unsuback => Unsuback::read(version, reader).map(Self::Unsuback),
            PacketType::Pingreq => ping::read(Self::Pingreq, reader),
            PacketType::Pingresp => ping::read(Self::Pingresp, reader),
            PacketType::Disconnect => Disconnect::read(version, reader).map(Self::Disconnect),
            PacketType::Auth if version.is_v5() => Auth::read(reader).map(Self::Auth),
            // Type 15 is reserved before 5.0. CONNECT and PUBLISH were read above.
            PacketType::Auth | PacketType::Connect | PacketType::Publish => {
                Err(Problem::Malformed(Fault::Value { field: "packet type", value: kind as u32 }))
            }
        }
    }

    /// Appends the packet to `out`. Nothing is appended on an error. CONNECT ignores `version`. What only 5.0 has
    /// (properties, subscription options) is left out towards 3.x, so that one packet serves subscribers of every
    /// version.
    ///
    /// # Errors
    /// A field that the wire can't carry (a string over 65,535 bytes, a packet over 268,435,455), or one that the
    /// version forbids or demands.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let remaining = self.remaining_length(version)?;
        let start = out.len();
        out.reserve(1 + remaining.size() + remaining.get() as usize);
        let kind = self.kind();
        let flags = match self {
            Self::Publish(publish) => publish.flags(),
            _ => kind.fixed_flags(),
        };
        out.u8((kind as u8) << 4 | flags);
        out.var_int(remaining);
        // The first pass found every error, so this is only a second lock on the promise.
        self.write_body(version, out).inspect_err(|_| out.truncate(start))
    }

    /// How many bytes [`Packet::encode`] would append, for Maximum Packet Size.
    ///
    /// # Errors
    /// As [`Packet::encode`].
    pub fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        let remaining = self.remaining_length(version)?;
        Ok(1 + remaining.size() + remaining.get() as usize)
    }

    /// A number of bytes that [`Packet::encoded_len`] does not exceed, found without walking through the packet; `None` where
    /// there is no such short cut. Most packets are far below what their receiver takes, and need no exact count.
    #[must_use]
    pub fn len_bound(&self) -> Option<usize> {
        match self {
            Self::Publish(publish) => Some(publish.len_bound()),
            // First byte, length, identifier, reason, and the length of no properties.
            Self::Puback(ack) | Self::Pubrec(ack) | Self::Pubrel(ack) | Self::Pubcomp(ack)
                if ack.reason_string.is_none() && ack.user_properties.is_empty() =>
            {
                Some(6)
            }
            _ => None,
        }
    }

    /// Which packet it is.
    #[must_use]
    pub const fn kind(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    fn remaining_length(&self, version: Version) -> Result<VarInt, EncodeError> {
        let mut count = Count::default();
        self.write_body(version, &mut count)?;
        u32::try_from(count.0).ok().and_then(VarInt::new).ok_or(EncodeError::PacketTooLong(count.0))
    }

    fn write_body<O: Out>(&self, version: Version, out: &mut O) -> Result<(), EncodeError> {
        match self {
            Self::Connect(connect) => connect.write(out),
            Self::Connack(connack) => connack.write(version, out),
            Self::Publish(publish) => publish.write(version, out),
            Self::Puback(ack) | Self::Pubrec(ack) | Self::Pubrel(ack) | Self::Pubcomp(ack) => {
                ack.write(self.kind(), version, out)
            }
            Self::Subscribe(subscribe) => subscribe.write(version, out),
            Self::Suback(suback) => suback.write(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.write(version, out),
            Self::Unsuback(unsuback) => unsuback.write(version, out),
            Self::Pingreq | Self::Pingresp => Ok(()),
            Self::Disconnect(disconnect) => disconnect.write(version, out),
            Self::Auth(auth) if version.is_v5() => auth.write(out),
            Self::Auth(_) => Err(EncodeError::NotInVersion("AUTH exists in 5.0 only")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_appends_and_an_error_appends_nothing() {
        let mut out = vec![1, 2, 3];
        Packet::Pingreq.encode(Version::V5, &mut out).unwrap();
        assert_eq!(out, [1, 2, 3, 0xc0, 0]);
        let text = "r".repeat(65_536);
        let mut disconnect = Disconnect::new(crate::ReasonCode::SERVER_BUSY);
        disconnect.reason_string = Some(&text);
        let packet = Packet::Disconnect(disconnect);
        let error = EncodeError::FieldTooLong { field: "Reason String", size: 65_536 };
        assert_eq!(packet.encode(Version::V5, &mut out), Err(error));
        assert_eq!(packet.encoded_len(Version::V5), Err(error));
        assert_eq!(out, [1, 2, 3, 0xc0, 0]);
    }

    #[test]
    fn a_packet_is_small_enough_to_be_passed_by_value() {
        // PUBLISH is the largest that is not boxed; this guards against a field that makes every packet pay.
        assert!(size_of::<Packet<'_>>() <= 160, "{}", size_of::<Packet<'_>>());
    }
}
