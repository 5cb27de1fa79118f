//! One direction of a bridge: messages taken from one half, handed to the other, acknowledged back.
//!
//! In: messages with the packet identifier that their source waits for, and what becomes of them at the target. Out:
//! publications to the target under the same identifier and acknowledgements to the source, each in the order of arrival. Never acknowledges a
//! message before the target's broker answered for it, and never holds more than the source has identifiers for; where the source is
//! this broker, no more than the window.
//!
//! ```text
//!   source                          here                          target
//!   PUBLISH n ------------------> Waiting --------------------> PUBLISH n
//!   PUBREC n  <------ in turn ---- owned  <-------------------- PUBREC n
//!   PUBREL n  ------------------> Released -------------------> PUBREL n
//!   PUBCOMP n <------------------- Done  <--------------------- PUBCOMP n
//! ```
//! Both ends keep their part of a QoS 2 exchange, and this keeps none over a restart. So each of the four steps is passed on only
//! when it came: whatever is lost here, the source says again how far it is, and the target knows whether it is there too.
//! At QoS 1 the PUBACK is all.
//!
//! Either half may be cut at any time. The source then sends again what it has no answer for, with the same packet
//! identifiers while its session lives: such a message is recognised here and not handed on twice. The target's
//! client resends what it has sent; when the target's session is gone everything unanswered is published anew. What was answered with
//! PUBREC and is known to nobody but its source any more is asked for again where that can be: of this broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use viaduct_codec::{Message, PacketId, QoS, ReasonCode, TopicName};

use crate::convoy::{Convoy, Left};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// In order of arrival.
    exchanges: VecDeque<Exchange>,
    /// The messages of `exchanges`: each has an identifier of its own. Where the source is this broker the window bounds them, see
    /// [`crate::Settings::max_inflight`].
    messages: usize,
    /// How many of `exchanges` are convoys, so that most answers are not looked for there.
    convoys: usize,
    /// How many of `exchanges`, from the first, do not wait for the target: the one behind them does, or is none.
    handed: usize,
    /// How many of `exchanges`, from the first, the source was told of; some behind them may be as well.
    told: usize,
    /// How many of `exchanges` but convoys the target has answered for in some way, so that what becomes of them is up to the source.
    answered: usize,
    /// How many of `exchanges` are of QoS 2, so that most identifiers are not compared with any.
    twos: usize,
    /// PUBRELs of messages of which nothing is known here.
    strays: BTreeSet<PacketId>,
    /// Those that the source is to send again.
    renewing: BTreeSet<PacketId>,
    /// What the clients are to do.
    steps: VecDeque<Step>,
    /// The source is this broker: it sends a message again that is answered with Packet Identifier not found at PUBREL. Otherwise the target is.
    source_is_here: bool,
    /// The target has lost its session since this bridge began.
    target_began_anew: bool,
    /// The source has sent something new, so all that it began with an earlier bridge was here, and a stray is done.
    source_is_through: bool,
    /// Whether an exchange may be `Source::Cut` or `untold`, so that most messages are not compared with any.
    cut: bool,
    /// Messages of QoS 1 that are done, whose source was cut before it could be told.
    untold: BTreeMap<PacketId, QoS>,
    next_token: u64,
}

/// A message on its way, or several that went together.
#[derive(Debug)]
struct Exchange {
    /// What the target's client calls it, or the first of them.
    token: u64,
    /// Its identifier at both ends; of a convoy, the first.
    id: PacketId,
    qos: QoS,
    /// The target may have it under that identifier from an earlier bridge.
    dup: bool,
    cargo: Cargo,
    source: Source,
    state: State,
}

#[derive(Debug)]
enum Cargo {
    /// A message that is not carried on.
    Nothing,
    /// As the rules make it.
    Message(Arc<Message>),
    /// The source waits for each of them, on its present connection.
    Convoy(Box<Convoy>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// Waits for an answer on its present connection.
    Live,
    /// Was cut; sends the message again if its session lives.
    Cut,
    /// Was told that a message of QoS 2 is received, and has not let go of it, or says so again.
    Told,
    /// Has let go of it (PUBREL) and waits for the end.
    Released,
    /// Knows nothing of it any more. `released`: it counts as having let go of it.
    Gone { released: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For the target to take it, for the first time or anew.
    Waiting { again: bool },
    /// For the target's answer. `owned`: it has said PUBREC.
    Sent { how: As, owned: bool },
    /// For the source to send it again: it was told that it is received, and the target has lost it.
    Renewing,
    /// For its turn to be acknowledged, or for PUBREL.
    Done,
}

/// What a client is to do for an exchange of QoS 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The target's: send PUBREL.
    Release(PacketId),
    /// The target's: say whether the target holds nothing under an identifier of which nothing is known here; then [`Flow::freed`].
    Free(PacketId),
    /// The source's: send PUBCOMP.
    Complete(PacketId, ReasonCode),
}

/// How a message was published: with no more than the target takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct As {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

/// What the source is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// By its client: this message is done.
    One(PacketId, QoS),
    /// All these of QoS 1 are, of which its client knows nothing.
    Several(&'a [PacketId]),
}

/// What became of handing a message to the target's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handed {
    /// The client has it and will answer for it.
    Sent(As),
    /// Nothing more will be heard of it: QoS 0, or dropped.
    Done,
    /// Not now, nor anything behind it.
    NotNow,
}

/// A message on its way to the target's client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handing<'a> {
    pub(crate) message: &'a Arc<Message>,
    pub(crate) token: u64,
    /// The identifier that it came under.
    pub(crate) id: PacketId,
    /// The target may have it under that identifier from an earlier bridge.
    pub(crate) dup: bool,
    /// It was handed over before, and the target has lost it.
    pub(crate) again: bool,
}

impl Flow {
    /// From this broker to the remote.
    pub(crate) fn outward() -> Self {
        Self { source_is_here: true, ..Self::default() }
    }

    /// From the remote to this broker.
    pub(crate) fn inward() -> Self {
        Self::default()
    }

    /// Unanswered messages.
    pub(crate) const fn len(&self) -> usize {
        self.messages
    }

    /// Messages that wait for the target, or for its first answer.
    pub(crate) const fn unanswered(&self) -> usize {
        self.messages - self.answered
    }

    /// Messages that wait for the target, at most.
    pub(crate) fn waiting(&self) -> usize {
        self.exchanges.len() - self.handed
    }

    /// Whether a plain PUBLISH may be one that is here already, or was before the source forgot it.
    pub(crate) const fn was_cut(&self) -> bool {
        self.cut
    }

    /// Whether a message waits for the target.
    pub(crate) fn is_waiting(&self) -> bool {
        self.handed < self.exchanges.len()
    }

    // --- the source

    /// Goes on with a PUBLISH that is here already; `false` when it is not, and is to be taken. Only a duplicate can be here. Of QoS 2 it is one
    /// that was asked for again; otherwise the source's client knows its open identifiers across connections and shows each message once.
    pub(crate) fn recognise(&mut self, id: PacketId, qos: QoS, dup: bool) -> bool {
        let was_untold = (self.cut || dup) && self.untold.remove(&id).is_some();
        if !dup {
            return false;
        }
        let known = self.exchanges.iter().position(|exchange| exchange.is_of(id) && exchange.qos == qos);
        if let Some(exchange) = known.and_then(|place| self.exchanges.get_mut(place)) {
            if qos == QoS::AtLeastOnce {
                exchange.source = Source::Live;
                return true;
            }
            if exchange.state == State::Renewing {
                (exchange.source, exchange.state) = (Source::Live, State::Waiting { again: true });
                self.told = self.told.min(known.unwrap_or_default());
                return true;
            }
            return false;
        }
        if was_untold && qos == QoS::AtLeastOnce {
            self.refuse(id, qos);
            return true;
        }
        false
    }

    /// Takes a message that waits for an answer. `dup`: an earlier bridge may have passed it on, which matters at QoS 2.
    pub(crate) fn take(&mut self, id: PacketId, qos: QoS, dup: bool, message: Arc<Message>) {
        self.source_is_through |= !dup;
        let dup = dup && qos == QoS::ExactlyOnce;
        self.push((id, qos, dup), Cargo::Message(message), State::Waiting { again: false });
    }

    /// Takes a message that is not carried on; its source is answered in its turn all the same.
    pub(crate) fn refuse(&mut self, id: PacketId, qos: QoS) {
        self.push((id, qos, false), Cargo::Nothing, State::Done);
    }

    /// The next answer for the source, in the order of arrival. To be asked while the source is connected. A QoS 2
    /// message of an earlier connection is among them: the source's client then knows what to say when it is asked.
    pub(crate) fn next_answer(&mut self) -> Option<Answer<'_>> {
        loop {
            while self.exchanges.get(self.told).is_some_and(Exchange::needs_no_answer) {
                self.told += 1;
            }
            let Some(next) = self.exchanges.get_mut(self.told) else { break };
            let (id, qos, is_done) = (next.id, next.qos, next.state == State::Done);
            if !is_done && !next.is_owned() {
                break;
            }
            match next.source {
                Source::Live | Source::Cut if qos == QoS::ExactlyOnce => {
                    next.source = Source::Told;
                    return Some(Answer::One(id, qos));
                }
                Source::Live => {
                    self.remove(self.told);
                    return Some(Answer::One(id, qos));
                }
                Source::Cut => {
                    self.untold.insert(id, qos);
                    self.remove(self.told);
                }
                Source::Gone { .. } if !is_done => {
                    next.source = Source::Gone { released: true };
                    self.steps.push_back(Step::Release(id));
                }
                Source::Gone { .. } | Source::Told | Source::Released => self.remove(self.told),
            }
        }
        self.cut &= !(self.exchanges.is_empty() && self.untold.is_empty());
        let next = self.exchanges.get_mut(self.told)?;
        let Cargo::Convoy(convoy) = &mut next.cargo else { return None };
        if convoy.is_settled() {
            next.state = State::Done; // It leaves when the next answer is asked for.
        }
        let news = convoy.tell();
        (!news.is_empty()).then_some(Answer::Several(news))
    }

    /// The source has let go of a message of QoS 2 (PUBREL).
    pub(crate) fn released(&mut self, id: PacketId) {
        let is_meant = |exchange: &Exchange| exchange.is_of(id) && exchange.qos == QoS::ExactlyOnce;
        let place = self.exchanges.iter().position(is_meant);
        let Some(exchange) = place.and_then(|place| self.exchanges.get_mut(place)) else {
            if self.renewing.contains(&id) || (self.target_began_anew && !self.source_is_through) {
                return self.end_stray(id);
            }
            self.strays.insert(id);
            return self.steps.push_back(Step::Free(id));
        };
        exchange.source = Source::Released;
        match exchange.state {
            State::Done => _ = self.end_if_over(place.unwrap_or_default()),
            State::Renewing => self.steps.push_back(Step::Complete(id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND)),
            State::Sent { owned: true, .. } => self.steps.push_back(Step::Release(id)),
            State::Sent { .. } | State::Waiting { .. } => {} // When the target has it.
        }
    }

    /// What the clients are to do for messages of QoS 2, in order. To be asked after anything else was.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// The target holds nothing under the identifier of a [`Step::Free`]; `None`: perhaps under any of them.
    pub(crate) fn freed(&mut self, id: Option<PacketId>) {
        match id {
            Some(id) if self.strays.remove(&id) => self.steps.push_back(Step::Complete(id, ReasonCode::SUCCESS)),
            Some(_) => {}
            None => self.ask_for_strays(),
        }
    }

    /// The source's connection is cut: no answer reaches it until it sends the message again, or PUBREL.
    pub(crate) fn source_cut(&mut self) {
        for exchange in &mut self.exchanges {
            exchange.source = match exchange.source {
                Source::Live => Source::Cut,
                Source::Released => Source::Told,
                source => source,
            };
            self.cut |= exchange.source == Source::Cut;
        }
    }

    /// The source's session is gone: what is here is carried on, and nobody waits for the answer.
    pub(crate) fn source_forgot(&mut self) {
        self.untold.clear();
        self.strays.clear();
        self.renewing.clear();
        self.cut = false;
        for place in (0..self.exchanges.len()).rev() {
            self.forget_source_of(place);
        }
        self.count();
    }

    /// The source knows nothing any more of the exchange at `place`.
    fn forget_source_of(&mut self, place: usize) {
        let Some(exchange) = self.exchanges.get_mut(place) else { return };
        let was_told = exchange.is_told();
        exchange.source = Source::Gone { released: false };
        match exchange.state {
            State::Renewing => exchange.state = State::Waiting { again: true },
            State::Done if was_told => self.remove(place),
            _ => {}
        }
        self.told = self.told.min(place);
    }

    // --- the target

    /// Hands everything that waits to the target in order, until it takes no more.
    pub(crate) fn pump(&mut self, mut hand: impl FnMut(Handing<'_>) -> Handed) {
        while let Some(exchange) = self.exchanges.get_mut(self.handed) {
            if exchange.state == State::Renewing {
                return; // Nothing overtakes it.
            }
            if let State::Waiting { again } = exchange.state {
                let Exchange { token, id, dup, .. } = *exchange;
                let handed = match &exchange.cargo {
                    Cargo::Message(message) => hand(Handing { message, token, id, dup, again }),
                    Cargo::Nothing | Cargo::Convoy(_) => Handed::Done,
                };
                exchange.state = match handed {
                    Handed::Sent(how) => State::Sent { how, owned: false },
                    Handed::Done => State::Done,
                    Handed::NotNow => return,
                };
                self.answered += usize::from(exchange.is_answered());
            }
            if !self.end_if_over(self.handed) {
                self.handed += 1;
            }
        }
    }

    /// The target answered for a message: it is done. Returns the message if the target may have refused it, which is not once it has
    /// said PUBREC.
    pub(crate) fn settle(&mut self, token: u64) -> Option<Arc<Message>> {
        let place = self.sent(token)?;
        let exchange = self.exchanges.get_mut(place)?;
        let message = if exchange.is_owned() { None } else { exchange.cargo.message().cloned() };
        self.answered += usize::from(!exchange.is_owned());
        exchange.state = State::Done;
        self.end_if_over(place);
        message
    }

    /// The target owns the message: nothing that it says about its size or properties matters any more.
    pub(crate) fn received(&mut self, token: u64) {
        let place = self.sent(token);
        if let Some(exchange) = place.and_then(|place| self.exchanges.get_mut(place))
            && let State::Sent { owned, .. } = &mut exchange.state
        {
            self.answered += usize::from(!std::mem::replace(owned, true));
            if !self.source_is_here {
                exchange.cargo = Cargo::Nothing; // This broker has it, whatever becomes of the session.
            }
            if matches!(exchange.source, Source::Released | Source::Gone { released: true }) {
                self.steps.push_back(Step::Release(exchange.id));
            }
        }
    }

    /// The target is there again and has its session: it is asked what nothing is known of.
    pub(crate) fn ask_for_strays(&mut self) {
        self.steps.extend(self.strays.iter().copied().map(Step::Free));
    }

    /// Settles the messages that were sent, that the target does not own, and for which `is_over` holds; their topics.
    pub(crate) fn settle_if(&mut self, is_over: impl Fn(&Message, As) -> bool) -> Vec<TopicName> {
        let mut settled = Vec::new();
        for exchange in &mut self.exchanges {
            if let (State::Sent { how, owned: false }, Some(message)) = (exchange.state, exchange.cargo.message())
                && is_over(message, how)
            {
                settled.push(message.topic.clone());
                exchange.state = State::Done;
            }
        }
        self.count();
        settled
    }

    /// The target's session is gone, and what was sent and not answered may be gone with it: all of it waits again. What its source
    /// was told of waits for that to send it again, if it does: this bridge may end before the target has it once more.
    pub(crate) fn target_forgot(&mut self) {
        self.target_began_anew = true;
        for exchange in &mut self.exchanges {
            if !matches!(exchange.state, State::Sent { .. }) {
                continue;
            }
            exchange.dup = false;
            // Of what is not here any more nothing is sent again: it is done when its turn comes.
            exchange.state = State::Waiting { again: true };
            if self.source_is_here && exchange.is_told() {
                exchange.state = State::Renewing;
                if exchange.source == Source::Released {
                    self.steps.push_back(Step::Complete(exchange.id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND));
                }
            }
        }
        for id in std::mem::take(&mut self.strays) {
            self.end_stray(id);
        }
        self.count();
    }

    /// The target knows nothing of a message any more of which nothing is known here either.
    fn end_stray(&mut self, id: PacketId) {
        let reason = if self.source_is_here {
            self.renewing.insert(id);
            ReasonCode::PACKET_IDENTIFIER_NOT_FOUND
        } else {
            ReasonCode::SUCCESS
        };
        self.steps.push_back(Step::Complete(id, reason));
    }

    /// The place of the exchange that waits for the target under this token.
    fn sent(&self, token: u64) -> Option<usize> {
        // Answers come in order, so it is nearly always the first.
        let is_first = self.exchanges.front().is_some_and(|first| first.token == token);
        let place = if is_first { 0 } else { self.exchanges.partition_point(|exchange| exchange.token < token) };
        let exchange = self.exchanges.get(place)?;
        (exchange.token == token && matches!(exchange.state, State::Sent { .. })).then_some(place)
    }

    fn push(&mut self, (id, qos, dup): (PacketId, QoS, bool), cargo: Cargo, state: State) {
        self.renewing.remove(&id);
        // Whoever begins anew under an identifier has forgotten what it was, and must not have to end that first: it is not heard before.
        if (self.twos > 0 || self.cut)
            && let Some(place) = self.exchanges.iter().position(|exchange| exchange.is_of(id))
        {
            self.forget_source_of(place);
        }
        if state == State::Done {
            self.handed += usize::from(!self.is_waiting());
            self.answered += 1;
        }
        self.append((id, qos, dup), cargo, Source::Live, state);
    }

    fn append(&mut self, (id, qos, dup): (PacketId, QoS, bool), cargo: Cargo, source: Source, state: State) {
        let (token, messages) = (self.next_token(), cargo.messages());
        self.next_token += messages as u64;
        self.messages += messages;
        self.convoys += usize::from(cargo.is_convoy());
        self.twos += usize::from(qos == QoS::ExactlyOnce);
        self.exchanges.push_back(Exchange { token, id, qos, dup, cargo, source, state });
    }

    /// Takes out the message of QoS 2 at `place` if both have let go of it.
    fn end_if_over(&mut self, place: usize) -> bool {
        match self.exchanges.get(place) {
            Some(Exchange { id, source: Source::Released, state: State::Done, .. }) => {
                self.steps.push_back(Step::Complete(*id, ReasonCode::SUCCESS));
            }
            Some(Exchange { source: Source::Gone { released: true }, state: State::Done, .. }) => {}
            _ => return false,
        }
        self.remove(place);
        true
    }

    /// Takes out the exchange at `place`, which does not wait for the target.
    fn remove(&mut self, place: usize) {
        let exchange = if place == 0 { self.exchanges.pop_front() } else { self.exchanges.remove(place) };
        let Some(exchange) = exchange else { return };
        self.messages -= exchange.cargo.messages();
        self.convoys -= usize::from(exchange.cargo.is_convoy());
        self.twos -= usize::from(exchange.qos == QoS::ExactlyOnce);
        self.answered -= usize::from(exchange.is_answered());
        self.handed -= usize::from(place < self.handed);
        self.told -= usize::from(place < self.told);
    }

    // --- convoys

    /// What the target's client is to call the next message.
    pub(crate) const fn next_token(&self) -> u64 {
        self.next_token + 1
    }

    /// A convoy is on its way to the target. Only when nothing waits for it, nor was cut.
    pub(crate) fn depart(&mut self, convoy: Convoy) {
        let how = As { qos: QoS::AtLeastOnce, retain: false };
        let Some(first) = convoy.first() else { return };
        self.handed += 1;
        self.source_is_through = true;
        let named = (first, QoS::AtLeastOnce, false);
        self.append(
            named,
            Cargo::Convoy(Box::new(convoy)),
            Source::Gone { released: false },
            State::Sent { how, owned: false },
        );
    }

    /// Settles the next messages in convoys, as far as PUBACKs at the beginning of `bytes` answer one convoy's in their turn: the token of
    /// the first, and their identifiers.
    pub(crate) fn settle_in_turn(&mut self, bytes: &[u8]) -> Option<(u64, &[PacketId])> {
        let (token, convoy) = self.convoys().find(|(_, convoy)| !convoy.is_settled())?;
        let (place, ids) = convoy.settle(bytes)?;
        Some((token + place, ids))
    }

    /// Whether a message in a convoy waits for an answer under this identifier.
    pub(crate) fn convoy_awaits(&mut self, id: PacketId) -> bool {
        self.convoys().any(|(_, convoy)| convoy.awaits(id))
    }

    pub(crate) const fn has_convoys(&self) -> bool {
        self.convoys > 0
    }

    /// Makes exchanges of all that is left in convoys; `became` gets each with its token.
    pub(crate) fn unpack(&mut self, mut became: impl FnMut(u64, &Left)) {
        if self.convoys == 0 {
            return;
        }
        let how = As { qos: QoS::AtLeastOnce, retain: false };
        for exchange in std::mem::take(&mut self.exchanges) {
            let Cargo::Convoy(convoy) = &exchange.cargo else {
                self.exchanges.push_back(exchange);
                continue;
            };
            self.messages -= convoy.len();
            for left in convoy.left() {
                let token = exchange.token + left.place;
                became(token, &left);
                let (id, qos, source) = (left.id, QoS::AtLeastOnce, Source::Live);
                let (cargo, state) = match left.message {
                    Some(message) => (Cargo::Message(message), State::Sent { how, owned: false }),
                    None => (Cargo::Nothing, State::Done),
                };
                self.messages += 1;
                self.exchanges.push_back(Exchange { token, id, qos, dup: false, cargo, source, state });
            }
        }
        self.convoys = 0;
        self.count();
    }

    /// Those there are, with the token of their first message.
    fn convoys(&mut self) -> impl Iterator<Item = (u64, &mut Convoy)> {
        let all = if self.convoys == 0 { 0 } else { self.exchanges.len() };
        self.exchanges.iter_mut().take(all).filter_map(|exchange| match &mut exchange.cargo {
            Cargo::Convoy(convoy) => Some((exchange.token, &mut **convoy)),
            Cargo::Nothing | Cargo::Message(_) => None,
        })
    }

    /// Counts anew what many changes at once have made wrong.
    fn count(&mut self) {
        self.answered = self.exchanges.iter().filter(|exchange| exchange.is_answered()).count();
        let waits = |exchange: &Exchange| matches!(exchange.state, State::Waiting { .. } | State::Renewing);
        self.handed = self.exchanges.iter().position(waits).unwrap_or(self.exchanges.len());
    }
}

impl Cargo {
    fn messages(&self) -> usize {
        if let Self::Convoy(convoy) = self { convoy.len() } else { 1 }
    }

    const fn is_convoy(&self) -> bool {
        matches!(self, Self::Convoy(_))
    }

    fn message(&self) -> Option<&Arc<Message>> {
        if let Self::Message(message) = self { Some(message) } else { None }
    }
}

impl Exchange {
    /// Whether its source knows it by this identifier.
    fn is_of(&self, id: PacketId) -> bool {
        self.id == id && !matches!(self.source, Source::Gone { .. })
    }

    /// Whether its source has had the answer to PUBLISH, or will never ask.
    const fn needs_no_answer(&self) -> bool {
        self.is_told() || matches!(self.source, Source::Gone { released: true })
    }

    /// Whether its source was told that a message of QoS 2 is received.
    const fn is_told(&self) -> bool {
        matches!(self.source, Source::Told | Source::Released)
    }

    /// Whether it waits for its source alone.
    fn is_answered(&self) -> bool {
        (self.is_owned() || self.state == State::Done) && !self.cargo.is_convoy()
    }

    /// Whether the target has said PUBREC.
    const fn is_owned(&self) -> bool {
        matches!(self.state, State::Sent { owned: true, .. })
    }
}

impl As {
    /// As the rules make it.
    pub(crate) fn wanted(message: &Message) -> Self {
        Self { qos: message.qos, retain: message.retain }
    }
}
