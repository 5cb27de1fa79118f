//! The lines of `vernemq.conf` and of the files that it includes.
//!
//! In: the main file. Out: its keys, each with the last value that it is given, which is the one that holds. Must never:
//! include from an included file, which keeps this finite.

use std::collections::HashMap;
use std::sync::Arc;

use crate::desk::Desk;
use crate::directive::{DIRECTIVES, Directive, is_text};
use crate::report::{Place, Report};
use crate::request::{Reader, folder_of, join};

/// All keys, in the order of the files.
pub(super) fn read(desk: &mut Desk<'_>) -> Vec<Directive> {
    let Desk { request, reader, report, .. } = desk;
    let mut directives = Vec::new();
    match reader.read(request.file) {
        Ok(text) => split(request.file, &text, true, reader, report, &mut directives),
        Err(why) => report.wrong(&Place { file: request.file.into(), line: 0 }, why),
    }
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

fn split(
    file: &str,
    text: &str,
    is_main: bool,
    reader: &mut Reader<'_>,
    report: &mut Report,
    directives: &mut Vec<Directive>,
) {
    let file: Arc<str> = file.into();
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line);
        if line.is_empty() {
            continue;
        }
        let place = Place { file: Arc::clone(&file), line: index + 1 };
        if directives.len() >= DIRECTIVES {
            return report.wrong(&place, format!("more than {DIRECTIVES} settings"));
        }
        if !is_text(&line) {
            report.wrong(&place, "it has a control character in it");
            continue;
        }
        match line.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let value = value.trim();
                let bare = value.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')).unwrap_or(value);
                directives.push(Directive { place, name: key.trim().to_owned(), value: bare.to_owned() });
            }
            _ => match line.strip_prefix("include ") {
                Some(pattern) if is_main => include(&place, pattern.trim(), &file, reader, report, directives),
                Some(_) => {
                    let advice = "put its lines into the main file";
                    report.note(&place, "include", "an included file includes another", Some(advice.to_owned()));
                }
                None => report.wrong(&place, "expected key = value, or include FILES"),
            },
        }
    }
}

/// What stands before a `#`; `\#` is one.
fn without_comment(line: &str) -> String {
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
    kept.trim().to_owned()
}

/// The files that fit `folder/*.conf`, or the one that is named.
fn include(
    place: &Place,
    pattern: &str,
    main: &str,
    reader: &mut Reader<'_>,
    report: &mut Report,
    directives: &mut Vec<Directive>,
) {
    let pattern = if pattern.starts_with('/') { pattern.to_owned() } else { join(folder_of(main), pattern) };
    let folder = folder_of(&pattern);
    let wanted = pattern.get(folder.len()..).unwrap_or_default();
    let Some((beginning, end)) = wanted.split_once('*') else {
        match reader.read(&pattern) {
            Ok(text) => split(&pattern, &text, false, reader, report, directives),
            Err(why) => report.wrong(place, format!("include {pattern}: {why}")),
        }
        return;
    };
    // A folder that is not there has nothing in it, as in what VerneMQ ships.
    let listed = if folder.is_empty() { "." } else { folder };
    for name in reader.list(listed).unwrap_or_default() {
        let fits = name.len() >= wanted.len() - 1 && name.starts_with(beginning) && name.ends_with(end);
        if !fits {
            continue;
        }
        let path = join(folder, &name);
        match reader.read(&path) {
            Ok(text) => split(&path, &text, false, reader, report, directives),
            Err(why) => report.wrong(place, format!("include {path}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_begins_anywhere() {
        assert_eq!(without_comment("a = b # c"), "a = b");
        assert_eq!(without_comment("## all"), "");
        assert_eq!(without_comment("a = b\\#c # d"), "a = b#c");
        assert_eq!(without_comment("  a = * both "), "a = * both");
    }
}
