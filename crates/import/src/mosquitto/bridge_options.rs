//! Every option of a bridge of mosquitto 1.6 to 2.1 and what becomes of it.

use crate::option::{Opt, becomes, idle, lost, nearly};

const LAZY: &str = "bridges are always up";
const SUITES: &str = "rustls brings only cipher suites that are good, and there is nothing to choose";

/// What stands behind `connection`.
pub(super) static BRIDGE: &[Opt] = &[
    becomes("address", "bridge.url"),
    becomes("addresses", "bridge.url"),
    becomes("bridge_alpn", "bridge.tls.alpn"),
    nearly(
        "bridge_attempt_unsubscribe",
        "bridge.remote.unsubscribe",
        "false: nothing is unsubscribed there. Otherwise only what the bridge has subscribed to.",
    ),
    nearly("bridge_bind_address", "bridge.bind_address", "An IP address; a name is not looked up."),
    becomes("bridge_cafile", "bridge.tls.ca_file"),
    nearly("bridge_capath", "bridge.tls.ca_file", "The certificates of the folder become one file."),
    becomes("bridge_certfile", "bridge.tls.cert_file"),
    lost("bridge_ciphers", &[], SUITES, "set bridge.tls.min_version where an audit asks for it"),
    lost("bridge_ciphers_tls1.3", &[], SUITES, "set bridge.tls.min_version where an audit asks for it"),
    lost(
        "bridge_identity",
        &[],
        "there is no TLS with pre-shared keys; the bridge is not enabled",
        "get a certificate or a password for the remote, and set enabled = true",
    ),
    nearly("bridge_insecure", "bridge.tls.verify", "\"ca\": everything but the name is checked."),
    becomes("bridge_keyfile", "bridge.tls.key_file"),
    nearly(
        "bridge_max_packet_size",
        "bridge.remote.max_packet_size",
        "0 is no limit; at least 64 bytes. The lower one of it and what a 5.0 remote announces holds.",
    ),
    idle("bridge_max_topic_alias", "the bridge settles topic aliases with the remote"),
    nearly("bridge_outgoing_retain", "bridge.remote.retain", "The will goes without the flag too."),
    nearly(
        "bridge_protocol_version",
        "bridge.protocol_version",
        "When it is not written ours is \"auto\": the best that the remote speaks.",
    ),
    lost(
        "bridge_psk",
        &[],
        "there is no TLS with pre-shared keys; the bridge is not enabled",
        "get a certificate or a password for the remote, and set enabled = true",
    ),
    idle("bridge_receive_maximum", "the bridge announces what it can hold itself"),
    idle("bridge_reload_type", "a reload touches the bridges that changed, at once"),
    lost("bridge_require_ocsp", &["false"], "OCSP is not asked for", "use certificates that live for a short time"),
    nearly(
        "bridge_session_expiry_interval",
        "bridge.session_expiry",
        "When it is not written ours is \"never\", so that nothing is lost while the link is down; there it is 0.",
    ),
    idle("bridge_tcp_keepalive", "the bridge asks with PINGREQ and waits ten seconds for the answer"),
    idle("bridge_tcp_user_timeout", "the bridge asks with PINGREQ and waits ten seconds for the answer"),
    nearly(
        "bridge_tls_use_os_certs",
        "bridge.url",
        "mqtts:// without a ca_file: the system's authorities, or where it has none those of browsers.",
    ),
    nearly("bridge_tls_version", "bridge.tls.min_version", "Nothing before 1.2 is spoken."),
    becomes("cleansession", "bridge.clean_session"),
    becomes("clientid", "bridge.client_id"),
    becomes("connection", "bridge.name"),
    idle("idle_timeout", LAZY),
    nearly("keepalive_interval", "bridge.keepalive", "At least 5 seconds there."),
    lost(
        "local_cleansession",
        &["false"],
        "what waits for the link is always kept",
        "set bridge.queue.max_age or max_messages to keep less",
    ),
    idle("local_clientid", "the local half of a bridge is the session $bridge/NAME"),
    idle("local_password", "the local half of a bridge does not log in"),
    lost(
        "local_username",
        &[],
        "the local half of a bridge does not log in, and auth.acl_file does not hold for it",
        "look at its rules: they are what it may carry",
    ),
    nearly(
        "notifications",
        "bridge.notifications",
        "false keeps the state from the remote; at this broker it is published in any case.",
    ),
    nearly("notifications_local_only", "bridge.notifications", "true is `notifications = false`."),
    lost(
        "notification_topic",
        &[],
        "the state is published as $SYS/broker/connection/CLIENT_ID/state",
        "read it there",
    ),
    becomes("password", "bridge.password"),
    becomes("remote_clientid", "bridge.client_id"),
    becomes("remote_password", "bridge.password"),
    becomes("remote_username", "bridge.username"),
    nearly(
        "restart_timeout",
        "bridge.reconnect_min, bridge.reconnect_max",
        "A single number is both. Waits grow and have jitter; they begin anew after a link that held for a minute.",
    ),
    lost(
        "round_robin",
        &["false"],
        "addresses are tried in the order in which they stand",
        "change the order for one of two brokers",
    ),
    lost("start_type", &["automatic"], LAZY, "set enabled = false for one that is not to run"),
    idle("threshold", LAZY),
    nearly("topic", "bridge.topic", "The same rule; prefixes are strings on both sides."),
    becomes("try_private", "bridge.try_private"),
    becomes("username", "bridge.username"),
];
