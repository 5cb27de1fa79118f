//! A timer of the kernel's that stays as it was set when its deadline moves on.
//!
//! In: a deadline, which may be another each time. Out: ready once it has come. Deadlines of what waits for the disk move on with each
//! group of messages and hardly ever come, so it goes off too early then, once in as long as they are away, and is set again. It is set
//! at once only for a deadline that is nearer. Must never: go off later than the deadline.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// See the room.
#[derive(Debug)]
pub(crate) struct KernelTimer {
    descriptor: AsyncFd<OwnedFd>,
    /// When it goes off, or has gone off without being asked about since.
    set: Option<Instant>,
}

impl KernelTimer {
    /// One that is not set, for tasks of this thread.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let owned = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe because what it is given might close or replace its descriptor; an `OwnedFd` that nobody else \
                      has does neither"
        )]
        let descriptor = AsyncFd::with_interest(owned, Interest::READABLE)?;
        Ok(Self { descriptor, set: None })
    }

    /// Ready when `deadline` has come.
    pub(crate) fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.set.is_none_or(|set| deadline < set) {
                let wait = deadline.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    return Poll::Ready(Ok(()));
                }
                self.go_off_after(wait)?;
                self.set = Some(deadline);
            }
            let Poll::Ready(gone_off) = self.descriptor.poll_read_ready(cx) else { return Poll::Pending };
            // Nothing is read from it: setting it again says the same.
            gone_off?.clear_ready();
            self.set = None;
        }
    }

    fn go_off_after(&self, wait: Duration) -> io::Result<()> {
        let it_value = wait.try_into().map_err(io::Error::other)?;
        let once = Itimerspec { it_interval: Timespec::default(), it_value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}
