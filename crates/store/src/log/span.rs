//! The numbers of the oldest and the newest segment, noted beside the segments: what the files at the ends are missed by.
//!
//! In: two numbers, the newest once it is safe and the oldest before the one in front of it goes. Out: those numbers at the next start.
//! Every other segment is known by its successor, so nothing but the ends depends on this.

use std::io::{self, ErrorKind, IoSlice};

use super::files::{Files, read_up_to, write_all};
use super::wire::In;

/// The name of the file.
pub(super) const NAME: &str = "SEGMENTS";

/// Which segments have to be there at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Span {
    /// Notes it, and when `is_safe` so that a power cut does not take it back.
    ///
    /// # Errors
    /// It may not be noted. What is found at the next start is this or what was noted before.
    pub(super) fn note(self, files: &dyn Files, is_safe: bool) -> io::Result<()> {
        note(files, NAME, [self.first.to_le_bytes(), self.last.to_le_bytes()].concat(), is_safe)
    }

    /// Says nothing any more about what has to be there.
    ///
    /// # Errors
    /// The disk does not allow it.
    pub(super) fn forget(files: &dyn Files) -> io::Result<()> {
        match files.remove(NAME) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => files.sync_dir(),
        }
    }

    /// What was noted, if it ever was and can be read.
    pub(super) fn noted(files: &dyn Files) -> Option<Self> {
        let bytes = noted(files, NAME, 8)?;
        let mut input = In(&bytes);
        Some(Self { first: input.u32()?, last: input.u32()? })
    }
}

/// Writes `bytes` and their checksum over what the file had before.
pub(super) fn note(files: &dyn Files, name: &str, mut bytes: Vec<u8>, is_safe: bool) -> io::Result<()> {
    let (file, is_new) = match files.open(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => (files.create(name)?, true),
        opened => (opened?, false),
    };
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    write_all(&*file, 0, &mut [IoSlice::new(&bytes)])?;
    if is_safe {
        file.sync()?;
    }
    if is_new && is_safe {
        files.sync_dir()?;
    }
    Ok(())
}

/// The `length` bytes that were noted, if they are there and are what was written.
pub(super) fn noted(files: &dyn Files, name: &str, length: usize) -> Option<Vec<u8>> {
    let file = files.open(name).ok()?;
    let mut bytes = Vec::new();
    read_up_to(&*file, 0, length + 4, &mut bytes).ok()?;
    let checksum = In(bytes.get(length..)?).u32()?;
    bytes.truncate(length);
    (crc32c::crc32c(&bytes) == checksum).then_some(bytes)
}
