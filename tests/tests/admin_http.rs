//! The admin port: metrics that are there and move, and health.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{QoS, Version};
use viaduct_tests::{Broker, Hello, Outgoing, Proxy, Raw, Signal, get, request};

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
    viaduct_tests::eventually("503 or the end", || {
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
    let clients: serde_json::Value = serde_json::from_str(&clients.body).unwrap();
    assert!(clients.to_string().contains("client-7"), "{clients}");
    let listeners: serde_json::Value = serde_json::from_str(&broker.get("/api/v1/listeners").body).unwrap();
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
