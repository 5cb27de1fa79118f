//! VerneMQ's files.

use viaduct_config::{BridgeVersion, Direction, OnFull, Transport, UsernameFrom, Verify};
use viaduct_import::Origin;

use crate::{Moved, import};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----";

fn moved(text: &str) -> Moved {
    let files = [
        ("main.conf", text),
        ("./etc/vmq.passwd", ""),
        ("./etc/vmq.acl", "pattern read a\n"),
        ("c.pem", PEM),
        ("k.pem", PEM),
    ];
    Moved::of(Origin::Vernemq, &files)
}

#[test]
fn the_files_that_no_line_names_are_taken() {
    let moved = moved("listener.tcp.default = 127.0.0.1:1883\n");
    assert_eq!(moved.config.auth.password_file.as_deref(), Some("./etc/vmq.passwd".as_ref()));
    assert_eq!(moved.config.auth.acl_file.as_deref(), Some("./etc/vmq.acl".as_ref()));
}

#[test]
fn permissions_that_are_nowhere_are_none() {
    let moved = Moved::of(Origin::Vernemq, &[("main.conf", "listener.tcp.default = 127.0.0.1:1883\n")]);
    assert!(moved.file("out/broker.acl").lines().all(|line| line.starts_with('#')));
    assert!(moved.file("out/broker.passwd").lines().all(|line| line.starts_with('#')));
}

#[test]
fn a_file_without_a_name_is_refused() {
    for line in ["vmq_passwd.password_file", "vmq_acl.acl_file"] {
        let text = format!("listener.tcp.default = 127.0.0.1:1883\n{line} =\n");
        let mistakes = import(Origin::Vernemq, &[("main.conf", &text)]).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].what.contains(line) && mistakes[0].place.line == 2, "{mistakes:?}");
    }
}

#[test]
fn an_option_of_a_listener_wins_over_its_protocols_and_that_over_all() {
    let moved = moved(
        "listener.max_connections = 1\nlistener.tcp.max_connections = 2\nlistener.tcp.a = 127.0.0.1:1\n\
         listener.tcp.b = 127.0.0.1:2\nlistener.tcp.b.max_connections = 3\nlistener.ws.c = 127.0.0.1:3\n\
         listener.ws.d = 127.0.0.1:4\nlistener.ws.d.max_connections = infinity\n",
    );
    let limits: Vec<_> = moved.config.listeners.iter().map(|l| (l.name.as_str(), l.max_connections)).collect();
    assert_eq!(limits, [("a", Some(2)), ("b", Some(3)), ("c", Some(1)), ("d", None)]);
    assert_eq!(moved.config.listeners[2].transport, Transport::WebSocket { path: "/mqtt".into() });
}

#[test]
fn anonymous_clients_come_in_by_either_switch() {
    let text =
        "listener.tcp.a = 127.0.0.1:1\nlistener.tcp.b = 127.0.0.1:2\nlistener.tcp.b.allow_anonymous_override = on\n";
    let anonymous = |moved: &Moved| moved.config.listeners.iter().map(|l| l.allow_anonymous).collect::<Vec<_>>();
    assert_eq!(anonymous(&moved(text)), [false, true]);
    assert_eq!(anonymous(&moved(&format!("{text}allow_anonymous = on\n"))), [true, true]);
}

#[test]
fn a_mountpoint_is_a_prefix_of_levels() {
    let moved = moved("listener.tcp.a = 127.0.0.1:1\nlistener.tcp.a.mountpoint = m\nlistener.tcp.mountpoint = off\n");
    assert_eq!(moved.config.listeners[0].mountpoint.as_deref(), Some("m/"));
    assert!(!moved.notes(2).is_empty());
}

#[test]
fn tls_listeners_have_it_or_are_not_there() {
    let moved = moved(
        "listener.ssl.certfile = c.pem\nlistener.ssl.keyfile = k.pem\nlistener.ssl.a = 127.0.0.1:1\n\
         listener.ssl.a.cafile = c.pem\nlistener.ssl.a.require_certificate = on\nlistener.ssl.a.use_identity_as_username = on\n\
         listener.ssl.b = 127.0.0.1:2\nlistener.ssl.b.require_certificate = on\nlistener.wss.c = 127.0.0.1:3\n",
    );
    let [listener] = moved.config.listeners.as_slice() else { panic!("{:?}", moved.config.listeners) };
    let tls = listener.tls.as_ref().unwrap();
    assert!(tls.require_client_certificate && tls.username_from == UsernameFrom::CommonName);
    assert!(!moved.notes(8).is_empty(), "nobody says whose certificates");
    assert!(!moved.notes(9).is_empty(), "and wss has no certificate");
}

#[test]
fn two_limits_are_the_larger_one() {
    let moved = moved("max_online_messages = 10\nmax_offline_messages = 20\nqueue_type = lifo\nmax_message_size = 0\n");
    assert_eq!(moved.config.session.max_queued_messages, 20);
    assert_eq!(moved.config.session.on_full, OnFull::DropOldest);
    assert_eq!(moved.config.limits.max_packet_size, 268_435_460);
    let moved = Moved::of(Origin::Vernemq, &[("main.conf", "max_online_messages = -1\nmax_offline_messages = 20\n")]);
    assert_eq!(moved.config.session.max_queued_messages, 1_000_000_000);
}

#[test]
fn a_bridge_has_levels_for_prefixes_and_a_star_for_everything() {
    let moved = moved(
        "plugins.vmq_bridge = on\nvmq_bridge.tcp.b = hub:1883\nvmq_bridge.tcp.b.topic.2 = a/* in 1 l r\n\
         vmq_bridge.tcp.b.topic.1 = * both 0 here $empty # and so on\nvmq_bridge.tcp.b.mqtt_version = 4\n\
         vmq_bridge.tcp.b.max_outgoing_buffered_messages = 7\nvmq_bridge.tcp.b.client_id = auto\n",
    );
    let bridge = &moved.config.bridges[0];
    assert!(bridge.enabled);
    assert_eq!(bridge.client_id, "host.b", "auto is HOST.NAME there as well");
    assert_eq!(bridge.protocol_version, BridgeVersion::V311);
    assert_eq!(bridge.queue.max_messages, 7);
    let rules: Vec<_> =
        bridge.topics.iter().map(|rule| (rule.direction, rule.local.as_str(), rule.remote.as_str())).collect();
    assert_eq!(rules, [(Direction::Both, "here/#", "#"), (Direction::In, "l/a/#", "r/a/#")]);
}

#[test]
fn a_bridge_of_a_plugin_that_is_off_does_not_run() {
    let moved = moved("vmq_bridge.tcp.b = hub:1883\nvmq_bridge.tcp.b.topic.1 = a\n");
    assert!(!moved.config.bridges[0].enabled);
    assert!(!moved.notes(1).is_empty());
}

#[test]
fn a_bridge_with_tls_checks_what_it_checked() {
    let moved = moved("vmq_bridge.ssl.b = hub:8883\nvmq_bridge.ssl.b.insecure = on\nvmq_bridge.ssl.b.topic.1 = a\n");
    let bridge = &moved.config.bridges[0];
    assert!(bridge.urls[0].tls);
    assert_eq!(bridge.tls.verify, Verify::None);
    assert!(moved.notes(2)[0].why.contains("not checked"));
}

#[test]
fn a_server_name_that_no_certificate_can_have_is_left_out() {
    let with = |sni: &str| {
        format!("vmq_bridge.ssl.b = hub:8883\nvmq_bridge.ssl.b.sni = {sni}\nvmq_bridge.ssl.b.topic.1 = a\n")
    };
    assert_eq!(moved(&with("mq.example")).config.bridges[0].tls.server_name.as_deref(), Some("mq.example"));
    let moved = moved(&with("= mq.example"));
    assert_eq!(moved.config.bridges[0].tls.server_name, None);
    assert!(moved.notes(2)[0].why.contains("neither a DNS name nor an IP address"));
}

#[test]
fn the_last_line_with_a_key_holds() {
    let moved = moved("listener.tcp.a = 127.0.0.1:1\nmax_client_id_size = 30\nmax_client_id_size = 40\n");
    assert_eq!(moved.config.limits.max_client_id_length, 40);
}

#[test]
fn lines_for_the_cluster_ask_for_nothing() {
    let moved =
        moved("listener.tcp.a = 127.0.0.1:1\nlistener.vmq.clustering = 0.0.0.0:44053\nmetadata_plugin = vmq_swc\n");
    assert_eq!(moved.config.listeners.len(), 1);
    assert!(moved.notes(2).is_empty() && moved.notes(3).is_empty());
    assert_eq!(moved.imported.notes.len(), 2, "{:?}", moved.imported.notes);
}

#[test]
fn every_line_that_means_nothing_is_named_and_nothing_is_made() {
    let text = "nonsense\nmax_message_size = large\nlistener.tcp.a = somewhere\nvmq_bridge.tcp.b = hub\n\
                vmq_bridge.tcp.c = hub:1\nvmq_bridge.tcp.c.topic.1 = a in 0 one\nallow_anonymous = perhaps\n";
    let mistakes = import(Origin::Vernemq, &[("main.conf", text)]).unwrap_err();
    let mut lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.place.line).collect();
    lines.sort_unstable();
    assert_eq!(lines, [1, 2, 3, 4, 6, 7], "{mistakes:?}");
}

#[test]
fn included_files_are_read_and_a_folder_that_is_not_there_is_empty() {
    let files = [
        ("main.conf", "include conf.d/*.conf\ninclude none/*.conf\n"),
        ("conf.d/a.conf", "listener.tcp.a = 127.0.0.1:1\nallow_anonymous = on\n"),
        ("conf.d/b.txt", "nonsense\n"),
    ];
    let moved = Moved::of(Origin::Vernemq, &files);
    assert_eq!(moved.config.listeners[0].name, "a");
}
