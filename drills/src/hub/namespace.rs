//! A network of its own for one edge, from which no answer comes back while it is a black hole.
//!
//! In: a number. Out: two addresses, here and there, and commands that run inside. Made by `ip` (Debian: iproute2) and entered by
//! `nsenter` (Debian: util-linux), so that no system call of ours needs `unsafe`; `ip` can enter as well, and takes a copy of all
//! mounts along, which keeps the disk of a drill of power cuts in use when that drill unmounts it. While it is a black hole what is sent there arrives and nothing comes back, neither data nor a refusal, as when
//! a router on the way is gone. Must never: leave a namespace behind.

use std::ffi::OsStr;
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
        namespace.ip(&["addr", "add", &there, "dev", &inner])?;
        namespace.ip(&["link", "set", &inner, "up"])?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// What starts `program` with this network, and with everything else of here.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
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
        self.ip(&["route", verb, "blackhole", &format!("{}/32", self.here)])
    }

    fn ip(&self, words: &[&str]) -> Result<(), String> {
        run(self.command("ip").args(words))
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
    run(Command::new("ip").args(words))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_inside_has_another_network_and_the_same_mounts() {
        // A number that no edge has.
        let namespace = match Namespace::new(63) {
            Ok(namespace) => namespace,
            Err(why) => {
                eprintln!("SKIPPED: {why}");
                return;
            }
        };
        let there = |kind: &str| {
            let output = namespace.command("readlink").arg(format!("/proc/self/ns/{kind}")).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let here = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
        assert_eq!(there("mnt"), here("mnt"));
        assert!(there("net").starts_with("net:") && there("net") != here("net"), "{}", there("net"));
    }
}
