//! A store that fails for a while: what it could not take is acknowledged to nobody and reaches nobody.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{
    Disconnect, Message, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Time, TopicName, TopicRef,
    Version, Will, WillProperties,
};
use viaduct_engine::{Engine, Settings, WorkerId};
use viaduct_session::QueueLimits;
use viaduct_store::log::{FaultyFiles, Log, Options};
use viaduct_store::{FaultyStore, MemoryStore, Script, Store, Trouble};
use viaduct_testkit::{Client, Got, World, connect, open_log, subscribe};

/// One worker over a store that does what the script says.
fn world() -> (World, Script) {
    let mut world = World::new(1);
    let (store, script) = FaultyStore::new(Box::<MemoryStore>::default());
    replace_store(&mut world, Box::new(store));
    (world, script)
}

fn replace_store(world: &mut World, store: Box<dyn Store>) {
    let (shared, now) = (Arc::clone(&world.shared), world.now());
    *world.engine(0) = Engine::new(WorkerId(0), shared, Arc::new(Settings::default()), store, now);
}

/// One worker over the log in `files`.
fn world_over(files: &FaultyFiles) -> (World, Log) {
    let mut world = World::new(1);
    let (log, door) = open_log(files);
    replace_store(&mut world, Box::new(door));
    (world, log)
}

/// A CONNECT of 3.1.1 whose session stays.
fn keeps() -> Packet<'static> {
    let mut keeps = connect(Version::V311, "keeps");
    keeps.clean_start = false;
    Packet::Connect(Box::new(keeps))
}

/// Whose session stays, subscribed to `t` at QoS 1.
fn keeping_subscriber(world: &mut World) -> Client {
    let mut client = world.connect(&keeps());
    world.send(&mut client, &[subscribe("t", QoS::AtLeastOnce)]);
    wait_for(world, &mut client, 2);
    client
}

fn hello(world: &mut World, version: Version, id: &str) -> Client {
    let mut client = world.connect(&Packet::Connect(Box::new(connect(version, id))));
    world.take(&mut client);
    assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
    client
}

fn subscriber(world: &mut World) -> Client {
    let mut client = hello(world, Version::V311, "subscriber");
    world.send(&mut client, &[subscribe("t", QoS::AtMostOnce)]);
    assert_eq!(client.got(), [Got::Suback(vec![ReasonCode::GRANTED_QOS_0])]);
    client
}

fn publish(qos: QoS) -> Packet<'static> {
    Packet::Publish(Publish { retain: true, ..publication(qos, 7, b"x") })
}

fn publication(qos: QoS, id: u16, payload: &[u8]) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(TopicRef::new("t").unwrap()),
        packet_id: PacketId::new(id),
        properties: PublishProperties::default(),
        payload,
    }
}

/// Proves: v4:4.8.0-2, trap:12
#[test]
fn a_3_x_client_whose_message_can_not_be_kept_is_closed_without_an_acknowledgement() {
    for version in [Version::V31, Version::V311] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let (mut world, script) = world();
            let mut subscriber = subscriber(&mut world);
            let mut publisher = hello(&mut world, version, "publisher");
            script.always(Some(Trouble::Unavailable));
            world.send(&mut publisher, &[publish(qos)]);
            assert_eq!((publisher.got(), publisher.closed), (vec![], true), "{version} {qos:?}");
            // Nobody else notices: it did not get through, it is not retained, the other connection stays.
            world.send(&mut subscriber, &[Packet::Pingreq]);
            assert_eq!((subscriber.got(), subscriber.closed), (vec![Got::Pingresp], false));
            assert_eq!(world.shared.retained().0, 0);
            // The client still has the message, and when it sends it again it arrives.
            script.always(None);
            let mut publisher = hello(&mut world, version, "publisher");
            world.send(&mut publisher, &[publish(qos)]);
            let acknowledged = if qos == QoS::AtLeastOnce { 4 } else { 5 };
            assert_eq!(publisher.got(), [Got::Ack(acknowledged, 7, ReasonCode::SUCCESS)]);
            world.take(&mut subscriber);
            assert_eq!(subscriber.messages(), [("t".to_owned(), b"x".to_vec())]);
        }
    }
}

/// Proves: trap:12
#[test]
fn a_5_0_client_whose_message_can_not_be_kept_is_told_so() {
    for (qos, acknowledged) in [(QoS::AtLeastOnce, 4), (QoS::ExactlyOnce, 5)] {
        let (mut world, script) = world();
        let mut subscriber = subscriber(&mut world);
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        script.always(Some(Trouble::Unavailable));
        world.send(&mut publisher, &[publish(qos)]);
        let refused = Got::Ack(acknowledged, 7, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR);
        assert_eq!((publisher.got(), publisher.closed), (vec![refused], false));
        world.take(&mut subscriber);
        assert_eq!(subscriber.got(), []);
    }
}

#[test]
fn a_retained_change_that_finds_no_room_is_no_change() {
    let (mut world, script) = world();
    let mut publisher = hello(&mut world, Version::V5, "publisher");
    let change = |payload| match publish(QoS::AtLeastOnce) {
        Packet::Publish(publish) => Packet::Publish(Publish { payload, ..publish }),
        other => other,
    };
    world.send(&mut publisher, &[change(b"kept")]);
    let kept = |world: &mut World, id| {
        let mut late = hello(world, Version::V5, id);
        world.send(&mut late, &[subscribe("t", QoS::AtMostOnce)]);
        world.take(&mut late);
        late.messages()
    };
    script.always(Some(Trouble::Full));
    for payload in [&b"refused"[..], b""] {
        publisher.got();
        world.send(&mut publisher, &[change(payload)]);
        assert_eq!(publisher.got(), [Got::Ack(4, 7, ReasonCode::QUOTA_EXCEEDED)]);
        assert_eq!(world.shared.retained().0, 1);
        assert_eq!(kept(&mut world, "late"), [("t".to_owned(), b"kept".to_vec())]);
    }
    script.always(None);
    publisher.got();
    world.send(&mut publisher, &[change(b"taken")]);
    assert_eq!(kept(&mut world, "late"), [("t".to_owned(), b"taken".to_vec())]);
}

/// Lets the thread of the log and the engine work until `client` has got `count` packets more; they are returned.
fn wait_for(world: &mut World, client: &mut Client, count: usize) -> Vec<Got> {
    let mut got = Vec::new();
    let all = world.wait_for(|world| {
        world.take(client);
        got.extend(client.got());
        (got.len() >= count).then_some(())
    });
    assert!(all.is_some(), "{} of {count} packets came", got.len());
    got
}

/// More than is kept in memory at the ends of a queue.
const MANY: u16 = 400;

fn numbered(number: u16, payload: &str) -> Packet<'_> {
    Packet::Publish(publication(QoS::AtLeastOnce, number, payload.as_bytes()))
}

#[test]
fn what_can_not_be_read_for_a_while_is_neither_lost_nor_overtaken() {
    let mut world = World::new(1);
    let (log, door) = open_log(&FaultyFiles::default());
    let (store, script) = FaultyStore::new(Box::new(door));
    replace_store(&mut world, Box::new(store));
    let mut subscriber = keeping_subscriber(&mut world);
    world.cut(&mut subscriber);
    let mut publisher = hello(&mut world, Version::V311, "publisher");
    for number in 1..=MANY {
        let payload = number.to_string();
        world.send(&mut publisher, &[numbered(number, &payload)]);
        // Each in its time, so that what came before it is written by then.
        assert_eq!(wait_for(&mut world, &mut publisher, 1), [Got::Ack(4, number, ReasonCode::SUCCESS)]);
    }
    script.always(Some(Trouble::Unreadable));
    let mut subscriber = world.connect(&keeps());
    let mut payloads: Vec<u16> = Vec::new();
    let mut is_readable = false;
    let all = world.wait_for(|world| {
        // What can't be read is tried again after a while.
        world.pass(Duration::from_millis(500));
        world.take(&mut subscriber);
        let mut acks = Vec::new();
        for got in subscriber.got() {
            if let Got::Publish { payload, id: Some(id), .. } = got {
                payloads.push(std::str::from_utf8(&payload).unwrap().parse().unwrap());
                acks.push(Client::puback(id));
            }
        }
        if acks.is_empty() && !payloads.is_empty() && !is_readable {
            // Everything that is in memory before it came; nothing that stands behind what can't be read did.
            assert!(payloads.len() < usize::from(MANY) / 2, "{} messages came", payloads.len());
            script.always(None);
            is_readable = true;
        }
        world.send(&mut subscriber, &acks);
        (payloads.len() >= usize::from(MANY)).then_some(())
    });
    assert!(all.is_some(), "{} messages came", payloads.len());
    assert!(is_readable, "something had to be read");
    assert_eq!(payloads, (1..=MANY).collect::<Vec<_>>());
    log.close();
}

#[test]
fn a_session_that_was_restored_is_held_to_the_settings_until_its_client_comes_back() {
    let files = FaultyFiles::default();
    let (mut world, log) = world_over(&files);
    keeping_subscriber(&mut world);
    drop(log);
    for limit in [3, 15_000] {
        let queued = |max_messages| Arc::new(QueueLimits { max_messages, ..QueueLimits::default() });
        let settings = |max_messages| Arc::new(Settings { queue: queued(max_messages), ..Settings::default() });
        let mut world = World::new(1);
        let (_log, door) = open_log(&files.after_kill());
        let (shared, now) = (Arc::clone(&world.shared), world.now());
        *world.engine(0) = Engine::new(WorkerId(0), shared, settings(limit), Box::new(door), now);
        let publish = |world: &mut World, count| {
            let topic = TopicName::new("t").unwrap();
            let payload = b"x".to_vec().into();
            let message = Message {
                topic,
                payload,
                qos: QoS::AtLeastOnce,
                retain: false,
                received: now,
                expires: None,
                properties: None,
            };
            (0..count).for_each(|_| world.engine(0).publish(now, message.clone()));
            let view = world.engine(0).client("keeps").unwrap();
            (view.queued_messages, view.dropped)
        };
        assert_eq!(publish(&mut world, limit + 2), (limit, 2));
        // Other settings hold for who is not there as well.
        world.engine(0).handle_settings(settings(limit + 1));
        assert_eq!(publish(&mut world, 2), (limit + 1, 3));
    }
}

#[test]
fn a_clock_that_went_back_gives_a_session_no_more_time_than_it_asked_for() {
    let files = FaultyFiles::default();
    let (mut world, log) = world_over(&files);
    let mut keeps = connect(Version::V5, "keeps");
    (keeps.clean_start, keeps.properties.session_expiry) = (false, Some(3_600));
    let mut client = world.connect(&Packet::Connect(Box::new(keeps)));
    wait_for(&mut world, &mut client, 1);
    world.cut(&mut client);
    let mut other = hello(&mut world, Version::V311, "other");
    // Behind the record of the disconnection.
    world.send(&mut other, &[publish(QoS::AtLeastOnce)]);
    wait_for(&mut world, &mut other, 1);
    let files = files.after_kill();
    drop(log);
    let mut world = World::new(1);
    let now = Time::from_millis(1_000_000);
    assert!(now < world.now());
    let (shared, (_log, door)) = (Arc::clone(&world.shared), open_log(&files));
    *world.engine(0) = Engine::new(WorkerId(0), shared, Arc::new(Settings::default()), Box::new(door), now);
    assert!(world.engine(0).client("keeps").is_some());
    world.engine(0).handle_timeout(now.after_secs(3_601));
    assert!(world.engine(0).client("keeps").is_none(), "its time is over");
}

#[test]
fn only_a_message_whose_hearers_are_all_connected_waits_before_it_is_written() {
    const DELAY: Duration = Duration::from_secs(1);
    for publisher in ["publisher", "elsewhere-2", "elsewhere-3", "elsewhere-4"] {
        let mut world = World::new(2);
        let mut options = Options::new(2, Arc::new(|_| 0), 7);
        options.commit_delay = DELAY;
        let opened = Log::open(&options, Arc::new(FaultyFiles::default()), Arc::new(|_| {})).unwrap();
        let (shared, now) = (Arc::clone(&world.shared), world.now());
        let _writes: Log = opened.log;
        for (number, door) in opened.doors.into_iter().enumerate() {
            let settings = Arc::new(Settings::default());
            let worker = WorkerId(u16::try_from(number).unwrap());
            *world.engine(number) = Engine::new(worker, Arc::clone(&shared), settings, Box::new(door), now);
        }
        let mut subscriber = keeping_subscriber(&mut world);
        let mut publisher = hello(&mut world, Version::V311, publisher);
        let message = |payload| {
            Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: Some(TopicRef::new("t").unwrap()),
                packet_id: PacketId::new(7),
                properties: PublishProperties::default(),
                payload,
            })
        };
        world.send(&mut publisher, &[message(b"waits")]);
        assert_eq!(world.next_timeout(), Some(world.now().after(DELAY)));
        world.pass(DELAY);
        wait_for(&mut world, &mut publisher, 1);
        world.cut(&mut subscriber);
        world.pass(DELAY);
        world.send(&mut publisher, &[message(b"does not")]);
        assert_eq!(world.next_timeout(), Some(world.now()));
    }
}

#[test]
fn a_will_does_not_overtake_one_that_waits_for_the_store() {
    let (mut world, log) = world_over(&FaultyFiles::default());
    let mut subscriber = keeping_subscriber(&mut world);
    let connects = |world: &mut World, payload: &'static [u8], qos| {
        let mut dying = connect(Version::V311, "dies");
        dying.clean_start = false;
        let topic = TopicRef::new("t").unwrap();
        dying.will = Some(Will { topic, payload, qos, retain: false, properties: WillProperties::default() });
        world.connect(&Packet::Connect(Box::new(dying)))
    };
    connects(&mut world, b"1", QoS::ExactlyOnce);
    // Each takes the session over from the one before, whose will is due at once.
    connects(&mut world, b"2", QoS::AtLeastOnce);
    let mut last = connects(&mut world, b"3", QoS::AtMostOnce);
    world.cut(&mut last);
    let heard = wait_for(&mut world, &mut subscriber, 3);
    let payloads: Vec<_> = heard
        .into_iter()
        .filter_map(|got| if let Got::Publish { payload, .. } = got { Some(payload) } else { None })
        .collect();
    assert_eq!(payloads, [b"1", b"2", b"3"]);
    log.close();
}

#[test]
fn a_client_is_told_that_its_session_is_gone_when_a_crash_can_not_bring_it_back() {
    // A session that stays, in 3.1.1 and 5.0, and one of which a will is kept alone.
    let keeps = |version| {
        let mut keeps = connect(version, "same");
        keeps.clean_start = false;
        keeps.properties.session_expiry = (version == Version::V5).then_some(3_600);
        keeps
    };
    let mut dies = connect(Version::V311, "same");
    let topic = TopicRef::new("t").unwrap();
    let properties = WillProperties::default();
    dies.will = Some(Will { topic, payload: b"will", qos: QoS::ExactlyOnce, retain: false, properties });
    let reason = ReasonCode::NORMAL_DISCONNECTION;
    let says_goodbye = Packet::Disconnect(Disconnect { session_expiry: Some(0), ..Disconnect::new(reason) });
    // By Clean Start with and without a connection, by DISCONNECT, and by the end of its connection.
    for (before, ends, clean_start) in [
        (keeps(Version::V311), None, true),
        (keeps(Version::V5), None, true),
        (keeps(Version::V311), Some(Packet::Pingreq), true),
        (keeps(Version::V5), Some(says_goodbye.clone()), false),
        (dies, Some(says_goodbye), false),
    ] {
        let (mut world, script) = world();
        let mut client = world.connect(&Packet::Connect(Box::new(before)));
        world.take(&mut client);
        assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
        script.always(Some(Trouble::Slow));
        if let Some(last) = ends {
            world.send(&mut client, &[last]);
            world.cut(&mut client);
        }
        let mut next = connect(Version::V5, "same");
        next.clean_start = clean_start;
        let next = Packet::Connect(Box::new(next));
        let mut client = world.connect(&next);
        world.take(&mut client);
        assert_eq!(client.got(), []);
        hello(&mut world, Version::V311, "other");
        let now = world.now();
        script.catch_up();
        world.engine(0).handle_committed(now);
        world.take(&mut client);
        assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
        // Nothing is left of that to wait for.
        world.cut(&mut client);
        hello(&mut world, Version::V311, "same");
    }
}

#[test]
fn what_an_absent_client_is_owed_and_nobody_has_written_yet_comes_when_it_is_back() {
    let mut world = World::new(1);
    let options = Options::new(1, Arc::new(|_| 0), 7);
    let files = FaultyFiles::default();
    let opened = Log::open_stepped(&options, Arc::new(files.clone())).unwrap();
    replace_store(&mut world, Box::new(opened.doors.into_iter().next().unwrap()));
    let turn = |world: &mut World| {
        world.pass(Duration::from_millis(10));
        opened.log.step();
        let now = world.now();
        world.engine(0).handle_committed(now);
    };
    let mut keeps = connect(Version::V311, "keeps");
    keeps.clean_start = false;
    let mut subscriber = world.connect(&Packet::Connect(Box::new(keeps.clone())));
    turn(&mut world);
    world.send(&mut subscriber, &[subscribe("t", QoS::AtLeastOnce)]);
    turn(&mut world);
    world.cut(&mut subscriber);
    turn(&mut world);
    let before = files.changes();
    let mut publishers = Vec::new();
    for first in (1..=MANY).step_by(10) {
        let mut publisher = hello(&mut world, Version::V5, &format!("publisher-{first}"));
        let payloads: Vec<String> = (first..first + 10).map(|number| number.to_string()).collect();
        let packets: Vec<_> = (first..).zip(&payloads).map(|(number, payload)| numbered(number, payload)).collect();
        publisher.got();
        world.send(&mut publisher, &packets);
        assert_eq!(publisher.got(), [], "nothing is safe");
        publishers.push(publisher);
    }
    let mut subscriber = world.connect(&Packet::Connect(Box::new(keeps)));
    assert_eq!(files.changes(), before, "nothing was written until it was back");
    let mut payloads: Vec<u16> = Vec::new();
    for _ in 0..MANY {
        turn(&mut world);
        world.take(&mut subscriber);
        let mut acks = Vec::new();
        for got in subscriber.got() {
            if let Got::Publish { payload, id: Some(id), .. } = got {
                payloads.push(std::str::from_utf8(&payload).unwrap().parse().unwrap());
                acks.push(Client::puback(id));
            }
        }
        world.send(&mut subscriber, &acks);
    }
    assert_eq!(payloads, (1..=MANY).collect::<Vec<_>>());
    for mut publisher in publishers {
        world.take(&mut publisher);
        assert_eq!(publisher.got().len(), 10, "each is acknowledged once it is safe");
    }
}

#[test]
fn a_run_that_does_not_fit_whole_into_the_queue_of_an_absent_client_is_taken_as_far_as_it_does() {
    const LIMIT: usize = 155;
    let (mut world, log) = world_over(&FaultyFiles::default());
    let mut subscriber = keeping_subscriber(&mut world);
    world.cut(&mut subscriber);
    let queue = Arc::new(QueueLimits { max_messages: LIMIT, ..QueueLimits::default() });
    world.engine(0).handle_settings(Arc::new(Settings { queue, ..Settings::default() }));
    for first in (1..200).step_by(10) {
        let mut publisher = hello(&mut world, Version::V311, &format!("publisher-{first}"));
        let payloads: Vec<String> = (first..first + 10).map(|number| number.to_string()).collect();
        let packets: Vec<_> = (first..).zip(&payloads).map(|(number, payload)| numbered(number, payload)).collect();
        world.send(&mut publisher, &packets);
        wait_for(&mut world, &mut publisher, 10);
        let view = world.engine(0).client("keeps").unwrap();
        let said = usize::from(first) + 9;
        assert_eq!((view.queued_messages, view.dropped), (said.min(LIMIT), said.saturating_sub(LIMIT) as u64));
    }
    let stats = world.engine(0).stats();
    assert_eq!(stats.queued_messages.get(), LIMIT as u64);
    let mut subscriber = world.connect(&keeps());
    let mut numbers = Vec::new();
    while numbers.len() < LIMIT {
        let mut acks = Vec::new();
        for got in wait_for(&mut world, &mut subscriber, 1) {
            if let Got::Publish { payload, id: Some(id), .. } = got {
                numbers.push(std::str::from_utf8(&payload).unwrap().parse::<usize>().unwrap());
                acks.push(Client::puback(id));
            }
        }
        world.send(&mut subscriber, &acks);
    }
    assert_eq!(numbers, (1..=LIMIT).collect::<Vec<_>>());
    let stats = world.engine(0).stats();
    assert_eq!((stats.queued_messages.get(), stats.queued_bytes.get()), (0, 0));
    log.close();
}
