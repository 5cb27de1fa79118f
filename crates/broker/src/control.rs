//! The configuration of the running broker, and changing it: the one place where a reload and the API meet.
//!
//! In: SIGHUP and orders of the API, one after the other. Out: another configuration that runs, or why nothing changed. What
//! is said at run time is checked as a file is, then kept, then done. Must never: do what was not kept, or half of an order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use viaduct_config::{
    Bridge, Changes, Config, ConfigError, Errors, Loaded, Origin, Place, Problem, Source, Written, WrittenBridge, load,
};

use crate::bridge::Moves;
use crate::files::apart;
use crate::limits::{BRIDGES, FILE_TIME, RUN_TIME_BYTES};
use crate::reload::{self, SetupError};
use crate::run_time;
use crate::state::Broker;

/// Reads the configuration again, on any thread; the error is for the operator.
pub(crate) type ReadAgain = Arc<dyn Fn() -> Result<Source, String> + Send + Sync>;

/// What runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) source: Source,
    pub(crate) loaded: Loaded,
    /// What this process calls itself in the hop lists of messages.
    pub(crate) origin: String,
}

impl Running {
    pub(crate) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// A bridge by name: what it means, and as it was written.
    pub(crate) fn bridge(&self, name: &str) -> Option<(&Bridge, &WrittenBridge)> {
        self.config().bridges.iter().zip(&self.loaded.bridges).find(|(bridge, _)| bridge.name == name)
    }
}

/// What is wanted of one bridge.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Make it; there is none of its name.
    Add(Written),
    /// Make it this, as a whole, whether there is one or not.
    Put(Written),
    /// Change these of its keys.
    Change(Written),
    /// It is no more.
    Remove,
    /// It runs, or not.
    Switch(bool),
    /// What file, environment and command line say holds again.
    Revert,
}

/// Something to do, and where to say what came of it.
#[derive(Debug)]
pub(crate) enum Order {
    /// Read the configuration again.
    Reload(oneshot::Sender<Result<Reloaded, Trouble>>),
    /// One bridge is to change.
    Bridge { name: String, wish: Wish, answer: oneshot::Sender<Result<Done, Trouble>> },
}

/// What a reload did.
#[derive(Debug)]
pub(crate) struct Reloaded {
    pub(crate) changes: Changes,
    pub(crate) warnings: Vec<ConfigError>,
}

/// What became of a bridge.
#[derive(Debug)]
pub(crate) struct Done {
    /// There was none of its name before.
    pub(crate) is_new: bool,
    /// Something is otherwise than before.
    pub(crate) changed: bool,
    /// Allowed, but worth a word.
    pub(crate) warnings: Vec<ConfigError>,
}

/// Why nothing changed.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// No bridge of that name.
    #[error("there is no bridge \"{0}\"")]
    NoBridge(String),
    /// There is one already.
    #[error("there is a bridge \"{0}\" already; PUT replaces it, POST to its own address changes it")]
    Exists(String),
    /// No more can be kept.
    #[error(
        "there are as many bridges, or as many rules, as are kept: {BRIDGES} bridges and {RUN_TIME_BYTES} bytes of them"
    )]
    TooMany,
    /// It can't go back to what the file says.
    #[error(
        "bridge \"{0}\" was added at run time and is in no file: there is nothing to go back to; DELETE removes it"
    )]
    OnlyHere(String),
    /// The configuration would be wrong.
    #[error(transparent)]
    Invalid(#[from] Errors),
    /// A file that it names can't be used, or rules of a bridge don't fit together.
    #[error(transparent)]
    Unusable(#[from] SetupError),
    /// The configuration file can't be read.
    #[error("{0}")]
    Unreadable(String),
    /// What was said could not be kept.
    #[error("{}: {source}: what can't be kept is not done", path.display())]
    NotKept {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The broker stops.
    #[error("the broker is stopping")]
    Stopping,
}

/// Where orders are given.
#[derive(Clone, Debug)]
pub(crate) struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// The two ends. The queue is short: each waits for its answer.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    /// Has the configuration read again.
    pub(crate) async fn reload(&self) -> Result<Reloaded, Trouble> {
        let (answer, question) = oneshot::channel();
        self.0.send(Order::Reload(answer)).await.map_err(|_| Trouble::Stopping)?;
        question.await.unwrap_or(Err(Trouble::Stopping))
    }

    /// Has a bridge changed.
    pub(crate) async fn bridge(&self, name: &str, wish: Wish) -> Result<Done, Trouble> {
        let (answer, question) = oneshot::channel();
        let order = Order::Bridge { name: name.to_owned(), wish, answer };
        self.0.send(order).await.map_err(|_| Trouble::Stopping)?;
        question.await.unwrap_or(Err(Trouble::Stopping))
    }
}

/// Reads the configuration again and makes it the running one.
pub(crate) async fn reload(broker: &Arc<Broker>, read_again: &ReadAgain) -> Result<Reloaded, Trouble> {
    let result = try_reload(broker, read_again).await;
    if let Err(trouble) = &result {
        tracing::error!("the configuration was not reloaded, nothing has changed:\n{trouble}");
    }
    result
}

async fn try_reload(broker: &Arc<Broker>, read_again: &ReadAgain) -> Result<Reloaded, Trouble> {
    let running = broker.running.load_full();
    let read = Arc::clone(read_again);
    let source = apart(FILE_TIME, move || read()).await.map_err(|error| Trouble::Unreadable(error.to_string()))?;
    let mut source = source.map_err(Trouble::Unreadable)?;
    source.run_time = running.source.run_time.clone();
    let loaded = load(source.clone())?;
    for warning in &loaded.warnings {
        tracing::warn!("configuration: {warning}");
    }
    let (for_whom, config, before) = (Arc::clone(broker), loaded.config.clone(), Arc::clone(&running));
    let prepared = apart(FILE_TIME, move || reload::prepare(&for_whom, &before, &config)).await;
    let mut prepared = prepared.map_err(SetupError::Files)??;
    prepared.bridges = keep(broker, None, prepared.bridges).await.map_err(SetupError::Files)?;
    let changes = prepared.carry_out(broker);
    let warnings = loaded.warnings.clone();
    broker.running.store(Arc::new(Running { source, loaded, origin: running.origin.clone() }));
    Ok(Reloaded { changes, warnings })
}

/// Does what is wanted of a bridge.
pub(crate) async fn change(broker: &Arc<Broker>, name: &str, wish: Wish) -> Result<Done, Trouble> {
    let running = broker.running.load_full();
    let mut source = running.source.clone();
    let is_new = running.bridge(name).is_none();
    let as_before = || Done { is_new, changed: false, warnings: Vec::new() };
    let by_keys = matches!(wish, Wish::Change(_));
    if !say(&mut source, &running, name, wish)? {
        return Ok(as_before());
    }
    let loaded = load(source.clone())?;
    if by_keys && pins_nothing(&running, name, &source, &loaded) {
        return Ok(as_before());
    }
    if is_new && loaded.config.bridges.len() > BRIDGES {
        return Err(Trouble::TooMany);
    }
    let (for_whom, config, before) = (Arc::clone(broker), loaded.config.clone(), Arc::clone(&running));
    let only = name.to_owned();
    let prepare = move || Moves::between(&for_whom, &before.origin, before.config(), &config, Some(&only));
    let moves = apart(FILE_TIME, prepare).await.map_err(SetupError::Files)?.map_err(SetupError::from)?;
    let said = (source.run_time != running.source.run_time).then(|| source.run_time.to_toml());
    if said.as_ref().is_some_and(|text| text.len() > RUN_TIME_BYTES) {
        return Err(Trouble::TooMany);
    }
    // The folder is that of the running broker: another one waits for a restart.
    let path = run_time::path(running.config());
    let said = said.map(|text| (path.clone(), text));
    let moves = keep(broker, said, moves).await.map_err(|source| Trouble::NotKept { path, source })?;
    let index = loaded.config.bridges.iter().position(|bridge| bridge.name == name);
    let within = index.map(|index| format!("bridge[{index}]"));
    let about = |warning: &&ConfigError| within.as_ref().is_some_and(|within| warning.key.starts_with(within));
    let warnings = loaded.warnings.iter().filter(about).filter(|w| !matches!(w.place, Place::File { .. })).cloned();
    let changed = source.run_time != running.source.run_time || !moves.is_empty();
    let done = Done { is_new, changed, warnings: warnings.collect() };
    broker.running.store(Arc::new(Running { source, loaded, origin: running.origin.clone() }));
    moves.carry_out(broker);
    Ok(done)
}

/// Whether a change of keys leaves the bridge what it was. To keep it nevertheless would take the bridge away from the
/// configuration, which would then rule it no longer, for nothing.
fn pins_nothing(running: &Running, name: &str, source: &Source, loaded: &Loaded) -> bool {
    let Some((before, written)) = running.bridge(name) else { return false };
    let after = loaded.config.bridges.iter().find(|bridge| bridge.name == name);
    let is_kept_already = matches!(written.origin, Origin::Changed | Origin::Added);
    after == Some(before) && (!is_kept_already || source.run_time == running.source.run_time)
}

/// Puts on disk what was said, if anything was, and what bridges ask their remotes for, before anything of it is done.
async fn keep(broker: &Arc<Broker>, said: Option<(PathBuf, String)>, mut moves: Moves) -> io::Result<Moves> {
    let broker = Arc::clone(broker);
    let kept = tokio::task::spawn_blocking(move || {
        said.map_or(Ok(()), |(path, text)| run_time::save(&path, &text))?;
        moves.remember(&broker.remembered);
        Ok(moves)
    });
    kept.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Adds the wish to what was said at run time; `false` when it is so already.
fn say(source: &mut Source, running: &Running, name: &str, wish: Wish) -> Result<bool, Trouble> {
    let run_time = &mut source.run_time;
    let before = running.bridge(name);
    match (wish, before) {
        (Wish::Add(_), Some(_)) => return Err(Trouble::Exists(name.to_owned())),
        (Wish::Add(written) | Wish::Put(written), _) => {
            of_that_name(name, &written)?;
            run_time.put(name, written.without_nulls());
        }
        (Wish::Revert, Some((_, before))) if before.origin == Origin::Added => {
            return Err(Trouble::OnlyHere(name.to_owned()));
        }
        (Wish::Revert, before) => {
            if !run_time.revert(name) {
                return if before.is_some() { Ok(false) } else { Err(Trouble::NoBridge(name.to_owned())) };
            }
        }
        (_, None) => return Err(Trouble::NoBridge(name.to_owned())),
        (Wish::Change(patch), Some((_, before))) => {
            of_that_name(name, &patch)?;
            let mut written = before.written.clone();
            written.merge(&patch);
            run_time.put(name, written);
        }
        (Wish::Remove, Some((_, before))) if before.origin == Origin::Added => drop(run_time.revert(name)),
        (Wish::Remove, Some(_)) => run_time.remove(name),
        (Wish::Switch(on), Some((bridge, _))) if bridge.enabled == on => return Ok(false),
        (Wish::Switch(on), Some(_)) => run_time.switch(name, on),
    }
    Ok(true)
}

/// A bridge can't be renamed: its session would be another one.
fn of_that_name(name: &str, written: &Written) -> Result<(), Trouble> {
    let problem = match written.name() {
        Ok(other) if other != name => {
            Problem::Contradiction(format!("it is called {other:?} here and {name:?} in the address"))
        }
        Ok(_) | Err(Problem::Missing(_)) => return Ok(()),
        Err(problem) => problem,
    };
    let suggestion = Some("leave `name` out; to rename a bridge, remove it and add another".to_owned());
    let place = Place::RunTime(name.to_owned());
    let error = ConfigError { key: "bridge[0].name".to_owned(), place, problem, suggestion };
    Err(Trouble::Invalid(Errors { errors: vec![error], warnings: Vec::new() }))
}
