//! What a door has made ready for the log and the index does not know yet: it can be read from here in the meantime.
//!
//! In: operations as the log will hold them, group by group. Out: those groups, and messages of them. Holds nothing that
//! has been written; asks no file.

use std::collections::VecDeque;
use std::sync::Arc;

use viaduct_codec::{Settler, Stub};

use super::op::Op;
use super::read;
use super::scan::ops;
use crate::Stored;

/// What one door has under way, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    /// Groups that the thread of the log has. Their tickets rise, and so do the numbers of their messages.
    handed: VecDeque<Handed>,
    /// What the next group will begin with.
    pub(super) open: Vec<u8>,
}

#[derive(Debug)]
struct Handed {
    ticket: u64,
    /// The highest number of a message in it, 0 for none.
    last_id: u64,
    body: Arc<Vec<u8>>,
}

impl Unwritten {
    /// A group goes to the thread of the log.
    pub(super) fn hand_over(&mut self, ticket: u64, last_id: u64, body: Arc<Vec<u8>>) {
        self.handed.push_back(Handed { ticket, last_id, body });
    }

    /// The index knows everything up to this ticket.
    pub(super) fn forget(&mut self, ticket: u64) {
        while self.handed.front().is_some_and(|first| first.ticket <= ticket) {
            self.handed.pop_front();
        }
    }

    /// Gives `found` those of `wanted`, which stand in the order of their messages, that are here.
    pub(super) fn read(
        &self,
        wanted: &[(Stub, usize)],
        settler: &Arc<Settler>,
        mut found: impl FnMut(usize, Option<Stored>),
    ) {
        let Some(((oldest, _), (newest, _))) = wanted.first().zip(wanted.last()) else { return };
        // A disk that does not write leaves megabytes here, and a page of a queue is asked for at a time.
        let handed = self.handed.iter().filter(|group| group.last_id >= oldest.id).map(|group| group.body.as_slice());
        for (op, ..) in handed.chain([self.open.as_slice()]).flat_map(ops).map_while(Result::ok) {
            let Op::Message(op) = op else { continue };
            if op.id > newest.id {
                return;
            }
            let first = wanted.partition_point(|(stub, _)| stub.id < op.id);
            for (stub, place) in wanted.iter().skip(first).take_while(|(stub, _)| stub.id == op.id) {
                found(*place, read::stored(&op, *stub, settler));
            }
        }
    }
}
