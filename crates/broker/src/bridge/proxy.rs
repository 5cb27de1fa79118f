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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;

    /// What the proxy makes of a peer that says `bytes` and closes.
    fn answered(kind: ProxyKind, bytes: &[u8]) -> Result<(), ProxyFailure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let say = async {
                let (mut peer, _) = listener.accept().await.unwrap();
                peer.write_all(bytes).await.unwrap();
                peer.shutdown().await.unwrap();
                // Until the other end goes: a reset would take the answer with it.
                while matches!(peer.read(&mut [0; 64]).await, Ok(1..)) {}
            };
            let login = Some(("user".to_owned(), b"password".to_vec()));
            let proxy = Proxy { kind, host: address.ip().to_string(), port: address.port(), login };
            let remote = Address { host: "remote".into(), port: 1, tls: false, websocket: None };
            let open = async {
                let mut tcp = TcpStream::connect(address).await.unwrap();
                proxy.open(&mut tcp, &remote).await
            };
            tokio::join!(say, open).1
        })
    }

    #[test]
    fn each_bound_address_of_a_socks_answer_is_read_over() {
        for bound in [&[1, 0, 0, 0, 0, 0, 0][..], &[4; 19], &[3, 2, b'h', b'h', 0, 0]] {
            assert_eq!(answered(ProxyKind::Socks5, &[&[5, 0, 5, 0, 0], bound].concat()), Ok(()), "{bound:?}");
        }
        assert_eq!(answered(ProxyKind::Socks5, &[5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]), Ok(()));
        for (bytes, label) in [
            (&[5, 1][..], "proxy_broken"),
            (&[5, 0xff], "proxy_login"),
            (&[5, 2, 1, 1], "proxy_login"),
            (&[5, 0, 4, 0, 0, 1], "proxy_broken"),
            (&[5, 0, 5, 0, 0, 9], "proxy_broken"),
            (&[5, 0, 5, 0], "proxy_broken"),
            (&[4, 0], "proxy_broken"),
        ] {
            assert_eq!(answered(ProxyKind::Socks5, bytes).unwrap_err().label(), label, "{bytes:?}");
        }
    }

    #[test]
    fn what_comes_behind_an_http_answer_is_not_taken_for_the_remotes() {
        assert_eq!(answered(ProxyKind::Http, b"HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        let early = answered(ProxyKind::Http, b"HTTP/1.0 200 OK\r\n\r\n\x20\x02");
        assert_eq!(early.unwrap_err().label(), "proxy_broken");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn noise_leads_nowhere(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(answered(ProxyKind::Http, &noise).is_err());
            if !noise.starts_with(&[5, 0]) && !noise.starts_with(&[5, 2]) {
                prop_assert!(answered(ProxyKind::Socks5, &noise).is_err());
            }
        }
    }
}
