//! What an engine does when a door goes wrong: a session that another owner has, a claim that can't be answered, news for
//! another worker that come late or never, a message of which the store took a part.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{
    Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, TopicRef, Version, Will, WillProperties,
};
use viaduct_engine::{AllowAll, Seams, Settings, SharedRoutes, worker_of};
use viaduct_store::{FaultyStore, Script, Trouble};
use viaduct_testkit::{
    Client, FaultyHearers, FaultyOwners, Got, Ground, HearerScript, HearerTrouble, OwnerScript, OwnerTrouble, World,
    connect, on, on_every_ground, subscribe,
};

/// What a test holds of the doors of its broker.
struct Scripts {
    owners: OwnerScript,
    store: Script,
    hearers: Vec<HearerScript>,
}

fn world(workers: u16) -> (World, Scripts) {
    let scripts = RefCell::new(None);
    let world = World::build(workers, Settings::default(), Box::new(AllowAll), |_, shared, store| {
        let (owners, owner_script) = FaultyOwners::new();
        let (store, store_script) = FaultyStore::new(store);
        let (hearers, hearer_script) = FaultyHearers::new(SharedRoutes::new(Arc::clone(shared)));
        let mut scripts = scripts.borrow_mut();
        let own = scripts.get_or_insert(Scripts { owners: owner_script, store: store_script, hearers: Vec::new() });
        own.hearers.push(hearer_script);
        Seams { owners: Box::new(owners), store: Box::new(store), hearers: Box::new(hearers) }
    });
    (world, scripts.into_inner().unwrap())
}

/// A session that outlives its connection and has a will.
fn hello(world: &mut World, version: Version, id: &str) -> Client {
    let topic = TopicRef::new("will").unwrap();
    let will =
        Will { topic, payload: b"gone", qos: QoS::AtLeastOnce, retain: false, properties: WillProperties::default() };
    let mut hello = viaduct_codec::Connect { clean_start: false, will: Some(will), ..connect(version, id) };
    hello.properties.session_expiry = (version == Version::V5).then_some(1_000);
    let mut client = world.connect(&Packet::Connect(Box::new(hello)));
    world.take(&mut client);
    client
}

fn subscribes(world: &mut World, client: &mut Client, filter: &str) {
    world.send(client, &[subscribe(filter, QoS::ExactlyOnce)]);
    client.got();
}

fn publish(qos: QoS, id: u16, payload: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(TopicRef::new("t").unwrap()),
        packet_id: PacketId::new(id),
        properties: PublishProperties::default(),
        payload,
    })
}

fn fenced(world: &mut World) -> u64 {
    world.engine(0).stats().sessions_fenced.get()
}

#[test]
fn a_session_that_another_owner_has_is_let_go_at_once() {
    on_every_ground(|| {
        for version in [Version::V311, Version::V5] {
            let (mut world, scripts) = world(1);
            let mut owner = hello(&mut world, version, "owner");
            subscribes(&mut world, &mut owner, "t");
            let mut watcher = hello(&mut world, Version::V5, "watcher");
            subscribes(&mut world, &mut watcher, "will");
            scripts.owners.lose("owner", 1_000);
            // In the same turn somebody publishes: it is not for this node to deliver any more.
            world.send(&mut watcher, &[publish(QoS::AtLeastOnce, 1, b"late")]);
            world.take(&mut owner);
            let told =
                if version == Version::V5 { vec![Got::Disconnect(ReasonCode::SESSION_TAKEN_OVER)] } else { vec![] };
            assert_eq!((owner.got(), owner.closed), (told, true));
            assert_eq!(watcher.got(), [Got::Ack(4, 1, ReasonCode::NO_MATCHING_SUBSCRIBERS)], "no will either");
            assert_eq!((fenced(&mut world), world.shared.subscriptions()), (1, 1));
            assert!(world.engine(0).client("owner").is_none() && scripts.owners.released().is_empty());
            // What comes on that connection is not looked at, and the end of its socket ends nothing.
            world.send(&mut owner, &[publish(QoS::AtLeastOnce, 9, b"more")]);
            world.cut(&mut owner);
            world.pass(Duration::from_secs(2_000));
            world.take(&mut watcher);
            assert_eq!((owner.got(), watcher.got()), (vec![], vec![]));
        }
    });
}

#[test]
fn what_a_session_is_owed_stays_owed_when_another_owner_has_it() {
    for ground in [Ground::Log, Ground::QuietLog, Ground::SlowLog] {
        on(ground, || {
            let (mut world, scripts) = world(1);
            let mut owner = hello(&mut world, Version::V5, "owner");
            subscribes(&mut world, &mut owner, "t");
            let mut publisher = hello(&mut world, Version::V5, "publisher");
            // One is in flight and not acknowledged, and one waits.
            world.send(&mut publisher, &[publish(QoS::AtLeastOnce, 1, b"1")]);
            world.cut(&mut owner);
            world.send(&mut publisher, &[publish(QoS::AtLeastOnce, 2, b"2")]);
            scripts.owners.lose("owner", 1_000);
            world.send(&mut publisher, &[Packet::Pingreq]);
            assert_eq!(fenced(&mut world), 1);
            world.restart();
            let mut owner = hello(&mut world, Version::V5, "owner");
            let payloads: Vec<_> = owner.messages().into_iter().map(|(_, payload)| payload).collect();
            assert_eq!(payloads, [b"1".to_vec(), b"2".to_vec()]);
        });
    }
}

#[test]
fn a_store_that_refuses_the_epoch_of_a_session_ends_it_here() {
    on_every_ground(|| {
        for (version, qos) in [(Version::V311, QoS::AtLeastOnce), (Version::V5, QoS::ExactlyOnce)] {
            let (mut world, scripts) = world(1);
            let mut subscriber = hello(&mut world, Version::V5, "subscriber");
            subscribes(&mut world, &mut subscriber, "t");
            subscribes(&mut world, &mut subscriber, "will");
            let mut publisher = hello(&mut world, version, "publisher");
            publisher.got();
            scripts.store.next(Some(Trouble::Fenced));
            world.send(&mut publisher, &[publish(qos, 7, b"x")]);
            let told =
                if version == Version::V5 { vec![Got::Disconnect(ReasonCode::SESSION_TAKEN_OVER)] } else { vec![] };
            assert_eq!((publisher.got(), publisher.closed), (told, true), "not acknowledged");
            world.take(&mut subscriber);
            assert_eq!(subscriber.got(), [], "neither the message nor the will");
            assert_eq!(fenced(&mut world), 1);
        }
    });
}

#[test]
fn a_claim_that_nobody_can_answer_keeps_the_client_out() {
    on_every_ground(|| {
        let (mut world, scripts) = world(1);
        let mut first = hello(&mut world, Version::V5, "a");
        scripts.owners.next(OwnerTrouble::Unavailable);
        let mut second = hello(&mut world, Version::V5, "a");
        assert_eq!(second.got(), [Got::Connack(false, ReasonCode::SERVER_UNAVAILABLE)]);
        world.take(&mut first);
        assert!(!first.closed && second.closed, "who has it keeps it");
        scripts.owners.next(OwnerTrouble::Unknown(Duration::from_millis(100)));
        let before = world.now();
        let mut third = hello(&mut world, Version::V5, "a");
        assert_eq!(third.got(), [Got::Connack(true, ReasonCode::SUCCESS)]);
        assert_eq!(world.now().since(before), Duration::from_millis(100), "it was asked again");
        world.take(&mut first);
        assert!(first.closed);
    });
}

/// Two ClientIDs, the first of worker 0 and the second of worker 1 of two.
fn names() -> [String; 2] {
    [0, 1].map(|worker| (0..).map(|n| format!("c{n}")).find(|name| worker_of(name, 2).0 == worker).unwrap())
}

#[test]
fn news_that_come_late_come_in_order_and_once() {
    on_every_ground(|| {
        let (mut world, scripts) = world(2);
        let [here, there] = names();
        let mut subscriber = hello(&mut world, Version::V5, &there);
        subscribes(&mut world, &mut subscriber, "t");
        let mut publisher = hello(&mut world, Version::V5, &here);
        scripts.hearers.iter().for_each(|script| script.set(HearerTrouble::Slow));
        for id in 1..=3_u8 {
            world.send(&mut publisher, &[publish(QoS::AtLeastOnce, id.into(), &[id])]);
        }
        world.take(&mut subscriber);
        assert_eq!(subscriber.messages(), []);
        scripts.hearers.iter().for_each(|script| script.set(HearerTrouble::None));
        world.settle();
        world.take(&mut subscriber);
        let payloads: Vec<_> = subscriber.messages().into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(payloads, [[1], [2], [3]]);
    });
}

#[test]
fn what_was_acknowledged_and_never_told_is_still_owed() {
    on(Ground::Log, || {
        let (mut world, scripts) = world(2);
        let [here, there] = names();
        let mut subscriber = hello(&mut world, Version::V5, &there);
        subscribes(&mut world, &mut subscriber, "t");
        let mut publisher = hello(&mut world, Version::V5, &here);
        scripts.hearers.iter().for_each(|script| script.set(HearerTrouble::Unavailable));
        world.send(&mut publisher, &[publish(QoS::AtLeastOnce, 1, b"x")]);
        assert_eq!(publisher.got().last(), Some(&Got::Ack(4, 1, ReasonCode::SUCCESS)));
        world.take(&mut subscriber);
        assert_eq!(subscriber.messages(), []);
        // Telling is a hint, and the log is the truth.
        world.restart();
        let mut subscriber = hello(&mut world, Version::V5, &there);
        assert_eq!(subscriber.messages(), [("t".to_owned(), b"x".to_vec())]);
    });
}

#[test]
fn a_message_of_which_a_part_was_taken_is_neither_acknowledged_nor_delivered_until_it_comes_again() {
    on_every_ground(|| {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let (mut world, scripts) = world(1);
            let mut subscribers = ["a", "b"].map(|name| {
                let mut client = hello(&mut world, Version::V5, name);
                subscribes(&mut world, &mut client, "t");
                client
            });
            let mut publisher = hello(&mut world, Version::V5, "publisher");
            publisher.got();
            scripts.store.next(Some(Trouble::Torn));
            world.send(&mut publisher, &[publish(qos, 7, b"x")]);
            let kind = if qos == QoS::AtLeastOnce { 4 } else { 5 };
            assert_eq!(publisher.got(), [Got::Ack(kind, 7, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR)]);
            for subscriber in &mut subscribers {
                world.take(subscriber);
                assert_eq!(subscriber.messages(), []);
            }
            world.send(&mut publisher, &[publish(qos, 7, b"x")]);
            assert_eq!(publisher.got(), [Got::Ack(kind, 7, ReasonCode::SUCCESS)]);
            for subscriber in &mut subscribers {
                world.take(subscriber);
                assert_eq!(subscriber.messages(), [("t".to_owned(), b"x".to_vec())]);
            }
        }
    });
}

#[test]
fn the_part_that_was_taken_loses_nothing_in_a_restart() {
    on(Ground::Log, || {
        let (mut world, scripts) = world(1);
        for name in ["a", "b"] {
            let mut client = hello(&mut world, Version::V311, name);
            subscribes(&mut world, &mut client, "t");
            world.cut(&mut client);
        }
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        scripts.store.next(Some(Trouble::Torn));
        world.send(&mut publisher, &[publish(QoS::AtLeastOnce, 7, b"x")]);
        world.send(&mut publisher, &[publish(QoS::AtLeastOnce, 8, b"y")]);
        world.restart();
        for (name, right) in [("a", vec![b"x".to_vec(), b"y".to_vec()]), ("b", vec![b"y".to_vec()])] {
            let mut client = hello(&mut world, Version::V311, name);
            let payloads: Vec<_> = client.messages().into_iter().map(|(_, payload)| payload).collect();
            assert_eq!(payloads, right, "{name}: what was acknowledged, and of what was refused perhaps a part");
        }
    });
}
