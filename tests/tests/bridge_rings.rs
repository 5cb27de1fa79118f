//! Brokers that are linked by more than one way: everybody hears everything once, in the order in which it was published, and
//! all of it while one of the ways is there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, Client, DEADLINE, Hello, Outgoing, Proxy, Signal, WillMessage, eventually};

const WAYS: &str = "viaduct_bridge_ways";
const DROPPED: &str = "viaduct_messages_dropped_total";
const DOUBLES: &[(&str, &str)] = &[("reason", "double")];
/// Messages of each kind at each broker.
const COUNT: usize = 200;
/// Messages that are sent without waiting for the first of their answers.
const BURST: usize = 50;

/// A bridge of the first broker to the second.
#[derive(Clone, Copy)]
struct Edge {
    from: usize,
    to: usize,
    /// More than one only where nothing comes back on another.
    links: u8,
    direction: &'static str,
    /// Keys of its rule.
    rule: &'static str,
}

const fn edge(from: usize, to: usize) -> Edge {
    Edge { from, to, links: 1, direction: "both", rule: "" }
}

/// Brokers, bridges that carry everything both ways, and who hears it.
struct Net {
    edges: Vec<Edge>,
    /// What each edge goes through.
    links: Vec<Proxy>,
    /// What is before all topics at each broker.
    roots: Vec<&'static str>,
    qos: QoS,
    brokers: Vec<Broker>,
    publishers: Vec<Client>,
    subscribers: Vec<Client>,
    /// What each subscriber has heard, by topic: the payloads in their order.
    heard: Vec<BTreeMap<String, Vec<String>>>,
}

impl Net {
    /// All at once: each is told of its bridges when all of them are there. Ready when each knows how many ways lead to it.
    fn new(size: usize, edges: &[Edge], qos: QoS) -> Self {
        Self::with_roots(&vec![""; size], edges, qos)
    }

    fn with_roots(roots: &[&'static str], edges: &[Edge], qos: QoS) -> Self {
        let size = roots.len();
        let brokers: Vec<Broker> = (0..size).map(|_| Broker::start("")).collect();
        let links: Vec<Proxy> = edges.iter().map(|edge| Proxy::to(brokers[edge.to].address())).collect();
        let publishers = (0..size).map(|at| Hello::v5(&format!("publisher {at}")).connect(brokers[at].address()));
        let mut net = Self {
            publishers: publishers.collect(),
            subscribers: (0..size).map(|at| subscriber(&brokers[at], roots[at], qos)).collect(),
            heard: vec![BTreeMap::new(); size],
            edges: edges.to_vec(),
            links,
            roots: roots.to_vec(),
            qos,
            brokers,
        };
        (0..size).for_each(|at| net.tell_bridges(at));
        net.wait_for_ways();
        net
    }

    /// Has a broker run the bridges that it is to have.
    fn tell_bridges(&mut self, at: usize) {
        let own = self.edges.iter().zip(&self.links).filter(|(edge, _)| edge.from == at);
        let config: String = own.map(|(edge, link)| bridge(*edge, link, self.qos)).collect();
        self.brokers[at].write_config(&config);
        self.brokers[at].signal(Signal::Hup);
    }

    /// Until every link is up and every broker knows of every way.
    fn wait_for_ways(&mut self) {
        for (at, broker) in self.brokers.iter().enumerate() {
            for edge in self.edges.iter().filter(|edge| edge.from == at) {
                broker.wait_for_metric("viaduct_bridge_up", &[("bridge", &name(*edge))], |up| up == 1.0);
            }
        }
        for (at, broker) in self.brokers.iter().enumerate() {
            let of = |at: usize| self.edges.iter().filter(move |edge| edge.from == at || edge.to == at);
            // What comes from a leaf comes by no other way, and by a bridge that only sends comes nothing.
            let brings = |edge: &&Edge| match edge.from == at {
                true => edge.direction != "out",
                false => of(edge.from).count() > 1,
            };
            let ways = Some(of(at).filter(brings).count()).filter(|ways| *ways > 1).unwrap_or_default();
            broker.wait_for_metric(WAYS, &[], |known| known == ways as f64);
        }
        // A bridge is up before its subscription is answered: what is published at one end arrives at the other when it is.
        let all = self.brokers.len();
        for at in 0..all {
            let topic = format!("net/{}/hello", called(at));
            let here = format!("{}{topic}", self.roots[at]);
            eventually("everybody hears everybody", || {
                self.publishers[at].publish_message(&Outgoing::new(&here, "").qos(QoS::AtLeastOnce));
                self.hear_the_rest();
                self.heard.iter().all(|heard| heard.contains_key(&topic))
            });
        }
        self.come_to_rest();
        self.heard.iter_mut().for_each(|heard| heard.retain(|topic, _| !topic.ends_with("/hello")));
    }

    fn hear(&mut self, at: usize, deadline: std::time::Duration) -> bool {
        let Some(message) = self.subscribers[at].message_within(deadline) else { return false };
        let text = message.text().to_owned();
        let topic = message.topic.strip_prefix(self.roots[at]).unwrap();
        self.heard[at].entry(topic.to_owned()).or_default().push(text);
        true
    }

    /// What has come and was not waited for.
    fn hear_the_rest(&mut self) {
        for at in 0..self.subscribers.len() {
            self.subscribers[at].ping();
            while self.subscribers[at].waiting() > 0 {
                self.hear(at, DEADLINE);
            }
        }
    }

    /// Until nothing goes round any more.
    fn come_to_rest(&mut self) {
        let carried = |net: &Self| -> f64 {
            let sum = |name| net.brokers.iter().map(|broker| broker.metric(name, &[])).sum::<f64>();
            ["viaduct_messages_received_total", "viaduct_messages_sent_total", "viaduct_bridge_messages_total"]
                .map(sum)
                .iter()
                .sum()
        };
        let mut before = -1.0;
        let mut same = 0;
        eventually("nothing goes round any more", || {
            self.hear_the_rest();
            let now = carried(self);
            same = if before == now { same + 1 } else { 0 };
            before = now;
            same >= 10
        });
    }

    /// At each broker [`COUNT`] messages that are all alike and as many that are not, all at the same time.
    fn publish(&mut self, tag: &str) {
        self.publish_at(&(0..self.brokers.len()).collect::<Vec<_>>(), tag, |_, _| ());
    }

    /// The same at some of them; `meanwhile` gets the number of the last message, and its turn between them.
    fn publish_at(&mut self, at: &[usize], tag: &str, mut meanwhile: impl FnMut(&mut Self, usize)) {
        let qos = self.qos;
        for first in (0..COUNT).step_by(BURST) {
            let mut open = Vec::new();
            for at in at.iter().copied() {
                let publisher = &mut self.publishers[at];
                for number in first..first + BURST {
                    for (what, payload) in [("alike", "the same"), ("counted", &number.to_string())] {
                        let topic = format!("{}net/{}/{tag}/{what}", self.roots[at], called(at));
                        let id = publisher.send_publish(&Outgoing::new(&topic, payload).qos(qos));
                        open.extend(id.map(|id| (at, id)));
                    }
                }
            }
            for (at, id) in open {
                assert!(!self.publishers[at].finish_publish(id, qos).is_error());
            }
            meanwhile(self, first + BURST);
        }
    }

    /// Everybody hears all of what was published under `tag` at each broker.
    #[track_caller]
    fn hear_all(&mut self, tag: &str) {
        self.hear_all_of(&(0..self.brokers.len()).collect::<Vec<_>>(), tag);
    }

    /// The same, of what was published at some of them.
    #[track_caller]
    fn hear_all_of(&mut self, from: &[usize], tag: &str) {
        for at in 0..self.brokers.len() {
            for from in from {
                for what in ["alike", "counted"] {
                    let topic = format!("net/{}/{tag}/{what}", called(*from));
                    let is_complete = |heard: &Vec<String>| match what {
                        "alike" => heard.len() >= COUNT,
                        _ => (0..COUNT).all(|number| heard.contains(&number.to_string())),
                    };
                    while !self.heard[at].get(&topic).is_some_and(is_complete) {
                        let heard = self.heard[at].get(&topic).map_or(0, Vec::len);
                        let came = self.hear(at, DEADLINE);
                        assert!(came, "{} does not hear all of {topic}: {heard}", called(at));
                    }
                }
            }
        }
    }

    /// Everybody has heard what was published under `tag` once, and in its order. What comes with QoS 2 waits for the disk of the
    /// worker that took it, so what came by different ways may change places.
    #[track_caller]
    fn assert_once(&mut self, tag: &str) {
        self.hear_all(tag);
        self.come_to_rest();
        let in_order: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
        for (at, heard) in self.heard.iter().enumerate() {
            for (topic, heard) in heard.iter().filter(|(topic, _)| topic.contains(&format!("/{tag}/"))) {
                assert_eq!(heard.len(), COUNT, "{} heard {topic} that often", called(at));
                if topic.ends_with("/counted") && self.qos < QoS::ExactlyOnce {
                    assert_eq!(heard, &in_order, "{} heard {topic} in another order, {:?}", called(at), self.qos);
                }
            }
        }
    }

    fn doubles(&self) -> f64 {
        self.brokers.iter().map(|broker| broker.metric(DROPPED, DOUBLES)).sum()
    }
}

/// What a broker is called here.
fn called(at: usize) -> &'static str {
    ["a", "b", "c", "d", "e"][at]
}

fn name(edge: Edge) -> String {
    format!("{}-to-{}", called(edge.from), called(edge.to))
}

fn bridge(edge: Edge, link: &Proxy, qos: QoS) -> String {
    let Edge { links, direction, rule, .. } = edge;
    format!(
        "[[bridge]]\nname = \"{}\"\nurl = \"mqtt://{}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         notifications = false\nprotocol_version = 5\nlinks = {links}\n\
         [[bridge.topic]]\nfilter = \"net/#\"\ndirection = \"{direction}\"\nqos = {}\n{rule}\n",
        name(edge),
        link.address(),
        qos.bits(),
    )
}

fn subscriber(broker: &Broker, root: &str, qos: QoS) -> Client {
    let mut subscriber = Hello::v5("subscriber").persistent().connect(broker.address());
    subscriber.subscribe(&format!("{root}net/#"), qos);
    subscriber
}

/// Everything once, at each QoS.
fn once(roots: &[&'static str], edges: &[Edge]) {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut net = Net::with_roots(roots, edges, qos);
        net.publish("all");
        net.assert_once("all");
        assert!(net.doubles() > 0.0, "nothing came twice, so that this shows nothing");
        retained_once(&mut net);
        will_once(&mut net);
    }
}

/// A retained message at each is heard once by everybody, and found once by whoever comes later.
fn retained_once(net: &mut Net) {
    let (size, qos) = (net.brokers.len(), net.qos);
    for (at, publisher) in net.publishers.iter_mut().enumerate() {
        let topic = format!("{}net/{}/retained", net.roots[at], called(at));
        assert!(!publisher.publish_message(&Outgoing::new(&topic, "kept").qos(qos).retained()).is_error());
    }
    let topics: Vec<String> = (0..size).map(|at| format!("net/{}/retained", called(at))).collect();
    for at in 0..size {
        while !topics.iter().all(|topic| net.heard[at].contains_key(topic)) {
            assert!(net.hear(at, DEADLINE), "{} does not hear what is retained", called(at));
        }
    }
    net.come_to_rest();
    for at in 0..size {
        for topic in &topics {
            assert_eq!(net.heard[at][topic], ["kept"], "{} heard {topic}", called(at));
        }
        let mut late = Hello::v5("late").connect(net.brokers[at].address());
        late.subscribe(&format!("{}net/#", net.roots[at]), qos);
        late.ping();
        let mut found: Vec<String> = (0..late.waiting()).map(|_| late.message().topic).collect();
        found.sort();
        let there: Vec<String> = topics.iter().map(|topic| format!("{}{topic}", net.roots[at])).collect();
        assert_eq!(found, there, "retained at {}", called(at));
    }
}

/// The will of a client of one of them.
fn will_once(net: &mut Net) {
    let will = WillMessage { qos: net.qos, ..WillMessage::new(&format!("{}net/a/will", net.roots[0]), "gone") };
    Hello::v5("mortal").will(will).connect(net.brokers[0].address()).break_off();
    for at in 0..net.brokers.len() {
        while !net.heard[at].contains_key("net/a/will") {
            assert!(net.hear(at, DEADLINE), "{} does not hear of the end", called(at));
        }
    }
    net.come_to_rest();
    for heard in &net.heard {
        assert_eq!(heard["net/a/will"], ["gone"]);
    }
}

const TWO: [Edge; 2] = [edge(0, 1), edge(1, 0)];
const THREE: [Edge; 3] = [edge(0, 1), edge(1, 2), edge(2, 0)];

#[test]
fn two_brokers_with_a_bridge_to_each_other_hear_everything_once() {
    once(&[""; 2], &TWO);
}

#[test]
fn two_brokers_with_a_bridge_to_each_other_hear_everything_once_where_topics_have_other_names() {
    let there = Edge { rule: "remote_prefix = \"up/\"", ..edge(0, 1) };
    let back = Edge { rule: "local_prefix = \"up/\"", ..edge(1, 0) };
    once(&["", "up/"], &[there, back]);
}

#[test]
fn the_links_of_one_bridge_are_one_way_and_stay_so_when_their_number_changes() {
    let out = Edge { links: 3, direction: "out", ..edge(0, 1) };
    once(&[""; 2], &[out, edge(1, 0)]);
    let mut net = Net::new(2, &[out, edge(1, 0)], QoS::AtLeastOnce);
    net.publish_at(&[0, 1], "changed", |net, number| {
        if number == BURST {
            net.edges[0].links = 2;
            net.tell_bridges(0);
        }
    });
    net.hear_all("changed");
    net.wait_for_ways();
    net.publish("after");
    net.assert_once("after");
}

#[test]
fn a_ring_of_three_whose_bridges_go_both_ways_brings_everything_to_everybody_once() {
    once(&[""; 3], &THREE);
}

#[test]
fn a_ring_of_four_brings_everything_to_everybody_once() {
    once(&[""; 4], &[edge(0, 1), edge(1, 2), edge(2, 3), edge(3, 0)]);
}

#[test]
fn a_diamond_with_an_edge_behind_it_brings_everything_to_everybody_once() {
    once(&[""; 5], &[edge(0, 1), edge(0, 2), edge(1, 3), edge(2, 3), edge(4, 3)]);
}

#[test]
fn a_hub_with_edges_looks_for_no_doubles_until_an_edge_has_another_link() {
    let edges = [edge(0, 3), edge(1, 3), edge(2, 3)];
    let mut net = Net::new(4, &edges, QoS::AtLeastOnce);
    assert_eq!(net.brokers[3].metric(WAYS, &[]), 0.0);
    assert_eq!(net.brokers[0].metric(WAYS, &[]), 0.0);
    net.publish("tree");
    net.assert_once("tree");
    assert_eq!(net.doubles(), 0.0);
    // The first two are linked at run time: both tell the hub, on the links that they have.
    net.edges.push(edge(0, 1));
    net.links.push(Proxy::to(net.brokers[1].address()));
    net.publish_at(&[0, 1, 2, 3], "meanwhile", |net, number| {
        if number == BURST {
            net.tell_bridges(0);
        }
    });
    net.wait_for_ways();
    for (at, bridge) in [(0, "a-to-d"), (1, "b-to-d")] {
        assert_eq!(net.brokers[at].metric("viaduct_bridge_connects_total", &[("bridge", bridge)]), 1.0);
    }
    net.hear_all("meanwhile");
    net.publish("ring");
    net.assert_once("ring");
    assert!(net.doubles() > 0.0);
}

#[test]
fn while_one_link_of_a_ring_is_down_everything_comes_by_the_other_way_and_none_of_it_again_when_it_is_back() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut net = Net::new(3, &THREE, qos);
        net.publish("before");
        net.assert_once("before");
        net.links[0].refuse();
        net.brokers[0].wait_for_metric("viaduct_bridge_up", &[("bridge", "a-to-b")], |up| up == 0.0);
        net.brokers[1].wait_for_metric(WAYS, &[], |ways| ways == 0.0);
        net.publish("cut");
        net.assert_once("cut");
        net.links[0].restore();
        net.wait_for_ways();
        net.assert_once("cut");
        net.publish("whole");
        net.assert_once("whole");
    }
}

#[test]
fn a_ring_of_which_one_is_killed_loses_nothing() {
    let mut net = Net::new(3, &THREE, QoS::AtLeastOnce);
    net.publish_at(&[0, 2], "killed", |net, number| {
        if number == 2 * BURST {
            net.brokers[1].kill();
        }
        if number == 3 * BURST {
            net.brokers[1].start_again();
        }
    });
    let there = net.brokers[1].address();
    for clients in [&mut net.publishers, &mut net.subscribers] {
        let client = clients.remove(1).reconnect(there);
        clients.insert(1, client);
    }
    net.hear_all_of(&[0, 2], "killed");
    net.wait_for_ways();
    net.publish("after");
    net.assert_once("after");
}
