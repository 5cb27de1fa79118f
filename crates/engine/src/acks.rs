//! Acknowledgements that wait until the store has what they promise.
//!
//! PUBACK and PUBREC leave in the order in which the messages came (MQTT-4.6.0-2, MQTT-4.6.0-2 of 3.1.1,
//! MQTT-4.6.0-3, MQTT-4.6.0-3 of 3.1.1) and when the message is owned (MQTT-4.3.2-4, MQTT-4.3.3-8), so while one waits, all later
//! ones of this worker wait behind it.

use std::collections::VecDeque;

use viaduct_codec::{PacketId, QoS, ReasonCode, Time};
use viaduct_store::{Accepted, Ticket};

use crate::Engine;
use crate::key::SessionKey;

#[derive(Debug, Default)]
pub(crate) struct PendingAcks {
    waiting: VecDeque<(Ticket, Ack)>,
}

/// The answer to one inbound PUBLISH of QoS 1 or 2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) session: SessionKey,
    pub(crate) packet_id: PacketId,
    pub(crate) qos: QoS,
    pub(crate) reason: ReasonCode,
}

impl Engine {
    /// Acknowledges at once, or when the store has it.
    pub(crate) fn acknowledge(&mut self, ack: Ack, accepted: Accepted) {
        let last = self.acks.waiting.back().map(|(ticket, _)| *ticket);
        match (accepted, last) {
            (Accepted::Pending(ticket), _) => self.acks.waiting.push_back((ticket, ack)),
            (Accepted::Safe, Some(ticket)) => self.acks.waiting.push_back((ticket, ack)),
            (Accepted::Safe, None) => self.send_ack(ack),
        }
    }

    /// Sends what became safe. To be called when the store has made progress.
    pub fn handle_committed(&mut self, now: Time) {
        self.release_acks(now);
    }

    pub(crate) fn release_acks(&mut self, _now: Time) {
        let Some(safe) = self.store.poll_committed() else { return };
        while self.acks.waiting.front().is_some_and(|(ticket, _)| *ticket <= safe) {
            if let Some((_, ack)) = self.acks.waiting.pop_front() {
                self.send_ack(ack);
            }
        }
    }

    fn send_ack(&mut self, ack: Ack) {
        if let Some(index) = self.sessions.find(ack.session) {
            self.with_session(index, |session, output| {
                session.acknowledge(ack.packet_id, ack.qos, ack.reason, None, output);
            });
        }
    }
}
