//! QoS 1 to sessions whose clients are away: publishers with full windows, and how often they are told that it is safe.
//!
//! Publishers are dealt to topics in turn, and each topic has one session that hears it. Each publisher keeps as many messages
//! unacknowledged as it may. Measured by turns with the same bytes appended and synced without a broker, so that what else
//! happens to the disk meets all of them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bare;
use crate::frame;
use crate::link::{self, Link, Scratch};
use crate::machine::Usage;
use crate::poll::{Poll, Ready};
use crate::server::Running;
use crate::tally;

/// Unacknowledged messages of one publisher: `limits.receive_maximum`.
const IN_FLIGHT: usize = 100;
/// After so long without an acknowledgement nothing more is expected.
const DEAD: Duration = Duration::from_secs(20);
/// How often broker and bare loops take turns.
const TURNS: u32 = 4;
/// Payload, which is also that of a backlog.
pub(crate) const PAYLOAD: usize = 200;

/// Who sends to how many sessions that are away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offline {
    pub(crate) publishers: usize,
    pub(crate) sessions: usize,
}

/// What that brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Acknowledged messages.
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    pub(crate) usage: Usage,
    /// Only of who says so.
    pub(crate) beside: Option<Beside>,
}

/// What the store did for a message, and what the disk does for a bare loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    pub(crate) syncs: f64,
    pub(crate) bytes: f64,
    /// Messages a second if groups of the same bytes are appended and synced bare.
    pub(crate) same_groups: f64,
    /// If each message is synced alone.
    pub(crate) one_each: f64,
}

impl Offline {
    /// Runs against a server; `cores` are where its disk work would be done without it.
    pub(crate) fn run(
        &self,
        server: &Running,
        cores: &[usize],
        warm_up: Duration,
        time: Duration,
    ) -> io::Result<Outcome> {
        (0..self.sessions).try_for_each(|number| leave(server.address, number))?;
        let mut fill = Fill::new(server.address, *self)?;
        fill.run(Until::Time(warm_up))?;
        let mut whole = Outcome { messages: 0, elapsed: Duration::ZERO, usage: Usage::default(), beside: None };
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            let (stored, usage) = (server.store()?, server.usage()?);
            let before = fill.acknowledged;
            let elapsed = fill.run(Until::Time(time / TURNS))?;
            whole.usage = whole.usage.and(server.usage()?.since(usage));
            let messages = fill.acknowledged - before;
            whole.messages += messages;
            whole.elapsed += elapsed;
            let (Some(first), Some(last)) = (stored, server.store()?) else { continue };
            let (syncs, bytes, count) = (last.syncs - first.syncs, last.bytes - first.bytes, messages.max(1) as f64);
            let alone = |bytes: f64| bare::groups_a_second(server.folder(), cores, bytes as usize, time / TURNS);
            turns.push(Beside {
                syncs,
                bytes,
                same_groups: alone(bytes / syncs.max(1.0))? * count / syncs.max(1.0),
                one_each: alone(bytes / count)?,
            });
        }
        let sum = |pick: fn(&Beside) -> f64| turns.iter().map(pick).sum::<f64>();
        let (messages, count) = (whole.messages.max(1) as f64, turns.len() as f64);
        whole.beside = (!turns.is_empty()).then(|| Beside {
            syncs: sum(|turn| turn.syncs) / messages,
            bytes: sum(|turn| turn.bytes) / messages,
            same_groups: sum(|turn| turn.same_groups) / count,
            one_each: sum(|turn| turn.one_each) / count,
        });
        Ok(whole)
    }
}

/// The session whose client is away.
pub(crate) fn client_id(number: usize) -> String {
    format!("away-{number:04}")
}

/// What it hears.
pub(crate) fn topic(number: usize) -> String {
    format!("b/{number:04}")
}

/// Makes a session that outlives its connection, and returns when the server has closed that.
pub(crate) fn leave(address: SocketAddr, number: usize) -> io::Result<()> {
    let mut stream = link::dial(address, None)?;
    stream.write_all(&frame::connect(&client_id(number), true))?;
    link::expect(&mut stream, frame::CONNACK)?;
    stream.write_all(&frame::subscribe(&topic(number), 1))?;
    link::expect(&mut stream, frame::SUBACK)?;
    stream.write_all(&frame::DISCONNECT)?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Ok(_) => Err(io::Error::other("something came after DISCONNECT")),
        Err(error) => Err(error),
    }
}

/// When a fill ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Time(Duration),
    /// So many messages were sent since the fill began.
    Sent(u64),
}

struct Publisher {
    link: Link,
    topic: usize,
    frame: Vec<u8>,
    sent: u64,
    open: usize,
}

/// Publishers that keep their windows full.
pub(crate) struct Fill {
    publishers: Vec<Publisher>,
    poll: Poll,
    ready: Vec<Ready>,
    scratch: Scratch,
    payload_at: usize,
    /// Messages to each topic.
    pub(crate) sent: Vec<u64>,
    pub(crate) acknowledged: u64,
    turn: usize,
}

impl Fill {
    /// Connects the publishers. A message's place is counted by publisher.
    pub(crate) fn new(address: SocketAddr, offline: Offline) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut publishers = Vec::new();
        for number in 0..offline.publishers {
            let topic_number = number % offline.sessions;
            let link = Link::connect(address, &format!("pub-{number}"), None)?;
            poll.add(&link, number)?;
            let frame = frame::publish(&topic(topic_number), 1, PAYLOAD);
            publishers.push(Publisher { link, topic: topic_number, frame, sent: 0, open: 0 });
        }
        let payload_at = publishers.first().map_or(0, |first| first.frame.len()) - PAYLOAD;
        Ok(Self {
            publishers,
            poll,
            ready: Vec::new(),
            scratch: Scratch::new(),
            payload_at,
            sent: vec![0; offline.sessions],
            acknowledged: 0,
            turn: 0,
        })
    }

    fn all_sent(&self) -> u64 {
        self.sent.iter().sum()
    }

    /// Sends until then and waits for every acknowledgement; how long it took until the last.
    pub(crate) fn run(&mut self, until: Until) -> io::Result<Duration> {
        let begin = Instant::now();
        let mut last_sign = begin;
        let mut is_sending = true;
        loop {
            is_sending &= match until {
                Until::Time(time) => begin.elapsed() < time,
                Until::Sent(count) => self.all_sent() < count,
            };
            if is_sending {
                let room = if let Until::Sent(count) = until { count - self.all_sent() } else { u64::MAX };
                self.write(room)?;
            }
            if self.read(Duration::from_millis(1))? {
                last_sign = Instant::now();
            }
            if !is_sending && self.publishers.iter().all(|publisher| publisher.open == 0) {
                return Ok(last_sign.saturating_duration_since(begin));
            }
            if last_sign.elapsed() > DEAD {
                return Err(io::Error::other("messages are acknowledged no more"));
            }
        }
    }

    /// Fills the windows with at most `room` messages.
    fn write(&mut self, mut room: u64) -> io::Result<()> {
        let count = self.publishers.len();
        self.turn += 1;
        for step in 0..count {
            let number = (self.turn + step) % count;
            let Some(publisher) = self.publishers.get_mut(number) else { continue };
            let Some(sent) = self.sent.get_mut(publisher.topic) else { continue };
            while publisher.open < IN_FLIGHT && room > 0 {
                let (head, payload) = publisher.frame.split_at_mut(self.payload_at);
                tally::stamp(payload, number as u32, publisher.sent);
                if let Some(id) = head.last_chunk_mut::<2>() {
                    *id = ((publisher.sent % u64::from(u16::MAX)) as u16 + 1).to_be_bytes();
                }
                publisher.link.queue().extend_from_slice(&publisher.frame);
                *sent += 1;
                publisher.sent += 1;
                publisher.open += 1;
                room -= 1;
            }
            publisher.link.flush()?;
        }
        Ok(())
    }

    /// Takes the acknowledgements that are there; whether there was one.
    fn read(&mut self, patience: Duration) -> io::Result<bool> {
        self.poll.wait(Some(patience), &mut self.ready)?;
        let before = self.acknowledged;
        for ready in &self.ready {
            let Some(Publisher { link, open, .. }) = self.publishers.get_mut(ready.token) else { continue };
            let acknowledged = &mut self.acknowledged;
            link.read(&mut self.scratch, |frame, _| {
                if frame.kind() == frame::PUBACK {
                    *open = open.saturating_sub(1);
                    *acknowledged += 1;
                }
                Ok(())
            })?;
        }
        Ok(self.acknowledged > before)
    }
}
