//! AUTH after CONNACK: the order of an exchange, and what goes on beside it.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::sync::Arc;

use viaduct_codec::{
    Auth, Connect, Packet, Publish, PublishProperties, QoS, ReasonCode, TopicRef, UserProperties, Version, Will,
    WillProperties,
};
use viaduct_engine::{AuthStep, Reauthenticate};
use viaduct_session::server::Terms;
use viaduct_testkit::{Client, Got, World, connect, subscribe};

/// A method that asks once: the exchange is `first`, then `right`.
#[derive(Debug, Default)]
struct Asks {
    begun: usize,
}

impl Reauthenticate for Asks {
    fn method(&self) -> &str {
        "M"
    }

    fn begin(&mut self, data: Option<&[u8]>) -> AuthStep {
        self.begun += 1;
        if data == Some(b"first") {
            AuthStep::Continue(Some(format!("challenge {}", self.begun).into_bytes()))
        } else {
            AuthStep::Refused("not first".to_owned())
        }
    }

    fn go_on(&mut self, data: Option<&[u8]>) -> AuthStep {
        if data == Some(b"right") {
            AuthStep::Done { data: Some(b"last".to_vec()), credential: Some(2) }
        } else {
            AuthStep::Refused("wrong".to_owned())
        }
    }
}

fn auth<'a>(reason: u8, method: &'a str, data: &'a str) -> Packet<'a> {
    Packet::Auth(Auth {
        reason: ReasonCode(reason),
        method: Some(method),
        data: Some(data.as_bytes()),
        reason_string: None,
        user_properties: UserProperties::default(),
    })
}

fn got(reason: u8, data: &str) -> Got {
    Got::Auth(ReasonCode(reason), "M".to_owned(), data.as_bytes().to_vec())
}

/// A broker that offers the method, and a connection that came by it, with a will.
fn world() -> (World, Client) {
    let mut world = World::new(2);
    world.terms = Arc::new(Terms { authentication_methods: vec!["M".into()], ..Terms::default() });
    let client = client(&mut world, |_| {});
    (world, client)
}

fn client(world: &mut World, change: impl FnOnce(&mut Connect<'_>)) -> Client {
    let mut owner = connect(Version::V5, "client");
    owner.properties.auth_method = Some("M");
    owner.will = Some(Will {
        topic: TopicRef::new("will").unwrap(),
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    });
    change(&mut owner);
    let mut client = world.connect_by(&Packet::Connect(Box::new(owner)), Box::new(Asks::default()));
    world.take(&mut client);
    assert_eq!(client.got(), [Got::Connack(false, ReasonCode::SUCCESS)]);
    client
}

fn publish(topic: &str) -> Packet<'_> {
    Packet::Publish(Publish {
        topic: Some(TopicRef::new(topic).unwrap()),
        payload: b"x",
        qos: QoS::AtMostOnce,
        retain: false,
        dup: false,
        packet_id: None,
        properties: PublishProperties::default(),
    })
}

#[test]
fn an_exchange_goes_through_as_often_as_the_client_begins_one() {
    viaduct_testkit::on_every_ground(|| {
        let (mut world, mut client) = world();
        for round in 1..=3 {
            world.send(&mut client, &[auth(0x19, "M", "first")]);
            assert_eq!(client.got(), [got(0x18, &format!("challenge {round}"))]);
            world.send(&mut client, &[auth(0x18, "M", "right")]);
            assert_eq!(client.got(), [got(0x00, "last")]);
        }
        assert!(!client.closed);
    });
}

#[test]
fn messages_keep_flowing_while_an_exchange_is_under_way() {
    viaduct_testkit::on_every_ground(|| {
        let (mut world, mut client) = world();
        world.send(&mut client, &[subscribe("t", QoS::AtMostOnce), auth(0x19, "M", "first"), publish("t")]);
        assert_eq!(client.messages().len(), 1);
        world.send(&mut client, &[Packet::Pingreq, auth(0x18, "M", "right"), publish("t")]);
        let came = client.got();
        assert!(matches!(&came[..], [Got::Pingresp, Got::Auth(..), Got::Publish { .. }]), "{came:?}");
    });
}

#[test]
fn a_failed_exchange_ends_the_connection_and_publishes_the_will() {
    viaduct_testkit::on_every_ground(|| {
        // MQTT-4.12.1-2
        let (mut world, mut client) = world();
        let mut watcher = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "watcher"))));
        world.send(&mut watcher, &[subscribe("will", QoS::AtMostOnce)]);
        watcher.got();
        world.send(&mut client, &[auth(0x19, "M", "first"), auth(0x18, "M", "wrong"), publish("will")]);
        assert_eq!(client.got(), [got(0x18, "challenge 1"), Got::Disconnect(ReasonCode::NOT_AUTHORIZED)]);
        assert!(client.closed);
        world.take(&mut watcher);
        assert_eq!(watcher.messages(), [("will".to_owned(), b"gone".to_vec())]);
    });
}

#[test]
fn what_is_out_of_order_is_a_protocol_error() {
    viaduct_testkit::on_every_ground(|| {
        let empty = Packet::Auth(Auth {
            reason: ReasonCode::SUCCESS,
            method: None,
            data: None,
            reason_string: None,
            user_properties: UserProperties::default(),
        });
        let begin = || auth(0x19, "M", "first");
        for (packets, what) in [
            (vec![auth(0x18, "M", "right")], "none was begun"),
            (vec![auth(0x00, "M", "right")], "success is the server's"),
            (vec![begin(), auth(0x00, "M", "right")], "success is the server's, later"),
            (vec![begin(), begin()], "one at a time"),
            (vec![begin(), auth(0x18, "M", "right"), auth(0x18, "M", "right")], "it is over"),
            (vec![auth(0x19, "N", "first")], "another method"),
            (vec![begin(), auth(0x18, "N", "right")], "another method in the middle"),
            (vec![empty], "no method"),
        ] {
            let (mut world, mut client) = world();
            world.send(&mut client, &packets);
            assert_eq!(client.got().last(), Some(&Got::Disconnect(ReasonCode::PROTOCOL_ERROR)), "{what}");
            assert!(client.closed, "{what}");
        }
    });
}

#[test]
fn without_a_method_in_connect_there_is_no_auth() {
    viaduct_testkit::on_every_ground(|| {
        // MQTT-4.12.0-7
        let (mut world, _) = world();
        let mut client = world.connect(&Packet::Connect(Box::new(connect(Version::V5, "plain"))));
        world.send(&mut client, &[auth(0x19, "M", "first")]);
        assert_eq!(client.got().last(), Some(&Got::Disconnect(ReasonCode::PROTOCOL_ERROR)));
    });
}

#[test]
fn an_answer_that_the_client_does_not_take_ends_the_connection() {
    viaduct_testkit::on_every_ground(|| {
        let mut world = world().0;
        let mut client = client(&mut world, |connect| {
            connect.properties.maximum_packet_size = std::num::NonZeroU32::new(21);
        });
        world.send(&mut client, &[auth(0x19, "M", "first")]);
        let came = client.got();
        assert_eq!(came, [Got::Disconnect(ReasonCode::PACKET_TOO_LARGE)]);
    });
}

#[test]
fn a_credential_that_was_renewed_holds_after_the_users_changed() {
    viaduct_testkit::on_every_ground(|| {
        let (mut world, mut client) = world();
        world.send(&mut client, &[auth(0x19, "M", "first"), auth(0x18, "M", "right")]);
        client.got();
        let now = world.now();
        for worker in 0..2 {
            world.engine(worker).handle_users(now, |_, credential| credential == 2);
        }
        world.take(&mut client);
        assert!(!client.closed);
        for worker in 0..2 {
            world.engine(worker).handle_users(now, |_, credential| credential == 3);
        }
        world.take(&mut client);
        assert_eq!(client.got(), [Got::Disconnect(ReasonCode::NOT_AUTHORIZED)]);
    });
}
