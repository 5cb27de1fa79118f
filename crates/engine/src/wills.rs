//! Wills when their time has come. Whether and when is decided by `viaduct_session::server::will_fate`.

use std::sync::Arc;

use viaduct_codec::{Message, Time};

use crate::Engine;
use crate::dispatch::levels;
use crate::stats::Dropped;

impl Engine {
    /// Publishes the will of the session at `index`, if its owner may publish there now.
    pub(crate) fn publish_will(&mut self, now: Time, index: usize, mut message: Message) {
        let topic = message.topic.clone();
        if levels(topic.as_str()) > self.settings.max_topic_levels {
            self.drop_will(now, index, "its topic has more levels than limits.max_topic_levels");
            return;
        }
        if !self.may_publish(index, topic.by_ref()) {
            self.note_denied(now, index, "publish its will to", topic.as_str());
            return;
        }
        let Some(slot) = self.sessions.get(index) else { return };
        let key = slot.key;
        if slot.mountpoint.is_some() {
            // One that is too long with the mountpoint has no place anywhere.
            let Some(mounted) = slot.mounted(topic.by_ref()) else {
                self.drop_will(now, index, "its topic is too long with the mountpoint of the listener");
                return;
            };
            message.topic = mounted;
        }
        // The message begins to live when it is published (MQTT 5.0 section 3.1.3.2.4).
        if let Some(expires) = message.expires {
            message.expires = Some(now.after(expires.since(message.received)));
        }
        message.received = now;
        let message = Arc::new(message);
        // MQTT-3.1.2-14, MQTT-3.1.2-16 of 3.1.1, MQTT-3.1.2-15, MQTT-3.1.2-17 of 3.1.1.
        let retained = self.retain(&message);
        self.note_store_result("retained", retained);
        self.dispatch(now, &message, Some(key));
    }

    fn drop_will(&mut self, now: Time, index: usize, why: &str) {
        self.stats.dropped(Dropped::NotAuthorized, 1);
        let client_id = self.client_id(index);
        self.log.line(now, |more| tracing::info!(%client_id, more, "its will is not published: {why}"));
    }

    /// Publishes the delayed will of the session at `index` if its time has come.
    pub(crate) fn publish_delayed_will(&mut self, now: Time, index: usize) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        if slot.delayed_will.as_ref().is_some_and(|delayed| delayed.0 <= now)
            && let Some(delayed) = slot.delayed_will.take()
        {
            self.publish_will(now, index, delayed.1);
            self.keep_without_will(index);
        }
    }

    /// Tells the store that the delayed will of the session at `index`, which has no connection, is published.
    fn keep_without_will(&mut self, index: usize) {
        let Some(slot) = self.sessions.get(index).filter(|slot| slot.is_durable()) else { return };
        let expiry = slot.session.session_expiry();
        let since = slot.expires.map(|expires| expires.as_millis().saturating_sub(u64::from(expiry) * 1000));
        self.keep_session(index, expiry, Some(since.map_or(self.clock, Time::from_millis)));
    }
}
