//! One worker's door to the log.
//!
//! In: what the worker's engine wants kept. Out: groups for the thread of the log, and tickets that tell when each is safe. Knows
//! no file; the only thing it may wait for is a read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use viaduct_codec::{Backlog, Kept, Message, PacketId, Place, QoS, SessionId, Settler, Stub, Time};

use super::Limits;
use super::op::{Progress, put_delete, put_new_message, put_owed, put_put, put_received, put_released, put_sent};
use super::read;
use super::shared::{Group, Shared};
use super::wire::{key_bytes, put_record};
use crate::{Accepted, Appended, Health, InFlight, Key, Loaded, Owed, Record, Store, StoreError, Stored, Ticket};

/// Operations after which a group is closed.
const GROUP_OPS: usize = 1024;
/// Bytes after which it is.
const GROUP_BYTES: usize = 512 << 10;
/// Bytes that may be handed over and not be safe before publishers are not read any more.
const CONGESTED: u64 = 16 << 20;
/// Bytes of the disk that new messages leave alone, so that what was promised can be finished.
pub(super) const RESERVE: u64 = 8 << 20;

/// One worker's store.
pub struct Door {
    number: usize,
    shared: Arc<Shared>,
    settler: Arc<Settler>,
    limits: Limits,
    open: Vec<Waiting>,
    bytes: usize,
    due: Option<Time>,
    /// The ticket of the group that is open.
    ticket: u64,
    /// The ticket of the last group that was handed over.
    handed: u64,
    /// The last ticket that was told to be safe.
    told: u64,
    loaded: Option<Prepared>,
}

/// What a door begins with.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) loaded: Loaded,
    pub(super) inflight: Vec<(SessionId, Vec<(Stub, Progress)>)>,
}

/// One thing of the group that is open.
enum Waiting {
    Message { message: Arc<Message>, owed: Vec<Owed>, kept: Arc<Kept>, from: Option<(SessionId, PacketId)> },
    Sent { kept: Arc<Kept>, index: u32, packet_id: PacketId },
    Encoded(Vec<u8>),
}

impl Door {
    pub(super) fn new(number: usize, shared: &Arc<Shared>, limits: Limits, prepared: Prepared) -> Self {
        let settler = shared.doors.get(number).map(|door| Arc::clone(&door.settler)).unwrap_or_default();
        Self {
            number,
            shared: Arc::clone(shared),
            settler,
            limits,
            open: Vec::new(),
            bytes: 0,
            due: None,
            ticket: 1,
            handed: 0,
            told: 0,
            loaded: Some(prepared),
        }
    }

    /// Adds to the open group and says under which ticket.
    fn add(&mut self, now: Time, waiting: Waiting, bytes: usize) -> Accepted {
        let ticket = Ticket(self.ticket);
        self.open.push(waiting);
        self.bytes += bytes;
        self.due.get_or_insert_with(|| now.after(self.limits.commit_delay));
        if self.open.len() >= GROUP_OPS || self.bytes >= GROUP_BYTES || self.limits.commit_delay == Duration::ZERO {
            self.close();
        }
        Accepted::Pending(ticket)
    }

    fn add_encoded(&mut self, now: Time, encode: impl FnOnce(&mut Vec<u8>)) -> Accepted {
        let mut op = Vec::with_capacity(32);
        encode(&mut op);
        let bytes = op.len();
        self.add(now, Waiting::Encoded(op), bytes)
    }

    /// Hands the open group over. What settled in the meantime is left out; when nothing is left, there is nothing to write.
    fn close(&mut self) {
        self.due = None;
        if self.open.is_empty() {
            return;
        }
        let ticket = self.ticket;
        self.ticket += 1;
        let mut body = Vec::with_capacity(self.bytes + self.open.len() * 32);
        let mut last_id = 0;
        for waiting in self.open.drain(..) {
            match waiting {
                Waiting::Message { message, owed, kept, from } => {
                    if put_claimed(&mut body, &message, &owed, &kept, from) {
                        last_id = kept.id();
                    }
                }
                Waiting::Sent { kept, index, packet_id } => {
                    if !kept.is_settled(index) {
                        put_sent(&mut body, kept.id(), index, packet_id);
                    }
                }
                Waiting::Encoded(op) => body.extend_from_slice(&op),
            }
        }
        self.bytes = 0;
        if !body.is_empty() {
            self.handed = ticket;
            self.shared.hand_over(Group { door: self.number, ticket, last_id, body });
        }
    }

    /// What a session has in flight, and what goes out anew because it can't be told any more how far it got.
    fn load_inflight(
        &mut self,
        session: SessionId,
        entries: &[(Stub, Progress)],
        first_waiting: Option<u64>,
    ) -> (Vec<InFlight>, Vec<Stub>) {
        let stubs: Vec<Stub> = entries.iter().map(|(stub, _)| *stub).collect();
        let (mut inflight, mut back) = (Vec::with_capacity(entries.len()), Vec::new());
        for ((stub, progress), stored) in entries.iter().zip(self.read(&stubs)) {
            match stored {
                // Nobody waited for it to be known that a QoS 1 message was sent, so it may be known of a later one and not
                // of an earlier one. Both go out again, in order.
                Ok(stored)
                    if stored.owed.qos == QoS::AtLeastOnce && first_waiting.is_some_and(|first| first < stub.id) =>
                {
                    self.shared.index().unsend(stub.id, stub.index);
                    back.extend(stored.place.into_stub(stub.size));
                }
                Ok(stored) => {
                    let Progress { packet_id, received } = *progress;
                    inflight.push(InFlight { stored, packet_id, received });
                }
                Err(error) => tracing::error!(session = session.0, %error, "a message in flight can't be read"),
            }
        }
        (inflight, back)
    }

    /// Why nothing new is taken at the moment.
    fn refusal(&self, bytes: usize) -> Result<(), StoreError> {
        if self.shared.is_failing.load(Ordering::Acquire)
            && let Health::Failing(reason) = self.shared.health()
        {
            return Err(StoreError::Unavailable(reason.as_ref().into()));
        }
        lack_of_space(&self.shared, self.limits.max_bytes, (self.bytes + bytes) as u64)
    }
}

/// An error when there is no room for so many more bytes.
pub(super) fn lack_of_space(shared: &Shared, max_bytes: u64, bytes: u64) -> Result<(), StoreError> {
    let used = shared.used.load(Ordering::Acquire);
    let wanted = shared.unwritten.load(Ordering::Acquire) + bytes;
    if used + wanted > max_bytes {
        return Err(StoreError::Full { used, limit: max_bytes });
    }
    let free = shared.free.load(Ordering::Acquire);
    if free < wanted.saturating_add(RESERVE) {
        return Err(StoreError::Full { used, limit: used + free });
    }
    Ok(())
}

/// Appends a message with those entries that have not settled; `false` when it can be left out.
fn put_claimed(
    body: &mut Vec<u8>,
    message: &Message,
    owed: &[Owed],
    kept: &Kept,
    from: Option<(SessionId, PacketId)>,
) -> bool {
    if kept.is_over() {
        return false;
    }
    let mut entries = Vec::with_capacity(owed.len() * 8);
    let mut count = 0;
    for (index, owed) in (0..).zip(owed) {
        if let Some(claimed) = kept.claim(index) {
            put_owed(&mut entries, index, owed, claimed.packet_id);
            count += 1;
        }
    }
    let is_needed = count > 0 || from.is_some();
    if is_needed {
        put_new_message(body, kept.id(), from, (count, &entries), message);
    }
    is_needed
}

impl Store for Door {
    fn append(
        &mut self,
        now: Time,
        message: &Arc<Message>,
        owed: Vec<Owed>,
        from: Option<(SessionId, PacketId)>,
        publisher: u64,
    ) -> Result<Appended, StoreError> {
        if owed.is_empty() && from.is_none() {
            return Ok(Appended { kept: None, accepted: Accepted::Safe });
        }
        let bytes = message.size() + owed.len() * size_of::<Owed>();
        self.refusal(bytes)?;
        let id = self.shared.next_id.fetch_add(1, Ordering::AcqRel);
        let lasting = owed.iter().map(|owed| owed.qos == QoS::ExactlyOnce);
        let kept = Kept::new(id, lasting, from.is_some(), publisher, Arc::clone(&self.settler));
        let waiting = Waiting::Message { message: Arc::clone(message), owed, kept: Arc::clone(&kept), from };
        let accepted = self.add(now, waiting, bytes);
        Ok(Appended { kept: Some(kept), accepted })
    }

    fn sent(&mut self, now: Time, place: &Place, packet_id: PacketId) -> Result<Accepted, StoreError> {
        if place.note_sent(packet_id) {
            return Ok(Accepted::Safe);
        }
        let waiting = Waiting::Sent { kept: Arc::clone(place.kept()), index: place.index(), packet_id };
        Ok(self.add(now, waiting, 16))
    }

    fn received(&mut self, now: Time, place: &Place) -> Result<Accepted, StoreError> {
        Ok(self.add_encoded(now, |op| put_received(op, place.id(), place.index())))
    }

    fn released(&mut self, now: Time, session: SessionId, packet_id: PacketId) -> Result<Accepted, StoreError> {
        Ok(self.add_encoded(now, |op| put_released(op, session, packet_id)))
    }

    fn put(&mut self, now: Time, record: Record) -> Result<Accepted, StoreError> {
        let bytes = if let Record::Retained(message, _) = &record { message.size() } else { 0 };
        let refusal = self.refusal(bytes);
        match (&record, refusal) {
            // A session that is there must be able to go on when there is no room for messages.
            (Record::Session(_) | Record::Subscription(_) | Record::Will(_), Err(StoreError::Full { .. })) => {}
            (_, refusal) => refusal?,
        }
        let key = key_bytes(&record.key());
        Ok(self.add_encoded(now, |op| put_put(op, &key, |out| put_record(out, &record))))
    }

    fn delete(&mut self, now: Time, key: &Key) -> Result<Accepted, StoreError> {
        let key = key_bytes(key);
        Ok(self.add_encoded(now, |op| put_delete(op, &key)))
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        let Some(Prepared { mut loaded, inflight }) = self.loaded.take() else { return Ok(Loaded::default()) };
        for (session, entries) in inflight {
            let place = loaded.queued.iter().position(|(waits, _)| *waits == session);
            let queued = place.and_then(|place| loaded.queued.get_mut(place)).map(|(_, backlog)| backlog);
            let first_waiting = queued.as_ref().and_then(|backlog| backlog.front()).map(|stub| stub.id);
            let (read, mut back) = self.load_inflight(session, &entries, first_waiting);
            loaded.inflight.push((session, read));
            if let (false, Some(backlog)) = (back.is_empty(), queued) {
                back.extend(backlog.pop_front(backlog.len()));
                back.sort_unstable_by_key(|stub| (stub.id, stub.index));
                back.into_iter().for_each(|stub| backlog.push_back(stub));
            }
        }
        Ok(loaded)
    }

    fn read(&mut self, stubs: &[Stub]) -> Vec<Result<Stored, StoreError>> {
        read::read(|look| look(&self.shared.index()), stubs, &self.settler)
    }

    fn backlog(&self) -> Backlog {
        Backlog::new(Arc::clone(&self.settler))
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.due.is_some_and(|due| due <= now) {
            self.close();
        }
    }

    fn next_timeout(&self) -> Option<Time> {
        self.due
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        let committed = self.shared.doors.get(self.number).map_or(0, |door| door.committed.load(Ordering::Acquire));
        // Groups that had nothing to write are as safe as the last that had.
        let safe = if committed >= self.handed { self.ticket - 1 } else { committed };
        if safe <= self.told {
            return None;
        }
        self.told = safe;
        Some(Ticket(safe))
    }

    fn poll_released(&mut self) -> Vec<u64> {
        self.settler.take_released()
    }

    fn state(&self) -> Health {
        self.shared.health()
    }

    fn is_congested(&self) -> bool {
        self.shared.unwritten.load(Ordering::Acquire) + self.bytes as u64 > CONGESTED
    }
}

impl Drop for Door {
    /// What was taken is written, as far as the log can.
    fn drop(&mut self) {
        self.close();
    }
}
