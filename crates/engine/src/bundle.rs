//! Messages of a run that go out together: each session that hears them has one exchange for all, and the store one piece of memory.
//!
//! In: what was taken of a run, with who hears it. Out: its packets, under other identifiers, for each who hears it. Decides nothing
//! about what is given up: whoever has no room for all of them now, or hears them in another way, makes all of it go the long way.

use std::sync::Arc;

use viaduct_codec::{AckedRun, Bundle, QoS, Time};
use viaduct_router::RouteSet;
use viaduct_session::Delivery;
use viaduct_store::{Appended, Together};

use crate::Engine;
use crate::dispatch::delivery;
use crate::express_acked::Taken;
use crate::keep::owed;
use crate::key::SessionKey;

impl Engine {
    /// Whether the first to hear a message has a bundle open that one more would undo, if it did not go as one too.
    pub(crate) fn is_behind_bundle(&self, routes: &RouteSet<SessionKey>) -> bool {
        let first = routes.routes().first().and_then(|route| self.sessions.find(route.key));
        first.and_then(|index| self.sessions.get(index)).is_some_and(|slot| slot.session.is_bundled())
    }

    /// Keeps the messages of a run that were `taken`, which are from the session at `index`, sends them to everybody who hears them,
    /// and answers them. `None`, and nothing was done, unless each who hears them does so on this worker, would be sent all of them
    /// at once, and would be sent nothing but them.
    #[inline(never)] // As [`Engine::leave_run`].
    pub(crate) fn send_bundle(&mut self, now: Time, index: usize, taken: &Taken<'_>) -> Option<()> {
        let key = self.sessions.get(index)?.key;
        let &Taken { run, messages, like, routes, payload, .. } = taken;
        let longest = messages.iter().map(|message| message.payload.len()).max()?;
        let user_properties = like.properties.as_ref().map_or(&[][..], |own| &own.user_properties);
        let largest = AckedRun::size_as(like.topic.by_ref(), user_properties, longest);
        let mut is_heard = false;
        for route in routes.routes() {
            let Some(merged) = route.for_publisher(route.key == key) else { continue };
            is_heard = true;
            let is_plain = merged.qos >= QoS::AtLeastOnce && merged.ids.is_empty();
            let at = self.sessions.find(route.key).filter(|_| is_plain && route.key.worker == self.worker.0)?;
            let slot = self.sessions.get(at).filter(|slot| slot.mountpoint.is_none())?;
            let output = &self.connections.get(slot.connection()?)?.output;
            let is_ready = slot.session.takes_bundle(messages.len(), largest, output)
                && slot.is_durable() == merged.durable
                && (!merged.checked || self.may_read(at, like));
            if !is_ready {
                return None;
            }
        }
        if !is_heard {
            return None;
        }
        let bundle = Arc::new(Bundle::new(like.clone(), run, messages));
        let owed_list = if routes.has_durable() {
            self.owed_list(&Arc::new(like.clone()), routes, &[], Some(key))
        } else {
            Vec::new()
        };
        let appended = if owed_list.is_empty() {
            Ok(Appended::NOTHING)
        } else {
            self.store.append_all(now, Together::Bundle(&bundle), owed_list.into(), None, key.mark())
        };
        if matches!(&appended, Err(error) if error.is_full()) {
            return None; // One by one some may find room.
        }
        let mut acks = std::mem::take(&mut self.run.acks);
        acks.extend(taken.acks(key));
        self.sessions.get_mut(index)?.session.take_plain(now, acks.iter().map(|ack| ack.packet_id));
        let Appended { kept, accepted } = match appended {
            Ok(appended) => appended,
            Err(error) => {
                self.refuse_run(now, index, &acks, &error);
                acks.clear();
                self.run.acks = acks;
                return Some(());
            }
        };
        let mut place = 0;
        for route in routes.routes() {
            let owed = owed(route, like, Some(key)).and(kept.as_ref()).map(|kept| (kept, place));
            place += u32::from(owed.is_some());
            let Some(merged) = route.for_publisher(route.key == key) else { continue };
            let Some(at) = self.sessions.find(route.key) else {
                drop(owed.map(|(kept, place)| kept.every(place))); // It settles them.
                continue;
            };
            let sent = self
                .with_session(at, |session, output| session.send_bundle((&bundle, messages), largest, owed, output));
            if sent == Some(true) {
                self.stats.payload_bytes_sent.add(payload as u64);
                continue;
            }
            let each = (0..).zip(bundle.messages(0)).map(|(number, message)| {
                let kept = owed.map(|(kept, place)| kept.place(place + number * kept.stride()));
                Delivery { kept, ..delivery(&message, merged, None) }
            });
            self.hand_over_all(now, at, each);
        }
        self.acknowledge(now, &acks, (accepted, kept), None);
        acks.clear();
        self.run.acks = acks;
        Some(())
    }
}
