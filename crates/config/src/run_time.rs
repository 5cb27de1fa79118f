//! What was said about bridges while the broker ran, and laying it over the rest of the configuration.
//!
//! In: puts, removals, starts and stops; the text of the file that keeps them. Out: that text, and a tree in which they
//! hold. What was said about a bridge holds as a whole over file, environment and command line until it is taken back.
//! Must never: touch the disk, or check what is written; the reader does, as for everything else.

use std::collections::{BTreeMap, BTreeSet};

use config::{Map, Value, ValueKind};
use toml_edit::{Array, ArrayOfTables, Document, DocumentMut, Item};

use crate::error::{ConfigError, Problem};
use crate::layers::plain;
use crate::place::Places;
use crate::written::Written;

/// The form of the file; another one is not read.
const FORMAT: i64 = 1;

const HEAD: &str = "\
# What was changed at run time, by the API or `viaduct ctl bridges`: it holds over the configuration file.
# Written by the broker, which reads it at its start only.
";

/// What was said at run time. Equal to its default when nothing was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunTime {
    /// Bridges that were added or changed, by name; each is the whole bridge.
    bridges: BTreeMap<String, Written>,
    /// Bridges of the file that are no more.
    removed: BTreeSet<String>,
    /// Bridges of the file that were started or stopped.
    enabled: BTreeMap<String, bool>,
}

/// Where what holds for a bridge was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// File, environment, command line.
    File,
    /// There too, but that it runs or not was said at run time.
    Switched,
    /// At run time, and there is one of that name in the file, which does not count.
    Changed,
    /// At run time alone.
    Added,
}

/// A bridge as it was written, beside what it means.
#[derive(Clone, Debug)]
pub struct WrittenBridge {
    /// Its keys.
    pub written: Written,
    /// Who wrote them.
    pub origin: Origin,
}

impl RunTime {
    /// Reads what [`RunTime::to_toml`] wrote.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let document = Document::parse(text.to_owned()).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut run_time = Self::default();
        let table = document.as_table();
        if table.get("format").and_then(Item::as_integer) != Some(FORMAT) {
            return Err(format!("`format` is not {FORMAT}: it was written by another version"));
        }
        for (key, item) in table.iter() {
            match key {
                "format" => {}
                "removed" => run_time.removed = names(key, item)?.into_iter().collect(),
                "stopped" => run_time.enabled.extend(names(key, item)?.into_iter().map(|name| (name, false))),
                "started" => run_time.enabled.extend(names(key, item)?.into_iter().map(|name| (name, true))),
                "bridge" => {
                    let tables = item.as_array_of_tables().ok_or("`bridge` is no list of tables")?;
                    for table in tables {
                        let written = Written(plain(table));
                        let name = written.name().map_err(|problem| format!("the name of a [[bridge]]: {problem}"))?;
                        let name = name.to_owned();
                        run_time.bridges.insert(name, written);
                    }
                }
                other => return Err(format!("unknown key `{other}`")),
            }
        }
        Ok(run_time)
    }

    /// The text of the file that keeps it. It holds passwords.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut document = DocumentMut::new();
        document.insert("format", toml_edit::value(FORMAT));
        let switched = |to: bool| self.enabled.iter().filter(move |(_, on)| **on == to).map(|(name, _)| name.as_str());
        let lists: [(&str, Vec<&str>); 3] = [
            ("removed", self.removed.iter().map(String::as_str).collect()),
            ("stopped", switched(false).collect()),
            ("started", switched(true).collect()),
        ];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            document.insert(key, toml_edit::value(list.into_iter().collect::<Array>()));
        }
        let tables: ArrayOfTables = self.bridges.values().map(Written::to_toml).collect();
        if !tables.is_empty() {
            document.insert("bridge", Item::ArrayOfTables(tables));
        }
        format!("{HEAD}{document}")
    }

    /// From now on the bridge is this, as a whole; it was not removed, stopped or started.
    pub fn put(&mut self, name: &str, mut written: Written) {
        written.set_name(name);
        self.revert(name);
        self.bridges.insert(name.to_owned(), written);
    }

    /// From now on there is no such bridge, whatever the file says.
    pub fn remove(&mut self, name: &str) {
        self.revert(name);
        self.removed.insert(name.to_owned());
    }

    /// From now on it runs, or not, whatever the file says.
    pub fn switch(&mut self, name: &str, enabled: bool) {
        match self.bridges.get_mut(name) {
            Some(written) => written.set_flag("enabled", enabled),
            None => drop(self.enabled.insert(name.to_owned(), enabled)),
        }
    }

    /// Takes back what was said about the bridge; whether there was anything.
    pub fn revert(&mut self, name: &str) -> bool {
        let changed = self.bridges.remove(name).is_some();
        let removed = self.removed.remove(name);
        let switched = self.enabled.remove(name).is_some();
        changed || removed || switched
    }

    /// Names of bridges that were removed.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().map(String::as_str)
    }

    /// Lays this over `root`. Returns who wrote each bridge, in their order, and a word about each bridge of the file for
    /// which something else holds.
    pub(crate) fn lay_over(
        &self,
        root: &mut Map<String, Value>,
        places: &mut Places,
    ) -> (Vec<Origin>, Vec<ConfigError>) {
        let before = match root.remove("bridge").map(|value| value.kind) {
            None => Vec::new(),
            Some(ValueKind::Array(entries)) => entries,
            // Not a list: the reader says so.
            Some(other) => {
                root.insert("bridge".to_owned(), other.into());
                return (Vec::new(), Vec::new());
            }
        };
        let (mut after, mut origins, mut words, mut moves) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut hidden = BTreeSet::new();
        for (index, mut entry) in before.into_iter().enumerate() {
            let name = name_of(&entry);
            let path = format!("bridge[{index}]");
            let mut word = |what: &str| words.push(hides(places, &path, name.as_deref().unwrap_or_default(), what));
            let mut origin = Origin::File;
            if let Some(name) = &name {
                if self.removed.contains(name) {
                    word("it was removed");
                    moves.push(None);
                    continue;
                }
                if let Some(written) = self.bridges.get(name) {
                    word("it was changed");
                    hidden.insert(name.clone());
                    moves.push(None);
                    (entry, origin) = (ValueKind::Table(written.0.clone()).into(), Origin::Changed);
                    after.push(entry);
                    origins.push(origin);
                    continue;
                }
                if let (Some(enabled), ValueKind::Table(keys)) = (self.enabled.get(name), &mut entry.kind) {
                    word(if *enabled { "it was started" } else { "it was stopped" });
                    keys.insert("enabled".to_owned(), (*enabled).into());
                    origin = Origin::Switched;
                }
            }
            moves.push(Some(after.len()));
            after.push(entry);
            origins.push(origin);
        }
        for (_, written) in self.bridges.iter().filter(|(name, _)| !hidden.contains(*name)) {
            after.push(ValueKind::Table(written.0.clone()).into());
            origins.push(Origin::Added);
        }
        places.rearrange("bridge", &moves);
        for (index, (entry, origin)) in after.iter().zip(&origins).enumerate() {
            if matches!(origin, Origin::Changed | Origin::Added) {
                places.at_run_time(&format!("bridge[{index}]"), &name_of(entry).unwrap_or_default());
            }
        }
        if !after.is_empty() {
            root.insert("bridge".to_owned(), after.into());
        }
        (origins, words)
    }
}

fn hides(places: &Places, path: &str, name: &str, what: &str) -> ConfigError {
    ConfigError {
        key: path.to_owned(),
        place: places.key(path),
        problem: Problem::Contradiction(format!(
            "bridge \"{name}\": {what} at run time, and that holds over what is here"
        )),
        suggestion: Some(format!("`viaduct ctl bridges revert {name}` takes it back")),
    }
}

fn name_of(entry: &Value) -> Option<String> {
    let ValueKind::Table(keys) = &entry.kind else { return None };
    match &keys.get("name")?.kind {
        ValueKind::String(name) => Some(name.clone()),
        _ => None,
    }
}

fn names(key: &str, item: &Item) -> Result<Vec<String>, String> {
    let wrong = || format!("`{key}` is no list of names");
    let list = item.as_array().ok_or_else(wrong)?;
    list.iter().map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Loaded, Place, Source, SourceFile, load};

    const FILE: &str = "[[bridge]]\nname = \"a\"\nurl = \"mqtt://a\"\n[[bridge.topic]]\nfilter = \"a\"\n\
                        [[bridge]]\nname = \"b\"\nurl = \"mqtt://b\"\n[[bridge.topic]]\nfilter = \"b\"\n\
                        [[bridge]]\nname = \"c\"\nurl = \"mqtt://c\"\n[[bridge.topic]]\nfilter = \"c\"\n";

    fn written(json: &serde_json::Value) -> Written {
        Written::from_json(json).unwrap()
    }

    fn to(url: &str) -> Written {
        written(&json!({"url": url, "topic": [{"filter": "x"}]}))
    }

    fn source(run_time: RunTime) -> Source {
        let file = Some(SourceFile { name: "broker.toml".into(), text: FILE.into() });
        Source { file, run_time, overrides: vec!["bridge.b.keepalive=7".into()], ..Source::default() }
    }

    fn urls(loaded: &Loaded) -> Vec<(String, String, bool, Origin)> {
        let bridges = loaded.config.bridges.iter().zip(&loaded.bridges);
        bridges.map(|(b, w)| (b.name.clone(), b.urls[0].to_string(), b.enabled, w.origin)).collect()
    }

    fn everything() -> RunTime {
        let mut run_time = RunTime::default();
        run_time.put("z", to("mqtt://z"));
        run_time.put("b", to("mqtt://other"));
        run_time.remove("a");
        run_time.switch("c", false);
        run_time.switch("z", false);
        run_time
    }

    #[test]
    fn what_was_said_at_run_time_holds_over_everything_else_and_the_file_is_told() {
        let loaded = load(source(everything())).unwrap();
        let bridge =
            |name: &str, url: &str, enabled, origin| (name.to_owned(), format!("mqtt://{url}:1883"), enabled, origin);
        assert_eq!(
            urls(&loaded),
            [
                bridge("b", "other", true, Origin::Changed),
                bridge("c", "c", false, Origin::Switched),
                bridge("z", "z", false, Origin::Added)
            ]
        );
        assert_eq!(loaded.config.bridges[0].keepalive, 60, "a bridge that was changed is what was said, as a whole");
        let words: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        for (word, line) in [("it was removed", 1), ("it was changed", 6), ("it was stopped", 11)] {
            let place = format!("broker.toml:{line}:");
            assert!(words.iter().any(|text| text.contains(word) && text.contains(&place)), "{word}: {words:?}");
        }
    }

    #[test]
    fn the_file_keeps_it_whole() {
        let run_time = everything();
        assert_eq!(RunTime::parse(&run_time.to_toml()).unwrap(), run_time);
        assert_eq!(RunTime::parse(&RunTime::default().to_toml()).unwrap(), RunTime::default());
        for text in
            ["", "format = 2", "format = 1\nx = 1", "format = 1\nremoved = 5", "format = 1\n[[bridge]]\n", "format"]
        {
            assert!(RunTime::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_taken_back_is_as_if_it_had_never_been_said() {
        let mut run_time = everything();
        for name in ["a", "b", "c", "z"] {
            assert!(run_time.revert(name), "{name}");
            assert!(!run_time.revert(name), "{name}");
        }
        assert_eq!(run_time, RunTime::default());
        assert_eq!(load(source(run_time)).unwrap().config, load(source(RunTime::default())).unwrap().config);
    }

    #[test]
    fn an_error_says_that_it_is_in_what_was_said_at_run_time_and_others_keep_their_places() {
        let mut run_time = RunTime::default();
        run_time.remove("a");
        run_time.put("b", written(&json!({"url": "hub", "topic": [{"filter": "x", "qos": 7}]})));
        let mut broken = source(run_time);
        broken.file = broken.file.map(|file| SourceFile { text: file.text.replace("mqtt://c", "c"), ..file });
        let errors = load(broken).unwrap_err().errors;
        let found: Vec<_> = errors.iter().map(|error| (error.key.as_str(), &error.place)).collect();
        let here = Place::RunTime("b".into());
        assert!(found.contains(&("bridge[0].url", &here)), "{found:?}");
        assert!(found.contains(&("bridge[0].topic[0].qos", &here)), "{found:?}");
        let line = errors.iter().find(|error| error.key == "bridge[1].url").map(|error| error.place.clone());
        assert!(matches!(line, Some(Place::File { line: 13, .. })), "{line:?}");
    }
}
