//! The option table: every key, its type and bounds, its default, why it is there, and whether a reload may change it.
//!
//! In: nothing. Out: [`OPTIONS`], from which the reader takes types and defaults, `document` the sample and the
//! reference page, and `changes` what a reload may do. Must never: know of a key that is not in the table, or let
//! another file repeat a default.

use Fallback::{Is, Required, Reserved, Unset};
use Kind::{
    Address, AddressOrOff, Bool, BridgeVersion, Choice, Duration, Expiry, Integer, Ip, Levels, LogFilter, Name, Path,
    Proxy, Secret, Size, Text, Texts, Urls,
};
use Reload::{Live, Restart};

/// A table of the file, inner ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    Node,
    Log,
    Listener,
    ListenerTls,
    Limits,
    Session,
    Retained,
    Store,
    Auth,
    Admin,
    Sys,
    Bridge,
    BridgeTls,
    BridgeQueue,
    BridgeRemote,
    BridgeTopic,
}

impl Table {
    /// In the order of the file.
    pub(crate) const ALL: [Self; 16] = [
        Self::Node,
        Self::Log,
        Self::Listener,
        Self::ListenerTls,
        Self::Limits,
        Self::Session,
        Self::Retained,
        Self::Store,
        Self::Auth,
        Self::Admin,
        Self::Sys,
        Self::Bridge,
        Self::BridgeTls,
        Self::BridgeQueue,
        Self::BridgeRemote,
        Self::BridgeTopic,
    ];

    /// Its name as in a header.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Log => "log",
            Self::Listener => "listener",
            Self::ListenerTls => "listener.tls",
            Self::Limits => "limits",
            Self::Session => "session",
            Self::Retained => "retained",
            Self::Store => "store",
            Self::Auth => "auth",
            Self::Admin => "admin",
            Self::Sys => "sys",
            Self::Bridge => "bridge",
            Self::BridgeTls => "bridge.tls",
            Self::BridgeQueue => "bridge.queue",
            Self::BridgeRemote => "bridge.remote",
            Self::BridgeTopic => "bridge.topic",
        }
    }

    /// Whether there may be several, `[[...]]`.
    pub(crate) const fn is_list(self) -> bool {
        matches!(self, Self::Listener | Self::Bridge | Self::BridgeTopic)
    }

    /// The table with this header name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The tables inside this one, by the key that opens them.
    pub(crate) const fn inner(self) -> &'static [(&'static str, Self)] {
        match self {
            Self::Listener => &[("tls", Self::ListenerTls)],
            Self::Bridge => &[
                ("tls", Self::BridgeTls),
                ("queue", Self::BridgeQueue),
                ("remote", Self::BridgeRemote),
                ("topic", Self::BridgeTopic),
            ],
            _ => &[],
        }
    }

    /// What it is for, above its header in the sample and on the reference page.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Node => "This process.",
            Self::Log => "What is said to the operator, on standard error.",
            Self::Listener => "Where clients connect. Repeat the table for more listeners.",
            Self::ListenerTls => "TLS for the listener above. Without this table it speaks plain TCP.",
            Self::Limits => "What one client, or all together, may ask of this node.",
            Self::Session => "What is held for one client.",
            Self::Retained => "Retained messages.",
            Self::Store => "What survives a restart.",
            Self::Auth => "Who may log in and what they may do, on every listener.",
            Self::Admin => "Metrics, health and the API over HTTP.",
            Self::Sys => "The $SYS topics.",
            Self::Bridge => "Another broker as a peer. Repeat the table for more bridges.",
            Self::BridgeTls => "How TLS is spoken on mqtts:// and wss:// addresses.",
            Self::BridgeQueue => "What waits while the link is down.",
            Self::BridgeRemote => {
                "What the remote takes, where it does not say so itself; what CONNACK says of it counts too."
            }
            Self::BridgeTopic => {
                "What the bridge carries. Going out, local_prefix is taken off and remote_prefix put on; in, the reverse."
            }
        }
    }
}

/// The type of a value, with its bounds (both included).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text, empty too.
    Text,
    /// 1 to 64 bytes, printable, without `/`, `+`, `#`.
    Name,
    /// A path, not empty.
    Path,
    /// Text that is never printed.
    Secret,
    /// Tracing directives.
    LogFilter,
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    /// `"1MiB"` or whole bytes.
    Size {
        min: u64,
        max: u64,
    },
    /// `"30s"`; bounds in milliseconds. `seconds`: only whole seconds, and a bare integer is taken as such.
    Duration {
        min: u64,
        max: u64,
        seconds: bool,
    },
    /// A duration of whole seconds or `"never"`.
    Expiry,
    Choice(&'static [&'static str]),
    /// Protocol levels.
    Levels,
    /// `"127.0.0.1:1883"`.
    Address,
    /// An address or `"off"`.
    AddressOrOff,
    /// `"192.0.2.1"`.
    Ip,
    /// The address of a proxy, never printed.
    Proxy,
    /// A list of texts.
    Texts,
    /// One bridge address or a list of them.
    Urls,
    /// `"auto"`, 3, 4 or 5.
    BridgeVersion,
}

/// What holds when the key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// This value, as TOML.
    Is(&'static str),
    /// No value; `means` says what then happens.
    Unset { example: &'static str, means: &'static str },
    /// The key must be written.
    Required { example: &'static str },
    /// The key is for a later round; writing it is an error.
    Reserved { example: &'static str },
}

/// Whether a reload may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Takes effect on SIGHUP and `viaduct ctl reload`.
    Live,
    /// Takes effect when the broker is started again.
    Restart,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    pub(crate) table: Table,
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fallback: Fallback,
    pub(crate) reload: Reload,
    pub(crate) why: &'static str,
}

/// The option with this key, if there is one.
pub(crate) fn find(table: Table, key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.table == table && option.key == key)
}

/// The options of one table, in the order of the file.
pub(crate) fn of(table: Table) -> impl Iterator<Item = &'static Opt> {
    OPTIONS.iter().filter(move |option| option.table == table)
}

const fn opt(
    table: Table,
    key: &'static str,
    kind: Kind,
    fallback: Fallback,
    reload: Reload,
    why: &'static str,
) -> Opt {
    Opt { table, key, kind, fallback, reload, why }
}

const fn unset(example: &'static str, means: &'static str) -> Fallback {
    Unset { example, means }
}

const MILLISECOND: u64 = 1;
const SECOND: u64 = 1_000 * MILLISECOND;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// Keep alive is two bytes of seconds on the wire.
const KEEP_ALIVE_MAX: u64 = 65_535 * SECOND;
/// Session expiry is four bytes of seconds on the wire, and the highest value means "never".
const EXPIRY_MAX: u64 = 0xFFFF_FFFE * SECOND;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// The largest Remaining Length, with the five bytes of the longest fixed header before it.
const PACKET_MAX: u64 = 268_435_455 + 5;
/// CONNECT with a ClientID of 23 bytes, which every server has to take (MQTT-3.1.3-5), and CONNACK fit in it.
const PACKET_MIN: u64 = 64;
/// More than any disk or memory that one node meets; keeps sums of sizes far from the end of 64 bits.
const BYTES_MAX: u64 = 1 << 50;
/// As [`BYTES_MAX`], for things that are counted.
const COUNT_MAX: u64 = 1_000_000_000;

const FROM_1: Kind = Integer { min: 1, max: COUNT_MAX };
const U16_FROM_1: Kind = Integer { min: 1, max: 65_535 };

/// Every key, in the order of the file.
#[rustfmt::skip] // one option is one entry of a table: read it across
pub(crate) const OPTIONS: &[Opt] = &[
    opt(Table::Node, "id", Name, unset("\"gateway-1\"", "the host name"), Restart,
        "The name of this node: in logs, and the first part of a bridge's ClientID."),
    opt(Table::Node, "data_dir", Path, Is("\"./viaduct-data\""), Restart,
        "Where everything that survives a restart is kept: the store, in `store`. One broker at a time has it."),
    opt(Table::Node, "workers", Integer { min: 0, max: 1_024 }, Is("0"), Restart,
        "Worker threads; 0 is one per core."),

    opt(Table::Log, "filter", LogFilter, Is("\"info\""), Live,
        "What is logged, as tracing directives: \"info,viaduct_bridge=debug\"."),
    opt(Table::Log, "format", Choice(&["text", "json", "journald"]), Is("\"text\""), Restart,
        "How a line looks: \"text\" for people, \"json\" for collectors, \"journald\" under systemd."),

    opt(Table::Listener, "name", Name, Is("\"default\""), Restart,
        "Its name in logs and metrics. Unnamed ones are \"default\", \"listener-2\", \"listener-3\" by position."),
    opt(Table::Listener, "bind", Address, Is("\"127.0.0.1:1883\""), Restart,
        "Where it listens: \"127.0.0.1:1883\", \"[::]:1883\", \"localhost:1883\"; \":1883\" is every IPv4 address."),
    opt(Table::Listener, "transport", Choice(&["tcp", "ws"]), Is("\"tcp\""), Restart,
        "What carries MQTT: \"ws\" is WebSocket, with `tls` over TLS (wss)."),
    opt(Table::Listener, "path", Text, unset("\"/mqtt\"", "\"/mqtt\" when transport is \"ws\""), Restart,
        "The path that clients of a WebSocket listener ask for."),
    opt(Table::Listener, "allowed_protocol_versions", Levels, Is("[3, 4, 5, 131, 132]"), Live,
        "Levels that CONNECT may carry: 3 is 3.1, 4 is 3.1.1, 5 is 5.0, 131 and 132 are bridges on 3.1 and 3.1.1."),
    opt(Table::Listener, "allow_anonymous", Bool, unset("true", "true on a loopback address, false elsewhere"), Live,
        "Whether a client without credentials is let in."),
    opt(Table::Listener, "proxy_protocol", Bool, Reserved { example: "true" }, Restart,
        "Whether a load balancer puts the client's address in front (PROXY protocol)."),
    opt(Table::Listener, "mountpoint", Text, unset("\"site-a/\"", "nothing is put before them"), Restart,
        "Put before every topic and filter of this listener's clients, and taken off what they receive."),
    opt(Table::Listener, "max_connections", FROM_1, unset("10000", "no limit but the system's"), Live,
        "How many clients may be connected at once."),

    opt(Table::ListenerTls, "cert_file", Path, Required { example: "\"/etc/viaduct/server.pem\"" }, Live,
        "The certificate chain, PEM. Read again on reload."),
    opt(Table::ListenerTls, "key_file", Path, Required { example: "\"/etc/viaduct/server.key\"" }, Live,
        "Its private key, PEM."),
    opt(Table::ListenerTls, "client_ca_file", Path,
        unset("\"/etc/viaduct/clients-ca.pem\"", "no client certificate is asked for"), Live,
        "The authorities that client certificates are checked against."),
    opt(Table::ListenerTls, "crl_file", Path, unset("\"/etc/viaduct/revoked.pem\"", "none is revoked"), Live,
        "Revoked client certificates."),
    opt(Table::ListenerTls, "require_client_certificate", Bool, Is("false"), Live,
        "Whether a client without a certificate is refused."),
    opt(Table::ListenerTls, "username_from", Choice(&["none", "cn", "subject"]), Is("\"none\""), Live,
        "What of the client certificate becomes the user name: \"cn\" its common name, \"subject\" all of it."),
    opt(Table::ListenerTls, "min_version", Choice(&["1.2", "1.3"]), Is("\"1.2\""), Live,
        "The oldest TLS that is spoken."),

    opt(Table::Limits, "max_packet_size", Size { min: PACKET_MIN, max: PACKET_MAX }, Is("\"1MiB\""), Live,
        "The largest packet that is taken, header included; announced to 5.0."),
    opt(Table::Limits, "max_keepalive", Duration { min: SECOND, max: KEEP_ALIVE_MAX, seconds: true },
        unset("\"10m\"", "what the client says"), Live,
        "The longest keep alive; announced to 5.0 as server keep alive. A 3.x client that asks for more is refused (code 2)."),
    opt(Table::Limits, "connect_timeout", Duration { min: 100 * MILLISECOND, max: 10 * MINUTE, seconds: false },
        Is("\"5s\""), Live,
        "From accept to a whole CONNECT, TLS included; a client that says nothing is closed."),
    opt(Table::Limits, "receive_maximum", U16_FROM_1, Is("100"), Live,
        "Unacknowledged QoS 1 and 2 messages that a 5.0 client may send; announced to it. More QoS 1 is read as fast as it is acknowledged, more QoS 2 ends the connection."),
    opt(Table::Limits, "topic_alias_maximum", Integer { min: 0, max: 65_535 }, Is("10"), Live,
        "Topic aliases that a 5.0 client may set; 0 is none."),
    opt(Table::Limits, "max_topic_levels", U16_FROM_1, Is("200"), Live,
        "Levels in a topic name or filter: 200, as mosquitto has it, is beyond use and bounds the work of one match."),
    opt(Table::Limits, "max_client_id_length", Integer { min: 23, max: 65_535 }, Is("256"), Live,
        "Bytes in a ClientID; 23 is the least that the standard allows a server."),
    opt(Table::Limits, "max_subscriptions_per_session", FROM_1, Is("10000"), Live,
        "Subscriptions that one session may hold, so that one client cannot fill the memory with filters."),
    opt(Table::Limits, "connect_rate", FROM_1, unset("1000", "no limit"), Live,
        "New connections a second on one listener; more wait in the system's queue."),
    opt(Table::Limits, "message_rate", FROM_1, unset("1000", "no limit"), Live,
        "Messages a second from one client, above which it is read no faster."),
    opt(Table::Limits, "memory", Size { min: MIB, max: BYTES_MAX }, unset("\"2GiB\"", "no ceiling"), Live,
        "What queued and retained messages of the whole node may take."),

    opt(Table::Session, "max_inflight", U16_FROM_1,
        unset("20", "20 towards 3.1 and 3.1.1, for 5.0 the client's receive maximum, at most 1,000"), Live,
        "Unacknowledged QoS 1 and 2 messages towards one client."),
    opt(Table::Session, "max_queued_messages", FROM_1, Is("10000"), Live,
        "QoS 1 and 2 messages that wait for one session; this or max_queued_bytes, what comes first. QoS 0 is bounded by its bytes alone."),
    opt(Table::Session, "max_queued_bytes", Size { min: KIB, max: BYTES_MAX }, Is("\"16MiB\""), Live,
        "Bytes that wait for one session."),
    opt(Table::Session, "on_full", Choice(&["drop_oldest", "drop_newest", "disconnect"]), Is("\"drop_newest\""), Live,
        "What happens to a message that does not fit: counted, and logged once a minute for a session."),
    opt(Table::Session, "max_expiry", Duration { min: 0, max: EXPIRY_MAX, seconds: true },
        unset("\"7d\"", "as long as the client asks for"), Live,
        "The longest session expiry; when set, announced to 5.0."),
    opt(Table::Session, "on_duplicate", Choice(&["take_over", "reject"]), Is("\"take_over\""), Live,
        "A second CONNECT with a ClientID in use: takes the session (the standard), or is refused."),
    opt(Table::Session, "suppress_will_on_takeover", Bool, Is("false"), Live,
        "Whether a takeover keeps the old connection's will from being published; the standard publishes it."),

    opt(Table::Retained, "enabled", Bool, Is("true"), Live,
        "Whether retained messages are kept."),
    opt(Table::Retained, "max_messages", FROM_1, Is("1000000"), Live,
        "How many are kept; one more is delivered but not retained, and counted."),
    opt(Table::Retained, "max_payload", Size { min: 1, max: PACKET_MAX },
        unset("\"64KiB\"", "what limits.max_packet_size lets in"), Live,
        "The largest payload that is retained."),

    opt(Table::Store, "sync", Choice(&["always", "interval", "off"]), Is("\"always\""), Restart,
        "When a write is forced to disk: before the acknowledgement, once a second after it, or never by us. Only the first is safe against a power cut."),
    opt(Table::Store, "commit_delay", Duration { min: 0, max: SECOND, seconds: false }, Is("\"2ms\""), Restart,
        "How long a QoS 1 message waits for acknowledgements: when all who are owed it send theirs, it is never written. What they can't save is written at once."),
    opt(Table::Store, "max_bytes", Size { min: MIB, max: BYTES_MAX }, unset("\"10GiB\"", "what the disk has"), Restart,
        "What the store may take on disk; then QoS 1 and 2 to persistent sessions is refused until there is room."),

    opt(Table::Auth, "password_file", Path, unset("\"/etc/viaduct/passwd\"", "nobody has a password"), Live,
        "Users and password hashes, mosquitto's format; made by `viaduct passwd`. With a user made by `viaduct passwd --scram` in it, 5.0 clients may use SCRAM-SHA-256. Read again on reload."),
    opt(Table::Auth, "acl_file", Path, unset("\"/etc/viaduct/acl\"", "everybody may do everything but write $SYS"), Live,
        "Who may publish and subscribe to what, mosquitto's format. Read again on reload."),
    opt(Table::Auth, "jwt", Text, Reserved { example: "{ key_file = \"/etc/viaduct/jwt.pem\" }" }, Restart,
        "JSON Web Tokens as passwords."),
    opt(Table::Auth, "webhook", Text, Reserved { example: "{ url = \"http://127.0.0.1:9000/mqtt\" }" }, Restart,
        "An HTTP service that decides."),

    opt(Table::Admin, "bind", AddressOrOff, Is("\"127.0.0.1:8888\""), Restart,
        "Where HTTP listens; \"off\" for nowhere."),
    opt(Table::Admin, "token_file", Path, unset("\"/etc/viaduct/admin-token\"", "the API answers on loopback only"), Live,
        "Holds the token that the API asks for. Metrics and health ask for none."),

    opt(Table::Sys, "interval", Duration { min: 0, max: HOUR, seconds: true }, Is("\"10s\""), Live,
        "How often $SYS topics are published; \"0s\" is never."),

    opt(Table::Bridge, "name", Name, Required { example: "\"headquarters\"" }, Live,
        "Its name in logs and metrics; here it is the client $bridge/<name>."),
    opt(Table::Bridge, "enabled", Bool, Is("true"), Live,
        "Whether it runs."),
    opt(Table::Bridge, "url", Urls, Required { example: "\"mqtts://broker.example.com\"" }, Live,
        "One address or a list, tried in order: mqtt://host[:1883], mqtts://host[:8883], ws://host[:80][/mqtt], wss://host[:443][/mqtt]."),
    opt(Table::Bridge, "protocol_version", BridgeVersion, Is("\"auto\""), Live,
        "\"auto\" takes the best that the remote speaks; 3 is 3.1, 4 is 3.1.1, 5 is 5.0."),
    opt(Table::Bridge, "try_private", Bool, Is("true"), Live,
        "May set bit 7 of the level on 3.1 and 3.1.1, by which many brokers spare a bridge its own messages."),
    opt(Table::Bridge, "client_id", Text, unset("\"gateway-1.headquarters\"", "<node.id>.<name>"), Live,
        "The ClientID at the remote; two bridges to one remote need two."),
    opt(Table::Bridge, "username", Text, unset("\"gateway-1\"", "none is sent"), Live,
        "The user name at the remote."),
    opt(Table::Bridge, "password", Secret, unset("\"secret\"", "none is sent"), Live,
        "The password at the remote. Better kept in password_file."),
    opt(Table::Bridge, "password_file", Path, unset("\"/etc/viaduct/headquarters.password\"", "see password"), Live,
        "A file that holds only the password; one line end at its end is ignored."),
    opt(Table::Bridge, "keepalive", Duration { min: SECOND, max: KEEP_ALIVE_MAX, seconds: true }, Is("\"60s\""), Live,
        "How long the link may be silent before it is probed; also as whole seconds: 60."),
    opt(Table::Bridge, "clean_session", Bool, Is("false"), Live,
        "Whether the remote forgets the bridge when the link breaks, with what waits there."),
    opt(Table::Bridge, "session_expiry", Expiry, unset("\"never\"", "never, or 0 with clean_session"), Live,
        "How long a 5.0 remote keeps the session without a link: a duration or \"never\"."),
    opt(Table::Bridge, "connect_timeout", Duration { min: 100 * MILLISECOND, max: 10 * MINUTE, seconds: false },
        Is("\"10s\""), Live,
        "How long each step of an attempt may take: name, TCP, proxy, TLS, WebSocket, CONNACK."),
    opt(Table::Bridge, "reconnect_min", Duration { min: 10 * MILLISECOND, max: 24 * HOUR, seconds: false },
        Is("\"1s\""), Live,
        "The first wait after a failure; each further one is longer, with jitter."),
    opt(Table::Bridge, "reconnect_max", Duration { min: 10 * MILLISECOND, max: 24 * HOUR, seconds: false },
        Is("\"60s\""), Live,
        "The longest wait. Attempts never end."),
    opt(Table::Bridge, "max_inflight", U16_FROM_1, Is("20"), Live,
        "Unacknowledged QoS 1 and 2 messages; mosquitto closes a 3.1.1 client that has more than 20."),
    opt(Table::Bridge, "failback", Duration { min: 0, max: 24 * HOUR, seconds: false }, Is("\"5m\""), Live,
        "With several addresses: how often the first one is probed while another is in use, to return to it; \"0s\" is never."),
    opt(Table::Bridge, "proxy", Proxy, unset("\"http://user@proxy.example.com:3128\"", "none"), Live,
        "What the remote is reached through: http://[user[:password]@]host:port (CONNECT) or socks5://[user[:password]@]host[:1080]. It resolves the remote's name."),
    opt(Table::Bridge, "proxy_password_file", Path, unset("\"/etc/viaduct/proxy.password\"", "the password in proxy"), Live,
        "A file that holds only the password at the proxy; one line end at its end is ignored."),
    opt(Table::Bridge, "bind_address", Ip, unset("\"192.0.2.7\"", "the system chooses"), Live,
        "The address of this machine that connections to the remote, or to the proxy, come from."),
    opt(Table::Bridge, "links", Integer { min: 1, max: 16 }, Is("1"), Live,
        "Connections that share the work by topic; each has its own queue, and a ClientID that ends in -2, -3 and so on."),
    opt(Table::Bridge, "notifications", Bool, Is("true"), Live,
        "Publishes 1 or 0 as $SYS/broker/connection/<client_id>/state at the remote, as it does here in any case."),

    opt(Table::BridgeTls, "ca_file", Path, unset("\"/etc/viaduct/ca.pem\"", "those that the system trusts"), Live,
        "The authorities that the remote is checked against, PEM."),
    opt(Table::BridgeTls, "cert_file", Path, unset("\"/etc/viaduct/bridge.pem\"", "no client certificate"), Live,
        "Our certificate chain, PEM."),
    opt(Table::BridgeTls, "key_file", Path, unset("\"/etc/viaduct/bridge.key\"", "no client certificate"), Live,
        "Its private key, PEM."),
    opt(Table::BridgeTls, "verify", Choice(&["full", "ca", "none"]), Is("\"full\""), Live,
        "What is checked: \"full\" chain, dates and name; \"ca\" not the name; \"none\" nothing, and anybody may listen."),
    opt(Table::BridgeTls, "server_name", Text, unset("\"broker.example.com\"", "the host of the address"), Live,
        "The name that is asked for and checked."),
    opt(Table::BridgeTls, "alpn", Texts, Is("[]"), Live,
        "Application protocols to offer, such as [\"x-amzn-mqtt-ca\"]."),
    opt(Table::BridgeTls, "min_version", Choice(&["1.2", "1.3"]), Is("\"1.2\""), Live,
        "The oldest TLS that is spoken."),
    opt(Table::BridgeTls, "max_version", Choice(&["1.2", "1.3"]), Is("\"1.3\""), Live,
        "The newest TLS that is spoken."),

    opt(Table::BridgeQueue, "max_messages", FROM_1, unset("100000", "session.max_queued_messages"), Live,
        "Messages that wait for the remote."),
    opt(Table::BridgeQueue, "max_bytes", Size { min: KIB, max: BYTES_MAX }, unset("\"64MiB\"", "session.max_queued_bytes"), Live,
        "Bytes that wait for the remote."),
    opt(Table::BridgeQueue, "max_age", Duration { min: SECOND, max: EXPIRY_MAX, seconds: true },
        unset("\"1d\"", "as old as its own expiry lets it"), Live,
        "How old a waiting message may get."),
    opt(Table::BridgeQueue, "drain_rate", Integer { min: 0, max: 1_000_000 }, unset("500", "no limit"), Live,
        "QoS 1 and 2 messages a second that go out at most, so that a backlog floods nobody; 0: no limit."),
    opt(Table::BridgeQueue, "on_full", Choice(&["drop_oldest", "drop_newest"]), Is("\"drop_newest\""), Live,
        "What happens to a message that does not fit; counted."),

    opt(Table::BridgeRemote, "max_qos", Integer { min: 0, max: 2 }, Is("2"), Live,
        "The highest QoS of messages to the remote and of subscriptions there."),
    opt(Table::BridgeRemote, "retain", Bool, Is("true"), Live,
        "Whether it takes retained messages; false sends them, and the will, without the flag."),
    opt(Table::BridgeRemote, "max_packet_size", Size { min: 64, max: PACKET_MAX }, unset("\"128KiB\"", "no limit"), Live,
        "The largest packet that it takes; what is larger is dropped and counted."),
    opt(Table::BridgeRemote, "dollar_topics", Bool, Is("true"), Live,
        "Whether clients may use topics that begin with $; false also keeps the state of the bridge from it."),
    opt(Table::BridgeRemote, "max_topic_levels", U16_FROM_1, unset("8", "no limit"), Live,
        "The most levels of a topic that it takes; messages on deeper ones are dropped and counted."),
    opt(Table::BridgeRemote, "max_topic_bytes", U16_FROM_1, unset("256", "no limit"), Live,
        "The longest topic that it takes, in bytes; messages on longer ones are dropped and counted."),
    opt(Table::BridgeRemote, "unsubscribe", Bool, Is("true"), Live,
        "Whether it takes UNSUBSCRIBE; false for one that ends the link on it."),
    opt(Table::BridgeRemote, "filters_per_packet", U16_FROM_1, unset("8", "as many as fit 16 KiB"), Live,
        "The most filters of one SUBSCRIBE or UNSUBSCRIBE."),

    opt(Table::BridgeTopic, "filter", Text, Required { example: "\"sensors/#\"" }, Live,
        "What is carried, without prefixes; \"\" with both prefixes renames one topic."),
    opt(Table::BridgeTopic, "direction", Choice(&["in", "out", "both"]), Is("\"out\""), Live,
        "\"out\" from here to the remote, \"in\" from the remote to here, or \"both\"."),
    opt(Table::BridgeTopic, "qos", Integer { min: 0, max: 2 }, Is("1"), Live,
        "The most that a message is carried with: its own QoS or this one, whichever is lower."),
    opt(Table::BridgeTopic, "retain", Bool, Is("true"), Live,
        "Whether the retain flag is carried."),
    opt(Table::BridgeTopic, "local_prefix", Text, Is("\"\""), Live,
        "Before the filter here; usually ends in \"/\"."),
    opt(Table::BridgeTopic, "remote_prefix", Text, Is("\"\""), Live,
        "Before the filter at the remote; usually ends in \"/\"."),
    opt(Table::BridgeTopic, "allow_loop", Bool, Is("false"), Live,
        "Runs a rule whose messages could come back when the remote can neither do No Local nor sees a bridge."),
];
