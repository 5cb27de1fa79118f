//! A message for one peer, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{Message, PacketId, Place, QoS, SubscriptionIds};

/// One message for one peer, as whoever routed it decided.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Shared by all who are owed it.
    pub message: Arc<Message>,
    /// The lower of what the message has and the subscription grants.
    pub qos: QoS,
    /// RETAIN as it is to be sent.
    pub retain: bool,
    /// The subscriptions that it answers; towards 5.0 only.
    pub ids: SubscriptionIds,
    /// The `$share/<name>/<filter>` that it came by, if it did.
    pub group: Option<Arc<str>>,
    /// Where the store keeps that it is owed, if it does. Whoever drops the last of these says that it is not any more.
    pub kept: Option<Place>,
}

/// As derived, but for identifiers, of which there are mostly none: a `SmallVec` is cloned one by one.
impl Clone for Delivery {
    fn clone(&self) -> Self {
        let Self { message, qos, retain, ids, group, kept } = self;
        Self {
            message: Arc::clone(message),
            qos: *qos,
            retain: *retain,
            ids: SubscriptionIds::from_slice(ids),
            group: group.clone(),
            kept: kept.clone(),
        }
    }
}

/// One step of one message that waits for the store: what became safe for an earlier step lets no later one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hold(pub(crate) u32);

/// What the store has to know of a conversation, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Note {
    /// A kept message goes out under this identifier. One of QoS 2 waits for
    /// [`Session::proceed`](crate::server::Session::proceed).
    Sent(PacketId, Place, QoS, Hold),
    /// PUBREC came for it; PUBREL waits for [`Session::proceed`](crate::server::Session::proceed).
    Received(PacketId, Place, Hold),
    /// PUBREL came: the client's identifier is free. PUBCOMP waits for
    /// [`Session::complete`](crate::server::Session::complete).
    Released(PacketId),
}

/// What became of a [`Delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// It is in the output.
    Sent,
    /// It waits.
    Queued,
    /// It, or with [`OnFull::DropOldest`] one that waited longer, is given up.
    Dropped(DropReason),
    /// The queue is full and the policy is to end the connection.
    Overflow,
}

/// Why a message is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue is full.
    QueueFull,
    /// Its expiry passed.
    Expired,
    /// It is larger than the peer takes.
    TooLarge,
    /// QoS 0, and there is no connection.
    Offline,
}

/// How much may wait for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages of QoS 1 and 2; those of QoS 0 are bounded by their bytes.
    pub max_messages: usize,
    /// Bytes, by [`Message::size`].
    pub max_bytes: usize,
    /// How long a message may wait; `None` for as long as it lives.
    pub max_age: Option<Duration>,
    /// What happens beyond.
    pub on_full: OnFull,
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Gives up what waited longest, QoS 0 first; QoS 1 and 2 never for a newcomer of QoS 0.
    DropOldest,
    /// Gives up the newcomer.
    #[default]
    DropNewest,
    /// Ends the connection; without one, gives up the newcomer.
    Disconnect,
}

impl Default for QueueLimits {
    /// 10,000 messages and 16 MiB, the newcomer goes.
    fn default() -> Self {
        Self { max_messages: 10_000, max_bytes: 16 << 20, max_age: None, on_full: OnFull::DropNewest }
    }
}

/// What one end did since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUBLISH packets written, by QoS, repetitions included.
    pub sent: [u32; 3],
    /// Messages whose expiry passed while they waited.
    pub expired: u32,
    /// Messages that waited longer than [`QueueLimits::max_age`].
    pub too_old: u32,
    /// Messages that waited and that the peer takes no packet large enough for.
    pub too_large: u32,
    /// Messages whose exchange ended when the store had written them already.
    pub late: u32,
    /// Messages that had to go for a newcomer, beyond the one that its [`Delivered::Dropped`] stands for.
    pub displaced: u32,
}
