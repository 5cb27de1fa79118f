//! A client, written down from the standard and not from the broker: what it keeps for QoS 1 and 2, what it answers, what
//! it sends again.
//!
//! In: packets of its broker. Out: packets, some of them later. Never judges what it gets: that is the oracle's work.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

use viaduct_codec::{
    Ack, Connack, Level, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Time, TopicRef, Version,
};

use crate::payload::MessageId;

/// What a client always asks for.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) level: Level,
    /// Seconds.
    pub(crate) keep_alive: u16,
    /// 5.0 only, like what follows.
    pub(crate) receive_maximum: Option<NonZeroU16>,
    pub(crate) maximum_packet_size: Option<u32>,
    pub(crate) alias_maximum: Option<u16>,
    /// Seconds that its sessions outlive their connections; 3.x has only 0 and for ever.
    pub(crate) expiry: u32,
}

/// A message of QoS 1 or 2 that the broker has not answered for good.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) id: u16,
    /// What the oracle calls it; `None` for what clears a retained message.
    pub(crate) message: Option<MessageId>,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry: Option<u32>,
    /// PUBREC came: PUBREL is what is sent.
    released: bool,
    /// It was sent on the present connection.
    here: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) broker: usize,
    pub(crate) habits: Habits,
    pub(crate) link: Option<u64>,
    /// CONNACK came.
    pub(crate) greeted: bool,
    /// CONNECT was sent then.
    pub(crate) since: Time,
    /// A clean start was asked for and not confirmed: the next connection asks for it again.
    pub(crate) must_clean: bool,
    /// Seconds that the session of the present connection outlives it.
    pub(crate) expiry: u32,
    /// It sends nothing before.
    pub(crate) frozen_until: Time,
    /// It has closed its half of the connection, and only reads.
    pub(crate) is_mute: bool,
    /// Seconds, as the connection has it.
    pub(crate) keep_alive: u16,
    /// When it last sent anything.
    pub(crate) last_sent: Time,
    outgoing: Vec<Outgoing>,
    /// QoS 2 identifiers of the broker between PUBLISH and PUBREL.
    incoming: BTreeSet<u16>,
    last_id: u16,
    /// SUBSCRIBE and UNSUBSCRIBE packets that wait for their answer.
    asked: BTreeSet<u16>,
    /// Answers that are not sent yet, in order.
    pub(crate) answers: VecDeque<(Time, Answer)>,
    /// Messages of QoS 1 and 2 that the broker takes at a time.
    window: usize,
    alias_maximum: u16,
    aliases: BTreeMap<String, NonZeroU16>,
}

/// An acknowledgement for the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The reason goes to 5.0 only.
    Puback(u16, ReasonCode),
    Pubrec(u16, ReasonCode),
    Pubrel(u16),
    Pubcomp(u16),
}

impl Answer {
    pub(crate) fn packet(self) -> Packet<'static> {
        let ack = |id, reason| Ack::new(PacketId::new(id).expect("it came in a packet"), reason);
        match self {
            Self::Puback(id, reason) => Packet::Puback(ack(id, reason)),
            Self::Pubrec(id, reason) => Packet::Pubrec(ack(id, reason)),
            Self::Pubrel(id) => Packet::Pubrel(ack(id, ReasonCode::SUCCESS)),
            Self::Pubcomp(id) => Packet::Pubcomp(ack(id, ReasonCode::SUCCESS)),
        }
    }
}

/// What a packet of the broker leads to.
#[derive(Debug, Default)]
pub(crate) struct Reaction {
    pub(crate) answer: Option<Answer>,
    /// The broker says that it has this message.
    pub(crate) acknowledged: Option<MessageId>,
    /// The connection begins.
    pub(crate) greeted: bool,
    /// The connection is over.
    pub(crate) over: bool,
}

impl Client {
    pub(crate) fn new(name: String, broker: usize, habits: Habits) -> Self {
        Self {
            name,
            broker,
            habits,
            link: None,
            greeted: false,
            since: Time::default(),
            must_clean: false,
            expiry: 0,
            frozen_until: Time::default(),
            is_mute: false,
            keep_alive: 0,
            last_sent: Time::default(),
            outgoing: Vec::new(),
            incoming: BTreeSet::new(),
            last_id: 0,
            asked: BTreeSet::new(),
            answers: VecDeque::new(),
            window: usize::from(u16::MAX),
            alias_maximum: 0,
            aliases: BTreeMap::new(),
        }
    }

    pub(crate) fn version(&self) -> Version {
        self.habits.level.version()
    }

    /// CONNECT goes out on `link`.
    pub(crate) fn connecting(&mut self, now: Time, link: u64, clean: bool, expiry: u32) {
        if clean {
            self.forget();
        }
        self.link = Some(link);
        self.outgoing.iter_mut().for_each(|open| open.here = false);
        self.greeted = false;
        self.since = now;
        self.must_clean = clean;
        self.expiry = expiry;
        self.keep_alive = self.habits.keep_alive;
        self.last_sent = now;
    }

    /// The connection is gone, or it is left behind for another one.
    pub(crate) fn lost(&mut self) {
        self.link = None;
        self.greeted = false;
        self.is_mute = false;
        self.answers.clear();
        self.asked.clear();
        self.aliases.clear();
        if self.expiry == 0 {
            self.forget();
        }
    }

    /// Nothing is open any more, on either way.
    pub(crate) fn forget(&mut self) {
        self.outgoing.clear();
        self.incoming.clear();
    }

    /// Whether everything that it began is over.
    pub(crate) fn is_idle(&self) -> bool {
        self.outgoing.is_empty() && self.answers.is_empty() && self.asked.is_empty()
    }

    pub(crate) fn may_publish(&self) -> bool {
        self.outgoing.len() < self.window.min(200) && self.outgoing.iter().all(|open| open.here)
    }

    /// An identifier that is free.
    pub(crate) fn take_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            if !self.asked.contains(&id) && self.outgoing.iter().all(|open| open.id != id) {
                return PacketId::new(id).expect("never 0");
            }
        }
    }

    /// A SUBSCRIBE or UNSUBSCRIBE goes out.
    pub(crate) fn asking(&mut self, id: PacketId) {
        self.asked.insert(id.get());
    }

    /// A message of QoS 1 or 2 goes out.
    pub(crate) fn publishing(&mut self, message: Outgoing) {
        self.outgoing.push(message);
    }

    /// An alias for a topic, and whether the broker knows it already.
    pub(crate) fn alias(&mut self, topic: &str) -> Option<(NonZeroU16, bool)> {
        if let Some(alias) = self.aliases.get(topic) {
            return Some((*alias, true));
        }
        let next = u16::try_from(self.aliases.len() + 1).ok().filter(|next| *next <= self.alias_maximum)?;
        let next = NonZeroU16::new(next)?;
        self.aliases.insert(topic.to_owned(), next);
        Some((next, false))
    }

    /// The next message that is to be sent again on the present connection, in the order of their first sending and
    /// within the window.
    pub(crate) fn again(&mut self) -> Option<Outgoing> {
        let open = self.outgoing.iter().filter(|open| open.here).count();
        let next =
            self.outgoing.iter_mut().find(|open| !open.here).filter(|next| next.released || open < self.window)?;
        next.here = true;
        Some(next.clone())
    }

    /// A packet of the broker. `refuses`: if it is a message, it is not wanted.
    pub(crate) fn take(&mut self, packet: &Packet<'_>, refuses: bool) -> Reaction {
        let mut reaction = Reaction::default();
        match packet {
            Packet::Connack(connack) => self.greet(connack, &mut reaction),
            Packet::Publish(publish) => reaction.answer = self.receive(publish, refuses),
            Packet::Puback(ack) => reaction.acknowledged = self.finish(ack.packet_id.get()),
            Packet::Pubrec(ack) => {
                let id = ack.packet_id.get();
                if let Some(open) = self.outgoing.iter_mut().find(|open| open.id == id) {
                    open.released = true;
                    reaction.acknowledged = open.message;
                }
                reaction.answer = Some(Answer::Pubrel(id));
            }
            Packet::Pubcomp(ack) => _ = self.finish(ack.packet_id.get()),
            Packet::Pubrel(ack) => {
                self.incoming.remove(&ack.packet_id.get());
                reaction.answer = Some(Answer::Pubcomp(ack.packet_id.get()));
            }
            Packet::Suback(suback) => _ = self.asked.remove(&suback.packet_id.get()),
            Packet::Unsuback(unsuback) => _ = self.asked.remove(&unsuback.packet_id.get()),
            Packet::Disconnect(_) => reaction.over = true,
            _ => {}
        }
        reaction
    }

    fn greet(&mut self, connack: &Connack<'_>, reaction: &mut Reaction) {
        if connack.reason != ReasonCode::SUCCESS {
            reaction.over = true;
            return;
        }
        self.greeted = true;
        self.must_clean = false;
        self.window = connack.properties.receive_maximum.map_or(usize::from(u16::MAX), |max| usize::from(max.get()));
        self.expiry = connack.properties.session_expiry.unwrap_or(self.expiry);
        self.keep_alive = connack.properties.server_keep_alive.unwrap_or(self.keep_alive);
        self.alias_maximum = connack.properties.topic_alias_maximum.unwrap_or(0);
        // 3.1 has no word for it.
        if !connack.session_present && self.version() != Version::V31 {
            self.forget();
        }
        reaction.greeted = true;
    }

    fn receive(&mut self, publish: &Publish<'_>, refuses: bool) -> Option<Answer> {
        let refuses = refuses && self.version().is_v5();
        let reason = if refuses { ReasonCode::QUOTA_EXCEEDED } else { ReasonCode::SUCCESS };
        let id = publish.packet_id?.get();
        if publish.qos == QoS::ExactlyOnce {
            // What it refused is over; a repetition of it is refused as well.
            if !reason.is_error() {
                self.incoming.insert(id);
            }
            return Some(Answer::Pubrec(id, reason));
        }
        Some(Answer::Puback(id, reason))
    }

    fn finish(&mut self, id: u16) -> Option<MessageId> {
        let place = self.outgoing.iter().position(|open| open.id == id)?;
        self.outgoing.remove(place).message
    }
}

impl Outgoing {
    pub(crate) fn new(id: u16, message: Option<MessageId>, topic: &str, payload: Vec<u8>, qos: QoS) -> Self {
        let topic = topic.to_owned();
        Self { id, message, topic, payload, qos, retain: false, expiry: None, released: false, here: true }
    }

    /// As it is sent: the PUBLISH, or PUBREL once PUBREC came.
    pub(crate) fn packet(&self, dup: bool, is_5: bool) -> Packet<'_> {
        let message_expiry = self.expiry.filter(|_| is_5);
        if self.released {
            return Answer::Pubrel(self.id).packet();
        }
        Packet::Publish(Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: TopicRef::new(&self.topic).ok(),
            packet_id: PacketId::new(self.id),
            properties: PublishProperties { message_expiry, ..PublishProperties::default() },
            payload: &self.payload,
        })
    }
}
