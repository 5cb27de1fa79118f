//! The broker under test: the real binary, in a folder and on ports of its own.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::binary::viaduct;
use crate::http::{Response, get};
use crate::metrics;
use crate::process::{Process, Signal};
use crate::template::Ports;
use crate::wait::{DEADLINE, until, within};

/// The name of the listener that a configuration without one gets.
const DEFAULT_LISTENER: &str = "";
/// The name of the admin port.
const ADMIN: &str = "admin";
/// How often other ports are tried when one was taken in the meantime.
const ATTEMPTS: usize = 5;

/// A running `viaduct`. Dereferences to its [`Process`].
///
/// The configuration is a text with holes: `@port@` and `@port.NAME@` become free ports, `@dir@` the folder that the
/// broker runs in. A text without `[[listener]]` gets the default one on `@port@`; data directory, admin port and, unless
/// the text says otherwise, two workers come from the command line.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    ports: Ports,
    template: String,
    environment: Vec<(String, String)>,
    folder: TempDir,
}

impl Broker {
    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    #[track_caller]
    pub fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// Starts it in `folder`, where the test has put files that the configuration names as `@dir@/...`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    #[track_caller]
    pub fn start_in(folder: TempDir, config: &str) -> Self {
        Self::start_with(folder, config, &[])
    }

    /// Starts it in `folder` with `environment`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    #[track_caller]
    pub fn start_with(folder: TempDir, config: &str, environment: &[(&str, &str)]) -> Self {
        let environment: Vec<(String, String)> =
            environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for _ in 0..ATTEMPTS {
            let mut ports = Ports::default();
            let mut process = launch(folder.path(), config, &environment, &mut ports);
            if wait_until_ready(&mut process, ports.get(ADMIN).address()) {
                return Self { process, ports, template: config.to_owned(), environment, folder };
            }
            assert!(process.log().contains("in use"), "viaduct ended instead of starting");
        }
        panic!("{ATTEMPTS} times a port was taken");
    }

    /// Where the listener on `@port@` is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port(DEFAULT_LISTENER)
    }

    /// Where the listener on `@port.NAME@` is.
    #[must_use]
    pub fn port(&self, name: &str) -> SocketAddr {
        self.ports.get(name).address()
    }

    /// Where the admin HTTP is.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.port(ADMIN)
    }

    /// The folder it runs in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        config_path(self.folder.path())
    }

    /// Writes another configuration, with the same ports where the names are the same. It holds from the next SIGHUP or
    /// start.
    ///
    /// # Panics
    /// When the file can't be written.
    pub fn write_config(&mut self, config: &str) {
        config.clone_into(&mut self.template);
        write_config(self.folder.path(), config, &mut self.ports);
    }

    /// GET from the admin port.
    ///
    /// # Panics
    /// When there is no HTTP answer.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        get(self.admin(), path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The text at `/metrics`.
    ///
    /// # Panics
    /// When it can't be had.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self) -> String {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200, "{response:?}");
        response.body
    }

    /// The sum of all samples of `name` with every one of `labels`; zero when there is none yet.
    ///
    /// # Panics
    /// When the metrics can't be had.
    #[must_use]
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metric_if_any(name, labels).unwrap_or(0.0)
    }

    /// As [`Broker::metric`], `None` when there is no such sample.
    ///
    /// # Panics
    /// When the metrics can't be had.
    #[must_use]
    #[track_caller]
    pub fn metric_if_any(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        metrics::sum(&metrics::parse(&self.metrics()), name, labels)
    }

    /// Waits until a metric has a value that `is` takes, and returns it.
    ///
    /// # Panics
    /// When it does not get there within [`DEADLINE`].
    #[track_caller]
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], is: impl Fn(f64) -> bool) -> f64 {
        let look = || {
            let value = self.metric(name, labels);
            if is(value) { Ok(value) } else { Err(value) }
        };
        match within(DEADLINE, look) {
            Ok(value) => value,
            Err(value) => panic!("{name}{labels:?} does not get where the test wants it: it is {value}"),
        }
    }

    /// SIGTERM, then waits for the end and returns the exit code.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.process.signal(Signal::Term);
        self.process.wait(DEADLINE).code()
    }

    /// The exit code, once the process ends by itself.
    ///
    /// # Panics
    /// When it does not end within [`DEADLINE`].
    #[track_caller]
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.wait(DEADLINE).code()
    }

    /// Kills it as a power cut would.
    ///
    /// # Panics
    /// When it does not die.
    #[track_caller]
    pub fn kill(&mut self) {
        self.process.signal(Signal::Kill);
        let _ = self.process.wait(DEADLINE);
    }

    /// Starts it again after [`Broker::stop`] or [`Broker::kill`]: same folder, same ports, same log file.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.ended().is_some(), "it is still running");
        self.process = launch(self.folder.path(), &self.template, &self.environment, &mut self.ports);
        let admin = self.admin();
        assert!(wait_until_ready(&mut self.process, admin), "viaduct ended instead of starting again");
    }
}

impl Deref for Broker {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Broker {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn config_path(folder: &Path) -> PathBuf {
    folder.join("broker.toml")
}

fn write_config(folder: &Path, config: &str, ports: &mut Ports) {
    std::fs::write(config_path(folder), ports.fill(config, folder)).unwrap();
}

fn launch(folder: &Path, config: &str, environment: &[(String, String)], ports: &mut Ports) -> Process {
    write_config(folder, config, ports);
    let mut command = Command::new(viaduct());
    command.current_dir(folder).args(["run", "--config"]).arg(config_path(folder));
    let mut set = |key: &str, value: String| {
        command.arg("--set").arg(format!("{key}={value}"));
    };
    set("node.data_dir", folder.join("data").display().to_string());
    set("admin.bind", format!("127.0.0.1:{}", ports.number(ADMIN)));
    if !config.contains("[[listener]]") {
        set("listener.0.bind", format!("127.0.0.1:{}", ports.number(DEFAULT_LISTENER)));
    }
    if !config.contains("workers") {
        // More than one, so that messages cross between workers; the same on every machine.
        set("node.workers", "2".to_owned());
    }
    for (key, value) in environment {
        command.env(key, value);
    }
    Process::start("viaduct", &mut command, &folder.join("broker.log"))
}

/// `false` when the process ended.
fn wait_until_ready(process: &mut Process, admin: SocketAddr) -> bool {
    until(DEADLINE, "viaduct ready", || {
        if process.ended().is_some() {
            return Some(false);
        }
        get(admin, "/health/ready").is_ok_and(|response| response.status == 200).then_some(true)
    })
}
