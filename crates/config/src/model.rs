//! The configuration as meant: plain values in the units that the rest of the house works with.
//!
//! In: nothing; `read` fills these. Out: types without behaviour. Every value in a [`Config`] that [`crate::load`]
//! returned has been checked: ranges hold, filters are valid, names are unique, contradictions are gone.
//! Must never: read a file, look at the environment, or hold a value that was not checked.
//!
//! Paths are kept as written; a relative one is relative to the working directory of the process.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use viaduct_codec::{Level, QoS, TopicFilter};

/// Everything that `broker.toml`, the environment and the command line say, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[node]`
    pub node: NodeConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[[listener]]`, in the order of the file; at least one. Names and addresses are unique.
    pub listeners: Vec<Listener>,
    /// `[limits]`
    pub limits: Limits,
    /// `[session]`
    pub session: Session,
    /// `[retained]`
    pub retained: Retained,
    /// `[store]`
    pub store: Store,
    /// `[auth]`
    pub auth: Auth,
    /// `[admin]`
    pub admin: Admin,
    /// `[sys]`
    pub sys: Sys,
    /// `[[bridge]]`, in the order of the file, the disabled ones included. Names are unique.
    pub bridges: Vec<Bridge>,
}

/// `[node]`: this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The name of this node, 1 to 64 bytes without control characters, `/`, `+`, `#`. Default: the host name.
    pub id: String,
    /// Where everything that survives a restart is kept.
    pub data_dir: PathBuf,
    /// How many worker threads; 0 means one per core.
    pub workers: usize,
}

/// `[log]`: what is said to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Tracing directives, checked: `tracing_subscriber::EnvFilter` accepts them.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// Lines with the priority prefix that systemd's journal reads from standard error.
    Journald,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in logs and metrics: 1 to 64 bytes without control characters.
    pub name: String,
    /// Where it listens. Port 0 lets the system choose.
    pub bind: SocketAddr,
    /// What carries MQTT.
    pub transport: Transport,
    /// The levels that CONNECT may carry; not empty, without repetition, ascending.
    pub allowed_protocol_versions: Vec<Level>,
    /// Whether a CONNECT without credentials is let in. Default: true when `bind` is a loopback address.
    pub allow_anonymous: bool,
    /// Put before every topic and filter of this listener's clients, and taken off what they receive. A valid
    /// topic name without wildcards when present.
    pub mountpoint: Option<String>,
    /// How many clients may be connected at once; `None`: no limit but the system's.
    pub max_connections: Option<u32>,
    /// TLS, when the listener speaks it.
    pub tls: Option<TlsServer>,
}

/// What carries MQTT on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, or TLS when [`Listener::tls`] is there.
    Tcp,
    /// WebSocket, over TLS when [`Listener::tls`] is there.
    WebSocket {
        /// What the upgrade request must ask for: begins with `/`, and is printable ASCII without `?`, `#` and spaces.
        path: String,
    },
}

impl Transport {
    /// The path of a WebSocket listener.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Tcp => None,
            Self::WebSocket { path } => Some(path),
        }
    }
}

/// `tls` of a listener. The files are read by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsServer {
    /// The certificate chain, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The authorities that client certificates are checked against; `None`: no client certificate is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// Revoked client certificates, PEM. Only with `client_ca_file`.
    pub crl_file: Option<PathBuf>,
    /// Whether a client without a certificate is refused. Only with `client_ca_file`.
    pub require_client_certificate: bool,
    /// What of the client certificate becomes the user name.
    pub username_from: UsernameFrom,
    /// The oldest TLS that is spoken.
    pub min_version: TlsVersion,
}

/// What of a client certificate becomes the user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsernameFrom {
    /// Nothing: the user name comes from CONNECT.
    None,
    /// The common name of the subject.
    CommonName,
    /// The whole subject.
    Subject,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// `[limits]`: what one client, or all together, may ask of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest packet that is taken, in bytes with its fixed header; announced to 5.0.
    pub max_packet_size: u32,
    /// The longest keep alive, whole seconds; `None`: what the client says. Announced to 5.0 as Server Keep Alive.
    pub max_keepalive: Option<u16>,
    /// From accept to the end of CONNECT, TLS included.
    pub connect_timeout: Duration,
    /// Unacknowledged QoS 1 and 2 messages that a 5.0 client may send (Receive Maximum); at least 1.
    pub receive_maximum: u16,
    /// Topic aliases that a 5.0 client may set (Topic Alias Maximum); 0: none.
    pub topic_alias_maximum: u16,
    /// Levels that a topic name or filter may have; at least 1.
    pub max_topic_levels: u16,
    /// Bytes that a ClientID may have; at least 23 (MQTT-3.1.3-5).
    pub max_client_id_length: u16,
    /// Subscriptions that one session may hold; at least 1.
    pub max_subscriptions_per_session: u32,
    /// New connections a second on one listener; `None`: no limit.
    pub connect_rate: Option<u32>,
    /// PUBLISH packets a second from one client, above which it is read no faster; `None`: no limit.
    pub message_rate: Option<u32>,
    /// Bytes that queued and retained messages of the whole node may take; `None`: no ceiling.
    pub memory: Option<u64>,
}

/// `[session]`: what a session holds for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Unacknowledged QoS 1 and 2 messages towards a 3.1 or 3.1.1 client; at least 1. Default 20.
    pub max_inflight_v3: u16,
    /// The most that a 5.0 client's Receive Maximum is taken at; at least 1. Default 1,000. Both numbers are
    /// `session.max_inflight` when that is written.
    pub max_inflight_v5: u16,
    /// Messages that wait for one session; at least 1.
    pub max_queued_messages: u32,
    /// Bytes that wait for one session.
    pub max_queued_bytes: u64,
    /// What happens to a message that does not fit.
    pub on_full: OnFull,
    /// The longest session expiry, whole seconds; `None`: what the client asks for. Announced to 5.0.
    pub max_expiry: Option<u32>,
    /// What a second CONNECT with a ClientID in use meets.
    pub on_duplicate: OnDuplicate,
    /// Whether a takeover keeps the old connection's will from being published.
    pub suppress_will_on_takeover: bool,
}

/// What happens to a message that does not fit in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest waiting message goes.
    DropOldest,
    /// The arriving message goes.
    DropNewest,
    /// The receiver is disconnected. Not for bridges.
    Disconnect,
}

/// What a second CONNECT with a ClientID in use meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// The new connection takes the session, the old one is closed (MQTT-3.1.4-3).
    TakeOver,
    /// The new connection is refused.
    Reject,
}

/// `[retained]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Whether retained messages are kept; announced to 5.0 (Retain Available).
    pub enabled: bool,
    /// How many are kept; at least 1.
    pub max_messages: u64,
    /// The largest payload that is retained, in bytes; `None`: what `max_packet_size` lets in.
    pub max_payload: Option<u64>,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// When what is written is forced to the disk.
    pub sync: Sync,
    /// How long a group of writes gathers before it is synced; 0: not at all.
    pub commit_delay: Duration,
    /// Bytes that the store may take on disk; `None`: what the disk has.
    pub max_bytes: Option<u64>,
}

/// When what is written is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before anything is acknowledged.
    Always,
    /// Once a second, after it was acknowledged: a power cut may lose the last second.
    Interval,
    /// When the system likes: a power cut may lose anything that is not on disk.
    Off,
}

/// `[auth]`: who may log in and what they may do, on every listener. The files are read by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Users and password hashes in mosquitto's format.
    pub password_file: Option<PathBuf>,
    /// Permissions in mosquitto's format; `None`: everybody may do everything but write to `$SYS`.
    pub acl_file: Option<PathBuf>,
}

/// `[admin]`: metrics, health and the API over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; `None` (written `"off"`): nowhere.
    pub bind: Option<SocketAddr>,
    /// Holds the token that the API asks for. On anything but loopback the API without one answers nobody (metrics
    /// and health still do).
    pub token_file: Option<PathBuf>,
}

/// `[sys]`: the `$SYS` topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sys {
    /// How often they are published; `None` (written `"0s"`): never.
    pub interval: Option<Duration>,
}

/// One `[[bridge]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name: 1 to 64 bytes, without control characters, `/`, `+`, `#`. The local ClientID is `$bridge/<name>`.
    pub name: String,
    /// Whether it runs.
    pub enabled: bool,
    /// The addresses of the remote broker, tried in this order; at least one.
    pub urls: Vec<BridgeUrl>,
    /// What is spoken.
    pub protocol_version: BridgeVersion,
    /// Whether bit 7 of the level may be set on 3.1 and 3.1.1.
    pub try_private: bool,
    /// The ClientID at the remote. Default `<node.id>.<name>`. Empty only with `clean_session`.
    pub client_id: String,
    /// The user name at the remote.
    pub username: Option<String>,
    /// The password at the remote. Never together with `password_file`.
    pub password: Option<Secret>,
    /// A file that holds only the password; one trailing line end is not part of it. Read at the start and on reload.
    pub password_file: Option<PathBuf>,
    /// Keep alive, whole seconds, 1 to 65,535.
    pub keepalive: u16,
    /// Clean Session (3.x), Clean Start on every connection (5.0).
    pub clean_session: bool,
    /// Session Expiry Interval for 5.0 in seconds; 0xFFFF_FFFF: never. Default: never, or 0 with `clean_session`.
    pub session_expiry: u32,
    /// How long each step of an attempt may take (connect, TLS, CONNACK).
    pub connect_timeout: Duration,
    /// The first wait after a failure.
    pub reconnect_min: Duration,
    /// The longest wait after a failure; not below `reconnect_min`.
    pub reconnect_max: Duration,
    /// Unacknowledged QoS 1 and 2 messages towards the remote; at least 1.
    pub max_inflight: u16,
    /// Connections that share the work, 1 to 16.
    pub links: u8,
    /// How TLS is spoken on those `urls` that are `mqtts://` or `wss://`.
    pub tls: BridgeTls,
    /// What waits while the link is down.
    pub queue: BridgeQueue,
    /// What the remote is reached through; `None`: nothing.
    pub proxy: Option<BridgeProxy>,
    /// The address of this machine that connections come from; `None`: the system chooses.
    pub bind_address: Option<IpAddr>,
    /// How often the first of several `urls` is probed while another one is in use; `None`: never.
    pub failback: Option<Duration>,
    /// What the remote takes.
    pub remote: BridgeRemote,
    /// Whether the state is published as `$SYS/broker/connection/<client_id>/state`, here and at the remote.
    pub notifications: bool,
    /// What is carried.
    pub topics: Vec<BridgeTopic>,
}

impl Bridge {
    /// The ClientID that the link with this index, from 0, has at the remote.
    #[must_use]
    pub fn link_client_id(&self, index: u8) -> String {
        if index == 0 || self.client_id.is_empty() {
            return self.client_id.clone();
        }
        format!("{}-{}", self.client_id, u16::from(index) + 1)
    }

    /// The ClientIDs of all its links.
    pub(crate) fn client_ids(&self) -> impl Iterator<Item = String> {
        (0..self.links).map(|index| self.link_client_id(index))
    }
}

/// One address of a remote broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BridgeUrl {
    /// A DNS name or an IP address, an IPv6 one without its brackets.
    pub host: String,
    /// The TCP port: 1883 or, with TLS, 8883 when the URL names none; 80 or 443 over WebSocket.
    pub port: u16,
    /// Whether TLS is spoken: `mqtts://` and `wss://`.
    pub tls: bool,
    /// The path that is asked for when WebSocket carries MQTT: `ws://` and `wss://`.
    pub websocket: Option<String>,
}

impl fmt::Display for BridgeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.websocket, self.tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let path = self.websocket.as_deref().unwrap_or_default();
        write!(f, "{scheme}://{open}{}{close}:{}{path}", self.host, self.port)
    }
}

/// What stands between a bridge and its remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeProxy {
    /// How it is asked.
    pub kind: ProxyKind,
    /// A DNS name or an IP address, an IPv6 one without its brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// The user name at the proxy, at most 255 bytes.
    pub username: Option<String>,
    /// The password at the proxy, at most 255 bytes. Never together with `password_file`.
    pub password: Option<Secret>,
    /// A file that holds only the password, as that of a bridge. Only with a user.
    pub password_file: Option<PathBuf>,
}

/// How a proxy is asked to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT (RFC 9110), with Basic credentials.
    Http,
    /// SOCKS 5 (RFC 1928), with user and password (RFC 1929).
    Socks5,
}

/// What a bridge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeVersion {
    /// The best that the remote takes: 5, 132, 4, 131, 3.
    Auto,
    /// 3.1 only.
    V31,
    /// 3.1.1 only.
    V311,
    /// 5.0 only.
    V5,
}

/// A password. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `remote` of a bridge: what it takes, where it does not say so itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRemote {
    /// The highest QoS of messages and subscriptions.
    pub max_qos: QoS,
    /// Whether it takes retained messages.
    pub retain: bool,
    /// The largest packet, bytes, at least 64; `None`: no limit.
    pub max_packet_size: Option<u32>,
    /// Whether it takes topics and filters that begin with `$`.
    pub dollar_topics: bool,
    /// The most levels of a topic, at least 1.
    pub max_topic_levels: Option<u16>,
    /// The longest topic, bytes, at least 1.
    pub max_topic_bytes: Option<u16>,
    /// Whether it takes UNSUBSCRIBE.
    pub unsubscribe: bool,
    /// The most filters of one SUBSCRIBE or UNSUBSCRIBE, at least 1.
    pub filters_per_packet: Option<u16>,
}

/// `tls` of a bridge. The files are read by the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeTls {
    /// The authorities that the remote is checked against, PEM; `None`: the public ones.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain, PEM; always together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    pub key_file: Option<PathBuf>,
    /// What of the remote's certificate is checked.
    pub verify: Verify,
    /// The name that is asked for and checked; `None`: the host of the URL.
    pub server_name: Option<String>,
    /// Application protocols that are offered, in order; empty: no ALPN.
    pub alpn: Vec<String>,
    /// The oldest TLS that is spoken.
    pub min_version: TlsVersion,
    /// The newest TLS that is spoken; not below `min_version`.
    pub max_version: TlsVersion,
}

/// What of a remote's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The chain, the dates and the name.
    Full,
    /// The chain and the dates.
    Ca,
    /// Nothing: anybody in between can read and write.
    None,
}

/// `queue` of a bridge: what waits for the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeQueue {
    /// Messages; default `session.max_queued_messages`.
    pub max_messages: u32,
    /// Bytes; default `session.max_queued_bytes`.
    pub max_bytes: u64,
    /// How old a message may get; `None`: as old as its own expiry lets it.
    pub max_age: Option<Duration>,
    /// QoS 1 and 2 messages a second towards the remote; `None`: no limit.
    pub drain_rate: Option<NonZeroU32>,
    /// What happens to a message that does not fit; never [`OnFull::Disconnect`].
    pub on_full: OnFull,
}

/// One `[[bridge.topic]]`.
///
/// Going out, `local_prefix` is taken off a topic and `remote_prefix` put before it; coming in, the reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeTopic {
    /// As written, without prefixes; may be empty when both prefixes are there (one topic, renamed).
    pub filter: String,
    /// Which way.
    pub direction: Direction,
    /// The most that a message is carried with: its own QoS or this one, whichever is lower.
    pub qos: QoS,
    /// Whether the RETAIN flag is carried; `false` clears it.
    pub retain: bool,
    /// Before the filter here. May be empty.
    pub local_prefix: String,
    /// Before the filter at the remote. May be empty.
    pub remote_prefix: String,
    /// Whether the rule is run although its messages may come back.
    pub allow_loop: bool,
    /// `local_prefix` + `filter`: what is subscribed to here by an `out` rule.
    pub local: TopicFilter,
    /// `remote_prefix` + `filter`: what is subscribed to at the remote by an `in` rule.
    pub remote: TopicFilter,
}

/// Which way a topic rule carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the remote to here.
    In,
    /// From here to the remote.
    Out,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether messages come from the remote.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    /// Whether messages go to the remote.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }
}
