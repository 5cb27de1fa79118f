//! DISCONNECT: the last packet of a connection.

use crate::{ReasonCode, UserProperties};

/// Why the connection ends. In 3.x only clients send it, and it carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// 5.0; `SUCCESS` (0x00) otherwise, which is also what an empty 5.0 DISCONNECT means.
    pub reason: ReasonCode,
    /// Seconds; overrides what CONNECT asked for. Only a client may send it.
    pub session_expiry: Option<u32>,
    /// Words for a person.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}

impl Disconnect<'_> {
    /// A DISCONNECT that says only `reason`.
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::default(),
        }
    }
}
