//! VerneMQ's configuration as ours.
//!
//! In: the main file and those that it names. Out: our configuration. The options are tables (`options`, `part_options`);
//! what has no equal is noted from there, and here is only what becomes something.

mod bridge;
mod general;
mod lines;
mod listener;
mod options;
mod part_options;

use std::collections::BTreeMap;

use crate::acl::Dialect;
use crate::auth;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::finish;
use crate::option::Opt;
use crate::report::Report;

use options::GENERAL;
use part_options::{BRIDGE, LISTENER};

/// The kinds of listeners.
const PROTOCOLS: [&str; 8] = ["tcp", "ssl", "ws", "wss", "vmq", "vmqs", "http", "https"];
/// Listeners and bridges that one file may have.
const BLOCKS: usize = 2000;

/// The tables, with the title and the beginning of their options in the matrix.
pub(crate) fn tables() -> [(&'static str, &'static str, &'static [Opt]); 3] {
    [
        ("VerneMQ: the broker", "", GENERAL),
        ("VerneMQ: listeners (`listener.`, `listener.PROTOCOL.`, `listener.PROTOCOL.NAME.`)", "listener.", LISTENER),
        ("VerneMQ: bridges (`vmq_bridge.tcp.NAME.`, `vmq_bridge.ssl.NAME.`)", "vmq_bridge.ssl.NAME.", BRIDGE),
    ]
}

/// Protocol and name, both empty where a setting is for more than one.
type Which = (String, String);

/// The lines, sorted.
#[derive(Debug, Default)]
struct Parts {
    general: Vec<Directive>,
    /// Listeners, in the order of the file.
    listeners: Vec<(Which, Directive)>,
    /// Their options, by protocol, name and option.
    listener_options: BTreeMap<(Which, String), Directive>,
    /// Bridges, in the order of the file; the protocol is tcp or ssl.
    bridges: Vec<(Which, Directive)>,
    /// Their options.
    bridge_options: BTreeMap<(Which, String), Directive>,
}

impl Parts {
    /// The option that holds for a listener: its own, that of its protocol, that of all.
    fn of_listener(&self, which: &Which, option: &str) -> Option<&Directive> {
        let (protocol, _) = which;
        let closest = [which.clone(), (protocol.clone(), String::new()), Which::default()];
        closest.into_iter().find_map(|which| self.listener_options.get(&(which, option.to_owned())))
    }
}

/// See [`crate::import`].
pub(crate) fn import(desk: &mut Desk<'_>) {
    let parts = sort(lines::read(desk), &mut desk.report);
    let mut general = general::read(&parts, desk);
    let mut admin = None;
    for (which, directive) in &parts.listeners {
        listener::add(&parts, which, directive, &mut general, &mut admin, desk);
    }
    finish::some_listener(desk);
    finish::admin(admin, desk);
    let mountpoint = match general.mountpoints.as_slice() {
        [] => Some(""),
        [only] => Some(only.as_str()),
        _ => None,
    };
    let dialect = Dialect::Vernemq { mountpoint };
    auth::finish(&general.auth, dialect, desk);
    for (which, directive) in &parts.bridges {
        bridge::add(&parts, which, directive, general.bridges, desk);
    }
}

/// The row of an option in a table: the one that says most of it.
fn find(table: &'static [Opt], name: &str) -> Option<&'static Opt> {
    table.iter().find(|opt| opt.name == name).or_else(|| table.iter().find(|opt| fits(opt.name, name)))
}

/// Whether `name` is one of those that `pattern` means: `$x` is any part, a last `**` any number of parts.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = name.split('.');
    for wanted in pattern.split('.') {
        match (wanted, parts.next()) {
            ("**", Some(_)) => return true,
            (wanted, Some(part)) if wanted == part || (wanted.starts_with('$') && !part.is_empty()) => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// The row that a line means; `None` for one that opens a listener or a bridge too.
#[cfg(test)]
pub(crate) fn option(name: &str) -> Option<&'static Opt> {
    let last = |rest: &str, parts: usize| rest.splitn(parts + 1, '.').nth(parts).map(str::to_owned);
    if let Some(rest) = name.strip_prefix("listener.") {
        let options = [Some(rest.to_owned()), last(rest, 1), last(rest, 2)];
        return options.into_iter().flatten().find_map(|option| find(LISTENER, &option));
    }
    match name.strip_prefix("vmq_bridge.").and_then(|rest| last(rest, 2)) {
        Some(option) => find(BRIDGE, &option),
        None => find(GENERAL, name),
    }
}

/// Puts each line where it belongs; what has no equal is noted and goes no further.
fn sort(directives: Vec<Directive>, report: &mut Report) -> Parts {
    let mut parts = Parts::default();
    for directive in directives {
        if parts.listeners.len() + parts.bridges.len() > BLOCKS {
            report.wrong(&directive.place, format!("more than {BLOCKS} listeners and bridges"));
            return parts;
        }
        let name = directive.name.clone();
        let sorted = if let Some(rest) = name.strip_prefix("listener.") {
            of_listener(rest, directive, &mut parts, report)
        } else if let Some(rest) = name.strip_prefix("vmq_bridge.").filter(|rest| rest.contains('.')) {
            of_bridge(rest, directive, &mut parts, report)
        } else if let Some(opt) = find(GENERAL, &name) {
            opt.is_ours(&directive, report);
            parts.general.push(directive);
            Ok(())
        } else {
            Err(directive)
        };
        if let Err(unknown) = sorted {
            let advice = "look up what it does there; it may belong to a plugin of its own";
            report.act(&unknown, "it is no option of VerneMQ 1.x or 2.x", advice);
        }
    }
    parts
}

/// A line that begins with `listener.`; back if it is none that there is.
fn of_listener(rest: &str, directive: Directive, parts: &mut Parts, report: &mut Report) -> Result<(), Directive> {
    let (first, more) = rest.split_once('.').unwrap_or((rest, ""));
    let (which, option) = if !PROTOCOLS.contains(&first) {
        (Which::default(), rest)
    } else if find(LISTENER, more).is_some() {
        ((first.to_owned(), String::new()), more)
    } else {
        let (name, option) = more.split_once('.').unwrap_or((more, ""));
        if name.is_empty() {
            return Err(directive);
        }
        let which = (first.to_owned(), name.to_owned());
        if option.is_empty() {
            parts.listeners.push((which, directive));
            return Ok(());
        }
        (which, option)
    };
    let Some(opt) = find(LISTENER, option) else { return Err(directive) };
    match which.0.as_str() {
        "vmq" | "vmqs" => report.fine(&directive, "only a cluster needs it, and this is one node"),
        "http" | "https" => {
            report.fine(&directive, "metrics, health and API are on admin.bind and have no such setting")
        }
        _ => {
            opt.is_ours(&directive, report);
            parts.listener_options.insert((which, option.to_owned()), directive);
        }
    }
    Ok(())
}

/// A line that begins with `vmq_bridge.`; back if it is none that there is.
fn of_bridge(rest: &str, directive: Directive, parts: &mut Parts, report: &mut Report) -> Result<(), Directive> {
    let mut words = rest.splitn(3, '.');
    let (Some(protocol @ ("tcp" | "ssl")), Some(name), option) = (words.next(), words.next(), words.next()) else {
        return Err(directive);
    };
    let which = (protocol.to_owned(), name.to_owned());
    let Some(option) = option else {
        parts.bridges.push((which, directive));
        return Ok(());
    };
    let Some(opt) = find(BRIDGE, option) else { return Err(directive) };
    opt.is_ours(&directive, report);
    parts.bridge_options.insert((which, option.to_owned()), directive);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_parts() {
        assert!(fits("a.$x.c", "a.b.c") && fits("a.**", "a.b.c") && fits("a", "a"));
        assert!(!fits("a.$x", "a") && !fits("a.$x", "a.b.c") && !fits("a.**", "a") && !fits("a.$x", "a."));
        assert_eq!(find(GENERAL, "plugins.vmq_acl").unwrap().name, "plugins.vmq_acl");
        assert_eq!(find(GENERAL, "plugins.mine").unwrap().name, "plugins.$name");
    }
}
