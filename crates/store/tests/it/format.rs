//! The format on a disk: a real folder, the folder of an old version, and the page that describes it.

use std::path::Path;
use std::sync::Arc;

use viaduct_codec::{
    Message, MessageProperties, QoS, SessionId, SubscribeOptions, Time, TopicFilter, TopicName, UserProperties, VarInt,
};
use viaduct_store::log::{DiskFiles, FaultyFiles, Files, OpenError, Options, check, stats};
use viaduct_store::{InFlight, Key, Owed, Record, SessionRecord, Store, StoredWill, SubscriptionRecord, WillRecord};

use crate::rig::{NOW, Rig, message, options, owed, packet_id, session, waiting};

#[test]
fn a_real_folder_is_made_locked_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/store");
    assert!(check(&DiskFiles::new(path.clone())).is_err() && !path.exists());
    let mut rig = Rig::open(DiskFiles::new(path.clone()), &options(1)).unwrap();
    rig.put(Record::Session(session(1, "one")));
    let places = rig.append(message("t", "x", QoS::AtLeastOnce), vec![owed(1, QoS::AtLeastOnce)]);
    let Err(error) = Rig::open(DiskFiles::new(path.clone()), &options(1)).map(|_| ()) else { panic!("it starts") };
    assert!(matches!(error, OpenError::Locked { pid: Some(pid) } if pid == std::process::id()), "{error}");
    rig.log.close();
    drop((places, rig));
    assert_eq!(check(&DiskFiles::new(path.clone())).unwrap().messages, 1);
    assert_eq!(stats(&DiskFiles::new(path.clone())).unwrap().queued, 1);
    let mut rig = Rig::open(DiskFiles::new(path), &options(1)).unwrap();
    let mut loaded = rig.load();
    assert_eq!(waiting(&mut rig, &mut loaded, 1), ["x"]);
    rig.log.close();
}

/// A store with one of everything, always the same bytes. Three segments.
fn one_of_everything() -> FaultyFiles {
    let files = FaultyFiles::default();
    let mut rig = Rig::open(files.clone(), &Options { segment_bytes: 1 << 10, ..options(1) }).unwrap();
    let full = Message {
        expires: Some(Time::from_millis(4_000_000_000_000)),
        properties: Some(Arc::new(MessageProperties {
            payload_format: Some(true),
            response_topic: Some(TopicName::new("answers").unwrap()),
            correlation_data: Some(vec![1, 2].into()),
            content_type: Some("text/plain".into()),
            user_properties: user_properties(),
        })),
        ..message("a/b", "full", QoS::ExactlyOnce)
    };
    let will = StoredWill { message: Arc::new(full.clone()), delay: 30 };
    rig.put(Record::Session(session(1, "one")));
    rig.put(Record::Session(SessionRecord {
        username: Some("ann".into()),
        is_local: true,
        mountpoint: Some("site/".into()),
        disconnected: Some(NOW),
        will: Some(will.clone()),
        delayed_will: Some((NOW, Arc::new(full.clone()))),
        ..session(2, "two")
    }));
    rig.put(Record::Subscription(SubscriptionRecord {
        client_id: "one".into(),
        filter: TopicFilter::new("$share/g/a/+").unwrap(),
        options: SubscribeOptions { qos: QoS::AtLeastOnce, no_local: true, ..SubscribeOptions::default() },
        id: VarInt::new(300),
    }));
    rig.put(Record::Retained(Arc::new(full.clone()), 3));
    rig.put(Record::Will(WillRecord {
        client_id: "short".into(),
        username: None,
        is_local: false,
        mountpoint: None,
        will,
    }));
    let grouped = Owed {
        retain: true,
        ids: [1, 300].into_iter().filter_map(VarInt::new).collect(),
        group: Some("$share/g/a/+".into()),
        ..owed(2, QoS::ExactlyOnce)
    };
    rig.put(Record::Retained(Arc::new(message("long", &"0123456789".repeat(60), QoS::AtMostOnce)), 4));
    let mut places = Vec::new();
    for _ in 0..2 {
        let all = vec![owed(1, QoS::AtLeastOnce), grouped.clone()];
        let accepted =
            rig.door().append(NOW, &Arc::new(full.clone()), all.into(), Some((SessionId(1), packet_id(7))), 0).unwrap();
        rig.safe(accepted.accepted);
        places.extend((0..2).map(|index| accepted.kept.as_ref().unwrap().place(index)));
    }
    let accepted = rig.door().sent(NOW, &places[1], packet_id(9), QoS::AtLeastOnce).unwrap();
    rig.safe(accepted);
    let accepted = rig.door().received(NOW, &places[1]).unwrap();
    rig.safe(accepted);
    let accepted = rig.door().released(NOW, SessionId(1), packet_id(8)).unwrap();
    rig.safe(accepted);
    rig.put(Record::Retained(Arc::new(message("gone", "", QoS::AtMostOnce)), 5));
    let accepted = rig.door().delete(NOW, &Key::Session("none".into())).unwrap();
    rig.safe(accepted);
    drop(places.remove(0));
    rig.put(Record::Session(session(3, "three")));
    rig.log.close();
    drop((places, rig));
    files
}

fn user_properties() -> bytes::Bytes {
    let mut encoded = Vec::new();
    assert!(UserProperties::push(&mut encoded, "name", "value"));
    encoded.into()
}

/// Compares a folder with what [`one_of_everything`] puts there.
fn has_one_of_everything(files: FaultyFiles) {
    assert_eq!(check(&files).unwrap().damages, []);
    let mut rig = Rig::open(files, &Options { refuse_damaged: true, ..options(1) }).unwrap();
    let loaded = rig.load();
    assert_eq!(loaded.sessions.iter().map(|session| session.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        loaded.sessions[1].will.as_ref().unwrap().message.properties.as_ref().unwrap().user_properties,
        user_properties()
    );
    assert_eq!((loaded.subscriptions.len(), loaded.retained.len(), loaded.wills.len()), (1, 2, 1));
    assert_eq!(loaded.subscriptions[0].id, VarInt::new(300));
    assert_eq!(loaded.inbound, [(SessionId(1), packet_id(7))]);
    let queued: Vec<_> = loaded.queued.iter().map(|(session, backlog)| (session.0, backlog.len())).collect();
    assert_eq!(queued, [(1, 1), (2, 1)]);
    let InFlight { stored, packet_id: id, received } = &loaded.inflight[0].1[0];
    assert_eq!((*id, *received, stored.owed.retain, stored.owed.ids.len()), (packet_id(9), true, true, 2));
    assert_eq!(stored.owed.group.as_deref(), Some("$share/g/a/+"));
    assert_eq!(stored.message.payload, "full");
    rig.log.close();
}

#[test]
fn format_1_is_read_and_written_for_ever() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let made = one_of_everything();
    if std::env::var_os("WRITE_FIXTURES").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for name in made.list().unwrap() {
            std::fs::write(folder.join(&name), made.bytes(&name).unwrap()).unwrap();
        }
    }
    let kept = FaultyFiles::default();
    for name in ["00000001.log", "00000002.log", "00000003.log"] {
        kept.put(name, std::fs::read(folder.join(name)).unwrap());
        assert_eq!(made.bytes(name), kept.bytes(name), "a change of the bytes needs a new version");
    }
    has_one_of_everything(kept);
    has_one_of_everything(made);
}

#[test]
fn the_example_of_the_page_is_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/store-format.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page.split("```hex\n").nth(1).unwrap().split("```").next().unwrap();
    let bytes: Vec<u8> = example
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let files = FaultyFiles::default();
    let mut rig = Rig::one(files.clone());
    rig.door().put(NOW, Record::Session(session(1, "one"))).unwrap();
    let message = Message { payload: "hello".into(), ..message("t/1", "", QoS::AtLeastOnce) };
    let appended = rig.door().append(NOW, &Arc::new(message), vec![owed(1, QoS::AtLeastOnce)].into(), None, 0).unwrap();
    rig.safe(appended.accepted);
    rig.end();
    let written = files.bytes("00000001.log").unwrap();
    assert_eq!(bytes, written, "written: {written:02x?}");
}
