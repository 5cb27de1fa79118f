//! Decoding a PUBLISH beside mqttbytes, on what both read: 3.1.1, a topic of 26 bytes, a payload of 256.

use std::hint::black_box;

use bytes::BytesMut;
use viaduct_benches::side_by_side;
use viaduct_codec::{Frame, Packet, Version};

const ROUNDS: usize = 21;
const OPERATIONS: u32 = 100_000;

fn main() {
    for qos in 0..3_u8 {
        let packet = publish(qos);
        let ours = || {
            let frame = Frame::split(black_box(&packet), 1 << 20).ok().flatten();
            black_box(frame.and_then(|frame| Packet::decode(frame, Version::V311).ok()));
        };
        // mqttbytes takes the bytes out of its buffer, so that is filled anew each time, as a socket would.
        let mut buffer = BytesMut::with_capacity(1 << 16);
        let theirs = || {
            buffer.extend_from_slice(black_box(&packet));
            black_box(mqttbytes::v4::read(&mut buffer, 1 << 20).ok());
        };
        let pair = side_by_side(ROUNDS, OPERATIONS, ours, theirs);
        println!(
            "decode PUBLISH qos {qos}: {:.0} ns, mqttbytes {:.0} ns, ratio {:.2}",
            pair.ours,
            pair.theirs,
            pair.ours / pair.theirs
        );
    }
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
