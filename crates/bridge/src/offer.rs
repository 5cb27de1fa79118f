//! What the remote takes on the present link: what the operator wrote and what CONNACK says, the lower of each.
//!
//! In: [`crate::RemoteLimits`], CONNACK. Out: what messages and subscriptions are lowered to, and the words for it. Never
//! drops anything: that is where the message is.

use std::num::NonZeroU32;

use viaduct_codec::{Connack, FilterRef, Message, QoS, ReasonCode};

use crate::flow::As;
use crate::negotiate::Wishes;
use crate::subscribe::Room;
use crate::{Lowered, RemoteLimits, Settings, Stats, limits};

/// What SUBSCRIBE and UNSUBSCRIBE have around their filters at most: the fixed header, the packet identifier, no properties.
const AROUND_FILTERS: u32 = 8;

/// What the remote takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// QoS and RETAIN of a message.
    pub(crate) wishes: Wishes,
    /// Filters with wildcards.
    wildcards: bool,
    /// Shared subscriptions.
    shared: bool,
    /// The largest packet, bytes.
    packet: u32,
}

impl Offer {
    /// No limits.
    pub(crate) const ALL: Self = Self { wishes: Wishes::ALL, wildcards: true, shared: true, packet: u32::MAX };

    /// `wishes` is what CONNECT asked for.
    pub(crate) fn new(connack: &Connack<'_>, wishes: Wishes, limits: &RemoteLimits) -> Self {
        let properties = &connack.properties;
        Self {
            wishes: Wishes {
                retain: wishes.retain && properties.retain_available.unwrap_or(true),
                qos: wishes.qos.min(properties.maximum_qos.unwrap_or(QoS::ExactlyOnce)),
            },
            wildcards: properties.wildcard_subscription_available.unwrap_or(true),
            shared: properties.shared_subscription_available.unwrap_or(true),
            packet: limits
                .max_packet_size
                .unwrap_or(u32::MAX)
                .min(properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get)),
        }
    }

    /// Why the remote does not take a subscription to `filter`, as far as it is known.
    pub(crate) fn refuses(self, filter: FilterRef<'_>, limits: &RemoteLimits) -> Option<ReasonCode> {
        let inner = filter.share().map_or(filter, |share| share.filter);
        if !self.shared && filter.share().is_some() {
            Some(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED)
        } else if !self.wildcards && inner.has_wildcard() {
            Some(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED)
        } else if !limits.take_filter(filter) {
            Some(ReasonCode::TOPIC_FILTER_INVALID)
        } else {
            None
        }
    }

    /// What one SUBSCRIBE or UNSUBSCRIBE may hold.
    pub(crate) fn room(self, limits: &RemoteLimits) -> Room {
        let bytes = usize::try_from(self.packet.saturating_sub(AROUND_FILTERS)).unwrap_or(usize::MAX);
        Room {
            bytes: bytes.min(limits::SUBSCRIBE_BYTES),
            filters: limits.filters_per_packet.map_or(usize::MAX, usize::from).max(1),
        }
    }

    /// The limits of the link in words, with what CONNACK says of the connection itself; each of them is counted.
    pub(crate) fn describe(self, connack: &Connack<'_>, settings: &Settings, stats: &mut Stats) -> Option<String> {
        let properties = &connack.properties;
        let mut words = Vec::new();
        if self.wishes.qos < QoS::ExactlyOnce {
            words.push(format!("QoS {} at most", self.wishes.qos.bits()));
        }
        if !self.wishes.retain {
            words.push("nothing retained".into());
        }
        if !self.wildcards {
            words.push("no wildcards".into());
        }
        if !self.shared {
            words.push("no shared subscriptions".into());
        }
        if self.packet < settings.max_packet_size {
            words.push(format!("packets of {} bytes at most", self.packet));
        }
        let mut connection = |what, limit: Option<String>| {
            stats.count_lowered(what, u64::from(limit.is_some()));
            words.extend(limit);
        };
        let window = properties.receive_maximum.filter(|max| max.get() < settings.max_inflight);
        connection(Lowered::Window, window.map(|max| format!("{max} unacknowledged messages at most")));
        let keep_alive = properties.server_keep_alive.filter(|seconds| *seconds != settings.keep_alive);
        connection(Lowered::KeepAlive, keep_alive.map(|seconds| format!("a keep alive of {seconds} s")));
        let expiry = properties.session_expiry.filter(|seconds| *seconds < settings.session_expiry);
        connection(Lowered::SessionExpiry, expiry.map(|seconds| format!("a session that it keeps for {seconds} s")));
        let assigned = properties.assigned_client_id;
        connection(Lowered::ClientId, assigned.map(|id| format!("the ClientID {id:?}, which it chose")));
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// How a message goes to a receiver that takes no more than `wishes`.
pub(crate) fn lowered(message: &Message, wishes: Wishes) -> As {
    As { qos: message.qos.min(wishes.qos), retain: message.retain && wishes.retain }
}

/// A message was handed to the remote, for the first time.
pub(crate) fn count_sent(stats: &mut Stats, wanted: &Message, sent: As) {
    stats.messages_out += 1;
    stats.count_lowered(Lowered::Qos, u64::from(sent.qos < wanted.qos));
    stats.count_lowered(Lowered::Retain, u64::from(wanted.retain && !sent.retain));
}
