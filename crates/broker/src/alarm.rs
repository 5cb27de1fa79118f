//! When a task of a worker is to wake up for the next time.
//!
//! In: a deadline, or none. Out: ready once it has come. What is far off is watched by the main thread: a worker that has a timer of
//! its own has to tell the kernel how long to wait whenever it waits for sockets, and the kernel sets and clears a timer for it,
//! which is 5 % of a message that comes alone (docs/hot-path.md). What is near comes often, and waking another thread for it would cost
//! more. Must never: let a deadline pass unseen.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use viaduct_codec::Time;

use crate::clock::Clock;
use crate::limits::NEAR;

/// The main thread's timers. They stand still once the workers are told to stop.
#[derive(Debug)]
pub(crate) struct FarTimers(Handle);

impl FarTimers {
    /// To be made on the main thread.
    ///
    /// # Panics
    /// Outside of its runtime.
    pub(crate) fn new() -> Self {
        Self(Handle::current())
    }

    /// Ready after `duration`, for a task on any thread.
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        let _timers = self.0.enter();
        sleep(duration)
    }
}

/// The timer of a task's next deadline; set anew only when that changed.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Clock,
    next: Option<(Time, Place)>,
    near: Pin<Box<Sleep>>,
    far: Pin<Box<Sleep>>,
}

/// Which of the two sleeps watches the deadline.
#[derive(Clone, Copy, Debug)]
enum Place {
    Near,
    Far,
}

impl Alarm {
    /// Without a deadline.
    pub(crate) fn new(clock: Clock, far_timers: &FarTimers) -> Self {
        let near = Box::pin(sleep_until(Instant::now()));
        Self { clock, next: None, near, far: Box::pin(far_timers.sleep(Duration::ZERO)) }
    }

    /// The deadline is `next` from here on.
    pub(crate) fn set(&mut self, next: Option<Time>) {
        if next == self.next.map(|(time, _)| time) {
            return;
        }
        self.next = next.map(|time| {
            let place = if time.since(self.clock.now()) < NEAR { Place::Near } else { Place::Far };
            let deadline = self.clock.instant(time);
            let sleep = self.sleep(place);
            if sleep.deadline() != deadline {
                sleep.reset(deadline);
            }
            (time, place)
        });
    }

    /// Ready when the deadline has come. There is none then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, place)) = self.next else { return Poll::Pending };
        let polled = self.sleep(place).poll(cx);
        if polled.is_ready() {
            self.next = None;
        }
        polled
    }

    fn sleep(&mut self, place: Place) -> Pin<&mut Sleep> {
        match place {
            Place::Near => self.near.as_mut(),
            Place::Far => self.far.as_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// The main thread, for as long as `worker` runs on another.
    fn beside(worker: impl AsyncFnOnce(&FarTimers) + Send + 'static) {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (done, end) = tokio::sync::oneshot::channel();
        runtime().block_on(async {
            let far_timers = FarTimers::new();
            let thread = std::thread::spawn(move || {
                runtime().block_on(worker(&far_timers));
                done.send(()).unwrap();
            });
            // An error in it means that the thread panicked, and so does joining it.
            let _ = tokio::time::timeout(Duration::from_secs(60), end).await.expect("a deadline that nobody saw");
            thread.join().unwrap();
        });
    }

    fn is_due(alarm: &mut Alarm) -> bool {
        alarm.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn it_wakes_when_the_deadline_has_come_and_not_before_near_or_far() {
        beside(async |far_timers| {
            let clock = Clock::start();
            let mut alarm = Alarm::new(clock, far_timers);
            assert!(!is_due(&mut alarm), "there is no deadline");
            for wait in [Duration::ZERO, NEAR / 4, NEAR + NEAR / 4, NEAR / 8] {
                let deadline = clock.now().after(wait);
                alarm.set(Some(deadline));
                poll_fn(|cx| alarm.poll(cx)).await;
                assert!(clock.now() >= deadline, "{wait:?}");
                assert!(!is_due(&mut alarm), "it was for once");
            }
        });
    }

    #[test]
    fn a_deadline_that_is_replaced_is_never_due_whatever_it_was() {
        const LONG: Duration = Duration::from_secs(3600);
        beside(async |far_timers| {
            let clock = Clock::start();
            let mut alarm = Alarm::new(clock, far_timers);
            for (first, then) in [(LONG, NEAR / 4), (LONG, NEAR + NEAR / 4), (NEAR / 4, NEAR + NEAR / 4)] {
                let now = clock.now();
                alarm.set(Some(now.after(first)));
                assert!(!is_due(&mut alarm));
                alarm.set(Some(now.after(then)));
                poll_fn(|cx| alarm.poll(cx)).await;
                assert!(clock.now() >= now.after(then) && clock.now() < now.after(LONG));
            }
            // What has been given up has come meanwhile, and what has come is there at once.
            let deadline = clock.now().after(NEAR / 4);
            alarm.set(Some(deadline));
            alarm.set(None);
            let mut another = Alarm::new(clock, far_timers);
            another.set(Some(deadline));
            poll_fn(|cx| another.poll(cx)).await;
            assert!(!is_due(&mut alarm));
            alarm.set(Some(deadline));
            poll_fn(|cx| alarm.poll(cx)).await;
        });
    }
}
