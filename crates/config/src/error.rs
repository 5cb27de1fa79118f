//! What can be wrong with a configuration, where, and what to do about it.
//!
//! In: findings of `layers`, `read` and `check`. Out: [`Errors`], whose `Display` prints every one of them with its
//! place, the line, a caret and a suggestion. Must never: hold or print a password.

use std::fmt;

use thiserror::Error;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file.
    File {
        /// The name that was given for the file.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// How many characters the caret underlines; at least 1.
        width: usize,
        /// The whole line, without its end.
        text: String,
    },
    /// In an environment variable of this name.
    Environment(String),
    /// In this `--set`, as far as its `=`.
    CommandLine(String),
    /// In what was said at run time about the bridge of this name.
    RunTime(String),
    /// Nowhere: what is missing, or a default.
    Nowhere,
}

/// What is wrong. Each variant says what was expected and what came.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// It is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// No such key in this table.
    #[error("unknown key")]
    UnknownKey,
    /// The value is of another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// Such as "a duration such as \"30s\"".
        expected: String,
        /// Such as "the integer 30".
        found: String,
    },
    /// The type is right, the value is none of those that mean something.
    #[error("expected {expected}, found {found}")]
    BadValue {
        /// What would be accepted.
        expected: String,
        /// What was written.
        found: String,
    },
    /// The value is outside its bounds.
    #[error("out of range: expected {expected}, found {found}")]
    OutOfRange {
        /// The bounds.
        expected: String,
        /// What was written.
        found: String,
    },
    /// A key without a default is not there.
    #[error("missing: expected {0}")]
    Missing(String),
    /// It does not go together with something else.
    #[error("{0}")]
    Contradiction(String),
    /// The key or value is reserved for a later round.
    #[error("not yet: {0}")]
    NotYet(String),
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigError {
    /// The full key path, such as `listener[0].tls.cert_file`; empty when the file cannot be parsed.
    pub key: String,
    /// Where it was written.
    pub place: Place,
    /// What is wrong.
    pub problem: Problem,
    /// What to do about it.
    pub suggestion: Option<String>,
}

/// Everything that is wrong with a configuration, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Errors {
    /// The findings.
    pub errors: Vec<ConfigError>,
    /// What is allowed but worth a word.
    pub warnings: Vec<ConfigError>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        write!(f, "{}", self.problem)?;
        match &self.place {
            Place::File { file, line, column, width, text } => {
                let number = line.to_string();
                let gutter = " ".repeat(number.len());
                // Tabs are kept in the padding so that the caret stands below what it means.
                let padding: String =
                    text.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n{gutter}--> {file}:{line}:{column}")?;
                write!(f, "\n{gutter} |\n{number} | {text}\n{gutter} | {padding}{}", "^".repeat(*width))?;
            }
            Place::Environment(name) => write!(f, "\n --> environment variable {name}")?,
            Place::CommandLine(text) => write!(f, "\n --> command line: --set {text}")?,
            Place::RunTime(name) => write!(f, "\n --> bridge \"{name}\", as it was changed at run time")?,
            Place::Nowhere => {}
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n  = help: {suggestion}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}\n")?;
        }
        for error in &self.errors {
            writeln!(f, "error: {error}\n")?;
        }
        match self.errors.len() {
            1 => f.write_str("1 error in the configuration"),
            count => write!(f, "{count} errors in the configuration"),
        }
    }
}
