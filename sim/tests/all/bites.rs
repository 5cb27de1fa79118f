//! Faults on purpose between brokers and clients: the oracle names the promise that each of them breaks.
#![allow(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use viaduct_codec::QoS;
use viaduct_sim::{Fault, Options, Promise, run};

/// Looks for `promise` among what the oracle finds broken when `fault` happens, in one seed after the other.
#[track_caller]
fn bites(fault: Fault, promise: Promise) {
    let mut found = BTreeSet::new();
    for seed in 0..60 {
        let report = run(seed, Options { fault: Some(fault), ..Options::default() });
        found.extend(report.violations.into_iter().map(|violation| violation.promise));
        if found.contains(&promise) {
            return;
        }
    }
    panic!("{fault:?} was found as {found:?}");
}

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[test]
fn a_lost_message_is_found() {
    for qos in ALL {
        bites(Fault::Drop(qos), Promise::NothingLost);
    }
}

#[test]
fn a_doubled_message_is_found() {
    for qos in ALL {
        bites(Fault::Double(qos), Promise::NothingDoubled);
    }
}

#[test]
fn what_nobody_asked_for_is_found() {
    bites(Fault::Stray, Promise::NothingUnasked);
    bites(Fault::Promote, Promise::NothingUnasked);
}

#[test]
fn messages_that_change_places_are_found() {
    bites(Fault::Swap, Promise::Order);
}

#[test]
fn a_retained_message_that_is_not_the_last_is_found() {
    bites(Fault::Stale, Promise::Retained);
}

#[test]
fn a_will_that_comes_twice_or_not_or_after_a_goodbye_is_found() {
    bites(Fault::DropBelow("will"), Promise::Wills);
    bites(Fault::DoubleBelow("will"), Promise::Wills);
    bites(Fault::NoGoodbye, Promise::Wills);
}

#[test]
fn a_share_group_that_misses_a_message_or_hears_it_twice_is_found() {
    bites(Fault::DropBelow("s"), Promise::ShareGroups);
    bites(Fault::DoubleBelow("s"), Promise::ShareGroups);
}

#[test]
fn an_identifier_that_is_in_use_is_found() {
    bites(Fault::ReuseId, Promise::PacketIds);
}

#[test]
fn more_in_flight_than_the_client_takes_is_found() {
    bites(Fault::Double(QoS::AtLeastOnce), Promise::ReceiveMaximum);
}

#[test]
fn an_expiry_that_does_not_count_down_or_is_not_obeyed_is_found() {
    bites(Fault::LongExpiry, Promise::Expiry);
    bites(Fault::Overdue, Promise::Expiry);
}

#[test]
fn a_wrong_session_present_is_found() {
    bites(Fault::SessionPresent, Promise::Sessions);
}

#[test]
fn an_answer_that_does_not_come_or_is_another_is_found() {
    bites(Fault::NoAnswer, Promise::Conversation);
    bites(Fault::WrongAnswer, Promise::Conversation);
}

#[test]
fn a_message_that_a_bridge_does_not_bring_or_brings_twice_is_found() {
    bites(Fault::DropBelow("out"), Promise::Bridges);
    bites(Fault::DoubleBelow("out"), Promise::Bridges);
}

#[test]
fn what_a_restart_loses_or_brings_back_is_found() {
    bites(Fault::LoseDisk, Promise::Sessions);
    bites(Fault::LoseDisk, Promise::Retained);
    bites(Fault::OldDisk, Promise::NothingLost);
    bites(Fault::OldDisk, Promise::Sessions);
}

#[test]
fn what_stays_in_flight_is_found() {
    bites(Fault::NoPuback, Promise::NoLeaks);
}
