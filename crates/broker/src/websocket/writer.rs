//! Bytes to frames.
//!
//! In: bytes, pings to answer, a close. Out: binary and control frames, a client's masked, as far as the socket takes them.
//! Must never: copy what a server frames, put a control frame into a data frame, or keep more than the newest pong, one close
//! and one masked frame.

use std::io;

use super::Role;
use super::reader::{BINARY, CLOSE, FINAL, LENGTH_16, MASKED, PONG, unmask};
use crate::limits::FRAME_BYTES;

const FINAL_BINARY: u8 = FINAL | BINARY;
const FINAL_CLOSE: u8 = FINAL | CLOSE;
const FINAL_PONG: u8 = FINAL | PONG;
/// The longest length that the second byte holds.
const SHORT: u8 = 125;

/// Where in the frame under way the writer is.
#[derive(Debug, Default)]
pub(super) struct Writer {
    role: Role,
    /// The header of the data frame under way, and how much of it is there and was written.
    header: [u8; 4],
    header_length: usize,
    header_written: usize,
    /// Bytes of payload that the data frame under way still needs.
    left: usize,
    /// What the socket has not taken of a frame that is ready: a control frame, or any of a client.
    ready: Vec<u8>,
    /// The payload of a pong that has not begun.
    pong: Option<Vec<u8>>,
    /// The status code of a close frame that has not begun.
    close: Option<u16>,
    /// The close frame has begun: nothing may follow it.
    closed: bool,
}

impl Writer {
    /// For the end that is `role`.
    pub(super) fn new(role: Role) -> Self {
        Self { role, ..Self::default() }
    }

    /// Writes as much of `bytes` as `sink`, which gets the rest of a header and payload, takes. All of `bytes`, up to
    /// [`FRAME_BYTES`], is one frame; what of it is not taken has to be offered again. [`Writer::push_control`] comes first.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        sink: impl FnOnce(&[u8], &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.role == Role::Client {
            return self.write_masked(bytes, sink);
        }
        if !self.is_in_frame() {
            if self.closed || self.close.is_some() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.begin(bytes.len());
        }
        let header = self.header.get(self.header_written..self.header_length).unwrap_or_default();
        let payload = bytes.get(..self.left).unwrap_or(bytes);
        let written = sink(header, payload)?;
        let of_header = written.min(header.len());
        let of_payload = (written - of_header).min(payload.len());
        self.header_written += of_header;
        self.left -= of_payload;
        match (written, of_payload) {
            (0, _) => Err(io::ErrorKind::WriteZero.into()),
            (_, 0) => Err(io::ErrorKind::WouldBlock.into()),
            (_, taken) => Ok(taken),
        }
    }

    /// As [`Writer::write`] for a client: the masked frame is a copy, so it is taken whole, and what the socket leaves of it goes
    /// with [`Writer::push_control`].
    fn write_masked(
        &mut self,
        bytes: &[u8],
        sink: impl FnOnce(&[u8], &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.closed || self.close.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.ready.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let payload = bytes.get(..FRAME_BYTES.into()).unwrap_or(bytes);
        self.ready = frame(FINAL_BINARY, payload, self.role)?;
        match sink(&self.ready, &[]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => self.wrote(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(payload.len())
    }

    /// Answers a ping, once there is room between frames. A pong that has not begun gives way to a newer one.
    pub(super) fn pong(&mut self, payload: Vec<u8>) {
        self.pong = Some(payload);
    }

    /// Ends the stream, once there is room between frames.
    pub(super) fn close(&mut self, code: u16) {
        self.pong = None;
        self.close = Some(code);
    }

    /// Whether a control frame, or the rest of a client's frame, waits and may go now.
    pub(super) fn has_control(&self) -> bool {
        !self.is_in_frame() && (!self.ready.is_empty() || self.pong.is_some() || self.close.is_some())
    }

    /// Gives `sink` the control frames that wait, unless a data frame is under way.
    pub(super) fn push_control(&mut self, mut sink: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.has_control() {
            if self.ready.is_empty() {
                self.next_control()?;
            }
            match sink(&self.ready)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.wrote(written),
            }
        }
        Ok(())
    }

    /// The socket took so much of the frame that is ready.
    fn wrote(&mut self, written: usize) {
        if written < self.ready.len() {
            self.ready.drain(..written);
        } else {
            // The memory goes too.
            self.ready = Vec::new();
        }
    }

    const fn is_in_frame(&self) -> bool {
        self.left > 0
    }

    fn begin(&mut self, length: usize) {
        self.left = length.min(FRAME_BYTES.into());
        let length = u16::try_from(self.left).unwrap_or(FRAME_BYTES);
        let [high, low] = length.to_be_bytes();
        self.header_written = 0;
        (self.header, self.header_length) = match u8::try_from(length) {
            Ok(short @ ..=SHORT) => ([FINAL_BINARY, short, 0, 0], 2),
            _ => ([FINAL_BINARY, LENGTH_16, high, low], 4),
        };
    }

    fn next_control(&mut self) -> io::Result<()> {
        if let Some(payload) = self.pong.take() {
            let payload = payload.get(..SHORT.into()).unwrap_or(&payload);
            self.ready = frame(FINAL_PONG, payload, self.role)?;
        } else if let Some(code) = self.close.take() {
            self.closed = true;
            self.ready = frame(FINAL_CLOSE, &code.to_be_bytes(), self.role)?;
        }
        Ok(())
    }
}

/// A whole frame; of `payload` no more than [`FRAME_BYTES`].
fn frame(first: u8, payload: &[u8], role: Role) -> io::Result<Vec<u8>> {
    let length = u16::try_from(payload.len()).unwrap_or(FRAME_BYTES);
    let mask_bit = if role == Role::Client { MASKED } else { 0 };
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.push(first);
    match u8::try_from(length) {
        Ok(short @ ..=SHORT) => frame.push(mask_bit | short),
        _ => {
            frame.push(mask_bit | LENGTH_16);
            frame.extend(length.to_be_bytes());
        }
    }
    let mut mask = [0; 4];
    if role == Role::Client {
        // What cannot be foreseen, so that nobody who chooses the payload chooses the bytes on the wire (RFC 6455, 10.3).
        crate::tls::random(&mut mask).map_err(io::Error::other)?;
        frame.extend(mask);
    }
    let header = frame.len();
    frame.extend_from_slice(payload);
    unmask(frame.get_mut(header..).unwrap_or_default(), &mut mask);
    Ok(frame)
}
