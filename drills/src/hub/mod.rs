//! The drill of the hub: one broker, many bridges, and edges that have every trouble there is.
//!
//! In: how long, how many edges. Out: figures, and every promise that was broken:
//!
//! - no bridge but those whose edge has trouble sees a gap, or connects again;
//! - a bridge whose edge is well again carries within its back-off;
//! - what was acknowledged arrives, in order; what is doubled was in the way of a trouble;
//! - processor time and memory of the hub are at the end what they were at the beginning.

mod certificates;
mod crowd;
mod edge;
mod figures;
mod namespace;
mod setting;
mod trouble;
mod wire;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::judge::{Breach, Promise};
use crate::report::{Outcome, tell};
use crate::rng::Rng;
use crate::server::Server;

use certificates::Certificates;
use crowd::{Crowd, PACE};
use edge::Edge;
use figures::{Figures, Window};
use trouble::{Kind, State};
use wire::Wires;

/// The longest wait for one event; sends are due more often.
const TURN: Duration = Duration::from_millis(2);
/// What everything that is not a trouble may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// A gap that is no gap: the pace, and what a machine that is busy with other things may take away from a process.
const GAP: Duration = Duration::from_secs(2);
/// Windows below this are too short for their processor time to say anything.
const TELLING: Duration = Duration::from_secs(20);
/// Above this, a run is a long one, with long troubles.
const LONG: Duration = Duration::from_secs(120);

/// Everything.
pub(crate) struct Hub {
    server: Server,
    edges: Vec<Edge>,
    states: Vec<State>,
    wires: Wires,
    crowd: Crowd,
    rng: Rng,
    certificates: Certificates,
    figures: Figures,
    /// Troubles that come next, so that each has its turn.
    kinds: VecDeque<Kind>,
    /// How long a trouble lasts, in milliseconds.
    lasts: (u64, u64),
}

/// Sets everything up, lets there be trouble, compares.
///
/// # Errors
/// The drill can't go on.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> Result<Outcome, String> {
    let mut hub = setting::set_up(arguments, folder)?;
    println!("{}", hub.figures.setting);
    let result = hub.run(arguments.length);
    let mut breaches = std::mem::take(&mut hub.crowd.breaches);
    hub.judge(&mut breaches);
    tell(&breaches);
    println!("{}", hub.figures);
    result?;
    Ok(Outcome::of(breaches.is_empty()))
}

impl Hub {
    /// # Errors
    /// The drill can't go on.
    fn run(&mut self, length: Duration) -> Result<(), String> {
        for edge in &mut self.edges {
            edge.spawn()?;
        }
        self.server.start()?;
        self.until("everybody is connected", |hub| Ok(hub.crowd.is_ready()))?;
        self.until("every bridge is up", |hub| Ok(hub.up()? == hub.edges.len()))?;
        self.crowd.is_sending = true;
        self.until("every stream flows", |hub| Ok(hub.crowd.streams().iter().all(|stream| stream.reached() > 0)))?;
        for edge in 0..self.edges.len() {
            self.crowd.excuse(edge, false);
        }
        self.crowd.longest_turn = Duration::ZERO;
        self.settle_snapshots()?;
        let calm = (length / 10).clamp(Duration::from_secs(3), Duration::from_secs(60));
        self.figures.begin = self.window(calm)?;
        self.trouble(length.saturating_sub(2 * calm))?;
        self.figures.end = self.window(calm)?;
        self.compare_snapshots()?;
        self.crowd.is_sending = false;
        for edge in 0..self.edges.len() {
            self.crowd.excuse(edge, true);
        }
        // What is still owed then is for the judge.
        let _ = self.until("everything has arrived", |hub| Ok(hub.crowd.owed() == 0));
        self.server.stop()
    }

    /// Nothing is wrong with anything for so long.
    fn window(&mut self, length: Duration) -> Result<Window, String> {
        let before = self.server.cost()?;
        let began = Instant::now();
        while began.elapsed() < length {
            self.turn()?;
        }
        let after = self.server.cost()?;
        let processor = after.processor.saturating_sub(before.processor);
        Ok(Window { took: began.elapsed(), processor, memory: after.memory, peak: after.peak })
    }

    fn turn(&mut self) -> Result<(), String> {
        self.crowd.turn(TURN);
        match self.server.ended() {
            Some(status) => Err(format!("the hub ended by itself with {status}:\n{}", self.server.last_words())),
            None => Ok(()),
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Result<bool, String>) -> Result<(), String> {
        let began = Instant::now();
        let mut next = began;
        loop {
            // Some conditions cost a request.
            if Instant::now() >= next {
                if done(self)? {
                    return Ok(());
                }
                next = Instant::now() + PACE;
            }
            if began.elapsed() > DEADLINE {
                return Err(format!("in vain: {what}\n{}", self.server.last_words()));
            }
            self.turn()?;
        }
    }

    /// How many bridges are up.
    fn up(&mut self) -> Result<usize, String> {
        let text = self.server.metrics()?;
        Ok(text.lines().filter(|line| line.starts_with("viaduct_bridge_up{") && line.ends_with(" 1")).count())
    }

    /// What is wrong in the end.
    fn judge(&mut self, breaches: &mut Vec<Breach>) {
        let allowed = GAP + self.crowd.longest_turn;
        for stream in self.crowd.streams() {
            let mut say =
                |promise, what: String| breaches.push(Breach::new(promise, format!("{}: {what}", stream.topic)));
            for number in stream.lost() {
                say(Promise::Lost, format!("message {number} was acknowledged and has not arrived"));
            }
            if stream.doubled_well > 0 {
                say(Promise::Doubled, format!("{} messages twice, and nothing was wrong", stream.doubled_well));
            }
            if stream.largest_gap > allowed {
                say(Promise::Gap, format!("a gap of {:?} while nothing was wrong with its edge", stream.largest_gap));
            }
            breaches.extend(stream.disorder());
            self.figures.count(stream);
        }
        self.figures.longest_turn = self.crowd.longest_turn;
        let (begin, end) = (&self.figures.begin, &self.figures.end);
        if begin.took >= TELLING && end.rate() > begin.rate() * 1.5 + 0.5 {
            let what =
                format!("{:.2} s of processor a minute at the end, {:.2} s at the beginning", end.rate(), begin.rate());
            breaches.push(Breach::new(Promise::Flat, what));
        }
        if end.memory > begin.memory + begin.memory / 2 + (32 << 20) {
            let what = format!("{} bytes of memory at the end, {} at the beginning", end.memory, begin.memory);
            breaches.push(Breach::new(Promise::Flat, what));
        }
    }
}
