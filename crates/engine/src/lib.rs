//! One worker's broker as one deterministic machine: sessions, dispatch, wills, expiry.
//!
//! In: connections that were admitted, bytes that were read, mail of other workers, the time. Out: bytes in the outputs
//! of connections, mail for other workers, and the next deadline. No socket, no clock, no task, no thread: the same
//! calls in the same order always give the same bytes. What all workers share ([`Shared`]) is locked for single look-ups
//! and changes, never while a message is handed on.
//!
//! The methods of [`Engine`] come in three families. `handle_*` says what happened and is never refused. `poll_*` and
//! [`Engine::output`] say what to do next and are drained after each `handle_*` or group of them. The rest are
//! questions.

mod absent;
mod acks;
mod authorize;
mod bundle;
mod connections;
mod dispatch;
mod due;
mod express;
mod express_acked;
mod fence;
mod held;
mod inbound;
mod keep;
mod key;
mod leave;
mod lifecycle;
mod limits;
mod log_budget;
mod mail;
mod reauth;
mod registry;
mod replay;
mod restore;
mod retained;
mod routes;
mod seams;
mod settings;
mod shared;
mod stats;
mod storm;
mod subscribe;
mod takeover;
mod view;
mod ways;
mod wills;

use std::sync::Arc;

use viaduct_codec::{Message, MessageProperties, Time};
use viaduct_session::Output;
use viaduct_store::Store;

pub use authorize::{AllowAll, Authorizer, Grant, Who};
pub use connections::CloseReason;
pub use inbound::Progress;
pub use key::{ConnectionId, SessionKey, WorkerId, worker_of};
pub use lifecycle::Arrival;
pub use limits::DEFAULT_TOPIC_LEVELS;
pub use mail::Mail;
pub use reauth::{AuthStep, Reauthenticate};
pub use registry::Identity;
pub use routes::{RouteCache, Routes};
pub use seams::{Claim, Epoch, Hearers, Lost, News, OneNode, Owners, Seams, SharedRoutes};
pub use settings::{OnDuplicate, RetainedSettings, Settings};
pub use shared::Shared;
pub use stats::{Counter, Dropped, Stats, Takeover};
pub use takeover::Connected;
pub use view::{ClientView, RetainedCursor, SubscriptionView};
pub use ways::Way;

use acks::Waiting;
use connections::{Connection, Connections};
use dispatch::Batch;
use due::{Due, Timer};
use log_budget::LogBudget;
use mail::Item;
use registry::Registry;
use storm::Storms;

/// One worker's broker.
pub struct Engine {
    worker: WorkerId,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    store: Box<dyn Store>,
    stats: Arc<Stats>,
    sessions: Registry,
    connections: Connections,
    owners: Box<dyn Owners>,
    hearers: Box<dyn Hearers>,
    due: Due,
    storms: Storms,
    log: LogBudget,
    waiting: Waiting,
    /// Those of the last message that had any, if they are not large.
    last_properties: Option<Arc<MessageProperties>>,
    /// What a run of QoS 1 needs while it is handed on; empty in between.
    run: express_acked::Run,
    /// The time of the call that is being handled.
    clock: Time,
    /// The rules under which the subscriptions of this worker were granted.
    rules: u64,
    authorizer: Arc<Box<dyn Authorizer>>,
    /// What sessions without a connection would write to; stays empty.
    nowhere: Output,
    stopping: bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("worker", &self.worker)
            .field("sessions", &self.sessions.len())
            .field("deadlines", &self.due.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// The machine of `worker` of a broker that is one node, beginning at `now` with what `store` kept.
    pub fn new(
        worker: WorkerId,
        shared: Arc<Shared>,
        settings: Arc<Settings>,
        store: Box<dyn Store>,
        now: Time,
    ) -> Self {
        let seams = Seams::one_node(&shared, store);
        Self::with_seams(worker, shared, settings, seams, now)
    }

    /// As [`Engine::new`], on other ground.
    pub fn with_seams(worker: WorkerId, shared: Arc<Shared>, settings: Arc<Settings>, seams: Seams, now: Time) -> Self {
        let Seams { owners, store, hearers } = seams;
        let mut due = Due::default();
        if worker == WorkerId(0) {
            due.at(now, Timer::RetainedExpiry);
        }
        let mut engine = Self {
            worker,
            settings,
            store,
            stats: Arc::default(),
            sessions: Registry::new(worker.0),
            connections: Connections::default(),
            owners,
            hearers,
            due,
            storms: Storms::default(),
            log: LogBudget::default(),
            waiting: Waiting::default(),
            last_properties: None,
            run: express_acked::Run::default(),
            clock: now,
            rules: shared.rules(),
            authorizer: shared.authorizer(),
            nowhere: Output::default(),
            stopping: false,
            shared,
        };
        engine.restore(now);
        engine.shared.note_restored();
        engine
    }

    /// The numbers of this worker, for anybody to read at any time.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Mail from another worker.
    pub fn handle_mail(&mut self, now: Time, mail: Mail) {
        self.notice_new_rules(now);
        for item in mail.items {
            match item {
                Item::Routed { message, routes, publisher, kept, first } => {
                    let batch = Batch { messages: &[message], kept: kept.as_ref(), first };
                    self.deliver_here(now, batch, &routes, publisher);
                }
                Item::Run { parcel, routes, publisher } => self.handle_parcel(now, &parcel, &routes, publisher),
                Item::Chosen { member, delivery, checked, hops } => {
                    self.deliver_to_member(now, member, delivery, checked, hops);
                }
            }
        }
    }

    /// The socket of `connection` took everything that was written: more may follow.
    pub fn handle_drained(&mut self, now: Time, connection: ConnectionId) {
        self.notice_new_rules(now);
        let Some(index) = self.connections.find(connection) else { return };
        if !self.connections.take_waits(index) {
            return;
        }
        if let Some(session) = self.connections.get(index).and_then(Connection::session) {
            self.pump(now, session);
            self.replay(now, session);
        }
    }

    /// A deadline that [`Engine::next_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Time) {
        self.notice_new_rules(now);
        self.store.handle_timeout(now);
        if !self.shared.is_restored() {
            return; // A will would not reach the sessions of a worker that is not there yet.
        }
        while let Some((time, timer)) = self.due.pop(now) {
            match timer {
                Timer::Session(key) => self.check_session(now, time, key),
                Timer::Page(key) => self.page_again(key),
                Timer::RetainedExpiry => {
                    let pause = self.sweep_retained(now);
                    self.due.at(now.after(pause), Timer::RetainedExpiry);
                }
            }
        }
        self.release_acks(now);
    }

    /// New settings; what depends on them follows from here on.
    pub fn handle_settings(&mut self, settings: Arc<Settings>) {
        let is_other_queue = self.settings.queue != settings.queue;
        self.settings = settings;
        if is_other_queue {
            let is_absent = |slot: &registry::Slot| slot.connection().is_none() && !slot.identity.local;
            for index in self.sessions.indices() {
                if self.sessions.get(index).is_some_and(is_absent) {
                    self.limit_absent(index);
                }
            }
        }
    }

    /// The next moment at which [`Engine::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let next = self.due.next().into_iter().chain(self.store.next_timeout()).min();
        if self.shared.is_restored() { next } else { next.map(|next| next.max(self.clock.after(limits::RESTORE_POLL))) }
    }

    /// A connection with something to write or that is to be closed; `None` when there is no more. Each is named once
    /// for all that happened to it since it was last named.
    pub fn poll_dirty(&mut self) -> Option<ConnectionId> {
        self.connections.pop_dirty()
    }

    /// What is on its way to `connection`, unless it waits for the store: write [`Output::unsent`] and tell how much went with [`Output::advance`].
    pub fn output(&mut self, connection: ConnectionId) -> Option<&mut Output> {
        let index = self.connections.find(connection)?;
        self.connections.output(index)
    }

    /// Why `connection` is to be closed once its output is written; `None` while it goes on, or when it is unknown.
    #[must_use]
    pub fn closing(&self, connection: ConnectionId) -> Option<&CloseReason> {
        self.connections.get(self.connections.find(connection)?)?.closing.as_deref()
    }

    /// The address of whoever is behind `connection`, as text; `None` when it is unknown.
    #[must_use]
    pub fn peer_of(&self, connection: ConnectionId) -> Option<Arc<str>> {
        self.connections.get(self.connections.find(connection)?).map(|connection| Arc::clone(&connection.peer))
    }

    /// A batch for another worker; `None` when there is no more. At most one for each worker until it is drained.
    pub fn poll_mail(&mut self) -> Option<(WorkerId, Mail)> {
        self.hearers.poll_mail()
    }

    /// Whether so much waits to be stored that publishers should not be read.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.store.is_congested()
    }

    /// Publishes a message of the broker's own, to anybody who subscribed and for no rule to refuse.
    pub fn publish(&mut self, now: Time, message: Message) {
        self.notice_new_rules(now);
        let message = Arc::new(message);
        let retained = self.retain(&message);
        self.note_store_result("retained", retained);
        self.dispatch(now, &message, None);
    }
}
