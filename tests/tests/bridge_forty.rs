//! Forty bridges of which four have trouble, and the drill that mosquitto does not survive as the broker in the middle.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use viaduct_tests::codec::QoS;
use viaduct_tests::{
    Broker, Client, Drill, Hello, Link, Mosquitto, Outcome, Outgoing, Peer, Proxy, Tally, Verdict, eventually,
};

const BRIDGES: usize = 40;
/// Bridges whose remote works.
const WELL: usize = 36;
/// Messages through each bridge, each way.
const EACH: usize = 25;

/// Bridge `number` carries `edge/<number>/#` out and `hub/<number>/#` in.
fn bridge(number: usize, remote: SocketAddr) -> String {
    format!(
        "[[bridge]]\nname = \"b{number}\"\nurl = \"mqtt://{remote}\"\nclient_id = \"edge-{number}\"\n\
         connect_timeout = \"500ms\"\nreconnect_min = \"100ms\"\nreconnect_max = \"400ms\"\n\
         [[bridge.topic]]\nfilter = \"edge/{number}/#\"\ndirection = \"out\"\nqos = 1\n\
         [[bridge.topic]]\nfilter = \"hub/{number}/#\"\ndirection = \"in\"\nqos = 1\n"
    )
}

/// The four that have trouble, and how it ends.
struct Troubled {
    refusing: Proxy,
    silent: Peer,
    garbled: Peer,
    closing: Peer,
}

impl Troubled {
    fn new(hub: SocketAddr) -> Self {
        let refusing = Proxy::to(hub);
        refusing.set(Link::Refused);
        Self {
            refusing,
            silent: Peer::new(|_| Verdict::Silence),
            garbled: Peer::new(|_| Verdict::Answer(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")),
            closing: Peer::new(|_| Verdict::Close),
        }
    }

    fn addresses(&self) -> [SocketAddr; BRIDGES - WELL] {
        [self.refusing.address(), self.silent.address(), self.garbled.address(), self.closing.address()]
    }

    fn come_back(&self, hub: SocketAddr) {
        self.refusing.restore();
        for peer in [&self.silent, &self.garbled, &self.closing] {
            peer.set(move |_| Verdict::LeadTo(hub));
        }
    }
}

/// How the ends of their attempts are counted.
const RESULTS: [&str; BRIDGES - WELL] = ["refused", "timed_out", "not_mqtt", "level_refused"];
/// What the log says of each.
const WORDS: [&[&str]; BRIDGES - WELL] = [
    &["bridge \"b36\"", "the connection is refused"],
    &["bridge \"b37\"", "no answer within 0.5 s"],
    &["bridge \"b38\"", "not MQTT", "SSH"],
    &["bridge \"b39\"", "no protocol level is taken", "closed the connection before CONNACK"],
];

/// Publishes `EACH` messages for every bridge, in turn.
fn publish_for_all(client: &mut Client, prefix: &str) {
    for message in 0..EACH {
        for number in 0..BRIDGES {
            let message = Outgoing::new(&format!("{prefix}/{number}/x"), message.to_string()).qos(QoS::AtLeastOnce);
            assert!(!client.publish_message(&message).is_error());
        }
    }
}

/// Receives `count` messages and returns the payloads of each bridge, in order.
fn receive(client: &mut Client, count: usize) -> BTreeMap<usize, Vec<String>> {
    let mut received: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for message in client.messages(count) {
        let number = message.topic.split('/').nth(1).unwrap().parse().unwrap();
        received.entry(number).or_default().push(message.text().to_owned());
    }
    received
}

fn whole() -> Vec<String> {
    (0..EACH).map(|message| message.to_string()).collect()
}

fn up(broker: &Broker) -> f64 {
    broker.metric("viaduct_bridge_up", &[])
}

/// Checks that every bridge of `numbers` has carried everything and has counted it.
#[track_caller]
fn assert_counted(broker: &Broker, numbers: std::ops::Range<usize>, direction: &str) {
    for number in numbers {
        let name = format!("b{number}");
        let labels = [("bridge", &*name), ("direction", direction)];
        broker.wait_for_metric("viaduct_bridge_messages_total", &labels, |count| count == EACH as f64);
        broker.wait_for_metric("viaduct_bridge_queued_messages", &[("bridge", &name)], |left| left == 0.0);
    }
}

#[test]
fn thirty_six_of_forty_bridges_do_not_notice_the_four_that_fail_and_those_come_back() {
    // Both kinds of remotes, the even bridges to one and the odd ones to the other.
    let viaduct_hub = Broker::start("");
    let mosquitto_hub = Mosquitto::start("max_queued_messages 0\nset_tcp_nodelay true\n");
    let hubs = [viaduct_hub.address(), mosquitto_hub.as_ref().map_or(viaduct_hub.address(), |hub| hub.address())];
    let troubled = Troubled::new(hubs[0]);
    let mut config = String::new();
    for number in 0..WELL {
        config.write_str(&bridge(number, hubs[number % 2])).unwrap();
    }
    for (number, address) in (WELL..).zip(troubled.addresses()) {
        config.write_str(&bridge(number, address)).unwrap();
    }
    let edge = Broker::start(&config);
    eventually("the thirty-six are up", || up(&edge) == WELL as f64);

    // Out.
    let mut at_hubs: Vec<Client> = hubs.iter().map(|hub| Hello::v5("hub").connect(*hub)).collect();
    for client in &mut at_hubs {
        client.subscribe("edge/#", QoS::AtLeastOnce);
    }
    let mut at_edge = Hello::v5("edge").connect(edge.address());
    publish_for_all(&mut at_edge, "edge");
    let received = if mosquitto_hub.is_some() {
        let mut received = receive(&mut at_hubs[0], WELL / 2 * EACH);
        received.append(&mut receive(&mut at_hubs[1], WELL / 2 * EACH));
        received
    } else {
        receive(&mut at_hubs[0], WELL * EACH)
    };
    assert_eq!(received, (0..WELL).map(|number| (number, whole())).collect());
    assert_counted(&edge, 0..WELL, "out");

    // In.
    at_edge.subscribe("hub/#", QoS::AtLeastOnce);
    for hub in &hubs[..if mosquitto_hub.is_some() { 2 } else { 1 }] {
        publish_for_all(&mut Hello::v5("hub publisher").connect(*hub), "hub");
    }
    assert_eq!(receive(&mut at_edge, WELL * EACH), (0..WELL).map(|number| (number, whole())).collect());
    assert_counted(&edge, 0..WELL, "in");

    // The four are down, each for its own reason, with their messages waiting.
    for (number, result) in (WELL..).zip(RESULTS) {
        let name = format!("b{number}");
        let labels = [("bridge", &*name)];
        edge.wait_for_metric("viaduct_bridge_queued_messages", &labels, |left| left == EACH as f64);
        let failed = [("bridge", &*name), ("result", result)];
        edge.wait_for_metric("viaduct_bridge_connects_total", &failed, |times| times >= 2.0);
        assert_eq!(edge.metric("viaduct_bridge_up", &labels), 0.0, "{name} is up");
        assert!(edge.metric("viaduct_bridge_last_error_timestamp_seconds", &labels) > 1.0e9, "{name} has no error");
    }
    for words in WORDS {
        edge.wait_for_log(words);
    }

    // They come back by themselves, with what waited, in order.
    troubled.come_back(hubs[0]);
    eventually("all forty are up", || up(&edge) == BRIDGES as f64);
    assert_eq!(receive(&mut at_hubs[0], 4 * EACH), (WELL..BRIDGES).map(|number| (number, whole())).collect());
    assert_counted(&edge, WELL..BRIDGES, "out");

    // And none of the others was disturbed.
    for number in 0..WELL {
        let name = format!("b{number}");
        let attempts = edge.metric("viaduct_bridge_connects_total", &[("bridge", &name)]);
        assert_eq!(attempts, 1.0, "{name} connected once, and nothing else happened to it");
    }
    assert_eq!(edge.metric("viaduct_bridge_panics_total", &[]), 0.0);
    assert_eq!(edge.metric("viaduct_bridge_messages_dropped_total", &[]), 0.0);
}

#[test]
fn a_remote_whose_system_does_not_answer_costs_its_own_bridge_a_time_out_and_no_other_anything() {
    // A queue of connections that nobody accepts and that is full: the system drops what else comes.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(socket) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(socket);
    }
    let hub = Broker::start("");
    let edge = Broker::start(&(bridge(0, address) + &bridge(1, hub.address())));
    edge.wait_for_log(&["bridge \"b0\"", "no answer within 0.5 s while waiting for the TCP connection"]);
    let timed_out = [("bridge", "b0"), ("result", "timed_out")];
    edge.wait_for_metric("viaduct_bridge_connects_total", &timed_out, |times| times >= 2.0);
    let mut at_hub = Hello::v5("hub").connect(hub.address());
    at_hub.subscribe("edge/#", QoS::AtLeastOnce);
    let mut at_edge = Hello::v5("edge").connect(edge.address());
    for number in 0..2 {
        assert!(!at_edge.publish(&format!("edge/{number}/x"), "carried", QoS::AtLeastOnce).is_error());
    }
    assert_eq!(at_hub.message().topic, "edge/1/x");
    assert_eq!(edge.metric("viaduct_bridge_connects_total", &[("bridge", "b1")]), 1.0);
}

// ---- the broker in the middle, ours beside mosquitto ----

/// Messages of each of two streams.
const COUNT: u32 = 5000;
const CUTS: usize = 5;
/// What each broker in the middle is given, to the last message; ours takes a quarter of it.
const LIMIT: Duration = Duration::from_secs(40);

/// Debian's defaults, but for queues that would lose messages by themselves.
const ROOMY: &str = "max_queued_messages 0\nset_tcp_nodelay true\nlog_type none\nlog_type notice\nlog_type error\n";
/// For A alone: mosquitto 2.0 reorders what has to wait for a place in its window.
const NO_WINDOW: &str = "max_inflight_messages 0\n";
/// How long B may keep to itself what its subscriber has had already.
const LINGER: Duration = Duration::from_secs(5);

/// One broker in the middle, seen from B.
struct Seen {
    outcome: Outcome,
    /// Both streams in the order that B was given them: a subscriber at QoS 0 gets each message when it comes, whereas
    /// B, which has its window, reorders what it queues for the others.
    at_least_once: Tally,
    exactly_once: Tally,
}

impl Seen {
    fn in_order(&self) -> bool {
        [&self.at_least_once, &self.exactly_once].iter().all(|tally| tally.first_out_of_order().is_none())
    }
}

/// Runs the drill from `a` to `b`, whose link to the middle `cut` breaks.
fn drill(a: &Mosquitto, b: &Mosquitto, cut: impl FnMut()) -> Seen {
    let mut witness = Hello::v5("witness").connect(b.address());
    witness.subscribe("stream/#", QoS::AtMostOnce);
    let mut subscriber = Hello::v5("subscriber").persistent().connect(b.address());
    subscriber.subscribe("stream/#", QoS::ExactlyOnce);
    let outcome = Drill { source: a.address(), count: COUNT, cuts: CUTS, paced: true, patience: LIMIT, limit: LIMIT }
        .run(&mut subscriber, cut);
    let mut seen = Seen { outcome, at_least_once: Tally::default(), exactly_once: Tally::default() };
    while seen.at_least_once.distinct() + seen.exactly_once.distinct() < seen.outcome.arrived()
        && let Some(message) = witness.message_within(LINGER)
    {
        if message.topic == "stream/1" { &mut seen.at_least_once } else { &mut seen.exactly_once }.take(&message);
    }
    seen
}

fn ends() -> Option<(Mosquitto, Mosquitto)> {
    Some((Mosquitto::start(&format!("{ROOMY}{NO_WINDOW}"))?, Mosquitto::start(ROOMY)?))
}

/// The link is refused until the middle has noticed and tried again, as `tried` counts.
fn cut(link: &Proxy, tried: impl Fn() -> f64) {
    let before = tried();
    link.refuse();
    eventually("the middle tries again", || tried() > before);
    link.restore();
}

/// The first cut leaves a backlog, and mosquitto 2.0 sends more from a backlog than the 20 messages that its peer takes
/// from a 3.1.1 client: it is thrown out, and resends them all the next time.
fn with_mosquitto() -> Option<Seen> {
    let (a, b) = ends()?;
    let link = Proxy::to(b.address());
    let middle = Mosquitto::start(&format!(
        "{ROOMY}connection a\naddress {}\ntopic stream/# in 2\nrestart_timeout 1\nnotifications false\n\
         connection b\naddress {}\ntopic stream/# out 2\nrestart_timeout 1\nnotifications false\n",
        a.address(),
        link.address(),
    ))?;
    a.wait_for_log(&["New bridge connected"]);
    b.wait_for_log(&["New bridge connected"]);
    let tried = || middle.log().lines().filter(|line| line.contains("Connecting bridge (step 1) b")).count() as f64;
    // It limps on: every few seconds it connects, hands over a few messages, and is thrown out.
    Some(drill(&a, &b, || cut(&link, tried)))
}

fn with_viaduct() -> Option<Seen> {
    let (a, b) = ends()?;
    let link = Proxy::to(b.address());
    // 3.1.1 with the private bit, as mosquitto's bridges speak it.
    let common = "protocol_version = 4\nreconnect_min = \"100ms\"\nreconnect_max = \"1s\"\n";
    let middle = Broker::start(&format!(
        "[[bridge]]\nname = \"a\"\nurl = \"mqtt://{}\"\n{common}\
         [[bridge.topic]]\nfilter = \"stream/#\"\ndirection = \"in\"\nqos = 2\n\
         [[bridge]]\nname = \"b\"\nurl = \"mqtt://{}\"\n{common}\
         [[bridge.topic]]\nfilter = \"stream/#\"\ndirection = \"out\"\nqos = 2\n",
        a.address(),
        link.address(),
    ));
    a.wait_for_log(&["New bridge connected"]);
    b.wait_for_log(&["New bridge connected"]);
    let tried = || middle.metric("viaduct_bridge_connects_total", &[("bridge", "b"), ("result", "refused")]);
    Some(drill(&a, &b, || cut(&link, tried)))
}

/// mosquitto 2.0.11, Debian's, is known for a livelock here: a 3.1.1 client may not have more than 20 messages open with
/// it, its own bridge resends more than that after a cut, is closed for it, and comes back with the same messages. What it
/// gets through in its time is printed beside ours, and not judged: a mosquitto that is better one day fails nothing.
#[test]
fn the_drill_that_mosquitto_in_the_middle_does_not_survive_loses_nothing_here() {
    let theirs = std::thread::spawn(with_mosquitto);
    let Some(ours) = with_viaduct() else { return };
    println!("each has {LIMIT:?} for the drill");
    println!("of 2 x {COUNT} messages   arrived   QoS 1 twice   QoS 2 twice   in order   cuts     took");
    let theirs = theirs.join().ok().flatten();
    for (name, seen) in [("mosquitto", theirs.as_ref()), ("viaduct", Some(&ours))] {
        let Some(seen) = seen else { continue };
        println!(
            "{name:>20} {:>11} {:>13} {:>13} {:>10} {:>6} {:>6.1} s",
            seen.outcome.arrived(),
            seen.outcome.at_least_once.repeated(),
            seen.outcome.exactly_once.repeated(),
            if seen.in_order() { "yes" } else { "no" },
            seen.outcome.cuts,
            seen.outcome.took.as_secs_f64(),
        );
    }
    let outcome = &ours.outcome;
    assert_eq!(outcome.at_least_once.distinct(), COUNT as usize, "QoS 1 is lost");
    assert_eq!(outcome.exactly_once.distinct(), COUNT as usize, "QoS 2 is lost");
    assert_eq!(outcome.exactly_once.repeated(), 0, "QoS 2 came twice");
    assert_eq!(outcome.cuts, CUTS);
    ours.at_least_once.assert_whole("QoS 1 as B was given it", COUNT);
    ours.exactly_once.assert_exact("QoS 2 as B was given it", COUNT);
}
