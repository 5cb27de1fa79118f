//! `viaduct ctl`: what it prints for people and for programs, and its exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::{Value, json};
use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, DEADLINE, Finished, Hello, Outgoing, Port, eventually, run, run_viaduct, until, viaduct};

/// `viaduct ctl --url <broker> words`.
#[track_caller]
fn ctl(broker: &Broker, words: &[&str]) -> Finished {
    with_input(broker, words, "")
}

#[track_caller]
fn with_input(broker: &Broker, words: &[&str], input: &str) -> Finished {
    let url = format!("http://{}", broker.admin());
    run_viaduct(&[&["ctl", "--url", &url], words].concat(), input)
}

/// The same, which has to succeed; what it printed.
#[track_caller]
fn done(broker: &Broker, words: &[&str]) -> String {
    let finished = ctl(broker, words);
    assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""), "{words:?}: {finished:?}");
    finished.out
}

/// The cells of the row that begins with `name`, under their headings.
#[track_caller]
fn cell(table: &str, name: &str, heading: &str) -> String {
    let head = table.lines().next().unwrap();
    let row = table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{table}"));
    let start = head.find(heading).unwrap_or_else(|| panic!("no {heading} in {head}"));
    let rest: String = row.chars().skip(start).collect();
    rest.split("  ").next().unwrap().to_owned()
}

#[test]
fn bridges_are_run_from_the_command_line() {
    let hub = Broker::start("");
    let edge = Broker::start("[node]\nid = \"edge\"\n");
    assert_eq!(done(&edge, &["bridges"]).lines().count(), 1, "only the headings");
    let url = format!("url=mqtt://{}", hub.address());
    let settings = ["reconnect_min=50ms", "reconnect_max=200ms", "queue.max_messages=7", "notifications=false"];
    let rules = ["--topic", "out/# out 1", "--topic", "in/# in 2 \"\" there/"];
    let out = done(&edge, &[&["bridges", "add", "hub", &url], &settings[..], &rules].concat());
    assert!(out.contains("bridge \"hub\" was added"), "{out}");
    eventually("it is up", || cell(&done(&edge, &["bridges", "list"]), "hub", "STATE") == "up");
    let table = done(&edge, &["bridges"]);
    assert_eq!(cell(&table, "hub", "LEVEL"), "5");
    assert_eq!(cell(&table, "hub", "ADDRESS"), format!("mqtt://{}", hub.address()));
    assert_eq!(cell(&table, "hub", "LAST ERROR"), "-");

    let shown = done(&edge, &["bridges", "show", "hub"]);
    for words in ["state", "up, for", "level", "5 (the best level", "edge.hub", "room for 7 messages", "remote_prefix"]
    {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    let raw: Value = serde_json::from_str(&done(&edge, &["--json", "bridges", "show", "hub"])).unwrap();
    let topics = json!([
        {"filter": "out/#", "direction": "out", "qos": 1},
        {"filter": "in/#", "direction": "in", "qos": 2, "local_prefix": "", "remote_prefix": "there/"}
    ]);
    assert_eq!((&raw["definition"]["topic"], &raw["definition"]["notifications"]), (&topics, &json!(false)));

    done(&edge, &["bridges", "change", "hub", "queue.max_messages=", "keepalive=9s"]);
    let raw: Value = serde_json::from_str(&done(&edge, &["bridges", "show", "hub", "--json"])).unwrap();
    assert_eq!((&raw["definition"]["queue"], &raw["definition"]["keepalive"]), (&json!({}), &json!("9s")));

    let checked = done(&edge, &["bridges", "check", "hub"]);
    assert!(checked.contains("tcp: ok (") && checked.contains("login: ok ("), "{checked}");
    assert!(done(&edge, &["bridges", "stop", "hub"]).contains("is stopped"));
    eventually("it rests", || cell(&done(&edge, &["bridges"]), "hub", "STATE") == "stopped");
    assert!(done(&edge, &["bridges", "start", "hub"]).contains("runs"));
    assert!(done(&edge, &["bridges", "remove", "hub"]).contains("was removed"));
    assert_eq!(done(&edge, &["--json", "bridges"]).trim(), json!({"bridges": [], "removed": []}).to_string());
}

#[test]
fn a_definition_comes_from_a_file_with_its_password() {
    let edge = Broker::start("");
    let toml = "[[bridge]]\nname = \"b\"\nurl = \"mqtt://127.0.0.1:9\"\nusername = \"u\"\npassword = \"hush-hush\"\n\
                [[bridge.topic]]\nfilter = \"a/#\"\n";
    let put = with_input(&edge, &["bridges", "put", "b", "--file", "-"], toml);
    assert_eq!(put.code, Some(0), "{put:?}");
    let shown = done(&edge, &["bridges", "show", "b"]);
    assert!(shown.contains("password is not shown whole") && !shown.contains("hush"), "{shown}");
    let again = with_input(&edge, &["--json", "bridges", "put", "b", "--file", "-"], toml);
    assert!(again.code == Some(0) && !again.out.contains("hush"), "{again:?}");
    assert_eq!(with_input(&edge, &["bridges", "put", "c", "--file", "-"], toml).code, Some(2), "another name");
    assert_eq!(with_input(&edge, &["bridges", "put", "b", "--file", "-"], "url = ").code, Some(2));
    assert_eq!(ctl(&edge, &["bridges", "put", "b", "--file", "/nowhere"]).code, Some(2));
}

#[test]
fn what_fails_is_said_and_exits_with_one_and_what_can_not_be_understood_with_two() {
    let edge = Broker::start("");
    let nobody = Port::take();
    done(&edge, &["bridges", "add", "b", &format!("url=mqtt://{}", nobody.address()), "--topic", "x"]);
    let failed = |words: &[&str], said: &[&str]| {
        let finished = ctl(&edge, words);
        assert_eq!(finished.code, Some(1), "{words:?}: {finished:?}");
        for said in said {
            assert!(finished.err.contains(said) || finished.out.contains(said), "{said} is not in {finished:?}");
        }
    };
    failed(&["bridges", "show", "none"], &["there is no bridge \"none\""]);
    failed(&["bridges", "add", "b", "url=mqtt://a", "--topic", "x"], &["there is a bridge \"b\" already"]);
    failed(
        &["bridges", "change", "b", "url=hub", "max_inflight=0"],
        &["url: ", "max_inflight: ", "(write \"mqtt://hub\""],
    );
    failed(&["bridges", "check", "b"], &["tcp: FAIL: the connection is refused"]);
    failed(&["bridges", "revert", "b"], &["added at run time"]);
    let raw = ctl(&edge, &["--json", "bridges", "show", "none"]);
    let problem: Value = serde_json::from_str(&raw.out).unwrap();
    assert_eq!((raw.code, &problem["type"]), (Some(1), &json!("urn:viaduct:problem:not-found")));

    for words in [
        &["ctl", "nonsense"][..],
        &["ctl"],
        &["ctl", "bridges", "add"],
        &["ctl", "bridges", "add", "b", "nonsense=1"],
        &["ctl", "bridges", "add", "b", "url"],
        &["ctl", "bridges", "add", "b", "--topic", ""],
        &["ctl", "--token-file", "/nowhere", "clients"],
    ] {
        assert_eq!(run_viaduct(words, "").code, Some(2), "{words:?}");
    }
    let away = format!("http://{}", nobody.address());
    for url in [away.as_str(), "https://127.0.0.1:1", "127.0.0.1:1"] {
        let finished = run_viaduct(&["ctl", "--url", url, "clients"], "");
        assert!(finished.code == Some(1) && finished.err.contains(url), "{finished:?}");
    }
    let mqtt = format!("http://{}", edge.address());
    let finished = run_viaduct(&["ctl", "--url", &mqtt, "clients"], "");
    assert!(finished.code == Some(1) && finished.err.contains("admin port"), "{finished:?}");
}

#[test]
fn clients_and_listeners_are_listed_and_nothing_in_them_is_obeyed() {
    let edge = Broker::start("");
    let mut client = Hello::v5("a\u{9b}2Jb").connect(edge.address());
    client.subscribe("t", QoS::AtMostOnce);
    let clients = done(&edge, &["clients"]);
    assert!(!clients.contains('\u{9b}') && clients.contains("a\u{fffd}2Jb"), "{clients:?}");
    let raw: Value = serde_json::from_str(&done(&edge, &["clients", "--json"])).unwrap();
    assert_eq!(raw["clients"][0]["client_id"], "a\u{9b}2Jb");
    let listeners = done(&edge, &["listeners"]);
    assert_eq!(cell(&listeners, "default", "ADDRESS"), edge.address().to_string());
    assert_eq!(cell(&listeners, "default", "CONNECTIONS"), "1");
}

#[test]
fn sessions_are_listed_shown_and_removed() {
    let hub = Broker::start("");
    let edge = Broker::start("");
    let url = format!("url=mqtt://{}", hub.address());
    done(&edge, &["bridges", "add", "hub", &url, "--topic", "x/#"]);
    for name in ["device-1", "device-2", "device-3"] {
        let mut client = Hello::v311(name).persistent().connect(edge.address());
        client.subscribe("t/#", QoS::AtLeastOnce);
        client.disconnect();
    }
    let _here = Hello::v5("here").connect(edge.address());
    eventually("the bridge has one", || done(&edge, &["sessions"]).contains("$bridge/hub"));
    assert_eq!(done(&edge, &["sessions"]), done(&edge, &["sessions", "list"]));
    let first = done(&edge, &["sessions", "list", "--match", "device", "--limit", "2"]);
    assert!(first.contains("device-2") && !first.contains("device-3"), "{first}");
    assert!(first.contains("there may be more: --after \"device-2\""), "{first}");
    let rest = done(&edge, &["sessions", "list", "--match", "device", "--limit", "2", "--after", "device-2"]);
    assert!(rest.contains("device-3") && !rest.contains("more") && !rest.contains("device-1"), "{rest}");
    eventually("three are away", || done(&edge, &["sessions", "list", "--away"]).matches("device-").count() == 3);
    let connected = done(&edge, &["sessions", "list", "--connected"]);
    assert_eq!((cell(&connected, "here", "STATE"), connected.contains("device")), ("connected".to_owned(), false));

    let shown = done(&edge, &["sessions", "show", "device-1"]);
    for words in ["device-1", "away", "t/# (QoS 1)", "not by itself", "0 messages"] {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    let raw: Value = serde_json::from_str(&done(&edge, &["--json", "sessions", "show", "device-1"])).unwrap();
    assert_eq!(raw["filters"][0]["filter"], "t/#");
    assert!(done(&edge, &["sessions", "remove", "device-1"]).contains("\"device-1\" is ended"));
    assert!(!done(&edge, &["sessions"]).contains("device-1"));
    for (words, said) in [
        (["sessions", "remove", "device-1"], "there is no session of ClientID \"device-1\""),
        (["sessions", "remove", "$bridge/hub"], "bridge \"hub\""),
        (["sessions", "show", "nobody"], "there is no session"),
    ] {
        let refused = ctl(&edge, &words);
        assert!(refused.code == Some(1) && refused.err.contains(said), "{refused:?}");
    }
    assert_eq!(ctl(&edge, &["sessions", "list", "--away", "--connected"]).code, Some(2));
    let raw = ctl(&edge, &["--json", "sessions", "list", "--limit", "5000"]);
    let problem: Value = serde_json::from_str(&raw.out).unwrap();
    assert_eq!((raw.code, &problem["status"]), (Some(1), &json!(400)));
}

#[test]
fn retained_messages_are_listed_shown_and_removed() {
    let edge = Broker::start("[sys]\ninterval = \"0s\"\n");
    let mut publisher = Hello::v5("publisher").connect(edge.address());
    for (topic, payload) in [("a/1", "one"), ("a/2", "two\u{1b}[2J"), ("b", "three")] {
        publisher.publish_message(&Outgoing::new(topic, payload).qos(QoS::AtLeastOnce).retained());
    }
    let all = done(&edge, &["retained"]);
    assert_eq!((all.lines().count(), cell(&all, "a/1", "BYTES"), cell(&all, "b", "QOS")), (4, "3".into(), "1".into()));
    assert!(!done(&edge, &["retained", "list", "--filter", "a/+"]).contains("\nb "), "{all}");
    let large = done(&edge, &["retained", "list", "--min-size", "4", "--qos", "1", "--newer-than", "1h"]);
    assert_eq!(large.lines().count(), 3, "{large}");
    let first = done(&edge, &["retained", "list", "--filter", "a/#", "--limit", "1"]);
    let next = first.lines().find_map(|line| line.strip_prefix("there may be more: --after ")).unwrap();
    let rest = done(&edge, &["retained", "list", "--filter", "a/#", "--after", next.trim_matches('"')]);
    assert!(rest.contains("a/2") && !rest.contains("a/1"), "{rest}");
    let shown = done(&edge, &["retained", "show", "a/2"]);
    assert!(shown.contains("two") && !shown.contains('\u{1b}'), "{shown:?}");
    assert!(done(&edge, &["retained", "remove", "a/2"]).contains("\"a/2\" has no retained message any more"));
    let gone = ctl(&edge, &["retained", "show", "a/2"]);
    assert!(gone.code == Some(1) && gone.err.contains("has no retained message"), "{gone:?}");
    let raw: Value = serde_json::from_str(&done(&edge, &["retained", "--json"])).unwrap();
    assert_eq!((raw["retained"].as_array().unwrap().len(), &raw["next"]), (2, &Value::Null));
    let wrong = ctl(&edge, &["retained", "list", "--older-than", "long"]);
    assert!(wrong.code == Some(1) && wrong.err.contains("expected a duration"), "{wrong:?}");
}

#[test]
fn a_reload_says_what_came_of_it() {
    let hub = Broker::start("");
    let bridge =
        format!("[[bridge]]\nname = \"late\"\nurl = \"mqtt://{}\"\n[[bridge.topic]]\nfilter = \"x\"\n", hub.address());
    let mut edge = Broker::start("");
    edge.write_config(&format!("[limits]\nreceive_maximum = 7\n[store]\ncommit_delay = \"3ms\"\n{bridge}"));
    let out = done(&edge, &["reload"]);
    for line in ["changed: limits.receive_maximum", "bridges added: late", "waits for a restart: store.commit_delay"] {
        assert!(out.contains(line), "{line} is not in {out}");
    }
    until(DEADLINE, "the bridge", || (cell(&done(&edge, &["bridges"]), "late", "STATE") == "up").then_some(()));
    edge.write_config("nonsense = 1\n");
    let failed = ctl(&edge, &["reload"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("nonsense: unknown key") && failed.err.contains("broker.toml:1:1"), "{failed:?}");
}

#[test]
fn the_token_comes_from_a_file_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "secret-token\n").unwrap();
    let path = file.to_str().unwrap().to_owned();
    let edge = Broker::start_in(folder, "[admin]\ntoken_file = \"@dir@/token\"\n");
    let without = ctl(&edge, &["clients"]);
    assert!(without.code == Some(1) && without.err.contains("admin.token_file"), "{without:?}");
    done(&edge, &["--token-file", &path, "clients"]);
    let by_environment = |token: &str| {
        let mut command = Command::new(viaduct());
        command.env("VIADUCT_TOKEN", token).env("VIADUCT_URL", format!("http://{}", edge.admin()));
        run(command.args(["ctl", "clients"]), "")
    };
    assert_eq!(by_environment("secret-token").code, Some(0));
    let wrong = by_environment("wrong-token");
    assert!(wrong.code == Some(1) && !wrong.err.contains("wrong-token"), "{wrong:?}");
}

#[test]
fn check_config_and_bridge_check_know_what_was_said_at_run_time() {
    let edge =
        Broker::start("[[bridge]]\nname = \"b\"\nurl = \"mqtt://127.0.0.1:9\"\n[[bridge.topic]]\nfilter = \"x\"\n");
    done(&edge, &["bridges", "stop", "b"]);
    done(&edge, &["bridges", "add", "new", "url=mqtt://127.0.0.1:9", "--topic", "y"]);
    let data = format!("node.data_dir={}", edge.folder().join("data").display());
    let config = edge.config_path();
    let config = config.to_str().unwrap();
    let checked = run_viaduct(&["check-config", config, "--set", &data], "");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.out.contains("2 bridges") && checked.out.contains("it was stopped at run time"), "{checked:?}");
    let dialled = run_viaduct(&["bridge", "check", "new", "--config", config, "--set", &data], "");
    assert!(dialled.out.contains("mqtt://127.0.0.1:9"), "{dialled:?}");
    // What is damaged is not passed over.
    let kept = edge.folder().join("data/bridges.toml");
    std::fs::write(&kept, "format = 9\n").unwrap();
    let refused = run_viaduct(&["check-config", config, "--set", &data], "");
    assert!(refused.code == Some(2) && refused.err.contains("bridges.toml"), "{refused:?}");
}
