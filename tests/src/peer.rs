//! A remote that behaves as it is told: refuses levels, closes, says nothing, talks nonsense, or leads to a real broker.
//!
//! In: what to do with a connection, by the level that its CONNECT carries. Out: the levels that were offered. Must never:
//! speak MQTT by itself.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};

use crate::doorman::{Doorman, Visitor};

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
}

/// A listener with a script.
pub struct Peer {
    shared: Arc<Shared>,
    door: Doorman,
}

impl Peer {
    /// Listens; `script` gets the level byte of each CONNECT, or 0 for what is none.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn new(script: impl Fn(u8) -> Verdict + Send + 'static) -> Self {
        let shared = Arc::new(Shared { script: Mutex::new(Box::new(script)), offered: Mutex::default() });
        let door = Doorman::new({
            let shared = Arc::clone(&shared);
            move |visitor| shared.serve(visitor)
        });
        Self { shared, door }
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.door.address()
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
        self.door.cut();
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("door", &self.door).finish_non_exhaustive()
    }
}

impl Shared {
    fn serve(&self, mut visitor: Visitor) {
        let socket = &mut visitor.socket;
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
            Verdict::LeadTo(upstream) => {
                if let Ok(mut onward) = visitor.connect_on(upstream)
                    && onward.write_all(&first).is_ok()
                {
                    visitor.carry(onward);
                }
            }
        }
    }
}

/// The level byte of a CONNECT: behind the fixed header and the protocol name.
fn level_of(bytes: &[u8]) -> Option<u8> {
    let (0x10, rest) = bytes.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let length = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let name = usize::from(u16::from_be_bytes(rest.get(length..length + 2)?.try_into().ok()?));
    rest.get(length + 2 + name).copied()
}
