//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long anything that has to happen may take. Far longer than it does, so that a busy machine fails no test.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`DEADLINE`]; the message says `what` was waited for.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(DEADLINE, what, condition);
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `deadline`; the message says `what` was waited for.
#[track_caller]
pub fn eventually_within(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    until(deadline, what, || condition().then_some(()));
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it does not within `deadline`; the message says `what` was waited for.
#[track_caller]
pub fn until<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    match within(deadline, || look().ok_or(())) {
        Ok(found) => found,
        Err(()) => panic!("not within {deadline:?}: {what}"),
    }
}

/// Waits until `look` finds something, for those who have more to say or to do when it does not.
///
/// # Errors
/// What it found instead the last time, when `deadline` has passed.
pub(crate) fn within<T, E>(deadline: Duration, mut look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let end = Instant::now() + deadline;
    loop {
        let found = look();
        if found.is_ok() || Instant::now() >= end {
            return found;
        }
        std::thread::sleep(STEP);
    }
}
