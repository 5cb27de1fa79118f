//! AUTH: enhanced authentication, 5.0 only.

use crate::{ReasonCode, UserProperties};

/// One step of an authentication exchange (MQTT 5.0 section 3.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// `SUCCESS`, `CONTINUE_AUTHENTICATION` or `RE_AUTHENTICATE`.
    pub reason: ReasonCode,
    /// The method's name, the same through the whole exchange.
    pub method: Option<&'a str>,
    /// What the method says.
    pub data: Option<&'a [u8]>,
    /// Words for a person.
    pub reason_string: Option<&'a str>,
    /// Pairs of the application.
    pub user_properties: UserProperties<'a>,
}
