//! Segments and frames: how the log is cut into pieces that can be told apart and checked.
//!
//! In: bodies of frames and where they go, or bytes of a file that may be anything. Out: headers. Every checksum of a frame's
//! header covers a number that only this store knows, its segment and its offset, so that neither an old block nor a message
//! that looks like a frame is taken for one.

use super::wire::In;

/// The first bytes of every segment.
pub(super) const MAGIC: &[u8; 8] = b"VIADUCT\0";
/// What this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;
/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 64;
/// Bytes of a frame's header.
pub(super) const FRAME_HEADER: usize = 20;
/// The first bytes of every frame.
pub(super) const MARKER: [u8; 4] = [0xf5, b'V', b'd', 0xfa];

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: u32,
    /// The segment that was written before, 0 for none, and where it ends; what follows there was never committed.
    pub(super) previous: u32,
    pub(super) previous_end: u64,
    /// The number that this store mixes into its checksums.
    pub(super) salt: u64,
    /// No message that was appended before had a number as high as this.
    pub(super) next_id: u64,
}

/// What the header of a segment turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Good(SegmentHeader),
    /// Written by a newer program.
    Newer(u32),
    Bad,
}

impl SegmentHeader {
    pub(super) fn to_bytes(self) -> [u8; SEGMENT_HEADER] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&self.next_id.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.resize(SEGMENT_HEADER - 4, 0);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.try_into().unwrap_or([0; SEGMENT_HEADER])
    }

    /// What may be the salt when the header is damaged: as it stands there, or with one bit of it flipped. Nothing in a segment
    /// can be read without.
    pub(super) fn salts(bytes: &[u8]) -> impl Iterator<Item = u64> {
        let written = bytes.get(16..).and_then(|bytes| In(bytes).u64());
        written.into_iter().flat_map(|salt| std::iter::once(salt).chain((0..64).map(move |bit| salt ^ 1 << bit)))
    }

    pub(super) fn read(bytes: &[u8]) -> Header {
        Self::fields(bytes).unwrap_or(Header::Bad)
    }

    fn fields(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..SEGMENT_HEADER)?;
        let (covered, checksum) = bytes.split_at_checked(SEGMENT_HEADER - 4)?;
        if In(checksum).u32()? != crc32c::crc32c(covered) {
            return None;
        }
        let mut input = In(covered);
        if input.bytes(MAGIC.len())? != MAGIC {
            return None;
        }
        let version = input.u32()?;
        if version > VERSION {
            return Some(Header::Newer(version));
        }
        if version == 0 {
            return None; // There was none.
        }
        Some(Header::Good(Self {
            number: input.u32()?,
            salt: input.u64()?,
            previous_end: input.u64()?,
            next_id: input.u64()?,
            previous: input.u32()?,
        }))
    }
}

/// Where a frame stands: what its header's checksum covers besides the header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) salt: u64,
    pub(super) segment: u32,
    pub(super) offset: u64,
}

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes of its body.
    pub(super) length: u32,
    /// Everything in its segment before this offset had been synced when it was written.
    pub(super) synced: u32,
    body_checksum: u32,
}

impl FrameHeader {
    pub(super) fn new(body: &[u8], synced: u64) -> Self {
        Self {
            length: u32::try_from(body.len()).unwrap_or(u32::MAX),
            synced: u32::try_from(synced).unwrap_or(u32::MAX),
            body_checksum: crc32c::crc32c(body),
        }
    }

    pub(super) fn to_bytes(self, spot: Spot) -> [u8; FRAME_HEADER] {
        let mut out = [0; FRAME_HEADER];
        out[..4].copy_from_slice(&MARKER);
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..12].copy_from_slice(&self.synced.to_le_bytes());
        out[12..16].copy_from_slice(&self.body_checksum.to_le_bytes());
        let checksum = spot.checksum(&out[..16]);
        out[16..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The header at the front of `bytes`; `None` when there is none that was written for this spot.
    pub(super) fn read(bytes: &[u8], spot: Spot) -> Option<Self> {
        let mut input = In(bytes);
        let covered = input.bytes(FRAME_HEADER - 4)?;
        if !covered.starts_with(&MARKER) || input.u32()? != spot.checksum(covered) {
            return None;
        }
        let mut fields = In(covered.get(MARKER.len()..)?);
        Some(Self { length: fields.u32()?, synced: fields.u32()?, body_checksum: fields.u32()? })
    }

    pub(super) fn fits(self, body: &[u8]) -> bool {
        crc32c::crc32c(body) == self.body_checksum
    }
}

impl Spot {
    fn checksum(self, header: &[u8]) -> u32 {
        let sum = crc32c::crc32c(&self.salt.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &self.segment.to_le_bytes());
        let sum = crc32c::crc32c_append(sum, &self.offset.to_le_bytes());
        crc32c::crc32c_append(sum, header)
    }
}

/// The name of a segment's file.
pub(super) fn name_of(segment: u32) -> String {
    format!("{segment:08}.log")
}

/// The segment that a file of this name is; `None` for any other file.
pub(super) fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    let number = digits.parse().ok()?;
    (number != 0 && name_of(number) == name).then_some(number)
}
