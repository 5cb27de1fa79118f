//! The remote half: a client of another broker, whatever that broker does.
//!
//! In: bytes from the remote. Out: bytes for the remote, and messages for the inward flow. Never panics and never ends
//! more than the present attempt.

use std::borrow::Cow;

use viaduct_codec::{
    Connack, Disconnect, FilterRef, Frame, Level, Looks, Message, Packet, PacketId, Publish, QoS, ReasonCode,
    RetainHandling, Suback, Time, TopicFilter, TopicName, Version,
};
use viaduct_session::client::{Client, Event as Heard, Hello, PublishError};
use viaduct_session::{Delivery, Incoming, Output, Violation};

use crate::bridge::{Bridge, Offer};
use crate::flow::{As, Handed};
use crate::link::Ending;
use crate::local::{NOTICE, carried};
use crate::loop_guard::Hop;
use crate::negotiate::Wishes;
use crate::{Action, Drop, Error, Event, Stats, StepDown, limits, subscribe};

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
            maximum_packet_size: self.settings.max_packet_size,
            topic_alias_maximum: self.settings.topic_alias_maximum,
            username: self.settings.username.clone(),
            password: self.settings.password.clone(),
            will: self.notices.will(now, wishes),
        };
        if level.version() == Version::V31 && self.settings.clean_session {
            self.remote.forget(); // no CONNACK of 3.1 will say so
            self.outward.target_forgot();
            self.inward.source_forgot();
        }
        self.remote_output = Output::default();
        self.remote.connect(now, &hello, &mut self.remote_output);
    }

    pub(crate) fn read_remote(&mut self, now: Time, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.link.is_connected() {
            if self.local_output.pending() >= limits::OUTPUT_HIGH_WATER || self.inward.is_waiting() {
                return used;
            }
            let rest = bytes.get(used..).unwrap_or_default();
            if !self.link.is_up()
                && let Some(fault) = first_fault(rest, self.link.level())
            {
                self.end_attempt(now, fault, None, false);
                break;
            }
            if let Some(length) = self.express_in(now, rest).or_else(|| self.acks_of_remote(now, rest)) {
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
                Err(_) if !self.link.is_up() => {
                    self.end_attempt(now, Ending::Level(StepDown::Malformed), None, false);
                }
                Err(error) => self.accuse(now, &Violation::from(error)),
            }
        }
        bytes.len()
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
            if let Some(mut notice) = self.notices.state(now, false, self.offer.wishes) {
                notice.qos = QoS::AtMostOnce; // nobody waits for the answer
                _ = self.remote.publish(now, &notice, NOTICE, &mut self.remote_output);
            }
            if end_session {
                let filters = subscribe::filters(self.rules.inward().map(|rule| (&rule.remote.subscription, rule.qos)));
                for chunk in subscribe::chunks(&filters) {
                    let filters: Vec<FilterRef<'_>> = chunk.iter().map(|(filter, _)| filter.by_ref()).collect();
                    _ = self.remote.unsubscribe(now, &filters, &mut self.remote_output);
                }
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
        self.remote.detach();
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
            let Self { outward, remote, remote_output, stats, offer, echoes, settings, .. } = self;
            let mut large = Vec::new();
            let max_age = settings.max_age;
            outward.pump(|delivery, token, again| {
                let is_old = max_age.is_some_and(|max| now.since(delivery.message.received) >= max);
                if is_old && !again {
                    stats.count_drop(Drop::Expired);
                    return Handed::Done;
                }
                let lowered = lowered(delivery, offer.wishes);
                match hand(now, remote, &lowered, token, remote_output) {
                    Ok(Handed::NotNow) => return Handed::NotNow,
                    Ok(handed) => {
                        if !again {
                            count_sent(stats, delivery, &lowered);
                        }
                        if guard {
                            echoes.sent(now, lowered.message.topic.by_ref(), &lowered.message.payload);
                        }
                        return handed;
                    }
                    Err(Drop::TooLarge) => large.push(delivery.message.topic.clone()),
                    Err(reason) => stats.count_drop(reason),
                }
                Handed::Done
            });
            for topic in large {
                self.too_large(now, topic);
            }
        }
        self.answer_local();
    }

    /// QoS 0 on a link that is up.
    pub(crate) fn publish_once(&mut self, now: Time, delivery: &Delivery) {
        let lowered = lowered(delivery, self.offer.wishes);
        match hand(now, &mut self.remote, &lowered, NOTICE, &mut self.remote_output) {
            Ok(_) => {
                count_sent(&mut self.stats, delivery, &lowered);
                if self.echoes_come_back() {
                    self.echoes.sent(now, lowered.message.topic.by_ref(), &lowered.message.payload);
                }
            }
            Err(Drop::TooLarge) => self.too_large(now, lowered.message.topic.clone()),
            Err(reason) => self.stats.count_drop(reason),
        }
    }

    // --- packets

    fn hear_remote(&mut self, now: Time, packet: Packet<'_>) {
        let heard = match self.remote.handle(now, packet, &mut self.remote_output) {
            Ok(heard) => heard,
            Err(violation) => return self.accuse(now, &violation),
        };
        match heard {
            Heard::Connack(connack) => self.greeted(now, &connack),
            Heard::Publish(incoming) => self.take_remote(now, &incoming),
            Heard::Suback(suback) => self.subscribed(&suback),
            Heard::Settled { token, reason } => self.settle_outward(now, token, reason),
            // The remote has it, but mosquitto hands a QoS 2 message on only at PUBREL: it is safe at PUBCOMP.
            Heard::Received { token, .. } => self.outward.received(token),
            Heard::None | Heard::Unsuback(_) => {}
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

    fn greeted(&mut self, now: Time, connack: &Connack<'_>) {
        if connack.reason != ReasonCode::SUCCESS {
            let ending = self.refusal(connack);
            if !matches!(ending, Ending::Level(_)) {
                self.link.understood();
            }
            return self.end_attempt(now, ending, None, false);
        }
        let level = self.link.level();
        // 3.1 has no word for it; a session is taken to be there, so that what was sent is sent again under its old
        // identifiers and is recognised if it is.
        let session_present = connack.session_present || level.version() == Version::V31;
        if session_present {
            self.give_up_large(now, connack);
        } else {
            self.remote.forget();
            self.outward.target_forgot();
            self.inward.source_forgot();
        }
        self.link.accepted(now);
        self.offer = offer(connack, self.link.wishes());
        self.stats.count_connect("connected");
        (self.stats.up, self.stats.level, self.stats.since) = (true, Some(level), now);
        if let Some(address) = self.link.address().cloned() {
            self.log(Event::Connected { address, level, session_present });
        }
        self.actions.push_back(Action::StateChanged { up: true, error: None });
        if let Some(limits) = self.offer.in_words() {
            self.log(Event::Limited { limits });
        }
        if self.echoes_come_back() {
            self.log(Event::EchoesExpected { level });
        }
        self.subscribe_remote(now);
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
        let given_up = self.outward.settle_if(|delivery, sent| {
            let publish = Publish {
                dup: true,
                qos: sent.qos,
                retain: sent.retain,
                packet_id: PacketId::new(1),
                ..delivery.message.to_publish(now)
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
        Ending::Error(match reason {
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => return Ending::Level(StepDown::Refused(reason)),
            ReasonCode::RETAIN_NOT_SUPPORTED | ReasonCode::QOS_NOT_SUPPORTED => return Ending::Wishes(reason),
            ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => Error::ClientIdRejected(self.settings.client_id.clone()),
            ReasonCode::BAD_USER_NAME_OR_PASSWORD => Error::BadLogin,
            ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => Error::NotAuthorised(reason),
            ReasonCode::QUOTA_EXCEEDED | ReasonCode::CONNECTION_RATE_EXCEEDED => Error::Quota(reason),
            ReasonCode::PACKET_TOO_LARGE => Error::PacketTooLarge("the remote does not take our CONNECT".into()),
            ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED => {
                Error::Moved(connack.properties.server_reference.map(str::to_owned))
            }
            ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY | ReasonCode::SERVER_SHUTTING_DOWN => {
                Error::ServerGone { reason: reason.to_string() }
            }
            _ => Error::ConnectRefused { reason, words },
        })
    }

    fn subscribe_remote(&mut self, now: Time) {
        // Retained messages are asked for on each connection: what changed with QoS 0 while the link was down was
        // queued for nobody, and in 3.x there is no other way to ask.
        let wanted = subscribe::filters(self.rules.inward().map(|rule| (&rule.remote.subscription, rule.qos)));
        if !self.was_up {
            let old = subscribe::previous(
                &self.settings.previous,
                |topic| topic.direction.is_in(),
                |topic| &topic.remote_prefix,
            );
            let gone: Vec<_> = old.into_iter().filter(|old| !wanted.iter().any(|(filter, _)| filter == old)).collect();
            let refs: Vec<FilterRef<'_>> = gone.iter().map(TopicFilter::by_ref).collect();
            if !refs.is_empty() {
                self.remote.unsubscribe(now, &refs, &mut self.remote_output);
            }
        }
        let offer = self.offer;
        let (taken, refused): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|(filter, _)| offer.refuses(filter.by_ref()).is_none());
        for (filter, _) in refused {
            if let Some(reason) = offer.refuses(filter.by_ref()) {
                self.stats.subscriptions_refused += 1;
                self.log(Event::SubscriptionRefused { remote: true, filter, reason });
            }
        }
        for chunk in subscribe::chunks(&taken) {
            let entries = subscribe::entries(chunk, RetainHandling::Send);
            if let Some(id) = self.remote.subscribe(now, &entries, None, &mut self.remote_output) {
                self.asked_remote.insert(id, chunk.iter().map(|(filter, _)| filter.clone()).collect());
            }
        }
    }

    fn subscribed(&mut self, suback: &Suback<'_>) {
        let asked = self.asked_remote.remove(&suback.packet_id).unwrap_or_default();
        for (filter, reason) in asked.into_iter().zip(suback.reasons.iter().copied()) {
            if reason.is_error() {
                self.stats.subscriptions_refused += 1;
                self.log(Event::SubscriptionRefused { remote: true, filter, reason });
            }
        }
    }

    /// Publishes the state of the link at the remote.
    fn tell_remote(&mut self, now: Time) {
        let Some(mut notice) = self.notices.state(now, true, self.offer.wishes) else { return };
        if self.remote.publish(now, &notice, NOTICE, &mut self.remote_output).is_err() {
            notice.qos = QoS::AtMostOnce; // the window is full of resends; the state does not wait for them
            _ = self.remote.publish(now, &notice, NOTICE, &mut self.remote_output);
        }
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
            && self.inward.is_known(id, publish.qos, publish.dup)
        {
            return self.pump_inward(now);
        }
        let echo = self.echoes_come_back() && self.echoes.is_echo(now, incoming.topic(), publish.payload);
        let delivery = if echo { Err(Drop::Echo) } else { self.arriving(now, incoming) };
        match (delivery, publish.packet_id) {
            (Ok(delivery), Some(id)) => self.inward.take(id, publish.qos, delivery),
            (Ok(delivery), None) => {
                let handed = hand(now, &mut self.local, &delivery, NOTICE, &mut self.local_output);
                match handed {
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
    fn arriving(&mut self, now: Time, incoming: &Incoming<'_>) -> Result<Delivery, Drop> {
        let train = self.names.inward(&self.rules, incoming.topic())?;
        let message = Message::from_publish(&incoming.publish, train.to.clone(), now);
        carried(message, train, |response| self.rules.response_to_local(response), &self.hops, Hop::In)
    }

    /// The remote answered for a message of this broker.
    fn settle_outward(&mut self, now: Time, token: u64, reason: ReasonCode) {
        if let Some(delivery) = self.outward.settle(token)
            && reason.is_error()
        {
            let topic = delivery.message.topic.as_str().to_owned();
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

impl Offer {
    /// Why the remote does not take a subscription to `filter`, as far as CONNACK said.
    fn refuses(self, filter: FilterRef<'_>) -> Option<ReasonCode> {
        let inner = filter.share().map_or(filter, |share| share.filter);
        if !self.shared && filter.share().is_some() {
            Some(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED)
        } else if !self.wildcards && inner.has_wildcard() {
            Some(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED)
        } else {
            None
        }
    }

    fn in_words(self) -> Option<String> {
        let mut limits = Vec::new();
        if self.wishes.qos < QoS::ExactlyOnce {
            limits.push(format!("QoS {} at most", self.wishes.qos.bits()));
        }
        if !self.wishes.retain {
            limits.push("nothing retained".into());
        }
        if !self.wildcards {
            limits.push("no wildcards".into());
        }
        if !self.shared {
            limits.push("no shared subscriptions".into());
        }
        (!limits.is_empty()).then(|| limits.join(", "))
    }
}

/// Hands a message to a client. An error says why it is given up.
pub(crate) fn hand(
    now: Time,
    client: &mut Client,
    delivery: &Delivery,
    token: u64,
    output: &mut Output,
) -> Result<Handed, Drop> {
    if delivery.message.is_expired(now) {
        return Err(Drop::Expired);
    }
    match client.publish(now, delivery, token, output) {
        Ok(()) if delivery.qos == QoS::AtMostOnce => Ok(Handed::Done),
        Ok(()) => Ok(Handed::Sent(As { qos: delivery.qos, retain: delivery.retain })),
        Err(PublishError::WindowFull | PublishError::NotConnected) => Ok(Handed::NotNow),
        Err(PublishError::TooLarge) => Err(Drop::TooLarge),
    }
}

fn count_sent(stats: &mut Stats, wanted: &Delivery, sent: &Delivery) {
    stats.messages_out += 1;
    stats.qos_lowered += u64::from(sent.qos < wanted.qos);
    stats.retain_stripped += u64::from(wanted.retain && !sent.retain);
}

/// A message with what its receiver takes.
fn lowered(delivery: &Delivery, wishes: Wishes) -> Cow<'_, Delivery> {
    let mut lowered = Cow::Borrowed(delivery);
    if delivery.qos > wishes.qos {
        lowered.to_mut().qos = wishes.qos;
    }
    if delivery.retain && !wishes.retain {
        lowered.to_mut().retain = false;
    }
    lowered
}

fn offer(connack: &Connack<'_>, wishes: Wishes) -> Offer {
    let properties = &connack.properties;
    Offer {
        wishes: Wishes {
            retain: wishes.retain && properties.retain_available.unwrap_or(true),
            qos: wishes.qos.min(properties.maximum_qos.unwrap_or(QoS::ExactlyOnce)),
        },
        wildcards: properties.wildcard_subscription_available.unwrap_or(true),
        shared: properties.shared_subscription_available.unwrap_or(true),
    }
}

/// Why a 5.0 remote says goodbye.
fn farewell(disconnect: &Disconnect<'_>) -> Ending {
    let reason = disconnect.reason;
    let words = disconnect.reason_string.map(str::to_owned);
    Ending::Error(match reason {
        // It takes less than its CONNACK said: MQTT-3.2.2-11 and MQTT-3.2.2-14.
        ReasonCode::RETAIN_NOT_SUPPORTED | ReasonCode::QOS_NOT_SUPPORTED => return Ending::Wishes(reason),
        ReasonCode::SESSION_TAKEN_OVER => Error::TakenOver,
        ReasonCode::KEEP_ALIVE_TIMEOUT => Error::KeepAlive { by_remote: true },
        ReasonCode::NOT_AUTHORIZED => Error::NotAuthorised(reason),
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
    let refused = Ending::Level(StepDown::Refused(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION));
    match (bytes, level.version().is_v5()) {
        ([0x20, 0x02, _, UNACCEPTABLE, ..], true) | ([0x20, 0x03, _, UNSUPPORTED, ..], false) => return Some(refused),
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
