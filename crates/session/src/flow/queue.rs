//! Messages that wait for a window, a socket or a connection: bounded in number and bytes.
//!
//! QoS 0 waits apart from QoS 1 and 2, since it needs no window and must not wait for one (MQTT-4.9.0-2). Order is kept
//! within each of the two, which is what the standard promises: per topic and QoS (MQTT-4.6.0-5, MQTT-4.6.0-5 of 3.1.1,
//! MQTT-4.6.0-6, MQTT-4.6.0-6 of 3.1.1). What waits for somebody who is away is session state (MQTT-3.1.2-5 of 3.1.1).
//!
//! ```text
//!     rest (messages, to be sent next)  <--  backlog (places in the store)  <--  recent (messages, not long here)
//! ```
//! What the store keeps is held in memory only near the two ends of a long queue: a million messages that wait are
//! some megabytes of numbers, and are read again a page at a time.

use std::collections::VecDeque;

use viaduct_codec::{Backlog, QoS, Stub, Time};

use crate::delivery::{Counts, Delivered, Delivery, DropReason, OnFull, QueueLimits};
use crate::limits::{PAGE, QUEUED_HERE};

/// Empty in most sessions most of the time, and then it is nothing but the place for it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    zero: VecDeque<Delivery>,
    rest: VecDeque<Delivery>,
    backlog: Option<Backlog>,
    recent: VecDeque<Delivery>,
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
        self.waiting.as_ref().is_some_and(|waiting| waiting.kept() > 0)
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
            let too_many = delivery.qos > QoS::AtMostOnce && waiting.kept() >= limits.max_messages;
            if !too_many && waiting.bytes + size <= limits.max_bytes {
                break;
            }
            match limits.on_full {
                OnFull::Disconnect if connected => return Delivered::Overflow,
                OnFull::Disconnect | OnFull::DropNewest => return Delivered::Dropped(DropReason::QueueFull),
                OnFull::DropOldest => {
                    let made_room = if too_many { waiting.drop_oldest() } else { waiting.drop_for(delivery.qos) };
                    if !made_room {
                        *displaced += gone;
                        return Delivered::Dropped(DropReason::QueueFull);
                    }
                    gone += 1;
                }
            }
        }
        waiting.bytes += size;
        if delivery.qos == QoS::AtMostOnce {
            waiting.zero.push_back(delivery);
        } else {
            waiting.push_rest(delivery);
        }
        if gone == 0 {
            return Delivered::Queued;
        }
        *displaced += gone - 1;
        Delivered::Dropped(DropReason::QueueFull)
    }

    /// Holds no more in memory than has to be there: nobody is going to take it soon.
    pub(crate) fn shed(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.shed(0);
        }
    }

    /// Whether what comes now waits in the store alone: behind others that do.
    pub(crate) fn is_in_store(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.backlog.is_some() && waiting.recent.is_empty())
    }

    /// Whether the limits have room for `count` messages more, of this many bytes.
    pub(crate) fn has_room(&self, count: usize, bytes: usize, limits: &QueueLimits) -> bool {
        let (_, held) = self.size();
        let kept = self.waiting.as_ref().map_or(0, |waiting| waiting.kept());
        count <= limits.max_messages.saturating_sub(kept) && bytes <= limits.max_bytes.saturating_sub(held)
    }

    /// Adds what waits in the store alone, as [`Backlog::extend`] does; `false`, and nothing is added, when others do not ([`Queue::is_in_store`]).
    pub(crate) fn push_stubs(&mut self, first: u64, index: u32, sizes: impl ExactSizeIterator<Item = u32>) -> bool {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.recent.is_empty()) else { return false };
        let Some(backlog) = &mut waiting.backlog else { return false };
        let bytes = &mut waiting.bytes;
        backlog.extend(first, index, sizes.inspect(|size| *bytes += *size as usize));
        true
    }

    /// The next QoS 0 message that is not expired and not too old; those that are, are counted.
    pub(crate) fn pop_qos0(&mut self, now: Time, limits: &QueueLimits, counts: &mut Counts) -> Option<Delivery> {
        self.pop(|waiting| &mut waiting.zero, now, limits, counts)
    }

    /// As [`Queue::pop_qos0`] for QoS 1 and 2.
    pub(crate) fn pop_rest(&mut self, now: Time, limits: &QueueLimits, counts: &mut Counts) -> Option<Delivery> {
        self.pop(|waiting| waiting.front(), now, limits, counts)
    }

    /// Whether the next message of QoS 1 or 2 has to be read first.
    pub(crate) fn waits_for_page(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.rest.is_empty() && waiting.backlog.is_some())
    }

    /// The places of the next messages, when those have to be read before anything can be sent. They come back with
    /// [`Queue::page_in`], as far as they could be read, before anything else is asked of the queue.
    pub(crate) fn page_out(&mut self) -> Vec<Stub> {
        let Some(waiting) = &mut self.waiting else { return Vec::new() };
        if !waiting.rest.is_empty() {
            return Vec::new();
        }
        let stubs = waiting.backlog.as_mut().map_or_else(Vec::new, |backlog| backlog.pop_front(PAGE));
        waiting.bytes -= stubs.iter().map(|stub| stub.size as usize).sum::<usize>();
        stubs
    }

    /// The places of the oldest messages of an earlier process, if some there came by a share group; none when there are no
    /// more. They are not in the queue any more.
    pub(crate) fn take_page_of_shared(&mut self) -> Vec<Stub> {
        let Some(waiting) = &mut self.waiting else { return Vec::new() };
        let Some(backlog) = waiting.backlog.as_mut().filter(|backlog| backlog.has_shared()) else { return Vec::new() };
        let stubs = backlog.pop_front(PAGE);
        waiting.bytes -= stubs.iter().map(|stub| stub.size as usize).sum::<usize>();
        if backlog.is_empty() {
            waiting.backlog = None;
        }
        self.settle();
        stubs
    }

    /// What was read of [`Queue::page_out`], in order, and behind it what has to be read another time.
    pub(crate) fn page_in(&mut self, page: Vec<Delivery>, unread: &[Stub]) {
        let Some(waiting) = &mut self.waiting else { return };
        waiting.bytes += page.iter().map(|delivery| delivery.message.size()).sum::<usize>();
        waiting.bytes += unread.iter().map(|stub| stub.size as usize).sum::<usize>();
        waiting.rest.extend(page);
        if let Some(backlog) = &mut waiting.backlog {
            backlog.push_front(unread);
            if backlog.is_empty() {
                waiting.backlog = None;
            }
        }
        self.settle();
    }

    /// What waited in an earlier process.
    pub(crate) fn restore(&mut self, backlog: Backlog) {
        if !backlog.is_empty() {
            let waiting = self.waiting.get_or_insert_default();
            waiting.bytes += usize::try_from(backlog.bytes()).unwrap_or(usize::MAX);
            waiting.backlog = Some(backlog);
        }
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

    /// Forgets what is in the store, and takes out the rest.
    pub(crate) fn leave(&mut self) -> VecDeque<Delivery> {
        let Some(waiting) = self.waiting.take() else { return VecDeque::new() };
        let Waiting { mut rest, backlog, recent, .. } = *waiting;
        if let Some(backlog) = backlog {
            backlog.leave();
        }
        rest.extend(recent);
        rest
    }

    /// Takes what came by a share group: by `group`, or by any.
    pub(crate) fn take_shared(&mut self, group: Option<&str>, taken: &mut Vec<Delivery>) {
        let is_meant = |delivery: &Delivery| match (&delivery.group, group) {
            (Some(own), Some(group)) => **own == *group,
            (own, None) => own.is_some(),
            (None, Some(_)) => false,
        };
        let Some(waiting) = &mut self.waiting else { return };
        for queue in [&mut waiting.rest, &mut waiting.recent, &mut waiting.zero] {
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
        counts: &mut Counts,
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
            if delivery.message.is_expired(now) {
                counts.expired += 1;
            } else if limits.max_age.is_some_and(|max| waited >= max) {
                counts.too_old += 1;
            } else {
                return Some(delivery);
            }
        }
    }
    /// Gives the memory back when nothing waits.
    fn settle(&mut self) {
        self.waiting.take_if(|waiting| waiting.size().0 == 0);
    }
}

impl Waiting {
    fn size(&self) -> (usize, usize) {
        let backlog = self.backlog.as_ref().map_or(0, Backlog::len);
        (self.zero.len() + self.rest.len() + backlog + self.recent.len(), self.bytes)
    }

    fn push_rest(&mut self, delivery: Delivery) {
        if self.backlog.is_none() && self.recent.is_empty() && self.rest.len() < QUEUED_HERE {
            return self.rest.push_back(delivery);
        }
        self.recent.push_back(delivery);
        self.shed(QUEUED_HERE);
    }

    /// Gives up the memory of all but the last `few` of the recent ones, as far as they can be read back.
    fn shed(&mut self, few: usize) {
        while self.recent.len() > few
            && let Some(first) = self.recent.front_mut()
            && first.group.is_none() // It may have to go to another member of its group.
            && let Ok(size) = u32::try_from(first.message.size())
            && let Some(place) = first.kept.take()
        {
            let empty = if self.backlog.is_none() { Some(place.backlog()) } else { None };
            match place.into_stub(size) {
                Ok(stub) => {
                    if empty.is_some() {
                        self.backlog = empty;
                    }
                    self.backlog.iter_mut().for_each(|backlog| backlog.push_back(stub));
                    self.recent.pop_front();
                }
                Err(place) => {
                    first.kept = Some(place);
                    return;
                }
            }
        }
    }

    /// What is sent next of QoS 1 and 2; empty when it has to be read first.
    fn front(&mut self) -> &mut VecDeque<Delivery> {
        if self.rest.is_empty() && self.backlog.is_none() {
            std::mem::swap(&mut self.rest, &mut self.recent);
        }
        &mut self.rest
    }

    /// Gives up what has to go for a newcomer of `qos`; `false` when there is none: the oldest of QoS 0, and for one of QoS 1 or 2 the oldest of those, but
    /// never QoS 1 or 2 for QoS 0.
    fn drop_for(&mut self, qos: QoS) -> bool {
        match self.zero.pop_front() {
            Some(oldest) => {
                self.bytes -= oldest.message.size();
                true
            }
            None => qos > QoS::AtMostOnce && self.drop_oldest(),
        }
    }

    /// Gives up the oldest of QoS 1 and 2; `false` when there is none.
    fn drop_oldest(&mut self) -> bool {
        if let Some(oldest) = self.front().pop_front() {
            self.bytes -= oldest.message.size();
            return true;
        }
        let Some(backlog) = &mut self.backlog else { return false };
        let first = backlog.pop_front(1);
        backlog.settle(&first);
        self.bytes -= first.iter().map(|stub| stub.size as usize).sum::<usize>();
        if backlog.is_empty() {
            self.backlog = None;
        }
        !first.is_empty()
    }

    /// Messages of QoS 1 and 2.
    fn kept(&self) -> usize {
        self.size().0 - self.zero.len()
    }
}
