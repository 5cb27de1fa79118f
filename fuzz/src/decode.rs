//! Bytes from a stranger: no panic, no packet that claims more than it was given, the same answer however the bytes come.

use viaduct_codec::{DecodeError, EncodeError, Frame, Looks, Packet, Version};

/// A limit below what the length field can say, and none.
const LIMITS: [u32; 2] = [64, u32::MAX];

pub(crate) fn run(data: &[u8]) {
    let _ = Looks::like(data).to_string();
    for limit in LIMITS {
        for version in [Version::V31, Version::V311, Version::V5] {
            let whole = packets(data, limit, version);
            assert_eq!(whole, gathered(data, limit, version), "it matters how the bytes come");
        }
    }
}

/// What each packet of the stream is, up to the first that is none.
fn packets(mut data: &[u8], limit: u32, version: Version) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        match Frame::split(data, limit) {
            Ok(None) => return found,
            Ok(Some(frame)) => {
                assert!(frame.bytes.len() <= limit as usize && frame.bytes.len() <= data.len());
                data = &data[frame.bytes.len()..];
                found.push(read(frame, version));
            }
            Err(error) => {
                found.push(refused(&error));
                return found;
            }
        }
    }
}

/// The same when the bytes come one at a time.
fn gathered(data: &[u8], limit: u32, version: Version) -> Vec<String> {
    let mut found = Vec::new();
    let mut start = 0;
    for end in 0..=data.len() {
        match Frame::split(&data[start..end], limit) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                assert_eq!(frame.bytes.len(), end - start, "it was whole before its last byte came");
                start = end;
                found.push(read(frame, version));
            }
            Err(error) => {
                found.push(refused(&error));
                return found;
            }
        }
    }
    found
}

fn read(frame: Frame<'_>, version: Version) -> String {
    match Packet::decode(frame, version) {
        Ok(packet) => {
            let own = match &packet {
                Packet::Connect(connect) => connect.level.version(),
                _ => version,
            };
            match packet.encoded_len(own) {
                Ok(written) => assert!(written <= frame.bytes.len(), "the shortest form is no longer than another"),
                Err(EncodeError::NotInVersion(_)) if is_a_refusal_of_3_1(&packet, own) => {}
                Err(error) => panic!("what could be read can't be written: {error}"),
            }
            format!("{packet:?}")
        }
        Err(error) => refused(&error),
    }
}

/// A SUBACK of 3.1 that says no: some servers send it, and it means something, but it is never written.
pub(crate) fn is_a_refusal_of_3_1(packet: &Packet<'_>, version: Version) -> bool {
    matches!(packet, Packet::Suback(suback) if version == Version::V31 && suback.reasons.iter().any(|r| r.is_error()))
}

fn refused(error: &DecodeError) -> String {
    assert!(error.reason().is_error(), "a refusal has a reason");
    if let DecodeError::TooLarge { size, max, .. } = error {
        assert!(size > max, "{error}");
    }
    assert!(!error.to_string().is_empty());
    format!("{error:?}")
}
