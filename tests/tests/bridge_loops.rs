//! What goes both ways between brokers, or round a ring of them, is heard once by everybody, and where nobody can know, it
//! is not run before somebody has said so.
//!
//! Whether something came twice is known by laps: what is published at the far end after a message has arrived there
//! arrives behind every echo of that message, because one bridge keeps the order of one QoS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use viaduct_tests::codec::QoS;
use viaduct_tests::{
    Broker, Client, DEADLINE, Hello, Mosquitto, Outgoing, Peer, Proxy, Signal, Verdict, run_viaduct, run_viaduct_on,
};

const UP: &str = "viaduct_bridge_up";
const CONNECTS: &str = "viaduct_bridge_connects_total";
const QUEUED: &str = "viaduct_bridge_queued_messages";
/// Messages at each broker.
const COUNT: usize = 10;
/// Times that a message could have gone round.
const LAPS: usize = 4;

/// A broker of either make.
enum Node {
    Viaduct(Box<Broker>),
    Mosquitto(Box<Mosquitto>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Make {
    Viaduct,
    Mosquitto,
}

/// What is spoken by the one that dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    V5,
    Private,
    Plain,
}

impl Node {
    /// One that waits to be dialled.
    fn start(make: Make) -> Option<Self> {
        match make {
            Make::Viaduct => Some(Self::Viaduct(Box::new(Broker::start("")))),
            Make::Mosquitto => Mosquitto::start("set_tcp_nodelay true\n").map(|it| Self::Mosquitto(Box::new(it))),
        }
    }

    /// One that carries `loop/#` both ways to `remote`.
    fn dialling(make: Make, remote: SocketAddr, spoken: Spoken) -> Option<Self> {
        match make {
            Make::Viaduct => {
                let (more, rule) = match spoken {
                    Spoken::V5 => ("protocol_version = 5", ""),
                    Spoken::Private => ("protocol_version = 4", ""),
                    Spoken::Plain => ("protocol_version = 4\ntry_private = false", "allow_loop = true"),
                };
                Some(Self::Viaduct(Box::new(Broker::start(&bridge("b", remote, more, "loop/#", "both", rule)))))
            }
            Make::Mosquitto => {
                let more = match spoken {
                    Spoken::V5 => "bridge_protocol_version mqttv50",
                    Spoken::Private => "bridge_protocol_version mqttv311\ntry_private true",
                    Spoken::Plain => "bridge_protocol_version mqttv311\ntry_private false",
                };
                let config = format!(
                    "set_tcp_nodelay true\nconnection b\naddress {remote}\ntopic loop/# both 1\nnotifications false\n\
                     restart_timeout 1\n{more}\n"
                );
                Mosquitto::start(&config).map(|it| Self::Mosquitto(Box::new(it)))
            }
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Viaduct(broker) => broker.address(),
            Self::Mosquitto(mosquitto) => mosquitto.address(),
        }
    }
}

/// The text of a bridge that is quick to come back, with one rule.
fn bridge(name: &str, remote: SocketAddr, more: &str, filter: &str, direction: &str, rule: &str) -> String {
    format!(
        "[[bridge]]\nname = \"{name}\"\nurl = \"mqtt://{remote}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         notifications = false\n{more}\n\
         [[bridge.topic]]\nfilter = \"{filter}\"\ndirection = \"{direction}\"\nqos = 1\n{rule}\n"
    )
}

/// Who is at a broker: a publisher, a subscriber, and how often the subscriber heard what.
struct Post {
    name: &'static str,
    publisher: Client,
    subscriber: Client,
    heard: BTreeMap<String, usize>,
}

impl Post {
    fn new(name: &'static str, address: SocketAddr) -> Self {
        let publisher = Hello::v5(&format!("publisher {name}")).connect(address);
        let mut subscriber = Hello::v5(&format!("subscriber {name}")).connect(address);
        subscriber.subscribe("loop/#", QoS::AtLeastOnce);
        Self { name, publisher, subscriber, heard: BTreeMap::new() }
    }

    /// Each topic is a message.
    #[track_caller]
    fn publish(&mut self, topic: &str, retained: bool) {
        let message = Outgoing::new(&format!("loop/{topic}"), self.name).qos(QoS::AtLeastOnce);
        let message = if retained { message.retained() } else { message };
        assert!(!self.publisher.publish_message(&message).is_error());
    }

    /// Listens until a topic has come.
    #[track_caller]
    fn hear(&mut self, topic: &str) {
        while !self.heard.contains_key(topic) {
            let message = self.subscriber.message_within(DEADLINE);
            let message = message.unwrap_or_else(|| panic!("{} does not hear {topic}: {:?}", self.name, self.heard));
            *self.heard.entry(message.topic.trim_start_matches("loop/").to_owned()).or_default() += 1;
        }
    }

    /// What has come and was not waited for.
    fn hear_the_rest(&mut self) {
        self.subscriber.ping();
        while self.subscriber.waiting() > 0 {
            let message = self.subscriber.message();
            *self.heard.entry(message.topic.trim_start_matches("loop/").to_owned()).or_default() += 1;
        }
    }

    /// Checks that everything was heard, and no more than `times`; what was published here as often as `own` says.
    #[track_caller]
    fn assert_heard(&self, what: &str, own: usize, times: usize, all: &[String]) {
        for topic in all {
            let most = if topic.starts_with(self.name) { own } else { times };
            let heard = self.heard.get(topic).copied().unwrap_or_default();
            assert!((1..=most).contains(&heard), "{what}: {} heard {topic} {heard} times", self.name);
        }
        assert_eq!(self.heard.len(), all.len(), "{what}: {} heard what nobody said: {:?}", self.name, self.heard);
    }
}

/// Everybody publishes, and then a marker goes to everybody from each in turn, as often as something may go round. The
/// topics that were published.
#[track_caller]
fn rounds(posts: &mut [Post], tag: &str) -> Vec<String> {
    let mut all = Vec::new();
    for number in 0..COUNT {
        for post in posts.iter_mut() {
            all.push(format!("{}/{tag}/{number}", post.name));
            post.publish(all.last().unwrap(), false);
        }
    }
    for topic in all.clone() {
        posts.iter_mut().for_each(|post| post.hear(&topic));
    }
    for lap in 0..LAPS {
        for place in 0..posts.len() {
            let topic = format!("{}/{tag}/lap/{lap}", posts[place].name);
            posts[place].publish(&topic, false);
            posts.iter_mut().for_each(|post| post.hear(&topic));
            all.push(topic);
        }
    }
    posts.iter_mut().for_each(Post::hear_the_rest);
    all
}

// ---- two brokers ----

/// `dialler` and `remote` carry everything both ways; each has a retained message of its own when the link comes up.
fn pair(dialler: Make, remote: Make, spoken: Spoken) {
    let what = format!("{dialler:?} dials {remote:?}, {spoken:?}");
    let Some(far) = Node::start(remote) else { return };
    let link = Proxy::to(far.address());
    link.refuse();
    let Some(near) = Node::dialling(dialler, link.address(), spoken) else { return };
    let mut posts = [Post::new("near", near.address()), Post::new("far", far.address())];
    for post in &mut posts {
        let topic = format!("{}/retained", post.name);
        post.publish(&topic, true);
        post.hear(&topic);
    }
    link.restore();
    let retained = ["near/retained".to_owned(), "far/retained".to_owned()];
    for post in &mut posts {
        retained.iter().for_each(|topic| post.hear(topic));
    }
    let mut all = rounds(&mut posts, "first");
    all.extend(retained.clone());
    // A mosquitto that hides that it is a bridge gets its own messages back, and hands them to its own subscribers.
    let own = if dialler == Make::Mosquitto && spoken == Spoken::Plain { 2 } else { 1 };
    if dialler == Make::Mosquitto {
        // mosquitto sends what is retained because it is, because it waited, and behind its SUBSCRIBE, and may get it back.
        for post in &mut posts {
            assert!(post.heard.values().all(|times| *times <= 4), "{what}: {:?}", post.heard);
            retained.iter().for_each(|topic| _ = post.heard.insert(topic.clone(), 1));
        }
    }
    posts[0].assert_heard(&what, own, 1, &all);
    posts[1].assert_heard(&what, 1, 1, &all);
    // Whoever comes later finds each of them retained, once, at either end.
    for post in [&near, &far] {
        let mut late = Post::new("late", post.address());
        late.hear_the_rest();
        assert_eq!(late.heard, [("far/retained".to_owned(), 1), ("near/retained".to_owned(), 1)].into(), "{what}");
    }
    if dialler == Make::Mosquitto {
        return; // At 5.0 it ends its session with the link, and what is published meanwhile waits for nobody.
    }
    // The link breaks and comes back: what is retained may be told again, what is not is not.
    link.cut();
    let again = rounds(&mut posts, "second");
    for post in &mut posts {
        post.heard.retain(|topic, _| !topic.ends_with("/retained"));
    }
    all.retain(|topic| !topic.ends_with("/retained"));
    all.extend(again);
    posts[0].assert_heard(&what, own, 1, &all);
    posts[1].assert_heard(&what, 1, 1, &all);
}

/// At everything that can be spoken, at the same time: mosquitto takes seconds to dial again.
fn pairs(dialler: Make, remote: Make) {
    std::thread::scope(|scope| {
        for spoken in [Spoken::V5, Spoken::Private, Spoken::Plain] {
            scope.spawn(move || pair(dialler, remote, spoken));
        }
    });
}

#[test]
fn viaduct_dials_viaduct() {
    pairs(Make::Viaduct, Make::Viaduct);
}

#[test]
fn viaduct_dials_mosquitto() {
    pairs(Make::Viaduct, Make::Mosquitto);
}

#[test]
fn mosquitto_dials_viaduct() {
    pairs(Make::Mosquitto, Make::Viaduct);
}

#[test]
fn mosquitto_dials_mosquitto_which_is_what_the_others_are_measured_by() {
    pairs(Make::Mosquitto, Make::Mosquitto);
}

// ---- what nobody can know ----

#[test]
fn a_way_round_at_3_1_1_without_the_private_bit_is_refused_when_the_file_is_read_unless_it_is_meant() {
    for direction in [vec!["both"], vec!["out", "in"]] {
        for (allow_loop, code) in [("", Some(2)), ("allow_loop = true", Some(0))] {
            let more = "protocol_version = 4\ntry_private = false";
            let mut config = bridge("b", ([127, 0, 0, 1], 1).into(), more, "loop/#", direction[0], allow_loop);
            for direction in &direction[1..] {
                config.push_str(&format!(
                    "[[bridge.topic]]\nfilter = \"loop/+\"\ndirection = \"{direction}\"\n{allow_loop}\n"
                ));
            }
            let finished = run_viaduct_on(&config, &["check-config"]);
            assert_eq!(finished.code, code, "{direction:?} {allow_loop:?}: {finished:?}");
            if code != Some(0) {
                for word in ["would loop", "allow_loop = true", "try_private = true"] {
                    assert!(finished.err.contains(word), "{word:?} is not said: {}", finished.err);
                }
            }
        }
    }
}

#[test]
fn a_remote_that_turns_out_to_send_our_own_messages_back_is_not_joined_before_somebody_says_so() {
    let Some(mosquitto) = Mosquitto::start("set_tcp_nodelay true\n") else { return };
    let upstream = mosquitto.address();
    // It takes neither 5 nor the private bit, which shows when it is asked.
    let remote = Peer::new(move |level| if level == 4 { Verdict::LeadTo(upstream) } else { Verdict::Close });
    let config = |rule: &str| bridge("b", remote.address(), "", "loop/#", "both", rule);
    let mut viaduct = Broker::start(&config(""));
    let looped = [("bridge", "b"), ("result", "loop")];
    viaduct.wait_for_metric(CONNECTS, &looped, |times| times >= 3.0);
    viaduct.wait_for_log(&["bridge \"b\"", "level 4", "sends our own messages back", "`allow_loop = true`"]);
    assert_eq!(viaduct.metric(UP, &[("bridge", "b")]), 0.0);
    let path = viaduct.config_path();
    let check = run_viaduct(&["bridge", "check", "b", "--config", path.to_str().unwrap()], "");
    assert!(check.out.contains("loop: FAIL") && check.out.contains("`allow_loop = true`"), "{check:?}");
    assert_eq!(check.code, Some(1), "{check:?}");
    // Nothing crosses, and nothing is lost.
    let mut posts = [Post::new("near", viaduct.address()), Post::new("far", upstream)];
    posts[0].publish("near/early", false);
    posts[0].hear("near/early");
    viaduct.wait_for_metric(QUEUED, &[("bridge", "b")], |queued| queued == 1.0);
    assert!(posts[1].heard.is_empty());
    viaduct.write_config(&config("allow_loop = true"));
    viaduct.signal(Signal::Hup);
    viaduct.wait_for_metric(UP, &[("bridge", "b")], |up| up == 1.0);
    posts[1].hear("near/early");
    let mut all = rounds(&mut posts, "meant");
    all.push("near/early".to_owned());
    posts[0].assert_heard("meant", 1, 1, &all);
    posts[1].assert_heard("meant", 1, 1, &all);
}

#[test]
fn a_bridge_to_its_own_broker_is_not_joined_when_its_rules_feed_themselves() {
    let rules = |name: &str, host: &str, filter: &str, remote_prefix: &str, more: &str| {
        format!(
            "[[bridge]]\nname = \"{name}\"\nurl = \"mqtt://{host}:@port@\"\nprotocol_version = 4\nreconnect_min = \"50ms\"\n\
             reconnect_max = \"200ms\"\nnotifications = false\n[[bridge.topic]]\nfilter = \"{filter}\"\n\
             direction = \"out\"\nqos = 1\nremote_prefix = \"{remote_prefix}\"\n{more}\n"
        )
    };
    let config = "[[listener]]\nbind = \"127.0.0.1:@port@\"\n".to_owned()
        + &rules("round", "127.0.0.1", "round/#", "", "")
        + &rules("named", "localhost", "deep/#", "deep/", "")
        + &rules("rename", "127.0.0.1", "from/#", "to/", "")
        + &rules("meant", "127.0.0.1", "nothing/#", "", "allow_loop = true");
    let broker = Broker::start(&config);
    for name in ["rename", "meant"] {
        broker.wait_for_metric(UP, &[("bridge", name)], |up| up == 1.0);
    }
    for name in ["round", "named"] {
        broker.wait_for_metric(CONNECTS, &[("bridge", name), ("result", "loop")], |count| count >= 2.0);
        assert_eq!(broker.metric(UP, &[("bridge", name)]), 0.0, "{name}");
    }
    broker.wait_for_log(&["bridge \"named\"", "this broker itself", "`allow_loop = true`"]);
    let mut post = Post::new("here", broker.address());
    post.subscriber.subscribe("to/#", QoS::AtLeastOnce);
    assert!(!post.publisher.publish_message(&Outgoing::new("from/x", "renamed").qos(QoS::AtLeastOnce)).is_error());
    assert_eq!(post.subscriber.message_within(DEADLINE).unwrap().topic, "to/from/x");
    let path = broker.config_path();
    let check = run_viaduct(&["bridge", "check", "round", "--config", path.to_str().unwrap()], "");
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.out.contains("loop: FAIL: this is a listener of this broker itself"), "{check:?}");
}

// ---- rings ----

/// Three Viaducts, each with a bridge to the next one.
fn ring(direction: &str) -> [Broker; 3] {
    let c = Broker::start("");
    let next = |to: &Broker| bridge("next", to.address(), "protocol_version = 5", "loop/#", direction, "");
    let b = Broker::start(&next(&c));
    let a = Broker::start(&next(&b));
    let mut c = c;
    c.write_config(&next(&a));
    c.signal(Signal::Hup);
    for broker in [&a, &b, &c] {
        broker.wait_for_metric(UP, &[("bridge", "next")], |up| up == 1.0);
    }
    [a, b, c]
}

/// Everybody hears everything from a ring, and what is retained at one is retained at all.
fn round(direction: &str) {
    let brokers = ring(direction);
    if direction == "both" {
        // There are two ways to each, and both of its neighbours have to have said so.
        for broker in &brokers {
            broker.wait_for_metric("viaduct_bridge_ways", &[], |ways| ways == 2.0);
        }
    }
    let mut posts = [
        Post::new("a", brokers[0].address()),
        Post::new("b", brokers[1].address()),
        Post::new("c", brokers[2].address()),
    ];
    posts[0].publish("a/retained", true);
    posts.iter_mut().for_each(|post| post.hear("a/retained"));
    let mut all = rounds(&mut posts, direction);
    all.push("a/retained".to_owned());
    for post in &posts {
        post.assert_heard(direction, 1, 1, &all);
    }
    for broker in &brokers {
        let mut late = Post::new("late", broker.address());
        late.hear_the_rest();
        assert_eq!(late.heard, [("a/retained".to_owned(), 1)].into());
    }
}

#[test]
fn a_ring_of_three_that_fetches_brings_everything_to_everybody_once() {
    round("in");
}

#[test]
fn a_ring_of_three_that_sends_brings_everything_to_everybody_once() {
    round("out");
}

#[test]
fn a_ring_of_three_that_carries_both_ways_brings_everything_to_everybody_once() {
    round("both");
}
