//! One message to everybody who hears it: sessions of this worker at once, those of others by mail, and one member of
//! each share group.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_codec::{Kept, Message, QoS, SubscriptionIds, Time, TopicFilter, TopicName, TopicRef};
use viaduct_router::{Merged, RouteSet, SharedRoute};
use viaduct_session::server::{Ending, Session};
use viaduct_session::{Delivered, Delivery, DropReason, Output};
use viaduct_store::{Accepted, Record, StoreError};

use crate::Engine;
use crate::acks::Waiter;
use crate::authorize::Who;
use crate::connections::CloseReason;
use crate::keep::owed;
use crate::key::{SessionKey, WorkerId};
use crate::limits::{EXPIRY_INTERVAL, EXPIRY_PAUSE, EXPIRY_SWEEP, SHARED_HOPS};
use crate::mail::Item;
use crate::registry::Slot;
use crate::retained::Change;
use crate::seams::News;
use crate::stats::Dropped;

/// Levels of a topic name or filter.
pub(crate) fn levels(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'/').count() + 1
}

/// A message with everybody who is to get it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) message: Arc<Message>,
    pub(crate) routes: Arc<RouteSet<SessionKey>>,
    /// One member of each share group.
    pub(crate) chosen: Vec<Chosen>,
    pub(crate) publisher: Option<SessionKey>,
    /// Where the store keeps who is owed it, if anybody is who outlives a connection.
    pub(crate) kept: Option<Arc<Kept>>,
}

/// Messages of one topic and QoS on their way to those who hear them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) messages: &'a [Arc<Message>],
    /// Where the store keeps who is owed them, and the first place of the first of them there.
    pub(crate) kept: Option<&'a Arc<Kept>>,
    pub(crate) first: u32,
}

impl Batch<'_> {
    /// Each message with its first place.
    fn iter(&self) -> impl Iterator<Item = (&Arc<Message>, u32)> {
        let stride = self.kept.map_or(0, |kept| kept.stride());
        self.messages.iter().zip((0..).map(move |number| self.first + number * stride))
    }
}

/// A member of a share group whose turn it is.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) member: SessionKey,
    pub(crate) delivery: Delivery,
    checked: bool,
    /// It is owed the message beyond its connection.
    pub(crate) durable: bool,
}

impl Plan {
    /// Whether anybody hears the message.
    pub(crate) fn is_heard(&self) -> bool {
        !self.chosen.is_empty() || is_heard(&self.routes, self.publisher)
    }

    /// Nobody is to get it after all, so nobody is owed it.
    pub(crate) fn abandon(self) {
        if let Some(kept) = &self.kept {
            (0..kept.places()).for_each(|index| drop(kept.place(index)));
        }
    }
}

impl Engine {
    /// Hands `message` to everybody who hears it (MQTT-4.5.0-1, MQTT-4.5.0-1 of 3.1.1).
    pub(crate) fn dispatch(&mut self, now: Time, message: &Arc<Message>, publisher: Option<SessionKey>) {
        let routes = self.hearers.who(&message.topic);
        let mut plan = self.plan(Arc::clone(message), routes, publisher);
        let owed = self.owed_list(message, &plan.routes, &plan.chosen, publisher);
        let mut holds = None;
        if !owed.is_empty() {
            match self.store.append(now, message, owed.into(), None, 0) {
                Ok(appended) => {
                    plan.kept = appended.kept;
                    if let (QoS::ExactlyOnce, Accepted::Pending(ticket)) = (message.qos, appended.accepted) {
                        // Handed on before it is safe, it would come a second time after a crash.
                        holds = Some(ticket);
                    }
                }
                Err(error) => {
                    let is_fenced = matches!(error, StoreError::Fenced { .. });
                    self.note_store_result("message", Err(error));
                    if is_fenced {
                        return plan.abandon(); // It is the new owner's to publish.
                    }
                }
            }
        }
        match (publisher, holds) {
            // One will may come close behind another.
            (Some(key), _) => self.hand_on_behind(now, key, plan, holds),
            (None, Some(ticket)) => self.wait(ticket, Waiter::Message(Box::new(plan))),
            (None, None) => _ = self.carry_out(now, plan),
        }
    }

    /// Everybody in `routes` who is to get `message`.
    pub(crate) fn plan(
        &self,
        message: Arc<Message>,
        routes: Arc<RouteSet<SessionKey>>,
        publisher: Option<SessionKey>,
    ) -> Plan {
        let chosen = routes.shared().iter().filter_map(|group| choose(&message, group, None)).collect();
        Plan { message, routes, chosen, publisher, kept: None }
    }

    /// Hands the message of `plan` to those who are to get it, and gives back what the store keeps of it.
    pub(crate) fn carry_out(&mut self, now: Time, plan: Plan) -> Option<Arc<Kept>> {
        let Plan { message, routes, chosen, publisher, kept } = plan;
        let batch = Batch { messages: std::slice::from_ref(&message), kept: kept.as_ref(), first: 0 };
        let mut place = self.deliver(now, batch, &routes, publisher);
        for mut chosen in chosen {
            if let (true, Some(kept)) = (chosen.durable, &kept) {
                chosen.delivery.kept = Some(kept.place(place));
                place += 1;
            }
            self.send_to_member(now, chosen, 0);
        }
        kept
    }

    /// Hands `batch` to everybody in `routes`. How many places each message has there with the store.
    pub(crate) fn deliver(
        &mut self,
        now: Time,
        batch: Batch<'_>,
        routes: &Arc<RouteSet<SessionKey>>,
        publisher: Option<SessionKey>,
    ) -> u32 {
        let mut told = None;
        for route in routes.routes() {
            let worker = route.key.worker;
            if worker != self.worker.0 && told != Some(worker) {
                told = Some(worker);
                for (message, first) in batch.iter() {
                    let (message, routes, kept) = (Arc::clone(message), Arc::clone(routes), batch.kept.cloned());
                    let item = Item::Routed { message, routes, publisher, kept, first };
                    self.hearers.tell(WorkerId(worker), News(item));
                }
            }
        }
        self.deliver_here(now, batch, routes, publisher)
    }

    /// The same to those of `routes` that live on this worker.
    pub(crate) fn deliver_here(
        &mut self,
        now: Time,
        batch: Batch<'_>,
        routes: &RouteSet<SessionKey>,
        publisher: Option<SessionKey>,
    ) -> u32 {
        let (mut next_place, mut is_any_away) = (0, false);
        let Some(like) = batch.messages.first() else { return next_place };
        for route in routes.routes() {
            let owed = owed(route, like, publisher).map(|_| next_place);
            next_place += u32::from(owed.is_some());
            if route.key.worker != self.worker.0 {
                continue;
            }
            // From here on each is owed by whoever holds its place; if nobody comes to hold it, it is settled.
            let place = |first: u32| Some(batch.kept?.place(first + owed?));
            let settle = || batch.iter().for_each(|(_, first)| drop(place(first)));
            let merged = route.for_publisher(publisher == Some(route.key));
            let (Some(merged), Some(index)) = (merged, self.sessions.find(route.key)) else {
                settle();
                continue;
            };
            if merged.checked && !self.may_read(index, like) {
                settle();
                self.stats.dropped(Dropped::NotReadable, batch.messages.len() as u64);
                continue;
            }
            let each = |(message, first)| Delivery { kept: place(first), ..delivery(message, merged, None) };
            is_any_away |= self.hand_over_all(now, index, batch.iter().map(each));
        }
        if is_any_away && batch.kept.is_some() {
            self.leave_to_store(routes);
        }
        next_place
    }

    /// What those of `routes` are owed whose clients are away is made ready to be written, and need not be in memory any more: while
    /// it is still near the processor, taking it apart costs half.
    fn leave_to_store(&mut self, routes: &RouteSet<SessionKey>) {
        self.store.delivered();
        for route in routes.routes().iter().filter(|route| route.key.worker == self.worker.0) {
            let index = self.sessions.find(route.key);
            let slot = index.and_then(|index| self.sessions.get_mut(index));
            if let Some(slot) = slot.filter(|slot| slot.connection().is_none()) {
                slot.session.shed();
            }
        }
    }

    /// Hands a message to the member of `group` whose turn it is.
    pub(crate) fn send_to_one(&mut self, now: Time, message: &Arc<Message>, group: &SharedRoute<SessionKey>) {
        if let Some(chosen) = choose(message, group, None) {
            self.send_to_member(now, chosen, 0);
        }
    }

    /// Hands a message to the member of a share group that was chosen.
    fn send_to_member(&mut self, now: Time, chosen: Chosen, hops: u8) {
        let Chosen { member, delivery, checked, .. } = chosen;
        if member.worker == self.worker.0 {
            self.deliver_to_member(now, member, delivery, checked, hops);
        } else {
            let item = Item::Chosen { member, delivery, checked, hops };
            self.hearers.tell(WorkerId(member.worker), News(item));
        }
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
        let Delivery { message, group, kept, .. } = delivery;
        let routes = self.hearers.who(&message.topic);
        let group = routes.shared().iter().find(|other| Some(&**other.filter()) == group.as_deref());
        let chosen = group.filter(|_| hops < SHARED_HOPS).and_then(|group| choose(&message, group, Some(gone)));
        match chosen {
            Some(chosen) => self.send_to_member(now, chosen, hops + 1),
            None => self.stats.dropped(Dropped::NoMember, 1),
        }
        drop(kept); // Only now: until the next member owes it, this place stands for it.
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
        self.keep_delivery(index, &mut delivery);
        let payload = delivery.message.payload.len() as u64;
        match self.with_session(index, |session, output| session.deliver(now, delivery, output)) {
            Some(Delivered::Sent | Delivered::Queued) => self.stats.payload_bytes_sent.add(payload),
            Some(refused) => self.note_refused(now, index, refused),
            None => {}
        }
    }

    /// The same for several, with one look at a session for which nothing waits, or whose client is away; whether it is.
    pub(crate) fn hand_over_all(
        &mut self,
        now: Time,
        index: usize,
        mut deliveries: impl Iterator<Item = Delivery>,
    ) -> bool {
        let mut odd = None;
        let Some(slot) = self.sessions.get(index) else {
            deliveries.for_each(drop); // It settles them.
            return false;
        };
        let (is_durable, is_away) = (slot.is_durable(), slot.connection().is_none());
        if slot.mountpoint.is_none() {
            let mut payload = 0;
            // What waits in memory is bounded; the first that may be too much is looked at by itself.
            let room = if is_away { self.memory_left() } else { 0 };
            let refused = self.with_session(index, |session, output| {
                let before = if is_away { session.queued().1 } else { 0 };
                let takes = |session: &Session| match is_away {
                    true => room > session.queued().1.saturating_sub(before) as u64,
                    false => session.queued().0 == 0,
                };
                while takes(session) {
                    let delivery = deliveries.next()?;
                    if is_durable && delivery.kept.is_none() && delivery.qos > QoS::AtMostOnce {
                        odd = Some(delivery); // It is kept first.
                        return None;
                    }
                    let bytes = delivery.message.payload.len() as u64;
                    match session.deliver(now, delivery, output) {
                        Delivered::Sent | Delivered::Queued => payload += bytes,
                        refused => return Some(refused),
                    }
                }
                None
            });
            self.stats.payload_bytes_sent.add(payload);
            if let Some(refused) = refused.flatten() {
                self.note_refused(now, index, refused);
            }
        }
        for delivery in odd.into_iter().chain(deliveries) {
            self.hand_over(now, index, delivery);
        }
        is_away
    }

    /// The session at `index` did not take a message.
    fn note_refused(&mut self, now: Time, index: usize, refused: Delivered) {
        match refused {
            Delivered::Sent | Delivered::Queued => {}
            Delivered::Dropped(why) => self.note_drop(now, index, dropped(why)),
            Delivered::Overflow => {
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
        }
    }

    /// Moves what may move from the session's queue to the wire.
    pub(crate) fn pump(&mut self, now: Time, index: usize) {
        self.with_session(index, |session, output| session.pump(now, output));
    }

    /// As [`Engine::with_output`]; then the store is told what the session noted, and asked for what it can send next.
    pub(crate) fn with_session<R>(
        &mut self,
        index: usize,
        f: impl FnOnce(&mut Session, &mut Output) -> R,
    ) -> Option<R> {
        let result = self.with_output(index, f)?;
        self.keep_notes(index);
        if self.sessions.get(index).is_some_and(|slot| slot.session.waits_for_page()) {
            self.page(index);
            self.keep_notes(index); // What was read has been sent, or waits until it may be.
        }
        Some(result)
    }

    /// Runs `f` on a session and the output of its connection, and keeps the numbers and the list of who has something
    /// to write in step with what it did.
    pub(crate) fn with_output<R>(&mut self, index: usize, f: impl FnOnce(&mut Session, &mut Output) -> R) -> Option<R> {
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
        if counts.late > 0
            && let Some(connection) = slot.connection().and_then(|c| self.connections.get_mut(c))
        {
            connection.answers_late = true;
        }
        for (counter, sent) in self.stats.messages_sent.iter().zip(counts.sent) {
            counter.add(sent.into());
        }
        let lost = [
            (Dropped::Expired, counts.expired),
            (Dropped::TooOld, counts.too_old),
            (Dropped::TooLarge, counts.too_large),
            (Dropped::QueueFull, counts.displaced),
        ];
        for (why, count) in lost.into_iter().filter(|(_, count)| *count > 0) {
            slot.trouble().count(why, count.into());
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
        self.memory_left() == 0
    }

    /// Bytes that queues and retained messages may hold beyond what they do.
    pub(crate) fn memory_left(&self) -> u64 {
        let held = || self.shared.queued_bytes() + self.shared.retained().1;
        self.settings.memory.map_or(u64::MAX, |max| max.saturating_sub(held()))
    }

    pub(crate) fn client_id(&self, index: usize) -> viaduct_codec::ClientId {
        self.sessions.get(index).map_or_else(|| "".into(), |slot| slot.client_id.clone())
    }

    /// Keeps or clears the retained message of a topic, if `message` asks for it and the limits allow it.
    pub(crate) fn retain(&mut self, message: &Arc<Message>) -> Result<Accepted, StoreError> {
        if !message.retain || !self.settings.retained.enabled {
            return Ok(Accepted::Safe); // MQTT-3.3.1-8, MQTT-3.3.1-12 of 3.1.1
        }
        self.change_retained(message)
    }

    /// As [`Engine::retain`], whatever `message` and the settings say about it.
    fn change_retained(&mut self, message: &Arc<Message>) -> Result<Accepted, StoreError> {
        if !message.payload.is_empty() && self.is_memory_full() {
            self.stats.dropped(Dropped::Memory, 1);
            return Ok(Accepted::Safe);
        }
        let change = self.shared.retained.keep(message, &self.settings.retained);
        if message.topic.as_str().starts_with("$SYS/") {
            return Ok(Accepted::Safe); // Said anew after every start.
        }
        match change {
            // An empty payload says that there is none any more.
            Change::Made(version, before) => {
                let taken = self.store.put(self.clock, Record::Retained(Arc::clone(message), version));
                if taken.is_err() {
                    // Nobody is to hear now what would be gone after a restart.
                    self.shared.retained.undo(message, before.as_ref());
                }
                taken
            }
            Change::Refused => {
                self.stats.dropped(Dropped::RetainedLimit, 1);
                Ok(Accepted::Safe)
            }
        }
    }

    /// Takes the retained message of `topic` away at the operator's word and tells nobody, as when one expires. `false` when there
    /// is none.
    ///
    /// # Errors
    /// The store does not take it; the message stays.
    pub fn clear_retained(&mut self, now: Time, topic: &TopicName) -> Result<bool, StoreError> {
        self.notice_new_rules(now);
        if self.shared.retained.get(topic.by_ref()).is_none() {
            return Ok(false);
        }
        self.change_retained(&nothing_at(topic, now)).map(|_| true)
    }

    /// Takes retained messages that have expired out of memory and out of the store; how long until it is to be done again.
    pub(crate) fn sweep_retained(&mut self, now: Time) -> Duration {
        if self.store.is_congested() {
            return EXPIRY_PAUSE;
        }
        let expired = self.shared.retained.remove_expired(now, EXPIRY_SWEEP);
        let mut pause = if expired.len() < EXPIRY_SWEEP { EXPIRY_INTERVAL } else { EXPIRY_PAUSE };
        for (before, version) in expired {
            let cleared = nothing_at(&before.topic, now);
            if self.store.put(now, Record::Retained(Arc::clone(&cleared), version)).is_err() {
                // It is still there for the next sweep, by which the store may write again.
                self.shared.retained.undo(&cleared, Some(&before));
                pause = EXPIRY_INTERVAL;
            }
        }
        pause
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
        trouble.count(why, 1);
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
    pub(crate) fn unmounted(&self, message: &Arc<Message>) -> Option<Arc<Message>> {
        let mut own = Message::clone(message);
        own.topic = TopicName::new(self.without_mountpoint(message.topic.as_str())).ok()?;
        if let Some(properties) = &mut own.properties
            && let Some(response) = &properties.response_topic
        {
            let response = TopicName::new(self.without_mountpoint(response.as_str())).ok();
            Arc::make_mut(properties).response_topic = response;
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
        ids: SubscriptionIds::from_slice(&merged.ids),
        group,
        kept: None,
    }
}

/// What a topic retains when it retains nothing.
fn nothing_at(topic: &TopicName, now: Time) -> Arc<Message> {
    Arc::new(Message {
        topic: topic.clone(),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce, // Nobody waits for it.
        retain: true,
        received: now,
        expires: None,
        properties: None,
    })
}

/// Whether anybody but share groups hears what `publisher` says.
pub(crate) fn is_heard(routes: &RouteSet<SessionKey>, publisher: Option<SessionKey>) -> bool {
    routes.routes().iter().any(|route| route.for_publisher(publisher == Some(route.key)).is_some())
}

/// The member of `group` whose turn it is, other than `but`.
fn choose(message: &Arc<Message>, group: &SharedRoute<SessionKey>, but: Option<SessionKey>) -> Option<Chosen> {
    let member = group.pick_excluding(group.turn(), |key| Some(*key) == but)?;
    let delivery = delivery(message, &member.merged, Some(Arc::clone(group.filter())));
    let durable = member.merged.durable && delivery.qos > QoS::AtMostOnce;
    Some(Chosen { member: member.key, delivery, checked: member.merged.checked, durable })
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
