//! File, environment, command line and what was said at run time, laid over each other.
//!
//! In: a [`Source`]. Out: one tree of values (by the `config` crate), the [`Places`] they came from, and what could not
//! be laid. Must never: interpret a value; that is `read`'s.
//!
//! A list entry is named by position from 0 (`listener.0.bind`, `VIADUCT__LISTENER__0__BIND`), or by its name
//! (`bridge.headquarters.password`); the position after the last one makes a new entry.

use std::collections::HashMap;

use config::{Config as Merged, Environment, Map, Source as Layer, Value, ValueKind};
use toml_edit::{Document, Item, Table as TomlTable, TableLike};

use crate::Source;
use crate::error::{ConfigError, Place, Problem};
use crate::option::{self, Table};
use crate::place::Places;
use crate::run_time::Origin;
use crate::value::Wrong;

/// What the environment variables begin with, before the first `__`.
const PREFIX: &str = "VIADUCT";
/// More entries than this in one list are not written by a person.
const ENTRIES_MAX: usize = 10_000;
/// The longest key has five parts, `bridge.0.topic.0.filter`.
const PARTS_MAX: usize = 5;

/// The layers as one.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) root: Map<String, Value>,
    pub(crate) places: Places,
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) warnings: Vec<ConfigError>,
    /// Who wrote each bridge.
    pub(crate) origins: Vec<Origin>,
}

/// Lays the sources over each other.
pub(crate) fn lay(source: Source) -> Layers {
    let (name, text) = source.file.map_or_else(Default::default, |file| (file.name, file.text));
    let mut places = Places::new(name, text.clone());
    let mut errors = Vec::new();
    let file = read_file(&text, &mut places, &mut errors);
    let mut names = Names::of(&file);
    let mut builder = Merged::builder();
    for (key, value) in file.clone() {
        builder = builder.add_source(One { key, value });
    }
    for written in environment(source.environment).chain(source.overrides.into_iter().map(Override::from_command_line))
    {
        match names.resolve(&written) {
            Ok(path) => {
                match &written.variable {
                    Some(name) => places.in_environment(&path, name),
                    None => places.on_command_line(&path, &written.key),
                }
                builder = builder.add_source(One { key: path, value: written.value.into() });
            }
            Err(wrong) => errors.push(written.error(wrong)),
        }
    }
    let mut root = match builder.build().map(|merged| merged.cache.kind) {
        Ok(ValueKind::Table(root)) => root,
        // Every layer above is a value that cannot fail to be collected; should one, the file alone is still checked.
        _ => file,
    };
    let (origins, warnings) = source.run_time.lay_over(&mut root, &mut places);
    Layers { root, places, errors, warnings, origins }
}

/// One key of one layer. One at a time, so that the order in which they win is the order in which they were given.
#[derive(Clone, Debug)]
struct One {
    key: String,
    value: Value,
}

impl Layer for One {
    fn clone_into_box(&self) -> Box<dyn Layer + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(Map::from_iter([(self.key.clone(), self.value.clone())]))
    }
}

fn read_file(text: &str, places: &mut Places, errors: &mut Vec<ConfigError>) -> Map<String, Value> {
    let document = match Document::parse(text.to_owned()) {
        Ok(document) => document,
        Err(error) => {
            let place = error.span().map_or(Place::Nowhere, |span| places.at(span));
            let problem = Problem::Syntax(error.message().trim().replace('\n', ", "));
            errors.push(ConfigError { key: String::new(), place, problem, suggestion: None });
            return Map::new();
        }
    };
    let mut root = table(document.as_table(), "", places);
    // `config` takes a top-level key as a path expression, so one that could be one is not handed to it.
    let strange: Vec<String> = root.keys().filter(|key| !is_plain(key)).cloned().collect();
    for key in strange {
        root.remove(&key);
        let place = places.key(&key);
        errors.push(ConfigError { key, place, problem: Problem::UnknownKey, suggestion: None });
    }
    root
}

fn table(table: &dyn TableLike, path: &str, places: &mut Places) -> Map<String, Value> {
    let mut map = Map::new();
    for (key, item) in table.iter() {
        let path = join(path, key);
        let key_span = table.key(key).and_then(toml_edit::Key::span);
        let value = value(item, &path, places);
        // A header is the best place for a table; its body begins where the header does.
        places.in_file(&path, key_span, item.span());
        map.insert(key.to_owned(), value);
    }
    map
}

fn value(item: &Item, path: &str, places: &mut Places) -> Value {
    match item {
        Item::None => ValueKind::Nil.into(),
        Item::Table(inner) => table(inner, path, places).into(),
        Item::ArrayOfTables(tables) => list(tables.iter().map(Entry::Table), path, places),
        Item::Value(value) => toml_value(value, path, places),
    }
}

enum Entry<'a> {
    Table(&'a TomlTable),
    Value(&'a toml_edit::Value),
}

fn list<'a>(entries: impl Iterator<Item = Entry<'a>>, path: &str, places: &mut Places) -> Value {
    let values: Vec<Value> = entries
        .enumerate()
        .map(|(index, entry)| {
            let path = format!("{path}[{index}]");
            match entry {
                Entry::Table(inner) => {
                    places.in_file(&path, None, inner.span());
                    table(inner, &path, places).into()
                }
                Entry::Value(inner) => {
                    places.in_file(&path, None, inner.span());
                    toml_value(inner, &path, places)
                }
            }
        })
        .collect();
    values.into()
}

fn toml_value(value: &toml_edit::Value, path: &str, places: &mut Places) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().clone().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(flag) => (*flag.value()).into(),
        toml_edit::Value::Datetime(_) => ValueKind::Nil.into(),
        toml_edit::Value::Array(items) => list(items.iter().map(Entry::Value), path, places),
        toml_edit::Value::InlineTable(inner) => table(inner, path, places).into(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether `key` can be a part of a path expression as it is.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A key that is laid over the file.
#[derive(Debug)]
struct Override {
    /// As it was written, dots between the parts.
    key: String,
    value: ValueKind,
    /// The variable, when it is one.
    variable: Option<String>,
}

impl Override {
    fn from_command_line(text: String) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.trim().to_owned(), value: value.to_owned().into(), variable: None },
            None => Self { key: text, value: ValueKind::Nil, variable: None },
        }
    }

    fn place(&self) -> Place {
        match &self.variable {
            Some(name) => Place::Environment(name.clone()),
            None => Place::CommandLine(self.key.clone()),
        }
    }

    fn error(&self, wrong: Wrong) -> ConfigError {
        let Wrong { problem, suggestion } = wrong;
        ConfigError { key: self.key.clone(), place: self.place(), problem, suggestion }
    }
}

/// The variables that are ours, in the order of their keys so that list entries come by position.
fn environment(pairs: Vec<(String, String)>) -> impl Iterator<Item = Override> {
    // By what `config` makes of a name: `VIADUCT__NODE__ID` and `viaduct__node.id` are one key, and the later one wins.
    let ours: HashMap<String, (String, String)> =
        pairs.into_iter().map(|pair| (pair.0.to_lowercase().replace("__", "."), pair)).collect();
    let (names, pairs): (HashMap<String, String>, Map<String, String>) =
        ours.into_iter().map(|(key, (name, value))| ((key, name.clone()), (name, value))).unzip();
    let layer = Environment::with_prefix(PREFIX).prefix_separator("__").separator("__").source(Some(pairs));
    let mut found: Vec<Override> = layer
        .collect()
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| {
            let variable = names.get(&format!("{}.{key}", PREFIX.to_lowercase())).unwrap_or(&key).clone();
            Override { key, value: value.kind, variable: Some(variable) }
        })
        .collect();
    let order = |key: &str| -> Vec<(usize, String)> {
        key.split('.').map(|part| (part.parse().unwrap_or(usize::MAX), part.to_owned())).collect()
    };
    found.sort_by_cached_key(|written| order(&written.key));
    found.into_iter()
}

/// The entries of each list so far, by name, so that an override finds its entry.
#[derive(Debug, Default)]
struct Names {
    /// By the path of the list.
    lists: HashMap<String, Vec<Option<String>>>,
}

impl Names {
    fn of(root: &Map<String, Value>) -> Self {
        let mut names = Self::default();
        names.add(Table::Listener, "listener", root.get("listener"));
        names.add(Table::Bridge, "bridge", root.get("bridge"));
        names
    }

    fn add(&mut self, table: Table, path: &str, value: Option<&Value>) {
        let Some(ValueKind::Array(entries)) = value.map(|value| &value.kind) else { return };
        let mut names = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let ValueKind::Table(entry) = &entry.kind else {
                names.push(None);
                continue;
            };
            names.push(entry.get("name").and_then(|name| name.clone().into_string().ok()));
            for (key, inner) in table.inner() {
                if inner.is_list() {
                    self.add(*inner, &format!("{path}[{index}].{key}"), entry.get(*key));
                }
            }
        }
        self.lists.insert(path.to_owned(), names);
    }

    /// The path expression for a written key.
    fn resolve(&mut self, written: &Override) -> Result<String, Wrong> {
        if written.value == ValueKind::Nil {
            let problem = Problem::BadValue { expected: "KEY=VALUE".into(), found: format!("{:?}", written.key) };
            return Err(Wrong::new(problem).help("such as --set node.id=gateway-1"));
        }
        let dotted = written.key.replace('[', ".").replace(']', "");
        let mut path = String::new();
        let mut header = String::new();
        if dotted.split('.').count() > PARTS_MAX {
            return Err(Wrong::new(Problem::UnknownKey));
        }
        let mut parts = dotted.split('.');
        while let Some(part) = parts.next() {
            if !is_plain(part) {
                return Err(Wrong::new(Problem::UnknownKey));
            }
            path = join(&path, part);
            header = join(&header, part);
            if Table::named(&header).is_some_and(Table::is_list) {
                let Some(entry) = parts.next() else {
                    let help = format!("name the entry and the key: {path}.0.{}", first_key(&header));
                    return Err(Wrong::new(Problem::UnknownKey).help(help));
                };
                let index = self.entry(&path, entry)?;
                path = format!("{path}[{index}]");
            }
        }
        Ok(path)
    }

    fn entry(&mut self, list: &str, entry: &str) -> Result<usize, Wrong> {
        let names = self.lists.entry(list.to_owned()).or_default();
        let by_name = || {
            let same = |name: &Option<String>| name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(entry));
            names.iter().position(same)
        };
        let index = entry.parse::<usize>().ok().or_else(by_name);
        match index {
            Some(index) if index < names.len() => Ok(index),
            Some(index) if index == names.len() && index < ENTRIES_MAX => {
                names.push(None);
                Ok(index)
            }
            _ => {
                let count = names.len();
                let help = format!("an entry is its position from 0 or its name; `{list}` has {count} so far");
                Err(Wrong::new(Problem::UnknownKey).help(help))
            }
        }
    }
}

fn first_key(header: &str) -> &'static str {
    Table::named(header).and_then(|table| option::of(table).next()).map_or("name", |option| option.key)
}

/// A table of TOML as values, when its places do not matter.
pub(crate) fn plain(toml: &TomlTable) -> Map<String, Value> {
    table(toml, "", &mut Places::default())
}
