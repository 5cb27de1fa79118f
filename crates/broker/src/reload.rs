//! A new configuration into a running broker.
//!
//! In: the configuration that runs and the one that was read. Out: listeners, users, rules, limits and bridges as the new
//! one says. Everything that can fail is done before anything is changed. Must never: leave half of two configurations.

use std::sync::Arc;

use thiserror::Error;
use viaduct_config::{Changes, Config, changes};
use viaduct_engine::Authorizer;

use crate::auth::{AuthFileError, PasswordFile, SCRAM, load_authorizer, load_users};
use crate::bridge::{Moves, PlanError};
use crate::control::Running;
use crate::listener::BindError;
use crate::mailbox::Letter;
use crate::state::{Broker, ListenerState, Policy};
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
    /// Files are not read in time.
    #[error("{0}")]
    Files(std::io::Error),
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
        certificate_expires: tls.as_ref().and_then(|tls| tls.expires),
        tls: tls.map(|tls| tls.config),
        username_from: listener.tls.as_ref().map_or(viaduct_config::UsernameFrom::None, |tls| tls.username_from),
        max_connections: listener.max_connections,
        connect_timeout: config.limits.connect_timeout,
        connect_rate: config.limits.connect_rate,
    }))
}

/// Another configuration, with everything that it names read.
pub(crate) struct Prepared {
    changes: Changes,
    users: Option<PasswordFile>,
    authorizer: Box<dyn Authorizer>,
    policies: Vec<(Arc<ListenerState>, Arc<Policy>)>,
    settings: Arc<viaduct_engine::Settings>,
    /// Not remembered yet.
    pub(crate) bridges: Moves,
}

/// Reads what `new` names, for [`Prepared::carry_out`].
///
/// # Errors
/// A file can't be used.
pub(crate) fn prepare(broker: &Broker, running: &Running, new: &Config) -> Result<Prepared, SetupError> {
    let changes = changes(running.config(), new);
    let users = load_users(new.auth.password_file.as_deref())?;
    let authorizer = load_authorizer(new.auth.acl_file.as_deref())?;
    let mut policies = Vec::new();
    for state in &broker.listeners {
        let find = |config: &'_ Config| config.listeners.iter().position(|listener| *listener.name == *state.name);
        let Some(listener) = find(new).and_then(|index| new.listeners.get(index)) else { continue };
        // Whether TLS is spoken at all is part of the socket's promise and waits for a restart.
        let was_tls = state.policy.load().tls.is_some();
        if listener.tls.is_some() == was_tls {
            policies.push((Arc::clone(state), policy(new, listener, users.as_ref(), &running.origin)?));
        }
    }
    let bridges = Moves::between(broker, &running.origin, running.config(), new, None)?;
    Ok(Prepared { changes, users, authorizer, policies, settings: engine_settings(new), bridges })
}

impl Prepared {
    /// Makes it the running configuration as far as that is possible without a restart.
    pub(crate) fn carry_out(self, broker: &Broker) -> Changes {
        broker.users.set(self.users);
        broker.engines.set_authorizer(self.authorizer);
        for (state, policy) in self.policies {
            state.policy.store(policy);
        }
        broker.send_all(|| Letter::Users);
        broker.send_all(|| Letter::Settings(Arc::clone(&self.settings)));
        self.bridges.carry_out(broker);
        report(&self.changes);
        self.changes
    }
}

fn report(changes: &Changes) {
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
