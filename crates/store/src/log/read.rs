//! Reads messages back that wait in the log.
//!
//! In: stubs. Out: messages with their places, each verified by its own checksum. What stands together is read together.

use std::io;
use std::sync::Arc;

use viaduct_codec::{Kept, Settler, Stub};

use super::files::{LogFile, read_up_to};
use super::frame::name_of;
use super::index::{At, Index};
use super::op::{MessageOp, Op};
use super::shared::Shared;
use super::wire::{self, In};
use crate::{StoreError, Stored};

/// Bytes between two messages that are rather read than skipped.
const GAP: u64 = 8 << 10;
/// Bytes that are read at once, unless one message is larger.
const RUN: u64 = 1 << 20;

/// Where a message stands, the place of its result, and its stub.
type Spot = (At, usize, Stub, Arc<dyn LogFile>);

/// Why something could not be had.
#[derive(Debug)]
pub(super) enum Fetched {
    Failed(io::Error),
    Damaged,
}

impl From<io::Error> for Fetched {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// The bytes at a spot, and perhaps some more.
pub(super) fn fetch(file: &dyn LogFile, at: At) -> Result<Vec<u8>, Fetched> {
    let mut bytes = Vec::new();
    let size = file.size()?.saturating_sub(at.offset.into());
    let length = size.min(at.length.into());
    read_up_to(file, at.offset.into(), usize::try_from(length).unwrap_or(0), &mut bytes)?;
    Ok(bytes)
}

/// What each stub stands for, in the order asked.
pub(super) fn read(shared: &Shared, stubs: &[Stub], settler: &Arc<Settler>) -> Vec<Result<Stored, StoreError>> {
    let missing = |stub: &Stub| Err(StoreError::Damaged(format!("message {} is not in the log", stub.id)));
    let mut results: Vec<_> = stubs.iter().map(missing).collect();
    let wanted = stubs.iter().enumerate().map(|(place, stub)| (*stub, place)).collect();
    let mut spots = Vec::with_capacity(stubs.len());
    let absent = find(&shared.index(), wanted, &mut spots);
    if !absent.is_empty() {
        // What was not in the index a moment ago may have come there since.
        let absent = read_unwritten(shared, absent, settler, &mut results);
        find(&shared.index(), absent, &mut spots);
    }
    spots.sort_unstable_by_key(|(at, ..)| (at.segment, at.offset));
    let mut rest = spots.as_slice();
    while let Some(((first, _, _, file), _)) = rest.split_first() {
        let start = u64::from(first.offset);
        let mut end = start + u64::from(first.length);
        let mut count = 1;
        for (at, ..) in rest.iter().skip(1) {
            let next = u64::from(at.offset) + u64::from(at.length);
            if at.segment != first.segment || u64::from(at.offset) > end + GAP || next > start + RUN {
                break;
            }
            end = end.max(next);
            count += 1;
        }
        let (run, behind) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        rest = behind;
        let length = u32::try_from(end - start).unwrap_or(u32::MAX);
        let bytes = fetch(&**file, At { segment: first.segment, offset: first.offset, length });
        for (at, place, stub, _) in run {
            let read = match &bytes {
                Ok(bytes) => stored_at(bytes, u64::from(at.offset) - start, *stub, settler).ok_or_else(|| {
                    StoreError::Damaged(format!("{} at {}: message {}", name_of(at.segment), at.offset, stub.id))
                }),
                Err(Fetched::Failed(error)) => Err(StoreError::Unavailable(error.to_string())),
                Err(Fetched::Damaged) => Err(StoreError::Damaged(name_of(at.segment))),
            };
            if let Some(result) = results.get_mut(*place) {
                *result = read;
            }
        }
    }
    results
}

/// Where those of `wanted` are that the index knows; gives back the others.
fn find(index: &Index, mut wanted: Vec<(Stub, usize)>, spots: &mut Vec<Spot>) -> Vec<(Stub, usize)> {
    wanted.retain(|(stub, place)| {
        let at = index.message(stub.id).filter(|_| index.is_live(stub.id, stub.index));
        let found = at.and_then(|at| Some((at, *place, *stub, Arc::clone(&index.segments.get(&at.segment)?.file))));
        let is_absent = found.is_none();
        spots.extend(found);
        is_absent
    });
    wanted
}

/// Reads those of `wanted` that a door has and the log has not yet; gives back the others.
fn read_unwritten(
    shared: &Shared,
    mut wanted: Vec<(Stub, usize)>,
    settler: &Arc<Settler>,
    results: &mut [Result<Stored, StoreError>],
) -> Vec<(Stub, usize)> {
    wanted.sort_unstable_by_key(|(stub, _)| stub.id);
    for door in &shared.doors {
        let mut found = Vec::new();
        door.unwritten().read(&wanted, settler, |place, stored| {
            if let (Some(result), Some(stored)) = (results.get_mut(place), stored) {
                *result = Ok(stored);
                found.push(place);
            }
        });
        wanted.retain(|(_, place)| !found.contains(place));
    }
    wanted
}

fn stored_at(bytes: &[u8], offset: u64, stub: Stub, settler: &Arc<Settler>) -> Option<Stored> {
    let mut input = In(bytes.get(usize::try_from(offset).ok()?..)?);
    let Ok(Op::Message(op)) = Op::read(&mut input, true) else { return None };
    if op.id == stub.id { stored(&op, stub, settler) } else { None }
}

/// The message of `op` as it is owed by the entry of `stub`.
pub(super) fn stored(op: &MessageOp<'_>, stub: Stub, settler: &Arc<Settler>) -> Option<Stored> {
    let owed = op.owed.iter().find(|owed| owed.index == stub.index)?.to_owed()?;
    let message = Arc::new(wire::message(&mut In(op.message))?);
    Some(Stored { message, owed, place: Kept::written(stub.id, stub.index, Arc::clone(settler)) })
}
