//! The permissions file in mosquitto's format, and the verdicts.
//!
//! In: its text; then who, what and where. Out: allowed or not. `topic` lines before the first `user` line hold for
//! anonymous clients, those behind it for that user, and `pattern` lines for everybody. Denials come before permissions
//! within a client's own lines and within the patterns, and a client's own lines before the patterns. What no line
//! allows is denied; so a file without a line denies everything (CVE-2018-12550).

use std::collections::HashMap;

use viaduct_codec::{FilterRef, TopicFilter};
use viaduct_engine::{Authorizer, Grant, Who};

use super::BadLine;
use super::acl::Pattern;

/// What a line allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    ReadWrite,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Reading,
    Writing,
}

#[derive(Clone, Debug)]
struct Rule {
    access: Access,
    pattern: Pattern,
}

/// Rules of one kind, denials apart.
#[derive(Clone, Debug, Default)]
struct Rules {
    denials: Vec<Pattern>,
    permissions: Vec<Rule>,
}

/// The permissions of all clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct AclFile {
    anonymous: Rules,
    users: HashMap<String, Rules>,
    patterns: Rules,
}

impl AclFile {
    /// Reads the whole file or refuses it.
    pub(crate) fn parse(text: &str) -> Result<Self, BadLine> {
        let mut file = Self::default();
        let mut user: Option<String> = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |what: String| BadLine { line: index + 1, what };
            let (word, rest) = line.split_once([' ', '\t']).map_or((line, ""), |(word, rest)| (word, rest.trim()));
            match word {
                "topic" => {
                    let (access, filter) = access_and_filter(rest).map_err(bad)?;
                    let rules = match &user {
                        None => &mut file.anonymous,
                        Some(user) => file.users.entry(user.clone()).or_default(),
                    };
                    rules.add(access, Pattern::literal(filter));
                }
                "pattern" => {
                    let (access, filter) = access_and_filter(rest).map_err(bad)?;
                    file.patterns.add(access, Pattern::with_names(filter).map_err(bad)?);
                }
                "user" if rest.is_empty() => return Err(bad("the user name is missing".to_owned())),
                "user" => {
                    // The section counts although no line may follow.
                    file.users.entry(rest.to_owned()).or_default();
                    user = Some(rest.to_owned());
                }
                _ => return Err(bad(format!("expected `topic`, `user` or `pattern`, found {word:?}"))),
            }
        }
        Ok(file)
    }

    fn own(&self, who: &Who<'_>) -> Option<&Rules> {
        match who.username {
            None => Some(&self.anonymous),
            Some(name) => self.users.get(name),
        }
    }

    fn allows(&self, who: &Who<'_>, topic: &str, doing: Doing) -> bool {
        if let Some(own) = self.own(who) {
            if own.denials.iter().any(|pattern| pattern.matches_topic(who, topic)) {
                return false;
            }
            if own.permissions.iter().any(|rule| rule.access.is_for(doing) && rule.pattern.matches_topic(who, topic)) {
                return true;
            }
        }
        !self.patterns.denials.iter().any(|pattern| pattern.lacks_a_name(who) || pattern.matches_topic(who, topic))
            && self.patterns.permissions.iter().any(|rule| {
                rule.access.is_for(doing) && !rule.pattern.lacks_a_name(who) && rule.pattern.matches_topic(who, topic)
            })
    }
}

impl Authorizer for AclFile {
    fn is_open(&self) -> bool {
        false
    }

    fn publish(&self, who: &Who<'_>, topic: &str) -> bool {
        self.allows(who, topic, Doing::Writing)
    }

    fn read(&self, who: &Who<'_>, topic: &str) -> bool {
        self.allows(who, topic, Doing::Reading)
    }

    fn subscribe(&self, who: &Who<'_>, filter: FilterRef<'_>) -> Grant {
        let filter = filter.as_str();
        let own = self.own(who);
        let permissions = || {
            own.into_iter().flat_map(|own| own.permissions.iter().map(|rule| (rule, true))).chain(
                self.patterns
                    .permissions
                    .iter()
                    .filter(|rule| !rule.pattern.lacks_a_name(who))
                    .map(|rule| (rule, false)),
            )
        };
        let own_denial = own.is_some_and(|own| own.denials.iter().any(|pattern| pattern.overlaps(who, filter)));
        let pattern_denial =
            self.patterns.denials.iter().any(|pattern| pattern.lacks_a_name(who) || pattern.overlaps(who, filter));
        let mut some = false;
        for (rule, is_own) in permissions().filter(|(rule, _)| rule.access.is_for(Doing::Reading)) {
            // A client's own permission comes before the denials of patterns.
            let denied = own_denial || (pattern_denial && !is_own);
            if !denied && rule.pattern.covers(who, filter) {
                return Grant::Granted;
            }
            some |= rule.pattern.overlaps(who, filter);
        }
        if some && !self.denies_all(who, filter) { Grant::Checked } else { Grant::Denied }
    }
}

impl AclFile {
    /// Whether a denial of the client's own lines covers the whole filter, so that nothing can be left of it.
    fn denies_all(&self, who: &Who<'_>, filter: &str) -> bool {
        self.own(who).is_some_and(|own| own.denials.iter().any(|pattern| pattern.covers(who, filter)))
    }
}

impl Rules {
    fn add(&mut self, access: Access, pattern: Pattern) {
        match access {
            Access::Deny => self.denials.push(pattern),
            Access::Read | Access::Write | Access::ReadWrite => self.permissions.push(Rule { access, pattern }),
        }
    }
}

impl Access {
    const fn is_for(self, doing: Doing) -> bool {
        matches!((self, doing), (Self::ReadWrite, _) | (Self::Read, Doing::Reading) | (Self::Write, Doing::Writing))
    }
}

/// `[read|write|readwrite|deny] filter`; one word alone is the filter.
fn access_and_filter(text: &str) -> Result<(Access, &str), String> {
    let (access, filter) = match text.split_once([' ', '\t']) {
        None => (Access::ReadWrite, text),
        Some((word, filter)) => {
            let access = match word {
                "read" => Access::Read,
                "write" => Access::Write,
                "readwrite" => Access::ReadWrite,
                "deny" => Access::Deny,
                _ => return Err(format!("expected read, write, readwrite or deny, found {word:?}")),
            };
            (access, filter.trim_start())
        }
    };
    TopicFilter::new(filter).map_err(|error| format!("the topic {filter:?}: {error}"))?;
    Ok((access, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# what anonymous clients may
topic read public/#
topic write in-tray

user alice
topic readwrite home/#
topic deny home/secret
topic read $SYS/#

user bob
topic readwrite home/bob with spaces
topic write log/#
topic deny #

pattern readwrite dev/%c/#
pattern write user/%u/up
pattern deny dev/+/locked
";

    fn file() -> AclFile {
        AclFile::parse(FILE).unwrap()
    }

    fn who<'a>(client_id: &'a str, username: Option<&'a str>) -> Who<'a> {
        Who { client_id, username }
    }

    #[test]
    fn lines_before_the_first_user_are_for_anonymous_clients_only() {
        let file = file();
        assert!(file.read(&who("c", None), "public/x"));
        assert!(!file.publish(&who("c", None), "public/x"));
        assert!(file.publish(&who("c", None), "in-tray"));
        assert!(!file.read(&who("c", Some("alice")), "public/x"));
        assert!(!file.read(&who("c", Some("carol")), "public/x"));
    }

    #[test]
    fn a_denial_wins_over_permissions_of_the_same_section_in_any_order() {
        let file = file();
        let alice = who("c", Some("alice"));
        assert!(file.read(&alice, "home/kitchen"));
        assert!(!file.read(&alice, "home/secret"));
        assert!(!file.publish(&alice, "home/secret"));
        assert!(!file.publish(&who("c", Some("bob")), "log/x"), "deny comes first although it is last in the file");
    }

    #[test]
    fn patterns_are_for_everybody_and_stand_for_whole_names() {
        let file = file();
        for username in [None, Some("alice"), Some("carol")] {
            assert!(file.publish(&who("c1", username), "dev/c1/up"));
            assert!(!file.publish(&who("c1", username), "dev/c2/up"));
            assert!(!file.publish(&who("c1", username), "dev/c1/locked"));
        }
        assert!(file.publish(&who("c", Some("carol")), "user/carol/up"));
        assert!(!file.read(&who("c", Some("carol")), "user/carol/up"));
        assert!(!file.publish(&who("c", None), "user//up"), "an anonymous client has no user name to stand for %u");
    }

    #[test]
    fn names_with_topic_syntax_open_nothing() {
        let file = AclFile::parse("pattern readwrite dev/%c/#\npattern readwrite u/%u").unwrap();
        for name in ["+", "#", "a/b", "+/#"] {
            assert!(!file.read(&who(name, Some(name)), "dev/other/x"), "{name}");
            assert!(!file.read(&who(name, Some(name)), &format!("dev/{name}/x")), "{name}");
            assert!(!file.read(&who("c", Some(name)), "u/other"), "{name}");
            assert_eq!(file.subscribe(&who(name, None), FilterRef::new("dev/#").unwrap()), Grant::Denied, "{name}");
        }
    }

    #[test]
    fn a_denying_pattern_that_can_not_be_filled_in_denies() {
        let file = AclFile::parse("pattern deny dev/%c/private\npattern readwrite #").unwrap();
        assert!(file.read(&who("c", None), "x"));
        assert!(!file.read(&who("c", None), "dev/c/private"));
        assert!(!file.read(&who("a/b", None), "x"));
    }

    #[test]
    fn dollar_topics_need_a_line_that_begins_with_a_dollar() {
        let file = AclFile::parse("topic #").unwrap();
        assert!(file.read(&who("c", None), "a"));
        assert!(!file.read(&who("c", None), "$SYS/broker/version"));
        let file = AclFile::parse("topic read $SYS/#").unwrap();
        assert!(file.read(&who("c", None), "$SYS/broker/version"));
    }

    #[test]
    fn an_empty_file_denies_everything() {
        for text in ["", "# nothing\n\n"] {
            let file = AclFile::parse(text).unwrap();
            assert!(!file.read(&who("c", None), "a"));
            assert!(!file.publish(&who("c", Some("u")), "a"));
            assert_eq!(file.subscribe(&who("c", None), FilterRef::new("#").unwrap()), Grant::Denied);
        }
    }

    #[test]
    fn subscriptions_are_granted_checked_or_denied() {
        let file = file();
        let grant = |who: &Who<'_>, filter: &str| file.subscribe(who, FilterRef::new(filter).unwrap());
        let alice = who("c1", Some("alice"));
        assert_eq!(grant(&alice, "home/kitchen/#"), Grant::Granted);
        assert_eq!(grant(&alice, "home/#"), Grant::Checked, "home/secret is denied");
        assert_eq!(grant(&alice, "home/secret"), Grant::Denied);
        assert_eq!(grant(&alice, "#"), Grant::Checked);
        assert_eq!(grant(&alice, "office/#"), Grant::Denied);
        assert_eq!(grant(&alice, "$SYS/broker/#"), Grant::Granted);
        assert_eq!(grant(&alice, "dev/c1/up"), Grant::Granted);
        assert_eq!(grant(&alice, "dev/c1/#"), Grant::Checked);
        assert_eq!(grant(&alice, "dev/c2/#"), Grant::Denied);
        assert_eq!(grant(&who("c", None), "public/#"), Grant::Granted);
        assert_eq!(grant(&who("c", None), "in-tray"), Grant::Denied, "writing is not reading");
    }

    #[test]
    fn a_bad_line_refuses_the_file_with_its_number() {
        for (text, line, why) in [
            ("topic read a/b\ntopics x", 2, "found \"topics\""),
            ("topic raed a/b", 1, "found \"raed\""),
            ("topic", 1, "empty"),
            ("topic read a/#/b", 1, "'#'"),
            ("pattern read a/%cx", 1, "whole level"),
            ("user", 1, "missing"),
        ] {
            let error = AclFile::parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.what.contains(why), "{text:?}: {}", error.what);
        }
    }
}
