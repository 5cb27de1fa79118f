//! The broker's end of a conversation.
//!
//! [`admit()`] turns a CONNECT into an [`Admission`] or a [`Refusal`]; [`Session`] then keeps what belongs to the ClientID, with
//! and without a connection.
//!
//! ```text
//!        attach                       detach
//! offline ------> connected ------------------> offline       ended by whoever keeps the sessions
//!                  |  handle: a packet came -> Event or Violation
//!                  |  deliver: a message for the client
//!                  |  pump: the output was written
//! ```

mod admit;
mod refusal;
mod will;

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use viaduct_codec::{
    Ack, AckedMessage, Auth, Backlog, Bundle, Connack, ConnackProperties, Disconnect, Kept, Level, Packet, PacketId,
    PacketType, Place, PlainAck, QoS, ReasonCode, Stub, Suback, Subscribe, Time, Unsuback, Unsubscribe, UserProperties,
    Version,
};

pub use admit::{Admission, Authentication, Neighbour, Terms, admit};
pub use refusal::{Refusal, RefusalKind};
pub use will::{Ending, Will, WillFate, will_fate};

use crate::delivery::{Counts, Delivered, Delivery, DropReason, Hold, Note, QueueLimits};
use crate::flow::{self, Answered, Flow, Incoming, KeepAlive, Queue};
use crate::limits::{CONNACK_ROOM, OUTPUT_HIGH_WATER};
use crate::output::Output;
use crate::violation::Violation;

/// What a packet of the client asks for. What the conversation itself needs has been answered already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing.
    None,
    /// A message. QoS 1 and 2 wait for [`Session::acknowledge`].
    Publish(Incoming<'a>),
    /// Waits for [`Session::suback`].
    Subscribe(Subscribe<'a>),
    /// Waits for [`Session::unsuback`].
    Unsubscribe(Unsubscribe<'a>),
    /// The client ends the connection. A session expiry that it sent is in force.
    Disconnect {
        /// `NORMAL_DISCONNECTION` for 3.x.
        reason: ReasonCode,
    },
    /// One step of an authentication exchange.
    Auth(Auth<'a>),
    /// A message that was sent is settled, one way or the other.
    Settled {
        /// What the client said.
        reason: ReasonCode,
    },
}

/// What a broker keeps of one ClientID.
#[derive(Debug)]
pub struct Session {
    flow: Flow,
    queue: Queue,
    limits: Arc<QueueLimits>,
    /// Seconds that it outlives its connection.
    expiry: u32,
    link: Option<Link>,
}

/// What ends with the connection.
#[derive(Debug)]
struct Link {
    level: Level,
    keep_alive: KeepAlive,
    /// CONNECT asked for a session that outlives the connection, so DISCONNECT may change for how long.
    may_change_expiry: bool,
    max_expiry: Option<u32>,
}

impl Session {
    /// A session without a connection.
    #[must_use]
    pub fn new(queue: Arc<QueueLimits>) -> Self {
        Self { flow: Flow::default(), queue: Queue::default(), limits: queue, expiry: 0, link: None }
    }

    /// Whether it has a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// What the connection speaks.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.level().map(Level::version)
    }

    /// The protocol level of the connection.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.link.as_ref().map(|link| link.level)
    }

    /// Seconds that it outlives its connection; `u32::MAX` never ends.
    #[must_use]
    pub fn session_expiry(&self) -> u32 {
        self.expiry
    }

    /// QoS 1 and 2 messages that were sent and are not settled.
    #[must_use]
    pub fn inflight(&self) -> usize {
        self.flow.inflight()
    }

    /// Messages that wait, and their bytes.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        self.queue.size()
    }

    /// When the client has been silent for too long; `None` without a connection or keep alive.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.link.as_ref()?.keep_alive.deadline()
    }

    /// Whether the client has been silent for one and a half keep alive intervals (MQTT-3.1.2-22).
    #[must_use]
    pub fn is_overdue(&self, now: Time) -> bool {
        self.link.as_ref().is_some_and(|link| link.keep_alive.is_overdue(now))
    }

    /// A packet came that needs nothing else of the session.
    pub fn touch(&mut self, now: Time) {
        if let Some(link) = &mut self.link {
            link.keep_alive.touch(now);
        }
    }

    /// How many more messages of QoS 1 and 2 the client may have unacknowledged.
    #[must_use]
    pub fn room(&self) -> usize {
        self.flow.room()
    }

    /// Whether the client may send no more of them only because it has not been told yet that QoS 1 messages were taken.
    #[must_use]
    pub fn owes_room(&self) -> bool {
        self.flow.owes_room()
    }

    /// PUBLISH packets of QoS 1 came that say nothing but topic, payload and User Properties, no more than [`Session::room`]:
    /// they wait for [`Session::acknowledge`] as those that [`Session::handle`] took.
    pub fn take_plain(&mut self, now: Time, packet_ids: impl Iterator<Item = PacketId>) {
        self.touch(now);
        self.flow.take_plain(packet_ids);
    }

    /// Whether QoS 0 packets of at most `largest` bytes may be appended to `out` as they are: there is a connection whose
    /// client takes them, it has no use for topic aliases, and nothing waits that they would overtake.
    #[must_use]
    pub fn takes_bytes(&self, largest: usize, out: &Output) -> bool {
        let takes = |terms: &flow::Terms| terms.aliases_out == 0 && largest <= terms.maximum_packet_size as usize;
        self.link.is_some()
            && out.pending() < OUTPUT_HIGH_WATER
            && !self.queue.has_qos0()
            && self.flow.terms().is_some_and(takes)
    }

    /// Whether [`Session::take_notes`] has something.
    #[must_use]
    pub fn has_notes(&self) -> bool {
        self.flow.has_notes()
    }

    /// Whether the next message has to be read from the store first.
    #[must_use]
    pub fn waits_for_page(&self) -> bool {
        self.queue.waits_for_page()
    }

    /// What the store has to know since it was last asked.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.flow.take_notes()
    }

    /// The store knows what it was told of the message under `id`: what waited for that goes out.
    pub fn proceed(&mut self, now: Time, id: PacketId, hold: Hold, out: &mut Output) {
        self.flow.proceed(now, id, hold, out);
        self.pump(now, out); // What turned out to be too large has left its place in the window.
    }

    /// Whether PUBCOMP waits for [`Session::complete`], because a store knows the client's QoS 2 identifiers.
    pub fn keep_ids(&mut self, keeps: bool) {
        self.flow.keep_ids(keeps);
    }

    /// The store could not be told of the PUBREL of the client's message under `id`: that one comes again.
    pub fn keep(&mut self, id: PacketId) {
        self.flow.keep(id);
    }

    /// The store knows of the PUBREL of the client's message under `id`: PUBCOMP goes out.
    pub fn complete(&mut self, id: PacketId, out: &mut Output) {
        self.flow.complete(id, ReasonCode::SUCCESS, out);
    }

    /// Puts back a message that an earlier process sent under `id`; `is_received` when PUBREC had come. In the order of
    /// sending, before the first connection.
    pub fn restore_sent(&mut self, id: PacketId, delivery: Delivery, is_received: bool) {
        self.flow.restore_sent(id, delivery, is_received);
    }

    /// Puts back the identifier of a QoS 2 message of the client that an earlier process took.
    pub fn restore_received(&mut self, id: PacketId) {
        self.flow.restore_received(id);
    }

    /// Puts back what waited in an earlier process, to be read when its turn comes.
    pub fn restore(&mut self, backlog: Backlog) {
        self.queue.restore(backlog);
    }

    /// Puts back for how long the session outlives its connection, seconds.
    pub fn restore_expiry(&mut self, expiry: u32) {
        self.expiry = expiry;
    }

    /// The places of the next messages, when something could be sent and has to be read before. They come back with
    /// [`Session::page_in`].
    pub fn page_out(&mut self, out: &Output) -> Vec<Stub> {
        let has_room = self.link.is_some() && out.pending() < OUTPUT_HIGH_WATER && self.flow.is_open();
        if has_room { self.queue.page_out() } else { Vec::new() }
    }

    /// What was read of [`Session::page_out`], in order, and behind it what has to be read another time; it is sent as far as
    /// there is room.
    pub fn page_in(&mut self, now: Time, page: Vec<Delivery>, unread: &[Stub], out: &mut Output) {
        self.queue.page_in(page, unread);
        self.pump(now, out);
    }

    /// What happened since it was last asked.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(self.flow.counts())
    }

    /// From now on what waits is held to `limits`, for a session that has no connection to say so.
    pub fn limit(&mut self, limits: Arc<QueueLimits>) {
        self.limits = limits;
    }

    /// Begins a connection: CONNACK, and with a session that was there before (`session_present`) what it left open, in the
    /// original order, and then what waits.
    pub fn attach(&mut self, now: Time, admission: &Admission, terms: &Terms, session_present: bool, out: &mut Output) {
        let version = admission.level.version();
        if !session_present {
            self.clear(); // MQTT-3.2.2-2: what there may have been belonged to another session.
        }
        self.expiry = admission.session_expiry;
        self.limits = Arc::clone(&terms.queue);
        self.link = Some(Link {
            level: admission.level,
            keep_alive: KeepAlive::server(admission.keep_alive, now),
            may_change_expiry: admission.session_expiry_asked > 0,
            max_expiry: terms.max_session_expiry,
        });
        self.flow.attach(flow::Terms {
            version,
            window: admission.receive_maximum,
            maximum_packet_size: admission.maximum_packet_size,
            aliases_out: if version.is_v5() { admission.topic_alias_maximum } else { 0 },
            aliases_in: if version.is_v5() { terms.topic_alias_maximum } else { 0 },
            receive_maximum: if version.is_v5() { terms.receive_maximum } else { 0 },
            problem_information: admission.problem_information,
            peer_is_mute: false,
            peer_asks_again: terms.client_asks_again,
        });
        self.flow.write(&accept(admission, terms, session_present), out);
        self.pump(now, out);
    }

    /// One packet from the client.
    ///
    /// # Errors
    /// The client broke a rule: the connection is to be closed with [`Violation::reason`].
    pub fn handle<'a>(&mut self, now: Time, packet: Packet<'a>, out: &mut Output) -> Result<Event<'a>, Violation> {
        let Some(link) = &mut self.link else { return Ok(Event::None) };
        link.keep_alive.touch(now);
        match packet {
            Packet::Publish(publish) => {
                if !publish.properties.subscription_ids.is_empty() {
                    return Err(Violation::SubscriptionIdFromClient); // MQTT-3.3.4-6
                }
                Ok(self.flow.publish_in(publish, out)?.map_or(Event::None, Event::Publish))
            }
            Packet::Puback(ack) => self.answered(now, |flow, _| flow.puback(&ack), out),
            Packet::Pubrec(ack) => self.answered(now, |flow, out| flow.pubrec(&ack, out), out),
            Packet::Pubcomp(ack) => self.answered(now, |flow, out| flow.pubcomp(now, &ack, out), out),
            Packet::Pubrel(ack) => {
                self.flow.pubrel(&ack, out);
                Ok(Event::None)
            }
            Packet::Subscribe(subscribe) => Ok(Event::Subscribe(subscribe)),
            Packet::Unsubscribe(unsubscribe) => Ok(Event::Unsubscribe(unsubscribe)),
            Packet::Pingreq => {
                self.flow.write(&Packet::Pingresp, out); // MQTT-3.12.4-1, MQTT-3.12.4-1 of 3.1.1
                Ok(Event::None)
            }
            Packet::Disconnect(disconnect) => self.disconnected(&disconnect),
            Packet::Auth(auth) => Ok(Event::Auth(auth)),
            Packet::Connect(_) => {
                let why = "the connection has sent CONNECT already"; // MQTT-3.1.0-2, MQTT-3.1.0-2 of 3.1.1
                Err(Violation::UnexpectedPacket { packet: PacketType::Connect, why })
            }
            Packet::Connack(_) => Err(from_server(PacketType::Connack)),
            Packet::Suback(_) => Err(from_server(PacketType::Suback)),
            Packet::Unsuback(_) => Err(from_server(PacketType::Unsuback)),
            Packet::Pingresp => Err(from_server(PacketType::Pingresp)),
        }
    }

    /// The plain acknowledgements at the beginning of `bytes`, each as [`Session::handle`] takes it; what they made room for
    /// goes out once, behind the last. How many there were, the one that broke a rule included.
    pub fn handle_acks(&mut self, now: Time, bytes: &[u8], out: &mut Output) -> (usize, Result<(), Violation>) {
        let Some(link) = &mut self.link else { return (0, Ok(())) };
        link.keep_alive.touch(now);
        let (mut count, mut has_room) = (0, false);
        while let Some(rest) = bytes.get(count * PlainAck::SIZE..)
            && let Some(plain) = PlainAck::first(rest)
        {
            let in_turn = self.flow.pubacks_in_turn(rest);
            if in_turn > 0 {
                (count, has_room) = (count + in_turn, true);
                continue;
            }
            count += 1;
            let ack = Ack::new(plain.packet_id, ReasonCode::SUCCESS);
            let answered = match plain.kind {
                PacketType::Puback => self.flow.puback(&ack),
                PacketType::Pubrec => self.flow.pubrec(&ack, out),
                PacketType::Pubcomp => self.flow.pubcomp(now, &ack, out),
                _ => {
                    self.flow.pubrel(&ack, out);
                    continue;
                }
            };
            match answered {
                Ok(answered) => has_room |= matches!(answered, Answered::Over(..)),
                Err(violation) => return (count, Err(violation)),
            }
        }
        if has_room {
            self.pump(now, out);
        }
        (count, Ok(()))
    }

    /// Answers a message of QoS 1 or 2 that the broker has taken, or refuses.
    pub fn acknowledge(
        &mut self,
        id: PacketId,
        qos: QoS,
        reason: ReasonCode,
        reason_string: Option<&str>,
        out: &mut Output,
    ) {
        self.flow.acknowledge(id, qos, reason, reason_string, out);
    }

    /// Answers messages of QoS 1 that the broker has taken, as [`Session::acknowledge`] with a success, as far as these are the oldest
    /// that wait for an answer, in their order. How many.
    pub fn acknowledge_in_turn(&mut self, ids: impl Iterator<Item = PacketId> + Clone, out: &mut Output) -> usize {
        self.flow.acknowledge_in_turn(ids, out)
    }

    /// Answers a SUBSCRIBE under its identifier (MQTT-2.2.1-6, MQTT-2.3.1-7 of 3.1.1), one reason per filter, without words or
    /// User Properties (MQTT-3.9.2-1, MQTT-3.9.2-2). 3.1 has no word for a failure: the caller gives it the QoS that was asked.
    pub fn suback(&mut self, packet_id: PacketId, reasons: Vec<ReasonCode>, out: &mut Output) {
        let user_properties = UserProperties::default();
        self.flow.write(&Packet::Suback(Suback { packet_id, reasons, reason_string: None, user_properties }), out);
    }

    /// Answers an UNSUBSCRIBE under its identifier, one reason per filter, without words or User Properties (MQTT-3.11.2-1,
    /// MQTT-3.11.2-2).
    pub fn unsuback(&mut self, packet_id: PacketId, mut reasons: Vec<ReasonCode>, out: &mut Output) {
        if self.version() != Some(Version::V5) {
            reasons.clear();
        }
        let user_properties = UserProperties::default();
        self.flow.write(&Packet::Unsuback(Unsuback { packet_id, reasons, reason_string: None, user_properties }), out);
    }

    /// Sends a message, lets it wait, or gives it up.
    ///
    /// QoS 0 goes out as long as the output is not too full, whatever waits for the window (only PUBLISH with QoS 1 and 2 does:
    /// MQTT-3.3.4-10, MQTT-4.9.0-3), and is not kept for a client that
    /// is not there. QoS 1 and 2 never overtake what waits.
    pub fn deliver(&mut self, now: Time, delivery: Delivery, out: &mut Output) -> Delivered {
        let connected = self.link.is_some();
        let has_room = connected && out.pending() < OUTPUT_HIGH_WATER;
        let at_once = if delivery.qos == QoS::AtMostOnce {
            if !connected {
                return Delivered::Dropped(DropReason::Offline);
            }
            has_room && !self.queue.has_qos0()
        } else {
            has_room && !self.queue.has_rest() && self.flow.is_open()
        };
        if !at_once {
            return self.queue.push(delivery, &self.limits, connected, &mut self.flow.counts().displaced);
        }
        if delivery.message.is_expired(now) {
            return Delivered::Dropped(DropReason::Expired); // MQTT-3.3.2-5
        }
        match self.flow.send(now, delivery, 0, out) {
            Ok(()) => Delivered::Sent,
            Err(flow::TooLarge) => Delivered::Dropped(DropReason::TooLarge),
        }
    }

    /// Whether messages of [`Session::send_bundle`] are still one exchange: any other message of QoS 1 or 2 behind them ends that.
    #[must_use]
    pub fn is_bundled(&self) -> bool {
        self.flow.is_bundled()
    }

    /// Whether [`Session::send_bundle`] sends `count` messages of QoS 1 in packets of at most `largest` bytes: they would all go out
    /// now, behind everything else.
    #[must_use]
    pub fn takes_bundle(&self, count: usize, largest: usize, out: &Output) -> bool {
        self.link.is_some()
            && out.pending() < OUTPUT_HIGH_WATER
            && !self.queue.has_rest()
            && self.flow.takes_bundle(count, largest)
    }

    /// Sends the messages of `bundle`, which are `messages`, as [`Session::deliver`] would send each with QoS 1 and no Subscription
    /// Identifier; they stay together until one is answered out of turn. What the store keeps of them is `kept`, where this session is
    /// owed the entry with this index of each. `false`, and nothing was done, when they have to be delivered one by one.
    pub fn send_bundle(
        &mut self,
        (bundle, messages): (&Arc<Bundle>, &[AckedMessage<'_>]),
        largest: usize,
        kept: Option<(&Arc<Kept>, u32)>,
        out: &mut Output,
    ) -> bool {
        self.takes_bundle(messages.len(), largest, out) && self.flow.send_bundle(bundle, messages, kept, out)
    }

    /// Leaves to the store what waits beyond what is to be sent first, as far as it can be read back. For a session whose client
    /// is away.
    pub fn shed(&mut self) {
        self.queue.shed();
    }

    /// Whether messages that the store keeps would be left to it at once: the client is away, and so many wait that those which
    /// are sent first are in memory already.
    #[must_use]
    pub fn is_in_store(&self) -> bool {
        self.link.is_none() && self.queue.is_in_store()
    }

    /// Whether `count` messages more may wait, of this many bytes by [`Message::size`](viaduct_codec::Message::size).
    #[must_use]
    pub fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.queue.has_room(count, bytes, &self.limits)
    }

    /// Has messages wait of which the store alone holds more than their places, as [`Backlog::extend`] does; `false`, and none does,
    /// unless [`Session::is_in_store`].
    pub fn take_stubs(&mut self, first: u64, index: u32, sizes: impl ExactSizeIterator<Item = u32>) -> bool {
        self.link.is_none() && self.queue.push_stubs(first, index, sizes)
    }

    /// Sends what the window and the output have room for: first what an earlier connection left open, then what waits.
    pub fn pump(&mut self, now: Time, out: &mut Output) {
        if self.link.is_none() {
            return;
        }
        self.flow.send_again(now, out);
        let mut lost = Counts::default();
        while out.pending() < OUTPUT_HIGH_WATER {
            let next = if self.flow.is_open() { self.queue.pop_rest(now, &self.limits, &mut lost) } else { None };
            let Some(delivery) = next.or_else(|| self.queue.pop_qos0(now, &self.limits, &mut lost)) else { break };
            if self.flow.send(now, delivery, 0, out).is_err() {
                self.flow.counts().too_large += 1;
            }
        }
        self.flow.counts().expired += lost.expired;
        self.flow.counts().too_old += lost.too_old;
    }

    /// Writes one step of a re-authentication; `false` when the client takes no packet that large. MQTT-4.12.0-6: only to be
    /// asked for when CONNECT named `method`.
    pub fn authenticate(&mut self, reason: ReasonCode, method: &str, data: Option<&[u8]>, out: &mut Output) -> bool {
        // Words and pairs could make it too large, and nobody needs them (MQTT-3.15.2-2, MQTT-3.15.2-3).
        let user_properties = UserProperties::default();
        let auth = Auth { reason, method: Some(method), data, reason_string: None, user_properties };
        self.flow.write(&Packet::Auth(auth), out)
    }

    /// Writes DISCONNECT for a 5.0 client, with words if it wants them and takes them, never with User Properties
    /// (MQTT-3.14.2-4); nothing for 3.x.
    pub fn disconnect(&mut self, reason: ReasonCode, reason_string: Option<&str>, out: &mut Output) {
        if self.version() != Some(Version::V5) {
            return;
        }
        let wanted = self.flow.terms().is_some_and(|terms| terms.problem_information);
        let mut disconnect = Disconnect { reason_string: reason_string.filter(|_| wanted), ..Disconnect::new(reason) };
        if !self.flow.write(&Packet::Disconnect(disconnect), out) && disconnect.reason_string.is_some() {
            disconnect.reason_string = None; // MQTT-3.14.2-3
            self.flow.write(&Packet::Disconnect(disconnect), out);
        }
    }

    /// The connection is over. What is open and what waits with QoS 1 and 2 stays for the next one.
    pub fn detach(&mut self) {
        self.link = None;
        self.flow.detach();
        self.queue.clear_qos0();
    }

    /// Takes what came by the share group `group`, or by any, and may go to another member: what waits, and for any group what
    /// was sent with QoS 1 and not acknowledged. To be asked when a member leaves its group or its session ends.
    pub fn take_shared(&mut self, group: Option<&str>) -> Vec<Delivery> {
        let mut taken = if group.is_none() { self.flow.take_shared() } else { Vec::new() };
        self.queue.take_shared(group, &mut taken);
        taken
    }

    /// Takes the places of the next messages of an earlier process, when some there may go to another member of a share
    /// group; none when there are no more. To be asked before the session ends.
    pub fn take_page_of_shared(&mut self) -> Vec<Stub> {
        self.queue.take_page_of_shared()
    }

    /// The session ends: nothing is owed any more.
    pub fn clear(&mut self) {
        self.flow.forget();
        self.queue.clear();
    }

    /// The session is another owner's: everything is forgotten here, and stays owed.
    pub fn leave(&mut self) {
        drop(self.flow.take_notes());
        let open = self.flow.forget().into_iter().map(|exchange| exchange.delivery);
        open.chain(self.queue.leave()).filter_map(|delivery| delivery.kept).for_each(Place::leave);
    }

    fn answered<'a>(
        &mut self,
        now: Time,
        answer: impl FnOnce(&mut Flow, &mut Output) -> Result<Answered, Violation>,
        out: &mut Output,
    ) -> Result<Event<'a>, Violation> {
        match answer(&mut self.flow, out)? {
            Answered::Nothing | Answered::Received(..) => Ok(Event::None),
            Answered::Over(_, reason) => {
                self.pump(now, out);
                Ok(Event::Settled { reason })
            }
        }
    }

    fn disconnected<'a>(&mut self, disconnect: &Disconnect<'_>) -> Result<Event<'a>, Violation> {
        if let (Some(seconds), Some(link)) = (disconnect.session_expiry, &self.link) {
            if !link.may_change_expiry && seconds > 0 {
                return Err(Violation::SessionExpiryRaised { seconds });
            }
            self.expiry = link.max_expiry.map_or(seconds, |max| seconds.min(max));
        }
        Ok(Event::Disconnect { reason: disconnect.reason })
    }
}

/// The CONNACK that accepts, the first packet to the client and the only one of its kind (MQTT-3.1.4-5, MQTT-3.1.4-4 of 3.1.1,
/// MQTT-3.2.0-1 of 3.1.1). QoS 2 and wildcards are always there, so no Maximum QoS is announced, no will is refused for its
/// QoS and no filter for its wildcards (MQTT-3.2.2-9, MQTT-3.2.2-10, MQTT-3.2.2-12, MQTT-3.8.3-2 of 3.1.1). It never has
/// Response Information (MQTT-3.1.2-28) or a Reason String (MQTT-3.2.2-19), and User Properties only for who asks and takes
/// packets that are large enough (MQTT-3.2.2-20).
fn accept<'a>(admission: &'a Admission, terms: &'a Terms, session_present: bool) -> Packet<'a> {
    let mut properties = ConnackProperties::default();
    if admission.level.version().is_v5() {
        properties.session_expiry = admission.session_expiry_changed.then_some(admission.session_expiry);
        properties.receive_maximum = NonZeroU16::new(terms.receive_maximum).filter(|max| *max < NonZeroU16::MAX);
        properties.retain_available = (!terms.retain_available).then_some(false);
        properties.maximum_packet_size = NonZeroU32::new(terms.maximum_packet_size);
        properties.assigned_client_id = admission.assigned.then_some(admission.client_id.as_str()); // MQTT-3.1.3-7
        properties.topic_alias_maximum = Some(terms.topic_alias_maximum).filter(|max| *max > 0);
        properties.server_keep_alive = admission.server_keep_alive; // MQTT-3.2.2-22: absent, the client's own holds
        if let Some(authentication) = &admission.authentication {
            properties.auth_method = Some(&authentication.method); // MQTT-4.12.0-5
            properties.auth_data = authentication.data.as_deref();
        }
        if admission.node.is_some() && admission.maximum_packet_size as usize > CONNACK_ROOM + terms.introduction.len()
        {
            properties.user_properties = UserProperties::from_encoded(&terms.introduction);
        }
    }
    // 3.1 has no such flag; the codec leaves it out there.
    Packet::Connack(Box::new(Connack { session_present, reason: ReasonCode::SUCCESS, properties }))
}

fn from_server(packet: PacketType) -> Violation {
    Violation::UnexpectedPacket { packet, why: "only a server sends it" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million idle sessions must fit into a small machine, so what a session holds while nothing is open is bounded.
    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<Session>();
        assert!(size <= 312, "{size} bytes, and nothing of it on the heap while nothing is open");
    }
}
