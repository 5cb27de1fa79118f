//! The whole tool with the relays alone: frames are understood, every delivery is counted, the table has its rows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::process::Command;

/// Rows of servers whose name begins so, by the titles of their columns.
fn rows(arguments: &[&str], begin: &str) -> Vec<HashMap<String, String>> {
    let output = Command::new(env!("CARGO_BIN_EXE_viaduct-bench"))
        .args(["run", "--quick", "--rounds", "1"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("succeeded;"), "a sample failed: {text}");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut rows = Vec::new();
    let mut titles = Vec::new();
    for line in text.lines() {
        if line.starts_with("| server") {
            titles = cells(line);
        } else if line.starts_with(&format!("| {begin}")) {
            rows.push(titles.iter().cloned().zip(cells(line)).collect());
        }
    }
    rows
}

fn number(row: &HashMap<String, String>, title: &str) -> f64 {
    let cell = row.get(title).unwrap_or_else(|| panic!("no column {title}: {row:?}"));
    let median = cell.split(" [").next().unwrap().replace(',', "");
    median.parse().unwrap_or_else(|_| panic!("{title} is no number: {row:?}"))
}

#[test]
fn relays_lose_nothing_and_have_their_rows() {
    let counted = ["dense-10-10", "dense-10-10-qos1", "dense-10-10-qos2", "sparse-1-100"];
    let mut arguments = vec!["--only", "relay", "--scenario", "idle"];
    arguments.extend(counted.iter().flat_map(|name| ["--scenario", name]));
    let rows = rows(&arguments, "relay");
    // Both relays at QoS 0 dense and sparse; only the one that answers elsewhere.
    assert_eq!(rows.len(), 7, "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.contains_key("lost")).count(), 6, "{rows:?}");
    for row in &rows {
        if row.contains_key("lost") {
            assert!(number(row, "deliveries/s") > 0.0, "{row:?}");
            assert_eq!(number(row, "lost") + number(row, "doubled"), 0.0, "{row:?}");
        } else {
            assert!(number(row, "connections/s") > 0.0, "{row:?}");
        }
    }
}

#[test]
fn look_ups_find_who_hears_a_topic() {
    let rows = rows(&["--only", "Viaduct", "--scenario", "match"], "Viaduct");
    let heard: Vec<f64> = rows.iter().map(|row| number(row, "hear a topic")).collect();
    // One in twenty of the topics that are asked for is among so few subscriptions, and all sixteen of those that fork.
    assert!(matches!(heard[..], [uncached, cached, 16.0] if uncached > 0.04 && cached > 0.04), "{rows:?}");
    assert!(rows.iter().all(|row| number(row, "CPU ns per look-up") > 0.0), "{rows:?}");
}

#[test]
fn what_is_no_scenario_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_viaduct-bench")).args(["run", "--scenario", "x"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("x is no scenario; there are dense-1-1, "));
}
