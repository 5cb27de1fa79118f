//! No input makes the reader panic: it loads or it says what is wrong, and every place it names is in the text.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use proptest::prelude::*;
use viaduct_config::{Place, Source, SourceFile, load, sample};

const BRIDGES: &str = r##"
[[bridge]]
name = "hub"
url = ["mqtt://h", "mqtts://[::1]:8884"]
username = "u"
password = "hunter2"
keepalive = 60
session_expiry = "1d"
tls = { ca_file = "x", alpn = ["a"] }
queue = { max_age = "1d" }
[[bridge.topic]]
filter = "a/+/b/#"
direction = "both"
local_prefix = "ä/"
[[bridge.topic]]
filter = "b"
direction = "in"
remote_prefix = "y/"
"##;

/// What a mutation writes: pieces that mean something to TOML or to the reader, and some that mean nothing.
const PIECES: [&str; 32] = [
    "\"",
    "'",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "#",
    "\\",
    "\0",
    "ß",
    "\u{1F600}",
    "-1",
    "0",
    "99999999999999999999",
    "1e9",
    "true",
    "nan",
    "1979-05-27",
    "tls",
    "bridge",
    "listener",
    "topic",
    "\"\"\"",
    "@",
    "$share/",
    "$SYS/",
];

fn check(text: String, environment: Vec<(String, String)>, overrides: Vec<String>) -> Result<(), TestCaseError> {
    let lines = text.lines().count() + 1;
    let file = Some(SourceFile { name: "broker.toml".into(), text });
    if let Err(errors) = load(Source { file, environment, overrides, hostname: "h".into(), ..Source::default() }) {
        prop_assert!(!errors.errors.is_empty());
        let shown = errors.to_string();
        for error in &errors.errors {
            prop_assert!(shown.contains(&error.problem.to_string()));
            if let Place::File { line, column, width, .. } = &error.place {
                prop_assert!(*line >= 1 && *line <= lines && *column >= 1 && *width >= 1);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_sample_never_panics(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, 0usize..PIECES.len()), 1..6)
    ) {
        let mut text: Vec<char> = (sample() + BRIDGES).chars().collect();
        for (at, removed, piece) in mutations {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        check(text.into_iter().collect(), Vec::new(), Vec::new())?;
    }

    #[test]
    fn any_text_never_panics(text in ".{0,200}") {
        check(text, Vec::new(), Vec::new())?;
    }

    #[test]
    fn any_override_never_panics(
        parts in prop::collection::vec(prop_oneof![
            Just("listener"), Just("bridge"), Just("topic"), Just("tls"), Just("name"), Just("hub"), Just("0"), Just("1"),
            Just("-1"), Just("18446744073709551615"), Just("[0]"), Just("["), Just(""), Just("bind"), Just("ß"),
        ], 1..7),
        value in ".{0,12}",
    ) {
        let name = format!("VIADUCT__{}", parts.join("__"));
        check(BRIDGES.into(), vec![(name, value.clone())], vec![format!("{}={value}", parts.join("."))])?;
    }
}
