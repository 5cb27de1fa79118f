//! Connections come and go, sessions begin, resume and end.
//!
//! A session ends in one of three ways: its connection ended and its expiry is zero, its expiry passed, or its ClientID
//! came with Clean Start; never while it has a connection (MQTT-4.1.0-1, MQTT-4.1.0-1 of 3.1.1, MQTT-4.1.0-2, MQTT-4.1.0-2 of
//! 3.1.1). All three run through `end_session`, which is the only place that forgets one.

use std::sync::Arc;

use viaduct_codec::{MessageProperties, ReasonCode, Time, UserProperties};
use viaduct_session::server::{Admission, Ending, Terms, WillFate, will_fate};
use viaduct_session::{HOPS_PROPERTY, is_node_name};
use viaduct_store::Key;

use crate::Engine;
use crate::connections::{CloseReason, Connection};
use crate::due::Timer;
use crate::key::{ConnectionId, SessionKey};
use crate::limits::STALE_DEADLINES;
use crate::reauth::{Reauthenticate, Reauthentication};
use crate::registry::{Identity, NEVER, Slot};
use crate::seams::Epoch;
use crate::stats::Dropped;
use crate::ways::{Beyond, Way};

/// An admitted, authenticated connection on its way to its session.
#[derive(Debug)]
pub struct Arrival {
    /// What CONNECT settled.
    pub admission: Admission,
    /// Who it is.
    pub identity: Identity,
    /// Address and port, for logs and views.
    pub peer: Arc<str>,
    /// The name of the listener that it came by.
    pub listener: Arc<str>,
    /// A mark of the password that it logged in with, if it did; see [`Engine::handle_users`].
    pub credential: Option<u64>,
    /// Put before all of its topics.
    pub mountpoint: Option<Arc<str>>,
    /// What its listener offers.
    pub terms: Arc<Terms>,
    /// What it may authenticate with again, if CONNECT named a method.
    pub reauthentication: Option<Box<dyn Reauthenticate>>,
    /// Which way its messages come, if another broker is at the other end.
    pub way: Option<Arc<dyn Way>>,
    /// Set by the engine when it was held; `None` at first.
    pub waited_until: Option<Time>,
}

impl Engine {
    /// Gives the connection its session, new or resumed.
    pub(crate) fn attach(&mut self, now: Time, id: ConnectionId, epoch: Epoch, arrival: Arrival) {
        let Arrival {
            admission, identity, peer, listener, mountpoint, terms, credential, reauthentication, way, ..
        } = arrival;
        let client_id = admission.client_id.clone();
        if let Some(index) = self.sessions.by_client(client_id.as_str()) {
            // A session belongs to whoever made it: another user with the same ClientID gets a new one, never the queue
            // of a stranger.
            let stranger = self.sessions.get(index).is_some_and(|slot| slot.identity != identity);
            // Its deadline may have come while the broker was not there, and not have been looked at yet.
            let is_over = self.sessions.get(index).is_some_and(|slot| slot.is_over(now));
            // MQTT-3.1.2-4, MQTT-3.1.2-6 of 3.1.1
            if admission.clean_start || stranger || is_over {
                self.end_session(now, index);
            }
        }
        // MQTT-3.1.4-4, MQTT-3.1.4-3 of 3.1.1: what is still there is resumed and said to be present (MQTT-3.1.2-5,
        // MQTT-3.1.2-4 of 3.1.1, MQTT-3.2.2-3, MQTT-3.2.2-2 of 3.1.1), otherwise there is a new one (MQTT-3.1.2-6,
        // MQTT-3.2.2-1 of 3.1.1, MQTT-3.2.2-3 of 3.1.1).
        let resumed = self.sessions.by_client(client_id.as_str());
        if let Some(index) = resumed {
            self.publish_delayed_will(now, index); // Whose time has come, as after a restart, is not called back.
        }
        let index =
            resumed.unwrap_or_else(|| self.sessions.insert(client_id.clone(), identity.clone(), Arc::clone(&terms)));
        let connection = self.connections.insert(id, peer.clone(), listener.clone(), terms.maximum_packet_size, now);
        let Some(slot) = self.sessions.get_mut(index) else { return };
        slot.set_connection(Some(connection));
        slot.epoch = epoch;
        let has_will = admission.will.is_some();
        slot.will = admission.will.clone().map(Box::new); // MQTT-3.1.2-7; without one none is ever published: MQTT-3.1.2-12 of 3.1.1
        slot.delayed_will = None; // The session goes on in time: a will that waited is not published (MQTT-3.1.3-9).
        slot.expires = None;
        slot.mountpoint = mountpoint;
        slot.set_credential(credential);
        slot.terms = Arc::clone(&terms);
        let key = slot.key;
        let shares: Vec<_> = slot.subscriptions.filters().filter(|f| f.by_ref().share().is_some()).cloned().collect();
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.set_session(Some(index));
            connection.beyond = Beyond::new(admission.node.as_ref().and_then(|node| first_hop(&node.name)), way);
            connection.reauthentication = reauthentication.map(|method| Box::new(Reauthentication::new(method)));
        }
        if resumed.is_some() {
            self.stats.sessions_disconnected.sub(1);
            self.note_asked_before(index);
        }
        self.stats.sessions_connected.add(1);
        for filter in shares {
            self.hearers.set_online(filter.by_ref(), key, true);
        }
        tracing::debug!(%client_id, %peer, %listener, level = %admission.level, resumed = resumed.is_some(), "connected");
        if admission.session_expiry > 0 {
            self.make_durable(index);
        }
        let is_durable = self.sessions.get(index).is_some_and(Slot::is_durable);
        self.with_session(index, |session, output| {
            session.keep_ids(is_durable);
            session.attach(now, &admission, &terms, resumed.is_some(), output);
        });
        self.replay(now, index);
        self.connections.mark(connection);
        self.arm(index);
        if admission.session_expiry > 0 || self.sessions.get(index).is_some_and(Slot::is_durable) {
            self.keep_session(index, admission.session_expiry, None);
        } else {
            if has_will {
                self.keep_will(index);
            }
            // This broker's half of a bridge makes no promise to anybody.
            if !identity.local {
                self.hold_for_end(connection, &client_id);
            }
        }
    }

    /// The socket of `id` is gone, whatever the reason; `why` is for the log. Unknown connections are ignored.
    pub fn handle_closed(&mut self, now: Time, id: ConnectionId, why: &str) {
        self.notice_new_rules(now);
        let Some(index) = self.connections.find(id) else { return };
        if let Some(session) = self.connections.get(index).and_then(Connection::session) {
            if let (Some(slot), Some(connection)) = (self.sessions.get(session), self.connections.get(index)) {
                tracing::debug!(client_id = %slot.client_id, peer = %connection.peer, %why, "connection lost");
            }
            self.detach(now, session, Ending::Lost);
        }
        self.connections.remove(index);
    }

    /// Ends the connection of the session at `index` from this side: DISCONNECT with `reason` where the version has it
    /// (MQTT-4.13.1-1, MQTT-4.13.2-1), nothing after it (MQTT-3.14.4-1), then close once that is written (MQTT-3.14.4-2,
    /// MQTT-4.8.0-1 of 3.1.1, MQTT-4.8.0-2 of 3.1.1). The session lives on by its expiry.
    pub(crate) fn end_connection(
        &mut self,
        now: Time,
        index: usize,
        reason: Option<ReasonCode>,
        why: CloseReason,
        ending: Ending,
    ) {
        self.send_ready(); // What was taken before is answered before.
        let Some(connection) = self.sessions.get(index).and_then(|slot| slot.connection()) else { return };
        if let Some(reason) = reason {
            let text = match &why {
                CloseReason::Violation(_, what) => Some(what.clone()),
                _ => None,
            };
            self.with_session(index, |session, output| session.disconnect(reason, text.as_deref(), output));
        }
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.closing = Some(Box::new(why));
        }
        self.connections.mark(connection);
        self.detach(now, index, ending);
    }

    /// The session at `index` has no connection any more.
    fn detach(&mut self, now: Time, index: usize, ending: Ending) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        let Some(connection) = slot.connection() else { return };
        slot.set_connection(None);
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.set_session(None);
        }
        let (key, expiry) = (slot.key, slot.session.session_expiry());
        let version = slot.session.version();
        let will = slot.will.take();
        let shares: Vec<_> = slot.subscriptions.filters().filter(|f| f.by_ref().share().is_some()).cloned().collect();
        self.with_session(index, |session, _| session.detach());
        self.stats.sessions_connected.sub(1);
        self.stats.sessions_disconnected.add(1);
        for filter in shares {
            self.hearers.set_online(filter.by_ref(), key, false);
        }
        if let (Some(will), Some(version)) = (will, version) {
            let suppress = self.settings.suppress_will_on_takeover;
            match will_fate(version, ending, will.delay, expiry, suppress, now) {
                WillFate::Discard => {}
                WillFate::Now => self.publish_will(now, index, will.message),
                WillFate::At(time) => {
                    if let Some(slot) = self.sessions.get_mut(index) {
                        slot.delayed_will = Some(Box::new((time, will.message)));
                    }
                }
            }
        }
        match expiry {
            0 => self.end_session(now, index), // MQTT-3.1.2-23: it ends with its connection.
            u32::MAX => self.keep_session(index, expiry, Some(now)),
            seconds => {
                if let Some(slot) = self.sessions.get_mut(index) {
                    slot.expires = Some(now.after_secs(seconds));
                }
                self.keep_session(index, expiry, Some(now));
            }
        }
        self.arm(index);
    }

    /// Forgets the session at `index`, which has no connection: its will is published, its subscriptions go, and what
    /// it was owed as a member of a share group goes to other members.
    pub(crate) fn end_session(&mut self, now: Time, index: usize) {
        if let Some(delayed) = self.sessions.get_mut(index).and_then(|slot| slot.delayed_will.take()) {
            self.publish_will(now, index, delayed.1);
        }
        let mut orphans = self.with_session(index, |session, _| session.take_shared(None)).unwrap_or_default();
        self.take_shared_of_earlier(index, &mut orphans);
        let (left, _) = self.sessions.get(index).map_or((0, 0), |slot| slot.session.queued());
        self.with_session(index, |session, _| session.clear());
        let Some(slot) = self.sessions.remove(index) else { return };
        if slot.has_lone_will {
            let result = self.store.delete(now, &Key::Will(slot.client_id.clone()));
            self.note_end("will", &slot.client_id, result);
        }
        self.owners.release(now, &slot.client_id, slot.epoch);
        self.stats.sessions_disconnected.sub(1);
        self.stats.dropped(Dropped::SessionEnded, left as u64);
        for filter in slot.subscriptions.filters() {
            self.hearers.leave(filter.by_ref(), slot.key);
        }
        if slot.is_durable() {
            self.shared.forget_durable(slot.key);
            for filter in slot.subscriptions.filters() {
                let result = self.store.delete(now, &Key::Subscription(slot.client_id.clone(), filter.clone()));
                self.note_store_result("subscription", result);
            }
            let result = self.store.delete(now, &Key::Session(slot.client_id.clone()));
            self.note_end("session", &slot.client_id, result);
        }
        for delivery in orphans {
            self.find_another_member(now, slot.key, delivery, 0);
        }
    }

    /// Sees to it that the session at `index` is looked at when the first of its deadlines comes.
    pub(crate) fn arm(&mut self, index: usize) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        let Some(deadline) = slot.next_deadline() else { return };
        if slot.armed > deadline {
            slot.armed = deadline;
            self.due.at(deadline, Timer::Session(slot.key));
        }
        // Deadlines of sessions that ended stay behind: they are cleared away before they outnumber the live ones.
        if self.due.len() > STALE_DEADLINES + 2 * self.sessions.len() {
            let sessions = &self.sessions;
            self.due.retain(|time, timer| match timer {
                Timer::Session(key) => {
                    sessions.find(key).and_then(|index| sessions.get(index)).is_some_and(|slot| slot.armed == time)
                }
                Timer::Page(key) => sessions.find(key).is_some(),
                Timer::RetainedExpiry => true,
            });
        }
    }

    /// The deadline that was armed for `time` has come.
    pub(crate) fn check_session(&mut self, now: Time, time: Time, key: SessionKey) {
        let Some(index) = self.sessions.find(key) else { return };
        let Some(slot) = self.sessions.get_mut(index).filter(|slot| slot.armed == time) else { return };
        slot.armed = NEVER;
        if slot.session.is_overdue(now) {
            let client_id = slot.client_id.clone();
            let peer = self.peer(index).unwrap_or_default();
            self.log.line(now, |more| {
                tracing::info!(
                    %client_id, %peer, more,
                    "closed: nothing came from the client for one and a half keep alive intervals"
                );
            });
            let reason = ReasonCode::KEEP_ALIVE_TIMEOUT;
            self.stats.protocol_error(reason);
            self.end_connection(now, index, Some(reason), CloseReason::KeepAlive, Ending::Lost);
        }
        self.publish_delayed_will(now, index);
        let slot = self.sessions.find(key).and_then(|index| self.sessions.get(index));
        if slot.and_then(|slot| slot.expires).is_some_and(|expires| expires <= now) {
            self.stats.sessions_expired.add(1);
            self.end_session(now, index);
        }
        if self.sessions.find(key).is_some() {
            self.arm(index);
        }
    }

    /// Ends the connection of a ClientID at the operator's word; `false` when it has none here.
    pub fn kick(&mut self, now: Time, client_id: &str) -> bool {
        self.notice_new_rules(now);
        let Some(index) = self.sessions.by_client(client_id) else { return false };
        let connected = self.sessions.get(index).is_some_and(|slot| slot.connection().is_some());
        if connected {
            let reason = Some(ReasonCode::ADMINISTRATIVE_ACTION);
            self.end_connection(now, index, reason, CloseReason::Administrative, Ending::Lost);
        }
        connected
    }

    /// The users have changed: ends the connections of those for whose user name and credential `holds` says no.
    pub fn handle_users(&mut self, now: Time, holds: impl Fn(&str, u64) -> bool) {
        self.notice_new_rules(now);
        for index in self.sessions.indices() {
            let Some(slot) = self.sessions.get(index).filter(|slot| slot.connection().is_some()) else { continue };
            if let (Some(username), Some(credential)) = (&slot.identity.username, slot.credential)
                && !holds(username, credential.get())
            {
                let (client_id, username) = (slot.client_id.clone(), username.clone());
                let peer = self.peer(index).unwrap_or_default();
                tracing::info!(
                    %client_id, ?username, %peer,
                    "closed: the user or its password is no longer in auth.password_file"
                );
                let reason = Some(ReasonCode::NOT_AUTHORIZED);
                self.end_connection(now, index, reason, CloseReason::Administrative, Ending::Lost);
            }
        }
    }

    /// The broker is about to stop: nobody new is taken, and the wills that the end of their connections is going to set
    /// free are published while everybody is still there to hear them. To be called on every worker, and what it mails to
    /// be handed in there, before [`Engine::handle_shutdown`] on any.
    pub fn handle_last_words(&mut self, now: Time) {
        self.notice_new_rules(now);
        self.stopping = true;
        for index in self.sessions.indices() {
            let Some(slot) = self.sessions.get_mut(index) else { continue };
            let (version, expiry) = (slot.session.version(), slot.session.session_expiry());
            let suppress = self.settings.suppress_will_on_takeover;
            let fate = |version, delay| will_fate(version, Ending::Shutdown, delay, expiry, suppress, now);
            let is_due = slot
                .will
                .as_ref()
                .zip(version)
                .is_some_and(|(will, version)| fate(version, will.delay) == WillFate::Now);
            if let Some(will) = slot.will.take_if(|_| is_due) {
                self.publish_will(now, index, will.message);
            }
        }
    }

    /// The broker stops: every client is told so where its version can say it, wills go by the rules, and nobody new
    /// is taken.
    pub fn handle_shutdown(&mut self, now: Time) {
        self.stopping = true;
        for index in self.sessions.indices() {
            let reason = Some(ReasonCode::SERVER_SHUTTING_DOWN);
            self.end_connection(now, index, reason, CloseReason::Shutdown, Ending::Shutdown);
        }
        for index in self.connections.ids() {
            if let Some(connection) = self.connections.get_mut(index)
                && connection.closing.is_none()
            {
                connection.closing = Some(Box::new(CloseReason::Shutdown));
                self.connections.mark(index);
            }
        }
    }
}

/// The hop of the broker `node` that has sent a message on, as the first.
fn first_hop(node: &str) -> Option<Arc<MessageProperties>> {
    let mut encoded = Vec::new();
    let is_hop = is_node_name(node) && UserProperties::push(&mut encoded, HOPS_PROPERTY, &format!("{node}>"));
    is_hop.then(|| Arc::new(MessageProperties { user_properties: encoded.into(), ..MessageProperties::default() }))
}
