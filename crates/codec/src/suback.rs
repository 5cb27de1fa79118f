//! SUBACK: one answer per filter of a SUBSCRIBE.

use crate::{PacketId, ReasonCode, UserProperties};

/// Answers to a SUBSCRIBE, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    /// The SUBSCRIBE that is answered.
    pub packet_id: PacketId,
    /// `GRANTED_QOS_0` to `GRANTED_QOS_2`, or a failure; towards 3.1.1 every failure is written as 0x80.
    pub reasons: Vec<ReasonCode>,
    /// 5.0: words for a person.
    pub reason_string: Option<&'a str>,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
}
