//! When a task of a worker is to wake up for the next time.
//!
//! In: a deadline, or none. Out: ready once it has come. A worker that has a timer of its runtime has to tell the kernel how long to
//! wait whenever it waits for sockets, and the kernel sets and clears a timer for it, which is 5 % of a message that comes alone, and
//! of what crosses a bridge in a dense stream (docs/hot-path.md). So the kernel has one for each task, beside those waits. Must never: let a
//! deadline pass unseen.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use viaduct_codec::Time;

use crate::clock::Clock;
#[cfg(target_os = "linux")]
use crate::kernel_timer::KernelTimer;

/// The timer of a task's next deadline.
#[derive(Debug)]
pub(crate) struct Alarm {
    clock: Clock,
    next: Option<(Time, Instant)>,
    watch: Watch,
}

/// What watches it.
#[derive(Debug)]
enum Watch {
    #[cfg(target_os = "linux")]
    Kernel(KernelTimer),
    /// Where there is no such timer, or no descriptor left for one.
    Runtime(Pin<Box<Sleep>>),
}

impl Alarm {
    /// Without a deadline. To be made on the thread of its task.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, next: None, watch: Watch::new() }
    }

    /// The deadline is `next` from here on.
    pub(crate) fn set(&mut self, next: Option<Time>) {
        if next != self.next.map(|(time, _)| time) {
            self.next = next.map(|time| (time, self.clock.instant(time)));
        }
    }

    /// Ready when the deadline has come. There is none then.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((_, deadline)) = self.next else { return Poll::Pending };
        let polled = self.watch.poll(deadline, cx);
        if polled.is_ready() {
            self.next = None;
        }
        polled
    }

    /// Ready after `wait`, which is the deadline from here on.
    pub(crate) fn after(&mut self, wait: Duration) -> impl Future<Output = ()> {
        self.set(Some(self.clock.now().after(wait)));
        poll_fn(|cx| self.poll(cx))
    }
}

impl Watch {
    fn new() -> Self {
        #[cfg(target_os = "linux")]
        match KernelTimer::new() {
            Ok(timer) => return Self::Kernel(timer),
            Err(error) => Self::say_why_not(&error),
        }
        Self::runtime()
    }

    #[cfg(target_os = "linux")]
    fn say_why_not(error: &std::io::Error) {
        tracing::warn!(
            "the kernel gives no timer ({error}): the runtime's is used, which costs more processor time; if descriptors are short, allow \
             more of them (ulimit -n)"
        );
    }

    fn runtime() -> Self {
        Self::Runtime(Box::pin(sleep_until(Instant::now())))
    }

    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Kernel(timer) => match timer.poll(deadline, cx) {
                Poll::Ready(Err(error)) => {
                    Self::say_why_not(&error);
                    *self = Self::runtime();
                    self.poll(deadline, cx)
                }
                polled => polled.map(|_| ()),
            },
            Self::Runtime(sleep) => {
                if sleep.deadline() != deadline {
                    sleep.as_mut().reset(deadline);
                }
                sleep.as_mut().poll(cx)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(3600);

    /// With the kernel's timer, and with the runtime's.
    fn with_each(act: impl AsyncFn(Alarm)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::start();
            for watch in [Watch::new(), Watch::runtime()] {
                let done = act(Alarm { clock, next: None, watch });
                tokio::time::timeout(Duration::from_secs(60), done).await.expect("a deadline that nobody saw");
            }
        });
    }

    fn is_due(alarm: &mut Alarm) -> bool {
        alarm.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_has_a_timer() {
        with_each(async |_| assert!(matches!(Watch::new(), Watch::Kernel(_))));
    }

    #[test]
    fn it_wakes_when_the_deadline_has_come_and_not_before() {
        with_each(async |mut alarm| {
            assert!(!is_due(&mut alarm), "there is no deadline");
            for wait in [Duration::ZERO, NEAR / 4, NEAR + NEAR / 4, NEAR / 8] {
                let deadline = alarm.clock.now().after(wait);
                alarm.after(wait).await;
                assert!(alarm.clock.now() >= deadline, "{wait:?}");
                assert!(!is_due(&mut alarm), "it was for once");
            }
        });
    }

    #[test]
    fn a_deadline_that_is_replaced_is_never_due_whatever_it_was() {
        with_each(async |mut alarm| {
            let clock = alarm.clock;
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
            assert!(!is_due(&mut alarm));
            alarm.set(None);
            Alarm::new(clock).after(NEAR / 2).await;
            assert!(!is_due(&mut alarm));
            alarm.set(Some(deadline));
            assert!(is_due(&mut alarm));
            alarm.after(NEAR / 4).await;
            assert!(clock.now() >= deadline.after(NEAR / 4));
        });
    }

    #[test]
    fn a_deadline_that_moves_on_is_not_due_before_the_last_has_come_and_one_that_moves_back_is_not_due_late() {
        with_each(async |mut alarm| {
            let clock = alarm.clock;
            let mut last = clock.now();
            // As with every group of messages that waits for the disk.
            for _ in 0..50 {
                last = clock.now().after(NEAR / 10);
                alarm.set(Some(last));
                tokio::select! {
                    () = poll_fn(|cx| alarm.poll(cx)) => assert!(clock.now() >= last, "it was too early"),
                    () = tokio::time::sleep(NEAR / 50) => {}
                }
            }
            alarm.set(Some(last));
            poll_fn(|cx| alarm.poll(cx)).await;
            assert!(clock.now() >= last);
            let now = clock.now();
            for wait in [LONG, NEAR / 4, NEAR / 8] {
                alarm.set(Some(now.after(wait)));
                assert!(!is_due(&mut alarm));
            }
            poll_fn(|cx| alarm.poll(cx)).await;
            assert!(clock.now() >= now.after(NEAR / 8) && clock.now() < now.after(LONG));
        });
    }
}
