//! The client's end of a WebSocket, written out: the upgrade, masked frames, and a stream over them.
//!
//! In: bytes and opcodes. Out: frames as a client sends them, and what the broker's frames hold. Must never: be lenient; what
//! is not a binary frame, a pong or a close in its shortest form fails the test.

use std::time::Instant;

use crate::raw::Raw;
use crate::stream::{Came, Stream};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What asks for a WebSocket at `path`; `subprotocols` is the value of its header, or "" for no such header.
#[must_use]
pub fn upgrade_request(path: &str, subprotocols: &str) -> String {
    let subprotocols =
        if subprotocols.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {subprotocols}\r\n") };
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{subprotocols}\r\n"
    )
}

/// A client's frame; `first` is its first byte: `0x82` for all of a binary message.
#[must_use]
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => frame.push(0x80 | short),
        (_, Ok(medium)) => {
            frame.push(0x80 | 126);
            frame.extend(medium.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The first byte and the payload of the broker's frame that `bytes` begin with, and its length; or how many bytes are needed
/// to go on.
fn split_frame(bytes: &[u8]) -> Result<(u8, &[u8], usize), usize> {
    let [first, length, rest @ ..] = bytes else { return Err(2) };
    let (length, header) = match length {
        126 => {
            let length = u16::from_be_bytes(*rest.first_chunk().ok_or(4_usize)?);
            assert!(length > 125, "a length that is not in its shortest form");
            (usize::from(length), 4)
        }
        127.. => panic!("a frame of the broker is masked, or longer than the 32 KiB that it promises"),
        short => (usize::from(*short), 2),
    };
    let payload = bytes.get(header..header + length).ok_or(header + length)?;
    Ok((*first, payload, header + length))
}

/// The next frame that comes on a raw connection; `None` when the connection ends instead.
#[track_caller]
pub fn read_frame(raw: &mut Raw) -> Option<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let wanted = match split_frame(&bytes) {
            Ok((first, payload, _)) => return Some((first, payload.to_vec())),
            Err(wanted) => wanted,
        };
        let more = raw.read(wanted - bytes.len());
        if more.is_empty() {
            assert!(bytes.is_empty(), "the connection ended within a frame");
            return None;
        }
        bytes.extend(more);
    }
}

/// The head of the next HTTP answer on a raw connection.
///
/// # Panics
/// When the connection ends before its end.
#[track_caller]
pub fn read_head(raw: &mut Raw) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = raw.read(1);
        assert!(!byte.is_empty(), "the connection ended behind {:?}", String::from_utf8_lossy(&head));
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// A stream of bytes over frames.
#[derive(Debug)]
pub struct Frames {
    below: Stream,
    /// As it came, not looked at.
    came: Vec<u8>,
    /// What binary frames held and nobody has read.
    data: Vec<u8>,
}

impl Frames {
    /// Asks for the upgrade at `path`, with the subprotocol `mqtt`.
    #[track_caller]
    pub(crate) fn open(below: Stream, path: &str) -> Self {
        let mut raw = Raw::over(below);
        raw.send_bytes(upgrade_request(path, "mqtt").as_bytes());
        let head = read_head(&mut raw);
        assert!(head.starts_with("HTTP/1.1 101 "), "no upgrade, but {head:?}");
        Self { below: raw.into_stream(), came: Vec::new(), data: Vec::new() }
    }

    pub(crate) fn below(&self) -> &Stream {
        &self.below
    }

    pub(crate) fn below_mut(&mut self) -> &mut Stream {
        &mut self.below
    }

    pub(crate) fn into_below(self) -> Stream {
        self.below
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.below.write(&client_frame(0x82, bytes))
    }

    pub(crate) fn read_by(&mut self, end: Instant, into: &mut [u8]) -> Came {
        loop {
            if !self.data.is_empty() {
                let count = self.data.len().min(into.len());
                into[..count].copy_from_slice(&self.data[..count]);
                self.data.drain(..count);
                return Came::Bytes(count);
            }
            if let Ok((first, payload, length)) = split_frame(&self.came) {
                match first {
                    0x82 => self.data.extend_from_slice(payload),
                    0x88 => return Came::End,
                    other => panic!("the broker sent a frame that begins with {other:#04x}"),
                }
                self.came.drain(..length);
                continue;
            }
            let mut buffer = [0; 16 * 1024];
            match self.below.read_by(end, &mut buffer) {
                Came::Bytes(count) => self.came.extend_from_slice(&buffer[..count]),
                other => return other,
            }
        }
    }
}
