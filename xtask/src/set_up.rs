//! What the tests need beyond Rust: mosquitto, paho-mqtt, MQTT.js, strace, valgrind and xfsprogs, installed where they are missing.
//!
//! Out: what could not be had, and why, so that the caller can say what is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Something that some tests need and that is not there.
#[derive(Debug)]
pub(crate) struct Missing {
    /// What.
    pub(crate) what: &'static str,
    /// Why it could not be had.
    pub(crate) why: String,
}

/// Installs what is missing; `folder` is where Python and Node packages go.
pub(crate) fn run(folder: &Path) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut need = |what: &'static str, result: Result<(), String>| {
        if let Err(why) = result {
            missing.push(Missing { what, why });
        }
    };
    need("mosquitto and its clients", mosquitto());
    need("strace and valgrind", counters());
    need(
        "xfs_io, which cuts the power of a file system",
        if find("xfs_io").is_some() { Ok(()) } else { apt(&["xfsprogs"]) },
    );
    need("paho-mqtt", paho(folder));
    need("MQTT.js", mqtt_js(folder));
    missing
}

fn mosquitto() -> Result<(), String> {
    if ["mosquitto", "mosquitto_pub", "mosquitto_passwd"].iter().all(|name| find(name).is_some()) {
        return Ok(());
    }
    apt(&["mosquitto", "mosquitto-clients"])?;
    // Debian starts the broker that it installs; the tests start their own. Where there is no service manager, there is
    // nothing to stop.
    let _ = quiet(Command::new("service").args(["mosquitto", "stop"]));
    Ok(())
}

/// What the gates count system calls and instructions with.
fn counters() -> Result<(), String> {
    if ["strace", "valgrind"].iter().all(|name| find(name).is_some()) { Ok(()) } else { apt(&["strace", "valgrind"]) }
}

fn paho(folder: &Path) -> Result<(), String> {
    let python = folder.join("venv/bin/python");
    let has_paho = |python: &Path| quiet(Command::new(python).args(["-c", "import paho.mqtt.client"])).is_ok();
    if has_paho(&python) {
        return Ok(());
    }
    if find("python3").is_none() {
        apt(&["python3", "python3-venv"])?;
    }
    let venv = folder.join("venv");
    let make = || quiet(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    if make().is_err() {
        apt(&["python3-venv"])?;
        make()?;
    }
    quiet(Command::new(&python).args(["-m", "pip", "install", "--quiet", "paho-mqtt>=2,<3"]))
}

fn mqtt_js(folder: &Path) -> Result<(), String> {
    if folder.join("node_modules/mqtt/package.json").exists() {
        return Ok(());
    }
    if find("node").is_none() || find("npm").is_none() {
        apt(&["nodejs", "npm"])?;
    }
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    quiet(
        Command::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
            .arg(folder)
            .arg("mqtt@5"),
    )
}

fn apt(packages: &[&str]) -> Result<(), String> {
    if find("apt-get").is_none() {
        return Err(format!("this is no Debian (no apt-get); install {} by hand", packages.join(", ")));
    }
    let as_root = |arguments: &[&str]| {
        let mut command = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root() {
            command.args(["--non-interactive", "apt-get"]);
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        quiet(&mut command)
    };
    as_root(&["update", "--quiet=2"])?;
    as_root(&[&["install", "--yes", "--quiet=2", "--no-install-recommends"], packages].concat())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Where a program is; Debian keeps the broker where only root looks.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs a command and keeps its output for the case that it fails.
fn quiet(command: &mut Command) -> Result<(), String> {
    let name = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    Err(format!("{name} ended with {}: {}", output.status, last.into_iter().rev().collect::<Vec<_>>().join(" / ")))
}
