//! The store of the whole broker: opened before anything is served, closed when nothing is any more.
//!
//! In: `[store]` and the folder of the node. Out: a door for each worker, the log behind them, and what to say about them. What is
//! kept and how is the store's business.

use std::sync::Arc;

use viaduct_config::{Config, Sync};
use viaduct_engine::worker_of;
use viaduct_store::Health;
use viaduct_store::log::{self, DiskFiles, Door, Log, OpenError, Opened, Options, Recovery, SyncMode};

use crate::mailbox::{Letter, Mailbox};
use crate::tls;

/// The folder of the log below `node.data_dir`.
const FOLDER: &str = "store";

/// Opens the log with a door for each of `mailboxes`, which are told when something became safe.
pub(crate) fn open(
    config: &Config,
    mailboxes: &[Mailbox],
    refuse_damaged: bool,
) -> Result<(Log, Vec<Door>), OpenError> {
    let folder = config.node.data_dir.join(FOLDER);
    let workers = u16::try_from(mailboxes.len()).unwrap_or(u16::MAX);
    let options = Options {
        sync: match config.store.sync {
            Sync::Always => SyncMode::Always,
            Sync::Interval => SyncMode::Interval,
            Sync::Off => SyncMode::Off,
        },
        commit_delay: config.store.commit_delay,
        max_bytes: config.store.max_bytes.unwrap_or(u64::MAX),
        refuse_damaged,
        ..Options::new(
            mailboxes.len(),
            Arc::new(move |client_id| usize::from(worker_of(client_id.as_str(), workers).0)),
            tls::seed(),
        )
    };
    let mailboxes = mailboxes.to_vec();
    let wake = Arc::new(move |door: usize| {
        if let Some(mailbox) = mailboxes.get(door) {
            mailbox.send(Letter::Committed);
        }
    });
    let Opened { log, doors, recovery } = Log::open(&options, Arc::new(DiskFiles::new(folder.clone())), wake)?;
    say(&folder, &recovery);
    Ok((log, doors))
}

/// Fails when another broker has the store, or a newer one wrote it: to be asked before anything is bound, so that the same
/// configuration started twice says what is wrong and not that a port is taken. The store is not ours by that.
pub(crate) fn look(config: &Config) -> Result<(), OpenError> {
    match log::look(&DiskFiles::new(config.node.data_dir.join(FOLDER))) {
        Err(error @ (OpenError::Locked { .. } | OpenError::NewerFormat { .. })) => Err(error),
        // What else may be wrong with it is said when it is opened.
        Ok(()) | Err(_) => Ok(()),
    }
}

fn say(folder: &std::path::Path, recovery: &Recovery) {
    let Recovery {
        segments, bytes, messages, records, torn_bytes, orphans, orphan_sessions, damages, not_copied, ..
    } = recovery;
    tracing::info!(
        folder = %folder.display(), segments, bytes, messages, records, torn_bytes, orphans,
        damaged = damages.len(), "the store is open"
    );
    if *orphans > 0 && !damages.is_empty() {
        tracing::error!(
            orphans,
            orphan_sessions,
            "messages are owed to sessions whose records can't be read: nobody gets them any more"
        );
    }
    if !damages.is_empty() {
        tracing::error!(
            "the store is damaged in {} places, first in {} at {}: {}, the rest is served; `viaduct store check` lists everything",
            damages.len(),
            damages.first().map_or("", |first| &first.file),
            damages.first().map_or(0, |first| first.offset),
            match not_copied {
                0 => "what is there was set aside under another name".to_owned(),
                _ => format!("{not_copied} of them could not be set aside under another name and stay where they are"),
            }
        );
    }
}

/// Why the store can't write at the moment; `None` while it can.
pub(crate) fn trouble(log: &Log) -> Option<Arc<str>> {
    match log.health() {
        Health::Healthy => None,
        Health::Failing(why) => Some(why),
    }
}
