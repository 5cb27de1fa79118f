//! What a bridge carries and under which name, what it keeps from going in circles, and what it says about itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use viaduct_tests::codec::{Level, QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Client, Hello, Message, Mosquitto, Outgoing, Proxy, Signal, eventually, run_viaduct_on};

const UP: &str = "viaduct_bridge_up";
const CONNECTS: &str = "viaduct_bridge_connects_total";
const MESSAGES: &str = "viaduct_bridge_messages_total";
const DROPPED: &str = "viaduct_bridge_messages_dropped_total";
const QUEUED: &str = "viaduct_bridge_queued_messages";

/// One rule, with what the table says beyond filter and direction.
fn rule(filter: &str, direction: &str, more: &str) -> String {
    format!("[[bridge.topic]]\nfilter = \"{filter}\"\ndirection = \"{direction}\"\nqos = 2\n{more}\n")
}

/// A bridge that is quick to come back.
fn bridge(name: &str, remote: SocketAddr, more: &str, rules: &str) -> String {
    format!(
        "[[bridge]]\nname = \"{name}\"\nurl = \"mqtt://{remote}\"\nreconnect_min = \"50ms\"\n\
         reconnect_max = \"200ms\"\n{more}\n{rules}"
    )
}

/// A broker with the bridge `b`, connected.
#[track_caller]
fn connected(remote: SocketAddr, more: &str, rules: &str) -> Broker {
    let broker = Broker::start(&bridge("b", remote, more, rules));
    broker.wait_for_log(&["bridge \"b\": connected to"]);
    broker
}

/// A remote of each kind that is there.
enum Remote {
    Viaduct(Box<Broker>),
    Mosquitto(Box<Mosquitto>),
}

impl Remote {
    fn all() -> Vec<Self> {
        let mut remotes = vec![Self::Viaduct(Box::new(Broker::start("")))];
        remotes.extend(Mosquitto::start("").map(|mosquitto| Self::Mosquitto(Box::new(mosquitto))));
        remotes
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Viaduct(broker) => broker.address(),
            Self::Mosquitto(mosquitto) => mosquitto.address(),
        }
    }

    fn stop(&mut self) {
        match self {
            Self::Viaduct(broker) => drop(broker.stop()),
            Self::Mosquitto(mosquitto) => mosquitto.stop(),
        }
    }

    fn start_again(&mut self) {
        match self {
            Self::Viaduct(broker) => broker.start_again(),
            Self::Mosquitto(mosquitto) => mosquitto.start_again(),
        }
    }
}

/// Subscribed to everything.
fn listener(address: SocketAddr) -> Client {
    let mut client = Hello::v5("listener").connect(address);
    client.subscribe("#", QoS::ExactlyOnce);
    client
}

fn publisher(address: SocketAddr) -> Client {
    Hello::v5("publisher").connect(address)
}

/// Publishes at QoS 1 and waits for the acknowledgement.
#[track_caller]
fn publish(client: &mut Client, topic: &str, payload: &str) {
    assert!(!client.publish(topic, payload, QoS::AtLeastOnce).is_error());
}

fn topics(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| &*message.topic).collect()
}

// ---- names ----

#[test]
fn prefixes_are_taken_off_and_put_on_each_way_and_nothing_else_is_carried() {
    let rules = rule("o/#", "out", "local_prefix = \"l/\"\nremote_prefix = \"r/\"")
        + &rule("i/#", "in", "local_prefix = \"l/\"\nremote_prefix = \"r/\"")
        + &rule("b/+", "both", "remote_prefix = \"site/7/\"")
        + &rule("", "out", "local_prefix = \"exact/here\"\nremote_prefix = \"exact/there\"")
        + &rule("end/#", "both", "");
    for remote in Remote::all() {
        let viaduct = connected(remote.address(), "", &rules);
        let (mut here, mut there) = (listener(viaduct.address()), listener(remote.address()));
        let (mut from_here, mut from_there) = (publisher(viaduct.address()), publisher(remote.address()));

        for topic in ["l/o/1", "o/1", "l/i/1", "b/1", "b/1/2", "exact/here", "exact/there", "other", "end/out"] {
            publish(&mut from_here, topic, "x");
        }
        let came = there.messages_before("end/out");
        assert_eq!(topics(&came), ["r/o/1", "site/7/b/1", "exact/there"]);
        here.messages_before("end/out");

        for topic in ["r/i/1", "i/1", "r/o/1", "site/7/b/1", "b/1", "exact/there", "other", "end/in"] {
            publish(&mut from_there, topic, "x");
        }
        let came = here.messages_before("end/in");
        assert_eq!(topics(&came), ["l/i/1", "b/1"]);
    }
}

#[test]
fn a_rule_lowers_qos_and_never_raises_it() {
    let rules = "[[bridge.topic]]\nfilter = \"zero/#\"\ndirection = \"out\"\nqos = 0\n\
         [[bridge.topic]]\nfilter = \"one/#\"\ndirection = \"out\"\nqos = 1\n\
         [[bridge.topic]]\nfilter = \"two/#\"\ndirection = \"out\"\nqos = 2\n";
    for remote in Remote::all() {
        let viaduct = connected(remote.address(), "", rules);
        let (mut there, mut from_here) = (listener(remote.address()), publisher(viaduct.address()));
        for (rule, most) in [("zero", 0), ("one", 1), ("two", 2)] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                from_here.publish(&format!("{rule}/x"), "x", qos);
                assert_eq!(there.message().qos.bits(), most.min(qos.bits()), "{rule} {qos:?}");
            }
        }
    }
}

// ---- retain ----

#[test]
fn the_retain_flag_passes_both_ways_unless_the_rule_says_otherwise() {
    let rules = rule("keep/#", "both", "") + &rule("once/#", "both", "retain = false");
    for remote in Remote::all() {
        // There before the bridge is.
        let early = Outgoing::new("keep/early", "early").qos(QoS::AtLeastOnce).retained();
        publisher(remote.address()).publish_message(&early);
        let viaduct = connected(remote.address(), "", &rules);
        for (from, to, topic) in
            [(viaduct.address(), remote.address(), "out"), (remote.address(), viaduct.address(), "in")]
        {
            let (mut subscriber, mut publisher) = (listener(to), publisher(from));
            for kind in ["keep", "once"] {
                let message = Outgoing::new(&format!("{kind}/{topic}"), "x").qos(QoS::AtLeastOnce).retained();
                publisher.publish_message(&message);
            }
            subscriber.messages_before(&format!("once/{topic}"));
            let mut late = Hello::v5("late").connect(to);
            late.subscribe("+/+", QoS::AtLeastOnce);
            publish(&mut Hello::v5("marker").connect(to), "end/x", "");
            let kept = late.messages_before("end/x");
            assert!(kept.iter().any(|message| message.topic == format!("keep/{topic}") && message.retain));
            assert!(
                !kept.iter().any(|message| message.topic == format!("once/{topic}")),
                "it was retained all the same"
            );
            assert!(topic == "out" || kept.iter().any(|message| message.topic == "keep/early" && message.retain));

            // Deleting passes as well.
            publisher.publish_message(&Outgoing::new(&format!("keep/{topic}"), "").qos(QoS::AtLeastOnce).retained());
            eventually("the retained message is gone there too", || {
                let mut late = Hello::v5("later").connect(to);
                late.subscribe(&format!("keep/{topic}"), QoS::AtLeastOnce);
                publish(&mut late, &format!("keep/{topic}"), "not retained");
                !late.message().retain
            });
        }
    }
}

// ---- properties ----

#[test]
fn all_properties_of_5_pass_both_ways_and_the_response_topic_is_renamed_too() {
    let rules = rule("ask/#", "both", "local_prefix = \"l/\"\nremote_prefix = \"r/\"");
    for remote in Remote::all() {
        let viaduct = connected(remote.address(), "", &rules);
        for (from, to, one, other) in
            [(viaduct.address(), remote.address(), "l", "r"), (remote.address(), viaduct.address(), "r", "l")]
        {
            let mut subscriber = listener(to);
            let mut message = Outgoing::new(&format!("{one}/ask/1"), "{}").qos(QoS::AtLeastOnce);
            message.payload_format = Some(true);
            message.content_type = Some("application/json".to_owned());
            message.correlation_data = Some(vec![0, 1, 255]);
            message.response_topic = Some(format!("{one}/ask/answer"));
            let message =
                message.expires_in(500).user_property("a", "1").user_property("b", "2").user_property("a", "3");
            publisher(from).publish_message(&message);
            let came = subscriber.message();
            assert_eq!(came.topic, format!("{other}/ask/1"));
            assert_eq!(came.payload_format, Some(true));
            assert_eq!(came.content_type.as_deref(), Some("application/json"));
            assert_eq!(came.correlation_data, Some(vec![0, 1, 255]));
            assert_eq!(came.response_topic, Some(format!("{other}/ask/answer")));
            assert!(came.message_expiry.is_some_and(|left| (480..=500).contains(&left)), "{:?}", came.message_expiry);
            let own = came.user_properties.iter().filter(|(name, _)| name != "viaduct-hops");
            let own: Vec<(&str, &str)> = own.map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(own, [("a", "1"), ("b", "2"), ("a", "3")]);
        }
    }
}

// ---- loops ----

/// Publishes on each side of one bridge, and checks that each side hears each message once.
#[track_caller]
fn assert_once_each(here: SocketAddr, there: SocketAddr) {
    let (mut at_here, mut at_there) = (listener(here), listener(there));
    for (from, side) in [(here, "here"), (there, "there")] {
        let mut publisher = publisher(from);
        for number in 0..20 {
            publish(&mut publisher, &format!("from/{side}/{number}"), side);
        }
    }
    // An echo comes before what is published at the far end after its message has arrived there.
    let before = at_here.messages_before("from/there/19");
    let there_before = at_there.messages_before("from/here/19");
    publish(&mut publisher(here), "end/here", "");
    publish(&mut publisher(there), "end/there", "");
    let here_after = at_here.messages_before("end/there");
    let there_after = at_there.messages_before("end/here");
    for heard in [[before, here_after], [there_before, there_after]] {
        let mut heard: Vec<String> = heard.into_iter().flatten().map(|message| message.topic).collect();
        heard.retain(|topic| !topic.starts_with("end/"));
        heard.sort();
        let mut expected: Vec<String> = ["here", "there"]
            .iter()
            .flat_map(|side| (0..20).map(move |number| format!("from/{side}/{number}")))
            .collect();
        expected.sort();
        // The one that was waited for is missing in either list.
        assert_eq!(heard.len(), expected.len() - 1, "{heard:?}");
        heard.dedup();
        assert_eq!(heard.len(), expected.len() - 1, "something came twice");
        assert!(heard.iter().all(|topic| expected.contains(topic)));
    }
}

#[test]
fn a_bridge_that_carries_everything_both_ways_carries_each_message_once() {
    for remote in Remote::all() {
        for (settings, level) in [("", "5"), ("protocol_version = 4", "132"), ("protocol_version = 3", "131")] {
            let viaduct =
                connected(remote.address(), &format!("notifications = false\n{settings}"), &rule("#", "both", ""));
            viaduct.wait_for_log(&["connected to", &format!("level {level},")]);
            assert_once_each(viaduct.address(), remote.address());
        }
    }
}

#[test]
fn without_private_bit_our_own_messages_are_recognised_when_they_come_back() {
    let settings = "protocol_version = 4\ntry_private = false\nnotifications = false";
    for remote in Remote::all() {
        let viaduct = connected(remote.address(), settings, &rule("#", "both", "allow_loop = true"));
        assert_once_each(viaduct.address(), remote.address());
        let echoes = [("bridge", "b"), ("reason", "echo")];
        assert!(viaduct.wait_for_metric(DROPPED, &echoes, |echoes| echoes >= 20.0) >= 20.0);
        viaduct.wait_for_log(&["no way to keep our own messages from coming back"]);
    }
}

#[test]
fn a_loop_that_is_certain_is_refused_when_the_file_is_read() {
    let config = bridge("b", "127.0.0.1:1".parse().unwrap(), "protocol_version = 4\ntry_private = false", "")
        + &rule("#", "both", "");
    let finished = run_viaduct_on(&config, &["check-config"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.err.contains("allow_loop"), "{finished:?}");
}

#[test]
fn mosquitto_that_bridges_everything_both_ways_to_viaduct_makes_no_loop() {
    for settings in ["", "bridge_protocol_version mqttv31", "bridge_protocol_version mqttv50"] {
        let viaduct = Broker::start("");
        let more =
            format!("connection c\naddress {}\ntopic # both 1\nnotifications false\n{settings}\n", viaduct.address());
        let Some(mosquitto) = Mosquitto::start(&more) else { return };
        viaduct.wait_for_metric("viaduct_subscriptions", &[], |count| count == 1.0);
        assert_once_each(mosquitto.address(), viaduct.address());
    }
}

#[test]
fn a_ring_of_three_brokers_brings_each_message_once_and_comes_to_rest() {
    const COUNT: u32 = 10;
    let mut c = Broker::start("");
    let settings = "notifications = false";
    let b = connected(c.address(), settings, &rule("ring/#", "both", ""));
    let a = connected(b.address(), settings, &rule("ring/#", "both", ""));
    c.write_config(&bridge("b", a.address(), settings, &rule("ring/#", "both", "")));
    c.signal(Signal::Hup);
    c.wait_for_log(&["bridge \"b\": connected to"]);
    let brokers = [&a, &b, &c];
    for broker in brokers {
        broker.wait_for_metric("viaduct_bridge_ways", &[], |ways| ways == 2.0);
    }
    let mut listeners: Vec<Client> = brokers.map(|broker| listener(broker.address())).into();
    let mut publisher = publisher(a.address());
    for number in 0..COUNT {
        publish(&mut publisher, "ring/x", &number.to_string());
    }
    // Each message goes both ways, and the copies that meet another end there, or before their own broker sees it again.
    let sum = |name, labels: &[(&str, &str)]| brokers.iter().map(|broker| broker.metric(name, labels)).sum::<f64>();
    let ended = || sum("viaduct_messages_dropped_total", &[("reason", "double")]) + sum(DROPPED, &[("reason", "loop")]);
    eventually("every way round has ended", || ended() >= f64::from(2 * COUNT));
    for (client, broker) in listeners.iter_mut().zip(brokers) {
        publish(&mut Hello::v5("marker").connect(broker.address()), "end", "");
        assert_eq!(client.messages_before("end").len(), COUNT as usize);
    }
    // What went round would end again and again. What bridges count is told a moment later.
    let mut carried = -1.0;
    eventually("nothing goes round", || std::mem::replace(&mut carried, sum(MESSAGES, &[])) == carried);
    assert_eq!(ended(), f64::from(2 * COUNT));
}

// ---- what it says about itself ----

/// What the retained state topic says now.
fn state(address: SocketAddr, topic: &str) -> Option<String> {
    let mut client = Hello::v5("watcher").connect(address);
    client.subscribe(topic, QoS::AtLeastOnce);
    client.ping();
    (client.waiting() > 0).then(|| client.message().text().to_owned())
}

#[test]
fn the_state_of_the_bridge_is_a_retained_message_at_both_brokers() {
    for mut remote in Remote::all() {
        let topic = "$SYS/broker/connection/here.b/state";
        let mut viaduct = connected(remote.address(), "client_id = \"here.b\"", &rule("x", "out", ""));
        let says = |address, text: &str| {
            eventually(&format!("the state is {text}"), || state(address, topic).as_deref() == Some(text));
        };
        says(viaduct.address(), "1");
        says(remote.address(), "1");
        remote.stop();
        says(viaduct.address(), "0");
        remote.start_again();
        says(viaduct.address(), "1");
        says(remote.address(), "1");
        // Without a goodbye: the will says it.
        viaduct.kill();
        says(remote.address(), "0");
    }
}

#[test]
fn without_notifications_nothing_is_said_at_the_remote() {
    let remote = Broker::start("");
    let viaduct = connected(remote.address(), "client_id = \"here.b\"\nnotifications = false", &rule("x", "out", ""));
    viaduct.wait_for_metric(UP, &[("bridge", "b")], |up| up == 1.0);
    let topic = "$SYS/broker/connection/here.b/state";
    eventually("it is said here", || state(viaduct.address(), topic).as_deref() == Some("1"));
    assert_eq!(state(remote.address(), topic), None);
}

#[test]
fn clients_from_outside_may_not_call_themselves_a_bridge() {
    let remote = Broker::start("");
    let viaduct = connected(remote.address(), "", &rule("x/#", "out", ""));
    for level in Level::ALL {
        let refused = if level == Level::V5 {
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID
        } else {
            ReasonCode::from_return_code(2).unwrap()
        };
        for id in ["$bridge/b", "$bridge/other"] {
            let reason = Hello::new(level, id).try_connect(viaduct.address()).map(|_| ()).unwrap_err();
            assert_eq!(reason, refused, "{level} {id}");
        }
    }
    let mut there = listener(remote.address());
    publish(&mut publisher(viaduct.address()), "x/1", "still there");
    assert_eq!(there.message().text(), "still there");
}

#[test]
fn a_bridge_counts_what_it_does() {
    let remote = Broker::start("");
    let link = Proxy::to(remote.address());
    let viaduct = connected(link.address(), "", &(rule("out/#", "out", "") + &rule("in/#", "in", "")));
    let name = ("bridge", "b");
    viaduct.wait_for_metric(UP, &[name], |up| up == 1.0);
    assert_eq!(viaduct.metric(CONNECTS, &[name, ("result", "connected")]), 1.0);
    assert_eq!(viaduct.metric("viaduct_bridge_last_error_timestamp_seconds", &[name]), 0.0);
    let mut here = publisher(viaduct.address());
    for _ in 0..7 {
        publish(&mut here, "out/x", "x");
    }
    let mut there = publisher(remote.address());
    for _ in 0..3 {
        publish(&mut there, "in/x", "x");
    }
    viaduct.wait_for_metric(MESSAGES, &[name, ("direction", "out")], |count| count == 7.0);
    viaduct.wait_for_metric(MESSAGES, &[name, ("direction", "in")], |count| count == 3.0);
    viaduct.wait_for_metric(QUEUED, &[name], |left| left == 0.0);

    link.refuse();
    viaduct.wait_for_metric(UP, &[name], |up| up == 0.0);
    for _ in 0..5 {
        publish(&mut here, "out/x", "x");
    }
    viaduct.wait_for_metric(QUEUED, &[name], |left| left == 5.0);
    viaduct.wait_for_metric(CONNECTS, &[name, ("result", "refused")], |times| times >= 2.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let at = viaduct.metric("viaduct_bridge_last_error_timestamp_seconds", &[name]);
    assert!((now - 30.0..=now + 1.0).contains(&at), "the last error was at {at}, now is {now}");

    link.restore();
    viaduct.wait_for_metric(CONNECTS, &[name, ("result", "connected")], |times| times == 2.0);
    viaduct.wait_for_metric(MESSAGES, &[name, ("direction", "out")], |count| count == 12.0);
    viaduct.wait_for_metric(QUEUED, &[name], |left| left == 0.0);
}

// ---- the remote is away ----

#[test]
fn what_is_published_while_the_remote_is_away_arrives_in_order_when_it_is_back() {
    const COUNT: u32 = 500;
    for remote in Remote::all() {
        let link = Proxy::to(remote.address());
        link.refuse();
        let viaduct = Broker::start(&bridge("b", link.address(), "", &rule("x/#", "out", "")));
        viaduct.wait_for_log(&["bridge \"b\"", "refused", "trying again"]);
        let (mut there, mut from_here) = (listener(remote.address()), publisher(viaduct.address()));
        for number in 0..COUNT {
            let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
            from_here.publish("x/1", number.to_string(), qos);
        }
        link.restore();
        let came = there.messages(COUNT as usize);
        for parity in 0..2 {
            let numbers = came.iter().map(|message| message.text().parse::<u32>().unwrap());
            let numbers: Vec<u32> = numbers.filter(|number| number % 2 == parity).collect();
            assert_eq!(numbers, (0..COUNT).filter(|number| number % 2 == parity).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_is_published_at_the_remote_while_the_link_is_down_comes_when_it_is_up() {
    for remote in Remote::all() {
        let link = Proxy::to(remote.address());
        let viaduct = connected(link.address(), "", &rule("x/#", "in", ""));
        viaduct.wait_for_metric(UP, &[("bridge", "b")], |up| up == 1.0);
        let mut here = listener(viaduct.address());
        let mut from_there = publisher(remote.address());
        // The subscription is there once something has come through it.
        publish(&mut from_there, "x/first", "");
        eventually("the first message", || {
            publish(&mut from_there, "x/first", "");
            here.message_within(std::time::Duration::from_millis(200)).is_some()
        });
        link.refuse();
        viaduct.wait_for_metric(UP, &[("bridge", "b")], |up| up == 0.0);
        for number in 0..100 {
            publish(&mut from_there, "x/1", &number.to_string());
        }
        link.restore();
        let came = std::iter::repeat_with(|| here.message()).filter(|message| message.topic == "x/1").take(100);
        let numbers: Vec<u32> = came.map(|message| message.text().parse().unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }
}

/// `alice` with another password than `wonderland`, as mosquitto_passwd made it: its rounds are few, which keeps attempts
/// quick in a build without optimisation.
const OTHER_PASSWORD: &str = "alice:$7$101$5p1tdB1cbIn8lu3f$fn16FkPTVdrZ1MOxcvmpnxPBRBXeiSzeqJ25g2r1ZH+8FwH9BV9B/jafKz8+l5WLNMWpUdSbL6Dp40rbRDkyPA==\n";
/// `alice` with `wonderland`.
const RIGHT_PASSWORD: &str = "alice:$7$101$c2t1Dxu8ccXnDAhT$SEkZ7ZB0Yj4g51erULk/8dIWPL/4095NtXcHRrOCqjb89rlDCEYpc3QXQW1hZUoBxOQoFv8bJuE95yMRgSxvlw==\n";

#[test]
fn a_refused_login_is_named_and_tried_until_it_is_right() {
    for version in [Version::V5, Version::V311, Version::V31] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passwd");
        std::fs::write(&file, OTHER_PASSWORD).unwrap();
        let remote = Broker::start_in(
            folder,
            "[auth]\npassword_file = \"@dir@/passwd\"\n[[listener]]\nbind = \"127.0.0.1:@port@\"\nallow_anonymous = false\n",
        );
        let number = match version {
            Version::V31 => 3,
            Version::V311 => 4,
            Version::V5 => 5,
        };
        let login = format!("protocol_version = {number}\nusername = \"alice\"\npassword = \"wonderland\"");
        let viaduct = Broker::start(&bridge("b", remote.address(), &login, &rule("x/#", "out", "")));
        let line = viaduct.wait_for_log(&["bridge \"b\"", "rejects user name or password", "trying again"]);
        assert!(!line.contains("wonderland"), "the password is in the log: {line}");
        let refused = [("bridge", "b"), ("result", "bad_login")];
        viaduct.wait_for_metric(CONNECTS, &refused, |times| times >= 2.0);
        assert_eq!(viaduct.metric(UP, &[("bridge", "b")]), 0.0);

        std::fs::write(&file, RIGHT_PASSWORD).unwrap();
        remote.signal(Signal::Hup);
        viaduct.wait_for_metric(UP, &[("bridge", "b")], |up| up == 1.0);
    }
}

// ---- reload ----

#[test]
fn sighup_adds_changes_and_removes_bridges_and_leaves_the_others_alone() {
    let remote = Broker::start("");
    let to = remote.address();
    let keep = bridge("keep", to, "", &rule("keep/#", "out", ""));
    let mut viaduct = Broker::start(&keep);
    viaduct.wait_for_metric(UP, &[("bridge", "keep")], |up| up == 1.0);
    let (mut there, mut here) = (listener(to), publisher(viaduct.address()));

    let reload = |viaduct: &mut Broker, config: String| {
        viaduct.write_config(&config);
        viaduct.signal(Signal::Hup);
    };
    reload(&mut viaduct, keep.clone() + &bridge("more", to, "", &rule("more/#", "out", "")));
    viaduct.wait_for_metric(UP, &[("bridge", "more")], |up| up == 1.0);
    publish(&mut here, "more/1", "");
    publish(&mut here, "keep/1", "");
    let mut came = [there.message().topic, there.message().topic];
    came.sort();
    assert_eq!(came, ["keep/1", "more/1"]);

    // Another rule: what the old one carried is carried no more.
    reload(&mut viaduct, keep.clone() + &bridge("more", to, "", &rule("other/#", "out", "")));
    eventually("the new rule holds", || {
        publish(&mut here, "other/1", "");
        there.message_within(std::time::Duration::from_millis(100)).is_some()
    });
    publish(&mut here, "more/2", "");
    publish(&mut here, "other/end", "");
    assert!(there.messages_before("other/end").iter().all(|message| message.topic == "other/1"));

    reload(&mut viaduct, keep.clone());
    eventually("its metrics are gone", || viaduct.metric_if_any(UP, &[("bridge", "more")]).is_none());
    eventually("its subscription is gone", || viaduct.metric("viaduct_subscriptions", &[]) == 1.0);
    publish(&mut here, "other/2", "");
    publish(&mut here, "keep/end", "");
    assert!(there.messages_before("keep/end").iter().all(|message| message.topic == "other/1"));
    assert_eq!(viaduct.metric(CONNECTS, &[("bridge", "keep")]), 1.0, "the one that stayed was not disturbed");

    // A bad file changes nothing.
    reload(&mut viaduct, keep.replace("mqtt://", "nonsense://"));
    viaduct.wait_for_log(&["ERROR"]);
    publish(&mut here, "keep/2", "");
    assert_eq!(there.message().topic, "keep/2");
}
