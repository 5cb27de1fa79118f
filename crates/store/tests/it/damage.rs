//! Bytes that are not what was written: torn ends are cut, damage is named and set aside, and nothing else is lost.

use std::sync::Arc;

use proptest::prelude::*;
use viaduct_codec::{QoS, SubscribeOptions, TopicFilter};
use viaduct_store::log::{DiskFiles, FaultyFiles, Files, OpenError, Options, SyncMode, check, stats};
use viaduct_store::{Record, Store, SubscriptionRecord};

use crate::rig::{NOW, Rig, message, options, owed, session, waiting};

const FIRST: &str = "00000001.log";

/// A folder with `count` messages, each in a frame of its own, and where each frame ends.
fn folder(count: usize, segment_bytes: u64) -> (FaultyFiles, Vec<usize>) {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &Options { segment_bytes, ..options(1) }).unwrap();
    rig.put(Record::Session(session(1, "one")));
    let mut ends = vec![files.bytes(FIRST).unwrap().len()];
    for number in 0..count {
        let payload = format!("message {number}");
        std::mem::forget(rig.append(message("t", &payload, QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
        ends.push(files.bytes(FIRST).unwrap().len());
    }
    rig.end();
    (files.after_kill(), ends)
}

/// The names of the segments, the oldest first.
fn segments(files: &FaultyFiles) -> Vec<String> {
    files.list().unwrap().into_iter().filter(|name| name.ends_with(".log")).collect()
}

fn numbers(range: impl Iterator<Item = usize>) -> Vec<String> {
    range.map(|number| format!("message {number}")).collect()
}

#[test]
fn a_torn_end_is_cut_wherever_it_is_torn() {
    let (files, ends) = folder(3, Options::SEGMENT_BYTES);
    let bytes = files.bytes(FIRST).unwrap();
    for cut in ends[2]..bytes.len() {
        for zeros in [0, 1, 50, 5000] {
            let torn = FaultyFiles::default();
            let mut left = bytes[..cut].to_vec();
            left.resize(cut + zeros, 0);
            torn.put(FIRST, left);
            let mut rig = Rig::open(torn.clone(), &Options { refuse_damaged: true, ..options(1) }).unwrap();
            assert_eq!(rig.recovery.torn_bytes as usize, cut + zeros - ends[2]);
            assert_eq!(torn.bytes(FIRST).unwrap().len(), ends[2]);
            let mut loaded = rig.load();
            assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..2));
            // It goes on behind.
            std::mem::forget(rig.append(message("t", "message 2", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
            rig.log.close();
            drop((loaded, rig));
            assert!(check(&torn).unwrap().damages.is_empty());
            let mut rig = Rig::one(torn);
            let mut loaded = rig.load();
            assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..3));
            rig.log.close();
        }
    }
}

#[test]
fn a_flipped_bit_is_named_and_set_aside_and_the_rest_is_served() {
    let (files, ends) = folder(5, Options::SEGMENT_BYTES);
    let bytes = files.bytes(FIRST).unwrap();
    for place in ends[2]..ends[3] {
        let damaged = FaultyFiles::default();
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        damaged.put(FIRST, flipped.clone());
        let refused = Rig::open(damaged.clone(), &Options { refuse_damaged: true, ..options(1) });
        let Err(OpenError::Damaged(found)) = refused.map(|_| ()) else { panic!("it starts") };
        assert_eq!((found[0].offset as usize, found[0].length as usize), (ends[2], ends[3] - ends[2]));
        assert_eq!(damaged.list().unwrap(), [FIRST], "nothing is touched");
        assert_eq!(check(&damaged).unwrap().damages, found);
        let mut rig = Rig::one(damaged.clone());
        assert_eq!(rig.recovery.damages, found);
        let aside = damaged.bytes(&format!("{FIRST}.damaged-{}", ends[2])).unwrap();
        assert_eq!(aside, flipped[ends[2]..ends[3]]);
        let mut loaded = rig.load();
        assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers([0, 1, 3, 4].into_iter()));
        rig.put(Record::Session(session(2, "two")));
        rig.log.close();
        drop((loaded, rig));
        let again = Rig::one(damaged);
        assert_eq!(again.recovery.damages, found, "it is said every time");
    }
}

#[test]
fn damage_in_an_old_segment_costs_no_other_segment() {
    let (files, _) = folder(200, 2 << 10);
    let names = segments(&files);
    assert!(names.len() > 5);
    let whole = Rig::one(files.after_kill()).recovery.messages;
    for name in &names[..names.len() - 1] {
        let damaged = files.after_kill();
        let mut bytes = damaged.bytes(name).unwrap();
        let place = bytes.len() - 5;
        bytes[place] ^= 1;
        damaged.put(name, bytes);
        let rig = Rig::one(damaged);
        assert_eq!(rig.recovery.damages.len(), 1);
        assert!(rig.recovery.messages + 2 > whole, "{name}");
        rig.end();
    }
    // A header that is gone, and a file that is.
    for name in &names[1..names.len() - 1] {
        let damaged = files.after_kill();
        let mut bytes = damaged.bytes(name).unwrap();
        bytes[..64].fill(0);
        damaged.put(name, bytes);
        let rig = Rig::one(damaged.clone());
        assert_eq!((rig.recovery.damages.len(), rig.recovery.messages), (1, whole), "{name}");
        rig.end();
        damaged.remove(name).unwrap();
        let rig = Rig::one(damaged.after_kill());
        assert!(!rig.recovery.damages.is_empty() && rig.recovery.messages > whole * 3 / 4);
        rig.end();
    }
}

/// Has the first segment say that its format is `version`.
fn set_version(files: &FaultyFiles, version: u8) {
    let mut bytes = files.bytes(FIRST).unwrap();
    bytes[8] = version;
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    files.put(FIRST, bytes);
}

#[test]
fn a_format_that_never_was_is_damage() {
    let (files, _) = folder(3, Options::SEGMENT_BYTES);
    set_version(&files, 0);
    let rig = Rig::one(files);
    assert_eq!((rig.recovery.damages.len(), rig.recovery.messages), (1, 3), "the header alone");
    rig.end();
}

#[test]
fn a_newer_format_is_left_alone() {
    let (files, _) = folder(1, Options::SEGMENT_BYTES);
    set_version(&files, 2);
    let before = files.changes();
    let Err(error) = Rig::open(files.clone(), &options(1)).map(|_| ()) else { panic!("it starts") };
    assert!(matches!(error, OpenError::NewerFormat { version: 2, .. }), "{error}");
    assert_eq!((files.changes(), files.list().unwrap().len()), (before, 3), "the segment and what is noted of it");
}

#[test]
fn a_newer_format_on_a_disk_keeps_its_lock_as_it_was() {
    let (files, _) = folder(1, Options::SEGMENT_BYTES);
    set_version(&files, 2);
    for lock in [Some("7\n"), None] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at(FIRST), files.bytes(FIRST).unwrap()).unwrap();
        if let Some(text) = lock {
            std::fs::write(at("LOCK"), text).unwrap();
        }
        let disk = || DiskFiles::new(folder.path().to_owned());
        let before = disk().list().unwrap().len();
        let Err(error) = Rig::open(disk(), &options(1)).map(|_| ()) else { panic!("it starts") };
        assert!(matches!(error, OpenError::NewerFormat { version: 2, .. }), "{error}");
        assert_eq!(
            std::fs::read_to_string(at("LOCK")).ok().as_deref(),
            lock,
            "the number of this process is not in it"
        );
        assert_eq!(disk().list().unwrap().len(), before);
    }
}

#[test]
fn a_folder_that_is_no_store_is_not_an_empty_one() {
    let look = |files: &FaultyFiles| (check(files).map(drop), stats(files).map(drop));
    let refused = |files: &FaultyFiles, said: &str| {
        let (checked, counted) = look(files);
        for error in [checked.unwrap_err(), counted.unwrap_err()] {
            assert!(matches!(error, OpenError::NoStore { .. }) && error.to_string().contains(said), "{error}");
        }
    };
    let files = FaultyFiles::default();
    refused(&files, "found nothing");
    files.put("notes.txt", Vec::new());
    refused(&files, "found only \"notes.txt\"");
    files.put("log", Vec::new());
    refused(&files, "found 2 others, such as \"log\"");
    // What a broker leaves that never kept anything.
    files.put("LOCK", Vec::new());
    assert!(matches!(look(&files), (Ok(()), Ok(()))));
    // Segments that are gone and that something says were there are damage.
    let (files, _) = folder(1, Options::SEGMENT_BYTES);
    files.remove(FIRST).unwrap();
    assert_eq!(check(&files).unwrap().damages.len(), 1);
}

#[test]
fn a_store_that_another_holds_is_left_alone() {
    let (files, _) = folder(1, Options::SEGMENT_BYTES);
    let rig = Rig::one(files.clone());
    let Err(error) = Rig::open(files.clone(), &options(1)).map(|_| ()) else { panic!("it starts") };
    assert_eq!(error.to_string(), "the store is held by another broker (process 1)");
    assert!(check(&files).is_err());
    drop(rig);
    assert!(check(&files).is_ok());
}

#[test]
fn a_segment_that_was_being_made_is_removed() {
    let (files, _) = folder(1, Options::SEGMENT_BYTES);
    for left in [0, 10, 64] {
        let files = files.after_kill();
        files.put("00000002.log", vec![0; left]);
        let mut rig = Rig::open(files.clone(), &Options { refuse_damaged: true, ..options(1) }).unwrap();
        assert!(files.bytes("00000002.log").is_none());
        assert_eq!(rig.load().queued.len(), 1);
        rig.end();
    }
}

#[test]
fn a_last_segment_that_is_gone_or_empty_is_missed() {
    for segment_bytes in [Options::SEGMENT_BYTES, 2 << 10] {
        let (files, _) = folder(100, segment_bytes);
        let names = segments(&files);
        let last = names.last().unwrap();
        for left in [None, Some(0), Some(10), Some(63)] {
            let files = files.after_kill();
            match left {
                Some(left) => files.put(last, files.bytes(last).unwrap()[..left].to_vec()),
                None => files.remove(last).unwrap(),
            }
            let refused = Rig::open(files.clone(), &Options { refuse_damaged: true, ..options(1) });
            let Err(OpenError::Damaged(found)) = refused.map(|_| ()) else { panic!("it starts: {left:?}") };
            assert_eq!((&found[0].file, found[0].offset), (last, 0));
            // Of a file that is there it is also known how long it was, when another tells whose it is.
            let how_long =
                left.filter(|_| names.len() > 1).map(|left| (last, left as u64, "the end of the segment is missing"));
            let more = found.get(1).map(|damage| (&damage.file, damage.offset, damage.what.as_str()));
            assert_eq!((more, found.len()), (how_long, 1 + usize::from(how_long.is_some())));
            assert_eq!(check(&files).unwrap().damages, found);
            let mut rig = Rig::one(files.clone());
            assert_eq!(rig.recovery.damages, found);
            rig.put(Record::Session(session(2, "two")));
            rig.end();
            // Its number is not given to another.
            let (next, old) = (segments(&files).pop().unwrap(), last.as_str());
            assert!(next.as_str() > old, "{next} behind {old}");
            let mut rig = Rig::one(files);
            assert!(rig.load().sessions.iter().any(|session| session.client_id.as_str() == "two"));
            rig.end();
        }
    }
}

#[test]
fn a_first_segment_that_is_gone_is_missed_and_one_that_was_given_back_is_not() {
    let (files, _) = folder(100, 2 << 10);
    let names = segments(&files);
    for gone in 1..3 {
        let files = files.after_kill();
        names.iter().take(gone).for_each(|name| files.remove(name).unwrap());
        let found = check(&files).unwrap().damages;
        assert!(found.iter().any(|damage| damage.file == names[0]), "{found:?}");
        assert!(found.iter().any(|damage| damage.file == names[gone - 1]), "{found:?}");
        assert!(Rig::open(files, &Options { refuse_damaged: true, ..options(1) }).is_err());
    }
    // Nothing of it is owed any more, and so the broker itself removes it.
    let mut rig = Rig::open(files.clone(), &Options { segment_bytes: 2 << 10, ..options(1) }).unwrap();
    let loaded = rig.load();
    drop(loaded);
    while files.bytes(&names[0]).is_some() {
        rig.put(Record::Session(session(1, "one")));
    }
    rig.end();
    for after in [files.after_kill(), files.after_power_cut(|_, _| 0)] {
        assert_eq!(check(&after).unwrap().damages, []);
    }
}

#[test]
fn a_file_with_the_name_of_a_segment_that_is_none_is_not_thrown_away() {
    let (files, _) = folder(3, Options::SEGMENT_BYTES);
    let foreign = b"these bytes are of somebody else, and they are some more than the header of a segment has".to_vec();
    files.put("00000009.log", foreign.clone());
    assert_eq!(check(&files).unwrap().damages[0].file, "00000009.log");
    let mut rig = Rig::one(files.clone());
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..3));
    rig.log.close();
    let kept = |name: &str| files.bytes(&format!("00000009.log.{name}")).unwrap();
    assert_eq!([kept("damaged-0"), kept("cut-64")].concat(), foreign);
}

#[test]
fn a_message_that_looks_like_a_frame_is_none() {
    let (files, ends) = folder(2, Options::SEGMENT_BYTES);
    // A true frame of this very store, as the payload of a message in a frame that is damaged.
    let whole = files.bytes(FIRST).unwrap();
    let frame = whole[ends[0]..ends[1]].to_vec();
    let mut rig = Rig::one(files.clone());
    let evil = viaduct_codec::Message { payload: frame.into(), ..message("t", "", QoS::AtLeastOnce) };
    let accepted = rig.door().append(NOW, &Arc::new(evil), vec![owed(1, QoS::AtLeastOnce)].into(), None, 0).unwrap();
    rig.log.close();
    rig.safe(accepted.accepted);
    rig.put(Record::Session(session(1, "one")));
    drop(rig);
    let mut bytes = files.bytes(FIRST).unwrap();
    bytes[ends[2] + 20] ^= 1;
    files.put(FIRST, bytes);
    let mut rig = Rig::one(files);
    assert_eq!(rig.recovery.damages.len(), 1);
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..2));
    rig.log.close();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the bytes are: no panic, no great memory, and what starts can be written.
    #[test]
    fn any_bytes_can_be_opened(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        twice in any::<bool>(),
        insert in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (files, _) = folder(30, 1 << 10);
        let name = if twice { "00000002.log" } else { FIRST };
        let mut bytes = files.bytes(name).unwrap();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let cut = cut.index(bytes.len());
        bytes.splice(cut..cut, insert);
        files.put(name, bytes);
        let _ = check(&files);
        if let Ok(mut rig) = Rig::open(files, &options(1)) {
            let loaded = rig.load();
            for (_, mut backlog) in loaded.queued {
                for read in rig.door().read(&backlog.pop_front(usize::MAX)) {
                    prop_assert!(read.is_ok());
                }
            }
            rig.put(Record::Session(session(5, "five")));
        }
    }
}

#[test]
fn an_end_that_the_disk_does_not_give_is_not_cut_and_is_there_when_it_gives_it_again() {
    let (files, ends) = folder(300, Options::SEGMENT_BYTES);
    let whole = files.bytes(FIRST).unwrap();
    files.change(|faults| faults.unreadable_from = Some(ends[250] as u64));
    let mut rig = Rig::one(files.clone());
    assert_eq!((rig.recovery.torn_bytes, rig.recovery.damages.len()), (0, 1));
    let mut loaded = rig.load();
    let before = waiting(&mut rig, &mut loaded, 1);
    assert_eq!(before, numbers(0..before.len()), "what stands before it is served");
    assert!(before.len() > 100, "{} are", before.len());
    // What comes now goes elsewhere.
    std::mem::forget(rig.append(message("t", "message 300", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
    rig.log.close();
    drop((loaded, rig));
    assert_eq!(files.bytes(FIRST).unwrap(), whole);
    files.change(|faults| faults.unreadable_from = None);
    let mut rig = Rig::one(files);
    assert_eq!((rig.recovery.torn_bytes, rig.recovery.damages.len()), (0, 0));
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..301));
    rig.log.close();
}

#[test]
fn a_bit_of_the_only_header_loses_nothing() {
    let (files, _) = folder(5, Options::SEGMENT_BYTES);
    let bytes = files.bytes(FIRST).unwrap();
    for place in 0..64 {
        let damaged = FaultyFiles::default();
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        damaged.put(FIRST, flipped);
        let mut rig = Rig::one(damaged.clone());
        assert_eq!((rig.recovery.damages.len(), rig.recovery.torn_bytes), (1, 0), "{place}");
        let mut loaded = rig.load();
        assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..5), "{place}");
        // And what comes now is found beside it.
        std::mem::forget(rig.append(message("t", "message 5", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
        rig.log.close();
        drop((loaded, rig));
        let mut rig = Rig::one(damaged);
        let mut loaded = rig.load();
        assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..6), "{place}");
        rig.log.close();
    }
}

#[test]
fn a_file_without_a_header_is_set_aside_whole() {
    let (files, _) = folder(5, Options::SEGMENT_BYTES);
    let mut bytes = files.bytes(FIRST).unwrap();
    bytes[..64].fill(0);
    let damaged = FaultyFiles::default();
    damaged.put(FIRST, bytes.clone());
    assert!(Rig::open(damaged.clone(), &Options { refuse_damaged: true, ..options(1) }).is_err());
    let rig = Rig::one(damaged.clone());
    assert_eq!((rig.recovery.torn_bytes, rig.recovery.messages), (0, 0));
    rig.end();
    let aside = |offset: usize| damaged.bytes(&format!("{FIRST}.damaged-{offset}")).unwrap();
    assert_eq!([aside(0), aside(64)].concat(), bytes);
}

/// The names of copies of ends that were cut.
fn cuts(files: &FaultyFiles) -> Vec<String> {
    files.list().unwrap().into_iter().filter(|name| name.contains(".cut-")).collect()
}

#[test]
fn of_an_end_that_may_have_been_whole_a_copy_is_kept() {
    let (files, ends) = folder(3, Options::SEGMENT_BYTES);
    let bytes = files.bytes(FIRST).unwrap();
    let (last, end) = (ends[2], ends[3]);
    for place in last..end {
        let damaged = FaultyFiles::default();
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        damaged.put(FIRST, flipped.clone());
        Rig::one(damaged.clone()).end();
        assert_eq!(cuts(&damaged), [format!("{FIRST}.cut-{last}")], "{place}");
        assert_eq!(damaged.bytes(&cuts(&damaged)[0]).unwrap(), flipped[last..]);
        assert_eq!(damaged.bytes(FIRST).unwrap(), bytes[..last]);
    }
    // Plainly unfinished.
    for left in [bytes[..end - 1].to_vec(), bytes[..last + 3].to_vec(), [&bytes[..last], &[0; 3_000_000]].concat()] {
        let torn = FaultyFiles::default();
        torn.put(FIRST, left);
        let rig = Rig::one(torn.clone());
        assert!(rig.recovery.torn_bytes > 0);
        rig.end();
        assert_eq!(cuts(&torn), [""; 0]);
    }
}

#[test]
fn copies_of_ends_are_bounded() {
    let (files, ends) = folder(20, Options::SEGMENT_BYTES);
    let mut left = files.bytes(FIRST).unwrap();
    let disk = FaultyFiles::default();
    for end in ends.iter().rev().take(15) {
        left.truncate(*end);
        left[end - 1] ^= 1;
        disk.put(FIRST, left.clone());
        Rig::one(disk.clone()).end();
        disk.remove("END").unwrap();
        left = disk.bytes(FIRST).unwrap();
    }
    assert_eq!(cuts(&disk).len(), 8);
}

#[test]
fn what_a_damaged_record_of_a_session_leaves_behind_is_counted() {
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.put(Record::Session(session(1, "one")));
    let record = files.bytes(FIRST).unwrap().len() - 1;
    rig.put(Record::Subscription(SubscriptionRecord {
        client_id: "one".into(),
        filter: TopicFilter::new("t").unwrap(),
        options: SubscribeOptions::default(),
        id: None,
    }));
    for _ in 0..3 {
        std::mem::forget(rig.append(message("t", "", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
    }
    rig.end();
    let damaged = files.after_kill();
    let whole = check(&damaged).unwrap();
    assert_eq!((whole.orphans, whole.orphan_sessions, whole.lone_subscriptions), (0, 0, 0));
    let mut bytes = damaged.bytes(FIRST).unwrap();
    bytes[record] ^= 1;
    damaged.put(FIRST, bytes);
    let report = check(&damaged).unwrap();
    assert_eq!((report.orphans, report.orphan_sessions, report.lone_subscriptions), (3, 1, 1));
    assert_eq!((report.messages, report.damages.len()), (3, 1));
    let rig = Rig::one(damaged);
    assert_eq!((rig.recovery.orphans, rig.recovery.orphan_sessions), (3, 1));
    rig.end();
}

#[test]
fn a_look_changes_nothing_on_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FIRST), self::folder(1, Options::SEGMENT_BYTES).0.bytes(FIRST).unwrap()).unwrap();
    let files = DiskFiles::new(folder.path().to_owned());
    let names = || {
        let mut names = files.list().unwrap();
        names.sort();
        names
    };
    let before = names();
    assert_eq!(before, [FIRST]);
    assert!(check(&files).unwrap().damages.is_empty());
    assert_eq!(stats(&files).unwrap().sessions, 1);
    assert_eq!(names(), before, "no lock is left behind");
    let held = files.lock().unwrap();
    assert!(matches!(check(&files), Err(OpenError::Locked { pid: Some(pid) }) if pid == std::process::id()));
    drop(held);
    assert!(check(&files).is_ok());
}

/// As [`folder`], after an end in good order: what is noted beside the segments is there too.
fn ended(count: usize) -> (FaultyFiles, Vec<usize>) {
    let (files, ends) = folder(count, Options::SEGMENT_BYTES);
    assert!(files.bytes("END").is_some());
    (files, ends)
}

#[test]
fn after_an_end_in_good_order_damage_to_the_last_frame_is_damage() {
    let (files, ends) = ended(3);
    let bytes = files.bytes(FIRST).unwrap();
    let (last, end) = (ends[2], ends[3]);
    for place in last..end {
        let damaged = files.after_kill();
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        damaged.put(FIRST, flipped.clone());
        let refused = Rig::open(damaged.clone(), &Options { refuse_damaged: true, ..options(1) });
        let Err(OpenError::Damaged(found)) = refused.map(|_| ()) else { panic!("it starts: {place}") };
        assert_eq!((found[0].offset as usize, found[0].length as usize, found.len()), (last, end - last, 1), "{place}");
        assert_eq!(check(&damaged).unwrap().damages, found);
        let mut rig = Rig::one(damaged.clone());
        assert_eq!((rig.recovery.torn_bytes, &rig.recovery.damages), (0, &found));
        let mut loaded = rig.load();
        assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..2));
        assert_eq!(damaged.bytes(&format!("{FIRST}.damaged-{last}")).unwrap(), flipped[last..]);
        assert_eq!(cuts(&damaged), [""; 0]);
        std::mem::forget(rig.append(message("t", "message 3", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
        rig.log.close();
        drop((loaded, rig));
        let mut again = Rig::one(damaged);
        assert_eq!(again.recovery.damages, found, "it is said every time");
        let mut loaded = again.load();
        assert_eq!(waiting(&mut again, &mut loaded, 1), numbers([0, 1, 3].into_iter()));
        again.log.close();
    }
}

#[test]
fn after_an_end_in_good_order_an_end_that_is_missing_is_missed() {
    let (files, ends) = ended(3);
    let bytes = files.bytes(FIRST).unwrap();
    for left in [ends[1], ends[2], ends[3] - 1] {
        let cut = files.after_kill();
        cut.put(FIRST, bytes[..left].to_vec());
        let found = check(&cut).unwrap().damages;
        let missing = found.last().unwrap();
        assert_eq!(
            (missing.offset + missing.length, found[0].offset as usize <= left),
            (ends[3] as u64, true),
            "{found:?}"
        );
        let mut rig = Rig::one(cut.clone());
        assert_eq!((rig.recovery.torn_bytes, &rig.recovery.damages), (0, &found));
        rig.put(Record::Session(session(2, "two")));
        rig.end();
        assert_eq!(check(&cut).unwrap().damages, found, "it is said every time");
    }
}

#[test]
fn what_is_written_behind_a_noted_end_is_judged_as_ever_and_a_note_that_is_not_whole_says_nothing() {
    let (files, _) = ended(3);
    // Another life, which is killed in the middle of a write.
    let mut rig = Rig::one(files.clone());
    let before = files.bytes(FIRST).unwrap().len();
    std::mem::forget(rig.append(message("t", "message 3", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]));
    let killed = files.after_kill();
    rig.end();
    let bytes = killed.bytes(FIRST).unwrap();
    for (left, torn) in [(bytes.len(), 0), (bytes.len() - 1, bytes.len() - 1 - before), (before + 1, 1), (before, 0)] {
        let torn_off = killed.after_kill();
        torn_off.put(FIRST, bytes[..left].to_vec());
        let mut rig = Rig::open(torn_off, &Options { refuse_damaged: true, ..options(1) }).unwrap();
        assert_eq!(rig.recovery.torn_bytes as usize, torn);
        let mut loaded = rig.load();
        assert_eq!(waiting(&mut rig, &mut loaded, 1), numbers(0..if left == bytes.len() { 4 } else { 3 }));
        rig.log.close();
    }
    // Damage behind the noted end does not reach over it, and both are told apart.
    let both = killed.after_kill();
    let mut flipped = bytes;
    flipped[before - 1] ^= 1;
    flipped[before + 30] ^= 1;
    both.put(FIRST, flipped.clone());
    let report = check(&both).unwrap();
    let damage = &report.damages[0];
    assert_eq!((report.damages.len(), (damage.offset + damage.length) as usize), (1, before));
    assert_eq!(report.torn_bytes as usize, flipped.len() - before);
    // The note itself is damaged, of another store, or half written.
    let (files, ends) = ended(3);
    let mut bytes = files.bytes(FIRST).unwrap();
    bytes[ends[3] - 1] ^= 1;
    let note = files.bytes("END").unwrap();
    let mut notes: Vec<Vec<u8>> = (0..note.len()).map(|length| note[..length].to_vec()).collect();
    notes.extend((0..note.len()).map(|place| {
        let mut note = note.clone();
        note[place] ^= 1;
        note
    }));
    let mut other = note[..20].to_vec();
    other[0] ^= 1;
    other.extend_from_slice(&crc32c::crc32c(&other).to_le_bytes());
    notes.push(other);
    for note in notes {
        let unknown = files.after_kill();
        unknown.put(FIRST, bytes.clone());
        unknown.put("END", note);
        let report = check(&unknown).unwrap();
        assert_eq!((report.damages.len(), report.torn_bytes as usize), (0, ends[3] - ends[2]));
    }
}

#[test]
fn where_nothing_is_synced_no_end_is_noted() {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &Options { sync: SyncMode::Off, ..options(1) }).unwrap();
    rig.put(Record::Session(session(1, "one")));
    rig.end();
    assert_eq!((files.syncs(), files.bytes("END")), (0, None));
    // The last second of an interval is synced before.
    let mut rig = Rig::open(files.clone(), &Options { sync: SyncMode::Interval, ..options(1) }).unwrap();
    rig.put(Record::Session(session(2, "two")));
    rig.end();
    assert!(files.after_power_cut(|_, _| 0).bytes("END").is_some());
    assert_eq!(files.after_power_cut(|_, _| 0).bytes(FIRST), files.bytes(FIRST));
}
