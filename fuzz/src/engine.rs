//! A whole broker, and clients that send any bytes at all after a good CONNECT: nobody else notices.

use std::time::Duration;

use viaduct_codec::{FilterRef, PacketId, SubscribeOptions, TopicRef, UserProperties};
use viaduct_codec::{Packet, Publish, PublishProperties, QoS, Subscribe, SubscribeEntry, Version};
use viaduct_testkit::{Client, World, connect};

use crate::input::Input;

const MOST_STEPS: usize = 100;
const WORKERS: u16 = 2;
/// The clients that say anything.
const NAMES: [&str; 3] = ["a", "b", "c"];

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(WORKERS);
    let mut bystander = open(&mut world, Version::V5, "bystander", false);
    subscribe(&mut world, &mut bystander, "$bystander");
    let versions = [Version::V31, Version::V311, Version::V5];
    let mut clients: Vec<Client> = Vec::new();
    for name in NAMES {
        let mut client = open(&mut world, versions[input.below(3)], name, true);
        subscribe(&mut world, &mut client, ["t", "#", "$share/g/t"][input.below(3)]);
        clients.push(client);
    }
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let index = input.below(clients.len());
        let name = NAMES[index];
        match input.below(8) {
            0 => {
                world.cut(&mut clients[index]);
                clients[index] = open(&mut world, versions[input.below(3)], name, true);
            }
            1 => clients[index] = open(&mut world, versions[input.below(3)], name, input.flag()),
            2 => world.pass(Duration::from_secs(u64::from(input.byte()))),
            _ => world.send_bytes(&mut clients[index], input.bytes(80)),
        }
    }
    bystander.got();
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: TopicRef::new("$bystander").ok(),
        packet_id: None,
        properties: PublishProperties::default(),
        payload: b"well",
    };
    world.send(&mut bystander, &[Packet::Publish(publish)]);
    assert_eq!(bystander.messages(), [("$bystander".to_owned(), b"well".to_vec())]);
    everybody_else_goes(&mut world, clients);
}

/// Whatever was said, a session that is ended leaves nothing behind.
fn everybody_else_goes(world: &mut World, clients: Vec<Client>) {
    for (mut client, name) in clients.into_iter().zip(NAMES) {
        world.cut(&mut client);
        let mut last = open(world, Version::V311, name, false);
        world.cut(&mut last);
    }
    assert_eq!(world.shared.subscriptions(), 1, "somebody is gone and still subscribed");
    for worker in 0..WORKERS {
        let left: Vec<String> =
            world.engine(worker.into()).clients().map(|client| client.client_id.to_string()).collect();
        assert!(left.iter().all(|name| name == "bystander"), "{left:?} are left");
        let stats = world.engine(worker.into()).stats();
        let waiting =
            [&stats.queued_messages, &stats.queued_bytes, &stats.inflight_messages, &stats.sessions_disconnected];
        assert_eq!(waiting.map(|counter| counter.get()), [0; 4], "something waits for nobody");
        assert_eq!(stats.sessions_connected.get(), left.len() as u64);
    }
}

fn open(world: &mut World, version: Version, name: &str, keep: bool) -> Client {
    let mut hello = connect(version, name);
    hello.clean_start = !keep;
    if version == Version::V5 {
        hello.properties.session_expiry = keep.then_some(100);
    }
    world.connect(&Packet::Connect(Box::new(hello)))
}

fn subscribe(world: &mut World, client: &mut Client, filter: &str) {
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
    let entries = FilterRef::new(filter).map(|filter| SubscribeEntry { filter, options }).into_iter().collect();
    let packet_id = PacketId::new(1).unwrap();
    let subscribe = Subscribe { packet_id, subscription_id: None, user_properties: UserProperties::default(), entries };
    world.send(client, &[Packet::Subscribe(subscribe)]);
}
