//! A client that sends exactly the bytes it is told, and checks exactly the bytes that come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::hex::{bytes, hex};
use crate::stream::{Came, Stream};
use crate::wait::DEADLINE;

/// A connection on which every byte is the test's. Bytes are written as in [`crate::bytes`].
#[derive(Debug)]
pub struct Raw {
    stream: Stream,
    came: Vec<u8>,
}

impl Raw {
    /// Connects over TCP.
    #[must_use]
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(Stream::plain(address))
    }

    /// Connects from 127.0.0.`host`: the broker logs refusals once per peer and minute, and this is another peer.
    #[must_use]
    #[track_caller]
    pub fn connect_from(host: u8, address: SocketAddr) -> Self {
        Self::over(Stream::plain_from(host, address))
    }

    /// Connects over TLS.
    ///
    /// # Errors
    /// The handshake failed.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Self> {
        Stream::tls(address, config).map(Self::over)
    }

    /// Over a connection that is there.
    #[must_use]
    pub fn over(stream: Stream) -> Self {
        Self { stream, came: Vec::new() }
    }

    /// The connection, without what was read and not looked at.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// The connection.
    #[must_use]
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Sends the bytes that `text` spells. A peer that is gone is for the next `expect` to notice.
    #[track_caller]
    pub fn send(&mut self, text: &str) -> &mut Self {
        self.send_bytes(&bytes(text))
    }

    /// Sends bytes. A peer that is gone is for the next `expect` to notice.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let _ = self.stream.write(bytes);
        self
    }

    /// Says that no more will come.
    pub fn finish_writing(&mut self) -> &mut Self {
        self.stream.finish_writing();
        self
    }

    /// Checks that the next bytes are those that `text` spells.
    ///
    /// # Panics
    /// When others come, or too few within [`DEADLINE`].
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> &mut Self {
        let wanted = bytes(text);
        let came = self.read(wanted.len());
        assert_eq!(hex(&came), hex(&wanted), "other bytes came than expected");
        self
    }

    /// The next `count` bytes; fewer when the connection ends or [`DEADLINE`] passes before.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let end = Instant::now() + DEADLINE;
        while self.came.len() < count && matches!(self.fill(end), Came::Bytes(_)) {}
        let rest = self.came.split_off(count.min(self.came.len()));
        std::mem::replace(&mut self.came, rest)
    }

    /// The next whole packet, fixed header included.
    ///
    /// # Panics
    /// When none comes within [`DEADLINE`].
    #[track_caller]
    pub fn read_packet(&mut self) -> Vec<u8> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(frame) = viaduct_codec::Frame::split(&self.came, u32::MAX).unwrap() {
                let length = frame.bytes.len();
                let rest = self.came.split_off(length);
                return std::mem::replace(&mut self.came, rest);
            }
            let came = self.fill(end);
            assert!(matches!(came, Came::Bytes(_)), "no whole packet came ({came:?}), only {}", hex(&self.came));
        }
    }

    /// Checks that the connection ends now, without another byte.
    ///
    /// # Panics
    /// When bytes come, or no end within [`DEADLINE`].
    #[track_caller]
    pub fn expect_close(&mut self) {
        let rest = self.read_to_end(DEADLINE);
        assert_eq!(hex(&rest), "", "bytes came before the close");
    }

    /// Everything up to the end of the connection.
    ///
    /// # Panics
    /// When it does not end within `deadline`.
    #[track_caller]
    pub fn read_to_end(&mut self, deadline: Duration) -> Vec<u8> {
        let end = Instant::now() + deadline;
        loop {
            match self.fill(end) {
                Came::Bytes(_) => {}
                Came::End => return std::mem::take(&mut self.came),
                Came::Nothing => panic!("the connection is still open after {deadline:?}; it sent {}", hex(&self.came)),
            }
        }
    }

    fn fill(&mut self, end: Instant) -> Came {
        let mut buffer = [0; 16 * 1024];
        let came = self.stream.read_by(end, &mut buffer);
        if let Came::Bytes(count) = came {
            self.came.extend_from_slice(&buffer[..count]);
        }
        came
    }
}
