//! The null relay: what forwarding costs when nothing but forwarding is done, a process of its own.
//!
//! `copy` looks at a publisher's first message and from then on hands its bytes on as they are. `parse` walks every
//! message, hashes its topic and looks up who hears it, which is the least that a broker must do; it answers QoS 1 and
//! 2 by their packet identifiers and remembers none of them. Both gather what one turn of the loop brings and write
//! once per subscriber and turn. Neither checks anything, keeps anything or may be used for anything else.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use foldhash::fast::FixedState;

use crate::frame::{self, Frame, Publish};
use crate::poll::{Poll, Ready};

/// How much the relay does for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// Forwards bytes.
    Copy,
    /// Forwards messages.
    Parse,
}

/// Bytes taken from one socket in one turn.
const READ: usize = 64 * 1024;
/// Bytes that may wait for one subscriber; what comes on top is dropped.
const LIMIT: usize = 1024 * 1024;
/// The listener's token; peers count from 0.
const LISTENER: usize = usize::MAX;

type Routes = HashMap<Vec<u8>, Vec<usize>, FixedState>;

/// Relays on a loopback port until it is killed.
pub(crate) fn run(port: u16, mode: Mode) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    listener.set_nonblocking(true)?;
    let poll = Poll::new()?;
    poll.add(&listener, LISTENER)?;
    let mut relay =
        Relay { mode, peers: Vec::new(), free: Vec::new(), routes: Routes::default(), dirty: Vec::new(), poll };
    let mut scratch = vec![0; 2 * READ];
    let mut ready: Vec<Ready> = Vec::new();
    loop {
        relay.poll.wait(None, &mut ready)?;
        for ready in &ready {
            if ready.token == LISTENER {
                relay.accept(&listener)?;
                continue;
            }
            if ready.writable {
                relay.dirty.push(ready.token);
            }
            if ready.readable && relay.read(ready.token, &mut scratch).is_err() {
                relay.close(ready.token);
            }
        }
        relay.flush();
    }
}

struct Relay {
    mode: Mode,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    routes: Routes,
    /// Peers with something to write in this turn.
    dirty: Vec<usize>,
    poll: Poll,
}

struct Peer {
    stream: TcpStream,
    /// The beginning of a message whose end has not come.
    tail: Vec<u8>,
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    is_blocked: bool,
    /// Who gets this publisher's bytes, in `copy`, from its first message on.
    feeds: Option<Vec<usize>>,
}

impl Peer {
    fn append(&mut self, bytes: &[u8], token: usize, dirty: &mut Vec<usize>) {
        if self.out.len() - self.written + bytes.len() > LIMIT {
            return;
        }
        if self.out.is_empty() {
            dirty.push(token);
        }
        self.out.extend_from_slice(bytes);
    }
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let token = self.free.pop().unwrap_or_else(|| {
                self.peers.push(None);
                self.peers.len() - 1
            });
            self.poll.add(&stream, token)?;
            let peer = Peer { stream, tail: Vec::new(), out: Vec::new(), written: 0, is_blocked: false, feeds: None };
            if let Some(place) = self.peers.get_mut(token) {
                *place = Some(peer);
            }
        }
    }

    fn read(&mut self, token: usize, scratch: &mut [u8]) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(token).and_then(Option::as_mut) else { return Ok(()) };
        let kept = peer.tail.len();
        if let Some(start) = scratch.get_mut(..kept) {
            start.copy_from_slice(&peer.tail);
        }
        peer.tail.clear();
        let room = scratch.get_mut(kept..kept + READ).ok_or(ErrorKind::InvalidData)?;
        let count = match peer.stream.read(room) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let bytes = scratch.get(..kept + count).unwrap_or_default();
        // Taken out for as long as others are written to.
        let used = match peer.feeds.take() {
            Some(feeds) => {
                let used = forward(bytes, &feeds, &mut self.peers, &mut self.dirty);
                if let Some(peer) = self.peers.get_mut(token).and_then(Option::as_mut) {
                    peer.feeds = Some(feeds);
                }
                used
            }
            None => self.walk(token, bytes)?,
        };
        let rest = bytes.get(used..).unwrap_or_default();
        if let Some(peer) = self.peers.get_mut(token).and_then(Option::as_mut).filter(|_| !rest.is_empty()) {
            peer.tail.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Goes through whole messages; neighbours with the same hearers are handed on in one piece. Returns what was used.
    fn walk(&mut self, token: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        let (mut run_at, mut run_end) = (0, 0);
        let mut run_to: &[usize] = &[];
        while let Some(frame) = frame::split(bytes.get(at..).unwrap_or_default())? {
            let end = at + frame.bytes.len();
            if frame.kind() == frame::PUBLISH {
                let publish = Publish::read(frame).ok_or(frame::Malformed)?;
                let to = self.routes.get(publish.topic).map_or(&[][..], Vec::as_slice);
                if self.mode == Mode::Copy {
                    let feeds = to.to_vec();
                    let rest = bytes.get(at..).unwrap_or_default();
                    forward(rest, &feeds, &mut self.peers, &mut self.dirty);
                    if let Some(peer) = self.peers.get_mut(token).and_then(Option::as_mut) {
                        peer.feeds = Some(feeds);
                    }
                    return Ok(bytes.len());
                }
                if !std::ptr::eq(to, run_to) {
                    forward(bytes.get(run_at..run_end).unwrap_or_default(), run_to, &mut self.peers, &mut self.dirty);
                    (run_at, run_to) = (at, to);
                }
                run_end = end;
                let answer = match frame.qos() {
                    0 => None,
                    1 => Some(frame::PUBACK),
                    _ => Some(frame::PUBREC),
                };
                if let Some(kind) = answer {
                    let answer = frame::acknowledgement(kind, publish.id);
                    forward(&answer, &[token], &mut self.peers, &mut self.dirty);
                }
            } else {
                forward(bytes.get(run_at..run_end).unwrap_or_default(), run_to, &mut self.peers, &mut self.dirty);
                (run_at, run_end, run_to) = (end, end, &[]);
                control(frame, token, &mut self.peers, &mut self.dirty);
                if frame.kind() == frame::SUBSCRIBE {
                    let filter_end = 4 + usize::from(frame::number(frame.body, 2));
                    let filter = frame.body.get(4..filter_end).unwrap_or_default();
                    self.routes.entry(filter.to_vec()).or_default().push(token);
                    run_to = &[];
                }
            }
            at = end;
        }
        forward(bytes.get(run_at..run_end).unwrap_or_default(), run_to, &mut self.peers, &mut self.dirty);
        Ok(at)
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for token in dirty.drain(..) {
            if self.write(token).is_err() {
                self.close(token);
            }
        }
        self.dirty = dirty;
    }

    fn write(&mut self, token: usize) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(token).and_then(Option::as_mut) else { return Ok(()) };
        let rest = peer.out.get(peer.written..).unwrap_or_default();
        match peer.stream.write(rest) {
            Ok(count) => peer.written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let is_blocked = peer.written < peer.out.len();
        if !is_blocked {
            peer.out.clear();
            peer.written = 0;
        } else if peer.written > LIMIT / 2 {
            peer.out.drain(..peer.written);
            peer.written = 0;
        }
        if is_blocked != peer.is_blocked {
            peer.is_blocked = is_blocked;
            self.poll.want_write(&peer.stream, token, is_blocked)?;
        }
        Ok(())
    }

    fn close(&mut self, token: usize) {
        if self.peers.get_mut(token).and_then(Option::take).is_none() {
            return;
        }
        for hearers in self.routes.values_mut() {
            hearers.retain(|hearer| *hearer != token);
        }
        self.free.push(token);
    }
}

fn forward(bytes: &[u8], to: &[usize], peers: &mut [Option<Peer>], dirty: &mut Vec<usize>) -> usize {
    for &token in to.iter().filter(|_| !bytes.is_empty()) {
        if let Some(peer) = peers.get_mut(token).and_then(Option::as_mut) {
            peer.append(bytes, token, dirty);
        }
    }
    bytes.len()
}

/// Answers what is no PUBLISH, at the sender alone.
fn control(frame: Frame<'_>, token: usize, peers: &mut [Option<Peer>], dirty: &mut Vec<usize>) {
    let id = frame.id();
    let [high, low] = id.to_be_bytes();
    match frame.kind() {
        // Written at once and from the stack, so that an idle peer holds no buffer.
        frame::CONNECT => answer(peers.get_mut(token), &[frame::CONNACK << 4, 2, 0, 0]),
        frame::SUBSCRIBE => {
            let qos = frame.body.last().copied().unwrap_or_default();
            answer(peers.get_mut(token), &[frame::SUBACK << 4, 3, high, low, qos]);
        }
        frame::PINGREQ => answer(peers.get_mut(token), &[0xd0, 0]),
        frame::PUBREC => {
            forward(&frame::acknowledgement(frame::PUBREL, id), &[token], peers, dirty);
        }
        frame::PUBREL => {
            forward(&frame::acknowledgement(frame::PUBCOMP, id), &[token], peers, dirty);
        }
        _ => {}
    }
}

fn answer(peer: Option<&mut Option<Peer>>, bytes: &[u8]) {
    if let Some(Some(peer)) = peer {
        // A peer that is gone is found out by the next read.
        let _ = peer.stream.write(bytes);
    }
}
