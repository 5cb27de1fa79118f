//! Heap allocations per message, from the read that brings it to the last acknowledgement; per message that waits for somebody
//! who is away; per packet that is decoded; and per look-up of who hears a topic.
//!
//! Whoever changes one of the numbers says so here. A reallocation counts as one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::hint::black_box;
use std::num::NonZeroU16;
use std::sync::Arc;

use allocation_counter::measure;
use viaduct_codec::{
    Ack, FilterRef, Frame, Packet, PacketId, PacketType, Publish, PublishProperties, QoS, ReasonCode, TopicRef,
    UserProperties, Version,
};
use viaduct_gates::{Rig, Shape};
use viaduct_router::{Matches, Subscription, Subscriptions};
use viaduct_store::Store;
use viaduct_store::log::{FaultyFiles, Log, Options};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// Turns until caches and buffers have their size.
const WARM_UP: u32 = 16;
/// Turns that are counted.
const TURNS: u32 = 32;

/// Workers, publishers, subscribers, messages of one publisher in one read.
type Row = ((u16, usize, usize, u16), PerMessage);
/// At QoS 0, 1 and 2.
type PerMessage = [f64; 3];

/// Allocations per message of 3.1.1: none at QoS 0, at QoS 1 and 2 the message and its payload, however many hear it. A run of QoS 1
/// that goes out as a bundle is two for all of it; one that is more than the window holds, or that another worker hears, is none. None per
/// delivery. What is beyond is the window, which grows once it has been empty.
const V311: [Row; 9] = [
    ((1, 1, 0, 1), [0.0, 2.0, 2.0]),
    ((1, 1, 1, 1), [0.0, 2.0, 2.0]),
    ((1, 1, 1, 16), [0.0, 0.13, 2.0]),
    ((1, 1, 1, 64), [0.0, 2.11, 2.19]),
    ((1, 1, 100, 1), [0.0, 2.0, 2.0]),
    ((1, 1, 100, 16), [0.0, 0.13, 2.0]),
    ((1, 10, 10, 1), [0.0, 2.0, 2.0]),
    ((1, 10, 10, 16), [0.0, 0.13, 2.0]),
    ((2, 10, 10, 16), [0.09, 1.31, 2.06]),
];

/// As [`V311`], for 5.0, which has a larger window.
const V5: [Row; 9] = [
    ((1, 1, 0, 1), [0.0, 2.0, 2.0]),
    ((1, 1, 1, 1), [0.0, 2.0, 2.0]),
    ((1, 1, 1, 16), [0.0, 0.13, 2.0]),
    ((1, 1, 1, 64), [0.0, 0.05, 2.17]),
    ((1, 1, 100, 1), [0.0, 2.0, 2.0]),
    ((1, 1, 100, 16), [0.0, 0.13, 2.0]),
    ((1, 10, 10, 1), [0.0, 2.0, 2.0]),
    ((1, 10, 10, 16), [0.0, 0.13, 2.0]),
    ((2, 10, 10, 16), [0.09, 1.31, 2.06]),
];

#[test]
fn a_message_of_3_1_1_allocates_what_is_recorded() {
    check(Version::V311, &V311);
}

#[test]
fn a_message_of_5_0_allocates_what_is_recorded() {
    check(Version::V5, &V5);
}

fn check(version: Version, recorded: &[Row]) {
    let counted: Vec<Row> = recorded
        .iter()
        .map(|&((workers, publishers, subscribers, per_turn), _)| {
            let shape = |qos| Shape { workers, publishers, subscribers, version, qos, per_turn, user_properties: &[] };
            ((workers, publishers, subscribers, per_turn), QOS.map(|qos| per_message(&shape(qos))))
        })
        .collect();
    let rows: Vec<String> = counted.iter().map(|row| format!("    {row:?},")).collect();
    assert!(
        counted == recorded,
        "other numbers than are recorded; if that is meant, record them:\n{}",
        rows.join("\n")
    );
}

/// Rounded to hundredths.
fn per_message(shape: &Shape) -> f64 {
    let mut rig = Rig::of(shape);
    rig.run(WARM_UP);
    let before = rig.heard();
    let info = measure(|| rig.run(TURNS));
    let messages = u64::from(TURNS) * u64::from(shape.per_turn) * shape.publishers as u64;
    let heard = messages * shape.subscribers as u64 / shape.publishers as u64;
    assert_eq!(rig.heard() - before, heard, "somebody did not hear everything of {shape:?}");
    (info.count_total as f64 * 100.0 / messages as f64).round() / 100.0
}

/// Clients that are away, each with a publisher of its own that says [`TOGETHER`] messages at a time.
const ABSENT: usize = 64;
const TOGETHER: u16 = 16;
/// How often it says them before anything is counted: what a session sends first is in memory, and that is the first 64; the next
/// begin the list of those that are not.
const BEFORE: u16 = 5;
/// Allocations of each message that stay until it is written: two of a run, whose answers wait. Each message would be two more.
const STAYS: f64 = 0.13;
/// All allocations of each message until then: five of a run.
const IN_ALL: f64 = 0.32;

#[test]
fn a_message_to_a_client_that_is_away_becomes_bytes_of_the_log() {
    let opened = Log::open_stepped(&Options::new(1, Arc::new(|_| 0), 7), Arc::new(FaultyFiles::default())).unwrap();
    let doors = opened.doors.into_iter().map(|door| -> Box<dyn Store> { Box::new(door) });
    let (mut rig, log) = (Rig::over(doors.collect()), opened.log);
    let mut publishers = Vec::new();
    for number in 0..ABSENT {
        let topic = format!("t/{number}");
        let absent = rig.connect_lasting(&format!("absent-{number}"));
        rig.subscribe(absent, Version::V311, &topic, QoS::AtLeastOnce);
        rig.commit(|| log.step());
        rig.cut(absent);
        let mut said = Vec::new();
        for id in 1..=TOGETHER {
            let publish = Publish { packet_id: PacketId::new(id), ..publish(QoS::AtLeastOnce, &topic) };
            Packet::Publish(publish).encode(Version::V311, &mut said).unwrap();
        }
        publishers.push((rig.connect(Version::V311, &format!("publisher-{number}")), said));
    }
    let say = |rig: &mut Rig| publishers.iter().for_each(|(publisher, said)| rig.say(*publisher, said));
    for _ in 0..BEFORE {
        say(&mut rig);
        rig.commit(|| log.step());
    }
    let info = measure(|| say(&mut rig));
    let messages = ABSENT * usize::from(TOGETHER);
    let each = |count: f64| (count * 100.0 / messages as f64).round() / 100.0;
    let counted = (each(info.count_current as f64), each(info.count_total as f64));
    assert_eq!(counted, (STAYS, IN_ALL), "other numbers than are recorded; if that is meant, record them");
    for number in 0..ABSENT {
        rig.connect_lasting(&format!("absent-{number}"));
    }
    let owed = u64::from((BEFORE + 1) * TOGETHER) * ABSENT as u64;
    (0..BEFORE).for_each(|_| rig.commit(|| log.step()));
    assert_eq!(rig.heard(), owed, "all of them were owed, and come");
}

#[test]
fn who_hears_a_topic_is_looked_up_without_an_allocation() {
    let one = vec!["site/7/line/3/temperature".to_owned(); 200];
    let many: Vec<String> = (0..200).map(|number| format!("site/7/line/{number}/temperature")).collect();
    let [one, many] = [one, many].map(|topics| {
        let mut rig = Rig::new(1);
        let client = rig.connect(Version::V311, "publisher");
        rig.say(client, &published(&topics));
        measure(|| rig.say(client, &published(&topics))).count_total
    });
    assert_eq!(many, one, "200 topics in turn, all of them known, against one topic 200 times");
}

fn published(topics: &[String]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 * topics.len());
    for topic in topics {
        Packet::Publish(publish(QoS::AtMostOnce, topic)).encode(Version::V311, &mut bytes).unwrap();
    }
    bytes
}

#[test]
fn a_match_allocates_only_what_it_keeps() {
    let mut all = Subscriptions::new();
    let filters = ["site/7/line/3/temperature", "site/+/line/3/temperature", "site/7/#", "#", "+/+/+/+/+"];
    for (key, filter) in filters.iter().enumerate() {
        all.subscribe(FilterRef::new(filter).unwrap(), key, Subscription::default());
    }
    let topic = TopicRef::new(filters[0]).unwrap();
    let mut scratch = Matches::default();
    all.matches(topic, &mut scratch);
    drop(black_box(scratch.freeze()));
    assert_eq!(measure(|| all.matches(topic, &mut scratch)).count_total, 0, "into a scratch that was used before");
    let mut found = None;
    let info = measure(|| found = Some(scratch.freeze()));
    assert_eq!(found.unwrap().routes().len(), filters.len());
    assert_eq!(info.count_current, 1, "the routes");
}

#[test]
fn a_packet_is_decoded_without_an_allocation() {
    let mut pairs = Vec::new();
    UserProperties::push(&mut pairs, "unit", "celsius");
    let id = PacketId::new(10).unwrap();
    let ack = Ack::new(id, ReasonCode::SUCCESS);
    let mut packets = vec![Packet::Pingreq, Packet::Puback(ack), Packet::Pubrec(ack), Packet::Pubrel(ack)];
    packets.push(Packet::Pubcomp(ack));
    packets.extend(QOS.map(|qos| Packet::Publish(publish(qos, "site/7/line/3/temperature"))));
    let mut full = publish(QoS::AtLeastOnce, "site/7/line/3/temperature");
    full.properties = PublishProperties {
        payload_format: Some(true),
        message_expiry: Some(60),
        topic_alias: NonZeroU16::new(3),
        response_topic: Some(TopicRef::new("answers/7").unwrap()),
        correlation_data: Some(b"17"),
        content_type: Some("text/plain"),
        user_properties: UserProperties::from_encoded(&pairs),
        ..PublishProperties::default()
    };
    packets.push(Packet::Publish(full));
    for version in [Version::V31, Version::V311, Version::V5] {
        for packet in &packets {
            let mut bytes = Vec::new();
            packet.encode(version, &mut bytes).unwrap();
            let info = measure(|| {
                let frame = Frame::split(black_box(&bytes), u32::MAX).unwrap().unwrap();
                assert_ne!(black_box(Packet::decode(frame, version).unwrap()).kind(), PacketType::Connect);
            });
            assert_eq!(info.count_total, 0, "{version:?} {packet:?}");
        }
    }
}

fn publish(qos: QoS, topic: &str) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(TopicRef::new(topic).unwrap()),
        packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(10) },
        properties: PublishProperties::default(),
        payload: &[b'x'; 16],
    }
}
