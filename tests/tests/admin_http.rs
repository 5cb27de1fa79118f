//! The admin port: metrics that are there and move, and health.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use viaduct_tests::api::{call, ok};
use viaduct_tests::codec::{QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Hello, Outgoing, Proxy, Raw, Signal, eventually, get, request};

/// Every name that is promised, with the labels that it has.
const NAMES: [(&str, &[&str]); 21] = [
    ("connections", &["listener"]),
    ("connects_total", &["listener", "level", "result"]),
    ("sessions", &["state"]),
    ("subscriptions", &[]),
    ("retained_messages", &[]),
    ("messages_received_total", &["qos"]),
    ("messages_sent_total", &["qos"]),
    ("messages_dropped_total", &["reason"]),
    ("bytes_received_total", &[]),
    ("bytes_sent_total", &[]),
    ("takeovers_total", &["result"]),
    ("protocol_errors_total", &["reason"]),
    ("auth_total", &["result"]),
    ("queued_messages", &[]),
    ("queued_bytes", &[]),
    ("store_commit_seconds_count", &[]),
    ("bridge_up", &["bridge"]),
    ("bridge_connects_total", &["bridge", "result"]),
    ("bridge_messages_total", &["bridge", "direction"]),
    ("bridge_queued_messages", &["bridge"]),
    ("build_info", &["version"]),
];

#[test]
fn every_promised_metric_is_there_with_its_labels() {
    let proxy = Proxy::to(([127, 0, 0, 1], 1).into());
    proxy.refuse();
    let broker = Broker::start(&format!(
        "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{}\"\n[[bridge.topic]]\nfilter = \"x/#\"\n",
        proxy.address()
    ));
    // An attempt has failed, so that its time is there too.
    broker.wait_for_metric("viaduct_bridge_last_error_timestamp_seconds", &[("bridge", "b")], |time| time > 1e9);
    let text = broker.metrics();
    for (name, labels) in NAMES {
        let line = text
            .lines()
            .find(|line| {
                line.strip_prefix("viaduct_")
                    .and_then(|line| line.strip_prefix(name))
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .unwrap_or_else(|| panic!("viaduct_{name} is not in:\n{text}"));
        for label in labels {
            assert!(line.contains(&format!("{label}=\"")), "{label} is not in {line}");
        }
    }
    assert_eq!(broker.metric("viaduct_bridge_up", &[("bridge", "b")]), 0.0);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("viaduct_"), "{line}");
    }
    let head = broker.get("/metrics").head;
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
}

#[test]
fn every_metric_of_messages_moves() {
    let broker = Broker::start("[sys]\ninterval = \"0s\"\n");
    let metric = |name: &str, labels: &[(&str, &str)]| broker.metric(&format!("viaduct_{name}"), labels);
    let hello = Hello::v311("away").persistent();
    let mut client = hello.connect(broker.address());
    client.subscribe("q/#", QoS::ExactlyOnce);
    assert_eq!(metric("subscriptions", &[]), 1.0);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for (label, qos) in [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
        publisher.publish("q/x", "hello", qos);
        client.message();
        assert_eq!(metric("messages_received_total", &[("qos", label)]), 1.0);
        broker.wait_for_metric("viaduct_messages_sent_total", &[("qos", label)], |sent| sent == 1.0);
    }
    assert!(metric("bytes_received_total", &[]) > 50.0);
    assert!(metric("bytes_sent_total", &[]) > 50.0);
    client.disconnect();
    publisher.publish("q/x", "hello", QoS::AtLeastOnce);
    assert_eq!(metric("queued_messages", &[]), 1.0);
    assert!(metric("queued_bytes", &[]) >= 5.0);
    assert_eq!(metric("sessions", &[("state", "disconnected")]), 1.0);
    publisher.publish("q/x", "hello", QoS::AtMostOnce);
    broker.wait_for_metric("viaduct_messages_dropped_total", &[("reason", "offline")], |count| count == 1.0);
    publisher.publish_message(&Outgoing::new("kept", "x").qos(QoS::AtLeastOnce).retained());
    assert_eq!(metric("retained_messages", &[]), 1.0);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    assert_eq!(metric("takeovers_total", &[("result", "taken_over")]), 1.0);
    publisher.send_bytes(&[0xc1, 0x00]);
    publisher.expect_disconnect();
    assert_eq!(metric("protocol_errors_total", &[]), 1.0);
    assert_eq!(metric("auth_total", &[("result", "anonymous")]), 3.0);
}

#[test]
fn connections_are_counted_by_listener_level_and_result() {
    let broker = Broker::start("");
    for version in [Version::V31, Version::V311, Version::V5] {
        Hello::of(version, "client").connect(broker.address()).disconnect();
    }
    Raw::connect(broker.address()).send("00").expect_close();
    for level in ["3", "4", "5"] {
        let labels = [("listener", "default"), ("level", level), ("result", "accepted")];
        assert_eq!(broker.metric("viaduct_connects_total", &labels), 1.0);
    }
    let _open = Hello::v5("open").connect(broker.address());
    broker.wait_for_metric("viaduct_connections", &[("listener", "default")], |count| count == 1.0);
}

#[test]
fn no_label_carries_a_client_id_or_a_topic() {
    let broker = Broker::start("");
    let mut client = Hello::v5("a-very-special-client").connect(broker.address());
    client.subscribe("a-very-special-topic", QoS::AtMostOnce);
    client.publish("a-very-special-topic", "x", QoS::AtLeastOnce);
    assert!(!broker.metrics().contains("very-special"));
}

#[test]
fn health_says_live_and_ready() {
    let mut broker = Broker::start("");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(broker.get(path).status, 200, "{path}");
    }
    assert_eq!(broker.get("/nothing").status, 404);
    assert_eq!(request(broker.admin(), "POST", "/metrics", &[]).unwrap().status, 405);
    assert_eq!(broker.stop(), Some(0));
    assert!(get(broker.admin(), "/health/live").is_err());
}

#[test]
fn an_unready_broker_says_so_while_it_drains() {
    let broker = Broker::start("");
    // A client that takes nothing keeps the drain going for a moment.
    let mut sleeper = Hello::v311("sleeper").connect(broker.address());
    sleeper.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for _ in 0..200 {
        publisher.publish("flood", vec![b'x'; 60_000], QoS::AtMostOnce);
    }
    publisher.ping();
    broker.signal(Signal::Term);
    eventually("503 or the end", || {
        get(broker.admin(), "/health/ready").map_or(true, |response| response.status == 503)
    });
}

#[test]
fn the_api_names_clients_and_listeners() {
    let broker = Broker::start("");
    let mut client = Hello::v5("client-7").connect(broker.address());
    client.subscribe("t", QoS::AtMostOnce);
    let clients = broker.get("/api/v1/clients");
    assert_eq!(clients.status, 200, "{clients:?}");
    let clients: Value = serde_json::from_str(&clients.body).unwrap();
    assert!(clients.to_string().contains("client-7"), "{clients}");
    let listeners: Value = serde_json::from_str(&broker.get("/api/v1/listeners").body).unwrap();
    assert!(listeners.to_string().contains("default"), "{listeners}");
}

#[test]
fn the_api_asks_for_its_token() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret-token\n").unwrap();
    let broker = Broker::start_in(folder, "[admin]\ntoken_file = \"@dir@/token\"\n");
    assert_eq!(broker.get("/api/v1/clients").status, 401);
    let wrong = request(broker.admin(), "GET", "/api/v1/clients", &["Authorization: Bearer wrong"]).unwrap();
    assert_eq!(wrong.status, 401);
    let right = request(broker.admin(), "GET", "/api/v1/clients", &["Authorization: Bearer secret-token"]).unwrap();
    assert_eq!(right.status, 200);
    assert_eq!(broker.get("/metrics").status, 200, "metrics ask for none");
}

/// `key` of each item of `list`.
fn each<'a>(answer: &'a Value, list: &str, key: &str) -> Vec<&'a str> {
    answer[list].as_array().unwrap().iter().map(|one| one[key].as_str().unwrap()).collect()
}

#[track_caller]
fn refused(broker: &Broker, method: &str, path: &str, status: u16, kind: &str, words: &str) {
    let (got, problem) = call(broker, method, path, None);
    assert_eq!((got, &problem["type"]), (status, &json!(format!("urn:viaduct:problem:{kind}"))), "{path}: {problem}");
    assert!(problem["detail"].as_str().unwrap().contains(words), "{words} is not in {problem}");
}

#[test]
fn sessions_are_listed_a_page_at_a_time_in_the_order_of_their_client_ids() {
    let broker = Broker::start("[node]\nworkers = 3\n");
    let names: Vec<String> = (0..25).map(|number| format!("device-{number:02}")).collect();
    for name in &names {
        Hello::v311(name).persistent().connect(broker.address()).disconnect();
    }
    let _here = Hello::v5("here").connect(broker.address());
    let mut all = Vec::new();
    let mut path = "/sessions?limit=7&match=device".to_owned();
    let mut pages = 0;
    loop {
        let page = ok(&broker, "GET", &path, None);
        all.extend(each(&page, "sessions", "client_id").into_iter().map(str::to_owned));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/sessions?limit=7&match=device&after={next}");
    }
    assert_eq!((all, pages), (names, 4));
    let list = |query: &str| ok(&broker, "GET", &format!("/sessions{query}"), None);
    eventually("nobody else has a connection", || each(&list("?connected=true"), "sessions", "client_id") == ["here"]);
    assert_eq!(list("?connected=false")["sessions"].as_array().unwrap().len(), 25);
    assert_eq!(list("")["sessions"].as_array().unwrap().len(), 26);
    assert_eq!(list("?limit=26")["next"], Value::Null, "a page that just holds all of them is the last");
    assert_eq!(list("?match=nobody"), json!({"sessions": [], "next": null}));
    for (query, words) in [
        ("?limit=0", "expected a number from 1 to 1000, found \"0\""),
        ("?limit=1001", "found \"1001\""),
        ("?limit=x", "found \"x\""),
        ("?connected=perhaps", "expected true or false, found \"perhaps\""),
        ("?limits=5", "`limits` means nothing"),
        ("?limit=5&limit=6", "`limit` stands there twice"),
    ] {
        refused(&broker, "GET", &format!("/sessions{query}"), 400, "malformed", words);
    }
}

#[test]
fn a_session_is_shown_with_what_it_subscribes_to_and_ended() {
    let broker = Broker::start("[node]\nworkers = 2\n");
    let hello = Hello::v5("a/b c").persistent();
    let mut client = hello.connect(broker.address());
    client.subscribe("z", QoS::AtMostOnce);
    client.subscribe("a/#", QoS::ExactlyOnce);
    let shown = ok(&broker, "GET", "/sessions/a%2Fb%20c", None);
    assert_eq!((&shown["client_id"], &shown["connected"], &shown["level"]), (&json!("a/b c"), &json!(true), &json!(5)));
    assert_eq!(each(&shown, "filters", "filter"), ["a/#", "z"]);
    assert_eq!((&shown["filters"][0]["qos"], &shown["filters_not_shown"]), (&json!(2), &json!(0)));
    assert_eq!((&shown["expires_at"], &shown["bridge"]), (&Value::Null, &Value::Null));
    client.disconnect();
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    publisher.publish("a/1", "waits", QoS::AtLeastOnce);
    let away = ok(&broker, "GET", "/sessions/a%2Fb%20c", None);
    assert_eq!((&away["connected"], &away["queued_messages"]), (&json!(false), &json!(1)), "{away}");

    // One with a connection is told, and comes back to nothing.
    let mut client = hello.connect(broker.address());
    assert!(client.welcome.session_present);
    assert_eq!(client.message().payload, b"waits");
    assert_eq!(call(&broker, "DELETE", "/sessions/a%2Fb%20c", None), (204, Value::Null));
    assert_eq!(client.expect_disconnect(), ReasonCode::ADMINISTRATIVE_ACTION);
    refused(&broker, "GET", "/sessions/a%2Fb%20c", 404, "not-found", "no session of ClientID \"a/b c\"");
    refused(&broker, "DELETE", "/sessions/a%2Fb%20c", 404, "not-found", "no session of ClientID");
    broker.wait_for_log(&["the session is ended by the API", "a/b c"]);
    let client = hello.connect(broker.address());
    assert!(!client.welcome.session_present);
    client.disconnect();

    // One that is away, and stays gone.
    assert_eq!(call(&broker, "DELETE", "/sessions/a%2Fb%20c", None).0, 204);
    let mut broker = broker;
    broker.stop();
    broker.start_again();
    assert_eq!(call(&broker, "GET", "/sessions/a%2Fb%20c", None).0, 404);
}

#[test]
fn the_session_of_a_bridge_is_not_ended_behind_its_back() {
    let broker =
        Broker::start("[[bridge]]\nname = \"hub\"\nurl = \"mqtt://127.0.0.1:9\"\n[[bridge.topic]]\nfilter = \"x/#\"\n");
    let mut session = Value::Null;
    eventually("it has a session", || {
        let (status, found) = call(&broker, "GET", "/sessions/$bridge%2Fhub", None);
        session = found;
        status == 200
    });
    assert_eq!(session["bridge"], "hub", "{session}");
    refused(&broker, "DELETE", "/sessions/$bridge%2Fhub", 409, "session-of-bridge", "bridge \"hub\"");
    assert_eq!(call(&broker, "GET", "/sessions/$bridge%2Fhub", None).0, 200);
}

/// One retained message for each topic; those of `big/` are large.
fn with_retained(topics: &[&str]) -> Broker {
    let broker = Broker::start("[node]\nworkers = 2\n[sys]\ninterval = \"0s\"\n");
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for topic in topics {
        let payload = if topic.starts_with("big/") { "x".repeat(100_000) } else { format!("on {topic}") };
        let qos = if topic.ends_with("/2") { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        publisher.publish_message(&Outgoing::new(topic, payload).qos(qos).retained());
    }
    broker
}

#[test]
fn retained_messages_are_listed_by_filter_and_bounds_a_page_at_a_time() {
    let names: Vec<String> = (0..40).map(|number| format!("site/{number}/{}", number % 3)).collect();
    let mut topics: Vec<&str> = names.iter().map(String::as_str).collect();
    topics.extend(["big/one", "other", "$own/x"]);
    let broker = with_retained(&topics);
    // Every one once, whatever the pages: from all roots, below one, and by a wildcard in the middle.
    for (filter, wanted) in [
        ("%23", topics.iter().copied().filter(|topic| !topic.starts_with('$')).collect::<BTreeSet<_>>()),
        ("site/%23", names.iter().map(String::as_str).collect()),
        ("%2B/%2B/2", names.iter().map(String::as_str).filter(|name| name.ends_with("/2")).collect()),
        ("$own/%23", BTreeSet::from(["$own/x"])),
        ("site/7/1", BTreeSet::from(["site/7/1"])),
        ("nothing/%23", BTreeSet::new()),
    ] {
        for limit in [1, 7, 1000] {
            let mut all = Vec::new();
            let mut path = format!("/retained?filter={filter}&limit={limit}");
            loop {
                let page = ok(&broker, "GET", &path, None);
                let found = each(&page, "retained", "topic");
                assert!(found.len() <= limit);
                all.extend(found.into_iter().map(str::to_owned));
                let Some(next) = page["next"].as_str() else { break };
                path = format!("/retained?filter={filter}&limit={limit}&after={}", next.replace('/', "%2F"));
            }
            assert_eq!(all.len(), wanted.len(), "{filter} by {limit}: {all:?}");
            assert_eq!(all.iter().map(String::as_str).collect::<BTreeSet<_>>(), wanted, "{filter} by {limit}");
        }
    }
    let list = |query: &str| {
        let found = ok(&broker, "GET", &format!("/retained?limit=1000&{query}"), None);
        each(&found, "retained", "topic").len()
    };
    assert_eq!((list("min_size=64KiB"), list("max_size=64KiB")), (1, 41));
    assert_eq!((list("min_size=100000&max_size=100000"), list("min_size=100001")), (1, 0));
    assert_eq!((list("qos=2"), list("qos=1"), list("qos=0")), (13, 29, 0));
    assert_eq!((list("newer_than=1h"), list("older_than=1h"), list("older_than=0s")), (42, 0, 42));
    for (query, words) in [
        ("filter=a%23", "`filter`"),
        ("filter=$share/g/a", "shared subscription"),
        ("qos=3", "expected 0, 1 or 2, found \"3\""),
        ("min_size=much", "found \"much\""),
        ("older_than=1", "expected a duration such as 1h30m, found \"1\""),
        ("after=x", "`after`"),
        ("size=5", "`size` means nothing"),
    ] {
        refused(&broker, "GET", &format!("/retained?{query}"), 400, "malformed", words);
    }
    // A place that was never given out leads nowhere.
    assert_eq!(ok(&broker, "GET", "/retained?after=9999:x", None), json!({"retained": [], "next": null}));
}

#[test]
fn a_retained_message_is_shown_and_taken_away_without_a_word() {
    let mut broker = with_retained(&["a/b", "big/one", "stays"]);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish_message(&Outgoing::new("raw", [0xff, 0x00]).qos(QoS::AtLeastOnce).retained());
    publisher
        .publish_message(&Outgoing::new("said", "x").qos(QoS::AtLeastOnce).retained().user_property("from", "here"));
    let show = |broker: &Broker, topic: &str| ok(broker, "GET", &format!("/retained/{topic}"), None);
    let shown = show(&broker, "a%2Fb");
    assert_eq!((&shown["topic"], &shown["payload"], &shown["qos"]), (&json!("a/b"), &json!("on a/b"), &json!(1)));
    assert_eq!((&shown["payload_is_cut"], &shown["expires_at"]), (&json!(false), &Value::Null));
    let big = show(&broker, "big%2Fone");
    assert_eq!((big["payload"].as_str().unwrap().len(), &big["payload_bytes"]), (65_536, &json!(100_000)));
    assert_eq!(big["payload_is_cut"], true);
    assert_eq!(show(&broker, "raw")["payload_base64"], "/wA=");
    assert_eq!(show(&broker, "said")["properties"]["user_properties"], json!([["from", "here"]]));
    refused(&broker, "GET", "/retained/none", 404, "not-found", "topic \"none\" has no retained message");
    refused(&broker, "GET", "/retained/a%2F%23", 400, "malformed", "no topic name");
    refused(&broker, "DELETE", "/retained/none", 404, "not-found", "no retained message");
    refused(&broker, "DELETE", "/retained/$SYS%2Fbroker%2Fversion", 409, "own-topic", "sys.interval");

    publisher.publish_message(&Outgoing::new("short", "x").qos(QoS::AtLeastOnce).retained().expires_in(1));
    eventually("one that has expired is none", || call(&broker, "GET", "/retained/short", None).0 == 404);
    assert!(!each(&ok(&broker, "GET", "/retained", None), "retained", "topic").contains(&"short"));

    let mut hearer = Hello::v5("hearer").connect(broker.address());
    hearer.subscribe("a/b", QoS::AtLeastOnce);
    assert_eq!(hearer.message().payload, b"on a/b");
    assert_eq!(call(&broker, "DELETE", "/retained/a%2Fb", None), (204, Value::Null));
    assert_eq!(call(&broker, "GET", "/retained/a%2Fb", None).0, 404);
    hearer.ping();
    assert_eq!(hearer.waiting(), 0, "nobody is told");
    assert_eq!(call(&broker, "GET", "/retained/stays", None).0, 200, "and no other");
    broker.wait_for_log(&["the retained message is taken away by the API", "a/b"]);
    drop(hearer);
    broker.stop();
    broker.start_again();
    assert_eq!(call(&broker, "GET", "/retained/a%2Fb", None).0, 404, "it stays away");
    assert_eq!(show(&broker, "stays")["payload"], "on stays");
}

#[test]
fn sessions_and_retained_messages_ask_for_the_token_too() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret-token\n").unwrap();
    let broker = Broker::start_in(folder, "[admin]\ntoken_file = \"@dir@/token\"\n");
    for path in ["/sessions", "/sessions/x", "/retained", "/retained/x"] {
        for method in ["GET", "DELETE"] {
            let refused = request(broker.admin(), method, &format!("/api/v1{path}"), &[]).unwrap();
            assert_eq!(refused.status, 401, "{method} {path}");
        }
    }
    let right = request(broker.admin(), "GET", "/api/v1/retained", &["Authorization: Bearer secret-token"]).unwrap();
    assert_eq!(right.status, 200);
}
