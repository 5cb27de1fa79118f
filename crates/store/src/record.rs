//! The records: typed things with a key, each replaced as a whole.

use std::sync::Arc;

use viaduct_codec::{ClientId, Message, SessionId, SubscribeOptions, Time, TopicFilter, TopicName, VarInt};

/// What a record is found by. Ordered, so that a session comes before its subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A session.
    Session(ClientId),
    /// A subscription of a session.
    Subscription(ClientId, TopicFilter),
    /// The retained message of a topic.
    Retained(TopicName),
    /// The will of a session that does not outlive its connection.
    Will(ClientId),
}

/// One thing that survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A session that outlives its connection.
    Session(SessionRecord),
    /// A subscription of such a session.
    Subscription(SubscriptionRecord),
    /// The retained message of its topic, or with an empty payload that there is none. Workers write in no order of their own,
    /// so the change with the higher number is the later one.
    Retained(Arc<Message>, u64),
    /// The will of a session that does not outlive its connection.
    Will(WillRecord),
}

/// A session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its number; what is owed names it by this.
    pub id: SessionId,
    /// Its name.
    pub client_id: ClientId,
    /// Whom it belongs to; `None` for an anonymous client.
    pub username: Option<Arc<str>>,
    /// It is this broker's own half of a bridge.
    pub is_local: bool,
    /// What stands before every topic of it and is not shown to it.
    pub mountpoint: Option<Arc<str>>,
    /// Seconds that it lives on without a connection; `u32::MAX` never ends.
    pub expiry: u32,
    /// When its last connection ended; `None` while one is there, and after a crash that ended one.
    pub disconnected: Option<Time>,
    /// The will of the connection that is there; found after a crash, it is to be published once.
    pub will: Option<StoredWill>,
    /// A will whose connection has ended, and when it is due.
    pub delayed_will: Option<(Time, Arc<Message>)>,
}

/// A will that has not been published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWill {
    /// What is published.
    pub message: Arc<Message>,
    /// Will Delay Interval in seconds.
    pub delay: u32,
}

/// The will of a session that does not outlive its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WillRecord {
    /// Whose it is.
    pub client_id: ClientId,
    /// As whom it was admitted; `None` for an anonymous client.
    pub username: Option<Arc<str>>,
    /// It is this broker's own half of a bridge.
    pub is_local: bool,
    /// What stands before every topic of it and is not shown to it.
    pub mountpoint: Option<Arc<str>>,
    /// The will.
    pub will: StoredWill,
}

/// A subscription of a session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRecord {
    /// Whose it is.
    pub client_id: ClientId,
    /// The filter as it was sent, shared or not.
    pub filter: TopicFilter,
    /// How its messages shall come.
    pub options: SubscribeOptions,
    /// 5.0: goes with every message that it brings.
    pub id: Option<VarInt>,
}

impl Key {
    /// The client that it belongs to; `None` for what belongs to all.
    #[must_use]
    pub fn client_id(&self) -> Option<&ClientId> {
        match self {
            Self::Session(client_id) | Self::Subscription(client_id, _) | Self::Will(client_id) => Some(client_id),
            Self::Retained(_) => None,
        }
    }
}

impl Record {
    /// What it is found by.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Session(session) => Key::Session(session.client_id.clone()),
            Self::Subscription(one) => Key::Subscription(one.client_id.clone(), one.filter.clone()),
            Self::Retained(message, _) => Key::Retained(message.topic.clone()),
            Self::Will(will) => Key::Will(will.client_id.clone()),
        }
    }
}
