//! The protocol level byte of CONNECT, and the version that it stands for.

use std::fmt;

/// What is spoken once CONNECT is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`).
    V31,
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.0.
    V5,
}

impl Version {
    /// Whether properties and reason codes exist.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// A protocol level that this codec speaks: 3, 4, 5, and the bridge levels 131 and 132 (3 and 4 with bit 7, which
/// no specification names and every bridge in the field sends).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// 3.1, with the name `MQIsdp`.
    pub const V31: Self = Self(3);
    /// 3.1.1, with the name `MQTT`.
    pub const V311: Self = Self(4);
    /// 5.0, with the name `MQTT`.
    pub const V5: Self = Self(5);
    /// 3.1 from a bridge.
    pub const V31_BRIDGE: Self = Self(131);
    /// 3.1.1 from a bridge.
    pub const V311_BRIDGE: Self = Self(132);
    /// Every level, in ascending order.
    pub const ALL: [Self; 5] = [Self::V31, Self::V311, Self::V5, Self::V31_BRIDGE, Self::V311_BRIDGE];

    /// The level with this byte, or `None` when it is not one of [`Level::ALL`].
    #[must_use]
    pub const fn new(byte: u8) -> Option<Self> {
        match byte {
            3 | 4 | 5 | 131 | 132 => Some(Self(byte)),
            _ => None,
        }
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// What is spoken at this level.
    #[must_use]
    pub const fn version(self) -> Version {
        match self.0 & 0x7f {
            3 => Version::V31,
            4 => Version::V311,
            _ => Version::V5,
        }
    }

    /// Whether bit 7 marks the client as a bridge.
    #[must_use]
    pub const fn is_bridge(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// The protocol name that goes with the level.
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self.version() {
            Version::V31 => "MQIsdp",
            Version::V311 | Version::V5 => "MQTT",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
