//! What is asked for, and the files that it takes.
//!
//! In: [`Files`], which the caller has. Out: their texts. Must never: read more than the bounds of this room, or a file
//! that no directive names.

/// Bytes that one file may have: a hundred times the longest configuration that was met, and password files of 40,000 users.
pub const FILE_BYTES: usize = 8 * 1024 * 1024;
/// Files that one import may read.
const FILES: usize = 1000;
/// Bytes of all of them together.
const ALL_BYTES: usize = 8 * FILE_BYTES;

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `mosquitto.conf`, 1.6 to 2.1.
    Mosquitto,
    /// `vernemq.conf`, 1.x and 2.x.
    Vernemq,
}

impl Origin {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::Vernemq => "VerneMQ",
        }
    }
}

/// What is to be imported.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Whose it is.
    pub origin: Origin,
    /// The main file.
    pub file: &'a str,
    /// How the paths of files begin that have to be made, such as `/etc/viaduct/broker` for `/etc/viaduct/broker.acl`.
    pub beside: &'a str,
    /// What relative paths in the files are relative to; `None` leaves them as they are.
    pub base: Option<&'a str>,
}

impl Request<'_> {
    /// `path` as the configuration is to name it.
    pub(crate) fn resolve(&self, path: &str) -> String {
        match self.base {
            Some(base) if !path.starts_with('/') => join(base, path.strip_prefix("./").unwrap_or(path)),
            _ => path.to_owned(),
        }
    }
}

/// What there is on the disk.
pub trait Files {
    /// The text of a file, at most [`FILE_BYTES`]; bytes that are not UTF-8 replaced.
    ///
    /// # Errors
    /// Why it can't be read.
    fn read(&mut self, path: &str) -> Result<String, String>;

    /// The names of the files in a folder, without the folder.
    ///
    /// # Errors
    /// Why it can't be listed.
    fn list(&mut self, folder: &str) -> Result<Vec<String>, String>;
}

/// The files, within bounds.
pub(crate) struct Reader<'a> {
    files: &'a mut dyn Files,
    request: Request<'a>,
    count: usize,
    bytes: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(request: &Request<'a>, files: &'a mut dyn Files) -> Self {
        Self { files, request: *request, count: 0, bytes: 0 }
    }

    /// See [`Request::resolve`].
    pub(crate) fn resolve(&self, path: &str) -> String {
        self.request.resolve(path)
    }

    /// The text of the file at a path that is resolved.
    pub(crate) fn read(&mut self, path: &str) -> Result<String, String> {
        self.count += 1;
        if self.count > FILES {
            return Err(format!("more than {FILES} files"));
        }
        let text = self.files.read(path)?;
        self.bytes = self.bytes.saturating_add(text.len());
        if text.len() > FILE_BYTES || self.bytes > ALL_BYTES {
            return Err(format!("more than {FILE_BYTES} bytes in one file, or {ALL_BYTES} in all"));
        }
        Ok(text)
    }

    /// Names of the files in a folder whose path is resolved, in the order of their bytes.
    pub(crate) fn list(&mut self, folder: &str) -> Result<Vec<String>, String> {
        let mut names = self.files.list(folder)?;
        names.sort();
        names.truncate(FILES);
        Ok(names)
    }
}

/// A name in a folder.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() || folder.ends_with('/') { format!("{folder}{name}") } else { format!("{folder}/{name}") }
}

/// The folder of a file, empty for the one that we are in.
pub(crate) fn folder_of(path: &str) -> &str {
    path.rfind('/').and_then(|at| path.get(..=at)).unwrap_or_default()
}
