//! What holds for the whole broker: limits, sessions, the log, who may log in.

use crate::auth::Auth;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::output::{quoted, seconds};
use crate::report::Report;
use crate::request::join;
use crate::value::{expiry, flag, limit, number, text, wrong};

use super::Parts;

/// Bytes of the largest packet that MQTT has.
const LARGEST_PACKET: i64 = 268_435_460;
/// The most that our counts take.
const COUNT: i64 = 1_000_000_000;

/// Units of `persistent_client_expiration`: VerneMQ's months have four weeks and its years twelve of them.
const UNITS: [(char, u64); 5] = [('h', 3600), ('d', 86_400), ('w', 604_800), ('m', 4 * 604_800), ('y', 48 * 604_800)];

/// What listeners and the rest have to know.
#[derive(Debug, Default)]
pub(super) struct General {
    pub(super) anonymous: bool,
    pub(super) auth: Auth,
    /// Whether bridges run: `plugins.vmq_bridge`.
    pub(super) bridges: bool,
    /// Those of the listeners, each once.
    pub(super) mountpoints: Vec<String>,
}

/// Reads the general lines into `output`.
pub(super) fn read(parts: &Parts, desk: &mut Desk<'_>) -> General {
    let mut general = General::default();
    let on = |name: &str, default: bool, report: &mut Report| {
        let directive = parts.general.iter().find(|directive| directive.name == name);
        directive.map_or(default, |directive| flag(directive, report).unwrap_or(default))
    };
    general.anonymous = on("allow_anonymous", false, &mut desk.report);
    general.bridges = on("plugins.vmq_bridge", false, &mut desk.report);
    let file = |plugin: &str, key: &str, default: &str, report: &mut Report| {
        let named = parts.general.iter().find(|directive| directive.name == key);
        let implied = || Directive::implied(desk.request.file, key, default);
        on(plugin, true, report).then(|| named.cloned().unwrap_or_else(implied))
    };
    let users = file("plugins.vmq_passwd", "vmq_passwd.password_file", "./etc/vmq.passwd", &mut desk.report);
    general.auth.password_files.extend(users);
    general.auth.acl_files.extend(file("plugins.vmq_acl", "vmq_acl.acl_file", "./etc/vmq.acl", &mut desk.report));
    for directive in &parts.general {
        match directive.name.as_str() {
            "plugins.vmq_webhooks" | "plugins.vmq_diversity" => {
                if flag(directive, &mut desk.report) == Some(true) {
                    general.auth.plugin = Some(directive.clone());
                }
            }
            _ => {
                let _ =
                    limits(directive, desk).or_else(|| sessions(directive, desk)).or_else(|| keeping(directive, desk));
            }
        }
    }
    queues(parts, desk);
    if desk.output.limits.get("max_packet_size").is_none() {
        for (section, key) in
            [(&mut desk.output.limits, "max_packet_size"), (&mut desk.output.session, "max_queued_bytes")]
        {
            section.because(key, LARGEST_PACKET.to_string(), "VerneMQ has no limit");
        }
    }
    general
}

fn limits(directive: &Directive, desk: &mut Desk<'_>) -> Option<()> {
    let limits = &mut desk.output.limits;
    match directive.name.as_str() {
        "max_client_id_size" => {
            let most = number(directive, 0, i64::MAX, &mut desk.report)?.clamp(23, 65_535);
            limits.set("max_client_id_length", most.to_string(), directive);
        }
        "max_message_rate" => {
            let rate = number(directive, 0, i64::MAX, &mut desk.report)?;
            if rate > 0 {
                limits.set("message_rate", rate.min(COUNT).to_string(), directive);
            }
        }
        "max_message_size" | "message_size_limit" => {
            let most = limit(directive, 0, LARGEST_PACKET, &mut desk.report)?.max(64);
            limits.set("max_packet_size", most.to_string(), directive);
            // A message that is taken has to have room to wait, as it has there.
            if most > 16 << 20 {
                desk.output.session.set("max_queued_bytes", most.to_string(), directive);
            }
        }
        "max_subscriptions_per_client" => {
            let most = limit(directive, 0, COUNT, &mut desk.report)?;
            limits.set("max_subscriptions_per_session", most.to_string(), directive);
        }
        "mqtt_connect_timeout" => {
            let most = number(directive, 0, i64::MAX, &mut desk.report)?.clamp(100, 600_000);
            limits.set("connect_timeout", quoted(&format!("{most}ms")), directive);
        }
        "receive_max_broker" => {
            limits.set("receive_maximum", number(directive, 1, 65_535, &mut desk.report)?.to_string(), directive);
        }
        "topic_alias_max_client" => {
            limits.set("topic_alias_maximum", number(directive, 0, 65_535, &mut desk.report)?.to_string(), directive);
        }
        "topic_max_depth" => {
            limits.set("max_topic_levels", number(directive, 1, 65_535, &mut desk.report)?.to_string(), directive);
        }
        _ => return None,
    }
    Some(())
}

fn sessions(directive: &Directive, desk: &mut Desk<'_>) -> Option<()> {
    let session = &mut desk.output.session;
    match directive.name.as_str() {
        "max_inflight_messages" => {
            session.set("max_inflight", limit(directive, 0, 65_535, &mut desk.report)?.to_string(), directive);
        }
        "persistent_client_expiration" => {
            if let Some(most) = expiry(directive, &UNITS, &mut desk.report)? {
                session.set("max_expiry", seconds(most), directive);
            }
        }
        "queue_type" => {
            let on_full = match directive.value.as_str() {
                "fifo" => "drop_newest",
                "lifo" => "drop_oldest",
                _ => return wrong(directive, "fifo or lifo", &mut desk.report),
            };
            session.set("on_full", quoted(on_full), directive);
        }
        "suppress_lwt_on_session_takeover" => {
            session.set("suppress_will_on_takeover", flag(directive, &mut desk.report)?.to_string(), directive);
        }
        _ => return None,
    }
    Some(())
}

fn keeping(directive: &Directive, desk: &mut Desk<'_>) -> Option<()> {
    match directive.name.as_str() {
        "log.console.level" => {
            let level = match directive.value.as_str() {
                "debug" => "debug",
                "info" | "notice" => "info",
                "warning" => "warn",
                "error" | "critical" | "alert" | "emergency" => "error",
                _ => return wrong(directive, "debug, info, warning or error", &mut desk.report),
            };
            desk.output.log.set("filter", quoted(level), directive);
        }
        "log.console.format" => {
            let format = if directive.value == "json" { "json" } else { "text" };
            desk.output.log.set("format", quoted(format), directive);
        }
        "setup.data_dir" => {
            desk.output.node.set(
                "data_dir",
                quoted(&join(&desk.request.resolve(text(directive, &mut desk.report)?), "viaduct")),
                directive,
            );
        }
        "systree_enabled" => {
            if !flag(directive, &mut desk.report)? {
                desk.output.sys.set("interval", seconds(0), directive);
            }
        }
        "systree_interval" => {
            let every = number(directive, 0, i64::MAX, &mut desk.report)?.min(3_600_000);
            if desk.output.sys.is_empty() {
                let whole = if every == 0 { 0 } else { (every / 1000).max(1) };
                desk.output.sys.set("interval", seconds(whole), directive);
            }
        }
        _ => return None,
    }
    Some(())
}

/// One limit of two: VerneMQ has one for clients that are here and one for those that are away.
fn queues(parts: &Parts, desk: &mut Desk<'_>) {
    let mut largest: Option<(i64, &Directive)> = None;
    for directive in &parts.general {
        if !matches!(directive.name.as_str(), "max_online_messages" | "max_offline_messages") {
            continue;
        }
        let Some(most) = number(directive, -1, i64::MAX, &mut desk.report) else { return };
        let most = if most < 0 { COUNT } else { most.clamp(1, COUNT) };
        if largest.is_none_or(|(before, _)| most > before) {
            largest = Some((most, directive));
        }
    }
    if let Some((most, directive)) = largest {
        desk.output.session.set("max_queued_messages", most.to_string(), directive);
    }
}
