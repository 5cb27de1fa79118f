//! Another broker as a peer, sans-IO.
//!
//! A bridge is two halves that meet in this crate. The *local half* is an ordinary client session of this broker
//! (ClientID `$bridge/<name>`, persistent, 5.0 over an in-process pipe), so queue, durability and QoS are any
//! session's. The *remote half* is a client of another broker over a socket that somebody else dials. A message is
//! acknowledged to the half that it came from only when the other half's broker acknowledged it. Towards the remote it keeps
//! the rules of clients (MQTT-7.0.0-1 of 3.1.1), and needs nothing of it that the standard does not have (MQTT-7.0.0-2 of 3.1.1).
//!
//! In: bytes from both brokers, the ends of dials, and the time. Out: bytes for both and [`Action`]s. No I/O, no
//! clock, no task, no randomness but the seed; nothing a remote sends ends more than one attempt.

mod backoff;
mod bridge;
mod convoy;
pub mod doubles;
mod error;
mod event;
mod express;
mod flow;
pub mod limits;
mod link;
mod local;
pub mod loop_guard;
mod names;
pub mod negotiate;
mod notify;
mod offer;
mod pace;
mod rates;
mod refusal;
mod remote;
pub mod rules;
mod settings;
mod stats;
mod subscribe;
mod way;

pub use backoff::Backoff;
pub use bridge::Bridge;
pub use error::{DialError, Error, Step, StepDown, TlsFailure};
pub use event::{Action, Event, Probed, Severity};
pub use rates::{PerSecond, Rates, Totals};
pub use refusal::Refusal;
pub use rules::{RuleError, Rules};
pub use settings::{Address, Direction, Duty, Protocol, RemoteLimits, Settings, Topic};
pub use stats::{Drop, Lowered, Phase, Stats};
pub use viaduct_session::client::{Probe, RoundTrip};
pub use way::{ProxyFailure, UpgradeFailure};
