//! An MQTT client that never waits, and that keeps its half of a session over any number of connections.
//!
//! In: what to publish and to subscribe, bytes of the broker. Out: bytes for the broker, and events. It resends what was
//! not acknowledged with the same packet identifier (PUBLISH with DUP, PUBREL where PUBREC came), remembers the inbound
//! QoS 2 identifiers, and takes the lowest identifier that is free, so that a broker that has not forgotten the last use
//! of one is found out. Must never: hide anything that came.

use std::collections::{HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use viaduct_codec::{
    Ack, Connect, ConnectProperties, Disconnect, FilterRef, Frame, Level, Packet, PacketId, Publish, PublishProperties,
    QoS, ReasonCode, Subscribe, SubscribeEntry, SubscribeOptions, TopicRef, Unsubscribe, UserProperties, Version, Will,
    WillProperties,
};

/// Bytes that a packet of the broker may have here; the drills send no larger ones.
const LARGEST_PACKET: u32 = 1 << 20;
/// Bytes that are read from one socket before the others get their turn.
const TURN: usize = 1 << 16;

/// Who a client is, over all its connections.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) id: String,
    pub(crate) is_v5: bool,
    /// Its session outlives its connections.
    pub(crate) is_persistent: bool,
    /// 5.0: the receive maximum that it asks for.
    pub(crate) receive_maximum: Option<u16>,
    /// Acknowledgements wait until [`Client::flush_acknowledgements`].
    pub(crate) is_lazy: bool,
}

/// A will that goes with a CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct LastWill {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    /// 5.0: seconds.
    pub(crate) delay: u32,
}

/// One message on its way to the broker.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) number: u64,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

#[derive(Clone, Debug)]
struct Flight {
    id: PacketId,
    message: Outgoing,
    /// PUBREC came: PUBREL is what is resent.
    is_released: bool,
}

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// CONNACK, with success. `expected` is what Session Present had to be; `None` when nobody can know.
    Connected { present: bool, expected: Option<bool> },
    /// CONNACK, with another reason.
    Refused(u8),
    /// The first that the application hears of it, after the protocol's own deduplication.
    Delivered { topic: String, payload: Vec<u8>, qos: u8, retain: bool },
    /// PUBACK, or the first PUBREC.
    Acknowledged { number: u64 },
    /// PUBACK or PUBREC that says no.
    Denied { number: u64, reason: u8 },
    /// PUBLISH was sent once more after a reconnect.
    Resent { number: u64 },
    /// SUBACK.
    Subscribed { reasons: Vec<u8> },
    /// UNSUBACK.
    Unsubscribed,
    /// PINGRESP.
    Pong,
    /// The broker broke the protocol.
    Nonsense(String),
    /// DISCONNECT of the broker.
    Told(u8),
    /// The connection is gone.
    Closed,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Off,
    /// CONNECT is sent.
    Asking,
    On,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) profile: Profile,
    pub(crate) link: Link,
    /// Number of the present connection, or of the last one.
    pub(crate) connection: u32,
    /// Whether the broker has its session: `None` when a CONNECT was never answered.
    has_session: Option<bool>,
    /// What Session Present has to be in the CONNACK that is awaited.
    expected: Option<bool>,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    held: Vec<u8>,
    flights: VecDeque<Flight>,
    received: HashSet<PacketId>,
    events: Vec<Event>,
}

impl Client {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            link: Link::Off,
            connection: 0,
            has_session: Some(false),
            expected: None,
            stream: None,
            input: Vec::new(),
            output: Vec::new(),
            held: Vec::new(),
            flights: VecDeque::new(),
            received: HashSet::new(),
            events: Vec::new(),
        }
    }

    const fn version(&self) -> Version {
        if self.profile.is_v5 { Version::V5 } else { Version::V311 }
    }

    /// Messages that are not at the end of their exchange.
    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Acknowledgements that are held back.
    pub(crate) const fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    /// Opens a connection and sends CONNECT. A session that was begun anew forgets what was in flight.
    ///
    /// # Errors
    /// Nobody listens.
    pub(crate) fn connect(&mut self, address: SocketAddr, clean: bool, will: Option<&LastWill>) -> std::io::Result<()> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.input.clear();
        self.output.clear();
        self.held.clear();
        self.stream = Some(stream);
        self.link = Link::Asking;
        self.connection += 1;
        let clean = clean || !self.profile.is_persistent;
        self.expected = if clean { Some(false) } else { self.has_session };
        if clean {
            self.flights.clear();
            self.received.clear();
        }
        if clean || self.has_session != Some(true) {
            self.has_session = None;
        }
        let level = if self.profile.is_v5 { Level::V5 } else { Level::V311 };
        let mut properties = ConnectProperties::default();
        if self.profile.is_v5 {
            properties.session_expiry = Some(if self.profile.is_persistent { u32::MAX } else { 0 });
            properties.receive_maximum = self.profile.receive_maximum.and_then(NonZeroU16::new);
        }
        let id = self.profile.id.clone();
        let will = will.and_then(|will| {
            let topic = TopicRef::new(&will.topic).ok()?;
            let delay = (self.profile.is_v5 && will.delay > 0).then_some(will.delay);
            let properties = WillProperties { delay, ..WillProperties::default() };
            Some(Will { topic, payload: &will.payload, qos: will.qos, retain: false, properties })
        });
        let connect = Connect {
            level,
            clean_start: clean,
            keep_alive: 0,
            client_id: &id,
            will,
            username: None,
            password: None,
            properties,
        };
        self.send(&Packet::Connect(Box::new(connect)));
        Ok(())
    }

    /// Sends a message; at QoS 1 and 2 it stays in flight until the broker has answered.
    pub(crate) fn publish(&mut self, message: Outgoing) {
        if message.qos == QoS::AtMostOnce {
            self.send_publish(&message, None, false);
            return;
        }
        let Some(id) = self.free_id() else { return };
        self.send_publish(&message, Some(id), false);
        self.flights.push_back(Flight { id, message, is_released: false });
    }

    pub(crate) fn subscribe(&mut self, filters: &[(&str, QoS)]) {
        let entries = filters
            .iter()
            .filter_map(|&(filter, qos)| {
                let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
                Some(SubscribeEntry { filter: FilterRef::new(filter).ok()?, options })
            })
            .collect();
        let Some(packet_id) = self.free_id() else { return };
        let user_properties = UserProperties::default();
        self.send(&Packet::Subscribe(Subscribe { packet_id, subscription_id: None, user_properties, entries }));
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let (Ok(filter), Some(packet_id)) = (FilterRef::new(filter), self.free_id()) else { return };
        let user_properties = UserProperties::default();
        self.send(&Packet::Unsubscribe(Unsubscribe { packet_id, user_properties, filters: vec![filter] }));
    }

    pub(crate) fn ping(&mut self) {
        self.send(&Packet::Pingreq);
    }

    /// Sends DISCONNECT; the broker closes.
    pub(crate) fn disconnect(&mut self) {
        self.flush_acknowledgements();
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)));
    }

    /// Closes the connection without a word.
    pub(crate) fn cut(&mut self) {
        self.stream = None;
        self.link = Link::Off;
        self.held.clear();
    }

    pub(crate) fn flush_acknowledgements(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.output.extend_from_slice(&held);
    }

    /// Writes what the socket takes and reads what it has.
    pub(crate) fn turn(&mut self) -> Vec<Event> {
        if let Some(mut stream) = self.stream.take() {
            let is_open = self.read(&mut stream);
            self.split();
            let is_open = self.write(&mut stream) && is_open;
            if is_open {
                self.stream = Some(stream);
            } else {
                self.link = Link::Off;
                self.held.clear();
                self.events.push(Event::Closed);
            }
        }
        std::mem::take(&mut self.events)
    }

    fn write(&mut self, stream: &mut TcpStream) -> bool {
        while !self.output.is_empty() {
            match stream.write(&self.output) {
                Ok(0) => return false,
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn read(&mut self, stream: &mut TcpStream) -> bool {
        let mut chunk = [0; 8_192];
        let mut total = 0;
        while total < TURN {
            match stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => {
                    self.input.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    total += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn split(&mut self) {
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        loop {
            match Frame::split(rest, LARGEST_PACKET) {
                Ok(Some(frame)) => {
                    rest = rest.get(frame.bytes.len()..).unwrap_or_default();
                    match Packet::decode(frame, self.version()) {
                        Ok(packet) => self.take(&packet),
                        Err(error) => self.events.push(Event::Nonsense(error.to_string())),
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.events.push(Event::Nonsense(error.to_string()));
                    rest = &[];
                    break;
                }
            }
        }
        self.input = rest.to_vec();
    }

    fn take(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Connack(connack) if connack.reason == ReasonCode::SUCCESS => {
                self.connected(connack.session_present)
            }
            Packet::Connack(connack) => self.events.push(Event::Refused(connack.reason.0)),
            Packet::Publish(publish) => self.received(publish),
            Packet::Puback(ack) => self.acknowledged(ack),
            Packet::Pubrec(ack) => self.recorded(ack),
            Packet::Pubrel(ack) => {
                self.received.remove(&ack.packet_id);
                self.acknowledge(&Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
            }
            Packet::Pubcomp(ack) => self.flights.retain(|flight| flight.id != ack.packet_id || !flight.is_released),
            Packet::Suback(suback) => {
                let reasons = suback.reasons.iter().map(|reason| reason.0).collect();
                self.events.push(Event::Subscribed { reasons });
            }
            Packet::Unsuback(_) => self.events.push(Event::Unsubscribed),
            Packet::Pingresp => self.events.push(Event::Pong),
            Packet::Disconnect(disconnect) => self.events.push(Event::Told(disconnect.reason.0)),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq | Packet::Auth(_) => {
                self.events.push(Event::Nonsense(format!("{:?} from a broker", packet.kind())))
            }
        }
    }

    /// Resends, in the order of the first sending, what the broker still owes an answer to.
    fn connected(&mut self, present: bool) {
        self.link = Link::On;
        self.events.push(Event::Connected { present, expected: self.expected });
        if !present {
            // What the broker has forgotten can't be finished; a message that it never acknowledged is sent anew.
            self.received.clear();
            self.flights.retain(|flight| !flight.is_released);
        }
        let flights = std::mem::take(&mut self.flights);
        for flight in &flights {
            if flight.is_released {
                self.send(&Packet::Pubrel(Ack::new(flight.id, ReasonCode::SUCCESS)));
            } else {
                self.send_publish(&flight.message, Some(flight.id), present);
                self.events.push(Event::Resent { number: flight.message.number });
            }
        }
        self.flights = flights;
        self.has_session = Some(self.profile.is_persistent);
    }

    fn received(&mut self, publish: &Publish<'_>) {
        let is_news = match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => {
                self.acknowledge(&Packet::Puback(Ack::new(id, ReasonCode::SUCCESS)));
                true
            }
            (QoS::ExactlyOnce, Some(id)) => {
                self.acknowledge(&Packet::Pubrec(Ack::new(id, ReasonCode::SUCCESS)));
                self.received.insert(id)
            }
            _ => true,
        };
        if is_news {
            let topic = publish.topic.map(|topic| topic.as_str().to_owned()).unwrap_or_default();
            let payload = publish.payload.to_vec();
            let (qos, retain) = (publish.qos.bits(), publish.retain);
            self.events.push(Event::Delivered { topic, payload, qos, retain });
        }
    }

    fn acknowledged(&mut self, ack: &Ack<'_>) {
        let place = self.flights.iter().position(|flight| flight.id == ack.packet_id);
        match place.and_then(|place| self.flights.remove(place)) {
            Some(flight) => self.answered(flight.message.number, ack.reason),
            None => self.events.push(Event::Nonsense(format!("PUBACK {} for nothing", ack.packet_id))),
        }
    }

    fn recorded(&mut self, ack: &Ack<'_>) {
        let Some(place) = self.flights.iter().position(|flight| flight.id == ack.packet_id) else {
            self.events.push(Event::Nonsense(format!("PUBREC {} for nothing", ack.packet_id)));
            return;
        };
        if ack.reason.is_error() {
            if let Some(flight) = self.flights.remove(place) {
                self.answered(flight.message.number, ack.reason);
            }
            return;
        }
        // The order of PUBREL is the order of PUBREC, also when it is resent.
        if let Some(mut flight) = self.flights.remove(place) {
            if !flight.is_released {
                self.answered(flight.message.number, ack.reason);
            }
            flight.is_released = true;
            self.flights.push_back(flight);
        }
        self.send(&Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
    }

    fn answered(&mut self, number: u64, reason: ReasonCode) {
        self.events.push(if reason.is_error() {
            Event::Denied { number, reason: reason.0 }
        } else {
            Event::Acknowledged { number }
        });
    }

    fn free_id(&self) -> Option<PacketId> {
        (1..=u16::MAX).filter_map(PacketId::new).find(|id| self.flights.iter().all(|flight| flight.id != *id))
    }

    fn send_publish(&mut self, message: &Outgoing, packet_id: Option<PacketId>, dup: bool) {
        let topic = TopicRef::new(&message.topic).ok();
        let (qos, retain) = (message.qos, message.retain);
        let properties = PublishProperties::default();
        let payload = &message.payload;
        self.send(&Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties, payload }));
    }

    fn acknowledge(&mut self, packet: &Packet<'_>) {
        if self.profile.is_lazy {
            let _ = packet.encode(self.version(), &mut self.held);
        } else {
            self.send(packet);
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        if packet.encode(self.version(), &mut self.output).is_err() {
            self.events.push(Event::Nonsense(format!("a packet of the drill that can't be written: {packet:?}")));
        }
    }
}

/// The longest wait for one event where something else is looked at as well.
pub(crate) const MOMENT: Duration = Duration::from_millis(5);

/// Waits up to `timeout` until somebody's socket has something or takes something, and says whose, by their places.
pub(crate) fn ready<'a>(clients: impl IntoIterator<Item = &'a Client>, timeout: Duration) -> Vec<usize> {
    let mut watched = Vec::new();
    let mut places = Vec::new();
    for (place, client) in clients.into_iter().enumerate() {
        if let Some(stream) = &client.stream {
            let flags = if client.output.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
            watched.push(PollFd::new(stream, flags));
            places.push(place);
        }
    }
    let timeout = Timespec::try_from(timeout).ok();
    // An interrupted wait is a short one: nobody is ready.
    if poll(&mut watched, timeout.as_ref()).is_err() {
        return Vec::new();
    }
    let found = watched.iter().zip(places).filter(|(watched, _)| !watched.revents().is_empty());
    found.map(|(_, place)| place).collect()
}
