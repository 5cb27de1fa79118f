//! Retained messages on their way to a new subscription: a few at a time, as fast as the session takes them, and on the next
//! connection what the last one did not.

use std::sync::Arc;

use viaduct_codec::{Message, QoS, Time, VarInt};
use viaduct_session::Delivery;

use crate::Engine;
use crate::limits::{REPLAY_CHUNK, REPLAY_QUEUE, REPLAYS};
use crate::retained::{RetainedMessages, Walk};

/// One subscription's retained messages, as far as they are still to come.
#[derive(Debug)]
pub(crate) struct Replay {
    walk: Walk,
    qos: QoS,
    id: Option<VarInt>,
    checked: bool,
}

impl Replay {
    /// Whether it answers the subscription to `filter`.
    pub(crate) fn is_for(&self, filter: viaduct_codec::FilterRef<'_>) -> bool {
        self.walk.is_for(filter)
    }
}

impl Engine {
    /// Owes the session at `index` what is retained for `filter` (with the mountpoint, without a share name).
    pub(crate) fn owe_retained(
        &mut self,
        index: usize,
        filter: viaduct_codec::FilterRef<'_>,
        qos: QoS,
        id: Option<VarInt>,
        checked: bool,
    ) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        let replays = slot.replays.get_or_insert_default();
        if replays.len() < REPLAYS {
            replays.push(Replay { walk: RetainedMessages::walk(filter), qos, id, checked });
        } else {
            self.stats.dropped(crate::stats::Dropped::RetainedLimit, 1);
        }
    }

    /// Hands on what the session at `index` can take now.
    pub(crate) fn replay(&mut self, now: Time, index: usize) {
        loop {
            let Some(slot) = self.sessions.get_mut(index) else { return };
            // A queue that is shorter than the pause allows for must not overflow either.
            let most = REPLAY_QUEUE.min(slot.terms.queue.max_messages.max(1));
            let room = most.saturating_sub(slot.session.queued().0);
            let may_go = room > 0 && slot.connection().is_some();
            let slice = slot.slice();
            let Some(replays) = slot.replays.as_mut().filter(|_| may_go) else { return };
            let Some(replay) = replays.first_mut() else { return };
            let mut found: Vec<Arc<Message>> = Vec::new();
            let more = self.shared.retained.step(&mut replay.walk, REPLAY_CHUNK.min(room), &mut found);
            let (qos, id, checked) = (replay.qos, replay.id, replay.checked);
            if !more {
                replays.remove(0);
                if replays.is_empty() {
                    slot.replays = None; // An idle session holds no list.
                }
            }
            for message in found {
                let is_ours = slice.has(message.topic.as_str());
                if !is_ours || message.is_expired(now) || (checked && !self.may_read(index, &message)) {
                    continue;
                }
                let qos = qos.min(message.qos);
                // Retained messages that answer a subscription carry RETAIN 1 (MQTT-3.3.1-8 of 3.1.1).
                let ids = id.into_iter().collect();
                self.hand_over(now, index, Delivery { message, qos, retain: true, ids, group: None, kept: None });
            }
        }
    }
}
