//! Which level a bridge speaks with which remote, what it says about it, and what `viaduct bridge check` finds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use viaduct_tests::codec::{QoS, Version};
use viaduct_tests::{
    Broker, Certs, Entry, Finished, Heard, Hello, Mosquitto, Outgoing, Peer, Reply, Scripted, Verdict, eventually,
    run_viaduct, run_viaduct_on,
};

const REFUSED: &[u8] = &[0x20, 2, 0, 1];
const REFUSED_V5: &[u8] = &[0x20, 3, 0, 0x84, 0];

/// A broker with one bridge, `b`, to `remote`.
fn bridge_to(remote: SocketAddr, more: &str) -> Broker {
    Broker::start(&config(&format!("mqtt://{remote}"), more))
}

fn config(url: &str, more: &str) -> String {
    format!(
        "[[bridge]]\nname = \"b\"\nurl = \"{url}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n{more}\n\
         [[bridge.topic]]\nfilter = \"up/#\"\ndirection = \"out\"\nqos = 1\n\
         [[bridge.topic]]\nfilter = \"down/#\"\ndirection = \"in\"\nqos = 1\n"
    )
}

/// A Viaduct that allows these levels only.
fn allowing(levels: &str) -> Broker {
    Broker::start(&format!("[[listener]]\nbind = \"127.0.0.1:@port@\"\nallowed_protocol_versions = {levels}\n"))
}

/// A message each way. Retained, so that it does not matter which half subscribed first.
#[track_caller]
fn assert_carries(here: SocketAddr, there: SocketAddr, there_speaks: Version) {
    for (from, to, topic) in [(here, there, "up/1"), (there, here, "down/1")] {
        let version = |address| if address == there { there_speaks } else { Version::V5 };
        let mut publisher = Hello::of(version(from), "publisher").connect(from);
        let mut subscriber = Hello::of(version(to), "subscriber").connect(to);
        subscriber.subscribe(topic, QoS::AtLeastOnce);
        let message = Outgoing::new(topic, "carried").qos(QoS::AtLeastOnce).retained();
        assert!(!publisher.publish_message(&message).is_error());
        let message = subscriber.message();
        assert_eq!((&*message.topic, message.text()), (topic, "carried"));
    }
}

/// The log lines that say a level was given up.
fn steps_down(viaduct: &Broker) -> Vec<String> {
    viaduct.log().lines().filter(|line| line.contains(", trying ")).map(str::to_owned).collect()
}

/// Checks that each step down is one line with its reason.
#[track_caller]
fn assert_steps(viaduct: &Broker, expected: &[(&str, u8, u8)]) {
    let lines = steps_down(viaduct);
    assert_eq!(lines.len(), expected.len(), "one line for each step: {lines:#?}");
    for (line, (why, from, to)) in lines.iter().zip(expected) {
        assert!(line.contains(why), "{line:?} does not say {why:?}");
        assert!(line.contains(&format!("at level {from}")) && line.contains(&format!("trying {to}")), "{line}");
    }
}

#[track_caller]
fn assert_level(viaduct: &Broker, level: u8) {
    viaduct.wait_for_log(&["bridge \"b\": connected to", &format!("at level {level},")]);
    viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 1.0);
}

const REFUSES: &str = "peer refused the level";
const CLOSED: &str = "peer closed the connection before CONNACK";

// ---- remotes that allow some levels ----

#[test]
fn a_bridge_with_defaults_speaks_5_to_a_listener_that_allows_everything_but_132() {
    let remote = allowing("[3, 4, 5, 131]");
    let viaduct = bridge_to(remote.address(), "");
    assert_level(&viaduct, 5);
    assert_carries(viaduct.address(), remote.address(), Version::V5);
    assert_steps(&viaduct, &[]);
}

#[test]
fn a_3_1_1_bridge_leaves_the_private_bit_out_where_132_is_not_allowed() {
    let remote = allowing("[3, 4, 5, 131]");
    let viaduct = bridge_to(remote.address(), "protocol_version = 4");
    assert_level(&viaduct, 4);
    assert_carries(viaduct.address(), remote.address(), Version::V311);
    assert_steps(&viaduct, &[(REFUSES, 132, 4)]);
    let line = remote.wait_for_log(&["WARN", "level 132"]);
    for word in ["127.0.0.1", "131"] {
        assert!(line.contains(word), "the listener's line does not say {word:?}: {line}");
    }
}

#[test]
fn a_bridge_with_defaults_goes_down_to_3_where_only_3_is_allowed() {
    let remote = allowing("[3]");
    let viaduct = bridge_to(remote.address(), "");
    assert_level(&viaduct, 3);
    assert_carries(viaduct.address(), remote.address(), Version::V31);
    let steps = [(REFUSES, 5, 132), (REFUSES, 132, 4), (REFUSES, 4, 131), (REFUSES, 131, 3)];
    assert_steps(&viaduct, &steps);
}

#[test]
fn a_bridge_with_defaults_finds_131_where_only_3_and_131_are_allowed() {
    let remote = allowing("[3, 131]");
    let viaduct = bridge_to(remote.address(), "");
    assert_level(&viaduct, 131);
    assert_carries(viaduct.address(), remote.address(), Version::V31);
    assert_steps(&viaduct, &[(REFUSES, 5, 132), (REFUSES, 132, 4), (REFUSES, 4, 131)]);
}

#[test]
fn what_worked_is_remembered_when_the_remote_comes_back() {
    let mut remote = allowing("[3, 131]");
    let viaduct = bridge_to(remote.address(), "");
    assert_level(&viaduct, 131);
    remote.stop();
    viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 0.0);
    remote.start_again();
    viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 1.0);
    assert_eq!(steps_down(&viaduct).len(), 3, "5, 132 and 4 are not tried again");
    assert_carries(viaduct.address(), remote.address(), Version::V31);
}

// ---- peers that are odd about it ----

#[test]
fn mosquitto_behind_a_peer_that_refuses_5_and_the_private_bit_is_reached_at_4() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let upstream = mosquitto.address();
    let peer = Peer::new(move |level| match level {
        5 => Verdict::Answer(REFUSED_V5),
        128.. => Verdict::Answer(REFUSED),
        _ => Verdict::LeadTo(upstream),
    });
    let viaduct = bridge_to(peer.address(), "");
    assert_level(&viaduct, 4);
    assert_carries(viaduct.address(), upstream, Version::V311);
    assert_eq!(peer.offered(), [5, 132, 4]);
    assert_steps(&viaduct, &[(REFUSES, 5, 132), (REFUSES, 132, 4)]);
    mosquitto.wait_for_log(&["New client connected", "(p2"]);
}

#[test]
fn a_3_x_broker_that_answers_5_in_its_own_words_is_understood() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let upstream = mosquitto.address();
    let peer = Peer::new(move |level| if level == 5 { Verdict::Answer(REFUSED) } else { Verdict::LeadTo(upstream) });
    let viaduct = bridge_to(peer.address(), "");
    assert_level(&viaduct, 132);
    assert_carries(viaduct.address(), upstream, Version::V311);
    assert_steps(&viaduct, &[(REFUSES, 5, 132)]);
    mosquitto.wait_for_log(&["New bridge connected"]);
}

#[test]
fn a_peer_that_closes_on_132_gets_4_at_once() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let upstream = mosquitto.address();
    let peer = Peer::new(move |level| match level {
        5 => Verdict::Answer(REFUSED_V5),
        132 => Verdict::Close,
        _ => Verdict::LeadTo(upstream),
    });
    // Waiting between the steps would be seen: every deadline here is shorter.
    let slow = config(&format!("mqtt://{}", peer.address()), "").replace("50ms", "60s").replace("200ms", "60s");
    let viaduct = Broker::start(&slow);
    assert_level(&viaduct, 4);
    assert_carries(viaduct.address(), upstream, Version::V311);
    assert_eq!(peer.offered(), [5, 132, 4]);
    assert_steps(&viaduct, &[(REFUSES, 5, 132), (CLOSED, 132, 4)]);
}

#[test]
fn a_peer_that_closes_on_5_and_on_the_private_bit_gets_4() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let upstream = mosquitto.address();
    let peer = Peer::new(move |level| match level {
        5 | 128.. => Verdict::Close,
        _ => Verdict::LeadTo(upstream),
    });
    let viaduct = bridge_to(peer.address(), "");
    assert_level(&viaduct, 4);
    assert_carries(viaduct.address(), upstream, Version::V311);
    assert_eq!(peer.offered(), [5, 132, 4]);
    assert_steps(&viaduct, &[(CLOSED, 5, 132), (CLOSED, 132, 4)]);
}

#[test]
fn a_peer_that_answers_5_with_nonsense_gets_132() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let upstream = mosquitto.address();
    let peer = Peer::new(move |level| match level {
        5 => Verdict::Answer(b"\xff\xff\xff\xff\xff\xff"),
        _ => Verdict::LeadTo(upstream),
    });
    let viaduct = bridge_to(peer.address(), "");
    assert_level(&viaduct, 132);
    assert_carries(viaduct.address(), upstream, Version::V311);
    assert_steps(&viaduct, &[("cannot be read", 5, 132)]);
}

#[test]
fn a_remote_that_takes_no_level_is_named_with_every_reason_and_tried_again() {
    let peer = Peer::new(|level| if level == 5 { Verdict::Answer(REFUSED_V5) } else { Verdict::Answer(REFUSED) });
    let viaduct = bridge_to(peer.address(), "try_private = false");
    let line = viaduct.wait_for_log(&["no protocol level is taken"]);
    for level in ["level 5:", "level 4:", "level 3:"] {
        assert!(line.contains(level), "{line}");
    }
    eventually("a second round", || peer.offered().len() >= 6);
    assert_eq!(peer.offered()[..6], [5, 4, 3, 5, 4, 3]);
    let refused = [("bridge", "b"), ("result", "level_refused")];
    viaduct.wait_for_metric("viaduct_bridge_connects_total", &refused, |rounds| rounds >= 2.0);
}

// ---- one version, to mosquitto ----

#[test]
fn each_fixed_version_reaches_mosquitto_and_the_private_bit_makes_it_a_bridge_there() {
    // (settings, level, version, what mosquitto calls it)
    let table = [
        ("", 5, Version::V5, "New client connected"),
        ("protocol_version = 3", 131, Version::V31, "New bridge connected"),
        ("protocol_version = 4", 132, Version::V311, "New bridge connected"),
        ("protocol_version = 5", 5, Version::V5, "New client connected"),
        ("protocol_version = 5\ntry_private = false", 5, Version::V5, "New client connected"),
        ("protocol_version = 3\ntry_private = false", 3, Version::V31, "New client connected"),
        ("protocol_version = 4\ntry_private = false", 4, Version::V311, "New client connected"),
    ];
    for (settings, level, version, called) in table {
        let Some(mosquitto) = Mosquitto::start("") else { return };
        let viaduct = bridge_to(mosquitto.address(), &format!("{settings}\nclient_id = \"viaduct-here\""));
        assert_level(&viaduct, level);
        mosquitto.wait_for_log(&[called, "as viaduct-here"]);
        assert_carries(viaduct.address(), mosquitto.address(), version);
        assert_steps(&viaduct, &[]);
    }
}

// ---- mosquitto as the one that dials ----

fn mosquitto_to(viaduct: SocketAddr, more: &str) -> Option<Mosquitto> {
    Mosquitto::start(&format!(
        "connection here\naddress {viaduct}\nrestart_timeout 1\ntopic up/# in 1\ntopic down/# out 1\n\
         remote_clientid mosquitto-here\n{more}\n"
    ))
}

#[test]
fn mosquitto_bridges_to_viaduct_at_every_version_and_level() {
    let table = [
        ("", "132", Version::V311),
        ("bridge_protocol_version mqttv311", "132", Version::V311),
        ("try_private false", "4", Version::V311),
        ("bridge_protocol_version mqttv31", "131", Version::V31),
        ("bridge_protocol_version mqttv31\ntry_private false", "3", Version::V31),
        ("bridge_protocol_version mqttv50", "5", Version::V5),
    ];
    for (settings, level, version) in table {
        let viaduct = Broker::start("");
        let Some(mosquitto) = mosquitto_to(viaduct.address(), settings) else { return };
        let accepted = [("level", level), ("result", "accepted")];
        viaduct.wait_for_metric("viaduct_connects_total", &accepted, |times| times == 1.0);
        assert_carries(viaduct.address(), mosquitto.address(), version);
        assert_eq!(viaduct.metric("viaduct_protocol_errors_total", &[]), 0.0, "{settings}");
    }
}

#[test]
fn what_mosquitto_carries_both_ways_on_one_topic_arrives_once_on_each_side() {
    for settings in ["", "bridge_protocol_version mqttv31", "bridge_protocol_version mqttv50"] {
        let viaduct = Broker::start("");
        let Some(mosquitto) = mosquitto_to(viaduct.address(), &format!("topic loop/# both 1\n{settings}")) else {
            return;
        };
        viaduct.wait_for_metric("viaduct_subscriptions", &[], |count| count >= 2.0);
        let mut clients = [viaduct.address(), mosquitto.address()].map(|address| {
            let mut client = Hello::v311("watcher").connect(address);
            client.subscribe("loop/#", QoS::AtLeastOnce);
            client
        });
        // An echo of a message is on its way before the next of the other side is, so it would come in its place.
        for round in 0..3 {
            for side in 0..2 {
                let text = format!("{round} from {side}");
                clients[side].publish("loop/1", &text, QoS::AtLeastOnce);
                for client in &mut clients {
                    assert_eq!(client.message().text(), text, "{settings}");
                }
            }
        }
    }
}

#[test]
fn mosquitto_that_is_refused_132_comes_back_at_4() {
    let viaduct = allowing("[3, 4, 5, 131]");
    let Some(mosquitto) = mosquitto_to(viaduct.address(), "") else { return };
    viaduct.wait_for_log(&["WARN", "level 132", "127.0.0.1"]);
    viaduct.wait_for_metric("viaduct_connects_total", &[("level", "4"), ("result", "accepted")], |times| times == 1.0);
    assert_carries(viaduct.address(), mosquitto.address(), Version::V311);
}

#[test]
fn a_private_level_gets_the_retain_flag_as_published_and_no_echo() {
    let viaduct = Broker::start("");
    for level in [viaduct_tests::codec::Level::V31_BRIDGE, viaduct_tests::codec::Level::V311_BRIDGE] {
        let mut bridge = Hello::new(level, "bridge").connect(viaduct.address());
        bridge.subscribe_all(&[Entry::new("x/#", QoS::AtLeastOnce)], None);
        bridge.publish("x/own", "mine", QoS::AtLeastOnce);
        let mut other = Hello::v311("other").connect(viaduct.address());
        other.publish_message(&Outgoing::new("x/other", "theirs").qos(QoS::AtLeastOnce).retained());
        let message = bridge.message();
        assert_eq!((&*message.topic, message.retain), ("x/other", true));
    }
}

// ---- viaduct bridge check ----

/// Checks by `--url` and by name; both must agree. `tls` is what `[bridge.tls]` says.
#[track_caller]
fn check(url: &str, tls: &[(&str, &str)]) -> Finished {
    let settings: Vec<String> = tls.iter().map(|(key, value)| format!("bridge.0.tls.{key}={value}")).collect();
    let mut arguments = vec!["bridge", "check", "--url", url];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let by_url = run_viaduct(&arguments, "");
    let lines: String = tls.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect();
    let section = if lines.is_empty() { String::new() } else { format!("[bridge.tls]\n{lines}") };
    let by_name = run_viaduct_on(&config(url, &section), &["bridge", "check", "b", "--config"]);
    assert_eq!(by_url.code, by_name.code, "{by_url:?}\n{by_name:?}");
    let failures = |finished: &Finished| -> Vec<String> {
        let lines = finished.out.lines().filter(|line| line.contains("FAIL"));
        // `--url` makes a bridge called "check".
        lines.map(|line| line.replace("bridge[check]", "bridge[b]")).collect()
    };
    assert_eq!(failures(&by_url), failures(&by_name));
    by_name
}

/// The one line of a check that fails.
#[track_caller]
fn failure(url: &str, tls: &[(&str, &str)]) -> String {
    let finished = check(url, tls);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let failed: Vec<&str> = finished.out.lines().filter(|line| line.contains("FAIL")).collect();
    let [line] = failed[..] else { panic!("one step fails: {finished:?}") };
    line.to_owned()
}

#[track_caller]
fn assert_fails(url: &str, tls: &[(&str, &str)], step: &str, words: &[&str]) {
    let line = failure(url, tls);
    assert!(line.starts_with(step), "it is not step {step:?} that fails: {line}");
    for word in words {
        assert!(line.contains(word), "{line:?} does not say {word:?}");
    }
}

/// A Viaduct with a TLS listener that shows a good, a wrongly named, and an expired certificate.
fn with_tls() -> (Broker, Certs) {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let listener = |name: &str, file: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:@port.{name}@\"\n\
             tls = {{ cert_file = \"@dir@/{file}.pem\", key_file = \"@dir@/{file}.key\" }}\n"
        )
    };
    let config = listener("good", "server") + &listener("other", "other") + &listener("expired", "expired");
    (Broker::start_in(folder, &config), certs)
}

#[test]
fn check_says_that_a_tls_port_was_dialled_in_plaintext() {
    let (viaduct, _certs) = with_tls();
    let port = viaduct.port("good").port();
    let words = ["this is a TLS port dialled in plaintext", &format!("use mqtts://127.0.0.1:{port}")];
    assert_fails(&format!("mqtt://127.0.0.1:{port}"), &[], "level 5", &words);

    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let (cert, key) = (certs.server.cert.display(), certs.server.key.display());
    let tls = format!("listener @port@ 127.0.0.1\nallow_anonymous true\ncertfile {cert}\nkeyfile {key}\n");
    let Some(mosquitto) = Mosquitto::configured(folder, &tls) else { return };
    let words = ["this is a TLS port dialled in plaintext"];
    assert_fails(&format!("mqtt://{}", mosquitto.address()), &[], "level 5", &words);
}

#[test]
fn check_says_which_check_of_the_certificate_fails_and_whose_name_or_date_it_is() {
    let (viaduct, certs) = with_tls();
    let ca = certs.ca.to_str().unwrap();
    let url = |listener: &str| format!("mqtts://localhost:{}", viaduct.port(listener).port());
    assert_fails(&url("other"), &[("ca_file", ca)], "tls", &["other.example.com", "not for localhost"]);
    assert_fails(&url("expired"), &[("ca_file", ca)], "tls", &["expired", "2001"]);
    assert_fails(&url("good"), &[], "tls", &["not trusted here", "tls.ca_file"]);
    assert_fails(&url("good"), &[("ca_file", "/nowhere/ca.pem")], "files", &["/nowhere/ca.pem"]);
    assert_eq!(check(&url("good"), &[("ca_file", ca)]).code, Some(0));
    assert_eq!(check(&url("other"), &[("ca_file", ca), ("verify", "ca")]).code, Some(0));
    assert_eq!(check(&url("expired"), &[("verify", "none")]).code, Some(0));
}

#[test]
fn check_says_that_it_found_an_http_server_or_plain_mqtt_behind_tls_or_nobody() {
    let viaduct = Broker::start("");
    let http = ["this is an HTTP server, not an MQTT broker"];
    assert_fails(&format!("mqtt://{}", viaduct.admin()), &[], "level 5", &http);
    assert_fails(&format!("mqtts://{}", viaduct.admin()), &[], "tls", &["does not speak TLS"]);
    // A plain listener of ours closes at the first byte of TLS: all that can be known is that nobody answered.
    assert_fails(&format!("mqtts://{}", viaduct.address()), &[], "tls", &["does that port speak TLS?"]);
    let gone = viaduct.address();
    drop(viaduct);
    assert_fails(&format!("mqtt://{gone}"), &[], "tcp", &["refused"]);
    assert_fails("mqtt://no-such-host.invalid", &[], "name", &["no-such-host.invalid"]);
}

#[test]
fn check_finds_an_http_server_whether_it_answers_mqtt_or_not() {
    const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answers = Peer::new(|_| Verdict::Answer(BAD_REQUEST));
    // Closes on what is no request.
    let strict = Peer::new(|level| if level == 0 { Verdict::Answer(BAD_REQUEST) } else { Verdict::Close });
    for peer in [answers, strict] {
        let url = format!("mqtt://{}", peer.address());
        assert_eq!(failure(&url, &[]), "level 5: FAIL: this is an HTTP server, not an MQTT broker");
    }
}

#[test]
fn check_says_these_words() {
    let (viaduct, certs) = with_tls();
    let ca = certs.ca.to_str().unwrap();
    let port = |listener: &str| viaduct.port(listener).port();
    let url = |listener: &str| format!("mqtts://localhost:{}", port(listener));
    assert_eq!(
        failure(&format!("mqtt://localhost:{}", port("good")), &[]),
        format!("level 5: FAIL: this is a TLS port dialled in plaintext; use mqtts://localhost:{}", port("good"))
    );
    assert_eq!(
        failure(&url("other"), &[("ca_file", ca)]),
        "tls: FAIL: the certificate is for other.example.com, not for localhost; use that name in `url` or set \
         `tls.server_name`"
    );
    assert_eq!(
        failure(&url("expired"), &[("ca_file", ca)]),
        "tls: FAIL: the remote's certificate expired (Jan  1 00:00:00 2001 +00:00)"
    );
    assert_eq!(
        failure(&format!("mqtt://{}", viaduct.admin()), &[]),
        "level 5: FAIL: this is an HTTP server, not an MQTT broker"
    );
}

#[test]
fn check_of_a_good_mosquitto_goes_through_every_step() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let finished = check(&format!("mqtt://{}", mosquitto.address()), &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let steps = ["name", "tcp", "level 5", "level 132", "level 4", "level 131", "level 3", "login", "subscribe down/#"];
    for step in steps {
        let good = format!("{step}: ok (");
        assert!(finished.out.lines().any(|line| line.starts_with(&good)), "{step}: {}", finished.out);
    }
    assert!(!finished.out.contains("FAIL"), "{}", finished.out);
}

#[test]
fn check_walks_the_levels_and_says_which_are_taken() {
    let remote = allowing("[3, 4, 131]");
    let finished = check(&format!("mqtt://{}", remote.address()), &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let line = |step: &str| finished.out.lines().find(|line| line.starts_with(step)).unwrap_or_default();
    for (step, says) in [("level 5:", "FAIL"), ("level 132:", "FAIL"), ("level 4:", "ok"), ("level 131:", "ok")] {
        assert!(line(step).contains(says), "{step} {says}: {}", finished.out);
    }
    assert!(line("login").contains("level 4"), "{}", finished.out);
    assert!(line("subscribe down/#").contains("ok"), "{}", finished.out);
}

#[test]
fn check_says_a_refusal_as_the_version_that_it_came_in_has_it() {
    let told = |connack: &'static [u8]| {
        let remote = Peer::new(move |level| match level {
            4 => Verdict::Answer(connack),
            _ => Verdict::Close,
        });
        let finished = check(&format!("mqtt://{}", remote.address()), &[]);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        finished.out
    };
    for (connack, words) in [
        (&[0x20, 2, 0, 1], "level 4: FAIL: the remote refuses it: unacceptable protocol version (return code 1)"),
        (&[0x20, 2, 0, 2], "level 4: FAIL: the remote refuses it: identifier rejected (return code 2)"),
        (&[0x20, 2, 0, 3], "level 4: FAIL: the remote refuses it: server unavailable (return code 3)"),
        (&[0x20, 2, 0, 4], "login: FAIL: the remote rejects user name or password (return code 4)"),
        (&[0x20, 2, 0, 5], "login: FAIL: the remote does not authorise this client: not authorized (return code 5)"),
    ] {
        let out = told(connack);
        assert!(out.contains(words) && !out.contains("(0x8"), "{words} is not in {out}");
    }
    let refuses = Scripted::v311(|heard| match heard {
        Heard::Subscribe(_) => Reply::Grant(0x80),
        _ => Reply::Usual,
    });
    let url = format!("mqtt://{}", refuses.address());
    let out = run_viaduct_on(&config(&url, ""), &["bridge", "check", "b", "--config"]).out;
    assert!(out.contains("subscribe down/#: FAIL: the remote refuses it: failure (return code 0x80)"), "{out}");
}

#[test]
fn check_wants_a_name_or_a_url() {
    for (words, said) in
        [(&[][..], "<NAME|--url <URL>>"), (&["b", "--url", "mqtt://127.0.0.1:1"], "cannot be used with")]
    {
        let refused = run_viaduct(&[&["bridge", "check"], words].concat(), "");
        assert!(refused.code == Some(2) && refused.err.contains(said), "{refused:?}");
        assert!(refused.err.contains("<NAME|--url <URL>>"), "{refused:?}");
    }
}

#[test]
fn check_of_a_bridge_that_is_not_there_names_those_that_are() {
    let finished = run_viaduct_on(&config("mqtt://127.0.0.1:1", ""), &["bridge", "check", "c", "--config"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.err.contains("no bridge is called \"c\": there are b"), "{finished:?}");
}

#[test]
fn check_does_not_disturb_the_bridge_that_runs() {
    let remote = Broker::start("");
    let viaduct = bridge_to(remote.address(), "");
    assert_level(&viaduct, 5);
    let config = viaduct.config_path();
    let finished = run_viaduct(&["bridge", "check", "b", "--config", config.to_str().unwrap()], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_carries(viaduct.address(), remote.address(), Version::V5);
    let lost = viaduct.metric("viaduct_bridge_connects_total", &[("bridge", "b"), ("result", "taken_over")]);
    assert_eq!(lost, 0.0);
    eventually("nothing is left behind", || remote.metric("viaduct_sessions", &[]) <= 1.0);
}
