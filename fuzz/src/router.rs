//! The tries against a list of filters and a list of topics, each asked one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{FilterRef, Message, QoS, SubscribeOptions, Time, TopicName};
use viaduct_router::{Matches, Retained, Subscription, Subscriptions};

use crate::input::Input;

const LEVELS: [&str; 8] = ["a", "b", "", "$x", "c", "aa", "\u{10FFFF}", "!"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const MOST_STEPS: usize = 500;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut trie = Subscriptions::new();
    let mut held: BTreeMap<(String, u8), (QoS, bool)> = BTreeMap::new();
    let mut retained = Retained::default();
    let mut kept: BTreeMap<String, u8> = BTreeMap::new();
    for step in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(5) {
            0 => {
                let (filter, key) = (filter(&mut input), input.byte() % 8);
                let Ok(parsed) = FilterRef::new(&filter) else { continue };
                let options = SubscribeOptions {
                    qos: QOS[input.below(3)],
                    no_local: input.flag() && parsed.share().is_none(),
                    ..SubscribeOptions::default()
                };
                let is_new = trie.subscribe(parsed, key, Subscription { options, id: None, checked: false });
                assert_eq!(is_new, held.insert((filter, key), (options.qos, options.no_local)).is_none());
            }
            1 => {
                let (filter, key) = (filter(&mut input), input.byte() % 8);
                let Ok(parsed) = FilterRef::new(&filter) else { continue };
                assert_eq!(trie.unsubscribe(parsed, key), held.remove(&(filter, key)).is_some());
            }
            2 => {
                let Ok(topic) = TopicName::new(&topic(&mut input)) else { continue };
                matches_as_the_list(&trie, &held, &topic);
            }
            3 => {
                let Ok(topic) = TopicName::new(&topic(&mut input)) else { continue };
                if input.flag() {
                    kept.insert(topic.as_str().to_owned(), step as u8);
                    retained.set(message(topic, step as u8));
                } else {
                    let gone = retained.clear(topic.by_ref());
                    assert_eq!(gone.is_some(), kept.remove(topic.as_str()).is_some());
                }
            }
            _ => {
                let filter = filter(&mut input);
                if let Ok(filter) = FilterRef::new(&filter) {
                    finds_as_the_list(&retained, &kept, filter);
                }
            }
        }
        assert_eq!(trie.len(), held.len());
        assert_eq!(retained.len(), kept.len());
    }
    for (filter, key) in held.into_keys() {
        assert!(trie.unsubscribe(FilterRef::new(&filter).unwrap(), key));
    }
    assert!(trie.is_empty(), "something is left when everybody has gone");
}

fn matches_as_the_list(trie: &Subscriptions<u8>, held: &BTreeMap<(String, u8), (QoS, bool)>, topic: &TopicName) {
    let mut matches = Matches::default();
    trie.matches(topic.by_ref(), &mut matches);
    let found = matches.freeze();
    let mut plain: BTreeMap<u8, QoS> = BTreeMap::new();
    let mut own: BTreeMap<u8, QoS> = BTreeMap::new();
    let mut shared: BTreeSet<(&str, u8)> = BTreeSet::new();
    for ((filter, key), (qos, no_local)) in held {
        let parsed = FilterRef::new(filter).unwrap();
        if let Some(share) = parsed.share() {
            if share.filter.matches(topic.by_ref()) {
                shared.insert((filter, *key));
            }
        } else if parsed.matches(topic.by_ref()) {
            let best = plain.entry(*key).or_insert(*qos);
            *best = (*best).max(*qos);
            if !no_local {
                let best = own.entry(*key).or_insert(*qos);
                *best = (*best).max(*qos);
            }
        }
    }
    for (is_self, expected) in [(false, plain), (true, own)] {
        let got: BTreeMap<u8, QoS> = found
            .routes()
            .iter()
            .filter_map(|route| route.for_publisher(is_self).map(|merged| (route.key, merged.qos)))
            .collect();
        assert_eq!(got, expected, "{topic}");
    }
    let members: BTreeSet<(&str, u8)> = found
        .shared()
        .iter()
        .flat_map(|group| group.members().iter().map(|member| (&**group.filter(), member.key)))
        .collect();
    assert_eq!(members, shared, "{topic}");
}

fn finds_as_the_list(retained: &Retained, kept: &BTreeMap<String, u8>, filter: FilterRef<'_>) {
    let mut got = BTreeMap::new();
    retained.matches(filter, &mut |message: &Arc<Message>| {
        let before = got.insert(message.topic.as_str().to_owned(), message.payload[0]);
        assert!(before.is_none(), "found twice");
    });
    let expected: BTreeMap<String, u8> = kept
        .iter()
        .filter(|(topic, _)| filter.matches(TopicName::new(topic).unwrap().by_ref()))
        .map(|(topic, payload)| (topic.clone(), *payload))
        .collect();
    assert_eq!(got, expected, "{filter}");
}

fn message(topic: TopicName, payload: u8) -> Arc<Message> {
    Arc::new(Message {
        topic,
        payload: Bytes::copy_from_slice(&[payload]),
        qos: QoS::AtLeastOnce,
        retain: true,
        received: Time::from_millis(0),
        expires: None,
        properties: None,
    })
}

fn topic(input: &mut Input<'_>) -> String {
    let levels: Vec<&str> = (0..=input.below(5)).map(|_| LEVELS[input.below(LEVELS.len())]).collect();
    levels.join("/")
}

fn filter(input: &mut Input<'_>) -> String {
    let mut levels: Vec<&str> = (0..input.below(5))
        .map(|_| if input.below(4) == 0 { "+" } else { LEVELS[input.below(LEVELS.len())] })
        .collect();
    if input.flag() || levels.is_empty() {
        levels.push("#");
    }
    let plain = levels.join("/");
    match input.below(4) {
        0 => format!("$share/{}/{plain}", ["g", "h"][input.below(2)]),
        _ => plain,
    }
}
