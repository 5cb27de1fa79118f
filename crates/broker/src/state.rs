//! What all threads share: the engines' common part, users, listeners, mailboxes, numbers.
//!
//! Nothing here is locked on the path of a message, but where one may come from another broker by more than one way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use rustls::ServerConfig;
use viaduct_config::UsernameFrom;
use viaduct_engine::{Mail, WorkerId, worker_of};
use viaduct_session::server::Terms;

use crate::auth::Users;
use crate::bridge::{BridgeStatus, Remembered};
use crate::clock::Clock;
use crate::control::Running;
use crate::counters::{ApiCalls, Connects, Logins, ProtocolErrors, WorkerNumbers};
use crate::guests::Guests;
use crate::mailbox::{Letter, Mailbox};
use crate::refusal_log::RefusalLog;
use crate::ways::Ways;

/// The whole broker, as each of its threads sees it.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) store: viaduct_store::log::Log,
    pub(crate) clock: Clock,
    pub(crate) engines: Arc<viaduct_engine::Shared>,
    /// Links to other brokers, by which a message may come more than once.
    pub(crate) ways: Arc<Ways>,
    /// Bridges of others that are connected here.
    pub(crate) guests: Arc<Guests>,
    pub(crate) users: Users,
    pub(crate) listeners: Vec<Arc<ListenerState>>,
    /// By worker.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// How many of them hold so much mail that their writers should slow down.
    pub(crate) full_mailboxes: Arc<AtomicUsize>,
    /// By worker; empty until all of them run.
    pub(crate) numbers: ArcSwapOption<Vec<WorkerNumbers>>,
    pub(crate) logins: Logins,
    pub(crate) protocol_errors: ProtocolErrors,
    pub(crate) api_calls: ApiCalls,
    pub(crate) refusals: RefusalLog,
    /// By name, those that rest included.
    pub(crate) bridges: Mutex<BTreeMap<String, Arc<BridgeStatus>>>,
    /// Rules that bridges had, for remotes that have not heard of their end.
    pub(crate) remembered: Remembered,
    /// The configuration; written by the main thread alone.
    pub(crate) running: ArcSwap<Running>,
    /// Everything is bound and runs, and the end has not begun.
    pub(crate) ready: AtomicBool,
    /// The end has begun: whoever has not sent CONNECT yet is not waited for.
    pub(crate) stopping: tokio::sync::watch::Sender<bool>,
}

impl Broker {
    pub(crate) fn workers(&self) -> u16 {
        u16::try_from(self.mailboxes.len()).unwrap_or(u16::MAX)
    }

    /// The worker that the session of this ClientID lives on.
    pub(crate) fn worker_of(&self, client_id: &str) -> WorkerId {
        worker_of(client_id, self.workers())
    }

    /// Sends a letter to a worker; `false` when it has ended.
    pub(crate) fn send(&self, worker: WorkerId, letter: Letter) -> bool {
        self.mailboxes.get(usize::from(worker.0)).is_some_and(|mailbox| mailbox.send(letter))
    }

    /// Sends mail to a worker; `false` when it has ended.
    pub(crate) fn send_mail(&self, worker: WorkerId, mail: Mail) -> bool {
        self.mailboxes.get(usize::from(worker.0)).is_some_and(|mailbox| mailbox.send_mail(mail))
    }

    /// Sends a letter to each worker.
    pub(crate) fn send_all(&self, letter: impl Fn() -> Letter) {
        for mailbox in &self.mailboxes {
            mailbox.send(letter());
        }
    }
}

/// One listener.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) name: Arc<str>,
    /// What it is bound to; the port is the real one.
    pub(crate) address: SocketAddr,
    /// The path that clients ask to be upgraded on, when WebSocket carries MQTT here. Stays until a restart.
    pub(crate) websocket: Option<Box<str>>,
    pub(crate) policy: ArcSwap<Policy>,
    pub(crate) connects: Connects,
    connections: AtomicU32,
}

/// What a listener does with who comes; replaced whole on reload.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) terms: Arc<Terms>,
    pub(crate) allow_anonymous: bool,
    pub(crate) mountpoint: Option<Arc<str>>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// When the certificate ends, seconds since 1970.
    pub(crate) certificate_expires: Option<i64>,
    pub(crate) username_from: UsernameFrom,
    pub(crate) max_connections: Option<u32>,
    /// From accept to the end of CONNECT.
    pub(crate) connect_timeout: Duration,
    /// New connections a second.
    pub(crate) connect_rate: Option<u32>,
}

/// One of a listener's connections, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Place {
    listener: Arc<ListenerState>,
}

impl ListenerState {
    pub(crate) fn new(name: &str, address: SocketAddr, websocket: Option<&str>, policy: Arc<Policy>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            address,
            websocket: websocket.map(Into::into),
            policy: ArcSwap::new(policy),
            connects: Connects::default(),
            connections: AtomicU32::new(0),
        })
    }

    /// Connections now, those included that have not sent CONNECT yet.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes a place, unless there are as many connections as there may be.
    pub(crate) fn place(self: &Arc<Self>, max: Option<u32>) -> Option<Place> {
        let max = max.unwrap_or(u32::MAX);
        let taken = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < max).then_some(count + 1));
        taken.is_ok().then(|| Place { listener: Arc::clone(self) })
    }
}

impl Place {
    pub(crate) fn listener(&self) -> &Arc<ListenerState> {
        &self.listener
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.listener.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
