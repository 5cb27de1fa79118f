//! The tries against a list of filters and a list of topics, each asked one after the other by a matcher of our own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{FilterRef, Message, QoS, Slice, SubscribeOptions, Time, TopicName, VarInt};
use viaduct_router::{Matches, Retained, RouteSet, Subscription, Subscriptions};

use crate::input::Input;

const LEVELS: [&str; 8] = ["a", "b", "", "$x", "c", "aa", "\u{10FFFF}", "!"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const MOST_STEPS: usize = 500;
/// A walk that takes more turns than this does not end.
const MOST_TURNS: usize = 100_000;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::default();
    for step in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(7) {
            0 => world.subscribe(&mut input),
            1 => world.unsubscribe(&mut input),
            2 => world.matches(&mut input),
            3 => world.retain(&mut input, step as u8),
            4 => world.find(&mut input),
            5 => world.set_online(&mut input),
            _ => world.expire(&mut input),
        }
        assert_eq!(world.trie.len(), world.held.len());
        assert_eq!(world.retained.len(), world.kept.len());
        assert_eq!(world.retained.bytes(), world.kept.values().map(|message| message.size()).sum::<usize>());
    }
    world.everybody_goes();
}

/// How the list holds a filter.
struct Held {
    subscription: Subscription,
    /// Members of share groups only.
    online: bool,
}

/// The tries, and beside them what they should hold.
#[derive(Default)]
struct World {
    trie: Subscriptions<u8>,
    /// By filter and key.
    held: BTreeMap<(String, u8), Held>,
    retained: Retained,
    kept: BTreeMap<String, Arc<Message>>,
}

impl World {
    fn subscribe(&mut self, input: &mut Input<'_>) {
        let (filter, key) = (filter(input), input.byte() % 8);
        let parsed = FilterRef::new(&filter).expect("it is put together by the rules");
        let options = SubscribeOptions {
            qos: QOS[input.below(3)],
            no_local: input.flag() && parsed.share().is_none(),
            retain_as_published: input.flag(),
            ..SubscribeOptions::default()
        };
        let id = input.option(|input| VarInt::new(1 + u32::from(input.byte() % 4))).flatten();
        // Two of the eight share the topics, like the links of a bridge.
        let slice = key.checked_sub(6).and_then(|index| Slice::new(index, 2)).unwrap_or_default();
        let subscription = Subscription { options, id, checked: input.flag(), durable: input.flag(), slice };
        let is_new = self.trie.subscribe(parsed, key, subscription);
        // Who subscribes again stays connected, or not, as it was.
        let online = self.held.get(&(filter.clone(), key)).is_none_or(|held| held.online);
        assert_eq!(is_new, self.held.insert((filter, key), Held { subscription, online }).is_none());
    }

    fn unsubscribe(&mut self, input: &mut Input<'_>) {
        let (filter, key) = (filter(input), input.byte() % 8);
        let parsed = FilterRef::new(&filter).expect("it is put together by the rules");
        assert_eq!(self.trie.unsubscribe(parsed, key), self.held.remove(&(filter, key)).is_some());
    }

    fn set_online(&mut self, input: &mut Input<'_>) {
        let (filter, key, online) = (filter(input), input.byte() % 8, input.flag());
        let parsed = FilterRef::new(&filter).expect("it is put together by the rules");
        let member = self.held.get_mut(&(filter.clone(), key)).filter(|_| parsed.share().is_some());
        assert_eq!(self.trie.set_online(parsed, key, online), member.is_some());
        if let Some(member) = member {
            member.online = online;
        }
    }

    fn matches(&self, input: &mut Input<'_>) {
        let topic = topic(input);
        let Ok(name) = TopicName::new(&topic) else { return };
        let mut matches = Matches::default();
        self.trie.matches(name.by_ref(), &mut matches);
        matches.keep_slices(name.by_ref());
        let found = matches.freeze();
        for is_self in [false, true] {
            self.routes_are_those_of_the_list(&found, &topic, is_self);
        }
        let mut groups: BTreeMap<&str, BTreeMap<u8, bool>> = BTreeMap::new();
        for ((filter, key), held) in &self.held {
            if let Some(plain) = shared(filter)
                && fits(plain, &topic)
            {
                groups.entry(filter).or_default().insert(*key, held.online);
            }
        }
        assert_eq!(found.shared().len(), groups.len(), "{topic}");
        for group in found.shared() {
            let members: BTreeMap<u8, bool> =
                group.members().iter().map(|member| (member.key, member.online)).collect();
            let expected = groups.get(&**group.filter()).expect("a group that the list knows");
            assert_eq!((members.len(), &members), (group.members().len(), expected), "{topic}");
            // Everybody who is there has a turn, and nobody else unless nobody is there.
            let turns: BTreeSet<u8> = (0..members.len()).map(|turn| group.pick(turn).unwrap().key).collect();
            let is_anybody_there = members.values().any(|online| *online);
            let on_turn = members.iter().filter(|(_, online)| **online || !is_anybody_there);
            assert_eq!(turns, on_turn.map(|(key, _)| *key).collect(), "{topic}");
        }
    }

    /// Everybody once, in order, with the highest QoS and every identifier of what matches.
    fn routes_are_those_of_the_list(&self, found: &RouteSet<u8>, topic: &str, is_self: bool) {
        let mut expected: BTreeMap<u8, (QoS, bool, bool, bool, Vec<u32>)> = BTreeMap::new();
        for ((filter, key), held) in &self.held {
            let Subscription { options, id, checked, durable, slice } = held.subscription;
            let is_theirs = fits(filter, topic) && slice.has(topic);
            if shared(filter).is_some() || !is_theirs || (is_self && options.no_local) {
                continue;
            }
            let route = expected.entry(*key).or_insert((options.qos, false, true, false, Vec::new()));
            route.0 = route.0.max(options.qos);
            route.1 |= options.retain_as_published;
            route.2 &= checked;
            route.3 |= durable;
            route.4.extend(id.map(VarInt::get));
            route.4.sort_unstable();
        }
        let got: Vec<_> = found
            .routes()
            .iter()
            .filter_map(|route| {
                let merged = route.for_publisher(is_self)?;
                let ids = merged.ids.iter().map(|id| id.get()).collect();
                Some((route.key, (merged.qos, merged.retain_as_published, merged.checked, merged.durable, ids)))
            })
            .collect();
        assert_eq!(got, expected.into_iter().collect::<Vec<_>>(), "{topic}");
    }

    fn retain(&mut self, input: &mut Input<'_>, payload: u8) {
        let Ok(topic) = TopicName::new(&topic(input)) else { return };
        let name = topic.as_str().to_owned();
        assert_eq!(self.retained.get(topic.by_ref()), self.kept.get(&name));
        if input.flag() {
            let expires = input.option(|input| Time::from_millis(u64::from(input.byte())));
            let message = message(topic, payload, expires);
            assert_eq!(self.retained.set(Arc::clone(&message)), self.kept.insert(name, message));
        } else {
            assert_eq!(self.retained.clear(topic.by_ref()), self.kept.remove(&name));
        }
    }

    fn expire(&mut self, input: &mut Input<'_>) {
        let (now, limit) = (Time::from_millis(u64::from(input.byte())), input.below(6));
        let is_due = |message: &&Arc<Message>| message.expires.is_some_and(|expires| expires <= now);
        let mut due: Vec<_> = self.kept.values().filter(is_due).map(|message| message.expires).collect();
        due.sort_unstable();
        due.truncate(limit);
        let gone = self.retained.remove_expired(now, limit);
        assert_eq!(gone.iter().map(|message| message.expires).collect::<Vec<_>>(), due, "the longest expired first");
        for message in gone {
            assert_eq!(self.kept.remove(message.topic.as_str()), Some(message));
        }
    }

    /// What a filter finds, at once and piece by piece.
    fn find(&self, input: &mut Input<'_>) {
        let (text, limit, visits) = (filter(input), 1 + input.below(4), 1 + input.below(4));
        let filter = FilterRef::new(&text).expect("it is put together by the rules");
        let filter = filter.share().map_or(filter, |share| share.filter);
        let mut at_once: Vec<Arc<Message>> = Vec::new();
        self.retained.matches(filter, &mut |message| at_once.push(Arc::clone(message)));

        let mut sorted = at_once.clone();
        sorted.sort_by(|one, other| one.topic.as_str().cmp(other.topic.as_str()));
        let expected: Vec<_> = self.kept.iter().filter(|(topic, _)| fits(filter.as_str(), topic)).collect();
        assert_eq!(sorted.iter().collect::<Vec<_>>(), expected.iter().map(|(_, m)| *m).collect::<Vec<_>>(), "{filter}");

        let mut pieces: Vec<Arc<Message>> = Vec::new();
        loop {
            let (before, after) = (pieces.len(), pieces.last().map(|message| message.topic.clone()));
            self.retained.matches_from(filter, after.as_ref(), limit, &mut pieces);
            assert!(pieces.len() <= before + limit, "{filter}");
            if pieces.len() < before + limit {
                break;
            }
        }
        assert_eq!(pieces, at_once, "{filter} in pieces");

        let (mut bounded, mut position) = (Vec::new(), None);
        for turn in 0.. {
            assert!(turn < MOST_TURNS, "{filter}: the walk does not end");
            let before = bounded.len();
            position = self.retained.matches_within(filter, position.as_ref(), limit, visits, &mut bounded);
            assert!(bounded.len() <= before + limit.min(visits), "{filter}");
            if position.is_none() {
                break;
            }
        }
        assert_eq!(bounded, at_once, "{filter} with bounded work");
    }

    /// Nothing is left when everybody has gone, not even an empty node.
    fn everybody_goes(mut self) {
        for (filter, key) in self.held.into_keys() {
            assert!(self.trie.unsubscribe(FilterRef::new(&filter).unwrap(), key));
        }
        let nobody = Subscriptions::<u8>::new();
        assert_eq!((self.trie.len(), self.trie.nodes(), self.trie.memory()), (0, nobody.nodes(), nobody.memory()));
        for (topic, message) in self.kept {
            assert_eq!(self.retained.clear(TopicName::new(&topic).unwrap().by_ref()), Some(message));
        }
        let nothing = Retained::default();
        assert_eq!((self.retained.len(), self.retained.bytes(), self.retained.nodes()), (0, 0, nothing.nodes()));
    }
}

/// The filter of a share group without its first two levels.
fn shared(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, plain)| plain)
}

/// Section 4.7 word by word, and nothing that the broker itself uses.
fn fits(filter: &str, topic: &str) -> bool {
    fn levels_fit(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels_fit(filter, topic),
            ([wanted, filter @ ..], [level, topic @ ..]) => wanted == level && levels_fit(filter, topic),
            ([], [_, ..]) | ([_, ..], []) => false,
        }
    }
    let is_hidden = topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'));
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    !is_hidden && levels_fit(&filter, &topic)
}

fn message(topic: TopicName, payload: u8, expires: Option<Time>) -> Arc<Message> {
    Arc::new(Message {
        topic,
        payload: Bytes::copy_from_slice(&[payload]),
        qos: QoS::AtLeastOnce,
        retain: true,
        received: Time::from_millis(0),
        expires,
        properties: None,
    })
}

fn topic(input: &mut Input<'_>) -> String {
    let levels: Vec<&str> = (0..=input.below(5)).map(|_| LEVELS[input.below(LEVELS.len())]).collect();
    levels.join("/")
}

/// Always one that is valid.
fn filter(input: &mut Input<'_>) -> String {
    let mut levels: Vec<&str> = (0..input.below(5))
        .map(|_| if input.below(4) == 0 { "+" } else { LEVELS[input.below(LEVELS.len())] })
        .collect();
    if input.flag() || levels.join("/").is_empty() {
        levels.push("#");
    }
    let plain = levels.join("/");
    match input.below(4) {
        0 => format!("$share/{}/{plain}", ["g", "h"][input.below(2)]),
        _ => plain,
    }
}
