//! A bridge's configuration as its machine and its task need it: files read, nothing left to find out later.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use thiserror::Error;
use viaduct_bridge::{Address, Direction, Duty, Protocol, RemoteLimits, RuleError, Settings, Topic};
use viaduct_codec::{Slice, Version};
use viaduct_config::{Bridge, BridgeRemote, BridgeTopic, BridgeVersion, Config};
use viaduct_session::server::Terms;

use super::dial::Way;
use super::proxy::Proxy;
use super::{Age, BridgeStatus, Handover, Part};
use crate::guests::state_topic;
use crate::tls::{self, TlsFileError};

/// Everything that a bridge's task needs.
#[derive(Clone, Debug)]
pub(crate) struct BridgePlan {
    pub(crate) settings: Settings,
    /// How its addresses are reached.
    pub(crate) way: Way,
    /// When our own certificate ends, seconds since 1970.
    pub(crate) certificate_expires: Option<i64>,
    /// What the local half is offered.
    pub(crate) terms: Arc<Terms>,
    /// What the files that it was made of held.
    pub(crate) files: u64,
    pub(crate) status: Arc<BridgeStatus>,
    pub(crate) handover: Arc<Handover>,
    /// Those at the remote, of as many links as a bridge can have.
    client_ids: Arc<[String]>,
    /// Which old link it is, when it drains.
    pub(crate) age: Age,
}

impl BridgePlan {
    /// As which its numbers are counted.
    pub(super) fn part(&self) -> Part {
        let Settings { slice, duty, .. } = self.settings;
        Part { run: self.handover.run(), slice, is_wanted: duty == Duty::Serve }
    }

    /// The same for a link that drains. `self` is for all links.
    pub(super) fn old_link(&self, slice: Slice, age: Age) -> Self {
        Self { age, ..self.link(slice, Duty::Drain) }
    }

    /// This link, as long as its session holds what it had before it was wanted again.
    pub(super) fn wanted_again(&self) -> Self {
        let mut link = self.clone();
        (link.settings.duty, link.age) = (Duty::Drain, Age::WantedAgain);
        link
    }

    /// The same for one link. `self` is for all links.
    pub(super) fn link(&self, slice: Slice, duty: Duty) -> Self {
        let mut link = self.clone();
        let settings = &mut link.settings;
        (settings.slice, settings.duty) = (slice, duty);
        // Each has its part of what the remote is to get in a second.
        let part = |rate: NonZeroU32| NonZeroU32::new(rate.get().div_ceil(slice.of().into()));
        settings.drain_rate = settings.drain_rate.and_then(part);
        if let Some(client_id) = self.client_ids.get(usize::from(slice.index())) {
            settings.client_id.clone_from(client_id);
        }
        settings.notifications = (duty == Duty::Serve).then(|| state_topic(&settings.client_id));
        link
    }
}

/// Why a bridge can't be run as configured.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A TLS file can't be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// A file with a password can't be read.
    #[error("{}: {source} (bridge[{bridge}].{key})", path.display())]
    Password {
        /// The bridge.
        bridge: String,
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its rules don't fit together.
    #[error("bridge \"{bridge}\": {source}")]
    Rules {
        /// The bridge.
        bridge: String,
        /// What is wrong.
        source: RuleError,
    },
}

impl PlanError {
    /// The setting that is to blame, such as `bridge[hub].password_file`.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Tls(error) => error.key().to_owned(),
            Self::Password { bridge, key, .. } => format!("bridge[{bridge}].{key}"),
            Self::Rules { bridge, .. } => format!("bridge[{bridge}].topic"),
        }
    }
}

/// Makes the plan of `bridge`. `origin` is what this process calls itself in the hop lists of messages.
///
/// # Errors
/// A file can't be used, or the rules don't fit together.
pub(crate) fn plan(
    config: &Config,
    bridge: &Bridge,
    origin: &str,
    status: Arc<BridgeStatus>,
) -> Result<BridgePlan, PlanError> {
    let tls = speaks_tls(bridge).then(|| tls::client_config(&bridge.name, &bridge.tls)).transpose()?;
    let settings = settings(config, bridge, origin)?;
    let first = Settings { slice: Slice::new(0, bridge.links).unwrap_or_default(), ..settings.clone() };
    viaduct_bridge::Rules::new(&first).map_err(|source| PlanError::Rules { bridge: bridge.name.clone(), source })?;
    Ok(BridgePlan {
        settings,
        certificate_expires: tls.as_ref().and_then(|tls| tls.expires),
        way: way(config, bridge, tls.map(|tls| tls.config))?,
        terms: crate::terms::bridge_terms(config, bridge),
        files: super::fingerprint(bridge),
        status,
        handover: Arc::new(Handover::new(bridge.links)),
        client_ids: (0..Slice::MOST).map(|index| bridge.link_client_id(index)).collect(),
        age: Age::Old,
    })
}

/// Whether an address of it asks for TLS.
pub(super) fn speaks_tls(bridge: &Bridge) -> bool {
    bridge.urls.iter().any(|url| url.tls)
}

/// How the addresses of `bridge` are reached, with the proxy's password read.
pub(super) fn way(config: &Config, bridge: &Bridge, tls: Option<Arc<ClientConfig>>) -> Result<Way, PlanError> {
    let proxy = bridge.proxy.as_ref().map(|proxy| {
        let from_file = proxy.password_file.as_deref().map(|path| secret(bridge, "proxy_password_file", path));
        let written = proxy.password.as_ref().map(|secret| secret.expose().as_bytes().to_vec());
        let password = from_file.transpose()?.or(written).unwrap_or_default();
        let login = proxy.username.clone().map(|user| (user, password));
        Ok::<_, PlanError>(Proxy { kind: proxy.kind, host: proxy.host.clone(), port: proxy.port, login })
    });
    Ok(Way {
        tls,
        tls_settings: bridge.tls.clone(),
        proxy: proxy.transpose()?,
        bind_address: bridge.bind_address,
        step: bridge.connect_timeout,
        own: config.listeners.iter().filter(|own| own.mountpoint.is_none()).map(|own| own.bind).collect(),
        circle: bridge.circle(),
    })
}

/// The settings of the machine, with the password read.
pub(super) fn settings(config: &Config, bridge: &Bridge, origin: &str) -> Result<Settings, PlanError> {
    Ok(Settings {
        name: bridge.name.clone(),
        node: origin.to_owned(),
        addresses: bridge
            .urls
            .iter()
            .map(|url| Address {
                host: url.host.clone(),
                port: url.port,
                tls: url.tls,
                websocket: url.websocket.clone(),
            })
            .collect(),
        protocol: match bridge.protocol_version {
            BridgeVersion::Auto => Protocol::Auto,
            BridgeVersion::V31 => Protocol::Fixed(Version::V31),
            BridgeVersion::V311 => Protocol::Fixed(Version::V311),
            BridgeVersion::V5 => Protocol::Fixed(Version::V5),
        },
        try_private: bridge.try_private,
        client_id: bridge.client_id.clone(),
        username: bridge.username.clone(),
        password: password(bridge)?,
        keep_alive: bridge.keepalive,
        clean_session: bridge.clean_session,
        session_expiry: bridge.session_expiry,
        connect_timeout: bridge.connect_timeout,
        failback: bridge.failback,
        reconnect_min: bridge.reconnect_min,
        reconnect_max: bridge.reconnect_max,
        max_age: bridge.queue.max_age,
        drain_rate: bridge.queue.drain_rate,
        max_inflight: bridge.max_inflight,
        max_packet_size: config.limits.max_packet_size,
        topic_alias_maximum: config.limits.topic_alias_maximum,
        remote: remote(&bridge.remote),
        slice: Slice::ALL,
        duty: Duty::Serve,
        topics: bridge.topics.iter().map(topic).collect(),
        // What is remembered comes when the plan is carried out.
        previous: Vec::new(),
        // Here in any case: it is how a broker that this one is bridged to in turn finds out whose bridge it is.
        notifications: Some(state_topic(&bridge.client_id)),
        notify_remote: bridge.notifications,
    })
}

fn remote(remote: &BridgeRemote) -> RemoteLimits {
    RemoteLimits {
        max_qos: remote.max_qos,
        retain: remote.retain,
        max_packet_size: remote.max_packet_size,
        dollar_topics: remote.dollar_topics,
        max_topic_levels: remote.max_topic_levels,
        max_topic_bytes: remote.max_topic_bytes,
        unsubscribe: remote.unsubscribe,
        filters_per_packet: remote.filters_per_packet,
    }
}

pub(super) fn topic(topic: &BridgeTopic) -> Topic {
    Topic {
        filter: topic.filter.clone(),
        direction: match topic.direction {
            viaduct_config::Direction::In => Direction::In,
            viaduct_config::Direction::Out => Direction::Out,
            viaduct_config::Direction::Both => Direction::Both,
        },
        qos: topic.qos,
        retain: topic.retain,
        local_prefix: topic.local_prefix.clone(),
        remote_prefix: topic.remote_prefix.clone(),
        allow_loop: topic.allow_loop,
    }
}

fn password(bridge: &Bridge) -> Result<Option<Vec<u8>>, PlanError> {
    match &bridge.password_file {
        Some(path) => secret(bridge, "password_file", path).map(Some),
        None => Ok(bridge.password.as_ref().map(|secret| secret.expose().as_bytes().to_vec())),
    }
}

/// What is in a file that holds only a password.
fn secret(bridge: &Bridge, key: &'static str, path: &Path) -> Result<Vec<u8>, PlanError> {
    let mut bytes = crate::files::read(path).map_err(|source| PlanError::Password {
        bridge: bridge.name.clone(),
        key,
        path: path.to_owned(),
        source,
    })?;
    // One line end belongs to the editor, not to the password.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}
