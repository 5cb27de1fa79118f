//! The lines of `mosquitto.conf` and of the folders that it includes.
//!
//! In: the main file. Out: its directives in the order in which mosquitto reads them. Must never: include from an included
//! file, as mosquitto does not, which is what keeps this finite.

use std::borrow::Cow;

use crate::desk::Desk;
use crate::directive::Directive;
use crate::lines::{self, File, Grammar, Lines};
use crate::report::Place;
use crate::request::join;

/// All directives.
pub(super) fn read(desk: &mut Desk<'_>) -> Vec<Directive> {
    lines::read(desk, Grammar { content, take })
}

fn content(line: &str) -> Cow<'_, str> {
    let line = line.trim();
    if line.starts_with('#') { "".into() } else { line.into() }
}

fn take(lines: &mut Lines<'_, '_>, place: Place, line: &str, file: File) {
    let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let directive = Directive { place, name: name.to_owned(), value: value.trim().to_owned() };
    if name == "include_dir" && file == File::Main {
        include(lines, &directive);
    } else {
        lines.directives.push(directive);
    }
}

fn include(lines: &mut Lines<'_, '_>, directive: &Directive) {
    let folder = lines.reader.resolve(&directive.value);
    let names = match lines.reader.list(&folder) {
        Ok(names) => names,
        Err(why) => return lines.report.wrong(&directive.place, format!("include_dir {folder}: {why}")),
    };
    for name in names.iter().filter(|name| name.ends_with(".conf")) {
        let path = join(&folder, name);
        if let Err(why) = lines.include(&path) {
            lines.report.wrong(&directive.place, format!("{path}: {why}"));
        }
    }
}
