//! How fast a backlog may go out.
//!
//! In: a rate, the time. Out: whether the next message may go, and when. Never holds anything back that the rate allows,
//! and lets no more than a tenth of a second's worth go at once: after hours without a link the first second is like the
//! others.

use std::num::NonZeroU32;

use viaduct_codec::Time;

/// What one message takes. A rate in messages a second is then one in these units a millisecond.
const MESSAGE: u64 = 1_000;
/// Milliseconds whose worth may go at once.
const BURST: u64 = 100;

/// A bucket that fills at the rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: Option<NonZeroU32>,
    filled: u64,
    at: Time,
    /// A message waits for the rate.
    is_waiting: bool,
}

impl Pace {
    /// Lets `rate` messages a second go; all, when there is none.
    pub(crate) const fn new(rate: Option<NonZeroU32>) -> Self {
        Self { rate, filled: 0, at: Time::from_millis(0), is_waiting: false }
    }

    /// Whether one more message may go now; it is counted only when it does, with [`Pace::spend`].
    pub(crate) fn allows(&mut self, now: Time) -> bool {
        let Some(rate) = self.rate else { return true };
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let most = u64::from(rate.get()).saturating_mul(BURST).max(MESSAGE);
        self.filled = self.filled.saturating_add(passed.saturating_mul(rate.get().into())).min(most);
        self.at = self.at.max(now);
        self.is_waiting = self.filled < MESSAGE;
        !self.is_waiting
    }

    /// A message goes.
    pub(crate) const fn spend(&mut self) {
        self.filled = self.filled.saturating_sub(MESSAGE);
    }

    /// When the message that waits may go.
    pub(crate) fn next(&self) -> Option<Time> {
        let rate = self.rate.filter(|_| self.is_waiting)?;
        let wait = (MESSAGE - self.filled.min(MESSAGE)).div_ceil(rate.get().into());
        Some(self.at.after(std::time::Duration::from_millis(wait.max(1))))
    }

    /// Nothing waits any more: there is no link, or its time has come.
    pub(crate) const fn forget(&mut self) {
        self.is_waiting = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many go in so many milliseconds when there are always more.
    fn sent(rate: u32, milliseconds: u64) -> u64 {
        let mut pace = Pace::new(NonZeroU32::new(rate));
        let begin = Time::from_millis(1_000_000);
        let (mut now, mut count) = (begin, 0);
        while now < begin.after(std::time::Duration::from_millis(milliseconds)) {
            while pace.allows(now) {
                pace.spend();
                count += 1;
            }
            let next = pace.next().unwrap();
            assert!(next > now, "a wait is a wait");
            now = next;
        }
        count
    }

    #[test]
    fn no_more_go_than_the_rate_allows_and_no_fewer() {
        for rate in [1, 7, 100, 1_000, 64_000] {
            let (ten, burst) = (u64::from(rate) * 10, u64::from(rate) / 10 + 1);
            let count = sent(rate, 10_000);
            assert!(count >= ten && count <= ten + burst, "{count} in ten seconds at {rate} a second");
        }
    }

    #[test]
    fn after_a_long_time_the_first_moment_is_like_the_others() {
        let mut pace = Pace::new(NonZeroU32::new(1_000));
        let at = Time::from_millis(86_400_000);
        let burst = std::iter::from_fn(|| pace.allows(at).then(|| pace.spend())).count();
        assert_eq!(burst, 100);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        assert!((0..1_000).all(|_| pace.allows(Time::default())) && pace.next().is_none());
    }
}
