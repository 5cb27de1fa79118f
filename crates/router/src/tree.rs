//! A trie of topic filters in an arena: nodes by number, `+` and `#` as fields of their node, and every literal level in
//! one table of edges for the whole trie, by the hash of the node above and the level.
//!
//! One table instead of a map per node: a node with one child, which most are, pays for no map, and one with a million
//! is no special case. A node that holds nothing and leads nowhere is given back at once, and a trie that has become
//! empty gives back its memory. Dropping the arena drops its nodes one by one: no recursion, however deep the trie.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use crate::edges::Edges;
use crate::level::Level;

/// The root's number. No node leads to the root, so as a child it means that there is none.
pub(crate) const ROOT: u32 = 0;

/// One level of one or more filters, with what ends there. Begins where a cache line does: a match among a million
/// filters finds each node in memory that nobody has looked at lately, and waits once for it instead of twice.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Node<V> {
    parent: u32,
    literals: Literals,
    /// The child for `+`, or [`ROOT`].
    single: u32,
    /// The child for `#`, or [`ROOT`].
    multi: u32,
    /// Its own level; empty for a wildcard, which its parent's field names.
    level: Level,
    pub(crate) value: V,
}

/// The literal levels that lead on from a node: how many, or the child itself while there has never been another. Most
/// nodes have one child; to find it in the table takes two looks into memory that is mostly cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Literals(u32);

/// The bit that says that the others are the number of the only child.
const ONLY: u32 = 1 << 31;

impl Literals {
    const NONE: Self = Self(0);

    fn only(self) -> Option<u32> {
        (self.0 & ONLY != 0).then_some(self.0 & !ONLY)
    }

    fn and(self, child: u32) -> Self {
        match self {
            Self::NONE => Self(ONLY | child),
            _ if self.only().is_some() => Self(2),
            Self(count) => Self(count + 1),
        }
    }

    fn without_one(self) -> Self {
        if self.only().is_some() { Self::NONE } else { Self(self.0.saturating_sub(1)) }
    }
}

/// The arena.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
    /// Every node with a literal level.
    literals: Edges,
    /// Clients choose the levels, so the hash has a secret of its own. Nothing that comes out depends on it.
    hasher: RandomState,
}

impl<V: Default> Tree<V> {
    pub(crate) fn new() -> Self {
        Self {
            nodes: vec![Node::new(ROOT, Level::EMPTY)],
            free: Vec::new(),
            literals: Edges::default(),
            hasher: RandomState::default(),
        }
    }

    /// Nodes in use, the root included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Bytes of nodes and table. Levels that are too long for their node are not counted.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node<V>>() + self.free.capacity() * size_of::<u32>() + self.literals.memory()
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Node<V>> {
        self.nodes.get(index(at))
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Node<V>> {
        self.nodes.get_mut(index(at))
    }

    /// The child of `at` for a level of a topic, which is never a wildcard.
    pub(crate) fn literal(&self, at: u32, level: &str) -> Option<u32> {
        let level = level.as_bytes();
        let is_it =
            |child: u32| self.get(child).is_some_and(|node| node.parent == at && node.level.as_bytes() == level);
        let literals = self.get(at)?.literals;
        if literals == Literals::NONE {
            return None;
        }
        if let Some(child) = literals.only() {
            return is_it(child).then_some(child);
        }
        self.literals.find(hash(&self.hasher, at, level), is_it)
    }

    /// The node of the filter `text`, if it is there.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        text.split('/').try_fold(ROOT, |at, level| self.child(at, level))
    }

    /// The node of the filter `text`, made where it is missing. `None` when there are 2^31 nodes already; they take
    /// more than a hundred gigabytes, so memory ends first.
    pub(crate) fn make(&mut self, text: &str) -> Option<u32> {
        text.split('/').try_fold(ROOT, |at, level| match self.child(at, level) {
            Some(child) => Some(child),
            None => self.add_child(at, level),
        })
    }

    /// Gives back `at` and those above it that hold nothing (as `is_empty` says) and lead nowhere.
    pub(crate) fn prune(&mut self, mut at: u32, is_empty: impl Fn(&V) -> bool) {
        while at != ROOT {
            let Some(node) = self.get_mut(at) else { return };
            if node.leads_on() || !is_empty(&node.value) {
                return;
            }
            let parent = node.parent;
            node.value = V::default();
            self.unlink(parent, at);
            self.free.push(at);
            at = parent;
        }
        if self.len() == 1 {
            self.give_back();
        }
    }

    fn child(&self, at: u32, level: &str) -> Option<u32> {
        match level {
            "+" => self.get(at)?.single(),
            "#" => self.get(at)?.multi(),
            literal => self.literal(at, literal),
        }
    }

    fn add_child(&mut self, parent: u32, level: &str) -> Option<u32> {
        let own = if matches!(level, "+" | "#") { Level::EMPTY } else { Level::new(level) };
        let at = match self.free.pop() {
            Some(at) => {
                *self.get_mut(at)? = Node::new(parent, own);
                at
            }
            None => {
                let at = u32::try_from(self.nodes.len()).ok().filter(|at| *at < ONLY)?;
                self.nodes.push(Node::new(parent, own));
                at
            }
        };
        let above = self.get_mut(parent)?;
        match level {
            "+" => above.single = at,
            "#" => above.multi = at,
            literal => {
                above.literals = above.literals.and(at);
                self.literals.insert(hash(&self.hasher, parent, literal.as_bytes()), at);
            }
        }
        Some(at)
    }

    /// Takes the child `at` from `parent`, and its level from `at`.
    fn unlink(&mut self, parent: u32, at: u32) {
        let Some(above) = self.get_mut(parent) else { return };
        if above.single == at {
            above.single = ROOT;
        } else if above.multi == at {
            above.multi = ROOT;
        } else if let Some(node) = self.get_mut(at) {
            let level = std::mem::replace(&mut node.level, Level::EMPTY);
            let hash = hash(&self.hasher, parent, level.as_bytes());
            self.literals.remove(hash, at);
            if let Some(above) = self.get_mut(parent) {
                above.literals = above.literals.without_one();
            }
        }
    }

    fn give_back(&mut self) {
        self.nodes.truncate(1);
        self.nodes.shrink_to_fit();
        self.free = Vec::new();
        self.literals = Edges::default();
    }
}

impl<V: Default> Node<V> {
    fn new(parent: u32, level: Level) -> Self {
        Self { parent, literals: Literals::NONE, single: ROOT, multi: ROOT, level, value: V::default() }
    }
}

impl<V> Node<V> {
    /// The child for `+`.
    pub(crate) fn single(&self) -> Option<u32> {
        (self.single != ROOT).then_some(self.single)
    }

    /// The child for `#`.
    pub(crate) fn multi(&self) -> Option<u32> {
        (self.multi != ROOT).then_some(self.multi)
    }

    fn leads_on(&self) -> bool {
        self.literals != Literals::NONE || self.single != ROOT || self.multi != ROOT
    }
}

fn hash(hasher: &RandomState, parent: u32, level: &[u8]) -> u32 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(parent);
    hasher.write(level);
    let [.., a, b, c, d] = hasher.finish().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn index(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_come_back_when_nothing_is_left_in_them() {
        let mut tree: Tree<Option<u8>> = Tree::new();
        let empty = tree.memory();
        let filters: Vec<String> = (0..100).flat_map(|n| [format!("a/{n}/+/c"), format!("+/{n}/#")]).collect();
        for filter in &filters {
            let at = tree.make(filter).unwrap();
            tree.get_mut(at).unwrap().value = Some(1);
        }
        assert_eq!(tree.len(), 1 + 1 + 300 + 1 + 200);
        for (n, filter) in filters.iter().enumerate() {
            let at = tree.find(filter).unwrap();
            tree.get_mut(at).unwrap().value = None;
            tree.prune(at, Option::is_none);
            assert_eq!(tree.find(filter), None);
            assert!(filters[n + 1..].iter().all(|later| tree.find(later).is_some()));
        }
        assert_eq!((tree.len(), tree.memory()), (1, empty));
    }

    #[test]
    fn freed_nodes_are_used_again() {
        let mut tree: Tree<Option<u8>> = Tree::new();
        tree.make("stays/here");
        for n in 0..1_000 {
            let at = tree.make(&format!("a/{n}/a level that is too long to be kept in place")).unwrap();
            tree.prune(at, Option::is_none);
        }
        assert_eq!((tree.len(), tree.nodes.len()), (3, 6));
    }

    #[test]
    fn children_are_found_while_others_come_and_go() {
        let mut tree: Tree<Option<u8>> = Tree::new();
        let make = |tree: &mut Tree<Option<u8>>, text| tree.make(text).unwrap();
        let x = make(&mut tree, "a/x");
        assert_eq!((tree.find("a/x"), tree.find("a/y")), (Some(x), None));
        let y = make(&mut tree, "a/y");
        assert_eq!((tree.find("a/x"), tree.find("a/y")), (Some(x), Some(y)));
        tree.prune(x, Option::is_none);
        assert_eq!((tree.find("a/x"), tree.find("a/y")), (None, Some(y)));
        let z = make(&mut tree, "a/z");
        tree.prune(y, Option::is_none);
        assert_eq!((tree.find("a/y"), tree.find("a/z")), (None, Some(z)));
        tree.prune(z, Option::is_none);
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn a_wildcard_and_a_literal_of_one_node_are_different_children() {
        let mut tree: Tree<Option<u8>> = Tree::new();
        let all: Vec<_> = ["a/+", "a/#", "a/b", "a/"].iter().map(|filter| tree.make(filter).unwrap()).collect();
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_eq!(tree.literal(tree.find("a").unwrap(), ""), Some(all[3]));
    }

    #[test]
    fn the_deepest_topic_is_made_found_and_dropped() {
        let deep = "/".repeat(65_534);
        let mut tree: Tree<Option<u8>> = Tree::new();
        let at = tree.make(&deep).unwrap();
        assert_eq!(tree.find(&deep), Some(at));
        tree.prune(at, Option::is_none);
        assert_eq!(tree.len(), 1);
        tree.make(&deep);
    }
}
