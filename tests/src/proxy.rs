//! A TCP link that can be cut, refused, frozen and restored.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::doorman::{Doorman, Visitor};
use crate::port::Port;

/// What the link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It carries bytes both ways.
    Up,
    /// Nobody listens: connecting is refused at once.
    Refused,
    /// Connections come about, and no byte gets through either way.
    Frozen,
    /// Connections are closed as soon as they come.
    Closing,
}

#[derive(Debug)]
struct Shared {
    link: Mutex<Link>,
    changed: Condvar,
    accepted: AtomicU64,
    carried: AtomicU64,
    upstream: Mutex<SocketAddr>,
}

/// A proxy in front of a broker. Everything it carries is cut when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: Arc<Port>,
    shared: Arc<Shared>,
    /// Nobody while connections are refused.
    door: Mutex<Option<Doorman>>,
}

impl Proxy {
    /// A link to `upstream`, up.
    #[must_use]
    pub fn to(upstream: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            link: Mutex::new(Link::Refused),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
            carried: AtomicU64::new(0),
            upstream: Mutex::new(upstream),
        });
        let proxy = Self { port: Arc::new(Port::take()), shared, door: Mutex::default() };
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
        let mut door = self.door.lock().unwrap();
        *self.shared.link.lock().unwrap() = link;
        match link {
            Link::Refused => *door = None,
            Link::Closing => door.iter().for_each(Doorman::cut),
            Link::Up | Link::Frozen => {}
        }
        // Only now: what was frozen does not get through a connection that is cut.
        self.shared.changed.notify_all();
        if link != Link::Refused && door.is_none() {
            let shared = Arc::clone(&self.shared);
            *door = Some(Doorman::at(Arc::clone(&self.port), move |visitor| shared.serve(visitor)));
        }
    }

    /// Breaks every connection; new ones are as before.
    pub fn cut(&self) {
        self.door.lock().unwrap().iter().for_each(Doorman::cut);
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
        self.set(Link::Refused);
    }
}

impl Shared {
    fn is(&self, link: Link) -> bool {
        *self.link.lock().unwrap() == link
    }

    fn serve(self: &Arc<Self>, visitor: Visitor) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        if self.is(Link::Closing) || self.is(Link::Refused) {
            let _ = visitor.socket.shutdown(Shutdown::Both);
            return;
        }
        let upstream = *self.upstream.lock().unwrap();
        let Ok(server) = visitor.connect_on(upstream) else {
            let _ = visitor.socket.shutdown(Shutdown::Both);
            return;
        };
        let (back, client) = (server.try_clone().unwrap(), visitor.socket.try_clone().unwrap());
        let shared = Arc::clone(self);
        std::thread::spawn(move || shared.carry(back, client));
        self.carry(visitor.socket, server);
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read) = from.read(&mut buffer) {
            drop(self.changed.wait_while(self.link.lock().unwrap(), |link| *link == Link::Frozen).unwrap());
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
