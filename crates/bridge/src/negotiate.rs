//! Which level is offered to which address.
//!
//! In: how an attempt at a level ended. Out: the level to try next, or that none is left in this round. Never dials;
//! remembers per address what worked until the bridge is made anew.

use viaduct_codec::{Level, QoS, ReasonCode};

use crate::StepDown;
use crate::limits;

/// What one address has taught us.
#[derive(Clone, Debug)]
pub struct Negotiation {
    /// Best first; never empty.
    ladder: Vec<Level>,
    /// Where on the ladder the next attempt stands.
    rung: usize,
    /// The level at `rung` was once answered by a CONNACK that did not refuse the level.
    worked: bool,
    /// How often in a row a level that worked ended before CONNACK.
    closed: u32,
    /// The levels given up in this round, and why.
    given_up: Vec<(Level, StepDown)>,
    /// The levels above `rung`, and why each was left: what the operator is told of the level in use.
    left: Vec<(Level, StepDown)>,
    /// What CONNECT asks for at most.
    wishes: Wishes,
}

/// What CONNECT asks for: less, once the remote has refused more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Retained messages, and a retained will.
    pub retain: bool,
    /// The highest QoS, the will's included.
    pub qos: QoS,
}

impl Wishes {
    /// Nothing given up.
    pub const ALL: Self = Self { retain: true, qos: QoS::ExactlyOnce };
}

/// What follows a level that did not work.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Try this level at once.
    Down(Level),
    /// This level worked before: try it again when this address has its turn.
    Again,
    /// None is left in this round; the next round begins at the top.
    Exhausted(Vec<(Level, StepDown)>),
}

impl Negotiation {
    /// Begins at the top of `ladder`, which must not be empty, and asks for no more than `wishes`.
    #[must_use]
    pub const fn new(ladder: Vec<Level>, wishes: Wishes) -> Self {
        Self { ladder, rung: 0, worked: false, closed: 0, given_up: Vec::new(), left: Vec::new(), wishes }
    }

    /// The level for the next attempt.
    #[must_use]
    pub fn level(&self) -> Level {
        self.ladder.get(self.rung).copied().unwrap_or(Level::V311)
    }

    /// The levels that are worth an attempt now: the one that worked, or all from the present one down.
    #[must_use]
    pub fn candidates(&self) -> Vec<Level> {
        let count = if self.worked { 1 } else { self.ladder.len() };
        self.ladder.iter().skip(self.rung).take(count).copied().collect()
    }

    /// The levels that were left on the way to [`Negotiation::level`], and why.
    #[must_use]
    pub fn left(&self) -> &[(Level, StepDown)] {
        &self.left
    }

    /// What CONNECT may ask for.
    #[must_use]
    pub const fn wishes(&self) -> Wishes {
        self.wishes
    }

    /// The peer answered CONNECT at this level, whatever it said: it knows the level.
    pub fn understood(&mut self) {
        self.worked = true;
        self.closed = 0;
        self.given_up.clear();
    }

    /// The attempt failed for a reason that says nothing about levels. A round that was under way starts over: what
    /// closed the connection before may have been the same trouble.
    pub fn interrupted(&mut self) {
        if !self.worked {
            self.rung = 0;
            self.given_up.clear();
            self.left.clear();
        }
    }

    /// The level did not lead to a CONNACK.
    pub fn failed(&mut self, why: StepDown) -> Next {
        if self.worked && why == StepDown::Closed {
            self.closed += 1;
            if self.closed < limits::REMEMBERED_TRIES {
                return Next::Again;
            }
        }
        self.given_up.push((self.level(), why));
        self.worked = false;
        self.closed = 0;
        if self.rung + 1 < self.ladder.len() {
            self.left.push((self.level(), why));
            self.rung += 1;
            return Next::Down(self.level());
        }
        self.rung = 0;
        self.left.clear();
        Next::Exhausted(std::mem::take(&mut self.given_up))
    }

    /// CONNACK refused what was asked for. Whether there is something left to give up, so that a second CONNECT at
    /// once makes sense: retain once (0x9A), one QoS at a time (0x9B).
    pub fn refused(&mut self, reason: ReasonCode) -> bool {
        match reason {
            ReasonCode::RETAIN_NOT_SUPPORTED if self.wishes.retain => self.wishes.retain = false,
            ReasonCode::QOS_NOT_SUPPORTED if self.wishes.qos == QoS::ExactlyOnce => {
                self.wishes.qos = QoS::AtLeastOnce;
            }
            ReasonCode::QOS_NOT_SUPPORTED if self.wishes.qos == QoS::AtLeastOnce => self.wishes.qos = QoS::AtMostOnce,
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    fn auto() -> Negotiation {
        Negotiation::new(Protocol::Auto.ladder(true), Wishes::ALL)
    }

    #[test]
    fn each_failure_is_one_step_down_and_the_round_ends_at_the_bottom() {
        let mut negotiation = auto();
        let refused = StepDown::Refused(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION.into());
        for level in [Level::V311_BRIDGE, Level::V311, Level::V31_BRIDGE, Level::V31] {
            assert_eq!(negotiation.failed(refused), Next::Down(level));
        }
        let Next::Exhausted(steps) = negotiation.failed(StepDown::Closed) else { panic!("one round only") };
        assert_eq!(steps.iter().map(|(level, _)| level.byte()).collect::<Vec<_>>(), [5, 132, 4, 131, 3]);
        assert_eq!(negotiation.level(), Level::V5, "the next round begins at the top");
    }

    #[test]
    fn what_worked_is_remembered_and_a_restart_of_the_remote_does_not_cost_the_level() {
        let mut negotiation = auto();
        assert_eq!(negotiation.failed(StepDown::Closed), Next::Down(Level::V311_BRIDGE));
        negotiation.understood();
        for _ in 0..5 {
            assert_eq!(negotiation.failed(StepDown::Closed), Next::Again);
            assert_eq!(negotiation.failed(StepDown::Closed), Next::Again);
            assert_eq!(negotiation.level(), Level::V311_BRIDGE);
            negotiation.understood();
        }
        negotiation.failed(StepDown::Closed);
        negotiation.failed(StepDown::Closed);
        assert_eq!(negotiation.failed(StepDown::Closed), Next::Down(Level::V311));
    }

    #[test]
    fn a_remembered_level_that_is_refused_is_left_at_once() {
        let mut negotiation = auto();
        negotiation.understood();
        let refused = StepDown::Refused(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION.into());
        assert_eq!(negotiation.failed(refused), Next::Down(Level::V311_BRIDGE));
    }

    #[test]
    fn a_round_that_the_network_interrupts_starts_over() {
        let mut negotiation = auto();
        negotiation.failed(StepDown::Closed);
        negotiation.interrupted();
        assert_eq!(negotiation.level(), Level::V5);
        negotiation.failed(StepDown::Closed);
        negotiation.understood();
        negotiation.interrupted();
        assert_eq!(negotiation.level(), Level::V311_BRIDGE);
        assert_eq!(negotiation.left(), [(Level::V5, StepDown::Closed)], "what worked is known by what was left for it");
    }

    #[test]
    fn wishes_are_given_up_one_by_one_and_not_twice() {
        let mut negotiation = auto();
        assert!(negotiation.refused(ReasonCode::RETAIN_NOT_SUPPORTED));
        assert!(!negotiation.refused(ReasonCode::RETAIN_NOT_SUPPORTED));
        assert!(negotiation.refused(ReasonCode::QOS_NOT_SUPPORTED));
        assert!(negotiation.refused(ReasonCode::QOS_NOT_SUPPORTED));
        assert!(!negotiation.refused(ReasonCode::QOS_NOT_SUPPORTED));
        assert_eq!(negotiation.wishes(), Wishes { retain: false, qos: QoS::AtMostOnce });
        assert!(!negotiation.refused(ReasonCode::NOT_AUTHORIZED));
    }
}
