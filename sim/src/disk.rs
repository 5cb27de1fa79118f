//! What a worker's store keeps across a restart of its broker.
//!
//! In: the records that an engine writes. Out: at the next start, those that the broker is to bring back. Never loses
//! one by itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use viaduct_codec::{Backlog, Message, PacketId, Place, SessionId, Stub, Time};
use viaduct_store::{
    Accepted, Appended, Health, Key, Loaded, MemoryStore, Owed, Record, Store, StoreError, Stored, Ticket,
};

/// Whether a restart brings retained messages back: the one switch for what the oracle expects of it.
///
/// Sessions are gone, and their clients see Session Present 0: a session whose queue is not kept would be a session that
/// lost messages. Retained messages come back where one worker writes them all; with several each keeps what came by
/// it, and nothing says which of two for the same topic is the later one.
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
    fn append(
        &mut self,
        now: Time,
        message: &Arc<Message>,
        owed: Vec<Owed>,
        from: Option<(SessionId, PacketId)>,
        publisher: u64,
    ) -> Result<Appended, StoreError> {
        self.store.borrow_mut().append(now, message, owed, from, publisher)
    }

    fn sent(&mut self, now: Time, place: &Place, packet_id: PacketId) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().sent(now, place, packet_id)
    }

    fn received(&mut self, now: Time, place: &Place) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().received(now, place)
    }

    fn released(&mut self, now: Time, session: SessionId, packet_id: PacketId) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().released(now, session, packet_id)
    }

    fn put(&mut self, now: Time, record: Record) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().put(now, record)
    }

    fn delete(&mut self, now: Time, key: &Key) -> Result<Accepted, StoreError> {
        self.store.borrow_mut().delete(now, key)
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        let mut store = self.store.borrow_mut();
        let mut kept = store.load()?;
        for session in std::mem::take(&mut kept.sessions) {
            store.delete(Time::default(), &Key::Session(session.client_id))?;
        }
        for one in std::mem::take(&mut kept.subscriptions) {
            store.delete(Time::default(), &Key::Subscription(one.client_id, one.filter))?;
        }
        for will in std::mem::take(&mut kept.wills) {
            store.delete(Time::default(), &Key::Will(will.client_id))?;
        }
        if !keeps_retained(self.workers) {
            kept.retained.clear();
        }
        Ok(kept)
    }

    fn read(&mut self, stubs: &[Stub]) -> Vec<Result<Stored, StoreError>> {
        self.store.borrow_mut().read(stubs)
    }

    fn backlog(&self) -> Backlog {
        self.store.borrow().backlog()
    }

    fn handle_timeout(&mut self, now: Time) {
        self.store.borrow_mut().handle_timeout(now);
    }

    fn next_timeout(&self) -> Option<Time> {
        self.store.borrow().next_timeout()
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        self.store.borrow_mut().poll_committed()
    }

    fn poll_released(&mut self) -> Vec<u64> {
        self.store.borrow_mut().poll_released()
    }

    fn state(&self) -> Health {
        self.store.borrow().state()
    }

    fn is_congested(&self) -> bool {
        self.store.borrow().is_congested()
    }
}
