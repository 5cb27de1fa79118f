//! `viaduct store`: what it says of a store, and of what is none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, Finished, Hello, run_viaduct};

fn store(what: &str, dir: &Path) -> Finished {
    run_viaduct(&["store", what, dir.to_str().unwrap()], "")
}

#[test]
fn a_store_is_checked_and_counted_from_its_folder_or_the_one_above() {
    let mut broker = Broker::start("");
    let mut client = Hello::v311("away").persistent().connect(broker.address());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let data = broker.folder().join("data");
    for what in ["check", "stats"] {
        let held = store(what, &data);
        assert!(held.code == Some(2) && held.err.contains("held by another broker"), "{held:?}");
    }
    assert_eq!(broker.stop(), Some(0));
    for dir in [data.clone(), data.join("store")] {
        let checked = store("check", &dir);
        assert!(checked.code == Some(0) && checked.out.contains("all is whole"), "{checked:?}");
        let counted = store("stats", &dir);
        assert!(counted.code == Some(0) && counted.out.contains("\nsessions 1\n"), "{counted:?}");
    }
}

#[test]
fn what_is_no_store_is_an_error_that_says_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["empty", "other", "data/store"] {
        std::fs::create_dir_all(at(name)).unwrap();
    }
    std::fs::write(at("other/notes.txt"), "").unwrap();
    for (name, found) in [
        ("nowhere", "but there is nothing"),
        ("other/notes.txt", "but it is no directory"),
        ("empty", "found nothing"),
        ("other", "found only \"notes.txt\""),
        ("data", "found nothing"),
    ] {
        for what in ["check", "stats"] {
            let refused = store(what, &at(name));
            assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""), "{what} {name}: {refused:?}");
            assert!(refused.err.contains("expected") && refused.err.contains(found), "{what} {name}: {refused:?}");
        }
    }
}

/// A broker that keeps a session with a message and is ended by `end`, with one bit of its last frame flipped after that.
fn with_a_flipped_bit(end: impl FnOnce(&mut Broker)) -> Broker {
    let mut broker = Broker::start("");
    let mut client = Hello::v311("away").persistent().connect(broker.address());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    publisher.publish("t", "hello", QoS::AtLeastOnce);
    publisher.disconnect();
    end(&mut broker);
    let log = broker.folder().join("data/store/00000001.log");
    let mut bytes = std::fs::read(&log).unwrap();
    *bytes.last_mut().unwrap() ^= 0x08;
    std::fs::write(&log, bytes).unwrap();
    broker
}

#[test]
fn after_sigterm_a_bit_that_flips_in_the_last_frame_is_damage() {
    let broker = with_a_flipped_bit(|broker| assert_eq!(broker.stop(), Some(0)));
    let data = broker.folder().join("data");
    let checked = store("check", &data);
    assert!(checked.code == Some(1) && checked.out.contains("damaged: 00000001.log"), "{checked:?}");
    let config = broker.config_path();
    let set = format!("node.data_dir={}", data.display());
    let words = ["run", "--refuse-damaged", "--config", config.to_str().unwrap(), "--set", &set];
    let refused = run_viaduct(&words, "");
    assert!(refused.code == Some(2) && refused.err.contains("the store is damaged"), "{refused:?}");
}

#[test]
fn after_a_kill_it_can_not_be_told_from_an_unfinished_write() {
    let broker = with_a_flipped_bit(Broker::kill);
    let checked = store("check", &broker.folder().join("data"));
    assert!(checked.code == Some(0) && checked.out.contains("half written"), "{checked:?}");
}
