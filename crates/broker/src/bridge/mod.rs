//! Bridges as tasks: each on the worker of its local session, supervised, and on its own.
//!
//! In: plans made from the configuration. Out: running bridges, and their state for metrics. A panic in one ends one
//! attempt of that one: it is logged, counted, and the bridge starts again after a pause.

mod check;
mod dial;
mod farewell;
mod greet;
mod moves;
mod plan;
mod proxy;
mod rest;
mod task;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;
use viaduct_bridge::{Phase, Rates, Stats, Topic, Totals};
use viaduct_codec::Time;
use viaduct_engine::{ClientView, Dropped};

use crate::limits::{RESTART_MAX, RESTART_MIN};
use crate::stream::TlsLink;
use crate::worker::Worker;

pub use check::{CheckTarget, check};
pub(crate) use moves::Moves;
pub use plan::PlanError;
pub(crate) use plan::{BridgePlan, plan};
pub(crate) use rest::RestPlan;

/// What the local ClientIDs of bridges begin with; refused to clients from outside.
pub(crate) const LOCAL_CLIENT_PREFIX: &str = "$bridge/";

/// One bridge, as metrics and the API see it.
#[derive(Debug)]
pub(crate) struct BridgeStatus {
    pub(crate) name: String,
    pub(crate) stats: Mutex<Stats>,
    /// What crossed in the last minute.
    pub(crate) rates: Mutex<Rates>,
    /// How the last link was encrypted, when it was.
    pub(crate) tls: Mutex<Option<TlsLink>>,
    /// Messages that wait here for the remote, or for its word.
    pub(crate) queued: AtomicU64,
    /// Bytes of those that were not sent yet.
    pub(crate) queued_bytes: AtomicU64,
    /// Messages that its queue gave up, by reason, in the order of [`Dropped::ALL`].
    pub(crate) queue_dropped: [AtomicU64; Dropped::ALL.len()],
    /// Rules that it had since the broker began, so that both sides can be told to forget those that it has no more.
    former: Mutex<Vec<Topic>>,
    /// What its files held when they were last read, as [`fingerprint`] says.
    pub(crate) files: AtomicU64,
    /// When our own certificate ends, seconds since 1970; 0 for none.
    pub(crate) certificate_expires: AtomicI64,
    /// How often its task panicked.
    pub(crate) panics: AtomicU64,
}

impl BridgeStatus {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            stats: Mutex::default(),
            rates: Mutex::default(),
            tls: Mutex::default(),
            queued: AtomicU64::new(0),
            queued_bytes: AtomicU64::new(0),
            queue_dropped: Default::default(),
            former: Mutex::default(),
            files: AtomicU64::new(0),
            certificate_expires: AtomicI64::new(0),
            panics: AtomicU64::new(0),
        })
    }

    /// It is about to run, or to rest: who asks now is not told of what was before.
    fn begins(&self, now: Time, phase: Phase) {
        let mut stats = self.stats.lock();
        (stats.phase, stats.up, stats.level, stats.since) = (phase, false, None, now);
    }

    /// What waits in the local session, if there is one.
    fn note_queue(&self, view: Option<&ClientView>) {
        let (messages, bytes) = view.map_or((0, 0), |view| (view.queued_messages + view.inflight, view.queued_bytes));
        self.queued.store(messages as u64, Ordering::Relaxed);
        self.queued_bytes.store(bytes as u64, Ordering::Relaxed);
        if let Some(view) = view {
            for (counter, count) in self.queue_dropped.iter().zip(view.dropped_for) {
                counter.store(count, Ordering::Relaxed);
            }
        }
    }

    /// What the machine counts, and the bytes that went over the link `[in, out]`.
    fn note_stats(&self, now: Time, stats: Stats, [bytes_in, bytes_out]: [u64; 2]) {
        let totals = Totals { messages_out: stats.messages_out, messages_in: stats.messages_in, bytes_out, bytes_in };
        self.rates.lock().sample(now, totals);
        *self.stats.lock() = stats;
    }

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
    let proxy = bridge.proxy.as_ref().and_then(|proxy| proxy.password_file.as_ref());
    let files = [&tls.ca_file, &tls.cert_file, &tls.key_file, &bridge.password_file].map(Option::as_ref);
    for path in files.into_iter().chain([proxy]) {
        path.map(|path| std::fs::read(path).unwrap_or_default()).hash(&mut hasher);
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
    /// What the remote of a bridge that ends for good is dialled with once more, unless it has heard of the end already.
    farewell: RefCell<Option<BridgePlan>>,
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
    /// What was asked for first holds: a bridge that ends for good does not come back because another takes its name.
    fn ask(&self, stop: Stop) {
        if self.stop.get() != Some(Stop::ForGood) {
            self.stop.set(Some(stop));
        }
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
    replace(worker, Task::Run(Rc::new(plan)));
}

/// Lets the bridge rest, after it has ended if it runs.
pub(crate) fn rest(worker: &Rc<Worker>, plan: RestPlan) {
    replace(worker, Task::Rest(plan));
}

/// What is done under a bridge's name.
enum Task {
    Run(Rc<BridgePlan>),
    Rest(RestPlan),
}

impl Task {
    fn status(&self) -> &Arc<BridgeStatus> {
        match self {
            Self::Run(plan) => &plan.status,
            Self::Rest(plan) => &plan.status,
        }
    }
}

fn replace(worker: &Rc<Worker>, task: Task) {
    let control = Rc::new(Control::default());
    let name = task.status().name.clone();
    let before = worker.bridges.borrow_mut().running.insert(name.clone(), Rc::clone(&control));
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
        let (stop, remote_knows) = match &task {
            Task::Run(plan) => supervise(&worker, plan, &control).await,
            Task::Rest(plan) => (rest::run(&worker, plan, &control).await, false),
        };
        if stop == Stop::ForGood {
            // When it was up it has said so itself; this is for all other cases.
            worker.with_engine(|engine, now| engine.end_client(now, &format!("{LOCAL_CLIENT_PREFIX}{name}")));
            let farewell = control.farewell.take().filter(|_| !remote_knows);
            if let Some(plan) = farewell {
                farewell::say(&worker, &plan).await;
            }
        }
        control.finish();
        worker.bridges.borrow_mut().running.retain(|_, other| !Rc::ptr_eq(other, &control));
    });
}

/// Ends the bridge of that name for good, here and at its remote.
pub(crate) fn stop(worker: &Worker, name: &str, farewell: Option<BridgePlan>) {
    // It stays in its place until it has ended, so that another one of its name waits for that.
    if let Some(control) = worker.bridges.borrow().running.get(name) {
        *control.farewell.borrow_mut() = farewell;
        control.ask(Stop::ForGood);
    }
}

/// Ends all of them because the broker does.
pub(crate) fn stop_all(worker: &Worker) {
    for control in worker.bridges.borrow().running.values() {
        control.ask(Stop::ForNow);
    }
}

/// Ends the sessions of bridges that are none of `known`: they were removed while the broker could not do so.
pub(crate) fn forget_others(worker: &Worker, known: &BTreeSet<String>) {
    let is_orphan = |id: &str| id.strip_prefix(LOCAL_CLIENT_PREFIX).is_some_and(|name| !known.contains(name));
    let clients = |engine: &viaduct_engine::Engine| -> Vec<String> {
        engine.clients().map(|view| view.client_id.as_str().to_owned()).filter(|id| is_orphan(id)).collect()
    };
    let orphans = clients(&worker.engine.borrow());
    for orphan in orphans {
        tracing::info!("the session {orphan} is ended, with what waits in it: there is no such bridge any more");
        worker.with_engine(|engine, now| engine.end_client(now, &orphan));
    }
}

/// Runs the bridge until it is told to end: why, and whether the remote has ended its session.
async fn supervise(worker: &Rc<Worker>, plan: &Rc<BridgePlan>, control: &Rc<Control>) -> (Stop, bool) {
    let status = &plan.status;
    let mut pause = RESTART_MIN;
    loop {
        let run = task::run(Rc::clone(worker), Rc::clone(plan), Rc::clone(control));
        let error = match tokio::task::spawn_local(run).await {
            Ok(remote_knows) => {
                status.stats.lock().up = false;
                return (control.stop.get().unwrap_or(Stop::ForNow), remote_knows);
            }
            Err(error) => error,
        };
        status.panics.fetch_add(1, Ordering::Relaxed);
        {
            let mut stats = status.stats.lock();
            stats.up = false;
            stats.since = worker.now();
        }
        tracing::error!(bridge = %status.name, %error, "the bridge's task failed and is started again in {pause:?}");
        if let Some(stop) = control.stop.get() {
            return (stop, false);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RESTART_MAX);
    }
}
