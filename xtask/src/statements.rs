//! Every statement of the standards, the tests that prove it, and the lines that enforce it.
//!
//! In: `conformance/` (statements, conversations, reasons, notes), tests with a `/// Proves:` line, and clause ids in the
//! comments of the crates. Out: what `docs/conformance.md` says, and everything that does not fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::house::files;

/// The tables in the order of the page: file, heading, what stands above it.
const TABLES: [(&str, &str, &str); 6] = [
    ("mqtt5", "MQTT 5.0", "All numbered statements of the OASIS Standard of 7 March 2019."),
    ("mqtt5_unnumbered", "MQTT 5.0, rules without a number", "The number is that of the section; the letter is ours."),
    ("mqtt311", "MQTT 3.1.1", "All numbered statements of the OASIS Standard of 29 October 2014."),
    ("mqtt31", "MQTT 3.1", "What 3.1 does differently, or what a broker has to decide there. The numbers are ours."),
    ("private_and_cross_version", "Private levels, and between versions", "The numbers are ours."),
    ("traps", "Traps", "Where brokers went wrong: what happened → what is right."),
];

/// A statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) id: String,
    side: String,
    words: String,
}

/// A test that says which statements it proves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// As the test runner calls it.
    pub(crate) name: String,
    /// The file that it stands in, from the root.
    file: String,
    /// What runs it: the binary, the engine on a virtual clock, or both.
    on: String,
}

/// Names of tests that ran, by how they ended. One that runs on the binary and on the engine and fails on one is in both.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) passed: BTreeSet<String>,
    pub(crate) failed: BTreeSet<String>,
}

/// Everything there is.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    tables: Vec<(&'static str, &'static str, Vec<Statement>)>,
    tests: BTreeMap<String, BTreeSet<Test>>,
    reasons: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
    /// Files of the crates whose comments name the clause.
    places: BTreeMap<String, BTreeSet<String>>,
    /// What does not fit together.
    pub(crate) breaches: Vec<String>,
}

impl Statements {
    pub(crate) fn read(root: &Path) -> Self {
        let mut all = Self::default();
        for (file, heading, about) in TABLES {
            let text = text(&root.join(format!("conformance/statements/{file}.tsv")));
            let statements = text.lines().skip(1).filter_map(statement).collect();
            all.tables.push((heading, about, statements));
        }
        all.read_lines(root, "conformance/reasons", |all| &mut all.reasons);
        all.read_lines(root, "conformance/notes", |all| &mut all.notes);
        for path in files(&root.join("conformance/conversations"), "txt") {
            all.read_conversations(root, &path);
        }
        for path in files(root, "rs") {
            let name = relative(root, &path);
            if name.starts_with("xtask/") {
                continue;
            }
            let text = text(&path);
            all.read_proofs(&name, &text);
            if name.starts_with("crates/") && name.contains("/src/") {
                all.read_places(&name, &text);
            }
        }
        all.check();
        all
    }

    fn read_lines(&mut self, root: &Path, folder: &str, into: impl Fn(&mut Self) -> &mut BTreeMap<String, String>) {
        for path in files(&root.join(folder), "tsv") {
            let name = relative(root, &path);
            for (number, line) in text(&path).lines().enumerate().filter(|(_, line)| !line.is_empty()) {
                match line.split_once('\t') {
                    Some((id, words)) if !words.trim().is_empty() => {
                        let before = into(self).insert(id.to_owned(), words.trim().to_owned());
                        if before.is_some() {
                            self.breaches.push(format!("{name}:{}: {id} stands there twice", number + 1));
                        }
                    }
                    _ => self.breaches.push(format!("{name}:{}: not ID, tab, words", number + 1)),
                }
            }
        }
    }

    fn read_conversations(&mut self, root: &Path, path: &Path) {
        let file = relative(root, path);
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let text = text(path);
        for conversation in text.split("\n=== ").skip(usize::from(!text.starts_with("=== "))) {
            let name = conversation.lines().next().unwrap_or_default().trim_start_matches("=== ");
            let header = |key: &str| {
                let key = key.to_owned();
                conversation.lines().filter_map(move |line| line.trim().strip_prefix(&key)).map(str::trim)
            };
            let on = match header("on:").next() {
                None => "binary",
                Some("both") => "binary, engine",
                Some(on) => on,
            };
            let test = Test { name: format!("{stem}::{name}"), file: file.clone(), on: on.to_owned() };
            for id in header("proves:").flat_map(str::split_whitespace) {
                self.tests.entry(id.to_owned()).or_default().insert(test.clone());
            }
        }
    }

    /// `/// Proves: ID, ID` above a test function.
    fn read_proofs(&mut self, file: &str, text: &str) {
        let mut ids: Vec<&str> = Vec::new();
        let mut is_run = false;
        let target = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(proved) = line.strip_prefix("/// Proves:") {
                ids.extend(proved.split([',', ' ']).filter(|id| !id.is_empty()));
                is_run = false;
            } else if line == "#[test]" {
                is_run = true;
            } else if line.starts_with("#[ignore") && !ids.is_empty() {
                self.breaches.push(format!("{file}:{}: it proves something and is ignored", number + 1));
            } else if let Some((before, after)) = line.split_once("fn ")
                && !ids.is_empty()
                && before.split_whitespace().all(|word| matches!(word, "pub" | "async"))
            {
                let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if !is_run {
                    self.breaches.push(format!("{file}:{}: {name} proves something and is no test", number + 1));
                }
                let on = if file.starts_with("tests/") { "binary" } else { "library" };
                let test = Test { name: format!("{target}::{name}"), file: file.to_owned(), on: on.to_owned() };
                for id in ids.drain(..) {
                    self.tests.entry(id.to_owned()).or_default().insert(test.clone());
                }
            } else if line.is_empty() && !ids.is_empty() {
                self.breaches.push(format!("{file}:{}: Proves: is followed by no test", number + 1));
                ids.clear();
            }
        }
    }

    /// `MQTT-3.1.2-3` in a comment is a clause of 5.0, `MQTT-3.1.2-3 of 3.1.1` one of 3.1.1.
    fn read_places(&mut self, file: &str, text: &str) {
        for line in text.lines() {
            let Some((_, comment)) = line.split_once("//") else { continue };
            for after in comment.split("MQTT-").skip(1) {
                let end = after.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(after.len());
                let (clause, after) = after.split_at(end);
                let clause = clause.trim_end_matches(['.', '-']);
                // The words may stand on two lines.
                let version = if after.starts_with(" of 3.1.1") || after == " of" { "v4" } else { "v5" };
                self.places.entry(format!("{version}:{clause}")).or_default().insert(file.to_owned());
            }
        }
    }

    fn check(&mut self) {
        let mut known = BTreeSet::new();
        for statement in self.tables.iter().flat_map(|(_, _, statements)| statements) {
            let id = &statement.id;
            if !known.insert(id.clone()) {
                self.breaches.push(format!("conformance/statements: {id} stands there twice"));
            }
            match (self.tests.contains_key(id), self.reasons.contains_key(id)) {
                (false, false) => self.breaches.push(format!("{id} has no test and no reason: {}", statement.words)),
                (true, true) => self.breaches.push(format!("{id} has a test, and a reason why it has none")),
                _ => {}
            }
            let is_clause = id.starts_with("v4:") || id.starts_with("v5:");
            if is_clause && statement.side != "client" && !self.places.contains_key(id) {
                self.breaches.push(format!("{id} is named at no line of the crates: {}", statement.words));
            }
        }
        let named = self.tests.iter().map(|(id, tests)| (id, tests.iter().next().map_or("", |test| &test.file)));
        let said = self.reasons.keys().map(|id| (id, "conformance/reasons"));
        let noted = self.notes.keys().map(|id| (id, "conformance/notes"));
        let placed = self.places.iter().map(|(id, files)| (id, files.iter().next().map_or("", String::as_str)));
        for (id, file) in named.chain(said).chain(noted).chain(placed).filter(|(id, _)| !known.contains(*id)) {
            self.breaches.push(format!("{file}: there is no statement {id}"));
        }
    }

    /// The page, of what became of the tests.
    pub(crate) fn page(&self, results: &Results) -> String {
        let mut out = String::from(HEAD);
        let all = self.tables.iter().flat_map(|(_, _, statements)| statements);
        let (mut tested, mut unseen) = (0, 0);
        for statement in all {
            if self.tests.contains_key(&statement.id) { tested += 1 } else { unseen += 1 }
        }
        let tests: BTreeSet<&Test> = self.tests.values().flatten().collect();
        let _ = writeln!(
            out,
            "{} statements: {tested} tested by {} tests, {unseen} that no test can show from outside.\n",
            tested + unseen,
            tests.len()
        );
        for (heading, about, statements) in &self.tables {
            let _ = writeln!(
                out,
                "## {heading}\n\n{about}\n\n| id | binds | statement | tests | result |\n|---|---|---|---|---|"
            );
            for statement in statements {
                let (tests, result) = self.cells(&statement.id, results);
                let id = statement.id.split_once(':').map_or(&*statement.id, |(_, id)| id);
                let words = statement.words.replace('|', "\\|");
                let _ = writeln!(out, "| {id} | {} | {words} | {tests} | {result} |", statement.side);
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    fn cells(&self, id: &str, results: &Results) -> (String, String) {
        let Some(tests) = self.tests.get(id) else {
            return (self.reasons.get(id).cloned().unwrap_or_default(), "not to be seen".to_owned());
        };
        let mut cell: Vec<String> =
            tests.iter().map(|test| format!("[{}](../{}) ({})", test.name, test.file, test.on)).collect();
        cell.extend(self.notes.get(id).map(|note| format!("Note: {note}")));
        let result = if tests.iter().any(|test| results.failed.contains(&test.name)) {
            "**FAILS**"
        } else if tests.iter().any(|test| !results.passed.contains(&test.name)) {
            "**NOT RUN**"
        } else {
            "passes"
        };
        (cell.join("<br>"), result.to_owned())
    }

    /// What the page is held against where nothing runs: that every test passed.
    pub(crate) fn all_passed(&self) -> Results {
        let passed = self.tests.values().flatten().map(|test| test.name.clone()).collect();
        Results { passed, failed: BTreeSet::new() }
    }

    /// Tests that prove something and are not among `results`.
    pub(crate) fn not_run(&self, results: &Results) -> BTreeSet<String> {
        let tests = self.tests.values().flatten().map(|test| &test.name);
        tests.filter(|name| !results.passed.contains(*name) && !results.failed.contains(*name)).cloned().collect()
    }
}

const HEAD: &str = "# Conformance

Every normative statement of MQTT 3.1.1 and 5.0, the rules of 5.0 that have no number, what 3.1 and the private levels do
differently, and 88 places where brokers went wrong: our words for it, the tests that show it, and how they ended. This
page is made by `cargo xtask conformance`, which runs those tests; `cargo xtask tidy` fails when a statement has no test,
a test names no statement, or the page is not what it would be made to.

*Binds* is whom the statement binds. For one that binds the client, the test shows what Viaduct does about a client that
breaks it. *binary* is a conversation with the real program over sockets, byte for byte; *engine* the same with the engine
on a virtual clock, where hours take no time; *library* a test of one crate. How conversations are written and run:
[conformance/README.md](../conformance/README.md).

";

fn statement(line: &str) -> Option<Statement> {
    let mut cells = line.split('\t');
    let (id, side, words) = (cells.next()?, cells.next()?, cells.next()?);
    Some(Statement { id: id.to_owned(), side: side.to_owned(), words: words.to_owned() })
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_what_they_say_they_prove() {
        let mut all = Statements::default();
        let text = "/// A sentence.\n/// Proves: v5:1, v4:2\n#[test]\nfn it_is_so() {}\n\n#[test]\nfn other() {}\n";
        all.read_proofs("tests/tests/a.rs", text);
        assert_eq!(all.tests["v5:1"].iter().next().unwrap().name, "a::it_is_so");
        assert!(all.tests.contains_key("v4:2") && all.breaches.is_empty());
        for (count, text) in [
            "/// Proves: v5:1\n\nfn x() {}\n",
            "/// Proves: v5:1\nfn x() {}\n",
            "/// Proves: v5:1\n#[test]\n#[ignore = \"slow\"]\nfn x() {}\n",
        ]
        .into_iter()
        .enumerate()
        {
            all.read_proofs("tests/tests/a.rs", text);
            assert_eq!(all.breaches.len(), count + 1, "{text}");
        }
    }

    #[test]
    fn what_did_not_run_does_not_pass() {
        let mut all = Statements::default();
        all.read_proofs("tests/tests/a.rs", "/// Proves: v5:1\n#[test]\nfn x() {}\n");
        let mut results = Results::default();
        assert_eq!(all.cells("v5:1", &results).1, "**NOT RUN**");
        assert_eq!(all.not_run(&results).len(), 1);
        results.passed.insert("a::x".to_owned());
        assert_eq!(all.cells("v5:1", &results).1, "passes");
        results.failed.insert("a::x".to_owned());
        assert_eq!(all.cells("v5:1", &results).1, "**FAILS**");
    }

    #[test]
    fn clauses_are_found_in_comments() {
        let mut all = Statements::default();
        all.read_places(
            "f",
            "a(); // MQTT-3.1.2-3, MQTT-3.1.2-4 of 3.1.1.\nlet x = \"MQTT-9.9.9-9\"; /// (MQTT-1.5.4-1)",
        );
        let found: Vec<&str> = all.places.keys().map(String::as_str).collect();
        assert_eq!(found, ["v4:3.1.2-4", "v5:1.5.4-1", "v5:3.1.2-3"]);
    }
}
