//! From accept to the session's worker: TLS, WebSocket, CONNECT, admission, login or enhanced authentication.
//!
//! In: a socket that nobody has read from. Out: an admitted, authenticated connection in its worker's mailbox, or a
//! refusal that says why, to the peer and in the log. All of it within `limits.connect_timeout`. Must never: keep a byte
//! more than one packet may have, or tell a stranger why a login failed.

mod enhanced;

use std::fmt::Display;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use viaduct_codec::{ClientId, Connect, DecodeError, Frame, Level, Looks, Packet, ReasonCode, Version};
use viaduct_engine::{Arrival, Identity, Reauthenticate, Way};
use viaduct_session::server::{Admission, Refusal, admit};

use crate::auth::{Credentials, LoginResult};
use crate::bridge::LOCAL_CLIENT_PREFIX;
use crate::connection::{self, Newcomer, linger_alone};
use crate::counters::ConnectResult;
use crate::limits::{HELLO_BYTES, HELLOS, UPGRADE_BYTES};
use crate::mailbox::Letter;
use crate::state::{ListenerState, Place, Policy};
use crate::stream::Stream;
use crate::tls;
use crate::transport::Transport;
use crate::websocket::{Asked, Role, WebSocket, answer_upgrade};
use crate::worker::Worker;

use enhanced::Conversation;

/// The first byte of every CONNECT.
const CONNECT: u8 = 0x10;
/// Bytes of the name that a client without one gets: 128 bits, written in hexadecimal.
const ASSIGNED: usize = 16;

/// A socket that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) tcp: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) place: Place,
    pub(crate) at: Instant,
}

/// One greeting.
struct Greeting {
    worker: Rc<Worker>,
    listener: Arc<ListenerState>,
    policy: Arc<Policy>,
    peer: SocketAddr,
}

/// A connection whose client is known.
struct Entry {
    transport: Transport,
    /// What came behind the packets that were read.
    rest: Vec<u8>,
    identity: Identity,
    credential: Option<u64>,
    reauthentication: Option<Box<dyn Reauthenticate>>,
}

/// Why nobody was let in.
struct Turned {
    level: Option<Level>,
    result: ConnectResult,
    /// For the log; `None` when there is nothing to say about a peer that just went away.
    why: Option<String>,
    /// To be written before the close, with the transport that takes it.
    answer: Option<(Vec<u8>, Transport)>,
}

/// Greets a socket; at the end it is with its worker, or closed.
pub(crate) async fn greet(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { tcp, peer, place, at } = accepted;
    let listener = Arc::clone(place.listener());
    let policy = listener.policy.load_full();
    if worker.hellos.get() >= HELLOS {
        listener.connects.count(None, ConnectResult::TooMany);
        return;
    }
    worker.hellos.set(worker.hellos.get() + 1);
    let greeting = Greeting { worker: Rc::clone(&worker), listener, policy, peer };
    let deadline = at + greeting.policy.connect_timeout;
    let mut stopping = worker.broker.stopping.subscribe();
    let greeted = tokio::select! {
        greeted = timeout_at(deadline, greeting.run(tcp)) => greeted,
        // The sender lives as long as the broker: this is its end, and there is nobody to tell.
        _ = stopping.wait_for(|stopping| *stopping) => {
            worker.hellos.set(worker.hellos.get() - 1);
            return;
        }
    };
    let result = greeted.unwrap_or_else(|_| {
        let why =
            format!("not let in within {} s (limits.connect_timeout)", greeting.policy.connect_timeout.as_secs_f64());
        Err(Turned::away(None, ConnectResult::TimedOut, why))
    });
    worker.hellos.set(worker.hellos.get() - 1);
    match result {
        Ok((transport, arrival, rest)) => greeting.pass_on(transport, arrival, rest, place),
        Err(turned) => greeting.turn_away(turned).await,
    }
}

impl Greeting {
    async fn run(&self, tcp: std::net::TcpStream) -> Result<(Transport, Box<Arrival>, Vec<u8>), Turned> {
        let stream = self.secure(tcp).await?;
        let mut transport = match &self.listener.websocket {
            None => Transport::Stream(stream),
            Some(path) => self.upgrade(stream, path).await?,
        };
        let mut buffer = Vec::new();
        let mut held = Held { worker: &self.worker, bytes: 0 };
        let length = match self.read_connect(&mut transport, &mut buffer, &mut held).await {
            Ok(length) => length,
            Err(turned) if transport.has_said_goodbye() => {
                return Err(Turned { answer: Some((Vec::new(), transport)), ..turned });
            }
            Err(turned) => return Err(turned),
        };
        let rest = buffer.split_off(length);
        let frame = Frame::split(&buffer, self.policy.terms.maximum_packet_size);
        let connect = match frame.map(|frame| frame.map(|frame| Packet::decode(frame, Version::V5))) {
            Ok(Some(Ok(Packet::Connect(connect)))) => connect,
            Ok(Some(Err(error))) | Err(error) => return Err(self.undecodable(&error, &buffer, transport)),
            Ok(_) => return Err(Turned::away(None, ConnectResult::NotMqtt, "its first packet is no CONNECT")),
        };
        let level = connect.level;
        let now = self.worker.now();
        let mut admission = match admit(&connect, &self.policy.terms, now, assign) {
            Ok(admission) => admission,
            Err(refusal) => return Err(self.refused(Some(level), &refusal, transport)),
        };
        if admission.client_id.as_str().starts_with(LOCAL_CLIENT_PREFIX) {
            let refusal = Refusal::after_admission(&admission, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
            let why = format!("ClientIDs that begin with {LOCAL_CLIENT_PREFIX} are this broker's own");
            let answer = Some((refusal.answer, transport));
            return Err(Turned { level: Some(level), result: ConnectResult::RefusedConnect, why: Some(why), answer });
        }
        let entry = if admission.authentication.is_some() {
            let conversation = Conversation { greeting: self, transport, rest, held };
            conversation.authenticate(&connect, &mut admission).await?
        } else {
            self.log_in(&connect, &admission, transport, rest).await?
        };
        let Entry { transport, rest, identity, credential, reauthentication } = entry;
        let way = self.way(&admission);
        let arrival = Arrival {
            admission,
            credential,
            reauthentication,
            identity,
            peer: self.peer.to_string().into(),
            listener: Arc::clone(&self.listener.name),
            mountpoint: self.policy.mountpoint.clone(),
            terms: Arc::clone(&self.policy.terms),
            way,
            waited_until: None,
        };
        Ok((transport, Box::new(arrival), rest))
    }

    /// The way that messages come by whose sender is another broker.
    fn way(&self, admission: &Admission) -> Option<Arc<dyn Way>> {
        let broker = &self.worker.broker;
        let neighbour = admission.node.as_ref();
        let way = neighbour.and_then(|neighbour| broker.ways.guest(neighbour, admission.client_id.as_str()));
        if way.as_ref().is_some_and(|(_, ends_leaf)| *ends_leaf) {
            broker.send_all(|| Letter::NoLeaf);
        }
        let guest = broker.guests.welcome(self.worker.now(), admission, way.map(|(way, _)| way))?;
        Some(Arc::new(guest))
    }

    /// The stream after the TLS handshake where there is one.
    async fn secure(&self, tcp: std::net::TcpStream) -> Result<Stream, Turned> {
        let failed =
            |what: &dyn Display| Turned::away(None, ConnectResult::Closed, format!("its socket can't be used: {what}"));
        let tcp = TcpStream::from_std(tcp).map_err(|error| failed(&error))?;
        let tls = match &self.policy.tls {
            None => None,
            Some(config) => {
                let connection = rustls::ServerConnection::new(Arc::clone(config)).map_err(|error| failed(&error))?;
                Some(rustls::Connection::Server(connection))
            }
        };
        let mut stream = Stream::new(tcp, tls);
        let shaken = std::future::poll_fn(|cx| stream.poll_handshake(cx)).await;
        shaken.map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                return Turned { level: None, result: ConnectResult::TlsFailed, why: None, answer: None };
            }
            let tls_error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let why = match tls_error {
                Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                    "what came is not TLS, on a TLS listener".to_owned()
                }
                _ => format!("the TLS handshake failed: {error}"),
            };
            Turned::away(None, ConnectResult::TlsFailed, why)
        })?;
        Ok(stream)
    }

    /// Answers the HTTP request that a WebSocket begins with.
    async fn upgrade(&self, mut stream: Stream, path: &str) -> Result<Transport, Turned> {
        let mut held = Held { worker: &self.worker, bytes: 0 };
        let mut buffer = Vec::new();
        loop {
            let read = std::future::poll_fn(|cx| {
                self.worker.with_scratch(|scratch| {
                    // What comes behind the request is not counted any more, so no more than that is read.
                    let room = scratch.get_mut(..UPGRADE_BYTES - buffer.len()).unwrap_or_default();
                    let read = stream.poll_read(cx, room);
                    if let Poll::Ready(Ok(read)) = read {
                        buffer.extend_from_slice(room.get(..read).unwrap_or_default());
                    }
                    read
                })
            })
            .await;
            match read {
                Ok(0) | Err(_) => return Err(Turned::gone()),
                Ok(read) => self.take_in(&mut held, read)?,
            }
            match answer_upgrade(&buffer, path) {
                Asked::Unfinished => {}
                Asked::Upgrade { length, answer } => {
                    // A few bytes into an empty socket: if they don't fit, nobody reads there.
                    if stream.try_write(&answer).ok() != Some(answer.len()) {
                        return Err(Turned::gone());
                    }
                    self.worker.traffic.bytes_sent.add(answer.len() as u64);
                    return Ok(Transport::WebSocket(WebSocket::new(stream, buffer.split_off(length), Role::Server)));
                }
                Asked::Other { answer, why } => {
                    let answer = Some((answer, Transport::Stream(stream)));
                    return Err(Turned { level: None, result: ConnectResult::NotMqtt, why: Some(why), answer });
                }
            }
        }
    }

    /// Counts what was read, unless all that are not let in yet hold too much.
    fn take_in(&self, held: &mut Held<'_>, read: usize) -> Result<(), Turned> {
        self.worker.traffic.bytes_received.add(read as u64);
        held.grow(read);
        if held.is_too_much() {
            let why = "too many connections that are not let in yet hold too much memory";
            return Err(Turned::away(None, ConnectResult::TooMany, why));
        }
        Ok(())
    }

    /// Reads until CONNECT is whole; its length. Noise is recognised at its first bytes.
    async fn read_connect(
        &self,
        transport: &mut Transport,
        buffer: &mut Vec<u8>,
        held: &mut Held<'_>,
    ) -> Result<usize, Turned> {
        loop {
            self.fill(transport, buffer, held).await?;
            if buffer.first() != Some(&CONNECT) {
                return Err(self.not_mqtt(Looks::like(buffer)));
            }
            match Frame::split(buffer, self.policy.terms.maximum_packet_size) {
                Ok(Some(frame)) => return Ok(frame.bytes.len()),
                Ok(None) => {}
                Err(error) => {
                    self.worker.broker.protocol_errors.count(error.reason());
                    return Err(Turned::away(None, ConnectResult::RefusedConnect, error.to_string()));
                }
            }
        }
    }

    /// Waits for more bytes and appends them to `buffer`.
    async fn fill(&self, transport: &mut Transport, buffer: &mut Vec<u8>, held: &mut Held<'_>) -> Result<(), Turned> {
        let read = std::future::poll_fn(|cx| {
            self.worker.with_scratch(|scratch| {
                let read = transport.poll_read(cx, scratch);
                if let Poll::Ready(Ok(read)) = read {
                    buffer.extend_from_slice(scratch.get(..read).unwrap_or_default());
                }
                read
            })
        })
        .await;
        match read {
            Ok(0) => Err(Turned::gone()),
            // Frames that break the rules of WebSocket; a socket that failed has nothing to say.
            Err(error) if transport.has_said_goodbye() => {
                Err(Turned::away(None, ConnectResult::NotMqtt, error.to_string()))
            }
            Err(_) => Err(Turned::gone()),
            Ok(read) => self.take_in(held, read),
        }
    }

    fn not_mqtt(&self, looks: Looks) -> Turned {
        let kind = match (&self.listener.websocket, &self.policy.tls) {
            (Some(_), _) => "WebSocket",
            (None, Some(_)) => "TLS",
            (None, None) => "plain",
        };
        Turned::away(None, ConnectResult::NotMqtt, format!("{looks} on a {kind} listener"))
    }

    fn undecodable(&self, error: &DecodeError, first: &[u8], transport: Transport) -> Turned {
        if let DecodeError::NotMqtt(looks) = error {
            return self.not_mqtt(*looks);
        }
        self.worker.broker.protocol_errors.count(error.reason());
        let refusal = Refusal::from_decode(error, first);
        let result = if matches!(error, DecodeError::UnknownLevel { .. }) {
            ConnectResult::RefusedLevel
        } else {
            ConnectResult::RefusedConnect
        };
        let why = match error {
            DecodeError::UnknownLevel { level, .. } => self.level_refused(*level),
            error => error.to_string(),
        };
        Turned { level: None, result, why: Some(why), answer: Some((refusal.answer, transport)) }
    }

    fn refused(&self, level: Option<Level>, refusal: &Refusal, transport: Transport) -> Turned {
        let is_level = refusal.reason == ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
        let (result, why) = match level.filter(|_| is_level) {
            Some(level) => (ConnectResult::RefusedLevel, self.level_refused(level.byte())),
            None => (ConnectResult::RefusedConnect, refusal.why.to_string()),
        };
        Turned { level, result, why: Some(why), answer: Some((refusal.answer.clone(), transport)) }
    }

    fn level_refused(&self, offered: u8) -> String {
        let allowed: Vec<String> = self.policy.terms.allowed_levels.iter().map(ToString::to_string).collect();
        format!("it offers protocol level {offered}, allowed are {}", allowed.join(", "))
    }

    /// Login by the user name and password of CONNECT, or by certificate.
    async fn log_in(
        &self,
        connect: &Connect<'_>,
        admission: &Admission,
        transport: Transport,
        rest: Vec<u8>,
    ) -> Result<Entry, Turned> {
        match self.identify(connect, admission, &transport).await {
            Ok(identity) => {
                let credential = identity.username.as_deref().and_then(|name| self.credential(name, &transport));
                Ok(Entry { transport, rest, identity, credential, reauthentication: None })
            }
            Err((reason, why)) => {
                let refusal = Refusal::after_admission(admission, reason);
                let (level, result) = (Some(admission.level), ConnectResult::RefusedLogin);
                Err(Turned { level, result, why: Some(why), answer: Some((refusal.answer, transport)) })
            }
        }
    }

    async fn identify(
        &self,
        connect: &Connect<'_>,
        admission: &Admission,
        transport: &Transport,
    ) -> Result<Identity, (ReasonCode, String)> {
        let from = self.policy.username_from;
        let certificate_name = tls::certificate_name(transport.peer_certificates(), from).map_err(|why| {
            self.worker.broker.logins.count(LoginResult::BadPassword);
            (ReasonCode::NOT_AUTHORIZED, why.to_owned())
        })?;
        let credentials = Credentials {
            username: connect.username.map(str::to_owned),
            password: connect.password.map(<[u8]>::to_vec),
            certificate_name,
        };
        let login = self.worker.broker.users.login(credentials, self.policy.allow_anonymous).await;
        self.worker.broker.logins.count(login.result);
        if login.result.is_success() {
            return Ok(Identity { username: login.username, local: false });
        }
        let client_id = admission.client_id.as_str();
        Err(match login.result {
            LoginResult::AnonymousRefused => (
                ReasonCode::NOT_AUTHORIZED,
                format!("ClientID {client_id:?} came without a user name (listener.allow_anonymous is false)"),
            ),
            _ => (
                ReasonCode::BAD_USER_NAME_OR_PASSWORD,
                format!(
                    "ClientID {client_id:?}: bad user name or password for {:?}",
                    connect.username.unwrap_or_default()
                ),
            ),
        })
    }

    /// What the user logged in with, if it was a password and not a certificate.
    fn credential(&self, username: &str, transport: &Transport) -> Option<u64> {
        let by_certificate = tls::certificate_name(transport.peer_certificates(), self.policy.username_from);
        if matches!(by_certificate, Ok(Some(_))) { None } else { self.worker.broker.users.credential(username) }
    }

    /// Hands the connection to the worker of its session.
    fn pass_on(&self, transport: Transport, arrival: Box<Arrival>, rest: Vec<u8>, place: Place) {
        let to = self.worker.broker.worker_of(arrival.admission.client_id.as_str());
        if to == self.worker.id {
            return connection::start(&self.worker, transport, arrival, rest, place);
        }
        match transport.into_parts() {
            Ok(parts) => {
                let newcomer = Newcomer { parts, arrival, rest, place };
                self.worker.broker.send(to, Letter::Newcomer(Box::new(newcomer)));
            }
            Err(error) => tracing::warn!(peer = %self.peer, %error, "closed: its socket can't be moved to its worker"),
        }
    }

    async fn turn_away(&self, turned: Turned) {
        let Turned { level, result, why, answer } = turned;
        self.listener.connects.count(level, result);
        if let Some(why) = why
            && let Some(left_out) =
                self.worker.broker.refusals.ask(self.worker.now(), self.peer.ip(), &self.listener.name, result)
        {
            let (peer, listener) = (self.peer, &self.listener.name);
            if left_out == 0 {
                tracing::warn!("closed {peer}: {why} (listener \"{listener}\")");
            } else {
                tracing::warn!("closed {peer}: {why} (listener \"{listener}\", {left_out} more since the last line)");
            }
        }
        // MQTT-3.1.4-6, MQTT-3.1.4-5 of 3.1.1, MQTT-3.2.2-7, MQTT-3.2.2-5 of 3.1.1: what came behind is thrown away, and the connection ends.
        if let Some((bytes, mut transport)) = answer {
            // A few bytes into an empty socket: if they don't fit, nobody reads there.
            if let Ok(sent) = transport.try_write(&bytes) {
                self.worker.traffic.bytes_sent.add(sent as u64);
            }
            linger_alone(&self.worker, transport).await;
        }
    }
}

/// What one connection holds of the memory for those that are not let in yet.
struct Held<'a> {
    worker: &'a Worker,
    bytes: usize,
}

impl Held<'_> {
    fn grow(&mut self, by: usize) {
        self.bytes += by;
        self.worker.hello_bytes.set(self.worker.hello_bytes.get() + by);
    }

    fn is_too_much(&self) -> bool {
        self.worker.hello_bytes.get() > HELLO_BYTES
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.worker.hello_bytes.set(self.worker.hello_bytes.get().saturating_sub(self.bytes));
    }
}

impl Turned {
    /// The peer went away; there is nothing to say about it.
    const fn gone() -> Self {
        Self { level: None, result: ConnectResult::Closed, why: None, answer: None }
    }

    fn away(level: Option<Level>, result: ConnectResult, why: impl Into<String>) -> Self {
        Self { level, result, why: Some(why.into()), answer: None }
    }
}

/// A ClientID for a client that has none: one that nobody can guess, so that nobody can take its session.
fn assign() -> ClientId {
    let mut bytes = [0; ASSIGNED];
    if tls::random(&mut bytes).is_err() {
        bytes = [0; ASSIGNED].map(|_: u8| tls::seed().to_ne_bytes()[0]);
    }
    let mut text = String::with_capacity(5 + 2 * ASSIGNED);
    text.push_str("auto-");
    for byte in bytes {
        use std::fmt::Write;
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    ClientId::from(text.as_str())
}
