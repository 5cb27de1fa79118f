//! What waits for one session in the store alone: numbers instead of messages.
//!
//! In: places of messages in the log. Out: the same, the oldest first. A million messages that wait are some megabytes of these.
//! Reads nothing. What is dropped is settled, unless its session is another owner's by now.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::kept::Settler;

/// A message that waits in the log for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The number of the message in the store.
    pub id: u64,
    /// Which of its owed entries.
    pub index: u32,
    /// Bytes that a queue counts for it.
    pub size: u32,
}

/// What waits in the log for one session, the oldest first. Dropping it settles everything in it.
///
/// What comes together has numbers that follow each other and needs four bytes a message; what comes alone needs twenty.
#[derive(Debug)]
pub struct Backlog {
    stretches: VecDeque<Stretch>,
    /// One for each message.
    sizes: VecDeque<u32>,
    bytes: u64,
    settler: Arc<Settler>,
    has_shared: bool,
}

/// Messages whose numbers follow each other, owed by the same entry of each.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: u64,
    index: u32,
    count: u32,
}

impl Backlog {
    /// An empty one, whose stubs settle through `settler`.
    #[must_use]
    pub fn new(settler: Arc<Settler>) -> Self {
        Self { stretches: VecDeque::new(), sizes: VecDeque::new(), bytes: 0, settler, has_shared: false }
    }

    /// One that holds `stubs`, the oldest first. `has_shared`: some of them came by a share group, so another member may
    /// have them when this session ends.
    #[must_use]
    pub fn restored(stubs: Vec<Stub>, settler: Arc<Settler>, has_shared: bool) -> Self {
        let mut backlog = Self::new(settler);
        backlog.has_shared = has_shared;
        stubs.into_iter().for_each(|stub| backlog.push_back(stub));
        backlog
    }

    /// Whether some of what an earlier process left in it came by a share group.
    #[must_use]
    pub fn has_shared(&self) -> bool {
        self.has_shared
    }

    /// Adds the newest.
    pub fn push_back(&mut self, stub: Stub) {
        self.extend(stub.id, stub.index, std::iter::once(stub.size));
    }

    /// Adds messages whose numbers follow each other from `first` on and that are owed by the entry `index` of each: one for each of
    /// `sizes`.
    pub fn extend(&mut self, first: u64, index: u32, sizes: impl ExactSizeIterator<Item = u32>) {
        let Ok(count @ 1..) = u32::try_from(sizes.len()) else { return };
        let joined = |last: &Stretch| {
            let follows = last.index == index && last.first.checked_add(last.count.into()) == Some(first);
            last.count.checked_add(count).filter(|_| follows)
        };
        match self.stretches.back_mut().and_then(|last| Some((joined(last)?, last))) {
            Some((count, last)) => last.count = count,
            None => self.stretches.push_back(Stretch { first, index, count }),
        }
        let bytes = &mut self.bytes;
        self.sizes.extend(sizes.inspect(|size| *bytes += u64::from(*size)));
    }

    /// Takes up to `n` of the oldest. They stay owed: whoever takes them reads them back as places or
    /// gives them to [`Backlog::settle`].
    pub fn pop_front(&mut self, n: usize) -> Vec<Stub> {
        let stretches = &mut self.stretches;
        let next = |size| {
            let first = stretches.front_mut()?;
            let stub = Stub { id: first.first, index: first.index, size };
            if first.count > 1 {
                first.first += 1;
                first.count -= 1;
            } else {
                stretches.pop_front();
            }
            Some(stub)
        };
        let taken: Vec<Stub> = self.sizes.drain(..n.min(self.sizes.len())).map_while(next).collect();
        self.bytes -= taken.iter().map(|stub| u64::from(stub.size)).sum::<u64>();
        // A backlog of a million that is drained shall not keep its memory.
        give_back(&mut self.sizes);
        give_back(&mut self.stretches);
        taken
    }

    /// Puts back what [`Backlog::pop_front`] took and nobody read, in its old order.
    pub fn push_front(&mut self, stubs: &[Stub]) {
        for Stub { id, index, size } in stubs.iter().rev().copied() {
            let is_next = |first: &&mut Stretch| {
                first.index == index && first.count < u32::MAX && id.checked_add(1) == Some(first.first)
            };
            match self.stretches.front_mut().filter(is_next) {
                Some(first) => *first = Stretch { first: id, index, count: first.count + 1 },
                None => self.stretches.push_front(Stretch { first: id, index, count: 1 }),
            }
            self.bytes += u64::from(size);
            self.sizes.push_front(size);
        }
    }

    /// Gives up what is in it without settling it: another owner has it too.
    pub fn leave(mut self) {
        self.stretches.clear();
        self.sizes.clear();
    }

    /// Settles stubs that were taken and that nobody is owed any more.
    pub fn settle(&self, stubs: &[Stub]) {
        self.settler.settle_all(stubs);
    }

    /// The oldest.
    #[must_use]
    pub fn front(&self) -> Option<Stub> {
        let (first, size) = (self.stretches.front()?, self.sizes.front()?);
        Some(Stub { id: first.first, index: first.index, size: *size })
    }

    /// Messages in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Bytes that a queue counts for what is in it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        let stubs = self.pop_front(self.len());
        self.settle(&stubs);
    }
}

fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_counts_and_settles_what_is_left_in_it() {
        let settler = Arc::new(Settler::default());
        let mut backlog = Backlog::new(Arc::clone(&settler));
        (0..5).for_each(|id| backlog.push_back(Stub { id, index: 3, size: 10 }));
        let taken = backlog.pop_front(2);
        assert_eq!((backlog.len(), backlog.bytes(), taken.len()), (3, 30, 2));
        backlog.push_front(&taken[1..]);
        assert_eq!(backlog.front().as_ref(), taken.get(1));
        drop(backlog);
        assert_eq!(settler.take_settled(), [(1, 3), (2, 3), (3, 3), (4, 3)]);
    }

    #[test]
    fn a_backlog_gives_back_what_it_was_given_whatever_the_numbers() {
        let stub = |id, index, size| Stub { id, index, size };
        let stubs = [
            stub(7, 0, 10),
            stub(8, 0, 20),
            stub(9, 1, 20),
            stub(10, 1, 20),
            stub(10, 1, 20),
            stub(12, 1, 1),
            stub(5, 1, 1),
            stub(u64::MAX, 0, 1),
            stub(0, 0, u32::MAX),
        ];
        for page in 1..=stubs.len() {
            for read in 0..=page {
                let mut backlog = Backlog::restored(stubs.to_vec(), Arc::default(), false);
                let (mut came, mut model) = (Vec::new(), VecDeque::from(stubs));
                while !model.is_empty() {
                    assert_eq!((backlog.len(), backlog.front()), (model.len(), model.front().copied()));
                    assert_eq!(backlog.bytes(), model.iter().map(|stub| u64::from(stub.size)).sum::<u64>());
                    let taken = backlog.pop_front(page);
                    assert_eq!(taken, model.drain(..page.min(model.len())).collect::<Vec<_>>());
                    // At least one is read each time, or it would never end.
                    let (front, back) = taken.split_at(read.clamp(1, taken.len()));
                    backlog.push_front(back);
                    back.iter().rev().for_each(|stub| model.push_front(*stub));
                    came.extend_from_slice(front);
                }
                assert_eq!((came.as_slice(), backlog.len(), backlog.bytes()), (&stubs[..], 0, 0));
                assert_eq!(backlog.front(), None);
            }
        }
    }
}
