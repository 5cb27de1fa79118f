//! A client's end and a server that sends any bytes at all: what goes out is whole packets, never more open than the window,
//! never an identifier that is open already, and every message is accounted for once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_codec::{
    Ack, Connack, ConnackProperties, FilterRef, Frame, Level, Message, Packet, PacketId, QoS, ReasonCode,
    SubscribeEntry, SubscribeOptions, SubscriptionIds, Time, TopicName, Version,
};
use viaduct_session::client::{Client, Event, Hello, PublishError};
use viaduct_session::{Delivery, Output};

use crate::input::Input;

const MOST_STEPS: usize = 400;
/// Messages in flight at a time, so that the window is met.
const MOST_INFLIGHT: u16 = 4;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut dialer = Dialer::new(Level::ALL[input.below(Level::ALL.len())]);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(11) {
            0 => dialer.dial(&mut input),
            1 => dialer.cut(),
            2 | 3 => dialer.publish(&mut input),
            4 => dialer.ask(&mut input),
            5 => dialer.answer(),
            6 => dialer.say(input.bytes(60)),
            7 => dialer.accept(&mut input),
            8 => dialer.acknowledge(&mut input),
            9 => dialer.forget(),
            _ => dialer.wait(&mut input),
        }
        dialer.read();
        dialer.is_accounted_for();
    }
    dialer.cut();
    dialer.forget();
    assert!(dialer.owed.is_empty(), "the owner is never told what became of {:?}", dialer.owed);
    assert_eq!(dialer.client.inflight(), 0);
}

/// What has an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    AtLeastOnce,
    ExactlyOnce,
    /// SUBSCRIBE or UNSUBSCRIBE.
    Question,
}

struct Dialer {
    client: Client,
    level: Level,
    output: Output,
    now: Time,
    /// Between [`Dialer::dial`] and [`Dialer::cut`].
    dialed: bool,
    window: usize,
    /// What the server has received and not settled, on this connection.
    open: BTreeMap<u16, Open>,
    /// Tokens of messages that were taken and neither settled nor forgotten.
    owed: BTreeSet<u64>,
    /// Of those, what the client has given up by itself because the server takes no packet that large.
    given_up: usize,
    tokens: u64,
    /// Identifiers of messages of the server that the owner has not answered.
    held: Vec<(PacketId, QoS)>,
}

impl Dialer {
    fn new(level: Level) -> Self {
        Self {
            client: Client::new(),
            level,
            output: Output::default(),
            now: Time::from_millis(1_000_000),
            dialed: false,
            window: 0,
            open: BTreeMap::new(),
            owed: BTreeSet::new(),
            given_up: 0,
            tokens: 0,
            held: Vec::new(),
        }
    }

    fn dial(&mut self, input: &mut Input<'_>) {
        self.cut();
        let hello = Hello {
            level: self.level,
            client_id: "a".to_owned(),
            clean_start: input.flag(),
            keep_alive: u16::from(input.byte()),
            session_expiry: u32::from(input.byte()),
            topic_alias_maximum: u16::from(input.byte() % 3),
            max_inflight: 1 + u16::from(input.byte()) % MOST_INFLIGHT,
            ..Hello::default()
        };
        self.client.connect(self.now, &hello, &mut self.output);
        (self.dialed, self.window) = (true, usize::from(hello.max_inflight));
        assert!(!self.client.is_connected(), "nobody has said yes");
        let Some(Packet::Connect(_)) = first(&self.output, self.level) else { panic!("CONNECT comes first") };
    }

    fn cut(&mut self) {
        self.client.detach();
        self.dialed = false;
        self.open.clear();
        self.output = Output::default();
    }

    /// The server says yes, or no.
    fn accept(&mut self, input: &mut Input<'_>) {
        let mut connack = Connack {
            session_present: input.flag(),
            reason: ReasonCode::SUCCESS,
            properties: ConnackProperties::default(),
        };
        if self.level == Level::V5 {
            connack.properties.receive_maximum = std::num::NonZeroU16::new(u16::from(input.byte()) % 6);
            connack.properties.maximum_packet_size = std::num::NonZeroU32::new(u32::from(input.byte()));
            connack.properties.topic_alias_maximum = Some(u16::from(input.byte() % 3));
        }
        let mut bytes = Vec::new();
        Packet::Connack(Box::new(connack)).encode(self.level.version(), &mut bytes).expect("a good CONNACK");
        self.say(&bytes);
    }

    /// The server answers something that is open, in the right way or not.
    fn acknowledge(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.open.keys().nth(input.below(self.open.len().max(1))) else { return };
        let reason = [ReasonCode::SUCCESS, ReasonCode::SUCCESS, ReasonCode::QUOTA_EXCEEDED][input.below(3)];
        let ack = Ack::new(PacketId::new(*id).expect("zero is no identifier"), reason);
        let packet = match input.below(4) {
            0 => Packet::Puback(ack),
            1 => Packet::Pubrec(ack),
            2 => Packet::Pubcomp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)),
            _ => Packet::Pubrel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)),
        };
        let mut bytes = Vec::new();
        packet.encode(self.level.version(), &mut bytes).expect("a good acknowledgement");
        self.say(&bytes);
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][input.below(3)];
        let message = Message {
            topic: TopicName::new(["t", "u", "a/much/longer/topic"][input.below(3)]).unwrap(),
            payload: Bytes::from(vec![0; usize::from(input.byte())]),
            qos,
            retain: false,
            received: self.now,
            expires: None,
            properties: None,
        };
        let ids = SubscriptionIds::default();
        let delivery = Delivery { message: Arc::new(message), qos, retain: false, ids, group: None, kept: None };
        let (before, has_window) = (self.output.pending(), self.client.has_window());
        self.tokens += 1;
        match self.client.publish(self.now, delivery, self.tokens, &mut self.output) {
            Ok(()) => {
                assert!(qos == QoS::AtMostOnce || has_window, "it said that there is no window");
                assert!(self.output.pending() > before, "it was taken and does not go out");
                if qos != QoS::AtMostOnce {
                    self.owed.insert(self.tokens);
                }
            }
            Err(error) => {
                assert_eq!(self.output.pending(), before, "it was not taken and something goes out");
                match error {
                    PublishError::NotConnected => assert!(!has_window),
                    PublishError::WindowFull => assert!(self.client.is_connected() && !has_window),
                    PublishError::TooLarge => assert!(self.client.is_connected()),
                }
            }
        }
    }

    fn ask(&mut self, input: &mut Input<'_>) {
        let filter = FilterRef::new("t/#").unwrap();
        let (before, is_subscribe) = (self.output.pending(), input.flag());
        let asked = if is_subscribe {
            let entries = vec![SubscribeEntry { filter, options: SubscribeOptions::default() }; input.below(3)];
            self.client.subscribe(self.now, &entries, None, &mut self.output)
        } else {
            self.client.unsubscribe(self.now, &vec![filter; input.below(3)], &[], &mut self.output)
        };
        assert_eq!(asked.is_some(), self.output.pending() > before, "an identifier for nothing");
    }

    /// The owner answers the oldest message of the server.
    fn answer(&mut self) {
        if !self.held.is_empty() {
            let (id, qos) = self.held.remove(0);
            self.client.acknowledge(id, qos, ReasonCode::SUCCESS, &mut self.output);
        }
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        self.now = self.now.after(Duration::from_secs(u64::from(input.byte())));
        if self.client.next_timeout().is_some_and(|due| due <= self.now)
            && self.client.handle_timeout(self.now, &mut self.output).is_err()
        {
            self.read();
            self.cut();
        }
    }

    /// The server sends any bytes.
    fn say(&mut self, bytes: &[u8]) {
        if !self.dialed {
            return;
        }
        let Ok(Some(frame)) = Frame::split(bytes, 1000) else { return };
        let Ok(packet) = Packet::decode(frame, self.level.version()) else { return };
        self.settle(&packet);
        match self.client.handle(self.now, packet, &mut self.output) {
            Ok(Event::Connack(connack)) => {
                assert_eq!(self.client.is_connected(), !connack.reason.is_error());
                if let Some(maximum) = connack.properties.receive_maximum.filter(|_| self.client.is_connected()) {
                    self.window = self.window.min(usize::from(maximum.get()));
                }
            }
            Ok(Event::Publish(incoming)) => {
                let _ = incoming.topic();
                self.held.extend(incoming.publish.packet_id.map(|id| (id, incoming.publish.qos)));
            }
            Ok(Event::Received { token, .. }) => assert!(self.owed.contains(&token), "{token} is nobody's"),
            Ok(Event::Settled { token, .. }) => assert!(self.owed.remove(&token), "{token} is settled twice"),
            Ok(Event::None | Event::Freed(_) | Event::Suback(_) | Event::Unsuback(_) | Event::Auth(_)) => {}
            Ok(Event::Released(id)) => panic!("{id} waits for an owner that did not ask for that"),
            Ok(Event::Disconnect(_)) => self.cut(),
            Err(violation) => {
                assert!(violation.reason().is_error());
                self.client.disconnect(violation.reason(), &mut self.output);
                self.read();
                self.cut();
            }
        }
    }

    /// The session on the server is gone.
    fn forget(&mut self) {
        self.is_accounted_for();
        for forgotten in self.client.forget() {
            assert!(self.owed.remove(&forgotten.token), "{} was settled before", forgotten.token);
        }
        // What it gave up by itself has no word of its own; whatever else is left was lost.
        assert_eq!(self.owed.len(), self.given_up, "{:?}", self.owed);
        (self.owed, self.given_up) = (BTreeSet::new(), 0);
        self.open.retain(|_, open| *open == Open::Question);
    }

    fn is_accounted_for(&mut self) {
        self.given_up += self.client.take_counts().too_large as usize;
        assert_eq!(self.client.inflight() + self.given_up, self.owed.len(), "a message is lost or doubled");
    }

    /// What a packet of the server settles, as the standard says.
    fn settle(&mut self, packet: &Packet<'_>) {
        let (id, settled) = match packet {
            Packet::Puback(ack) => (ack.packet_id, Open::AtLeastOnce),
            Packet::Pubrec(ack) if ack.reason.is_error() => (ack.packet_id, Open::ExactlyOnce),
            Packet::Pubcomp(ack) => (ack.packet_id, Open::ExactlyOnce),
            Packet::Suback(suback) => (suback.packet_id, Open::Question),
            Packet::Unsuback(unsuback) => (unsuback.packet_id, Open::Question),
            _ => return,
        };
        if self.open.get(&id.get()) == Some(&settled) {
            self.open.remove(&id.get());
        }
    }

    fn read(&mut self) {
        let bytes = self.output.unsent().to_vec();
        self.output.advance(bytes.len());
        let mut rest = bytes.as_slice();
        while let Some(frame) = Frame::split(rest, u32::MAX).expect("what goes out is well formed") {
            rest = &rest[frame.bytes.len()..];
            let packet = Packet::decode(frame, self.level.version()).expect("what goes out can be read");
            let (id, kind) = match &packet {
                Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => (id, Open::AtLeastOnce),
                    (QoS::ExactlyOnce, Some(id)) => (id, Open::ExactlyOnce),
                    _ => continue,
                },
                Packet::Subscribe(subscribe) => (subscribe.packet_id, Open::Question),
                Packet::Unsubscribe(unsubscribe) => (unsubscribe.packet_id, Open::Question),
                // One whose PUBLISH went by on an earlier connection. 3.x has no word to tell it from one that nobody knows.
                Packet::Pubrel(ack) if ack.reason == ReasonCode::SUCCESS && self.level.version() == Version::V5 => {
                    self.open.insert(ack.packet_id.get(), Open::ExactlyOnce);
                    self.window_holds();
                    continue;
                }
                _ => continue,
            };
            let before = self.open.insert(id.get(), kind);
            assert!(before.is_none(), "identifier {id} is {before:?} already");
            self.window_holds();
        }
        assert!(rest.is_empty(), "half a packet goes out");
    }

    fn window_holds(&self) {
        let open = self.open.values().filter(|open| **open != Open::Question).count();
        assert!(open <= self.window, "{open} are open, {} may be", self.window);
    }
}

fn first(output: &Output, level: Level) -> Option<Packet<'_>> {
    let frame = Frame::split(output.unsent(), u32::MAX).ok().flatten()?;
    Packet::decode(frame, level.version()).ok()
}
