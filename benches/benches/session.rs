//! A message and its acknowledgements between a client and a session, both ends in one process and nothing else: what
//! the protocol itself costs at QoS 1 and 2, reading and writing of packets included. 100 messages are in flight.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use viaduct_benches::alone;
use viaduct_codec::{ClientId, Frame, Level, Message, Packet, QoS, ReasonCode, Time, TopicRef, Version};
use viaduct_session::client::{Client, Hello};
use viaduct_session::server::{Event, Session, Terms, admit};
use viaduct_session::{Delivery, Output};

const IN_FLIGHT: u64 = 100;
const ROUNDS: usize = 11;

fn main() {
    for version in [Version::V311, Version::V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut ends = Ends::new(version);
            let delivery = message(qos);
            let time = alone(ROUNDS, 500, || ends.exchange(&delivery));
            assert_eq!(ends.taken, u64::from(500_u32) * ROUNDS as u64 * IN_FLIGHT);
            println!("{version}, QoS {}: {:.0} ns a message, both ends", qos.bits(), time / IN_FLIGHT as f64);
        }
    }
}

struct Ends {
    version: Version,
    client: Client,
    session: Session,
    to_session: Output,
    to_client: Output,
    /// Messages that the session took.
    taken: u64,
}

impl Ends {
    fn new(version: Version) -> Self {
        let mut ends = Self {
            version,
            client: Client::default(),
            session: Session::new(Terms::default().queue),
            to_session: Output::default(),
            to_client: Output::default(),
            taken: 0,
        };
        let hello = Hello {
            level: if version.is_v5() { Level::V5 } else { Level::V311 },
            client_id: "a".into(),
            clean_start: true,
            keep_alive: 0,
            session_expiry: 0,
            receive_maximum: u16::MAX,
            max_inflight: 1_000,
            maximum_packet_size: u32::MAX,
            server_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            username: None,
            password: None,
            will: None,
        };
        ends.client.connect(now(), &hello, &mut ends.to_session);
        let frame = Frame::split(ends.to_session.unsent(), 1 << 20).unwrap().unwrap();
        let Packet::Connect(connect) = Packet::decode(frame, version).unwrap() else { panic!("a CONNECT") };
        let admission = admit(&connect, &Terms::default(), now(), || ClientId::from("a")).unwrap();
        ends.session.attach(now(), &admission, &Terms::default(), false, &mut ends.to_client);
        let length = frame.bytes.len();
        ends.to_session.advance(length);
        ends.settle();
        assert!(ends.client.is_connected());
        ends
    }

    fn exchange(&mut self, delivery: &Delivery) {
        for token in 0..IN_FLIGHT {
            black_box(self.client.publish(now(), delivery.clone(), token, &mut self.to_session)).unwrap();
        }
        self.settle();
    }

    /// Lets both read until neither has anything more to say.
    fn settle(&mut self) {
        while !self.to_session.is_empty() || !self.to_client.is_empty() {
            self.read_session();
            self.read_client();
        }
    }

    fn read_session(&mut self) {
        let mut used = 0;
        while let Some(frame) = Frame::split(&self.to_session.unsent()[used..], 1 << 20).unwrap() {
            used += frame.bytes.len();
            let packet = Packet::decode(frame, self.version).unwrap();
            if let Event::Publish(incoming) = self.session.handle(now(), packet, &mut self.to_client).unwrap() {
                self.taken += 1;
                if let Some(id) = incoming.publish.packet_id {
                    let qos = incoming.publish.qos;
                    self.session.acknowledge(id, qos, ReasonCode::SUCCESS, None, &mut self.to_client);
                }
            }
        }
        self.to_session.advance(used);
    }

    fn read_client(&mut self) {
        let mut used = 0;
        while let Some(frame) = Frame::split(&self.to_client.unsent()[used..], 1 << 20).unwrap() {
            used += frame.bytes.len();
            let packet = Packet::decode(frame, self.version).unwrap();
            black_box(self.client.handle(now(), packet, &mut self.to_session).unwrap());
        }
        self.to_client.advance(used);
    }
}

fn message(qos: QoS) -> Delivery {
    let message = Message {
        topic: TopicRef::new("site/7/line/3/temperature").unwrap().to_owned(),
        payload: Bytes::from_static(&[0; 64]),
        qos,
        retain: false,
        received: now(),
        expires: None,
        properties: None,
    };
    Delivery { message: Arc::new(message), qos, retain: false, ids: Default::default(), group: None, kept: None }
}

fn now() -> Time {
    Time::from_millis(1_700_000_000_000)
}
