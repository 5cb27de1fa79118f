//! A long backlog: sessions that are away are owed many messages, the server ends and starts again, and their clients come back.
//!
//! Viaduct is killed (SIGKILL); mosquitto, which saves every half hour and when it is asked to end, is asked (SIGTERM). Every
//! message that a client gets back is looked at: all of them, in order, once.

use std::io;
use std::time::{Duration, Instant};

use crate::frame::{self, Publish};
use crate::link::{self, Link, Scratch};
use crate::machine::{self, Resident};
use crate::offline::{self, Fill, Offline, Until};
use crate::poll::Poll;
use crate::server::Running;
use crate::tally::{self, Tally};

/// Publishers that queue it.
const PUBLISHERS: usize = 100;
/// After so long without a message the rest is taken as lost.
const DEAD: Duration = Duration::from_secs(10);

/// How it is shared out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) sessions: usize,
}

/// What that brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// From the start of the process to its being ready.
    pub(crate) until_ready: Duration,
    /// Messages queued a second.
    pub(crate) queued: f64,
    /// Messages delivered a second.
    pub(crate) drained: f64,
    /// Bytes above a server that has nothing to keep: as soon as it is ready, and at most while the clients take theirs.
    pub(crate) at_rest: f64,
    pub(crate) peak: f64,
    pub(crate) lost: u64,
    pub(crate) behind: u64,
}

impl Backlog {
    /// Runs with `messages` against a server that has nothing yet.
    pub(crate) fn run(&self, server: &mut Running, messages: u64) -> io::Result<Outcome> {
        let idle = Resident::of(server.pid())?.now;
        (0..self.sessions).try_for_each(|number| offline::leave(server.address, number))?;
        let mut fill = Fill::new(server.address, Offline { publishers: PUBLISHERS, sessions: self.sessions })?;
        let took = fill.run(Until::Sent(messages))?;
        let sent = std::mem::take(&mut fill.sent);
        drop(fill);
        let until_ready = server.start_again()?;
        let at_rest = Resident::of(server.pid())?.now;
        machine::forget_peak(server.pid())?;
        let (tallies, drained) = drain(server, &sent)?;
        let peak = Resident::of(server.pid())?.peak;
        let above = |bytes: u64| bytes.saturating_sub(idle) as f64;
        Ok(Outcome {
            until_ready,
            queued: messages as f64 / took.as_secs_f64(),
            drained: messages as f64 / drained.as_secs_f64().max(f64::MIN_POSITIVE),
            at_rest: above(at_rest),
            peak: above(peak),
            lost: tallies.iter().zip(&sent).map(|(tally, sent)| tally.lost(*sent)).sum(),
            behind: tallies.iter().map(|tally| tally.behind).sum(),
        })
    }
}

/// Brings the clients of all sessions back and lets them take what waits.
fn drain(server: &Running, sent: &[u64]) -> io::Result<(Vec<Tally>, Duration)> {
    let poll_error = |number: usize| io::Error::other(format!("there is no session {number}"));
    let mut poll = Poll::new()?;
    let (mut links, mut tallies) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    for number in 0..sent.len() {
        let link = Link::on(link::dial(server.address, None)?, &offline::client_id(number), None, true)?;
        poll.add(&link, number)?;
        links.push(link);
        tallies.push(Tally::new(PUBLISHERS));
    }
    let (mut scratch, mut ready, mut last) = (Scratch::new(), Vec::new(), Instant::now());
    let is_over = |tallies: &[Tally]| tallies.iter().zip(sent).all(|(tally, sent)| tally.progress >= *sent);
    while !is_over(&tallies) && last.elapsed() < DEAD {
        poll.wait(Some(Duration::from_millis(10)), &mut ready)?;
        for each in &ready {
            let number = each.token;
            let (Some(link), Some(tally)) = (links.get_mut(number), tallies.get_mut(number)) else {
                return Err(poll_error(number));
            };
            link.read(&mut scratch, |frame, answers| {
                if frame.kind() == frame::PUBLISH {
                    let publish = Publish::read(frame).ok_or(frame::Malformed)?;
                    let (from, sequence) = tally::read(publish.payload).ok_or(frame::Malformed)?;
                    tally.take(from, sequence);
                    answers.extend(frame::acknowledgement(frame::PUBACK, publish.id));
                    last = Instant::now();
                }
                Ok(())
            })?;
        }
        links.iter_mut().try_for_each(Link::flush)?;
    }
    Ok((tallies, last.saturating_duration_since(begin)))
}
