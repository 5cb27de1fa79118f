//! A small, well-behaved, blocking MQTT client of any version, on the codec alone.
//!
//! In: what a test wants done. Out: what the broker answered. It acknowledges what it receives unless it is told not to
//! ([`Client::by_hand`]), and hides nothing: an answer that nobody asked for fails the test that meets it.

mod event;
mod hello;
mod outgoing;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use viaduct_codec::{
    Ack, Disconnect, FilterRef, Frame, Packet, PacketId, PacketType, QoS, ReasonCode, Subscribe, SubscribeEntry,
    SubscribeOptions, Unsubscribe, UserProperties, VarInt, Version,
};

pub use event::{Event, Message, Welcome};
pub use hello::{Hello, WillMessage};
pub use outgoing::{Entry, Outgoing};

use crate::stream::{Came, Stream};
use crate::wait::DEADLINE;

/// A connected client.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    version: Version,
    /// What CONNACK said.
    pub welcome: Welcome,
    bytes: Vec<u8>,
    inbox: VecDeque<Message>,
    others: VecDeque<Event>,
    by_hand: bool,
    last_id: u16,
    /// Inbound QoS 2 identifiers between PUBLISH and PUBREL.
    open: HashSet<u16>,
    aliases: HashMap<u16, String>,
    hello: Hello,
}

impl Client {
    /// Sends `hello` over `stream` and reads the answer.
    ///
    /// # Errors
    /// The reason of a refusing CONNACK; [`ReasonCode::UNSPECIFIED_ERROR`] when the connection ends without one.
    #[track_caller]
    pub fn over(stream: Stream, hello: &Hello) -> Result<Self, ReasonCode> {
        let mut client = Self {
            stream,
            version: hello.version(),
            welcome: Welcome::NONE,
            bytes: Vec::new(),
            inbox: VecDeque::new(),
            others: VecDeque::new(),
            by_hand: false,
            last_id: 0,
            open: HashSet::new(),
            aliases: HashMap::new(),
            hello: hello.clone(),
        };
        client.send_bytes(&hello.bytes());
        match client.read_event(Instant::now() + DEADLINE) {
            Some(Event::Connack(welcome)) if welcome.reason == ReasonCode::SUCCESS => {
                client.welcome = *welcome;
                Ok(client)
            }
            Some(Event::Connack(welcome)) => Err(welcome.reason),
            Some(Event::Closed) => Err(ReasonCode::UNSPECIFIED_ERROR),
            other => panic!("instead of a CONNACK came {other:?}"),
        }
    }

    /// Connects once more with the same session, at `address`. What was received and not yet acknowledged at QoS 2 is
    /// remembered, as the standard demands of a client.
    ///
    /// # Panics
    /// When the broker refuses.
    #[must_use]
    #[track_caller]
    pub fn reconnect(self, address: SocketAddr) -> Self {
        let mut hello = self.hello.clone();
        hello.clean_start = false;
        let open = self.open.clone();
        let last_id = self.last_id;
        drop(self);
        let mut client = hello.connect(address);
        client.open = open;
        client.last_id = last_id;
        client
    }

    /// What is spoken.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Leaves every acknowledgement to the test: [`Client::acknowledge`], [`Client::send`].
    pub fn by_hand(&mut self) -> &mut Self {
        self.by_hand = true;
        self
    }

    /// Acknowledges by itself again.
    pub fn by_itself(&mut self) -> &mut Self {
        self.by_hand = false;
        self
    }

    /// The connection below.
    #[must_use]
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    // ---- sending ----

    /// Sends a packet.
    ///
    /// # Panics
    /// When this version can't say it.
    #[track_caller]
    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    /// Sends any bytes. A peer that is gone is for the next wait to notice.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write(bytes);
    }

    /// Subscribes to one filter, and returns the broker's answer.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, qos: QoS) -> ReasonCode {
        self.subscribe_all(&[Entry::new(filter, qos)], None)[0]
    }

    /// Subscribes to all `entries` in one packet, and returns the broker's answers.
    ///
    /// # Panics
    /// When a filter is none, or no SUBACK with as many answers comes.
    #[track_caller]
    pub fn subscribe_all(&mut self, entries: &[Entry], subscription_id: Option<u32>) -> Vec<ReasonCode> {
        let packet_id = self.next_id();
        let entry = |entry: &'_ Entry| SubscribeOptions {
            qos: entry.qos,
            no_local: entry.no_local,
            retain_as_published: entry.retain_as_published,
            retain_handling: entry.retain_handling,
        };
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            subscription_id: subscription_id.map(|id| VarInt::new(id).unwrap()),
            user_properties: UserProperties::default(),
            entries: entries
                .iter()
                .map(|one| SubscribeEntry { filter: FilterRef::new(&one.filter).unwrap(), options: entry(one) })
                .collect(),
        }));
        let answer =
            self.wait_for("SUBACK", |event| matches!(event, Event::Suback { id, .. } if *id == packet_id.get()));
        let Event::Suback { reasons, .. } = answer else { unreachable!("it was looked for") };
        assert_eq!(reasons.len(), entries.len(), "a SUBACK has one answer per filter");
        reasons
    }

    /// Unsubscribes, and returns the broker's answers (none before 5.0).
    #[track_caller]
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<ReasonCode> {
        let packet_id = self.next_id();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            user_properties: UserProperties::default(),
            filters: filters.iter().map(|filter| FilterRef::new(filter).unwrap()).collect(),
        }));
        let answer =
            self.wait_for("UNSUBACK", |event| matches!(event, Event::Unsuback { id, .. } if *id == packet_id.get()));
        let Event::Unsuback { reasons, .. } = answer else { unreachable!("it was looked for") };
        reasons
    }

    /// Publishes and waits for the last acknowledgement of the flow, whose first error it returns.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: QoS) -> ReasonCode {
        self.publish_message(&Outgoing::new(topic, payload).qos(qos))
    }

    /// As [`Client::publish`], with everything that a PUBLISH can carry.
    #[track_caller]
    pub fn publish_message(&mut self, message: &Outgoing) -> ReasonCode {
        let Some(id) = self.send_publish(message) else { return ReasonCode::SUCCESS };
        self.finish_publish(id, message.qos)
    }

    /// Sends a PUBLISH and waits for nothing; the packet identifier if it has one.
    ///
    /// # Panics
    /// When the message is none.
    #[track_caller]
    pub fn send_publish(&mut self, message: &Outgoing) -> Option<u16> {
        let id = (message.qos != QoS::AtMostOnce).then(|| self.next_id());
        let mut bytes = Vec::new();
        message.with_packet(id, |packet| packet.encode(self.version, &mut bytes).unwrap());
        self.send_bytes(&bytes);
        id.map(PacketId::get)
    }

    /// Waits for the end of the flow of a PUBLISH that was sent with `id`.
    #[track_caller]
    pub fn finish_publish(&mut self, id: u16, qos: QoS) -> ReasonCode {
        if qos == QoS::AtLeastOnce {
            return self.wait_for_ack(PacketType::Puback, id);
        }
        let reason = self.wait_for_ack(PacketType::Pubrec, id);
        if reason.is_error() {
            return reason;
        }
        self.send_ack(PacketType::Pubrel, id, ReasonCode::SUCCESS);
        self.wait_for_ack(PacketType::Pubcomp, id)
    }

    /// Sends one of the four acknowledgements.
    ///
    /// # Panics
    /// When `kind` is none of them.
    #[track_caller]
    pub fn send_ack(&mut self, kind: PacketType, id: u16, reason: ReasonCode) {
        let ack = Ack::new(PacketId::new(id).unwrap(), reason);
        self.send(&match kind {
            PacketType::Puback => Packet::Puback(ack),
            PacketType::Pubrec => Packet::Pubrec(ack),
            PacketType::Pubrel => Packet::Pubrel(ack),
            PacketType::Pubcomp => Packet::Pubcomp(ack),
            other => panic!("{other} is no acknowledgement"),
        });
    }

    /// Answers a received PUBLISH as its QoS demands.
    #[track_caller]
    pub fn acknowledge(&mut self, message: &Message) {
        match (message.qos, message.id) {
            (QoS::AtLeastOnce, Some(id)) => self.send_ack(PacketType::Puback, id, ReasonCode::SUCCESS),
            (QoS::ExactlyOnce, Some(id)) => self.send_ack(PacketType::Pubrec, id, ReasonCode::SUCCESS),
            _ => {}
        }
    }

    /// PINGREQ and its answer: everything that this connection sent before has been read by the broker.
    #[track_caller]
    pub fn ping(&mut self) {
        self.send(&Packet::Pingreq);
        self.wait_for("PINGRESP", |event| matches!(event, Event::Pong));
    }

    /// Says goodbye with reason 0, and waits until the broker has closed.
    #[track_caller]
    pub fn disconnect(self) {
        self.disconnect_with(ReasonCode::NORMAL_DISCONNECTION, None);
    }

    /// Says goodbye, and waits until the broker has closed.
    #[track_caller]
    pub fn disconnect_with(mut self, reason: ReasonCode, session_expiry: Option<u32>) {
        let mut disconnect = Disconnect::new(reason);
        disconnect.session_expiry = session_expiry;
        self.send(&Packet::Disconnect(disconnect));
        self.expect_closed();
    }

    /// Breaks the connection without a word.
    pub fn break_off(self) {
        self.stream.reset();
    }

    // ---- receiving ----

    /// The next message.
    ///
    /// # Panics
    /// When none comes within [`DEADLINE`].
    #[track_caller]
    pub fn message(&mut self) -> Message {
        self.message_within(DEADLINE).unwrap_or_else(|| panic!("no message came; other packets: {:?}", self.others))
    }

    /// The next message, if one comes within `deadline`.
    pub fn message_within(&mut self, deadline: Duration) -> Option<Message> {
        let end = Instant::now() + deadline;
        while self.inbox.is_empty() {
            match self.pump(end)? {
                Event::Arrived => {}
                Event::Closed => {
                    self.others.push_back(Event::Closed);
                    return None;
                }
                other => self.others.push_back(other),
            }
        }
        self.inbox.pop_front()
    }

    /// The next `count` messages.
    #[track_caller]
    pub fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.message()).collect()
    }

    /// Every message before the one on `topic`, which is taken too. The way to see that something did not come: what
    /// one publisher sends at one QoS arrives in order.
    #[track_caller]
    pub fn messages_before(&mut self, topic: &str) -> Vec<Message> {
        let mut before = Vec::new();
        loop {
            let message = self.message();
            if message.topic == topic {
                return before;
            }
            before.push(message);
        }
    }

    /// Messages that have come and were not looked at.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inbox.len()
    }

    /// Waits for the acknowledgement `kind` of `id`.
    #[track_caller]
    pub fn wait_for_ack(&mut self, kind: PacketType, id: u16) -> ReasonCode {
        let wanted = |event: &Event| matches!(event, Event::Ack { kind: k, id: i, .. } if (*k, *i) == (kind, id));
        let Event::Ack { reason, .. } = self.wait_for(&format!("{kind} of {id}"), wanted) else {
            unreachable!("it was looked for")
        };
        reason
    }

    /// Waits for a 5.0 DISCONNECT and the close after it.
    #[track_caller]
    pub fn expect_disconnect(&mut self) -> ReasonCode {
        let event = self.wait_for("DISCONNECT", |event| matches!(event, Event::Disconnect { .. }));
        let Event::Disconnect { reason, .. } = event else { unreachable!("it was looked for") };
        self.expect_closed();
        reason
    }

    /// Waits until the broker has closed.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        self.wait_for("the close", |event| matches!(event, Event::Closed));
    }

    /// The next packet that is no message and was not asked for, or [`Event::Closed`]; `None` at `deadline`.
    pub fn event_within(&mut self, deadline: Duration) -> Option<Event> {
        if let Some(event) = self.others.pop_front() {
            return Some(event);
        }
        let end = Instant::now() + deadline;
        loop {
            match self.pump(end)? {
                Event::Arrived => {}
                event => return Some(event),
            }
        }
    }

    /// Waits for an event that `is` takes; others are kept.
    ///
    /// # Panics
    /// When the connection ends before, or none comes within [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, is: impl Fn(&Event) -> bool) -> Event {
        if let Some(at) = self.others.iter().position(&is) {
            return self.others.remove(at).unwrap();
        }
        let end = Instant::now() + DEADLINE;
        loop {
            let Some(event) = self.pump(end) else { panic!("{what} did not come; others: {:?}", self.others) };
            if is(&event) {
                return event;
            }
            assert_ne!(event, Event::Closed, "closed instead of {what}; others: {:?}", self.others);
            if event != Event::Arrived {
                self.others.push_back(event);
            }
        }
    }

    /// Reads one packet that means something to the caller. Messages go to the inbox, which [`Event::Arrived`] says;
    /// `None` at `end`.
    fn pump(&mut self, end: Instant) -> Option<Event> {
        loop {
            let before = self.inbox.len();
            match self.read_event(end)? {
                Event::Message(message) => self.take(*message),
                Event::Ack { kind: PacketType::Pubrel, id, .. } if !self.by_hand => {
                    self.open.remove(&id);
                    self.send_ack(PacketType::Pubcomp, id, ReasonCode::SUCCESS);
                }
                other => return Some(other),
            }
            if self.inbox.len() > before {
                // Whoever waits for messages looks at the inbox; whoever waits for something else comes back.
                return Some(Event::Arrived);
            }
        }
    }

    fn take(&mut self, message: Message) {
        let repeated = message.qos == QoS::ExactlyOnce && message.id.is_some_and(|id| !self.open.insert(id));
        if !self.by_hand {
            self.acknowledge(&message);
        }
        if !repeated || self.by_hand {
            self.inbox.push_back(message);
        }
    }

    /// The next packet off the wire.
    fn read_event(&mut self, end: Instant) -> Option<Event> {
        loop {
            if let Some(frame) = Frame::split(&self.bytes, u32::MAX).unwrap() {
                let packet = Packet::decode(frame, self.version);
                let packet =
                    packet.unwrap_or_else(|error| panic!("the broker sent {}: {error}", crate::hex(frame.bytes)));
                let event = Event::of(&packet, &mut self.aliases);
                let length = frame.bytes.len();
                self.bytes.drain(..length);
                return Some(event);
            }
            let mut buffer = [0; 64 * 1024];
            match self.stream.read_by(end, &mut buffer) {
                Came::Bytes(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Came::End => return Some(Event::Closed),
                Came::Nothing => return None,
            }
        }
    }

    fn next_id(&mut self) -> PacketId {
        self.last_id = self.last_id % u16::MAX + 1;
        PacketId::new(self.last_id).unwrap()
    }
}
