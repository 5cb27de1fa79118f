//! What the bridge asks of its owner and what it tells the operator, as data.
//!
//! In: decisions of the other rooms. Out: [`Action`]s in the order in which they are to be done. Never logs by itself.

use std::fmt;
use std::time::Duration;

use viaduct_codec::{Level, ReasonCode, TopicFilter};

use crate::{Address, Error};

/// What the owner of the sockets does next; drained with [`crate::Bridge::poll`] after every call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// Make a new local connection to this broker's engine (dropping an old one), with ClientID `$bridge/<name>`.
    /// Its bytes are in [`crate::Bridge::local_output`], CONNECT first.
    OpenLocal,
    /// End the local connection, after what `local_output` still holds is delivered.
    CloseLocal,
    /// Dial: resolve, connect, TLS if the address says so. Answer with `handle_dialled` or `handle_dial_failed`.
    Dial {
        /// The attempt's number; answers with another number are ignored.
        attempt: u64,
        /// Where.
        address: Address,
        /// The level that will be spoken, for the log.
        level: Level,
    },
    /// Find out whether this address would take us, without disturbing the link that is up: dial, CONNECT under another
    /// ClientID, CONNACK, whether it has a bridge here that carries the same, DISCONNECT. Answer with `handle_probed`.
    Probe {
        /// Its number; answers with another number are ignored.
        probe: u64,
        /// Where.
        address: Address,
        /// The levels that may be spoken there, in this order.
        levels: Vec<Level>,
    },
    /// End the dial or the connection of this attempt. What `remote_output` still holds may be written if that works
    /// at once (it may end with a DISCONNECT); nothing more is read.
    HangUp {
        /// The attempt's number.
        attempt: u64,
        /// Why, for the log; `None` after [`crate::Bridge::stop`].
        reason: Option<Error>,
    },
    /// Tell the operator.
    Log(Event),
    /// The link went up or down.
    StateChanged {
        /// Whether messages flow now.
        up: bool,
        /// Why not, when it went down.
        error: Option<Error>,
    },
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// CONNACK took the probe.
    Healthy,
    /// An MQTT broker answers and does not take the probe, so it can't be known whether it would take us.
    Refused(ReasonCode),
    /// CONNACK took the probe, and that remote has a bridge to this broker that carries what ours does; in words, which and what.
    LinksBack(String),
    /// Anything else; in words.
    Failed(String),
}

/// Something that the operator may want to know; [`fmt::Display`] is one line.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The remote accepted us.
    Connected {
        /// Where.
        address: Address,
        /// What is spoken.
        level: Level,
        /// The remote still had our session.
        session_present: bool,
    },
    /// One step down the ladder of levels.
    SteppedDown {
        /// Where.
        address: Address,
        /// The level that did not work.
        from: Level,
        /// The one that is tried next.
        to: Level,
        /// Why.
        why: crate::StepDown,
    },
    /// The remote takes no retained messages or not that QoS; it is tried again with less.
    GaveUp {
        /// Where.
        address: Address,
        /// The remote's reason.
        reason: ReasonCode,
    },
    /// An attempt failed, or the link was lost.
    Failed {
        /// Where.
        address: Address,
        /// Why.
        error: Error,
        /// How long until the next attempt; zero when another address is tried at once.
        retry_in: Duration,
    },
    /// The first address is healthy again: the link goes back to it.
    Returning {
        /// Where it was.
        from: Address,
        /// Where it goes.
        to: Address,
    },
    /// The first address answers a probe by refusing it. At most one such line while a link is up.
    ProbeRefused {
        /// The first address.
        address: Address,
        /// What it says.
        reason: ReasonCode,
    },
    /// The first address has a bridge to this broker that carries what ours does: the link stays. At most one such line, or one of
    /// [`Event::ProbeRefused`], while a link is up.
    StaysAway {
        /// The first address.
        address: Address,
        /// Its bridge and what it carries, in words.
        by: String,
    },
    /// The remote limits what it takes; what goes beyond is lowered or dropped, and counted.
    Limited {
        /// Which limits, in words.
        limits: String,
    },
    /// A subscription was refused; the others go on.
    SubscriptionRefused {
        /// At the remote; `false`: here.
        remote: bool,
        /// Which.
        filter: TopicFilter,
        /// Why.
        reason: ReasonCode,
    },
    /// Filters that are not wanted any more stay subscribed at a remote that takes no UNSUBSCRIBE.
    NotUnsubscribed {
        /// Which; what comes for them is dropped and counted.
        filters: Vec<TopicFilter>,
    },
    /// A message is not for a remote that takes no such topics, and is gone. At most one such line a minute.
    TopicNotTaken {
        /// The topic here.
        topic: String,
        /// How many since the last such line, this one included.
        count: u64,
    },
    /// A message was not taken and is gone. At most one such line a minute for each direction.
    MessageRefused {
        /// By the remote; `false`: here.
        remote: bool,
        /// The topic there.
        topic: String,
        /// Why.
        reason: ReasonCode,
        /// How many were refused since the last such line, this one included.
        count: u64,
    },
    /// A message does not fit the other side and is gone. At most one such line a minute for each direction.
    MessageTooLarge {
        /// On the way out; `false`: on the way in.
        outgoing: bool,
        /// The topic at its destination.
        topic: String,
        /// How many since the last such line, this one included.
        count: u64,
    },
    /// The remote knows neither No Local nor the private bit and a rule carries both ways: echoes are recognised as
    /// far as memory goes.
    EchoesExpected {
        /// The level in use.
        level: Level,
    },
    /// The broker's own end refused or ended the local half; it is tried again.
    LocalLost {
        /// In words.
        reason: String,
    },
}

/// How loud an [`Event`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Info,
    /// Somebody should look at it.
    Warning,
}

impl Event {
    /// How loud it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Connected { .. } | Self::Returning { .. } => Severity::Info,
            _ => Severity::Warning,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { address, level, session_present } => {
                let session = if *session_present { "kept" } else { "new" };
                write!(f, "connected to {address} at level {level}, session {session}")
            }
            Self::SteppedDown { address, from, to, why } => write!(f, "{address}: {why} at level {from}, trying {to}"),
            Self::GaveUp { address, reason } => {
                write!(f, "{address}: the remote says {reason}, trying again with less")
            }
            Self::Failed { address, error, retry_in } if retry_in.is_zero() => {
                write!(f, "{address}: {error}; trying the next address")
            }
            Self::Failed { address, error, retry_in } => {
                write!(f, "{address}: {error}; trying again in {:.1} s", retry_in.as_secs_f64())
            }
            Self::Returning { from, to } => write!(f, "{to} is healthy again: going back to it from {from}"),
            Self::ProbeRefused { address, reason } => write!(
                f,
                "{address} answers, but refuses the probe ({reason}): allow the ClientID <client_id>.probe there, or the link \
                 returns to it only when the present one ends"
            ),
            Self::StaysAway { address, by } => write!(
                f,
                "{address} is healthy again, and the link stays where it is: {by}, and what both carry would come twice or go in \
                 circles; to have it go back remove one of the two bridges, or keep their topics apart"
            ),
            Self::Limited { limits } => write!(f, "the remote limits what it takes: {limits}"),
            Self::SubscriptionRefused { remote, filter, reason } => {
                write!(f, "{} refuses the subscription to {filter}: {reason}", whose(*remote))
            }
            Self::MessageRefused { remote, topic, reason, count } => {
                write!(f, "{} refuses a message to {topic}: {reason} ({count} so far)", whose(*remote))
            }
            Self::MessageTooLarge { outgoing, topic, count } => {
                write!(f, "a message to {topic} is larger than {} takes, dropped ({count} so far)", whose(*outgoing))
            }
            Self::NotUnsubscribed { filters } => {
                let filters: Vec<&str> = filters.iter().map(TopicFilter::as_str).collect();
                write!(
                    f,
                    "remote.unsubscribe is false: the remote goes on sending {}, which is dropped here; end the session there \
                     to stop it",
                    filters.join(", ")
                )
            }
            Self::TopicNotTaken { topic, count } => {
                write!(f, "a message to {topic} has a topic that the remote does not take, dropped ({count} so far)")
            }
            Self::EchoesExpected { level } => write!(
                f,
                "level {level} has no way to keep our own messages from coming back, and a rule carries both ways: \
                 echoes are recognised and dropped as far as memory goes; level 5, or 132 at the remote, would be exact"
            ),
            Self::LocalLost { reason } => write!(f, "the local half was ended: {reason}"),
        }
    }
}

const fn whose(remote: bool) -> &'static str {
    if remote { "the remote" } else { "this broker" }
}
