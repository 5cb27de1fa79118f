//! The in-memory engine: records live as long as the process, and everything is safe at once.
//!
//! It survives the end of a connection and of a worker's engine, not of the process. The queues of the sessions hold
//! the messages themselves, so an append keeps no copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use viaduct_codec::Message;

use crate::{Accepted, Key, Record, Store, StoreError, Ticket};

/// A store without a disk.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: BTreeMap<Key, Record>,
}

impl Store for MemoryStore {
    fn append(&mut self, _message: &Arc<Message>) -> Result<Accepted, StoreError> {
        Ok(Accepted::Safe)
    }

    fn put(&mut self, record: Record) -> Result<Accepted, StoreError> {
        self.records.insert(record.key(), record);
        Ok(Accepted::Safe)
    }

    fn delete(&mut self, key: &Key) -> Result<Accepted, StoreError> {
        self.records.remove(key);
        Ok(Accepted::Safe)
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        Ok(self.records.values().cloned().collect())
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        None
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
        let client_id = ClientId::from("a");
        let session = |expiry| {
            Record::Session(SessionRecord { client_id: client_id.clone(), username: None, expiry, disconnected: None })
        };
        let filter = TopicFilter::new("t/#").unwrap();
        let subscription = Record::Subscription(SubscriptionRecord {
            client_id: client_id.clone(),
            filter: filter.clone(),
            options: SubscribeOptions::default(),
            id: None,
        });
        assert_eq!(store.put(subscription.clone()), Ok(Accepted::Safe));
        assert_eq!(store.put(session(1)), Ok(Accepted::Safe));
        assert_eq!(store.put(session(2)), Ok(Accepted::Safe));
        assert_eq!(store.load(), Ok(vec![session(2), subscription]));
        assert_eq!(store.delete(&Key::Subscription(client_id.clone(), filter)), Ok(Accepted::Safe));
        assert_eq!(store.load(), Ok(vec![session(2)]));
    }
}
