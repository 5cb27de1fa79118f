//! Messages that wait for a window, a socket or a connection: bounded in number and bytes.
//!
//! QoS 0 waits apart from QoS 1 and 2, since it needs no window and must not wait for one (MQTT-4.9.0-2). Order is kept
//! within each of the two, which is what the standard promises: per topic and QoS (MQTT-4.6.0-5, MQTT-4.6.0-5 of 3.1.1,
//! MQTT-4.6.0-6, MQTT-4.6.0-6 of 3.1.1). What waits for somebody who is away is session state (MQTT-3.1.2-5 of 3.1.1).

use std::collections::VecDeque;

use viaduct_codec::{QoS, Time};

use crate::delivery::{Delivered, Delivery, DropReason, OnFull, QueueLimits};

/// Empty in most sessions most of the time, and then it is nothing but the place for it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    zero: VecDeque<Delivery>,
    rest: VecDeque<Delivery>,
    bytes: usize,
}

impl Queue {
    /// Messages and bytes that wait.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.waiting.as_ref().map_or((0, 0), |waiting| waiting.size())
    }

    pub(crate) fn has_qos0(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.zero.is_empty())
    }

    pub(crate) fn has_rest(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.rest.is_empty())
    }

    /// Adds a message, as the limits allow. `connected` decides what `OnFull::Disconnect` means; `displaced` counts what
    /// was given up beyond the one message that [`Delivered::Dropped`] stands for.
    pub(crate) fn push(
        &mut self,
        delivery: Delivery,
        limits: &QueueLimits,
        connected: bool,
        displaced: &mut u32,
    ) -> Delivered {
        let size = delivery.message.size();
        if limits.max_messages == 0 || size > limits.max_bytes {
            return Delivered::Dropped(DropReason::QueueFull); // An empty queue would not help it either.
        }
        let waiting = self.waiting.get_or_insert_default();
        let mut gone = 0_u32;
        loop {
            // QoS 0 is bounded by its bytes alone: a burst of small messages is no reason to lose any.
            let too_many = delivery.qos > QoS::AtMostOnce && waiting.rest.len() >= limits.max_messages;
            if !too_many && waiting.bytes + size <= limits.max_bytes {
                break;
            }
            match limits.on_full {
                OnFull::Disconnect if connected => return Delivered::Overflow,
                OnFull::Disconnect | OnFull::DropNewest => return Delivered::Dropped(DropReason::QueueFull),
                OnFull::DropOldest => {
                    let oldest = if too_many { waiting.rest.pop_front() } else { waiting.pop_for(delivery.qos) };
                    let Some(oldest) = oldest else {
                        *displaced += gone;
                        return Delivered::Dropped(DropReason::QueueFull);
                    };
                    waiting.bytes -= oldest.message.size();
                    gone += 1;
                }
            }
        }
        waiting.bytes += size;
        if delivery.qos == QoS::AtMostOnce {
            waiting.zero.push_back(delivery);
        } else {
            waiting.rest.push_back(delivery);
        }
        if gone == 0 {
            return Delivered::Queued;
        }
        *displaced += gone - 1;
        Delivered::Dropped(DropReason::QueueFull)
    }

    /// The next QoS 0 message that is not expired and not too old; those that are, are counted in `expired`.
    pub(crate) fn pop_qos0(&mut self, now: Time, limits: &QueueLimits, expired: &mut u32) -> Option<Delivery> {
        self.pop(|waiting| &mut waiting.zero, now, limits, expired)
    }

    /// As [`Queue::pop_qos0`] for QoS 1 and 2.
    pub(crate) fn pop_rest(&mut self, now: Time, limits: &QueueLimits, expired: &mut u32) -> Option<Delivery> {
        self.pop(|waiting| &mut waiting.rest, now, limits, expired)
    }

    /// Gives up what is QoS 0: it is for a connection, not for a session.
    pub(crate) fn clear_qos0(&mut self) {
        let Some(waiting) = &mut self.waiting else { return };
        waiting.bytes -= waiting.zero.iter().map(|delivery| delivery.message.size()).sum::<usize>();
        waiting.zero = VecDeque::new();
        self.settle();
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes what came by a share group: by `group`, or by any.
    pub(crate) fn take_shared(&mut self, group: Option<&str>, taken: &mut Vec<Delivery>) {
        let is_meant = |delivery: &Delivery| match (&delivery.group, group) {
            (Some(own), Some(group)) => **own == *group,
            (own, None) => own.is_some(),
            (None, Some(_)) => false,
        };
        let Some(waiting) = &mut self.waiting else { return };
        for queue in [&mut waiting.rest, &mut waiting.zero] {
            if queue.iter().any(is_meant) {
                let (meant, kept) = std::mem::take(queue).into_iter().partition(is_meant);
                *queue = kept;
                let meant: VecDeque<Delivery> = meant;
                waiting.bytes -= meant.iter().map(|delivery| delivery.message.size()).sum::<usize>();
                taken.extend(meant);
            }
        }
        self.settle();
    }

    fn pop(
        &mut self,
        which: impl Fn(&mut Waiting) -> &mut VecDeque<Delivery>,
        now: Time,
        limits: &QueueLimits,
        expired: &mut u32,
    ) -> Option<Delivery> {
        loop {
            let waiting = self.waiting.as_deref_mut()?;
            let queue = which(waiting);
            let delivery = queue.pop_front()?;
            if queue.is_empty() {
                *queue = VecDeque::new(); // An idle session holds no buffer.
            }
            waiting.bytes -= delivery.message.size();
            self.settle();
            let waited = now.since(delivery.message.received);
            if !delivery.message.is_expired(now) && limits.max_age.is_none_or(|max| waited < max) {
                return Some(delivery);
            }
            *expired += 1;
        }
    }
    /// Gives the memory back when nothing waits.
    fn settle(&mut self) {
        self.waiting.take_if(|waiting| waiting.zero.is_empty() && waiting.rest.is_empty());
    }
}

impl Waiting {
    fn size(&self) -> (usize, usize) {
        (self.zero.len() + self.rest.len(), self.bytes)
    }

    /// What has to go for a newcomer of `qos`: the oldest of QoS 0, and for one of QoS 1 or 2 the oldest of those, but
    /// never QoS 1 or 2 for QoS 0.
    fn pop_for(&mut self, qos: QoS) -> Option<Delivery> {
        let rest = if qos == QoS::AtMostOnce { None } else { Some(&mut self.rest) };
        self.zero.pop_front().or_else(|| rest?.pop_front())
    }
}
