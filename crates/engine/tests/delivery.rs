//! Messages reach who subscribed, on one worker and across several.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::time::Duration;

use viaduct_codec::{
    Ack, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Subscribe, TopicRef, UserProperties, VarInt,
    Version,
};
use viaduct_testkit::{Client, Got, World, connect, subscribe};

fn hello(world: &mut World, version: Version, id: &str) -> Client {
    let mut client = world.connect(&Packet::Connect(Box::new(connect(version, id))));
    world.take(&mut client);
    assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
    client
}

/// With this Subscription Identifier.
fn numbered(filter: &str, qos: QoS, id: u32) -> Packet<'_> {
    match subscribe(filter, qos) {
        Packet::Subscribe(subscribe) => Packet::Subscribe(Subscribe { subscription_id: VarInt::new(id), ..subscribe }),
        other => other,
    }
}

fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: QoS, retain: bool, id: u16) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain,
        topic: Some(TopicRef::new(topic).unwrap()),
        packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(id) },
        properties: PublishProperties::default(),
        payload,
    })
}

#[test]
fn a_message_reaches_subscribers_of_every_worker_once() {
    viaduct_testkit::on_every_ground(|| {
        for workers in [1, 4] {
            let mut world = World::new(workers);
            let mut subscribers: Vec<_> =
                (0..12).map(|n| hello(&mut world, Version::V311, &format!("subscriber-{n}"))).collect();
            for client in &mut subscribers {
                world.send(client, &[subscribe("a/+", QoS::AtMostOnce)]);
                assert_eq!(client.got(), [Got::Suback(vec![ReasonCode::GRANTED_QOS_0])]);
            }
            let mut publisher = hello(&mut world, Version::V5, "publisher");
            for _ in 0..3 {
                world.send(&mut publisher, &[publish("a/b", b"x", QoS::AtLeastOnce, false, 1)]);
                assert_eq!(publisher.got(), [Got::Ack(4, 1, ReasonCode::SUCCESS)]);
            }
            for client in &mut subscribers {
                world.take(client);
                assert_eq!(client.messages().len(), 3);
            }
        }
    });
}

#[test]
fn a_subscription_counts_from_its_suback_although_the_topic_was_cached() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(2);
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        world.send(&mut publisher, &[publish("a/b", b"1", QoS::AtLeastOnce, false, 1)]);
        assert_eq!(publisher.got(), [Got::Ack(4, 1, ReasonCode::NO_MATCHING_SUBSCRIBERS)]);
        for filter in ["a/b", "+/b", "#"] {
            let mut subscriber = hello(&mut world, Version::V5, filter);
            world.send(&mut subscriber, &[subscribe(filter, QoS::AtMostOnce)]);
            world.send(&mut publisher, &[publish("a/b", b"2", QoS::AtMostOnce, false, 0)]);
            world.take(&mut subscriber);
            assert_eq!(subscriber.messages().len(), 1, "{filter}");
        }
    });
}

#[test]
fn overlapping_subscriptions_bring_one_copy_with_the_highest_qos_and_all_identifiers() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut subscriber = hello(&mut world, Version::V5, "subscriber");
        world.send(&mut subscriber, &[numbered("a/#", QoS::AtMostOnce, 1)]);
        world.send(&mut subscriber, &[numbered("a/+", QoS::ExactlyOnce, 2)]);
        subscriber.got();
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        world.send(&mut publisher, &[publish("a/b", b"x", QoS::AtLeastOnce, false, 9)]);
        world.take(&mut subscriber);
        let got = subscriber.got();
        assert_eq!(got.len(), 1);
        let Got::Publish { qos, subscription_ids, .. } = &got[0] else { panic!("{got:?}") };
        let mut ids = subscription_ids.clone();
        ids.sort_unstable();
        assert_eq!((*qos, ids), (QoS::AtLeastOnce, vec![1, 2]));
    });
}

#[test]
fn retained_messages_come_on_subscribing_and_wildcards_do_not_hear_sys() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(2);
        let mut publisher = hello(&mut world, Version::V311, "publisher");
        for n in 0..300 {
            let topic = format!("r/{n}");
            world.send(&mut publisher, &[publish(&topic, b"x", QoS::AtMostOnce, true, 0)]);
        }
        let now = world.now();
        let sys = viaduct_codec::Message {
            topic: viaduct_codec::TopicName::new("$SYS/broker/version").unwrap(),
            payload: bytes::Bytes::from_static(b"v"),
            qos: QoS::AtMostOnce,
            retain: true,
            received: now,
            expires: None,
            properties: None,
        };
        world.engine(0).publish(now, sys);
        let mut subscriber = hello(&mut world, Version::V311, "subscriber");
        world.send(&mut subscriber, &[subscribe("#", QoS::AtMostOnce)]);
        world.take(&mut subscriber);
        let messages = subscriber.got();
        assert_eq!(messages.iter().filter(|got| matches!(got, Got::Publish { retain: true, .. })).count(), 300);
        world.send(&mut subscriber, &[subscribe("$SYS/#", QoS::AtMostOnce)]);
        assert_eq!(subscriber.messages(), [("$SYS/broker/version".to_owned(), b"v".to_vec())]);
        world.send(&mut publisher, &[publish("r/1", b"", QoS::AtMostOnce, true, 0)]);
        assert_eq!(world.shared.retained().0, 300, "299 and the one of $SYS");
    });
}

#[test]
fn each_message_of_a_share_group_goes_to_one_member() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(3);
        let mut members: Vec<_> = (0..3).map(|n| hello(&mut world, Version::V5, &format!("member-{n}"))).collect();
        for member in &mut members {
            world.send(member, &[subscribe("$share/g/t", QoS::AtMostOnce)]);
            member.got();
        }
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        for n in 0..30_u8 {
            world.send(&mut publisher, &[publish("t", &[n], QoS::AtMostOnce, false, 0)]);
        }
        let mut counts = Vec::new();
        for member in &mut members {
            world.take(member);
            counts.push(member.messages().len());
        }
        assert_eq!(counts.iter().sum::<usize>(), 30);
        assert!(counts.iter().all(|&count| count == 10), "{counts:?}");
    });
}

#[test]
fn what_a_share_group_member_did_not_acknowledge_goes_to_another_when_its_session_ends() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(2);
        let mut first = hello(&mut world, Version::V5, "first");
        world.send(&mut first, &[subscribe("$share/g/t", QoS::AtLeastOnce)]);
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        for n in 0..5_u8 {
            world.send(&mut publisher, &[publish("t", &[n], QoS::AtLeastOnce, false, u16::from(n) + 1)]);
        }
        world.take(&mut first);
        assert_eq!(first.messages().len(), 5);
        let mut second = hello(&mut world, Version::V5, "second");
        world.send(&mut second, &[subscribe("$share/g/t", QoS::AtLeastOnce)]);
        second.got();
        world.cut(&mut first);
        world.take(&mut second);
        let payloads: Vec<_> = second.messages().into_iter().map(|(_, payload)| payload[0]).collect();
        assert_eq!(payloads, [0, 1, 2, 3, 4]);
    });
}

#[test]
fn message_expiry_counts_down_while_the_message_waits() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut hello5 = connect(Version::V5, "subscriber");
        hello5.properties.session_expiry = Some(3_600);
        let mut subscriber = world.connect(&Packet::Connect(Box::new(hello5.clone())));
        world.send(&mut subscriber, &[subscribe("t", QoS::AtLeastOnce)]);
        world.cut(&mut subscriber);
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        for (payload, expiry) in [(b"long", 100), (b"soon", 10)] {
            let Packet::Publish(mut message) = publish("t", payload, QoS::AtLeastOnce, false, 1) else {
                unreachable!()
            };
            message.properties.message_expiry = Some(expiry);
            world.send(&mut publisher, &[Packet::Publish(message)]);
        }
        world.pass(Duration::from_secs(40));
        hello5.clean_start = false;
        let mut subscriber = world.connect(&Packet::Connect(Box::new(hello5)));
        world.take(&mut subscriber);
        let got = subscriber.got();
        assert_eq!(got[0], Got::Connack(true, ReasonCode::SUCCESS));
        assert_eq!(got.len(), 2, "{got:?}");
        assert!(matches!(&got[1], Got::Publish { payload, expiry: Some(60), .. } if payload == b"long"), "{got:?}");
    });
}

#[test]
fn share_groups_whose_messages_alternate_give_every_member_its_turn() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut members: Vec<_> = (0..4).map(|n| hello(&mut world, Version::V5, &format!("member-{n}"))).collect();
        for (n, member) in members.iter_mut().enumerate() {
            world.send(member, &[subscribe(if n < 2 { "$share/g/a" } else { "$share/g/b" }, QoS::AtMostOnce)]);
            member.got();
        }
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        for _ in 0..10 {
            world.send(&mut publisher, &[publish("a", b"", QoS::AtMostOnce, false, 0)]);
            world.send(&mut publisher, &[publish("b", b"", QoS::AtMostOnce, false, 0)]);
        }
        for member in &mut members {
            world.take(member);
            assert_eq!(member.messages().len(), 5);
        }
    });
}

/// TLS takes bytes out of the output before the socket has them: the output is empty, more is queued, and only then comes
/// the word that everything is written.
#[test]
fn what_is_queued_behind_an_empty_output_goes_out_when_the_socket_has_taken_it() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = World::new(1);
        let mut subscriber = hello(&mut world, Version::V311, "subscriber");
        world.send(&mut subscriber, &[subscribe("a/+", QoS::AtMostOnce)]);
        subscriber.got();
        let mut publisher = hello(&mut world, Version::V5, "publisher");
        let payload = [b'x'; 60_000];
        let now = world.now();
        let id = viaduct_engine::ConnectionId(1);
        // More than an output takes, so that some of it has to wait.
        for _ in 0..10 {
            world.send(&mut publisher, &[publish("a/b", &payload, QoS::AtMostOnce, true, 1)]);
        }
        let output = world.engine(0).output(id).unwrap();
        let unsent = output.pending();
        assert!(unsent > 0 && unsent < 10 * payload.len(), "{unsent}");
        output.advance(unsent);
        // The transport has not written it yet when the next message comes, which has to wait behind the others.
        world.send(&mut publisher, &[publish("a/b", b"last", QoS::AtMostOnce, true, 1)]);
        let mut taken = unsent;
        loop {
            world.engine(0).handle_drained(now, id);
            let output = world.engine(0).output(id).unwrap();
            let unsent = output.pending();
            if unsent == 0 {
                break;
            }
            output.advance(unsent);
            taken += unsent;
        }
        assert!(taken > 10 * payload.len(), "{taken} bytes of eleven messages");
    });
}

fn pubrel(id: u16) -> Packet<'static> {
    Packet::Pubrel(Ack::new(PacketId::new(id).unwrap(), ReasonCode::SUCCESS))
}

#[test]
fn the_hop_of_a_bridge_that_said_its_name_is_noted_for_it() {
    let pairs = |name: &str, value: &str| {
        let mut encoded = Vec::new();
        assert!(UserProperties::push(&mut encoded, name, value));
        encoded
    };
    // (what CONNECT says, the list that a message has, the list that is heard)
    let table = [
        (Some("edge"), None, Some("edge>")),
        (Some("edge"), Some("far</edge>"), Some("far</edge>")),
        (None, None, None),
        (Some(""), None, None),
        (Some("a/b"), None, None),
    ];
    for workers in [1, 4] {
        for (number, (node, carried, heard)) in table.into_iter().enumerate() {
            let mut world = World::new(workers);
            let mut old = hello(&mut world, Version::V311, "old");
            let mut new: Vec<_> = (0..4).map(|n| hello(&mut world, Version::V5, &format!("new-{n}"))).collect();
            for client in new.iter_mut().chain([&mut old]) {
                world.send(client, &[subscribe("t", QoS::AtLeastOnce)]);
                client.got();
            }
            let said = node.map(|node| pairs("viaduct-node", node)).unwrap_or_default();
            let mut greeting = connect(Version::V5, "bridge");
            greeting.properties.user_properties = UserProperties::from_encoded(&said);
            let mut bridge = world.connect(&Packet::Connect(Box::new(greeting)));
            let list = carried.map(|list| pairs("viaduct-hops", list)).unwrap_or_default();
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut packet = publish("t", b"x", qos, false, 7);
                if let Packet::Publish(publish) = &mut packet {
                    publish.properties.user_properties = UserProperties::from_encoded(&list);
                }
                // Two at once, so that those of QoS 0 are a run.
                world.send(
                    &mut bridge,
                    &if qos == QoS::AtMostOnce { vec![packet.clone(), packet] } else { vec![packet] },
                );
                if qos == QoS::ExactlyOnce {
                    world.send(&mut bridge, &[pubrel(7)]);
                }
                let count = if qos == QoS::AtMostOnce { 2 } else { 1 };
                let expected = heard.map(|list| pairs("viaduct-hops", list)).unwrap_or_default();
                for client in &mut new {
                    world.take(client);
                    let bytes = client.bytes();
                    let found = bytes.windows(expected.len().max(1)).filter(|part| *part == expected).count();
                    let lists = bytes.windows(12).filter(|part| *part == b"viaduct-hops").count();
                    let wanted = if heard.is_some() { count } else { 0 };
                    assert_eq!((found, lists), (wanted, wanted), "{number} {qos:?} {workers}");
                }
                world.take(&mut old);
                assert_eq!(old.messages().len(), count, "{number} {qos:?}");
            }
        }
    }
}

#[test]
fn what_was_taken_is_answered_before_anything_else_is_said() {
    let mut world = World::new(1);
    let mut client = hello(&mut world, Version::V311, "client");
    world.send(
        &mut client,
        &[
            publish("t", b"1", QoS::AtLeastOnce, false, 1),
            publish("t", b"2", QoS::ExactlyOnce, false, 2),
            publish("t", b"3", QoS::AtLeastOnce, false, 3),
            subscribe("t", QoS::AtMostOnce),
            pubrel(2),
            publish("t", b"4", QoS::AtLeastOnce, false, 4),
        ],
    );
    let success = ReasonCode::SUCCESS;
    let expected = [
        Got::Ack(4, 1, success),
        Got::Ack(5, 2, success),
        Got::Ack(4, 3, success),
        Got::Suback(vec![ReasonCode::GRANTED_QOS_0]),
        Got::Ack(7, 2, success),
    ];
    let got = client.got();
    assert_eq!(
        got.iter().filter(|got| !matches!(got, Got::Publish { .. })).cloned().collect::<Vec<_>>()[..5],
        expected
    );
    assert!(got.contains(&Got::Ack(4, 4, success)), "{got:?}");
    // The last word comes behind the answers, too.
    let mut bytes = Vec::new();
    for id in 1..=3 {
        publish("t", b"x", QoS::AtLeastOnce, false, id).encode(Version::V311, &mut bytes).unwrap();
    }
    let mut other = hello(&mut world, Version::V5, "other");
    let mut broken = Vec::new();
    publish("t", b"x", QoS::AtLeastOnce, false, 9).encode(Version::V5, &mut broken).unwrap();
    broken.extend([0xF0, 0xFF, 0xFF, 0xFF, 0xFF]);
    world.send_bytes(&mut other, &broken);
    let got = other.got();
    assert!(matches!(got[..], [Got::Ack(4, 9, _), Got::Disconnect(..)]), "{got:?}");
    world.send_bytes(&mut client, &bytes);
    assert_eq!(client.got().iter().filter(|got| matches!(got, Got::Ack(4, _, _))).count(), 3);
}
