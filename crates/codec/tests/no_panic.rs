//! No bytes, however wrong, do more than be refused; and what is accepted can be written again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use viaduct_codec::{Frame, Looks, Packet, UserProperties, Version};

/// Reads every packet at the front of `bytes`, in every version. What is read is legal, so it is written, and what was
/// written is read as the same.
fn read_all(bytes: &[u8]) {
    let _ = Looks::like(bytes);
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut rest = bytes;
        while let Ok(Some(frame)) = Frame::split(rest, 1 << 20) {
            rest = &rest[frame.bytes.len()..];
            let Ok(packet) = Packet::decode(frame, version) else { continue };
            // The one reading without a writing: a 3.1 server that says 0x80 all the same.
            let refused_in_31 = version == Version::V31
                && matches!(&packet, Packet::Suback(suback) if suback.reasons.iter().any(|reason| reason.is_error()));
            let mut again = Vec::new();
            if packet.encode(version, &mut again).is_err() {
                assert!(refused_in_31, "{packet:?}");
                continue;
            }
            assert!(again.len() <= frame.bytes.len(), "{packet:?}");
            let frame = Frame::split(&again, 1 << 20).unwrap().unwrap();
            match (Packet::decode(frame, version).unwrap(), packet) {
                // Session Present beside a refusal is read and not written.
                (Packet::Connack(_), Packet::Connack(connack)) if connack.reason.is_error() => {}
                (read, packet) => assert_eq!(read, packet),
            }
        }
    }
}

proptest! {
    #![proptest_config(common::cases(4000))]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn random_bodies_under_a_right_header(
        first in any::<u8>(),
        body in proptest::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..127),
    ) {
        let mut bytes = vec![first, u8::try_from(body.len()).unwrap()];
        bytes.extend_from_slice(&body);
        read_all(&bytes);
    }

    #[test]
    fn legal_packets_with_some_bytes_changed(
        (version, packet) in common::versioned_packet(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).unwrap();
        for (at, value) in changes {
            // Lengths and identifiers are in front, so that is where most changes go.
            let at = at.index(bytes.len().min(64));
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_all(&bytes);
    }

    #[test]
    fn foreign_bytes_as_user_properties(bytes in proptest::collection::vec(prop_oneof![Just(0x26), Just(0), any::<u8>()], 0..60)) {
        let foreign = UserProperties::from_encoded(&bytes);
        let encoded = foreign.to_encoded();
        prop_assert_eq!(UserProperties::from_encoded(&encoded), foreign);
    }
}
