//! A bridge that is stopped: nobody dials, its local session goes on taking messages in.
//!
//! In: the session's limits. Out: its numbers for metrics and the API. Must never: create a session, or read what waits.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::sleep;
use viaduct_bridge::Phase;
use viaduct_codec::Slice;
use viaduct_session::QueueLimits;

use super::{BridgeStatus, Control, Part, Stop};
use crate::limits::BRIDGE_STATUS;
use crate::worker::Worker;

/// Everything that a stopped bridge needs.
#[derive(Clone, Debug)]
pub(crate) struct RestPlan {
    /// Which link rests.
    pub(crate) link: Slice,
    /// Of how many.
    pub(crate) links: u8,
    /// Which start of the bridge this is.
    pub(crate) run: u64,
    pub(crate) queue: Arc<QueueLimits>,
    pub(crate) status: Arc<BridgeStatus>,
}

impl RestPlan {
    pub(super) fn local_client_id(&self) -> String {
        self.link.local_client_id(&self.status.name)
    }
}

/// Looks after the session until told to end.
pub(super) async fn run(worker: &Rc<Worker>, plan: &RestPlan, control: &Control) -> Stop {
    let status = &plan.status;
    let client_id = plan.local_client_id();
    let part = Part { run: plan.run, slice: plan.link, is_wanted: true };
    // After a restart the session knows no limits but these.
    worker.engine.borrow_mut().limit_queue(&client_id, Arc::clone(&plan.queue));
    {
        let mut stats = status.stats.lock();
        (stats.up, stats.phase, stats.level) = (false, Phase::Stopped, None);
    }
    loop {
        let asked = control.take_asked();
        status.note_queue(part, worker.engine.borrow().client(&client_id).as_ref());
        drop(asked);
        let mut pause = Box::pin(sleep(BRIDGE_STATUS));
        let stop = std::future::poll_fn(|cx| {
            control.remember(cx);
            match control.stop.get() {
                Some(stop) => Poll::Ready(Some(stop)),
                None if control.is_asked() => Poll::Ready(None),
                None => pause.as_mut().poll(cx).map(|()| None),
            }
        });
        if let Some(stop) = stop.await {
            return stop;
        }
    }
}
