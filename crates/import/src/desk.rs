//! What an import works at: where it reads, where it writes, and what it says.

use crate::SideFile;
use crate::output::Output;
use crate::report::Report;
use crate::request::{Files, Reader, Request};

/// One import.
pub(crate) struct Desk<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) reader: Reader<'a>,
    pub(crate) report: Report,
    pub(crate) output: Output,
    pub(crate) files: Vec<SideFile>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(request: &Request<'a>, files: &'a mut dyn Files) -> Self {
        Self {
            request: *request,
            reader: Reader::new(request, files),
            report: Report::default(),
            output: Output::default(),
            files: Vec::new(),
        }
    }
}
