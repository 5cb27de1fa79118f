//! How long the server takes to answer.
//!
//! In: what was asked and what was answered. Out: the last measurement. Costs two comparisons for a message. Must never:
//! ask anything by itself.

use std::time::Duration;

use viaduct_codec::Time;

/// How long the server took to answer, last time it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// From the question to the answer, to the millisecond.
    pub took: Duration,
    /// What the question was.
    pub by: Probe,
    /// When the answer came.
    pub at: Time,
}

/// What is asked and answered. One is measured at a time, so a message may be one of many that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// CONNECT, until CONNACK; a login is checked in between.
    Connect,
    /// PINGREQ, until PINGRESP.
    Ping,
    /// The message with this token, until PUBACK or PUBREC; the server keeps it in between.
    Message(u64),
}

/// Measures one question at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    asked: Option<(Probe, Time)>,
    last: Option<RoundTrip>,
}

impl Meter {
    pub(super) const fn last(&self) -> Option<RoundTrip> {
        self.last
    }

    /// `probe` was asked and is measured, whatever was under way.
    pub(super) const fn ask(&mut self, now: Time, probe: Probe) {
        self.asked = Some((probe, now));
    }

    /// A message went out; it is measured when nothing else is.
    pub(super) const fn sent(&mut self, now: Time, token: u64) {
        if self.asked.is_none() {
            self.ask(now, Probe::Message(token));
        }
    }

    /// The answer to `probe` came.
    pub(super) fn answered(&mut self, now: Time, probe: Probe) {
        if let Some((by, since)) = self.asked.take_if(|(asked, _)| *asked == probe) {
            self.last = Some(RoundTrip { took: now.since(since), by, at: now });
        }
    }

    /// The answers to `count` messages came, whose tokens follow each other from `first` on.
    pub(super) fn answered_among(&mut self, now: Time, first: u64, count: u64) {
        if let Some((probe @ Probe::Message(token), _)) = self.asked
            && (first..first + count).contains(&token)
        {
            self.answered(now, probe);
        }
    }

    /// No answer will come.
    pub(super) const fn forget(&mut self) {
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Time {
        Time::from_millis(milliseconds)
    }

    #[test]
    fn one_question_is_measured_at_a_time() {
        let mut meter = Meter::default();
        meter.sent(at(10), 1);
        meter.sent(at(20), 2);
        meter.answered(at(30), Probe::Message(2));
        assert_eq!(meter.last(), None, "the first is measured");
        meter.answered_among(at(33), 2, 5);
        assert_eq!(meter.last(), None, "it is not among those that come after it");
        meter.answered_among(at(35), 0, 3);
        let took = Duration::from_millis(25);
        assert_eq!(meter.last(), Some(RoundTrip { took, by: Probe::Message(1), at: at(35) }));
        meter.sent(at(40), 3);
        meter.ask(at(50), Probe::Ping);
        meter.answered(at(52), Probe::Message(3));
        meter.answered(at(53), Probe::Ping);
        assert_eq!(meter.last().map(|last| (last.took.as_millis(), last.by)), Some((3, Probe::Ping)));
        meter.sent(at(60), 4);
        meter.forget();
        meter.answered(at(70), Probe::Message(4));
        assert_eq!(meter.last().map(|last| last.at), Some(at(53)));
    }
}
