//! What becomes of whole files, small and large.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod generated;
mod mosquitto;
mod mutation;
mod vernemq;

use std::collections::BTreeMap;

use viaduct_config::{Config, Source, SourceFile};
use viaduct_import::{Files, Imported, Mistake, Note, Origin, Request};

/// Files in memory.
#[derive(Clone, Default)]
pub(crate) struct Memory(pub(crate) BTreeMap<String, String>);

impl Memory {
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }
}

impl Files for Memory {
    fn read(&mut self, path: &str) -> Result<String, String> {
        self.0.get(path).cloned().ok_or_else(|| "it is not there".to_owned())
    }

    fn list(&mut self, folder: &str) -> Result<Vec<String>, String> {
        let inside = |path: &String| {
            let name = path.strip_prefix(folder.trim_end_matches('/'))?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        let found: Vec<String> = self.0.keys().filter_map(inside).collect();
        if found.is_empty() { Err("there is no such folder".to_owned()) } else { Ok(found) }
    }
}

/// Imports `main.conf` of `files`.
pub(crate) fn import(origin: Origin, files: &[(&str, &str)]) -> Result<Imported, Vec<Mistake>> {
    let request = Request { origin, file: "main.conf", beside: "out/broker", base: None };
    viaduct_import::import(&request, &mut Memory::of(files))
}

/// What was imported, and what our reader makes of it.
pub(crate) struct Moved {
    pub(crate) imported: Imported,
    pub(crate) config: Config,
}

impl Moved {
    #[track_caller]
    pub(crate) fn of(origin: Origin, files: &[(&str, &str)]) -> Self {
        let imported = import(origin, files).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let file = SourceFile { name: "broker.toml".into(), text: imported.config.clone() };
        let source = Source { file: Some(file), hostname: "host".into(), ..Source::default() };
        match viaduct_config::load(source) {
            Ok(loaded) => Self { config: loaded.config, imported },
            Err(errors) => panic!("{errors}\n{}", imported.config),
        }
    }

    /// Notes that ask for a hand, on a line of `main.conf`.
    pub(crate) fn notes(&self, line: usize) -> Vec<&Note> {
        let here = |note: &&Note| &*note.place.file == "main.conf" && note.place.line == line && note.advice.is_some();
        self.imported.notes.iter().filter(here).collect()
    }

    /// The text of a file beside the configuration.
    #[track_caller]
    pub(crate) fn file(&self, path: &str) -> &str {
        let found = self.imported.files.iter().find(|file| file.path == path);
        &found.unwrap_or_else(|| panic!("{path} is not among {:?}", self.imported.files)).text
    }
}
