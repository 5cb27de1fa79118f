//! A trie of topics in an arena, whose levels have an order: one ordered map for the whole trie, keyed by the node above
//! and the level.
//!
//! The order lets a walk over a million topics be taken up anywhere, also at a topic that has gone meanwhile. A node
//! that holds nothing and leads nowhere is given back at once. No recursion, however deep the trie.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use crate::level::Level;

/// The root's number.
pub(crate) const ROOT: u32 = 0;

/// One level of one or more topics.
#[derive(Debug)]
struct Node<V> {
    parent: u32,
    /// How many levels lead on from here.
    children: u32,
    value: Option<V>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    parent: u32,
    level: Level,
}

/// The arena.
#[derive(Debug)]
pub(crate) struct Topics<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
    edges: BTreeMap<Edge, u32>,
}

/// Children of one node in the order of their levels.
#[derive(Debug)]
pub(crate) struct Children<'a> {
    parent: u32,
    range: Range<'a, Edge, u32>,
}

impl<V> Topics<V> {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node { parent: ROOT, children: 0, value: None }], free: Vec::new(), edges: BTreeMap::new() }
    }

    /// Nodes in use, the root included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Bytes of nodes and edges, near enough: a map of this kind is two thirds full when levels come at random. Levels
    /// that are too long for their edge are not counted.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node<V>>()
            + self.free.capacity() * size_of::<u32>()
            + self.edges.len() * size_of::<(Edge, u32)>() * 3 / 2
    }

    pub(crate) fn value(&self, at: u32) -> Option<&V> {
        self.nodes.get(index(at))?.value.as_ref()
    }

    /// Whether anything lies below `at`.
    pub(crate) fn leads_on(&self, at: u32) -> bool {
        self.nodes.get(index(at)).is_some_and(|node| node.children != 0)
    }

    pub(crate) fn child(&self, at: u32, level: &str) -> Option<u32> {
        self.edges.get(&Edge { parent: at, level: Level::new(level) }).copied()
    }

    /// The children of `at` whose levels lie beyond `start`.
    pub(crate) fn children(&self, at: u32, start: Bound<&str>) -> Children<'_> {
        let start = match start {
            Bound::Unbounded => Bound::Included(""),
            bound => bound,
        };
        let start = start.map(|level| Edge { parent: at, level: Level::new(level) });
        Children { parent: at, range: self.edges.range((start, Bound::Unbounded)) }
    }

    /// The node of `topic`, if it is there.
    pub(crate) fn find(&self, topic: &str) -> Option<u32> {
        topic.split('/').try_fold(ROOT, |at, level| self.child(at, level))
    }

    /// Puts `value` at `topic`: its node and the value before. `None` when there are 2^32 nodes already; they take
    /// hundreds of gigabytes, so memory ends first.
    pub(crate) fn put(&mut self, topic: &str, value: V) -> Option<(u32, Option<V>)> {
        let mut at = ROOT;
        for level in topic.split('/') {
            at = match self.child(at, level) {
                Some(child) => child,
                None => self.add_child(at, level)?,
            };
        }
        Some((at, self.nodes.get_mut(index(at))?.value.replace(value)))
    }

    /// Takes the value of `topic`, and the nodes that held only it.
    pub(crate) fn take(&mut self, topic: &str) -> Option<(u32, V)> {
        let at = self.find(topic)?;
        let value = self.nodes.get_mut(index(at))?.value.take()?;
        self.prune(at, topic);
        Some((at, value))
    }

    fn prune(&mut self, mut at: u32, topic: &str) {
        for level in topic.rsplit('/') {
            let Some(node) = self.nodes.get(index(at)) else { return };
            if node.children != 0 || node.value.is_some() {
                break;
            }
            let parent = node.parent;
            self.edges.remove(&Edge { parent, level: Level::new(level) });
            if let Some(above) = self.nodes.get_mut(index(parent)) {
                above.children -= 1;
            }
            self.free.push(at);
            at = parent;
        }
        if self.len() == 1 {
            *self = Self::new();
        }
    }

    fn add_child(&mut self, parent: u32, level: &str) -> Option<u32> {
        let node = Node { parent, children: 0, value: None };
        let at = match self.free.pop() {
            Some(at) => {
                *self.nodes.get_mut(index(at))? = node;
                at
            }
            None => {
                let at = u32::try_from(self.nodes.len()).ok()?;
                self.nodes.push(node);
                at
            }
        };
        self.edges.insert(Edge { parent, level: Level::new(level) }, at);
        self.nodes.get_mut(index(parent))?.children += 1;
        Some(at)
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = (&'a [u8], u32);

    fn next(&mut self) -> Option<Self::Item> {
        let (edge, child) = self.range.next()?;
        (edge.parent == self.parent).then(|| (edge.level.as_bytes(), *child))
    }
}

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_come_back_when_nothing_is_left_in_them() {
        let mut topics = Topics::new();
        let empty = topics.memory();
        for n in 0..100 {
            assert!(topics.put(&format!("a/{n}/c"), n).is_some());
            assert!(topics.put(&format!("a/{n}"), n).is_some());
        }
        assert_eq!(topics.len(), 202);
        for n in 0..100 {
            assert_eq!(topics.take(&format!("a/{n}")).map(|(_, value)| value), Some(n));
            assert_eq!(topics.take(&format!("a/{n}")), None);
            assert_eq!(topics.find(&format!("a/{n}/c")).and_then(|at| topics.value(at)), Some(&n));
            assert!(topics.take(&format!("a/{n}/c")).is_some());
        }
        assert_eq!((topics.len(), topics.memory()), (1, empty));
    }

    #[test]
    fn children_come_in_the_order_of_their_levels_and_are_those_of_one_node() {
        let mut topics = Topics::new();
        for topic in ["b/x", "a/b", "a/", "a/B", "a/a long level that is not kept in place", "b"] {
            topics.put(topic, ());
        }
        let at = topics.find("a").unwrap();
        let levels = |start| topics.children(at, start).map(|(level, _)| level.len()).collect::<Vec<_>>();
        assert_eq!(levels(Bound::Unbounded), [0, 1, 38, 1]);
        assert_eq!(levels(Bound::Excluded("B")), [38, 1]);
        assert_eq!(levels(Bound::Included("B")), [1, 38, 1]);
        assert!(levels(Bound::Excluded("b")).is_empty());
        assert_eq!(levels(Bound::Excluded("az")), [1]);
    }

    #[test]
    fn the_deepest_topic_is_made_found_and_dropped() {
        let deep = "/".repeat(65_534);
        let mut topics = Topics::new();
        topics.put(&deep, ());
        assert_eq!(topics.len(), 65_536);
        assert!(topics.take(&deep).is_some());
        assert_eq!(topics.len(), 1);
        topics.put(&deep, ());
    }
}
