//! What clients do of their own will, and what they do with what they get.
//!
//! In: turns, packets. Out: packets on their way. Every choice is chance's; none looks at the oracle or at an engine.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use viaduct_codec::{
    Connect, ConnectProperties, Disconnect, FilterRef, Frame, Level, Packet, Publish, PublishProperties, QoS,
    ReasonCode, RetainHandling, Subscribe, SubscribeEntry, SubscribeOptions, TopicRef, Unsubscribe, UserProperties,
    VarInt, Version, Will, WillProperties,
};

use crate::client::Outgoing;
use crate::link::Owner;
use crate::payload;
use crate::plan::Act;
use crate::topics;
use crate::words::words;
use crate::world::{Event, World};

/// A client that waits longer for CONNACK closes.
const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    /// A client's turn.
    pub(crate) fn act(&mut self, who: usize) {
        if self.is_calm {
            return;
        }
        self.sometimes(self.plan.pace, Event::Act(who));
        let client = &self.clients[who];
        if self.now < client.frozen_until || client.is_mute {
            return;
        }
        if client.link.is_none() {
            if self.rng.percent(40) {
                let clean = self.rng.percent(self.plan.clean);
                self.connect(who, clean);
            }
            return;
        }
        if !client.greeted {
            return;
        }
        let Some(act) = self.rng.weighted(&self.plan.acts.clone()) else { return };
        match Act::ALL[act] {
            Act::Publish => {
                for _ in 0..self.rng.pick(&[1, 1, 1, 2, 8]) {
                    self.publish(who);
                }
            }
            Act::Subscribe => self.subscribe(who),
            Act::Unsubscribe => self.unsubscribe(who),
            Act::Goodbye => self.goodbye(who, false),
            Act::Leave => self.leave(who),
            Act::TakeOver => {
                let clean = self.rng.percent(self.plan.clean);
                self.abandon(who);
                self.connect(who, clean);
            }
            Act::Stall => {
                let until = self.now.after(Duration::from_millis(self.rng.around(3_000)));
                let link = client.link.and_then(|id| self.links.get_mut(&id));
                if let Some(link) = link {
                    link.stalled_until = until;
                }
            }
            Act::Mute => {
                let Some(link) = client.link else { return };
                self.note(format_args!("{} closes its half of link {link}", self.clients[who].name.clone()));
                self.clients[who].is_mute = true;
                self.finish_up(link);
            }
            Act::Freeze => {
                let ms = self.rng.around(10_000);
                self.clients[who].frozen_until = self.now.after(Duration::from_millis(ms));
            }
        }
    }

    /// A new connection of a client that has none.
    pub(crate) fn connect(&mut self, who: usize, clean: bool) {
        if self.plan.switches && self.clients[who].version() != Version::V31 {
            self.clients[who].habits.level = self.rng.pick(&[Level::V311, Level::V5]);
        }
        let client = &self.clients[who];
        let (broker, habits) = (client.broker, client.habits.clone());
        if !self.brokers[broker].is_up() {
            return;
        }
        let clean = clean || client.must_clean;
        let version = client.version();
        let name = client.name.clone();
        // 3.x: a clean session ends with its connection, any other never. 5.0 chooses freely.
        let expiry = match version {
            Version::V5 => habits.expiry,
            _ if clean => 0,
            // Not told to 3.x.
            _ => self.plan.caps.map_or(u32::MAX, |(expiry, _)| expiry),
        };
        let will = (!self.is_calm && self.rng.percent(self.plan.wills)).then(|| self.will(who));
        let (topic, payload) = will.as_ref().map(|will| (will.topic.clone(), will.payload.clone())).unwrap_or_default();
        let will = will.and_then(|will| {
            let properties = WillProperties {
                delay: will.delay.filter(|_| version.is_v5()),
                message_expiry: will.expiry.filter(|_| version.is_v5()),
                ..WillProperties::default()
            };
            let topic = TopicRef::new(&topic).ok()?;
            Some(Will { topic, payload: &payload, qos: will.qos, retain: will.retain, properties })
        });
        let mut properties = ConnectProperties::default();
        if version.is_v5() {
            properties.session_expiry = Some(expiry).filter(|expiry| *expiry > 0);
            properties.receive_maximum = habits.receive_maximum;
            properties.maximum_packet_size = habits.maximum_packet_size.and_then(NonZeroU32::new);
            properties.topic_alias_maximum = habits.alias_maximum;
        }
        let connect = Packet::Connect(Box::new(Connect {
            level: habits.level,
            clean_start: clean,
            keep_alive: habits.keep_alive,
            client_id: &name,
            will,
            username: None,
            password: None,
            properties,
        }));
        let id = self.open(Owner::Client(who), broker, version);
        self.clients[who].connecting(self.now, id, clean, expiry);
        self.note(format_args!("{name} opens link {id}: {}", words(&connect)));
        self.send_on(id, &connect);
        self.after(5_000, Event::Look(who));
        // CONNACK need not be waited for (MQTT 5.0 section 3.1.4).
        while !self.is_calm && self.rng.percent(self.plan.hasty) {
            self.subscribe(who);
        }
    }

    /// A will of its own for the next connection.
    fn will(&mut self, who: usize) -> WillPlan {
        let name = self.clients[who].name.clone();
        let message = self.oracle.made(&name, true);
        self.figures.messages += 1;
        let topic = topics::will(&name);
        let payload = payload::write(message, 0);
        let delay = self.rng.pick(&[None, Some(0), Some(1), Some(5), Some(60)]);
        let expiry = if self.rng.percent(self.plan.expire) { Some(self.rng.pick(&[1, 10, 100])) } else { None };
        let retain = self.rng.percent(self.plan.retain);
        WillPlan { topic, payload, qos: qos(self.rng.below(3)), retain, delay, expiry }
    }

    fn publish(&mut self, who: usize) {
        let client = &self.clients[who];
        let Some(link) = client.link else { return };
        let (name, version) = (client.name.clone(), client.version());
        let topic = topics::topic(&mut self.rng, client.broker, self.brokers.len() > 1, &self.plan);
        let qos = qos(self.rng.below(3));
        if qos > QoS::AtMostOnce && !client.may_publish() {
            return;
        }
        let retain = self.rng.percent(self.plan.retain);
        let expires = version.is_v5() && self.rng.percent(self.plan.expire);
        let expiry = expires.then(|| self.rng.pick(&[1, 3, 20, 3_600]));
        let clears = retain && self.rng.percent(15);
        let message = if clears { None } else { Some(self.oracle.made(&name, false)) };
        self.figures.messages += 1;
        let is_large = self.plan.large > 0 && self.rng.percent(3);
        let size = if is_large { self.rng.around(self.plan.large).min(100_000) } else { self.rng.below(40) };
        let size = usize::try_from(size).unwrap_or(0);
        let payload = message.map_or_else(Vec::new, |message| payload::write(message, size));
        if qos == QoS::AtMostOnce {
            let packet = Publish {
                dup: false,
                qos,
                retain,
                topic: TopicRef::new(&topic).ok(),
                packet_id: None,
                properties: PublishProperties { message_expiry: expiry, ..PublishProperties::default() },
                payload: &payload,
            };
            return self.send_aliased(who, link, &topic, packet);
        }
        let id = self.clients[who].take_id();
        let mut open = Outgoing::new(id.get(), message, &topic, payload, qos);
        (open.retain, open.expiry) = (retain, expiry);
        self.clients[who].publishing(open.clone());
        if let Packet::Publish(publish) = open.packet(false, version.is_v5()) {
            self.send_aliased(who, link, &topic, publish);
        }
    }

    /// A PUBLISH, now and then with an alias for its topic.
    fn send_aliased(&mut self, who: usize, link: u64, topic: &str, mut publish: Publish<'_>) {
        if self.clients[who].version().is_v5()
            && self.rng.percent(30)
            && let Some((alias, is_known)) = self.clients[who].alias(topic)
        {
            publish.properties.topic_alias = Some(alias);
            if is_known {
                publish.topic = None;
            }
        }
        self.send(who, link, &Packet::Publish(publish));
    }

    fn subscribe(&mut self, who: usize) {
        let Some(link) = self.clients[who].link else { return };
        let (broker, version) = (self.clients[who].broker, self.clients[who].version());
        let id = self.clients[who].take_id();
        let count = self.rng.pick(&[1, 1, 2, 3]);
        let filters: Vec<String> = (0..count)
            .map(|_| topics::filter(&mut self.rng, who, broker, self.brokers.len() > 1, &self.plan))
            .collect();
        let is_v5 = version.is_v5();
        let mut options = Vec::new();
        for filter in &filters {
            let is_shared = filter.starts_with("$share/");
            options.push(SubscribeOptions {
                // One member that takes QoS 0 and the group may lose anything: most groups have none.
                qos: qos(if is_shared && !self.rng.percent(4) {
                    self.rng.between(1, 2)
                } else {
                    self.rng.pick(&[0, 1, 1, 2, 2])
                }),
                no_local: is_v5 && !is_shared && self.rng.percent(20),
                retain_as_published: is_v5 && self.rng.percent(30),
                retain_handling: if is_v5 {
                    self.rng.pick(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend])
                } else {
                    RetainHandling::Send
                },
            });
        }
        let entries = filters.iter().zip(options);
        let entries = entries
            .filter_map(|(filter, options)| Some(SubscribeEntry { filter: FilterRef::new(filter).ok()?, options }));
        let subscription_id = if is_v5 && self.rng.percent(50) {
            u32::try_from(self.rng.between(1, 40)).ok().and_then(VarInt::new)
        } else {
            None
        };
        let subscribe = Subscribe {
            packet_id: id,
            subscription_id,
            user_properties: UserProperties::default(),
            entries: entries.collect(),
        };
        self.clients[who].asking(id);
        self.send(who, link, &Packet::Subscribe(subscribe));
    }

    fn unsubscribe(&mut self, who: usize) {
        let Some(link) = self.clients[who].link else { return };
        let filter = topics::filter(&mut self.rng, who, self.clients[who].broker, self.brokers.len() > 1, &self.plan);
        let Ok(filter) = FilterRef::new(&filter) else { return };
        let id = self.clients[who].take_id();
        self.clients[who].asking(id);
        let filters = vec![filter];
        let user_properties = UserProperties::default();
        self.send(who, link, &Packet::Unsubscribe(Unsubscribe { packet_id: id, user_properties, filters }));
    }

    /// DISCONNECT, now and then one that asks for the will, and close.
    pub(crate) fn goodbye(&mut self, who: usize, ends_session: bool) {
        let client = &self.clients[who];
        let Some(link) = client.link else { return };
        let mut disconnect = Disconnect::new(ReasonCode::NORMAL_DISCONNECTION);
        let mut expiry = client.expiry;
        if client.version().is_v5() && !self.is_calm && self.rng.percent(30) {
            disconnect.reason = ReasonCode::DISCONNECT_WITH_WILL;
        }
        if client.version().is_v5() && expiry > 0 && (ends_session || self.rng.percent(20)) {
            expiry = if ends_session { 0 } else { self.rng.pick(&[0, 1, 30, 86_400]) };
            disconnect.session_expiry = Some(expiry);
        }
        self.send(who, link, &Packet::Disconnect(disconnect));
        self.close_up(link);
        self.clients[who].expiry = expiry;
        self.clients[who].lost();
    }

    /// Closes without a word.
    pub(crate) fn leave(&mut self, who: usize) {
        if let Some(link) = self.clients[who].link {
            self.note(format_args!("{} leaves link {link}", self.clients[who].name.clone()));
            self.close_up(link);
            self.clients[who].lost();
        }
    }

    /// Leaves a connection open that nobody reads any more.
    fn abandon(&mut self, who: usize) {
        if let Some(link) = self.clients[who].link.and_then(|id| self.links.get_mut(&id)) {
            link.owner = Owner::Nobody;
        }
        self.clients[who].lost();
    }

    /// Looks at the clock: CONNACK that does not come, and keep alive.
    pub(crate) fn look(&mut self, who: usize) {
        let client = &self.clients[who];
        let Some(link) = client.link else { return };
        if !client.greeted {
            if self.now.since(client.since) > PATIENCE {
                self.note(format_args!("{} waits for CONNACK no longer", self.clients[who].name.clone()));
                self.close_up(link);
                return self.clients[who].lost();
            }
            return self.after(5_000, Event::Look(who));
        }
        let interval = Duration::from_secs(u64::from(client.keep_alive));
        if interval.is_zero() || client.is_mute {
            return;
        }
        let due = client.last_sent.after(interval.mul_f64(0.7)).max(client.frozen_until);
        if due > self.now {
            return self.at(due, Event::Look(who));
        }
        self.send(who, link, &Packet::Pingreq);
        self.after(u64::from(self.clients[who].keep_alive) * 700, Event::Look(who));
    }

    /// Sends the answers that are due.
    pub(crate) fn answer(&mut self, who: usize) {
        let client = &mut self.clients[who];
        let Some(link) = client.link else { return };
        let (now, is_calm) = (self.now, self.is_calm);
        let mut due = Vec::new();
        while client.answers.front().is_some_and(|(time, _)| *time <= now || is_calm) {
            due.extend(client.answers.pop_front().map(|(_, answer)| answer));
        }
        for answer in due {
            self.send(who, link, &answer.packet());
        }
    }

    /// Bytes of the broker have come.
    pub(crate) fn client_reads(&mut self, who: usize, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let bytes = std::mem::take(&mut link.heard);
        let version = link.version;
        let mut rest = &bytes[..];
        while let Ok(Some(frame)) = Frame::split(rest, u32::MAX) {
            rest = &rest[frame.bytes.len()..];
            let Some(link) = self.links.get_mut(&id).filter(|link| link.owner == Owner::Client(who)) else { return };
            let encoded = link.used(frame.bytes.len());
            match Packet::decode(frame, version) {
                Ok(packet) => {
                    self.note(format_args!("{} gets on link {id}: {}", self.clients[who].name.clone(), words(&packet)));
                    self.oracle.received(id, &packet, frame.bytes.len(), encoded);
                    self.client_takes(who, id, &packet);
                }
                Err(error) => {
                    let what = format!("{} got what is no packet: {error}", self.clients[who].name);
                    self.oracle.breach(crate::Promise::Conversation, what);
                }
            }
        }
        let rest = rest.to_vec();
        if let Some(link) = self.links.get_mut(&id) {
            link.heard = rest;
        }
    }

    fn client_takes(&mut self, who: usize, id: u64, packet: &Packet<'_>) {
        let refuses = !self.is_calm && self.rng.percent(self.plan.refuse);
        let reaction = self.clients[who].take(packet, refuses);
        if let Some(message) = reaction.acknowledged {
            self.oracle.acknowledged(message);
        }
        if let Some(answer) = reaction.answer {
            let is_late = !self.is_calm && self.rng.percent(self.plan.late);
            let ms = if is_late { self.rng.around(2_000) } else { 0 };
            let client = &mut self.clients[who];
            let due = self.now.after(Duration::from_millis(ms)).max(client.frozen_until);
            let due = client.answers.back().map_or(due, |(last, _)| due.max(*last));
            client.answers.push_back((due, answer));
            if due > self.now {
                self.at(due, Event::Answer(who));
            } else {
                self.answer(who);
            }
        }
        if self.clients[who].greeted {
            let is_5 = self.clients[who].version().is_v5();
            while let Some(message) = self.clients[who].again() {
                self.send(who, id, &message.packet(true, is_5));
            }
        }
        if reaction.greeted {
            self.after(0, Event::Look(who));
        }
        if reaction.over {
            self.close_up(id);
            self.clients[who].lost();
        }
    }

    /// The connection of a client is gone; it may have another one already.
    pub(crate) fn client_lost(&mut self, who: usize, id: u64) {
        if self.clients[who].link == Some(id) {
            self.note(format_args!("{} loses link {id}", self.clients[who].name.clone()));
            self.clients[who].lost();
        }
    }

    fn send(&mut self, who: usize, id: u64, packet: &Packet<'_>) {
        if self.clients[who].is_mute {
            return;
        }
        self.clients[who].last_sent = self.now;
        self.note(format_args!("{} sends on link {id}: {}", self.clients[who].name.clone(), words(packet)));
        self.send_on(id, packet);
    }

    fn send_on(&mut self, id: u64, packet: &Packet<'_>) {
        let Some(link) = self.links.get(&id) else { return };
        let mut bytes = Vec::new();
        packet.encode(link.version, &mut bytes).expect("the simulation makes good packets");
        self.oracle.sent(id, packet);
        self.write_up(id, &bytes);
    }
}

struct WillPlan {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    delay: Option<u32>,
    expiry: Option<u32>,
}

fn qos(bits: u64) -> QoS {
    match bits {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// What a client of this world always asks for.
pub(crate) fn habits(rng: &mut crate::rng::Rng, level: Level) -> crate::client::Habits {
    crate::client::Habits {
        level,
        keep_alive: rng.pick(&[0, 0, 5, 60]),
        receive_maximum: rng.pick(&[None, NonZeroU16::new(1), NonZeroU16::new(3), NonZeroU16::new(20)]),
        maximum_packet_size: rng.pick(&[None, None, None, Some(120), Some(4_000)]),
        alias_maximum: rng.pick(&[None, Some(2), Some(20)]),
        expiry: rng.pick(&[0, 2, 30, 3_600, 86_400 * 7, u32::MAX, u32::MAX]),
    }
}
