//! MQTT 3.1, 3.1.1 and 5.0 on the wire: bytes to packets and back, and the words the other crates share.
//!
//! In: a byte slice that may end anywhere. Out: borrowed packets, or encoded bytes appended to a buffer.
//! No I/O, no clock, no session state, and nothing is allocated for half a packet.
//!
//! The two doors are [`Frame::split`], which finds one whole packet at the front of a buffer (or says that more
//! bytes are needed), and [`Packet::decode`], which reads it. [`Packet::encode`] appends a packet to a buffer.
//! CONNECT carries its own version; every other packet needs the [`Version`] that CONNECT settled.

mod ack;
mod acked_run;
mod auth;
mod backlog;
mod bundle;
#[cfg(feature = "mqttbytes-compat")]
pub mod compat;
mod connack;
mod connect;
mod disconnect;
mod error;
mod few_bytes;
mod header;
mod id;
mod kept;
mod level;
mod looks;
mod message;
mod packet;
mod ping;
mod plain_ack;
mod property;
mod publish;
mod qos;
mod reader;
mod reason;
mod run;
mod slice;
mod suback;
mod subscribe;
mod time;
mod topic;
mod unsuback;
mod unsubscribe;
mod varint;
mod writer;

pub use ack::Ack;
pub use acked_run::{AckedMessage, AckedMessages, AckedRun};
pub use auth::Auth;
pub use backlog::{Backlog, Stub};
pub use bundle::Bundle;
pub use connack::{Connack, ConnackProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use disconnect::Disconnect;
pub use error::{DecodeError, EncodeError, Fault, PacketName};
pub use header::{Frame, PacketType};
pub use id::{ClientId, PacketId};
pub use kept::{Claimed, Kept, Place, Places, SessionId, Settler};
pub use level::{Level, Version};
pub use looks::Looks;
pub use message::{Message, MessageProperties, Outgoing};
pub use packet::Packet;
pub use plain_ack::PlainAck;
pub use property::{SubscriptionIds, UserProperties};
pub use publish::{Publish, PublishProperties};
pub use qos::QoS;
pub use reason::{ReasonCode, ReturnCode};
pub use run::Run;
pub use slice::Slice;
pub use suback::Suback;
pub use subscribe::{RetainHandling, Subscribe, SubscribeEntry, SubscribeOptions};
pub use time::Time;
pub use topic::{FilterRef, Share, TopicError, TopicFilter, TopicName, TopicRef};
pub use unsuback::Unsuback;
pub use unsubscribe::Unsubscribe;
pub use varint::VarInt;
