//! The harness itself, against a broker that nobody here wrote: what it sees there is not our own mistake twice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use viaduct_tests::codec::{QoS, ReasonCode, Version};
use viaduct_tests::{Certs, Hello, Link, Mosquitto, Outgoing, Proxy, Raw, Stream};

#[test]
fn the_client_speaks_every_version_and_qos_with_mosquitto() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut subscriber = Hello::of(version, "subscriber").connect(mosquitto.address());
        subscriber.subscribe("t/#", QoS::ExactlyOnce);
        let mut publisher = Hello::of(version, "publisher").connect(mosquitto.address());
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(publisher.publish("t/1", "hello", qos), ReasonCode::SUCCESS);
            let message = subscriber.message();
            assert_eq!((message.topic.as_str(), message.text(), message.qos), ("t/1", "hello", qos));
        }
        subscriber.ping();
        publisher.disconnect();
    }
}

#[test]
fn the_raw_client_sees_bytes_and_the_close() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let mut raw = Raw::connect_from(7, mosquitto.address());
    raw.send(r#"10 0d 00 04 "MQTT" 04 02 00 00 00 01 "a""#).expect("20 02 00 00").send("c0 00").expect("d0 00");
    raw.send("e0 00").expect_close();
}

#[test]
fn certificates_hold_what_they_promise() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let config = "listener @port@ 127.0.0.1\nallow_anonymous true\ncafile @dir@/ca.pem\ncertfile @dir@/server.pem\n\
                  keyfile @dir@/server.key\nrequire_certificate true\nlistener @port.bad@ 127.0.0.1\n\
                  certfile @dir@/expired.pem\nkeyfile @dir@/expired.key\n";
    let Some(mosquitto) = Mosquitto::configured(folder, config) else { return };
    let mut client = Hello::v311("a").connect_tls(mosquitto.address(), &certs.client_config(Some(&certs.client)));
    client.ping();
    let error = Stream::tls(mosquitto.port("bad"), &certs.client_config(None)).unwrap_err();
    assert!(error.to_string().contains("xpired"), "{error}");
}

#[test]
fn the_proxy_cuts_refuses_freezes_and_restores() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let proxy = Proxy::to(mosquitto.address());
    let mut client = Hello::v5("a").connect(proxy.address());
    client.ping();
    proxy.cut();
    client.expect_closed();
    proxy.refuse();
    assert!(std::net::TcpStream::connect(proxy.address()).is_err());
    proxy.restore();
    let mut client = Hello::v5("a").connect(proxy.address());
    proxy.set(Link::Frozen);
    let id = client.send_publish(&Outgoing::new("t", "x").qos(QoS::AtLeastOnce)).unwrap();
    assert_eq!(client.event_within(std::time::Duration::from_millis(100)), None);
    proxy.restore();
    assert!(!client.finish_publish(id, QoS::AtLeastOnce).is_error());
    assert!(proxy.accepted() >= 2 && proxy.carried() > 0);
}
