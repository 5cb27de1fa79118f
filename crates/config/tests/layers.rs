//! The environment and the command line win over the file, and say so when they are wrong.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use viaduct_codec::Level;
use viaduct_config::{Config, Errors, Place, Source, SourceFile, load};

const FILE: &str = r##"
[node]
id = "from-file"
[[listener]]
name = "one"
[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "a/#"
"##;

fn with(environment: &[(&str, &str)], overrides: &[&str]) -> Result<Config, Errors> {
    load(Source {
        file: Some(SourceFile { name: "broker.toml".into(), text: FILE.into() }),
        environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        overrides: overrides.iter().map(|text| (*text).into()).collect(),
        hostname: "machine".into(),
        ..Source::default()
    })
    .map(|loaded| loaded.config)
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    assert_eq!(with(&[], &[]).unwrap().node.id, "from-file");
    assert_eq!(with(&[("VIADUCT__NODE__ID", "env")], &[]).unwrap().node.id, "env");
    assert_eq!(with(&[("VIADUCT__NODE__ID", "env")], &["node.id=set"]).unwrap().node.id, "set");
    assert_eq!(with(&[], &["node.id=one", "node.id=two"]).unwrap().node.id, "two");
}

#[test]
fn other_variables_are_not_looked_at() {
    let config = with(&[("VIADUCT_CONFIG", "x"), ("PATH", "y"), ("VIADUCTNODE__ID", "z")], &[]).unwrap();
    assert_eq!(config.node.id, "from-file");
}

#[test]
fn text_becomes_what_the_key_asks_for() {
    let overrides = [
        "node.workers=3",
        "limits.max_packet_size=2048",
        "session.suppress_will_on_takeover=true",
        "limits.connect_timeout=250ms",
        "listener.0.allowed_protocol_versions=4, 3",
        "bridge.0.url=mqtt://a, mqtts://b",
        "bridge.0.keepalive=30",
        "bridge.0.protocol_version=5",
        "bridge.0.tls.alpn=[\"x\", \"y\"]",
        "node.id=7",
    ];
    let config = with(&[], &overrides).unwrap();
    assert_eq!(config.node.workers, 3);
    assert_eq!(config.limits.max_packet_size, 2048);
    assert!(config.session.suppress_will_on_takeover);
    assert_eq!(config.limits.connect_timeout.as_millis(), 250);
    assert_eq!(config.listeners[0].allowed_protocol_versions, [Level::V31, Level::V311]);
    assert_eq!(config.bridges[0].urls.len(), 2);
    assert_eq!(config.bridges[0].keepalive, 30);
    assert_eq!(config.bridges[0].tls.alpn, ["x", "y"]);
    assert_eq!(config.node.id, "7");
}

#[test]
fn an_entry_of_a_list_is_found_by_position_or_by_name() {
    for key in ["bridge.0.enabled", "bridge.hub.enabled", "bridge[0].enabled", "bridge.HUB.enabled"] {
        assert!(!with(&[], &[&format!("{key}=false")]).unwrap().bridges[0].enabled, "{key}");
    }
    let config = with(&[("VIADUCT__BRIDGE__HUB__TOPIC__0__FILTER", "b/#")], &[]).unwrap();
    assert_eq!(config.bridges[0].topics[0].filter, "b/#");
    assert_eq!(config.bridges[0].name, "hub");
}

#[test]
fn the_position_after_the_last_makes_a_new_entry() {
    let config = with(&[], &["listener.1.bind=127.0.0.1:0", "listener.2.bind=127.0.0.1:0"]).unwrap();
    let names: Vec<&str> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["one", "listener-2", "listener-3"]);
}

#[test]
fn without_a_file_an_override_changes_the_default_listener() {
    let environment = vec![
        ("VIADUCT__LISTENER__0__BIND".into(), ":1999".into()),
        ("VIADUCT__LISTENER__0__ALLOW_ANONYMOUS".into(), "true".into()),
    ];
    let loaded = load(Source { environment, ..Source::default() }).unwrap();
    assert_eq!(loaded.config.listeners.len(), 1);
    assert_eq!(loaded.config.listeners[0].name, "default");
    assert_eq!(loaded.config.listeners[0].bind, "0.0.0.0:1999".parse().unwrap());
}

#[test]
fn a_wrong_override_is_placed_where_it_was_written() {
    let errors =
        with(&[("VIADUCT__NODE__WORKERS", "many")], &["node.idd=x", "bridge.9.url=x", "nonsense"]).unwrap_err();
    let places: Vec<Place> = errors.errors.iter().map(|error| error.place.clone()).collect();
    assert_eq!(
        places,
        [
            Place::Environment("VIADUCT__NODE__WORKERS".into()),
            Place::CommandLine("bridge.9.url".into()),
            Place::CommandLine("node.idd".into()),
            Place::CommandLine("nonsense".into()),
        ]
    );
    let expected = "\
error: `node.workers`: expected an integer from 0 to 1024, found the string \"many\"
 --> environment variable VIADUCT__NODE__WORKERS

error: `bridge.9.url`: unknown key
 --> command line: --set bridge.9.url
  = help: an entry is its position from 0 or its name; `bridge` has 1 so far

error: `node.idd`: unknown key
 --> command line: --set node.idd
  = help: did you mean `id`?

error: `nonsense`: expected KEY=VALUE, found \"nonsense\"
 --> command line: --set nonsense
  = help: such as --set node.id=gateway-1

4 errors in the configuration";
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn the_host_name_is_the_name_of_the_node_when_it_can_be_one() {
    for (hostname, id) in [("gw-1.example", "gw-1.example"), ("", "viaduct"), ("a/b", "viaduct"), ("a\n", "viaduct")] {
        let source = Source { hostname: hostname.into(), ..Source::default() };
        assert_eq!(load(source).unwrap().config.node.id, id);
    }
}

#[test]
fn a_variable_is_named_as_it_was_written() {
    for name in ["VIADUCT__NODE__WORKERS", "Viaduct__node.workers", "VIADUCT__NODE.WORKERS"] {
        let errors = with(&[(name, "many")], &[]).unwrap_err();
        assert_eq!(errors.errors[0].place, Place::Environment(name.into()));
    }
}

#[test]
fn of_two_spellings_of_a_variable_the_later_wins_every_time() {
    // Chance would get all of these right once in 2^40 times.
    for _ in 0..20 {
        let config = with(&[("VIADUCT__NODE__ID", "one"), ("viaduct__node__id", "two")], &[]).unwrap();
        assert_eq!(config.node.id, "two");
        let config = with(&[("VIADUCT__NODE.ID", "one"), ("VIADUCT__NODE__ID", "two")], &[]).unwrap();
        assert_eq!(config.node.id, "two");
    }
}
