//! The number of the newest segment, noted beside the segments: what the last file is missed by.
//!
//! In: a number, once its segment is safe. Out: that number at the next start. Every other segment is known by its successor, so
//! nothing but the last file depends on this, and what can't be noted or read is no failure.

use std::io::{self, ErrorKind};

use super::files::{Files, read_up_to, write_all};
use super::wire::In;

/// The name of the file.
pub(super) const LAST: &str = "LAST";

/// Notes that segment `number` was begun and, when `is_safe`, is safe: it is there from now on, whatever happens.
pub(super) fn note(files: &dyn Files, number: u32, is_safe: bool) {
    if let Err(error) = write(files, number, is_safe) {
        tracing::debug!(number, %error, "the number of the newest segment could not be noted");
    }
}

fn write(files: &dyn Files, number: u32, is_safe: bool) -> io::Result<()> {
    let (file, is_new) = match files.open(LAST) {
        Err(error) if error.kind() == ErrorKind::NotFound => (files.create(LAST)?, true),
        opened => (opened?, false),
    };
    let number = number.to_le_bytes();
    write_all(&*file, 0, &[number, crc32c::crc32c(&number).to_le_bytes()].concat())?;
    if is_safe {
        file.sync()?;
    }
    if is_new && is_safe {
        files.sync_dir()?;
    }
    Ok(())
}

/// The segment that was begun last, if that was ever noted and can be read.
pub(super) fn noted(files: &dyn Files) -> Option<u32> {
    let file = files.open(LAST).ok()?;
    let mut bytes = Vec::new();
    read_up_to(&*file, 0, 8, &mut bytes).ok()?;
    let mut input = In(&bytes);
    let (number, checksum) = (input.u32()?, input.u32()?);
    (crc32c::crc32c(&number.to_le_bytes()) == checksum).then_some(number)
}
