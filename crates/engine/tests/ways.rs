//! Messages that come by two ways: asked for when they may be taken, counted when they were, and the second copy answered like
//! the first.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use viaduct_codec::{
    Ack, FilterRef, Message, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Time, TopicFilter,
    TopicRef, Unsubscribe, UserProperties, Version,
};
use viaduct_engine::{Authorizer, Dropped, Engine, Grant, Settings, Way, Who, WorkerId};
use viaduct_store::{FaultyStore, MemoryStore, Script, Trouble};
use viaduct_testkit::{Client, Got, Ground, World, connect, on, on_every_ground, subscribe};

/// Takes for a double what was taken with the same payload by either way.
#[derive(Debug, Default)]
struct Same {
    taken: Mutex<BTreeSet<Vec<u8>>>,
    last: Mutex<Vec<u8>>,
    asked: AtomicUsize,
    is_counted: AtomicBool,
    has_left: AtomicBool,
    filters: Mutex<BTreeSet<String>>,
}

impl Way for Same {
    fn is_counted(&self, _: Time) -> bool {
        self.is_counted.load(Ordering::Relaxed)
    }

    fn is_double(&self, _: Time, message: &Message, _: bool) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.last.lock().unwrap() = message.payload.to_vec();
        self.taken.lock().unwrap().contains(&message.payload[..])
    }

    fn no_leaf(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }

    fn asks(&self, filter: &TopicFilter, wanted: bool) {
        let mut asked = self.filters.lock().unwrap();
        _ = if wanted { asked.insert(filter.as_str().to_owned()) } else { asked.remove(filter.as_str()) };
    }

    fn took(&self, _: Time) {
        let last = std::mem::take(&mut *self.last.lock().unwrap());
        self.taken.lock().unwrap().insert(last);
    }
}

fn hello(world: &mut World, id: &str) -> Client {
    let mut client = world.connect(&Packet::Connect(Box::new(connect(Version::V5, id))));
    world.take(&mut client);
    assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
    client
}

/// A connection of another broker, whose session stays.
fn linked(world: &mut World, way: &Arc<Same>, id: &str, session_present: bool) -> Client {
    let mut greeting = connect(Version::V5, id);
    (greeting.clean_start, greeting.properties.session_expiry) = (false, Some(3600));
    world.next_way = Some(Arc::clone(way) as Arc<dyn Way>);
    let mut client = world.connect(&Packet::Connect(Box::new(greeting)));
    world.settle();
    world.take(&mut client);
    assert_eq!(client.got(), [Got::Connack(session_present, ReasonCode::SUCCESS)]);
    client
}

fn listener(world: &mut World) -> Client {
    let mut client = hello(world, "listener");
    world.send(&mut client, &[subscribe("t", QoS::AtMostOnce)]);
    client.got();
    client
}

fn publish(qos: QoS, id: u16, payload: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: true,
        topic: Some(TopicRef::new("t").unwrap()),
        packet_id: PacketId::new(id).filter(|_| qos > QoS::AtMostOnce),
        properties: PublishProperties::default(),
        payload,
    })
}

fn payloads(world: &mut World, client: &mut Client) -> Vec<Vec<u8>> {
    world.settle();
    world.take(client);
    client.messages().into_iter().map(|(_, payload)| payload).collect()
}

fn doubles(world: &mut World) -> u64 {
    let stats = world.engine(0).stats();
    stats.messages_dropped[Dropped::Double as usize].get()
}

fn counted() -> Arc<Same> {
    let same = Same::default();
    same.is_counted.store(true, Ordering::Relaxed);
    Arc::new(same)
}

#[test]
fn the_second_copy_is_answered_like_the_first_and_reaches_nobody() {
    on_every_ground(|| {
        for (qos, acknowledged) in [(QoS::AtMostOnce, None), (QoS::AtLeastOnce, Some(4)), (QoS::ExactlyOnce, Some(5))] {
            let mut world = World::new(1);
            let mut listener = listener(&mut world);
            let way = counted();
            let (mut one, mut other) =
                (linked(&mut world, &way, "one", false), linked(&mut world, &way, "other", false));
            for (link, id) in [(&mut one, 1), (&mut other, 7)] {
                world.send(link, &[publish(qos, id, b"x")]);
                world.settle();
                world.take(link);
                let answer = acknowledged.map(|kind| Got::Ack(kind, id, ReasonCode::SUCCESS));
                assert_eq!(link.got(), answer.into_iter().collect::<Vec<_>>(), "{qos:?}");
            }
            assert_eq!(payloads(&mut world, &mut listener), [b"x"], "{qos:?}");
            assert_eq!(doubles(&mut world), 1);
            assert_eq!(world.shared.retained().0, 1);
            if qos == QoS::ExactlyOnce {
                world.send(&mut other, &[Packet::Pubrel(Ack::new(PacketId::new(7).unwrap(), ReasonCode::SUCCESS))]);
                assert_eq!(other.got(), [Got::Ack(7, 7, ReasonCode::SUCCESS)]);
            }
        }
    });
}

#[test]
fn while_nothing_is_counted_nobody_is_asked() {
    let mut world = World::new(1);
    let mut listener = listener(&mut world);
    let way = Arc::new(Same::default());
    let mut link = linked(&mut world, &way, "link", false);
    for (is_counted, asked) in [(false, 0), (true, 1), (false, 0)] {
        way.is_counted.store(is_counted, Ordering::Relaxed);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            way.taken.lock().unwrap().clear();
            way.asked.store(0, Ordering::Relaxed);
            world.send(&mut link, &[publish(qos, 1, b"x")]);
            assert_eq!(way.asked.load(Ordering::Relaxed), asked, "{is_counted}");
        }
    }
    assert_eq!(payloads(&mut world, &mut listener).len(), 6);
}

/// Lets nobody publish but those whose ClientID is `other`.
struct OnlyOther;

impl Authorizer for OnlyOther {
    fn is_open(&self) -> bool {
        false
    }

    fn publish(&self, who: &Who<'_>, _: &str) -> bool {
        who.client_id == "other"
    }

    fn subscribe(&self, _: &Who<'_>, _: FilterRef<'_>) -> Grant {
        Grant::Granted
    }

    fn read(&self, _: &Who<'_>, _: &str) -> bool {
        true
    }
}

#[test]
fn a_message_that_may_not_be_published_makes_no_double_of_its_copy() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::with(1, Settings::default(), Box::new(OnlyOther));
        let mut listener = listener(&mut world);
        let way = counted();
        let (mut one, mut other) = (linked(&mut world, &way, "one", false), linked(&mut world, &way, "other", false));
        world.send(&mut one, &[publish(qos, 1, b"x")]);
        world.send(&mut other, &[publish(qos, 1, b"x")]);
        assert_eq!(payloads(&mut world, &mut listener), [b"x"], "{qos:?}");
        assert_eq!((doubles(&mut world), way.asked.load(Ordering::Relaxed)), (0, 1));
    }
}

#[test]
fn a_message_that_could_not_be_kept_makes_no_double_of_its_copy() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::new(1);
        let script = over_a_store_that_may_fail(&mut world);
        let mut listener = listener(&mut world);
        let way = counted();
        let (mut one, mut other) = (linked(&mut world, &way, "one", false), linked(&mut world, &way, "other", false));
        script.always(Some(Trouble::Full));
        world.send(&mut one, &[publish(qos, 1, b"x")]);
        assert!(matches!(one.got()[..], [Got::Ack(_, 1, ReasonCode::QUOTA_EXCEEDED)]), "{qos:?}");
        script.always(None);
        world.send(&mut other, &[publish(qos, 1, b"x")]);
        assert_eq!(payloads(&mut world, &mut listener), [b"x"], "{qos:?}");
        assert_eq!(doubles(&mut world), 0);
    }
}

fn over_a_store_that_may_fail(world: &mut World) -> Script {
    let (store, script) = FaultyStore::new(Box::<MemoryStore>::default());
    let (shared, now) = (Arc::clone(&world.shared), world.now());
    *world.engine(0) = Engine::new(WorkerId(0), shared, Arc::new(Settings::default()), Box::new(store), now);
    script
}

#[test]
fn the_identifier_of_a_double_is_known_after_a_crash() {
    on(Ground::Log, || {
        let mut world = World::new(1);
        let way = counted();
        let (mut one, mut other) = (linked(&mut world, &way, "one", false), linked(&mut world, &way, "other", false));
        world.send(&mut one, &[publish(QoS::ExactlyOnce, 1, b"x")]);
        world.send(&mut other, &[publish(QoS::ExactlyOnce, 7, b"x")]);
        world.settle();
        world.take(&mut other);
        assert_eq!(other.got(), [Got::Ack(5, 7, ReasonCode::SUCCESS)]);
        world.restart();
        let mut listener = listener(&mut world);
        listener.messages();
        // What was taken is forgotten by now; that this one was is not.
        let mut other = linked(&mut world, &counted(), "other", true);
        let Packet::Publish(again) = publish(QoS::ExactlyOnce, 7, b"x") else { return };
        world.send(&mut other, &[Packet::Publish(Publish { dup: true, ..again })]);
        world.settle();
        world.take(&mut other);
        assert_eq!(other.got(), [Got::Ack(5, 7, ReasonCode::SUCCESS)]);
        assert_eq!(payloads(&mut world, &mut listener), Vec::<Vec<u8>>::new());
    });
}

#[test]
fn a_leaf_that_is_none_any_more_says_so() {
    let mut world = World::new(1);
    let way = counted();
    let mut link = linked(&mut world, &way, "link", false);
    for (said, has_left) in [("1", false), ("0", true)] {
        let mut pairs = Vec::new();
        UserProperties::push(&mut pairs, viaduct_session::LEAF_PROPERTY, said);
        let packet_id = PacketId::new(3).unwrap();
        let user_properties = UserProperties::from_encoded(&pairs);
        let filters = vec![FilterRef::new("nothing").unwrap()];
        world.send(&mut link, &[Packet::Unsubscribe(Unsubscribe { packet_id, user_properties, filters })]);
        assert_eq!(link.got(), [Got::Unsuback(vec![ReasonCode::NO_SUBSCRIPTION_EXISTED])]);
        assert_eq!(way.has_left.load(Ordering::Relaxed), has_left);
    }
}

#[test]
fn a_way_is_told_what_its_other_end_is_subscribed_to_and_of_what_it_was_before() {
    let mut world = World::new(1);
    let asked = |way: &Same| way.filters.lock().unwrap().iter().cloned().collect::<Vec<_>>();
    let way = Arc::new(Same::default());
    let mut link = linked(&mut world, &way, "link", false);
    assert_eq!(asked(&way), [""; 0]);
    world.send(&mut link, &[subscribe("t", QoS::AtMostOnce), subscribe("a/#", QoS::AtMostOnce)]);
    assert_eq!(asked(&way), ["a/#", "t"]);
    let unsubscribe = Packet::Unsubscribe(Unsubscribe {
        packet_id: PacketId::new(9).unwrap(),
        filters: vec![FilterRef::new("t").unwrap(), FilterRef::new("never").unwrap()],
        user_properties: UserProperties::default(),
    });
    world.send(&mut link, &[unsubscribe]);
    assert_eq!(asked(&way), ["a/#"]);
    let again = Arc::new(Same::default());
    linked(&mut world, &again, "link", true);
    assert_eq!(asked(&again), ["a/#"], "of a session that goes on");
}
