//! SUBSCRIBE: filters, and how their messages shall come.

use crate::{FilterRef, PacketId, QoS, UserProperties, VarInt};

/// Ask for messages. At least one entry (MQTT-3.8.3-2); 3.1 clients may send none and get an empty SUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Echoed in SUBACK.
    pub packet_id: PacketId,
    /// 5.0: goes with every message that these filters bring; never 0.
    pub subscription_id: Option<VarInt>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
    /// The filters, in wire order.
    pub entries: Vec<SubscribeEntry<'a>>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeEntry<'a> {
    /// Checked, shared or not.
    pub filter: FilterRef<'a>,
    /// How its messages shall come.
    pub options: SubscribeOptions,
}

/// The options byte of a subscription (MQTT 5.0 section 3.8.3.1). In 3.x only the QoS is on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// The highest QoS to deliver with.
    pub qos: QoS,
    /// Not what this ClientID published itself.
    pub no_local: bool,
    /// Keep the RETAIN flag of the publisher on live messages.
    pub retain_as_published: bool,
    /// Whether retained messages come on subscribing.
    pub retain_handling: RetainHandling,
}

/// Whether retained messages come on subscribing (MQTT 5.0 section 3.3.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: always.
    #[default]
    Send = 0,
    /// 1: only when the session did not have the subscription yet.
    SendIfNew = 1,
    /// 2: never.
    DoNotSend = 2,
}
