//! The client's end of a conversation: what a bridge dials with.
//!
//! The same flow as the server's end: window, packet identifiers, aliases, what an earlier connection left open. There is no
//! queue: whoever publishes keeps what does not fit into the window.
//!
//! ```text
//! detached --connect--> awaiting CONNACK --handle(CONNACK 0)--> connected --detach--> detached
//! ```
//! Without a session on the server (`session_present` 0) whatever was open will not be answered: ask [`Client::forget`] for it
//! before anything new is published.

mod own_hand;
mod relay;
mod round_trip;
mod stale;

use std::num::{NonZeroU16, NonZeroU32};

use viaduct_codec::{
    Ack, Auth, Connack, Connect, ConnectProperties, Disconnect, FilterRef, Level, Packet, PacketId, PacketType,
    PlainAck, QoS, ReasonCode, Suback, Subscribe, SubscribeEntry, Time, Unsuback, Unsubscribe, UserProperties, VarInt,
    Version, WillProperties,
};

use crate::delivery::{Counts, Delivery};
use crate::flow::{self, Answered, Flow, Incoming, KeepAlive};
use crate::limits::{FREED_AHEAD, PINGRESP_SECONDS};
use crate::output::Output;
use crate::server::Will;
use crate::violation::Violation;

pub use relay::Under;
use round_trip::Meter;
pub use round_trip::{Probe, RoundTrip};
use stale::Stale;

/// What CONNECT says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The protocol level.
    pub level: Level,
    /// May be empty where the version allows it.
    pub client_id: String,
    /// Clean Start (5.0), Clean Session (3.x).
    pub clean_start: bool,
    /// Seconds; 0 is off.
    pub keep_alive: u16,
    /// 5.0: seconds that the session outlives the connection.
    pub session_expiry: u32,
    /// QoS 1 and 2 messages that the server is asked to send at a time. Announced on 5.0; a server that sends more is let.
    pub receive_maximum: u16,
    /// 5.0: the largest packet that this end takes, bytes; `u32::MAX` for no limit.
    pub maximum_packet_size: u32,
    /// 5.0: aliases that this end takes.
    pub topic_alias_maximum: u16,
    /// QoS 1 and 2 messages that this end sends at a time, whatever the server takes.
    pub max_inflight: u16,
    /// The largest packet that the server takes as far as is known beforehand, CONNECT not counted, bytes; `u32::MAX` for no
    /// limit. What CONNACK says counts when it is lower.
    pub server_packet_size: u32,
    /// Absent and empty are different things.
    pub username: Option<String>,
    /// Absent and empty are different things.
    pub password: Option<Vec<u8>>,
    /// What the server publishes when the connection ends badly.
    pub will: Option<Will>,
}

impl Default for Hello {
    /// 5.0, a session that ends with the connection, keep alive 60 s, 20 messages in flight.
    fn default() -> Self {
        Self {
            level: Level::V5,
            client_id: String::new(),
            clean_start: true,
            keep_alive: 60,
            session_expiry: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            max_inflight: 20,
            server_packet_size: u32::MAX,
            username: None,
            password: None,
            will: None,
        }
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection.
    #[error("there is no connection")]
    NotConnected,
    /// As many as the server takes are unacknowledged, or it is not known yet that it does not hold the packet identifier
    /// ([`Client::starting_after`]): try again after the next answer.
    #[error("as many messages as the server takes are unacknowledged")]
    WindowFull,
    /// The server takes no packet that large.
    #[error("the server takes no packet that large")]
    TooLarge,
}

/// What a packet of the server means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing.
    None,
    /// This identifier, or `None` for several, is free for a message of QoS 2 that could not be sent before
    /// ([`PublishError::WindowFull`]).
    Freed(Option<PacketId>),
    /// PUBREL came; PUBCOMP waits for [`Client::complete`]. Only after [`Client::relay`].
    Released(PacketId),
    /// The server's answer to CONNECT. Its limits are in force already.
    Connack(Box<Connack<'a>>),
    /// A message. QoS 1 and 2 wait for [`Client::acknowledge`], in the order of their coming.
    Publish(Incoming<'a>),
    /// The answer to a SUBSCRIBE.
    Suback(Suback<'a>),
    /// The answer to an UNSUBSCRIBE.
    Unsuback(Unsuback<'a>),
    /// PUBREC: the server owns the message with this token.
    Received {
        /// As given to [`Client::publish`].
        token: u64,
        /// Not an error.
        reason: ReasonCode,
    },
    /// PUBACK, PUBCOMP or a failing PUBREC: the message with this token is settled.
    Settled {
        /// As given to [`Client::publish`].
        token: u64,
        /// An error when the server refused it.
        reason: ReasonCode,
    },
    /// The server ends the connection.
    Disconnect(Disconnect<'a>),
    /// One step of an authentication exchange.
    Auth(Auth<'a>),
}

/// A client, through any number of connections.
#[derive(Debug, Default)]
pub struct Client {
    flow: Flow,
    link: Option<Link>,
    /// User Properties of every CONNECT of 5.0, encoded.
    introduction: Vec<u8>,
    /// The server lost the session; nothing is sent before [`Client::forget`].
    lost: bool,
    /// While the server may hold identifiers of which nothing is known here.
    stale: Option<Stale>,
    /// Identifiers are freed one by one, and not some ahead.
    frees_each: bool,
    meter: Meter,
}

/// What ends with the connection.
#[derive(Debug)]
struct Link {
    terms: flow::Terms,
    keep_alive: KeepAlive,
    /// CONNECT asked for a new session.
    clean_start: bool,
    /// As in [`Hello`].
    server_packet_size: u32,
    /// When PINGRESP has to be there.
    pingresp_due: Option<Time>,
    connected: bool,
    /// SUBSCRIBE and UNSUBSCRIBE without an answer, and how many filters they had.
    asked: Vec<(PacketId, usize)>,
}

impl Client {
    /// A client that was never connected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A client that was never connected and whose packet identifiers begin after `last`: for one that resumes a
    /// session of which it has lost its own part. The server may still hold QoS 2 identifiers in it, and would take a
    /// new message under one of them for the old one; so each is freed with PUBREL, and that answered, before its first use
    /// at QoS 2, unless CONNACK says that there is no such session.
    #[must_use]
    pub fn starting_after(last: u16) -> Self {
        Self { flow: Flow::starting_after(last), stale: Some(Stale::default()), ..Self::default() }
    }

    /// What every CONNECT of 5.0 says from now on: User Properties, encoded.
    pub fn introduce(&mut self, user_properties: Vec<u8>) {
        self.introduction = user_properties;
    }

    /// Whether CONNACK said yes and the connection was not detached since.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.connected)
    }

    /// What is spoken.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.link.as_ref().map(|link| link.terms.version)
    }

    /// Messages of QoS 1 and 2 that were sent and are not settled.
    #[must_use]
    pub fn inflight(&self) -> usize {
        self.flow.inflight()
    }

    /// How long the server took to answer, last time it was measured; also of an earlier connection.
    #[must_use]
    pub const fn round_trip(&self) -> Option<RoundTrip> {
        self.meter.last()
    }

    /// Whether a message of QoS 1 or 2 can be published now.
    #[must_use]
    pub fn has_window(&self) -> bool {
        self.is_connected() && !self.lost && self.flow.is_open()
    }

    /// What happened since it was last asked.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(self.flow.counts())
    }

    /// Begins a connection: writes CONNECT.
    pub fn connect(&mut self, now: Time, hello: &Hello, out: &mut Output) {
        let version = hello.level.version();
        let is_v5 = version.is_v5();
        let terms = flow::Terms {
            version,
            window: hello.max_inflight.max(1),
            maximum_packet_size: u32::MAX,
            aliases_out: 0,
            aliases_in: if is_v5 { hello.topic_alias_maximum } else { 0 },
            // mosquitto counts otherwise and sends more than was announced; what it sends beyond is taken, up to the number
            // of packet identifiers.
            receive_maximum: u16::MAX,
            problem_information: true,
            peer_is_mute: version == Version::V31, // Its CONNACK has no Session Present.
            peer_asks_again: false,
        };
        self.link = Some(Link {
            terms,
            keep_alive: KeepAlive::client(hello.keep_alive, now),
            clean_start: hello.clean_start,
            server_packet_size: hello.server_packet_size,
            pingresp_due: None,
            connected: false,
            asked: Vec::new(),
        });
        self.flow.attach(terms);
        self.meter.ask(now, Probe::Connect);
        let mut properties = ConnectProperties::default();
        if is_v5 {
            properties.session_expiry = (hello.session_expiry > 0).then_some(hello.session_expiry);
            properties.receive_maximum = NonZeroU16::new(hello.receive_maximum).filter(|max| *max < NonZeroU16::MAX);
            properties.maximum_packet_size =
                NonZeroU32::new(hello.maximum_packet_size).filter(|max| *max < NonZeroU32::MAX);
            properties.topic_alias_maximum = (hello.topic_alias_maximum > 0).then_some(hello.topic_alias_maximum);
            properties.user_properties = UserProperties::from_encoded(&self.introduction);
        }
        let connect = Connect {
            level: hello.level,
            clean_start: hello.clean_start,
            keep_alive: hello.keep_alive,
            client_id: &hello.client_id,
            will: hello.will.as_ref().map(|will| to_wire(will, now, is_v5)),
            username: hello.username.as_deref(),
            password: hello.password.as_deref(),
            properties,
        };
        self.flow.write(&Packet::Connect(Box::new(connect)), out);
    }

    /// One packet from the server.
    ///
    /// # Errors
    /// The server broke a rule: the connection is of no use any more.
    pub fn handle<'a>(&mut self, now: Time, packet: Packet<'a>, out: &mut Output) -> Result<Event<'a>, Violation> {
        let Some(link) = &mut self.link else { return Ok(Event::None) };
        if link.pingresp_due.is_some() {
            // It lives; PINGRESP may have to wait behind a backlog that is on its way.
            link.pingresp_due = Some(now.after_secs(PINGRESP_SECONDS));
        }
        if !link.connected {
            return match packet {
                Packet::Connack(connack) => self.connack(now, connack, out),
                Packet::Auth(auth) => Ok(Event::Auth(auth)),
                other => Err(unexpected(&other, "CONNACK has to come first")), // MQTT-3.2.0-1
            };
        }
        match packet {
            Packet::Publish(publish) => Ok(self.flow.publish_in(publish, out)?.map_or(Event::None, Event::Publish)),
            Packet::Puback(ack) => self.flow.puback(&ack).map(|answered| self.go_on(now, answered, out)),
            Packet::Pubrec(ack) => self.flow.pubrec(&ack, out).map(|answered| self.go_on(now, answered, out)),
            Packet::Pubcomp(ack) if is_freed(&mut self.stale, ack.packet_id) => Ok(Event::Freed(Some(ack.packet_id))),
            Packet::Pubcomp(ack) => self.flow.pubcomp(now, &ack, out).map(|answered| self.go_on(now, answered, out)),
            Packet::Pubrel(ack) => {
                let is_held = self.flow.pubrel(&ack, out);
                Ok(if is_held { Event::Released(ack.packet_id) } else { Event::None })
            }
            Packet::Suback(suback) => {
                self.settle_asked(PacketType::Suback, suback.packet_id, Some(suback.reasons.len()))?;
                Ok(Event::Suback(suback))
            }
            Packet::Unsuback(unsuback) => {
                let reasons = link.terms.version.is_v5().then_some(unsuback.reasons.len());
                self.settle_asked(PacketType::Unsuback, unsuback.packet_id, reasons)?;
                Ok(Event::Unsuback(unsuback))
            }
            Packet::Pingresp => {
                link.pingresp_due = None;
                self.meter.answered(now, Probe::Ping);
                let is_freed = self.stale.as_mut().is_some_and(Stale::give_up_silent);
                Ok(if is_freed { Event::Freed(None) } else { Event::None })
            }
            Packet::Disconnect(disconnect) if disconnect.session_expiry.is_some() => {
                Err(Violation::SessionExpiryFromServer)
            }
            Packet::Disconnect(disconnect) if link.terms.version.is_v5() => Ok(Event::Disconnect(disconnect)),
            Packet::Auth(auth) => Ok(Event::Auth(auth)),
            Packet::Connack(_) => Err(unexpected(&packet, "CONNACK was there already")),
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Disconnect(_) => Err(unexpected(&packet, "only a client sends it")),
        }
    }

    /// The plain acknowledgements at the beginning of `bytes`, each as [`Client::handle`] takes it; `heard` is told what they
    /// mean. How many there were, the one that broke a rule included; none before CONNACK.
    pub fn handle_acks(
        &mut self,
        now: Time,
        bytes: &[u8],
        out: &mut Output,
        mut heard: impl FnMut(Event<'static>),
    ) -> (usize, Result<(), Violation>) {
        let mut count = 0;
        if !self.is_connected() {
            return (count, Ok(()));
        }
        self.heard_bytes(now);
        let (mut is_over, mut result) = (false, Ok(()));
        while let Some(plain) = bytes.get(count * PlainAck::SIZE..).and_then(PlainAck::first) {
            count += 1;
            let ack = Ack::new(plain.packet_id, ReasonCode::SUCCESS);
            let answered = match plain.kind {
                PacketType::Puback => self.flow.puback(&ack),
                PacketType::Pubrec => self.flow.pubrec(&ack, out),
                PacketType::Pubcomp if is_freed(&mut self.stale, plain.packet_id) => {
                    heard(Event::Freed(Some(plain.packet_id)));
                    continue;
                }
                PacketType::Pubcomp => self.flow.pubcomp(now, &ack, out),
                _ => {
                    if self.flow.pubrel(&ack, out) {
                        heard(Event::Released(plain.packet_id));
                    }
                    continue;
                }
            };
            match answered {
                Ok(answered) => {
                    is_over |= matches!(answered, Answered::Over(..));
                    heard(self.answered(now, answered));
                }
                Err(violation) => {
                    result = Err(violation);
                    break;
                }
            }
        }
        if is_over {
            self.flow.send_again(now, out);
        }
        (count, result)
    }

    /// Sends a message. `token` comes back when it is received and settled; it is not looked at here.
    ///
    /// # Errors
    /// Nothing was sent, and why.
    pub fn publish(&mut self, now: Time, delivery: Delivery, token: u64, out: &mut Output) -> Result<(), PublishError> {
        if !self.is_connected() || self.lost {
            return Err(PublishError::NotConnected);
        }
        let is_answered = delivery.qos != QoS::AtMostOnce;
        if is_answered && !self.flow.is_open() {
            return Err(PublishError::WindowFull);
        }
        if delivery.qos == QoS::ExactlyOnce && self.flow.next_id().is_some_and(|id| !self.is_known_free(id, out)) {
            return Err(PublishError::WindowFull);
        }
        // Keep alive is not put off by it: PINGREQ is what finds out that a connection into which messages go is dead.
        self.flow.send(now, delivery, token, out).map_err(|flow::TooLarge| PublishError::TooLarge)?;
        if is_answered {
            self.meter.sent(now, token);
        }
        Ok(())
    }

    /// Whether the server takes topic aliases.
    #[must_use]
    pub fn uses_aliases(&self) -> bool {
        self.flow.terms().is_some_and(|terms| terms.aliases_out > 0)
    }

    /// Whether topic aliases are used where the server takes them: not at first sight of many messages, which are sooner
    /// written and read with their topic. True at first on each connection.
    pub fn set_aliases(&mut self, are_used: bool) {
        self.flow.set_aliases(are_used);
    }

    /// Answers a message of QoS 1 or 2 (PUBACK, PUBREC). Nothing happens when it came by an earlier connection.
    pub fn acknowledge(&mut self, id: PacketId, qos: QoS, reason: ReasonCode, out: &mut Output) {
        self.flow.acknowledge(id, qos, reason, None, out);
    }

    /// Writes SUBSCRIBE; `None` when there is no connection, nothing to ask for, or the server takes no packet that large.
    pub fn subscribe(
        &mut self,
        now: Time,
        entries: &[SubscribeEntry<'_>],
        subscription_id: Option<VarInt>,
        out: &mut Output,
    ) -> Option<PacketId> {
        let packet = |packet_id| {
            Packet::Subscribe(Subscribe {
                packet_id,
                subscription_id,
                user_properties: UserProperties::default(),
                entries: entries.to_vec(),
            })
        };
        self.ask(now, entries.len(), packet, out)
    }

    /// Writes UNSUBSCRIBE; `None` as for [`Client::subscribe`]. It is the one packet of a client that may say something by
    /// `user_properties`, encoded, and need do nothing.
    pub fn unsubscribe(
        &mut self,
        now: Time,
        filters: &[FilterRef<'_>],
        user_properties: &[u8],
        out: &mut Output,
    ) -> Option<PacketId> {
        let user_properties = UserProperties::from_encoded(user_properties);
        let packet =
            |packet_id| Packet::Unsubscribe(Unsubscribe { packet_id, user_properties, filters: filters.to_vec() });
        self.ask(now, filters.len(), packet, out)
    }

    /// Writes DISCONNECT; nothing follows it. In 3.x it carries no reason, so a bad one is better said by closing.
    pub fn disconnect(&mut self, reason: ReasonCode, out: &mut Output) {
        if self.is_connected() {
            self.flow.write(&Packet::Disconnect(Disconnect::new(reason)), out);
        }
    }

    /// As [`Client::disconnect`], for good: a 5.0 server is told that the session ends with the connection.
    pub fn end_session(&mut self, out: &mut Output) {
        if self.is_connected() {
            let session_expiry = (self.version() == Some(Version::V5)).then_some(0);
            let disconnect = Disconnect { session_expiry, ..Disconnect::new(ReasonCode::NORMAL_DISCONNECTION) };
            self.flow.write(&Packet::Disconnect(disconnect), out);
        }
    }

    /// The connection is over. What is open stays for the next one.
    pub fn detach(&mut self) {
        if let Some(link) = self.link.take() {
            for (id, _) in link.asked {
                self.flow.release_id(id);
            }
        }
        self.flow.detach();
        if let Some(stale) = &mut self.stale {
            stale.detach();
        }
        self.meter.forget();
    }

    /// The server has no session any more: gives up what was open and says what it was, in order, as token and delivery and
    /// whether the server had said that it owns it (PUBREC), which makes sending it again a repetition.
    pub fn forget(&mut self) -> Vec<Forgotten> {
        self.lost = false;
        self.flow
            .forget()
            .into_iter()
            .map(|exchange| Forgotten {
                token: exchange.token,
                received: exchange.is_received(),
                delivery: exchange.delivery,
            })
            .collect()
    }

    /// When [`Client::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let link = self.link.as_ref().filter(|link| link.connected)?;
        link.pingresp_due.into_iter().chain(link.keep_alive.deadline().filter(|_| link.pingresp_due.is_none())).min()
    }

    /// Sends PINGREQ when it is due.
    ///
    /// # Errors
    /// The last one was not answered.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Output) -> Result<(), Violation> {
        let Some(link) = self.link.as_mut().filter(|link| link.connected) else { return Ok(()) };
        if let Some(due) = link.pingresp_due {
            return if due <= now { Err(Violation::NoPingresp { seconds: PINGRESP_SECONDS }) } else { Ok(()) };
        }
        if link.keep_alive.is_overdue(now) {
            link.pingresp_due = Some(now.after_secs(PINGRESP_SECONDS));
            link.keep_alive.touch(now);
            self.meter.ask(now, Probe::Ping);
            self.flow.write(&Packet::Pingreq, out);
        }
        Ok(())
    }

    fn connack<'a>(&mut self, now: Time, connack: Box<Connack<'a>>, out: &mut Output) -> Result<Event<'a>, Violation> {
        let Some(link) = &mut self.link else { return Ok(Event::None) };
        if connack.reason.is_error() {
            return Ok(Event::Connack(connack));
        }
        if connack.session_present && link.clean_start {
            return Err(Violation::SessionPresent);
        }
        let properties = &connack.properties;
        if let Some(maximum) = properties.receive_maximum {
            link.terms.window = link.terms.window.min(maximum.get());
        }
        let announced = properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
        link.terms.maximum_packet_size = announced.min(link.server_packet_size);
        link.terms.aliases_out = properties.topic_alias_maximum.unwrap_or(0);
        if let Some(seconds) = properties.server_keep_alive {
            link.keep_alive = KeepAlive::client(seconds, now); // MQTT-3.2.2-21
        }
        link.connected = true;
        self.meter.answered(now, Probe::Connect);
        self.flow.attach(link.terms);
        // 3.1 has no session present flag: what was open is sent again, as 3.1 asks for.
        self.lost = !connack.session_present && link.terms.version != Version::V31;
        if self.lost || link.clean_start {
            self.stale = None;
        }
        if !self.lost {
            self.flow.send_again(now, out);
        } else if self.flow.inflight() == 0 {
            self.forget();
        }
        Ok(Event::Connack(connack))
    }

    /// Whether the server is known not to hold the identifier that comes next; if not, it is asked to free it, and those that
    /// come behind it.
    fn is_known_free(&mut self, next: PacketId, out: &mut Output) -> bool {
        let Some(stale) = &mut self.stale else { return true };
        let is_free = stale.is_free(next);
        // Asked for in time, so that nobody waits for a round trip each time.
        let together = if self.frees_each { 1 } else { FREED_AHEAD };
        let ahead = if is_free { together / 2 } else { 0 };
        if self.flow.free_ids(next).nth(ahead).is_none_or(|id| stale.is_free(id) || stale.is_awaited(id)) {
            return is_free;
        }
        let asked: Vec<PacketId> = self.flow.free_ids(next).take(together).filter(|id| stale.ask(*id)).collect();
        for id in asked {
            self.flow.write_ack(PacketType::Pubrel, Ack::new(id, ReasonCode::SUCCESS), out);
        }
        is_free
    }

    /// As [`Client::answered`], and sends again what that made room for.
    fn go_on(&mut self, now: Time, answered: Answered, out: &mut Output) -> Event<'static> {
        if matches!(answered, Answered::Over(..)) {
            self.flow.send_again(now, out);
        }
        self.answered(now, answered)
    }

    fn answered(&mut self, now: Time, answered: Answered) -> Event<'static> {
        match answered {
            Answered::Nothing => Event::None,
            Answered::Received(token, reason) => {
                self.meter.answered(now, Probe::Message(token));
                Event::Received { token, reason }
            }
            Answered::Over(token, reason) => {
                self.meter.answered(now, Probe::Message(token));
                Event::Settled { token, reason }
            }
        }
    }

    fn ask<'p>(
        &mut self,
        now: Time,
        filters: usize,
        packet: impl FnOnce(PacketId) -> Packet<'p>,
        out: &mut Output,
    ) -> Option<PacketId> {
        if !self.is_connected() || filters == 0 {
            return None;
        }
        let id = self.flow.take_id()?;
        if !self.flow.write(&packet(id), out) {
            self.flow.release_id(id);
            return None;
        }
        self.touch(now);
        self.link.as_mut()?.asked.push((id, filters));
        Some(id)
    }

    fn settle_asked(&mut self, packet: PacketType, id: PacketId, reasons: Option<usize>) -> Result<(), Violation> {
        let asked = self.link.as_mut().map(|link| &mut link.asked);
        let place = asked.as_ref().and_then(|asked| asked.iter().position(|(open, _)| *open == id));
        let (Some(asked), Some(place)) = (asked, place) else { return Err(Violation::UnknownAnswer { packet, id }) };
        let (_, filters) = asked.remove(place);
        self.flow.release_id(id);
        if reasons.is_some_and(|reasons| reasons != filters) {
            return Err(Violation::UnknownAnswer { packet, id });
        }
        Ok(())
    }

    fn touch(&mut self, now: Time) {
        if let Some(link) = &mut self.link {
            link.keep_alive.touch(now);
        }
    }
}

/// A message that the server will not answer any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// As given to [`Client::publish`].
    pub token: u64,
    /// The server had said that it owns it.
    pub received: bool,
    /// What was sent.
    pub delivery: Delivery,
}

fn to_wire(will: &Will, now: Time, is_v5: bool) -> viaduct_codec::Will<'_> {
    let publish = will.message.to_publish(now);
    let properties = if is_v5 {
        WillProperties {
            delay: (will.delay > 0).then_some(will.delay),
            payload_format: publish.properties.payload_format,
            message_expiry: publish.properties.message_expiry,
            content_type: publish.properties.content_type,
            response_topic: publish.properties.response_topic,
            correlation_data: publish.properties.correlation_data,
            user_properties: publish.properties.user_properties,
        }
    } else {
        WillProperties::default()
    };
    viaduct_codec::Will {
        topic: will.message.topic.by_ref(),
        payload: &will.message.payload,
        qos: will.message.qos,
        retain: will.message.retain,
        properties,
    }
}

/// Whether PUBCOMP only says that an identifier is free now.
fn is_freed(stale: &mut Option<Stale>, id: PacketId) -> bool {
    stale.as_mut().is_some_and(|stale| stale.is_answer(id))
}

fn unexpected(packet: &Packet<'_>, why: &'static str) -> Violation {
    Violation::UnexpectedPacket { packet: packet.kind(), why }
}
