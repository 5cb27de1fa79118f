//! `viaduct ctl sessions` and `clients`.
//!
//! In: which sessions. Out: calls of the API, and their answers as tables.

use serde_json::Value;

use super::args::{SessionsCommand, SessionsList};
use super::request::{Api, Method, Query, in_path};
use super::text::{Table, count, more, word};
use crate::{Failure, say};

pub(super) fn run(api: &Api, command: Option<&SessionsCommand>) -> Result<(), Failure> {
    let at = |client_id: &str| format!("/sessions/{}", in_path(client_id));
    match command {
        None => list(api, &SessionsList::default()),
        Some(SessionsCommand::List(wanted)) => list(api, wanted),
        Some(SessionsCommand::Show { client_id }) => api.call(Method::Get, &at(client_id), None)?.show(show),
        Some(SessionsCommand::Remove { client_id }) => api
            .call(Method::Delete, &at(client_id), None)?
            .show(|_| say(&format!("the session of {client_id:?} is ended, with what waited in it"))),
    }
}

fn list(api: &Api, wanted: &SessionsList) -> Result<(), Failure> {
    let connected = (wanted.connected || wanted.away).then(|| wanted.connected.to_string());
    let query = Query::default()
        .with("match", wanted.part.as_deref())
        .with("connected", connected.as_deref())
        .page(&wanted.page);
    api.call(Method::Get, &query.at("/sessions"), None)?.show(|answer| {
        table(&answer["sessions"])?;
        more(answer)
    })
}

/// All of them.
pub(super) fn clients(answer: &Value) -> Result<(), Failure> {
    table(&answer["clients"])
}

fn table(sessions: &Value) -> Result<(), Failure> {
    let mut table =
        Table::new(&["CLIENT ID", "STATE", "LEVEL", "PEER", "LISTENER", "USER", "SUBSCRIPTIONS", "WAITING"]);
    for client in sessions.as_array().into_iter().flatten() {
        table.row([
            word(&client["client_id"]),
            state(client).to_owned(),
            word(&client["level"]),
            word(&client["peer"]),
            word(&client["listener"]),
            word(&client["username"]),
            word(&client["subscriptions"]),
            word(&client["queued_messages"]),
        ]);
    }
    say(&table.to_string())
}

fn state(client: &Value) -> &'static str {
    if client["connected"] == true { "connected" } else { "away" }
}

fn show(session: &Value) -> Result<(), Failure> {
    let waits = format!(
        "{}, {}; {} not acknowledged yet; {} dropped",
        count(&session["queued_messages"], "message"),
        count(&session["queued_bytes"], "byte"),
        word(&session["inflight_messages"]),
        word(&session["dropped_messages"]),
    );
    let ends = match (session["connected"] == true, session["expires_at"].is_string()) {
        (true, _) => format!("{} s after its connection", word(&session["session_expiry_seconds"])),
        (false, true) => format!("at {}, if nobody connects before", word(&session["expires_at"])),
        (false, false) => "not by itself".to_owned(),
    };
    let mut lines = vec![
        ("client_id", word(&session["client_id"])),
        ("state", state(session).to_owned()),
        ("user", word(&session["username"])),
        ("bridge", word(&session["bridge"])),
        ("peer", word(&session["peer"])),
        ("listener", word(&session["listener"])),
        ("level", word(&session["level"])),
        ("mountpoint", word(&session["mountpoint"])),
        ("ends", ends),
        ("waiting", waits),
    ];
    for (reason, dropped) in session["dropped_by_reason"].as_object().into_iter().flatten() {
        lines.push(("", format!("dropped as {reason}: {dropped}")));
    }
    for one in session["filters"].as_array().into_iter().flatten() {
        lines.push(("subscribes to", format!("{} (QoS {})", word(&one["filter"]), word(&one["qos"]))));
    }
    let left = session["filters_not_shown"].as_u64().unwrap_or_default();
    if left > 0 {
        lines.push(("", format!("and {left} more")));
    }
    let mut table = Table::new(&[]);
    lines.into_iter().for_each(|(name, text)| table.row([name.to_owned(), text]));
    say(table.to_string().trim_start_matches('\n'))
}
