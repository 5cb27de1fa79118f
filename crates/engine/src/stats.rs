//! What happened and how much there is: plain numbers that one worker writes and anybody reads.

use std::sync::atomic::{AtomicU64, Ordering};

use viaduct_codec::{QoS, ReasonCode};

/// A number with one writer. Adding is a load and a store, so it costs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the worker that owns the counter may call it.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes `n` away, for numbers that say how much there is now.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a message was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Dropped {
    /// A session's queue was full.
    QueueFull,
    /// Its expiry passed while it waited.
    Expired,
    /// It waited longer than its queue lets it.
    TooOld,
    /// The client takes no packet that large.
    TooLarge,
    /// QoS 0 for a session without a connection.
    Offline,
    /// The queues of all sessions together hold as much as they may.
    Memory,
    /// The publisher may not publish there, and the version has no word for it.
    NotAuthorized,
    /// The receiver may not read it.
    NotReadable,
    /// No member of the share group could take it.
    NoMember,
    /// A retained message was refused: too many, or too large.
    RetainedLimit,
    /// The session ended with messages still owed.
    SessionEnded,
    /// The store could not give it back as it was kept.
    Unreadable,
    /// It had come from another broker before, by another way.
    Double,
}

impl Dropped {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::QueueFull,
        Self::Expired,
        Self::TooOld,
        Self::TooLarge,
        Self::Offline,
        Self::Memory,
        Self::NotAuthorized,
        Self::NotReadable,
        Self::NoMember,
        Self::RetainedLimit,
        Self::SessionEnded,
        Self::Unreadable,
        Self::Double,
    ];

    /// The reason as a metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Expired => "expired",
            Self::TooOld => "max_age",
            Self::TooLarge => "too_large",
            Self::Offline => "offline",
            Self::Memory => "memory",
            Self::NotAuthorized => "not_authorized",
            Self::NotReadable => "not_readable",
            Self::NoMember => "no_member",
            Self::RetainedLimit => "retained_limit",
            Self::SessionEnded => "session_ended",
            Self::Unreadable => "unreadable",
            Self::Double => "double",
        }
    }
}

/// What became of a CONNECT for a ClientID that was connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Takeover {
    /// The newcomer got the session.
    TakenOver,
    /// The newcomer was refused by configuration.
    Rejected,
    /// The newcomer had to wait because of a storm.
    Held,
    /// The newcomer was refused because too many wait in a storm.
    Busy,
}

impl Takeover {
    /// Every result, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::TakenOver, Self::Rejected, Self::Held, Self::Busy];

    /// The result as a metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over",
            Self::Rejected => "rejected",
            Self::Held => "held",
            Self::Busy => "busy",
        }
    }
}

/// The numbers of one worker.
#[derive(Debug)]
pub struct Stats {
    /// PUBLISH packets taken from clients, by QoS.
    pub messages_received: [Counter; 3],
    /// Bytes of payload in them.
    pub payload_bytes_received: Counter,
    /// PUBLISH packets written for clients, by QoS.
    pub messages_sent: [Counter; 3],
    /// Bytes of payload in messages that were handed to sessions.
    pub payload_bytes_sent: Counter,
    /// All packets taken from clients.
    pub packets_received: Counter,
    /// Messages that were not delivered, by [`Dropped`].
    pub messages_dropped: [Counter; Dropped::ALL.len()],
    /// By [`Takeover`].
    pub takeovers: [Counter; Takeover::ALL.len()],
    /// Storms that were recognised.
    pub takeover_storms: Counter,
    /// Connections closed for what the peer did, by reason code.
    pub protocol_errors: Box<[Counter; 256]>,
    /// Sessions with a connection, now.
    pub sessions_connected: Counter,
    /// Sessions without one, now.
    pub sessions_disconnected: Counter,
    /// Sessions that ended because their expiry passed.
    pub sessions_expired: Counter,
    /// Sessions that another owner had by then.
    pub sessions_fenced: Counter,
    /// Messages that wait in queues, now.
    pub queued_messages: Counter,
    /// Bytes that they hold, now.
    pub queued_bytes: Counter,
    /// Messages sent and not acknowledged yet, now.
    pub inflight_messages: Counter,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            messages_received: Default::default(),
            payload_bytes_received: Counter::default(),
            messages_sent: Default::default(),
            payload_bytes_sent: Counter::default(),
            packets_received: Counter::default(),
            messages_dropped: Default::default(),
            takeovers: Default::default(),
            takeover_storms: Counter::default(),
            protocol_errors: Box::new(std::array::from_fn(|_| Counter::default())),
            sessions_connected: Counter::default(),
            sessions_disconnected: Counter::default(),
            sessions_expired: Counter::default(),
            sessions_fenced: Counter::default(),
            queued_messages: Counter::default(),
            queued_bytes: Counter::default(),
            inflight_messages: Counter::default(),
        }
    }
}

impl Stats {
    pub(crate) fn received(&self, qos: QoS, messages: u64, payload: usize) {
        if let Some(counter) = self.messages_received.get(usize::from(qos.bits())) {
            counter.add(messages);
        }
        self.payload_bytes_received.add(payload as u64);
    }

    pub(crate) fn dropped(&self, why: Dropped, n: u64) {
        if let Some(counter) = self.messages_dropped.get(why as usize) {
            counter.add(n);
        }
    }

    pub(crate) fn takeover(&self, result: Takeover) {
        if let Some(counter) = self.takeovers.get(result as usize) {
            counter.add(1);
        }
    }

    pub(crate) fn protocol_error(&self, reason: ReasonCode) {
        if let Some(counter) = self.protocol_errors.get(usize::from(reason.0)) {
            counter.add(1);
        }
    }
}
