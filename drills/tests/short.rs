//! The drills in short, so that every run of the tests has them: the long ones are `cargo xtask drill`.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use viaduct_drills::{Arguments, DISK_MIB, Drill, Outcome, run};

fn drill(drill: Drill, rounds: u32, sync: &str, expects_loss: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = Arguments {
        drill,
        rounds,
        seed: 5,
        sync: sync.to_owned(),
        expects_loss,
        keeps_going: false,
        disk_mib: DISK_MIB,
        edges: 8,
        length: Duration::from_secs(24),
        messages: 20_000,
        folder: Some(folder.path().to_owned()),
        binary: viaduct_tests::viaduct().to_owned(),
    };
    match run(&arguments) {
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
