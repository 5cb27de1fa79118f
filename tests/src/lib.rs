//! The harness of the black-box suites: real processes, real sockets, and waits that are for a condition.
//!
//! In: a configuration text, a script of packets. Out: a running broker ([`Broker`], [`Mosquitto`]), clients that say
//! exactly what they are told ([`Raw`]) or speak MQTT properly ([`Client`]), certificates ([`Certs`]), and a link that can
//! be cut ([`Proxy`]). Must never: name a crate of the broker beyond the codec, sleep for a fixed time in the hope that
//! something has happened by then, or leave a process behind.
//!
//! Everything here panics when it can't go on: that is how a test fails. A broker prints its log when it is dropped by
//! a panicking test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test harness fails by panicking")]

pub mod api;
mod binary;
mod bridge;
mod broker;
mod certs;
mod client;
mod doorman;
mod gateway;
mod hex;
mod http;
mod metrics;
mod mosquitto;
mod peer;
mod port;
mod process;
mod proxy;
mod raw;
mod run;
mod scram;
mod scripted;
mod stream;
mod template;
mod wait;
mod websocket;

pub use binary::viaduct;
pub use bridge::{Drill, Outcome, Tally, publish_numbers};
pub use broker::Broker;
pub use certs::{Certs, Identity};
pub use client::{Client, Entry, Event, Hello, Message, Outgoing, Welcome, WillMessage};
pub use gateway::{Gate, Gateway, Login};
pub use hex::{bytes, hex};
pub use http::{Response, get, request, send};
pub use mosquitto::Mosquitto;
pub use peer::{Peer, Verdict};
pub use port::Port;
pub use process::{Process, Signal};
pub use proxy::{Link, Proxy};
pub use raw::Raw;
pub use run::{Finished, check_tool, run, run_viaduct, run_viaduct_on};
pub use scram::{Finale, Scram};
pub use scripted::{Heard, Note, REFUSE_LEVEL, Reply, Scripted, connack};
pub use stream::Stream;
pub use wait::{DEADLINE, eventually, eventually_within, until};
pub use websocket::{Frames, client_frame, read_frame, read_head, upgrade_request};

pub use viaduct_codec as codec;
