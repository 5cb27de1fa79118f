//! The servers that are compared: how each is configured, started, waited for, asked for its version and ended.
//!
//! Every sample gets a process of its own on a free loopback port and an empty folder on a disk, with default settings except where a default would
//! lose messages that another server keeps, or would measure a delay instead of a cost.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::frame;
use crate::link::{Link, Scratch};
use crate::machine::Usage;
use crate::tls::Identity;
use crate::watch::{self, StoreNumbers};

/// The longest that a server may take until it answers a CONNECT.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a bridge is tried with: among the topics that it carries, and none of a flow's.
const PROBE: &str = "b/probe";

/// Something that forwards messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Server {
    /// The null relay that copies bytes.
    Copy,
    /// The null relay that walks messages.
    Parse,
    /// The binary of this repository.
    Viaduct {
        /// Its worker threads.
        workers: usize,
    },
    /// Debian's, from the path.
    Mosquitto,
    /// From crates.io, under `target/bench-peers`.
    Rumqttd,
    /// A broker whose subscribers have sessions that outlive their connections, beside the same with clean sessions.
    Kept(Box<Self>),
    /// Two of one kind: what is published at the first is heard at the second.
    Bridge(Bridge),
    /// Any other: a command for the shell and the port it will listen on.
    Peer {
        /// In the table.
        name: String,
        /// On loopback.
        port: u16,
        /// What starts it in the foreground.
        command: String,
    },
}

/// A pair of brokers. Both use one core, so that a message costs what both of them spent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bridge {
    /// Two of the binary of this repository.
    Viaduct {
        /// MQTT version of the link: 4 or 5.
        level: u8,
    },
    /// Two of Debian's, over 3.1.1.
    Mosquitto,
}

/// Where things are.
#[derive(Debug)]
pub(crate) struct Places {
    /// The folder of what is built.
    pub(crate) target: PathBuf,
    /// This program, which is also the relay.
    pub(crate) own: PathBuf,
    /// Where servers have their folders: on a disk, because what they keep is synced.
    pub(crate) data: PathBuf,
    /// For certificates of TLS listeners.
    pub(crate) identity: Identity,
}

/// What is wanted of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) cores: &'a [usize],
    pub(crate) tls: bool,
    /// Whether it is to survive its end what sessions are owed, and to say what its store does.
    pub(crate) stores: bool,
    /// Whether Viaduct shall have no more under way to one client than it has by default.
    pub(crate) has_default_window: bool,
}

impl Server {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Copy => "relay (copy)".to_owned(),
            Self::Parse => "relay (parse)".to_owned(),
            Self::Viaduct { workers: 1 } => "Viaduct".to_owned(),
            Self::Viaduct { workers } => format!("Viaduct, {workers} workers"),
            Self::Mosquitto => "mosquitto".to_owned(),
            Self::Rumqttd => "rumqttd".to_owned(),
            // The name of what it is measured by stands before the comma.
            Self::Kept(broker) => format!("{}, kept", broker.name()),
            Self::Bridge(Bridge::Viaduct { level: 5 }) => "Viaduct, bridge 5.0".to_owned(),
            Self::Bridge(Bridge::Viaduct { .. }) => "Viaduct, bridge 3.1.1".to_owned(),
            Self::Bridge(Bridge::Mosquitto) => "mosquitto, bridge 3.1.1".to_owned(),
            Self::Peer { name, .. } => name.clone(),
        }
    }

    /// What it says about its version; `None` if it is not here.
    pub(crate) fn version(&self, places: &Places) -> Option<String> {
        match self {
            Self::Copy | Self::Parse => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Viaduct { .. } => said(Command::new(places.viaduct()).arg("--version"), "viaduct "),
            Self::Mosquitto => said(Command::new(mosquitto()).arg("-h"), "mosquitto version "),
            Self::Rumqttd => said(Command::new(places.rumqttd()).arg("--version"), "rumqttd "),
            Self::Kept(broker) => broker.version(places),
            Self::Bridge(bridge) => bridge.broker().version(places),
            Self::Peer { command, .. } => Some(format!("`{command}`")),
        }
    }

    /// Starts it and waits until it answers and, being a bridge, carries messages.
    pub(crate) fn start(&self, places: &Places, wish: Wish<'_>) -> io::Result<Running> {
        let bridge = match self {
            Self::Bridge(bridge) => bridge,
            Self::Kept(broker) => return broker.start_one(places, wish, ""),
            _ => return self.start_one(places, wish, ""),
        };
        let broker = bridge.broker();
        let far = broker.start_one(places, wish, "")?;
        let mut near = broker.start_one(places, wish, &bridge.config(far.address))?;
        near.far = Some(Box::new(far));
        near.wait_for_bridge().map(|()| near)
    }

    /// One process; `more` goes to the end of its configuration.
    fn start_one(&self, places: &Places, wish: Wish<'_>, more: &str) -> io::Result<Running> {
        let folder = tempfile::Builder::new().tempdir_in(&places.data)?;
        let port = match self {
            Self::Peer { port, .. } => *port,
            _ => free_port()?,
        };
        let tls_port = if wish.tls { Some(free_port()?) } else { None };
        let admin_port = if wish.stores && *self == (Self::Viaduct { workers: 1 }) { Some(free_port()?) } else { None };
        let more = &(self.storing(wish, admin_port) + more);
        let words = self.command(places, folder.path(), port, tls_port, more)?;
        let cores: Vec<String> = wish.cores.iter().map(ToString::to_string).collect();
        let mut command = Command::new(&places.own);
        command.arg("launch").arg(cores.join(",")).args(words).current_dir(folder.path()).stdin(Stdio::null());
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let running = Running {
            child: spawn(&mut command, folder.path())?,
            command,
            address: at(port),
            tls_address: tls_port.map(at),
            admin: admin_port.map(at),
            folder,
            far: None,
        };
        running.wait().map(|()| running)
    }

    /// What is added to its configuration so that it keeps, without a limit, what sessions are owed. Viaduct always does.
    fn storing(&self, wish: Wish<'_>, admin: Option<u16>) -> String {
        let window = if wish.has_default_window { "" } else { "max_inflight = 1000\n" };
        match (self, admin) {
            (Self::Viaduct { .. }, Some(port)) => {
                format!(
                    "{window}max_queued_messages = 10000000\nmax_queued_bytes = \"16GiB\"\n[admin]\nbind = \"127.0.0.1:{port}\"\n"
                )
            }
            (Self::Viaduct { .. }, None) => format!("{window}[admin]\nbind = \"off\"\n"),
            (Self::Mosquitto, _) if wish.stores => "persistence true\npersistence_location ./\n".to_owned(),
            _ => String::new(),
        }
    }

    fn command(
        &self,
        places: &Places,
        folder: &Path,
        port: u16,
        tls: Option<u16>,
        more: &str,
    ) -> io::Result<Vec<String>> {
        let path = |path: &Path| path.display().to_string();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let config = folder.join("config");
        Ok(match self {
            Self::Copy => words(&[&path(&places.own), "relay", "copy", &port.to_string()]),
            Self::Parse => words(&[&path(&places.own), "relay", "parse", &port.to_string()]),
            Self::Viaduct { workers } => {
                fs::write(&config, viaduct_config(*workers, port, tls, places) + more)?;
                words(&[&path(&places.viaduct()), "run", "--config", &path(&config)])
            }
            Self::Mosquitto => {
                fs::write(&config, mosquitto_config(port, tls, places) + more)?;
                words(&[mosquitto(), "-c", &path(&config)])
            }
            Self::Rumqttd => {
                let file = folder.join("rumqttd.toml");
                fs::write(&file, rumqttd_config(port))?;
                words(&[&path(&places.rumqttd()), "--config", &path(&file), "--quiet"])
            }
            Self::Kept(broker) => broker.command(places, folder, port, tls, more)?,
            Self::Bridge(bridge) => bridge.broker().command(places, folder, port, tls, more)?,
            Self::Peer { command, .. } => words(&["sh", "-c", &format!("exec {command}")]),
        })
    }

    /// Whether it can keep sessions over its end.
    pub(crate) fn can_keep(&self) -> bool {
        matches!(self, Self::Viaduct { workers: 1 } | Self::Mosquitto)
    }

    /// Whether it has a TLS listener here.
    pub(crate) fn speaks_tls(&self) -> bool {
        matches!(self, Self::Viaduct { .. } | Self::Mosquitto)
    }
}

impl Bridge {
    /// What both ends are.
    fn broker(self) -> Server {
        match self {
            Self::Viaduct { .. } => Server::Viaduct { workers: 1 },
            Self::Mosquitto => Server::Mosquitto,
        }
    }

    /// What makes the near end carry the benchmark's topics to `far`. As many in flight as the generator has, which is
    /// also what Viaduct announces; mosquitto counts those of its bridges with all others and has no limit here.
    fn config(self, far: SocketAddr) -> String {
        match self {
            Self::Viaduct { level } => format!(
                "[[bridge]]\nname = \"far\"\nurl = \"mqtt://{far}\"\nprotocol_version = {level}\n\
                 max_inflight = 100\nnotifications = false\n[[bridge.topic]]\nfilter = \"b/#\"\nqos = 1\n"
            ),
            Self::Mosquitto => format!(
                "connection far\naddress {far}\nbridge_protocol_version mqttv311\nnotifications false\n\
                 topic b/# out 1\n"
            ),
        }
    }
}

impl Places {
    fn viaduct(&self) -> PathBuf {
        self.target.join("release/viaduct")
    }

    fn rumqttd(&self) -> PathBuf {
        self.target.join("bench-peers/bin/rumqttd")
    }
}

fn viaduct_config(workers: usize, port: u16, tls: Option<u16>, places: &Places) -> String {
    let mut text = format!(
        "[node]\ndata_dir = \"data\"\nworkers = {workers}\n[log]\nfilter = \"warn\"\n\
         [[listener]]\nname = \"plain\"\nbind = \"127.0.0.1:{port}\"\n"
    );
    if let Some(port) = tls {
        let Identity { certificate, key, .. } = &places.identity;
        text.push_str(&format!(
            "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:{port}\"\n[listener.tls]\n\
             cert_file = \"{}\"\nkey_file = \"{}\"\n",
            certificate.display(),
            key.display()
        ));
    }
    text.push_str("[session]\n");
    text
}

/// Without its limits of messages in flight and queued, which lose what the others keep. Started by root it stays root,
/// because another user cannot read the key.
fn mosquitto_config(port: u16, tls: Option<u16>, places: &Places) -> String {
    let mut text = format!(
        "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_dest none\n\
         user root\nlistener {port} 127.0.0.1\n"
    );
    if let Some(port) = tls {
        let Identity { certificate, key, .. } = &places.identity;
        text.push_str(&format!(
            "listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\n",
            certificate.display(),
            key.display()
        ));
    }
    text
}

fn rumqttd_config(port: u16) -> String {
    format!(
        "id = 0\n[router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 200\n\
         max_segment_size = 104857600\nmax_segment_count = 10\n[v4.1]\nname = \"v4-1\"\n\
         listen = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 0\n[v4.1.connections]\n\
         connection_timeout_ms = 60000\nmax_payload_size = 1048576\nmax_inflight_count = 500\ndynamic_filters = true\n"
    )
}

fn mosquitto() -> &'static str {
    // Debian puts it where only the administrator's path leads.
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

fn said(command: &mut Command, before: &str) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().find_map(|line| line.strip_prefix(before))?.trim().to_owned())
}

/// Starts it with its output in a file of its folder.
fn spawn(command: &mut Command, folder: &Path) -> io::Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    command.stdout(log.try_clone()?).stderr(log).spawn()
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A server process; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// What started it.
    command: Command,
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: Option<SocketAddr>,
    /// Where it tells about itself.
    admin: Option<SocketAddr>,
    folder: TempDir,
    /// The other end of a bridge, where subscribers are.
    far: Option<Box<Self>>,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Of both ends of a bridge.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let own = Usage::of(self.pid())?;
        self.far.as_ref().map_or(Ok(own), |far| Ok(own.and(far.usage()?)))
    }

    /// Where what is published at `address` is heard.
    pub(crate) fn subscriber_address(&self) -> SocketAddr {
        self.far.as_ref().map_or(self.address, |far| far.address)
    }

    /// The folder that it works in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What its store says, if it says something.
    pub(crate) fn store(&self) -> io::Result<Option<StoreNumbers>> {
        self.admin.map(StoreNumbers::ask).transpose()
    }

    /// Ends it and starts it anew on what it kept; how long it took from its start until it was ready. What tells whether it is
    /// ready is killed; what does not is asked to end, because it may save only then.
    pub(crate) fn start_again(&mut self) -> io::Result<Duration> {
        if self.admin.is_some() {
            self.child.kill()?;
        } else if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.child.wait()?;
        let begin = Instant::now();
        self.child = spawn(&mut self.command, self.folder.path())?;
        let Some(admin) = self.admin else { return self.wait().map(|()| begin.elapsed()) };
        while !watch::is_ready(admin) {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("not ready; {}", self.last_words())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(begin.elapsed())
    }

    /// The end of what it wrote, to say why something failed.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn wait(&self) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            let Err(error) = Link::connect(self.address, "viaduct-bench-probe", None) else { return Ok(()) };
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::new(error.kind(), format!("no answer: {error}; {}", self.last_words())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Running {
    /// Publishes here until the far end has heard it.
    fn wait_for_bridge(&self) -> io::Result<()> {
        let begin = Instant::now();
        let mut subscriber = Link::connect(self.subscriber_address(), "viaduct-bench-ear", Some((PROBE, 0)))?;
        let mut publisher = Link::connect(self.address, "viaduct-bench-mouth", None)?;
        let (mut scratch, mut is_heard) = (Scratch::new(), false);
        while !is_heard {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("the bridge carries nothing; {}", self.last_words())));
            }
            publisher.queue().extend(frame::publish(PROBE, 0, 0));
            publisher.flush()?;
            std::thread::sleep(Duration::from_millis(5));
            subscriber.read(&mut scratch, |frame, _| {
                is_heard |= frame.kind() == frame::PUBLISH;
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
