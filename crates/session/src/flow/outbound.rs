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

use crate::delivery::{Delivery, Hold};
use crate::limits::IDLE_CAPACITY;

#[derive(Debug, Default)]
pub(crate) struct Outbound {
    exchanges: VecDeque<Exchange>,
    /// How many of `exchanges`, from the first, were sent on this connection. The others wait to be sent again.
    here: u16,
    /// How many of those were written, from the first. The others stand behind one that waits for the store: what was handed
    /// over first goes out first.
    written: u16,
    /// How many may be open on this connection.
    window: u16,
    /// How many more are open on this connection, which somebody else keeps.
    lent: u16,
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
    /// What is to be sent next waits until the store knows of it, or until its owner lets it go: after a crash it must be known
    /// what the peer may have.
    pub(crate) held: Option<Hold>,
    /// PUBLISH went out before, so that the next one is a repetition.
    pub(crate) is_tried: bool,
}

/// When a new message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It was.
    Now,
    /// When those before it are.
    InTurn,
    /// When the store knows of it, and those before it are.
    WhenStored(Hold),
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
        self.written = 0;
        self.lent = 0;
    }

    /// Messages that are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether a new message may be sent: everything older was, and the window has room (MQTT-3.3.4-9, MQTT-4.9.0-1).
    pub(crate) fn is_open(&self) -> bool {
        usize::from(self.here) == self.exchanges.len()
            && u32::from(self.here) + u32::from(self.lent) < self.window.into()
    }

    /// How many new messages may be sent.
    pub(crate) fn room(&self) -> usize {
        if usize::from(self.here) != self.exchanges.len() {
            return 0;
        }
        usize::from(self.window).saturating_sub(usize::from(self.here) + usize::from(self.lent))
    }

    /// So many messages of QoS 1 are sent, and kept by somebody else. No more than there is room for.
    pub(crate) fn lend(&mut self, count: usize) {
        self.lent += u16::try_from(count).unwrap_or(u16::MAX);
    }

    /// So many of these are over.
    pub(crate) fn give_back(&mut self, count: u16) {
        self.lent = self.lent.saturating_sub(count);
    }

    /// One of these is kept here from now on, among the others by the order of tokens, which is that of sending.
    pub(crate) fn adopt(&mut self, id: PacketId, delivery: Delivery, token: u64) {
        self.give_back(1);
        let place = self.exchanges.partition_point(|exchange| exchange.token < token);
        let awaits = Awaits::Puback;
        self.exchanges.insert(place, Exchange { id, delivery, awaits, token, held: None, is_tried: true });
        self.here += 1;
        self.written += 1;
    }

    /// One of these is kept here from now on, behind all others: it went out after them, on this connection.
    pub(crate) fn adopt_last(&mut self, id: PacketId, delivery: Delivery) {
        self.give_back(1);
        let awaits = Awaits::Puback;
        self.exchanges.push_back(Exchange { id, delivery, awaits, token: 0, held: None, is_tried: true });
        self.here += 1;
        self.written += 1;
    }

    /// An exchange of an earlier process: the peer may have the PUBLISH.
    pub(crate) fn restore(&mut self, id: PacketId, delivery: Delivery, is_received: bool) {
        let awaits = match delivery.qos {
            QoS::ExactlyOnce if is_received => Awaits::Pubcomp,
            QoS::ExactlyOnce => Awaits::Pubrec,
            _ => Awaits::Puback,
        };
        self.exchanges.push_back(Exchange { id, delivery, awaits, token: 0, held: None, is_tried: true });
    }

    /// All that is open, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter()
    }

    /// Whether the exchange at `place` was written on this connection.
    pub(crate) fn is_written(&self, place: usize) -> bool {
        place < usize::from(self.written)
    }

    /// Takes the next exchange that is to be sent again into this connection, if the window has room for it; `false` when
    /// there is none.
    pub(crate) fn take_again(&mut self) -> bool {
        let is_there = self.here < self.window && usize::from(self.here) < self.exchanges.len();
        self.here += u16::from(is_there);
        is_there
    }

    /// Whether a new message would be the next to be written.
    pub(crate) fn is_next_new(&self) -> bool {
        usize::from(self.written) == self.exchanges.len()
    }

    /// The next exchange to be written on this connection, held or not.
    pub(crate) fn next_unwritten(&self) -> Option<&Exchange> {
        if self.written >= self.here {
            return None;
        }
        self.exchanges.get(usize::from(self.written))
    }

    /// The exchange that [`Outbound::next_unwritten`] named was written.
    pub(crate) fn wrote(&mut self) {
        self.written += 1;
    }

    /// A new message was sent, or waits until it may be; `dup`: as a repetition. Only when [`Outbound::is_open`].
    pub(crate) fn sent(&mut self, (id, dup): (PacketId, bool), delivery: Delivery, token: u64, written: Written) {
        let awaits = if delivery.qos == QoS::ExactlyOnce { Awaits::Pubrec } else { Awaits::Puback };
        let is_written = written == Written::Now;
        self.exchanges.push_back(Exchange {
            id,
            delivery,
            awaits,
            token,
            held: if let Written::WhenStored(hold) = written { Some(hold) } else { None },
            is_tried: is_written || dup,
        });
        self.here += 1;
        self.written += u16::from(is_written);
    }

    /// The exchange with this identifier, and its place. Answers come in order, so it is nearly always the first.
    pub(crate) fn find(&mut self, id: PacketId) -> Option<(usize, &mut Exchange)> {
        self.exchanges.iter_mut().enumerate().find(|(_, exchange)| exchange.id == id)
    }

    /// The exchange at `place` is over, for good (MQTT-4.4.0-2; of a share group as well, MQTT-4.8.2-6), and with it its place in the window.
    pub(crate) fn finish(&mut self, place: usize) -> Option<Exchange> {
        // Much less work, and nearly always what it is.
        let exchange = if place == 0 { self.exchanges.pop_front() } else { self.exchanges.remove(place) }?;
        self.here -= u16::from(place < usize::from(self.here));
        self.written -= u16::from(place < usize::from(self.written));
        if self.exchanges.is_empty() && self.exchanges.capacity() > IDLE_CAPACITY {
            self.exchanges = VecDeque::new();
        }
        Some(exchange)
    }

    /// Gives up everything, in order.
    pub(crate) fn clear(&mut self) -> VecDeque<Exchange> {
        (self.here, self.written) = (0, 0);
        std::mem::take(&mut self.exchanges)
    }

    /// Takes the QoS 1 messages of share groups that were not acknowledged. QoS 2 stays with the member that it began
    /// with (MQTT-4.8.2-4, MQTT-4.8.2-5).
    pub(crate) fn take_shared(&mut self) -> Vec<Exchange> {
        let (taken, kept): (VecDeque<_>, _) = std::mem::take(&mut self.exchanges)
            .into_iter()
            .partition(|exchange| exchange.delivery.group.is_some() && exchange.awaits == Awaits::Puback);
        self.exchanges = kept;
        self.here = self.here.min(u16::try_from(self.exchanges.len()).unwrap_or(u16::MAX));
        self.written = self.written.min(self.here);
        taken.into()
    }
}

impl Exchange {
    /// Whether the peer has said that it owns the message.
    pub(crate) fn is_received(&self) -> bool {
        self.awaits == Awaits::Pubcomp
    }
}
