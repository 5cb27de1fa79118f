//! The whole tool with the relays alone: frames are understood, every delivery is counted, the table has its rows.

use std::process::Command;

#[test]
fn relays_lose_nothing_and_have_their_rows() {
    let output = Command::new(env!("CARGO_BIN_EXE_viaduct-bench"))
        .args(["run", "--quick", "--rounds", "1", "--only", "relay", "--scenario", "dense-10-10", "--scenario", "idle"])
        .args(["--scenario", "dense-10-10-qos1", "--scenario", "dense-10-10-qos2", "--scenario", "sparse-1-100"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("succeeded;"), "a sample failed: {text}");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| relay"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    // Both relays at QoS 0 dense and sparse; only the one that answers elsewhere.
    assert_eq!(rows.len(), 7, "{text}");
    for row in &rows {
        let rate: f64 = row[3].replace(',', "").parse().unwrap();
        assert!(rate > 0.0, "{row:?}");
        let losses_and_doubles = row.get(6..8).filter(|_| row.len() > 8).unwrap_or(&[]);
        assert!(losses_and_doubles.iter().all(|count| *count == "0"), "{row:?}");
    }
}

#[test]
fn what_is_no_scenario_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_viaduct-bench")).args(["run", "--scenario", "x"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("x is no scenario; there are dense-1-1, "));
}
