//! Every packet of the tables in `tests/vectors`, legal and not, against its verdict.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_codec::{DecodeError, Frame, Packet, Version};

/// The limit that the tables assume.
const MAX_PACKET_SIZE: u32 = 1000;

struct Vector {
    place: String,
    version: Version,
    bytes: Vec<u8>,
    verdict: String,
}

fn vectors() -> Vec<Vector> {
    let tables = [
        ("mqtt31.txt", include_str!("vectors/mqtt31.txt")),
        ("mqtt311.txt", include_str!("vectors/mqtt311.txt")),
        ("mqtt5.txt", include_str!("vectors/mqtt5.txt")),
    ];
    let mut all = Vec::new();
    for (table, text) in tables {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let place = format!("{table}:{}: {line}", number + 1);
            let columns: Vec<&str> = line.split(" | ").collect();
            let [version, bytes, verdict, clause] = columns[..] else { panic!("four columns: {place}") };
            assert!(!clause.trim().is_empty(), "a clause: {place}");
            let version = match version {
                "3.1" => Version::V31,
                "3.1.1" => Version::V311,
                "5.0" => Version::V5,
                _ => panic!("a version: {place}"),
            };
            all.push(Vector { version, bytes: hex(bytes, &place), verdict: verdict.to_owned(), place });
        }
    }
    all
}

fn hex(text: &str, place: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "whole bytes: {place}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect(place)).collect()
}

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
