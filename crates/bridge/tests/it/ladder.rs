//! Which level is offered to which address, and when.

use std::time::Duration;

use viaduct_bridge::{DialError, Error, Event, Lowered, Phase, Probe, Protocol, StepDown, TlsFailure};
use viaduct_codec::{Level, QoS, Version};

use crate::rig::{Answer, Rig, address, message, two_way};

const MINUTE: Duration = Duration::from_secs(60);

fn levels(bytes: &[u8]) -> Vec<Level> {
    bytes.iter().map(|byte| Level::new(*byte).unwrap()).collect()
}

/// A remote that answers each level as `answer` says, and the truth where it says nothing.
fn facing(answer: Answer) -> Rig {
    let mut rig = Rig::unstarted(two_way());
    rig.remote.answer = Some(answer);
    rig.bridge.start(rig.now);
    rig.settle();
    rig
}

#[test]
fn the_best_level_that_the_listener_allows_is_found_at_once() {
    // (allowed, offered in this order)
    let table: [(&[u8], &[u8]); 8] = [
        (&[3, 4, 5, 131, 132], &[5]),
        (&[5], &[5]),
        (&[3, 4, 5, 131], &[5]),
        (&[3, 4, 131], &[5, 132, 4]),
        (&[4], &[5, 132, 4]),
        (&[132], &[5, 132]),
        (&[131], &[5, 132, 4, 131]),
        (&[3], &[5, 132, 4, 131, 3]),
    ];
    for (allowed, offered) in table {
        let mut rig = Rig::unstarted(two_way());
        rig.remote.terms.allowed_levels = levels(allowed);
        rig.bridge.start(rig.now);
        rig.settle();
        assert_eq!(rig.remote.offered, offered, "allowed {allowed:?}");
        assert!(rig.bridge.is_up());
        let stats = rig.bridge.stats();
        assert_eq!(stats.lowered_in(Lowered::Level), offered.len() as u64 - 1);
        let left: Vec<u8> = stats.left.iter().map(|(level, _)| level.byte()).collect();
        assert_eq!(left, offered[..offered.len() - 1], "what was left for it is known as long as it is spoken");
        let lines = rig.lines();
        for (pair, line) in offered.windows(2).zip(&lines) {
            let expected = format!("at level {}, trying {}", pair[0], pair[1]);
            let number = if pair[0] == 5 { "0x84" } else { "return code 1" };
            assert!(
                line.contains("peer refused the level") && line.contains(number) && line.contains(&expected),
                "{line}"
            );
        }
    }
}

#[test]
fn private_levels_are_offered_only_when_they_may_be() {
    let mut settings = two_way();
    settings.try_private = false;
    let mut rig = Rig::unstarted(settings);
    rig.remote.terms.allowed_levels = levels(&[3, 131, 132]);
    rig.bridge.start(rig.now);
    rig.settle();
    assert_eq!(rig.remote.offered, [5, 4, 3]);
}

#[test]
fn a_fixed_version_is_tried_private_first() {
    for (version, offered) in [(Version::V311, [132, 4]), (Version::V31, [131, 3])] {
        let mut settings = two_way();
        settings.protocol = Protocol::Fixed(version);
        let mut rig = Rig::unstarted(settings);
        rig.remote.terms.allowed_levels = levels(&[3, 4, 5]);
        rig.bridge.start(rig.now);
        rig.settle();
        assert_eq!(rig.remote.offered, offered);
        assert!(rig.bridge.is_up());
    }
}

#[test]
fn a_peer_that_closes_on_a_level_is_offered_the_next_with_one_line_that_says_why() {
    let rig = facing(|level| (level == 5 || level == 132).then_some(&[][..]));
    assert_eq!(rig.remote.offered, [5, 132, 4]);
    assert_eq!(
        rig.lines()[..2],
        [
            "mqtt://hub:1883: peer closed the connection before CONNACK at level 5, trying 132",
            "mqtt://hub:1883: peer closed the connection before CONNACK at level 132, trying 4",
        ]
    );
    assert!(rig.bridge.is_up());
}

#[test]
fn refusals_in_the_form_of_another_version_are_understood() {
    let rig = facing(|level| match level {
        5 => Some(&[0x20, 2, 0, 1]),
        132 => Some(&[0x20, 3, 0, 0x84, 0]),
        4 => Some(&[0x20, 2, 0, 9]), // no such return code
        131 => Some(&[0x20, 2, 0, 1]),
        _ => None,
    });
    assert_eq!(rig.remote.offered, [5, 132, 4, 131, 3]);
    let why = |number: usize| match &rig.events[number] {
        Event::SteppedDown { why, .. } => *why,
        other => panic!("{other}"),
    };
    assert!(matches!(why(0), StepDown::Refused(_)));
    assert!(matches!(why(1), StepDown::Refused(_)));
    let said = why(2).to_string();
    assert!(matches!(why(2), StepDown::Malformed(_)) && said.contains("CONNACK: return code"), "{said}");
    assert!(rig.bridge.is_up());
}

#[test]
fn a_3x_broker_that_speaks_of_something_else_to_a_5_0_connect_is_asked_in_its_own_version() {
    let rig = facing(|level| (level == 5).then_some(&[0x20, 2, 0, 5]));
    assert_eq!(rig.remote.offered, [5, 132]);
}

#[test]
fn a_peer_that_refuses_everything_gets_one_round_and_is_then_left_alone_for_a_while() {
    let table: [(Answer, &str); 4] = [
        (|_| Some(&[]), "level_refused"),
        (|_| Some(b"\xff\xff\xff\xff noise"), "not_mqtt"),
        (|level| if level == 5 { Some(&[0x20, 3, 0, 0x84, 0]) } else { Some(&[0x20, 2, 0, 1]) }, "level_refused"),
        (|_| Some(&[0x20, 2, 0, 77]), "level_refused"),
    ];
    for (answer, label) in table {
        let mut rig = facing(answer);
        assert_eq!(rig.remote.offered, [5, 132, 4, 131, 3], "{label}");
        assert_eq!(rig.last_error(), label);
        assert!(rig.bridge.next_timeout().unwrap() >= rig.now.after(Duration::from_secs(1)));
        rig.pass(Duration::from_secs(2));
        assert_eq!(rig.remote.offered, [5, 132, 4, 131, 3].repeat(2));
        rig.pass(60 * MINUTE);
        let rounds = rig.remote.offered.len() / 5;
        assert!((60..=130).contains(&rounds), "{rounds} rounds in an hour");
        rig.remote.answer = None;
        rig.pass(2 * MINUTE);
        assert!(rig.bridge.is_up());
        assert_eq!(rig.remote.level, Some(Level::V5), "a new round begins at the top");
    }
}

#[test]
fn what_is_no_broker_is_named_and_not_asked_at_every_level() {
    let http: Answer = |_| Some(b"HTTP/1.1 400 Bad Request\r\n");
    let tls: Answer = |_| Some(&[0x15, 3, 1, 0, 2, 2, 70]);
    let ssh: Answer = |_| Some(b"SSH-2.0-OpenSSH_9.6\r\n");
    for (answer, words) in [(http, "HTTP response"), (tls, "TLS record"), (ssh, "SSH")] {
        let rig = facing(answer);
        assert_eq!(rig.remote.offered, [5]);
        assert_eq!(rig.last_error(), "not_mqtt");
        let line = rig.lines().pop().unwrap();
        assert!(line.contains(words) && line.contains("check port and scheme"), "{line}");
    }
}

#[test]
fn what_worked_is_remembered_until_the_bridge_is_made_anew() {
    let mut rig = Rig::unstarted(two_way());
    rig.remote.terms.allowed_levels = levels(&[3, 4]);
    rig.bridge.start(rig.now);
    rig.settle();
    rig.remote.terms.allowed_levels = Level::ALL.to_vec();
    rig.remote.offered.clear();
    for _ in 0..3 {
        rig.cut();
        rig.pass(2 * MINUTE);
    }
    assert_eq!(rig.remote.offered, [4, 4, 4]);
}

#[test]
fn failures_of_the_network_say_nothing_about_levels() {
    for error in [
        DialError::Refused("refused".into()),
        DialError::Unresolvable("no such host".into()),
        DialError::Network("unreachable".into()),
        DialError::TimedOut(viaduct_bridge::Step::Tls),
        DialError::Tls(TlsFailure::UnknownIssuer),
    ] {
        let mut rig = Rig::unstarted(two_way());
        rig.silent = true;
        rig.bridge.start(rig.now);
        for _ in 0..10 {
            rig.settle();
            rig.bridge.handle_dial_failed(rig.now, rig.attempt, error.clone());
            rig.pass(MINUTE);
        }
        assert!(rig.dials.len() >= 10);
        assert!(rig.dials.iter().all(|(_, level)| *level == 5));
    }
}

#[test]
fn a_dial_and_a_connack_that_never_come_are_given_up_after_the_timeout() {
    let mut rig = Rig::unstarted(two_way());
    rig.silent = true;
    rig.bridge.start(rig.now);
    // Name, TCP, proxy, TLS and WebSocket may take 10 s each.
    rig.pass(Duration::from_secs(49));
    assert_eq!(rig.last_error(), "none");
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.last_error(), "timed_out");
    // The dial that was given up ends after all: nobody waits for it.
    rig.bridge.handle_dialled(rig.now, 1);
    assert!(rig.bridge.remote_output().is_empty());

    let mut rig = Rig::unstarted(two_way());
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.last_error(), "timed_out");
    assert!(rig.lines()[0].contains("waiting for CONNACK"), "{:?}", rig.lines());
    rig.pass(MINUTE);
    assert!(rig.dials.iter().all(|(_, level)| *level == 5));
}

#[test]
fn the_next_address_is_tried_at_once_and_all_of_them_before_a_wait() {
    let mut settings = two_way();
    settings.addresses = ["one", "two", "three"].map(address).to_vec();
    let mut rig = Rig::unstarted(settings);
    rig.reachable = false;
    rig.bridge.start(rig.now);
    rig.settle();
    let hosts = |rig: &Rig| rig.dials.iter().map(|(host, _)| host.clone()).collect::<Vec<_>>();
    assert_eq!(hosts(&rig), ["one", "two", "three"]);
    rig.pass(Duration::from_secs(2));
    assert_eq!(hosts(&rig)[3..6], ["one", "two", "three"]);
    rig.reachable = true;
    rig.pass(MINUTE);
    assert!(rig.bridge.is_up());
    // A proven link that breaks: the next address at once.
    rig.pass(2 * MINUTE);
    rig.dials.clear();
    rig.cut();
    rig.settle();
    assert_eq!(hosts(&rig).len(), 1);
    assert!(rig.bridge.is_up());
}

#[test]
fn peers_that_accept_and_throw_us_out_are_not_hammered() {
    let mut settings = two_way();
    settings.addresses = ["one", "two"].map(address).to_vec();
    let mut rig = Rig::new(settings);
    let begin = rig.now;
    let mut cuts = 0;
    while rig.now < begin.after(60 * MINUTE) {
        rig.pass(Duration::from_millis(100));
        if rig.bridge.is_up() {
            rig.cut();
            cuts += 1;
        }
    }
    assert!((100..300).contains(&cuts), "{cuts} in an hour");
}

#[test]
fn a_link_that_held_for_a_minute_makes_the_next_wait_short() {
    for (held, short) in [(59, false), (61, true)] {
        let mut rig = Rig::unstarted(two_way());
        rig.reachable = false;
        rig.bridge.start(rig.now);
        rig.pass(10 * MINUTE);
        rig.reachable = true;
        while !rig.bridge.is_up() {
            rig.pass(Duration::from_millis(10));
        }
        rig.pass(Duration::from_secs(held));
        rig.cut();
        rig.settle();
        let wait = rig.bridge.next_timeout().unwrap().since(rig.now);
        assert_eq!(wait <= Duration::from_secs(2), short, "{wait:?} after {held} s");
        assert!(wait <= MINUTE);
    }
}

#[test]
fn each_refusal_has_its_own_name() {
    // (return code of 3.1.1, reason code of 5.0, label)
    let table: [(u8, u8, &str); 11] = [
        (2, 0x85, "client_id_rejected"),
        (3, 0x88, "server_gone"),
        (4, 0x86, "bad_login"),
        (5, 0x87, "not_authorised"),
        (0, 0x8a, "not_authorised"),
        (0, 0x97, "quota"),
        (0, 0x9f, "quota"),
        (0, 0x95, "packet_too_large"),
        (0, 0x9c, "moved"),
        (0, 0x8c, "connect_refused"),
        (0, 0x80, "connect_refused"),
    ];
    for (code, reason, label) in table {
        let mut answers = vec![(Version::V5, vec![0x20, 3, 0, reason, 0])];
        if code > 0 {
            answers.push((Version::V311, vec![0x20, 2, 0, code]));
        }
        for (version, answer) in answers {
            let mut settings = two_way();
            settings.protocol = Protocol::Fixed(version);
            let mut rig = Rig::unstarted(settings);
            rig.by_hand = true;
            rig.bridge.start(rig.now);
            rig.settle();
            rig.say(&answer);
            assert_eq!(rig.last_error(), label, "{version} {answer:?}");
            if matches!(label, "not_authorised" | "server_gone") {
                let number = if version.is_v5() { format!("({reason:#04x})") } else { format!("(return code {code})") };
                let line = rig.lines().pop().unwrap();
                assert!(line.contains(&number), "it is named as it came: {line}");
            }
            assert_eq!(rig.bridge.stats().connects[label], 1);
            assert_eq!(rig.dials.len(), 1, "no other level would help");
        }
    }
}

#[test]
fn a_round_that_ends_tells_of_every_level() {
    let rig = facing(|_| Some(&[]));
    let Some((_, Error::LevelRefused(steps))) = rig.bridge.stats().last_error else { panic!("the last error") };
    assert_eq!(steps.len(), 5);
    let line = rig.lines().pop().unwrap();
    assert!(line.contains("level 5: peer closed") && line.contains("level 3: peer closed"), "{line}");
}

#[test]
fn the_operator_sees_where_the_link_stands_when_it_is_tried_again_and_since_when_it_fails() {
    let mut rig = Rig::unstarted(two_way());
    assert_eq!(rig.bridge.stats().phase, Phase::Stopped);
    rig.bridge.start(rig.now);
    rig.settle();
    let up = rig.bridge.stats();
    assert_eq!((up.phase, up.failing_since), (Phase::Up, None));
    assert_eq!(up.round_trip.map(|trip| trip.by), Some(Probe::Connect));
    rig.pass(2 * MINUTE);
    assert_eq!(rig.bridge.stats().round_trip.map(|trip| trip.by), Some(Probe::Ping));
    rig.local.publish(rig.now, &message("up/1", "x", QoS::AtLeastOnce));
    rig.settle();
    assert!(matches!(rig.bridge.stats().round_trip.map(|trip| trip.by), Some(Probe::Message(_))));

    rig.reachable = false;
    rig.cut();
    let cut = rig.now;
    for _ in 0..3 {
        let down = rig.bridge.stats();
        let Phase::Waiting { until } = down.phase else { panic!("{:?}", down.phase) };
        assert!(until > rig.now && down.failing_since == Some(cut), "{down:?}");
        rig.pass(until.since(rig.now));
    }
    assert_eq!(rig.bridge.stats().last_error.map(|(_, error)| error.label()), Some("refused"));
    rig.bridge.stop(rig.now, false);
    rig.settle();
    assert_eq!(rig.bridge.stats().phase, Phase::Stopped);
}
