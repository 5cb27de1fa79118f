//! The way back to the first address while another one is in use.

use std::time::Duration;

use viaduct_bridge::{Event, Probed};
use viaduct_codec::ReasonCode;

use crate::rig::{Rig, address, two_way};

const EVERY: Duration = Duration::from_secs(300);

/// A bridge whose link to `one` was lost and that is up at `two`.
fn at_the_second() -> Rig {
    let mut settings = two_way();
    settings.addresses = ["one", "two"].map(address).to_vec();
    settings.failback = Some(EVERY);
    let mut rig = Rig::new(settings);
    rig.pass(Duration::from_secs(61));
    assert!(rig.probes.is_empty() && rig.bridge.is_up());
    rig.cut();
    rig.settle();
    assert_eq!(last_host(&rig), "two");
    assert!(rig.bridge.is_up());
    rig
}

fn last_host(rig: &Rig) -> &str {
    &rig.dials.last().unwrap().0
}

fn answer(rig: &mut Rig, found: &Probed) {
    let probe = rig.probes.last().unwrap().0;
    rig.bridge.handle_probed(rig.now, probe, found);
    rig.settle();
}

#[test]
fn the_first_address_is_probed_at_the_level_that_worked_and_taken_again_once_healthy() {
    let mut rig = at_the_second();
    rig.pass(EVERY.checked_sub(Duration::from_secs(1)).unwrap());
    assert!(rig.probes.is_empty());
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.probes, [(1, "one".to_owned(), vec![5])]);
    assert!(rig.bridge.is_up() && last_host(&rig) == "two", "a probe does not disturb the link");
    answer(&mut rig, &Probed::Failed("refused".into()));
    assert_eq!(last_host(&rig), "two");
    rig.pass(EVERY);
    answer(&mut rig, &Probed::Healthy);
    assert!(rig.bridge.is_up());
    assert_eq!(last_host(&rig), "one");
    assert_eq!(rig.bridge.stats().connects.get("returned"), Some(&1));
    assert!(rig.events.iter().any(|event| matches!(event, Event::Returning { .. })), "{:?}", rig.lines());
    rig.pass(10 * EVERY);
    assert_eq!(rig.probes.len(), 2, "at the first address there is nothing to look for");
}

#[test]
fn an_answer_that_comes_late_or_twice_does_nothing() {
    let mut rig = at_the_second();
    rig.pass(EVERY);
    rig.pass(EVERY);
    let first = rig.probes[0].0;
    rig.bridge.handle_probed(rig.now, first, &Probed::Healthy);
    rig.settle();
    assert_eq!(last_host(&rig), "two");
    answer(&mut rig, &Probed::Failed("refused".into()));
    answer(&mut rig, &Probed::Healthy);
    assert_eq!(last_host(&rig), "two");
    // Nor does one that comes when the link is down.
    rig.pass(EVERY);
    rig.reachable = false;
    rig.cut();
    rig.settle();
    let dials = rig.dials.len();
    answer(&mut rig, &Probed::Healthy);
    assert_eq!(rig.dials.len(), dials);
}

#[test]
fn a_probe_that_is_refused_is_told_once_and_the_link_stays() {
    let mut rig = at_the_second();
    for _ in 0..3 {
        rig.pass(EVERY);
        answer(&mut rig, &Probed::Refused(ReasonCode::NOT_AUTHORIZED));
    }
    let told = rig.events.iter().filter(|event| matches!(event, Event::ProbeRefused { .. })).count();
    assert_eq!((told, last_host(&rig)), (1, "two"));
}

#[test]
fn a_first_address_that_dials_back_is_told_once_and_the_link_stays_until_it_does_no_more() {
    let mut rig = at_the_second();
    for _ in 0..3 {
        rig.pass(EVERY);
        answer(&mut rig, &Probed::LinksBack("a bridge as \"one.b\"".into()));
    }
    let told: Vec<String> = rig.lines().into_iter().filter(|line| line.contains("one.b")).collect();
    assert!(told.len() == 1 && told[0].contains("the link stays where it is"), "{told:?}");
    assert!(rig.bridge.is_up() && last_host(&rig) == "two");
    rig.pass(EVERY);
    answer(&mut rig, &Probed::Healthy);
    assert_eq!(last_host(&rig), "one");
}

#[test]
fn returns_that_do_not_hold_become_rare() {
    let mut rig = at_the_second();
    let begin = rig.now;
    while rig.now < begin.after(100 * EVERY) {
        rig.pass(EVERY / 10);
        if rig.probes.last().is_some_and(|(probe, ..)| *probe == rig.probes.len() as u64) && last_host(&rig) == "two" {
            answer(&mut rig, &Probed::Healthy);
            if last_host(&rig) == "one" {
                rig.cut();
                rig.settle();
                rig.pass(Duration::from_secs(61));
            }
        }
    }
    let returned = rig.bridge.stats().connects["returned"];
    assert!((5..=9).contains(&returned), "{returned} returns in a hundred intervals");
    assert_eq!(last_host(&rig), "two");
}

#[test]
fn nothing_is_probed_when_it_is_not_wanted() {
    let mut settings = two_way();
    settings.addresses = ["one", "two"].map(address).to_vec();
    let mut rig = Rig::new(settings);
    rig.pass(Duration::from_secs(61));
    rig.cut();
    rig.settle();
    rig.pass(100 * EVERY);
    assert!(rig.probes.is_empty() && last_host(&rig) == "two");
}
