//! What survives a connection, a crash and, later, a node: a message log and records, behind one trait.
//!
//! In: messages that somebody is owed, how far each was delivered, and records of sessions, subscriptions and retained
//! messages. Out: whether they are safe, and at start what was there. This crate never routes, never encodes a packet and never
//! decides who is owed what.
//!
//! A message that is owed is **appended** before it is acknowledged. An append is either safe at once or pending under
//! a [`Ticket`]; the acknowledgement waits for the ticket. Records obey the same rule. What is owed is **settled** by
//! dropping its [`Place`], wherever that happens.

mod faulty;
mod loaded;
pub mod log;
mod memory;
mod record;

use std::sync::Arc;

use thiserror::Error;
use viaduct_codec::{
    AckedMessage, Backlog, Bundle, Kept, Message, PacketId, Place, QoS, SessionId, Stub, SubscriptionIds, Time,
};

pub use faulty::{FaultyStore, Script, Trouble};
pub use loaded::{InFlight, Loaded, Stored};
pub use memory::MemoryStore;
pub use record::{Key, Record, SessionRecord, StoredWill, SubscriptionRecord, WillRecord};

/// Where an append or a record stands; the greater of two is safe last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accepted {
    /// It survives whatever this store survives.
    Safe,
    /// It will be safe once [`Store::poll_committed`] names this ticket or a later one.
    Pending(Ticket),
}

/// A place in the order of commits of one store: whatever has a lower ticket is safe when a higher one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What one session is owed of a message, as whoever routed it decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Who is owed it.
    pub session: SessionId,
    /// With which QoS, 1 or 2.
    pub qos: QoS,
    /// RETAIN as it is to be sent.
    pub retain: bool,
    /// The subscriptions that it answers; towards 5.0 only.
    pub ids: SubscriptionIds,
    /// The `$share/<name>/<filter>` that it came by, if it did.
    pub group: Option<Arc<str>>,
    /// Nobody is there to take it now, so it will not settle soon. Not kept: `false` in what is read back.
    pub away: bool,
}

/// What became of an append.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The handle of the messages, with one [`Place`] to be taken for each that was owed, in that order, message by message;
    /// `None` when the store keeps no copy.
    pub kept: Option<Arc<Kept>>,
    /// Whether it is safe.
    pub accepted: Accepted,
}

impl Appended {
    /// Nobody is owed anything, and nothing was written.
    pub const NOTHING: Self = Self { kept: None, accepted: Accepted::Safe };
}

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It writes.
    Healthy,
    /// It can't write at the moment, and why. It tries by itself until it can.
    Failing(Arc<str>),
}

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
    /// A configured limit is reached.
    #[error("the store is full: {used} of {limit} bytes are used")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The disk is full, but for what is left to finish what was promised.
    #[error(
        "the disk of the store is full: {free} bytes are free, and the last {reserve} are for what was promised already"
    )]
    DiskFull {
        /// Bytes that are free.
        free: u64,
        /// Bytes of them that nothing new is written to.
        reserve: u64,
    },
    /// The outcome is not known: it may or may not have been written.
    #[error("it is not known whether the write happened: {0}")]
    Unknown(String),
    /// What was kept can't be read as it was written. Trying again does not help.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether there is no room, and nothing else is wrong.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::DiskFull { .. })
    }
}

/// Messages that come together.
#[derive(Clone, Copy, Debug)]
pub enum Together<'a> {
    /// Each by itself.
    Each(&'a [Arc<Message>]),
    /// Those of a run, as one.
    Bundle(&'a Arc<Bundle>),
}

/// The narrow door through which a worker's broker keeps what must survive. One store serves one worker.
pub trait Store {
    /// As [`Store::append_all`] with one message.
    ///
    /// # Errors
    /// As [`Store::append_all`].
    fn append(
        &mut self,
        now: Time,
        message: &Arc<Message>,
        owed: Arc<[Owed]>,
        from: Option<(SessionId, PacketId)>,
        publisher: u64,
    ) -> Result<Appended, StoreError> {
        self.append_all(now, Together::Each(std::slice::from_ref(message)), owed, from, publisher)
    }

    /// Takes QoS 1 or 2 messages that come together and who is owed each of them. They are safe together, but settle each for
    /// itself. `from` is the inbound packet identifier of a QoS 2 publisher whose
    /// session survives: it is safe together with the one message. With nothing owed and no `from` they are safe at once and
    /// nothing is written. `publisher` comes back from [`Store::poll_released`] and means nothing to the store.
    ///
    /// # Errors
    /// No message was taken, or it is unknown whether one was: none must be acknowledged as a success.
    fn append_all(
        &mut self,
        now: Time,
        messages: Together<'_>,
        owed: Arc<[Owed]>,
        from: Option<(SessionId, PacketId)>,
        publisher: u64,
    ) -> Result<Appended, StoreError>;

    /// Takes QoS 1 messages that come together, are `like` one but for their payloads, and are owed to sessions whose clients are
    /// away: nobody holds a [`Place`] of them, they live on as [`Stub`]s under numbers that follow each other, and can be read back
    /// from now on. The number of the first, and whether they are safe; `None`, and nothing was done, when they have to be
    /// appended the other way, which says why.
    fn append_run(
        &mut self,
        _now: Time,
        _like: &Message,
        _run: &[AckedMessage<'_>],
        _owed: &[Owed],
    ) -> Option<(u64, Accepted)> {
        None
    }

    /// Whoever is owed what was appended last has heard of it now, as far as they can be told at once. What will not settle
    /// while it waits may be made ready to be written, and can be read back from then on. Nobody has to call it.
    fn delivered(&mut self) {}

    /// An owed entry goes out with `qos` under this packet identifier. QoS 2 waits until that is safe, QoS 1 need not.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn sent(&mut self, now: Time, place: &Place, packet_id: PacketId, qos: QoS) -> Result<Accepted, StoreError>;

    /// The PUBREC of an entry that was sent with QoS 2 has come; PUBREL waits until that is safe.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn received(&mut self, now: Time, place: &Place) -> Result<Accepted, StoreError>;

    /// The PUBREL of an inbound QoS 2 message has come: its packet identifier is free again. PUBCOMP waits until that is
    /// safe, because a new message under it would be taken for the old one otherwise.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn released(&mut self, now: Time, session: SessionId, packet_id: PacketId) -> Result<Accepted, StoreError>;

    /// Writes or replaces a record.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn put(&mut self, now: Time, record: Record) -> Result<Accepted, StoreError>;

    /// Removes a record; removing what is not there is no error.
    ///
    /// # Errors
    /// As [`Store::append`].
    fn delete(&mut self, now: Time, key: &Key) -> Result<Accepted, StoreError>;

    /// What was there at start and belongs to this worker. Asked once.
    ///
    /// # Errors
    /// The store can't be read.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Reads back messages that wait in the log, in the order asked. An entry that can't be read has its error in its place and
    /// stays owed.
    fn read(&mut self, stubs: &[Stub]) -> Vec<Result<Stored, StoreError>>;

    /// An empty backlog, for a session of this worker.
    fn backlog(&self) -> Backlog;

    /// Closes the open group when its time has come. To be called at the end of a turn when [`Store::next_timeout`] has come: what
    /// came in that turn goes together.
    fn handle_timeout(&mut self, now: Time);

    /// When [`Store::handle_timeout`] is to be called next.
    fn next_timeout(&self) -> Option<Time>;

    /// The highest ticket that became safe since the last call; `None` when nothing did.
    fn poll_committed(&mut self) -> Option<Ticket>;

    /// The `publisher`s of messages that everybody owed has acknowledged before they were written, each at least once. Cheap when
    /// there is none. What is returned here is as good as safe.
    fn poll_released(&mut self) -> Vec<u64>;

    /// How it is.
    fn state(&self) -> Health;

    /// So much is unwritten that no more should be read from publishers.
    fn is_congested(&self) -> bool;
}
