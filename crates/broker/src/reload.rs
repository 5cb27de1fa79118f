//! SIGHUP: a new configuration into a running broker.
//!
//! In: the configuration that runs and the one that was read. Out: listeners, users, rules, limits and bridges as the new
//! one says. Everything that can fail is done before anything is changed. Must never: leave half of two configurations.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use thiserror::Error;
use viaduct_config::{Config, changes};

use crate::auth::{AuthFileError, PasswordFile, SCRAM, load_authorizer, load_users};
use crate::bridge::{self, BridgePlan, BridgeStatus, PlanError};
use crate::listener::BindError;
use crate::mailbox::Letter;
use crate::state::{Broker, Policy};
use crate::terms::{engine_settings, listener_terms};
use crate::tls::{self, TlsFileError};

/// A file or an address of the configuration can't be used.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Users or rules.
    #[error(transparent)]
    Auth(#[from] AuthFileError),
    /// A certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A bridge.
    #[error(transparent)]
    Bridge(#[from] PlanError),
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The token of the API.
    #[error("{}: {source} (admin.token_file)", path.display())]
    Token {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The store.
    #[error("{0} (node.data_dir)")]
    Store(#[from] viaduct_store::log::OpenError),
    /// The system does not give what is needed.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What `listener` does with who comes, when the users are `users` and this process is called `origin`.
pub(crate) fn policy(
    config: &Config,
    listener: &viaduct_config::Listener,
    users: Option<&PasswordFile>,
    origin: &str,
) -> Result<Arc<Policy>, TlsFileError> {
    let tls = listener.tls.as_ref().map(|tls| tls::server_config(&listener.name, tls)).transpose()?;
    // Without a user who has a secret nobody could be proven.
    let methods = users.and_then(PasswordFile::scram_shape).map(|_| SCRAM.into()).into_iter().collect();
    Ok(Arc::new(Policy {
        terms: listener_terms(config, listener, methods, origin),
        allow_anonymous: listener.allow_anonymous,
        mountpoint: listener.mountpoint.as_deref().map(Arc::from),
        tls,
        username_from: listener.tls.as_ref().map_or(viaduct_config::UsernameFrom::None, |tls| tls.username_from),
        max_connections: listener.max_connections,
        connect_timeout: config.limits.connect_timeout,
        connect_rate: config.limits.connect_rate,
    }))
}

/// The bridges that run under `config`, each with its plan.
pub(crate) fn plans(
    config: &Config,
    previous: Option<&Config>,
    origin: &str,
    broker_status: impl Fn(&str) -> Arc<BridgeStatus>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<BridgePlan>, PlanError> {
    config
        .bridges
        .iter()
        .filter(|bridge| bridge.enabled && wanted(&bridge.name))
        .map(|bridge| {
            let before = previous.and_then(|previous| {
                previous.bridges.iter().find(|before| before.name == bridge.name && before.enabled)
            });
            bridge::plan(config, bridge, before, origin, broker_status(&bridge.name))
        })
        .collect()
}

/// Makes `new` the running configuration as far as that is possible without a restart.
///
/// # Errors
/// A file can't be used; then nothing was changed.
pub(crate) fn apply(broker: &Broker, old: &Config, new: &Config, origin: &str) -> Result<(), SetupError> {
    let changes = changes(old, new);
    let users = load_users(new.auth.password_file.as_deref())?;
    let authorizer = load_authorizer(new.auth.acl_file.as_deref())?;
    let mut policies = Vec::new();
    for state in &broker.listeners {
        let find = |config: &'_ Config| config.listeners.iter().position(|listener| *listener.name == *state.name);
        let Some(listener) = find(new).and_then(|index| new.listeners.get(index)) else { continue };
        // Whether TLS is spoken at all is part of the socket's promise and waits for a restart.
        let was_tls = state.policy.load().tls.is_some();
        if listener.tls.is_some() == was_tls {
            policies.push((Arc::clone(state), policy(new, listener, users.as_ref(), origin)?));
        }
    }
    // Limits are in a bridge's plan too, but a bridge is only disturbed when its own keys changed, or its files.
    let renewed: Vec<&str> = new
        .bridges
        .iter()
        .filter(|bridge| {
            let known = broker.bridges.lock().get(&bridge.name).map(|status| status.files.load(Ordering::Relaxed));
            known.is_some_and(|known| known != bridge::fingerprint(bridge))
        })
        .map(|bridge| bridge.name.as_str())
        .collect();
    let touched = |name: &str| {
        let changed = changes.bridges_added.iter().chain(&changes.bridges_changed);
        changed.map(String::as_str).chain(renewed.iter().copied()).any(|other| other == name)
    };
    let status = |name: &str| broker.bridges.lock().get(name).cloned().unwrap_or_else(|| BridgeStatus::new(name));
    let plans = plans(new, Some(old), origin, status, touched)?;

    broker.users.set(users);
    broker.engines.set_authorizer(authorizer);
    for (state, policy) in policies {
        state.policy.store(policy);
    }
    let settings = engine_settings(new);
    broker.send_all(|| Letter::Users);
    broker.send_all(|| Letter::Settings(Arc::clone(&settings)));
    let disabled = new.bridges.iter().filter(|bridge| !bridge.enabled).map(|bridge| &bridge.name);
    for name in changes.bridges_removed.iter().chain(disabled) {
        if broker.bridges.lock().remove(name).is_some() {
            stop_bridge(broker, name);
        }
    }
    start_bridges(broker, plans);
    report(&changes);
    Ok(())
}

fn report(changes: &viaduct_config::Changes) {
    let none = || "nothing".to_owned();
    let list = |keys: &[String]| if keys.is_empty() { none() } else { keys.join(", ") };
    // The keys of bridges are many and say no more than the bridges' names.
    let keys: Vec<String> = changes.live_keys.iter().filter(|key| !key.starts_with("bridge[")).cloned().collect();
    tracing::info!(
        changed = list(&keys),
        bridges_added = list(&changes.bridges_added),
        bridges_removed = list(&changes.bridges_removed),
        bridges_changed = list(&changes.bridges_changed),
        "the configuration was reloaded; certificates, users and rules were read again"
    );
    if !changes.restart.is_empty() {
        tracing::warn!("these changed and need a restart: {}", changes.restart.join(", "));
    }
}

/// Hands each plan to the worker of its local session.
pub(crate) fn start_bridges(broker: &Broker, plans: Vec<BridgePlan>) {
    for plan in plans {
        let name = plan.settings.name.clone();
        plan.status.files.store(plan.files, Ordering::Relaxed);
        broker.bridges.lock().insert(name.clone(), Arc::clone(&plan.status));
        let worker = broker.worker_of(&format!("{}{name}", bridge::LOCAL_CLIENT_PREFIX));
        broker.send(worker, Letter::StartBridge(Box::new(plan)));
    }
}

fn stop_bridge(broker: &Broker, name: &str) {
    let worker = broker.worker_of(&format!("{}{name}", bridge::LOCAL_CLIENT_PREFIX));
    broker.send(worker, Letter::StopBridge(name.to_owned()));
}
