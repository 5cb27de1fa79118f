//! The configuration as the engine, the sessions and the listeners need it.
//!
//! In: a checked `Config`. Out: what each of them is told. Must never: decide anything that the configuration did not.

use std::sync::Arc;

use viaduct_codec::{Level, UserProperties};
use viaduct_config::{Config, Listener, OnDuplicate, OnFull};
use viaduct_engine::{RetainedSettings, Settings};
use viaduct_session::server::Terms;
use viaduct_session::{NODE_PROPERTY, OnFull as SessionOnFull, QueueLimits};

/// The settings of every engine.
#[must_use]
pub fn engine_settings(config: &Config) -> Arc<Settings> {
    Arc::new(Settings {
        on_duplicate: match config.session.on_duplicate {
            OnDuplicate::TakeOver => viaduct_engine::OnDuplicate::TakeOver,
            OnDuplicate::Reject => viaduct_engine::OnDuplicate::Reject,
        },
        suppress_will_on_takeover: config.session.suppress_will_on_takeover,
        max_topic_levels: usize::from(config.limits.max_topic_levels),
        max_subscriptions_per_session: Some(saturate(config.limits.max_subscriptions_per_session.into())),
        message_rate: config.limits.message_rate,
        retained: RetainedSettings {
            enabled: config.retained.enabled,
            max_messages: Some(saturate(config.retained.max_messages)),
            max_payload: config.retained.max_payload.map(saturate),
        },
        memory: config.limits.memory,
        queue: queue(config),
    })
}

/// What clients of `listener` are offered, with these methods of enhanced authentication. `origin` is what this process
/// calls itself in the hop lists of messages.
#[must_use]
pub fn listener_terms(
    config: &Config,
    listener: &Listener,
    authentication_methods: Vec<Arc<str>>,
    origin: &str,
) -> Arc<Terms> {
    let allowed_levels = listener.allowed_protocol_versions.clone();
    let mut introduction = Vec::new();
    // A name that does not fit is not said: then bridges know no more than they do of other brokers.
    UserProperties::push(&mut introduction, NODE_PROPERTY, origin);
    Arc::new(Terms { allowed_levels, authentication_methods, introduction, ..base(config) })
}

/// What the local half of a bridge is offered, with the queue that the bridge has of its own.
pub(crate) fn bridge_terms(config: &Config, bridge: &viaduct_config::Bridge) -> Arc<Terms> {
    Arc::new(Terms {
        allowed_levels: vec![Level::V5],
        // Both ends are ours, and what a bridge hands in was limited where it came from.
        max_keep_alive: None,
        max_session_expiry: None,
        max_client_id_length: usize::from(u16::MAX),
        client_asks_again: true,
        // An exchange of QoS 2 ends when the remote says so. Were there less room here than the remote takes, what it has to say might stand
        // behind messages that wait for just that.
        receive_maximum: u16::MAX,
        queue: Arc::new(QueueLimits {
            max_messages: saturate(bridge.queue.max_messages.into()),
            max_bytes: saturate(bridge.queue.max_bytes),
            max_age: bridge.queue.max_age,
            on_full: on_full(bridge.queue.on_full),
        }),
        ..base(config)
    })
}

fn base(config: &Config) -> Terms {
    Terms {
        allowed_levels: Vec::new(),
        receive_maximum: config.limits.receive_maximum,
        maximum_packet_size: config.limits.max_packet_size,
        topic_alias_maximum: config.limits.topic_alias_maximum,
        max_keep_alive: config.limits.max_keepalive,
        max_session_expiry: config.session.max_expiry,
        max_client_id_length: usize::from(config.limits.max_client_id_length),
        retain_available: config.retained.enabled,
        max_inflight_v3: config.session.max_inflight_v3,
        max_inflight_v5: config.session.max_inflight_v5,
        queue: queue(config),
        authentication_methods: Vec::new(),
        introduction: Vec::new(),
        client_asks_again: false,
    }
}

/// What may wait for one session.
fn queue(config: &Config) -> Arc<QueueLimits> {
    Arc::new(QueueLimits {
        max_messages: saturate(config.session.max_queued_messages.into()),
        max_bytes: saturate(config.session.max_queued_bytes),
        max_age: None,
        on_full: on_full(config.session.on_full),
    })
}

const fn on_full(policy: OnFull) -> SessionOnFull {
    match policy {
        OnFull::DropOldest => SessionOnFull::DropOldest,
        OnFull::DropNewest => SessionOnFull::DropNewest,
        OnFull::Disconnect => SessionOnFull::Disconnect,
    }
}

/// A number of the configuration where this machine counts in its own word size.
fn saturate(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
