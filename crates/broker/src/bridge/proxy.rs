//! Through a proxy to the remote: HTTP CONNECT (RFC 9110, section 9.3.6) or SOCKS 5 (RFC 1928, RFC 1929).
//!
//! In: a connection to the proxy, and the remote's host and port. Out: the same connection, which leads to the remote now, or
//! why not. The remote's name goes to the proxy as it is: often only that can resolve it. Must never: write the password
//! anywhere but to the proxy, or keep more of an answer than a bounded head.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use httparse::{EMPTY_HEADER, Response, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use viaduct_bridge::{Address, ProxyFailure};
use viaduct_codec::Looks;
use viaduct_config::ProxyKind;

use crate::limits::{UPGRADE_BYTES, UPGRADE_HEADERS};

/// A proxy, its password read.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) kind: ProxyKind,
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password, at most 255 bytes each; the password may be empty.
    pub(super) login: Option<(String, Vec<u8>)>,
}

/// Without the password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// For log lines: where it is, and nothing of the login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

impl Proxy {
    /// Has the proxy connect to `remote`.
    pub(super) async fn open(&self, tcp: &mut TcpStream, remote: &Address) -> Result<(), ProxyFailure> {
        match self.kind {
            ProxyKind::Http => self.connect(tcp, remote).await,
            ProxyKind::Socks5 => self.socks(tcp, remote).await,
        }
    }

    async fn connect(&self, tcp: &mut TcpStream, remote: &Address) -> Result<(), ProxyFailure> {
        let target = authority(&remote.host, remote.port);
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some((user, password)) = &self.login {
            let credentials = [user.as_bytes(), b":", password].concat();
            request = format!("{request}Proxy-Authorization: Basic {}\r\n", BASE64.encode(credentials));
        }
        request.push_str("\r\n");
        tcp.write_all(request.as_bytes()).await.map_err(|error| self.lost(&error))?;
        let mut answer = Vec::new();
        loop {
            if let Some(length) = self.read_head(&answer)? {
                // Whatever is spoken with the remote, we begin: nothing can be there yet.
                return if answer.len() == length {
                    Ok(())
                } else {
                    Err(broken("it says something before it was asked"))
                };
            }
            let mut piece = [0; 1024];
            match tcp.read(&mut piece).await.map_err(|error| self.lost(&error))? {
                0 => return Err(broken("it closes the connection instead of answering")),
                read => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            }
        }
    }

    /// The length of the head of a good answer, once it is whole.
    fn read_head(&self, bytes: &[u8]) -> Result<Option<usize>, ProxyFailure> {
        let mut headers = [EMPTY_HEADER; UPGRADE_HEADERS];
        let mut response = Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(Status::Partial) if bytes.len() < UPGRADE_BYTES => Ok(None),
            Ok(Status::Complete(length)) => match response.code.unwrap_or_default() {
                200..=299 => Ok(Some(length)),
                status => {
                    let reason = response.reason.unwrap_or_default();
                    Err(ProxyFailure::of_status(status, reason, self.login.is_some()))
                }
            },
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                Err(broken(&format!("its answer is longer than {UPGRADE_BYTES} bytes or {UPGRADE_HEADERS} headers")))
            }
            Err(_) => Err(looks_like(bytes)),
        }
    }

    async fn socks(&self, tcp: &mut TcpStream, remote: &Address) -> Result<(), ProxyFailure> {
        const NO_LOGIN: u8 = 0;
        const PASSWORD: u8 = 2;
        const NONE_OF_THESE: u8 = 0xff;
        let greeting: &[u8] = if self.login.is_some() { &[5, 2, NO_LOGIN, PASSWORD] } else { &[5, 1, NO_LOGIN] };
        tcp.write_all(greeting).await.map_err(|error| self.lost(&error))?;
        let sent = self.login.is_some();
        match self.read::<2>(tcp).await? {
            [5, NO_LOGIN] => {}
            [5, PASSWORD] if sent => self.log_in(tcp).await?,
            [5, NONE_OF_THESE] => return Err(ProxyFailure::Login { sent }),
            [5, method] => return Err(broken(&format!("it asks for the login method {method}, which nobody offered"))),
            other => {
                // A greeting in another protocol says what it is with what came behind.
                let mut rest = [0; 64];
                let more = tcp.try_read(&mut rest).unwrap_or_default();
                return Err(looks_like(&[&other, rest.get(..more).unwrap_or_default()].concat()));
            }
        }
        let mut request = vec![5, 1, 0];
        match remote.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => request.extend([&[1][..], &ip.octets()].concat()),
            Ok(IpAddr::V6(ip)) => request.extend([&[4][..], &ip.octets()].concat()),
            Err(_) => {
                let length =
                    u8::try_from(remote.host.len()).map_err(|_| broken("the remote's name is too long for it"))?;
                request.extend([&[3, length][..], remote.host.as_bytes()].concat());
            }
        }
        request.extend(remote.port.to_be_bytes());
        tcp.write_all(&request).await.map_err(|error| self.lost(&error))?;
        let [version, reply, _, kind] = self.read::<4>(tcp).await?;
        if version != 5 {
            return Err(broken(&format!("it answers in version {version}")));
        }
        if reply != 0 {
            return Err(ProxyFailure::of_reply(reply));
        }
        // The address that it calls from: nobody needs it, but it stands before what the remote says.
        match kind {
            1 => self.read::<6>(tcp).await.map(drop),
            4 => self.read::<18>(tcp).await.map(drop),
            3 => {
                let [length] = self.read::<1>(tcp).await?;
                let mut rest = vec![0; usize::from(length) + 2];
                tcp.read_exact(&mut rest).await.map(drop).map_err(|error| self.lost(&error))
            }
            other => Err(broken(&format!("its answer has an address of the unknown type {other}"))),
        }
    }

    async fn log_in(&self, tcp: &mut TcpStream) -> Result<(), ProxyFailure> {
        let Some((user, password)) = &self.login else { return Err(ProxyFailure::Login { sent: false }) };
        let length =
            |bytes: &[u8]| u8::try_from(bytes.len()).map_err(|_| broken("user or password is too long for it"));
        let mut request = vec![1, length(user.as_bytes())?];
        request.extend_from_slice(user.as_bytes());
        request.push(length(password)?);
        request.extend_from_slice(password);
        tcp.write_all(&request).await.map_err(|error| self.lost(&error))?;
        match self.read::<2>(tcp).await? {
            [_, 0] => Ok(()),
            _ => Err(ProxyFailure::Login { sent: true }),
        }
    }

    async fn read<const N: usize>(&self, tcp: &mut TcpStream) -> Result<[u8; N], ProxyFailure> {
        let mut bytes = [0; N];
        match tcp.read_exact(&mut bytes).await {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(broken("it closes the connection instead of answering"))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn lost(&self, error: &std::io::Error) -> ProxyFailure {
        ProxyFailure::Unreachable { proxy: self.to_string(), reason: error.to_string() }
    }
}

fn broken(what: &str) -> ProxyFailure {
    ProxyFailure::NotAProxy(what.to_owned())
}

fn looks_like(bytes: &[u8]) -> ProxyFailure {
    ProxyFailure::NotAProxy(format!("it answers with {}", Looks::like(bytes)))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
