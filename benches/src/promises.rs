//! What must hold: bounds on figures of the tables, with each figure and whether it is within.
//!
//! In: the tables of a run. Out: one more. It knows which bound belongs to which scenario and measures nothing.

use crate::matching::{CACHED, UNCACHED};
use crate::report::{Table, aligned, significant, thousands};
use crate::scenario::Column;

/// A bound on one figure.
struct Promise {
    scenario: &'static str,
    what: &'static str,
    figure: Figure,
    bound: Bound,
}

/// Medians of a table, by the names of the servers.
#[derive(Clone, Copy)]
enum Figure {
    Cost(&'static str),
    /// The first one's cost relative to the second's.
    Ratio(&'static str, &'static str),
    Further(&'static str, Column),
    Burden(&'static str),
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    Under(f64),
}

const OWN: &str = "Viaduct";
const KEPT: &str = "Viaduct, kept";
const PEER: &str = "mosquitto";
const RELAY: &str = "relay (parse)";
const BRIDGES: [&str; 2] = ["Viaduct, bridge 5.0", "Viaduct, bridge 3.1.1"];

fn all() -> Vec<Promise> {
    use Bound::{AtLeast, AtMost, Under};
    let mut all = Vec::new();
    let mut add = |scenario, what, figure, bound| all.push(Promise { scenario, what, figure, bound });
    for (scenario, least) in [
        ("dense-10-10", 40.0),
        ("dense-1-100", 100.0),
        ("dense-100-1", 30.0),
        ("dense-10-10-qos1", 20.0),
        ("dense-10-10-qos2", 20.0),
    ] {
        add(scenario, "CPU: mosquitto ÷ Viaduct", Figure::Ratio(PEER, OWN), AtLeast(least));
    }
    for scenario in ["sparse-10-10", "sparse-1-100"] {
        add(scenario, "CPU: Viaduct ÷ relay (parse)", Figure::Ratio(OWN, RELAY), AtMost(1.15));
    }
    add("idle", "bytes per connection", Figure::Cost(OWN), AtMost(2_048.0));
    add("idle-tls", "bytes per connection", Figure::Cost(OWN), AtMost(10_240.0));
    for scenario in ["connect", "connect-tls"] {
        add(scenario, "CPU: Viaduct ÷ mosquitto", Figure::Ratio(OWN, PEER), AtMost(1.3));
    }
    for (who, most) in [(UNCACHED, 800.0), (CACHED, 40.0)] {
        add("match", who, Figure::Cost(who), AtMost(most));
    }
    for scenario in ["bridge-qos0", "bridge-qos1"] {
        add(scenario, "CPU: bridge 5.0 ÷ within one", Figure::Ratio(BRIDGES[0], OWN), AtMost(3.0));
        add(scenario, "CPU: bridge 3.1.1 ÷ within one", Figure::Ratio(BRIDGES[1], OWN), AtMost(3.0));
    }
    add("slow-subscriber", "CPU: one has stopped ÷ all read", Figure::Burden(OWN), Under(1.02));
    add("store-online", "CPU: sessions that are kept ÷ clean ones", Figure::Ratio(KEPT, OWN), AtMost(1.5));
    add("store-online", "syncs per message", Figure::Further(KEPT, Column::Syncs), Under(0.01));
    for scenario in ["store-offline", "store-offline-100"] {
        add(scenario, "rate ÷ the same groups bare", Figure::Further(OWN, Column::OfBare), AtLeast(0.5));
    }
    add("store-offline-100", "rate ÷ one message a sync, bare", Figure::Further(OWN, Column::OfSingle), AtLeast(50.0));
    for scenario in ["store-backlog", "store-backlog-100"] {
        add(scenario, "ms from the start of the process to ready", Figure::Cost(OWN), Under(2_000.0));
        add(scenario, "MiB above an empty broker while it drains", Figure::Further(OWN, Column::Peak), Under(64.0));
    }
    all
}

/// A heading and a table of the promises about scenarios that were run; nothing if there is none.
pub(crate) fn text(tables: &[Table]) -> String {
    let mut rows = vec![["what", "bound", "figure", "holds"].map(str::to_owned).to_vec()];
    for Promise { scenario, what, figure, bound } in all() {
        let Some(table) = tables.iter().find(|table| table.scenario.name == scenario) else { continue };
        let value = figure.of(table);
        let holds = value.is_some_and(|value| bound.holds(value));
        let shown = value.map_or_else(|| "–".to_owned(), significant);
        rows.push(vec![format!("{scenario}: {what}"), bound.text(), shown, yes_or_no(holds)]);
    }
    let counted: Vec<u64> = tables.iter().filter_map(|table| table.lost_and_doubled(OWN)).collect();
    if !counted.is_empty() {
        let count: u64 = counted.iter().sum();
        let what = "all: lost and doubled by Viaduct, in each of its rows".to_owned();
        rows.push(vec![what, "0".to_owned(), thousands(count as f64), yes_or_no(count == 0)]);
    }
    if rows.len() == 1 {
        return String::new();
    }
    format!("\n## What must hold\n\n{}", aligned(&rows))
}

fn yes_or_no(holds: bool) -> String {
    if holds { "yes" } else { "NO" }.to_owned()
}

impl Figure {
    fn of(self, table: &Table) -> Option<f64> {
        match self {
            Self::Cost(name) => table.cost(name),
            Self::Ratio(first, second) => Some(table.cost(first)? / table.cost(second)?),
            Self::Further(name, column) => table.further(name, column),
            Self::Burden(name) => table.burden(name),
        }
    }
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Under(most) => value < most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
            Self::Under(most) => format!("< {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn every_promise_is_about_a_scenario_that_there_is() {
        let names: Vec<&str> = scenario::all().iter().map(|scenario| scenario.name).collect();
        assert!(all().iter().all(|promise| names.contains(&promise.scenario)));
    }

    #[test]
    fn a_bound_holds_at_its_edge_unless_it_says_under() {
        assert!(Bound::AtLeast(2.0).holds(2.0) && Bound::AtMost(2.0).holds(2.0));
        assert!(!Bound::Under(2.0).holds(2.0) && !Bound::AtLeast(2.0).holds(f64::NAN));
    }
}
