//! A bridge as the API shows it.
//!
//! In: its numbers, what it means and how it was written. Out: JSON. Must never: hold a password.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use viaduct_bridge::{Phase, Probe, Stats};
use viaduct_codec::{Level, Time};
use viaduct_config::{Bridge, BridgeVersion, Origin, WrittenBridge};

use super::when::{rfc3339, seconds};
use crate::bridge::BridgeStatus;

/// Everything but how it was written.
pub(super) fn bridge(now: Time, bridge: &Bridge, written: &WrittenBridge, status: &BridgeStatus) -> Value {
    let stats = status.stats.lock().clone();
    let rates = status.rates.lock().per_second();
    let tls = *status.tls.lock();
    let dropped = status.dropped(&stats);
    let next = match stats.phase {
        Phase::Waiting { until } => Some(until),
        Phase::Stopped | Phase::Connecting | Phase::Up => None,
    };
    json!({
        "name": bridge.name,
        "state": state(stats.phase),
        "enabled": bridge.enabled,
        "up": stats.up,
        "since": rfc3339(stats.since),
        "for_seconds": now.since(stats.since).as_secs_f64(),
        "origin": origin(written.origin),
        "addresses": bridge.urls.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "address": stats.address.as_ref().map(ToString::to_string),
        "level": stats.level.map(Level::byte),
        "level_reason": stats.level.map(|_| level_reason(bridge, &stats)),
        "levels_left": stats.left.iter().map(|(level, why)| json!({
            "level": level.byte(),
            "reason": why.to_string(),
        })).collect::<Vec<_>>(),
        "client_id": bridge.client_id,
        "links": bridge.links,
        "tls": tls.map(|tls| json!({
            "version": tls.version,
            "certificate_expires": tls.certificate_ends.map(seconds),
            "certificate_expires_in_seconds": tls.certificate_ends.map(|end| end - whole_seconds(now)),
        })),
        "last_error": stats.last_error.as_ref().map(|(at, error)| json!({
            "kind": error.label(),
            "message": error.to_string(),
            "at": rfc3339(*at),
            "since": stats.failing_since.map(rfc3339),
        })),
        "next_attempt": next.map(|at| json!({ "at": rfc3339(at), "in_seconds": at.since(now).as_secs_f64() })),
        "queue": {
            "messages": status.queued.load(Ordering::Relaxed),
            "bytes": status.queued_bytes.load(Ordering::Relaxed),
            "unacknowledged": stats.unacknowledged_out,
            "dropped": status.queue_dropped.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>(),
            "max_messages": bridge.queue.max_messages,
            "max_bytes": bridge.queue.max_bytes,
        },
        "rates": {
            "span_seconds": rates.span.as_secs_f64(),
            "in": { "messages_per_second": rates.messages_in, "bytes_per_second": rates.bytes_in },
            "out": { "messages_per_second": rates.messages_out, "bytes_per_second": rates.bytes_out },
        },
        "totals": {
            "connects": stats.connects,
            "messages_in": stats.messages_in,
            "messages_out": stats.messages_out,
            "dropped": dropped.values().sum::<u64>(),
            "dropped_by_reason": dropped,
            "steps_down": stats.lowered_in(viaduct_bridge::Lowered::Level),
            "restarts_after_a_defect": status.panics.load(Ordering::Relaxed),
        },
        "round_trip": stats.round_trip.map(|trip| json!({
            "milliseconds": u64::try_from(trip.took.as_millis()).unwrap_or(u64::MAX),
            "measured_by": match trip.by {
                Probe::Connect => "connect",
                Probe::Ping => "ping",
                Probe::Message(_) => "message",
            },
            "at": rfc3339(trip.at),
        })),
    })
}

/// [`bridge`] and how it was written.
pub(super) fn whole(now: Time, meant: &Bridge, written: &WrittenBridge, status: &BridgeStatus) -> Value {
    let mut view = bridge(now, meant, written, status);
    let (definition, secrets) = written.written.to_public_json();
    if let Some(view) = view.as_object_mut() {
        view.insert("definition".to_owned(), definition);
        view.insert("secrets".to_owned(), secrets.into());
    }
    view
}

const fn state(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopped => "stopped",
        Phase::Connecting => "connecting",
        Phase::Up => "up",
        Phase::Waiting { .. } => "waiting",
    }
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::File => "file",
        Origin::Switched => "switched",
        Origin::Changed => "changed",
        Origin::Added => "added",
    }
}

/// Why the level in use is that one.
fn level_reason(bridge: &Bridge, stats: &Stats) -> String {
    let mut words = match bridge.protocol_version {
        BridgeVersion::Auto if stats.left.is_empty() => "the best level, and the first that is tried".to_owned(),
        BridgeVersion::Auto => "the best level that was not left".to_owned(),
        BridgeVersion::V31 => "protocol_version is 3".to_owned(),
        BridgeVersion::V311 => "protocol_version is 4".to_owned(),
        BridgeVersion::V5 => "protocol_version is 5".to_owned(),
    };
    for (level, why) in &stats.left {
        words.push_str(&format!("; {}: {why}", level.byte()));
    }
    words
}

fn whole_seconds(time: Time) -> i64 {
    i64::try_from(time.as_millis() / 1000).unwrap_or(i64::MAX)
}
