//! One connection: two pipes, and what each end knows of it.
//!
//! In and out: fields that the rooms of the world change. Never acts by itself.

use std::collections::VecDeque;

use viaduct_codec::{Time, Version};
use viaduct_engine::Arrival;

use crate::pipe::Pipe;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The client at this place.
    Client(usize),
    /// The local half of the bridge at this place.
    Local(usize),
    /// The remote half of the bridge at this place.
    Remote(usize),
    /// Whoever it was does not listen any more.
    Nobody,
}

/// The broker's end.
#[derive(Debug)]
pub(crate) enum Server {
    /// CONNECT is not there yet.
    Waiting,
    /// The engine wants it later.
    Held(Box<Arrival>),
    /// It has an engine, of this worker.
    Open(u16),
    /// The broker knows nothing of it any more.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) owner: Owner,
    pub(crate) broker: usize,
    pub(crate) version: Version,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    pub(crate) server: Server,
    /// Bytes that the broker has and did not use yet.
    pub(crate) tail: Vec<u8>,
    /// Up to which byte of its output the broker had come, and when.
    marks: VecDeque<(u64, Time)>,
    /// Bytes that left the engine's output.
    pub(crate) written: u64,
    /// Bytes that the client has and did not use yet.
    pub(crate) heard: Vec<u8>,
    /// Bytes that the client used.
    used: u64,
    /// The broker reads nothing before.
    pub(crate) paused_until: Time,
    /// The client reads nothing before.
    pub(crate) stalled_until: Time,
    /// It was cut.
    pub(crate) is_cut: bool,
}

impl Link {
    pub(crate) fn new(owner: Owner, broker: usize, version: Version, capacity: usize) -> Self {
        Self {
            owner,
            broker,
            version,
            up: Pipe::new(usize::MAX),
            down: Pipe::new(capacity),
            server: Server::Waiting,
            tail: Vec::new(),
            marks: VecDeque::new(),
            written: 0,
            heard: Vec::new(),
            used: 0,
            paused_until: Time::default(),
            stalled_until: Time::default(),
            is_cut: false,
        }
    }

    /// The engine's output has `pending` bytes now; whatever is new in it was written now.
    pub(crate) fn mark(&mut self, now: Time, pending: usize) {
        let total = self.written + pending as u64;
        if self.marks.back().is_none_or(|(end, _)| *end < total) {
            self.marks.push_back((total, now));
        }
    }

    /// The client used a packet of `size` bytes; when the broker wrote it.
    pub(crate) fn used(&mut self, size: usize) -> Time {
        self.used += size as u64;
        while self.marks.front().is_some_and(|(end, _)| *end < self.used) {
            self.marks.pop_front();
        }
        self.marks.front().map_or(Time::default(), |(_, time)| *time)
    }

    pub(crate) fn worker(&self) -> Option<u16> {
        if let Server::Open(worker) = self.server { Some(worker) } else { None }
    }
}
