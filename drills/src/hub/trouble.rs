//! What happens to edges, and how it ends.
//!
//! In: chance, and the time. Out: an edge that is killed, frozen, behind a black hole or a slow link, shows another
//! certificate or takes other levels; and when its bridge carried again. Must never: trouble more than a few edges at a time,
//! or an edge that has not come to rest since the last one.

use std::time::{Duration, Instant};

use super::certificates::Signer;
use super::crowd::{PACE, Way};
use super::edge::{LEVELS, Make};
use super::wire::Mood;
use super::{DEADLINE, Hub};
use crate::judge::{Breach, Promise};

/// As the hub is configured.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(2);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const RECONNECT_MIN: Duration = Duration::from_millis(200);
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(3);
/// How long the hub waits for PINGRESP.
const PINGRESP: Duration = Duration::from_secs(10);
/// What CONNECT, SUBSCRIBE and the first messages take on a busy machine.
const SLACK: Duration = Duration::from_secs(2);
/// Behind a recovery, until the numbers of the hub are those of the present; they are renewed once a second.
const REST: Duration = Duration::from_millis(1_500);
/// An arrival that took less is none of a backlog.
const FRESH: Duration = Duration::from_millis(500);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL; nobody listens until it is started again.
    Killed,
    /// SIGSTOP, SIGCONT.
    Frozen,
    /// Nothing comes back from it.
    Blackholed,
    /// The link carries less than it is given.
    Slowed,
    /// It is started with a certificate of a stranger, and then with a new one of the right authority.
    Recertified,
    /// It is started with other protocol levels.
    Upgraded,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Killed, Self::Frozen, Self::Blackholed, Self::Slowed, Self::Recertified, Self::Upgraded];

    /// Whether it ends with a new process.
    const fn restarts(self) -> bool {
        matches!(self, Self::Killed | Self::Recertified | Self::Upgraded)
    }
}

/// Where an edge is.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing is wrong. `rests_until` the next trouble and the count of connects wait.
    Well {
        rests_until: Instant,
    },
    Troubled {
        kind: Kind,
        until: Instant,
    },
    /// The process was started; its clients come back before the hub may.
    Starting {
        kind: Kind,
        since: Instant,
    },
    /// Nothing is wrong any more; the bridge has to carry again before `at` + `bound`.
    Healed {
        kind: Kind,
        at: Instant,
        bound: Duration,
        back: Option<Duration>,
    },
}

/// One edge, as the drill treats it.
#[derive(Debug)]
pub(crate) struct State {
    phase: Phase,
    /// Which wire leads there; none to one with a network of its own.
    pub(crate) wire: Option<usize>,
    /// The bridge speaks whatever the edge takes.
    pub(crate) is_auto: bool,
    /// `viaduct_bridge_connects_total` when the edge was last well.
    connects: Option<u64>,
    /// Of the stream in: what a mosquitto had taken and not passed on when it was killed.
    forfeit_from: Option<usize>,
}

impl State {
    pub(crate) fn new(wire: Option<usize>, is_auto: bool) -> Self {
        let phase = Phase::Well { rests_until: Instant::now() };
        Self { phase, wire, is_auto, connects: None, forfeit_from: None }
    }
}

impl Hub {
    /// There is trouble for so long, and then none any more.
    ///
    /// # Errors
    /// The drill can't go on.
    pub(crate) fn trouble(&mut self, length: Duration) -> Result<(), String> {
        let began = Instant::now();
        let most = (self.edges.len() / 6).max(2);
        loop {
            let is_late = began.elapsed() >= length;
            let mut ill = 0;
            for edge in 0..self.edges.len() {
                ill += usize::from(self.step(edge, is_late)?);
            }
            if is_late && ill == 0 {
                self.figures.took = began.elapsed();
                return self.settle_snapshots();
            }
            if !is_late && ill < most {
                self.strike()?;
            }
            self.turn()?;
        }
    }

    /// The next trouble, for an edge that can have it.
    fn strike(&mut self) -> Result<(), String> {
        if self.kinds.is_empty() {
            let mut kinds = Kind::ALL.to_vec();
            while !kinds.is_empty() {
                let last = u64::try_from(kinds.len() - 1).unwrap_or_default();
                let place = usize::try_from(self.rng.between(0, last)).unwrap_or_default();
                self.kinds.push_back(kinds.swap_remove(place));
            }
        }
        let Some(kind) = self.kinds.front().copied() else { return Ok(()) };
        let can: Vec<usize> = (0..self.edges.len()).filter(|edge| self.is_able(*edge, kind)).collect();
        let now = Instant::now();
        let rested = |edge: &usize| matches!(self.states.get(*edge).map(|state| state.phase), Some(Phase::Well { rests_until }) if now >= rests_until);
        let free: Vec<usize> = can.iter().copied().filter(rested).collect();
        if can.is_empty() {
            self.kinds.pop_front(); // no edge of this run can have it
        } else if !free.is_empty() {
            let place = self.rng.between(0, u64::try_from(free.len() - 1).unwrap_or_default());
            if let Some(edge) = usize::try_from(place).ok().and_then(|place| free.get(place).copied()) {
                self.kinds.pop_front();
                self.begin(edge, kind)?;
            }
        }
        Ok(())
    }

    fn is_able(&self, edge: usize, kind: Kind) -> bool {
        let (Some(it), Some(state)) = (self.edges.get(edge), self.states.get(edge)) else { return false };
        match kind {
            Kind::Frozen => true,
            // A real black hole where there are some; otherwise a link of ours.
            Kind::Blackholed => it.namespace.is_some() == self.edges.iter().any(|edge| edge.namespace.is_some()),
            Kind::Killed | Kind::Slowed => state.wire.is_some(),
            Kind::Recertified => state.wire.is_some() && it.identity.is_some(),
            Kind::Upgraded => state.wire.is_some() && it.make == Make::Viaduct && state.is_auto,
        }
    }

    fn begin(&mut self, edge: usize, kind: Kind) -> Result<(), String> {
        self.compare(edge)?;
        self.crowd.excuse(edge, true);
        let (shortest, longest) = self.lasts;
        let lasts = Duration::from_millis(self.rng.between(shortest, longest));
        let (Some(it), Some(state)) = (self.edges.get_mut(edge), self.states.get_mut(edge)) else { return Ok(()) };
        state.phase = Phase::Troubled { kind, until: Instant::now() + lasts };
        match kind {
            Kind::Frozen => it.freeze(true)?,
            Kind::Slowed => self.set(edge, Mood::Slow),
            Kind::Blackholed => match &it.namespace {
                Some(namespace) => namespace.swallow(true)?,
                None => self.set(edge, Mood::Silent),
            },
            Kind::Killed | Kind::Upgraded => {
                self.kill(edge);
                self.set(edge, Mood::Refused);
            }
            Kind::Recertified => {
                self.kill(edge);
                self.restart(edge, kind, Some(Signer::Stranger))?;
            }
        }
        Ok(())
    }

    /// Looks after an edge; whether something is wrong with it.
    fn step(&mut self, edge: usize, is_late: bool) -> Result<bool, String> {
        let Some(phase) = self.states.get(edge).map(|state| state.phase) else { return Ok(false) };
        let now = Instant::now();
        match phase {
            Phase::Well { rests_until } => {
                let is_due = now >= rests_until && self.states.get(edge).is_some_and(|state| state.connects.is_none());
                if is_due {
                    let connects = self.connects(edge)?;
                    self.states.get_mut(edge).into_iter().for_each(|state| state.connects = Some(connects));
                }
                return Ok(now < rests_until);
            }
            Phase::Troubled { kind, until } if now >= until || is_late => self.mend(edge, kind)?,
            Phase::Starting { kind, since } => {
                if self.crowd.of_edge(edge).all(|person| person.is_ready) {
                    self.heal(edge, kind)?;
                } else if since.elapsed() > DEADLINE {
                    return Err(format!("edge {edge} does not come back by itself after it was {kind:?}"));
                }
            }
            Phase::Healed { kind, at, bound, back } => self.watch(edge, kind, at, bound, back)?,
            Phase::Troubled { .. } => {}
        }
        Ok(true)
    }

    fn mend(&mut self, edge: usize, kind: Kind) -> Result<(), String> {
        if kind.restarts() {
            if kind == Kind::Recertified {
                self.kill(edge);
            }
            self.set(edge, Mood::Refused);
            self.restart(edge, kind, Some(Signer::Trusted))?;
            for person in self.crowd.of_edge(edge) {
                person.is_wanted = true;
            }
            let since = Instant::now();
            self.states.get_mut(edge).into_iter().for_each(|state| state.phase = Phase::Starting { kind, since });
            return Ok(());
        }
        let Some(it) = self.edges.get_mut(edge) else { return Ok(()) };
        match kind {
            Kind::Frozen => it.freeze(false)?,
            Kind::Blackholed if let Some(namespace) = &it.namespace => {
                namespace.swallow(false)?;
                // Theirs are not the connections that are watched: they need not wait for the system to send again.
                self.crowd.cut(edge, true);
            }
            _ => {}
        }
        self.heal(edge, kind)
    }

    /// Nothing is wrong any more, from now on.
    fn heal(&mut self, edge: usize, kind: Kind) -> Result<(), String> {
        let text = self.server.metrics()?;
        self.set(edge, Mood::Up);
        let at = Instant::now();
        let noticed = text.lines().any(|line| line == format!("viaduct_bridge_up{{bridge=\"b{edge}\"}} 0"));
        // An attempt that is under way may have to run into its time limit before the wait begins.
        let mut bound = CONNECT_TIMEOUT + RECONNECT_MAX + SLACK;
        if kind == Kind::Upgraded {
            bound += RECONNECT_MAX; // one round that ends at the bottom of the levels
        }
        if !noticed {
            bound += KEEP_ALIVE + PINGRESP;
        }
        let phase = Phase::Healed { kind, at, bound, back: None };
        self.states.get_mut(edge).into_iter().for_each(|state| state.phase = phase);
        Ok(())
    }

    /// Waits for the first arrival each way, and then for the end of the backlog.
    fn watch(
        &mut self,
        edge: usize,
        kind: Kind,
        at: Instant,
        bound: Duration,
        back: Option<Duration>,
    ) -> Result<(), String> {
        let latest = [Way::Out, Way::In].map(|way| self.crowd.latest(edge, way).filter(|arrival| arrival.at > at));
        if let (None, [Some(out), Some(inward)]) = (back, latest) {
            let took = out.at.max(inward.at).saturating_duration_since(at);
            self.figures.came_back(kind, took, bound);
            if took > bound {
                let what =
                    format!("bridge b{edge} was back {took:?} after its edge was {kind:?}, its bound is {bound:?}");
                self.crowd.breaches.push(Breach::new(Promise::Back, what));
            }
            self.settle_forfeits(edge, inward.number);
            let phase = Phase::Healed { kind, at, bound, back: Some(took) };
            self.states.get_mut(edge).into_iter().for_each(|state| state.phase = phase);
        }
        let is_fresh = latest.iter().all(|arrival| arrival.is_some_and(|arrival| arrival.way < FRESH));
        if is_fresh {
            self.crowd.excuse(edge, false);
            let phase = Phase::Well { rests_until: Instant::now() + REST };
            if let Some(state) = self.states.get_mut(edge) {
                (state.phase, state.connects) = (phase, None);
            }
        } else if at.elapsed() > bound + DEADLINE {
            let words = self.server.last_words();
            return Err(format!(
                "bridge b{edge} does not carry {:?} after its edge was {kind:?}\n{words}",
                at.elapsed()
            ));
        }
        Ok(())
    }

    fn set(&self, edge: usize, mood: Mood) {
        if let Some(wire) = self.states.get(edge).and_then(|state| state.wire) {
            self.wires.set(wire, mood);
        }
    }

    /// SIGKILL. What a Viaduct has said is safe comes back with it; a mosquitto keeps nothing.
    fn kill(&mut self, edge: usize) {
        let Some(it) = self.edges.get_mut(edge) else { return };
        it.kill();
        let forgets = it.make == Make::Mosquitto;
        // What it had sent is still read: only its own acknowledgements say what is open.
        self.crowd.turn(PACE);
        if forgets {
            let open = self.crowd.stream(edge, Way::In).map(|stream| stream.first_open());
            if let Some(state) = self.states.get_mut(edge) {
                state.forfeit_from = state.forfeit_from.or(open);
            }
        }
        self.crowd.cut(edge, false);
    }

    /// From the death of a mosquitto until its hub has subscribed again, nobody there waited for what it took.
    fn settle_forfeits(&mut self, edge: usize, first: usize) {
        let Some(from) = self.states.get_mut(edge).and_then(|state| state.forfeit_from.take()) else { return };
        if let Some(stream) = self.crowd.stream(edge, Way::In) {
            stream.forfeit(from..first);
        }
    }

    fn restart(&mut self, edge: usize, kind: Kind, signer: Option<Signer>) -> Result<(), String> {
        let Some(it) = self.edges.get_mut(edge) else { return Ok(()) };
        if let (Kind::Recertified, Some(signer)) = (kind, signer) {
            it.identity = Some(self.certificates.issue(signer)?);
        }
        if kind == Kind::Upgraded {
            let present = LEVELS.iter().position(|levels| *levels == it.levels).unwrap_or_default();
            it.levels = LEVELS.iter().copied().cycle().nth(present + 1).unwrap_or(it.levels);
        }
        it.spawn()
    }

    /// How often the bridge of an edge has connected or failed.
    fn connects(&mut self, edge: usize) -> Result<u64, String> {
        let text = self.server.metrics()?;
        let mine = format!("viaduct_bridge_connects_total{{bridge=\"b{edge}\",");
        let values = text
            .lines()
            .filter(|line| line.starts_with(&mine))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(values.sum())
    }

    /// A bridge whose edge was well has neither failed nor connected.
    fn compare(&mut self, edge: usize) -> Result<(), String> {
        let connects = self.connects(edge)?;
        let before = self.states.get(edge).and_then(|state| state.connects);
        if let Some(before) = before.filter(|before| *before != connects) {
            let what = format!(
                "bridge b{edge} tried {} times to connect, and nothing was wrong",
                connects.saturating_sub(before)
            );
            self.crowd.breaches.push(Breach::new(Promise::Gap, what));
        }
        Ok(())
    }

    /// Notes the count of every bridge.
    pub(crate) fn settle_snapshots(&mut self) -> Result<(), String> {
        let rests_until = Instant::now() + REST;
        while Instant::now() < rests_until {
            self.turn()?;
        }
        for edge in 0..self.edges.len() {
            let connects = self.connects(edge)?;
            self.states
                .get_mut(edge)
                .into_iter()
                .for_each(|state| state.connects = Some(state.connects.unwrap_or(connects)));
        }
        Ok(())
    }

    /// Compares the count of every bridge.
    pub(crate) fn compare_snapshots(&mut self) -> Result<(), String> {
        (0..self.edges.len()).try_for_each(|edge| self.compare(edge))
    }
}
