//! What the bridge counts. Plain numbers: whoever shows them reads them.
//!
//! In: what the other rooms did. Out: values for metrics and `ctl`. Never decides anything.

use std::collections::BTreeMap;

use viaduct_codec::{Level, Time};

use viaduct_session::client::RoundTrip;

use crate::{Address, Error, StepDown};

/// Everything counted since the bridge was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Where the link stands.
    pub phase: Phase,
    /// Messages flow.
    pub up: bool,
    /// What is spoken while [`Stats::up`].
    pub level: Option<Level>,
    /// The levels that were left at [`Stats::address`] for the one that is tried or spoken, and why.
    pub left: Vec<(Level, StepDown)>,
    /// Where the last attempt went.
    pub address: Option<Address>,
    /// Since when the link is up, or down.
    pub since: Time,
    /// Attempts and links by result: `connected`, `returned` (left for the first address), or [`Error::label`]. Each end of an attempt counts once.
    pub connects: BTreeMap<&'static str, u64>,
    /// Messages handed to the remote, resends not counted.
    pub messages_out: u64,
    /// Messages handed to this broker.
    pub messages_in: u64,
    /// Messages that were not carried on, by reason.
    pub dropped: [u64; Drop::ALL.len()],
    /// What was done with less than the settings say because the remote takes no more, by what.
    pub lowered: [u64; Lowered::ALL.len()],
    /// QoS 1 and 2 messages on their way out that the remote has not acknowledged.
    pub unacknowledged_out: usize,
    /// QoS 1 and 2 messages on their way in that this broker has not acknowledged.
    pub unacknowledged_in: usize,
    /// Why the last attempt or link ended, and when.
    pub last_error: Option<(Time, Error)>,
    /// When the first attempt or link ended since the link was last up, or since the start.
    pub failing_since: Option<Time>,
    /// How long the remote took to answer.
    pub round_trip: Option<RoundTrip>,
}

/// Where the link to the remote stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not started, or stopped.
    #[default]
    Stopped,
    /// Dialling, waiting for CONNACK, or for links of another number to carry what they have.
    Connecting,
    /// Messages flow.
    Up,
    /// Every address failed.
    Waiting {
        /// When the next attempt begins.
        until: Time,
    },
}

/// Why a message was not carried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Drop {
    /// QoS 0 while the link is down, as for any absent client.
    Offline,
    /// QoS 0 while the remote reads slower than messages come.
    Pressure,
    /// Its time was over.
    Expired,
    /// It waited longer than `max_age`.
    TooOld,
    /// Larger than the other side takes.
    TooLarge,
    /// The other side refused it by reason code.
    Refused,
    /// Our own message, come back from a remote that has no No Local.
    Echo,
    /// It has passed this broker before, or too many.
    Loop,
    /// No rule matches its topic.
    Unmatched,
    /// The prefixes make a topic that cannot be.
    BadTopic,
    /// The remote does not take the topic: it begins with `$`, or is longer or deeper than [`crate::RemoteLimits`] say.
    TopicNotTaken,
}

/// What was done with less than the settings say, because the remote takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Lowered {
    /// A message went with a lower QoS.
    Qos,
    /// A message went without its RETAIN flag.
    Retain,
    /// A subscription was refused, or not asked for because it would be.
    Subscription,
    /// A subscription was granted with a lower QoS.
    SubscriptionQos,
    /// A step down the ladder of levels.
    Level,
    /// A link on which fewer messages may be unacknowledged.
    Window,
    /// A link with another keep alive.
    KeepAlive,
    /// A link whose session the remote keeps for a shorter time.
    SessionExpiry,
    /// A link under a ClientID that the remote chose.
    ClientId,
    /// A link whose state is not published at the remote.
    Notification,
    /// A filter that was not unsubscribed from.
    Unsubscribe,
}

impl Drop {
    /// Every reason, in the order of [`Stats::dropped`].
    pub const ALL: [Self; 11] = [
        Self::Offline,
        Self::Pressure,
        Self::Expired,
        Self::TooOld,
        Self::TooLarge,
        Self::Refused,
        Self::Echo,
        Self::Loop,
        Self::Unmatched,
        Self::BadTopic,
        Self::TopicNotTaken,
    ];

    /// One word for a metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Pressure => "pressure",
            Self::Expired => "expired",
            Self::TooOld => "max_age",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Echo => "echo",
            Self::Loop => "loop",
            Self::Unmatched => "unmatched",
            Self::BadTopic => "bad_topic",
            Self::TopicNotTaken => "topic_not_taken",
        }
    }
}

impl Lowered {
    /// Every kind, in the order of [`Stats::lowered`].
    pub const ALL: [Self; 11] = [
        Self::Qos,
        Self::Retain,
        Self::Subscription,
        Self::SubscriptionQos,
        Self::Level,
        Self::Window,
        Self::KeepAlive,
        Self::SessionExpiry,
        Self::ClientId,
        Self::Notification,
        Self::Unsubscribe,
    ];

    /// One word for a metric's label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Qos => "qos",
            Self::Retain => "retain",
            Self::Subscription => "subscription",
            Self::SubscriptionQos => "subscription_qos",
            Self::Level => "level",
            Self::Window => "window",
            Self::KeepAlive => "keep_alive",
            Self::SessionExpiry => "session_expiry",
            Self::ClientId => "client_id",
            Self::Notification => "notification",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

impl Stats {
    /// What several links did together. Up are they only when each of `parts` that is wanted is, as the flag says; what is
    /// spoken and where is said of the first that is not up, or the last.
    #[must_use]
    pub fn sum<'a>(parts: impl Iterator<Item = (bool, &'a Self)>) -> Self {
        let (mut sum, mut wanted) = (Self::default(), 0_usize);
        let mut up = true;
        for (is_wanted, part) in parts {
            if is_wanted {
                up &= part.up;
                wanted += 1;
                sum.since = sum.since.max(part.since);
                if wanted == 1 || sum.phase == Phase::Up {
                    (sum.phase, sum.level, sum.left) = (part.phase, part.level, part.left.clone());
                    sum.address.clone_from(&part.address);
                }
                if sum.round_trip.as_ref().map(|trip| trip.at) < part.round_trip.as_ref().map(|trip| trip.at) {
                    sum.round_trip.clone_from(&part.round_trip);
                }
                sum.failing_since = sum.failing_since.into_iter().chain(part.failing_since).min();
            }
            for (result, count) in &part.connects {
                *sum.connects.entry(result).or_default() += count;
            }
            sum.messages_out += part.messages_out;
            sum.messages_in += part.messages_in;
            for (total, count) in sum.dropped.iter_mut().zip(&part.dropped) {
                *total += count;
            }
            for (total, count) in sum.lowered.iter_mut().zip(&part.lowered) {
                *total += count;
            }
            sum.unacknowledged_out += part.unacknowledged_out;
            sum.unacknowledged_in += part.unacknowledged_in;
            if part.last_error.as_ref().map(|(at, _)| *at) > sum.last_error.as_ref().map(|(at, _)| *at) {
                sum.last_error.clone_from(&part.last_error);
            }
        }
        sum.up = up && wanted > 0;
        sum
    }

    /// How often less was done in respect of `what`.
    #[must_use]
    pub fn lowered_in(&self, what: Lowered) -> u64 {
        self.lowered.get(what as usize).copied().unwrap_or_default()
    }

    pub(crate) fn count_lowered(&mut self, what: Lowered, times: u64) {
        if let Some(count) = self.lowered.get_mut(what as usize) {
            *count += times;
        }
    }

    /// Messages dropped for `reason`.
    #[must_use]
    pub fn dropped_for(&self, reason: Drop) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or_default()
    }

    pub(crate) fn count_drop(&mut self, reason: Drop) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += 1;
        }
    }

    pub(crate) fn count_connect(&mut self, result: &'static str) {
        *self.connects.entry(result).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_summed_and_up_only_together() {
        let error = |at| Some((Time::from_millis(at), Error::BadLogin));
        let part = |up, at| {
            let mut stats = Stats { up, messages_out: 2, since: Time::from_millis(at), ..Stats::default() };
            stats.count_connect("connected");
            stats.count_drop(Drop::Echo);
            stats.count_lowered(Lowered::Qos, 3);
            stats.last_error = error(at);
            stats
        };
        let parts = [(true, part(true, 5)), (true, part(true, 9)), (false, part(false, 7))];
        let sum = Stats::sum(parts.iter().map(|(wanted, stats)| (*wanted, stats)));
        assert!(sum.up, "the third is not wanted");
        assert_eq!((sum.messages_out, sum.connects["connected"], sum.since), (6, 3, Time::from_millis(9)));
        assert_eq!((sum.dropped_for(Drop::Echo), sum.lowered_in(Lowered::Qos), sum.last_error), (3, 9, error(9)));
        let one_down = [(true, part(true, 5)), (true, part(false, 9))];
        assert!(!Stats::sum(one_down.iter().map(|(wanted, stats)| (*wanted, stats))).up);
    }

    #[test]
    fn every_reason_counts_in_its_own_place() {
        let mut stats = Stats::default();
        for (place, reason) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            stats.count_drop(reason);
            assert_eq!(stats.dropped_for(reason), 1);
        }
        for (place, what) in Lowered::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, place);
            stats.count_lowered(what, 2);
            assert_eq!(stats.lowered_in(what), 2);
        }
    }
}
