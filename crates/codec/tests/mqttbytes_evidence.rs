//! Why mqttbytes is not the wire codec: what docs/decisions/0002 says of it, reproduced.
//!
//! When one of these fails because a newer mqttbytes got better, the page deserves another look.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod table;

use bytes::BytesMut;
use mqttbytes::{Error, matches, v4, v5, valid_filter, valid_topic};
use viaduct_codec::{Frame, Packet, Version};

/// 15 legal packets; the first seven are refused.
const LEGAL: [(Version, &str); 15] = [
    (Version::V31, "10 0F 0006 4D5149736470 03 02 003C 0001 61"), // MQTT 3.1
    (Version::V31, "10 0F 0006 4D5149736470 83 02 003C 0001 61"), // a 3.1 bridge
    (Version::V311, "10 0D 0004 4D515454 84 02 003C 0001 61"),    // a 3.1.1 bridge
    (Version::V311, "10 14 0004 4D515454 04 C2 003C 0001 61 0001 75 0002 FFFE"), // a binary password
    (Version::V5, "E0 00"),                                       // what every 5.0 client sends
    (Version::V5, "E0 01 04"),                                    // DISCONNECT with a reason
    (Version::V5, "F0 06 18 04 15 0001 58"),                      // AUTH
    (Version::V311, "10 0D 0004 4D515454 04 02 003C 0001 61"),
    (Version::V311, "20 02 01 00"),
    (Version::V311, "32 06 0001 74 000A 78"),
    (Version::V311, "82 0A 0001 0001 61 00 0001 62 01"),
    (Version::V311, "A2 05 0001 0001 74"),
    (Version::V5, "10 0E 0004 4D515454 05 02 003C 00 0001 61"),
    (Version::V5, "30 05 0001 74 00 78"),
    (Version::V5, "40 03 0001 10"),
];

/// 40 malformed packets; the first three are refused.
const MALFORMED: [(Version, &str); 40] = [
    (Version::V311, "36 06 0001 74 000A 78"),                          // QoS 3
    (Version::V311, "30 05 0002 C328 78"),                             // not UTF-8
    (Version::V311, "30 FFFFFFFF01"),                                  // Remaining Length of five bytes
    (Version::V311, "10 0D 0004 4D515454 04 03 003C 0001 61"),         // reserved connect flag
    (Version::V311, "10 10 0004 4D515454 04 02 003C 0001 61 0001 75"), // a user name without its flag
    (Version::V311, "10 10 0004 4D515454 04 42 003C 0001 61 0001 70"), // a password without a user name
    (Version::V311, "10 0D 0004 4D515454 04 02 003C 0001 00"),         // U+0000 in the ClientID
    (Version::V311, "10 13 0004 4D515454 04 06 003C 0001 61 0001 23 0001 78"), // a wildcard in the will topic
    (Version::V311, "12 0D 0004 4D515454 04 02 003C 0001 61"),         // flags of CONNECT
    (Version::V311, "20 02 02 00"),                                    // CONNACK flags
    (Version::V311, "38 04 0001 74 78"),                               // DUP at QoS 0
    (Version::V311, "30 05 0002 7400 78"),                             // U+0000 in a topic
    (Version::V311, "30 06 0003 742F23 78"),                           // a wildcard in a topic
    (Version::V311, "30 03 0000 78"),                                  // an empty topic
    (Version::V311, "60 02 000A"),                                     // flags of PUBREL
    (Version::V311, "40 02 0000"),                                     // Packet Identifier 0
    (Version::V311, "40 03 000A 00"),                                  // bytes after the last field
    (Version::V311, "80 06 0001 0001 74 00"),                          // flags of SUBSCRIBE
    (Version::V311, "82 06 0000 0001 74 00"),                          // Packet Identifier 0
    (Version::V311, "82 02 0001"),                                     // no filter
    (Version::V311, "82 06 0001 0001 74 80"),                          // reserved bits of the QoS byte
    (Version::V311, "82 0A 0001 0005 612F232F62 00"),                  // '#' in the middle
    (Version::V311, "82 07 0001 0002 612B 00"),                        // '+' beside a letter
    (Version::V311, "A0 05 0001 0001 74"),                             // flags of UNSUBSCRIBE
    (Version::V311, "A2 02 0001"),                                     // no filter
    (Version::V311, "C1 00"),                                          // flags of PINGREQ
    (Version::V311, "C0 01 00"),                                       // PINGREQ with a body
    (Version::V311, "C0 80 00"),                                       // a longer length than needed
    (Version::V311, "E0 01 00"),                                       // DISCONNECT with a body
    (Version::V5, "10 11 0004 4D515454 05 02 003C 03 21 0000 0001 61"), // Receive Maximum 0
    (Version::V5, "10 10 0004 4D515454 05 02 003C 02 19 02 0001 61"),  // a flag of value 2
    (Version::V5, "10 12 0004 4D515454 05 02 003C 04 16 0001 58 0001 61"), // data without a method
    (Version::V5, "30 08 0001 74 03 23 0000 78"),                      // Topic Alias 0
    (Version::V5, "30 07 0001 74 02 0B 00 78"),                        // Subscription Identifier 0
    (Version::V5, "30 09 0001 74 04 01 00 01 00 78"),                  // a property twice
    (Version::V5, "30 06 0001 74 01 01 78"),                           // a property past its section
    (Version::V5, "30 09 0001 74 04 08 0001 23 78"),                   // a wildcard in Response Topic
    (Version::V5, "82 10 0001 00 000A 24 7368617265 2F672F74 04"),     // No Local on a shared subscription
    (Version::V5, "82 0F 0001 00 0009 24 7368617265 2F2F74 00"),       // a share without a name
    (Version::V5, "82 07 0001 00 0001 74 40"),                         // reserved option bits
];

fn hex(text: &str) -> Vec<u8> {
    table::hex(text, text)
}

/// Whether mqttbytes accepts one whole packet. 3.1 goes to its 3.1.1 half, as it has nothing nearer.
fn mqttbytes_accepts(version: Version, bytes: &[u8]) -> bool {
    let mut stream = BytesMut::from(bytes);
    match version {
        Version::V31 | Version::V311 => v4::read(&mut stream, 1000).is_ok(),
        Version::V5 => v5::read(&mut stream, 1000).is_ok(),
    }
}

fn ours_accepts(version: Version, bytes: &[u8]) -> bool {
    Frame::split(bytes, 1000).is_ok_and(|frame| frame.is_some_and(|frame| Packet::decode(frame, version).is_ok()))
}

#[test]
fn of_55_packets_mqttbytes_gets_44_wrong_and_ours_none() {
    let count = |packets: &[(Version, &str)], accepts: fn(Version, &[u8]) -> bool| {
        packets.iter().filter(|(version, bytes)| accepts(*version, &hex(bytes))).count()
    };
    assert_eq!(count(&LEGAL, ours_accepts), 15);
    assert_eq!(count(&MALFORMED, ours_accepts), 0);
    let refused = LEGAL.len() - count(&LEGAL, mqttbytes_accepts);
    let accepted = count(&MALFORMED, mqttbytes_accepts);
    assert_eq!((refused, accepted, refused + accepted), (7, 37, 44));
}

#[test]
fn of_all_vectors_about_half_of_the_malformed_are_accepted() {
    let (mut malformed, mut accepted) = (0, 0);
    for vector in table::vectors() {
        let wrong = ["ok", "wait", "large"].iter().all(|verdict| !vector.verdict.starts_with(verdict));
        if vector.version != Version::V31 && wrong {
            malformed += 1;
            accepted += usize::from(mqttbytes_accepts(vector.version, &vector.bytes));
        }
    }
    // When this page was written: 125 of 243.
    assert!(accepted >= 125 && malformed >= 243, "{accepted} of {malformed}");
}

#[test]
fn defect_1_a_connack_of_5_0_is_written_without_its_property_length() {
    let connack = v5::ConnAck::new(v5::ConnectReturnCode::Success, false);
    let mut bytes = BytesMut::new();
    connack.write(&mut bytes).unwrap();
    assert_eq!(bytes[..], hex("20 02 00 00"));
    assert!(!ours_accepts(Version::V5, &bytes), "as mosquitto_pub and paho refuse it");
}

#[test]
fn defect_2_it_can_not_read_the_disconnect_that_it_writes() {
    let mut bytes = BytesMut::new();
    v5::Disconnect::new().write(&mut bytes).unwrap();
    assert_eq!(bytes[..], hex("E0 00"));
    assert_eq!(v5::read(&mut bytes, 1000), Err(Error::PayloadRequired));
    bytes.clear();
    let mut busy = v5::Disconnect::new();
    busy.reason_code = v5::DisconnectReasonCode::ServerBusy;
    busy.write(&mut bytes).unwrap();
    assert_eq!(v5::read(&mut bytes, 1000), Err(Error::InsufficientBytes(1)));
    // With an empty property section, two bytes of body, the reason code is lost.
    bytes.clear();
    busy.properties = Some(v5::DisconnectProperties::new());
    busy.write(&mut bytes).unwrap();
    assert_eq!(bytes[..], hex("E0 00"));
}

#[test]
fn defect_3_a_malformed_packet_is_reported_as_not_enough_bytes_and_is_gone() {
    let mut stream = BytesMut::from(&hex("E0 01 04")[..]);
    assert!(matches!(v5::read(&mut stream, 1000), Err(Error::InsufficientBytes(_))));
    assert!(stream.is_empty());
}

#[test]
fn defect_4_there_is_no_auth() {
    let mut stream = BytesMut::from(&hex("F0 00")[..]);
    assert_eq!(v5::read(&mut stream, 1000), Err(Error::InvalidPacketType(15)));
}

#[test]
fn defect_5_there_is_no_3_1_and_there_are_no_bridge_levels() {
    let mut stream = BytesMut::from(&hex("10 0F 0006 4D5149736470 03 02 003C 0001 61")[..]);
    assert_eq!(v4::read(&mut stream, 1000), Err(Error::InvalidProtocol));
    let mut stream = BytesMut::from(&hex("10 0D 0004 4D515454 84 02 003C 0001 61")[..]);
    assert_eq!(v4::read(&mut stream, 1000), Err(Error::InvalidProtocolLevel(132)));
}

#[test]
fn defect_6_the_3_1_1_half_reads_a_5_0_connect_and_gets_it_wrong() {
    let mut stream = BytesMut::from(&hex("10 0E 0004 4D515454 05 02 003C 00 0001 61")[..]);
    let v4::Packet::Connect(connect) = v4::read(&mut stream, 1000).unwrap() else { panic!("a CONNECT") };
    assert_eq!(connect.client_id, "", "the ClientID is \"a\"");
}

#[test]
fn defect_7_absent_and_empty_credentials_are_the_same() {
    let mut stream = BytesMut::from(&hex("10 0F 0004 4D515454 04 82 003C 0001 61 0000")[..]);
    let v4::Packet::Connect(connect) = v4::read(&mut stream, 1000).unwrap() else { panic!("a CONNECT") };
    assert_eq!(connect.login, None);
}

#[test]
fn defect_8_subscription_identifiers_run_into_the_payload() {
    let bytes = hex("30 0B 0001 74 06 0B 01 0B 02 0B 03 50");
    let v5::Packet::Publish(publish) = v5::read(&mut BytesMut::from(&bytes[..]), 1000).unwrap() else {
        panic!("a PUBLISH")
    };
    assert_eq!(publish.payload.len(), 3, "the payload is one byte");
    let frame = Frame::split(&bytes, 1000).unwrap().unwrap();
    let Packet::Publish(publish) = Packet::decode(frame, Version::V5).unwrap() else { panic!("a PUBLISH") };
    assert_eq!((publish.payload, publish.properties.subscription_ids.len()), (&b"P"[..], 3));
}

#[test]
fn defect_13_a_connect_that_is_not_first_in_its_buffer_spoils_what_is() {
    let mut bytes = BytesMut::new();
    v4::PubAck::new(1).write(&mut bytes).unwrap();
    bytes.extend_from_slice(&[0xaa; 16]);
    let before = bytes.to_vec();
    let mut connect = v4::Connect::new("a");
    connect.set_login("u", "p");
    let said = connect.write(&mut bytes).unwrap();
    assert_ne!(bytes[..before.len()], before);
    assert_ne!(said, bytes.len() - before.len(), "the length that it returns is short by the fixed header");
}

#[test]
fn defect_14_a_topic_over_65_535_bytes_is_cut_and_written() {
    let publish = v4::Publish::new("t".repeat(70_000), mqttbytes::QoS::AtMostOnce, "x");
    let mut bytes = BytesMut::new();
    publish.write(&mut bytes).unwrap();
    let v4::Packet::Publish(read) = v4::read(&mut bytes, 100_000).unwrap() else { panic!("a PUBLISH") };
    assert_eq!((read.topic.len(), read.payload.len()), (4_464, 65_537));
}

#[test]
fn defect_15_a_failed_write_leaves_half_a_packet() {
    let publish = v4::Publish::new("t", mqttbytes::QoS::AtLeastOnce, "x");
    let mut bytes = BytesMut::new();
    assert_eq!(publish.write(&mut bytes), Err(Error::PacketIdZero));
    assert!(!bytes.is_empty());
}

#[test]
fn defect_16_matching_a_legal_topic_panics() {
    let quiet = std::panic::catch_unwind(|| matches("é/x", "é/x"));
    assert!(quiet.is_err(), "a topic that begins with a character of two bytes");
    assert!(!matches("$SYS/a", "$SYS/a"), "not even literally");
}

#[test]
fn defect_17_the_checks_of_names_and_filters_let_pass_what_is_forbidden() {
    for filter in ["a+/b", "++", "a\0", "$share//a"] {
        assert!(valid_filter(filter), "{filter:?}");
        assert!(viaduct_codec::TopicFilter::new(filter).is_err(), "{filter:?}");
    }
    for topic in ["", "a\0"] {
        assert!(valid_topic(topic), "{topic:?}");
        assert!(viaduct_codec::TopicName::new(topic).is_err(), "{topic:?}");
    }
}
