//! A store that fails for a while: what it could not take is acknowledged to nobody and reaches nobody.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use viaduct_codec::{
    Backlog, FilterRef, Message, Packet, PacketId, Place, Publish, PublishProperties, QoS, ReasonCode, SessionId, Stub,
    Subscribe, SubscribeEntry, SubscribeOptions, Time, TopicRef, UserProperties, Version,
};
use viaduct_engine::{Engine, Settings, WorkerId};
use viaduct_store::{
    Accepted, Appended, Health, Key, Loaded, MemoryStore, Owed, Record, Store, StoreError, Stored, Ticket,
};
use viaduct_testkit::{Client, Got, World, connect};

/// A store that takes no message while `broken` is set.
#[derive(Debug, Default)]
struct Fragile {
    broken: Arc<AtomicBool>,
    whole: MemoryStore,
}

impl Store for Fragile {
    fn append(
        &mut self,
        now: Time,
        message: &Arc<Message>,
        owed: Vec<Owed>,
        from: Option<(SessionId, PacketId)>,
        publisher: u64,
    ) -> Result<Appended, StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the disk does not answer".to_owned()));
        }
        self.whole.append(now, message, owed, from, publisher)
    }

    fn sent(&mut self, now: Time, place: &Place, packet_id: PacketId) -> Result<Accepted, StoreError> {
        self.whole.sent(now, place, packet_id)
    }

    fn received(&mut self, now: Time, place: &Place) -> Result<Accepted, StoreError> {
        self.whole.received(now, place)
    }

    fn released(&mut self, now: Time, session: SessionId, packet_id: PacketId) -> Result<Accepted, StoreError> {
        self.whole.released(now, session, packet_id)
    }

    fn put(&mut self, now: Time, record: Record) -> Result<Accepted, StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the disk does not answer".to_owned()));
        }
        self.whole.put(now, record)
    }

    fn delete(&mut self, now: Time, key: &Key) -> Result<Accepted, StoreError> {
        self.whole.delete(now, key)
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.whole.load()
    }

    fn read(&mut self, stubs: &[Stub]) -> Vec<Result<Stored, StoreError>> {
        self.whole.read(stubs)
    }

    fn backlog(&self) -> Backlog {
        self.whole.backlog()
    }

    fn handle_timeout(&mut self, now: Time) {
        self.whole.handle_timeout(now);
    }

    fn next_timeout(&self) -> Option<Time> {
        self.whole.next_timeout()
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        self.whole.poll_committed()
    }

    fn poll_released(&mut self) -> Vec<u64> {
        self.whole.poll_released()
    }

    fn state(&self) -> Health {
        if self.broken.load(Ordering::Relaxed) {
            return Health::Failing("the disk does not answer".into());
        }
        self.whole.state()
    }

    fn is_congested(&self) -> bool {
        self.whole.is_congested()
    }
}

/// One worker over such a store, and the switch that breaks it.
fn world() -> (World, Arc<AtomicBool>) {
    let mut world = World::new(1);
    let store = Box::<Fragile>::default();
    let broken = Arc::clone(&store.broken);
    let (shared, now) = (Arc::clone(&world.shared), world.now());
    *world.engine(0) = Engine::new(WorkerId(0), shared, Arc::new(Settings::default()), store, now);
    (world, broken)
}

fn hello(world: &mut World, version: Version, id: &str) -> Client {
    let mut client = world.connect(&Packet::Connect(Box::new(connect(version, id))));
    world.take(&mut client);
    assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
    client
}

fn subscriber(world: &mut World) -> Client {
    let mut client = hello(world, Version::V311, "subscriber");
    let subscribe = Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_id: None,
        user_properties: UserProperties::default(),
        entries: vec![SubscribeEntry {
            filter: FilterRef::new("t").unwrap(),
            options: SubscribeOptions { qos: QoS::AtMostOnce, ..SubscribeOptions::default() },
        }],
    };
    world.send(&mut client, &[Packet::Subscribe(subscribe)]);
    assert_eq!(client.got(), [Got::Suback(vec![ReasonCode::GRANTED_QOS_0])]);
    client
}

fn publish(qos: QoS) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: true,
        topic: Some(TopicRef::new("t").unwrap()),
        packet_id: PacketId::new(7),
        properties: PublishProperties::default(),
        payload: b"x",
    })
}

/// Proves: v4:4.8.0-2, trap:12
#[test]
fn a_3_x_client_whose_message_can_not_be_kept_is_closed_without_an_acknowledgement() {
    for version in [Version::V31, Version::V311] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let (mut world, broken) = world();
            let mut subscriber = subscriber(&mut world);
            let mut publisher = hello(&mut world, version, "publisher");
            broken.store(true, Ordering::Relaxed);
            world.send(&mut publisher, &[publish(qos)]);
            assert_eq!((publisher.got(), publisher.closed), (vec![], true), "{version} {qos:?}");
            // Nobody else notices: it did not get through, it is not retained, the other connection stays.
            world.send(&mut subscriber, &[Packet::Pingreq]);
            assert_eq!((subscriber.got(), subscriber.closed), (vec![Got::Pingresp], false));
            assert_eq!(world.shared.retained().0, 0);
            // The client still has the message, and when it sends it again it arrives.
            broken.store(false, Ordering::Relaxed);
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
        let (mut world, broken) = world();
        let mut subscriber = subscriber(&mut world);
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        broken.store(true, Ordering::Relaxed);
        world.send(&mut publisher, &[publish(qos)]);
        let refused = Got::Ack(acknowledged, 7, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR);
        assert_eq!((publisher.got(), publisher.closed), (vec![refused], false));
        world.take(&mut subscriber);
        assert_eq!(subscriber.got(), []);
    }
}
