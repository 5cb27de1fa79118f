//! Remotes that take less than the standard allows: what they announce is obeyed, what they cannot announce is a switch, and
//! each consequence is counted. The remotes here are scripts that end the connection when they get what they do not take.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use viaduct_tests::codec::QoS;
use viaduct_tests::{
    Broker, Client, Heard, Hello, Outgoing, Reply, Scripted, Signal, connack, eventually, run_viaduct,
};

/// A bridge to `remote` with these settings; `up/#` goes out, `down/#` comes in.
fn config(remote: &Scripted, more: &str) -> String {
    format!(
        "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{}\"\nclient_id = \"edge\"\nreconnect_min = \"50ms\"\n\
         reconnect_max = \"2s\"\n{more}\n\
         [[bridge.topic]]\nfilter = \"up/#\"\ndirection = \"out\"\nqos = 2\n\
         [[bridge.topic]]\nfilter = \"down/#\"\ndirection = \"in\"\nqos = 2\n",
        remote.address()
    )
}

fn bridged(remote: &Scripted, more: &str) -> Broker {
    let viaduct = Broker::start(&config(remote, more));
    viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 1.0);
    viaduct
}

fn publisher(viaduct: &Broker) -> Client {
    Hello::v5("publisher").connect(viaduct.address())
}

#[track_caller]
fn publish(client: &mut Client, topic: &str, payload: &str, qos: QoS, retain: bool) {
    let mut message = Outgoing::new(topic, payload).qos(qos);
    message.retain = retain;
    assert!(!client.publish_message(&message).is_error());
}

/// The messages that the remote got on topics below `up/`: payload, QoS, RETAIN.
fn arrived(remote: &Scripted) -> Vec<(String, u8, bool)> {
    let published = remote.heard().into_iter().filter_map(|heard| match heard {
        Heard::Publish { topic, payload, qos, retain, .. } if topic.starts_with("up/") => Some((payload, qos, retain)),
        _ => None,
    });
    published.collect()
}

#[track_caller]
fn wait_for_payload(remote: &Scripted, wanted: &str) {
    remote.wait_for(wanted, |heard| matches!(heard, Heard::Publish { payload, .. } if payload == wanted));
}

#[track_caller]
fn assert_lowered(viaduct: &Broker, what: &str, times: f64) {
    viaduct.wait_for_metric("viaduct_bridge_lowered_total", &[("bridge", "b"), ("what", what)], |n| n == times);
}

#[track_caller]
fn assert_dropped(viaduct: &Broker, reason: &str, times: f64) {
    let labels = [("bridge", "b"), ("reason", reason)];
    viaduct.wait_for_metric("viaduct_bridge_messages_dropped_total", &labels, |n| n == times);
}

/// The link that came up is the one that is still there.
#[track_caller]
fn assert_never_kicked(viaduct: &Broker) {
    assert_eq!(viaduct.metric("viaduct_bridge_connects_total", &[("bridge", "b"), ("result", "connected")]), 1.0);
    assert_eq!(viaduct.metric("viaduct_bridge_up", &[("bridge", "b")]), 1.0);
}

#[track_caller]
fn lines(viaduct: &Broker, words: &str) -> usize {
    viaduct.log().lines().filter(|line| line.contains(words)).count()
}

// ---- what a 5.0 remote announces ----

#[test]
fn maximum_qos_and_retain_available_lower_what_goes_out() {
    let remote = Scripted::v5(&[0x24, 1, 0x25, 0]);
    let viaduct = bridged(&remote, "");
    publish(&mut publisher(&viaduct), "up/1", "two", QoS::ExactlyOnce, true);
    wait_for_payload(&remote, "two");
    assert_eq!(arrived(&remote), [("two".to_owned(), 1, false)]);
    assert_lowered(&viaduct, "qos", 1.0);
    assert_lowered(&viaduct, "retain", 1.0);
    viaduct.wait_for_log(&["the remote limits what it takes: QoS 1 at most, nothing retained"]);
    assert_never_kicked(&viaduct);
}

#[test]
fn maximum_packet_size_drops_what_does_not_fit_and_cuts_subscriptions_to_fit() {
    let remote = Scripted::v5(&[0x27, 0, 0, 0, 100]);
    let long = "d/".repeat(30);
    let rules: String = (0..3)
        .map(|n| format!("[[bridge.topic]]\nfilter = \"{long}{n}\"\ndirection = \"in\"\n"))
        .chain([format!("[[bridge.topic]]\nfilter = \"{}\"\ndirection = \"in\"\n", "e/".repeat(60))])
        .collect();
    let viaduct = Broker::start(&format!("{}{rules}", config(&remote, "")));
    viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 1.0);
    let mut client = publisher(&viaduct);
    publish(&mut client, "up/1", &"x".repeat(100), QoS::AtLeastOnce, false);
    publish(&mut client, "up/1", "fits", QoS::AtLeastOnce, false);
    wait_for_payload(&remote, "fits");
    assert_dropped(&viaduct, "too_large", 1.0);
    assert_lowered(&viaduct, "subscription", 1.0);
    viaduct.wait_for_log(&["refuses the subscription to e/e/"]);
    let asked: usize = remote
        .heard()
        .iter()
        .map(|heard| match heard {
            Heard::Subscribe(filters) => filters.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(asked, 4, "all but the one that fits into no packet");
    let too_large = |heard: &Heard| matches!(heard, Heard::Publish { size, .. } if *size > 100);
    assert!(!remote.heard().iter().any(too_large));
    assert_never_kicked(&viaduct);
}

#[test]
fn receive_maximum_bounds_what_is_unacknowledged() {
    let remote = Scripted::new(|heard, _| match heard {
        Heard::Connect { .. } => Reply::Say(connack(&[0x21, 0, 3])),
        Heard::Publish { qos: 1.., .. } => Reply::Nothing,
        _ => Reply::Usual,
    });
    let viaduct = bridged(&remote, "notifications = false");
    let mut client = publisher(&viaduct);
    for number in 0..10 {
        publish(&mut client, "up/1", &number.to_string(), QoS::AtLeastOnce, false);
    }
    // QoS 0 goes past the window: when it is there, nothing else of what came before will come.
    publish(&mut client, "up/1", "last", QoS::AtMostOnce, false);
    wait_for_payload(&remote, "last");
    assert_eq!(arrived(&remote).iter().filter(|(_, qos, _)| *qos == 1).count(), 3);
    assert_lowered(&viaduct, "window", 1.0);
}

#[test]
fn the_whole_window_goes_out_before_the_first_answer() {
    // The other side of the same coin: a remote that allows it gets twenty at once, and by few writes.
    let remote = Scripted::new(|heard, _| match heard {
        Heard::Publish { qos: 1.., .. } => Reply::Nothing,
        _ => Reply::Usual,
    });
    let viaduct = bridged(&remote, "notifications = false\nmax_inflight = 20");
    let mut client = publisher(&viaduct);
    for number in 0..30 {
        publish(&mut client, "up/1", &number.to_string(), QoS::AtLeastOnce, false);
    }
    publish(&mut client, "up/1", "last", QoS::AtMostOnce, false);
    wait_for_payload(&remote, "last");
    assert_eq!(arrived(&remote).iter().filter(|(_, qos, _)| *qos == 1).count(), 20);
}

#[test]
fn server_keep_alive_is_kept() {
    let remote = Scripted::v5(&[0x13, 0, 1]);
    let viaduct = bridged(&remote, "keepalive = \"60s\"");
    remote.wait_for("a ping long before 60 s are over", |heard| *heard == Heard::Ping);
    assert_lowered(&viaduct, "keep_alive", 1.0);
    viaduct.wait_for_log(&["the remote limits what it takes", "a keep alive of 1 s"]);
}

#[test]
fn session_expiry_and_client_id_of_the_remote_are_said() {
    let remote = Scripted::v5(&[0x11, 0, 0, 0, 60, 0x12, 0, 3, b'x', b'y', b'z']);
    let viaduct = Broker::start(
        &config(&remote, "clean_session = true\nsession_expiry = \"1h\"\nnotifications = false")
            .replace("client_id = \"edge\"", "client_id = \"\""),
    );
    viaduct.wait_for_log(&["a session that it keeps for 60 s", "the ClientID \"xyz\", which it chose"]);
    assert_lowered(&viaduct, "session_expiry", 1.0);
    assert_lowered(&viaduct, "client_id", 1.0);
}

#[test]
fn topic_aliases_are_used_only_as_far_as_the_remote_takes_them() {
    for (properties, highest) in [(&[][..], None), (&[0x22, 0, 2][..], Some(2))] {
        let remote = Scripted::v5(properties);
        let viaduct = bridged(&remote, "notifications = false");
        let mut client = publisher(&viaduct);
        for round in 0..3 {
            for topic in ["up/a", "up/b", "up/c"] {
                publish(&mut client, topic, &format!("{round} {topic}"), QoS::AtLeastOnce, false);
            }
        }
        wait_for_payload(&remote, "2 up/c");
        let aliases = remote.heard().into_iter().filter_map(|heard| match heard {
            Heard::Publish { alias, .. } => alias,
            _ => None,
        });
        assert_eq!(aliases.max(), highest);
    }
}

#[test]
fn subscriptions_that_are_not_available_are_not_asked_for() {
    let remote = Scripted::v5(&[0x28, 0, 0x29, 0, 0x2a, 0]);
    let viaduct = bridged(&remote, "");
    assert_lowered(&viaduct, "subscription", 1.0);
    viaduct.wait_for_log(&["refuses the subscription to down/#", "ildcard"]);
    publish(&mut publisher(&viaduct), "up/1", "carried", QoS::AtLeastOnce, false);
    wait_for_payload(&remote, "carried");
    assert!(!remote.heard().iter().any(|heard| matches!(heard, Heard::Subscribe(_))));
}

#[test]
fn a_subscription_that_is_granted_with_less_is_counted() {
    // (what SUBACK says, what is counted)
    for (reason, what) in [(1, "subscription_qos"), (0x87, "subscription")] {
        let remote = Scripted::new(move |heard, _| match heard {
            Heard::Subscribe(_) => Reply::Grant(reason),
            _ => Reply::Usual,
        });
        let viaduct = bridged(&remote, "");
        assert_lowered(&viaduct, what, 1.0);
        assert_never_kicked(&viaduct);
    }
}

#[test]
fn what_the_remote_limits_is_said_once_and_not_at_every_link() {
    let remote = Scripted::v5(&[0x24, 1]);
    let viaduct = bridged(&remote, "");
    for links in 2..4 {
        remote.cut();
        let connected = [("bridge", "b"), ("result", "connected")];
        viaduct.wait_for_metric("viaduct_bridge_connects_total", &connected, |n| n >= f64::from(links));
    }
    assert_eq!(lines(&viaduct, "the remote limits what it takes"), 1);
}

// ---- what a 3.x remote cannot announce ----

/// A remote that ends the link when it gets what `bad` says, on the way to a bridge with these settings, which has to work.
#[track_caller]
fn bridged_past(bad: impl Fn(&Heard) -> bool + Send + Sync + 'static, settings: &str) -> (Scripted, Broker) {
    let remote = Scripted::v311(move |heard| if bad(heard) { Reply::Kick(Vec::new()) } else { Reply::Usual });
    let viaduct = bridged(&remote, settings);
    (remote, viaduct)
}

#[test]
fn a_remote_without_retain_gets_none_nor_a_retained_will() {
    let retained = |heard: &Heard| match heard {
        Heard::Connect { will, .. } => will.as_ref().is_some_and(|(_, _, retain)| *retain),
        Heard::Publish { retain, .. } => *retain,
        _ => false,
    };
    let (remote, viaduct) = bridged_past(retained, "remote = { retain = false }");
    publish(&mut publisher(&viaduct), "up/1", "kept", QoS::AtLeastOnce, true);
    wait_for_payload(&remote, "kept");
    assert_lowered(&viaduct, "retain", 1.0);
    assert_never_kicked(&viaduct);
}

#[test]
fn a_remote_without_qos_2_is_asked_for_none_and_gets_none() {
    let second = |heard: &Heard| match heard {
        Heard::Connect { will, .. } => will.as_ref().is_some_and(|(_, qos, _)| *qos > 1),
        Heard::Publish { qos, .. } => *qos > 1,
        Heard::Subscribe(filters) => filters.iter().any(|(_, qos)| *qos > 1),
        _ => false,
    };
    let (remote, viaduct) = bridged_past(second, "remote = { max_qos = 1 }");
    publish(&mut publisher(&viaduct), "up/1", "two", QoS::ExactlyOnce, false);
    wait_for_payload(&remote, "two");
    assert_eq!(arrived(&remote), [("two".to_owned(), 1, false)]);
    assert_lowered(&viaduct, "qos", 1.0);
    remote.wait_for("SUBSCRIBE", |heard| *heard == Heard::Subscribe(vec![("down/#".into(), 1)]));
    assert_never_kicked(&viaduct);
    // Nor does a check of the bridge fail where the bridge does not.
    let file = viaduct.config_path();
    let checked = run_viaduct(&["bridge", "check", "b", "--config", file.to_str().unwrap()], "");
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn a_remote_without_dollar_topics_gets_none() {
    let dollar = |heard: &Heard| match heard {
        Heard::Connect { will, .. } => will.as_ref().is_some_and(|(topic, ..)| topic.starts_with('$')),
        Heard::Publish { topic, .. } => topic.starts_with('$'),
        Heard::Subscribe(filters) => filters.iter().any(|(filter, _)| filter.starts_with('$')),
        _ => false,
    };
    let rule = "[[bridge.topic]]\nfilter = \"#\"\ndirection = \"out\"\nlocal_prefix = \"plain/\"\n";
    let remote = Scripted::v311(move |heard| if dollar(heard) { Reply::Kick(Vec::new()) } else { Reply::Usual });
    let viaduct = Broker::start(&format!("{}{rule}", config(&remote, "remote = { dollar_topics = false }")));
    viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 1.0);
    let mut client = publisher(&viaduct);
    for text in ["one", "another"] {
        publish(&mut client, "plain/$aws/x", text, QoS::AtLeastOnce, false);
    }
    publish(&mut client, "up/1", "carried", QoS::AtLeastOnce, false);
    wait_for_payload(&remote, "carried");
    assert_dropped(&viaduct, "topic_not_taken", 2.0);
    assert_lowered(&viaduct, "notification", 1.0);
    assert_eq!(lines(&viaduct, "has a topic that the remote does not take"), 1);
    assert_never_kicked(&viaduct);
    // Here the state is told all the same.
    client.subscribe("$SYS/broker/connection/edge/state", QoS::AtLeastOnce);
    assert_eq!(client.message().text(), "1");
}

#[test]
fn a_remote_with_short_topics_gets_no_long_and_no_deep_ones() {
    let bad = |heard: &Heard| matches!(heard, Heard::Publish { topic, .. } if topic.len() > 20 || topic.split('/').count() > 4);
    let settings = "notifications = false\nremote = { max_topic_bytes = 20, max_topic_levels = 4 }";
    let (remote, viaduct) = bridged_past(bad, settings);
    let mut client = publisher(&viaduct);
    for topic in ["up/2/3/4/5", "up/a-very-long-name-indeed", "up/2/3/4"] {
        publish(&mut client, topic, topic, QoS::AtLeastOnce, false);
    }
    wait_for_payload(&remote, "up/2/3/4");
    assert_eq!(arrived(&remote).len(), 1);
    assert_dropped(&viaduct, "topic_not_taken", 2.0);
    assert_never_kicked(&viaduct);
}

#[test]
fn a_remote_with_a_packet_limit_gets_no_larger_packet() {
    let bad = |heard: &Heard| matches!(heard, Heard::Publish { size, .. } if *size > 128);
    let (remote, viaduct) = bridged_past(bad, "remote = { max_packet_size = 128 }");
    let mut client = publisher(&viaduct);
    publish(&mut client, "up/1", &"x".repeat(128), QoS::AtLeastOnce, false);
    publish(&mut client, "up/1", &"x".repeat(128), QoS::AtMostOnce, false);
    publish(&mut client, "up/1", "fits", QoS::AtLeastOnce, false);
    wait_for_payload(&remote, "fits");
    assert_dropped(&viaduct, "too_large", 2.0);
    assert_never_kicked(&viaduct);
}

#[test]
fn a_remote_that_takes_few_filters_at_a_time_is_asked_in_turns() {
    let bad = |heard: &Heard| matches!(heard, Heard::Subscribe(filters) if filters.len() > 2);
    let rules: String =
        (0..6).map(|n| format!("[[bridge.topic]]\nfilter = \"in/{n}\"\ndirection = \"in\"\n")).collect();
    let remote = Scripted::v311(move |heard| if bad(heard) { Reply::Kick(Vec::new()) } else { Reply::Usual });
    let viaduct = Broker::start(&format!("{}{rules}", config(&remote, "remote = { filters_per_packet = 2 }")));
    let asked = || {
        let heard = remote.heard();
        heard.iter().filter(|heard| matches!(heard, Heard::Subscribe(_))).count()
    };
    eventually("seven filters in four packets", || asked() == 4);
    assert_never_kicked(&viaduct);
}

#[test]
fn a_remote_that_kicks_on_unsubscribe_is_sent_none_when_rules_go() {
    let (remote, mut viaduct) =
        bridged_past(|heard| matches!(heard, Heard::Unsubscribe(_)), "remote = { unsubscribe = false }");
    let other = config(&remote, "remote = { unsubscribe = false }").replace("down/#", "below/#");
    viaduct.write_config(&other);
    viaduct.signal(Signal::Hup);
    remote.wait_for("the new filter", |heard| *heard == Heard::Subscribe(vec![("below/#".into(), 2)]));
    assert_lowered(&viaduct, "unsubscribe", 1.0);
    viaduct.wait_for_log(&["goes on sending down/#"]);
    // What still comes is taken off its hands, and counted.
    remote.say(&[0x32, 12, 0, 6, b'd', b'o', b'w', b'n', b'/', b'1', 0, 9, b'x', b'y']);
    assert_dropped(&viaduct, "unmatched", 1.0);
    publish(&mut publisher(&viaduct), "up/1", "still up", QoS::AtLeastOnce, false);
    wait_for_payload(&remote, "still up");
    viaduct.stop();
    assert!(!remote.heard().iter().any(|heard| matches!(heard, Heard::Unsubscribe(_))));
}

// ---- a ClientID that somebody else uses ----

/// The time between CONNECTs at the level that is taken.
fn waits(remote: &Scripted) -> Vec<Duration> {
    let is_taken = |heard: &Heard| matches!(heard, Heard::Connect { level: 4 | 5, .. });
    let refused = remote.heard().iter().any(|heard| matches!(heard, Heard::Connect { level: 4, .. }));
    let connects = remote.notes().into_iter().filter(|note| is_taken(&note.heard)).skip(usize::from(refused));
    let times: Vec<_> = connects.map(|note| note.at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[track_caller]
fn assert_waits_grow(remote: &Scripted) {
    eventually("six links", || waits(remote).len() >= 5);
    let waits = waits(remote);
    // Between 50 ms and 2 s, doubled: each is at least half of the step before it was doubled.
    assert!(waits[4] >= 4 * Duration::from_millis(100), "they do not grow: {waits:?}");
}

#[test]
fn a_client_id_that_another_client_takes_is_said_and_the_waits_grow() {
    let remote = Scripted::new(|heard, _| match heard {
        Heard::Subscribe(_) => Reply::Kick(vec![0xe0, 2, 0x8e, 0]),
        _ => Reply::Usual,
    });
    let viaduct = Broker::start(&config(&remote, ""));
    viaduct
        .wait_for_log(&["taken over: another client connected with our ClientID \"edge\"", "make `client_id` unique"]);
    viaduct.wait_for_log(&["ClientID \"edge\", 3 times in a row"]);
    assert_waits_grow(&remote);
    let taken = [("bridge", "b"), ("result", "taken_over")];
    viaduct.wait_for_metric("viaduct_bridge_connects_total", &taken, |n| n >= 5.0);
}

#[test]
fn a_remote_that_closes_each_link_soon_is_said_to_do_so() {
    let remote = Scripted::v311(|heard| match heard {
        Heard::Subscribe(_) => Reply::Kick(Vec::new()),
        _ => Reply::Usual,
    });
    let viaduct = Broker::start(&config(&remote, ""));
    let line = viaduct.wait_for_log(&["closes the link soon after, 3 times in a row"]);
    assert!(line.contains("another client may use our ClientID \"edge\""), "{line}");
    assert_waits_grow(&remote);
    let kicked = [("bridge", "b"), ("result", "kicked")];
    viaduct.wait_for_metric("viaduct_bridge_connects_total", &kicked, |n| n >= 3.0);
}
