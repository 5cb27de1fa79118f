//! Every option of a listener and of a bridge of VerneMQ, and what becomes of it.

use crate::option::{Opt, becomes, idle, lost, nearly};

const PROXY: &str = "the PROXY protocol is not read yet, and clients behind such a proxy can't connect";
const PLAIN_PROXY: &str = "let the proxy pass connections on without it";
const XFF: &str = "the addresses that a proxy writes into HTTP headers are not read";
const SUITES: &str = "rustls brings only cipher suites and curves that are good, and there is nothing to choose";
const PSK: &str = "it belongs to TLS with pre-shared keys, which there is not";
const KEYS: &str = "the bridge keeps its queue in the store of the broker";
const ADMIN: &str = "metrics, health and API are on admin.bind";
const ACCOUNT: &str = "permissions and users hold on every listener";

/// `listener.OPTION`, `listener.PROTOCOL.OPTION` and `listener.PROTOCOL.NAME.OPTION`; the closest one holds.
pub(super) static LISTENER: &[Opt] = &[
    idle("active_n", "sockets are read as much as there is, within a turn"),
    nearly(
        "allow_anonymous_override",
        "listener.allow_anonymous",
        "On opens the listener, off leaves it to allow_anonymous.",
    ),
    becomes("allowed_protocol_versions", "listener.allowed_protocol_versions"),
    lost("auth_plugins", &[], ACCOUNT, "run a broker of its own for a listener with other users"),
    lost("authz_plugins", &[], ACCOUNT, "run a broker of its own for a listener with other rules"),
    idle("buffer_sizes", "the system's sizes hold"),
    nearly(
        "cafile",
        "listener.tls.client_ca_file",
        "Only with require_certificate, as there. Intermediate certificates of the server belong into cert_file.",
    ),
    becomes("certfile", "listener.tls.cert_file"),
    lost("ciphers", &[""], SUITES, "set listener.tls.min_version where an audit asks for it"),
    idle("config_fun", ADMIN),
    idle("config_mod", ADMIN),
    becomes("crlfile", "listener.tls.crl_file"),
    idle("depth", "a chain is followed as far as it goes"),
    lost("eccs", &[""], SUITES, "set listener.tls.min_version where an audit asks for it"),
    idle("forward_connection_opts", "there are no plugins to forward them to"),
    idle("high_msgq_watermark", "only a cluster needs it"),
    idle("high_watermark", "only a cluster needs it"),
    idle("http_module.$module.auth.mode", ADMIN),
    idle("http_module.$module.mqtt_auth.mode", "there is no publishing over HTTP"),
    idle("http_modules", ADMIN),
    becomes("keyfile", "listener.tls.key_file"),
    lost("keypasswd", &[""], "nobody could type a passphrase", "take it off the key: openssl pkey -in FILE -out NEW"),
    idle("low_msgq_watermark", "only a cluster needs it"),
    idle("low_watermark", "only a cluster needs it"),
    lost(
        "max_connection_lifetime",
        &["0"],
        "a connection lasts until one side ends it",
        "let a proxy in front end them",
    ),
    nearly(
        "max_connections",
        "listener.max_connections",
        "infinity is no limit, as is what is not written (there it is 10,000).",
    ),
    idle("max_header_value_length", "an upgrade request has a bound of its own"),
    idle("max_request_line_length", "an upgrade request has a bound of its own"),
    nearly(
        "mountpoint",
        "listener.mountpoint",
        "A prefix with '/' behind it. There clients of two mountpoints never meet; here those of a listener without one see all of them, and a ClientID is one session on all.",
    ),
    idle("nr_of_acceptors", "every worker takes connections"),
    lost("proxy_protocol", &["off"], PROXY, PLAIN_PROXY),
    idle("proxy_protocol_use_cn_as_username", "it belongs to proxy_protocol"),
    idle("proxy_xff_cn_header", XFF),
    lost("proxy_xff_support", &["off"], XFF, "look at the proxy's log for them"),
    idle("proxy_xff_trusted_intermediate", XFF),
    lost("proxy_xff_use_cn_as_username", &["off"], XFF, "let the listener take TLS itself, with username_from"),
    idle("psk_identity_hint", PSK),
    lost(
        "psk_support",
        &["off"],
        "there is no TLS with pre-shared keys; clients that have only those can't connect",
        "give those clients certificates or passwords",
    ),
    idle("pskfile", PSK),
    idle("pskfile_separator", PSK),
    nearly("require_certificate", "listener.tls.require_client_certificate", "With cafile."),
    idle("tls_handshake_timeout", "the handshake is part of limits.connect_timeout"),
    nearly("tls_version", "listener.tls.min_version", "The oldest of them; nothing before 1.2 is spoken."),
    nearly("use_identity_as_username", "listener.tls.username_from", "\"cn\""),
];

/// `vmq_bridge.tcp.NAME.OPTION` and `vmq_bridge.ssl.NAME.OPTION`.
pub(super) static BRIDGE: &[Opt] = &[
    becomes("cafile", "bridge.tls.ca_file"),
    nearly(
        "capath",
        "bridge.tls.ca_file",
        "The certificates of the folder become one file. VerneMQ has the option and does not look at it.",
    ),
    becomes("certfile", "bridge.tls.cert_file"),
    becomes("cleansession", "bridge.clean_session"),
    nearly("client_id", "bridge.client_id", "auto is HOST.NAME here too."),
    idle("customize_hostname_check", "names with a wildcard in a certificate are understood"),
    idle("depth", "a chain is followed as far as it goes"),
    idle("inet_version", "both are tried"),
    nearly(
        "insecure",
        "bridge.tls.verify",
        "\"none\": VerneMQ checks nothing then. \"ca\" would leave out the name only.",
    ),
    becomes("keepalive_interval", "bridge.keepalive"),
    becomes("keyfile", "bridge.tls.key_file"),
    lost(
        "identity",
        &[""],
        "there is no TLS with pre-shared keys; the bridge is not enabled",
        "get a certificate or a password for the remote, and set enabled = true",
    ),
    nearly(
        "max_outgoing_buffered_messages",
        "bridge.queue.max_messages",
        "0, which is nothing kept, is our default: a bridge always keeps what waits.",
    ),
    nearly("mountpoint", "bridge.topic.local_prefix", "Before the prefix of each rule, with '/' behind it."),
    nearly(
        "mqtt_version",
        "bridge.protocol_version",
        "When it is not written ours is \"auto\": the best that the remote speaks.",
    ),
    idle("outgoing_batch_size", "a window, bridge.max_inflight, is kept full instead"),
    becomes("password", "bridge.password"),
    idle("persistent_queue", KEYS),
    lost(
        "psk",
        &[""],
        "there is no TLS with pre-shared keys; the bridge is not enabled",
        "get a certificate or a password for the remote, and set enabled = true",
    ),
    idle("pubrel_queue_ratio", KEYS),
    idle("queue_dir", KEYS),
    nearly("restart_timeout", "bridge.reconnect_min, bridge.reconnect_max", "Both, with jitter."),
    idle("retry_interval", "nothing is sent again while a connection lasts, as the standard has it"),
    idle("segment_size", KEYS),
    becomes("sni", "bridge.tls.server_name"),
    nearly("tls_version", "bridge.tls.min_version", "Newer ones are spoken too."),
    nearly(
        "topic.$number",
        "bridge.topic",
        "Prefixes are levels there and strings here, so '/' is put behind them; '*' is '#', $empty is none.",
    ),
    becomes("try_private", "bridge.try_private"),
    becomes("username", "bridge.username"),
];
