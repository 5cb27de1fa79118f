//! Reads segments from front to back and tells what is whole, what was torn and what is damaged.
//!
//! In: the files of a folder, which may hold anything. Out: every operation of every whole frame in order, and a list of what is
//! wrong. Changes nothing: what is to be cut or set aside is said, not done. Never trusts a length.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::end::End;
use super::files::{Files, LogFile, read_up_to};
use super::frame::{
    FRAME_HEADER, FrameHeader, Header, MARKER, SEGMENT_HEADER, SegmentHeader, Spot, name_of, number_of,
};
use super::index::At;
use super::op::{Bad, Op};
use super::span::Span;
use super::wire::In;

/// How much is read at once.
const CHUNK: usize = 1 << 20;
/// What a disk that fails to read is asked for in its stead.
const BLOCK: usize = 4 << 10;

/// Bytes that are not what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where they begin.
    pub offset: u64,
    /// How many; 0 for what is missing.
    pub length: u64,
    /// What is wrong.
    pub what: String,
}

impl Damage {
    fn missing(segment: u32) -> Self {
        Self { file: name_of(segment), offset: 0, length: 0, what: "the segment is missing".into() }
    }
}

/// The segments of a folder.
pub(super) struct Segments {
    /// By number, each with the end that its successor says it has.
    pub(super) all: BTreeMap<u32, Found>,
    pub(super) salt: Option<u64>,
    /// The first number that was never used by a segment.
    pub(super) next_number: u64,
    pub(super) next_id: u64,
    /// Files of segments that were never begun.
    pub(super) strays: Vec<String>,
    pub(super) damages: Vec<Damage>,
    /// A file was written by a newer program: its name and version.
    pub(super) newer: Option<(String, u32)>,
}

/// One segment.
pub(super) struct Found {
    pub(super) file: Arc<dyn LogFile>,
    /// Where it ends according to its successor; the last has none.
    pub(super) sealed: Option<u64>,
    /// Everything before was whole and safe when the log was ended in good order; 0 when nothing says so.
    pub(super) safe: u64,
    pub(super) size: u64,
}

/// What reading a segment came to.
pub(super) struct Scanned {
    /// Behind the last whole frame that counts.
    pub(super) end: u64,
    pub(super) frames: u64,
    /// Bytes behind `end` that were never synced.
    pub(super) torn: u64,
    /// They are what an unfinished write leaves: the file ends in the middle of a frame, or nothing but zeros follows. Otherwise they
    /// may as well be the end of the log, damaged later.
    pub(super) is_unfinished: bool,
}

impl Segments {
    /// Opens every segment and reads its header.
    pub(super) fn find(files: &dyn Files) -> io::Result<Self> {
        let names = files.list()?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let noted = Span::noted(files);
        let mut found = Self {
            all: BTreeMap::new(),
            salt: None,
            next_number: numbers
                .last()
                .copied()
                .max(noted.map(|noted| noted.last))
                .map_or(1, |last| u64::from(last) + 1),
            next_id: 0,
            strays: Vec::new(),
            damages: Vec::new(),
            newer: None,
        };
        let mut headers = BTreeMap::new();
        for number in numbers {
            let file = files.open(&name_of(number))?;
            let size = file.size()?;
            let mut bytes = Vec::new();
            let _ = read_blocks(&*file, 0, SEGMENT_HEADER, &mut bytes); // What can't be read is no header.
            match SegmentHeader::read(&bytes) {
                Header::Good(header) if header.number == number => {
                    found.salt = Some(header.salt);
                    found.next_id = found.next_id.max(header.next_id);
                    headers.insert(number, header);
                }
                Header::Newer(version) => found.newer = Some((name_of(number), version)),
                Header::Good(_) | Header::Bad => {
                    // The first frame knows which is the right one.
                    let fits = |salt: &u64| Reader::new(number, &*file, size, *salt).is_frame(SEGMENT_HEADER as u64);
                    found.salt = found.salt.or_else(|| SegmentHeader::salts(&bytes).find(fits));
                }
            }
            found.all.insert(number, Found { file, sealed: None, safe: 0, size });
        }
        if let Some(end) = End::noted(files).filter(|end| Some(end.salt) == found.salt)
            && let Some(segment) = found.all.get_mut(&end.segment)
        {
            segment.safe = end.offset;
        }
        found.chain(&headers, noted);
        Ok(found)
    }

    fn chain(&mut self, headers: &BTreeMap<u32, SegmentHeader>, noted: Option<Span>) {
        // What is before the first was given back, unless it is noted that it has to be there.
        let from = self.all.keys().next().copied().into_iter().chain(noted.map(|noted| noted.first)).min();
        for header in headers.values().filter(|header| header.previous != 0) {
            match self.all.get_mut(&header.previous) {
                Some(previous) => previous.sealed = Some(header.previous_end),
                None if from.is_some_and(|from| from <= header.previous) => {
                    self.damages.push(Damage::missing(header.previous));
                }
                None => {}
            }
        }
        let last = self.all.keys().next_back().copied();
        self.all.retain(|number, segment| {
            if segment.sealed.is_some() || (headers.contains_key(number) && Some(*number) == last) {
                return true;
            }
            // Nobody followed it. It holds nothing if it was given up, or the power went, while it was made: before anything else is
            // written to it, its header is safe.
            let is_stray = segment.size <= SEGMENT_HEADER as u64 && noted.is_none_or(|noted| noted.last != *number);
            if is_stray {
                self.strays.push(name_of(*number));
            }
            !is_stray
        });
        // The last one has no successor that could miss it, and the first may have been given back.
        let ends = noted.map_or_else(Vec::new, |noted| vec![noted.first, noted.last]);
        for end in ends.into_iter().filter(|end| !self.all.contains_key(end)) {
            let missing = Damage::missing(end);
            if !self.damages.contains(&missing) {
                self.damages.push(missing);
            }
        }
        for (number, segment) in self.all.iter().filter(|(number, _)| !headers.contains_key(number)) {
            self.damages.push(Damage {
                file: name_of(*number),
                offset: 0,
                length: segment.size.min(SEGMENT_HEADER as u64),
                what: "the header of the segment is damaged".into(),
            });
        }
    }
}

/// Reads a segment and hands on the operations of its whole frames.
pub(super) fn scan(
    number: u32,
    segment: &Found,
    salt: Option<u64>,
    damages: &mut Vec<Damage>,
    mut take: impl FnMut(&Op<'_>, At),
) -> Scanned {
    let end = segment.sealed.unwrap_or(segment.size.max(segment.safe));
    let mut scanned = Scanned { end: SEGMENT_HEADER as u64, frames: 0, torn: 0, is_unfinished: false };
    let mut damage = |offset: u64, until: u64, what: &str| {
        let length = until - offset;
        damages.push(Damage { file: name_of(number), offset, length, what: what.into() });
    };
    let Some(salt) = salt else {
        // Nobody can say what is whole in it, and so nothing is a torn end.
        let until = end.min(segment.size).max(scanned.end);
        if until > scanned.end {
            damage(scanned.end, until, "without the header of a segment nothing in it can be read");
        }
        return Scanned { end: until, ..scanned };
    };
    let mut reader = Reader::new(number, &*segment.file, end.min(segment.size), salt);
    while scanned.end < reader.end {
        let at = scanned.end;
        if let Some(length) = reader.frame(at, |body, offset| hand_on(number, body, offset, &mut take)) {
            scanned.frames += 1;
            scanned.end += FRAME_HEADER as u64 + length;
            continue;
        }
        // What was synced once (a frame behind it says so, or the end that was noted) and is not whole now is damaged; what was
        // never synced is a torn end. What the disk does not give is neither known to be torn nor gone for ever: it must not be cut.
        let is_torn = segment.sealed.is_none()
            && at >= segment.safe
            && reader.find_frame(at + 1, |header| u64::from(header.synced) > at).is_none()
            && reader.unreadable_until <= at;
        if is_torn {
            scanned.torn = reader.end - at;
            scanned.is_unfinished = reader.is_unfinished(at);
            return scanned;
        }
        let rest = if at < segment.safe { segment.safe.min(reader.end) } else { reader.end };
        let next = reader.find_frame(at + 1, |_| true).unwrap_or(rest);
        damage(at, next, "a frame is damaged");
        scanned.end = next;
    }
    if segment.size < end {
        damage(segment.size, end, "the end of the segment is missing");
    }
    scanned
}

/// Hands on the operations of a frame, all or none.
fn hand_on(number: u32, body: &[u8], offset: u64, take: &mut impl FnMut(&Op<'_>, At)) -> Option<()> {
    for (op, from, length) in ops(body).collect::<Result<Vec<_>, _>>().ok()? {
        let offset = u32::try_from(offset + from as u64).unwrap_or(u32::MAX);
        take(&op, At { segment: number, offset, length: u32::try_from(length).unwrap_or(u32::MAX) });
    }
    Some(())
}

/// The operations of a body, each with its offset in it and its length. Nothing is to be asked for behind a malformed one.
pub(super) fn ops(body: &[u8]) -> impl Iterator<Item = Result<(Op<'_>, usize, usize), Bad>> {
    let mut input = In(body);
    std::iter::from_fn(move || {
        let from = body.len() - input.0.len();
        // The checksum of the frame covers them.
        (!input.is_empty()).then(|| Ok((Op::read(&mut input, false)?, from, body.len() - input.0.len() - from)))
    })
}

/// A segment, a chunk at a time.
struct Reader<'a> {
    number: u32,
    file: &'a dyn LogFile,
    end: u64,
    salt: u64,
    chunk: Vec<u8>,
    /// Where the chunk begins.
    from: u64,
    /// Behind the last bytes that the disk did not give.
    unreadable_until: u64,
}

impl<'a> Reader<'a> {
    fn new(number: u32, file: &'a dyn LogFile, end: u64, salt: u64) -> Self {
        Self { number, file, end, salt, chunk: Vec::new(), from: 0, unreadable_until: 0 }
    }

    /// Exactly these bytes; `None` when they go beyond the end.
    fn get(&mut self, offset: u64, length: u64) -> Option<&[u8]> {
        if offset.checked_add(length)? > self.end {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        let has = self.from <= offset && offset + length as u64 <= self.from + self.chunk.len() as u64;
        if !has {
            self.chunk.clear();
            self.from = offset;
            let most = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
            let unreadable = read_blocks(self.file, offset, length.max(CHUNK).min(most), &mut self.chunk);
            self.unreadable_until = self.unreadable_until.max(unreadable);
        }
        let start = usize::try_from(offset - self.from).ok()?;
        self.chunk.get(start..start + length)
    }

    fn header(&mut self, at: u64) -> Option<FrameHeader> {
        let spot = Spot { salt: self.salt, segment: self.number, offset: at };
        FrameHeader::read(self.get(at, FRAME_HEADER as u64)?, spot)
    }

    /// The length of the body of the whole frame at `at`, when `check` takes it; it is told the body and its offset.
    fn frame(&mut self, at: u64, check: impl FnOnce(&[u8], u64) -> Option<()>) -> Option<u64> {
        let header = self.header(at)?;
        let start = at + FRAME_HEADER as u64;
        let body = self.get(start, header.length.into())?;
        if !header.fits(body) {
            return None;
        }
        check(body, start)?;
        Some(header.length.into())
    }

    /// How much of the chunk begins at `from`, after reading on when it is less than a header.
    fn ahead(&mut self, from: u64) -> Option<u64> {
        self.get(from, FRAME_HEADER as u64)?;
        Some(self.from + self.chunk.len() as u64 - from)
    }

    /// Whether a whole frame begins at `at`.
    fn is_frame(&mut self, at: u64) -> bool {
        self.frame(at, |body, _| ops(body).all(|op| op.is_ok()).then_some(())).is_some()
    }

    /// Whether what begins at `at` and is no whole frame is plainly one that was not written to its end.
    fn is_unfinished(&mut self, at: u64) -> bool {
        match self.header(at) {
            Some(header) => at + FRAME_HEADER as u64 + u64::from(header.length) > self.end,
            None => self.end - at < FRAME_HEADER as u64 || self.is_zero(at),
        }
    }

    fn is_zero(&mut self, mut from: u64) -> bool {
        while from < self.end {
            let length = (self.end - from).min(CHUNK as u64);
            if self.get(from, length).is_none_or(|bytes| bytes.iter().any(|byte| *byte != 0)) {
                return false;
            }
            from += length;
        }
        true
    }

    /// Where the next whole frame is whose header `wanted` takes.
    fn find_frame(&mut self, mut from: u64, wanted: impl Fn(&FrameHeader) -> bool) -> Option<u64> {
        loop {
            let ahead = self.ahead(from)?;
            let window = self.get(from, ahead)?;
            let Some(place) = window.windows(MARKER.len()).position(|bytes| bytes == MARKER) else {
                // A marker may begin in the last three bytes.
                from += ahead - MARKER.len() as u64 + 1;
                continue;
            };
            let at = from + place as u64;
            let is_wanted = self.header(at).is_some_and(|header| wanted(&header));
            if is_wanted && self.is_frame(at) {
                return Some(at);
            }
            from = at + 1;
        }
    }
}

/// Reads, with zeros in place of blocks that the disk can't read: their checksums will say so. Where the last of those ends, 0
/// without any.
fn read_blocks(file: &dyn LogFile, offset: u64, length: usize, out: &mut Vec<u8>) -> u64 {
    if read_up_to(file, offset, length, out).is_ok() {
        return 0;
    }
    let (mut done, mut unreadable_until) = (0, 0);
    while done < length {
        let block = BLOCK.min(length - done);
        let before = out.len();
        if read_up_to(file, offset + done as u64, block, out).is_err() {
            out.resize(before + block, 0);
            unreadable_until = offset + (done + block) as u64;
        }
        done += block;
    }
    unreadable_until
}
