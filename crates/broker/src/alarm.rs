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

use crate::limits::NEAR;
use crate::state::Broker;

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
    pub(crate) fn new(broker: &Broker) -> Self {
        let near = Box::pin(sleep_until(Instant::now()));
        Self { next: None, near, far: Box::pin(broker.far_timers.sleep(Duration::ZERO)) }
    }

    /// The deadline is `next` from here on.
    pub(crate) fn set(&mut self, broker: &Broker, next: Option<Time>) {
        if next == self.next.map(|(time, _)| time) {
            return;
        }
        self.next = next.map(|time| {
            let place = if time.since(broker.clock.now()) < NEAR { Place::Near } else { Place::Far };
            let deadline = broker.clock.instant(time);
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
