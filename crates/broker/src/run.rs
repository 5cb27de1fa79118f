//! The whole broker: started in order, stopped in reverse.
//!
//! In: a checked configuration and a way to read it again. Out: a running broker until SIGTERM or SIGINT. Everything
//! that can be found wrong is found before the first client is served; then nothing is left running.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use viaduct_config::{Config, Source};
use viaduct_engine::WorkerId;
use viaduct_store::log::Door;

use crate::auth::{Users, load_authorizer, load_users};
use crate::bridge::{self, Moves, Remembered};
use crate::clock::Clock;
use crate::control::{self, Order, Orders, ReadAgain, Running};
use crate::counters::{ApiCalls, Logins, ProtocolErrors, WorkerNumbers};
use crate::guests::Guests;
use crate::limits::{DRAIN, WORKER_STOP, WORKERS};
use crate::mailbox::{Letter, mailbox};
use crate::refusal_log::RefusalLog;
use crate::reload::{self, SetupError};
use crate::run_time::Configuration;
use crate::state::{Broker, ListenerState};
use crate::ways::Ways;
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

/// Runs until SIGTERM or SIGINT. `read_again` reads the configuration anew on SIGHUP and for the API; its error is for the
/// operator.
///
/// # Errors
/// A file or an address can't be used, or the system does not give what is needed; then nothing was served.
pub fn run(
    configuration: Configuration,
    options: RunOptions,
    read_again: impl Fn() -> Result<Source, String> + Send + Sync + 'static,
) -> Result<(), SetupError> {
    let log = logging::start(&configuration.loaded.config.log);
    for warning in &configuration.loaded.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let system = |what| move |source| SetupError::System { what, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the main runtime can't be made"))?;
    let result = runtime.block_on(serve(configuration, options, Arc::new(read_again), log));
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
    bridges: Moves,
}

async fn serve(
    configuration: Configuration,
    options: RunOptions,
    read_again: ReadAgain,
    log: Option<logging::FilterHandle>,
) -> Result<(), SetupError> {
    let system = |what| move |source| SetupError::System { what, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM can't be handled"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT can't be handled"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(system("SIGHUP can't be handled"))?;
    let Prepared { broker, doors, inboxes, sockets, admin, bridges } = prepare(configuration, options)?;
    let config = broker.running.load_full();
    let workers = start_workers(&broker, inboxes, doors, config.config())?;
    let (orders, mut waiting) = Orders::new();
    let mut tasks = Vec::new();
    if let Some((socket, access)) = admin {
        tasks.push(tokio::spawn(admin::serve(Arc::clone(&broker), orders, access, socket)));
    }
    let mut sys_task = start_sys(&broker, config.config());
    let known: Arc<BTreeSet<String>> = Arc::new(config.config().bridges.iter().map(|b| b.name.clone()).collect());
    broker.send_all(|| Letter::Bridges(Arc::clone(&known)));
    bridges.carry_out(&broker);
    let accepting: Vec<_> = sockets
        .into_iter()
        .map(|(state, socket)| tokio::spawn(listener::accept(Arc::clone(&broker), state, socket)))
        .collect();
    broker.ready.store(true, Ordering::Release);
    announce(&broker, config.config(), tasks.is_empty());
    drop(config);
    tasks.push(tokio::spawn(tls::watch(Arc::clone(&broker))));
    let signal = loop {
        let order = tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            // Nobody waits for the answer.
            _ = hang_up.recv() => Order::Reload(tokio::sync::oneshot::channel().0),
            Some(order) = waiting.recv() => order,
        };
        // It may have to wait for files; the end of the broker does not wait for it.
        let reloaded = tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            reloaded = carry_out(&broker, &read_again, order) => reloaded,
        };
        if reloaded {
            let config = broker.running.load_full();
            if let Some(log) = &log {
                // The handle fails only when logging itself is gone.
                let _ = log.reload(logging::filter(&config.config().log));
            }
            if let Some(task) = sys_task.take() {
                task.abort();
            }
            sys_task = start_sys(&broker, config.config());
        }
    };
    tracing::info!("stopping on {signal}");
    broker.ready.store(false, Ordering::Release);
    broker.stopping.send_replace(true);
    // Whoever still waits is told that the broker stops.
    drop(waiting);
    for task in accepting.into_iter().chain(sys_task) {
        task.abort();
    }
    bridge::forget_former_rules(&broker);
    drain(&broker).await;
    stop_workers(&broker, workers);
    for task in tasks {
        task.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Does what the API asks for; whether the whole configuration was read again.
async fn carry_out(broker: &Arc<Broker>, read_again: &ReadAgain, order: Order) -> bool {
    // Nobody waits any more when an answer can't be sent; what was asked for is done all the same.
    match order {
        Order::Reload(answer) => {
            let result = control::reload(broker, read_again).await;
            let reloaded = result.is_ok();
            let _ = answer.send(result);
            reloaded
        }
        Order::Bridge { name, wish, answer } => {
            let _ = answer.send(control::change(broker, &name, wish).await);
            false
        }
    }
}

/// Reads every file and binds every address.
fn prepare(configuration: Configuration, options: RunOptions) -> Result<Prepared, SetupError> {
    let Configuration { source, loaded } = configuration;
    let config = &loaded.config;
    let users = load_users(config.auth.password_file.as_deref())?;
    let authorizer = load_authorizer(config.auth.acl_file.as_deref())?;
    if let Some(users) = &users
        && users.len() == 0
    {
        tracing::warn!("the password file has no user in it");
    }
    // Different in every process, so that no two brokers of a ring take each other's messages for their own.
    let origin = format!("{}-{:08x}", config.node.id, tls::seed() & 0xffff_ffff);
    let mut bridges = Moves::all(config, &origin)?;
    storage::look(config)?;
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
    // The folder is ours now that the store is open.
    let remembered = Remembered::read(&config.node.data_dir);
    bridges.remember(&remembered);
    let clock = Clock::start();
    let broker = Arc::new(Broker {
        store,
        clock,
        ways: Ways::new(clock, tls::seed()),
        guests: Guests::new(),
        engines: viaduct_engine::Shared::new(count, authorizer),
        users: Users::new(users),
        listeners,
        mailboxes,
        full_mailboxes,
        numbers: ArcSwapOption::empty(),
        logins: Logins::default(),
        protocol_errors: ProtocolErrors::default(),
        api_calls: ApiCalls::default(),
        refusals: RefusalLog::default(),
        bridges: Mutex::default(),
        remembered,
        running: ArcSwap::from_pointee(Running { source, loaded, origin }),
        ready: AtomicBool::new(false),
        stopping: tokio::sync::watch::Sender::new(false),
    });
    Ok(Prepared { broker, doors, inboxes, sockets, admin, bridges })
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
    let bridges_left = || broker.bridges.lock().values().all(|status| status.has_left());
    while (connections() > 0 || !bridges_left()) && Instant::now() < deadline {
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
