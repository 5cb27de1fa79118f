//! Messages that a client's owner reads and writes itself, as bytes.
//!
//! In: identifiers, and how large packets are. Out: whether they fit the conversation. The client keeps the window, the
//! identifiers and the keep alive; what is in the packets is the owner's.

use viaduct_codec::{PacketId, Time};

use super::{Client, PINGRESP_SECONDS};
use crate::delivery::Delivery;
use crate::flow;

impl Client {
    /// Whether QoS 0 packets of at most `largest` bytes may be written behind this client's own as they are.
    #[must_use]
    pub fn takes_bytes(&self, largest: usize) -> bool {
        let takes = |terms: &flow::Terms| largest <= terms.maximum_packet_size as usize;
        self.is_connected() && !self.lost && self.flow.terms().is_some_and(takes)
    }

    /// Takes identifiers for messages of QoS 1 that their owner writes behind this client's own packets and keeps until they are
    /// acknowledged: up to the first that is in use and as far as the window has room. How many of `ids` that are. For each
    /// of them [`Client::give_back`] or [`Client::adopt`] has to follow; `token` is the first one's, the others follow it.
    #[must_use]
    pub fn lend(&mut self, now: Time, ids: &[PacketId], token: u64) -> usize {
        if !self.is_connected() || self.lost {
            return 0;
        }
        let count = self.flow.lend(ids);
        if count > 0 {
            self.meter.sent(now, token);
        }
        count
    }

    /// The server has acknowledged messages that were sent under these identifiers of [`Client::lend`]; `token` is the first
    /// one's, the others follow it.
    pub fn give_back(&mut self, now: Time, ids: &[PacketId], token: u64) {
        self.flow.give_back(ids);
        self.heard_bytes(now);
        self.meter.answered_among(now, token, ids.len() as u64);
    }

    /// A message that was sent under an identifier of [`Client::lend`] is this client's own from now on, as if
    /// [`Client::publish`] had sent it. Before [`Client::detach`], for it is sent again on the next connection.
    pub fn adopt(&mut self, id: PacketId, delivery: Delivery, token: u64) {
        self.flow.adopt(id, delivery, token);
    }

    /// How many more messages of QoS 1 and 2 the server may have unacknowledged.
    #[must_use]
    pub fn room(&self) -> usize {
        self.flow.room()
    }

    /// PUBLISH packets of QoS 1 came that say nothing but topic, payload and User Properties, no more than [`Client::room`]:
    /// they wait for [`Client::acknowledge`] as those that [`Client::handle`] took.
    pub fn take_plain(&mut self, packet_ids: impl Iterator<Item = PacketId>) {
        self.flow.take_plain(packet_ids);
    }

    /// Messages came that the owner has read itself: the server lives.
    pub fn heard_bytes(&mut self, now: Time) {
        if let Some(due) = self.link.as_mut().and_then(|link| link.pingresp_due.as_mut()) {
            *due = now.after_secs(PINGRESP_SECONDS);
        }
    }
}
