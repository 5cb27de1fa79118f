//! Every packet of the tables in `tests/vectors`, legal and not, against its verdict.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod table;

use table::{MAX_PACKET_SIZE, Vector, hex, vectors};
use viaduct_codec::{DecodeError, Frame, Packet, Version};

/// What stands between `{` and the `}` that ends a column or is followed by ` {` or ` ->`.
fn wanted(verdict: &str) -> Vec<&str> {
    let (verdict, _) = verdict.split_once(" -> ").unwrap_or((verdict, ""));
    let Some(start) = verdict.find('{') else { return Vec::new() };
    verdict[start..].trim_end().trim_start_matches('{').trim_end_matches('}').split("} {").collect()
}

fn decode(bytes: &[u8], version: Version) -> Result<Option<Packet<'_>>, DecodeError> {
    let Some(frame) = Frame::split(bytes, MAX_PACKET_SIZE)? else { return Ok(None) };
    assert_eq!(frame.bytes, bytes, "the vector is one packet, {version}");
    Packet::decode(frame, version).map(Some)
}

/// What is wrong with the vector, if anything.
fn check(Vector { place, version, bytes, verdict }: &Vector) -> Result<(), String> {
    let (kind, rest) = verdict.trim().split_once(' ').unwrap_or((verdict.trim(), ""));
    let result = decode(bytes, *version);
    let text = match (kind, &result) {
        ("ok", Ok(Some(packet))) => {
            let again = verdict.split_once(" -> ").map_or(bytes.clone(), |(_, again)| hex(again, place));
            let mut out = vec![0xaa];
            packet.encode(*version, &mut out).map_err(|error| error.to_string())?;
            if out[1..] != again || packet.encoded_len(*version) != Ok(again.len()) {
                return Err(format!("written again as {:02x?}", &out[1..]));
            }
            format!("{packet:?}")
        }
        ("wait", Ok(None)) => String::new(),
        ("malformed", Err(error @ DecodeError::Malformed { .. }))
        | ("protocol", Err(error @ DecodeError::Protocol { .. }))
        | ("large", Err(error @ DecodeError::TooLarge { .. }))
        | ("level", Err(error @ DecodeError::UnknownLevel { .. }))
        | ("notmqtt", Err(error @ DecodeError::NotMqtt(_))) => {
            let reason = rest.split(' ').next().unwrap_or_default();
            if format!("{:02X}", error.reason().0) != reason {
                return Err(format!("{error}: {}", error.reason()));
            }
            error.to_string()
        }
        _ => return Err(format!("{result:?}")),
    };
    wanted(verdict)
        .into_iter()
        .find(|wanted| !text.contains(wanted))
        .map_or(Ok(()), |wanted| Err(format!("no {wanted:?} in {text:?}")))
}

#[test]
fn every_vector_gets_its_verdict() {
    let vectors = vectors();
    assert!(vectors.len() > 300, "{} vectors were found", vectors.len());
    let failures: Vec<String> = vectors
        .iter()
        .filter_map(|vector| check(vector).err().map(|failure| format!("{}\n    {failure}", vector.place)))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_front_of_a_legal_vector_asks_for_more() {
    for Vector { place, bytes, verdict, .. } in vectors() {
        if verdict.starts_with("ok") {
            for end in 0..bytes.len() {
                assert_eq!(Frame::split(&bytes[..end], MAX_PACKET_SIZE), Ok(None), "{end} bytes of {place}");
            }
        }
    }
}

#[test]
fn a_second_packet_in_the_buffer_is_left_alone() {
    for Vector { place, bytes, verdict, version, .. } in vectors() {
        if verdict.starts_with("ok") {
            let mut two = bytes.clone();
            two.extend_from_slice(&[0x00, 0xff, 0xff]);
            let frame = Frame::split(&two, MAX_PACKET_SIZE).unwrap().expect(&place);
            assert_eq!(frame.bytes, bytes, "{place}");
            assert_eq!(Packet::decode(frame, version), decode(&bytes, version).map(Option::unwrap), "{place}");
        }
    }
}
