//! The configuration: as written to as meant.
//!
//! In: the text of `broker.toml`, environment pairs and `--set` overrides ([`Source`]). Out: a checked [`Config`], or
//! every error at once with its place ([`Errors`]); what a reload may change ([`changes`]); and, from the same option
//! table, the sample file and the reference page. Must never: touch the disk, the environment or the network.

mod error;
mod model;

pub use error::{ConfigError, Errors, Place, Problem};
pub use model::{
    Admin, Auth, Bridge, BridgeQueue, BridgeTls, BridgeTopic, BridgeUrl, BridgeVersion, Config, Direction, Limits,
    Listener, LogConfig, LogFormat, NodeConfig, OnDuplicate, OnFull, Retained, Secret, Session, Store, Sync, Sys,
    TlsServer, TlsVersion, Transport, UsernameFrom, Verify,
};

/// Where the configuration comes from. Later ones win: file, environment, overrides. The default is none at all.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file, when there is one.
    pub file: Option<SourceFile>,
    /// The whole environment; only names that begin with `VIADUCT__` are looked at.
    pub environment: Vec<(String, String)>,
    /// Each `--set` as it was given, `KEY=VALUE`.
    pub overrides: Vec<String>,
    /// The name of this machine, the default of `node.id`. When it cannot be one, `viaduct` is taken.
    pub hostname: String,
}

/// A file that the caller has read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// How errors call it: its path.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A configuration that was read without an error.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// As meant.
    pub config: Config,
    /// What is allowed but worth a word; to be logged.
    pub warnings: Vec<ConfigError>,
}

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `[node]`
    Node,
    /// `[log]`
    Log,
    /// `[[listener]]`
    Listener,
    /// `[limits]`
    Limits,
    /// `[session]`
    Session,
    /// `[retained]`
    Retained,
    /// `[store]`
    Store,
    /// `[auth]`
    Auth,
    /// `[admin]`
    Admin,
    /// `[sys]`
    Sys,
    /// `[[bridge]]`
    Bridge,
}

/// What differs between two configurations, as a reload sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sections with at least one key that changes live.
    pub live: std::collections::BTreeSet<Section>,
    /// Those keys, such as `limits.max_packet_size` or `listener[tls].allow_anonymous`.
    pub live_keys: Vec<String>,
    /// Keys that changed and need a restart: the running value stays until then.
    pub restart: Vec<String>,
    /// Names of bridges to start.
    pub bridges_added: Vec<String>,
    /// Names of bridges to stop.
    pub bridges_removed: Vec<String>,
    /// Names of bridges to stop and start again with new settings.
    pub bridges_changed: Vec<String>,
}

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it, in one go.
pub fn load(source: Source) -> Result<Loaded, Errors> {
    let _ = source;
    Err(Errors { errors: Vec::new(), warnings: Vec::new() })
}

/// What differs between the running configuration and a newly read one.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Changes {
    let _ = (old, new);
    Changes::default()
}
