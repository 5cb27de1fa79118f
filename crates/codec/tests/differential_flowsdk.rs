//! Ours against flowsdk, the strictest other codec: the same packets mean the same, and the same bytes are refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod table;

use flowsdk::mqtt_serde::control_packet::MqttPacket;
use flowsdk::mqtt_serde::parser::ParseOk;
use proptest::prelude::*;
use viaduct_codec::{Frame, Packet, Version};

/// What flowsdk makes of one packet, written again; the error's text when it refuses.
fn through_flowsdk(bytes: &[u8], version: Version) -> Result<Vec<u8>, String> {
    let level = match version {
        Version::V31 => 3,
        Version::V311 => 4,
        Version::V5 => 5,
    };
    match MqttPacket::from_bytes_with_version(bytes, level) {
        Ok(ParseOk::Packet(packet, size)) if size == bytes.len() => {
            packet.to_bytes().map_err(|error| error.to_string())
        }
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// What flowsdk refuses and the standard does not.
const TOO_STRICT: [&str; 6] = [
    "Invalid protocol version",                   // the bridge levels
    "Failed CONNACK cannot set Session Present",  // MQTT-3.2.2-6 binds the server, and we want to know the reason
    "Assigned Client Identifier cannot be empty", // of no use, but no rule forbids it
    "Username cannot be empty",                   // empty and absent are different things: section 3.1.3.5
    "Password cannot be empty",                   // section 3.1.3.6
    "Will topic or message cannot be empty",      // a will payload of zero length: section 3.1.3.4
];

/// What flowsdk lets pass and the standard does not, as our messages name it.
const TOO_LENIENT: [&str; 3] = [
    "Authentication Data needs an Authentication Method", // in CONNACK: section 3.2.2.3.18
    "AUTH names its Authentication Method",               // section 3.15.2.2.2
    "a shared subscription is $share/<name>/<filter>",    // MQTT-4.8.2-2: without a filter
];

fn versioned_packet() -> impl Strategy<Value = (Version, Packet<'static>)> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
        .prop_flat_map(|version| (Just(version), common::packet(version)))
}

proptest! {
    #![proptest_config(common::cases(2000))]

    #[test]
    fn ours_read_and_written_by_flowsdk_is_ours((version, packet) in versioned_packet()) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).unwrap();
        prop_assert!(packet.len_bound().is_none_or(|bound| bound >= bytes.len()));
        match through_flowsdk(&bytes, version) {
            Ok(theirs) => {
                let frame = Frame::split(&theirs, u32::MAX).unwrap().unwrap();
                prop_assert_eq!(Packet::decode(frame, version).unwrap(), packet);
            }
            Err(error) => {
                prop_assert!(TOO_STRICT.iter().any(|known| error.contains(known)), "{}: {:?}", error, packet);
            }
        }
    }

    #[test]
    fn a_changed_packet_gets_the_same_verdict_from_both(
        (version, packet) in versioned_packet(),
        changes in common::changes(),
    ) {
        let Some(bytes) = common::changed(&packet, version, &changes) else { return Ok(()) };
        let Ok(Some(frame)) = Frame::split(&bytes, u32::MAX) else { return Ok(()) };
        if frame.bytes.len() != bytes.len() {
            return Ok(());
        }
        let ours = Packet::decode(frame, version);
        // A CONNECT has the last word on its version with us; flowsdk believes what it was told.
        let told_otherwise = matches!(packet, Packet::Connect(_)) && bytes.get(8) != Some(&(version as u8 + 3));
        if told_otherwise {
            return Ok(());
        }
        match (ours, through_flowsdk(&bytes, version)) {
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
            // Section 2.4 names 0x8C for DISCONNECT and the table in 3.14.2.1 does not.
            (Ok(Packet::Disconnect(disconnect)), Err(_)) if disconnect.reason.0 == 0x8c => {}
            (Ok(ours), Err(error)) => {
                prop_assert!(TOO_STRICT.iter().any(|known| error.contains(known)), "{}: {:?}", error, ours);
            }
            (Err(error), Ok(_)) => {
                let text = error.to_string();
                prop_assert!(TOO_LENIENT.iter().any(|known| text.contains(known)), "{}: {:02x?}", text, bytes);
            }
        }
    }
}

/// Where the two differ on the tables, by the bytes, and why ours stays as it is.
const DIFFERENCES: [(&str, &str); 6] = [
    ("10 0D 0004 4D515454 84 02 003C 0001 61", "flowsdk has no bridge levels"),
    ("20 02 01 05", "MQTT-3.2.2-4 binds the server; a bridge wants to know why it was refused"),
    ("10 0E 0004 4D515454 06 02 003C 00 0001 61", "flowsdk takes any level above 5 for 5.0"),
    ("20 07 00 00 04 16 0001 00", "flowsdk looks for data without a method in CONNECT only"),
    ("F0 02 00 00", "section 3.15.2.2.2: only the empty AUTH may leave the method out"),
    ("F0 06 18 04 16 0001 58", "section 3.15.2.2.2: only the empty AUTH may leave the method out"),
];

#[test]
fn every_vector_gets_the_same_verdict_but_for_the_listed_ones() {
    let mut compared = 0;
    let mut differing = Vec::new();
    for vector in table::vectors().into_iter().filter(|vector| vector.version != Version::V31) {
        let legal = match vector.verdict.split(' ').next() {
            Some("ok") => true,
            Some("wait" | "large") => continue,
            _ => false,
        };
        compared += 1;
        if through_flowsdk(&vector.bytes, vector.version).is_ok() != legal {
            differing.push(vector);
        }
    }
    assert!(compared > 250, "{compared} vectors were compared");
    for (bytes, reason) in DIFFERENCES {
        assert!(
            differing.iter().any(|vector| vector.place.contains(bytes)),
            "no difference any more: {bytes}, {reason}"
        );
    }
    for vector in differing {
        assert!(
            DIFFERENCES.iter().any(|(bytes, _)| vector.place.contains(bytes)),
            "a new difference: {}",
            vector.place
        );
    }
}
