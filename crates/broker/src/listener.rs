//! Listeners: bound before anything is served, then accepting until the end.
//!
//! In: addresses from the configuration. Out: accepted sockets, handed to the workers in turn. Must never: end because
//! one accept failed, or read from what it accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::counters::ConnectResult;
use crate::hello::Accepted;
use crate::limits::{ACCEPT_BACKOFF_MAX, ACCEPT_BACKOFF_MIN, BACKLOG};
use crate::mailbox::Letter;
use crate::state::{Broker, ListenerState};

/// Why an address can't be listened on.
#[derive(Debug, Error)]
#[error("{what}: {address} {} ({key})", reason(source))]
pub struct BindError {
    what: String,
    address: SocketAddr,
    key: String,
    source: std::io::Error,
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "is in use by another process".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "is not an address of this machine".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be listened on by this user".to_owned(),
        _ => format!("can't be listened on: {error}"),
    }
}

/// Listens on `address`; `what` and `key` say for whom, in errors.
pub(crate) fn bind(what: String, key: String, address: SocketAddr) -> Result<std::net::TcpListener, BindError> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // So that a restart need not wait for connections of the last process to be forgotten.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(std::net::TcpListener::from(socket))
    };
    listen().map_err(|source| BindError { what, address, key, source })
}

/// Accepts until dropped.
pub(crate) async fn accept(broker: Arc<Broker>, listener: Arc<ListenerState>, socket: TcpListener) {
    let mut backoff = ACCEPT_BACKOFF_MIN;
    let mut rate = Rate::new();
    let mut next_worker = 0;
    loop {
        let policy = listener.policy.load_full();
        if let Some(wait) = rate.wait(policy.connect_rate) {
            sleep(wait).await;
        }
        let (tcp, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            // The peer gave up while it waited; nothing is wrong with us.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                tracing::warn!(listener = %listener.name, %error, "a connection can't be accepted, trying again");
                sleep(backoff).await;
                backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
                continue;
            }
        };
        backoff = ACCEPT_BACKOFF_MIN;
        rate.took();
        let Some(place) = listener.place(policy.max_connections) else {
            listener.connects.count(None, ConnectResult::TooMany);
            if let Some(left_out) =
                broker.refusals.ask(broker.clock.now(), peer.ip(), &listener.name, ConnectResult::TooMany)
            {
                tracing::warn!(
                    listener = %listener.name, %peer, left_out,
                    "closed: the listener has as many connections as listener.max_connections allows"
                );
            }
            continue;
        };
        let Ok(tcp) = tcp.into_std() else { continue };
        let accepted = Accepted { tcp, peer, place, at: Instant::now() };
        if let Some(mailbox) = broker.mailboxes.get(next_worker % broker.mailboxes.len().max(1)) {
            mailbox.send(Letter::Accepted(Box::new(accepted)));
        }
        next_worker = next_worker.wrapping_add(1);
    }
}

/// A bucket that fills with one connection's worth of tokens every `1 / rate` seconds, up to a second's worth.
#[derive(Debug)]
struct Rate {
    tokens: f64,
    filled: Instant,
}

impl Rate {
    fn new() -> Self {
        Self { tokens: 1.0, filled: Instant::now() }
    }

    /// How long to wait before the next connection.
    fn wait(&mut self, rate: Option<u32>) -> Option<Duration> {
        let rate = f64::from(rate?);
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.filled).as_secs_f64() * rate).min(rate.max(1.0));
        self.filled = now;
        (self.tokens < 1.0).then(|| Duration::from_secs_f64((1.0 - self.tokens) / rate.max(1.0)))
    }

    fn took(&mut self) {
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_says_which_and_by_what_setting() {
        let taken = bind("a".into(), "b".into(), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind("listener \"default\"".into(), "listener[0].bind".into(), address).unwrap_err().to_string();
        assert_eq!(error, format!("listener \"default\": {address} is in use by another process (listener[0].bind)"));
    }

    #[tokio::test]
    async fn connections_beyond_the_rate_wait() {
        let mut rate = Rate::new();
        assert_eq!(rate.wait(None), None);
        assert_eq!(rate.wait(Some(10)), None);
        rate.took();
        let wait = rate.wait(Some(10)).unwrap();
        assert!((Duration::from_millis(90)..=Duration::from_millis(101)).contains(&wait), "{wait:?}");
    }
}
