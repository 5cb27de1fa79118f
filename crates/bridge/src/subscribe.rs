//! What the two halves subscribe to, cut into packets that any broker takes.
//!
//! In: filters of rules. Out: entries of SUBSCRIBE. Never decides what is carried.

use viaduct_codec::{QoS, RetainHandling, SubscribeEntry, SubscribeOptions, TopicFilter};

use crate::{Topic, limits};

/// Each filter once, in order, at the highest QoS that it came with: a second subscription to the same filter would
/// replace the first.
pub(crate) fn filters<'a>(wanted: impl Iterator<Item = (&'a TopicFilter, QoS)>) -> Vec<(TopicFilter, QoS)> {
    let mut unique: Vec<(TopicFilter, QoS)> = Vec::new();
    for (filter, qos) in wanted {
        match unique.iter_mut().find(|(known, _)| known == filter) {
            Some((_, known)) => *known = qos.max(*known),
            None => unique.push((filter.clone(), qos)),
        }
    }
    unique
}

/// The filters in runs that fit [`limits::SUBSCRIBE_BYTES`] each, or are alone.
pub(crate) fn chunks(mut filters: &[(TopicFilter, QoS)]) -> Vec<&[(TopicFilter, QoS)]> {
    let mut chunks = Vec::new();
    while !filters.is_empty() {
        let mut bytes = 0;
        let fit = filters.iter().take_while(|(filter, _)| {
            bytes += filter.as_str().len() + 3; // length before it, options after it
            bytes <= limits::SUBSCRIBE_BYTES
        });
        let (chunk, rest) = filters.split_at(fit.count().max(1));
        chunks.push(chunk);
        filters = rest;
    }
    chunks
}

/// The entries of one SUBSCRIBE: No Local, so that what we published does not come back, and Retain As Published, so
/// that retained state stays retained on the way through. A shared subscription may not have No Local (MQTT-3.8.3-4).
/// In 3.x the private bit says the same for all of them, and only the QoS is written.
pub(crate) fn entries(filters: &[(TopicFilter, QoS)], retain_handling: RetainHandling) -> Vec<SubscribeEntry<'_>> {
    let entry = |(filter, qos): &'_ (TopicFilter, QoS)| {
        let no_local = filter.by_ref().share().is_none();
        (no_local, *qos)
    };
    filters
        .iter()
        .map(|one| {
            let (no_local, qos) = entry(one);
            let options = SubscribeOptions { qos, no_local, retain_as_published: true, retain_handling };
            SubscribeEntry { filter: one.0.by_ref(), options }
        })
        .collect()
}

/// The filters on one side of rules that held before; what no longer makes a filter never was one.
pub(crate) fn previous(
    topics: &[Topic],
    way: impl Fn(&Topic) -> bool,
    prefix: impl Fn(&Topic) -> &str,
) -> Vec<TopicFilter> {
    let filters = topics.iter().filter(|topic| way(topic));
    filters.filter_map(|topic| TopicFilter::new(&format!("{}{}", prefix(topic), topic.filter)).ok()).collect()
}
