//! What a client's owner passes on, step by step, for somebody else: the exchanges of another conversation, under their packet
//! identifiers.
//!
//! In: PUBLISH under a given identifier, and when PUBREL and PUBCOMP may go. Out: when those of the server came. A QoS 2 exchange that goes
//! on like this begins and ends where it came from; so whoever stands in between may lose all it knows, and the two ends
//! carry on with each other. Must never: send PUBREL before the one that the message came from has let go of it, for then nobody knows any
//! more that it was there.

use viaduct_codec::{Ack, PacketId, PacketType, QoS, ReasonCode, Time};

use super::stale::Stale;
use super::{Client, PublishError};
use crate::delivery::Delivery;
use crate::flow;
use crate::output::Output;

/// The identifier that a message is published under, given by whoever it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Under {
    /// The identifier.
    pub id: PacketId,
    /// The server may have the message under it already, from an earlier process.
    pub dup: bool,
}

impl Client {
    /// From now on PUBREL waits for [`Client::release`] and PUBCOMP for [`Client::complete`]. Without `frees_ahead` an identifier of which
    /// nothing is known is freed when it is needed, and no other with it.
    pub fn relay(&mut self, frees_ahead: bool) {
        self.flow.relay();
        self.frees_each = !frees_ahead;
    }

    /// The next session is another server's: gives up what is open, as [`Client::forget`], and knows of no identifier what that one
    /// holds under it.
    pub fn begin_elsewhere(&mut self) {
        self.forget();
        self.stale = Some(Stale::default());
    }

    /// Gives up what was sent and is open, though the server may hold it.
    pub fn forget_sent(&mut self) {
        self.flow.forget_sent();
    }

    /// As [`Client::publish`], with QoS 1 or 2 and under this identifier.
    ///
    /// # Errors
    /// Nothing was sent, and why: [`PublishError::WindowFull`] also while something else goes under the identifier.
    pub fn publish_as(
        &mut self,
        now: Time,
        under: Under,
        delivery: Delivery,
        token: u64,
        out: &mut Output,
    ) -> Result<(), PublishError> {
        let Under { id, dup } = under;
        if !self.is_connected() || self.lost {
            return Err(PublishError::NotConnected);
        }
        if !self.flow.is_open() || self.flow.is_used(id) {
            return Err(PublishError::WindowFull);
        }
        if delivery.qos == QoS::ExactlyOnce {
            let may_go = if dup { !self.is_asked_to_free(id) } else { self.is_known_free(id, out) };
            if !may_go {
                return Err(PublishError::WindowFull);
            }
        }
        let is_exact = delivery.qos == QoS::ExactlyOnce;
        if let Err(flow::TooLarge) = self.flow.send_as(now, (id, dup), delivery, token, out) {
            if is_exact && dup {
                self.free(id, out); // The server may have it.
            }
            return Err(PublishError::TooLarge);
        }
        if let Some(stale) = self.stale.as_mut().filter(|_| is_exact) {
            stale.know(id);
        }
        self.meter.sent(now, token);
        Ok(())
    }

    /// Whoever the message under `id` came from has let go of it: PUBREL, at once or on the next connection. Nothing happens when
    /// [`Client::publish_as`] sent no such message, or the server has not said PUBREC.
    pub fn release(&mut self, now: Time, id: PacketId, out: &mut Output) {
        self.flow.release(now, id, out);
    }

    /// Whether the server is known to hold nothing under `id`, of which nothing is known here. If not, it is asked to free it, and
    /// [`Event::Freed`](super::Event::Freed) follows; on each connection anew. Only while connected.
    pub fn free(&mut self, id: PacketId, out: &mut Output) -> bool {
        let Some(stale) = self.stale.as_mut().filter(|stale| !stale.is_free(id)) else { return true };
        if stale.ask(id) {
            self.flow.write_ack(PacketType::Pubrel, Ack::new(id, ReasonCode::SUCCESS), out);
        }
        false
    }

    /// Answers a PUBREL ([`Event::Released`](super::Event::Released)) with PUBCOMP. Nothing happens when it came by an earlier connection: it
    /// comes again.
    pub fn complete(&mut self, id: PacketId, reason: ReasonCode, out: &mut Output) {
        self.flow.complete(id, reason, out);
    }

    fn is_asked_to_free(&self, id: PacketId) -> bool {
        self.stale.as_ref().is_some_and(|stale| stale.is_awaited(id))
    }
}
