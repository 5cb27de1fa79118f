//! `cargo xtask tidy`: the rules of the house that a program can see. Every breach is named with its place, all in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::conformance::PAGE;
use crate::house::{files, root};
use crate::source::{before_tests, code, functions};
use crate::statements::Statements;

/// Lines that a room may have, its tests not counted.
const FILE_LINES: usize = 700;
/// Lines that a function of a shipped crate may have.
const FUNCTION_LINES: usize = 100;

/// Which of our crates each may depend on. `docs/architecture.md` draws the same.
const ARROWS: [(&str, &[&str]); 10] = [
    ("codec", &[]),
    ("session", &["codec"]),
    ("router", &["codec"]),
    ("store", &["codec"]),
    ("engine", &["codec", "session", "router", "store"]),
    ("bridge", &["codec", "session"]),
    ("config", &["codec"]),
    ("import", &["codec", "config"]),
    ("broker", &["codec", "session", "store", "engine", "bridge", "config"]),
    ("viaduct", &["broker", "config", "import"]),
];

/// Crates that know no socket, clock, task or disk.
const CORE: [&str; 8] = ["codec", "session", "router", "store", "engine", "bridge", "config", "import"];

/// Words that a core crate may not use, and why.
const FORBIDDEN_IN_CORE: [(&str, &str); 10] = [
    ("tokio", "only broker has tasks"),
    ("TcpStream", "only broker has sockets"),
    ("TcpListener", "only broker has sockets"),
    ("UdpSocket", "only broker has sockets"),
    ("std::fs", "only store's file room has a disk"),
    ("SystemTime::now", "time is an argument"),
    ("Instant::now", "time is an argument"),
    ("thread::sleep", "time is an argument"),
    ("thread::spawn", "only broker has threads"),
    ("thread_rng", "randomness is a seed"),
];

/// What two rooms of the store are for: the disk, and the thread that writes to it and knows when it last did.
const OF_THE_LOG: [(&str, &str); 3] =
    [("log/files.rs", "std::fs"), ("log/writer.rs", "Instant::now"), ("log/writer.rs", "thread::sleep")];

/// Folders of one machine, which no text that others read may name.
const OF_ONE_MACHINE: [&str; 4] = ["/home/", "/root/", "/Users/", "/workspace/"];

/// Words that nothing may keep.
const UNFINISHED: [&str; 6] = ["todo!", "unimplemented!", "dbg!", "FIXME", "XXX", "#[ignore"];

pub(crate) fn run() -> Result<(), String> {
    let root = root();
    let mut breaches = Vec::new();
    arrows(&root, &mut breaches);
    let sources = files(&root, "rs");
    for path in &sources {
        rooms(&root, path, &mut breaches);
    }
    dead_files(&root, &sources, &mut breaches);
    machines(&root, &mut breaches);
    documents(&root, &mut breaches);
    statements(&root, &mut breaches);
    if breaches.is_empty() {
        println!("tidy: {} source files, nothing to say", sources.len());
        return Ok(());
    }
    Err(format!("{}\ntidy: {} breaches", breaches.join("\n"), breaches.len()))
}

fn arrows(root: &Path, breaches: &mut Vec<String>) {
    for (name, allowed) in ARROWS {
        let path = root.join("crates").join(name).join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&path) else {
            breaches.push(format!("crates/{name}: no Cargo.toml"));
            continue;
        };
        for dependency in shipped_dependencies(&text) {
            let is_foreign = match dependency.strip_prefix("viaduct-") {
                Some(other) => !allowed.contains(&other),
                None => CORE.contains(&name) && matches!(dependency, "tokio" | "socket2"),
            };
            if is_foreign {
                breaches.push(format!("crates/{name}/Cargo.toml: {name} may not depend on {dependency}"));
            }
        }
    }
}

/// What a crate needs where it is used, whatever it needs for its tests.
fn shipped_dependencies(manifest: &str) -> Vec<&str> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let is_shipped = section.ends_with("dependencies]") && !section.contains("dev-dependencies");
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if is_shipped && !name.is_empty() && !name.starts_with('#') {
            found.push(name);
        }
    }
    found
}

fn rooms(root: &Path, path: &Path, breaches: &mut Vec<String>) {
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let Ok(text) = std::fs::read_to_string(path) else { return };
    if !text.starts_with("//!") && !text.starts_with("#!") {
        breaches.push(format!(
            "{name}:1: a room begins with //! and says what comes in, what goes out, what it never does"
        ));
    }
    let lines = code(&text);
    let end = before_tests(&lines);
    let is_own = name.starts_with("xtask/");
    for (number, line) in lines.iter().enumerate() {
        for word in UNFINISHED.iter().filter(|word| line.contains(**word) && !is_own) {
            breaches.push(format!("{name}:{}: {word} is unfinished or switched off", number + 1));
        }
    }
    let Some(in_crate) = name.strip_prefix("crates/").and_then(|name| name.split_once("/src/")) else { return };
    let (owner, room) = in_crate;
    if end > FILE_LINES {
        breaches.push(format!("{name}: {end} lines without tests, {FILE_LINES} are allowed: is it still one room?"));
    }
    let body = lines.get(..end).unwrap_or_default();
    for (line, function, length) in functions(body).into_iter().filter(|(_, _, length)| *length > FUNCTION_LINES) {
        breaches.push(format!("{name}:{line}: fn {function} has {length} lines, {FUNCTION_LINES} are allowed"));
    }
    if CORE.contains(&owner) {
        for (number, line) in body.iter().enumerate() {
            for (word, why) in FORBIDDEN_IN_CORE {
                let is_its_matter = owner == "store" && OF_THE_LOG.contains(&(room, word));
                if line.contains(word) && !is_its_matter {
                    breaches.push(format!("{name}:{}: {word} in {owner}: {why}", number + 1));
                }
            }
        }
    }
}

/// Files that no `mod` line leads to are never compiled.
fn dead_files(root: &Path, sources: &[PathBuf], breaches: &mut Vec<String>) {
    let mut reached: BTreeSet<PathBuf> = BTreeSet::new();
    let mut by_path: BTreeMap<&PathBuf, Vec<String>> = BTreeMap::new();
    for path in sources {
        by_path.insert(path, code(&std::fs::read_to_string(path).unwrap_or_default()));
    }
    for (path, lines) in &by_path {
        let folder = path.parent().unwrap_or(root);
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let is_root_like = matches!(stem.as_str(), "mod" | "lib" | "main") || is_target(path);
        let below = if is_root_like { folder.to_owned() } else { folder.join(&stem) };
        for line in lines {
            let Some((before, after)) = line.split_once("mod ") else { continue };
            let is_item = before.split_whitespace().all(|word| word.starts_with("pub"));
            if let Some(module) = after.trim().strip_suffix(';').filter(|_| is_item) {
                reached.insert(below.join(format!("{module}.rs")));
                reached.insert(below.join(module).join("mod.rs"));
            }
        }
    }
    for path in sources.iter().filter(|path| !is_target(path) && !reached.contains(*path)) {
        breaches.push(format!(
            "{}: no mod line leads here, so it is never compiled",
            path.strip_prefix(root).unwrap_or(path).display()
        ));
    }
}

/// Whether cargo itself compiles the file: a crate's root, a test, an example, a bench or a fuzz target.
fn is_target(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let above = path.parent().and_then(Path::parent).is_some_and(|above| above.join("Cargo.toml").exists());
    matches!(name.as_str(), "lib.rs" | "main.rs" | "build.rs")
        || (above && matches!(folder.as_deref(), Some("tests" | "examples" | "benches" | "fuzz_targets" | "bin")))
}

fn machines(root: &Path, breaches: &mut Vec<String>) {
    for path in ["rs", "md", "toml", "py", "cjs"].iter().flat_map(|extension| files(root, extension)) {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in text.lines().enumerate().filter(|_| !name.starts_with("xtask/")) {
            for folder in OF_ONE_MACHINE.iter().filter(|folder| line.contains(**folder)) {
                breaches.push(format!("{name}:{}: {folder} is a folder of one machine", number + 1));
            }
        }
    }
}

/// Every statement has a test, every test a statement, and the page says so.
fn statements(root: &Path, breaches: &mut Vec<String>) {
    let statements = Statements::read(root);
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    if page != statements.page(&statements.all_passed()) {
        breaches.push(format!("{PAGE}: not what it would be made to, or a test failed; run `cargo xtask conformance`"));
    }
    breaches.extend(statements.breaches);
}

fn documents(root: &Path, breaches: &mut Vec<String>) {
    let mut numbers: BTreeMap<String, String> = BTreeMap::new();
    for path in files(root, "md") {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            for target in links(line) {
                let file = target.split('#').next().unwrap_or_default();
                let is_elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
                if !is_elsewhere && !path.parent().unwrap_or(root).join(file).exists() {
                    breaches.push(format!("{name}:{}: the link to {file} leads nowhere", number + 1));
                }
            }
        }
        if let Some(page) = name.strip_prefix("docs/decisions/") {
            let number = page.split('-').next().unwrap_or_default().to_owned();
            if let Some(other) = numbers.insert(number.clone(), name.clone()) {
                breaches.push(format!("{name}: decision {number} is {other} already"));
            }
        }
    }
}

/// The targets of the links in a line of markdown.
fn links(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crate_needs_for_its_tests_is_no_arrow() {
        let manifest = "[package]\nname = \"x\"\n[dev-dependencies]\nviaduct-testkit.workspace = true\n\
            [dependencies]\n# why\nviaduct-codec.workspace = true\ntokio = \"1\"\n[lints]\nworkspace = true\n";
        assert_eq!(shipped_dependencies(manifest), ["viaduct-codec", "tokio"]);
    }

    #[test]
    fn the_targets_of_links_are_found() {
        assert_eq!(links("see [a](x.md) and [`b`](docs/y.md#z), not (this)"), ["x.md", "docs/y.md#z"]);
    }
}
