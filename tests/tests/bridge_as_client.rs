//! What a bridge says to its remote, byte by byte: a client that keeps the rules of clients.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, DEADLINE, Hello, Raw, Signal, Stream, bytes, hex, until};

/// CONNECT of 18 bytes, up to the level.
const CONNECT_3_1_1: &str = r#"10 12 00 04 "MQTT" 04"#;
/// The ClientID of the bridge.
const ITS_ID: &str = r#"00 06 "site.b""#;

/// A remote that is the test itself.
struct Remote(TcpListener);

impl Remote {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The bridge, when it has come.
    fn accept(&self) -> Raw {
        let socket = until(DEADLINE, "the bridge comes", || self.0.accept().ok()).0;
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        Raw::over(Stream::Plain(socket))
    }

    /// The same, at 3.1.1, after CONNACK and SUBACK.
    fn serve_3_1_1(&self, flags_and_keep_alive: &str) -> Raw {
        let mut raw = self.accept();
        raw.expect(&format!("{CONNECT_3_1_1} {flags_and_keep_alive} {ITS_ID}")).send("20 02 00 00");
        let id = expect_around_id(&mut raw, "82 0b", r#"00 06 "down/#" 01"#);
        answer(&mut raw, "90 03", id, "01");
        raw
    }

    /// A broker with a bridge to it.
    fn bridged(&self, more: &str) -> Broker {
        let remote = self.address();
        Broker::start(&format!(
            "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{remote}\"\nclient_id = \"site.b\"\ntry_private = false\n\
             notifications = false\nreconnect_min = \"300ms\"\nreconnect_max = \"300ms\"\n{more}\n\
             [[bridge.topic]]\nfilter = \"up/#\"\ndirection = \"out\"\nqos = 2\n\
             [[bridge.topic]]\nfilter = \"down/#\"\ndirection = \"in\"\nqos = 1\n"
        ))
    }
}

/// What comes next begins and ends with these bytes; in between is a Packet Identifier, which is free but never 0.
#[track_caller]
fn expect_around_id(raw: &mut Raw, before: &str, after: &str) -> [u8; 2] {
    let id = raw.expect(before).read(2);
    raw.expect(after);
    assert_ne!(id, [0, 0]);
    id.try_into().unwrap()
}

fn answer(raw: &mut Raw, before: &str, id: [u8; 2], after: &str) {
    raw.send_bytes(&[bytes(before), id.to_vec(), bytes(after)].concat());
}

/// Proves: v4:7.0.0-1, v4:7.1.2-1
#[test]
fn a_bridge_is_a_client_of_3_1_1_to_the_byte() {
    let remote = Remote::new();
    let mut viaduct = remote.bridged("protocol_version = 4");
    // No bit is set that is not asked for: the session stays, no will, no credentials. Keep alive 60 seconds.
    let mut raw = remote.serve_3_1_1("00 00 3c");
    let mut client = Hello::v311("client").connect(viaduct.address());
    client.subscribe("down/#", QoS::AtLeastOnce);
    // Out, at each QoS.
    client.publish("up/1", "x", QoS::AtMostOnce);
    raw.expect(r#"30 07 00 04 "up/1" "x""#);
    client.publish("up/1", "y", QoS::AtLeastOnce);
    let id = expect_around_id(&mut raw, r#"32 09 00 04 "up/1""#, r#""y""#);
    answer(&mut raw, "40 02", id, "");
    client.publish("up/1", "z", QoS::ExactlyOnce);
    let id = expect_around_id(&mut raw, r#"34 09 00 04 "up/1""#, r#""z""#);
    answer(&mut raw, "50 02", id, "");
    assert_eq!(expect_around_id(&mut raw, "62 02", ""), id);
    answer(&mut raw, "70 02", id, "");
    // In, at each QoS, what is repeated included.
    raw.send(r#"30 09 00 06 "down/1" "x""#);
    assert_eq!(client.message().text(), "x");
    raw.send(r#"32 0b 00 06 "down/1" 00 07 "y""#).expect("40 02 00 07");
    assert_eq!(client.message().text(), "y");
    raw.send(r#"34 0b 00 06 "down/1" 00 08 "z""#).expect("50 02 00 08");
    raw.send(r#"3c 0b 00 06 "down/1" 00 08 "z""#).expect("50 02 00 08");
    raw.send("62 02 00 08").expect("70 02 00 08");
    assert_eq!(client.message().text(), "z");
    // What only breaks the rules a little ends the connection, and the next one is like the first.
    raw.send("62 02 00 08").expect("70 02 00 08");
    raw.send("d1 00").expect_close();
    let mut raw = remote.serve_3_1_1("00 00 3c");
    // It says goodbye.
    viaduct.signal(Signal::Term);
    raw.expect("e0 00").expect_close();
    assert_eq!(viaduct.exit_code(), Some(0));
}

/// Proves: v4:3.1.3-7
#[test]
fn a_bridge_has_a_client_id_with_clean_session_and_without() {
    for (clean, flags) in [("false", "00"), ("true", "02")] {
        let remote = Remote::new();
        let _viaduct = remote.bridged(&format!("protocol_version = 4\nclean_session = {clean}"));
        let mut raw = remote.accept();
        raw.expect(&format!("{CONNECT_3_1_1} {flags} 00 3c {ITS_ID}"));
        // Not even a remote that refuses it gets another, or none.
        raw.send("20 02 00 02").expect_close();
        remote.accept().expect(&format!("{CONNECT_3_1_1} {flags} 00 3c {ITS_ID}"));
    }
}

/// Reads `count` PINGREQs that are answered, and checks that none is later than `seconds` after what was sent before.
#[track_caller]
fn assert_pings(raw: &mut Raw, count: usize, seconds: u64) {
    // What a busy machine may add; half as much as a server adds before it closes.
    let most = Duration::from_millis(seconds * 1250);
    let mut last = Instant::now();
    for _ in 0..count {
        raw.expect("c0 00").send("d0 00");
        assert!(last.elapsed() <= most, "{:?} of silence", last.elapsed());
        last = Instant::now();
    }
}

/// Proves: v4:3.1.2-23
#[test]
fn a_bridge_of_3_1_1_with_nothing_to_say_sends_pingreq_within_its_keep_alive() {
    let remote = Remote::new();
    let _viaduct = remote.bridged("protocol_version = 4\nkeepalive = \"2s\"");
    let mut raw = remote.serve_3_1_1("00 00 02");
    assert_pings(&mut raw, 2, 2);
    // What the remote sends does not count for what the bridge owes.
    for _ in 0..3 {
        raw.send(r#"30 09 00 06 "down/1" "x""#);
    }
    assert_pings(&mut raw, 1, 2);
}

/// CONNECT, CONNACK with these properties, SUBSCRIBE, SUBACK.
fn serve_5_0(remote: &Remote, keep_alive: &str, connack: &str) -> Raw {
    let mut raw = remote.accept();
    // Flags 00, then keep alive; which properties a bridge sends is its own affair.
    let connect = raw.read_packet();
    let head = bytes(&format!(r#"00 04 "MQTT" 05 00 {keep_alive}"#));
    assert_eq!(connect[2..12], head, "{}", hex(&connect));
    raw.send(connack);
    let subscribe = raw.read_packet();
    assert_eq!(subscribe[0], 0x82);
    raw.send_bytes(&[0x90, 4, subscribe[2], subscribe[3], 0, 1]);
    raw
}

/// Proves: v5:3.1.2-20
#[test]
fn a_bridge_of_5_0_with_nothing_to_say_sends_pingreq_within_its_keep_alive() {
    let remote = Remote::new();
    let _viaduct = remote.bridged("protocol_version = 5\nkeepalive = \"2s\"");
    let mut raw = serve_5_0(&remote, "00 02", "20 03 00 00 00");
    assert_pings(&mut raw, 3, 2);
}

/// Proves: v5:3.1.2-21, v5:3.2.2-21
#[test]
fn a_bridge_uses_the_keep_alive_of_the_server_instead_of_its_own() {
    // It asks for 60 seconds and is told 2.
    let remote = Remote::new();
    let _viaduct = remote.bridged("protocol_version = 5\nkeepalive = \"60s\"");
    let mut raw = serve_5_0(&remote, "00 3c", "20 06 00 00 03 13 00 02");
    assert_pings(&mut raw, 2, 2);
    // It asks for 1 and is told 4: it has no reason to hurry.
    let remote = Remote::new();
    let _viaduct = remote.bridged("protocol_version = 5\nkeepalive = \"1s\"");
    let mut raw = serve_5_0(&remote, "00 01", "20 06 00 00 03 13 00 04");
    let since = Instant::now();
    raw.expect("c0 00");
    assert!(since.elapsed() > Duration::from_millis(1500), "{:?}", since.elapsed());
}

/// Proves: trap:73
#[test]
fn a_topic_that_is_no_text_does_not_come_in_over_a_bridge_and_makes_no_loop() {
    for topic in ["00 03 \"d\" ff \"x\"", "00 03 \"d\" 00 \"x\""] {
        let remote = Remote::new();
        let viaduct = remote.bridged("protocol_version = 4");
        let mut client = Hello::v311("client").connect(viaduct.address());
        client.subscribe("#", QoS::AtMostOnce);
        let mut raw = remote.serve_3_1_1("00 00 3c");
        let began = Instant::now();
        // Retained at a remote that does not look, so that it comes again with every connection.
        for _ in 0..3 {
            raw.send(&format!("31 06 {topic} \"y\"")).expect_close();
            raw = remote.serve_3_1_1("00 00 3c");
        }
        assert!(began.elapsed() > Duration::from_millis(600), "no attempt is nearer to the one before than its wait");
        // Nothing of it came in, and what is good still does.
        raw.send(r#"31 09 00 06 "down/1" "x""#);
        let message = client.message();
        assert_eq!((&*message.topic, message.text()), ("down/1", "x"));
    }
}

/// A reset would take DISCONNECT along with it, and the remote would publish the will of the bridge.
#[test]
fn a_bridge_that_is_stopped_does_not_reset_the_connection_while_the_remote_writes() {
    let remote = Remote::new();
    let seen = until(DEADLINE, "bytes reach a bridge that listens on after its last word", || {
        let mut viaduct = remote.bridged("protocol_version = 4");
        let mut raw = remote.serve_3_1_1("00 00 3c");
        viaduct.signal(Signal::Term);
        let since = Instant::now();
        raw.expect("e0 00").expect_close();
        raw.send(r#"30 09 00 06 "down/1" "x""#);
        // It listens for half a second; a machine that stood still for that long has shown nothing.
        let in_time = since.elapsed() < Duration::from_millis(400);
        assert_eq!(viaduct.exit_code(), Some(0));
        in_time.then(|| raw.stream().socket().take_error().unwrap())
    });
    assert!(seen.is_none(), "{seen:?}");
}
