//! Packet identifiers that an earlier process may have left open at the server.
//!
//! In: the identifiers that are about to be used at QoS 2, and PUBCOMPs. Out: which of them to free first with PUBREL, and
//! which are free. A server that still holds an identifier takes a new message under it for the old one and drops it
//! (MQTT-4.3.3-10), and holds it until it has sent PUBCOMP (MQTT-4.3.3-12); for an identifier that it does not hold, PUBREL
//! changes nothing. Must never: call one free whose PUBCOMP has not come, but for a server that answers all the rest and this for two
//! keep alives not.

use std::collections::BTreeMap;

use viaduct_codec::PacketId;

/// Words of 64 bits for all identifiers.
const WORDS: usize = 1024;

/// Of which identifiers nothing is known: all at first.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// A bit for each identifier that is free; nothing before the first.
    freed: Vec<u64>,
    /// Whose PUBCOMP has not come on this connection, and how many PINGRESP have in the meantime.
    awaited: BTreeMap<PacketId, u8>,
}

impl Stale {
    /// Whether the server is known not to hold `id`.
    pub(super) fn is_free(&self, id: PacketId) -> bool {
        let (place, bit) = bit_of(id);
        self.freed.get(place).is_some_and(|word| word & bit != 0)
    }

    /// Whether PUBREL was sent for `id` on this connection and has no answer.
    pub(super) fn is_awaited(&self, id: PacketId) -> bool {
        self.awaited.contains_key(&id)
    }

    /// Whether `id` has to be freed before it is used and nobody has asked for that; its PUBCOMP is awaited from now on.
    pub(super) fn ask(&mut self, id: PacketId) -> bool {
        let is_new = !self.is_free(id) && !self.is_awaited(id);
        if is_new {
            self.awaited.insert(id, 0);
        }
        is_new
    }

    /// Whether this PUBCOMP answers what [`Stale::ask`] had sent; then the identifier is free.
    pub(super) fn is_answer(&mut self, id: PacketId) -> bool {
        let is_awaited = self.awaited.remove(&id).is_some();
        if is_awaited {
            self.know(id);
        }
        is_awaited
    }

    /// What the server holds under `id` is known from now on.
    pub(super) fn know(&mut self, id: PacketId) {
        self.freed.resize(WORDS, 0);
        let (place, bit) = bit_of(id);
        if let Some(word) = self.freed.get_mut(place) {
            *word |= bit;
        }
    }

    /// PINGRESP came. Whether something counts as free for want of an answer: the second time in a row that the server has read
    /// all that was sent, it has no answer to give, and nothing would ever be sent.
    pub(super) fn give_up_silent(&mut self) -> bool {
        self.awaited.values_mut().for_each(|pings| *pings += 1);
        let silent: Vec<PacketId> = self.awaited.iter().filter(|(_, pings)| **pings > 1).map(|(id, _)| *id).collect();
        silent.iter().for_each(|id| _ = self.is_answer(*id));
        !silent.is_empty()
    }

    /// The connection is over: what was sent by it is answered no more, and may not have arrived.
    pub(super) fn detach(&mut self) {
        self.awaited.clear();
    }
}

/// The word of an identifier, and its bit in it.
fn bit_of(id: PacketId) -> (usize, u64) {
    (usize::from(id.get() / 64), 1 << (id.get() % 64))
}
