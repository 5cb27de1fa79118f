//! Who hears a topic among a million subscriptions: 90 % literal, 9 % with `+`, 1 % with `#`, five levels each.
//!
//! Uncached is a match over the whole trie, for topics that come in no order, but whose own text is at hand as in a packet
//! that has just been read; cached is what a worker remembers of it. A hash map that knows the literal filters alone is the
//! floor of the former.
//! The adversarial match meets `+` on each of four levels, beside literal filters, so that every level forks. The
//! worst that a fork can do is bounded by the number of filters that differ in where they have their `+`: all sixteen
//! are there.

use std::collections::HashMap;
use std::hint::black_box;

use viaduct_benches::alone;
use viaduct_codec::{FilterRef, TopicRef};
use viaduct_engine::{RouteCache, Routes, SessionKey, WorkerId};
use viaduct_router::{Matches, Subscription, Subscriptions};

use crate::report::Contestant;
use crate::scenario::{Column, Sample};

/// Names of what is timed.
pub(crate) const UNCACHED: &str = "Viaduct, uncached";
pub(crate) const CACHED: &str = "Viaduct, cached";
const FORKS: &str = "Viaduct, every level forks";
const FLOOR: &str = "hash map, literal filters alone";

/// Topics that are asked for; an odd step puts them in no order.
const ASKED: usize = 1 << 16;
const STEP: usize = 40_503;
/// Topics of the cached look-up: what one worker carries at a time.
const LIVE: usize = 1_000;
/// Look-ups of one sample.
const LOOK_UPS: u32 = 300_000;

/// All of them in turn, among so many subscriptions.
pub(crate) fn in_turn(subscriptions: u32, rounds: usize, is_wanted: impl Fn(&str) -> bool) -> Vec<Contestant> {
    let texts: Vec<String> = (0..ASKED).map(|n| topic((n * STEP % ASKED) as u32 * 15)).collect();
    let text = texts.concat();
    let topics = one_behind_the_other(&text, &texts);
    let makers: [(&str, Maker); 4] = [(FLOOR, floor), (UNCACHED, uncached), (CACHED, cached), (FORKS, forking)];
    let wanted = makers.into_iter().filter(|(name, _)| is_wanted(name));
    let mut all: Vec<_> =
        wanted.map(|(name, make)| (Contestant::new(name.to_owned()), make(subscriptions, &topics))).collect();
    for _ in 0..rounds {
        for (contestant, look_up) in &mut all {
            let mut heard = 0;
            let nanos = alone(1, LOOK_UPS, || heard += (look_up.heard)());
            let mut further = vec![(Column::Heard, heard as f64 / f64::from(LOOK_UPS))];
            further.extend(look_up.bytes.map(|bytes| (Column::Each, bytes)));
            contestant.samples.push(Sample { further, ..Sample::new(nanos, 1e9 / nanos) });
        }
    }
    all.into_iter().map(|(contestant, _)| contestant).collect()
}

struct LookUp<'t> {
    /// How many hear the next topic.
    heard: Box<dyn FnMut() -> usize + 't>,
    /// What a subscription takes, if that is told.
    bytes: Option<f64>,
}

impl<'t> LookUp<'t> {
    fn new(heard: impl FnMut() -> usize + 't) -> Self {
        Self { heard: Box::new(heard), bytes: None }
    }
}

/// Subscribes so often; topics that are asked for.
type Maker = for<'t> fn(u32, &'t [TopicRef<'t>]) -> LookUp<'t>;

/// Topics in one text, as in what was read.
fn one_behind_the_other<'t>(text: &'t str, parts: &[String]) -> Vec<TopicRef<'t>> {
    let mut rest = text;
    let topics = parts.iter().map_while(|part| {
        let (first, behind) = rest.split_at_checked(part.len())?;
        rest = behind;
        TopicRef::new(first).ok()
    });
    topics.collect()
}

/// Each of the first `count` topics, again and again.
fn around<'t>(topics: &'t [TopicRef<'t>], count: usize) -> impl Iterator<Item = TopicRef<'t>> {
    topics.iter().take(count).copied().cycle()
}

/// A thousand sites of ten lines of a hundred sensors, each with one value.
fn topic(number: u32) -> String {
    format!("site/{}/line{}/sensor{}/value", number % 1_000, number / 1_000 % 10, number / 10_000 % 100)
}

fn filter(number: u32) -> String {
    let (site, line, sensor) = (number % 1_000, number / 1_000 % 10, number / 10_000 % 100);
    match number / 1_000 % 100 {
        0 => format!("site/{site}/line{line}/part{sensor}/#"),
        n @ 1..10 => match n % 3 {
            0 => format!("site/{site}/+/sensor{sensor}/value{n}"),
            1 => format!("site/{site}/line{line}/+/value{sensor}"),
            _ => format!("site/{site}/line{line}/sensor{sensor}/+"),
        },
        _ => topic(number),
    }
}

fn floor<'t>(subscriptions: u32, topics: &'t [TopicRef<'t>]) -> LookUp<'t> {
    let literal =
        (0..subscriptions).map(|number| (filter(number), key(number))).filter(|(text, _)| !text.contains(['+', '#']));
    let all: HashMap<String, SessionKey, foldhash::fast::RandomState> = literal.collect();
    let mut topics = around(topics, ASKED);
    LookUp::new(move || topics.next().and_then(|topic| black_box(all.get(topic.as_str()))).into_iter().len())
}

fn uncached<'t>(subscriptions: u32, topics: &'t [TopicRef<'t>]) -> LookUp<'t> {
    let mut all = Subscriptions::new();
    for number in 0..subscriptions {
        subscribe(&filter(number), |filter| {
            all.subscribe(filter, key(number), Subscription::default());
        });
    }
    let (mut matches, mut topics) = (Matches::default(), around(topics, ASKED));
    let bytes = all.memory() as f64 / all.len() as f64;
    let look_up = LookUp::new(move || {
        let Some(topic) = topics.next() else { return 0 };
        all.matches(topic, &mut matches);
        black_box(matches.freeze()).routes().len()
    });
    LookUp { bytes: Some(bytes), ..look_up }
}

fn cached<'t>(subscriptions: u32, topics: &'t [TopicRef<'t>]) -> LookUp<'t> {
    let routes = Routes::new();
    for number in 0..subscriptions {
        subscribe(&filter(number), |filter| {
            routes.subscribe(filter, key(number), Subscription::default());
        });
    }
    let (mut cache, mut topics) = (RouteCache::new(), around(topics, LIVE));
    LookUp::new(move || {
        let Some(topic) = topics.next() else { return 0 };
        let (_, set) = black_box(cache.find(&routes, topic));
        set.routes().len()
    })
}

fn forking<'t>(_: u32, _: &'t [TopicRef<'t>]) -> LookUp<'t> {
    const TOPIC: [&str; 4] = ["a", "b", "c", "d"];
    let mut all = Subscriptions::new();
    let masks = (0..16).map(|mask: u32| {
        let levels = TOPIC.iter().enumerate().map(|(place, level)| if mask >> place & 1 == 1 { "+" } else { level });
        levels.collect::<Vec<_>>().join("/")
    });
    let beside = (0..100_000).map(|number| format!("+/+/{}/{}", number % 300, number / 300));
    for (number, text) in masks.chain(beside).enumerate() {
        subscribe(&text, |filter| {
            all.subscribe(filter, number, Subscription::default());
        });
    }
    let (text, mut matches) = (TOPIC.join("/"), Matches::default());
    LookUp::new(move || {
        let Ok(topic) = TopicRef::new(&text) else { return 0 };
        all.matches(topic, &mut matches);
        black_box(matches.freeze()).routes().len()
    })
}

fn subscribe(text: &str, subscribe: impl FnOnce(FilterRef<'_>)) {
    if let Ok(filter) = FilterRef::new(text) {
        subscribe(filter);
    }
}

fn key(number: u32) -> SessionKey {
    SessionKey::new(WorkerId(0), number, 0)
}
