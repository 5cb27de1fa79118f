//! As written to as meant: fills a [`Config`] from the layers.
//!
//! In: a [`Source`]. Out: a checked [`Config`] with its warnings, or every error. Must never: repeat a default of the
//! option table, or return a configuration that has an error.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use config::{Map, Value, ValueKind};
use viaduct_codec::{QoS, TopicName};

use crate::error::{Errors, Problem};
use crate::layers;
use crate::model::{
    Admin, Auth, Bridge, BridgeProxy, BridgeQueue, BridgeRemote, BridgeTls, BridgeTopic, BridgeUrl, BridgeVersion,
    Config, Direction, Limits, Listener, LogConfig, LogFormat, NodeConfig, OnDuplicate, OnFull, Retained, Secret,
    Session, Store, Sync, Sys, TlsServer, TlsVersion, Transport, UsernameFrom, Verify,
};
use crate::option::Table;
use crate::reader::{At, Reader};
use crate::run_time::{Origin, WrittenBridge};
use crate::value::{Meaning, is_name};
use crate::written::Written;
use crate::{Loaded, Source, check, check_bridge};

/// Unacknowledged messages towards 3.1 and 3.1.1 clients when `session.max_inflight` is not written: what mosquitto
/// allows, and more than which some of these clients cannot take.
const MAX_INFLIGHT_V3: u16 = 20;
/// The same for 5.0, whose client says itself what it can take: a bound on what one session keeps in flight.
const MAX_INFLIGHT_V5: u16 = 1_000;
/// The node's name on a machine whose own name cannot be one.
const NODE_ID: &str = "viaduct";
/// Session Expiry Interval that means "never" (MQTT 5.0 section 3.1.2.11.2).
const NEVER: u32 = u32::MAX;

/// Reads a configuration.
///
/// # Errors
/// Everything that is wrong with it, in one go, in the order of the file.
pub fn load(source: Source) -> Result<Loaded, Errors> {
    let hostname = source.hostname.clone();
    let layers = layers::lay(source);
    // What is wrong with the syntax hides what is wrong with the rest: more than that one error would be noise.
    let unreadable = layers.errors.iter().any(|error| matches!(error.problem, Problem::Syntax(_)));
    let mut reader = Reader::new(layers.places, layers.errors, layers.warnings);
    let config = read_config(&mut reader, &layers.root, &hostname);
    if !unreadable {
        check::all(&mut reader, &config);
    }
    let warnings = reader.finish()?;
    Ok(Loaded { config, warnings, bridges: written(&layers.root, &layers.origins) })
}

/// The bridges as they were written; nothing is wrong with them.
fn written(root: &Map<String, Value>, origins: &[Origin]) -> Vec<WrittenBridge> {
    let Some(ValueKind::Array(entries)) = root.get("bridge").map(|value| &value.kind) else { return Vec::new() };
    let keys = |entry: &Value| match &entry.kind {
        ValueKind::Table(keys) => Written(keys.clone()),
        _ => Written::default(),
    };
    entries.iter().zip(origins).map(|(entry, origin)| WrittenBridge { written: keys(entry), origin: *origin }).collect()
}

fn read_config(reader: &mut Reader, root: &Map<String, Value>, hostname: &str) -> Config {
    reader.refuse_unknown_sections(root);
    let node = read_node(reader, root, hostname);
    let log = read_log(reader, root);
    let listeners = read_listeners(reader, root);
    let limits = read_limits(reader, root);
    let session = read_session(reader, root);
    let retained = read_retained(reader, root);
    let store = read_store(reader, root);
    let at = reader.section(root, Table::Auth);
    let auth = Auth { password_file: path(reader, &at, "password_file"), acl_file: path(reader, &at, "acl_file") };
    let at = reader.section(root, Table::Admin);
    let admin = Admin { bind: address(reader, &at, "bind"), token_file: path(reader, &at, "token_file") };
    let at = reader.section(root, Table::Sys);
    let sys = Sys { interval: reader.optional_duration(&at, "interval").filter(|interval| !interval.is_zero()) };
    let bridges = reader
        .list(Some(root), "bridge", Table::Bridge)
        .iter()
        .map(|at| read_bridge(reader, at, &node.id, &session))
        .collect();
    Config { node, log, listeners, limits, session, retained, store, auth, admin, sys, bridges }
}

fn path(reader: &mut Reader, at: &At<'_>, key: &str) -> Option<PathBuf> {
    reader.optional_text(at, key).map(PathBuf::from)
}

fn address(reader: &mut Reader, at: &At<'_>, key: &str) -> Option<SocketAddr> {
    match reader.get(at, key) {
        Some(Meaning::Address(address)) => address,
        _ => None,
    }
}

fn read_node(reader: &mut Reader, root: &Map<String, Value>, hostname: &str) -> NodeConfig {
    let at = reader.section(root, Table::Node);
    let hostname = if is_name(hostname) { hostname } else { NODE_ID };
    NodeConfig {
        id: reader.optional_text(&at, "id").unwrap_or_else(|| hostname.to_owned()),
        data_dir: path(reader, &at, "data_dir").unwrap_or_default(),
        workers: reader.number(&at, "workers"),
    }
}

fn read_log(reader: &mut Reader, root: &Map<String, Value>) -> LogConfig {
    let at = reader.section(root, Table::Log);
    LogConfig {
        filter: reader.text(&at, "filter"),
        format: reader.choice(
            &at,
            "format",
            LogFormat::Text,
            &[("text", LogFormat::Text), ("json", LogFormat::Json), ("journald", LogFormat::Journald)],
        ),
    }
}

fn read_listeners(reader: &mut Reader, root: &Map<String, Value>) -> Vec<Listener> {
    let entries = reader.list(Some(root), "listener", Table::Listener);
    if entries.is_empty() {
        // No listener is written: the one that the defaults describe.
        let at = At { table: Table::Listener, path: "listener[0]".into(), values: None };
        return vec![read_listener(reader, &at, 0)];
    }
    entries.iter().enumerate().map(|(index, at)| read_listener(reader, at, index)).collect()
}

fn read_listener(reader: &mut Reader, at: &At<'_>, index: usize) -> Listener {
    let mut name = reader.text(at, "name");
    if !at.has("name") && index > 0 {
        name = format!("listener-{}", index + 1);
    }
    let bind = address(reader, at, "bind").unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let levels = match reader.get(at, "allowed_protocol_versions") {
        Some(Meaning::Levels(levels)) => levels,
        _ => Vec::new(),
    };
    let mountpoint = reader.optional_text(at, "mountpoint").filter(|prefix| !prefix.is_empty());
    if let Some(Err(error)) = mountpoint.as_deref().map(TopicName::new) {
        let found = format!("{:?}", mountpoint.as_deref().unwrap_or_default());
        let problem = Problem::BadValue { expected: "the beginning of a topic".into(), found };
        reader.refuse(&at.key("mountpoint"), problem, &format!("{error}"));
    }
    let inner = reader.inner(at, "tls", Table::ListenerTls);
    Listener {
        name,
        bind,
        transport: read_transport(reader, at),
        allowed_protocol_versions: levels,
        allow_anonymous: reader.optional_flag(at, "allow_anonymous").unwrap_or(bind.ip().is_loopback()),
        mountpoint,
        max_connections: reader.optional_number(at, "max_connections"),
        tls: inner.values.is_some().then(|| read_tls_server(reader, &inner)),
    }
}

/// The path of a WebSocket listener that names none: what most brokers answer on, and most clients ask for.
const WEBSOCKET_PATH: &str = "/mqtt";

fn read_transport(reader: &mut Reader, at: &At<'_>) -> Transport {
    let path = reader.optional_text(at, "path");
    if reader.text(at, "transport") != "ws" {
        if path.is_some() {
            let message = "it does nothing: only WebSocket listeners have a path";
            reader.warn(&at.key("path"), message, "write transport = \"ws\", or remove `path`");
        }
        return Transport::Tcp;
    }
    let path = path.unwrap_or_else(|| WEBSOCKET_PATH.to_owned());
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
    if !path.starts_with('/') || !path.bytes().all(is_plain) {
        let problem = Problem::BadValue { expected: "a path as in a URL".into(), found: format!("{path:?}") };
        reader.refuse(&at.key("path"), problem, "it begins with / and has no spaces, ? or #: \"/mqtt\"");
    }
    Transport::WebSocket { path }
}

const TLS_VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];

fn read_tls_server(reader: &mut Reader, at: &At<'_>) -> TlsServer {
    TlsServer {
        cert_file: path(reader, at, "cert_file").unwrap_or_default(),
        key_file: path(reader, at, "key_file").unwrap_or_default(),
        client_ca_file: path(reader, at, "client_ca_file"),
        crl_file: path(reader, at, "crl_file"),
        require_client_certificate: reader.flag(at, "require_client_certificate"),
        username_from: reader.choice(
            at,
            "username_from",
            UsernameFrom::None,
            &[("none", UsernameFrom::None), ("cn", UsernameFrom::CommonName), ("subject", UsernameFrom::Subject)],
        ),
        min_version: reader.choice(at, "min_version", TlsVersion::V12, &TLS_VERSIONS),
    }
}

fn read_limits(reader: &mut Reader, root: &Map<String, Value>) -> Limits {
    let at = &reader.section(root, Table::Limits);
    Limits {
        max_packet_size: reader.number(at, "max_packet_size"),
        max_keepalive: reader.optional_seconds(at, "max_keepalive"),
        connect_timeout: reader.duration(at, "connect_timeout"),
        receive_maximum: reader.number(at, "receive_maximum"),
        topic_alias_maximum: reader.number(at, "topic_alias_maximum"),
        max_topic_levels: reader.number(at, "max_topic_levels"),
        max_client_id_length: reader.number(at, "max_client_id_length"),
        max_subscriptions_per_session: reader.number(at, "max_subscriptions_per_session"),
        connect_rate: reader.optional_number(at, "connect_rate"),
        message_rate: reader.optional_number(at, "message_rate"),
        memory: reader.optional_number(at, "memory"),
    }
}

fn read_session(reader: &mut Reader, root: &Map<String, Value>) -> Session {
    let at = &reader.section(root, Table::Session);
    let max_inflight = reader.optional_number::<u16>(at, "max_inflight");
    Session {
        max_inflight_v3: max_inflight.unwrap_or(MAX_INFLIGHT_V3),
        max_inflight_v5: max_inflight.unwrap_or(MAX_INFLIGHT_V5),
        max_queued_messages: reader.number(at, "max_queued_messages"),
        max_queued_bytes: reader.number(at, "max_queued_bytes"),
        on_full: reader.choice(
            at,
            "on_full",
            OnFull::DropNewest,
            &[
                ("drop_oldest", OnFull::DropOldest),
                ("drop_newest", OnFull::DropNewest),
                ("disconnect", OnFull::Disconnect),
            ],
        ),
        max_expiry: reader.optional_seconds(at, "max_expiry"),
        on_duplicate: reader.choice(
            at,
            "on_duplicate",
            OnDuplicate::TakeOver,
            &[("take_over", OnDuplicate::TakeOver), ("reject", OnDuplicate::Reject)],
        ),
        suppress_will_on_takeover: reader.flag(at, "suppress_will_on_takeover"),
    }
}

fn read_retained(reader: &mut Reader, root: &Map<String, Value>) -> Retained {
    let at = &reader.section(root, Table::Retained);
    Retained {
        enabled: reader.flag(at, "enabled"),
        max_messages: reader.number(at, "max_messages"),
        max_payload: reader.optional_number(at, "max_payload"),
    }
}

fn read_store(reader: &mut Reader, root: &Map<String, Value>) -> Store {
    let at = &reader.section(root, Table::Store);
    Store {
        sync: reader.choice(
            at,
            "sync",
            Sync::Always,
            &[("always", Sync::Always), ("interval", Sync::Interval), ("off", Sync::Off)],
        ),
        commit_delay: reader.duration(at, "commit_delay"),
        max_bytes: reader.optional_number(at, "max_bytes"),
    }
}

fn read_bridge(reader: &mut Reader, at: &At<'_>, node: &str, session: &Session) -> Bridge {
    let name = reader.text(at, "name");
    let clean_session = reader.flag(at, "clean_session");
    let session_expiry = match reader.get(at, "session_expiry") {
        Some(Meaning::Expiry(seconds)) => seconds,
        _ if clean_session => 0,
        _ => NEVER,
    };
    let protocol_version = match reader.get(at, "protocol_version") {
        Some(Meaning::BridgeVersion(version)) => version,
        _ => BridgeVersion::Auto,
    };
    let tls = reader.inner(at, "tls", Table::BridgeTls);
    let queue = reader.inner(at, "queue", Table::BridgeQueue);
    let remote = reader.inner(at, "remote", Table::BridgeRemote);
    let entries = reader.list(at.values, &at.key("topic"), Table::BridgeTopic);
    let topics: Vec<(String, BridgeTopic)> =
        entries.iter().filter_map(|at| read_topic(reader, at).map(|topic| (at.path.clone(), topic))).collect();
    let mut bridge = Bridge {
        enabled: reader.flag(at, "enabled"),
        urls: read_urls(reader, at),
        protocol_version,
        try_private: reader.flag(at, "try_private"),
        client_id: reader.optional_text(at, "client_id").unwrap_or_else(|| format!("{node}.{name}")),
        username: reader.optional_text(at, "username"),
        password: reader.optional_text(at, "password").map(Secret::new),
        password_file: path(reader, at, "password_file"),
        keepalive: reader.optional_seconds(at, "keepalive").unwrap_or_default(),
        clean_session,
        session_expiry,
        connect_timeout: reader.duration(at, "connect_timeout"),
        reconnect_min: reader.duration(at, "reconnect_min"),
        reconnect_max: reader.duration(at, "reconnect_max"),
        max_inflight: reader.number(at, "max_inflight"),
        links: reader.number(at, "links"),
        tls: read_bridge_tls(reader, &tls),
        queue: read_queue(reader, &queue, session),
        proxy: read_proxy(reader, at),
        bind_address: match reader.get(at, "bind_address") {
            Some(Meaning::Ip(address)) => Some(address),
            _ => None,
        },
        failback: reader.optional_duration(at, "failback").filter(|every| !every.is_zero()),
        remote: read_remote(reader, &remote),
        notifications: reader.flag(at, "notifications"),
        topics: Vec::new(),
        name,
    };
    check_bridge::bridge(reader, at, &bridge);
    check_bridge::topics(reader, &bridge, &topics);
    if entries.is_empty() {
        reader.warn(&at.path, "the bridge carries nothing", "add a [[bridge.topic]] with a filter");
    }
    bridge.topics = topics.into_iter().map(|(_, topic)| topic).collect();
    bridge
}

fn read_urls(reader: &mut Reader, at: &At<'_>) -> Vec<BridgeUrl> {
    match reader.get(at, "url") {
        Some(Meaning::Urls(urls)) => urls,
        _ => Vec::new(),
    }
}

fn read_proxy(reader: &mut Reader, at: &At<'_>) -> Option<BridgeProxy> {
    let password_file = path(reader, at, "proxy_password_file");
    match reader.get(at, "proxy") {
        Some(Meaning::Proxy(proxy)) => Some(BridgeProxy { password_file, ..*proxy }),
        _ => None,
    }
}

fn read_bridge_tls(reader: &mut Reader, at: &At<'_>) -> BridgeTls {
    let alpn = match reader.get(at, "alpn") {
        Some(Meaning::Texts(protocols)) => protocols,
        _ => Vec::new(),
    };
    BridgeTls {
        ca_file: path(reader, at, "ca_file"),
        cert_file: path(reader, at, "cert_file"),
        key_file: path(reader, at, "key_file"),
        verify: reader.choice(
            at,
            "verify",
            Verify::Full,
            &[("full", Verify::Full), ("ca", Verify::Ca), ("none", Verify::None)],
        ),
        server_name: reader.optional_text(at, "server_name"),
        alpn,
        min_version: reader.choice(at, "min_version", TlsVersion::V12, &TLS_VERSIONS),
        max_version: reader.choice(at, "max_version", TlsVersion::V13, &TLS_VERSIONS),
    }
}

fn read_queue(reader: &mut Reader, at: &At<'_>, session: &Session) -> BridgeQueue {
    BridgeQueue {
        max_messages: reader.optional_number(at, "max_messages").unwrap_or(session.max_queued_messages),
        max_bytes: reader.optional_number(at, "max_bytes").unwrap_or(session.max_queued_bytes),
        max_age: reader.optional_duration(at, "max_age"),
        drain_rate: reader.optional_number(at, "drain_rate").and_then(NonZeroU32::new),
        on_full: reader.choice(
            at,
            "on_full",
            OnFull::DropNewest,
            &[("drop_oldest", OnFull::DropOldest), ("drop_newest", OnFull::DropNewest)],
        ),
    }
}

fn read_remote(reader: &mut Reader, at: &At<'_>) -> BridgeRemote {
    BridgeRemote {
        max_qos: read_qos(reader, at, "max_qos"),
        retain: reader.flag(at, "retain"),
        max_packet_size: reader.optional_number(at, "max_packet_size"),
        dollar_topics: reader.flag(at, "dollar_topics"),
        max_topic_levels: reader.optional_number(at, "max_topic_levels"),
        max_topic_bytes: reader.optional_number(at, "max_topic_bytes"),
        unsubscribe: reader.flag(at, "unsubscribe"),
        filters_per_packet: reader.optional_number(at, "filters_per_packet"),
    }
}

fn read_qos(reader: &mut Reader, at: &At<'_>, key: &str) -> QoS {
    u8::try_from(reader.number::<u64>(at, key)).ok().and_then(QoS::from_bits).unwrap_or_default()
}

/// One topic rule; `None` when what it says cannot be filters, which is then among the findings.
fn read_topic(reader: &mut Reader, at: &At<'_>) -> Option<BridgeTopic> {
    let filter = reader.text(at, "filter");
    let direction = reader.choice(
        at,
        "direction",
        Direction::Out,
        &[("in", Direction::In), ("out", Direction::Out), ("both", Direction::Both)],
    );
    let qos = read_qos(reader, at, "qos");
    let retain = reader.flag(at, "retain");
    let local_prefix = reader.text(at, "local_prefix");
    let remote_prefix = reader.text(at, "remote_prefix");
    let allow_loop = reader.flag(at, "allow_loop");
    let whole = ["filter", "local_prefix", "remote_prefix"].iter().all(|key| !reader.is_wrong(&at.key(key)));
    if !whole || !check_bridge::rule(reader, at, &filter, &local_prefix, &remote_prefix) {
        return None;
    }
    let local = check_bridge::joined(reader, at, "local_prefix", &local_prefix, &filter);
    let remote = check_bridge::joined(reader, at, "remote_prefix", &remote_prefix, &filter);
    let (local, remote) = (local?, remote?);
    if reader.is_wrong(&at.key("direction")) {
        return None;
    }
    check_bridge::refuse_sys(reader, at, direction, &local, &remote);
    Some(BridgeTopic { filter, direction, qos, retain, local_prefix, remote_prefix, allow_loop, local, remote })
}
