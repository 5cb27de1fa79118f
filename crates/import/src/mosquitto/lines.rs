//! The lines of `mosquitto.conf` and of the folders that it includes.
//!
//! In: the main file. Out: its directives in the order in which mosquitto reads them. Must never: include from an included
//! file, as mosquitto does not, which is what keeps this finite.

use std::sync::Arc;

use crate::desk::Desk;
use crate::directive::{DIRECTIVES, Directive, is_text};
use crate::report::{Place, Report};
use crate::request::{Reader, join};

/// All directives.
pub(super) fn read(desk: &mut Desk<'_>) -> Vec<Directive> {
    let Desk { request, reader, report, .. } = desk;
    let mut directives = Vec::new();
    let place = Place { file: request.file.into(), line: 0 };
    match reader.read(request.file) {
        Ok(text) => split(request.file, &text, true, reader, report, &mut directives),
        Err(why) => report.wrong(&place, why),
    }
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
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = Place { file: Arc::clone(&file), line: index + 1 };
        if directives.len() >= DIRECTIVES {
            return report.wrong(&place, format!("more than {DIRECTIVES} settings"));
        }
        if !is_text(line) {
            report.wrong(&place, "it has a control character in it");
            continue;
        }
        let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let directive = Directive { place, name: name.to_owned(), value: value.trim().to_owned() };
        if name == "include_dir" && is_main {
            include(&directive, reader, report, directives);
        } else {
            directives.push(directive);
        }
    }
}

fn include(directive: &Directive, reader: &mut Reader<'_>, report: &mut Report, directives: &mut Vec<Directive>) {
    let folder = reader.resolve(&directive.value);
    let names = match reader.list(&folder) {
        Ok(names) => names,
        Err(why) => return report.wrong(&directive.place, format!("include_dir {folder}: {why}")),
    };
    for name in names.iter().filter(|name| name.ends_with(".conf")) {
        let path = join(&folder, name);
        match reader.read(&path) {
            Ok(text) => split(&path, &text, false, reader, report, directives),
            Err(why) => report.wrong(&directive.place, format!("{path}: {why}")),
        }
    }
}
