//! Which messages are carried, under which name, and how hard they are tried.
//!
//! In: the topic rules as written. Out: what to subscribe to on each side, and for a topic on one side the topic on
//! the other. Never sees a packet; the first rule that matches decides.

use thiserror::Error;
use viaduct_codec::{FilterRef, QoS, Slice, TopicError, TopicFilter, TopicName, TopicRef, Version};

use crate::limits;
use crate::{Direction, Protocol, Settings, Topic};

/// Checked topic rules of one bridge.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    both_ways: bool,
    may_loop: bool,
}

/// One checked rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// The most that a message is carried with.
    pub qos: QoS,
    /// Whether the RETAIN flag is carried.
    pub retain: bool,
    /// Run it although its messages may come back.
    pub allow_loop: bool,
    /// This broker's side.
    pub local: Side,
    /// The remote's side.
    pub remote: Side,
    /// What decides by which link it comes in: the same for all rules whose messages may be the same.
    share: Box<str>,
}

/// One side of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// What is subscribed to; may be shared.
    pub subscription: TopicFilter,
    /// What topics of this side match, `$share/<name>/` taken off.
    matches: TopicFilter,
    /// What is taken off or put on.
    prefix: Box<str>,
}

/// Why a set of rules cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RuleError {
    /// There is no address.
    #[error("the bridge has no address; set `url`")]
    NoAddress,
    /// There is no rule, or too many.
    #[error("the bridge has {0} topic rules; it needs 1 to {max}", max = limits::RULES)]
    Count(usize),
    /// Prefix and filter do not make a topic filter.
    #[error("topic rule {rule}: {text:?} is no topic filter: {error}")]
    Filter {
        /// Which rule, from 0.
        rule: usize,
        /// Prefix and filter together.
        text: String,
        /// What is wrong.
        error: TopicError,
    },
    /// A prefix has a wildcard.
    #[error("topic rule {rule}: the prefix {prefix:?} may not contain '+' or '#'")]
    Wildcard {
        /// Which rule, from 0.
        rule: usize,
        /// The prefix.
        prefix: String,
    },
    /// A shared subscription both ways: the other side's name for it would be the share's.
    #[error("topic rule {rule}: a shared subscription goes one way only; make two rules")]
    SharedBoth {
        /// Which rule, from 0.
        rule: usize,
    },
    /// Every message would come back.
    #[error(
        "topic rule {rule}: at version {version} without `try_private` the remote sends our own messages back; \
         use protocol_version \"auto\" or 5, one direction, or `allow_loop = true`"
    )]
    Loop {
        /// Which rule, from 0.
        rule: usize,
        /// The only version that may be spoken.
        version: Version,
    },
    /// With several links, one would bring back what another carried.
    #[error(
        "topic rule {rule}: the ways out and in meet, which several links cannot tell apart; set `links = 1`, or keep the \
         ways apart by prefixes"
    )]
    CrossesLinks {
        /// Which rule, from 0.
        rule: usize,
    },
    /// The state topic is no topic name.
    #[error("the notification topic {text:?} is no topic name: {error}")]
    Notification {
        /// As written.
        text: String,
        /// What is wrong.
        error: TopicError,
    },
}

impl Rules {
    /// Checks the rules of `settings`.
    ///
    /// # Errors
    /// The first rule that cannot be run.
    pub fn new(settings: &Settings) -> Result<Self, RuleError> {
        let count = settings.topics.len();
        if count == 0 || count > limits::RULES {
            return Err(RuleError::Count(count));
        }
        let rules = settings.topics.iter().enumerate().map(|(rule, topic)| {
            refuse_loop(rule, topic, settings)?;
            Rule::new(rule, topic)
        });
        let mut checked = Self { rules: rules.collect::<Result<_, _>>()?, both_ways: false, may_loop: false };
        let both_ways = checked.out().any(|out| checked.inward().any(|back| out.remote.overlaps(&back.remote)));
        let may_loop = checked.out().any(|out| checked.inward().any(|back| out.loops_with(back)));
        (checked.both_ways, checked.may_loop) = (both_ways, may_loop);
        if !settings.slice.is_all() {
            checked.refuse_crossing()?;
        }
        checked.share_out();
        Ok(checked)
    }

    /// The rules whose messages go to the remote, in order.
    pub fn out(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.direction.is_out())
    }

    /// The rules whose messages come from the remote, in order.
    pub fn inward(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.direction.is_in())
    }

    /// The rules whose messages this link asks the remote for.
    pub fn asked_by(&self, slice: Slice) -> impl Iterator<Item = &Rule> {
        self.inward().filter(move |rule| rule.link(slice.of()) == slice.index())
    }

    fn refuse_crossing(&self) -> Result<(), RuleError> {
        let meets =
            |out: &Rule| self.inward().any(|back| out.remote.overlaps(&back.remote) || out.local.overlaps(&back.local));
        let crossing = self.rules.iter().position(|rule| rule.direction.is_out() && meets(rule));
        crossing.map_or(Ok(()), |rule| Err(RuleError::CrossesLinks { rule }))
    }

    /// Rules whose filters overlap at the remote go by one link, or their messages would come by two: each gets the name of
    /// the first among those that hang together.
    fn share_out(&mut self) {
        for place in 0..self.rules.len() {
            let (before, rest) = self.rules.split_at_mut(place);
            let Some(rule) = rest.first_mut().filter(|rule| rule.direction.is_in()) else { continue };
            let met: Vec<Box<str>> = before
                .iter()
                .filter(|other| other.direction.is_in() && other.remote.overlaps(&rule.remote))
                .map(|other| other.share.clone())
                .collect();
            let first = met.iter().chain([&rule.share]).min().unwrap_or(&rule.share).clone();
            for other in before.iter_mut().filter(|other| met.contains(&other.share)) {
                other.share.clone_from(&first);
            }
            rule.share = first;
        }
    }

    /// Whether some topic of this broker may come in under rules of both. Of very many it is taken for granted.
    #[must_use]
    pub fn bring_what(&self, other: &Self) -> bool {
        let many = self.inward().count() * other.inward().count() > limits::COMPARED_RULES;
        many || self.inward().any(|one| other.inward().any(|another| one.local.overlaps(&another.local)))
    }

    /// Whether something that matches `filter` here may be carried, either way, by a rule that may not loop.
    #[must_use]
    pub fn carries(&self, filter: FilterRef<'_>) -> bool {
        let filter = filter.share().map_or(filter, |share| share.filter);
        self.rules.iter().any(|rule| !rule.allow_loop && overlap(rule.local.matches.by_ref(), filter))
    }

    /// Whether a message of this topic here goes to the remote, or may be one that comes from there, by a rule that may not loop.
    #[must_use]
    pub fn carries_topic(&self, topic: TopicRef<'_>) -> bool {
        let sends = self.out().find(|rule| rule.local.is_match(topic)).is_some_and(|rule| !rule.allow_loop);
        sends || self.inward().any(|rule| !rule.allow_loop && rule.local.is_match(topic))
    }

    /// Whether something that goes out may come back in when the remote does not leave out our own messages.
    #[must_use]
    pub const fn carries_both_ways(&self) -> bool {
        self.both_ways
    }

    /// Whether a way out and a way in meet under one name on both sides, and nobody said that they may: run only with a
    /// remote that does not send our own messages back.
    #[must_use]
    pub const fn may_loop(&self) -> bool {
        self.may_loop
    }

    /// The rule and the remote topic for a message of this broker; `None` when no `out` rule matches, an error when
    /// the prefixes make a topic that cannot be.
    ///
    /// # Errors
    /// The topic at the remote would be too long or empty.
    pub fn to_remote(&self, topic: TopicRef<'_>) -> Result<Option<(&Rule, TopicName)>, TopicError> {
        map(self.out(), topic, |rule| (&rule.local, &rule.remote))
    }

    /// The rule and the local topic for a message of the remote; as [`Rules::to_remote`].
    ///
    /// # Errors
    /// The topic here would be too long or empty.
    pub fn to_local(&self, topic: TopicRef<'_>) -> Result<Option<(&Rule, TopicName)>, TopicError> {
        map(self.inward(), topic, |rule| (&rule.remote, &rule.local))
    }

    /// Where an answer to a message of this broker goes at the remote: by the rule that brings the answer back, else
    /// by the one that carries the question, else unchanged.
    #[must_use]
    pub fn response_to_remote(&self, topic: TopicRef<'_>) -> TopicName {
        let both = self.inward().chain(self.out());
        map(both, topic, |rule| (&rule.local, &rule.remote))
            .ok()
            .flatten()
            .map_or_else(|| topic.to_owned(), |(_, to)| to)
    }

    /// Where an answer to a message of the remote goes here; as [`Rules::response_to_remote`].
    #[must_use]
    pub fn response_to_local(&self, topic: TopicRef<'_>) -> TopicName {
        let both = self.out().chain(self.inward());
        map(both, topic, |rule| (&rule.remote, &rule.local))
            .ok()
            .flatten()
            .map_or_else(|| topic.to_owned(), |(_, to)| to)
    }
}

impl Rule {
    fn new(rule: usize, topic: &Topic) -> Result<Self, RuleError> {
        let local = Side::new(rule, &topic.local_prefix, &topic.filter)?;
        let remote = Side::new(rule, &topic.remote_prefix, &topic.filter)?;
        let shared = local.subscription.by_ref().share().is_some() || remote.subscription.by_ref().share().is_some();
        if shared && topic.direction == Direction::Both {
            return Err(RuleError::SharedBoth { rule });
        }
        let share = remote.subscription.as_str().into();
        let Topic { direction, qos, retain, allow_loop, .. } = *topic;
        Ok(Self { direction, qos, retain, allow_loop, local, remote, share })
    }

    /// Whether what goes out under this rule may come in under `back` and go out again; see docs/decisions/0004-allow-loop.md.
    fn loops_with(&self, back: &Self) -> bool {
        let is_meant = self.allow_loop && back.allow_loop;
        let same_names = self.local.prefix == self.remote.prefix && back.local.prefix == back.remote.prefix;
        !is_meant && same_names && self.local.overlaps(&back.local) && self.remote.overlaps(&back.remote)
    }

    /// Which of `of` links asks the remote for it.
    pub(crate) fn link(&self, of: u8) -> u8 {
        Slice::parts(of).find(|part| part.has(&self.share)).map_or(0, Slice::index)
    }
}

impl Side {
    fn new(rule: usize, prefix: &str, filter: &str) -> Result<Self, RuleError> {
        if prefix.contains(['+', '#']) {
            return Err(RuleError::Wildcard { rule, prefix: prefix.into() });
        }
        let text = format!("{prefix}{filter}");
        let whole = FilterRef::new(&text).map_err(|error| RuleError::Filter { rule, text: text.clone(), error })?;
        let matches = whole.share().map_or(whole, |share| share.filter);
        // A share name may stand in the prefix or in the filter; topics never carry it.
        let head = text.len() - matches.as_str().len();
        Ok(Self {
            subscription: whole.to_owned(),
            matches: matches.to_owned(),
            prefix: prefix.get(head..).unwrap_or_default().into(),
        })
    }

    /// Whether `topic` is one of this side's.
    #[must_use]
    pub fn is_match(&self, topic: TopicRef<'_>) -> bool {
        self.matches.by_ref().matches(topic)
    }

    fn overlaps(&self, other: &Self) -> bool {
        overlap(self.matches.by_ref(), other.matches.by_ref())
    }
}

/// Whether some topic could match both. Exact where one of them has no wildcard, and otherwise by the levels
/// before the first wildcard: it may say yes too often, which costs a warning, or a question to the remote.
fn overlap(one: FilterRef<'_>, another: FilterRef<'_>) -> bool {
    let [one, another] = [one.as_str(), another.as_str()];
    let hides = |topics: &str, filter: &str| topics.starts_with('$') && filter.starts_with(['#', '+']);
    if hides(one, another) || hides(another, one) {
        return false;
    }
    let mut ours = one.split('/');
    let mut theirs = another.split('/');
    loop {
        match (ours.next(), theirs.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some("+"), _) | (_, Some("+")) => {}
            (Some(one), Some(another)) if one == another => {}
            _ => return false,
        }
    }
}

/// The first of `rules` whose side `from` matches `topic`, and the topic on its side `to`.
fn map<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    topic: TopicRef<'_>,
    sides: impl Fn(&'a Rule) -> (&'a Side, &'a Side),
) -> Result<Option<(&'a Rule, TopicName)>, TopicError> {
    for rule in rules {
        let (from, to) = sides(rule);
        if !from.is_match(topic) {
            continue;
        }
        if from.prefix == to.prefix {
            return Ok(Some((rule, topic.to_owned())));
        }
        if let Some(rest) = topic.as_str().strip_prefix(&*from.prefix) {
            return TopicName::new(&format!("{}{rest}", to.prefix)).map(|name| Some((rule, name)));
        }
    }
    Ok(None)
}

/// Without No Local and without the private bit everything that goes out under a rule that also comes in comes back.
/// With prefixes that differ it comes back once and is recognised; with equal ones a second path at the remote would
/// make a ring without an end.
fn refuse_loop(rule: usize, topic: &Topic, settings: &Settings) -> Result<(), RuleError> {
    match settings.protocol {
        Protocol::Fixed(version)
            if !version.is_v5()
                && !settings.try_private
                && topic.direction == Direction::Both
                && topic.local_prefix == topic.remote_prefix
                && !topic.allow_loop =>
        {
            Err(RuleError::Loop { rule, version })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn topic(direction: Direction, filter: &str, local: &str, remote: &str) -> Topic {
        Topic {
            filter: filter.into(),
            direction,
            qos: QoS::ExactlyOnce,
            retain: true,
            local_prefix: local.into(),
            remote_prefix: remote.into(),
            allow_loop: false,
        }
    }

    fn settings(topics: Vec<Topic>) -> Settings {
        Settings {
            name: "b".into(),
            node: "n".into(),
            addresses: Vec::new(),
            protocol: Protocol::Auto,
            try_private: true,
            client_id: "n.b".into(),
            username: None,
            password: None,
            keep_alive: 60,
            clean_session: false,
            session_expiry: u32::MAX,
            connect_timeout: Duration::from_secs(10),
            reconnect_min: Duration::from_secs(1),
            reconnect_max: Duration::from_secs(60),
            failback: None,
            max_age: None,
            drain_rate: None,
            max_inflight: 20,
            max_packet_size: 1 << 20,
            topic_alias_maximum: 0,
            topics,
            remote: crate::RemoteLimits::default(),
            slice: Slice::ALL,
            duty: crate::Duty::Serve,
            previous: Vec::new(),
            notifications: None,
            notify_remote: true,
        }
    }

    fn rules(topics: Vec<Topic>) -> Rules {
        Rules::new(&settings(topics)).unwrap()
    }

    fn named(mapped: Result<Option<(&Rule, TopicName)>, TopicError>) -> Option<String> {
        mapped.unwrap().map(|(_, name)| name.as_str().to_owned())
    }

    #[test]
    fn prefixes_map_both_ways() {
        // (filter, local prefix, remote prefix, local topic, remote topic)
        let table = [
            ("#", "", "", "a/b", "a/b"),
            ("#", "", "site/1/", "a/b", "site/1/a/b"),
            ("#", "hub/", "", "hub/a", "a"),
            ("a/+", "l/", "r/", "l/a/x", "r/a/x"),
            ("a/#", "l/", "r/s/", "l/a", "r/s/a"),
            ("", "here", "there/it/is", "here", "there/it/is"),
            ("a", "p", "q", "pa", "qa"), // a prefix is text, as mosquitto has it: the slash is the writer's
            ("ä/#", "ö/", "", "ö/ä/1", "ä/1"),
        ];
        for (filter, local, remote, here, there) in table {
            let rules = rules(vec![topic(Direction::Both, filter, local, remote)]);
            let (here, there) = (TopicRef::new(here).unwrap(), TopicRef::new(there).unwrap());
            assert_eq!(named(rules.to_remote(here)).as_deref(), Some(there.as_str()), "{filter} out");
            assert_eq!(named(rules.to_local(there)).as_deref(), Some(here.as_str()), "{filter} in");
        }
    }

    #[test]
    fn what_no_rule_matches_is_not_carried() {
        let rules = rules(vec![topic(Direction::Out, "a/#", "l/", "r/"), topic(Direction::In, "b/#", "", "")]);
        for outside in ["a/x", "l/b", "r/a", "b/x", "l", "$SYS/l/a"] {
            assert_eq!(named(rules.to_remote(TopicRef::new(outside).unwrap())), None, "{outside}");
        }
        assert_eq!(named(rules.to_local(TopicRef::new("r/a/x").unwrap())), None);
        assert_eq!(named(rules.to_local(TopicRef::new("b/x").unwrap())).as_deref(), Some("b/x"));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let mut low = topic(Direction::Out, "a/b", "", "low/");
        low.qos = QoS::AtMostOnce;
        let rules = rules(vec![low, topic(Direction::Out, "a/#", "", "high/")]);
        let (rule, name) = rules.to_remote(TopicRef::new("a/b").unwrap()).unwrap().unwrap();
        assert_eq!((rule.qos, name.as_str()), (QoS::AtMostOnce, "low/a/b"));
        assert_eq!(named(rules.to_remote(TopicRef::new("a/c").unwrap())).as_deref(), Some("high/a/c"));
    }

    #[test]
    fn a_shared_subscription_is_matched_by_what_it_shares() {
        for shared in [topic(Direction::In, "$share/g/x/#", "l/", ""), topic(Direction::In, "x/#", "l/", "$share/g/")] {
            let rules = rules(vec![shared]);
            assert_eq!(rules.inward().next().unwrap().remote.subscription.as_str(), "$share/g/x/#");
            let mapped = named(rules.to_local(TopicRef::new("x/1").unwrap())).unwrap();
            assert!(mapped.ends_with("x/1") && mapped.starts_with("l/"), "{mapped}");
        }
    }

    #[test]
    fn answers_find_their_way_back() {
        let rules =
            rules(vec![topic(Direction::Out, "ask/#", "l/", "r/"), topic(Direction::In, "answer/#", "l/", "s/")]);
        let to_remote = |text| rules.response_to_remote(TopicRef::new(text).unwrap()).as_str().to_owned();
        let to_local = |text| rules.response_to_local(TopicRef::new(text).unwrap()).as_str().to_owned();
        assert_eq!(to_remote("l/answer/1"), "s/answer/1");
        assert_eq!(to_remote("l/ask/1"), "r/ask/1");
        assert_eq!(to_remote("elsewhere"), "elsewhere");
        assert_eq!(to_local("r/ask/1"), "l/ask/1");
        assert_eq!(to_local("s/answer/1"), "l/answer/1");
    }

    #[test]
    fn rules_that_cannot_be_run_are_refused() {
        let refused = |topics| Rules::new(&settings(topics)).unwrap_err();
        assert_eq!(refused(Vec::new()), RuleError::Count(0));
        assert!(matches!(refused(vec![topic(Direction::In, "a/#/b", "", "")]), RuleError::Filter { rule: 0, .. }));
        assert!(matches!(refused(vec![topic(Direction::In, "", "", "x")]), RuleError::Filter { .. }));
        assert!(matches!(refused(vec![topic(Direction::In, "a", "+/", "")]), RuleError::Wildcard { .. }));
        assert!(matches!(refused(vec![topic(Direction::Both, "$share/g/a", "", "")]), RuleError::SharedBoth { .. }));
    }

    #[test]
    fn a_loop_that_is_certain_is_refused_unless_it_is_meant() {
        let mut looping = settings(vec![topic(Direction::Both, "#", "", "")]);
        looping.protocol = Protocol::Fixed(Version::V311);
        assert!(Rules::new(&looping).is_ok(), "the private level is tried first");
        looping.try_private = false;
        assert_eq!(Rules::new(&looping).unwrap_err(), RuleError::Loop { rule: 0, version: Version::V311 });
        looping.topics[0].allow_loop = true;
        assert!(Rules::new(&looping).is_ok());
        looping.topics[0].allow_loop = false;
        looping.topics[0].remote_prefix = "r/".into();
        assert!(Rules::new(&looping).is_ok());
        looping.topics[0].remote_prefix.clear();
        looping.topics[0].direction = Direction::Out;
        assert!(Rules::new(&looping).is_ok());
    }

    #[test]
    fn what_may_loop_has_one_name_on_both_sides_and_was_not_meant() {
        let loops = |topics: Vec<Topic>| rules(topics).may_loop();
        let meant = |topic: Topic| Topic { allow_loop: true, ..topic };
        let (out, back) = (topic(Direction::Out, "a/#", "", ""), topic(Direction::In, "a/b", "", ""));
        assert!(loops(vec![topic(Direction::Both, "a/#", "x/", "x/")]));
        assert!(loops(vec![out.clone(), back.clone()]));
        assert!(loops(vec![meant(out.clone()), back.clone()]), "both have to be meant");
        assert!(!loops(vec![meant(out.clone()), meant(back)]));
        assert!(!loops(vec![topic(Direction::Both, "a/#", "", "x/")]), "a name that differs ends a ring");
        assert!(!loops(vec![out, topic(Direction::In, "b/#", "", "")]));
    }

    #[test]
    fn what_hangs_together_comes_by_one_link_and_the_rest_is_spread() {
        let filters = ["a/b", "c/+", "a/+", "+/d", "x/1", "x/2", "x/3", "x/4", "x/5"];
        let rules = rules(filters.map(|filter| topic(Direction::In, filter, "", "")).to_vec());
        let links: Vec<u8> = rules.inward().map(|rule| rule.link(4)).collect();
        assert!(
            links[..4].iter().all(|link| *link == links[0]),
            "a/d is matched by a/+ and +/d, c/d by c/+: {links:?}"
        );
        assert!(links[4..].iter().collect::<std::collections::HashSet<_>>().len() > 1, "{links:?}");
        let asked = |part| rules.asked_by(part).count();
        assert_eq!(Slice::parts(4).map(asked).sum::<usize>(), filters.len());
    }

    #[test]
    fn several_links_take_no_ways_that_meet() {
        let part = Slice::new(0, 2).unwrap();
        let with = |topics| Rules::new(&Settings { slice: part, ..settings(topics) }).map(|_| ());
        assert_eq!(with(vec![topic(Direction::Both, "a/#", "", "")]), Err(RuleError::CrossesLinks { rule: 0 }));
        let here = vec![topic(Direction::In, "a", "", "r/"), topic(Direction::Out, "#", "", "up/")];
        assert_eq!(with(here), Err(RuleError::CrossesLinks { rule: 1 }));
        assert_eq!(with(vec![topic(Direction::In, "a", "", ""), topic(Direction::Out, "b", "", "")]), Ok(()));
    }

    #[test]
    fn overlap_between_out_and_in_is_seen() {
        let both = |out: &str, inward: &str| {
            rules(vec![topic(Direction::Out, out, "", ""), topic(Direction::In, inward, "", "")]).carries_both_ways()
        };
        assert!(both("a/#", "a/b"));
        assert!(both("+/b", "a/+"));
        assert!(both("a/#", "a"));
        assert!(!both("a/b", "a/c"));
        assert!(!both("up/#", "down/#"));
        assert!(!both("a", "a/b"));
    }
}
