//! One worker: a thread with its runtime, its engine, and the connections whose sessions live here.
//!
//! In: letters. Out: tasks on this thread. The engine is borrowed for single calls and never across an await. Must never:
//! wait for another worker longer than for one read of a link that is one of several ways, or do anything slow on this thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use tokio::task::LocalSet;
use viaduct_codec::Time;
use viaduct_engine::{ConnectionId, Engine, Progress, Settings, WorkerId};
use viaduct_store::log::Door;

use crate::bridge::{self, BridgeTasks};
use crate::connection;
use crate::counters::{Traffic, WorkerNumbers};
use crate::limits::SCRATCH;
use crate::links::Links;
use crate::mailbox::{Inbox, Letter};
use crate::state::Broker;
use crate::{flush, hello, questions};

/// What the tasks of a worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) broker: Arc<Broker>,
    pub(crate) engine: RefCell<Engine>,
    inbox: RefCell<Inbox>,
    pub(crate) links: RefCell<Links>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) bridges: RefCell<BridgeTasks>,
    /// Connections that have not sent CONNECT yet.
    pub(crate) hellos: Cell<usize>,
    /// Bytes that they hold.
    pub(crate) hello_bytes: Cell<usize>,
    /// What every connection reads into.
    scratch: RefCell<Box<[u8]>>,
    /// Whether the flusher has something to do, and how to wake it.
    flush_due: Cell<bool>,
    flusher: RefCell<Option<Waker>>,
}

impl Worker {
    pub(crate) fn now(&self) -> Time {
        self.broker.clock.now()
    }

    /// Asks the flusher to run once the tasks that are ready have had their turn.
    pub(crate) fn flush_soon(&self) {
        if !self.flush_due.replace(true)
            && let Some(waker) = self.flusher.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// For the flusher: ready when somebody asked for it.
    pub(crate) fn poll_flush_due(&self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        if self.flush_due.replace(false) {
            return Poll::Ready(());
        }
        let mut flusher = self.flusher.borrow_mut();
        if !flusher.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *flusher = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Lends the scratch buffer; not to be asked for again inside.
    pub(crate) fn with_scratch<R>(&self, read: impl FnOnce(&mut [u8]) -> R) -> R {
        read(&mut self.scratch.borrow_mut())
    }

    /// Does something with the engine, after which there may be something to write.
    pub(crate) fn with_engine<R>(&self, act: impl FnOnce(&mut Engine, Time) -> R) -> R {
        let result = act(&mut self.engine.borrow_mut(), self.now());
        self.flush_soon();
        result
    }

    /// Hands in what came over the connection `id`. What may come by more than one way is taken one way at a time, and mailed
    /// before the next: so everybody hears it in one order.
    pub(crate) fn hand_in(&self, id: ConnectionId, bytes: &[u8]) -> Progress {
        let ways = &self.broker.ways;
        let now = self.now();
        if !ways.are_counted(now) || !self.engine.borrow().is_counted(now, id) {
            return self.with_engine(|engine, now| engine.handle_bytes(now, id, bytes));
        }
        let _turn = ways.turn();
        self.open_mail();
        let progress = self.with_engine(|engine, now| engine.handle_bytes(now, id, bytes));
        flush::mail(self);
        progress
    }

    /// Opens the mail that is there. To be done before what a client sent is looked at: it may have sent it because another
    /// client, on another worker, was told that its message was taken, and that message is in the mail.
    pub(crate) fn open_mail(&self) {
        let waiting = self.inbox.borrow().mail();
        for _ in 0..waiting {
            let Some(mail) = self.inbox.borrow_mut().try_mail() else { return };
            self.with_engine(|engine, now| engine.handle_mail(now, mail));
        }
    }

    /// The next letter, once there is no mail.
    async fn next_letter(&self) -> Option<Letter> {
        loop {
            let next = std::future::poll_fn(|cx| {
                let mut inbox = self.inbox.borrow_mut();
                match inbox.poll_mail(cx) {
                    Poll::Ready(Some(mail)) => Poll::Ready(Some(Err(mail))),
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Pending => inbox.poll_letter(cx).map(|letter| letter.map(Ok)),
                }
            });
            match next.await? {
                Ok(letter) => return Some(letter),
                Err(mail) => {
                    self.with_engine(|engine, now| engine.handle_mail(now, mail));
                    self.open_mail();
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// The connection is over.
    pub(crate) fn closed(&self, id: ConnectionId, why: &str) {
        self.with_engine(|engine, now| engine.handle_closed(now, id, why));
        self.links.borrow_mut().remove(id);
    }

    /// Whether mail of this broker or what is to be stored piles up somewhere, so that reading clients should wait.
    pub(crate) fn is_congested(&self) -> bool {
        self.broker.full_mailboxes.load(Ordering::Relaxed) != 0 || self.engine.borrow().is_congested()
    }
}

/// Starts the worker's thread. It sends its numbers once its engine is there.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn spawn(
    id: WorkerId,
    broker: Arc<Broker>,
    inbox: Inbox,
    door: Door,
    settings: Arc<Settings>,
    numbers: std::sync::mpsc::Sender<(WorkerId, WorkerNumbers)>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{}", id.0)).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                // The main thread notices that no numbers came.
                tracing::error!(worker = id.0, %error, "the worker's runtime can't be made");
                return;
            }
        };
        let local = LocalSet::new();
        local.block_on(&runtime, run(id, broker, inbox, door, settings, numbers));
        // Password checks that still run are not waited for.
        runtime.shutdown_background();
    })
}

async fn run(
    id: WorkerId,
    broker: Arc<Broker>,
    inbox: Inbox,
    door: Door,
    settings: Arc<Settings>,
    numbers: std::sync::mpsc::Sender<(WorkerId, WorkerNumbers)>,
) {
    let now = broker.clock.now();
    let engine = Engine::new(id, Arc::clone(&broker.engines), settings, Box::new(door), now);
    let traffic: Arc<Traffic> = Arc::default();
    let sent = numbers.send((id, WorkerNumbers { engine: engine.stats(), traffic: Arc::clone(&traffic) }));
    drop(numbers);
    if sent.is_err() {
        return;
    }
    let worker = Rc::new(Worker {
        id,
        broker,
        engine: RefCell::new(engine),
        inbox: RefCell::new(inbox),
        links: RefCell::default(),
        traffic,
        bridges: RefCell::default(),
        hellos: Cell::new(0),
        hello_bytes: Cell::new(0),
        scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
        flush_due: Cell::new(true),
        flusher: RefCell::new(None),
    });
    tokio::task::spawn_local(flush::run(Rc::clone(&worker)));
    tokio::task::spawn_local(flush::sweep(Rc::clone(&worker)));
    while let Some(letter) = worker.next_letter().await {
        if open(&worker, letter).is_break() {
            return;
        }
    }
}

fn open(worker: &Rc<Worker>, letter: Letter) -> std::ops::ControlFlow<()> {
    match letter {
        Letter::Accepted(accepted) => {
            tokio::task::spawn_local(hello::greet(Rc::clone(worker), *accepted));
        }
        Letter::Newcomer(newcomer) => connection::take_in(worker, *newcomer),
        Letter::Publish(messages) => worker.with_engine(|engine, now| {
            for message in messages {
                engine.publish(now, message);
            }
        }),
        Letter::Users => {
            let users = &worker.broker.users;
            worker.with_engine(|engine, now| {
                engine.handle_users(now, |name, credential| users.credential(name) == Some(credential));
            });
        }
        Letter::Settings(settings) => worker.with_engine(|engine, _| engine.handle_settings(settings)),
        Letter::StartBridge(plan) => bridge::start(worker, *plan),
        Letter::RestBridge(plan) => bridge::rest(worker, plan),
        Letter::OtherLinks(others) => bridge::see_other_links(worker, others),
        Letter::StopBridge(name, farewell) => bridge::stop(worker, &name, farewell.as_deref()),
        Letter::Bridges(known) => bridge::forget_others(worker, &known),
        Letter::NoLeaf => bridge::tell_no_leaf(worker),
        Letter::BridgeNumbers(name, done) => bridge::ask_for_numbers(worker, name.as_deref(), &done),
        Letter::Committed => worker.with_engine(Engine::handle_committed),
        Letter::Ask(question) => questions::answer(worker, question),
        Letter::LastWords(done) => {
            worker.with_engine(|engine, now| engine.handle_last_words(now));
            flush::mail(worker);
            // There is room for one from each worker; nobody waits any more when this fails.
            let _ = done.try_send(());
        }
        Letter::Shutdown => {
            bridge::stop_all(worker);
            worker.with_engine(|engine, now| engine.handle_shutdown(now));
        }
        Letter::Stop => return std::ops::ControlFlow::Break(()),
    }
    std::ops::ControlFlow::Continue(())
}
