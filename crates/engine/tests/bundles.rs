//! A run of QoS 1 that goes out as one exchange is, for everybody, so many messages: whatever is answered, in whichever order, and
//! whatever is cut, begun anew or written meanwhile.
//!
//! A client with a message rate takes the long way, so the same conversation is held twice: without one, and with one that nobody
//! reaches. The store is the log, which waits before it writes.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{
    Ack, FilterRef, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Subscribe, SubscribeEntry,
    SubscribeOptions, TopicRef, UserProperties, Version,
};
use viaduct_engine::{Engine, Settings, WorkerId};
use viaduct_store::log::{FaultyFiles, Log, Options, Pending};
use viaduct_store::{FaultyStore, MemoryStore, Script, Trouble};
use viaduct_testkit::{Client, Got, World, connect, subscribe};

/// Numbers that depend on the seed alone.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

/// One worker over a log that waits before it writes.
struct Broker {
    world: World,
    log: Log,
    files: FaultyFiles,
}

impl Broker {
    fn over(files: FaultyFiles, message_rate: Option<u32>) -> Self {
        Self::over_after(files, message_rate, Duration::from_millis(2))
    }

    fn over_after(files: FaultyFiles, message_rate: Option<u32>, commit_delay: Duration) -> Self {
        let mut world = World::new(1);
        let options = Options { commit_delay, ..Options::new(1, Arc::new(|_| 0), 7) };
        let opened = Log::open_stepped(&options, Arc::new(files.clone())).unwrap();
        let (shared, now) = (Arc::clone(&world.shared), world.now());
        let settings = Arc::new(Settings { message_rate, ..Settings::default() });
        let door = opened.doors.into_iter().next().unwrap();
        *world.engine(0) = Engine::new(WorkerId(0), shared, settings, Box::new(door), now);
        Self { world, log: opened.log, files }
    }

    /// Everything that waited is on the disk.
    fn commit(&mut self) {
        self.world.pass(Duration::from_millis(50));
        while self.log.pending() != Pending::Nothing {
            self.log.step();
            let now = self.world.now();
            self.world.engine(0).handle_committed(now);
        }
        self.world.settle();
    }

    fn inflight(&mut self, client_id: &str) -> usize {
        self.world.engine(0).client(client_id).map_or(0, |view| view.inflight)
    }
}

/// Somebody who hears, and what it has not answered.
struct Hearer {
    name: &'static str,
    version: Version,
    clean: bool,
    qos: QoS,
    client: Option<Client>,
    open: Vec<u16>,
}

impl Hearer {
    fn connect(&mut self, broker: &mut Broker, anew: bool) {
        let mut hello = connect(self.version, self.name);
        hello.clean_start = self.clean || anew;
        hello.properties.session_expiry = Some(600).filter(|_| self.version == Version::V5 && !self.clean);
        let mut client = broker.world.connect(&Packet::Connect(Box::new(hello)));
        broker.commit();
        let entries = vec![SubscribeEntry {
            filter: FilterRef::new("t/#").unwrap(),
            options: SubscribeOptions { qos: self.qos, ..SubscribeOptions::default() },
        }];
        let user_properties = UserProperties::default();
        let packet_id = PacketId::new(9_999).unwrap();
        let subscribe = Packet::Subscribe(Subscribe { packet_id, subscription_id: None, user_properties, entries });
        broker.world.send(&mut client, &[subscribe]);
        broker.commit();
        self.client = Some(client);
        self.open.clear();
    }

    /// Takes what came, and answers at once what belongs to QoS 2. What came, as it came.
    fn hear(&mut self, broker: &mut Broker) -> Vec<u8> {
        let Some(client) = &mut self.client else { return Vec::new() };
        loop {
            broker.world.take(client);
            let ack = |id| Ack::new(PacketId::new(id).unwrap(), ReasonCode::SUCCESS);
            let mut answers = Vec::new();
            for got in client.got() {
                match got {
                    Got::Publish { qos: QoS::AtLeastOnce, id: Some(id), .. } => {
                        self.open.retain(|open| *open != id);
                        self.open.push(id);
                    }
                    Got::Publish { qos: QoS::ExactlyOnce, id: Some(id), .. } => answers.push(Packet::Pubrec(ack(id))),
                    Got::Ack(6, id, _) => answers.push(Packet::Pubcomp(ack(id))),
                    _ => {}
                }
            }
            if answers.is_empty() {
                let bytes = client.bytes();
                if client.closed {
                    self.client = None;
                    self.open.clear();
                }
                return bytes;
            }
            broker.world.send(client, &answers);
        }
    }

    fn say(&mut self, broker: &mut Broker, packets: &[Packet<'_>]) {
        if let Some(client) = &mut self.client {
            broker.world.send(client, packets);
        }
    }
}

fn publication(qos: QoS, id: u16, payload: &[u8]) -> Packet<'_> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(TopicRef::new("t/1").unwrap()),
        packet_id: PacketId::new(id).filter(|_| qos > QoS::AtMostOnce),
        properties: PublishProperties::default(),
        payload,
    })
}

/// What was heard and counted after each step, and at the end what the publisher heard.
type Transcript = (Vec<String>, Vec<u8>);

fn conversation(seed: u64, message_rate: Option<u32>) -> Transcript {
    let mut numbers = Numbers(seed);
    let mut broker = Broker::over(FaultyFiles::default(), message_rate);
    let hearer = |name, version, clean, qos| Hearer { name, version, clean, qos, client: None, open: Vec::new() };
    let mut hearers = vec![hearer("kept", Version::V311, false, QoS::AtLeastOnce)];
    if seed.is_multiple_of(2) {
        hearers.push(hearer("five", Version::V5, false, QoS::ExactlyOnce));
    }
    if seed.is_multiple_of(3) {
        hearers.push(hearer("clean", Version::V311, true, QoS::AtLeastOnce));
    }
    hearers.iter_mut().for_each(|hearer| hearer.connect(&mut broker, false));
    let version = if seed.is_multiple_of(5) { Version::V5 } else { Version::V311 };
    let mut publisher = broker.world.connect(&Packet::Connect(Box::new(connect(version, "publisher"))));
    let (mut transcript, mut id) = (Vec::new(), 0);
    for step in 0..120 {
        let who = numbers.below(hearers.len());
        let hearer = &mut hearers[who];
        let puback = |id: &u16| Client::puback(*id);
        let act = numbers.below(24);
        match act {
            0..8 => {
                let payloads: Vec<_> = (0..=numbers.below(14)).map(|_| vec![b'p'; numbers.below(40)]).collect();
                let mut said = Vec::new();
                for payload in &payloads {
                    id += 1;
                    said.push(publication(QoS::AtLeastOnce, id, payload));
                }
                broker.world.send(&mut publisher, &said);
            }
            8 => {
                id += 1;
                let qos = if numbers.below(2) == 0 { QoS::AtMostOnce } else { QoS::ExactlyOnce };
                let release = Packet::Pubrel(Ack::new(PacketId::new(id).unwrap(), ReasonCode::SUCCESS));
                broker.world.send(&mut publisher, &[publication(qos, id, b"other")]);
                broker.commit();
                if qos == QoS::ExactlyOnce {
                    broker.world.send(&mut publisher, &[release]);
                    broker.commit();
                }
            }
            9..16 => {
                let count = numbers.below(hearer.open.len() + 1);
                let acks: Vec<_> = hearer.open.drain(..count).collect();
                hearer.say(&mut broker, &acks.iter().map(puback).collect::<Vec<_>>());
            }
            16 if !hearer.open.is_empty() => {
                let out_of_turn = hearer.open.remove(numbers.below(hearer.open.len()));
                hearer.say(&mut broker, &[puback(&out_of_turn)]);
            }
            17 if !hearer.open.is_empty() && hearer.version == Version::V5 => {
                let first = PacketId::new(hearer.open.remove(0)).unwrap();
                hearer.say(&mut broker, &[Packet::Puback(Ack::new(first, ReasonCode::NO_MATCHING_SUBSCRIBERS))]);
            }
            18 if !hearer.open.is_empty() => {
                // Against the rules: it is closed.
                let wrong = PacketId::new(hearer.open[numbers.below(hearer.open.len())]).unwrap();
                hearer.say(&mut broker, &[Packet::Pubrec(Ack::new(wrong, ReasonCode::SUCCESS))]);
            }
            19 => {
                if let Some(mut client) = hearer.client.take() {
                    broker.world.cut(&mut client);
                }
            }
            20 => {
                let now = broker.world.now();
                broker.world.engine(0).kick(now, hearer.name);
            }
            21 => hearer.connect(&mut broker, numbers.below(4) == 0),
            22 => broker.commit(),
            _ if hearer.client.is_none() => hearer.connect(&mut broker, false),
            _ => {}
        }
        let stats = broker.world.engine(0).stats();
        let heard: Vec<_> = hearers.iter_mut().map(|hearer| hearer.hear(&mut broker)).collect();
        let inflight: Vec<_> = hearers.iter().map(|hearer| broker.inflight(hearer.name)).collect();
        let counts = (stats.inflight_messages.get(), stats.messages_sent.each_ref().map(|sent| sent.get()));
        transcript
            .push(format!("{step}: {act} {who} {heard:?} {inflight:?} {counts:?} {}", stats.queued_messages.get()));
    }
    for hearer in &mut hearers {
        if hearer.client.is_none() {
            hearer.connect(&mut broker, false);
        }
    }
    for _ in 0..100 {
        for hearer in &mut hearers {
            transcript.push(format!("{:?}", hearer.hear(&mut broker)));
            let acks: Vec<_> = hearer.open.drain(..).map(Client::puback).collect();
            hearer.say(&mut broker, &acks);
        }
        broker.commit();
    }
    assert_eq!(hearers.iter().map(|hearer| broker.inflight(hearer.name)).sum::<usize>(), 0, "seed {seed}");
    broker.world.take(&mut publisher);
    let acked = publisher.got().iter().filter(|got| matches!(got, Got::Ack(4, ..))).count();
    assert!(acked > 50, "seed {seed}: {acked} messages were acknowledged");
    (transcript, publisher.bytes())
}

#[test]
fn a_bundle_is_for_everybody_so_many_messages() {
    for seed in 0..60 {
        let (short, long) = (conversation(seed, None), conversation(seed, Some(u32::MAX)));
        for (short, long) in short.0.iter().zip(&long.0) {
            assert_eq!(short, long, "seed {seed}");
        }
        assert_eq!(short, long, "seed {seed}: what the publisher heard");
    }
}

/// A client of 3.1.1 whose session stays, subscribed with QoS 1, and a publisher.
fn pair(broker: &mut Broker) -> (Hearer, Client) {
    let (name, version, qos) = ("kept", Version::V311, QoS::AtLeastOnce);
    let mut kept = Hearer { name, version, clean: false, qos, client: None, open: Vec::new() };
    kept.connect(broker, false);
    kept.hear(broker);
    let mut publisher = broker.world.connect(&Packet::Connect(Box::new(connect(Version::V311, "publisher"))));
    broker.world.take(&mut publisher);
    publisher.got();
    (kept, publisher)
}

/// Payloads with DUP and identifier.
fn heard(client: &mut Client) -> Vec<(String, bool, u16)> {
    let one = |got| match got {
        Got::Publish { payload, dup, id: Some(id), .. } => Some((String::from_utf8(payload).unwrap(), dup, id)),
        _ => None,
    };
    client.got().into_iter().filter_map(one).collect()
}

#[test]
fn what_of_a_bundle_was_not_acknowledged_comes_again_after_a_restart() {
    const COUNT: u16 = 10;
    for acked in 0..=COUNT {
        let mut broker = Broker::over(FaultyFiles::default(), None);
        let (mut kept, mut publisher) = pair(&mut broker);
        let payloads: Vec<_> = (1..=COUNT).map(|number| number.to_string()).collect();
        let said: Vec<_> =
            (1..).zip(&payloads).map(|(id, payload)| publication(QoS::AtLeastOnce, id, payload.as_bytes())).collect();
        broker.world.send(&mut publisher, &said);
        kept.hear(&mut broker);
        assert_eq!(kept.open, (1..=COUNT).collect::<Vec<_>>());
        let acks: Vec<_> = kept.open.drain(..usize::from(acked)).map(Client::puback).collect();
        kept.say(&mut broker, &acks);
        broker.world.take(&mut publisher);
        let answers = if acked == COUNT { usize::from(COUNT) } else { 0 };
        assert_eq!(publisher.got().len(), answers, "nothing is safe, and {acked} are over");
        broker.commit();
        broker.world.take(&mut publisher);
        assert_eq!(publisher.got().len(), usize::from(COUNT) - answers, "{acked} were acknowledged before");
        // Killed: what is on the disk is all there is.
        let Broker { world, log, files } = broker;
        log.close();
        let files = files.after_kill();
        drop((world, log));
        let mut broker = Broker::over(files, None);
        let mut hello = connect(Version::V311, "kept");
        hello.clean_start = false;
        let mut client = broker.world.connect(&Packet::Connect(Box::new(hello)));
        broker.commit();
        broker.world.take(&mut client);
        let again: Vec<_> = (acked + 1..=COUNT).map(|number| (number.to_string(), true, number)).collect();
        assert_eq!(heard(&mut client), again, "{acked} of them were acknowledged");
    }
}

#[test]
fn what_is_left_of_a_bundle_is_settled_when_its_session_ends() {
    for ends in ["clean start", "expiry"] {
        let mut broker = Broker::over(FaultyFiles::default(), None);
        let (mut kept, mut publisher) = pair(&mut broker);
        let said: Vec<_> = (1..=5).map(|id| publication(QoS::AtLeastOnce, id, b"x")).collect();
        broker.world.send(&mut publisher, &said);
        kept.hear(&mut broker);
        kept.say(&mut broker, &[Client::puback(1), Client::puback(2)]);
        broker.world.take(&mut publisher);
        assert_eq!((publisher.got(), broker.inflight("kept")), (vec![], 3), "{ends}");
        let mut hello = connect(Version::V311, "kept");
        hello.clean_start = true;
        let mut client = broker.world.connect(&Packet::Connect(Box::new(hello)));
        if ends == "expiry" {
            broker.world.cut(&mut client);
        }
        let now = broker.world.now();
        broker.world.engine(0).handle_committed(now);
        broker.world.take(&mut publisher);
        // Nobody is owed them, so they need not be written to be acknowledged.
        assert_eq!(publisher.got().len(), 5, "{ends}");
        assert_eq!(broker.inflight("kept"), 0);
    }
}

/// Its store does as the script says; `kept` hears `t/#`, and the other client speaks `version`.
fn on_a_faulty_store(version: Version) -> (World, Script, Client, Client) {
    let mut world = World::new(1);
    let (store, script) = FaultyStore::new(Box::<MemoryStore>::default());
    let (shared, now) = (Arc::clone(&world.shared), world.now());
    *world.engine(0) = Engine::new(WorkerId(0), shared, Arc::default(), Box::new(store), now);
    let mut hello = connect(Version::V311, "kept");
    hello.clean_start = false;
    let mut kept = world.connect(&Packet::Connect(Box::new(hello)));
    world.send(&mut kept, &[subscribe("t/#", QoS::AtLeastOnce)]);
    let mut publisher = world.connect(&Packet::Connect(Box::new(connect(version, "publisher"))));
    world.take(&mut publisher);
    world.take(&mut kept);
    publisher.got();
    kept.got();
    (world, script, kept, publisher)
}

#[test]
fn a_bundle_that_the_store_does_not_take_is_acknowledged_to_nobody() {
    for (version, trouble) in [
        (Version::V311, Trouble::Unavailable),
        (Version::V5, Trouble::Unavailable),
        (Version::V5, Trouble::Full),
        (Version::V5, Trouble::Unknown),
    ] {
        let (mut world, script, mut kept, mut publisher) = on_a_faulty_store(version);
        script.always(Some(trouble));
        let said: Vec<_> = (1..=5).map(|id| publication(QoS::AtLeastOnce, id, b"x")).collect();
        world.send(&mut publisher, &said);
        world.take(&mut kept);
        assert_eq!(kept.got(), [], "{trouble:?}");
        let is_yes = |got: &Got| matches!(got, Got::Ack(4, _, reason) if !reason.is_error());
        let answers = publisher.got();
        assert!(!answers.iter().any(is_yes), "{trouble:?}: {answers:?}");
        assert_eq!((answers.len(), publisher.closed), if version == Version::V5 { (5, false) } else { (0, true) });
    }
}

#[test]
fn a_run_that_a_full_store_has_no_room_for_is_asked_for_once_together_and_once_one_by_one() {
    const COUNT: u16 = 20;
    let (mut world, script, mut kept, mut publisher) = on_a_faulty_store(Version::V5);
    // As a bundle, as a run, and each by itself. What is asked for beyond that finds room.
    (0..2 + COUNT).for_each(|_| script.next(Some(Trouble::Full)));
    let said: Vec<_> = (1..=COUNT).map(|id| publication(QoS::AtLeastOnce, id, b"x")).collect();
    world.send(&mut publisher, &said);
    world.take(&mut publisher);
    let refused = |id| Got::Ack(4, id, ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(publisher.got(), (1..=COUNT).map(refused).collect::<Vec<_>>());
    world.send(&mut publisher, &[publication(QoS::AtLeastOnce, 1, b"y")]);
    world.take(&mut publisher);
    world.take(&mut kept);
    assert_eq!(publisher.got(), [Got::Ack(4, 1, ReasonCode::SUCCESS)], "and no more often");
    assert_eq!(heard(&mut kept), [("y".to_owned(), false, 1)]);
}

#[test]
fn what_is_written_before_it_goes_out_is_settled_by_whoever_heard_it_alone() {
    for first in ["kept", "other"] {
        let mut broker = Broker::over_after(FaultyFiles::default(), None, Duration::ZERO);
        let (mut kept, mut publisher) = pair(&mut broker);
        let (version, qos) = (Version::V311, QoS::AtLeastOnce);
        let mut other = Hearer { name: "other", version, clean: false, qos, client: None, open: Vec::new() };
        other.connect(&mut broker, false);
        let said: Vec<_> = (1..=5).map(|id| publication(QoS::AtLeastOnce, id, b"x")).collect();
        broker.world.send(&mut publisher, &said);
        for hearer in [&mut kept, &mut other] {
            hearer.hear(&mut broker);
            assert_eq!(hearer.open, [1, 2, 3, 4, 5]);
        }
        let acks: Vec<_> = (1..=5).map(Client::puback).collect();
        if first == "kept" {
            kept.say(&mut broker, &acks)
        } else {
            other.say(&mut broker, &acks)
        }
        broker.commit();
        // What is settled is written with what comes next.
        broker.world.send(&mut publisher, &[publication(QoS::AtLeastOnce, 6, b"x")]);
        broker.commit();
        let Broker { world, log, files } = broker;
        log.close();
        let files = files.after_kill();
        drop((world, log));
        let mut broker = Broker::over(files, None);
        for name in ["kept", "other"] {
            let mut hello = connect(Version::V311, name);
            hello.clean_start = false;
            let mut client = broker.world.connect(&Packet::Connect(Box::new(hello)));
            broker.commit();
            broker.world.take(&mut client);
            let again = if name == first { 1 } else { 6 };
            assert_eq!(heard(&mut client).len(), again, "{name} after {first} has acknowledged");
        }
    }
}
