//! The state of the bridge as a retained message at both brokers, as mosquitto publishes it: `1` while the link is
//! up, `0` while it is not; at the remote the `0` is our will.
//!
//! In: the state topic and the time. Out: messages. Never decides whether the link is up.

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{Message, QoS, Time, TopicName, TopicRef};
use viaduct_session::Delivery;
use viaduct_session::server::Will;

use crate::negotiate::Wishes;

/// What [`crate::Settings::notifications`] asks for.
#[derive(Clone, Debug)]
pub(crate) struct Notices {
    topic: Option<TopicName>,
}

impl Notices {
    pub(crate) const fn new(topic: Option<TopicName>) -> Self {
        Self { topic }
    }

    /// Where the state is published.
    pub(crate) fn topic(&self) -> Option<TopicRef<'_>> {
        self.topic.as_ref().map(TopicName::by_ref)
    }

    /// The message that says whether the link is up, within what its receiver takes.
    pub(crate) fn state(&self, now: Time, up: bool, wishes: Wishes) -> Option<Delivery> {
        let message = self.message(now, up, wishes)?;
        let (qos, retain) = (message.qos, message.retain);
        Some(Delivery { message: Arc::new(message), qos, retain, ids: Default::default(), group: None, kept: None })
    }

    /// The will that says at the remote that the link is down.
    pub(crate) fn will(&self, now: Time, wishes: Wishes) -> Option<Will> {
        Some(Will { message: self.message(now, false, wishes)?, delay: 0 })
    }

    fn message(&self, now: Time, up: bool, wishes: Wishes) -> Option<Message> {
        Some(Message {
            topic: self.topic.clone()?,
            payload: Bytes::from_static(if up { b"1" } else { b"0" }),
            qos: QoS::AtLeastOnce.min(wishes.qos),
            retain: wishes.retain,
            received: now,
            expires: None,
            properties: None,
        })
    }
}
