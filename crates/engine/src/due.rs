//! What is due when: one list of deadlines for a worker, each checked again when its time comes.
//!
//! A session has one deadline here, the first of all that concern it, and it is not moved when they do: every packet moves a
//! keep alive, and every reconnect ends a session expiry. What no longer holds is found out when it fires, so a packet costs
//! no timer work at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use viaduct_codec::Time;

use crate::key::SessionKey;

/// What may have to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// When to look at keep alive, delayed will and expiry of a session.
    Session(SessionKey),
    /// When to try again to read what a session can send next.
    Page(SessionKey),
    /// When to look for expired retained messages.
    RetainedExpiry,
}

/// Deadlines in order.
#[derive(Debug, Default)]
pub(crate) struct Due {
    heap: BinaryHeap<Reverse<(Time, Timer)>>,
}

impl Due {
    pub(crate) fn at(&mut self, time: Time, timer: Timer) {
        self.heap.push(Reverse((time, timer)));
    }

    /// The first deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((time, _))| *time)
    }

    /// Takes the first deadline if it has come, with its time.
    pub(crate) fn pop(&mut self, now: Time) -> Option<(Time, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets the deadlines that `is_live` does not know any more.
    pub(crate) fn retain(&mut self, is_live: impl Fn(Time, Timer) -> bool) {
        self.heap.retain(|Reverse((time, timer))| is_live(*time, *timer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_before_their_time() {
        let key = SessionKey { worker: 0, index: 1, generation: 2 };
        let at = Time::from_millis;
        let mut due = Due::default();
        due.at(at(20), Timer::RetainedExpiry);
        due.at(at(10), Timer::Session(key));
        assert_eq!(due.next(), Some(at(10)));
        assert_eq!(due.pop(at(9)), None);
        assert_eq!(due.pop(at(30)), Some((at(10), Timer::Session(key))));
        assert_eq!(due.pop(at(30)), Some((at(20), Timer::RetainedExpiry)));
        assert_eq!(due.pop(at(30)), None);
    }
}
