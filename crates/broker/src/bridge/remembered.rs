//! Rules that bridges have had, over restarts, so that remotes and this broker can be told to forget those that are gone.
//!
//! In: the rules that a bridge is about to run with. Out: those that it had before; a file in `node.data_dir`. It is written
//! before a remote is asked for anything, so that what a remote keeps for a bridge is never more than what is remembered.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use viaduct_bridge::{Direction, Topic};
use viaduct_codec::QoS;

use crate::limits::FORMER_RULES;
use crate::{files, run_time};

/// Its name in `node.data_dir`.
const FILE: &str = "bridge-rules.json";

/// See the module.
#[derive(Debug)]
pub(crate) struct Remembered {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: BTreeMap<String, Vec<Topic>>,
    /// What the file holds.
    written: String,
}

impl Remembered {
    /// What an earlier broker remembered in the folder. One that can't be read costs no more than what is said then.
    pub(crate) fn read(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let found = match files::read_text(&path) {
            Ok(text) => parse(&text).map(|rules| State { rules, written: text }).ok_or("it is damaged".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error.to_string()),
        };
        let state = found.unwrap_or_else(|why| {
            tracing::warn!(
                "{}: {why}; rules that were taken from bridges while the broker was down may stay subscribed",
                path.display()
            );
            State::default()
        });
        Self { path, state: Mutex::new(state) }
    }

    /// The bridge is about to have these rules; those that it has had.
    pub(crate) fn add(&self, bridge: &str, topics: &[Topic]) -> Vec<Topic> {
        let mut state = self.state.lock();
        let rules = state.rules.entry(bridge.to_owned()).or_default();
        let before = rules.clone();
        // Those that it has now are the last to be forgotten.
        rules.retain(|old| !topics.iter().any(|topic| asks_the_same(old, topic)));
        rules.extend_from_slice(topics);
        let spare = rules.len().saturating_sub(FORMER_RULES.max(topics.len()));
        rules.drain(..spare);
        before
    }

    /// There is no such bridge any more, or nothing that it asked for earlier.
    pub(crate) fn forget(&self, bridge: &str) {
        self.state.lock().rules.remove(bridge);
    }

    /// Puts it on disk if it has changed.
    pub(crate) fn save(&self) {
        let mut state = self.state.lock();
        let text = render(&state.rules);
        if text == state.written || (state.rules.is_empty() && state.written.is_empty()) {
            return;
        }
        match run_time::save(&self.path, &text) {
            Ok(()) => state.written = text,
            Err(error) => tracing::warn!(
                "{}: {error}; if a rule is taken from a bridge while the broker is down, it may stay subscribed",
                self.path.display()
            ),
        }
    }
}

fn asks_the_same(one: &Topic, other: &Topic) -> bool {
    let key = |topic: &'_ Topic| {
        (topic.direction, topic.filter.clone(), topic.local_prefix.clone(), topic.remote_prefix.clone())
    };
    key(one) == key(other)
}

fn render(rules: &BTreeMap<String, Vec<Topic>>) -> String {
    let rule = |topic: &Topic| {
        json!({
            "direction": match topic.direction {
                Direction::In => "in",
                Direction::Out => "out",
                Direction::Both => "both",
            },
            "filter": topic.filter,
            "local_prefix": topic.local_prefix,
            "remote_prefix": topic.remote_prefix,
        })
    };
    let bridges = rules.iter().map(|(name, rules)| (name.clone(), rules.iter().map(rule).collect()));
    Value::Object(bridges.collect::<Map<String, Value>>()).to_string()
}

fn parse(text: &str) -> Option<BTreeMap<String, Vec<Topic>>> {
    let rule = |rule: &Value| {
        let part = |key: &str| rule.get(key)?.as_str().map(str::to_owned);
        Some(Topic {
            filter: part("filter")?,
            direction: match part("direction")?.as_str() {
                "in" => Direction::In,
                "out" => Direction::Out,
                "both" => Direction::Both,
                _ => return None,
            },
            // What is only unsubscribed needs none of these.
            qos: QoS::AtMostOnce,
            retain: false,
            local_prefix: part("local_prefix")?,
            remote_prefix: part("remote_prefix")?,
            allow_loop: false,
        })
    };
    let bridge = |(name, rules): (&String, &Value)| {
        Some((name.clone(), rules.as_array()?.iter().map(rule).collect::<Option<Vec<Topic>>>()?))
    };
    serde_json::from_str::<Value>(text).ok()?.as_object()?.iter().map(bridge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(filter: &str, direction: Direction) -> Topic {
        Topic {
            filter: filter.to_owned(),
            direction,
            qos: QoS::AtMostOnce,
            retain: false,
            local_prefix: "here/".to_owned(),
            remote_prefix: String::new(),
            allow_loop: false,
        }
    }

    fn filters(topics: &[Topic]) -> Vec<&str> {
        topics.iter().map(|topic| topic.filter.as_str()).collect()
    }

    #[test]
    fn what_a_bridge_asked_for_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = Remembered::read(folder.path());
        let (a, b) = (topic("a \"quoted\"", Direction::Both), topic("b", Direction::In));
        assert!(first.add("hub", &[a.clone(), b.clone()]).is_empty());
        first.add("gone", std::slice::from_ref(&a));
        first.forget("gone");
        first.save();
        let second = Remembered::read(folder.path());
        assert_eq!(second.add("hub", std::slice::from_ref(&b)), [a.clone(), b.clone()]);
        // Another QoS is the same subscription.
        assert_eq!(second.add("hub", &[Topic { qos: QoS::AtLeastOnce, ..b.clone() }]), [a, b]);
        assert!(second.add("gone", &[]).is_empty());
    }

    #[test]
    fn only_so_many_are_remembered_and_those_in_use_among_them() {
        let folder = tempfile::tempdir().unwrap();
        let remembered = Remembered::read(folder.path());
        let used = topic("used", Direction::In);
        for number in 0..=FORMER_RULES {
            remembered.add("hub", &[used.clone(), topic(&number.to_string(), Direction::In)]);
        }
        let known = remembered.add("hub", &[]);
        assert_eq!(known.len(), FORMER_RULES);
        assert!(filters(&known).contains(&"used") && !filters(&known).contains(&"0"));
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", "{\"hub\": 1}", "{\"hub\": [{\"filter\": \"a\"}]}"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert!(Remembered::read(folder.path()).add("hub", &[]).is_empty(), "{text}");
        }
    }
}
