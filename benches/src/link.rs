//! One connection of the load generator: connected and subscribed while blocking, then read and written without.
//!
//! Ends are errors: no server has a reason to close a connection of the generator.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::frame::{self, Frame};

/// The longest that an answer to CONNECT or SUBSCRIBE may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes taken from one socket at once.
const READ: usize = 256 * 1024;

/// What every link reads into; one for all of them.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(vec![0; 2 * READ])
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    /// The beginning of a packet whose end has not come.
    tail: Vec<u8>,
    /// What is to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
}

/// A socket to the server that leaves nothing behind when it is closed: no lingering port, so that thousands can come
/// after it.
pub(crate) fn dial(address: SocketAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(&address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads one packet and checks that it says yes.
pub(crate) fn expect(stream: &mut impl Read, kind: u8) -> io::Result<()> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let [first, length] = head;
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body)?;
    let is_good = first >> 4 == kind && length < 0x80 && body.last().is_some_and(|code| *code < 0x80);
    let is_accepted = kind != frame::CONNACK || body.last() == Some(&0);
    if is_good && is_accepted {
        return Ok(());
    }
    Err(io::Error::other(format!("instead of packet {kind} with a yes came {head:02x?} {body:02x?}")))
}

impl Link {
    /// Connects, and subscribes if a filter is given.
    pub(crate) fn connect(address: SocketAddr, id: &str, filter: Option<(&str, u8)>) -> io::Result<Self> {
        Self::on(dial(address, None)?, id, filter, false)
    }

    /// The same on a socket that is there already, with a session that is kept if it shall be.
    pub(crate) fn on(mut stream: TcpStream, id: &str, filter: Option<(&str, u8)>, is_kept: bool) -> io::Result<Self> {
        stream.write_all(&frame::connect(id, is_kept))?;
        expect(&mut stream, frame::CONNACK)?;
        if let Some((filter, qos)) = filter {
            stream.write_all(&frame::subscribe(filter, qos))?;
            expect(&mut stream, frame::SUBACK)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream, tail: Vec::new(), out: Vec::new(), written: 0 })
    }

    /// Puts bytes behind what is to be written; `flush` writes.
    pub(crate) fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Writes as much as goes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        match self.stream.write(self.out.get(self.written..).unwrap_or_default()) {
            Ok(count) => self.written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Reads once and hands on every whole packet, and the bytes to answer with.
    pub(crate) fn read(
        &mut self,
        scratch: &mut Scratch,
        mut each: impl FnMut(Frame<'_>, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let kept = self.tail.len();
        let room = scratch.0.get_mut(..kept + READ).ok_or(ErrorKind::InvalidData)?;
        let (start, rest) = room.split_at_mut(kept);
        let count = match self.stream.read(rest) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed a connection")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        start.copy_from_slice(&self.tail);
        let bytes = scratch.0.get(..kept + count).unwrap_or_default();
        let mut at = 0;
        while let Some(frame) = frame::split(bytes.get(at..).unwrap_or_default())? {
            at += frame.bytes.len();
            each(frame, &mut self.out)?;
        }
        self.tail.clear();
        self.tail.extend_from_slice(bytes.get(at..).unwrap_or_default());
        Ok(())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
