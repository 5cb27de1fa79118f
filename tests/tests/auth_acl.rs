//! Who may log in, and who may do what: users, anonymous clients, and the rules of the ACL file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use viaduct_tests::codec::{QoS, ReasonCode, Version};
use viaduct_tests::{Broker, Client, Entry, Hello, Raw, Signal, WillMessage, bytes, check_tool, run, run_viaduct};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Adds a user by our own command.
fn add_user(folder: &Path, user: &str, password: &str, more: &[&str]) {
    let file = folder.join("passwd");
    let arguments = [&["passwd", file.to_str().unwrap(), user], more].concat();
    let finished = run_viaduct(&arguments, &format!("{password}\n"));
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

/// What mosquitto_passwd made of `alice:wonderland` and `bob:builder`. Its hundred rounds are quick to check in a build
/// without optimisation, where ours take a second; ours have tests of their own.
const PASSWORDS: &str = "\
alice:$7$101$c2t1Dxu8ccXnDAhT$SEkZ7ZB0Yj4g51erULk/8dIWPL/4095NtXcHRrOCqjb89rlDCEYpc3QXQW1hZUoBxOQoFv8bJuE95yMRgSxvlw==
bob:$7$101$5p1tdB1cbIn8lu3f$fn16FkPTVdrZ1MOxcvmpnxPBRBXeiSzeqJ25g2r1ZH+8FwH9BV9B/jafKz8+l5WLNMWpUdSbL6Dp40rbRDkyPA==
";

fn users() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("passwd"), PASSWORDS).unwrap();
    folder
}

const WITH_USERS: &str =
    "[auth]\npassword_file = \"@dir@/passwd\"\n[[listener]]\nbind = \"127.0.0.1:@port@\"\nallow_anonymous = false\n";

#[test]
fn users_log_in_with_their_password_and_nobody_else_does() {
    let broker = Broker::start_in(users(), WITH_USERS);
    for version in VERSIONS {
        let hello = |user: &str, password: &str| Hello::of(version, "client").login(user, password);
        hello("alice", "wonderland").connect(broker.address()).disconnect();
        for (user, password) in [("alice", "builder"), ("alice", ""), ("carol", "x"), ("", "")] {
            let reason = hello(user, password).try_connect(broker.address()).unwrap_err();
            assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD, "{version} {user:?} {password:?}");
        }
        let mut without = Hello::of(version, "client");
        without.username = Some("alice".to_owned());
        let reason = without.try_connect(broker.address()).unwrap_err();
        assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD, "{version}, no password");
        let reason = Hello::of(version, "client").try_connect(broker.address()).unwrap_err();
        assert_eq!(reason, ReasonCode::NOT_AUTHORIZED, "{version}, anonymous");
    }
    let logins = |result| broker.metric("viaduct_auth_total", &[("result", result)]);
    assert_eq!((logins("password"), logins("bad_password"), logins("anonymous_refused")), (3.0, 15.0, 3.0));
    assert!(!broker.log().contains("wonderland") && !broker.log().contains("builder"), "no password is logged");
}

#[test]
fn a_refused_login_is_exact_bytes_and_what_follows_it_is_ignored() {
    let broker = Broker::start_in(users(), &format!("{WITH_USERS}[sys]\ninterval = \"0s\"\n"));
    let connect = r#"10 16 00 04 "MQTT" 04 c2 00 3c 00 01 "a" 00 05 "alice" 00 00"#;
    let retained = r#"31 04 00 01 "t" "x""#;
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&bytes(&format!("{connect} {retained}"))).expect("20 02 00 04").expect_close();
    let mut raw = Raw::connect(broker.address());
    raw.send(r#"10 0d 00 04 "MQTT" 04 02 00 3c 00 01 "a""#).expect("20 02 00 05").expect_close();
    assert_eq!(broker.metric("viaduct_retained_messages", &[]), 0.0);
}

#[test]
fn passwords_that_our_own_command_set_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    add_user(folder.path(), "alice", "first thought", &["--pbkdf2"]);
    add_user(folder.path(), "bob", "builder", &["--pbkdf2"]);
    add_user(folder.path(), "alice", "wonderland", &[]);
    let file = std::fs::read_to_string(folder.path().join("passwd")).unwrap();
    assert_eq!(file.lines().count(), 2, "{file}");
    assert!(file.contains("alice:$argon2id$") && file.contains("bob:$7$"), "{file}");
    let broker = Broker::start_in(folder, &format!("{WITH_USERS}[limits]\nconnect_timeout = \"1m\"\n"));
    Hello::v5("client").login("alice", "wonderland").connect(broker.address()).disconnect();
    Hello::v5("client").login("bob", "builder").connect(broker.address()).disconnect();
    let reason = Hello::v5("client").login("alice", "first thought").try_connect(broker.address()).unwrap_err();
    assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
}

#[test]
fn a_file_made_by_mosquitto_passwd_is_read_as_it_is() {
    let program = Path::new("/usr/bin/mosquitto_passwd");
    let Some(program) = check_tool("mosquitto_passwd", program.is_file().then(|| program.to_owned())) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    std::fs::write(&file, "alice:wonderland\nbob:a long password with spaces\n").unwrap();
    assert_eq!(run(Command::new(&program).arg("-U").arg(&file), "").code, Some(0));
    let added = run(Command::new(&program).arg("-b").arg(&file).args(["carol", "käse"]), "");
    assert_eq!(added.code, Some(0), "{added:?}");
    let broker = Broker::start_in(folder, WITH_USERS);
    for (user, password) in [("alice", "wonderland"), ("bob", "a long password with spaces"), ("carol", "käse")] {
        Hello::v311("client").login(user, password).connect(broker.address()).disconnect();
        let reason = Hello::v311("client").login(user, "wrong").try_connect(broker.address()).unwrap_err();
        assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    }
}

#[test]
fn anonymous_clients_are_let_in_on_loopback_only_unless_said_otherwise() {
    let config = "[auth]\npassword_file = \"@dir@/passwd\"\n\
                  [[listener]]\nname = \"loopback\"\nbind = \"127.0.0.1:@port.loopback@\"\n\
                  [[listener]]\nname = \"everywhere\"\nbind = \"0.0.0.0:@port.everywhere@\"\n\
                  [[listener]]\nname = \"open\"\nbind = \"0.0.0.0:@port.open@\"\nallow_anonymous = true\n";
    let broker = Broker::start_in(users(), config);
    Hello::v311("a").connect(broker.port("loopback")).disconnect();
    let reason = Hello::v311("a").try_connect(broker.port("everywhere")).unwrap_err();
    assert_eq!(reason, ReasonCode::NOT_AUTHORIZED);
    Hello::v311("a").login("bob", "builder").connect(broker.port("everywhere")).disconnect();
    Hello::v311("a").connect(broker.port("open")).disconnect();
    // Who says a name is not anonymous, also where that is allowed.
    let reason = Hello::v311("a").login("bob", "wrong").try_connect(broker.port("loopback")).unwrap_err();
    assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
}

const ACL: &str = "\
# anonymous
topic read public/#
topic read greeting with space

user alice
topic readwrite rooms/#
topic deny rooms/vault/#
topic write drop/box

user bob
topic read rooms/+/temperature

pattern readwrite home/%u/#
pattern read id/%c/in
pattern write id/%c/out
";

fn rules() -> Broker {
    let folder = users();
    std::fs::write(folder.path().join("acl"), ACL).unwrap();
    let config = "[auth]\npassword_file = \"@dir@/passwd\"\nacl_file = \"@dir@/acl\"\n[sys]\ninterval = \"0s\"\n";
    Broker::start_in(folder, config)
}

fn alice(broker: &Broker, version: Version, id: &str) -> Client {
    Hello::of(version, id).login("alice", "wonderland").connect(broker.address())
}

fn bob(broker: &Broker) -> Client {
    Hello::v5("bob's").login("bob", "builder").connect(broker.address())
}

/// Proves: u5:3.3.4-b
#[test]
fn publishing_is_allowed_or_not_by_the_rules() {
    let broker = rules();
    let cases = [
        ("rooms/1/temperature", true),
        ("rooms", true),
        ("rooms/vault/door", false),
        ("rooms/vault", false),
        ("drop/box", true),
        ("drop/box/x", false),
        ("public/x", false),
        ("home/alice/x", true),
        ("home/bob/x", false),
        ("id/alices/out", true),
        ("id/alices/in", false),
        ("id/other/out", false),
    ];
    let mut client = alice(&broker, Version::V5, "alices");
    for (topic, allowed) in cases {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let reason = client.publish(topic, "x", qos);
            assert_eq!(reason == ReasonCode::NOT_AUTHORIZED, !allowed, "{topic}: {reason}");
            assert_eq!(reason.is_error(), !allowed, "{topic}: {reason}");
        }
    }
    // QoS 0 has no answer; it is dropped and counted.
    let dropped = broker.metric("viaduct_messages_dropped_total", &[("reason", "not_authorized")]);
    client.publish("public/x", "x", QoS::AtMostOnce);
    client.ping();
    broker
        .wait_for_metric("viaduct_messages_dropped_total", &[("reason", "not_authorized")], |now| now == dropped + 1.0);
}

/// Proves: v4:3.3.5-2, trap:84
#[test]
fn what_may_not_be_published_reaches_nobody_and_3_x_is_acknowledged() {
    let broker = rules();
    let mut watcher = bob(&broker);
    watcher.subscribe("home/bob/#", QoS::AtLeastOnce);
    for version in [Version::V31, Version::V311] {
        let mut client = alice(&broker, version, "alices");
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(client.publish("home/bob/x", "x", qos), ReasonCode::SUCCESS, "{version}");
        }
    }
    watcher.publish("home/bob/end", "", QoS::AtLeastOnce);
    assert_eq!(watcher.message().topic, "home/bob/end");
}

#[test]
fn subscribing_is_answered_in_the_words_of_the_version() {
    let broker = rules();
    let entries = ["rooms/#", "nothing/#", "id/five/in"].map(|filter| Entry::new(filter, QoS::AtLeastOnce));
    let denied = ReasonCode::NOT_AUTHORIZED;
    let mut five = alice(&broker, Version::V5, "five");
    assert_eq!(five.subscribe_all(&entries, None), [ReasonCode(1), denied, ReasonCode(1)]);
    let mut four = alice(&broker, Version::V311, "four");
    assert_eq!(four.subscribe_all(&entries, None), [ReasonCode(1), ReasonCode(0x80), ReasonCode(0x80)]);
    // 3.1 has no word for it: it looks granted, and nothing comes.
    let mut three = alice(&broker, Version::V31, "three");
    assert_eq!(three.subscribe_all(&entries, None), [ReasonCode(1), ReasonCode(1), ReasonCode(1)]);
    let mut other = alice(&broker, Version::V5, "other");
    other.publish("rooms/1", "x", QoS::AtLeastOnce);
    assert_eq!(three.message().topic, "rooms/1");
}

#[test]
fn what_may_not_be_read_is_not_delivered_through_a_wider_filter() {
    let broker = rules();
    let mut client = bob(&broker);
    client.subscribe("rooms/#", QoS::AtLeastOnce);
    client.subscribe("home/bob/#", QoS::AtLeastOnce);
    let mut publisher = alice(&broker, Version::V5, "alices");
    publisher.publish("rooms/1/humidity", "x", QoS::AtLeastOnce);
    publisher.publish("rooms/1/temperature", "x", QoS::AtLeastOnce);
    client.publish("home/bob/end", "", QoS::AtLeastOnce);
    let topics: Vec<String> = client.messages(2).into_iter().map(|message| message.topic).collect();
    assert!(!topics.contains(&"rooms/1/humidity".to_owned()), "{topics:?}");
}

#[test]
fn anonymous_clients_have_the_lines_before_the_first_user() {
    let broker = rules();
    let mut client = Hello::v5("nobody").connect(broker.address());
    assert!(!client.subscribe("public/#", QoS::AtMostOnce).is_error());
    assert!(!client.subscribe("greeting with space", QoS::AtMostOnce).is_error());
    assert_eq!(client.subscribe("rooms/#", QoS::AtMostOnce), ReasonCode::NOT_AUTHORIZED);
    assert!(!client.subscribe("id/nobody/in", QoS::AtMostOnce).is_error());
    assert_eq!(client.subscribe("home/x", QoS::AtMostOnce), ReasonCode::NOT_AUTHORIZED);
    assert_eq!(client.publish("public/x", "x", QoS::AtLeastOnce), ReasonCode::NOT_AUTHORIZED);
}

#[test]
fn a_name_with_wildcards_gets_no_rights_by_pattern() {
    let broker = rules();
    let mut client = Hello::v5("+").connect(broker.address());
    assert!(client.subscribe("id/other/in", QoS::AtMostOnce).is_error());
    assert!(client.publish("id/other/out", "x", QoS::AtLeastOnce).is_error());
    let mut client = Hello::v5("#").connect(broker.address());
    assert!(client.subscribe("id/other/in", QoS::AtMostOnce).is_error());
}

#[test]
fn a_will_needs_the_right_to_publish() {
    let broker = rules();
    let mut watcher = bob(&broker);
    watcher.subscribe("home/bob/#", QoS::AtLeastOnce);
    let will = |topic: &str| WillMessage::new(topic, "gone");
    let hello = Hello::v311("alices").login("alice", "wonderland");
    if let Ok(client) = hello.clone().will(will("home/bob/forbidden")).try_connect(broker.address()) {
        client.break_off();
    }
    broker.wait_for_metric("viaduct_connections", &[], |count| count == 1.0);
    let bobs = Hello::v5("bob 2").login("bob", "builder").will(will("home/bob/allowed"));
    bobs.connect(broker.address()).break_off();
    assert_eq!(watcher.message().topic, "home/bob/allowed");
}

#[test]
fn new_rules_hold_for_who_is_connected_after_a_reload() {
    let broker = rules();
    let mut client = alice(&broker, Version::V5, "alices");
    client.subscribe("rooms/#", QoS::AtLeastOnce);
    client.publish("rooms/1", "before", QoS::AtLeastOnce);
    assert_eq!(client.message().text(), "before");
    std::fs::write(broker.folder().join("acl"), "user alice\ntopic write rooms/#\ntopic readwrite end\n").unwrap();
    broker.signal(Signal::Hup);
    broker.wait_for_log(&["was reloaded"]);
    assert!(!client.publish("rooms/1", "after", QoS::AtLeastOnce).is_error());
    client.subscribe("end", QoS::AtLeastOnce);
    client.publish("end", "", QoS::AtLeastOnce);
    assert_eq!(client.messages_before("end"), []);
    assert!(client.publish("home/alice/x", "x", QoS::AtLeastOnce).is_error());
}

#[test]
fn a_user_whose_password_no_longer_holds_is_closed_on_reload_and_the_others_stay() {
    let broker = Broker::start_in(users(), WITH_USERS);
    let mut alice = Hello::v5("alices").login("alice", "wonderland").connect(broker.address());
    let mut bob = Hello::v5("bobs").login("bob", "builder").connect(broker.address());
    let kept: String =
        PASSWORDS.lines().filter(|line| line.starts_with("alice")).map(|line| format!("{line}\n")).collect();
    std::fs::write(broker.folder().join("passwd"), kept).unwrap();
    broker.signal(Signal::Hup);
    assert_eq!(bob.expect_disconnect(), ReasonCode::NOT_AUTHORIZED);
    alice.ping();
    let reason = Hello::v5("bobs").login("bob", "builder").try_connect(broker.address()).unwrap_err();
    assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
}

#[test]
fn the_client_ids_of_our_own_bridges_are_refused_to_everybody() {
    let broker = Broker::start("");
    for version in VERSIONS {
        let reason = Hello::of(version, "$bridge/headquarters").try_connect(broker.address()).unwrap_err();
        assert_eq!(reason, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID, "{version}");
    }
}

#[test]
fn an_authentication_method_that_we_do_not_have_is_refused() {
    let broker = Broker::start("");
    let mut hello = Hello::v5("client");
    hello.auth_method = Some("SCRAM-SHA-1".to_owned());
    let reason = hello.try_connect(broker.address()).unwrap_err();
    assert!([ReasonCode::BAD_AUTHENTICATION_METHOD, ReasonCode::NOT_AUTHORIZED].contains(&reason), "{reason}");
}
