//! The bridge as its owner sees it: bytes in and out on both halves, actions, time.
//!
//! In: what sockets and clocks did. Out: [`Action`]s and the two [`Output`]s. This room wires the others and decides
//! nothing that they can decide: the remote half is in `remote`, the local half in `local`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use viaduct_codec::{PacketId, QoS, ReasonCode, Time, TopicFilter, TopicName};
use viaduct_session::Output;
use viaduct_session::client::Client;

use crate::flow::Flow;
use crate::link::{Ending, Link};
use crate::local::LocalState;
use crate::loop_guard::{EchoGuard, Hops};
use crate::names::Names;
use crate::notify::Notices;
use crate::offer::Offer;
use crate::pace::Pace;
use crate::{Action, Address, DialError, Error, Event, Probed, RuleError, Rules, Settings, Stats, limits};

/// One bridge. Methods come in three families:
///
/// - `handle_*` take in what happened; [`Bridge::start`] and [`Bridge::stop`] are the owner's own events;
/// - [`Bridge::poll`], [`Bridge::remote_output`], [`Bridge::local_output`] and [`Bridge::next_timeout`] say what to
///   do next, and are asked after every call of the first family;
/// - the rest are getters.
///
/// `handle_remote` and `handle_local` return how many bytes they used. What is left is an incomplete packet, or whole
/// packets that have to wait because the other half is full: give the rest again, with whatever came in between, once
/// the other half's output has shrunk or after any other `handle_*` call.
#[derive(Debug)]
pub struct Bridge {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) link: Link,
    pub(crate) remote: Client,
    pub(crate) remote_output: Output,
    pub(crate) local: Client,
    pub(crate) local_output: Output,
    pub(crate) local_state: LocalState,
    /// From here to the remote.
    pub(crate) outward: Flow,
    /// From the remote to here.
    pub(crate) inward: Flow,
    pub(crate) hops: Hops,
    /// Whether this is this broker's only link, and whether the remote believes it.
    pub(crate) is_leaf: bool,
    pub(crate) told_leaf: bool,
    /// The names that the last message had here and there.
    pub(crate) names: Names,
    pub(crate) echoes: EchoGuard,
    pub(crate) notices: Notices,
    /// What the remote takes, on the present link.
    pub(crate) offer: Offer,
    /// What was last said about its limits.
    pub(crate) limits_told: Option<String>,
    /// SUBSCRIBE packets that are not answered, and what they asked for.
    pub(crate) asked_remote: BTreeMap<PacketId, Vec<(TopicFilter, QoS)>>,
    pub(crate) asked_local: BTreeMap<PacketId, Vec<TopicFilter>>,
    /// Local filters whose retained messages the remote missed.
    pub(crate) missed: BTreeSet<TopicFilter>,
    /// Links in a row that the remote ended soon after CONNACK.
    pub(crate) kicks: u32,
    /// The link was up at least once.
    pub(crate) was_up: bool,
    /// The address of the last link that was up: whose session the remote half is in.
    pub(crate) session_at: Option<Address>,
    /// The local session is older than this bridge.
    pub(crate) local_resumed: bool,
    /// How fast messages may go out.
    pub(crate) pace: Pace,
    pub(crate) losses: Losses,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) stats: Stats,
}

/// Lines about losses that come too often, each kind at most once in [`limits::LOG_EVERY`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    pub(crate) refused_remote: Seldom,
    pub(crate) refused_local: Seldom,
    pub(crate) too_large_out: Seldom,
    pub(crate) too_large_in: Seldom,
    pub(crate) topic_not_taken: Seldom,
}

/// Counts, and says when it is time for a line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seldom {
    next: Time,
    count: u64,
}

impl Bridge {
    /// A bridge that has not begun. `seed` makes its waits differ from other bridges'.
    ///
    /// # Errors
    /// What the settings ask for cannot be run.
    pub fn new(settings: Settings, seed: u64) -> Result<Self, RuleError> {
        if settings.addresses.is_empty() {
            return Err(RuleError::NoAddress);
        }
        let rules = Rules::new(&settings)?;
        let topic = match &settings.notifications {
            None => None,
            Some(text) => {
                Some(TopicName::new(text).map_err(|error| RuleError::Notification { text: text.clone(), error })?)
            }
        };
        // Messages go under the identifiers that they come with. What the bridge itself has to say begins somewhere else, so that
        // the two seldom meet.
        // The remote is asked to free identifiers ahead, for it takes a round trip; this broker is not, for the remote might repeat what
        // it began under one of them.
        let [remote, local] = [(seed >> 16, true), (seed, false)].map(|(half, frees_ahead)| {
            let mut client = Client::starting_after((half & u64::from(u16::MAX)) as u16);
            client.relay(frees_ahead);
            client
        });
        Ok(Self {
            link: Link::new(&settings, seed),
            rules,
            remote,
            remote_output: Output::default(),
            local,
            local_output: Output::default(),
            local_state: LocalState::Closed { retry: None },
            outward: Flow::outward(),
            inward: Flow::inward(),
            hops: Hops::new(&settings.node),
            is_leaf: false,
            told_leaf: false,
            names: Names::default(),
            echoes: EchoGuard::new(seed),
            notices: Notices::new(topic),
            offer: Offer::ALL,
            limits_told: None,
            asked_remote: BTreeMap::new(),
            asked_local: BTreeMap::new(),
            missed: BTreeSet::new(),
            kicks: 0,
            was_up: false,
            session_at: None,
            local_resumed: false,
            pace: Pace::new(settings.drain_rate),
            losses: Losses::default(),
            actions: VecDeque::new(),
            stats: Stats::default(),
            settings,
        })
    }

    // --- what happened

    /// Begins: the local half connects and subscribes, so that messages queue from now on, and the first address is
    /// dialled. Does nothing when it has begun.
    pub fn start(&mut self, now: Time) {
        self.start_held(now);
        self.release(now);
    }

    /// As [`Bridge::start`], but nothing is dialled before [`Bridge::release`].
    pub fn start_held(&mut self, now: Time) {
        if self.link.is_stopped() {
            self.stats.since = now;
            self.open_local(now);
            self.link.hold();
        }
    }

    /// Dials after [`Bridge::start_held`]; does nothing otherwise.
    pub fn release(&mut self, now: Time) {
        self.link.release(now, &mut self.actions);
        self.note_address();
    }

    /// For a link that drains: asks the remote for no more, because others do now.
    pub fn leave_remote(&mut self, now: Time) {
        if self.link.is_up() {
            let filters = self.asked_of_remote();
            self.unsubscribe_remote(now, &filters);
        }
    }

    /// Ends a link that has drained for good: the local session, and with `end_remote` the one at the remote.
    pub fn retire(&mut self, now: Time, end_remote: bool) {
        if !self.link.is_stopped() {
            self.stop_remote(now, end_remote);
            self.close_local(now, true);
        }
    }

    /// Ends both halves in good order. With `end_session` the local session ends too and what waits in it is gone:
    /// for a bridge that is taken out of the configuration. May be started again.
    pub fn stop(&mut self, now: Time, end_session: bool) {
        if self.link.is_stopped() {
            return;
        }
        self.stop_remote(now, end_session);
        self.close_local(now, end_session);
    }

    /// Whether this bridge is all that links this broker to others of its kind: then what comes from here comes to the remote by no
    /// other way. CONNECT says so; when it ends the remote is told at once.
    pub fn set_leaf(&mut self, now: Time, is_leaf: bool) {
        self.is_leaf = is_leaf;
        self.tell_no_leaf(now);
    }

    /// The dial of `attempt` succeeded: bytes may flow.
    pub fn handle_dialled(&mut self, now: Time, attempt: u64) {
        if self.link.dialled(now, attempt) {
            self.greet(now);
        }
    }

    /// The dial of `attempt` failed. May also come after [`Bridge::handle_dialled`] while CONNACK is waited for: a TLS 1.3
    /// peer refuses a client certificate only when the client believes that the handshake is done.
    pub fn handle_dial_failed(&mut self, now: Time, attempt: u64, error: DialError) {
        if self.link.is_dialling(attempt) || self.link.is_greeting(attempt) {
            let error = self.dial_error(error);
            self.end_attempt(now, Ending::Error(error), None, true);
        }
    }

    /// The remote has a bridge to this broker that carries what this one does; `by` in words. Ends the link, if there is one;
    /// `may_tell`: the remote can be told, because it was sent whole packets.
    pub fn handle_links_back(&mut self, now: Time, by: String, may_tell: bool) {
        if self.link.is_connected() {
            // So that whoever looks at our state there is told that it is over.
            let tell = may_tell.then_some(ReasonCode::DISCONNECT_WITH_WILL);
            self.end_attempt(now, Ending::Error(Error::LinksBack(by)), tell, false);
        }
    }

    /// What came of an [`Action::Probe`].
    pub fn handle_probed(&mut self, now: Time, probe: u64, found: &Probed) {
        if let Some(ending) = self.link.probed(probe, found, &mut self.actions) {
            self.stats.count_connect("returned");
            // So that whoever looks at our state there is told that it is over.
            self.end_attempt(now, ending, Some(ReasonCode::DISCONNECT_WITH_WILL), false);
        }
    }

    /// Bytes from the remote, the unused rest of earlier ones first. Returns how many were used.
    pub fn handle_remote(&mut self, now: Time, bytes: &[u8]) -> usize {
        self.read_remote(now, bytes)
    }

    /// The connection to the remote ended by itself; `why` in words, for the operator.
    pub fn handle_remote_closed(&mut self, now: Time, why: &str) {
        self.remote_closed(now, why);
    }

    /// Bytes from this broker's engine, as [`Bridge::handle_remote`].
    pub fn handle_local(&mut self, now: Time, bytes: &[u8]) -> usize {
        self.read_local(now, bytes)
    }

    /// The engine ended the local connection; it is opened again after [`limits::LOCAL_RETRY`].
    pub fn handle_local_closed(&mut self, now: Time, why: &str) {
        self.local_closed(now, why);
    }

    /// The time of [`Bridge::next_timeout`] has come. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(ending) = self.link.handle_timeout(now, &mut self.actions) {
            self.end_attempt(now, ending, None, false);
        }
        self.note_address();
        self.time_remote(now);
        if self.pace.next().is_some_and(|due| due <= now) {
            self.pump_outward(now);
        }
        self.time_local(now);
    }

    // --- what to do

    /// The next thing to do, in order.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Bytes for the remote. Those of an attempt that has ended are thrown away when the next dial succeeds.
    pub const fn remote_output(&mut self) -> &mut Output {
        &mut self.remote_output
    }

    /// Bytes for this broker's engine.
    pub const fn local_output(&mut self) -> &mut Output {
        &mut self.local_output
    }

    /// When to call [`Bridge::handle_timeout`]; asked anew after every call.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let remote = if self.link.is_connected() { self.remote.next_timeout() } else { None };
        [self.link.next_timeout(), remote, self.local_timeout(), self.pace.next()].into_iter().flatten().min()
    }

    // --- what it is

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            phase: self.link.phase(),
            left: self.link.left().to_vec(),
            round_trip: self.remote.round_trip(),
            unacknowledged_out: self.outward.len(),
            unacknowledged_in: self.inward.len(),
            ..self.stats.clone()
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The ClientID of the local half.
    #[must_use]
    pub fn local_client_id(&self) -> String {
        self.settings.local_client_id()
    }

    /// Whether the local half has its session, and every subscription that it asked for is answered.
    #[must_use]
    pub fn is_subscribed(&self) -> bool {
        self.local_state == LocalState::Up && self.asked_local.is_empty()
    }

    /// Whether the remote half is up, and every subscription that it asked for is answered.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.link.is_up() && self.asked_remote.is_empty()
    }

    /// Whether nothing is on its way through the bridge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outward.len() == 0 && self.inward.len() == 0
    }

    /// Whether it waits for [`Bridge::release`].
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.link.is_held()
    }

    /// Whether the remote said its name on the last link: it is a broker of our kind.
    #[must_use]
    pub const fn is_remote_named(&self) -> bool {
        self.hops.is_remote_named()
    }

    /// Whether the remote may have more to say than what came from it already, and may wait with it until that is acknowledged on
    /// the TCP level (Nagle's algorithm).
    #[must_use]
    pub fn may_remote_wait(&self) -> bool {
        !self.is_serving() || self.outward.len() > 0 || self.rules.inward().next().is_some()
    }

    /// Whether messages flow.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.link.is_up()
    }

    // --- shared by both halves

    pub(crate) fn log(&mut self, event: Event) {
        self.actions.push_back(Action::Log(event));
    }

    pub(crate) fn note_address(&mut self) {
        if self.stats.address.as_ref() != self.link.address() {
            self.stats.address = self.link.address().cloned();
        }
    }

    /// The attempt or link is over. `tell` is the reason for a 5.0 remote; `closed`: there is nothing to hang up.
    pub(crate) fn end_attempt(&mut self, now: Time, ending: Ending, tell: Option<ReasonCode>, closed: bool) {
        let (attempt, was_up) = (self.link.attempt(), self.link.is_up());
        if !closed {
            if let Some(reason) = tell.filter(|_| was_up && self.link.level().version().is_v5()) {
                self.remote.disconnect(reason, &mut self.remote_output);
            }
            let reason = if let Ending::Error(error) = &ending { Some(error.clone()) } else { None };
            self.actions.push_back(Action::HangUp { attempt, reason });
        }
        let ending = if was_up { self.note_kick(now, ending) } else { ending };
        self.remote_gone();
        if was_up && matches!(ending, Ending::Wishes(_)) {
            // What is open would be sent again as it was and refused again: publish it anew, with less.
            self.remote.forget_sent();
            self.outward.target_forgot();
        }
        let mut next = Vec::new();
        let error = self.link.ended(now, ending, &mut self.stats, &mut next);
        if let Some(error) = &error {
            self.stats.count_connect(error.label());
            self.stats.last_error = Some((now, error.clone()));
            if was_up || self.stats.failing_since.is_none() {
                self.stats.failing_since = Some(now);
            }
        }
        if was_up {
            self.went_down(now, error);
        }
        self.actions.extend(next);
        self.note_address();
    }

    /// Tells a link that was lost from one that the remote does not want.
    fn note_kick(&mut self, now: Time, ending: Ending) -> Ending {
        let Ending::Error(error @ (Error::ServerGone { .. } | Error::TakenOver { .. })) = ending else {
            self.kicks = 0;
            return ending;
        };
        let is_soon = now.since(self.stats.since) < limits::HELD;
        self.kicks = if is_soon { self.kicks.saturating_add(1) } else { 0 };
        let (client_id, times) = (self.settings.client_id.clone(), self.kicks);
        Ending::Error(match error {
            Error::TakenOver { .. } => Error::TakenOver { client_id, times },
            Error::ServerGone { reason } if times >= limits::KICKS => Error::Kicked { client_id, times, reason },
            error => error,
        })
    }

    fn dial_error(&self, error: DialError) -> Error {
        let host = self.link.address().map_or("", |address| &address.host);
        error.at(host, self.settings.connect_timeout)
    }
}

impl Seldom {
    /// Counts one; the count when it is time for a line.
    pub(crate) fn count(&mut self, now: Time) -> Option<u64> {
        self.count += 1;
        if now < self.next {
            return None;
        }
        self.next = now.after(limits::LOG_EVERY);
        Some(std::mem::take(&mut self.count))
    }
}
