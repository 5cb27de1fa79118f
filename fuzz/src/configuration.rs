//! Any text as broker.toml, with any variables and overrides: a configuration, or errors that say where. Never a panic, and
//! never a word of a password.
//!
//! What follows a byte 1 is an override, what follows a byte 2 a variable without `VIADUCT__`, what follows a byte 3 what was
//! said at run time; the rest is the file.

use viaduct_config::{Changes, ConfigError, Errors, Place, Problem, RunTime, Source, SourceFile, changes, load};

const FILE: &str = "broker.toml";
/// Is in no input: what is long enough is never made up.
const PASSWORD: &str = "correct-horse-battery-staple";

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let source = source(text);
    check(&source);
    let mut secret = source;
    if let Some(file) = &mut secret.file {
        file.text += &format!("\n[[bridge]]\nname = \"z\"\nurl = \"mqtt://u@h\"\npassword = \"{PASSWORD}\"\n");
    }
    check(&secret);
}

/// What ends a piece and says what the next one is: an override, a variable, what was said at run time.
const KINDS: [char; 3] = ['\u{1}', '\u{2}', '\u{3}'];

fn source(text: &str) -> Source {
    let mut pieces = text.split_inclusive(KINDS).peekable();
    let mut source = Source { hostname: "h".to_owned(), ..Source::default() };
    let mut kind = '\0';
    while let Some(piece) = pieces.next() {
        let next = if pieces.peek().is_some() { piece.chars().last().unwrap_or_default() } else { '\0' };
        let own = piece.trim_end_matches(KINDS).to_owned();
        match kind {
            '\u{1}' => source.overrides.push(own),
            '\u{2}' => {
                let (name, value) = own.split_once('=').unwrap_or((&own, ""));
                source.environment.push((format!("VIADUCT__{name}"), value.to_owned()));
            }
            '\u{3}' => source.run_time = RunTime::parse(&own).unwrap_or_default(),
            _ => source.file = Some(SourceFile { name: FILE.to_owned(), text: own }),
        }
        kind = next;
    }
    source
}

fn check(source: &Source) {
    match load(source.clone()) {
        Ok(loaded) => {
            let config = loaded.config;
            assert!(!config.listeners.is_empty(), "a broker without a listener");
            // What is meant does not depend on when it is read.
            assert_eq!(config, load(source.clone()).expect("it was good before").config);
            assert_eq!(changes(&config, &config), Changes::default(), "it differs from itself");
            let plain = load(Source::default()).expect("the defaults are good").config;
            let _ = changes(&plain, &config);
            assert!(!format!("{config:?}").contains(PASSWORD), "a password is shown");
            loaded.warnings.iter().for_each(|warning| has_a_place(warning, source));
        }
        Err(Errors { errors, warnings }) => {
            assert!(!errors.is_empty(), "refused without an error");
            errors.iter().chain(&warnings).for_each(|error| has_a_place(error, source));
            let shown = Errors { errors, warnings }.to_string();
            assert!(!shown.contains(PASSWORD), "a password is shown: {shown}");
        }
    }
}

/// The place is where something was written; only what was not written has none.
fn has_a_place(error: &ConfigError, source: &Source) {
    assert!(!error.problem.to_string().is_empty(), "an error that says nothing");
    match &error.place {
        Place::File { file, line, column, width, text } => {
            assert_eq!(file, FILE);
            let whole = source.file.as_ref().map(|file| file.text.as_str()).unwrap_or_default();
            let written = whole.split('\n').nth(line - 1).unwrap_or_else(|| panic!("there is no line {line}: {error}"));
            let length = written.chars().count();
            assert!((1..=length + 1).contains(column), "column {column} of {length}: {error}");
            assert!(*width >= 1 && column - 1 + width <= length.max(*column), "{width} wide at {column}: {error}");
            assert!(text.chars().count() <= length, "more is shown than was written: {error}");
        }
        Place::Environment(name) => {
            assert!(source.environment.iter().any(|(own, _)| own == name), "{name} is not in the environment");
        }
        Place::CommandLine(text) => {
            let key = |own: &String| own.split_once('=').map_or(own.clone(), |(key, _)| key.trim().to_owned());
            assert!(source.overrides.iter().any(|own| key(own) == *text), "{text} was not given");
        }
        Place::RunTime(name) => {
            let kept = source.run_time.to_toml();
            let again = RunTime::parse(&kept).map(|read| read.to_toml());
            assert_eq!(again.as_ref(), Ok(&kept), "what is kept is read otherwise");
            assert!(source.run_time != RunTime::default(), "nothing was said of {name}");
        }
        Place::Nowhere => {
            assert!(matches!(error.problem, Problem::Missing(_) | Problem::Contradiction(_)), "no place: {error}");
            assert!(!error.key.is_empty(), "neither a place nor a key: {error}");
        }
    }
}
