//! Bridges between the two brokers: the real machine, with its local half at the engine of one broker and its remote half
//! on a connection to the other.
//!
//! In: what the machine asks for, bytes of both brokers. Out: bytes for both. Does what the broker's bridge task does with
//! its sockets, and nothing more.

use std::time::Duration;

use viaduct_bridge::{Action, Address, Bridge, DialError, Direction, Duty, Protocol, RemoteLimits, Settings, Topic};
use viaduct_codec::{Frame, Level, Packet, QoS, Slice, Time, Version};

use crate::link::{Owner, Server};
use crate::oracle::Carrier;
use crate::plan::Plan;
use crate::topics::{COMMON, INWARD, OUTWARD};
use crate::words::words;
use crate::world::{Event, World};

pub(crate) struct BridgeEnd {
    settings: Settings,
    pub(crate) level: Level,
    /// `None` while its broker is down.
    pub(crate) machine: Option<Bridge>,
    home: usize,
    away: usize,
    local: Option<u64>,
    remote: Option<u64>,
    /// For when its next deadline is in the list of events.
    armed: Option<Time>,
    /// The dial that is under way.
    dial: Option<u64>,
}

impl BridgeEnd {
    /// The bridge at place `number`, from `home` to the other of two brokers.
    fn new(number: usize, level: Level, home: usize, plan: &Plan) -> Self {
        let away = 1 - home;
        let (out, back) = if home == 0 { (OUTWARD, INWARD) } else { (INWARD, OUTWARD) };
        let topic = |direction, name: &str| Topic {
            filter: format!("{name}/#"),
            direction,
            qos: QoS::ExactlyOnce,
            retain: true,
            local_prefix: if direction == Direction::In { format!("b{number}/") } else { String::new() },
            remote_prefix: if direction == Direction::Out { format!("b{number}/") } else { String::new() },
            allow_loop: true,
        };
        let mut topics = vec![topic(Direction::Out, out), topic(Direction::In, back)];
        if plan.bridges.len() == 1 {
            // Two of them would make a ring.
            topics.push(topic(Direction::Both, COMMON));
        }
        let settings = Settings {
            name: format!("n{number}"),
            node: format!("broker{home}"),
            addresses: vec![Address { host: "other".into(), port: 1883, tls: false, websocket: None }],
            protocol: Protocol::Fixed(level.version()),
            try_private: level.is_bridge(),
            client_id: format!("bridge{number}"),
            username: None,
            password: None,
            keep_alive: 20,
            clean_session: false,
            session_expiry: u32::MAX,
            connect_timeout: Duration::from_secs(10),
            reconnect_min: Duration::from_millis(200),
            reconnect_max: Duration::from_secs(5),
            failback: None,
            max_age: None,
            drain_rate: None,
            max_inflight: plan.window,
            max_packet_size: 1 << 20,
            topic_alias_maximum: 5,
            topics,
            remote: RemoteLimits::default(),
            slice: Slice::ALL,
            duty: Duty::Serve,
            previous: Vec::new(),
            notifications: plan.notices.then(|| format!("state/{number}")),
            notify_remote: true,
        };
        Self { settings, level, machine: None, home, away, local: None, remote: None, armed: None, dial: None }
    }

    /// Whether it belongs to `broker`.
    pub(crate) fn is_of(&self, broker: usize) -> bool {
        self.home == broker
    }

    /// What the oracle is to know of it.
    fn carriers(&self, number: usize) -> [Carrier; 2] {
        let local = (self.home, format!("$bridge/{}", self.settings.name));
        let remote = (self.away, self.settings.client_id.clone());
        let (out, back) = if self.home == 0 { (OUTWARD, INWARD) } else { (INWARD, OUTWARD) };
        let rules = |name: &str| {
            let common = format!("{COMMON}/");
            vec![(format!("{name}/"), format!("b{number}/{name}/")), (common.clone(), common)]
        };
        let is_v5 = self.level.version().is_v5();
        let is_exact = is_v5 || self.level.is_bridge();
        [
            Carrier { from: local.clone(), to: remote.clone(), rules: rules(out), is_exact, is_v5 },
            Carrier { from: remote, to: local, rules: rules(back), is_exact, is_v5 },
        ]
    }
}

impl World {
    /// The bridges of the plan, the first from broker 0 to 1, the second back.
    pub(crate) fn build_bridges(&mut self) {
        for (number, level) in self.plan.bridges.clone().into_iter().enumerate() {
            let bridge = BridgeEnd::new(number, level, number % 2, &self.plan);
            for carrier in bridge.carriers(number) {
                self.oracle.carries(carrier);
            }
            self.bridges.push(bridge);
            self.start_bridge(number);
        }
    }

    pub(crate) fn start_bridge(&mut self, place: usize) {
        let seed = self.rng.next();
        let bridge = &mut self.bridges[place];
        let mut machine = Bridge::new(bridge.settings.clone(), seed).expect("the settings make sense");
        machine.start(self.now);
        bridge.machine = Some(machine);
        bridge.armed = None;
        self.woken.insert(place);
    }

    /// The operator stops a bridge for a while.
    pub(crate) fn stop_bridge(&mut self, place: usize) {
        if self.is_calm {
            return;
        }
        self.note(format_args!("bridge {place} is stopped"));
        if let Some(machine) = &mut self.bridges[place].machine {
            machine.stop(self.now, false);
        }
        self.woken.insert(place);
        self.sometimes(2_000, Event::Resume(place));
        self.sometimes(self.plan.stops, Event::Stop(place));
    }

    pub(crate) fn resume_bridge(&mut self, place: usize) {
        if let Some(machine) = &mut self.bridges[place].machine {
            machine.start(self.now);
        }
        self.woken.insert(place);
    }

    /// The bridges of a broker that stops stop with it.
    pub(crate) fn drop_bridges(&mut self, broker: usize) {
        for place in (0..self.bridges.len()).filter(|place| self.bridges[*place].home == broker).collect::<Vec<_>>() {
            let bridge = &mut self.bridges[place];
            bridge.machine = None;
            bridge.local = None;
            let remote = bridge.remote.take();
            if let Some(id) = remote
                && let Some(link) = self.links.get_mut(&id)
            {
                link.owner = Owner::Nobody;
                let ms = self.rng.below(2_000);
                self.after(ms, Event::ServerSees(id));
            }
        }
    }

    /// Something of a bridge is due.
    pub(crate) fn bridge_due(&mut self, place: usize) {
        self.bridges[place].armed = None;
        if let Some(machine) = &mut self.bridges[place].machine
            && machine.next_timeout().is_some_and(|due| due <= self.now)
        {
            machine.handle_timeout(self.now);
        }
        self.woken.insert(place);
    }

    /// A dial ends.
    pub(crate) fn dialled(&mut self, place: usize, attempt: u64) {
        let (now, away) = (self.now, self.bridges[place].away);
        let version = self.bridges[place].level.version();
        let is_refused = !self.brokers[away].is_up() || (!self.is_calm && self.rng.percent(10));
        if self.bridges[place].machine.is_none() || self.bridges[place].dial.take_if(|dial| *dial == attempt).is_none()
        {
            return;
        }
        self.drop_remote(place);
        let link = if is_refused { None } else { Some(self.open(Owner::Remote(place), away, version)) };
        let bridge = &mut self.bridges[place];
        let Some(machine) = &mut bridge.machine else { return };
        match link {
            None => machine.handle_dial_failed(now, attempt, DialError::Refused("connection refused".into())),
            Some(link) => {
                bridge.remote = Some(link);
                machine.handle_dialled(now, attempt);
            }
        }
        self.woken.insert(place);
    }

    /// The connection of a remote half is gone.
    pub(crate) fn remote_lost(&mut self, place: usize, id: u64) {
        let bridge = &mut self.bridges[place];
        if bridge.remote == Some(id) {
            bridge.remote = None;
            if let Some(machine) = &mut bridge.machine {
                machine.handle_remote_closed(self.now, "connection reset by peer");
            }
            self.woken.insert(place);
        }
    }

    /// Lets every bridge that has something to do do it.
    pub(crate) fn move_bridges(&mut self) {
        while let Some(place) = self.woken.pop_first() {
            while self.bridge_acts(place)
                | self.local_up(place)
                | self.local_down(place)
                | self.remote_down(place)
                | self.remote_up(place)
            {}
            let bridge = &mut self.bridges[place];
            let next = bridge.machine.as_ref().and_then(Bridge::next_timeout);
            if let Some(next) = next.filter(|next| bridge.armed.is_none_or(|armed| *next < armed)) {
                bridge.armed = Some(next);
                self.at(next.max(self.now), Event::Bridge(place));
            }
        }
    }

    fn bridge_acts(&mut self, place: usize) -> bool {
        let Some(action) = self.bridges[place].machine.as_mut().and_then(Bridge::poll) else { return false };
        match action {
            Action::OpenLocal => {
                self.drop_local(place);
                let home = self.bridges[place].home;
                let link = self.open(Owner::Local(place), home, Version::V5);
                self.bridges[place].local = Some(link);
            }
            Action::CloseLocal => {
                while self.local_up(place) {}
                self.drop_local(place);
            }
            Action::Dial { attempt, .. } => {
                self.bridges[place].dial = Some(attempt);
                let ms = self.rng.around(self.plan.weather.latency);
                self.after(ms, Event::Dialled(place, attempt));
            }
            Action::HangUp { .. } => {
                self.bridges[place].dial = None;
                while self.remote_up(place) {}
                self.drop_remote(place);
            }
            Action::Log(event) => self.note(format_args!("bridge {place}: {event}")),
            Action::StateChanged { up, .. } => self.note(format_args!("bridge {place} is up: {up}")),
            _ => {}
        }
        true
    }

    fn drop_local(&mut self, place: usize) {
        if let Some(id) = self.bridges[place].local.take() {
            if let Some(link) = self.links.get_mut(&id) {
                link.owner = Owner::Nobody;
            }
            self.server_sees(id, "the bridge closed it");
        }
    }

    fn drop_remote(&mut self, place: usize) {
        if let Some(id) = self.bridges[place].remote.take() {
            self.close_up(id);
        }
    }

    /// What the local half says, to the engine.
    fn local_up(&mut self, place: usize) -> bool {
        let bridge = &mut self.bridges[place];
        let (Some(id), Some(machine)) = (bridge.local, &mut bridge.machine) else { return false };
        let bytes = take(machine.local_output());
        if bytes.is_empty() {
            return false;
        }
        self.bridge_says(id, &bytes);
        if let Some(link) = self.links.get_mut(&id) {
            link.tail.extend_from_slice(&bytes);
        }
        self.serve(id);
        true
    }

    /// What the engine says, to the local half.
    fn local_down(&mut self, place: usize) -> bool {
        let (now, bridge) = (self.now, &mut self.bridges[place]);
        let (Some(id), Some(machine)) = (bridge.local, &mut bridge.machine) else { return false };
        let Some(link) = self.links.get_mut(&id) else { return false };
        let (home, Some(worker)) = (link.broker, link.worker()) else { return false };
        let Some(engine) = self.brokers[home].engines.get_mut(usize::from(worker)) else { return false };
        let connection = viaduct_engine::ConnectionId(id);
        let Some(output) = engine.output(connection) else { return false };
        let offered = match &mut self.saboteur {
            Some(saboteur) => {
                let bytes = output.unsent().to_vec();
                output.advance(bytes.len());
                link.heard.extend_from_slice(&saboteur.pass(now, id, Version::V5, &bytes));
                std::mem::take(&mut link.heard)
            }
            None => output.unsent().to_vec(),
        };
        let used = machine.handle_local(now, &offered);
        let is_over;
        if self.saboteur.is_some() {
            link.heard = offered[used..].to_vec();
            is_over = link.heard.is_empty();
        } else {
            output.advance(used);
            link.written += used as u64;
            is_over = output.is_empty();
        }
        let closing = engine.closing(connection).map(ToString::to_string).filter(|_| is_over);
        if closing.is_none() && used > 0 && is_over {
            engine.handle_drained(now, connection);
        }
        self.bridge_hears(id, &offered[..used]);
        if let Some(why) = closing {
            self.drop_local(place);
            if let Some(machine) = &mut self.bridges[place].machine {
                machine.handle_local_closed(now, &why);
            }
            return true;
        }
        if used > 0 {
            self.after_engine(home, worker);
        }
        used > 0
    }

    fn remote_down(&mut self, place: usize) -> bool {
        let (now, bridge) = (self.now, &mut self.bridges[place]);
        let (Some(id), Some(machine)) = (bridge.remote, &mut bridge.machine) else { return false };
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.heard.is_empty()) else { return false };
        let used = machine.handle_remote(now, &link.heard);
        let bytes: Vec<u8> = link.heard.drain(..used).collect();
        self.bridge_hears(id, &bytes);
        used > 0
    }

    fn remote_up(&mut self, place: usize) -> bool {
        let bridge = &mut self.bridges[place];
        let (Some(id), Some(machine)) = (bridge.remote, &mut bridge.machine) else { return false };
        let bytes = take(machine.remote_output());
        if bytes.is_empty() {
            return false;
        }
        self.bridge_says(id, &bytes);
        self.write_up(id, &bytes);
        true
    }

    /// A half of a bridge is a client like any other: the oracle hears what it sends.
    fn bridge_says(&mut self, id: u64, bytes: &[u8]) {
        let Some(version) = self.links.get(&id).map(|link| link.version) else { return };
        let mut rest = bytes;
        while let Ok(Some(frame)) = Frame::split(rest, u32::MAX) {
            rest = &rest[frame.bytes.len()..];
            if let Ok(packet) = Packet::decode(frame, version) {
                self.note(format_args!("bridge sends on link {id}: {}", words(&packet)));
                self.oracle.sent(id, &packet);
            }
        }
    }

    fn bridge_hears(&mut self, id: u64, bytes: &[u8]) {
        let mut rest = bytes;
        while let Ok(Some(frame)) = Frame::split(rest, u32::MAX) {
            rest = &rest[frame.bytes.len()..];
            let Some(link) = self.links.get_mut(&id) else { return };
            let encoded = link.used(frame.bytes.len());
            if let Ok(packet) = Packet::decode(frame, link.version) {
                self.note(format_args!("bridge gets on link {id}: {}", words(&packet)));
                self.oracle.received(id, &packet, frame.bytes.len(), encoded);
            }
        }
    }

    /// Whether every bridge is up and holds nothing.
    pub(crate) fn bridges_rest(&self) -> bool {
        self.bridges.iter().all(|bridge| {
            bridge.machine.as_ref().is_some_and(|machine| {
                let stats = machine.stats();
                machine.is_up() && stats.unacknowledged_in + stats.unacknowledged_out == 0
            })
        })
    }

    /// Every bridge ends its sessions.
    pub(crate) fn stop_bridges(&mut self) {
        self.plan.stops = 0; // Whoever stopped one before does not start it again.
        for place in 0..self.bridges.len() {
            if let Some(machine) = &mut self.bridges[place].machine {
                machine.stop(self.now, true);
            }
            self.woken.insert(place);
        }
        self.move_bridges();
    }

    /// Whether a broker's end of a bridge's own connection is there.
    pub(crate) fn has_local(&self, place: usize) -> bool {
        let link = self.bridges[place].local.and_then(|id| self.links.get(&id));
        link.is_some_and(|link| matches!(link.server, Server::Open(_)))
    }
}

fn take(output: &mut viaduct_session::Output) -> Vec<u8> {
    let bytes = output.unsent().to_vec();
    output.advance(bytes.len());
    bytes
}
