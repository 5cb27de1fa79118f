//! The floor of everything that is to survive a power cut: bytes appended to a file and synced, and nothing else.
//!
//! In: a folder, how many bytes at once, and for how long. Out: how often that went. It does what the writer of a log can't do
//! without: one `write` and one `fdatasync` for each group, to a file that grows.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::machine;

/// Groups a second, on one of `cores`; the file is gone afterwards.
pub(crate) fn groups_a_second(folder: &Path, cores: &[usize], bytes: usize, time: Duration) -> io::Result<f64> {
    std::thread::scope(|scope| {
        let loops = scope.spawn(|| {
            machine::pin(cores)?;
            append_and_sync(folder, bytes, time)
        });
        loops.join().unwrap_or_else(|_| Err(io::Error::other("the loop panicked")))
    })
}

fn append_and_sync(folder: &Path, bytes: usize, time: Duration) -> io::Result<f64> {
    let path = folder.join("bare");
    let mut file = File::create(&path)?;
    let group = vec![0x55; bytes.max(1)];
    let begin = Instant::now();
    let mut groups = 0_u64;
    while begin.elapsed() < time {
        file.write_all(&group)?;
        file.sync_data()?;
        groups += 1;
    }
    let elapsed = begin.elapsed();
    drop(file);
    fs::remove_file(path)?;
    Ok(groups as f64 / elapsed.as_secs_f64())
}
