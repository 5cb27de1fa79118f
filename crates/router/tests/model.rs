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
    Subscribe(TopicFilter, u8, u8, bool),
    Unsubscribe(TopicFilter, u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (filter(), 0..4_u8, 0..3_u8, any::<bool>()).prop_map(|(f, k, q, n)| Change::Subscribe(f, k, q, n)),
        1 => (filter(), 0..4_u8).prop_map(|(f, k)| Change::Unsubscribe(f, k)),
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
        for change in changes {
            match change {
                Change::Subscribe(filter, key, qos, no_local) => {
                    let options =
                        SubscribeOptions { qos: QoS::from_bits(qos).unwrap(), no_local, ..SubscribeOptions::default() };
                    let subscription = Subscription { options, ..Subscription::default() };
                    let is_new = model.insert((filter.as_str().to_owned(), key), (qos, no_local)).is_none();
                    prop_assert_eq!(trie.subscribe(filter.by_ref(), key, subscription), is_new);
                }
                Change::Unsubscribe(filter, key) => {
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
        }
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
        let set: BTreeSet<TopicName> = names.iter().cloned().collect();
        prop_assert_eq!(names.len(), set.len(), "nothing comes twice");
        let wanted: BTreeSet<TopicName> = model.into_iter().filter(|topic| filter.matches(topic.by_ref())).collect();
        prop_assert_eq!(set, wanted);
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
