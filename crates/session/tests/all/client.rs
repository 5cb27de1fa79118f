//! The client's end by itself, against a server that is a script.

use viaduct_codec::{FilterRef, Level, QoS, ReasonCode, SubscribeEntry, SubscribeOptions};
use viaduct_session::Violation;
use viaduct_session::client::{Client, Hello, PublishError};

use crate::broker::{message, outline};
use crate::dialer::Dialer;

const YES: &str = "20 03 00 00 00";
const YES_PRESENT: &str = "20 03 01 00 00";

fn kept(level: Level) -> Hello {
    Hello { level, client_id: "a".into(), clean_start: false, session_expiry: 300, ..Hello::default() }
}

fn entry(filter: &str, qos: QoS) -> SubscribeEntry<'_> {
    SubscribeEntry {
        filter: FilterRef::new(filter).unwrap(),
        options: SubscribeOptions { qos, ..SubscribeOptions::default() },
    }
}

#[test]
fn connect_says_what_hello_says() {
    for (level, expected) in [
        (Level::V311, "10 0d 00 04 4d 51 54 54 04 00 00 3c 00 01 61"),
        (Level::V311_BRIDGE, "10 0d 00 04 4d 51 54 54 84 00 00 3c 00 01 61"),
        (Level::V31, "10 0f 00 06 4d 51 49 73 64 70 03 00 00 3c 00 01 61"),
        (Level::V5, "10 13 00 04 4d 51 54 54 05 00 00 3c 05 11 00 00 01 2c 00 01 61"),
    ] {
        let mut dialer = Dialer::new();
        dialer.client.connect(dialer.now, &kept(level), &mut dialer.output);
        assert_eq!(dialer.sent(), expected);
    }
}

#[test]
fn nothing_is_published_before_connack() {
    let mut dialer = Dialer::new();
    assert_eq!(dialer.publish(0, "x", 1), Err(PublishError::NotConnected));
    dialer.client.connect(dialer.now, &kept(Level::V5), &mut dialer.output);
    assert_eq!(dialer.publish(1, "x", 1), Err(PublishError::NotConnected));
    assert_eq!(dialer.client.subscribe(dialer.now, &[entry("t", QoS::AtMostOnce)], None, &mut dialer.output), None);
}

#[test]
fn a_refusal_leaves_it_unconnected() {
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V311), "20 02 00 01");
    assert_eq!(dialer.events, ["connack 84 false"]);
    assert!(!dialer.client.is_connected());
}

#[test]
fn the_first_packet_is_connack_and_only_the_first() {
    let mut dialer = Dialer::new();
    dialer.client.connect(dialer.now, &kept(Level::V5), &mut dialer.output);
    assert!(matches!(dialer.try_take("d0 00"), Err(Violation::UnexpectedPacket { .. })));
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V5), YES);
    for packet in [YES, "c0 00", "10 0d 00 04 4d 51 54 54 04 00 00 3c 00 01 61", "82 07 00 01 00 00 01 74 00"] {
        assert!(matches!(dialer.try_take(packet), Err(Violation::UnexpectedPacket { .. })), "{packet}");
    }
}

#[test]
fn tokens_come_back() {
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V5), YES);
    assert_eq!(dialer.publish(0, "x", 70).unwrap(), "30 05 00 01 74 00 78");
    assert_eq!(dialer.publish(1, "x", 71).unwrap(), "32 07 00 01 74 00 01 00 78");
    assert_eq!(outline(&dialer.publish(2, "x", 72).unwrap()), ["34 2"]);
    assert_eq!(outline(&dialer.publish(2, "x", 73).unwrap()), ["34 3"]);
    assert_eq!(outline(&dialer.take("50 02 00 02  40 02 00 01  70 02 00 02  50 03 00 03 97")), ["62 2"]);
    assert_eq!(dialer.events[1..], ["received 72 00", "settled 71 00", "settled 72 00", "settled 73 97"]);
    assert_eq!(dialer.client.inflight(), 0);
}

#[test]
fn the_window_is_the_lower_of_both_wishes() {
    for (own, connack, window) in
        [(2, YES, 2), (20, "20 06 00 00 03 21 00 03", 3), (2, "20 06 00 00 03 21 00 03", 2), (0, YES, 1)]
    {
        let mut dialer = Dialer::new();
        dialer.connect(&Hello { max_inflight: own, ..kept(Level::V5) }, connack);
        for token in 0..window {
            assert!(dialer.client.has_window());
            dialer.publish(1, "x", token).unwrap();
        }
        assert_eq!(dialer.publish(1, "x", 9), Err(PublishError::WindowFull));
        assert!(dialer.publish(0, "x", 9).is_ok(), "QoS 0 needs no window");
        dialer.take("40 02 00 01");
        assert!(dialer.publish(1, "x", 9).is_ok());
    }
}

#[test]
fn what_was_open_comes_again_in_order_within_the_window_and_before_anything_new() {
    // what mosquitto's bridges get wrong
    for (level, yes) in [(Level::V5, YES_PRESENT), (Level::V311, "20 02 01 00"), (Level::V31, "20 02 00 00")] {
        let mut dialer = Dialer::new();
        let no = if level == Level::V5 { YES } else { "20 02 00 00" };
        dialer.connect(&Hello { max_inflight: 4, ..kept(level) }, no);
        for (qos, token) in [(1, 0), (2, 1), (2, 2), (1, 3)] {
            dialer.publish(qos, "x", token).unwrap();
        }
        dialer.take("50 02 00 02");
        dialer.client.detach();
        let hello = Hello { max_inflight: 2, ..kept(level) };
        assert_eq!(outline(&dialer.connect(&hello, yes)), ["3a 1", "62 2"], "{level}");
        assert_eq!(dialer.publish(1, "new", 4), Err(PublishError::WindowFull));
        assert_eq!(outline(&dialer.take("40 02 00 01")), ["3c 3"]);
        assert_eq!(outline(&dialer.take("70 02 00 02")), ["3a 4"]);
        dialer.take("40 02 00 04");
        assert_eq!(outline(&dialer.publish(1, "new", 4).unwrap()), ["32 5"]);
    }
}

#[test]
fn nothing_new_overtakes_what_comes_again_when_the_output_is_full() {
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V5), YES);
    let large = "x".repeat(150_000);
    for token in 0..4 {
        dialer.publish(1, &large, token).unwrap();
    }
    dialer.client.detach();
    let again = outline(&dialer.connect(&kept(Level::V5), YES_PRESENT));
    assert_eq!(again, ["3a 1", "3a 2"], "the rest waits for answers rather than for memory");
    assert_eq!(dialer.publish(1, "new", 9), Err(PublishError::WindowFull));
    assert_eq!(outline(&dialer.take("40 02 00 01")), ["3a 3", "3a 4"]);
    assert_eq!(outline(&dialer.publish(1, "new", 9).unwrap()), ["32 5"]);
}

#[test]
fn a_lost_session_gives_back_what_was_open() {
    // MQTT-3.2.2-5
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V5), YES);
    for (qos, token) in [(1, 0), (2, 1), (2, 2)] {
        dialer.publish(qos, "x", token).unwrap();
    }
    dialer.take("50 02 00 02");
    dialer.client.detach();
    assert_eq!(dialer.connect(&kept(Level::V5), YES), "", "nothing comes again in a new session");
    assert_eq!(dialer.publish(1, "early", 9), Err(PublishError::NotConnected));
    let forgotten: Vec<_> = dialer.client.forget().into_iter().map(|lost| (lost.token, lost.received)).collect();
    assert_eq!(forgotten, [(0, false), (1, true), (2, false)]);
    assert_eq!(dialer.client.inflight(), 0);
    assert!(dialer.publish(1, "again", 0).unwrap().starts_with("32"));
}

#[test]
fn session_present_after_a_clean_start_is_the_servers_mistake() {
    // MQTT-3.2.2-4
    let mut dialer = Dialer::new();
    let hello = Hello { clean_start: true, ..kept(Level::V5) };
    dialer.client.connect(dialer.now, &hello, &mut dialer.output);
    let error = dialer.try_take(YES_PRESENT).unwrap_err();
    assert_eq!(error.reason(), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn messages_are_acknowledged_when_the_owner_says_so() {
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V5), YES);
    assert_eq!(dialer.take("32 07 00 01 74 00 0a 00 78  34 07 00 01 74 00 0b 00 78"), "");
    let (one, two) = (viaduct_codec::PacketId::new(10).unwrap(), viaduct_codec::PacketId::new(11).unwrap());
    dialer.client.acknowledge(one, QoS::AtLeastOnce, ReasonCode::SUCCESS, &mut dialer.output);
    dialer.client.acknowledge(two, QoS::ExactlyOnce, ReasonCode::SUCCESS, &mut dialer.output);
    assert_eq!(dialer.sent(), "40 02 00 0a 50 02 00 0b");
    assert_eq!(dialer.take("62 02 00 0b"), "70 02 00 0b");
}

#[test]
fn a_server_that_sends_more_than_was_asked_for_is_let() {
    let mut dialer = Dialer::new();
    dialer.connect(&Hello { receive_maximum: 1, ..kept(Level::V5) }, YES);
    dialer.take("32 07 00 01 74 00 0a 00 78  32 07 00 01 74 00 0b 00 78");
    assert_eq!(dialer.events.len(), 3);
}

#[test]
fn the_limits_of_the_server_are_obeyed() {
    let mut dialer = Dialer::new();
    let hello = Hello { topic_alias_maximum: 0, ..kept(Level::V5) };
    dialer.connect(&hello, "20 0b 00 00 08 27 00 00 00 14 22 00 01");
    assert_eq!(dialer.publish(1, &"x".repeat(50), 1), Err(PublishError::TooLarge));
    assert_eq!(dialer.publish(1, "x", 1).unwrap(), "32 0a 00 01 74 00 02 03 23 00 01 78");
    assert_eq!(dialer.publish(1, "x", 2).unwrap(), "32 09 00 00 00 03 03 23 00 01 78");
}

#[test]
fn subscriptions_share_the_identifiers_with_messages() {
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V311), "20 02 00 00");
    dialer.publish(1, "x", 1).unwrap();
    let id = dialer.client.subscribe(dialer.now, &[entry("a/#", QoS::AtLeastOnce)], None, &mut dialer.output).unwrap();
    assert_eq!(id.get(), 2);
    assert_eq!(dialer.sent(), "82 08 00 02 00 03 61 2f 23 01");
    assert_eq!(outline(&dialer.publish(1, "y", 2).unwrap()), ["32 3"]);
    dialer.take("90 03 00 02 01");
    let filters = [FilterRef::new("a/#").unwrap()];
    dialer.client.unsubscribe(dialer.now, &filters, &[], &mut dialer.output).unwrap();
    assert_eq!(dialer.sent(), "a2 07 00 04 00 03 61 2f 23");
    dialer.take("b0 02 00 04");
    assert_eq!(dialer.events[1..], ["suback 2", "unsuback 4"]);
}

#[test]
fn identifiers_of_unanswered_subscriptions_are_not_given_to_messages() {
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V311), "20 02 00 00");
    let asked = dialer.client.subscribe(dialer.now, &[entry("a", QoS::AtMostOnce)], None, &mut dialer.output).unwrap();
    dialer.sent();
    for token in 0..66_000 {
        let line = outline(&dialer.publish(1, "x", token).unwrap());
        let id: u32 = line[0][3..].parse().unwrap();
        assert_ne!(id, u32::from(asked.get()));
        dialer.take(&format!("40 02 {id:04x}"));
        dialer.events.clear();
    }
}

#[test]
fn silence_is_broken_by_pingreq_and_an_unanswered_one_ends_it() {
    // MQTT-3.1.2-20
    let mut dialer = Dialer::new();
    dialer.connect(&Hello { keep_alive: 30, ..kept(Level::V5) }, YES);
    assert_eq!(dialer.pass(29).unwrap(), "");
    assert_eq!(dialer.pass(1).unwrap(), "c0 00");
    dialer.take("d0 00");
    assert_eq!(dialer.pass(30).unwrap(), "c0 00");
    let error = dialer.pass(30).unwrap_err();
    assert_eq!(error.reason(), ReasonCode::KEEP_ALIVE_TIMEOUT);
}

#[test]
fn a_client_that_only_sends_finds_out_that_nobody_listens() {
    let mut dialer = Dialer::new();
    dialer.connect(&Hello { keep_alive: 30, ..kept(Level::V5) }, YES);
    let mut failed = false;
    for _ in 0..100 {
        dialer.publish(0, "x", 0).unwrap();
        failed |= dialer.pass(1).is_err();
    }
    assert!(failed, "QoS 0 into a dead connection must not go unnoticed");
}

#[test]
fn a_pingresp_behind_a_long_backlog_is_waited_for() {
    let mut dialer = Dialer::new();
    dialer.connect(&Hello { keep_alive: 30, ..kept(Level::V5) }, YES);
    dialer.pass(30).unwrap();
    for _ in 0..100 {
        dialer.pass(3).unwrap();
        dialer.take("30 05 00 01 74 00 78");
    }
}

#[test]
fn the_servers_keep_alive_replaces_its_own() {
    // MQTT-3.1.2-21
    let mut dialer = Dialer::new();
    dialer.connect(&Hello { keep_alive: 60, ..kept(Level::V5) }, "20 06 00 00 03 13 00 0a");
    assert_eq!(dialer.pass(10).unwrap(), "c0 00");
    let mut dialer = Dialer::new();
    dialer.connect(&Hello { keep_alive: 60, ..kept(Level::V5) }, "20 06 00 00 03 13 00 00");
    assert_eq!(dialer.pass(1000).unwrap(), "");
}

#[test]
fn a_will_says_all_that_it_has_and_its_delay_in_5_0() {
    let mut will = viaduct_session::server::Will { message: message("w", 1, "gone"), delay: 5 };
    will.message.retain = true;
    for (level, expected) in [
        (Level::V5, "10 1d 00 04 4d 51 54 54 05 2e 00 3c 00 00 01 61 05 18 00 00 00 05 00 01 77 00 04 67 6f 6e 65"),
        (Level::V311, "10 16 00 04 4d 51 54 54 04 2e 00 3c 00 01 61 00 01 77 00 04 67 6f 6e 65"),
    ] {
        let hello = Hello { will: Some(will.clone()), session_expiry: 0, clean_start: true, ..kept(level) };
        let mut dialer = Dialer::new();
        dialer.client.connect(dialer.now, &hello, &mut dialer.output);
        assert_eq!(dialer.sent(), expected);
    }
}

#[test]
fn a_server_disconnect_is_told_in_5_0_and_a_violation_in_3() {
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V5), YES);
    dialer.take("e0 01 8e");
    assert_eq!(dialer.events[1..], ["disconnect 8e"]);
    assert!(dialer.try_take("e0 07 00 05 11 00 00 00 0a").is_err(), "MQTT-3.14.2-2");
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V311), "20 02 00 00");
    assert!(dialer.try_take("e0 00").is_err());
}

#[test]
fn a_server_of_3_1_that_forgot_its_session_is_known_by_a_message_that_is_not_sent_again() {
    // PUBLISH with QoS 2 and identifier 7, the second with DUP 1
    let (new, again) = ("34 06 00 01 74 00 07 78", "3c 06 00 01 74 00 07 78");
    for (level, yes, is_new) in [(Level::V31, "20 02 00 00", true), (Level::V311, "20 02 01 00", false)] {
        let mut dialer = Dialer::new();
        dialer.connect(&kept(level), "20 02 00 00");
        dialer.take(new);
        let id = viaduct_codec::PacketId::new(7).unwrap();
        let answer = |dialer: &mut Dialer| {
            dialer.client.acknowledge(id, QoS::ExactlyOnce, ReasonCode::SUCCESS, &mut dialer.output);
            dialer.sent()
        };
        assert_eq!(answer(&mut dialer), "50 02 00 07");
        dialer.client.detach();
        dialer.connect(&kept(level), yes);
        assert_eq!(dialer.take(again), "50 02 00 07", "{level}: it has that one");
        dialer.client.detach();
        dialer.connect(&kept(level), yes);
        let publishes = |dialer: &Dialer| dialer.events.iter().filter(|event| *event == "publish t").count();
        let before = publishes(&dialer);
        dialer.take(new);
        assert_eq!(publishes(&dialer) - before, usize::from(is_new), "{level}");
    }
}

#[test]
fn a_message_of_an_earlier_connection_is_refused_only_when_it_comes_again() {
    let (new, again) = ("34 07 00 01 74 00 07 00 78", "3c 07 00 01 74 00 07 00 78");
    let mut dialer = Dialer::new();
    dialer.connect(&kept(Level::V5), "20 03 00 00 00");
    dialer.take(new);
    dialer.client.detach();
    dialer.connect(&kept(Level::V5), "20 03 01 00 00");
    let id = viaduct_codec::PacketId::new(7).unwrap();
    let refuse = |dialer: &mut Dialer| {
        dialer.client.acknowledge(id, QoS::ExactlyOnce, ReasonCode::QUOTA_EXCEEDED, &mut dialer.output);
        dialer.sent()
    };
    assert_eq!(refuse(&mut dialer), "", "the server has not sent it on this connection");
    assert_eq!(dialer.take(again), "", "judged anew");
    assert_eq!(refuse(&mut dialer), "50 03 00 07 97");
}

/// Frees with PUBREL (5.0 and 3.1.1 alike) those of `ids`.
fn pubrels(ids: std::ops::RangeInclusive<u16>) -> String {
    let pubrels: Vec<_> = ids.map(|id| format!("62 02 {:02x} {:02x}", id >> 8, id & 0xff)).collect();
    pubrels.join(" ")
}

fn publish_2(id: &str) -> String {
    format!("34 07 00 01 74 00 {id} 00 78")
}

/// One that lost its part of a session and has come back to it.
fn resumed(hello: &Hello, connack: &str) -> Dialer {
    let mut dialer = Dialer::new();
    dialer.client = Client::starting_after(7);
    dialer.connect(hello, connack);
    dialer
}

#[test]
fn who_has_lost_its_part_of_a_session_uses_no_identifier_at_qos_2_before_the_server_says_that_it_is_free() {
    let mut dialer = resumed(&kept(Level::V5), YES_PRESENT);
    assert_eq!(dialer.publish(2, "x", 1), Err(PublishError::WindowFull));
    assert_eq!(dialer.sent(), pubrels(8..=71));
    assert_eq!(dialer.publish(2, "x", 1), Err(PublishError::WindowFull));
    assert_eq!(dialer.sent(), "", "it was asked for");
    // The server held the one, and not the other.
    assert_eq!(dialer.take("70 02 00 08 70 03 00 09 92"), "");
    assert_eq!(dialer.publish(2, "x", 1).unwrap(), publish_2("08"));
    assert_eq!(dialer.publish(2, "x", 2).unwrap(), publish_2("09"));
    assert_eq!(dialer.publish(2, "x", 3), Err(PublishError::WindowFull));
    assert_eq!(dialer.take("50 02 00 08"), "62 02 00 08");
    dialer.take("70 02 00 08 50 02 00 09 70 02 00 09");
    let settled = ["freed", "freed", "received 1 00", "settled 1 00", "received 2 00", "settled 2 00"];
    assert_eq!(dialer.events[1..], settled);
    // QoS 1 has nothing that could be held.
    assert_eq!(dialer.publish(1, "x", 3).unwrap(), publish_2("0a").replacen("34", "32", 1));
    dialer.take("40 02 00 0a");
    // What was freed once is free.
    for _ in 0..65_532 {
        let sent = dialer.publish(1, "x", 4).unwrap();
        dialer.take(&format!("40 02 {}", &sent[15..20]));
    }
    assert_eq!(dialer.publish(2, "x", 5).unwrap(), publish_2("08"));
}

#[test]
fn a_connection_that_was_cut_before_an_identifier_was_known_to_be_free_has_freed_none() {
    let mut dialer = resumed(&kept(Level::V5), YES_PRESENT);
    assert!(dialer.publish(2, "x", 1).is_err());
    assert_eq!(dialer.sent(), pubrels(8..=71));
    dialer.take("70 02 00 09");
    dialer.client.detach();
    // PUBREL may not have arrived, and a PUBLISH behind it would have been the old one again on this connection.
    assert_eq!(dialer.connect(&kept(Level::V5), YES_PRESENT), "");
    assert!(dialer.publish(2, "x", 1).is_err());
    assert_eq!(dialer.sent(), format!("{} {}", pubrels(8..=8), pubrels(10..=71)));
    dialer.take("70 02 00 08");
    assert_eq!(dialer.publish(2, "x", 1).unwrap(), publish_2("08"));
    assert_eq!(dialer.publish(2, "x", 2).unwrap(), publish_2("09"), "that was known before");
    // It is no identifier of this session any more once the session is gone.
    dialer.client.detach();
    dialer.connect(&kept(Level::V5), YES);
    assert_eq!(dialer.client.forget().len(), 2);
    assert!(dialer.publish(2, "x", 3).unwrap().starts_with("34"));
}

#[test]
fn the_next_identifiers_are_freed_before_the_last_is_used() {
    let mut dialer = resumed(&Hello { max_inflight: 100, ..kept(Level::V311) }, "20 02 01 00");
    assert!(dialer.publish(2, "x", 1).is_err());
    dialer.sent();
    (8..=71).for_each(|id: u16| _ = dialer.take(&format!("70 02 00 {id:02x}")));
    for id in 8..40 {
        assert_eq!(dialer.publish(2, "x", 1).unwrap().matches("62 02").count(), 0, "{id}");
    }
    assert!(dialer.publish(2, "x", 1).unwrap().starts_with(&pubrels(72..=103)));
}

#[test]
fn a_server_that_never_says_that_an_identifier_is_free_is_not_waited_for_for_ever() {
    let mut dialer = resumed(&kept(Level::V5), YES_PRESENT);
    assert!(dialer.publish(2, "x", 1).is_err());
    dialer.sent();
    for is_first in [true, false] {
        assert_eq!(dialer.pass(61).unwrap(), "c0 00");
        dialer.take("d0 00");
        assert_eq!(dialer.publish(2, "x", 1).is_err(), is_first);
    }
    assert_eq!(dialer.events.last().unwrap(), "freed");
}

#[test]
fn where_there_is_no_session_nothing_is_freed() {
    for (hello, connack) in [(kept(Level::V5), YES), (kept(Level::V311), "20 02 00 00")] {
        let mut dialer = resumed(&hello, connack);
        assert!(dialer.publish(2, "x", 1).unwrap().starts_with("34"), "{hello:?}");
    }
}
