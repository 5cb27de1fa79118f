//! A PUBLISH read and written beside mqttbytes and flowsdk, on what all three do: 3.1.1, a topic of 26 bytes, a payload
//! of 256.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

use std::hint::black_box;

use bytes::BytesMut;
use flowsdk::mqtt_serde::control_packet::MqttPacket;
use flowsdk::mqtt_serde::parser::ParseOk;
use mqttbytes::v4;
use viaduct_benches::in_turn;
use viaduct_codec::{Frame, Packet, Version};

const ROUNDS: usize = 21;
const OPERATIONS: u32 = 50_000;

fn main() {
    for qos in 0..3_u8 {
        let packet = publish(qos);
        decode(qos, &packet);
        encode(qos, &packet);
    }
}

fn decode(qos: u8, packet: &[u8]) {
    let mut ours = || {
        let frame = Frame::split(black_box(packet), 1 << 20).ok().flatten();
        black_box(frame.and_then(|frame| Packet::decode(frame, Version::V311).ok()));
    };
    // mqttbytes takes the bytes out of its buffer, so that is filled anew each time, as a socket would.
    let mut buffer = BytesMut::with_capacity(1 << 16);
    let mut mqttbytes = || {
        buffer.extend_from_slice(black_box(packet));
        black_box(v4::read(&mut buffer, 1 << 20).ok());
    };
    let mut flowsdk = || _ = black_box(MqttPacket::from_bytes_v3(black_box(packet)).ok());
    say("decode", qos, in_turn(ROUNDS, OPERATIONS, [&mut ours, &mut mqttbytes, &mut flowsdk]));
}

/// Each writes what it has read.
fn encode(qos: u8, packet: &[u8]) {
    let own =
        Frame::split(packet, 1 << 20).unwrap().and_then(|frame| Packet::decode(frame, Version::V311).ok()).unwrap();
    let Ok(v4::Packet::Publish(theirs)) = v4::read(&mut BytesMut::from(packet), 1 << 20) else { panic!("a PUBLISH") };
    let Ok(ParseOk::Packet(other, _)) = MqttPacket::from_bytes_v3(packet) else { panic!("a PUBLISH") };
    let mut out = Vec::with_capacity(1 << 16);
    own.encode(Version::V311, &mut out).unwrap();
    assert_eq!((out.as_slice(), other.to_bytes().unwrap().as_slice()), (packet, packet));
    let mut ours = || {
        out.clear();
        black_box(black_box(&own).encode(Version::V311, &mut out).ok());
    };
    let mut buffer = BytesMut::with_capacity(1 << 16);
    let mut mqttbytes = || {
        buffer.clear();
        black_box(black_box(&theirs).write(&mut buffer).ok());
    };
    let mut flowsdk = || _ = black_box(black_box(&other).to_bytes().ok());
    say("encode", qos, in_turn(ROUNDS, OPERATIONS, [&mut ours, &mut mqttbytes, &mut flowsdk]));
}

fn say(what: &str, qos: u8, [ours, mqttbytes, flowsdk]: [f64; 3]) {
    println!(
        "{what} PUBLISH qos {qos}: {ours:.0} ns, mqttbytes {mqttbytes:.0} ns (ratio {:.2}), flowsdk {flowsdk:.0} ns \
         (ratio {:.2})",
        ours / mqttbytes,
        ours / flowsdk
    );
}

fn publish(qos: u8) -> Vec<u8> {
    let topic = b"site/7/line/3/temperature/";
    let id = if qos > 0 { &[0, 10][..] } else { &[] };
    let remaining = 2 + topic.len() + id.len() + 256;
    let mut packet = vec![0x30 | qos << 1, (remaining & 0x7f) as u8 | 0x80, (remaining >> 7) as u8, 0, 26];
    packet.extend_from_slice(topic);
    packet.extend_from_slice(id);
    packet.extend_from_slice(&[b'x'; 256]);
    packet
}
