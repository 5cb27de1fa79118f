//! A bridge, the broker that it belongs to and the one that it dials, without sockets and clocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_bridge::{
    Action, Address, Bridge, DialError, Direction, Duty, Event, Protocol, RemoteLimits, Settings, Topic,
};
use viaduct_codec::{
    ClientId, Frame, Level, Message, Packet, PacketId, PacketType, QoS, ReasonCode, Slice, Subscribe, SubscribeOptions,
    Time, TopicFilter, TopicName, Version,
};
use viaduct_session::server::{self, Session, Terms};
use viaduct_session::{Delivery, LEAF_PROPERTY, Output};

/// Bytes for a CONNECT of this level, or the truth.
pub type Answer = fn(u8) -> Option<&'static [u8]>;

/// A broker with one client.
pub struct Broker {
    pub session: Session,
    pub terms: Terms,
    pub output: Output,
    input: Vec<u8>,
    pub level: Option<Level>,
    pub has_session: bool,
    pub filters: BTreeMap<String, SubscribeOptions>,
    /// What the bridge published here, in order.
    pub received: Vec<Message>,
    /// The levels of all CONNECTs.
    pub offered: Vec<u8>,
    pub will: Option<Message>,
    /// Who CONNECT said is there.
    pub node: Option<server::Neighbour>,
    /// How often it was said since that it is no leaf.
    pub no_leaf: usize,
    /// SUBSCRIBE packets seen.
    pub subscribes: usize,
    pub refuse_filter: Option<String>,
    /// Answered to every QoS 1 and 2 message.
    pub refuse: Option<ReasonCode>,
    /// What is answered to a CONNECT of this level instead of the truth, before the connection is closed.
    pub answer: Option<Answer>,
    /// It has ended the connection.
    pub closing: bool,
    /// It hands a message of QoS 2 on at PUBREL, as mosquitto does, and until then has it in its session.
    pub waits_for_pubrel: bool,
    received_2: BTreeMap<PacketId, Message>,
}

impl Broker {
    pub fn new() -> Self {
        Self {
            session: Session::new(Arc::default()),
            terms: Terms::default(),
            output: Output::default(),
            input: Vec::new(),
            level: None,
            has_session: false,
            filters: BTreeMap::new(),
            received: Vec::new(),
            offered: Vec::new(),
            will: None,
            node: None,
            no_leaf: 0,
            subscribes: 0,
            refuse_filter: None,
            refuse: None,
            answer: None,
            closing: false,
            waits_for_pubrel: false,
            received_2: BTreeMap::new(),
        }
    }

    /// The connection is gone.
    pub fn cut(&mut self, keep_session: bool) {
        self.session.detach();
        self.output = Output::default();
        self.input.clear();
        self.level = None;
        self.closing = false;
        if !keep_session {
            self.lose_session();
        }
    }

    fn lose_session(&mut self) {
        self.session.clear();
        self.filters.clear();
        self.received_2.clear();
        self.has_session = false;
    }

    /// Somebody else publishes here.
    pub fn publish(&mut self, now: Time, message: &Message) {
        let grant = self.granted(message, false);
        self.deliver(now, message, grant);
    }

    pub fn feed(&mut self, now: Time, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while !self.closing {
            let Some(frame) = Frame::split(rest, u32::MAX).unwrap() else { break };
            rest = &rest[frame.bytes.len()..];
            let version = self.level.map_or(Version::V5, Level::version);
            self.packet(now, Packet::decode(frame, version).unwrap());
        }
        self.input = rest.to_vec();
    }

    /// Payloads that the bridge published here.
    pub fn payloads(&self) -> Vec<String> {
        self.received.iter().map(|message| String::from_utf8(message.payload.to_vec()).unwrap()).collect()
    }

    fn packet(&mut self, now: Time, packet: Packet<'_>) {
        let Some(level) = self.level else {
            let Packet::Connect(connect) = packet else { panic!("not CONNECT: {packet:?}") };
            self.offered.push(connect.level.byte());
            if let Some(answer) = self.answer.and_then(|answer| answer(connect.level.byte())) {
                self.output.buffer().extend_from_slice(answer);
                self.closing = true;
                return;
            }
            match server::admit(&connect, &self.terms, now, || ClientId::from("assigned")) {
                Ok(admission) => {
                    if admission.clean_start {
                        self.lose_session();
                    }
                    self.level = Some(admission.level);
                    self.node.clone_from(&admission.node);
                    self.will = admission.will.as_ref().map(|will| will.message.clone());
                    self.session.attach(now, &admission, &self.terms, self.has_session, &mut self.output);
                    self.has_session = true;
                }
                Err(refusal) => {
                    self.output.buffer().extend_from_slice(&refusal.answer);
                    self.closing = true;
                }
            }
            return;
        };
        if let Packet::Pubrel(ack) = &packet
            && let Some(message) = self.received_2.remove(&ack.packet_id)
        {
            self.hand_on(now, message, level);
        }
        match self.session.handle(now, packet, &mut self.output).unwrap() {
            server::Event::Publish(incoming) => {
                let publish = &incoming.publish;
                let topic = TopicName::new(incoming.topic().as_str()).unwrap();
                let message = Message::from_publish(publish, topic, now);
                let refusal = self.refuse;
                if let Some(id) = publish.packet_id {
                    let reason = refusal.unwrap_or(ReasonCode::SUCCESS);
                    self.session.acknowledge(id, publish.qos, reason, None, &mut self.output);
                }
                if refusal.is_none() {
                    match publish.packet_id.filter(|_| self.waits_for_pubrel && publish.qos == QoS::ExactlyOnce) {
                        Some(id) => _ = self.received_2.insert(id, message),
                        None => self.hand_on(now, message, level),
                    }
                }
            }
            server::Event::Subscribe(subscribe) => self.subscribe(&subscribe),
            server::Event::Unsubscribe(unsubscribe) => {
                self.no_leaf += usize::from(unsubscribe.user_properties.iter().any(|it| it == (LEAF_PROPERTY, "0")));
                for filter in &unsubscribe.filters {
                    self.filters.remove(filter.as_str());
                }
                let reasons = vec![ReasonCode::SUCCESS; unsubscribe.filters.len()];
                self.session.unsuback(unsubscribe.packet_id, reasons, &mut self.output);
            }
            server::Event::Disconnect { .. } => {
                self.will = None;
                self.closing = true;
            }
            server::Event::None | server::Event::Auth(_) | server::Event::Settled { .. } => {}
        }
        self.session.pump(now, &mut self.output);
    }

    fn hand_on(&mut self, now: Time, message: Message, level: Level) {
        let grant = self.granted(&message, level.is_bridge() || level.version().is_v5());
        self.received.push(message.clone());
        self.deliver(now, &message, grant);
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) {
        self.subscribes += 1;
        let mut reasons = Vec::new();
        for entry in &subscribe.entries {
            if self.refuse_filter.as_deref() == Some(entry.filter.as_str()) {
                reasons.push(ReasonCode::NOT_AUTHORIZED);
                continue;
            }
            self.filters.insert(entry.filter.as_str().to_owned(), entry.options);
            reasons.push(ReasonCode(entry.options.qos.bits()));
        }
        self.session.suback(subscribe.packet_id, reasons, &mut self.output);
    }

    fn granted(&self, message: &Message, own: bool) -> Option<QoS> {
        let matching = self.filters.iter().filter(|(filter, options)| {
            let filter = TopicFilter::new(filter).unwrap();
            let inner = filter.by_ref().share().map_or(filter.by_ref(), |share| share.filter);
            inner.matches(message.topic.by_ref()) && !(own && (options.no_local || self.level.unwrap().is_bridge()))
        });
        matching.map(|(_, options)| options.qos).max()
    }

    fn deliver(&mut self, now: Time, message: &Message, grant: Option<QoS>) {
        let Some(qos) = grant.map(|grant| grant.min(message.qos)) else { return };
        let delivery = Delivery {
            message: Arc::new(message.clone()),
            qos,
            retain: message.retain,
            ids: Default::default(),
            group: None,
            kept: None,
        };
        self.session.deliver(now, delivery, &mut self.output);
    }
}

/// What the bridge says for itself goes under identifiers that no message has.
const SEED: u64 = 0x7000_7000;

/// Everything together.
pub struct Rig {
    pub now: Time,
    pub bridge: Bridge,
    settings: Settings,
    restarts: u64,
    pub local: Broker,
    pub remote: Broker,
    from_local: Vec<u8>,
    from_remote: Vec<u8>,
    pub attempt: u64,
    pub connected: bool,
    pub reachable: bool,
    /// Bytes of the remote are the test's own: only the local half moves by itself.
    pub by_hand: bool,
    /// Dials are not answered.
    pub silent: bool,
    /// Bytes that the link to the remote carries before it is cut.
    pub budget: Option<usize>,
    pub keeps_session: bool,
    pub events: Vec<Event>,
    pub states: Vec<bool>,
    pub dials: Vec<(String, u8)>,
    /// Probes that were asked for: number, host, levels.
    pub probes: Vec<(u64, String, Vec<u8>)>,
}

impl Rig {
    /// A bridge that was started and has settled.
    pub fn new(settings: Settings) -> Self {
        let mut rig = Self::unstarted(settings);
        rig.bridge.start(rig.now);
        rig.settle();
        rig
    }

    pub fn unstarted(settings: Settings) -> Self {
        Self {
            now: Time::from_millis(1_000_000),
            bridge: Bridge::new(settings.clone(), SEED).unwrap(),
            settings,
            restarts: 0,
            local: Broker {
                terms: Terms { client_asks_again: true, receive_maximum: u16::MAX, ..Terms::default() },
                ..Broker::new()
            },
            remote: Broker::new(),
            from_local: Vec::new(),
            from_remote: Vec::new(),
            attempt: 0,
            connected: false,
            reachable: true,
            by_hand: false,
            silent: false,
            budget: None,
            keeps_session: true,
            events: Vec::new(),
            states: Vec::new(),
            dials: Vec::new(),
            probes: Vec::new(),
        }
    }

    /// Runs until nothing moves; time stands still.
    pub fn settle(&mut self) {
        while self.act() | self.move_local() | self.move_remote() {}
    }

    /// Lets `duration` pass, timers firing on the way.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        self.settle();
        while let Some(next) = self.bridge.next_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.bridge.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// Cuts the link to the remote from outside.
    pub fn cut(&mut self) {
        if !self.connected {
            return;
        }
        self.connected = false;
        self.remote.cut(self.keeps_session);
        self.from_remote.clear();
        self.bridge.handle_remote_closed(self.now, "connection reset by peer");
    }

    /// The engine ends the local connection.
    pub fn kick(&mut self) {
        self.local.cut(true);
        self.from_local.clear();
        self.bridge.handle_local_closed(self.now, "kicked");
        // What was on its way has nobody to go to.
        take(self.bridge.local_output(), usize::MAX);
    }

    /// The bridge's own broker ends, without a word to anybody, and comes back with the sessions that it keeps.
    pub fn restart(&mut self) {
        self.local.cut(true);
        self.from_local.clear();
        self.connected = false;
        self.remote.cut(self.keeps_session);
        self.from_remote.clear();
        self.restarts += 1;
        self.bridge = Bridge::new(self.settings.clone(), SEED + (self.restarts << 20)).unwrap();
        self.bridge.start(self.now);
    }

    /// By hand: bytes from the remote.
    pub fn say(&mut self, bytes: &[u8]) -> usize {
        let used = self.bridge.handle_remote(self.now, bytes);
        self.settle();
        used
    }

    /// By hand: what the bridge sent to the remote, packet by packet: type, flags, body.
    pub fn heard(&mut self) -> Vec<(PacketType, u8, Vec<u8>)> {
        let bytes = take(self.bridge.remote_output(), usize::MAX);
        let mut rest = &bytes[..];
        let mut packets = Vec::new();
        while let Some(frame) = Frame::split(rest, u32::MAX).unwrap() {
            packets.push((frame.kind, frame.flags, frame.body.to_vec()));
            rest = &rest[frame.bytes.len()..];
        }
        packets
    }

    /// The label of the last error.
    pub fn last_error(&self) -> &'static str {
        self.bridge.stats().last_error.map_or("none", |(_, error)| error.label())
    }

    pub fn lines(&self) -> Vec<String> {
        self.events.iter().map(ToString::to_string).collect()
    }

    fn act(&mut self) -> bool {
        let mut acted = false;
        while let Some(action) = self.bridge.poll() {
            acted = true;
            match action {
                Action::OpenLocal | Action::CloseLocal => {
                    if action == Action::CloseLocal {
                        let bytes = take(self.bridge.local_output(), usize::MAX);
                        if self.local.level.is_some() {
                            self.local.feed(self.now, &bytes);
                        }
                    }
                    self.local.cut(true);
                    self.from_local.clear();
                }
                Action::Dial { attempt, address, level } => {
                    self.attempt = attempt;
                    self.dials.push((address.host, level.byte()));
                    if self.silent {
                        continue;
                    }
                    if self.reachable {
                        self.connected = true;
                        self.remote.cut(true);
                        self.from_remote.clear();
                        self.bridge.handle_dialled(self.now, attempt);
                    } else {
                        let error = DialError::Refused("connection refused".into());
                        self.bridge.handle_dial_failed(self.now, attempt, error);
                    }
                }
                Action::Probe { probe, address, levels } => {
                    self.probes.push((probe, address.host, levels.into_iter().map(Level::byte).collect()));
                }
                Action::HangUp { attempt, .. } => {
                    if self.by_hand {
                        self.connected = false;
                    } else if self.connected && attempt == self.attempt {
                        let bytes = take(self.bridge.remote_output(), usize::MAX);
                        self.remote.feed(self.now, &bytes);
                        self.remote.cut(self.keeps_session);
                        self.from_remote.clear();
                        self.connected = false;
                    }
                }
                Action::Log(event) => self.events.push(event),
                Action::StateChanged { up, .. } => self.states.push(up),
                _ => panic!("unknown action"),
            }
        }
        acted
    }

    fn move_local(&mut self) -> bool {
        let bytes = take(self.bridge.local_output(), usize::MAX);
        self.local.feed(self.now, &bytes);
        let back = take(&mut self.local.output, usize::MAX);
        self.local.session.pump(self.now, &mut self.local.output);
        self.from_local.extend_from_slice(&back);
        let used = self.bridge.handle_local(self.now, &self.from_local);
        self.from_local.drain(..used);
        bytes.len() + back.len() + used > 0
    }

    fn move_remote(&mut self) -> bool {
        if !self.connected || self.by_hand {
            return false;
        }
        let bytes = take(self.bridge.remote_output(), self.budget.unwrap_or(usize::MAX));
        self.spend(bytes.len());
        self.remote.feed(self.now, &bytes);
        let back = take(&mut self.remote.output, self.budget.unwrap_or(usize::MAX));
        self.spend(back.len());
        self.remote.session.pump(self.now, &mut self.remote.output);
        self.from_remote.extend_from_slice(&back);
        let used = self.bridge.handle_remote(self.now, &self.from_remote);
        self.from_remote.drain(..used);
        if self.budget == Some(0) || (self.remote.closing && self.remote.output.is_empty()) {
            self.budget = None;
            self.cut();
            return true;
        }
        bytes.len() + back.len() + used > 0
    }

    fn spend(&mut self, bytes: usize) {
        if let Some(left) = &mut self.budget {
            *left -= bytes;
        }
    }
}

fn take(output: &mut Output, most: usize) -> Vec<u8> {
    let bytes = output.unsent().iter().copied().take(most).collect::<Vec<_>>();
    output.advance(bytes.len());
    bytes
}

pub fn topic(direction: Direction, filter: &str, local_prefix: &str, remote_prefix: &str) -> Topic {
    Topic {
        filter: filter.into(),
        direction,
        qos: QoS::ExactlyOnce,
        retain: true,
        local_prefix: local_prefix.into(),
        remote_prefix: remote_prefix.into(),
        allow_loop: true,
    }
}

pub fn settings(topics: Vec<Topic>) -> Settings {
    Settings {
        name: "b".into(),
        node: "edge".into(),
        addresses: vec![address("hub")],
        protocol: Protocol::Auto,
        try_private: true,
        client_id: "edge.b".into(),
        username: None,
        password: None,
        keep_alive: 60,
        clean_session: false,
        session_expiry: u32::MAX,
        connect_timeout: Duration::from_secs(10),
        reconnect_min: Duration::from_secs(1),
        reconnect_max: Duration::from_secs(60),
        failback: None,
        max_age: None,
        drain_rate: None,
        max_inflight: 20,
        max_packet_size: 1 << 20,
        topic_alias_maximum: 10,
        remote: RemoteLimits::default(),
        slice: Slice::ALL,
        duty: Duty::Serve,
        topics,
        previous: Vec::new(),
        notifications: None,
        notify_remote: true,
    }
}

/// Everything under `up/` goes out, everything under `down/` comes in.
pub fn two_way() -> Settings {
    settings(vec![topic(Direction::Out, "up/#", "", ""), topic(Direction::In, "down/#", "", "")])
}

pub fn address(host: &str) -> Address {
    Address { host: host.into(), port: 1883, tls: false, websocket: None }
}

pub fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    Message {
        topic: TopicName::new(topic).unwrap(),
        payload: Bytes::from(payload.to_owned()),
        qos,
        retain: false,
        received: Time::from_millis(1_000_000),
        expires: None,
        properties: None,
    }
}

pub const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
