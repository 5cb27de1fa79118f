//! `viaduct store`: a store looked at while no broker has it open. Nothing in it is changed.

use std::path::{Path, PathBuf};

use viaduct_broker::store::{self as log, DiskFiles, OpenError, Report, Stats};

use crate::{Failure, say};

/// Verifies everything; a failure when something is damaged.
pub(crate) fn check(dir: &Path) -> Result<(), Failure> {
    let folder = folder(dir)?;
    let report = log::check(&DiskFiles::new(folder.clone())).map_err(|error| failure(&folder, error))?;
    let Report { segments, bytes, frames, messages, records, torn_bytes, damages, .. } = &report;
    say(&format!(
        "{}: {segments} files, {bytes} bytes, {frames} frames, {messages} messages, {records} records",
        folder.display()
    ))?;
    if *torn_bytes > 0 {
        say(&format!(
            "{torn_bytes} bytes at the end were half written when the process ended; nobody was promised them"
        ))?;
    }
    let Report { orphans, orphan_sessions, lone_subscriptions, .. } = &report;
    if *orphans > 0 {
        say(&format!("{orphans} entries are owed to {orphan_sessions} sessions without a record: nobody gets them"))?;
    }
    if *lone_subscriptions > 0 {
        say(&format!("{lone_subscriptions} subscriptions are of sessions without a record"))?;
    }
    for damage in damages {
        say(&format!("damaged: {} at {}, {} bytes: {}", damage.file, damage.offset, damage.length, damage.what))?;
    }
    if damages.is_empty() { say("all is whole") } else { Err(Failure { text: None, code: 1 }) }
}

/// Says what is in it, one number a line.
pub(crate) fn stats(dir: &Path) -> Result<(), Failure> {
    let folder = folder(dir)?;
    let stats = log::stats(&DiskFiles::new(folder.clone())).map_err(|error| failure(&folder, error))?;
    let Stats {
        segments,
        bytes,
        live_bytes,
        messages,
        sessions,
        subscriptions,
        retained,
        wills,
        queued,
        inflight,
        inbound,
    } = stats;
    for (name, value) in [
        ("segments", segments),
        ("bytes", bytes),
        ("live_bytes", live_bytes),
        ("messages", messages),
        ("sessions", sessions),
        ("subscriptions", subscriptions),
        ("retained", retained),
        ("wills", wills),
        ("queued", queued),
        ("inflight", inflight),
        ("inbound_qos2", inbound),
    ] {
        say(&format!("{name} {value}"))?;
    }
    Ok(())
}

/// The folder of the log: `dir` itself, or `store` in it.
fn folder(dir: &Path) -> Result<PathBuf, Failure> {
    let inner = dir.join("store");
    let folder = if inner.is_dir() { inner } else { dir.to_owned() };
    if folder.is_dir() {
        return Ok(folder);
    }
    let found = if dir.exists() { "it is no directory" } else { "there is nothing" };
    Err(Failure::configuration(format!("{}: expected the directory of a store, but {found}", dir.display())))
}

fn failure(folder: &Path, error: OpenError) -> Failure {
    let text = format!("{}: {error}", folder.display());
    match error {
        OpenError::Locked { .. } | OpenError::NewerFormat { .. } | OpenError::NoStore { .. } => {
            Failure::configuration(text)
        }
        OpenError::Io(_) | OpenError::Damaged(_) => Failure::new(text),
    }
}
