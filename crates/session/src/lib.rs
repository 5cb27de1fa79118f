//! One end of one MQTT conversation, sans-IO: the server's end and the client's end on one shared flow.
//!
//! In: packets, the time, messages to deliver. Out: events, and encoded bytes appended to an [`Output`]. No I/O, no clock,
//! no other session: who hears a message and who may publish it is decided elsewhere.
//!
//! [`server::admit()`] judges a CONNECT; [`server::Session`] is what a broker keeps of one ClientID, with and without a
//! connection; [`client::Client`] is what a bridge dials with. Both ends run on the same `flow`: the window of
//! unacknowledged messages, packet identifiers, topic aliases, the queue, keep alive.

pub mod client;
mod delivery;
mod flow;
mod limits;
mod output;
pub mod server;
mod violation;

pub use delivery::{Counts, Delivered, Delivery, DropReason, Hold, Note, OnFull, QueueLimits};
pub use flow::Incoming;
pub use limits::OUTPUT_HIGH_WATER;
pub use output::Output;
pub use violation::Violation;

/// The User Property by which a client asks a server of 5.0 for its name, saying its own, and by which the server answers in
/// CONNACK: bridges between brokers of this kind know by it whom a message has passed. A server that answers notes the
/// client's hop itself on whatever comes over the connection without User Properties.
pub const NODE_PROPERTY: &str = "viaduct-node";

/// The User Property by which a bridge that says its broker's name says its own, so that all its links are known for one way.
pub const BRIDGE_PROPERTY: &str = "viaduct-bridge";

/// The User Property, `1`, by which it says that this bridge is its broker's only link to others of this kind: what comes from
/// there comes by no other way. `0` in an UNSUBSCRIBE says that this has ended.
pub const LEAF_PROPERTY: &str = "viaduct-leaf";

/// The User Property that says which brokers a message has passed: names separated by `/`, each followed by `<`
/// where a bridge of that broker fetched the message and by `>` where one sent it on.
pub const HOPS_PROPERTY: &str = "viaduct-hops";

/// Bytes of a name in a list of hops: a node id and what makes it unique are fewer.
const NODE_NAME: usize = 128;

/// Whether a name can stand in a list of hops.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    (1..=NODE_NAME).contains(&name.len()) && !name.contains(['/', '<', '>'])
}
