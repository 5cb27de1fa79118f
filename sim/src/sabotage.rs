//! Faults on purpose, between a broker and its clients: the proof that the oracle notices.
//!
//! In: what a broker wrote for a connection. Out: the same with one kind of wrong. Used by tests alone.

use std::collections::BTreeMap;

use viaduct_codec::{Frame, Packet, PacketId, QoS, Version};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A PUBLISH of this QoS never arrives.
    Drop(QoS),
    /// A PUBLISH of this QoS arrives twice, the second time under another identifier.
    Double(QoS),
    /// Two PUBLISH packets of one topic and QoS change places.
    Swap,
}

/// Does one [`Fault`] now and then.
pub(crate) struct Saboteur {
    fault: Fault,
    /// Chances left until the next one.
    countdown: u32,
    held: BTreeMap<u64, Vec<u8>>,
}

impl Saboteur {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, countdown: 20, held: BTreeMap::new() }
    }

    /// What arrives of `bytes`, which are whole packets.
    pub(crate) fn pass(&mut self, link: u64, version: Version, bytes: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = &bytes[..];
        while let Ok(Some(frame)) = Frame::split(rest, u32::MAX) {
            rest = &rest[frame.bytes.len()..];
            match Packet::decode(frame, version) {
                Ok(packet) => self.pass_one(link, version, packet, frame.bytes, &mut out),
                Err(_) => out.extend_from_slice(frame.bytes),
            }
        }
        out
    }

    fn pass_one(&mut self, link: u64, version: Version, packet: Packet<'_>, bytes: &[u8], out: &mut Vec<u8>) {
        let Packet::Publish(mut publish) = packet else { return out.extend_from_slice(bytes) };
        let fault = self.fault;
        match fault {
            Fault::Drop(qos) if publish.qos == qos && self.is_time() => {}
            Fault::Double(qos) if publish.qos == qos && self.is_time() => {
                out.extend_from_slice(bytes);
                publish.packet_id = publish.packet_id.and_then(|id| PacketId::new(id.get() ^ 0x4000));
                // The same packet with another identifier is as good a packet.
                _ = Packet::Publish(publish).encode(version, out);
            }
            Fault::Swap if publish.qos > QoS::AtMostOnce => {
                if let Some(held) = self.held.remove(&link) {
                    out.extend_from_slice(bytes);
                    out.extend_from_slice(&held);
                } else if self.is_time() {
                    self.held.insert(link, bytes.to_vec());
                } else {
                    out.extend_from_slice(bytes);
                }
            }
            _ => out.extend_from_slice(bytes),
        }
    }

    fn is_time(&mut self) -> bool {
        if self.countdown == 0 {
            self.countdown = 30;
            return true;
        }
        self.countdown -= 1;
        false
    }
}
