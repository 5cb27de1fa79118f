//! `broker.toml` and `docs/configuration.md` are what the option table says.
//!
//! `UPDATE_GENERATED=1 cargo test -p viaduct-config --test generated` writes them again.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::path::PathBuf;

use viaduct_config::{Source, SourceFile, load, reference, sample};

fn same_as_file(path: &str, generated: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(
        written == generated,
        "{} is not what the option table says; run: \
         UPDATE_GENERATED=1 cargo test -p viaduct-config --test generated",
        path.display()
    );
}

fn file(text: String) -> Source {
    Source { file: Some(SourceFile { name: "broker.toml".into(), text }), ..Source::default() }
}

#[test]
fn the_sample_in_the_repository_is_generated() {
    same_as_file("broker.toml", &sample());
}

#[test]
fn the_reference_in_the_repository_is_generated() {
    same_as_file("docs/configuration.md", &reference());
}

#[test]
fn the_sample_loads_to_the_defaults() {
    let from_sample = load(file(sample())).unwrap();
    let from_nothing = load(Source::default()).unwrap();
    assert_eq!(from_sample.config, from_nothing.config);
    assert!(from_sample.warnings.is_empty());
}

#[test]
fn the_examples_in_the_sample_load_when_they_are_uncommented() {
    let text: String = sample()
        .lines()
        .skip_while(|line| !line.starts_with("#:"))
        .filter(|line| !line.starts_with("#:") && !line.contains("Not yet"))
        .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
        .collect();
    let loaded = load(file(text.clone())).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(loaded.config.bridges.len(), 1);
    assert!(loaded.config.listeners.iter().all(|listener| listener.tls.is_some()));
}

#[test]
fn every_example_of_a_value_in_the_sample_is_a_good_one() {
    let bare = |line: &str| line.trim_start_matches("# ").to_owned();
    let text: String = sample()
        .lines()
        .skip_while(|line| !line.starts_with("#:"))
        .filter(|line| !line.starts_with("#:") && !line.contains("Not yet"))
        // Either of the two ways to give a password, not both.
        .filter(|line| !line.contains("# password = "))
        .map(|line| format!("{}\n", bare(line)))
        .collect();
    load(file(text.clone())).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
}
