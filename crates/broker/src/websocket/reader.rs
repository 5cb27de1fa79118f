//! Frames to bytes.
//!
//! In: pieces of the stream, cut anywhere. Out: what binary frames carry, in place; the last ping; the peer's close, or
//! what it did wrong. Must never: keep more than one header and one control frame, or trust a length.

use thiserror::Error;

use super::Role;

/// Two bytes, eight of extended length, four of mask.
const HEADER_MAX: usize = 14;
pub(super) const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
pub(super) const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// The length that says "in the next two bytes".
pub(super) const LENGTH_16: u8 = 126;
/// The length that says "in the next eight bytes".
const LENGTH_64: u8 = 127;

/// What changes nothing: a server's frames have no mask.
const NO_MASK: [u8; 4] = [0; 4];

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// How a peer broke RFC 6455, or the part of MQTT that is about it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Violation {
    #[error("a WebSocket text frame came, and MQTT is carried in binary ones")]
    Text,
    #[error("a WebSocket frame of a client came without a mask")]
    NotMasked,
    #[error("a WebSocket frame of a server came with a mask")]
    Masked,
    #[error("a WebSocket frame has reserved bits, and no extension was agreed on")]
    Reserved,
    #[error("a WebSocket frame has the unknown opcode {0}")]
    Opcode(u8),
    #[error("a WebSocket control frame is fragmented or longer than 125 bytes")]
    Control,
    #[error("a WebSocket continuation frame came with nothing to continue")]
    Continuation,
    #[error("a WebSocket message began within another one")]
    Interrupted,
    #[error("a WebSocket frame's length is not written in its shortest form, or has its highest bit set")]
    Length,
    #[error("a WebSocket close frame holds no valid status code")]
    CloseCode,
    #[error("a WebSocket close frame gives a reason that is not UTF-8")]
    CloseReason,
}

impl Violation {
    /// The status code that the peer is told.
    pub(crate) const fn code(self) -> u16 {
        match self {
            // Data of a type that is not accepted here.
            Self::Text => 1003,
            Self::CloseReason => 1007,
            _ => 1002,
        }
    }
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The peer began the closing handshake, with this status code.
    Closed(Option<u16>),
    /// The peer broke the protocol.
    Broken(Violation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Close,
    Ping,
    Pong,
}

/// A frame whose header was read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    is_final: bool,
    /// Bytes of payload that have not come yet.
    left: u64,
    /// Turned so that its first byte belongs to the next byte of payload.
    mask: [u8; 4],
}

/// Where in the stream of frames the reader is.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Of this end.
    role: Role,
    header: [u8; HEADER_MAX],
    header_length: usize,
    frame: Option<Frame>,
    /// A data message has begun and its last frame has not.
    in_message: bool,
    /// The payload of a control frame that has not come whole: 125 bytes at most.
    control: Vec<u8>,
    ping: Option<Vec<u8>>,
    stop: Option<Stop>,
}

impl Reader {
    /// For the end that is `role`: it reads what the other one sends.
    pub(super) fn new(role: Role) -> Self {
        Self { role, ..Self::default() }
    }

    /// Reads the frames in `buffer` and moves what the binary ones carry to its front; how many bytes that is. Where one frame
    /// ends and the next begins is lost on purpose (MQTT-6.0.0-2, MQTT-6.0.0-2 of 3.1.1). What comes behind a stop is not looked at.
    pub(super) fn decode(&mut self, buffer: &mut [u8]) -> usize {
        let (mut data, mut at) = (0, 0);
        while self.stop.is_none()
            && let Some(&byte) = buffer.get(at)
        {
            let Some(frame) = &mut self.frame else {
                at += 1;
                self.take_header(byte);
                continue;
            };
            let here = buffer.len() - at;
            let here = usize::try_from(frame.left).map_or(here, |left| left.min(here));
            let end = at + here;
            let payload = buffer.get_mut(at..end).unwrap_or_default();
            unmask(payload, &mut frame.mask);
            frame.left -= here as u64;
            let is_whole = frame.left == 0;
            if frame.kind == Kind::Data {
                // Never beyond the end: a header comes first, so `data` is behind `at`.
                buffer.copy_within(at..end, data);
                data += here;
            } else {
                self.control.extend_from_slice(payload);
            }
            at = end;
            if is_whole {
                self.finish_frame();
            }
        }
        data
    }

    /// The payload of the last ping that came; those before it need no answer any more.
    pub(super) fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    pub(super) const fn stop(&self) -> Option<Stop> {
        self.stop
    }

    fn take_header(&mut self, byte: u8) {
        if let Some(place) = self.header.get_mut(self.header_length) {
            *place = byte;
            self.header_length += 1;
        }
        let header = self.header.get(..self.header_length).unwrap_or_default();
        match parse(header, self.in_message, self.role) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                self.header_length = 0;
                if frame.kind == Kind::Data {
                    self.in_message = !frame.is_final;
                }
                let is_empty = frame.left == 0;
                self.frame = Some(frame);
                if is_empty {
                    self.finish_frame();
                }
            }
            Err(violation) => self.stop = Some(Stop::Broken(violation)),
        }
    }

    fn finish_frame(&mut self) {
        let control = std::mem::take(&mut self.control);
        match self.frame.take().map(|frame| frame.kind) {
            Some(Kind::Ping) => self.ping = Some(control),
            Some(Kind::Close) => self.stop = Some(closed(&control).map_or_else(Stop::Broken, Stop::Closed)),
            // Nobody asked for a pong, and data is with the caller.
            Some(Kind::Pong | Kind::Data) | None => {}
        }
    }
}

/// The header that `bytes` begin with, once it is whole. What is wrong is found with the byte that makes it so.
fn parse(bytes: &[u8], in_message: bool, role: Role) -> Result<Option<Frame>, Violation> {
    let [first, rest @ ..] = bytes else { return Ok(None) };
    let is_final = first & FINAL != 0;
    if first & RESERVED != 0 {
        return Err(Violation::Reserved);
    }
    let kind = match first & OPCODE {
        // MQTT-6.0.0-1, MQTT-6.0.0-1 of 3.1.1: any other data frame ends the connection.
        TEXT => return Err(Violation::Text),
        BINARY if in_message => return Err(Violation::Interrupted),
        CONTINUATION if !in_message => return Err(Violation::Continuation),
        BINARY | CONTINUATION => Kind::Data,
        CLOSE => Kind::Close,
        PING => Kind::Ping,
        PONG => Kind::Pong,
        other => return Err(Violation::Opcode(other)),
    };
    if kind != Kind::Data && !is_final {
        return Err(Violation::Control);
    }
    let [second, rest @ ..] = rest else { return Ok(None) };
    match (role, second & MASKED != 0) {
        (Role::Server, false) => return Err(Violation::NotMasked),
        (Role::Client, true) => return Err(Violation::Masked),
        _ => {}
    }
    if kind != Kind::Data && second & LENGTH >= LENGTH_16 {
        return Err(Violation::Control);
    }
    let (left, rest) = match second & LENGTH {
        LENGTH_16 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from(u16::from_be_bytes(*length));
            (Some(length).filter(|length| *length >= u64::from(LENGTH_16)).ok_or(Violation::Length)?, rest)
        }
        LENGTH_64 => {
            let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
            let length = u64::from_be_bytes(*length);
            let range = (1 << 16)..(1 << 63);
            (Some(length).filter(|length| range.contains(length)).ok_or(Violation::Length)?, rest)
        }
        short => (u64::from(short), rest),
    };
    let mask = if role == Role::Client { Some(&NO_MASK) } else { rest.first_chunk() };
    Ok(mask.map(|mask| Frame { kind, is_final, left, mask: *mask }))
}

/// The status code of a close frame.
fn closed(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::CloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    // Those between are reserved, or stand for what is never sent.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::CloseReason);
    }
    Ok(Some(code))
}

/// Takes the mask off, or puts it on, and turns it to where the next piece begins.
pub(super) fn unmask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    if *mask == NO_MASK {
        return;
    }
    let [a, b, c, d] = *mask;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let turn = bytes.len() % mask.len();
    let (eights, rest) = bytes.as_chunks_mut();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ twice).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(twice.to_ne_bytes()) {
        *byte ^= key;
    }
    mask.rotate_left(turn);
}
