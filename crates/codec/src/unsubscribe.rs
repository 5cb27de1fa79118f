//! UNSUBSCRIBE: no more of these.

use crate::{FilterRef, PacketId, UserProperties};

/// Ask for no more. At least one filter (MQTT-3.10.3-2); 3.1 clients may send none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Echoed in UNSUBACK.
    pub packet_id: PacketId,
    /// 5.0.
    pub user_properties: UserProperties<'a>,
    /// The filters, in wire order, to be compared byte by byte.
    pub filters: Vec<FilterRef<'a>>,
}
