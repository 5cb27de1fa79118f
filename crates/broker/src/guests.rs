//! Bridges of other brokers that are connected here, and where what they carry meets what our own bridges do.
//!
//! In: who is connected, what it is subscribed to, and the topics that it publishes to while that is not known to meet anything.
//! Out: for each of our bridges the guests that it meets. When one of them belongs to the very broker that our bridge leads to,
//! messages come twice or go in circles: whether it does is for the bridge to find out. Must never: take part in what is
//! carried, or cost anything while there is no guest or no bridge.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use viaduct_bridge::Rules;
use viaduct_codec::{ClientId, Message, Time, TopicFilter, TopicName};
use viaduct_session::server::Admission;

use crate::limits::{GUEST_FILTERS, GUEST_MESSAGES, GUEST_PAUSE, GUEST_SAMPLE};
use crate::ways;

/// All of them.
#[derive(Debug)]
pub(crate) struct Guests {
    known: Mutex<Known>,
    /// How often a bridge may have come to meet one that it did not.
    news: AtomicU64,
    /// Wakes the bridges up for that.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    last: u64,
    /// By a number: for a moment there may be two of one ClientID.
    guests: BTreeMap<u64, Visitor>,
    /// Our own bridges that run, by name.
    own: BTreeMap<String, Own>,
}

/// What is known of one guest.
#[derive(Debug)]
struct Visitor {
    client_id: ClientId,
    came: Time,
    /// It speaks 5.0 and says its broker's name: between us and such a broker messages carry what ends circles.
    is_named: bool,
    filters: BTreeSet<TopicFilter>,
    /// What it published that one of our bridges, by name, carries.
    published: BTreeMap<String, TopicName>,
    watch: Arc<Watch>,
}

/// Whether what a guest publishes is looked at: while it may show something new, and less when it has shown nothing for long. What
/// circulates comes so often that a sample finds it, and a guest whose messages are nothing to our bridges is not held up.
#[derive(Debug, Default)]
struct Watch {
    on: AtomicBool,
    /// Messages that showed nothing, since the rules changed.
    quiet: AtomicU32,
    /// When the next is looked at, milliseconds.
    resume: AtomicU64,
}

impl Watch {
    fn is_on(&self, now: Time) -> bool {
        self.on.load(Ordering::Relaxed) && now.as_millis() >= self.resume.load(Ordering::Relaxed)
    }

    fn saw_nothing(&self, now: Time) {
        let quiet = self.quiet.load(Ordering::Relaxed).saturating_add(1);
        if quiet >= GUEST_MESSAGES {
            self.resume.store(now.after(GUEST_PAUSE).as_millis(), Ordering::Relaxed);
            self.quiet.store(GUEST_MESSAGES - GUEST_SAMPLE, Ordering::Relaxed);
        } else {
            self.quiet.store(quiet, Ordering::Relaxed);
        }
    }

    fn anew(&self) {
        self.quiet.store(0, Ordering::Relaxed);
        self.resume.store(0, Ordering::Relaxed);
    }
}

/// One of our bridges.
#[derive(Debug)]
struct Own {
    rules: Arc<Rules>,
    /// Whether it may come to speak 5.0.
    may_speak_5: bool,
    links: usize,
}

/// A guest that carries what one of our bridges carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// Its name here.
    pub(crate) client_id: ClientId,
    pub(crate) came: Time,
    /// What it does here, in words.
    pub(crate) what: String,
}

impl Met {
    /// Why our bridge does not run when its remote is where this one comes from.
    pub(crate) fn words(&self) -> String {
        format!(
            "the remote has a bridge that is connected here as {:?} and {}, as this one carries",
            self.client_id.as_str(),
            self.what
        )
    }
}

/// The connection of another broker's bridge.
#[derive(Debug)]
pub(crate) struct Guest {
    guests: Arc<Guests>,
    id: u64,
    watch: Arc<Watch>,
    /// If its broker has a name.
    way: Option<Arc<ways::Way>>,
}

/// A link of one of our bridges, while it runs.
#[derive(Debug)]
pub(crate) struct OwnLink {
    guests: Arc<Guests>,
    bridge: String,
}

/// Where the bridge that is called `client_id` keeps its state, here and where it came from.
pub(crate) fn state_topic(client_id: &str) -> String {
    format!("$SYS/broker/connection/{client_id}/state")
}

impl Guests {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), news: AtomicU64::new(0), changed: watch::Sender::new(()) })
    }

    /// Another number whenever a bridge may meet a guest that it did not: before anything more of that guest is handed on.
    pub(crate) fn news(&self) -> u64 {
        self.news.load(Ordering::Acquire)
    }

    /// Until a bridge may meet a guest that it did not before this was called.
    pub(crate) fn next_change(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let mut changed = self.changed.subscribe();
        Box::pin(async move {
            // The sender lives as long as the broker.
            _ = changed.changed().await;
        })
    }

    /// One who has come, if it is a bridge: by bit 7 of its level, by the name of its broker, or by a will that speaks of its state.
    pub(crate) fn welcome(
        self: &Arc<Self>,
        now: Time,
        admission: &Admission,
        way: Option<Arc<ways::Way>>,
    ) -> Option<Guest> {
        let client_id = &admission.client_id;
        let tells_state = || {
            admission.will.as_ref().is_some_and(|will| will.message.topic.as_str() == state_topic(client_id.as_str()))
        };
        if !admission.level.is_bridge() && admission.node.is_none() && !tells_state() {
            return None;
        }
        let watch = Arc::new(Watch::default());
        let mut known = self.known.lock();
        known.last += 1;
        let id = known.last;
        let guest = Visitor {
            client_id: client_id.clone(),
            came: now,
            is_named: way.is_some() && admission.level.version().is_v5(),
            filters: BTreeSet::new(),
            published: BTreeMap::new(),
            watch: Arc::clone(&watch),
        };
        guest.watch_again(&known.own);
        known.guests.insert(id, guest);
        Some(Guest { guests: Arc::clone(self), id, watch, way })
    }

    /// A link of the bridge `name` runs.
    pub(crate) fn host(self: &Arc<Self>, name: &str, rules: Option<Arc<Rules>>, may_speak_5: bool) -> Option<OwnLink> {
        let mut known = self.known.lock();
        let links = known.own.get(name).map_or(1, |own| own.links + 1);
        // After a reload links with the rules from before may still be there, on other workers: the last to begin knows better.
        known.own.insert(name.to_owned(), Own { rules: rules?, may_speak_5, links });
        known.forget_published(name);
        known.watch_again();
        Some(OwnLink { guests: Arc::clone(self), bridge: name.to_owned() })
    }

    /// The guests that the bridge `name` meets on a link of this kind.
    pub(crate) fn met_by(&self, name: &str, is_v5: bool) -> Vec<Met> {
        let known = self.known.lock();
        let Some(own) = known.own.get(name) else { return Vec::new() };
        let mut met = Vec::new();
        for guest in known.guests.values().filter(|guest| !(is_v5 && guest.is_named)) {
            let asked = guest.filters.iter().find(|filter| own.rules.carries(filter.by_ref()));
            let what = match (asked, guest.published.get(name)) {
                (Some(filter), _) => format!("is subscribed to {:?}", filter.as_str()),
                (None, Some(topic)) => format!("publishes to {:?}", topic.as_str()),
                (None, None) => continue,
            };
            met.push(Met { client_id: guest.client_id.clone(), came: guest.came, what });
        }
        met
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Visitor, &BTreeMap<String, Own>) -> bool) -> bool {
        let mut known = self.known.lock();
        let Known { guests, own, .. } = &mut *known;
        let is_news = guests.get_mut(&id).is_some_and(|guest| change(guest, own));
        drop(known);
        if is_news {
            self.news.fetch_add(1, Ordering::Release);
            self.changed.send_replace(());
        }
        is_news
    }
}

impl Known {
    /// The rules of the bridge `name` are others now, or there are none.
    fn forget_published(&mut self, name: &str) {
        self.guests.values_mut().for_each(|guest| _ = guest.published.remove(name));
    }

    fn watch_again(&self) {
        for guest in self.guests.values() {
            guest.watch_again(&self.own);
            guest.watch.anew();
        }
    }
}

impl Visitor {
    fn watch_again(&self, own: &BTreeMap<String, Own>) {
        let is_shown =
            |(name, own): (&String, &Own)| self.published.contains_key(name) || (self.is_named && own.may_speak_5);
        self.watch.on.store(!own.iter().all(is_shown), Ordering::Relaxed);
    }
}

impl Guest {
    fn counted_way(&self, now: Time) -> Option<&ways::Way> {
        self.way.as_deref().filter(|way| viaduct_engine::Way::is_counted(*way, now))
    }

    /// Whether one of our bridges carries such messages, and nothing so far that this guest published.
    #[cold]
    fn note_published(&self, message: &Message) -> bool {
        self.guests.change(self.id, |guest, own| {
            // No rule of its broker brings that.
            if message.topic.by_ref().is_dollar() && message.topic.as_str() == state_topic(guest.client_id.as_str()) {
                return false;
            }
            let mut is_news = false;
            for (name, own) in own {
                if own.rules.carries_topic(message.topic.by_ref()) && !guest.published.contains_key(name) {
                    guest.published.insert(name.clone(), message.topic.clone());
                    is_news = true;
                }
            }
            guest.watch_again(own);
            is_news
        })
    }
}

impl viaduct_engine::Way for Guest {
    fn is_counted(&self, now: Time) -> bool {
        self.watch.is_on(now) || self.counted_way(now).is_some()
    }

    fn is_double(&self, now: Time, message: &Message, again: bool) -> bool {
        if self.watch.is_on(now) && !self.note_published(message) {
            self.watch.saw_nothing(now);
        }
        self.counted_way(now).is_some_and(|way| way.is_double(now, message, again))
    }

    fn no_leaf(&self) {
        if let Some(way) = &self.way {
            way.no_leaf();
        }
    }

    fn asks(&self, filter: &TopicFilter, wanted: bool) {
        _ = self.guests.change(self.id, |guest, own| {
            if !wanted {
                guest.filters.remove(filter);
                return false;
            }
            if guest.filters.len() >= GUEST_FILTERS {
                return false;
            }
            guest.filters.insert(filter.clone()) && own.values().any(|own| own.rules.carries(filter.by_ref()))
        });
    }

    fn took(&self, now: Time) {
        if let Some(way) = &self.way {
            way.took(now);
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.known.lock().guests.remove(&self.id);
    }
}

impl Drop for OwnLink {
    fn drop(&mut self) {
        let mut known = self.guests.known.lock();
        let Some(own) = known.own.get_mut(&self.bridge) else { return };
        own.links -= 1;
        if own.links == 0 {
            known.own.remove(&self.bridge);
            known.forget_published(&self.bridge);
            known.watch_again();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bridge::{self, BridgeStatus};
    use bytes::Bytes;
    use viaduct_codec::{Connect, ConnectProperties, Level, QoS, UserProperties, Will as Last};
    use viaduct_config::{Source, SourceFile, load};
    use viaduct_engine::Way as _;
    use viaduct_session::NODE_PROPERTY;
    use viaduct_session::server::{Terms, admit};

    fn own(rule: &str) -> Option<Arc<Rules>> {
        let text = format!("[[bridge]]\nname = \"b\"\nurl = \"mqtt://h\"\n[[bridge.topic]]\n{rule}\n");
        let file = Some(SourceFile { name: "test".into(), text });
        let config = load(Source { file, ..Source::default() }).unwrap().config;
        let plan = bridge::plan(&config, &config.bridges[0], "here", BridgeStatus::new("b")).unwrap();
        Some(Arc::new(Rules::new(&plan.settings).unwrap()))
    }

    fn admission(client_id: &str, level: Level, node: Option<&str>, will: Option<&str>) -> Admission {
        let mut said = Vec::new();
        if let Some(node) = node {
            UserProperties::push(&mut said, NODE_PROPERTY, node);
        }
        let properties =
            ConnectProperties { user_properties: UserProperties::from_encoded(&said), ..ConnectProperties::default() };
        let will = will.map(|topic| Last {
            topic: viaduct_codec::TopicRef::new(topic).unwrap(),
            payload: b"0",
            qos: QoS::AtLeastOnce,
            retain: true,
            properties: Default::default(),
        });
        let connect = Connect {
            level,
            clean_start: true,
            keep_alive: 60,
            client_id,
            will,
            username: None,
            password: None,
            properties,
        };
        admit(&connect, &Terms::default(), Time::default(), || ClientId::from(client_id)).unwrap()
    }

    /// The bridge of another broker comes.
    pub(crate) fn bridge_at(guests: &Arc<Guests>, came: Time, client_id: &str, level: Level) -> Guest {
        guests.welcome(came, &admission(client_id, level, None, None), None).unwrap()
    }

    fn message(topic: &str) -> Message {
        Message {
            topic: TopicName::new(topic).unwrap(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            received: Time::default(),
            expires: None,
            properties: None,
        }
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    fn met(guests: &Guests) -> Vec<(String, String)> {
        let all = guests.met_by("b", false).into_iter();
        all.map(|met| (met.client_id.as_str().to_owned(), met.what)).collect()
    }

    #[test]
    fn bridges_are_known_by_their_level_their_name_or_the_will_that_speaks_of_their_state() {
        let guests = Guests::new();
        let state = state_topic("x");
        for (level, node, will, is_guest) in [
            (Level::V311, None, None, false),
            (Level::V5, None, None, false),
            (Level::V311, None, Some("gone/x"), false),
            (Level::V311, None, Some("$SYS/broker/connection/y/state"), false),
            (Level::V311_BRIDGE, None, None, true),
            (Level::V31_BRIDGE, None, None, true),
            (Level::V311, None, Some(&*state), true),
            (Level::V5, None, Some(&*state), true),
            (Level::V5, Some("there"), None, true),
        ] {
            let is_known = guests.welcome(Time::default(), &admission("x", level, node, will), None).is_some();
            assert_eq!(is_known, is_guest, "{level} {node:?} {will:?}");
        }
    }

    #[test]
    fn a_guest_is_met_when_it_asks_for_what_a_rule_carries_either_way_and_no_more_when_it_does_not() {
        for (rule, asks, meets) in [
            ("filter = \"a/#\"", "a/b", true),
            ("filter = \"a/#\"\ndirection = \"in\"", "+/b", true),
            ("filter = \"a/#\"\ndirection = \"both\"", "$share/g/a/b", true),
            ("filter = \"a/#\"\nremote_prefix = \"there/\"", "there/a/b", false),
            ("filter = \"a/#\"\nlocal_prefix = \"here/\"", "here/#", true),
            ("filter = \"a/#\"", "b/#", false),
            ("filter = \"a/#\"\nallow_loop = true", "a/b", false),
            ("filter = \"$SYS/#\"\nremote_prefix = \"r/\"", "#", false),
            ("filter = \"$SYS/#\"\nremote_prefix = \"r/\"", "+/broker/#", false),
            ("filter = \"#\"", "$SYS/#", false),
            ("filter = \"$SYS/#\"\nremote_prefix = \"r/\"", "$SYS/broker/#", true),
        ] {
            let guests = Guests::new();
            let _own = guests.host("b", own(rule), true);
            let guest = bridge_at(&guests, Time::default(), "x", Level::V311_BRIDGE);
            assert_eq!(met(&guests), []);
            guest.asks(&filter(asks), true);
            let expected = meets.then(|| ("x".to_owned(), format!("is subscribed to {asks:?}")));
            assert_eq!(met(&guests), expected.into_iter().collect::<Vec<_>>(), "{rule} {asks}");
            guest.asks(&filter(asks), false);
            assert_eq!(met(&guests), [], "{rule} {asks}");
            guest.asks(&filter(asks), true);
            drop(guest);
            assert_eq!(met(&guests), [], "it is gone");
        }
    }

    #[test]
    fn a_guest_is_watched_until_it_publishes_what_is_carried_and_anew_for_another_bridge() {
        let guests = Guests::new();
        let now = Time::default();
        let guest = bridge_at(&guests, Time::default(), "x", Level::V311_BRIDGE);
        assert!(!guest.is_counted(now), "there is no bridge");
        let inward = guests.host("b", own("filter = \"a/#\"\ndirection = \"in\"\nlocal_prefix = \"from/\""), true);
        for topic in ["a/1", "from/b", "from/a/1"] {
            assert!(guest.is_counted(now) && !guest.is_double(now, &message(topic), false));
        }
        assert_eq!(met(&guests), [("x".to_owned(), "publishes to \"from/a/1\"".to_owned())]);
        drop(inward);
        let meant = guests.host("b", own("filter = \"a/#\"\ndirection = \"in\"\nallow_loop = true"), true);
        assert!(!guest.is_double(now, &message("a/1"), false));
        assert_eq!(met(&guests), []);
        drop(meant);
        let first = guests.host("b", own("filter = \"a/#\""), true);
        let second = guests.host("b", own("filter = \"a/#\""), true);
        assert!(guest.is_counted(now));
        for topic in ["b", "a/1", "a/2"] {
            assert!(!guest.is_double(now, &message(topic), false));
        }
        assert_eq!(met(&guests), [("x".to_owned(), "publishes to \"a/1\"".to_owned())]);
        assert!(!guest.is_counted(now));
        drop(first);
        assert_eq!(met(&guests).len(), 1, "the bridge has another link");
        drop(second);
        let _changed = guests.host("b", own("filter = \"c/#\""), true);
        assert_eq!(met(&guests), []);
        assert!(guest.is_counted(now));
    }

    #[test]
    fn a_link_with_other_rules_counts_while_one_with_those_from_before_is_there() {
        let guests = Guests::new();
        let guest = bridge_at(&guests, Time::default(), "x", Level::V311_BRIDGE);
        guest.asks(&filter("b/#"), true);
        let before = guests.host("b", own("filter = \"a/#\""), true);
        assert!(!guest.is_double(Time::default(), &message("a/1"), false));
        assert_eq!(met(&guests), [("x".to_owned(), "publishes to \"a/1\"".to_owned())]);
        let _now = guests.host("b", own("filter = \"b/#\""), true);
        drop(before);
        assert_eq!(met(&guests), [("x".to_owned(), "is subscribed to \"b/#\"".to_owned())]);
    }

    #[test]
    fn the_state_of_its_own_link_is_no_message_that_a_guest_carries() {
        let guests = Guests::new();
        let _own = guests.host("b", own("filter = \"$SYS/#\"\nremote_prefix = \"r/\""), true);
        let guest = bridge_at(&guests, Time::default(), "x", Level::V311_BRIDGE);
        assert!(!guest.is_double(Time::default(), &message(&state_topic("x")), false));
        assert_eq!(met(&guests), []);
        assert!(!guest.is_double(Time::default(), &message(&state_topic("y")), false));
        assert_eq!(met(&guests).len(), 1);
    }

    #[test]
    fn a_guest_that_publishes_nothing_that_is_carried_is_looked_at_now_and_then() {
        let guests = Guests::new();
        let mut now = Time::from_millis(1_000);
        let _own = guests.host("b", own("filter = \"a/#\""), true);
        let guest = bridge_at(&guests, Time::default(), "x", Level::V311_BRIDGE);
        let looked_at = |now, topic| {
            (0..2 * GUEST_MESSAGES)
                .take_while(|_| {
                    let looks = guest.is_counted(now);
                    assert!(!looks || !guest.is_double(now, &message(topic), false));
                    looks
                })
                .count()
        };
        assert_eq!(looked_at(now, "b"), GUEST_MESSAGES as usize);
        for _ in 0..3 {
            now = now.after(GUEST_PAUSE);
            assert_eq!(looked_at(now, "b"), GUEST_SAMPLE as usize);
        }
        let _another = bridge_at(&guests, Time::default(), "y", Level::V311_BRIDGE);
        assert_eq!(looked_at(now, "b"), 0, "whoever else comes");
        let second = guests.host("c", own("filter = \"c/#\""), true);
        assert_eq!(looked_at(now, "b"), GUEST_MESSAGES as usize, "for another bridge");
        drop(second);
        now = now.after(GUEST_PAUSE);
        assert_eq!(looked_at(now, "a/1"), 1);
        assert_eq!(met(&guests), [("x".to_owned(), "publishes to \"a/1\"".to_owned())]);
    }

    #[test]
    fn what_carries_hops_both_ways_is_not_met() {
        let ways = ways::Ways::new(crate::clock::Clock::start(), 1);
        let guests = Guests::new();
        let now = Time::default();
        let own_link = guests.host("b", own("filter = \"a/#\""), true);
        let admission = admission("x", Level::V5, Some("there"), None);
        let (way, _) = ways.guest(admission.node.as_ref().unwrap(), "x").unwrap();
        let guest = guests.welcome(now, &admission, Some(way)).unwrap();
        guest.asks(&filter("a/#"), true);
        assert_eq!(guests.met_by("b", true), []);
        assert_eq!(met(&guests).len(), 1, "our own link speaks 3.x");
        assert!(!guest.is_counted(now));
        drop(own_link);
        let _old = guests.host("b", own("filter = \"a/#\""), false);
        assert!(guest.is_counted(now), "our bridge never speaks 5.0");
    }

    #[test]
    fn no_more_filters_are_kept_than_there_is_room_for() {
        let guests = Guests::new();
        let _own = guests.host("b", own("filter = \"a/#\""), true);
        let guest = bridge_at(&guests, Time::default(), "x", Level::V311_BRIDGE);
        (1..GUEST_FILTERS).for_each(|number| guest.asks(&filter(&format!("b/{number}")), true));
        guest.asks(&filter("a/last"), true);
        assert_eq!(met(&guests).len(), 1);
        guest.asks(&filter("a/last"), false);
        guest.asks(&filter("b/last"), true);
        guest.asks(&filter("a/beyond"), true);
        assert_eq!(met(&guests), []);
    }
}
