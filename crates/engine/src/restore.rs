//! Records of sessions, subscriptions and wills: written as they change, and read at the start, when everything goes on as
//! the store kept it.

use std::sync::Arc;

use viaduct_codec::{Message, SessionId, Time};
use viaduct_router::Subscription;
use viaduct_session::server::Terms;
use viaduct_store::{
    Accepted, InFlight, Key, Loaded, Record, SessionRecord, StoreError, StoredWill, SubscriptionRecord, WillRecord,
};

use crate::Engine;
use crate::held::Held;
use crate::registry::{Identity, Slot};
use crate::seams::{Claim, Epoch};
use crate::settings::RetainedSettings;

impl Engine {
    pub(crate) fn restore(&mut self, now: Time) {
        let loaded = match self.store.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(worker = self.worker.0, %error, "the store can't be read; starting without what it kept");
                return;
            }
        };
        let Loaded {
            sessions,
            subscriptions,
            wills,
            retained,
            inflight,
            queued,
            inbound,
            next_session_id,
            next_retained,
        } = loaded;
        self.shared.reserve_session_ids(next_session_id);
        self.shared.retained.reserve_versions(next_retained);
        let unlimited = RetainedSettings { enabled: true, max_messages: None, max_payload: None };
        // The first sweep takes those that have expired out of the store as well.
        for mut message in retained {
            Message::begin_by(&mut message, now);
            self.shared.retained.keep(&message, &unlimited);
        }
        let mut indices = hashbrown::HashMap::new();
        for session in sessions {
            let id = session.id;
            indices.extend(self.restore_session(now, session).map(|index| (id, index)));
        }
        for subscription in &subscriptions {
            self.restore_subscription(subscription);
        }
        let index = |id: SessionId| indices.get(&id).copied();
        for (session, packet_id) in inbound {
            if let Some(slot) = index(session).and_then(|index| self.sessions.get_mut(index)) {
                slot.session.restore_received(packet_id);
            }
        }
        for (session, open) in inflight {
            if let Some(index) = index(session) {
                self.restore_inflight(index, open);
            }
        }
        for (session, backlog) in queued {
            if let Some(index) = index(session) {
                self.with_output(index, |session, _| session.restore(backlog));
            }
        }
        for will in wills {
            self.restore_will(now, will);
        }
    }

    fn restore_inflight(&mut self, index: usize, mut open: Vec<InFlight>) {
        by_sending(&mut open);
        for InFlight { stored, packet_id, received } in open {
            let Some(delivery) = self.delivery_of(index, stored) else { continue };
            self.with_output(index, |session, _| session.restore_sent(packet_id, delivery, received));
        }
    }

    /// The session, whose connection ended with the broker if not before; its place, if it is still owned here.
    fn restore_session(&mut self, now: Time, record: SessionRecord) -> Option<usize> {
        let SessionRecord { id, client_id, username, is_local, mountpoint, expiry, disconnected, will, delayed_will } =
            record;
        let Claim::Owned(epoch) = self.owners.claim(now, &client_id) else { return None };
        let identity = Identity { username, local: is_local };
        let index = self.sessions.insert(client_id, identity, Arc::new(Terms::default()));
        self.stats.sessions_disconnected.add(1);
        self.limit_absent(index);
        // A clock that went back does not give anybody more time than was asked for.
        let ended = disconnected.unwrap_or(now).min(now);
        if let Some(slot) = self.sessions.get_mut(index) {
            (slot.id, slot.epoch) = (id, epoch);
            slot.mountpoint = mountpoint;
            slot.session.restore_expiry(expiry);
            slot.expires = (expiry != u32::MAX).then(|| ended.after_secs(expiry));
            let interrupted = will.map(|will| (ended.after_secs(will.delay.min(expiry)), will.message));
            let latest = ended.after_secs(expiry);
            slot.delayed_will = delayed_will
                .or(interrupted)
                .map(|(time, message)| Box::new((time.min(latest), Arc::unwrap_or_clone(message))));
            self.shared.set_durable(slot.key, slot.durable());
        }
        let has_deadline = self
            .sessions
            .get(index)
            .is_some_and(|slot| slot.expires.or(slot.delayed_will.as_ref().map(|will| will.0)).is_some());
        if disconnected.is_none() && has_deadline {
            // From now on its time runs, however often the broker starts again.
            self.keep_session(index, expiry, Some(now));
        }
        self.arm(index);
        Some(index)
    }

    /// A will whose owner ended with the broker: it is published at once, as it would have been had only its connection ended.
    fn restore_will(&mut self, now: Time, record: WillRecord) {
        let WillRecord { client_id, username, is_local, mountpoint, will } = record;
        if self.sessions.by_client(client_id.as_str()).is_some() {
            return; // A session of that name came later and has its own.
        }
        let Claim::Owned(epoch) = self.owners.claim(now, &client_id) else { return };
        let index = self.sessions.insert(client_id, Identity { username, local: is_local }, Arc::new(Terms::default()));
        self.stats.sessions_disconnected.add(1);
        if let Some(slot) = self.sessions.get_mut(index) {
            (slot.mountpoint, slot.epoch) = (mountpoint, epoch);
            slot.has_lone_will = true;
            slot.expires = Some(now);
            slot.delayed_will = Some(Box::new((now, Arc::unwrap_or_clone(will.message))));
        }
        self.arm(index);
    }

    fn restore_subscription(&mut self, record: &SubscriptionRecord) {
        let Some(slot) = self.sessions.by_client(record.client_id.as_str()).and_then(|i| self.sessions.get_mut(i))
        else {
            return;
        };
        let held = Held { options: record.options, id: record.id, checked: true };
        let Held { options, id, checked } = held;
        let subscription = Subscription { options, id, checked, durable: true, slice: slot.slice() };
        self.hearers.join(record.filter.by_ref(), slot.key, subscription);
        self.hearers.set_online(record.filter.by_ref(), slot.key, false);
        slot.subscriptions.insert(record.filter.clone(), held);
    }

    /// Sees to it that the store can know the session at `index`, which is to outlive its connection.
    pub(crate) fn make_durable(&mut self, index: usize) {
        let Some(slot) = self.sessions.get_mut(index).filter(|slot| !slot.is_durable()) else { return };
        slot.id = self.shared.new_session_id();
        self.shared.set_durable(slot.key, slot.durable());
    }

    /// Writes the record of the session at `index`. What it is told next waits until that is safe.
    pub(crate) fn keep_session(&mut self, index: usize, expiry: u32, disconnected: Option<Time>) {
        let Some(slot) = self.sessions.get(index) else { return };
        self.shared.set_durable(slot.key, slot.durable());
        let record = SessionRecord {
            id: slot.id,
            client_id: slot.client_id.clone(),
            username: slot.identity.username.clone(),
            is_local: slot.identity.local,
            mountpoint: slot.mountpoint.clone(),
            expiry,
            disconnected,
            will: slot.stored_will(),
            delayed_will: slot.delayed_will.as_ref().map(|due| (due.0, Arc::new(due.1.clone()))),
        };
        self.keep_record(index, Record::Session(record));
    }

    /// Writes the will of the session at `index`, which ends with its connection.
    pub(crate) fn keep_will(&mut self, index: usize) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        let Some(will) = slot.stored_will() else { return };
        slot.has_lone_will = true;
        let record = WillRecord {
            client_id: slot.client_id.clone(),
            username: slot.identity.username.clone(),
            is_local: slot.identity.local,
            mountpoint: slot.mountpoint.clone(),
            will,
        };
        self.keep_record(index, Record::Will(record));
    }

    /// Writes a record of the session at `index`; what it is told next waits until that is safe.
    pub(crate) fn keep_record(&mut self, index: usize, record: Record) {
        let what = match &record {
            Record::Session(_) => "session",
            Record::Subscription(_) => "subscription",
            Record::Retained(..) => "retained",
            Record::Will(_) => "will",
        };
        let result = self.store.put(self.clock, record);
        self.after_change(index, what, result);
    }

    /// Removes a record of the session at `index`; what it is told next waits until that is safe.
    pub(crate) fn forget_record(&mut self, index: usize, key: &Key) {
        let result = self.store.delete(self.clock, key);
        self.after_change(index, "subscription", result);
    }

    fn after_change(&mut self, index: usize, what: &'static str, result: Result<Accepted, StoreError>) {
        match result {
            Ok(accepted) => {
                // This broker's half of a bridge makes no promise to anybody, and what it subscribes to must not be missed.
                let slot = self.sessions.get(index).filter(|slot| !slot.identity.local);
                if let Some(connection) = slot.and_then(Slot::connection) {
                    self.hold_output(connection, accepted);
                }
            }
            Err(StoreError::Fenced { current, .. }) => self.fence(self.clock, index, Some(Epoch(current))),
            Err(_) => self.note_store_result(what, result),
        }
    }

    /// Logs a change that could not be written; the broker goes on with it in memory.
    pub(crate) fn note_store_result(&mut self, what: &'static str, result: Result<Accepted, StoreError>) {
        if let Err(error) = result {
            self.log.line(self.clock, |more| {
                tracing::warn!(
                    worker = self.worker.0, %error, more,
                    "a {what} record could not be kept and would be lost in a restart"
                );
            });
        }
    }
}

/// Puts exchanges into the order in which they were begun (MQTT-4.6.0-1, MQTT-4.6.0-1 of 3.1.1). The log has them in the order
/// in which their messages came, and one of QoS 2 is handed on later than that. Identifiers are taken one after the other,
/// so the first is behind the largest gap.
fn by_sending(open: &mut [InFlight]) {
    open.sort_unstable_by_key(|open| open.packet_id);
    let ids = |place: usize| open.get(place).map_or(0, |open| open.packet_id.get());
    let before = |place: usize| if place == 0 { ids(open.len().saturating_sub(1)) } else { ids(place - 1) };
    let first =
        (0..open.len()).max_by_key(|place| (ids(*place).wrapping_sub(before(*place)), std::cmp::Reverse(*place)));
    open.rotate_left(first.unwrap_or(0));
}

impl Slot {
    fn stored_will(&self) -> Option<StoredWill> {
        let will = self.will.as_deref()?;
        Some(StoredWill { message: Arc::new(will.message.clone()), delay: will.delay })
    }
}
