//! What may stand between a bridge and its broker: proxies, a TLS terminator, a web server with a WebSocket. Small, strict, and
//! noting what it was asked.
//!
//! In: a script for each connection. Out: what connections asked for, in order. Must never: be lenient; what a client must not
//! send ends the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection};

use crate::doorman::{Doorman, Visitor};

/// A user and a password.
pub type Login = (&'static str, &'static str);

/// What a gateway does with a connection.
#[derive(Clone, Debug)]
pub enum Gate {
    /// HTTP CONNECT, for those who have the login if there is one.
    Connect(Option<Login>),
    /// SOCKS 5, for those who have the login if there is one.
    Socks(Option<Login>),
    /// Reads what comes first, and answers with these bytes, each piece to one read.
    Answers(Vec<Vec<u8>>),
    /// Ends TLS and leads to this broker.
    Tls(Arc<ServerConfig>, SocketAddr),
    /// Opens a WebSocket for MQTT and leads to this broker.
    WebSocket(SocketAddr),
}

struct Shared {
    gate: Mutex<Gate>,
    asked: Mutex<Vec<String>>,
}

/// A listener that does what its [`Gate`] says.
pub struct Gateway {
    shared: Arc<Shared>,
    door: Doorman,
}

impl Gateway {
    /// Listens.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start(gate: Gate) -> Self {
        let shared = Arc::new(Shared { gate: Mutex::new(gate), asked: Mutex::default() });
        let door = Doorman::new({
            let shared = Arc::clone(&shared);
            move |visitor| {
                // What ends here is the connection; the test looks at what became of it.
                let _ = shared.serve(visitor);
            }
        });
        Self { shared, door }
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// What connections asked for, in order: where to, or the first line and the headers of a request.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Where connections came from, in order.
    #[must_use]
    pub fn from(&self) -> Vec<SocketAddr> {
        self.door.from()
    }

    /// Does something else with the connections that come from now on.
    pub fn set(&self, gate: Gate) {
        *self.shared.gate.lock().unwrap() = gate;
    }

    /// Closes every connection that is open.
    pub fn cut(&self) {
        self.door.cut();
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("door", &self.door).finish_non_exhaustive()
    }
}

impl Shared {
    fn serve(&self, mut visitor: Visitor) -> std::io::Result<()> {
        let gate = self.gate.lock().unwrap().clone();
        match gate {
            Gate::Connect(login) => self.connect(visitor, login),
            Gate::Socks(login) => self.socks(visitor, login),
            Gate::Tls(config, upstream) => self.tls(visitor, config, upstream),
            Gate::WebSocket(upstream) => self.websocket(visitor, upstream),
            Gate::Answers(pieces) => {
                let socket = &mut visitor.socket;
                for piece in pieces {
                    let mut asked = [0; 4096];
                    let read = socket.read(&mut asked)?;
                    self.asked.lock().unwrap().push(String::from_utf8_lossy(&asked[..read]).into_owned());
                    socket.write_all(&piece)?;
                }
                socket.shutdown(Shutdown::Write)?;
                // Until the other end goes: a reset would take the answer with it.
                while matches!(socket.read(&mut [0; 4096]), Ok(1..)) {}
                Ok(())
            }
        }
    }

    fn connect(&self, mut visitor: Visitor, login: Option<Login>) -> std::io::Result<()> {
        use base64::Engine;
        let socket = &mut visitor.socket;
        let head = read_head(socket)?;
        self.asked.lock().unwrap().push(head.clone());
        let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(" HTTP/1.1\r\n"));
        let Some((target, headers)) = target else { return Err(ErrorKind::InvalidData.into()) };
        if let Some((user, password)) = login {
            let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            if !headers.contains(&format!("Proxy-Authorization: Basic {credentials}\r\n")) {
                return socket.write_all(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
                      Content-Length: 0\r\n\r\n",
                );
            }
        }
        let Ok(onward) = visitor.connect_on(target) else {
            return visitor.socket.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        };
        visitor.socket.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")?;
        visitor.carry(onward);
        Ok(())
    }

    fn socks(&self, mut visitor: Visitor, login: Option<Login>) -> std::io::Result<()> {
        let socket = &mut visitor.socket;
        let [5, count] = read::<2>(socket)? else { return Err(ErrorKind::InvalidData.into()) };
        let methods = read_vec(socket, count)?;
        let method = if login.is_some() { 2 } else { 0 };
        if !methods.contains(&method) {
            return socket.write_all(&[5, 0xff]);
        }
        socket.write_all(&[5, method])?;
        if let Some((user, password)) = login {
            let [1, length] = read::<2>(socket)? else { return Err(ErrorKind::InvalidData.into()) };
            let given_user = read_vec(socket, length)?;
            let [length] = read::<1>(socket)?;
            let given_password = read_vec(socket, length)?;
            let good = given_user == user.as_bytes() && given_password == password.as_bytes();
            socket.write_all(&[1, u8::from(!good)])?;
            if !good {
                return Ok(());
            }
        }
        let [5, 1, 0, kind] = read::<4>(socket)? else { return Err(ErrorKind::InvalidData.into()) };
        let host = match kind {
            1 => std::net::Ipv4Addr::from(read::<4>(socket)?).to_string(),
            3 => {
                let [length] = read::<1>(socket)?;
                String::from_utf8(read_vec(socket, length)?).map_err(|_| ErrorKind::InvalidData)?
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        let port = u16::from_be_bytes(read::<2>(socket)?);
        self.asked.lock().unwrap().push(format!("{host}:{port}"));
        let Ok(onward) = visitor.connect_on((host.as_str(), port)) else {
            return visitor.socket.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
        };
        // A bound address in the longest form, so that reading over it is tried.
        visitor.socket.write_all(&[&[5, 0, 0, 3, 9][..], b"localhost", &[0, 1]].concat())?;
        visitor.carry(onward);
        Ok(())
    }

    fn websocket(&self, mut visitor: Visitor, upstream: SocketAddr) -> std::io::Result<()> {
        use base64::Engine;
        let head = read_head(&mut visitor.socket)?;
        self.asked.lock().unwrap().push(head.clone());
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let key = key.ok_or(ErrorKind::InvalidData)?;
        assert!(head.contains("Upgrade: websocket\r\n") && head.contains("Sec-WebSocket-Version: 13\r\n"), "{head}");
        let digest = sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
        let accept = base64::engine::general_purpose::STANDARD.encode(digest);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: mqtt\r\n\r\n"
        );
        visitor.socket.write_all(answer.as_bytes())?;
        let mut onward = visitor.connect_on(upstream)?;
        let (mut back, mut to_client) = (onward.try_clone()?, visitor.socket.try_clone()?);
        let thread = std::thread::spawn(move || {
            // A ping first: its answer has to come masked and whole.
            let _ = to_client.write_all(&[0x89, 4, b'p', b'i', b'n', b'g']);
            let mut buffer = [0; 1000];
            while let Ok(read @ 1..) = back.read(&mut buffer) {
                let length = u16::try_from(read).unwrap();
                let header = if read <= 125 {
                    vec![0x82, read as u8]
                } else {
                    [&[0x82, 126][..], &length.to_be_bytes()].concat()
                };
                if to_client.write_all(&[&header, &buffer[..read]].concat()).is_err() {
                    break;
                }
            }
            // What the client says to that is still read.
            let _ = to_client.shutdown(Shutdown::Write);
        });
        let ended = self.read_frames(&mut visitor.socket, &mut onward);
        let _ = onward.shutdown(Shutdown::Both);
        let _ = thread.join();
        ended
    }

    /// Carries what masked binary frames hold until the close.
    fn read_frames(&self, socket: &mut TcpStream, onward: &mut TcpStream) -> std::io::Result<()> {
        loop {
            let Ok([first, second]) = read::<2>(socket) else { return Ok(()) };
            if second & 0x80 == 0 {
                self.asked.lock().unwrap().push("a frame without a mask".to_owned());
                return Err(ErrorKind::InvalidData.into());
            }
            let length = match second & 0x7f {
                126 => usize::from(u16::from_be_bytes(read::<2>(socket)?)),
                127 => return Err(ErrorKind::InvalidData.into()),
                short => usize::from(short),
            };
            let mask = read::<4>(socket)?;
            let mut payload = vec![0; length];
            socket.read_exact(&mut payload)?;
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            match first {
                0x82 => onward.write_all(&payload)?,
                0x8a => self.asked.lock().unwrap().push(format!("pong {}", String::from_utf8_lossy(&payload))),
                0x88 => {
                    self.asked.lock().unwrap().push("close".to_owned());
                    return Ok(());
                }
                _ => return Err(ErrorKind::InvalidData.into()),
            }
        }
    }

    fn tls(&self, mut visitor: Visitor, config: Arc<ServerConfig>, upstream: SocketAddr) -> std::io::Result<()> {
        let socket = &mut visitor.socket;
        let mut tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(socket) {
                // The alert says why.
                let _ = tls.write_tls(socket);
                return Err(error);
            }
        }
        self.asked.lock().unwrap().push(format!(
            "{:?} {:?} {}",
            tls.protocol_version(),
            tls.server_name(),
            String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default())
        ));
        let onward = visitor.connect_on(upstream)?;
        let (socket, tls) = (&visitor.socket, Mutex::new(tls));
        std::thread::scope(|scope| {
            let back = scope.spawn(|| {
                let ended = seal(&tls, &onward, socket);
                let _ = socket.shutdown(Shutdown::Both);
                ended
            });
            let ended = open(&tls, socket, &onward);
            let _ = onward.shutdown(Shutdown::Both);
            ended.and(back.join().unwrap())
        })
    }
}

/// Carries what the client says, and first what came with the end of the handshake, until it ends.
fn open(tls: &Mutex<ServerConnection>, mut client: &TcpStream, mut onward: &TcpStream) -> std::io::Result<()> {
    let mut sealed = vec![0; 16 * 1024];
    let mut read = 0;
    loop {
        let mut plain = Vec::new();
        {
            let mut tls = tls.lock().unwrap();
            let mut rest = &sealed[..read];
            loop {
                tls.process_new_packets().map_err(std::io::Error::other)?;
                // Ends where there is no more for now.
                let _ = tls.reader().read_to_end(&mut plain);
                if rest.is_empty() {
                    break;
                }
                tls.read_tls(&mut rest)?;
            }
            write_sealed(&mut tls, client)?;
        }
        onward.write_all(&plain)?;
        read = client.read(&mut sealed)?;
        if read == 0 {
            return Ok(());
        }
    }
}

/// Carries what the broker says until it ends.
fn seal(tls: &Mutex<ServerConnection>, mut onward: &TcpStream, client: &TcpStream) -> std::io::Result<()> {
    let mut plain = vec![0; 16 * 1024];
    while let read @ 1.. = onward.read(&mut plain)? {
        let mut tls = tls.lock().unwrap();
        tls.writer().write_all(&plain[..read])?;
        write_sealed(&mut tls, client)?;
    }
    Ok(())
}

fn write_sealed(tls: &mut ServerConnection, mut client: &TcpStream) -> std::io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut client)?;
    }
    Ok(())
}

/// Byte by byte, so that nothing behind the head is lost.
fn read_head(socket: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read::<1>(socket)?);
    }
    String::from_utf8(head).map_err(|_| ErrorKind::InvalidData.into())
}

fn read<const N: usize>(socket: &mut TcpStream) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_vec(socket: &mut TcpStream, length: u8) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.into()];
    socket.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    use sha1::{Digest, Sha1};
    Sha1::new().chain_update(bytes).finalize().to_vec()
}
