//! The connections of one worker: what is on its way to each peer, and which have something to write or are to end.
//!
//! Outputs borrow their memory while they have something to say: an idle connection holds none, and without the pool each
//! connection that is written to costs an allocation (docs/hot-path.md).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;
use viaduct_codec::{ReasonCode, Time};
use viaduct_session::Output;

use crate::key::ConnectionId;
use crate::limits::{SPARE_OUTPUT_BYTES, SPARE_OUTPUTS};
use crate::reauth::Reauthentication;
use crate::ways::Beyond;

/// Why the engine ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent DISCONNECT.
    Disconnected(ReasonCode),
    /// The client broke a rule; the text says which.
    Violation(ReasonCode, String),
    /// Nothing came for one and a half keep alive intervals.
    KeepAlive,
    /// Another connection took the session.
    TakenOver,
    /// CONNECT was refused after all.
    Refused(ReasonCode),
    /// The session's queue overflowed and the policy is to end the connection.
    QueueOverflow,
    /// The operator ended it.
    Administrative,
    /// The store could not take a message that a 3.x client has no word for.
    StoreFailed,
    /// Another owner has the session.
    Fenced,
    /// The broker stops.
    Shutdown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(ReasonCode::NORMAL_DISCONNECTION) => f.write_str("the client disconnected"),
            Self::Disconnected(reason) => write!(f, "the client disconnected: {reason}"),
            Self::Violation(_, what) => f.write_str(what),
            Self::KeepAlive => f.write_str("nothing came from the client for one and a half keep alive intervals"),
            Self::TakenOver => f.write_str("another connection with the same ClientID took the session over"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::QueueOverflow => f.write_str("its queue is full and session.on_full is \"disconnect\""),
            Self::Administrative => f.write_str("ended by the operator"),
            Self::StoreFailed => f.write_str("the store could not take its message"),
            Self::Fenced => f.write_str("its session is owned elsewhere by now"),
            Self::Shutdown => f.write_str("the broker is shutting down"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) peer: Arc<str>,
    pub(crate) listener: Arc<str>,
    pub(crate) output: Output,
    /// Set once; from then on nothing is read and what is in `output` is the last.
    pub(crate) closing: Option<Box<CloseReason>>,
    /// The slot of its session, while it has one.
    session: Option<u32>,
    /// The largest packet that it may send, bytes.
    pub(crate) max_packet_size: u32,
    /// PUBLISH packets since `rate_since`, for the message rate.
    pub(crate) rate_count: u32,
    pub(crate) rate_since: Time,
    /// A message was acknowledged here when the store had written it already.
    pub(crate) answers_late: bool,
    /// What there is to know of the broker at the other end, if it is one.
    pub(crate) beyond: Option<Arc<Beyond>>,
    /// Its method, if it came in by enhanced authentication.
    pub(crate) reauthentication: Option<Box<Reauthentication>>,
    dirty: bool,
    /// Whether its session may go on once the socket has taken everything. A session that only handed bytes through does not.
    waits: bool,
    /// For how many changes of records that the store has not safe yet the output is kept back.
    holds: u16,
}

impl Connection {
    /// The slot of its session, while it has one.
    pub(crate) fn session(&self) -> Option<usize> {
        self.session.map(|index| index as usize)
    }

    /// There are never as many sessions as 32 bits can count.
    pub(crate) fn set_session(&mut self, index: Option<usize>) {
        self.session = index.and_then(|index| u32::try_from(index).ok());
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// Each on its own, so that nothing of them is copied and left behind when the table grows.
    slots: Slab<Box<Connection>>,
    by_id: HashMap<ConnectionId, usize>,
    dirty: VecDeque<usize>,
    /// Memory of outputs that were written, for the next that are: a turn neither allocates nor grows what it sends.
    buffers: Vec<Vec<u8>>,
}

impl Connections {
    pub(crate) fn insert(
        &mut self,
        id: ConnectionId,
        peer: Arc<str>,
        listener: Arc<str>,
        max_packet_size: u32,
        now: Time,
    ) -> usize {
        let index = self.slots.insert(Box::new(Connection {
            id,
            peer,
            listener,
            output: Output::default(),
            closing: None,
            session: None,
            max_packet_size,
            rate_count: 0,
            rate_since: now,
            answers_late: false,
            beyond: None,
            reauthentication: None,
            dirty: false,
            waits: false,
            holds: 0,
        }));
        self.by_id.insert(id, index);
        index
    }

    pub(crate) fn find(&self, id: ConnectionId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Connection> {
        self.slots.get(index).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Connection> {
        self.slots.get_mut(index).map(Box::as_mut)
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<Connection> {
        let connection = self.slots.try_remove(index)?;
        self.by_id.remove(&connection.id);
        Some(*connection)
    }

    /// The connection, with memory for what is to be sent.
    pub(crate) fn writable(&mut self, index: usize) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(index)?;
        if !connection.output.has_buffer()
            && let Some(buffer) = self.buffers.pop()
        {
            connection.output.lend(buffer);
        }
        Some(connection)
    }

    /// After [`Connections::writable`]: marks the connection if it has something to write, else takes the memory back. Its
    /// session is asked for more once that is written.
    pub(crate) fn settle(&mut self, index: usize) {
        if let Some(connection) = self.slots.get_mut(index) {
            // Never taken back here: an empty output says nothing about what TLS still holds of it.
            connection.waits |= !connection.output.is_empty();
        }
        self.settle_bytes(index);
    }

    /// As [`Connections::settle`] where nothing of the session itself was written.
    pub(crate) fn settle_bytes(&mut self, index: usize) {
        let Some(connection) = self.slots.get_mut(index) else { return };
        if !connection.output.is_empty() {
            self.mark(index);
        } else if let Some(buffer) = connection.output.reclaim()
            && self.buffers.len() < SPARE_OUTPUTS
            && buffer.capacity() <= SPARE_OUTPUT_BYTES
        {
            self.buffers.push(buffer);
        }
    }

    /// Notes that the connection has something to write or is to end.
    pub(crate) fn mark(&mut self, index: usize) {
        if let Some(connection) = self.slots.get_mut(index)
            && !connection.dirty
            && connection.holds == 0
        {
            connection.dirty = true;
            self.dirty.push_back(index);
        }
    }

    /// Keeps back what is on its way to the connection until [`Connections::let_go`]; its name.
    pub(crate) fn hold(&mut self, index: usize) -> Option<ConnectionId> {
        let connection = self.slots.get_mut(index)?;
        connection.holds = connection.holds.checked_add(1)?;
        Some(connection.id)
    }

    /// Gives up what is kept back of the connection, if it is: the output is empty then and waits for nothing.
    pub(crate) fn drop_held(&mut self, index: usize) {
        if let Some(connection) = self.slots.get_mut(index).filter(|connection| connection.holds > 0) {
            connection.holds = 0;
            connection.output = Output::default();
        }
    }

    /// One reason less to keep back what is on its way to the connection.
    pub(crate) fn let_go(&mut self, index: usize) {
        if let Some(connection) = self.slots.get_mut(index) {
            connection.holds = connection.holds.saturating_sub(1);
        }
        self.mark(index);
    }

    /// The next one that was marked.
    pub(crate) fn pop_dirty(&mut self) -> Option<ConnectionId> {
        while let Some(index) = self.dirty.pop_front() {
            // The index may be another's by now; then that one was marked, or is written a turn early, or is gone.
            if let Some(connection) = self.slots.get_mut(index)
                && std::mem::take(&mut connection.dirty)
                && connection.holds == 0
            {
                return Some(connection.id);
            }
        }
        None
    }

    /// What is on its way to the connection, if it is not kept back.
    pub(crate) fn output(&mut self, index: usize) -> Option<&mut Output> {
        self.slots.get_mut(index).filter(|connection| connection.holds == 0).map(|connection| &mut connection.output)
    }

    /// Whether the session of the connection, whose output is empty, may have more for it. If not, there is nothing else to
    /// do and the output's memory is taken back.
    pub(crate) fn take_waits(&mut self, index: usize) -> bool {
        let waits = self.slots.get_mut(index).is_some_and(|connection| std::mem::take(&mut connection.waits));
        if !waits {
            self.settle_bytes(index);
        }
        waits
    }

    pub(crate) fn ids(&self) -> Vec<usize> {
        self.slots.iter().map(|(index, _)| index).collect()
    }
}
