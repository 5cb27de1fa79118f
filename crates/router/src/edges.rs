//! Which node a literal level leads to, by the hash of the node above and the level: hashes and numbers of nodes side by
//! side in one open table.
//!
//! In: a hash, and a look at whether a node is the one. Out: its number. A match among a million filters finds most
//! places of the table in memory that nobody has looked at lately. It waits for a place once, and not for a node whose hash
//! is another; a table that keeps marks and numbers apart makes it wait for both. Must never: be full.

use crate::tree::ROOT;

/// Of places, at least.
const LEAST: usize = 8;

/// A number at the place that its hash says, or at the first behind it that was free.
#[derive(Clone, Copy, Debug)]
struct Edge {
    hash: u32,
    /// [`ROOT`], to which nothing leads, where the place is free.
    node: u32,
}

const FREE: Edge = Edge { hash: 0, node: ROOT };

/// The table. Takes no memory while it is empty.
#[derive(Debug, Default)]
pub(crate) struct Edges {
    /// A quarter at least is free.
    places: Vec<Edge>,
    used: usize,
}

impl Edges {
    /// Bytes of the places.
    pub(crate) fn memory(&self) -> usize {
        self.places.capacity() * size_of::<Edge>()
    }

    /// The first node under `hash` that `is_it` finds to be the one.
    pub(crate) fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut place = self.home(hash);
        loop {
            let edge = self.taken(place)?;
            if edge.hash == hash && is_it(edge.node) {
                return Some(edge.node);
            }
            place = self.behind(place);
        }
    }

    /// `node`, which is not the root, is not there yet.
    pub(crate) fn insert(&mut self, hash: u32, node: u32) {
        if self.used >= self.places.len() / 4 * 3 {
            // By a quarter, because memory that lies free is worse than this: both tables are walked from end to end.
            let larger = (self.places.len() / 4 * 5).next_multiple_of(LEAST).max(LEAST);
            let before = std::mem::replace(&mut self.places, vec![FREE; larger]);
            for edge in before.into_iter().filter(|edge| edge.node != ROOT) {
                self.put(edge);
            }
        }
        self.put(Edge { hash, node });
        self.used += 1;
    }

    /// Takes `node` out, if it is there.
    pub(crate) fn remove(&mut self, hash: u32, node: u32) {
        let mut place = self.home(hash);
        while let Some(edge) = self.taken(place) {
            if edge.node == node {
                self.used -= 1;
                return self.close(place);
            }
            place = self.behind(place);
        }
    }

    /// Frees a place, and brings those behind it nearer to where their hashes say, so that a free place always means that there is no more.
    fn close(&mut self, mut gap: usize) {
        let mut next = self.behind(gap);
        while let Some(edge) = self.taken(next) {
            let is_at_home_behind_the_gap = self.steps(self.home(edge.hash), next) < self.steps(gap, next);
            if !is_at_home_behind_the_gap {
                self.set(gap, edge);
                gap = next;
            }
            next = self.behind(next);
        }
        self.set(gap, FREE);
    }

    fn put(&mut self, edge: Edge) {
        let mut place = self.home(edge.hash);
        while self.taken(place).is_some() {
            place = self.behind(place);
        }
        self.set(place, edge);
    }

    fn set(&mut self, place: usize, edge: Edge) {
        if let Some(own) = self.places.get_mut(place) {
            *own = edge;
        }
    }

    /// What is at a place; `None` when it is free.
    fn taken(&self, place: usize) -> Option<Edge> {
        self.places.get(place).copied().filter(|edge| edge.node != ROOT)
    }

    fn home(&self, hash: u32) -> usize {
        usize::try_from((u64::from(hash) * self.places.len() as u64) >> u32::BITS).unwrap_or(0)
    }

    fn behind(&self, place: usize) -> usize {
        if place + 1 < self.places.len() { place + 1 } else { 0 }
    }

    fn steps(&self, from: usize, to: usize) -> usize {
        if to < from { to + self.places.len() - from } else { to - from }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Numbers that look like chance and are the same each time.
    fn next(state: &mut u32) -> u32 {
        *state ^= *state << 13;
        *state ^= *state >> 17;
        *state ^= *state << 5;
        *state
    }

    #[test]
    fn it_holds_what_a_map_holds_while_edges_come_and_go() {
        // Few hashes, at both ends of the table too, so that many share one and runs go around the end.
        let hashes = [0, 1, 1 << 29, u32::MAX / 2, u32::MAX - 1, u32::MAX];
        let (mut edges, mut map, mut state) = (Edges::default(), BTreeMap::new(), 1);
        for step in 0..40_000 {
            let most = if step / 5_000 % 2 == 0 { 300 } else { 12 };
            let chance = next(&mut state);
            let node = chance % 500 + 1;
            match map.get(&node).copied() {
                Some(hash) => {
                    edges.remove(hash, node);
                    map.remove(&node);
                }
                None if map.len() < most => {
                    let hash = hashes.get(chance as usize / 500 % 12).copied().unwrap_or(chance);
                    edges.insert(hash, node);
                    map.insert(node, hash);
                }
                None => {}
            }
            assert_eq!(edges.used, map.len());
            let (asked, hash) = map.iter().nth(chance as usize % map.len().max(1)).unwrap_or((&1, &0));
            assert_eq!(edges.find(*hash, |node| node == *asked), map.contains_key(asked).then_some(*asked));
            assert_eq!(edges.find(*hash, |node| node == 501), None);
        }
        assert!(map.iter().all(|(own, hash)| edges.find(*hash, |node| node == *own) == Some(*own)));
        for (node, hash) in &map {
            edges.remove(*hash, *node);
        }
        assert!(edges.places.iter().all(|edge| edge.node == ROOT));
    }

    #[test]
    fn nothing_is_in_an_empty_one_and_to_take_out_what_is_not_there_does_nothing() {
        let mut edges = Edges::default();
        assert_eq!((edges.memory(), edges.find(u32::MAX, |_| true)), (0, None));
        edges.remove(7, 1);
        edges.insert(7, 1);
        edges.remove(7, 2);
        assert_eq!((edges.used, edges.find(7, |_| true)), (1, Some(1)));
    }
}
