//! Wills when their time has come. Whether and when is decided by `viaduct_session::server::will_fate`.

use std::sync::Arc;

use viaduct_codec::{Message, Time};

use crate::Engine;
use crate::authorize::Who;
use crate::stats::Dropped;

impl Engine {
    /// Publishes the will of the session at `index`, if its owner may publish there now.
    pub(crate) fn publish_will(&mut self, now: Time, index: usize, mut message: Message) {
        let Some(slot) = self.sessions.get(index) else { return };
        let who = Who { client_id: slot.client_id.as_str(), username: slot.identity.username.as_deref() };
        let authorizer = self.shared.authorizer();
        if !(slot.identity.local || authorizer.is_open() || authorizer.publish(&who, message.topic.as_str())) {
            tracing::info!(client_id = %slot.client_id, topic = ?message.topic.as_str(), "its will is not published: not authorized");
            self.stats.dropped(Dropped::NotAuthorized, 1);
            return;
        }
        let key = slot.key;
        if let Some(mounted) = slot.mounted(message.topic.by_ref()) {
            message.topic = mounted;
        }
        // The message begins to live when it is published (MQTT 5.0 section 3.1.3.2.4).
        if let Some(expires) = message.expires {
            message.expires = Some(now.after(expires.since(message.received)));
        }
        message.received = now;
        let message = Arc::new(message);
        // MQTT-3.1.2-14, MQTT-3.1.2-16 of 3.1.1, MQTT-3.1.2-15, MQTT-3.1.2-17 of 3.1.1.
        self.retain(&message);
        self.dispatch(now, &message, Some(key));
    }

    /// Publishes the delayed will of the session at `index` if its time has come.
    pub(crate) fn publish_delayed_will(&mut self, now: Time, index: usize) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        if slot.delayed_will.as_ref().is_some_and(|(time, _)| *time <= now)
            && let Some((_, message)) = slot.delayed_will.take()
        {
            self.publish_will(now, index, message);
        }
    }
}
