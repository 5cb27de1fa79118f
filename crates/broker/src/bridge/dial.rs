//! One dial: name, TCP, TLS, each within its time.
//!
//! In: an address. Out: a stream that MQTT can be spoken on, or which step failed and how.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use viaduct_bridge::{Address, DialError, Step, TlsFailure};
use viaduct_config::BridgeTls;

use crate::tls;
use crate::transport::Transport;

/// How long an address has before the next one is tried beside it, as RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// How TLS is spoken, where it is.
#[derive(Clone, Debug)]
pub(super) struct Security {
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) settings: BridgeTls,
}

/// The whole dial.
pub(super) async fn dial(address: &Address, security: &Security, step: Duration) -> Result<Transport, DialError> {
    let addresses = resolve(address, step).await?;
    let tcp = connect(&addresses, step).await?;
    secure(tcp, address, security, step).await
}

/// The addresses of the name; at least one.
pub(super) async fn resolve(address: &Address, step: Duration) -> Result<Vec<SocketAddr>, DialError> {
    match timeout(step, tokio::net::lookup_host((address.host.as_str(), address.port))).await {
        Err(_) => Err(DialError::TimedOut(Step::Resolve)),
        Ok(Err(error)) => Err(DialError::Unresolvable(error.to_string())),
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err(DialError::Unresolvable("it has no address".to_owned())) } else { Ok(found) }
        }
    }
}

/// A connection to the first of `addresses` that answers. Each begins [`STAGGER`] after the one before, or as soon as that
/// fails, so that an address which swallows packets does not keep the next one from being tried.
pub(super) async fn connect(addresses: &[SocketAddr], step: Duration) -> Result<TcpStream, DialError> {
    let mut failed = DialError::Network("there is no address".to_owned());
    let mut waiting = addresses.iter();
    let mut running = JoinSet::new();
    let race = async {
        loop {
            if let Some(address) = waiting.next() {
                running.spawn(TcpStream::connect(*address));
            } else if running.is_empty() {
                return Err(failed);
            }
            let next = tokio::time::sleep(STAGGER);
            tokio::select! {
                Some(ended) = running.join_next() => match ended {
                    Ok(Ok(tcp)) => return Ok(tcp),
                    Ok(Err(error)) => failed = network(&error),
                    Err(error) => failed = DialError::Network(error.to_string()),
                },
                () = next, if waiting.len() > 0 => {}
            }
        }
    };
    timeout(step, race).await.unwrap_or(Err(DialError::TimedOut(Step::Connect)))
}

/// The stream on `tcp`, after the TLS handshake when the address asks for one.
pub(super) async fn secure(
    tcp: TcpStream,
    address: &Address,
    security: &Security,
    step: Duration,
) -> Result<Transport, DialError> {
    let Some(config) = security.config.as_ref().filter(|_| address.tls) else {
        return Ok(Transport::new(tcp, None));
    };
    let other = |what: String| DialError::Tls(TlsFailure::Other(what));
    let name = tls::server_name(&security.settings, &address.host).map_err(other)?;
    let connection =
        rustls::ClientConnection::new(Arc::clone(config), name).map_err(|error| other(error.to_string()))?;
    let mut transport = Transport::new(tcp, Some(rustls::Connection::Client(connection)));
    match timeout(step, std::future::poll_fn(|cx| transport.poll_handshake(cx))).await {
        Err(_) => Err(DialError::TimedOut(Step::Tls)),
        Ok(Ok(())) => Ok(transport),
        Ok(Err(error)) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => DialError::Tls(tls::failure(error)),
            None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                other("the peer closed the connection during the handshake; does that port speak TLS?".to_owned())
            }
            None => network(&error),
        }),
    }
}

fn network(error: &io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused(error.to_string()),
        _ => DialError::Network(error.to_string()),
    }
}
