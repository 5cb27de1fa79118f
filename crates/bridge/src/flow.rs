//! One direction of a bridge: messages taken from one half, handed to the other, acknowledged back.
//!
//! In: messages with the packet identifier that their source waits for, and what becomes of them at the target. Out:
//! publications to the target and acknowledgements to the source, each in the order of arrival. Never acknowledges a
//! message before the target's broker answered for it, and never holds more than the source's window lets in.
//!
//! Either half may be cut at any time. The source then sends again what it has no answer for, with the same packet
//! identifiers while its session lives: such a message is recognised here and not handed on twice. The target's
//! client resends what it has sent; when the target's session is gone everything unanswered is published anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use viaduct_codec::{Message, PacketId, QoS, TopicName};

use crate::convoy::{Convoy, Left};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// In order of arrival.
    exchanges: VecDeque<Exchange>,
    /// The messages of `exchanges`. Their number is bounded by the source's window, see [`crate::Settings::max_inflight`].
    messages: usize,
    /// How many of `exchanges` are convoys, so that most answers are not looked for there.
    convoys: usize,
    /// How many of `exchanges`, from the first, do not wait for the target: the one behind them does, or is none.
    handed: usize,
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
    Live(PacketId, QoS),
    /// Was cut; sends the message again if its session lives.
    Cut(PacketId, QoS),
    /// Knows nothing of it any more.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For the target to take it, for the first time or anew.
    Waiting { again: bool },
    /// For the target's answer. `owned`: it has said PUBREC.
    Sent { how: As, owned: bool },
    /// For its turn to be acknowledged.
    Done,
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

impl Flow {
    /// Unanswered messages.
    pub(crate) const fn len(&self) -> usize {
        self.messages
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

    /// Whether a PUBLISH is one that is here already. Only a duplicate can be: a message with the same identifier
    /// that is none means that the source has forgotten the old one. QoS 2 is never asked for here: the source's
    /// client knows its open identifiers across connections and shows each message once.
    pub(crate) fn is_known(&mut self, id: PacketId, qos: QoS, dup: bool) -> bool {
        if !self.cut && !dup {
            return false;
        }
        let known = self.exchanges.iter_mut().find(|exchange| exchange.source.is(id));
        if !dup || qos == QoS::ExactlyOnce {
            self.untold.remove(&id);
            if let Some(exchange) = known {
                exchange.source = Source::Gone;
            }
            return false;
        }
        if let Some(exchange) = known {
            exchange.source = Source::Live(id, qos);
            return true;
        }
        let untold = self.untold.remove(&id).is_some();
        if untold {
            self.refuse(id, qos);
        }
        untold
    }

    /// Takes a message that waits for an answer.
    pub(crate) fn take(&mut self, id: PacketId, qos: QoS, message: Arc<Message>) {
        self.push(id, qos, Cargo::Message(message), State::Waiting { again: false });
    }

    /// Takes a message that is not carried on; its source is answered in its turn all the same.
    pub(crate) fn refuse(&mut self, id: PacketId, qos: QoS) {
        self.push(id, qos, Cargo::Nothing, State::Done);
    }

    /// The next answer for the source, in the order of arrival. To be asked while the source is connected. A QoS 2
    /// message of an earlier connection is among them: the source's client then knows what to say when it is asked.
    pub(crate) fn next_answer(&mut self) -> Option<Answer<'_>> {
        while self.exchanges.front().is_some_and(|first| first.state == State::Done) {
            self.handed = self.handed.saturating_sub(1);
            let Exchange { cargo, source, .. } = self.exchanges.pop_front()?;
            self.messages -= cargo.messages();
            self.convoys -= usize::from(cargo.is_convoy());
            match source {
                Source::Live(id, qos) | Source::Cut(id, qos @ QoS::ExactlyOnce) => return Some(Answer::One(id, qos)),
                Source::Cut(id, qos) => _ = self.untold.insert(id, qos),
                Source::Gone => {}
            }
        }
        self.cut &= !(self.exchanges.is_empty() && self.untold.is_empty());
        let first = self.exchanges.front_mut()?;
        let Cargo::Convoy(convoy) = &mut first.cargo else { return None };
        if convoy.is_settled() {
            first.state = State::Done; // It leaves when the next answer is asked for.
        }
        let news = convoy.tell();
        (!news.is_empty()).then_some(Answer::Several(news))
    }

    /// The source's connection is cut: no answer reaches it until it sends the message again.
    pub(crate) fn source_cut(&mut self) {
        for exchange in &mut self.exchanges {
            if let Source::Live(id, qos) = exchange.source {
                exchange.source = Source::Cut(id, qos);
                self.cut = true;
            }
        }
    }

    /// The source's session is gone: what is here is carried on, and nobody waits for the answer.
    pub(crate) fn source_forgot(&mut self) {
        self.untold.clear();
        self.cut = false;
        for exchange in &mut self.exchanges {
            exchange.source = Source::Gone;
        }
    }

    // --- the target

    /// Hands everything that waits to the target in order, until it takes no more. `hand` gets the message, its
    /// token, and whether it was handed over before.
    pub(crate) fn pump(&mut self, mut hand: impl FnMut(&Arc<Message>, u64, bool) -> Handed) {
        for exchange in self.exchanges.iter_mut().skip(self.handed) {
            if let State::Waiting { again } = exchange.state {
                let handed = match &exchange.cargo {
                    Cargo::Message(message) => hand(message, exchange.token, again),
                    Cargo::Nothing | Cargo::Convoy(_) => Handed::Done,
                };
                exchange.state = match handed {
                    Handed::Sent(how) => State::Sent { how, owned: false },
                    Handed::Done => State::Done,
                    Handed::NotNow => return,
                };
            }
            self.handed += 1;
        }
    }

    /// The target answered for a message: it is done. Returns the message, or `None` when it was not waited for.
    pub(crate) fn settle(&mut self, token: u64) -> Option<&Message> {
        let exchange = self.sent(token)?;
        exchange.state = State::Done;
        exchange.cargo.message()
    }

    /// The target owns the message: nothing that it says about its size or properties matters any more.
    pub(crate) fn received(&mut self, token: u64) {
        if let Some(Exchange { state: State::Sent { owned, .. }, .. }) = self.sent(token) {
            *owned = true;
        }
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
        settled
    }

    /// The target's session is gone, and what was sent and not answered may be gone with it: all of it waits again.
    pub(crate) fn target_forgot(&mut self) {
        for exchange in &mut self.exchanges {
            if matches!(exchange.state, State::Sent { .. }) {
                exchange.state = State::Waiting { again: true };
            }
        }
        self.count_handed();
    }

    fn sent(&mut self, token: u64) -> Option<&mut Exchange> {
        // Answers come in order, so it is nearly always the first.
        let is_first = self.exchanges.front().is_some_and(|first| first.token == token);
        let place = if is_first { 0 } else { self.exchanges.partition_point(|exchange| exchange.token < token) };
        let is_sent =
            |exchange: &&mut Exchange| exchange.token == token && matches!(exchange.state, State::Sent { .. });
        self.exchanges.get_mut(place).filter(is_sent)
    }

    fn push(&mut self, id: PacketId, qos: QoS, cargo: Cargo, state: State) {
        if !self.is_waiting() && state == State::Done {
            self.handed += 1;
        }
        self.append(cargo, Source::Live(id, qos), state);
    }

    fn append(&mut self, cargo: Cargo, source: Source, state: State) {
        let (token, messages) = (self.next_token(), cargo.messages());
        self.next_token += messages as u64;
        self.messages += messages;
        self.convoys += usize::from(cargo.is_convoy());
        self.exchanges.push_back(Exchange { token, cargo, source, state });
    }

    // --- convoys

    /// What the target's client is to call the next message.
    pub(crate) const fn next_token(&self) -> u64 {
        self.next_token + 1
    }

    /// A convoy is on its way to the target. Only when nothing waits for it, nor was cut.
    pub(crate) fn depart(&mut self, convoy: Convoy) {
        let how = As { qos: QoS::AtLeastOnce, retain: false };
        self.handed += 1;
        self.append(Cargo::Convoy(Box::new(convoy)), Source::Gone, State::Sent { how, owned: false });
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
                let source = Source::Live(left.id, QoS::AtLeastOnce);
                let (cargo, state) = match left.message {
                    Some(message) => (Cargo::Message(message), State::Sent { how, owned: false }),
                    None => (Cargo::Nothing, State::Done),
                };
                self.messages += 1;
                self.exchanges.push_back(Exchange { token, cargo, source, state });
            }
        }
        self.convoys = 0;
        self.count_handed();
    }

    /// Those there are, with the token of their first message.
    fn convoys(&mut self) -> impl Iterator<Item = (u64, &mut Convoy)> {
        let all = if self.convoys == 0 { 0 } else { self.exchanges.len() };
        self.exchanges.iter_mut().take(all).filter_map(|exchange| match &mut exchange.cargo {
            Cargo::Convoy(convoy) => Some((exchange.token, &mut **convoy)),
            Cargo::Nothing | Cargo::Message(_) => None,
        })
    }

    fn count_handed(&mut self) {
        let waits = |exchange: &Exchange| matches!(exchange.state, State::Waiting { .. });
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

    fn message(&self) -> Option<&Message> {
        if let Self::Message(message) = self { Some(message) } else { None }
    }
}

impl As {
    /// As the rules make it.
    pub(crate) fn wanted(message: &Message) -> Self {
        Self { qos: message.qos, retain: message.retain }
    }
}

impl Source {
    fn is(self, wanted: PacketId) -> bool {
        matches!(self, Self::Live(id, _) | Self::Cut(id, _) if id == wanted)
    }
}
