//! Where the binary under test is, and that it is built from what is checked out.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the `viaduct` binary: `VIADUCT_BIN` if that is set, otherwise the one that cargo builds beside the tests,
/// once per test run.
///
/// # Panics
/// When it can't be built.
pub fn viaduct() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("VIADUCT_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "VIADUCT_BIN names {path:?}, which is no file");
            path
        }
        None => build(),
    })
}

/// Tests may be processes of their own (nextest), so the first one builds and leaves the name of the run behind.
fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let profile = test.ancestors().nth(2).unwrap();
    let target = profile.parent().unwrap();
    let path = profile.join("viaduct");
    let mut lock = lock(&profile.join("viaduct-tests.lock"));
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| format!("process {}", std::process::id()));
    let mut built = String::new();
    lock.read_to_string(&mut built).unwrap();
    if built == run && path.is_file() {
        return path;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "viaduct", "--target-dir"]).arg(target);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(name) => {
            cargo.args(["--profile", name]);
        }
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "viaduct does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    lock.set_len(0).unwrap();
    lock.seek(SeekFrom::Start(0)).unwrap();
    lock.write_all(run.as_bytes()).unwrap();
    path
}

fn lock(path: &Path) -> File {
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).unwrap();
    file.lock().unwrap();
    file
}
