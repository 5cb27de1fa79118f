//! What the two halves subscribe to, cut into packets that the broker takes.
//!
//! In: filters of rules. Out: SUBSCRIBE and UNSUBSCRIBE. Never decides what is carried.

use viaduct_codec::{
    FilterRef, QoS, ReasonCode, RetainHandling, Suback, SubscribeEntry, SubscribeOptions, Time, TopicFilter,
};

use crate::bridge::Bridge;
use crate::{Duty, Event, Lowered, Topic, limits};

impl Bridge {
    /// Asks the remote for what the `in` rules carry.
    pub(crate) fn subscribe_remote(&mut self, now: Time, session_present: bool) {
        let slice = self.settings.slice;
        // Retained messages are asked for on each connection: what changed with QoS 0 while the link was down was
        // queued for nobody, and in 3.x there is no other way to ask.
        if self.settings.duty == Duty::Drain {
            return;
        }
        let wanted = self.asked_of_remote();
        if !self.was_up {
            let mut old =
                previous(&self.settings.previous, |topic| topic.direction.is_in(), |topic| &topic.remote_prefix);
            // When there were fewer or more links, this one may have asked for what another asks for now.
            let ask_back = session_present && self.settings.remote.unsubscribe;
            let others = self.rules.inward().filter(|rule| ask_back && rule.link(slice.of()) != slice.index());
            old.extend(others.map(|rule| rule.remote.subscription.clone()));
            let gone = old.into_iter().filter(|old| !wanted.iter().any(|(filter, _)| filter == old));
            let gone: Vec<_> = gone.map(|filter| (filter, QoS::AtMostOnce)).collect();
            self.unsubscribe_remote(now, &gone);
        }
        let (offer, limits) = (self.offer, self.settings.remote.clone());
        let mut taken = Vec::new();
        for (filter, qos) in wanted {
            match offer.refuses(filter.by_ref(), &limits) {
                None => taken.push((filter, qos)),
                Some(reason) => self.subscription_refused(filter, reason),
            }
        }
        for chunk in chunks(&taken, offer.room(&limits)) {
            let entries = entries(chunk, RetainHandling::Send);
            match self.remote.subscribe(now, &entries, None, &mut self.remote_output) {
                Some(id) => _ = self.asked_remote.insert(id, chunk.to_vec()),
                None => {
                    for (filter, _) in chunk {
                        self.subscription_refused(filter.clone(), ReasonCode::PACKET_TOO_LARGE);
                    }
                }
            }
        }
    }

    /// What this link asks the remote for, each filter once.
    pub(crate) fn asked_of_remote(&self) -> Vec<(TopicFilter, QoS)> {
        let highest = self.settings.remote.max_qos;
        let rules = self.rules.asked_by(self.settings.slice);
        filters(rules.map(|rule| (&rule.remote.subscription, rule.qos.min(highest))))
    }

    /// Tells the remote that these are not wanted any more, if it can be told.
    pub(crate) fn unsubscribe_remote(&mut self, now: Time, gone: &[(TopicFilter, QoS)]) {
        if gone.is_empty() {
            return;
        }
        if !self.settings.remote.unsubscribe {
            self.stats.count_lowered(Lowered::Unsubscribe, gone.len() as u64);
            let filters = gone.iter().map(|(filter, _)| filter.clone()).collect();
            return self.log(Event::NotUnsubscribed { filters });
        }
        for chunk in chunks(gone, self.offer.room(&self.settings.remote)) {
            let filters: Vec<FilterRef<'_>> = chunk.iter().map(|(filter, _)| filter.by_ref()).collect();
            _ = self.remote.unsubscribe(now, &filters, &[], &mut self.remote_output);
        }
    }

    /// The remote answered a SUBSCRIBE.
    pub(crate) fn subscribed(&mut self, suback: &Suback<'_>) {
        let asked = self.asked_remote.remove(&suback.packet_id).unwrap_or_default();
        for ((filter, qos), reason) in asked.into_iter().zip(suback.reasons.iter().copied()) {
            if reason.is_error() {
                self.subscription_refused(filter, reason);
            } else if reason.0 < qos.bits() {
                self.stats.count_lowered(Lowered::SubscriptionQos, 1);
            }
        }
    }

    fn subscription_refused(&mut self, filter: TopicFilter, reason: ReasonCode) {
        self.stats.count_lowered(Lowered::Subscription, 1);
        self.log(Event::SubscriptionRefused { remote: true, filter, reason });
    }
}

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

/// How much one SUBSCRIBE or UNSUBSCRIBE holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Of filters with what stands around each of them; one alone may have more.
    pub(crate) bytes: usize,
    /// Filters; at least 1.
    pub(crate) filters: usize,
}

impl Room {
    /// For a broker of which nothing is known.
    pub(crate) const ANY: Self = Self { bytes: limits::SUBSCRIBE_BYTES, filters: usize::MAX };
}

/// The filters in runs that fit the room each, or are alone.
pub(crate) fn chunks(mut filters: &[(TopicFilter, QoS)], room: Room) -> Vec<&[(TopicFilter, QoS)]> {
    let mut chunks = Vec::new();
    while !filters.is_empty() {
        let mut bytes = 0;
        let fit = filters.iter().take(room.filters).take_while(|(filter, _)| {
            bytes += filter.as_str().len() + 3; // length before it, options after it
            bytes <= room.bytes
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
