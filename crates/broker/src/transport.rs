//! One byte stream for clients and bridges alike, whatever carries it: TCP, TLS, or WebSocket over either (MQTT-4.2.0-1,
//! MQTT-7.1.1-1 of 3.1.1).
//!
//! In: a connected stream. Out: reads into the caller's buffer, writes as far as the socket takes them, and readiness.
//! It can be taken apart and put together on another worker's runtime with all its state. Must never: hold a buffer while
//! nothing is going on (what rustls keeps is its own), or know what the bytes mean.

use std::io;
use std::task::{Context, Poll};

use rustls_pki_types::CertificateDer;

use crate::stream::{self, Stream, TlsLink};
use crate::websocket::{Framing, WebSocket};

/// A connected stream on this worker.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The bytes are the stream's own.
    Stream(Stream),
    /// The bytes are what binary frames carry.
    WebSocket(WebSocket),
}

/// A stream on its way to another worker.
#[derive(Debug)]
pub(crate) struct Parts {
    stream: stream::Parts,
    framing: Option<Box<Framing>>,
}

impl Transport {
    /// As [`Stream::acknowledge_at_once`].
    pub(crate) fn acknowledge_at_once(&mut self) {
        match self {
            Self::Stream(stream) => stream.acknowledge_at_once(),
            Self::WebSocket(websocket) => websocket.stream_mut().acknowledge_at_once(),
        }
    }

    /// As [`Stream::acknowledge`].
    pub(crate) fn acknowledge(&self) {
        self.stream().acknowledge();
    }

    /// Whether its bytes come as the peer wrote them, and not in pieces that have to be whole.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Stream(stream) if stream.tls().is_none())
    }

    pub(crate) fn into_parts(self) -> io::Result<Parts> {
        match self {
            Self::Stream(stream) => Ok(Parts { stream: stream.into_parts()?, framing: None }),
            Self::WebSocket(websocket) => {
                let (stream, framing) = websocket.into_parts();
                Ok(Parts { stream: stream.into_parts()?, framing: Some(framing) })
            }
        }
    }

    pub(crate) fn from_parts(parts: Parts) -> io::Result<Self> {
        let stream = Stream::from_parts(parts.stream)?;
        Ok(match parts.framing {
            None => Self::Stream(stream),
            Some(framing) => Self::WebSocket(WebSocket::from_parts(stream, framing)),
        })
    }

    /// The certificates that the peer showed, its own first.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.stream().peer_certificates()
    }

    /// How it is encrypted, when it is.
    pub(crate) fn tls_link(&self) -> Option<TlsLink> {
        self.stream().tls_link()
    }

    /// Reads what is there; 0 is the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Stream(stream) => stream.poll_read(cx, buffer),
            Self::WebSocket(websocket) => websocket.poll_read(cx, buffer),
        }
    }

    /// Writes as much of `bytes` as the socket takes now; `WouldBlock` when that is nothing. What was refused has to be offered
    /// again, with more behind it or not: a frame that announces it may be under way.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.try_write(bytes),
            Self::WebSocket(websocket) => websocket.try_write(bytes),
        }
    }

    /// Pushes on what `try_write` took and the socket did not; `WouldBlock` while some of that is left.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.try_flush(),
            Self::WebSocket(websocket) => websocket.try_flush(),
        }
    }

    /// Ready when the socket may take more.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_writable(cx)
    }

    /// Says that nothing more will be written.
    pub(crate) fn shut_down(&mut self) {
        match self {
            Self::Stream(stream) => stream.shut_down(),
            Self::WebSocket(websocket) => websocket.shut_down(),
        }
    }

    /// Whether this end has said its last word by itself, as the closing handshake of WebSocket asks for: the peer should have
    /// the time to read it.
    pub(crate) fn has_said_goodbye(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::WebSocket(websocket) => websocket.is_shut_down(),
        }
    }

    /// Reads from the socket beneath everything and throws it away; 0 is the end.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Stream(stream) => stream.poll_discard(cx, buffer),
            Self::WebSocket(websocket) => websocket.stream_mut().poll_discard(cx, buffer),
        }
    }

    fn stream(&self) -> &Stream {
        match self {
            Self::Stream(stream) => stream,
            Self::WebSocket(websocket) => websocket.stream(),
        }
    }
}
