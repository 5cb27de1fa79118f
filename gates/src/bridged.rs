//! Two brokers without sockets and a bridge from one to the other: what is published at the near one is heard at the far one.
//!
//! In: how many turns to run. Out: what the subscriber at the far broker heard. Between the brokers and the bridge stand bytes
//! in memory, as sockets would.

use std::time::Duration;

use viaduct_bridge::{Action, Address, Bridge, Direction, Duty, Protocol, RemoteLimits, Settings, Topic};
use viaduct_codec::{Frame, Packet, QoS, Slice, Version};
use viaduct_engine::{ConnectionId, Identity};

use crate::{Rig, Shape};

/// Both brokers and the bridge, which is of the near one.
#[derive(Debug)]
pub(crate) struct Bridged {
    near: Rig,
    far: Rig,
    bridge: Bridge,
    /// The connections of its halves.
    local: Option<ConnectionId>,
    remote: Option<ConnectionId>,
}

impl Bridged {
    /// One publisher that says `per_turn` messages in a turn, one subscriber, both of 3.1.1, and a bridge over `link`.
    pub(crate) fn of(link: Version, qos: QoS, per_turn: u16) -> Self {
        let shape = Shape {
            workers: 1,
            publishers: 1,
            subscribers: 0,
            version: Version::V311,
            qos,
            per_turn,
            user_properties: &[],
        };
        let near = Rig::of(&shape);
        let far = Rig::of(&Shape { publishers: 1, subscribers: 1, ..shape });
        let bridge = Bridge::new(settings(link), 7).expect("the settings make sense");
        let mut bridged = Self { near, far, bridge, local: None, remote: None };
        bridged.bridge.start(bridged.near.now());
        bridged.settle();
        assert!(bridged.bridge.is_up());
        bridged
    }

    /// The publisher says its piece, `turns` times, and everything that follows comes to its end.
    pub(crate) fn run(&mut self, turns: u32) {
        for _ in 0..turns {
            self.near.run(1);
            self.settle();
        }
    }

    /// Messages that have reached the subscriber since the beginning.
    pub(crate) fn heard(&self) -> u64 {
        self.far.heard()
    }

    fn settle(&mut self) {
        while self.act() | self.local_half() | self.remote_half() {}
    }

    fn act(&mut self) -> bool {
        let Some(action) = self.bridge.poll() else { return false };
        match action {
            Action::OpenLocal => {
                let connect = self.bridge.local_output();
                let length = connect.unsent().len();
                let id = arrive(&mut self.near, connect.unsent(), Identity { username: None, local: true });
                connect.advance(length);
                self.local = Some(id);
            }
            Action::Dial { attempt, .. } => {
                self.bridge.handle_dialled(self.near.now(), attempt);
                let connect = self.bridge.remote_output();
                let length = connect.unsent().len();
                let id = arrive(&mut self.far, connect.unsent(), Identity::default());
                connect.advance(length);
                self.remote = Some(id);
            }
            Action::Log(_) | Action::StateChanged { .. } => {}
            other => panic!("nothing ends here: {other:?}"),
        }
        true
    }

    fn local_half(&mut self) -> bool {
        let Some(id) = self.local else { return false };
        let now = self.near.now();
        let heard = self.near.relayed(id);
        assert_eq!(self.bridge.handle_local(now, &heard), heard.len(), "there is always room");
        let has_heard = self.near.give_back(id, heard);
        pass(&mut self.near, id, self.bridge.local_output()) | has_heard
    }

    fn remote_half(&mut self) -> bool {
        let Some(id) = self.remote else { return false };
        let now = self.near.now();
        let heard = self.far.relayed(id);
        assert_eq!(self.bridge.handle_remote(now, &heard), heard.len(), "there is always room");
        let has_heard = self.far.give_back(id, heard);
        pass(&mut self.far, id, self.bridge.remote_output()) | has_heard
    }
}

/// Hands what a half says to its broker; whether that was anything.
fn pass(broker: &mut Rig, id: ConnectionId, output: &mut viaduct_session::Output) -> bool {
    let length = output.unsent().len();
    if length > 0 {
        broker.say(id, output.unsent());
        output.advance(length);
    }
    length > 0
}

/// The connection of a half, which said CONNECT.
fn arrive(broker: &mut Rig, bytes: &[u8], identity: Identity) -> ConnectionId {
    let frame = Frame::split(bytes, u32::MAX).unwrap().expect("CONNECT is whole");
    let level = if bytes[8] == 5 { Version::V5 } else { Version::V311 };
    let Ok(Packet::Connect(connect)) = Packet::decode(frame, level) else { panic!("the first packet is CONNECT") };
    broker.arrive(&connect, identity, true)
}

fn settings(link: Version) -> Settings {
    let topic = Topic {
        filter: "b/#".into(),
        direction: Direction::Out,
        qos: QoS::AtLeastOnce,
        retain: false,
        local_prefix: String::new(),
        remote_prefix: String::new(),
        allow_loop: false,
    };
    Settings {
        name: "far".into(),
        node: "near-01234567".into(),
        addresses: vec![Address { host: "far".into(), port: 1883, tls: false, websocket: None }],
        protocol: Protocol::Fixed(link),
        try_private: true,
        client_id: "bridge".into(),
        username: None,
        password: None,
        keep_alive: 60,
        clean_session: false,
        session_expiry: u32::MAX,
        connect_timeout: Duration::from_secs(10),
        reconnect_min: Duration::from_secs(1),
        reconnect_max: Duration::from_secs(60),
        failback: None,
        drain_rate: None,
        remote: RemoteLimits::default(),
        slice: Slice::ALL,
        duty: Duty::Serve,
        max_age: None,
        max_inflight: 100,
        max_packet_size: 1 << 20,
        topic_alias_maximum: 0,
        topics: vec![topic],
        previous: Vec::new(),
        notifications: None,
        notify_remote: true,
    }
}
