//! The words of the command line.

use std::path::PathBuf;
use std::time::Duration;

/// How a drill is asked for.
pub const HELP: &str = "cargo xtask drill kill|power|cut|full|hub|drain [--rounds N] [--seed S] [--sync always|interval|off]
                 [--bridged] [--expect-loss] [--keep-going] [--disk MIB] [--edges N] [--minutes N] [--messages N] [--folder DIR] [--dev]

  kill            SIGKILL at a random moment under load, restart, compare
  power           the same on a file system that is shut down under the broker without flushing (root)
  cut             only connections break, the broker lives: the drill itself must find nothing
  full            a small file system that runs full (root)
  hub             one broker with bridges to many edges, which have every trouble there is (root: also black holes)
  drain           a bridge whose queue grows while its remote is away, and what becomes of it afterwards
  --rounds N      how often (10, full: 1); a failing round ends the drill
  --seed S        what is tried; printed when it is not given
  --sync MODE     `[store] sync` of the broker (always)
  --bridged       kill, power and cut: with a bridge to another broker, which is killed as well
  --expect-loss   passes only when something acknowledged was lost: shows that the drill bites
  --keep-going    a failing round does not end the drill
  --disk MIB      full: the size of the file system (48)
  --edges N       hub: how many (37)
  --minutes N     hub: how long (5)
  --messages N    drain: how many wait (1,000,000)
  --folder DIR    where the broker's data goes; kept (a new folder below the system's temporary one, kept on failure)
  --dev           a binary that is not optimised
";

/// The file system that runs full, unless told otherwise: 12 of them are somebody else's.
pub const DISK_MIB: u64 = 48;

/// Edges of the hub, unless told otherwise.
pub const EDGES: usize = 37;
/// How long the hub's drill takes, unless told otherwise.
pub const LENGTH: Duration = Duration::from_secs(300);
/// Messages of the drain, unless told otherwise.
pub const MESSAGES: usize = 1_000_000;

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// The process.
    Kill,
    /// The machine.
    Power,
    /// Nothing but connections.
    Cut,
    /// The disk has no room.
    Full,
    /// The edges of many bridges.
    Hub,
    /// The remote of a bridge, for as long as it takes to fill a queue.
    Drain,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// What breaks.
    pub drill: Drill,
    /// How often; at least 1.
    pub rounds: u32,
    /// What chance is made of.
    pub seed: u64,
    /// `[store] sync`.
    pub sync: String,
    /// With a bridge to another broker.
    pub is_bridged: bool,
    /// Loss is what is wanted.
    pub expects_loss: bool,
    /// A failing round is not the last.
    pub keeps_going: bool,
    /// Of the file system that runs full.
    pub disk_mib: u64,
    /// Of the hub; 1 to 100.
    pub edges: usize,
    /// Of the hub's drill, setting up and coming to rest not counted.
    pub length: Duration,
    /// Of the drain; at least 8.
    pub messages: usize,
    /// Where the data goes; `None` for a new folder.
    pub folder: Option<PathBuf>,
    /// The binary under test.
    pub binary: PathBuf,
}

impl Arguments {
    /// Reads them; the binary is what `VIADUCT_BIN` names.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(words: &[String]) -> Result<Self, String> {
        let (drill, rest) = match words.split_first() {
            Some((word, rest)) if word == "kill" => (Drill::Kill, rest),
            Some((word, rest)) if word == "power" => (Drill::Power, rest),
            Some((word, rest)) if word == "cut" => (Drill::Cut, rest),
            Some((word, rest)) if word == "full" => (Drill::Full, rest),
            Some((word, rest)) if word == "hub" => (Drill::Hub, rest),
            Some((word, rest)) if word == "drain" => (Drill::Drain, rest),
            _ => return Err("which drill?".to_owned()),
        };
        let binary = std::env::var_os("VIADUCT_BIN").map(PathBuf::from).unwrap_or_default();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut arguments = Self {
            drill,
            rounds: if drill == Drill::Full { 1 } else { 10 },
            seed: now.map_or(0, |now| now.as_secs()),
            sync: "always".to_owned(),
            is_bridged: false,
            expects_loss: false,
            keeps_going: false,
            disk_mib: DISK_MIB,
            edges: EDGES,
            length: LENGTH,
            messages: MESSAGES,
            folder: None,
            binary,
        };
        let mut words = rest.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} of what?"));
            let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{text}: a number is wanted"));
            match word.as_str() {
                "--rounds" => arguments.rounds = u32::try_from(number(value()?)?.max(1)).unwrap_or(u32::MAX),
                "--seed" => arguments.seed = number(value()?)?,
                "--sync" => arguments.sync = value()?.clone(),
                "--bridged" if matches!(drill, Drill::Kill | Drill::Power | Drill::Cut) => arguments.is_bridged = true,
                "--expect-loss" => arguments.expects_loss = true,
                "--disk" => arguments.disk_mib = number(value()?)?.clamp(32, 4_096),
                "--edges" => arguments.edges = usize::try_from(number(value()?)?.clamp(1, 100)).unwrap_or(EDGES),
                "--minutes" => arguments.length = Duration::from_secs(60 * number(value()?)?.clamp(1, 10_000)),
                "--messages" => {
                    arguments.messages = usize::try_from(number(value()?)?.clamp(8, 1 << 30)).unwrap_or(MESSAGES)
                }
                "--keep-going" => arguments.keeps_going = true,
                "--folder" => arguments.folder = Some(value()?.into()),
                _ => return Err(format!("{word}?")),
            }
        }
        if !arguments.binary.is_file() {
            return Err(
                "VIADUCT_BIN does not name the binary; `cargo xtask drill` builds it and says where it is".to_owned()
            );
        }
        Ok(arguments)
    }
}
