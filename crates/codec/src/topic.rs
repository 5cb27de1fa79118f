//! Topic names and topic filters: checked once, valid for ever (MQTT 5.0 section 4.7).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// What is wrong with a topic name or a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// MQTT-4.7.3-1.
    #[error("it is empty")]
    Empty,
    /// MQTT-4.7.3-3.
    #[error("it is longer than 65,535 bytes")]
    TooLong,
    /// MQTT-4.7.3-2.
    #[error("it contains U+0000")]
    Null,
    /// MQTT-3.3.2-2: a topic name has no wildcards.
    #[error("a topic name may not contain the wildcard '{0}'")]
    Wildcard(char),
    /// MQTT-4.7.1-1.
    #[error("'#' must be the last level and stand alone in it")]
    MultiLevel,
    /// MQTT-4.7.1-2.
    #[error("'+' must stand alone in its level")]
    SingleLevel,
    /// MQTT-4.8.2-1 and -2.
    #[error(
        "a shared subscription is $share/<name>/<filter>, the name at least one character without '+', '#' and '/'"
    )]
    Share,
}

/// A checked topic name, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicRef<'a>(&'a str);

/// A checked topic name, owned and cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// A checked topic filter, borrowed. May be a shared one; see [`FilterRef::share`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterRef<'a>(&'a str);

/// A checked topic filter, owned and cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

/// The parts of a shared subscription's filter, `$share/<name>/<filter>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share<'a> {
    /// The share name.
    pub name: &'a str,
    /// What the group subscribes to.
    pub filter: FilterRef<'a>,
}

impl<'a> TopicRef<'a> {
    /// Checks a topic name: not empty, at most 65,535 bytes, no U+0000, no wildcard.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(_text: &'a str) -> Result<Self, TopicError> {
        todo!()
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it begins with `$`, so that filters that begin with a wildcard do not match it (MQTT-4.7.2-1).
    #[must_use]
    pub fn is_dollar(self) -> bool {
        self.0.starts_with('$')
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> TopicName {
        TopicName(self.0.into())
    }
}

impl TopicName {
    /// As [`TopicRef::new`], owned.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        TopicRef::new(text).map(TopicRef::to_owned)
    }

    /// The same name, borrowed.
    #[must_use]
    pub fn by_ref(&self) -> TopicRef<'_> {
        TopicRef(&self.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'a> FilterRef<'a> {
    /// Checks a topic filter, shared or not.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(_text: &'a str) -> Result<Self, TopicError> {
        todo!()
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The parts, when it is `$share/<name>/<filter>`.
    #[must_use]
    pub fn share(self) -> Option<Share<'a>> {
        let (name, filter) = self.0.strip_prefix("$share/")?.split_once('/')?;
        Some(Share { name, filter: FilterRef(filter) })
    }

    /// Whether it has a wildcard.
    #[must_use]
    pub fn has_wildcard(self) -> bool {
        self.0.contains(['+', '#'])
    }

    /// Whether it matches `topic`, the `$` rule included. A shared filter matches nothing: ask its
    /// [`Share::filter`]. For one filter and one topic; many filters belong in a trie.
    #[must_use]
    pub fn matches(self, _topic: TopicRef<'_>) -> bool {
        todo!()
    }

    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> TopicFilter {
        TopicFilter(self.0.into())
    }
}

impl TopicFilter {
    /// As [`FilterRef::new`], owned.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        FilterRef::new(text).map(FilterRef::to_owned)
    }

    /// The same filter, borrowed.
    #[must_use]
    pub fn by_ref(&self) -> FilterRef<'_> {
        FilterRef(&self.0)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for FilterRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
