//! Topic names and topic filters: checked once, valid for ever (MQTT 5.0 section 4.7).
//!
//! In: text. Out: types that can only hold what the rules allow, and whether one filter matches one topic. Nothing
//! here recurses, and the raw characters are compared, never a normal form (MQTT-4.7.3-4,
//! MQTT-4.7.3-4 of 3.1.1).

use std::fmt;
use std::sync::Arc;

use memchr::{memchr, memchr2_iter, memchr3};
use thiserror::Error;

/// What is wrong with a topic name or a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// MQTT-4.7.3-1, MQTT-4.7.3-1 of 3.1.1.
    #[error("it is empty")]
    Empty,
    /// MQTT-4.7.3-3, MQTT-4.7.3-3 of 3.1.1.
    #[error("it is longer than 65,535 bytes")]
    TooLong,
    /// MQTT-4.7.3-2, MQTT-4.7.3-2 of 3.1.1.
    #[error("it contains U+0000")]
    Null,
    /// MQTT-3.3.2-2, MQTT-3.3.2-2 of 3.1.1, MQTT-4.7.0-1, MQTT-4.7.1-1 of 3.1.1: a topic name has no wildcards.
    #[error("a topic name may not contain the wildcard '{0}'")]
    Wildcard(char),
    /// MQTT-4.7.1-1, MQTT-4.7.1-2 of 3.1.1.
    #[error("'#' must be the last level and stand alone in it")]
    MultiLevel,
    /// MQTT-4.7.1-2, MQTT-4.7.1-3 of 3.1.1.
    #[error("'+' must stand alone in its level")]
    SingleLevel,
    /// MQTT-4.8.2-1, MQTT-4.8.2-2.
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

/// How the filter of a shared subscription begins (MQTT-4.8.2-1). `$share` alone is an ordinary filter.
const SHARE_PREFIX: &str = "$share/";

impl<'a> TopicRef<'a> {
    /// Checks a topic name: not empty, at most 65,535 bytes, no U+0000, no wildcard.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_size(text)?;
        match memchr3(0, b'+', b'#', text.as_bytes()).and_then(|at| text.as_bytes().get(at)) {
            None => Ok(Self(text)),
            Some(0) => Err(TopicError::Null),
            Some(&wildcard) => Err(TopicError::Wildcard(char::from(wildcard))), // MQTT-3.3.2-2
        }
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
    pub fn new(text: &'a str) -> Result<Self, TopicError> {
        check_size(text)?;
        if memchr(0, text.as_bytes()).is_some() {
            return Err(TopicError::Null);
        }
        let plain = match text.strip_prefix(SHARE_PREFIX) {
            None => text,
            Some(rest) => match rest.split_once('/') {
                // MQTT-4.8.2-1, MQTT-4.8.2-2: both parts are there, and the name has no wildcard.
                Some((name, filter)) if !name.is_empty() && !filter.is_empty() && !name.contains(['+', '#']) => filter,
                _ => return Err(TopicError::Share),
            },
        };
        check_wildcards(plain)?;
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The parts, when it is `$share/<name>/<filter>`.
    #[must_use]
    pub fn share(self) -> Option<Share<'a>> {
        let (name, filter) = self.0.strip_prefix(SHARE_PREFIX)?.split_once('/')?;
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
    pub fn matches(self, topic: TopicRef<'_>) -> bool {
        if topic.is_dollar() && self.0.starts_with(['+', '#']) {
            return false; // MQTT-4.7.2-1, MQTT-4.7.2-1 of 3.1.1
        }
        if self.0.starts_with(SHARE_PREFIX) {
            return false;
        }
        let mut levels = topic.0.split('/');
        for wanted in self.0.split('/') {
            if wanted == "#" {
                return true; // what is left, and nothing at all: `a/#` matches `a`
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
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

/// MQTT-4.7.3-1, MQTT-4.7.3-3.
const fn check_size(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        1..=0xffff => Ok(()),
        _ => Err(TopicError::TooLong),
    }
}

/// Wildcards stand alone in their level, and `#` in the last one.
fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let bytes = filter.as_bytes();
    for at in memchr2_iter(b'+', b'#', bytes) {
        let begins_level = at == 0 || bytes.get(at - 1) == Some(&b'/');
        let after = bytes.get(at + 1);
        if bytes.get(at) == Some(&b'#') {
            if !begins_level || after.is_some() {
                return Err(TopicError::MultiLevel); // MQTT-4.7.1-1
            }
        } else if !begins_level || after.is_some_and(|&byte| byte != b'/') {
            return Err(TopicError::SingleLevel); // MQTT-4.7.1-2
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["t", "/", "a//b", "$SYS/x", "\u{feff}", "a b", "é/x", &"t".repeat(65_535)] {
            assert_eq!(TopicName::new(name).unwrap().as_str(), name);
        }
        assert_eq!(TopicName::new(""), Err(TopicError::Empty));
        assert_eq!(TopicName::new(&"t".repeat(65_536)), Err(TopicError::TooLong));
        assert_eq!(TopicName::new("a\0"), Err(TopicError::Null));
        assert_eq!(TopicName::new("a/+/b"), Err(TopicError::Wildcard('+')));
        assert_eq!(TopicName::new("a#"), Err(TopicError::Wildcard('#')));
    }

    #[test]
    fn wildcards_of_filters_stand_alone() {
        for filter in ["#", "+", "/", "a/#", "+/+", "/+", "+/", "a/+/b/#", "$SYS/#", "$share", "$shared/a"] {
            assert_eq!(TopicFilter::new(filter).unwrap().as_str(), filter);
        }
        for filter in ["a#", "a/#/b", "#/", "#/a", "##", "+#"] {
            assert!(
                matches!(TopicFilter::new(filter), Err(TopicError::MultiLevel | TopicError::SingleLevel)),
                "{filter}"
            );
        }
        for filter in ["a+", "+a", "a/b+", "++", "a/+b/c"] {
            assert_eq!(TopicFilter::new(filter), Err(TopicError::SingleLevel), "{filter}");
        }
        assert_eq!(TopicFilter::new(""), Err(TopicError::Empty));
        assert_eq!(TopicFilter::new("a\0/#"), Err(TopicError::Null));
    }

    #[test]
    fn a_shared_filter_has_a_name_and_a_filter() {
        let filter = TopicFilter::new("$share/g/a/+").unwrap();
        let share = filter.by_ref().share().unwrap();
        assert_eq!((share.name, share.filter.as_str()), ("g", "a/+"));
        assert_eq!(TopicFilter::new("$share/g//").unwrap().by_ref().share().unwrap().filter.as_str(), "/");
        for filter in ["$share/", "$share//t", "$share/g", "$share/g/", "$share/g+/t", "$share/#/t"] {
            assert_eq!(TopicFilter::new(filter), Err(TopicError::Share), "{filter}");
        }
        assert_eq!(TopicFilter::new("$share/g/a+"), Err(TopicError::SingleLevel));
        assert_eq!(TopicFilter::new("$share").unwrap().by_ref().share(), None);
    }

    #[test]
    fn a_filter_matches_what_section_4_7_says() {
        let matches = |filter: &str, topic: &str| {
            TopicFilter::new(filter).unwrap().by_ref().matches(TopicName::new(topic).unwrap().by_ref())
        };
        for (filter, topic) in [
            ("a/#", "a"),
            ("a/#", "a/b/c"),
            ("#", "/"),
            ("#", "a"),
            ("+", "a"),
            ("+/+", "/x"),
            ("/+", "/x"),
            ("a/+/c", "a//c"),
            ("a//b", "a//b"),
            ("+/a/#", "é/a"),
            ("$SYS/#", "$SYS/x"),
            ("$SYS/+", "$SYS/x"),
        ] {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        for (filter, topic) in [
            ("+", "/x"),
            ("+", "a/b"),
            ("a", "A"),
            ("a/b", "a//b"),
            ("a", "/a"),
            ("a/", "a"),
            ("a/+", "a"),
            ("a/#", "ab"),
            ("#", "$SYS/x"),
            ("+/x", "$SYS/x"),
            ("+/#", "$foo/x"),
            ("$share/g/t", "t"),
            ("\u{c5}", "A\u{30a}"),
        ] {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }

    #[test]
    fn the_deepest_topic_needs_no_stack() {
        let deep = "/".repeat(65_535);
        let filter = format!("{}#", "+/".repeat(32_767));
        let topic = TopicName::new(&deep).unwrap();
        assert!(TopicFilter::new(&filter).unwrap().by_ref().matches(topic.by_ref()));
        assert!(TopicFilter::new(&deep).unwrap().by_ref().matches(topic.by_ref()));
    }
}
