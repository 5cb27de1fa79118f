//! The words of `viaduct ctl`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    #[command(flatten)]
    pub(super) api: ApiArgs,
    #[command(subcommand)]
    pub(super) command: CtlCommand,
}

/// Which broker, and how it is asked.
#[derive(Debug, Args)]
pub(super) struct ApiArgs {
    /// Where the broker's HTTP is (admin.bind)
    #[arg(long, global = true, value_name = "URL", env = "VIADUCT_URL", default_value = "http://127.0.0.1:8888")]
    pub(super) url: String,
    /// The file that holds the token (admin.token_file of the broker); the environment variable VIADUCT_TOKEN holds it otherwise
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Print the answer as it came
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CtlCommand {
    /// Bridges: what they do, and changing them while the broker runs
    Bridges {
        #[command(subcommand)]
        command: Option<BridgesCommand>,
    },
    /// Sessions, connected or not, all at once
    Clients,
    /// Sessions, connected or not: some of them, everything about one, and ending one
    Sessions {
        #[command(subcommand)]
        command: Option<SessionsCommand>,
    },
    /// Retained messages: some of them, one with its payload, and taking one away
    Retained {
        #[command(subcommand)]
        command: Option<RetainedCommand>,
    },
    /// Listeners
    Listeners,
    /// Have the broker read its configuration again
    Reload,
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// One line for each, in the order of their ClientIDs; what happens without a command
    List(SessionsList),
    /// Everything about one, with what it subscribes to
    Show {
        /// Its ClientID
        client_id: String,
    },
    /// End one for good: its connection is closed, and its subscriptions and what waits for it are gone
    Remove {
        /// Its ClientID
        client_id: String,
    },
}

#[derive(Debug, Default, Args)]
pub(super) struct SessionsList {
    /// Only ClientIDs that have this in them
    #[arg(long = "match", value_name = "TEXT")]
    pub(super) part: Option<String>,
    /// Only those with a connection
    #[arg(long, conflicts_with = "away")]
    pub(super) connected: bool,
    /// Only those without one
    #[arg(long)]
    pub(super) away: bool,
    #[command(flatten)]
    pub(super) page: Page,
}

/// How much of a list, and from where on.
#[derive(Debug, Default, Args)]
pub(super) struct Page {
    /// At most so many, up to 1000; 100 without it
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u32>,
    /// Go on behind what an answer before this one ended with
    #[arg(long, value_name = "NEXT")]
    pub(super) after: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum RetainedCommand {
    /// One line for each; what happens without a command
    List(RetainedList),
    /// One with its payload
    Show {
        /// Its topic
        topic: String,
    },
    /// Take one away; nobody is told
    Remove {
        /// Its topic
        topic: String,
    },
}

#[derive(Debug, Default, Args)]
pub(super) struct RetainedList {
    /// Only topics that this topic filter matches; "#", which leaves out topics that begin with $, without it
    #[arg(long, value_name = "FILTER")]
    pub(super) filter: Option<String>,
    /// Only payloads of this size or more, such as 64KiB
    #[arg(long, value_name = "SIZE")]
    pub(super) min_size: Option<String>,
    /// Only payloads of this size or less
    #[arg(long, value_name = "SIZE")]
    pub(super) max_size: Option<String>,
    /// Only messages of this QoS
    #[arg(long, value_name = "QOS")]
    pub(super) qos: Option<u8>,
    /// Only what came so long ago or earlier, such as 30d
    #[arg(long, value_name = "AGE")]
    pub(super) older_than: Option<String>,
    /// Only what came since, such as 1h
    #[arg(long, value_name = "AGE")]
    pub(super) newer_than: Option<String>,
    #[command(flatten)]
    pub(super) page: Page,
}

#[derive(Debug, Subcommand)]
pub(super) enum BridgesCommand {
    /// One line for each; what happens without a command
    List,
    /// Everything about one
    Show {
        /// The bridge
        name: String,
    },
    /// Add one that is not there yet
    Add(Definition),
    /// Make it exactly this, whether it is there or not
    Put(Definition),
    /// Change some of its keys; KEY= without a value takes one back to its default
    Change(Definition),
    /// Remove it, with its session and what waits in it
    Remove {
        /// The bridge
        name: String,
    },
    /// Run it
    Start {
        /// The bridge
        name: String,
    },
    /// Run it no longer; messages for it go on waiting
    Stop {
        /// The bridge
        name: String,
    },
    /// Take back what was changed at run time: what the configuration file says holds again
    Revert {
        /// The bridge
        name: String,
    },
    /// Have the broker dial its remote step by step; exit code 0 if it would work
    Check {
        /// The bridge
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Definition {
    /// The bridge
    pub(super) name: String,
    /// Keys of the bridge's table, such as url=mqtts://hub tls.ca_file=/etc/hub.pem queue.max_age=1d
    #[arg(value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
    /// A rule, `FILTER [in|out|both [QOS [LOCAL_PREFIX [REMOTE_PREFIX]]]]`; may be repeated, and is then all rules there are
    #[arg(long = "topic", value_name = "RULE")]
    pub(super) topics: Vec<String>,
    /// A file with the bridge's table in TOML, "-" for standard input: where a password should come from
    #[arg(long, value_name = "FILE", conflicts_with_all = ["settings", "topics"])]
    pub(super) file: Option<PathBuf>,
}
