//! What a long backlog costs: `cargo run --release -p viaduct-store --example backlog -- FOLDER [MESSAGES]`.
//!
//! In: an empty or new folder on the disk that is to be measured. Out: rates, sizes and times on the standard output. Queues messages
//! of 200 bytes for one session that is away, starts again, and drains them; beside it, the same bytes appended and synced bare.
#![allow(clippy::unwrap_used, reason = "a measurement may fail loudly")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use viaduct_codec::{ClientId, Message, QoS, SessionId, SubscriptionIds, Time, TopicName};
use viaduct_store::log::{DiskFiles, Door, Log, Opened, Options, Recovery};
use viaduct_store::{Accepted, Owed, Record, SessionRecord, Store};

const PAYLOAD: usize = 200;
/// Messages that gather before a group is closed.
const GROUP: usize = 500;

struct Broker {
    door: Door,
    log: Log,
    recovery: Recovery,
    woken: Receiver<usize>,
}

fn open(folder: &Path) -> Broker {
    let (wake, woken) = channel();
    let options = Options { commit_delay: Duration::from_secs(1), ..Options::new(1, Arc::new(|_| 0), 7) };
    let files = Arc::new(DiskFiles::new(folder.to_owned()));
    let wake = Arc::new(move |door| {
        let _ = wake.send(door);
    });
    let Opened { log, mut doors, recovery } = Log::open(&options, files, wake).unwrap();
    Broker { door: doors.remove(0), log, recovery, woken }
}

impl Broker {
    fn wait_for(&mut self, accepted: Accepted) {
        let Accepted::Pending(ticket) = accepted else { return };
        self.door.handle_timeout(Time::from_millis(u64::MAX));
        while self.door.poll_committed().is_none_or(|safe| safe < ticket) {
            self.woken.recv_timeout(Duration::from_secs(60)).unwrap();
        }
    }
}

/// Resident memory of this process in MiB.
fn resident() -> f64 {
    let pages: f64 = fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0 / 1_048_576.0
}

fn message() -> Arc<Message> {
    Arc::new(Message {
        topic: TopicName::new("plant/7/line/3").unwrap(),
        payload: vec![b'x'; PAYLOAD].into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        received: Time::from_millis(1_700_000_000_000),
        expires: None,
        properties: None,
    })
}

fn owed() -> Vec<Owed> {
    let ids = SubscriptionIds::new();
    vec![Owed { session: SessionId(1), qos: QoS::AtLeastOnce, retain: false, ids, group: None, away: true }]
}

/// Queues the messages and returns how long it took.
fn queue(broker: &mut Broker, messages: usize) -> Duration {
    let session = SessionRecord {
        id: SessionId(1),
        client_id: ClientId::from("away"),
        username: None,
        is_local: false,
        mountpoint: None,
        expiry: u32::MAX,
        disconnected: None,
        will: None,
        delayed_will: None,
    };
    let accepted = broker.door.put(Time::default(), Record::Session(session)).unwrap();
    broker.wait_for(accepted);
    let message = message();
    let mut backlog = broker.door.backlog();
    let begin = Instant::now();
    for group in 0..messages.div_ceil(GROUP) {
        let count = GROUP.min(messages - group * GROUP);
        let mut places = Vec::with_capacity(count);
        let mut last = Accepted::Safe;
        for _ in 0..count {
            let appended = broker.door.append(Time::default(), &message, owed().into(), None, 0).unwrap();
            places.push(appended.kept.unwrap().place(0));
            last = appended.accepted;
        }
        broker.wait_for(last);
        places.into_iter().for_each(|place| backlog.push_back(place.into_stub(300).unwrap()));
    }
    let took = begin.elapsed();
    println!("resident with {messages} queued: {:.1} MiB", resident());
    broker.log.close();
    took
}

/// The same bytes in the same groups, appended and synced.
fn bare(folder: &Path, bytes: u64, messages: usize) -> Duration {
    let path: PathBuf = folder.join("bare");
    let mut file = File::create(&path).unwrap();
    let group = vec![0x55; usize::try_from(bytes).unwrap() / messages * GROUP];
    let begin = Instant::now();
    for _ in 0..messages.div_ceil(GROUP) {
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
    }
    let took = begin.elapsed();
    fs::remove_file(path).unwrap();
    took
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/backlog".into()));
    let messages: usize = arguments.next().map_or(1_000_000, |text| text.parse().unwrap());
    let _ = fs::remove_dir_all(&folder);
    println!("resident at the beginning: {:.1} MiB", resident());
    let mut broker = open(&folder);
    let took = queue(&mut broker, messages);
    let used = broker.log.used();
    drop(broker);
    let rate = |took: Duration| messages as f64 / took.as_secs_f64();
    println!("queued in {took:.2?}: {:.0} messages/s in groups of {GROUP}, {:.1} MB", rate(took), used as f64 / 1e6);
    let took = bare(&folder, used, messages);
    println!("bare append and sync of the same: {took:.2?}, {:.0} messages/s", rate(took));
    let before = resident();
    let begin = Instant::now();
    let mut broker = open(&folder);
    let loaded = broker.door.load().unwrap();
    println!("opened in {:.2?}: {:?}", begin.elapsed(), broker.recovery);
    println!("resident before {before:.1} MiB, with index and backlog {:.1} MiB", resident());
    let (_, mut backlog) = loaded.queued.into_iter().next().unwrap();
    assert_eq!(backlog.len(), messages);
    let begin = Instant::now();
    let mut most = 0.0_f64;
    while !backlog.is_empty() {
        let stubs = backlog.pop_front(256);
        broker.door.read(&stubs).into_iter().for_each(|stored| drop(stored.unwrap()));
        most = most.max(resident());
    }
    println!("drained in {:.2?}, resident at most {most:.1} MiB", begin.elapsed());
    let begin = Instant::now();
    while broker.log.used() > 3 * Options::SEGMENT_BYTES {
        assert!(begin.elapsed() < Duration::from_secs(60), "the space does not come back");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("given back in {:.2?}: {:.1} MB are left", begin.elapsed(), broker.log.used() as f64 / 1e6);
}
