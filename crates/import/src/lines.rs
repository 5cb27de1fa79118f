//! The lines of a configuration and of the files that it includes, as both brokers have them: a setting to a line.
//!
//! In: the main file, and what the broker makes of a line. Out: settings in the order of the lines, and what is wrong with
//! others. Must never: take more than [`DIRECTIVES`], or what is no text.

use std::borrow::Cow;
use std::sync::Arc;

use crate::desk::Desk;
use crate::directive::{DIRECTIVES, Directive, is_text};
use crate::report::{Place, Report};
use crate::request::Reader;

/// How a broker writes its configuration.
#[derive(Clone, Copy)]
pub(crate) struct Grammar {
    /// What of a line counts: nothing of one that is a comment.
    pub(crate) content: fn(&str) -> Cow<'_, str>,
    /// Takes a line of which something counts, in the main file or in one that it includes.
    pub(crate) take: fn(&mut Lines<'_, '_>, Place, &str, File),
}

/// Which file a line stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Main,
    Included,
}

/// What is read so far.
pub(crate) struct Lines<'desk, 'files> {
    pub(crate) reader: &'desk mut Reader<'files>,
    pub(crate) report: &'desk mut Report,
    pub(crate) directives: Vec<Directive>,
    grammar: Grammar,
}

/// The settings of the main file and of those that it includes.
pub(crate) fn read(desk: &mut Desk<'_>, grammar: Grammar) -> Vec<Directive> {
    let Desk { request, reader, report, .. } = desk;
    let mut lines = Lines { reader, report, directives: Vec::new(), grammar };
    if let Err(why) = lines.split(request.file, File::Main) {
        lines.report.wrong(&Place { file: request.file.into(), line: 0 }, why);
    }
    lines.directives
}

impl Lines<'_, '_> {
    /// Goes through an included file.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(crate) fn include(&mut self, path: &str) -> Result<(), String> {
        self.split(path, File::Included)
    }

    fn split(&mut self, path: &str, which: File) -> Result<(), String> {
        let text = self.reader.read(path)?;
        let file: Arc<str> = path.into();
        let Grammar { content, take } = self.grammar;
        for (index, line) in text.lines().enumerate() {
            let line = content(line);
            if line.is_empty() {
                continue;
            }
            let place = Place { file: Arc::clone(&file), line: index + 1 };
            if self.directives.len() >= DIRECTIVES {
                self.report.wrong(&place, format!("more than {DIRECTIVES} settings"));
                break;
            }
            if is_text(&line) {
                take(self, place, &line, which);
            } else {
                self.report.wrong(&place, "it has a control character in it");
            }
        }
        Ok(())
    }
}
