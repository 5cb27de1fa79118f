//! One worker's door to the log.
//!
//! In: what the worker's engine wants kept. Out: groups for the thread of the log, and tickets that tell when each is safe. Knows
//! no file; the only thing it may wait for is a read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use viaduct_codec::{
    AckedMessage, Backlog, Bundle, Kept, Message, PacketId, Place, QoS, SessionId, Settler, Stub, Time,
};

use super::Limits;
use super::op::{
    Progress, put_delete, put_new_message, put_owed, put_put, put_received, put_released, put_run, put_sent,
};
use super::read;
use super::shared::{Group, Shared};
use super::wire::{key_bytes, put_record};
use crate::{
    Accepted, Appended, Health, InFlight, Key, Loaded, Owed, Record, Store, StoreError, Stored, Ticket, Together,
};

/// Operations after which a group is closed: what a stream to clients that are there has under way is far less.
const GROUP_OPS: usize = 4096;
/// Bytes after which it is.
const GROUP_BYTES: usize = 512 << 10;
/// Bytes after which it is when nothing is gained by waiting: so many that its own cost is small beside theirs, and so few that
/// the disk need not wait for the end of a long turn.
const URGENT_BYTES: usize = 64 << 10;
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
    /// The oldest first. All that came at one moment has one ticket.
    open: VecDeque<Open>,
    /// Bytes of all that is open.
    bytes: usize,
    /// How many of it nothing is gained by waiting for.
    urgent: usize,
    /// The ticket of what came last, or comes next when nothing is open.
    ticket: u64,
    /// Up to this ticket nothing is open any more.
    closed: u64,
    /// The ticket of the last group that was handed over.
    handed: u64,
    /// The last ticket that was told to be safe.
    told: u64,
    /// Bytes of the group that was handed over last: about as many will be in the next.
    last_length: usize,
    /// Memory for the entries of one message.
    entries: Vec<u8>,
    loaded: Option<Prepared>,
}

/// What a door begins with.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) loaded: Loaded,
    pub(super) inflight: Vec<(SessionId, Vec<(Stub, Progress)>)>,
}

/// One thing that is to be written, unless it settles before its time has come.
struct Open {
    since: Time,
    ticket: u64,
    bytes: usize,
    /// Somebody waits for it, and it will not settle in the meantime.
    is_urgent: bool,
    waiting: Waiting,
}

enum Waiting {
    /// Messages that came together, all owed to the same.
    Messages {
        messages: Messages,
        owed: Arc<[Owed]>,
        kept: Arc<Kept>,
        from: Option<(SessionId, PacketId)>,
    },
    /// The entry was written when it went out.
    Sent {
        kept: Arc<Kept>,
        entry: u32,
        id: u64,
        index: u32,
        packet_id: PacketId,
    },
    Encoded(Vec<u8>),
    /// Messages that stand in what is unwritten, in the same order: so many bytes, and the highest number, 0 for none.
    Made {
        length: usize,
        last_id: u64,
    },
}

/// Messages that came together.
enum Messages {
    Each(SmallVec<[Arc<Message>; 1]>),
    Bundle(Arc<Bundle>),
}

impl Waiting {
    /// Whether it has settled and need not be written any more.
    fn is_over(&self) -> bool {
        match self {
            Self::Messages { kept, .. } => kept.is_over(),
            Self::Sent { kept, entry, .. } => kept.is_settled(*entry),
            Self::Encoded(_) | Self::Made { .. } => false,
        }
    }
}

impl Door {
    pub(super) fn new(number: usize, shared: &Arc<Shared>, limits: Limits, prepared: Prepared) -> Self {
        let settler = shared.doors.get(number).map(|door| Arc::clone(&door.settler)).unwrap_or_default();
        Self {
            number,
            shared: Arc::clone(shared),
            settler,
            limits,
            open: VecDeque::new(),
            bytes: 0,
            urgent: 0,
            ticket: 1,
            closed: 0,
            handed: 0,
            told: 0,
            last_length: 0,
            entries: Vec::new(),
            loaded: Some(prepared),
        }
    }

    /// Adds to what is open and says under which ticket.
    fn add(&mut self, now: Time, waiting: Waiting, bytes: usize, is_urgent: bool) -> Accepted {
        self.let_go();
        if self.open.back().is_some_and(|last| last.since != now) {
            self.ticket += 1;
        }
        let ticket = self.ticket;
        self.open.push_back(Open { since: now, ticket, bytes, is_urgent, waiting });
        self.bytes += bytes;
        self.urgent += usize::from(is_urgent);
        let is_ready = self.bytes >= URGENT_BYTES && self.is_urgent();
        if is_ready || self.limits.commit_delay == Duration::ZERO {
            self.close(self.open.len());
        } else if self.is_full(1) {
            self.sweep();
            // Half empty is worth waiting on; less would be swept again and again.
            if self.is_full(2) {
                self.close(self.open.len());
            }
        }
        Accepted::Pending(Ticket(ticket))
    }

    /// Lets go of the oldest as far as they need not be written any more, so that their memory is the next one's while it is
    /// still near: of a dense stream to a subscriber that is there no more is held than is under way.
    fn let_go(&mut self) {
        while let Some(first) = self.open.front().filter(|first| first.waiting.is_over()) {
            self.bytes -= first.bytes;
            self.urgent -= usize::from(first.is_urgent);
            self.open.pop_front();
        }
    }

    /// Whether so much is open that a group of the `part`th part of its size could be made of it.
    fn is_full(&self, part: usize) -> bool {
        self.open.len() >= GROUP_OPS / part || self.bytes >= GROUP_BYTES / part
    }

    /// Lets go of what has settled; how much that was.
    fn sweep(&mut self) -> usize {
        let before = self.open.len();
        let (bytes, urgent) = (&mut self.bytes, &mut self.urgent);
        self.open.retain(|open| {
            let is_over = open.waiting.is_over();
            if is_over {
                *bytes -= open.bytes;
                *urgent -= usize::from(open.is_urgent);
            }
            !is_over
        });
        before - self.open.len()
    }

    /// Whether nothing is gained by waiting: at least half of what is open will not settle by that. It need not be all of it, and
    /// it must be that much: a dense stream to subscribers that are there is not written for one message to somebody else.
    fn is_urgent(&self) -> bool {
        self.urgent > 0 && self.urgent * 2 >= self.open.len()
    }

    fn add_encoded(&mut self, now: Time, is_urgent: bool, encode: impl FnOnce(&mut Vec<u8>)) -> Accepted {
        let mut op = Vec::with_capacity(32);
        encode(&mut op);
        let bytes = op.len();
        self.add(now, Waiting::Encoded(op), bytes, is_urgent)
    }

    /// Everything is written when nothing is gained by waiting: it joins what came while the disk was busy, and goes with the next
    /// sync. Otherwise what has waited for long enough is written, and what came after it as well. Only where most settles by waiting, the younger
    /// half of the delay is left open: otherwise a dense stream would have whatever is under way written each time.
    fn close_due(&mut self, now: Time) {
        if self.is_urgent() {
            return self.close(self.open.len());
        }
        let open = self.open.len();
        let pays = self.sweep() > open / 2;
        let half = self.limits.commit_delay / 2;
        let count = match pays {
            true => self.open.iter().take_while(|open| open.since.after(half) <= now).count(),
            false => self.open.len(),
        };
        let is_due = |open: &Open| open.since.after(self.limits.commit_delay) <= now;
        self.close(if self.open.front().is_some_and(is_due) { count } else { 0 });
    }

    /// Hands the `count` oldest over as one group, without what settled in the meantime; when nothing is left, there is nothing to
    /// write. Nothing is split that has one ticket.
    fn close(&mut self, count: usize) {
        let shared = Arc::clone(&self.shared);
        let Some(door) = shared.doors.get(self.number) else { return };
        let mut unwritten = door.unwritten();
        let made = std::mem::take(&mut unwritten.open);
        let is_made = |open: &Open| matches!(open.waiting, Waiting::Made { .. });
        let is_all_made = count == self.open.len() && self.open.iter().all(is_made);
        let mut body = Vec::new();
        if !is_all_made {
            body.reserve(self.open.iter().take(count).map(|open| open.bytes + 32).sum());
        }
        let (mut last_id, mut last_ticket) = (0, self.closed);
        let mut made_until = 0;
        for Open { ticket, bytes, is_urgent, waiting, .. } in self.open.drain(..count) {
            self.bytes -= bytes;
            self.urgent -= usize::from(is_urgent);
            last_ticket = ticket;
            match waiting {
                Waiting::Messages { messages, owed, kept, from } => {
                    let last = put_all(&mut body, &mut self.entries, &messages, &owed, &kept, from);
                    last_id = last_id.max(last);
                }
                Waiting::Made { length, last_id: last } => {
                    last_id = last_id.max(last);
                    let from = made_until;
                    made_until += length;
                    if !is_all_made {
                        body.extend_from_slice(made.get(from..made_until).unwrap_or_default());
                    }
                }
                Waiting::Sent { kept, entry, id, index, packet_id } => {
                    if !kept.is_settled(entry) {
                        put_sent(&mut body, id, index, packet_id);
                    }
                }
                Waiting::Encoded(op) => body.extend_from_slice(&op),
            }
        }
        if is_all_made {
            body = made;
        } else {
            unwritten.open = made.get(made_until..).unwrap_or_default().to_vec();
        }
        self.closed = match self.open.front() {
            Some(first) => first.ticket - 1,
            None => {
                self.ticket += 1;
                self.ticket - 1
            }
        };
        if !body.is_empty() {
            self.handed = last_ticket;
            self.last_length = body.len();
            let body = Arc::new(body);
            unwritten.hand_over(last_ticket, last_id, Arc::clone(&body));
            drop(unwritten);
            self.shared.hand_over(Group { door: self.number, ticket: last_ticket, last_id, body });
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
        return Err(StoreError::DiskFull { free, reserve: RESERVE });
    }
    Ok(())
}

/// Appends messages that came together with those entries that have not settled, and says that they can be read back; the highest
/// number, 0 when all can be left out. `entries` is memory for what it needs in between.
fn put_all(
    body: &mut Vec<u8>,
    entries: &mut Vec<u8>,
    messages: &Messages,
    owed: &[Owed],
    kept: &Kept,
    from: Option<(SessionId, PacketId)>,
) -> u64 {
    let mut last_id = 0;
    let mut put = |number, like: &Message, payload: &[u8]| {
        if put_claimed((body, entries), number, (like, payload), owed, kept, from) {
            last_id = kept.id() + u64::from(number);
        }
    };
    match messages {
        Messages::Each(each) => {
            (0..).zip(each).for_each(|(number, message)| put(number, message, &message.payload));
        }
        // Most have settled by then, all of them at once.
        Messages::Bundle(_) if kept.is_over() => {}
        Messages::Bundle(bundle) => {
            (0..).zip(bundle.payloads()).for_each(|(number, payload)| put(number, bundle.like(), payload));
        }
    }
    kept.set_readable();
    last_id
}

/// Appends the message that is the one with this number in `kept`, `like` one but for its payload, with those entries that have not
/// settled; `false` when it can be left out. `entries` is memory for what it needs in between.
fn put_claimed(
    (body, entries): (&mut Vec<u8>, &mut Vec<u8>),
    number: u32,
    message: (&Message, &[u8]),
    owed: &[Owed],
    kept: &Kept,
    from: Option<(SessionId, PacketId)>,
) -> bool {
    if kept.is_over() {
        return false;
    }
    entries.clear();
    let mut count = 0;
    for (index, owed) in (0..).zip(owed) {
        if let Some(claimed) = kept.claim(number * kept.stride() + index) {
            put_owed(entries, index, owed, claimed.packet_id);
            count += 1;
        }
    }
    let is_needed = count > 0 || from.is_some();
    if is_needed {
        put_new_message(body, kept.id() + u64::from(number), from, (count, entries), message);
    }
    is_needed
}

impl Store for Door {
    fn append_all(
        &mut self,
        now: Time,
        messages: Together<'_>,
        owed: Arc<[Owed]>,
        from: Option<(SessionId, PacketId)>,
        publisher: u64,
    ) -> Result<Appended, StoreError> {
        if owed.is_empty() && from.is_none() {
            return Ok(Appended::NOTHING);
        }
        let (count, size) = match messages {
            Together::Each(each) => (each.len(), each.iter().map(|message| message.size()).sum()),
            Together::Bundle(bundle) => (bundle.len(), bundle.size()),
        };
        let bytes = size + count * size_of_val(&*owed);
        self.refusal(bytes)?;
        let id = self.shared.next_id.fetch_add(count as u64, Ordering::AcqRel);
        let is_urgent = from.is_some() || owed.iter().any(|owed| owed.away || owed.qos == QoS::ExactlyOnce);
        let lasting = owed.iter().map(|owed| owed.qos == QoS::ExactlyOnce);
        let settler = Arc::clone(&self.settler);
        let kept = Kept::new(id, count, lasting, from.is_some(), publisher, settler);
        let messages = match messages {
            Together::Each(each) => Messages::Each(each.iter().cloned().collect()),
            Together::Bundle(bundle) => Messages::Bundle(Arc::clone(bundle)),
        };
        let waiting = Waiting::Messages { messages, owed, kept: Arc::clone(&kept), from };
        let accepted = self.add(now, waiting, bytes, is_urgent);
        Ok(Appended { kept: Some(kept), accepted })
    }

    fn append_run(
        &mut self,
        now: Time,
        like: &Message,
        run: &[AckedMessage<'_>],
        owed: &[Owed],
    ) -> Option<(u64, Accepted)> {
        if run.is_empty() || owed.is_empty() {
            return None;
        }
        let payload: usize = run.iter().map(|message| message.payload.len()).sum();
        let bytes = payload + run.len() * (like.size() + size_of_val(owed));
        self.refusal(bytes).ok()?;
        let count = run.len() as u64;
        let first_id = self.shared.next_id.fetch_add(count, Ordering::AcqRel);
        let mut unwritten = self.shared.doors.get(self.number)?.unwritten();
        let open = &mut unwritten.open;
        if open.is_empty() {
            open.reserve(self.last_length);
        }
        let before = open.len();
        put_run(open, &mut self.entries, first_id, owed, like, run.iter().map(|message| message.payload));
        let length = open.len() - before;
        drop(unwritten);
        let waiting = Waiting::Made { length, last_id: first_id + count.saturating_sub(1) };
        Some((first_id, self.add(now, waiting, length, true)))
    }

    fn delivered(&mut self) {
        let Some(Open { waiting, .. }) = self.open.back_mut().filter(|open| open.is_urgent) else { return };
        let Waiting::Messages { messages, owed, kept, from } = waiting else { return };
        let stays = |owed: &Owed| owed.away || owed.qos == QoS::ExactlyOnce;
        if kept.is_over() || !owed.iter().all(stays) {
            return;
        }
        let Some(door) = self.shared.doors.get(self.number) else { return };
        let mut unwritten = door.unwritten();
        let open = &mut unwritten.open;
        if open.is_empty() {
            open.reserve(self.last_length);
        }
        let before = open.len();
        let last_id = put_all(open, &mut self.entries, messages, owed, kept, *from);
        let length = open.len() - before;
        drop(unwritten);
        *waiting = Waiting::Made { length, last_id };
    }

    fn sent(&mut self, now: Time, place: &Place, packet_id: PacketId, qos: QoS) -> Result<Accepted, StoreError> {
        if place.note_sent(packet_id) {
            return Ok(Accepted::Safe);
        }
        let is_urgent = qos == QoS::ExactlyOnce;
        let (kept, entry) = place.kept();
        let (id, index) = (place.id(), place.index());
        let waiting = Waiting::Sent { kept: Arc::clone(kept), entry, id, index, packet_id };
        Ok(self.add(now, waiting, 16, is_urgent))
    }

    fn received(&mut self, now: Time, place: &Place) -> Result<Accepted, StoreError> {
        Ok(self.add_encoded(now, true, |op| put_received(op, place.id(), place.index())))
    }

    fn released(&mut self, now: Time, session: SessionId, packet_id: PacketId) -> Result<Accepted, StoreError> {
        Ok(self.add_encoded(now, true, |op| put_released(op, session, packet_id)))
    }

    fn put(&mut self, now: Time, record: Record) -> Result<Accepted, StoreError> {
        let bytes = if let Record::Retained(message, _) = &record { message.size() } else { 0 };
        let refusal = self.refusal(bytes);
        match (&record, refusal) {
            // A session that is there must be able to go on when there is no room for messages, and what a client is told of it
            // waits until the disk writes again: nothing is said on the strength of a record that is nowhere.
            (Record::Session(_) | Record::Subscription(_) | Record::Will(_), Err(error))
                if error.is_full() || !self.is_congested() => {}
            // It makes room.
            (Record::Retained(message, _), Err(error)) if message.payload.is_empty() && error.is_full() => {}
            (_, refusal) => refusal?,
        }
        let key = key_bytes(&record.key());
        // Nobody waits for what was published with QoS 0.
        let is_urgent = !matches!(&record, Record::Retained(message, _) if message.qos == QoS::AtMostOnce);
        Ok(self.add_encoded(now, is_urgent, |op| put_put(op, &key, |out| put_record(out, &record))))
    }

    fn delete(&mut self, now: Time, key: &Key) -> Result<Accepted, StoreError> {
        let key = key_bytes(key);
        Ok(self.add_encoded(now, true, |op| put_delete(op, &key)))
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
        read::read(&self.shared, stubs, &self.settler)
    }

    fn backlog(&self) -> Backlog {
        Backlog::new(Arc::clone(&self.settler))
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.next_timeout().is_some_and(|due| due <= now) {
            self.close_due(now);
        }
    }

    fn next_timeout(&self) -> Option<Time> {
        let since = self.open.front()?.since;
        Some(if self.is_urgent() { since } else { since.after(self.limits.commit_delay) })
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        let committed = self.shared.doors.get(self.number).map_or(0, |door| door.committed.load(Ordering::Acquire));
        // What had nothing to write is as safe as the last that had.
        let safe = if committed >= self.handed { self.closed } else { committed };
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
        self.close(self.open.len());
    }
}
