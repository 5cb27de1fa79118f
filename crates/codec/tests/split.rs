//! Where the bytes are cut on their way does not matter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use viaduct_codec::{DecodeError, Frame, Packet};

proptest! {
    #![proptest_config(common::cases(300))]

    #[test]
    fn a_packet_cut_anywhere_is_waited_for_and_then_the_same((version, packet) in common::versioned_packet()) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).unwrap();
        for end in 0..bytes.len() {
            prop_assert_eq!(Frame::split(&bytes[..end], u32::MAX), Ok(None));
        }
        let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
        prop_assert_eq!(Packet::decode(frame, version).unwrap(), packet);
    }

    #[test]
    fn a_stream_in_pieces_gives_the_packets_in_order(
        stream in common::version().prop_flat_map(|version| {
            (Just(version), proptest::collection::vec(common::packet(version), 1..6))
        }),
        piece in 1_usize..40,
    ) {
        let (version, packets) = stream;
        let mut bytes = Vec::new();
        for packet in &packets {
            packet.encode(version, &mut bytes).unwrap();
        }
        let mut buffer: Vec<u8> = Vec::new();
        let mut read = 0;
        for part in bytes.chunks(piece) {
            buffer.extend_from_slice(part);
            loop {
                let size = match Frame::split(&buffer, u32::MAX).unwrap() {
                    None => break,
                    Some(frame) => {
                        prop_assert_eq!(&Packet::decode(frame, version).unwrap(), &packets[read]);
                        frame.bytes.len()
                    }
                };
                read += 1;
                buffer.drain(..size);
            }
        }
        prop_assert_eq!(read, packets.len());
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_limit_is_enforced_as_soon_as_the_length_is_known((version, packet) in common::versioned_packet()) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes).unwrap();
        let size = u32::try_from(bytes.len()).unwrap();
        prop_assert!(Frame::split(&bytes, size).unwrap().is_some());
        let header = 1 + bytes[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let told = Frame::split(&bytes[..header], size - 1);
        let is_told = matches!(told, Err(DecodeError::TooLarge { size: s, max, .. }) if s == size && max == size - 1);
        prop_assert!(is_told, "{:?}", told);
    }
}
