//! TLS listeners: who is let in by certificate, and under which name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Certs, Hello, Signal, Stream};

const SERVER: &str = "cert_file = \"@dir@/server.pem\"\nkey_file = \"@dir@/server.key\"\n";

fn broker(tls: &str, more: &str) -> (Certs, Broker) {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    std::fs::write(folder.path().join("acl"), "user gate-7\ntopic gate-7/#\n").unwrap();
    let config =
        format!("{more}[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:@port@\"\n[listener.tls]\n{SERVER}{tls}");
    (certs, Broker::start_in(folder, &config))
}

#[test]
fn messages_cross_a_tls_listener_in_every_version() {
    let (certs, broker) = broker("", "");
    let config = certs.client_config(None);
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut client = Hello::of(version, "client").connect_tls(broker.address(), &config);
        client.subscribe("t", QoS::ExactlyOnce);
        // Larger than a TLS record, and than any buffer on the way.
        let payload = vec![b'x'; 300_000];
        client.publish("t", &payload, QoS::ExactlyOnce);
        assert_eq!(client.message().payload, payload);
        client.disconnect();
    }
    assert_eq!(broker.metric("viaduct_connects_total", &[("listener", "tls"), ("result", "accepted")]), 3.0);
}

#[test]
fn a_listener_that_requires_a_certificate_lets_nobody_in_without() {
    let (certs, broker) = broker("client_ca_file = \"@dir@/ca.pem\"\nrequire_client_certificate = true\n", "");
    let mut client = Hello::v5("good").connect_tls(broker.address(), &certs.client_config(Some(&certs.client)));
    client.ping();
    // In TLS 1.3 the client learns of the refusal with the first byte that it reads.
    let refused = match Stream::tls(broker.address(), &certs.client_config(None)) {
        Err(_) => true,
        Ok(stream) => viaduct_tests::Client::over(stream, &Hello::v5("bad")).is_err(),
    };
    assert!(refused);
    broker.wait_for_metric("viaduct_connects_total", &[("result", "tls_failed")], |count| count == 1.0);
    let line = broker.wait_for_log(&["closed 127.0.0.1:"]);
    assert!(line.contains("TLS") && line.contains("tls"), "{line:?}");
}

#[test]
fn the_common_name_is_the_user_name_and_has_its_rights() {
    let tls = "client_ca_file = \"@dir@/ca.pem\"\nusername_from = \"cn\"\nrequire_client_certificate = true\n";
    let (certs, broker) = broker(tls, "[auth]\nacl_file = \"@dir@/acl\"\n");
    let mut gate = Hello::v5("gate").connect_tls(broker.address(), &certs.client_config(Some(&certs.client)));
    assert_eq!(gate.subscribe("gate-7/#", QoS::AtLeastOnce), ReasonCode(1));
    assert_ne!(gate.publish("other/x", "x", QoS::AtLeastOnce), ReasonCode::SUCCESS);
    gate.publish("gate-7/x", "x", QoS::AtLeastOnce);
    assert_eq!(gate.message().topic, "gate-7/x");
    let other = certs.client_named("gate-8");
    let mut gate_8 = Hello::v5("gate 8").connect_tls(broker.address(), &certs.client_config(Some(&other)));
    assert!(gate_8.subscribe("gate-7/#", QoS::AtLeastOnce).is_error());
    assert_eq!(broker.metric("viaduct_auth_total", &[("result", "certificate")]), 2.0);
}

#[test]
fn the_oldest_version_that_is_spoken_can_be_set() {
    let (certs, broker) = broker("min_version = \"1.3\"\n", "");
    Hello::v5("new").connect_tls(broker.address(), &certs.client_config(None)).disconnect();
    assert!(Stream::tls(broker.address(), &certs.client_config_1_2()).is_err());
}

#[test]
fn a_certificate_is_read_again_on_reload_and_connections_stay() {
    let (certs, broker) = broker("", "");
    let config = certs.client_config(None);
    let mut early = Hello::v5("early").connect_tls(broker.address(), &config);
    std::fs::copy(&certs.other_name.cert, &certs.server.cert).unwrap();
    std::fs::copy(&certs.other_name.key, &certs.server.key).unwrap();
    broker.signal(Signal::Hup);
    broker.wait_for_log(&["was reloaded"]);
    let error = Stream::tls(broker.address(), &config).unwrap_err();
    assert!(
        error.to_string().contains("other.example.com") || error.to_string().contains("NotValidForName"),
        "{error}"
    );
    early.ping();
}
