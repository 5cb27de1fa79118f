//! The drills in short, so that every run of the tests has them: the long ones are `cargo xtask drill`.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use viaduct_drills::{Arguments, DISK_MIB, Drill, Outcome, run};

fn drill(drill: Drill, rounds: u32, sync: &str, expects_loss: bool) {
    pass(&Arguments { sync: sync.to_owned(), expects_loss, ..arguments(drill, rounds) });
}

fn arguments(drill: Drill, rounds: u32) -> Arguments {
    Arguments {
        drill,
        rounds,
        seed: 5,
        sync: "always".to_owned(),
        is_bridged: false,
        expects_loss: false,
        keeps_going: false,
        disk_mib: DISK_MIB,
        edges: 8,
        length: Duration::from_secs(24),
        messages: 20_000,
        folder: None,
        binary: viaduct_tests::viaduct().to_owned(),
    }
}

fn pass(arguments: &Arguments) {
    let folder = tempfile::tempdir().expect("a folder");
    match run(&Arguments { folder: Some(folder.path().to_owned()), ..arguments.clone() }) {
        Outcome::Passed => {}
        // Only root may mount; that is no failure of the broker, wherever this runs.
        Outcome::Skipped(why) => eprintln!("SKIPPED: {why}"),
        Outcome::Failed => {
            let folder = folder.keep();
            panic!("the drill failed, see above; kept: {}", folder.display());
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    drill(Drill::Kill, 5, "always", false);
}

#[test]
fn what_crosses_a_bridge_is_neither_lost_nor_at_qos_2_doubled_when_either_broker_is_killed() {
    for seed in [4, 5] {
        pass(&Arguments { seed, is_bridged: true, ..arguments(Drill::Kill, 4) });
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    drill(Drill::Power, 3, "always", false);
}

#[test]
fn what_is_not_synced_is_lost_when_the_power_is_cut() {
    drill(Drill::Power, 5, "off", true);
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_recovers() {
    drill(Drill::Full, 1, "always", false);
}

#[test]
fn the_bridges_of_a_hub_do_not_notice_the_troubles_of_others_and_come_back_from_their_own() {
    drill(Drill::Hub, 1, "always", false);
}

#[test]
fn a_queue_that_grew_while_the_remote_was_away_drains_in_order_with_nothing_lost() {
    drill(Drill::Drain, 1, "always", false);
}
