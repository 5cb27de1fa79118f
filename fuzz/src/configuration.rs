//! Any text as broker.toml: a configuration or errors with a place, never a panic.

use viaduct_config::{Source, SourceFile, load};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let source = |text: &str| Source {
        file: Some(SourceFile { name: "broker.toml".to_owned(), text: text.to_owned() }),
        ..Source::default()
    };
    match load(source(text)) {
        Ok(loaded) => {
            assert!(!loaded.config.listeners.is_empty(), "a broker without a listener");
            // What is meant does not depend on when it is read.
            let again = load(source(text)).expect("it was good before").config;
            assert_eq!(loaded.config, again);
        }
        Err(errors) => assert!(!errors.to_string().is_empty(), "an error that says nothing"),
    }
}
