//! Our configuration while it is put together, and its text.
//!
//! In: keys and values with the line that they come from. Out: TOML. Must never: let a text of the other side end a string
//! or a comment.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::directive::Directive;
use crate::report::Note;
use crate::request::Request;

/// The column at which the origin of a key begins, where the line is not longer.
const ORIGIN: usize = 44;

/// One key.
#[derive(Clone, Debug)]
struct Entry {
    key: &'static str,
    /// As TOML.
    value: String,
    origin: String,
}

/// The keys of one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    entries: Vec<Entry>,
}

impl Section {
    /// Sets a key to a TOML value because of `directive`; what was there is replaced.
    pub(crate) fn set(&mut self, key: &'static str, value: impl Into<String>, directive: &Directive) {
        let Directive { place, name, .. } = directive;
        let origin = if place.line == 0 { name.clone() } else { format!("{place} {name}") };
        self.put(key, value.into(), origin);
    }

    /// Sets a key for a reason of our own.
    pub(crate) fn because(&mut self, key: &'static str, value: impl Into<String>, why: &str) {
        self.put(key, value.into(), why.to_owned());
    }

    fn put(&mut self, key: &'static str, value: String, origin: String) {
        self.entries.retain(|entry| entry.key != key);
        self.entries.push(Entry { key, value, origin });
    }

    /// The TOML value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn render(&self, header: &str, text: &mut String) {
        let _ = writeln!(text, "\n{header}");
        for Entry { key, value, origin } in &self.entries {
            let setting = format!("{key} = {value}");
            let _ = match origin.as_str() {
                "" => writeln!(text, "{setting}"),
                _ => writeln!(text, "{setting:<ORIGIN$} # {}", one_line(origin)),
            };
        }
    }
}

/// `[[listener]]`.
#[derive(Clone, Debug)]
pub(crate) struct ListenerOut {
    pub(crate) name: String,
    pub(crate) bind: SocketAddr,
    /// What the line said that made it.
    pub(crate) origin: Directive,
    pub(crate) anonymous: bool,
    /// Whether the user name comes from a certificate.
    pub(crate) by_certificate: bool,
    pub(crate) section: Section,
    pub(crate) tls: Option<Section>,
}

/// `[[bridge]]`.
#[derive(Clone, Debug)]
pub(crate) struct BridgeOut {
    pub(crate) name: String,
    pub(crate) origin: Directive,
    pub(crate) section: Section,
    pub(crate) tls: Section,
    pub(crate) queue: Section,
    pub(crate) remote: Section,
    pub(crate) topics: Vec<Section>,
}

/// The whole configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) node: Section,
    pub(crate) log: Section,
    pub(crate) listeners: Vec<ListenerOut>,
    pub(crate) limits: Section,
    pub(crate) session: Section,
    pub(crate) retained: Section,
    pub(crate) store: Section,
    pub(crate) auth: Section,
    pub(crate) admin: Section,
    pub(crate) sys: Section,
    pub(crate) bridges: Vec<BridgeOut>,
}

impl Output {
    /// The text of `broker.toml`.
    pub(crate) fn render(&self, request: &Request<'_>, notes: &[Note]) -> String {
        let mut text = format!(
            "# Made from {} by `viaduct import {}`.\n\
             # Behind each key stands where it comes from. What is not here has our default: docs/configuration.md.\n",
            one_line(request.file),
            request.origin.name().to_ascii_lowercase(),
        );
        let plain = |header: &str, section: &Section, text: &mut String| {
            if !section.is_empty() {
                section.render(header, text);
            }
        };
        plain("[node]", &self.node, &mut text);
        plain("[log]", &self.log, &mut text);
        for listener in &self.listeners {
            listener.render(&mut text);
        }
        plain("[limits]", &self.limits, &mut text);
        plain("[session]", &self.session, &mut text);
        plain("[retained]", &self.retained, &mut text);
        plain("[store]", &self.store, &mut text);
        plain("[auth]", &self.auth, &mut text);
        plain("[admin]", &self.admin, &mut text);
        plain("[sys]", &self.sys, &mut text);
        for bridge in &self.bridges {
            bridge.render(&mut text);
        }
        if !notes.is_empty() {
            text.push_str("\n# What is not taken over as it was:\n");
            for note in notes {
                let _ = writeln!(text, "# - {}", one_line(&note.to_string()));
            }
        }
        text
    }
}

impl ListenerOut {
    fn render(&self, text: &mut String) {
        let mut whole = Section::default();
        whole.set("name", quoted(&self.name), &self.origin);
        whole.put("bind", quoted(&self.bind.to_string()), String::new());
        whole.put("allow_anonymous", self.anonymous.to_string(), String::new());
        whole.entries.extend(self.section.entries.iter().cloned());
        whole.render("[[listener]]", text);
        if let Some(tls) = &self.tls {
            tls.render("[listener.tls]", text);
        }
    }
}

impl BridgeOut {
    fn render(&self, text: &mut String) {
        let mut whole = Section::default();
        whole.set("name", quoted(&self.name), &self.origin);
        whole.entries.extend(self.section.entries.iter().cloned());
        whole.render("[[bridge]]", text);
        let tables = [("[bridge.tls]", &self.tls), ("[bridge.queue]", &self.queue), ("[bridge.remote]", &self.remote)];
        for (header, section) in tables {
            if !section.is_empty() {
                section.render(header, text);
            }
        }
        for topic in &self.topics {
            topic.render("[[bridge.topic]]", text);
        }
    }
}

/// `text` as a TOML string.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// `texts` as a TOML list.
pub(crate) fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// Seconds as a duration.
pub(crate) fn seconds(seconds: impl std::fmt::Display) -> String {
    format!("\"{seconds}s\"")
}

/// What can stand in a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A name as ours have to be: 1 to 64 printable bytes without `/`, `+` and `#`, and not one of `taken`.
pub(crate) fn name<'a>(wanted: &str, taken: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut clean = String::new();
    for character in wanted.trim().chars() {
        let fits = !character.is_control() && !matches!(character, '/' | '+' | '#');
        let character = if fits { character } else { '-' };
        // Room for a number behind it.
        if clean.len() + character.len_utf8() > 56 {
            break;
        }
        clean.push(character);
    }
    let clean = match clean.trim() {
        "" => "unnamed".to_owned(),
        clean => clean.to_owned(),
    };
    let is_free = |name: &str| !taken.clone().any(|other| other == name);
    if is_free(&clean) {
        return clean;
    }
    // There are fewer names than numbers.
    (2_u32..).map(|number| format!("{clean}-{number}")).find(|name| is_free(name)).unwrap_or(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_string_or_a_comment() {
        assert_eq!(quoted("a\"\n\\"), "\"a\\\"\\u000A\\\\\"");
        assert_eq!(one_line("a\nb"), "a b");
        let mut section = Section::default();
        let mut directive = Directive::implied("f\n[evil]", "x\ny", "");
        directive.place.line = 1;
        section.set("key", "1", &directive);
        let mut text = String::new();
        section.render("[t]", &mut text);
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn names_are_made_to_fit() {
        let none: [&str; 0] = [];
        assert_eq!(name("a/b", none.into_iter()), "a-b");
        assert_eq!(name("  ", none.into_iter()), "unnamed");
        assert_eq!(name(&"x".repeat(100), none.into_iter()).len(), 56);
        assert_eq!(name("a", ["a", "a-2"].into_iter()), "a-3");
    }
}
