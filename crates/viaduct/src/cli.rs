//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use viaduct_import::Origin;

use crate::ctl::CtlArgs;

/// An MQTT broker with bridges built in.
#[derive(Debug, Parser)]
#[command(name = "viaduct", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Those of `run`, which is what happens without a command.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker in the foreground; SIGTERM and SIGINT end it, SIGHUP reads the configuration again
    Run(RunArgs),
    /// Read a configuration and say everything that is wrong with it
    CheckConfig {
        /// The file; without one as `run` would read it
        file: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Turn the configuration of another broker into ours; what has no equal is said on standard error with its line
    Import(ImportArgs),
    /// Set the password of a user, asked for or read from standard input
    Passwd {
        /// The password file; made when it is not there
        file: PathBuf,
        /// The user
        user: String,
        /// Write $7$ (PBKDF2), which mosquitto 2.0 reads too, instead of argon2id
        #[arg(long)]
        pbkdf2: bool,
        /// Write a SCRAM-SHA-256 secret, with which a 5.0 client can prove the password instead of sending it; mosquitto does not read it
        #[arg(long, conflicts_with = "pbkdf2")]
        scram: bool,
    },
    /// Look at a store that no broker has open
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Look at a running broker and change it
    Ctl(CtlArgs),
    /// Look after bridges
    Bridge {
        #[command(subcommand)]
        command: BridgeCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Verify every checksum and every reference; exit code 0 when all is whole
    Check {
        /// The data directory of the node (node.data_dir), or the store in it
        dir: PathBuf,
    },
    /// Say what is in it
    Stats {
        /// The data directory of the node (node.data_dir), or the store in it
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BridgeCommand {
    /// Dial a bridge's remote step by step; exit code 0 if it would work
    Check {
        #[command(flatten)]
        remote: RemoteArgs,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// What is dialled: one of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RemoteArgs {
    /// A bridge of the configuration
    pub(crate) name: Option<String>,
    /// Or a remote without a configuration, such as mqtt://hub:1883 or mqtts://hub
    #[arg(long)]
    pub(crate) url: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ImportArgs {
    /// Whose it is
    pub(crate) origin: OriginArg,
    /// Its main file: mosquitto.conf or vernemq.conf
    pub(crate) file: PathBuf,
    /// Write it there, and files that it needs beside it, instead of on standard output; nothing is written over
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What relative paths in the file are relative to; without it they stay as they are
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
}

/// A broker that one can come from.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OriginArg {
    /// Eclipse mosquitto 1.6 to 2.1
    Mosquitto,
    /// VerneMQ 1.x and 2.x
    Vernemq,
}

impl From<OriginArg> for Origin {
    fn from(origin: OriginArg) -> Self {
        match origin {
            OriginArg::Mosquitto => Self::Mosquitto,
            OriginArg::Vernemq => Self::Vernemq,
        }
    }
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Do not start when the store is damaged; without it what is damaged is set aside and the rest served
    #[arg(long)]
    pub(crate) refuse_damaged: bool,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file; without one the defaults hold (no file is looked for)
    #[arg(long, value_name = "FILE", env = "VIADUCT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Set one key, such as `node.workers=2`; wins over file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

impl RunArgs {
    /// These, or `before` where these say nothing.
    pub(crate) fn or(mut self, before: Self) -> Self {
        self.config.config = self.config.config.or(before.config.config);
        self.refuse_damaged |= before.refuse_damaged;
        if self.config.overrides.is_empty() {
            self.config.overrides = before.config.overrides;
        }
        self
    }
}
