//! What goes both ways between brokers, or round a ring of them, is heard once by everybody, and where nobody can know, it
//! is not run before somebody has said so.
//!
//! Whether something came twice is known by laps: what is published at the far end after a message has arrived there
//! arrives behind every echo of that message, because one bridge keeps the order of one QoS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use viaduct_tests::codec::{Level, QoS};
use viaduct_tests::{
    Broker, Client, DEADLINE, Heard, Hello, Link, Mosquitto, Outgoing, Peer, Proxy, Reply, Scripted, Signal, Verdict,
    eventually, run_viaduct, run_viaduct_on,
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

// ---- two bridges, one from each side, where messages have nothing to note a hop in ----

fn refused(broker: &Broker, name: &str) -> f64 {
    broker.metric(CONNECTS, &[("bridge", name), ("result", "loop")])
}

#[track_caller]
fn wait_until_refused(broker: &Broker, name: &str) {
    broker.wait_for_metric(CONNECTS, &[("bridge", name), ("result", "loop")], |times| times >= 2.0);
    assert_eq!(broker.metric(UP, &[("bridge", name)]), 0.0);
}

#[track_caller]
fn wait_until_up(broker: &Broker, name: &str) {
    broker.wait_for_metric(UP, &[("bridge", name)], |up| up == 1.0);
}

fn tell(broker: &mut Broker, config: &str) {
    broker.write_config(config);
    broker.signal(Signal::Hup);
}

const V31: &str = "protocol_version = 3";
const V311: &str = "protocol_version = 4";
const V5: &str = "protocol_version = 5";

/// `north` is up when `south` begins.
fn facing(north: &str, south: &str, rule: [&str; 2], allow_loop: &str) -> [Broker; 2] {
    let mut b = Broker::start("");
    let a = Broker::start(&bridge("north", b.address(), north, "loop/#", rule[0], allow_loop));
    wait_until_up(&a, "north");
    tell(&mut b, &bridge("south", a.address(), south, "loop/#", rule[1], allow_loop));
    [a, b]
}

#[test]
fn of_two_brokers_that_dial_each_other_on_3_x_the_second_does_not_join_and_everything_is_heard_once() {
    std::thread::scope(|scope| {
        for (north, south) in [(V311, V311), (V31, V31), (V31, V311), (V5, V311), (V311, V5)] {
            for rule in [["both", "both"], ["in", "in"], ["both", "in"]] {
                scope.spawn(move || {
                    let what = format!("{north} {south} {rule:?}");
                    let [a, mut b] = facing(north, south, rule, "");
                    wait_until_refused(&b, "south");
                    b.wait_for_log(&["bridge \"south\"", "not run", "north\"", "\"loop/#\"", "`allow_loop = true`"]);
                    assert_eq!(refused(&a, "north"), 0.0, "{what}: the first stays");
                    if rule[0] == "both" {
                        let mut posts = [Post::new("near", a.address()), Post::new("far", b.address())];
                        let all = rounds(&mut posts, "once");
                        posts.iter().for_each(|post| post.assert_heard(&what, 1, 1, &all));
                    }
                    // When the first is gone, the second is wanted.
                    let mut a = a;
                    tell(&mut a, "");
                    wait_until_up(&b, "south");
                    tell(&mut b, "");
                });
            }
        }
    });
}

#[test]
fn two_brokers_that_begin_to_dial_each_other_at_once_keep_one_of_the_bridges() {
    let [mut a, mut b] = [Broker::start(""), Broker::start("")];
    let back = bridge("north", b.address(), V311, "loop/#", "both", "");
    tell(&mut b, &bridge("south", a.address(), V311, "loop/#", "both", ""));
    tell(&mut a, &back);
    let up = |broker: &Broker, name| broker.metric(UP, &[("bridge", name)]);
    eventually("one is up, and the other is refused", || {
        let (north, south) = (up(&a, "north"), up(&b, "south"));
        let is_refused = if north == 1.0 { refused(&b, "south") } else { refused(&a, "north") } >= 1.0;
        north + south == 1.0 && is_refused
    });
    let mut posts = [Post::new("near", a.address()), Post::new("far", b.address())];
    let all = rounds(&mut posts, "once");
    posts.iter().for_each(|post| post.assert_heard("at once", 1, 1, &all));
}

#[test]
fn two_brokers_that_only_send_the_same_are_found_out_by_the_first_message() {
    let [a, b] = facing(V311, V311, ["out", "out"], "");
    wait_until_up(&b, "south");
    let mut posts = [Post::new("near", a.address()), Post::new("far", b.address())];
    posts[1].publish("far/first", false);
    posts[0].hear("far/first");
    wait_until_refused(&a, "north");
    a.wait_for_log(&["bridge \"north\"", "south\"", "publishes to \"loop/far/first\""]);
    for number in 0..COUNT {
        let topic = format!("far/{number}");
        posts[1].publish(&topic, false);
        posts[0].hear(&topic);
    }
    posts.iter_mut().for_each(Post::hear_the_rest);
    posts.iter_mut().for_each(|post| post.heard.retain(|topic, _| topic != "far/first"));
    assert!(posts.iter().all(|post| post.heard.len() == COUNT && post.heard.values().all(|times| *times == 1)));
}

#[test]
fn two_brokers_that_send_each_other_different_topics_on_3_x_are_let() {
    for (north, south) in [(("out", "a/#"), ("out", "b/#")), (("in", "a/#"), ("in", "b/#"))] {
        let mut b = Broker::start("");
        let a = Broker::start(&bridge("north", b.address(), V311, north.1, north.0, ""));
        wait_until_up(&a, "north");
        tell(&mut b, &bridge("south", a.address(), V311, south.1, south.0, ""));
        wait_until_up(&b, "south");
        let mut posts = [Post::new("near", a.address()), Post::new("far", b.address())];
        posts.iter_mut().for_each(|post| _ = post.subscriber.subscribe("+/x", QoS::AtLeastOnce));
        for number in 0..COUNT {
            for (from, topic) in [(north.0 == "in", "a/x"), (south.0 == "out", "b/x")] {
                let message = Outgoing::new(topic, number.to_string()).qos(QoS::AtLeastOnce);
                assert!(!posts[usize::from(from)].publisher.publish_message(&message).is_error());
                for post in &mut posts {
                    assert_eq!(post.subscriber.message_within(DEADLINE).unwrap().text(), number.to_string());
                }
            }
        }
        assert_eq!((refused(&a, "north"), refused(&b, "south")), (0.0, 0.0));
        assert!([(&a, "north"), (&b, "south")].iter().all(|(at, name)| at.metric(UP, &[("bridge", name)]) == 1.0));
    }
}

#[test]
fn with_allow_loop_both_bridges_run_and_what_both_carry_is_heard_twice() {
    let [a, b] = facing(V311, V311, ["out", "in"], "allow_loop = true");
    wait_until_up(&b, "south");
    let mut posts = [Post::new("near", a.address()), Post::new("far", b.address())];
    eventually("it comes by both", || {
        posts[0].publish("near/twice", false);
        posts[1].hear_the_rest();
        posts[1].heard.get("near/twice").is_some_and(|times| *times >= 2)
    });
    assert_eq!((refused(&a, "north"), refused(&b, "south")), (0.0, 0.0));
}

#[test]
fn a_bridge_of_several_links_that_gets_other_rules_is_held_against_those() {
    let mut b = Broker::start("[node]\nworkers = 2\n");
    let a = Broker::start(&bridge("north", b.address(), V311, "loop/#", "both", ""));
    wait_until_up(&a, "north");
    let back = |filter| bridge("south", a.address(), &format!("{V311}\nlinks = 2"), filter, "out", "");
    tell(&mut b, &back("other/#"));
    wait_until_up(&b, "south");
    assert_eq!(refused(&b, "south"), 0.0);
    tell(&mut b, &back("loop/#"));
    wait_until_refused(&b, "south");
}

#[test]
fn the_state_of_its_own_link_is_nothing_that_the_bridge_of_the_remote_carries() {
    let mut a = Broker::start("");
    let mut b = Broker::start("");
    let back = bridge("north", a.address(), V311, "other/#", "out", "")
        .replace("notifications = false", "client_id = \"north.id\"");
    let watch = bridge("watch", b.address(), V311, "$SYS/broker/connection/#", "out", "remote_prefix = \"of a/\"");
    tell(&mut a, &watch);
    wait_until_up(&a, "watch");
    let mut there = Hello::v5("there").connect(b.address());
    there.subscribe("of a/#", QoS::AtLeastOnce);
    tell(&mut b, &back);
    // Whoever dials says so, and that is carried.
    let is_said =
        |message: &viaduct_tests::Message| message.topic.ends_with("/north.id/state") && message.text() == "1";
    while !there.message_within(DEADLINE).is_some_and(|message| is_said(&message)) {}
    // The bridge finds it there when it dials again, too.
    tell(&mut a, "");
    tell(&mut a, &watch);
    wait_until_up(&a, "watch");
    wait_until_up(&b, "north");
    assert_eq!(refused(&a, "watch"), 0.0);
}

#[test]
fn guests_that_come_one_after_the_other_do_not_keep_a_link_from_carrying_when_its_remote_says_nothing_of_them() {
    let remote = Broker::start("");
    let way = Proxy::to(remote.address());
    let viaduct = Broker::start(&bridge("b", way.address(), V311, "loop/#", "both", ""));
    wait_until_up(&viaduct, "b");
    let mut there = Hello::v5("there").connect(remote.address());
    there.subscribe("loop/#", QoS::AtLeastOnce);
    let mut here = Hello::v5("here").connect(viaduct.address());
    // It takes connections and answers none.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    way.lead_to(silent.local_addr().unwrap());
    let mut guests = Vec::new();
    let mut come = || {
        let mut guest = Hello::new(Level::V311_BRIDGE, &format!("guest {}", guests.len())).connect(viaduct.address());
        guest.subscribe("loop/#", QoS::AtMostOnce);
        guests.push(guest);
    };
    come();
    assert!(!here.publish_message(&Outgoing::new("loop/x", "1").qos(QoS::AtLeastOnce)).is_error());
    eventually("it is carried", || {
        come();
        there.message_within(std::time::Duration::from_millis(100)).is_some()
    });
    assert_eq!(viaduct.metric(CONNECTS, &[("bridge", "b"), ("result", "connected")]), 1.0);
}

#[test]
fn a_remote_that_could_not_be_asked_is_asked_again() {
    let mut b = Broker::start("");
    let way = Proxy::to(b.address());
    let a = Broker::start(&bridge("north", way.address(), V311, "loop/#", "both", ""));
    wait_until_up(&a, "north");
    // The link stays, and whoever comes to ask is cut off.
    let closing = Proxy::to(b.address());
    closing.set(Link::Closing);
    way.lead_to(closing.address());
    let south = bridge("south", a.address(), V311, "loop/#", "both", "allow_loop = true");
    tell(&mut b, &south);
    wait_until_up(&b, "south");
    eventually("it was asked", || closing.accepted() > 0);
    a.wait_for_log(&[
        "it can't be found out whether the bridges that are connected here as",
        "south",
        "north.asks\" in there",
        "`dollar_topics = false` in `remote` of this bridge",
    ]);
    assert_eq!(refused(&a, "north"), 0.0);
    way.lead_to(b.address());
    wait_until_refused(&a, "north");
}

#[test]
fn a_remote_without_dollar_topics_is_not_asked() {
    let remote = Scripted::v311(|_| Reply::Usual);
    let without = "[bridge.remote]\ndollar_topics = false";
    let config = bridge("b", remote.address(), "", "loop/#", "out", "");
    let viaduct = Broker::start(&config.replace("[[bridge.topic]]", &format!("{without}\n[[bridge.topic]]")));
    wait_until_up(&viaduct, "b");
    let mut guest = Hello::new(Level::V311_BRIDGE, "guest").connect(viaduct.address());
    guest.subscribe("loop/#", QoS::AtLeastOnce);
    assert!(!guest.publish("loop/x", b"1", QoS::AtLeastOnce).is_error());
    remote.wait_for("it is carried", |heard| matches!(heard, Heard::Publish { topic, .. } if topic == "loop/x"));
    assert_eq!(askers(&remote), 0);
}

#[test]
fn a_remote_that_learns_late_that_its_bridge_is_here_is_asked_again() {
    let b = Broker::start("");
    let a = Broker::start(&bridge("north", b.address(), V311, "loop/#", "both", ""));
    wait_until_up(&a, "north");
    let mut there = Hello::v5("there").connect(b.address());
    there.subscribe("loop/#", QoS::AtLeastOnce);
    let mut guest = Hello::new(Level::V311_BRIDGE, "late").connect(a.address());
    guest.subscribe("loop/#", QoS::AtLeastOnce);
    assert!(!guest.publish("loop/x", b"1", QoS::AtLeastOnce).is_error());
    assert_eq!(there.message_within(DEADLINE).unwrap().text(), "1", "the remote has said that it is none of its own");
    // As the broker that a bridge belongs to does.
    let state = Outgoing::new("$SYS/broker/connection/late/state", "1").qos(QoS::AtLeastOnce).retained();
    assert!(!Hello::v5("late").connect(b.address()).publish_message(&state).is_error());
    wait_until_refused(&a, "north");
}

#[test]
fn ctl_shows_whose_bridge_keeps_ours_from_running_and_when_it_is_tried_again() {
    let mut b = Broker::start("");
    let north = format!("{V311}\nclient_id = \"its.name\"");
    let a = Broker::start(&bridge("north", b.address(), &north, "loop/#", "both", ""));
    wait_until_up(&a, "north");
    let back = bridge("south", a.address(), V311, "loop/#", "both", "");
    tell(&mut b, &back.replace("\"50ms\"", "\"9m\"").replace("\"200ms\"", "\"9m\""));
    b.wait_for_metric(CONNECTS, &[("bridge", "south"), ("result", "loop")], |times| times >= 1.0);
    let url = format!("http://{}", b.admin());
    let show = run_viaduct(&["ctl", "--url", &url, "bridges", "show", "south"], "");
    for words in ["waiting, for", "loop: not run", "\"its.name\"", "\"loop/#\"", "next attempt  in "] {
        assert!(show.out.contains(words), "{words} is not in {show:?}");
    }
    let list = run_viaduct(&["ctl", "--url", &url, "bridges"], "");
    assert!(list.out.contains("waiting, next in"), "{list:?}");
}

#[test]
fn a_link_stays_at_the_second_address_for_as_long_as_the_first_dials_back() {
    let [mut a, mut first, second] = [Broker::start(""), Broker::start(""), Broker::start("")];
    let way = Proxy::to(first.address());
    tell(&mut first, &bridge("south", a.address(), V311, "loop/#", "both", ""));
    wait_until_up(&first, "south");
    let failback = format!("{V311}\nfailback = \"100ms\"");
    let to_first = format!("\"mqtt://{}\"", way.address());
    let to_both = format!("[{to_first}, \"mqtt://{}\"]", second.address());
    tell(&mut a, &bridge("north", way.address(), &failback, "loop/#", "both", "").replace(&to_first, &to_both));
    wait_until_up(&a, "north");
    let before = way.accepted();
    eventually("the first is probed again and again", || way.accepted() >= before + 4);
    a.wait_for_log(&["the link stays where it is", "south\" and is subscribed to \"loop/#\""]);
    assert_eq!(a.log().matches("the link stays where it is").count(), 1);
    let returned = |broker: &Broker| broker.metric(CONNECTS, &[("bridge", "north"), ("result", "returned")]);
    assert_eq!((refused(&a, "north"), returned(&a)), (1.0, 0.0), "it has left the first once, and is not given up");
    wait_until_up(&a, "north");
    tell(&mut first, "");
    eventually("it goes back when the other has gone", || returned(&a) == 1.0);
    wait_until_up(&a, "north");
    assert_eq!(refused(&a, "north"), 1.0);
}

#[test]
fn the_probe_of_the_first_address_and_the_question_about_guests_go_on_side_by_side() {
    let waits = |heard: &Heard| matches!(heard, Heard::Connect { client_id, .. } if client_id != "b.id");
    // Whoever comes beside the bridge gets no answer and stays.
    let remote = Scripted::v311(move |heard| if waits(heard) { Reply::Nothing } else { Reply::Usual });
    let first = Proxy::to(remote.address());
    first.refuse();
    let urls = format!("[\"mqtt://{}\", \"mqtt://{}\"]", first.address(), remote.address());
    let more = "client_id = \"b.id\"\nfailback = \"100ms\"";
    let config = bridge("b", remote.address(), more, "loop/#", "out", "");
    let viaduct = Broker::start(&config.replace(&format!("\"mqtt://{}\"", remote.address()), &urls));
    wait_until_up(&viaduct, "b");
    let comes = |name: &'static str| {
        let is = move |heard: &Heard| matches!(heard, Heard::Connect { client_id, .. } if client_id == name);
        remote.wait_for(name, is);
    };
    first.restore();
    comes("b.id.probe");
    let mut guest = Hello::new(Level::V311_BRIDGE, "guest").connect(viaduct.address());
    guest.subscribe("loop/#", QoS::AtLeastOnce);
    comes("b.id.asks");
    assert_eq!(viaduct.metric(UP, &[("bridge", "b")]), 1.0);
}

/// A mosquitto whose bridge sends here what a bridge of ours fetches from it.
#[test]
fn what_a_guest_sends_and_a_bridge_of_ours_fetches_from_its_broker_is_found_out_by_the_first_message() {
    let mut a = Broker::start("");
    let config = format!(
        "set_tcp_nodelay true\nconnection back\naddress {}\ntopic loop/# out 1\nrestart_timeout 1\n\
         bridge_protocol_version mqttv311\n",
        a.address()
    );
    let Some(mosquitto) = Mosquitto::start(&config) else { return };
    let mut posts = [Post::new("near", a.address()), Post::new("far", mosquitto.address())];
    eventually("mosquitto is there", || {
        posts[1].publish("far/there", false);
        posts.iter_mut().for_each(Post::hear_the_rest);
        posts[0].heard.contains_key("far/there")
    });
    tell(&mut a, &bridge("b", mosquitto.address(), V311, "loop/#", "in", ""));
    eventually("a message shows it", || {
        posts[1].publish("far/first", false);
        posts.iter_mut().for_each(Post::hear_the_rest);
        refused(&a, "b") >= 2.0
    });
    a.wait_for_log(&["bridge \"b\"", "not run", ".back\" and publishes to \"loop/far/"]);
    for number in 0..COUNT {
        let topic = format!("far/{number}");
        posts[1].publish(&topic, false);
        posts[0].hear(&topic);
    }
    posts[0].hear_the_rest();
    assert!((0..COUNT).all(|number| posts[0].heard[&format!("far/{number}")] == 1), "{:?}", posts[0].heard);
}

/// How often somebody came to ask whose the guests are.
fn askers(remote: &Scripted) -> usize {
    let asks = |heard: &Heard| matches!(heard, Heard::Connect { client_id, .. } if client_id.ends_with(".asks"));
    remote.heard().iter().filter(|heard| asks(heard)).count()
}

/// The bridge of each to the other, at these levels, and which of them is up first.
fn facing_mosquitto(level: &str, mosquitto_level: &str, mosquitto_is_first: bool) {
    let what = format!("{level}, {mosquitto_level}, mosquitto is first: {mosquitto_is_first}");
    let mut a = Broker::start("");
    let link = Proxy::to(a.address());
    link.refuse();
    let config = format!(
        "set_tcp_nodelay true\nconnection back\naddress {}\ntopic loop/# both 1\nrestart_timeout 1\n\
         bridge_protocol_version {mosquitto_level}\n",
        link.address()
    );
    let Some(mosquitto) = Mosquitto::start(&config) else { return };
    let mut posts = [Post::new("near", a.address()), Post::new("far", mosquitto.address())];
    if mosquitto_is_first {
        link.restore();
        eventually("mosquitto is there", || {
            posts[1].publish("far/there", false);
            // The publisher's side too: mosquitto drops what is beyond a thousand that wait for a client.
            posts.iter_mut().for_each(Post::hear_the_rest);
            posts[0].heard.contains_key("far/there")
        });
    }
    tell(&mut a, &bridge("b", mosquitto.address(), level, "loop/#", "both", ""));
    if !mosquitto_is_first {
        wait_until_up(&a, "b");
        link.restore();
    }
    wait_until_refused(&a, "b");
    a.wait_for_log(&["bridge \"b\"", "not run", ".back\"", "\"loop/#\""]);
    let all = rounds(&mut posts, "once");
    posts.iter_mut().for_each(|post| post.heard.retain(|topic, _| topic.contains("/once/")));
    posts.iter().for_each(|post| post.assert_heard(&what, 1, 1, &all));
    let url = format!("http://{}", a.admin());
    let check = run_viaduct(&["ctl", "--url", &url, "bridges", "check", "b"], "");
    assert!(
        check.out.contains("loop: FAIL") && check.out.contains(".back\" and is subscribed to"),
        "{what}: {check:?}"
    );
    assert_eq!(check.code, Some(1), "{what}: {check:?}");
}

#[test]
fn of_a_viaduct_and_a_mosquitto_that_dial_each_other_the_viaduct_stays_away_whoever_is_first() {
    for mosquitto_is_first in [true, false] {
        std::thread::scope(|scope| {
            for level in [V31, V311, "protocol_version = \"auto\""] {
                for mosquitto_level in ["mqttv31", "mqttv311", "mqttv50"] {
                    scope.spawn(move || facing_mosquitto(level, mosquitto_level, mosquitto_is_first));
                }
            }
        });
    }
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
