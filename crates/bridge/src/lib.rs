//! Another broker as a peer, sans-IO.
//!
//! A bridge is two halves that meet in this crate. The *local half* is an ordinary client session of this broker
//! (ClientID `$bridge/<name>`, persistent, 5.0 over an in-process pipe), so queue, durability and QoS are any
//! session's. The *remote half* is a client of another broker over a socket that somebody else dials. A message is
//! acknowledged to the half that it came from only when the other half's broker acknowledged it.
//!
//! In: bytes from both brokers, the ends of dials, and the time. Out: bytes for both and [`Action`]s. No I/O, no
//! clock, no task, no randomness but the seed; nothing a remote sends ends more than one attempt.

mod backoff;
mod error;
mod event;
pub mod limits;
mod loop_guard;
mod negotiate;
mod rules;
mod settings;
mod stats;

pub use backoff::Backoff;
pub use error::{DialError, Error, Step, StepDown, TlsFailure};
pub use event::{Action, Event, Severity};
pub use rules::{RuleError, Rules};
pub use settings::{Address, Direction, Protocol, Settings, Topic};
pub use stats::{Drop, Stats};
