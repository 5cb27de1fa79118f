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
    /// Groups that the thread of the log has, by ticket.
    handed: VecDeque<(u64, Arc<Vec<u8>>)>,
    /// What the next group will begin with.
    pub(super) open: Vec<u8>,
}

impl Unwritten {
    /// A group goes to the thread of the log.
    pub(super) fn hand_over(&mut self, ticket: u64, body: Arc<Vec<u8>>) {
        self.handed.push_back((ticket, body));
    }

    /// The index knows everything up to this ticket.
    pub(super) fn forget(&mut self, ticket: u64) {
        while self.handed.front().is_some_and(|(first, _)| *first <= ticket) {
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
        let bodies = self.handed.iter().map(|(_, body)| body.as_slice()).chain([self.open.as_slice()]);
        for (op, ..) in bodies.flat_map(ops).map_while(Result::ok) {
            let Op::Message(op) = op else { continue };
            let first = wanted.partition_point(|(stub, _)| stub.id < op.id);
            for (stub, place) in wanted.iter().skip(first).take_while(|(stub, _)| stub.id == op.id) {
                found(*place, read::stored(&op, *stub, settler));
            }
        }
    }
}
