//! The seeded simulator: brokers, bridges, clients and the network between them on one virtual clock, and an oracle that
//! knows what everyone is owed.
//!
//! In: a seed. Out: the same run for the same seed, byte for byte, and every promise that was broken in it. No socket, no
//! thread, no real time: an hour of trouble takes milliseconds. The engines and bridges are the real ones; the clients
//! (`client`) and the account of what is owed (`oracle`) are written from the standard and share nothing with them but
//! the codec.

#![allow(clippy::panic, reason = "a simulation that is held wrong is to fail at once")]

mod acting;
mod bridging;
mod broker;
mod client;
mod disk;
mod link;
mod network;
mod oracle;
mod payload;
mod pipe;
mod plan;
mod rest;
mod rng;
mod sabotage;
mod serving;
mod topics;
mod trace;
mod words;
mod world;

use std::fmt;

use viaduct_codec::Time;

pub use oracle::{Promise, Violation};
pub use sabotage::Fault;
pub use world::Figures;

use plan::Plan;
use rng::Rng;
use sabotage::Saboteur;
use world::World;

/// When every run begins.
const START: Time = Time::from_millis(1_700_000_000_000);

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Keep what happens as lines.
    pub trace: bool,
    /// Something goes wrong on purpose.
    pub fault: Option<Fault>,
}

/// What a seed came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which seed.
    pub seed: u64,
    /// A number that is the same exactly when everything that happened is.
    pub hash: u64,
    /// What was broken; empty when all is well.
    pub violations: Vec<Violation>,
    /// How much happened.
    pub figures: Figures,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// Runs one seed from its beginning to its end.
#[must_use]
pub fn run(seed: u64, options: Options) -> Report {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng);
    let rounds = plan.rounds;
    let mut world = World::new(plan, rng, options.trace, options.fault.map(Saboteur::new));
    world.note(format_args!("{:?}", world.plan.clone()));
    rest::build(&mut world);
    for _ in 0..rounds {
        world.trouble();
        world.rest();
        if !world.oracle.violations.is_empty() {
            break;
        }
    }
    if world.oracle.violations.is_empty() {
        world.farewell();
    }
    let World { oracle, trace, mut figures, now, .. } = world;
    figures.arrived = oracle.arrived;
    figures.debts = oracle.debts;
    figures.virtual_ms = ms(now);
    let hash = trace.hash();
    Report { seed, hash, violations: oracle.violations, figures, trace: trace.into_lines() }
}

/// Virtual milliseconds since the start of the run.
fn ms(time: Time) -> u64 {
    u64::try_from(time.since(START).as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Report {
    /// One line: the command that runs the seed again, and what was broken first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo xtask sim --seed {}", self.seed)?;
        match self.violations.first() {
            Some(first) => write!(f, "  # {:?} at {} ms: {}", first.promise, first.at, first.what),
            None => write!(f, "  # all is well"),
        }
    }
}
