//! The account of one topic that a bridge carries: what was sent, acknowledged, and when what arrived.
//!
//! In: numbers and moments. Out: what is lost, doubled or out of order, and the longest time without an arrival while
//! nothing was wrong with its bridge. Must never: know a socket, so that made-up histories can be judged as well.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::judge::{Breach, Promise};

/// Messages are numbered from 0 in the order of their first sending.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The topic.
    pub(crate) topic: String,
    sent: Vec<Instant>,
    acknowledged: Vec<bool>,
    arrived: Vec<bool>,
    /// One more than the highest number that arrived.
    reached: usize,
    /// Numbers that a broker other than the one under test took with it when it was killed.
    forfeit: Vec<Range<usize>>,
    /// Arrivals of what had arrived.
    pub(crate) doubled: u64,
    /// Those of them that came while nothing was wrong with its bridge.
    pub(crate) doubled_well: u64,
    /// First arrivals behind a higher number.
    pub(crate) misordered: u64,
    /// Numbers that nobody sent.
    pub(crate) strange: u64,
    last_arrival: Option<Instant>,
    /// The longest time between two arrivals of one that is watched.
    pub(crate) largest_gap: Duration,
    /// Something is wrong with its bridge, which may leave a gap.
    is_excused: bool,
}

impl Stream {
    pub(crate) fn new(topic: String) -> Self {
        Self {
            topic,
            sent: Vec::new(),
            acknowledged: Vec::new(),
            arrived: Vec::new(),
            reached: 0,
            forfeit: Vec::new(),
            doubled: 0,
            doubled_well: 0,
            misordered: 0,
            strange: 0,
            last_arrival: None,
            largest_gap: Duration::ZERO,
            is_excused: true,
        }
    }

    /// A message is sent for the first time; its number.
    pub(crate) fn send(&mut self, now: Instant) -> usize {
        self.sent.push(now);
        self.acknowledged.push(false);
        self.arrived.push(false);
        self.sent.len() - 1
    }

    pub(crate) fn acknowledge(&mut self, number: usize) {
        if let Some(acknowledged) = self.acknowledged.get_mut(number) {
            *acknowledged = true;
        }
    }

    /// A message arrives; how long it was on its way.
    pub(crate) fn arrive(&mut self, now: Instant, number: usize) -> Duration {
        let (Some(sent), Some(arrived)) = (self.sent.get(number), self.arrived.get_mut(number)) else {
            self.strange += 1;
            return Duration::ZERO;
        };
        let way = now.saturating_duration_since(*sent);
        if std::mem::replace(arrived, true) {
            self.doubled += 1;
            self.doubled_well += u64::from(!self.is_excused);
            return way;
        }
        self.misordered += u64::from(number < self.reached);
        self.reached = self.reached.max(number + 1);
        self.look(now);
        self.last_arrival = Some(now);
        way
    }

    /// Up to now nothing more has arrived.
    pub(crate) fn look(&mut self, now: Instant) {
        if let Some(last) = self.last_arrival.filter(|_| !self.is_excused) {
            self.largest_gap = self.largest_gap.max(now.saturating_duration_since(last));
        }
    }

    /// From now on a gap counts against its bridge, or does not.
    pub(crate) fn excuse(&mut self, now: Instant, is_excused: bool) {
        self.look(now);
        self.is_excused = is_excused;
        self.last_arrival = Some(now);
    }

    /// The first number that is not acknowledged; the next one when all are.
    pub(crate) fn first_open(&self) -> usize {
        self.acknowledged.iter().position(|acknowledged| !acknowledged).unwrap_or(self.sent.len())
    }

    /// One more than the highest number that arrived.
    pub(crate) const fn reached(&self) -> usize {
        self.reached
    }

    pub(crate) fn forfeit(&mut self, numbers: Range<usize>) {
        self.forfeit.push(numbers);
    }

    pub(crate) fn count(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.iter().filter(|acknowledged| **acknowledged).count()
    }

    /// Acknowledged, and not arrived.
    pub(crate) fn missing(&self) -> impl Iterator<Item = usize> {
        let gone = self.acknowledged.iter().zip(&self.arrived).enumerate();
        gone.filter(|(_, (acknowledged, arrived))| **acknowledged && !**arrived).map(|(number, _)| number)
    }

    /// What is missing and was not forfeited.
    pub(crate) fn lost(&self) -> impl Iterator<Item = usize> {
        self.missing().filter(|number| !self.forfeit.iter().any(|range| range.contains(number)))
    }

    /// The promises that an arrival has broken whatever the drill.
    pub(crate) fn disorder(&self) -> impl Iterator<Item = Breach> {
        let counts = [
            (Promise::Order, self.misordered, "messages arrived behind later ones"),
            (Promise::Unasked, self.strange, "messages that nobody sent"),
        ];
        let broken = counts.into_iter().filter(|(_, count, _)| *count > 0);
        broken.map(|(promise, count, what)| Breach::new(promise, format!("{}: {count} {what}", self.topic)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    fn stream(count: usize) -> (Stream, Instant) {
        let now = Instant::now();
        let mut stream = Stream::new("out/0/x".to_owned());
        for number in 0..count {
            assert_eq!(stream.send(now), number);
            stream.acknowledge(number);
        }
        stream.excuse(now, false);
        (stream, now)
    }

    #[test]
    fn what_was_acknowledged_and_did_not_arrive_is_lost_unless_another_broker_took_it_along() {
        let (mut stream, now) = stream(4);
        let open = stream.send(now);
        for number in [0, 3] {
            stream.arrive(now, number);
        }
        assert_eq!(stream.lost().collect::<Vec<_>>(), [1, 2], "{open} was never acknowledged");
        stream.forfeit(2..3);
        assert_eq!(stream.lost().collect::<Vec<_>>(), [1]);
        assert_eq!((stream.missing().count(), stream.first_open(), stream.reached()), (2, 4, 4));
    }

    #[test]
    fn repeats_and_jumps_back_are_told_apart() {
        let (mut stream, now) = stream(4);
        for number in [0, 2, 0, 2, 1, 3, 9] {
            stream.arrive(now, number);
        }
        assert_eq!((stream.doubled, stream.misordered, stream.strange), (2, 1, 1));
        assert_eq!(stream.doubled_well, 2);
        stream.excuse(now, true);
        stream.arrive(now, 3);
        assert_eq!((stream.doubled, stream.doubled_well), (3, 2), "a trouble may double");
    }

    #[test]
    fn a_gap_counts_only_while_nothing_is_wrong() {
        let (mut stream, now) = stream(4);
        stream.arrive(now + STEP, 0);
        stream.excuse(now + 2 * STEP, true);
        stream.arrive(now + 50 * STEP, 1);
        stream.excuse(now + 51 * STEP, false);
        stream.arrive(now + 54 * STEP, 2);
        assert_eq!(stream.largest_gap, 3 * STEP);
        stream.look(now + 60 * STEP);
        assert_eq!(stream.largest_gap, 6 * STEP);
    }
}
