//! `viaduct ctl`: a running broker looked at and changed, over its HTTP API.
//!
//! In: words of the command line. Out: a table for people or the answer as it came (`--json`), and an exit code: 0 done, 1 the
//! broker says no or can't be reached, 2 the words can't be understood. Must never: show a token or a password.

mod args;
mod bridges;
mod request;
mod retained;
mod sessions;
mod text;

use serde_json::Value;

use crate::{Failure, say};

pub(crate) use args::CtlArgs;
use args::CtlCommand;
use request::{Api, Method};
use text::{Table, texts, word};

/// Does what the words say.
pub(crate) fn run(args: &CtlArgs) -> Result<(), Failure> {
    let api = Api::new(&args.api)?;
    match &args.command {
        CtlCommand::Bridges { command } => bridges::run(&api, command.as_ref()),
        CtlCommand::Clients => api.call(Method::Get, "/clients", None)?.show(sessions::clients),
        CtlCommand::Sessions { command } => sessions::run(&api, command.as_ref()),
        CtlCommand::Retained { command } => retained::run(&api, command.as_ref()),
        CtlCommand::Listeners => api.call(Method::Get, "/listeners", None)?.show(listeners),
        CtlCommand::Reload => api.call(Method::Post, "/reload", None)?.show(reloaded),
    }
}

fn listeners(answer: &Value) -> Result<(), Failure> {
    let mut table =
        Table::new(&["NAME", "ADDRESS", "TRANSPORT", "TLS", "LEVELS", "ANONYMOUS", "CONNECTIONS", "AT MOST"]);
    for listener in answer["listeners"].as_array().into_iter().flatten() {
        table.row([
            word(&listener["name"]),
            word(&listener["address"]),
            word(&listener["transport"]),
            word(&listener["tls"]),
            texts(&listener["allowed_protocol_versions"]).join(","),
            word(&listener["allow_anonymous"]),
            word(&listener["connections"]),
            word(&listener["max_connections"]),
        ]);
    }
    say(&table.to_string())
}

fn reloaded(answer: &Value) -> Result<(), Failure> {
    say("the configuration was read again; so were certificates, users and rules")?;
    let lists = [
        ("changed", "changed"),
        ("bridges_added", "bridges added"),
        ("bridges_removed", "bridges removed"),
        ("bridges_changed", "bridges changed"),
        ("needs_restart", "waits for a restart"),
    ];
    for (key, what) in lists {
        let list = texts(&answer[key]);
        if !list.is_empty() {
            say(&format!("{what}: {}", list.join(", ")))?;
        }
    }
    warnings(answer)
}

/// What is allowed, but worth a word.
fn warnings(answer: &Value) -> Result<(), Failure> {
    for warning in answer["warnings"].as_array().into_iter().flatten() {
        say(&format!("warning: {}", text::finding(warning)))?;
    }
    Ok(())
}
