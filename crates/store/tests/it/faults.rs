//! A disk that fails: nothing is promised on the strength of it, and everything goes on when it works again.

use std::sync::Arc;

use viaduct_codec::QoS;
use viaduct_store::log::{Faults, FaultyFiles, Options, SyncMode};
use viaduct_store::{Accepted, Appended, Health, Key, Record, Store, StoreError};

use crate::rig::{NOW, Rig, message, options, owed, session, waiting};

/// Appends one message and lets the disk fail under it; then the disk works again.
fn fails_and_recovers(faults: Faults) {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let owed = || vec![owed(1, QoS::AtLeastOnce)];
    let before = rig.append(message("t", "before", QoS::AtLeastOnce), owed());
    files.set(faults.clone());
    let held = Arc::new(message("t", &"held".repeat(100), QoS::AtLeastOnce));
    let Appended { kept, accepted } = rig.door().append(NOW, &held, owed().into(), None, 0).unwrap();
    let Accepted::Pending(ticket) = accepted else { panic!("it can't be safe") };
    let place = kept.unwrap().place(0);
    assert!(!rig.commit(0, ticket), "{faults:?}");
    assert!(matches!(rig.door().state(), Health::Failing(_)));
    assert!(matches!(rig.door().append(NOW, &held, owed().into(), None, 0), Err(StoreError::Unavailable(_))));
    let retained = crate::rig::retained(message("r", "x", QoS::AtLeastOnce));
    assert!(matches!(rig.door().put(NOW, retained), Err(StoreError::Unavailable(_))));
    // A client that is told of its session waits for it.
    let Ok(Accepted::Pending(session_two)) = rig.door().put(NOW, Record::Session(session(2, "two"))) else {
        panic!("it is neither refused nor safe")
    };
    assert!(rig.door().delete(NOW, &Key::Session("nobody".into())).is_ok());
    assert_eq!(rig.door().poll_committed(), None);
    files.set(Faults::default());
    rig.wait_until_healthy();
    assert!(rig.commit(0, ticket), "what was held is written after all");
    assert!(rig.commit(0, session_two), "and the session");
    let after = rig.append(message("t", "after", QoS::AtLeastOnce), owed());
    rig.log.close();
    drop((before, place, after, rig));
    let mut rig = Rig::one(files.after_power_cut(|_, _| 0));
    assert!(rig.recovery.damages.is_empty(), "{:?}", rig.recovery);
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["before", &"held".repeat(100), "after"]);
    assert_eq!(loaded.sessions.len(), 2);
    rig.log.close();
}

#[test]
fn a_sync_that_fails() {
    fails_and_recovers(Faults { sync_fails: true, ..Faults::default() });
}

#[test]
fn a_disk_that_is_read_only() {
    fails_and_recovers(Faults { read_only: true, ..Faults::default() });
}

#[test]
fn a_disk_that_is_full() {
    fails_and_recovers(Faults { disk_bytes: Some(300), ..Faults::default() });
}

#[test]
fn short_writes_and_signals_are_no_failure() {
    let files = FaultyFiles::default();
    files.set(Faults { short_write: Some(7), interrupted: true, ..Faults::default() });
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let places = rig.append(message("t", &"long".repeat(1000), QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]);
    rig.log.close();
    drop((places, rig));
    let again = files.after_power_cut(|_, _| 0);
    again.set(Faults { short_write: Some(3), interrupted: true, ..Faults::default() });
    let mut rig = Rig::one(again);
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["long".repeat(1000)]);
    rig.log.close();
}

#[test]
fn a_limit_refuses_messages_and_lets_the_rest_go_on() {
    let files = FaultyFiles::default();
    let options = Options { max_bytes: 64 << 10, segment_bytes: 4 << 10, ..options(1) };
    let mut rig = Rig::open(files, &options).unwrap();
    rig.put(Record::Session(session(1, "one")));
    rig.put(crate::rig::retained(message("cleared", "x", QoS::AtLeastOnce)));
    let message = Arc::new(message("t", &"x".repeat(1000), QoS::AtLeastOnce));
    let owed = || vec![owed(1, QoS::AtLeastOnce)];
    let mut places = Vec::new();
    let error = loop {
        match rig.door().append(NOW, &message, owed().into(), None, 0) {
            Ok(Appended { kept, accepted }) => {
                places.push(kept.unwrap().place(0));
                rig.safe(accepted);
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { limit: 65_536, .. }), "{error:?}");
    assert!(places.len() > 50);
    assert!(matches!(
        rig.door().put(NOW, crate::rig::retained(crate::rig::message("t", &"x".repeat(2000), QoS::AtLeastOnce))),
        Err(StoreError::Full { .. })
    ));
    // What makes room is taken.
    let records = rig.log.numbers().records;
    rig.put(crate::rig::retained(crate::rig::message("cleared", "", QoS::AtLeastOnce)));
    assert_eq!(rig.log.numbers().records, records - 1);
    // Sessions go on, and what settles makes room.
    rig.put(Record::Session(session(2, "two")));
    places.clear();
    while rig.door().append(NOW, &message, owed().into(), None, 0).is_err() {
        rig.put(Record::Session(session(2, "two")));
    }
    assert!(rig.log.used() < 64 << 10);
}

#[test]
fn a_nearly_full_disk_refuses_messages_and_keeps_what_was_promised() {
    let files = FaultyFiles::default();
    files.set(Faults { disk_bytes: Some(9 << 20), ..Faults::default() });
    let mut rig = Rig::one(files.clone());
    let message = Arc::new(message("t", &"x".repeat(200_000), QoS::AtLeastOnce));
    let mut places = Vec::new();
    while let Ok(Appended { kept, accepted }) =
        rig.door().append(NOW, &message, vec![owed(1, QoS::AtLeastOnce)].into(), None, 0)
    {
        places.push(kept.unwrap().place(0));
        rig.safe(accepted);
    }
    assert_eq!(rig.door().state(), Health::Healthy);
    assert!(!places.is_empty());
    files.set(Faults::default());
    rig.put(Record::Session(session(1, "one")));
    while rig.door().append(NOW, &message, vec![owed(1, QoS::AtLeastOnce)].into(), None, 0).is_err() {
        rig.put(Record::Session(session(1, "one")));
    }
    rig.log.close();
}

#[test]
fn without_syncs_a_power_cut_takes_what_was_promised() {
    // That it bites: the same drill is passed with the default.
    for (sync, survives) in [(SyncMode::Always, 1), (SyncMode::Off, 0)] {
        let files = FaultyFiles::default();
        let mut rig = Rig::open(files.clone(), &Options { sync, ..options(1) }).unwrap();
        rig.put(Record::Session(session(1, "one")));
        let cut = files.after_power_cut(|_, _| 0);
        rig.end();
        assert_eq!(Rig::one(cut).load().sessions.len(), survives, "{sync:?}");
    }
}

#[test]
fn a_second_without_a_sync_is_all_that_the_interval_allows() {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &Options { sync: SyncMode::Interval, ..options(1) }).unwrap();
    let made = files.syncs();
    rig.put(Record::Session(session(1, "one")));
    let after_header = files.syncs();
    assert!(after_header <= made + 2, "only the new segment and its number");
    while files.syncs() == after_header {
        rig.put(Record::Session(session(1, "one")));
    }
    rig.end();
    assert_eq!(Rig::one(files.after_power_cut(|_, _| 0)).load().sessions.len(), 1);
}

#[test]
fn many_unwritten_bytes_are_congestion() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    let large = Arc::new(message("t", &"x".repeat(1 << 20), QoS::AtLeastOnce));
    assert!(!rig.door().is_congested());
    rig.put(Record::Session(session(1, "one")));
    files.set(Faults { sync_fails: true, ..Faults::default() });
    let mut places = Vec::new();
    while let Ok(Appended { kept, .. }) =
        rig.door().append(NOW, &large, vec![owed(1, QoS::AtLeastOnce)].into(), None, 0)
    {
        places.push(kept.unwrap().place(0));
        if rig.door().is_congested() {
            break;
        }
    }
    files.set(Faults::default());
    rig.wait_until_healthy();
    while rig.door().is_congested() {
        rig.wait();
    }
    rig.log.close();
}
