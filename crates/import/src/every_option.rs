//! Every option of both brokers, met in the files below `fixtures/`: none is forgotten, each does what its table says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use crate::option::{Fate, Opt};
use crate::{Files, Imported, Note, Origin, Request, import, mosquitto, vernemq};

/// What a PEM file has to look like for the import.
const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n\
                   -----END PRIVATE KEY-----\n-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n";
/// Where the notes begin.
const NOTES: &str = "\n# What is not taken over";

struct Memory(BTreeMap<&'static str, String>);

impl Files for Memory {
    fn read(&mut self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "it is not there".to_owned())
    }

    fn list(&mut self, folder: &str) -> Result<Vec<String>, String> {
        let inside =
            |path: &&str| path.strip_prefix(folder.trim_end_matches('/'))?.strip_prefix('/').map(str::to_owned);
        Ok(self.0.keys().filter_map(inside).collect())
    }
}

fn fixture(origin: Origin) -> (&'static str, &'static str, Memory) {
    let pem = ["ca.pem", "server.pem", "server.key", "revoked.pem", "gate-7.pem", "gate-7.key", "authorities/one.pem"];
    let mut files: BTreeMap<&'static str, String> = pem.into_iter().map(|path| (path, PEM.to_owned())).collect();
    let mut add = |path, text: &str| files.insert(path, text.to_owned());
    let (main, bridges) = match origin {
        Origin::Mosquitto => {
            add("mosquitto.conf", include_str!("../fixtures/mosquitto/mosquitto.conf"));
            add("conf.d/10-bridges.conf", include_str!("../fixtures/mosquitto/conf.d/10-bridges.conf"));
            add("passwd", include_str!("../fixtures/mosquitto/passwd"));
            add("acl", include_str!("../fixtures/mosquitto/acl"));
            ("mosquitto.conf", "conf.d/10-bridges.conf")
        }
        Origin::Vernemq => {
            add("vernemq.conf", include_str!("../fixtures/vernemq/vernemq.conf"));
            add("conf.d/bridges.conf", include_str!("../fixtures/vernemq/conf.d/bridges.conf"));
            add("vmq.passwd", include_str!("../fixtures/vernemq/vmq.passwd"));
            add("vmq.acl", include_str!("../fixtures/vernemq/vmq.acl"));
            ("vernemq.conf", "conf.d/bridges.conf")
        }
    };
    (main, bridges, Memory(files))
}

fn run(origin: Origin, main: &str, files: &mut Memory) -> Result<Imported, String> {
    let request = Request { origin, file: main, beside: "./viaduct", base: None };
    import(&request, files).map_err(|mistakes| format!("{mistakes:?}"))
}

/// What is served: the configuration without its notes, and the files beside it.
fn served(imported: &Result<Imported, String>) -> String {
    match imported {
        Ok(imported) => {
            let config = imported.config.split(NOTES).next().unwrap();
            let files: String = imported.files.iter().map(|file| format!("{}\n{}", file.path, file.text)).collect();
            format!("{config}{files}")
        }
        Err(mistakes) => mistakes.clone(),
    }
}

/// A line of a fixture with the row that knows it.
struct Line {
    file: &'static str,
    number: usize,
    name: String,
    value: String,
    option: &'static Opt,
}

fn lines(origin: Origin) -> Vec<Line> {
    let (main, bridges, files) = fixture(origin);
    let mut found = Vec::new();
    for file in [main, bridges] {
        for (index, text) in files.0[file].lines().enumerate() {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (name, value) = match origin {
                Origin::Mosquitto => text.split_once(' ').unwrap(),
                Origin::Vernemq => text.split_once('=').unwrap_or_else(|| text.split_once(' ').unwrap()),
            };
            // What opens a listener or a bridge has a name of its own.
            let Some(option) = row(origin, name.trim()) else {
                assert!(origin == Origin::Vernemq && value.contains(':'), "{file}: no row for {name}");
                continue;
            };
            let value = value.split(" #").next().unwrap().trim().to_owned();
            found.push(Line { file, number: index + 1, name: name.trim().to_owned(), value, option });
        }
    }
    found
}

fn row(origin: Origin, name: &str) -> Option<&'static Opt> {
    match origin {
        Origin::Mosquitto => mosquitto::option(name),
        Origin::Vernemq => vernemq::option(name),
    }
}

fn tables(origin: Origin) -> Vec<&'static Opt> {
    let tables = match origin {
        Origin::Mosquitto => mosquitto::tables(),
        Origin::Vernemq => vernemq::tables(),
    };
    tables.iter().flat_map(|(_, _, table)| table.iter()).collect()
}

#[test]
fn the_fixtures_have_every_option_of_the_tables() {
    for origin in [Origin::Mosquitto, Origin::Vernemq] {
        let lines = lines(origin);
        let missing: Vec<&str> = tables(origin)
            .into_iter()
            .filter(|option| !lines.iter().any(|line| std::ptr::eq(line.option, *option)))
            .map(|option| option.name)
            .collect();
        assert!(missing.is_empty(), "{origin:?}: {missing:?}");
    }
}

#[test]
fn no_option_is_in_a_table_twice() {
    for origin in [Origin::Mosquitto, Origin::Vernemq] {
        let tables = match origin {
            Origin::Mosquitto => mosquitto::tables(),
            Origin::Vernemq => vernemq::tables(),
        };
        for (title, _, table) in tables {
            for (index, option) in table.iter().enumerate() {
                assert!(
                    !table.iter().skip(index + 1).any(|other| other.name == option.name),
                    "{title}: {}",
                    option.name
                );
            }
        }
    }
}

#[test]
fn the_fixtures_are_imported_to_what_our_reader_takes() {
    for origin in [Origin::Mosquitto, Origin::Vernemq] {
        let (main, _, mut files) = fixture(origin);
        let imported = run(origin, main, &mut files).unwrap();
        let file = viaduct_config::SourceFile { name: "broker.toml".into(), text: imported.config.clone() };
        let source = viaduct_config::Source { file: Some(file), hostname: "h".into(), ..Default::default() };
        let loaded = viaduct_config::load(source).unwrap_or_else(|errors| panic!("{errors}\n{}", imported.config));
        assert!(loaded.config.listeners.len() >= 6, "{:?}", loaded.config.listeners);
        assert!(loaded.config.bridges.len() >= 4, "{:?}", loaded.config.bridges);
        assert!(!loaded.config.listeners.iter().any(|listener| listener.bind.port() == 8885), "shared keys only");
    }
}

/// The notes on a line.
fn notes_on<'a>(imported: &'a Imported, line: &Line) -> Vec<&'a Note> {
    imported.notes.iter().filter(|note| &*note.place.file == line.file && note.place.line == line.number).collect()
}

#[test]
fn what_has_no_equal_is_noted_with_its_line() {
    for origin in [Origin::Mosquitto, Origin::Vernemq] {
        let (main, _, mut files) = fixture(origin);
        let imported = run(origin, main, &mut files).unwrap();
        for line in lines(origin) {
            let notes = notes_on(&imported, &line);
            let place = format!("{}:{} {} {notes:?}", line.file, line.number, line.name);
            match line.option.fate {
                Fate::Lost { harmless, .. } if harmless.contains(&line.value.as_str()) => {
                    assert!(notes.is_empty(), "{place}");
                }
                Fate::Lost { why, .. } => {
                    assert!(notes.iter().any(|note| note.why == why && note.advice.is_some()), "{place}");
                }
                // Those that are read on the way leave nothing to be said.
                Fate::Idle(_) if matches!(line.name.as_str(), "include_dir" | "include") => {}
                Fate::Idle(_) => assert!(notes.iter().any(|note| note.advice.is_none()), "{place}"),
                Fate::Becomes(..) => {}
            }
        }
    }
}

/// The fixture with one line changed: taken out, or its flag turned round.
fn with_line(origin: Origin, line: &Line, replacement: &str) -> String {
    let (main, _, mut files) = fixture(origin);
    let text = files.0.get_mut(line.file).unwrap();
    let changed: Vec<&str> =
        text.lines().enumerate().map(|(index, old)| if index + 1 == line.number { replacement } else { old }).collect();
    *text = changed.join("\n");
    served(&run(origin, main, &mut files))
}

/// Nothing but one line.
fn alone(origin: Origin, line: &str) -> String {
    served(&run(origin, "main", &mut Memory(BTreeMap::from([("main", line.to_owned())]))))
}

#[test]
fn what_becomes_something_makes_a_difference() {
    for origin in [Origin::Mosquitto, Origin::Vernemq] {
        let (main, _, mut files) = fixture(origin);
        let whole = served(&run(origin, main, &mut files));
        let nothing = alone(origin, "");
        let mut without: BTreeMap<&str, bool> = BTreeMap::new();
        for line in lines(origin) {
            if !matches!(line.option.fate, Fate::Becomes(..)) {
                continue;
            }
            let between = if origin == Origin::Mosquitto { " " } else { " = " };
            let flipped = match line.value.as_str() {
                "true" => "false",
                "false" => "true",
                "on" => "off",
                "off" => "on",
                same => same,
            };
            let differs = with_line(origin, &line, "# gone") != whole
                || with_line(origin, &line, &format!("{}{between}{flipped}", line.name)) != whole
                || alone(origin, &format!("{}{between}{}", line.name, line.value)) != nothing;
            *without.entry(line.option.name).or_default() |= differs;
        }
        let idle: Vec<&&str> = without.iter().filter(|(_, differs)| !**differs).map(|(name, _)| name).collect();
        assert!(idle.is_empty(), "{origin:?}: {idle:?}");
    }
}

#[test]
fn no_note_repeats_a_secret() {
    for (origin, secrets) in [
        (Origin::Mosquitto, ["pass\\word", "0123456789abcdef", "plain"]),
        (Origin::Vernemq, ["an odd", "0123456789abcdef", "open sesame"]),
    ] {
        let (main, _, mut files) = fixture(origin);
        for note in run(origin, main, &mut files).unwrap().notes {
            for secret in secrets {
                assert!(!note.to_string().contains(secret), "{note}");
            }
        }
    }
}
