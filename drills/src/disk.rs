//! A file system of its own that can run full, and be taken away as a power cut takes it.
//!
//! In: a folder, a size. Out: an ext4 file system in a file, mounted below the folder. Everything is done by programs of the
//! system (util-linux, e2fsprogs, xfsprogs), so that no system call of ours needs `unsafe`. Must never: leave anything
//! mounted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long others may hold what is to be unmounted.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mounted file system in a file.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
    is_mounted: bool,
}

/// Why there is no disk.
#[derive(Debug)]
pub(crate) struct NoDisk(pub(crate) String);

impl Disk {
    /// Makes one and mounts it.
    ///
    /// # Errors
    /// This is not root, a program is missing, or the system does not mount: the drill can't run here.
    pub(crate) fn new(folder: &Path, bytes: u64) -> Result<Self, NoDisk> {
        let failed = |what: &str, error: &dyn std::fmt::Display| NoDisk(format!("{what}: {error}"));
        if !rustix::process::geteuid().is_root() {
            return Err(NoDisk("only root may mount a file system".to_owned()));
        }
        let (image, mount) = (folder.join("disk.img"), folder.join("disk"));
        std::fs::create_dir_all(&mount).map_err(|error| failed("the mount point", &error))?;
        let file = File::create(&image).map_err(|error| failed("the image", &error))?;
        file.set_len(bytes).map_err(|error| failed("the image", &error))?;
        // No blocks reserved for root, who the broker is here: full has to mean full.
        let make = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).stdin(Stdio::null()).output();
        said("mkfs.ext4 (Debian: e2fsprogs)", make).map_err(NoDisk)?;
        let version = Command::new("xfs_io").arg("-V").output();
        said("xfs_io (Debian: xfsprogs)", version).map_err(NoDisk)?;
        let mut disk = Self { image, mount, is_mounted: false };
        disk.attach().map_err(NoDisk)?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts it, which replays its journal.
    ///
    /// # Errors
    /// What `mount` says.
    pub(crate) fn attach(&mut self) -> Result<(), String> {
        said("mount", Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount).output())?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it; what still holds it is given a moment to let go.
    ///
    /// # Errors
    /// What `umount` says, or that another mount namespace has it: it would be the same file system when it is mounted again, cut power
    /// included.
    pub(crate) fn detach(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while let Err(error) = self.let_go() {
            if began.elapsed() > PATIENCE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn let_go(&mut self) -> Result<(), String> {
        if self.is_mounted {
            said("umount", Command::new("umount").arg(&self.mount).output())?;
            self.is_mounted = false;
        }
        // The loop device goes with the last mount.
        let devices = Command::new("losetup").arg("--associated").arg(&self.image).output();
        match devices.map_err(|error| format!("losetup (Debian: mount): {error}"))?.stdout {
            none if none.is_empty() => Ok(()),
            some => Err(format!("a process with mounts of its own holds {}", String::from_utf8_lossy(&some).trim())),
        }
    }

    /// Shuts it down without writing anything back, its journal neither: what was not synced is gone.
    ///
    /// # Errors
    /// What `xfs_io` says.
    pub(crate) fn cut_power(&self) -> Result<(), String> {
        // Without -f the log is not flushed. The ioctl is the same for ext4 as for XFS.
        said("xfs_io", Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mount).output())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("{error}: {} is still mounted", self.mount.display());
        }
    }
}

fn said(what: &str, output: std::io::Result<std::process::Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small_in(folder: &Path) -> Option<Disk> {
        Disk::new(folder, 32 << 20).inspect_err(|why| eprintln!("SKIPPED: {}", why.0)).ok()
    }

    #[test]
    fn what_was_not_synced_is_gone_after_a_power_cut_and_what_was_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(mut disk) = small_in(folder.path()) else { return };
        let (synced, not_synced) = (disk.path().join("synced"), disk.path().join("not-synced"));
        for path in [&synced, &not_synced] {
            std::fs::write(path, b"before").unwrap();
            File::open(path).unwrap().sync_all().unwrap();
        }
        File::open(disk.path()).unwrap().sync_all().unwrap();
        let append = |path| {
            use std::io::Write;
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b" and after").unwrap();
            file
        };
        drop(append(&not_synced));
        append(&synced).sync_data().unwrap();
        disk.cut_power().unwrap();
        assert!(std::fs::write(disk.path().join("later"), b"x").is_err(), "a disk without power takes nothing");
        disk.detach().unwrap();
        disk.attach().unwrap();
        assert_eq!(std::fs::read(&synced).unwrap(), b"before and after");
        // The new length may have come to the disk with the other file's; then there are zeros.
        assert_eq!(std::fs::read(&not_synced).unwrap().trim_ascii_end().strip_suffix(b"after"), None);
    }

    #[test]
    fn a_disk_that_another_mount_namespace_has_is_not_given_back_before_that_lets_it_go() {
        use std::io::Read;
        let folder = tempfile::tempdir().expect("a folder");
        let Some(mut disk) = small_in(folder.path()) else { return };
        let holds = ["--mount", "--propagation", "private", "sh", "-c", "echo; read line"];
        let mut other =
            Command::new("unshare").args(holds).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        other.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        disk.cut_power().unwrap();
        let error = disk.let_go().unwrap_err();
        assert!(error.starts_with("a process with mounts of its own holds /dev/loop"), "{error}");
        drop(other.stdin.take());
        other.wait().unwrap();
        disk.detach().unwrap();
        disk.attach().unwrap();
        std::fs::write(disk.path().join("later"), b"x").unwrap();
    }
}
