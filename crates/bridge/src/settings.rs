//! What a bridge is told: where the remote broker is, who we are there, what is carried.
//!
//! In: values that the configuration has checked for form. Out: nothing; [`crate::Rules`] checks what must fit
//! together. Never reads a file or the environment.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use viaduct_codec::{FilterRef, Level, QoS, Slice, TopicRef, Version};

/// One bridge, as meant.
#[derive(Clone)]
pub struct Settings {
    /// Its name, without `/`; [`Settings::local_client_id`] is made of it.
    pub name: String,
    /// What this broker calls itself in the hop list that travels with messages on 5.0, without `/`. It must differ
    /// from every other broker that messages may pass, or they are taken for our own and dropped: the node id with a
    /// random part is right, a bare host name is not. Empty: rings are ended by the hop count alone.
    pub node: String,
    /// Where the remote broker is, in order of preference; at least one.
    pub addresses: Vec<Address>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Whether bit 7 of the level may be set on 3.1 and 3.1.1.
    pub try_private: bool,
    /// The ClientID at the remote.
    pub client_id: String,
    /// The user name at the remote.
    pub username: Option<String>,
    /// The password at the remote.
    pub password: Option<Vec<u8>>,
    /// Seconds; 0 turns keep alive off, and then a silent peer is never found out.
    pub keep_alive: u16,
    /// Clean Session (3.x), Clean Start on every connection (5.0).
    pub clean_session: bool,
    /// Session Expiry Interval towards a 5.0 remote, seconds; `u32::MAX`: never.
    pub session_expiry: u32,
    /// How long each step of an attempt may take: dial with TLS, CONNACK.
    pub connect_timeout: Duration,
    /// The shortest wait once every address has failed.
    pub reconnect_min: Duration,
    /// How often the first of several addresses is probed while another one is in use, to return to it; `None`: never.
    pub failback: Option<Duration>,
    /// The longest wait; taken as `reconnect_min` when it is below.
    pub reconnect_max: Duration,
    /// How long a message may wait here before it is first sent to the remote; `None`: as long as it takes.
    pub max_age: Option<Duration>,
    /// QoS 1 and 2 messages a second that are handed to the remote for the first time; `None`: no limit.
    pub drain_rate: Option<NonZeroU32>,
    /// Unacknowledged QoS 1 and 2 messages in each direction; at least 1, 0 is taken as 1.
    pub max_inflight: u16,
    /// The largest packet taken from the remote, in bytes; announced to a 5.0 remote.
    pub max_packet_size: u32,
    /// Topic aliases taken from a 5.0 remote.
    pub topic_alias_maximum: u16,
    /// What the remote takes, where it does not say so itself.
    pub remote: RemoteLimits,
    /// What is carried. The first rule that matches a message decides.
    pub topics: Vec<Topic>,
    /// What of the `out` rules' topics this link carries, and which of the `in` rules it asks for: a bridge may be several.
    pub slice: Slice,
    /// Whether it asks for messages, or carries what waits.
    pub duty: Duty,
    /// What was carried before a reload, so that both brokers can be told to send it no longer.
    pub previous: Vec<Topic>,
    /// The state topic (retained `1` and `0`); `None`: none.
    pub notifications: Option<String>,
    /// Whether the state is published at the remote as well as here.
    pub notify_remote: bool,
}

/// What a link is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// To carry what its rules say.
    Serve,
    /// It belongs to another number of links than is wanted now: it asks for nothing, here or there, and carries what waits.
    Drain,
}

/// What a remote takes, where the protocol has no word for it or the remote does not use it. What CONNACK says counts as
/// well: the lower of the two holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteLimits {
    /// The highest QoS of messages to it and of subscriptions there.
    pub max_qos: QoS,
    /// Whether it takes messages with RETAIN.
    pub retain: bool,
    /// The largest packet that it takes, CONNECT not counted, in bytes; at least 64.
    pub max_packet_size: Option<u32>,
    /// Whether it takes topics that begin with `$` from clients, and subscriptions to them.
    pub dollar_topics: bool,
    /// The most levels that a topic may have there.
    pub max_topic_levels: Option<u16>,
    /// The most bytes that a topic may have there.
    pub max_topic_bytes: Option<u16>,
    /// Whether it takes UNSUBSCRIBE.
    pub unsubscribe: bool,
    /// The most filters of one SUBSCRIBE or UNSUBSCRIBE.
    pub filters_per_packet: Option<u16>,
}

impl Default for RemoteLimits {
    /// Everything that the protocol allows.
    fn default() -> Self {
        Self {
            max_qos: QoS::ExactlyOnce,
            retain: true,
            max_packet_size: None,
            dollar_topics: true,
            max_topic_levels: None,
            max_topic_bytes: None,
            unsubscribe: true,
            filters_per_packet: None,
        }
    }
}

impl RemoteLimits {
    /// Whether a message may go to the remote under this name.
    #[must_use]
    pub fn take_topic(&self, topic: TopicRef<'_>) -> bool {
        let text = topic.as_str();
        (self.dollar_topics || !topic.is_dollar())
            && self.max_topic_bytes.is_none_or(|max| text.len() <= usize::from(max))
            && self.max_topic_levels.is_none_or(|max| text.split('/').count() <= usize::from(max))
    }

    /// Whether something may be subscribed to there.
    #[must_use]
    pub fn take_filter(&self, filter: FilterRef<'_>) -> bool {
        let inner = filter.share().map_or(filter, |share| share.filter);
        self.dollar_topics || !inner.as_str().starts_with('$')
    }
}

/// One address of the remote broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A DNS name or an IP address, an IPv6 one without its brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// The path that is asked for when WebSocket carries MQTT.
    pub websocket: Option<String>,
}

/// What is spoken with the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The best that the remote takes: 5, 132, 4, 131, 3.
    Auto,
    /// One version; on 3.x the private level first.
    Fixed(Version),
}

/// One topic rule. Going out, `local_prefix` is taken off and `remote_prefix` put on; coming in, the reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Without the prefixes; may be empty when both prefixes are there: one topic, renamed.
    pub filter: String,
    /// Which way.
    pub direction: Direction,
    /// The most that a message is carried with.
    pub qos: QoS,
    /// Whether the RETAIN flag is carried; `false` clears it.
    pub retain: bool,
    /// Before the filter here.
    pub local_prefix: String,
    /// Before the filter at the remote.
    pub remote_prefix: String,
    /// Run the rule although its messages may come back.
    pub allow_loop: bool,
}

/// Which way a topic rule carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the remote to here.
    In,
    /// From here to the remote.
    Out,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether messages come from the remote.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::In | Self::Both)
    }

    /// Whether messages go to the remote.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::Both)
    }
}

impl Settings {
    /// The ClientID of the local half.
    #[must_use]
    pub fn local_client_id(&self) -> String {
        self.slice.local_client_id(&self.name)
    }
}

impl Protocol {
    /// The levels that are tried, best first. The private ones only with `try_private`.
    #[must_use]
    pub fn ladder(self, try_private: bool) -> Vec<Level> {
        let all: &[Level] = match self {
            Self::Auto => &[Level::V5, Level::V311_BRIDGE, Level::V311, Level::V31_BRIDGE, Level::V31],
            Self::Fixed(Version::V5) => &[Level::V5],
            Self::Fixed(Version::V311) => &[Level::V311_BRIDGE, Level::V311],
            Self::Fixed(Version::V31) => &[Level::V31_BRIDGE, Level::V31],
        };
        all.iter().copied().filter(|level| try_private || !level.is_bridge()).collect()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.websocket, self.tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let path = self.websocket.as_deref().unwrap_or_default();
        write!(f, "{scheme}://{open}{}{close}:{}{path}", self.host, self.port)
    }
}

/// Everything but the password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("protocol", &self.protocol)
            .field("client_id", &self.client_id)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_goes_from_the_best_level_down() {
        let bytes =
            |protocol: Protocol, private| protocol.ladder(private).into_iter().map(Level::byte).collect::<Vec<_>>();
        assert_eq!(bytes(Protocol::Auto, true), [5, 132, 4, 131, 3]);
        assert_eq!(bytes(Protocol::Auto, false), [5, 4, 3]);
        assert_eq!(bytes(Protocol::Fixed(Version::V311), true), [132, 4]);
        assert_eq!(bytes(Protocol::Fixed(Version::V31), false), [3]);
        assert_eq!(bytes(Protocol::Fixed(Version::V5), true), [5]);
    }
}
