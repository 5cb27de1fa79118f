//! Retained messages by filter among a million topics: one by its name, a few by `+`, all of them in chunks.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use viaduct_benches::{alone, processor_time};
use viaduct_codec::{FilterRef, Message, QoS, Time, TopicRef};
use viaduct_router::Retained;

const TOPICS: u32 = 1_000_000;
/// What one step of a replay takes, found and looked at.
const CHUNK: usize = 256;
const ROUNDS: usize = 11;

fn main() {
    let mut all = Retained::default();
    let payload = Bytes::from_static(b"21.5");
    for number in 0..TOPICS {
        let text = topic(number);
        all.set(Arc::new(Message {
            topic: TopicRef::new(&text).unwrap().to_owned(),
            payload: payload.clone(),
            qos: QoS::AtMostOnce,
            retain: true,
            received: Time::default(),
            expires: None,
            properties: None,
        }));
    }
    println!("{} retained topics: {} bytes each without the messages", all.len(), all.memory() / all.len());
    let mut number = 0_u32;
    let time = alone(ROUNDS, 50_000, || {
        number = (number + 7_919) % TOPICS;
        let mut found = 0;
        all.matches(FilterRef::new(&topic(number)).unwrap(), &mut |_| found += 1);
        assert_eq!(black_box(found), 1);
    });
    println!("a literal filter, its text made each time: {time:.0} ns");
    let mut number = 0_u32;
    let time = alone(ROUNDS, 500, || {
        number = (number + 79) % 1_000;
        let mut found = 0;
        all.matches(FilterRef::new(&format!("site/{number}/+/value")).unwrap(), &mut |_| found += 1);
        assert_eq!(black_box(found), 1_000);
    });
    println!("site/N/+/value, which finds 1,000: {:.0} ns a message", time / 1_000.0);
    chunks(&all);
}

fn topic(number: u32) -> String {
    format!("site/{}/s{}/value", number % 1_000, number / 1_000)
}

/// As a replay takes them, with the longest time that a chunk took: nobody can write meanwhile.
fn chunks(all: &Retained) {
    let (mut position, mut total, mut longest) = (None, 0_usize, 0.0_f64);
    let begin = processor_time();
    loop {
        let (mut found, chunk) = (Vec::with_capacity(CHUNK), processor_time());
        position = all.matches_within(FilterRef::new("#").unwrap(), position.as_ref(), CHUNK, 4 * CHUNK, &mut found);
        longest = longest.max((processor_time() - chunk).as_secs_f64() * 1e6);
        total += black_box(found).len();
        if position.is_none() {
            break;
        }
    }
    assert_eq!(total, all.len());
    let each = (processor_time() - begin).as_secs_f64() * 1e9 / total as f64;
    println!("# in chunks of {CHUNK}: {each:.0} ns a message, the longest chunk {longest:.0} µs");
}
