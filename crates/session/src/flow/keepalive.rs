//! Keep alive: how long silence is allowed (MQTT-3.1.2-22, MQTT-3.1.2-24 of 3.1.1).

use std::time::Duration;

use viaduct_codec::Time;

/// The clock of one direction: when the last packet went by, and how long the silence after it may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepAlive {
    last: Time,
    /// Milliseconds; 0 for as long as it likes.
    allowed: u32,
}

impl KeepAlive {
    /// The server's view: one and a half intervals from the last complete packet of the client; 0 turns it off.
    pub(crate) fn server(seconds: u16, now: Time) -> Self {
        Self { last: now, allowed: u32::from(seconds) * 1500 }
    }

    /// The client's view: one interval from its own last packet, when a PINGREQ is due.
    pub(crate) fn client(seconds: u16, now: Time) -> Self {
        Self { last: now, allowed: u32::from(seconds) * 1000 }
    }

    /// A packet went by.
    pub(crate) fn touch(&mut self, now: Time) {
        self.last = now;
    }

    /// When the silence has been too long; `None` when it never is.
    pub(crate) fn deadline(&self) -> Option<Time> {
        (self.allowed > 0).then(|| self.last.after(Duration::from_millis(u64::from(self.allowed))))
    }

    pub(crate) fn is_overdue(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}
