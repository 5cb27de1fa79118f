//! The merged tree, one key at a time, by the option table.
//!
//! In: the tree and its places. Out: meanings with defaults filled in, and a list of findings that goes on after each
//! one. Must never: stop at the first error, or accept a key that the table does not have.

use std::time::Duration;

use config::{Map, Value, ValueKind};

use crate::error::{ConfigError, Errors, Place, Problem};
use crate::option::{self, Fallback, Opt, Table};
use crate::place::Places;
use crate::value::{self, Meaning, Wrong, nearest};

/// One table of the tree, or its absence.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub(crate) table: Table,
    /// Such as `listener[0].tls`.
    pub(crate) path: String,
    pub(crate) values: Option<&'a Map<String, Value>>,
}

impl At<'_> {
    /// The full path of a key in it.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Whether the key was written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.is_some_and(|values| values.contains_key(key))
    }
}

/// Collects what is wrong while it hands out what is right.
#[derive(Debug)]
pub(crate) struct Reader {
    places: Places,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl Reader {
    pub(crate) fn new(places: Places, errors: Vec<ConfigError>, warnings: Vec<ConfigError>) -> Self {
        Self { places, errors, warnings }
    }

    /// The findings, in the order of the file.
    pub(crate) fn finish(mut self) -> Result<Vec<ConfigError>, Errors> {
        self.errors.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
        self.warnings.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
        if self.errors.is_empty() {
            Ok(self.warnings)
        } else {
            Err(Errors { errors: self.errors, warnings: self.warnings })
        }
    }

    /// The table of this name at the root.
    pub(crate) fn section<'a>(&mut self, root: &'a Map<String, Value>, table: Table) -> At<'a> {
        self.open(table, table.name().to_owned(), root.get(table.name()))
    }

    /// The table that `key` opens inside `outer`.
    pub(crate) fn inner<'a>(&mut self, outer: &At<'a>, key: &str, table: Table) -> At<'a> {
        let value = outer.values.and_then(|values| values.get(key));
        self.open(table, outer.key(key), value)
    }

    /// The entries of a list of tables.
    pub(crate) fn list<'a>(&mut self, values: Option<&'a Map<String, Value>>, path: &str, table: Table) -> Vec<At<'a>> {
        let key = path.rsplit('.').next().unwrap_or(path);
        let entries = match values.and_then(|values| values.get(key)).map(|value| &value.kind) {
            None => return Vec::new(),
            Some(ValueKind::Array(entries)) => entries,
            Some(other) => {
                let problem =
                    Problem::WrongType { expected: "a list of tables".into(), found: value::found(None, other) };
                let help = Some(format!("write [[{}]], with two brackets", table.name()));
                self.error(path, self.places.key(path), problem, help);
                return Vec::new();
            }
        };
        let entries = entries.iter().enumerate();
        entries.map(|(index, entry)| self.open(table, format!("{path}[{index}]"), Some(entry))).collect()
    }

    fn open<'a>(&mut self, table: Table, path: String, value: Option<&'a Value>) -> At<'a> {
        let values = match value.map(|value| &value.kind) {
            None => None,
            Some(ValueKind::Table(values)) => Some(values),
            Some(other) => {
                let problem = Problem::WrongType { expected: "a table".into(), found: value::found(None, other) };
                let help = match other {
                    ValueKind::Array(_) => Some(format!("write [{}], with one bracket", table.name())),
                    _ => option::of(table).next().map(|option| {
                        let key = path.rsplit('.').next().unwrap_or(&path);
                        format!("write its keys: {key} = {{ {} = ... }}", option.key)
                    }),
                };
                self.error(&path, self.places.value(&path), problem, help);
                None
            }
        };
        let at = At { table, path, values };
        self.refuse_unknown(&at);
        at
    }

    /// Tables that the root does not have.
    pub(crate) fn refuse_unknown_sections(&mut self, root: &Map<String, Value>) {
        let known: Vec<&str> = Table::ALL.iter().map(|table| table.name()).filter(|name| !name.contains('.')).collect();
        for key in root.keys().filter(|key| !known.contains(&key.as_str())) {
            let mut homes = option::OPTIONS.iter().filter(|option| option.key == key);
            let help = match (nearest(key, known.iter().copied()), homes.next()) {
                (Some(near), _) => Some(format!("did you mean `{near}`?")),
                (None, Some(home)) => Some(format!("`{key}` belongs below [{}]", home.table.name())),
                (None, None) => Some(format!("there are: {}", known.join(", "))),
            };
            self.error(key, self.places.key(key), Problem::UnknownKey, help);
        }
    }

    fn refuse_unknown(&mut self, at: &At<'_>) {
        for (key, _) in at.values.into_iter().flatten() {
            let path = at.key(key);
            if at.table.inner().iter().any(|(inner, _)| inner == key) {
                continue;
            }
            match option::find(at.table, key) {
                Some(Opt { fallback: Fallback::Reserved { .. }, why, .. }) => {
                    let problem = Problem::NotYet(format!("this key is reserved for a later version: {why}"));
                    self.error(&path, self.places.key(&path), problem, Some(format!("remove `{key}`")));
                }
                Some(_) => {}
                None => {
                    let help = unknown_help(at.table, key);
                    self.error(&path, self.places.key(&path), Problem::UnknownKey, help);
                }
            }
        }
    }

    /// What `key` means: as written, or its default, or nothing. A value that is wrong counts as not written, once it
    /// is among the findings.
    pub(crate) fn get(&mut self, at: &At<'_>, key: &str) -> Option<Meaning> {
        let option = option::find(at.table, key)?;
        let path = at.key(key);
        if let Some(written) = at.values.and_then(|values| values.get(key)) {
            let loose = match &written.kind {
                ValueKind::String(text) if self.places.is_loose(&path) => Some(value::loosen(option.kind, text)),
                _ => None,
            };
            match value::read(option.kind, loose.as_ref().unwrap_or(&written.kind)) {
                Ok(meaning) => return Some(meaning),
                Err(wrong) => self.wrong(&path, wrong),
            }
        } else if let Fallback::Required { .. } = option.fallback {
            let place = self.places.key(&at.path);
            let problem = Problem::Missing(value::expected(option.kind));
            self.error(&path, place, problem, Some(format!("it has no default: {}", option.why)));
        }
        default(option)
    }

    pub(crate) fn optional_text(&mut self, at: &At<'_>, key: &str) -> Option<String> {
        match self.get(at, key) {
            Some(Meaning::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn text(&mut self, at: &At<'_>, key: &str) -> String {
        self.optional_text(at, key).unwrap_or_default()
    }

    pub(crate) fn optional_flag(&mut self, at: &At<'_>, key: &str) -> Option<bool> {
        match self.get(at, key) {
            Some(Meaning::Bool(flag)) => Some(flag),
            _ => None,
        }
    }

    pub(crate) fn flag(&mut self, at: &At<'_>, key: &str) -> bool {
        self.optional_flag(at, key).unwrap_or_default()
    }

    /// An integer or a size, in the width that the caller keeps it in; the table's bounds fit that width.
    pub(crate) fn optional_number<T: TryFrom<u64>>(&mut self, at: &At<'_>, key: &str) -> Option<T> {
        match self.get(at, key) {
            Some(Meaning::Number(number)) => T::try_from(number).ok(),
            _ => None,
        }
    }

    pub(crate) fn number<T: TryFrom<u64> + Default>(&mut self, at: &At<'_>, key: &str) -> T {
        self.optional_number(at, key).unwrap_or_default()
    }

    pub(crate) fn optional_duration(&mut self, at: &At<'_>, key: &str) -> Option<Duration> {
        match self.get(at, key) {
            Some(Meaning::Duration(duration)) => Some(duration),
            _ => None,
        }
    }

    pub(crate) fn duration(&mut self, at: &At<'_>, key: &str) -> Duration {
        self.optional_duration(at, key).unwrap_or_default()
    }

    /// A duration in whole seconds, in the width that the caller keeps it in.
    pub(crate) fn optional_seconds<T: TryFrom<u64>>(&mut self, at: &At<'_>, key: &str) -> Option<T> {
        self.optional_duration(at, key).and_then(|duration| T::try_from(duration.as_secs()).ok())
    }

    /// One of the words of a choice, by the table of what each means; the words are those of the option table.
    pub(crate) fn choice<T: Copy>(&mut self, at: &At<'_>, key: &str, otherwise: T, words: &[(&str, T)]) -> T {
        let written = self.text(at, key);
        words.iter().find(|(word, _)| *word == written).map_or(otherwise, |(_, meaning)| *meaning)
    }

    fn wrong(&mut self, path: &str, wrong: Wrong) {
        self.error(path, self.places.value(path), wrong.problem, wrong.suggestion);
    }

    fn error(&mut self, key: &str, place: Place, problem: Problem, suggestion: Option<String>) {
        self.errors.push(ConfigError { key: key.to_owned(), place, problem, suggestion });
    }

    /// Something wrong with one value, found by a check that knows more than its kind.
    pub(crate) fn refuse(&mut self, path: &str, problem: Problem, suggestion: &str) {
        let place = self.places.value(path);
        self.error(path, place, problem, Some(suggestion.to_owned()));
    }

    /// Two things that do not go together. Nothing is said when one of `involved` is already among the findings.
    pub(crate) fn contradiction(
        &mut self,
        path: &str,
        involved: &[String],
        message: impl Into<String>,
        suggestion: &str,
    ) {
        if !self.is_wrong(path) && !involved.iter().any(|path| self.is_wrong(path)) {
            self.refuse(path, Problem::Contradiction(message.into()), suggestion);
        }
    }

    /// Allowed, but worth a word.
    pub(crate) fn warn(&mut self, path: &str, message: impl Into<String>, suggestion: &str) {
        let place = self.places.value(path);
        let problem = Problem::Contradiction(message.into());
        self.warnings.push(ConfigError {
            key: path.to_owned(),
            place,
            problem,
            suggestion: Some(suggestion.to_owned()),
        });
    }

    /// Whether somebody wrote the key.
    pub(crate) fn is_written(&self, path: &str) -> bool {
        self.places.is_written(path)
    }

    /// Whether the key already has a finding.
    pub(crate) fn is_wrong(&self, path: &str) -> bool {
        self.errors.iter().any(|error| error.key == path)
    }
}

/// The default of an option, through the same reading as a written value.
pub(crate) fn default(option: &Opt) -> Option<Meaning> {
    let Fallback::Is(text) = option.fallback else { return None };
    let document = toml_edit::Document::parse(format!("x = {text}")).ok()?;
    let map = crate::layers::plain(document.as_table());
    value::read(option.kind, &map.get("x")?.kind).ok()
}

fn unknown_help(table: Table, key: &str) -> Option<String> {
    let keys = option::of(table).map(|option| option.key).chain(table.inner().iter().map(|(key, _)| *key));
    if let Some(near) = nearest(key, keys) {
        return Some(format!("did you mean `{near}`?"));
    }
    let homes: Vec<String> = option::OPTIONS
        .iter()
        .filter(|option| option.key == key)
        .map(|option| format!("[{}]", option.table.name()))
        .collect();
    if !homes.is_empty() {
        return Some(format!("`{key}` belongs to {}", homes.join(" or ")));
    }
    let keys: Vec<&str> = option::of(table).map(|option| option.key).collect();
    Some(format!("there are: {}", keys.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_in_the_table_can_be_read() {
        for option in option::OPTIONS {
            if let Fallback::Is(text) = option.fallback {
                assert!(default(option).is_some(), "{}.{} = {text}", option.table.name(), option.key);
            }
        }
    }
}
