//! `cargo xtask conformance`: runs the tests that prove statements and writes `docs/conformance.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::root;
use crate::set_up;
use crate::statements::{Results, Statements};

/// The page, from the root.
pub(crate) const PAGE: &str = "docs/conformance.md";

pub(crate) fn run() -> Result<(), String> {
    let root = root();
    let statements = Statements::read(&root);
    let results = hold(&root)?;
    let page = statements.page(&results);
    std::fs::write(root.join(PAGE), page).map_err(|error| format!("{PAGE}: {error}"))?;
    let not_run = statements.not_run(&results);
    if !results.failed.is_empty() || !not_run.is_empty() {
        let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join("\n");
        let (failed, not_run) = (list(results.failed), list(not_run));
        return Err(format!("{PAGE} is written\nthese failed:\n{failed}\nthese did not run:\n{not_run}"));
    }
    if !statements.breaches.is_empty() {
        return Err(format!("{PAGE} is written\n{}", statements.breaches.join("\n")));
    }
    println!("{PAGE} is written");
    Ok(())
}

/// Runs all tests; how each ended.
fn hold(root: &Path) -> Result<Results, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let interop = target.join("interop");
    if let Some(missing) = set_up::run(&interop).first() {
        return Err(format!("the tests with {} can't run: {}", missing.what, missing.why));
    }
    let report = target.join("nextest/conformance/junit.xml");
    // A report of another day must not be taken for today's.
    let _ = std::fs::remove_file(&report);
    let status = Command::new("cargo")
        .args(["nextest", "run", "--workspace", "--no-fail-fast", "--profile", "conformance"])
        .current_dir(root)
        .env("VIADUCT_INTEROP", interop)
        .status()
        .map_err(|error| format!("cargo nextest: {error}"))?;
    let report = std::fs::read_to_string(&report)
        .map_err(|error| format!("the tests left no report ({error}); they ended with {status}"))?;
    Ok(results(&report))
}

/// The tests of a report in JUnit's format, named as the statements name them. Those that were skipped are not in it.
fn results(report: &str) -> Results {
    let mut results = Results::default();
    for case in report.split("<testcase ").skip(1).filter(|case| !case.contains("<skipped")) {
        let Some(name) = name_of(case) else { continue };
        let failed = case.contains("<failure") || case.contains("<error");
        if failed {
            results.failed.insert(name)
        } else {
            results.passed.insert(name)
        };
    }
    results
}

fn name_of(case: &str) -> Option<String> {
    let name = attribute(case, "name")?;
    // The file of a test is the last module of its name, or the target when it is a file of its own.
    let target = attribute(case, "classname")?.rsplit("::").next().unwrap_or_default();
    let mut parts = name.rsplit("::").filter(|part| *part != "tests");
    let test = parts.next()?;
    Some(format!("{}::{test}", parts.next().unwrap_or(target)))
}

fn attribute<'a>(tag: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!("{key}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_as_the_statements_name_them() {
        let report = r#"<testsuite name="x">
            <testcase name="qos1::a" classname="viaduct-conformance::binary" time="1"><failure type="x">no</failure></testcase>
            <testcase name="flow::queue::tests::d" classname="viaduct-session" time="1"><failure type="x">no</failure></testcase>
            <testcase name="b" classname="viaduct-tests::tls" time="1"><failure type="x">no</failure></testcase>
            <testcase name="c" classname="viaduct-tests::tls" time="1"></testcase></testsuite>"#;
        let results = results(report);
        assert_eq!(results.failed.into_iter().collect::<Vec<_>>(), ["qos1::a", "queue::d", "tls::b"]);
        assert_eq!(results.passed.into_iter().collect::<Vec<_>>(), ["tls::c"]);
    }
}
