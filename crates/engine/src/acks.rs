//! Whatever waits until the store has what it promises: acknowledgements, QoS 2 messages that may be handed on only once,
//! and outputs.
//!
//! PUBACK and PUBREC leave in the order in which the messages of their sender came (MQTT-4.6.0-2, MQTT-4.6.0-2 of 3.1.1,
//! MQTT-4.6.0-3, MQTT-4.6.0-3 of 3.1.1) and when the message is owned (MQTT-4.3.2-4, MQTT-4.3.3-8), so while one waits, all later
//! ones of its session wait behind it, and nobody else's do.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;
use viaduct_codec::{ClientId, Kept, PacketId, QoS, ReasonCode, Time};
use viaduct_session::Hold;
use viaduct_store::{Accepted, StoreError, Ticket};

use crate::Engine;
use crate::dispatch::Plan;
use crate::key::{ConnectionId, SessionKey};
use crate::limits::{HELD_QOS_0, READY_ANSWERS, SPARE_ANSWERS};
use crate::stats::Dropped;

/// What waits for the store, in two orders: by ticket, and of each session as its messages came.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    by_ticket: VecDeque<(Ticket, Waiter)>,
    answers: HashMap<SessionKey, Answers>,
    /// The ends of sessions that the store has not safe yet: no more than it has still to write.
    ends: HashMap<ClientId, Ticket>,
    /// The last ticket that is safe.
    safe: Option<Ticket>,
    /// Memory of a queue that was emptied, for the next one.
    spare: VecDeque<Answer>,
    /// Memory for answers that go out together.
    going: Vec<Ack>,
    /// Answers of the session whose bytes are looked at, which wait for nothing and go out together.
    ready: Vec<Ack>,
}

/// The answers of one session that wait, in order.
#[derive(Debug)]
struct Answers {
    queue: VecDeque<Answer>,
    /// How many of them hold back a message.
    plans: usize,
    /// Bytes of messages in it that are not answered: nothing else bounds those of QoS 0.
    unanswered: usize,
}

/// Who waits for a ticket.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// The first of the answers of a session.
    Answer(SessionKey),
    /// The next step of a QoS 2 message of a session.
    Exchange(SessionKey, PacketId, Step),
    /// A QoS 2 message that nobody is to answer.
    Message(Box<Plan>),
    /// All that is on its way to a connection.
    Output(ConnectionId),
}

/// What a QoS 2 message waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// PUBLISH or PUBREL to the client.
    Proceed(Hold),
    /// PUBCOMP for the client's own message.
    Complete,
}

/// The answer to one inbound PUBLISH of QoS 1 or 2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) session: SessionKey,
    pub(crate) packet_id: PacketId,
    pub(crate) qos: QoS,
    pub(crate) reason: ReasonCode,
}

/// An answer with what it waits for.
#[derive(Debug)]
struct Answer {
    /// Of messages that came together. None for one that nobody is to answer (of QoS 0, a will), which only keeps its place behind
    /// others.
    acks: SmallVec<[Ack; 1]>,
    /// `None` waits for nothing but the answers before it.
    ticket: Option<Ticket>,
    /// Safe as well once nobody is owed it any more.
    kept: Option<Arc<Kept>>,
    /// What is handed on before it is answered: a QoS 2 message when it is safe, others behind one.
    plan: Option<Box<Plan>>,
}

impl Waiting {
    /// Whether a message of this session waits to be handed on.
    pub(crate) fn holds_back(&self, key: SessionKey) -> bool {
        !self.answers.is_empty() && self.answers.get(&key).is_some_and(|answers| answers.plans > 0)
    }

    /// Takes the answers of a session that nothing keeps back any more, in order, up to one with a message to be handed on
    /// first: that message. What is to be said to the session goes to `going`.
    fn take_safe(&mut self, key: SessionKey, going: &mut Vec<Ack>) -> Option<Box<Plan>> {
        let safe = self.safe;
        let answers = self.answers.get_mut(&key)?;
        let is_safe = |answer: &Answer| {
            answer.ticket.is_none_or(|ticket| safe.is_some_and(|safe| ticket <= safe))
                || answer.kept.as_ref().is_some_and(|kept| kept.is_over())
        };
        let mut plan = None;
        while plan.is_none()
            && answers.queue.front().is_some_and(is_safe)
            && let Some(answer) = answers.queue.pop_front()
        {
            plan = answer.plan;
            answers.plans -= usize::from(plan.is_some());
            if answer.acks.is_empty() {
                answers.unanswered -= plan.as_ref().map_or(0, |plan| plan.message.size());
            }
            going.extend_from_slice(&answer.acks);
        }
        if answers.queue.is_empty()
            && let Some(emptied) = self.answers.remove(&key)
            && emptied.queue.capacity() <= SPARE_ANSWERS
        {
            self.spare = emptied.queue;
        }
        plan
    }
}

impl Engine {
    /// Acknowledges messages that came together at once, or when the store has what it promises and everything before them is
    /// answered.
    pub(crate) fn acknowledge(
        &mut self,
        now: Time,
        acks: &[Ack],
        (accepted, kept): (Accepted, Option<Arc<Kept>>),
        plan: Option<Box<Plan>>,
    ) {
        let Some(session) = acks.first().map(|ack| ack.session) else { return };
        let ticket = match accepted {
            Accepted::Safe => None,
            Accepted::Pending(ticket) => Some(ticket),
        };
        let waits = || !self.waiting.answers.is_empty() && self.waiting.answers.contains_key(&session);
        if ticket.is_none() && !waits() {
            if let Some(plan) = plan {
                self.carry_out(now, *plan);
            }
            self.waiting.ready.extend_from_slice(acks);
            if self.waiting.ready.len() >= READY_ANSWERS {
                self.send_ready();
            }
            return;
        }
        self.queue(session, Answer { acks: SmallVec::from_slice(acks), ticket, kept, plan });
    }

    /// Hands on a message that nobody is to answer: when the store has it, if it waits for that, and behind those of its session
    /// that wait. One of QoS 0 that would make them too many is given up.
    pub(crate) fn hand_on_behind(&mut self, now: Time, key: SessionKey, plan: Plan, ticket: Option<Ticket>) {
        if ticket.is_none() && !self.waiting.holds_back(key) {
            return drop(self.carry_out(now, plan));
        }
        let unanswered = self.waiting.answers.get(&key).map_or(0, |answers| answers.unanswered);
        if plan.message.qos == QoS::AtMostOnce && unanswered + plan.message.size() > HELD_QOS_0 {
            return self.stats.dropped(Dropped::QueueFull, 1);
        }
        self.queue(key, Answer { acks: SmallVec::new(), ticket, kept: None, plan: Some(Box::new(plan)) });
    }

    /// Puts an answer behind those of its session.
    fn queue(&mut self, key: SessionKey, answer: Answer) {
        let Waiting { answers, spare, .. } = &mut self.waiting;
        let fresh = || Answers { queue: std::mem::take(spare), plans: 0, unanswered: 0 };
        let answers = answers.entry(key).or_insert_with(fresh);
        answers.plans += usize::from(answer.plan.is_some());
        if answer.acks.is_empty() {
            answers.unanswered += answer.plan.as_ref().map_or(0, |plan| plan.message.size());
        }
        let ticket = answer.ticket;
        answers.queue.push_back(answer);
        if let Some(ticket) = ticket {
            // Whoever looks at the first answer of a session looks at all.
            let is_told = |(last, waiter): &(Ticket, Waiter)| {
                *last == ticket && matches!(waiter, Waiter::Answer(session) if *session == key)
            };
            if !self.waiting.by_ticket.back().is_some_and(is_told) {
                self.wait(ticket, Waiter::Answer(key));
            }
        }
    }

    /// Notes who is to be told when `ticket` is safe.
    pub(crate) fn wait(&mut self, ticket: Ticket, waiter: Waiter) {
        self.waiting.by_ticket.push_back((ticket, waiter));
    }

    /// Keeps back what is on its way to the connection at `index` until `accepted` is safe.
    pub(crate) fn hold_output(&mut self, index: usize, accepted: Accepted) {
        let Accepted::Pending(ticket) = accepted else { return };
        if let Some(id) = self.connections.hold(index) {
            self.wait(ticket, Waiter::Output(id));
        }
    }

    /// The store was told to forget `what` it has of a session that ended.
    pub(crate) fn note_end(&mut self, what: &'static str, client_id: &ClientId, result: Result<Accepted, StoreError>) {
        match result {
            Ok(Accepted::Pending(ticket)) => _ = self.waiting.ends.insert(client_id.clone(), ticket),
            result => self.note_store_result(what, result),
        }
    }

    /// Keeps back what is on its way to the connection at `index` until the end of the session before is safe: a crash would
    /// bring back what its client is told is gone.
    pub(crate) fn hold_for_end(&mut self, index: usize, client_id: &ClientId) {
        if let Some(ticket) = self.waiting.ends.get(client_id) {
            self.hold_output(index, Accepted::Pending(*ticket));
        }
    }

    /// Goes on with what became safe. To be called when the store has made progress.
    pub fn handle_committed(&mut self, now: Time) {
        self.notice_new_rules(now);
        self.release_acks(now);
    }

    pub(crate) fn release_acks(&mut self, now: Time) {
        for publisher in self.store.poll_released() {
            if let Some(key) = SessionKey::from_mark(self.worker, publisher) {
                self.release_answers(now, key);
            }
        }
        let Some(safe) = self.store.poll_committed() else { return };
        self.waiting.safe = Some(safe);
        if !self.waiting.ends.is_empty() {
            self.waiting.ends.retain(|_, ticket| *ticket > safe);
            self.waiting.ends.shrink_to(SPARE_ANSWERS);
        }
        while self.waiting.by_ticket.front().is_some_and(|(ticket, _)| *ticket <= safe) {
            match self.waiting.by_ticket.pop_front() {
                Some((_, Waiter::Answer(key))) => self.release_answers(now, key),
                Some((_, Waiter::Exchange(key, id, step))) => {
                    if let Some(index) = self.sessions.find(key) {
                        self.take_step(now, index, id, step);
                    }
                }
                Some((_, Waiter::Message(plan))) => drop(self.carry_out(now, *plan)),
                Some((_, Waiter::Output(connection))) => {
                    if let Some(index) = self.connections.find(connection) {
                        self.connections.let_go(index);
                    }
                }
                None => {}
            }
        }
    }

    /// Lets the session at `index` do what its QoS 2 message waited with.
    pub(crate) fn take_step(&mut self, now: Time, index: usize, id: PacketId, step: Step) {
        self.with_session(index, |session, output| match step {
            Step::Proceed(hold) => session.proceed(now, id, hold, output),
            Step::Complete => session.complete(id, output),
        });
    }

    /// Sends the answers of a session that nothing keeps back any more.
    fn release_answers(&mut self, now: Time, key: SessionKey) {
        let mut going = std::mem::take(&mut self.waiting.going);
        while let Some(plan) = self.waiting.take_safe(key, &mut going) {
            self.carry_out(now, *plan);
        }
        self.send_acks(key, &going);
        going.clear();
        self.waiting.going = going;
    }

    /// Sends the answers that were only gathered. To be called before anything else is said to their session.
    pub(crate) fn send_ready(&mut self) {
        let Some(key) = self.waiting.ready.first().map(|ack| ack.session) else { return };
        let mut ready = std::mem::take(&mut self.waiting.ready);
        self.send_acks(key, &ready);
        ready.clear();
        self.waiting.ready = ready;
    }

    fn send_acks(&mut self, key: SessionKey, acks: &[Ack]) {
        if acks.is_empty() {
            return;
        }
        if let Some(index) = self.sessions.find(key) {
            self.with_session(index, |session, output| {
                let is_plain = |ack: &Ack| ack.qos == QoS::AtLeastOnce && ack.reason == ReasonCode::SUCCESS;
                let mut rest = acks;
                while let Some((ack, behind)) = rest.split_first() {
                    let mut count = 0;
                    if is_plain(ack) {
                        let plain = rest.iter().take_while(|ack| is_plain(ack)).map(|ack| ack.packet_id);
                        count = session.acknowledge_in_turn(plain, output);
                    }
                    if count == 0 {
                        session.acknowledge(ack.packet_id, ack.qos, ack.reason, None, output);
                    }
                    rest = if count == 0 { behind } else { rest.get(count..).unwrap_or_default() };
                }
            });
        }
    }
}
