//! What the broker itself counts: connections, logins, bytes. The engine counts messages, the bridges their own.
//!
//! Bytes are counted on the path of every message, so each worker has its own and nobody waits; what happens once per
//! connection is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{Method, StatusCode};
use viaduct_codec::{Level, ReasonCode};
use viaduct_engine::Counter;

use crate::auth::LoginResult;

/// How a connection attempt ended; the name is the label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(crate) enum ConnectResult {
    /// It was let in.
    Accepted,
    /// Its protocol level is not allowed here, or unknown.
    RefusedLevel,
    /// CONNECT is malformed or asks for what is not offered.
    RefusedConnect,
    /// Its ClientID is connected and may not be taken over, or too many wait for it.
    RefusedDuplicate,
    /// Wrong user or password, or nobody in particular where that is not taken.
    RefusedLogin,
    /// No CONNECT came in time.
    TimedOut,
    /// What came is not MQTT.
    NotMqtt,
    /// The TLS handshake failed.
    TlsFailed,
    /// It closed before it was let in.
    Closed,
    /// The listener has as many connections as it may.
    TooMany,
}

impl ConnectResult {
    pub(crate) const ALL: [Self; 10] = [
        Self::Accepted,
        Self::RefusedLevel,
        Self::RefusedConnect,
        Self::RefusedDuplicate,
        Self::RefusedLogin,
        Self::TimedOut,
        Self::NotMqtt,
        Self::TlsFailed,
        Self::Closed,
        Self::TooMany,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::RefusedLevel => "refused_level",
            Self::RefusedConnect => "refused_connect",
            Self::RefusedDuplicate => "refused_duplicate",
            Self::RefusedLogin => "refused_login",
            Self::TimedOut => "timed_out",
            Self::NotMqtt => "not_mqtt",
            Self::TlsFailed => "tls_failed",
            Self::Closed => "closed",
            Self::TooMany => "too_many",
        }
    }
}

/// The label of a level; the last is for those that no CONNECT named or that are unknown.
pub(crate) const LEVELS: [&str; 6] = ["3", "4", "5", "131", "132", "none"];

fn level_index(level: Option<Level>) -> usize {
    level.and_then(|level| Level::ALL.iter().position(|known| *known == level)).unwrap_or(LEVELS.len() - 1)
}

/// Connection attempts of one listener, by level and result.
#[derive(Debug, Default)]
pub(crate) struct Connects {
    counts: [[AtomicU64; ConnectResult::ALL.len()]; LEVELS.len()],
}

impl Connects {
    pub(crate) fn count(&self, level: Option<Level>, result: ConnectResult) {
        if let Some(counter) = self.counts.get(level_index(level)).and_then(|row| row.get(result as usize)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every count with its labels.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.counts.iter().zip(LEVELS).flat_map(|(row, level)| {
            row.iter()
                .zip(ConnectResult::ALL)
                .map(move |(count, result)| (level, result.name(), count.load(Ordering::Relaxed)))
        })
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().flatten().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Logins by result.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    counts: [AtomicU64; LoginResult::ALL.len()],
}

impl Logins {
    pub(crate) fn count(&self, result: LoginResult) {
        if let Some(counter) = self.counts.get(result as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().zip(LoginResult::ALL).map(|(count, result)| (result.name(), count.load(Ordering::Relaxed)))
    }
}

/// First packets that broke the protocol, by reason code; the engine counts all that come later.
#[derive(Debug)]
pub(crate) struct ProtocolErrors {
    counts: [AtomicU64; 256],
}

impl Default for ProtocolErrors {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl ProtocolErrors {
    pub(crate) fn count(&self, reason: ReasonCode) {
        if let Some(counter) = self.counts.get(usize::from(reason.0)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, code: u8) -> u64 {
        self.counts.get(usize::from(code)).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// Calls of the API, by method and by how they ended.
#[derive(Debug, Default)]
pub(crate) struct ApiCalls {
    counts: [[AtomicU64; API_RESULTS.len()]; API_METHODS.len()],
}

/// The last stands for all others.
const API_METHODS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "other"];
const API_RESULTS: [&str; 4] = ["ok", "denied", "refused", "failed"];

impl ApiCalls {
    pub(crate) fn count(&self, method: &Method, status: StatusCode) {
        let known = API_METHODS.iter().position(|known| *known == method.as_str());
        let result = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 1,
            status if status.is_client_error() => 2,
            status if status.is_server_error() => 3,
            _ => 0,
        };
        let row = self.counts.get(known.unwrap_or(API_METHODS.len() - 1));
        if let Some(counter) = row.and_then(|row| row.get(result)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every count with its labels.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.counts.iter().zip(API_METHODS).flat_map(|(row, method)| {
            row.iter().zip(API_RESULTS).map(move |(count, result)| (method, result, count.load(Ordering::Relaxed)))
        })
    }
}

/// Bytes of clients on one worker.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) bytes_received: Counter,
    pub(crate) bytes_sent: Counter,
    /// Connections closed because they took nothing for too long.
    pub(crate) stalled: Counter,
}

/// The numbers of one worker, for whoever reads them.
#[derive(Clone, Debug)]
pub(crate) struct WorkerNumbers {
    pub(crate) engine: Arc<viaduct_engine::Stats>,
    pub(crate) traffic: Arc<Traffic>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_and_level_counts_in_its_own_place() {
        for (place, result) in ConnectResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, place);
        }
        for (place, result) in LoginResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, place);
        }
        let connects = Connects::default();
        connects.count(Some(Level::V311_BRIDGE), ConnectResult::Accepted);
        connects.count(None, ConnectResult::NotMqtt);
        let counted: Vec<_> = connects.each().filter(|(.., count)| *count > 0).collect();
        assert_eq!(counted, [("132", "accepted", 1), ("none", "not_mqtt", 1)]);
        let calls = ApiCalls::default();
        calls.count(&Method::PUT, StatusCode::CREATED);
        calls.count(&Method::DELETE, StatusCode::NOT_FOUND);
        calls.count(&Method::PATCH, StatusCode::FORBIDDEN);
        calls.count(&Method::GET, StatusCode::SERVICE_UNAVAILABLE);
        let counted: Vec<_> = calls.each().filter(|(.., count)| *count > 0).collect();
        let wanted = [("GET", "failed", 1), ("PUT", "ok", 1), ("DELETE", "refused", 1), ("other", "denied", 1)];
        assert_eq!(counted, wanted);
    }
}
