//! Retained messages by topic, found by filter without looking at those that it can't match.

use std::sync::Arc;

use viaduct_codec::{FilterRef, Message, Time, TopicName, TopicRef};

use crate::tree::{ROOT, Tree};

/// The retained messages of some topics.
#[derive(Debug)]
pub struct Retained {
    tree: Tree<Option<Arc<Message>>>,
    len: usize,
    bytes: usize,
}

impl Default for Retained {
    fn default() -> Self {
        Self { tree: Tree::new(), len: 0, bytes: 0 }
    }
}

/// A step of the walk below one node.
#[derive(Clone, Copy)]
struct Step<'f> {
    at: u32,
    /// The part of the filter that is still to be matched below `at`; `None` when `at` itself is what it asks for.
    rest: Option<&'f str>,
    /// Everything below `at`, and `at` itself, matches: a `#` was met.
    everything: bool,
    /// `at` lies on the way to the topic after which the walk goes on, at this depth.
    edge: Option<usize>,
}

impl Retained {
    /// Topics that have a retained message.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the messages hold, by [`Message::size`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes `message` the retained one of its topic and gives back the one that it replaced.
    pub fn set(&mut self, message: Arc<Message>) -> Option<Arc<Message>> {
        let at = self.tree.make(message.topic.as_str());
        let size = message.size();
        let replaced = self.tree.get_mut(at)?.value.replace(message);
        self.len += 1;
        self.bytes += size;
        self.note_gone(replaced.as_ref());
        replaced
    }

    /// Removes the retained message of `topic`.
    pub fn clear(&mut self, topic: TopicRef<'_>) -> Option<Arc<Message>> {
        let at = self.tree.find(topic.as_str())?;
        let gone = self.tree.get_mut(at)?.value.take();
        self.note_gone(gone.as_ref());
        self.tree.prune(at, Option::is_none);
        gone
    }

    /// The retained message of `topic`.
    #[must_use]
    pub fn get(&self, topic: TopicRef<'_>) -> Option<&Arc<Message>> {
        self.tree.get(self.tree.find(topic.as_str())?)?.value.as_ref()
    }

    /// Appends at most `limit` messages that `filter` matches to `found`, beginning after the topic `after`. The order
    /// is that of the levels, one by one, so a walk can be taken up after its last topic while messages come and go.
    ///
    /// A filter that begins with a wildcard does not match a topic that begins with `$` (MQTT-4.7.2-1).
    pub fn matches_from(
        &self,
        filter: FilterRef<'_>,
        after: Option<&TopicName>,
        limit: usize,
        found: &mut Vec<Arc<Message>>,
    ) {
        let edge: Vec<&str> = after.map(|topic| topic.as_str().split('/').collect()).unwrap_or_default();
        let mut steps =
            vec![Step { at: ROOT, rest: Some(filter.as_str()), everything: false, edge: after.is_some().then_some(0) }];
        let mut left = limit;
        while let Some(step) = steps.pop() {
            if left == 0 {
                return;
            }
            let ends_here = step.everything || step.rest.is_none() || step.rest == Some("#");
            // The edge's own node was handed out before; so was everything on the way to it.
            if ends_here
                && step.edge.is_none()
                && step.at != ROOT
                && let Some(message) = self.tree.get(step.at).and_then(|node| node.value.as_ref())
            {
                found.push(Arc::clone(message));
                left -= 1;
            }
            self.go_below(step, &edge, &mut steps);
        }
    }

    /// Removes messages that are expired at `now`, at most `limit`, and gives them back.
    pub fn remove_expired(&mut self, now: Time, limit: usize) -> Vec<Arc<Message>> {
        let mut expired = Vec::new();
        let mut nodes = vec![ROOT];
        while let Some(at) = nodes.pop().filter(|_| expired.len() < limit) {
            if let Some(message) = self.tree.get(at).and_then(|node| node.value.as_ref())
                && message.is_expired(now)
            {
                expired.push(message.topic.clone());
            }
            nodes.extend(self.tree.children(at));
        }
        expired.iter().filter_map(|topic| self.clear(topic.by_ref())).collect()
    }

    fn go_below<'f>(&self, step: Step<'f>, edge: &[&str], steps: &mut Vec<Step<'f>>) {
        let Some(rest) = step.rest else { return };
        let (level, below) = match rest.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        // Only what comes after the edge, or leads to it, is still to be walked. All that lies below the edge comes after
        // it.
        let edge_level = step.edge.and_then(|depth| Some((edge.get(depth).copied()?, depth + 1)));
        let mut push = |at: u32, rest: Option<&'f str>, everything: bool| {
            let own = self.tree.level(at);
            let edge = match edge_level {
                Some((edge_level, _)) if own < edge_level => return,
                Some((edge_level, depth)) if own == edge_level => Some(depth),
                _ => None,
            };
            steps.push(Step { at, rest, everything, edge });
        };
        let dollar = |at: u32| step.at == ROOT && self.tree.level(at).starts_with('$');
        match level {
            "#" => {
                for child in self.tree.children(step.at).into_iter().rev().filter(|child| !dollar(*child)) {
                    push(child, Some("#"), true);
                }
            }
            "+" => {
                for child in self.tree.children(step.at).into_iter().rev().filter(|child| !dollar(*child)) {
                    push(child, below, false);
                }
            }
            literal => {
                if let Some(child) = self.tree.child(step.at, literal) {
                    push(child, below, false);
                }
            }
        }
    }

    fn note_gone(&mut self, message: Option<&Arc<Message>>) {
        if let Some(message) = message {
            self.len -= 1;
            self.bytes -= message.size();
        }
    }
}
