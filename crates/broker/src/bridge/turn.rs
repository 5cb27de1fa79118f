//! When one link does what: at once, unless the number of links has changed.
//!
//! In: how far the machine and the other links are. Out: one step at a time. Must never: let a link carry a message while an
//! older one of the same topic may wait in another.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;
use viaduct_bridge::{Bridge, Duty};
use viaduct_codec::Time;

use super::BridgePlan;
use super::handover::{Age, Handover, Progress};
use crate::limits::LINK_QUIET;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    None,
    /// Dial.
    Release,
    /// Ask the remote for no more.
    Leave,
    /// End the session here, and the one at the remote when no link goes on with it.
    Retire {
        end_remote: bool,
    },
    /// Stop, and keep both sessions.
    Pause,
}

/// Where one link stands.
pub(super) struct Turn {
    handover: Arc<Handover>,
    duty: Duty,
    age: Age,
    /// None of the links that are wanted goes on with the session at the remote.
    ends_remote: bool,
    listens: bool,
    serves: bool,
    drained: bool,
    /// Since when the remote has sent nothing after it was asked to send no more, and what had come by then.
    quiet: Option<(Time, u64)>,
    /// While there is something to wait for.
    changed: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Turn {
    pub(super) fn new(plan: &BridgePlan) -> Self {
        let handover = Arc::clone(&plan.handover);
        let duty = plan.settings.duty;
        let ends_remote = duty == Duty::Drain && plan.settings.slice.index() >= handover.links();
        let changed = Some(next_change(handover.watch()));
        let age = plan.age;
        Self { handover, duty, age, ends_remote, listens: false, serves: false, drained: false, quiet: None, changed }
    }

    /// When to look again even if nothing has changed.
    pub(super) fn due(&self) -> Option<Time> {
        self.quiet.map(|(since, _)| since.after(LINK_QUIET))
    }

    /// Ready when another link has come further.
    pub(super) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(changed) = &mut self.changed else { return Poll::Pending };
        let ready = changed.as_mut().poll(cx);
        if ready.is_ready() {
            self.changed = Some(next_change(self.handover.watch()));
        }
        ready
    }

    /// The next step of this link. `waiting` says how many messages its session holds.
    pub(super) fn take(&mut self, now: Time, bridge: &Bridge, waiting: impl Fn() -> usize) -> Step {
        match self.duty {
            Duty::Serve => self.serve(bridge),
            Duty::Drain => self.drain(now, bridge, waiting),
        }
    }

    fn serve(&mut self, bridge: &Bridge) -> Step {
        if !self.listens && bridge.is_subscribed() {
            self.listens = true;
            self.handover.listens();
        }
        if !self.serves && bridge.is_serving() {
            self.serves = true;
            self.handover.serves();
            self.changed = None; // It is nobody's concern from here on.
        }
        if bridge.is_held() && self.handover.is_drained() { Step::Release } else { Step::None }
    }

    fn drain(&mut self, now: Time, bridge: &Bridge, waiting: impl Fn() -> usize) -> Step {
        if !bridge.is_subscribed() {
            return Step::None; // The local half is not there, so nothing can be said of what waits.
        }
        if !self.drained {
            if waiting() > 0 || !bridge.is_empty() {
                return if bridge.is_held() { Step::Release } else { Step::None };
            }
            self.drained = true;
            self.handover.drained(self.age);
        }
        if self.age == Age::WantedAgain {
            return Step::Pause;
        }
        if !self.ends_remote {
            return Step::Retire { end_remote: false };
        }
        if bridge.is_held() {
            return Step::Release;
        }
        if !bridge.is_up() || !self.handover.is_serving() {
            self.quiet = None;
            return Step::None;
        }
        let come = bridge.stats().messages_in;
        match self.quiet {
            None => {
                self.quiet = Some((now, come));
                Step::Leave
            }
            Some((since, before)) if come == before && now.since(since) < LINK_QUIET => Step::None,
            Some((_, before)) if come == before && bridge.is_empty() => {
                self.quiet = None;
                Step::Retire { end_remote: true }
            }
            Some(_) => {
                self.quiet = Some((now, come));
                Step::None
            }
        }
    }
}

fn next_change(mut progress: watch::Receiver<Progress>) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        // The sender lives as long as the plan of whoever waits.
        _ = progress.changed().await;
    })
}
