//! Cuts at every byte: nothing is lost or out of order at QoS 1 and 2, and nothing doubled at QoS 2 while both sessions live.

use std::time::Duration;

use proptest::prelude::*;
use viaduct_bridge::Protocol;
use viaduct_codec::{Level, Message, PacketType, QoS};

use crate::rig::{Rig, message, two_way};

/// One thing that happens in a run.
#[derive(Clone, Debug)]
enum Act {
    /// So many messages behind each other.
    Out(QoS, u32),
    In(QoS, u32),
    /// The link carries so many bytes more.
    CutAfter(usize),
    /// The engine ends the local connection.
    Kick,
    /// The bridge's own broker ends, with whatever was on its way, and comes back.
    Restart,
    Pass(u64),
    Away(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let qos = || prop_oneof![Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
    let act = prop_oneof![
        6 => (qos(), 1..5_u32).prop_map(|(qos, count)| Act::Out(qos, count)),
        6 => (qos(), 1..5_u32).prop_map(|(qos, count)| Act::In(qos, count)),
        3 => (1..400_usize).prop_map(Act::CutAfter),
        1 => Just(Act::Kick),
        1 => Just(Act::Restart),
        3 => (1..5_000_u64).prop_map(Act::Pass),
        1 => any::<bool>().prop_map(Act::Away),
    ];
    prop::collection::vec(act, 1..80)
}

struct Sent {
    out: Vec<String>,
    inward: Vec<String>,
}

fn run(rig: &mut Rig, acts: &[Act]) -> Sent {
    let mut sent = Sent { out: Vec::new(), inward: Vec::new() };
    for (number, act) in acts.iter().enumerate() {
        let payloads = |qos: QoS, count| (0..count).map(move |place| format!("{}-{number}-{place}", qos.bits()));
        match *act {
            Act::Out(qos, count) => {
                for payload in payloads(qos, count) {
                    rig.local.publish(rig.now, &message("up/1", &payload, qos));
                    sent.out.push(payload);
                }
            }
            Act::In(qos, count) => {
                // The remote's other clients: what they publish while its session is gone is not ours.
                if rig.remote.has_session && rig.remote.filters.contains_key("down/#") {
                    for payload in payloads(qos, count) {
                        rig.remote.publish(rig.now, &message("down/1", &payload, qos));
                        sent.inward.push(payload);
                    }
                }
            }
            Act::CutAfter(bytes) => rig.budget = Some(bytes),
            Act::Kick => rig.kick(),
            Act::Restart => rig.restart(),
            Act::Pass(millis) => rig.pass(Duration::from_millis(millis)),
            Act::Away(away) => rig.reachable = !away,
        }
    }
    rig.reachable = true;
    rig.budget = None;
    for _ in 0..5 {
        rig.pass(Duration::from_secs(120));
    }
    sent
}

/// Everything arrived, and what arrived first is in order, for each QoS.
fn check(sent: &[String], received: &[Message], exactly_once: bool) -> Result<(), TestCaseError> {
    for qos in ["1-", "2-"] {
        check_qos(qos, sent, received, exactly_once, true)?;
    }
    Ok(())
}

fn check_qos(
    qos: &str,
    sent: &[String],
    received: &[Message],
    exactly_once: bool,
    in_order: bool,
) -> Result<(), TestCaseError> {
    let mut wanted: Vec<_> = sent.iter().filter(|payload| payload.starts_with(qos)).cloned().collect();
    let all = received.iter().map(|message| String::from_utf8(message.payload.to_vec()).unwrap());
    let all: Vec<_> = all.filter(|payload| payload.starts_with(qos)).collect();
    let mut first = Vec::new();
    for payload in &all {
        if !first.contains(payload) {
            first.push(payload.clone());
        }
    }
    if !in_order {
        first.sort_unstable();
        wanted.sort_unstable();
    }
    prop_assert_eq!(&first, &wanted);
    if exactly_once && qos == "2-" {
        prop_assert_eq!(&all, &wanted, "doubled");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn with_the_remote_session_kept(
        acts in acts(),
        level in prop::sample::select(&Level::ALL[..]),
        window in 1..25_u16,
        waits_for_pubrel: bool,
    ) {
        let mut settings = two_way();
        settings.protocol = Protocol::Fixed(level.version());
        settings.try_private = level.is_bridge();
        settings.max_inflight = window;
        let mut rig = Rig::new(settings);
        rig.remote.waits_for_pubrel = waits_for_pubrel;
        let sent = run(&mut rig, &acts);
        check(&sent.out, &rig.remote.received, true)?;
        check(&sent.inward, &rig.local.received, true)?;
        prop_assert_eq!(rig.local.session.inflight() + rig.remote.session.inflight(), 0);
        let stats = rig.bridge.stats();
        prop_assert_eq!((stats.unacknowledged_out, stats.unacknowledged_in), (0, 0));
    }

    #[test]
    fn with_the_remote_session_lost_at_each_cut(
        acts in acts(),
        level in prop::sample::select(&[Level::V311, Level::V311_BRIDGE, Level::V5][..]),
        waits_for_pubrel: bool,
    ) {
        let mut settings = two_way();
        settings.protocol = Protocol::Fixed(level.version());
        settings.try_private = level.is_bridge();
        let mut rig = Rig::new(settings);
        rig.keeps_session = false;
        rig.remote.waits_for_pubrel = waits_for_pubrel;
        let sent = run(&mut rig, &acts);
        // What the remote had taken and lost, and this bridge knows nothing of, comes when this broker sends it again.
        let in_order = !acts.iter().any(|act| matches!(act, Act::Restart));
        check_qos("1-", &sent.out, &rig.remote.received, false, true)?;
        check_qos("2-", &sent.out, &rig.remote.received, false, in_order)?;
        prop_assert_eq!(rig.local.session.inflight(), 0);
        prop_assert_eq!(rig.bridge.stats().unacknowledged_out, 0);
    }

    #[test]
    fn with_clean_sessions(acts in acts(), level in prop::sample::select(&[Level::V31, Level::V311, Level::V5][..])) {
        let mut settings = two_way();
        settings.protocol = Protocol::Fixed(level.version());
        settings.try_private = false;
        settings.clean_session = true;
        let mut rig = Rig::new(settings);
        let sent = run(&mut rig, &acts);
        check(&sent.out, &rig.remote.received, false)?;
        prop_assert_eq!(rig.bridge.stats().unacknowledged_out, 0);
    }
}

/// The remote takes and never answers: how many QoS 1 and 2 messages are open on one connection.
#[test]
fn never_more_than_twenty_are_open_at_a_3_1_1_remote_resends_included() {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(viaduct_codec::Version::V311);
    let mut rig = Rig::unstarted(settings);
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.settle();
    for number in 0..200 {
        let qos = if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        rig.local.publish(rig.now, &message("up/1", &number.to_string(), qos));
    }
    let mut before: Vec<Vec<u8>> = Vec::new();
    for round in 0..5 {
        rig.settle();
        // In a session that was there before it, it would ask first which identifiers are free.
        rig.say(&[0x20, 2, u8::from(round > 0), 0]);
        let open: Vec<_> = rig.heard().into_iter().filter(|(kind, ..)| *kind == PacketType::Publish).collect();
        assert_eq!(open.len(), 20, "round {round}");
        assert!(open.iter().all(|(_, flags, _)| (flags & 8 != 0) == (round > 0)), "DUP from the second round on");
        let bodies: Vec<_> = open.into_iter().map(|(_, _, body)| body).collect();
        assert!(round == 0 || bodies == before, "the same messages in the same order");
        before = bodies;
        rig.connected = false;
        rig.bridge.handle_remote_closed(rig.now, "closed");
        let wait = rig.bridge.next_timeout().unwrap();
        rig.now = wait;
        rig.bridge.handle_timeout(wait);
    }
    // One is answered: one more may go.
    rig.settle();
    rig.say(&[0x20, 2, 1, 0]);
    rig.heard();
    let id = [before[0][6], before[0][7]];
    rig.say(&[0x40, 2, id[0], id[1]]);
    let next: Vec<_> = rig.heard().into_iter().filter(|(kind, ..)| *kind == PacketType::Publish).collect();
    assert_eq!(next.len(), 1);
    assert!(next[0].2.ends_with(b"20"));
}

#[test]
fn a_smaller_receive_maximum_of_a_5_0_remote_is_kept() {
    let mut settings = two_way();
    settings.protocol = Protocol::Fixed(viaduct_codec::Version::V5);
    let mut rig = Rig::unstarted(settings);
    rig.by_hand = true;
    rig.bridge.start(rig.now);
    rig.settle();
    for number in 0..10 {
        rig.local.publish(rig.now, &message("up/1", &number.to_string(), QoS::AtLeastOnce));
    }
    rig.settle();
    rig.say(&[0x20, 6, 0, 0, 3, 0x21, 0, 3]);
    let open = rig.heard().into_iter().filter(|(kind, ..)| *kind == PacketType::Publish);
    assert_eq!(open.count(), 3);
}
