//! Packet identifiers that an earlier process may have left open at the server.
//!
//! In: the identifiers that are about to be used at QoS 2, and PUBCOMPs. Out: which of them to free first with PUBREL, and
//! which PUBCOMPs answer that. A server that still holds an identifier takes a new message under it for the old one and drops it
//! (MQTT-4.3.3-10); PUBREL ends that, and for an identifier that it does not hold it changes nothing. Must never: ask twice
//! for one identifier.

use viaduct_codec::PacketId;

/// Words of 64 bits for all identifiers.
const WORDS: usize = 1024;

/// Of which identifiers nothing is known: all at first.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// A bit for each identifier that was freed; nothing before the first.
    freed: Vec<u64>,
    /// Whose PUBCOMP has not come.
    awaited: Vec<PacketId>,
}

impl Stale {
    /// Whether `id` has to be freed before it is used; it counts as freed from now on.
    pub(super) fn free(&mut self, id: PacketId) -> bool {
        self.freed.resize(WORDS, 0);
        let (place, bit) = (usize::from(id.get() / 64), 1 << (id.get() % 64));
        let Some(word) = self.freed.get_mut(place).filter(|word| **word & bit == 0) else { return false };
        *word |= bit;
        self.awaited.push(id);
        true
    }

    /// Whether this PUBCOMP answers what [`Stale::free`] had sent.
    pub(super) fn is_answer(&mut self, id: PacketId) -> bool {
        let place = self.awaited.iter().position(|awaited| *awaited == id);
        place.map(|place| self.awaited.swap_remove(place)).is_some()
    }

    /// The connection is over: what was sent by it is answered no more.
    pub(super) fn detach(&mut self) {
        self.awaited.clear();
    }
}
