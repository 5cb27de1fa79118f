//! A blocking connection, plain, TLS or WebSocket, that gives up at a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};

use crate::websocket::Frames;

/// How long a connection may take to come about, or a write to go out.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came from [`Stream::read_by`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// This many bytes.
    Bytes(usize),
    /// The end: the peer closed or reset the connection.
    End,
    /// Nothing by the deadline.
    Nothing,
}

/// A connection to a broker.
#[derive(Debug)]
pub enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// WebSocket over either.
    WebSocket(Box<Frames>),
}

impl Stream {
    /// Connects over TCP.
    ///
    /// # Panics
    /// When it does not connect.
    #[must_use]
    #[track_caller]
    pub fn plain(address: SocketAddr) -> Self {
        let socket = TcpStream::connect_timeout(&address, PATIENCE);
        Self::from_socket(socket.unwrap_or_else(|error| panic!("no connection to {address}: {error}")))
    }

    /// Connects over TCP from another loopback address, 127.0.0.`host`, so that the broker sees another peer.
    ///
    /// # Panics
    /// When it does not connect.
    #[must_use]
    #[track_caller]
    pub fn plain_from(host: u8, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
        socket.connect_timeout(&address.into(), PATIENCE).unwrap();
        Self::from_socket(socket.into())
    }

    /// Connects over TLS as `config` says, asking for `localhost`.
    ///
    /// # Errors
    /// The handshake failed.
    ///
    /// # Panics
    /// When TCP does not connect.
    #[track_caller]
    pub fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        let Self::Plain(mut socket) = Self::plain(address) else { unreachable!("plain is plain") };
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Upgrades to WebSocket at `path`; what is written from here on is one binary frame each time.
    ///
    /// # Panics
    /// When the broker does not upgrade.
    #[must_use]
    #[track_caller]
    pub fn websocket(self, path: &str) -> Self {
        Self::WebSocket(Box::new(Frames::open(self, path)))
    }

    fn from_socket(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Self::Plain(socket)
    }

    /// The socket below.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref(),
            Self::WebSocket(frames) => frames.below().socket(),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The peer is gone, or does not read.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Self::WebSocket(frames) => frames.write(bytes),
        }
    }

    /// Says that no more will come, and keeps reading.
    pub fn finish_writing(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            Self::WebSocket(frames) => return frames.below_mut().finish_writing(),
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Breaks the connection with a reset, as a crashed machine would.
    pub fn reset(self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.into_parts().1,
            Self::WebSocket(frames) => return frames.into_below().reset(),
        };
        let socket = Socket::from(socket);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// Reads what is there, waiting until `end` at most.
    pub(crate) fn read_by(&mut self, end: Instant, into: &mut [u8]) -> Came {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Came::Nothing;
            }
            self.socket().set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
            let read = match self {
                Self::Plain(socket) => socket.read(into),
                Self::Tls(stream) => stream.read(into),
                Self::WebSocket(frames) => return frames.read_by(end, into),
            };
            match read {
                Ok(0) => return Came::End,
                Ok(read) => return Came::Bytes(read),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    // Reset, or TLS cut without a close_notify: an end either way.
                    _ => return Came::End,
                },
            }
        }
    }
}
