//! One dial: name, TCP, proxy, TLS, WebSocket, each within its time.
//!
//! In: an address, and the way to it. Out: a stream that MQTT can be spoken on, or which step failed and how.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use viaduct_bridge::{Address, DialError, ProxyFailure, Step, TlsFailure, UpgradeFailure};
use viaduct_config::BridgeTls;

use super::proxy::Proxy;
use crate::stream::Stream;
use crate::tls;
use crate::transport::Transport;
use crate::websocket::{Request, Role, WebSocket};

/// How long an address has before the next one is tried beside it, as RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// How an address is reached.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// For those addresses that speak TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) tls_settings: BridgeTls,
    pub(super) proxy: Option<Proxy>,
    /// Where connections come from.
    pub(super) bind_address: Option<IpAddr>,
    /// How long each step may take.
    pub(super) step: Duration,
    /// Where this broker itself listens without a mountpoint.
    pub(super) own: Arc<[SocketAddr]>,
    /// How the rules carry messages round when the remote is this broker itself.
    pub(super) circle: Option<String>,
}

/// The whole dial.
pub(super) async fn dial(address: &Address, way: &Way) -> Result<Transport, DialError> {
    let addresses = resolve(address, way).await?;
    let tcp = connect(&addresses, way).await?;
    not_itself(&tcp, way)?;
    let tcp = pass_proxy(tcp, address, way).await?;
    let stream = secure(tcp, address, way).await?;
    upgrade(stream, address, way).await
}

/// The addresses of the first host on the way: the proxy's or, without one, the remote's; at least one.
pub(super) async fn resolve(address: &Address, way: &Way) -> Result<Vec<SocketAddr>, DialError> {
    let (host, port) = match &way.proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (address.host.as_str(), address.port),
    };
    let found = match timeout(way.step, tokio::net::lookup_host((host, port))).await {
        Err(_) => Err(DialError::TimedOut(Step::Resolve)),
        Ok(Err(error)) => Err(DialError::Unresolvable(error.to_string())),
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err(DialError::Unresolvable("it has no address".to_owned())) } else { Ok(found) }
        }
    };
    found.map_err(|error| at_proxy(error, way))
}

/// A connection to the first of `addresses` that answers. Each begins [`STAGGER`] after the one before, or as soon as that
/// fails, so that an address which swallows packets does not keep the next one from being tried.
pub(super) async fn connect(addresses: &[SocketAddr], way: &Way) -> Result<TcpStream, DialError> {
    let from = way.bind_address;
    let fits = |address: &&SocketAddr| from.is_none_or(|from| from.is_ipv4() == address.is_ipv4());
    let fitting: Vec<SocketAddr> = addresses.iter().filter(fits).copied().collect();
    if let (Some(from), [], [other, ..]) = (from, fitting.as_slice(), addresses) {
        return Err(DialError::BindAddress(format!("{from} can't reach {}, which is of the other kind", other.ip())));
    }
    let mut failed = DialError::Network("there is no address".to_owned());
    let mut waiting = fitting.into_iter();
    let mut running = JoinSet::new();
    let race = async {
        loop {
            if let Some(address) = waiting.next() {
                running.spawn(connect_one(address, from));
            } else if running.is_empty() {
                return Err(failed);
            }
            let next = tokio::time::sleep(STAGGER);
            tokio::select! {
                Some(ended) = running.join_next() => match ended {
                    Ok(Ok(tcp)) => return Ok(tcp),
                    Ok(Err(error)) => failed = error,
                    Err(error) => failed = DialError::Network(error.to_string()),
                },
                () = next, if waiting.len() > 0 => {}
            }
        }
    };
    let connected = timeout(way.step, race).await.unwrap_or(Err(DialError::TimedOut(Step::Connect)));
    connected.map_err(|error| at_proxy(error, way))
}

/// Refuses a connection to a listener of this very broker whose rules would carry messages round for ever: on 3.x there
/// is nothing to note in a message, so this is where it is known.
pub(super) fn not_itself(tcp: &TcpStream, way: &Way) -> Result<(), DialError> {
    let Some(circle) = way.circle.as_ref().filter(|_| way.proxy.is_none()) else { return Ok(()) };
    let (Ok(peer), Ok(from)) = (tcp.peer_addr(), tcp.local_addr()) else { return Ok(()) };
    let here = peer.ip() == from.ip() || (peer.ip().is_loopback() && from.ip().is_loopback());
    let takes = |own: &SocketAddr| match own.ip() {
        // IPv6 takes both.
        any if any.is_unspecified() => any.is_ipv6() || peer.is_ipv4(),
        one => one == peer.ip(),
    };
    if here && way.own.iter().any(|own| own.port() == peer.port() && takes(own)) {
        return Err(DialError::Itself(circle.clone()));
    }
    Ok(())
}

async fn connect_one(address: SocketAddr, from: Option<IpAddr>) -> Result<TcpStream, DialError> {
    let Some(from) = from else { return TcpStream::connect(address).await.map_err(|error| network(&error)) };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| network(&error))?;
    socket.bind(SocketAddr::new(from, 0)).map_err(|error| DialError::BindAddress(format!("{from}: {error}")))?;
    socket.connect(address).await.map_err(|error| network(&error))
}

/// The same connection, leading to the remote.
pub(super) async fn pass_proxy(mut tcp: TcpStream, address: &Address, way: &Way) -> Result<TcpStream, DialError> {
    let Some(proxy) = &way.proxy else { return Ok(tcp) };
    match timeout(way.step, proxy.open(&mut tcp, address)).await {
        Err(_) => Err(DialError::TimedOut(Step::Proxy)),
        Ok(Err(failure)) => Err(DialError::Proxy(failure)),
        Ok(Ok(())) => Ok(tcp),
    }
}

/// The stream on `tcp`, after the TLS handshake when the address asks for one.
pub(super) async fn secure(tcp: TcpStream, address: &Address, way: &Way) -> Result<Stream, DialError> {
    let Some(config) = way.tls.as_ref().filter(|_| address.tls) else {
        return Ok(Stream::new(tcp, None));
    };
    let other = |what: String| DialError::Tls(TlsFailure::Other(what));
    let name = tls::server_name(&way.tls_settings, &address.host).map_err(other)?;
    let connection =
        rustls::ClientConnection::new(Arc::clone(config), name).map_err(|error| other(error.to_string()))?;
    let mut stream = Stream::new(tcp, Some(rustls::Connection::Client(connection)));
    match timeout(way.step, std::future::poll_fn(|cx| stream.poll_handshake(cx))).await {
        Err(_) => Err(DialError::TimedOut(Step::Tls)),
        Ok(Ok(())) => Ok(stream),
        Ok(Err(error)) => Err(tls_or(&error, |error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                other("the peer closed the connection during the handshake; does that port speak TLS?".to_owned())
            }
            _ => network(error),
        })),
    }
}

/// What MQTT is spoken on: `stream` itself, or a WebSocket on it when the address asks for one.
pub(super) async fn upgrade(mut stream: Stream, address: &Address, way: &Way) -> Result<Transport, DialError> {
    let Some(path) = &address.websocket else { return Ok(Transport::Stream(stream)) };
    let broken = |what: String| DialError::WebSocket(UpgradeFailure::Broken(what));
    let mut seed = [0; 16];
    tls::random(&mut seed).map_err(broken)?;
    let request = Request::new(address, path, seed);
    let ask = async {
        let mut unsent = request.bytes();
        while !unsent.is_empty() {
            std::future::poll_fn(|cx| stream.poll_writable(cx)).await.map_err(|error| network(&error))?;
            match stream.try_write(unsent) {
                Ok(taken) => unsent = unsent.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(network(&error)),
            }
        }
        let mut answer = Vec::new();
        let mut piece = [0; 2048];
        loop {
            match std::future::poll_fn(|cx| stream.poll_read(cx, &mut piece)).await {
                Ok(0) => return Err(broken("it closes the connection instead of answering".to_owned())),
                Ok(read) => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
                Err(error) => return Err(tls_or(&error, network)),
            }
            if let Some(length) = request.read_answer(&answer).map_err(DialError::WebSocket)? {
                return Ok(answer.split_off(length));
            }
        }
    };
    match timeout(way.step, ask).await {
        Err(_) => Err(DialError::TimedOut(Step::WebSocket)),
        Ok(Err(error)) => Err(error),
        Ok(Ok(early)) => Ok(Transport::WebSocket(WebSocket::new(stream, early, Role::Client))),
    }
}

/// TLS's own error when that is what it is: what a refused client certificate looks like in TLS 1.3 comes behind the handshake.
fn tls_or(error: &io::Error, otherwise: impl FnOnce(&io::Error) -> DialError) -> DialError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => DialError::Tls(tls::failure(error)),
        None => otherwise(error),
    }
}

/// With a proxy, the first steps are its matter and not the remote's.
fn at_proxy(error: DialError, way: &Way) -> DialError {
    let Some(proxy) = &way.proxy else { return error };
    let reason = match error {
        DialError::Unresolvable(reason) | DialError::Refused(reason) | DialError::Network(reason) => reason,
        DialError::TimedOut(_) => format!("no answer within {} s", way.step.as_secs_f64()),
        error => return error,
    };
    DialError::Proxy(ProxyFailure::Unreachable { proxy: proxy.to_string(), reason })
}

fn network(error: &io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused(error.to_string()),
        _ => DialError::Network(error.to_string()),
    }
}
