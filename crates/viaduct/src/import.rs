//! `viaduct import`: the configuration of another broker, read from the disk and written as ours.
//!
//! In: files. Out: our configuration on standard output or in a new file, notes on standard error. Must never: write over a
//! file, or leave one with passwords in it for others to read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use viaduct_config::{Source, SourceFile};
use viaduct_import::{FILE_BYTES, Files, Imported, Origin, Request};

use crate::Failure;
use crate::cli::ImportArgs;

/// How the names of files begin that are made beside a configuration on standard output.
const BESIDE: &str = "./viaduct";

/// Imports what `args` say.
pub(crate) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let file = args.file.display().to_string();
    let output = args.output.as_deref();
    let beside = output.map_or_else(|| BESIDE.to_owned(), |path| path.with_extension("").display().to_string());
    let base = args.base.as_ref().map(|path| path.display().to_string());
    let request = Request { origin: Origin::from(args.origin), file: &file, beside: &beside, base: base.as_deref() };
    let imported = viaduct_import::import(&request, &mut Disk).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("error: {mistake}")).collect();
        Failure::configuration(lines.join("\n"))
    })?;
    match output {
        Some(path) => write(path, &imported)?,
        None => std::io::stdout().write_all(imported.config.as_bytes()).map_err(Failure::new)?,
    }
    say(&imported, output);
    accepted(&imported, output)
}

/// Files that are there.
struct Disk;

impl Files for Disk {
    fn read(&mut self, path: &str) -> Result<String, String> {
        let mut bytes = Vec::new();
        // One byte more than is allowed, so that the importer sees that there is more.
        let most = u64::try_from(FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&mut self, folder: &str) -> Result<Vec<String>, String> {
        let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        let files = entries.flatten().filter(|entry| entry.path().is_file());
        Ok(files.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}

/// Writes the configuration and what it needs, all or, when one of them is there already, nothing.
fn write(path: &Path, imported: &Imported) -> Result<(), Failure> {
    let mut files: Vec<(PathBuf, &str)> =
        imported.files.iter().map(|file| (PathBuf::from(&file.path), file.text.as_str())).collect();
    files.push((path.to_owned(), &imported.config));
    if let Some((taken, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(Failure::configuration(format!("{}: it is there already and not written over", taken.display())));
    }
    for (path, text) in files {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// Notes and names of files on standard error, which may be gone.
fn say(imported: &Imported, output: Option<&Path>) {
    let mut text = String::new();
    for note in &imported.notes {
        let weight = if note.advice.is_some() { "note" } else { "fine" };
        text.push_str(&format!("{weight}: {note}\n"));
    }
    for file in &imported.files {
        let done = if output.is_some() { "is written" } else { "is needed: use --output, which writes it" };
        text.push_str(&format!("file: {}, {}, {done}\n", file.path, file.what));
    }
    let to_do = imported.notes.iter().filter(|note| note.advice.is_some()).count();
    text.push_str(&format!("imported; {to_do} of {} notes ask for a hand\n", imported.notes.len()));
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Whether our own reader takes it. What it would refuse although the importer thought it good is said as it says it.
fn accepted(imported: &Imported, output: Option<&Path>) -> Result<(), Failure> {
    let name = output.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    let file = SourceFile { name, text: imported.config.clone() };
    let source = Source { file: Some(file), hostname: "host".to_owned(), ..Source::default() };
    match viaduct_config::load(source) {
        Ok(_) => Ok(()),
        Err(errors) => Err(Failure::new(format!("{errors}\nwhat was written needs a hand before it is accepted"))),
    }
}
