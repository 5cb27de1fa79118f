//! What the operator decides about the broker's behaviour, as the engine needs it.

use std::sync::Arc;

use viaduct_session::QueueLimits;

/// Settings of one engine; replaced as a whole on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What happens when a ClientID that is connected connects again.
    pub on_duplicate: OnDuplicate,
    /// A will is not published because its owner was taken over.
    pub suppress_will_on_takeover: bool,
    /// Levels that a topic name or filter may have; more is refused.
    pub max_topic_levels: usize,
    /// Subscriptions that one session may hold; `None` for no limit.
    pub max_subscriptions_per_session: Option<usize>,
    /// PUBLISH packets a second that one client may send before it is not read for a while; `None` for no limit.
    pub message_rate: Option<u32>,
    /// Retained messages.
    pub retained: RetainedSettings,
    /// Bytes that the queues of all sessions may hold together; `None` for no limit beyond those of each session.
    pub memory: Option<u64>,
    /// What may wait for a session that was restored from the store, until its client comes back and has the terms of its listener.
    pub queue: Arc<QueueLimits>,
}

/// Whether and how much is retained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedSettings {
    /// Whether anything is.
    pub enabled: bool,
    /// Topics that may have a retained message; `None` for no limit.
    pub max_messages: Option<usize>,
    /// Bytes of payload that a retained message may have; `None` for no limit.
    pub max_payload: Option<usize>,
}

/// What happens when a ClientID that is connected connects again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDuplicate {
    /// The newcomer gets the session, as the standard says (MQTT-3.1.4-3).
    #[default]
    TakeOver,
    /// The newcomer is refused.
    Reject,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            on_duplicate: OnDuplicate::TakeOver,
            suppress_will_on_takeover: false,
            max_topic_levels: crate::limits::DEFAULT_TOPIC_LEVELS,
            max_subscriptions_per_session: None,
            message_rate: None,
            retained: RetainedSettings { enabled: true, max_messages: None, max_payload: None },
            memory: None,
            queue: Arc::default(),
        }
    }
}
