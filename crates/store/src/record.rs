//! The records: typed things with a key, each replaced as a whole.

use std::sync::Arc;

use viaduct_codec::{ClientId, Message, SubscribeOptions, Time, TopicFilter, TopicName, VarInt};

/// What a record is found by. Ordered, so that a session comes before its subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A session.
    Session(ClientId),
    /// A subscription of a session.
    Subscription(ClientId, TopicFilter),
    /// The retained message of a topic.
    Retained(TopicName),
}

/// One thing that survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A session that outlives its connection.
    Session(SessionRecord),
    /// A subscription of such a session.
    Subscription(SubscriptionRecord),
    /// A retained message.
    Retained(Arc<Message>),
}

/// A session that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its name.
    pub client_id: ClientId,
    /// Whom it belongs to; `None` for an anonymous client.
    pub username: Option<Arc<str>>,
    /// Seconds that it lives on without a connection; `u32::MAX` never ends.
    pub expiry: u32,
    /// When its last connection ended; `None` while one is there, and after a crash that ended one.
    pub disconnected: Option<Time>,
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

impl Record {
    /// What it is found by.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Session(session) => Key::Session(session.client_id.clone()),
            Self::Subscription(one) => Key::Subscription(one.client_id.clone(), one.filter.clone()),
            Self::Retained(message) => Key::Retained(message.topic.clone()),
        }
    }
}
