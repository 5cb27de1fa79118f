//! The broker of a test: engines, mail between them, and a clock that moves when it is told to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use viaduct_codec::{
    FilterRef, Packet, PacketId, QoS, Subscribe, SubscribeEntry, SubscribeOptions, Time, UserProperties, Version,
};
use viaduct_engine::{
    AllowAll, Arrival, Authorizer, Connected, ConnectionId, Engine, Identity, Reauthenticate, Seams, Settings, Shared,
    Way, WorkerId, worker_of,
};
use viaduct_session::server::{Terms, admit};
use viaduct_store::log::{Door, FaultyFiles, Log, Options, Pending};
use viaduct_store::{Script, Store};

use crate::client::Client;
use crate::ground::{self, Ground, Stores};

/// How long a thread of a log may take for what a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker without sockets.
pub struct World {
    engines: Vec<Engine>,
    settings: Arc<Settings>,
    ground: Ground,
    files: FaultyFiles,
    /// Dropped after the engines.
    log: Option<Log>,
    scripts: Vec<Script>,
    /// What the listener of the test offers; change it before a client connects.
    pub terms: Arc<Terms>,
    /// Which way the messages of the next connection come, if by one of several.
    pub next_way: Option<Arc<dyn Way>>,
    /// What all workers share.
    pub shared: Arc<Shared>,
    now: Time,
    connections: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("engines", &self.engines).field("ground", &self.ground).finish_non_exhaustive()
    }
}

impl World {
    /// A broker of `workers` workers with default settings where everybody may do everything.
    #[must_use]
    pub fn new(workers: u16) -> Self {
        Self::with(workers, Settings::default(), Box::new(AllowAll))
    }

    /// A broker of `workers` workers.
    #[must_use]
    pub fn with(workers: u16, settings: Settings, authorizer: Box<dyn Authorizer>) -> Self {
        Self::build(workers, settings, authorizer, |_, shared, store| Seams::one_node(shared, store))
    }

    /// A broker of `workers` workers on doors that `seams` makes for each, with the store that the ground of the test has.
    #[must_use]
    pub fn build(
        workers: u16,
        settings: Settings,
        authorizer: Box<dyn Authorizer>,
        seams: impl FnMut(WorkerId, &Arc<Shared>, Box<dyn Store>) -> Seams,
    ) -> Self {
        let mut world = Self {
            engines: Vec::new(),
            settings: Arc::new(settings),
            ground: ground::current(),
            files: FaultyFiles::default(),
            log: None,
            scripts: Vec::new(),
            terms: Arc::default(),
            next_way: None,
            shared: Shared::new(workers, authorizer),
            now: Time::from_millis(1_700_000_000_000),
            connections: 0,
        };
        world.start(workers, seams);
        world
    }

    fn start(&mut self, workers: u16, mut seams: impl FnMut(WorkerId, &Arc<Shared>, Box<dyn Store>) -> Seams) {
        let Stores { stores, log, scripts } = ground::stores(self.ground, workers, &self.files);
        (self.log, self.scripts) = (log, scripts);
        for (worker, store) in (0..workers).map(WorkerId).zip(stores) {
            let seams = seams(worker, &self.shared, store);
            let (shared, settings) = (Arc::clone(&self.shared), Arc::clone(&self.settings));
            self.engines.push(Engine::with_seams(worker, shared, settings, seams, self.now));
        }
        self.settle();
    }

    /// The process is killed and starts again, where everybody may do everything. What is not on the disk is gone, so on a
    /// ground without a log that is everything.
    pub fn restart(&mut self) {
        let workers = self.workers();
        if let Some(log) = &self.log {
            log.close();
        }
        self.files = self.files.after_kill();
        self.engines.clear();
        self.log = None;
        self.shared = Shared::new(workers, Box::new(AllowAll));
        self.start(workers, |_, shared, store| Seams::one_node(shared, store));
        self.pass(Duration::ZERO);
    }

    /// The time of the test.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// The engine of a worker, for its numbers and views.
    ///
    /// # Panics
    /// There is no such worker.
    pub fn engine(&mut self, worker: usize) -> &mut Engine {
        self.engines.get_mut(worker).expect("the test named a worker that exists")
    }

    /// Lets time pass; every deadline on the way fires at its moment.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while let Some(next) = self.engines.iter().filter_map(Engine::next_timeout).min().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            for engine in &mut self.engines {
                engine.handle_timeout(self.now);
            }
            self.settle();
        }
        self.now = end;
    }

    /// Lets the threads of a log work until `look` finds something; `None` when it does not within a minute. Meanwhile the clock goes on
    /// as it does outside: on a machine that is slow nothing expires that would not on another.
    pub fn wait_for<T>(&mut self, mut look: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let (begun, start) = (Instant::now(), self.now);
        while begun.elapsed() < PATIENCE {
            self.pass(start.after(begun.elapsed()).since(self.now));
            let now = self.now;
            self.engines.iter_mut().for_each(|engine| engine.handle_committed(now));
            self.settle();
            let found = look(self);
            if found.is_some() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }

    /// The moment at which something happens by itself; `None` when nothing is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.engines.iter().filter_map(Engine::next_timeout).min()
    }

    /// Opens a connection with this CONNECT; what came back is in the client. A newcomer that is held in a takeover
    /// storm is let in when its time comes, which moves the clock.
    ///
    /// # Panics
    /// The packet is no CONNECT, or the terms refuse it: that is tested with `viaduct_session::server::admit`.
    pub fn connect(&mut self, packet: &Packet<'_>) -> Client {
        self.connect_as(packet, Identity::default())
    }

    /// As [`World::connect`], as somebody.
    ///
    /// # Panics
    /// As [`World::connect`].
    pub fn connect_as(&mut self, packet: &Packet<'_>, identity: Identity) -> Client {
        self.arrive(packet, identity, None)
    }

    /// As [`World::connect`], as "user" after an enhanced authentication that may be repeated by `method`, and with the
    /// credential 1.
    ///
    /// # Panics
    /// As [`World::connect`]: the terms of the test have to offer the method.
    pub fn connect_by(&mut self, packet: &Packet<'_>, method: Box<dyn Reauthenticate>) -> Client {
        self.arrive(packet, Identity { username: Some("user".into()), local: false }, Some(method))
    }

    fn arrive(
        &mut self,
        packet: &Packet<'_>,
        identity: Identity,
        reauthentication: Option<Box<dyn Reauthenticate>>,
    ) -> Client {
        let Packet::Connect(connect) = packet else { panic!("not a CONNECT: {packet:?}") };
        self.connections += 1;
        let id = ConnectionId(self.connections);
        let assigned = format!("assigned-{}", self.connections);
        let admission = admit(connect, &self.terms, self.now, || assigned.as_str().into()).expect("the terms allow it");
        let version = connect.level.version();
        let worker = usize::from(worker_of(admission.client_id.as_str(), self.workers()).0);
        let mut arrival = Box::new(Arrival {
            admission,
            identity,
            peer: format!("test:{}", self.connections).into(),
            listener: "test".into(),
            mountpoint: None,
            terms: Arc::clone(&self.terms),
            credential: reauthentication.as_ref().map(|_| 1),
            reauthentication,
            way: self.next_way.take(),
            waited_until: None,
        });
        loop {
            let now = self.now;
            match self.engine(worker).handle_connect(now, id, arrival) {
                Connected::Taken | Connected::Refused => break,
                Connected::Held { until, arrival: held } => {
                    self.pass(until.since(now));
                    arrival = held;
                }
            }
        }
        self.settle();
        Client::new(worker, id, version)
    }

    /// Sends packets of `client`, and takes what it got in answer into its mailbox.
    ///
    /// # Panics
    /// A packet can't be encoded.
    pub fn send(&mut self, client: &mut Client, packets: &[Packet<'_>]) {
        let mut bytes = Vec::new();
        for packet in packets {
            packet.encode(client.version, &mut bytes).expect("a packet that the test made");
        }
        self.send_bytes(client, &bytes);
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, client: &mut Client, bytes: &[u8]) {
        client.pending.extend_from_slice(bytes);
        loop {
            let now = self.now;
            let progress = self.engine(client.worker).handle_bytes(now, client.id, &client.pending);
            client.pending.drain(..progress.consumed);
            self.settle();
            if !progress.more {
                break;
            }
        }
        self.take(client);
    }

    /// The broker is about to stop: wills go out.
    pub fn last_words(&mut self) {
        let now = self.now;
        for engine in &mut self.engines {
            engine.handle_last_words(now);
        }
        self.settle();
    }

    /// Cuts the connection of `client` without a word.
    pub fn cut(&mut self, client: &mut Client) {
        self.take(client);
        let now = self.now;
        self.engine(client.worker).handle_closed(now, client.id, "cut by the test");
        self.settle();
    }

    /// Takes what is on its way to `client` into its mailbox.
    pub fn take(&mut self, client: &mut Client) {
        loop {
            let id = client.id;
            let engine = self.engines.get_mut(client.worker).expect("a client knows its worker");
            let Some(output) = engine.output(id) else { break };
            if output.is_empty() {
                break;
            }
            let bytes = output.unsent().to_vec();
            output.advance(bytes.len());
            client.receive(&bytes);
            let now = self.now;
            self.engine(client.worker).handle_drained(now, id);
            self.settle();
        }
        let closing = self.engine(client.worker).closing(client.id).is_some();
        client.closed |= closing;
    }

    fn workers(&self) -> u16 {
        u16::try_from(self.engines.len()).unwrap_or(u16::MAX)
    }

    /// Carries mail and lets the stores work until there is nothing to do.
    pub fn settle(&mut self) {
        loop {
            let mail: Vec<_> =
                self.engines.iter_mut().flat_map(|engine| std::iter::from_fn(|| engine.poll_mail())).collect();
            let now = self.now;
            if mail.is_empty() {
                let is_busy = self.log.as_ref().is_some_and(|log| log.pending() != Pending::Nothing);
                let is_behind = self.scripts.iter().any(Script::is_behind);
                if !is_busy && !is_behind {
                    return;
                }
                if let Some(log) = &self.log {
                    log.step();
                }
                self.scripts.iter().for_each(Script::catch_up);
                self.engines.iter_mut().for_each(|engine| engine.handle_committed(now));
                continue;
            }
            for (worker, mail) in mail {
                self.engine(usize::from(worker.0)).handle_mail(now, mail);
            }
        }
    }
}

/// A log in `files` for one worker, with a thread of its own, for engines that a test makes itself.
///
/// # Panics
/// The files can't be used.
#[must_use]
pub fn open_log(files: &FaultyFiles) -> (Log, Door) {
    let mut opened = Log::open(&Options::new(1, Arc::new(|_| 0), 7), Arc::new(files.clone()), Arc::new(|_| {}))
        .expect("files that can be used");
    (opened.log, opened.doors.remove(0))
}

/// A SUBSCRIBE to one filter with nothing special, as packet 1.
///
/// # Panics
/// The filter is none.
#[must_use]
pub fn subscribe(filter: &str, qos: QoS) -> Packet<'_> {
    let filter = FilterRef::new(filter).expect("a filter");
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).expect("not 0"),
        subscription_id: None,
        user_properties: UserProperties::default(),
        entries: vec![SubscribeEntry { filter, options: SubscribeOptions { qos, ..SubscribeOptions::default() } }],
    })
}

/// A CONNECT with nothing special: clean start, keep alive off.
#[must_use]
pub fn connect<'a>(version: Version, client_id: &'a str) -> viaduct_codec::Connect<'a> {
    let level = match version {
        Version::V31 => viaduct_codec::Level::V31,
        Version::V311 => viaduct_codec::Level::V311,
        Version::V5 => viaduct_codec::Level::V5,
    };
    viaduct_codec::Connect {
        level,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: viaduct_codec::ConnectProperties::default(),
    }
}
