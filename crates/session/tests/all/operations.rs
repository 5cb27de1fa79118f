//! Both ends on one wire, and whatever can happen to it: publishing in both directions, packets that arrive late or
//! never, cuts, smaller and larger windows, acknowledgements that the owner holds back. Whatever the order, nothing that
//! was promised is lost, QoS 2 comes once, order holds within a QoS, no identifier means two messages, and no window is
//! exceeded.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use viaduct_codec::{
    ClientId, Frame, Level, Message, Packet, PacketId, QoS, ReasonCode, SubscriptionIds, Time, TopicName, Version,
};
use viaduct_session::client::{Client, Event as Heard, Hello, PublishError};
use viaduct_session::server::{Event, Session, Terms, admit};
use viaduct_session::{Delivered, Delivery, Output};

#[derive(Clone, Debug)]
enum Operation {
    /// The broker has a message for the client; a large one now and then, so that the output fills up.
    Deliver { qos: u8, large: bool },
    /// The client's owner has a message for the broker.
    Publish { qos: u8 },
    /// So many packets arrive at the client.
    ToClient(usize),
    /// So many packets arrive at the broker.
    ToServer(usize),
    /// The owners answer so many messages that they held back.
    Answer(usize),
    /// The wire is cut; what is on it is lost.
    Cut,
    /// The client dials again, and both ends take so many messages at a time.
    Dial { server_window: u16, client_window: u16 },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (0..3_u8, proptest::bool::weighted(0.1)).prop_map(|(qos, large)| Operation::Deliver { qos, large }),
        6 => (0..3_u8).prop_map(|qos| Operation::Publish { qos }),
        6 => (1..6_usize).prop_map(Operation::ToClient),
        6 => (1..6_usize).prop_map(Operation::ToServer),
        4 => (1..4_usize).prop_map(Operation::Answer),
        2 => Just(Operation::Cut),
        3 => (1..5_u16, 1..5_u16).prop_map(|(server_window, client_window)| {
            Operation::Dial { server_window, client_window }
        }),
    ]
}

/// One direction: what was handed in, what came out, and what is open on the wire.
#[derive(Default)]
struct Lane {
    /// Numbers of the messages that the sender took, by QoS.
    taken: [Vec<u32>; 3],
    /// Numbers of the messages that the receiver's owner got, by QoS.
    got: [Vec<u32>; 3],
    /// Identifier and number of what the receiver has seen on this connection and not finished.
    open: HashMap<u16, u32>,
    window: usize,
    /// Messages that the receiver's owner has not answered yet.
    held: Vec<(PacketId, QoS)>,
}

struct World {
    level: Level,
    session: Session,
    client: Client,
    /// Broker to client.
    down: Lane,
    /// Client to broker.
    up: Lane,
    to_client: Output,
    to_server: Output,
    terms: Terms,
    now: Time,
    number: u32,
    /// Messages that the client's owner could not publish yet, in order.
    waiting: Vec<(u8, u32)>,
    connected: bool,
    had_session: bool,
}

impl World {
    fn new(level: Level) -> Self {
        let terms = Terms::default();
        Self {
            level,
            session: Session::new(terms.queue.clone()),
            client: Client::new(),
            down: Lane::default(),
            up: Lane::default(),
            to_client: Output::default(),
            to_server: Output::default(),
            terms,
            now: Time::from_millis(1_000_000),
            number: 0,
            waiting: Vec::new(),
            connected: false,
            had_session: false,
        }
    }

    fn run(&mut self, operation: &Operation) {
        self.now = self.now.after_secs(1);
        match *operation {
            // There is no session before the first connection.
            Operation::Deliver { qos, large } if self.had_session => self.deliver(qos, large),
            Operation::Deliver { .. } => {}
            Operation::Publish { qos } => {
                self.number += 1;
                self.waiting.push((qos, self.number));
                self.publish_waiting();
            }
            Operation::ToClient(count) => self.client_reads(count),
            Operation::ToServer(count) => self.server_reads(count),
            Operation::Answer(count) => self.answer(count),
            Operation::Cut => self.cut(),
            Operation::Dial { server_window, client_window } => self.dial(server_window, client_window),
        }
    }

    fn message(&mut self, qos: u8, large: bool) -> Delivery {
        self.number += 1;
        delivery(qos, self.number, if large { 100_000 } else { 4 })
    }

    fn deliver(&mut self, qos: u8, large: bool) {
        let delivery = self.message(qos, large);
        match self.session.deliver(self.now, delivery, &mut self.to_client) {
            Delivered::Sent | Delivered::Queued => self.down.taken[usize::from(qos)].push(self.number),
            Delivered::Dropped(_) => assert_eq!(qos, 0, "only QoS 0 to nobody may be dropped"),
            Delivered::Overflow => panic!("the queue is large enough"),
        }
    }

    /// The client's owner publishes what it holds, in order, as far as the window goes.
    fn publish_waiting(&mut self) {
        while let Some(&(qos, number)) = self.waiting.first() {
            match self.client.publish(self.now, delivery(qos, number, 4), number.into(), &mut self.to_server) {
                Ok(()) => self.up.taken[usize::from(qos)].push(number),
                Err(PublishError::WindowFull | PublishError::NotConnected) => return,
                Err(PublishError::TooLarge) => panic!("nothing is too large"),
            }
            self.waiting.remove(0);
        }
    }

    fn dial(&mut self, server_window: u16, client_window: u16) {
        if self.connected {
            self.cut();
        }
        self.terms.max_inflight_v3 = server_window;
        self.terms.max_inflight_v5 = server_window;
        self.terms.receive_maximum = client_window;
        // 3.x servers announce nothing, so there the client keeps its own.
        let hello = Hello {
            level: self.level,
            client_id: "a".into(),
            clean_start: false,
            session_expiry: 1_000_000,
            receive_maximum: server_window,
            topic_alias_maximum: 2,
            max_inflight: client_window,
            ..Hello::default()
        };
        self.down.begin(server_window);
        self.up.begin(client_window);
        self.client.connect(self.now, &hello, &mut self.to_server);
        let bytes = self.to_server.unsent().to_vec();
        self.to_server.advance(bytes.len());
        let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
        let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V5) else { panic!("no CONNECT") };
        let admission = admit(&connect, &self.terms, self.now, || ClientId::from("x")).unwrap();
        let present = std::mem::replace(&mut self.had_session, true);
        self.session.attach(self.now, &admission, &self.terms, present, &mut self.to_client);
        self.connected = true;
    }

    fn cut(&mut self) {
        self.connected = false;
        self.session.detach();
        self.client.detach();
        self.to_client = Output::default();
        self.to_server = Output::default();
    }

    fn client_reads(&mut self, count: usize) {
        for _ in 0..count {
            let Some(bytes) = first_packet(&mut self.to_client) else { break };
            self.session.pump(self.now, &mut self.to_client);
            let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
            let packet = Packet::decode(frame, self.level.version()).unwrap();
            self.down.crosses(&packet);
            self.up.answered(&packet);
            match self.client.handle(self.now, packet, &mut self.to_server).unwrap() {
                Heard::Publish(incoming) => {
                    self.down.arrived(incoming.publish.qos, incoming.publish.packet_id, incoming.publish.payload);
                }
                Heard::Connack(connack) => {
                    assert_eq!(connack.reason, ReasonCode::SUCCESS);
                    if !connack.session_present && self.level != Level::V31 {
                        let lost = self.client.forget();
                        assert!(lost.is_empty(), "nothing was open before the first connection: {lost:?}");
                    }
                }
                Heard::Settled { reason, .. } | Heard::Received { reason, .. } => {
                    assert!(!reason.is_error() || reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                }
                Heard::None => {}
                other => panic!("{other:?}"),
            }
            self.publish_waiting();
        }
    }

    fn server_reads(&mut self, count: usize) {
        for _ in 0..count {
            let Some(bytes) = first_packet(&mut self.to_server) else { break };
            let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
            let packet = Packet::decode(frame, self.level.version()).unwrap();
            self.up.crosses(&packet);
            self.down.answered(&packet);
            match self.session.handle(self.now, packet, &mut self.to_client).unwrap() {
                Event::Publish(incoming) => {
                    self.up.arrived(incoming.publish.qos, incoming.publish.packet_id, incoming.publish.payload);
                }
                Event::Settled { reason } => {
                    assert!(!reason.is_error() || reason == ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                }
                Event::None => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Both owners answer the oldest messages that they held back, on whatever connection there is by now.
    fn answer(&mut self, count: usize) {
        for _ in 0..count {
            if !self.down.held.is_empty() {
                let (id, qos) = self.down.held.remove(0);
                self.client.acknowledge(id, qos, ReasonCode::SUCCESS, &mut self.to_server);
            }
            if !self.up.held.is_empty() {
                let (id, qos) = self.up.held.remove(0);
                self.session.acknowledge(id, qos, ReasonCode::SUCCESS, None, &mut self.to_client);
            }
        }
    }

    /// Lets everything come to rest.
    fn finish(&mut self) {
        self.dial(3, 3);
        for _ in 0..10_000 {
            self.now = self.now.after_secs(1);
            self.client_reads(100);
            self.server_reads(100);
            self.answer(100);
            let idle = self.to_client.is_empty() && self.to_server.is_empty();
            if idle && self.waiting.is_empty() && self.down.held.is_empty() && self.up.held.is_empty() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn check(&self) {
        assert_eq!((self.session.inflight(), self.session.queued().0, self.client.inflight()), (0, 0, 0));
        for (name, lane) in [("down", &self.down), ("up", &self.up)] {
            let [zero, one, two] = &lane.got;
            assert!(
                zero.is_sorted() && zero.iter().all(|number| lane.taken[0].contains(number)),
                "{name}: QoS 0 {zero:?}"
            );
            assert_eq!(two, &lane.taken[2], "{name}: QoS 2 comes once and in order");
            let mut first = Vec::new();
            for number in one {
                if !first.contains(number) {
                    first.push(*number);
                }
            }
            assert_eq!(first, lane.taken[1], "{name}: QoS 1 comes at least once, first in order");
        }
    }
}

impl Lane {
    fn begin(&mut self, window: u16) {
        self.window = usize::from(window);
        self.open.clear();
        // PUBACK for what came by the old connection is not owed on the new one; the sender sends it again.
        self.held.retain(|(_, qos)| *qos == QoS::ExactlyOnce);
    }

    /// A packet of the sender reaches the receiver.
    fn crosses(&mut self, packet: &Packet<'_>) {
        let Packet::Publish(publish) = packet else { return };
        let Some(id) = publish.packet_id else { return };
        let number = number(publish.payload);
        if let Some(before) = self.open.insert(id.get(), number) {
            panic!("identifier {id} means {before} and {number}, and nothing is sent twice on one connection");
        }
        assert!(self.open.len() <= self.window, "{} are open, {} may be", self.open.len(), self.window);
    }

    /// A packet of the receiver reaches the sender.
    fn answered(&mut self, packet: &Packet<'_>) {
        if let Packet::Puback(ack) | Packet::Pubcomp(ack) = packet {
            self.open.remove(&ack.packet_id.get());
        }
    }

    /// The receiver's owner gets a message.
    fn arrived(&mut self, qos: QoS, id: Option<PacketId>, payload: &[u8]) {
        self.got[usize::from(qos.bits())].push(number(payload));
        self.held.extend(id.map(|id| (id, qos)));
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]])
}

fn delivery(qos: u8, number: u32, size: usize) -> Delivery {
    let mut payload = vec![0; size];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    let qos = QoS::from_bits(qos).unwrap();
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

/// The first packet of the output, as if only so much of it went out.
fn first_packet(output: &mut Output) -> Option<Vec<u8>> {
    let bytes = Frame::split(output.unsent(), u32::MAX).unwrap()?.bytes.to_vec();
    output.advance(bytes.len());
    Some(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_wire_the_promises_hold(
        level in prop_oneof![Just(Level::V31), Just(Level::V311), Just(Level::V5)],
        operations in proptest::collection::vec(operation(), 1..120),
    ) {
        let mut world = World::new(level);
        for operation in &operations {
            world.run(operation);
        }
        world.finish();
        world.check();
    }
}
