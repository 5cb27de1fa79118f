//! One direction of a connection: bytes that take their time, arrive in pieces of any size, and may be lost.
//!
//! In: what one end writes. Out: what the other end gets, and when. Order is kept, as TCP keeps it. Never makes up or
//! changes a byte.

use std::collections::VecDeque;
use std::time::Duration;

use viaduct_codec::Time;

use crate::rng::Rng;

/// How the network is at the moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Milliseconds that a piece usually takes.
    pub(crate) latency: u64,
    /// Of a hundred writes, how many arrive in small pieces.
    pub(crate) shreds: u64,
}

#[derive(Debug)]
pub(crate) struct Pipe {
    pieces: VecDeque<(Time, Vec<u8>)>,
    in_flight: usize,
    capacity: usize,
    last: Time,
    /// When the writer's end of stream arrives.
    pub(crate) end: Option<Time>,
    /// Nothing arrives any more, and the writer does not know.
    dead: bool,
}

impl Pipe {
    /// At most `capacity` bytes are on their way at a time.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { pieces: VecDeque::new(), in_flight: 0, capacity, last: Time::default(), end: None, dead: false }
    }

    /// Bytes that may be written now.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.in_flight)
    }

    /// Puts `bytes` on their way, in pieces; calls `arrival` for each with the time at which to look.
    pub(crate) fn write(
        &mut self,
        rng: &mut Rng,
        weather: Weather,
        now: Time,
        bytes: &[u8],
        mut arrival: impl FnMut(Time),
    ) {
        self.in_flight += bytes.len();
        if self.dead {
            return; // They fill the buffers of the system and stay there.
        }
        let mut rest = bytes;
        let shredded = rng.percent(weather.shreds);
        while !rest.is_empty() {
            let most = if shredded { rng.between(1, 12).max(rest.len() as u64 / 8) } else { rest.len() as u64 };
            let (piece, more) = rest.split_at(usize::try_from(most).unwrap_or(usize::MAX).min(rest.len()));
            let at = now.after(Duration::from_millis(rng.around(weather.latency))).max(self.last);
            self.last = at;
            self.pieces.push_back((at, piece.to_vec()));
            arrival(at);
            rest = more;
        }
    }

    /// The writer says that nothing follows; when the reader learns it.
    pub(crate) fn finish(&mut self, now: Time) -> Time {
        let at = self.last.max(now);
        self.end = self.end.or(Some(at));
        at
    }

    /// What has arrived at `now`.
    pub(crate) fn read(&mut self, now: Time) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.pieces.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, piece)) = self.pieces.pop_front() {
                bytes.extend_from_slice(&piece);
            }
        }
        self.in_flight -= bytes.len();
        bytes
    }

    /// Whether the end of the stream has arrived.
    pub(crate) fn is_over(&self, now: Time) -> bool {
        self.pieces.is_empty() && self.end.is_some_and(|end| end <= now)
    }

    /// Whether nothing is on its way that could still arrive.
    pub(crate) fn is_idle(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The connection breaks at any byte: some of what is on its way still arrives, at once, and the rest never does.
    pub(crate) fn cut(&mut self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.pieces.drain(..).flat_map(|(_, piece)| piece).collect();
        let kept = rng.place(bytes.len() + 1);
        bytes.truncate(kept);
        self.in_flight -= kept;
        self.dead = true;
        self.end = None;
        bytes
    }
}
