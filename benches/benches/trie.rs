//! Who hears a topic among a million subscriptions: 90 % literal, 9 % with `+`, 1 % with `#`, five levels each.
//!
//! Uncached is a match over the whole trie, for topics that come in no order, but whose own text is at hand as in a packet
//! that has just been read; cached is what a worker remembers of it.
//! The adversarial match meets `+` on each of four levels, beside literal filters, so that every level forks. The
//! worst that a fork can do is bounded by the number of filters that differ in where they have their `+`: all sixteen
//! are there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

use std::hint::black_box;

use viaduct_benches::alone;
use viaduct_codec::{FilterRef, TopicRef};
use viaduct_engine::{RouteCache, Routes, SessionKey, WorkerId};
use viaduct_router::{Matches, Subscription, Subscriptions};

const SUBSCRIPTIONS: u32 = 1_000_000;
/// Topics that are asked for; an odd step puts them in no order.
const ASKED: usize = 1 << 16;
const STEP: usize = 40_503;
/// Topics of the cached look-up: what one worker carries at a time.
const CACHED: usize = 1_000;
const ROUNDS: usize = 11;

fn main() {
    let texts: Vec<String> = (0..ASKED).map(|n| topic((n * STEP % ASKED) as u32 * 15)).collect();
    let text = texts.concat();
    let mut rest = text.as_str();
    let mut topics = Vec::new();
    for own in &texts {
        let (first, behind) = rest.split_at(own.len());
        topics.push(TopicRef::new(first).unwrap());
        rest = behind;
    }
    uncached(&topics);
    cached(&topics);
    adversarial();
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

fn uncached(topics: &[TopicRef<'_>]) {
    let mut all = Subscriptions::new();
    for number in 0..SUBSCRIPTIONS {
        let text = filter(number);
        all.subscribe(FilterRef::new(&text).unwrap(), key(number), Subscription::default());
    }
    println!("{} subscriptions: {} bytes each, {} nodes", all.len(), all.memory() / all.len(), all.nodes());
    let (mut matches, mut at, mut found) = (Matches::default(), 0_usize, 0_usize);
    let match_one = || {
        at = (at + 1) % ASKED;
        all.matches(topics[at], &mut matches);
        found += black_box(matches.freeze()).routes().len();
    };
    let time = alone(ROUNDS, 100_000, match_one);
    println!("match, uncached: {time:.0} ns, {:.2} hear a topic", found as f64 / (ROUNDS * 100_000) as f64);
}

fn cached(topics: &[TopicRef<'_>]) {
    let routes = Routes::new();
    for number in 0..SUBSCRIPTIONS {
        let text = filter(number);
        routes.subscribe(FilterRef::new(&text).unwrap(), key(number), Subscription::default());
    }
    let mut cache = RouteCache::new();
    let mut at = 0_usize;
    let look_up = || {
        at = (at + 389) % CACHED;
        black_box(cache.find(&routes, topics[at]));
    };
    println!("look-up, cached: {:.1} ns, {CACHED} topics in turn", alone(ROUNDS, 1_000_000, look_up));
}

fn adversarial() {
    let mut all = Subscriptions::new();
    let topic = ["a", "b", "c", "d"];
    for mask in 0..16_u32 {
        let level = |place: usize| if mask >> place & 1 == 1 { "+" } else { topic[place] };
        let text = [level(0), level(1), level(2), level(3)].join("/");
        all.subscribe(FilterRef::new(&text).unwrap(), mask, Subscription::default());
    }
    for number in 0..100_000 {
        let text = format!("+/+/{}/{}", number % 300, number / 300);
        all.subscribe(FilterRef::new(&text).unwrap(), 16 + number, Subscription::default());
    }
    let (text, mut matches) = (topic.join("/"), Matches::default());
    let topic = TopicRef::new(&text).unwrap();
    let time = alone(ROUNDS, 100_000, || {
        all.matches(topic, &mut matches);
        black_box(matches.freeze());
    });
    println!("match, every level forks, 16 hear it: {time:.0} ns");
}

fn key(number: u32) -> SessionKey {
    SessionKey::new(WorkerId(0), number, 0)
}
