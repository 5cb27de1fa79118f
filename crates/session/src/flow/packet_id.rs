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

    /// What [`PacketIds::take`] would take, one after the other.
    pub(crate) fn coming(&self) -> impl Iterator<Item = PacketId> {
        let behind = self.last.checked_add(1).into_iter().flat_map(|first| first..=u16::MAX);
        behind.chain(1..=self.last).filter(|id| !self.is_used(*id)).filter_map(PacketId::new)
    }

    /// Marks an identifier as used by an exchange of an earlier process, the last one that was taken so far.
    pub(crate) fn restore(&mut self, id: PacketId) {
        self.insert(id.get());
        self.last = id.get();
    }

    /// Takes these identifiers, up to the first that is in use. How many.
    pub(crate) fn take_these(&mut self, ids: &[PacketId]) -> usize {
        let is_taken = |id: &&PacketId| {
            let is_free = !self.is_used(id.get());
            if is_free {
                self.insert(id.get());
            }
            is_free
        };
        ids.iter().take_while(is_taken).count()
    }

    /// Whether [`PacketIds::take`] would find one.
    pub(crate) fn has_free(&self) -> bool {
        self.used < u32::from(u16::MAX)
    }

    /// Gives an identifier back.
    pub(crate) fn release(&mut self, id: PacketId) {
        let (place, bit) = self.find(id.get());
        let Some(word) = self.words.get_mut(place).filter(|word| **word & bit != 0) else { return };
        *word &= !bit;
        self.used -= 1;
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
        let (place, bit) = self.find(id);
        self.words.get(place).is_some_and(|word| word & bit != 0)
    }

    /// Marks an identifier as used, unless it is.
    fn insert(&mut self, id: u16) {
        if self.words.is_empty() {
            self.first = id / WORD;
        }
        let (place, bit) = self.find(id);
        if place >= self.words.len() {
            self.words.resize(place + 1, 0);
        }
        if let Some(word) = self.words.get_mut(place).filter(|word| **word & bit == 0) {
            *word |= bit;
            self.used += 1;
        }
    }

    /// The place among `words` of the word that this identifier is in, and its bit.
    fn find(&self, id: u16) -> (usize, u64) {
        let place = (id / WORD + WORDS - self.first) % WORDS;
        (usize::from(place), 1 << (id % WORD))
    }
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
