//! A broker without sockets, in one of the shapes that are measured: publishers, subscribers, a version, a QoS, and how
//! many messages come in one read.
//!
//! In: how many turns to run. Out: what the subscribers heard. A turn is what a read of a socket brings about: the bytes
//! of each publisher go in, everybody's output is taken as a socket that is never full would take it, and every
//! acknowledgement is answered, until nothing moves any more.

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{
    Connect, ConnectProperties, FilterRef, Level, Packet, PacketId, Publish, PublishProperties, QoS, Subscribe,
    SubscribeEntry, SubscribeOptions, Time, TopicRef, UserProperties, Version,
};
use viaduct_engine::{
    AllowAll, Arrival, Connected, ConnectionId, Engine, Identity, Settings, Shared, WorkerId, worker_of,
};
use viaduct_session::server::{Terms, admit};
use viaduct_store::{MemoryStore, Store};

use crate::peer::Peer;

/// Bytes of payload of every message.
const PAYLOAD: [u8; 16] = [b'x'; 16];
/// Longer than a store waits for what may settle by waiting.
const COMMIT_DELAY: Duration = Duration::from_millis(10);

/// Who talks to whom, and how.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sessions are spread over them by ClientID.
    pub workers: u16,
    /// Each has a topic of its own.
    pub publishers: usize,
    /// They share the topics evenly; more than one of them hear the same topic when there are more of them.
    pub subscribers: usize,
    /// Of everybody.
    pub version: Version,
    /// Of messages and subscriptions.
    pub qos: QoS,
    /// Messages that one publisher sends in one turn.
    pub per_turn: u16,
    /// The User Properties of each message, encoded; 3.1.1 has none.
    pub user_properties: &'static [u8],
}

/// The broker, its clients, and what the publishers say.
#[derive(Debug)]
pub struct Rig {
    engines: Vec<Engine>,
    peers: Vec<Peer>,
    terms: Arc<Terms>,
    now: Time,
    /// Connections of the publishers, and what each says in one turn.
    scripts: Vec<(ConnectionId, Vec<u8>)>,
    /// For what is on its way from a peer while the peer may hear more.
    scratch: Vec<u8>,
}

impl Rig {
    /// A broker of `workers` workers without clients.
    ///
    /// # Panics
    /// There is a number of workers that no broker has.
    #[must_use]
    pub fn new(workers: u16) -> Self {
        let stores = (0..workers).map(|_| -> Box<dyn Store> { Box::<MemoryStore>::default() });
        Self::over(stores.collect())
    }

    /// A broker without clients, of a worker for each of `stores`. What they make safe is said in [`Rig::commit`].
    ///
    /// # Panics
    /// There are so many as no broker has workers.
    #[must_use]
    pub fn over(stores: Vec<Box<dyn Store>>) -> Self {
        let now = Time::from_millis(1_700_000_000_000);
        let workers = u16::try_from(stores.len()).unwrap();
        let shared = Shared::new(workers, Box::new(AllowAll));
        let settings = Arc::new(Settings::default());
        let engine =
            |(worker, store)| Engine::new(WorkerId(worker), Arc::clone(&shared), Arc::clone(&settings), store, now);
        let engines = (0..).zip(stores).map(engine).collect();
        let mut introduction = Vec::new();
        UserProperties::push(&mut introduction, viaduct_session::NODE_PROPERTY, "rig");
        let terms = Arc::new(Terms { introduction, ..Terms::default() });
        Self { engines, peers: Vec::new(), terms, now, scripts: Vec::new(), scratch: Vec::new() }
    }

    /// A broker in this shape.
    ///
    /// # Panics
    /// The broker does not let its clients in.
    #[must_use]
    pub fn of(shape: &Shape) -> Self {
        let mut rig = Self::new(shape.workers);
        for number in 0..shape.subscribers {
            let client = rig.connect(shape.version, &format!("subscriber-{number}"));
            rig.subscribe(client, shape.version, &topic(number % shape.publishers), shape.qos);
        }
        for number in 0..shape.publishers {
            let client = rig.connect(shape.version, &format!("publisher-{number}"));
            rig.scripts.push((client, script(shape, &topic(number))));
        }
        if shape.qos == QoS::AtMostOnce {
            let size = rig.scripts[0].1.len() / usize::from(shape.per_turn);
            rig.peers.iter_mut().for_each(|peer| peer.size = size);
        }
        rig
    }

    /// Connects a client: clean start, keep alive of a minute.
    ///
    /// # Panics
    /// The broker does not let it in.
    pub fn connect(&mut self, version: Version, client_id: &str) -> ConnectionId {
        let level = if version == Version::V5 { Level::V5 } else { Level::V311 };
        self.arrive(&hello(level, true, client_id), Identity::default(), false)
    }

    /// Connects a client of 3.1.1 whose session outlives its connection.
    ///
    /// # Panics
    /// The broker does not let it in.
    pub fn connect_lasting(&mut self, client_id: &str) -> ConnectionId {
        self.arrive(&hello(Level::V311, false, client_id), Identity::default(), false)
    }

    /// The connection of a client is no more.
    ///
    /// # Panics
    /// There is no such client.
    pub fn cut(&mut self, client: ConnectionId) {
        let worker = self.peers[usize::try_from(client.0).unwrap()].worker;
        self.engines[worker].handle_closed(self.now, client, "cut");
        self.settle();
    }

    /// Time passes until the stores wait for nothing more, `step` makes safe what they have, and all that waited for it comes
    /// to its end.
    ///
    /// # Panics
    /// The broker sends what is no packet.
    pub fn commit(&mut self, step: impl FnOnce()) {
        self.now = self.now.after(COMMIT_DELAY);
        self.engines.iter_mut().for_each(|engine| engine.handle_timeout(self.now));
        step();
        self.engines.iter_mut().for_each(|engine| engine.handle_committed(self.now));
        self.settle();
    }

    /// Takes in a client that said this; `is_relay`: what it hears is kept for whoever asks with [`Rig::relayed`].
    pub(crate) fn arrive(&mut self, connect: &Connect<'_>, identity: Identity, is_relay: bool) -> ConnectionId {
        let client_id = connect.client_id;
        let admission = admit(connect, &self.terms, self.now, || client_id.into()).expect("the terms allow it");
        let worker = usize::from(worker_of(client_id, u16::try_from(self.engines.len()).unwrap()).0);
        let arrival = Box::new(Arrival {
            admission,
            identity,
            peer: "127.0.0.1:1883".into(),
            listener: "rig".into(),
            mountpoint: None,
            terms: Arc::clone(&self.terms),
            credential: None,
            reauthentication: None,
            way: None,
            waited_until: None,
        });
        let id = ConnectionId(self.peers.len() as u64);
        self.peers.push(Peer::new(worker, is_relay));
        assert!(matches!(self.engines[worker].handle_connect(self.now, id, arrival), Connected::Taken));
        self.settle();
        id
    }

    /// The time, which stands but for [`Rig::commit`].
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// What a relay has heard and not passed on; to be given back, so that its memory is used again.
    pub(crate) fn relayed(&mut self, client: ConnectionId) -> Vec<u8> {
        self.peers[usize::try_from(client.0).unwrap()].relayed.take().expect("it is a relay, and gave it back")
    }

    /// Takes back what [`Rig::relayed`] lent, as passed on; whether it was anything.
    pub(crate) fn give_back(&mut self, client: ConnectionId, mut passed_on: Vec<u8>) -> bool {
        let relayed = &mut self.peers[usize::try_from(client.0).unwrap()].relayed;
        assert!(relayed.is_none(), "lent once");
        let is_something = !passed_on.is_empty();
        passed_on.clear();
        *relayed = Some(passed_on);
        is_something
    }

    /// Subscribes it.
    ///
    /// # Panics
    /// There is no such client, or the filter is none.
    pub fn subscribe(&mut self, client: ConnectionId, version: Version, filter: &str, qos: QoS) {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let entry = SubscribeEntry { filter: FilterRef::new(filter).unwrap(), options };
        let subscribe = Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            subscription_id: None,
            user_properties: UserProperties::default(),
            entries: vec![entry],
        });
        let mut bytes = Vec::new();
        subscribe.encode(version, &mut bytes).unwrap();
        self.say(client, &bytes);
    }

    /// A client says this, and everything that follows comes to its end.
    ///
    /// # Panics
    /// There is no such client.
    pub fn say(&mut self, client: ConnectionId, bytes: &[u8]) {
        self.hand_in(client, bytes);
        self.settle();
    }

    /// Everybody says its piece, `turns` times, and everything that follows comes to its end.
    ///
    /// # Panics
    /// The broker sends what is no packet.
    pub fn run(&mut self, turns: u32) {
        let scripts = std::mem::take(&mut self.scripts);
        for _ in 0..turns {
            for (client, bytes) in &scripts {
                self.hand_in(*client, bytes);
            }
            self.settle();
        }
        self.scripts = scripts;
    }

    /// Messages that have reached a subscriber since the beginning.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.peers.iter().map(|peer| peer.heard).sum()
    }

    /// Bytes on the heap that are the clients' and not the broker's.
    #[must_use]
    pub fn memory_of_clients(&self) -> usize {
        let answers: usize = self.peers.iter().map(|peer| peer.answers.capacity()).sum();
        self.peers.capacity() * size_of::<Peer>() + answers
    }

    fn hand_in(&mut self, client: ConnectionId, bytes: &[u8]) {
        let worker = self.peers[usize::try_from(client.0).unwrap()].worker;
        let mut rest = bytes;
        while !rest.is_empty() {
            let progress = self.engines[worker].handle_bytes(self.now, client, rest);
            assert!(progress.consumed > 0, "the broker reads nothing of {rest:?}");
            rest = &rest[progress.consumed..];
        }
    }

    /// What the broker's flusher does at the end of a turn, and what the clients say to that, until all is quiet.
    fn settle(&mut self) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for worker in 0..self.engines.len() {
                while let Some(id) = self.engines[worker].poll_dirty() {
                    self.take_output(worker, id);
                    moved = true;
                }
                while let Some((to, mail)) = self.engines[worker].poll_mail() {
                    self.engines[usize::from(to.0)].handle_mail(self.now, mail);
                    moved = true;
                }
            }
            for client in 0..self.peers.len() {
                if !self.peers[client].answers.is_empty() {
                    std::mem::swap(&mut self.scratch, &mut self.peers[client].answers);
                    let bytes = std::mem::take(&mut self.scratch);
                    self.hand_in(ConnectionId(client as u64), &bytes);
                    self.scratch = bytes;
                    self.scratch.clear();
                    std::mem::swap(&mut self.scratch, &mut self.peers[client].answers);
                    moved = true;
                }
            }
        }
    }

    fn take_output(&mut self, worker: usize, id: ConnectionId) {
        let Some(output) = self.engines[worker].output(id) else { return };
        let count = output.unsent().len();
        self.peers[usize::try_from(id.0).unwrap()].hear(output.unsent());
        output.advance(count);
        if count > 0 {
            self.engines[worker].handle_drained(self.now, id);
        }
    }
}

/// A CONNECT with a keep alive of a minute and nothing special.
fn hello(level: Level, clean_start: bool, client_id: &str) -> Connect<'_> {
    Connect {
        level,
        clean_start,
        keep_alive: 60,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn topic(number: usize) -> String {
    format!("b/{number:04}")
}

fn script(shape: &Shape, topic: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in 1..=shape.per_turn {
        let publish = Publish {
            dup: false,
            qos: shape.qos,
            retain: false,
            topic: Some(TopicRef::new(topic).unwrap()),
            packet_id: if shape.qos == QoS::AtMostOnce { None } else { PacketId::new(id) },
            properties: PublishProperties {
                user_properties: UserProperties::from_encoded(shape.user_properties),
                ..PublishProperties::default()
            },
            payload: &PAYLOAD,
        };
        Packet::Publish(publish).encode(shape.version, &mut bytes).unwrap();
    }
    bytes
}
