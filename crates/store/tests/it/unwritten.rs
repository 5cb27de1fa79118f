//! What is owed to the absent is there at every moment, wherever it stands: not written, in a group that is on its way or was
//! refused by the disk, or in the log. Whatever else is open beside it.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use viaduct_codec::{
    AckedMessage, Message, MessageProperties, Place, QoS, SessionId, Stub, SubscriptionIds, Time, VarInt,
};
use viaduct_store::log::{Door, Faults, FaultyFiles, Log, Options};
use viaduct_store::{Accepted, Appended, Loaded, Owed, Record, Store, Ticket, Together};

use crate::rig::{message, options, owed, packet_id, session};

const DOORS: usize = 2;
const ABSENT: u64 = 1;
const THERE: u64 = 2;

#[derive(Clone, Debug)]
enum Act {
    /// So many messages of that many bytes for the absent, together.
    Away { door: usize, count: usize, size: usize, qos: QoS },
    /// The same of QoS 1 as a run, of which nobody ever holds a place.
    Run { door: usize, count: usize, size: usize },
    /// The same for one who is there and may acknowledge them before they are written; and for the absent as well.
    There { door: usize, count: usize, with_absent: bool },
    /// Who is there acknowledges the oldest so many.
    Acknowledge(usize),
    /// The absent is given up what is its oldest.
    GiveUp(usize),
    /// Who is there sends something else that has to be written.
    Release { door: usize },
    /// Milliseconds.
    Pass(u64),
    /// The thread of the log has a turn.
    Step,
    /// The disk does this from now on.
    Disk(Faults),
    /// All that the absent is owed is read by this door.
    Read { door: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let door = 0..DOORS;
    let faults = prop_oneof![
        3 => Just(Faults::default()),
        1 => Just(Faults { sync_fails: true, ..Faults::default() }),
        1 => Just(Faults { read_only: true, ..Faults::default() }),
        1 => Just(Faults { short_write: Some(997), interrupted: true, ..Faults::default() }),
    ];
    let qos = prop_oneof![4 => Just(QoS::AtLeastOnce), 1 => Just(QoS::ExactlyOnce)];
    let size = prop_oneof![4 => 0_usize..40, 1 => Just(30_000_usize)];
    prop_oneof![
        6 => (door.clone(), 1_usize..5, size, qos)
            .prop_map(|(door, count, size, qos)| Act::Away { door, count, size, qos }),
        6 => (door.clone(), 1_usize..9, 0_usize..40).prop_map(|(door, count, size)| Act::Run { door, count, size }),
        6 => (door.clone(), 1_usize..9, prop::bool::weighted(0.2))
            .prop_map(|(door, count, with_absent)| Act::There { door, count, with_absent }),
        4 => (0_usize..20).prop_map(Act::Acknowledge),
        1 => (1_usize..4).prop_map(Act::GiveUp),
        2 => door.clone().prop_map(|door| Act::Release { door }),
        6 => (1_u64..8).prop_map(Act::Pass),
        4 => Just(Act::Step),
        2 => faults.prop_map(Act::Disk),
        4 => door.prop_map(|door| Act::Read { door }),
    ]
}

/// A message that the absent is owed.
struct Debt {
    payload: String,
    door: usize,
    accepted: Accepted,
    /// Its place, until it can be read back.
    place: Option<Place>,
    stub: Option<Stub>,
}

struct World {
    now: Time,
    files: FaultyFiles,
    log: Log,
    doors: Vec<Door>,
    told: Vec<Ticket>,
    debts: Vec<Debt>,
    there: Vec<Place>,
    number: usize,
}

impl World {
    fn new() -> Self {
        let files = FaultyFiles::default();
        let options = Options { commit_delay: Duration::from_millis(10), ..options(DOORS) };
        let opened = Log::open_stepped(&options, Arc::new(files.clone())).unwrap();
        let (doors, log) = (opened.doors, opened.log);
        let told = vec![Ticket(0); DOORS];
        let (debts, there) = (Vec::new(), Vec::new());
        let mut world = Self { now: Time::from_millis(1_000), files, log, doors, told, debts, there, number: 0 };
        for (id, name) in [(ABSENT, "absent0"), (THERE, "there0")] {
            world.doors[0].put(world.now, Record::Session(session(id, name))).unwrap();
        }
        world.finish();
        world
    }

    fn messages(&mut self, count: usize, size: usize, qos: QoS) -> Vec<Arc<Message>> {
        let mut one = || {
            self.number += 1;
            Arc::new(message("t", &format!("{} {}", self.number, "x".repeat(size)), qos))
        };
        (0..count).map(|_| one()).collect()
    }

    /// Appends messages as the engine does: each owed entry gets its place, and then what may be is made ready.
    fn append(&mut self, door: usize, messages: &[Arc<Message>], owed: Vec<Owed>) {
        let sessions: Vec<u64> = owed.iter().map(|owed| owed.session.0).collect();
        // A disk that fails takes nothing.
        let appended = self.doors[door].append_all(self.now, Together::Each(messages), owed.into(), None, 0);
        let Ok(Appended { kept: Some(kept), accepted }) = appended else { return };
        for (number, message) in messages.iter().enumerate() {
            for (index, session) in sessions.iter().enumerate() {
                let place = kept.place((number * sessions.len() + index) as u32);
                if *session == THERE {
                    self.there.push(place);
                    continue;
                }
                let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                self.debts.push(Debt { payload, door, accepted, place: Some(place), stub: None });
            }
        }
        self.doors[door].delivered();
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Away { door, count, size, qos } => {
                let messages = self.messages(count, size, qos);
                self.append(door, &messages, vec![Owed { away: true, ..owed(ABSENT, qos) }]);
            }
            Act::Run { door, count, size } => {
                let messages = self.messages(count, size, QoS::AtLeastOnce);
                let run = run_of(&messages);
                let owed = [Owed { away: true, ..owed(ABSENT, QoS::AtLeastOnce) }];
                let taken = self.doors[door].append_run(self.now, &message("t", "", QoS::AtLeastOnce), &run, &owed);
                // A disk that fails takes nothing.
                let Some((first, accepted)) = taken else { return };
                for (id, message) in (first..).zip(&messages) {
                    let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                    let stub = Some(Stub { id, index: 0, size: 1 });
                    self.debts.push(Debt { payload, door, accepted, place: None, stub });
                }
            }
            Act::There { door, count, with_absent } => {
                let messages = self.messages(count, 0, QoS::AtLeastOnce);
                let mut all = vec![owed(THERE, QoS::AtLeastOnce)];
                all.extend(with_absent.then(|| Owed { away: true, ..owed(ABSENT, QoS::AtLeastOnce) }));
                self.append(door, &messages, all);
            }
            Act::Acknowledge(count) => drop(self.there.drain(..count.min(self.there.len()))),
            Act::GiveUp(count) => {
                let mut backlog = self.doors[0].backlog();
                let given_up = self.debts.drain(..count.min(self.debts.len()));
                given_up.filter_map(|debt| debt.stub).for_each(|stub| backlog.push_back(stub));
            }
            Act::Release { door } => {
                self.doors[door].released(self.now, SessionId(THERE), packet_id(1)).unwrap();
            }
            Act::Pass(milliseconds) => {
                self.now = self.now.after(Duration::from_millis(milliseconds));
                self.doors.iter_mut().for_each(|door| door.handle_timeout(self.now));
            }
            Act::Step => self.log.step(),
            Act::Disk(ref faults) => self.files.set(faults.clone()),
            Act::Read { door } => self.read(door),
        }
        for debt in &mut self.debts {
            if let Some(place) = debt.place.take() {
                match place.into_stub(1) {
                    Ok(stub) => debt.stub = Some(stub),
                    Err(place) => debt.place = Some(place),
                }
            }
        }
        for (told, door) in self.told.iter_mut().zip(&mut self.doors) {
            *told = door.poll_committed().unwrap_or(*told).max(*told);
        }
    }

    /// Everything that may be read is what it was.
    fn read(&mut self, door: usize) {
        let can_be_read = self.debts.iter().filter_map(|debt| Some((debt.stub?, &debt.payload)));
        let (stubs, payloads): (Vec<_>, Vec<_>) = can_be_read.unzip();
        for ((stored, payload), stub) in self.doors[door].read(&stubs).into_iter().zip(payloads).zip(&stubs) {
            let stored = stored.unwrap_or_else(|error| panic!("{stub:?}: {error}"));
            assert_eq!((&stored.message.payload[..], stored.owed.session), (payload.as_bytes(), SessionId(ABSENT)));
            assert_eq!((stored.place.id(), stored.place.index()), (stub.id, stub.index));
            let _ = stored.place.into_stub(1).unwrap();
        }
    }

    /// The disk works again, and all that is open is written.
    fn finish(&mut self) {
        self.files.set(Faults::default());
        self.act(&Act::Pass(1_000));
        // Twice for what only failed the first time, and once for the marks of what settled before it was written.
        (0..3).for_each(|_| self.act(&Act::Step));
    }

    /// What was said to be safe is there when the power is cut now, in the order in which it came to each door.
    fn check_power_cut(&self) {
        let found = waiting(&self.files.after_power_cut(|_, _| 0));
        for door in 0..DOORS {
            let of_door = |debt: &&Debt| debt.door == door;
            let all: Vec<&str> = self.debts.iter().filter(of_door).map(|debt| debt.payload.as_str()).collect();
            let here: Vec<&str> = found.iter().map(String::as_str).filter(|found| all.contains(found)).collect();
            let safe = self.debts.iter().filter(of_door).filter(|debt| match debt.accepted {
                Accepted::Safe => true,
                Accepted::Pending(ticket) => ticket <= self.told[door],
            });
            let safe = safe.count();
            assert!(here.len() >= safe, "{safe} were safe at door {door}, and these are there: {here:?}");
            assert_eq!(here, all[..here.len()], "in order and each once, at door {door}");
        }
    }
}

/// As they came from a publisher.
fn run_of(messages: &[Arc<Message>]) -> Vec<AckedMessage<'_>> {
    messages.iter().map(|message| AckedMessage { packet_id: packet_id(1), payload: &message.payload }).collect()
}

#[test]
fn a_run_is_written_as_its_messages_are() {
    let write = |is_run: bool| {
        let mut world = World::new();
        let messages = world.messages(5, 300, QoS::AtLeastOnce);
        let pairs = MessageProperties { user_properties: b"\x26\0\x01k\0\x01v".to_vec().into(), ..Default::default() };
        let of = |payload: &[u8]| Message {
            payload: payload.to_vec().into(),
            properties: Some(Arc::new(pairs.clone())),
            ..message("t", "", QoS::AtLeastOnce)
        };
        let ids = SubscriptionIds::from_slice(&[VarInt::new(7).unwrap(), VarInt::new(300).unwrap()]);
        let owed = vec![
            Owed { away: true, ids, ..owed(ABSENT, QoS::AtLeastOnce) },
            Owed { away: true, ..owed(THERE, QoS::AtLeastOnce) },
        ];
        let now = world.now;
        if is_run {
            let taken = world.doors[0].append_run(now, &of(b""), &run_of(&messages), &owed);
            assert!(matches!(taken, Some((_, Accepted::Pending(_)))));
        } else {
            let messages: Vec<_> = messages.iter().map(|message| Arc::new(of(&message.payload))).collect();
            let appended = world.doors[0].append_all(now, Together::Each(&messages), owed.into(), None, 0).unwrap();
            let kept = appended.kept.unwrap();
            let places: Vec<_> = (0..kept.places()).map(|entry| kept.place(entry)).collect();
            world.doors[0].delivered();
            let stubs: Vec<Stub> = places.into_iter().map(|place| place.into_stub(1).unwrap()).collect();
            assert_eq!(stubs.len(), 10);
        }
        world.finish();
        (world.files.bytes("00000001.log").unwrap(), waiting(&world.files.after_kill()))
    };
    let (run, waits) = write(true);
    assert_eq!(waits.len(), 5);
    assert_eq!((run, waits), write(false));
}

/// What waits for the absent in the log in this folder.
fn waiting(files: &FaultyFiles) -> Vec<String> {
    let mut opened = Log::open_stepped(&options(1), Arc::new(files.clone())).unwrap();
    let mut loaded: Loaded = opened.doors[0].load().unwrap();
    let Some((_, backlog)) = loaded.queued.iter_mut().find(|(id, _)| id.0 == ABSENT) else { return Vec::new() };
    let stubs = backlog.pop_front(usize::MAX);
    let read = opened.doors[0].read(&stubs).into_iter().map(|stored| stored.unwrap().message.payload.to_vec());
    let found = read.map(|payload| String::from_utf8(payload).unwrap()).collect();
    opened.log.close();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_absent_is_owed_can_be_read_at_every_moment_and_is_there_once(acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::new();
        for (number, act) in acts.iter().enumerate() {
            world.act(act);
            world.read(number % DOORS);
        }
        world.check_power_cut();
        world.finish();
        world.read(0);
        prop_assert!(world.debts.iter().all(|debt| debt.stub.is_some()), "everything is written");
        world.check_power_cut();
        let mut found = waiting(&world.files.after_power_cut(|_, _| 0));
        let mut owed: Vec<_> = world.debts.iter().map(|debt| debt.payload.clone()).collect();
        found.sort_unstable();
        owed.sort_unstable();
        prop_assert_eq!(found, owed);
        world.log.close();
    }
}
