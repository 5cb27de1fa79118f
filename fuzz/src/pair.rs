//! Both ends on one wire that tears packets apart, is cut, and forgets: nothing that was taken is lost, QoS 2 comes once, order
//! holds within a QoS, no identifier means two messages, and no window is exceeded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_codec::{
    FilterRef, Frame, Level, Message, Packet, PacketId, QoS, ReasonCode, SubscribeEntry, SubscribeOptions,
    SubscriptionIds, Time, TopicName, Version,
};
use viaduct_session::client::{Client, Event as Heard, Hello, PublishError};
use viaduct_session::server::{Event, Session, Terms, admit};
use viaduct_session::{Delivered, Delivery, DropReason, Output, QueueLimits};

use crate::input::Input;

const MOST_STEPS: usize = 400;
/// Rounds after which what is owed has been carried.
const MOST_ROUNDS: usize = 2_000;
/// The queue of every other input, so that its limit is met.
const SMALL_QUEUE: usize = 4;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut pair = Pair::new(Level::ALL[input.below(Level::ALL.len())], input.flag());
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(11) {
            0 => pair.dial(1 + u16::from(input.byte() % 4), 1 + u16::from(input.byte() % 4), u16::from(input.byte())),
            1 => pair.cut(),
            2 | 3 => pair.deliver(&mut input),
            4 => pair.publish(&mut input),
            5 | 6 => pair.client_hears(usize::from(input.byte()) * 4),
            7 => pair.broker_hears(usize::from(input.byte()) * 4),
            8 => pair.answer([ReasonCode::SUCCESS, ReasonCode::QUOTA_EXCEEDED][usize::from(input.below(6) == 5)]),
            9 => pair.wait(input.byte()),
            _ if input.below(4) == 0 => pair.broker_forgets(),
            _ => pair.ask(),
        }
    }
    pair.come_to_rest();
    pair.check();
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// Numbers of the messages that the sender took, by QoS.
    taken: [Vec<u32>; 3],
    /// Numbers of the messages that the receiver's owner got, by QoS.
    got: [Vec<u32>; 3],
    /// What crossed on this connection, until its answer is back at the sender.
    open: BTreeMap<u16, Option<u32>>,
    window: usize,
    /// Messages that the receiver's owner has not answered.
    held: Vec<(PacketId, QoS)>,
    /// The sender's session was lost with what was in it.
    may_lack: bool,
    /// A refusal or a lost session may have made the sender begin again.
    may_repeat: bool,
}

struct Pair {
    level: Level,
    session: Session,
    client: Client,
    /// Broker to client, and client to broker.
    down: Lane,
    up: Lane,
    from_broker: Output,
    from_client: Output,
    /// What came, as far as it is no whole packet yet.
    at_broker: Vec<u8>,
    at_client: Vec<u8>,
    terms: Terms,
    now: Time,
    number: u32,
    /// What the client's owner could not publish yet, in order.
    waiting: Vec<(QoS, u32)>,
    connected: bool,
    had_session: bool,
}

impl Pair {
    fn new(level: Level, small: bool) -> Self {
        let mut terms = Terms::default();
        if small {
            terms.queue = QueueLimits { max_messages: SMALL_QUEUE, ..QueueLimits::default() }.into();
        }
        Self {
            level,
            session: Session::new(terms.queue.clone()),
            client: Client::new(),
            down: Lane::default(),
            up: Lane::default(),
            from_broker: Output::default(),
            from_client: Output::default(),
            at_broker: Vec::new(),
            at_client: Vec::new(),
            terms,
            now: Time::from_millis(1_000_000),
            number: 0,
            waiting: Vec::new(),
            connected: false,
            had_session: false,
        }
    }

    fn is_3_1(&self) -> bool {
        self.level.version() == Version::V31
    }

    fn dial(&mut self, broker_window: u16, client_window: u16, keep_alive: u16) {
        self.cut();
        (self.terms.max_inflight_v3, self.terms.max_inflight_v5) = (broker_window, broker_window);
        self.terms.receive_maximum = client_window;
        let hello = Hello {
            level: self.level,
            client_id: "a".to_owned(),
            clean_start: false,
            session_expiry: u32::MAX,
            receive_maximum: broker_window,
            topic_alias_maximum: 2,
            max_inflight: client_window,
            keep_alive,
            ..Hello::default()
        };
        self.down.begin(broker_window);
        self.up.begin(client_window);
        self.client.connect(self.now, &hello, &mut self.from_client);
        let bytes = self.from_client.unsent().to_vec();
        self.from_client.advance(bytes.len());
        let frame = Frame::split(&bytes, u32::MAX).unwrap().expect("CONNECT");
        let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V5) else { panic!("no CONNECT") };
        let admission = admit(&connect, &self.terms, self.now, || "assigned".into()).expect("the terms allow it");
        let present = std::mem::replace(&mut self.had_session, true);
        self.session.attach(self.now, &admission, &self.terms, present, &mut self.from_broker);
        self.connected = true;
    }

    fn cut(&mut self) {
        self.connected = false;
        self.session.detach();
        self.client.detach();
        (self.from_broker, self.from_client) = (Output::default(), Output::default());
        (self.at_broker, self.at_client) = (Vec::new(), Vec::new());
    }

    /// The session on the broker is gone. 3.1 can't say so, and what comes of that is nobody's fault.
    fn broker_forgets(&mut self) {
        if self.is_3_1() {
            return;
        }
        self.cut();
        self.had_session = false;
        self.up.held.clear();
        (self.down.may_lack, self.up.may_repeat) = (true, true);
    }

    fn deliver(&mut self, input: &mut Input<'_>) {
        if !self.had_session {
            return;
        }
        self.number += 1;
        let (qos, size) = (qos(input), usize::from(input.byte()) * usize::from(input.byte()));
        let delivery = delivery(qos, self.number, size);
        match self.session.deliver(self.now, delivery, &mut self.from_broker) {
            Delivered::Sent | Delivered::Queued => self.down.taken[usize::from(qos.bits())].push(self.number),
            Delivered::Dropped(DropReason::Offline) => assert!(qos == QoS::AtMostOnce && !self.connected),
            Delivered::Dropped(DropReason::QueueFull) => {
                assert!(self.session.queued().0 >= self.terms.queue.max_messages, "there was room");
            }
            other => panic!("{other:?}"),
        }
        // How many of QoS 0 are among them is not told; all have the limit in bytes.
        assert!(self.session.queued().1 <= self.terms.queue.max_bytes, "the queue has a limit");
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        self.number += 1;
        self.waiting.push((qos(input), self.number));
        self.publish_waiting();
    }

    fn publish_waiting(&mut self) {
        while let Some(&(qos, number)) = self.waiting.first() {
            let delivery = delivery(qos, number, 0);
            match self.client.publish(self.now, delivery, number.into(), &mut self.from_client) {
                Ok(()) => self.up.takes(qos, number),
                Err(PublishError::WindowFull | PublishError::NotConnected) => return,
                Err(PublishError::TooLarge) => panic!("nothing is too large"),
            }
            self.waiting.remove(0);
        }
    }

    fn ask(&mut self) {
        let entry = SubscribeEntry { filter: FilterRef::new("t/#").unwrap(), options: SubscribeOptions::default() };
        self.client.subscribe(self.now, &[entry], None, &mut self.from_client);
    }

    fn wait(&mut self, seconds: u8) {
        self.now = self.now.after(Duration::from_secs(u64::from(seconds)));
        let is_overdue = self.session.is_overdue(self.now);
        if self.client.handle_timeout(self.now, &mut self.from_client).is_err() || is_overdue {
            self.cut();
        }
    }

    /// So many bytes arrive at the client, if there are as many.
    fn client_hears(&mut self, count: usize) {
        carry(&mut self.from_broker, &mut self.at_client, count);
        self.session.pump(self.now, &mut self.from_broker);
        while let Some(bytes) = first_packet(&mut self.at_client) {
            let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
            let packet = Packet::decode(frame, self.level.version()).expect("what goes out can be read");
            self.down.crosses(&packet);
            self.up.answered(&packet);
            match self.client.handle(self.now, packet, &mut self.from_client).expect("the broker keeps the rules") {
                Heard::Publish(incoming) => {
                    self.down.arrived(incoming.publish.qos, incoming.publish.packet_id, incoming.publish.payload);
                }
                Heard::Connack(connack) => {
                    assert_eq!(connack.reason, ReasonCode::SUCCESS);
                    if !connack.session_present && !self.is_3_1() {
                        self.client_begins_again();
                    }
                }
                Heard::Settled { reason, .. } | Heard::Received { reason, .. } => is_expected(reason),
                Heard::Suback(suback) => assert_eq!(suback.reasons, [ReasonCode::GRANTED_QOS_0]),
                Heard::None => {}
                other => panic!("{other:?}"),
            }
            self.publish_waiting();
        }
    }

    /// The session is new: what the broker did not own is published once more, before anything else.
    fn client_begins_again(&mut self) {
        self.down.held.clear();
        let lost = self.client.forget();
        assert!(lost.is_empty() || self.up.may_repeat, "the session was lost by nobody: {lost:?}");
        let lost = lost.into_iter().filter(|lost| !lost.received);
        let again: Vec<_> = lost.map(|lost| (lost.delivery.qos, lost.token as u32)).collect();
        self.waiting.splice(0..0, again);
    }

    fn broker_hears(&mut self, count: usize) {
        carry(&mut self.from_client, &mut self.at_broker, count);
        while let Some(bytes) = first_packet(&mut self.at_broker) {
            let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
            let packet = Packet::decode(frame, self.level.version()).expect("what goes out can be read");
            self.up.crosses(&packet);
            self.down.answered(&packet);
            match self.session.handle(self.now, packet, &mut self.from_broker).expect("the client keeps the rules") {
                Event::Publish(incoming) => {
                    self.up.arrived(incoming.publish.qos, incoming.publish.packet_id, incoming.publish.payload);
                }
                Event::Subscribe(subscribe) => {
                    let reasons = vec![ReasonCode::GRANTED_QOS_0];
                    self.session.suback(subscribe.packet_id, reasons, &mut self.from_broker);
                }
                Event::Settled { reason } => is_expected(reason),
                Event::None => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Both owners answer the oldest message that they held back, on whatever connection there is by now.
    fn answer(&mut self, reason: ReasonCode) {
        if !self.down.held.is_empty() {
            let (id, qos) = self.down.held.remove(0);
            self.down.may_repeat |= reason.is_error();
            self.client.acknowledge(id, qos, reason, &mut self.from_client);
        }
        if !self.up.held.is_empty() {
            let (id, qos) = self.up.held.remove(0);
            self.up.may_repeat |= reason.is_error();
            self.session.acknowledge(id, qos, reason, None, &mut self.from_broker);
        }
    }

    fn come_to_rest(&mut self) {
        self.dial(3, 3, 0);
        for _ in 0..MOST_ROUNDS {
            self.client_hears(usize::MAX);
            self.broker_hears(usize::MAX);
            self.answer(ReasonCode::SUCCESS);
            let is_quiet = self.from_broker.is_empty() && self.from_client.is_empty() && self.waiting.is_empty();
            if is_quiet && self.down.held.is_empty() && self.up.held.is_empty() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn check(&self) {
        assert_eq!((self.session.inflight(), self.session.queued(), self.client.inflight()), (0, (0, 0), 0));
        self.down.check("down");
        self.up.check("up");
    }
}

impl Lane {
    fn begin(&mut self, window: u16) {
        self.window = usize::from(window);
        self.open.clear();
        // PUBACK for what came by the old connection is not owed on the new one; the sender sends it again.
        self.held.retain(|(_, qos)| *qos == QoS::ExactlyOnce);
    }

    /// A message that is taken once more, after its session was lost, was taken before.
    fn takes(&mut self, qos: QoS, number: u32) {
        let taken = &mut self.taken[usize::from(qos.bits())];
        if !taken.contains(&number) {
            taken.push(number);
        }
    }

    /// A packet of the sender reaches the receiver.
    fn crosses(&mut self, packet: &Packet<'_>) {
        let (id, number) = match packet {
            Packet::Publish(publish) => (publish.packet_id, Some(number(publish.payload))),
            Packet::Subscribe(subscribe) => (Some(subscribe.packet_id), None),
            _ => (None, None),
        };
        let Some(id) = id else { return };
        if let Some(before) = self.open.insert(id.get(), number) {
            panic!("identifier {id} means {before:?} and {number:?}, and nothing is sent twice on one connection");
        }
        let open = self.open.values().flatten().count();
        assert!(open <= self.window, "{open} are open, {} may be", self.window);
    }

    /// A packet of the receiver reaches the sender.
    fn answered(&mut self, packet: &Packet<'_>) {
        let id = match packet {
            Packet::Puback(ack) | Packet::Pubcomp(ack) => ack.packet_id,
            Packet::Pubrec(ack) if ack.reason.is_error() => ack.packet_id,
            Packet::Suback(suback) => suback.packet_id,
            _ => return,
        };
        self.open.remove(&id.get());
    }

    /// The receiver's owner gets a message.
    fn arrived(&mut self, qos: QoS, id: Option<PacketId>, payload: &[u8]) {
        self.got[usize::from(qos.bits())].push(number(payload));
        self.held.extend(id.map(|id| (id, qos)));
    }

    fn check(&self, name: &str) {
        for (qos, (taken, got)) in self.taken.iter().zip(&self.got).enumerate() {
            let mut seen = BTreeSet::new();
            let first: Vec<u32> = got.iter().copied().filter(|number| seen.insert(*number)).collect();
            assert!(first.iter().all(|number| taken.contains(number)), "{name}, QoS {qos}: {first:?} of {taken:?}");
            assert!(first.is_sorted(), "{name}, QoS {qos}: out of order: {first:?}");
            if qos == 0 || (qos == 2 && !self.may_repeat) {
                assert_eq!(first.len(), got.len(), "{name}, QoS {qos}: twice: {got:?}");
            }
            if qos > 0 && !self.may_lack {
                assert_eq!(&first, taken, "{name}, QoS {qos}: lost");
            }
        }
    }
}

fn is_expected(reason: ReasonCode) {
    let expected = [ReasonCode::SUCCESS, ReasonCode::QUOTA_EXCEEDED, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND];
    assert!(expected.contains(&reason), "nobody said {reason:?}");
}

fn qos(input: &mut Input<'_>) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][input.below(3)]
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

fn delivery(qos: QoS, number: u32, more: usize) -> Delivery {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(4 + more, 0);
    let message = Message {
        topic: TopicName::new(["some/topic", "another/topic", "a/third"][number as usize % 3]).unwrap(),
        payload: Bytes::from(payload),
        qos,
        retain: false,
        received: Time::from_millis(1_000_000),
        expires: None,
        properties: None,
    };
    Delivery { message: Arc::new(message), qos, retain: false, ids: SubscriptionIds::new(), group: None, kept: None }
}

/// At most so many bytes go over the wire.
fn carry(from: &mut Output, to: &mut Vec<u8>, count: usize) {
    let count = count.min(from.pending());
    to.extend_from_slice(&from.unsent()[..count]);
    from.advance(count);
}

fn first_packet(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = Frame::split(bytes, u32::MAX).expect("what goes out is well formed")?.bytes.len();
    Some(bytes.drain(..length).collect())
}
