//! Bridges as tasks: each link on the worker of its local session, supervised, and on its own.
//!
//! In: plans made from the configuration. Out: running bridges, and their state for metrics. A panic in one ends one
//! attempt of that one: it is logged, counted, and the bridge starts again after a pause.

mod check;
mod dial;
mod farewell;
mod greet;
mod handover;
mod meeting;
mod moves;
mod plan;
mod proxy;
mod remembered;
mod rest;
mod status;
mod task;
mod turn;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use tokio::sync::mpsc;
use viaduct_bridge::Duty;
use viaduct_codec::Slice;

use crate::limits::{RESTART_MAX, RESTART_MIN};
use crate::worker::Worker;

use handover::{Age, Handover, every_link};
use status::Part;

pub(crate) use check::check_beside;
pub use check::{CheckTarget, check};
pub(crate) use moves::{Moves, forget_former_rules};
pub use plan::PlanError;
pub(crate) use plan::{BridgePlan, plan};
pub(crate) use remembered::Remembered;
pub(crate) use rest::RestPlan;
pub(crate) use status::BridgeStatus;

/// What the local ClientIDs of bridges begin with; refused to clients from outside.
pub(crate) const LOCAL_CLIENT_PREFIX: &str = "$bridge/";

/// A hash of the contents of every file that the bridge names, so that a reload finds out which have changed. Files that can't
/// be read count as empty: what is wrong with them is found when they are needed.
pub(crate) fn fingerprint(bridge: &viaduct_config::Bridge) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let tls = &bridge.tls;
    let mut hasher = DefaultHasher::new();
    let proxy = bridge.proxy.as_ref().and_then(|proxy| proxy.password_file.as_ref());
    let files = [&tls.ca_file, &tls.cert_file, &tls.key_file, &bridge.password_file].map(Option::as_ref);
    for path in files.into_iter().chain([proxy]) {
        path.as_ref().map(|path| crate::files::read(path).unwrap_or_default()).hash(&mut hasher);
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
    /// Its remote is to know that it is not all that links this broker to others.
    no_leaf: Cell<bool>,
    waker: RefCell<Vec<Waker>>,
    /// Who waits for its numbers; told by their end being dropped.
    asked: RefCell<Vec<mpsc::Sender<()>>>,
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

    /// Its numbers are wanted now.
    fn ask_for_numbers(&self, done: mpsc::Sender<()>) {
        let mut asked = self.asked.borrow_mut();
        asked.retain(|done| !done.is_closed());
        asked.push(done);
        drop(asked);
        self.wake();
    }

    fn is_asked(&self) -> bool {
        !self.asked.borrow().is_empty()
    }

    /// Who waits for the numbers that are about to be given, to be dropped after that.
    fn take_asked(&self) -> Vec<mpsc::Sender<()>> {
        self.asked.take()
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut wakers = self.waker.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }
}

/// What becomes of the links of a bridge that has another number of them now.
#[derive(Debug)]
pub(crate) enum OtherLinks {
    /// They carry what they have, before those of this plan carry anything.
    Drain(Box<BridgePlan>),
    /// The bridge is stopped: they are, too. What waits in their sessions stays there.
    Halt { bridge: String, links: u8 },
}

/// Runs `plan`, after the link of that name has ended if there is one.
pub(crate) fn start(worker: &Rc<Worker>, plan: BridgePlan) {
    replace(worker, Task::Run(Rc::new(plan)));
}

/// Lets the bridge rest, after it has ended if it runs.
pub(crate) fn rest(worker: &Rc<Worker>, plan: RestPlan) {
    replace(worker, Task::Rest(plan));
}

/// Sees to the links of another number whose sessions are here.
pub(crate) fn see_other_links(worker: &Rc<Worker>, others: OtherLinks) {
    let (bridge, links) = match &others {
        OtherLinks::Drain(plan) => (plan.settings.name.as_str(), plan.handover.links()),
        OtherLinks::Halt { bridge, links } => (bridge.as_str(), *links),
    };
    let other: Vec<Slice> = every_link().filter(|link| link.of() != links).collect();
    match &others {
        OtherLinks::Halt { .. } => {
            for link in other {
                if let Some(control) = worker.bridges.borrow().running.get(&link.local_client_id(bridge)) {
                    control.ask(Stop::ForNow);
                }
            }
        }
        OtherLinks::Drain(plan) => {
            let age = |link: &Slice| {
                let id = link.local_client_id(bridge);
                let view = worker.engine.borrow().client(&id);
                let is_oldest = view.as_ref().is_some_and(|view| view.subscriptions == 0);
                let is_here = view.is_some() || worker.bridges.borrow().running.contains_key(&id);
                is_here.then_some(if is_oldest { Age::Oldest } else { Age::Old })
            };
            let found: Vec<(Slice, Age)> = other.into_iter().filter_map(|link| Some((link, age(&link)?))).collect();
            plan.handover.seen(&found.iter().map(|(_, age)| *age).collect::<Vec<_>>());
            for (link, age) in found {
                tracing::info!("bridge \"{bridge}\": what waits in {} goes first", link.local_client_id(bridge));
                replace(worker, Task::Drain(Rc::new(plan.old_link(link, age))));
            }
        }
    }
}

/// What is done under a link's name.
enum Task {
    Run(Rc<BridgePlan>),
    Drain(Rc<BridgePlan>),
    Rest(RestPlan),
}

impl Task {
    fn local_client_id(&self) -> String {
        match self {
            Self::Run(plan) | Self::Drain(plan) => plan.settings.local_client_id(),
            Self::Rest(plan) => plan.local_client_id(),
        }
    }
}

fn replace(worker: &Rc<Worker>, task: Task) {
    let control = Rc::new(Control::default());
    let client_id = task.local_client_id();
    let before = worker.bridges.borrow_mut().running.insert(client_id.clone(), Rc::clone(&control));
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
            Task::Run(plan) => {
                if has_leftovers(&worker, &client_id) {
                    supervise(&worker, &Rc::new(plan.wanted_again()), &control).await;
                }
                match control.stop.get() {
                    None => supervise(&worker, plan, &control).await,
                    Some(stop) => (stop, false),
                }
            }
            Task::Drain(plan) => {
                wait_for_turn(plan, &control).await;
                match control.stop.get() {
                    None => {
                        worker.with_engine(|engine, now| engine.end_subscriptions(now, &client_id));
                        supervise(&worker, plan, &control).await
                    }
                    Some(stop) => (stop, false),
                }
            }
            Task::Rest(plan) => (rest::run(&worker, plan, &control).await, false),
        };
        if stop == Stop::ForGood {
            // When it was up it has said so itself; this is for all other cases.
            worker.with_engine(|engine, now| engine.end_client(now, &client_id));
            let farewell = control.farewell.take().filter(|_| !remote_knows);
            if let Some(plan) = farewell {
                farewell::say(&plan).await;
            }
        }
        control.finish();
        worker.bridges.borrow_mut().running.retain(|_, other| !Rc::ptr_eq(other, &control));
    });
}

/// Whether the session was one of an old link that had not carried everything.
fn has_leftovers(worker: &Worker, client_id: &str) -> bool {
    let view = worker.engine.borrow().client(client_id);
    view.is_some_and(|view| view.subscriptions == 0 && view.queued_messages + view.inflight > 0)
}

/// Waits until the link may drain, or is told to stop.
async fn wait_for_turn(plan: &BridgePlan, control: &Control) {
    let mut progress = plan.handover.watch();
    let mut turn = std::pin::pin!(async {
        while !plan.handover.may_drain(plan.age) {
            if progress.changed().await.is_err() {
                break;
            }
        }
    });
    std::future::poll_fn(|cx| {
        control.remember(cx);
        // It has no numbers yet.
        drop(control.take_asked());
        if control.stop.get().is_some() { std::task::Poll::Ready(()) } else { turn.as_mut().poll(cx) }
    })
    .await;
}

/// Ends every link of the bridge of that name for good, here and at its remote.
pub(crate) fn stop(worker: &Worker, name: &str, farewell: Option<&BridgePlan>) {
    for link in every_link() {
        let client_id = link.local_client_id(name);
        // It stays in its place until it has ended, so that another one of its name waits for that.
        let running = worker.bridges.borrow().running.get(&client_id).cloned();
        match running {
            Some(control) => {
                *control.farewell.borrow_mut() = farewell.map(|plan| plan.link(link, Duty::Serve));
                control.ask(Stop::ForGood);
            }
            None => _ = worker.with_engine(|engine, now| engine.end_client(now, &client_id)),
        }
    }
}

/// Has the links of the bridge `name`, or all, put their numbers where the API finds them; `done` is dropped when they have.
pub(crate) fn ask_for_numbers(worker: &Worker, name: Option<&str>, done: &mpsc::Sender<()>) {
    for (client_id, control) in &worker.bridges.borrow().running {
        let is_meant = name.is_none_or(|name| bridge_of(client_id) == Some(name));
        if is_meant && control.stop.get().is_none() {
            control.ask_for_numbers(done.clone());
        }
    }
}

/// Has the bridges tell their remotes, where they said otherwise, that they are not all that links this broker to others.
pub(crate) fn tell_no_leaf(worker: &Worker) {
    for control in worker.bridges.borrow().running.values() {
        control.no_leaf.set(true);
        control.wake();
    }
}

/// The bridge that a local ClientID belongs to.
pub(crate) fn bridge_of(client_id: &str) -> Option<&str> {
    client_id.strip_prefix(LOCAL_CLIENT_PREFIX)?.split('/').next()
}

/// Ends all of them because the broker does.
pub(crate) fn stop_all(worker: &Worker) {
    for control in worker.bridges.borrow().running.values() {
        control.ask(Stop::ForNow);
    }
}

/// Ends the sessions of bridges that are none of `known`: they were removed while the broker could not do so.
pub(crate) fn forget_others(worker: &Worker, known: &BTreeSet<String>) {
    let is_orphan = |id: &str| bridge_of(id).is_some_and(|name| !known.contains(name));
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
                status.note_down(plan.part(), worker.now());
                return (control.stop.get().unwrap_or(Stop::ForNow), remote_knows);
            }
            Err(error) => error,
        };
        status.panics.fetch_add(1, Ordering::Relaxed);
        status.note_down(plan.part(), worker.now());
        tracing::error!(bridge = %status.name, %error, "the bridge's task failed and is started again in {pause:?}");
        if let Some(stop) = control.stop.get() {
            return (stop, false);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RESTART_MAX);
    }
}
