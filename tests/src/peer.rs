//! A remote that behaves as it is told: refuses levels, closes, says nothing, talks nonsense, or leads to a real broker.
//!
//! In: what to do with a connection, by the level that its CONNECT carries. Out: the levels that were offered. Must never:
//! speak MQTT by itself.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::port::Port;

/// What happens to one connection once its first bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to this broker, first bytes included.
    LeadTo(SocketAddr),
    /// It gets these bytes, and is closed.
    Answer(&'static [u8]),
    /// It is closed without a word.
    Close,
    /// It is kept open, and nothing is ever said.
    Silence,
}

type Script = Box<dyn Fn(u8) -> Verdict + Send>;

struct Shared {
    script: Mutex<Script>,
    offered: Mutex<Vec<u8>>,
    held: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// A listener with a script.
pub struct Peer {
    port: Port,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// How often a thread looks whether it is to end.
const STEP: Duration = Duration::from_millis(5);

impl Peer {
    /// Listens; `script` gets the level byte of each CONNECT, or 0 for what is none.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn new(script: impl Fn(u8) -> Verdict + Send + 'static) -> Self {
        let port = Port::take();
        let listener = TcpListener::bind(port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            offered: Mutex::default(),
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

    /// The level bytes that were offered, in order.
    #[must_use]
    pub fn offered(&self) -> Vec<u8> {
        self.shared.offered.lock().unwrap().clone()
    }

    /// Does something else with the connections that come from now on.
    pub fn set(&self, script: impl Fn(u8) -> Verdict + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Closes every connection that is open.
    pub fn cut(&self) {
        for socket in self.shared.held.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Drop for Peer {
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
            let Ok((socket, _)) = listener.accept() else {
                std::thread::sleep(STEP);
                continue;
            };
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.serve(socket));
        }
    }

    fn serve(&self, mut socket: TcpStream) {
        socket.set_nonblocking(false).unwrap();
        let _ = socket.set_nodelay(true);
        self.held.lock().unwrap().push(socket.try_clone().unwrap());
        let mut first = vec![0; 4096];
        // A bridge writes its CONNECT in one piece, and loopback keeps it so.
        let Ok(read @ 1..) = socket.read(&mut first) else { return };
        first.truncate(read);
        let level = level_of(&first).unwrap_or_default();
        self.offered.lock().unwrap().push(level);
        let verdict = (self.script.lock().unwrap())(level);
        match verdict {
            Verdict::Close => drop(socket.shutdown(Shutdown::Both)),
            Verdict::Answer(bytes) => {
                let _ = socket.write_all(bytes);
                let _ = socket.shutdown(Shutdown::Both);
            }
            Verdict::Silence => {
                // Until the other end goes, or this one is cut.
                while matches!(socket.read(&mut first), Ok(1..)) {}
            }
            Verdict::LeadTo(upstream) => self.lead(&first, socket, upstream),
        }
    }

    fn lead(&self, first: &[u8], client: TcpStream, upstream: SocketAddr) {
        let Ok(mut server) = TcpStream::connect(upstream) else { return };
        let _ = server.set_nodelay(true);
        self.held.lock().unwrap().push(server.try_clone().unwrap());
        if server.write_all(first).is_err() {
            return;
        }
        let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let thread = std::thread::spawn(move || carry(back.0, back.1));
        carry(client, server);
        let _ = thread.join();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// The level byte of a CONNECT: behind the fixed header and the protocol name.
fn level_of(bytes: &[u8]) -> Option<u8> {
    let (0x10, rest) = bytes.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let length = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let name = usize::from(u16::from_be_bytes(rest.get(length..length + 2)?.try_into().ok()?));
    rest.get(length + 2 + name).copied()
}
