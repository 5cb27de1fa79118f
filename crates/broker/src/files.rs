//! Small files that the operator names: read whole, with a bound, and where it matters on a thread that may hang.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::limits::{FILE_BYTES, FILE_READERS};

/// Threads of [`apart`] at a time.
static READERS: Semaphore = Semaphore::const_new(FILE_READERS);

thread_local! {
    /// Where this thread notes which file it reads, for whoever waits for it.
    static READING: RefCell<Option<Arc<Mutex<Option<PathBuf>>>>> = const { RefCell::new(None) };
}

/// Does `work`, which reads files, on a thread of its own, and waits for it at most so long: a network file system that does
/// not answer keeps that thread and nobody else. What comes of `work` after that is thrown away.
///
/// # Errors
/// It took too long; the words name the file that was being read.
pub(crate) async fn apart<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let reading: Arc<Mutex<Option<PathBuf>>> = Arc::default();
    let deadline = Instant::now() + within;
    let too_long = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {within:?}"));
    let Ok(Ok(permit)) = timeout_at(deadline, READERS.acquire()).await else {
        return Err(too_long(
            "files that were to be read earlier are still not read, and there was no turn for others",
        ));
    };
    let noted = Arc::clone(&reading);
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        READING.set(Some(noted));
        let result = work();
        READING.set(None);
        result
    });
    match timeout_at(deadline, task).await {
        Ok(result) => result.map_err(io::Error::other),
        Err(_) => {
            let path = reading.lock().clone();
            let name = path.map_or_else(|| "the configuration".to_owned(), |path| path.display().to_string());
            Err(too_long(&format!("{name}: the file system does not give it")))
        }
    }
}

/// Reads a file of at most [`FILE_BYTES`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let note = |path: Option<PathBuf>| {
        READING.with_borrow(|reading| {
            if let Some(reading) = reading {
                *reading.lock() = path;
            }
        });
    };
    note(Some(path.to_owned()));
    let result = read_whole(path);
    note(None);
    result
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe lasts until somebody writes to it, and everybody would wait for that.
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// As [`read`], for text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        io::Error::other(format!("line {line} is not valid UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_file_is_told_its_name_and_waits_no_longer() {
        assert_eq!(apart(Duration::from_secs(60), || 7).await.unwrap(), 7);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hang = move || {
            READING.with_borrow(|reading| *reading.as_ref().unwrap().lock() = Some("/mnt/nfs/hub.key".into()));
            let _ = held.recv();
        };
        let error = apart(Duration::from_millis(50), hang).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().starts_with("/mnt/nfs/hub.key: "), "{error}");
        // The next one has a thread of its own.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let read_here =
            move || (read(&path).unwrap(), READING.with_borrow(|reading| reading.as_ref().unwrap().lock().clone()));
        assert_eq!(apart(Duration::from_secs(60), read_here).await.unwrap(), (b"text".to_vec(), None));
        drop(release);
    }

    #[test]
    fn only_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let why = |path: &Path| read(path).unwrap_err().to_string();
        assert_eq!(why(folder.path()), "it is a directory");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(why(&socket), "it is no regular file");
        assert_eq!(why(Path::new("/dev/zero")), "it is no regular file");
    }
}
