//! What survives a connection, a crash and, later, a node: a message log and records, behind one trait.
//!
//! In: messages that somebody is owed, and records of sessions, subscriptions and retained messages. Out: whether
//! they are safe, and at start what was there. This crate never routes, never encodes a packet and never decides who is
//! owed what.
//!
//! A message that is owed is **appended** before it is acknowledged. An append is either safe at once or pending under
//! a [`Ticket`]; the acknowledgement waits for the ticket. Records obey the same rule.

mod memory;
mod record;

use std::sync::Arc;

use thiserror::Error;
use viaduct_codec::Message;

pub use memory::MemoryStore;
pub use record::{Key, Record, SessionRecord, SubscriptionRecord};

/// Where an append or a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It survives whatever this store survives.
    Safe,
    /// It will be safe once [`Store::poll_committed`] names this ticket or a later one.
    Pending(Ticket),
}

/// A place in the order of commits: whatever has a lower ticket is safe when a higher one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Why the store did not take something. Nothing may be acknowledged on the strength of a failed call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Another owner has taken the session over; whoever writes under this epoch must stop.
    #[error("epoch {held} no longer owns it, epoch {current} does")]
    Fenced {
        /// The writer's epoch.
        held: u64,
        /// The epoch that owns it now.
        current: u64,
    },
    /// The store can't be reached or can't write at the moment; the same call may succeed later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A configured limit or the disk is full.
    #[error("the store is full: {used} of {limit} bytes are used")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The outcome is not known: it may or may not have been written.
    #[error("it is not known whether the write happened: {0}")]
    Unknown(String),
}

/// The narrow door through which a worker's broker keeps what must survive. One store serves one worker.
pub trait Store {
    /// Takes a QoS 1 or 2 message that at least one session is owed.
    ///
    /// # Errors
    /// The message was not taken, or it is unknown whether it was: it must not be acknowledged as a success.
    fn append(&mut self, message: &Arc<Message>) -> Result<Accepted, StoreError>;

    /// Writes or replaces a record.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn put(&mut self, record: Record) -> Result<Accepted, StoreError>;

    /// Removes a record; removing what is not there is no error.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn delete(&mut self, key: &Key) -> Result<Accepted, StoreError>;

    /// Every record, in key order, to begin with after a start.
    ///
    /// # Errors
    /// The store can't be read.
    fn load(&mut self) -> Result<Vec<Record>, StoreError>;

    /// The highest ticket that became safe since the last call; `None` when nothing did.
    fn poll_committed(&mut self) -> Option<Ticket>;
}
