//! The remote half: a client of another broker, whatever that broker does.
//!
//! In: bytes from the remote. Out: bytes for the remote, and messages for the inward flow. Never panics and never ends
//! more than the present attempt.

use std::sync::Arc;

use viaduct_codec::{
    Connack, Disconnect, FilterRef, Frame, Level, Looks, Message, Packet, PacketId, Publish, QoS, ReasonCode,
    SubscriptionIds, Time, TopicFilter, TopicName, UserProperties, Version,
};
use viaduct_session::client::{Client, Event as Heard, Hello, PublishError, Under};
use viaduct_session::{BRIDGE_PROPERTY, Delivery, Incoming, LEAF_PROPERTY, NODE_PROPERTY, Output, Violation};

use crate::bridge::Bridge;
use crate::convoy::{self, Answered};
use crate::flow::{As, Handed, Handing};
use crate::link::Ending;
use crate::local::{NOTICE, carried};
use crate::loop_guard::Hop;
use crate::offer::{Offer, count_sent, lowered};
use crate::{Action, Drop, Error, Event, Lowered, Refusal, Settings, StepDown, limits};

impl Bridge {
    /// The connection stands: CONNECT.
    pub(crate) fn greet(&mut self, now: Time) {
        let (level, wishes) = (self.link.level(), self.link.wishes());
        let hello = Hello {
            level,
            client_id: self.settings.client_id.clone(),
            clean_start: self.settings.clean_session,
            keep_alive: self.settings.keep_alive,
            session_expiry: self.settings.session_expiry,
            receive_maximum: self.window(),
            max_inflight: self.window(),
            server_packet_size: self.settings.remote.max_packet_size.unwrap_or(u32::MAX),
            maximum_packet_size: self.settings.max_packet_size,
            topic_alias_maximum: self.settings.topic_alias_maximum,
            username: self.settings.username.clone(),
            password: self.settings.password.clone(),
            will: if self.tells_remote() { self.notices.will(now, wishes) } else { None },
        };
        if level.version() == Version::V31 && self.settings.clean_session {
            self.remote.forget(); // no CONNACK of 3.1 will say so
            self.outward.target_forgot();
            self.inward.source_forgot();
        }
        self.remote_output = Output::default();
        self.told_leaf = self.is_leaf && level.version().is_v5();
        self.remote.introduce(introduction(&self.settings, self.told_leaf));
        self.remote.connect(now, &hello, &mut self.remote_output);
    }

    /// Tells a remote that was told otherwise that it is not this broker's only link any more.
    pub(crate) fn tell_no_leaf(&mut self, now: Time) {
        // Nobody is subscribed to this, and nobody has to be.
        let Ok(nothing) = FilterRef::new("$SYS/viaduct/leaf") else { return };
        if self.told_leaf && !self.is_leaf && self.link.is_up() && self.hops.is_remote_named() {
            let mut said = Vec::new();
            UserProperties::push(&mut said, LEAF_PROPERTY, "0");
            let asked = self.remote.unsubscribe(now, &[nothing], &said, &mut self.remote_output);
            self.told_leaf = asked.is_none();
        }
    }

    pub(crate) fn read_remote(&mut self, now: Time, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.link.is_connected() {
            if self.link.is_up() && !self.may_read_remote() {
                return used;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            if !self.link.is_up()
                && let Some(fault) = first_fault(rest, self.link.level())
            {
                self.end_attempt(now, fault, None, false);
                break;
            }
            let express = self.express_in(now, rest).or_else(|| self.acks_of_remote(now, rest));
            if let Some(length) = express.or_else(|| self.acked_in(now, rest)) {
                used += length;
                continue;
            }
            let version = self.link.level().version();
            let packet = match Frame::split(rest, self.settings.max_packet_size) {
                Ok(None) => return used,
                Ok(Some(frame)) => {
                    used += frame.bytes.len();
                    Packet::decode(frame, version)
                }
                Err(error) => Err(error),
            };
            match packet {
                Ok(packet) => self.hear_remote(now, packet),
                Err(error) if !self.link.is_up() => {
                    self.end_attempt(now, Ending::Level(StepDown::Malformed(error)), None, false);
                }
                Err(error) => self.accuse(now, &Violation::from(error)),
            }
        }
        bytes.len()
    }

    /// Whether there is room for what the remote may say. What it has to read first is its own, up to a bound: an answer for everything that
    /// it sends.
    fn may_read_remote(&self) -> bool {
        self.local_output.pending() < limits::OUTPUT_HIGH_WATER
            && self.remote_output.pending() < limits::UNREAD_ANSWERS
            && !self.is_inward_full()
    }

    /// Whether this broker has to answer first before more comes in from the remote. Never whether the remote has to: it would not be
    /// heard.
    pub(crate) fn is_inward_full(&self) -> bool {
        let most = limits::UNANSWERED.max(self.window().into());
        self.inward.is_waiting() || self.inward.unanswered() > most
    }

    pub(crate) fn remote_closed(&mut self, now: Time, why: &str) {
        if !self.link.is_connected() {
            return;
        }
        let ending = if self.link.is_up() {
            Ending::Error(Error::ServerGone { reason: why.to_owned() })
        } else {
            Ending::Level(StepDown::Closed)
        };
        self.end_attempt(now, ending, None, true);
    }

    pub(crate) fn time_remote(&mut self, now: Time) {
        if self.link.is_connected()
            && self.remote.next_timeout().is_some_and(|due| due <= now)
            && let Err(violation) = self.remote.handle_timeout(now, &mut self.remote_output)
        {
            self.accuse(now, &violation);
        }
    }

    /// Says goodbye. `end_session`: for good, so that the remote keeps nothing for a bridge that will not come back. 3.x has no
    /// word for that and is told to send nothing more.
    pub(crate) fn stop_remote(&mut self, now: Time, end_session: bool) {
        let was_up = self.link.is_up();
        if was_up {
            if let Some(mut notice) = self.notice(now, false) {
                notice.qos = QoS::AtMostOnce; // nobody waits for the answer
                _ = self.remote.publish(now, notice, NOTICE, &mut self.remote_output);
            }
            if end_session {
                let filters = self.asked_of_remote();
                self.unsubscribe_remote(now, &filters);
                self.remote.end_session(&mut self.remote_output);
            } else {
                self.remote.disconnect(ReasonCode::NORMAL_DISCONNECTION, &mut self.remote_output);
            }
        }
        self.actions.push_back(Action::HangUp { attempt: self.link.attempt(), reason: None });
        self.remote_gone();
        self.link.stop();
        if was_up {
            self.went_down(now, None);
        }
    }

    /// The connection is no more, whoever ended it.
    pub(crate) fn remote_gone(&mut self) {
        self.unpack();
        self.remote.detach();
        self.pace.forget();
        self.inward.source_cut();
        self.asked_remote.clear();
    }

    /// The link was up and is not.
    pub(crate) fn went_down(&mut self, now: Time, error: Option<Error>) {
        (self.stats.up, self.stats.level, self.stats.since) = (false, None, now);
        self.tell_local(now, false);
        self.actions.push_back(Action::StateChanged { up: false, error });
    }

    /// Hands what came from this broker to the remote, and answers this broker for what is done.
    pub(crate) fn pump_outward(&mut self, now: Time) {
        if self.link.is_up() {
            let guard = self.echoes_come_back();
            let Self { outward, remote, remote_output, stats, offer, echoes, settings, pace, .. } = self;
            let mut large = Vec::new();
            let max_age = settings.max_age;
            // A message that comes alone is made short with an alias; where many come together time is what is scarce.
            remote.set_aliases(outward.waiting() < 2);
            outward.pump(|handing| {
                let Handing { message, again, dup, .. } = handing;
                let is_old = max_age.is_some_and(|max| now.since(message.received) >= max);
                if is_old && !again && !dup {
                    stats.count_drop(Drop::TooOld);
                    return Handed::Done;
                }
                if !again && !pace.allows(now) {
                    return Handed::NotNow;
                }
                let lowered = lowered(message, offer.wishes);
                match hand(now, remote, handing, lowered, remote_output) {
                    Ok(Handed::NotNow) => return Handed::NotNow,
                    Ok(handed) => {
                        if !again {
                            pace.spend();
                            count_sent(stats, message, lowered);
                        }
                        if guard {
                            echoes.sent(now, message.topic.by_ref(), &message.payload);
                        }
                        return handed;
                    }
                    Err(Drop::TooLarge) => large.push(message.topic.clone()),
                    Err(reason) => stats.count_drop(reason),
                }
                Handed::Done
            });
            for topic in large {
                self.too_large(now, topic);
            }
        }
        self.answer_local(now);
    }

    /// QoS 0 on a link that is up.
    pub(crate) fn publish_once(&mut self, now: Time, message: &Arc<Message>) {
        let lowered = lowered(message, self.offer.wishes);
        match hand_once(now, &mut self.remote, message, lowered.retain, &mut self.remote_output) {
            Ok(_) => {
                count_sent(&mut self.stats, message, lowered);
                if self.echoes_come_back() {
                    self.echoes.sent(now, message.topic.by_ref(), &message.payload);
                }
            }
            Err(Drop::TooLarge) => self.too_large(now, message.topic.clone()),
            Err(reason) => self.stats.count_drop(reason),
        }
    }

    // --- packets

    fn hear_remote(&mut self, now: Time, packet: Packet<'_>) {
        if let Packet::Connack(connack) = &packet
            && !connack.reason.is_error()
        {
            self.meet_address();
        }
        match convoy::answered(now, &packet, &mut self.outward, &mut self.remote) {
            Answered::Settled => return self.pump_outward(now),
            Answered::OutOfTurn => self.unpack(),
            Answered::Nothing => {}
        }
        let heard = match self.remote.handle(now, packet, &mut self.remote_output) {
            Ok(heard) => heard,
            Err(violation) => return self.accuse(now, &violation),
        };
        match heard {
            Heard::Connack(connack) => self.greeted(now, &connack),
            Heard::Publish(incoming) => self.take_remote(now, &incoming),
            Heard::Suback(suback) => {
                self.subscribed(&suback);
                self.pump_outward(now); // Its identifier may be one that a message waits for.
            }
            Heard::Settled { token, reason } => self.settle_outward(now, token, reason),
            Heard::Received { token, .. } => {
                self.outward.received(token);
                self.pump_outward(now);
            }
            Heard::Released(id) => {
                self.inward.released(id);
                self.pump_inward(now);
            }
            Heard::Freed(id) => {
                self.outward.freed(id);
                self.pump_outward(now);
            }
            Heard::Unsuback(_) => self.pump_outward(now), // As for SUBACK.
            Heard::None => {}
            Heard::Disconnect(disconnect) => {
                self.end_attempt(now, farewell(&disconnect), None, false);
            }
            Heard::Auth(_) => {
                let what = "AUTH came although CONNECT named no authentication method".to_owned();
                let reason = ReasonCode::PROTOCOL_ERROR;
                self.end_attempt(now, Ending::Error(Error::Violation { reason, what }), Some(reason), false);
            }
        }
    }

    /// A session that another address kept is not the one in which the last link spoke: what was open there is unknown here, and what is
    /// open here may stand under identifiers that mean something else here.
    fn meet_address(&mut self) {
        let address = self.link.address().cloned();
        let last = std::mem::replace(&mut self.session_at, address);
        if last.is_some() && last != self.session_at {
            self.remote.begin_elsewhere();
            self.outward.target_forgot();
            self.inward.source_forgot();
        }
    }

    fn greeted(&mut self, now: Time, connack: &Connack<'_>) {
        if connack.reason != ReasonCode::SUCCESS {
            let ending = self.refusal(connack);
            if !matches!(ending, Ending::Level(_)) {
                self.link.understood();
            }
            return self.end_attempt(now, ending, None, false);
        }
        let level = self.link.level();
        if self.echoes_come_back() && self.rules.may_loop() {
            // The next round begins at the best level again: the remote may have learnt it by then.
            return self.end_attempt(now, Ending::Error(Error::Loop { level }), None, false);
        }
        // 3.1 has no word for it; a session is taken to be there, so that what was sent is sent again under its old
        // identifiers and is recognised if it is.
        let session_present = connack.session_present || level.version() == Version::V31;
        if session_present {
            self.give_up_large(now, connack);
            self.outward.ask_for_strays();
        } else {
            self.remote.forget();
            self.outward.target_forgot();
            self.inward.source_forgot();
        }
        self.link.accepted(now);
        self.offer = Offer::new(connack, self.link.wishes(), &self.settings.remote);
        let mut said = connack.properties.user_properties.iter();
        self.hops.meet(said.find(|(name, _)| *name == NODE_PROPERTY).map(|(_, value)| value));
        self.tell_no_leaf(now);
        self.stats.count_connect("connected");
        (self.stats.up, self.stats.level, self.stats.since) = (true, Some(level), now);
        if let Some(address) = self.link.address().cloned() {
            self.log(Event::Connected { address, level, session_present });
        }
        self.actions.push_back(Action::StateChanged { up: true, error: None });
        self.tell_limits(connack);
        if self.echoes_come_back() {
            self.log(Event::EchoesExpected { level });
        }
        self.subscribe_remote(now, session_present);
        self.tell_remote(now);
        self.tell_local(now, true);
        self.replay_missed(now, session_present);
        self.was_up = true;
        self.pump_outward(now);
        self.pump_inward(now);
    }

    /// What was sent before and is more than the remote takes now is not sent again, and no answer comes for it.
    fn give_up_large(&mut self, now: Time, connack: &Connack<'_>) {
        let Some(max) = connack.properties.maximum_packet_size else { return };
        let max = usize::try_from(max.get()).unwrap_or(usize::MAX);
        let given_up = self.outward.settle_if(|message, sent| {
            let publish = Publish {
                dup: true,
                qos: sent.qos,
                retain: sent.retain,
                packet_id: PacketId::new(1),
                ..message.to_publish(now)
            };
            Packet::Publish(publish).encoded_len(Version::V5).is_ok_and(|size| size > max)
        });
        for topic in given_up {
            self.too_large(now, topic);
        }
    }

    fn too_large(&mut self, now: Time, topic: TopicName) {
        self.stats.count_drop(Drop::TooLarge);
        if let Some(count) = self.losses.too_large_out.count(now) {
            self.log(Event::MessageTooLarge { outgoing: true, topic: topic.as_str().to_owned(), count });
        }
    }

    fn refusal(&self, connack: &Connack<'_>) -> Ending {
        let reason = connack.reason;
        let words = connack.properties.reason_string.map(str::to_owned);
        let code = reason.to_return_code().filter(|_| !self.link.level().version().is_v5());
        let refusal = code.and_then(Refusal::of_return_code).unwrap_or_else(|| reason.into());
        Ending::Error(match reason {
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => return Ending::Level(StepDown::Refused(refusal)),
            ReasonCode::RETAIN_NOT_SUPPORTED | ReasonCode::QOS_NOT_SUPPORTED => return Ending::Wishes(reason),
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => Error::ClientIdRejected(self.settings.client_id.clone()),
            ReasonCode::BAD_USER_NAME_OR_PASSWORD => Error::BadLogin,
            ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => Error::NotAuthorised(refusal),
            ReasonCode::QUOTA_EXCEEDED | ReasonCode::CONNECTION_RATE_EXCEEDED => Error::Quota(reason),
            ReasonCode::PACKET_TOO_LARGE => Error::PacketTooLarge("the remote does not take our CONNECT".into()),
            ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED => {
                Error::Moved(connack.properties.server_reference.map(str::to_owned))
            }
            ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY | ReasonCode::SERVER_SHUTTING_DOWN => {
                Error::ServerGone { reason: refusal.to_string() }
            }
            _ => Error::ConnectRefused { reason, words },
        })
    }

    /// Publishes the state of the link at the remote.
    fn tell_remote(&mut self, now: Time) {
        if self.settings.notify_remote && !self.tells_remote() {
            self.stats.count_lowered(Lowered::Notification, 1);
        }
        let Some(mut notice) = self.notice(now, true) else { return };
        if self.remote.publish(now, notice.clone(), NOTICE, &mut self.remote_output).is_err() {
            notice.qos = QoS::AtMostOnce; // the window is full of resends; the state does not wait for them
            _ = self.remote.publish(now, notice, NOTICE, &mut self.remote_output);
        }
    }

    /// The state of the link for the remote, if that takes it.
    fn notice(&self, now: Time, up: bool) -> Option<Delivery> {
        self.notices.state(now, up, self.offer.wishes).filter(|_| self.tells_remote())
    }

    fn tells_remote(&self) -> bool {
        self.settings.notify_remote && self.notices.topic().is_none_or(|topic| self.settings.remote.take_topic(topic))
    }

    /// One line when the limits of the link are others than those of the last one.
    fn tell_limits(&mut self, connack: &Connack<'_>) {
        let limits = self.offer.describe(connack, &self.settings, &mut self.stats);
        if limits != self.limits_told
            && let Some(limits) = limits.clone()
        {
            self.log(Event::Limited { limits });
        }
        self.limits_told = limits;
    }

    /// What was retained here and did not reach the remote, because it was QoS 0 while the link was down, or because
    /// the remote began anew and may have lost more than our session.
    fn replay_missed(&mut self, now: Time, session_present: bool) {
        let filters: Vec<TopicFilter> = if !session_present && (self.was_up || self.local_resumed) {
            self.local_filters().into_iter().map(|(filter, _)| filter).collect()
        } else {
            self.missed.iter().cloned().collect()
        };
        self.missed.clear();
        if !filters.is_empty() {
            self.replay_local(now, &filters);
        }
    }

    /// A message of the remote, for this broker.
    fn take_remote(&mut self, now: Time, incoming: &Incoming<'_>) {
        let publish = &incoming.publish;
        if let Some(id) = publish.packet_id
            && self.inward.recognise(id, publish.qos, publish.dup)
        {
            return self.pump_inward(now);
        }
        let echo =
            self.echoes_come_back() && self.echoes.is_echo(now, incoming.topic(), publish.payload, publish.retain);
        let message = if echo { Err(Drop::Echo) } else { self.arriving(now, incoming) };
        match (message, publish.packet_id) {
            (Ok(message), Some(id)) => self.inward.take(id, publish.qos, publish.dup, message),
            (Ok(message), None) => {
                match hand_once(now, &mut self.local, &message, message.retain, &mut self.local_output) {
                    Ok(Handed::NotNow) => self.stats.count_drop(Drop::Offline),
                    Ok(_) => self.stats.messages_in += 1,
                    Err(reason) => self.stats.count_drop(reason),
                }
            }
            (Err(reason), id) => {
                self.stats.count_drop(reason);
                if let Some(id) = id {
                    self.inward.refuse(id, publish.qos);
                }
            }
        }
        if publish.packet_id.is_some() {
            self.pump_inward(now);
        }
    }

    /// The message as this broker gets it.
    fn arriving(&mut self, now: Time, incoming: &Incoming<'_>) -> Result<Arc<Message>, Drop> {
        let train = self.names.inward(&self.rules, incoming.topic())?;
        let message = Message::from_publish(&incoming.publish, train.to.clone(), now);
        carried(message, train, |response| self.rules.response_to_local(response), &self.hops, Hop::In)
    }

    /// The remote answered for a message of this broker.
    fn settle_outward(&mut self, now: Time, token: u64, reason: ReasonCode) {
        if let Some(message) = self.outward.settle(token)
            && reason.is_error()
        {
            let topic = message.topic.as_str().to_owned();
            self.stats.count_drop(Drop::Refused);
            if let Some(count) = self.losses.refused_remote.count(now) {
                self.log(Event::MessageRefused { remote: true, topic, reason, count });
            }
        }
        self.pump_outward(now);
    }

    /// Whether the remote sends us what we publish, for want of a way to say that it should not.
    pub(crate) fn echoes_come_back(&self) -> bool {
        let level = self.link.level();
        !level.version().is_v5() && !level.is_bridge() && self.rules.carries_both_ways()
    }

    /// The remote broke a rule: this attempt is over.
    pub(crate) fn accuse(&mut self, now: Time, violation: &Violation) {
        let reason = violation.reason();
        let error = match reason {
            ReasonCode::KEEP_ALIVE_TIMEOUT => Error::KeepAlive { by_remote: false },
            ReasonCode::PACKET_TOO_LARGE => {
                Error::PacketTooLarge(format!("{violation}; raise `limits.max_packet_size` if it may be that large"))
            }
            _ => Error::Violation { reason, what: violation.to_string() },
        };
        self.end_attempt(now, Ending::Error(error), Some(reason), false);
    }
}

/// What CONNECT says about us.
fn introduction(settings: &Settings, is_leaf: bool) -> Vec<u8> {
    let mut said = Vec::new();
    UserProperties::push(&mut said, NODE_PROPERTY, &settings.node);
    UserProperties::push(&mut said, BRIDGE_PROPERTY, &settings.name);
    if is_leaf {
        UserProperties::push(&mut said, LEAF_PROPERTY, "1");
    }
    said
}

/// Hands a message to a client, in this way. An error says why it is given up.
pub(crate) fn hand(
    now: Time,
    client: &mut Client,
    handing: Handing<'_>,
    how: As,
    output: &mut Output,
) -> Result<Handed, Drop> {
    let Handing { message, token, id, dup, .. } = handing;
    if how.qos == QoS::AtMostOnce {
        return hand_once(now, client, message, how.retain, output);
    }
    if message.is_expired(now) && !dup {
        return Err(Drop::Expired);
    }
    match client.publish_as(now, Under { id, dup }, delivery(message, how), token, output) {
        Ok(()) => Ok(Handed::Sent(how)),
        Err(PublishError::WindowFull | PublishError::NotConnected) => Ok(Handed::NotNow),
        Err(PublishError::TooLarge) => Err(Drop::TooLarge),
    }
}

/// The same at QoS 0: now or never.
fn hand_once(
    now: Time,
    client: &mut Client,
    message: &Arc<Message>,
    retain: bool,
    output: &mut Output,
) -> Result<Handed, Drop> {
    if message.is_expired(now) {
        return Err(Drop::Expired);
    }
    match client.publish(now, delivery(message, As { qos: QoS::AtMostOnce, retain }), NOTICE, output) {
        Ok(()) => Ok(Handed::Done),
        Err(PublishError::WindowFull | PublishError::NotConnected) => Ok(Handed::NotNow),
        Err(PublishError::TooLarge) => Err(Drop::TooLarge),
    }
}

fn delivery(message: &Arc<Message>, As { qos, retain }: As) -> Delivery {
    let (message, ids) = (Arc::clone(message), SubscriptionIds::default());
    Delivery { message, qos, retain, ids, group: None, kept: None }
}

/// Why a 5.0 remote says goodbye.
fn farewell(disconnect: &Disconnect<'_>) -> Ending {
    let reason = disconnect.reason;
    let words = disconnect.reason_string.map(str::to_owned);
    Ending::Error(match reason {
        // It takes less than its CONNACK said: MQTT-3.2.2-11 and MQTT-3.2.2-14.
        ReasonCode::RETAIN_NOT_SUPPORTED | ReasonCode::QOS_NOT_SUPPORTED => return Ending::Wishes(reason),
        ReasonCode::SESSION_TAKEN_OVER => Error::TakenOver { client_id: String::new(), times: 1 }, // the bridge knows them
        ReasonCode::KEEP_ALIVE_TIMEOUT => Error::KeepAlive { by_remote: true },
        ReasonCode::NOT_AUTHORIZED => Error::NotAuthorised(reason.into()),
        ReasonCode::QUOTA_EXCEEDED | ReasonCode::MESSAGE_RATE_TOO_HIGH | ReasonCode::CONNECTION_RATE_EXCEEDED => {
            Error::Quota(reason)
        }
        ReasonCode::PACKET_TOO_LARGE => Error::PacketTooLarge("the remote says that one of ours is".into()),
        ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED => {
            Error::Moved(disconnect.server_reference.map(str::to_owned))
        }
        ReasonCode::NORMAL_DISCONNECTION
        | ReasonCode::SERVER_SHUTTING_DOWN
        | ReasonCode::SERVER_BUSY
        | ReasonCode::ADMINISTRATIVE_ACTION => {
            Error::ServerGone { reason: words.unwrap_or_else(|| reason.to_string()) }
        }
        _ => Error::Disconnected { reason, words },
    })
}

/// What is wrong with the first bytes that a peer answers to CONNECT at `level`, as far as they are no CONNACK of
/// that level: a 5.0 listener that refuses a 3.x level may answer in its own form, and the reverse.
fn first_fault(bytes: &[u8], level: Level) -> Option<Ending> {
    const UNACCEPTABLE: u8 = 0x01;
    const UNSUPPORTED: u8 = 0x84;
    let first = *bytes.first()?;
    let refused = |refusal| Some(Ending::Level(StepDown::Refused(refusal)));
    match (bytes, level.version().is_v5()) {
        ([0x20, 0x02, _, UNACCEPTABLE, ..], true) => return refused(Refusal::of_return_code(UNACCEPTABLE)?),
        ([0x20, 0x03, _, UNSUPPORTED, ..], false) => return refused(ReasonCode(UNSUPPORTED).into()),
        ([0x20, 0x02, _, _, ..], true) | ([0x20, 0x03, _, _, ..], false) => {
            return Some(Ending::Level(StepDown::OtherVersion));
        }
        _ => {}
    }
    if first == 0x20 || (first == 0xf0 && level.version().is_v5()) {
        return None;
    }
    Some(match Looks::like(bytes) {
        Looks::OtherPacket(kind) => {
            let what = format!("{kind} came before CONNACK");
            Ending::Error(Error::Violation { reason: ReasonCode::PROTOCOL_ERROR, what })
        }
        looks @ (Looks::Noise | Looks::OtherProtocolName) => Ending::Level(StepDown::Unreadable(looks)),
        looks => Ending::Error(Error::NotMqtt(looks)),
    })
}
