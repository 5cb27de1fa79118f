//! `viaduct ctl retained`.
//!
//! In: which retained messages. Out: calls of the API, and their answers as tables.

use serde_json::Value;

use super::args::{RetainedCommand, RetainedList};
use super::request::{Api, Method, Query, in_path};
use super::text::{Table, count, duration, more, word};
use crate::{Failure, say};

pub(super) fn run(api: &Api, command: Option<&RetainedCommand>) -> Result<(), Failure> {
    let at = |topic: &str| format!("/retained/{}", in_path(topic));
    match command {
        None => list(api, &RetainedList::default()),
        Some(RetainedCommand::List(wanted)) => list(api, wanted),
        Some(RetainedCommand::Show { topic }) => api.call(Method::Get, &at(topic), None)?.show(show),
        Some(RetainedCommand::Remove { topic }) => api
            .call(Method::Delete, &at(topic), None)?
            .show(|_| say(&format!("topic {topic:?} has no retained message any more"))),
    }
}

fn list(api: &Api, wanted: &RetainedList) -> Result<(), Failure> {
    let qos = wanted.qos.map(|qos| qos.to_string());
    let query = Query::default()
        .with("filter", wanted.filter.as_deref())
        .with("min_size", wanted.min_size.as_deref())
        .with("max_size", wanted.max_size.as_deref())
        .with("qos", qos.as_deref())
        .with("older_than", wanted.older_than.as_deref())
        .with("newer_than", wanted.newer_than.as_deref())
        .page(&wanted.page);
    api.call(Method::Get, &query.at("/retained"), None)?.show(|answer| {
        let mut table = Table::new(&["TOPIC", "QOS", "BYTES", "AGE", "EXPIRES"]);
        for message in answer["retained"].as_array().into_iter().flatten() {
            table.row([
                word(&message["topic"]),
                word(&message["qos"]),
                word(&message["payload_bytes"]),
                duration(&message["age_seconds"]),
                word(&message["expires_at"]),
            ]);
        }
        say(&table.to_string())?;
        more(answer)
    })
}

fn show(message: &Value) -> Result<(), Failure> {
    let mut lines = vec![
        ("topic", word(&message["topic"])),
        ("QoS", word(&message["qos"])),
        ("received", format!("{}, {} ago", word(&message["received_at"]), duration(&message["age_seconds"]))),
        ("expires", word(&message["expires_at"])),
    ];
    for (name, value) in message["properties"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match value.as_array() {
            None => lines.push(("", format!("{name} = {}", word(value)))),
            Some(pairs) => lines.extend(pairs.iter().map(|pair| ("", format!("{name}: {}", word(pair))))),
        }
    }
    let is_cut = if message["payload_is_cut"] == true { ", the beginning" } else { "" };
    let size = count(&message["payload_bytes"], "byte");
    if message["payload"].is_string() {
        lines.push(("payload", format!("{} ({size}{is_cut})", word(&message["payload"]))));
    } else {
        lines.push(("payload", format!("{} (base64; {size}{is_cut})", word(&message["payload_base64"]))));
    }
    let mut table = Table::new(&[]);
    lines.into_iter().for_each(|(name, text)| table.row([name.to_owned(), text]));
    say(table.to_string().trim_start_matches('\n'))
}
