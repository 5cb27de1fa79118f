//! How much crosses the bridge in a second, over the last minute.
//!
//! In: totals, now and then. Out: what they grew by in a second. Never reads a clock.

use std::collections::VecDeque;
use std::time::Duration;

use viaduct_codec::Time;

/// What the rates are of: more would hide what has just changed, less would jump.
const SPAN: Duration = Duration::from_secs(60);
/// Samples are at least so far apart, so that there are few.
const STEP: Duration = Duration::from_millis(900);

/// What has crossed since the bridge began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages handed to the remote.
    pub messages_out: u64,
    /// Messages handed to this broker.
    pub messages_in: u64,
    /// Bytes written to the remote, with everything that MQTT puts around messages, before TLS.
    pub bytes_out: u64,
    /// Bytes read from the remote.
    pub bytes_in: u64,
}

/// What crosses in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSecond {
    /// Over how long: up to a minute.
    pub span: Duration,
    /// Messages handed to the remote.
    pub messages_out: f64,
    /// Messages handed to this broker.
    pub messages_in: f64,
    /// Bytes written to the remote.
    pub bytes_out: f64,
    /// Bytes read from the remote.
    pub bytes_in: f64,
}

/// The totals of the last minute.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    samples: VecDeque<(Time, Totals)>,
}

impl Rates {
    /// Takes the totals of `now`. Ones that are smaller than before belong to a bridge that began anew.
    pub fn sample(&mut self, now: Time, totals: Totals) {
        if let Some((last, before)) = self.samples.back() {
            let smaller = totals.messages_out < before.messages_out
                || totals.messages_in < before.messages_in
                || totals.bytes_out < before.bytes_out
                || totals.bytes_in < before.bytes_in;
            if smaller {
                self.samples.clear();
            } else if now.since(*last) < STEP {
                return;
            }
        }
        // The one that is just older than the span is kept: the span begins there.
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= SPAN) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, totals));
    }

    /// From the oldest sample of the last minute to the newest. All zero while there is only one.
    #[must_use]
    pub fn per_second(&self) -> PerSecond {
        let (Some((from, old)), Some((to, new))) = (self.samples.front(), self.samples.back()) else {
            return PerSecond::default();
        };
        let span = to.since(*from);
        let rate = |old: u64, new: u64| per_second(new.saturating_sub(old), span);
        PerSecond {
            span,
            messages_out: rate(old.messages_out, new.messages_out),
            messages_in: rate(old.messages_in, new.messages_in),
            bytes_out: rate(old.bytes_out, new.bytes_out),
            bytes_in: rate(old.bytes_in, new.bytes_in),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate is for people")]
fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { count as f64 / span.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(n: u64) -> Totals {
        Totals { messages_out: n, messages_in: 2 * n, bytes_out: 100 * n, bytes_in: 200 * n }
    }

    #[test]
    fn rates_are_of_the_last_minute() {
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), PerSecond::default());
        let at = |second: u64| Time::from_millis(1000 * second);
        for second in 0..=100 {
            rates.sample(at(second), totals(10 * second));
        }
        let PerSecond { span, messages_out, messages_in, bytes_out, bytes_in } = rates.per_second();
        assert_eq!((span.as_secs(), messages_out, messages_in, bytes_out, bytes_in), (60, 10.0, 20.0, 1000.0, 2000.0));
        assert!(rates.samples.len() <= 62, "{}", rates.samples.len());
        for second in 101..=161 {
            rates.sample(at(second), totals(1000));
        }
        assert_eq!(rates.per_second().messages_out, 0.0, "a minute of silence");
    }

    #[test]
    fn many_samples_in_a_second_are_one_and_a_new_beginning_forgets() {
        let mut rates = Rates::default();
        for millisecond in 0..5_000 {
            rates.sample(Time::from_millis(millisecond), totals(millisecond));
        }
        assert!(rates.samples.len() <= 6, "{}", rates.samples.len());
        rates.sample(Time::from_millis(6_000), totals(1));
        assert_eq!(rates.per_second(), PerSecond::default());
    }
}
