//! One connection as its client sees it: CONNACK first, every packet answered in order, windows and aliases kept.
//!
//! In: packets that the client sent and got. Out: breaches; what concerns the session goes to its book.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU16, NonZeroU32};

use viaduct_codec::{Connect, Packet, Publish, QoS, ReasonCode, Time, Version};

use super::{Oracle, Promise};

pub(super) struct Wire {
    pub(super) client: String,
    /// `None` until the broker let it in.
    pub(super) incarnation: Option<u64>,
    version: Version,
    pub(super) expects_session: bool,
    /// Seconds, when they are not what was asked for.
    pub(super) expects_expiry: Option<u32>,
    greeted: bool,
    pub(super) receive_maximum: usize,
    maximum_packet_size: u32,
    alias_maximum: u16,
    /// Aliases of the broker, and of the client as the broker heard them.
    aliases: BTreeMap<u16, String>,
    aliases_heard: BTreeMap<u16, String>,
    /// Identifiers of messages to the client that it has not answered for good.
    open: BTreeSet<u16>,
    /// Identifiers that wait for an answer of the broker, in order.
    pubacks: VecDeque<u16>,
    pubrecs: VecDeque<u16>,
    pubcomps: BTreeSet<u16>,
    subacks: VecDeque<(u16, Vec<QoS>)>,
    unsubacks: VecDeque<(u16, usize)>,
    pings: usize,
}

impl Wire {
    fn new(connect: &Connect<'_>) -> Self {
        let properties = &connect.properties;
        Self {
            client: connect.client_id.to_owned(),
            incarnation: None,
            version: connect.level.version(),
            expects_session: false,
            expects_expiry: None,
            greeted: false,
            receive_maximum: properties.receive_maximum.map_or(usize::from(u16::MAX), |max| usize::from(max.get())),
            maximum_packet_size: properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get),
            alias_maximum: properties.topic_alias_maximum.unwrap_or(0),
            aliases: BTreeMap::new(),
            aliases_heard: BTreeMap::new(),
            open: BTreeSet::new(),
            pubacks: VecDeque::new(),
            pubrecs: VecDeque::new(),
            pubcomps: BTreeSet::new(),
            subacks: VecDeque::new(),
            unsubacks: VecDeque::new(),
            pings: 0,
        }
    }

    /// The topic of a PUBLISH that the broker took.
    pub(super) fn topic_heard(&mut self, publish: &Publish<'_>) -> Option<String> {
        resolve(&mut self.aliases_heard, publish)
    }

    /// PUBREC came for a message of the client's. In turn, except at a bridge: one that began anew sends what the last one had dropped as
    /// an echo in front of what that had carried, and the broker answers for what it knows at once.
    fn is_received(&mut self, id: u16) -> bool {
        let Some(place) = self.pubrecs.iter().position(|due| *due == id) else { return false };
        self.pubrecs.remove(place);
        place == 0 || self.client.starts_with("$bridge/")
    }

    /// What the client still waits for.
    fn unanswered(&self) -> Option<String> {
        let waits = [
            ("PUBACK", self.pubacks.len()),
            ("PUBREC", self.pubrecs.len()),
            ("PUBCOMP", self.pubcomps.len()),
            ("SUBACK", self.subacks.len()),
            ("UNSUBACK", self.unsubacks.len()),
            ("PINGRESP", self.pings),
        ];
        let (name, _) = waits.iter().find(|(_, count)| *count > 0)?;
        Some(format!("{} never got its {name}", self.client))
    }
}

fn resolve(aliases: &mut BTreeMap<u16, String>, publish: &Publish<'_>) -> Option<String> {
    let alias = publish.properties.topic_alias.map(NonZeroU16::get);
    match (publish.topic, alias) {
        (Some(topic), Some(alias)) => {
            aliases.insert(alias, topic.as_str().to_owned());
            Some(topic.as_str().to_owned())
        }
        (Some(topic), None) => Some(topic.as_str().to_owned()),
        (None, Some(alias)) => aliases.get(&alias).cloned(),
        (None, None) => None,
    }
}

impl Oracle {
    /// The client of `connection` sent a packet.
    pub(crate) fn sent(&mut self, connection: u64, packet: &Packet<'_>) {
        if let Packet::Connect(connect) = packet {
            self.wires.insert(connection, Wire::new(connect));
        }
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let mut finished = None;
        match packet {
            Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
                (QoS::AtLeastOnce, Some(id)) => wire.pubacks.push_back(id.get()),
                (QoS::ExactlyOnce, Some(id)) => wire.pubrecs.push_back(id.get()),
                _ => {}
            },
            Packet::Pubrec(ack) if !ack.reason.is_error() => {}
            Packet::Puback(ack) | Packet::Pubcomp(ack) | Packet::Pubrec(ack) => {
                wire.open.remove(&ack.packet_id.get());
                finished = Some(ack.packet_id.get());
            }
            Packet::Pubrel(ack) => {
                wire.pubcomps.insert(ack.packet_id.get());
            }
            Packet::Subscribe(subscribe) => {
                let wanted = subscribe.entries.iter().map(|entry| entry.options.qos).collect();
                wire.subacks.push_back((subscribe.packet_id.get(), wanted));
            }
            Packet::Unsubscribe(unsubscribe) => {
                wire.unsubacks.push_back((unsubscribe.packet_id.get(), unsubscribe.filters.len()));
            }
            Packet::Pingreq => wire.pings += 1,
            _ => {}
        }
        if let Some(id) = finished
            && let Some(book) = wire.incarnation.and_then(|incarnation| self.books.get_mut(&incarnation))
        {
            book.finished(id);
        }
    }

    /// The client of `connection` got a packet of `size` bytes, which its broker wrote at `encoded`.
    pub(crate) fn received(&mut self, connection: u64, packet: &Packet<'_>, size: usize, encoded: Time) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let client = wire.client.clone();
        if size > wire.maximum_packet_size as usize {
            let what = format!("{client} got {size} bytes and takes {}", wire.maximum_packet_size);
            return self.breach(Promise::Conversation, what);
        }
        if wire.incarnation.is_none() && !matches!(packet, Packet::Connack(connack) if connack.reason.is_error()) {
            return self.breach(Promise::Conversation, format!("{client} got {packet:?} and was not let in"));
        }
        if wire.greeted == matches!(packet, Packet::Connack(_)) {
            return self.breach(Promise::Conversation, format!("{client}: CONNACK does not come first and once"));
        }
        let right = match packet {
            Packet::Connack(connack) => {
                wire.greeted = true;
                let (told, expected) = (connack.session_present, wire.expects_session);
                if connack.reason == ReasonCode::SUCCESS && told != expected {
                    let what = format!("{client} was told Session Present {told}, it is {expected}");
                    return self.breach(Promise::Sessions, what);
                }
                if connack.reason == ReasonCode::SUCCESS {
                    let expected = wire.expects_expiry;
                    self.told(connection, 0);
                    connack.properties.session_expiry == expected
                } else {
                    true
                }
            }
            Packet::Publish(publish) => return self.received_publish(connection, publish, encoded),
            Packet::Puback(ack) => !ack.reason.is_error() && wire.pubacks.pop_front() == Some(ack.packet_id.get()),
            Packet::Pubrec(ack) => !ack.reason.is_error() && wire.is_received(ack.packet_id.get()),
            Packet::Pubcomp(ack) => wire.pubcomps.remove(&ack.packet_id.get()),
            Packet::Pubrel(ack) => {
                let book = wire.incarnation.and_then(|incarnation| self.books.get_mut(&incarnation));
                book.is_some_and(|book| book.released(ack.packet_id.get()) || book.is_vague)
            }
            Packet::Suback(suback) => wire.subacks.pop_front().is_some_and(|(id, wanted)| {
                let granted = suback.reasons.iter().map(|reason| QoS::from_bits(reason.0));
                id == suback.packet_id.get() && granted.eq(wanted.into_iter().map(Some))
            }),
            Packet::Unsuback(unsuback) => wire.unsubacks.pop_front().is_some_and(|(id, filters)| {
                let count = if wire.version.is_v5() { filters } else { 0 };
                id == unsuback.packet_id.get() && unsuback.reasons.len() == count
            }),
            Packet::Pingresp => {
                let expected = wire.pings > 0;
                wire.pings = wire.pings.saturating_sub(1);
                expected
            }
            Packet::Disconnect(disconnect) => matches!(
                disconnect.reason,
                ReasonCode::SESSION_TAKEN_OVER | ReasonCode::KEEP_ALIVE_TIMEOUT | ReasonCode::SERVER_SHUTTING_DOWN
            ),
            _ => false,
        };
        match packet {
            Packet::Suback(suback) => self.told(connection, suback.packet_id.get()),
            Packet::Unsuback(unsuback) => self.told(connection, unsuback.packet_id.get()),
            _ => {}
        }
        if !right {
            self.breach(Promise::Conversation, format!("{client} did not expect {packet:?}"));
        }
    }

    fn received_publish(&mut self, connection: u64, publish: &Publish<'_>, encoded: Time) {
        let Some(wire) = self.wires.get_mut(&connection) else { return };
        let client = wire.client.clone();
        let alias = publish.properties.topic_alias.map_or(0, NonZeroU16::get);
        let topic = resolve(&mut wire.aliases, publish);
        let Some(topic) = topic.filter(|_| alias <= wire.alias_maximum) else {
            return self.breach(Promise::Conversation, format!("{client} does not know the alias {alias}"));
        };
        let Some(incarnation) = wire.incarnation else { return };
        if let Some(id) = publish.packet_id {
            if !wire.open.insert(id.get()) {
                let what = format!("{client} got identifier {id} while it is in flight");
                return self.breach(Promise::PacketIds, what);
            }
            if wire.open.len() > wire.receive_maximum {
                let what = format!("{client} has {} in flight and takes {}", wire.open.len(), wire.receive_maximum);
                return self.breach(Promise::ReceiveMaximum, what);
            }
        }
        self.got(incarnation, connection, publish, &topic, encoded);
    }

    /// The world has come to rest: everything is answered, everything arrived but what the broker says that it gave up.
    /// `is_bounded`: queues may have been full, so that share groups may have missed something as well.
    pub(crate) fn settle(&mut self, given_up: &dyn Fn(usize, &str) -> u64, is_bounded: bool) {
        let open = self.books.values().filter_map(|book| book.connection);
        let silent: Vec<String> = open.filter_map(|connection| self.wires.get(&connection)?.unanswered()).collect();
        for what in silent {
            self.breach(Promise::Conversation, what);
        }
        self.settle_books(given_up);
        self.settle_groups(is_bounded);
        self.settle_bridges();
    }

    /// A connection is no more, on either side.
    pub(crate) fn forget(&mut self, connection: u64) {
        self.wires.remove(&connection);
    }
}
