//! The only room that names the disk: a folder of files behind a narrow door.
//!
//! In: names without a folder, offsets, bytes. Out: bytes, and whether the disk took them. Decides nothing: what a failure means
//! is the log's matter.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice, Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

/// The folder of a store.
pub trait Files: Send + Sync {
    /// Names of everything in it.
    ///
    /// # Errors
    /// The folder can't be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new and empty file; an old one of that name is an error.
    ///
    /// # Errors
    /// It is there already, or the disk does not take it.
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// A file that is there, for reading and, unless the whole folder is read only, for writing.
    ///
    /// # Errors
    /// It is not there or can't be opened.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;

    /// Removes a file.
    ///
    /// # Errors
    /// It is not there, or the disk does not allow it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns once creations and removals are safe.
    ///
    /// # Errors
    /// They may not be.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that this program may still write here.
    ///
    /// # Errors
    /// The file system does not say.
    fn free_space(&self) -> io::Result<u64>;

    /// Takes the folder for this process until the value is dropped.
    ///
    /// # Errors
    /// It can't be locked, or the folder can't be made.
    fn lock(&self) -> io::Result<Lock>;

    /// Sees to it that no other process writes here until the value is dropped, and changes nothing for that: a folder that nobody
    /// ever locked needs no lock.
    ///
    /// # Errors
    /// The lock can't be looked at.
    fn look(&self) -> io::Result<Lock>;
}

/// One file of the store.
pub trait LogFile: Send + Sync {
    /// Writes from the front of `parts`, which stand behind each other, and says how many bytes.
    ///
    /// # Errors
    /// The disk did not take them.
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Reads into `bytes` and says how many; 0 at the end.
    ///
    /// # Errors
    /// The disk did not give them.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Returns once everything written is safe.
    ///
    /// # Errors
    /// It may not be, and asking again proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Bytes in it.
    ///
    /// # Errors
    /// The disk does not say.
    fn size(&self) -> io::Result<u64>;

    /// Cuts what is behind `size`.
    ///
    /// # Errors
    /// The disk does not allow it.
    fn truncate(&self, size: u64) -> io::Result<()>;
}

/// Who has the folder.
pub enum Lock {
    /// This process, as long as the value lives.
    Held(Box<dyn Send + Sync>),
    /// Another; with its process number when it left one.
    Other(Option<u32>),
}

/// Writes all of `parts`, one behind the other.
///
/// # Errors
/// The disk did not take them all; some may be written.
pub(super) fn write_all(file: &dyn LogFile, mut offset: u64, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Also leaves out what is empty at the front.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match file.write_at(offset, parts) {
            Ok(0) => return Err(io::Error::new(ErrorKind::WriteZero, "the disk took nothing")),
            Ok(written) => {
                IoSlice::advance_slices(&mut parts, written);
                offset += written as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends up to `length` bytes at `offset` to `out`, fewer only at the end of the file.
///
/// # Errors
/// The disk did not give them.
pub(super) fn read_up_to(file: &dyn LogFile, offset: u64, length: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + length, 0);
    let mut done = 0;
    while done < length {
        match file.read_at(offset + done as u64, out.get_mut(start + done..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                out.truncate(start);
                return Err(error);
            }
        }
    }
    out.truncate(start + done);
    Ok(())
}

/// A folder on a disk.
#[derive(Debug)]
pub struct DiskFiles {
    folder: PathBuf,
}

/// What nobody but the broker's user may read: payloads are in it.
const MODE: u32 = 0o600;
/// The file that is locked, and names the process.
pub(super) const LOCK: &str = "LOCK";

impl DiskFiles {
    /// The files of `folder`, which is made when it is locked.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A new folder must be found again after a power cut.
    fn make_folder(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        self.folder
            .ancestors()
            .skip(1)
            .take(2)
            .filter(|above| above.is_dir())
            .try_for_each(|above| File::open(above)?.sync_all())
    }
}

impl Files for DiskFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(self.path(name))?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let path = self.path(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                File::open(&path)?
            }
            opened => opened?,
        };
        Ok(Arc::new(DiskFile(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn free_space(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn lock(&self) -> io::Result<Lock> {
        self.make_folder()?;
        let path = self.path(LOCK);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Lock::Other(holder(file))),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // For people only; the lock itself is what counts, so a full disk does not matter.
        let named =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = named {
            tracing::debug!(%error, "the process number could not be written beside the lock");
        }
        Ok(Lock::Held(Box::new(file)))
    }

    fn look(&self) -> io::Result<Lock> {
        let file = match File::open(self.path(LOCK)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Lock::Held(Box::new(()))),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Lock::Held(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(Lock::Other(holder(file))),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The process that wrote its number into the lock.
fn holder(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

struct DiskFile(File);

impl LogFile for DiskFile {
    fn write_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, parts, offset)?)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.0, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }
}
