//! What this end sent with QoS 1 and 2 and the peer has not acknowledged: in the order of sending, for as long as it takes.
//!
//! ```text
//!            PUBLISH qos 1 --> Puback --- PUBACK ----------------------> over
//!            PUBLISH qos 2 --> Pubrec --- PUBREC < 0x80, PUBREL --> Pubcomp --- PUBCOMP --> over
//!                                  `---- PUBREC >= 0x80 --------------------------------> over
//! ```
//! A cut connection leaves every exchange where it is. On the next one they are sent again from the first, as many as the
//! window allows, and only then anything new (MQTT-4.4.0-1, MQTT-4.4.0-1 of 3.1.1, MQTT-4.6.0-1, MQTT-4.6.0-1 of 3.1.1):
//! so the peer never has more open than it takes, repetitions included.

use std::collections::VecDeque;

use viaduct_codec::{PacketId, QoS};

use crate::delivery::Delivery;
use crate::limits::IDLE_CAPACITY;

#[derive(Debug, Default)]
pub(crate) struct Outbound {
    exchanges: VecDeque<Exchange>,
    /// How many of `exchanges`, from the first, were sent on this connection. The others wait to be sent again.
    here: usize,
    /// How many may be open on this connection.
    window: u16,
}

/// One message on its way: unacknowledged until the peer answers (MQTT-4.3.2-3, MQTT-4.3.2-1 of 3.1.1, MQTT-4.3.3-3), and
/// whatever its expiry says meanwhile (MQTT-4.3.3-7).
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) id: PacketId,
    pub(crate) delivery: Delivery,
    pub(crate) awaits: Awaits,
    /// The caller's name for it.
    pub(crate) token: u64,
}

/// What the peer has to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    Puback,
    Pubrec,
    Pubcomp,
}

impl Outbound {
    /// A new connection, on which `window` messages may be open. Everything is to be sent again.
    pub(crate) fn attach(&mut self, window: u16) {
        self.window = window;
        self.here = 0;
    }

    /// Messages that are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether a new message may be sent: everything older was, and the window has room (MQTT-3.3.4-9, MQTT-4.9.0-1).
    pub(crate) fn is_open(&self) -> bool {
        self.here == self.exchanges.len() && self.here < usize::from(self.window)
    }

    /// The next exchange that is to be sent again, if the window has room for it; it counts as sent.
    pub(crate) fn next_again(&mut self) -> Option<&Exchange> {
        if self.here >= usize::from(self.window) {
            return None;
        }
        let exchange = self.exchanges.get(self.here)?;
        self.here += 1;
        Some(exchange)
    }

    /// A new message was sent. Only when [`Outbound::is_open`].
    pub(crate) fn sent(&mut self, id: PacketId, delivery: Delivery, token: u64) {
        let awaits = if delivery.qos == QoS::ExactlyOnce { Awaits::Pubrec } else { Awaits::Puback };
        self.exchanges.push_back(Exchange { id, delivery, awaits, token });
        self.here += 1;
    }

    /// The exchange with this identifier, and its place. Answers come in order, so it is nearly always the first.
    pub(crate) fn find(&mut self, id: PacketId) -> Option<(usize, &mut Exchange)> {
        self.exchanges.iter_mut().enumerate().find(|(_, exchange)| exchange.id == id)
    }

    /// The exchange at `place` is over, for good (MQTT-4.4.0-2; of a share group as well, MQTT-4.8.2-6), and with it its place in the window.
    pub(crate) fn finish(&mut self, place: usize) -> Option<Exchange> {
        let exchange = self.exchanges.remove(place)?;
        self.here -= usize::from(place < self.here);
        if self.exchanges.is_empty() && self.exchanges.capacity() > IDLE_CAPACITY {
            self.exchanges = VecDeque::new();
        }
        Some(exchange)
    }

    /// Gives up everything, in order.
    pub(crate) fn clear(&mut self) -> VecDeque<Exchange> {
        self.here = 0;
        std::mem::take(&mut self.exchanges)
    }

    /// Takes the QoS 1 messages of share groups that were not acknowledged. QoS 2 stays with the member that it began
    /// with (MQTT-4.8.2-4, MQTT-4.8.2-5).
    pub(crate) fn take_shared(&mut self) -> Vec<Exchange> {
        let (taken, kept): (VecDeque<_>, _) = std::mem::take(&mut self.exchanges)
            .into_iter()
            .partition(|exchange| exchange.delivery.group.is_some() && exchange.awaits == Awaits::Puback);
        self.exchanges = kept;
        self.here = self.here.min(self.exchanges.len());
        taken.into()
    }
}

impl Exchange {
    /// Whether the peer has said that it owns the message.
    pub(crate) fn is_received(&self) -> bool {
        self.awaits == Awaits::Pubcomp
    }
}
