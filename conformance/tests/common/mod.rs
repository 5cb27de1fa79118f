//! Conversations as tests of their own, each under the name of its file and its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use viaduct_conformance::{Conversation, On, read_all};

/// Runs the conversations that `is_ours` takes.
pub(crate) fn run(is_ours: impl Fn(On) -> bool, trial: impl Fn(Conversation) -> Trial) -> ExitCode {
    let arguments = Arguments::from_args();
    let all = match read_all(&folder()) {
        Ok(all) => all,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let trials = all.into_iter().filter(|conversation| is_ours(conversation.on)).map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Where the conversations are: in this crate, or in the folder that `VIADUCT_CONVERSATIONS` names.
fn folder() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("conversations");
    std::env::var_os("VIADUCT_CONVERSATIONS").map_or_else(own, PathBuf::from)
}
