//! WebSocket (RFC 6455) as a byte stream, at either end: what binary frames carry, whatever their boundaries.
//!
//! In: a stream whose upgrade request was answered, by us or by the remote of a bridge. Out: the bytes of its binary frames; writes as binary frames; pings
//! answered, the closing handshake done. Must never: hold a whole frame, a buffer while nothing is going on, or tell anybody
//! where a frame began (MQTT-6.0.0-2).

mod ask;
mod reader;
#[cfg(test)]
mod tests;
mod upgrade;
mod writer;

use std::io;
use std::task::{Context, Poll};

pub(crate) use ask::Request;
pub(crate) use upgrade::{Asked, answer_upgrade};

use crate::stream::Stream;
use reader::{Reader, Stop};
use writer::Writer;

/// Nothing is wrong, the conversation is over.
const NORMAL: u16 = 1000;

/// Which end this one is: a client masks what it sends, a server does not, and neither takes the other's way (RFC 6455, 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// Of a listener.
    #[default]
    Server,
    /// Of a bridge.
    Client,
}

/// A stream with frames on it.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: Stream,
    framing: Box<Framing>,
}

/// Where both directions are, without the socket.
#[derive(Debug)]
pub(crate) struct Framing {
    reader: Reader,
    writer: Writer,
    /// What came behind the upgrade request, or its answer, already.
    early: Vec<u8>,
    /// Nothing more is written, and the socket knows.
    shut_down: bool,
}

impl WebSocket {
    /// Over a stream whose upgrade was answered; `early` is what came behind the request, or the answer, already.
    pub(crate) fn new(stream: Stream, early: Vec<u8>, role: Role) -> Self {
        let framing = Framing { reader: Reader::new(role), writer: Writer::new(role), early, shut_down: false };
        Self { stream, framing: Box::new(framing) }
    }

    pub(crate) fn into_parts(self) -> (Stream, Box<Framing>) {
        (self.stream, self.framing)
    }

    pub(crate) fn from_parts(stream: Stream, framing: Box<Framing>) -> Self {
        Self { stream, framing }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Reads what binary frames carry, at least one byte; 0 is the end. A peer that breaks the protocol is told so before the
    /// error is returned.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            self.push_control(cx);
            if let Some(stop) = self.framing.reader.stop() {
                return Poll::Ready(self.end(stop));
            }
            let read = match self.poll_frames(cx, buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(0)),
                Poll::Ready(Ok(read)) => read,
                other => return other,
            };
            let data = self.framing.reader.decode(buffer.get_mut(..read).unwrap_or_default());
            if let Some(ping) = self.framing.reader.take_ping() {
                self.framing.writer.pong(ping);
            }
            if data > 0 {
                return Poll::Ready(Ok(data));
            }
            // Control frames, empty frames, half a header: nothing that the caller could see.
        }
    }

    /// Reads frames as they are on the wire.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let early = &mut self.framing.early;
        if early.is_empty() {
            return self.stream.poll_read(cx, buffer);
        }
        let read = early.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(early.drain(..read)) {
            *to = from;
        }
        if early.is_empty() {
            // The memory goes too.
            *early = Vec::new();
        }
        Poll::Ready(Ok(read))
    }

    /// Pushes control frames on as far as the socket takes them, and has the task woken when it takes more. Within a data frame
    /// there is no place for them; then the caller is at that frame, and they follow it.
    fn push_control(&mut self, cx: &mut Context<'_>) {
        while self.framing.writer.has_control() {
            // An error is for the next read to find.
            let Poll::Ready(Ok(())) = self.stream.poll_writable(cx) else { return };
            let Err(error) = self.try_flush() else { return };
            if error.kind() != io::ErrorKind::WouldBlock {
                return;
            }
        }
    }

    /// Writes as much of `bytes` as the socket takes now, in binary frames (MQTT-6.0.0-1); `WouldBlock` when that is nothing.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { stream, framing } = self;
        framing.writer.push_control(|frame| stream.try_write(frame))?;
        framing.writer.write(bytes, |header, payload| stream.try_write_both(header, payload))
    }

    /// Pushes on what the socket has not taken yet; `WouldBlock` while some of that is left.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        let Self { stream, framing } = self;
        framing.writer.push_control(|frame| stream.try_write(frame))?;
        self.stream.try_flush()
    }

    /// The closing handshake, once, and the end of the stream.
    pub(crate) fn shut_down(&mut self) {
        self.close(NORMAL);
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.framing.shut_down
    }

    fn close(&mut self, code: u16) {
        if !self.framing.shut_down {
            self.framing.shut_down = true;
            self.framing.writer.close(code);
            // A few bytes; if they don't fit, nobody reads there.
            let _ = self.try_flush();
            self.stream.shut_down();
        }
    }

    fn end(&mut self, stop: Stop) -> io::Result<usize> {
        match stop {
            Stop::Closed(code) => {
                self.close(code.unwrap_or(NORMAL));
                Ok(0)
            }
            Stop::Broken(violation) => {
                self.close(violation.code());
                Err(io::Error::new(io::ErrorKind::InvalidData, violation))
            }
        }
    }
}
