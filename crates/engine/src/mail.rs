//! What one worker sends another: at most one batch per receiver and turn.

use std::sync::Arc;

use viaduct_codec::{Kept, Message};
use viaduct_router::RouteSet;
use viaduct_session::Delivery;

use crate::express::Parcel;
use crate::key::{SessionKey, WorkerId};

/// A batch for one worker.
#[derive(Debug, Default)]
pub struct Mail {
    pub(crate) items: Vec<Item>,
    bytes: usize,
}

impl Mail {
    /// Roughly the bytes of message that it keeps in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[derive(Debug)]
pub(crate) enum Item {
    /// A message for the sessions of `routes` that live on the receiving worker.
    Routed {
        message: Arc<Message>,
        routes: Arc<RouteSet<SessionKey>>,
        publisher: Option<SessionKey>,
        kept: Option<Arc<Kept>>,
        /// The first of its places there.
        first: u32,
    },
    /// A run of plain messages for them.
    Run { parcel: Parcel, routes: Arc<RouteSet<SessionKey>>, publisher: SessionKey },
    /// A message for the one member of a share group that was chosen.
    Chosen { member: SessionKey, delivery: Delivery, checked: bool, hops: u8 },
}

/// What waits to be sent, by worker.
#[derive(Debug)]
pub(crate) struct Outbox {
    batches: Vec<Mail>,
    waiting: Vec<u16>,
}

impl Outbox {
    pub(crate) fn new(workers: u16) -> Self {
        Self { batches: (0..workers).map(|_| Mail::default()).collect(), waiting: Vec::new() }
    }

    pub(crate) fn push(&mut self, worker: u16, item: Item) {
        let Some(mail) = self.batches.get_mut(usize::from(worker)) else { return };
        if mail.items.is_empty() {
            self.waiting.push(worker);
        }
        mail.bytes += match &item {
            Item::Routed { message, .. } => message.size(),
            Item::Run { parcel, .. } => parcel.len(),
            Item::Chosen { delivery, .. } => delivery.message.size(),
        };
        mail.items.push(item);
    }

    pub(crate) fn pop(&mut self) -> Option<(WorkerId, Mail)> {
        let worker = self.waiting.pop()?;
        let mail = std::mem::take(self.batches.get_mut(usize::from(worker))?);
        Some((WorkerId(worker), mail))
    }
}
