//! WebSocket listeners: the upgrade, frames in every shape, and the same wills and takeovers as on every other listener.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use viaduct_tests::codec::{QoS, ReasonCode, Version};
use viaduct_tests::{
    Broker, Certs, Client, DEADLINE, Hello, Raw, Stream, WillMessage, bytes, client_frame, read_frame, read_head,
    upgrade_request,
};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const WS: &str = "[[listener]]\nname = \"ws\"\nbind = \"127.0.0.1:@port@\"\ntransport = \"ws\"\n";

const BINARY: u8 = 0x82;
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// CONNECT of a client without will, by level; then its CONNACK.
const CONNECT_311: &str = "10 0d 00 04 \"MQTT\" 04 02 00 3c 00 01 \"a\"";
const CONNACK_311: &str = "20 02 00 00";
const SUBSCRIBE_311: &str = "82 06 00 01 00 01 \"t\" 00";
const SUBACK_311: &str = "90 03 00 01 00";
const PINGREQ: &str = "c0 00";
const PINGRESP: &str = "d0 00";

/// Asks for an upgrade from 127.0.0.`host` and returns the head of the answer.
fn ask(host: u8, broker: &Broker, request: &str) -> (Raw, String) {
    let mut raw = Raw::connect_from(host, broker.address());
    raw.send_bytes(request.as_bytes());
    let head = read_head(&mut raw);
    (raw, head)
}

/// An open WebSocket on which every frame is the test's.
fn open(broker: &Broker) -> Raw {
    open_from(1, broker)
}

fn open_from(host: u8, broker: &Broker) -> Raw {
    let (raw, head) = ask(host, broker, &upgrade_request("/mqtt", "mqtt"));
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    raw
}

/// The next `count` bytes of MQTT, whatever the frames; each is binary.
#[track_caller]
fn mqtt(raw: &mut Raw, count: usize) -> Vec<u8> {
    let mut came = Vec::new();
    while came.len() < count {
        let (first, payload) = read_frame(raw).unwrap();
        assert_eq!(first, BINARY, "the broker's data is binary (MQTT-6.0.0-1)");
        came.extend(payload);
    }
    assert_eq!(came.len(), count);
    came
}

/// Expects a close frame with this code, and then nothing but the end.
#[track_caller]
fn expect_close(raw: &mut Raw, code: u16) {
    assert_eq!(read_frame(raw), Some((CLOSE, code.to_be_bytes().to_vec())));
    assert_eq!(read_frame(raw), None);
}

fn watcher(broker: &Broker) -> Client {
    let stream = Stream::plain(broker.address()).websocket("/mqtt");
    let mut watcher = Client::over(stream, &Hello::v5("watcher")).unwrap();
    watcher.subscribe("will/#", QoS::AtLeastOnce);
    watcher
}

/// A client with a will on `topic` and the raw stream below it.
fn dying(broker: &Broker, version: Version, topic: &str) -> Raw {
    let mut raw = open(broker);
    let hello = Hello::of(version, "dying").will(WillMessage::new(topic, "gone"));
    raw.send_bytes(&client_frame(BINARY, &hello.bytes()));
    let (first, connack) = read_frame(&mut raw).unwrap();
    assert_eq!((first, connack[0], connack[3]), (BINARY, 0x20, 0));
    raw
}

/// Proves: v4:6.0.0-3, v4:6.0.0-4, v5:6.0.0-3, v5:6.0.0-4, v3:24
#[test]
fn the_subprotocol_is_mqtt_where_it_is_offered_and_mqttv3_1_for_old_clients() {
    let broker = Broker::start(WS);
    for (offered, chosen) in
        [("mqtt", "mqtt"), ("mqttv3.1, mqtt", "mqtt"), ("chat,mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1")]
    {
        let (mut raw, head) = ask(1, &broker, &upgrade_request("/mqtt", offered));
        assert!(head.starts_with("HTTP/1.1 101 "), "{offered}: {head}");
        assert!(head.contains(&format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n")), "{offered}: {head}");
        assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        assert!(!head.contains("Extensions"));
        raw.send_bytes(&client_frame(BINARY, &bytes(CONNECT_311)));
        assert_eq!(mqtt(&mut raw, 4), bytes(CONNACK_311));
    }
    // Who offers no MQTT does not speak it; the log says so.
    for (host, offered) in [(2, ""), (3, "MQTT, chat")] {
        let (mut raw, head) = ask(host, &broker, &upgrade_request("/mqtt", offered));
        assert!(head.starts_with("HTTP/1.1 400 "), "{offered}: {head}");
        raw.read_to_end(DEADLINE);
        broker.wait_for_log(&[&format!("closed 127.0.0.{host}:"), "subprotocol", "mqtt", "(listener \"ws\")"]);
    }
}

/// Proves: v4:6.0.0-1, v5:6.0.0-1, trap:86
#[test]
fn a_text_frame_ends_the_connection_and_the_will_goes_out() {
    let broker = Broker::start(WS);
    let mut watcher = watcher(&broker);
    let mut raw = open(&broker);
    raw.send_bytes(&client_frame(TEXT, &bytes(CONNECT_311)));
    expect_close(&mut raw, 1003);
    broker.wait_for_log(&["closed 127.0.0.1:", "text frame"]);
    for version in VERSIONS {
        let mut raw = dying(&broker, version, "will/text");
        raw.send_bytes(&client_frame(TEXT, &bytes(PINGREQ)));
        expect_close(&mut raw, 1003);
        assert_eq!(watcher.message().topic, "will/text");
    }
}

/// Proves: v4:6.0.0-2, v5:6.0.0-2, trap:86
#[test]
fn where_a_frame_begins_means_nothing() {
    let broker = Broker::start(WS);
    for version in VERSIONS {
        // One byte in each frame, with empty frames between, in one piece and in many.
        for at_once in [true, false] {
            let mut raw = open(&broker);
            let frames: Vec<Vec<u8>> = Hello::of(version, "bytes")
                .bytes()
                .into_iter()
                .flat_map(|byte| [client_frame(BINARY, &[byte]), client_frame(BINARY, &[])])
                .collect();
            if at_once {
                raw.send_bytes(&frames.concat());
            } else {
                for frame in &frames {
                    raw.send_bytes(frame);
                }
            }
            assert_eq!(read_frame(&mut raw).unwrap().1[0], 0x20, "{version:?}");
        }
    }
    // Many packets in one frame, whose header comes byte by byte.
    let mut raw = open(&broker);
    let frame = client_frame(BINARY, &[bytes(CONNECT_311), bytes(SUBSCRIBE_311), bytes(PINGREQ)].concat());
    for byte in &frame {
        raw.send_bytes(&[*byte]);
    }
    assert_eq!(mqtt(&mut raw, 4 + 5 + 2), [bytes(CONNACK_311), bytes(SUBACK_311), bytes(PINGRESP)].concat());
    // A message in fragments with a ping between them.
    let (left, right) = frame_halves();
    raw.send_bytes(&client_frame(0x02, &left)).send_bytes(&client_frame(PING, b"are you there"));
    assert_eq!(read_frame(&mut raw), Some((PONG, b"are you there".to_vec())));
    raw.send_bytes(&client_frame(0x00, &[])).send_bytes(&client_frame(0x80, &right));
    assert_eq!(mqtt(&mut raw, 7), bytes("30 05 00 01 \"t\" \"hi\""));
}

/// A PUBLISH of "hi" to "t", cut in the middle.
fn frame_halves() -> (Vec<u8>, Vec<u8>) {
    let mut packet = bytes("30 05 00 01 \"t\" \"hi\"");
    let right = packet.split_off(3);
    (packet, right)
}

/// What is behind the upgrade request in the same piece is not lost, on whichever worker the session lives.
///
/// Proves: v4:6.0.0-2, v5:6.0.0-2, trap:86
#[test]
fn what_comes_early_is_kept() {
    let broker = Broker::start(&format!("[node]\nworkers = 4\n{WS}"));
    for number in 0..16 {
        let mut raw = Raw::connect(broker.address());
        let hello = Hello::v311(&format!("client {number}")).bytes();
        let frame = client_frame(BINARY, &[hello, bytes(SUBSCRIBE_311), bytes(PINGREQ)].concat());
        // The frame ends within PINGREQ.
        let cut = frame.len() - 1;
        raw.send_bytes(&[upgrade_request("/mqtt", "mqtt").as_bytes(), &frame[..cut]].concat());
        assert!(read_head(&mut raw).starts_with("HTTP/1.1 101 "));
        assert_eq!(mqtt(&mut raw, 4 + 5), [bytes(CONNACK_311), bytes(SUBACK_311)].concat());
        raw.send_bytes(&frame[cut..]);
        assert_eq!(mqtt(&mut raw, 2), bytes(PINGRESP));
    }
}

/// Proves: trap:86
#[test]
fn a_refusal_is_written_before_the_close() {
    let broker = Broker::start(&format!("{WS}allowed_protocol_versions = [4, 5]\n"));
    for (connect, connack) in [
        ("10 0f 00 06 \"MQIsdp\" 03 02 00 3c 00 01 \"a\"", "20 02 00 01"),
        ("10 0c 00 04 \"MQTT\" 04 00 00 3c 00 00", "20 02 00 02"),
        ("10 0e 00 04 \"MQTT\" 05 03 00 3c 00 00 01 \"a\"", "20 03 00 81 00"),
    ] {
        let mut raw = open(&broker);
        raw.send_bytes(&client_frame(BINARY, &bytes(connect)));
        let connack = bytes(connack);
        let came = mqtt(&mut raw, connack.len());
        assert_eq!(came[..connack.len()], connack);
        expect_close(&mut raw, 1000);
    }
}

/// Proves: trap:86
#[test]
fn a_breach_of_the_framing_ends_the_connection_and_the_will_goes_out() {
    let broker = Broker::start(WS);
    let mut watcher = watcher(&broker);
    let with_reserved_bit = client_frame(0xc2, &bytes(PINGREQ));
    for (name, frame) in [
        ("without a mask", vec![BINARY, 2, 0xc0, 0]),
        ("a reserved bit", with_reserved_bit),
        ("an unknown opcode", client_frame(0x83, b"")),
        ("a long ping", client_frame(PING, &[0; 126])),
        ("a fragmented ping", client_frame(0x09, b"")),
        ("nothing to continue", client_frame(0x80, b"")),
        ("a message within one", [client_frame(0x02, b"\xc0"), client_frame(BINARY, b"")].concat()),
        ("a length in too many bytes", bytes("82 fe 00 02 00 00 00 00 c0 00")),
        ("a length beyond 63 bits", bytes("82 ff 80 00 00 00 00 00 00 00")),
    ] {
        let mut raw = dying(&broker, Version::V311, "will/breach");
        raw.send_bytes(&frame);
        assert_eq!(read_frame(&mut raw), Some((CLOSE, 1002_u16.to_be_bytes().to_vec())), "{name}");
        assert_eq!(read_frame(&mut raw), None, "{name}");
        assert_eq!(watcher.message().topic, "will/breach", "{name}");
    }
}

/// Proves: trap:86, trap:87
#[test]
fn a_close_is_echoed_and_only_disconnect_keeps_the_will_back() {
    let broker = Broker::start(WS);
    let mut watcher = watcher(&broker);
    for version in VERSIONS {
        let mut raw = dying(&broker, version, "will/close");
        raw.send_bytes(&client_frame(CLOSE, &[0x03, 0xe9, b'b', b'y', b'e']));
        expect_close(&mut raw, 1001);
        assert_eq!(watcher.message().topic, "will/close");
        // As browsers do it: DISCONNECT, and the close at once.
        let mut raw = dying(&broker, version, "will/never");
        let last = [client_frame(BINARY, &bytes("e0 00")), client_frame(CLOSE, &1000_u16.to_be_bytes())].concat();
        raw.send_bytes(&last);
        expect_close(&mut raw, 1000);
    }
    watcher.publish("will/end", "", QoS::AtLeastOnce);
    assert_eq!(watcher.messages_before("will/end"), []);
}

#[test]
fn what_asks_for_something_else_is_told_in_http() {
    let broker = Broker::start(&format!("{WS}path = \"/iot\"\n"));
    let good = upgrade_request("/iot", "mqtt");
    for (host, request, status, said) in [
        (2, "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "404", "\"/\""),
        (3, upgrade_request("/mqtt", "mqtt"), "404", "\"/mqtt\""),
        (4, "GET /iot HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "426", "without a WebSocket handshake"),
        (5, good.replace("13", "8"), "426", "version"),
        (6, good.replace("GET", "POST"), "405", "GET"),
        (7, format!("GET /iot HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(10_000)), "431", "longer than 8192 bytes"),
    ] {
        let (mut raw, head) = ask(host, &broker, &request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(raw.read_to_end(DEADLINE).len() < 100, "short");
        broker.wait_for_log(&[&format!("closed 127.0.0.{host}:"), said, "(listener \"ws\")"]);
    }
    assert_eq!(broker.metric("viaduct_connects_total", &[("listener", "ws"), ("result", "not_mqtt")]), 6.0);
    // Where it comes from is not asked, and a query is the client's own matter.
    let other_origin =
        good.replace("Host:", "Origin: https://elsewhere.example\r\nHost:").replace("/iot", "/iot?key=1");
    assert!(ask(8, &broker, &other_origin).1.starts_with("HTTP/1.1 101 "));
}

#[test]
fn what_is_no_http_at_all_is_named_and_closed() {
    let broker = Broker::start(WS);
    for (host, first, named) in [
        (2, bytes(CONNECT_311), "an MQTT CONNECT on a WebSocket listener"),
        (3, bytes("16 03 01 02 00 01 00 01 fc 03 03"), "a TLS ClientHello on a WebSocket listener"),
        (4, bytes("00 01 02 03"), "noise on a WebSocket listener"),
    ] {
        let mut raw = Raw::connect_from(host, broker.address());
        raw.send_bytes(&first).expect_close();
        broker.wait_for_log(&[&format!("closed 127.0.0.{host}:"), named]);
    }
    // And within the frames.
    let mut raw = open_from(5, &broker);
    raw.send_bytes(&client_frame(BINARY, b"GET / HTTP/1.1\r\n\r\n"));
    assert_eq!(raw.read_to_end(DEADLINE), b"");
    broker.wait_for_log(&["closed 127.0.0.5:", "an HTTP request on a WebSocket listener"]);
}

#[test]
fn who_asks_for_nothing_is_closed_in_time() {
    let broker = Broker::start(&format!("[limits]\nconnect_timeout = \"300ms\"\n{WS}"));
    for begun in ["", "GET /mqtt HTTP/1.1\r\nHost: h\r\n"] {
        Raw::connect(broker.address()).send_bytes(begun.as_bytes()).expect_close();
    }
    open(&broker).expect_close();
    broker.wait_for_metric("viaduct_connects_total", &[("result", "timed_out")], |count| count == 3.0);
}

/// A frame may be larger than a packet, a packet may not.
///
/// Proves: v4:6.0.0-2, v5:6.0.0-2
#[test]
fn limits_are_those_of_packets_and_not_of_frames() {
    let broker = Broker::start(&format!("[limits]\nmax_packet_size = \"1KiB\"\n{WS}"));
    let mut raw = open(&broker);
    let publish = bytes("30 05 00 01 \"t\" \"hi\"");
    let many = [bytes(CONNECT_311), publish.repeat(20_000), bytes(PINGREQ)].concat();
    raw.send_bytes(&client_frame(BINARY, &many));
    assert_eq!(mqtt(&mut raw, 6), [bytes(CONNACK_311), bytes(PINGRESP)].concat());
    raw.send_bytes(&client_frame(BINARY, &bytes("30 ff 7f 00 01 \"t\"")));
    expect_close(&mut raw, 1000);
    assert_eq!(broker.metric("viaduct_messages_received_total", &[]), 20_000.0);
}

/// A socket that takes no more in the middle of a frame loses nothing, and answers a ping between frames.
#[test]
fn who_does_not_read_gets_everything_later() {
    const MESSAGES: usize = 100;
    const SIZE: usize = 200_000;
    let broker = Broker::start(WS);
    let mut raw = open(&broker);
    let hello = Hello { receive_maximum: Some(MESSAGES as u16), ..Hello::v5("slow") };
    raw.send_bytes(&client_frame(BINARY, &hello.bytes()));
    read_frame(&mut raw).unwrap();
    raw.send_bytes(&client_frame(BINARY, &bytes("82 07 00 01 00 00 01 \"t\" 01")));
    mqtt(&mut raw, 6);
    let stream = Stream::plain(broker.address()).websocket("/mqtt");
    let mut publisher = Client::over(stream, &Hello::v5("publisher")).unwrap();
    for number in 0..MESSAGES {
        publisher.publish("t", vec![number as u8; SIZE], QoS::AtLeastOnce);
    }
    // More than the kernel keeps for a connection is on its way: the frame under way is not whole.
    raw.send_bytes(&client_frame(PING, b"now"));
    let (mut data, mut pongs) = (Vec::new(), 0);
    // PUBLISH: 5 bytes of header and length, 3 of topic, 2 of identifier, 1 without properties.
    while data.len() < MESSAGES * (SIZE + 10) || pongs == 0 {
        match read_frame(&mut raw).unwrap_or_else(|| panic!("only {} bytes came, and {pongs} pongs", data.len())) {
            (BINARY, payload) => data.extend(payload),
            (PONG, payload) => {
                assert_eq!(payload, b"now");
                pongs += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((data.len(), pongs), (MESSAGES * (SIZE + 10), 1));
    for (number, packet) in data.chunks(SIZE + 10).enumerate() {
        assert!(packet[10..].iter().all(|byte| *byte == number as u8), "message {number} is damaged");
    }
}

// ---- the same on every listener ----

const DOORS: [&str; 4] = ["tcp", "tls", "ws", "wss"];

/// A broker with a listener of each kind.
struct House {
    certs: Certs,
    broker: Broker,
}

impl House {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = Certs::make(folder.path());
        let tls = "[listener.tls]\ncert_file = \"@dir@/server.pem\"\nkey_file = \"@dir@/server.key\"\n";
        let listener = |door: &str| {
            let transport = if door.starts_with("ws") { "ws" } else { "tcp" };
            let tls = if door.ends_with('s') && door != "ws" { tls } else { "" };
            format!(
                "[[listener]]\nname = \"{door}\"\nbind = \"127.0.0.1:@port.{door}@\"\ntransport = \"{transport}\"\n{tls}"
            )
        };
        let config: String = DOORS.iter().map(|door| listener(door)).collect();
        Self { certs, broker: Broker::start_in(folder, &format!("[node]\nworkers = 2\n{config}")) }
    }

    #[track_caller]
    fn connect(&self, door: &str, hello: &Hello) -> Client {
        let address = self.broker.port(door);
        let stream = match door {
            "tcp" | "ws" => Stream::plain(address),
            _ => Stream::tls(address, &self.certs.client_config(None)).unwrap(),
        };
        let stream = if door.starts_with("ws") { stream.websocket("/mqtt") } else { stream };
        Client::over(stream, hello).unwrap_or_else(|reason| panic!("{door} refused: {reason}"))
    }
}

/// Proves: trap:87
#[test]
fn a_will_is_published_or_kept_back_on_every_listener_alike() {
    let house = House::start();
    let mut watcher = house.connect("wss", &Hello::v5("watcher"));
    watcher.subscribe("will/#", QoS::AtLeastOnce);
    for door in DOORS {
        for version in VERSIONS {
            let hello = |topic: &str| Hello::of(version, "dying").will(WillMessage::new(topic, "gone"));
            let mut next = || watcher.message().topic;
            house.connect(door, &hello("will/goodbye")).disconnect();
            house.connect(door, &hello("will/reset")).break_off();
            assert_eq!(next(), "will/reset", "{door} {version:?}");
            house.connect(door, &hello("will/end")).stream().finish_writing();
            assert_eq!(next(), "will/end", "{door} {version:?}");
            house.connect(door, &hello("will/malformed")).send_bytes(&[0xc1, 0x00]);
            assert_eq!(next(), "will/malformed", "{door} {version:?}");
        }
    }
    // Those that take their time, all at once.
    let (mut wanted, mut silent) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for door in DOORS {
        for version in VERSIONS {
            let topic = format!("will/silence of {version:?} on {door}");
            let hello = Hello::of(version, &topic).keep_alive(1).will(WillMessage::new(&topic, ""));
            silent.push(house.connect(door, &hello));
            wanted.push(topic);
        }
        let topic = format!("will/delayed on {door}");
        let will = WillMessage { delay: Some(1), ..WillMessage::new(&topic, "") };
        house.connect(door, &Hello::v5(&topic).persistent().will(will)).break_off();
        wanted.push(topic);
    }
    let mut came: Vec<String> = watcher.messages(wanted.len()).into_iter().map(|message| message.topic).collect();
    assert!(began.elapsed() >= Duration::from_secs(1));
    wanted.sort();
    came.sort();
    assert_eq!(came, wanted);
}

/// Proves: trap:87
#[test]
fn a_session_is_taken_over_from_every_listener_to_every_other() {
    let house = House::start();
    let mut watcher = house.connect("ws", &Hello::v5("watcher"));
    watcher.subscribe("will/#", QoS::AtLeastOnce);
    let mut publisher = house.connect("tcp", &Hello::v5("publisher"));
    for old in DOORS {
        for new in DOORS {
            for version in [Version::V311, Version::V5] {
                let who = format!("{old} to {new} {version:?}");
                // A name for each: taking one over again and again is a storm, and held back.
                let will = WillMessage { delay: None, ..WillMessage::new("will/over", &who) };
                let mut first = house.connect(old, &Hello::of(version, &who).persistent().will(will));
                first.subscribe("t", QoS::AtLeastOnce);
                first.by_hand();
                publisher.publish("t", &who, QoS::AtLeastOnce);
                assert_eq!(first.message().text(), who);
                let mut second = house.connect(new, &Hello::of(version, &who).persistent());
                assert!(second.welcome.session_present, "{who}");
                if version == Version::V5 {
                    assert_eq!(first.expect_disconnect(), ReasonCode::SESSION_TAKEN_OVER, "{who}");
                } else {
                    first.expect_closed();
                }
                let again = second.message();
                assert_eq!((again.text(), again.dup), (who.as_str(), true));
                assert_eq!(watcher.message().text(), who);
                second.unsubscribe(&["t"]);
                second.disconnect();
            }
        }
    }
}

/// More than the kernel keeps for a connection waits, several times over, until the client reads.
#[test]
fn a_client_that_does_not_read_for_a_while_misses_nothing_on_any_listener() {
    const MESSAGES: usize = 70;
    let house = House::start();
    for door in DOORS {
        let hello = Hello { receive_maximum: Some(MESSAGES as u16), ..Hello::v5("slow") };
        let mut slow = house.connect(door, &hello);
        slow.subscribe("t", QoS::AtLeastOnce);
        slow.by_hand();
        let mut publisher = house.connect(door, &Hello::v5("publisher"));
        for number in 0..MESSAGES {
            publisher.publish("t", vec![number as u8; 200_000], QoS::AtLeastOnce);
        }
        for (number, message) in slow.messages(MESSAGES).iter().enumerate() {
            assert!(message.payload == vec![number as u8; 200_000], "{door}: message {number}");
        }
        slow.disconnect();
    }
}

#[test]
fn large_messages_cross_every_listener() {
    let house = House::start();
    let payload = vec![b'x'; 300_000];
    for door in DOORS {
        let mut client = house.connect(door, &Hello::v5("client"));
        client.subscribe("t", QoS::ExactlyOnce);
        client.publish("t", &payload, QoS::ExactlyOnce);
        assert!(client.message().payload == payload, "{door}");
        client.disconnect();
        let accepted = [("listener", door), ("level", "5"), ("result", "accepted")];
        assert_eq!(house.broker.metric("viaduct_connects_total", &accepted), 1.0, "{door}");
    }
}

/// Proves: trap:87
#[test]
fn the_common_name_is_the_user_name_over_websocket_too() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    std::fs::write(folder.path().join("acl"), "user gate-7\ntopic gate-7/#\n").unwrap();
    let config = format!(
        "[auth]\nacl_file = \"@dir@/acl\"\n{WS}[listener.tls]\ncert_file = \"@dir@/server.pem\"\n\
         key_file = \"@dir@/server.key\"\nclient_ca_file = \"@dir@/ca.pem\"\nusername_from = \"cn\"\n\
         require_client_certificate = true\n"
    );
    let broker = Broker::start_in(folder, &config);
    let stream = Stream::tls(broker.address(), &certs.client_config(Some(&certs.client))).unwrap();
    let mut gate = Client::over(stream.websocket("/mqtt"), &Hello::v5("gate")).unwrap();
    assert!(!gate.subscribe("gate-7/#", QoS::AtLeastOnce).is_error());
    assert!(gate.publish("other/x", "x", QoS::AtLeastOnce).is_error());
}
