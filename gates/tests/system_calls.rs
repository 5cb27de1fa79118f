//! System calls of the real binary, one worker, in each regime: messages that come alone, and messages that come faster
//! than they are handled.
//!
//! strace counts all threads from the moment when everybody has subscribed. Nothing is timed, but a reader that is late
//! makes the system refuse a write now and then, so these are bounds and not exact numbers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use viaduct_codec::{Packet, PacketId, PacketType, Publish, PublishProperties, QoS, ReasonCode, TopicRef, Version};
use viaduct_gates::tool;
use viaduct_tests::{Broker, Client, DEADLINE, Hello, check_tool, eventually};

const TOPIC: &str = "b/0001";
/// What writes to a socket, or wakes a thread.
const SENDS: [&str; 5] = ["sendto", "sendmsg", "write", "writev", "sendmmsg"];
/// What reads from one.
const RECEIVES: [&str; 5] = ["recvfrom", "recvmsg", "read", "readv", "recvmmsg"];
/// Calls that belong to no message: the broker's clock strikes now and then.
const STRAY: u64 = 10;

/// Calls by name.
#[derive(Debug)]
struct Calls(BTreeMap<String, u64>);

/// A broker of one worker, its publisher, and those who listen.
struct Stage {
    broker: Broker,
    publisher: Client,
    subscribers: Vec<Client>,
}

impl Stage {
    /// `None` where there is no strace.
    fn set(subscribers: usize, qos: QoS) -> Option<Self> {
        Self::set_with(subscribers, qos, true)
    }

    /// The same, and whether the subscribers' sessions end with their connections.
    fn set_with(subscribers: usize, qos: QoS, clean_start: bool) -> Option<Self> {
        check_tool("strace", tool("strace"))?;
        // Nobody is so slow that something is given up.
        let queues = "[session]\nmax_queued_messages = 10000000\nmax_queued_bytes = \"1GiB\"\n";
        let broker = Broker::start(&format!("[node]\nworkers = 1\n{queues}"));
        let subscribers = (0..subscribers).map(|number| {
            let hello = Hello { clean_start, ..Hello::v311(&format!("subscriber-{number}")) };
            let mut client = hello.connect(broker.address());
            assert_eq!(client.subscribe(TOPIC, qos).0, qos as u8);
            client
        });
        let subscribers = subscribers.collect();
        let publisher = Hello::v311("publisher").connect(broker.address());
        Some(Self { broker, publisher, subscribers })
    }

    /// What the broker calls during `act`, which is told nothing of it.
    fn watch(self, act: impl FnOnce(&mut Client, &mut [Client])) -> Calls {
        let text = self.trace("-c", act);
        Calls::parse(&text).unwrap_or_else(|| panic!("strace says something else than usual:\n{text}"))
    }

    /// How the broker waits for its sockets meanwhile: how often until something comes, and how often for some time.
    fn watch_waits(self, act: impl FnOnce(&mut Client, &mut [Client])) -> (usize, usize) {
        let text = self.trace("-etrace=epoll_wait,epoll_pwait", act);
        let waits = text.lines().filter_map(|line| line.split_once(", ")?.1.rsplit_once(") = "));
        let (endless, timed): (Vec<_>, Vec<_>) =
            waits.partition(|(call, _)| call.trim_end_matches(", NULL, 8").ends_with(", -1"));
        (endless.len(), timed.len())
    }

    fn trace(mut self, how: &str, act: impl FnOnce(&mut Client, &mut [Client])) -> String {
        let file = self.broker.folder().join("calls");
        let strace = Strace::attach(&self.broker, how, &file);
        act(&mut self.publisher, &mut self.subscribers);
        strace.detach();
        std::fs::read_to_string(&file).unwrap()
    }
}

struct Strace(Child);

impl Strace {
    fn attach(broker: &Broker, how: &str, file: &std::path::Path) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", how, "-o"]).arg(file).args(["-p", &broker.id().to_string()]);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tasks = format!("/proc/{}/task", broker.id());
        eventually("strace attached to every thread", || {
            assert_eq!(child.try_wait().unwrap(), None, "strace may not attach: is ptrace allowed here?");
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
                status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
            })
        });
        Self(child)
    }

    /// What it writes is there when it has ended.
    fn detach(mut self) {
        let killed = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
        self.0.wait().unwrap();
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Calls {
    /// Lines of share, seconds, microseconds per call, calls, errors if there were any, name.
    fn parse(text: &str) -> Option<Self> {
        let mut calls = BTreeMap::new();
        for line in text.lines().filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit())) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = *words.last()?;
            if name != "total" {
                calls.insert(name.to_owned(), words.get(3)?.parse().ok()?);
            }
        }
        (!calls.is_empty()).then_some(Self(calls))
    }

    fn of(&self, names: &[&str]) -> u64 {
        names.iter().filter_map(|name| self.0.get(*name)).sum()
    }

    fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// Nothing is registered anew and nobody is woken for a message.
    #[track_caller]
    fn assert_quiet(&self) {
        assert!(self.of(&["epoll_ctl"]) <= STRAY, "epoll_ctl: {self:?}");
        assert!(self.of(&["futex"]) <= STRAY, "futex: {self:?}");
    }
}

fn publish(qos: QoS, id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let publish = Publish {
        dup: false,
        qos,
        retain: false,
        topic: Some(TopicRef::new(TOPIC).unwrap()),
        packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(id) },
        properties: PublishProperties::default(),
        payload: &[b'x'; 16],
    };
    Packet::Publish(publish).encode(Version::V311, &mut bytes).unwrap();
    bytes
}

/// One message after the other, each when everybody has heard the one before.
fn one_by_one(count: u64, publisher: &mut Client, subscribers: &mut [Client]) {
    for _ in 0..count {
        publisher.send_bytes(&publish(QoS::AtMostOnce, 0));
        subscribers.iter_mut().for_each(|subscriber| drop(subscriber.message()));
    }
}

/// One message of QoS 1 after the other, each when the one before is acknowledged by both.
fn one_by_one_acked(count: u16, publisher: &mut Client, subscribers: &mut [Client]) {
    subscribers[0].by_hand();
    for id in 1..=count {
        publisher.send_bytes(&publish(QoS::AtLeastOnce, id));
        let message = subscribers[0].message();
        subscribers[0].acknowledge(&message);
        assert_eq!(publisher.wait_for_ack(PacketType::Puback, id), ReasonCode::SUCCESS);
    }
}

/// As fast as the broker takes them, and everybody reads as fast as they come.
fn all_at_once(count: usize, publisher: &mut Client, subscribers: &mut [Client]) {
    let packet = publish(QoS::AtMostOnce, 0);
    let total = packet.len() * count;
    std::thread::scope(|scope| {
        for subscriber in subscribers {
            scope.spawn(move || {
                let mut socket = subscriber.stream().socket();
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                let mut buffer = vec![0; 1 << 16];
                let mut left = total;
                while left > 0 {
                    let read = socket.read(&mut buffer).unwrap();
                    assert!(read > 0, "the broker closed, {left} bytes before the end");
                    left -= read;
                }
            });
        }
        let bytes = packet.repeat(count);
        publisher.stream().socket().write_all(&bytes).unwrap();
    });
}

#[test]
fn a_message_that_comes_alone_is_one_read_and_one_send() {
    const COUNT: u64 = 500;
    let Some(stage) = Stage::set(1, QoS::AtMostOnce) else { return };
    let calls = stage.watch(|publisher, subscribers| one_by_one(COUNT, publisher, subscribers));
    calls.assert_quiet();
    assert!(calls.of(&SENDS) <= COUNT + STRAY, "sends: {calls:?}");
    assert!(calls.of(&RECEIVES) <= COUNT + STRAY, "reads: {calls:?}");
    // The third is the wait for it.
    assert!(calls.all() <= 3 * COUNT + 3 * STRAY, "all: {calls:?}");
}

#[test]
fn a_message_that_comes_alone_sets_no_timer() {
    const COUNT: usize = 500;
    let Some(stage) = Stage::set(1, QoS::AtMostOnce) else { return };
    let (endless, timed) = stage.watch_waits(|publisher, subscribers| one_by_one(COUNT as u64, publisher, subscribers));
    assert!(endless >= COUNT / 2, "the worker waits for each: {endless}");
    // The main thread's.
    assert!(timed <= COUNT / 10, "waits that end by themselves: {timed} beside {endless}");
}

/// What is kept for a session would be written in two milliseconds if it were not acknowledged before.
#[test]
fn a_message_that_is_acknowledged_before_it_has_to_be_written_makes_no_wait_end_by_itself() {
    const COUNT: u16 = 300;
    let Some(stage) = Stage::set_with(1, QoS::AtLeastOnce, false) else { return };
    let (endless, timed) = stage.watch_waits(|publisher, subscribers| one_by_one_acked(COUNT, publisher, subscribers));
    assert!(endless >= usize::from(COUNT), "the worker waits for each: {endless}");
    // The main thread's.
    assert!(timed <= usize::from(COUNT) / 10, "waits that end by themselves: {timed} beside {endless}");
}

#[test]
fn a_message_to_a_hundred_is_one_send_each() {
    const COUNT: u64 = 20;
    let Some(stage) = Stage::set(100, QoS::AtMostOnce) else { return };
    let calls = stage.watch(|publisher, subscribers| one_by_one(COUNT, publisher, subscribers));
    calls.assert_quiet();
    assert!(calls.of(&SENDS) <= 100 * COUNT + STRAY, "sends: {calls:?}");
    assert!(calls.all() <= 102 * COUNT + 3 * STRAY, "all: {calls:?}");
}

#[test]
fn a_message_of_qos_1_that_comes_alone_is_two_sends_and_two_reads() {
    const COUNT: u16 = 300;
    let Some(stage) = Stage::set(1, QoS::AtLeastOnce) else { return };
    let calls = stage.watch(|publisher, subscribers| one_by_one_acked(COUNT, publisher, subscribers));
    let count = u64::from(COUNT);
    calls.assert_quiet();
    assert!(calls.of(&SENDS) <= 2 * count + STRAY, "sends: {calls:?}");
    assert!(calls.of(&RECEIVES) <= 2 * count + STRAY, "reads: {calls:?}");
    assert!(calls.all() <= 6 * count + 3 * STRAY, "all: {calls:?}");
}

#[test]
fn messages_that_come_together_share_their_calls() {
    const COUNT: usize = 200_000;
    let Some(stage) = Stage::set(1, QoS::AtMostOnce) else { return };
    let calls = stage.watch(|publisher, subscribers| all_at_once(COUNT, publisher, subscribers));
    calls.assert_quiet();
    let per_message = calls.all() as f64 / COUNT as f64;
    assert!(per_message < 0.01, "{per_message} for each message: {calls:?}");
}

#[test]
fn messages_that_come_together_for_a_hundred_share_their_calls() {
    const COUNT: usize = 5_000;
    let Some(stage) = Stage::set(100, QoS::AtMostOnce) else { return };
    let calls = stage.watch(|publisher, subscribers| all_at_once(COUNT, publisher, subscribers));
    calls.assert_quiet();
    let per_delivery = calls.all() as f64 / (100 * COUNT) as f64;
    assert!(per_delivery < 0.01, "{per_delivery} for each delivery: {calls:?}");
}
