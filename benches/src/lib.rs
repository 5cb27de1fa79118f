//! Benchmarks, each beside something else in the same run, so that what is reported is a ratio and not the machine.
//!
//! `cargo bench --package viaduct-benches` runs them all.

use std::time::{Duration, Instant};

/// What several interleaved rounds of two things took, per operation.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Median of the first, nanoseconds.
    pub ours: f64,
    /// Median of the second, nanoseconds.
    pub theirs: f64,
}

/// Runs `ours` and `theirs` in turn, `rounds` times `operations` each, and takes the median of each.
pub fn side_by_side(rounds: usize, operations: u32, mut ours: impl FnMut(), mut theirs: impl FnMut()) -> Pair {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds.max(1) {
        let [first, second] = &mut times;
        first.push(time(operations, &mut ours));
        second.push(time(operations, &mut theirs));
    }
    let [ours, theirs] = times.map(|mut times| {
        times.sort();
        times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e9 / f64::from(operations.max(1)))
    });
    Pair { ours, theirs }
}

fn time(operations: u32, act: &mut impl FnMut()) -> Duration {
    let begin = Instant::now();
    for _ in 0..operations {
        act();
    }
    begin.elapsed()
}
