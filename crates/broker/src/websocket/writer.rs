//! Bytes to frames.
//!
//! In: bytes, pings to answer, a close. Out: unmasked binary and control frames, as far as the socket takes them. Must never:
//! copy what it frames, put a control frame into a data frame, or keep more than the newest pong and one close.

use std::io;

use crate::limits::FRAME_BYTES;

const FINAL_BINARY: u8 = 0x82;
const FINAL_CLOSE: u8 = 0x88;
const FINAL_PONG: u8 = 0x8a;
/// The longest length that the second byte holds.
const SHORT: u8 = 125;
/// What the second byte holds when the length is in the next two.
const LENGTH_16: u8 = 126;

/// Where in the frame under way the writer is.
#[derive(Debug, Default)]
pub(super) struct Writer {
    /// The header of the data frame under way, and how much of it is there and was written.
    header: [u8; 4],
    header_length: usize,
    header_written: usize,
    /// Bytes of payload that the data frame under way still needs.
    left: usize,
    /// What the socket has not taken of a control frame.
    control: Vec<u8>,
    /// The payload of a pong that has not begun.
    pong: Option<Vec<u8>>,
    /// The status code of a close frame that has not begun.
    close: Option<u16>,
    /// The close frame has begun: nothing may follow it.
    closed: bool,
}

impl Writer {
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

    /// Answers a ping, once there is room between frames. A pong that has not begun gives way to a newer one.
    pub(super) fn pong(&mut self, payload: Vec<u8>) {
        self.pong = Some(payload);
    }

    /// Ends the stream, once there is room between frames.
    pub(super) fn close(&mut self, code: u16) {
        self.pong = None;
        self.close = Some(code);
    }

    /// Whether a control frame waits and may go now.
    pub(super) fn has_control(&self) -> bool {
        !self.is_in_frame() && (!self.control.is_empty() || self.pong.is_some() || self.close.is_some())
    }

    /// Gives `sink` the control frames that wait, unless a data frame is under way.
    pub(super) fn push_control(&mut self, mut sink: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while self.has_control() {
            if self.control.is_empty() {
                self.next_control();
            }
            match sink(&self.control)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written if written < self.control.len() => drop(self.control.drain(..written)),
                // The memory goes too.
                _ => self.control = Vec::new(),
            }
        }
        Ok(())
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

    fn next_control(&mut self) {
        if let Some(payload) = self.pong.take() {
            self.control = control_frame(FINAL_PONG, &payload);
        } else if let Some(code) = self.close.take() {
            self.closed = true;
            self.control = control_frame(FINAL_CLOSE, &code.to_be_bytes());
        }
    }
}

fn control_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(SHORT).min(SHORT);
    let payload = payload.get(..length.into()).unwrap_or_default();
    [&[first, length], payload].concat()
}
