//! A network of its own for one edge, from which no answer comes back while it is a black hole.
//!
//! In: a number. Out: two addresses, here and there. Made by `ip` (Debian: iproute2), so that no system call of ours needs
//! `unsafe`. While it is a black hole what is sent there arrives and nothing comes back, neither data nor a refusal, as when
//! a router on the way is gone. Must never: leave a namespace behind.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A namespace with a link to this one.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// This end of the link.
    pub(crate) here: Ipv4Addr,
    /// The edge's end.
    pub(crate) there: Ipv4Addr,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// What `ip` says: this is not root, or namespaces are not allowed here.
    pub(crate) fn new(number: u8) -> Result<Self, String> {
        // Drills that run at the same time, and what else 10.x is used for, are kept apart by the process.
        let [.., high, low] = std::process::id().to_be_bytes();
        let at = |host: u8| Ipv4Addr::new(10, 64 | (high & 63), low, (number & 63) * 4 + host);
        let tag = format!("{}x{number}", std::process::id());
        let namespace = Self { name: format!("viaduct-{tag}"), here: at(1), there: at(2) };
        let (outer, inner) = (format!("vo{tag}"), format!("vi{tag}"));
        let name = &namespace.name;
        let (here, there) = (format!("{}/30", namespace.here), format!("{}/30", namespace.there));
        ip(&["netns", "add", name])?;
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", name])?;
        ip(&["addr", "add", &here, "dev", &outer])?;
        ip(&["link", "set", &outer, "up"])?;
        ip(&["-n", name, "addr", "add", &there, "dev", &inner])?;
        ip(&["-n", name, "link", "set", &inner, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Removes those of drills that were killed and could not do it themselves.
    pub(crate) fn sweep() {
        let Ok(output) = Command::new("ip").args(["netns", "list"]).stdin(Stdio::null()).output() else { return };
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        for name in listed.lines().filter_map(|line| line.split(' ').next()) {
            let process = name.strip_prefix("viaduct-").and_then(|tag| tag.split_once('x')).map(|(process, _)| process);
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                // Another drill may be at it as well.
                let _ = ip(&["netns", "del", name]);
            }
        }
    }

    /// Nothing comes back from there any more, or it does again.
    ///
    /// # Errors
    /// What `ip` says.
    pub(crate) fn swallow(&self, does: bool) -> Result<(), String> {
        let verb = if does { "add" } else { "del" };
        ip(&["-n", &self.name, "route", verb, "blackhole", &format!("{}/32", self.here)])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with it.
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            eprintln!("{error}: the namespace {} is left", self.name);
        }
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let what = || format!("ip {}", words.join(" "));
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", what()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim()))
}
