//! Tables: in come samples, out go medians with their spread, ratios to the relay and to mosquitto, and losses.

use crate::promises;
use crate::scenario::{Column, Sample, Scenario};

/// One server in one scenario.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
    /// Why a sample is missing.
    pub(crate) failure: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) scenario: Scenario,
    pub(crate) contestants: Vec<Contestant>,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: String,
    /// Of the minute before the run.
    pub(crate) load: String,
    /// The file system under the servers' folders.
    pub(crate) disk: String,
    /// Names and versions of the servers.
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) is_quick: bool,
    pub(crate) tables: Vec<Table>,
}

impl Contestant {
    /// Without samples.
    pub(crate) fn new(name: String) -> Self {
        Self { name, samples: Vec::new(), failure: None }
    }
}

const RELAY: &str = "relay (parse)";
const PEER: &str = "mosquitto";

/// What stands above every run.
const PAGE_HEAD: &str = include_str!("head.md");

impl Report {
    /// Machine, versions and command.
    pub(crate) fn head(&self) -> String {
        let Self { machine, load, disk, .. } = self;
        let mut text = format!("Machine: {machine}; load before the run: {load}; data on {disk}.\n");
        let versions: Vec<String> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        text.push_str(&format!("Servers: {}.\n", versions.join("; ")));
        let quick = if self.is_quick { ", short samples that show that it works and not how fast" } else { "" };
        text.push_str(&format!("Command: `{}` ({} rounds{quick}).\n", self.command, self.rounds));
        text
    }

    /// The whole page.
    pub(crate) fn page(&self) -> String {
        let head = self.head().lines().collect::<Vec<_>>().join("\n\n");
        let tables: String = self.tables.iter().map(Table::text).collect();
        format!("{PAGE_HEAD}\n## This run\n\n{head}\n{}\n## Tables\n{tables}", self.promises())
    }

    /// What must hold, and whether it does.
    pub(crate) fn promises(&self) -> String {
        promises::text(&self.tables)
    }
}

impl Table {
    /// A heading and a table.
    pub(crate) fn text(&self) -> String {
        let scenario = &self.scenario;
        let mut columns = vec!["server".to_owned(), scenario.unit().to_owned(), scenario.rate_unit().to_owned()];
        if self.has(RELAY) {
            columns.push("÷ parse".to_owned());
        }
        if self.has(PEER) {
            columns.push("× mosquitto".to_owned());
        }
        columns.extend(scenario.base().map(str::to_owned));
        if scenario.has_messages() {
            columns.extend(["lost", "doubled"].map(str::to_owned));
        }
        if scenario.has_latency() {
            columns.extend(["p50 µs", "p99 µs"].map(str::to_owned));
        }
        columns.extend(scenario.burden().map(str::to_owned));
        columns.extend(scenario.further().iter().map(|column| column.title().to_owned()));
        let mut rows = vec![columns];
        rows.extend(self.contestants.iter().map(|contestant| self.row(contestant)));
        let mut text = format!("\n### {}\n\n{}.\n\n{}", scenario.name, scenario.about, aligned(&rows));
        for contestant in &self.contestants {
            if let Some(failure) = &contestant.failure {
                let good = contestant.samples.len();
                text.push_str(&format!("\n{}: {good} samples succeeded; {failure}\n", contestant.name));
            }
        }
        text
    }

    fn has(&self, name: &str) -> bool {
        self.contestants.iter().any(|contestant| contestant.name == name)
    }

    /// The median of a figure of the server of this name, if it is there and tells.
    fn median(&self, name: &str, pick: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let contestant = self.contestants.iter().find(|contestant| contestant.name == name)?;
        Some(Spread::new(contestant.samples.iter().filter_map(pick))?.median)
    }

    pub(crate) fn cost(&self, name: &str) -> Option<f64> {
        self.median(name, |sample| Some(sample.cost))
    }

    pub(crate) fn burden(&self, name: &str) -> Option<f64> {
        self.median(name, |sample| sample.burden)
    }

    pub(crate) fn further(&self, name: &str, column: Column) -> Option<f64> {
        self.median(name, |sample| sample.value(column))
    }

    /// Of all servers whose name begins so; `None` if messages are not counted.
    pub(crate) fn lost_and_doubled(&self, begin: &str) -> Option<u64> {
        let own = self.contestants.iter().filter(|contestant| contestant.name.starts_with(begin));
        let samples = own.flat_map(|contestant| &contestant.samples);
        self.scenario.has_messages().then(|| samples.map(|sample| sample.lost + sample.behind).sum())
    }

    fn row(&self, contestant: &Contestant) -> Vec<String> {
        let samples = &contestant.samples;
        let of = |pick: fn(&Sample) -> f64| Spread::new(samples.iter().map(pick));
        let cost = of(|sample| sample.cost);
        let ratio = |other: &str, is_inverse: bool| {
            let reference = self.cost(other)?;
            let own = cost.as_ref()?.median;
            let ratio = if is_inverse { reference / own } else { own / reference };
            Some(significant(ratio))
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let mut cells = vec![
            contestant.name.clone(),
            or_none(cost.as_ref().map(|cost| cost.text(significant))),
            or_none(of(|sample| sample.rate).map(|rate| thousands(rate.median))),
        ];
        if self.has(RELAY) {
            cells.push(or_none(ratio(RELAY, false)));
        }
        if self.has(PEER) {
            cells.push(or_none(ratio(PEER, true)));
        }
        if self.scenario.base().is_some() {
            let base = contestant.name.split_once(',').map(|(base, _)| base);
            cells.push(or_none(base.and_then(|base| ratio(base, false))));
        }
        if self.scenario.has_messages() {
            cells.push(thousands(samples.iter().map(|sample| sample.lost).sum::<u64>() as f64));
            cells.push(thousands(samples.iter().map(|sample| sample.behind).sum::<u64>() as f64));
        }
        if self.scenario.has_latency() {
            for pick in [|(p50, _)| p50, |(_, p99)| p99] as [fn((f64, f64)) -> f64; 2] {
                let quiet = samples.iter().filter(|sample| sample.is_quiet());
                let spread = Spread::new(quiet.filter_map(|sample| sample.latency).map(pick));
                cells.push(spread.map_or_else(|| "noisy".to_owned(), |spread| spread.text(significant)));
            }
        }
        if self.scenario.burden().is_some() {
            let burdens = Spread::new(samples.iter().filter_map(|sample| sample.burden));
            cells.push(or_none(burdens.map(|burden| burden.text(|value| format!("{value:.2}")))));
        }
        for column in self.scenario.further() {
            let spread = Spread::new(samples.iter().filter_map(|sample| sample.value(*column)));
            cells.push(or_none(spread.map(|spread| spread.text(significant))));
        }
        cells
    }
}

/// Median, least and most.
#[derive(Debug)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// `None` without values.
    fn new(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), least, most })
    }

    fn text(&self, number: impl Fn(f64) -> String) -> String {
        format!("{} [{}–{}]", number(self.median), number(self.least), number(self.most))
    }
}

/// Three digits.
pub(crate) fn significant(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => return thousands(value),
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// A whole number with commas.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A markdown table whose columns also line up in a terminal; the first row is the head.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let length = |cell: &String| cell.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padded = if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
            text.push_str(&format!("| {padded} "));
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column == 0 { '-' } else { ':' };
                text.push_str(&format!("|{}{end}", "-".repeat(width + 1)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_or_commas() {
        let texts = [0.02214, 0.2214, 2.214, 22.14, 221.4, 22140.0, 0.0].map(significant);
        assert_eq!(texts, ["0.0221", "0.221", "2.21", "22.1", "221", "22,140", "0"]);
        assert_eq!(thousands(1234567.0), "1,234,567");
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        let spread = Spread::new([3.0, 1.0].into_iter()).unwrap();
        assert_eq!((spread.median, spread.least, spread.most), (2.0, 1.0, 3.0));
        assert!(Spread::new(std::iter::empty()).is_none());
    }
}
