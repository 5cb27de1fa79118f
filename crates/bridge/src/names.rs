//! What the last message of each direction was called on both sides, and what its rule says.
//!
//! In: a topic of one side. Out: the topic of the other and what is carried. Messages come in trains of one topic: the
//! rules are asked, and a name is made, once for a train.

use viaduct_codec::{QoS, TopicName, TopicRef};

use crate::rules::Rule;
use crate::{Drop, RemoteLimits, Rules};

/// One train for each direction.
#[derive(Debug, Default)]
pub(crate) struct Names {
    outward: Option<Train>,
    inward: Option<Train>,
}

/// What a rule makes of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Train {
    from: TopicName,
    /// The topic on the other side.
    pub(crate) to: TopicName,
    /// The most that a message is carried with.
    pub(crate) qos: QoS,
    /// Whether the RETAIN flag is carried.
    pub(crate) retain: bool,
}

impl Names {
    /// For a message of this broker.
    pub(crate) fn outward(
        &mut self,
        rules: &Rules,
        limits: &RemoteLimits,
        topic: TopicRef<'_>,
    ) -> Result<&Train, Drop> {
        find(&mut self.outward, topic, || {
            let (rule, to) = rules.to_remote(topic).map_err(|_| Drop::BadTopic)?.ok_or(Drop::Unmatched)?;
            if limits.take_topic(to.by_ref()) { Ok((rule, to)) } else { Err(Drop::TopicNotTaken) }
        })
    }

    /// For a message of the remote.
    pub(crate) fn inward(&mut self, rules: &Rules, topic: TopicRef<'_>) -> Result<&Train, Drop> {
        find(&mut self.inward, topic, || rules.to_local(topic).map_err(|_| Drop::BadTopic)?.ok_or(Drop::Unmatched))
    }
}

fn find<'a, 'r>(
    last: &'a mut Option<Train>,
    topic: TopicRef<'_>,
    ask: impl FnOnce() -> Result<(&'r Rule, TopicName), Drop>,
) -> Result<&'a Train, Drop> {
    let is_same = last.as_ref().is_some_and(|train| train.from.by_ref() == topic);
    if !is_same {
        let (rule, to) = ask()?;
        *last = Some(Train { from: topic.to_owned(), to, qos: rule.qos, retain: rule.retain });
    }
    last.as_ref().ok_or(Drop::Unmatched)
}
