//! CONNECT and what comes of it, without a bridge: for `bridge check`, for probes of an address that is to be taken again, and for
//! the end of a session that the bridge could not end itself.
//!
//! In: an address, the way to it, a level. Out: what the remote makes of it. The session is clean and ends with the
//! connection. Must never: publish, or keep more of an answer than a bounded packet.

use std::io;

use tokio::time::timeout;
use viaduct_bridge::{Address, DialError, Probed, Settings};
use viaduct_codec::{
    Connack, Connect, ConnectProperties, Disconnect, Frame, Level, Looks, Packet, ReasonCode, UserProperties,
};

use super::dial::{self, Way};
use crate::tls;
use crate::transport::Transport;

/// Bytes that an answer may have: far more than any CONNACK or SUBACK, far less than what hurts.
pub(super) const ANSWER: u32 = 64 * 1024;

/// What became of one CONNECT.
pub(super) enum Answer {
    Accepted(Box<Transport>),
    /// CONNACK with this reason.
    Refused(ReasonCode),
    /// Something that is no MQTT.
    NotMqtt(Looks),
    Closed,
    Silent,
    Dial(DialError),
    Other(String),
}

/// Dials, says CONNECT at `level` as `client_id`, and reads the answer.
pub(super) async fn greet(settings: &Settings, address: &Address, way: &Way, level: Level, client_id: &str) -> Answer {
    let mut transport = match dial::dial(address, way).await {
        Ok(transport) => transport,
        Err(error) => return Answer::Dial(error),
    };
    let connect = Connect {
        level,
        clean_start: true,
        keep_alive: settings.keep_alive,
        client_id,
        will: None,
        username: settings.username.as_deref(),
        password: settings.password.as_deref(),
        properties: ConnectProperties::default(),
    };
    let mut bytes = Vec::new();
    if let Err(error) = Packet::Connect(Box::new(connect)).encode(level.version(), &mut bytes) {
        return Answer::Other(format!("CONNECT can't be written: {error}"));
    }
    if let Err(error) = write(&mut transport, &bytes) {
        return Answer::Other(format!("writing failed: {error}"));
    }
    match timeout(way.step, read_packet(&mut transport)).await.unwrap_or(Err(Answer::Silent)) {
        Ok(bytes) => connack(level, &bytes, transport),
        Err(answer) => answer,
    }
}

/// Whether `address` would take the bridge, as far as one who is not the bridge can find out.
pub(super) async fn probe(settings: &Settings, address: &Address, way: &Way, levels: &[Level]) -> Probed {
    let client_id = format!("{}.probe", settings.client_id);
    match visit(settings, address, way, levels, &client_id).await {
        Ok(()) => Probed::Healthy,
        Err(Answer::Refused(reason @ (ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY))) => {
            Probed::Failed(reason.to_string())
        }
        Err(Answer::Refused(reason)) if reason != ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => Probed::Refused(reason),
        Err(answer) => Probed::Failed(answer.words(address, way)),
    }
}

/// Comes as `client_id` at the first of `levels` that `address` takes, and leaves again.
///
/// # Errors
/// The last answer, when none is taken.
pub(super) async fn visit(
    settings: &Settings,
    address: &Address,
    way: &Way,
    levels: &[Level],
    client_id: &str,
) -> Result<(), Answer> {
    let mut last = Answer::Other("there is no level to try".to_owned());
    for level in levels {
        last = match greet(settings, address, way, *level, client_id).await {
            Answer::Accepted(mut transport) => {
                goodbye(*level, &mut transport);
                return Ok(());
            }
            // Neither the network nor a remote that has understood will be any better at another level.
            answer @ (Answer::Dial(_) | Answer::Silent) => return Err(answer),
            Answer::Refused(reason) if reason != ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => {
                return Err(Answer::Refused(reason));
            }
            answer => answer,
        };
    }
    Err(last)
}

impl Answer {
    /// For the log: why `address` did not take us.
    pub(super) fn words(self, address: &Address, way: &Way) -> String {
        match self {
            Self::Accepted(_) => "it is taken".to_owned(),
            Self::Refused(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION) => "no level is taken".to_owned(),
            Self::Refused(reason) => format!("CONNECT is refused: {reason}"),
            Self::NotMqtt(looks) => format!("it answers with {looks}"),
            Self::Closed => "it closes the connection".to_owned(),
            Self::Silent => "no CONNACK in time".to_owned(),
            Self::Dial(error) => error.at(&address.host, way.step).to_string(),
            Self::Other(what) => what,
        }
    }
}

/// Ends the clean session.
pub(super) fn goodbye(level: Level, transport: &mut Transport) {
    let disconnect = Disconnect {
        reason: ReasonCode::NORMAL_DISCONNECTION,
        session_expiry: None,
        reason_string: None,
        server_reference: None,
        user_properties: UserProperties::default(),
    };
    let mut bytes = Vec::new();
    if Packet::Disconnect(disconnect).encode(level.version(), &mut bytes).is_ok() {
        // The session was clean: it ends either way.
        let _ = write(transport, &bytes);
    }
    transport.shut_down();
}

/// All of it at once: it is little, and the socket is empty.
fn write(transport: &mut Transport, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let taken = transport.try_write(bytes)?;
        bytes = bytes.get(taken..).unwrap_or_default();
    }
    transport.try_flush()
}

/// One whole packet.
async fn read_packet(transport: &mut Transport) -> Result<Vec<u8>, Answer> {
    let mut buffer = Vec::new();
    let mut piece = vec![0; 4096];
    loop {
        let read = std::future::poll_fn(|cx| transport.poll_read(cx, &mut piece)).await;
        match read {
            Ok(0) => return Err(Answer::Closed),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Answer::Closed),
            Err(error) => {
                let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                return Err(match tls {
                    Some(error) => Answer::Dial(DialError::Tls(tls::failure(error))),
                    None => Answer::Other(format!("reading failed: {error}")),
                });
            }
            Ok(read) => buffer.extend_from_slice(piece.get(..read).unwrap_or_default()),
        }
        match Frame::split(&buffer, ANSWER) {
            Ok(_) if !buffer.first().is_some_and(|byte| matches!(byte >> 4, 2 | 9 | 14)) => {
                return Err(Answer::NotMqtt(Looks::like(&buffer)));
            }
            Ok(Some(frame)) => return Ok(frame.bytes.to_vec()),
            Ok(None) => {}
            Err(_) => return Err(Answer::NotMqtt(Looks::like(&buffer))),
        }
    }
}

fn connack(level: Level, bytes: &[u8], transport: Transport) -> Answer {
    // A 3.x broker answers CONNECT of 5.0 in its own words.
    if let [0x20, 2, _, code] = bytes
        && let Some(reason) = ReasonCode::from_return_code(*code).filter(|reason| reason.is_error())
    {
        return Answer::Refused(reason);
    }
    let packet = match Frame::split(bytes, u32::MAX) {
        Ok(Some(frame)) => Packet::decode(frame, level.version()),
        _ => return Answer::NotMqtt(Looks::like(bytes)),
    };
    match packet {
        Ok(Packet::Connack(connack)) => match *connack {
            Connack { reason: ReasonCode::SUCCESS, .. } => Answer::Accepted(Box::new(transport)),
            Connack { reason, .. } => Answer::Refused(reason),
        },
        Ok(_) => Answer::Other("what comes is no CONNACK".to_owned()),
        Err(error) => Answer::Other(error.to_string()),
    }
}
