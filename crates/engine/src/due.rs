//! What is due when: one list of deadlines for a worker, each checked again when its time comes.
//!
//! Nothing is ever taken out early. A deadline that moved (every packet moves a keep alive) or that no longer holds is
//! found out when it fires, so a packet costs no timer work at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use viaduct_codec::Time;

use crate::key::SessionKey;

/// What may have to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// When to look whether a connected client has been silent for too long.
    KeepAlive(SessionKey),
    /// When to publish a delayed will.
    Will(SessionKey),
    /// When a session without a connection ends.
    SessionExpiry(SessionKey),
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

    /// Takes the first deadline if it has come.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_before_their_time() {
        let key = SessionKey { worker: 0, index: 1, generation: 2 };
        let mut due = Due::default();
        due.at(Time::from_millis(20), Timer::Will(key));
        due.at(Time::from_millis(10), Timer::KeepAlive(key));
        assert_eq!(due.next(), Some(Time::from_millis(10)));
        assert_eq!(due.pop(Time::from_millis(9)), None);
        assert_eq!(due.pop(Time::from_millis(30)), Some(Timer::KeepAlive(key)));
        assert_eq!(due.pop(Time::from_millis(30)), Some(Timer::Will(key)));
        assert_eq!(due.pop(Time::from_millis(30)), None);
    }
}
