//! The tries against a naive model: a list of filters, each asked whether it matches.

#![allow(clippy::unwrap_used, reason = "a helper of tests in a file of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use viaduct_codec::{FilterRef, Message, QoS, SubscribeOptions, Time, TopicFilter, TopicName};
use viaduct_router::{Matches, Retained, Subscription, Subscriptions};

fn level() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("$x"), Just("long level")].prop_map(str::to_owned)
}

fn topic() -> impl Strategy<Value = TopicName> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter_map("topics are not empty", |text| TopicName::new(&text).ok())
}

fn filter() -> impl Strategy<Value = TopicFilter> {
    let level = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
    (prop::collection::vec(level, 0..4), any::<bool>(), prop::option::of("[gh]"))
        .prop_map(|(mut levels, multi, share)| {
            if multi {
                levels.push("#".to_owned());
            }
            let plain = levels.join("/");
            share.map_or(plain.clone(), |name| format!("$share/{name}/{plain}"))
        })
        .prop_filter_map("filters are not empty", |text| TopicFilter::new(&text).ok())
}

#[derive(Clone, Debug)]
enum Change {
    /// Filter, key, QoS, No Local.
    Subscribe(TopicFilter, u8, u8, bool),
    Online(TopicFilter, u8, bool),
    Unsubscribe(TopicFilter, u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (filter(), 0..4_u8, 0..3_u8, any::<bool>()).prop_map(|(f, k, q, n)| Change::Subscribe(f, k, q, n)),
        1 => (filter(), 0..4_u8).prop_map(|(f, k)| Change::Unsubscribe(f, k)),
        1 => (filter(), 0..4_u8, any::<bool>()).prop_map(|(f, k, o)| Change::Online(f, k, o)),
    ]
}

type Model = BTreeMap<(String, u8), (u8, bool)>;

fn plain(filter: &str) -> FilterRef<'_> {
    let filter = FilterRef::new(filter).unwrap();
    filter.share().map_or(filter, |share| share.filter)
}

/// Key, whether it published itself -> highest QoS.
fn expected(model: &Model, topic: &TopicName, is_self: bool) -> BTreeMap<u8, u8> {
    let mut routes = BTreeMap::new();
    for ((filter, key), (qos, no_local)) in model {
        let shared = filter.starts_with("$share/");
        if !shared && plain(filter).matches(topic.by_ref()) && !(is_self && *no_local) {
            let best = routes.entry(*key).or_insert(0);
            *best = (*best).max(*qos);
        }
    }
    routes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_trie_finds_what_the_model_finds(
        changes in prop::collection::vec(change(), 0..60),
        topics in prop::collection::vec(topic(), 1..8),
    ) {
        let mut trie = Subscriptions::new();
        let mut model = Model::new();
        let mut offline: BTreeSet<(String, u8)> = BTreeSet::new();
        for change in changes {
            match change {
                Change::Subscribe(filter, key, qos, no_local) => {
                    let options =
                        SubscribeOptions { qos: QoS::from_bits(qos).unwrap(), no_local, ..SubscribeOptions::default() };
                    let subscription = Subscription { options, ..Subscription::default() };
                    let is_new = model.insert((filter.as_str().to_owned(), key), (qos, no_local)).is_none();
                    prop_assert_eq!(trie.subscribe(filter.by_ref(), key, subscription), is_new);
                }
                Change::Online(filter, key, online) => {
                    let name = filter.as_str().to_owned();
                    let member = name.starts_with("$share/") && model.contains_key(&(name.clone(), key));
                    prop_assert_eq!(trie.set_online(filter.by_ref(), key, online), member);
                    if member && !online {
                        offline.insert((name, key));
                    } else {
                        offline.remove(&(name, key));
                    }
                }
                Change::Unsubscribe(filter, key) => {
                    offline.remove(&(filter.as_str().to_owned(), key));
                    let was = model.remove(&(filter.as_str().to_owned(), key)).is_some();
                    prop_assert_eq!(trie.unsubscribe(filter.by_ref(), key), was);
                }
            }
            prop_assert_eq!(trie.len(), model.len());
        }
        let mut scratch = Matches::default();
        for topic in topics {
            trie.matches(topic.by_ref(), &mut scratch);
            let set = scratch.freeze();
            for is_self in [false, true] {
                let got: BTreeMap<u8, u8> = set
                    .routes()
                    .iter()
                    .filter_map(|route| Some((route.key, route.for_publisher(is_self)?.qos.bits())))
                    .collect();
                prop_assert_eq!(got, expected(&model, &topic, is_self), "{}", topic);
            }
            let groups: BTreeSet<(String, Vec<u8>)> = set
                .shared()
                .iter()
                .map(|group| {
                    let mut keys: Vec<u8> = group.members().iter().map(|member| member.key).collect();
                    keys.sort_unstable();
                    (group.filter().to_string(), keys)
                })
                .collect();
            let mut wanted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for (filter, key) in model.keys().filter(|(filter, _)| filter.starts_with("$share/")) {
                if plain(filter).matches(topic.by_ref()) {
                    wanted.entry(filter.clone()).or_default().push(*key);
                }
            }
            prop_assert_eq!(groups, wanted.into_iter().collect::<BTreeSet<_>>());
            for group in set.shared() {
                let own = trie.shared_group(FilterRef::new(group.filter()).unwrap()).unwrap();
                prop_assert_eq!(own.members(), group.members());
                let is_offline = |key: u8| offline.contains(&(group.filter().to_string(), key));
                prop_assert!(group.members().iter().all(|member| member.online != is_offline(member.key)));
                let count = group.members().len();
                let picked: BTreeSet<u8> = (0..count).map(|n| group.pick(n).unwrap().key).collect();
                let keys = || group.members().iter().map(|member| member.key);
                let online: BTreeSet<u8> = keys().filter(|key| !is_offline(*key)).collect();
                prop_assert_eq!(picked, if online.is_empty() { keys().collect() } else { online });
            }
        }
        for (filter, key) in model.into_keys() {
            prop_assert!(trie.unsubscribe(FilterRef::new(&filter).unwrap(), key));
        }
        prop_assert_eq!((trie.len(), trie.nodes(), trie.memory()), (0, 1, Subscriptions::<u8>::new().memory()));
    }

    #[test]
    fn retained_messages_are_found_in_pieces_as_in_one(
        topics in prop::collection::btree_set(topic(), 0..40),
        gone in prop::collection::vec(topic(), 0..10),
        filter in filter(),
        piece in 1..5_usize,
    ) {
        let mut retained = Retained::default();
        let mut model: BTreeSet<TopicName> = BTreeSet::new();
        for topic in topics {
            retained.set(message(&topic));
            model.insert(topic);
        }
        for topic in gone {
            prop_assert_eq!(retained.clear(topic.by_ref()).is_some(), model.remove(&topic));
        }
        prop_assert_eq!(retained.len(), model.len());
        let bytes: usize = model.iter().map(|topic| message(topic).size()).sum();
        prop_assert_eq!(retained.bytes(), bytes);
        let filter = plain(filter.as_str());
        let mut found = Vec::new();
        loop {
            let before = found.len();
            let after = found.last().map(|message: &Arc<Message>| message.topic.clone());
            retained.matches_from(filter, after.as_ref(), piece, &mut found);
            if found.len() - before < piece {
                break;
            }
        }
        let names: Vec<TopicName> = found.iter().map(|message| message.topic.clone()).collect();
        let mut at_once = Vec::new();
        retained.matches(filter, &mut |message| at_once.push(message.topic.clone()));
        prop_assert_eq!(&at_once, &names);
        let (mut found, mut position) = (Vec::new(), None);
        for turn in 0.. {
            position = retained.matches_within(filter, position.as_ref(), 2, piece, &mut found);
            prop_assert!(turn < 1_000, "a walk ends");
            if position.is_none() {
                break;
            }
        }
        prop_assert_eq!(found.iter().map(|message| message.topic.clone()).collect::<Vec<_>>(), at_once);
        let set: BTreeSet<TopicName> = names.iter().cloned().collect();
        prop_assert_eq!(names.len(), set.len(), "nothing comes twice");
        let wanted: BTreeSet<TopicName> = model.iter().filter(|topic| filter.matches(topic.by_ref())).cloned().collect();
        prop_assert_eq!(&set, &wanted);
        for topic in model {
            prop_assert!(retained.clear(topic.by_ref()).is_some());
        }
        prop_assert_eq!((retained.len(), retained.bytes(), retained.nodes()), (0, 0, 1));
    }
}

fn message(topic: &TopicName) -> Arc<Message> {
    Arc::new(Message {
        topic: topic.clone(),
        payload: bytes::Bytes::from_static(b"x"),
        qos: QoS::AtMostOnce,
        retain: true,
        received: Time::default(),
        expires: None,
        properties: None,
    })
}

#[test]
fn expired_messages_are_removed_and_given_back() {
    let mut retained = Retained::default();
    for n in 0..10_u64 {
        let mut one = Message::clone(&message(&TopicName::new(&format!("t/{n}")).unwrap()));
        one.expires = Some(Time::from_millis(n * 1_000));
        retained.set(Arc::new(one));
    }
    assert_eq!(retained.remove_expired(Time::from_millis(4_000), 3).len(), 3);
    assert_eq!(retained.remove_expired(Time::from_millis(4_000), 100).len(), 2);
    assert_eq!(retained.len(), 5);
}

/// Filter, topic, whether it matches: the examples of section 4.7 and what they imply.
const WILDCARDS: &[(&str, &str, bool)] = &[
    ("sport/tennis/player1/#", "sport/tennis/player1", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
    ("sport/#", "sport", true),
    ("sport/#", "sports", false),
    ("#", "sport", true),
    ("#", "/", true),
    ("#", "$SYS", false),
    ("#", "$SYS/a", false),
    ("sport/tennis/+", "sport/tennis/player1", true),
    ("sport/tennis/+", "sport/tennis/player1/ranking", false),
    ("sport/+", "sport", false),
    ("sport/+", "sport/", true),
    ("+/+", "/finance", true),
    ("/+", "/finance", true),
    ("+", "/finance", false),
    ("+", "finance", true),
    ("/finance", "finance", false),
    ("a//b", "a//b", true),
    ("a//b", "a/b", false),
    ("a/+/b", "a//b", true),
    ("+/+/+", "//", true),
    ("+/monitor/Clients", "$SYS/monitor/Clients", false),
    ("+/#", "$SYS/monitor", false),
    ("$SYS/#", "$SYS", true),
    ("$SYS/#", "$SYS/monitor/Clients", true),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
    ("a/#", "a/$b", true),
    ("a/+", "a/$b", true),
    ("ACCOUNTS", "Accounts", false),
    ("+/b/#", "a/b", true),
    ("+/b/#", "a/c", false),
];

#[test]
fn wildcards_match_what_the_standard_says_in_every_tree() {
    for &(filter, topic, expected) in WILDCARDS {
        let (plain, topic) = (FilterRef::new(filter).unwrap(), TopicName::new(topic).unwrap());
        let share = format!("$share/g/{filter}");
        let mut trie = Subscriptions::new();
        trie.subscribe(plain, 1_u8, Subscription::default());
        trie.subscribe(FilterRef::new(&share).unwrap(), 1, Subscription::default());
        let mut scratch = Matches::default();
        trie.matches(topic.by_ref(), &mut scratch);
        let set = scratch.freeze();
        let found = (set.routes().len(), set.shared().len());
        assert_eq!(found, if expected { (1, 1) } else { (0, 0) }, "{filter} and {topic}");
        let mut retained = Retained::default();
        retained.set(message(&topic));
        let mut count = 0;
        retained.matches(plain, &mut |_| count += 1);
        assert_eq!(count, usize::from(expected), "{filter} and retained {topic}");
    }
}
