//! A tree of topic levels in an arena: nodes by number, few children in a line and many in a map.
//!
//! A node that holds nothing and leads nowhere is given back at once, so churn leaves nothing behind. Dropping the arena
//! drops the nodes one by one: no recursion, however deep the tree.

use hashbrown::HashMap;
use smallvec::SmallVec;

/// The root's number.
pub(crate) const ROOT: u32 = 0;

/// Children that a node keeps in a line before it takes a map. Most nodes of a topic tree have one or very many.
const INLINE_CHILDREN: usize = 8;

/// One level of one or more topics or filters, with what ends there.
#[derive(Debug)]
pub(crate) struct Node<V> {
    parent: u32,
    /// This node's own level, to take it from its parent's children.
    level: Box<str>,
    children: Children,
    pub(crate) value: V,
}

#[derive(Debug)]
enum Children {
    Few(SmallVec<[u32; 1]>),
    Many(HashMap<Box<str>, u32, foldhash::fast::RandomState>),
}

/// The arena.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
}

impl<V: Default> Tree<V> {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node::new(ROOT, "")], free: Vec::new() }
    }

    /// Nodes in use, the root included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Node<V>> {
        self.nodes.get(index(at))
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Node<V>> {
        self.nodes.get_mut(index(at))
    }

    /// The child of `at` for `level`.
    pub(crate) fn child(&self, at: u32, level: &str) -> Option<u32> {
        match &self.get(at)?.children {
            Children::Few(few) => few.iter().copied().find(|child| self.level(*child) == level),
            Children::Many(many) => many.get(level).copied(),
        }
    }

    /// Every child of `at`, in the order of their levels.
    pub(crate) fn children(&self, at: u32) -> Vec<u32> {
        let mut children: Vec<u32> = match self.get(at).map(|node| &node.children) {
            Some(Children::Few(few)) => few.to_vec(),
            Some(Children::Many(many)) => many.values().copied().collect(),
            None => Vec::new(),
        };
        children.sort_unstable_by(|a, b| self.level(*a).cmp(self.level(*b)));
        children
    }

    pub(crate) fn level(&self, at: u32) -> &str {
        self.get(at).map_or("", |node| &node.level)
    }

    /// The node of `text`, if it is there.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        text.split('/').try_fold(ROOT, |at, level| self.child(at, level))
    }

    /// The node of `text`, made where it is missing.
    pub(crate) fn make(&mut self, text: &str) -> u32 {
        text.split('/').fold(ROOT, |at, level| match self.child(at, level) {
            Some(child) => child,
            None => self.add_child(at, level),
        })
    }

    /// Gives back `at` and those above it that hold nothing (as `is_empty` says) and lead nowhere.
    pub(crate) fn prune(&mut self, mut at: u32, is_empty: impl Fn(&V) -> bool) {
        while at != ROOT {
            let Some(node) = self.get_mut(at) else { return };
            if !node.children.is_empty() || !is_empty(&node.value) {
                return;
            }
            let (parent, level) = (node.parent, std::mem::take(&mut node.level));
            node.value = V::default();
            if let Some(parent) = self.get_mut(parent) {
                match &mut parent.children {
                    Children::Few(few) => few.retain(|child| *child != at),
                    Children::Many(many) => {
                        many.remove(&level);
                    }
                }
                if parent.children.is_empty() {
                    parent.children = Children::Few(SmallVec::new());
                }
            }
            self.free.push(at);
            at = parent;
        }
    }

    fn add_child(&mut self, parent: u32, level: &str) -> u32 {
        let node = Node::new(parent, level);
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.get_mut(at) {
                    *place = node;
                }
                at
            }
            None => {
                self.nodes.push(node);
                // 2^32 nodes are hundreds of gigabytes: memory ends first.
                u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(Children::Few(few)) = self.get(parent).map(|node| &node.children)
            && few.len() >= INLINE_CHILDREN
        {
            let many = few.iter().map(|child| (Box::from(self.level(*child)), *child)).collect();
            if let Some(node) = self.get_mut(parent) {
                node.children = Children::Many(many);
            }
        }
        if let Some(node) = self.get_mut(parent) {
            match &mut node.children {
                Children::Few(few) => few.push(at),
                Children::Many(many) => {
                    many.insert(level.into(), at);
                }
            }
        }
        at
    }
}

impl<V: Default> Node<V> {
    fn new(parent: u32, level: &str) -> Self {
        Self { parent, level: level.into(), children: Children::Few(SmallVec::new()), value: V::default() }
    }
}

impl Children {
    fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
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
        let mut tree: Tree<Option<u8>> = Tree::new();
        for n in 0..100 {
            let at = tree.make(&format!("a/{n}/c"));
            tree.get_mut(at).unwrap().value = Some(1);
        }
        assert_eq!(tree.len(), 202);
        for n in 0..100 {
            let at = tree.find(&format!("a/{n}/c")).unwrap();
            tree.get_mut(at).unwrap().value = None;
            tree.prune(at, Option::is_none);
        }
        assert_eq!(tree.len(), 1);
        assert_eq!(tree.find("a"), None);
    }

    #[test]
    fn the_deepest_topic_is_made_found_and_dropped() {
        let deep = "/".repeat(65_534);
        let mut tree: Tree<Option<u8>> = Tree::new();
        let at = tree.make(&deep);
        assert_eq!(tree.find(&deep), Some(at));
        tree.prune(at, Option::is_none);
        assert_eq!(tree.len(), 1);
        tree.make(&deep);
    }
}
