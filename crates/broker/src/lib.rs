//! Sockets, threads and signals around the engine: listeners, workers, logins, bridges, metrics.
//!
//! In: a checked configuration. Out: a running broker ([`run()`]), a bridge that was checked ([`check_bridge`]), a user
//! file that was written ([`set_password`]). All rules of MQTT live below, in `engine`, `session` and `bridge`; this
//! crate moves bytes and decides who may come in.

mod admin;
mod alarm;
mod auth;
mod bridge;
mod check_files;
mod clock;
mod connection;
mod control;
mod counters;
mod files;
mod flush;
mod guests;
mod hello;
#[cfg(target_os = "linux")]
mod kernel_timer;
mod limits;
mod links;
mod listener;
mod logging;
mod mailbox;
mod metrics;
mod questions;
mod refusal_log;
mod reload;
mod run;
mod run_time;
mod state;
mod storage;
mod stream;
mod sys;
mod terms;
mod tls;
mod transport;
mod ways;
mod websocket;
mod worker;

pub use admin::{Answer, Ask, AskError, ask};
pub use auth::{AuthFileError, HashKind, WriteError, set_password};
pub use bridge::{CheckTarget, PlanError, check as check_bridge};
pub use check_files::check_files;
pub use listener::BindError;
pub use reload::SetupError;
pub use run::{RunOptions, run};
pub use run_time::{Configuration, ConfigurationError};
pub use terms::{engine_settings, listener_terms};
pub use tls::TlsFileError;

/// A store that no broker has open: for the command line.
pub mod store {
    pub use viaduct_store::log::{DiskFiles, OpenError, Report, Stats, check, stats};
}

/// The version of this broker.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
