//! Bridges at run time: every verb of the API, what survives, what is left alone, and what is refused how.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use viaduct_tests::api::{JSON, call, clients, ok, subscriptions, wait_for_bridge};
use viaduct_tests::codec::QoS;
use viaduct_tests::{
    Broker, Certs, Client, DEADLINE, Hello, Mosquitto, Port, Response, Signal, eventually, get, send, until,
};

/// A bridge that carries `out/#` there and `in/#` back, and is quick to come back.
fn bridge(remote: SocketAddr) -> Value {
    json!({
        "url": format!("mqtt://{remote}"), "reconnect_min": "50ms", "reconnect_max": "200ms",
        "topic": [{"filter": "out/#", "qos": 1}, {"filter": "in/#", "direction": "in", "qos": 1}],
    })
}

fn with(mut bridge: Value, key: &str, value: Value) -> Value {
    bridge[key] = value;
    bridge
}

/// The same in a file.
fn in_file(name: &str, remote: SocketAddr, more: &str) -> String {
    format!(
        "[[bridge]]\nname = \"{name}\"\nurl = \"mqtt://{remote}\"\nreconnect_min = \"50ms\"\n\
         reconnect_max = \"200ms\"\n{more}\n[[bridge.topic]]\nfilter = \"{name}/#\"\nqos = 1\n"
    )
}

fn listener(address: SocketAddr) -> Client {
    let mut client = Hello::v5("listener").connect(address);
    client.subscribe("#", QoS::AtLeastOnce);
    client
}

/// ClientIDs of a broker's sessions, each with the address of its connection: another one is another connection.
fn peers(broker: &Broker) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    clients(broker).iter().map(|c| (text(&c["client_id"]), text(&c["peer"]))).collect()
}

fn publish(broker: &Broker, topic: &str, payload: &str) {
    let mut client = Hello::v5("publisher").connect(broker.address());
    client.publish(topic, payload, QoS::AtLeastOnce);
    client.disconnect();
}

#[test]
fn a_bridge_is_added_shown_changed_stopped_started_and_removed() {
    let hub = Broker::start("");
    let edge = Broker::start("[node]\nid = \"edge\"\n");
    let mut heard = listener(hub.address());

    let body = with(bridge(hub.address()), "name", json!("hub"));
    let added = send(edge.admin(), "POST", "/api/v1/bridges", &[JSON], body.to_string().as_bytes()).unwrap();
    assert_eq!(added.status, 201, "{added:?}");
    assert!(added.head.to_lowercase().contains("location: /api/v1/bridges/hub"), "{added:?}");
    let up = wait_for_bridge(&edge, "hub", "up");
    publish(&edge, "out/1", "one");
    until(DEADLINE, "the message", || (heard.message().topic == "out/1").then_some(()));
    assert_eq!((&up["level"], &up["origin"], &up["enabled"]), (&json!(5), &json!("added"), &json!(true)));
    assert_eq!(up["level_reason"], "the best level, and the first that is tried");
    assert_eq!(up["address"], format!("mqtt://{}", hub.address()));
    assert_eq!((&up["tls"], &up["last_error"], &up["next_attempt"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!(up["client_id"], "edge.hub");
    let now = until(DEADLINE, "rates and a round trip", || {
        let now = ok(&edge, "GET", "/bridges/hub", None);
        let out = &now["rates"]["out"];
        let flows = out["messages_per_second"].as_f64() > Some(0.0) && out["bytes_per_second"].as_f64() > Some(0.0);
        (flows && now["round_trip"]["milliseconds"].is_u64()).then_some(now)
    });
    assert_eq!(now["totals"]["messages_out"], 1, "{now}");
    let list = ok(&edge, "GET", "/bridges", None);
    assert_eq!((&list["bridges"][0]["name"], &list["removed"]), (&json!("hub"), &json!([])));
    assert_eq!(list["bridges"][0].get("definition"), None, "the list is short");

    // Some keys: the others stay, null takes one back.
    let changed = ok(&edge, "POST", "/bridges/hub", Some(&json!({"keepalive": "7s", "reconnect_max": null})));
    assert_eq!(
        (&changed["definition"]["keepalive"], &changed["definition"]["reconnect_min"]),
        (&json!("7s"), &json!("50ms"))
    );
    assert_eq!(changed["definition"].get("reconnect_max"), None);
    wait_for_bridge(&edge, "hub", "up");

    let stopped = ok(&edge, "POST", "/bridges/hub/stop", None);
    assert_eq!(stopped["enabled"], false);
    wait_for_bridge(&edge, "hub", "stopped");
    publish(&edge, "out/2", "while it is stopped");
    edge.wait_for_metric("viaduct_bridge_queued_messages", &[("bridge", "hub")], |count| count == 1.0);
    assert_eq!(edge.metric("viaduct_bridge_up", &[("bridge", "hub")]), 0.0);
    assert_eq!(ok(&edge, "GET", "/bridges/hub", None)["queue"]["messages"], 1);
    assert_eq!(ok(&edge, "POST", "/bridges/hub/stop", None)["state"], "stopped", "twice is as good as once");
    ok(&edge, "POST", "/bridges/hub/start", None);
    wait_for_bridge(&edge, "hub", "up");
    until(DEADLINE, "what waited", || (heard.message().topic == "out/2").then_some(()));

    assert!(peers(&edge).contains_key("$bridge/hub") && peers(&hub).contains_key("edge.hub"));
    assert_eq!(call(&edge, "DELETE", "/bridges/hub", None), (204, Value::Null));
    assert_eq!(call(&edge, "GET", "/bridges/hub", None).0, 404);
    eventually("the session ends here", || !peers(&edge).contains_key("$bridge/hub"));
    eventually("and there", || !peers(&hub).contains_key("edge.hub"));
    assert_eq!(edge.metric_if_any("viaduct_bridge_up", &[("bridge", "hub")]), None);
    assert_eq!(call(&edge, "DELETE", "/bridges/hub", None).0, 404);
    assert!(edge.metric("viaduct_api_calls_total", &[("method", "DELETE"), ("result", "ok")]) >= 1.0);
    assert!(edge.metric("viaduct_api_calls_total", &[("method", "DELETE"), ("result", "refused")]) >= 1.0);
    edge.wait_for_log(&["bridge \"hub\": removed by the API", "127.0.0.1:"]);
}

#[test]
fn the_same_put_twice_disturbs_nothing() {
    let hub = Broker::start("");
    let edge = Broker::start("[node]\nid = \"edge\"\n");
    let (status, _) = call(&edge, "PUT", "/bridges/hub", Some(&bridge(hub.address())));
    assert_eq!(status, 201);
    wait_for_bridge(&edge, "hub", "up");
    let before = peers(&hub);
    let (status, _) = call(&edge, "PUT", "/bridges/hub", Some(&bridge(hub.address())));
    assert_eq!(status, 200);
    assert_eq!(peers(&hub)["edge.hub"], before["edge.hub"]);
    // In the other words that are read, it is still the same.
    let toml = in_file("hub", hub.address(), "").replace("hub/#", "out/#")
        + "[[bridge.topic]]\nfilter = \"in/#\"\ndirection = \"in\"\nqos = 1\n";
    let headers = ["Content-Type: application/toml; charset=utf-8"];
    let put = send(edge.admin(), "PUT", "/api/v1/bridges/hub", &headers, toml.as_bytes()).unwrap();
    assert_eq!(put.status, 200, "{put:?}");
    assert_eq!(edge.metric("viaduct_bridge_connects_total", &[("bridge", "hub"), ("result", "connected")]), 1.0);
    assert_eq!(peers(&hub)["edge.hub"], before["edge.hub"]);
    ok(&edge, "PUT", "/bridges/hub", Some(&with(bridge(hub.address()), "keepalive", json!("8s"))));
    eventually("a new connection", || peers(&hub).get("edge.hub").is_some_and(|peer| *peer != before["edge.hub"]));
}

#[test]
fn what_was_said_survives_a_kill_and_passwords_stay_where_they_are() {
    let hub = Broker::start("");
    let file = ["keeps", "rests", "goes", "changes"].map(|name| in_file(name, hub.address(), "")).concat();
    let mut edge = Broker::start(&format!("[node]\nid = \"edge\"\n{file}"));
    for name in ["keeps", "rests", "goes", "changes"] {
        wait_for_bridge(&edge, name, "up");
    }
    let secret = with(with(bridge(hub.address()), "username", json!("u")), "password", json!("hush-hush"));
    ok(&edge, "PUT", "/bridges/new", Some(&secret));
    ok(&edge, "POST", "/bridges/changes", Some(&json!({"keepalive": "9s", "queue": {"max_messages": 3}})));
    ok(&edge, "POST", "/bridges/changes/stop", None);
    ok(&edge, "POST", "/bridges/rests/stop", None);
    ok(&edge, "DELETE", "/bridges/goes", None);
    wait_for_bridge(&edge, "changes", "stopped");
    publish(&edge, "rests/1", "waits");
    edge.kill();

    let kept = edge.folder().join("data/bridges.toml");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&kept).unwrap().contains("hush-hush"), "it is kept where nobody else reads it");

    edge.start_again();
    let list = ok(&edge, "GET", "/bridges", None);
    let origins: BTreeMap<&str, (&str, bool)> = list["bridges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| (b["name"].as_str().unwrap(), (b["origin"].as_str().unwrap(), b["enabled"].as_bool().unwrap())))
        .collect();
    let wanted = [
        ("changes", ("changed", false)),
        ("keeps", ("file", true)),
        ("new", ("added", true)),
        ("rests", ("switched", false)),
    ];
    assert_eq!(origins, BTreeMap::from(wanted));
    assert_eq!(list["removed"], json!(["goes"]));
    edge.wait_for_log(&["bridge \"goes\": it was removed at run time"]);
    assert!(!peers(&edge).contains_key("$bridge/goes"), "its session is not there either");

    let new = wait_for_bridge(&edge, "new", "up");
    assert_eq!(new["secrets"], json!(["password"]));
    for answer in [&new, &list, &ok(&edge, "POST", "/bridges/new", Some(&json!({"keepalive": "5s"})))] {
        assert!(!answer.to_string().contains("hush"), "{answer}");
    }
    assert!(!edge.log().contains("hush") && !edge.metrics().contains("hush"));

    // What rests goes on taking messages in, with the limits that it had.
    wait_for_bridge(&edge, "rests", "stopped");
    edge.wait_for_metric("viaduct_bridge_queued_messages", &[("bridge", "rests")], |count| count == 1.0);
    for number in 0..5 {
        publish(&edge, "changes/1", &number.to_string());
    }
    edge.wait_for_metric("viaduct_bridge_queued_messages", &[("bridge", "changes")], |count| count == 3.0);
    edge.wait_for_metric(
        "viaduct_bridge_messages_dropped_total",
        &[("bridge", "changes"), ("reason", "queue_full")],
        |n| n == 2.0,
    );
    let mut heard = listener(hub.address());
    ok(&edge, "POST", "/bridges/rests/start", None);
    until(DEADLINE, "what waited", || (heard.message().topic == "rests/1").then_some(()));
}

#[test]
fn a_bridge_that_was_removed_from_the_file_while_the_broker_was_down_leaves_nothing_behind() {
    let hub = Broker::start("");
    let both = ["stays", "goes"].map(|name| in_file(name, hub.address(), "")).concat();
    let mut edge = Broker::start(&both);
    wait_for_bridge(&edge, "stays", "up");
    wait_for_bridge(&edge, "goes", "up");
    edge.kill();
    edge.write_config(&in_file("stays", hub.address(), ""));
    edge.start_again();
    wait_for_bridge(&edge, "stays", "up");
    let sessions = peers(&edge);
    assert!(sessions.contains_key("$bridge/stays") && !sessions.contains_key("$bridge/goes"), "{sessions:?}");
}

#[test]
fn a_reload_and_a_change_touch_only_what_changed() {
    let hub = Broker::start("");
    let at = hub.address();
    let mut edge = Broker::start(&format!(
        "[node]\nid = \"edge\"\n{}{}{}",
        in_file("a", at, ""),
        in_file("b", at, ""),
        in_file("c", at, "")
    ));
    for name in ["a", "b", "c"] {
        wait_for_bridge(&edge, name, "up");
    }
    let before = peers(&hub);
    edge.write_config(&format!(
        "[node]\nid = \"edge\"\n{}{}{}",
        in_file("a", at, ""),
        in_file("b", at, "keepalive = \"9s\""),
        in_file("d", at, "")
    ));
    let reloaded = ok(&edge, "POST", "/reload", None);
    assert_eq!(reloaded["bridges_added"], json!(["d"]), "{reloaded}");
    assert_eq!(reloaded["bridges_removed"], json!(["c"]));
    assert_eq!(reloaded["bridges_changed"], json!(["b"]));
    assert_eq!((&reloaded["changed"], &reloaded["needs_restart"]), (&json!([]), &json!([])));
    wait_for_bridge(&edge, "d", "up");
    eventually("b has a new link", || {
        peers(&hub).get("edge.b").is_some_and(|peer| !peer.is_empty() && *peer != before["edge.b"])
    });
    eventually("c is gone", || !peers(&hub).contains_key("edge.c"));
    let connects =
        |name: &str| edge.metric("viaduct_bridge_connects_total", &[("bridge", name), ("result", "connected")]);
    assert_eq!((connects("a"), peers(&hub)["edge.a"].clone()), (1.0, before["edge.a"].clone()));

    // By the API, one is changed and another is taken back.
    let d = peers(&hub)["edge.d"].clone();
    ok(&edge, "POST", "/bridges/b", Some(&json!({"keepalive": "11s"})));
    wait_for_bridge(&edge, "b", "up");
    ok(&edge, "DELETE", "/bridges/b", None);
    assert_eq!(call(&edge, "GET", "/bridges/b", None).0, 404);
    edge.signal(Signal::Hup);
    edge.wait_for_log(&["bridge \"b\": it was removed at run time"]);
    assert_eq!(call(&edge, "GET", "/bridges/b", None).0, 404, "it stays removed");
    let back = ok(&edge, "POST", "/bridges/b/revert", None);
    assert_eq!((&back["origin"], &back["definition"]["keepalive"]), (&json!("file"), &json!("9s")));
    wait_for_bridge(&edge, "b", "up");
    assert_eq!((peers(&hub)["edge.a"].clone(), peers(&hub)["edge.d"].clone()), (before["edge.a"].clone(), d));
    assert_eq!((connects("a"), connects("d")), (1.0, 1.0));

    // A reload that can't be changes nothing and says where it is wrong.
    edge.write_config(&format!("[node]\nid = \"edge\"\n{}nonsense = 1\n", in_file("a", at, "")));
    let (status, problem) = call(&edge, "POST", "/reload", None);
    assert_eq!((status, &problem["type"]), (422, &json!("urn:viaduct:problem:invalid-configuration")), "{problem}");
    assert!(problem["errors"][0]["place"].as_str().unwrap().contains("broker.toml:"), "{problem}");
    assert_eq!(ok(&edge, "GET", "/bridges/d", None)["state"], "up");
}

#[test]
fn a_change_that_changes_nothing_leaves_the_bridge_to_the_file() {
    let hub = Broker::start("");
    let at = hub.address();
    let file = |keepalive: &str| format!("[node]\nid = \"edge\"\n{}", in_file("b", at, keepalive));
    let mut edge = Broker::start(&file("keepalive = \"9s\""));
    wait_for_bridge(&edge, "b", "up");
    let before = peers(&hub)["edge.b"].clone();
    // Nothing; what the file says in other words; what holds without being said.
    for patch in [json!({}), json!({"keepalive": 9}), json!({"enabled": true, "name": "b"}), json!({"queue": {}})] {
        let answer = ok(&edge, "POST", "/bridges/b", Some(&patch));
        assert_eq!((&answer["changed"], &answer["origin"]), (&json!(false), &json!("file")), "{patch}: {answer}");
    }
    assert_eq!(ok(&edge, "POST", "/bridges/b/start", None)["changed"], false);
    edge.wait_for_log(&["bridge \"b\": to be changed by the API; it was so already"]);
    assert!(!edge.folder().join("data/bridges.toml").exists(), "there is nothing to keep");
    assert_eq!(peers(&hub)["edge.b"], before, "it was not disturbed");
    let ctl = format!("http://{}", edge.admin());
    let words = viaduct_tests::run_viaduct(&["ctl", "--url", &ctl, "bridges", "change", "b", "keepalive=9s"], "");
    assert!(words.code == Some(0) && words.out.contains("nothing was changed"), "{words:?}");
    edge.write_config(&file("keepalive = \"8s\""));
    assert_eq!(ok(&edge, "POST", "/reload", None)["bridges_changed"], json!(["b"]), "the file rules it");

    // What is still wrong is refused, stopped stays stopped by a word alone, and what was changed is changed.
    assert_eq!(call(&edge, "POST", "/bridges/b", Some(&json!({"nonsense": null, "keepalive": "x"}))).0, 422);
    ok(&edge, "POST", "/bridges/b/stop", None);
    let stopped = ok(&edge, "POST", "/bridges/b", Some(&json!({})));
    assert_eq!((&stopped["changed"], &stopped["origin"]), (&json!(false), &json!("switched")), "{stopped}");
    let changed = ok(&edge, "POST", "/bridges/b", Some(&json!({"keepalive": "7s"})));
    assert_eq!((&changed["changed"], &changed["origin"]), (&json!(true), &json!("changed")), "{changed}");
    // A bridge that is kept already keeps the words too.
    let said = ok(&edge, "POST", "/bridges/b", Some(&json!({"keepalive": 7})));
    assert_eq!((&said["changed"], &said["definition"]["keepalive"]), (&json!(true), &json!(7)), "{said}");
    assert_eq!(ok(&edge, "POST", "/bridges/b", Some(&json!({})))["changed"], false);
}

#[test]
fn a_bridge_says_why_it_is_down_and_when_it_tries_again() {
    let nobody = Port::take();
    let edge = Broker::start("");
    let slow = with(bridge(nobody.address()), "reconnect_min", json!("1m"));
    ok(&edge, "PUT", "/bridges/b", Some(&with(slow, "reconnect_max", json!("2m"))));
    let down = wait_for_bridge(&edge, "b", "waiting");
    assert_eq!(down["last_error"]["kind"], "refused", "{down}");
    assert_eq!(
        (&down["level"], &down["level_reason"]),
        (&Value::Null, &Value::Null),
        "one has no reason alone: {down}"
    );
    assert_eq!(down["levels_left"], json!([]), "{down}");
    let next = down["next_attempt"]["in_seconds"].as_f64().unwrap();
    assert!((30.0..=120.0).contains(&next), "{down}");
    for time in [&down["last_error"]["at"], &down["last_error"]["since"], &down["next_attempt"]["at"]] {
        assert!(time.as_str().unwrap().ends_with('Z'), "{down}");
    }
    let checked = ok(&edge, "POST", "/bridges/b/check", None);
    assert_eq!(checked["works"], false, "{checked}");
    let failed = checked["steps"].as_array().unwrap().iter().find(|step| step["ok"] == false).unwrap();
    assert_eq!(failed["step"], "tcp", "{checked}");
}

#[test]
fn a_bridge_says_which_level_it_speaks_and_why_and_how_it_is_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let ca = folder.path().join("ca.pem");
    let hub = Broker::start_in(
        folder,
        "[[listener]]\nname = \"old\"\nbind = \"127.0.0.1:@port.old@\"\nallowed_protocol_versions = [4]\n\
         [[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:@port.tls@\"\n\
         tls = { cert_file = \"@dir@/server.pem\", key_file = \"@dir@/server.key\" }\n",
    );
    drop(certs);
    let edge = Broker::start("");
    ok(&edge, "PUT", "/bridges/old", Some(&bridge(hub.port("old"))));
    let old = wait_for_bridge(&edge, "old", "up");
    assert_eq!(old["level"], 4, "{old}");
    let reason = old["level_reason"].as_str().unwrap();
    assert!(reason.contains("5: ") && reason.contains("132: "), "{reason}");
    let left: Vec<_> =
        old["levels_left"].as_array().unwrap().iter().map(|one| one["level"].as_u64().unwrap()).collect();
    assert_eq!(left, [5, 132], "{old}");
    assert!(old["levels_left"].as_array().unwrap().iter().all(|one| one["reason"].is_string()), "{old}");
    ok(&edge, "POST", "/bridges/old/stop", None);
    let stopped = wait_for_bridge(&edge, "old", "stopped");
    assert_eq!((&stopped["level"], &stopped["level_reason"]), (&Value::Null, &Value::Null), "{stopped}");
    let url = format!("mqtts://localhost:{}", hub.port("tls").port());
    let tls = json!({"url": url, "protocol_version": 5, "tls": {"ca_file": ca}, "topic": [{"filter": "x"}]});
    ok(&edge, "PUT", "/bridges/tls", Some(&tls));
    let tls = wait_for_bridge(&edge, "tls", "up");
    assert_eq!(
        (&tls["tls"]["version"], &tls["level_reason"]),
        (&json!("1.3"), &json!("protocol_version is 5")),
        "{tls}"
    );
    assert!(tls["tls"]["certificate_expires_in_seconds"].as_i64().unwrap() > 0, "{tls}");
    let checked = ok(&edge, "POST", "/bridges/tls/check", None);
    assert_eq!(checked["works"], true, "{checked}");
    assert!(checked["steps"].as_array().unwrap().iter().any(|step| step["step"] == "login" && step["ok"] == true));
}

#[test]
fn mosquitto_is_bridged_at_run_time_and_forgets_what_was_removed() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let edge = Broker::start("[node]\nid = \"edge\"\n");
    ok(&edge, "PUT", "/bridges/m", Some(&bridge(mosquitto.address())));
    wait_for_bridge(&edge, "m", "up");
    let mut heard = listener(mosquitto.address());
    publish(&edge, "out/1", "one");
    until(DEADLINE, "the message", || (heard.message().topic == "out/1").then_some(()));
    assert_eq!(ok(&edge, "POST", "/bridges/m/check", None)["works"], true);
    ok(&edge, "DELETE", "/bridges/m", None);
    // Somebody else with its ClientID finds no session.
    eventually("the session is gone there", || {
        let client = Hello::v5("edge.m").persistent().connect(mosquitto.address());
        let present = client.welcome.session_present;
        client.disconnect_with(viaduct_tests::codec::ReasonCode::SUCCESS, Some(0));
        !present
    });
}

#[test]
fn a_removed_bridge_leaves_no_session_at_its_remote_whether_it_runs_or_not() {
    let hub = Broker::start("");
    let edge = Broker::start("[node]\nid = \"edge\"\n");
    for (name, version, stopped) in [("a", 4, false), ("b", 4, true), ("c", 5, true), ("d", 3, true)] {
        let path = format!("/bridges/{name}");
        ok(&edge, "PUT", &path, Some(&with(bridge(hub.address()), "protocol_version", json!(version))));
        wait_for_bridge(&edge, name, "up");
        if stopped {
            ok(&edge, "POST", &format!("{path}/stop"), None);
            wait_for_bridge(&edge, name, "stopped");
        }
        let client_id = format!("edge.{name}");
        assert!(peers(&hub).contains_key(&client_id));
        ok(&edge, "DELETE", &path, None);
        eventually("the session is gone there", || !peers(&hub).contains_key(&client_id));
        eventually("and here", || !peers(&edge).contains_key(&format!("$bridge/{name}")));
        edge.wait_for_log(&[&format!("bridge \"{name}\": its session at mqtt://"), "is ended"]);
    }
}

#[test]
fn one_that_is_removed_and_added_again_at_once_is_another_one() {
    let hub = Broker::start("");
    let edge = Broker::start("[node]\nid = \"edge\"\n");
    ok(&edge, "PUT", "/bridges/b", Some(&bridge(hub.address())));
    wait_for_bridge(&edge, "b", "up");
    ok(&edge, "POST", "/bridges/b/stop", None);
    publish(&edge, "out/old", "of the old one");
    for _ in 0..3 {
        ok(&edge, "DELETE", "/bridges/b", None);
        ok(&edge, "PUT", "/bridges/b", Some(&bridge(hub.address())));
    }
    wait_for_bridge(&edge, "b", "up");
    let mut heard = listener(hub.address());
    publish(&edge, "out/new", "of the new one");
    let topic = until(DEADLINE, "the new one carries", || {
        heard.message_within(std::time::Duration::from_secs(1)).filter(|message| message.topic.starts_with("out/"))
    });
    assert_eq!(topic.topic, "out/new", "what waited for the old one went with it");
    assert!(peers(&edge).contains_key("$bridge/b") && peers(&hub).contains_key("edge.b"));
}

#[test]
fn what_a_remote_that_is_away_could_not_be_told_is_said() {
    let mut hub = Broker::start("");
    let edge = Broker::start("");
    ok(&edge, "PUT", "/bridges/b", Some(&bridge(hub.address())));
    wait_for_bridge(&edge, "b", "up");
    hub.stop();
    ok(&edge, "DELETE", "/bridges/b", None);
    edge.wait_for_log(&["bridge \"b\": its session at the remote could not be ended"]);
    assert!(!peers(&edge).contains_key("$bridge/b"));
}

#[test]
fn rules_that_were_taken_away_while_the_bridge_was_stopped_are_unsubscribed_on_both_sides() {
    let hub = Broker::start("");
    let edge = Broker::start("[node]\nid = \"edge\"\n");
    ok(&edge, "PUT", "/bridges/b", Some(&bridge(hub.address())));
    wait_for_bridge(&edge, "b", "up");
    eventually("one each", || (subscriptions(&edge, "$bridge/b"), subscriptions(&hub, "edge.b")) == (Some(1), Some(1)));
    ok(&edge, "POST", "/bridges/b/stop", None);
    for filter in ["other/#", "third/#"] {
        let rules = json!({"topic": [{"filter": filter}, {"filter": filter, "direction": "in"}]});
        ok(&edge, "POST", "/bridges/b", Some(&rules));
    }
    ok(&edge, "POST", "/bridges/b/start", None);
    wait_for_bridge(&edge, "b", "up");
    let mut heard = listener(hub.address());
    until(DEADLINE, "the new rule carries", || {
        publish(&edge, "third/1", "x");
        heard.message_within(std::time::Duration::from_secs(1)).filter(|message| message.topic == "third/1")
    });
    eventually("one each again", || {
        (subscriptions(&edge, "$bridge/b"), subscriptions(&hub, "edge.b")) == (Some(1), Some(1))
    });
}

/// `type`, and the path of the first error.
#[track_caller]
fn assert_problem(response: &Response, status: u16, kind: &str, path: Option<&str>) {
    assert_eq!(response.status, status, "{response:?}");
    assert!(response.head.to_lowercase().contains("content-type: application/problem+json"), "{response:?}");
    let problem: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(problem["type"], format!("urn:viaduct:problem:{kind}"), "{problem}");
    assert_eq!(problem["status"], status);
    for key in ["title", "detail"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    if let Some(path) = path {
        let paths: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().map(|error| error["path"].as_str().unwrap()).collect();
        assert!(paths.contains(&path), "{path} is not in {problem}");
    }
}

#[test]
fn every_refusal_is_a_problem_that_says_where() {
    let edge = Broker::start("");
    let remote = "mqtt://127.0.0.1:9";
    let there = json!({"url": remote, "topic": [{"filter": "x"}]});
    ok(&edge, "PUT", "/bridges/there", Some(&there));
    let before = ok(&edge, "GET", "/bridges/there", None)["definition"].clone();
    let call = |method: &str, path: &str, headers: &[&str], body: &str| {
        send(edge.admin(), method, &format!("/api/v1{path}"), headers, body.as_bytes()).unwrap()
    };
    for (method, path) in [
        ("GET", "/bridges/none"),
        ("DELETE", "/bridges/none"),
        ("POST", "/bridges/none/start"),
        ("POST", "/bridges/none/stop"),
        ("POST", "/bridges/none/revert"),
        ("POST", "/bridges/none/check"),
        ("GET", "/nothing"),
    ] {
        assert_problem(&call(method, path, &[], ""), 404, "not-found", None);
    }
    assert_problem(&call("POST", "/bridges/none", &[JSON], "{}"), 404, "not-found", None);
    assert_problem(&call("PATCH", "/bridges/there", &[JSON], "{}"), 405, "method-not-allowed", None);
    assert_problem(&call("GET", "/reload", &[], ""), 405, "method-not-allowed", None);
    let named = with(there.clone(), "name", json!("there")).to_string();
    assert_problem(&call("POST", "/bridges", &[JSON], &named), 409, "exists", None);
    assert_problem(&call("POST", "/bridges/there/revert", &[], ""), 409, "not-in-file", None);
    for body in ["{", "[]", "5", "", "{\"url\": \u{1}}"] {
        assert_problem(&call("PUT", "/bridges/there", &[JSON], body), 400, "malformed", None);
    }
    for kind in ["Content-Type: text/plain", "X-No: type"] {
        assert_problem(&call("PUT", "/bridges/there", &[kind], "{}"), 415, "unsupported-media-type", None);
    }
    let large = with(there.clone(), "username", json!("x".repeat(70_000))).to_string();
    assert_problem(&call("PUT", "/bridges/there", &[JSON], &large), 413, "too-large", None);

    let wrong = |key: &str, value: Value| with(there.clone(), key, value).to_string();
    let invalid = [
        ("there", wrong("url", json!("hub:1883")), "url"),
        ("there", wrong("urll", json!("x")), "urll"),
        ("there", wrong("topic", json!([{"filter": "a"}, {"filter": "b", "qos": 7}])), "topic[1].qos"),
        ("there", wrong("queue", json!({"on_full": "explode"})), "queue.on_full"),
        ("there", wrong("password", json!("without-a-user")), "password"),
        ("there", wrong("name", json!("other")), "name"),
        ("there", json!({"topic": []}).to_string(), "url"),
        ("there", wrong("topic", json!([])), "topic"),
        ("a%2Bb", there.to_string(), "name"),
    ];
    for (name, body, path) in invalid {
        let response = call("PUT", &format!("/bridges/{name}"), &[JSON], &body);
        assert_problem(&response, 422, "invalid-configuration", Some(path));
        assert!(!response.body.contains("without-a-user"));
    }
    assert_problem(&call("POST", "/bridges", &[JSON], &there.to_string()), 422, "invalid-configuration", Some("name"));
    // What is there and no name is not missing, and not passed over where the address has one.
    for (method, path) in [("POST", "/bridges"), ("PUT", "/bridges/there"), ("POST", "/bridges/there")] {
        let response = call(method, path, &[JSON], &wrong("name", json!(7)));
        assert_problem(&response, 422, "invalid-configuration", Some("name"));
        let said = response.body.contains("found the integer 7") && !response.body.contains("missing");
        assert!(said, "{method} {path}: {response:?}");
    }
    for (kind, body) in [
        (JSON, json!({"topic": [{"filter": "x", "qos": null}]}).to_string()),
        (JSON, "null".to_owned()),
        ("Content-Type: application/toml", "keepalive = 2020-01-01".to_owned()),
    ] {
        assert_problem(&call("POST", "/bridges/there", &[kind], &body), 400, "malformed", None);
    }
    // All in one go.
    let both = json!({"url": "hub", "topic": [{"filter": "a", "qos": 7}]}).to_string();
    let response = call("PUT", "/bridges/new", &[JSON], &both);
    for path in ["url", "topic[0].qos"] {
        assert_problem(&response, 422, "invalid-configuration", Some(path));
    }
    let files =
        json!({"url": "mqtts://127.0.0.1:9", "tls": {"ca_file": "/nowhere/ca.pem"}, "topic": [{"filter": "x"}]});
    assert_problem(
        &call("PUT", "/bridges/new", &[JSON], &files.to_string()),
        422,
        "unusable-file",
        Some("tls.ca_file"),
    );
    let password = wrong("password_file", json!("/nowhere/password"));
    let password = with(serde_json::from_str(&password).unwrap(), "username", json!("u")).to_string();
    assert_problem(&call("PUT", "/bridges/new", &[JSON], &password), 422, "unusable-file", Some("password_file"));

    // What can't be kept is not done: something that is no file lies where the draft goes.
    let draft = edge.folder().join("data/bridges.toml.new");
    std::fs::create_dir(&draft).unwrap();
    assert_problem(&call("PUT", "/bridges/new", &[JSON], &there.to_string()), 507, "not-kept", None);
    assert_problem(&call("DELETE", "/bridges/there", &[], ""), 507, "not-kept", None);
    std::fs::remove_dir(&draft).unwrap();
    assert_eq!(ok(&edge, "GET", "/bridges/there", None)["definition"], before, "nothing of all that was done");
    assert_eq!(ok(&edge, "GET", "/bridges", None)["bridges"].as_array().unwrap().len(), 1);
}

#[test]
fn without_a_token_the_api_answers_this_machine_and_with_one_who_knows_it() {
    let open = Broker::start("");
    let call =
        |broker: &Broker, headers: &[&str]| send(broker.admin(), "POST", "/api/v1/reload", headers, b"").unwrap();
    assert_eq!(call(&open, &[]).status, 200);
    assert_eq!(call(&open, &["Host: localhost:8888"]).status, 200);
    assert_problem(&call(&open, &["Host: evil.example"]), 403, "forbidden", None);
    assert_problem(&call(&open, &["Origin: http://evil.example"]), 403, "forbidden", None);
    assert_eq!(send(open.admin(), "GET", "/metrics", &["Host: scraper.example"], b"").unwrap().status, 200);
    assert!(open.metric("viaduct_api_calls_total", &[("method", "POST"), ("result", "denied")]) >= 2.0);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret-token\n").unwrap();
    let closed = Broker::start_in(folder, "[admin]\ntoken_file = \"@dir@/token\"\n");
    for headers in [&[][..], &["Authorization: Bearer secret"], &["Authorization: Basic secret-token"]] {
        let refused = call(&closed, headers);
        assert_problem(&refused, 401, "unauthorized", None);
        assert!(refused.head.to_lowercase().contains("www-authenticate: bearer"), "{refused:?}");
    }
    // Who knows the token may come by any name.
    assert_eq!(call(&closed, &["Authorization: Bearer secret-token", "Host: hub.example"]).status, 200);
}

#[test]
fn connections_that_say_nothing_keep_nobody_out() {
    let broker = Broker::start("");
    // As many as there are places; each is given up when its request does not come.
    let idle: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(broker.admin()).unwrap()).collect();
    eventually("an answer", || get(broker.admin(), "/health/live").is_ok_and(|response| response.status == 200));
    drop(idle);
}
