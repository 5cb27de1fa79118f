//! Packet Identifiers of what this end sends: never zero, never one that is in use (MQTT-2.2.1-3, MQTT-2.2.1-4,
//! MQTT-2.3.1-4 of 3.1.1, MQTT-4.3.2-1, MQTT-4.3.3-1).
//!
//! They are given out in turn and mostly come back in turn, so those in use stand near each other: one bit each, from the oldest
//! to the youngest. One that stays open for long is followed by many bits, all 8 KiB of them at most.

use std::collections::VecDeque;

use viaduct_codec::PacketId;

use crate::limits::IDLE_ID_WORDS;

/// Identifiers, of which one word has a bit each.
const WORD: u16 = 64;
/// How many words stand for all of them; the first comes behind the last.
const WORDS: u16 = 1024;

/// The identifiers in use, and which comes next.
#[derive(Debug, Default)]
pub(crate) struct PacketIds {
    last: u16,
    /// Which of all words the first of `words` is.
    first: u16,
    /// Ends at the first and the last with an identifier in use.
    words: VecDeque<u64>,
    used: u32,
}

impl PacketIds {
    /// None in use; the first taken is the one after `last`.
    pub(crate) fn starting_after(last: u16) -> Self {
        Self { last, ..Self::default() }
    }

    /// Takes the next free identifier; `None` when all 65,535 are in use.
    pub(crate) fn take(&mut self) -> Option<PacketId> {
        let id = self.next()?;
        self.last = id.get();
        self.insert(self.last);
        Some(id)
    }

    /// What [`PacketIds::take`] would take.
    pub(crate) fn next(&self) -> Option<PacketId> {
        if !self.has_free() {
            return None;
        }
        let mut id = self.last;
        loop {
            id = id.checked_add(1).unwrap_or(1);
            if !self.is_used(id) {
                return PacketId::new(id);
            }
        }
    }

    /// Those that are free, from `first` on.
    pub(crate) fn free_from(&self, first: PacketId) -> impl Iterator<Item = PacketId> {
        let first = first.get();
        (first..=u16::MAX).chain(1..first).filter(|id| !self.is_used(*id)).filter_map(PacketId::new)
    }

    /// Whether it is in use.
    pub(crate) fn is_taken(&self, id: PacketId) -> bool {
        self.is_used(id.get())
    }

    /// Marks an identifier as used by an exchange of an earlier process, the last one that was taken so far.
    pub(crate) fn restore(&mut self, id: PacketId) {
        self.insert(id.get());
        self.last = id.get();
    }

    /// Takes these identifiers, which mostly follow each other, up to the first that is in use. How many.
    pub(crate) fn take_these(&mut self, ids: &[PacketId]) -> usize {
        if let Some((first, count)) = row(ids)
            && !words(first.get(), count).any(|(id, bits)| self.are_used(id, bits))
        {
            words(first.get(), count).for_each(|(id, bits)| self.insert_bits(id, bits));
            return ids.len();
        }
        let is_taken = |id: &&PacketId| {
            let is_free = !self.is_used(id.get());
            if is_free {
                self.insert(id.get());
            }
            is_free
        };
        ids.iter().take_while(is_taken).count()
    }

    /// The first of the next `count` identifiers; `None` when one of them is in use, or they come to an end.
    pub(crate) fn next_row(&self, count: u16) -> Option<PacketId> {
        let first = PacketId::new(self.last.checked_add(1)?)?;
        self.last.checked_add(count)?;
        let is_free = self.used == 0 || !words(first.get(), count).any(|(id, bits)| self.are_used(id, bits));
        is_free.then_some(first)
    }

    /// Takes `count` identifiers that follow each other, from `first` on, which [`PacketIds::next_row`] named.
    pub(crate) fn take_row(&mut self, first: PacketId, count: u16) {
        words(first.get(), count).for_each(|(id, bits)| self.insert_bits(id, bits));
        self.last = self.last.saturating_add(count);
    }

    /// Whether [`PacketIds::take`] would find one.
    pub(crate) fn has_free(&self) -> bool {
        self.used < u32::from(u16::MAX)
    }

    /// Gives an identifier back.
    pub(crate) fn release(&mut self, id: PacketId) {
        self.release_bits(id.get(), 1 << (id.get() % WORD));
    }

    /// Gives back `count` identifiers that follow each other, from `first` on.
    pub(crate) fn release_row(&mut self, first: PacketId, count: u16) {
        words(first.get(), count).for_each(|(id, bits)| self.release_bits(id, bits));
    }

    /// Gives these back, which mostly follow each other.
    pub(crate) fn release_these(&mut self, ids: &[PacketId]) {
        match row(ids) {
            Some((first, count)) => self.release_row(first, count),
            None => ids.iter().for_each(|id| self.release(*id)),
        }
    }

    /// Gives back those that have these bits in the word of `id`.
    fn release_bits(&mut self, id: u16, bits: u64) {
        let place = self.find(id);
        let Some(word) = self.words.get_mut(place).filter(|word| **word & bits != 0) else { return };
        self.used -= (*word & bits).count_ones();
        *word &= !bits;
        if *word != 0 {
            return;
        }
        while self.words.front() == Some(&0) {
            self.words.pop_front();
            self.first = (self.first + 1) % WORDS;
        }
        while self.words.back() == Some(&0) {
            self.words.pop_back();
        }
        if self.words.is_empty() && self.words.capacity() > IDLE_ID_WORDS {
            self.words = VecDeque::new();
        }
    }

    fn is_used(&self, id: u16) -> bool {
        self.are_used(id, 1 << (id % WORD))
    }

    /// Whether any is in use of those that have these bits in the word of `id`.
    fn are_used(&self, id: u16, bits: u64) -> bool {
        self.words.get(self.find(id)).is_some_and(|word| word & bits != 0)
    }

    /// Marks an identifier as used, unless it is.
    fn insert(&mut self, id: u16) {
        self.insert_bits(id, 1 << (id % WORD));
    }

    /// The same of those that have these bits in the word of `id`.
    fn insert_bits(&mut self, id: u16, bits: u64) {
        if self.words.is_empty() {
            self.first = id / WORD;
        }
        let place = self.find(id);
        if place >= self.words.len() {
            self.words.resize(place + 1, 0);
        }
        if let Some(word) = self.words.get_mut(place) {
            self.used += (bits & !*word).count_ones();
            *word |= bits;
        }
    }

    /// The place among `words` of the word that this identifier is in.
    fn find(&self, id: u16) -> usize {
        usize::from((id / WORD + WORDS - self.first) % WORDS)
    }
}

/// The first of these identifiers and how many there are, if they follow each other.
fn row(ids: &[PacketId]) -> Option<(PacketId, u16)> {
    let first = *ids.first()?;
    let mut row = first.get()..=u16::MAX;
    ids.iter().all(|id| row.next() == Some(id.get())).then_some((first, u16::try_from(ids.len()).ok()?))
}

/// Each word of `count` identifiers from `first` on: one of them in it, and the bits of all that are.
fn words(first: u16, count: u16) -> impl Iterator<Item = (u16, u64)> {
    let (mut id, mut left) = (first, count);
    std::iter::from_fn(move || {
        let bit = id % WORD;
        let here = left.min(WORD - bit);
        let bits = u64::MAX.checked_shr(u32::from(WORD - here))? << bit;
        let word = (id, bits);
        id = id.wrapping_add(here);
        left -= here;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_in_use_is_never_given_out_again() {
        let mut ids = PacketIds::default();
        let held = ids.take().unwrap();
        for _ in 0..200_000 {
            let id = ids.take().unwrap();
            assert_ne!(id, held);
            ids.release(id);
        }
    }

    #[test]
    fn all_identifiers_can_be_in_use_and_come_back() {
        let mut ids = PacketIds::default();
        let all: Vec<_> = std::iter::from_fn(|| ids.take()).collect();
        assert_eq!(all.len(), 65_535);
        ids.release(all[7]);
        assert_eq!(ids.take(), Some(all[7]));
        for id in all {
            ids.release(id);
            ids.release(id);
        }
        assert!(ids.words.capacity() <= IDLE_ID_WORDS && ids.used == 0);
    }

    #[test]
    fn one_that_stays_open_is_passed_by_and_comes_back() {
        let mut ids = PacketIds::starting_after(65_500);
        let held = ids.take().unwrap();
        let mut open = VecDeque::new();
        for _ in 0..200_000 {
            let id = ids.take().unwrap();
            assert!(id != held && !open.contains(&id));
            open.push_back(id);
            if open.len() > 100 {
                ids.release(open.pop_front().unwrap());
            }
        }
        ids.release(held);
        assert!(ids.words.len() <= 3, "a hundred that follow each other");
        open.iter().for_each(|id| ids.release(*id));
        assert!(ids.words.is_empty() && ids.used == 0);
    }

    #[test]
    fn those_that_follow_each_other_are_taken_and_come_back_together() {
        let mut ids = PacketIds::default();
        let (mut open, mut used) = (VecDeque::new(), 0);
        for count in (1..=200_u16).cycle() {
            let Some(first) = ids.next_row(count) else { break };
            ids.take_row(first, count);
            used += u32::from(count);
            assert!((first.get()..=ids.last).all(|id| ids.is_used(id)) && ids.last - first.get() == count - 1);
            open.push_back((first, count));
            if open.len() > 3 {
                let (first, count) = open.pop_front().unwrap();
                ids.release_row(first, count);
                used -= u32::from(count);
                assert!((first.get()..first.get() + count).all(|id| !ids.is_used(id)));
            }
            assert_eq!(ids.used, used);
        }
        let apart = [PacketId::new(ids.last + 3).unwrap(), PacketId::new(ids.last + 1).unwrap()];
        assert_eq!(ids.take_these(&apart), 2);
        ids.release_these(&apart);
        let left = u16::MAX - ids.last;
        assert!(left < 200, "they came to an end");
        assert_eq!(ids.next_row(left + 1), None);
        let last = ids.next_row(left).unwrap();
        ids.take_row(last, left);
        ids.release_these(&(last.get()..=u16::MAX).filter_map(PacketId::new).collect::<Vec<_>>());
        open.into_iter().for_each(|(first, count)| ids.release_row(first, count));
        assert!(ids.words.is_empty() && ids.used == 0);
        ids.last = 100;
        ids.restore(PacketId::new(130).unwrap());
        ids.last = 100;
        assert_eq!(ids.next_row(30), None, "one of them is in use");
        assert_eq!(ids.next_row(29), PacketId::new(101));
    }

    #[test]
    fn of_those_that_are_named_the_first_in_use_ends_it() {
        let row = |ids: std::ops::RangeInclusive<u16>| ids.filter_map(PacketId::new).collect::<Vec<_>>();
        let mut ids = PacketIds::default();
        assert_eq!(ids.take_these(&row(60..=200)), 141);
        assert_eq!(ids.take_these(&row(40..=70)), 20, "60 is in use");
        assert_eq!(ids.take_these(&row(200..=300)), 0);
        assert_eq!(ids.take_these(&[row(65_534..=65_535), row(1..=2)].concat()), 4, "they go on behind the last");
        assert_eq!(ids.take_these(&[]), 0);
        assert_eq!(ids.used, 141 + 20 + 4);
        assert!((40..=200).all(|id| ids.is_used(id)) && !ids.is_used(39) && !ids.is_used(201));
        ids.release_these(&row(40..=200));
        ids.release_these(&[row(65_534..=65_535), row(1..=2)].concat());
        assert!(ids.words.is_empty() && ids.used == 0);
    }

    #[test]
    fn any_of_them_may_be_in_use_from_earlier() {
        let mut ids = PacketIds::default();
        for id in [60_000, 3, 65_535, 59_999, 3] {
            ids.restore(PacketId::new(id).unwrap());
        }
        assert_eq!(ids.used, 4);
        assert_eq!(ids.take(), PacketId::new(4));
        ids.last = 59_998;
        assert_eq!(ids.take(), PacketId::new(60_001));
    }
}
