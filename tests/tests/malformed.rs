//! Malformed packets and protocol errors: the right reason, a close, one log line, a counter, and nobody else disturbed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use viaduct_tests::codec::{Packet, QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Client, Hello, Raw, bytes, codec, hex};

/// What a 5.0 client sends after CONNACK, and the reasons that are right for it; the first is the one that fits best.
const BAD_5: [(&str, &str, &[u8]); 44] = [
    ("a surrogate in a topic", "30 07 00 03 ed a0 80 00 78", &[0x81, 0x90]),
    ("U+0000 in a topic", "30 06 00 02 74 00 00 78", &[0x81, 0x90]),
    ("a property length that is longer than it need be", "30 06 00 01 74 80 00 78", &[0x81]),
    ("a remaining length that is longer than it need be", "c0 80 00", &[0x81]),
    ("a remaining length of five bytes", "30 ff ff ff ff 7f", &[0x81]),
    ("a user property that is no text", "30 0c 00 01 74 07 26 00 01 ff 00 01 76 78", &[0x81]),
    ("SUBSCRIBE with other flags", "80 07 00 01 00 00 01 74 00", &[0x81]),
    ("PINGREQ with flags", "c1 00", &[0x81]),
    ("PINGREQ with a body", "c0 01 00", &[0x81]),
    ("DISCONNECT with flags", "e1 00", &[0x81]),
    ("PUBACK with flags", "41 02 00 01", &[0x81]),
    ("PUBREL with other flags", "60 02 00 0a", &[0x81]),
    ("UNSUBSCRIBE with other flags", "a0 06 00 01 00 00 01 74", &[0x81]),
    ("AUTH with flags", "f1 00", &[0x81]),
    ("packet type 0", "00 00", &[0x81]),
    ("PUBLISH with identifier 0", "32 07 00 01 74 00 00 00 78", &[0x82, 0x81]),
    ("SUBSCRIBE with identifier 0", "82 07 00 00 00 00 01 74 00", &[0x82, 0x81]),
    ("UNSUBSCRIBE with identifier 0", "a2 06 00 00 00 00 01 74", &[0x82, 0x81]),
    ("QoS 3", "36 07 00 01 74 00 0a 00 78", &[0x81]),
    ("a wildcard in a topic", "30 05 00 01 23 00 78", &[0x90, 0x81]),
    ("no topic and no alias", "30 04 00 00 00 78", &[0x82]),
    ("alias 0", "30 08 00 01 74 03 23 00 00 78", &[0x94]),
    ("an alias above the maximum", "30 08 00 01 74 03 23 00 0b 78", &[0x94]),
    ("an alias that stands for nothing", "30 07 00 00 03 23 00 01 78", &[0x82]),
    ("a wildcard in a response topic", "30 09 00 01 74 04 08 00 01 23 78", &[0x82, 0x81, 0x90]),
    ("a content type that is no text", "30 09 00 01 74 04 03 00 01 ff 78", &[0x81]),
    ("a Subscription Identifier from a client", "30 07 00 01 74 02 0b 01 78", &[0x82]),
    ("a property twice", "30 09 00 01 74 04 01 00 01 00 78", &[0x82]),
    ("a payload format that does not exist", "30 07 00 01 74 02 01 02 78", &[0x82, 0x81]),
    ("a property that does not exist", "30 07 00 01 74 02 7e 00 78", &[0x81, 0x82]),
    ("a property of another packet", "30 0a 00 01 74 05 11 00 00 00 01 78", &[0x82, 0x81]),
    ("a topic longer than its packet", "30 04 00 09 74 00", &[0x81]),
    ("PUBACK with a reason that does not exist", "40 03 00 0a 01", &[0x82, 0x81]),
    ("PUBREL with a reason that it does not have", "62 03 00 0a 91", &[0x82, 0x81]),
    ("SUBSCRIBE without filters", "82 03 00 01 00", &[0x82, 0x81]),
    ("SUBSCRIBE with reserved options", "82 07 00 01 00 00 01 74 40", &[0x81, 0x82]),
    ("SUBSCRIBE with QoS 3", "82 07 00 01 00 00 01 74 03", &[0x81, 0x82]),
    ("SUBSCRIBE with Subscription Identifier 0", "82 09 00 01 02 0b 00 00 01 74 00", &[0x82]),
    ("No Local on a shared subscription", r#"82 10 00 01 00 00 0a "$share/g/t" 04"#, &[0x82]),
    ("UNSUBSCRIBE without filters", "a2 03 00 01 00", &[0x82, 0x81]),
    ("DISCONNECT with a reason that does not exist", "e0 01 03", &[0x82, 0x81]),
    ("AUTH that nobody asked for", "f0 06 19 04 15 00 01 58", &[0x82]),
    ("a packet that only servers send", "90 04 00 01 00 00", &[0x82, 0x81]),
    ("a packet larger than anything", "30 ff ff ff 7f", &[0x95]),
];

/// What a 3.1.1 client sends after CONNACK. There is no word for it, only the close.
const BAD_3: [(&str, &str); 10] = [
    ("PINGREQ with flags", "c1 00"),
    ("SUBSCRIBE with other flags", "80 06 00 01 00 01 74 00"),
    ("SUBSCRIBE without filters", "82 02 00 01"),
    ("QoS 3", "36 06 00 01 74 00 0a 78"),
    ("PUBLISH with identifier 0", "32 06 00 01 74 00 00 78"),
    ("a wildcard in a topic", "30 04 00 01 2b 78"),
    ("an empty topic", "30 03 00 00 78"),
    ("AUTH", "f0 00"),
    ("a filter that is no text", "82 06 00 01 00 01 ff 00"),
    ("a packet that only servers send", "20 02 00 00"),
];

/// Somebody who has nothing to do with it: a subscriber and a publisher whose messages must not stop.
struct Bystander(Client);

impl Bystander {
    fn new(broker: &Broker) -> Self {
        let mut client = Hello::v311("bystander").connect(broker.address());
        client.subscribe("bystander", QoS::AtLeastOnce);
        Self(client)
    }

    #[track_caller]
    fn is_well(&mut self) {
        self.0.publish("bystander", "x", QoS::AtLeastOnce);
        assert_eq!(self.0.message().text(), "x");
    }
}

#[track_caller]
fn one_line(broker: &Broker, name: &str, context: &str) {
    broker.wait_for_log(&[name]);
    let lines: Vec<String> = broker.log().lines().filter(|line| line.contains(name)).map(str::to_owned).collect();
    assert_eq!(lines.len(), 1, "{context}: {lines:#?}");
}

#[test]
fn a_5_0_client_is_told_the_reason() {
    let broker = Broker::start("");
    let mut bystander = Bystander::new(&broker);
    let mut wrong = Vec::new();
    for (index, (what, sent, reasons)) in BAD_5.into_iter().enumerate() {
        let name = format!("bad-{index}-");
        let counted = broker.metric("viaduct_protocol_errors_total", &[]);
        let mut client = Hello::v5(&name).connect(broker.address());
        client.send_bytes(&bytes(sent));
        let mut raw = Raw::over(std::mem::replace(client.stream(), viaduct_tests::Stream::plain(broker.address())));
        let answer = raw.read_to_end(Duration::from_secs(15));
        let said = match codec::Frame::split(&answer, u32::MAX).unwrap().map(|frame| Packet::decode(frame, Version::V5))
        {
            Some(Ok(Packet::Disconnect(disconnect))) => disconnect.reason.0,
            other => {
                wrong.push(format!("{what}: instead of DISCONNECT came {other:?} ({})", hex(&answer)));
                continue;
            }
        };
        if !reasons.contains(&said) {
            wrong.push(format!("{what}: the reason is {said:#04x} instead of {:#04x}", reasons[0]));
        }
        one_line(&broker, &name, what);
        broker.wait_for_metric("viaduct_protocol_errors_total", &[], |now| now == counted + 1.0);
        bystander.is_well();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_3_1_1_client_is_closed() {
    let broker = Broker::start("");
    let mut bystander = Bystander::new(&broker);
    for (index, (what, sent)) in BAD_3.into_iter().enumerate() {
        let name = format!("bad-{index}-");
        let counted = broker.metric("viaduct_protocol_errors_total", &[]);
        let mut client = Hello::v311(&name).connect(broker.address());
        client.send_bytes(&bytes(sent));
        client.expect_closed();
        one_line(&broker, &name, what);
        broker.wait_for_metric("viaduct_protocol_errors_total", &[], |now| now == counted + 1.0);
        bystander.is_well();
    }
}

/// CONNECTs that are none, and whether the client is told (it speaks 5.0 then).
const BAD_CONNECT: [(&str, &str); 16] = [
    ("5.0: reserved flag", r#"10 0e 00 04 "MQTT" 05 03 00 3c 00 00 01 "a""#),
    ("5.0: will flag without a will", r#"10 0e 00 04 "MQTT" 05 06 00 3c 00 00 01 "a""#),
    ("5.0: will QoS without a will", r#"10 0e 00 04 "MQTT" 05 0a 00 3c 00 00 01 "a""#),
    ("5.0: will QoS 3", r#"10 15 00 04 "MQTT" 05 1e 00 3c 00 00 01 "a" 00 00 01 "w" 00 01 "x""#),
    ("5.0: will retain without a will", r#"10 0e 00 04 "MQTT" 05 22 00 3c 00 00 01 "a""#),
    ("5.0: user name flag without a user name", r#"10 0e 00 04 "MQTT" 05 82 00 3c 00 00 01 "a""#),
    ("5.0: a user name without its flag", r#"10 11 00 04 "MQTT" 05 02 00 3c 00 00 01 "a" 00 01 "u""#),
    ("5.0: no ClientID at all", r#"10 0b 00 04 "MQTT" 05 02 00 3c 00"#),
    ("5.0: a ClientID that is no text", r#"10 0e 00 04 "MQTT" 05 02 00 3c 00 00 01 ff"#),
    ("5.0: a will topic with a wildcard", r#"10 15 00 04 "MQTT" 05 06 00 3c 00 00 01 "a" 00 00 01 23 00 01 "x""#),
    ("5.0: receive maximum 0", r#"10 11 00 04 "MQTT" 05 02 00 3c 03 21 00 00 00 01 "a""#),
    ("5.0: maximum packet size 0", r#"10 13 00 04 "MQTT" 05 02 00 3c 05 27 00 00 00 00 00 01 "a""#),
    ("5.0: session expiry twice", r#"10 18 00 04 "MQTT" 05 02 00 3c 0a 11 00 00 00 01 11 00 00 00 01 00 01 "a""#),
    ("3.1.1: reserved flag", r#"10 0d 00 04 "MQTT" 04 03 00 3c 00 01 "a""#),
    ("3.1.1: a password without a user name", r#"10 10 00 04 "MQTT" 04 42 00 3c 00 01 "a" 00 01 "p""#),
    ("3.1.1: flags in the fixed header", r#"11 0d 00 04 "MQTT" 04 02 00 3c 00 01 "a""#),
];

#[test]
fn a_connect_that_is_none_is_refused_in_its_own_words() {
    let broker = Broker::start("");
    let mut bystander = Bystander::new(&broker);
    let mut wrong = Vec::new();
    for (index, (what, sent)) in BAD_CONNECT.into_iter().enumerate() {
        let host = 60 + u8::try_from(index).unwrap();
        let mut raw = Raw::connect_from(host, broker.address());
        let answer = raw.send(sent).read_to_end(Duration::from_secs(15));
        if what.starts_with("5.0") {
            let frame = codec::Frame::split(&answer, u32::MAX).unwrap();
            match frame.map(|frame| Packet::decode(frame, Version::V5)) {
                Some(Ok(Packet::Connack(connack)))
                    if [ReasonCode::MALFORMED_PACKET, ReasonCode::PROTOCOL_ERROR, ReasonCode::TOPIC_NAME_INVALID]
                        .contains(&connack.reason) => {}
                // The standard leaves the CONNACK to the server; ours promises the reason code.
                other => wrong.push(format!("{what}: instead of a CONNACK that says so came {other:?}")),
            }
        } else if !answer.is_empty() {
            wrong.push(format!("{what}: 3.1.1 has no word for it, but {} came", hex(&answer)));
        }
        one_line(&broker, &format!("127.0.0.{host}:"), what);
        bystander.is_well();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let counted: f64 = ["refused_connect", "not_mqtt"]
        .into_iter()
        .map(|result| broker.metric("viaduct_connects_total", &[("result", result)]))
        .sum();
    assert_eq!(counted as usize, BAD_CONNECT.len());
}

#[test]
fn a_filter_that_is_none_is_refused_with_its_reason() {
    let broker = Broker::start("");
    for filter in ["a#", "a/#/b", "#/", "a+", "+a/b", "$share//t", "$share/g", "$share/g+/t"] {
        let mut raw = Raw::connect(broker.address());
        raw.send_bytes(&Hello::v5("client").bytes());
        raw.read_packet();
        let mut body = vec![0x00, 0x01, 0x00, 0x00, u8::try_from(filter.len()).unwrap()];
        body.extend(filter.bytes());
        body.push(0);
        let mut packet = vec![0x82, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        let answer = raw.send_bytes(&packet).read_packet();
        let frame = codec::Frame::split(&answer, u32::MAX).unwrap().unwrap();
        let reason = match Packet::decode(frame, Version::V5).unwrap() {
            Packet::Suback(suback) => suback.reasons[0].0,
            Packet::Disconnect(disconnect) => disconnect.reason.0,
            other => panic!("{filter}: {other:?}"),
        };
        assert!([0x81, 0x82, 0x8f].contains(&reason), "{filter}: {}", hex(&answer));
    }
}

#[test]
fn noise_of_any_kind_never_ends_the_broker() {
    let broker = Broker::start("");
    let mut bystander = Bystander::new(&broker);
    // A small generator with a fixed start: the same noise every time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let version = [Version::V31, Version::V311, Version::V5][round % 3];
        let mut bytes = Hello::of(version, "noise").bytes();
        if round % 4 == 0 {
            let at = random() as usize % bytes.len();
            bytes[at] ^= (random() as u8).max(1);
        }
        for _ in 0..random() % 8 {
            let length = (random() % 24) as u8;
            bytes.push((random() as u8) | 0x10);
            bytes.push(length);
            bytes.extend((0..length).map(|_| random() as u8 % 8));
        }
        let mut raw = Raw::connect(broker.address());
        raw.send_bytes(&bytes).finish_writing();
        raw.read_to_end(Duration::from_secs(15));
    }
    bystander.is_well();
}
