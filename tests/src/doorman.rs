//! A listener on a port of the test, with a thread for each connection.
//!
//! In: what is done with a connection. Out: where to connect to, and the connections that were let in. Must never: outlive the
//! test; with the value everything is closed.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::port::Port;
use crate::wait::{DEADLINE, until};

/// A connection that was let in.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) socket: TcpStream,
    /// How many came before.
    pub(crate) number: usize,
    guests: Arc<Guests>,
}

/// The listener.
#[derive(Debug)]
pub(crate) struct Doorman {
    port: Arc<Port>,
    guests: Arc<Guests>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Guests {
    is_over: AtomicBool,
    inside: Mutex<Vec<TcpStream>>,
    from: Mutex<Vec<SocketAddr>>,
}

impl Doorman {
    /// Listens, and gives each connection to `serve`, on a thread of its own.
    ///
    /// # Panics
    /// When no port is free.
    pub(crate) fn new(serve: impl Fn(Visitor) + Send + Sync + 'static) -> Self {
        Self::at(Arc::new(Port::take()), serve)
    }

    /// As [`Doorman::new`], at a port at which there may have been one before.
    ///
    /// # Panics
    /// When the port stays taken.
    pub(crate) fn at(port: Arc<Port>, serve: impl Fn(Visitor) + Send + Sync + 'static) -> Self {
        let listener = until(DEADLINE, "a port of this test's is free", || TcpListener::bind(port.address()).ok());
        let guests = Arc::<Guests>::default();
        let thread = std::thread::spawn({
            let (guests, serve) = (Arc::clone(&guests), Arc::new(serve));
            move || guests.let_in(&listener, &serve)
        });
        Self { port, guests, thread: Some(thread) }
    }

    /// Where to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where connections came from, in order.
    pub(crate) fn from(&self) -> Vec<SocketAddr> {
        self.guests.from.lock().unwrap().clone()
    }

    /// The connection that was made last, if it was not cut.
    pub(crate) fn latest(&self) -> Option<TcpStream> {
        self.guests.inside.lock().unwrap().last()?.try_clone().ok()
    }

    /// Closes every connection that is open.
    pub(crate) fn cut(&self) {
        for socket in self.guests.inside.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Doorman {
    fn drop(&mut self) {
        self.guests.is_over.store(true, Ordering::SeqCst);
        // It waits for somebody to come.
        let _ = TcpStream::connect(self.address());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.cut();
    }
}

impl Guests {
    fn let_in(self: &Arc<Self>, listener: &TcpListener, serve: &Arc<impl Fn(Visitor) + Send + Sync + 'static>) {
        let mut number = 0;
        loop {
            let (socket, from) = match listener.accept() {
                Ok(accepted) => accepted,
                // It was gone before it was let in.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => panic!("nobody is let in any more: {error}"),
            };
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            self.from.lock().unwrap().push(from);
            // A connection that is gone already is found out about by whoever serves it.
            let _ = socket.set_nodelay(true);
            self.inside.lock().unwrap().extend(socket.try_clone());
            let visitor = Visitor { socket, number, guests: Arc::clone(self) };
            let serve = Arc::clone(serve);
            std::thread::spawn(move || serve(visitor));
            number += 1;
        }
    }
}

impl Visitor {
    /// Connects to where the visitor wants to go; that connection is cut when the visitor's is.
    pub(crate) fn connect_on(&self, target: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let onward = TcpStream::connect(target)?;
        onward.set_nodelay(true)?;
        self.guests.inside.lock().unwrap().push(onward.try_clone()?);
        Ok(onward)
    }

    /// Carries both ways between the visitor and `onward` until one of them ends, and ends both.
    pub(crate) fn carry(self, onward: TcpStream) {
        let (Ok(from), Ok(to)) = (onward.try_clone(), self.socket.try_clone()) else { return };
        let back = std::thread::spawn(move || copy(from, to));
        copy(self.socket, onward);
        let _ = back.join();
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
