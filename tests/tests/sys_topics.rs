//! The $SYS tree, with mosquitto's names.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{QoS, ReasonCode};
use viaduct_tests::{Broker, Hello, Outgoing, eventually, until};

const NAMES: [&str; 16] = [
    "version",
    "uptime",
    "clients/total",
    "clients/connected",
    "clients/disconnected",
    "clients/maximum",
    "clients/expired",
    "messages/received",
    "messages/sent",
    "messages/stored",
    "subscriptions/count",
    "retained messages/count",
    "bytes/received",
    "bytes/sent",
    "publish/messages/dropped",
    "load/messages/received/1min",
];

#[test]
fn the_tree_has_mosquittos_names_and_moves() {
    let broker = Broker::start("[sys]\ninterval = \"1s\"\n");
    let mut client = Hello::v311("client").connect(broker.address());
    client.subscribe("$SYS/broker/#", QoS::AtMostOnce);
    let mut values = std::collections::BTreeMap::new();
    eventually("every name", || {
        while let Some(message) = client.message_within(std::time::Duration::from_millis(20)) {
            values.insert(message.topic.clone(), message.text().to_owned());
        }
        NAMES.iter().all(|name| values.contains_key(&format!("$SYS/broker/{name}")))
            && values["$SYS/broker/clients/connected"] == "1"
            && values["$SYS/broker/uptime"] != "0 seconds"
    });
    assert!(values["$SYS/broker/version"].starts_with("viaduct version "), "{values:?}");
    let _second = Hello::v311("second").connect(broker.address());
    until(viaduct_tests::DEADLINE, "two clients", || {
        let message = client.message();
        (message.topic == "$SYS/broker/clients/connected" && message.text() == "2").then_some(())
    });
}

#[test]
fn they_are_retained_and_no_wildcard_finds_them_by_accident() {
    let broker = Broker::start("[sys]\ninterval = \"1s\"\n");
    broker.wait_for_metric("viaduct_retained_messages", &[], |count| count > 5.0);
    let mut client = Hello::v5("client").connect(broker.address());
    client.subscribe("#", QoS::AtMostOnce);
    client.subscribe("+/broker/version", QoS::AtMostOnce);
    client.publish("end", "", QoS::AtMostOnce);
    assert_eq!(client.messages_before("end"), []);
    client.subscribe("$SYS/broker/version", QoS::AtMostOnce);
    let message = client.message();
    assert!(message.retain && message.topic == "$SYS/broker/version");
}

#[test]
fn clients_do_not_write_there() {
    let broker = Broker::start("[sys]\ninterval = \"1s\"\n");
    let mut watcher = Hello::v311("watcher").connect(broker.address());
    watcher.subscribe("$SYS/broker/version", QoS::AtMostOnce);
    assert!(watcher.message().text().starts_with("viaduct"));
    let mut liar = Hello::v5("liar").connect(broker.address());
    let reason = liar.publish_message(&Outgoing::new("$SYS/broker/version", "mine").qos(QoS::AtLeastOnce).retained());
    assert_eq!(reason, ReasonCode::NOT_AUTHORIZED);
    let mut old = Hello::v311("old liar").connect(broker.address());
    old.publish("$SYS/broker/version", "mine", QoS::AtLeastOnce);
    watcher.ping();
    assert_eq!(watcher.waiting(), 0);
}

#[test]
fn zero_turns_them_off() {
    let broker = Broker::start("[sys]\ninterval = \"0s\"\n");
    let mut client = Hello::v311("client").connect(broker.address());
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    client.subscribe("end", QoS::AtMostOnce);
    client.publish("end", "", QoS::AtMostOnce);
    assert_eq!(client.messages_before("end"), []);
    assert_eq!(broker.metric("viaduct_retained_messages", &[]), 0.0);
}
