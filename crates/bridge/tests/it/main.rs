//! The bridge between two brokers on a virtual clock, and against peers that are none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "the rig is public to its sister modules")]

mod carry;
mod convoys;
mod cuts;
mod evil;
mod failback;
mod ladder;
mod loops;
mod rig;
mod steps;
mod terms;
