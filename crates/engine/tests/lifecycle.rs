//! Sessions begin, resume, are taken over and end; wills go by the rules.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{Disconnect, Message, Packet, QoS, ReasonCode, TopicName, TopicRef, Version, Will, WillProperties};
use viaduct_engine::{AllowAll, OnDuplicate, Settings};
use viaduct_session::QueueLimits;
use viaduct_testkit::{Client, Got, World, connect, subscribe};

fn watcher(world: &mut World) -> Client {
    let mut client = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "watcher"))));
    world.send(&mut client, &[subscribe("will/#", QoS::AtMostOnce)]);
    client.got();
    client
}

fn with_will(version: Version, delay: Option<u32>, expiry: Option<u32>) -> viaduct_codec::Connect<'static> {
    let mut owner = connect(version, "owner");
    owner.properties.session_expiry = expiry;
    owner.will = Some(Will {
        topic: TopicRef::new("will/owner").unwrap(),
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties { delay, ..WillProperties::default() },
    });
    owner
}

fn wills(world: &mut World, watcher: &mut Client) -> usize {
    world.take(watcher);
    watcher.messages().len()
}

#[test]
fn a_will_is_published_when_the_socket_closes_and_not_after_a_disconnect() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(2);
        let mut watcher = watcher(&mut world);
        for version in [Version::V31, Version::V311, Version::V5] {
            let mut owner = world.connect(&Packet::Connect(Box::new(with_will(version, None, None))));
            world.cut(&mut owner);
            assert_eq!(wills(&mut world, &mut watcher), 1, "{version}");
            let mut owner = world.connect(&Packet::Connect(Box::new(with_will(version, None, None))));
            world.send(&mut owner, &[Packet::Disconnect(Disconnect::new(ReasonCode::SUCCESS))]);
            assert!(owner.closed);
            world.cut(&mut owner);
            assert_eq!(wills(&mut world, &mut watcher), 0, "{version}");
        }
        let mut owner = world.connect(&Packet::Connect(Box::new(with_will(Version::V5, None, None))));
        world.send(&mut owner, &[Packet::Disconnect(Disconnect::new(ReasonCode::DISCONNECT_WITH_WILL))]);
        assert_eq!(wills(&mut world, &mut watcher), 1);
    });
}

#[test]
fn a_delayed_will_waits_and_is_cancelled_when_its_owner_comes_back() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut watcher = watcher(&mut world);
        let owner = with_will(Version::V5, Some(30), Some(3_600));
        let mut connection = world.connect(&Packet::Connect(Box::new(owner.clone())));
        world.cut(&mut connection);
        world.pass(Duration::from_secs(29));
        assert_eq!(wills(&mut world, &mut watcher), 0);
        world.pass(Duration::from_secs(2));
        assert_eq!(wills(&mut world, &mut watcher), 1);

        let mut again = owner.clone();
        again.clean_start = false;
        let mut connection = world.connect(&Packet::Connect(Box::new(again.clone())));
        world.cut(&mut connection);
        world.pass(Duration::from_secs(10));
        let _connection = world.connect(&Packet::Connect(Box::new(again)));
        world.pass(Duration::from_secs(100));
        assert_eq!(wills(&mut world, &mut watcher), 0, "it came back in time");
    });
}

#[test]
fn a_will_delayed_beyond_the_session_goes_when_the_session_ends() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut watcher = watcher(&mut world);
        let mut owner = world.connect(&Packet::Connect(Box::new(with_will(Version::V5, Some(1_000), Some(2)))));
        world.cut(&mut owner);
        world.pass(Duration::from_secs(1));
        assert_eq!(wills(&mut world, &mut watcher), 0);
        world.pass(Duration::from_secs(2));
        assert_eq!(wills(&mut world, &mut watcher), 1);
        world.pass(Duration::from_secs(2_000));
        assert_eq!(wills(&mut world, &mut watcher), 0, "only once");
    });
}

#[test]
fn a_newcomer_takes_the_session_and_the_holder_is_told() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(2);
        let mut hello = connect(Version::V5, "a");
        hello.properties.session_expiry = Some(60);
        let mut first = world.connect(&Packet::Connect(Box::new(hello.clone())));
        world.take(&mut first);
        first.got();
        hello.clean_start = false;
        let mut second = world.connect(&Packet::Connect(Box::new(hello)));
        world.take(&mut first);
        assert_eq!(first.got(), [Got::Disconnect(ReasonCode::SESSION_TAKEN_OVER)]);
        assert!(first.closed);
        world.take(&mut second);
        assert_eq!(second.got(), [Got::Connack(true, ReasonCode::SUCCESS)]);
        world.cut(&mut first);
        world.send(&mut second, &[Packet::Pingreq]);
        assert_eq!(second.got(), [Got::Pingresp], "the end of the old connection changes nothing for the new one");
    });
}

#[test]
fn a_session_without_expiry_is_not_inherited_by_whoever_takes_over() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let _first = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "a"))));
        let mut hello = connect(Version::V5, "a");
        hello.clean_start = false;
        let mut second = world.connect(&Packet::Connect(Box::new(hello)));
        world.take(&mut second);
        assert_eq!(second.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
    });
}

#[test]
fn a_second_connection_is_refused_when_so_configured() {
    viaduct_testkit::on_every_ground(|| {
        let settings = Settings { on_duplicate: OnDuplicate::Reject, ..Settings::default() };
        let mut world = World::with(1, settings, Box::new(AllowAll));
        let mut first = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "a"))));
        let mut second = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "a"))));
        world.take(&mut second);
        assert_eq!(second.got(), [Got::Connack(false, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID)]);
        assert!(second.closed);
        first.got();
        world.send(&mut first, &[Packet::Pingreq]);
        assert!(first.got().contains(&Got::Pingresp));
    });
}

#[test]
fn a_takeover_storm_changes_hands_once_a_second() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let begin = world.now();
        for _ in 0..30 {
            let _client = world.connect(&Packet::Connect(Box::new(connect(Version::V311, "shared"))));
        }
        let elapsed = world.now().since(begin);
        assert!(elapsed >= Duration::from_secs(24), "{elapsed:?}");
        assert_eq!(world.engine(0).stats().takeover_storms.get(), 1);
        assert_eq!(world.engine(0).stats().sessions_connected.get(), 1);
    });
}

#[test]
fn keep_alive_is_one_and_a_half_intervals_and_every_packet_renews_it() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut hello = connect(Version::V5, "a");
        hello.keep_alive = 10;
        let mut client = world.connect(&Packet::Connect(Box::new(hello)));
        client.got();
        for _ in 0..3 {
            world.pass(Duration::from_secs(14));
            world.send(&mut client, &[Packet::Pingreq]);
            assert!(!client.closed);
        }
        client.got();
        world.pass(Duration::from_secs(14));
        world.take(&mut client);
        assert!(!client.closed);
        world.pass(Duration::from_secs(2));
        world.take(&mut client);
        assert_eq!(client.got(), [Got::Disconnect(ReasonCode::KEEP_ALIVE_TIMEOUT)]);
        assert!(client.closed);
    });
}

#[test]
fn sessions_expire_and_nothing_of_them_stays() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut hello = connect(Version::V5, "a");
        hello.properties.session_expiry = Some(5);
        let mut client = world.connect(&Packet::Connect(Box::new(hello.clone())));
        world.send(&mut client, &[subscribe("t", QoS::AtMostOnce)]);
        assert_eq!(world.shared.subscriptions(), 1);
        world.cut(&mut client);
        world.pass(Duration::from_secs(4));
        assert_eq!(world.shared.subscriptions(), 1);
        world.pass(Duration::from_secs(2));
        assert_eq!(world.shared.subscriptions(), 0);
        hello.clean_start = false;
        let mut client = world.connect(&Packet::Connect(Box::new(hello)));
        world.take(&mut client);
        assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
    });
}

#[test]
fn shutdown_tells_5_0_clients_and_closes_all() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut new = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "new"))));
        let mut old = world.connect(&Packet::Connect(Box::new(connect(Version::V311, "old"))));
        world.take(&mut new);
        world.take(&mut old);
        new.got();
        old.got();
        let now = world.now();
        world.engine(0).handle_shutdown(now);
        world.take(&mut new);
        world.take(&mut old);
        assert_eq!(new.got(), [Got::Disconnect(ReasonCode::SERVER_SHUTTING_DOWN)]);
        assert_eq!(old.got(), []);
        assert!(new.closed && old.closed);
    });
}

#[test]
fn reconnecting_for_ever_leaves_one_deadline_for_the_session() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut hello = connect(Version::V5, "a");
        hello.keep_alive = 60;
        hello.clean_start = false;
        hello.properties.session_expiry = Some(1_000_000);
        for _ in 0..20_000 {
            let mut client = world.connect(&Packet::Connect(Box::new(hello.clone())));
            world.cut(&mut client);
            world.pass(Duration::from_millis(10));
        }
        let shown = format!("{:?}", world.engine(0));
        let deadlines: usize =
            shown.split("deadlines: ").nth(1).unwrap().split([',', ' ']).next().unwrap().parse().unwrap();
        assert!(deadlines < 10, "{shown}");
    });
}

#[test]
fn a_will_is_heard_before_anybody_is_closed_at_the_end() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(2);
        let mut watcher = watcher(&mut world);
        let mut owner = world.connect(&Packet::Connect(Box::new(with_will(Version::V311, None, None))));
        world.last_words();
        for worker in 0..2 {
            let now = world.now();
            world.engine(worker).handle_shutdown(now);
        }
        world.take(&mut watcher);
        world.take(&mut owner);
        assert_eq!(watcher.messages(), [("will/owner".to_owned(), b"gone".to_vec())]);
        assert!(watcher.closed && owner.closed);
    });
}

#[test]
fn a_session_is_ended_at_the_operators_word_whether_its_client_is_there_or_not() {
    let mut world = World::new(1);
    let now = world.now();
    assert!(!world.engine(0).end_client(now, "nobody"));
    for is_there in [true, false] {
        let mut hello = connect(Version::V5, "one");
        hello.properties.session_expiry = Some(u32::MAX);
        hello.clean_start = false;
        let mut client = world.connect(&Packet::Connect(Box::new(hello)));
        world.take(&mut client);
        let nothing_left = Got::Connack(false, ReasonCode::SUCCESS);
        assert_eq!(client.got(), [nothing_left], "of the session before");
        if !is_there {
            world.cut(&mut client);
        }
        assert!(world.engine(0).client("one").is_some());
        assert!(world.engine(0).end_client(now, "one"));
        world.take(&mut client);
        assert!(world.engine(0).client("one").is_none());
        assert!(client.closed || !is_there, "its client is told");
    }
}

#[test]
fn what_waits_for_an_absent_session_is_held_to_the_limits_that_it_is_given() {
    let mut world = World::new(1);
    let mut hello = connect(Version::V5, "away");
    hello.properties.session_expiry = Some(u32::MAX);
    let mut away = world.connect(&Packet::Connect(Box::new(hello)));
    world.send(&mut away, &[subscribe("t", QoS::AtLeastOnce)]);
    world.cut(&mut away);
    let limits = QueueLimits { max_messages: 3, ..QueueLimits::default() };
    world.engine(0).limit_queue("away", Arc::new(limits.clone()));
    world.engine(0).limit_queue("nobody", Arc::new(limits));
    let now = world.now();
    for _ in 0..5 {
        let message = Message {
            topic: TopicName::new("t").unwrap(),
            payload: b"x".to_vec().into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            received: now,
            expires: None,
            properties: None,
        };
        world.engine(0).publish(now, message);
    }
    let view = world.engine(0).client("away").unwrap();
    assert_eq!((view.queued_messages, view.dropped), (3, 2));
}
