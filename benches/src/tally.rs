//! What arrived, message by message: in come the stamps that the publishers put into payloads, out go losses and
//! doubles.
//!
//! A stamp is the publisher's number and the place of the message in all that it sent; both stand at the start of the
//! payload, as little-endian bytes, so that the shortest payload has twelve.

/// Writes a stamp over the start of a payload.
pub(crate) fn stamp(payload: &mut [u8], publisher: u32, sequence: u64) {
    if let Some((first, rest)) = payload.split_first_chunk_mut::<4>()
        && let Some(second) = rest.first_chunk_mut::<8>()
    {
        *first = publisher.to_le_bytes();
        *second = sequence.to_le_bytes();
    }
}

/// Publisher and sequence; `None` for a payload that is none of ours.
pub(crate) fn read(payload: &[u8]) -> Option<(u32, u64)> {
    let (first, rest) = payload.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*first), u64::from_le_bytes(*rest.first_chunk::<8>()?)))
}

/// Of one subscriber: what it expects next from each publisher.
#[derive(Debug)]
pub(crate) struct Tally {
    next: Vec<u64>,
    /// Messages that came, doubles included.
    pub(crate) arrived: u64,
    /// Messages that came after a later one of the same publisher: sent twice, or out of order.
    pub(crate) behind: u64,
    /// How far the publishers have come here, all together: what came and what was left out.
    pub(crate) progress: u64,
}

impl Tally {
    pub(crate) fn new(publishers: usize) -> Self {
        Self { next: vec![0; publishers], arrived: 0, behind: 0, progress: 0 }
    }

    /// Takes one message. Returns whether it has its place.
    pub(crate) fn take(&mut self, publisher: u32, sequence: u64) -> bool {
        self.arrived += 1;
        let Some(next) = self.next.get_mut(publisher as usize) else { return false };
        if sequence < *next {
            self.behind += 1;
            return false;
        }
        self.progress += sequence + 1 - *next;
        *next = sequence + 1;
        true
    }

    /// Of `sent` messages that were for this subscriber, how many never came.
    pub(crate) fn lost(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.arrived - self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_doubles_are_counted() {
        let mut tally = Tally::new(2);
        for (publisher, sequence) in [(0, 0), (1, 0), (0, 1), (0, 1), (0, 4)] {
            tally.take(publisher, sequence);
        }
        assert_eq!((tally.arrived, tally.behind, tally.progress), (5, 1, 6));
        // Publisher 0 sent five, publisher 1 two: two were left out and one never came.
        assert_eq!(tally.lost(7), 3);
    }

    #[test]
    fn a_stamp_is_read_back() {
        let mut payload = [0; 16];
        stamp(&mut payload, 7, 1 << 40);
        assert_eq!(read(&payload), Some((7, 1 << 40)));
        assert_eq!(read(&payload[..11]), None);
    }
}
