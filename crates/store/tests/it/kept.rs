//! What was kept is there again, exactly, and what needs no write gets none.

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{
    ClientId, MessageProperties, QoS, RetainHandling, SessionId, Stub, SubscribeOptions, Time, TopicFilter, TopicName,
    UserProperties, VarInt,
};
use viaduct_store::log::{FaultyFiles, Options};
use viaduct_store::{
    Accepted, Appended, Key, Owed, Record, SessionRecord, Store, StoredWill, SubscriptionRecord, Together, WillRecord,
};

use crate::rig::{NOW, Rig, message, options, owed, packet_id, retained, session, waiting};

fn rich() -> viaduct_codec::Message {
    let mut user_properties = Vec::new();
    assert!(UserProperties::push(&mut user_properties, "name", "value"));
    viaduct_codec::Message {
        expires: Some(Time::from_millis(99_000)),
        retain: true,
        properties: Some(Arc::new(MessageProperties {
            payload_format: Some(true),
            response_topic: Some(TopicName::new("answers").unwrap()),
            correlation_data: Some(vec![0, 255].into()),
            content_type: Some("text/plain".into()),
            user_properties: user_properties.into(),
        })),
        ..message("a/b", "rich", QoS::ExactlyOnce)
    }
}

#[test]
fn records_come_back_as_they_were() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    let will = StoredWill { message: Arc::new(rich()), delay: 7 };
    let full = SessionRecord {
        username: Some("ann".into()),
        is_local: true,
        mountpoint: Some("site/".into()),
        disconnected: Some(Time::from_millis(5)),
        will: Some(will.clone()),
        delayed_will: Some((Time::from_millis(77), Arc::new(rich()))),
        expiry: u32::MAX,
        ..session(9, "full")
    };
    let subscription = SubscriptionRecord {
        client_id: ClientId::from("full"),
        filter: TopicFilter::new("$share/g/a/+").unwrap(),
        options: SubscribeOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        },
        id: VarInt::new(268_435_455),
    };
    let last = WillRecord {
        client_id: ClientId::from("short"),
        username: Some("bob".into()),
        is_local: true,
        mountpoint: Some("m/".into()),
        will,
    };
    rig.put(Record::Session(session(3, "gone")));
    rig.put(Record::Session(session(8, "full")));
    for record in [
        Record::Session(full.clone()),
        Record::Subscription(subscription.clone()),
        Record::Retained(Arc::new(rich()), 77),
        Record::Will(last.clone()),
    ] {
        rig.put(record);
    }
    let accepted = rig.door().delete(NOW, &Key::Session(ClientId::from("gone"))).unwrap();
    rig.safe(accepted);
    rig.end();
    for files in [files.after_kill(), files.after_power_cut(|_, _| 0)] {
        let mut rig = Rig::one(files);
        let loaded = rig.load();
        assert_eq!(loaded.sessions, std::slice::from_ref(&full));
        assert_eq!(loaded.subscriptions, std::slice::from_ref(&subscription));
        assert_eq!(loaded.retained, [Arc::new(rich())]);
        assert_eq!(loaded.wills, std::slice::from_ref(&last));
        assert_eq!(loaded.next_session_id, SessionId(10));
        assert_eq!(rig.recovery.records, 4);
    }
}

#[test]
fn what_is_owed_comes_back_in_order_and_what_settled_does_not() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    rig.put(Record::Session(session(2, "two")));
    let whole = Owed {
        session: SessionId(2),
        qos: QoS::ExactlyOnce,
        retain: true,
        ids: [1, 300].into_iter().filter_map(VarInt::new).collect(),
        group: Some("$share/g/a".into()),
        away: false,
    };
    let mut places = Vec::new();
    for number in 0..20 {
        let message = message("t", &number.to_string(), QoS::ExactlyOnce);
        places.push(rig.append(message, vec![owed(1, QoS::AtLeastOnce), whole.clone()]));
    }
    // Of the first ten, one is done with; of the last, both are.
    places.drain(..10).for_each(|mut both| {
        both.remove(0);
        std::mem::forget(both);
    });
    places.pop();
    rig.flush();
    rig.log.close();
    drop(places);
    drop(rig);
    let mut rig = Rig::one(files.after_power_cut(|_, _| 0));
    assert_eq!((rig.recovery.messages, rig.recovery.orphans), (19, 0));
    let mut loaded = rig.load();
    let expected = |range: std::ops::Range<u32>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), expected(10..19));
    assert_eq!(waiting(&mut rig, &mut loaded, 2), expected(0..19));
    let (_, mut backlog) = loaded.queued.remove(1);
    assert!(backlog.bytes() > 19 * 80);
    let stored = rig.door().read(&backlog.pop_front(1)).remove(0).unwrap();
    assert_eq!(stored.owed, whole);
}

#[test]
fn a_qos_1_message_that_is_acknowledged_in_time_costs_no_write() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let before = files.changes();
    let message = Arc::new(message("t", "fast", QoS::AtLeastOnce));
    let mut last = None;
    for _ in 0..10 {
        let owed = vec![owed(1, QoS::AtLeastOnce), owed(1, QoS::AtLeastOnce)];
        let Appended { kept, accepted } = rig.door().append(NOW, &message, owed.into(), None, 77).unwrap();
        let kept = kept.unwrap();
        let place = kept.place(0);
        assert_eq!(
            rig.door().sent(NOW, &place, packet_id(1), QoS::AtLeastOnce),
            Ok(Accepted::Safe),
            "it goes with the message"
        );
        drop((place, kept.place(1)));
        last = Some(accepted);
    }
    assert_eq!(rig.door().poll_released(), [77], "once for a run of messages of one publisher");
    assert!(rig.door().next_timeout().is_some());
    rig.safe(last.unwrap());
    assert_eq!(files.changes(), before);
    assert_eq!(rig.door().next_timeout(), None);
    // QoS 2 and an inbound identifier are written whatever happens.
    let Appended { kept, accepted } = rig
        .door()
        .append(NOW, &message, vec![owed(1, QoS::AtLeastOnce)].into(), Some((SessionId(1), packet_id(3))), 78)
        .unwrap();
    drop(kept.unwrap().place(0));
    assert!(rig.door().poll_released().is_empty());
    rig.safe(accepted);
    assert!(files.changes() > before);
    rig.end();
    let mut rig = Rig::one(files.after_kill());
    let loaded = rig.load();
    assert_eq!(loaded.inbound, [(SessionId(1), packet_id(3))]);
    assert!(loaded.queued.is_empty() && loaded.inflight.is_empty());
}

/// When the group of what was just appended is closed, after `NOW`.
fn closes_after(rig: &mut Rig) -> Option<u64> {
    rig.door().next_timeout().map(|due| due.as_millis() - NOW.as_millis())
}

#[test]
fn only_what_may_settle_in_time_waits() {
    let delay = 1;
    let at_least_once = owed(1, QoS::AtLeastOnce);
    let away = Owed { away: true, ..at_least_once.clone() };
    for (entries, expected) in [
        (vec![at_least_once.clone()], delay),
        (vec![away.clone()], 0),
        (vec![at_least_once.clone(), away.clone()], 0),
        (vec![owed(1, QoS::ExactlyOnce)], 0),
    ] {
        let mut rig = Rig::one(FaultyFiles::default());
        let message = Arc::new(message("t", "", QoS::ExactlyOnce));
        let appended = rig.door().append(NOW, &message, entries.clone().into(), None, 0).unwrap();
        assert_eq!(closes_after(&mut rig), Some(expected), "{entries:?}");
        rig.door().handle_timeout(NOW);
        assert_eq!(closes_after(&mut rig), (expected == delay).then_some(delay), "all that is open goes together");
        rig.safe(appended.accepted);
    }
}

#[test]
fn a_stream_that_settles_in_time_is_not_written_for_one_message_that_does_not() {
    let mut rig = Rig::one(FaultyFiles::default());
    let message = Arc::new(message("t", "", QoS::AtLeastOnce));
    let append = |rig: &mut Rig, away| {
        let entries = vec![Owed { away, ..owed(1, QoS::AtLeastOnce) }];
        let Appended { kept, accepted } = rig.door().append(NOW, &message, entries.into(), None, 0).unwrap();
        (kept.unwrap().place(0), accepted)
    };
    let mut stream: Vec<_> = (0..9).map(|_| append(&mut rig, false)).collect();
    let (_last, accepted) = append(&mut rig, true);
    assert_eq!(closes_after(&mut rig), Some(1));
    // When the stream has settled, only that one is left.
    stream.truncate(1);
    rig.door().handle_timeout(NOW.after(Duration::from_millis(1)));
    rig.safe(accepted);
    assert_eq!(rig.log.numbers().messages, 2);
}

#[test]
fn what_has_settled_is_let_go_of_when_the_next_comes() {
    let mut rig = Rig::one(FaultyFiles::default());
    let messages = ["first", "second"].map(|payload| Arc::new(message("t", payload, QoS::AtLeastOnce)));
    for message in &messages {
        let entries = vec![owed(1, QoS::AtLeastOnce)];
        let Appended { kept, .. } = rig.door().append(NOW, message, entries.into(), None, 0).unwrap();
        assert_eq!(Arc::strong_count(message), 2, "it is held as long as it is owed");
        drop(kept.unwrap().place(0));
    }
    assert_eq!(messages.map(|message| Arc::strong_count(&message)), [1, 2]);
}

#[test]
fn nobody_waits_for_a_retained_message_of_qos_0() {
    let mut rig = Rig::one(FaultyFiles::default());
    for (qos, expected) in [(QoS::AtMostOnce, 1), (QoS::AtLeastOnce, 0)] {
        let accepted = rig.door().put(NOW, retained(message("t", "", qos))).unwrap();
        assert_eq!(closes_after(&mut rig), Some(expected));
        rig.safe(accepted);
    }
}

#[test]
fn nothing_owed_is_safe_at_once() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    let nobody = rig.door().append(NOW, &Arc::new(rich()), Vec::new().into(), None, 1).unwrap();
    assert!(nobody.kept.is_none());
    assert_eq!(nobody.accepted, Accepted::Safe);
    assert_eq!((rig.door().next_timeout(), files.changes()), (None, 0));
}

#[test]
fn what_was_in_flight_is_in_flight_again() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let two = || vec![owed(1, QoS::ExactlyOnce)];
    let places: Vec<_> =
        (0..4).flat_map(|number| rig.append(message("t", &number.to_string(), QoS::ExactlyOnce), two())).collect();
    for (place, id) in places.iter().zip([10, 11, 12]) {
        let accepted = rig.door().sent(NOW, place, packet_id(id), QoS::AtLeastOnce).unwrap();
        rig.safe(accepted);
    }
    let accepted = rig.door().received(NOW, &places[1]).unwrap();
    rig.safe(accepted);
    // QoS 1, sent before its group is written.
    let owed = vec![owed(1, QoS::AtLeastOnce)];
    let Appended { kept, accepted } =
        rig.door().append(NOW, &Arc::new(message("t", "4", QoS::AtLeastOnce)), owed.into(), None, 0).unwrap();
    let early = kept.unwrap().place(0);
    assert_eq!(rig.door().sent(NOW, &early, packet_id(13), QoS::AtLeastOnce), Ok(Accepted::Safe));
    rig.safe(accepted);
    rig.log.close();
    drop((places, early));
    drop(rig);
    let mut rig = Rig::one(files.after_power_cut(|_, _| 0));
    let mut loaded = rig.load();
    // The QoS 1 message goes out again behind the one that waits: it was known of, and of an earlier one it might not be.
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["3", "4"]);
    let (_, inflight) = loaded.inflight.remove(0);
    let seen: Vec<_> =
        inflight.iter().map(|one| (one.stored.message.payload.to_vec(), one.packet_id.get(), one.received)).collect();
    let expected = [("0", 10, false), ("1", 11, true), ("2", 12, false)];
    assert_eq!(seen, expected.map(|(payload, id, received)| (payload.as_bytes().to_vec(), id, received)));
    // They settle through their places like any other.
    drop((inflight, loaded));
    rig.flush();
    rig.end();
}

#[test]
fn an_identifier_that_two_entries_claim_stays_with_who_used_it_last() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    for number in 0..2 {
        let places = rig.append(message("t", &number.to_string(), QoS::ExactlyOnce), vec![owed(1, QoS::ExactlyOnce)]);
        let accepted = rig.door().sent(NOW, &places[0], packet_id(5), QoS::AtLeastOnce).unwrap();
        rig.safe(accepted);
        std::mem::forget(places);
    }
    rig.end();
    let mut rig = Rig::one(files.after_kill());
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["0"]);
    assert_eq!(loaded.inflight[0].1[0].stored.message.payload, "1");
}

#[test]
fn an_identifier_that_a_start_gave_back_belongs_to_whom_it_is_given_then() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let first = rig.append(message("t", "first", QoS::ExactlyOnce), vec![owed(1, QoS::ExactlyOnce)]);
    let second = rig.append(message("t", "second", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]);
    let accepted = rig.door().sent(NOW, &second[0], packet_id(5), QoS::AtLeastOnce).unwrap();
    rig.safe(accepted);
    std::mem::forget((first, second));
    rig.end();
    // It was known of the second and not of the first that it was sent: both wait again, and the first is sent with the
    // identifier that the second had.
    let files = files.after_kill();
    let mut rig = Rig::one(files.clone());
    let mut loaded = rig.load();
    let mut backlog = loaded.queued.remove(0).1;
    let first = rig.door().read(&backlog.pop_front(1)).remove(0).unwrap();
    assert_eq!(first.message.payload, "first");
    let accepted = rig.door().sent(NOW, &first.place, packet_id(5), QoS::AtLeastOnce).unwrap();
    rig.safe(accepted);
    std::mem::forget((first, backlog));
    rig.end();
    let mut rig = Rig::one(files.after_kill());
    let mut loaded = rig.load();
    let inflight = &loaded.inflight[0].1;
    assert_eq!((inflight.len(), &inflight[0].stored.message.payload[..]), (1, &b"first"[..]));
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["second"]);
}

#[test]
fn inbound_identifiers_last_until_they_are_released() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let message = Arc::new(message("t", "x", QoS::ExactlyOnce));
    for id in 1..=3 {
        let appended =
            rig.door().append(NOW, &message, Vec::new().into(), Some((SessionId(1), packet_id(id))), 0).unwrap();
        rig.safe(appended.accepted);
    }
    rig.door().released(NOW, SessionId(1), packet_id(2)).unwrap();
    rig.flush();
    rig.end();
    let mut rig = Rig::one(files.after_kill());
    assert_eq!(rig.load().inbound, [(SessionId(1), packet_id(1)), (SessionId(1), packet_id(3))]);
    assert_eq!(rig.recovery.messages, 0);
}

#[test]
fn what_is_owed_to_a_session_without_a_record_is_settled() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let places =
        rig.append(message("t", "x", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce), owed(6, QoS::AtLeastOnce)]);
    rig.log.close();
    drop(places);
    drop(rig);
    let mut rig = Rig::one(files.after_kill());
    assert_eq!((rig.recovery.orphans, rig.recovery.messages), (1, 1));
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["x"]);
    assert_eq!(loaded.next_session_id, SessionId(7), "no number is used again");
}

#[test]
fn a_place_becomes_a_stub_once_its_message_can_be_read() {
    let mut rig = Rig::one(FaultyFiles::default());
    rig.put(Record::Session(session(1, "one")));
    let owed = vec![owed(1, QoS::AtLeastOnce)];
    let Appended { kept, accepted } =
        rig.door().append(NOW, &Arc::new(message("t", "x", QoS::AtLeastOnce)), owed.into(), None, 0).unwrap();
    let place = kept.unwrap().place(0).into_stub(1).unwrap_err();
    rig.safe(accepted);
    let stub = place.into_stub(1).unwrap();
    let stored = rig.door().read(&[stub]).remove(0).unwrap();
    assert_eq!(stored.message.payload, "x");
    drop(stored);
    rig.flush();
    assert!(rig.door().read(&[stub]).remove(0).is_err(), "it has settled");
}

#[test]
fn the_number_of_workers_may_change() {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &options(3)).unwrap();
    for (door, name) in ["s0", "s1", "s2"].into_iter().enumerate() {
        let accepted = rig.doors[door].put(NOW, Record::Session(session(door as u64 + 1, name))).unwrap();
        rig.safe_at(door, accepted);
    }
    let all = (1..=3).map(|session| owed(session, QoS::AtLeastOnce)).collect();
    let places = rig.append(message("t", "x", QoS::AtLeastOnce), all);
    rig.log.close();
    drop((places, rig));
    let mut files = files;
    for doors in [2, 1, 3] {
        files = files.after_kill();
        let mut rig = Rig::open(files.clone(), &options(doors)).unwrap();
        let loaded: Vec<_> = rig.doors.iter_mut().map(|door| door.load().unwrap()).collect();
        let sessions: usize = loaded.iter().map(|loaded| loaded.sessions.len()).sum();
        let queued: usize = loaded.iter().flat_map(|loaded| &loaded.queued).map(|(_, backlog)| backlog.len()).sum();
        assert_eq!((sessions, queued), (3, 3));
        assert_eq!(loaded[doors - 1].sessions.len(), 4 - doors);
        assert!(loaded.iter().all(|loaded| loaded.next_session_id == SessionId(4)));
        rig.log.close();
    }
}

#[test]
fn marks_of_one_worker_may_stand_before_the_message_of_another() {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &options(2)).unwrap();
    let accepted = rig.doors[1].put(NOW, Record::Session(session(1, "s1"))).unwrap();
    rig.safe_at(1, accepted);
    let owed = vec![owed(1, QoS::ExactlyOnce)];
    let message = Arc::new(message("t", "x", QoS::ExactlyOnce));
    let Appended { kept, accepted } = rig.doors[0].append(NOW, &message, owed.into(), None, 0).unwrap();
    let place = kept.unwrap().place(0);
    let sent = rig.doors[1].sent(NOW, &place, packet_id(4), QoS::AtLeastOnce).unwrap();
    rig.safe_at(1, sent);
    rig.safe_at(0, accepted);
    rig.log.close();
    drop((place, rig));
    let mut rig = Rig::open(files.after_kill(), &options(2)).unwrap();
    let loaded = rig.doors[1].load().unwrap();
    assert_eq!(loaded.inflight[0].1[0].packet_id, packet_id(4));
    rig.log.close();
}

#[test]
fn groups_close_by_themselves_when_they_are_large() {
    let files = FaultyFiles::default();
    let options = Options { commit_delay: Duration::from_secs(3600), ..options(1) };
    let mut rig = Rig::open(files, &options).unwrap();
    let large = Arc::new(message("t", &"x".repeat(600 << 10), QoS::AtLeastOnce));
    rig.door().append(NOW, &large, vec![owed(1, QoS::AtLeastOnce)].into(), None, 0).unwrap();
    while rig.door().poll_committed().is_none() {
        rig.wait();
    }
    for _ in 0..4096 {
        rig.door().released(NOW, SessionId(1), packet_id(1)).unwrap();
    }
    while rig.door().poll_committed().is_none() {
        rig.wait();
    }
    assert_eq!(rig.door().next_timeout(), None);
}

fn away(session: u64) -> Owed {
    Owed { away: true, ..owed(session, QoS::AtLeastOnce) }
}

/// The payloads at stubs, read by `door`.
fn read(rig: &mut Rig, door: usize, stubs: &[Stub]) -> Vec<String> {
    let read = rig.doors[door].read(stubs).into_iter().map(|stored| stored.unwrap());
    read.map(|stored| {
        let payload = String::from_utf8(stored.message.payload.to_vec()).unwrap();
        let _ = stored.place.into_stub(0).unwrap();
        payload
    })
    .collect()
}

#[test]
fn what_is_owed_to_the_absent_can_be_read_before_it_is_written_and_is_written_once() {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &options(2)).unwrap();
    let accepted = rig.door().put(NOW, Record::Session(session(1, "s0"))).unwrap();
    let messages: Vec<_> = ["a", "b", "c"].map(|payload| Arc::new(message("t", payload, QoS::AtLeastOnce))).to_vec();
    let mut stubs = Vec::new();
    let mut last = accepted;
    for messages in messages.chunks(2) {
        let Appended { kept, accepted } =
            rig.door().append_all(NOW, Together::Each(messages), vec![away(1)].into(), None, 0).unwrap();
        let kept = kept.unwrap();
        let places = (0..kept.places()).map(|place| kept.place(place));
        let places: Vec<_> = places.map(|place| place.into_stub(7).unwrap_err()).collect();
        rig.door().delivered();
        stubs.extend(places.into_iter().map(|place| place.into_stub(7).unwrap()));
        last = accepted;
    }
    let written = files.changes();
    for door in 0..2 {
        assert_eq!(read(&mut rig, door, &stubs), ["a", "b", "c"]);
    }
    assert_eq!(files.changes(), written, "nothing had to be written for that");
    // What was settled before it was written is not owed afterwards.
    let mut backlog = rig.door().backlog();
    backlog.push_back(stubs.remove(1));
    drop(backlog);
    rig.safe(last);
    assert_eq!(read(&mut rig, 1, &stubs), ["a", "c"]);
    rig.flush();
    rig.flush();
    rig.end();
    let mut rig = Rig::one(files.after_power_cut(|_, _| 0));
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["a", "c"]);
}

#[test]
fn what_waits_for_a_disk_that_does_not_write_can_be_read() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "s")));
    let one = Arc::new(message("t", "a", QoS::AtLeastOnce));
    let Appended { kept, accepted } = rig.door().append(NOW, &one, vec![away(1)].into(), None, 0).unwrap();
    rig.door().delivered();
    let stub = kept.unwrap().place(0).into_stub(1).unwrap();
    files.change(|faults| faults.sync_fails = true);
    let Accepted::Pending(ticket) = accepted else { panic!("nothing is safe at once") };
    assert!(!rig.commit(0, ticket));
    assert_eq!(read(&mut rig, 0, &[stub]), ["a"]);
    files.change(|faults| faults.sync_fails = false);
    rig.wait_until_healthy();
    rig.safe(accepted);
    assert_eq!(read(&mut rig, 0, &[stub]), ["a"]);
    rig.end();
    let mut rig = Rig::one(files.after_power_cut(|_, _| 0));
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["a"]);
}

#[test]
fn what_may_still_settle_and_what_nobody_took_is_not_made_ready() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "s")));
    rig.put(Record::Session(session(2, "t")));
    let one = Arc::new(message("t", "a", QoS::AtLeastOnce));
    let both: Vec<Owed> = vec![away(1), owed(2, QoS::AtLeastOnce)];
    let Appended { kept, .. } = rig.door().append(NOW, &one, both.into(), None, 0).unwrap();
    rig.door().delivered();
    let kept = kept.unwrap();
    assert!(!kept.place(0).is_readable(), "the other one may acknowledge it before it is written");
    drop(kept.place(1));
    // A queue that was full gave its place up at once: nothing is written for it.
    let before = files.changes();
    let Appended { kept, accepted } = rig.door().append(NOW, &one, vec![away(1)].into(), None, 7).unwrap();
    drop(kept.unwrap().place(0));
    rig.door().delivered();
    assert_eq!(rig.door().poll_released(), [0, 7], "the first and this one");
    rig.safe(accepted);
    assert_eq!(files.changes(), before);
}
