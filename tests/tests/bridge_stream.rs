//! Long streams over two bridges, mosquitto -> Viaduct -> mosquitto, one of them TLS, while links are cut.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, Certs, Client, Drill, Hello, Link, Mosquitto, Proxy, Tally, eventually, publish_numbers};

/// Messages of one stream.
const COUNT: u32 = 10_000;
/// How long nothing may arrive. Two links that come back take a second or two.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a whole stream may take; it takes ten.
const LIMIT: Duration = Duration::from_secs(90);
/// Its queues hold the whole stream, so that what is lost was not lost by it; its log is not as long as the stream. It
/// sends small packets at once. Without a window it keeps no queue for a client that is there: mosquitto 2.0 reorders
/// what goes through that queue, between two of its own clients too (`bridge_forty.rs` has it with its defaults).
const ROOMY: &str =
    "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\nlog_type none\nlog_type notice\n";

/// mosquitto A -> Viaduct, plain; Viaduct -> mosquitto B, TLS.
struct Chain {
    a: Mosquitto,
    viaduct: Broker,
    b: Mosquitto,
    /// Between A and Viaduct.
    in_link: Proxy,
    /// Between Viaduct and B.
    out_link: Proxy,
}

impl Chain {
    /// `None` without mosquitto. `more` is said of both bridges.
    fn start(more: &str) -> Option<Self> {
        let a = Mosquitto::start(ROOMY)?;
        let folder = tempfile::tempdir().unwrap();
        let certs = Certs::make(folder.path());
        let b = Mosquitto::configured(
            folder,
            &format!(
                "{ROOMY}allow_anonymous true\nlistener @port@ 127.0.0.1\nlistener @port.tls@ 127.0.0.1\n\
                 certfile {}\nkeyfile {}\n",
                certs.server.cert.display(),
                certs.server.key.display()
            ),
        )?;
        let (in_link, out_link) = (Proxy::to(a.address()), Proxy::to(b.port("tls")));
        let common = format!("reconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n{more}");
        let viaduct = Broker::start(&format!(
            "[[bridge]]\nname = \"a\"\nurl = \"mqtt://{}\"\n{common}\nmax_inflight = 65535\n\
             [[bridge.topic]]\nfilter = \"stream/#\"\ndirection = \"in\"\nqos = 2\n\
             [[bridge]]\nname = \"b\"\nurl = \"mqtts://localhost:{}\"\n{common}\n\
             [bridge.tls]\nca_file = \"{}\"\n\
             [bridge.queue]\nmax_messages = 50000\n\
             [[bridge.topic]]\nfilter = \"stream/#\"\ndirection = \"out\"\nqos = 2\n",
            in_link.address(),
            out_link.port(),
            certs.ca.display(),
        ));
        for name in ["a", "b"] {
            viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", name)], |up| up == 1.0);
        }
        Some(Self { a, viaduct, b, in_link, out_link })
    }

    fn subscriber(&self) -> Client {
        let mut subscriber = Hello::v5("subscriber").persistent().connect(self.b.address());
        assert_eq!(subscriber.subscribe("stream/#", QoS::ExactlyOnce).0, 2);
        subscriber
    }

    fn drill(&self, cuts: usize) -> Drill {
        Drill { source: self.a.address(), count: COUNT, cuts, paced: false, patience: PATIENCE, limit: LIMIT }
    }

    /// Breaks the link of bridge `name`, lets it try in vain, restores it, and waits until it is up. A mosquitto whose
    /// client comes back twice before it could write a PUBREL again forgets that it had sent one, and publishes that
    /// message of QoS 2 once more (seen with 2.0.11): nobody can tell it from a new one then.
    fn cut(&self, name: &str) {
        let link = if name == "a" { &self.in_link } else { &self.out_link };
        let refused = [("bridge", name), ("result", "refused")];
        let before = self.viaduct.metric("viaduct_bridge_connects_total", &refused);
        link.refuse();
        self.viaduct.wait_for_metric("viaduct_bridge_connects_total", &refused, |now| now > before);
        link.restore();
        self.viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", name)], |up| up == 1.0);
    }

    /// Nothing was left behind or dropped on the way.
    fn assert_clean(&self) {
        for name in ["a", "b"] {
            self.viaduct.wait_for_metric("viaduct_bridge_queued_messages", &[("bridge", name)], |left| left == 0.0);
            let dropped = self.viaduct.metric("viaduct_bridge_messages_dropped_total", &[("bridge", name)]);
            assert_eq!(dropped, 0.0, "bridge {name} dropped messages");
            assert_eq!(self.viaduct.metric("viaduct_bridge_panics_total", &[("bridge", name)]), 0.0);
        }
        assert_eq!(self.viaduct.metric("viaduct_messages_dropped_total", &[]), 0.0);
    }
}

#[test]
fn ten_thousand_messages_of_qos_0_cross_two_bridges_and_none_is_lost_or_reordered() {
    let Some(chain) = Chain::start("") else { return };
    let mut subscriber = chain.subscriber();
    let publisher = publish_numbers(chain.a.address(), "stream/0", QoS::AtMostOnce, COUNT);
    let mut tally = Tally::default();
    while tally.distinct() < COUNT as usize
        && let Some(message) = subscriber.message_within(PATIENCE)
    {
        assert_eq!(message.qos, QoS::AtMostOnce);
        tally.take(&message);
    }
    publisher.join().unwrap();
    tally.assert_exact("QoS 0", COUNT);
    chain.assert_clean();
}

#[test]
fn streams_of_qos_1_and_2_survive_five_cuts_of_the_outgoing_tls_link() {
    let Some(chain) = Chain::start("") else { return };
    let mut subscriber = chain.subscriber();
    let drill = chain.drill(5);
    let outcome = drill.run(&mut subscriber, || chain.cut("b"));
    println!("{} repeated at QoS 1, {:?}", outcome.at_least_once.repeated(), outcome.took);
    outcome.assert_whole(&drill);
    chain.assert_clean();
}

#[test]
fn streams_of_qos_1_and_2_survive_five_cuts_of_the_incoming_link() {
    let Some(chain) = Chain::start("") else { return };
    let mut subscriber = chain.subscriber();
    let drill = chain.drill(5);
    let outcome = drill.run(&mut subscriber, || chain.cut("a"));
    println!("{} repeated at QoS 1, {:?}", outcome.at_least_once.repeated(), outcome.took);
    outcome.assert_whole(&drill);
    chain.assert_clean();
}

#[test]
fn at_3_1_1_both_links_may_be_cut_as_well() {
    let Some(chain) = Chain::start("protocol_version = 4") else { return };
    let mut subscriber = chain.subscriber();
    let drill = chain.drill(6);
    let mut turn = ["a", "b"].into_iter().cycle();
    let outcome = drill.run(&mut subscriber, || chain.cut(turn.next().unwrap()));
    println!("{} repeated at QoS 1, {:?}", outcome.at_least_once.repeated(), outcome.took);
    outcome.assert_whole(&drill);
    chain.assert_clean();
}

#[test]
fn a_link_that_freezes_is_noticed_by_keep_alive_and_the_stream_goes_on() {
    let Some(chain) = Chain::start("keepalive = 1") else { return };
    let mut subscriber = chain.subscriber();
    let drill = Drill { count: COUNT / 10, ..chain.drill(1) };
    let outcome = drill.run(&mut subscriber, || {
        chain.out_link.set(Link::Frozen);
        let silent = [("bridge", "b"), ("result", "keep_alive")];
        chain.viaduct.wait_for_metric("viaduct_bridge_connects_total", &silent, |times| times == 1.0);
        chain.out_link.restore();
        eventually("the link is up", || chain.viaduct.metric("viaduct_bridge_up", &[("bridge", "b")]) == 1.0);
    });
    outcome.assert_whole(&drill);
    chain.assert_clean();
}
