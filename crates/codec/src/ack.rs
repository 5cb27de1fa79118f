//! PUBACK, PUBREC, PUBREL and PUBCOMP: one shape for all four.

use crate::{PacketId, ReasonCode, UserProperties};

/// The body that the four acknowledgements share. In 3.x only the identifier is on the wire; in 5.0 reason and
/// properties are left out when they say nothing (MQTT 5.0 section 3.4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The exchange that is answered.
    pub packet_id: PacketId,
    /// 5.0; [`ReasonCode::SUCCESS`] in 3.x.
    pub reason: ReasonCode,
    /// 5.0: words for a person.
    pub reason_string: Option<&'a str>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
}

impl Ack<'_> {
    /// An acknowledgement that says only `reason`.
    #[must_use]
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user_properties: UserProperties::default() }
    }
}
