//! UNSUBACK: the answer to an UNSUBSCRIBE.

use crate::{PacketId, ReasonCode, UserProperties};

/// Answers to an UNSUBSCRIBE, in its order; in 3.x only the identifier is on the wire and `reasons` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// The UNSUBSCRIBE that is answered.
    pub packet_id: PacketId,
    /// 5.0: one per filter.
    pub reasons: Vec<ReasonCode>,
    /// 5.0: words for a person.
    pub reason_string: Option<&'a str>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
}
