//! One run: which servers are here, every scenario in rounds, server after server, and the report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::arguments::Arguments;
use crate::machine;
use crate::matching;
use crate::report::{Contestant, Report, Table};
use crate::scenario::{self, Effort, Scenario};
use crate::server::{Places, Server};
use crate::tls::Identity;

/// Open files that are no connections of a crowd.
const OTHER_FILES: u64 = 500;

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().map_err(|error| format!("a folder for certificates: {error}"))?;
    let target = target(&root);
    let data = tempfile::Builder::new().prefix("bench-data-").tempdir_in(&target);
    let data = data.map_err(|error| format!("a folder for the servers: {error}"))?;
    let places = Places {
        target,
        data: data.path().to_owned(),
        own: std::env::current_exe().map_err(|error| format!("where am I: {error}"))?,
        identity: Identity::new(folder.path()).map_err(|error| format!("certificate: {error}"))?,
    };
    let scenarios = chosen(arguments)?;
    let (servers, versions) = present(arguments, &places);
    let cores = machine::cores();
    if let Some(last) = cores.last() {
        machine::pin(&[*last]).map_err(|error| format!("core {last}: {error}"))?;
    }
    let effort = effort(arguments.is_quick);
    let load = machine::load();
    let mut report = Report {
        machine: machine::description(&cores),
        load,
        disk: machine::file_system(data.path()),
        versions,
        command: arguments.command.clone(),
        rounds: arguments.rounds,
        is_quick: arguments.is_quick,
        tables: Vec::new(),
    };
    print!("{}", report.head());
    for scenario in scenarios {
        let contestants = if scenario.is_match() {
            eprintln!("{}", scenario.name);
            matching::in_turn(effort.subscriptions, arguments.rounds, |name| arguments.wants(name))
        } else {
            in_turn(scenario, &servers, &places, &cores, effort, arguments.rounds)
        };
        let table = Table { scenario, contestants };
        if table.contestants.is_empty() {
            continue;
        }
        print!("{}", table.text());
        report.tables.push(table);
    }
    print!("{}", report.promises());
    if arguments.is_written {
        let page = root.join("docs/benchmarks.md");
        std::fs::write(&page, report.page()).map_err(|error| format!("{}: {error}", page.display()))?;
    }
    Ok(())
}

/// A, B, C, A, B, C: what disturbs the machine disturbs all of them.
fn in_turn(
    scenario: Scenario,
    servers: &[Server],
    places: &Places,
    cores: &[usize],
    effort: Effort,
    rounds: usize,
) -> Vec<Contestant> {
    let servers = scenario.contestants(servers);
    let mut contestants: Vec<_> = servers.iter().map(|server| Contestant::new(server.name())).collect();
    let rounds = rounds * scenario.samples_a_round();
    for round in 0..rounds {
        for (server, contestant) in servers.iter().zip(&mut contestants) {
            eprintln!("{} {}/{rounds} {}", scenario.name, round + 1, contestant.name);
            match scenario.sample(server, places, cores, effort) {
                Ok(sample) => contestant.samples.push(sample),
                Err(error) => contestant.failure = Some(error.to_string()),
            }
        }
    }
    contestants
}

fn effort(is_quick: bool) -> Effort {
    let most = usize::try_from(machine::open_files().saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    let (warm_up, time, connections, backlog, subscriptions) =
        if is_quick { (100, 300, 500, 50_000, 50_000) } else { (300, 1_000, 10_000, 1_000_000, 1_000_000) };
    Effort {
        warm_up: Duration::from_millis(warm_up),
        time: Duration::from_millis(time),
        connections: most.min(connections),
        backlog,
        subscriptions,
    }
}

fn chosen(arguments: &Arguments) -> Result<Vec<Scenario>, String> {
    let all = scenario::all();
    let names: Vec<&str> = all.iter().map(|scenario| scenario.name).collect();
    for wanted in &arguments.scenarios {
        if !names.iter().any(|name| name.starts_with(wanted.as_str())) {
            return Err(format!("{wanted} is no scenario; there are {}", names.join(", ")));
        }
    }
    // A whole name means that one alone, even where others begin with it.
    let is_wanted = |name: &str, wanted: &String| {
        if names.contains(&wanted.as_str()) { name == wanted } else { name.starts_with(wanted.as_str()) }
    };
    let is_chosen =
        |name: &str| arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|wanted| is_wanted(name, wanted));
    Ok(all.iter().filter(|scenario| is_chosen(scenario.name)).copied().collect())
}

/// The servers of this machine, and a line about each, those that are missing too.
fn present(arguments: &Arguments, places: &Places) -> (Vec<Server>, Vec<(String, String)>) {
    let mut all = vec![Server::Copy, Server::Parse, Server::Viaduct { workers: 1 }, Server::Mosquitto, Server::Rumqttd];
    all.extend(arguments.peers.iter().cloned());
    let mut servers = Vec::new();
    let mut versions = Vec::new();
    for server in all {
        let name = server.name();
        if !arguments.wants(&name) {
            continue;
        }
        match server.version(places) {
            Some(version) => {
                versions.push((name, version));
                servers.push(server);
            }
            None => versions.push((name, "not on this machine, left out".to_owned())),
        }
    }
    (servers, versions)
}

fn target(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let target = root.join(target);
    target.canonicalize().unwrap_or(target)
}
