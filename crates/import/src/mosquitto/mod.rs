//! mosquitto's configuration as ours.
//!
//! In: the main file and those that it names. Out: our configuration. The options are tables (`options`,
//! `bridge_options`); what has no equal is noted from there, and here is only what becomes something.

mod bridge;
mod bridge_options;
mod general;
mod lines;
mod listener;
mod options;

use crate::acl::Dialect;
use crate::auth;
use crate::desk::Desk;
use crate::directive::Directive;
use crate::finish;
use crate::option::Opt;
use crate::report::Report;

use bridge_options::BRIDGE;
use options::{GENERAL, LISTENER};

/// Options that `per_listener_settings` makes those of a listener.
const PER_LISTENER: [&str; 7] = [
    "acl_file",
    "allow_anonymous",
    "password_file",
    "psk_file",
    "plugin_opt_acl_file",
    "plugin_opt_password_file",
    "allow_zero_length_clientid",
];
/// Listeners and bridges that one file may have.
const BLOCKS: usize = 2000;

/// The tables, with the title and the beginning of their options in the matrix.
pub(crate) fn tables() -> [(&'static str, &'static str, &'static [Opt]); 3] {
    [
        ("mosquitto: the broker", "", GENERAL),
        ("mosquitto: a listener", "", LISTENER),
        ("mosquitto: a bridge (`connection`)", "", BRIDGE),
    ]
}

/// A listener or a bridge: the line that opens it, and the lines behind.
#[derive(Debug)]
struct Block {
    opens: Directive,
    options: Vec<Directive>,
}

impl Block {
    /// The last line with this option, which is the one that holds.
    fn last(&self, name: &str) -> Option<&Directive> {
        self.options.iter().rev().find(|directive| directive.name == name)
    }
}

/// The lines, sorted.
#[derive(Debug, Default)]
struct Parts {
    general: Vec<Directive>,
    listeners: Vec<Block>,
    bridges: Vec<Block>,
    per_listener: bool,
}

/// See [`crate::import`].
pub(crate) fn import(desk: &mut Desk<'_>) {
    let parts = sort(lines::read(desk), &mut desk.report);
    let mut general = general::read(&parts, desk);
    if parts.listeners.is_empty() {
        let only = listener::local_only(desk.request.file, general.anonymous.unwrap_or(true));
        finish::add_listener(only, desk);
    }
    for block in &parts.listeners {
        listener::add(block, &mut general, desk);
    }
    finish::some_listener(desk);
    finish::admin(None, desk);
    let with_rules = parts.listeners.iter().filter(|block| block.last("acl_file").is_some()).count();
    if let (true, Some(first)) =
        (with_rules < parts.listeners.len() && parts.per_listener, general.auth.acl_files.first())
    {
        let why = "it holds on every listener here, and some had no permissions to keep";
        desk.report.act(first, why, "add what clients of the other listeners may do to it");
    }
    auth::finish(&general.auth, Dialect::Mosquitto, desk);
    for block in &parts.bridges {
        bridge::add(block, desk);
    }
}

/// The row of an option in a table.
fn find(table: &'static [Opt], name: &str) -> Option<&'static Opt> {
    let by_beginning = |opt: &&Opt| opt.name.strip_suffix('*').is_some_and(|beginning| name.starts_with(beginning));
    table.iter().find(|opt| opt.name == name).or_else(|| table.iter().find(by_beginning))
}

/// The row that a line means.
#[cfg(test)]
pub(crate) fn option(name: &str) -> Option<&'static Opt> {
    [GENERAL, LISTENER, BRIDGE].into_iter().find_map(|table| find(table, name))
}

/// Puts each line where it belongs; what has no equal is noted and goes no further.
fn sort(directives: Vec<Directive>, report: &mut Report) -> Parts {
    let mut parts = Parts::default();
    for directive in directives {
        let name = directive.name.as_str();
        if name == "per_listener_settings" {
            parts.per_listener = matches!(directive.value.as_str(), "true" | "1");
        }
        if parts.listeners.len() + parts.bridges.len() > BLOCKS {
            report.wrong(&directive.place, format!("more than {BLOCKS} listeners and bridges"));
            return parts;
        }
        if name == "listener" || name == "connection" {
            let block = Block { opens: directive.clone(), options: Vec::new() };
            let blocks = if name == "listener" { &mut parts.listeners } else { &mut parts.bridges };
            blocks.push(block);
            continue;
        }
        if let Some(opt) = find(GENERAL, name) {
            if opt.is_ours(&directive, report) && parts.per_listener && PER_LISTENER.contains(&name) {
                to_listener(&mut parts, directive.clone());
            }
            // Those that are only noted may still decide something: a plugin does.
            parts.general.push(directive);
        } else if let Some(opt) = find(LISTENER, name) {
            opt.is_ours(&directive, report);
            to_listener(&mut parts, directive);
        } else if let Some(opt) = find(BRIDGE, name) {
            opt.is_ours(&directive, report);
            match parts.bridges.last_mut() {
                Some(bridge) => bridge.options.push(directive),
                None => report.wrong(&directive.place, format!("{name}: it needs a `connection` before it")),
            }
        } else {
            let advice = "look up what it does there; if it is misspelt, mosquitto does not start with it either";
            report.act(&directive, "it is no option of mosquitto 1.6 to 2.1", advice);
        }
    }
    parts
}

/// Puts a line behind the last listener, or the default listener, which any such line makes.
fn to_listener(parts: &mut Parts, directive: Directive) {
    if parts.listeners.is_empty() {
        let opens = Directive { name: "port".to_owned(), value: String::new(), ..directive.clone() };
        parts.listeners.push(Block { opens, options: Vec::new() });
    }
    if let Some(last) = parts.listeners.last_mut() {
        last.options.push(directive);
    }
}
