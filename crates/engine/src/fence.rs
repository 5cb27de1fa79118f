//! A session that another owner has by now: nothing more is done for it here.
//!
//! In: what the owners say that was lost, and a store that refuses an epoch. Out: the connection closed, the session
//! forgotten. The session itself lives on where it is owned: nothing of it is published, settled, deleted or given to others.

use viaduct_codec::{ReasonCode, Time};

use crate::Engine;
use crate::connections::CloseReason;
use crate::seams::{Epoch, Lost};

impl Engine {
    /// Lets go of every session that is owned elsewhere.
    pub(crate) fn notice_lost(&mut self, now: Time) {
        while let Some(Lost { client_id, held, current }) = self.owners.poll_lost() {
            let index = self.sessions.by_client(client_id.as_str());
            // What was claimed again since then is owned under the later epoch.
            let is_held = |index: &usize| self.sessions.get(*index).is_some_and(|slot| slot.epoch <= held);
            if let Some(index) = index.filter(is_held) {
                self.fence(now, index, Some(current));
            }
        }
    }

    /// Another owner has the session at `index`: its client hears 0x8E (5.0) and loses its connection; whatever was not
    /// acknowledged to it is not, and nothing is delivered to it any more.
    pub(crate) fn fence(&mut self, now: Time, index: usize, current: Option<Epoch>) {
        let Some(slot) = self.sessions.get_mut(index) else { return };
        self.stats.sessions_fenced.add(1);
        // It goes on elsewhere, so its connection has not ended badly (MQTT-3.1.3-9).
        (slot.will, slot.delayed_will) = (None, None);
        let (client_id, held) = (slot.client_id.clone(), slot.epoch.0);
        let current = current.map(|epoch| epoch.0);
        let connection = slot.connection();
        let peer = self.peer(index).unwrap_or_default();
        self.log.line(now, |more| {
            tracing::warn!(
                %client_id, %peer, held, current, more,
                "fenced: its session is owned elsewhere by now, and nothing more is done for it here"
            );
        });
        if let Some(connection) = connection {
            // What is kept back for the store makes promises that nobody here can keep any more.
            self.connections.drop_held(connection);
            let reason = ReasonCode::SESSION_TAKEN_OVER;
            self.with_output(index, |session, output| session.disconnect(reason, None, output));
            if let Some(connection) = self.connections.get_mut(connection) {
                connection.closing = Some(Box::new(CloseReason::Fenced));
                connection.set_session(None);
            }
            self.connections.mark(connection);
            self.stats.sessions_connected.sub(1);
        } else {
            self.stats.sessions_disconnected.sub(1);
        }
        self.with_output(index, |session, _| session.leave());
        let Some(slot) = self.sessions.remove(index) else { return };
        for filter in slot.subscriptions.filters() {
            self.hearers.leave(filter.by_ref(), slot.key);
        }
        if slot.is_durable() {
            self.shared.forget_durable(slot.key);
        }
    }
}
