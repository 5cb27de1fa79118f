//! The byte stream below every connection: TCP, with or without TLS, never blocking.
//!
//! In: a connected socket. Out: reads into the caller's buffer, writes as far as the socket takes them, and readiness.
//! It can be taken apart and put together on another worker's runtime with its TLS state. Must never: hold a buffer
//! while nothing is going on (what rustls keeps is its own), or know what the bytes mean.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::Connection;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::TLS_BUFFER;

/// A connected stream on this worker.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<Connection>>,
    /// What was read is acknowledged at once.
    at_once: bool,
}

/// A stream on its way to another worker.
#[derive(Debug)]
pub(crate) struct Parts {
    tcp: std::net::TcpStream,
    tls: Option<Box<Connection>>,
}

/// How a stream is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsLink {
    /// Such as "1.3".
    pub(crate) version: &'static str,
    /// When the first certificate of the peer's chain ends, in seconds since 1970.
    pub(crate) certificate_ends: Option<i64>,
}

impl Stream {
    /// Takes a fresh socket over. With `tls` the handshake comes first: [`Stream::poll_handshake`].
    pub(crate) fn new(tcp: TcpStream, tls: Option<Connection>) -> Self {
        // Batches are made by the flusher; waiting for more in the kernel only adds delay. A socket that refuses the
        // option works all the same.
        let _ = tcp.set_nodelay(true);
        let tls = tls.map(|mut connection| {
            connection.set_buffer_limit(Some(TLS_BUFFER));
            Box::new(connection)
        });
        Self { tcp, tls, at_once: false }
    }

    /// Acknowledges each read on the TCP level at once from here on: the kernel forgets the wish now and then. A peer that sends small packets and waits for that (mosquitto and its
    /// clients, unless told otherwise) would stand still for 40 ms at a time, or until it is sent the next message.
    pub(crate) fn acknowledge_at_once(&mut self) {
        self.at_once = true;
    }

    pub(crate) fn into_parts(self) -> io::Result<Parts> {
        Ok(Parts { tcp: self.tcp.into_std()?, tls: self.tls })
    }

    pub(crate) fn from_parts(parts: Parts) -> io::Result<Self> {
        Ok(Self { tcp: TcpStream::from_std(parts.tcp)?, tls: parts.tls, at_once: false })
    }

    /// The certificates that the peer showed, its own first.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.tls.as_ref()?.peer_certificates()
    }

    /// How it is encrypted, once the handshake is done.
    pub(crate) fn tls_link(&self) -> Option<TlsLink> {
        let version = match self.tls.as_ref()?.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "1.2",
            rustls::ProtocolVersion::TLSv1_3 => "1.3",
            _ => "unknown",
        };
        let certificate_ends = self.peer_certificates().and_then(crate::tls::expires);
        Some(TlsLink { version, certificate_ends })
    }

    /// Done when the TLS handshake is; at once without TLS.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(())) };
            while tls.wants_write() {
                match tls.write_tls(&mut Socket { tcp: &mut self.tcp, cx }) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(self.last_words().unwrap_or(error))),
                }
            }
            if !tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_ciphertext(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Why TLS says that it is over, where the peer said so and closed while we were still writing. The socket is read as it is:
    /// the runtime may not know yet that there is something.
    fn last_words(&mut self) -> Option<io::Error> {
        let tls = self.tls.as_mut()?;
        let socket = socket2::SockRef::from(&self.tcp);
        while matches!(tls.read_tls(&mut &*socket), Ok(1..)) {
            if let Err(error) = tls.process_new_packets() {
                return Some(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        None
    }

    /// Reads what is there; 0 is the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let Some(tls) = &mut self.tls else {
                let read = poll_socket(&mut self.tcp, cx, buffer);
                if read.is_ready() && self.at_once {
                    self.acknowledge();
                }
                return read;
            };
            match tls.reader().read(buffer) {
                Ok(read) => return Poll::Ready(Ok(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Without close_notify: the end all the same, and MQTT says itself whether a client meant it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.poll_ciphertext(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Acknowledges what was read on the TCP level, unless that has happened. Where the kernel has no such option, it waits.
    pub(crate) fn acknowledge(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.tcp.set_quickack(true);
    }

    /// Reads one piece of ciphertext and opens it; 0 is the end of the socket.
    fn poll_ciphertext(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(0)) };
        let read = match tls.read_tls(&mut Socket { tcp: &mut self.tcp, cx }) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let processed = tls.process_new_packets();
        let wants_write = tls.wants_write();
        if self.at_once {
            self.acknowledge();
        }
        let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(0)) };
        if wants_write {
            // Session tickets, key updates, and the alert that tells the peer what is wrong. What does not fit now goes
            // with the next write.
            let _ = tls.write_tls(&mut Unready { tcp: &mut self.tcp });
        }
        match processed {
            Ok(_) => Poll::Ready(Ok(read)),
            Err(error) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
    }

    /// Writes as much of `bytes` as the socket takes now; `WouldBlock` when that is nothing.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.tcp.try_write(bytes);
        }
        self.try_write_secure(|writer| writer.write(bytes))
    }

    /// As [`Stream::try_write`], from two places that follow each other.
    pub(crate) fn try_write_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let both = [IoSlice::new(first), IoSlice::new(second)];
        if self.tls.is_none() {
            return self.tcp.try_write_vectored(&both);
        }
        self.try_write_secure(|writer| writer.write_vectored(&both))
    }

    /// Gives TLS what `write` writes once the socket took all that was sealed before, and the socket as much as it takes.
    fn try_write_secure(
        &mut self,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        while tls.wants_write() {
            tls.write_tls(&mut Unready { tcp: &mut self.tcp })?;
        }
        let taken = write(&mut tls.writer())?;
        while tls.wants_write() {
            match tls.write_tls(&mut Unready { tcp: &mut self.tcp }) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Pushes on what `try_write` took and the socket did not; `WouldBlock` while some of that is left.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(&mut Unready { tcp: &mut self.tcp })?;
        }
        Ok(())
    }

    /// What was agreed on, where TLS is spoken.
    pub(crate) fn tls(&self) -> Option<&Connection> {
        self.tls.as_deref()
    }

    /// Ready when the socket may take more.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp.poll_write_ready(cx)
    }

    /// Says that nothing more will be written.
    pub(crate) fn shut_down(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut Unready { tcp: &mut self.tcp }).is_ok() {}
        }
        // The socket may be gone already, which is what was wanted.
        let _ = socket2::SockRef::from(&self.tcp).shutdown(std::net::Shutdown::Write);
    }

    /// Reads from the socket beneath TLS and throws it away; 0 is the end.
    pub(crate) fn poll_discard(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        poll_socket(&mut self.tcp, cx, buffer)
    }
}

fn poll_socket(tcp: &mut TcpStream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    // Unlike `try_read` this knows that a short read emptied the socket, and saves the call that would say so.
    match Pin::new(tcp).poll_read(cx, &mut buffer) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().len())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => Poll::Pending,
    }
}

/// The socket as rustls reads and writes it within a task, which is woken when it can go on.
struct Socket<'a, 'b> {
    tcp: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Read for Socket<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match poll_socket(self.tcp, self.cx, buffer) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match tokio::io::AsyncWrite::poll_write(Pin::new(self.tcp), self.cx, buffer) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket as rustls writes it when nobody is to be woken.
struct Unready<'a> {
    tcp: &'a mut TcpStream,
}

impl Write for Unready<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.try_write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    /// A fresh stream, or one that came from another worker, and its peer.
    async fn pair(has_moved: bool) -> (Stream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Stream::new(stream, None);
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (if has_moved { Stream::from_parts(stream.into_parts().unwrap()).unwrap() } else { stream }, peer)
    }

    /// Writes from `bytes` until the socket takes no more; how many it took.
    fn fill(stream: &mut Stream, bytes: &[u8], both: bool) -> usize {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let (first, second) = rest.split_at(rest.len().min(1000));
            let written = if both { stream.try_write_both(first, second) } else { stream.try_write(rest) };
            match written {
                Ok(written) => taken += written,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return taken;
                }
            }
            if taken == bytes.len() {
                return taken;
            }
        }
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for_until_its_peer_has_read() {
        for (has_moved, ways) in [(false, [false, false]), (true, [false, false]), (false, [true, false])] {
            let (mut stream, mut peer) = pair(has_moved).await;
            let bytes: Vec<u8> = (0..32_u32 << 20).map(|at| (at % 251) as u8).collect();
            let mut taken = fill(&mut stream, &bytes, ways[0]);
            taken += fill(&mut stream, &bytes[taken..], ways[1]);
            // Of one that has moved the runtime knows nothing yet, so nothing is tried.
            assert!((has_moved || 0 < taken) && taken < bytes.len(), "the kernel holds less");
            let is_ready =
                |stream: &Stream| stream.poll_writable(&mut Context::from_waker(std::task::Waker::noop())).is_ready();
            assert!(!is_ready(&stream), "it would be asked in a circle");
            let expected = bytes.clone();
            let reader = std::thread::spawn(move || {
                let mut heard = vec![0; expected.len()];
                peer.read_exact(&mut heard).unwrap();
                assert!(heard == expected, "all, and in order");
            });
            while taken < bytes.len() {
                let writable = poll_fn(|cx| stream.poll_writable(cx));
                tokio::time::timeout(Duration::from_secs(60), writable).await.expect("nobody said so").unwrap();
                taken += fill(&mut stream, &bytes[taken..], false);
            }
            reader.join().unwrap();
        }
    }
}
