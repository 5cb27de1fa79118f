//! The sessions of one worker, by ClientID and by key. One session per ClientID, always: the map below is the proof
//! (MQTT-3.1.3-2, MQTT-3.1.3-2 of 3.1.1).

use std::num::NonZeroU64;
use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;
use viaduct_codec::{ClientId, Message, SessionId, Slice, Time, TopicName};
use viaduct_session::server::{Session, Terms, Will};

use crate::Dropped;
use crate::held::Holdings;
use crate::key::SessionKey;
use crate::replay::Replay;
use crate::seams::Epoch;
use crate::shared::Durable;

/// Who is behind a connection, known once it is authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `None` for an anonymous client.
    pub username: Option<Arc<str>>,
    /// The broker's own half of a bridge: no rule is asked for it, and it may publish to `$SYS`.
    pub local: bool,
}

/// A session and what the broker knows of it beyond the conversation.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) client_id: ClientId,
    pub(crate) key: SessionKey,
    /// Under which it is owned here.
    pub(crate) epoch: Epoch,
    /// Its number in the store, once it is to outlive its connection.
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    pub(crate) identity: Identity,
    /// A mark of what its user logged in with; `None` when there was no password.
    pub(crate) credential: Option<NonZeroU64>,
    /// Put before every topic of the client and taken off again on delivery; from the listener.
    pub(crate) mountpoint: Option<Arc<str>>,
    pub(crate) terms: Arc<Terms>,
    /// The index of its connection, while it has one; there are never as many as 32 bits can count.
    connection: Option<u32>,
    /// The filters as they are in the trie (mountpoint included).
    pub(crate) subscriptions: Holdings,
    /// Of the connection: published when it ends badly.
    pub(crate) will: Option<Box<Will>>,
    /// Of a connection that ended badly: published at its time, or when the session ends before.
    pub(crate) delayed_will: Option<Box<(Time, Message)>>,
    /// When the session ends, if nobody connects before.
    pub(crate) expires: Option<Time>,
    /// The one deadline that is in the worker's list for it, [`NEVER`] when there is none.
    pub(crate) armed: Time,
    /// The store knows its will although it does not know the session.
    pub(crate) has_lone_will: bool,
    /// Retained messages still to be handed to it.
    #[allow(clippy::box_collection, reason = "eight bytes instead of 24 in every session")]
    pub(crate) replays: Option<Box<Vec<Replay>>>,
    /// What the rules said last, and under which rules: most clients publish to one topic over and over.
    pub(crate) last_publish: Option<Box<(TopicName, u64, bool)>>,
    /// Made when the first thing goes wrong.
    pub(crate) trouble: Option<Box<Trouble>>,
}

/// Comes after every deadline: eight bytes less in every session than a time that may be missing.
pub(crate) const NEVER: Time = Time::from_millis(u64::MAX);

/// What went wrong for a session.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// When it was last logged that the client may not do something.
    pub(crate) denied_logged: Option<Time>,
    /// Messages for it that were given up, by reason.
    pub(crate) dropped: [u64; Dropped::ALL.len()],
    /// When the drops of this session were last logged.
    pub(crate) drops_logged: Option<Time>,
}

impl Trouble {
    /// Counts messages that were given up.
    pub(crate) fn count(&mut self, why: Dropped, count: u64) {
        if let Some(dropped) = self.dropped.get_mut(why as usize) {
            *dropped += count;
        }
    }
}

impl Slot {
    /// The index of its connection, while it has one.
    pub(crate) fn connection(&self) -> Option<usize> {
        self.connection.map(|index| index as usize)
    }

    pub(crate) fn set_connection(&mut self, index: Option<usize>) {
        self.connection = index.and_then(|index| u32::try_from(index).ok());
    }

    /// Notes what its user logged in with.
    pub(crate) fn set_credential(&mut self, credential: Option<u64>) {
        self.credential = credential.and_then(NonZeroU64::new);
    }

    /// What its subscriptions bring of the topics that they match: a part, for one of several links of a bridge.
    pub(crate) fn slice(&self) -> Slice {
        if self.identity.local { Slice::of_local_client_id(self.client_id.as_str()) } else { Slice::ALL }
    }

    /// Whether the store keeps it: it outlives its connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.id != SessionId::NONE
    }

    /// As others see it who publish to it.
    pub(crate) fn durable(&self) -> Durable {
        Durable { id: self.id, away: self.connection.is_none() }
    }

    /// Messages for it that were given up, by reason.
    pub(crate) fn dropped(&self) -> [u64; Dropped::ALL.len()] {
        self.trouble.as_ref().map_or_else(Default::default, |trouble| trouble.dropped)
    }

    /// Where it is written down that something went wrong.
    pub(crate) fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    /// Whether nobody connected in its time.
    pub(crate) fn is_over(&self, now: Time) -> bool {
        self.connection.is_none() && self.expires.is_some_and(|expires| expires <= now)
    }

    /// The first moment at which something about the session has to be looked at.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let will = self.delayed_will.as_ref().map(|delayed| delayed.0);
        self.session.next_timeout().into_iter().chain(will).chain(self.expires).min()
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Registry {
    worker: u16,
    /// Each on its own: a table of millions would copy all of them when it grows, and leave as much memory behind.
    slots: Slab<Box<Slot>>,
    by_client: HashMap<ClientId, usize>,
    generation: u32,
}

impl Registry {
    pub(crate) fn new(worker: u16) -> Self {
        Self { worker, slots: Slab::new(), by_client: HashMap::new(), generation: 0 }
    }

    /// A new session for `client_id`, which must not have one.
    pub(crate) fn insert(&mut self, client_id: ClientId, identity: Identity, terms: Arc<Terms>) -> usize {
        debug_assert!(!self.by_client.contains_key(&client_id), "one session per ClientID");
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let index = entry.key();
        // More than u32::MAX sessions do not fit into memory; such a key would only reach nobody.
        let key = SessionKey {
            worker: self.worker,
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation: self.generation,
        };
        entry.insert(Box::new(Slot {
            client_id: client_id.clone(),
            key,
            epoch: Epoch::default(),
            id: SessionId::NONE,
            session: Session::new(Arc::clone(&terms.queue)),
            identity,
            credential: None,
            mountpoint: None,
            terms,
            connection: None,
            subscriptions: Holdings::new(),
            will: None,
            delayed_will: None,
            expires: None,
            armed: NEVER,
            has_lone_will: false,
            replays: None,
            last_publish: None,
            trouble: None,
        }));
        self.by_client.insert(client_id, index);
        index
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<Box<Slot>> {
        let slot = self.slots.try_remove(index)?;
        self.by_client.remove(&slot.client_id);
        Some(slot)
    }

    pub(crate) fn by_client(&self, client_id: &str) -> Option<usize> {
        self.by_client.get(client_id).copied()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Slot> {
        self.slots.get_mut(index).map(Box::as_mut)
    }

    /// The index of the session with this key, if it still lives.
    pub(crate) fn find(&self, key: SessionKey) -> Option<usize> {
        let index = usize::try_from(key.index).ok()?;
        self.slots.get(index).filter(|slot| slot.key == key).map(|_| index)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn indices(&self) -> Vec<usize> {
        self.slots.iter().map(|(index, _)| index).collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot.as_ref())
    }
}

#[cfg(test)]
mod tests {
    /// 512 bytes are a size in which allocators give memory; one more would cost a million sessions 128 MB.
    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<super::Slot>() <= 512, "{} bytes", size_of::<super::Slot>());
    }
}
