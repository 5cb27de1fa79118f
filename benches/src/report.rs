//! Tables: in come samples, out go medians with their spread, ratios to the relay and to mosquitto, and losses.

use crate::scenario::{Sample, Scenario};

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
    /// Names and versions of the servers.
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) is_quick: bool,
    pub(crate) tables: Vec<Table>,
}

const PAGE_HEAD: &str = "# Benchmarks

Written by `cargo xtask bench --write`; `cargo xtask bench` runs the same and only prints. Every figure stands beside
others of the same minutes: **compare within a table, not between machines**.

- A sample is a fresh server process on its own core and a load generator on another, over loopback. Samples are taken
  in turn, server after server, round after round; a figure is the median of the rounds, with the least and the most in
  brackets.
- Servers have their default settings but for these. Viaduct: one worker, no HTTP, `session.max_inflight = 1000`.
  mosquitto: `max_inflight_messages 0` and `max_queued_messages 0`, because it would lose messages otherwise, and
  `set_tcp_nodelay true`. rumqttd: 500 in flight, and no wait between two connections.
- CPU is what the operating system counts for all threads of the server (`/proc/PID/task/*/schedstat`), divided by the
  messages that subscribers received. It holds on a busy machine far better than messages a second do, which also
  depend on the generator.
- `relay (copy)` forwards a publisher's bytes and `relay (parse)` walks the messages, hashes the topic and looks up who
  hears it. They check, count and keep nothing: they are the floor, not brokers. `÷ parse` is the cost relative to the
  second, `× mosquitto` how many times cheaper than mosquitto in the same run.
- *Dense*: each publisher writes up to 64 KiB of messages at once, with at most 192 KiB under way to one subscriber.
  *Unbatched*: one message is written and the next when it has arrived. *Sparse*: an open loop at a fixed rate; latency
  counts from the time at which a message was due, and no percentile is shown when server or generator waited for a
  core more than 2 % of the time in each of three attempts (`noisy`).
- A *bridge* is two processes of the same broker on one core, published at the first and heard at the second; its cost
  is that of both, and `÷ within one` relates it to the same flow through one process.
- Every message carries its place in its publisher's stream. *Lost* ones never came, *doubled* ones came after a later
  one; both are sums over all rounds.
- Memory is what the server holds alone and unbacked by a file (`Anonymous` in `smaps_rollup`); what the kernel holds
  for a socket comes on top and is the same for all.
";

impl Report {
    /// Machine, versions and command.
    pub(crate) fn head(&self) -> String {
        let mut text = format!("Machine: {}; load before the run: {}.\n", self.machine, self.load);
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
        format!("{PAGE_HEAD}\n## This run\n\n{head}\n{tables}")
    }
}

impl Table {
    /// A heading and a table.
    pub(crate) fn text(&self) -> String {
        let scenario = &self.scenario;
        let mut columns = vec!["server".to_owned(), scenario.unit().to_owned(), scenario.rate_unit().to_owned()];
        columns.extend(["÷ parse", "× mosquitto"].map(str::to_owned));
        if scenario.has_base() {
            columns.push("÷ within one".to_owned());
        }
        if scenario.has_messages() {
            columns.extend(["lost", "doubled"].map(str::to_owned));
        }
        if scenario.has_latency() {
            columns.extend(["p50 µs", "p99 µs"].map(str::to_owned));
        }
        columns.extend(scenario.burden().map(str::to_owned));
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

    fn row(&self, contestant: &Contestant) -> Vec<String> {
        let samples = &contestant.samples;
        let of = |pick: fn(&Sample) -> f64| Spread::new(samples.iter().map(pick));
        let cost = of(|sample| sample.cost);
        let ratio = |other: &str, is_inverse: bool| {
            let reference = self.contestants.iter().find(|each| each.name == other)?;
            let reference = Spread::new(reference.samples.iter().map(|sample| sample.cost))?.median;
            let own = cost.as_ref()?.median;
            let ratio = if is_inverse { reference / own } else { own / reference };
            Some(significant(ratio))
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
        let mut cells = vec![
            contestant.name.clone(),
            or_none(cost.as_ref().map(|cost| cost.text(significant))),
            or_none(of(|sample| sample.rate).map(|rate| thousands(rate.median))),
            or_none(ratio("relay (parse)", false)),
            or_none(ratio("mosquitto", true)),
        ];
        if self.scenario.has_base() {
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
fn significant(value: f64) -> String {
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
fn thousands(value: f64) -> String {
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
fn aligned(rows: &[Vec<String>]) -> String {
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
