//! Many connections that do nothing: what connecting and subscribing costs, and what memory each then holds.
//!
//! They come in small bursts, so that the server is neither asleep between two nor ahead of its queue of connections.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::frame;
use crate::link::{self, expect};
use crate::machine::{Usage, own_memory};
use crate::server::Running;
use crate::tls::{Identity, TlsLink};

/// Connections that are opened side by side; the shortest queue of connections among the servers is 100.
const BURST: usize = 50;
/// Connections before the measured ones, so that what a server allocates once is not divided among them.
const FIRST: usize = 200;
/// The longest that memory may take to come to rest.
const REST: Duration = Duration::from_secs(3);

/// A number of clients, each subscribed to a topic of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) connections: usize,
    pub(crate) tls: bool,
}

/// What they cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) connections: usize,
    pub(crate) elapsed: Duration,
    pub(crate) usage: Usage,
    /// Bytes of the server's own memory, all connections together.
    pub(crate) memory: u64,
}

impl Crowd {
    /// Connects them all and lets them go again.
    pub(crate) fn run(&self, server: &Running, identity: &Identity) -> io::Result<Cost> {
        let mut plain = Vec::new();
        let mut encrypted = Vec::new();
        let mut join = |from: usize, to: usize| match server.tls_address.filter(|_| self.tls) {
            Some(address) => join_encrypted(address, identity, from..to, &mut encrypted),
            None => join_plain(server.address, from..to, &mut plain),
        };
        join(0, FIRST)?;
        let memory = at_rest(server.pid())?;
        let usage = server.usage()?;
        let begin = Instant::now();
        join(FIRST, FIRST + self.connections)?;
        let elapsed = begin.elapsed();
        let usage = server.usage()?.since(usage);
        let memory = at_rest(server.pid())?.saturating_sub(memory);
        Ok(Cost { connections: self.connections, elapsed, usage, memory })
    }
}

fn join_plain(address: SocketAddr, numbers: std::ops::Range<usize>, all: &mut Vec<TcpStream>) -> io::Result<()> {
    let numbers: Vec<usize> = numbers.collect();
    for burst in numbers.chunks(BURST) {
        let mut streams = Vec::with_capacity(BURST);
        for number in burst {
            let mut stream = link::dial(address, None)?;
            stream.write_all(&frame::connect(&client_id(*number), false))?;
            streams.push(stream);
        }
        for (stream, number) in streams.iter_mut().zip(burst) {
            expect(stream, frame::CONNACK)?;
            stream.write_all(&frame::subscribe(&filter(*number), 0))?;
        }
        for stream in &mut streams {
            expect(stream, frame::SUBACK)?;
        }
        all.append(&mut streams);
    }
    Ok(())
}

fn join_encrypted(
    address: SocketAddr,
    identity: &Identity,
    numbers: std::ops::Range<usize>,
    all: &mut Vec<TlsLink>,
) -> io::Result<()> {
    for number in numbers {
        let mut stream = identity.dial(address)?;
        stream.write_all(&frame::connect(&client_id(number), false))?;
        expect(&mut stream, frame::CONNACK)?;
        stream.write_all(&frame::subscribe(&filter(number), 0))?;
        expect(&mut stream, frame::SUBACK)?;
        all.push(stream);
    }
    Ok(())
}

/// The server's own memory, once two readings agree.
fn at_rest(pid: u32) -> io::Result<u64> {
    let begin = Instant::now();
    let mut before = own_memory(pid)?;
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = own_memory(pid)?;
        if now == before || begin.elapsed() > REST {
            return Ok(now);
        }
        before = now;
    }
}

fn client_id(number: usize) -> String {
    format!("idle-{number:05}")
}

fn filter(number: usize) -> String {
    format!("b/{number:05}")
}
