//! The command line: reads files, environment and arguments, and hands them to the crates that know what they mean.
//!
//! Exit codes: 0 done (for `run`: stopped by SIGTERM or SIGINT), 2 the configuration or the command line is wrong and
//! nothing was started or sent, 1 anything else.

mod cli;
mod ctl;
mod import;
mod password;
mod store;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use viaduct_broker::store::OpenError;
use viaduct_broker::{CheckTarget, Configuration, HashKind, RunOptions, SetupError};
use viaduct_config::{Loaded, Source, SourceFile};

use cli::{BridgeCommand, Cli, Command, ConfigArgs, RunArgs, StoreCommand};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration or the command line is wrong.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(&cli.run),
        Some(Command::Run(args)) => run(&args.or(cli.run)),
        Some(Command::CheckConfig { file, config }) => check_config(file.as_deref(), &config),
        Some(Command::Import(args)) => import::import(&args),
        Some(Command::Passwd { file, user, pbkdf2, scram }) => {
            let kind = match (pbkdf2, scram) {
                (true, _) => HashKind::Pbkdf2,
                (_, true) => HashKind::ScramSha256,
                _ => HashKind::Argon2id,
            };
            passwd(&file, &user, kind)
        }
        Some(Command::Store { command: StoreCommand::Check { dir } }) => store::check(&dir),
        Some(Command::Store { command: StoreCommand::Stats { dir } }) => store::stats(&dir),
        Some(Command::Ctl(args)) => ctl::run(&args),
        Some(Command::Bridge { command: BridgeCommand::Check { remote, config } }) => {
            check_bridge(remote.name.as_deref(), remote.url.as_deref(), &config)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = &failure.text {
                // Standard error may be gone; the exit code says it too.
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Why the process ends, and with which code.
#[derive(Debug)]
struct Failure {
    text: Option<String>,
    code: u8,
}

impl Failure {
    fn new(text: impl std::fmt::Display) -> Self {
        Self { text: Some(text.to_string()), code: 1 }
    }

    fn configuration(text: impl std::fmt::Display) -> Self {
        Self { text: Some(text.to_string()), code: BAD_CONFIGURATION }
    }
}

fn run(args: &RunArgs) -> Result<(), Failure> {
    let (file, overrides) = (args.config.config.clone(), args.config.overrides.clone());
    let again = move || source(file.as_deref(), &overrides);
    let configuration = read(again().map_err(Failure::configuration)?)?;
    files_are_good(&configuration.loaded)?;
    let options = RunOptions { refuse_damaged: args.refuse_damaged };
    viaduct_broker::run(configuration, options, again).map_err(|error| {
        let text = format!("viaduct: {error}");
        match error {
            SetupError::Store(OpenError::Locked { .. } | OpenError::NewerFormat { .. } | OpenError::Damaged(_)) => {
                Failure::configuration(text)
            }
            _ => Failure::new(text),
        }
    })
}

fn check_config(file: Option<&Path>, args: &ConfigArgs) -> Result<(), Failure> {
    let file = file.or(args.config.as_deref());
    let loaded = read(source(file, &args.overrides).map_err(Failure::configuration)?)?.loaded;
    for warning in &loaded.warnings {
        say(&format!("warning: {warning}"))?;
    }
    files_are_good(&loaded)?;
    let config = &loaded.config;
    say(&format!(
        "the configuration is good: {}, {}",
        count(config.listeners.len(), "listener"),
        count(config.bridges.len(), "bridge")
    ))
}

/// Every file that the configuration names can be used; what is wrong is said in one go.
fn files_are_good(loaded: &Loaded) -> Result<(), Failure> {
    let errors: Vec<String> =
        viaduct_broker::check_files(&loaded.config).iter().map(|error| format!("error: {error}")).collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::configuration(errors.join("\n"))) }
}

fn passwd(file: &Path, user: &str, kind: HashKind) -> Result<(), Failure> {
    let password = password::read(user).map_err(Failure::new)?;
    viaduct_broker::set_password(file, user, &password, kind).map_err(Failure::new)
}

fn check_bridge(name: Option<&str>, url: Option<&str>, args: &ConfigArgs) -> Result<(), Failure> {
    let source = match url {
        None => source(args.config.as_deref(), &args.overrides).map_err(Failure::configuration)?,
        Some(url) => {
            // A bridge of its own, read as if it were in a file, so that the same words mean the same.
            let text = format!(
                "[[bridge]]\nname = \"check\"\nurl = {}\n\n[[bridge.topic]]\nfilter = \"viaduct/bridge/check\"\ndirection = \"in\"\n",
                quoted(url)
            );
            let file = SourceFile { name: "--url".to_owned(), text };
            with_environment(Some(file), &args.overrides)
        }
    };
    // What was said to a broker at run time has nothing to say about an address.
    let loaded = match url {
        None => read(source)?.loaded,
        Some(_) => viaduct_config::load(source).map_err(Failure::configuration)?,
    };
    let name = name.unwrap_or("check");
    let Some(bridge) = loaded.config.bridges.iter().find(|bridge| bridge.name == name) else {
        let names: Vec<&str> = loaded.config.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
        let known =
            if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
        return Err(Failure::configuration(format!("no bridge is called {name:?}: {known}")));
    };
    let target = CheckTarget { config: &loaded.config, bridge };
    match viaduct_broker::check_bridge(target, &mut std::io::stdout()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure { text: None, code: 1 }),
        Err(error) => Err(Failure::new(error)),
    }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(character))),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// What the configuration is made of, but for what was said at run time.
fn source(file: Option<&Path>, overrides: &[String]) -> Result<Source, String> {
    let file = match file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(SourceFile { name: path.display().to_string(), text })
        }
    };
    Ok(with_environment(file, overrides))
}

fn with_environment(file: Option<SourceFile>, overrides: &[String]) -> Source {
    // Names and values that are not UTF-8 can't be ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Source { file, environment, overrides: overrides.to_vec(), hostname, ..Source::default() }
}

fn read(source: Source) -> Result<Configuration, Failure> {
    Configuration::read(source).map_err(Failure::configuration)
}

fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        // Who reads no further has what they wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Failure::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_one_toml_string_whatever_is_in_it() {
        assert_eq!(quoted("mqtt://a"), "\"mqtt://a\"");
        assert_eq!(quoted("a\"\n[x]\\"), "\"a\\\"\\u000A[x]\\\\\"");
    }
}
