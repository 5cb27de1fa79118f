//! The start: one pass over the log, and what every worker begins with.
//!
//! In: a folder as a crash may have left it. Out: the index, what each session is owed in order, the records, and a
//! report of what was torn or damaged. Cuts torn ends and sets damaged bytes aside, nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, IoSlice};

use viaduct_codec::{Message, SessionId, Stub};

use super::files::{Files, read_up_to, write_all};
use super::frame::name_of;
use super::index::Index;
use super::op::{Op, Progress};
use super::scan::{Damage, Segments, scan};
use super::wire::{self, retained_change};
use crate::Record;

/// What was there when the log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Files of the log.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that were read.
    pub frames: u64,
    /// Messages that somebody is owed.
    pub messages: u64,
    /// Sessions, subscriptions, retained messages and wills.
    pub records: u64,
    /// Bytes at the end that a crash left half written; they are cut, and nobody was promised them.
    pub torn_bytes: u64,
    /// Entries that were owed to sessions which have no record: they ended, or their record is damaged.
    pub orphans: u64,
    /// How many sessions those are.
    pub orphan_sessions: u64,
    /// What can't be read any more.
    pub damages: Vec<Damage>,
    /// How many of them could not be copied to a file of their own.
    pub not_copied: u64,
}

/// What one pass over the log brought together.
#[derive(Default)]
pub(super) struct Gathered {
    /// What was ever owed, by session.
    owed: HashMap<SessionId, Vec<Stub>>,
    /// Who was ever owed something by a share group.
    shared: HashSet<SessionId>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Entries in `owed`, and how many there may be before the dead ones are looked for.
    entries: usize,
    prune_at: usize,
}

/// Everything that survives.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) gathered: Gathered,
    pub(super) salt: Option<u64>,
    pub(super) next_number: u64,
    /// The last segment and its end.
    pub(super) last: Option<(u32, u64)>,
    pub(super) recovery: Recovery,
    strays: Vec<String>,
    /// The size that the last file is to be cut to, and whether that is plainly an unfinished write.
    cut: Option<(u64, bool)>,
}

/// What a session is owed, in order.
pub(super) struct Queue {
    pub(super) inflight: Vec<(Stub, Progress)>,
    pub(super) waiting: Vec<Stub>,
    /// Some of it came by a share group, or did once.
    pub(super) has_shared: bool,
}

/// Reads everything and changes nothing.
pub(super) fn read(segments: Segments) -> Recovered {
    let Segments { all, salt, next_number, next_id, strays, damages, newer: _ } = segments;
    let mut recovered = Recovered {
        index: Index::beginning_at(next_id.max(1)),
        gathered: Gathered::default(),
        salt,
        next_number,
        last: None,
        recovery: Recovery { segments: all.len() as u64, damages, ..Recovery::default() },
        strays,
        cut: None,
    };
    let Recovered { index, gathered, recovery, cut, last, .. } = &mut recovered;
    for (number, segment) in all {
        index.add_segment(number, std::sync::Arc::clone(&segment.file), segment.size);
        let scanned = scan(number, &segment, salt, &mut recovery.damages, |op, at| {
            if index.apply(op, at) {
                gathered.take(op);
            }
            gathered.prune_in_time(index);
        });
        recovery.frames += scanned.frames;
        recovery.torn_bytes += scanned.torn;
        let size = if scanned.torn > 0 { scanned.end } else { segment.size };
        if let Some(segment) = index.segments.get_mut(&number) {
            segment.size = size;
        }
        *cut = (scanned.torn > 0).then_some((scanned.end, scanned.is_unfinished));
        // What is missing of what was safe is missed as long as the segment is there: its successor says where it ended.
        *last = Some((number, size.max(segment.safe)));
        recovery.bytes += size;
    }
    // What can't be read may hold numbers that must not be given out again: fewer than it has bytes.
    let damaged: u64 = recovery.damages.iter().map(|damage| damage.length).sum();
    index.skip_numbers(damaged);
    index.tidy_progress();
    recovered.recovery.messages = recovered.index.messages;
    recovered.recovery.records = recovered.index.records() as u64;
    recovered
}

impl Recovered {
    /// Cuts the torn end, removes files that were never begun and copies damaged bytes aside.
    pub(super) fn repair(&mut self, files: &dyn Files) -> io::Result<()> {
        for damage in &self.recovery.damages {
            tracing::warn!(file = damage.file, offset = damage.offset, bytes = damage.length, "{}", damage.what);
            if let Err(error) = set_aside(files, damage) {
                tracing::warn!(file = damage.file, %error, "the damaged bytes could not be copied aside");
                self.recovery.not_copied += 1;
            }
        }
        for stray in &self.strays {
            files.remove(stray)?;
        }
        if let (Some((size, is_unfinished)), Some((number, _))) = (self.cut, self.last) {
            let torn = self.recovery.torn_bytes;
            tracing::warn!(file = name_of(number), offset = size, bytes = torn, "a half-written end is cut");
            if !is_unfinished {
                keep_cut(files, number, size, torn);
            }
            let file = files.open(&name_of(number))?;
            file.truncate(size)?;
            file.sync()?;
        }
        if !self.strays.is_empty() {
            files.sync_dir()?;
        }
        Ok(())
    }

    /// The records, those that can't be read left out and reported.
    pub(super) fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::with_capacity(self.gathered.records.len());
        for (key, value) in std::mem::take(&mut self.gathered.records) {
            match wire::record(&key, &value) {
                Some(record) => {
                    if let Record::Session(session) = &record {
                        self.index.saw_session(session.id);
                    }
                    records.push(record);
                }
                None => {
                    let at = self.index.record(&key);
                    self.recovery.damages.push(Damage {
                        file: at.map_or_else(String::new, |at| name_of(at.segment)),
                        offset: at.map_or(0, |at| at.offset.into()),
                        length: at.map_or(0, |at| at.length.into()),
                        what: "a record can't be read".into(),
                    });
                }
            }
        }
        records
    }

    /// What each session is owed. What is owed to others than `is_there` is settled.
    pub(super) fn queues(&mut self, is_there: impl Fn(SessionId) -> bool) -> Vec<(SessionId, Queue)> {
        self.gathered.prune(&self.index);
        let mut queues = Vec::new();
        for (session, stubs) in std::mem::take(&mut self.gathered.owed) {
            if !is_there(session) {
                let settled = stubs.iter().filter(|stub| self.index.settle(stub.id, stub.index)).count();
                self.recovery.orphans += settled as u64;
                self.recovery.orphan_sessions += u64::from(settled > 0);
                continue;
            }
            if !stubs.is_empty() {
                let has_shared = self.gathered.shared.contains(&session);
                queues.push((session, Queue { has_shared, ..self.queue(stubs) }));
            }
        }
        let lost: Vec<_> = self.index.inbound().filter(|(session, _)| !is_there(*session)).copied().collect();
        lost.into_iter().for_each(|(session, packet_id)| self.index.release(session, packet_id));
        self.recovery.messages = self.index.messages;
        queues.sort_unstable_by_key(|(session, _)| *session);
        queues
    }

    fn queue(&mut self, mut stubs: Vec<Stub>) -> Queue {
        let mut inflight = Vec::new();
        let mut by_packet_id: HashMap<_, (u64, Stub)> = HashMap::new();
        for stub in &stubs {
            let sent = self.index.progress(stub.id, stub.index).zip(self.index.sent_at(stub.id, stub.index));
            let Some((progress, at)) = sent else { continue };
            let mine = (at, *stub);
            let kept = by_packet_id.entry(progress.packet_id).or_insert(mine);
            if kept.1 == *stub {
                continue;
            }
            // The identifier was free when it was used last. What had it before was acknowledged, and its mark was not written
            // yet, or an earlier start gave it back: it waits again.
            let stale = if kept.0 < at { std::mem::replace(kept, mine) } else { mine };
            self.index.unsend(stale.1.id, stale.1.index);
        }
        stubs.retain(|stub| match self.index.progress(stub.id, stub.index) {
            Some(progress) => {
                inflight.push((*stub, progress));
                false
            }
            None => true,
        });
        stubs.shrink_to_fit();
        Queue { inflight, waiting: stubs, has_shared: false }
    }
}

impl Gathered {
    fn take(&mut self, op: &Op<'_>) {
        match op {
            Op::Message(message) => {
                let size = u32::try_from(size_of::<Message>() + message.message.len()).unwrap_or(u32::MAX);
                for owed in message.owed.iter() {
                    let stub = Stub { id: message.id, index: owed.index, size };
                    self.owed.entry(owed.session).or_default().push(stub);
                    self.entries += 1;
                    if owed.has_group() {
                        self.shared.insert(owed.session);
                    }
                }
            }
            Op::Put { key, value } if retained_change(key, value).is_some_and(|(_, is_cleared)| is_cleared) => {
                self.records.remove(*key);
            }
            Op::Put { key, value } => {
                self.records.insert((*key).into(), (*value).into());
            }
            Op::Delete { key } => {
                self.records.remove(*key);
            }
            Op::Settled { .. } | Op::Sent { .. } | Op::Received { .. } | Op::Inbound { .. } | Op::Released { .. } => {}
        }
    }

    /// A log is at most some times as long as what is live in it, and so is this.
    fn prune_in_time(&mut self, index: &Index) {
        /// Not worth the while below.
        const FEW: usize = 1 << 20;
        if self.entries >= self.prune_at.max(FEW) {
            self.prune(index);
            self.entries = self.owed.values().map(Vec::len).sum();
            self.prune_at = 2 * self.entries;
        }
    }

    /// Forgets what nobody is owed, and what is there twice because it was moved.
    fn prune(&mut self, index: &Index) {
        self.owed.retain(|_, stubs| {
            stubs.retain(|stub| index.is_live(stub.id, stub.index));
            if !stubs.is_sorted_by_key(|stub| (stub.id, stub.index)) {
                stubs.sort_unstable_by_key(|stub| (stub.id, stub.index));
            }
            stubs.dedup_by_key(|stub| (stub.id, stub.index));
            !stubs.is_empty()
        });
    }
}

/// Copies damaged bytes to a file of their own, unless a start before this one did.
pub(super) fn set_aside(files: &dyn Files, damage: &Damage) -> io::Result<()> {
    let name = format!("{}.damaged-{}", damage.file, damage.offset);
    if damage.length == 0 || files.list()?.contains(&name) {
        return Ok(());
    }
    copy_aside(files, &damage.file, damage.offset, damage.length, &name)
}

/// Keeps a copy of an end that is cut although it may have been whole once. No more than there is use for, whatever happens
/// at however many starts.
fn keep_cut(files: &dyn Files, number: u32, offset: u64, length: u64) {
    /// More than is written at once.
    const MOST: u64 = 16 << 20;
    const COPIES: usize = 8;
    /// In the names of copies.
    const CUT: &str = ".cut-";
    let file = name_of(number);
    let name = format!("{file}{CUT}{offset}");
    let copied = files.list().and_then(|names| {
        if names.contains(&name) || names.iter().filter(|name| name.contains(CUT)).count() >= COPIES {
            return Ok(false);
        }
        copy_aside(files, &file, offset, length.min(MOST), &name).map(|()| true)
    });
    match copied {
        Ok(true) => tracing::warn!(
            file,
            offset,
            copy = name,
            "the end that is cut is not plainly an unfinished write: damage to what was written last looks the same, so a copy is kept"
        ),
        Ok(false) => tracing::warn!(
            file,
            offset,
            "the end that is cut is not plainly an unfinished write; there are enough copies of such ends already, so none is kept"
        ),
        Err(error) => tracing::warn!(file, offset, %error, "the end that is cut could not be copied aside"),
    }
}

fn copy_aside(files: &dyn Files, file: &str, offset: u64, length: u64, name: &str) -> io::Result<()> {
    /// What is copied at once.
    const PIECE: u64 = 1 << 20;
    let from = files.open(file)?;
    let to = files.create(name)?;
    let mut done = 0;
    while done < length {
        let mut piece = Vec::new();
        let next = usize::try_from(PIECE.min(length - done)).unwrap_or(0);
        read_up_to(&*from, offset + done, next, &mut piece)?;
        if piece.is_empty() {
            break;
        }
        write_all(&*to, done, &mut [IoSlice::new(&piece)])?;
        done += piece.len() as u64;
    }
    to.sync()?;
    files.sync_dir()
}
