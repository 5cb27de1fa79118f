//! Clients that nobody here wrote: mosquitto_pub and mosquitto_sub, paho-mqtt, MQTT.js, rumqttc.
//!
//! `cargo xtask test` installs what is not there; `VIADUCT_INTEROP` names the folder that it uses for Python and Node.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, Certs, DEADLINE, Hello, Port, Process, check_tool, run};

/// Where `cargo xtask test` puts packages.
fn interop() -> PathBuf {
    match std::env::var_os("VIADUCT_INTEROP") {
        Some(folder) => folder.into(),
        // target/<profile>/deps/<test>
        None => std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("interop"),
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(name)
}

/// What carries the scripts' clients, and the listener that they need.
const TRANSPORTS: [(&str, &str); 2] =
    [("tcp", ""), ("ws", "[[listener]]\nbind = \"127.0.0.1:@port@\"\ntransport = \"ws\"\n")];

#[track_caller]
fn run_script(command: &mut Command, broker: &Broker, transport: &str) {
    let finished = run(command.args(["127.0.0.1", &broker.address().port().to_string(), transport]), "");
    assert_eq!(finished.code, Some(0), "{}\n{}", finished.out, finished.err);
    assert_eq!(finished.out.matches("ok ").count(), 5, "{finished:?}");
    assert_eq!(broker.metric("viaduct_protocol_errors_total", &[]), 0.0, "nobody did anything wrong");
}

/// Proves: v4:6.0.0-1, v4:6.0.0-4, v5:6.0.0-1, v5:6.0.0-4
#[test]
fn paho_mqtt_agrees_in_every_version_over_tcp_and_websocket() {
    let python = interop().join("venv/bin/python");
    let Some(python) = check_tool("paho-mqtt", python.is_file().then_some(python)) else { return };
    for (transport, config) in TRANSPORTS {
        let broker = Broker::start(config);
        run_script(Command::new(&python).arg("-u").arg(script("with_paho.py")), &broker, transport);
    }
}

/// Proves: v4:6.0.0-1, v4:6.0.0-4, v5:6.0.0-1, v5:6.0.0-4
#[test]
fn mqtt_js_agrees_in_every_version_over_tcp_and_websocket() {
    let modules = interop().join("node_modules");
    let there = modules.join("mqtt/package.json").is_file();
    let Some(modules) = check_tool("MQTT.js", there.then_some(modules)) else { return };
    for (transport, config) in TRANSPORTS {
        let broker = Broker::start(config);
        let mut command = Command::new("node");
        run_script(command.arg(script("with_mqttjs.cjs")).env("NODE_PATH", &modules), &broker, transport);
    }
}

#[test]
fn a_bridge_over_websocket_agrees_with_the_server_of_ws_with_and_without_tls() {
    let modules = interop().join("node_modules");
    let there = modules.join("ws/package.json").is_file();
    let Some(modules) = check_tool("ws (of MQTT.js)", there.then_some(modules)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let remote = Broker::start("");
    for scheme in ["ws", "wss"] {
        let port = Port::take();
        let mut command = Command::new("node");
        command.arg(script("ws_server.cjs")).env("NODE_PATH", &modules);
        command.args([port.number().to_string(), remote.address().port().to_string()]);
        if scheme == "wss" {
            command.args([&certs.server.cert, &certs.server.key]);
        }
        let server = Process::start("ws", &mut command, &folder.path().join(format!("{scheme}.log")));
        server.wait_for_log(&["listening"]);
        let tls = if scheme == "wss" { format!("[bridge.tls]\nca_file = {:?}\n", certs.ca) } else { String::new() };
        let mut here = Broker::start(&format!(
            "[[bridge]]\nname = \"b\"\nurl = \"{scheme}://localhost:{}\"\n{tls}\
             [[bridge.topic]]\nfilter = \"{scheme}/#\"\ndirection = \"both\"\nqos = 2\n",
            port.number()
        ));
        here.wait_for_metric("viaduct_bridge_up", &[], |up| up == 1.0);
        for (from, to) in [(here.address(), remote.address()), (remote.address(), here.address())] {
            let mut listener = Hello::v5("listener").connect(to);
            listener.subscribe(&format!("{scheme}/#"), QoS::ExactlyOnce);
            let mut speaker = Hello::v5("speaker").connect(from);
            for (qos, size) in [(QoS::AtMostOnce, 1), (QoS::AtLeastOnce, 126), (QoS::ExactlyOnce, 300_000)] {
                let payload = vec![b'x'; size];
                speaker.publish(&format!("{scheme}/t"), &payload, qos);
                let message = listener.message();
                assert_eq!((message.payload == payload, message.qos), (true, qos));
            }
        }
        server.wait_for_log(&["pongs"]);
        assert!(server.log().starts_with("listening\nconnected mqtt \"\""), "{}", server.log());
        assert_eq!(here.stop(), Some(0));
        server.wait_for_log(&["closed 1000"]);
        assert!(!server.log().contains("error"), "{}", server.log());
    }
}

fn mosquitto_client(name: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/bin").join(name);
    check_tool(name, path.is_file().then_some(path))
}

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// Subscribes with mosquitto_sub until `count` messages came; each is a line of its log.
fn mosquitto_sub(folder: &Path, broker: &Broker, version: &str, count: usize, more: &[&str]) -> Process {
    let port = broker.address().port().to_string();
    let mut command = Command::new(mosquitto_client("mosquitto_sub").unwrap());
    command.args(["-h", "localhost", "-p", &port, "-V", version, "-q", "2", "-C", &count.to_string()]);
    command.args(["-i", &format!("sub-{version}"), "-F", "%t|%q|%r|%p"]).args(more);
    Process::start("mosquitto_sub", &mut command, &folder.join(format!("sub-{version}.log")))
}

#[track_caller]
fn mosquitto_pub(broker: &Broker, version: &str, more: &[&str]) {
    let port = broker.address().port().to_string();
    let mut command = Command::new(mosquitto_client("mosquitto_pub").unwrap());
    command.args(["-h", "localhost", "-p", &port, "-V", version]).args(more);
    let finished = run(&mut command, "");
    assert_eq!(finished.code, Some(0), "{command:?}: {finished:?}");
}

/// Every pairing of versions and QoS; `more` goes to every client.
fn every_pairing(broker: &Broker, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let options = [&["-t", "m/#"], more].concat();
    let mut subscribers: Vec<Process> =
        VERSIONS.iter().map(|version| mosquitto_sub(folder.path(), broker, version, 9, &options)).collect();
    broker.wait_for_metric("viaduct_subscriptions", &[], |count| count == 3.0);
    let mut wanted = String::new();
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let (topic, text) = (format!("m/{version}"), format!("{version} at {qos}"));
            mosquitto_pub(broker, version, &[&["-q", qos, "-t", &topic, "-m", &text], more].concat());
            wanted.push_str(&format!("{topic}|{qos}|0|{text}\n"));
        }
    }
    for subscriber in &mut subscribers {
        assert!(subscriber.wait(DEADLINE).success(), "{}", subscriber.log());
        assert_eq!(subscriber.log(), wanted);
    }
}

#[test]
fn mosquittos_clients_agree_in_every_version_and_qos() {
    if mosquitto_client("mosquitto_sub").is_none() {
        return;
    }
    let broker = Broker::start("");
    every_pairing(&broker, &[]);
    assert_eq!(broker.metric("viaduct_protocol_errors_total", &[]), 0.0);
}

#[test]
fn mosquittos_clients_agree_over_tls_with_certificates() {
    if mosquitto_client("mosquitto_sub").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let broker = Broker::start_in(
        folder,
        "[[listener]]\nbind = \"127.0.0.1:@port@\"\n[listener.tls]\ncert_file = \"@dir@/server.pem\"\n\
         key_file = \"@dir@/server.key\"\nclient_ca_file = \"@dir@/ca.pem\"\nrequire_client_certificate = true\n",
    );
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (path(&certs.ca), path(&certs.client.cert), path(&certs.client.key));
    every_pairing(&broker, &["--cafile", &ca, "--cert", &cert, "--key", &key]);
}

#[test]
fn mosquitto_sub_gets_retained_messages_wills_and_a_thousand_lines() {
    if mosquitto_client("mosquitto_sub").is_none() {
        return;
    }
    let broker = Broker::start("");
    let folder = tempfile::tempdir().unwrap();
    mosquitto_pub(&broker, "mqttv311", &["-t", "kept", "-m", "x", "-r", "-q", "1"]);
    let mut subscriber = mosquitto_sub(folder.path(), &broker, "mqttv5", 1, &["-t", "kept"]);
    assert!(subscriber.wait(DEADLINE).success());
    assert_eq!(subscriber.log(), "kept|1|1|x\n");
    drop(subscriber);
    // The will of a mosquitto_sub that is killed.
    let mut watcher = mosquitto_sub(folder.path(), &broker, "mqttv31", 1, &["-t", "will"]);
    let will = ["-t", "none", "--will-topic", "will", "--will-payload", "gone", "--will-qos", "1"];
    let dying = mosquitto_sub(folder.path(), &broker, "mqttv311", 1, &will);
    broker.wait_for_metric("viaduct_subscriptions", &[], |count| count == 2.0);
    drop(dying);
    assert!(watcher.wait(DEADLINE).success());
    assert_eq!(watcher.log(), "will|1|0|gone\n");
    drop(watcher);
    broker.wait_for_metric("viaduct_subscriptions", &[], |count| count == 0.0);
    // A thousand lines from standard input at QoS 2.
    let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
    let mut subscriber = mosquitto_sub(folder.path(), &broker, "mqttv311", 1000, &["-t", "lines", "-F", "%p"]);
    broker.wait_for_metric("viaduct_subscriptions", &[], |count| count == 1.0);
    let port = broker.address().port().to_string();
    let mut publisher = Command::new(mosquitto_client("mosquitto_pub").unwrap());
    publisher.args(["-h", "localhost", "-p", &port, "-t", "lines", "-q", "2", "-l"]);
    assert_eq!(run(&mut publisher, &lines).code, Some(0));
    assert!(subscriber.wait(DEADLINE).success());
    let came: String =
        subscriber.log().lines().filter(|line| !line.contains('|')).map(|line| format!("{line}\n")).collect();
    assert_eq!(came, lines);
}

#[test]
fn rumqttc_of_3_1_1_agrees() {
    use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
    let broker = Broker::start("");
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", broker.address().port());
    options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(200_000, 200_000);
    let (client, mut connection) = Client::new(options, 100);
    client.subscribe("r/#", QoS::ExactlyOnce).unwrap();
    let mut came = Vec::new();
    for event in connection.iter() {
        match event.unwrap() {
            Event::Incoming(Packet::SubAck(_)) => {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    client.publish(format!("r/{}", qos as u8), qos, false, vec![b'x'; 100_000]).unwrap();
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                assert_eq!(publish.topic, format!("r/{}", publish.qos as u8));
                assert_eq!(publish.payload.len(), 100_000);
                came.push(publish.qos as u8);
                if came.len() == 3 {
                    client.disconnect().unwrap();
                }
            }
            Event::Outgoing(rumqttc::Outgoing::Disconnect) => break,
            _ => {}
        }
    }
    came.sort_unstable();
    assert_eq!(came, [0, 1, 2]);
    assert_eq!(broker.metric("viaduct_protocol_errors_total", &[]), 0.0);
}

#[test]
fn rumqttc_of_5_0_agrees() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
    use rumqttc::v5::{Client, Event, MqttOptions};
    let broker = Broker::start("");
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", broker.address().port());
    options.set_keep_alive(Duration::from_secs(5)).set_session_expiry_interval(Some(10)).set_receive_maximum(Some(5));
    let (client, mut connection) = Client::new(options, 100);
    client.subscribe("r/#", QoS::ExactlyOnce).unwrap();
    let sent = PublishProperties {
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("answers".to_owned()),
        user_properties: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
        ..PublishProperties::default()
    };
    let mut came = Vec::new();
    for event in connection.iter() {
        match event.unwrap() {
            Event::Incoming(Packet::SubAck(_)) => {
                for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                    for _ in 0..10 {
                        client
                            .publish_with_properties(format!("r/{}", qos as u8), qos, false, "x", sent.clone())
                            .unwrap();
                    }
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                assert_eq!(publish.topic, format!("r/{}", publish.qos as u8).as_bytes());
                let properties = publish.properties.unwrap();
                assert_eq!(properties.content_type, sent.content_type);
                assert_eq!(properties.response_topic, sent.response_topic);
                assert_eq!(properties.user_properties, sent.user_properties);
                came.push(publish.qos as u8);
                if came.len() == 30 {
                    client.disconnect().unwrap();
                }
            }
            Event::Outgoing(rumqttc::Outgoing::Disconnect) => break,
            _ => {}
        }
    }
    came.sort_unstable();
    assert_eq!(came, [vec![0; 10], vec![1; 10], vec![2; 10]].concat());
    assert_eq!(broker.metric("viaduct_protocol_errors_total", &[]), 0.0);
}
