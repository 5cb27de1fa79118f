//! What a run of the hub's drill says.
//!
//! In: windows, recoveries, streams. Out: a page in Markdown, fit for `docs/`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::trouble::Kind;
use crate::stream::Stream;

/// A time in which nothing was wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    pub(crate) took: Duration,
    /// What the hub used in it.
    pub(crate) processor: Duration,
    /// Bytes that were resident at its end, and the most until then.
    pub(crate) memory: u64,
    pub(crate) peak: u64,
}

impl Window {
    /// Seconds of processor time a minute.
    pub(crate) fn rate(&self) -> f64 {
        self.processor.as_secs_f64() * 60.0 / self.took.as_secs_f64().max(0.001)
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// What ran, in words.
    pub(crate) setting: String,
    pub(crate) took: Duration,
    pub(crate) begin: Window,
    pub(crate) end: Window,
    back: BTreeMap<Kind, Vec<(Duration, Duration)>>,
    sent: usize,
    acknowledged: usize,
    lost: usize,
    doubled: u64,
    /// Acknowledged by a mosquitto that was killed with it.
    forfeit: usize,
    /// Of bridges whose edge was well, with its stream.
    largest_gap: (Duration, String),
    pub(crate) longest_turn: Duration,
}

impl Figures {
    pub(crate) fn new(setting: String) -> Self {
        Self { setting, ..Self::default() }
    }

    /// A bridge carried again, `took` after nothing was wrong any more.
    pub(crate) fn came_back(&mut self, kind: Kind, took: Duration, bound: Duration) {
        self.back.entry(kind).or_default().push((took, bound));
    }

    pub(crate) fn count(&mut self, stream: &Stream) {
        self.sent += stream.count();
        self.acknowledged += stream.acknowledged();
        let lost = stream.lost().count();
        self.lost += lost;
        self.forfeit += stream.missing().count() - lost;
        self.doubled += stream.doubled;
        if stream.largest_gap > self.largest_gap.0 {
            self.largest_gap = (stream.largest_gap, stream.topic.clone());
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| trouble | times | back after: median | longest | nearest to its bound |\n|---|---|---|---|---|"
        )?;
        for (kind, back) in &self.back {
            let mut times: Vec<Duration> = back.iter().map(|(took, _)| *took).collect();
            times.sort();
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            let longest = times.last().copied().unwrap_or_default();
            let share = |(took, bound): &(Duration, Duration)| took.as_secs_f64() / bound.as_secs_f64();
            let nearest = back.iter().max_by(|one, other| share(one).total_cmp(&share(other)));
            let (took, bound) = nearest.copied().unwrap_or_default();
            writeln!(
                f,
                "| {} | {} | {} | {} | {} of {} |",
                format!("{kind:?}").to_lowercase(),
                times.len(),
                seconds(median),
                seconds(longest),
                seconds(took),
                seconds(bound)
            )?;
        }
        let (gap, topic) = &self.largest_gap;
        writeln!(f)?;
        writeln!(
            f,
            "- {} messages sent at QoS 1, {} acknowledged, {} lost, {} twice; {} a killed mosquitto took along",
            self.sent, self.acknowledged, self.lost, self.doubled, self.forfeit
        )?;
        writeln!(
            f,
            "- largest gap of a bridge whose edge was well: {} ({topic}); the drill itself stood still for {} at most",
            seconds(*gap),
            seconds(self.longest_turn)
        )?;
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "- the hub: {:.2} s of processor a minute at the beginning and {:.2} s at the end; {} MiB and {} MiB resident, \
             {} MiB at most; {} of troubles in between",
            self.begin.rate(),
            self.end.rate(),
            mib(self.begin.memory),
            mib(self.end.memory),
            mib(self.end.peak),
            seconds(self.took)
        )
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
