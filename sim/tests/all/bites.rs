//! Faults on purpose between brokers and clients: the oracle names the promise that each of them breaks.

use std::collections::BTreeSet;

use viaduct_codec::QoS;
use viaduct_sim::{Fault, Options, Promise, run};

/// The promises that the oracle finds broken when `fault` happens in some of the first seeds.
fn found(fault: Fault) -> BTreeSet<Promise> {
    let reports = (0..20).map(|seed| run(seed, Options { fault: Some(fault), ..Options::default() }));
    reports.flat_map(|report| report.violations).map(|violation| violation.promise).collect()
}

#[track_caller]
fn bites(fault: Fault, promise: Promise) {
    let found = found(fault);
    assert!(found.contains(&promise), "{fault:?} was found as {found:?}");
}

#[test]
fn a_lost_message_is_found() {
    bites(Fault::Drop(QoS::AtMostOnce), Promise::NothingLost);
    bites(Fault::Drop(QoS::AtLeastOnce), Promise::NothingLost);
    bites(Fault::Drop(QoS::ExactlyOnce), Promise::NothingLost);
}

#[test]
fn a_doubled_message_is_found() {
    bites(Fault::Double(QoS::AtMostOnce), Promise::NothingDoubled);
    bites(Fault::Double(QoS::AtLeastOnce), Promise::NothingDoubled);
    bites(Fault::Double(QoS::ExactlyOnce), Promise::NothingDoubled);
}

#[test]
fn messages_that_change_places_are_found() {
    bites(Fault::Swap, Promise::Order);
}
