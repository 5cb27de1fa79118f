//! What one end of a conversation promises, as byte scripts against the server's end, against the client's end, and
//! with both ends on one virtual wire. One file per topic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that holds it wrong is to fail at once")]

mod admit;
mod aliases;
mod broker;
mod client;
mod dialer;
mod expiry;
mod flow_control;
mod keepalive;
mod max_packet_size;
mod operations;
mod qos1;
mod qos2;
mod queue;
mod relay;
mod resume;
mod violations;
mod will;
