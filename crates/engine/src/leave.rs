//! Messages that nobody takes soon leave memory while they are near the processor: they wait in the store.
//!
//! In: messages with who hears them. Out: bytes of the log, and in the queues of those whose clients are away nothing but places
//! there. Decides nothing about what is given up: whatever a queue or the memory of all has no room for goes the long way.

use std::sync::Arc;

use viaduct_codec::Time;

use crate::Engine;
use crate::express_acked::Taken;
use crate::keep::owed;

impl Engine {
    /// Has the messages of a run that were `taken`, which are from the session at `index`, wait in the store, and answers them. No
    /// message is made of them: their bytes go from where they came to where they are written from. `None`, and nothing was done,
    /// unless everybody who hears them is owed them by this worker, is away, and has room for all of them.
    #[inline(never)] // Most runs go another way, which is not to be looked for around this one.
    pub(crate) fn leave_run(&mut self, now: Time, index: usize, taken: &Taken<'_>) -> Option<()> {
        let &Taken { messages, like, routes, payload, .. } = taken;
        if !routes.has_durable() {
            return None;
        }
        let key = self.sessions.get(index)?.key;
        for route in routes.routes() {
            let merged = owed(route, like, Some(key))?;
            let at = self.sessions.find(route.key).filter(|at| self.leaves(*at))?;
            if merged.checked && !self.may_read(at, like) {
                return None;
            }
        }
        let bytes = messages.len() * like.size() + payload;
        let heirs = routes.routes().len();
        let has_room = |key| {
            let slot = self.sessions.find(key).and_then(|index| self.sessions.get(index));
            slot.is_some_and(|slot| slot.session.has_room(messages.len(), bytes))
        };
        if self.memory_left() < (bytes * heirs) as u64 || !routes.routes().iter().all(|route| has_room(route.key)) {
            return None;
        }
        let owed = self.owed_list(&Arc::new(like.clone()), routes, &[], Some(key));
        let (first, accepted) = self.store.append_run(now, like, messages, &owed)?;
        self.sessions.get_mut(index)?.session.take_plain(now, messages.iter().map(|message| message.packet_id));
        for (place, route) in (0..).zip(routes.routes()) {
            // A packet has at most a quarter of a gigabyte.
            let sizes = messages.iter().map(|message| (like.size() + message.payload.len()) as u32);
            if let Some(index) = self.sessions.find(route.key) {
                self.with_session(index, |session, _| session.take_stubs(first, place, sizes));
                self.stats.payload_bytes_sent.add(payload as u64);
            }
        }
        let mut acks = std::mem::take(&mut self.run.acks);
        acks.extend(taken.acks(key));
        self.acknowledge(now, &acks, (accepted, None), None);
        acks.clear();
        self.run.acks = acks;
        Some(())
    }

    /// Whether what the session at `index` hears waits in the store alone, as it came.
    fn leaves(&self, index: usize) -> bool {
        self.sessions
            .get(index)
            .is_some_and(|slot| slot.connection().is_none() && slot.mountpoint.is_none() && slot.session.is_in_store())
    }
}
