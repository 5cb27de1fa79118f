//! Bridges as tasks: each on the worker of its local session, supervised, and on its own.
//!
//! In: plans made from the configuration. Out: running bridges, and their state for metrics. A panic in one ends one
//! attempt of that one: it is logged, counted, and the bridge starts again after a pause.

mod check;
mod dial;
mod plan;
mod task;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;
use viaduct_bridge::Stats;
use viaduct_engine::Dropped;

use crate::limits::{RESTART_MAX, RESTART_MIN};
use crate::worker::Worker;

pub use check::{CheckTarget, check};
pub use plan::PlanError;
pub(crate) use plan::{BridgePlan, plan};

/// What the local ClientIDs of bridges begin with; refused to clients from outside.
pub(crate) const LOCAL_CLIENT_PREFIX: &str = "$bridge/";

/// One bridge, as metrics and the API see it.
#[derive(Debug)]
pub(crate) struct BridgeStatus {
    pub(crate) name: String,
    pub(crate) stats: Mutex<Stats>,
    /// Messages that wait here for the remote.
    pub(crate) queued: AtomicU64,
    /// Messages that its queue gave up, by reason, in the order of [`Dropped::ALL`].
    pub(crate) queue_dropped: [AtomicU64; Dropped::ALL.len()],
    /// What its files held when they were last read, as [`fingerprint`] says.
    pub(crate) files: AtomicU64,
    /// How often its task panicked.
    pub(crate) panics: AtomicU64,
}

impl BridgeStatus {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            stats: Mutex::default(),
            queued: AtomicU64::new(0),
            queue_dropped: Default::default(),
            files: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        })
    }
}

impl BridgeStatus {
    /// Messages that were not carried on, by reason: what the bridge itself dropped, and what its queue gave up. What has
    /// the same name on both sides is the same to an operator.
    pub(crate) fn dropped(&self, stats: &Stats) -> BTreeMap<&'static str, u64> {
        let own = viaduct_bridge::Drop::ALL.iter().map(|reason| (reason.label(), stats.dropped_for(*reason)));
        let queue = Dropped::ALL.iter().zip(&self.queue_dropped);
        // Of those that a queue never has for a reason there would only be zeros.
        let queue = queue.map(|(reason, count)| (reason.name(), count.load(Ordering::Relaxed)));
        let queue = queue.filter(|(name, count)| *count > 0 || *name == Dropped::QueueFull.name());
        let mut dropped = BTreeMap::new();
        for (reason, count) in own.chain(queue) {
            *dropped.entry(reason).or_default() += count;
        }
        dropped
    }
}

/// A hash of the contents of every file that the bridge names, so that a reload finds out which have changed. Files that can't
/// be read count as empty: what is wrong with them is found when they are needed.
pub(crate) fn fingerprint(bridge: &viaduct_config::Bridge) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let tls = &bridge.tls;
    let mut hasher = DefaultHasher::new();
    for path in [&tls.ca_file, &tls.cert_file, &tls.key_file, &bridge.password_file] {
        path.as_ref().map(|path| std::fs::read(path).unwrap_or_default()).hash(&mut hasher);
    }
    hasher.finish()
}

/// The bridges of one worker.
#[derive(Debug, Default)]
pub(crate) struct BridgeTasks {
    running: BTreeMap<String, Rc<Control>>,
}

/// How a bridge's task is told to end.
#[derive(Debug, Default)]
pub(crate) struct Control {
    stop: Cell<Option<Stop>>,
    done: Cell<bool>,
    waker: RefCell<Vec<Waker>>,
}

/// Why a bridge ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It comes back, with the same queue.
    ForNow,
    /// It was taken out of the configuration: its queue goes too.
    ForGood,
}

/// What the engine's side of a bridge's local connection is woken by.
#[derive(Debug, Default)]
pub(crate) struct LocalLink {
    dirty: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl LocalLink {
    /// The engine has something for the bridge.
    pub(crate) fn wake(&self) {
        self.dirty.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn take_dirty(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.dirty.replace(false)
    }
}

impl Control {
    fn ask(&self, stop: Stop) {
        self.stop.set(Some(stop));
        self.wake();
    }

    fn finish(&self) {
        self.done.set(true);
        self.wake();
    }

    fn wake(&self) {
        for waker in self.waker.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut wakers = self.waker.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }
}

/// Runs `plan`, after the bridge of that name has ended if there is one.
pub(crate) fn start(worker: &Rc<Worker>, plan: BridgePlan) {
    let control = Rc::new(Control::default());
    let name = plan.settings.name.clone();
    let before = worker.bridges.borrow_mut().running.insert(name, Rc::clone(&control));
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        if let Some(before) = before {
            before.ask(Stop::ForNow);
            std::future::poll_fn(|cx| {
                if before.done.get() {
                    return std::task::Poll::Ready(());
                }
                before.remember(cx);
                std::task::Poll::Pending
            })
            .await;
        }
        supervise(worker, plan, control).await;
    });
}

/// Ends the bridge of that name for good.
pub(crate) fn stop(worker: &Worker, name: &str) {
    if let Some(control) = worker.bridges.borrow_mut().running.remove(name) {
        control.ask(Stop::ForGood);
    }
}

/// Ends all of them because the broker does.
pub(crate) fn stop_all(worker: &Worker) {
    for control in worker.bridges.borrow().running.values() {
        control.ask(Stop::ForNow);
    }
}

async fn supervise(worker: Rc<Worker>, plan: BridgePlan, control: Rc<Control>) {
    let plan = Rc::new(plan);
    let status = Arc::clone(&plan.status);
    let mut pause = RESTART_MIN;
    loop {
        let run = task::run(Rc::clone(&worker), Rc::clone(&plan), Rc::clone(&control));
        let Err(error) = tokio::task::spawn_local(run).await else { break };
        status.panics.fetch_add(1, Ordering::Relaxed);
        {
            let mut stats = status.stats.lock();
            stats.up = false;
            stats.since = worker.now();
        }
        tracing::error!(bridge = %status.name, %error, "the bridge's task failed and is started again in {pause:?}");
        if control.stop.get().is_some() {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RESTART_MAX);
    }
    status.stats.lock().up = false;
    control.finish();
}
