//! Links that can be refused, silent or slow: one thread that carries the bytes of all of them.
//!
//! In: where each leads, what it shall do now. Out: addresses to dial. What is silent keeps its bytes and hands them on
//! later, as TCP does across a network that is gone for a while. Must never: lose a byte of a connection that it did not cut,
//! or wait for one link while another has something.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    /// It carries.
    Up = 0,
    /// Nobody listens. Connections that are there last until one end closes.
    Refused = 1,
    /// Connections come about, and no byte gets through.
    Silent = 2,
    /// It carries [`SLOW`] bytes a second each way.
    Slow = 3,
}

/// Less than what a bridge of the drill has to carry.
const SLOW: usize = 400;
/// How often a slow link carries something.
const BREATH: Duration = Duration::from_millis(100);
/// How long the thread waits when nothing happens: also how long a change of mood may take.
const STEP: Duration = Duration::from_millis(10);
/// How long the far end may take to accept: it is on this machine.
const FAR: Duration = Duration::from_millis(200);
/// Bytes of one direction that are read and not yet written.
const HELD: usize = 64 << 10;

/// Links, numbered from 0.
#[derive(Debug)]
pub(crate) struct Wires {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    is_over: AtomicBool,
    wanted: Vec<AtomicU8>,
    present: Vec<AtomicU8>,
}

impl Wires {
    /// Links from the addresses of `listeners` to where each leads, all of them up.
    ///
    /// # Errors
    /// A socket can't be made ready.
    pub(crate) fn new(ends: Vec<(TcpListener, SocketAddr)>) -> std::io::Result<Self> {
        let moods = || ends.iter().map(|_| AtomicU8::new(Mood::Up as u8)).collect();
        let shared = Arc::new(Shared { is_over: AtomicBool::new(false), wanted: moods(), present: moods() });
        let mut wires = Vec::with_capacity(ends.len());
        for (listener, far) in ends {
            listener.set_nonblocking(true)?;
            let near = listener.local_addr()?;
            wires.push(Wire { near, far, listener: Some(listener), pairs: Vec::new(), breath: Instant::now() });
        }
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || carry(&shared, &mut wires)
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes what a link does, and returns once that holds for new connections and for those that are there.
    pub(crate) fn set(&self, number: usize, mood: Mood) {
        let (Some(wanted), Some(present)) = (self.shared.wanted.get(number), self.shared.present.get(number)) else {
            return;
        };
        wanted.store(mood as u8, Ordering::SeqCst);
        while present.load(Ordering::SeqCst) != mood as u8 && !self.is_dead() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ = thread.join();
        }
    }
}

struct Wire {
    near: SocketAddr,
    far: SocketAddr,
    listener: Option<TcpListener>,
    pairs: Vec<Pair>,
    /// When a slow one carries next.
    breath: Instant,
}

/// One connection: what came in at one end waits to go out at the other.
struct Pair {
    ends: [TcpStream; 2],
    waiting: [Vec<u8>; 2],
    ended: [bool; 2],
}

fn carry(shared: &Shared, wires: &mut [Wire]) {
    while !shared.is_over.load(Ordering::SeqCst) {
        wait(wires, shared);
        for (wire, (wanted, present)) in wires.iter_mut().zip(shared.wanted.iter().zip(&shared.present)) {
            let mood = wanted.load(Ordering::SeqCst);
            if wire.turn(mood) {
                present.store(mood, Ordering::SeqCst);
            }
        }
    }
}

/// Until a socket that may be read or written is ready, or a while has passed.
fn wait(wires: &[Wire], shared: &Shared) {
    let mut watched = Vec::new();
    for (wire, wanted) in wires.iter().zip(&shared.wanted) {
        watched.extend(wire.listener.as_ref().map(|listener| PollFd::new(listener, PollFlags::IN)));
        let mood = wanted.load(Ordering::SeqCst);
        // What is slow is looked at by the clock.
        if mood == Mood::Silent as u8 || mood == Mood::Slow as u8 {
            continue;
        }
        for pair in &wire.pairs {
            for (side, end) in pair.ends.iter().enumerate() {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, !pair.ended[side] && pair.waiting[side].is_empty());
                flags.set(PollFlags::OUT, !pair.waiting[1 - side].is_empty());
                if !flags.is_empty() {
                    watched.push(PollFd::new(end, flags));
                }
            }
        }
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(STEP.subsec_nanos()) };
    // An interrupted wait is a short one.
    let _ = poll(&mut watched, Some(&timeout));
}

impl Wire {
    /// Accepts and carries; whether the mood holds.
    fn turn(&mut self, mood: u8) -> bool {
        if mood == Mood::Refused as u8 {
            self.listener = None;
        } else if self.listener.is_none() {
            let Ok(listener) = TcpListener::bind(self.near) else { return false };
            if listener.set_nonblocking(true).is_err() {
                return false;
            }
            self.listener = Some(listener);
        }
        while let Some(Ok((near, _))) = self.listener.as_ref().map(TcpListener::accept) {
            // Nobody there: the connection ends at once.
            self.pairs.extend(Pair::new(near, self.far).ok());
        }
        if mood == Mood::Silent as u8 {
            return true;
        }
        let most = if mood == Mood::Slow as u8 {
            if Instant::now() < self.breath {
                return true;
            }
            self.breath = Instant::now() + BREATH;
            SLOW * usize::try_from(BREATH.as_millis()).unwrap_or(1) / 1_000
        } else {
            HELD
        };
        self.pairs.retain_mut(|pair| pair.turn(most));
        true
    }
}

impl Pair {
    fn new(near: TcpStream, far: SocketAddr) -> std::io::Result<Self> {
        let far = TcpStream::connect_timeout(&far, FAR)?;
        for end in [&near, &far] {
            end.set_nodelay(true)?;
            end.set_nonblocking(true)?;
        }
        Ok(Self { ends: [near, far], waiting: [Vec::new(), Vec::new()], ended: [false; 2] })
    }

    /// Carries up to `most` bytes each way; whether there is more to come.
    fn turn(&mut self, most: usize) -> bool {
        let [near, far] = &mut self.ends;
        let [from_near, from_far] = &mut self.waiting;
        let [near_ended, far_ended] = &mut self.ended;
        let lives = push(near, far, from_near, near_ended, most) && push(far, near, from_far, far_ended, most);
        lives && !(self.ended == [true; 2] && self.waiting.iter().all(Vec::is_empty))
    }
}

/// One direction; `false` when the connection is broken.
fn push(from: &mut TcpStream, to: &mut TcpStream, waiting: &mut Vec<u8>, ended: &mut bool, most: usize) -> bool {
    let mut chunk = vec![0; most];
    if waiting.is_empty() && !*ended {
        match from.read(&mut chunk) {
            Ok(0) => *ended = true,
            Ok(count) => waiting.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if is_patience(&error) => {}
            Err(_) => return false,
        }
    }
    while !waiting.is_empty() {
        match to.write(waiting) {
            Ok(0) => return false,
            Ok(count) => drop(waiting.drain(..count)),
            Err(error) if is_patience(&error) => return true,
            Err(_) => return false,
        }
    }
    if *ended {
        // Fails when the other end is gone, and then nobody needs to be told.
        let _ = to.shutdown(Shutdown::Write);
    }
    true
}

fn is_patience(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Wires, SocketAddr, TcpListener) {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, to) = (near.local_addr().unwrap(), far.local_addr().unwrap());
        (Wires::new(vec![(near, to)]).unwrap(), address, far)
    }

    #[test]
    fn what_a_silent_link_was_given_arrives_when_it_speaks_again() {
        let (wires, address, far) = pair();
        let mut here = TcpStream::connect(address).unwrap();
        let (mut there, _) = far.accept().unwrap();
        wires.set(0, Mood::Silent);
        here.write_all(b"late").unwrap();
        there.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut bytes = [0; 4];
        assert!(there.read(&mut bytes).is_err(), "a silent link carries nothing");
        wires.set(0, Mood::Up);
        there.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        there.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"late");
    }

    #[test]
    fn a_refused_link_takes_nobody_new_and_an_end_that_closes_closes_the_other() {
        let (wires, address, far) = pair();
        let mut here = TcpStream::connect(address).unwrap();
        let (mut there, _) = far.accept().unwrap();
        wires.set(0, Mood::Refused);
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
        there.write_all(b"last words").unwrap();
        drop(there);
        let mut words = Vec::new();
        here.read_to_end(&mut words).unwrap();
        assert_eq!(words, b"last words");
        wires.set(0, Mood::Up);
        assert!(TcpStream::connect(address).is_ok());
    }

    #[test]
    fn a_slow_link_carries_no_more_than_it_may() {
        let (wires, address, far) = pair();
        let mut here = TcpStream::connect(address).unwrap();
        let (mut there, _) = far.accept().unwrap();
        wires.set(0, Mood::Slow);
        let began = Instant::now();
        here.write_all(&[7; SLOW]).unwrap();
        there.read_exact(&mut [0; SLOW]).unwrap();
        assert!(began.elapsed() >= BREATH * 8, "{:?}", began.elapsed());
    }
}
