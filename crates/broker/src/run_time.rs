//! The file in which what was said at run time survives a restart.
//!
//! In: a configuration's source, and what was said. Out: the configuration with it; the file. It holds passwords, so nobody
//! but its owner may read it. Must never: leave half a file behind, or one that a power cut takes away again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use viaduct_config::{Config, Errors, Loaded, RunTime, Source, load};

/// Its name in `node.data_dir`.
const FILE: &str = "bridges.toml";

/// A configuration, with what was said at run time, and all that it was made of.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// What it was made of.
    pub source: Source,
    /// What it means.
    pub loaded: Loaded,
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] Errors),
    /// What was said at run time can't be read.
    #[error("{}: {why}; it keeps what was said about bridges at run time, and without the file that is forgotten", path.display())]
    RunTime {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        why: String,
    },
}

impl Configuration {
    /// Reads what `source` says, adding what an earlier broker in the same `node.data_dir` was told at run time.
    ///
    /// # Errors
    /// The configuration is wrong, by itself or with what was added, or that can't be read.
    pub fn read(mut source: Source) -> Result<Self, ConfigurationError> {
        source.run_time = RunTime::default();
        let loaded = load(source.clone())?;
        let path = path(&loaded.config);
        let failed = |why: String| ConfigurationError::RunTime { path: path.clone(), why };
        match crate::files::read_text(&path) {
            Ok(text) => source.run_time = RunTime::parse(&text).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let loaded = load(source.clone())?;
        Ok(Self { source, loaded })
    }
}

/// Where `config` keeps it.
pub(crate) fn path(config: &Config) -> PathBuf {
    config.node.data_dir.join(FILE)
}

/// Puts `text` at `path`: whole and for good when this returns, and as it was before when it fails.
pub(crate) fn save(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("toml.new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    // The name is safe when the folder is.
    File::open(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for text in ["one", "two"] {
            // What a crash left behind is in nobody's way.
            std::fs::write(folder.path().join("bridges.toml.new"), "half").unwrap();
            save(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left");
        assert!(save(&folder.path().join("nowhere").join(FILE), "x").is_err());
    }
}
