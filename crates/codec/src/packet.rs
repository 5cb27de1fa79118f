//! One MQTT Control Packet of any version.

use crate::{
    Ack, Auth, Connack, Connect, DecodeError, Disconnect, EncodeError, Frame, Publish, Suback, Subscribe, Unsuback,
    Unsubscribe, Version,
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
    pub fn decode(_frame: Frame<'a>, _version: Version) -> Result<Self, DecodeError> {
        todo!()
    }

    /// Appends the packet to `out`. Nothing is appended on an error. CONNECT ignores `version`.
    ///
    /// # Errors
    /// A field that the wire can't carry (a string over 65,535 bytes, a packet over 268,435,455).
    pub fn encode(&self, _version: Version, _out: &mut Vec<u8>) -> Result<(), EncodeError> {
        todo!()
    }

    /// How many bytes [`Packet::encode`] would append, for Maximum Packet Size.
    ///
    /// # Errors
    /// As [`Packet::encode`].
    pub fn encoded_len(&self, _version: Version) -> Result<usize, EncodeError> {
        todo!()
    }
}
