//! What the peer sends with QoS 1 and 2: which identifiers are open, and how much of what was granted is used.
//!
//! QoS 2 identifiers are session state and stay until PUBREL, however often the connection is cut and whatever expires
//! meanwhile (MQTT-4.3.3-10, MQTT-4.3.3-2 of 3.1.1, MQTT-4.3.3-13). How much
//! of the receive maximum is used is counted anew on each connection.

use std::collections::VecDeque;

use hashbrown::HashMap;
use viaduct_codec::{PacketId, QoS};

use crate::limits::IDLE_CAPACITY;
use crate::violation::Violation;

#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// The receive maximum that was announced; 0 for 3.x, which has none.
    maximum: u16,
    /// The peer has no way to say that it has lost its session.
    is_mute: bool,
    /// QoS 1 messages of this connection that are not acknowledged yet, in order.
    qos1: VecDeque<PacketId>,
    /// QoS 2 messages until PUBREL.
    qos2: HashMap<PacketId, Received>,
    /// Of `qos2`, those that count on this connection.
    qos2_here: u32,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    /// PUBREC was sent.
    acknowledged: bool,
    /// It counts against the receive maximum of this connection.
    here: bool,
    /// PUBREL came, and PUBCOMP waits until the store knows of it.
    releasing: bool,
    /// PUBREL came on this connection, so PUBCOMP is due on it.
    asked: bool,
}

/// What a PUBREL is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// PUBCOMP: the identifier is free.
    Free,
    /// PUBCOMP that says that it was not in use.
    Unknown,
    /// Nothing yet; `first` when this PUBREL is the first.
    Held {
        /// The store is to be told.
        first: bool,
    },
}

/// What a PUBLISH of QoS 2 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// A new message.
    New,
    /// One that was received before: PUBREC again.
    Again,
    /// One that was received before and whose PUBREC is still to come.
    Pending,
}

impl Inbound {
    /// A new connection, on which `maximum` messages were granted; 0 for no limit. `is_mute`: a peer that has lost its
    /// session since the last one can't say so.
    pub(crate) fn attach(&mut self, maximum: u16, is_mute: bool) {
        self.maximum = maximum;
        self.is_mute = is_mute;
        self.detach();
    }

    /// The connection is over, and with it what was owed to it. QoS 2 messages stay, and what becomes of them meanwhile
    /// is told to the client when it repeats them.
    pub(crate) fn detach(&mut self) {
        self.qos1 = VecDeque::new();
        self.qos2_here = 0;
        if self.qos2.is_empty() {
            self.qos2 = HashMap::new();
        }
        for received in self.qos2.values_mut() {
            (received.here, received.asked) = (false, false);
        }
    }

    /// A QoS 2 message that an earlier process took: it is safe, so the answer to its repetition is PUBREC.
    pub(crate) fn restore(&mut self, id: PacketId) {
        self.qos2.insert(id, Received { acknowledged: true, here: false, releasing: false, asked: false });
    }

    /// A QoS 2 message of which nothing is known here, and of which somebody else may know: it is taken for one of an earlier process.
    pub(crate) fn restore_if_unknown(&mut self, id: PacketId) {
        if !self.qos2.contains_key(&id) {
            self.restore(id);
        }
    }

    /// The peer's session is gone, and so is what was open in it.
    pub(crate) fn clear(&mut self) {
        *self = Self { maximum: self.maximum, is_mute: self.is_mute, ..Self::default() };
    }

    /// Every QoS 1 PUBLISH is a new message, whatever its DUP says (MQTT-4.3.2-5, MQTT-4.3.2-2 of 3.1.1).
    pub(crate) fn publish1(&mut self, id: PacketId) -> Result<(), Violation> {
        self.qos1.push_back(id);
        self.check()
    }

    /// The same of several, no more than there is room for.
    pub(crate) fn take_plain(&mut self, ids: impl Iterator<Item = PacketId>) {
        self.qos1.extend(ids);
    }

    /// How many more messages may be open.
    pub(crate) fn room(&self) -> usize {
        if self.maximum == 0 {
            return usize::MAX;
        }
        usize::from(self.maximum).saturating_sub(self.open())
    }

    /// Whether there is no room for one more, and will be as soon as this end has answered what it was sent.
    pub(crate) fn owes_room(&self) -> bool {
        self.room() == 0 && !self.qos1.is_empty()
    }

    fn open(&self) -> usize {
        self.qos1.len() + self.qos2_here as usize
    }

    pub(crate) fn publish2(&mut self, id: PacketId, dup: bool) -> Result<Arrived, Violation> {
        // What is sent again on another connection says so (MQTT-3.3.1-1). What does not is new, and the peer has
        // forgotten the old one: dropped as a duplicate it would be lost.
        let forgot = self.is_mute && !dup;
        let arrived = match self.qos2.get_mut(&id).filter(|received| received.here || !forgot) {
            Some(received) => {
                self.qos2_here += u32::from(!std::mem::replace(&mut received.here, true));
                if received.acknowledged { Arrived::Again } else { Arrived::Pending }
            }
            None => {
                self.qos2.insert(id, Received { acknowledged: false, here: true, releasing: false, asked: false });
                self.qos2_here += 1;
                Arrived::New
            }
        };
        self.check().map(|()| arrived)
    }

    /// The answers to QoS 1 messages under `ids` are known, as far as these are the oldest that wait for one, in their order: how many.
    #[inline]
    pub(crate) fn acknowledge_in_turn(&mut self, ids: impl Iterator<Item = PacketId>) -> usize {
        let count = self.qos1.iter().zip(ids).take_while(|(open, id)| **open == *id).count();
        self.qos1.drain(..count);
        if self.qos1.is_empty() && self.qos1.capacity() > IDLE_CAPACITY {
            self.qos1 = VecDeque::new();
        }
        count
    }

    /// The answer to `id` is known; `false` when it must not be sent, because the message came by an earlier connection,
    /// was answered already, or the session that it came in is gone. A failed QoS 2 message is over (MQTT-4.3.3-9).
    pub(crate) fn acknowledge(&mut self, id: PacketId, qos: QoS, failed: bool) -> bool {
        match qos {
            QoS::AtMostOnce => false,
            QoS::AtLeastOnce => {
                let found = match self.qos1.iter().position(|open| *open == id) {
                    Some(0) => self.qos1.pop_front(), // Nearly always, and much less work.
                    Some(position) => self.qos1.remove(position),
                    None => None,
                }
                .is_some();
                if self.qos1.is_empty() && self.qos1.capacity() > IDLE_CAPACITY {
                    self.qos1 = VecDeque::new();
                }
                found
            }
            QoS::ExactlyOnce if failed => {
                let here = self.qos2.get(&id).is_some_and(|received| received.here);
                self.release(id);
                here
            }
            QoS::ExactlyOnce => match self.qos2.get_mut(&id) {
                Some(received) => !std::mem::replace(&mut received.acknowledged, true) && received.here,
                None => false,
            },
        }
    }

    /// PUBREL came. With `keeps`, the identifier is free only once the store knows: after a crash a new message under it
    /// would be taken for the old one.
    pub(crate) fn pubrel(&mut self, id: PacketId, keeps: bool) -> Released {
        match self.qos2.get_mut(&id) {
            None => Released::Unknown,
            Some(received) if keeps => {
                received.asked = true;
                Released::Held { first: !std::mem::replace(&mut received.releasing, true) }
            }
            Some(_) => {
                self.release(id);
                Released::Free
            }
        }
    }

    /// The store knows of the PUBREL: the identifier is free. Whether PUBCOMP is due: not when PUBREL came by an earlier
    /// connection, for it comes again on this one and has its own answer, and the next message under the identifier would
    /// take a second one for its own.
    pub(crate) fn complete(&mut self, id: PacketId) -> bool {
        let Some(received) = self.qos2.get(&id).filter(|received| received.releasing) else { return false };
        let is_due = received.asked;
        self.release(id);
        is_due
    }

    /// The store could not be told of the PUBREL: it is when PUBREL comes again.
    pub(crate) fn keep(&mut self, id: PacketId) {
        if let Some(received) = self.qos2.get_mut(&id) {
            received.releasing = false;
        }
    }

    /// PUBREL came, or a failing PUBREC goes: the identifier is free and the next PUBLISH with it a new message
    /// (MQTT-4.3.3-12); `false` when it was not in use.
    pub(crate) fn release(&mut self, id: PacketId) -> bool {
        let Some(received) = self.qos2.remove(&id) else { return false };
        self.qos2_here -= u32::from(received.here);
        if self.qos2.is_empty() && self.qos2.capacity() > IDLE_CAPACITY {
            self.qos2 = HashMap::new();
        }
        true
    }

    fn check(&self) -> Result<(), Violation> {
        if self.maximum > 0 && self.open() > usize::from(self.maximum) {
            return Err(Violation::ReceiveMaximumExceeded { granted: self.maximum });
        }
        Ok(())
    }
}
