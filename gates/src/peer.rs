//! The far end of a connection: it counts what it hears and answers what asks for an answer.
//!
//! In: bytes that the broker wrote. Out: how many messages they were, and the bytes of the answers. Reads no more of a
//! packet than its answer needs, so that next to nothing of what is counted is the peer's own.

use viaduct_codec::{Frame, PacketType};

/// Room for the answers to one turn, so that nothing grows while something is counted.
const ROOM: usize = 4 << 10;

/// A client, as far as a flow needs one.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The worker of its session.
    pub(crate) worker: usize,
    /// What it has to say.
    pub(crate) answers: Vec<u8>,
    /// PUBLISH packets that came.
    pub(crate) heard: u64,
    /// The size of every packet that comes from now on, when nothing but messages of QoS 0 and of one size does: they need
    /// no answer, and are counted by their bytes. Zero otherwise.
    pub(crate) size: usize,
    /// The bytes that came, for a relay, which does not look at them.
    pub(crate) relayed: Option<Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(worker: usize, is_relay: bool) -> Self {
        let relayed = is_relay.then(|| Vec::with_capacity(ROOM));
        Self { worker, answers: Vec::with_capacity(ROOM), heard: 0, size: 0, relayed }
    }

    /// Takes whole packets and appends the answers.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        if let Some(relayed) = &mut self.relayed {
            return relayed.extend_from_slice(bytes);
        }
        if self.size > 0 {
            assert_eq!(bytes.len() % self.size, 0, "the broker wrote half a packet");
            self.heard += (bytes.len() / self.size) as u64;
            return;
        }
        let mut rest = bytes;
        while let Some(frame) = Frame::split(rest, u32::MAX).expect("the broker sends packets") {
            rest = &rest[frame.bytes.len()..];
            match frame.kind {
                PacketType::Publish => {
                    self.heard += 1;
                    let topic = usize::from(u16::from_be_bytes([frame.body[0], frame.body[1]]));
                    match frame.flags >> 1 & 3 {
                        1 => self.answer(0x40, &frame.body[2 + topic..]),
                        2 => self.answer(0x50, &frame.body[2 + topic..]),
                        _ => {}
                    }
                }
                PacketType::Pubrec => self.answer(0x62, frame.body),
                PacketType::Pubrel => self.answer(0x70, frame.body),
                _ => {}
            }
        }
        assert!(rest.is_empty(), "the broker wrote half a packet");
    }

    fn answer(&mut self, first: u8, id: &[u8]) {
        self.answers.extend_from_slice(&[first, 2, id[0], id[1]]);
    }
}
