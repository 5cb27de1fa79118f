//! Who is turned away before CONNECT is answered, with exactly which bytes, and what the operator reads about it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::time::Duration;

use viaduct_tests::{Broker, Certs, Raw, bytes};

const KNOWN: [u8; 5] = [3, 4, 5, 131, 132];

/// Refusals in the words of 3.x and of 5.0.
const REFUSED_3: &str = "20 02 00 01";
const REFUSED_5: &str = "20 03 00 84 00";

/// A CONNECT with this name and level, otherwise right: clean, keep alive 60, ClientID "a".
fn connect(name: &str, level: u8) -> Vec<u8> {
    let mut body = Vec::from((name.len() as u16).to_be_bytes());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&[level, 0x02, 0x00, 0x3c]);
    if level == 5 {
        body.push(0); // no properties
    }
    body.extend_from_slice(&[0x00, 0x01, b'a']);
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

fn name_of(level: u8) -> &'static str {
    if level & 0x7f == 3 { "MQIsdp" } else { "MQTT" }
}

#[test]
fn every_level_meets_every_set_of_allowed_levels() {
    // Every subset but the empty one, each a listener of its own.
    let sets: Vec<Vec<u8>> = (1_u8..32)
        .map(|bits| KNOWN.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1).map(|(_, l)| *l).collect())
        .collect();
    let mut config = String::new();
    for (index, set) in sets.iter().enumerate() {
        writeln!(
            config,
            "[[listener]]\nname = \"l{index}\"\nbind = \"127.0.0.1:@port.{index}@\"\nallowed_protocol_versions = {set:?}"
        )
        .unwrap();
    }
    let broker = Broker::start(&config);
    for (index, set) in sets.iter().enumerate() {
        for level in KNOWN {
            let mut raw = Raw::connect(broker.port(&index.to_string()));
            raw.send_bytes(&connect(name_of(level), level));
            if set.contains(&level) {
                let answer = raw.read_packet();
                assert_eq!((answer[0], answer[2], answer[3]), (0x20, 0, 0), "level {level}, allowed {set:?}");
            } else {
                raw.expect(if level == 5 { REFUSED_5 } else { REFUSED_3 }).expect_close();
            }
        }
    }
    let refused: usize = sets.iter().map(|set| KNOWN.len() - set.len()).sum();
    let counted = broker.metric("viaduct_connects_total", &[("result", "refused_level")]);
    assert_eq!(counted as usize, refused);
    // Per listener and level as well.
    let of_132 =
        broker.metric("viaduct_connects_total", &[("listener", "l0"), ("level", "132"), ("result", "refused_level")]);
    assert_eq!(of_132, 1.0);
}

#[test]
fn a_known_name_with_an_unknown_level_is_told_so_in_the_words_it_may_know() {
    let broker = Broker::start("");
    for name in ["MQIsdp", "MQTT"] {
        for level in 0..=u8::MAX {
            if KNOWN.contains(&level) && name_of(level) == name {
                continue;
            }
            let mut raw = Raw::connect(broker.address());
            raw.send_bytes(&connect(name, level));
            let expected = if level & 0x7f < 5 { REFUSED_3 } else { REFUSED_5 };
            let came = raw.read_to_end(Duration::from_secs(15));
            assert_eq!(came, bytes(expected), "{name} {level}");
        }
    }
}

#[test]
fn a_refusal_is_logged_once_a_minute_for_a_peer_with_what_the_operator_needs() {
    let config =
        "[[listener]]\nname = \"field\"\nbind = \"127.0.0.1:@port@\"\nallowed_protocol_versions = [3, 4, 5, 131]\n";
    let broker = Broker::start(config);
    for _ in 0..3 {
        let mut raw = Raw::connect_from(9, broker.address());
        raw.send_bytes(&connect("MQTT", 132)).expect(REFUSED_3).expect_close();
    }
    let line = broker.wait_for_log(&["127.0.0.9:", "132"]);
    for word in ["field", "3, 4, 5, 131"] {
        assert!(line.contains(word), "{word:?} is not in {line:?}");
    }
    // Another peer has a line of its own, and that it is there shows that no more will come for the first.
    let mut raw = Raw::connect_from(10, broker.address());
    raw.send_bytes(&connect("MQTT", 132)).expect(REFUSED_3).expect_close();
    broker.wait_for_log(&["127.0.0.10:", "132"]);
    let lines = broker.log().lines().filter(|line| line.contains("127.0.0.9:")).count();
    assert_eq!(lines, 1, "{}", broker.log());
    let labels = [("listener", "field"), ("level", "132"), ("result", "refused_level")];
    assert_eq!(broker.metric("viaduct_connects_total", &labels), 4.0);
}

/// What comes first, and a word of the log line that names it.
const NOT_MQTT: [(&str, &str); 8] = [
    // A ClientHello of TLS 1.2 as far as its version; nobody needs the rest to know it.
    ("16 03 01 02 00 01 00 01 fc 03 03", "TLS ClientHello"),
    (r#""GET / HTTP/1.1" 0d 0a"#, "HTTP request"),
    (r#""POST /mqtt HTTP/1.1" 0d 0a"#, "HTTP request"),
    (r#""SSH-2.0-OpenSSH_9.2" 0d 0a"#, "SSH"),
    (r#""PROXY TCP4 10.0.0.1 10.0.0.2 5 6" 0d 0a"#, "PROXY"),
    ("c0 00", "PINGREQ"),
    ("ff fe fd fc fb fa", "noise"),
    (r#"10 0e 00 04 "MQTX" 05 02 00 3c 00 00 01 "a""#, "protocol name"),
];

#[test]
fn what_is_not_mqtt_is_closed_at_its_first_bytes_and_named() {
    // Nothing here waits for the time limit.
    let broker = Broker::start("[limits]\nconnect_timeout = \"10m\"\n");
    for (index, (first, word)) in NOT_MQTT.into_iter().enumerate() {
        let host = 20 + u8::try_from(index).unwrap();
        Raw::connect_from(host, broker.address()).send(first).expect_close();
        let line = broker.wait_for_log(&[&format!("127.0.0.{host}:")]);
        assert!(line.to_lowercase().contains(&word.to_lowercase()), "{first}: {line:?} does not name {word:?}");
        assert!(line.contains("default"), "{line:?} does not name the listener");
    }
    let counted = broker.metric("viaduct_connects_total", &[("result", "not_mqtt")]);
    assert_eq!(counted as usize, NOT_MQTT.len());
    let line = broker.wait_for_log(&["127.0.0.20:"]);
    assert!(line.contains("plain listener"), "{line:?}");
}

#[test]
fn one_byte_at_a_time_is_no_noise() {
    let broker = Broker::start("");
    let mut raw = Raw::connect(broker.address());
    for byte in connect("MQTT", 4) {
        raw.send_bytes(&[byte]);
    }
    raw.expect("20 02 00 00");
}

#[test]
fn plain_mqtt_on_a_tls_listener_is_closed_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let _certs = Certs::make(folder.path());
    let broker = Broker::start_in(
        folder,
        "[[listener]]\nname = \"safe\"\nbind = \"127.0.0.1:@port@\"\n\
         tls = { cert_file = \"@dir@/server.pem\", key_file = \"@dir@/server.key\" }\n",
    );
    let mut raw = Raw::connect_from(30, broker.address());
    raw.send_bytes(&connect("MQTT", 4));
    raw.read_to_end(Duration::from_secs(15)); // an alert may come first
    let line = broker.wait_for_log(&["127.0.0.30:"]);
    assert!(line.contains("TLS") && line.contains("safe"), "{line:?}");
    assert_eq!(broker.metric("viaduct_connects_total", &[("listener", "safe"), ("result", "tls_failed")]), 1.0);
}

#[test]
fn a_client_that_says_nothing_is_closed_after_the_connect_timeout() {
    let broker = Broker::start("[limits]\nconnect_timeout = \"300ms\"\n");
    let began = std::time::Instant::now();
    let mut silent = Raw::connect_from(40, broker.address());
    let mut half = Raw::connect_from(41, broker.address());
    half.send(r#"10 0d 00 04 "MQ""#);
    silent.expect_close();
    half.expect_close();
    assert!(began.elapsed() >= Duration::from_millis(300), "closed too early: {:?}", began.elapsed());
    for host in ["127.0.0.40:", "127.0.0.41:"] {
        let line = broker.wait_for_log(&[host]);
        assert!(line.contains("connect_timeout"), "{line:?} does not name the setting");
    }
    assert_eq!(broker.metric("viaduct_connects_total", &[("result", "timed_out")]), 2.0);
}

#[test]
fn a_refused_client_gets_nothing_of_what_it_sent_behind_connect() {
    let broker = Broker::start(
        "[[listener]]\nbind = \"127.0.0.1:@port@\"\nallowed_protocol_versions = [5]\n[sys]\ninterval = \"0s\"\n",
    );
    let mut raw = Raw::connect(broker.address());
    let mut all = connect("MQTT", 4);
    all.extend(bytes(r#"31 05 00 01 "t" "xy""#));
    raw.send_bytes(&all).expect(REFUSED_3).expect_close();
    assert_eq!(broker.metric("viaduct_retained_messages", &[]), 0.0);
    assert_eq!(broker.metric("viaduct_messages_received_total", &[]), 0.0);
}
