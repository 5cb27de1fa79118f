//! Debian's mosquitto as somebody else's broker.

use std::net::SocketAddr;
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Process, Signal};
use crate::run::check_tool;
use crate::template::Ports;
use crate::wait::{DEADLINE, until};

/// A running mosquitto. Dereferences to its [`Process`].
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    ports: Ports,
    program: PathBuf,
    wait_for: Vec<String>,
    folder: TempDir,
}

impl Mosquitto {
    /// Whether it is installed; see [`check_tool`].
    #[must_use]
    #[track_caller]
    pub fn is_there() -> bool {
        check_tool("mosquitto", program()).is_some()
    }

    /// Starts it with an anonymous listener on `@port@` and `more` after that (same holes as [`crate::Broker`]).
    /// `None` when it is not installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    #[track_caller]
    pub fn start(more: &str) -> Option<Self> {
        Self::configured(
            tempfile::tempdir().unwrap(),
            &format!("listener @port@ 127.0.0.1\nallow_anonymous true\n{more}"),
        )
    }

    /// Starts it in `folder` with exactly this configuration, and logging to where the harness reads it.
    ///
    /// # Panics
    /// When it is installed and does not start.
    #[must_use]
    #[track_caller]
    pub fn configured(folder: TempDir, config: &str) -> Option<Self> {
        let program = check_tool("mosquitto", program())?;
        let mut ports = Ports::default();
        // As root it would change to a user that can't read the test's folder.
        let text = format!("user root\nlog_dest stderr\nlog_type all\n{config}");
        std::fs::write(folder.path().join("mosquitto.conf"), ports.fill(&text, folder.path())).unwrap();
        let listeners = config.lines().filter_map(|line| line.strip_prefix("listener @port"));
        let wait_for: Vec<String> = listeners
            .filter_map(|rest| rest.split_once('@'))
            .map(|(name, _)| name.trim_start_matches('.').to_owned())
            .collect();
        let process = launch(&program, folder.path());
        let mut mosquitto = Self { process, ports, program, wait_for, folder };
        mosquitto.wait_until_ready();
        Some(mosquitto)
    }

    /// Where the listener on `@port@` is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port("")
    }

    /// Where the listener on `@port.NAME@` is.
    #[must_use]
    pub fn port(&self, name: &str) -> SocketAddr {
        self.ports.get(name).address()
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::Term);
        let _ = self.process.wait(DEADLINE);
    }

    /// Starts it again after [`Mosquitto::stop`], on the same ports.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process = launch(&self.program, self.folder.path());
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let Self { process, ports, wait_for, .. } = self;
        until(DEADLINE, "mosquitto ready", || {
            assert!(process.ended().is_none(), "mosquitto ended instead of starting");
            wait_for.iter().all(|name| TcpStream::connect(ports.get(name).address()).is_ok()).then_some(())
        });
    }
}

impl Deref for Mosquitto {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Mosquitto {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn program() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().map(PathBuf::from).find(|path| path.is_file())
}

fn launch(program: &Path, folder: &Path) -> Process {
    let mut command = Command::new(program);
    command.arg("-c").arg(folder.join("mosquitto.conf")).current_dir(folder);
    Process::start("mosquitto", &mut command, &folder.join("mosquitto.log"))
}
