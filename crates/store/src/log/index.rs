//! Where everything that is live stands in the log, and how much of each segment is live.
//!
//! In: operations in the order of the log, each with its spot. Out: where a message, a record or an inbound identifier is, and
//! which segments hold nothing any more. Sixteen bytes for a message that waits. Reads no file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use viaduct_codec::{PacketId, SessionId};

use super::files::LogFile;
use super::op::{MessageOp, Op, Progress};
use super::wire::retained_change;

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Its bytes, exactly when it is added and never less when it is found.
    pub(super) length: u32,
}

/// A message that somebody is owed.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The low bits of its number.
    low: u16,
    /// How long it is, see [`rounded`].
    length: u16,
    segment: u32,
    offset: u32,
    /// A bit for each of the first 31 owed entries; the highest says that they are in `wide` instead.
    live: u32,
}

const WIDE: u32 = 1 << 31;
/// Numbers that share a page.
const PAGE_BITS: u32 = 10;

/// Everything that is live.
#[derive(Default)]
pub(super) struct Index {
    /// By the high bits of the numbers; within a page by the low ones. A slot without live entries is dead.
    pages: BTreeMap<u64, Page>,
    /// Messages owed to more than 31: which entries are live.
    wide: HashMap<u64, Vec<u64>>,
    /// Entries that were sent, also such whose message is not there yet: another worker's group may come later.
    progress: HashMap<(u64, u32), Mark>,
    /// Marks seen so far.
    marks: u64,
    records: HashMap<Box<[u8]>, Entry>,
    /// Retained messages that are gone, by the number of the change: an earlier change may be written later.
    cleared: [HashMap<Box<[u8]>, u64>; 2],
    inbound: HashMap<(SessionId, PacketId), At>,
    pub(super) segments: BTreeMap<u32, Segment>,
    /// Higher than every message number seen.
    pub(super) next_id: u64,
    /// Higher than every session number seen.
    pub(super) next_session: u64,
    /// Higher than the number of every change of a retained message.
    pub(super) next_retained: u64,
    /// Messages that somebody is owed.
    pub(super) messages: u64,
}

/// How far an entry that was sent is, and in which order that was said.
#[derive(Clone, Copy)]
struct Mark {
    progress: Progress,
    number: u64,
}

/// Where a record is, and for a retained message the number of the change.
#[derive(Clone, Copy)]
struct Entry {
    at: At,
    version: u64,
}

#[derive(Default)]
struct Page {
    slots: Vec<Slot>,
    dead: usize,
}

/// One file of the log.
pub(super) struct Segment {
    pub(super) file: Arc<dyn LogFile>,
    /// Bytes that are written in it.
    pub(super) size: u64,
    /// Operations in it that are still needed.
    pub(super) live: u64,
    /// Their bytes, never less.
    pub(super) live_bytes: u64,
    /// Marks in it that stand before their message, which may be in a later segment.
    early: Vec<(u64, u32)>,
}

/// Something live, to be moved.
#[derive(Clone, Debug)]
pub(super) enum Thing {
    Message(u64),
    Record(Box<[u8]>),
    Inbound(SessionId, PacketId),
}

impl Index {
    /// An empty one, whose first message has at least number `next_id`.
    pub(super) fn beginning_at(next_id: u64) -> Self {
        Self { next_id, next_session: 1, ..Self::default() }
    }

    pub(super) fn add_segment(&mut self, number: u32, file: Arc<dyn LogFile>, size: u64) {
        self.segments.insert(number, Segment { file, size, live: 0, live_bytes: 0, early: Vec::new() });
    }

    /// Takes an operation into account; `false` when a later change of the same record came before it.
    pub(super) fn apply(&mut self, op: &Op<'_>, at: At) -> bool {
        match op {
            Op::Message(message) => self.apply_message(message, at),
            Op::Settled { id, index } => {
                self.saw_id(*id);
                self.settle(*id, *index);
            }
            Op::Sent { id, index, packet_id } => {
                self.saw_id(*id);
                if !self.is_live(*id, *index)
                    && let Some(segment) = self.segments.get_mut(&at.segment)
                {
                    segment.early.push((*id, *index));
                }
                self.note_sent(*id, *index, Progress { packet_id: *packet_id, received: false });
            }
            Op::Received { id, index } => {
                self.saw_id(*id);
                if let Some(mark) = self.progress.get_mut(&(*id, *index)) {
                    mark.progress.received = true;
                }
            }
            Op::Put { key, value } => return self.put(key, value, at),
            Op::Delete { key } => self.forget_record(key),
            Op::Inbound { session, packet_id } => {
                self.take_inbound(*session, *packet_id, at);
            }
            Op::Released { session, packet_id } => {
                self.saw_session(*session);
                self.release(*session, *packet_id);
            }
        }
        true
    }

    fn put(&mut self, key: &[u8], value: &[u8], at: At) -> bool {
        let change = retained_change(key, value);
        let version = change.map_or(0, |(version, _)| version);
        let known = self.records.get(key).map(|entry| entry.version);
        let gone = || self.cleared.iter().filter_map(|gone| gone.get(key)).max().copied();
        if change.is_some() && known.or_else(gone).is_some_and(|known| known > version) {
            return false;
        }
        self.next_retained = self.next_retained.max(version.saturating_add(1));
        if change.is_some_and(|(_, is_cleared)| is_cleared) {
            self.forget_record(key);
            self.note_cleared(key, version);
            return true;
        }
        self.live(at);
        if let Some(old) = self.records.insert(key.into(), Entry { at, version }) {
            self.dead(old.at);
        }
        true
    }

    /// Keeps in mind that a retained message is gone, for as long as an earlier change may still be on its way.
    fn note_cleared(&mut self, key: &[u8], version: u64) {
        /// More changes than can be on their way: a group has at most a thousand.
        const MANY: usize = 1 << 16;
        if self.cleared[0].len() >= MANY {
            self.cleared.swap(0, 1);
            self.cleared[0].clear();
        }
        self.cleared[0].insert(key.into(), version);
    }

    fn apply_message(&mut self, message: &MessageOp<'_>, at: At) {
        self.saw_id(message.id);
        if !self.is_above_all(message.id) {
            self.forget(message.id);
        }
        if let Some((session, packet_id)) = message.from {
            self.take_inbound(session, packet_id, at);
        }
        if message.owed.is_empty() {
            return;
        }
        let (mut live, mut is_wide) = (0, false);
        for owed in message.owed.iter() {
            self.saw_session(owed.session);
            if let Some(progress) = owed.progress {
                self.note_sent(message.id, owed.index, progress);
            }
            is_wide |= owed.index >= 31;
            live |= 1_u32.checked_shl(owed.index).unwrap_or(0);
        }
        if is_wide {
            let mut bits = Vec::new();
            for owed in message.owed.iter() {
                let word = owed.index as usize / 64;
                if bits.len() <= word {
                    bits.resize(word + 1, 0_u64);
                }
                if let Some(word) = bits.get_mut(word) {
                    *word |= 1 << (owed.index % 64);
                }
            }
            self.wide.insert(message.id, bits);
            live = WIDE;
        }
        let slot =
            Slot { low: low(message.id), length: rounded(at.length), segment: at.segment, offset: at.offset, live };
        let high = message.id >> PAGE_BITS;
        match self.pages.last_entry().filter(|last| *last.key() == high) {
            Some(mut last) => last.get_mut().add(slot),
            None => self.pages.entry(high).or_default().add(slot),
        }
        self.messages += 1;
        self.live(slot.at());
    }

    /// Nobody is owed entry `index` of message `id` any more; `false` when nobody was.
    pub(super) fn settle(&mut self, id: u64, index: u32) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        let live = if slot.live & WIDE == 0 {
            let bit = 1_u32.checked_shl(index).unwrap_or(0);
            if slot.live & bit == 0 {
                return false;
            }
            slot.live & !bit
        } else {
            let Some(word) = self.wide.get_mut(&id).and_then(|bits| bits.get_mut(index as usize / 64)) else {
                return false;
            };
            if *word & 1 << (index % 64) == 0 {
                return false;
            }
            *word &= !(1 << (index % 64));
            let is_over = self.wide.get(&id).is_none_or(|bits| bits.iter().all(|word| *word == 0));
            if is_over { 0 } else { WIDE }
        };
        self.progress.remove(&(id, index));
        if live == 0 {
            self.forget(id);
        } else if let Some(slot) = self.pages.get_mut(&(id >> PAGE_BITS)).and_then(|page| page.find_mut(low(id))) {
            slot.live = live;
        }
        true
    }

    /// A message that turned out to be unreadable.
    pub(super) fn lose(&mut self, id: u64) {
        self.progress.retain(|(other, _), _| *other != id);
        self.forget(id);
    }

    /// Whether its number is higher than that of every message here.
    fn is_above_all(&self, id: u64) -> bool {
        let last = self.pages.last_key_value().and_then(|(high, page)| Some((*high, page.slots.last()?.low)));
        last.is_none_or(|last| last < (id >> PAGE_BITS, low(id)))
    }

    /// The message has no place in the log any more.
    fn forget(&mut self, id: u64) {
        let Some(page) = self.pages.get_mut(&(id >> PAGE_BITS)) else { return };
        let Some(slot) = page.find_mut(low(id)).filter(|slot| slot.live != 0) else { return };
        let at = slot.at();
        if slot.live & WIDE != 0 {
            self.wide.remove(&id);
        }
        slot.live = 0;
        page.dead += 1;
        if page.dead == page.slots.len() {
            self.pages.remove(&(id >> PAGE_BITS));
        } else if page.dead * 2 > page.slots.len() {
            page.tidy();
        }
        self.messages -= 1;
        self.dead(at);
    }

    fn take_inbound(&mut self, session: SessionId, packet_id: PacketId, at: At) {
        self.saw_session(session);
        self.live(at);
        if let Some(old) = self.inbound.insert((session, packet_id), at) {
            self.dead(old);
        }
    }

    pub(super) fn release(&mut self, session: SessionId, packet_id: PacketId) {
        if let Some(old) = self.inbound.remove(&(session, packet_id)) {
            self.dead(old);
        }
    }

    fn live(&mut self, at: At) {
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live += 1;
            segment.live_bytes += u64::from(at.length);
        }
    }

    fn dead(&mut self, at: At) {
        if let Some(segment) = self.segments.get_mut(&at.segment) {
            segment.live = segment.live.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(at.length.into());
        }
    }

    /// The next numbers of each kind are taken by something that can't be seen.
    pub(super) fn skip_numbers(&mut self, count: u64) {
        for next in [&mut self.next_id, &mut self.next_session, &mut self.next_retained] {
            *next = next.saturating_add(count);
        }
    }

    fn saw_id(&mut self, id: u64) {
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    pub(super) fn saw_session(&mut self, session: SessionId) {
        self.next_session = self.next_session.max(session.0.saturating_add(1));
    }

    fn slot(&self, id: u64) -> Option<Slot> {
        self.pages.get(&(id >> PAGE_BITS))?.find(low(id)).filter(|slot| slot.live != 0)
    }

    /// Where message `id` is, as long as somebody is owed it.
    pub(super) fn message(&self, id: u64) -> Option<At> {
        self.slot(id).map(Slot::at)
    }

    pub(super) fn is_live(&self, id: u64, index: u32) -> bool {
        self.slot(id).is_some_and(|slot| {
            if slot.live & WIDE == 0 {
                slot.live & 1_u32.checked_shl(index).unwrap_or(0) != 0
            } else {
                let word = self.wide.get(&id).and_then(|bits| bits.get(index as usize / 64));
                word.is_some_and(|word| word & 1 << (index % 64) != 0)
            }
        })
    }

    pub(super) fn progress(&self, id: u64, index: u32) -> Option<Progress> {
        self.progress.get(&(id, index)).map(|mark| mark.progress)
    }

    /// Which of two entries went out later: the one with the higher number.
    pub(super) fn sent_at(&self, id: u64, index: u32) -> Option<u64> {
        self.progress.get(&(id, index)).map(|mark| mark.number)
    }

    /// Whether `op` says that something was sent which is not owed any more: it settled while that waited to be written. Nothing would
    /// ever take it out of the index again. `may_come` says whether a message that is not there may still come.
    pub(super) fn is_too_late(&self, op: &Op<'_>, may_come: impl Fn(u64) -> bool) -> bool {
        let Op::Sent { id, index, .. } = op else { return false };
        !self.is_live(*id, *index) && (self.message(*id).is_some() || !may_come(*id))
    }

    fn note_sent(&mut self, id: u64, index: u32, progress: Progress) {
        self.marks += 1;
        self.progress.insert((id, index), Mark { progress, number: self.marks });
    }

    /// The packet identifier is with another entry; this one waits again.
    pub(super) fn unsend(&mut self, id: u64, index: u32) {
        self.progress.remove(&(id, index));
    }

    /// Drops progress of entries that nobody is owed.
    pub(super) fn tidy_progress(&mut self) {
        let mut progress = std::mem::take(&mut self.progress);
        progress.retain(|(id, index), _| self.is_live(*id, *index));
        self.progress = progress;
    }

    pub(super) fn record(&self, key: &[u8]) -> Option<At> {
        self.records.get(key).map(|entry| entry.at)
    }

    /// A record that turned out to be unreadable.
    pub(super) fn forget_record(&mut self, key: &[u8]) {
        if let Some(old) = self.records.remove(key) {
            self.dead(old.at);
        }
    }

    pub(super) fn records(&self) -> usize {
        self.records.len()
    }

    pub(super) fn inbound(&self) -> impl Iterator<Item = &(SessionId, PacketId)> {
        self.inbound.keys()
    }

    /// Where an inbound identifier was taken.
    pub(super) fn inbound_at(&self, session: SessionId, packet_id: PacketId) -> Option<At> {
        self.inbound.get(&(session, packet_id)).copied()
    }

    /// Everything live in a segment, in no order.
    pub(super) fn things_in(&self, segment: u32) -> Vec<Thing> {
        let mut things = Vec::new();
        for (high, page) in &self.pages {
            let here = page.slots.iter().filter(|slot| slot.live != 0 && slot.segment == segment);
            things.extend(here.map(|slot| Thing::Message(high << PAGE_BITS | u64::from(slot.low))));
        }
        let records = self.records.iter().filter(|(_, entry)| entry.at.segment == segment);
        things.extend(records.map(|(key, _)| Thing::Record(key.clone())));
        let inbound = self.inbound.iter().filter(|(_, at)| at.segment == segment);
        things.extend(inbound.map(|((session, packet_id), _)| Thing::Inbound(*session, *packet_id)));
        things
    }

    /// Marks of a segment that came before their messages and that a message still needs, or that a message which
    /// `may_come` will need. Forgets the others.
    pub(super) fn take_early(&mut self, segment: u32, may_come: impl Fn(u64) -> bool) -> Vec<(u64, u32, Progress)> {
        let early = self.segments.get_mut(&segment).map(|segment| std::mem::take(&mut segment.early));
        let mut still = Vec::new();
        for (id, index) in early.unwrap_or_default() {
            let Some(progress) = self.progress(id, index) else { continue };
            if self.is_live(id, index) || may_come(id) {
                still.push((id, index, progress));
            } else {
                self.progress.remove(&(id, index));
            }
        }
        still
    }

    /// Bytes of all segments, and those that are live, never less.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.segments.values().fold((0, 0), |(all, live), one| (all + one.size, live + one.live_bytes))
    }
}

impl Page {
    /// Numbers mostly rise, so it is mostly the last.
    fn add(&mut self, slot: Slot) {
        match self.slots.last() {
            Some(last) if last.low >= slot.low => match self.slots.binary_search_by_key(&slot.low, |slot| slot.low) {
                Ok(place) => {
                    if let Some(old) = self.slots.get_mut(place) {
                        self.dead -= usize::from(old.live == 0);
                        *old = slot;
                    }
                }
                Err(place) => self.slots.insert(place, slot),
            },
            _ => self.slots.push(slot),
        }
    }

    fn find(&self, low: u16) -> Option<Slot> {
        let place = self.slots.binary_search_by_key(&low, |slot| slot.low).ok()?;
        self.slots.get(place).copied()
    }

    fn find_mut(&mut self, low: u16) -> Option<&mut Slot> {
        let place = self.slots.binary_search_by_key(&low, |slot| slot.low).ok()?;
        self.slots.get_mut(place)
    }

    fn tidy(&mut self) {
        self.slots.retain(|slot| slot.live != 0);
        self.slots.shrink_to_fit();
        self.dead = 0;
    }
}

impl Slot {
    fn at(self) -> At {
        At { segment: self.segment, offset: self.offset, length: unrounded(self.length) }
    }
}

fn low(id: u64) -> u16 {
    (id & ((1 << PAGE_BITS) - 1)) as u16
}

/// Sixteens of bytes up to 512 KiB, then sixteens of KiB, always rounded up: reading that much reads it all.
fn rounded(length: u32) -> u16 {
    const FINE: u32 = 1 << 15;
    let sixteens = length.div_ceil(16);
    if sixteens < FINE { sixteens as u16 } else { (FINE + length.div_ceil(16 << 10).min(FINE - 1)) as u16 }
}

fn unrounded(length: u16) -> u32 {
    if length < 1 << 15 { u32::from(length) * 16 } else { (u32::from(length) - (1 << 15)) * (16 << 10) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use viaduct_codec::{Message, QoS, SubscriptionIds, Time, TopicName};

    use super::*;
    use crate::Owed;
    use crate::log::op::{put_new_message, put_owed};
    use crate::log::scan::ops;

    #[test]
    fn a_mark_that_comes_behind_what_it_is_about_is_known_by_that() {
        let session = SessionId(1);
        let owed = Owed {
            session,
            qos: QoS::AtLeastOnce,
            retain: false,
            ids: SubscriptionIds::new(),
            group: None,
            away: false,
        };
        let (mut entries, mut body) = (Vec::new(), Vec::new());
        (0..2).for_each(|index| put_owed(&mut entries, index, &owed, None));
        let message = Message {
            topic: TopicName::new("t").unwrap(),
            payload: Vec::new().into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            received: Time::from_millis(0),
            expires: None,
            properties: None,
        };
        put_new_message(&mut body, 5, None, (2, &entries), (&message, &message.payload));
        let mut index = Index::beginning_at(1);
        let sent = |id, index| Op::Sent { id, index, packet_id: PacketId::new(1).unwrap() };
        assert!(index.is_too_late(&sent(5, 0), |_| false));
        assert!(!index.is_too_late(&sent(5, 0), |_| true), "its message may be another worker's");
        for (op, ..) in ops(&body).map(Result::unwrap) {
            index.apply(&op, At { segment: 1, offset: 64, length: 10 });
        }
        index.settle(5, 1);
        for may_come in [true, false] {
            assert!(!index.is_too_late(&sent(5, 0), |_| may_come));
            assert!(index.is_too_late(&sent(5, 1), |_| may_come), "it was there and has settled");
        }
    }
}
