//! The lines of `vernemq.conf` and of the files that it includes.
//!
//! In: the main file. Out: its keys, each with the last value that it is given, which is the one that holds. Must never:
//! include from an included file, which keeps this finite.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::desk::Desk;
use crate::directive::Directive;
use crate::lines::{self, File, Grammar, Lines};
use crate::report::Place;
use crate::request::{folder_of, join};

/// All keys, in the order of the files.
pub(super) fn read(desk: &mut Desk<'_>) -> Vec<Directive> {
    let mut directives = lines::read(desk, Grammar { content, take });
    let mut last: HashMap<String, usize> = HashMap::new();
    for (index, directive) in directives.iter().enumerate() {
        last.insert(directive.name.clone(), index);
    }
    let mut index = 0;
    directives.retain(|directive| {
        index += 1;
        last.get(&directive.name).is_some_and(|last| last + 1 == index)
    });
    directives
}

fn take(lines: &mut Lines<'_, '_>, place: Place, line: &str, file: File) {
    match line.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            let value = value.trim();
            let bare = value.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')).unwrap_or(value);
            lines.directives.push(Directive { place, name: key.trim().to_owned(), value: bare.to_owned() });
        }
        _ => match line.strip_prefix("include ") {
            Some(pattern) if file == File::Main => include(lines, &place, pattern.trim()),
            Some(_) => {
                let advice = "put its lines into the main file";
                lines.report.note(&place, "include", "an included file includes another", Some(advice.to_owned()));
            }
            None => lines.report.wrong(&place, "expected key = value, or include FILES"),
        },
    }
}

/// What stands before a `#`; `\#` is one.
fn content(line: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let mut before = ' ';
    for character in line.chars() {
        if character == '#' {
            if before != '\\' {
                break;
            }
            kept.pop();
        }
        kept.push(character);
        before = character;
    }
    kept.trim().to_owned().into()
}

/// The files that fit `folder/*.conf`, or the one that is named.
fn include(lines: &mut Lines<'_, '_>, place: &Place, pattern: &str) {
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { join(folder_of(&place.file), pattern) };
    let folder = folder_of(&pattern);
    let wanted = pattern.get(folder.len()..).unwrap_or_default();
    let Some((beginning, end)) = wanted.split_once('*') else { return include_one(lines, place, &pattern) };
    // A folder that is not there has nothing in it, as in what VerneMQ ships.
    let listed = if folder.is_empty() { "." } else { folder };
    for name in lines.reader.list(listed).unwrap_or_default() {
        let fits = name.len() >= wanted.len() - 1 && name.starts_with(beginning) && name.ends_with(end);
        if fits {
            include_one(lines, place, &join(folder, &name));
        }
    }
}

fn include_one(lines: &mut Lines<'_, '_>, place: &Place, path: &str) {
    if let Err(why) = lines.include(path) {
        lines.report.wrong(place, format!("include {path}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_begins_anywhere() {
        assert_eq!(content("a = b # c"), "a = b");
        assert_eq!(content("## all"), "");
        assert_eq!(content("a = b\\#c # d"), "a = b#c");
        assert_eq!(content("  a = * both "), "a = * both");
    }
}
