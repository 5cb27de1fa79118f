//! Statements on sessions that need several workers, a hand on the remote end of a bridge, or a file that changes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, DEADLINE, Event, Hello, Message, Signal, WillMessage, bytes};

/// What mosquitto_passwd makes of the password `wonderland`.
const WONDERLAND: &str =
    "$7$101$c2t1Dxu8ccXnDAhT$SEkZ7ZB0Yj4g51erULk/8dIWPL/4095NtXcHRrOCqjb89rlDCEYpc3QXQW1hZUoBxOQoFv8bJuE95yMRgSxvlw==";

/// Reconnects with one ClientID: the number that the trap names.
const RECONNECTS: u32 = 1000;

/// Proves: trap:30
#[test]
fn a_thousand_rapid_reconnects_lose_nothing_and_double_nothing_that_was_acknowledged() {
    let broker = Broker::start("[node]\nworkers = 4\n[limits]\nmessage_rate = 1000\n");
    let address = broker.address();
    let hello = Hello::v5("one").persistent();
    let mut client = hello.connect(address);
    client.subscribe("t", QoS::AtLeastOnce);
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut publisher = Hello::v5("publisher").connect(address);
            let mut sent = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                assert!(!publisher.publish("t", sent.to_string(), QoS::AtLeastOnce).is_error());
                sent += 1;
            }
            publisher.publish("t", "end", QoS::AtLeastOnce);
            sent
        }
    });
    let number = |message: &Message| message.text().parse::<u32>().ok();
    let mut came = Vec::new();
    for round in 0..RECONNECTS {
        came.push(client.message());
        // Half of them say goodbye, and none waits for the broker to notice that the old connection is gone.
        if round % 2 == 0 {
            client.disconnect()
        } else {
            client.break_off()
        }
        client = hello.connect(address);
        assert!(client.welcome.session_present, "the session is gone in round {round}");
    }
    stop.store(true, Ordering::Relaxed);
    let sent = publisher.join().unwrap();
    loop {
        let message = client.message();
        if message.text() == "end" {
            break;
        }
        came.push(message);
    }
    // In order for each first arrival, none missing; what comes again says so.
    let mut next = 0;
    for message in &came {
        let this = number(message).unwrap();
        if this == next {
            next += 1;
        } else {
            assert!(this < next, "{next} was lost: {this} came instead");
            assert!(message.dup, "{this} came twice without DUP");
        }
    }
    assert_eq!(next, sent);
    client.ping();
    broker.wait_for_metric("viaduct_sessions", &[("state", "connected")], |connected| connected == 1.0);
}

/// Proves: trap:45
#[test]
fn the_will_goes_out_when_the_user_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    let line = |user: &str| format!("{user}:{WONDERLAND}\n");
    std::fs::write(&file, line("alice") + &line("watcher")).unwrap();
    let broker = Broker::start_in(folder, "[auth]\npassword_file = \"@dir@/passwd\"\n");
    let mut watcher = Hello::v5("watcher").login("watcher", "wonderland").connect(broker.address());
    watcher.subscribe("will", QoS::AtLeastOnce);
    let will = WillMessage::new("will", "gone");
    let mut alice = Hello::v5("alice").login("alice", "wonderland").will(will).connect(broker.address());
    std::fs::write(&file, line("watcher")).unwrap();
    broker.signal(Signal::Hup);
    alice.wait_for("the close", |event| *event == Event::Closed);
    assert_eq!(watcher.message().topic, "will");
}

/// The other end of a bridge.
struct Remote {
    listener: TcpListener,
}

impl Remote {
    fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection, and its CONNECT, answered by CONNACK with this Session Present.
    fn accept(&self, session_present: bool) -> (TcpStream, Vec<u8>) {
        let (mut socket, _) = self.listener.accept().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let connect = packet(&mut socket).unwrap();
        assert_eq!((connect[0], connect[8]), (0x10, 5), "CONNECT of 5.0");
        socket.write_all(&[0x20, 3, u8::from(session_present), 0, 0]).unwrap();
        (socket, connect)
    }
}

/// The next packet; `None` at the end. All of them are short here.
fn packet(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut packet = vec![0; 2];
    socket.read_exact(&mut packet).ok()?;
    assert!(packet[1] < 128, "a short packet");
    packet.resize(2 + usize::from(packet[1]), 0);
    socket.read_exact(&mut packet[2..]).unwrap();
    Some(packet)
}

/// Skips to the next packet of this type and gives it.
#[track_caller]
fn packet_of(socket: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let packet = packet(socket).unwrap_or_else(|| panic!("the end instead of {kind:#04x}"));
        if packet[0] & 0xf0 == kind {
            return packet;
        }
    }
}

fn bridge(remote: &Remote, more: &str) -> Broker {
    Broker::start(&format!(
        "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{}\"\nprotocol_version = 5\nreconnect_min = \"50ms\"\n\
         reconnect_max = \"200ms\"\nnotifications = false\n{more}\n\
         [[bridge.topic]]\nfilter = \"out\"\ndirection = \"out\"\nqos = 2\n\
         [[bridge.topic]]\nfilter = \"in\"\ndirection = \"in\"\nqos = 2\n",
        remote.address()
    ))
}

/// Proves: v5:3.2.2-4
#[test]
fn a_bridge_that_began_anew_closes_when_the_remote_says_there_is_a_session() {
    let remote = Remote::new();
    let broker = bridge(&remote, "clean_session = true");
    let (mut socket, connect) = remote.accept(true);
    assert_eq!(connect[9] & 2, 2, "Clean Start");
    // DISCONNECT at most, and the end.
    while let Some(packet) = packet(&mut socket) {
        assert_eq!(packet[0], 0xe0, "{packet:02x?}");
    }
    // It tries again, and all is well when there is none.
    let (mut socket, _) = remote.accept(false);
    packet_of(&mut socket, 0x80);
    drop(broker);
}

/// Proves: v5:3.2.2-5
#[test]
fn a_bridge_forgets_what_was_open_when_the_remote_has_no_session() {
    let remote = Remote::new();
    let broker = bridge(&remote, "clean_session = false");
    let mut listener = Hello::v5("listener").connect(broker.address());
    listener.subscribe("in", QoS::ExactlyOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    let subscribed = |socket: &mut TcpStream| {
        let subscribe = packet_of(socket, 0x80);
        socket.write_all(&[0x90, 4, subscribe[2], subscribe[3], 0, 2]).unwrap();
    };

    let (mut socket, _) = remote.accept(false);
    subscribed(&mut socket);
    // Half of an exchange in either direction.
    socket.write_all(&bytes("34 0a 0002 69 6e 0007 00 31 32 33")).unwrap();
    assert_eq!(packet_of(&mut socket, 0x50)[2..4], [0, 7]);
    publisher.publish("out", "x", QoS::ExactlyOnce);
    let publish = packet_of(&mut socket, 0x30);
    let id = [publish[7], publish[8]];
    socket.write_all(&[0x50, 2, id[0], id[1]]).unwrap();
    assert_eq!(packet_of(&mut socket, 0x60)[2..4], id);
    drop(socket);

    let (mut socket, connect) = remote.accept(false);
    assert_eq!(connect[9] & 2, 0, "no Clean Start");
    subscribed(&mut socket);
    // The identifier of the remote is new, so this is another message.
    socket.write_all(&bytes("34 0a 0002 69 6e 0007 00 34 35 36")).unwrap();
    loop {
        let packet = packet(&mut socket).unwrap();
        match packet[0] & 0xf0 {
            0x30 => assert_eq!(packet[0] & 8, 0, "not as if it were sent again: {packet:02x?}"),
            0x50 => break,
            other => assert_ne!(other, 0x60, "PUBREL of an exchange that is forgotten"),
        }
    }
    socket.write_all(&[0x62, 2, 0, 7]).unwrap();
    packet_of(&mut socket, 0x70);
    while listener.message().text() != "456" {}
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    while let Some(packet) = packet(&mut socket) {
        assert_ne!(packet[0] & 0xf0, 0x60, "PUBREL of an exchange that is forgotten");
        assert_ne!(packet[0] & 0xf8, 0x38, "not as if it were sent again: {packet:02x?}");
    }
}

/// Proves: trap:45, v4:3.1.2-8, v5:3.1.2-8
#[test]
fn the_wills_of_all_workers_go_out_to_all_workers_when_the_broker_stops() {
    let mut broker = Broker::start("[node]\nworkers = 4\n");
    let watch = |number: usize| {
        let mut watcher = Hello::v5(&format!("watcher {number}")).connect(broker.address());
        watcher.subscribe("will", QoS::AtMostOnce);
        watcher
    };
    let mut watchers: Vec<_> = (0..8).map(watch).collect();
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let hello = if number % 2 == 0 { Hello::v311 } else { Hello::v5 };
            hello(&format!("client {number}")).will(WillMessage::new("will", "gone")).connect(broker.address())
        })
        .collect();
    watchers.extend((8..16).map(watch));
    broker.signal(Signal::Term);
    for watcher in &mut watchers {
        assert!(watcher.messages(clients.len()).iter().all(|message| message.text() == "gone"));
    }
    assert_eq!(broker.exit_code(), Some(0));
}
