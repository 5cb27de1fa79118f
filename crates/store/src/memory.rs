//! The in-memory engine: records live as long as the process, and everything is safe at once.
//!
//! It survives the end of a connection and of a worker's engine, not of the process. The queues of the sessions hold
//! the messages themselves, so an append keeps no copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use viaduct_codec::{Backlog, PacketId, Place, QoS, SessionId, Stub, Time};

use crate::{Accepted, Appended, Health, Key, Loaded, Owed, Record, Store, StoreError, Stored, Ticket, Together};

/// A store without a disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: BTreeMap<Key, Record>,
}

impl Store for MemoryStore {
    fn append_all(
        &mut self,
        _now: Time,
        _messages: Together<'_>,
        _owed: Arc<[Owed]>,
        _from: Option<(SessionId, PacketId)>,
        _publisher: u64,
    ) -> Result<Appended, StoreError> {
        Ok(Appended::NOTHING)
    }

    fn sent(&mut self, _now: Time, _place: &Place, _packet_id: PacketId, _qos: QoS) -> Result<Accepted, StoreError> {
        Ok(Accepted::Safe)
    }

    fn received(&mut self, _now: Time, _place: &Place) -> Result<Accepted, StoreError> {
        Ok(Accepted::Safe)
    }

    fn released(&mut self, _now: Time, _session: SessionId, _packet_id: PacketId) -> Result<Accepted, StoreError> {
        Ok(Accepted::Safe)
    }

    fn put(&mut self, _now: Time, record: Record) -> Result<Accepted, StoreError> {
        self.records.insert(record.key(), record);
        Ok(Accepted::Safe)
    }

    fn delete(&mut self, _now: Time, key: &Key) -> Result<Accepted, StoreError> {
        self.records.remove(key);
        Ok(Accepted::Safe)
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        for record in self.records.values() {
            loaded.add(record.clone());
        }
        Ok(loaded)
    }

    fn read(&mut self, stubs: &[Stub]) -> Vec<Result<Stored, StoreError>> {
        // Nothing in memory ever became a stub.
        stubs.iter().map(|stub| Err(StoreError::Damaged(format!("message {} is not here", stub.id)))).collect()
    }

    fn backlog(&self) -> Backlog {
        Backlog::new(Arc::default())
    }

    fn handle_timeout(&mut self, _now: Time) {}

    fn next_timeout(&self) -> Option<Time> {
        None
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        None
    }

    fn poll_released(&mut self) -> Vec<u64> {
        Vec::new()
    }

    fn state(&self) -> Health {
        Health::Healthy
    }

    fn is_congested(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::{ClientId, SubscribeOptions, TopicFilter};

    use super::*;
    use crate::{SessionRecord, SubscriptionRecord};

    #[test]
    fn records_are_replaced_removed_and_loaded_in_key_order() {
        let mut store = MemoryStore::default();
        let now = Time::default();
        let client_id = ClientId::from("a");
        let session = |expiry| SessionRecord {
            id: SessionId(4),
            client_id: client_id.clone(),
            username: None,
            is_local: false,
            mountpoint: None,
            expiry,
            disconnected: None,
            will: None,
            delayed_will: None,
        };
        let filter = TopicFilter::new("t/#").unwrap();
        let subscription = SubscriptionRecord {
            client_id: client_id.clone(),
            filter: filter.clone(),
            options: SubscribeOptions::default(),
            id: None,
        };
        assert_eq!(store.put(now, Record::Subscription(subscription.clone())), Ok(Accepted::Safe));
        assert_eq!(store.put(now, Record::Session(session(1))), Ok(Accepted::Safe));
        assert_eq!(store.put(now, Record::Session(session(2))), Ok(Accepted::Safe));
        let loaded = store.load().unwrap();
        assert_eq!((loaded.sessions, loaded.subscriptions), (vec![session(2)], vec![subscription]));
        assert_eq!(loaded.next_session_id, SessionId(5));
        assert_eq!(store.delete(now, &Key::Subscription(client_id.clone(), filter)), Ok(Accepted::Safe));
        assert!(store.load().unwrap().subscriptions.is_empty());
    }
}
