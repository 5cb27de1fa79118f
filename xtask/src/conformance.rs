//! `cargo xtask conformance`: runs the tests that prove statements and writes `docs/conformance.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::root;
use crate::statements::Statements;

/// The page, from the root.
pub(crate) const PAGE: &str = "docs/conformance.md";

pub(crate) fn run() -> Result<(), String> {
    let root = root();
    let statements = Statements::read(&root);
    let failed = hold(&root)?;
    let page = statements.page(&failed);
    std::fs::write(root.join(PAGE), page).map_err(|error| format!("{PAGE}: {error}"))?;
    if !failed.is_empty() {
        let failed: Vec<&str> = failed.iter().map(String::as_str).collect();
        return Err(format!("{PAGE} is written; these failed:\n{}", failed.join("\n")));
    }
    if !statements.breaches.is_empty() {
        return Err(format!("{PAGE} is written\n{}", statements.breaches.join("\n")));
    }
    println!("{PAGE} is written");
    Ok(())
}

/// Runs all tests and returns the names of those that failed.
fn hold(root: &Path) -> Result<BTreeSet<String>, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let report = target.join("nextest/conformance/junit.xml");
    // A report of another day must not be taken for today's.
    let _ = std::fs::remove_file(&report);
    let status = Command::new("cargo")
        .args(["nextest", "run", "--workspace", "--no-fail-fast", "--profile", "conformance"])
        .current_dir(root)
        .env("VIADUCT_INTEROP", target.join("interop"))
        .status()
        .map_err(|error| format!("cargo nextest: {error}"))?;
    let report = std::fs::read_to_string(&report)
        .map_err(|error| format!("the tests left no report ({error}); they ended with {status}"))?;
    Ok(failures(&report))
}

/// The failed tests of a report in JUnit's format, named as the statements name them.
fn failures(report: &str) -> BTreeSet<String> {
    report
        .split("<testcase ")
        .skip(1)
        .filter(|case| case.contains("<failure") || case.contains("<error"))
        .filter_map(|case| {
            let name = attribute(case, "name")?;
            // The file of a test is the last module of its name, or the target when it is a file of its own.
            let target = attribute(case, "classname")?.rsplit("::").next().unwrap_or_default();
            let mut parts = name.rsplit("::").filter(|part| *part != "tests");
            let test = parts.next()?;
            Some(format!("{}::{test}", parts.next().unwrap_or(target)))
        })
        .collect()
}

fn attribute<'a>(tag: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!("{key}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named_as_the_statements_name_tests() {
        let report = r#"<testsuite name="x">
            <testcase name="qos1::a" classname="viaduct-conformance::binary" time="1"><failure type="x">no</failure></testcase>
            <testcase name="flow::queue::tests::d" classname="viaduct-session" time="1"><failure type="x">no</failure></testcase>
            <testcase name="b" classname="viaduct-tests::tls" time="1"><failure type="x">no</failure></testcase>
            <testcase name="c" classname="viaduct-tests::tls" time="1"></testcase></testsuite>"#;
        let failed: Vec<String> = failures(report).into_iter().collect();
        assert_eq!(failed, ["qos1::a", "queue::d", "tls::b"]);
    }
}
