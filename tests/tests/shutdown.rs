//! Stopping and reloading: what clients hear, what the exit code is, and what a bad file changes (nothing).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{QoS, ReasonCode};
use viaduct_tests::{Broker, Hello, Outgoing, Signal};

#[test]
fn sigterm_tells_5_0_clients_closes_all_and_exits_0() {
    for signal in [Signal::Term, Signal::Int] {
        let mut broker = Broker::start("");
        let mut five = Hello::v5("five").connect(broker.address());
        let mut three = Hello::v311("three").connect(broker.address());
        broker.signal(signal);
        assert_eq!(five.expect_disconnect(), ReasonCode::SERVER_SHUTTING_DOWN);
        three.expect_closed();
        assert_eq!(broker.exit_code(), Some(0));
        assert!(Hello::v311("late").try_connect_if_any(broker.address()).is_none(), "nobody listens");
    }
}

trait TryConnect {
    fn try_connect_if_any(&self, address: std::net::SocketAddr) -> Option<()>;
}

impl TryConnect for Hello {
    fn try_connect_if_any(&self, address: std::net::SocketAddr) -> Option<()> {
        std::net::TcpStream::connect(address).ok().map(|_| ())
    }
}

#[test]
fn what_was_published_before_the_stop_still_goes_out() {
    let mut broker = Broker::start("");
    let mut subscriber = Hello::v5("subscriber").connect(broker.address());
    subscriber.subscribe("#", QoS::AtMostOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for number in 0..100 {
        publisher.send_publish(&Outgoing::new("t", number.to_string()));
    }
    publisher.ping();
    assert_eq!(broker.stop(), Some(0));
    for number in 0..100 {
        assert_eq!(subscriber.message().text(), number.to_string());
    }
    assert_eq!(subscriber.expect_disconnect(), ReasonCode::SERVER_SHUTTING_DOWN);
}

#[test]
fn a_client_that_does_not_go_does_not_hold_the_stop_up() {
    let mut broker = Broker::start("");
    let mut stuck = Hello::v311("stuck").connect(broker.address());
    stuck.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for _ in 0..300 {
        publisher.send_publish(&Outgoing::new("flood", vec![b'x'; 60_000]));
    }
    publisher.ping();
    assert_eq!(broker.stop(), Some(0), "within the deadline of the harness");
}

#[test]
fn sighup_changes_what_can_change_and_names_what_needs_a_restart() {
    let mut broker = Broker::start("[limits]\nreceive_maximum = 10\n[session]\nmax_queued_messages = 100\n");
    let mut early = Hello::v5("early").connect(broker.address());
    assert_eq!(early.welcome.receive_maximum, Some(10));
    broker.write_config(
        "[limits]\nreceive_maximum = 20\n[session]\nmax_queued_messages = 200\n[store]\ncommit_delay = \"5ms\"\n",
    );
    broker.signal(Signal::Hup);
    let line = broker.wait_for_log(&["was reloaded"]);
    assert!(line.contains("receive_maximum"), "{line:?}");
    let line = broker.wait_for_log(&["restart"]);
    assert!(line.contains("store.commit_delay"), "{line:?}");
    let late = Hello::v5("late").connect(broker.address());
    assert_eq!(late.welcome.receive_maximum, Some(20));
    early.ping();
    // Allowed levels are live too.
    broker.write_config("[limits]\nreceive_maximum = 30\n");
    broker.signal(Signal::Hup);
    viaduct_tests::eventually("the second reload", || {
        Hello::v5("later").connect(broker.address()).welcome.receive_maximum == Some(30)
    });
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let mut broker = Broker::start("[limits]\nreceive_maximum = 10\n");
    let mut early = Hello::v5("early").connect(broker.address());
    broker.write_config("[limits]\nreceive_maximum = 20\nno_such_key = 1\n");
    broker.signal(Signal::Hup);
    viaduct_tests::eventually("the error in the log", || broker.log().contains("no_such_key"));
    assert!(broker.log().contains("broker.toml:3:1"), "with its place:\n{}", broker.log());
    assert_eq!(Hello::v5("late").connect(broker.address()).welcome.receive_maximum, Some(10));
    // A good file with a bad one behind it.
    broker.write_config("[limits]\nreceive_maximum = 20\n[auth]\nacl_file = \"@dir@/missing\"\n");
    broker.signal(Signal::Hup);
    viaduct_tests::eventually("the file in the log", || broker.log().contains("/missing"));
    assert_eq!(Hello::v5("later").connect(broker.address()).welcome.receive_maximum, Some(10));
    early.ping();
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn it_starts_again_on_the_same_ports_at_once() {
    let mut broker = Broker::start("");
    let mut client = Hello::v5("client").connect(broker.address());
    client.ping();
    assert_eq!(broker.stop(), Some(0));
    broker.start_again();
    let mut client = Hello::v5("client").connect(broker.address());
    client.ping();
    broker.kill();
    broker.start_again();
    Hello::v5("client").connect(broker.address()).ping();
}
