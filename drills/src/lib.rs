//! Drills: the real binary under load, something that breaks, and what is still there afterwards.
//!
//! In: a binary, a seed, how many rounds. Out: totals, and every promise that was broken, with the seed and the round. The
//! clients and the account are written from the standard and share nothing with the broker but the codec. Must never:
//! look into the broker, or wait for a time where it could wait for a condition.

use std::path::{Path, PathBuf};

mod actor;
mod arguments;
mod book;
mod cast;
mod client;
mod disk;
mod drain;
mod fleet;
mod full;
mod hub;
mod judge;
mod report;
mod retained;
mod rng;
mod round;
mod server;
mod solo;
mod stage;
mod stream;

pub use arguments::{Arguments, DISK_MIB, Drill, EDGES, HELP, LENGTH, MESSAGES};
pub use report::Outcome;

/// Runs what was asked for, and says what comes of it on standard output. A folder that the drill has made is kept only when it
/// failed.
#[must_use]
pub fn run(arguments: &Arguments) -> Outcome {
    let (folder, is_ours) = match folder(arguments) {
        Ok(found) => found,
        Err(error) => {
            println!("{error}");
            return Outcome::Failed;
        }
    };
    // Brokers have folders of their own to run in.
    let arguments = &Arguments { binary: absolute(&arguments.binary), ..arguments.clone() };
    let result = match arguments.drill {
        Drill::Kill | Drill::Power | Drill::Cut => round::run(arguments, &folder),
        Drill::Full => full::run(arguments, &folder),
        Drill::Hub => hub::run(arguments, &folder),
        Drill::Drain => drain::run(arguments, &folder),
    };
    let outcome = result.unwrap_or_else(|error| {
        println!("{error}");
        Outcome::Failed
    });
    if outcome == Outcome::Failed {
        println!("kept: {}", folder.display());
    } else if is_ours {
        // What can't be removed is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&folder);
    }
    outcome
}

/// Where everything goes, and whether it is the drill's own to remove.
fn folder(arguments: &Arguments) -> Result<(PathBuf, bool), String> {
    let name = format!("viaduct-drill-{}-{}", std::process::id(), arguments.seed);
    let (folder, is_ours) = match &arguments.folder {
        Some(folder) => (folder.clone(), false),
        None => (std::env::temp_dir().join(name), true),
    };
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok((absolute(&folder), is_ours))
}

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
