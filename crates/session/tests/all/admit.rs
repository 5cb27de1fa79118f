//! CONNECT against what a listener offers, byte for byte.

use viaduct_codec::{Frame, Level, Packet, ReasonCode, Version};
use viaduct_session::server::{Refusal, RefusalKind, Terms};

use crate::broker::{Broker, framed, hex, unhex, v3, v4, v5};

/// CONNECT of a client with this ClientID, Clean Start and level.
fn connect(level: u8, clean: bool, client_id: &str) -> String {
    let name = if level & 0x7f == 3 { "00 06 4d 51 49 73 64 70" } else { "00 04 4d 51 54 54" };
    let flags = if clean { "02" } else { "00" };
    let properties = if level == 5 { "00" } else { "" };
    let id = hex(client_id.as_bytes());
    framed("10", &format!("{name} {level:02x} {flags} 00 3c {properties} 00 {:02x} {id}", client_id.len()))
}

fn refused(broker: &mut Broker, connect: &str) -> (u8, String) {
    let refusal = broker.try_connect(connect).unwrap_err();
    (refusal.reason.0, hex(&refusal.answer))
}

#[test]
fn every_level_against_every_set_of_levels() {
    let all = Level::ALL;
    for set in 0..32_u8 {
        let allowed: Vec<Level> = (0..5).filter(|bit| set & (1 << bit) != 0).map(|bit| all[bit]).collect();
        for level in all {
            let mut broker = Broker::with(Terms { allowed_levels: allowed.clone(), ..Terms::default() });
            let result = broker.try_connect(&connect(level.byte(), true, "a"));
            if allowed.contains(&level) {
                assert!(result.is_ok(), "{level} with {allowed:?}");
                assert_eq!(broker.session.level(), Some(level));
                continue;
            }
            let refusal = result.unwrap_err();
            let expected = if level == Level::V5 { "20 03 00 84 00" } else { "20 02 00 01" };
            assert_eq!(hex(&refusal.answer), expected, "{level} with {allowed:?}");
            assert_eq!(refusal.reason, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
            assert_eq!(refusal.why, RefusalKind::Level { offered: level.byte(), allowed: allowed.clone() });
        }
    }
}

#[test]
fn unknown_levels_are_refused_in_the_words_that_they_come_closest_to() {
    for (name, level, answer) in [
        ("00 04 4d 51 54 54", 0, "20 02 00 01"),
        ("00 04 4d 51 54 54", 3, "20 02 00 01"),
        ("00 06 4d 51 49 73 64 70", 4, "20 02 00 01"),
        ("00 04 4d 51 54 54", 131, "20 02 00 01"),
        ("00 06 4d 51 49 73 64 70", 132, "20 02 00 01"),
        ("00 04 4d 51 54 54", 6, "20 03 00 84 00"),
        ("00 04 4d 51 54 54", 133, "20 03 00 84 00"),
        ("00 04 4d 51 54 54", 255, "20 03 00 84 00"),
    ] {
        let mut broker = Broker::new();
        let packet = framed("10", &format!("{name} {level:02x} 02 00 3c 00 01 61"));
        assert_eq!(refused(&mut broker, &packet), (0x84, answer.into()), "{packet}");
    }
}

#[test]
fn a_malformed_connect_is_told_so_in_5_0_and_only_closed_in_3() {
    let mut broker = Broker::new();
    // Reserved connect flag, and Receive Maximum 0 (trap 28).
    assert_eq!(
        refused(&mut broker, "10 0e 00 04 4d 51 54 54 05 03 00 3c 00 00 01 61"),
        (0x81, "20 03 00 81 00".into())
    );
    assert_eq!(refused(&mut broker, &v5(true, "21 00 00")), (0x82, "20 03 00 82 00".into()));
    assert_eq!(refused(&mut broker, &v5(true, "27 00 00 00 00")), (0x82, "20 03 00 82 00".into()));
    assert_eq!(refused(&mut broker, "10 0d 00 04 4d 51 54 54 04 03 00 3c 00 01 61"), (0x81, String::new()));
}

#[test]
fn what_is_no_mqtt_is_only_closed() {
    for noise in ["16 03 01 02 00 01 00 01 fc 03 03", "47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31 0d 0a"] {
        let bytes = unhex(noise);
        let error = match Frame::split(&bytes, 1 << 20) {
            Ok(Some(frame)) => Packet::decode(frame, Version::V311).map(|_| ()).unwrap_err(),
            Ok(None) => continue,
            Err(error) => error,
        };
        assert!(Refusal::from_decode(&error, &bytes).answer.is_empty());
    }
}

#[test]
fn an_accepted_connect_is_answered_exactly() {
    let mut broker = Broker::new();
    assert_eq!(broker.connect(&v3(true)), "20 02 00 00");
    assert_eq!(broker.connect(&v4(true)), "20 02 00 00");
    assert_eq!(broker.connect(&v5(true, "")), "20 0e 00 00 0b 21 00 64 27 00 10 00 00 22 00 0a");
}

#[test]
fn an_empty_client_id_is_assigned_where_the_version_allows_it() {
    // trap 74
    for (level, clean, answer) in [
        (3, true, Some("20 02 00 02")),
        (3, false, Some("20 02 00 02")),
        (4, false, Some("20 02 00 02")),
        (4, true, None),
        (131, true, Some("20 02 00 02")),
        (132, true, None),
        (5, true, None),
        (5, false, None),
    ] {
        let mut broker = Broker::new();
        match (broker.try_connect(&connect(level, clean, "")), answer) {
            (Ok(connack), None) => {
                let told = connack.contains("12 00 07 6d 61 64 65 2d 75 70");
                assert_eq!(told, level == 5, "MQTT-3.2.2-16: {connack}");
            }
            (Err(refusal), Some(answer)) => {
                assert_eq!(hex(&refusal.answer), answer);
                assert_eq!(refusal.reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
            }
            (result, _) => panic!("level {level}, clean {clean}: {result:?}"),
        }
    }
}

#[test]
fn a_client_id_over_the_limit_is_refused() {
    for (level, answer) in [(3, "20 02 00 02"), (4, "20 02 00 02"), (5, "20 03 00 85 00")] {
        let mut broker = Broker::with(Terms { max_client_id_length: 23, ..Terms::default() });
        assert!(broker.try_connect(&connect(level, true, &"c".repeat(23))).is_ok());
        let id = "c".repeat(24);
        assert_eq!(refused(&mut broker, &connect(level, true, &id)), (0x85, answer.into()));
    }
}

#[test]
fn the_session_expiry_is_capped_and_the_cap_is_told() {
    // U5-3.2.2.3.2, trap 37
    let mut broker = Broker::with(Terms { max_session_expiry: Some(60), ..Terms::default() });
    assert!(broker.connect(&v5(true, "11 00 00 0e 10")).contains("11 00 00 00 3c"));
    assert_eq!(broker.session.session_expiry(), 60);
    assert!(!broker.connect(&v5(true, "11 00 00 00 0a")).contains("11 00 00 00 0a"));
    assert_eq!(broker.session.session_expiry(), 10);
    broker.connect(&v5(true, ""));
    assert_eq!(broker.session.session_expiry(), 0);
    broker.connect(&v4(false));
    assert_eq!(broker.session.session_expiry(), 60);
}

#[test]
fn clean_session_of_3_lives_as_long_as_the_connection_and_the_other_for_ever() {
    let mut broker = Broker::new();
    broker.connect(&v4(true));
    assert_eq!(broker.session.session_expiry(), 0);
    broker.connect(&v4(false));
    assert_eq!(broker.session.session_expiry(), u32::MAX);
}

#[test]
fn a_retained_will_is_refused_when_nothing_is_retained() {
    // MQTT-3.2.2-13; 3.x cannot be told
    let terms = Terms { retain_available: false, ..Terms::default() };
    let mut broker = Broker::with(terms);
    let will5 = "10 15 00 04 4d 51 54 54 05 26 00 3c 00 00 01 61 00 00 01 77 00 01 78";
    assert_eq!(refused(&mut broker, will5), (0x9a, "20 03 00 9a 00".into()));
    let will4 = "10 13 00 04 4d 51 54 54 04 26 00 3c 00 01 61 00 01 77 00 01 78";
    assert_eq!(broker.connect(will4), "20 02 00 00");
    assert!(broker.connect(&v5(true, "")).contains("25 00"), "Retain Available 0 is announced");
}

#[test]
fn an_authentication_method_that_nobody_speaks_is_refused() {
    let mut broker = Broker::new();
    assert_eq!(refused(&mut broker, &v5(true, "15 00 01 58")), (0x8c, "20 03 00 8c 00".into()));
}

#[test]
fn a_method_that_is_offered_is_named_in_connack_and_in_no_other() {
    // MQTT-4.12.0-5, MQTT-4.12.0-6
    let terms = || Terms { authentication_methods: vec!["X".into(), "Y".into()], ..Terms::default() };
    let mut broker = Broker::with(terms());
    assert!(broker.connect(&v5(true, "15 00 01 59")).ends_with("15 00 01 59"));
    assert!(!broker.connect(&v5(true, "")).contains("15 00 01"));
    assert_eq!(refused(&mut broker, &v5(true, "15 00 01 5a")), (0x8c, "20 03 00 8c 00".into()));
    // MQTT-3.1.2-24: the name alone makes the answer too large for this client
    let connack = Broker::with(terms()).connect(&v5(true, "")).split(' ').count();
    let mut broker = Broker::with(terms());
    let size = format!("27 00 00 00 {connack:02x}");
    assert!(broker.try_connect(&v5(true, &size)).is_ok());
    let refusal = broker.try_connect(&v5(true, &format!("{size} 15 00 01 59"))).unwrap_err();
    assert_eq!((refusal.reason.0, hex(&refusal.answer)), (0x95, "20 03 00 95 00".into()));
}

#[test]
fn a_bridge_that_asks_is_told_the_name_and_nobody_else_is() {
    let pair = |value: &str| {
        let mut encoded = Vec::new();
        assert!(viaduct_codec::UserProperties::push(&mut encoded, viaduct_session::NODE_PROPERTY, value));
        encoded
    };
    let terms = || Terms { introduction: pair("hub"), ..Terms::default() };
    let (asks, answer) = (hex(&pair("edge")), hex(&pair("hub")));
    assert!(Broker::with(terms()).connect(&v5(true, &asks)).ends_with(&answer));
    assert!(!Broker::with(terms()).connect(&v5(true, "")).contains(&answer));
    assert!(!Broker::with(terms()).connect(&v5(true, "26 00 01 61 00 01 62")).contains(&answer), "another property");
    assert!(!Broker::new().connect(&v5(true, &asks)).contains("26 00"), "a broker without a name says none");
    // MQTT-3.2.2-20: not to a client that may not take it.
    let small = Broker::with(terms()).connect(&v5(true, &format!("27 00 00 04 00 {asks}")));
    assert!(small.starts_with("20") && !small.contains(&answer), "{small}");
}

#[test]
fn a_bridge_says_which_it_is_and_whether_it_is_the_only_one() {
    use viaduct_session::{BRIDGE_PROPERTY, LEAF_PROPERTY, NODE_PROPERTY};
    // (what CONNECT says, the name, the bridge, whether it is a leaf)
    let table: [(&[(&str, &str)], _); 5] = [
        (&[], None),
        (&[(BRIDGE_PROPERTY, "up"), (LEAF_PROPERTY, "1")], None),
        (&[(NODE_PROPERTY, "edge")], Some(("edge", None, false))),
        (&[(NODE_PROPERTY, "edge"), (BRIDGE_PROPERTY, "up"), (LEAF_PROPERTY, "1")], Some(("edge", Some("up"), true))),
        (&[(NODE_PROPERTY, "edge"), (LEAF_PROPERTY, "0")], Some(("edge", None, false))),
    ];
    for (said, expected) in table {
        let mut encoded = Vec::new();
        for (name, value) in said {
            assert!(viaduct_codec::UserProperties::push(&mut encoded, name, value));
        }
        let bytes = unhex(&v5(true, &hex(&encoded)));
        let Packet::Connect(connect) =
            Packet::decode(Frame::split(&bytes, 999).unwrap().unwrap(), Version::V5).unwrap()
        else {
            panic!("no CONNECT")
        };
        let now = viaduct_codec::Time::from_millis(1);
        let admission = viaduct_session::server::admit(&connect, &Terms::default(), now, || "a".into()).unwrap();
        let node = admission.node.as_ref().map(|node| (&*node.name, node.bridge.as_deref(), node.is_leaf));
        assert_eq!(node, expected, "{said:?}");
    }
}

#[test]
fn the_last_words_of_a_method_have_to_fit_as_well() {
    let terms = Terms { authentication_methods: vec!["X".into()], ..Terms::default() };
    let bytes = unhex(&v5(true, "15 00 01 58 27 00 00 00 40"));
    let Packet::Connect(connect) = Packet::decode(Frame::split(&bytes, 99).unwrap().unwrap(), Version::V5).unwrap()
    else {
        panic!("no CONNECT")
    };
    let now = viaduct_codec::Time::from_millis(1);
    let mut admission = viaduct_session::server::admit(&connect, &terms, now, || "a".into()).unwrap();
    assert!(admission.check_connack(&terms).is_ok());
    admission.authentication.as_mut().unwrap().data = Some(vec![b'x'; 64]);
    let refusal = admission.check_connack(&terms).unwrap_err();
    assert_eq!(refusal.reason, ReasonCode::PACKET_TOO_LARGE);
}

#[test]
fn a_refusal_has_the_shape_of_its_version() {
    let answer = |version, reason| hex(&Refusal::new(version, reason, RefusalKind::BadLogin).answer);
    for (reason, code) in [
        (ReasonCode::BAD_USER_NAME_OR_PASSWORD, "04"),
        (ReasonCode::NOT_AUTHORIZED, "05"),
        (ReasonCode::SERVER_UNAVAILABLE, "03"),
        (ReasonCode::QUOTA_EXCEEDED, "03"),
    ] {
        assert_eq!(answer(Version::V5, reason), format!("20 03 00 {:02x} 00", reason.0));
        assert_eq!(answer(Version::V311, reason), format!("20 02 00 {code}"));
        assert_eq!(answer(Version::V31, reason), format!("20 02 00 {code}"));
    }
    assert_eq!(answer(Version::V311, ReasonCode::PACKET_TOO_LARGE), "");
}
