//! What a connection costs that is there, has subscribed, and says nothing.
//!
//! As bytes on the heap, exact, of the engine alone and of a whole broker in this process; and as the growth of the real
//! binary, which is a bound: pages that are half empty are in it. What the kernel holds for a socket is in none.
//!
//! Everything is counted over a doubling of the number of connections, because tables double.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;

use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use viaduct_broker::{Configuration, RunOptions};
use viaduct_codec::{
    FilterRef, Packet, PacketId, QoS, Subscribe, SubscribeEntry, SubscribeOptions, UserProperties, Version,
};
use viaduct_config::Source;
use viaduct_gates::Rig;
use viaduct_tests::{Broker, DEADLINE, Hello, Port, eventually};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;
/// The allocator counts the whole process: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Connections at the first look; at the second there are twice as many.
const FEW: u32 = 2_048;

/// Bytes on the heap of the engine, per connection: session, connection, subscription, route, deadline.
const ENGINE: usize = 1_224;
/// Bytes on the heap of the whole broker, per connection: the above, its task, its socket. The goal is 2 KiB.
const BROKER: usize = 1_992;
/// By how many of them a count may differ: whatever else happens in the process now and then.
const STRAY: usize = 16;
/// Bytes of resident memory of the real binary, per connection, at most. A little more than on the heap: tables that have
/// doubled leave pages behind, and blocks are rounded up. The goal is 2 KiB.
const RESIDENT: u64 = 2_800;

/// Bytes on the heap of this process.
fn heap() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[track_caller]
fn assert_about(each: usize, recorded: usize) {
    assert!(each.abs_diff(recorded) <= STRAY, "{each} bytes per connection, {recorded} recorded; if meant, record it");
}

#[test]
fn an_idle_connection_holds_the_bytes_of_the_engine_that_are_recorded() {
    let _turn = TURN.lock();
    let mut rig = Rig::new(1);
    let connect = |rig: &mut Rig, number: u32| {
        let client = rig.connect(Version::V311, &format!("client-{number:05}"));
        rig.subscribe(client, Version::V311, &format!("site/{number:05}/set"), QoS::AtLeastOnce);
    };
    (0..FEW).for_each(|number| connect(&mut rig, number));
    let before = heap() - rig.memory_of_clients();
    (FEW..2 * FEW).for_each(|number| connect(&mut rig, number));
    let after = heap() - rig.memory_of_clients();
    assert_about((after - before) / FEW as usize, ENGINE);
}

#[test]
fn an_idle_connection_holds_the_bytes_of_the_whole_broker_that_are_recorded() {
    let _turn = TURN.lock();
    allow_files(4 * u64::from(FEW) + 500);
    let folder = tempfile::tempdir().unwrap();
    let (port, admin) = (Port::take(), Port::take());
    let text = |name: &str, value: &str| format!("{name}={value}");
    let overrides = vec![
        text("node.workers", "1"),
        text("node.data_dir", folder.path().to_str().unwrap()),
        text("listener.0.bind", &port.address().to_string()),
        text("admin.bind", &admin.address().to_string()),
    ];
    let source = Source { overrides, hostname: "gate".to_owned(), ..Source::default() };
    let broker = std::thread::spawn(move || {
        let configuration = Configuration::read(source.clone()).unwrap();
        viaduct_broker::run(configuration, RunOptions::default(), move || Ok(source.clone()))
    });
    eventually("the broker listens", || TcpStream::connect(port.address()).is_ok());
    let mut connections = Vec::with_capacity(2 * FEW as usize);
    connections.extend((0..FEW).map(|number| connect(port.address(), number)));
    let before = heap();
    connections.extend((FEW..2 * FEW).map(|number| connect(port.address(), number)));
    let after = heap();
    drop(connections);
    kill_process(getpid(), Signal::TERM).unwrap();
    broker.join().unwrap().unwrap();
    assert_about((after - before) / FEW as usize, BROKER);
}

#[test]
fn an_idle_connection_holds_no_more_memory_of_the_real_binary_than_is_recorded() {
    let _turn = TURN.lock();
    allow_files(2 * u64::from(FEW) + 500);
    let broker = Broker::start("[node]\nworkers = 1\n");
    let before = broker.memory();
    let connections: Vec<TcpStream> = (0..2 * FEW).map(|number| connect(broker.address(), number)).collect();
    let each = (broker.memory() - before) / connections.len() as u64;
    assert_eq!(broker.metric("viaduct_connections", &[]), f64::from(2 * FEW));
    assert!(each <= RESIDENT, "{each} bytes per connection");
}

/// A client that has subscribed and will not say anything more.
fn connect(address: SocketAddr, number: u32) -> TcpStream {
    let mut bytes = Hello::v311(&format!("client-{number:05}")).keep_alive(600).bytes();
    let filter = format!("site/{number:05}/set");
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(1).unwrap(),
        subscription_id: None,
        user_properties: UserProperties::default(),
        entries: vec![SubscribeEntry {
            filter: FilterRef::new(&filter).unwrap(),
            options: SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() },
        }],
    });
    subscribe.encode(Version::V311, &mut bytes).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.write_all(&bytes).unwrap();
    let mut answers = [0; 9];
    socket.read_exact(&mut answers).unwrap();
    assert_eq!(answers, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 1]);
    socket
}

/// For this process and those that it starts.
fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: Some(count), ..limit };
        assert!(setrlimit(Resource::Nofile, raised).is_ok(), "no more than {limit:?} open files are allowed here");
    }
}
