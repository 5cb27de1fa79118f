//! Gives space back, always from the front of the log.
//!
//! In: the index. Out: the oldest segments removed; what is still needed of one is written again at the head first. A segment
//! without anything live is removed unread. Marks are never moved, because what they are about goes with or before them.

use std::io;
use std::sync::atomic::Ordering;

use super::door::RESERVE;
use super::frame::name_of;
use super::index::{At, Index, Thing};
use super::op::{Op, put_inbound, put_message_again, put_put, put_received, put_sent};
use super::read::{Fetched, fetch};
use super::recover::set_aside;
use super::scan::Damage;
use super::span::Span;
use super::wire::In;
use super::writer::Writer;

/// Bytes that are moved in one turn, so that groups need not wait long.
const STEP: usize = 2 << 20;
/// Bytes of one frame.
const FRAME: usize = 512 << 10;

/// What is being moved.
#[derive(Default)]
pub(super) struct Space {
    moving: Option<(u32, Vec<Thing>)>,
}

impl Space {
    /// Whether there is more to do at once.
    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// One step.
    pub(super) fn give_back(&mut self, writer: &mut Writer) -> io::Result<()> {
        self.remove_dead(writer)?;
        if self.moving.is_none() {
            self.moving = next_to_move(writer);
        }
        let Some((segment, mut things)) = self.moving.take() else { return Ok(()) };
        let result = move_some(writer, segment, &mut things);
        if result.is_ok() && !things.is_empty() {
            self.moving = Some((segment, things));
        }
        result?;
        self.remove_dead(writer)
    }

    /// Removes the oldest segments as long as nothing in them is live.
    fn remove_dead(&mut self, writer: &mut Writer) -> io::Result<()> {
        loop {
            let current = writer.current_number();
            let oldest = {
                let index = writer.shared.index();
                index.segments.iter().next().filter(|(_, segment)| segment.live == 0).map(|(number, _)| *number)
            };
            let Some(oldest) = oldest.filter(|oldest| *oldest != current) else { return Ok(()) };
            // What replaced its live things must be safe before they go.
            writer.make_safe()?;
            let early = writer.shared.index().take_early(oldest, |id| writer.may_come(id));
            if !early.is_empty() {
                let mut body = Vec::new();
                for (id, index, progress) in early {
                    put_sent(&mut body, id, index, progress.packet_id);
                    if progress.received {
                        put_received(&mut body, id, index);
                    }
                }
                writer.push(body, false);
                writer.write_waiting()?;
                writer.make_safe()?;
            }
            note_removal(writer)?;
            match writer.files.remove(&name_of(oldest)) {
                // It went before, and the folder could not be synced then.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
            // The next may only go when this one is gone for good: a mark must not go before its message.
            writer.files.sync_dir()?;
            writer.shared.index().segments.remove(&oldest);
            if self.moving.as_ref().is_some_and(|(segment, _)| *segment == oldest) {
                self.moving = None;
            }
        }
    }
}

/// From now on the oldest segment may be gone.
fn note_removal(writer: &Writer) -> io::Result<()> {
    let span = {
        let index = writer.shared.index();
        let first = index.segments.keys().nth(1).copied();
        first.zip(index.segments.keys().next_back().copied()).map(|(first, last)| Span { first, last })
    };
    let Some(span) = span else { return Ok(()) };
    // Where a full disk does not even allow this, space must come back all the same.
    span.note(&*writer.files, true).or_else(|_| Span::forget(&*writer.files))
}

/// The oldest segment, when the log is more than twice as long as what is live in it, or is close to its limit for want of
/// what dead things hold.
fn next_to_move(writer: &Writer) -> Option<(u32, Vec<Thing>)> {
    let index = writer.shared.index();
    let (all, live) = index.bytes();
    let segment = writer.limits.segment_bytes;
    let is_loose = all > live.saturating_mul(2).saturating_add(2 * segment);
    let room = writer.shared.free.load(Ordering::Acquire).saturating_sub(RESERVE).saturating_add(all);
    let is_tight =
        all.saturating_add(2 * segment) > writer.limits.max_bytes.min(room) && all > live.saturating_add(2 * segment);
    let oldest = index.segments.keys().next().copied()?;
    let goes = (is_loose || is_tight) && oldest != writer.current_number();
    goes.then(|| (oldest, index.things_in(oldest)))
}

/// Writes some of the live things of a segment again.
fn move_some(writer: &mut Writer, segment: u32, things: &mut Vec<Thing>) -> io::Result<()> {
    let mut moved = 0;
    let mut body = Vec::new();
    while moved < STEP
        && let Some(thing) = things.pop()
    {
        let before = body.len();
        let at = { where_is(&writer.shared.index(), &thing).filter(|at| at.segment == segment) };
        let Some(at) = at else { continue };
        if let Err(failure) = copy(writer, &thing, at, &mut body) {
            body.truncate(before);
            lose(writer, &thing, at, failure)?;
        }
        moved += body.len() - before;
        if body.len() >= FRAME {
            writer.push(std::mem::take(&mut body), true);
        }
    }
    if !body.is_empty() {
        writer.push(body, true);
    }
    // Nothing else waits: what waits now is newer than what was copied, and must stay behind it.
    writer.write_waiting()
}

fn where_is(index: &Index, thing: &Thing) -> Option<At> {
    match thing {
        Thing::Message(id) => index.message(*id),
        Thing::Record(key) => index.record(key),
        Thing::Inbound(session, packet_id) => index.inbound_at(*session, *packet_id),
    }
}

/// Appends what stands at `at` as it is now.
pub(super) fn copy(writer: &Writer, thing: &Thing, at: At, body: &mut Vec<u8>) -> Result<(), Fetched> {
    if let Thing::Inbound(session, packet_id) = thing {
        put_inbound(body, *session, *packet_id);
        return Ok(());
    }
    let file = writer.shared.index().segments.get(&at.segment).map(|segment| std::sync::Arc::clone(&segment.file));
    let file = file.ok_or(Fetched::Damaged)?;
    let bytes = fetch(&*file, at)?;
    match (thing, Op::read(&mut In(&bytes), true)) {
        (Thing::Message(id), Ok(Op::Message(op))) if op.id == *id => {
            let index = writer.shared.index();
            put_message_again(body, &op, |owed| {
                index.is_live(op.id, owed.index).then(|| index.progress(op.id, owed.index))
            });
            Ok(())
        }
        (Thing::Record(own), Ok(Op::Put { key, value })) if **own == *key => {
            put_put(body, key, |out| out.extend_from_slice(value));
            Ok(())
        }
        _ => Err(Fetched::Damaged),
    }
}

/// What can't be read can't be moved: it is set aside and given up, and said so.
fn lose(writer: &Writer, thing: &Thing, at: At, failure: Fetched) -> io::Result<()> {
    if let Fetched::Failed(error) = failure {
        return Err(error);
    }
    let damage = Damage {
        file: name_of(at.segment),
        offset: at.offset.into(),
        length: at.length.into(),
        what: "an entry is damaged and could not be moved".into(),
    };
    tracing::warn!(file = damage.file, offset = damage.offset, bytes = damage.length, "{}", damage.what);
    set_aside(&*writer.files, &damage)?;
    let mut index = writer.shared.index();
    match thing {
        Thing::Message(id) => index.lose(*id),
        Thing::Record(key) => index.forget_record(key),
        Thing::Inbound(session, packet_id) => index.release(*session, *packet_id),
    }
    Ok(())
}
