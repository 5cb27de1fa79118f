//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, with any stable compiler.
//!
//! In: names of targets, and how long each may run. Out: a line for each, and for a crash the file that replays it. What
//! is found that is new goes below `target/`, never into the repository by itself.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::house::root;

/// How long a target runs when nobody says otherwise, in seconds.
const SECONDS: u64 = 60;
/// Targets that run at a time.
const AT_A_TIME: usize = 2;
/// Bytes of an input; what is longer says nothing that a shorter one does not.
const LONGEST: &str = "4096";
/// What makes the compiler count which branches were taken, and how comparisons went. It is LLVM's, and needs no nightly.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Bytes of an input that is kept in the repository.
const LONGEST_KEPT: u32 = 256;
/// The first line of a corpus.
const CORPUS_HEAD: &str = "# One input a line. Made by `cargo xtask fuzz --minimise`.";
const TARGETS: [&str; 6] = ["decode", "round_trip", "session_operations", "router_model", "configuration", "engine"];

const HELP: &str = "cargo xtask fuzz [TARGET...] [--seconds N]   every target, or these, N seconds each
cargo xtask fuzz --replay FILE TARGET        one input
cargo xtask fuzz --minimise TARGET           what was found, without what adds nothing, into fuzz/corpus";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--replay", file, target] => return Fuzzer::build()?.replay(known(target)?, Path::new(file)),
        ["--minimise", target] => return Fuzzer::build()?.minimise(known(target)?),
        _ => {}
    }
    let (seconds, targets) = wanted(&words)?;
    let targets = if targets.is_empty() { TARGETS.to_vec() } else { targets };
    let fuzzer = Fuzzer::build()?;
    let mut crashed = Vec::new();
    for pair in targets.chunks(AT_A_TIME) {
        let running: Vec<(&str, Child)> = pair
            .iter()
            .map(|target| fuzzer.start(target, seconds).map(|child| (*target, child)))
            .collect::<Result<_, _>>()?;
        for (target, mut child) in running {
            let status = child.wait().map_err(|error| format!("{target}: {error}"))?;
            println!("{target}: {}", fuzzer.last_words(target));
            if !status.success() {
                crashed.push(target);
            }
        }
    }
    if crashed.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = crashed
        .iter()
        .map(|target| match written_to(&fuzzer.log_of(target)) {
            Some(file) => format!("{target} failed: cargo xtask fuzz --replay {file} {target}"),
            None => format!("{target} ended badly and left no input: {}", fuzzer.log(target).display()),
        })
        .collect();
    Err(lines.join("\n"))
}

/// For how many seconds, and which targets, in whatever order they are given.
fn wanted(words: &[&str]) -> Result<(u64, Vec<&'static str>), String> {
    let (mut seconds, mut targets) = (SECONDS, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if *word == "--seconds" {
            seconds = words.next().and_then(|number| number.parse().ok()).ok_or(HELP)?;
        } else {
            targets.push(known(word)?);
        }
    }
    Ok((seconds, targets))
}

/// Where libFuzzer says that it left the input: of a crash, or of one that took too long or too much memory.
fn written_to(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| line.split_once("Test unit written to ")).map(|(_, file)| file.trim())
}

fn known(target: &str) -> Result<&'static str, String> {
    TARGETS.into_iter().find(|own| *own == target).ok_or_else(|| HELP.to_owned())
}

/// The targets, built.
struct Fuzzer {
    /// `fuzz/` of the repository.
    home: PathBuf,
    binaries: PathBuf,
    /// Finds and logs.
    work: PathBuf,
}

impl Fuzzer {
    fn build() -> Result<Self, String> {
        let root = root();
        let home = root.join("fuzz");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let target = target.join("fuzz");
        let host = host()?;
        let status = Command::new("cargo")
            // Named, so that the flags are for the targets alone and not for what builds them.
            .args(["build", "--release", "--quiet", "--target", &host, "--target-dir"])
            .arg(&target)
            .current_dir(home.join("libfuzzer"))
            .env("RUSTFLAGS", FLAGS)
            .status()
            .map_err(|error| format!("cargo build: {error}"))?;
        if !status.success() {
            return Err("the fuzz targets do not build".to_owned());
        }
        let work = target.join("work");
        std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
        Ok(Self { home, binaries: target.join(host).join("release"), work })
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(self.binaries.join(target));
        command.arg(format!("-max_len={LONGEST}")).args(["-timeout=10", "-rss_limit_mb=2048"]);
        command.arg(format!("-artifact_prefix={}/{target}.", self.work.display()));
        let dictionary = self.home.join("dictionaries").join(target);
        if dictionary.is_file() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command
    }

    fn start(&self, target: &str, seconds: u64) -> Result<Child, String> {
        let found = self.work.join(target);
        std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        let log = std::fs::File::create(self.log(target)).map_err(|error| error.to_string())?;
        let known = self.unpack(target)?;
        self.command(target)
            .args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_owned()])
            .args([found, known])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{target}: {error}"))
    }

    /// The figures of a run, or what it died of.
    fn last_words(&self, target: &str) -> String {
        let log = self.log_of(target);
        let panic = log.lines().find(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
        let figures = log.lines().rfind(|line| line.contains("cov:")).unwrap_or("it said nothing").trim();
        let runs = log.lines().find(|line| line.contains("number_of_executed_units")).unwrap_or_default();
        let runs = runs.rsplit(' ').next().unwrap_or_default();
        panic.map_or_else(
            || format!("{runs} inputs, {figures}"),
            |panic| format!("{panic} ({})", self.log(target).display()),
        )
    }

    fn log_of(&self, target: &str) -> String {
        std::fs::read_to_string(self.log(target)).unwrap_or_default()
    }

    fn log(&self, target: &str) -> PathBuf {
        self.work.join(format!("{target}.log"))
    }

    fn replay(&self, target: &str, file: &Path) -> Result<(), String> {
        let status = self.command(target).arg(file).status().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{target} does not take {}", file.display())) }
    }

    /// Lays the corpus of the repository out as libFuzzer wants it: a file for each input.
    fn unpack(&self, target: &str) -> Result<PathBuf, String> {
        let folder = self.fresh(&format!("{target}.known"))?;
        let packed = self.corpus(target);
        let text = std::fs::read_to_string(&packed).unwrap_or_default();
        for (number, line) in text.lines().filter(|line| !line.starts_with('#')).enumerate() {
            let bytes = unhex(line).ok_or_else(|| format!("{}: no bytes: {line}", packed.display()))?;
            std::fs::write(folder.join(number.to_string()), bytes).map_err(|error| error.to_string())?;
        }
        Ok(folder)
    }

    /// Keeps of what is known and what was found as little as takes the same branches.
    fn minimise(&self, target: &str) -> Result<(), String> {
        let (known, kept) = (self.unpack(target)?, self.fresh(&format!("{target}.kept"))?);
        let status = self
            .command(target)
            .args(["-set_cover_merge=1", &format!("-max_len={LONGEST_KEPT}")])
            .args([&kept, &known, &self.work.join(target)])
            .status()
            .map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("{target} could not be minimised"));
        }
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(&kept).map_err(|error| error.to_string())?.flatten() {
            let bytes = std::fs::read(entry.path()).map_err(|error| error.to_string())?;
            lines.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
        lines.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
        std::fs::write(self.corpus(target), format!("{CORPUS_HEAD}\n{}\n", lines.join("\n")))
            .map_err(|error| error.to_string())
    }

    fn corpus(&self, target: &str) -> PathBuf {
        self.home.join("corpus").join(format!("{target}.hex"))
    }

    fn fresh(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.work.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }
}

fn unhex(line: &str) -> Option<Vec<u8>> {
    let pairs = line.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok())
        .collect()
}

/// What this compiler builds for when nobody says otherwise.
fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_targets_come_in_any_order() {
        assert_eq!(wanted(&[]), Ok((SECONDS, Vec::new())));
        assert_eq!(wanted(&["decode", "--seconds", "5", "engine"]), Ok((5, vec!["decode", "engine"])));
        for wrong in [&["--seconds"][..], &["--seconds", "decode"], &["nonsense"]] {
            assert_eq!(wanted(wrong), Err(HELP.to_owned()));
        }
    }

    #[test]
    fn what_failed_is_replayed_from_where_it_was_left() {
        let log = "SUMMARY: libFuzzer: timeout\nartifact_prefix='/w/a.'; Test unit written to /w/a.timeout-0f\nBase64: eA==\n";
        assert_eq!(written_to(log), Some("/w/a.timeout-0f"));
        assert_eq!(written_to("#1 INITED cov: 1"), None);
    }

    #[test]
    fn inputs_are_written_as_digits() {
        assert_eq!(unhex("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(unhex(""), Some(Vec::new()));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
    }
}
