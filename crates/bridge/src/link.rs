//! The life of the connection to the remote broker: which address, which level, when.
//!
//! In: how dials and connections end, and the time. Out: what to do next, as [`Action`]s. Never sees a packet and
//! never gives up.

use std::time::Duration;

use viaduct_codec::{Level, ReasonCode, Time};

use crate::negotiate::{Negotiation, Next, Wishes};
use crate::{Action, Address, Backoff, Error, Event, Lowered, Phase, Probed, Settings, Stats, Step, StepDown, limits};

/// Where the connection stands.
///
/// ```text
///        hold, release             dialled                  CONNACK 0
///  Stopped ────────►  Dialling  ──────────────► Greeting ───────────────► Up
///     ▲                ▲   │ ▲                     │  │                    │
///     │                │   │ └─ next level, same ──┘  │                    │
///     │ stop           │   │    address, at once      │                    │
///     │ (from          │   ▼ failed, too late         ▼ refused, too late  ▼ lost
///     │  anywhere)     │  ( another address left in this round? dial it at once )
///     │                │                        │ no
///     └────────────────└──── wait is over ── Waiting
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not started, or stopped.
    Stopped,
    /// Started, and not let go yet.
    Held,
    /// For the dialler, until the deadline.
    Dialling { deadline: Time },
    /// For CONNACK, until the deadline.
    Greeting { deadline: Time },
    /// Messages flow. `proven` once it held for [`limits::HELD`].
    Up { since: Time, proven: bool },
    /// Every address failed; the next round begins then.
    Waiting { until: Time },
}

/// How an attempt or a link ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// This level is not taken.
    Level(StepDown),
    /// CONNACK refused the will's retain flag or QoS, or DISCONNECT a message's.
    Wishes(ReasonCode),
    /// The first address is healthy again.
    Return,
    /// Anything else.
    Error(Error),
}

/// Name, TCP, proxy, TLS and WebSocket, each of which may take `connect_timeout`. Whoever dials keeps to it; this is for one
/// that does not.
const DIAL_STEPS: u32 = 5;

/// See [`State`].
#[derive(Debug)]
pub(crate) struct Link {
    endpoints: Vec<Endpoint>,
    current: usize,
    /// Attempts at an address that failed since the last wait or proven link: at the number of addresses, wait.
    failed: usize,
    attempt: u64,
    state: State,
    backoff: Backoff,
    connect_timeout: Duration,
    failback: Failback,
}

/// The way back to the first address, while the link is up at another one.
#[derive(Debug)]
struct Failback {
    /// How often to look; `None`: never.
    every: Option<Duration>,
    /// When to look next.
    due: Option<Time>,
    /// The number of the last probe.
    probe: u64,
    /// Its answer is waited for.
    waiting: bool,
    /// Returns in a row that did not hold.
    in_vain: u32,
    /// Why the link does not go back was said.
    told: bool,
}

#[derive(Debug)]
struct Endpoint {
    address: Address,
    negotiation: Negotiation,
}

impl Link {
    pub(crate) fn new(settings: &Settings, seed: u64) -> Self {
        let ladder = settings.protocol.ladder(settings.try_private);
        let wishes = Wishes { retain: settings.remote.retain, qos: settings.remote.max_qos };
        let endpoints = settings.addresses.iter().map(|address| Endpoint {
            address: address.clone(),
            negotiation: Negotiation::new(ladder.clone(), wishes),
        });
        let min = settings.reconnect_min.max(limits::RECONNECT_FLOOR);
        Self {
            endpoints: endpoints.collect(),
            current: 0,
            failed: 0,
            attempt: 0,
            state: State::Stopped,
            backoff: Backoff::new(min, settings.reconnect_max, seed),
            connect_timeout: settings.connect_timeout,
            failback: Failback {
                every: settings.failback.map(|every| every.max(limits::RECONNECT_FLOOR)),
                due: None,
                probe: 0,
                waiting: false,
                in_vain: 0,
                told: false,
            },
        }
    }

    // --- what it is

    pub(crate) const fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Whether bytes from the remote mean something.
    pub(crate) const fn is_connected(&self) -> bool {
        matches!(self.state, State::Greeting { .. } | State::Up { .. })
    }

    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(crate) const fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped)
    }

    pub(crate) const fn is_held(&self) -> bool {
        matches!(self.state, State::Held)
    }

    pub(crate) fn level(&self) -> Level {
        self.endpoint().map_or(Level::V311, |endpoint| endpoint.negotiation.level())
    }

    pub(crate) fn wishes(&self) -> Wishes {
        self.endpoint().map_or(Wishes::ALL, |endpoint| endpoint.negotiation.wishes())
    }

    pub(crate) fn address(&self) -> Option<&Address> {
        self.endpoint().map(|endpoint| &endpoint.address)
    }

    /// The levels that were left at the present address, and why.
    pub(crate) fn left(&self) -> &[(Level, StepDown)] {
        self.endpoint().map_or(&[], |endpoint| endpoint.negotiation.left())
    }

    /// Where it stands, for the operator.
    pub(crate) const fn phase(&self) -> Phase {
        match self.state {
            State::Stopped => Phase::Stopped,
            State::Held | State::Dialling { .. } | State::Greeting { .. } => Phase::Connecting,
            State::Up { .. } => Phase::Up,
            State::Waiting { until } => Phase::Waiting { until },
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Time> {
        match self.state {
            State::Dialling { deadline } | State::Greeting { deadline } => Some(deadline),
            State::Waiting { until } => Some(until),
            State::Up { since, proven: false } => {
                [Some(since.after(limits::HELD)), self.failback.due].into_iter().flatten().min()
            }
            State::Up { proven: true, .. } => self.failback.due,
            State::Stopped | State::Held => None,
        }
    }

    // --- what happens

    /// Begins; [`Link::release`] dials.
    pub(crate) const fn hold(&mut self) {
        self.state = State::Held;
    }

    pub(crate) fn release(&mut self, now: Time, actions: &mut impl Extend<Action>) {
        if self.is_held() {
            self.dial(now, actions);
        }
    }

    /// Whether the dial that ended is the one that is waited for; CONNECT is due then.
    pub(crate) fn dialled(&mut self, now: Time, attempt: u64) -> bool {
        if attempt != self.attempt || !matches!(self.state, State::Dialling { .. }) {
            return false;
        }
        self.state = State::Greeting { deadline: now.after(self.connect_timeout) };
        true
    }

    /// Whether this failed dial is the one that is waited for.
    pub(crate) const fn is_dialling(&self, attempt: u64) -> bool {
        attempt == self.attempt && matches!(self.state, State::Dialling { .. })
    }

    /// The dial of `attempt` succeeded, and CONNACK has not come.
    pub(crate) const fn is_greeting(&self, attempt: u64) -> bool {
        attempt == self.attempt && matches!(self.state, State::Greeting { .. })
    }

    /// CONNACK came and did not speak of the level.
    pub(crate) fn understood(&mut self) {
        if let Some(endpoint) = self.endpoints.get_mut(self.current) {
            endpoint.negotiation.understood();
        }
    }

    /// CONNACK accepted us.
    pub(crate) fn accepted(&mut self, now: Time) {
        self.state = State::Up { since: now, proven: false };
        self.understood();
        self.failback.told = false;
        self.look_back_later(now);
    }

    /// The deadline that has passed at `now`, as an ending. A wait that is over dials, a link that held is proven.
    pub(crate) fn handle_timeout(&mut self, now: Time, actions: &mut impl Extend<Action>) -> Option<Ending> {
        let seconds = self.connect_timeout.as_secs_f64();
        match self.state {
            State::Dialling { deadline } if deadline <= now => {
                Some(Ending::Error(Error::TimedOut { step: Step::Dial, seconds }))
            }
            State::Greeting { deadline } if deadline <= now => {
                Some(Ending::Error(Error::TimedOut { step: Step::Connack, seconds }))
            }
            State::Waiting { until } if until <= now => {
                self.dial(now, actions);
                None
            }
            State::Up { since, proven: false } if since.after(limits::HELD) <= now => {
                self.state = State::Up { since, proven: true };
                self.backoff.reset();
                self.failed = 0;
                if self.current == 0 {
                    self.failback.in_vain = 0;
                }
                None
            }
            State::Up { .. } => {
                if self.failback.due.is_some_and(|due| due <= now) {
                    self.look_back(now, actions);
                }
                None
            }
            _ => None,
        }
    }

    /// What the probe found: the ending of the link, when it is to go back.
    pub(crate) fn probed(&mut self, probe: u64, found: &Probed, actions: &mut impl Extend<Action>) -> Option<Ending> {
        let is_awaited = probe == self.failback.probe && std::mem::take(&mut self.failback.waiting);
        if !is_awaited || !self.is_up() || self.current == 0 {
            return None;
        }
        let (from, to) = (self.address().cloned()?, self.endpoints.first()?.address.clone());
        match found {
            Probed::Healthy => {
                actions.extend([Action::Log(Event::Returning { from, to })]);
                Some(Ending::Return)
            }
            Probed::Refused(reason) => self.stay(Event::ProbeRefused { address: to, reason: *reason }, actions),
            Probed::LinksBack(by) => self.stay(Event::StaysAway { address: to, by: by.clone() }, actions),
            Probed::Failed(_) => None,
        }
    }

    /// Says once why the link does not go back.
    fn stay(&mut self, why: Event, actions: &mut impl Extend<Action>) -> Option<Ending> {
        if !std::mem::replace(&mut self.failback.told, true) {
            actions.extend([Action::Log(why)]);
        }
        None
    }

    /// The attempt or link is over: chooses what follows, says so, and begins it. Returns the error when the
    /// attempt counts as failed, and none when the same address is tried again at once.
    pub(crate) fn ended(
        &mut self,
        now: Time,
        ending: Ending,
        stats: &mut Stats,
        actions: &mut impl Extend<Action>,
    ) -> Option<Error> {
        let endpoint = self.endpoints.get_mut(self.current)?;
        let (from, address) = (endpoint.negotiation.level(), endpoint.address.clone());
        let error = match ending {
            Ending::Level(why) => match endpoint.negotiation.failed(why) {
                Next::Down(to) => {
                    stats.count_lowered(Lowered::Level, 1);
                    actions.extend([Action::Log(Event::SteppedDown { address, from, to, why })]);
                    self.dial(now, actions);
                    return None;
                }
                Next::Again => Error::ServerGone { reason: "it closed the connection before CONNACK".into() },
                Next::Exhausted(steps) => unreadable(&steps).unwrap_or(Error::LevelRefused(steps)),
            },
            Ending::Wishes(reason) => {
                if endpoint.negotiation.refused(reason) {
                    actions.extend([Action::Log(Event::GaveUp { address, reason })]);
                    self.dial(now, actions);
                    return None;
                }
                Error::Unsupported(reason)
            }
            Ending::Return => {
                self.failback.in_vain = self.failback.in_vain.saturating_add(1);
                (self.current, self.failed) = (0, 0);
                self.dial(now, actions);
                return None;
            }
            Ending::Error(error) => {
                endpoint.negotiation.interrupted();
                error
            }
        };
        self.move_on(now, &error, actions);
        Some(error)
    }

    pub(crate) fn stop(&mut self) {
        self.state = State::Stopped;
    }

    // --- how

    fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoints.get(self.current)
    }

    fn dial(&mut self, now: Time, actions: &mut impl Extend<Action>) {
        let Some((address, level)) = self.endpoint().map(|end| (end.address.clone(), end.negotiation.level())) else {
            return;
        };
        self.attempt += 1;
        self.state = State::Dialling { deadline: now.after(self.connect_timeout * DIAL_STEPS) };
        actions.extend([Action::Dial { attempt: self.attempt, address, level }]);
    }

    /// The link is up: when to look whether the first address is healthy, if another one is in use.
    fn look_back_later(&mut self, now: Time) {
        let doubled = 1_u32 << self.failback.in_vain.min(limits::RETURN_DOUBLINGS);
        let every = self.failback.every.filter(|_| self.current != 0);
        self.failback.due = every.map(|every| now.after(every.saturating_mul(doubled)));
        self.failback.waiting = false;
    }

    fn look_back(&mut self, now: Time, actions: &mut impl Extend<Action>) {
        self.look_back_later(now);
        let Some(first) = self.endpoints.first() else { return };
        self.failback.probe += 1;
        self.failback.waiting = true;
        let (address, levels) = (first.address.clone(), first.negotiation.candidates());
        actions.extend([Action::Probe { probe: self.failback.probe, address, levels }]);
    }

    /// The next address at once, or a wait when all of them had their turn.
    fn move_on(&mut self, now: Time, error: &Error, actions: &mut impl Extend<Action>) {
        let Some(address) = self.address().cloned() else { return };
        self.failed += 1;
        let failed = |retry_in| Action::Log(Event::Failed { address, error: error.clone(), retry_in });
        if self.failed < self.endpoints.len() {
            self.current = (self.current + 1) % self.endpoints.len();
            actions.extend([failed(Duration::ZERO)]);
            self.dial(now, actions);
            return;
        }
        // A new round begins with the first address: the order is one of preference.
        (self.failed, self.current) = (0, 0);
        let wait = self.backoff.next_wait();
        actions.extend([failed(wait)]);
        self.state = State::Waiting { until: now.after(wait) };
    }
}

/// A peer that answered every level with the same unreadable thing is no broker: say what it looked like.
fn unreadable(steps: &[(Level, StepDown)]) -> Option<Error> {
    let (_, StepDown::Unreadable(looks)) = steps.first()? else { return None };
    let same = steps.iter().all(|(_, why)| *why == StepDown::Unreadable(*looks));
    same.then_some(Error::NotMqtt(*looks))
}
