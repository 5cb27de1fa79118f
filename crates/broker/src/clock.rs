//! The one clock: the world's time at the start plus what the monotonic clock counted since, so that it never goes
//! backwards within a process, whatever happens to the system's time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use viaduct_codec::Time;

/// The time of this process. Cheap to copy; every copy tells the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Time,
    since: Instant,
}

impl Clock {
    /// Reads the world's time once.
    pub(crate) fn start() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Time::from_millis(u64::try_from(start.as_millis()).unwrap_or(u64::MAX)), since: Instant::now() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Time {
        self.start.after(self.since.elapsed())
    }

    /// When this process began.
    pub(crate) fn began(&self) -> Time {
        self.start
    }

    /// The moment that `time` will be; one that has passed is now or before.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        // Deadlines are whole milliseconds: one more makes sure that waking means that the deadline has passed.
        (self.since + time.since(self.start) + std::time::Duration::from_millis(1)).into()
    }
}
