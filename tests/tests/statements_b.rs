//! Statements about a client that a bridge shows, as it is one, and about retained messages when several workers write them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use viaduct_tests::codec::{Frame, Packet, PacketId, QoS, Version};
use viaduct_tests::{Broker, Client, DEADLINE, Hello, Outgoing, bytes};

/// A remote of a bridge that says what it is told, and the connection that the bridge made to it.
struct Remote {
    stream: TcpStream,
    came: Vec<u8>,
}

/// What of a PUBLISH the remote looks at.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    payload: String,
    qos: QoS,
    retain: bool,
    id: Option<u16>,
    /// Of the whole packet.
    size: usize,
}

impl Remote {
    /// A broker with a 5.0 bridge to it, after the CONNACK `connack`. `direction` is that of the only rule.
    fn bridged(connack: &str, direction: &str) -> (Broker, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let broker = Broker::start(&format!(
            "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{}\"\nprotocol_version = 5\nnotifications = false\n\
             [[bridge.topic]]\nfilter = \"t\"\ndirection = \"{direction}\"\nqos = 2\n",
            listener.local_addr().unwrap()
        ));
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut remote = Self { stream, came: Vec::new() };
        assert_eq!(remote.packet()[0], 0x10);
        remote.send(connack);
        (broker, remote)
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(&bytes(text)).unwrap();
    }

    #[track_caller]
    fn packet(&mut self) -> Vec<u8> {
        loop {
            if let Some(frame) = Frame::split(&self.came, u32::MAX).unwrap() {
                let length = frame.bytes.len();
                return self.came.drain(..length).collect();
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "the bridge closed the connection");
            self.came.extend_from_slice(&buffer[..count]);
        }
    }

    #[track_caller]
    fn publish(&mut self) -> Came {
        let packet = self.packet();
        let frame = Frame::split(&packet, u32::MAX).unwrap().unwrap();
        let Packet::Publish(publish) = Packet::decode(frame, Version::V5).unwrap() else { panic!("{packet:02X?}") };
        Came {
            payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
            qos: publish.qos,
            retain: publish.retain,
            id: publish.packet_id.map(PacketId::get),
            size: packet.len(),
        }
    }
}

/// Publishes at each QoS to what the bridge carries out.
fn publish_at_each_qos(broker: &Broker) {
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for (payload, qos) in [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
        assert!(!publisher.publish_message(&Outgoing::new("t", payload).qos(qos).retained()).is_error());
    }
}

/// Proves: v5:3.2.2-11
#[test]
fn a_bridge_publishes_with_no_higher_qos_than_its_remote_takes() {
    for (maximum, limit) in [("00", QoS::AtMostOnce), ("01", QoS::AtLeastOnce)] {
        let (broker, mut remote) = Remote::bridged(&format!("20 05 00 00 02 24 {maximum}"), "out");
        publish_at_each_qos(&broker);
        for (payload, qos) in [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
            let came = remote.publish();
            assert_eq!((came.payload.as_str(), came.qos), (payload, qos.min(limit)));
            if let Some(id) = came.id {
                remote.send(&format!("40 02 {id:04X}"));
            }
        }
    }
    // Without the property it may use them all.
    let (broker, mut remote) = Remote::bridged("20 03 00 00 00", "out");
    publish_at_each_qos(&broker);
    let came = [(); 3].map(|()| remote.publish().qos);
    assert_eq!(came, [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
}

/// Proves: v5:3.2.2-14
#[test]
fn a_bridge_sends_no_retain_to_a_remote_that_has_none() {
    let (broker, mut remote) = Remote::bridged("20 05 00 00 02 25 00", "out");
    publish_at_each_qos(&broker);
    assert_eq!([(); 3].map(|()| remote.publish().retain), [false; 3]);

    let (broker, mut remote) = Remote::bridged("20 05 00 00 02 25 01", "out");
    publish_at_each_qos(&broker);
    assert_eq!([(); 3].map(|()| remote.publish().retain), [true; 3]);
}

/// Proves: v5:3.2.2-15
#[test]
fn a_bridge_sends_no_packet_larger_than_its_remote_takes() {
    // How many bytes a PUBLISH of the bridge has besides its payload.
    let (broker, mut remote) = Remote::bridged("20 03 00 00 00", "out");
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish("t", "x", QoS::AtLeastOnce);
    let more = remote.publish().size - 1;
    assert!(more < 64);

    // 80 bytes come, 81 do not, and what is behind them does.
    let (broker, mut remote) = Remote::bridged("20 08 00 00 05 27 00 00 00 50", "out");
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for (letter, size) in [("a", 81), ("b", 80), ("c", 500), ("d", 80)] {
        publisher.publish("t", letter.repeat(size - more), QoS::AtLeastOnce);
    }
    for letter in ["b", "d"] {
        let came = remote.publish();
        assert_eq!((came.size, &came.payload[..1]), (80, letter));
        remote.send(&format!("40 02 {:04X}", came.id.unwrap()));
    }
}

/// Proves: v5:4.5.0-2
#[test]
fn a_bridge_acknowledges_every_publish_as_its_qos_says() {
    let (broker, mut remote) = Remote::bridged("20 03 00 00 00", "in");
    let subscribe = remote.packet();
    assert_eq!(subscribe[0], 0x82);
    remote.send(&format!("90 04 {:02X}{:02X} 00 02", subscribe[2], subscribe[3]));
    // Whether anybody is there to hear it here or not.
    for turn in 0..2 {
        remote.send("30 05 0001 74 00 78 32 07 0001 74 000A 00 79 34 07 0001 74 000B 00 7A");
        // In whatever form it says success.
        let (one, two) = (remote.packet(), remote.packet());
        assert_eq!((one[0], &one[2..4]), (0x40, &[0, 0x0A][..]));
        assert_eq!((two[0], &two[2..4]), (0x50, &[0, 0x0B][..]));
        assert!(one.get(4).is_none_or(|reason| *reason < 0x80) && two.get(4).is_none_or(|reason| *reason < 0x80));
        remote.send("62 02 000B");
        assert_eq!(remote.packet(), bytes("70 02 000B"));
        if turn == 0 {
            let mut subscriber = Hello::v5("subscriber").persistent().connect(broker.address());
            subscriber.subscribe("t", QoS::AtLeastOnce);
            subscriber.break_off();
        }
    }
}

/// Proves: trap:57
#[test]
fn publishers_that_take_turns_are_heard_in_their_turns_and_the_last_one_is_retained() {
    const TURNS: usize = 300;
    let broker = Broker::start("[node]\nworkers = 4\n");
    // Enough of them that every worker has some.
    let mut subscribers: Vec<Client> = (0..8)
        .map(|number| {
            let mut subscriber = Hello::v5(&format!("subscriber {number}")).connect(broker.address());
            subscriber.subscribe("#", QoS::AtMostOnce);
            subscriber
        })
        .collect();
    let mut publishers: Vec<Client> =
        (0..8).map(|number| Hello::v5(&format!("publisher {number}")).connect(broker.address())).collect();
    for last in ["set", ""] {
        let mut said = Vec::new();
        for turn in 0..=TURNS {
            let payload = match turn {
                TURNS => last.to_owned(),
                _ if turn % 3 == 0 => String::new(),
                _ => format!("{turn}"),
            };
            let message = Outgoing::new("t", &payload).qos(QoS::AtLeastOnce).retained();
            // Who is next, in an order in which everybody comes after everybody.
            assert!(!publishers[(turn * 3 + turn / 8) % 8].publish_message(&message).is_error());
            said.push(payload);
        }
        let mut late = Hello::v5("late").connect(broker.address());
        late.subscribe("t", QoS::AtMostOnce);
        late.publish("end", "", QoS::AtLeastOnce);
        late.subscribe("end", QoS::AtMostOnce);
        late.publish("end", "", QoS::AtLeastOnce);
        let kept: Vec<String> = late.messages_before("end").iter().map(|message| message.text().to_owned()).collect();
        assert_eq!(kept, if last.is_empty() { vec![] } else { vec![last.to_owned()] });
        for subscriber in &mut subscribers {
            let heard = subscriber.messages_before("end");
            let heard: Vec<&str> = heard.iter().map(viaduct_tests::Message::text).collect();
            assert_eq!(heard, said);
            assert_eq!(subscriber.messages_before("end"), []);
        }
    }
}
