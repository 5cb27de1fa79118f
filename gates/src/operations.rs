//! The operations whose instructions are counted.
//!
//! In: how often. Out: nothing; what matters is what it took. Each is prepared first, so that the difference between many
//! and twice as many is the operation alone.

use std::hint::black_box;

use viaduct_codec::{
    FilterRef, Frame, Packet, PacketId, Publish, PublishProperties, QoS, TopicRef, UserProperties, Version,
};
use viaduct_router::{Matches, Subscription, Subscriptions};

use crate::{Rig, Shape};

/// A topic as sites have them.
const TOPIC: &str = "site/7/line/3/temperature";
/// Messages that one publisher sends in one read, where they come together: no more than the window of 3.1.1.
const TOGETHER: u16 = 16;

/// Something that is done for each message.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// As the baseline names it.
    pub name: &'static str,
    /// How often it is done at least, so that what is left of the preparation does not show.
    pub times: u32,
    act: fn(u32),
}

impl Operation {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name)
    }

    /// Does it this often.
    pub fn run(&self, times: u32) {
        (self.act)(times);
    }
}

/// All of them. Those that end in `together` are counted per turn of [`TOGETHER`] messages of each publisher.
pub const OPERATIONS: [Operation; 13] = [
    Operation { name: "decode publish 3.1.1 qos 0", times: 10_000, act: |times| decode(Version::V311, false, times) },
    Operation {
        name: "decode publish 5.0 qos 1 all properties",
        times: 10_000,
        act: |times| decode(Version::V5, true, times),
    },
    Operation { name: "encode publish 3.1.1 qos 0", times: 10_000, act: |times| encode(Version::V311, false, times) },
    Operation {
        name: "encode publish 5.0 qos 1 all properties",
        times: 10_000,
        act: |times| encode(Version::V5, true, times),
    },
    Operation { name: "match among 10,000 filters", times: 5_000, act: matching },
    Operation { name: "nobody hears, alone", times: 3_000, act: |times| deliver(1, 0, QoS::AtMostOnce, 1, times) },
    Operation {
        name: "deliver 1 to 1 qos 0, alone",
        times: 3_000,
        act: |times| deliver(1, 1, QoS::AtMostOnce, 1, times),
    },
    Operation {
        name: "deliver 1 to 1 qos 0, together",
        times: 300,
        act: |times| deliver(1, 1, QoS::AtMostOnce, TOGETHER, times),
    },
    Operation {
        name: "deliver 1 to 100 qos 0, together",
        times: 20,
        act: |times| deliver(1, 100, QoS::AtMostOnce, TOGETHER, times),
    },
    Operation {
        name: "deliver 10 to 10 qos 0, together",
        times: 50,
        act: |times| deliver(10, 10, QoS::AtMostOnce, TOGETHER, times),
    },
    Operation {
        name: "deliver 1 to 1 qos 1, alone",
        times: 2_000,
        act: |times| deliver(1, 1, QoS::AtLeastOnce, 1, times),
    },
    Operation {
        name: "deliver 10 to 10 qos 1, together",
        times: 30,
        act: |times| deliver(10, 10, QoS::AtLeastOnce, TOGETHER, times),
    },
    Operation {
        name: "deliver 10 to 10 qos 2, together",
        times: 20,
        act: |times| deliver(10, 10, QoS::ExactlyOnce, TOGETHER, times),
    },
];

fn decode(version: Version, full: bool, times: u32) {
    let mut bytes = Vec::new();
    with_publish(full, |packet| packet.encode(version, &mut bytes).unwrap());
    for _ in 0..times {
        let frame = Frame::split(black_box(&bytes), 1 << 20).ok().flatten();
        black_box(frame.and_then(|frame| Packet::decode(frame, version).ok()));
    }
}

fn encode(version: Version, full: bool, times: u32) {
    let mut out = Vec::with_capacity(1 << 10);
    with_publish(full, |packet| {
        for _ in 0..times {
            out.clear();
            black_box(packet).encode(version, black_box(&mut out)).unwrap();
        }
    });
}

fn with_publish(full: bool, act: impl FnOnce(&Packet<'_>)) {
    let mut pairs = Vec::new();
    UserProperties::push(&mut pairs, "unit", "celsius");
    let mut properties = PublishProperties::default();
    if full {
        properties.payload_format = Some(true);
        properties.message_expiry = Some(60);
        properties.response_topic = Some(TopicRef::new("answers/7").unwrap());
        properties.correlation_data = Some(b"17");
        properties.content_type = Some("text/plain");
        properties.user_properties = UserProperties::from_encoded(&pairs);
    }
    act(&Packet::Publish(Publish {
        dup: false,
        qos: if full { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain: false,
        topic: Some(TopicRef::new(TOPIC).unwrap()),
        packet_id: PacketId::new(10).filter(|_| full),
        properties,
        payload: &[b'x'; 16],
    }));
}

/// A walk of the trie and its result, nothing remembered; of ten filters nine are literal.
fn matching(times: u32) {
    let mut all = Subscriptions::new();
    for key in 0..10_000_u32 {
        let (site, line) = (key / 100, key % 100);
        let filter = match key % 100 {
            0..90 => format!("site/{site}/line/{line}/temperature"),
            90..99 => format!("site/{site}/+/{line}/temperature"),
            _ => format!("site/{site}/#"),
        };
        all.subscribe(FilterRef::new(&filter).unwrap(), key, Subscription::default());
    }
    let topics: Vec<String> = (0..100).map(|site| format!("site/{site}/line/{}/temperature", site % 90)).collect();
    let mut scratch = Matches::default();
    for topic in (0..times).map(|time| &topics[time as usize % topics.len()]) {
        all.matches(TopicRef::new(black_box(topic)).unwrap(), &mut scratch);
        black_box(scratch.freeze());
    }
}

fn deliver(publishers: usize, subscribers: usize, qos: QoS, per_turn: u16, times: u32) {
    let mut rig = Rig::of(&Shape { workers: 1, publishers, subscribers, version: Version::V311, qos, per_turn });
    rig.run(times);
}
