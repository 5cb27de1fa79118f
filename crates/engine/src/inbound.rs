//! Bytes of one connection into packets, and packets into what they ask for.

use std::sync::Arc;

use viaduct_codec::{
    AckedRun, Frame, Kept, Message, Packet, PacketId, PlainAck, QoS, ReasonCode, Time, TopicRef, Version,
};
use viaduct_router::RouteSet;
use viaduct_session::Incoming;
use viaduct_session::Violation;
use viaduct_session::server::{Ending, Event};
use viaduct_store::{Accepted, Appended, Health, StoreError};

use crate::Engine;
use crate::acks::Ack;
use crate::authorize::Who;
use crate::connections::CloseReason;
use crate::dispatch::{Plan, levels};
use crate::key::{ConnectionId, SessionKey};
use crate::limits::{ANSWER_PAUSE, LIKE_PROPERTIES, LOG_WINDOW, LOGGED_TOPIC, TURN_BYTES, TURN_PACKETS};
use crate::stats::Dropped;
use crate::ways::Beyond;

/// How far a turn of [`Engine::handle_bytes`] came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that were used up, from the front. The rest is the beginning of a packet, or more packets when `more`.
    pub consumed: usize,
    /// The turn ended with whole packets left: hand the rest in again after others had their turn.
    pub more: bool,
    /// The client is over its message rate, or has sent more than may be unacknowledged: read no more from it before this time.
    pub pause_until: Option<Time>,
    /// Acknowledgements of the client came after the write that they would have saved. It may be that it waits for what it sent
    /// before to be acknowledged on the TCP level (it has not set `TCP_NODELAY`).
    pub answers_late: bool,
}

/// What to do with one PUBLISH.
pub(crate) enum Taken {
    /// Acknowledge with this reason.
    Ack(ReasonCode),
    /// Acknowledge with this reason when the store has it, or nobody is owed it any more; hand it on before if there is a plan.
    Kept(ReasonCode, Accepted, Option<Arc<Kept>>, Option<Box<Plan>>),
    /// Another owner has the session of the client.
    Fenced,
    /// End the connection.
    Close(ReasonCode, CloseReason),
}

/// A message, who hears it, and what there is to know of the broker that it is from, if it is from one.
type Routed = (Message, Arc<RouteSet<SessionKey>>, Option<Arc<Beyond>>);

impl Engine {
    /// Bytes that came from `id`, with the tail that was left over before in front of them.
    pub fn handle_bytes(&mut self, now: Time, id: ConnectionId, bytes: &[u8]) -> Progress {
        self.notice_new_rules(now);
        let mut progress = Progress::default();
        let Some(connection) = self.connections.find(id) else {
            return Progress { consumed: bytes.len(), ..progress };
        };
        let (mut packets, mut steps) = (0_u64, 0);
        let mut last = None;
        while let Some(rest) = bytes.get(progress.consumed..).filter(|rest| !rest.is_empty()) {
            let Some(open) = self.connections.get(connection).filter(|c| c.closing.is_none()) else { break };
            let Some(session) = open.session() else { break };
            let max_packet_size = open.max_packet_size;
            last = Some(session);
            if steps >= TURN_PACKETS || progress.consumed >= TURN_BYTES {
                progress.more = true;
                break;
            }
            steps += 1;
            let limit = TURN_BYTES - progress.consumed;
            let run = if AckedRun::may_begin(rest) {
                self.express_acked(now, connection, session, rest, limit)
            } else {
                self.express(now, connection, session, rest, limit)
            };
            if let Some((bytes, count)) = run {
                progress.consumed += bytes;
                packets += u64::from(count);
                continue;
            }
            // What is not one more PUBLISH is answered behind those that came before it.
            if !is_new_publish(rest) {
                self.send_ready();
            }
            if PlainAck::first(rest).is_some() {
                let end = rest.len().min(TURN_BYTES - progress.consumed);
                let count = self.handle_acks(now, session, rest.get(..end.max(PlainAck::SIZE)).unwrap_or(rest));
                progress.consumed += count * PlainAck::SIZE;
                packets += count as u64;
                continue;
            }
            if self.is_ahead_of_answers(session, rest) {
                progress.pause_until = Some(now.after(ANSWER_PAUSE));
                break;
            }
            let version = self.sessions.get(session).and_then(|slot| slot.session.version()).unwrap_or(Version::V311);
            match Frame::split(rest, max_packet_size) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    progress.consumed += frame.bytes.len();
                    packets += 1;
                    match Packet::decode(frame, version) {
                        Ok(packet) => self.handle_packet(now, connection, session, packet),
                        Err(error) => self.violate(now, session, &Violation::Decode(error)),
                    }
                }
                Err(error) => self.violate(now, session, &Violation::Decode(error)),
            }
        }
        self.send_ready();
        self.stats.packets_received.add(packets);
        let Some(open) = self.connections.get(connection).filter(|c| c.closing.is_none()) else {
            // Whatever follows the last packet of a connection is not looked at.
            return Progress { consumed: bytes.len(), ..progress };
        };
        progress.answers_late = open.answers_late;
        if let Some(session) = last {
            self.replay(now, session);
        }
        progress.pause_until = progress.pause_until.max(self.message_rate(now, connection));
        if let Some(until) = progress.pause_until {
            self.not_read(id, until);
        }
        self.release_acks(now);
        progress
    }

    /// Whatever comes from `id` is not read before `until`. It may send PINGREQ meanwhile, so its silence begins only then.
    pub fn not_read(&mut self, id: ConnectionId, until: Time) {
        let session = self.connections.find(id).and_then(|index| self.connections.get(index)?.session());
        if let Some(slot) = session.and_then(|session| self.sessions.get_mut(session)) {
            slot.session.touch(until);
        }
    }

    /// Whether the PUBLISH at the front of `rest` goes beyond the receive maximum only as long as QoS 1 messages before it are not
    /// answered. The bridges of mosquitto 2.0 send what waited for them without regard to it, and would, with a disk that is slow,
    /// never get any further if that were the end of the connection (MQTT-3.3.4-7 is the client's).
    fn is_ahead_of_answers(&mut self, session: usize, rest: &[u8]) -> bool {
        let is_counted = rest.first().is_some_and(|first| first >> 4 == 3 && first & 6 != 0);
        let owes_room = |engine: &Self| engine.sessions.get(session).is_some_and(|slot| slot.session.owes_room());
        if !is_counted || !owes_room(self) {
            return false;
        }
        self.send_ready();
        owes_room(self)
    }

    /// A run of plain acknowledgements; how many.
    fn handle_acks(&mut self, now: Time, index: usize, bytes: &[u8]) -> usize {
        let handled = self.with_session(index, |session, output| session.handle_acks(now, bytes, output));
        let (count, result) = handled.unwrap_or((1, Ok(())));
        if let Err(violation) = result {
            self.violate(now, index, &violation);
        }
        count.max(1)
    }

    fn handle_packet(&mut self, now: Time, connection: usize, index: usize, packet: Packet<'_>) {
        let event = self.with_session(index, |session, output| session.handle(now, packet, output));
        match event {
            None | Some(Ok(Event::None | Event::Settled { .. })) => {}
            Some(Ok(Event::Publish(incoming))) => {
                if let Some(connection) = self.connections.get_mut(connection) {
                    connection.rate_count = connection.rate_count.saturating_add(1);
                }
                self.handle_publish(now, index, &incoming);
            }
            Some(Ok(Event::Subscribe(subscribe))) => self.handle_subscribe(now, index, &subscribe),
            Some(Ok(Event::Unsubscribe(unsubscribe))) => self.handle_unsubscribe(now, index, &unsubscribe),
            Some(Ok(Event::Disconnect { reason })) => {
                let ending = if reason == ReasonCode::NORMAL_DISCONNECTION { Ending::Normal } else { Ending::WithWill };
                self.end_connection(now, index, None, CloseReason::Disconnected(reason), ending);
            }
            Some(Ok(Event::Auth(auth))) => self.handle_auth(now, connection, index, &auth),
            Some(Err(violation)) => self.violate(now, index, &violation),
        }
    }

    /// Ends the connection of a client that broke a rule: the reason code, one log line, one count.
    pub(crate) fn violate(&mut self, now: Time, index: usize, violation: &Violation) {
        self.close_for(now, index, violation.reason(), violation.to_string());
    }

    pub(crate) fn close_for(&mut self, now: Time, index: usize, reason: ReasonCode, what: String) {
        if let Some(slot) = self.sessions.get(index) {
            let peer = self.peer(index).unwrap_or_default();
            self.log.line(now, |more| {
                tracing::info!(
                    client_id = %slot.client_id, %peer, %reason, more,
                    "closed because of what the client sent: {what}"
                );
            });
        }
        self.stats.protocol_error(reason);
        self.end_connection(now, index, Some(reason), CloseReason::Violation(reason, what), Ending::Lost);
    }

    fn handle_publish(&mut self, now: Time, index: usize, incoming: &Incoming<'_>) {
        let publish = &incoming.publish;
        self.stats.received(publish.qos, 1, publish.payload.len());
        let taken = self.take(now, index, incoming);
        self.answer_publish(now, index, publish.packet_id, publish.qos, taken);
    }

    /// Answers a PUBLISH, or does what it brought about instead.
    pub(crate) fn answer_publish(
        &mut self,
        now: Time,
        index: usize,
        packet_id: Option<PacketId>,
        qos: QoS,
        taken: Taken,
    ) {
        let (reason, safety, plan) = match taken {
            Taken::Ack(reason) => (reason, (Accepted::Safe, None), None),
            Taken::Kept(reason, accepted, kept, plan) => (reason, (accepted, kept), plan),
            Taken::Fenced => return self.fence(now, index, None),
            Taken::Close(reason, why) => {
                self.stats.protocol_error(reason);
                if let Some(slot) = self.sessions.get(index) {
                    let peer = self.peer(index).unwrap_or_default();
                    self.log.line(now, |more| {
                        tracing::info!(client_id = %slot.client_id, %peer, %reason, more, "closed: {why}");
                    });
                }
                return self.end_connection(now, index, Some(reason), why, Ending::Lost);
            }
        };
        if let (Some(packet_id), Some(slot)) = (packet_id, self.sessions.get(index)) {
            let ack = Ack { session: slot.key, packet_id, qos, reason };
            self.acknowledge(now, &[ack], safety, plan);
        }
    }

    /// Routes one message of a client, if it may be published.
    fn take(&mut self, now: Time, index: usize, incoming: &Incoming<'_>) -> Taken {
        let Some(slot) = self.sessions.get(index) else { return Taken::Ack(ReasonCode::SUCCESS) };
        let key = slot.key;
        let publish = &incoming.publish;
        if publish.retain && !self.settings.retained.enabled && slot.session.version() == Some(Version::V5) {
            let what = "RETAIN is set and retained.enabled is false".to_owned();
            let reason = ReasonCode::RETAIN_NOT_SUPPORTED;
            return Taken::Close(reason, CloseReason::Violation(reason, what));
        }
        if levels(incoming.topic().as_str()) > self.settings.max_topic_levels {
            self.stats.dropped(Dropped::NotAuthorized, 1);
            return Taken::Ack(ReasonCode::TOPIC_NAME_INVALID);
        }
        if !self.may_publish(index, incoming.topic()) {
            self.note_denied(now, index, "publish to", incoming.topic().as_str());
            return Taken::Ack(ReasonCode::NOT_AUTHORIZED);
        }
        let Some((message, routes, beyond)) = self.message(now, index, incoming) else {
            return Taken::Ack(ReasonCode::TOPIC_NAME_INVALID);
        };
        let message = Arc::new(message);
        if message.qos > QoS::AtMostOnce
            && message.retain
            && let Health::Failing(why) = self.store.state()
        {
            return self.not_taken(index, &StoreError::Unavailable(why.to_string()));
        }
        // Asked only of what may be taken, and counted only when it was: the copy of a message that is refused, here or by the
        // store, is no double.
        let way = beyond.as_deref().and_then(|beyond| beyond.counted(now));
        if way.is_some_and(|way| way.is_double(now, &message, publish.dup)) {
            return self.take_double(now, index, incoming, &message);
        }
        let took = || way.map_or((), |way| way.took(now));
        let qos = message.qos;
        let mut plan = self.plan(message, routes, Some(key));
        let reason = if plan.is_heard() { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS };
        if qos == QoS::AtMostOnce {
            let retained = self.retain(&plan.message);
            self.note_store_result("retained", retained);
            took();
            // MQTT-4.6.0-5: who hears both with one QoS hears them in this order.
            self.hand_on_behind(now, key, plan, None);
            return Taken::Ack(reason);
        }
        let appended = match self.append(now, index, incoming, &plan) {
            Ok(appended) => appended,
            Err(error) => return self.not_taken(index, &error),
        };
        let Appended { kept, accepted } = appended;
        plan.kept = kept;
        let retained = match self.retain(&plan.message) {
            Ok(accepted) => accepted,
            Err(error) => {
                plan.abandon();
                return self.not_taken(index, &error);
            }
        };
        took();
        // What comes behind a message that is held back is held back as well, so that it does not overtake it.
        let is_held = qos == QoS::ExactlyOnce && accepted != Accepted::Safe;
        if is_held || self.waiting.holds_back(key) {
            return Taken::Kept(reason, accepted.max(retained), None, Some(Box::new(plan)));
        }
        // A retained change is safe by being written alone.
        let kept = self.carry_out(now, plan).filter(|_| retained == Accepted::Safe);
        match (accepted.max(retained), kept) {
            (Accepted::Safe, None) => Taken::Ack(reason),
            (accepted, kept) => Taken::Kept(reason, accepted, kept, None),
        }
    }

    /// Tells the store who is owed a message, and its identifier where it has to be remembered.
    fn append(
        &mut self,
        now: Time,
        index: usize,
        incoming: &Incoming<'_>,
        plan: &Plan,
    ) -> Result<Appended, StoreError> {
        let Some(slot) = self.sessions.get(index) else { return Ok(Appended::NOTHING) };
        let from = self.remembered(index, incoming);
        let mark = slot.key.mark();
        let owed = self.owed_list(&plan.message, &plan.routes, &plan.chosen, plan.publisher);
        if owed.is_empty() && from.is_none() {
            return Ok(Appended::NOTHING);
        }
        self.store.append(now, &plan.message, owed.into(), from, mark)
    }

    /// The store could not take a message: 5.0 is told so, 3.x has no word for it and loses the connection, so that the
    /// client keeps the message and sends it again.
    pub(crate) fn not_taken(&self, index: usize, error: &StoreError) -> Taken {
        tracing::warn!(worker = self.worker.0, %error, "a message was refused because it could not be kept");
        let is_v5 = self.sessions.get(index).and_then(|slot| slot.session.version()) == Some(Version::V5);
        match error {
            StoreError::Fenced { .. } => Taken::Fenced,
            _ if !is_v5 => Taken::Close(ReasonCode::UNSPECIFIED_ERROR, CloseReason::StoreFailed),
            StoreError::Full { .. } | StoreError::DiskFull { .. } => Taken::Ack(ReasonCode::QUOTA_EXCEEDED),
            StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Damaged(_) => {
                Taken::Ack(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR)
            }
        }
    }

    /// The message of a PUBLISH with the topics that the rest of the broker knows; `None` when one of them is too long.
    fn message(&mut self, now: Time, index: usize, incoming: &Incoming<'_>) -> Option<Routed> {
        let slot = self.sessions.get(index)?;
        let topic = incoming.topic();
        let beyond = slot.connection().and_then(|c| self.connections.get(c)?.beyond.clone());
        let hop = beyond.as_ref().and_then(|beyond| beyond.hop.as_ref());
        if slot.mountpoint.is_some() {
            let mounted = slot.mounted(topic)?;
            let mut message = Message::from_publish(&incoming.publish, mounted, now);
            if let Some(hop) = hop {
                message.or_user_properties(hop);
            }
            if let Some(properties) = &mut message.properties
                && let Some(response) = &properties.response_topic
            {
                let response = slot.mounted(response.by_ref())?;
                Arc::make_mut(properties).response_topic = Some(response);
            }
            let routes = self.hearers.who(&message.topic);
            return Some((message, routes, beyond));
        }
        let (topic, routes) = self.hearers.who_named(topic);
        let like = self.last_properties.as_ref();
        let mut message = Message::from_publish_like(&incoming.publish, topic, now, like);
        if let Some(hop) = hop {
            message.or_user_properties(hop);
        }
        if message.properties.as_ref().is_some_and(|own| own.size() <= LIKE_PROPERTIES) {
            self.last_properties.clone_from(&message.properties);
        }
        Some((message, routes, beyond))
    }

    /// Counts what a client may not do, and says so once a minute and session: 3.x has no way to tell the client itself.
    pub(crate) fn note_denied(&mut self, now: Time, index: usize, what: &str, topic: &str) {
        self.stats.dropped(Dropped::NotAuthorized, 1);
        let peer = self.peer(index).unwrap_or_default();
        let Some(slot) = self.sessions.get_mut(index) else { return };
        let denied_logged = &mut slot.trouble().denied_logged;
        if denied_logged.is_none_or(|at| now.since(at) >= LOG_WINDOW) {
            *denied_logged = Some(now);
            let username = slot.identity.username.as_deref().unwrap_or("(anonymous)");
            let topic: String = topic.chars().take(LOGGED_TOPIC).collect();
            self.log.line(now, |more| {
                tracing::warn!(
                    client_id = %slot.client_id, %peer, ?username, more,
                    "it may not {what} {topic:?} (auth.acl_file); further denials are counted and said again in a minute"
                );
            });
        }
    }

    /// Whether the session at `index` may publish to `topic`, which is as the client wrote it.
    pub(crate) fn may_publish(&mut self, index: usize, topic: TopicRef<'_>) -> bool {
        let Some(slot) = self.sessions.get_mut(index) else { return false };
        if slot.identity.local {
            return true;
        }
        if let Some(own) = topic.as_str().strip_prefix("$SYS/") {
            // A mosquitto that bridges to us says there whether its bridge is up; nobody else writes to $SYS.
            let state = own.strip_prefix("broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
            return state == Some(slot.client_id.as_str());
        }
        let authorizer = &self.authorizer;
        if authorizer.is_open() {
            return true;
        }
        if let Some((last, rules, verdict)) = slot.last_publish.as_deref()
            && *rules == self.rules
            && last.as_str() == topic.as_str()
        {
            return *verdict;
        }
        let who = Who { client_id: slot.client_id.as_str(), username: slot.identity.username.as_deref() };
        let verdict = authorizer.publish(&who, topic.as_str());
        slot.last_publish = Some(Box::new((topic.to_owned(), self.rules, verdict)));
        verdict
    }

    /// When the client may be read again, if it sends more messages a second than it may.
    fn message_rate(&mut self, now: Time, connection: usize) -> Option<Time> {
        let rate = self.settings.message_rate?;
        let connection = self.connections.get_mut(connection)?;
        let elapsed = now.since(connection.rate_since).as_millis();
        let allowed = u128::from(rate) * elapsed / 1000;
        if u128::from(connection.rate_count) <= allowed {
            if elapsed >= 1000 {
                (connection.rate_since, connection.rate_count) = (now, 0);
            }
            return None;
        }
        // Rounded up: a pause that ends too early would only be followed by another, without end while the clock stands.
        let needed = (u64::from(connection.rate_count) * 1000).div_ceil(u64::from(rate.max(1)));
        Some(connection.rate_since.after(std::time::Duration::from_millis(needed)))
    }
}

/// Whether the first packet of `bytes` is a PUBLISH that is not sent again.
fn is_new_publish(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first >> 4 == 3 && first & 8 == 0)
}
