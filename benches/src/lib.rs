//! Benchmarks of single rooms. Where another library does the same, both are timed in turn in the same run, so that what
//! is reported is a ratio and not the machine.
//!
//! `cargo bench --package viaduct-benches` runs them all.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Runs each of `acts` in turn, `rounds` times `operations` each, and gives the median of each, nanoseconds for one
/// operation. It is this thread's processor time: what else the machine does is not in it.
pub fn in_turn<const N: usize>(rounds: usize, operations: u32, mut acts: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds.max(1) {
        for (times, act) in times.iter_mut().zip(&mut acts) {
            times.push(time(operations, act));
        }
    }
    times.map(|mut times| {
        times.sort();
        times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e9 / f64::from(operations.max(1)))
    })
}

/// The same for something alone.
pub fn alone(rounds: usize, operations: u32, mut act: impl FnMut()) -> f64 {
    let [time] = in_turn(rounds, operations, [&mut act]);
    time
}

fn time(operations: u32, act: &mut dyn FnMut()) -> Duration {
    let begin = processor_time();
    for _ in 0..operations {
        act();
    }
    processor_time().saturating_sub(begin)
}

/// What this thread has used until now.
#[must_use]
pub fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
