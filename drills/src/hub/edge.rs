//! One edge: a real broker, mosquitto or Viaduct, that the hub has a bridge to.
//!
//! In: which broker, where, with which certificate and levels. Out: a process that is started, killed, frozen and thawed.
//! It has a listener for its own clients and one for the hub, so that what changes for the hub changes for nobody else.
//! Must never: leave a process behind.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::certificates::Identity;
use super::namespace::Namespace;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    Viaduct,
    Mosquitto,
}

/// All levels, and what an edge may be upgraded or degraded to.
pub(crate) const LEVELS: [&str; 4] = ["[3, 4, 5, 131, 132]", "[5]", "[4, 132]", "[3, 131]"];

/// An edge that is running, or was.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) make: Make,
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    /// `[store] sync` of a Viaduct.
    pub(crate) sync: String,
    /// Where its own clients go.
    pub(crate) clients: SocketAddr,
    /// Where the hub goes, or the wire that leads there.
    pub(crate) bridges: SocketAddr,
    /// What it shows the hub, if they speak TLS.
    pub(crate) identity: Option<Identity>,
    /// One of [`LEVELS`], for the hub.
    pub(crate) levels: &'static str,
    pub(crate) child: Option<Child>,
    /// Behind the process, so that it is gone when this goes.
    pub(crate) namespace: Option<Namespace>,
}

impl Edge {
    /// Starts it with what it has to say now; its clients find out when it is ready.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn spawn(&mut self) -> Result<(), String> {
        self.kill();
        let said = |error: std::io::Error| error.to_string();
        std::fs::create_dir_all(&self.folder).map_err(said)?;
        let (file, words): (PathBuf, &[&str]) = match self.make {
            Make::Viaduct => (self.folder.join("broker.toml"), &["run", "--config"]),
            Make::Mosquitto => (self.folder.join("mosquitto.conf"), &["-c"]),
        };
        let text = if self.make == Make::Viaduct { self.viaduct() } else { self.mosquitto() };
        std::fs::write(&file, text).map_err(said)?;
        let log = File::options().create(true).append(true).open(self.folder.join("log")).map_err(said)?;
        let mut command = match &self.namespace {
            None => Command::new(&self.program),
            Some(namespace) => namespace.command(&self.program),
        };
        command.args(words).arg(&file).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(said)?).stderr(log);
        self.child = Some(command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))?);
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP or SIGCONT.
    ///
    /// # Errors
    /// It ended by itself.
    pub(crate) fn freeze(&mut self, does: bool) -> Result<(), String> {
        let Some(child) = self.child.as_mut() else { return Err("it is not there".to_owned()) };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended by itself with {status}"));
        }
        let signal = if does { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(child), signal).map_err(|error| error.to_string())
    }

    fn viaduct(&self) -> String {
        let data = self.folder.join("data");
        let tls = self.identity.as_ref().map_or_else(String::new, |Identity { cert, key }| {
            format!("[listener.tls]\ncert_file = {cert:?}\nkey_file = {key:?}\n\n")
        });
        format!(
            "[node]\nid = \"edge\"\ndata_dir = {data:?}\nworkers = 1\n\n[log]\nfilter = \"warn\"\n\n\
             [[listener]]\nname = \"clients\"\nbind = \"{}\"\nallow_anonymous = true\n\n\
             [[listener]]\nname = \"bridges\"\nbind = \"{}\"\nallow_anonymous = true\n\
             allowed_protocol_versions = {}\n\n{tls}\
             [session]\nmax_queued_messages = 1000000\nmax_queued_bytes = \"256MiB\"\n\n\
             [store]\nsync = \"{}\"\n\n[admin]\nbind = \"off\"\n\n[sys]\ninterval = \"0s\"\n",
            self.clients, self.bridges, self.levels, self.sync
        )
    }

    /// Without bounds of its own that lose or reorder messages: a window is what mosquitto 2.0 reorders behind.
    fn mosquitto(&self) -> String {
        let tls = self.identity.as_ref().map_or_else(String::new, |Identity { cert, key }| {
            format!("certfile {}\nkeyfile {}\n", cert.display(), key.display())
        });
        let listener = |at: SocketAddr| format!("listener {} {}\n", at.port(), at.ip());
        format!(
            "user root\nlog_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\nallow_anonymous true\n\
             max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n{}{}{tls}",
            listener(self.clients),
            listener(self.bridges)
        )
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where mosquitto is, if it is.
pub(crate) fn mosquitto() -> Option<PathBuf> {
    ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]
        .into_iter()
        .map(Path::new)
        .find(|path| path.is_file())
        .map(Into::into)
}
