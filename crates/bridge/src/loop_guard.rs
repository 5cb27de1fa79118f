//! Keeps messages from going in circles.
//!
//! In: what goes out and what comes in. Out: whether it may pass. Two guards: hops, which 5.0 messages carry with
//! them through rings of any length; and echoes, for a 3.x remote that sends our own messages back. Never grows
//! beyond its bounds.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{Message, MessageProperties, Time, TopicRef, UserProperties};
use viaduct_session::{HOPS_PROPERTY, is_node_name};

use crate::limits;

/// Why a message may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looped;

/// Which way a hop goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// A bridge of this broker fetched it.
    In,
    /// A bridge of this broker sends it on.
    Out,
}

/// Writes this broker's hop into `message`, replacing the list that it carries.
///
/// # Errors
/// The list is full, or this broker is in it in a way that only a ring makes: anywhere on the way in; on the way out
/// anywhere but as the one that has just fetched it, which is a message in transit from one bridge to another.
pub fn stamp(message: &mut Message, node: &str, hop: Hop) -> Result<(), Looped> {
    stamp_between(message, node, None, hop)
}

/// As [`stamp`], where the other side is known by name: what it has had already does not go there again, and what comes
/// from there is known to have been there, so that a ring ends where it began.
fn stamp_between(message: &mut Message, node: &str, remote: Option<&str>, hop: Hop) -> Result<(), Looped> {
    let carried = message.properties.as_ref().map(|own| own.user_properties.clone()).unwrap_or_default();
    let properties = UserProperties::from_encoded(&carried);
    let so_far = properties.iter().find(|(name, _)| *name == HOPS_PROPERTY).map_or("", |(_, value)| value);
    let hops = if so_far.is_empty() { 0 } else { so_far.split('/').count() };
    if hops >= limits::HOPS || came_back(so_far, hops, node, hop) {
        return Err(Looped);
    }
    let remote = remote.map(|name| (name, so_far.split('/').any(|entry| entry.trim_end_matches(['<', '>']) == name)));
    let separator = if so_far.is_empty() { "" } else { "/" };
    let list = match (hop, remote) {
        (Hop::Out, Some((_, true))) => return Err(Looped),
        (Hop::Out, _) => format!("{so_far}{separator}{node}>"),
        (Hop::In, Some((name, false))) => format!("{so_far}{separator}{name}>/{node}<"),
        (Hop::In, _) => format!("{so_far}{separator}{node}<"),
    };
    let mut encoded = Vec::with_capacity(carried.len() + HOPS_PROPERTY.len() + list.len() + 5);
    for (name, value) in properties.iter().filter(|(name, _)| *name != HOPS_PROPERTY) {
        UserProperties::push(&mut encoded, name, value);
    }
    if !UserProperties::push(&mut encoded, HOPS_PROPERTY, &list) {
        return Err(Looped); // a list of more than 65,535 bytes has not been made by brokers
    }
    Arc::make_mut(message.properties.get_or_insert_default()).user_properties = Bytes::from(encoded);
    Ok(())
}

/// This broker's hops, of which the first of a message is the same each time and made once: most messages that cross a
/// bridge have no User Properties before.
#[derive(Clone, Debug)]
pub struct Hops {
    node: String,
    /// What the broker at the other end calls itself, if it says.
    remote: Option<String>,
    /// Those of a message without any.
    inward: Arc<MessageProperties>,
    outward: Arc<MessageProperties>,
}

impl Hops {
    /// Those of the broker `node`. A name that is too long for the wire is found when a message is stamped.
    #[must_use]
    pub fn new(node: &str) -> Self {
        let first = |mark: char| {
            let mut encoded = Vec::new();
            _ = UserProperties::push(&mut encoded, HOPS_PROPERTY, &format!("{node}{mark}"));
            Arc::new(MessageProperties { user_properties: encoded.into(), ..MessageProperties::default() })
        };
        Self { node: node.to_owned(), remote: None, inward: first('<'), outward: first('>') }
    }

    /// What CONNACK said about who is at the other end. A name that could not stand in a list is none.
    pub fn meet(&mut self, remote: Option<&str>) {
        let remote = remote.filter(|name| is_node_name(name));
        if self.remote.as_deref() != remote {
            let mut encoded = Vec::new();
            let before = remote.map(|name| format!("{name}>/")).unwrap_or_default();
            _ = UserProperties::push(&mut encoded, HOPS_PROPERTY, &format!("{before}{}<", self.node));
            self.inward =
                Arc::new(MessageProperties { user_properties: encoded.into(), ..MessageProperties::default() });
            self.remote = remote.map(str::to_owned);
        }
    }

    /// Whether it has said so.
    pub(crate) const fn is_remote_named(&self) -> bool {
        self.remote.is_some()
    }

    /// As [`stamp`]. A remote that is known by name knows us by ours, and notes the hop itself on what comes without User
    /// Properties: thirty bytes that most messages need not carry.
    ///
    /// # Errors
    /// As [`stamp`].
    pub fn stamp(&self, message: &mut Message, hop: Hop) -> Result<(), Looped> {
        let first = if hop == Hop::In { &self.inward } else { &self.outward };
        let has_none = message.properties.as_ref().is_none_or(|own| own.user_properties.is_empty());
        if has_none && hop == Hop::Out && self.remote.is_some() && is_node_name(&self.node) {
            return Ok(());
        }
        if !has_none || first.user_properties.is_empty() {
            return stamp_between(message, &self.node, self.remote.as_deref(), hop);
        }
        message.or_user_properties(first);
        Ok(())
    }
}

fn came_back(so_far: &str, hops: usize, node: &str, hop: Hop) -> bool {
    if node.is_empty() {
        return false; // nothing to recognise; the count ends the ring
    }
    so_far.split('/').enumerate().any(|(place, entry)| match entry.strip_suffix(['<', '>']) {
        Some(name) if name == node => hop == Hop::In || entry.ends_with('>') || place + 1 != hops,
        _ => false,
    })
}

/// Recognises our own messages when a remote without No Local sends them back: by topic and payload, each as often as
/// it went out, for a minute. The QoS does not count because an echo's is lowered by the subscription.
///
/// What it cannot do: tell an echo from somebody else's message with the same topic and payload while an echo is
/// still owed (the message is taken for the echo, and the echo then passes for the message: one of two equal
/// messages is carried, as should be); and remember more than [`limits::ECHOES`].
#[derive(Clone, Debug)]
pub struct EchoGuard {
    /// Hashed before everything else, so that a remote cannot choose payloads that collide.
    seed: u64,
    owed: BTreeMap<u64, u32>,
    order: VecDeque<(Time, u64)>,
}

impl EchoGuard {
    /// Remembers nothing yet.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, owed: BTreeMap::new(), order: VecDeque::new() }
    }

    /// A message went out that will come back once.
    pub fn sent(&mut self, now: Time, topic: TopicRef<'_>, payload: &[u8]) {
        self.age(now);
        if self.order.len() >= limits::ECHOES
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.settle(oldest);
        }
        let key = self.key(topic, payload);
        self.order.push_back((now, key));
        *self.owed.entry(key).or_default() += 1;
    }

    /// Whether a message that came in is an echo; it is then owed once less. A `retained` one answers a SUBSCRIBE and comes beside
    /// the echo, which has no RETAIN on 3.x (MQTT-3.3.1-9 of 3.1.1): that one is owed still.
    pub fn is_echo(&mut self, now: Time, topic: TopicRef<'_>, payload: &[u8], retained: bool) -> bool {
        self.age(now);
        let key = self.key(topic, payload);
        if retained {
            return self.owed.contains_key(&key);
        }
        if !self.settle(key) {
            return false;
        }
        // Echoes come in the order in which their messages went: the first is the nearest.
        if let Some(place) = self.order.iter().position(|(_, other)| *other == key) {
            self.order.remove(place);
        }
        true
    }

    fn age(&mut self, now: Time) {
        while let Some((sent, key)) = self.order.front().copied()
            && sent.after(limits::ECHO_AGE) <= now
        {
            self.order.pop_front();
            self.settle(key);
        }
    }

    fn settle(&mut self, key: u64) -> bool {
        let Some(count) = self.owed.get_mut(&key) else { return false };
        *count -= 1;
        if *count == 0 {
            self.owed.remove(&key);
        }
        true
    }

    fn key(&self, topic: TopicRef<'_>, payload: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, topic.as_str(), payload).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use viaduct_codec::{QoS, TopicName};

    /// With another User Property before its list of hops.
    pub(crate) fn message(hops: Option<&str>, payload: &str, qos: QoS) -> Message {
        let mut encoded = Vec::new();
        UserProperties::push(&mut encoded, "colour", "red");
        if let Some(hops) = hops {
            UserProperties::push(&mut encoded, HOPS_PROPERTY, hops);
        }
        Message {
            topic: TopicName::new("a/b").unwrap(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos,
            retain: false,
            received: Time::default(),
            expires: None,
            properties: Some(Arc::new(MessageProperties { user_properties: encoded.into(), ..Default::default() })),
        }
    }

    fn plain(hops: Option<&str>) -> Message {
        message(hops, "x", QoS::AtMostOnce)
    }

    fn pairs(message: &Message) -> Vec<(String, String)> {
        let own = message.properties.as_ref().unwrap();
        UserProperties::from_encoded(&own.user_properties).iter().map(|(n, v)| (n.into(), v.into())).collect()
    }

    #[test]
    fn the_first_hop_is_the_one_that_stamping_makes() {
        for (hops, hop) in [(None, Hop::In), (None, Hop::Out), (Some("a>"), Hop::In)] {
            let (mut long, mut short, mut bare) = (plain(hops), plain(hops), plain(hops));
            bare.properties = None;
            let mut bare_too = bare.clone();
            assert!(stamp(&mut long, "b", hop).is_ok() && stamp(&mut bare, "b", hop).is_ok());
            let own = Hops::new("b");
            assert!(own.stamp(&mut short, hop).is_ok() && own.stamp(&mut bare_too, hop).is_ok());
            assert_eq!((short, bare_too), (long, bare));
        }
        assert!(Hops::new("b").stamp(&mut plain(Some("b>")), Hop::In).is_err());
    }

    #[test]
    fn hops_end_rings_and_let_chains_pass() {
        // (list so far, way, list after or None when it may not pass), seen from node `b`
        let table = [
            (None, Hop::Out, Some("b>")),
            (None, Hop::In, Some("b<")),
            (Some("a>"), Hop::Out, Some("a>/b>")),
            (Some("a>"), Hop::In, Some("a>/b<")),
            (Some("a>/b<"), Hop::Out, Some("a>/b</b>")), // in by one bridge, out by the next
            (Some("b>"), Hop::Out, None),
            (Some("b>"), Hop::In, None),
            (Some("b<"), Hop::In, None),
            (Some("b</c>"), Hop::Out, None),
            (Some("b</c>"), Hop::In, None),
            (Some("bb>/ab<"), Hop::In, Some("bb>/ab</b<")), // names are compared whole
            (Some("nonsense"), Hop::In, Some("nonsense/b<")),
        ];
        for (so_far, hop, after) in table {
            let mut one = plain(so_far);
            let stamped = stamp(&mut one, "b", hop).is_ok();
            assert_eq!(stamped, after.is_some(), "{so_far:?} {hop:?}");
            if let Some(after) = after {
                let expected = vec![("colour".into(), "red".into()), (HOPS_PROPERTY.into(), after.into())];
                assert_eq!(pairs(&one), expected);
            }
        }
    }

    #[test]
    fn a_remote_that_has_a_name_is_noted_and_is_not_sent_what_it_has_had() {
        // (list so far, way, list after or None when it may not pass), seen from `b`, whose remote is `r`
        let table = [
            (None, Hop::Out, Some("b>")), // beside another User Property
            (None, Hop::In, Some("r>/b<")),
            (Some("a>"), Hop::In, Some("a>/r>/b<")),
            (Some("r>"), Hop::In, Some("r>/b<")),
            (Some("r>/a<"), Hop::In, Some("r>/a</b<")),
            (Some("r>/b<"), Hop::Out, None),
            (Some("r>/a>"), Hop::Out, None),
            (Some("a>/rr>"), Hop::Out, Some("a>/rr>/b>")),
            (Some("b>/r>"), Hop::In, None),
        ];
        let mut hops = Hops::new("b");
        hops.meet(Some("r"));
        for (so_far, hop, after) in table {
            let (mut one, mut bare) = (plain(so_far), plain(None));
            let stamped = hops.stamp(&mut one, hop).is_ok();
            assert_eq!(stamped, after.is_some(), "{so_far:?} {hop:?}");
            if let Some(after) = after {
                assert_eq!(pairs(&one).last().unwrap(), &(HOPS_PROPERTY.to_owned(), after.to_owned()));
            }
            bare.properties = None;
            assert!(hops.stamp(&mut bare, hop).is_ok());
            match hop {
                Hop::In => assert_eq!(pairs(&bare), [(HOPS_PROPERTY.to_owned(), "r>/b<".to_owned())]),
                Hop::Out => assert_eq!(bare.properties, None, "the remote notes it"),
            }
        }
        for strange in [None, Some(""), Some("r/b"), Some("r<")] {
            hops.meet(strange);
            let mut bare = plain(None);
            bare.properties = None;
            assert!(hops.stamp(&mut bare, Hop::In).is_ok());
            assert_eq!(pairs(&bare), [(HOPS_PROPERTY.to_owned(), "b<".to_owned())]);
        }
    }

    #[test]
    fn the_hop_count_ends_a_ring_of_strangers() {
        let list = |hops: usize| vec!["z>"; hops].join("/");
        assert!(stamp(&mut plain(Some(&list(limits::HOPS - 1))), "b", Hop::Out).is_ok());
        assert!(stamp(&mut plain(Some(&list(limits::HOPS))), "b", Hop::Out).is_err());
        assert!(stamp(&mut plain(Some(&list(limits::HOPS))), "", Hop::In).is_err());
        let mut without = plain(None);
        without.properties = None;
        assert!(stamp(&mut without, "b", Hop::Out).is_ok());
        assert_eq!(pairs(&without), [(HOPS_PROPERTY.to_owned(), "b>".to_owned())]);
    }

    #[test]
    fn an_echo_is_recognised_as_often_as_it_is_owed_and_for_a_minute() {
        let topic = TopicRef::new("a").unwrap();
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        let mut guard = EchoGuard::new(1);
        assert!(!guard.is_echo(at(0), topic, b"x", false));
        guard.sent(at(0), topic, b"x");
        guard.sent(at(0), topic, b"x");
        assert!(!guard.is_echo(at(1), topic, b"y", false));
        assert!(!guard.is_echo(at(1), TopicRef::new("b").unwrap(), b"x", false));
        assert!(guard.is_echo(at(1), topic, b"x", true), "what it sent, retained there");
        assert!(guard.is_echo(at(1), topic, b"x", false));
        assert!(guard.is_echo(at(59), topic, b"x", false));
        assert!(!guard.is_echo(at(59), topic, b"x", false));
        guard.sent(at(59), topic, b"x");
        assert!(!guard.is_echo(at(119), topic, b"x", false));
        assert!(guard.order.is_empty() && guard.owed.is_empty());
    }

    #[test]
    fn the_echo_memory_is_bounded_and_forgets_the_oldest() {
        let topic = TopicRef::new("a").unwrap();
        let mut guard = EchoGuard::new(1);
        for number in 0..=limits::ECHOES {
            guard.sent(Time::default(), topic, &number.to_be_bytes());
        }
        assert_eq!(guard.order.len(), limits::ECHOES);
        assert_eq!(guard.owed.len(), limits::ECHOES);
        assert!(!guard.is_echo(Time::default(), topic, &0_usize.to_be_bytes(), false));
        assert!(guard.is_echo(Time::default(), topic, &limits::ECHOES.to_be_bytes(), false));
    }
}
