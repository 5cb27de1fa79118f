//! What sessions that outlive their connections are owed, as the store is told of it.
//!
//! In: messages with who hears them, and what sessions note. Out: appends, marks and reads. A message is appended once for
//! all who are owed it; each of them carries its place in that list and says by dropping it that it is not owed any more.

use std::sync::Arc;

use viaduct_codec::{Message, QoS, Stub, SubscriptionIds};
use viaduct_router::{Merged, Route, RouteSet};
use viaduct_session::{Delivery, Note};
use viaduct_store::{Accepted, Owed, StoreError};

use crate::Engine;
use crate::acks::{Step, Waiter};
use crate::connections::CloseReason;
use crate::dispatch::{Chosen, delivery};
use crate::due::Timer;
use crate::key::SessionKey;
use crate::limits::READ_PAUSE;
use crate::registry::Slot;
use crate::seams::Epoch;
use crate::shared::Durable;
use crate::stats::Dropped;

/// How the subscriber of `route` is owed `message`; `None` when it is not, or does not outlive its connection.
pub(crate) fn owed<'a>(
    route: &'a Route<SessionKey>,
    message: &Message,
    publisher: Option<SessionKey>,
) -> Option<&'a Merged> {
    let merged = route.for_publisher(publisher == Some(route.key))?;
    (merged.durable && merged.qos.min(message.qos) > QoS::AtMostOnce).then_some(merged)
}

impl Engine {
    /// Everybody who is owed `message`, in the order that [`owed`] finds them in `routes`, and behind them those of `chosen`
    /// who outlive their connection.
    pub(crate) fn owed_list(
        &self,
        message: &Arc<Message>,
        routes: &RouteSet<SessionKey>,
        chosen: &[Chosen],
        publisher: Option<SessionKey>,
    ) -> Vec<Owed> {
        let mut list = Vec::new();
        if message.qos == QoS::AtMostOnce {
            return list;
        }
        if routes.has_durable() {
            list.reserve_exact(routes.routes().len() + chosen.len());
            let owed = routes.routes().iter().filter_map(|route| Some((route.key, owed(route, message, publisher)?)));
            list.extend(owed.map(|(key, merged)| self.owed(key, &delivery(message, merged, None))));
        }
        let durable = chosen.iter().filter(|chosen| chosen.durable);
        list.extend(durable.map(|chosen| self.owed(chosen.member, &chosen.delivery)));
        list
    }

    fn owed(&self, session: SessionKey, delivery: &Delivery) -> Owed {
        // Those of this worker are found without the lock that all share.
        let own = if session.worker == self.worker.0 { self.sessions.find(session) } else { None };
        let own = own.and_then(|index| self.sessions.get(index)).filter(|slot| slot.is_durable());
        let Durable { id, away } = own.map_or_else(|| self.shared.durable(session), Slot::durable);
        Owed {
            session: id,
            qos: delivery.qos,
            retain: delivery.retain,
            ids: SubscriptionIds::from_slice(&delivery.ids),
            group: delivery.group.clone(),
            away,
        }
    }

    /// Appends what one session is owed and nobody has appended yet: a retained message, or one of a share group that
    /// another member gave back.
    pub(crate) fn keep_delivery(&mut self, index: usize, delivery: &mut Delivery) {
        let Some(slot) = self.sessions.get(index) else { return };
        if delivery.qos == QoS::AtMostOnce || delivery.kept.is_some() || !slot.is_durable() {
            return;
        }
        let owed = [self.owed(slot.key, delivery)];
        match self.store.append(self.clock, &delivery.message, owed.into(), None, 0) {
            Ok(appended) => delivery.kept = appended.kept.map(|kept| kept.place(0)),
            Err(StoreError::Fenced { current, .. }) => self.fence(self.clock, index, Some(Epoch(current))),
            Err(error) => self.note_store_result("message", Err(error)),
        }
    }

    /// Tells the store what the session at `index` noted.
    pub(crate) fn keep_notes(&mut self, index: usize) {
        let Some(slot) = self.sessions.get_mut(index).filter(|slot| slot.session.has_notes()) else { return };
        let (key, id) = (slot.key, slot.id);
        let notes = slot.session.take_notes();
        let now = self.clock;
        for note in notes {
            let (packet_id, step, accepted) = match &note {
                Note::Sent(packet_id, place, qos, hold) => {
                    let accepted = self.store.sent(now, place, *packet_id, *qos);
                    if *qos < QoS::ExactlyOnce && !matches!(accepted, Err(StoreError::Fenced { .. })) {
                        continue; // Nothing waits for it: after a crash it would be sent again under any identifier.
                    }
                    (*packet_id, Step::Proceed(*hold), accepted)
                }
                Note::Received(packet_id, place, hold) => {
                    (*packet_id, Step::Proceed(*hold), self.store.received(now, place))
                }
                Note::Released(packet_id) => (*packet_id, Step::Complete, self.store.released(now, id, *packet_id)),
            };
            match accepted {
                Ok(Accepted::Pending(ticket)) => self.wait(ticket, Waiter::Exchange(key, packet_id, step)),
                Ok(Accepted::Safe) => self.take_step(now, index, packet_id, step),
                Err(StoreError::Fenced { current, .. }) => return self.fence(now, index, Some(Epoch(current))),
                Err(error) => {
                    if step == Step::Complete {
                        self.with_output(index, |session, _| session.keep(packet_id));
                    }
                    // What is held is noted again on the next connection.
                    self.note_store_result("QoS 2", Err(error));
                    let ending = viaduct_session::server::Ending::Lost;
                    self.end_connection(now, index, None, CloseReason::StoreFailed, ending);
                }
            }
        }
    }

    /// Reads what the session at `index` can send next from the store, as long as it takes more.
    pub(crate) fn page(&mut self, index: usize) {
        let now = self.clock;
        loop {
            if self.sessions.get(index).and_then(Slot::connection).is_none() {
                return;
            }
            // Counted as taken and as come back, like everything that changes a queue.
            let stubs = self.with_output(index, |session, output| session.page_out(output)).unwrap_or_default();
            if stubs.is_empty() {
                return;
            }
            let (page, unread) = self.read(index, &stubs);
            self.with_output(index, |session, output| session.page_in(now, page, &unread, output));
            if !unread.is_empty() {
                if let Some(slot) = self.sessions.get(index) {
                    self.due.at(now.after(READ_PAUSE), Timer::Page(slot.key));
                }
                return;
            }
        }
    }

    /// The time has come to try again to read what the session of `key` can send next.
    pub(crate) fn page_again(&mut self, key: SessionKey) {
        if let Some(index) = self.sessions.find(key) {
            self.page(index);
            self.keep_notes(index);
        }
    }

    /// Takes out what an earlier process left for the session at `index`, which ends, and another member of a share group may
    /// have. The rest of it is owed to nobody any more.
    pub(crate) fn take_shared_of_earlier(&mut self, index: usize, orphans: &mut Vec<Delivery>) {
        loop {
            let stubs = self.with_output(index, |session, _| session.take_page_of_shared()).unwrap_or_default();
            if stubs.is_empty() {
                return;
            }
            let (page, unread) = self.read(index, &stubs);
            self.stats.dropped(Dropped::SessionEnded, unread.len() as u64);
            for delivery in page {
                if delivery.group.is_some() {
                    orphans.push(delivery);
                } else {
                    self.stats.dropped(Dropped::SessionEnded, 1);
                }
            }
        }
    }

    /// The messages at `stubs`. What is damaged is given up and passed over; from the first that can't be read now everything
    /// stays where it is, so that nothing overtakes it.
    fn read(&mut self, index: usize, stubs: &[Stub]) -> (Vec<Delivery>, Vec<Stub>) {
        let mut page = Vec::with_capacity(stubs.len());
        let mut unread = Vec::new();
        for (stub, stored) in stubs.iter().zip(self.store.read(stubs)) {
            match stored {
                Ok(stored) if unread.is_empty() => page.extend(self.delivery_of(index, stored)),
                // Nobody else has its place, and what was read can be read again.
                Ok(stored) => unread.extend(stored.place.into_stub(stub.size)),
                Err(error @ StoreError::Damaged(_)) if unread.is_empty() => self.unreadable(index, &error),
                Err(error) => {
                    if unread.is_empty() {
                        self.note_unread(index, &error);
                    }
                    unread.push(*stub);
                }
            }
        }
        (page, unread)
    }

    /// A message from the store as the session at `index` is to get it.
    pub(crate) fn delivery_of(&self, index: usize, stored: viaduct_store::Stored) -> Option<Delivery> {
        let viaduct_store::Stored { mut message, owed, place } = stored;
        let slot = self.sessions.get(index)?;
        Message::begin_by(&mut message, self.clock);
        let message = if slot.mountpoint.is_some() { slot.unmounted(&message)? } else { message };
        let Owed { qos, retain, ids, group, .. } = owed;
        Some(Delivery { message, qos, retain, ids, group, kept: Some(place) })
    }

    fn note_unread(&mut self, index: usize, error: &StoreError) {
        let client_id = self.client_id(index);
        self.log.line(self.clock, |more| {
            tracing::warn!(%client_id, %error, more, "what waits for it can't be read from the store now; it is tried again");
        });
    }

    pub(crate) fn unreadable(&self, index: usize, error: &StoreError) {
        self.stats.dropped(Dropped::Unreadable, 1);
        let client_id = self.client_id(index);
        tracing::error!(%client_id, %error, "a message that waited for it can't be read from the store any more and is lost");
    }
}
