//! A TCP link that can be cut, refused, frozen and restored.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::port::Port;
use crate::wait::{DEADLINE, until};

/// What the link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Link {
    /// It carries bytes both ways.
    Up = 0,
    /// Nobody listens: connecting is refused at once.
    Refused = 1,
    /// Connections come about, and no byte gets through either way.
    Frozen = 2,
    /// Connections are closed as soon as they come.
    Closing = 3,
}

/// How often a thread looks whether the link has changed.
const STEP: Duration = Duration::from_millis(5);

#[derive(Debug)]
struct Shared {
    link: AtomicU8,
    listening: AtomicBool,
    stop: AtomicBool,
    accepted: AtomicU64,
    carried: AtomicU64,
    upstream: Mutex<SocketAddr>,
    open: Mutex<Vec<TcpStream>>,
}

/// A proxy in front of a broker. Everything it carries is cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A link to `upstream`, up.
    #[must_use]
    pub fn to(upstream: SocketAddr) -> Self {
        let port = Port::take();
        let shared = Arc::new(Shared {
            link: AtomicU8::new(Link::Up as u8),
            listening: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            upstream: Mutex::new(upstream),
            open: Mutex::new(Vec::new()),
        });
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            let number = port.number();
            move || shared.run(number)
        });
        let proxy = Self { port, shared, thread: Some(thread) };
        proxy.set(Link::Up);
        proxy
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Changes what the link does, for connections that are there and for new ones, and returns once that holds.
    pub fn set(&self, link: Link) {
        self.shared.link.store(link as u8, Ordering::SeqCst);
        let listening = link != Link::Refused;
        until(DEADLINE, "the proxy", || (self.shared.listening.load(Ordering::SeqCst) == listening).then_some(()));
        if matches!(link, Link::Refused | Link::Closing) {
            self.cut();
        }
    }

    /// Breaks every connection; new ones are as before.
    pub fn cut(&self) {
        for socket in self.shared.open.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Cuts, and refuses until [`Proxy::restore`].
    pub fn refuse(&self) {
        self.set(Link::Refused);
    }

    /// Carries again.
    pub fn restore(&self) {
        self.set(Link::Up);
    }

    /// Connections that were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Bytes that were carried so far, both ways.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    /// Leads new connections to another broker.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.cut();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.cut();
    }
}

impl Shared {
    fn is(&self, link: Link) -> bool {
        self.link.load(Ordering::SeqCst) == link as u8
    }

    fn run(self: &Arc<Self>, port: u16) {
        let mut listener: Option<TcpListener> = None;
        while !self.stop.load(Ordering::SeqCst) {
            if self.is(Link::Refused) {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
                if let Some(listener) = &listener {
                    listener.set_nonblocking(true).unwrap();
                }
            }
            self.listening.store(listener.is_some(), Ordering::SeqCst);
            match listener.as_ref().map(TcpListener::accept) {
                Some(Ok((socket, _))) => self.take(socket),
                Some(Err(_)) | None => std::thread::sleep(STEP),
            }
        }
    }

    fn take(self: &Arc<Self>, client: TcpStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        if self.is(Link::Closing) || self.is(Link::Refused) {
            return;
        }
        let upstream = *self.upstream.lock().unwrap();
        let Ok(server) = TcpStream::connect(upstream) else { return };
        for socket in [&client, &server] {
            socket.set_nonblocking(false).unwrap();
            socket.set_nodelay(true).unwrap();
        }
        let mut open = self.open.lock().unwrap();
        open.push(client.try_clone().unwrap());
        open.push(server.try_clone().unwrap());
        drop(open);
        for (from, to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.carry(from, to));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read) = from.read(&mut buffer) {
            while self.is(Link::Frozen) && !self.stop.load(Ordering::SeqCst) {
                std::thread::sleep(STEP);
            }
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
            self.carried.fetch_add(read as u64, Ordering::SeqCst);
        }
        // One direction that ends does not end the other: a half-closed connection stays half-closed.
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }
}
