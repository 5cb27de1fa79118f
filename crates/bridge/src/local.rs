//! The local half: an ordinary persistent 5.0 session of this broker, over a pipe.
//!
//! In: bytes from the engine. Out: bytes for the engine, and messages for the outward flow. Never answers for a
//! message before the remote did, except when nothing more can come of it.

use std::sync::Arc;

use viaduct_codec::{
    Disconnect, FilterRef, Frame, Level, Message, Packet, PlainAck, QoS, ReasonCode, RetainHandling, Time, TopicFilter,
    TopicName, TopicRef, Version,
};
use viaduct_session::client::{Client, Event as Heard, Hello};
use viaduct_session::{Incoming, Output};

use crate::bridge::Bridge;
use crate::convoy::{self, Answered};
use crate::flow::{Answer, As, Flow, Handed, Handing, Step};
use crate::loop_guard::{Hop, Hops};
use crate::names::Train;
use crate::negotiate::Wishes;
use crate::remote::hand;
use crate::{Action, Drop, Duty, Event, Lowered, limits, subscribe};

/// Where the local connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalState {
    /// None, and when to make one.
    Closed { retry: Option<Time> },
    /// CONNECT is written.
    Greeting,
    /// CONNACK came.
    Up,
}

impl Bridge {
    pub(crate) fn open_local(&mut self, now: Time) {
        self.local_output = Output::default();
        let hello = Hello {
            level: Level::V5,
            client_id: self.local_client_id(),
            clean_start: false,
            keep_alive: 0, // the pipe cannot be half open
            session_expiry: u32::MAX,
            receive_maximum: self.window(), // what the remote has no room for waits in the session's queue
            maximum_packet_size: u32::MAX,
            topic_alias_maximum: 0,
            max_inflight: u16::MAX, // as many as the broker announces
            server_packet_size: u32::MAX,
            username: None,
            password: None,
            will: None,
        };
        self.local.connect(now, &hello, &mut self.local_output);
        self.local_state = LocalState::Greeting;
        self.actions.push_back(Action::OpenLocal);
    }

    pub(crate) fn local_closed(&mut self, now: Time, why: &str) {
        if matches!(self.local_state, LocalState::Closed { .. }) {
            return;
        }
        self.local_gone(Some(now.after(limits::LOCAL_RETRY)));
        self.log(Event::LocalLost { reason: why.to_owned() });
    }

    pub(crate) fn close_local(&mut self, now: Time, end_session: bool) {
        self.tell_local(now, false);
        if end_session {
            let last = Disconnect { session_expiry: Some(0), ..Disconnect::new(ReasonCode::NORMAL_DISCONNECTION) };
            // A DISCONNECT without strings always fits.
            _ = Packet::Disconnect(last).encode(Version::V5, self.local_output.buffer());
        } else {
            self.local.disconnect(ReasonCode::NORMAL_DISCONNECTION, &mut self.local_output);
        }
        self.local_gone(None);
        self.actions.push_back(Action::CloseLocal);
    }

    pub(crate) fn read_local(&mut self, now: Time, bytes: &[u8]) -> usize {
        let mut used = 0;
        while !matches!(self.local_state, LocalState::Closed { .. }) {
            // Acknowledgements for the inward flow come this way: while it waits for them the remote is not read,
            // and may in turn not read us. So then a full output is no reason to stop.
            let full = self.link.is_up() && self.remote_output.pending() >= limits::OUTPUT_HIGH_WATER;
            if full && !self.is_inward_full() {
                return used;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let express = self.express_out(now, rest).or_else(|| self.acks_of_local(now, rest));
            if let Some(length) = express.or_else(|| self.acked_out(now, rest)) {
                used += length;
                continue;
            }
            let packet = match Frame::split(rest, u32::MAX) {
                Ok(None) => return used,
                Ok(Some(frame)) => {
                    used += frame.bytes.len();
                    Packet::decode(frame, Version::V5)
                }
                Err(error) => Err(error),
            };
            match packet {
                Ok(packet) => self.hear_local(now, packet),
                Err(error) => self.drop_local(now, &error.to_string()),
            }
        }
        bytes.len()
    }

    pub(crate) fn local_timeout(&self) -> Option<Time> {
        match self.local_state {
            LocalState::Closed { retry } => retry,
            LocalState::Greeting | LocalState::Up => self.local.next_timeout(),
        }
    }

    pub(crate) fn time_local(&mut self, now: Time) {
        match self.local_state {
            LocalState::Closed { retry: Some(retry) } if retry <= now => self.open_local(now),
            LocalState::Greeting | LocalState::Up if self.local.next_timeout().is_some_and(|due| due <= now) => {
                if let Err(violation) = self.local.handle_timeout(now, &mut self.local_output) {
                    self.drop_local(now, &violation.to_string());
                }
            }
            _ => {}
        }
    }

    /// Publishes the state of the link here.
    pub(crate) fn tell_local(&mut self, now: Time, up: bool) {
        let Some(mut notice) = self.notices.state(now, up, Wishes::ALL).filter(|_| self.local_state == LocalState::Up)
        else {
            return;
        };
        if self.local.publish(now, notice.clone(), NOTICE, &mut self.local_output).is_err() {
            notice.qos = QoS::AtMostOnce; // the window is full of messages; the state does not wait for them
            _ = self.local.publish(now, notice, NOTICE, &mut self.local_output);
        }
    }

    /// Hands what came from the remote to this broker, and answers the remote for what is done.
    pub(crate) fn pump_inward(&mut self, now: Time) {
        if self.local_state == LocalState::Up {
            let Self { inward, local, local_output, stats, .. } = self;
            let mut large = Vec::new();
            inward.pump(|handing| {
                let Handing { message, again, .. } = handing;
                match hand(now, local, handing, As::wanted(message), local_output) {
                    Ok(Handed::NotNow) => Handed::NotNow,
                    Ok(handed) => {
                        stats.messages_in += u64::from(!again);
                        handed
                    }
                    Err(reason) => {
                        stats.count_drop(reason);
                        if reason == Drop::TooLarge {
                            large.push(message.topic.as_str().to_owned());
                        }
                        Handed::Done
                    }
                }
            });
            for topic in large {
                if let Some(count) = self.losses.too_large_in.count(now) {
                    self.log(Event::MessageTooLarge { outgoing: false, topic, count });
                }
            }
        }
        if self.link.is_up() {
            while let Some(answer) = self.inward.next_answer() {
                acknowledge(answer, &mut self.remote, &mut self.remote_output);
            }
        }
        let Self { inward, remote, remote_output, local, local_output, .. } = self;
        take_steps(now, inward, (remote, remote_output), (local, local_output));
    }

    /// Has the retained messages of these filters sent again.
    pub(crate) fn replay_local(&mut self, now: Time, filters: &[TopicFilter]) {
        let wanted: Vec<_> = self.local_filters().into_iter().filter(|(filter, _)| filters.contains(filter)).collect();
        self.subscribe_local(now, &wanted, RetainHandling::Send);
    }

    /// What is subscribed to here, each filter once, at the highest QoS of its rules.
    pub(crate) fn local_filters(&self) -> Vec<(TopicFilter, QoS)> {
        if self.settings.duty == Duty::Drain {
            return Vec::new();
        }
        subscribe::filters(self.rules.out().map(|rule| (&rule.local.subscription, rule.qos)))
    }

    pub(crate) fn window(&self) -> u16 {
        self.settings.max_inflight.max(1)
    }

    // --- packets

    fn hear_local(&mut self, now: Time, packet: Packet<'_>) {
        match convoy::answered(now, &packet, &mut self.inward, &mut self.local) {
            Answered::Settled => return self.pump_inward(now),
            Answered::OutOfTurn => self.unpack(),
            Answered::Nothing => {}
        }
        let heard = match self.local.handle(now, packet, &mut self.local_output) {
            Ok(heard) => heard,
            Err(violation) => return self.drop_local(now, &violation.to_string()),
        };
        match heard {
            Heard::Connack(connack) if connack.reason.is_error() => self.drop_local(now, &connack.reason.to_string()),
            Heard::Connack(connack) => self.local_is_up(now, connack.session_present),
            Heard::Publish(incoming) => self.take_local(now, &incoming),
            Heard::Suback(suback) => {
                let asked = self.asked_local.remove(&suback.packet_id).unwrap_or_default();
                for (filter, reason) in asked.into_iter().zip(suback.reasons).filter(|(_, reason)| reason.is_error()) {
                    self.stats.count_lowered(Lowered::Subscription, 1);
                    self.log(Event::SubscriptionRefused { remote: false, filter, reason });
                }
                self.pump_inward(now); // Its identifier may be one that a message waits for.
            }
            Heard::Received { token, .. } => {
                self.inward.received(token);
                self.pump_inward(now);
            }
            Heard::Settled { token, reason } => self.settle_inward(now, token, reason),
            Heard::Released(id) => {
                self.outward.released(id);
                self.pump_outward(now);
            }
            Heard::Disconnect(disconnect) => {
                let reason = disconnect.reason.to_string();
                self.drop_local(now, &reason);
            }
            Heard::Freed(id) => {
                self.inward.freed(id);
                self.pump_inward(now);
            }
            Heard::Unsuback(_) => self.pump_inward(now), // Its identifier may be one that a message waits for.
            Heard::None | Heard::Auth(_) => {}
        }
    }

    fn local_is_up(&mut self, now: Time, session_present: bool) {
        self.local_state = LocalState::Up;
        if session_present {
            self.local_resumed |= !self.was_up;
            self.inward.ask_for_strays();
        } else {
            self.local.forget();
            self.inward.target_forgot();
            self.outward.source_forgot();
        }
        self.unsubscribe_local(now);
        let filters = self.local_filters();
        self.subscribe_local(now, &filters, RetainHandling::SendIfNew);
        self.tell_local(now, self.link.is_up());
        self.pump_inward(now);
        self.pump_outward(now);
    }

    fn subscribe_local(&mut self, now: Time, filters: &[(TopicFilter, QoS)], retain_handling: RetainHandling) {
        if self.local_state != LocalState::Up {
            return;
        }
        for chunk in subscribe::chunks(filters, subscribe::Room::ANY) {
            let entries = subscribe::entries(chunk, retain_handling);
            if let Some(id) = self.local.subscribe(now, &entries, None, &mut self.local_output) {
                self.asked_local.insert(id, chunk.iter().map(|(filter, _)| filter.clone()).collect());
            }
        }
    }

    /// Takes back what earlier rules subscribed to and these do not.
    fn unsubscribe_local(&mut self, now: Time) {
        let kept = self.local_filters();
        let old =
            subscribe::previous(&self.settings.previous, |topic| topic.direction.is_out(), |topic| &topic.local_prefix);
        let gone: Vec<_> = old.into_iter().filter(|old| !kept.iter().any(|(filter, _)| filter == old)).collect();
        let refs: Vec<FilterRef<'_>> = gone.iter().map(TopicFilter::by_ref).collect();
        if !refs.is_empty() {
            self.local.unsubscribe(now, &refs, &[], &mut self.local_output);
        }
    }

    /// A message of this broker, for the remote.
    fn take_local(&mut self, now: Time, incoming: &Incoming<'_>) {
        let publish = &incoming.publish;
        if let Some(id) = publish.packet_id
            && self.outward.recognise(id, publish.qos, publish.dup)
        {
            return self.pump_outward(now);
        }
        match self.outgoing(now, incoming) {
            Ok(message) => match publish.packet_id {
                Some(id) => self.outward.take(id, publish.qos, publish.dup, message),
                None => self.send_once(now, incoming.topic(), &message),
            },
            Err(reason) => {
                self.stats.count_drop(reason);
                if reason == Drop::TopicNotTaken
                    && let Some(count) = self.losses.topic_not_taken.count(now)
                {
                    self.log(Event::TopicNotTaken { topic: incoming.topic().as_str().to_owned(), count });
                }
                if let Some(id) = publish.packet_id {
                    self.outward.refuse(id, publish.qos);
                }
            }
        }
        if publish.packet_id.is_some() {
            self.pump_outward(now);
        }
    }

    /// The message as the remote gets it.
    fn outgoing(&mut self, now: Time, incoming: &Incoming<'_>) -> Result<Arc<Message>, Drop> {
        let train = self.names.outward(&self.rules, &self.settings.remote, incoming.topic())?;
        let message = Message::from_publish(&incoming.publish, train.to.clone(), now);
        carried(message, train, |response| self.rules.response_to_remote(response), &self.hops, Hop::Out)
    }

    /// QoS 0: now or never. What was retained is fetched again when the link is back.
    fn send_once(&mut self, now: Time, topic: TopicRef<'_>, message: &Arc<Message>) {
        if self.link.is_up() {
            if self.remote_output.pending() >= 4 * limits::OUTPUT_HIGH_WATER {
                return self.stats.count_drop(Drop::Pressure);
            }
            return self.publish_once(now, message);
        }
        self.stats.count_drop(Drop::Offline);
        if message.retain
            && let Some(rule) = self.rules.out().find(|rule| rule.local.is_match(topic))
        {
            self.missed.insert(rule.local.subscription.clone());
        }
    }

    /// Tells this broker what is done, in order.
    pub(crate) fn answer_local(&mut self, now: Time) {
        while self.local_state == LocalState::Up
            && let Some(answer) = self.outward.next_answer()
        {
            acknowledge(answer, &mut self.local, &mut self.local_output);
        }
        let Self { outward, remote, remote_output, local, local_output, .. } = self;
        take_steps(now, outward, (local, local_output), (remote, remote_output));
    }

    /// This broker answered for a message of the remote.
    fn settle_inward(&mut self, now: Time, token: u64, reason: ReasonCode) {
        if let Some(message) = self.inward.settle(token)
            && reason.is_error()
        {
            let topic = message.topic.as_str().to_owned();
            self.stats.count_drop(Drop::Refused);
            if let Some(count) = self.losses.refused_local.count(now) {
                self.log(Event::MessageRefused { remote: false, topic, reason, count });
            }
        }
        self.pump_inward(now);
    }

    /// The engine broke off, or said something that it should not.
    pub(crate) fn drop_local(&mut self, now: Time, reason: &str) {
        self.local_closed(now, reason);
        self.actions.push_back(Action::CloseLocal);
    }

    fn local_gone(&mut self, retry: Option<Time>) {
        self.unpack();
        self.local.detach();
        self.outward.source_cut();
        self.asked_local.clear();
        self.local_state = LocalState::Closed { retry };
    }
}

/// Has the clients of both halves do what is next for messages of QoS 2.
fn take_steps(
    now: Time,
    flow: &mut Flow,
    (source, to_source): (&mut Client, &mut Output),
    (target, to_target): (&mut Client, &mut Output),
) {
    while let Some(step) = flow.next_step() {
        match step {
            Step::Release(id) => target.release(now, id, to_target),
            Step::Complete(id, reason) => source.complete(id, reason, to_source),
            Step::Free(id) => {
                if target.is_connected() && target.free(id, to_target) {
                    flow.freed(Some(id));
                }
            }
        }
    }
}

fn acknowledge(answer: Answer<'_>, source: &mut Client, output: &mut Output) {
    match answer {
        Answer::One(id, qos) => source.acknowledge(id, qos, ReasonCode::SUCCESS, output),
        Answer::Several(ids) => PlainAck::encode_pubacks(ids.len(), ids.iter().copied(), output.buffer()),
    }
}

/// The token of state messages, which no flow gives.
pub(crate) const NOTICE: u64 = 0;

/// A message that has its name on the other side already, as its rule has it.
pub(crate) fn carried(
    mut message: Message,
    train: &Train,
    response: impl Fn(TopicRef<'_>) -> TopicName,
    hops: &Hops,
    hop: Hop,
) -> Result<Arc<Message>, Drop> {
    message.qos = message.qos.min(train.qos);
    message.retain &= train.retain;
    if let Some(own) = &mut message.properties
        && let Some(from) = &own.response_topic
    {
        let to = response(from.by_ref());
        Arc::make_mut(own).response_topic = Some(to);
    }
    hops.stamp(&mut message, hop).map_err(|_| Drop::Loop)?;
    Ok(Arc::new(message))
}
