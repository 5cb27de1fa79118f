//! Retained messages that a subscription asked for come as the session takes them, whatever happens on the way.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{
    FilterRef, Packet, PacketId, Publish, PublishProperties, QoS, TopicRef, Unsubscribe, UserProperties, Version,
};
use viaduct_engine::{AllowAll, ConnectionId, Settings};
use viaduct_session::server::Terms;
use viaduct_testkit::{Client, Got, World, connect, subscribe};

/// More than a window, a queue and a chunk hold together.
const RETAINED: usize = 400;

fn world_of_retained() -> World {
    let mut world = World::new(1);
    let mut publisher = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "publisher"))));
    for n in 0..RETAINED {
        let topic = format!("a/{n}");
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: Some(TopicRef::new(&topic).unwrap()),
            packet_id: PacketId::new(1),
            properties: PublishProperties::default(),
            payload: b"x",
        };
        world.send(&mut publisher, &[Packet::Publish(publish)]);
    }
    world
}

fn subscriber(world: &mut World) -> Client {
    let hello = viaduct_codec::Connect { clean_start: false, ..connect(Version::V311, "subscriber") };
    let mut client = world.connect(&Packet::Connect(Box::new(hello)));
    world.take(&mut client);
    client
}

/// Acknowledges whatever comes until nothing does; the topics.
fn take_all(world: &mut World, client: &mut Client) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    loop {
        let mut acks = Vec::new();
        for got in client.got() {
            if let Got::Publish { topic, id: Some(id), .. } = got {
                topics.insert(topic);
                acks.push(Client::puback(id));
            }
        }
        if acks.is_empty() {
            return topics;
        }
        world.send(client, &acks);
    }
}

#[test]
fn what_a_connection_did_not_take_comes_on_the_next() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = world_of_retained();
        let mut client = subscriber(&mut world);
        world.send(&mut client, &[subscribe("a/+", QoS::AtLeastOnce)]);
        world.cut(&mut client);
        let mut client = subscriber(&mut world);
        assert_eq!(take_all(&mut world, &mut client).len(), RETAINED);
    });
}

#[test]
fn nothing_more_is_looked_for_once_the_subscription_is_gone() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = world_of_retained();
        let mut client = subscriber(&mut world);
        world.send(&mut client, &[subscribe("a/+", QoS::AtLeastOnce)]);
        let user_properties = UserProperties::default();
        let filters = vec![FilterRef::new("a/+").unwrap()];
        let unsubscribe = Unsubscribe { packet_id: PacketId::new(2).unwrap(), user_properties, filters };
        world.send(&mut client, &[Packet::Unsubscribe(unsubscribe)]);
        // What was queued by then may still come (MQTT-3.10.4-2 forbids new ones).
        let came = take_all(&mut world, &mut client).len();
        assert!(came < RETAINED / 2, "{came}");
    });
}

#[test]
fn a_short_queue_loses_none_of_them() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = world_of_retained();
        let mut terms = Terms::default();
        Arc::make_mut(&mut terms.queue).max_messages = 5;
        world.terms = Arc::new(terms);
        let mut client = subscriber(&mut world);
        world.send(&mut client, &[subscribe("a/+", QoS::AtLeastOnce)]);
        assert_eq!(take_all(&mut world, &mut client).len(), RETAINED);
    });
}

#[test]
fn a_client_over_its_message_rate_is_not_read_until_it_may_send_again() {
    viaduct_testkit::on_every_ground(|| {
        let settings = Settings { message_rate: Some(3), ..Settings::default() };
        let mut world = World::with(1, settings, Box::new(AllowAll));
        world.connect(&Packet::Connect(Box::new(connect(Version::V311, "a"))));
        let first = ConnectionId(1);
        let mut bytes = Vec::new();
        Packet::Publish(publish()).encode(Version::V311, &mut bytes).unwrap();
        let now = world.now();
        let until = world.engine(0).handle_bytes(now, first, &bytes).pause_until.unwrap();
        assert!(until > now);
        assert_eq!(world.engine(0).handle_bytes(until, first, &[]).pause_until, None, "the pause was long enough");
    });
}

#[test]
fn the_silence_of_a_client_that_is_not_read_is_not_its_own() {
    viaduct_testkit::on_every_ground(|| {
        let settings = Settings { message_rate: Some(1), ..Settings::default() };
        let mut world = World::with(1, settings, Box::new(AllowAll));
        let mut hello = connect(Version::V5, "a");
        hello.keep_alive = 2;
        let mut client = world.connect(&Packet::Connect(Box::new(hello)));
        let mut bytes = Vec::new();
        for _ in 0..60 {
            Packet::Publish(publish()).encode(Version::V5, &mut bytes).unwrap();
        }
        let now = world.now();
        let until = world.engine(0).handle_bytes(now, ConnectionId(1), &bytes).pause_until.unwrap();
        assert!(until >= now.after(Duration::from_secs(59)), "{until:?}");
        world.pass(until.since(now) + Duration::from_secs(2));
        world.take(&mut client);
        assert!(!client.closed, "it may have sent any number of PINGREQ");
        world.pass(Duration::from_secs(2));
        world.take(&mut client);
        assert!(client.closed, "from there on it is its own again");
    });
}

fn publish() -> Publish<'static> {
    Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: Some(TopicRef::new("t").unwrap()),
        packet_id: None,
        properties: PublishProperties::default(),
        payload: b"",
    }
}
