//! Quality of Service, MQTT 5.0 section 4.3.

/// How hard a message is tried. Ordered: `AtMostOnce < AtLeastOnce < ExactlyOnce`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, never acknowledged.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: resent until PUBACK.
    AtLeastOnce = 1,
    /// QoS 2: handed over once, by PUBREC, PUBREL and PUBCOMP.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS that two wire bits stand for; `None` for 3, which is malformed (MQTT-3.3.1-4).
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The two wire bits, unshifted.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}
