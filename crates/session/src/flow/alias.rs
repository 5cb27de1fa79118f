//! Topic aliases of one connection, both directions (MQTT 5.0 section 3.3.2.3.4). They end with the connection
//! (MQTT-3.3.2-7).

use std::num::NonZeroU16;

use hashbrown::HashMap;
use viaduct_codec::{TopicName, TopicRef};

use crate::limits::ALIASES_OUT;
use crate::violation::Violation;

/// What the peer's aliases stand for.
#[derive(Debug, Default)]
pub(crate) struct AliasesIn {
    maximum: u16,
    /// Made for the first one: most peers never use any.
    topics: Option<Box<HashMap<u16, TopicName>>>,
}

/// The aliases that this end assigned: first come, first served.
#[derive(Debug, Default)]
pub(crate) struct AliasesOut {
    maximum: u16,
    is_off: bool,
    /// Made for the first one.
    aliases: Option<Box<HashMap<TopicName, NonZeroU16>>>,
}

/// How a topic goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Topic,
    /// With an alias that the peer does not know yet.
    Both(NonZeroU16),
    /// By its alias alone.
    Alias(NonZeroU16),
}

impl AliasesIn {
    /// Aliases up to `maximum` are taken from now on (MQTT-3.3.2-12).
    pub(crate) fn new(maximum: u16) -> Self {
        Self { maximum, topics: None }
    }

    /// The topic of a PUBLISH that carries `alias` and perhaps a topic; `None` when its own topic is meant.
    pub(crate) fn resolve(
        &mut self,
        alias: NonZeroU16,
        topic: Option<TopicRef<'_>>,
    ) -> Result<Option<TopicName>, Violation> {
        let alias = alias.get();
        if alias > self.maximum {
            return Err(Violation::TopicAliasTooHigh { alias, maximum: self.maximum });
        }
        match topic {
            Some(topic) => {
                let topics = self.topics.get_or_insert_default();
                if topics.get(&alias).is_none_or(|known| known.by_ref() != topic) {
                    topics.insert(alias, topic.to_owned());
                }
                Ok(None)
            }
            None => {
                let known = self.topics.as_ref().and_then(|topics| topics.get(&alias));
                known.cloned().map(Some).ok_or(Violation::TopicAliasUnknown { alias })
            }
        }
    }
}

impl AliasesOut {
    /// The peer takes aliases up to `maximum`, 0 for none (MQTT-3.1.2-26, MQTT-3.1.2-27, MQTT-3.3.2-11).
    pub(crate) fn new(maximum: u16) -> Self {
        Self { maximum: maximum.min(ALIASES_OUT), is_off: false, aliases: None }
    }

    /// Whether they are used for the time being.
    pub(crate) fn set_used(&mut self, are_used: bool) {
        self.is_off = !are_used;
    }

    /// How `topic` would go out now.
    pub(crate) fn form(&self, topic: &TopicName) -> Form {
        if self.maximum == 0 || self.is_off {
            return Form::Topic;
        }
        match self.aliases.as_ref().and_then(|aliases| aliases.get(topic)) {
            Some(alias) => Form::Alias(*alias),
            None => {
                let known = self.aliases.as_ref().map_or(0, |aliases| aliases.len());
                let next = u16::try_from(known + 1).ok().and_then(NonZeroU16::new);
                next.filter(|next| next.get() <= self.maximum).map_or(Form::Topic, Form::Both)
            }
        }
    }

    /// `topic` went out in this form.
    pub(crate) fn sent(&mut self, topic: &TopicName, form: Form) {
        if let Form::Both(alias) = form {
            self.aliases.get_or_insert_default().insert(topic.clone(), alias);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_stands_for_the_topic_that_it_was_last_given() {
        let mut aliases = AliasesIn::new(2);
        let one = NonZeroU16::new(1).unwrap();
        let topic = |text| TopicRef::new(text).unwrap();
        assert_eq!(aliases.resolve(one, None), Err(Violation::TopicAliasUnknown { alias: 1 }));
        assert_eq!(aliases.resolve(one, Some(topic("a"))), Ok(None));
        assert_eq!(aliases.resolve(one, None), Ok(TopicName::new("a").ok()));
        assert_eq!(aliases.resolve(one, Some(topic("b"))), Ok(None));
        assert_eq!(aliases.resolve(one, None), Ok(TopicName::new("b").ok()));
        let three = NonZeroU16::new(3).unwrap();
        assert_eq!(aliases.resolve(three, None), Err(Violation::TopicAliasTooHigh { alias: 3, maximum: 2 }));
    }

    #[test]
    fn aliases_are_assigned_until_the_peer_takes_no_more() {
        let mut aliases = AliasesOut::new(1);
        let (a, b) = (TopicName::new("a").unwrap(), TopicName::new("b").unwrap());
        let one = NonZeroU16::new(1).unwrap();
        assert_eq!(aliases.form(&a), Form::Both(one));
        aliases.sent(&a, Form::Both(one));
        assert_eq!(aliases.form(&a), Form::Alias(one));
        assert_eq!(aliases.form(&b), Form::Topic);
        aliases.set_used(false);
        assert_eq!(aliases.form(&a), Form::Topic);
        aliases.set_used(true);
        assert_eq!(aliases.form(&a), Form::Alias(one));
        assert_eq!(AliasesOut::new(0).form(&a), Form::Topic);
    }
}
