//! Space comes back from the front, and what is still owed moves on whole.

use std::sync::Arc;

use viaduct_codec::{QoS, SessionId};
use viaduct_store::log::{FaultyFiles, Files, Options, SyncMode, check, stats};
use viaduct_store::{Record, Store};

use crate::rig::{NOW, Rig, message, options, owed, packet_id, session, waiting};

fn small(sync: SyncMode) -> Options {
    Options { segment_bytes: 4 << 10, sync, ..options(1) }
}

#[test]
fn dead_segments_go_and_live_entries_move_with_their_state() {
    for sync in [SyncMode::Always, SyncMode::Interval, SyncMode::Off] {
        let files = FaultyFiles::default();
        let mut rig = Rig::open(files.clone(), &small(sync)).unwrap();
        rig.put(Record::Session(session(1, "one")));
        rig.put(Record::Session(session(2, "two")));
        let both = || vec![owed(1, QoS::ExactlyOnce), owed(2, QoS::ExactlyOnce)];
        let mut stays = rig.append(message("t", "stays", QoS::ExactlyOnce), both());
        let accepted = rig.door().sent(NOW, &stays[1], packet_id(9), QoS::AtLeastOnce).unwrap();
        rig.safe(accepted);
        let accepted = rig.door().received(NOW, &stays[1]).unwrap();
        rig.safe(accepted);
        drop(stays.remove(0));
        let from = Some((SessionId(1), packet_id(77)));
        let inbound = Arc::new(message("t", "inbound", QoS::ExactlyOnce));
        let accepted = rig.door().append(NOW, &inbound, Vec::new().into(), from, 0).unwrap().accepted;
        rig.safe(accepted);
        let mut many = (0..100).map(|session| owed(session % 2 + 1, QoS::AtLeastOnce)).collect::<Vec<_>>();
        many.truncate(70);
        let mut wide = rig.append(message("t", "wide", QoS::AtLeastOnce), many);
        wide.drain(..69);
        // Far more than two segments of what nobody needs, until the first segment is gone.
        while files.list().unwrap().contains(&"00000001.log".to_owned()) || files.list().unwrap().len() < 4 {
            drop(rig.append(message("t", &"gone".repeat(100), QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
        }
        for _ in 0..300 {
            drop(rig.append(message("t", &"gone".repeat(100), QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
        }
        rig.flush();
        while rig.log.used() > 40 << 10 {
            rig.flush();
        }
        rig.log.close();
        drop((stays, wide, rig));
        let report = check(&files).unwrap();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        let counted = stats(&files).unwrap();
        assert_eq!((counted.sessions, counted.queued, counted.inflight, counted.inbound), (2, 1, 1, 1));
        let mut rig = Rig::one(files.after_kill());
        assert!(rig.recovery.damages.is_empty());
        let mut loaded = rig.load();
        assert_eq!(waiting(&mut rig, &mut loaded, 2), ["wide"]);
        assert_eq!(waiting(&mut rig, &mut loaded, 1), Vec::<String>::new());
        assert_eq!(loaded.inbound, [(SessionId(1), packet_id(77))]);
        let (session, inflight) = &loaded.inflight[0];
        assert_eq!(*session, SessionId(2));
        assert_eq!((inflight.len(), inflight[0].packet_id, inflight[0].received), (1, packet_id(9), true));
        rig.log.close();
    }
}

#[test]
fn numbers_are_never_used_again() {
    let mut files = FaultyFiles::default();
    let mut highest = 0;
    for _ in 0..5 {
        let mut rig = Rig::open(files.clone(), &small(SyncMode::Always)).unwrap();
        for _ in 0..50 {
            let places = rig.append(message("t", "x", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]);
            assert!(places[0].id() > highest);
            highest = places[0].id();
        }
        rig.flush();
        rig.end();
        files = files.after_kill();
    }
}

#[test]
fn records_move_as_well() {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &small(SyncMode::Always)).unwrap();
    for id in 1..=20 {
        rig.put(Record::Session(session(id, &format!("client {id}"))));
    }
    for round in 0..300 {
        rig.put(crate::rig::retained(message("t", &format!("{round} {}", "x".repeat(200)), QoS::AtMostOnce)));
    }
    assert!(files.list().unwrap().len() < 8, "{:?}", files.list());
    rig.end();
    let mut rig = Rig::one(files.after_power_cut(|_, _| 0));
    let loaded = rig.load();
    assert_eq!(loaded.sessions.len(), 20);
    assert!(loaded.retained[0].payload.starts_with(b"299 "));
}
