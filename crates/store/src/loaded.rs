//! What a store gives back: at start, and when it is asked for a message that waits.

use std::sync::Arc;

use viaduct_codec::{Backlog, Message, PacketId, Place, SessionId};

use crate::{Owed, Record, SessionRecord, SubscriptionRecord, WillRecord};

/// What was there at start and belongs to one worker.
#[derive(Debug)]
pub struct Loaded {
    /// Sessions that outlive their connections.
    pub sessions: Vec<SessionRecord>,
    /// Their subscriptions.
    pub subscriptions: Vec<SubscriptionRecord>,
    /// Wills of sessions that ended with the broker; each is to be published once.
    pub wills: Vec<WillRecord>,
    /// Retained messages. Only the first worker is given them.
    pub retained: Vec<Arc<Message>>,
    /// The lowest number that no change of a retained message has had; the same for every worker.
    pub next_retained: u64,
    /// What was sent and not acknowledged, by session, in the order of the log.
    pub inflight: Vec<(SessionId, Vec<InFlight>)>,
    /// What waits, by session, in the order of the log.
    pub queued: Vec<(SessionId, Backlog)>,
    /// QoS 2 messages that were taken and whose PUBREL has not come.
    pub inbound: Vec<(SessionId, PacketId)>,
    /// The lowest number that no session has had; the same for every worker.
    pub next_session_id: SessionId,
}

/// A message as it was kept, for one of those who are owed it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The message.
    pub message: Arc<Message>,
    /// How it is owed.
    pub owed: Owed,
    /// Settles the entry when it is dropped.
    pub place: Place,
}

/// A message that was sent and not acknowledged.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// The message.
    pub stored: Stored,
    /// The packet identifier it was sent with.
    pub packet_id: PacketId,
    /// QoS 2: PUBREC has come, so what is due is PUBREL.
    pub received: bool,
}

impl Default for Loaded {
    /// Nothing was there.
    fn default() -> Self {
        Self {
            sessions: Vec::new(),
            subscriptions: Vec::new(),
            wills: Vec::new(),
            retained: Vec::new(),
            next_retained: 1,
            inflight: Vec::new(),
            queued: Vec::new(),
            inbound: Vec::new(),
            next_session_id: SessionId(1),
        }
    }
}

impl Loaded {
    /// Adds a record to the list of its kind.
    pub(crate) fn add(&mut self, record: Record) {
        match record {
            Record::Session(session) => {
                self.next_session_id = self.next_session_id.max(SessionId(session.id.0.saturating_add(1)));
                self.sessions.push(session);
            }
            Record::Subscription(subscription) => self.subscriptions.push(subscription),
            Record::Retained(message, version) => {
                self.next_retained = self.next_retained.max(version.saturating_add(1));
                self.retained.push(message);
            }
            Record::Will(will) => self.wills.push(will),
        }
    }
}
