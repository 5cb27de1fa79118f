//! No file makes the importer panic; what it makes is always a configuration that our reader takes, and every place that it
//! names is there.

use proptest::prelude::*;
use viaduct_config::{Source, SourceFile};
use viaduct_import::{Files, Origin, Request};

use crate::Memory;

const MOSQUITTO: &str = concat!(
    include_str!("../../fixtures/mosquitto/mosquitto.conf"),
    include_str!("../../fixtures/mosquitto/conf.d/10-bridges.conf")
);
const VERNEMQ: &str = concat!(
    include_str!("../../fixtures/vernemq/vernemq.conf"),
    include_str!("../../fixtures/vernemq/conf.d/bridges.conf")
);
const ACL: &str = concat!(include_str!("../../fixtures/mosquitto/acl"), include_str!("../../fixtures/vernemq/vmq.acl"));
const USERS: &str = include_str!("../../fixtures/mosquitto/passwd");

/// What a mutation writes.
const PIECES: [&str; 30] = [
    "\"",
    "'",
    "#",
    "\\",
    "\n",
    "\r",
    "\0",
    "\t",
    " ",
    "=",
    ".",
    ":",
    "/",
    "[",
    "]",
    "*",
    "+",
    "$",
    "%c",
    "%m",
    "-1",
    "0",
    "99999999999999999999",
    "ß",
    "\u{1F600}",
    "$share/g/",
    "$SYS/",
    "$empty",
    "listener 1 127.0.0.1\n",
    "connection x\n",
];

fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), 0..PIECES.len(), 0..40_usize), 1..12);
    changes.prop_map(move |changes| {
        let mut text = text.to_owned();
        for (at, piece, removed) in changes {
            let mut from = at.index(text.len() + 1);
            while !text.is_char_boundary(from) {
                from -= 1;
            }
            let mut to = (from + removed).min(text.len());
            while !text.is_char_boundary(to) {
                to += 1;
            }
            text.replace_range(from..to, PIECES[piece]);
        }
        text
    })
}

/// Imports, and checks what has to hold of any import.
fn holds(origin: Origin, main: &str, acl: &str, users: &str) {
    let files = [("main.conf", main), ("acl", acl), ("vmq.acl", acl), ("passwd", users), ("vmq.passwd", users)];
    let mut files = Memory::of(&files);
    let request = Request { origin, file: "main.conf", beside: "b", base: None };
    let lines = |file: &str, files: &mut Memory| files.read(file).map_or(0, |text| text.lines().count());
    match viaduct_import::import(&request, &mut files) {
        Ok(imported) => {
            for note in &imported.notes {
                assert!(note.place.line <= lines(&note.place.file, &mut files), "{note}");
            }
            let file = SourceFile { name: "b.toml".into(), text: imported.config.clone() };
            let source = Source { file: Some(file), hostname: "h".into(), ..Source::default() };
            if let Err(errors) = viaduct_config::load(source) {
                panic!("{errors}\n{}", imported.config);
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(mistake.place.line <= lines(&mistake.place.file, &mut files), "{mistake}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fixture_with_anything_in_it(
        mosquitto in mutated(MOSQUITTO),
        vernemq in mutated(VERNEMQ),
        acl in mutated(ACL),
        users in mutated(USERS),
    ) {
        holds(Origin::Mosquitto, &mosquitto, &acl, &users);
        holds(Origin::Vernemq, &vernemq, &acl, &users);
    }

    #[test]
    fn any_lines_at_all(text in "(?s).{0,400}", words in proptest::collection::vec("[a-z_.]{0,20}[ =]{0,3}.{0,30}", 0..20)) {
        for origin in [Origin::Mosquitto, Origin::Vernemq] {
            holds(origin, &text, &text, &text);
            holds(origin, &words.join("\n"), &words.join("\n"), &words.join("\n"));
        }
    }

    /// A single line of a fixture with any value: each option meets what it does not expect.
    #[test]
    fn any_option_with_any_value(at in any::<prop::sample::Index>(), value in ".{0,40}") {
        for (origin, text) in [(Origin::Mosquitto, MOSQUITTO), (Origin::Vernemq, VERNEMQ)] {
            let lines: Vec<&str> = text.lines().collect();
            let at = at.index(lines.len());
            let changed: Vec<String> = lines.iter().enumerate().map(|(index, line)| {
                let name = line.split([' ', '=']).next().unwrap_or_default();
                let between = if origin == Origin::Mosquitto { " " } else { " = " };
                if index == at { format!("{name}{between}{value}") } else { (*line).to_owned() }
            }).collect();
            holds(origin, &changed.join("\n"), ACL, USERS);
        }
    }
}
