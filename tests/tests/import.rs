//! Moving in: what other brokers' files become is accepted, starts, and serves the same people.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use viaduct_tests::codec::{QoS, ReasonCode};
use viaduct_tests::{Broker, Certs, Finished, Hello, Port, check_tool, eventually, run_viaduct};

/// The folder with fixtures of the importer.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/import/fixtures")
}

/// A fixture in a folder of its own, with certificates, and with free ports instead of those that it names.
struct Moving {
    folder: TempDir,
    certs: Certs,
    ports: Vec<(u16, Port)>,
}

impl Moving {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = Certs::make(folder.path());
        let _ = certs.revocations();
        fs::create_dir(folder.path().join("authorities")).unwrap();
        fs::copy(&certs.ca, folder.path().join("authorities/one.pem")).unwrap();
        let moving = Self { folder, certs, ports: Vec::new() };
        let from = fixtures().join(name);
        for file in fs::read_dir(&from).unwrap().chain(fs::read_dir(from.join("conf.d")).unwrap()) {
            let path = file.unwrap().path();
            if path.is_file() {
                let to = moving.folder.path().join(path.strip_prefix(&from).unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, fs::read_to_string(&path).unwrap()).unwrap();
            }
        }
        moving
    }

    /// Replaces the ports in the main file.
    fn with_ports(mut self, main: &str, ports: &[u16]) -> Self {
        let path = self.folder.path().join(main);
        let mut text = fs::read_to_string(&path).unwrap();
        for port in ports {
            let free = Port::take();
            for (before, after) in [("listener ", " 127.0.0.1"), ("port ", "\n"), ("127.0.0.1:", "")] {
                text = text.replace(&format!("{before}{port}{after}"), &format!("{before}{}{after}", free.number()));
            }
            self.ports.push((*port, free));
        }
        fs::write(&path, text).unwrap();
        self
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Imports the main file into `moved.toml`, relative paths taken from the folder.
    fn import(&self, origin: &str, main: &str) -> Finished {
        let (file, output) = (self.path(main), self.path("moved.toml"));
        let base = self.folder.path().to_str().unwrap();
        run_viaduct(&["import", origin, &file, "--output", &output, "--base", base], "")
    }

    /// Checks and starts what was imported.
    fn start(self) -> (Broker, Certs, Vec<(u16, SocketAddr)>) {
        let checked = run_viaduct(&["check-config", &self.path("moved.toml")], "");
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let text = fs::read_to_string(self.path("moved.toml")).unwrap();
        let addresses = self.ports.iter().map(|(port, free)| (*port, free.address())).collect();
        // The ports are given back for the broker to take.
        let Self { folder, certs, ports } = self;
        drop(ports);
        (Broker::start_in(folder, &text), certs, addresses)
    }
}

fn at(addresses: &[(u16, SocketAddr)], port: u16) -> SocketAddr {
    addresses.iter().find(|(before, _)| *before == port).unwrap().1
}

#[test]
fn a_mosquitto_moves_in_with_everything_it_has() {
    let ports = [1883, 1884, 1885, 1886, 8883, 8884, 9001];
    let moving = Moving::of("mosquitto").with_ports("mosquitto.conf", &ports);
    let finished = moving.import("mosquitto", "mosquitto.conf");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.is_empty(), "{}", finished.out);
    for words in ["psk_hint", "passwd:4: password_file: user \"carol\"", "10-bridges.conf:26: start_type"] {
        assert!(finished.err.contains(words), "{words} is not in:\n{}", finished.err);
    }
    assert!(!finished.err.contains("can't be read"), "{}", finished.err);
    let (broker, certs, addresses) = moving.start();

    let mut alice = Hello::v5("a").login("alice", "alice in chains").connect(at(&addresses, 1883));
    assert_eq!(alice.subscribe("home/#", QoS::AtLeastOnce), ReasonCode::GRANTED_QOS_1);
    let mut bob = Hello::v311("b").login("bob", "bob's secret").keep_alive(60).connect(at(&addresses, 1883));
    assert_eq!(bob.publish("devices/b/x", "not for alice", QoS::AtLeastOnce), ReasonCode::SUCCESS);
    assert_eq!(alice.publish("home/lamp", "on", QoS::AtLeastOnce), ReasonCode::SUCCESS);
    assert_eq!(alice.message().text(), "on");
    assert_eq!(alice.publish("reports/bob", "x", QoS::AtLeastOnce), ReasonCode::NOT_AUTHORIZED);
    let refused = Hello::v5("c").login("carol", "plain").try_connect(at(&addresses, 1883)).unwrap_err();
    assert_eq!(refused, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    let refused = Hello::v31("old").login("bob", "bob's secret").try_connect(at(&addresses, 1883)).unwrap_err();
    assert_eq!(refused, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, "this listener takes 4 and 5");

    // Without a name below the prefix of its listener, and by certificate as whom it names.
    Hello::v5("d").connect(at(&addresses, 1885)).disconnect();
    let by_name = certs.client_config(Some(&certs.client));
    let mut gate = Hello::v5("gate-7").connect_tls(at(&addresses, 8883), &by_name);
    assert_eq!(gate.subscribe("users/gate-7/in", QoS::AtLeastOnce), ReasonCode::GRANTED_QOS_1);
    Hello::v5("e").connect_tls(at(&addresses, 8884), &by_name).disconnect();
    assert_eq!(
        broker.metric("viaduct_bridge_up", &[("bridge", "head-office")]),
        0.0,
        "it is dialled, and nobody is there"
    );
}

#[test]
fn a_vernemq_moves_in_with_everything_it_has() {
    let moving = Moving::of("vernemq").with_ports("vernemq.conf", &[1883, 1884, 1885, 8883, 8889, 9001, 9002]);
    let finished = moving.import("vernemq", "vernemq.conf");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.err.contains("vernemq.conf:143: plugins.vmq_webhooks"), "{}", finished.err);
    assert!(!finished.err.contains("can't be read"), "{}", finished.err);
    let (_broker, certs, addresses) = moving.start();

    let mut alice = Hello::v311("a").login("alice", "alice in chains").connect(at(&addresses, 1883));
    assert_eq!(alice.subscribe("home/#", QoS::AtLeastOnce), ReasonCode::GRANTED_QOS_1);
    assert_eq!(alice.publish("home/lamp", "on", QoS::AtLeastOnce), ReasonCode::SUCCESS);
    assert_eq!(alice.message().text(), "on");
    // What stands before the first user holds for everybody, with a name or without.
    let mut anybody = Hello::v5("b").connect(at(&addresses, 1884));
    assert_eq!(anybody.subscribe("public/x", QoS::AtMostOnce), ReasonCode::GRANTED_QOS_0);
    assert_eq!(anybody.subscribe("home/x", QoS::AtMostOnce), ReasonCode::NOT_AUTHORIZED);
    assert_eq!(alice.subscribe("public/x", QoS::AtMostOnce), ReasonCode::GRANTED_QOS_0);
    let by_name = certs.client_config(Some(&certs.client));
    Hello::v5("gate-7").connect_tls(at(&addresses, 8883), &by_name).disconnect();
}

/// A bridge of either, before and after: what `local` is published under here arrives as `remote` there.
#[test]
fn a_bridge_carries_what_it_carried_under_the_names_that_it_gave() {
    let mosquitto = "allow_anonymous true\nlistener @here@ 127.0.0.1\nconnection hub\naddress 127.0.0.1:@there@\n\
                     topic a/# out 1 plant_ works/7/\ntopic orders in 1 plant/ \"\"\n";
    let vernemq = "allow_anonymous = on\nplugins.vmq_acl = off\nplugins.vmq_passwd = off\nlistener.tcp.here = 127.0.0.1:@here@\n\
                   plugins.vmq_bridge = on\nvmq_bridge.tcp.hub = 127.0.0.1:@there@\n\
                   vmq_bridge.tcp.hub.topic.1 = a/* out 1 plant works/7\nvmq_bridge.tcp.hub.topic.2 = orders in 1 plant $empty\n";
    for (origin, theirs, local) in [("mosquitto", mosquitto, "plant_a/x"), ("vernemq", vernemq, "plant/a/x")] {
        let hub = Broker::start("");
        let here = Port::take();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("their.conf");
        let theirs = theirs.replace("@here@", &here.number().to_string());
        fs::write(&file, theirs.replace("@there@", &hub.address().port().to_string())).unwrap();
        let imported = run_viaduct(&["import", origin, file.to_str().unwrap()], "");
        assert_eq!(imported.code, Some(0), "{imported:?}");
        let address = here.address();
        drop(here);
        let broker = Broker::start(&imported.out);
        eventually("the bridge is up", || broker.metric("viaduct_bridge_up", &[("bridge", "hub")]) == 1.0);

        let mut there = Hello::v5("there").connect(hub.address());
        assert_eq!(there.subscribe("works/#", QoS::AtLeastOnce), ReasonCode::GRANTED_QOS_1);
        let mut client = Hello::v5("here").connect(address);
        assert_eq!(client.subscribe("plant/orders", QoS::AtLeastOnce), ReasonCode::GRANTED_QOS_1);
        assert_eq!(client.publish(local, "out", QoS::AtLeastOnce), ReasonCode::SUCCESS, "{origin}");
        let message = there.message();
        assert_eq!((message.topic.as_str(), message.text()), ("works/7/a/x", "out"), "{origin}");
        assert_eq!(there.publish("orders", "in", QoS::AtLeastOnce), ReasonCode::SUCCESS, "{origin}");
        assert_eq!(client.message().text(), "in", "{origin}");
    }
}

/// The example that Debian installs, and the configuration that it runs with.
const DEBIAN: [&str; 2] = ["/usr/share/doc/mosquitto/examples/mosquitto.conf", "/etc/mosquitto/mosquitto.conf"];

#[test]
fn what_debian_ships_with_mosquitto_moves_in_and_serves() {
    for file in DEBIAN {
        let Some(file) = check_tool("mosquitto's files", Path::new(file).is_file().then(|| PathBuf::from(file))) else {
            return;
        };
        let imported = run_viaduct(&["import", "mosquitto", file.to_str().unwrap()], "");
        assert_eq!(imported.code, Some(0), "{imported:?}");
        let text = imported.out.replace("127.0.0.1:1883", "127.0.0.1:@port@");
        assert!(text.contains("@port@"), "local only: {text}");
        let broker = Broker::start(&text);
        Hello::v311("c").connect(broker.address()).disconnect();
    }
}

/// Every option that Debian's example shows, `#name` or `#name value`, is on our page.
#[test]
fn every_option_of_debians_example_is_in_the_matrix() {
    let file = Path::new(DEBIAN[0]);
    let Some(file) = check_tool("mosquitto's files", file.is_file().then(|| file.to_owned())) else { return };
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/moving-in.md")).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let shown = text.lines().filter_map(|line| line.strip_prefix('#')?.split(' ').next());
    let names: Vec<&str> =
        shown.filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect();
    assert!(names.len() > 70, "{names:?}");
    let missing: Vec<&&str> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn on_standard_output_it_is_a_configuration_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.conf");
    fs::write(&file, "allow_anonymous true\nlistener 1883 127.0.0.1\nmax_inflight_bytes 9\n").unwrap();
    let finished = run_viaduct(&["import", "mosquitto", file.to_str().unwrap()], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.err.contains("m.conf:3: max_inflight_bytes:"), "{}", finished.err);
    let moved = folder.path().join("b.toml");
    fs::write(&moved, &finished.out).unwrap();
    let checked = run_viaduct(&["check-config", moved.to_str().unwrap()], "");
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn what_can_not_be_read_is_said_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("v.conf"), "listener.tcp.a = nowhere\nnonsense\n").unwrap();
    let output = path("b.toml");
    let finished = run_viaduct(&["import", "vernemq", &path("v.conf"), "--output", &output], "");
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.err.contains("v.conf:1:") && finished.err.contains("v.conf:2:"), "{}", finished.err);
    assert!(finished.out.is_empty() && !Path::new(&output).exists());
    for arguments in [["import", "vernemq", &path("none.conf")], ["import", "emqx", &path("v.conf")]] {
        assert_eq!(run_viaduct(&arguments, "").code, Some(2));
    }
}

#[test]
fn nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("m.conf"), "listener 1883 127.0.0.1\n").unwrap();
    for taken in ["b.passwd", "b.toml"] {
        fs::write(path(taken), "mine").unwrap();
        let finished = run_viaduct(&["import", "mosquitto", &path("m.conf"), "--output", &path("b.toml")], "");
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.err.contains(taken), "{}", finished.err);
        assert_eq!(fs::read_to_string(path(taken)).unwrap(), "mine");
        fs::remove_file(path(taken)).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "and nothing else either");
    }
}

#[test]
fn what_has_passwords_in_it_is_for_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("m.conf"), "connection a\naddress b\nusername u\npassword p\ntopic x\n").unwrap();
    let finished = run_viaduct(&["import", "mosquitto", &path("m.conf"), "--output", &path("b.toml")], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(fs::metadata(path("b.toml")).unwrap().permissions().mode() & 0o777, 0o600);
}
