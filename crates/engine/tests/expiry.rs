//! Messages that expire, over a log: what is expired leaves the store, and a clock that goes back gives nobody more time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests in a file of tests")]

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{
    Message, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, TopicName, TopicRef, Version,
};
use viaduct_engine::{Engine, Settings, WorkerId};
use viaduct_store::log::{FaultyFiles, Log, stats};
use viaduct_store::{FaultyStore, Script, Trouble};
use viaduct_testkit::{Got, World, connect, open_log, subscribe};

/// More than one sweep takes.
const MANY: usize = 2_500;
/// How long the messages last: longer than a test may take.
const LIFE: Duration = Duration::from_secs(3_600);

/// Has the world go on, from its time, with what `files` keep.
fn start(world: &mut World, files: &FaultyFiles) -> (Log, Script) {
    let (log, door) = open_log(files);
    let (store, script) = FaultyStore::new(Box::new(door));
    let (shared, now) = (Arc::clone(&world.shared), world.now());
    *world.engine(0) = Engine::new(WorkerId(0), shared, Arc::new(Settings::default()), Box::new(store), now);
    (log, script)
}

/// Waits until the log has this many records.
fn until_records(world: &mut World, log: &Log, records: u64) {
    let reached = world.wait_for(|_| (log.numbers().records == records).then_some(()));
    assert!(reached.is_some(), "{} records, not {records}", log.numbers().records);
}

/// Has [`MANY`] retained messages that expire after [`LIFE`], and one that does not.
fn retain_many(world: &mut World, log: &Log) {
    let now = world.now();
    for number in 0..=MANY {
        let message = Message {
            topic: TopicName::new(&format!("topic {number}/x")).unwrap(),
            payload: b"x".to_vec().into(),
            qos: QoS::AtLeastOnce,
            retain: true,
            received: now,
            expires: (number < MANY).then(|| now.after(LIFE)),
            properties: None,
        };
        world.engine(0).publish(now, message);
    }
    until_records(world, log, MANY as u64 + 1);
    assert!(world.now() < now.after(LIFE), "none has expired so far");
}

#[test]
fn a_retained_message_that_expires_leaves_the_store_once_the_store_takes_that() {
    let (mut world, files) = (World::new(1), FaultyFiles::default());
    let (log, script) = start(&mut world, &files);
    retain_many(&mut world, &log);
    script.always(Some(Trouble::Full));
    world.pass(LIFE + Duration::from_secs(60));
    let kept = (world.shared.retained().0, log.numbers().records);
    assert_eq!(kept, (MANY + 1, MANY as u64 + 1), "what the store still has is not forgotten");
    script.always(None);
    world.pass(Duration::from_secs(60));
    until_records(&mut world, &log, 1);
    assert_eq!(world.shared.retained().0, 1);
    log.close();
    assert_eq!(stats(&files.after_kill()).unwrap().retained, 1);
}

#[test]
fn a_retained_message_that_expired_while_the_broker_was_down_leaves_the_store() {
    let (mut world, files) = (World::new(1), FaultyFiles::default());
    let (log, _) = start(&mut world, &files);
    retain_many(&mut world, &log);
    log.close();
    let files = files.after_kill();
    assert_eq!(stats(&files).unwrap().retained, MANY as u64 + 1);
    let mut world = World::new(1);
    world.pass(LIFE + Duration::from_secs(20));
    let (log, _) = start(&mut world, &files);
    let now = world.now();
    world.engine(0).handle_timeout(now);
    assert_eq!(world.shared.retained().0, MANY + 1 - 1_000, "a turn takes no more");
    until_records(&mut world, &log, 1);
    assert_eq!(world.shared.retained().0, 1);
    // A change that comes now is numbered behind all of these.
    retain_many(&mut world, &log);
    log.close();
    assert_eq!(stats(&files.after_kill()).unwrap().retained, MANY as u64 + 1);
}

#[test]
fn a_clock_that_went_back_gives_a_message_no_more_time_than_its_publisher_did() {
    let (mut world, files) = (World::new(1), FaultyFiles::default());
    world.pass(Duration::from_secs(86_400));
    let (log, _) = start(&mut world, &files);
    let mut keeps = connect(Version::V5, "keeps");
    (keeps.clean_start, keeps.properties.session_expiry) = (false, Some(u32::MAX));
    let mut client = world.connect(&Packet::Connect(Box::new(keeps.clone())));
    world.send(&mut client, &[subscribe("queued", QoS::AtLeastOnce)]);
    until_records(&mut world, &log, 2);
    world.cut(&mut client);
    let mut publisher = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "publisher"))));
    for (topic, retain) in [("queued", false), ("retained", true)] {
        world.send(
            &mut publisher,
            &[Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain,
                topic: Some(TopicRef::new(topic).unwrap()),
                packet_id: PacketId::new(7),
                properties: PublishProperties {
                    message_expiry: Some(LIFE.as_secs() as u32),
                    ..PublishProperties::default()
                },
                payload: b"x",
            })],
        );
    }
    until_records(&mut world, &log, 3);
    log.close();
    // A day earlier.
    let mut world = World::new(1);
    let (log, _) = start(&mut world, &files.after_kill());
    let mut client = world.connect(&Packet::Connect(Box::new(keeps)));
    world.send(&mut client, &[subscribe("retained", QoS::AtMostOnce)]);
    let mut got = Vec::new();
    let both = world.wait_for(|world| {
        world.take(&mut client);
        got.extend(client.got().into_iter().filter_map(|got| match got {
            Got::Publish { topic, expiry: Some(left), .. } => Some((topic, left)),
            Got::Publish { topic, .. } => panic!("{topic} has all the time in the world"),
            Got::Connack(_, reason) => (reason != ReasonCode::SUCCESS).then(|| panic!("{reason}")),
            _ => None,
        }));
        (got.len() >= 2).then_some(())
    });
    assert!(both.is_some(), "{got:?} came");
    got.sort();
    let topics: Vec<_> = got.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(topics, ["queued", "retained"]);
    assert!(got.iter().all(|(_, left)| (1..=LIFE.as_secs() as u32).contains(left)), "{got:?}");
    log.close();
}
