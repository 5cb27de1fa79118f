//! The start: sessions, subscriptions and retained messages as the store kept them.

use std::sync::Arc;

use viaduct_codec::Time;
use viaduct_router::Subscription;
use viaduct_session::server::Terms;
use viaduct_store::{Accepted, Record, SessionRecord, StoreError, SubscriptionRecord};

use crate::Engine;
use crate::held::Held;
use crate::registry::Identity;
use crate::settings::RetainedSettings;

impl Engine {
    pub(crate) fn restore(&mut self, now: Time) {
        let records = match self.store.load() {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(worker = self.worker.0, %error, "the store can't be read; starting without what it kept");
                return;
            }
        };
        for record in records {
            match record {
                Record::Session(session) => self.restore_session(now, session),
                Record::Subscription(subscription) => self.restore_subscription(&subscription),
                Record::Retained(message) if !message.is_expired(now) => {
                    let unlimited = RetainedSettings { enabled: true, max_messages: None, max_payload: None };
                    self.shared.retained.keep(&message, &unlimited);
                }
                Record::Retained(_) => {}
            }
        }
    }

    fn restore_session(&mut self, now: Time, record: SessionRecord) {
        let identity = Identity { username: record.username, local: false };
        let index = self.sessions.insert(record.client_id, identity, Arc::new(Terms::default()));
        self.stats.sessions_disconnected.add(1);
        if let Some(slot) = self.sessions.get_mut(index)
            && record.expiry != u32::MAX
        {
            slot.expires = Some(record.disconnected.unwrap_or(now).after_secs(record.expiry));
        }
        self.arm(index);
    }

    fn restore_subscription(&mut self, record: &SubscriptionRecord) {
        let Some(slot) = self.sessions.by_client(record.client_id.as_str()).and_then(|i| self.sessions.get_mut(i))
        else {
            return;
        };
        let held = Held { options: record.options, id: record.id, checked: true };
        let subscription = Subscription { options: held.options, id: held.id, checked: held.checked };
        self.shared.routes.subscribe(record.filter.by_ref(), slot.key, subscription);
        self.shared.routes.set_online(record.filter.by_ref(), slot.key, false);
        slot.subscriptions.insert(record.filter.clone(), held);
    }

    /// Writes the session's record, if it outlives its connection.
    pub(crate) fn keep_session(&mut self, index: usize, expiry: u32, disconnected: Option<Time>) {
        let Some(slot) = self.sessions.get(index) else { return };
        let record = Record::Session(SessionRecord {
            client_id: slot.client_id.clone(),
            username: slot.identity.username.clone(),
            expiry,
            disconnected,
        });
        let result = self.store.put(record);
        self.note_store_result("session", result);
    }

    /// Logs a record that could not be written; the session goes on in memory.
    pub(crate) fn note_store_result(&self, what: &'static str, result: Result<Accepted, StoreError>) {
        if let Err(error) = result {
            tracing::warn!(worker = self.worker.0, %error, "a {what} record could not be kept and would be lost in a restart");
        }
    }
}
