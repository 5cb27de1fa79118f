//! Topic rules: what one rule matches, covers and overlaps.
//!
//! In: the text of a rule, a client's name and user name, a topic name or filter. Out: yes or no. Must never: let a name
//! that contains topic syntax take part in a pattern (CVE-2017-7650).

use viaduct_engine::Who;

/// One level of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    /// `+`
    Any,
    /// `#`
    Rest,
    /// `%c`
    ClientId,
    /// `%u`
    Username,
}

/// A topic filter in which `%c` and `%u` may stand for a whole level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Box<[Part]>,
}

/// What a name can't have in it to stand for one level.
fn can_stand_for_a_level(name: &str) -> bool {
    !name.contains(['+', '#', '/', '\0'])
}

impl Pattern {
    /// Reads a checked filter literally; `%c` and `%u` mean themselves.
    pub(crate) fn literal(filter: &str) -> Self {
        Self { parts: filter.split('/').map(Part::plain).collect() }
    }

    /// Reads a checked filter in which `%c` and `%u` stand for names.
    ///
    /// # Errors
    /// One of them is only a part of its level.
    pub(crate) fn with_names(filter: &str) -> Result<Self, String> {
        let parts = filter.split('/').map(|level| match level {
            "%c" => Ok(Part::ClientId),
            "%u" => Ok(Part::Username),
            _ if level.contains("%c") || level.contains("%u") => {
                Err(format!("%c and %u stand for a whole level, found {level:?}"))
            }
            _ => Ok(Part::plain(level)),
        });
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// Whether it needs a name that `who` does not have or that can't stand for a level.
    pub(crate) fn lacks_a_name(&self, who: &Who<'_>) -> bool {
        self.parts.iter().any(|part| match part {
            Part::ClientId => !can_stand_for_a_level(who.client_id),
            Part::Username => !who.username.is_some_and(can_stand_for_a_level),
            Part::Literal(_) | Part::Any | Part::Rest => false,
        })
    }

    /// Whether `topic` is meant. The caller has made sure that no name is lacking.
    pub(crate) fn matches(&self, who: &Who<'_>, topic: &str) -> bool {
        if topic.starts_with('$') && self.begins_with_wildcard() {
            return false;
        }
        let mut levels = topic.split('/');
        for part in &self.parts {
            if *part == Part::Rest {
                return true;
            }
            let Some(level) = levels.next() else { return false };
            if !part.fits(who, level) {
                return false;
            }
        }
        levels.next().is_none()
    }

    /// As [`Pattern::matches`], with `#` also meaning its parent level, as MQTT has it.
    pub(crate) fn matches_topic(&self, who: &Who<'_>, topic: &str) -> bool {
        if self.matches(who, topic) {
            return true;
        }
        // "a/#" means "a" too (MQTT 5.0 section 4.7.1.2).
        let Some((Part::Rest, parent)) = self.parts.split_last() else { return false };
        if parent.is_empty() || (topic.starts_with('$') && self.begins_with_wildcard()) {
            return false;
        }
        topic.split('/').count() == parent.len()
            && topic.split('/').zip(parent).all(|(level, part)| part.fits(who, level))
    }

    /// Whether there is a topic that both it and `filter` mean.
    pub(crate) fn overlaps(&self, who: &Who<'_>, filter: &str) -> bool {
        if (filter.starts_with('$') && self.begins_with_wildcard())
            || (filter.starts_with(['+', '#']) && self.begins_with_dollar())
        {
            return false;
        }
        let mut levels = filter.split('/');
        for (index, part) in self.parts.iter().enumerate() {
            match levels.next() {
                Some("#") => return true,
                Some(_) if *part == Part::Rest => return true,
                Some("+") => {}
                Some(level) if part.fits(who, level) => {}
                Some(_) => return false,
                // The rule is longer; only "#" right behind means the same parent.
                None => return *part == Part::Rest && index > 0,
            }
        }
        // The filter is longer; only "#" right behind means the same parent.
        levels.next().is_none_or(|level| level == "#")
    }

    /// Whether every topic that `filter` means is meant by it too.
    pub(crate) fn covers(&self, who: &Who<'_>, filter: &str) -> bool {
        if self.begins_with_wildcard() && filter.starts_with('$') {
            return false;
        }
        let mut levels = filter.split('/');
        for (index, part) in self.parts.iter().enumerate() {
            match (part, levels.next()) {
                (Part::Rest, Some(_)) => return true,
                (Part::Rest, None) => return index > 0,
                (_, None | Some("#")) => return false,
                (Part::Any, Some(_)) => {}
                (_, Some("+")) => return false,
                (part, Some(level)) if part.fits(who, level) => {}
                (_, Some(_)) => return false,
            }
        }
        levels.next().is_none()
    }

    fn begins_with_wildcard(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Any | Part::Rest))
    }

    fn begins_with_dollar(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Literal(text)) if text.starts_with('$'))
    }
}

impl Part {
    fn plain(level: &str) -> Self {
        match level {
            "+" => Self::Any,
            "#" => Self::Rest,
            _ => Self::Literal(level.into()),
        }
    }

    /// Whether it means the literal `level`.
    fn fits(&self, who: &Who<'_>, level: &str) -> bool {
        match self {
            Self::Literal(text) => &**text == level,
            Self::Any | Self::Rest => true,
            Self::ClientId => who.client_id == level,
            Self::Username => who.username == Some(level),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who<'_> = Who { client_id: "c1", username: Some("u1") };

    fn pattern(text: &str) -> Pattern {
        Pattern::with_names(text).unwrap()
    }

    #[test]
    fn a_rule_matches_as_a_subscription_does() {
        for (rule, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("+/#", "a", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/#", "$SYS", true),
            ("dev/%c/up", "dev/c1/up", true),
            ("dev/%c/up", "dev/c2/up", false),
            ("%u/#", "u1", true),
            ("%u/#", "u2/x", false),
        ] {
            assert_eq!(pattern(rule).matches_topic(&WHO, topic), expected, "{rule} {topic}");
        }
    }

    #[test]
    fn overlap_means_that_some_topic_fits_both() {
        for (rule, filter, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/+", true),
            ("a/b", "#", true),
            ("a/b", "a/b/#", true),
            ("a/b", "a/b/+", false),
            ("a/b", "a/c", false),
            ("a/+/c", "+/b/c", true),
            ("a/#", "a", true),
            ("a/#", "b/#", false),
            ("a/#", "a/+/c", true),
            ("#", "x/y", true),
            ("#", "$SYS/#", false),
            ("$SYS/#", "#", false),
            ("$SYS/#", "$SYS/+", true),
            ("a/b/c", "a/+", false),
            ("%c/in", "c1/+", true),
            ("%c/in", "c2/+", false),
        ] {
            assert_eq!(pattern(rule).overlaps(&WHO, filter), expected, "{rule} {filter}");
        }
    }

    #[test]
    fn cover_means_that_every_topic_of_the_filter_fits() {
        for (rule, filter, expected) in [
            ("a/#", "a/b", true),
            ("a/#", "a", true),
            ("a/#", "a/+/#", true),
            ("a/#", "#", false),
            ("a/+", "a/b", true),
            ("a/+", "a/+", true),
            ("a/+", "a/#", false),
            ("a/b", "a/+", false),
            ("#", "a/#", true),
            ("#", "$SYS/#", false),
            ("+/+", "a/#", false),
            ("a/b/#", "a/b", true),
        ] {
            assert_eq!(pattern(rule).covers(&WHO, filter), expected, "{rule} {filter}");
        }
    }

    #[test]
    fn names_with_topic_syntax_never_stand_for_a_level() {
        for name in ["+", "#", "a/b", "a+", "x#"] {
            let who = Who { client_id: name, username: Some("u") };
            assert!(pattern("d/%c").lacks_a_name(&who), "{name}");
            assert!(!pattern("d/%u").lacks_a_name(&who), "{name}");
        }
        assert!(pattern("d/%u").lacks_a_name(&Who { client_id: "c", username: None }));
        assert!(Pattern::with_names("d/x%c").is_err());
    }
}
