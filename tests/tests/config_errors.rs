//! What is wrong with a configuration, a file or a port is said before anything starts, with its place.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use viaduct_tests::{Broker, Certs, Finished, Port, run_viaduct, run_viaduct_on};

fn write(folder: &Path, config: &str) -> String {
    let path = folder.join("broker.toml");
    fs::write(&path, config).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Starts it with ports that would be free, so that only what the test broke is wrong.
fn start(config: &str, folder: &Path) -> (Finished, Port) {
    let (port, admin) = (Port::take(), Port::take());
    let text = config.replace("@port@", &port.number().to_string()).replace("@dir@", folder.to_str().unwrap());
    let path = write(folder, &text);
    let data = format!("node.data_dir={}", folder.join("data").display());
    let admin = format!("admin.bind=127.0.0.1:{}", admin.number());
    (run_viaduct(&["run", "--config", &path, "--set", &data, "--set", &admin], ""), port)
}

#[test]
fn every_error_is_told_at_once_with_its_place_and_nothing_is_started() {
    let config = "\
[node]
wokers = 2

[[listener]]
bind = \"127.0.0.1:@port@\"
allowed_protocol_versions = [3, 6]

[limits]
connect_timeout = \"5 parsecs\"
max_packet_size = true
";
    let folder = tempfile::tempdir().unwrap();
    let (finished, port) = start(config, folder.path());
    assert_eq!(finished.code, Some(2), "{finished:?}");
    for words in [
        ["broker.toml:2:1", "workers"],
        ["broker.toml:6:29", "131"],
        ["broker.toml:9:19", "5 parsecs"],
        ["broker.toml:10:19", "true"],
    ] {
        for word in words {
            assert!(finished.err.contains(word), "{word:?} is not in:\n{}", finished.err);
        }
    }
    assert!(finished.err.contains("4 errors"), "{}", finished.err);
    assert!(TcpStream::connect(port.address()).is_err(), "nothing listens");
    assert!(!folder.path().join("data").exists(), "and nothing was written");
}

#[test]
fn check_config_says_the_same_without_starting() {
    let finished = run_viaduct_on("[limits]\nconect_timeout = \"5s\"\n", &["check-config"]);
    assert_eq!(finished.code, Some(2));
    assert!(finished.err.contains("connect_timeout") && finished.err.contains(":2:1"), "{}", finished.err);
    let finished = run_viaduct_on("[limits]\nconnect_timeout = \"5s\"\n", &["check-config"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn the_sample_configuration_is_good() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("broker.toml");
    let finished = run_viaduct(&["check-config", sample.to_str().unwrap()], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let finished = run_viaduct(&["run", "--config", "/nowhere/broker.toml"], "");
    assert_eq!(finished.code, Some(2));
    assert!(finished.err.contains("/nowhere/broker.toml"), "{}", finished.err);
}

#[test]
fn errors_on_the_command_line_and_in_the_environment_are_placed_there() {
    let finished = run_viaduct(&["run", "--set", "limits.receive_maximum=0", "--set", "nod.id=x"], "");
    assert_eq!(finished.code, Some(2));
    for word in ["--set limits.receive_maximum", "--set nod.id"] {
        assert!(finished.err.contains(word), "{word:?} is not in:\n{}", finished.err);
    }
    let mut command = std::process::Command::new(viaduct_tests::viaduct());
    let finished = viaduct_tests::run(command.arg("check-config").env("VIADUCT__LIMITS__MAX_PACKET_SIZE", "no"), "");
    assert_eq!(finished.code, Some(2));
    assert!(finished.err.contains("VIADUCT__LIMITS__MAX_PACKET_SIZE"), "{}", finished.err);
}

#[test]
fn the_command_line_wins_over_the_environment_and_both_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("VIADUCT__LIMITS__RECEIVE_MAXIMUM", "7"), ("VIADUCT__LIMITS__TOPIC_ALIAS_MAXIMUM", "9")];
    let broker =
        Broker::start_with(folder, "[limits]\nreceive_maximum = 5\nmax_packet_size = \"2KiB\"\n", &environment);
    let client = viaduct_tests::Hello::v5("client").connect(broker.address());
    assert_eq!(client.welcome.receive_maximum, Some(7));
    assert_eq!(client.welcome.topic_alias_maximum, Some(9));
    assert_eq!(client.welcome.maximum_packet_size, Some(2048));
}

#[test]
fn a_port_in_use_says_which_and_by_what_setting() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::take();
    let _taken = TcpListener::bind(port.address()).unwrap();
    let config = format!(
        "[[listener]]\nbind = \"127.0.0.1:@port@\"\n[[listener]]\nname = \"field\"\nbind = \"{}\"\n",
        port.address()
    );
    let (finished, _) = start(&config, folder.path());
    assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
    for word in [port.address().to_string().as_str(), "in use", "listener[1].bind", "field"] {
        assert!(finished.err.contains(word), "{word:?} is not in:\n{}", finished.err);
    }
    let port = port.address();
    let set = format!("admin.bind={port}");
    let finished = run_viaduct(&["run", "--set", "listener.0.bind=127.0.0.1:0", "--set", &set], "");
    assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
    for word in [port.to_string().as_str(), "in use", "admin.bind"] {
        assert!(finished.err.contains(word), "{word:?} is not in:\n{}", finished.err);
    }
}

#[test]
fn a_certificate_or_key_that_can_not_be_used_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty.pem"), "").unwrap();
    fs::write(path("text.pem"), "hello\n").unwrap();
    fs::create_dir(path("folder.pem")).unwrap();
    let root = run_as_root();
    fs::write(path("secret.key"), fs::read(&certs.server.key).unwrap()).unwrap();
    fs::set_permissions(path("secret.key"), fs::Permissions::from_mode(0o000)).unwrap();
    let cases = [
        ("missing.pem", "server.key", "missing.pem", "No such file", "cert_file"),
        ("server.pem", "missing.key", "missing.key", "No such file", "key_file"),
        ("empty.pem", "server.key", "empty.pem", "PEM", "cert_file"),
        ("text.pem", "server.key", "text.pem", "PEM", "cert_file"),
        ("folder.pem", "server.key", "folder.pem", "directory", "cert_file"),
        ("server.key", "server.key", "server.key", "no certificate", "cert_file"),
        ("server.pem", "server.pem", "server.pem", "no private key", "key_file"),
        ("server.pem", "other.key", "other.key", "", "key_file"),
        ("server.pem", "secret.key", "secret.key", "ermission", "key_file"),
    ];
    for (cert, key, file, why, setting) in cases {
        if key == "secret.key" && root {
            continue; // root reads everything
        }
        let config = format!(
            "[[listener]]\nbind = \"127.0.0.1:@port@\"\n\
             tls = {{ cert_file = \"@dir@/{cert}\", key_file = \"@dir@/{key}\" }}\n"
        );
        let (finished, port) = start(&config, folder.path());
        assert!(matches!(finished.code, Some(1 | 2)), "{cert} {key}: {finished:?}");
        for word in [path(file).to_str().unwrap(), why, setting] {
            assert!(finished.err.contains(word), "{cert} {key}: {word:?} is not in:\n{}", finished.err);
        }
        assert!(TcpStream::connect(port.address()).is_err(), "nothing listens");
    }
}

/// Whether permissions mean anything to this process.
fn run_as_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

#[test]
fn users_and_rules_that_can_not_be_used_are_named_with_the_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acl"), "topic read a/b\ntopic raed a/b\n").unwrap();
    fs::write(folder.path().join("passwd"), "alice:$7$nonsense\n").unwrap();
    for (setting, file, place) in
        [("acl_file", "acl", "acl:2"), ("password_file", "passwd", "passwd:1"), ("acl_file", "missing", "missing")]
    {
        let (finished, _) = start(&format!("[auth]\n{setting} = \"@dir@/{file}\"\n"), folder.path());
        assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
        for word in [place, setting] {
            assert!(finished.err.contains(word), "{word:?} is not in:\n{}", finished.err);
        }
    }
}

#[test]
fn what_is_reserved_is_an_error_that_says_not_yet() {
    let folder = tempfile::tempdir().unwrap();
    let (finished, _) = start("[[listener]]\nbind = \"127.0.0.1:@port@\"\nproxy_protocol = true\n", folder.path());
    assert_eq!(finished.code, Some(2));
    assert!(finished.err.contains("not yet"), "{}", finished.err);
}

#[test]
fn words_that_the_command_line_does_not_know_are_refused() {
    for arguments in [&["rnu"][..], &["run", "--confg", "x"], &["passwd"], &["bridge", "check"]] {
        let finished = run_viaduct(arguments, "");
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(finished.err.contains("Usage"), "{arguments:?}: {finished:?}");
    }
    let finished = run_viaduct(&["--version"], "");
    assert_eq!(finished.code, Some(0));
    assert!(finished.out.contains("viaduct"), "{finished:?}");
}

#[test]
fn the_same_broker_started_twice_says_that_the_store_is_held() {
    let broker = Broker::start("[[listener]]\nbind = \"127.0.0.1:@port@\"\n");
    let config = broker.config_path();
    let data = format!("node.data_dir={}", broker.folder().join("data").display());
    let admin = format!("admin.bind={}", broker.admin());
    let finished = run_viaduct(&["run", "--config", config.to_str().unwrap(), "--set", &data, "--set", &admin], "");
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.err.contains("the store is held by another broker (process "), "{}", finished.err);
}
