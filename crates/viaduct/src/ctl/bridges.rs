//! `viaduct ctl bridges`.
//!
//! In: what is wanted of a bridge. Out: calls of the API, and their answers as tables.

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use viaduct_config::{Problem, Written};

use super::args::{BridgesCommand, Definition};
use super::request::{Api, Method, in_path};
use super::text::{Table, count, duration, rate, short, texts, word};
use super::warnings;
use crate::{Failure, say};

/// Characters of an error in the list.
const ERROR: usize = 60;
/// Bytes of a definition: no more than the API takes.
const FILE: u64 = 64 * 1024;

pub(super) fn run(api: &Api, command: Option<&BridgesCommand>) -> Result<(), Failure> {
    let at = |name: &str, verb: &str| format!("/bridges/{}{verb}", in_path(name));
    let post = |name: &str, verb: &str| api.call(Method::Post, &at(name, verb), None);
    match command {
        None | Some(BridgesCommand::List) => api.call(Method::Get, "/bridges", None)?.show(list),
        Some(BridgesCommand::Show { name }) => api.call(Method::Get, &at(name, ""), None)?.show(show),
        Some(BridgesCommand::Add(given)) => {
            let body = definition(given)?.to_json();
            api.call(Method::Post, "/bridges", Some(&body))?.show(|answer| done(answer, "was added"))
        }
        Some(BridgesCommand::Put(given)) => {
            let body = definition(given)?.to_json();
            api.call(Method::Put, &at(&given.name, ""), Some(&body))?.show(|answer| done(answer, "is as asked for"))
        }
        Some(BridgesCommand::Change(given)) => {
            let body = definition(given)?.to_json();
            api.call(Method::Post, &at(&given.name, ""), Some(&body))?.show(|answer| done(answer, "was changed"))
        }
        Some(BridgesCommand::Remove { name }) => api
            .call(Method::Delete, &at(name, ""), None)?
            .show(|_| say(&format!("bridge {name:?} was removed, with its session and what waited in it"))),
        Some(BridgesCommand::Start { name }) => post(name, "/start")?.show(|answer| done(answer, "runs")),
        Some(BridgesCommand::Stop { name }) => post(name, "/stop")?.show(|answer| done(answer, "is stopped")),
        Some(BridgesCommand::Revert { name }) => {
            post(name, "/revert")?.show(|answer| done(answer, "is what the configuration says"))
        }
        Some(BridgesCommand::Check { name }) => {
            let reply = post(name, "/check")?;
            reply.show(|answer| {
                let mut steps = answer["steps"].as_array().into_iter().flatten();
                steps.try_for_each(|step| say(&word(&step["line"])))
            })?;
            if reply.value()["works"] == true { Ok(()) } else { Err(Failure { text: None, code: 1 }) }
        }
    }
}

/// The keys that the words name, or the file holds.
fn definition(given: &Definition) -> Result<Written, Failure> {
    let mut written = match &given.file {
        Some(path) => {
            let text = read(path).map_err(|error| Failure::configuration(format!("{}: {error}", path.display())))?;
            Written::from_toml(&text).map_err(|error| Failure::configuration(format!("{}: {error}", path.display())))?
        }
        None => {
            let mut written = Written::from_settings(&given.settings).map_err(Failure::configuration)?;
            for rule in &given.topics {
                written.add_rule(rule).map_err(Failure::configuration)?;
            }
            written
        }
    };
    match written.name() {
        Ok(other) if other != given.name => {
            Err(Failure::configuration(format!("the bridge is called {other:?} there and {:?} here", given.name)))
        }
        Ok(_) | Err(Problem::Missing(_)) => {
            written.set_name(&given.name);
            Ok(written)
        }
        Err(problem) => Err(Failure::configuration(format!("`name`: {problem}"))),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let input: Box<dyn Read> =
        if path == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) };
    input.take(FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE {
        return Err(std::io::Error::other(format!("it is larger than {FILE} bytes")));
    }
    Ok(text)
}

fn list(answer: &Value) -> Result<(), Failure> {
    let head = ["NAME", "STATE", "FOR", "LEVEL", "ADDRESS", "WAITING", "IN/s", "OUT/s", "ROUND TRIP", "LAST ERROR"];
    let mut table = Table::new(&head);
    for bridge in answer["bridges"].as_array().into_iter().flatten() {
        let rates = &bridge["rates"];
        let error = &bridge["last_error"]["message"];
        table.row([
            word(&bridge["name"]),
            state(bridge),
            duration(&bridge["for_seconds"]),
            word(&bridge["level"]),
            word(&bridge["address"]),
            word(&bridge["queue"]["messages"]),
            rate(&rates["in"]["messages_per_second"]),
            rate(&rates["out"]["messages_per_second"]),
            round_trip(bridge),
            if error.is_string() { short(&word(error), ERROR) } else { "-".to_owned() },
        ]);
    }
    say(&table.to_string())?;
    let removed = texts(&answer["removed"]);
    if removed.is_empty() {
        return Ok(());
    }
    say(&format!("removed at run time, though the configuration may have them: {}", removed.join(", ")))
}

fn state(bridge: &Value) -> String {
    match bridge["next_attempt"]["in_seconds"].as_f64() {
        Some(_) => format!("waiting, next in {}", duration(&bridge["next_attempt"]["in_seconds"])),
        None => word(&bridge["state"]),
    }
}

fn round_trip(bridge: &Value) -> String {
    match bridge["round_trip"]["milliseconds"].as_u64() {
        Some(milliseconds) => format!("{milliseconds} ms"),
        None => "-".to_owned(),
    }
}

fn show(bridge: &Value) -> Result<(), Failure> {
    let (queue, rates, totals) = (&bridge["queue"], &bridge["rates"], &bridge["totals"]);
    let way = |way: &str| {
        let rate_of = |what: &str| rate(&rates[way][what]);
        format!("{} messages/s, {} bytes/s", rate_of("messages_per_second"), rate_of("bytes_per_second"))
    };
    let mut lines = vec![
        ("name", word(&bridge["name"])),
        ("state", format!("{}, for {}", word(&bridge["state"]), duration(&bridge["for_seconds"]))),
        ("written", origin(bridge).to_owned()),
        ("level", level(bridge)),
        ("address", format!("{} of {}", word(&bridge["address"]), texts(&bridge["addresses"]).join(", "))),
        ("client_id", word(&bridge["client_id"])),
    ];
    let tls = &bridge["tls"];
    if tls.is_object() {
        let left = duration(&tls["certificate_expires_in_seconds"]);
        let end = word(&tls["certificate_expires"]);
        lines.push(("TLS", format!("{}; the remote's certificate ends in {left} ({end})", word(&tls["version"]))));
    } else {
        lines.push(("TLS", "no link over TLS so far".to_owned()));
    }
    let error = &bridge["last_error"];
    if error.is_object() {
        lines.push(("last error", format!("{}: {}", word(&error["kind"]), word(&error["message"]))));
        lines.push(("", format!("at {}, failing since {}", word(&error["at"]), word(&error["since"]))));
    } else {
        lines.push(("last error", "none".to_owned()));
    }
    let next = &bridge["next_attempt"];
    if next.is_object() {
        lines.push(("next attempt", format!("in {}, at {}", duration(&next["in_seconds"]), word(&next["at"]))));
    }
    lines.push((
        "queue",
        format!(
            "{}, {}; {} not acknowledged yet; {} dropped; room for {} and {}",
            count(&queue["messages"], "message"),
            count(&queue["bytes"], "byte"),
            word(&queue["unacknowledged"]),
            word(&queue["dropped"]),
            count(&queue["max_messages"], "message"),
            count(&queue["max_bytes"], "byte"),
        ),
    ));
    lines.push(("in", format!("{}; {} so far", way("in"), count(&totals["messages_in"], "message"))));
    lines.push(("out", format!("{}; {} so far", way("out"), count(&totals["messages_out"], "message"))));
    let trip = match bridge["round_trip"]["measured_by"].as_str() {
        Some(by) => format!("{} (by a {by}, at {})", round_trip(bridge), word(&bridge["round_trip"]["at"])),
        None => "not measured yet".to_owned(),
    };
    lines.push(("round trip", trip));
    for (key, value) in bridge["definition"].as_object().into_iter().flatten() {
        lines.push(("", format!("{key} = {value}")));
    }
    for secret in texts(&bridge["secrets"]) {
        lines.push(("", format!("{secret} is not shown whole")));
    }
    let mut table = Table::new(&[]);
    for (name, text) in lines {
        table.row([name.to_owned(), text]);
    }
    say(table.to_string().trim_start_matches('\n'))?;
    warnings(bridge)
}

/// The level and why it is that one; without a link, what was tried in vain.
fn level(bridge: &Value) -> String {
    if bridge["level"].is_number() {
        return format!("{} ({})", word(&bridge["level"]), word(&bridge["level_reason"]));
    }
    let left = bridge["levels_left"].as_array().into_iter().flatten();
    let left: Vec<String> = left.map(|one| format!("{}: {}", word(&one["level"]), word(&one["reason"]))).collect();
    if left.is_empty() { "-".to_owned() } else { format!("-; left so far: {}", left.join(", ")) }
}

fn origin(bridge: &Value) -> &'static str {
    match bridge["origin"].as_str() {
        Some("file") => "in the configuration",
        Some("switched") => "in the configuration; that it runs or not was said at run time",
        Some("changed") => "at run time; what the configuration says of it does not count",
        _ => "at run time",
    }
}

/// One line about what was done, and whatever is worth a word.
fn done(bridge: &Value, what: &str) -> Result<(), Failure> {
    let what = if bridge["changed"] == false { "is so already: nothing was changed" } else { what };
    say(&format!("bridge {:?} {what}; state: {}", word(&bridge["name"]), word(&bridge["state"])))?;
    warnings(bridge)
}
