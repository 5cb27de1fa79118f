//! `viaduct bridge check`: one bridge dialled step by step, one line a step, so that it is found out before production.
//!
//! In: a configured bridge. Out: lines, and whether it would work. The remote sees a ClientID of its own, so that a
//! bridge that runs is not taken over. Must never: publish, or leave a session behind.

use std::fmt::Display;
use std::io::{self, Write};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;
use viaduct_bridge::{Address, DialError, Error, Rules, Settings};
use viaduct_codec::{
    Connack, Connect, ConnectProperties, Disconnect, FilterRef, Frame, Level, Looks, Packet, PacketId, QoS, ReasonCode,
    Subscribe, SubscribeEntry, SubscribeOptions, UserProperties,
};
use viaduct_config::{Bridge, BridgeTls, Config, TlsVersion, Verify};

use super::dial::{self, Security};
use super::plan;
use crate::tls;
use crate::transport::Transport;

/// Bytes that an answer may have: far more than any CONNACK or SUBACK, far less than what hurts.
const ANSWER: usize = 64 * 1024;

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub struct CheckTarget<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// The bridge in it.
    pub bridge: &'a Bridge,
}

/// Checks the bridge and writes a line for each step to `out`; whether it would work.
///
/// # Errors
/// `out` can't be written to, or the system gives no runtime.
pub fn check(target: CheckTarget<'_>, out: &mut dyn Write) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(run(target, out));
    runtime.shutdown_background();
    result
}

async fn run(target: CheckTarget<'_>, out: &mut dyn Write) -> io::Result<bool> {
    let bridge = target.bridge;
    let needs_tls = bridge.urls.iter().any(|url| url.tls);
    let files =
        plan::settings(target.config, bridge, None, "").map_err(|error| error.to_string()).and_then(|settings| {
            let tls = needs_tls.then(|| tls::client_config(&bridge.name, &bridge.tls)).transpose();
            tls.map(|config| (settings, config)).map_err(|error| error.to_string())
        });
    let (settings, config) = match files {
        Ok(files) => files,
        Err(error) => {
            writeln!(out, "files: FAIL: {error}")?;
            return Ok(false);
        }
    };
    if let Err(error) = Rules::new(&settings) {
        writeln!(out, "rules: FAIL: {error}")?;
        return Ok(false);
    }
    let security = Security { config, settings: bridge.tls.clone() };
    let mut works = false;
    for address in &settings.addresses {
        let mut check = Check { settings: &settings, security: &security, address, out: &mut *out };
        works |= check.run().await?;
    }
    Ok(works)
}

struct Check<'a> {
    settings: &'a Settings,
    security: &'a Security,
    address: &'a Address,
    out: &'a mut dyn Write,
}

/// What became of one CONNECT.
enum Answer {
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

impl Check<'_> {
    fn ok(&mut self, step: impl Display, what: impl Display) -> io::Result<()> {
        writeln!(self.out, "{step}: ok ({what})")
    }

    fn fail(&mut self, step: impl Display, what: impl Display) -> io::Result<bool> {
        writeln!(self.out, "{step}: FAIL: {what}")?;
        Ok(false)
    }

    fn step(&self) -> Duration {
        self.settings.connect_timeout
    }

    async fn run(&mut self) -> io::Result<bool> {
        writeln!(self.out, "{}", self.address)?;
        let addresses = match dial::resolve(self.address, self.step()).await {
            Ok(addresses) => addresses,
            Err(error) => return self.fail("name", self.words(&error)),
        };
        let listed = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
        self.ok("name", listed)?;
        let tcp = match dial::connect(&addresses, self.step()).await {
            Ok(tcp) => tcp,
            Err(error) => return self.fail("tcp", self.words(&error)),
        };
        self.ok("tcp", tcp.peer_addr().map_or_else(|_| "connected".to_owned(), |peer| peer.to_string()))?;
        if self.address.tls {
            match dial::secure(tcp, self.address, self.security, self.step()).await {
                Ok(_) => self.ok("tls", "handshake done")?,
                Err(error) => return self.fail("tls", self.words(&error)),
            }
        }
        self.levels().await
    }

    /// Each level in turn, then login and subscribe on the best that was taken.
    async fn levels(&mut self) -> io::Result<bool> {
        let mut best: Option<(Level, Box<Transport>)> = None;
        let mut login: Option<ReasonCode> = None;
        for level in self.settings.protocol.ladder(self.settings.try_private) {
            let step = format!("level {level}");
            match self.attempt(level).await {
                Answer::Accepted(transport) => {
                    self.ok(step, format_args!("MQTT {}", level.version()))?;
                    best.get_or_insert((level, transport));
                }
                Answer::Refused(reason) if is_login(reason) => {
                    self.ok(step, format_args!("MQTT {}", level.version()))?;
                    login.get_or_insert(reason);
                }
                Answer::Refused(reason) => {
                    self.fail(step, format_args!("the remote refuses it: {reason}"))?;
                }
                Answer::NotMqtt(looks) => return self.fail(step, not_mqtt(looks, self.address)),
                Answer::Closed | Answer::Silent if best.is_none() && self.is_something_else(&step).await? => {
                    return Ok(false);
                }
                Answer::Closed => {
                    self.fail(step, "the remote closes the connection before CONNACK")?;
                }
                Answer::Silent => {
                    self.fail(step, format_args!("no CONNACK within {} s", self.step().as_secs_f64()))?;
                }
                Answer::Dial(error) => {
                    let words = self.words(&error);
                    self.fail(step, words)?;
                }
                Answer::Other(what) => {
                    self.fail(step, what)?;
                }
            }
        }
        match (best, login) {
            (Some((level, transport)), _) => {
                self.ok("login", format_args!("at level {level}"))?;
                let is_plain = !level.version().is_v5() && !level.is_bridge();
                if is_plain && Rules::new(self.settings).is_ok_and(|rules| rules.may_loop()) {
                    return self.fail("loop", Error::Loop { level });
                }
                self.subscribe(level, *transport).await
            }
            (None, Some(reason)) => self.fail("login", login_words(reason)),
            (None, None) => self.fail("login", "no level was taken"),
        }
    }

    async fn attempt(&self, level: Level) -> Answer {
        let mut transport = match dial::dial(self.address, self.security, self.step()).await {
            Ok(transport) => transport,
            Err(error) => return Answer::Dial(error),
        };
        let client_id = format!("viaduct-{:08x}", tls::seed() & 0xffff_ffff);
        let connect = Connect {
            level,
            clean_start: true,
            keep_alive: self.settings.keep_alive,
            client_id: &client_id,
            will: None,
            username: self.settings.username.as_deref(),
            password: self.settings.password.as_deref(),
            properties: ConnectProperties::default(),
        };
        let mut bytes = Vec::new();
        if let Err(error) = Packet::Connect(Box::new(connect)).encode(level.version(), &mut bytes) {
            return Answer::Other(format!("CONNECT can't be written: {error}"));
        }
        if let Err(error) = transport.try_write(&bytes) {
            return Answer::Other(format!("writing failed: {error}"));
        }
        match self.read_packet(&mut transport).await {
            Ok(bytes) => connack(level, &bytes, transport),
            Err(answer) => answer,
        }
    }

    /// One whole packet.
    async fn read_packet(&self, transport: &mut Transport) -> Result<Vec<u8>, Answer> {
        let mut buffer = Vec::new();
        let mut piece = vec![0; 4096];
        let read = async {
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
                match Frame::split(&buffer, u32::try_from(ANSWER).unwrap_or(u32::MAX)) {
                    Ok(_) if !buffer.first().is_some_and(|byte| matches!(byte >> 4, 2 | 9 | 14)) => {
                        return Err(Answer::NotMqtt(Looks::like(&buffer)));
                    }
                    Ok(Some(frame)) => return Ok(frame.bytes.to_vec()),
                    Ok(None) => {}
                    Err(_) => return Err(Answer::NotMqtt(Looks::like(&buffer))),
                }
            }
        };
        timeout(self.step(), read).await.unwrap_or(Err(Answer::Silent))
    }

    /// Whether a peer that says nothing to CONNECT says something to others; that is then told.
    async fn is_something_else(&mut self, step: &str) -> io::Result<bool> {
        if !self.address.tls && self.speaks_tls().await {
            self.fail(step, not_mqtt(Looks::TlsRecord, self.address))?;
            return Ok(true);
        }
        if self.speaks_http().await {
            self.fail(step, not_mqtt(Looks::HttpResponse, self.address))?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn speaks_tls(&self) -> bool {
        let anybody = BridgeTls {
            ca_file: None,
            cert_file: None,
            key_file: None,
            verify: Verify::None,
            server_name: self.security.settings.server_name.clone(),
            alpn: Vec::new(),
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
        };
        let Ok(config) = tls::client_config(&self.settings.name, &anybody) else { return false };
        let security = Security { config: Some(config), settings: anybody };
        let address = Address { tls: true, ..self.address.clone() };
        match dial::dial(&address, &security, self.step()).await {
            Ok(_) => true,
            // Only who speaks TLS has an opinion on versions and certificates.
            Err(DialError::Tls(failure)) => matches!(
                failure,
                viaduct_bridge::TlsFailure::VersionMismatch | viaduct_bridge::TlsFailure::ClientCertificateRequired
            ),
            Err(_) => false,
        }
    }

    async fn speaks_http(&self) -> bool {
        let Ok(mut transport) = dial::dial(self.address, self.security, self.step()).await else { return false };
        if transport.try_write(b"GET / HTTP/1.0\r\n\r\n").is_err() {
            return false;
        }
        let mut buffer = vec![0; 512];
        let read = std::future::poll_fn(|cx| match transport.poll_read(cx, &mut buffer) {
            Poll::Ready(read) => Poll::Ready(read.unwrap_or(0)),
            Poll::Pending => Poll::Pending,
        });
        let read = timeout(self.step(), read).await.unwrap_or(0);
        buffer.get(..read).is_some_and(|bytes| bytes.starts_with(b"HTTP/"))
    }

    /// Every `in` rule, as the bridge would subscribe to it.
    async fn subscribe(&mut self, level: Level, mut transport: Transport) -> io::Result<bool> {
        let rules = self.settings.topics.iter().filter(|topic| topic.direction.is_in());
        let filters: Vec<(String, QoS)> =
            rules.map(|topic| (format!("{}{}", topic.remote_prefix, topic.filter), topic.qos)).collect();
        if filters.is_empty() {
            self.ok("subscribe", "no rule asks for messages of the remote")?;
            goodbye(level, &mut transport);
            return Ok(true);
        }
        let mut works = true;
        for (index, (filter, qos)) in filters.iter().enumerate() {
            let step = format!("subscribe {filter}");
            let id = u16::try_from(index + 1).ok().and_then(PacketId::new);
            let (Ok(filter), Some(packet_id)) = (FilterRef::new(filter), id) else {
                works = self.fail(step, "it is no topic filter")?;
                continue;
            };
            let options = SubscribeOptions { qos: *qos, ..SubscribeOptions::default() };
            let subscribe = Subscribe {
                packet_id,
                entries: vec![SubscribeEntry { filter, options }],
                subscription_id: None,
                user_properties: UserProperties::default(),
            };
            let mut bytes = Vec::new();
            if let Err(error) = Packet::Subscribe(subscribe).encode(level.version(), &mut bytes) {
                works = self.fail(step, error)?;
                continue;
            }
            if let Err(error) = transport.try_write(&bytes) {
                return self.fail(step, format_args!("writing failed: {error}"));
            }
            match self.read_suback(level, &mut transport, packet_id).await {
                Ok(reason) if reason.is_error() => {
                    works = self.fail(step, format_args!("the remote refuses it: {reason}"))?
                }
                Ok(reason) if reason.0 < qos.bits() => self.ok(step, format_args!("with QoS {} only", reason.0))?,
                Ok(_) => self.ok(step, format_args!("QoS {}", qos.bits()))?,
                Err(what) => return self.fail(step, what),
            }
        }
        goodbye(level, &mut transport);
        Ok(works)
    }

    async fn read_suback(&self, level: Level, transport: &mut Transport, id: PacketId) -> Result<ReasonCode, String> {
        loop {
            let bytes = match self.read_any(transport).await {
                Ok(bytes) => bytes,
                Err(Answer::Closed) => return Err("the remote closes the connection".to_owned()),
                Err(Answer::Silent) => return Err(format!("no SUBACK within {} s", self.step().as_secs_f64())),
                Err(_) => return Err("what the remote sends can't be read".to_owned()),
            };
            let frame = Frame::split(&bytes, u32::MAX).ok().flatten();
            match frame.map(|frame| Packet::decode(frame, level.version())) {
                Some(Ok(Packet::Suback(suback))) if suback.packet_id == id => {
                    return suback.reasons.first().copied().ok_or_else(|| "SUBACK says nothing".to_owned());
                }
                Some(Ok(Packet::Disconnect(disconnect))) => {
                    return Err(format!("the remote disconnects: {}", disconnect.reason));
                }
                // Retained messages may come before.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.to_string()),
                None => return Err("what the remote sends can't be read".to_owned()),
            }
        }
    }

    /// As [`Check::read_packet`], byte by byte, so that nothing of the packet behind is lost.
    async fn read_any(&self, transport: &mut Transport) -> Result<Vec<u8>, Answer> {
        let mut buffer = Vec::new();
        let mut byte = [0];
        let read = async {
            loop {
                match std::future::poll_fn(|cx| transport.poll_read(cx, &mut byte)).await {
                    Ok(1) => buffer.extend_from_slice(&byte),
                    _ => return Err(Answer::Closed),
                }
                match Frame::split(&buffer, u32::MAX) {
                    Ok(Some(frame)) => return Ok(frame.bytes.to_vec()),
                    Ok(None) => {}
                    Err(error) => return Err(Answer::Other(error.to_string())),
                }
            }
        };
        timeout(self.step(), read).await.unwrap_or(Err(Answer::Silent))
    }

    fn words(&self, error: &DialError) -> String {
        match error {
            DialError::Unresolvable(what) => format!("{} can't be resolved: {what}", self.address.host),
            DialError::Refused(what) => format!("the connection is refused: {what}"),
            DialError::Network(what) => what.clone(),
            DialError::TimedOut(step) => format!("no answer within {} s ({step})", self.step().as_secs_f64()),
            DialError::Tls(failure) => failure.to_string(),
            error => format!("{error:?}"),
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

fn goodbye(level: Level, transport: &mut Transport) {
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
        let _ = transport.try_write(&bytes);
    }
    transport.shut_down();
}

fn is_login(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED)
}

fn login_words(reason: ReasonCode) -> String {
    match reason {
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => "the remote rejects user name or password".to_owned(),
        reason => format!("the remote does not authorise this client: {reason}"),
    }
}

fn not_mqtt(looks: Looks, address: &Address) -> String {
    match looks {
        Looks::TlsRecord | Looks::TlsClientHello if !address.tls => {
            format!("this is a TLS port dialled in plaintext; use mqtts://{}:{}", address.host, address.port)
        }
        Looks::HttpResponse | Looks::HttpRequest => "this is an HTTP server, not an MQTT broker".to_owned(),
        looks => format!("this is no MQTT broker: it answers with {looks}"),
    }
}
