//! Permission files of mosquitto and VerneMQ as ours, which has mosquitto's format.
//!
//! In: the text of a file. Out: a text that our broker takes and that allows the same. What can't be said is left out when
//! it allows, and said more widely when it denies. Must never: allow what the other broker did not.
//!
//! What differs: in VerneMQ `topic` lines before the first `user` hold for everybody (ours: for anonymous clients), there
//! is no `deny` and no `readwrite`, and `%m` is the mountpoint.

use std::fmt::Write as _;

use viaduct_codec::TopicFilter;

use crate::directive::Directive;
use crate::report::{Place, Report};

/// Whose file it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect<'a> {
    Mosquitto,
    /// With the mountpoint of all listeners, if they have the same.
    Vernemq {
        mountpoint: Option<&'a str>,
    },
}

/// The file as ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Converted {
    pub(crate) text: String,
    /// Whether it is another text than before.
    pub(crate) changed: bool,
}

/// Whose lines these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    BeforeUsers,
    OfUser,
    /// Of a user that has no name.
    OfNobody,
}

/// Reads `text`, the file that `directive` names.
pub(crate) fn convert(
    directive: &Directive,
    file: &str,
    text: &str,
    dialect: Dialect<'_>,
    report: &mut Report,
) -> Converted {
    let mut converted = Converted::default();
    let mut part = Part::BeforeUsers;
    for (index, whole) in text.lines().enumerate() {
        let line = whole.trim();
        if line.is_empty() || line.starts_with('#') {
            let _ = writeln!(converted.text, "{whole}");
            continue;
        }
        let (word, rest) = line.split_once([' ', '\t']).map_or((line, ""), |(word, rest)| (word, rest.trim()));
        let result = match word {
            "user" if rest.is_empty() => {
                part = Part::OfNobody;
                Err("the user name is missing".to_owned())
            }
            "user" => {
                part = Part::OfUser;
                Ok((line.to_owned(), None))
            }
            "topic" | "pattern" if part == Part::OfNobody && word == "topic" => {
                Err("it belongs to a user without a name".to_owned())
            }
            "topic" | "pattern" => match dialect {
                Dialect::Mosquitto => of_mosquitto(line, word, rest),
                Dialect::Vernemq { mountpoint } => of_vernemq(word, rest, part, mountpoint),
            },
            _ => Err("a line begins with `user`, `topic` or `pattern`".to_owned()),
        };
        let note = match result {
            Ok((ours, remark)) => {
                converted.changed |= ours != line;
                let _ = writeln!(converted.text, "{ours}");
                remark
            }
            Err(why) => {
                converted.changed = true;
                let _ = writeln!(converted.text, "# not taken over: {line}");
                Some((why, "write it anew, if it is needed".to_owned()))
            }
        };
        if let Some((why, advice)) = note {
            let place = Place { file: file.into(), line: index + 1 };
            report.note(&place, format!("{}: {word}", directive.name), why, Some(advice));
        }
    }
    converted
}

/// A line of ours and what is to be said of it, or why there is none.
type Line = Result<(String, Option<(String, String)>), String>;

fn of_mosquitto(line: &str, word: &str, rest: &str) -> Line {
    let (access, filter) = match rest.split_once([' ', '\t']) {
        None => ("", rest),
        Some((access @ ("read" | "write" | "readwrite" | "deny"), filter)) => (access, filter.trim()),
        Some(_) => return Err("expected read, write, readwrite or deny before the topic".to_owned()),
    };
    check(filter)?;
    if word == "topic" || filter.split('/').all(|level| matches!(level, "%c" | "%u") || !has_name(level)) {
        return Ok((line.to_owned(), None));
    }
    let why = "a name stands for a whole level here, and this is only a part of one";
    if access != "deny" {
        return Err(why.to_owned());
    }
    let wider: Vec<&str> = filter.split('/').map(|level| if has_name(level) { "+" } else { level }).collect();
    let advice = "it denies every name at this level now; say it more closely if that is too much".to_owned();
    Ok((format!("pattern deny {}", wider.join("/")), Some((why.to_owned(), advice))))
}

fn of_vernemq(word: &str, rest: &str, part: Part, mountpoint: Option<&str>) -> Line {
    let (access, filter) = match rest.split_once([' ', '\t']) {
        Some((access @ ("read" | "write"), filter)) => (access, filter.trim()),
        Some(("deny" | "readwrite", _)) => {
            return Err("VerneMQ knows neither deny nor readwrite and took the word for a part of the topic".to_owned());
        }
        _ => ("readwrite", rest),
    };
    check(filter)?;
    if word == "topic" {
        let names = filter.split('/').any(has_name);
        return match part {
            Part::BeforeUsers if names => {
                Err("%c and %u mean themselves in a `topic` line, and for everybody there is only `pattern`".to_owned())
            }
            Part::BeforeUsers => Ok((format!("pattern {access} {filter}"), None)),
            Part::OfUser | Part::OfNobody => Ok((format!("topic {access} {filter}"), None)),
        };
    }
    let mut levels = Vec::new();
    for level in filter.split('/') {
        levels.push(match level {
            "%m" => mountpoint.ok_or("listeners have different mountpoints, and a rule here holds on all of them")?,
            "%c" | "%u" => level,
            _ if has_name(level) => return Err("%c and %u are a whole level or mean themselves".to_owned()),
            _ => level,
        });
    }
    let filter = levels.join("/");
    check(&filter)?;
    Ok((format!("pattern {access} {filter}"), None))
}

fn check(filter: &str) -> Result<(), String> {
    TopicFilter::new(filter).map(|_| ()).map_err(|error| format!("{filter:?} is no topic filter: {error}"))
}

fn has_name(level: &str) -> bool {
    level.contains("%c") || level.contains("%u")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, dialect: Dialect<'_>) -> (Converted, Vec<usize>) {
        let mut report = Report::default();
        let converted = convert(&Directive::implied("c", "acl_file", "a"), "a", text, dialect, &mut report);
        (converted, report.into_notes().iter().map(|note| note.place.line).collect())
    }

    #[test]
    fn a_file_of_mosquitto_is_ours() {
        let text =
            "# all\ntopic read public/#\n\nuser al bert\ntopic home/#\ntopic deny home/x\npattern write d/%c/#\n";
        let (converted, notes) = run(text, Dialect::Mosquitto);
        assert_eq!(converted, Converted { text: text.to_owned(), changed: false });
        assert!(notes.is_empty());
    }

    #[test]
    fn what_ours_can_not_say_never_allows_more() {
        let text =
            "pattern read d/x-%c/#\npattern deny d/x-%u/#\nuser\ntopic #\ntopic raed a\ntopics x\nuser a\ntopic a/#/b";
        let (converted, notes) = run(text, Dialect::Mosquitto);
        let rules: Vec<&str> = converted.text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(rules, ["pattern deny d/+/#", "user a"]);
        assert_eq!(notes, [1, 2, 3, 4, 5, 6, 8]);
    }

    #[test]
    fn lines_for_everybody_become_patterns() {
        let text = "topic read a\ntopic b/#\nuser u\ntopic write c\npattern %m/%c/%u\n";
        let (converted, notes) = run(text, Dialect::Vernemq { mountpoint: Some("mp") });
        let ours = "pattern read a\npattern readwrite b/#\nuser u\ntopic write c\npattern readwrite mp/%c/%u\n";
        assert_eq!(converted.text, ours);
        assert!(notes.is_empty());
        let (converted, notes) = run(text, Dialect::Vernemq { mountpoint: None });
        assert!(!converted.text.contains("mp") && notes == [5], "{converted:?}");
    }

    #[test]
    fn words_that_vernemq_does_not_know_allow_nothing() {
        let (converted, notes) =
            run("topic deny a\ntopic readwrite b\ntopic x/%c\n", Dialect::Vernemq { mountpoint: Some("") });
        assert!(converted.text.lines().all(|line| line.starts_with('#')), "{converted:?}");
        assert_eq!(notes, [1, 2, 3]);
    }
}
