//! The way of a bridge to its remote: proxies, WebSocket, a chosen address, several addresses and back to the first.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use viaduct_tests::codec::{QoS, ReasonCode};
use viaduct_tests::{
    Broker, Finished, Gate, Gateway, Hello, Link, Mosquitto, Outgoing, Peer, Proxy, Signal, Verdict, eventually,
    run_viaduct_on,
};

fn config(url: &str, more: &str) -> String {
    let url = if url.starts_with('[') { url.to_owned() } else { format!("\"{url}\"") };
    format!(
        "[[bridge]]\nname = \"b\"\nurl = {url}\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\nconnect_timeout = \"5s\"\n{more}\n\
         [[bridge.topic]]\nfilter = \"up/#\"\ndirection = \"out\"\n\
         [[bridge.topic]]\nfilter = \"down/#\"\ndirection = \"in\"\n"
    )
}

fn bridge(url: &str, more: &str) -> Broker {
    Broker::start(&config(url, more))
}

#[track_caller]
fn assert_up(broker: &Broker) {
    broker.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 1.0);
}

/// A message each way at QoS 1, large enough to need many frames and records.
#[track_caller]
fn assert_carries(here: SocketAddr, there: SocketAddr) {
    let large = vec![b'x'; 200_000];
    for (from, to, topic) in [(here, there, "up/t"), (there, here, "down/t")] {
        let mut listener = Hello::v311("listener").connect(to);
        listener.subscribe(topic, QoS::AtLeastOnce);
        let mut speaker = Hello::v311("speaker").connect(from);
        for payload in [&b"small"[..], &large] {
            speaker.publish(topic, payload, QoS::AtLeastOnce);
            assert_eq!(listener.message().payload, payload);
        }
        speaker.disconnect();
        listener.disconnect();
    }
}

#[track_caller]
fn check(url: &str, more: &str) -> Finished {
    run_viaduct_on(&config(url, more), &["bridge", "check", "b", "--config"])
}

/// The check fails at this step with these words, and so does the bridge, under this label.
#[track_caller]
fn assert_fails(url: &str, more: &str, step: &str, label: &str, words: &str) {
    let finished = check(url, more);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let line = finished.out.lines().find(|line| line.contains("FAIL")).unwrap_or_default();
    assert!(line.starts_with(&format!("{step}: FAIL: ")) && line.contains(words), "{}", finished.out);
    let broker = bridge(url, more);
    broker
        .wait_for_metric("viaduct_bridge_connects_total", &[("bridge", "b"), ("result", label)], |count| count >= 1.0);
    let line = broker.wait_for_log(&["bridge \"b\"", words]);
    for text in [finished.out, line, broker.log()] {
        assert!(!text.contains("hunter2"), "a password is shown: {text}");
    }
}

// ---- WebSocket

#[test]
fn a_bridge_over_websocket_reaches_our_own_listener_and_mosquitto_behind_a_web_server() {
    let remote = Broker::start(
        "[[listener]]\nbind = \"127.0.0.1:@port@\"\ntransport = \"ws\"\npath = \"/m\"\n\
                                [[listener]]\nname = \"tcp\"\nbind = \"127.0.0.1:@port.tcp@\"\n",
    );
    let here = bridge(&format!("ws://{}/m", remote.address()), "");
    assert_up(&here);
    assert_carries(here.address(), remote.port("tcp"));
    here.wait_for_log(&["connected to ws://", "/m at level 5"]);
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let front = Gateway::start(Gate::WebSocket(mosquitto.address()));
    let here = bridge(&format!("ws://localhost:{}", front.address().port()), "");
    assert_up(&here);
    assert_carries(here.address(), mosquitto.address());
    let asked = front.asked();
    assert!(
        asked[0].starts_with("GET /mqtt HTTP/1.1\r\n") && asked[0].contains("Sec-WebSocket-Protocol: mqtt"),
        "{asked:?}"
    );
    assert!(asked.iter().any(|line| line == "pong ping"), "{asked:?}");
    assert!(!asked.iter().any(|line| line.contains("without a mask")));
    drop(here);
}

#[test]
fn a_websocket_is_closed_in_good_order_when_the_broker_stops() {
    let remote = Broker::start("");
    let front = Gateway::start(Gate::WebSocket(remote.address()));
    let mut here = bridge(&format!("ws://{}", front.address()), "");
    assert_up(&here);
    assert_eq!(here.stop(), Some(0));
    eventually("a close frame", || front.asked().last().is_some_and(|line| line == "close"));
}

#[test]
fn each_refused_upgrade_says_why_and_what_to_do() {
    let answers = |head: &str| Gateway::start(Gate::Answers(vec![head.as_bytes().to_vec()]));
    for (answer, label, words) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "websocket_refused",
            "404 Not Found; nothing is served at that path",
        ),
        (
            "HTTP/1.1 301 Moved\r\nLocation: https://other/mqtt\r\n\r\n",
            "websocket_refused",
            "refers us to https://other/mqtt",
        ),
        ("HTTP/1.1 503 No\r\n\r\n", "websocket_refused", "cannot reach its broker"),
        (
            "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "websocket_broken",
            "Sec-WebSocket-Accept does not belong",
        ),
        ("\u{20}\u{2}\0\0", "websocket_broken", "no web server"),
        ("", "websocket_broken", "closes the connection instead of answering"),
    ] {
        let gateway = answers(answer);
        assert_fails(&format!("ws://{}", gateway.address()), "", "websocket", label, words);
    }
    let endless = answers(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(10_000)));
    assert_fails(&format!("ws://{}", endless.address()), "", "websocket", "websocket_broken", "longer than 8192 bytes");
    // A path of ours that is not served, and a plain MQTT port.
    let remote = Broker::start("[[listener]]\nbind = \"127.0.0.1:@port@\"\ntransport = \"ws\"\n");
    assert_fails(
        &format!("ws://{}/other", remote.address()),
        "",
        "websocket",
        "websocket_refused",
        "the path in `url`",
    );
}

#[test]
fn a_web_server_that_opens_a_websocket_for_something_else_is_named() {
    // It has to know the key, so it is asked for what it cannot foresee.
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let front = Gateway::start(Gate::WebSocket(mosquitto.address()));
    let finished = check(&format!("ws://{}/any/path", front.address()), "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains("websocket: ok (MQTT at /any/path)"), "{}", finished.out);
    assert!(front.asked().iter().any(|head| head.starts_with("GET /any/path ")));
}

// ---- proxies

#[test]
fn a_bridge_goes_through_an_http_proxy_with_and_without_a_login() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let port = mosquitto.address().port();
    for (login, given, file) in [
        (None, "", ""),
        (Some(("me", "p@ss:hunter2")), "me:p%40ss%3Ahunter2@", ""),
        (Some(("me", "hunter2")), "me@", "proxy_password_file = \"@dir@/pw\"\n"),
    ] {
        let gateway = Gateway::start(Gate::Connect(login));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("pw"), "hunter2\r\n").unwrap();
        let more = format!("proxy = \"http://{given}{}\"\n{file}", gateway.address());
        let here = Broker::start_in(folder, &config(&format!("mqtt://localhost:{port}"), &more));
        assert_up(&here);
        assert_carries(here.address(), mosquitto.address());
        assert!(
            gateway.asked()[0].starts_with(&format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n"))
        );
        assert!(!here.log().contains("hunter2"));
    }
}

#[test]
fn a_bridge_goes_through_a_socks_proxy_which_resolves_the_name() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let port = mosquitto.address().port();
    for (login, given, host) in [
        (None, "", "localhost"),
        (None, "me:hunter2@", "127.0.0.1"),
        (Some(("me", "hunter2")), "me:hunter2@", "localhost"),
    ] {
        let gateway = Gateway::start(Gate::Socks(login));
        let here =
            bridge(&format!("mqtt://{host}:{port}"), &format!("proxy = \"socks5://{given}{}\"\n", gateway.address()));
        assert_up(&here);
        assert_carries(here.address(), mosquitto.address());
        assert_eq!(gateway.asked()[0], format!("{host}:{port}"));
    }
    // Nobody but the proxy has to know the name.
    let gateway = Gateway::start(Gate::Socks(None));
    let proxy = format!("proxy = \"socks5://{}\"\n", gateway.address());
    assert_fails("mqtt://no-such-host.invalid", &proxy, "proxy", "proxy_remote", "SOCKS reply 5");
    assert_eq!(gateway.asked()[0], "no-such-host.invalid:1883");
}

#[test]
fn each_way_in_which_a_proxy_refuses_has_its_own_error() {
    let http = |gateway: &Gateway, login: &str| format!("proxy = \"http://{login}{}\"\n", gateway.address());
    let socks = |gateway: &Gateway, login: &str| format!("proxy = \"socks5://{login}{}\"\n", gateway.address());
    let url = "mqtt://remote.invalid:1883";
    let gateway = Gateway::start(Gate::Connect(Some(("me", "right"))));
    assert_fails(url, &http(&gateway, ""), "proxy", "proxy_login", "wants a user name and a password");
    assert_fails(url, &http(&gateway, "me:hunter2@"), "proxy", "proxy_login", "rejects user name or password");
    gateway.set(Gate::Connect(None));
    assert_fails(url, &http(&gateway, ""), "proxy", "proxy_remote", "502 Bad Gateway");
    for (answer, label, words) in [
        ("HTTP/1.1 403 Not for you\r\n\r\n", "proxy_denied", "(403 Not for you); its rules have to allow"),
        ("\u{20}\u{2}\0\0", "proxy_broken", "no proxy of that kind"),
        ("", "proxy_broken", "closes the connection instead of answering"),
    ] {
        gateway.set(Gate::Answers(vec![answer.as_bytes().to_vec()]));
        assert_fails(url, &http(&gateway, ""), "proxy", label, words);
    }
    gateway.set(Gate::Answers(vec![format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(10_000)).into_bytes()]));
    assert_fails(url, &http(&gateway, ""), "proxy", "proxy_broken", "longer than 8192 bytes");
    gateway.set(Gate::Socks(Some(("me", "right"))));
    assert_fails(url, &socks(&gateway, ""), "proxy", "proxy_login", "wants a user name and a password");
    assert_fails(url, &socks(&gateway, "me:hunter2@"), "proxy", "proxy_login", "rejects user name or password");
    gateway.set(Gate::Answers(vec![vec![5, 0], vec![5, 2, 0, 1, 0, 0, 0, 0, 0, 0]]));
    assert_fails(url, &socks(&gateway, ""), "proxy", "proxy_denied", "SOCKS reply 2, not allowed by its rules");
    gateway.set(Gate::Answers(vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]));
    assert_fails(url, &socks(&gateway, ""), "proxy", "proxy_broken", "HTTP");
    let finished = check(url, "proxy = \"http://me@h:1\"\nproxy_password_file = \"/nowhere/pw\"\n");
    assert!(
        finished.out.starts_with("files: FAIL: /nowhere/pw: ")
            && finished.out.contains("(bridge[b].proxy_password_file)"),
        "{finished:?}"
    );
    let gone = gateway.address();
    drop(gateway);
    let more = format!("proxy = \"http://{gone}\"\n");
    assert_fails(url, &more, "proxy tcp", "proxy_unreachable", "cannot be reached");
    assert_fails(
        url,
        "proxy = \"http://no-such-proxy.invalid:1\"\n",
        "proxy name",
        "proxy_unreachable",
        "no-such-proxy.invalid",
    );
}

#[test]
fn a_proxy_that_says_nothing_costs_one_step() {
    let silent = Peer::new(|_| Verdict::Silence);
    for scheme in ["http", "socks5"] {
        let more = format!("proxy = \"{scheme}://{}\"\nconnect_timeout = \"300ms\"\n", silent.address());
        let text = config("mqtt://remote.invalid", &more).replacen("connect_timeout = \"5s\"\n", "", 1);
        let here = Broker::start(&text);
        here.wait_for_log(&["no answer within 0.3 s while waiting for the proxy's answer"]);
    }
}

// ---- where connections come from

#[test]
fn connections_come_from_the_address_that_is_set() {
    let remote = Broker::start("");
    let gateway = Gateway::start(Gate::Connect(None));
    let here = bridge(
        &format!("mqtt://{}", remote.address()),
        &format!("proxy = \"http://{}\"\nbind_address = \"127.0.0.9\"\n", gateway.address()),
    );
    assert_up(&here);
    assert_eq!(gateway.from()[0].ip().to_string(), "127.0.0.9");
    let finished = check(&format!("mqtt://{}", remote.address()), "bind_address = \"127.0.0.9\"\n");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.out.contains(" from 127.0.0.9)"), "{}", finished.out);
    let url = format!("mqtt://{}", remote.address());
    assert_fails(&url, "bind_address = \"192.0.2.77\"\n", "tcp", "bind_address", "192.0.2.77");
    assert_fails(&url, "bind_address = \"::1\"\n", "tcp", "bind_address", "of the other kind");
}

// ---- several addresses

#[test]
fn a_link_that_is_lost_goes_to_the_next_address_and_back_to_the_first_once_that_is_healthy() {
    let (first, second) = (Broker::start(""), Broker::start(""));
    let proxy = Proxy::to(first.address());
    let urls = format!("[\"mqtt://{}\", \"mqtt://{}\"]", proxy.address(), second.address());
    let mut watcher = Hello::v5("watcher").connect(second.address());
    watcher.subscribe("$SYS/broker/connection/+/state", QoS::AtLeastOnce);
    let here = Broker::start(&config(&urls, "failback = \"200ms\""));
    let connected = |broker: &Broker| broker.metric("viaduct_sessions", &[("state", "connected")]) == 1.0;
    eventually("up at the first", || connected(&first));
    proxy.refuse();
    assert_eq!(watcher.message().text(), "1");
    watcher.disconnect();
    eventually("up at the second, alone", || connected(&second));
    assert_carries(here.address(), second.address());
    // A TCP port that accepts is not a broker: the link stays where it is.
    proxy.set(Link::Frozen);
    let accepted = proxy.accepted();
    eventually("probes that nobody answers", || proxy.accepted() > accepted);
    assert!(connected(&second));
    proxy.cut();
    proxy.restore();
    eventually("back at the first", || connected(&first));
    eventually("away from the second", || second.metric("viaduct_sessions", &[("state", "connected")]) == 0.0);
    here.wait_for_log(&["is healthy again: going back to it from"]);
    let mut watcher = Hello::v5("watcher").connect(second.address());
    watcher.subscribe("$SYS/broker/connection/+/state", QoS::AtLeastOnce);
    assert_eq!(watcher.message().text(), "0", "who looks at the second is told that the bridge has left");
    assert_carries(here.address(), first.address());
    assert_eq!(here.metric("viaduct_bridge_connects_total", &[("result", "returned")]), 1.0);
    // The probe left nothing behind: the bridge's session is all there is.
    eventually("no session of a probe", || first.metric("viaduct_sessions", &[]) == 1.0);
}

#[test]
fn a_first_address_that_refuses_the_probe_is_told_once_and_left_alone() {
    let acl = "user up\ntopic #\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("acl"), acl).unwrap();
    let refuses = Peer::new(|_| Verdict::Close);
    let second = Broker::start("");
    let urls = format!("[\"mqtt://{}\", \"mqtt://{}\"]", refuses.address(), second.address());
    let here = Broker::start(&config(&urls, "failback = \"100ms\"\nprotocol_version = 5"));
    assert_up(&here);
    // CONNACK of 5.0: not authorised.
    refuses.set(|_| Verdict::Answer(&[0x20, 3, 0, 0x87, 0]));
    here.wait_for_log(&["refuses the probe", "<client_id>.probe"]);
    let probes = refuses.offered().len();
    eventually("more probes", || refuses.offered().len() > probes + 3);
    assert_eq!(here.log().matches("refuses the probe").count(), 1);
    assert_eq!(second.metric("viaduct_sessions", &[("state", "connected")]), 1.0);
    assert_eq!(here.metric("viaduct_bridge_connects_total", &[("result", "connected")]), 1.0);
}

#[test]
fn nothing_acknowledged_is_lost_on_the_way_back() {
    let (first, second) = (Broker::start(""), Broker::start(""));
    let proxy = Proxy::to(first.address());
    let urls = format!("[\"mqtt://{}\", \"mqtt://{}\"]", proxy.address(), second.address());
    let here = Broker::start(&config(&urls, "failback = \"100ms\""));
    assert_up(&here);
    proxy.refuse();
    let mut listeners = [&first, &second].map(|broker| {
        let mut client = Hello::v5("listener").connect(broker.address());
        client.subscribe("up/#", QoS::AtLeastOnce);
        client
    });
    eventually("at the second", || second.metric("viaduct_sessions", &[("state", "connected")]) == 2.0);
    let mut speaker = Hello::v5("speaker").connect(here.address());
    let count = 300;
    for number in 0..count {
        if number == 100 {
            proxy.restore();
        }
        let message = Outgoing::new("up/n", number.to_string()).qos(QoS::AtLeastOnce);
        let id = speaker.send_publish(&message).unwrap();
        assert_eq!(speaker.wait_for_ack(viaduct_tests::codec::PacketType::Puback, id), ReasonCode::SUCCESS);
        if number == 200 {
            eventually("back at the first", || first.metric("viaduct_sessions", &[("state", "connected")]) == 2.0);
        }
    }
    let mut seen = std::collections::HashSet::new();
    eventually("all of them at one or the other", || {
        for client in &mut listeners {
            while let Some(message) = client.message_within(std::time::Duration::from_millis(20)) {
                seen.insert(message.text().parse::<u32>().unwrap());
            }
        }
        seen.len() == count as usize
    });
    drop(here);
}

#[test]
fn a_reload_that_sets_a_proxy_restarts_that_bridge_alone() {
    let remote = Broker::start("");
    let gateway = Gateway::start(Gate::Connect(None));
    let two = |more: &str| {
        config(&format!("mqtt://{}", remote.address()), more)
            + &config(&format!("mqtt://{}", remote.address()), "")
                .replace("name = \"b\"", "name = \"other\"")
                .replace("up/#", "o/#")
                .replace("down/#", "i/#")
    };
    let mut here = Broker::start(&two(""));
    here.wait_for_metric("viaduct_bridge_up", &[], |up| up == 2.0);
    here.write_config(&two(&format!("proxy = \"http://{}\"\n", gateway.address())));
    here.signal(Signal::Hup);
    eventually("the proxy is asked", || !gateway.asked().is_empty());
    here.wait_for_metric("viaduct_bridge_up", &[], |up| up == 2.0);
    assert_eq!(here.metric("viaduct_bridge_connects_total", &[("bridge", "other")]), 1.0);
}
