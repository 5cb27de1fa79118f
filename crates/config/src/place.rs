//! Where each key and value was written.
//!
//! In: byte spans of the file, names of variables, `--set` texts, each by key path. Out: a [`Place`] for a path, or the
//! nearest one above it. Must never: show a password; lines are masked before they leave.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::Place;

/// A line longer than this is shown only from its start: a minified file must not fill a terminal.
const LINE_MAX: usize = 240;

/// Bytes of the file.
type Span = Option<Range<usize>>;

/// Where one key was written.
#[derive(Clone, Debug)]
enum Written {
    File {
        key: Span,
        value: Span,
    },
    Environment(String),
    CommandLine(String),
    /// At run time, about the bridge of this name.
    RunTime(String),
}

/// Every key path that was written, with its place.
#[derive(Debug, Default)]
pub(crate) struct Places {
    file: String,
    text: String,
    written: HashMap<String, Written>,
}

impl Places {
    pub(crate) fn new(file: String, text: String) -> Self {
        Self { file, text, written: HashMap::new() }
    }

    pub(crate) fn in_file(&mut self, path: &str, key: Span, value: Span) {
        self.written.insert(path.to_owned(), Written::File { key, value });
    }

    pub(crate) fn in_environment(&mut self, path: &str, name: &str) {
        self.written.insert(path.to_owned(), Written::Environment(name.to_owned()));
    }

    pub(crate) fn on_command_line(&mut self, path: &str, text: &str) {
        self.written.insert(path.to_owned(), Written::CommandLine(text.to_owned()));
    }

    pub(crate) fn at_run_time(&mut self, path: &str, name: &str) {
        self.written.insert(path.to_owned(), Written::RunTime(name.to_owned()));
    }

    /// The entries of the list at `path` have moved: each to the position that `moves` has in its place, or away.
    pub(crate) fn rearrange(&mut self, path: &str, moves: &[Option<usize>]) {
        let within = format!("{path}[");
        let before = std::mem::take(&mut self.written);
        for (key, written) in before {
            let Some((index, rest)) = key.strip_prefix(&within).and_then(|rest| rest.split_once(']')) else {
                self.written.insert(key, written);
                continue;
            };
            let moved = index.parse::<usize>().ok().and_then(|index| *moves.get(index)?);
            if let Some(index) = moved {
                self.written.insert(format!("{within}{index}]{rest}"), written);
            }
        }
    }

    /// Whether `path` was written anywhere.
    pub(crate) fn is_written(&self, path: &str) -> bool {
        self.written.contains_key(path)
    }

    /// Whether the value at `path` came as text, from the environment or the command line.
    pub(crate) fn is_loose(&self, path: &str) -> bool {
        matches!(self.written.get(path), Some(Written::Environment(_) | Written::CommandLine(_)))
    }

    /// Where the value at `path` is, or the nearest thing around it.
    pub(crate) fn value(&self, path: &str) -> Place {
        self.nearest(path, |key, value| value.or(key))
    }

    /// Where the key of `path` is, or the nearest thing around it.
    pub(crate) fn key(&self, path: &str) -> Place {
        self.nearest(path, |key, value| key.or(value))
    }

    fn nearest(&self, path: &str, choose: fn(Span, Span) -> Span) -> Place {
        let mut above = path;
        loop {
            if let Some(place) = self.exactly(above, choose) {
                return place;
            }
            match above.rfind(['.', '[']) {
                Some(end) => above = above.get(..end).unwrap_or_default(),
                None => return self.below(path, choose).unwrap_or(Place::Nowhere),
            }
        }
    }

    fn exactly(&self, path: &str, choose: fn(Span, Span) -> Span) -> Option<Place> {
        match self.written.get(path)? {
            Written::Environment(name) => Some(Place::Environment(name.clone())),
            Written::CommandLine(text) => Some(Place::CommandLine(mask(text))),
            Written::RunTime(name) => Some(Place::RunTime(name.clone())),
            Written::File { key, value } => choose(key.clone(), value.clone()).map(|span| self.at(span)),
        }
    }

    /// For a table that an override made by naming a key in it: the first of those keys.
    fn below(&self, path: &str, choose: fn(Span, Span) -> Span) -> Option<Place> {
        let is_below = |other: &&String| other.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.exactly(self.written.keys().filter(is_below).min()?, choose)
    }

    /// The place of a span of the file.
    pub(crate) fn at(&self, span: Range<usize>) -> Place {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let (before, after) = self.text.split_at(start);
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = start + after.find('\n').unwrap_or(after.len());
        let text = self.text.get(line_start..line_end).unwrap_or_default().trim_end_matches('\r');
        let column = self.text.get(line_start..start).unwrap_or_default().chars().count() + 1;
        let end = span.end.clamp(start, line_end);
        let width = self.text.get(start..end).map_or(1, |part| part.trim_end().chars().count());
        let text: String = mask(text).chars().take(LINE_MAX).collect();
        let width = width.min(text.chars().count().saturating_sub(column - 1)).max(1);
        Place::File { file: self.file.clone(), line, column, width, text }
    }
}

/// The line with passwords replaced by asterisks: the value of a key `password`, and what stands before '@' or behind '?' in a
/// URL.
fn mask(line: &str) -> String {
    let mut shown: Vec<char> = line.chars().collect();
    let keyword: Vec<char> = "password".chars().collect();
    for at in 0..shown.len() {
        if !shown.get(at..).is_some_and(|rest| rest.starts_with(&keyword)) {
            continue;
        }
        let mut cursor = at + keyword.len();
        while shown.get(cursor).is_some_and(|c| matches!(c, ' ' | '\t' | '"' | '\'')) {
            cursor += 1;
        }
        if shown.get(cursor) != Some(&'=') {
            continue;
        }
        cursor += 1;
        while shown.get(cursor).is_some_and(|c| c.is_whitespace()) {
            cursor += 1;
        }
        let quote = shown.get(cursor).copied().filter(|c| matches!(c, '"' | '\''));
        cursor += usize::from(quote.is_some());
        let mut escaped = false;
        while let Some(c) = shown.get_mut(cursor) {
            if Some(*c) == quote && !escaped {
                break;
            }
            escaped = *c == '\\' && !escaped && quote == Some('"');
            *c = '*';
            cursor += 1;
        }
    }
    if let Some(end) = shown.iter().rposition(|c| *c == '@') {
        let before: Vec<char> = shown.iter().take(end).copied().collect();
        // A password may have slashes in it, so the last one is not always where the user begins.
        let start = before.windows(3).rposition(|three| three == [':', '/', '/']).map(|at| at + 3);
        let start = start.or_else(|| before.iter().rposition(|c| matches!(c, '/' | '"' | '\'')).map(|at| at + 1));
        let start = start.unwrap_or_default();
        for c in shown.iter_mut().take(end).skip(start) {
            *c = '*';
        }
    }
    mask_query(&mut shown);
    shown.into_iter().collect()
}

/// What stands behind '?' in a URL: it is where tokens are put.
fn mask_query(shown: &mut [char]) {
    let Some(url) = shown.windows(3).position(|three| three == [':', '/', '/']) else { return };
    let mut masking = false;
    for c in shown.iter_mut().skip(url) {
        match *c {
            '"' | '\'' | ' ' => masking = false,
            '?' => masking = true,
            _ if masking => *c = '*',
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_masked_wherever_it_stands() {
        let lines = [
            (r#"password = "hunter2""#, r#"password = "*******""#),
            (r#"tls = { password = 'hunter2', x = 1 }"#, r#"tls = { password = '*******', x = 1 }"#),
            (r#"password = "a\"b" # c"#, r#"password = "****" # c"#),
            (r#"password = hunter2"#, r#"password = *******"#),
            (r#"password_file = "/etc/x""#, r#"password_file = "/etc/x""#),
            (r#"url = "mqtt://me:hunter2@host""#, r#"url = "mqtt://**********@host""#),
            (r#"url = ["ws://h/a?token=x", "ws://h"]"#, r#"url = ["ws://h/a?*******", "ws://h"]"#),
            (r#"proxy = "http://u:hun/er2@host:1""#, r#"proxy = "http://*********@host:1""#),
        ];
        for (line, shown) in lines {
            assert_eq!(mask(line), shown);
        }
    }

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let places = Places::new("f".into(), "a = 1\r\nßß = \"x\"\n".into());
        let start = "a = 1\r\nßß = ".len();
        assert_eq!(
            places.at(start..start + 3),
            Place::File { file: "f".into(), line: 2, column: 6, width: 3, text: "ßß = \"x\"".into() }
        );
        let Place::File { line, column, .. } = places.at(9_999..10_000) else { panic!("a place in the file") };
        assert_eq!((line, column), (3, 1));
    }
}
