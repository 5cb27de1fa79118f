//! Short words for tests: a whole broker of one or more workers on a virtual clock, and clients that are byte scripts.
//!
//! Bridges can be hung between such brokers.
//!
//! In: what clients send, and how much time passes. Out: the packets that each client got. No socket, no thread and no
//! real time, so that a delay of hours is tested in microseconds and every run is the same run.

#![allow(clippy::panic, reason = "a test that holds it wrong is to fail at once")]

mod client;
mod ground;
mod spans;
mod world;

pub use client::{Client, Got};
pub use ground::{
    FaultyHearers, FaultyOwners, Ground, HearerScript, HearerTrouble, OwnerScript, OwnerTrouble, on, on_every_ground,
};
pub use spans::{Link, Spans};
pub use world::{World, connect, open_log, subscribe};
