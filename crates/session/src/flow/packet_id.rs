//! Packet Identifiers of what this end sends: never zero, never one that is in use (MQTT-2.2.1-3, MQTT-2.2.1-4,
//! MQTT-2.3.1-4 of 3.1.1, MQTT-4.3.2-1, MQTT-4.3.3-1).

use smallvec::SmallVec;
use viaduct_codec::PacketId;

use crate::limits::FEW_IDS;

/// The identifiers in use, and which comes next.
#[derive(Debug, Default)]
pub(crate) struct PacketIds {
    last: u16,
    few: SmallVec<[u16; 4]>,
    /// One bit per identifier, while more than [`FEW_IDS`] are in use.
    many: Option<Box<[u64; 1024]>>,
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
            if !self.contains(id) {
                return PacketId::new(id);
            }
        }
    }

    /// Marks an identifier as used by an exchange of an earlier process, the last one that was taken so far.
    pub(crate) fn restore(&mut self, id: PacketId) {
        if !self.contains(id.get()) {
            self.insert(id.get());
        }
        self.last = id.get();
    }

    /// Whether [`PacketIds::take`] would find one.
    pub(crate) fn has_free(&self) -> bool {
        self.used < u32::from(u16::MAX)
    }

    /// Gives an identifier back.
    pub(crate) fn release(&mut self, id: PacketId) {
        let id = id.get();
        if !self.contains(id) {
            return;
        }
        self.used -= 1;
        match &mut self.many {
            Some(bits) => {
                if let Some(word) = bits.get_mut(usize::from(id / 64)) {
                    *word &= !(1 << (id % 64));
                }
                if self.used == 0 {
                    self.many = None;
                }
            }
            None => self.few.retain(|used| *used != id),
        }
    }

    fn contains(&self, id: u16) -> bool {
        match &self.many {
            Some(bits) => bits.get(usize::from(id / 64)).is_some_and(|word| word & (1 << (id % 64)) != 0),
            None => self.few.contains(&id),
        }
    }

    fn insert(&mut self, id: u16) {
        if self.many.is_none() && self.few.len() >= FEW_IDS {
            let mut bits = Box::new([0; 1024]);
            for used in std::mem::take(&mut self.few) {
                if let Some(word) = bits.get_mut(usize::from(used / 64)) {
                    *word |= 1 << (used % 64);
                }
            }
            self.many = Some(bits);
        }
        self.used += 1;
        match &mut self.many {
            Some(bits) => {
                if let Some(word) = bits.get_mut(usize::from(id / 64)) {
                    *word |= 1 << (id % 64);
                }
            }
            None => self.few.push(id),
        }
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
        assert!(ids.many.is_none() && ids.used == 0);
    }
}
