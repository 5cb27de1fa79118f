//! One child process: its log in a file, its signals, what it costs, and that it is gone at the end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait::{DEADLINE, until, within};

/// What a process can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop, please.
    Term,
    /// Stop, from the keyboard.
    Int,
    /// Read your files again.
    Hup,
    /// Stand still.
    Stop,
    /// Go on.
    Cont,
    /// Die.
    Kill,
}

/// A child process, killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Lines of log that a failing test shows.
const SHOWN: usize = 200;

impl Process {
    /// Starts it with both outputs appended to the file `log`.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits for a line of the log that holds every one of `words`, and returns it.
    ///
    /// # Panics
    /// When none comes within [`DEADLINE`].
    #[track_caller]
    pub fn wait_for_log(&self, words: &[&str]) -> String {
        let look = || {
            let log = self.log();
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).ok_or(log)
        };
        match within(DEADLINE, look) {
            Ok(line) => line,
            Err(log) => panic!("no line of the {} log with {words:?}; it has:\n{log}", self.name),
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When `kill` does not run.
    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Term => "-TERM",
            Signal::Int => "-INT",
            Signal::Hup => "-HUP",
            Signal::Stop => "-STOP",
            Signal::Cont => "-CONT",
            Signal::Kill => "-KILL",
        };
        // The child is not reaped before `self` is gone or has seen it end, so the number is still its own.
        let status = Command::new("kill").args([name, &self.id().to_string()]).stderr(Stdio::null()).status();
        assert!(status.is_ok(), "kill does not run");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let Self { child, name, .. } = self;
        until(deadline, &format!("the end of {name}"), || child.try_wait().unwrap())
    }

    /// Its end, if that has come.
    #[must_use]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Processor time that it took so far, user and system.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // The name is in parentheses and may hold anything; user and system time are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // The kernel shows times in hundredths of a second on every Linux that Rust supports.
        Duration::from_millis(ticks * 10)
    }

    /// Bytes of memory that are resident.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that stopped it would otherwise wait for ever below.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            eprintln!("---- log of {} ({:?})\n{shown}\n----", self.name, self.log);
        }
    }
}
