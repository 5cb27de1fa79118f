//! `viaduct bridge check`: one bridge dialled step by step, one line a step, so that it is found out before production.
//!
//! In: a configured bridge. Out: lines, and whether it would work. The remote sees a ClientID of its own, so that a
//! bridge that runs is not taken over. Must never: publish, or leave a session behind.

use std::fmt::Display;
use std::io::{self, Write};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;
use viaduct_bridge::{Address, DialError, Error, Refusal, Rules, Settings, TlsFailure};
use viaduct_codec::{
    FilterRef, Frame, Level, Looks, Packet, PacketId, QoS, ReasonCode, Subscribe, SubscribeEntry, SubscribeOptions,
    UserProperties,
};
use viaduct_config::{Bridge, BridgeTls, Config, TlsVersion, Verify};

use super::dial::{self, Way};
use super::greet::{self, ANSWER, Answer, goodbye, greet};
use super::plan;
use crate::guests::Guests;
use crate::limits::FILE_TIME;
use crate::stream::Stream;
use crate::tls::{self, ClientTls, Offered};
use crate::transport::Transport;

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
    check_beside(target, None, out)
}

/// As [`check`], by a broker that runs and knows who is connected to it.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_beside(target: CheckTarget<'_>, guests: Option<&Guests>, out: &mut dyn Write) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(run(target, guests, out));
    runtime.shutdown_background();
    result
}

async fn run(target: CheckTarget<'_>, guests: Option<&Guests>, out: &mut dyn Write) -> io::Result<bool> {
    let bridge = target.bridge;
    let offered = Offered::default();
    let (config, named, watched) = (target.config.clone(), bridge.clone(), offered.clone());
    let read = move || files(CheckTarget { config: &config, bridge: &named }, &watched);
    let read = crate::files::apart(FILE_TIME, read).await.map_err(|error| error.to_string()).flatten();
    let (settings, own, way) = match read {
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
    if let Some(tls) = own {
        if let Some(certificate) = tls.own {
            writeln!(out, "client certificate: {}", tls::describe(&certificate))?;
        }
        if let Some(ends) = tls.expires.and_then(ends_soon) {
            writeln!(out, "WARNING: our certificate {ends}; put a new one into its tls.cert_file")?;
        }
    }
    if plan::speaks_tls(bridge) && bridge.tls.verify == Verify::None {
        writeln!(
            out,
            "WARNING: tls.verify = \"none\": the remote is not checked, and anybody in between can read and write"
        )?;
    }
    let mut works = false;
    for address in &settings.addresses {
        let mut check = Check { settings: &settings, way: &way, offered: &offered, guests, address, out: &mut *out };
        works |= check.run().await?;
    }
    Ok(works)
}

/// Everything that is in files.
fn files(target: CheckTarget<'_>, offered: &Offered) -> Result<(Settings, Option<ClientTls>, Way), String> {
    let bridge = target.bridge;
    let settings = plan::settings(target.config, bridge, "").map_err(|error| error.to_string())?;
    let speaks_tls = plan::speaks_tls(bridge);
    let tls = speaks_tls.then(|| tls::client_config_watched(&bridge.name, &bridge.tls, offered)).transpose();
    let tls = tls.map_err(|error| error.to_string())?;
    let way = plan::way(target.config, bridge, tls.as_ref().map(|tls| tls.config.clone()))
        .map_err(|error| error.to_string())?;
    Ok((settings, tls, way))
}

fn ends_soon(expires: i64) -> Option<String> {
    tls::ends_soon(expires, tls::today())
}

struct Check<'a> {
    settings: &'a Settings,
    way: &'a Way,
    offered: &'a Offered,
    guests: Option<&'a Guests>,
    address: &'a Address,
    out: &'a mut dyn Write,
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
        self.way.step
    }

    async fn run(&mut self) -> io::Result<bool> {
        writeln!(self.out, "{}", self.address)?;
        let through = if self.way.proxy.is_some() { "proxy " } else { "" };
        let addresses = match dial::resolve(self.address, self.way).await {
            Ok(addresses) => addresses,
            Err(error) => return self.fail_dial(format_args!("{through}name"), &error),
        };
        let listed = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
        self.ok(format_args!("{through}name"), listed)?;
        let tcp = match dial::connect(&addresses, self.way).await {
            Ok(tcp) => tcp,
            Err(error) => return self.fail_dial(format_args!("{through}tcp"), &error),
        };
        let ends = tcp.peer_addr().and_then(|peer| Ok((peer, tcp.local_addr()?)));
        let connected = match ends {
            Ok((peer, own)) if self.way.bind_address.is_some() => format!("{peer} from {}", own.ip()),
            Ok((peer, _)) => peer.to_string(),
            Err(_) => "connected".to_owned(),
        };
        self.ok(format_args!("{through}tcp"), connected)?;
        if let Err(error) = dial::not_itself(&tcp, self.way) {
            return self.fail_dial("loop", &error);
        }
        let tcp = match dial::pass_proxy(tcp, self.address, self.way).await {
            Ok(tcp) => tcp,
            Err(error) => return self.fail_dial("proxy", &error),
        };
        if let Some(proxy) = &self.way.proxy {
            self.ok("proxy", format_args!("{proxy} leads to the remote"))?;
        }
        let secured = dial::secure(tcp, self.address, self.way).await;
        let chain = self.offered.take();
        let stream = match secured {
            Ok(stream) => {
                self.secured(&stream)?;
                stream
            }
            Err(error) => {
                self.fail("tls", self.words(&error))?;
                self.tell_chain(&chain)?;
                return self.tell_rule(&error);
            }
        };
        self.tell_chain(&chain)?;
        match dial::upgrade(stream, self.address, self.way).await {
            Err(error) => return self.fail_dial("websocket", &error),
            Ok(_) => {
                if let Some(path) = &self.address.websocket {
                    self.ok("websocket", format_args!("MQTT at {path}"))?;
                }
            }
        }
        self.levels().await
    }

    /// What was agreed on, when TLS is spoken.
    fn secured(&mut self, stream: &Stream) -> io::Result<()> {
        let (Some(tls), Some(link)) = (stream.tls(), stream.tls_link()) else { return Ok(()) };
        let cipher = tls.negotiated_cipher_suite().map(|suite| format!(", {:?}", suite.suite())).unwrap_or_default();
        let alpn = tls.alpn_protocol().map(|name| format!(", ALPN {:?}", String::from_utf8_lossy(name)));
        let checked = match self.way.tls_settings.verify {
            Verify::Full => "chain, dates and name are good",
            Verify::Ca => "chain and dates are good, the name was not checked",
            Verify::None => "NOTHING was checked",
        };
        self.ok("tls", format_args!("TLS {}{cipher}{}; {checked}", link.version, alpn.unwrap_or_default()))
    }

    /// The chain that the remote offered, its own certificate first.
    fn tell_chain(&mut self, chain: &[rustls_pki_types::CertificateDer<'_>]) -> io::Result<()> {
        for (index, certificate) in chain.iter().enumerate() {
            writeln!(
                self.out,
                "    offered certificate {} of {}: {}",
                index + 1,
                chain.len(),
                tls::describe(certificate)
            )?;
        }
        if let Some(ends) = tls::expires(chain).and_then(ends_soon) {
            writeln!(
                self.out,
                "    WARNING: the remote's certificate {ends}; whoever runs the remote has to renew it"
            )?;
        }
        Ok(())
    }

    fn fail_dial(&mut self, step: impl Display, error: &DialError) -> io::Result<bool> {
        self.fail(step, self.words(error))?;
        self.tell_rule(error)
    }

    /// Which rule of TLS was not kept, where one was not.
    fn tell_rule(&mut self, error: &DialError) -> io::Result<bool> {
        if let DialError::Tls(failure) = error {
            writeln!(self.out, "    rule that is not kept: {}", failure.rule())?;
        }
        Ok(false)
    }

    /// Each level in turn, then login and subscribe on the best that was taken.
    async fn levels(&mut self) -> io::Result<bool> {
        let mut best: Option<(Level, Box<Transport>)> = None;
        let mut login: Option<Refusal> = None;
        for level in self.settings.protocol.ladder(self.settings.try_private) {
            let step = format!("level {level}");
            match self.greet(level).await {
                Answer::Accepted(transport) => {
                    self.ok(step, format_args!("MQTT {}", level.version()))?;
                    best.get_or_insert((level, transport));
                }
                Answer::Refused(refusal) if is_login(refusal.reason) => {
                    self.ok(step, format_args!("MQTT {}", level.version()))?;
                    login.get_or_insert(refusal);
                }
                Answer::Refused(refusal) => {
                    self.fail(step, format_args!("the remote refuses it: {refusal}"))?;
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
                // A handshake that one level breaks the others break too.
                Answer::Dial(error @ DialError::Tls(_)) => return self.fail_dial(step, &error),
                Answer::Dial(error) => {
                    self.fail_dial(step, &error)?;
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
                let met = self.guests.map(|guests| guests.met_by(&self.settings.name, level.version().is_v5()));
                let met = met.unwrap_or_default();
                let asker = own_id();
                let look = greet::whose(self.settings, self.address, self.way, level, &asker, &met);
                if let Ok(greet::Whose::Its(found)) = look.await {
                    return self.fail("loop", Error::LinksBack(found.words()));
                }
                self.subscribe(level, *transport).await
            }
            (None, Some(refusal)) => self.fail("login", login_words(refusal)),
            (None, None) => self.fail("login", "no level was taken"),
        }
    }

    async fn greet(&self, level: Level) -> Answer {
        greet(self.settings, self.address, self.way, level, &own_id()).await
    }

    /// Whether a peer that says nothing to CONNECT says something to others; that is then told.
    async fn is_something_else(&mut self, step: &str) -> io::Result<bool> {
        if self.address.websocket.is_some() {
            // Who opened a WebSocket is a web server.
            return Ok(false);
        }
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
            server_name: self.way.tls_settings.server_name.clone(),
            alpn: Vec::new(),
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
        };
        let Ok(ClientTls { config, .. }) = tls::client_config(&self.settings.name, &anybody) else { return false };
        let way = Way { tls: Some(config), tls_settings: anybody, ..self.way.clone() };
        let address = Address { tls: true, websocket: None, ..self.address.clone() };
        match dial::dial(&address, &way).await {
            Ok(_) => true,
            // Only who speaks TLS has an opinion on versions and certificates.
            Err(DialError::Tls(failure)) => {
                matches!(failure, TlsFailure::VersionMismatch | TlsFailure::ClientCertificateRequired)
            }
            Err(_) => false,
        }
    }

    async fn speaks_http(&self) -> bool {
        let Ok(mut transport) = dial::dial(self.address, self.way).await else { return false };
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
        let highest = self.settings.remote.max_qos;
        let rules = self.settings.topics.iter().filter(|topic| topic.direction.is_in());
        let filters: Vec<(String, QoS)> =
            rules.map(|topic| (format!("{}{}", topic.remote_prefix, topic.filter), topic.qos.min(highest))).collect();
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
                Ok(reason) if reason.is_error() && level.version().is_v5() => {
                    works = self.fail(step, format_args!("the remote refuses it: {reason}"))?
                }
                // The only one of 3.1.1.
                Ok(reason) if reason.is_error() => {
                    works = self.fail(step, "the remote refuses it: failure (return code 0x80)")?
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

    /// The next packet, read byte by byte, so that nothing of the one behind is lost.
    async fn read_any(&self, transport: &mut Transport) -> Result<Vec<u8>, Answer> {
        let mut buffer = Vec::new();
        let mut byte = [0];
        let read = async {
            loop {
                match std::future::poll_fn(|cx| transport.poll_read(cx, &mut byte)).await {
                    Ok(1) => buffer.extend_from_slice(&byte),
                    _ => return Err(Answer::Closed),
                }
                match Frame::split(&buffer, ANSWER) {
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
            DialError::Itself(circle) => format!("this is a listener of this broker itself, and {circle}"),
            DialError::LinksBack(by) => by.clone(),
            DialError::BindAddress(what) => format!("bind_address can't be used: {what}"),
            DialError::Proxy(failure) => failure.to_string(),
            DialError::Tls(failure) => failure.to_string(),
            DialError::WebSocket(failure) => failure.to_string(),
            error => format!("{error:?}"),
        }
    }
}

/// A ClientID that nobody else has, the bridge that may run meanwhile included.
fn own_id() -> String {
    format!("viaduct-{:08x}", tls::seed() & 0xffff_ffff)
}

fn is_login(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD | ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED)
}

fn login_words(refusal: Refusal) -> String {
    match refusal.reason {
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => {
            format!("the remote rejects user name or password ({})", refusal.number())
        }
        _ => format!("the remote does not authorise this client: {refusal}"),
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
