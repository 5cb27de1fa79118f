//! The end of a bridge's session at its remote, when the bridge could not end it itself: it was stopped, its link was down, or
//! what they spoke has no word for it.
//!
//! In: what the bridge dialled with. Out: one connection with a clean start and its end, which leaves nothing behind; or why
//! not. Each address is tried once. Must never: publish, or go on for longer than it may.

use std::time::Duration;

use tokio::time::timeout;
use viaduct_bridge::{Address, Settings};
use viaduct_codec::{Frame, Level, Packet, ReasonCode};
use viaduct_session::Output;
use viaduct_session::client::{Client, Event, Hello};

use super::BridgePlan;
use super::dial::dial;
use crate::limits::FAREWELL;
use crate::transport::Transport;
use crate::worker::Worker;

/// Bytes that a CONNACK may have.
const ANSWER: u32 = 64 * 1024;

/// Why an attempt did not do it.
enum Failed {
    /// Not at this level.
    Level(String),
    /// Not at this address.
    Address(String),
}

/// Ends the session of `plan`'s bridge at its remote, and says in the log whether that worked.
pub(super) async fn say(worker: &Worker, plan: &BridgePlan) {
    let name = &plan.settings.name;
    let why = match timeout(FAREWELL, end(worker, plan)).await {
        Ok(Ok(address)) => return tracing::info!("bridge \"{name}\": its session at {address} is ended"),
        Ok(Err(why)) => why,
        Err(_) => format!("it took longer than {} s", FAREWELL.as_secs()),
    };
    tracing::warn!(
        "bridge \"{name}\": its session at the remote could not be ended and stays until it expires there: {why}"
    );
}

async fn end(worker: &Worker, plan: &BridgePlan) -> Result<Address, String> {
    let settings = &plan.settings;
    let mut last = "there is no address".to_owned();
    for address in &settings.addresses {
        for level in settings.protocol.ladder(settings.try_private) {
            let attempt = match dial(address, &plan.way).await {
                Ok(transport) => visit(worker, settings, level, transport, plan.way.step).await,
                Err(error) => Err(Failed::Address(format!("{error:?}"))),
            };
            match attempt {
                Ok(()) => return Ok(address.clone()),
                Err(Failed::Level(why)) => last = why,
                Err(Failed::Address(why)) => {
                    last = why;
                    break;
                }
            }
        }
    }
    Err(last)
}

/// CONNECT with a clean start and no expiry, CONNACK, DISCONNECT: what was kept is given up, and nothing new is.
async fn visit(
    worker: &Worker,
    settings: &Settings,
    level: Level,
    mut transport: Transport,
    step: Duration,
) -> Result<(), Failed> {
    let hello = Hello {
        level,
        client_id: settings.client_id.clone(),
        clean_start: true,
        keep_alive: settings.keep_alive,
        session_expiry: 0,
        receive_maximum: 1,
        maximum_packet_size: ANSWER,
        topic_alias_maximum: 0,
        max_inflight: 1,
        server_packet_size: u32::MAX,
        username: settings.username.clone(),
        password: settings.password.clone(),
        will: None,
    };
    let (mut client, mut output) = (Client::new(), Output::default());
    client.connect(worker.now(), &hello, &mut output);
    write(&mut transport, &mut output)?;
    let bytes = match timeout(step, read(&mut transport)).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(Failed::Address("no CONNACK in time".to_owned())),
    };
    let frame = Frame::split(&bytes, ANSWER).ok().flatten();
    let packet = frame.and_then(|frame| Packet::decode(frame, level.version()).ok());
    let heard = packet.and_then(|packet| client.handle(worker.now(), packet, &mut output).ok());
    match heard {
        Some(Event::Connack(connack)) if connack.reason == ReasonCode::SUCCESS => {
            client.end_session(&mut output);
            write(&mut transport, &mut output)?;
            transport.shut_down();
            Ok(())
        }
        Some(Event::Connack(connack)) if connack.reason != ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => {
            Err(Failed::Address(format!("the remote refuses CONNECT: {}", connack.reason)))
        }
        _ => Err(Failed::Level(format!("the remote does not take level {level}"))),
    }
}

/// All of it at once: it is little, and the socket is empty.
fn write(transport: &mut Transport, output: &mut Output) -> Result<(), Failed> {
    let failed = |error: std::io::Error| Failed::Address(error.to_string());
    while !output.is_empty() {
        let taken = transport.try_write(output.unsent()).map_err(failed)?;
        output.advance(taken);
    }
    transport.try_flush().map_err(failed)
}

/// The first packet.
async fn read(transport: &mut Transport) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let mut piece = [0; 512];
    loop {
        match std::future::poll_fn(|cx| transport.poll_read(cx, &mut piece)).await {
            Ok(0) => return Err(Failed::Level("the remote closes the connection".to_owned())),
            Ok(read) => bytes.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(error) => return Err(Failed::Level(error.to_string())),
        }
        match Frame::split(&bytes, ANSWER) {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(bytes),
            Err(error) => return Err(Failed::Level(error.to_string())),
        }
    }
}
