//! What may stand between a bridge and its broker: proxies, a TLS terminator, a web server with a WebSocket. Small, strict, and
//! noting what it was asked.
//!
//! In: a script for each connection. Out: what connections asked for, in order. Must never: be lenient; what a client must not
//! send ends the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

use crate::port::Port;

/// How often a thread looks whether it is to end, or whether there is something to carry.
const STEP: Duration = Duration::from_millis(2);

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
    from: Mutex<Vec<SocketAddr>>,
    held: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// A listener that does what its [`Gate`] says.
pub struct Gateway {
    port: Port,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Listens.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn start(gate: Gate) -> Self {
        let port = Port::take();
        let listener = TcpListener::bind(port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            gate: Mutex::new(gate),
            asked: Mutex::default(),
            from: Mutex::default(),
            held: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(&listener)
        });
        Self { port, shared, thread: Some(thread) }
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// What connections asked for, in order: where to, or the first line and the headers of a request.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Where connections came from, in order.
    #[must_use]
    pub fn from(&self) -> Vec<SocketAddr> {
        self.shared.from.lock().unwrap().clone()
    }

    /// Does something else with the connections that come from now on.
    pub fn set(&self, gate: Gate) {
        *self.shared.gate.lock().unwrap() = gate;
    }

    /// Closes every connection that is open.
    pub fn cut(&self) {
        for socket in self.shared.held.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.cut();
    }
}

impl Shared {
    fn run(self: &Arc<Self>, listener: &TcpListener) {
        while !self.stop.load(Ordering::SeqCst) {
            let Ok((socket, from)) = listener.accept() else {
                std::thread::sleep(STEP);
                continue;
            };
            self.from.lock().unwrap().push(from);
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                // What ends here is the connection; the test looks at what became of it.
                let _ = shared.serve(socket);
            });
        }
    }

    fn serve(&self, mut socket: TcpStream) -> std::io::Result<()> {
        socket.set_nonblocking(false)?;
        socket.set_nodelay(true)?;
        self.held.lock().unwrap().push(socket.try_clone()?);
        let gate = self.gate.lock().unwrap().clone();
        match gate {
            Gate::Connect(login) => self.connect(socket, login),
            Gate::Socks(login) => self.socks(socket, login),
            Gate::Tls(config, upstream) => self.tls(socket, config, upstream),
            Gate::WebSocket(upstream) => self.websocket(socket, upstream),
            Gate::Answers(pieces) => {
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

    fn connect(&self, mut socket: TcpStream, login: Option<Login>) -> std::io::Result<()> {
        use base64::Engine;
        let head = read_head(&mut socket)?;
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
        let Ok(upstream) = TcpStream::connect(target) else {
            return socket.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        };
        socket.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")?;
        self.carry(socket, upstream)
    }

    fn socks(&self, mut socket: TcpStream, login: Option<Login>) -> std::io::Result<()> {
        let [5, count] = read::<2>(&mut socket)? else { return Err(ErrorKind::InvalidData.into()) };
        let methods = read_vec(&mut socket, count)?;
        let method = if login.is_some() { 2 } else { 0 };
        if !methods.contains(&method) {
            return socket.write_all(&[5, 0xff]);
        }
        socket.write_all(&[5, method])?;
        if let Some((user, password)) = login {
            let [1, length] = read::<2>(&mut socket)? else { return Err(ErrorKind::InvalidData.into()) };
            let given_user = read_vec(&mut socket, length)?;
            let [length] = read::<1>(&mut socket)?;
            let given_password = read_vec(&mut socket, length)?;
            let good = given_user == user.as_bytes() && given_password == password.as_bytes();
            socket.write_all(&[1, u8::from(!good)])?;
            if !good {
                return Ok(());
            }
        }
        let [5, 1, 0, kind] = read::<4>(&mut socket)? else { return Err(ErrorKind::InvalidData.into()) };
        let host = match kind {
            1 => std::net::Ipv4Addr::from(read::<4>(&mut socket)?).to_string(),
            3 => {
                let [length] = read::<1>(&mut socket)?;
                String::from_utf8(read_vec(&mut socket, length)?).map_err(|_| ErrorKind::InvalidData)?
            }
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        let port = u16::from_be_bytes(read::<2>(&mut socket)?);
        self.asked.lock().unwrap().push(format!("{host}:{port}"));
        let Ok(upstream) = TcpStream::connect((host.as_str(), port)) else {
            return socket.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
        };
        // A bound address in the longest form, so that reading over it is tried.
        socket.write_all(&[&[5, 0, 0, 3, 9][..], b"localhost", &[0, 1]].concat())?;
        self.carry(socket, upstream)
    }

    fn websocket(&self, mut socket: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
        use base64::Engine;
        let head = read_head(&mut socket)?;
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
        socket.write_all(answer.as_bytes())?;
        let upstream = TcpStream::connect(upstream)?;
        self.held.lock().unwrap().push(upstream.try_clone()?);
        let (mut back, mut to_client) = (upstream.try_clone()?, socket.try_clone()?);
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
        let result = self.read_frames(&mut socket, upstream);
        let _ = thread.join();
        result
    }

    /// Carries what masked binary frames hold until the close.
    fn read_frames(&self, socket: &mut TcpStream, mut upstream: TcpStream) -> std::io::Result<()> {
        let ended = loop {
            let Ok([first, second]) = read::<2>(socket) else { break Ok(()) };
            if second & 0x80 == 0 {
                self.asked.lock().unwrap().push("a frame without a mask".to_owned());
                break Err(ErrorKind::InvalidData.into());
            }
            let length = match second & 0x7f {
                126 => usize::from(u16::from_be_bytes(read::<2>(socket)?)),
                127 => break Err(ErrorKind::InvalidData.into()),
                short => usize::from(short),
            };
            let mask = read::<4>(socket)?;
            let mut payload = vec![0; length];
            socket.read_exact(&mut payload)?;
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            match first {
                0x82 => upstream.write_all(&payload)?,
                0x8a => self.asked.lock().unwrap().push(format!("pong {}", String::from_utf8_lossy(&payload))),
                0x88 => {
                    self.asked.lock().unwrap().push("close".to_owned());
                    break Ok(());
                }
                _ => break Err(ErrorKind::InvalidData.into()),
            }
        };
        let _ = upstream.shutdown(Shutdown::Both);
        ended
    }

    fn tls(&self, mut socket: TcpStream, config: Arc<ServerConfig>, upstream: SocketAddr) -> std::io::Result<()> {
        let mut tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
        while tls.is_handshaking() {
            if let Err(error) = tls.complete_io(&mut socket) {
                // The alert says why.
                let _ = tls.write_tls(&mut socket);
                return Err(error);
            }
        }
        self.asked.lock().unwrap().push(format!(
            "{:?} {:?} {}",
            tls.protocol_version(),
            tls.server_name(),
            String::from_utf8_lossy(tls.alpn_protocol().unwrap_or_default())
        ));
        let mut upstream = TcpStream::connect(upstream)?;
        upstream.set_nonblocking(true)?;
        socket.set_nonblocking(true)?;
        let mut buffer = [0; 16 * 1024];
        while !self.stop.load(Ordering::SeqCst) {
            let mut moved = false;
            // First what came with the end of the handshake.
            while let Ok(read @ 1..) = tls.reader().read(&mut buffer) {
                write_blocking(&mut upstream, &buffer[..read])?;
                moved = true;
            }
            match tls.read_tls(&mut socket) {
                Ok(0) => break,
                Ok(_) => {
                    tls.process_new_packets().map_err(std::io::Error::other)?;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match upstream.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    tls.writer().write_all(&buffer[..read])?;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            while tls.wants_write() {
                match tls.write_tls(&mut socket) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
            if !moved {
                std::thread::sleep(STEP);
            }
        }
        let _ = upstream.shutdown(Shutdown::Both);
        socket.shutdown(Shutdown::Both)
    }

    fn carry(&self, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
        server.set_nodelay(true)?;
        self.held.lock().unwrap().push(server.try_clone()?);
        let back = (server.try_clone()?, client.try_clone()?);
        let thread = std::thread::spawn(move || copy(back.0, back.1));
        copy(client, server);
        let _ = thread.join();
        Ok(())
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

fn write_blocking(to: &mut TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(STEP),
            Err(error) => return Err(error),
        }
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
