//! The whole broker: started in order, stopped in reverse.
//!
//! In: a checked configuration and a way to read it again. Out: a running broker until SIGTERM or SIGINT. Everything
//! that can be found wrong is found before the first client is served; then nothing is left running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use viaduct_config::{Config, Loaded};
use viaduct_engine::WorkerId;
use viaduct_store::log::Door;

use crate::auth::{Users, load_authorizer, load_users};
use crate::bridge::BridgeStatus;
use crate::clock::Clock;
use crate::counters::{Logins, ProtocolErrors, WorkerNumbers};
use crate::limits::{DRAIN, WORKER_STOP, WORKERS};
use crate::mailbox::{Letter, mailbox};
use crate::refusal_log::RefusalLog;
use crate::reload::{self, SetupError};
use crate::state::{Broker, ListenerState};
use crate::{admin, listener, logging, storage, sys, terms, tls, worker};

/// How long the workers have to be ready.
const WORKER_START: Duration = Duration::from_secs(30);
/// How often the end of the connections is looked for while the broker drains.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// What the command line says beyond the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Do not start when the store is damaged.
    pub refuse_damaged: bool,
}

/// Runs until SIGTERM or SIGINT. `read_again` reads the configuration anew on SIGHUP; its error is for the log.
///
/// # Errors
/// A file or an address can't be used, or the system does not give what is needed; then nothing was served.
pub fn run(
    loaded: Loaded,
    options: RunOptions,
    read_again: &dyn Fn() -> Result<Loaded, String>,
) -> Result<(), SetupError> {
    let log = logging::start(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let system = |what| move |source| SetupError::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the main runtime can't be made"))?;
    let result = runtime.block_on(serve(loaded.config, options, read_again, log));
    runtime.shutdown_background();
    result
}

/// What is bound and read before anything runs.
struct Prepared {
    broker: Arc<Broker>,
    doors: Vec<Door>,
    inboxes: Vec<crate::mailbox::Inbox>,
    sockets: Vec<(Arc<ListenerState>, tokio::net::TcpListener)>,
    admin: Option<(tokio::net::TcpListener, admin::Access)>,
    plans: Vec<crate::bridge::BridgePlan>,
    origin: String,
}

async fn serve(
    mut config: Config,
    options: RunOptions,
    read_again: &dyn Fn() -> Result<Loaded, String>,
    log: Option<logging::FilterHandle>,
) -> Result<(), SetupError> {
    let system = |what| move |source| SetupError::System { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM can't be handled"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT can't be handled"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(system("SIGHUP can't be handled"))?;
    let Prepared { broker, doors, inboxes, sockets, admin, plans, origin } = prepare(&config, options)?;
    let workers = start_workers(&broker, inboxes, doors, &config)?;
    let mut tasks = Vec::new();
    if let Some((socket, access)) = admin {
        tasks.push(tokio::spawn(admin::serve(Arc::clone(&broker), access, socket)));
    }
    let mut sys_task = start_sys(&broker, &config);
    reload::start_bridges(&broker, plans);
    let accepting: Vec<_> = sockets
        .into_iter()
        .map(|(state, socket)| tokio::spawn(listener::accept(Arc::clone(&broker), state, socket)))
        .collect();
    broker.ready.store(true, Ordering::Release);
    announce(&broker, &config, tasks.is_empty());
    let signal = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hang_up.recv() => {
                if let Some(new) = reload(&broker, &config, &origin, read_again) {
                    if let Some(log) = &log {
                        // The handle fails only when logging itself is gone.
                        let _ = log.reload(logging::filter(&new.log));
                    }
                    config = new;
                    if let Some(task) = sys_task.take() {
                        task.abort();
                    }
                    sys_task = start_sys(&broker, &config);
                }
            }
        }
    };
    tracing::info!("stopping on {signal}");
    broker.ready.store(false, Ordering::Release);
    broker.stopping.send_replace(true);
    for task in accepting.into_iter().chain(sys_task) {
        task.abort();
    }
    drain(&broker).await;
    stop_workers(&broker, workers);
    for task in tasks {
        task.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Reads every file and binds every address.
fn prepare(config: &Config, options: RunOptions) -> Result<Prepared, SetupError> {
    let users = load_users(config.auth.password_file.as_deref())?;
    let authorizer = load_authorizer(config.auth.acl_file.as_deref())?;
    if let Some(users) = &users
        && users.len() == 0
    {
        tracing::warn!("the password file has no user in it");
    }
    // Different in every process, so that no two brokers of a ring take each other's messages for their own.
    let origin = format!("{}-{:08x}", config.node.id, tls::seed() & 0xffff_ffff);
    let plans = reload::plans(config, None, &origin, BridgeStatus::new, |_| true)?;
    let mut listeners = Vec::new();
    let mut sockets = Vec::new();
    for (index, settings) in config.listeners.iter().enumerate() {
        let policy = reload::policy(config, settings, users.as_ref(), &origin)?;
        let what = format!("listener \"{}\"", settings.name);
        let socket = listener::bind(what, format!("listener[{index}].bind"), settings.bind)?;
        let address = socket.local_addr().unwrap_or(settings.bind);
        let state = ListenerState::new(&settings.name, address, settings.transport.path(), policy);
        listeners.push(Arc::clone(&state));
        sockets.push((state, to_tokio(socket)?));
    }
    let admin = match config.admin.bind {
        None => None,
        Some(bind) => {
            let token = config.admin.token_file.as_deref().map(read_token).transpose()?;
            let socket = listener::bind("admin".to_owned(), "admin.bind".to_owned(), bind)?;
            let access = admin::Access::new(bind, token);
            if matches!(access, admin::Access::Closed) {
                tracing::warn!("the API answers nobody: admin.bind is not loopback and there is no admin.token_file");
            }
            Some((to_tokio(socket)?, access))
        }
    };
    let count = workers(config);
    let full_mailboxes: Arc<AtomicUsize> = Arc::default();
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mailbox(&full_mailboxes)).unzip();
    let (store, doors) = storage::open(config, &mailboxes, options.refuse_damaged)?;
    let broker = Arc::new(Broker {
        store,
        clock: Clock::start(),
        engines: viaduct_engine::Shared::new(count, authorizer),
        users: Users::new(users),
        listeners,
        mailboxes,
        full_mailboxes,
        numbers: ArcSwapOption::empty(),
        logins: Logins::default(),
        protocol_errors: ProtocolErrors::default(),
        refusals: RefusalLog::default(),
        bridges: Mutex::default(),
        ready: AtomicBool::new(false),
        stopping: tokio::sync::watch::Sender::new(false),
    });
    Ok(Prepared { broker, doors, inboxes, sockets, admin, plans, origin })
}

fn workers(config: &Config) -> u16 {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let wanted = if config.node.workers == 0 { cores() } else { config.node.workers };
    u16::try_from(wanted.clamp(1, WORKERS)).unwrap_or(1)
}

fn to_tokio(socket: std::net::TcpListener) -> Result<tokio::net::TcpListener, SetupError> {
    tokio::net::TcpListener::from_std(socket)
        .map_err(|source| SetupError::System { what: "a listener can't be watched", source })
}

pub(crate) fn read_token(path: &std::path::Path) -> Result<Vec<u8>, SetupError> {
    let failed = |source| SetupError::Token { path: path.to_owned(), source };
    let bytes = crate::files::read(path).map_err(failed)?;
    let token = bytes.trim_ascii().to_vec();
    if token.is_empty() {
        return Err(failed(std::io::Error::other("there is no token in it")));
    }
    Ok(token)
}

/// Starts every worker and waits until its engine is there.
fn start_workers(
    broker: &Arc<Broker>,
    inboxes: Vec<crate::mailbox::Inbox>,
    doors: Vec<Door>,
    config: &Config,
) -> Result<Vec<JoinHandle<()>>, SetupError> {
    let settings = terms::engine_settings(config);
    let (sender, receiver) = mpsc::channel();
    let mut threads = Vec::new();
    for ((id, inbox), door) in (0..broker.workers()).map(WorkerId).zip(inboxes).zip(doors) {
        let thread = worker::spawn(id, Arc::clone(broker), inbox, door, Arc::clone(&settings), sender.clone())
            .map_err(|source| SetupError::System { what: "a worker's thread can't be started", source })?;
        threads.push(thread);
    }
    drop(sender);
    let mut numbers: Vec<(WorkerId, WorkerNumbers)> = Vec::new();
    while numbers.len() < threads.len() {
        let next = receiver.recv_timeout(WORKER_START).map_err(|error| SetupError::System {
            what: "a worker does not start",
            source: std::io::Error::other(error),
        })?;
        numbers.push(next);
    }
    numbers.sort_by_key(|(id, _)| *id);
    broker.numbers.store(Some(Arc::new(numbers.into_iter().map(|(_, numbers)| numbers).collect())));
    Ok(threads)
}

fn start_sys(broker: &Arc<Broker>, config: &Config) -> Option<tokio::task::JoinHandle<()>> {
    config.sys.interval.map(|interval| tokio::spawn(sys::publish(Arc::clone(broker), interval)))
}

fn announce(broker: &Broker, config: &Config, no_admin: bool) {
    let listeners: Vec<String> = broker
        .listeners
        .iter()
        .map(|listener| {
            let scheme = match (&listener.websocket, listener.policy.load().tls.is_some()) {
                (None, false) => "mqtt",
                (None, true) => "mqtts",
                (Some(_), false) => "ws",
                (Some(_), true) => "wss",
            };
            let path = listener.websocket.as_deref().unwrap_or_default();
            format!("\"{}\" {scheme}://{}{path}", listener.name, listener.address)
        })
        .collect();
    let admin = config.admin.bind.filter(|_| !no_admin).map_or_else(|| "off".to_owned(), |bind| bind.to_string());
    tracing::info!(
        "viaduct {} serves {}; admin {admin}; sessions and messages are kept in {} (store.sync {:?}); workers: {}",
        crate::VERSION,
        listeners.join(", "),
        config.node.data_dir.display(),
        config.store.sync,
        broker.mailboxes.len()
    );
}

/// The new configuration, if it could be read and applied.
fn reload(
    broker: &Broker,
    old: &Config,
    origin: &str,
    read_again: &dyn Fn() -> Result<Loaded, String>,
) -> Option<Config> {
    let loaded = match read_again() {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("the configuration was not reloaded, nothing has changed:\n{error}");
            return None;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("configuration: {warning}");
    }
    match reload::apply(broker, old, &loaded.config, origin) {
        Ok(()) => Some(loaded.config),
        Err(error) => {
            tracing::error!("the configuration was not reloaded, nothing has changed: {error}");
            None
        }
    }
}

/// Says goodbye to everybody and waits until they have heard it.
async fn drain(broker: &Broker) {
    let deadline = Instant::now() + DRAIN;
    // What one worker says last has to be in the mailboxes of the others before any of them closes.
    let (done, mut all_done) = tokio::sync::mpsc::channel(broker.mailboxes.len().max(1));
    broker.send_all(|| Letter::LastWords(done.clone()));
    drop(done);
    while let Ok(Some(())) = tokio::time::timeout_at(deadline.into(), all_done.recv()).await {}
    broker.send_all(|| Letter::Shutdown);
    let connections = || broker.listeners.iter().map(|listener| listener.connections()).sum::<u32>();
    let bridges = || broker.bridges.lock().values().filter(|status| status.stats.lock().up).count();
    while (connections() > 0 || bridges() > 0) && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    let left = connections();
    if left > 0 {
        tracing::warn!("{left} connections did not take their last bytes in time");
    }
}

fn stop_workers(broker: &Broker, workers: Vec<JoinHandle<()>>) {
    // What is owed stays owed when the engines go.
    broker.store.close();
    broker.send_all(|| Letter::Stop);
    let deadline = Instant::now() + WORKER_STOP;
    for (index, worker) in workers.into_iter().enumerate() {
        while !worker.is_finished() && Instant::now() < deadline {
            std::thread::sleep(DRAIN_POLL);
        }
        if !worker.is_finished() {
            tracing::warn!("worker {index} does not stop; the process ends without it");
        } else if worker.join().is_err() {
            tracing::error!("worker {index} had ended with a defect");
        }
    }
}
