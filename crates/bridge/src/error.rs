//! Why an attempt or a link ended, typed: whose fault it is and what can be done.
//!
//! In: what the dialler and the remote did. Out: values that print as one line for an operator and that name
//! themselves for a metric. Never carries a password.

use std::time::Duration;

use thiserror::Error;
use viaduct_codec::{DecodeError, Level, Looks, ReasonCode};

use crate::{ProxyFailure, Refusal, UpgradeFailure};

/// Why one attempt, or a link that was up, ended.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// The name has no address.
    #[error("{host} cannot be resolved: {reason}; check the name in `url` and this machine's DNS")]
    Unresolvable {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// Nobody accepts connections there.
    #[error("the connection is refused: {reason}; nothing listens on that port, or a firewall says so")]
    Refused {
        /// What the system said.
        reason: String,
    },
    /// Another failure of the network.
    #[error("the network failed: {reason}")]
    Network {
        /// What the system said.
        reason: String,
    },
    /// A step took longer than `connect_timeout`.
    #[error("no answer within {seconds} s while waiting for {step}; the peer is down, filtered, or not an MQTT broker")]
    TimedOut {
        /// Which step.
        step: Step,
        /// The limit, in seconds.
        seconds: f64,
    },
    /// Connections can't come from the address that they should.
    #[error("the connection cannot come from `bind_address`: {reason}; it has to be an address of this machine")]
    BindAddress {
        /// What the system said.
        reason: String,
    },
    /// What stands before the remote does not let us through.
    #[error("proxy: {0}")]
    Proxy(ProxyFailure),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(TlsFailure),
    /// MQTT was to be carried by WebSocket, and that was not opened.
    #[error("WebSocket: {0}")]
    WebSocket(UpgradeFailure),
    /// What answered is not an MQTT broker.
    #[error("not MQTT: the peer answers with {0}; check port and scheme (mqtt:// or mqtts://)")]
    NotMqtt(Looks),
    /// No level that we may speak is taken.
    #[error("no protocol level is taken: {}; allow one of them at the remote's listener (or, if it closes because it retains nothing and CONNECT carries a retained will, set notifications = false)", tried(.0))]
    LevelRefused(Vec<(Level, StepDown)>),
    /// User name or password is wrong.
    #[error("the remote rejects user name or password; check `username` and `password` of this bridge")]
    BadLogin,
    /// The remote does not let us in.
    #[error(
        "the remote does not authorise this client: {0}; check `username` and `password` of this bridge (mosquitto says the same of a wrong password), and that its rules let this user or ClientID in"
    )]
    NotAuthorised(Refusal),
    /// The ClientID is not taken.
    #[error("the remote rejects the ClientID {0:?}; set `client_id` to one that it takes (3.1 takes at most 23 bytes)")]
    ClientIdRejected(String),
    /// The peer is silent, or says that we are.
    #[error("kept alive no more: {}", if *.by_remote { "the remote heard nothing from us for too long" } else { "the remote did not answer a ping in time" })]
    KeepAlive {
        /// The remote's verdict, not ours.
        by_remote: bool,
    },
    /// Somebody else connected with our ClientID.
    #[error("taken over: another client connected with our ClientID {client_id:?}{}; make `client_id` unique", in_a_row(*.times))]
    TakenOver {
        /// Ours.
        client_id: String,
        /// Links in a row that ended soon after CONNACK, this one included.
        times: u32,
    },
    /// The remote accepts us and closes soon after, again and again.
    #[error(
        "the remote accepts us and closes the link soon after{} ({reason}): another client may use our ClientID {client_id:?}, or \
         something that this bridge sends is not taken there, see `remote` of the bridge", in_a_row(*.times)
    )]
    Kicked {
        /// Ours.
        client_id: String,
        /// Links in a row that ended so, this one included.
        times: u32,
        /// How this one ended.
        reason: String,
    },
    /// Messages would go in circles.
    #[error(
        "not run: at level {level} the remote sends our own messages back, and a rule carries the same topics both ways; \
         let its listener take level 5, or 132 or 131 (`try_private`), carry one way only, or set `allow_loop = true` on the \
         rules to have them recognised and dropped as far as memory goes"
    )]
    Loop {
        /// The level that it took.
        level: Level,
    },
    /// The remote is this broker itself, and messages would go in circles.
    #[error(
        "not run: the address is a listener of this broker itself, and {0}; correct `url`, keep the rules apart by prefixes, \
         or set `allow_loop = true` on the rules"
    )]
    Itself(String),
    /// The remote has a bridge to this broker, and messages would come twice or go in circles.
    #[error(
        "not run: {0}; what both carry would come twice or go in circles, and nothing in the messages would show it. Remove one of the \
         two bridges, have both speak 5.0 from one Viaduct to another, keep their topics apart, or set `allow_loop = true` on the rules"
    )]
    LinksBack(String),
    /// The remote has enough.
    #[error("the remote's quota: {0}; it limits connections, rate or messages")]
    Quota(ReasonCode),
    /// The remote sent a packet larger than `max_packet_size`, or we did in its eyes.
    #[error("packet too large: {0}")]
    PacketTooLarge(String),
    /// The remote cannot keep our will or takes another QoS, and there was nothing left to give up.
    #[error("the remote does not support what CONNECT asked for: {0}")]
    Unsupported(ReasonCode),
    /// The remote says where to go instead.
    #[error("the remote refers us to another server{}; change `url`", .0.as_deref().map(|name| format!(": {name}")).unwrap_or_default())]
    Moved(Option<String>),
    /// The remote closed, or said that it goes.
    #[error("the remote is gone: {reason}")]
    ServerGone {
        /// Its words, or how the connection ended.
        reason: String,
    },
    /// The remote refused CONNECT for another reason.
    #[error("the remote refuses CONNECT: {reason}{}", .words.as_deref().map(|words| format!(" ({words})")).unwrap_or_default())]
    ConnectRefused {
        /// Its reason code.
        reason: ReasonCode,
        /// Its reason string.
        words: Option<String>,
    },
    /// The remote ended the link with a reason that has no name of its own here.
    #[error("the remote disconnects us: {reason}{}", .words.as_deref().map(|words| format!(" ({words})")).unwrap_or_default())]
    Disconnected {
        /// Its reason code.
        reason: ReasonCode,
        /// Its reason string.
        words: Option<String>,
    },
    /// The remote broke the protocol; what was expected and what came.
    #[error("the remote breaks the protocol: {what}")]
    Violation {
        /// The reason that a 5.0 remote is told.
        reason: ReasonCode,
        /// In words.
        what: String,
    },
}

/// Why a dial failed; the caller's part of [`enum@Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialError {
    /// The name has no address; the resolver's words.
    Unresolvable(String),
    /// The connection is refused; the system's words.
    Refused(String),
    /// Any other failure of the network (unreachable, reset); the system's words.
    Network(String),
    /// A step took too long.
    TimedOut(Step),
    /// The connection can't come from the address that it should; the system's words.
    BindAddress(String),
    /// The address is our own, and our rules would carry messages round; in words, which.
    Itself(String),
    /// The remote has a bridge to this broker that carries what ours does; in words, which and what.
    LinksBack(String),
    /// The proxy did not lead to the remote.
    Proxy(ProxyFailure),
    /// The TLS handshake failed.
    Tls(TlsFailure),
    /// The WebSocket was not opened.
    WebSocket(UpgradeFailure),
}

impl DialError {
    /// In words for the operator: `host` was dialled, and each step had `step`.
    #[must_use]
    pub fn at(self, host: &str, step: Duration) -> Error {
        match self {
            Self::Unresolvable(reason) => Error::Unresolvable { host: host.to_owned(), reason },
            Self::Refused(reason) => Error::Refused { reason },
            Self::Network(reason) => Error::Network { reason },
            Self::TimedOut(which) => Error::TimedOut { step: which, seconds: step.as_secs_f64() },
            Self::BindAddress(reason) => Error::BindAddress { reason },
            Self::Itself(circle) => Error::Itself(circle),
            Self::LinksBack(by) => Error::LinksBack(by),
            Self::Proxy(failure) => Error::Proxy(failure),
            Self::Tls(failure) => Error::Tls(failure),
            Self::WebSocket(failure) => Error::WebSocket(failure),
        }
    }
}

/// A timed step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Name resolution.
    Resolve,
    /// The TCP connection.
    Connect,
    /// The proxy's answer.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The answer to the request for a WebSocket.
    WebSocket,
    /// The dial as a whole, when the dialler did not say which part.
    Dial,
    /// CONNACK.
    Connack,
}

/// Which check of TLS failed. Dates are written as the caller likes them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The peer does not speak TLS.
    #[error("the peer does not speak TLS; use mqtt://, or the port of its TLS listener")]
    NotTls,
    /// The certificate is for another name.
    #[error(
        "the certificate is for {}, not for {expected}; use that name in `url` or set `tls.server_name`", names(.presented)
    )]
    WrongName {
        /// The name that was asked for.
        expected: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The certificate's time is over.
    #[error("the remote's certificate expired{}", on(.when))]
    Expired {
        /// When.
        when: Option<String>,
    },
    /// The certificate's time has not begun.
    #[error("the remote's certificate is not valid yet{}; compare the clocks", on(.when))]
    NotYetValid {
        /// From when on.
        when: Option<String>,
    },
    /// No authority that we trust signed it.
    #[error("the remote's certificate is signed by an authority that is not trusted here; set `tls.ca_file`")]
    UnknownIssuer,
    /// An authority that we trust has the name of the one that signed it, and another key.
    #[error(
        "the remote's certificate is signed by an authority whose name is trusted here, but whose key is another: the file in \
         `tls.ca_file` is older than the remote's certificate, or the other way round"
    )]
    OtherAuthority,
    /// The remote wants a certificate from us, or another one.
    #[error("the remote wants a client certificate that it trusts; set `tls.cert_file` and `tls.key_file`")]
    ClientCertificateRequired,
    /// No TLS version in common.
    #[error("no TLS version in common with the remote; see `tls.min_version` and `tls.max_version`")]
    VersionMismatch,
    /// The remote takes none of the application protocols that we offer.
    #[error("the remote takes none of the application protocols in `tls.alpn`; correct or remove it")]
    NoApplicationProtocol,
    /// The remote does not serve the name that was asked for.
    #[error("the remote does not know the name that it is asked for; correct the host in `url` or `tls.server_name`")]
    UnknownName,
    /// Anything else, in the TLS library's words.
    #[error("{0}")]
    Other(String),
}

/// Why a level was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StepDown {
    /// CONNACK said so.
    #[error("peer refused the level ({0})")]
    Refused(Refusal),
    /// No CONNACK came.
    #[error("peer closed the connection before CONNACK")]
    Closed,
    /// What came instead of CONNACK is not MQTT.
    #[error("peer answered what cannot be read ({0})")]
    Unreadable(Looks),
    /// A packet that cannot be read, and what is wrong with it.
    #[error("peer answered what cannot be read ({0})")]
    Malformed(DecodeError),
    /// A CONNACK as 3.x writes it to a 5.0 CONNECT, or the reverse, that speaks of something else than the level.
    #[error("peer answered in the form of another version")]
    OtherVersion,
}

impl TlsFailure {
    /// The rule of the handshake that was not kept, in few words.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::NotTls => "the peer speaks TLS",
            Self::WrongName { .. } => "the certificate is for the name that was asked for (verify = \"full\")",
            Self::Expired { .. } | Self::NotYetValid { .. } => {
                "every certificate is within its dates (verify = \"full\" or \"ca\")"
            }
            Self::UnknownIssuer | Self::OtherAuthority => {
                "the chain ends at an authority that is trusted here (verify = \"full\" or \"ca\")"
            }
            Self::ClientCertificateRequired => "the remote accepts our certificate",
            Self::VersionMismatch => "both speak one version of TLS",
            Self::NoApplicationProtocol => "the remote takes one of `tls.alpn`",
            Self::UnknownName => "the remote serves the name that is asked for",
            Self::Other(_) => "the handshake is as TLS has it",
        }
    }
}

impl Error {
    /// One word for a metric's label; the set is closed and small.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unresolvable { .. } => "unresolvable",
            Self::Refused { .. } => "refused",
            Self::Network { .. } => "network",
            Self::TimedOut { .. } => "timed_out",
            Self::BindAddress { .. } => "bind_address",
            Self::Proxy(failure) => failure.label(),
            Self::Tls(_) => "tls",
            Self::WebSocket(failure) => failure.label(),
            Self::NotMqtt(_) => "not_mqtt",
            Self::LevelRefused(_) => "level_refused",
            Self::BadLogin => "bad_login",
            Self::NotAuthorised(_) => "not_authorised",
            Self::ClientIdRejected(_) => "client_id_rejected",
            Self::KeepAlive { .. } => "keep_alive",
            Self::TakenOver { .. } => "taken_over",
            Self::Kicked { .. } => "kicked",
            Self::Loop { .. } | Self::Itself(_) | Self::LinksBack(_) => "loop",
            Self::Quota(_) => "quota",
            Self::PacketTooLarge(_) => "packet_too_large",
            Self::Unsupported(_) => "unsupported",
            Self::Moved(_) => "moved",
            Self::ServerGone { .. } => "server_gone",
            Self::ConnectRefused { .. } => "connect_refused",
            Self::Disconnected { .. } => "disconnected",
            Self::Violation { .. } => "violation",
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolve => "the name's address",
            Self::Connect => "the TCP connection",
            Self::Proxy => "the proxy's answer",
            Self::Tls => "the TLS handshake",
            Self::WebSocket => "the WebSocket",
            Self::Dial => "the connection",
            Self::Connack => "CONNACK",
        })
    }
}

fn tried(steps: &[(Level, StepDown)]) -> String {
    steps.iter().map(|(level, why)| format!("level {level}: {why}")).collect::<Vec<_>>().join(", ")
}

fn in_a_row(times: u32) -> String {
    if times > 1 { format!(", {times} times in a row") } else { String::new() }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() { "no name at all".into() } else { presented.join(", ") }
}

fn on(when: &Option<String>) -> String {
    when.as_deref().map(|when| format!(" ({when})")).unwrap_or_default()
}
