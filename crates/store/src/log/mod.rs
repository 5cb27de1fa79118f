//! The durable engine: one log for the whole broker.
//!
//! In: what the doors of all workers want kept, and a folder. Out: what was kept, after whatever happened to the process or the
//! power. One thread writes for all and syncs once for what gathered. The bytes are in `docs/store-format.md`, the reasons in
//! `docs/decisions/0013-one-log.md`.

mod check;
mod commits;
mod door;
mod end;
mod faulty;
mod files;
mod frame;
mod index;
mod op;
mod read;
mod recover;
mod scan;
mod shared;
mod space;
mod span;
mod unwritten;
mod wire;
mod writer;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use viaduct_codec::{Backlog, ClientId, SessionId};

pub use check::{Report, Stats, check, stats};
pub use commits::{COMMIT_SECONDS, Commits};
pub use door::Door;
pub use faulty::{Faults, FaultyFiles};
pub use files::{DiskFiles, Files, Lock, LogFile};
pub use recover::Recovery;
pub use scan::Damage;
pub use shared::Wake;

use door::Prepared;
use files::LOCK;
use frame::{VERSION, name_of};
use recover::Recovered;
use scan::Segments;
use shared::Shared;
use span::NAME;
use writer::{Start, Writer};

use crate::{Health, Loaded, Record};

/// When something counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// After the disk has said that it survives a power cut.
    #[default]
    Always,
    /// After it was written; the disk is asked once a second. Survives the end of the process, not of the power.
    Interval,
    /// After it was written; the disk is never asked.
    Off,
}

/// Says which door a client's session belongs to.
pub type DoorOf = Arc<dyn Fn(&ClientId) -> usize + Send + Sync>;

/// How a log is opened.
#[derive(Clone)]
pub struct Options {
    /// When something counts as safe.
    pub sync: SyncMode,
    /// How long a message waits for the acknowledgements of those who are there, which save its write; zero for not at all.
    pub commit_delay: Duration,
    /// Bytes that the log may have before messages are refused.
    pub max_bytes: u64,
    /// Do not start when something is damaged.
    pub refuse_damaged: bool,
    /// How many doors: one for each worker.
    pub doors: usize,
    /// Which door a session belongs to; it may be another than before.
    pub door_of: DoorOf,
    /// Anything that nobody can guess, for a new store.
    pub seed: u64,
    /// Bytes of one file, unless one operation needs more.
    pub segment_bytes: u64,
}

impl Options {
    /// 64 MiB in one file: large enough that files are few, small enough that giving one back is little work.
    pub const SEGMENT_BYTES: u64 = 64 << 20;

    /// Power-safe, with groups of two milliseconds and no limit but the disk.
    #[must_use]
    pub fn new(doors: usize, door_of: DoorOf, seed: u64) -> Self {
        Self {
            sync: SyncMode::Always,
            commit_delay: Duration::from_millis(2),
            max_bytes: u64::MAX,
            refuse_damaged: false,
            doors,
            door_of,
            seed,
            segment_bytes: Self::SEGMENT_BYTES,
        }
    }
}

/// The part of the options that the doors and the thread go by.
#[derive(Clone, Copy)]
struct Limits {
    sync: SyncMode,
    commit_delay: Duration,
    max_bytes: u64,
    segment_bytes: u64,
}

/// Why a log was not opened. Nothing was changed but, by a start that refuses damage, the process number in the lock.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder or a file in it can't be used.
    #[error("the store can't be opened: {0}")]
    Io(#[from] io::Error),
    /// Another process has it.
    #[error("the store is held by another broker{}", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// Which, when it left its number.
        pid: Option<u32>,
    },
    /// A newer program wrote it.
    #[error("{file} has format {version}, this program reads up to {VERSION}")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        version: u32,
    },
    /// The folder to be looked at holds no store.
    #[error("there is no store: expected {LOCK}, {NAME} or segments such as {}, found {found}", name_of(1))]
    NoStore {
        /// What is in the folder instead.
        found: String,
    },
    /// It is damaged, and the options say that it is not to be opened then.
    #[error("the store is damaged in {} places, first in {} at {}", .0.len(),
        .0.first().map_or("", |first| &first.file), .0.first().map_or(0, |first| first.offset))]
    Damaged(Vec<Damage>),
}

/// The log, open. Dropping one that has its thread waits until everything that was handed over is written; drop the doors
/// before. One that is stepped writes nothing when it is dropped: to its files that is the end of the process.
pub struct Log {
    shared: Arc<Shared>,
    max_bytes: u64,
    work: Work,
    /// Dropped after the thread has ended.
    _lock: Lock,
}

/// Who does what the doors ask for.
enum Work {
    /// A thread of its own, until the log is dropped.
    Thread(Option<JoinHandle<()>>),
    /// Whoever calls [`Log::step`].
    Stepped(Box<Mutex<Writer>>),
}

/// What is in a log and how its commits went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Bytes of all files.
    pub bytes: u64,
    /// Those that are still needed, about.
    pub live_bytes: u64,
    /// Files.
    pub segments: u64,
    /// Messages that somebody is owed.
    pub messages: u64,
    /// Sessions, subscriptions, retained messages and wills.
    pub records: u64,
    /// Groups that became safe.
    pub commits: Commits,
}

/// What a log has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Groups wait, and somebody for them.
    Groups,
    /// Only marks for what nobody is owed any more; nobody waits for those.
    Marks,
    /// Nothing.
    Nothing,
}

/// A log that was opened.
pub struct Opened {
    /// Keeps it open.
    pub log: Log,
    /// One for each worker.
    pub doors: Vec<Door>,
    /// What was there.
    pub recovery: Recovery,
}

impl Log {
    /// Opens the log in `files`, or begins one. `wake` is called by the thread of the log.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: &Options, files: Arc<dyn Files>, wake: Wake) -> Result<Opened, OpenError> {
        let (mut opened, writer) = Self::prepare(options, files, wake)?;
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || writer.run())?;
        opened.log.work = Work::Thread(Some(thread));
        Ok(opened)
    }

    /// As [`Log::open`], without a thread: what the doors hand over is written when [`Log::step`] is called, and never
    /// otherwise. So the same calls in the same order leave the same files, for tests on a virtual clock.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_stepped(options: &Options, files: Arc<dyn Files>) -> Result<Opened, OpenError> {
        let (mut opened, writer) = Self::prepare(options, files, Arc::new(|_| {}))?;
        opened.log.work = Work::Stepped(Box::new(Mutex::new(writer)));
        Ok(opened)
    }

    /// Everything but whoever does the work.
    fn prepare(options: &Options, files: Arc<dyn Files>, wake: Wake) -> Result<(Opened, Writer), OpenError> {
        look(&*files)?;
        let (lock, mut recovered) = read_all(&*files, files.lock()?)?;
        let records = recovered.records();
        if options.refuse_damaged && !recovered.recovery.damages.is_empty() {
            return Err(OpenError::Damaged(recovered.recovery.damages));
        }
        recovered.repair(&*files)?;
        let limits = Limits {
            sync: options.sync,
            commit_delay: options.commit_delay,
            max_bytes: options.max_bytes,
            segment_bytes: segment_bytes(options, recovered.recovery.bytes, files.free_space().ok()),
        };
        let doors = options.doors.max(1);
        let placed = place(options, doors, &mut recovered, records);
        let Recovered { index, salt, next_number, last, recovery, .. } = recovered;
        let shared = Arc::new(Shared::new(doors, index, recovery.bytes, wake));
        let last = last.map(|(number, end)| {
            // Nothing is written behind damaged bytes: a file that has some is done with, and so is one that misses its successor.
            let is_whole = !recovery.damages.iter().any(|damage| frame::number_of(&damage.file) >= Some(number));
            // What an earlier process wrote it need not have synced, and what comes now stands on it.
            let file = shared.index().segments.get(&number).map(|segment| Arc::clone(&segment.file));
            let is_safe = limits.sync == SyncMode::Off || file.is_some_and(|file| file.sync().is_ok());
            (number, end, is_whole && is_safe && end < limits.segment_bytes)
        });
        let start = Start { salt: salt.unwrap_or_else(|| mixed(options.seed)), next_number, last };
        let writer = Writer::new(Arc::clone(&shared), files, limits, &start);
        let doors = placed
            .into_iter()
            .enumerate()
            .map(|(number, (mut prepared, queued))| {
                let settler = shared.doors.get(number).map(|door| Arc::clone(&door.settler)).unwrap_or_default();
                for (session, stubs, has_shared) in queued {
                    let backlog = Backlog::restored(stubs, Arc::clone(&settler), has_shared);
                    prepared.loaded.queued.push((session, backlog));
                }
                Door::new(number, &shared, limits, prepared)
            })
            .collect();
        let log = Self { shared, max_bytes: limits.max_bytes, work: Work::Thread(None), _lock: lock };
        Ok((Opened { log, doors, recovery }, writer))
    }

    /// Does in a stepped log what its thread would do next: writes what was handed over, syncs it, says what is safe. Nothing
    /// in one that has a thread.
    pub fn step(&self) {
        if let Work::Stepped(writer) = &self.work {
            writer.lock().unwrap_or_else(PoisonError::into_inner).step();
        }
    }

    /// What a stepped log would find to do.
    #[must_use]
    pub fn pending(&self) -> Pending {
        if self.shared.has_groups() {
            return Pending::Groups;
        }
        let has_settled = self.shared.doors.iter().any(|door| door.settler.has_settled());
        if has_settled { Pending::Marks } else { Pending::Nothing }
    }

    /// From now on dropping what is owed settles nothing. To be called before the engines are dropped at the end.
    pub fn close(&self) {
        self.shared.doors.iter().for_each(|door| door.settler.close());
    }

    /// What is in it and how its commits went.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let index = self.shared.index();
        let (bytes, live_bytes) = index.bytes();
        Numbers {
            bytes,
            live_bytes,
            segments: index.segments.len() as u64,
            messages: index.messages,
            records: index.records() as u64,
            commits: self.shared.commits.snapshot(),
        }
    }

    /// How it is: also when it writes and takes no more messages for want of space.
    #[must_use]
    pub fn health(&self) -> Health {
        /// Who has less room than this is about to refuse, or does.
        const MARGIN: u64 = 1 << 20;
        let margin = MARGIN.min(self.max_bytes / 16);
        match (self.shared.health(), door::lack_of_space(&self.shared, self.max_bytes, margin)) {
            (Health::Healthy, Err(error)) => Health::Failing(error.to_string().into()),
            (health, _) => health,
        }
    }

    /// Bytes of all files of the log.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.used.load(std::sync::atomic::Ordering::Acquire)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("numbers", &self.numbers()).finish_non_exhaustive()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let Work::Thread(thread) = &mut self.work else { return };
        self.shared.end();
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the store panicked");
        }
    }
}

/// Fails when another process has the folder or a newer program wrote it, and changes nothing. It is not ours by that.
///
/// # Errors
/// These, or it can't be read. A folder that is not there yet is nobody's.
pub fn look(files: &dyn Files) -> Result<(), OpenError> {
    let _lock = not_of_another(files.look()?)?;
    match readable_segments(files) {
        Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => found.map(drop),
    }
}

/// Reads everything in the folder, changing nothing, if `lock` says that no other process has it.
fn read_all(files: &dyn Files, lock: Lock) -> Result<(Lock, Recovered), OpenError> {
    let lock = not_of_another(lock)?;
    Ok((lock, recover::read(readable_segments(files)?)))
}

fn not_of_another(lock: Lock) -> Result<Lock, OpenError> {
    match lock {
        Lock::Held(_) => Ok(lock),
        Lock::Other(pid) => Err(OpenError::Locked { pid }),
    }
}

fn readable_segments(files: &dyn Files) -> Result<Segments, OpenError> {
    let segments = Segments::find(files)?;
    match segments.newer {
        Some((file, version)) => Err(OpenError::NewerFormat { file, version }),
        None => Ok(segments),
    }
}

/// As wished, but less where there is little room: space comes back file by file, so there have to be several.
fn segment_bytes(options: &Options, used: u64, free: Option<u64>) -> u64 {
    const FILES: u64 = 32;
    const LEAST: u64 = 256 << 10;
    let room = free.map_or(u64::MAX, |free| free.saturating_add(used)).min(options.max_bytes);
    options.segment_bytes.clamp(1 << 10, 1 << 30).min((room / FILES).max(LEAST))
}

type Waiting = Vec<(SessionId, Vec<viaduct_codec::Stub>, bool)>;

/// Gives each door what belongs to it.
fn place(options: &Options, doors: usize, recovered: &mut Recovered, records: Vec<Record>) -> Vec<(Prepared, Waiting)> {
    let door_of = |client_id: &ClientId| (options.door_of)(client_id).min(doors - 1);
    let mut homes = HashMap::new();
    let mut placed: Vec<(Prepared, Waiting)> = (0..doors).map(|_| Default::default()).collect();
    for record in records {
        let home = record.key().client_id().map_or(0, door_of);
        if let Record::Session(session) = &record {
            homes.insert(session.id, home);
        }
        if let Some((prepared, _)) = placed.get_mut(home) {
            prepared.loaded.add(record);
        }
    }
    for (session, queue) in recovered.queues(|session| homes.contains_key(&session)) {
        let Some((prepared, queued)) = homes.get(&session).and_then(|home| placed.get_mut(*home)) else { continue };
        if !queue.inflight.is_empty() {
            prepared.inflight.push((session, queue.inflight));
        }
        if !queue.waiting.is_empty() {
            queued.push((session, queue.waiting, queue.has_shared));
        }
    }
    for (session, packet_id) in recovered.index.inbound() {
        if let Some((prepared, _)) = homes.get(session).and_then(|home| placed.get_mut(*home)) {
            prepared.loaded.inbound.push((*session, *packet_id));
        }
    }
    for (prepared, _) in &mut placed {
        let Loaded { inbound, next_session_id, next_retained, .. } = &mut prepared.loaded;
        inbound.sort_unstable();
        *next_session_id = SessionId(recovered.index.next_session.max(1));
        *next_retained = recovered.index.next_retained.max(1);
    }
    placed
}

/// Spreads a seed over all bits (SplitMix64).
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
