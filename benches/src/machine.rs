//! What the operating system says: processor time and memory of a process, cores, and what machine this is.
//!
//! It reads /proc and sets affinities and limits; it measures nothing by itself.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal};
use rustix::thread::CpuSet;

/// What all threads of a process have used until now, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// On a core.
    pub(crate) on_core: u64,
    /// Ready to run, but another had the core.
    pub(crate) waiting: u64,
}

impl Usage {
    /// Of a process that runs; threads that have ended are not in it.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut usage = Self::default();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or(0_u64));
            usage.on_core += numbers.next().unwrap_or_default();
            usage.waiting += numbers.next().unwrap_or_default();
        }
        Ok(usage)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { on_core: self.on_core + other.on_core, waiting: self.waiting + other.waiting }
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            on_core: self.on_core.saturating_sub(earlier.on_core),
            waiting: self.waiting.saturating_sub(earlier.waiting),
        }
    }
}

/// Bytes that belong to the process alone and are backed by no file: heap and stacks.
pub(crate) fn own_memory(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap_or_default();
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().map_err(io::Error::other)?;
    Ok(kilobytes * 1024)
}

/// Memory of a process that is in RAM, its program included, bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub(crate) now: u64,
    /// The most since it began or [`forget_peak`].
    pub(crate) peak: u64,
}

impl Resident {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bytes = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().map_err(io::Error::other)?;
            Ok::<u64, io::Error>(kilobytes * 1024)
        };
        Ok(Self { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// From now on the peak of a process of one's own counts anew.
pub(crate) fn forget_peak(pid: u32) -> io::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// The file system that a folder is on, as `ext4 on /dev/vda`.
pub(crate) fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best = (0, "an unknown file system".to_owned());
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(point), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        if folder.starts_with(point) && point.len() >= best.0 {
            best = (point.len(), format!("{kind} on {device}"));
        }
    }
    best.1
}

/// Raises the limit of open files as far as allowed and returns it.
pub(crate) fn open_files() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let Some(most) = limit.maximum else { return u64::MAX };
    let raised = Rlimit { current: Some(most), maximum: Some(most) };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(most),
    }
}

/// The cores that this process may use.
pub(crate) fn cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Binds the calling thread to cores.
pub(crate) fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Becomes another program: on these cores, and killed when the benchmark that started it ends, however that ends.
/// Returns only if that fails.
pub(crate) fn become_program(cores: &[usize], program: &str, arguments: &[String]) -> io::Error {
    let prepared = pin(cores).and_then(|()| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    match prepared {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

/// One line about the machine.
pub(crate) fn description(cores: &[usize]) -> String {
    let model = first_value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = first_value("/proc/meminfo", "MemTotal").unwrap_or_default();
    let gigabytes = memory.trim_end_matches("kB").trim().parse::<f64>().unwrap_or_default() / 1048576.0;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {} cores, {gigabytes:.0} GiB, Linux {}", cores.len(), kernel.trim())
}

/// The load of the last minute: above one or two, others were at work too.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn first_value(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
