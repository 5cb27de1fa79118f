//! The topics and filters of a run: few of each, so that they meet.
//!
//! In: chance. Out: names. What bridges carry has a branch of its own in each direction.

use crate::plan::Plan;
use crate::rng::Rng;

/// What a bridge takes at the first broker and puts at the second, below its own name; and the reverse.
pub(crate) const OUTWARD: &str = "out";
pub(crate) const INWARD: &str = "in";

/// What one bridge carries both ways without renaming it.
pub(crate) const COMMON: &str = "x";

/// Where the will of a client goes.
pub(crate) fn will(client: &str) -> String {
    format!("will/{client}")
}

/// Somewhere to publish at `broker`.
pub(crate) fn topic(rng: &mut Rng, broker: usize, has_two: bool, plan: &Plan) -> String {
    let place = rng.below(3);
    if has_two && rng.percent(40) {
        let own = if broker == 0 { OUTWARD } else { INWARD };
        return format!("{}/{place}", rng.pick(&[own, own, COMMON]));
    }
    if rng.percent(plan.shared) {
        return format!("s/{place}");
    }
    let place = rng.below(plan.places);
    match rng.below(4) {
        0 => format!("v/{place}"),
        1 => format!("w//{place}"),
        _ => format!("w/{}/{place}", rng.below(2)),
    }
}

/// Something to subscribe to at `broker`.
pub(crate) fn filter(rng: &mut Rng, client: usize, broker: usize, has_two: bool, plan: &Plan) -> String {
    if rng.percent(plan.shared) {
        // Each client is in one group, or what it gets could not be told apart.
        return ["$share/g/s/#", "$share/h/s/+", "$share/g/s/1"][client % 3].to_owned();
    }
    if has_two && rng.percent(40) {
        let name = if broker == 0 { INWARD } else { OUTWARD };
        return match rng.below(4) {
            3 => rng.pick(&["x/#", "x/+", "x/1"]).to_owned(),
            0 => format!("+/{name}/#"),
            1 => format!("b0/{name}/0"),
            _ => format!("b1/{name}/+"),
        };
    }
    if plan.everything && rng.percent(10) {
        return "#".to_owned();
    }
    let place = rng.below(3);
    match rng.below(10) {
        9 => "v/+".to_owned(),
        0 => "w/#".to_owned(),
        1 => format!("w/+/{place}"),
        2 => format!("w/{}/#", rng.below(2)),
        3 => format!("+/{place}"),
        4 => format!("v/{place}"),
        5 => format!("w/{}/{place}", rng.below(2)),
        6 => "+/+/+".to_owned(),
        7 => "will/+".to_owned(),
        _ => "will/#".to_owned(),
    }
}
