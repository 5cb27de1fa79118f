//! A folder in memory that fails as it is told to, and that remembers what a power cut would leave.
//!
//! In: the calls of a log, and a script of failures. Out: the same answers as a disk would give. Made for tests of this and of
//! other crates; it never touches a disk.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Files, Lock, LogFile};

/// What goes wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Bytes that all files together may have.
    pub disk_bytes: Option<u64>,
    /// Nothing can be changed.
    pub read_only: bool,
    /// Syncs fail, of files and of the folder.
    pub sync_fails: bool,
    /// A write takes at most so many bytes.
    pub short_write: Option<usize>,
    /// After so many further changes (writes, syncs, creations, removals) the power is gone: everything fails from then on.
    pub power_for: Option<u64>,
    /// Every other read and write is interrupted by a signal.
    pub interrupted: bool,
    /// In every file, bytes from here on can't be read.
    pub unreadable_from: Option<u64>,
}

/// A folder in memory.
#[derive(Clone, Default)]
pub struct FaultyFiles(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    /// By name; a file that is removed lives on for who has it open.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    contents: Vec<Content>,
    faults: Faults,
    locked: bool,
    syncs: u64,
    changes: u64,
    calls: u64,
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl FaultyFiles {
    /// From now on, this goes wrong.
    pub fn set(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// From now on, something else goes wrong too, or no longer.
    pub fn change(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.disk().faults);
    }

    /// The folder as it is found after the power was cut: what was synced. With `torn`, bytes appended since then
    /// have reached the disk as far as `torn` says of each file's name and its number of such bytes.
    #[must_use]
    pub fn after_power_cut(&self, mut torn: impl FnMut(&str, usize) -> usize) -> Self {
        let disk = self.disk();
        let mut found = Disk::default();
        for (name, number) in &disk.synced_names {
            let Some(content) = disk.contents.get(*number) else { continue };
            let mut bytes = content.synced.clone();
            let unsynced = content.now.get(bytes.len()..).unwrap_or_default();
            bytes.extend(unsynced.iter().take(torn(name, unsynced.len())));
            found.add(name, bytes);
        }
        Self(Arc::new(Mutex::new(found)))
    }

    /// The folder as another process would find it after this one is gone: everything that was written.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let disk = self.disk();
        let mut found = Disk::default();
        for (name, number) in &disk.names {
            found.add(name, disk.contents.get(*number).map(|content| content.now.clone()).unwrap_or_default());
        }
        Self(Arc::new(Mutex::new(found)))
    }

    /// The bytes of a file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        let number = disk.names.get(name)?;
        Some(disk.contents.get(*number)?.now.clone())
    }

    /// Puts a file there, synced.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.disk().add(name, bytes);
    }

    /// Syncs of files that succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// Writes, syncs, creations and removals so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.disk().changes
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        let number = self.contents.len();
        self.contents.push(Content { now: bytes.clone(), synced: bytes });
        self.names.insert(name.to_owned(), number);
        self.synced_names.insert(name.to_owned(), number);
    }

    /// Whether a change may happen.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.faults.power_for {
            Some(0) => return Err(io::Error::other("the power is gone")),
            Some(left) => *left -= 1,
            None => {}
        }
        if self.faults.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        self.changes += 1;
        Ok(())
    }

    fn interrupt(&mut self) -> io::Result<()> {
        self.calls += 1;
        if self.faults.interrupted && self.calls.is_multiple_of(2) {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|number| self.contents.get(*number))
            .map(|content| content.now.len() as u64)
            .sum()
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Files for FaultyFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut disk = self.disk();
        disk.change()?;
        if disk.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let number = disk.contents.len();
        disk.contents.push(Content::default());
        disk.names.insert(name.to_owned(), number);
        Ok(Arc::new(FaultyFile { files: self.clone(), number }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let number = self.disk().find(name)?;
        Ok(Arc::new(FaultyFile { files: self.clone(), number }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        disk.find(name)?;
        disk.names.remove(name);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change()?;
        if disk.faults.sync_fails {
            return Err(io::Error::other("the sync failed"));
        }
        disk.synced_names = disk.names.clone();
        Ok(())
    }

    fn free_space(&self) -> io::Result<u64> {
        let disk = self.disk();
        Ok(disk.faults.disk_bytes.map_or(u64::MAX, |bytes| bytes.saturating_sub(disk.used())))
    }

    fn lock(&self) -> io::Result<Lock> {
        let mut disk = self.disk();
        if disk.locked {
            return Ok(Lock::Other(Some(1)));
        }
        disk.locked = true;
        Ok(Lock::Held(Box::new(Unlock(self.clone()))))
    }

    fn look(&self) -> io::Result<Lock> {
        Ok(if self.disk().locked { Lock::Other(Some(1)) } else { Lock::Held(Box::new(())) })
    }
}

struct Unlock(FaultyFiles);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.disk().locked = false;
    }
}

struct FaultyFile {
    files: FaultyFiles,
    number: usize,
}

impl LogFile for FaultyFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut disk = self.files.disk();
        disk.interrupt()?;
        disk.change()?;
        let mut length = disk.faults.short_write.map_or(bytes.len(), |most| most.min(bytes.len()));
        if let Some(all) = disk.faults.disk_bytes {
            let left = usize::try_from(all.saturating_sub(disk.used())).unwrap_or(usize::MAX);
            if left == 0 && length > 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            length = length.min(left);
        }
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let content = disk.contents.get_mut(self.number).ok_or(ErrorKind::NotFound)?;
        let end = offset + length;
        if content.now.len() < end {
            content.now.resize(end, 0);
        }
        if let (Some(to), Some(from)) = (content.now.get_mut(offset..end), bytes.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.files.disk();
        disk.interrupt()?;
        if disk.faults.unreadable_from.is_some_and(|from| offset + bytes.len() as u64 > from) {
            return Err(io::Error::other("a bad block"));
        }
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let content = disk.contents.get(self.number).ok_or(ErrorKind::NotFound)?;
        let from = content.now.get(offset..).unwrap_or_default();
        let length = from.len().min(bytes.len());
        if let (Some(to), Some(from)) = (bytes.get_mut(..length), from.get(..length)) {
            to.copy_from_slice(from);
        }
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.change()?;
        if disk.faults.sync_fails {
            return Err(io::Error::other("the sync failed"));
        }
        disk.syncs += 1;
        let content = disk.contents.get_mut(self.number).ok_or(ErrorKind::NotFound)?;
        content.synced.clone_from(&content.now);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.files.disk().contents.get(self.number).map_or(0, |content| content.now.len() as u64))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.change()?;
        let content = disk.contents.get_mut(self.number).ok_or(ErrorKind::NotFound)?;
        content.now.truncate(usize::try_from(size).map_err(io::Error::other)?);
        Ok(())
    }
}
