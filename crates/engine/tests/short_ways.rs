//! The short ways of plain messages say the same as the long way, to everybody: runs of QoS 0 and 1 through the engine, whatever
//! comes between them.
//!
//! A client with a message rate takes the long way, so the same conversation is held twice: without one, and with one that nobody
//! reaches.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use viaduct_codec::{
    Ack, FilterRef, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Subscribe, SubscribeEntry,
    SubscribeOptions, TopicRef, UserProperties, Version,
};
use viaduct_engine::{AllowAll, Settings};
use viaduct_testkit::{Client, Got, World, connect, on_every_ground};

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Numbers that depend on the seed alone.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// The bytes that everybody hears of a conversation.
fn conversation(seed: u64, message_rate: Option<u32>, workers: u16) -> Vec<Vec<u8>> {
    let settings = Settings { message_rate, ..Settings::default() };
    let mut world = World::with(workers, settings, Box::new(AllowAll));
    let mut numbers = Numbers(seed);
    let mut subscribers = Vec::new();
    for number in 0..6_u64 {
        let version = if number < 3 { Version::V311 } else { Version::V5 };
        let id = format!("subscriber-{number}");
        let mut hello = connect(version, &id);
        hello.clean_start = number % 3 > 0;
        hello.properties.session_expiry = Some(60).filter(|_| version.is_v5());
        let mut client = world.connect(&Packet::Connect(Box::new(hello)));
        let filter = ["a/#", "a/1", "#", "$share/g/a/#"][usize::try_from(numbers.below(4)).unwrap()];
        let options = SubscribeOptions {
            qos: ALL_QOS[usize::try_from(numbers.below(3)).unwrap()],
            retain_as_published: version.is_v5(),
            ..SubscribeOptions::default()
        };
        let entries = vec![SubscribeEntry { filter: FilterRef::new(filter).unwrap(), options }];
        let packet_id = PacketId::new(1).unwrap();
        let user_properties = UserProperties::default();
        world.send(
            &mut client,
            &[Packet::Subscribe(Subscribe { packet_id, subscription_id: None, user_properties, entries })],
        );
        subscribers.push(client);
    }
    let mut pair = Vec::new();
    UserProperties::push(&mut pair, if seed.is_multiple_of(2) { "viaduct-node" } else { "colour" }, "edge");
    let version = if seed.is_multiple_of(3) { Version::V311 } else { Version::V5 };
    let mut hello = connect(version, "publisher");
    hello.properties.user_properties = UserProperties::from_encoded(if version.is_v5() { &pair } else { &[] });
    let mut publisher = world.connect(&Packet::Connect(Box::new(hello)));
    let mut id = 0;
    let (mut topic, mut own) = ("a/1", &[][..]);
    for _ in 0..12 {
        let mut bytes = Vec::new();
        let mut open = Vec::new();
        for _ in 0..numbers.below(24) {
            let qos = ALL_QOS[usize::try_from(numbers.below(8).saturating_sub(5)).unwrap()];
            let qos = if numbers.below(3) == 0 { qos } else { QoS::AtLeastOnce };
            id += u16::from(qos > QoS::AtMostOnce);
            if qos == QoS::ExactlyOnce {
                open.push(id);
            }
            // Mostly as the message before.
            match numbers.below(16) {
                0 => topic = ["a/1", "a/2", "b"][usize::try_from(numbers.below(3)).unwrap()],
                1 if version.is_v5() => own = if own.is_empty() { &pair } else { &[] },
                _ => {}
            }
            let payload = vec![b'p'; usize::try_from(numbers.below(40)).unwrap()];
            let publish = Publish {
                dup: qos > QoS::AtMostOnce && numbers.below(12) == 0,
                qos,
                retain: numbers.below(12) == 0,
                topic: Some(TopicRef::new(topic).unwrap()),
                packet_id: PacketId::new(id).filter(|_| qos > QoS::AtMostOnce),
                properties: PublishProperties {
                    user_properties: UserProperties::from_encoded(own),
                    ..PublishProperties::default()
                },
                payload: &payload,
            };
            Packet::Publish(publish).encode(version, &mut bytes).unwrap();
        }
        world.send_bytes(&mut publisher, &bytes);
        let releases: Vec<_> = open
            .into_iter()
            .map(|id| Packet::Pubrel(Ack::new(PacketId::new(id).unwrap(), ReasonCode::SUCCESS)))
            .collect();
        world.send(&mut publisher, &releases);
        for client in &mut subscribers {
            answer(&mut world, client);
        }
        world.settle();
    }
    subscribers.push(publisher);
    subscribers.iter_mut().map(Client::bytes).collect()
}

/// Answers whatever the client has heard, until it hears nothing more.
fn answer(world: &mut World, client: &mut Client) {
    loop {
        world.take(client);
        let heard = client.got();
        if heard.is_empty() {
            return;
        }
        let ack = |id: &u16| Ack::new(PacketId::new(*id).unwrap(), ReasonCode::SUCCESS);
        let answers: Vec<_> = heard
            .iter()
            .filter_map(|got| match got {
                Got::Publish { qos: QoS::AtLeastOnce, id: Some(id), .. } => Some(Packet::Puback(ack(id))),
                Got::Publish { qos: QoS::ExactlyOnce, id: Some(id), .. } => Some(Packet::Pubrec(ack(id))),
                Got::Ack(6, id, _) => Some(Packet::Pubcomp(ack(id))),
                _ => None,
            })
            .collect();
        world.send(client, &answers);
    }
}

#[test]
fn the_short_ways_say_what_the_long_way_says() {
    on_every_ground(|| {
        for workers in [1, 3] {
            for seed in 0..12 {
                let (short, long) = (conversation(seed, None, workers), conversation(seed, Some(u32::MAX), workers));
                assert_eq!(short, long, "seed {seed}, {workers} workers");
                assert!(short.iter().map(Vec::len).sum::<usize>() > 1_000, "seed {seed}: little was said");
            }
        }
    });
}
