//! A broker's session and a peer that sends any bytes at all, cuts and comes back, while messages are handed in: what goes out
//! is whole packets, never more open than the window, never an identifier that is open already. The client's end alone is in
//! `dialer`, both ends on one wire in `pair`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_codec::{Frame, Level, Message, Packet, QoS, ReasonCode, SubscriptionIds, Time, TopicName, Version};
use viaduct_session::server::{Admission, Event, Session, Terms, admit};
use viaduct_session::{Delivery, Output, QueueLimits};
use viaduct_testkit::connect;

use crate::input::Input;
use crate::{dialer, pair};

const MOST_STEPS: usize = 400;
/// Few, so that queue limits are met.
const QUEUE: usize = 8;

/// The first two bits of the input say which ends there are.
pub(crate) fn run(data: &[u8]) {
    match data.first().map_or(0, |first| first >> 6) {
        0 | 1 => broker(data),
        2 => dialer::run(data),
        _ => pair::run(data),
    }
}

fn broker(data: &[u8]) {
    let mut input = Input::new(data);
    let mut peer = Peer::new(Level::ALL[input.below(Level::ALL.len())]);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(8) {
            0 => peer.attach(&mut input),
            1 => peer.cut(),
            2 | 3 => peer.deliver(&mut input),
            4 => peer.answer(&mut input),
            5 => peer.say(input.bytes(60)),
            6 => peer.now = peer.now.after(Duration::from_secs(u64::from(input.u16()))),
            _ => peer.pump(),
        }
        peer.read();
    }
}

struct Peer {
    session: Session,
    level: Level,
    terms: Terms,
    window: usize,
    output: Output,
    now: Time,
    connected: bool,
    was_there: bool,
    /// What this end has received and not settled, on this connection.
    open: HashMap<u16, QoS>,
    /// Identifiers of messages of the peer that the owner has not answered.
    owed: Vec<(viaduct_codec::PacketId, QoS)>,
    number: u32,
}

impl Peer {
    fn new(level: Level) -> Self {
        let queue = Arc::new(QueueLimits { max_messages: QUEUE, ..QueueLimits::default() });
        let terms = Terms { queue: Arc::clone(&queue), receive_maximum: 4, topic_alias_maximum: 2, ..Terms::default() };
        Self {
            session: Session::new(queue),
            level,
            terms,
            window: 0,
            output: Output::default(),
            now: Time::from_millis(1_000_000),
            connected: false,
            was_there: false,
            open: HashMap::new(),
            owed: Vec::new(),
            number: 0,
        }
    }

    fn attach(&mut self, input: &mut Input<'_>) {
        self.cut();
        let version = self.level.version();
        let mut hello = connect(version, "a");
        hello.level = self.level;
        hello.clean_start = false;
        hello.keep_alive = input.u16();
        if version == Version::V5 {
            hello.properties.receive_maximum = std::num::NonZeroU16::new(1 + u16::from(input.byte() % 4));
            hello.properties.maximum_packet_size = std::num::NonZeroU32::new(64 + u32::from(input.byte()));
            hello.properties.topic_alias_maximum = Some(u16::from(input.byte() % 3));
            hello.properties.session_expiry = Some(100);
            hello.properties.request_problem_information = input.option(Input::flag);
        }
        let Ok(admission) = admit(&hello, &self.terms, self.now, || "assigned".into()) else { return };
        let admission: Admission = admission;
        self.window = usize::from(admission.receive_maximum);
        self.session.attach(self.now, &admission, &self.terms, self.was_there, &mut self.output);
        (self.connected, self.was_there) = (true, true);
        self.open.clear();
    }

    fn cut(&mut self) {
        if std::mem::take(&mut self.connected) {
            self.session.detach();
        }
        self.output = Output::default();
    }

    fn deliver(&mut self, input: &mut Input<'_>) {
        self.number += 1;
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][input.below(3)];
        let mut payload = self.number.to_be_bytes().to_vec();
        payload.resize(4 + usize::from(input.byte()), 0);
        let message = Message {
            topic: TopicName::new(["t", "u", "a/much/longer/topic"][input.below(3)]).unwrap(),
            payload: Bytes::from(payload),
            qos,
            retain: input.flag(),
            received: self.now,
            expires: input.option(|input| self.now.after_secs(u32::from(input.byte()))),
            properties: None,
        };
        let ids = SubscriptionIds::default();
        let delivery = Delivery { message: Arc::new(message), qos, retain: input.flag(), ids, group: None, kept: None };
        let _ = self.session.deliver(self.now, delivery, &mut self.output);
        assert!(self.session.queued().1 <= QueueLimits::default().max_bytes, "the queue has a limit");
    }

    /// The owner answers the oldest message of the peer.
    fn answer(&mut self, input: &mut Input<'_>) {
        if !self.owed.is_empty() {
            let (id, qos) = self.owed.remove(0);
            let reason = [ReasonCode::SUCCESS, ReasonCode::NOT_AUTHORIZED][input.below(2)];
            let words = input.option(|_| "words for a person");
            self.session.acknowledge(id, qos, reason, words, &mut self.output);
        }
    }

    fn pump(&mut self) {
        if self.connected {
            self.session.pump(self.now, &mut self.output);
        }
    }

    /// The peer sends any bytes.
    fn say(&mut self, bytes: &[u8]) {
        if !self.connected {
            return;
        }
        let Ok(Some(frame)) = Frame::split(bytes, 1000) else { return };
        let Ok(packet) = Packet::decode(frame, self.level.version()) else { return };
        self.settle(&packet);
        match self.session.handle(self.now, packet, &mut self.output) {
            Ok(Event::Publish(incoming)) => {
                let publish = &incoming.publish;
                self.owed.extend(publish.packet_id.map(|id| (id, publish.qos)));
            }
            Ok(Event::Subscribe(subscribe)) => {
                let reasons = vec![ReasonCode::GRANTED_QOS_1; subscribe.entries.len()];
                self.session.suback(subscribe.packet_id, reasons, &mut self.output);
            }
            Ok(Event::Unsubscribe(unsubscribe)) => {
                let reasons = vec![ReasonCode::SUCCESS; unsubscribe.filters.len()];
                self.session.unsuback(unsubscribe.packet_id, reasons, &mut self.output);
            }
            Ok(Event::None | Event::Auth(_) | Event::Settled { .. }) => {}
            Ok(Event::Disconnect { .. }) => self.cut(),
            Err(violation) => {
                assert!(violation.reason().is_error());
                self.session.disconnect(violation.reason(), Some("words"), &mut self.output);
                self.read();
                self.cut();
            }
        }
    }

    /// What an acknowledgement of the peer settles, as the standard says.
    fn settle(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Puback(ack) if self.open.get(&ack.packet_id.get()) == Some(&QoS::AtLeastOnce) => {
                self.open.remove(&ack.packet_id.get());
            }
            Packet::Pubrec(ack)
                if ack.reason.is_error() && self.open.get(&ack.packet_id.get()) == Some(&QoS::ExactlyOnce) =>
            {
                self.open.remove(&ack.packet_id.get());
            }
            Packet::Pubcomp(ack) => {
                self.open.remove(&ack.packet_id.get());
            }
            _ => {}
        }
    }

    fn read(&mut self) {
        let mut bytes = self.output.unsent();
        while let Some(frame) = Frame::split(bytes, u32::MAX).expect("what goes out is well formed") {
            bytes = &bytes[frame.bytes.len()..];
            let packet = Packet::decode(frame, self.level.version()).expect("what goes out can be read");
            match packet {
                Packet::Publish(publish) if publish.qos != QoS::AtMostOnce => {
                    let id = publish.packet_id.expect("it has one").get();
                    assert!(self.open.insert(id, publish.qos).is_none(), "identifier {id} is open already");
                }
                // One whose PUBLISH went by on an earlier connection. 3.x has no word to tell it from one that nobody knows.
                Packet::Pubrel(ack) if ack.reason == ReasonCode::SUCCESS && self.level == Level::V5 => {
                    self.open.insert(ack.packet_id.get(), QoS::ExactlyOnce);
                }
                _ => {}
            }
            assert!(self.open.len() <= self.window, "{} are open, {} may be", self.open.len(), self.window);
        }
        assert!(bytes.is_empty(), "half a packet goes out");
        let length = self.output.unsent().len();
        self.output.advance(length);
    }
}
