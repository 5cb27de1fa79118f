//! SUBSCRIBE and UNSUBSCRIBE: filters into the trie and out of it, and the rules that were granted under.

use viaduct_codec::{
    FilterRef, ReasonCode, RetainHandling, Subscribe, SubscribeEntry, Time, TopicFilter, Unsubscribe, Version,
};
use viaduct_router::Subscription;
use viaduct_session::LEAF_PROPERTY;
use viaduct_store::{Key, Record, SubscriptionRecord};

use crate::Engine;
use crate::authorize::{Grant, Who};
use crate::dispatch::levels;
use crate::held::Held;
use crate::registry::Slot;
use crate::routes::behind_share;

impl Engine {
    /// One filter after the other, then one SUBACK under the identifier of the SUBSCRIBE with one reason for each, in their
    /// order (MQTT-3.8.4-1, MQTT-3.8.4-1 of 3.1.1, MQTT-3.8.4-2, MQTT-3.8.4-2 of 3.1.1, MQTT-3.8.4-5, MQTT-3.8.4-4 of
    /// 3.1.1, MQTT-3.8.4-6, MQTT-3.8.4-5 of 3.1.1, MQTT-3.8.4-7, MQTT-3.9.3-1, MQTT-3.9.3-1 of 3.1.1).
    pub(crate) fn handle_subscribe(&mut self, now: Time, index: usize, subscribe: &Subscribe<'_>) {
        let mut reasons = Vec::with_capacity(subscribe.entries.len());
        let mut retained = Vec::new();
        for entry in &subscribe.entries {
            let granted = ReasonCode(entry.options.qos.bits());
            let reason = match self.subscribe_one(index, entry, subscribe.subscription_id) {
                Ok(Some(owed)) => {
                    retained.push(owed);
                    granted
                }
                Ok(None) => granted,
                Err(ReasonCode::NOT_AUTHORIZED) if self.version(index) != Some(Version::V31) => {
                    self.note_denied(now, index, "subscribe to", entry.filter.as_str());
                    ReasonCode::NOT_AUTHORIZED
                }
                // 3.1 has no word for a failure: the client is told yes and gets nothing.
                Err(_) if self.version(index) == Some(Version::V31) => granted,
                Err(reason) => reason,
            };
            reasons.push(reason);
        }
        let id = subscribe.packet_id;
        self.with_session(index, |session, output| session.suback(id, reasons, output));
        for (filter, held) in retained {
            self.owe_retained(index, filter.by_ref(), held.options.qos, held.id, held.checked);
        }
        self.replay(now, index);
    }

    /// One filter; `Some` when retained messages are owed for it.
    fn subscribe_one(
        &mut self,
        index: usize,
        entry: &SubscribeEntry<'_>,
        id: Option<viaduct_codec::VarInt>,
    ) -> Result<Option<(TopicFilter, Held)>, ReasonCode> {
        let slot = self.sessions.get(index).ok_or(ReasonCode::UNSPECIFIED_ERROR)?;
        if levels(behind_share(entry.filter).as_str()) > self.settings.max_topic_levels {
            return Err(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let filter = slot.mounted_filter(entry.filter).ok_or(ReasonCode::TOPIC_FILTER_INVALID)?;
        let is_new = slot.subscriptions.get(&filter).is_none();
        let full = self.settings.max_subscriptions_per_session.is_some_and(|max| slot.subscriptions.len() >= max);
        if is_new && full {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        let checked = match self.grant(slot, entry.filter) {
            Grant::Denied => return Err(ReasonCode::NOT_AUTHORIZED),
            Grant::Checked => true,
            Grant::Granted => false,
        };
        let mut options = entry.options;
        // A bridge of 3.x marks itself by bit 7 because it has no options to say it with.
        if slot.session.level().is_some_and(viaduct_codec::Level::is_bridge) {
            options.no_local = true;
            options.retain_as_published = true;
        }
        let held = Held { options, id, checked };
        let key = slot.key;
        let (client_id, durable, slice) = (slot.client_id.clone(), slot.is_durable(), slot.slice());
        self.hearers.join(filter.by_ref(), key, Subscription { options, id, checked, durable, slice });
        // From here on it is effective: SUBACK comes after. One that was held before is replaced and never missing
        // meanwhile (MQTT-3.8.4-3, MQTT-3.8.4-3 of 3.1.1).
        if let Some(slot) = self.sessions.get_mut(index) {
            slot.subscriptions.insert(filter.clone(), held.clone());
        }
        self.note_asked(index, &filter, true);
        if durable {
            let record = SubscriptionRecord { client_id, filter: filter.clone(), options, id };
            self.keep_record(index, Record::Subscription(record));
        }
        let wanted = match options.retain_handling {
            RetainHandling::Send => true,        // MQTT-3.3.1-9, MQTT-3.8.4-4, MQTT-3.3.1-6 of 3.1.1
            RetainHandling::SendIfNew => is_new, // MQTT-3.3.1-10
            RetainHandling::DoNotSend => false,  // MQTT-3.3.1-11
        };
        let is_shared = entry.filter.share().is_some(); // No retained messages for a share group.
        Ok((wanted && !is_shared).then_some((filter, held)))
    }

    /// One filter after the other, then one UNSUBACK under the identifier of the UNSUBSCRIBE, whether anything was deleted or
    /// not (MQTT-3.10.4-4, MQTT-3.10.4-4 of 3.1.1, MQTT-3.10.4-5, MQTT-3.10.4-5 of 3.1.1, MQTT-3.10.4-6,
    /// MQTT-3.10.4-6 of 3.1.1, MQTT-3.11.3-1).
    pub(crate) fn handle_unsubscribe(&mut self, now: Time, index: usize, unsubscribe: &Unsubscribe<'_>) {
        if unsubscribe.user_properties.iter().any(|said| said == (LEAF_PROPERTY, "0")) {
            self.note_no_leaf(index);
        }
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            reasons.push(self.unsubscribe_one(now, index, *filter));
        }
        let id = unsubscribe.packet_id;
        self.with_session(index, |session, output| session.unsuback(id, reasons, output));
    }

    /// Deletes the subscription whose filter is the same, character by character (MQTT-3.10.4-1, MQTT-3.10.4-1 of 3.1.1).
    /// What was sent for it and is not acknowledged goes on (MQTT-3.10.4-3, MQTT-3.10.4-3 of 3.1.1), nothing is added
    /// (MQTT-3.10.4-2, MQTT-3.10.4-2 of 3.1.1).
    fn unsubscribe_one(&mut self, now: Time, index: usize, filter: FilterRef<'_>) -> ReasonCode {
        let Some(slot) = self.sessions.get_mut(index) else { return ReasonCode::UNSPECIFIED_ERROR };
        let Some(filter) = slot.mounted_filter(filter) else { return ReasonCode::NO_SUBSCRIPTION_EXISTED };
        if !slot.subscriptions.remove(&filter) {
            return ReasonCode::NO_SUBSCRIPTION_EXISTED;
        }
        if let Some(replays) = &mut slot.replays {
            replays.retain(|replay| !replay.is_for(filter.by_ref())); // Nothing new for it from here on (MQTT-3.10.4-2).
        }
        let (key, client_id, durable) = (slot.key, slot.client_id.clone(), slot.is_durable());
        self.hearers.leave(filter.by_ref(), key);
        self.note_asked(index, &filter, false);
        if durable {
            self.forget_record(index, &Key::Subscription(client_id, filter.clone()));
        }
        if filter.by_ref().share().is_some() {
            // What waits for this member and was never sent goes to the others of the group.
            let owed = self.with_session(index, |session, _| session.take_shared(Some(filter.as_str())));
            for delivery in owed.unwrap_or_default() {
                self.find_another_member(now, key, delivery, 0);
            }
        }
        ReasonCode::SUCCESS
    }

    /// Ends every subscription of the session of `client_id`, if it lives here: what waits for it is all that it will get.
    pub fn end_subscriptions(&mut self, now: Time, client_id: &str) {
        let Some(index) = self.sessions.by_client(client_id) else { return };
        let filters: Vec<TopicFilter> = self.sessions.get(index).map_or_else(Vec::new, |slot| {
            slot.subscriptions.iter().map(|(filter, _)| slot.unmounted_filter(filter)).collect()
        });
        for filter in &filters {
            self.unsubscribe_one(now, index, filter.by_ref());
        }
    }

    /// What the rules say to a subscription of `slot`.
    fn grant(&self, slot: &Slot, filter: FilterRef<'_>) -> Grant {
        let authorizer = &self.authorizer;
        if slot.identity.local || authorizer.is_open() {
            return Grant::Granted;
        }
        let who = Who { client_id: slot.client_id.as_str(), username: slot.identity.username.as_deref() };
        authorizer.subscribe(&who, behind_share(filter))
    }

    /// When the rules changed since this worker looked: every subscription is judged anew. One that is denied now stays
    /// with the session, as the client believes, and delivers nothing, so that it works again when it is allowed again.
    pub(crate) fn notice_new_rules(&mut self, now: Time) {
        self.clock = now;
        self.notice_lost(now);
        let rules = self.shared.rules();
        if rules == self.rules {
            return;
        }
        self.rules = rules;
        self.authorizer = self.shared.authorizer();
        for index in self.sessions.indices() {
            let Some(slot) = self.sessions.get(index) else { continue };
            let changed: Vec<_> = slot
                .subscriptions
                .iter()
                .map(|(filter, held)| {
                    let own = slot.unmounted_filter(filter);
                    let checked = self.grant(slot, own.by_ref()) != Grant::Granted;
                    (filter.clone(), Held { checked, ..held.clone() })
                })
                .filter(|(filter, held)| slot.subscriptions.get(filter) != Some(held))
                .collect();
            let (key, durable, slice) = (slot.key, slot.is_durable(), slot.slice());
            for (filter, held) in changed {
                let Held { options, id, checked } = held;
                let subscription = Subscription { options, id, checked, durable, slice };
                self.hearers.join(filter.by_ref(), key, subscription);
                if let Some(slot) = self.sessions.get_mut(index) {
                    slot.subscriptions.insert(filter, held);
                }
            }
        }
    }

    fn version(&self, index: usize) -> Option<Version> {
        self.sessions.get(index)?.session.version()
    }
}
