//! What holds for the whole broker: limits, sessions, the store, the log, who may log in.

use crate::auth::Auth;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::output::{Output, quoted, seconds};
use crate::request::join;
use crate::value::{expiry, flag, limit, number, text, wrong};

use super::Parts;

/// Bytes of the largest packet that MQTT has.
const LARGEST_PACKET: i64 = 268_435_460;
/// Bytes that a packet may have beside its payload: a topic, and properties of a usual size.
const BESIDE_PAYLOAD: i64 = 66_000;
/// The most that our counts and sizes take.
const COUNT: i64 = 1_000_000_000;
const BYTES: i64 = 1 << 50;

/// Units of `persistent_client_expiration`.
const UNITS: [(char, u64); 6] =
    [('s', 1), ('h', 3600), ('d', 86_400), ('w', 604_800), ('m', 30 * 86_400), ('y', 365 * 86_400)];

/// What listeners and the rest have to know.
#[derive(Debug, Default)]
pub(super) struct General {
    /// For all listeners that do not say it themselves.
    pub(super) anonymous: Option<bool>,
    pub(super) per_listener: bool,
    pub(super) auth: Auth,
    /// The largest `max_topic_alias` so far.
    pub(super) topic_aliases: Option<i64>,
}

/// Reads the general lines into `output`.
pub(super) fn read(parts: &Parts, desk: &mut Desk<'_>) -> General {
    let mut general = General { per_listener: parts.per_listener, ..General::default() };
    let mut log: Option<&str> = None;
    for directive in &parts.general {
        match directive.name.as_str() {
            "password_file" | "plugin_opt_password_file" => general.auth.password_files.push(directive.clone()),
            "acl_file" | "plugin_opt_acl_file" => general.auth.acl_files.push(directive.clone()),
            "allow_anonymous" if !parts.per_listener => general.anonymous = flag(directive, &mut desk.report),
            "auth_plugin" | "plugin" | "global_plugin" | "plugin_load" => general.auth.plugin = Some(directive.clone()),
            "log_type" => log = finer(log, directive, desk),
            _ => {
                let _ =
                    limits(directive, desk).or_else(|| sessions(directive, desk)).or_else(|| keeping(directive, desk));
            }
        }
    }
    packets(parts, desk);
    general
}

fn limits(directive: &Directive, desk: &mut Desk<'_>) -> Option<()> {
    match directive.name.as_str() {
        "max_keepalive" => {
            if let Some(most @ 1..) = number(directive, 0, 65_535, &mut desk.report) {
                desk.output.limits.set("max_keepalive", seconds(most), directive);
            }
        }
        "memory_limit" => {
            if let Some(most @ 1..) = number(directive, 0, i64::MAX, &mut desk.report) {
                desk.output.limits.set("memory", most.clamp(1 << 20, BYTES).to_string(), directive);
            }
        }
        "max_inflight_messages" => {
            if let Some(most) = limit(directive, 0, 65_535, &mut desk.report) {
                desk.output.session.set("max_inflight", most.to_string(), directive);
                desk.output.limits.set("receive_maximum", most.to_string(), directive);
            }
        }
        "sys_interval" => {
            if let Some(every) = number(directive, 0, i64::MAX, &mut desk.report) {
                desk.output.sys.set("interval", seconds(every.min(3600)), directive);
            }
        }
        _ => return None,
    }
    Some(())
}

fn sessions(directive: &Directive, desk: &mut Desk<'_>) -> Option<()> {
    match directive.name.as_str() {
        "max_queued_messages" => {
            if let Some(most) = limit(directive, 0, COUNT, &mut desk.report) {
                desk.output.session.set("max_queued_messages", most.to_string(), directive);
            }
        }
        "max_queued_bytes" => {
            if let Some(most) = limit(directive, 0, BYTES, &mut desk.report) {
                desk.output.session.set("max_queued_bytes", most.max(1024).to_string(), directive);
            }
        }
        "persistent_client_expiration" => {
            if let Some(Some(most)) = expiry(directive, &UNITS, &mut desk.report) {
                desk.output.session.set("max_expiry", seconds(most), directive);
            }
        }
        "retain_available" => {
            if let Some(available) = flag(directive, &mut desk.report) {
                desk.output.retained.set("enabled", available.to_string(), directive);
            }
        }
        _ => return None,
    }
    Some(())
}

fn keeping(directive: &Directive, desk: &mut Desk<'_>) -> Option<()> {
    match directive.name.as_str() {
        "persistence" => {
            if let Some(persistent) = flag(directive, &mut desk.report) {
                desk.output.store.set("sync", quoted(if persistent { "always" } else { "off" }), directive);
            }
        }
        "persistence_location" => {
            if let Some(folder) = text(directive, &mut desk.report) {
                desk.output.node.set("data_dir", quoted(&join(&desk.request.resolve(folder), "viaduct")), directive);
            }
        }
        _ => return None,
    }
    Some(())
}

/// The log at the finest level that was asked for.
fn finer<'a>(before: Option<&'a str>, directive: &Directive, desk: &mut Desk<'_>) -> Option<&'a str> {
    const LEVELS: [&str; 5] = ["off", "error", "warn", "info", "debug"];
    let mut level = before;
    for word in directive.value.split_whitespace() {
        let found = match word {
            "none" => "off",
            "error" => "error",
            "warning" => "warn",
            "notice" | "information" | "subscribe" | "unsubscribe" | "websockets" => "info",
            "debug" | "all" | "internal" => "debug",
            _ => {
                return wrong(
                    directive,
                    "a type such as error, warning, notice, information, debug or all",
                    &mut desk.report,
                );
            }
        };
        let rank = |level: &str| LEVELS.iter().position(|other| *other == level);
        if level.is_none_or(|before| rank(before) < rank(found)) {
            level = Some(found);
        }
    }
    if let Some(level) = level {
        desk.output.log.set("filter", quoted(level), directive);
    }
    level
}

/// The largest packet, from either of two options or what mosquitto does without them.
fn packets(parts: &Parts, desk: &mut Desk<'_>) {
    let last = |name: &str| parts.general.iter().rev().find(|directive| directive.name == name);
    if let Some(directive) = last("max_packet_size") {
        let Some(most) = limit(directive, 0, LARGEST_PACKET, &mut desk.report) else { return };
        desk.output.limits.set("max_packet_size", most.max(64).to_string(), directive);
        queue_for(most, directive, &mut desk.output);
    } else if let Some(directive) = last("message_size_limit") {
        let Some(payload) = limit(directive, 0, LARGEST_PACKET - BESIDE_PAYLOAD, &mut desk.report) else { return };
        desk.output.limits.set("max_packet_size", (payload + BESIDE_PAYLOAD).to_string(), directive);
        queue_for(payload + BESIDE_PAYLOAD, directive, &mut desk.output);
    } else {
        desk.output.limits.because("max_packet_size", "2000000", "what mosquitto 2.1 takes; 2.0 had no limit");
    }
}

/// A message that is taken has to have room to wait, as it has there.
fn queue_for(packet: i64, directive: &Directive, output: &mut Output) {
    const OURS: i64 = 16 << 20;
    if output.session.get("max_queued_bytes").is_none() && packet > OURS {
        output.session.set("max_queued_bytes", packet.to_string(), directive);
    }
}
