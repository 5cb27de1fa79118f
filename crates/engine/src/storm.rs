//! Takeover storms: clients that share a ClientID and take the session from each other for ever.
//!
//! In: each takeover, with its time. Out: whether the newcomer may have the session now, must wait, or is one too many,
//! and when the storm is worth a line in the log. A client that reconnects now and then never notices.

use std::collections::VecDeque;

use hashbrown::HashMap;
use viaduct_codec::{ClientId, Time};

use crate::limits::{STORM_CLIENTS, STORM_LOG, STORM_SPACING, STORM_TAKEOVERS, STORM_WAITING, STORM_WINDOW};

/// What a newcomer for a connected ClientID may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take the session.
    Go,
    /// Ask again at this time.
    Wait(Time),
    /// Too many wait already.
    Busy,
}

/// What to tell the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Whether the storm has just been recognised.
    pub(crate) began: bool,
    /// Takeovers within the window.
    pub(crate) recent: usize,
    /// Takeovers since the ClientID was first seen in trouble.
    pub(crate) total: u64,
}

/// The takeovers of the last seconds, by ClientID.
#[derive(Debug, Default)]
pub(crate) struct Storms {
    clients: HashMap<ClientId, Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The last takeovers, oldest first, at most [`STORM_TAKEOVERS`].
    times: VecDeque<Time>,
    total: u64,
    /// The time given to the last newcomer that had to wait.
    promised: Option<Time>,
    logged: Option<Time>,
}

impl Storms {
    /// Whether a newcomer may take the session of `client_id` over at `now`. A newcomer that waited comes with the time
    /// it was given and is let in from then on.
    pub(crate) fn ask(&mut self, client_id: &ClientId, waited_until: Option<Time>, now: Time) -> Verdict {
        let Some(recent) = self.clients.get_mut(client_id) else { return Verdict::Go };
        recent.forget(now);
        if !recent.is_storm() || waited_until.is_some_and(|time| time <= now) {
            return Verdict::Go;
        }
        let Some(&last) = recent.times.back() else { return Verdict::Go };
        let next = recent.promised.unwrap_or(last).max(last).after(STORM_SPACING);
        if next <= now {
            recent.promised = Some(now);
            return Verdict::Go;
        }
        let spacing = STORM_SPACING.as_millis().max(1);
        if next.since(now).as_millis() / spacing >= u128::from(STORM_WAITING) {
            return Verdict::Busy;
        }
        recent.promised = Some(next);
        Verdict::Wait(next)
    }

    /// Whether the ClientID is in a storm now.
    pub(crate) fn is_storm(&self, client_id: &ClientId) -> bool {
        self.clients.get(client_id).is_some_and(Recent::is_storm)
    }

    /// Notes that the session of `client_id` changed hands, or that a newcomer was turned away. `Some` when the operator should hear of it.
    pub(crate) fn note(&mut self, client_id: &ClientId, now: Time) -> Option<Report> {
        if self.clients.len() >= STORM_CLIENTS && !self.clients.contains_key(client_id) {
            self.clients.retain(|_, recent| {
                recent.forget(now);
                !recent.times.is_empty()
            });
            if self.clients.len() >= STORM_CLIENTS {
                return None;
            }
        }
        let recent = self.clients.entry(client_id.clone()).or_default();
        recent.forget(now);
        recent.times.push_back(now);
        if recent.times.len() > STORM_TAKEOVERS {
            recent.times.pop_front();
        }
        recent.total += 1;
        if !recent.is_storm() {
            return None;
        }
        let began = recent.logged.is_none();
        if !began && recent.logged.is_some_and(|logged| now.since(logged) < STORM_LOG) {
            return None;
        }
        recent.logged = Some(now);
        Some(Report { began, recent: recent.times.len(), total: recent.total })
    }
}

impl Recent {
    fn is_storm(&self) -> bool {
        self.times.len() >= STORM_TAKEOVERS
    }

    fn forget(&mut self, now: Time) {
        while self.times.front().is_some_and(|time| now.since(*time) > STORM_WINDOW) {
            self.times.pop_front();
        }
        if self.times.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_millis(1_000_000 + ms)
    }

    #[test]
    fn a_few_takeovers_are_no_storm() {
        let mut storms = Storms::default();
        let id = ClientId::from("a");
        for n in 0..20 {
            assert_eq!(storms.ask(&id, None, at(n * 4_000)), Verdict::Go);
            assert_eq!(storms.note(&id, at(n * 4_000)), None);
        }
    }

    #[test]
    fn a_storm_is_reported_once_a_minute_and_spaced_out() {
        let mut storms = Storms::default();
        let id = ClientId::from("a");
        for n in 0..4 {
            assert_eq!(storms.note(&id, at(n)), None);
        }
        assert_eq!(storms.note(&id, at(4)), Some(Report { began: true, recent: 5, total: 5 }));
        assert_eq!(storms.ask(&id, None, at(5)), Verdict::Wait(at(1_004)));
        assert_eq!(storms.ask(&id, None, at(6)), Verdict::Wait(at(2_004)));
        assert_eq!(storms.ask(&id, Some(at(1_004)), at(1_004)), Verdict::Go);
        let mut reports = 0;
        let mut time = 1_004;
        while time < 130_000 {
            reports += usize::from(storms.note(&id, at(time)).is_some());
            time += 1_000;
        }
        assert_eq!(reports, 2, "one at each full minute of the storm");
    }

    #[test]
    fn too_many_that_wait_are_turned_away() {
        let mut storms = Storms::default();
        let id = ClientId::from("a");
        for n in 0..5 {
            storms.note(&id, at(n));
        }
        let verdicts: Vec<_> = (0..20).map(|_| storms.ask(&id, None, at(10))).collect();
        assert!(matches!(verdicts[0], Verdict::Wait(_)));
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Busy).count(), 12);
    }

    #[test]
    fn the_storm_ends_when_nobody_takes_over_any_more() {
        let mut storms = Storms::default();
        let id = ClientId::from("a");
        for n in 0..5 {
            storms.note(&id, at(n));
        }
        assert_eq!(storms.ask(&id, None, at(60_000)), Verdict::Go);
    }
}
