//! A whole broker, and clients that send any bytes at all after a good CONNECT: nobody else notices.

use std::time::Duration;

use viaduct_codec::{FilterRef, PacketId, SubscribeOptions, TopicRef, UserProperties};
use viaduct_codec::{Packet, Publish, PublishProperties, QoS, Subscribe, SubscribeEntry, Version};
use viaduct_testkit::{Client, World, connect};

use crate::input::Input;

const MOST_STEPS: usize = 100;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(2);
    let mut bystander = open(&mut world, Version::V5, "bystander", false);
    subscribe(&mut world, &mut bystander, "$bystander");
    let versions = [Version::V31, Version::V311, Version::V5];
    let mut clients: Vec<Client> = Vec::new();
    for name in ["a", "b", "c"] {
        let mut client = open(&mut world, versions[input.below(3)], name, true);
        subscribe(&mut world, &mut client, ["t", "#", "$share/g/t"][input.below(3)]);
        clients.push(client);
    }
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let index = input.below(clients.len());
        let name = ["a", "b", "c"][index];
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
