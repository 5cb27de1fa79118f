//! The handles that tie a message in memory to its copy in the durable store.
//!
//! In: what a store appended, and whoever drops a handle. Out: which owed entries need no write, which written ones are
//! settled. A session carries these handles and needs no store; a store hears of settled entries and needs no session.
//! Nothing here does I/O or waits.
//!
//! A message is **kept** once and **owed** to one or more sessions; each owed entry has a [`Place`]. Whatever becomes of a
//! delivery (acknowledged, expired, dropped for a full queue, session ended), its place is dropped and the entry is settled, so
//! that nothing can be forgotten.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::{SmallVec, smallvec};

use crate::PacketId;
use crate::backlog::{Backlog, Stub};

/// The number of a session that outlives its connection; never used again for another. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl SessionId {
    /// No session.
    pub const NONE: Self = Self(0);
}

/// States of an owed entry. Above them stand the packet identifier that an open entry was sent with, if it was, and how many
/// places there are of it beyond the first.
mod state {
    /// Not written and not settled.
    pub(super) const OPEN: u64 = 0;
    /// Handed to the log, or bound to be.
    pub(super) const WRITTEN: u64 = 1;
    /// Nobody is owed it any more.
    pub(super) const SETTLED: u64 = 2;
    /// The bits of the state.
    pub(super) const MASK: u64 = 0xff;
    /// Where the packet identifier begins.
    pub(super) const PACKET_ID: u32 = 16;
    /// One place more. Memory for so many that they run over there is not.
    pub(super) const COPY: u64 = 1 << 32;
    /// The bits of the copies.
    pub(super) const COPIES: u64 = !(COPY - 1);
}

/// Where settled entries are gathered for whoever writes the log. One for each worker's door of a store.
#[derive(Debug, Default)]
pub struct Settler {
    lists: Mutex<Lists>,
    has_settled: AtomicBool,
    has_released: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Lists {
    settled: Vec<(u64, u32)>,
    released: Vec<u64>,
}

impl Settler {
    /// From now on nothing is settled by dropping: the broker ends, and what is owed stays owed.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Message number and index of every written entry that was settled since the last call.
    pub fn take_settled(&self) -> Vec<(u64, u32)> {
        if !self.has_settled.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.lists().settled)
    }

    /// Whether [`Settler::take_settled`] would return something.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        self.has_settled.load(Ordering::Acquire)
    }

    /// The `publisher` of every message whose owed entries all settled before it was written, since the last call; once for
    /// those that follow each other.
    pub fn take_released(&self) -> Vec<u64> {
        if !self.has_released.load(Ordering::Acquire) || !self.has_released.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut self.lists().released)
    }

    fn settle(&self, id: u64, index: u32) {
        self.lists().settled.push((id, index));
        self.has_settled.store(true, Ordering::Release);
    }

    /// Nobody is owed these any more.
    pub(crate) fn settle_all(&self, stubs: &[Stub]) {
        if self.is_closed() || stubs.is_empty() {
            return;
        }
        self.lists().settled.extend(stubs.iter().map(|stub| (stub.id, stub.index)));
        self.has_settled.store(true, Ordering::Release);
    }

    fn release(&self, publisher: u64) {
        let mut lists = self.lists();
        // Many messages of one publisher are one thing to look at.
        if lists.released.last() != Some(&publisher) {
            lists.released.push(publisher);
        }
        drop(lists);
        self.has_released.store(true, Ordering::Release);
    }

    /// A thread that panicked settles nothing: nobody knows what it had finished.
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || std::thread::panicking()
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The packet identifier that it has been sent with, if it was sent while it was open.
    pub packet_id: Option<PacketId>,
}

fn packet_id(state: u64) -> Option<PacketId> {
    PacketId::new(u16::try_from((state & !state::COPIES) >> state::PACKET_ID).unwrap_or(0))
}

/// One appended message, or several that came together, and how each stands with each session that is owed it.
#[derive(Debug)]
pub struct Kept {
    /// The number of the first message.
    id: u64,
    /// How many entries each message has; they stand behind each other.
    stride: u32,
    /// The index of the first of `states`.
    first: u32,
    states: SmallVec<[AtomicU64; 4]>,
    /// Entries that did not settle before they were written, and one more when the message must be written whatever they do.
    open: AtomicU32,
    publisher: u64,
    /// What of it is written or bound to be can be read back.
    readable: AtomicBool,
    settler: Arc<Settler>,
}

impl Kept {
    /// `count` messages from number `id` on that are about to be written. `owed` says of each entry that every one of them has
    /// whether it must be written even when it settles before (QoS 2); `must_write` says so of the message itself (its inbound
    /// packet identifier must be safe). `publisher` is returned by [`Settler::take_released`] when all are settled, and means
    /// nothing here.
    #[must_use]
    pub fn new(
        id: u64,
        count: usize,
        owed: impl ExactSizeIterator<Item = bool> + Clone,
        must_write: bool,
        publisher: u64,
        settler: Arc<Settler>,
    ) -> Arc<Self> {
        let stride = u32::try_from(owed.len()).unwrap_or(u32::MAX).max(1);
        let entries = count * owed.len();
        let fresh = |lasting| AtomicU64::new(if lasting { state::WRITTEN } else { state::OPEN });
        let mut states = SmallVec::with_capacity(entries);
        states.extend(owed.cycle().take(entries).map(fresh));
        let open = u32::try_from(states.len()).unwrap_or(u32::MAX - 1) + u32::from(must_write);
        let open = AtomicU32::new(open);
        Arc::new(Self { id, stride, first: 0, states, open, publisher, readable: AtomicBool::new(false), settler })
    }

    /// The place of one entry that is in the log already.
    #[must_use]
    pub fn written(id: u64, index: u32, settler: Arc<Settler>) -> Place {
        let states = smallvec![AtomicU64::new(state::WRITTEN)];
        let open = AtomicU32::new(1);
        let readable = AtomicBool::new(true); // It was read from there.
        let kept = Self { id, stride: u32::MAX, first: index, states, open, publisher: 0, readable, settler };
        Place { kept: Arc::new(kept), entry: index, is_stub: false }
    }

    /// The number of the first message in the store; the others follow it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// How many entries each message has.
    #[must_use]
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// How many entries there are.
    #[must_use]
    pub fn places(&self) -> u32 {
        u32::try_from(self.states.len()).unwrap_or(u32::MAX)
    }

    /// The place of entry `index`, to be taken once by whoever delivers it: the entry settles when it is dropped.
    #[must_use]
    pub fn place(self: &Arc<Self>, index: u32) -> Place {
        Place { kept: Arc::clone(self), entry: index, is_stub: false }
    }

    /// The places of entry `index` of every message, to be taken once by whoever delivers all of them, after [`Kept::note_sent`].
    #[must_use]
    pub fn every(self: &Arc<Self>, index: u32) -> Places {
        Places { kept: Arc::clone(self), entry: index, left: self.places() / self.stride }
    }

    /// Notes that entry `index` of every message goes out, under packet identifiers that follow each other from `first` on; as
    /// [`Place::note_sent`]. `false` when one of them was claimed for the log before.
    #[must_use]
    pub fn note_sent(&self, index: u32, first: PacketId) -> bool {
        let each = self.states.iter().skip(index as usize).step_by(self.stride as usize);
        each.zip(first.get()..=u16::MAX).all(|(entry, id)| {
            let noted = state::OPEN | u64::from(id) << state::PACKET_ID;
            entry.compare_exchange(state::OPEN, noted, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    /// The number of the message of an entry, and which of its own it is.
    fn address(&self, entry: u32) -> (u64, u32) {
        (self.id + u64::from(entry / self.stride), entry % self.stride)
    }

    /// Claims entry `index` for the log; `None` when it has settled and is to be left out. From here on its settling is
    /// reported by [`Settler::take_settled`].
    #[must_use]
    pub fn claim(&self, index: u32) -> Option<Claimed> {
        let entry = self.entry(index)?;
        let mut now = entry.load(Ordering::Acquire);
        loop {
            match now & state::MASK {
                state::OPEN => {}
                state::WRITTEN => return Some(Claimed { packet_id: None }),
                _ => return None,
            }
            match entry.compare_exchange_weak(
                now,
                now & state::COPIES | state::WRITTEN,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(Claimed { packet_id: packet_id(now) }),
                Err(changed) => now = changed,
            }
        }
    }

    /// Says that its entries can be read back as far as they are claimed for the log, even if they are not written yet.
    pub fn set_readable(&self) {
        self.readable.store(true, Ordering::Release);
    }

    /// Whether entry `index` has settled.
    #[must_use]
    pub fn is_settled(&self, index: u32) -> bool {
        self.entry(index).is_none_or(|entry| entry.load(Ordering::Acquire) & state::MASK == state::SETTLED)
    }

    /// Whether every entry settled before it was written and nothing else asks for a write.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// A place of entry `index` is dropped: with the last of them the entry settles.
    fn drop_place(&self, index: u32) {
        if self.settler.is_closed() {
            return;
        }
        let Some(entry) = self.entry(index) else { return };
        let mut now = entry.load(Ordering::Acquire);
        loop {
            let is_last = now < state::COPY;
            let then = if is_last { state::SETTLED } else { now - state::COPY };
            match entry.compare_exchange_weak(now, then, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if is_last => break,
                Ok(_) => return,
                Err(changed) => now = changed,
            }
        }
        match now & state::MASK {
            state::OPEN if self.open.fetch_sub(1, Ordering::AcqRel) == 1 => self.settler.release(self.publisher),
            state::WRITTEN => {
                let (id, index) = self.address(index);
                self.settler.settle(id, index);
            }
            // One of several, or settled before.
            _ => {}
        }
    }

    fn entry(&self, index: u32) -> Option<&AtomicU64> {
        self.states.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

/// What one session is owed of one kept message. **Dropping it settles the entry**, with the last of its copies: those are
/// counted where the entry is, so that a place needs no memory of its own.
#[derive(Debug)]
pub struct Place {
    kept: Arc<Kept>,
    entry: u32,
    /// It lives on as a [`Stub`], so dropping it settles nothing.
    is_stub: bool,
}

impl Place {
    /// The number of the message in the store.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.kept.address(self.entry).0
    }

    /// Which of the owed entries of the message it is.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.kept.address(self.entry).1
    }

    /// What it is a place in, and which.
    #[must_use]
    pub fn kept(&self) -> (&Arc<Kept>, u32) {
        (&self.kept, self.entry)
    }

    /// Notes that the entry went out under `packet_id`, when it is not claimed for the log yet: whoever claims it is told.
    /// `false` when it was claimed before, so that the log needs to hear of it apart.
    #[must_use]
    pub fn note_sent(&self, packet_id: PacketId) -> bool {
        let Some(entry) = self.kept.entry(self.entry) else { return true };
        let mut now = entry.load(Ordering::Acquire);
        while now & state::MASK == state::OPEN {
            let noted = now & state::COPIES | state::OPEN | u64::from(packet_id.get()) << state::PACKET_ID;
            match entry.compare_exchange_weak(now, noted, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(changed) => now = changed,
            }
        }
        now & state::MASK == state::SETTLED
    }

    /// Makes it the sixteen bytes that can be read back later; `size` is what a queue counts for the message, in bytes.
    ///
    /// # Errors
    /// It comes back when it can't be read back yet (it is not made ready to be written), or when another copy of the delivery
    /// holds it.
    pub fn into_stub(mut self, size: u32) -> Result<Stub, Self> {
        if !self.is_readable() || !self.is_only() {
            return Err(self);
        }
        self.is_stub = true;
        Ok(Stub { id: self.id(), index: self.index(), size })
    }

    /// Gives the place up without settling it: the session is owed the message by another owner. When another copy of
    /// the delivery holds it, that one does as it does.
    pub fn leave(mut self) {
        self.is_stub = self.is_only();
    }

    /// Whether there is no copy of it. Nobody else can make one then.
    fn is_only(&self) -> bool {
        self.kept.entry(self.entry).is_some_and(|now| now.load(Ordering::Acquire) < state::COPY)
    }

    /// An empty backlog, for stubs of places like this one.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        Backlog::new(Arc::clone(&self.kept.settler))
    }

    /// Whether the message can be read back from the store, so that memory need not hold it.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.is_written() && self.kept.readable.load(Ordering::Acquire)
    }

    /// Whether the entry was claimed for the log, so that settling it is to be written as well.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.kept.entry(self.entry).is_some_and(|now| now.load(Ordering::Acquire) & state::MASK == state::WRITTEN)
    }
}

impl Clone for Place {
    fn clone(&self) -> Self {
        if let Some(entry) = self.kept.entry(self.entry) {
            entry.fetch_add(state::COPY, Ordering::AcqRel);
        }
        Self { kept: Arc::clone(&self.kept), entry: self.entry, is_stub: self.is_stub }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_stub {
            self.kept.drop_place(self.entry);
        }
    }
}

/// What one session is owed of all messages of one [`Kept`], the oldest first. **Dropping it settles what is left.**
#[derive(Debug)]
pub struct Places {
    kept: Arc<Kept>,
    /// The first of them.
    entry: u32,
    left: u32,
}

impl Places {
    /// The next `count` are not owed any more. How many of them were claimed for the log before.
    pub fn settle(&mut self, count: u32) -> u32 {
        let count = count.min(self.left);
        let Self { kept, entry, .. } = self;
        let first = *entry;
        *entry += count * kept.stride;
        self.left -= count;
        if kept.settler.is_closed() {
            return 0;
        }
        let (mut open, mut written) = (0, 0);
        for entry in (0..count).map(|number| first + number * kept.stride) {
            match kept.entry(entry).map_or(state::SETTLED, |entry| entry.swap(state::SETTLED, Ordering::AcqRel))
                & state::MASK
            {
                state::OPEN => open += 1,
                state::WRITTEN => {
                    let (id, index) = kept.address(entry);
                    kept.settler.settle(id, index);
                    written += 1;
                }
                _ => {}
            }
        }
        if open > 0 && kept.open.fetch_sub(open, Ordering::AcqRel) == open {
            kept.settler.release(kept.publisher);
        }
        written
    }

    /// Each of those that are left, by itself.
    pub fn each(mut self) -> impl Iterator<Item = Place> {
        let (kept, first, left) = (Arc::clone(&self.kept), self.entry, std::mem::take(&mut self.left));
        (0..left).map(move |number| kept.place(first + number * kept.stride))
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.settle(self.left);
    }
}

/// Two places are equal when they are the same entry.
impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.kept.address(self.entry) == other.kept.address(other.entry)
    }
}

impl Eq for Place {}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(owed: &[bool], settler: &Arc<Settler>) -> Arc<Kept> {
        Kept::new(7, 1, owed.iter().copied(), false, 99, Arc::clone(settler))
    }

    #[test]
    fn a_message_that_all_have_acknowledged_before_the_write_is_released_once() {
        let settler = Arc::new(Settler::default());
        let kept = kept(&[false, false], &settler);
        let (first, second) = (kept.place(0), kept.place(1));
        let copy = first.clone();
        drop(first);
        assert!(settler.take_released().is_empty() && !kept.is_over());
        drop((copy, second));
        assert_eq!(settler.take_released(), [99]);
        assert!(settler.take_released().is_empty() && settler.take_settled().is_empty());
        assert!(kept.is_over() && kept.claim(0).is_none() && kept.claim(1).is_none());
    }

    #[test]
    fn what_is_claimed_for_the_log_is_settled_in_the_log() {
        let settler = Arc::new(Settler::default());
        let kept = kept(&[false, false], &settler);
        let (first, second) = (kept.place(0), kept.place(1));
        drop(first);
        assert!(kept.claim(0).is_none() && kept.claim(1).is_some());
        assert!(!settler.has_settled());
        drop(second);
        assert!(settler.has_settled());
        assert_eq!(settler.take_settled(), [(7, 1)]);
        assert!(settler.take_released().is_empty());
    }

    #[test]
    fn qos_2_and_an_inbound_identifier_are_always_written() {
        let settler = Arc::new(Settler::default());
        let lasting = kept(&[true], &settler);
        drop(lasting.place(0));
        assert_eq!(settler.take_settled(), [(7, 0)]);
        assert!(!lasting.is_over());
        let inbound = Kept::new(8, 1, [false].into_iter(), true, 5, Arc::clone(&settler));
        drop(inbound.place(0));
        assert!(!inbound.is_over() && settler.take_released().is_empty());
    }

    #[test]
    fn an_entry_that_is_sent_while_it_is_open_is_written_with_its_identifier() {
        let settler = Arc::new(Settler::default());
        let kept = kept(&[false, true], &settler);
        let (first, second) = (kept.place(0), kept.place(1));
        let packet_id = PacketId::new(65_535).unwrap();
        assert!(first.note_sent(PacketId::new(4).unwrap()) && first.note_sent(packet_id));
        assert!(!second.note_sent(packet_id), "the log is told of QoS 2 apart");
        assert_eq!(kept.claim(0), Some(Claimed { packet_id: Some(packet_id) }));
        assert!(!first.note_sent(packet_id));
        drop(first);
        assert_eq!(settler.take_settled(), [(7, 0)]);
        assert!(kept.is_settled(0) && !kept.is_settled(1));
    }

    #[test]
    fn messages_that_came_together_settle_each_and_are_released_together() {
        let settler = Arc::new(Settler::default());
        let run = || Kept::new(7, 3, [false, false].into_iter(), false, 99, Arc::clone(&settler));
        let kept = run();
        let places: Vec<_> = (0..kept.places()).map(|entry| kept.place(entry)).collect();
        let addresses: Vec<_> = places.iter().map(|place| (place.id(), place.index())).collect();
        assert_eq!(addresses, [(7, 0), (7, 1), (8, 0), (8, 1), (9, 0), (9, 1)]);
        for place in places {
            assert!(!kept.is_over() && settler.take_released().is_empty());
            drop(place);
        }
        assert!(kept.is_over() && settler.take_settled().is_empty());
        assert_eq!(settler.take_released(), [99]);
        // What is written in between is settled in the log, under its own number.
        let kept = run();
        let places: Vec<_> = (0..kept.places()).map(|entry| kept.place(entry)).collect();
        assert!(kept.claim(3).is_some());
        kept.set_readable();
        assert!(places[3].is_readable() && !places[5].is_readable());
        assert!(places[3] != places[2]);
        drop(places);
        assert_eq!(settler.take_settled(), [(8, 1)]);
        assert!(!kept.is_over() && settler.take_released().is_empty());
    }

    #[test]
    fn a_closed_settler_leaves_everything_owed() {
        let settler = Arc::new(Settler::default());
        let kept = kept(&[false, true], &settler);
        let mut backlog = Backlog::new(Arc::clone(&settler));
        backlog.push_back(Stub { id: 1, index: 0, size: 10 });
        settler.close();
        drop((kept.place(0), kept.place(1), backlog));
        assert!(settler.take_settled().is_empty() && settler.take_released().is_empty());
        assert!(kept.claim(0).is_some() && kept.claim(1).is_some());
    }

    #[test]
    fn a_place_becomes_a_stub_only_when_it_can_be_read_back() {
        let settler = Arc::new(Settler::default());
        let kept = kept(&[false], &settler);
        let place = kept.place(0).into_stub(10).unwrap_err();
        assert!(kept.claim(0).is_some());
        let place = place.into_stub(10).unwrap_err();
        kept.set_readable();
        let copy = place.clone();
        let place = place.into_stub(10).unwrap_err();
        drop(copy);
        let stub = place.into_stub(10).unwrap();
        assert_eq!(stub, Stub { id: 7, index: 0, size: 10 });
        assert!(settler.take_settled().is_empty(), "it lives on as a stub");
        let again = Kept::written(stub.id, stub.index, Arc::new(Settler::default()));
        assert!(again.is_readable());
    }

    #[test]
    fn settling_and_claiming_at_once_is_exact() {
        let settler = Arc::new(Settler::default());
        for round in 0..500 {
            let kept = kept(&[false; 8], &settler);
            let places: Vec<_> = (0..8).map(|index| kept.place(index)).collect();
            let start = std::sync::Barrier::new(2);
            let claimed = std::thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    drop(places);
                });
                start.wait();
                (0..8).filter(|index| kept.claim(*index).is_some()).collect::<Vec<u32>>()
            });
            let settled: Vec<u32> = settler.take_settled().into_iter().map(|(_, index)| index).collect();
            assert_eq!(claimed, settled, "round {round}: each is either left out of the write or settled in the log");
            assert_eq!(settler.take_released().len(), usize::from(claimed.is_empty()));
        }
    }
}
