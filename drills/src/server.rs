//! The real binary: started, killed, stopped, and its store checked.
//!
//! In: a folder, where the data shall be, how it shall sync. Out: a broker that says that it is ready, and its exit codes.
//! Must never: leave a process behind, or end one that it did not start.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::arguments::Arguments;

/// How long a start, a stop or a check may take. Far longer than it does.
const DEADLINE: Duration = Duration::from_secs(60);
/// Below the range that the system hands out for outgoing connections, and beside that of the tests.
const PORTS: std::ops::Range<u16> = 17_000..21_000;

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) binary: PathBuf,
    /// Configuration and log.
    pub(crate) folder: PathBuf,
    pub(crate) data: PathBuf,
    /// `[store] sync`.
    pub(crate) sync: String,
    /// What else is in its configuration, behind the rest.
    pub(crate) more: String,
}

impl Places {
    /// All of it in one folder.
    pub(crate) fn below(arguments: &Arguments, folder: &Path, more: String) -> Self {
        let (binary, sync) = (arguments.binary.clone(), arguments.sync.clone());
        Self { binary, folder: folder.to_owned(), data: folder.join("data"), sync, more }
    }
}

/// What a broker has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// User and system time.
    pub(crate) processor: Duration,
    /// Bytes that are resident now, and the most that were.
    pub(crate) memory: u64,
    pub(crate) peak: u64,
}

/// Ports that nobody has for as long as they are held, and that no other drill takes before this one ends: a broker that is down
/// for a while gets its own again, and nobody dials another drill's meanwhile.
pub(crate) fn free_ports() -> impl Iterator<Item = TcpListener> {
    (0..PORTS.len()).filter_map(|step| {
        let spread = (std::process::id() as usize).wrapping_mul(97) + step;
        let port = PORTS.clone().nth(spread % PORTS.len())?;
        if is_claimed(port) { TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok() } else { None }
    })
}

/// Whether this process has the port's lock file, by now or before. The system takes it away when the process ends.
fn is_claimed(port: u16) -> bool {
    static CLAIMED: Mutex<BTreeMap<u16, File>> = Mutex::new(BTreeMap::new());
    let Ok(mut claimed) = CLAIMED.lock() else { return false };
    if claimed.contains_key(&port) {
        return true;
    }
    let folder = std::env::temp_dir().join("viaduct-drill-ports");
    let lock = std::fs::create_dir_all(&folder).and_then(|()| File::create(folder.join(port.to_string())));
    let Some(lock) = lock.ok().filter(|lock| lock.try_lock().is_ok()) else { return false };
    claimed.insert(port, lock);
    true
}

/// A broker that is running, or was.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) places: Places,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    child: Option<Child>,
    /// The longest time from the start of the process to ready.
    pub(crate) slowest_start: Duration,
}

impl Server {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// No free ports, or no folder.
    pub(crate) fn new(places: Places) -> Result<Self, String> {
        Self::on(places, &mut free_ports())
    }

    /// As [`Server::new`], on the next of `ports`: for several that do not run yet.
    ///
    /// # Errors
    /// As [`Server::new`].
    pub(crate) fn on(places: Places, ports: &mut impl Iterator<Item = TcpListener>) -> Result<Self, String> {
        std::fs::create_dir_all(&places.folder).map_err(|error| format!("{}: {error}", places.folder.display()))?;
        let mut free = ports.filter_map(|listener| listener.local_addr().ok());
        let (Some(address), Some(admin)) = (free.next(), free.next()) else { return Err("no free port".to_owned()) };
        Ok(Self { places, address, admin, child: None, slowest_start: Duration::ZERO })
    }

    /// Starts it, if it does not run, and waits until it says that it is ready.
    ///
    /// # Errors
    /// It ended, or did not become ready.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        if self.child.is_some() && self.ended().is_none() {
            return Ok(());
        }
        let began = Instant::now();
        self.spawn()?;
        loop {
            if let Some(code) = self.ended() {
                self.child = None;
                return Err(format!("the broker ended with {code} instead of starting:\n{}", self.last_words()));
            }
            if self.get("/health/ready").is_ok_and(|(status, _)| status == 200) {
                self.slowest_start = self.slowest_start.max(began.elapsed());
                return Ok(());
            }
            if began.elapsed() > DEADLINE {
                return Err(format!("the broker is not ready after {DEADLINE:?}:\n{}", self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts it and kills it after `time`, wherever it is then.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn stumble(&mut self, time: Duration) -> Result<(), String> {
        self.spawn()?;
        std::thread::sleep(time);
        self.kill();
        Ok(())
    }

    fn spawn(&mut self) -> Result<(), String> {
        let config = self.places.folder.join("broker.toml");
        let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(|error| error.to_string());
        write(&config, &self.configuration())?;
        let log = File::options().create(true).append(true).open(self.log_path()).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new(&self.places.binary)
            .args(["run", "--config"])
            .arg(&config)
            .current_dir(&self.places.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.places.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn configuration(&self) -> String {
        let Places { data, sync, more, .. } = &self.places;
        format!(
            "[node]\nid = \"drill\"\ndata_dir = {data:?}\nworkers = 2\n\n[log]\nfilter = \"warn\"\n\n\
             [[listener]]\nbind = \"{}\"\n\n[limits]\nconnect_timeout = \"30s\"\n\n\
             [session]\nmax_queued_messages = 1000000\nmax_queued_bytes = \"1GiB\"\n\n\
             [store]\nsync = \"{sync}\"\n\n[admin]\nbind = \"{}\"\n\n[sys]\ninterval = \"0s\"\n{more}",
            self.address, self.admin
        )
    }

    fn log_path(&self) -> PathBuf {
        self.places.folder.join("broker.log")
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// How it ended by itself; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let child = self.child.as_mut()?;
        child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// SIGKILL, and does not wait for its end.
    pub(crate) fn strike(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails only when it is gone already.
            let _ = child.kill();
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.strike();
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// SIGSTOP. When it returns, no thread of it does anything any more but what it had asked the kernel for.
    ///
    /// # Errors
    /// It runs on.
    pub(crate) fn freeze(&mut self) -> Result<(), String> {
        if let Some(status) = self.ended() {
            return Err(format!("the broker ended by itself with {status}:\n{}", self.last_words()));
        }
        let Some(child) = self.child.as_ref() else { return Ok(()) };
        kill_process(Pid::from_child(child), Signal::STOP).map_err(|error| format!("SIGSTOP: {error}"))?;
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            if threads(child.id()).map_err(|error| error.to_string())?.iter().all(|state| matches!(state, 'T' | 'D')) {
                return Ok(());
            }
            std::thread::yield_now();
        }
        Err(format!("SIGSTOP: it still runs after {DEADLINE:?}"))
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// It does not end, or not with 0.
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                return if status.success() { Ok(()) } else { Err(format!("SIGTERM: it ended with {status}")) };
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill();
        Err(format!("SIGTERM: it did not end within {DEADLINE:?}"))
    }

    /// `viaduct store check`, while nothing runs.
    ///
    /// # Errors
    /// There is no such command, or it found something.
    pub(crate) fn check_store(&self) -> Result<(), String> {
        let store = |words: &[&str]| {
            let mut command = Command::new(&self.places.binary);
            command.arg("store").args(words).stdin(Stdio::null());
            command
        };
        let is_there = store(&["--help"]).output().is_ok_and(|output| output.status.success());
        if !is_there {
            return Err("there is no `viaduct store check`".to_owned());
        }
        let output = store(&["check"]).arg(&self.places.data).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Err(format!("store check ended with {}: {} {}", output.status, said(&output.stdout), said(&output.stderr)))
    }

    /// The text at `/metrics`.
    ///
    /// # Errors
    /// It can't be had.
    pub(crate) fn metrics(&self) -> Result<String, String> {
        match self.get("/metrics") {
            Ok((200, body)) => Ok(body),
            Ok((status, _)) => Err(format!("/metrics: {status}")),
            Err(error) => Err(format!("/metrics: {error}")),
        }
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn cost(&self) -> Result<Cost, String> {
        let pid = self.child.as_ref().map(Child::id).ok_or("it does not run")?;
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| error.to_string());
        let stat = read("stat")?;
        // The name stands in parentheses and may hold anything; user and system time are fields 14 and 15, in hundredths.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = read("status")?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
        };
        let (memory, peak) = (bytes("VmRSS:").unwrap_or_default(), bytes("VmHWM:").unwrap_or_default());
        Ok(Cost { processor: Duration::from_millis(ticks * 10), memory, peak })
    }

    /// GET from the admin port: status and body.
    ///
    /// # Errors
    /// No HTTP answer.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut socket = TcpStream::connect_timeout(&self.admin, Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(socket, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin)?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let bad = || std::io::Error::other("no HTTP answer");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(bad)?;
        Ok((status, body.to_owned()))
    }
}

/// The state of every thread of a process, as the kernel abbreviates it.
fn threads(pid: u32) -> std::io::Result<Vec<char>> {
    let mut states = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        // The name of the thread stands before it in parentheses and may hold anything.
        states.extend(stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next()));
    }
    Ok(states)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
