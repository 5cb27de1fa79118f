//! What the log promises, from outside: through its doors and its folder.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail loudly")]

mod damage;
mod faults;
mod format;
mod kept;
mod power;
mod rig;
mod space;
mod unwritten;
