//! The thread of the log: writes what gathered, syncs once, and says what is safe.
//!
//! In: groups of all workers, entries that settled. Out: frames in the newest segment, the index, tickets. After a failed write or
//! sync nothing in it counts: the segment is left as it was, and the same groups are written to a new one when that works.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::end::End;
use super::files::{Files, LogFile, write_all};
use super::frame::{FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SegmentHeader, Spot, name_of};
use super::index::{At, Thing};
use super::op::{Op, put_delete, put_settled};
use super::read::Fetched;
use super::scan::ops;
use super::shared::{Group, Shared};
use super::space::{Space, copy};
use super::span::Span;
use super::{Limits, SyncMode};
use crate::Health;

/// How often the thread looks for settled entries and for space when nothing else happens, and how often it syncs with
/// [`SyncMode::Interval`].
const TICK: Duration = Duration::from_secs(1);
/// How often it looks while entries settle.
const SHORT_TICK: Duration = Duration::from_millis(100);
/// How long it waits before it tries again, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// And at most.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Bytes that are written at once.
const BATCH: u64 = 8 << 20;
/// Marks in one frame.
const MARKS: usize = 32 << 10;

/// The segment that is written.
struct Current {
    number: u32,
    file: Arc<dyn LogFile>,
    end: u64,
    /// Up to here it survives a power cut.
    synced: u64,
}

/// A frame that waits to be written.
struct Waiting {
    body: Arc<Vec<u8>>,
    /// The door, its ticket, its highest message and when it came, when it is a worker's group.
    group: Option<(usize, u64, u64, Instant)>,
    /// What it holds is somewhere else in the log too, so it may be given up.
    is_copy: bool,
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) files: Arc<dyn Files>,
    pub(super) limits: Limits,
    current: Option<Current>,
    /// The last segment and where what counts in it ends.
    previous: (u32, u64),
    next_number: u64,
    salt: u64,
    waiting: VecDeque<Waiting>,
    /// Settled entries whose message is not in the index yet.
    early: Vec<(u64, u32)>,
    /// Retained messages of which an earlier change was written behind a later one: the later one has to be last.
    stale: Vec<Box<[u8]>>,
    /// Messages below were there when the log was opened.
    first_id: u64,
    space: Space,
    /// Whether something had settled the last time it looked.
    is_settling: bool,
    /// When the oldest unsynced byte was written, with [`SyncMode::Interval`].
    unsynced_since: Option<Instant>,
    pause: Duration,
}

/// Where the log goes on.
pub(super) struct Start {
    pub(super) salt: u64,
    pub(super) next_number: u64,
    /// The last segment, its end, and whether it may be written on.
    pub(super) last: Option<(u32, u64, bool)>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, files: Arc<dyn Files>, limits: Limits, start: &Start) -> Self {
        let current = start.last.filter(|(_, _, goes_on)| *goes_on).and_then(|(number, end, _)| {
            let file = Arc::clone(&shared.index().segments.get(&number)?.file);
            Some(Current { number, file, end, synced: end })
        });
        let first_id = shared.next_id.load(Ordering::Acquire);
        Self {
            shared,
            files,
            limits,
            current,
            previous: start.last.map_or((0, 0), |(number, end, _)| (number, end)),
            next_number: start.next_number,
            salt: start.salt,
            waiting: VecDeque::new(),
            early: Vec::new(),
            stale: Vec::new(),
            first_id,
            space: Space::default(),
            is_settling: false,
            unsynced_since: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Works until all doors are gone and everything they handed over is written, or can't be.
    pub(super) fn run(mut self) {
        loop {
            let work = self.shared.next_work(self.patience());
            let result = self.work(work.groups);
            if work.is_over {
                let result = result.and_then(|()| self.unsynced_since.map_or(Ok(()), |_| self.sync()));
                self.report(&result);
                if result.is_ok() {
                    self.note_end();
                }
                return;
            }
            if result.is_err() {
                // New groups would wake it at once, and the disk would be asked in a circle.
                std::thread::sleep(self.pause);
                self.pause = (self.pause * 2).min(LAST_PAUSE);
            } else {
                self.pause = FIRST_PAUSE;
            }
        }
    }

    /// One turn of a log without a thread.
    pub(super) fn step(&mut self) {
        let work = self.shared.next_work(Duration::ZERO);
        // What went wrong is in its health, and what was not written waits for the next turn.
        _ = self.work(work.groups);
    }

    fn work(&mut self, groups: VecDeque<Group>) -> io::Result<()> {
        let handed = Instant::now();
        for Group { door, ticket, last_id, body } in groups {
            self.waiting.push_back(Waiting { body, group: Some((door, ticket, last_id, handed)), is_copy: false });
        }
        let result = self.turn();
        self.report(&result);
        result
    }

    fn patience(&self) -> Duration {
        let is_failing = self.shared.is_failing.load(Ordering::Acquire);
        if self.space.is_moving() || is_failing || !self.stale.is_empty() {
            // When it fails, it has paused already.
            Duration::ZERO
        } else if self.is_settling {
            SHORT_TICK
        } else {
            TICK
        }
    }

    fn report(&self, result: &io::Result<()>) {
        self.shared.set_health(match result {
            Ok(()) => Health::Healthy,
            Err(error) => Health::Failing(error.to_string().into()),
        });
    }

    /// Everything that is due.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        self.gather_settled();
        self.restate()?;
        let is_new = self.current.is_none() && self.shared.is_failing.load(Ordering::Acquire);
        if is_new {
            // Nothing may wait at the moment, and still it must be found out whether it works again.
            self.begin_segment()?;
        }
        self.write_waiting()?;
        if self.unsynced_since.is_some_and(|since| since.elapsed() >= TICK) {
            self.sync()?;
        }
        self.note_space();
        self.give_back()
    }

    /// Marks for what settled since the last time. A mark never stands before its message: what is not in the index yet waits.
    fn gather_settled(&mut self) {
        let mut settled = std::mem::take(&mut self.early);
        self.shared.doors.iter().for_each(|door| settled.append(&mut door.settler.take_settled()));
        self.is_settling = !settled.is_empty();
        if settled.is_empty() {
            return;
        }
        let (now, early): (Vec<_>, Vec<_>) = {
            let index = self.shared.index();
            settled.into_iter().partition(|(id, _)| index.message(*id).is_some())
        };
        self.early = early.into_iter().filter(|(id, _)| self.may_come(*id)).collect();
        // Before what the workers wrote afterwards: they may have used the packet identifier again.
        for marks in now.chunks(MARKS).rev() {
            let mut body = Vec::with_capacity(marks.len() * 8);
            marks.iter().for_each(|(id, index)| put_settled(&mut body, *id, *index));
            self.waiting.push_front(Waiting { body: Arc::new(body), group: None, is_copy: false });
        }
    }

    /// Writes what holds of the retained messages that are stale once more.
    fn restate(&mut self) -> io::Result<()> {
        let mut body = Vec::new();
        for key in std::mem::take(&mut self.stale) {
            let at = self.shared.index().record(&key);
            let copied = at.map(|at| copy(self, &Thing::Record(key.clone()), at, &mut body));
            match copied {
                Some(Ok(())) => {}
                None => put_delete(&mut body, &key),
                Some(Err(Fetched::Damaged)) => {}
                Some(Err(Fetched::Failed(error))) => {
                    self.stale.push(key);
                    return Err(error);
                }
            }
        }
        if !body.is_empty() {
            self.push(body, false);
        }
        Ok(())
    }

    /// Adds a frame behind what waits. A copy of what is in the log is given up when it can't be written: until then, its
    /// original may change.
    pub(super) fn push(&mut self, body: Vec<u8>, is_copy: bool) {
        self.waiting.push_back(Waiting { body: Arc::new(body), group: None, is_copy });
    }

    /// Writes all that waits, a batch at a time.
    pub(super) fn write_waiting(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            if let Err(error) = self.write_batch() {
                self.waiting.retain(|frame| !frame.is_copy);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether message `id`, which is not in the index, may still come.
    pub(super) fn may_come(&self, id: u64) -> bool {
        id >= self.first_id && self.shared.doors.iter().any(|door| door.readable.load(Ordering::Acquire) < id)
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let first = self.waiting.front().map_or(0, |first| FRAME_HEADER + first.body.len()) as u64;
        let is_full = self.current.as_ref().is_none_or(|current| {
            current.end > SEGMENT_HEADER as u64 && current.end + first > self.limits.segment_bytes
        });
        if is_full {
            self.seal()?;
            self.begin_segment()?;
        }
        let Some(current) = &self.current else { return Err(io::Error::other("there is no segment")) };
        let (start, number) = (current.end, current.number);
        let mut end = start;
        let (mut headers, mut frames) = (Vec::new(), Vec::new());
        for frame in &self.waiting {
            let next = end + (FRAME_HEADER + frame.body.len()) as u64;
            if !frames.is_empty() && (next - start > BATCH || next > self.limits.segment_bytes) {
                break;
            }
            let spot = Spot { salt: self.salt, segment: number, offset: end };
            headers.push(FrameHeader::new(&frame.body, current.synced).to_bytes(spot));
            frames.push(end + FRAME_HEADER as u64);
            end = next;
        }
        let pairs = headers.iter().zip(&self.waiting);
        let mut parts: Vec<_> =
            pairs.flat_map(|(header, frame)| [IoSlice::new(header), IoSlice::new(&frame.body)]).collect();
        let written = write_all(&*current.file, start, &mut parts).and_then(|()| match self.limits.sync {
            SyncMode::Always => {
                self.shared.commits.add_sync();
                current.file.sync()
            }
            SyncMode::Interval | SyncMode::Off => Ok(()),
        });
        if let Err(error) = written {
            self.abandon();
            return Err(error);
        }
        if let Some(current) = &mut self.current {
            current.end = end;
            match self.limits.sync {
                SyncMode::Always => current.synced = end,
                SyncMode::Interval => self.unsynced_since = self.unsynced_since.or_else(|| Some(Instant::now())),
                SyncMode::Off => {}
            }
        }
        self.commit(number, end, &frames);
        Ok(())
    }

    /// What was written counts from now on.
    fn commit(&mut self, number: u32, end: u64, frames: &[u64]) {
        let done: Vec<(Waiting, u64)> = self.waiting.drain(..frames.len()).zip(frames.iter().copied()).collect();
        {
            let mut index = self.shared.index();
            if let Some(segment) = index.segments.get_mut(&number) {
                segment.size = end;
            }
            for (frame, start) in &done {
                for (op, from, length) in ops(&frame.body).map_while(Result::ok) {
                    let offset = u32::try_from(start + from as u64).unwrap_or(u32::MAX);
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    if index.is_too_late(&op, |id| self.may_come(id)) {
                        continue;
                    }
                    let is_last = index.apply(&op, At { segment: number, offset, length });
                    if let (false, Op::Put { key, .. }) = (is_last, &op) {
                        self.stale.push((*key).into());
                    }
                }
            }
        }
        let mut woken = vec![false; self.shared.doors.len()];
        for (frame, _) in done {
            let Some((number, ticket, last_id, handed)) = frame.group else { continue };
            self.shared.commits.add(handed.elapsed());
            self.shared.unwritten.fetch_sub(frame.body.len() as u64, Ordering::AcqRel);
            let Some(door) = self.shared.doors.get(number) else { continue };
            door.readable.fetch_max(last_id, Ordering::AcqRel);
            // Not before the index has it: whoever reads looks there first, and there again at last.
            door.unwritten().forget(ticket);
            door.committed.fetch_max(ticket, Ordering::AcqRel);
            if let Some(woken) = woken.get_mut(number) {
                *woken = true;
            }
        }
        woken.iter().enumerate().filter(|(_, woken)| **woken).for_each(|(door, _)| (self.shared.wake)(door));
    }

    /// Makes everything that was written safe.
    fn sync(&mut self) -> io::Result<()> {
        self.unsynced_since = None;
        let Some(current) = self.current.as_mut().filter(|current| current.synced < current.end) else { return Ok(()) };
        self.shared.commits.add_sync();
        if let Err(error) = current.file.sync() {
            self.abandon();
            return Err(error);
        }
        current.synced = current.end;
        Ok(())
    }

    /// Notes that the log ends in good order here, where that is certain.
    fn note_end(&self) {
        let safe = |current: &&Current| self.limits.sync != SyncMode::Off && current.synced == current.end;
        let Some(Current { number, end, .. }) = self.current.as_ref().filter(safe) else { return };
        if let Err(error) = (End { salt: self.salt, segment: *number, offset: *end }).note(&*self.files) {
            tracing::debug!(number, %error, "the end of the log could not be noted");
        }
    }

    /// The segment is full: it must be safe before the next one begins.
    fn seal(&mut self) -> io::Result<()> {
        if self.limits.sync != SyncMode::Off
            && self.current.as_ref().is_some_and(|current| current.synced < current.end)
        {
            self.sync()?;
        }
        self.abandon();
        Ok(())
    }

    /// Nothing more is written to the segment. What counts in it stays.
    fn abandon(&mut self) {
        if let Some(current) = self.current.take() {
            self.previous = (current.number, current.end);
        }
        self.unsynced_since = None;
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = u32::try_from(self.next_number).map_err(io::Error::other)?;
        self.next_number += 1;
        let name = name_of(number);
        let (previous, previous_end) = self.previous;
        let next_id = self.shared.next_id.load(Ordering::Acquire);
        let header = SegmentHeader { number, previous, previous_end, salt: self.salt, next_id };
        let made = self.files.create(&name).and_then(|file| {
            write_all(&*file, 0, &mut [IoSlice::new(&header.to_bytes())])?;
            if self.limits.sync != SyncMode::Off {
                file.sync()?;
                self.files.sync_dir()?;
            }
            Ok(file)
        });
        match made {
            Ok(file) => {
                let first = self.shared.index().segments.keys().next().copied().unwrap_or(number);
                let noted = Span { first, last: number }.note(&*self.files, self.limits.sync != SyncMode::Off);
                if let Err(error) = noted {
                    // Only that it would not be missed.
                    tracing::debug!(number, %error, "the number of the newest segment could not be noted");
                }
                let size = SEGMENT_HEADER as u64;
                self.shared.index().add_segment(number, Arc::clone(&file), size);
                self.current = Some(Current { number, file, end: size, synced: size });
                Ok(())
            }
            Err(error) => {
                // What is left of it has no frames and is known by that.
                let _ = self.files.remove(&name);
                Err(error)
            }
        }
    }

    /// Gives segments back, and moves what keeps the oldest from being given back.
    fn give_back(&mut self) -> io::Result<()> {
        let mut space = std::mem::take(&mut self.space);
        let result = space.give_back(self);
        self.space = space;
        self.note_space();
        result
    }

    fn note_space(&self) {
        let (used, _) = self.shared.index().bytes();
        self.shared.used.store(used, Ordering::Release);
        // A file system that does not say is taken to have room: it will say so when it has none.
        self.shared.free.store(self.files.free_space().unwrap_or(u64::MAX), Ordering::Release);
    }

    /// The number of the segment that is written.
    pub(super) fn current_number(&self) -> u32 {
        self.current.as_ref().map_or(self.previous.0, |current| current.number)
    }

    /// Makes sure that what was just written is safe, whatever the mode: something old is about to go.
    pub(super) fn make_safe(&mut self) -> io::Result<()> {
        match self.limits.sync {
            SyncMode::Always | SyncMode::Off => Ok(()),
            SyncMode::Interval => self.sync(),
        }
    }
}
