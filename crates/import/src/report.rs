//! What is said about the import: notes and mistakes, each with its place.
//!
//! In: a directive and words. Out: [`Note`]s for what has no equal, [`Mistake`]s for what can't be read. Must never: repeat a
//! value that may be a secret.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::directive::Directive;

/// Mistakes that are said; a file with more of them is something else.
const MISTAKES: usize = 1000;
/// Notes that are kept; whoever has more reads a file of something else.
const NOTES: usize = 10_000;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0 is the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

/// Something that has no equal here, or only nearly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    /// Where it stands.
    pub place: Place,
    /// The directive, or what else it is about.
    pub what: String,
    /// Why it is not taken over as it is.
    pub why: String,
    /// What to do; `None` when nothing is lost.
    pub advice: Option<String>,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, what, why, advice } = self;
        write!(f, "{place}: {what}: {why}; ")?;
        f.write_str(advice.as_deref().unwrap_or("nothing to do"))
    }
}

/// Something that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it stands.
    pub place: Place,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// What was said so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    notes: Vec<Note>,
    /// The same, to say nothing twice: one option may be looked at for several listeners.
    said: HashSet<Note>,
    pub(crate) mistakes: Vec<Mistake>,
}

impl Report {
    /// Somebody has to look at this.
    pub(crate) fn act(&mut self, directive: &Directive, why: impl Into<String>, advice: impl Into<String>) {
        self.note(&directive.place, &directive.name, why, Some(advice.into()));
    }

    /// Nothing is lost here.
    pub(crate) fn fine(&mut self, directive: &Directive, why: impl Into<String>) {
        self.note(&directive.place, &directive.name, why, None);
    }

    pub(crate) fn note(
        &mut self,
        place: &Place,
        what: impl Into<String>,
        why: impl Into<String>,
        advice: Option<String>,
    ) {
        let note = Note { place: place.clone(), what: what.into(), why: why.into(), advice };
        if self.notes.len() < NOTES && self.said.insert(note.clone()) {
            self.notes.push(note);
        }
    }

    /// The other broker would not have started with this.
    pub(crate) fn wrong(&mut self, place: &Place, what: impl Into<String>) {
        if self.mistakes.len() < MISTAKES {
            self.mistakes.push(Mistake { place: place.clone(), what: what.into() });
        }
    }

    /// All notes, those with advice first, and by their places.
    pub(crate) fn into_notes(mut self) -> Vec<Note> {
        if let (NOTES, Some(last)) = (self.notes.len(), self.notes.last_mut()) {
            last.what = "the rest".to_owned();
            last.why = format!("there are more than {NOTES} notes");
            last.advice = Some("mend what is said above and import again".to_owned());
        }
        let key = |note: &Note| (note.advice.is_none(), Arc::clone(&note.place.file), note.place.line);
        self.notes.sort_by_cached_key(key);
        self.notes
    }
}
