//! Steps of an exchange that wait until somebody else knows of the one before: the store, or whoever relays it.
//!
//! In: that it is known. Out: what has to be known, and PUBLISH, PUBREL and PUBCOMP when it is. After a crash the one that knows says how far
//! the exchange was; so nothing goes out here that it would not remember.

use viaduct_codec::{Ack, PacketId, PacketType, ReasonCode, Time};

use super::outbound::Awaits;
use super::{Flow, next_hold};
use crate::delivery::{Delivery, Hold, Note};
use crate::output::Output;

impl Flow {
    pub(crate) fn has_notes(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.notes.is_empty())
    }

    /// What the store has to know since it was last asked.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        let notes = self.aside.as_mut().map_or_else(Vec::new, |aside| std::mem::take(&mut aside.notes));
        self.put_aside_away();
        notes
    }

    /// Tells the store once more what exchanges wait for: the first time it could not take it.
    pub(super) fn note_held(&mut self) {
        for exchange in self.outbound.iter() {
            let (Some(hold), Some(place)) = (exchange.held, exchange.delivery.kept.clone()) else { continue };
            self.aside.get_or_insert_default().notes.push(if exchange.is_received() {
                Note::Received(exchange.id, place, hold)
            } else {
                Note::Sent(exchange.id, place, exchange.delivery.qos, hold)
            });
        }
    }

    /// An exchange with the peer that an earlier process began.
    pub(crate) fn restore_sent(&mut self, id: PacketId, delivery: Delivery, is_received: bool) {
        self.ids.restore(id);
        self.outbound.restore(id, delivery, is_received);
    }

    /// A message of the peer that an earlier process took with QoS 2.
    pub(crate) fn restore_received(&mut self, id: PacketId) {
        self.inbound.restore(id);
    }

    /// The store knows now what the exchange under `id` waited to be known, if it still waits for that.
    pub(crate) fn proceed(&mut self, now: Time, id: PacketId, hold: Hold, out: &mut Output) {
        self.let_go(now, id, |held| held == hold, out);
    }

    /// The owner lets the exchange under `id` go on, whose PUBREC came: PUBREL, here or on the next connection.
    pub(crate) fn release(&mut self, now: Time, id: PacketId, out: &mut Output) {
        self.let_go(now, id, |_| true, out);
    }

    fn let_go(&mut self, now: Time, id: PacketId, is_meant: impl FnOnce(Hold) -> bool, out: &mut Output) {
        let Some((place, exchange)) = self.outbound.find(id) else { return };
        if exchange.held.take_if(|held| is_meant(*held)).is_none() {
            return;
        }
        let exchange = exchange.clone();
        if self.link.is_none() {
            return;
        }
        if self.outbound.is_written(place) {
            self.write_next(now, &exchange, out);
        } else {
            self.write_unwritten(now, out);
        }
    }

    /// Sends the message under `id` once more, although PUBREC came for it: who said that has lost it.
    pub(super) fn begin_again(&mut self, now: Time, id: PacketId, out: &mut Output) {
        let Some((_, exchange)) = self.outbound.find(id) else { return };
        exchange.awaits = Awaits::Pubrec;
        match exchange.delivery.kept.clone() {
            Some(place) => {
                let hold = next_hold(&mut self.holds);
                exchange.held = Some(hold);
                let note = Note::Sent(id, place, exchange.delivery.qos, hold);
                self.aside.get_or_insert_default().notes.push(note);
            }
            None => {
                let exchange = exchange.clone();
                self.write_next(now, &exchange, out);
            }
        }
    }

    pub(super) fn asks_again(&self) -> bool {
        self.terms().is_some_and(|terms| terms.peer_asks_again)
    }

    /// The store could not be told that the peer gave the identifier back.
    pub(crate) fn keep(&mut self, id: PacketId) {
        self.inbound.keep(id);
    }

    /// The store, or who relays, knows that the peer gave the identifier back.
    pub(crate) fn complete(&mut self, id: PacketId, reason: ReasonCode, out: &mut Output) {
        if self.inbound.complete(id) && self.link.is_some() {
            self.write_ack(PacketType::Pubcomp, Ack::new(id, reason), out);
        }
    }
}
