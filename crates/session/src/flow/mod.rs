//! What both ends of a conversation have in common: messages out, messages in, and their acknowledgements.
//!
//! In: deliveries, and the PUBLISH family of packets. Out: bytes in an [`Output`], and what became of each message. It never
//! decides who hears a message, and knows neither CONNECT nor SUBSCRIBE.

mod alias;
mod bundled;
mod held;
mod inbound;
mod keepalive;
mod outbound;
mod packet_id;
mod queue;

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{
    Ack, Message, Outgoing, Packet, PacketId, PacketType, PlainAck, Publish, QoS, ReasonCode, Time, TopicName,
    TopicRef, Version,
};

use crate::delivery::{Counts, Delivery, Hold, Note};
use crate::limits::OUTPUT_HIGH_WATER;
use crate::output::Output;
use crate::violation::Violation;

use alias::{AliasesIn, AliasesOut, Form};
use bundled::Bundled;
use inbound::{Arrived, Inbound, Released};
use outbound::{Awaits, Outbound, Written};
use packet_id::PacketIds;

pub(crate) use keepalive::KeepAlive;
pub(crate) use outbound::Exchange;
pub(crate) use queue::Queue;

/// A PUBLISH whose topic is known, even when an alias stood for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// As it came.
    pub publish: Publish<'a>,
    alias: Option<TopicName>,
}

impl Incoming<'_> {
    /// Where it was published.
    #[must_use]
    pub fn topic(&self) -> TopicRef<'_> {
        match (&self.alias, self.publish.topic) {
            (Some(topic), _) => topic.by_ref(),
            (None, Some(topic)) => topic,
            // The codec lets a PUBLISH without topic through only with an alias, and `Flow::publish_in` resolves that.
            (None, None) => TopicRef::new("/").expect("a slash is a topic name"),
        }
    }
}

/// What this end may do on the connection, as settled by CONNECT and CONNACK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) version: Version,
    /// Messages of QoS 1 and 2 that the peer takes at a time.
    pub(crate) window: u16,
    /// The largest packet that the peer takes, bytes.
    pub(crate) maximum_packet_size: u32,
    /// Aliases that the peer takes.
    pub(crate) aliases_out: u16,
    /// Aliases that this end takes.
    pub(crate) aliases_in: u16,
    /// Messages of QoS 1 and 2 that this end takes at a time; 0 for no limit.
    pub(crate) receive_maximum: u16,
    /// Whether acknowledgements may carry words for a person.
    pub(crate) problem_information: bool,
    /// Whether a peer that has lost its session has no way to say so.
    pub(crate) peer_is_mute: bool,
    /// Whether a PUBCOMP that says that the identifier is unknown asks for the message once more.
    pub(crate) peer_asks_again: bool,
}

impl Terms {
    /// Whether the peer takes a packet that large: the whole of it counts, and the limit may be reached (MQTT-3.1.2-24).
    fn takes(&self, packet: &Packet<'_>) -> bool {
        let is_within = |size: usize| size <= self.maximum_packet_size as usize;
        self.maximum_packet_size == u32::MAX
            || packet.len_bound().is_some_and(is_within)
            || packet.encoded_len(self.version).is_ok_and(is_within)
    }
}

/// One end's flow of messages, through any number of connections.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    link: Option<Link>,
    outbound: Outbound,
    inbound: Inbound,
    ids: PacketIds,
    counts: Counts,
    /// The store knows the peer's QoS 2 identifiers.
    keeps_ids: bool,
    /// The owner says when PUBREL and PUBCOMP go out.
    relays: bool,
    /// The peer of this connection answers as it likes, so one exchange for several messages would not last.
    answers_out_of_turn: bool,
    /// The last step that waited for the store.
    holds: u32,
    /// Mostly nothing.
    aside: Option<Box<Aside>>,
}

/// What is there only now and then.
#[derive(Debug, Default)]
struct Aside {
    /// What the store has to know.
    notes: Vec<Note>,
    /// What went out together, all of it written behind the exchanges.
    bundled: Bundled,
}

/// What ends with the connection.
#[derive(Debug)]
struct Link {
    terms: Terms,
    aliases_in: AliasesIn,
    aliases_out: AliasesOut,
}

/// What an acknowledgement did.
#[derive(Clone, Debug)]
pub(crate) enum Answered {
    /// Nothing, or an answer was written; the peer's view and ours agree again.
    Nothing,
    /// The peer owns the message (PUBREC); its token.
    Received(u64, ReasonCode),
    /// The exchange is over; its token and the peer's reason.
    Over(u64, ReasonCode),
}

/// The message is larger than the peer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

impl Flow {
    /// Nothing open; packet identifiers begin after `last`.
    pub(crate) fn starting_after(last: u16) -> Self {
        Self { ids: PacketIds::starting_after(last), ..Self::default() }
    }

    pub(crate) fn attach(&mut self, terms: Terms) {
        self.unbundle();
        self.answers_out_of_turn = false;
        self.outbound.attach(terms.window);
        self.note_held();
        self.inbound.attach(terms.receive_maximum, terms.peer_is_mute);
        self.link = Some(Link {
            terms,
            aliases_in: AliasesIn::new(terms.aliases_in),
            aliases_out: AliasesOut::new(terms.aliases_out),
        });
    }

    /// The owner says when PUBREL and PUBCOMP go out: by [`Flow::release`] and [`Flow::complete`].
    pub(crate) fn relay(&mut self) {
        self.relays = true;
    }

    /// Whether the store is to be told when the peer gives a QoS 2 identifier back.
    pub(crate) fn keep_ids(&mut self, keeps_ids: bool) {
        self.keeps_ids = keeps_ids;
    }

    pub(crate) fn detach(&mut self) {
        self.link = None;
        if let Some(aside) = self.aside.as_mut().filter(|aside| aside.bundled.is_empty()) {
            aside.bundled = Bundled::default();
            self.put_aside_away();
        }
        self.inbound.detach();
    }

    pub(crate) fn terms(&self) -> Option<&Terms> {
        self.link.as_ref().map(|link| &link.terms)
    }

    pub(crate) fn inflight(&self) -> usize {
        self.outbound.len() + self.aside.as_ref().map_or(0, |aside| aside.bundled.open())
    }

    /// Whether a new QoS 1 or 2 message may be sent now.
    pub(crate) fn is_open(&self) -> bool {
        self.link.is_some() && self.outbound.is_open() && self.ids.has_free()
    }

    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Takes identifiers for messages of QoS 1 that their owner writes and keeps, up to the first that is in use and as far as
    /// the window has room. How many.
    pub(crate) fn lend(&mut self, ids: &[PacketId]) -> usize {
        let room = if self.link.is_some() { self.outbound.room() } else { 0 };
        let count = self.ids.take_these(ids.get(..room.min(ids.len())).unwrap_or_default());
        self.outbound.lend(count);
        count
    }

    /// So many of these are acknowledged.
    pub(crate) fn give_back(&mut self, ids: &[PacketId]) {
        self.outbound.give_back(u16::try_from(ids.len()).unwrap_or(u16::MAX));
        self.ids.release_these(ids);
    }

    /// One of these is kept here from now on.
    pub(crate) fn adopt(&mut self, id: PacketId, delivery: Delivery, token: u64) {
        self.outbound.adopt(id, delivery, token);
    }

    /// The identifier that the next message of QoS 1 or 2 goes out with.
    pub(crate) fn next_id(&self) -> Option<PacketId> {
        self.ids.next()
    }

    /// Whether something goes under this identifier.
    pub(crate) fn is_used(&self, id: PacketId) -> bool {
        self.ids.is_taken(id)
    }

    /// The identifiers from `first` on that nothing goes under.
    pub(crate) fn free_ids(&self, first: PacketId) -> impl Iterator<Item = PacketId> {
        self.ids.free_from(first)
    }

    /// An identifier for a SUBSCRIBE or UNSUBSCRIBE.
    pub(crate) fn take_id(&mut self) -> Option<PacketId> {
        self.ids.take()
    }

    pub(crate) fn release_id(&mut self, id: PacketId) {
        self.ids.release(id);
    }

    /// Sends a message for the first time, DUP 0 (MQTT-4.3.2-2, MQTT-4.3.3-2, MQTT-4.3.3-1 of 3.1.1). QoS 1 and 2 only when
    /// [`Flow::is_open`].
    pub(crate) fn send(&mut self, now: Time, delivery: Delivery, token: u64, out: &mut Output) -> Result<(), TooLarge> {
        if delivery.qos == QoS::AtMostOnce {
            return self.write_publish(now, &delivery, None, false, out);
        }
        self.unbundle(); // What comes now stands behind them, among the exchanges.
        let Some(id) = self.ids.take() else { return Err(TooLarge) };
        self.begin(now, (id, false), delivery, token, out)
    }

    /// The same with QoS 1 or 2 under an identifier that is not in use ([`Flow::is_used`]). `dup`: the peer may have it from an earlier
    /// process.
    pub(crate) fn send_as(
        &mut self,
        now: Time,
        (id, dup): (PacketId, bool),
        delivery: Delivery,
        token: u64,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        self.ids.take_these(&[id]);
        self.begin(now, (id, dup), delivery, token, out)
    }

    fn begin(
        &mut self,
        now: Time,
        (id, dup): (PacketId, bool),
        delivery: Delivery,
        token: u64,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        // At QoS 1 nobody waits for the store to know: whoever writes the message sees the identifier on its place, and only
        // what is written already needs a word of its own.
        if let Some(place) = &delivery.kept
            && (delivery.qos == QoS::ExactlyOnce || !place.note_sent(id))
        {
            let hold = next_hold(&mut self.holds);
            self.aside.get_or_insert_default().notes.push(Note::Sent(id, place.clone(), delivery.qos, hold));
            if delivery.qos == QoS::ExactlyOnce {
                self.outbound.sent((id, dup), delivery, token, Written::WhenStored(hold)); // Whether it fits is seen when it is written.
                return Ok(());
            }
        }
        if !self.outbound.is_next_new() {
            self.outbound.sent((id, dup), delivery, token, Written::InTurn);
            return Ok(());
        }
        // Size first, so that what is too large takes neither an identifier nor a place in the window (MQTT-3.1.2-25).
        if let Err(too_large) = self.write_publish(now, &delivery, Some(id), dup, out) {
            self.ids.release(id);
            return Err(too_large);
        }
        self.outbound.sent((id, dup), delivery, token, Written::Now);
        Ok(())
    }

    /// Sends again what an earlier connection left open, as much as window and output allow: PUBLISH with DUP
    /// (MQTT-3.3.1-1, MQTT-3.3.1-1 of 3.1.1), PUBREL where PUBREC came, and then never PUBLISH (MQTT-4.3.3-5, MQTT-4.3.3-6).
    pub(crate) fn send_again(&mut self, now: Time, out: &mut Output) {
        loop {
            self.write_unwritten(now, out);
            if out.pending() >= OUTPUT_HIGH_WATER || !self.outbound.take_again() {
                return;
            }
        }
    }

    /// Writes what is not held back, in order.
    fn write_unwritten(&mut self, now: Time, out: &mut Output) {
        while let Some(exchange) = self.outbound.next_unwritten() {
            if exchange.held.is_some() {
                if !self.relays {
                    return; // The store will know soon.
                }
                self.outbound.wrote(); // Its PUBREL waits for somebody who may be away.
                continue;
            }
            let exchange = exchange.clone();
            if self.write_next(now, &exchange, out) {
                self.outbound.wrote();
            }
        }
    }

    /// Writes what the peer is to hear next of an exchange; `false` when that is nothing any more.
    fn write_next(&mut self, now: Time, exchange: &Exchange, out: &mut Output) -> bool {
        let id = exchange.id;
        if exchange.awaits == Awaits::Pubcomp {
            self.write_ack(PacketType::Pubrel, Ack::new(id, ReasonCode::SUCCESS), out);
        } else if !exchange.is_tried && exchange.delivery.message.is_expired(now) {
            // It waited for the store, or behind one that did, and its delivery has not begun (MQTT-3.3.2-5).
            self.counts.expired += 1;
            self.finish(id);
            return false;
        } else if self.write_publish(now, &exchange.delivery, Some(id), exchange.is_tried, out).is_err() {
            // The peer takes no packet that large, perhaps smaller ones than it did: as if it had been delivered
            // (MQTT-3.1.2-25).
            self.counts.too_large += 1;
            if self.relays && exchange.is_tried && exchange.delivery.qos == QoS::ExactlyOnce {
                // The peer may have it, and would take the next one under the identifier for it.
                self.write_ack(PacketType::Pubrel, Ack::new(id, ReasonCode::SUCCESS), out);
            }
            self.finish(id);
            return false;
        } else if let Some((_, exchange)) = self.outbound.find(id) {
            exchange.is_tried = true;
        }
        true
    }

    /// A PUBLISH came. `None`: it was received before, and what is due was answered.
    pub(crate) fn publish_in<'a>(
        &mut self,
        publish: Publish<'a>,
        out: &mut Output,
    ) -> Result<Option<Incoming<'a>>, Violation> {
        let Some(link) = &mut self.link else { return Ok(None) };
        let alias = match publish.properties.topic_alias {
            Some(alias) => link.aliases_in.resolve(alias, publish.topic)?,
            None => None,
        };
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.inbound.publish1(id)?,
            (QoS::ExactlyOnce, Some(id)) => match self.inbound.publish2(id, publish.dup)? {
                Arrived::New => {}
                Arrived::Pending => return Ok(None),
                Arrived::Again => {
                    self.write(&Packet::Pubrec(Ack::new(id, ReasonCode::SUCCESS)), out);
                    return Ok(None);
                }
            },
            (QoS::AtMostOnce, _) | (_, None) => {}
        }
        Ok(Some(Incoming { publish, alias }))
    }

    /// Whether aliases are used where the peer takes them.
    pub(crate) fn set_aliases(&mut self, are_used: bool) {
        if let Some(link) = &mut self.link {
            link.aliases_out.set_used(are_used);
        }
    }

    /// How many more messages of QoS 1 and 2 the peer may have unacknowledged.
    pub(crate) fn room(&self) -> usize {
        self.inbound.room()
    }

    /// Whether the peer may have no more of them only because this end has not answered what it sent with QoS 1.
    pub(crate) fn owes_room(&self) -> bool {
        self.inbound.owes_room()
    }

    /// The same of QoS 1 without aliases, no more than there is room for.
    pub(crate) fn take_plain(&mut self, ids: impl Iterator<Item = PacketId>) {
        self.inbound.take_plain(ids);
    }

    /// Answers a PUBLISH with PUBACK or PUBREC under its identifier (MQTT-3.3.4-1, MQTT-3.3.4-1 of 3.1.1, MQTT-2.2.1-5,
    /// MQTT-2.3.1-6 of 3.1.1). 3.x has no word for a failure: it hears a success (MQTT-3.3.5-2 of 3.1.1).
    pub(crate) fn acknowledge(
        &mut self,
        id: PacketId,
        qos: QoS,
        reason: ReasonCode,
        reason_string: Option<&str>,
        out: &mut Output,
    ) {
        let is_plain = qos == QoS::AtLeastOnce && reason == ReasonCode::SUCCESS && reason_string.is_none();
        if is_plain && self.acknowledge_in_turn(std::iter::once(id), out) == 1 {
            return; // As nearly all are.
        }
        // Without a connection the answer is only kept in mind. A failure then frees the identifier in every version, so
        // that the repeated PUBLISH is judged anew.
        let is_v5 = self.terms().is_none_or(|terms| terms.version.is_v5());
        if self.inbound.acknowledge(id, qos, is_v5 && reason.is_error()) {
            let ack = Ack { reason_string, ..Ack::new(id, if is_v5 { reason } else { ReasonCode::SUCCESS }) };
            self.write_ack(if qos == QoS::ExactlyOnce { PacketType::Pubrec } else { PacketType::Puback }, ack, out);
        }
    }

    /// Answers QoS 1 messages under these identifiers with a success, as far as they are the oldest that wait for an answer: how many.
    #[inline]
    pub(crate) fn acknowledge_in_turn(
        &mut self,
        ids: impl Iterator<Item = PacketId> + Clone,
        out: &mut Output,
    ) -> usize {
        if self.terms().is_none_or(|terms| (terms.maximum_packet_size as usize) < PlainAck::SIZE) {
            return 0;
        }
        let count = self.inbound.acknowledge_in_turn(ids.clone());
        PlainAck::encode_pubacks(count, ids, out.buffer());
        count
    }

    pub(crate) fn puback(&mut self, ack: &Ack<'_>) -> Result<Answered, Violation> {
        self.look_into_bundles(ack.packet_id);
        let Some((place, exchange)) = self.outbound.find(ack.packet_id) else { return Ok(Answered::Nothing) };
        if exchange.awaits != Awaits::Puback {
            return Err(Violation::WrongAck { packet: PacketType::Puback, id: ack.packet_id });
        }
        Ok(self.over(place, ack.reason))
    }

    pub(crate) fn pubrec(&mut self, ack: &Ack<'_>, out: &mut Output) -> Result<Answered, Violation> {
        let id = ack.packet_id;
        self.look_into_bundles(id);
        let Some((place, exchange)) = self.outbound.find(id) else {
            // MQTT-4.3.3-4 knows no such message: 5.0 says so, 3.x can only go through with it.
            self.write_ack(PacketType::Pubrel, Ack::new(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND), out);
            return Ok(Answered::Nothing);
        };
        match exchange.awaits {
            Awaits::Puback => Err(Violation::WrongAck { packet: PacketType::Pubrec, id }),
            Awaits::Pubrec if ack.reason.is_error() => Ok(self.over(place, ack.reason)),
            // Answered as PUBRECs come, so PUBRELs keep their order (MQTT-4.6.0-4, MQTT-4.6.0-4 of 3.1.1).
            Awaits::Pubrec => {
                exchange.awaits = Awaits::Pubcomp;
                let token = exchange.token;
                if let Some(place) = &exchange.delivery.kept {
                    let hold = next_hold(&mut self.holds);
                    exchange.held = Some(hold);
                    let note = Note::Received(id, place.clone(), hold);
                    self.aside.get_or_insert_default().notes.push(note);
                } else if self.relays {
                    exchange.held = Some(next_hold(&mut self.holds));
                    exchange.delivery.message = without_contents(&exchange.delivery.message); // It may be long until PUBREL.
                } else {
                    self.write_ack(PacketType::Pubrel, Ack::new(id, ReasonCode::SUCCESS), out);
                }
                Ok(Answered::Received(token, ack.reason))
            }
            Awaits::Pubcomp if exchange.held.is_some() => Ok(Answered::Nothing),
            Awaits::Pubcomp => {
                self.write_ack(PacketType::Pubrel, Ack::new(id, ReasonCode::SUCCESS), out);
                Ok(Answered::Nothing)
            }
        }
    }

    /// Every PUBREL has its PUBCOMP (MQTT-4.3.3-11). Whether that waits for [`Flow::complete`].
    pub(crate) fn pubrel(&mut self, ack: &Ack<'_>, out: &mut Output) -> bool {
        if self.relays {
            self.inbound.restore_if_unknown(ack.packet_id); // Who knows of it is asked.
        }
        let reason = match self.inbound.pubrel(ack.packet_id, self.keeps_ids || self.relays) {
            Released::Free => ReasonCode::SUCCESS,
            Released::Unknown => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
            Released::Held { first } => {
                if first && self.keeps_ids {
                    self.aside.get_or_insert_default().notes.push(Note::Released(ack.packet_id));
                }
                return true;
            }
        };
        self.write_ack(PacketType::Pubcomp, Ack::new(ack.packet_id, reason), out);
        false
    }

    pub(crate) fn pubcomp(&mut self, now: Time, ack: &Ack<'_>, out: &mut Output) -> Result<Answered, Violation> {
        self.look_into_bundles(ack.packet_id);
        let Some((place, exchange)) = self.outbound.find(ack.packet_id) else { return Ok(Answered::Nothing) };
        if exchange.awaits != Awaits::Pubcomp {
            return Err(Violation::WrongAck { packet: PacketType::Pubcomp, id: ack.packet_id });
        }
        if ack.reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND && self.asks_again() {
            self.begin_again(now, ack.packet_id, out);
            return Ok(Answered::Nothing);
        }
        Ok(self.over(place, ack.reason))
    }

    /// Writes a packet of this connection's version. Nothing happens without a connection, or when the peer takes no packet
    /// that large (MQTT-3.1.2-24); whether it was written.
    pub(crate) fn write(&mut self, packet: &Packet<'_>, out: &mut Output) -> bool {
        let Some(terms) = self.terms().copied() else { return false };
        terms.takes(packet) && packet.encode(terms.version, out.buffer()).is_ok()
    }

    /// Writes an acknowledgement, without its words when the peer does not want them or they make it too large
    /// (MQTT-3.1.2-29, MQTT-3.4.2-2, MQTT-3.5.2-2, MQTT-3.6.2-2, MQTT-3.7.2-2). User Properties of its own it never has
    /// (MQTT-3.4.2-3, MQTT-3.5.2-3, MQTT-3.6.2-3, MQTT-3.7.2-3).
    pub(crate) fn write_ack(&mut self, kind: PacketType, mut ack: Ack<'_>, out: &mut Output) {
        if ack.reason == ReasonCode::SUCCESS && ack.reason_string.is_none() {
            if self.terms().is_some_and(|terms| terms.maximum_packet_size as usize >= PlainAck::SIZE) {
                PlainAck { kind, packet_id: ack.packet_id }.encode(out.buffer());
            }
            return;
        }
        let packet = |ack| match kind {
            PacketType::Pubrec => Packet::Pubrec(ack),
            PacketType::Pubrel => Packet::Pubrel(ack),
            PacketType::Pubcomp => Packet::Pubcomp(ack),
            _ => Packet::Puback(ack),
        };
        if self.terms().is_some_and(|terms| !terms.problem_information) {
            ack.reason_string = None;
        }
        if !self.write(&packet(ack), out) && ack.reason_string.is_some() {
            ack.reason_string = None;
            self.write(&packet(ack), out);
        }
    }

    fn write_publish(
        &mut self,
        now: Time,
        delivery: &Delivery,
        id: Option<PacketId>,
        dup: bool,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        let Some(link) = &mut self.link else { return Err(TooLarge) };
        let terms = link.terms;
        let form =
            if dup || !terms.version.is_v5() { Form::Topic } else { link.aliases_out.form(&delivery.message.topic) };
        if !dup && delivery.ids.is_empty() && !matches!(form, Form::Both(_)) {
            let to = Outgoing {
                version: terms.version,
                qos: delivery.qos,
                retain: delivery.retain,
                packet_id: id,
                alias: if let Form::Alias(alias) = form { Some(alias) } else { None },
                largest: terms.maximum_packet_size,
            };
            if delivery.message.encode_plain(&to, out.buffer()).is_some() {
                self.count_sent(delivery.qos);
                return Ok(());
            }
        }
        self.write_publish_with_all(now, delivery, id, dup, form, out)
    }

    /// As [`Flow::write_publish`], with whatever the message says, and the topic in this form if that fits.
    fn write_publish_with_all(
        &mut self,
        now: Time,
        delivery: &Delivery,
        id: Option<PacketId>,
        dup: bool,
        mut form: Form,
        out: &mut Output,
    ) -> Result<(), TooLarge> {
        let Some(link) = &mut self.link else { return Err(TooLarge) };
        let mut publish = delivery.message.to_publish(now);
        publish.qos = delivery.qos;
        publish.retain = delivery.retain;
        publish.dup = dup; // Ours alone: what the publisher's said does not travel (MQTT-3.3.1-3, MQTT-3.3.1-3 of 3.1.1).
        publish.packet_id = id;
        if link.terms.version.is_v5() {
            publish.properties.subscription_ids = delivery.ids.clone();
        }
        let topic = delivery.message.topic.by_ref();
        let mut packet = Packet::Publish(publish);
        address(&mut packet, topic, form);
        if form != Form::Topic && !link.terms.takes(&packet) {
            form = Form::Topic; // An alias that the peer learns now makes the packet longer: perhaps it fits without.
            address(&mut packet, topic, form);
        }
        if !link.terms.takes(&packet) {
            return Err(TooLarge);
        }
        packet.encode(link.terms.version, out.buffer()).map_err(|_| TooLarge)?;
        link.aliases_out.sent(&delivery.message.topic, form);
        self.count_sent(delivery.qos);
        Ok(())
    }

    fn count_sent(&mut self, qos: QoS) {
        if let Some(sent) = self.counts.sent.get_mut(usize::from(qos.bits())) {
            *sent += 1;
        }
    }

    fn over(&mut self, place: usize, reason: ReasonCode) -> Answered {
        match self.outbound.finish(place) {
            Some(exchange) => {
                self.ids.release(exchange.id);
                self.counts.late += u32::from(exchange.delivery.kept.is_some_and(|place| place.is_written()));
                Answered::Over(exchange.token, reason)
            }
            None => Answered::Nothing,
        }
    }

    fn finish(&mut self, id: PacketId) {
        if let Some(place) = self.outbound.find(id).map(|(place, _)| place) {
            self.outbound.finish(place);
            self.ids.release(id);
        }
    }

    /// The peer's session is gone: nothing that was open will be answered. What was, in order.
    pub(crate) fn forget(&mut self) -> Vec<Exchange> {
        self.inbound.clear();
        self.unbundle();
        let exchanges: Vec<_> = self.outbound.clear().into();
        for exchange in &exchanges {
            self.ids.release(exchange.id);
        }
        exchanges
    }

    /// Gives up what was sent and is open.
    pub(crate) fn forget_sent(&mut self) {
        self.unbundle();
        for exchange in self.outbound.clear() {
            self.ids.release(exchange.id);
        }
    }

    /// Takes the QoS 1 messages of share groups that were not acknowledged.
    pub(crate) fn take_shared(&mut self) -> Vec<Delivery> {
        let taken = self.outbound.take_shared();
        for exchange in &taken {
            self.ids.release(exchange.id);
        }
        taken.into_iter().map(|exchange| exchange.delivery).collect()
    }
}

/// A message of which nothing is sent any more.
fn without_contents(message: &Message) -> Arc<Message> {
    Arc::new(Message { payload: Bytes::new(), properties: None, topic: message.topic.clone(), ..*message })
}

fn next_hold(last: &mut u32) -> Hold {
    *last = last.wrapping_add(1);
    Hold(*last)
}

/// Puts the topic on a PUBLISH in this form.
fn address<'a>(packet: &mut Packet<'a>, topic: TopicRef<'a>, form: Form) {
    if let Packet::Publish(publish) = packet {
        (publish.topic, publish.properties.topic_alias) = match form {
            Form::Topic => (Some(topic), None),
            Form::Both(alias) => (Some(topic), Some(alias)),
            Form::Alias(alias) => (None, Some(alias)),
        };
    }
}
