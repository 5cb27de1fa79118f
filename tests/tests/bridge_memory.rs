//! What the broker knows of its bridges: the API answers with what is, remotes are told to forget what they were asked for
//! before a restart, and files that can't be read in time hold nobody up.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use viaduct_tests::api::{call, ok, subscriptions, wait_for_bridge};
use viaduct_tests::codec::QoS;
use viaduct_tests::{
    Broker, DEADLINE, Heard, Hello, Mosquitto, Port, Reply, Scripted, Signal, check_tool, eventually, run_viaduct,
    until,
};

/// A bridge `b` with these settings, whose rules are `out/FILTER` there and `in/FILTER` back.
fn config(remote: SocketAddr, more: &str, filters: &[&str]) -> String {
    let rules = filters.iter().map(|filter| {
        format!(
            "[[bridge.topic]]\nfilter = \"out/{filter}\"\nqos = 1\n\
             [[bridge.topic]]\nfilter = \"in/{filter}\"\ndirection = \"in\"\nqos = 1\n"
        )
    });
    format!(
        "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{remote}\"\nclient_id = \"edge\"\nreconnect_min = \"50ms\"\n\
         reconnect_max = \"200ms\"\n{more}\n{}",
        rules.collect::<String>()
    )
}

fn restart(broker: &mut Broker, config: &str) {
    broker.kill();
    broker.write_config(config);
    broker.start_again();
}

#[test]
fn what_was_done_shows_in_the_answer_and_in_the_next_look() {
    let hub = Broker::start("");
    let nobody = Port::take();
    let edge = Broker::start(&config(hub.address(), "", &["#"]));
    let mut publisher = Hello::v5("publisher").connect(edge.address());
    for round in 1..=20 {
        wait_for_bridge(&edge, "b", "up");
        publisher.publish("out/1", "x", QoS::AtLeastOnce);
        let stopped = ok(&edge, "POST", "/bridges/b/stop", None);
        assert_eq!((&stopped["state"], &stopped["up"]), (&json!("stopped"), &json!(false)), "{round}: {stopped}");
        let waiting = ok(&edge, "GET", "/bridges/b", None)["queue"]["messages"].as_u64().unwrap();
        publisher.publish("out/2", "x", QoS::AtLeastOnce);
        let list = ok(&edge, "GET", "/bridges", None);
        assert_eq!(list["bridges"][0]["queue"]["messages"], waiting + 1, "{round}: {list}");
        // What is said of the last link is not said of the next one.
        let away = ok(&edge, "POST", "/bridges/b", Some(&json!({"url": format!("mqtt://{}", nobody.address())})));
        assert_eq!(away["state"], "stopped", "{round}: {away}");
        let started = ok(&edge, "POST", "/bridges/b/start", None);
        assert_ne!(started["address"], format!("mqtt://{}", hub.address()), "{round}: {started}");
        assert_eq!((&started["totals"]["messages_out"], &started["up"]), (&json!(0), &json!(false)), "{round}");
        let back = ok(&edge, "POST", "/bridges/b/revert", None);
        assert_ne!(back["address"], format!("mqtt://{}", nobody.address()), "{round}: {back}");
    }
}

#[test]
fn rules_that_were_taken_from_the_file_while_the_broker_was_down_are_unsubscribed_on_both_sides() {
    let hub = Broker::start("");
    let mut edge = Broker::start(&config(hub.address(), "", &["a", "b", "c"]));
    let each = |edge: &Broker| (subscriptions(edge, "$bridge/b"), subscriptions(&hub, "edge"));
    eventually("three each", || each(&edge) == (Some(3), Some(3)));
    restart(&mut edge, &config(hub.address(), "", &["b", "d"]));
    eventually("two each", || each(&edge) == (Some(2), Some(2)));
    // Twice in a row, and the first time the remote is away.
    restart(&mut edge, &config(Port::take().address(), "", &["e"]));
    eventually("one here", || each(&edge) == (Some(1), Some(2)));
    restart(&mut edge, &config(hub.address(), "", &["f"]));
    eventually("one each", || each(&edge) == (Some(1), Some(1)));
}

#[test]
fn mosquitto_does_not_go_on_sending_what_a_rule_asked_for_that_is_gone() {
    for version in [4, 5] {
        let Some(mosquitto) = Mosquitto::start("") else { return };
        let more = format!("protocol_version = {version}");
        let mut edge = Broker::start(&config(mosquitto.address(), &more, &["stays", "goes"]));
        wait_for_bridge(&edge, "b", "up");
        mosquitto.wait_for_log(&["in/goes"]);
        restart(&mut edge, &config(mosquitto.address(), &more, &["stays"]));
        wait_for_bridge(&edge, "b", "up");
        mosquitto.wait_for_log(&["Received UNSUBSCRIBE from edge"]);
        let mut heard = Hello::v5("listener").connect(edge.address());
        heard.subscribe("in/#", QoS::AtLeastOnce);
        let mut there = Hello::v5("there").connect(mosquitto.address());
        there.publish("in/goes", "x", QoS::AtLeastOnce);
        there.publish("in/stays", "x", QoS::AtLeastOnce);
        assert_eq!(heard.message().topic, "in/stays");
        let unmatched = [("bridge", "b"), ("reason", "unmatched")];
        assert_eq!(edge.metric("viaduct_bridge_messages_dropped_total", &unmatched), 0.0);
    }
}

#[test]
fn a_remote_that_takes_no_unsubscribe_is_sent_none_after_a_restart_either() {
    let remote = Scripted::v311(|heard| match heard {
        Heard::Unsubscribe(_) => Reply::Kick(Vec::new()),
        _ => Reply::Usual,
    });
    let more = "remote = { unsubscribe = false }";
    let mut edge = Broker::start(&config(remote.address(), more, &["a", "b"]));
    wait_for_bridge(&edge, "b", "up");
    restart(&mut edge, &config(remote.address(), more, &["b"]));
    edge.wait_for_log(&["goes on sending in/a"]);
    edge.wait_for_metric("viaduct_bridge_lowered_total", &[("bridge", "b"), ("what", "unsubscribe")], |n| n == 1.0);
    let asked = |heard: &Heard| *heard == Heard::Subscribe(vec![("in/b".into(), 1)]);
    remote.wait_for("the rule that is left", asked);
    assert!(!remote.heard().iter().any(|heard| matches!(heard, Heard::Unsubscribe(_))));
}

#[test]
fn a_remote_that_has_heard_of_the_end_of_a_rule_is_not_told_at_every_start() {
    let remote = Scripted::v311(|_| Reply::Usual);
    let with = |filters: &[&str]| config(remote.address(), "keepalive = \"1s\"", filters);
    let mut edge = Broker::start(&with(&["a", "b"]));
    wait_for_bridge(&edge, "b", "up");
    restart(&mut edge, &with(&["b"]));
    remote.wait_for("the end", |heard| *heard == Heard::Unsubscribe(vec!["in/a".into()]));
    eventually("an answer", || ok(&edge, "GET", "/bridges/b", None)["round_trip"]["measured_by"] == "ping");
    edge.stop();
    edge.start_again();
    let asked = |heard: &&Heard| **heard == Heard::Subscribe(vec![("in/b".into(), 1)]);
    // UNSUBSCRIBE comes before SUBSCRIBE.
    until(DEADLINE, "it is asked again", || (remote.heard().iter().filter(asked).count() == 2).then_some(()));
    let ends = remote.heard().iter().filter(|heard| matches!(heard, Heard::Unsubscribe(_))).count();
    assert_eq!(ends, 1, "{:?}", remote.heard());
}

/// Holds a write lease on a file, so that opening it lasts until this ends, or the system has waited for long enough
/// (`fs.lease-break-time`, 45 s): what a network file system without its server does.
struct Held(Child);

impl Held {
    fn new(python: &Path, path: &Path) -> Self {
        const LEASE: &str = "import fcntl, signal, sys\n\
            signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
            file = open(sys.argv[1], 'r+')\n\
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
            print('held', flush=True)\n\
            sys.stdin.read()\n";
        std::fs::write(path, "secret").unwrap();
        let mut command = Command::new(python);
        command.args(["-c", LEASE]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_that_can_not_be_read_in_time_is_named_and_holds_nobody_up() {
    let python = PathBuf::from("/usr/bin/python3");
    let Some(python) = check_tool("python3", python.is_file().then_some(python)) else { return };
    let hub = Broker::start("");
    let mut edge = Broker::start(&config(hub.address(), "", &["#"]));
    wait_for_bridge(&edge, "b", "up");
    let path = edge.folder().join("hub.password");
    let _held = Held::new(&python, &path);
    let wish = json!({
        "url": format!("mqtt://{}", hub.address()), "username": "u", "password_file": path, "topic": [{"filter": "x"}],
    });
    let more = format!("username = \"u\"\npassword_file = \"{}\"", path.display());
    let with_password = config(hub.address(), &more, &["#"]);
    let other = edge.folder().join("other.toml");
    std::fs::write(&other, &with_password).unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let check = scope.spawn(|| run_viaduct(&["bridge", "check", "b", "--config", other.to_str().unwrap()], ""));
        let change = scope.spawn(|| call(&edge, "PUT", "/bridges/c", Some(&wish)));
        // Everybody else goes on meanwhile.
        while !change.is_finished() {
            let look = Instant::now();
            assert_eq!(ok(&edge, "GET", "/bridges/b", None)["state"], "up");
            let mut client = Hello::v5("client").connect(edge.address());
            client.publish("out/1", "x", QoS::AtLeastOnce);
            client.disconnect();
            assert!(look.elapsed() < Duration::from_secs(5), "{:?}", look.elapsed());
        }
        let (status, problem) = change.join().unwrap();
        assert_eq!((status, &problem["type"]), (422, &json!("urn:viaduct:problem:unusable-file")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("hub.password"), "{problem}");
        let checked = check.join().unwrap();
        assert!(checked.out.starts_with("files: FAIL: ") && checked.out.contains("hub.password"), "{checked:?}");
        assert_eq!(checked.code, Some(1));
    });
    assert!(begun.elapsed() >= Duration::from_secs(9), "it was not held: {:?}", begun.elapsed());
    assert_eq!(call(&edge, "GET", "/bridges/c", None).0, 404);
    // A reload is no other, and the end of the broker does not wait for it.
    edge.write_config(&with_password);
    edge.signal(Signal::Hup);
    edge.wait_for_log(&["the configuration was not reloaded"]);
    edge.signal(Signal::Hup);
    assert_eq!(edge.stop(), Some(0));
}
