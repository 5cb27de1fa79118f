//! How long to wait until every address is tried again.
//!
//! In: a seed, two bounds. Out: waits that grow and differ between bridges, so that forty of them do not come back in
//! one second. Never reads a clock.

use std::time::Duration;

/// Waits that double from the lower to the upper bound, each drawn from the upper half of its step.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Waits between `min` and `max`; a `max` below `min` is taken as `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max: max.max(min), failures: 0, random: seed }
    }

    /// The next wait, within the bounds.
    pub fn next_wait(&mut self) -> Duration {
        let growth = 1_u32.checked_shl(self.failures.saturating_add(1)).unwrap_or(u32::MAX);
        let ceiling = self.min.saturating_mul(growth).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let floor = (ceiling / 2).max(self.min);
        let room = u64::try_from(ceiling.saturating_sub(floor).as_millis()).unwrap_or(u64::MAX);
        floor + Duration::from_millis(self.draw(room))
    }

    /// The next wait is a short one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A number from 0 to `most`, by splitmix64: jitter needs no better one.
    fn draw(&mut self, most: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        mixed.checked_rem(most.saturating_add(1)).unwrap_or(mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_within_the_bounds_and_start_over_after_a_reset() {
        // (failure, least, most) in seconds with bounds 1 and 60.
        const TABLE: [(usize, u64, u64); 8] =
            [(0, 1, 2), (1, 2, 4), (2, 4, 8), (3, 8, 16), (4, 16, 32), (5, 30, 60), (6, 30, 60), (70, 30, 60)];
        for seed in 0..200 {
            let mut backoff = Backoff::new(SECOND, 60 * SECOND, seed);
            let waits: Vec<_> = (0..=70).map(|_| backoff.next_wait()).collect();
            for (failure, least, most) in TABLE {
                let wait = waits[failure];
                assert!(wait >= SECOND * least as u32 && wait <= SECOND * most as u32, "failure {failure}: {wait:?}");
            }
            backoff.reset();
            assert!(backoff.next_wait() <= 2 * SECOND);
        }
    }

    #[test]
    fn two_seeds_wait_differently_and_one_seed_waits_the_same() {
        let wait = |seed| Backoff::new(SECOND, 60 * SECOND, seed).next_wait();
        assert_eq!(wait(7), wait(7));
        assert!((0..40).map(wait).collect::<std::collections::HashSet<_>>().len() > 30);
    }

    #[test]
    fn odd_bounds_are_kept() {
        let mut equal = Backoff::new(5 * SECOND, 5 * SECOND, 1);
        assert!((0..10).all(|_| equal.next_wait() == 5 * SECOND));
        let mut reversed = Backoff::new(5 * SECOND, SECOND, 1);
        assert_eq!(reversed.next_wait(), 5 * SECOND);
        let mut none = Backoff::new(Duration::ZERO, Duration::ZERO, 1);
        assert_eq!(none.next_wait(), Duration::ZERO);
        let mut huge = Backoff::new(Duration::MAX, Duration::MAX, 1);
        assert_eq!(huge.next_wait(), Duration::MAX);
    }
}
