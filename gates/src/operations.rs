//! The operations whose instructions are counted.
//!
//! In: how often. Out: nothing; what matters is what it took. Each is prepared first and then done inside [`counted`], and
//! whoever counts looks at that function alone.

use std::hint::black_box;

use viaduct_codec::{
    FilterRef, Frame, Packet, PacketId, Publish, PublishProperties, QoS, TopicRef, UserProperties, Version,
};
use viaduct_router::{Matches, Subscription, Subscriptions};

use crate::bridged::Bridged;
use crate::{Rig, Shape};

/// A topic as sites have them.
const TOPIC: &str = "site/7/line/3/temperature";
/// A User Property, encoded.
const PAIR: &[u8] = b"\x26\0\x04unit\0\x07celsius";
/// Messages that one publisher sends in one read, where they come together: no more than the window of 3.1.1.
const TOGETHER: u16 = 16;
/// Tries that matches are counted in.
const TRIES: usize = 7;

/// Something that is done for each message.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// As the baseline names it.
    pub name: &'static str,
    /// How often it is done, so that what happens now and then is spread.
    pub times: u32,
    /// Deliveries, or whatever else is counted, each time.
    pub units: u32,
    /// Gives back what is to be done, once all is ready for it.
    prepare: fn() -> Box<dyn FnMut()>,
}

/// All of them. What is counted of a delivery is everything from the read that brings the message on, divided by those
/// who hear it.
pub const OPERATIONS: [Operation; 20] = [
    single("decode publish 3.1.1 qos 0", 10_000, || decode(Version::V311, false)),
    single("decode publish 5.0 qos 1 all properties", 10_000, || decode(Version::V5, true)),
    single("encode publish 3.1.1 qos 0", 10_000, || encode(Version::V311, false)),
    single("encode publish 5.0 qos 1 all properties", 10_000, || encode(Version::V5, true)),
    single("match among 10,000 filters", 10_000, matching),
    single("nobody hears, alone", 3_000, || deliver(1, 0, QoS::AtMostOnce, 1)),
    single("deliver 1 to 1 qos 0, alone", 3_000, || deliver(1, 1, QoS::AtMostOnce, 1)),
    single("deliver 1 to 1 qos 1, alone", 2_000, || deliver(1, 1, QoS::AtLeastOnce, 1)),
    together("deliver 1 to 1 qos 0, together", 1, 300, || deliver(1, 1, QoS::AtMostOnce, TOGETHER)),
    together("deliver 1 to 100 qos 0, together", 100, 20, || deliver(1, 100, QoS::AtMostOnce, TOGETHER)),
    together("deliver 10 to 10 qos 0, together", 10, 50, || deliver(10, 10, QoS::AtMostOnce, TOGETHER)),
    together("deliver 10 to 10 qos 1, together", 10, 30, || deliver(10, 10, QoS::AtLeastOnce, TOGETHER)),
    together("deliver 10 to 10 qos 2, together", 10, 20, || deliver(10, 10, QoS::ExactlyOnce, TOGETHER)),
    together("deliver 1 to 1 qos 1, together", 1, 300, || deliver(1, 1, QoS::AtLeastOnce, TOGETHER)),
    together("deliver 1 to 1 qos 1 with a pair, together", 1, 300, || deliver_stamped(QoS::AtLeastOnce)),
    together("deliver 1 to 1 qos 2 with a pair, together", 1, 300, || deliver_stamped(QoS::ExactlyOnce)),
    bridged("bridge qos 0 over 3.1.1, together", 1_000, 20, || bridge(Version::V311, QoS::AtMostOnce, 1_000)),
    bridged("bridge qos 0 over 5.0, together", 1_000, 20, || bridge(Version::V5, QoS::AtMostOnce, 1_000)),
    bridged("bridge qos 1 over 3.1.1, together", TOGETHER, 300, || bridge(Version::V311, QoS::AtLeastOnce, TOGETHER)),
    bridged("bridge qos 1 over 5.0, together", TOGETHER, 300, || bridge(Version::V5, QoS::AtLeastOnce, TOGETHER)),
];

const fn single(name: &'static str, times: u32, prepare: fn() -> Box<dyn FnMut()>) -> Operation {
    Operation { name, times, units: 1, prepare }
}

/// [`TOGETHER`] messages of each publisher in one read.
const fn together(name: &'static str, subscribers: u32, times: u32, prepare: fn() -> Box<dyn FnMut()>) -> Operation {
    Operation { name, times, units: subscribers * TOGETHER as u32, prepare }
}

/// So many messages of one publisher in one read, and through two brokers.
const fn bridged(name: &'static str, messages: u16, times: u32, prepare: fn() -> Box<dyn FnMut()>) -> Operation {
    Operation { name, times, units: messages as u32, prepare }
}

impl Operation {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name)
    }

    /// Prepares it and does it [`Operation::times`].
    pub fn run(&self) {
        let mut act = (self.prepare)();
        // Whatever is done for the first time only.
        act();
        counted(&mut *act, self.times);
    }
}

/// The part of the program that is counted, by this name.
#[inline(never)]
fn counted(act: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        act();
    }
}

fn decode(version: Version, full: bool) -> Box<dyn FnMut()> {
    let bytes = encoded(version, full);
    Box::new(move || {
        let frame = Frame::split(black_box(&bytes), 1 << 20).ok().flatten();
        black_box(frame.and_then(|frame| Packet::decode(frame, version).ok()));
    })
}

fn encode(version: Version, full: bool) -> Box<dyn FnMut()> {
    let mut out = Vec::with_capacity(1 << 10);
    let packet = publish(full);
    Box::new(move || {
        out.clear();
        black_box(&packet).encode(version, black_box(&mut out)).unwrap();
    })
}

fn encoded(version: Version, full: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    publish(full).encode(version, &mut bytes).unwrap();
    bytes
}

fn publish(full: bool) -> Packet<'static> {
    let mut properties = PublishProperties::default();
    if full {
        properties.payload_format = Some(true);
        properties.message_expiry = Some(60);
        properties.response_topic = Some(TopicRef::new("answers/7").unwrap());
        properties.correlation_data = Some(b"17");
        properties.content_type = Some("text/plain");
        properties.user_properties = UserProperties::from_encoded(PAIR);
    }
    Packet::Publish(Publish {
        dup: false,
        qos: if full { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain: false,
        topic: Some(TopicRef::new(TOPIC).unwrap()),
        packet_id: PacketId::new(10).filter(|_| full),
        properties,
        payload: &[b'x'; 16],
    })
}

/// A walk of the trie and its result, nothing remembered; of ten filters nine are literal. Among several tries of many
/// topics each: where a hash table has its collisions is another matter in every process.
fn matching() -> Box<dyn FnMut()> {
    let tries: Vec<Subscriptions<u32>> = (0..TRIES).map(|_| ten_thousand_filters()).collect();
    let topic = |number: u32| format!("site/{}/line/{}/temperature", number % 100, number / 100);
    let topics: Vec<String> = (0..2_000).map(topic).collect();
    let mut scratch = Matches::default();
    let mut time = 0;
    Box::new(move || {
        let (all, topic) = (&tries[time % tries.len()], &topics[time % topics.len()]);
        time += 1;
        all.matches(TopicRef::new(black_box(topic)).unwrap(), &mut scratch);
        black_box(scratch.freeze());
    })
}

fn ten_thousand_filters() -> Subscriptions<u32> {
    let mut all = Subscriptions::new();
    for key in 0..10_000_u32 {
        let (site, line) = (key / 100, key % 100);
        let filter = match line {
            0..90 => format!("site/{site}/line/{line}/temperature"),
            90..99 => format!("site/{site}/+/{}/temperature", line - 90),
            _ => format!("site/{site}/#"),
        };
        all.subscribe(FilterRef::new(&filter).unwrap(), key, Subscription::default());
    }
    all
}

fn deliver(publishers: usize, subscribers: usize, qos: QoS, per_turn: u16) -> Box<dyn FnMut()> {
    let shape =
        Shape { workers: 1, publishers, subscribers, version: Version::V311, qos, per_turn, user_properties: &[] };
    let mut rig = Rig::of(&shape);
    Box::new(move || rig.run(1))
}

/// One to one in 5.0, as what a bridge has stamped goes on.
fn deliver_stamped(qos: QoS) -> Box<dyn FnMut()> {
    let shape = Shape {
        workers: 1,
        publishers: 1,
        subscribers: 1,
        version: Version::V5,
        qos,
        per_turn: TOGETHER,
        user_properties: PAIR,
    };
    let mut rig = Rig::of(&shape);
    Box::new(move || rig.run(1))
}

fn bridge(link: Version, qos: QoS, per_turn: u16) -> Box<dyn FnMut()> {
    let mut bridged = Bridged::of(link, qos, per_turn);
    let mut turns = 0;
    Box::new(move || {
        bridged.run(1);
        turns += 1;
        assert_eq!(bridged.heard(), turns * u64::from(per_turn), "something was lost on the bridge");
    })
}
