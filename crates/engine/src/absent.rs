//! Sessions whose owner is not there, at the operator's word: what may wait for them, and their end.
//!
//! In: a ClientID. Out: nothing; the session is as asked. Must never: ask whether the operator may.

use std::sync::Arc;

use viaduct_codec::{ReasonCode, Time};
use viaduct_session::QueueLimits;
use viaduct_session::server::Ending;

use crate::Engine;
use crate::connections::CloseReason;

impl Engine {
    /// From now on what waits for the session is held to `limits`. A session that was restored from the store has those of the
    /// settings until its client comes back, and this broker's half of a bridge has none. Nothing happens when there is no such session on this worker.
    pub fn limit_queue(&mut self, client_id: &str, limits: Arc<QueueLimits>) {
        let index = self.sessions.by_client(client_id);
        if let Some(slot) = index.and_then(|index| self.sessions.get_mut(index)) {
            slot.session.limit(limits);
        }
    }

    /// Holds what waits for the session at `index`, which has no terms of a connection, to the settings.
    pub(crate) fn limit_absent(&mut self, index: usize) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        // A bridge has limits of its own and tells them before long; until then nothing of what it is owed is given up.
        let own =
            || Arc::new(QueueLimits { max_messages: usize::MAX, max_bytes: usize::MAX, ..QueueLimits::default() });
        slot.session.limit(if slot.identity.local { own() } else { Arc::clone(&self.settings.queue) });
    }

    /// Ends the session for good, its connection first; what waits for it is gone. `false` when there is none on this worker.
    pub fn end_client(&mut self, now: Time, client_id: &str) -> bool {
        self.notice_new_rules(now);
        let Some(index) = self.sessions.by_client(client_id) else { return false };
        if self.sessions.get(index).is_some_and(|slot| slot.connection().is_some()) {
            let reason = Some(ReasonCode::ADMINISTRATIVE_ACTION);
            self.end_connection(now, index, reason, CloseReason::Administrative, Ending::Lost);
        }
        // A session that lives no longer than its connection has ended with it.
        let still = self.sessions.by_client(client_id);
        if let Some(index) = still {
            self.end_session(now, index);
        }
        true
    }
}
