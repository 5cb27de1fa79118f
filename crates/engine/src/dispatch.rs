//! One message to everybody who hears it: sessions of this worker at once, those of others by mail, and one member of
//! each share group.

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{Message, Time, TopicFilter, TopicName, TopicRef};
use viaduct_router::{Merged, RouteSet, SharedRoute};
use viaduct_session::server::{Ending, Session};
use viaduct_session::{Delivered, Delivery, DropReason, Output};

use crate::Engine;
use crate::authorize::Who;
use crate::connections::CloseReason;
use crate::key::SessionKey;
use crate::limits::SHARED_HOPS;
use crate::mail::Item;
use crate::registry::Slot;
use crate::retained::Kept;
use crate::stats::Dropped;

/// Levels of a topic name or filter.
pub(crate) fn levels(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'/').count() + 1
}

impl Engine {
    /// Hands `message` to everybody who hears it (MQTT-4.5.0-1, MQTT-4.5.0-1 of 3.1.1); whether anybody does.
    pub(crate) fn dispatch(&mut self, now: Time, message: &Arc<Message>, publisher: Option<SessionKey>) -> bool {
        let routes = self.cache.look_up(&self.shared.routes, &message.topic);
        self.dispatch_to(now, message, &routes, publisher)
    }

    /// Hands `message` to everybody in `routes`, who hear its topic; whether anybody does.
    pub(crate) fn dispatch_to(
        &mut self,
        now: Time,
        message: &Arc<Message>,
        routes: &Arc<RouteSet<SessionKey>>,
        publisher: Option<SessionKey>,
    ) -> bool {
        let mut heard = false;
        let mut told = None;
        for route in routes.routes() {
            heard |= route.for_publisher(publisher == Some(route.key)).is_some();
            let worker = route.key.worker;
            if worker != self.worker.0 && told != Some(worker) {
                told = Some(worker);
                let (message, routes) = (Arc::clone(message), Arc::clone(routes));
                self.outbox.push(worker, Item::Routed { message, routes, publisher });
            }
        }
        self.deliver_here(now, message, routes, publisher);
        for group in routes.shared() {
            heard |= self.dispatch_shared(now, message, group, None, 0);
        }
        heard
    }

    /// Hands `message` to those of `routes` that live on this worker.
    pub(crate) fn deliver_here(
        &mut self,
        now: Time,
        message: &Arc<Message>,
        routes: &RouteSet<SessionKey>,
        publisher: Option<SessionKey>,
    ) {
        for route in routes.routes() {
            if route.key.worker != self.worker.0 {
                continue;
            }
            let Some(merged) = route.for_publisher(publisher == Some(route.key)) else { continue };
            let Some(index) = self.sessions.find(route.key) else { continue };
            if merged.checked && !self.may_read(index, message) {
                self.stats.dropped(Dropped::NotReadable, 1);
                continue;
            }
            self.hand_over(now, index, delivery(message, merged, None));
        }
    }

    /// Hands `message` to one member of `group`, other than `but`; whether there was one.
    pub(crate) fn dispatch_shared(
        &mut self,
        now: Time,
        message: &Arc<Message>,
        group: &SharedRoute<SessionKey>,
        but: Option<SessionKey>,
        hops: u8,
    ) -> bool {
        let Some(member) = group.pick_excluding(group.turn(), |key| Some(*key) == but) else { return false };
        let (key, checked) = (member.key, member.merged.checked);
        let delivery = delivery(message, &member.merged, Some(Arc::clone(group.filter())));
        if key.worker == self.worker.0 {
            self.deliver_to_member(now, key, delivery, checked, hops);
        } else {
            self.outbox.push(key.worker, Item::Chosen { member: key, delivery, checked, hops });
        }
        true
    }

    /// Hands a message of a share group to the member that was chosen; another one is looked for when it has gone.
    pub(crate) fn deliver_to_member(
        &mut self,
        now: Time,
        member: SessionKey,
        delivery: Delivery,
        checked: bool,
        hops: u8,
    ) {
        match self.sessions.find(member) {
            None => self.find_another_member(now, member, delivery, hops),
            Some(index) if checked && !self.may_read(index, &delivery.message) => {
                self.stats.dropped(Dropped::NotReadable, 1);
            }
            Some(index) => self.hand_over(now, index, delivery),
        }
    }

    /// Hands a message that a member of a share group can't take any more to another one.
    pub(crate) fn find_another_member(&mut self, now: Time, gone: SessionKey, delivery: Delivery, hops: u8) {
        let message = delivery.message;
        let routes = self.cache.look_up(&self.shared.routes, &message.topic);
        let group = routes.shared().iter().find(|group| Some(&**group.filter()) == delivery.group.as_deref());
        let found = hops < SHARED_HOPS
            && group.is_some_and(|group| self.dispatch_shared(now, &message, group, Some(gone), hops + 1));
        if !found {
            self.stats.dropped(Dropped::NoMember, 1);
        }
    }

    /// Gives the session at `index` a message that it may have.
    pub(crate) fn hand_over(&mut self, now: Time, index: usize, mut delivery: Delivery) {
        let Some(slot) = self.sessions.get(index) else { return };
        if slot.mountpoint.is_some() {
            // Without the mountpoint there has to be a topic left: the mountpoint alone is none that the client could name.
            let Some(unmounted) = slot.unmounted(&delivery.message) else { return };
            delivery.message = unmounted;
        }
        let waits = slot.connection().is_none() || slot.session.queued().0 > 0;
        if waits && self.is_memory_full() {
            self.note_drop(now, index, Dropped::Memory);
            return;
        }
        let payload = delivery.message.payload.len() as u64;
        match self.with_session(index, |session, output| session.deliver(now, delivery, output)) {
            Some(Delivered::Sent | Delivered::Queued) => self.stats.payload_bytes_sent.add(payload),
            Some(Delivered::Dropped(why)) => self.note_drop(now, index, dropped(why)),
            Some(Delivered::Overflow) => {
                self.stats.dropped(Dropped::QueueFull, 1);
                let (client_id, peer) = (self.client_id(index), self.peer(index).unwrap_or_default());
                self.log.line(now, |more| {
                    tracing::warn!(
                        %client_id, %peer, more,
                        "closed: its queue is full (session.max_queued_messages, session.max_queued_bytes) and \
                         session.on_full is \"disconnect\""
                    );
                });
                let reason = Some(viaduct_codec::ReasonCode::QUOTA_EXCEEDED);
                self.end_connection(now, index, reason, CloseReason::QueueOverflow, Ending::Lost);
            }
            None => {}
        }
    }

    /// Moves what may move from the session's queue to the wire.
    pub(crate) fn pump(&mut self, now: Time, index: usize) {
        self.with_session(index, |session, output| session.pump(now, output));
    }

    /// Runs `f` on a session and the output of its connection, and keeps the numbers and the list of who has something
    /// to write in step with what it did.
    pub(crate) fn with_session<R>(
        &mut self,
        index: usize,
        f: impl FnOnce(&mut Session, &mut Output) -> R,
    ) -> Option<R> {
        let slot = self.sessions.get_mut(index)?;
        let (messages, bytes) = slot.session.queued();
        let inflight = slot.session.inflight();
        let result = match slot.connection().and_then(|c| Some((c, self.connections.writable(c)?))) {
            Some((c, connection)) => {
                let result = f(&mut slot.session, &mut connection.output);
                self.connections.settle(c);
                result
            }
            None => f(&mut slot.session, &mut self.nowhere),
        };
        let counts = slot.session.take_counts();
        for (counter, sent) in self.stats.messages_sent.iter().zip(counts.sent) {
            counter.add(sent.into());
        }
        let lost = [
            (Dropped::Expired, counts.expired),
            (Dropped::TooLarge, counts.too_large),
            (Dropped::QueueFull, counts.displaced),
        ];
        for (why, count) in lost.into_iter().filter(|(_, count)| *count > 0) {
            slot.trouble().dropped += u64::from(count);
            self.stats.dropped(why, count.into());
        }
        let (messages_now, bytes_now) = slot.session.queued();
        if (messages_now, bytes_now) != (messages, bytes) {
            step(&self.stats.queued_messages, messages, messages_now);
            step(&self.stats.queued_bytes, bytes, bytes_now);
            let change = i64::try_from(bytes_now).unwrap_or(i64::MAX) - i64::try_from(bytes).unwrap_or(i64::MAX);
            self.shared.change_queued_bytes(change);
        }
        step(&self.stats.inflight_messages, inflight, slot.session.inflight());
        Some(result)
    }

    /// Whether queues and retained messages hold all that the operator allows.
    fn is_memory_full(&self) -> bool {
        self.settings.memory.is_some_and(|max| self.shared.queued_bytes() + self.shared.retained().1 >= max)
    }

    pub(crate) fn client_id(&self, index: usize) -> viaduct_codec::ClientId {
        self.sessions.get(index).map_or_else(|| "".into(), |slot| slot.client_id.clone())
    }

    /// Keeps or clears the retained message of a topic, if `message` asks for it and the limits allow it.
    pub(crate) fn retain(&mut self, message: &Arc<Message>) {
        if !message.retain || !self.settings.retained.enabled {
            return; // MQTT-3.3.1-8, MQTT-3.3.1-12 of 3.1.1
        }
        if !message.payload.is_empty() && self.is_memory_full() {
            self.stats.dropped(Dropped::Memory, 1);
            return;
        }
        let result = match self.shared.retained.keep(message, &self.settings.retained) {
            Kept::Set => self.store.put(viaduct_store::Record::Retained(Arc::clone(message))),
            Kept::Cleared => self.store.delete(&viaduct_store::Key::Retained(message.topic.clone())),
            Kept::Refused => return self.stats.dropped(Dropped::RetainedLimit, 1),
        };
        self.note_store_result("retained", result);
    }

    /// Whether the session at `index` may receive `message`.
    pub(crate) fn may_read(&self, index: usize, message: &Message) -> bool {
        let Some(slot) = self.sessions.get(index) else { return false };
        let authorizer = &self.authorizer;
        if slot.identity.local || authorizer.is_open() {
            return true;
        }
        let topic = slot.without_mountpoint(message.topic.as_str());
        let who = Who { client_id: slot.client_id.as_str(), username: slot.identity.username.as_deref() };
        authorizer.read(&who, topic)
    }

    /// Counts a message that the session at `index` will not get, and says so once a minute and session.
    fn note_drop(&mut self, now: Time, index: usize, why: Dropped) {
        self.stats.dropped(why, 1);
        let Some(slot) = self.sessions.get_mut(index) else { return };
        let trouble = slot.trouble();
        trouble.dropped += 1;
        let quiet = why == Dropped::Offline // What every QoS 0 message to an absent session is.
            || trouble.drops_logged.is_some_and(|at| now.since(at) < crate::limits::STORM_LOG);
        if !quiet {
            trouble.drops_logged = Some(now);
            let (messages, bytes) = slot.session.queued();
            tracing::warn!(
                client_id = %slot.client_id, reason = why.name(), queued_messages = messages, queued_bytes = bytes,
                "messages for this session are dropped; further drops are counted and said again in a minute"
            );
        }
    }
}

impl Slot {
    /// `topic` as the rest of the broker knows it; `None` when it is the same, or too long with the mountpoint.
    pub(crate) fn mounted(&self, topic: TopicRef<'_>) -> Option<TopicName> {
        let mountpoint = self.mountpoint.as_deref()?;
        TopicName::new(&format!("{mountpoint}{topic}")).ok()
    }

    /// `filter` as the rest of the broker knows it; `None` when it is too long with the mountpoint.
    pub(crate) fn mounted_filter(&self, filter: viaduct_codec::FilterRef<'_>) -> Option<TopicFilter> {
        let Some(mountpoint) = self.mountpoint.as_deref() else { return Some(filter.to_owned()) };
        match filter.share() {
            Some(share) => TopicFilter::new(&format!("$share/{}/{mountpoint}{}", share.name, share.filter)).ok(),
            None => TopicFilter::new(&format!("{mountpoint}{filter}")).ok(),
        }
    }

    /// The filter behind the share name as the client wrote it.
    pub(crate) fn unmounted_filter(&self, filter: &TopicFilter) -> TopicFilter {
        let plain = crate::routes::behind_share(filter.by_ref());
        TopicFilter::new(self.without_mountpoint(plain.as_str())).unwrap_or_else(|_| plain.to_owned())
    }

    pub(crate) fn without_mountpoint<'a>(&self, topic: &'a str) -> &'a str {
        self.mountpoint.as_deref().and_then(|mountpoint| topic.strip_prefix(mountpoint)).unwrap_or(topic)
    }

    /// `message` with the topics that the client knows; `None` when there is none.
    fn unmounted(&self, message: &Arc<Message>) -> Option<Arc<Message>> {
        let mut own = Message::clone(message);
        own.topic = TopicName::new(self.without_mountpoint(message.topic.as_str())).ok()?;
        if let Some(properties) = &mut own.properties
            && let Some(response) = &properties.response_topic
        {
            properties.response_topic = TopicName::new(self.without_mountpoint(response.as_str())).ok();
        }
        own.payload = Bytes::clone(&message.payload);
        Some(Arc::new(own))
    }
}

/// The delivery of `message` under one session's merged subscriptions: one copy, at the highest QoS that they grant and no
/// higher than its own (MQTT-3.8.4-8, MQTT-3.8.4-6 of 3.1.1, MQTT-4.8.2-3), with all of their identifiers
/// (MQTT-3.3.4-3, MQTT-3.3.4-5).
pub(crate) fn delivery(message: &Arc<Message>, merged: &Merged, group: Option<Arc<str>>) -> Delivery {
    Delivery {
        message: Arc::clone(message),
        qos: merged.qos.min(message.qos),
        // A live message keeps RETAIN only for whoever asked for it (MQTT-3.3.1-12, MQTT-3.3.1-13,
        // MQTT-3.3.1-9 of 3.1.1).
        retain: message.retain && merged.retain_as_published,
        ids: merged.ids.clone(),
        group,
    }
}

fn step(counter: &crate::stats::Counter, before: usize, now: usize) {
    if now >= before {
        counter.add((now - before) as u64);
    } else {
        counter.sub((before - now) as u64);
    }
}

fn dropped(why: DropReason) -> Dropped {
    match why {
        DropReason::QueueFull => Dropped::QueueFull,
        DropReason::Expired => Dropped::Expired,
        DropReason::TooLarge => Dropped::TooLarge,
        DropReason::Offline => Dropped::Offline,
    }
}
