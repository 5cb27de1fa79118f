//! CONNECT and what comes of it, without a bridge: for `bridge check`, for probes of an address that is to be taken again, for
//! the end of a session that the bridge could not end itself, and to ask a remote which bridges it has.
//!
//! In: an address, the way to it, a level. Out: what the remote makes of it, or says. The session is clean and ends with the
//! connection. Must never: publish, or keep more of an answer than a bounded packet.

use std::io;

use tokio::time::timeout;
use viaduct_bridge::{Address, DialError, Probed, Refusal, Settings};
use viaduct_codec::{
    Connack, Connect, ConnectProperties, Disconnect, FilterRef, Frame, Level, Looks, Packet, PacketId, ReasonCode,
    Subscribe, SubscribeEntry, SubscribeOptions, TopicName, UserProperties,
};

use super::dial::{self, Way};
use crate::guests::{Met, state_topic};
use crate::limits::GUESTS_ASKED;
use crate::tls;
use crate::transport::Transport;

/// Bytes that an answer may have: far more than any CONNACK or SUBACK, far less than what hurts.
pub(super) const ANSWER: u32 = 64 * 1024;

/// What became of one CONNECT.
pub(super) enum Answer {
    Accepted(Box<Transport>),
    /// CONNACK that says no.
    Refused(Refusal),
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
    match timeout(way.step, read_packet(&mut transport, &mut Vec::new())).await.unwrap_or(Err(Answer::Silent)) {
        Ok(bytes) => connack(level, &bytes, transport),
        Err(answer) => answer,
    }
}

/// Who looks whether the first address is healthy. Each who comes beside the bridge has a ClientID of its own: of two that come as one, one
/// is thrown out.
pub(super) fn probe_id(settings: &Settings) -> String {
    format!("{}.probe", settings.client_id)
}

/// Who asks the remote whose the guests here are.
pub(super) fn asker_id(settings: &Settings) -> String {
    format!("{}.asks", settings.client_id)
}

/// Whether `address` would take the bridge and would not have it end because of a guest, as far as one who is not the bridge can find
/// out. `met`: those that the bridge would meet there, by the level that is spoken.
pub(super) async fn probe(
    settings: &Settings,
    address: &Address,
    way: &Way,
    levels: &[Level],
    met: impl FnOnce(Level) -> Vec<Met>,
) -> Probed {
    let client_id = probe_id(settings);
    match visit(settings, address, way, levels, &client_id).await {
        Ok((level, transport)) => match ask(settings, way, level, transport, &met(level)).await {
            Whose::Its(found) => Probed::LinksBack(found.words()),
            Whose::NotIts | Whose::Unknown(_) => Probed::Healthy,
        },
        Err(Answer::Refused(refusal)) => match refusal.reason {
            ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY => Probed::Failed(refusal.to_string()),
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => Probed::Failed(Answer::Refused(refusal).words(address, way)),
            reason => Probed::Refused(reason),
        },
        Err(answer) => Probed::Failed(answer.words(address, way)),
    }
}

/// Comes as `client_id` at the first of `levels` that `address` takes.
///
/// # Errors
/// The last answer, when none is taken.
pub(super) async fn visit(
    settings: &Settings,
    address: &Address,
    way: &Way,
    levels: &[Level],
    client_id: &str,
) -> Result<(Level, Transport), Answer> {
    let mut last = Answer::Other("there is no level to try".to_owned());
    for level in levels {
        last = match greet(settings, address, way, *level, client_id).await {
            Answer::Accepted(transport) => return Ok((*level, *transport)),
            // Neither the network nor a remote that has understood will be any better at another level.
            answer @ (Answer::Dial(_) | Answer::Silent) => return Err(answer),
            Answer::Refused(refusal) if refusal.reason != ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => {
                return Err(Answer::Refused(refusal));
            }
            answer => answer,
        };
    }
    Err(last)
}

/// What a broker says of the bridges that it was asked about.
pub(super) enum Whose {
    /// It has this one.
    Its(Met),
    /// It has none of them, or does not say so.
    NotIts,
    /// It could not be asked; why.
    Unknown(String),
}

/// Whether one of `met` is a bridge of the broker at `address`: a broker keeps the state of the bridges that it has, retained and
/// under the ClientID that they have elsewhere. Asks as `client_id`.
///
/// # Errors
/// The way there failed, as it would for the bridge.
pub(super) async fn whose(
    settings: &Settings,
    address: &Address,
    way: &Way,
    level: Level,
    client_id: &str,
    met: &[Met],
) -> Result<Whose, DialError> {
    if met.is_empty() || !settings.remote.dollar_topics {
        return Ok(Whose::NotIts);
    }
    match greet(settings, address, way, level, client_id).await {
        Answer::Accepted(transport) => Ok(ask(settings, way, level, *transport, met).await),
        Answer::Dial(error) => Err(error),
        answer => Ok(Whose::Unknown(answer.words(address, way))),
    }
}

/// As [`whose`], of a remote that has taken CONNECT; ends that connection.
async fn ask(settings: &Settings, way: &Way, level: Level, mut transport: Transport, met: &[Met]) -> Whose {
    let met = if settings.remote.dollar_topics { met } else { &[] };
    let at_once =
        settings.remote.filters_per_packet.map_or(GUESTS_ASKED, |most| usize::from(most).clamp(1, GUESTS_ASKED));
    let look = async {
        let mut buffer = Vec::new();
        for some in met.chunks(at_once) {
            match hear_states(&mut transport, &mut buffer, level, some).await {
                Some(Whose::NotIts) => {}
                Some(found) => return found,
                None => return Whose::Unknown("it closes the connection or says what can't be read".to_owned()),
            }
        }
        Whose::NotIts
    };
    // All of them in one step: the dial that waits for it has a bound.
    let found = timeout(way.step, look).await;
    goodbye(level, &mut transport);
    found.unwrap_or_else(|_| Whose::Unknown("it does not answer in time".to_owned()))
}

/// Whether one of them has a state that is 1; `None` when the connection ends before it is known.
async fn hear_states(transport: &mut Transport, buffer: &mut Vec<u8>, level: Level, met: &[Met]) -> Option<Whose> {
    let topics: Vec<String> = met.iter().map(|one| state_topic(one.client_id.as_str())).collect();
    // A ClientID with a wildcard in it makes no topic.
    let filters = topics.iter().filter(|topic| TopicName::new(topic).is_ok());
    let entries = filters.filter_map(|topic| {
        Some(SubscribeEntry { filter: FilterRef::new(topic).ok()?, options: SubscribeOptions::default() })
    });
    let entries: Vec<_> = entries.collect();
    if entries.is_empty() {
        return Some(Whose::NotIts);
    }
    let subscribe = Subscribe {
        packet_id: PacketId::new(1)?,
        entries,
        subscription_id: None,
        user_properties: UserProperties::default(),
    };
    let mut bytes = Vec::new();
    Packet::Subscribe(subscribe).encode(level.version(), &mut bytes).ok()?;
    Packet::Pingreq.encode(level.version(), &mut bytes).ok()?;
    write(transport, &bytes).ok()?;
    // Not everybody sends what is retained before what comes behind SUBSCRIBE is answered: whoever asks twice has waited for it.
    let mut asked_again = false;
    loop {
        let bytes = read_packet(transport, buffer).await.ok()?;
        let frame = Frame::split(&bytes, u32::MAX).ok().flatten()?;
        match Packet::decode(frame, level.version()).ok()? {
            Packet::Publish(publish) if publish.payload == b"1" => {
                let place = topics.iter().position(|topic| publish.topic.is_some_and(|of| of.as_str() == topic));
                if let Some(found) = place.and_then(|place| met.get(place)) {
                    return Some(Whose::Its(found.clone()));
                }
            }
            Packet::Suback(suback) if suback.reasons.iter().all(|reason| reason.is_error()) => {
                return Some(Whose::Unknown("it refuses the subscription".to_owned()));
            }
            Packet::Pingresp if asked_again => return Some(Whose::NotIts),
            Packet::Pingresp => {
                let mut bytes = Vec::new();
                Packet::Pingreq.encode(level.version(), &mut bytes).ok()?;
                write(transport, &bytes).ok()?;
                asked_again = true;
            }
            Packet::Disconnect(disconnect) => {
                return Some(Whose::Unknown(format!("it ends the connection: {}", disconnect.reason)));
            }
            _ => {}
        }
    }
}

impl Answer {
    /// For the log: why `address` did not take us.
    pub(super) fn words(self, address: &Address, way: &Way) -> String {
        match self {
            Self::Accepted(_) => "it is taken".to_owned(),
            Self::Refused(Refusal { reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, .. }) => {
                "no level is taken".to_owned()
            }
            Self::Refused(refusal) => format!("CONNECT is refused: {refusal}"),
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

/// One whole packet, and what came behind it in `buffer`.
async fn read_packet(transport: &mut Transport, buffer: &mut Vec<u8>) -> Result<Vec<u8>, Answer> {
    let mut piece = vec![0; 4096];
    loop {
        match Frame::split(buffer, ANSWER) {
            Ok(_) if !buffer.first().is_none_or(|byte| matches!(byte >> 4, 2 | 3 | 9 | 13 | 14)) => {
                return Err(Answer::NotMqtt(Looks::like(buffer)));
            }
            Ok(Some(frame)) => {
                let length = frame.bytes.len();
                return Ok(buffer.drain(..length).collect());
            }
            Ok(None) => {}
            Err(_) => return Err(Answer::NotMqtt(Looks::like(buffer))),
        }
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
    }
}

fn connack(level: Level, bytes: &[u8], transport: Transport) -> Answer {
    // A 3.x broker answers CONNECT of 5.0 in its own words.
    if let [0x20, 2, _, code] = bytes
        && let Some(refusal) = Refusal::of_return_code(*code)
    {
        return Answer::Refused(refusal);
    }
    let packet = match Frame::split(bytes, u32::MAX) {
        Ok(Some(frame)) => Packet::decode(frame, level.version()),
        _ => return Answer::NotMqtt(Looks::like(bytes)),
    };
    match packet {
        Ok(Packet::Connack(connack)) => match *connack {
            Connack { reason: ReasonCode::SUCCESS, .. } => Answer::Accepted(Box::new(transport)),
            Connack { reason, .. } => Answer::Refused(reason.into()),
        },
        Ok(_) => Answer::Other("what comes is no CONNACK".to_owned()),
        Err(error) => Answer::Other(error.to_string()),
    }
}
