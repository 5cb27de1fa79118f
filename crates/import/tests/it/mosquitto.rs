//! mosquitto's files.

use std::time::Duration;

use viaduct_config::{BridgeVersion, Direction, Transport, UsernameFrom, Verify};
use viaduct_import::Origin;

use crate::{Moved, import};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----";
const USERS: &str = "# none\n";

fn moved(text: &str) -> Moved {
    with(text, &[])
}

fn with(text: &str, files: &[(&str, &str)]) -> Moved {
    let mut all =
        vec![("main.conf", text), ("users", USERS), ("acl", "topic read a\n"), ("c.pem", PEM), ("k.pem", PEM)];
    all.extend(files);
    Moved::of(Origin::Mosquitto, &all)
}

#[test]
fn a_protocol_name_that_tls_cannot_carry_is_a_mistake() {
    let name = "x".repeat(256);
    let text = format!("connection b\naddress hub:8883\ntopic # out\nbridge_cafile ca.pem\nbridge_alpn {name}\n");
    let mistakes = import(Origin::Mosquitto, &[("main.conf", &text), ("ca.pem", "")]).unwrap_err();
    assert!(mistakes.iter().any(|mistake| mistake.what.contains("255 bytes")), "{mistakes:?}");
}

#[test]
fn without_a_listener_it_is_local_only_and_open() {
    let moved = moved("");
    let [listener] = moved.config.listeners.as_slice() else { panic!("{:?}", moved.config.listeners) };
    assert_eq!((listener.bind.to_string().as_str(), listener.allow_anonymous), ("127.0.0.1:1883", true));
    assert!(moved.imported.files.is_empty());
}

#[test]
fn a_listener_without_a_word_is_shut_and_on_every_address() {
    let moved = moved("listener 1883\n");
    let [listener] = moved.config.listeners.as_slice() else { panic!("{:?}", moved.config.listeners) };
    assert_eq!((listener.bind.to_string().as_str(), listener.allow_anonymous), ("0.0.0.0:1883", false));
    assert!(moved.file("out/broker.passwd").lines().all(|line| line.starts_with('#')), "nobody is let in");
    assert!(moved.notes(1).iter().any(|note| note.why.contains("IPv4")), "{:?}", moved.imported.notes);
    assert!(moved.notes(1).iter().any(|note| note.why.contains("password")), "{:?}", moved.imported.notes);
}

#[test]
fn lines_before_the_first_listener_are_the_default_listener() {
    let moved = moved("bind_address ::1\nport 1999\nmax_connections 5\npassword_file users\nlistener 2000 127.0.0.1\n");
    let binds: Vec<String> = moved.config.listeners.iter().map(|listener| listener.bind.to_string()).collect();
    assert_eq!(binds, ["[::1]:1999", "127.0.0.1:2000"]);
    assert_eq!(moved.config.listeners[0].max_connections, Some(5));
    assert_eq!(moved.config.listeners[1].max_connections, None);
}

#[test]
fn settings_of_a_listener_may_say_who_comes_in() {
    let text = "per_listener_settings true\nlistener 1 127.0.0.1\nallow_anonymous true\nlistener 2 127.0.0.1\n\
                password_file users\nacl_file acl\nlistener 3 127.0.0.1\npassword_file more\nacl_file other\n";
    let digest = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    let more = format!("eve:$6$AA==${digest}\n");
    let moved = with(text, &[("more", &more), ("other", "topic read #\n")]);
    let anonymous: Vec<bool> = moved.config.listeners.iter().map(|listener| listener.allow_anonymous).collect();
    assert_eq!(anonymous, [true, false, false]);
    assert!(moved.file("out/broker.passwd").contains("eve:"));
    assert!(!moved.notes(8).is_empty(), "users of one listener may log in on the other: {:?}", moved.imported.notes);
    assert_eq!(moved.config.auth.acl_file.as_deref(), Some("acl".as_ref()));
    assert!(!moved.notes(9).is_empty(), "the rules of the other listener are not ours");
    assert!(!moved.notes(6).is_empty(), "and these hold on a listener that had none");
}

#[test]
fn tls_is_never_lost_silently() {
    let moved = with(
        "password_file users\nlistener 1 127.0.0.1\ncertfile c.pem\nkeyfile k.pem\ncafile c.pem\nrequire_certificate true\n\
         use_subject_as_username true\nlistener 2 127.0.0.1\npsk_hint x\nlistener 3 127.0.0.1\ncertfile c.pem\nkeyfile k.pem\n\
         require_certificate true\nlistener 4 127.0.0.1\ncafile c.pem\n",
        &[],
    );
    let ports: Vec<u16> = moved.config.listeners.iter().map(|listener| listener.bind.port()).collect();
    assert_eq!(ports, [1, 4], "2 has shared keys, 3 asks for certificates of nobody");
    let tls = moved.config.listeners[0].tls.as_ref().unwrap();
    assert!(tls.require_client_certificate);
    assert_eq!(tls.username_from, UsernameFrom::Subject);
    assert!(moved.config.listeners[1].tls.is_none(), "as in mosquitto, without a certificate");
    assert!(!moved.notes(9).is_empty() && !moved.notes(13).is_empty() && !moved.notes(15).is_empty());
    let lonely = import(Origin::Mosquitto, &[("main.conf", "listener 1\ncertfile c.pem\n")]).unwrap_err();
    assert_eq!(lonely[0].place.line, 2);
}

#[test]
fn what_a_plugin_decided_is_denied() {
    let moved = moved("listener 1 127.0.0.1\nplugin /dynsec.so\n");
    assert!(moved.file("out/broker.acl").lines().all(|line| line.starts_with('#')));
    assert_eq!(moved.config.auth.acl_file.as_deref(), Some("out/broker.acl".as_ref()));
}

#[test]
fn limits_without_a_limit_are_as_large_as_they_can_be() {
    let moved = moved(
        "max_inflight_messages 0\nmax_queued_messages 0\nmax_queued_bytes 0\nmax_packet_size 0\nmax_keepalive 0\n\
         sys_interval 0\npersistent_client_expiration never\nmemory_limit 0\n",
    );
    assert_eq!(moved.config.limits.max_packet_size, 268_435_460);
    assert_eq!(moved.config.limits.max_keepalive, None);
    assert_eq!(moved.config.limits.memory, None);
    assert_eq!(moved.config.sys.interval, None);
    assert_eq!(moved.config.session.max_queued_messages, 1_000_000_000);
    assert_eq!(moved.config.session.max_expiry, None);
}

#[test]
fn a_bridge_keeps_its_addresses_login_and_waits() {
    let moved = moved(
        "connection hub\naddresses a b:1884 [::1]:1885\nusername u\npassword p w\nclientid c\nrestart_timeout 5 60\n\
         keepalive_interval 20\ncleansession true\nbridge_protocol_version mqttv31\ntopic x/# in 2 \"\" r/\n",
    );
    let [bridge] = moved.config.bridges.as_slice() else { panic!("{:?}", moved.config.bridges) };
    let urls: Vec<String> = bridge.urls.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["mqtt://a:1883", "mqtt://b:1884", "mqtt://[::1]:1885"]);
    assert_eq!(bridge.username.as_deref(), Some("u"));
    assert_eq!(bridge.password.as_ref().unwrap().expose(), "p w");
    assert_eq!(bridge.client_id, "c");
    assert_eq!((bridge.reconnect_min, bridge.reconnect_max), (Duration::from_secs(5), Duration::from_secs(60)));
    assert_eq!(bridge.protocol_version, BridgeVersion::V31);
    assert!(bridge.clean_session);
    let [rule] = bridge.topics.as_slice() else { panic!("{:?}", bridge.topics) };
    assert_eq!((rule.direction, rule.local.as_str(), rule.remote.as_str()), (Direction::In, "x/#", "r/x/#"));
}

#[test]
fn a_bridge_without_a_word_has_our_defaults() {
    let moved = moved("connection hub\naddress a\ntopic x\n");
    let bridge = &moved.config.bridges[0];
    assert_eq!(bridge.protocol_version, BridgeVersion::Auto);
    assert_eq!(bridge.client_id, "host.hub");
    assert_eq!(bridge.topics[0].qos, viaduct_codec::QoS::AtMostOnce);
}

#[test]
fn a_bridge_with_tls_checks_what_it_checked() {
    let moved = moved("connection hub\naddress a:8883\nbridge_cafile c.pem\nbridge_insecure true\ntopic x\n");
    let bridge = &moved.config.bridges[0];
    assert!(bridge.urls[0].tls);
    assert_eq!(bridge.tls.verify, Verify::Ca);
}

#[test]
fn what_the_remote_of_a_bridge_does_not_take_is_said_of_it() {
    let bridge = |lines: &str| {
        let moved = moved(&format!("connection hub\naddress a\ntopic x both\n{lines}"));
        assert!(
            moved.imported.notes.iter().all(|note| !note.what.starts_with("bridge_")),
            "{:?}",
            moved.imported.notes
        );
        moved.config.bridges[0].clone()
    };
    let bounded =
        bridge("bridge_max_packet_size 1000\nbridge_attempt_unsubscribe false\nbridge_outgoing_retain false\n");
    assert_eq!(bounded.remote.max_packet_size, Some(1000));
    assert_eq!((bounded.remote.unsubscribe, bounded.remote.retain), (false, false));
    // What comes in keeps its flag, and so does what goes out for all that the rule says.
    assert_eq!(bounded.topics.iter().map(|topic| topic.retain).collect::<Vec<_>>(), [true]);
    let free = bridge("bridge_max_packet_size 0\nbridge_attempt_unsubscribe true\nbridge_outgoing_retain true\n");
    assert_eq!(free.remote, bridge("").remote);
    assert_eq!(bridge("bridge_max_packet_size 3\n").remote.max_packet_size, Some(64));
}

#[test]
fn a_state_that_only_this_side_saw_stays_here() {
    for topic in ["x both", "$SYS/# in 0 there/", "x out 0 \"\" $apps/"] {
        let text =
            format!("connection hub\naddress a\ntopic {topic}\nnotifications_local_only true\nnotifications true\n");
        let moved = moved(&text);
        let bridge = &moved.config.bridges[0];
        assert!(bridge.remote.dollar_topics && !bridge.notifications, "{topic}");
        assert!(moved.notes(4).is_empty(), "{topic}");
    }
}

#[test]
fn a_file_without_a_name_is_refused() {
    for line in ["password_file", "acl_file", "plugin_opt_acl_file"] {
        let mistakes = import(Origin::Mosquitto, &[("main.conf", &format!("{line} \n"))]).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].what.contains(line), "{mistakes:?}");
    }
}

#[test]
fn a_loop_that_ran_runs_and_is_said() {
    let text = "connection hub\naddress a\ntopic # both 0\ntry_private false\nbridge_protocol_version mqttv311\n";
    let moved = moved(text);
    assert!(moved.config.bridges[0].topics[0].allow_loop);
    assert!(moved.notes(1).iter().any(|note| note.why.contains("allow_loop")));
}

#[test]
fn a_websocket_listener_has_a_path() {
    let moved = moved("allow_anonymous true\nlistener 9001 127.0.0.1\nprotocol websockets\n");
    assert_eq!(moved.config.listeners[0].transport, Transport::WebSocket { path: "/mqtt".into() });
    assert!(!moved.notes(3).is_empty());
}

#[test]
fn a_listener_on_the_address_of_our_http_has_it() {
    let moved = moved("allow_anonymous true\nlistener 8888 127.0.0.1\n");
    assert_eq!(moved.config.admin.bind, None);
    assert!(!moved.notes(2).is_empty());
}

#[test]
fn every_line_that_means_nothing_is_named_and_nothing_is_made() {
    let text = "max_keepalive often\nallow_anonymous maybe\n# fine\nlistener many\ntopic before/any/connection\n\
                connection\nconnection x\nconnection y\naddress a\ntopic a sideways\nlistener 1884\nmount_point a/+/\n";
    let mistakes = import(Origin::Mosquitto, &[("main.conf", text)]).unwrap_err();
    let mut lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.place.line).collect();
    lines.sort_unstable();
    assert_eq!(lines, [1, 2, 4, 5, 6, 7, 10, 12], "{mistakes:?}");
    assert!(mistakes.iter().any(|mistake| mistake.to_string().contains("main.conf:1: max_keepalive: expected")));
}

#[test]
fn what_nobody_knows_is_noted_with_its_line() {
    let moved = moved("allow_anonymous true\nlistener 1 127.0.0.1\nshiny_new_option 1\n");
    assert!(moved.notes(3)[0].to_string().starts_with("main.conf:3: shiny_new_option:"));
}

#[test]
fn files_that_are_not_there_are_named() {
    let mistakes = import(Origin::Mosquitto, &[]).unwrap_err();
    assert_eq!(mistakes[0].to_string(), "main.conf: it is not there");
    let mistakes = import(Origin::Mosquitto, &[("main.conf", "include_dir nowhere\n")]).unwrap_err();
    assert_eq!(mistakes[0].place.line, 1);
    let moved = with("password_file gone\nlistener 1 127.0.0.1\n", &[]);
    assert!(!moved.notes(1).is_empty());
    assert_eq!(moved.config.auth.password_file.as_deref(), Some("gone".as_ref()), "it may be there where this runs");
}

#[test]
fn included_files_come_in_their_order_and_include_nothing() {
    let files = [
        ("d/10.conf", "listener 1 127.0.0.1\n"),
        ("d/9.conf", "max_connections 7\ninclude_dir d\n"),
        ("d/x.txt", "nonsense\n"),
    ];
    let moved = with("allow_anonymous true\nlistener 2 127.0.0.1\ninclude_dir d\n", &files);
    let limits: Vec<_> = moved.config.listeners.iter().map(|l| (l.bind.port(), l.max_connections)).collect();
    assert_eq!(limits, [(2, None), (1, Some(7))], "10.conf comes before 9.conf");
}

#[test]
fn relative_paths_are_relative_to_the_base() {
    let request =
        viaduct_import::Request { origin: Origin::Mosquitto, file: "main.conf", beside: "b", base: Some("/etc/m") };
    let text = "password_file users\nacl_file /abs/acl\npersistence_location data\nlistener 1 127.0.0.1\n";
    let files = [("main.conf", text), ("/etc/m/users", USERS), ("/abs/acl", "")];
    let imported = viaduct_import::import(&request, &mut crate::Memory::of(&files)).unwrap();
    for path in ["\"/etc/m/users\"", "\"/abs/acl\"", "\"/etc/m/data/viaduct\""] {
        assert!(imported.config.contains(path), "{path} in\n{}", imported.config);
    }
}

#[test]
fn an_address_that_is_named_twice_is_dialled_once() {
    let moved = moved("connection hub\naddress a b:1884 a:1883\naddresses b:1884\ntopic x\n");
    let hosts: Vec<&str> = moved.config.bridges[0].urls.iter().map(|url| url.host.as_str()).collect();
    assert_eq!(hosts, ["a", "b"]);
    let named: Vec<&str> = moved.imported.notes.iter().map(|note| note.why.as_str()).collect();
    assert!(named.iter().any(|why| why.contains("a:1883 is named twice")), "{named:?}");
    assert!(named.iter().any(|why| why.contains("b:1884 is named twice")), "{named:?}");
}

#[test]
fn a_folder_of_authorities_without_one_is_said() {
    let text = "connection hub\naddress a\nbridge_capath cas\ntopic x\n";
    let moved = with(text, &[("cas/README", "nothing in here\n")]);
    assert!(moved.file("out/broker.hub.ca.pem").is_empty(), "nobody is trusted rather than everybody");
    assert!(moved.notes(3).iter().any(|note| note.why.contains("no certificate")), "{:?}", moved.imported.notes);
    let full = with(text, &[("cas/README", "nothing in here\n"), ("cas/one.pem", PEM)]);
    assert!(full.notes(3).is_empty(), "{:?}", full.imported.notes);
}
