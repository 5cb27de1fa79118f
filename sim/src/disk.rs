//! What a worker's store keeps across a restart of its broker.
//!
//! In: the records that an engine writes. Out: at the next start, those that the broker is to bring back. Never loses
//! one by itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use viaduct_codec::Message;
use viaduct_store::{Accepted, Key, MemoryStore, Record, Store, StoreError, Ticket};

/// Whether a restart brings `record` back: the one switch for what the oracle expects of it.
///
/// Sessions are gone, and their clients see Session Present 0: a session whose queue is not kept would be a session that
/// lost messages. Retained messages come back where one worker writes them all; with several each keeps what came by
/// it, and nothing says which of two for the same topic is the later one.
pub(crate) fn survives(record: &Record, workers: u16) -> bool {
    match record {
        Record::Session(_) | Record::Subscription(_) => false,
        Record::Retained(_) => keeps_retained(workers),
    }
}

/// See [`survives`].
pub(crate) fn keeps_retained(workers: u16) -> bool {
    workers == 1
}

/// The disk of one worker; a clone is the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    workers: u16,
    store: Rc<RefCell<MemoryStore>>,
}

impl Disk {
    pub(crate) fn new(workers: u16) -> Self {
        Self { workers, store: Rc::default() }
    }
}

impl Store for Disk {
    fn append(&mut self, message: &Arc<Message>) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().append(message)
    }

    fn put(&mut self, record: Record) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().put(record)
    }

    fn delete(&mut self, key: &Key) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().delete(key)
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        let mut store = self.store.borrow_mut();
        let (kept, gone): (Vec<_>, Vec<_>) =
            store.load()?.into_iter().partition(|record| survives(record, self.workers));
        for record in gone {
            store.delete(&record.key())?;
        }
        Ok(kept)
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        self.store.borrow_mut().poll_committed()
    }
}
