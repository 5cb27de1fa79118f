//! One setting of the other broker, where it stands.

use crate::report::Place;

/// Lines with a setting that all files together may have.
pub(crate) const DIRECTIVES: usize = 100_000;

/// A name and its value, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) place: Place,
    pub(crate) name: String,
    /// Without blanks around it.
    pub(crate) value: String,
}

impl Directive {
    /// What a setting that stands nowhere means, found in `file`.
    pub(crate) fn implied(file: &str, name: &str, value: &str) -> Self {
        Self { place: Place { file: file.into(), line: 0 }, name: name.to_owned(), value: value.to_owned() }
    }
}

/// Whether a line is text: what has control characters in it was never meant as a setting, and has no place in ours.
pub(crate) fn is_text(line: &str) -> bool {
    !line.chars().any(|character| character.is_control() && character != '\t')
}
