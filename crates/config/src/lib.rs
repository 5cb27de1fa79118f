//! The configuration: as written to as meant.
//!
//! In: the text of `broker.toml`, environment pairs and `--set` overrides ([`Source`]). Out: a checked [`Config`], or
//! every error at once with its place ([`Errors`]); what a reload may change ([`changes()`]); and, from the same option
//! table, the sample file and the reference page. Must never: touch the disk, the environment or the network.

mod changes;
mod check;
mod check_bridge;
mod circle;
mod document;
mod error;
mod layers;
mod model;
mod option;
mod place;
mod proxy;
mod read;
mod reader;
mod run_time;
mod unit;
mod url;
mod value;
mod written;

pub use changes::{Changes, Section, changes};
pub use check_bridge::is_server_name;
pub use document::{reference, sample};
pub use error::{ConfigError, Errors, Place, Problem};
pub use model::{
    Admin, Auth, Bridge, BridgeProxy, BridgeQueue, BridgeRemote, BridgeTls, BridgeTopic, BridgeUrl, BridgeVersion,
    Config, Direction, Limits, Listener, LogConfig, LogFormat, NodeConfig, OnDuplicate, OnFull, ProxyKind, Retained,
    Secret, Session, Store, Sync, Sys, TlsServer, TlsVersion, Transport, UsernameFrom, Verify,
};
pub use read::load;
pub use run_time::{Origin, RunTime, WrittenBridge};
pub use unit::{duration, size};
pub use written::Written;

/// Where the configuration comes from. Later ones win: file, environment, overrides, what was said at run time. The default
/// is none at all.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file, when there is one.
    pub file: Option<SourceFile>,
    /// The whole environment; only names that begin with `VIADUCT__` are looked at.
    pub environment: Vec<(String, String)>,
    /// Each `--set` as it was given, `KEY=VALUE`.
    pub overrides: Vec<String>,
    /// What was said about bridges while the broker ran.
    pub run_time: RunTime,
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
    /// How each bridge was written, in the order of [`Config::bridges`].
    pub bridges: Vec<WrittenBridge>,
}
