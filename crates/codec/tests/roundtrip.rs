//! Whatever is legal comes back as it was, in every version.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use proptest::prelude::*;
use viaduct_codec::{EncodeError, Frame, Packet, TopicName, TopicRef, UserProperties, Version};

proptest! {
    #![proptest_config(common::cases(2000))]

    #[test]
    fn a_legal_packet_comes_back_equal((version, packet) in common::versioned_packet()) {
        let mut bytes = b"before".to_vec();
        packet.encode(version, &mut bytes).unwrap();
        let bytes = &bytes[6..];
        prop_assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
        let frame = Frame::split(bytes, u32::MAX).unwrap().unwrap();
        prop_assert_eq!(frame.bytes, bytes);
        prop_assert_eq!(frame.kind, packet.kind());
        prop_assert_eq!(Packet::decode(frame, version).unwrap(), packet);
    }

    #[test]
    fn a_5_0_packet_told_to_3_x_loses_only_what_3_x_has_no_word_for(packet in common::packet(Version::V5)) {
        for version in [Version::V31, Version::V311] {
            let mut bytes = Vec::new();
            match packet.encode(version, &mut bytes) {
                Ok(()) => {
                    prop_assert_eq!(packet.encoded_len(version), Ok(bytes.len()));
                    let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
                    let read = Packet::decode(frame, version).unwrap();
                    if let (Packet::Publish(sent), Packet::Publish(read)) = (&packet, &read) {
                        prop_assert_eq!((sent.qos, sent.retain, sent.topic), (read.qos, read.retain, read.topic));
                        prop_assert_eq!((sent.packet_id, sent.payload), (read.packet_id, read.payload));
                        prop_assert_eq!(&read.properties, &Default::default());
                    }
                }
                Err(error) => {
                    prop_assert!(matches!(error, EncodeError::NotInVersion(_)), "{}", error);
                    prop_assert!(bytes.is_empty());
                    prop_assert!(matches!(
                        packet,
                        Packet::Auth(_) | Packet::Connack(_) | Packet::Suback(_) | Packet::Publish(_)
                    ));
                }
            }
        }
    }

    #[test]
    fn user_properties_keep_order_and_repeats(
        pairs in proptest::collection::vec((common::text(), common::text()), 0..8),
    ) {
        let mut encoded = Vec::new();
        for (name, value) in &pairs {
            prop_assert!(UserProperties::push(&mut encoded, name, value));
        }
        let read = UserProperties::from_encoded(&encoded);
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), pairs.clone());
        prop_assert_eq!(read.is_empty(), pairs.is_empty());
        prop_assert_eq!(read.to_encoded(), encoded);
    }

    #[test]
    fn a_filter_matches_as_the_plain_words_of_the_rule_say(
        filter in common::filter(),
        topic in common::topic(),
    ) {
        prop_assert_eq!(filter.matches(topic), plain_match(filter.as_str(), topic.as_str()));
        let inner = filter.share().map_or(filter, |share| share.filter);
        prop_assert_eq!(inner.matches(topic), plain_match(inner.as_str(), topic.as_str()));
    }
}

/// Section 4.7 by recursion, to compare with.
fn plain_match(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([wanted, filter @ ..], [level, topic @ ..]) => {
                (*wanted == "+" || wanted == level) && levels(filter, topic)
            }
            _ => false,
        }
    }
    if filter.starts_with("$share/") || (topic.starts_with('$') && filter.starts_with(['+', '#'])) {
        return false;
    }
    levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

#[test]
fn the_longest_strings_fit_and_one_byte_more_is_refused_with_nothing_written() {
    let longest = "t".repeat(65_535);
    let topic = TopicName::new(&longest).unwrap();
    let mut publish = viaduct_codec::Publish {
        dup: false,
        qos: viaduct_codec::QoS::AtMostOnce,
        retain: false,
        topic: Some(topic.by_ref()),
        packet_id: None,
        properties: Default::default(),
        payload: b"x",
    };
    publish.properties.content_type = Some(&longest);
    let mut bytes = Vec::new();
    Packet::Publish(publish.clone()).encode(Version::V5, &mut bytes).unwrap();
    let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
    assert_eq!(Packet::decode(frame, Version::V5), Ok(Packet::Publish(publish.clone())));

    let longer = "t".repeat(65_536);
    assert!(TopicRef::new(&longer).is_err());
    publish.properties.content_type = Some(&longer);
    bytes.clear();
    assert_eq!(
        Packet::Publish(publish).encode(Version::V5, &mut bytes),
        Err(EncodeError::FieldTooLong { field: "Content Type", size: 65_536 })
    );
    assert!(bytes.is_empty());
}

#[test]
fn a_packet_over_the_largest_remaining_length_is_refused() {
    let payload = vec![0_u8; 268_435_455];
    let topic = TopicName::new("t").unwrap();
    let mut publish = viaduct_codec::Publish {
        dup: false,
        qos: viaduct_codec::QoS::AtMostOnce,
        retain: false,
        topic: Some(topic.by_ref()),
        packet_id: None,
        properties: Default::default(),
        payload: &payload,
    };
    let packet = Packet::Publish(publish.clone());
    assert_eq!(packet.encoded_len(Version::V311), Err(EncodeError::PacketTooLong(268_435_458)));
    publish.payload = &payload[3..];
    assert_eq!(Packet::Publish(publish).encoded_len(Version::V311), Ok(268_435_460));
}
