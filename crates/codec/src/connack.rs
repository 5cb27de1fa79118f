//! CONNACK: the answer to CONNECT.

use std::num::{NonZeroU16, NonZeroU32};

use crate::{QoS, ReasonCode, UserProperties};

/// The server's answer to CONNECT. In 3.x the reason is one of the return codes 0 to 5, which are read and written
/// as the 5.0 reason that means the same (1 = `UNSUPPORTED_PROTOCOL_VERSION`, 2 = `CLIENT_IDENTIFIER_NOT_VALID`,
/// 3 = `SERVER_UNAVAILABLE`, 4 = `BAD_USER_NAME_OR_PASSWORD`, 5 = `NOT_AUTHORIZED`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// The server holds a session for this ClientID. Never on the wire in 3.1.
    pub session_present: bool,
    /// `SUCCESS`, or why not.
    pub reason: ReasonCode,
    /// 5.0; default otherwise.
    pub properties: ConnackProperties<'a>,
}

/// What the server tells a 5.0 client. `None` means absent from the wire; the standard's default then holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnackProperties<'a> {
    /// Seconds; the server's value when it differs from what the client asked for.
    pub session_expiry: Option<u32>,
    /// QoS 1 and 2 PUBLISH packets the server takes at a time; 65,535 when absent.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS the server takes; 2 when absent. Only 0 and 1 are on the wire.
    pub maximum_qos: Option<QoS>,
    /// `true` when absent.
    pub retain_available: Option<bool>,
    /// Bytes, fixed header included; no limit when absent.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The ClientID that the server made up.
    pub assigned_client_id: Option<&'a str>,
    /// Aliases the server takes; 0 when absent.
    pub topic_alias_maximum: Option<u16>,
    /// Words for a person.
    pub reason_string: Option<&'a str>,
    /// `true` when absent.
    pub wildcard_subscription_available: Option<bool>,
    /// `true` when absent.
    pub subscription_identifiers_available: Option<bool>,
    /// `true` when absent.
    pub shared_subscription_available: Option<bool>,
    /// Seconds; replaces the client's keep alive.
    pub server_keep_alive: Option<u16>,
    /// Where replies may go.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Enhanced authentication.
    pub auth_method: Option<&'a str>,
    /// Enhanced authentication.
    pub auth_data: Option<&'a [u8]>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}
