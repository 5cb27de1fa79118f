//! How far the newest segment reached when the log was ended in good order: what damage to its last frames is told by.
//!
//! In: the segment that was written and its end, once all of it is safe. Out: the same at the next start, as an offset before which
//! nothing can be an unfinished write. Nothing that is written later makes it wrong: a segment grows behind its end and is cut only
//! there. So it need not be taken back before the next write, and without it the ends are what they are after a crash.

use std::io;

use super::files::Files;
use super::span::{note, noted};
use super::wire::In;

/// The name of the file.
const NAME: &str = "END";

/// Everything before this offset of this segment was whole and safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// That of the store, so that it says nothing about another.
    pub(super) salt: u64,
    pub(super) segment: u32,
    pub(super) offset: u64,
}

impl End {
    /// Notes it so that a power cut does not take it back. The segment has to be safe before.
    ///
    /// # Errors
    /// It may not be noted. What is found at the next start is this, what was noted before, or nothing.
    pub(super) fn note(self, files: &dyn Files) -> io::Result<()> {
        if Self::noted(files) == Some(self) {
            return Ok(());
        }
        let mut bytes = self.salt.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        note(files, NAME, bytes, true)
    }

    /// What was noted, if it ever was and can be read.
    pub(super) fn noted(files: &dyn Files) -> Option<Self> {
        let bytes = noted(files, NAME, 20)?;
        let mut input = In(&bytes);
        Some(Self { salt: input.u64()?, segment: input.u32()?, offset: input.u64()? })
    }
}
