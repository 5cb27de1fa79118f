//! What an operator may see of the sessions.

use std::sync::Arc;

use viaduct_codec::{ClientId, Level};

use crate::registry::Slot;
use crate::{Dropped, Engine};

/// One session, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientView {
    /// Its name.
    pub client_id: ClientId,
    /// `None` for an anonymous client.
    pub username: Option<Arc<str>>,
    /// Address and port of its connection; `None` while it has none.
    pub peer: Option<Arc<str>>,
    /// The listener that its connection came by.
    pub listener: Option<Arc<str>>,
    /// The protocol level of its connection.
    pub level: Option<Level>,
    /// Subscriptions that it holds.
    pub subscriptions: usize,
    /// Messages that wait.
    pub queued_messages: usize,
    /// Bytes that they hold.
    pub queued_bytes: usize,
    /// Messages for it that were given up since the session began, or this process.
    pub dropped: u64,
    /// The same by reason, in the order of [`Dropped::ALL`].
    pub dropped_for: [u64; Dropped::ALL.len()],
    /// Messages sent and not acknowledged yet.
    pub inflight: usize,
    /// Seconds that it outlives its connection.
    pub session_expiry: u32,
}

impl Engine {
    /// Every session of this worker.
    pub fn clients(&self) -> impl Iterator<Item = ClientView> {
        self.sessions.iter().map(|slot| self.view(slot))
    }

    /// The session of this ClientID, if it lives on this worker.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<ClientView> {
        self.sessions.get(self.sessions.by_client(client_id)?).map(|slot| self.view(slot))
    }

    fn view(&self, slot: &Slot) -> ClientView {
        let connection = slot.connection().and_then(|index| self.connections.get(index));
        let (queued_messages, queued_bytes) = slot.session.queued();
        let dropped_for = slot.dropped();
        ClientView {
            client_id: slot.client_id.clone(),
            username: slot.identity.username.clone(),
            peer: connection.map(|connection| Arc::clone(&connection.peer)),
            listener: connection.map(|connection| Arc::clone(&connection.listener)),
            level: slot.session.level(),
            subscriptions: slot.subscriptions.len(),
            queued_messages,
            queued_bytes,
            dropped: dropped_for.iter().sum(),
            dropped_for,
            inflight: slot.session.inflight(),
            session_expiry: slot.session.session_expiry(),
        }
    }
}
