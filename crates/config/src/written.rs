//! One bridge as somebody wrote it, whatever it was written in.
//!
//! In: a TOML table, a JSON object, or `KEY=VALUE` texts. Out: the same keys and values as a tree that the reader takes, as
//! JSON for an answer, or as TOML for a file. Must never: look at what the values mean, or print one.

use std::collections::BTreeMap;
use std::fmt;

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;
use toml_edit::{Array, Document, InlineTable, Item, Table as TomlTable};

use crate::error::Problem;
use crate::layers::plain;
use crate::option::{self, Kind, Table};
use crate::value;

/// The keys and values of one `[[bridge]]`, not looked at yet.
#[derive(Clone, Default, PartialEq)]
pub struct Written(pub(crate) Map<String, Value>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(..)")
    }
}

impl Written {
    /// From a JSON object with the keys of `[[bridge]]`.
    ///
    /// # Errors
    /// It is no object, or a list in it holds `null`.
    pub fn from_json(json: &Json) -> Result<Self, String> {
        if json.is_null() {
            return Err("expected an object with the keys of a bridge, found null".to_owned());
        }
        let keys = match from_json(json).kind {
            ValueKind::Table(keys) => keys,
            other => {
                let found = value::found(None, &other);
                return Err(format!("expected an object with the keys of a bridge, found {found}"));
            }
        };
        match nothing_in(&keys, "", false) {
            None => Ok(Self(keys)),
            Some(path) => Err(format!(
                "`{path}` is null, which takes a key back to its default; a list takes the place of another as a whole, so \
                 leave out what it is not to have"
            )),
        }
    }

    /// From TOML: the keys of a bridge, or one whole `[[bridge]]`.
    ///
    /// # Errors
    /// It is no TOML, holds more than one bridge, or a date, which no key takes.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let document = Document::parse(text.to_owned()).map_err(|error| error.to_string().trim_end().to_owned())?;
        let mut keys = plain(document.as_table());
        if let Some(path) = nothing_in(&keys, "", true) {
            return Err(format!("`{path}` is a date or time, and no key of a bridge takes one"));
        }
        let Some(bridges) = keys.remove("bridge") else { return Ok(Self(keys)) };
        if let Some(other) = keys.keys().next() {
            return Err(format!("besides the bridge there is `{other}`: only one [[bridge]] is taken"));
        }
        match bridges.kind {
            ValueKind::Table(keys) => Ok(Self(keys)),
            ValueKind::Array(mut entries) if entries.len() == 1 => match entries.pop().map(|entry| entry.kind) {
                Some(ValueKind::Table(keys)) => Ok(Self(keys)),
                _ => Err("`bridge` is no table".to_owned()),
            },
            _ => Err("expected one [[bridge]]".to_owned()),
        }
    }

    /// From texts such as `url=mqtt://hub` and `tls.ca_file=ca.pem`, as `--set` takes them after `bridge.<name>.`; without
    /// a value (`queue.max_age=`) the key is `null`, which takes it back when this is merged. Rules are no such keys.
    ///
    /// # Errors
    /// The first text that is not `KEY=VALUE`, or whose key a bridge does not have.
    pub fn from_settings<T: AsRef<str>>(settings: &[T]) -> Result<Self, String> {
        let mut keys = Map::new();
        for setting in settings.iter().map(AsRef::as_ref) {
            let (path, text) = setting
                .split_once('=')
                .ok_or_else(|| format!("{setting:?} is not KEY=VALUE, such as url=mqtt://hub"))?;
            let unknown = || no_such_key(path);
            let (table, key) = match path.split_once('.') {
                None => (Table::Bridge, path),
                Some((outer, key)) => {
                    let mut inner = Table::Bridge.inner().iter().filter(|(_, table)| !table.is_list());
                    let (_, table) = inner.find(|(name, _)| *name == outer).ok_or_else(unknown)?;
                    (*table, key)
                }
            };
            let option = option::find(table, key).ok_or_else(unknown)?;
            let value: Value =
                if text.is_empty() { ValueKind::Nil.into() } else { value::loosen(option.kind, text).into() };
            match path.split_once('.') {
                None => drop(keys.insert(key.to_owned(), value)),
                Some((outer, _)) => {
                    let inner = keys.entry(outer.to_owned()).or_insert_with(|| ValueKind::Table(Map::new()).into());
                    if let ValueKind::Table(inner) = &mut inner.kind {
                        inner.insert(key.to_owned(), value);
                    }
                }
            }
        }
        Ok(Self(keys))
    }

    /// Adds one rule, written as words in the order of mosquitto: `FILTER [DIRECTION [QOS [LOCAL_PREFIX
    /// [REMOTE_PREFIX]]]]`; `""` is an empty word.
    ///
    /// # Errors
    /// There is no word, or there are too many.
    pub fn add_rule(&mut self, words: &str) -> Result<(), String> {
        const KEYS: [&str; 5] = ["filter", "direction", "qos", "local_prefix", "remote_prefix"];
        let words: Vec<&str> = words.split_whitespace().map(|word| if word == "\"\"" { "" } else { word }).collect();
        if words.is_empty() || words.len() > KEYS.len() {
            let form = "FILTER [DIRECTION [QOS [LOCAL_PREFIX [REMOTE_PREFIX]]]]";
            return Err(format!("a rule has one to five words, {form}; found {}", words.len()));
        }
        let rule: Map<String, Value> = KEYS
            .iter()
            .zip(words)
            .map(|(key, word)| {
                let kind = option::find(Table::BridgeTopic, key).map_or(Kind::Text, |option| option.kind);
                ((*key).to_owned(), value::loosen(kind, word).into())
            })
            .collect();
        let rules = self.0.entry("topic".to_owned()).or_insert_with(|| ValueKind::Array(Vec::new()).into());
        if let ValueKind::Array(rules) = &mut rules.kind {
            rules.push(ValueKind::Table(rule).into());
        }
        Ok(())
    }

    /// What it is called here; whether that can be a name is not looked at.
    ///
    /// # Errors
    /// [`Problem::Missing`] when it does not say, [`Problem::WrongType`] when it says something that is no string.
    pub fn name(&self) -> Result<&str, Problem> {
        let expected = || value::expected(Kind::Name);
        match self.0.get("name").map(|value| &value.kind) {
            None | Some(ValueKind::Nil) => Err(Problem::Missing(expected())),
            Some(ValueKind::String(name)) => Ok(name),
            Some(other) => Err(Problem::WrongType { expected: expected(), found: value::found(None, other) }),
        }
    }

    /// From now on it is called `name`.
    pub fn set_name(&mut self, name: &str) {
        self.0.insert("name".to_owned(), name.to_owned().into());
    }

    pub(crate) fn set_flag(&mut self, key: &str, flag: bool) {
        self.0.insert(key.to_owned(), flag.into());
    }

    /// Lays `patch` over this as RFC 7396 says: tables are merged, `null` takes a key away, anything else (lists too) takes
    /// the place of what was there.
    pub fn merge(&mut self, patch: &Self) {
        merge(&mut self.0, &patch.0);
    }

    /// Without keys that are `null`.
    #[must_use]
    pub fn without_nulls(&self) -> Self {
        let mut clean = Self::default();
        clean.merge(self);
        clean
    }

    /// As JSON with everything in it: for whoever may know the password.
    #[must_use]
    pub fn to_json(&self) -> Json {
        to_json(&ValueKind::Table(self.0.clone()))
    }

    /// As JSON for everybody: secrets are left out, and of an address the login and what stands behind `?`, where tokens are
    /// put. The keys for which something is missing come beside it.
    #[must_use]
    pub fn to_public_json(&self) -> (Json, Vec<String>) {
        let is_secret = |key: &str| option::find(Table::Bridge, key).is_some_and(|option| option.kind == Kind::Secret);
        let mut public = Map::new();
        let mut hidden = Vec::new();
        for (key, value) in sorted(&self.0) {
            let shown = without_logins(value);
            if is_secret(key) || shown != *value {
                hidden.push(key.to_owned());
            }
            if !is_secret(key) {
                public.insert(key.to_owned(), shown);
            }
        }
        (to_json(&ValueKind::Table(public)), hidden)
    }

    /// As the body of a TOML table: plain keys first, in alphabetical order, then rules.
    pub(crate) fn to_toml(&self) -> TomlTable {
        let mut table = TomlTable::new();
        for (key, value) in sorted(&self.0) {
            if let Some(value) = to_toml(&value.kind) {
                table.insert(key, Item::Value(value));
            }
        }
        table
    }
}

/// `value` with every address in it as anybody may read it.
fn without_logins(value: &Value) -> Value {
    match &value.kind {
        ValueKind::String(text) => public_address(text).into(),
        ValueKind::Array(items) => items.iter().map(without_logins).collect::<Vec<Value>>().into(),
        _ => value.clone(),
    }
}

/// `http://***@proxy:1`, `ws://hub/path?***`; what is no address stays as it is.
fn public_address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = rest.rsplit_once('@').map_or_else(|| rest.to_owned(), |(_, host)| format!("***@{host}"));
    let rest = rest.split_once('?').map_or_else(|| rest.clone(), |(address, _)| format!("{address}?***"));
    format!("{scheme}://{rest}")
}

fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match &value.kind {
            ValueKind::Nil => drop(target.remove(key)),
            ValueKind::Table(inner) => {
                let place = target.entry(key.clone()).or_insert_with(|| ValueKind::Table(Map::new()).into());
                if !matches!(place.kind, ValueKind::Table(_)) {
                    *place = ValueKind::Table(Map::new()).into();
                }
                if let ValueKind::Table(place) = &mut place.kind {
                    merge(place, inner);
                }
            }
            _ => drop(target.insert(key.clone(), value.clone())),
        }
    }
}

/// The path of the first value that is nothing (a date where TOML was read, else `null`); in lists alone, or `everywhere`.
fn nothing_in(keys: &Map<String, Value>, outer: &str, everywhere: bool) -> Option<String> {
    let mut keys = sorted(keys).into_iter();
    keys.find_map(|(key, value)| nothing_at(value, format!("{outer}{key}"), everywhere))
}

fn nothing_at(value: &Value, path: String, counts: bool) -> Option<String> {
    match &value.kind {
        ValueKind::Nil => counts.then_some(path),
        ValueKind::Table(keys) => nothing_in(keys, &format!("{path}."), counts),
        ValueKind::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| nothing_at(item, format!("{path}[{index}]"), true))
        }
        _ => None,
    }
}

fn sorted(map: &Map<String, Value>) -> BTreeMap<&str, &Value> {
    map.iter().map(|(key, value)| (key.as_str(), value)).collect()
}

fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => ValueKind::Nil.into(),
        Json::Bool(flag) => (*flag).into(),
        // What is no 64 bit integer is in no bounds of ours, and is said to be a float.
        Json::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.clone().into(),
        Json::Array(items) => items.iter().map(from_json).collect::<Vec<Value>>().into(),
        Json::Object(keys) => {
            keys.iter().map(|(key, value)| (key.clone(), from_json(value))).collect::<Map<String, Value>>().into()
        }
    }
}

fn to_json(kind: &ValueKind) -> Json {
    match kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(flag) => Json::Bool(*flag),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.clone().into(),
        ValueKind::Array(items) => items.iter().map(|item| to_json(&item.kind)).collect(),
        ValueKind::Table(keys) => keys.iter().map(|(key, value)| (key.clone(), to_json(&value.kind))).collect(),
        other => other.to_string().into(),
    }
}

fn to_toml(kind: &ValueKind) -> Option<toml_edit::Value> {
    Some(match kind {
        ValueKind::Nil => return None,
        ValueKind::Boolean(flag) => (*flag).into(),
        ValueKind::I64(number) => (*number).into(),
        ValueKind::Float(number) => (*number).into(),
        ValueKind::String(text) => text.as_str().into(),
        ValueKind::Array(items) => items.iter().filter_map(|item| to_toml(&item.kind)).collect::<Array>().into(),
        ValueKind::Table(keys) => {
            let keys = sorted(keys).into_iter().filter_map(|(key, value)| Some((key, to_toml(&value.kind)?)));
            keys.collect::<InlineTable>().into()
        }
        other => other.to_string().into(),
    })
}

/// Why `path` is no key that a text can set, and which one was probably meant.
fn no_such_key(path: &str) -> String {
    let tables = Table::Bridge.inner();
    if let Some((name, table)) = tables.iter().find(|(name, _)| *name == path) {
        return if table.is_list() {
            format!("rules are not set by {name}=; write --topic 'FILTER in|out|both QOS', once for each")
        } else {
            let first = option::of(*table).map(|option| option.key).next().unwrap_or_default();
            format!("{name} is a table: set its keys one by one, such as {name}.{first}=...")
        };
    }
    let (outer, table, key) = match path.split_once('.') {
        Some((outer, key)) => match tables.iter().find(|(name, table)| *name == outer && !table.is_list()) {
            Some((_, table)) => (format!("{outer}."), *table, key),
            None => (String::new(), Table::Bridge, path),
        },
        None => (String::new(), Table::Bridge, path),
    };
    match value::nearest(key, option::of(table).map(|option| option.key)) {
        Some(meant) => format!("a bridge has no key {path:?}; did you mean {outer}{meant}?"),
        None => format!("a bridge has no key {path:?}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_in_json_toml_and_settings_is_the_same() {
        let json = json!({
            "url": ["mqtt://a", "mqtt://b:1884"], "max_inflight": 5, "notifications": false, "keepalive": "30s",
            "tls": {"alpn": ["x"]}, "remote": {"max_qos": 1, "retain": false}, "topic": [{"filter": "a/#", "direction": "both", "qos": 2}],
        });
        let written = Written::from_json(&json).unwrap();
        assert_eq!(written.to_json(), json);
        let toml = "[[bridge]]\nurl = [\"mqtt://a\", \"mqtt://b:1884\"]\nmax_inflight = 5\nnotifications = false\n\
                    keepalive = \"30s\"\ntls = { alpn = [\"x\"] }\nremote = { max_qos = 1, retain = false }\n[[bridge.topic]]\nfilter = \"a/#\"\n\
                    direction = \"both\"\nqos = 2\n";
        assert_eq!(Written::from_toml(toml).unwrap().to_json(), json);
        assert_eq!(Written::from_toml(&written.to_toml().to_string()).unwrap().to_json(), json);
        let settings = [
            "url=mqtt://a,mqtt://b:1884",
            "max_inflight=5",
            "notifications=false",
            "keepalive=30s",
            "tls.alpn=x",
            "remote.max_qos=1",
            "remote.retain=false",
        ];
        let mut set = Written::from_settings(&settings).unwrap();
        set.add_rule("a/# both 2").unwrap();
        assert_eq!(set.to_json(), json);
    }

    #[test]
    fn a_patch_merges_tables_replaces_lists_and_takes_away_what_is_null() {
        let read = |json| Written::from_json(&json).unwrap();
        let mut written =
            read(json!({"url": "mqtt://a", "username": "u", "queue": {"max_age": "1d", "on_full": "drop_oldest"}}));
        written.merge(&read(json!({"username": null, "queue": {"max_age": null, "max_messages": 5}, "topic": []})));
        let merged = json!({"url": "mqtt://a", "queue": {"on_full": "drop_oldest", "max_messages": 5}, "topic": []});
        assert_eq!(written.to_json(), merged);
        let cleared = Written::from_settings(&["queue.on_full="]).unwrap();
        written.merge(&cleared);
        assert_eq!(written.to_json()["queue"], json!({"max_messages": 5}));
    }

    #[test]
    fn secrets_stay_where_they_are() {
        let written = Written::from_json(&json!({"url": "mqtt://a", "username": "u", "password": "hush"})).unwrap();
        let (public, secrets) = written.to_public_json();
        assert_eq!((public, secrets), (json!({"url": "mqtt://a", "username": "u"}), vec!["password".to_owned()]));
        assert!(!format!("{written:?}").contains("hush"));
        let addresses =
            json!({"url": ["ws://a/p?hush", "mqtt://b"], "proxy": "http://u:hu/@sh@p:1", "client_id": "a@b"});
        let (public, secrets) = Written::from_json(&addresses).unwrap().to_public_json();
        let shown = json!({"url": ["ws://a/p?***", "mqtt://b"], "proxy": "http://***@p:1", "client_id": "a@b"});
        assert_eq!((public, secrets), (shown, vec!["proxy".to_owned(), "url".to_owned()]));
    }

    #[test]
    fn a_name_that_is_no_string_is_not_missing() {
        let name = |json| Written::from_json(&json).unwrap().name().map(str::to_owned);
        assert_eq!(name(json!({"name": "a"})), Ok("a".to_owned()));
        for json in [json!({}), json!({"name": null})] {
            assert!(matches!(name(json), Err(Problem::Missing(_))));
        }
        for (json, said) in [(json!(7), "the integer 7"), (json!(true), "the boolean true"), (json!(["a"]), "a list")] {
            let problem = name(json!({ "name": json })).unwrap_err();
            assert!(matches!(&problem, Problem::WrongType { found, .. } if found == said), "{problem}");
        }
    }

    #[test]
    fn what_is_no_bridge_is_refused() {
        for json in [json!([]), json!("x"), json!(5), json!(null)] {
            assert!(Written::from_json(&json).is_err(), "{json}");
        }
        for toml in ["[[bridge]]\n[[bridge]]\n", "x = ", "[[bridge]]\n[node]\n"] {
            assert!(Written::from_toml(toml).is_err(), "{toml}");
        }
        // What would otherwise be taken for a key that goes back to its default, or be said to be what it is not.
        let said = |result: Result<Written, String>, words: &str| {
            let why = result.unwrap_err();
            assert!(why.contains(words), "{words} is not in: {why}");
        };
        said(Written::from_json(&json!(null)), "found null");
        said(Written::from_json(&json!({"topic": [{"filter": "a"}, {"qos": null}]})), "`topic[1].qos` is null");
        said(Written::from_json(&json!({"tls": {"alpn": [null]}})), "`tls.alpn[0]` is null");
        said(Written::from_toml("keepalive = 2020-01-01"), "`keepalive` is a date");
        said(
            Written::from_toml("[[bridge]]\n[[bridge.topic]]\nqos = 07:32:00\n"),
            "`bridge[0].topic[0].qos` is a date",
        );
        assert!(Written::from_json(&json!({"keepalive": null, "tls": {"alpn": null}})).is_ok());
        for settings in [["url"], ["nothing=5"], ["topic.0.filter=x"], ["tls.nothing=1"]] {
            assert!(Written::from_settings(&settings).is_err(), "{settings:?}");
        }
        for (setting, said) in [
            ("kepalive=5", "did you mean keepalive?"),
            ("tls.ca_fle=x", "did you mean tls.ca_file?"),
            ("topic=x", "--topic"),
            ("queue=", "queue is a table"),
        ] {
            let why = Written::from_settings(&[setting]).unwrap_err();
            assert!(why.contains(said), "{setting}: {why}");
        }
        assert!(Written::default().add_rule("").is_err());
        assert!(Written::default().add_rule("a b c d e f").is_err());
    }
}
